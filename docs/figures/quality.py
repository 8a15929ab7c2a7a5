"""The numbers of docs/predict.md on predicted Dice and flags, and docs/figures/quality.png.

python docs/figures/quality.py <folder>

Simulates 30 patients and trains a small network on them in five folds; then predicts 60 patients of another seed, as
they are and with trouble planted: the image ends within the heart, gut touches it, noise, larger voxels. What lies in
the folder already is used again. From an empty folder it takes about 6 minutes of one core.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from mpi_unet.cohort.nifti import Volume, read_mask, write_image, write_mask
from mpi_unet.cohort.table import Cohort, write_cohort_table
from mpi_unet.evaluation.overlap import dice, frame_counts
from mpi_unet.evaluation.predicted_dice import LEVEL, SMALLEST_DEFICIT, tolerance_rank
from mpi_unet.inference import predict
from mpi_unet.inference.options import Options
from mpi_unet.sources.phantom import phantom_cohort

PICTURE = Path(__file__).parent / "quality.png"
TRAINING_SEED, HELD_OUT_SEED = 7, 2718
NUM_TRAINING, NUM_HELD_OUT = 30, 60
BAD_DICE = 0.7
COLORS = ("black", "tab:red", "tab:green", "tab:olive", "tab:blue", "tab:orange")

PLANTED: dict[str, tuple[str, ...]] = {
    "as simulated": (),
    "truncated": ("truncated",),
    "gut": ("hot_neighbor", "bulge"),
    "faint gut": ("hot_neighbor", "bulge"),
    "noise": ("low_counts",),
    "voxels": ("other_domain",),
}
"""Kind to the flags that are meant for it."""

GUT_RADIUS_MM = 14.0
GUT_UPTAKE = {"gut": 1.3, "faint gut": 0.7}
"""A loop of gut of this radius touches the wall, with so many times the wall's bright values."""

CALIBRATION_SIZES = (9, 20, 30, 40)
"""So many of the held-out patients set the width of the interval for the others."""

NOISE_SHARE = 0.12
"""Of the bright values, where the image is bright; about three times that of the phantom itself."""

VOXEL_FACTOR = 1.25


@dataclass(frozen=True)
class Row:
    """One predicted study."""

    patient: str
    kind: str
    true: float
    predicted: float
    low: float
    high: float
    look_first: float
    flags: tuple[str, ...]


