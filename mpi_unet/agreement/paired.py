"""Paired differences over patients: tests of "no difference", and intervals of what else may be asked.

These tests answer whether a difference can be seen, which is a matter of the number of patients as well. They belong
into an appendix and to the comparison of two recipes; whether two methods agree is asked in ``equivalence``. The
*pseudo-median* is the median of all pairwise averages of the differences, not the mean: with a few failures a signed
rank test rejects although the means are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Real
from scipy import stats

from mpi_unet.agreement.estimate import DEGENERATE, check_finite, check_level, paired_differences, standard_error
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval, t_interval

__all__ = ["BcaBootstrap", "PairedTest", "bca_bootstrap", "paired_t", "sign_flip_test"]

Alternative = Literal["two-sided", "greater", "less"]

EXACT_FLIPS = 16
"""Up to so many patients all 2^n patterns of signs are gone through; beyond, patterns are drawn."""


@dataclass(frozen=True)
class PairedTest:
    """A test of paired differences: what is estimated, its two-sided interval, the statistic and the p-value."""

    estimate: float
    interval: Interval | None
    n: int
    method: str
    statistic: float
    p_value: float
    alternative: Alternative
    note: str


def paired_t(
    preds: Real[np.ndarray, " patients"],
    target: Real[np.ndarray, " paired"] | None = None,
    *,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
) -> PairedTest:
    """Can a mean difference be seen? Student's paired t test.

    Args:
        preds: First measurement, one finite value per patient; or the differences themselves when ``target`` is None.
        target: Second measurement of the same patients in the same order.
        alternative: Two-sided, or whether the mean difference is "greater" or "less" than zero.
        level: Confidence level of the two-sided interval.

    Returns:
        The mean difference with its t interval. With differences that are all equal p is 0, or 1 when they are zero.

    Raises:
        AgreementError: Fewer than two patients, a value that is not finite, patients that do not pair up, or a level
            outside (0, 1).

    Source:
        Student 1908, Biometrika 6(1):1-25. doi:10.2307/2331554

    Example:
        >>> round(paired_t(np.array([0.0, 1.0, 2.0])).statistic, 6)
        1.732051
    """
    check_level(level)
    d = paired_differences(preds, target)
    mean, error = float(d.mean()), standard_error(d)
    t = mean / error if error > 0 else float(np.copysign(np.inf, mean)) if mean else 0.0
    above, below = float(stats.t.sf(t, d.size - 1)), float(stats.t.cdf(t, d.size - 1))
    p_value = {"two-sided": min(1.0, 2 * min(above, below)), "greater": above, "less": below}[alternative]
    if error == 0 and mean == 0:
        p_value = 1.0
    note = DEGENERATE if error == 0 else ""
    return PairedTest(mean, t_interval(d, level), int(d.size), "paired t", t, p_value, alternative, note)


def sign_flip_test(
    preds: Real[np.ndarray, " patients"],
    target: Real[np.ndarray, " paired"] | None = None,
    *,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Can a mean difference be seen? Permutation test that swaps the two measurements of a patient at random.

    Exact when the differences are symmetric around their mean, whatever their distribution otherwise.

    Args:
        preds: First measurement, one finite value per patient; or the differences themselves when ``target`` is None.
        target: Second measurement of the same patients in the same order.
        alternative: Two-sided, or whether the mean difference is "greater" or "less" than zero.
        level: Confidence level of the two-sided interval.
        resamples: Patterns drawn when there are more than 16 patients; with fewer all of them are used.
        seed: Seed of the drawing.

    Returns:
        The mean difference, with the interval of the differences that the test does not reject; an end is infinite
        when so few patients cannot reject anything on that side.

    Raises:
        AgreementError: As :func:`paired_t`.

    Source:
        Fisher 1935, The Design of Experiments, section 21; interval: Hartigan 1969, J Am Stat Assoc 64:1303-1317.
        doi:10.1080/01621459.1969.10501057

    Example:
        Of the eight patterns of signs of 1, 2, 3 only one has a mean of at least 2.

        >>> sign_flip_test(np.array([1.0, 2.0, 3.0]), alternative="greater").p_value
        0.125
    """
    check_level(level)
    d = paired_differences(preds, target)
    means = _subset_means(d, resamples, seed)
    patterns = means.size + 1  # the pattern that flips nobody is always among them
    slack = 1e-9 * max(1.0, float(np.abs(d).max()))
    above = (int(np.count_nonzero(means <= slack)) + 1) / patterns
    below = (int(np.count_nonzero(means >= -slack)) + 1) / patterns
    p_value = {"two-sided": min(1.0, 2 * min(above, below)), "greater": above, "less": below}[alternative]
    rank = int(np.floor(patterns * (1 - level) / 2 + 1e-9))
    ordered = np.sort(means)
    low, high = (float(ordered[rank - 1]), float(ordered[-rank])) if rank else (-np.inf, np.inf)
    exact = d.size <= EXACT_FLIPS
    method = "sign flips of the mean, " + ("all patterns" if exact else f"{resamples} patterns")
    mean = float(d.mean())
    return PairedTest(mean, Interval(low, high, level, method), int(d.size), method, mean, p_value, alternative, "")


