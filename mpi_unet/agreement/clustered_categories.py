"""Agreement on categories where a patient has several: 17 segments each, or rest and stress.

The categories of one patient resemble one another, so intervals that count each of them as a patient are too narrow.
Here the coefficients are the usual ones over all rows (see :mod:`mpi_unet.agreement.categories` and
:mod:`mpi_unet.agreement.krippendorff`), and the intervals come from leaving out each patient with all rows in turn.
With one row per patient use those functions; theirs are the intervals in the literature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import stats

from mpi_unet.agreement.categories import PERFECT, UNDEFINED
from mpi_unet.agreement.estimate import check_level
from mpi_unet.agreement.ratings import Category, coded
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["ClusteredAgreement", "clustered_agreement"]

MIN_PATIENTS = 3
"""Leaving out one of two patients leaves one, which has no spread."""


@dataclass(frozen=True)
class ClusteredAgreement:
    """A coefficient over the rows of ``n`` patients; NaN where it is undefined, and ``note`` says why.

    ``rows`` counts the rows with two ratings or more, ``n`` the patients who have one.
    """

    estimate: float
    interval: Interval | None
    n: int
    rows: int
    method: str
    note: str


def clustered_agreement(
    ratings: Shaped[np.ndarray, "*cells readers"],
    patients: Sequence[Hashable] | Shaped[np.ndarray, " rows"],
    coefficient: str,
    *,
    weights: str | None = None,
    categories: Sequence[Category] | None = None,
    level: float = 0.95,
) -> ClusteredAgreement:
    """One coefficient of agreement on categories with an interval over patients, each with one or more rows.

    Args:
        ratings: Category of each row (e.g. segment of a patient) by each reader; missing ratings are allowed, except
            that "cohen" and "observed" of two readers use the rows that both rated.
        patients: The patient of each row.
        coefficient: "cohen" (two readers), "fleiss", "gwet" (AC1; AC2 with weights), "krippendorff", or "observed", the
            share of agreeing pairs (with weights, their credit).
        weights: None, "linear" or "quadratic" partial credit on an ordered scale. Krippendorff's alpha then uses the
            ordinal metric, whichever is named.
        categories: The whole scale in order; None takes the categories that occur, sorted.
        level: Confidence level in (0, 1).

    Returns:
        The coefficient over all rows, with the interval of the delete-one-patient jackknife (t over patients). NaN when
        every rating is of one category; no interval with fewer than three patients.

    Raises:
        AgreementError: A coefficient or weights that do not exist, three readers for "cohen", patients that do not fit
            the rows, no row rated twice, or ratings as for :func:`mpi_unet.agreement.fleiss_kappa`.

    Source:
        Jackknife over clusters: Efron & Stein 1981, Ann Stat 9(3):586-596. doi:10.1214/aos/1176345462; why
        kappa of clustered data needs it: Kang et al. 2013, Stat Med 32(21):3700-3719. doi:10.1002/sim.5796

    Example:
        Two segments of three patients; the readers differ in one of six, each says 1 half of the time.

        >>> ratings = np.array([[0, 0], [1, 1], [0, 0], [1, 1], [0, 1], [1, 0]])
        >>> found = clustered_agreement(ratings, ["P1", "P1", "P2", "P2", "P3", "P3"], "cohen")
        >>> round(found.estimate, 4), found.n, found.rows
        (0.3333, 3, 6)
    """
    check_level(level)
    if coefficient not in _NAMES:
        raise AgreementError(f"coefficient is {coefficient!r}, expected one of {', '.join(map(repr, _NAMES))}")
    if weights not in (None, "linear", "quadratic"):
        raise AgreementError(f"weights is {weights!r}, expected None, 'linear' or 'quadratic'")
    table = coded(ratings, categories)
    owners = list(patients)
    if len(owners) != len(table.codes):
        raise AgreementError(
            f"patients has {len(owners)} entries for {len(table.codes)} rows; name the patient of each"
        )
    if coefficient == "cohen" and table.codes.shape[1] != 2:
        raise AgreementError(
            f"ratings has {table.codes.shape[1]} readers, expected 2 for Cohen's kappa; use 'fleiss' for more"
        )
    usable = (table.codes >= 0).sum(axis=1) >= 2
    if not usable.any():
        raise AgreementError(f"none of {len(usable)} rows was rated twice; agreement needs two ratings of a row")
    names = {name: place for place, name in enumerate(dict.fromkeys(owners))}
    rows = np.array([names[owner] for owner in owners], dtype=int)
    sums = _SUMS[coefficient](table.codes, rows, len(names), len(table.scale), weights)
    total = sums.sum(axis=0)
    estimate = float(_value(coefficient, total[None], len(table.scale), weights)[0])
    counted = np.unique(rows[usable])
    n, num_rows = int(counted.size), int(usable.sum())
    name = _name(coefficient, weights)
    if math.isnan(estimate):
        return ClusteredAgreement(estimate, None, n, num_rows, name, UNDEFINED)
    if n < MIN_PATIENTS:
        note = f"{n} patient(s): too few for an interval"
        return ClusteredAgreement(estimate, None, n, num_rows, name, note)
    there = np.unique(rows[(table.codes >= 0).any(axis=1)])
    without = _value(coefficient, total - sums[there], len(table.scale), weights)
    if np.isnan(without).any():
        note = "without one of the patients all ratings are of one category: no interval"
        return ClusteredAgreement(estimate, None, n, num_rows, name, note)
    size = len(there)
    pseudo = size * estimate - (size - 1) * without
    half = float(stats.t.ppf((1 + level) / 2, size - 1)) * float(pseudo.std(ddof=1)) / math.sqrt(size)
    lowest = 0.0 if coefficient == "observed" else -1.0
    low, high = max(lowest, estimate - half), min(1.0, estimate + half)
    note = "the readers agree in every row: the interval has no width" if abs(1 - estimate) < PERFECT else ""
    interval = Interval(low, high, level, "delete-one-patient jackknife, t over patients")
    return ClusteredAgreement(estimate, interval, n, num_rows, name, note)


# --- Private helpers ---
# Every coefficient is a function of sums over rows, so that leaving out a patient is a subtraction.

_NAMES = {
    "cohen": "Cohen's kappa",
    "fleiss": "Fleiss's kappa",
    "gwet": "Gwet's AC1",
    "krippendorff": "Krippendorff's alpha",
    "observed": "share of agreeing pairs",
}


def _name(coefficient: str, weights: str | None) -> str:
    if coefficient == "krippendorff":
        return f"{_NAMES[coefficient]}, {'ordinal' if weights else 'nominal'} metric"
    name = "Gwet's AC2" if coefficient == "gwet" and weights else _NAMES[coefficient]
    return f"{name}, {weights} weights" if weights else name


def _credit(size: int, weights: str | None) -> Float[np.ndarray, "categories categories"]:
    place = np.arange(size)
    apart = np.abs(place[:, None] - place) / max(size - 1, 1)
    if weights is None:
        return np.eye(size)
    return 1 - apart if weights == "linear" else 1 - apart**2


def _per_patient(
    values: Float[np.ndarray, "rows cells"], rows: Int[np.ndarray, " rows"], size: int
) -> Float[np.ndarray, "patients cells"]:
    sums = np.zeros((size, values.shape[1]))
    np.add.at(sums, rows, values)
    return sums


def _crosstab(
    codes: np.ndarray, rows: np.ndarray, num_patients: int, size: int, weights: str | None
) -> Float[np.ndarray, "patients cells"]:
    """Per patient, how often each pair of categories was given by the two readers."""
    both = (codes >= 0).all(axis=1)
    cells = np.zeros((len(codes), size * size))
    cells[np.flatnonzero(both), codes[both, 0] * size + codes[both, 1]] = 1
    return _per_patient(cells, rows, num_patients)


def _pair_shares(
    codes: np.ndarray, rows: np.ndarray, num_patients: int, size: int, weights: str | None
) -> Float[np.ndarray, "patients cells"]:
    """Per patient: agreeing share of the pairs of a row, rows with pairs, rows with a rating, shares of categories."""
    counts = np.stack([(codes == place).sum(axis=1) for place in range(size)], axis=1).astype(float)
    given = counts.sum(axis=1)
    pairs, rated, usable = given * (given - 1), given > 0, given >= 2
    agreeing = np.divide(
        (counts * (counts @ _credit(size, weights) - 1)).sum(axis=1), pairs, out=np.zeros(len(counts)), where=usable
    )
    shares = np.divide(counts, given[:, None], out=np.zeros_like(counts), where=rated[:, None])
    parts = np.column_stack([agreeing, usable, rated, shares])
    return _per_patient(parts, rows, num_patients)


def _coincidences(
    codes: np.ndarray, rows: np.ndarray, num_patients: int, size: int, weights: str | None
) -> Float[np.ndarray, "patients cells"]:
    """Per patient Krippendorff's coincidences: the ordered pairs of each row, over its ratings less one."""
    counts = np.stack([(codes == place).sum(axis=1) for place in range(size)], axis=1).astype(float)
    given = counts.sum(axis=1)
    usable = given >= 2
    cells = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(size)
    cells = np.where(usable[:, None, None], cells / np.maximum(given - 1, 1)[:, None, None], 0.0)
    return _per_patient(cells.reshape(len(codes), -1), rows, num_patients)


