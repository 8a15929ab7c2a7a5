"""The tables and facts of the page, ready for its template: rows of text, no layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpi_unet.cohort.table import Cohort
from mpi_unet.evaluation.metrics import METRICS
from mpi_unet.report.record import RunRecord
from mpi_unet.report.wording import (
    DOMAIN_WORDS,
    EXPLANATIONS,
    LABEL_WORDS,
    LV_GROUPS,
    SEED_METRICS,
    as_float,
    count,
    interval,
    metric_cells,
    number,
    reader_words,
    split_words,
)

BASELINE_METRICS = ("dice", "iou", "precision", "recall", "macro_dice", "macro_iou", "accuracy")
FOLD_METRICS = ("dice", "iou", "precision", "recall", "macro_dice", "accuracy")
VERSION_KEYS = ("mpi_unet", "python", "torch", "monai", "pytorch_lightning", "torchmetrics", "numpy", "scipy")
SHORT_DIGEST = 12
"""So many characters of a fingerprint are enough to tell two cohorts apart by eye."""


def result_groups(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results table: groups of rows, LV first, the seed study's definition last; empty groups are left out."""
    metrics, tolerance = summary.get("metrics") or {}, (summary.get("design") or {}).get("tolerance_mm")
    known = {name for _, names in LV_GROUPS for name in names} | set(SEED_METRICS)
    others = tuple(name for name in metrics if name not in known)
    groups = [*LV_GROUPS, ("Further scores", others)]
    tables = [{"title": title, "rows": _rows(metrics, names, tolerance), "is_seed": False} for title, names in groups]
    seed_rows = _rows(metrics, SEED_METRICS, tolerance)
    tables.append(
        {"title": "The seed study's definition: the background counts too", "rows": seed_rows, "is_seed": True}
    )
    return [table for table in tables if table["rows"]]


def absent_metrics(summary: Mapping[str, Any]) -> list[str]:
    """Say which expected scores the summary does not hold, and why where that is known."""
    metrics, design = summary.get("metrics") or {}, summary.get("design") or {}
    absent = [name for _, names in LV_GROUPS for name in names if name not in metrics]
    absent += [name for name in SEED_METRICS if name not in metrics]
    sentences = []
    volumes = [name for name in absent if name.startswith(("volume_", "false_positive_"))]
    if volumes and design.get("domain") == "projection":
        sentences.append("Volumes are left out: a projection has no depth.")
        absent = [name for name in absent if name not in volumes]
    distances = [name for name in absent if name.endswith(("_mm", "_ml")) or name == "nsd"]
    if distances and design.get("unit") == "image":
        sentences.append("Distances and volumes are left out: scattered frames have no surface and no volume.")
        absent = [name for name in absent if name not in distances and name not in volumes]
        distances = []
    if distances and not design.get("spacing_mm"):
        sentences.append("Distances in mm and volumes in ml are left out: the size of a pixel is not known.")
        absent = [name for name in absent if name not in distances]
    if absent:
        words = ", ".join(f"{METRICS[name].label}{_unit({'unit': METRICS[name].unit})}" for name in absent)
        sentences.append(f"Not computed in this run: {words}.")
    return sentences


def empty_mask_accuracy(summary: Mapping[str, Any]) -> dict[str, str] | None:
    """Accuracy of marking nothing at all, or None when the baseline is not there."""
    baseline = (summary.get("baselines") or {}).get("all_background") or {}
    metric = (baseline.get("metrics") or {}).get("accuracy")
    return metric_cells(metric) if metric else None


