"""How far two measurements of one patient lie apart, in the unit of the measurement: limits of agreement.

The *bias* is the mean difference, first minus second; the *limits of agreement* hold the middle 95 % of the differences
of single patients. A bias near zero says nothing about single patients, so bias and limits belong together, each with
its interval. With more than one measurement per patient see :mod:`mpi_unet.agreement.replicates`; whether a bias is
small enough not to matter is :func:`mpi_unet.agreement.tost_bias`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import stats

from mpi_unet.agreement.estimate import SAME, Estimate, check_level
from mpi_unet.agreement.measurements import complete_pairs
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval, t_interval

__all__ = ["BlandAltman", "bland_altman"]


@dataclass(frozen=True, eq=False)
class BlandAltman:
    """Bias (``estimate``, with its ``interval``) and limits of agreement of two measurements.

    ``sd`` is that of the differences; on the scale "ratio" that of the differences of natural logarithms, while bias
    and limits are ratios again. ``slope`` is the change of the difference per unit of the mean of both, ``slope_p``
    tests that it is zero. ``p_value`` is that of the paired t test; large, it is no evidence of agreement. ``means``
    and ``differences`` are the points of the plot, ``kept`` says which patients they are.
    """

    estimate: float
    interval: Interval
    n: int
    method: str
    scale: str
    coverage: float
    sd: float
    lower: Estimate
    upper: Estimate
    slope: Estimate
    slope_p: float
    p_value: float
    n_left_out: int
    means: Float[np.ndarray, " complete"]
    differences: Float[np.ndarray, " complete"]
    kept: Bool[np.ndarray, " patients"]
    note: str

    @property
    def bias(self) -> Estimate:
        """Mean difference; on the scale "ratio" the geometric mean of the ratios."""
        return Estimate(self.estimate, self.interval, self.n, "mean ratio" if self.scale == "ratio" else "mean")


def bland_altman(
    first: Shaped[np.ndarray, "*patients"],
    second: Shaped[np.ndarray, "*others"],
    *,
    scale: str = "difference",
    coverage: float = 0.95,
    level: float = 0.95,
    limit_interval: str = "exact",
) -> BlandAltman:
    """Limits of agreement: the range in which the differences of 95 % of patients are expected to lie.

    Args:
        first: First measurement, e.g. the network's volume in ml, one value per patient, at least two.
        second: Second measurement of the same patients in the same order and unit.
        scale: "difference" in the unit; "percent" of the mean of both; "ratio" by logarithms, where the spread grows
            with the size. The last two need positive values.
        coverage: Share of the patients between the limits; 0.95 puts them at 1.959964 standard deviations.
        level: Confidence level of the intervals, in (0, 1).
        limit_interval: Interval of each limit: "exact" by the noncentral t distribution, or Bland and Altman's
            approximations of "1999" and "1986" (standard error ``sqrt(3 / n)``), which reach less far out in small
            studies.

    Returns:
        Bias, limits and the slope that shows proportional bias. Patients with a NaN are left out and counted. The slope
        is NaN when all means are the same or with fewer than three patients.

    Raises:
        AgreementError: Fewer than two complete pairs, lengths that differ, an infinite value, zero or negative values
            on the scales "percent" and "ratio", a scale that does not exist, or a level outside (0, 1).

    Source:
        Bland & Altman 1986, Lancet 327:307-310. doi:10.1016/S0140-6736(86)90837-8; 1999, Stat Methods Med Res
        8(2):135-160. doi:10.1177/096228029900800204; exact limits: Carkeet 2015, Optom Vis Sci 92(3):e71-e80.
        doi:10.1097/OPX.0000000000000513

    Example:
        Differences 1, 2 and 3 ml: bias 2, standard deviation 1, limits 2 -+ 1.96.

        >>> result = bland_altman(np.array([51.0, 62.0, 73.0]), np.array([50.0, 60.0, 70.0]))
        >>> round(result.estimate, 2), round(result.lower.value, 2), round(result.upper.value, 2)
        (2.0, 0.04, 3.96)
    """
    check_level(level)
    check_coverage(coverage)
    x, y, left_out = complete_pairs(first, second)
    means, differences = _points(x, y, scale)
    n, bias = int(x.size), float(differences.mean())
    largest = max(float(np.abs(x).max()), float(np.abs(y).max()))
    rounding = SAME * (largest if scale == "difference" else 1.0)  # percentages and logarithms have no unit
    sd = 0.0 if np.ptp(differences) <= rounding else float(differences.std(ddof=1))
    z = coverage_factor(coverage)
    lower, upper = _limits(bias, sd, n, z, level, limit_interval)
    slope, slope_p = _slope(means, differences, level, sd)
    interval = t_interval(differences, level) if sd else Interval(bias, bias, level, "t over patients")
    result = BlandAltman(
        estimate=bias,
        interval=interval,
        n=n,
        method=f"limits of agreement, bias -+ {z:.4f} SD of the {_WORDS[scale]}",
        scale=scale,
        coverage=coverage,
        sd=sd,
        lower=lower,
        upper=upper,
        slope=slope,
        slope_p=slope_p,
        p_value=_paired_p(bias, sd, n),
        n_left_out=left_out,
        means=means,
        differences=differences,
        kept=_kept(first, second),
        note="the differences of all patients are the same: the limits have no width" if sd == 0 else "",
    )
    return _as_ratio(result) if scale == "ratio" else result


def coverage_factor(coverage: float) -> float:
    """Standard deviations on either side of the mean that hold this share of a normal distribution."""
    return float(stats.norm.ppf((1 + coverage) / 2))


def check_coverage(coverage: float) -> None:
    """Refuse a coverage that is no share of the patients, such as 1.96."""
    if not 0 < coverage < 1:
        raise AgreementError(f"coverage is {coverage}, expected a share of the patients such as 0.95")


# --- Private helpers ---

_WORDS = {"difference": "differences", "percent": "percent differences", "ratio": "log ratios"}


def _points(x: np.ndarray, y: np.ndarray, scale: str) -> tuple[np.ndarray, np.ndarray]:
    if scale == "difference":
        return (x + y) / 2, x - y
    if scale not in _WORDS:
        raise AgreementError(f"scale is {scale!r}, expected one of {', '.join(map(repr, _WORDS))}")
    low = np.minimum(x, y)
    if (low <= 0).any():
        raise AgreementError(
            f"{int((low <= 0).sum())} of {x.size} patients have a value of zero or below (smallest {low.min():g}), so "
            f"there is no {'ratio' if scale == 'ratio' else 'percentage'}; leave them out, or use scale='difference'"
        )
    if scale == "percent":
        return (x + y) / 2, 200 * (x - y) / (x + y)
    return (np.log(x) + np.log(y)) / 2, np.log(x) - np.log(y)


def _limits(bias: float, sd: float, n: int, z: float, level: float, kind: str) -> tuple[Estimate, Estimate]:
    """Both limits with their intervals; the lower mirrors the upper."""
    if kind == "exact":
        root = math.sqrt(n)
        near, far = (float(stats.nct.ppf(q, n - 1, z * root)) / root for q in ((1 - level) / 2, (1 + level) / 2))
        words = "noncentral t over patients"
    elif kind in ("1999", "1986"):
        error = math.sqrt(1 / n + z**2 / (2 * (n - 1))) if kind == "1999" else math.sqrt(3 / n)
        half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
        near, far = z - half, z + half
        words = f"Bland-Altman {kind} over patients"
    else:
        raise AgreementError(f"limit_interval is {kind!r}, expected 'exact', '1999' or '1986'")
    return (
        Estimate(bias - z * sd, Interval(bias - far * sd, bias - near * sd, level, words), n, "lower limit"),
        Estimate(bias + z * sd, Interval(bias + near * sd, bias + far * sd, level, words), n, "upper limit"),
    )


def _slope(means: np.ndarray, differences: np.ndarray, level: float, sd: float) -> tuple[Estimate, float]:
    """Least squares of the difference on the mean; tests equality of the two spreads (Pitman-Morgan) in other words."""
    n, method = int(means.size), "least squares of the difference on the mean"
    if n < 3 or np.ptp(means) <= SAME * float(np.abs(means).max()):
        return Estimate(math.nan, None, n, method), math.nan
    if sd == 0:
        return Estimate(0.0, Interval(0.0, 0.0, level, "t over patients"), n, method), 1.0
    fit = stats.linregress(means, differences)
    value, half = float(fit.slope), float(stats.t.ppf((1 + level) / 2, n - 2) * fit.stderr)
    return Estimate(value, Interval(value - half, value + half, level, "t over patients"), n, method), float(fit.pvalue)


def _paired_p(bias: float, sd: float, n: int) -> float:
    if sd == 0:
        return 1.0 if bias == 0 else 0.0
    return float(2 * stats.t.sf(abs(bias) * math.sqrt(n) / sd, n - 1))


def _kept(first: np.ndarray, second: np.ndarray) -> Bool[np.ndarray, " patients"]:
    return ~(np.isnan(np.asarray(first, dtype=float)) | np.isnan(np.asarray(second, dtype=float)))


def _as_ratio(result: BlandAltman) -> BlandAltman:
    """Back from logarithms; the slope stays on the log-log scale, where it is a change in relative size."""

    def ratio(estimate: Estimate) -> Estimate:
        return replace(estimate, value=math.exp(estimate.value), interval=_exp(estimate.interval))

    return replace(
        result,
        estimate=math.exp(result.estimate),
        interval=_exp(result.interval) or result.interval,
        lower=ratio(result.lower),
        upper=ratio(result.upper),
        means=np.exp(result.means),
        differences=np.exp(result.differences),
    )


def _exp(interval: Interval | None) -> Interval | None:
    if interval is None:
        return None
    with np.errstate(over="ignore"):  # the exact limits of two patients reach beyond any ratio
        low, high = float(np.exp(interval.low)), float(np.exp(interval.high))
    return replace(interval, low=low, high=high, method=f"{interval.method}, on the logarithm")
