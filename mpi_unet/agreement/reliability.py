"""How well readers, or repeated readings, tell patients apart: reliability of a measurement such as a volume.

*Reliability* relates the spread between patients to the error of a reading, so it depends on the patients chosen: the
same readers look better on a cohort with a wide range of volumes. It therefore stands beside the limits of agreement
(:mod:`mpi_unet.agreement.limits`), never instead of them. *Absolute agreement* counts a reader who always reads higher
as disagreement, *consistency* forgives it.

Measurements come as patients x readers. A patient with a missing (NaN) reading is left out and counted in
``n_left_out``; :func:`mpi_unet.agreement.mixed.crossed_components` keeps such patients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from mpi_unet.agreement.estimate import Estimate, check_level
from mpi_unet.agreement.measurements import ROUNDING, complete_patients
from mpi_unet.errors import AgreementError, nearest
from mpi_unet.evaluation.intervals import Interval

__all__ = ["ICC_FORMS", "Icc", "Sem", "icc", "icc_forms", "sem"]

ICC_FORMS = ("ICC(1,1)", "ICC(A,1)", "ICC(C,1)", "ICC(1,k)", "ICC(A,k)", "ICC(C,k)")
"""McGraw and Wong's names; Shrout and Fleiss call A the case 2 and C the case 3."""

FEW_READERS = 5
"""Below this many readers the usual interval of ICC(A,1) promises too much when readers differ."""

SLACK = 1e-9
"""Rounding by which an estimate may lie outside of its interval."""


@dataclass(frozen=True)
class Icc:
    """One form of the intraclass correlation.

    ``estimate`` is NaN and ``interval`` None where it is undefined, and ``note`` says why. ``f``, ``df1``, ``df2`` and
    ``p_value`` test that it is zero.
    """

    estimate: float
    interval: Interval | None
    n: int
    method: str
    form: str
    readers: int
    n_left_out: int
    f: float
    df1: float
    df2: float
    p_value: float
    note: str


@dataclass(frozen=True)
class Sem:
    """Standard error of measurement, in the unit of the readings, and what follows from it.

    ``smallest_detectable_difference`` is how far two readings of one patient may lie apart at the stated level although
    nothing has changed; the form is "agreement", "consistency" or "one-way".
    """

    estimate: float
    interval: Interval | None
    n: int
    method: str
    form: str
    readers: int
    n_left_out: int
    smallest_detectable_difference: Estimate
    note: str


def icc(
    measurements: Shaped[np.ndarray, "*patients readers"],
    form: str = "ICC(A,1)",
    *,
    level: float = 0.95,
    interval: str = "satterthwaite",
    draws: int = 20_000,
    seed: int = 0,
) -> Icc:
    """Intraclass correlation: the share of the variance of readings that is due to differences between patients.

    1 is perfect reliability; about 0 says that readings of one patient are no more alike than those of two. It can be
    negative. It depends on the spread of the patients: read it beside the limits of agreement.

    Args:
        measurements: One row per patient, one column per reader, at least two of each, in any unit.
        form: One of :data:`ICC_FORMS`, or in Shrout and Fleiss's writing "ICC(2,1)", with or without "ICC". The
            default, the absolute agreement of single readings by readers drawn from a larger group, is the one to
            report; the forms ending in k are about the mean of all ``readers`` readings; those with 1 first suit
            patients who were each read by other readers.
        level: Confidence level in (0, 1).
        interval: Of the forms A: "satterthwaite" as McGraw and Wong and all tools, or "generalized", by simulation.
            The former is too narrow with few readers who differ: of 100 patients and 3 readers who differ as much as
            the rest, 95 % intervals held the truth in 82 %, the generalized ones in 95 %.
        draws: Draws of the generalized interval.
        seed: Seed of those draws.

    Returns:
        The estimate with its interval. Patients with a NaN are left out and counted. Undefined (NaN) when the readings
        do not vary at all. The interval of ICC(A,k) is the Spearman-Brown step-up of that of ICC(A,1).

    Raises:
        AgreementError: Fewer than two complete patients or two readers, an infinite reading, readings that are no
            numbers, a form or interval that does not exist, or a level outside (0, 1).

    Source:
        Shrout & Fleiss 1979, Psychol Bull 86(2):420-428. doi:10.1037/0033-2909.86.2.420; McGraw & Wong 1996, Psychol
        Methods 1(1):30-46. doi:10.1037/1082-989X.1.1.30; intervals compared: Ionan et al. 2014, BMC Med Res Methodol
        14:121. doi:10.1186/1471-2288-14-121

    Example:
        Reader B reads 1 ml more than A in each of three patients: consistent, but not in agreement. The mean squares
        are 2 between patients, 1.5 between readers and 0 for the rest, so ICC(A,1) is 2 / (2 + 2/3 * 1.5).

        >>> volumes_ml = np.array([[50.0, 51.0], [51.0, 52.0], [52.0, 53.0]])
        >>> round(icc(volumes_ml).estimate, 4), icc(volumes_ml, "ICC(C,1)").estimate
        (0.6667, 1.0)
    """
    return _forms(measurements, form, level, interval, draws, seed)[0]