def planted(volume: Volume, mask: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """A study with trouble of one kind."""
    image, affine, spacing = volume.array, volume.affine, np.array(volume.spacing_mm)
    if kind == "truncated":
        slices = np.flatnonzero(mask.any(axis=(1, 2)))
        end = int(slices[0] + round(len(slices) * rng.uniform(0.5, 0.75)))
        return Volume(image[:end], affine), mask[:end]
    if kind in GUT_UPTAKE:
        index = np.argwhere(mask)
        middle = index.mean(axis=0)
        z = int(np.quantile(index[:, 0], rng.uniform(0.3, 0.7)))
        angle = rng.uniform(0.25, 0.75) * np.pi  # downward: higher rows
        direction = np.array([np.sin(angle), np.cos(angle)])
        along = (index[index[:, 0] == z][:, 1:] - middle[1:]) * spacing[1:] @ direction
        place = np.concatenate([[z * spacing[0]], middle[1:] * spacing[1:] + (along.max() + GUT_RADIUS_MM) * direction])
        grid = np.stack(np.indices(image.shape), axis=-1) * spacing
        loop = (np.linalg.norm(grid - place, axis=-1) <= GUT_RADIUS_MM).astype(np.float32)
        blurred = ndimage.gaussian_filter(loop, 5.0 / spacing)
        hot = GUT_UPTAKE[kind] * np.percentile(image[mask], 95) * blurred
        return Volume(np.maximum(image, 0) + hot.astype(np.float32), affine), mask
    if kind == "noise":
        bright = np.percentile(image, 99)
        noise = ndimage.gaussian_filter(rng.normal(size=image.shape), (0, 0.8, 0.8))
        noise *= NOISE_SHARE * bright / noise.std() * np.sqrt(np.clip(image / bright, 0, 1))
        return Volume((image + noise).astype(np.float32), affine), mask
    if kind == "voxels":
        factor = (1.0, 1 / VOXEL_FACTOR, 1 / VOXEL_FACTOR)
        larger = affine.copy()
        larger[:3, :2] *= VOXEL_FACTOR
        small = ndimage.zoom(image, factor, order=1).astype(np.float32)
        return Volume(small, larger), ndimage.zoom(mask.astype(np.float32), factor, order=1) >= 0.5
    return volume, mask


def troubled(cohort: Cohort, root: Path) -> Cohort:
    """The held-out cohort, each patient once as simulated and once with each kind of trouble."""
    if not (root / "cohort.json").is_file():
        rows = []
        for number, case in enumerate(cohort.cases):
            for position, kind in enumerate(PLANTED):
                rng = np.random.default_rng([HELD_OUT_SEED, number, position])
                volume, mask = planted(case.read_image(), case.read_mask("truth"), kind, rng)
                name = f"{case.patient_id}_{kind.replace(' ', '_')}"
                write_image(root / f"images/{name}.nii.gz", volume.array, volume.affine)
                write_mask(root / f"labels/truth/{name}.nii.gz", mask, volume.affine)
                rows.append(
                    {
                        "case_id": name,
                        "patient_id": case.patient_id,
                        "image": f"images/{name}.nii.gz",
                        "label_truth": f"labels/truth/{name}.nii.gz",
                        "kind": kind,
                    }
                )
        write_cohort_table(root, metadata=cohort.metadata | {"name": "troubled"}, rows=rows)
    return Cohort.open(root)


def trained(folder: Path) -> Path:
    """The run."""
    phantom_cohort(folder / "train", num_patients=NUM_TRAINING, seed=TRAINING_SEED, readers=("truth",))
    words = ["experiment=quickstart", "data=cohort", "data.root=train", "data.reader=truth", "name=quality"]
    words += ["trainer=cpu", "loader.cache=null"]
    subprocess.run([sys.executable, "-m", "mpi_unet.train", *words], cwd=folder, check=True)
    return folder / "runs" / "quality"


def predicted(folder: Path, run: Path) -> list[Row]:
    """Every held-out study, predicted and scored."""
    plain = phantom_cohort(folder / "held_out", num_patients=NUM_HELD_OUT, seed=HELD_OUT_SEED, readers=("truth",))
    cohort = troubled(Cohort.open(plain), folder / "troubled")
    output = folder / "predicted"
    options = Options(measurements="volume", allow_other_domain=True)
    made = predict(run, cohort.root, output, options=options, pages=False)
    with made.table.open(newline="", encoding="utf-8") as lines:
        table = {row["study_id"]: row for row in csv.DictReader(lines)}
    rows = []
    for case in cohort.cases:
        row = table[case.case_id]
        counts = frame_counts(read_mask(output / row["mask"]), case.read_mask("truth")).sum(axis=0)
        figures = [
            float(row[name] or "nan") for name in ("predicted_dice", "predicted_dice_low", "predicted_dice_high")
        ]
        rows.append(
            Row(
                case.patient_id,
                case.strata["kind"],
                float(dice(counts)),
                *figures,
                float(row["look_first"]),
                tuple(row["flags"].split()),
            )
        )
    return rows


def auc(score: np.ndarray, is_bad: np.ndarray) -> float:
    """Probability that a bad study has the higher score; ties count half."""
    bad, good = score[is_bad], score[~is_bad]
    if not len(bad) or not len(good):
        return float("nan")
    return float(((bad[:, None] > good).mean() + (bad[:, None] >= good).mean()) / 2)


def interval(rows: Sequence[Row], figure: Callable[[Sequence[Row]], float]) -> tuple[float, float]:
    """Percentile interval of 95 % over patients drawn again."""
    by_patient: dict[str, list[Row]] = {}
    for row in rows:
        by_patient.setdefault(row.patient, []).append(row)
    rng = np.random.default_rng(HELD_OUT_SEED)
    names = sorted(by_patient)
    values = [figure([row for name in rng.choice(names, len(names)) for row in by_patient[name]]) for _ in range(300)]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def say(*words: str) -> None:
    """A line of the answer."""
    sys.stdout.write(" ".join(words) + "\n")


def bias(rows: Sequence[Row]) -> float:
    """Mean of predicted minus true Dice."""
    return float(np.mean([row.predicted - row.true for row in rows]))


def error(rows: Sequence[Row]) -> float:
    """Mean absolute difference."""
    return float(np.mean([abs(row.predicted - row.true) for row in rows]))


def covered(rows: Sequence[Row]) -> float:
    """Percent of the studies whose Dice lies in the interval."""
    return 100 * float(np.mean([row.low <= row.true <= row.high for row in rows]))


def found(rows: Sequence[Row], by: str) -> float:
    """Area under the curve of finding bad masks."""
    score = np.array([row.look_first if by == "look_first" else -row.predicted for row in rows])
    return auc(score, np.array([row.true < BAD_DICE for row in rows]))


def tell(rows: Sequence[Row]) -> None:
    """The tables of docs/predict.md."""
    say("| studies | n | Dice | predicted | bias | mean abs. error | in the 90 % interval | Dice < 0.7 |")
    say("|---|---|---|---|---|---|---|---|")
    for kind in (*PLANTED, "all"):
        some = [row for row in rows if kind in ("all", row.kind)]
        true, guess = (np.mean([getattr(row, name) for row in some]) for name in ("true", "predicted"))
        ends = ["{:+.3f} ({:+.3f} to {:+.3f})".format(bias(some), *interval(some, bias))]
        ends += ["{:.3f} ({:.3f} to {:.3f})".format(error(some), *interval(some, error))]
        ends += ["{:.0f} % ({:.0f} to {:.0f})".format(covered(some), *interval(some, covered))]
        bad = sum(row.true < BAD_DICE for row in some)
        say("|", " | ".join([kind, str(len(some)), f"{true:.3f}", f"{guess:.3f}", *ends, str(bad)]), "|")
    for by in ("predicted Dice", "look_first"):
        ends = "{:.2f} ({:.2f} to {:.2f})".format(found(rows, by), *interval(rows, lambda some, by=by: found(some, by)))
        say(f"\nArea under the curve of finding Dice < {BAD_DICE} by {by}: {ends}")
    codes = sorted({code for row in rows for code in row.flags})
    say("\nStudies in percent that carry a flag:\n\n| flag |", " | ".join(PLANTED), "|")
    say("|---|" + "---|" * len(PLANTED))
    for code in (*codes, "hot_neighbor or bulge", "any urgent or attention"):
        shares = []
        for kind in PLANTED:
            some = [row for row in rows if row.kind == kind]
            has = [row.look_first >= 2 if code.startswith("any") else has_one(code, row.flags) for row in some]
            mark = "**" if code in PLANTED[kind] else ""
            shares.append(f"{mark}{100 * np.mean(has):.0f}{mark}")
        say("|", " | ".join([code, *shares]), "|")


def has_one(words: str, flags: Sequence[str]) -> bool:
    """Whether a study carries one of the flags."""
    return any(code in flags for code in words.split(" or "))


def tell_sizes(rows: Sequence[Row]) -> None:
    """Whether the rank of the interval keeps its promise: some held-out patients calibrate, the others are counted."""
    some = [row for row in rows if row.kind == "as simulated"]
    deviation = np.array([abs(row.predicted - row.true) / max(1 - row.predicted, SMALLEST_DEFICIT) for row in some])
    rng = np.random.default_rng(HELD_OUT_SEED)
    draws = [rng.permutation(deviation) for _ in range(2000)]
    names = ["patients that calibrate", "rank", "holds, mean", "10th percentile"]
    names += ["rank of the mean promise", "holds, mean", "10th percentile"]
    say("\n|", " | ".join(names), "|\n|" + "---|" * len(names))
    for size in CALIBRATION_SIZES:
        cells = [str(size)]
        for rank in (tolerance_rank(size), int(np.ceil(LEVEL * (size + 1) - 1e-9))):
            held = [100 * np.mean(one[size:] <= np.sort(one[:size])[rank - 1]) for one in draws]
            cells += [str(rank), f"{np.mean(held):.0f} %", f"{np.percentile(held, 10):.0f} %"]
        say("|", " | ".join(cells), "|")


def draw(rows: Sequence[Row]) -> None:
    """Predicted beside true Dice, and what a reader meets who goes down the worklist."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for kind, color in zip(PLANTED, COLORS, strict=True):
        some = [row for row in rows if row.kind == kind]
        guess, true = np.array([[row.predicted, row.true] for row in some]).T
        if kind == "as simulated":
            below, above = np.array([[row.predicted - row.low, row.high - row.predicted] for row in some]).T
            left.errorbar(guess, true, xerr=[below, above], fmt="none", ecolor="0.8", lw=0.8)
        left.plot(guess, true, "o", ms=3.5, color=color, label=kind, alpha=0.8)
    left.plot([0, 1], [0, 1], color="0.5", lw=0.8)
    left.axhline(BAD_DICE, color="0.5", lw=0.8, ls=":")
    low = max(0.0, min(min(row.true, row.predicted) for row in rows) - 0.03)
    left.set(xlim=(low, 1), ylim=(low, 1), xlabel="predicted Dice (bars: 90 % interval)", ylabel="true Dice")
    left.legend(frameon=False, fontsize=8)
    share = np.arange(1, len(rows) + 1) / len(rows)
    for by, color in (("look_first", "tab:red"), ("predicted Dice", "black")):
        order = sorted(rows, key=lambda row, by=by: -row.look_first if by == "look_first" else row.predicted)
        bad = np.cumsum([row.true < BAD_DICE for row in order])
        right.plot(100 * share, 100 * bad / max(bad[-1], 1), color=color, label=f"by {by}")
    right.plot([0, 100], [0, 100], color="0.7", lw=0.8, label="in any order")
    right.set(xlabel="studies looked at, %", ylabel=f"of the studies with Dice < {BAD_DICE} found, %")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=80)


def main(words: list[str]) -> None:
    """Simulate, train, predict, tell and draw."""
    folder = Path(words[0] if words else "quality")
    folder.mkdir(parents=True, exist_ok=True)
    rows = predicted(folder, trained(folder))
    tell(rows)
    tell_sizes(rows)
    draw(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
