"""What each threshold would have done: counts of every patient at 201 thresholds, and the curves made of them.

A pixel is LV when ``probability >= threshold``. The threshold in use is frozen before the held-out patients are looked
at; the curves only show what lies around it. A curve is made per patient and then averaged at equal threshold, so that
a patient with many pixels or cases has no more say than another; the *band* is a bootstrap over patients.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, Shaped

from mpi_unet.errors import RunError
from mpi_unet.evaluation import overlap
from mpi_unet.evaluation.policy import mean_of_defined
from mpi_unet.files import whole_file

__all__ = [
    "COLUMNS",
    "NUM_THRESHOLDS",
    "THRESHOLDS",
    "MeanCurve",
    "OperatingCounts",
    "at_threshold",
    "best_threshold",
    "mean_curves",
    "mean_rates",
    "read_operating",
    "threshold_counts",
    "write_operating",
]

NUM_THRESHOLDS = 201
"""0, 0.005, ..., 1."""

THRESHOLDS: Float32[np.ndarray, " thresholds"] = (np.arange(NUM_THRESHOLDS) / (NUM_THRESHOLDS - 1)).astype(np.float32)
"""In single precision, the precision of the probabilities: ``p >= 0.35`` means the same here, in torch and in numpy."""
THRESHOLDS.setflags(write=False)

COLUMNS = ("patient_id", "threshold", "tp", "fp", "fn", "tn")
"""Columns of ``operating.csv``."""

RANGE_SLACK = 1e-5
"""How far outside 0..1 a probability may lie by rounding, as the mean of several networks does."""

NO_PATIENTS = "counts of 0 patients, expected at least one"

RATES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {
        "recall": overlap.recall,
        "precision": overlap.precision,
        "false_positive_rate": overlap.false_positive_rate,
    }
)
"""What the curves show, by name."""


@dataclass(frozen=True, eq=False)
class OperatingCounts:
    """Pixels of a patient at every threshold: true and false positives, false and true negatives. Cases add up."""

    counts: Int64[np.ndarray, "thresholds 4"]

    @classmethod
    def of(cls, probability: Shaped[np.ndarray, ...], target: Shaped[np.ndarray, ...]) -> OperatingCounts:
        """Count the pixels of one case; see :func:`threshold_counts`."""
        return cls(threshold_counts(probability, target))

    def __add__(self, other: OperatingCounts) -> OperatingCounts:
        return OperatingCounts(self.counts + other.counts)

    def at(self, threshold: float) -> Int64[np.ndarray, "4"]:
        """A copy of the counts at one threshold.

        Raises:
            ValueError: The threshold is not one of :data:`THRESHOLDS`.
        """
        place = round(threshold * (NUM_THRESHOLDS - 1)) if math.isfinite(threshold) else -1
        if not 0 <= place < NUM_THRESHOLDS or not math.isclose(place / (NUM_THRESHOLDS - 1), threshold, abs_tol=1e-6):
            raise ValueError(f"threshold is {threshold}, expected a multiple of {1 / (NUM_THRESHOLDS - 1)} in 0..1")
        return self.counts[place].copy()  # a view would keep the whole in memory

    def rows(self) -> list[tuple[float, int, int, int, int]]:
        """Threshold, tp, fp, fn, tn: the columns of ``operating.csv`` after the patient."""
        return [(place / (NUM_THRESHOLDS - 1), *row) for place, row in enumerate(self.counts.tolist())]


@dataclass(frozen=True, eq=False)
class MeanCurve:
    """One rate at every threshold: mean over patients, band of that mean, and how many patients it was defined for."""

    mean: Float[np.ndarray, " thresholds"]
    low: Float[np.ndarray, " thresholds"]
    high: Float[np.ndarray, " thresholds"]
    n: Int[np.ndarray, " thresholds"]


def threshold_counts(
    probability: Shaped[np.ndarray, ...], target: Shaped[np.ndarray, ...]
) -> Int64[np.ndarray, "thresholds 4"]:
    """Count the pixels of a case at every threshold, in one pass over the image.

    Args:
        probability: Float32 probability of LV in [0, 1].
        target: Bool mask of the reader on the same grid.

    Returns:
        True positives, false positives, false negatives and true negatives of ``probability >= threshold`` for each of
        :data:`THRESHOLDS`. Counts of the cases of a patient may be added.

    Raises:
        TypeError: ``probability`` is not float32 or ``target`` not bool.
        ValueError: The shapes differ, or a probability is NaN or outside [0, 1].

    Example:
        >>> counts = threshold_counts(np.float32([0.2, 0.5, 0.9]), np.array([False, True, True]))
        >>> counts[[0, 100, 101]]  # at 0, 0.5 and 0.505
        array([[2, 1, 0, 0],
               [2, 0, 0, 1],
               [1, 0, 1, 1]])
    """
    if probability.dtype != np.float32:
        raise TypeError(f"probability has dtype {probability.dtype}, expected float32; convert it where it is made")
    overlap.check_masks(target, target)
    if probability.shape != target.shape:
        raise ValueError(f"probability has shape {probability.shape}, target {target.shape}; expected one grid")
    if probability.size and not (probability.min() >= -RANGE_SLACK and probability.max() <= 1 + RANGE_SLACK):
        raise ValueError(
            f"probability spans {probability.min()}..{probability.max()}, expected 0..1 and no NaN; apply the sigmoid "
            "or softmax exactly once before counting"
        )
    reached = _thresholds_reached(probability.ravel())
    inside = np.bincount(reached[target.ravel()], minlength=NUM_THRESHOLDS + 1)
    everything = np.bincount(reached, minlength=NUM_THRESHOLDS + 1)
    tp, drawn, wanted = _at_or_above(inside), _at_or_above(everything), int(inside.sum())
    return np.stack([tp, drawn - tp, wanted - tp, probability.size - wanted - drawn + tp], axis=-1).astype(np.int64)


def mean_curves(
    counts: Collection[OperatingCounts], *, level: float = 0.95, resamples: int = 2000, seed: int
) -> dict[str, MeanCurve]:
    """Average the curves of patients at equal threshold.

    Args:
        counts: Counts of each patient.
        level: Level of the pointwise band.
        resamples: Bootstrap resamples of the patients.
        seed: Seed; the same seed gives the same band.

    Returns:
        ``recall``, ``precision`` and ``false_positive_rate``. An undefined rate, such as the precision at a threshold
        that no pixel of the patient reaches, is left out of the mean; ``n`` counts the others. The band is NaN where
        fewer than two patients are defined.

    Raises:
        ValueError: There are no patients.

    Example:
        >>> counts = OperatingCounts.of(np.float32([0.2, 0.5, 0.9]), np.array([False, True, True]))
        >>> curve = mean_curves([counts, counts], seed=0)["recall"]
        >>> curve.mean[[0, 101, 200]], int(curve.n[0])
        (array([1. , 0.5, 0. ]), 2)
    """
    stacked = _stacked(counts)
    patients = len(stacked)
    weights = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=resamples)
    return {name: _mean_curve(rate(stacked), weights, level) for name, rate in RATES.items()}


def best_threshold(counts: Iterable[OperatingCounts]) -> float:
    """Threshold with the highest mean Dice over patients; of several the one closest to 0.5.

    For validation patients only: chosen on the held-out ones it flatters every score. One patient is looked at after
    the other, so that counts may be made while they are asked for.

    Raises:
        ValueError: There are no patients, or none has LV in the reader's outline.

    Example:
        >>> best_threshold([OperatingCounts.of(np.float32([0.2, 0.3, 0.9]), np.array([False, True, True]))])
        0.3
    """
    patients, outlined, total = 0, 0, np.zeros(NUM_THRESHOLDS)
    for of_patient in counts:
        patients += 1
        if of_patient.counts[0, overlap.TP] + of_patient.counts[0, overlap.FN] > 0:
            outlined += 1
            total += overlap.dice(of_patient.counts)
    if not patients:
        raise ValueError(NO_PATIENTS)
    if not outlined:
        raise ValueError(f"none of {patients} patients has LV in the reader's outline; there is nothing to choose by")
    mean = total / outlined
    best = np.flatnonzero(mean >= mean.max() - 1e-12)  # sums in another order differ in the last bits
    return int(best[np.argmin(np.abs(best - (NUM_THRESHOLDS - 1) / 2))]) / (NUM_THRESHOLDS - 1)


def at_threshold(counts: Iterable[OperatingCounts], threshold: float) -> dict[str, float]:
    """Mean recall, precision and false-positive rate over patients at one threshold of the grid.

    Returns:
        By name; NaN when undefined for every patient.

    Raises:
        ValueError: There are no patients, or the threshold is not one of :data:`THRESHOLDS`.

    Example:
        >>> counts = OperatingCounts.of(np.float32([0.2, 0.5, 0.9]), np.array([False, True, True]))
        >>> at_threshold([counts], 0.6)
        {'recall': 0.5, 'precision': 1.0, 'false_positive_rate': 0.0}
    """
    return mean_rates([of_patient.at(threshold) for of_patient in counts])


def mean_rates(at: Collection[Int64[np.ndarray, "4"]]) -> dict[str, float]:
    """The same as :func:`at_threshold`, of the counts of each patient :meth:`OperatingCounts.at` one threshold.

    Raises:
        ValueError: There are no patients.
    """
    if not at:
        raise ValueError(NO_PATIENTS)
    stacked = np.stack(list(at))
    return {name: mean_of_defined(rate(stacked)) for name, rate in RATES.items()}


def write_operating(path: str | Path, counts: Mapping[str, OperatingCounts]) -> None:
    """Write the counts by patient, one row per patient and threshold, patients in sorted order.

    Raises:
        RunError: The file cannot be written.
    """
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for patient in sorted(counts):
            writer.writerows((patient, *row) for row in counts[patient].rows())


def read_operating(path: str | Path) -> Iterator[tuple[str, OperatingCounts]]:
    """Read the counts of one patient after the other.

    Yields:
        Patient and counts, in the order of the file.

    Raises:
        RunError: The file is missing, has other columns, a cell that is no number, or not exactly one row for each
            patient and threshold, in order.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path} is missing, expected the counts at every threshold; give the command of the run again")
    seen = set()
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        if tuple(header) != COLUMNS:
            raise RunError(f"{path}: columns are {', '.join(header) or 'missing'}, expected {', '.join(COLUMNS)}")
        for patient, of_patient in itertools.groupby(lines, key=lambda line: line[0] if line else ""):
            rows = list(of_patient)
            counts = _counts_of(rows)
            if counts is None or patient in seen:
                again = " once more" if patient in seen else ""
                raise RunError(
                    f"{path}: {len(rows)} rows of patient {patient or '(none)'}{again}, expected {NUM_THRESHOLDS} rows "
                    "of numbers for each, sorted by threshold; remove the file and give the command of the run again"
                )
            seen.add(patient)
            yield patient, counts