def icc_forms(
    measurements: Shaped[np.ndarray, "*patients readers"],
    *,
    level: float = 0.95,
    interval: str = "satterthwaite",
    draws: int = 20_000,
    seed: int = 0,
) -> dict[str, Icc]:
    """All six forms of the intraclass correlation by name; see :func:`icc`.

    Args:
        measurements: One row per patient, one column per reader.
        level: Confidence level in (0, 1).
        interval: Of the forms A: "satterthwaite" or "generalized".
        draws: Draws of the generalized interval.
        seed: Seed of those draws.

    Example:
        >>> list(icc_forms(np.array([[1.0, 2.0], [3.0, 5.0]])))
        ['ICC(1,1)', 'ICC(A,1)', 'ICC(C,1)', 'ICC(1,k)', 'ICC(A,k)', 'ICC(C,k)']
    """
    found = _forms(measurements, None, level, interval, draws, seed)
    return {one.form: one for one in found}


def sem(
    measurements: Shaped[np.ndarray, "*patients readers"],
    form: str = "agreement",
    *,
    level: float = 0.95,
) -> Sem:
    """Standard error of measurement: by how much a single reading misses the patient's own value, in its unit.

    Unlike a reliability it does not grow with the spread of the patients.

    Args:
        measurements: One row per patient, one column per reader (or per repeated reading), at least two of each.
        form: "agreement" counts differences between readers, "consistency" leaves them out; "one-way" takes the columns
            as repeats without an order, e.g. of one reader.
        level: Confidence level in (0, 1), also of the smallest detectable difference.

    Returns:
        The estimate with its interval: chi-square of the mean square ("consistency", "one-way"), modified large sample
        of the two mean squares ("agreement": with few readers its upper end is far, as it must be). Patients with a NaN
        are left out and counted.

    Raises:
        AgreementError: As :func:`icc`, or a form that does not exist.

    Source:
        de Vet et al. 2006, J Clin Epidemiol 59(10):1033-1039. doi:10.1016/j.jclinepi.2005.10.015; Graybill & Wang 1980,
        J Am Stat Assoc 75:869-873. doi:10.1080/01621459.1980.10477565

    Example:
        Two readings of two patients, each pair 2 ml apart: the variance within is 2 ml^2.

        >>> error = sem(np.array([[50.0, 52.0], [63.0, 61.0]]), "one-way")
        >>> round(error.estimate, 4), round(error.smallest_detectable_difference.value, 2)
        (1.4142, 3.92)
    """
    check_level(level)
    values, left_out = complete_patients(measurements)
    squares = _mean_squares(values)
    n, k = squares.n, squares.k
    if form == "agreement":  # variance of the readers plus that of the rest, as a sum of the two mean squares
        parts = [(1 / n, squares.readers, k - 1), (1 - 1 / n, squares.rest, (n - 1) * (k - 1))]
    elif form == "consistency":
        parts = [(1.0, squares.rest, (n - 1) * (k - 1))]
    elif form == "one-way":
        parts = [(1.0, squares.within, n * (k - 1))]
    else:
        raise AgreementError(f"form is {form!r}, expected 'agreement', 'consistency' or 'one-way'")
    low, high = variance_sum_interval(parts, level)
    estimate = math.sqrt(sum(weight * square for weight, square, _ in parts))
    method = "modified large sample over patients and readers" if len(parts) > 1 else "chi-square over patients"
    interval = Interval(math.sqrt(low), math.sqrt(high), level, method)
    factor = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(2)
    difference = Estimate(
        factor * estimate,
        Interval(factor * interval.low, factor * interval.high, level, method),
        n,
        f"{factor:.4g} times the standard error of measurement",
    )
    note = "the readings do not differ within any patient: the interval has no width" if estimate == 0 else ""
    method = f"standard error of measurement, {form}"
    return Sem(estimate, interval, n, method, form, k, left_out, difference, note)


