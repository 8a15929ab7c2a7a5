"""Is a paired difference small enough not to matter? Equivalence and non-inferiority.

*Equivalence* (two one-sided tests, TOST) claims that the mean difference lies within plus or minus the margin;
*non-inferiority* claims that it is not below minus the margin. Either test passes exactly when the interval of level
``1 - 2 * alpha`` lies inside the bounds, so interval and p-value never contradict each other. A test of "no difference"
is not among them: failing to find a difference says as much about the size of the study as about the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Real
from scipy import stats

from mpi_unet.agreement.estimate import (
    DEGENERATE,
    check_alpha,
    check_finite,
    check_margin,
    paired_differences,
    standard_error,
)
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval, bootstrap_t_interval, bootstrap_t_statistics, t_interval

__all__ = [
    "EquivalenceTest",
    "NoninferiorityTest",
    "Verdict",
    "noninferiority_paired",
    "tost_bias",
    "tost_paired",
    "verdict_of",
]

Verdict = Literal[
    "equivalent", "noninferior", "worse_beyond_margin", "worse_size_uncertain", "inconclusive", "not_assessable"
]
"""What a decision interval says about a margin; "not_assessable" where there is no interval or no margin."""


@dataclass(frozen=True)
class EquivalenceTest:
    """Two one-sided tests of a mean paired difference against plus or minus ``margin``.

    ``estimate`` is the mean difference over ``n`` patients, ``interval`` its interval of level ``1 - 2 * alpha``.
    ``p_lower`` tests "not below -margin" and is the p-value of non-inferiority, ``p_upper`` "not above +margin";
    ``p_value`` is the larger of the two. ``attained_margin`` is the smallest margin that would have been met.
    """

    estimate: float
    interval: Interval
    n: int
    method: str
    margin: float
    alpha: float
    sd: float
    t_lower: float
    p_lower: float
    t_upper: float
    p_upper: float
    p_value: float
    attained_margin: float
    equivalent: bool
    note: str


@dataclass(frozen=True)
class NoninferiorityTest:
    """One-sided test that a mean paired difference lies above ``-margin``.

    ``interval`` is two-sided of level ``1 - 2 * alpha``; its lower end decides. ``attained_margin`` is the smallest
    margin that would have been met, 0 when even the lower end is positive.
    """

    estimate: float
    interval: Interval
    n: int
    method: str
    margin: float
    alpha: float
    statistic: float
    p_value: float
    attained_margin: float
    noninferior: bool
    note: str


def tost_paired(
    preds: Real[np.ndarray, " patients"],
    target: Real[np.ndarray, " paired"] | None = None,
    *,
    margin: float,
    alpha: float = 0.025,
    method: Literal["t", "bootstrap-t"] = "t",
    resamples: int = 10_000,
    seed: int = 0,
) -> EquivalenceTest:
    """Are two measurements of the same patients equivalent on average, within plus or minus a margin?

    A small p-value speaks for equivalence. Equivalent on average is not interchangeable in each patient: read the
    limits of agreement beside it.

    Args:
        preds: First measurement, one finite value per patient; or the differences themselves when ``target`` is None.
        target: Second measurement of the same patients in the same order.
        margin: Largest mean difference that would not matter, positive, in the unit of the measurement.
        alpha: One-sided level of each of the two tests.
        method: "t", or "bootstrap-t" as its check on skewed differences.
        resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.

    Returns:
        The test. With differences that are all equal the p-values are 0 or 1, and ``note`` says so.

    Raises:
        AgreementError: Fewer than two patients, a value that is not finite, patients that do not pair up, a margin that
            is not positive, or an alpha outside (0, 0.5).

    Source:
        Schuirmann 1987, J Pharmacokinet Biopharm 15:657-680. doi:10.1007/BF01068419

    Example:
        Differences 0, 1, 2: mean 1, standard error 1/sqrt(3), so t is (1 + 2) * sqrt(3) and (1 - 2) * sqrt(3).

        >>> test = tost_paired(np.array([0.0, 1.0, 2.0]), margin=2.0)
        >>> round(test.t_lower, 3), round(test.t_upper, 3), test.equivalent
        (5.196, -1.732, False)
    """
    check_margin(margin)
    check_alpha(alpha)
    d = paired_differences(preds, target)
    interval = _decision_interval(d, alpha, method, resamples, seed)
    null = _null(d, method, resamples, seed)
    t_lower, p_lower = _one_sided(d, -margin, null, above=True)
    t_upper, p_upper = _one_sided(d, margin, null, above=False)
    return EquivalenceTest(
        estimate=float(d.mean()),
        interval=interval,
        n=int(d.size),
        method=f"two one-sided tests, {interval.method}",
        margin=float(margin),
        alpha=float(alpha),
        sd=float(standard_error(d) * np.sqrt(d.size)),
        t_lower=t_lower,
        p_lower=p_lower,
        t_upper=t_upper,
        p_upper=p_upper,
        p_value=max(p_lower, p_upper),
        attained_margin=max(abs(interval.low), abs(interval.high)),
        equivalent=bool(-margin < interval.low and interval.high < margin),
        note=DEGENERATE if standard_error(d) == 0 else "",
    )


def noninferiority_paired(
    preds: Real[np.ndarray, " patients"],
    target: Real[np.ndarray, " paired"] | None = None,
    *,
    margin: float,
    alpha: float = 0.025,
    method: Literal["t", "bootstrap-t"] = "t",
    resamples: int = 10_000,
    seed: int = 0,
) -> NoninferiorityTest:
    """Is the first measurement, where more is better, on average not worse than the second by the margin or more?

    Args:
        preds: First measurement, one finite value per patient; or the differences themselves when ``target`` is None.
            Where less is better, hand in the negated values.
        target: Second measurement of the same patients in the same order.
        margin: Largest deficit that would not matter, positive, in the unit of the measurement.
        alpha: One-sided level.
        method: "t", or "bootstrap-t" as its check on skewed differences.
        resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.

    Returns:
        The test. With differences that are all equal the p-value is 0 or 1, and ``note`` says so.

    Raises:
        AgreementError: As :func:`tost_paired`.

    Source:
        Piaggio et al. 2012, JAMA 308(24):2594-2604. doi:10.1001/jama.2012.87802

    Example:
        >>> test = noninferiority_paired(np.array([0.0, 1.0, 2.0]), margin=2.0)
        >>> round(test.statistic, 3), round(test.p_value, 4), test.noninferior
        (5.196, 0.0175, True)
    """
    test = tost_paired(preds, target, margin=margin, alpha=alpha, method=method, resamples=resamples, seed=seed)
    return NoninferiorityTest(
        estimate=test.estimate,
        interval=test.interval,
        n=test.n,
        method=f"non-inferiority, {test.interval.method}",
        margin=test.margin,
        alpha=test.alpha,
        statistic=test.t_lower,
        p_value=test.p_lower,
        attained_margin=max(0.0, -test.interval.low),
        noninferior=test.interval.low > -margin,
        note=test.note,
    )


def tost_bias(
    preds: Real[np.ndarray, " patients"],
    target: Real[np.ndarray, " paired"],
    *,
    margin_pct: float = 5.0,
    relative_to: Literal["target", "mean"] = "target",
    alpha: float = 0.025,
) -> EquivalenceTest:
    """Is the average bias of a measurement, e.g. a volume, within plus or minus some percent?

    The differences are taken in percent of the target, or of the mean of both where neither is a reference. A bias near
    zero is not agreement: single patients may be far off either way, which the limits of agreement show.

    Args:
        preds: First measurement, one finite value per patient.
        target: Second measurement of the same patients, positive.
        margin_pct: Largest mean bias that would not matter, in percent.
        relative_to: What the percentage is of.
        alpha: One-sided level of each of the two tests.

    Returns:
        The test; all of its numbers are percentages.

    Raises:
        AgreementError: As :func:`tost_paired`, or a reference that is zero or negative.

    Source:
        Schuirmann 1987, J Pharmacokinet Biopharm 15:657-680. doi:10.1007/BF01068419

    Example:
        >>> round(tost_bias(np.array([101.0, 204.0, 309.0]), np.array([100.0, 200.0, 300.0])).estimate, 6)
        2.0
    """
    check_margin(margin_pct, "margin_pct")
    check_finite(preds, "values of preds", 2)
    check_finite(target, "values of target", 2)
    paired_differences(preds, target)
    reference = target if relative_to == "target" else (preds + target) / 2
    if (reference <= 0).any():
        raise AgreementError(
            f"{int((reference <= 0).sum())} of {reference.size} reference values are not positive, so no percentage "
            "can be taken of them; leave those patients out, or test the differences themselves with tost_paired"
        )
    return tost_paired(100 * (preds - target) / reference, margin=margin_pct, alpha=alpha)


def verdict_of(interval: Interval | None, margin: float | None) -> Verdict:
    """What the interval of a difference (negative is worse) says about a margin.

    Args:
        interval: Decision interval, of level ``1 - 2 * alpha``; None where there is none.
        margin: Positive margin; None where none was fixed.

    Returns:
        "equivalent": inside plus or minus the margin. "noninferior": only the lower end is. "worse_beyond_margin": all
        of it below minus the margin. "worse_size_uncertain": below zero, but on both sides of minus the margin.
        "inconclusive": anything else; absence of evidence.

    Raises:
        AgreementError: A margin that is not positive.

    Example:
        >>> verdict_of(Interval(-0.046, 0.013, 0.95, "t over patients"), 0.02)
        'inconclusive'
        >>> verdict_of(Interval(-0.012, 0.013, 0.95, "t over patients"), 0.02)
        'equivalent'
    """
    if interval is None or margin is None:
        return "not_assessable"
    check_margin(margin)
    if interval.low > -margin:
        return "equivalent" if interval.high < margin else "noninferior"
    if interval.high < -margin:
        return "worse_beyond_margin"
    return "worse_size_uncertain" if interval.high < 0 else "inconclusive"


# --- Private helpers ---


def _decision_interval(d: np.ndarray, alpha: float, method: str, resamples: int, seed: int) -> Interval:
    if method == "t":
        return t_interval(d, 1 - 2 * alpha)
    return bootstrap_t_interval(d, 1 - 2 * alpha, resamples=resamples, seed=seed)


def _null(d: np.ndarray, method: str, resamples: int, seed: int) -> np.ndarray | None:
    return (
        None if method == "t" or standard_error(d) == 0 else bootstrap_t_statistics(d, resamples=resamples, seed=seed)
    )


def _one_sided(d: np.ndarray, bound: float, null: np.ndarray | None, *, above: bool) -> tuple[float, float]:
    """T statistic of the mean against a bound, and the p-value of lying above (or below) it."""
    distance, error = float(d.mean()) - bound, standard_error(d)
    if error == 0:
        passes = distance > 0 if above else distance < 0
        return float(np.copysign(np.inf, distance)), 0.0 if passes else 1.0
    t = distance / error
    if null is not None:
        beyond = np.count_nonzero(null >= t) if above else np.count_nonzero(null <= t)
        return t, float((beyond + 1) / (null.size + 1))
    return t, float(stats.t.sf(t, d.size - 1) if above else stats.t.cdf(t, d.size - 1))
