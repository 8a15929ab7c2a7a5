"""Builders of ``agreement.json`` for the tests of the report: the shape of the schema, figures from simple formulas."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from report_builders import heart, short_axis_affine

from mpi_unet.cohort.nifti import write_image, write_mask
from mpi_unet.cohort.table import Cohort, write_cohort_table

LEVEL = 0.95
ESTIMATES = (
    "P0",
    "Pn",
    "delta",
    "delta_bootstrap_t",
    "ci_decision",
    "reader_interval",
    "p_noninferior",
    "p_tost",
    "attained_margin",
    "relative_margin",
    "gamma",
    "williams",
    "chalana_kim",
    "individual_equivalence",
)
OTHERS = "strict majority of the others; a tie is background"
CONCLUSION = (
    "On {n} patients the network's Dice with each of {j} experts averaged {p0:.3f}; the experts' Dice with one another "
    "averaged {pn:.3f}.",
    "Difference {delta:+.3f} (95% CI {low:+.3f} to {high:+.3f}).",
    "This concerns these {j} experts.",
    "In {k} of {n} patients the network's Dice was more than 0.10 below the experts' own (upper 95% limit 31.2%).",
)


def interval(low: float, high: float, method: str = "t over patients") -> dict[str, Any]:
    return {"low": low, "high": high, "level": LEVEL, "method": method}


def estimate(values: np.ndarray, method: str = "t over patients") -> dict[str, Any]:
    """Mean, its interval with 2 standard errors, and n."""
    mean = float(values.mean())
    half = 2 * float(values.std(ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"value": mean, "n": len(values), "interval": interval(mean - half, mean + half, method), "method": method}


def summary(values: np.ndarray) -> dict[str, Any]:
    held = estimate(values)
    low, median, high = np.percentile(values, [25, 50, 75]).tolist()
    counts = {"n": len(values), "n_undefined": 0, "n_infinite": 0}
    ends = [held["interval"]["low"], held["interval"]["high"]]
    return counts | {
        "mean": held["value"],
        "sd": float(values.std()),
        "ci95": ends,
        "ci_method": "t over patients",
        "median": median,
        "iqr": [low, high],
        "min": float(values.min()),
        "max": float(values.max()),
        "note": "",
    }


def bland_altman(a: str, b: str, x: np.ndarray, y: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    difference, mean = x - y, (x + y) / 2
    percent = 100 * difference / mean
    spread = float(difference.std(ddof=1)) if len(x) > 1 else 0.0

    def limit(values: np.ndarray, sign: int) -> dict[str, Any]:
        center = float(values.mean() + sign * 1.96 * values.std())
        width = 3.5 * float(values.std()) / np.sqrt(len(values))
        return {"value": center, "n": len(values), "interval": interval(center - width, center + width, "exact")}

    return {
        "a": a,
        "b": b,
        "n": len(x),
        "bias": estimate(difference),
        "sd": spread,
        "limits": {"low": limit(difference, -1), "high": limit(difference, 1)},
        "bias_percent": estimate(percent),
        "limits_percent": {"low": limit(percent, -1), "high": limit(percent, 1)},
        "slope": {"value": 0.03, "n": len(x), "interval": interval(-0.02, 0.08)},
        "slope_p": 0.24,
        "tost": {"margin_pct": 5.0, "p": 0.003, "interval": interval(-2.0, 1.0), "inside": True},
        "ccc": {"value": 0.97, "n": len(x), "interval": interval(0.95, 0.98, "Fisher z")},
        "points": [
            {"patient_id": patient, "mean": float(m), "difference": float(d)}
            for patient, m, d in zip(patients, mean, difference, strict=True)
        ],
    }


def agreement_document(
    patients: int | Sequence[str] = 40,
    readers: Sequence[str] = ("A", "B", "C"),
    *,
    network: bool = True,
    margin: float | None = 0.02,
    volumes: bool = True,
    simulated: bool = False,
    domain: str = "short_axis",
    shift: float = -0.01,
    seed: int = 1,
) -> dict[str, Any]:
    """One comparison: random scores of the size that readers have; every table has something in it."""
    names = [f"P{index:03d}" for index in range(patients)] if isinstance(patients, int) else list(patients)
    draw = np.random.default_rng(seed)
    count, panel = len(names), list(readers)
    hard = 0.03 * np.abs(draw.standard_normal(count))
    pairs = {
        (a, b): np.clip(0.93 - hard + 0.012 * draw.standard_normal(count), 0, 1)
        for a, b in itertools.combinations(panel, 2)
    }
    with_network = {name: np.clip(0.93 + shift - hard + 0.02 * draw.standard_normal(count), 0, 1) for name in panel}
    if count > 3:
        for values in with_network.values():
            values[3] -= 0.25
    pn = np.mean(list(pairs.values()), axis=0) if pairs else None
    p0 = np.mean(list(with_network.values()), axis=0) if network else None
    several, compares = len(panel) > 1, network and len(panel) > 1
    rows = [
        {
            "patient_id": name,
            "p0": float(p0[index]) if p0 is not None else None,
            "pn": float(pn[index]) if pn is not None else None,
            "d": float(p0[index] - pn[index]) if p0 is not None and pn is not None else None,
        }
        for index, name in enumerate(names)
    ]
    failed = [row for row in rows if row["d"] is not None and row["d"] < -0.1]
    block = _block(p0, pn, panel, with_network, pairs, rows, margin if compares else None)
    by_pair = [("network", name, values) for name, values in with_network.items()] if network else []
    by_pair += [(a, b, values) for (a, b), values in pairs.items()]
    scores = {}
    for name, label, unit, change in (
        ("dice", "Dice (LV)", "", lambda v: v),
        ("iou", "IoU (LV)", "", lambda v: v / (2 - v)),
        ("nsd", "Surface Dice (NSD)", "", lambda v: np.sqrt(v)),
        ("hd95_mm", "HD95", "mm", lambda v: 80 * (1 - v)),
    ):
        scores[name] = {
            "label": label,
            "unit": unit,
            "better": "down" if unit else "up",
            "role": "primary",
            "definition": f"definition of {label}",
            "by_pair": [{"a": a, "b": b, "summary": summary(change(values))} for a, b, values in by_pair],
        }
    size = 100 + 30 * draw.standard_normal(count)
    volume = {name: size + index + 4 * draw.standard_normal(count) for index, name in enumerate(panel)}
    measured = [] if not volumes else _volume_pairs(volume, size, draw, names, network)
    k, delta = len(failed), block["delta"]
    numbers = {"n": count, "j": len(panel), "k": k}
    numbers |= {"p0": 0.0 if p0 is None else float(p0.mean()), "pn": 0.0 if pn is None else float(pn.mean())}
    ends = delta["interval"] if delta else {"low": 0.0, "high": 0.0}
    numbers |= {"delta": delta["value"] if delta else 0.0, "low": ends["low"], "high": ends["high"]}
    sentences = [sentence.format(**numbers) for sentence in CONCLUSION] if compares else ["No verdict is given."]
    return {
        "schema_version": "1.0.0",
        "created": "2026-01-02T03:04:05+00:00",
        "software": {"mpi_unet": "0.1.0", "numpy": "2.1.0", "scipy": "1.17.1", "statsmodels": "0.15.0"},
        "mode": "predictions" if network else "readers_only",
        "cohort": {
            "name": "shells",
            "domain": domain,
            "label": "lv_wall",
            "simulated_readers": simulated,
            "licence": "CC0-1.0",
            "source": "ellipsoidal shells of a test",
            "n_patients": count + 1,
            "n_cases": count + 1,
            "left_out": [{"case_id": "P999-rest", "reason": "no outline of reader B"}],
        },
        "design": {
            "unit": "patient",
            "n_patients": count,
            "n_cases": count,
            "n_frames": 14 * count,
            "readers": panel,
            "n_readers": len(panel),
            "readers_left_out": [],
            "reader_facts": {panel[0]: {"role": "physician", "years": 7, "tool": "house software", "blinded": True}},
            "repeat_reads": {f"{panel[0]}2": panel[0]},
            "network": "unet" if network else None,
            "network_how": "masks from a folder" if network else "",
            "network_trained_on": [],
            "consensus_members": [],
            "blinded": None,
            "reference": "pairwise",
            "margin": margin if compares else None,
            "margin_source": "a third of the disagreement of readers" if margin else None,
            "margin_registered_at": "2026-01-01" if margin else None,
            "alpha_one_sided": 0.025,
            "min_patients": 30,
            "tolerance_mm": 3.2,
            "tolerance_source": "half a voxel",
            "spacing_known": volumes,
            "aggregation": "mean over the cases of a patient; mean over patients",
        },
        "scores": scores,
        "agreement": {"dice": block, "nsd": block | {"p_tost": None, "p_noninferior": None, "relative_margin": None}},
        "primary": "dice",
        "volume": {
            "unit": "ml",
            "measurement": "volume",
            "available": volumes,
            "why_not": "" if volumes else "Volumes are left out: a projection has no depth.",
            "readers": {name: summary(values) for name, values in volume.items()} if volumes else {},
            "pairs": measured,
            "icc": _icc(count, network) if volumes and several else {"readers": None, "with_network": None},
            "sem_ml": {"value": 4.1, "n": count, "interval": interval(3.6, 4.8)} if volumes and several else None,
        },
        "repeatability": _repeats(panel, volume, names, draw) if volumes else [],
        "consensus": _consensus(panel, p0) if several and len(panel) > 2 else None,
        "failures": {
            "kind": "below_readers" if compares else "below_threshold",
            "definition": "p0 < pn - 0.10" if compares else "p0 < 0.70",
            "threshold": 0.1 if compares else 0.7,
            "k": k,
            "n": count,
            "upper95": 0.312,
            "patients": [
                {key: row[key] for key in ("patient_id", "p0", "pn")} | {"case_id": f"{row['patient_id']}-stress"}
                for row in failed
            ],
        },
        "subgroups": _subgroups(delta, count) if compares else [],
        "sensitivity": [{"what": "bootstrap-t", "delta": delta, "note": "as the check"}] if compares else [],
        "appendix": {"two_sided_p": {"t": 0.22, "wilcoxon": 0.3, "sign_flip": None}, "note": "Enters no conclusion."},
        "categories": None,
        "recipes": None,
        "claim": [
            {"item": 18, "topic": "Variability of readers", "status": "answered", "answer": "pairwise, see the tables"},
            {"item": 22, "topic": "Model", "status": "open", "answer": ""},
            {"item": 33, "topic": "External test", "status": "not_applicable", "answer": "one cohort"},
        ],
        "conclusion": {
            "text": " ".join(sentences),
            "sentences": sentences,
            "flags": ["few_readers"],
            "verdict": "inconclusive",
            "rules_version": 1,
        },
        "seeds": {"bootstrap": 20260101, "resamples": 10000},
    }


def write_agreement(folder: Path, document: dict[str, Any]) -> Path:
    """``<folder>/agreement.json``; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agreement.json").write_text(json.dumps(document, allow_nan=False))
    return folder