def variance_sum_interval(parts: list[tuple[float, float, int]], level: float) -> tuple[float, float]:
    """Interval of a sum of independent mean squares with positive weights: (weight, mean square, degrees of freedom).

    Of a single mean square it is the chi-square interval.
    """
    total = sum(weight * square for weight, square, _ in parts)
    below = above = 0.0
    for weight, square, df in parts:
        below += (weight * square * (1 - df / stats.chi2.ppf((1 + level) / 2, df))) ** 2
        above += (weight * square * (df / stats.chi2.ppf((1 - level) / 2, df) - 1)) ** 2
    return max(0.0, total - math.sqrt(below)), total + math.sqrt(above)


# --- Private helpers ---


@dataclass(frozen=True)
class _MeanSquares:
    """Two-way analysis of variance without replicates; a mean square that is mere rounding is exactly zero."""

    n: int
    k: int
    patients: float
    readers: float
    rest: float
    within: float


def _mean_squares(values: Float[np.ndarray, "patients readers"]) -> _MeanSquares:
    n, k = values.shape
    floor = ROUNDING * float(np.square(values).sum())
    centered = values - values.mean()
    rows, columns = centered.mean(axis=1, keepdims=True), centered.mean(axis=0, keepdims=True)

    def sum_of_squares(deviations: np.ndarray) -> float:
        total = float(np.square(deviations).sum())
        return 0.0 if total <= floor else total

    return _MeanSquares(
        n=n,
        k=k,
        patients=k * sum_of_squares(rows) / (n - 1),
        readers=n * sum_of_squares(columns) / (k - 1),
        rest=sum_of_squares(centered - rows - columns) / ((n - 1) * (k - 1)),
        within=sum_of_squares(centered - rows) / (n * (k - 1)),
    )


def _forms(measurements: np.ndarray, form: str | None, level: float, interval: str, draws: int, seed: int) -> list[Icc]:
    """One form, or all of them."""
    check_level(level)
    if interval not in ("satterthwaite", "generalized"):
        raise AgreementError(f"interval is {interval!r}, expected 'satterthwaite' or 'generalized'")
    values, left_out = complete_patients(measurements)
    squares = _mean_squares(values)
    wanted = ICC_FORMS if form is None else (_icc_form(form, squares.k),)
    of_a = _generalized(squares, level, draws, seed) if interval == "generalized" else None
    return [_icc(one, squares, level, left_out, of_a) for one in wanted]


def _icc_form(form: str, readers: int) -> str:
    case, _, size = form.upper().removeprefix("ICC").strip("() ").replace(" ", "").partition(",")
    case, size = {"2": "A", "3": "C"}.get(case, case), "k" if size in ("K", str(readers)) else size
    known = f"ICC({case},{size})"
    if known not in ICC_FORMS:
        raise AgreementError(f"form is {form!r}, expected one of {', '.join(ICC_FORMS)}{nearest(known, ICC_FORMS)}")
    return known


