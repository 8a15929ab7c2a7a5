"""Two yes-or-no results of the same patients compared: McNemar's test, and its forms for several regions per patient.

Example: is the outline acceptable, by network and by reader? Regions, segments or pixels of one patient resemble one
another; a test that takes each for an independent observation finds differences that are not there (on pixels in more
than half of the studies). *Clustered* tests count patients, not regions. A large p-value is no evidence of equality:
read the interval of the difference.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from mpi_unet.agreement.estimate import check_level
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["McNemar", "clustered_mcnemar", "clustered_mcnemar_of_counts", "mcnemar", "mcnemar_of_table"]

MANY_PATIENTS = 10_000
"""More rows than this are hardly patients; a warning asks whether they are pixels."""


@dataclass(frozen=True)
class McNemar:
    """Test of two proportions on the same patients.

    ``estimate`` is the share with "yes" by the first less that by the second. ``only_first`` and ``only_second`` count
    the discordant regions (patients, where each has one). ``statistic`` is chi-square with one degree of freedom, NaN
    for the exact test.
    """

    estimate: float
    interval: Interval | None
    n: int
    method: str
    statistic: float
    p_value: float
    only_first: int
    only_second: int
    num_regions: int
    note: str


def mcnemar(
    first: Shaped[np.ndarray, "*patients"],
    second: Shaped[np.ndarray, "*others"],
    *,
    method: str = "exact",
    level: float = 0.95,
) -> McNemar:
    """McNemar's test of a yes-or-no result per patient, e.g. outline acceptable, by two readers or methods.

    One value per patient: for several regions per patient use :func:`clustered_mcnemar`, for masks neither.

    Args:
        first: Bool, or 0 and 1, one per patient.
        second: The same by the second, patients in the same order.
        method: "exact" binomial, chi-square "corrected" for continuity, or "plain" chi-square.
        level: Confidence level of the interval of the difference (Wald), in (0, 1).

    Raises:
        AgreementError: Values other than yes and no, lengths that differ, or more than one axis (a mask).

    Warns:
        UserWarning: More than 10,000 rows, which look like pixels.

    Source:
        McNemar 1947, Psychometrika 12(2):153-157. doi:10.1007/BF02295996

    Example:
        Of 6 patients, 5 are acceptable only in the second; 2 * (1/2)^5.

        >>> test = mcnemar(np.array([0, 0, 0, 0, 0, 1]), np.array([1, 1, 1, 1, 1, 1]))
        >>> round(test.p_value, 4), round(test.estimate, 4)
        (0.0625, -0.8333)
    """
    x, y = _yes_no(first, "first"), _yes_no(second, "second")
    _check_lengths(x, y)
    table = [[int((x & y).sum()), int((x & ~y).sum())], [int((~x & y).sum()), int((~x & ~y).sum())]]
    return mcnemar_of_table(np.array(table), method=method, level=level)


def mcnemar_of_table(
    table: Shaped[np.ndarray, "*rows columns"],
    *,
    method: str = "exact",
    level: float = 0.95,
) -> McNemar:
    """McNemar's test from the table of patients: rows are the first (yes, no), columns the second.

    Raises:
        AgreementError: A table that is not 2 x 2 of whole numbers from 0 on, is empty, or a method that does not exist.

    Warns:
        UserWarning: More than 10,000 patients, which look like pixels.

    Example:
        >>> test = mcnemar_of_table(np.array([[794, 150], [86, 570]]), method="corrected")
        >>> round(test.statistic, 4)
        16.8178
    """
    check_level(level)
    counts = _counts(table, (2, 2))
    n, b, c = int(counts.sum()), int(counts[0, 1]), int(counts[1, 0])
    if n == 0:
        raise AgreementError("table holds no patients")
    if n > MANY_PATIENTS:
        warnings.warn(
            f"McNemar's test of {n} patients: are these pixels or regions? They are not independent of one another, "
            "and the p-value would be wrong; use clustered_mcnemar, with the patient of each",
            stacklevel=2,
        )
    if method not in ("exact", "corrected", "plain"):
        raise AgreementError(f"method is {method!r}, expected 'exact', 'corrected' or 'plain'")
    from statsmodels.stats.contingency_tables import mcnemar as test

    statistic, p_value = math.nan, 1.0
    if b + c:
        found = test(counts, exact=method == "exact", correction=method == "corrected")
        p_value = min(1.0, float(found.pvalue))
        statistic = math.nan if method == "exact" else float(found.statistic)
    difference = (b - c) / n
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(max(0.0, (b + c) / n - difference**2) / n)
    interval = _within_one(difference, half, level, "Wald over patients") if half else None
    words = {"exact": "exact binomial", "corrected": "chi-square, continuity corrected", "plain": "chi-square"}[method]
    note = "" if half else "the results differ in no patient, or in all alike: no interval"
    return McNemar(difference, interval, n, f"McNemar, {words}", statistic, p_value, b, c, n, note)


def clustered_mcnemar(
    first: Shaped[np.ndarray, "*regions"],
    second: Shaped[np.ndarray, "*others"],
    patients: Sequence[Hashable] | Shaped[np.ndarray, " rows"],
    *,
    method: str = "obuchowski",
    level: float = 0.95,
) -> McNemar:
    """McNemar's test for several regions per patient, e.g. a yes or no for each of 17 segments.

    Args:
        first: Bool, or 0 and 1, one per region.
        second: The same by the second reader or method.
        patients: The patient of each region.
        method: "obuchowski" (variance over patients), "yang" (its modification), "durkalski" (every patient counts
            the same), or "eliasziw" (adjusted by an intraclass correlation).
        level: Confidence level of the interval of the difference, in (0, 1).

    Returns:
        The test; the interval is that of a ratio over patients, whatever the method of the test.

    Raises:
        AgreementError: Values other than yes and no, lengths that differ, fewer than two patients, or a method that
            does not exist.

    Source:
        Obuchowski 1998, Stat Med 17(13):1495-1507.
        doi:10.1002/(SICI)1097-0258(19980715)17:13<1495::AID-SIM863>3.0.CO;2-I;
        Durkalski et al. 2003, Stat Med 22(15):2417-2428. doi:10.1002/sim.1438; Yang et al. 2010, Biom J 52(5):638-652.
        doi:10.1002/bimj.201000035; Eliasziw & Donner 1991, Stat Med 10(12):1981-1991. doi:10.1002/sim.4780101211

    Example:
        Three patients with two regions each; the discordant ones are 2, 1 and 0, all in the same direction, so
        chi-square is 2/3 * 3^2 / (2^2 + 1^2).

        >>> first, second = np.array([1, 1, 1, 1, 0, 1]), np.array([0, 0, 0, 1, 0, 1])
        >>> test = clustered_mcnemar(first, second, ["P1", "P1", "P2", "P2", "P3", "P3"])
        >>> round(test.statistic, 4), test.estimate
        (1.2, 0.5)
    """
    x, y = _yes_no(first, "first"), _yes_no(second, "second")
    _check_lengths(x, y)
    owners = list(patients)
    if len(owners) != x.size:
        raise AgreementError(f"patients has {len(owners)} entries for {x.size} regions; name the patient of each")
    place = {name: number for number, name in enumerate(dict.fromkeys(owners))}
    rows = np.array([place[owner] for owner in owners], dtype=int)
    cells = [np.bincount(rows[which], minlength=len(place)) for which in (x & y, x & ~y, ~x & y, ~x & ~y)]
    return clustered_mcnemar_of_counts(np.stack(cells, axis=1), method=method, level=level)


def clustered_mcnemar_of_counts(
    counts: Shaped[np.ndarray, "*patients cells"], *, method: str = "obuchowski", level: float = 0.95
) -> McNemar:
    """The clustered test from counts of regions: both yes, only the first, only the second, neither.

    Raises:
        AgreementError: Counts that are no whole numbers from 0 on, fewer than two patients with a region, or a method
            that does not exist.

    Example:
        >>> counts = np.array([[0, 2, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1]])
        >>> round(clustered_mcnemar_of_counts(counts, method="durkalski").statistic, 4)
        1.8
    """
    check_level(level)
    if method not in _CLUSTERED:
        raise AgreementError(f"method is {method!r}, expected one of {', '.join(map(repr, _CLUSTERED))}")
    cells = _counts(counts, (len(counts), 4))
    cells = cells[cells.sum(axis=1) > 0]
    n, regions = len(cells), int(cells.sum())
    if n < 2:
        raise AgreementError(f"{n} patient(s) have regions, expected at least 2; a cluster of its own has no spread")
    b, c, size = cells[:, 1], cells[:, 2], cells.sum(axis=1)
    signed = b - c
    difference = float(signed.sum()) / regions
    spread = float(np.square(signed - size * difference).sum()) * n / (n - 1)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * math.sqrt(spread) / regions
    interval = _within_one(difference, half, level, "ratio over patients, t") if half else None
    note = "" if half else "the share that differs is the same in every patient: no interval"
    statistic, p_value = 0.0, 1.0
    if (b + c).any():
        statistic = _CLUSTERED[method](cells)
        p_value = float(stats.chi2.sf(statistic, 1))
    name = f"clustered McNemar, {method.title()}"
    return McNemar(difference, interval, n, name, statistic, p_value, int(b.sum()), int(c.sum()), regions, note)


# --- Private helpers ---


def _within_one(difference: float, half: float, level: float, method: str) -> Interval:
    """An interval of a difference of shares, cut off where no difference can be."""
    return Interval(max(-1.0, difference - half), min(1.0, difference + half), level, method)


def _obuchowski(cells: Float[np.ndarray, "patients 4"]) -> float:
    signed, n = cells[:, 1] - cells[:, 2], len(cells)
    return float((n - 1) / n * signed.sum() ** 2 / np.square(signed).sum())


def _yang(cells: Float[np.ndarray, "patients 4"]) -> float:
    """The variance is the mean of that under no difference and that about the observed one."""
    signed, size, n = cells[:, 1] - cells[:, 2], cells.sum(axis=1), len(cells)
    about = np.square(signed - size * signed.sum() / size.sum()).sum()
    return float((n - 1) / n * signed.sum() ** 2 / ((np.square(signed).sum() + about) / 2))


def _durkalski(cells: Float[np.ndarray, "patients 4"]) -> float:
    share = (cells[:, 1] - cells[:, 2]) / cells.sum(axis=1)
    return float(share.sum() ** 2 / np.square(share).sum())


def _eliasziw(cells: Float[np.ndarray, "patients 4"]) -> float:
    """McNemar's chi-square less the inflation by the correlation of the regions of a patient."""
    size, total, n = cells.sum(axis=1), cells.sum(), len(cells)
    discordant = cells[:, 1] + cells[:, 2]
    plain = float((cells[:, 1] - cells[:, 2]).sum() ** 2 / discordant.sum())
    mean = total / n
    if mean == 1:  # one region per patient: nothing to be correlated with
        return plain
    typical = mean - np.square(size - mean).sum() / (n * (n - 1) * mean)
    shares = cells.sum(axis=0) / total
    between = (np.square(cells - size[:, None] * shares) / size[:, None]).sum() / n
    within = (cells * (size[:, None] - cells) / size[:, None]).sum() / (n * (mean - 1))
    pooled = (between - within) / (between + (typical - 1) * within)
    correlation = pooled / (pooled + (shares[1] + shares[2]) * (1 - pooled))
    of_discordant = discordant[discordant > 0]
    clusters = len(of_discordant)
    average = of_discordant.mean()
    if clusters == 1:
        return plain / (1 + (average - 1) * correlation)
    smaller = average - np.square(of_discordant - average).sum() / (clusters * (clusters - 1) * average)
    inflation = 1 + (smaller + clusters * (average - smaller) - 1) * correlation
    return float(plain / inflation)


_CLUSTERED = {"obuchowski": _obuchowski, "yang": _yang, "durkalski": _durkalski, "eliasziw": _eliasziw}


def _yes_no(values: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise AgreementError(
            f"{name} has shape {array.shape}, expected one yes or no per patient or region; pixels of a mask are not "
            "independent of one another, so this test does not apply to masks: compare them by Dice"
        )
    wrong = [value for value in array.tolist() if value not in (0, 1)]
    if wrong:
        raise AgreementError(
            f"{len(wrong)} of {array.size} values of {name} are neither yes nor no (first: {wrong[0]!r}), expected "
            "True and False; leave out patients without a value"
        )
    return array.astype(bool)


def _check_lengths(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape != y.shape:
        raise AgreementError(f"first has {x.size} values, second {y.size}; give both in the same order")


def _counts(table: np.ndarray, shape: tuple[int, ...]) -> Float[np.ndarray, "rows columns"]:
    counts = np.asarray(table, dtype=float)
    if counts.shape != shape or not np.isfinite(counts).all() or (counts < 0).any() or (counts % 1).any():
        raise AgreementError(f"counts has shape {counts.shape}, expected {shape} of whole numbers from 0 on")
    return counts