@dataclass(frozen=True)
class BcaBootstrap:
    """Bias-corrected and accelerated bootstrap of a statistic over patients; ``acceleration`` measures its skew."""

    value: float
    interval: Interval
    n: int
    method: str
    acceleration: float
    standard_error: float


def bca_bootstrap(
    values: Real[np.ndarray, " patients"],
    statistic: Callable[..., np.ndarray | np.floating | float] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> BcaBootstrap:
    """Bootstrap interval of any statistic over patients, corrected for bias and skew.

    For a mean of 10 to 20 patients it is worse than the t interval; use it from about 50 patients on, for a median or a
    proportion that has no interval of its own.

    Args:
        values: One finite value per patient, at least two, not all equal.
        statistic: Function of an array that takes ``axis``, such as ``np.median``.
        level: Confidence level in (0, 1).
        resamples: Number of resamples of patients.
        seed: Seed; the same seed gives the same interval.

    Returns:
        The statistic with its interval.

    Raises:
        AgreementError: Fewer than two patients, values that are not finite or all equal, or a level outside (0, 1).

    Source:
        Efron 1987, J Am Stat Assoc 82(397):171-185. doi:10.1080/01621459.1987.10478410

    Example:
        >>> result = bca_bootstrap(np.arange(50.0), np.median, resamples=2000)
        >>> result.value, result.interval.low < 24.5 < result.interval.high
        (24.5, True)
    """
    check_level(level)
    check_finite(values, "values", 2)
    if np.ptp(values) == 0:
        raise AgreementError(f"all {values.size} values are {values[0]}; there is nothing to resample")
    found = stats.bootstrap(
        (values,),
        statistic,
        method="BCa",
        confidence_level=level,
        n_resamples=resamples,
        batch=max(1, 1_000_000 // values.size),
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    left_out = np.array([float(statistic(np.delete(values, row), axis=0)) for row in range(values.size)])
    shift = left_out.mean() - left_out
    spread = float(np.sum(shift**2) ** 1.5)
    acceleration = float(np.sum(shift**3) / (6 * spread)) if spread else 0.0
    low, high = found.confidence_interval
    interval = Interval(float(low), float(high), level, "BCa bootstrap over patients")
    value = float(statistic(values, axis=0))
    return BcaBootstrap(value, interval, int(values.size), interval.method, acceleration, float(found.standard_error))


# --- Private helpers ---


def _subset_means(d: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Mean over the flipped patients, of each pattern of signs but the one that flips nobody.

    Flipping the patients F moves the mean of ``d - x`` to its observed value or beyond exactly when the mean of ``d``
    over F is at most x: so these means give the p-value for every x at once, and their order the interval.
    """
    if d.size <= EXACT_FLIPS:
        patterns = np.arange(1, 2**d.size)
        flipped = (patterns[:, None] >> np.arange(d.size)) & 1
        return flipped @ d / flipped.sum(axis=1)
    rng = np.random.default_rng(seed)
    means = []
    step = max(1, 4_000_000 // d.size)
    for start in range(0, resamples, step):
        flipped = rng.integers(0, 2, size=(min(step, resamples - start), d.size))
        flipped = flipped[flipped.any(axis=1)]
        means.append(flipped @ d / flipped.sum(axis=1))
    return np.concatenate(means)
