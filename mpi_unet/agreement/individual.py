"""Does a network differ from a reader more than the reader differs from himself? Individual agreement.

It needs a second, blinded read of the same patients by at least one reader. The *disagreement* of two readings is their
squared difference. *psi_R* divides the disagreement of the reference reader with himself by that with the other method;
*psi_N* does so without a reference. Near 1, the method could take the reader's place in a single patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from jaxtyping import Real

from mpi_unet.agreement.estimate import Estimate, check_level
from mpi_unet.agreement.panel_scores import row_means
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import DRAWS_AT_ONCE, Interval

__all__ = ["GOOD_PSI", "IndividualEquivalence", "individual_equivalence"]

GOOD_PSI = 0.8
"""From here on Barnhart and co-workers call the agreement of individuals good."""


@dataclass(frozen=True)
class IndividualEquivalence:
    """Coefficients of individual agreement.

    ``psi_n`` treats all methods alike and is None unless each was repeated; ``psi_r`` compares the methods that are not
    the reference with it and is None without a reference. ``intra`` is the mean squared difference between repeats of
    each method (NaN where it was not repeated), ``inter`` that between methods, in the squared unit of the readings.
    ``extra_disagreement`` is what the last method adds: its mean disagreement with the others, minus theirs with one
    another (two other methods or more).
    """

    psi_n: Estimate | None
    psi_r: Estimate | None
    intra: tuple[float, ...]
    inter: tuple[tuple[float, ...], ...]
    extra_disagreement: float | None
    n: int
    n_left_out: int
    method: str


def individual_equivalence(
    readings: Real[np.ndarray, "patients methods replicates"],
    *,
    reference: int | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> IndividualEquivalence:
    """Compare how much methods differ from each other with how much each differs from itself when repeated.

    Args:
        readings: A measurement such as a volume, per patient, method (reader or network) and replicate; NaN where there
            is no such replicate.
        reference: The method that is the reference, which must have been repeated; None for none.
        level: Confidence level in (0, 1).
        resamples: Resamples of patients.
        seed: Seed; the same seed gives the same intervals.

    Returns:
        The coefficients over patients with a reading by every method and two by each method that was repeated at all;
        ``n_left_out`` counts the others. The interval is bootstrap-t of the logarithm over patients; there is none
        where a coefficient is 0 or infinite, or an end would be. A coefficient of readings that never differ is NaN.

    Raises:
        AgreementError: Fewer than two methods, a reference that is none of them or was not repeated, no patient with
            all readings that are needed, an infinite reading, or a level outside (0, 1).

    Source:
        Barnhart, Kosinski & Haber 2007, J Biopharm Stat 17(4):697-719. doi:10.1080/10543400701329489

    Example:
        The reference repeats within 1, the other method is 2 or 3 away from its reads: 1 / mean(4, 9, 9, 4).

        >>> readings = np.array([[[10.0, 11.0], [13.0, np.nan]], [[20.0, 21.0], [23.0, np.nan]]])
        >>> round(individual_equivalence(readings, reference=0).psi_r.value, 6)
        0.153846
    """
    check_level(level)
    repeated = _repeated(readings)
    num_methods = readings.shape[1]
    _check(readings, repeated, reference)
    reads = np.isfinite(readings).sum(axis=2)
    kept = (reads >= np.where(repeated, 2, 1)).all(axis=1)
    if not kept.any():
        raise AgreementError(
            f"none of {len(readings)} patients has a reading by each method and two by each repeated one; "
            "pass the methods that were read in the same patients"
        )
    used = readings[kept]
    intra = np.stack([_within(used[:, method]) for method in range(num_methods)], axis=1)
    inter = np.full((len(used), num_methods, num_methods), np.nan)
    for one, other in combinations(range(num_methods), 2):
        inter[:, one, other] = inter[:, other, one] = _between(used[:, one], used[:, other])
    pairs = np.triu_indices(num_methods, 1)
    psi_n = psi_r = None
    if repeated.all():
        psi_n = _ratio(intra.mean(axis=1), inter[:, *pairs].mean(axis=1), level, resamples, seed)
    if reference is not None:
        psi_r = _ratio(intra[:, reference], row_means(inter[:, reference]), level, resamples, seed)
    extra = None
    if num_methods > 2:
        among = inter[:, :-1, :-1][:, *np.triu_indices(num_methods - 1, 1)]
        extra = float(row_means(inter[:, -1]).mean() - among.mean())
    return IndividualEquivalence(
        psi_n,
        psi_r,
        tuple(float(value) for value in intra.mean(axis=0)),
        tuple(tuple(float(value) for value in row) for row in inter.mean(axis=0)),
        extra,
        n=len(used),
        n_left_out=int((~kept).sum()),
        method="ratio of mean squared differences, all pairs of replicates",
    )


# --- Private helpers ---


def _repeated(readings: np.ndarray) -> np.ndarray:
    return (np.isfinite(readings).sum(axis=2) >= 2).any(axis=0)


def _check(readings: np.ndarray, repeated: np.ndarray, reference: int | None) -> None:
    if readings.shape[1] < 2:
        raise AgreementError(f"readings holds {readings.shape[1]} method(s), expected at least 2")
    if np.isinf(readings).any():
        raise AgreementError(f"{int(np.isinf(readings).sum())} readings are infinite; expected finite ones, or NaN")
    if reference is not None and not 0 <= reference < readings.shape[1]:
        raise AgreementError(f"reference is {reference}, expected one of the methods 0..{readings.shape[1] - 1}")
    if not repeated.any() or (reference is not None and not repeated[reference]):
        who = "every method" if reference is None else f"the reference, method {reference},"
        raise AgreementError(
            f"{who} was read once; individual agreement needs a second, blinded read of the same patients"
        )


def _within(values: np.ndarray) -> np.ndarray:
    """Per patient the mean squared difference of all pairs of replicates; NaN with fewer than two."""
    if values.shape[1] < 2:
        return np.full(len(values), np.nan)
    return row_means(
        np.stack(
            [(values[:, one] - values[:, other]) ** 2 for one, other in combinations(range(values.shape[1]), 2)], 1
        )
    )


def _between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    every = product(range(first.shape[1]), range(second.shape[1]))
    return row_means(np.stack([(first[:, one] - second[:, other]) ** 2 for one, other in every], axis=1))


def _ratio(top: np.ndarray, bottom: np.ndarray, level: float, resamples: int, seed: int) -> Estimate:
    """Ratio of two means over patients, bootstrap-t of its logarithm."""
    method = "ratio of means over patients"
    n = top.size
    if bottom.mean() == 0:
        return Estimate(float("nan") if top.mean() == 0 else float("inf"), None, n, method)
    value = float(top.mean() / bottom.mean())
    residuals = top / top.mean() - bottom / bottom.mean() if value > 0 else np.zeros(n)
    error = float(residuals.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    if n < 3 or value <= 0:
        return Estimate(value, None, n, method)
    if error <= np.finfo(float).eps:
        return Estimate(value, Interval(value, value, level, "bootstrap-t of the logarithm over patients"), n, method)
    t = _log_ratio_statistics(top / top.mean(), bottom / bottom.mean(), resamples, seed)
    high, low = np.quantile(t, [(1 + level) / 2, (1 - level) / 2])
    with np.errstate(over="ignore"):
        ends = value * np.exp([-high * error, -low * error])
    if not np.isfinite(ends).all():
        return Estimate(value, None, n, f"{method}; too few patients for an interval")
    interval = Interval(float(ends[0]), float(ends[1]), level, "bootstrap-t of the logarithm over patients")
    return Estimate(value, interval, n, method)


def _log_ratio_statistics(top: np.ndarray, bottom: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Studentized logarithms of the ratio in resamples of patients; both means are 1, so the logarithm is 0."""
    n = top.size
    moments = np.column_stack([top, bottom, top**2, bottom**2, top * bottom]) / n
    rng = np.random.default_rng(seed)
    drawn = []
    step = max(1, DRAWS_AT_ONCE // n)
    for start in range(0, resamples, step):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - start))
        a, b, aa, bb, ab = (weights @ moments).T
        sound = (a > 0) & (b > 0)
        a, b, aa, bb, ab = (each[sound] for each in (a, b, aa, bb, ab))
        variance = (aa / a**2 + bb / b**2 - 2 * ab / (a * b)) / (n - 1)  # of the mean of top/a - bottom/b
        spread = variance > np.finfo(float).eps
        drawn.append(np.log(a[spread] / b[spread]) / np.sqrt(variance[spread]))
    return np.concatenate(drawn)
