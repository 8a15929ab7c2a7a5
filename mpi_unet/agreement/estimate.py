"""What every statistic of this room returns, and what it refuses.

An *estimate* is a number with the interval around it, the number of patients behind it and the method in words.
*alpha* is one-sided: the interval that decides has the level ``1 - 2 * alpha``, so 0.025 goes with a 95 % interval. The
*margin* is the largest difference that would not matter, in the unit of the score, fixed before the test data were
seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from mpi_unet.errors import AgreementError, listing
from mpi_unet.evaluation.intervals import Interval, t_interval

__all__ = ["DEGENERATE", "Estimate", "mean_estimate"]

DEGENERATE = "all patients have the same value: the interval has no width and a p-value is 0 or 1"
"""The note that goes with a test of values without spread."""

SAME = 1e-12
"""Values of a score closer than this are the same number up to rounding in the last bits."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval (None where it cannot be had), the patients behind it and the method in words."""

    value: float
    interval: Interval | None
    n: int
    method: str


def mean_estimate(values: Real[np.ndarray, " patients"], level: float) -> Estimate:
    """Mean over patients with its t interval; of one patient a mean without an interval.

    Args:
        values: One finite value per patient, at least one.
        level: Confidence level in (0, 1).

    Example:
        >>> mean_estimate(np.array([0.9]), 0.95)
        Estimate(value=0.9, interval=None, n=1, method='mean over patients')
    """
    interval = t_interval(values, level) if values.size > 1 else None
    return Estimate(float(values.mean()), interval, int(values.size), "mean over patients")


def standard_error(values: Real[np.ndarray, " patients"]) -> float:
    """Standard error of a mean; 0 for values that are equal up to rounding."""
    if np.ptp(values) <= SAME:
        return 0.0
    return float(values.std(ddof=1) / np.sqrt(values.size))


# --- Guards ---


def check_alpha(alpha: float) -> None:
    """Refuse an alpha that is not one-sided."""
    if not 0 < alpha < 0.5:
        raise AgreementError(f"alpha is {alpha}, expected a one-sided level in (0, 0.5) such as 0.025")


def check_level(level: float) -> None:
    """Refuse a level that is no confidence level, such as 95."""
    if not 0 < level < 1:
        raise AgreementError(f"level is {level}, expected a number between 0 and 1 such as 0.95")


def check_margin(margin: float, name: str = "margin") -> None:
    """Refuse a margin that is not a positive, finite number."""
    if not (np.isfinite(margin) and margin > 0):
        raise AgreementError(
            f"{name} is {margin}, expected a positive number in the unit of the score, e.g. 0.02 for a Dice; "
            "without a margin fixed beforehand leave it out: then there is an interval and no verdict"
        )


def check_patients(patients: Sequence[str] | None, size: int) -> tuple[str, ...]:
    """Names of the patients, one per row; numbers where none were given. A patient named twice is refused."""
    if patients is None:
        return tuple(str(row) for row in range(size))
    if len(patients) != size:
        raise AgreementError(f"patients names {len(patients)} patients for {size} rows; name one patient per row")
    twice = [f"{name}: {count} rows" for name, count in Counter(patients).items() if count > 1]
    if twice:
        raise AgreementError(
            f"{len(twice)} patient(s) have more than one row, but the patient is the unit of every test:\n"
            f"{listing(twice)}\nAverage the cases of a patient first: agreement.average_cases or panel_of_cases"
        )
    return tuple(patients)


def check_finite(values: Real[np.ndarray, "*shape"], name: str, least: int) -> None:
    """Refuse too few values, and values that are NaN or infinite."""
    if values.size < least:
        raise AgreementError(f"{name} holds {values.size} patient(s), expected at least {least}")
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise AgreementError(
            f"{bad} of {values.size} {name} are NaN or infinite, expected finite ones; leave those patients out and "
            "say how many (an infinite distance may enter as the image diagonal: evaluation.policy.for_mean)"
        )


def paired_differences(
    preds: Real[np.ndarray, " patients"], target: Real[np.ndarray, " paired"] | None, least: int = 2
) -> Float[np.ndarray, " patients"]:
    """``preds - target`` patient by patient, or ``preds`` itself when it already holds the differences."""
    if target is not None and preds.shape != target.shape:
        raise AgreementError(
            f"preds has {preds.size} patients, target {target.size}; give both in the same order of patients"
        )
    differences = np.asarray(preds, dtype=float) - (0.0 if target is None else np.asarray(target, dtype=float))
    check_finite(differences, "differences", least)
    return differences
