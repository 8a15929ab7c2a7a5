"""Krippendorff's alpha: one agreement coefficient for any number of readers, any scale, and missing ratings.

It compares the *observed disagreement* within patients with that *expected* of ratings drawn from all of them. What
counts as disagreement depends on the *metric*: "nominal" (same or not), "ordinal" (ratings in between), "interval"
(squared difference), "ratio" (squared difference relative to the sum).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from mpi_unet.agreement.estimate import check_level
from mpi_unet.agreement.measurements import as_numbers
from mpi_unet.agreement.ratings import MISSING, Category, coded
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["KrippendorffAlpha", "krippendorff_alpha"]

METRICS = ("nominal", "ordinal", "interval", "ratio")

CELLS_AT_ONCE = 2_000_000
"""Pairs of values compared in one step on the ratio metric, which bounds the memory."""


@dataclass(frozen=True)
class KrippendorffAlpha:
    """Alpha, ``1 - observed / expected`` disagreement.

    ``estimate`` is NaN where it is undefined, and ``note`` says why. ``n`` counts the patients with two ratings or
    more; ``n_left_out`` the others, who tell nothing about agreement.
    """

    estimate: float
    interval: Interval | None
    n: int
    method: str
    metric: str
    observed_disagreement: float
    expected_disagreement: float
    num_ratings: int
    readers: int
    n_left_out: int
    note: str


def krippendorff_alpha(
    ratings: Shaped[np.ndarray, "*patients readers"],
    metric: str = "nominal",
    *,
    categories: Sequence[Category] | None = None,
    level: float = 0.95,
) -> KrippendorffAlpha:
    """Krippendorff's alpha of two or more readers; missing ratings are allowed.

    1 is perfect agreement, 0 what chance would give, negative values are worse than chance.

    Args:
        ratings: Rating of each patient by each reader, NaN, None or "" where missing. Categories for "nominal" and
            "ordinal", numbers for "interval" and "ratio".
        metric: What counts as disagreement.
        categories: The scale in order, needed for "ordinal" when categories are words. Unused ones change nothing.
        level: Confidence level in (0, 1).

    Returns:
        Alpha with the interval of the delete-one-patient jackknife (t over patients). NaN when all ratings are the
        same: there is no disagreement to expect. No interval with fewer than three patients.

    Raises:
        AgreementError: Fewer than two readers, no patient with two ratings, ratings that do not fit the metric
            (negative ones for "ratio"), a metric that does not exist, or a level outside (0, 1).

    Source:
        Hayes & Krippendorff 2007, Communication Methods and Measures 1(1):77-89. doi:10.1080/19312450709336664

    Example:
        Two readers, ratings 0 0 | 1 1 | 0 1: observed disagreement 1/3, expected 2 * 3 * 3 / (6 * 5).

        >>> round(krippendorff_alpha(np.array([[0, 0], [1, 1], [0, 1]])).estimate, 4)
        0.4444
    """
    check_level(level)
    if metric not in METRICS:
        raise AgreementError(f"metric is {metric!r}, expected one of {', '.join(map(repr, METRICS))}")
    values = _values(ratings, metric, categories)
    pairable = (~np.isnan(values)).sum(axis=1) >= 2
    kept, left_out, readers = values[pairable], int((~pairable).sum()), int(values.shape[1])
    if not len(kept):
        raise AgreementError(
            f"none of {len(values)} patients was rated twice; agreement needs two ratings of a patient"
        )
    sums = _sums(kept, metric)
    method = f"Krippendorff's alpha, {metric} metric"
    total = int(sums.given.sum())
    observed = float((sums.within / (sums.given - 1)).sum() / total)
    expected = float(sums.across.sum() / (total * (total - 1)))
    if expected <= 0:
        note = "all ratings are the same: no disagreement is expected, so alpha is 0/0 and undefined"
        return KrippendorffAlpha(
            math.nan, None, len(kept), method, metric, observed, expected, total, readers, left_out, note
        )
    alpha = 1 - observed / expected
    interval, note = _interval(kept, metric, sums, alpha, level)
    return KrippendorffAlpha(
        alpha, interval, len(kept), method, metric, observed, expected, total, readers, left_out, note
    )


# --- Private helpers ---


@dataclass(frozen=True, eq=False)
class _Sums:
    """Per patient: ratings, disagreement of the pairs within, and of its ratings with those of everybody."""

    given: Float[np.ndarray, " patients"]
    within: Float[np.ndarray, " patients"]
    across: Float[np.ndarray, " patients"]


def _values(
    ratings: np.ndarray, metric: str, categories: Sequence[Category] | None
) -> Float[np.ndarray, "patients readers"]:
    ranked = metric == "ordinal" and categories is None and np.asarray(ratings).dtype.kind in "biuf"
    if metric in ("nominal", "ordinal") and not ranked:  # numbers have an order, also those between whole ones
        table = coded(ratings, categories)
        if metric == "ordinal" and categories is None and any(isinstance(category, str) for category in table.scale):
            raise AgreementError(
                f"the categories {', '.join(map(repr, table.scale))} are words, whose order is unknown; pass the scale "
                "in order as categories="
            )
        return np.where(table.codes == MISSING, np.nan, table.codes.astype(float))
    values = as_numbers(ratings, "ratings")
    if values.ndim != 2 or values.shape[1] < 2:
        raise AgreementError(f"ratings has shape {values.shape}, expected (patients, readers) with at least 2 readers")
    if metric == "ratio" and (values < 0).any():
        raise AgreementError(
            f"{int((values < 0).sum())} ratings are negative (smallest {np.nanmin(values):g}), but the ratio metric "
            "needs a true zero; use metric='interval'"
        )
    return values


def _sums(values: np.ndarray, metric: str) -> _Sums:
    given = (~np.isnan(values)).sum(axis=1).astype(float)
    if metric == "ordinal":  # squared differences of the mean ranks are the ordinal metric
        values = stats.rankdata(values, nan_policy="omit").reshape(values.shape)
    if metric in ("ordinal", "interval"):
        centered = values - np.nanmean(values)
        if np.nanmax(values) == np.nanmin(values):
            centered = np.where(np.isnan(values), np.nan, 0.0)  # a mean of equal numbers may miss them in the last bit
        squares, total = np.nansum(centered**2, axis=1), np.nansum(centered, axis=1)
        within = 2 * (given * squares - total**2)
        across = given.sum() * squares - 2 * total * total.sum() + given * squares.sum()
        return _Sums(given, np.maximum(within, 0.0), across)
    levels, place = np.unique(values[~np.isnan(values)], return_inverse=True)
    counts = np.bincount(place).astype(float)
    rows = np.full(values.shape, np.nan)
    if metric == "nominal":
        rows[~np.isnan(values)] = (counts.sum() - counts)[place]
        of_patient = np.stack([(values == level).sum(axis=1) for level in levels], axis=1).astype(float)
        return _Sums(given, given**2 - (of_patient**2).sum(axis=1), np.nansum(rows, axis=1))
    rows[~np.isnan(values)] = _ratio_rows(levels, counts)[place]
    within = np.nansum(_ratio_distance(values[:, :, None], values[:, None, :]), axis=(1, 2))
    return _Sums(given, within, np.nansum(rows, axis=1))


def _ratio_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    whole = one + other
    return np.square(np.divide(one - other, whole, out=np.zeros_like(whole), where=whole > 0))


def _ratio_rows(levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    step = max(1, CELLS_AT_ONCE // levels.size)
    parts = [
        _ratio_distance(levels[start : start + step, None], levels[None, :]) @ counts
        for start in range(0, levels.size, step)
    ]
    return np.concatenate(parts)


def _interval(values: np.ndarray, metric: str, sums: _Sums, alpha: float, level: float) -> tuple[Interval | None, str]:
    n = len(values)
    if n < 3:
        return None, f"{n} patient(s) rated twice: too few for an interval"
    without = _without_ordinal(values) if metric == "ordinal" else _without_each(sums)
    if np.isnan(without).any():
        return None, "without one of the patients all ratings are the same: no interval"
    pseudo = n * alpha - (n - 1) * without
    error = float(pseudo.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    note = "the readers agree in every patient: the interval has no width" if sums.within.sum() == 0 else ""
    high = min(1.0, alpha + half)
    return Interval(max(-1.0, alpha - half), high, level, "jackknife, t over patients"), note


def _without_each(sums: _Sums) -> Float[np.ndarray, " patients"]:
    """Alpha without each patient in turn, from sums of pairs: those of the patient with others go twice."""
    parts = sums.within / (sums.given - 1)
    total = sums.given.sum() - sums.given
    across = sums.across.sum() - 2 * sums.across + sums.within
    across = np.where(across <= 1e-12 * sums.across.sum(), np.nan, across)
    return 1 - (total - 1) * (parts.sum() - parts) / across


def _without_ordinal(values: np.ndarray) -> Float[np.ndarray, " patients"]:
    """The same on the ordinal metric, where ranks change with every patient who is left out."""
    found = np.full(len(values), np.nan)
    for patient in range(len(values)):
        sums = _sums(np.delete(values, patient, axis=0), "ordinal")
        total, across = sums.given.sum(), sums.across.sum()
        if across > 0:
            found[patient] = 1 - (total - 1) * (sums.within / (sums.given - 1)).sum() / across
    return found