def baseline_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The network and the trivial rules side by side; ``rows`` is empty without baselines."""
    metrics, baselines = summary.get("metrics") or {}, summary.get("baselines") or {}
    columns = [name for name in BASELINE_METRICS if name in metrics]
    contenders = [("This network", metrics)]
    contenders += [(item.get("label") or name, item.get("metrics") or {}) for name, item in baselines.items()]
    rows = [
        {"label": label, "cells": [metric_cells(scores.get(name) or {}) for name in columns]}
        for label, scores in contenders
    ]
    return {"columns": [_label(metrics, name) for name in columns], "rows": rows if baselines else []}


def best_baseline(summary: Mapping[str, Any], metric: str) -> tuple[str, float] | None:
    """Label and mean of the trivial rule with the highest mean."""
    found = []
    for name, baseline in (summary.get("baselines") or {}).items():
        mean = ((baseline.get("metrics") or {}).get(metric) or {}).get("mean")
        if isinstance(mean, int | float):
            found.append((float(mean), str(baseline.get("label") or name)))
    return max(found)[::-1] if found else None


def fold_rows(record: RunRecord) -> dict[str, Any]:
    """One row a fold."""
    metrics = record.summary.get("metrics") or {}
    folds = record.summary["folds"]
    columns = [name for name in FOLD_METRICS if any(name in fold for fold in folds)]
    rows = []
    for fold in folds:
        seconds = fold.get("seconds")
        rows.append(
            {
                "fold": str(fold.get("fold")),
                **{side: count(_side(fold, side)) for side in ("train", "val", "test")},
                "best": _best_epoch_words(fold),
                "val_dice": number(fold.get("best_val_dice")),
                "time": "not stated" if seconds is None else duration(float(seconds)),
                "cells": [number(fold.get(name)) for name in columns],
            }
        )
    unit = "Images" if record.design.get("unit") == "image" else "Patients"
    return {"columns": [_label(metrics, name) for name in columns], "rows": rows, "unit": unit}


def duration(seconds: float | int) -> str:
    """Write a duration.

    Example:
        >>> duration(42.4), duration(754), duration(7300)
        ('42 s', '12 min 34 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def key_numbers(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The three numbers of the first screen."""
    metrics = summary.get("metrics") or {}
    dice, distance, iou = metrics.get("dice") or {}, metrics.get("hd95_mm"), metrics.get("iou") or {}
    patients = count(dice.get("n"))
    cards = [
        {
            "value": number(dice.get("mean")),
            "label": "mean Dice, left ventricle",
            "detail": f"95 % CI {interval(dice.get('ci95'))}, {patients} patients",
        },
        {
            "value": number(dice.get("min")),
            "label": "lowest Dice of any patient",
            "detail": f"median {number(dice.get('median'))}, middle half {interval(dice.get('iqr'))}",
        },
    ]
    if distance:
        median = number(distance.get("median"), "mm")
        cards.append(
            {
                "value": f"{median} mm" if median[0].isdigit() else median,
                "label": "typical distance of the outlines (HD95)",
                "detail": f"median over patients; 95 % of it is closer; {count(distance.get('n_infinite'))} infinite",
            }
        )
    else:
        cards.append(
            {
                "value": number(iou.get("mean")),
                "label": "mean IoU, left ventricle",
                "detail": f"95 % CI {interval(iou.get('ci95'))}; shared area over joint area",
            }
        )
    return cards


def run_facts(record: RunRecord, cohort: Cohort) -> list[tuple[str, str]]:
    """What was run, as pairs of term and description; what is not known is said to be."""
    design, environment = record.design, record.environment
    versions = [f"{key} {environment[key]}" for key in VERSION_KEYS if environment.get(key)]
    facts = [
        ("Cohort", f"{cohort.name}; {cohort.metadata.get('source') or 'source not stated'}"),
        ("Licence", str(cohort.metadata.get("licence") or "")),
        ("Images", DOMAIN_WORDS.get(cohort.domain, cohort.domain)),
        ("Pixel", _pixel_words(design, cohort)),
        ("Intensities", str(cohort.metadata.get("intensities") or "")),
        ("Outline", f"{LABEL_WORDS.get(cohort.label, cohort.label)}, by {reader_words(design)}"),
        ("Scored", _size_words(design)),
        ("Division", split_words(design)),
        ("How it was drawn", str(record.splits.get("note") or design.get("split_note") or "")),
        ("Stratified by", ", ".join(map(str, record.splits.get("stratify_by") or [])) or "nothing"),
        ("Cohort fingerprint", _short(record.splits.get("fingerprint") or environment.get("cohort_fingerprint"))),
        ("Network", _network_words(design)),
        ("Loss", str(design.get("loss") or "")),
        ("Seed", str(environment.get("seed", record.splits.get("seed", "")))),
        ("Averaging", str(design.get("aggregation") or "")),
        ("Device", str(environment.get("device") or "")),
        ("Platform", str(environment.get("platform") or "")),
        ("Versions", ", ".join(versions)),
        ("Revision of the code", str(environment.get("git_revision") or "")),
        ("Started, finished", f"{environment.get('started') or 'unknown'}, {environment.get('finished') or 'unknown'}"),
        ("Summary written", str(record.summary.get("created") or "")),
    ]
    return [(term, text or "not stated") for term, text in facts]


def _size_words(design: Mapping[str, Any]) -> str:
    whole = design.get("cohort_patients")
    of_all = f" of {whole} in the cohort" if whole is not None and whole != design.get("n_patients") else ""
    cases, frames = count(design.get("n_cases")), count(design.get("n_frames"))
    return f"{count(design.get('n_patients'))} patients{of_all}, {cases} cases, {frames} frames"


def _network_words(design: Mapping[str, Any]) -> str:
    parameters = design.get("parameters")
    return str(design.get("model") or "not stated") + (f", {parameters:,} parameters" if parameters else "")


def _pixel_words(design: Mapping[str, Any], cohort: Cohort) -> str:
    spacing = design.get("spacing_mm")
    if not spacing:
        return "size differs between cases" if cohort.spacing_known else "size not known"
    if cohort.domain == "projection":
        return " x ".join(number(step, "mm") for step in spacing[1:]) + " mm (y, x)"
    return " x ".join(number(step, "mm") for step in spacing) + " mm (z, y, x)"


def split_rows(record: RunRecord) -> list[dict[str, str]]:
    """How many units each side of each fold holds, from ``splits.json``."""
    return [
        {"fold": str(index)} | {side: str(len(fold.get(side) or [])) for side in ("train", "val", "test")}
        for index, fold in enumerate(record.splits.get("folds") or [])
    ]


def as_published(summary: Mapping[str, Any]) -> dict[str, str] | None:
    """What the published way of scoring (augmented validation images, by batch) says; None where not asked for."""
    claims = summary.get("as_published")
    return {name: number(claims.get(name)) for name in SEED_METRICS} if claims else None


def exceeds_one(summary: Mapping[str, Any]) -> bool:
    """Whether the interval of a share (no unit) reaches beyond 0 or 1, which a reader will wonder about."""
    bounds = [
        bound
        for metric in (summary.get("metrics") or {}).values()
        if not metric.get("unit") and isinstance(metric.get("ci95"), list)
        for bound in metric["ci95"]
    ]
    return any(as_float(bound) > 1 or as_float(bound) < 0 for bound in bounds)


def definitions(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The exact definition of each metric, as the summary states it."""
    metrics = summary.get("metrics") or {}
    return [
        (f"{_label(metrics, name)}{_unit(metric)}", str(metric["definition"]))
        for name, metric in metrics.items()
        if metric.get("definition")
    ]


def _rows(metrics: Mapping[str, Any], names: Sequence[str], tolerance_mm: float | None) -> list[dict[str, Any]]:
    explanations = dict(EXPLANATIONS)
    if tolerance_mm is not None:
        explanations["nsd"] = f"share of both outlines lying within {number(tolerance_mm, 'mm')} mm of each other"
    return [
        {
            "name": name,
            "label": _label(metrics, name),
            "explanation": explanations.get(name, ""),
            "cells": metric_cells(metrics[name]),
            "note": str(metrics[name].get("note") or ""),
        }
        for name in names
        if name in metrics
    ]


def _label(metrics: Mapping[str, Any], name: str) -> str:
    known = METRICS[name].label if name in METRICS else name
    return str((metrics.get(name) or {}).get("label") or known)


def _best_epoch_words(fold: Mapping[str, Any]) -> str:
    """Epochs count from 0 in the files and from 1 for people."""
    best = fold.get("best_epoch")
    return "not stated" if best is None else f"{int(best) + 1} of {count(fold.get('epochs'))}"


def _side(fold: Mapping[str, Any], side: str) -> Any:
    """How many patients, or images where these were divided, a fold has on one side."""
    return fold.get(f"num_{side}_patients", fold.get(f"num_{side}_images"))


def _unit(metric: Mapping[str, Any]) -> str:
    return f" ({metric['unit']})" if metric.get("unit") else ""


def _short(digest: Any) -> str:
    return str(digest)[:SHORT_DIGEST] if digest else ""