def make_readers_cohort(
    root: Path,
    num_patients: int = 6,
    readers: Sequence[str] = ("A", "B", "C"),
    domain: str = "short_axis",
    **metadata: Any,
) -> Cohort:
    """A cohort whose readers draw the same wall a little thicker or thinner, and a folder of a network's masks."""
    affine, rows = short_axis_affine(), []
    is_volume = domain != "projection"
    for patient in range(num_patients):
        case_id = f"P{patient:03d}-stress"
        target = heart(patient)
        draw = np.random.default_rng([7, patient])
        image = draw.poisson(12 + 70 * target).astype(np.float32)
        for axis in range(3):
            image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
        write_image(root / "images" / f"{case_id}.nii.gz", image, affine, is_distance_z=is_volume)
        for index, name in enumerate(readers):
            mask = heart(patient, target.shape, growth=0.7 * (index - 1) + draw.uniform(-0.2, 0.2))
            write_mask(root / "labels" / name / f"{case_id}.nii.gz", mask, affine, is_distance_z=is_volume)
        preds = np.roll(heart(patient, target.shape, growth=draw.uniform(-0.5, 0.8)), patient % 3 == 0, axis=2)
        if patient == 3:
            preds[:9] = False
        write_mask(root / "predictions" / f"{case_id}.nii.gz", preds, affine, is_distance_z=is_volume)
        rows.append(
            {
                "case_id": case_id,
                "patient_id": f"P{patient:03d}",
                "acquisition": "stress",
                "gate": "",
                "camera": "",
                "image": f"images/{case_id}.nii.gz",
                **{f"label_{name}": f"labels/{name}/{case_id}.nii.gz" for name in readers},
            }
        )
    content = {
        "name": "shells",
        "domain": domain,
        "label": "lv_wall",
        "readers": list(readers),
        "simulated_readers": False,
        "source": "ellipsoidal shells of a test",
        "licence": "CC0-1.0",
        "intensities": "counts",
        "spacing_known": True,
    }
    write_cohort_table(root, metadata=content | metadata, rows=rows)
    return Cohort.open(root)


