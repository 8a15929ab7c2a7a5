"""What outlines of a network make of volumes, ejection fraction, mass, axis and defects: tables of docs/cardiac.md.

python docs/figures/cardiac_network.py <folder> [patients]            everything, about half an hour of one core
python docs/figures/cardiac_network.py <folder> [patients] report     the tables of what is there already

Phantom patients are simulated, two networks trained on others (one on gates, one on summed images), all others
segmented, normal databases built, all by the public doors; then the tables of `predict` are held against the phantom's
exact figures, and the same measurements on true masks against them too. Every step is kept in the folder: the same
command goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mpi_unet.agreement import bland_altman
from mpi_unet.cardiac.volumes import MYOCARDIUM_G_PER_ML
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CardiacError
from mpi_unet.inference.cycle import GateFacts, measure_cycle
from mpi_unet.inference.hearts import heart_file, read_heart
from mpi_unet.inference.measures import measure_heart
from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.patient import sample_patient

PROTOCOL = "phantom, parallel hole, osem, butterworth"
NUM_PATIENTS, PATIENT_SEED = 60, 5301
COHORTS = {
    "training_gated": ("gated=true", "num_patients=60", "seed=5101"),
    "training_ungated": ("num_patients=80", "seed=5201"),
    "normals_ungated": ("num_patients=100", "seed=5401"),
}
TRAINING = {
    "gated": ("split.num_folds=3", "split.fold=0", "trainer.max_epochs=4"),
    "ungated": ("split=holdout", "split.train=0.8", "split.val=0.1", "split.test=0.1", "trainer.max_epochs=12"),
}
"""One network each: 32 patients of 8 gates, and 64 patients."""

SHARE_PCT = 33.0
"""Of a segment's area that must be defect for the segment to count as defect, true and measured alike."""

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])

Rows = list[dict[str, str]]


def door(name: str, *words: str) -> None:
    """One of the public commands, in a process of its own."""
    subprocess.run([sys.executable, "-W", "ignore", "-m", f"mpi_unet.{name}", *words], check=True, stdout=sys.stderr)


def prepared(folder: Path, num_patients: int) -> None:
    """Simulate, train, segment and build the normals: each step once."""
    patients = {
        "patients_gated": ("gated=true", f"num_patients={num_patients}", f"seed={PATIENT_SEED}"),
        "patients_ungated": (f"num_patients={num_patients}", f"seed={PATIENT_SEED}"),
    }
    for name, words in (COHORTS | patients).items():
        keys = ("domain=short_axis", "readers=[truth]", *words)
        door("prepare", "source=phantom", f"output={folder / name}", *(f"source.{key}" for key in keys))
    for kind, words in TRAINING.items():
        door(
            *("train", "experiment=kfold_dice_cross_entropy", *words, "seed=1", "trainer=cpu"),
            *("~trainer.callbacks.early_stopping", f"name={kind}", f"runs_dir={folder / 'runs'}"),
            *("data=cohort", f"data.root={folder / f'training_{kind}'}", "data.reader=truth"),
        )
    out = {name: folder / f"predicted_{name}" for name in ("normals_ungated", "patients_ungated", "patients_gated")}
    common = ("accept_incomplete=true", "device=cpu", "pages=false")
    run = f"run={folder / 'runs' / 'ungated'}"
    door("predict", run, f"input={folder / 'normals_ungated'}", f"output={out['normals_ungated']}", *common)
    door(
        *("prepare", f"normals={folder / 'normals_ungated'}", f"predictions={out['normals_ungated']}"),
        *("only={defect: 'no'}", f'protocol="{PROTOCOL}"', f"output={folder / 'normals'}"),
    )
    door(
        *("predict", run, f"input={folder / 'patients_ungated'}", f"output={out['patients_ungated']}", *common),
        *(f"normals={folder / 'normals'}", f'protocol="{PROTOCOL}"'),
    )
    run = f"run={folder / 'runs' / 'gated'}"
    door("predict", run, f"input={folder / 'patients_gated'}", f"output={out['patients_gated']}", *common)


