"""Area under the ROC curve with DeLong's interval, and the difference of two such areas.

Valid for one score per independent case, e.g. the chance of a defect in each patient. Never for pooled pixels: pixels
of a patient are not independent, and the interval would be far too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Real
from scipy import stats

from mpi_unet.agreement.estimate import Estimate, check_finite, check_level, check_patients
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["DeLong", "delong"]

METHOD = "DeLong over patients"


@dataclass(frozen=True)
class DeLong:
    """Area under one ROC curve, or under two of the same patients with their difference (first minus second)."""

    auc: Estimate
    auc_second: Estimate | None
    difference: Estimate | None
    z: float | None
    p_value: float | None
    n: int
    method: str


def delong(
    scores: Real[np.ndarray, " patients"],
    positive: Bool[np.ndarray, " paired"] | Int[np.ndarray, " paired"],
    second: Real[np.ndarray, " other"] | None = None,
    *,
    level: float = 0.95,
    patients: Sequence[str] | None = None,
) -> DeLong:
    """How well a score tells positive from negative patients, and whether one score does so better than another.

    The area is the chance that a positive patient scores higher than a negative one; 0.5 is a coin.

    Args:
        scores: One finite score per patient; higher means more likely positive.
        positive: The truth, as truth values or 0 and 1.
        second: Another score of the same patients.
        level: Confidence level in (0, 1).
        patients: Names of the patients, one per row; a name that occurs twice is refused.

    Returns:
        The area, or both and their difference with z and two-sided p. Intervals are normal ones, cut off at 0 and 1 for
        an area. Where the variance is 0, as with perfect separation, the interval has no width and z is None.

    Raises:
        AgreementError: Fewer than two positive or two negative patients, a score that is not finite, arrays of unequal
            length, a patient named twice, or a level outside (0, 1).

    Source:
        DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44(3):837-845. doi:10.2307/2531595; computed as Sun & Xu 2014,
        IEEE Signal Process Lett 21(11):1389-1393. doi:10.1109/LSP.2014.2337313

    Example:
        Of the four pairs of a positive and a negative patient, three are in the right order.

        >>> delong(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])).auc.value
        0.75
    """
    check_level(level)
    check_patients(patients, scores.size)
    given = [scores] if second is None else [scores, second]
    for each in given:
        check_finite(each, "scores", 4)
        if each.shape != positive.shape:
            raise AgreementError(
                f"there are {each.size} scores for {positive.size} patients; give one score per patient, in one order"
            )
    if not np.isin(positive, (0, 1)).all():
        raise AgreementError(f"positive holds {sorted({int(v) for v in positive})}, expected truth values or 0 and 1")
    positive = positive.astype(bool)
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if min(num_positive, num_negative) < 2:
        raise AgreementError(
            f"there are {num_positive} positive and {num_negative} negative patients, expected two or more of each"
        )
    n = int(positive.size)
    parts = [_components(each, positive) for each in given]
    above = np.stack([part[0] for part in parts])
    below = np.stack([part[1] for part in parts])
    areas = above.mean(axis=1)
    covariance = np.atleast_2d(np.cov(above)) / num_positive + np.atleast_2d(np.cov(below)) / num_negative
    quantile = float(stats.norm.ppf((1 + level) / 2))
    estimates = [
        _area(float(area), float(variance), quantile, level, n)
        for area, variance in zip(areas, np.diag(covariance), strict=True)
    ]
    if second is None:
        return DeLong(estimates[0], None, None, None, None, n, METHOD)
    gap = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = float(np.sqrt(variance)) if variance > np.finfo(float).eps else 0.0
    interval = Interval(gap - quantile * error, gap + quantile * error, level, METHOD)
    z = gap / error if error > 0 else None
    p_value = None if z is None else float(2 * stats.norm.sf(abs(z)))
    return DeLong(estimates[0], estimates[1], Estimate(gap, interval, n, METHOD), z, p_value, n, METHOD)


# --- Private helpers ---


def _components(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive patient the share of negative ones below it, and for each negative of positive ones above."""
    ranks = stats.rankdata(scores)
    among_positive, among_negative = stats.rankdata(scores[positive]), stats.rankdata(scores[~positive])
    num_positive, num_negative = among_positive.size, among_negative.size
    return (ranks[positive] - among_positive) / num_negative, 1 - (ranks[~positive] - among_negative) / num_positive


def _area(value: float, variance: float, quantile: float, level: float, n: int) -> Estimate:
    half = quantile * float(np.sqrt(max(variance, 0.0)))
    return Estimate(value, Interval(max(0.0, value - half), min(1.0, value + half), level, METHOD), n, METHOD)