# --- Parts ---


def _block(
    p0: np.ndarray | None,
    pn: np.ndarray | None,
    panel: list[str],
    with_network: dict[str, np.ndarray],
    pairs: dict[tuple[str, str], np.ndarray],
    rows: list[dict[str, Any]],
    margin: float | None,
) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(ESTIMATES)
    block = nothing | {"leave_one_out": [], "per_patient": rows, "n_left_out": 0, "verdict": "not_assessable"}
    if p0 is not None:
        block["P0"] = estimate(p0)
    if pn is not None:
        block["Pn"] = estimate(pn)
    if p0 is not None and pn is not None:
        delta = estimate(p0 - pn)
        low, high = delta["interval"]["low"], delta["interval"]["high"]
        block |= {
            "delta": delta,
            "delta_bootstrap_t": delta | {"interval": interval(low - 0.01, high, "bootstrap-t over patients")},
            "ci_decision": delta["interval"],
            "reader_interval": interval(low - 0.03, high + 0.03) if len(panel) > 2 else None,
            "attained_margin": max(abs(low), abs(high)),
            "gamma": estimate(pn - p0),
            "williams": {"value": float(p0.mean() / pn.mean()), "n": len(rows), "interval": interval(0.98, 1.0)},
            "chalana_kim": {"value": 0.82, "n": len(rows), "interval": interval(0.7, 0.95)},
        }
        if margin is not None:
            block |= {"p_noninferior": 0.006, "p_tost": 0.00002, "relative_margin": margin / (1 - float(pn.mean()))}
    if len(panel) > 2:
        for name in panel:
            mine = np.mean([values for pair, values in pairs.items() if name in pair], axis=0)
            others = [with_network[other] for other in panel if other != name]
            rest = [values for pair, values in pairs.items() if name not in pair]
            instead = np.mean(others if p0 is not None else rest, axis=0)
            sign = 1 if p0 is not None else -1
            block["leave_one_out"].append({"reader": name, "delta": estimate(sign * (instead - mine))})
    return block