def rows_of(path: Path) -> Rows:
    """A CSV table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    """A cell."""
    return float(text) if text else None


def exact_figures(folder: Path) -> dict[str, dict[str, float]]:
    """By patient what is exact: of the patient, and the same curve rule through the exact volumes of the gates."""
    patients: dict[str, Rows] = {}
    for row in rows_of(folder / "patients_gated" / "truth.csv"):
        patients.setdefault(row["patient_id"], []).append(row)
    exact = {}
    for name, rows in patients.items():
        gates = {int(row["gate"]): row for row in rows}
        curve = measure_cycle({gate: GateFacts(float(row["cavity_ml"])) for gate, row in gates.items()})
        heart = Heart(sample_patient(PATIENT_SEED, int(name[1:])))
        chord = heart.axes[2] + heart.axes[0] * heart.shape.bend_mm / heart.length_mm
        exact[name] = {
            "EDV": float(rows[0]["end_diastolic_ml"]),
            "ESV": float(rows[0]["end_systolic_ml"]),
            "EF": float(rows[0]["ejection_fraction_pct"]),
            "EDV of the gates": curve.end_diastolic_ml or np.nan,
            "ESV of the gates": curve.end_systolic_ml or np.nan,
            "EF of the gates": curve.ejection_fraction_pct or np.nan,
            "mass": float(gates[1]["wall_ml"]) * MYOCARDIUM_G_PER_ML,
            **{f"axis {axis}": float(part) for axis, part in zip("xyz", chord / np.linalg.norm(chord), strict=True)},
        }
    return exact


def kept(path: Path, make: Callable[[], dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    """What a step made, from its file when it is there."""
    if not path.is_file():
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def of_network(folder: Path) -> dict[str, dict[str, float | None]]:
    """By patient what `predict` wrote about the gated study."""
    output = folder / "predicted_patients_gated"
    figures: dict[str, dict[str, float | None]] = {}
    for row in rows_of(output / "measurements.csv"):
        if row["gate"] == "cycle" and not row["why_not"]:
            figures[row["patient_id"]] = {
                "EDV": number(row["end_diastolic_ml"]),
                "ESV": number(row["end_systolic_ml"]),
                "EF": number(row["ejection_fraction_pct"]),
                "mass": number(row["cycle_mass_g"]),
                "EF as outlined": number(row["outlined_ejection_fraction_pct"]),
            }
    for case in Cohort.open(folder / "patients_gated").cases:
        path = heart_file(output, case.case_id)
        if case.gate == "1" and path.is_file() and case.patient_id in figures:
            figures[case.patient_id] |= _axis(read_heart(path).axes.long_axis)
    return figures


def of_true_masks(folder: Path) -> dict[str, dict[str, float | None]]:
    """By patient the same measurements on true masks; kept patient by patient."""
    cohort = Cohort.open(folder / "patients_gated")
    parts = folder / "true_masks"
    parts.mkdir(exist_ok=True)
    figures = {}
    for patient in cohort.patients:
        cases = [case for case in cohort.cases if case.patient_id == patient]

        def measured(cases: Sequence = cases) -> dict[str, dict[str, float | None]]:
            gates, axis = {}, {}
            for case in cases:
                volume = case.read_image()
                measures, heart = measure_heart(
                    *(case.read_mask("truth"), volume.array, volume.affine, volume.spacing_mm),
                    domain="short_axis",
                    label="lv_wall",
                    with_surfaces=True,
                )
                gates[int(case.gate)] = GateFacts(
                    cavity_ml=measures.cavity_ml,
                    mass_g=measures.mass_g,
                    segment_thickness_mm=measures.segment_thickness_mm,
                )
                if case.gate == "1" and heart is not None:
                    axis = _axis(heart.axes.long_axis)
            cycle = measure_cycle(gates)
            found = {
                "EDV": cycle.end_diastolic_ml,
                "ESV": cycle.end_systolic_ml,
                "EF": cycle.ejection_fraction_pct,
                "mass": cycle.end_diastolic_mass_g,
            }
            return {"figures": found | axis}

        figures[patient] = kept(parts / f"{patient}.json", measured)["figures"]
    return figures


def _axis(long_axis: Sequence[float]) -> dict[str, float | None]:
    along = LPS_FROM_RAS @ np.array(long_axis)
    return {f"axis {axis}": float(value) for axis, value in zip("xyz", along, strict=True)}


def agreement_rows(
    found: Mapping[str, Mapping[str, float | None]], exact: Mapping[str, Mapping[str, float]]
) -> Iterator[str]:
    """Bias and limits of agreement of each figure, and the share within the aim."""
    for name, reference, unit, aim in (
        ("EDV", "EDV", "ml", None),
        ("ESV", "ESV", "ml", None),
        ("EF", "EF", "points", 2.0),
        ("EDV", "EDV of the gates", "%", 3.0),
        ("ESV", "ESV of the gates", "%", 3.0),
        ("EF", "EF of the gates", "points", 2.0),
        ("EF as outlined", "EF of the gates", "points", 2.0),
        ("mass", "mass", "g", None),
        ("mass", "mass", "%", None),
    ):
        pairs = [
            (value, exact[patient][reference])
            for patient, figures in found.items()
            if (value := figures.get(name)) is not None
        ]
        if not pairs:
            continue  # true masks are measured as outlined
        if len(pairs) < 3:
            yield f"| {reference}, {unit} | {len(pairs)} of {len(exact)} | | | |"
            continue
        title = reference if name in reference else f"{name}, against that"
        ours, true = np.array(pairs).T
        if unit == "%":
            ours, true = 100 * ours / true, np.full(len(true), 100.0)
        limits = bland_altman(ours, true)
        share = "" if aim is None else f"{100 * (np.abs(ours - true) <= aim).mean():.0f} % within {aim:g}"
        yield (
            f"| {title}, {unit} | {len(pairs)} of {len(exact)} | {limits.estimate:+.1f} "
            f"({limits.interval.low:+.1f} to {limits.interval.high:+.1f}) | "
            f"{limits.lower.value:+.1f} to {limits.upper.value:+.1f} | {share} |"
        )
    angles = []
    for patient, figures in found.items():
        along = [figures.get(f"axis {axis}") for axis in "xyz"]
        if None not in along:
            cosine = np.dot(along, [exact[patient][f"axis {axis}"] for axis in "xyz"])
            angles.append(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
    if angles:
        within = 100 * (np.array(angles) <= 3).mean()
        yield (
            f"| long axis at end diastole, degrees | {len(angles)} of {len(exact)} | mean {np.mean(angles):.1f} | "
            f"largest {np.max(angles):.1f} | {within:.0f} % within 3 |"
        )


def defect_rows(folder: Path) -> Iterator[str]:
    """Extent of the defects, and which segments have one."""
    truth = {row["case_id"]: row for row in rows_of(folder / "patients_ungated" / "truth.csv")}
    errors, healthy, counts, missing = [], [], np.zeros((2, 2), int), 0
    why: dict[str, int] = {}
    for row in rows_of(folder / "predicted_patients_ungated" / "measurements.csv"):
        true = truth[row["study_id"]]
        if not row["defect_extent_pct"]:
            reason = row["why_no_normals"] or row["why_no_uptake"] or row["why_not"]
            why[reason] = why.get(reason, 0) + 1
            continue
        errors.append(float(row["defect_extent_pct"]) - float(true["defect_pct"]))
        if float(true["defect_pct"]) == 0:
            healthy.append(float(row["defect_extent_pct"]))
        for segment in range(1, 18):
            share = number(row[f"extent_pct_seg{segment:02d}"])
            if share is None:
                missing += 1
            else:
                known = float(true[f"segment_defect_pct_{segment}"])
                counts[int(known >= SHARE_PCT), int(share >= SHARE_PCT)] += 1
    (negative, false_positive), (false_negative, positive) = counts
    sick, well = positive + false_negative, negative + false_positive
    error = np.array(errors)
    limits = bland_altman(error, np.zeros(len(error)))
    yield "| figure | network's outlines |"
    yield "|---|---|"
    yield f"| studies compared with normals | {len(errors)} of {len(truth)} |"
    yield f"| extent, bias (points) | {limits.estimate:+.1f} |"
    yield f"| extent, 95 % limits of agreement | {limits.lower.value:+.1f} to {limits.upper.value:+.1f} |"
    yield f"| sensitivity per segment | {positive} of {sick} ({100 * positive / max(sick, 1):.0f} %) |"
    yield f"| specificity per segment | {negative} of {well} ({100 * negative / max(well, 1):.1f} %) |"
    yield f"| segments not measured | {missing} |"
    yield f"| extent in the {len(healthy)} hearts without defect, % | {np.mean(healthy):.1f} |"
    for reason, times in why.items():
        yield f"| not compared | {times}: {reason} |"


def main(words: Sequence[str]) -> None:
    """Everything, or what is left of it."""
    if not words:
        raise SystemExit(__doc__)
    numbers = [int(word) for word in words[1:] if word.isdecimal()]
    folder, num_patients = Path(words[0]).resolve(), numbers[0] if numbers else NUM_PATIENTS
    if "report" not in words[1:]:
        folder.mkdir(parents=True, exist_ok=True)
        prepared(folder, num_patients)
    exact = exact_figures(folder)
    for title, found in (("network's outlines", of_network(folder)), ("true masks", of_true_masks(folder))):
        lines = [f"\n**{title}**\n", "| figure | patients | bias (95 % interval) | 95 % limits of agreement | aim |"]
        lines += ["|---|---|---|---|---|", *agreement_rows(found, exact)]
        sys.stdout.write("\n".join(lines) + "\n")
    if (folder / "predicted_patients_ungated" / "measurements.csv").is_file():
        sys.stdout.write("\n".join(["", *defect_rows(folder)]) + "\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except CardiacError as error:
        raise SystemExit(str(error)) from error
