"""Limits of agreement when patients were measured more than once by each of two readers or methods.

Taking every pair as if it came from another patient makes the limits too narrow. What to do depends on the *truth*: it
is *constant* when the patient does not change between the measurements (two outlines of one study), it *varies* when
each pair measures another moment (rest and stress), and then only measurements of one pair may be compared.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from mpi_unet.agreement.estimate import Estimate, check_level
from mpi_unet.agreement.limits import check_coverage, coverage_factor
from mpi_unet.agreement.measurements import ROUNDING, as_numbers
from mpi_unet.agreement.reliability import variance_sum_interval
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["ReplicateLimits", "bland_altman_replicates"]


@dataclass(frozen=True)
class ReplicateLimits:
    """Bias (``estimate``) and limits of agreement of single measurements, from replicates of ``n`` patients.

    ``sd`` is the standard deviation of the difference of two single measurements. ``variance_of_means`` is that of the
    patients' mean differences (truth "constant") or the variance between patients of the differences (truth "varies");
    ``within_first`` and ``within_second`` are the variances of repeated measurements of one patient, and
    ``within_differences`` that of repeated differences; NaN where it does not apply.
    """

    estimate: float
    interval: Interval
    n: int
    method: str
    truth: str
    coverage: float
    sd: float
    lower: Estimate
    upper: Estimate
    variance_of_means: float
    within_first: float
    within_second: float
    within_differences: float
    n_first: int
    n_second: int
    n_left_out: int
    note: str


def bland_altman_replicates(
    first: Shaped[np.ndarray, "*measurements"],
    second: Shaped[np.ndarray, "*others"],
    patients: Sequence[Hashable] | Shaped[np.ndarray, " rows"],
    *,
    truth: str,
    coverage: float = 0.95,
    level: float = 0.95,
) -> ReplicateLimits:
    """Limits of agreement of single measurements when patients have several, in equal or unequal number.

    Args:
        first: All measurements by the first reader or method, NaN where there is none.
        second: Those by the second in the same rows. With a varying truth a row is a pair; with a constant one the
            order within a patient has no meaning.
        patients: The patient of each row.
        truth: "constant" when the patient does not change between measurements; "varies" when each row is another
            moment, such as rest and stress. There is no default: they answer different questions.
        coverage: Share of single differences between the limits.
        level: Confidence level in (0, 1).

    Returns:
        Bias, limits and variances. With a constant truth the bias is the mean over patients of the difference of their
        means; with a varying one the mean over all pairs, as Bland and Altman print it, and a row that lacks one of
        both is dropped. A patient without any usable row is left out and counted.

    Raises:
        AgreementError: Lengths that differ, fewer than two patients, an infinite value, no patient with replicates
            (then :func:`mpi_unet.agreement.bland_altman` applies), a truth that does not exist, or a level outside
            (0, 1).

    Source:
        Bland & Altman 2007, J Biopharm Stat 17(4):571-582. doi:10.1080/10543400701329422 (1999, Stat Methods Med Res
        8(2):135-160, sections 5.1-5.3); intervals: Zou 2013, Stat Methods Med Res 22(6):630-642.
        doi:10.1177/0962280211402548

    Example:
        Two patients, two repeats; the mean differences are 1 and 3, and each repeat has variance 0.5 about its mean, so
        the variance is 2 + (1 - 1/2) * 0.5 + (1 - 1/2) * 0.5.

        >>> first, second = np.array([11.0, 12, 24, 23]), np.array([10.0, 11, 20, 21])
        >>> result = bland_altman_replicates(first, second, ["P1", "P1", "P2", "P2"], truth="constant")
        >>> result.estimate, round(result.sd**2, 6)
        (2.0, 2.5)
    """
    check_level(level)
    check_coverage(coverage)
    x, y = as_numbers(first, "first"), as_numbers(second, "second")
    owners = list(patients)
    if x.ndim != 1 or not x.shape == y.shape == (len(owners),):
        raise AgreementError(
            f"first has shape {x.shape}, second {y.shape}, patients {len(owners)} entries; expected one row each, NaN "
            "where a measurement is missing"
        )
    names = list(dict.fromkeys(owners))
    place = {name: number for number, name in enumerate(names)}
    rows = np.array([place[owner] for owner in owners], dtype=int)
    if truth == "constant":
        return _constant(x, y, rows, len(names), coverage, level)
    if truth == "varies":
        return _varies(x, y, rows, len(names), coverage, level)
    raise AgreementError(f"truth is {truth!r}, expected 'constant' (e.g. two outlines of one study) or 'varies'")


# --- Private helpers ---


@dataclass(frozen=True)
class _Groups:
    """Measurements by patient: how many, their mean, and the pooled variance about it."""

    counts: Float[np.ndarray, " patients"]
    means: Float[np.ndarray, " patients"]
    within: float
    df: int


def _groups(values: np.ndarray, rows: np.ndarray, size: int) -> _Groups:
    there = ~np.isnan(values)
    counts = np.bincount(rows[there], minlength=size).astype(float)
    with np.errstate(invalid="ignore"):
        means = np.bincount(rows[there], weights=values[there], minlength=size) / counts
    squares = float(np.square(values[there] - means[rows[there]]).sum())
    squares = 0.0 if squares <= ROUNDING * float(np.square(values[there]).sum()) else squares
    df = int((counts[counts > 0] - 1).sum())
    return _Groups(counts, means, squares / df if df else math.nan, df)


def _constant(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, size: int, coverage: float, level: float
) -> ReplicateLimits:
    """Zou's estimator: variance of the patient means, made up for what averaging took away."""
    usable = (np.bincount(rows[~np.isnan(x)], minlength=size) > 0) & (
        np.bincount(rows[~np.isnan(y)], minlength=size) > 0
    )
    of_x, of_y = (_groups(np.where(usable[rows], values, np.nan), rows, size) for values in (x, y))
    n = int(usable.sum())
    _check(n, size, of_x.df + of_y.df)
    differences = of_x.means[usable] - of_y.means[usable]
    between = float(differences.var(ddof=1))
    parts = [(1.0, between, n - 1)]
    for group in (of_x, of_y):
        if group.df:
            parts.append((1 - float((1 / group.counts[usable]).mean()), group.within, group.df))
    bias = float(differences.mean())
    interval = _t(bias, math.sqrt(between / n), n, level)
    limits = _mover(bias, between / n, parts, n, coverage, level)
    return ReplicateLimits(
        estimate=bias,
        interval=interval,
        n=n,
        method="limits of agreement, replicates, constant truth (Bland-Altman 2007, Zou 2013)",
        truth="constant",
        coverage=coverage,
        sd=math.sqrt(_total(parts)),
        lower=limits[0],
        upper=limits[1],
        variance_of_means=between,
        within_first=of_x.within,
        within_second=of_y.within,
        within_differences=math.nan,
        n_first=int(of_x.counts.sum()),
        n_second=int(of_y.counts.sum()),
        n_left_out=size - n,
        note="",
    )