def _volume_pairs(
    volume: dict[str, np.ndarray], size: np.ndarray, draw: np.random.Generator, names: list[str], network: bool
) -> list[dict[str, Any]]:
    pairs = []
    if network:
        mine = size - 2 + 5 * draw.standard_normal(len(size))
        mean = np.mean(list(volume.values()), axis=0)
        pairs.append(bland_altman("network", "mean of readers", mine, mean, names))
        pairs += [bland_altman("network", name, mine, values, names) for name, values in volume.items()]
    return pairs + [bland_altman(a, b, volume[a], volume[b], names) for a, b in itertools.combinations(volume, 2)]


def _icc(count: int, network: bool) -> dict[str, Any]:
    kinds = {
        name: {"value": value, "n": count, "interval": interval(value - 0.03, 0.999, "F, McGraw and Wong")}
        for name, value in (("ICC(1,1)", 0.95), ("ICC(A,1)", 0.955), ("ICC(C,1)", 0.96), ("ICC(A,k)", 0.985))
    }
    return {"readers": kinds, "with_network": kinds if network else None}


def _repeats(
    panel: list[str], volume: dict[str, np.ndarray], names: list[str], draw: np.random.Generator
) -> list[dict[str, Any]]:
    again = volume[panel[0]] + 2 * draw.standard_normal(len(names))
    return [
        {
            "reader": panel[0],
            "repeat": f"{panel[0]}2",
            "n": len(names),
            "dice": summary(np.linspace(0.9, 0.96, len(names))),
            "assd_mm": summary(np.linspace(0.4, 1.1, len(names))),
            "surface_mm": 0.82,
            "psi": {"value": 0.71, "n": len(names), "interval": interval(0.6, 0.83)},
            "volume": bland_altman(f"{panel[0]}2", panel[0], again, volume[panel[0]], names),
        }
    ]


def _consensus(panel: list[str], p0: np.ndarray | None) -> dict[str, Any]:
    others = [{"reader": name, "rule": OTHERS, "dice": summary(np.array([0.9, 0.93]))} for name in panel]
    return {
        "majority": {"rule": "strict majority", "tie_rule": "a tie is background", "n": len(panel)},
        "staple": {
            "per_reader": [{"reader": name, "sensitivity": 0.93, "specificity": 0.999} for name in panel],
            "n_cases": 6,
            "warnings": ["figures of STAPLE describe the readers relative to its own estimate"],
        },
        "network_against": [] if p0 is None else [{"reference": "majority", "dice": summary(p0)}],
        "readers_against_others": others,
    }


def _subgroups(delta: dict[str, Any], count: int) -> list[dict[str, Any]]:
    row = {"column": "sex", "n": count // 2, "delta": delta, "p": 0.4, "p_holm": 0.8}
    return [row | {"value": value} for value in ("F", "M")]
