"""Agreement of readers on categories, corrected for chance: Cohen's and Fleiss's kappa, Gwet's AC1 and AC2.

1 is perfect agreement, 0 what chance alone would give, negative values are worse than chance. The coefficients differ
in what they call chance: kappa infers it from how often each category was used and falls toward 0 when nearly everybody
gets the same one, however well the readers agree; AC1 does not. The unit is the patient. On the pixels of an image
these coefficients only repeat Dice (kappa) or the share of background (AC1), and their intervals would be wrong.

See :mod:`mpi_unet.agreement.ratings` for what a rating may be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from mpi_unet.agreement.estimate import check_level
from mpi_unet.agreement.ratings import Category, coded
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["CategoryAgreement", "cohen_kappa", "cohen_kappa_of_table", "fleiss_kappa", "gwet_ac1"]

PERFECT = 1e-12
"""A chance agreement this close to 1 is 1: every rating is of one category."""

UNDEFINED = "every rating is of one category: chance agreement is 1, so the coefficient is 0/0 and undefined"
WIDTHLESS = "the readers agree in every patient: the interval has no width, which says nothing about other patients"


@dataclass(frozen=True)
class CategoryAgreement:
    """A chance-corrected coefficient: ``(observed - expected) / (1 - expected)``.

    ``estimate`` is NaN where it is undefined, and ``note`` says why. ``standard_error`` is that of the estimate,
    ``null_error`` that under no agreement beyond chance (NaN where it is not computed). ``n`` counts the patients with
    a rating, ``n_left_out`` those without what the coefficient needs.
    """

    estimate: float
    interval: Interval | None
    n: int
    method: str
    observed: float
    expected: float
    standard_error: float
    null_error: float
    scale: tuple[Category, ...]
    readers: int
    n_left_out: int
    note: str


def cohen_kappa(
    first: Shaped[np.ndarray, "*patients"],
    second: Shaped[np.ndarray, "*others"],
    *,
    weights: str | None = None,
    categories: Sequence[Category] | None = None,
    level: float = 0.95,
) -> CategoryAgreement:
    """Cohen's kappa of two readers, each with habits of their own; weighted for an ordered scale.

    Args:
        first: Category that the first reader gave to each patient.
        second: Category by the second reader, patients in the same order.
        weights: None counts every disagreement alike; "linear" and "quadratic" by the distance on the scale.
        categories: The whole scale in order; None takes the categories that occur, sorted.
        level: Confidence level in (0, 1).

    Returns:
        Kappa with the asymptotic interval. Patients whom one of both did not rate are left out and counted. NaN when
        all ratings are of one category.

    Raises:
        AgreementError: Lengths that differ, no patient rated by both, a rating off the scale or that is no category, or
            a level outside (0, 1).

    Source:
        Cohen 1960, Educ Psychol Meas 20(1):37-46. doi:10.1177/001316446002000104; 1968, Psychol Bull 70(4):213-220.
        doi:10.1037/h0026256; error: Fleiss, Cohen & Everitt 1969, Psychol Bull 72(5):323-327. doi:10.1037/h0028106

    Example:
        They agree on 3 of 4; each says 1 half of the time, so chance gives 1/2.

        >>> cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])).estimate
        0.5
    """
    one, two = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != two.shape:
        raise AgreementError(
            f"first has shape {one.shape}, second {two.shape}, expected one rating per patient in both; a mask is "
            "not a rating: compare masks by Dice"
        )
    both = coded(np.stack([one.astype(object), two.astype(object)], axis=1), categories)
    codes = both.codes[(both.codes >= 0).all(axis=1)]
    if not len(codes):
        raise AgreementError(f"none of {one.size} patients was rated by both readers")
    table = np.zeros((len(both.scale),) * 2)
    np.add.at(table, (codes[:, 0], codes[:, 1]), 1)
    return _cohen(table, weights, both.scale, level, one.size - len(codes))


def cohen_kappa_of_table(
    table: Shaped[np.ndarray, "*categories others"], *, weights: str | None = None, level: float = 0.95
) -> CategoryAgreement:
    """Cohen's kappa from the table of counts: rows are the first reader's categories, columns the second's.

    Raises:
        AgreementError: A table that is not square, empty, negative or not finite.

    Example:
        >>> round(cohen_kappa_of_table(np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]])).estimate, 4)
        0.4915
    """
    counts = np.asarray(table, dtype=float)
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1]
    if not square or not np.isfinite(counts).all() or (counts < 0).any() or counts.sum() == 0:
        raise AgreementError(f"table {counts.shape} must be square, of counts from 0 on, with at least one patient")
    return _cohen(counts, weights, tuple(range(len(counts))), level, 0)


def fleiss_kappa(
    ratings: Shaped[np.ndarray, "*patients readers"],
    *,
    weights: str | None = None,
    categories: Sequence[Category] | None = None,
    level: float = 0.95,
) -> CategoryAgreement:
    """Fleiss's kappa of two or more readers who are taken as interchangeable.

    Args:
        ratings: Category of each patient by each reader; missing ratings are allowed.
        weights: None, or partial credit by the distance on the scale.
        categories: The whole scale in order; None takes the categories that occur, sorted.
        level: Confidence level in (0, 1).

    Returns:
        Kappa with Gwet's interval over patients. A patient with one rating tells about chance only; one without is left
        out and counted. NaN when all ratings are of one category.

    Raises:
        AgreementError: Fewer than two readers, no patient with two ratings, a rating off the scale or that is no
            category, or a level outside (0, 1).

    Source:
        Fleiss 1971, Psychol Bull 76(5):378-382. doi:10.1037/h0031619; error and missing ratings: Gwet 2008, Br J Math
        Stat Psychol 61(1):29-48. doi:10.1348/000711006X126600

    Example:
        Three readers, four patients; they differ on the last one only.

        >>> round(fleiss_kappa(np.array([[0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 1]])).estimate, 4)
        0.6571
    """
    return _many_readers(ratings, weights, categories, level, gwet=False)


def gwet_ac1(
    ratings: Shaped[np.ndarray, "*patients readers"],
    *,
    weights: str | None = None,
    categories: Sequence[Category] | None = None,
    level: float = 0.95,
) -> CategoryAgreement:
    """Gwet's AC1 (AC2 when weighted): agreement beyond chance that keeps its meaning when one category dominates.

    Args:
        ratings: Category of each patient by each reader; missing ratings are allowed.
        weights: None for AC1; "linear" or "quadratic" for AC2 on an ordered scale.
        categories: The whole scale in order, also the categories that nobody used: their number enters the chance
            agreement. None takes the categories that occur, sorted.
        level: Confidence level in (0, 1).

    Returns:
        AC1 with Gwet's interval over patients, otherwise as :func:`fleiss_kappa`. NaN when the scale has one category.

    Raises:
        AgreementError: As :func:`fleiss_kappa`.

    Source:
        Gwet 2008, Br J Math Stat Psychol 61(1):29-48. doi:10.1348/000711006X126600

    Example:
        Both say "acceptable" (1) in 9 of 10 patients and differ in one; kappa would be -0.05.

        >>> ratings = np.array([[1, 1]] * 9 + [[1, 0]])
        >>> round(gwet_ac1(ratings).estimate, 4), round(fleiss_kappa(ratings).estimate, 4)
        (0.8895, -0.0526)
    """
    return _many_readers(ratings, weights, categories, level, gwet=True)


# --- Private helpers ---


def _cohen(
    table: Float[np.ndarray, "categories categories"],
    weights: str | None,
    scale: tuple[Category, ...],
    level: float,
    left_out: int,
) -> CategoryAgreement:
    check_level(level)
    from statsmodels.stats.inter_rater import cohens_kappa

    n, shares = int(table.sum()), table / table.sum()
    credit = _credit(len(scale), weights)
    observed = float((credit * shares).sum())
    expected = float((credit * np.outer(shares.sum(axis=1), shares.sum(axis=0))).sum())
    method = f"Cohen's kappa, {weights} weights" if weights else "Cohen's kappa"
    if 1 - expected < PERFECT:
        return CategoryAgreement(
            math.nan, None, n, method, observed, expected, math.nan, math.nan, scale, 2, left_out, UNDEFINED
        )
    with np.errstate(invalid="ignore", divide="ignore"):  # its z statistic, not used here, divides by an error of zero
        found = cohens_kappa(table, wt=weights)
    error, null = (math.sqrt(max(0.0, float(variance))) for variance in (found.var_kappa, found.var_kappa0))
    kappa, note = float(found.kappa), ""
    if 1 - observed < PERFECT:
        kappa, error, note = 1.0, 0.0, WIDTHLESS
    half = float(stats.norm.ppf((1 + level) / 2)) * error
    interval = Interval(kappa - half, kappa + half, level, "asymptotic normal over patients")
    return CategoryAgreement(kappa, interval, n, method, observed, expected, error, null, scale, 2, left_out, note)


def _many_readers(
    ratings: Shaped[np.ndarray, "*patients readers"],
    weights: str | None,
    categories: Sequence[Category] | None,
    level: float,
    *,
    gwet: bool,
) -> CategoryAgreement:
    """Both coefficients share everything but the chance agreement, and so do their linearized errors."""
    check_level(level)
    table = coded(ratings, categories)
    rated = table.counts.sum(axis=1) > 0
    counts = table.counts[rated].astype(float)
    given = counts.sum(axis=1)
    pairs = given * (given - 1)
    n, usable = len(counts), given >= 2
    if not usable.any():
        raise AgreementError(f"none of {len(rated)} patients was rated twice; agreement needs two ratings of a patient")
    size, credit = len(table.scale), _credit(len(table.scale), weights)
    agreeing = np.divide((counts * (counts @ credit - 1)).sum(axis=1), pairs, out=np.zeros(n), where=usable)
    observed = float(agreeing[usable].mean())
    shares = (counts / given[:, None]).mean(axis=0)
    if gwet and size > 1:
        factor = float(credit.sum()) / (size * (size - 1))
        expected = factor * float((shares * (1 - shares)).sum())
        chance = factor * (counts @ (1 - shares)) / given
    else:
        expected = float(shares @ credit @ shares)
        chance = (counts @ (credit @ shares)) / given
    name = ("Gwet's AC2" if weights else "Gwet's AC1") if gwet else "Fleiss's kappa"
    method = f"{name}, {weights} weights" if weights else name
    readers, left_out, scale = int(table.codes.shape[1]), int((~rated).sum()), table.scale
    if 1 - expected < PERFECT or size < 2:
        return CategoryAgreement(
            math.nan, None, n, method, observed, expected, math.nan, math.nan, scale, readers, left_out, UNDEFINED
        )
    estimate = (observed - expected) / (1 - expected)
    if n < 2:
        note = "one patient has no spread: no interval"
        return CategoryAgreement(
            estimate, None, n, method, observed, expected, math.nan, math.nan, scale, readers, left_out, note
        )
    beyond = n / int(usable.sum()) * (agreeing - expected) * usable / (1 - expected)
    parts = beyond - 2 * (1 - estimate) * (chance - expected) / (1 - expected)
    error = math.sqrt(float(np.square(parts - estimate).sum()) / (n * (n - 1)))
    note = WIDTHLESS if 1 - observed < PERFECT and error < PERFECT else ""
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    low, high = max(-1.0, estimate - half), min(1.0, estimate + half)
    interval = Interval(low, high, level, "Gwet's linearization, t over patients")
    return CategoryAgreement(
        estimate, interval, n, method, observed, expected, error, math.nan, scale, readers, left_out, note
    )


def _credit(size: int, weights: str | None) -> Float[np.ndarray, "categories categories"]:
    """1 for the same category, less the farther two lie apart on the scale."""
    if weights not in (None, "linear", "quadratic"):
        raise AgreementError(f"weights is {weights!r}, expected None, 'linear' or 'quadratic'")
    if weights is None or size < 2:
        return np.eye(size)
    place = np.arange(size)
    apart = np.abs(place[:, None] - place) / (size - 1)
    return 1 - apart if weights == "linear" else 1 - apart**2