def _icc(form: str, squares: _MeanSquares, level: float, left_out: int, of_a: tuple[float, float] | None) -> Icc:
    kind, single = form[4], form.endswith("1)")
    n, k, between = squares.n, squares.k, squares.patients
    error = squares.within if kind == "1" else squares.rest
    df1, df2 = n - 1, n * (k - 1) if kind == "1" else (n - 1) * (k - 1)
    f = _quotient(between, error)
    spread = squares.readers - squares.rest if kind == "A" else 0.0
    value = _quotient(between - error, between + (k - 1) * error + k / n * spread)
    note, interval = "", None
    if math.isnan(value):
        note = "the readings do not vary, neither between patients nor between readers: nothing to be reliable about"
    elif between == 0:
        note = "the patients have the same mean: no interval"
    else:
        if error == 0 and spread == 0:
            note = "the readings of each patient are the same: the interval has no width"
        elif kind == "A" and k < FEW_READERS and of_a is None:
            note = f"of {k} readers: the interval is too narrow if they differ; interval='generalized' is not"
        if kind == "A":
            low, high = of_a or _limits_of_a(squares, value, level)
            words = "generalized" if of_a else "Satterthwaite"
        else:
            low, high = _limits_of_f(f, df1, df2, k, level)
            words = "F distribution"
        holds = of_a is not None or low - SLACK <= value <= high + SLACK
        if not single:
            low, high = _stepped_up(low, k), _stepped_up(high, k)
            words += ", stepped up by Spearman-Brown" if kind == "A" else ""
        interval = Interval(low, high, level, f"{words}, over patients" + (" and readers" if kind == "A" else ""))
        if not holds:
            interval, note = None, "below zero, where the approximation breaks down: no interval"
    if not single:
        value = _stepped_up(value, k)
        if kind == "A" and between + spread / n < 0:  # the denominator of McGraw and Wong
            value, interval = math.nan, None
            note = "the variance of the mean reading is estimated below zero: no reliability can be had"
    words = {"1": "one-way random", "A": "two-way random, absolute agreement", "C": "two-way, consistency"}[kind]
    return Icc(
        estimate=float(value),
        interval=interval,
        n=n,
        method=f"{form}, {words}, {'single readings' if single else f'mean of {k} readings'}",
        form=form,
        readers=k,
        n_left_out=left_out,
        f=f,
        df1=float(df1),
        df2=float(df2),
        p_value=float(stats.f.sf(f, df1, df2)),
        note=note,
    )


def _limits_of_f(f: float, df1: float, df2: float, k: int, level: float) -> tuple[float, float]:
    if math.isinf(f):
        return 1.0, 1.0
    low = f / float(stats.f.ppf((1 + level) / 2, df1, df2))
    high = f * float(stats.f.ppf((1 + level) / 2, df2, df1))
    return (low - 1) / (low + k - 1), (high - 1) / (high + k - 1)


def _limits_of_a(squares: _MeanSquares, value: float, level: float) -> tuple[float, float]:
    if value == 1:
        return 1.0, 1.0
    n, k, between, readers, rest = squares.n, squares.k, squares.patients, squares.readers, squares.rest
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    v = (a * readers + b * rest) ** 2 / ((a * readers) ** 2 / (k - 1) + (b * rest) ** 2 / ((n - 1) * (k - 1)))
    below, above = float(stats.f.ppf((1 + level) / 2, n - 1, v)), float(stats.f.ppf((1 + level) / 2, v, n - 1))
    others = k * readers + (k * n - k - n) * rest
    low = n * (between / below - rest) / (others + n * between / below)  # divided, since this quantile may be infinite
    high = n * (above * between - rest) / (others + n * above * between) if math.isfinite(above) else 1.0
    return low, high


def _generalized(squares: _MeanSquares, level: float, draws: int, seed: int) -> tuple[float, float]:
    """Quantiles of ICC(A,1) over the variances that could have given these mean squares."""
    n, k = squares.n, squares.k
    rng = np.random.default_rng(seed)
    parts = ((squares.patients, n - 1), (squares.readers, k - 1), (squares.rest, (n - 1) * (k - 1)))
    between, readers, rest = (square * df / rng.chisquare(df, draws) for square, df in parts)
    of_patients, of_readers = np.maximum(0.0, (between - rest) / k), np.maximum(0.0, (readers - rest) / n)
    whole = of_patients + of_readers + rest
    shares = np.divide(of_patients, whole, out=np.full(draws, np.nan), where=whole > 0)
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _stepped_up(single: float, k: int) -> float:
    """Spearman-Brown: reliability of the mean of ``k`` readings from that of one."""
    whole = 1 + (k - 1) * single
    return -math.inf if whole <= 0 else k * single / whole  # NaN stays NaN


def _quotient(part: float, whole: float) -> float:
    if whole != 0:
        return part / whole
    return math.nan if part == 0 else math.copysign(math.inf, part)