# --- Private helpers ---


def _counts_of(lines: Sequence[Sequence[str]]) -> OperatingCounts | None:
    """Counts from the rows of one patient; None where they are not one row for each threshold, in order."""
    try:
        table = np.array([line[1:] for line in lines], dtype=np.float64).reshape(NUM_THRESHOLDS, 5)
    except ValueError:  # a cell that is no number, a row or a cell too few
        return None
    if not (np.abs(table[:, 0] - THRESHOLDS.astype(np.float64)) < 1e-6).all():
        return None
    return OperatingCounts(table[:, 1:].astype(np.int64))


def _thresholds_reached(probability: Float32[np.ndarray, " pixels"]) -> Int[np.ndarray, " pixels"]:
    """How many thresholds each probability reaches: a guess by multiplication, put right by two exact comparisons."""
    place = np.clip((probability * (NUM_THRESHOLDS - 1)).astype(np.int16), 0, NUM_THRESHOLDS - 1)
    place -= probability < THRESHOLDS[place]  # -1 for a probability just below 0
    above = np.minimum(place + 1, NUM_THRESHOLDS - 1)
    place += (probability >= THRESHOLDS[above]) & (above > place)
    return place + 1


def _at_or_above(histogram: np.ndarray) -> np.ndarray:
    """Pixels that reach threshold k, from pixels that reach exactly so many thresholds."""
    return np.cumsum(histogram[::-1])[::-1][1:]


def _mean_curve(
    rates: Float[np.ndarray, "patients thresholds"], weights: Int[np.ndarray, "resamples patients"], level: float
) -> MeanCurve:
    defined = ~np.isnan(rates)
    values = np.where(defined, rates, 0.0)
    n = defined.sum(axis=0)
    means = _ratio(weights @ values, weights @ defined)
    low, high = np.full((2, n.size), np.nan)
    banded = n >= 2
    if banded.any():
        low[banded], high[banded] = np.nanquantile(means[:, banded], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return MeanCurve(_ratio(values.sum(axis=0), n), low, high, n)


def _stacked(counts: Collection[OperatingCounts]) -> Int64[np.ndarray, "patients thresholds 4"]:
    if not counts:
        raise ValueError(NO_PATIENTS)
    return np.stack([of_patient.counts for of_patient in counts])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
