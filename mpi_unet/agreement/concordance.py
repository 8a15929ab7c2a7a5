"""Lin's concordance correlation: agreement of two measurements as closeness to the line of identity.

A companion of the intraclass correlation (:mod:`mpi_unet.agreement.reliability`), and like it dependent on the spread
of the patients: it stands beside the limits of agreement, never instead of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from scipy import stats

from mpi_unet.agreement.estimate import check_level
from mpi_unet.agreement.measurements import ROUNDING, complete_pairs
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["Ccc", "lin_ccc"]


@dataclass(frozen=True)
class Ccc:
    """Lin's concordance: ``estimate`` is ``pearson_r`` times ``bias_correction``.

    ``scale_shift`` is the ratio of the two standard deviations, ``location_shift`` the difference of the means in units
    of their geometric mean.
    """

    estimate: float
    interval: Interval | None
    n: int
    method: str
    n_left_out: int
    pearson_r: float
    bias_correction: float
    scale_shift: float
    location_shift: float
    note: str


def lin_ccc(
    first: Shaped[np.ndarray, "*patients"],
    second: Shaped[np.ndarray, "*others"],
    *,
    level: float = 0.95,
    denominator: str = "n",
) -> Ccc:
    """Lin's concordance correlation: how close pairs of measurements lie to the line of identity.

    1 is identity, 0 no relation, -1 reversal. Unlike a correlation it falls when one measurement is shifted or scaled
    against the other. Like the ICC it depends on the spread of the patients.

    Args:
        first: First measurement, one value per patient, at least three.
        second: Second measurement of the same patients in the same order and unit.
        level: Confidence level in (0, 1).
        denominator: Of the variances and the covariance: "n" as Lin 1989, or "n-1". Tools differ; of 17 patients it
            changes the fifth digit. The interval is Lin's Fisher-z interval either way.

    Returns:
        The estimate with its interval. Patients with a NaN are left out and counted. Undefined (NaN) when all values of
        both measurements are the same.

    Raises:
        AgreementError: Fewer than three complete pairs, lengths that differ, an infinite value, or a level outside
            (0, 1).

    Source:
        Lin 1989, Biometrics 45(1):255-268. doi:10.2307/2532051; variance as corrected in Biometrics 2000, 56(1):324-325

    Example:
        Shifted by one standard deviation (1/n): 2 * (2/3) / (2/3 + 2/3 + 2/3).

        >>> round(lin_ccc(np.array([1.0, 2, 3]), np.array([1.0, 2, 3]) + (2 / 3) ** 0.5).estimate, 4)
        0.6667
    """
    check_level(level)
    if denominator not in ("n", "n-1"):
        raise AgreementError(f"denominator is {denominator!r}, expected 'n' or 'n-1'")
    x, y, left_out = complete_pairs(first, second, least=3)
    n, ddof = x.size, 0 if denominator == "n" else 1
    method = f"Lin's concordance with {denominator} in the denominators"
    largest = max(float(np.abs(x).max()), float(np.abs(y).max()))
    floor = ROUNDING * largest**2
    sxx, syy, sxy = float(np.var(x, ddof=ddof)), float(np.var(y, ddof=ddof)), float(np.cov(x, y, ddof=ddof)[0, 1])
    sxx, syy = (0.0 if s <= floor else s for s in (sxx, syy))
    shift = float(x.mean() - y.mean())
    shift = 0.0 if shift**2 <= floor else shift
    whole = sxx + syy + shift**2
    if whole == 0:
        note = "both measurements have one and the same value in all patients: nothing to agree about"
        return Ccc(math.nan, None, n, method, left_out, math.nan, math.nan, math.nan, math.nan, note)
    estimate = 2 * sxy / whole
    if sxx == 0 or syy == 0:
        note = "one measurement has the same value in all patients: no correlation, no interval"
        return Ccc(0.0, None, n, method, left_out, math.nan, math.nan, math.nan, math.nan, note)
    spread = math.sqrt(sxx * syy)
    r, location, correction = sxy / spread, shift / math.sqrt(spread), 2 * spread / whole
    ends = _fisher_z(estimate, r, location, correction, n, level)
    interval = Interval(*ends, level, "Fisher z of Lin's concordance over patients")
    note = "identical pairs: the interval has no width" if 1 - abs(estimate) < ROUNDING**0.5 else ""
    scale = math.sqrt(sxx / syy)
    return Ccc(estimate, interval, n, method, left_out, r, correction, scale, location, note)


# --- Private helpers ---


def _fisher_z(ccc: float, r: float, location: float, correction: float, n: int, level: float) -> tuple[float, float]:
    """Lin's interval on the z scale, written with the bias correction in place of ccc / r so that r may be zero."""
    if 1 - abs(ccc) < ROUNDING**0.5:
        return ccc, ccc
    variance = (
        (1 - r**2) * correction**2 * (1 - ccc**2)
        + 2 * ccc**2 * correction * (1 - ccc) * location**2
        - correction**2 * ccc**2 * location**4 / 2
    ) / ((n - 2) * (1 - ccc**2) ** 2)
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(max(variance, 0.0))
    z = math.atanh(ccc)
    return math.tanh(z - half), math.tanh(z + half)