_SUMS: dict[str, Callable[..., Float[np.ndarray, "patients cells"]]] = {
    "cohen": _crosstab,
    "observed": _pair_shares,
    "fleiss": _pair_shares,
    "gwet": _pair_shares,
    "krippendorff": _coincidences,
}


def _value(
    coefficient: str, sums: Float[np.ndarray, "several cells"], size: int, weights: str | None
) -> Float[np.ndarray, " several"]:
    """The coefficient of several sets of sums; NaN where chance alone would agree."""
    if coefficient == "krippendorff":
        return _alpha(sums.reshape(-1, size, size), ordered=weights is not None)
    credit = _credit(size, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        if coefficient == "cohen":
            tables = sums.reshape(-1, size, size)
            shares = tables / tables.sum(axis=(1, 2), keepdims=True)
            observed = (shares * credit).sum(axis=(1, 2))
            expected = np.einsum("ni,ij,nj->n", shares.sum(axis=2), credit, shares.sum(axis=1))
        else:
            observed, shares = sums[:, 0] / sums[:, 1], sums[:, 3:] / sums[:, 2:3]
            if coefficient == "observed":
                return observed
            if coefficient == "gwet" and size > 1:
                expected = credit.sum() / (size * (size - 1)) * (shares * (1 - shares)).sum(axis=1)
            else:
                expected = np.einsum("ni,ij,nj->n", shares, credit, shares)
        return np.where((1 - expected < PERFECT) | (size < 2), np.nan, (observed - expected) / (1 - expected))


def _alpha(tables: Float[np.ndarray, "several c c"], *, ordered: bool) -> Float[np.ndarray, " several"]:
    size = tables.shape[1]
    marginal = tables.sum(axis=2)
    if ordered:  # the squared distance of mean ranks, which depends on how often each category was given
        rank = np.cumsum(marginal, axis=1) - marginal / 2
        distance = np.square(rank[:, :, None] - rank[:, None, :])
    else:
        distance = np.broadcast_to(1 - np.eye(size), tables.shape)
    total = marginal.sum(axis=1)
    observed = (tables * distance).sum(axis=(1, 2))
    expected = np.einsum("ni,nij,nj->n", marginal, distance, marginal)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan)