def _varies(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, size: int, coverage: float, level: float
) -> ReplicateLimits:
    """One-way analysis of variance of the differences; a difference is between patients plus within."""
    d = x - y
    groups = _groups(d, rows, size)
    usable = groups.counts > 0
    counts, means = groups.counts[usable], groups.means[usable]
    n, pairs = int(usable.sum()), int(counts.sum())
    _check(n, size, groups.df)
    bias = float((counts * means).sum() / pairs)
    mean_square = float((counts * (means - bias) ** 2).sum()) / (n - 1)
    repeats = (pairs**2 - float((counts**2).sum())) / ((n - 1) * pairs)  # the number of pairs, were it equal
    between = (mean_square - groups.within) / repeats
    note = ""
    if between > 0:
        parts = [(1 / repeats, mean_square, n - 1), (1 - 1 / repeats, groups.within, groups.df)]
    else:
        note = "patients differ no more than repeats do: the variance between patients is taken as zero"
        between, parts = 0.0, [(1.0, groups.within, groups.df)]
    variance = between * float((counts**2).sum()) / pairs**2 + groups.within / pairs
    limits = _mover(bias, variance, parts, n, coverage, level)
    return ReplicateLimits(
        estimate=bias,
        interval=_t(bias, math.sqrt(variance), n, level),
        n=n,
        method="limits of agreement, replicates, varying truth (Bland-Altman 1999, section 5.3)",
        truth="varies",
        coverage=coverage,
        sd=math.sqrt(_total(parts)),
        lower=limits[0],
        upper=limits[1],
        variance_of_means=between,
        within_first=math.nan,
        within_second=math.nan,
        within_differences=groups.within,
        n_first=pairs,
        n_second=pairs,
        n_left_out=size - n,
        note=note,
    )


def _check(n: int, size: int, df: int) -> None:
    if n < 2:
        raise AgreementError(f"{n} of {size} patient(s) have measurements by both, expected at least 2")
    if df == 0:
        raise AgreementError(f"none of {n} patients was measured more than once; use bland_altman for single pairs")


def _total(parts: list[tuple[float, float, int]]) -> float:
    return sum(weight * square for weight, square, _ in parts)


def _t(value: float, error: float, n: int, level: float) -> Interval:
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    return Interval(value - half, value + half, level, "t over patients")


def _mover(
    bias: float, variance: float, parts: list[tuple[float, float, int]], n: int, coverage: float, level: float
) -> tuple[Estimate, Estimate]:
    """Zou's intervals: the distances of the ends of both parts of a limit, added as if they were standard errors."""
    z, confidence = coverage_factor(coverage), float(stats.norm.ppf((1 + level) / 2))
    sd = math.sqrt(_total(parts))
    smallest, largest = (math.sqrt(end) for end in variance_sum_interval(parts, level))
    of_bias = confidence**2 * variance
    inward = math.sqrt(of_bias + z**2 * (sd - smallest) ** 2)
    outward = math.sqrt(of_bias + z**2 * (largest - sd) ** 2)
    low, high = bias - z * sd, bias + z * sd
    words = "MOVER over patients"
    return (
        Estimate(low, Interval(low - outward, low + inward, level, words), n, "lower limit"),
        Estimate(high, Interval(high - inward, high + outward, level, words), n, "upper limit"),
    )
