"""Ratings: categories that readers gave to patients, such as acceptable or not, or a segmental score of 0 to 4.

Ratings come as patients x readers. A category is a whole number, True or False, or a text; NaN, None and "" are
missing. The *scale* is the list of all categories that could have been given, in order: it is taken from the ratings
unless it is named, and it matters, because a category that nobody used still counts in Gwet's AC1 and in the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped

from mpi_unet.errors import AgreementError, listing

__all__ = ["Category", "Coded", "coded", "ratings_of_counts"]

Category: TypeAlias = int | str

MISSING = -1
"""Code of a rating that was not given."""


@dataclass(frozen=True, eq=False)
class Coded:
    """Ratings as places on the scale, -1 where missing."""

    codes: Int[np.ndarray, "patients readers"]
    scale: tuple[Category, ...]

    @property
    def counts(self) -> Int[np.ndarray, "patients categories"]:
        """How many readers gave each category to each patient."""
        return np.stack([(self.codes == place).sum(axis=1) for place in range(len(self.scale))], axis=1)


def coded(ratings: Shaped[np.ndarray, "*patients readers"], categories: Sequence[Category] | None = None) -> Coded:
    """Places of the ratings on the scale.

    Args:
        ratings: One row per patient, one column per reader.
        categories: The whole scale in order; None takes the categories that occur, sorted.

    Raises:
        AgreementError: Not two axes, fewer than two readers, a rating that is neither whole number nor text, ratings
            off the scale, no rating at all, or a scale that names a category twice.

    Example:
        >>> coded(np.array([["good", "bad"], ["bad", ""]]), ["bad", "good"]).codes
        array([[ 1,  0],
               [ 0, -1]])
    """
    table = np.asarray(ratings)
    if table.ndim != 2 or table.shape[1] < 2:
        raise AgreementError(
            f"ratings has shape {table.shape}, expected (patients, readers) with at least 2 readers; with one reader "
            "agreement is not measured"
        )
    levels, place = _levels(table)
    given = [_category(level) for level in levels]
    cells = place.reshape(table.shape)
    _refuse(
        cells,
        [level is not None and not isinstance(level, int | str) for level in given],
        given,
        "ratings are neither whole numbers nor text",
        "Name the categories, or use icc or krippendorff_alpha(metric='interval') for a measurement",
    )
    occurring = [level for level in given if level is not None]
    if not occurring:
        raise AgreementError(f"all {table.size} ratings are missing, expected at least two ratings of one patient")
    scale = _scale(occurring, categories)
    on_scale = {category: number for number, category in enumerate(scale)}
    _refuse(
        cells,
        [level is not None and level not in on_scale for level in given],
        given,
        f"ratings are off the scale {', '.join(map(repr, scale))}",
        "Pass the whole scale as categories=, in order",
    )
    codes = np.array([MISSING if level is None else on_scale[level] for level in given], dtype=np.int64)
    return Coded(codes[cells], scale)


def ratings_of_counts(counts: Shaped[np.ndarray, "*patients categories"]) -> Float[np.ndarray, "patients readers"]:
    """Ratings 0, 1, ... from a table that says how many readers gave each category to each patient.

    For statistics that do not ask who gave which rating (Fleiss, Gwet, Krippendorff): the readers' order is lost.

    Args:
        counts: Whole numbers, zero or more.

    Returns:
        Categories by number, NaN where a patient has fewer ratings than another.

    Raises:
        AgreementError: Counts that are negative or not whole.

    Example:
        Two of three readers gave the first patient category 0.

        >>> ratings_of_counts(np.array([[2, 1], [0, 2]]))
        array([[ 0.,  0.,  1.],
               [ 1.,  1., nan]])
    """
    table = np.asarray(counts)
    if table.ndim != 2 or not np.isfinite(table).all() or (table < 0).any() or (table != np.floor(table)).any():
        raise AgreementError(f"counts {table.shape} must be patients x categories of whole numbers from 0 on")
    rows = [np.repeat(np.arange(table.shape[1]), row.astype(int)) for row in table]
    ratings = np.full((len(rows), max((len(row) for row in rows), default=0)), np.nan)
    for patient, row in enumerate(rows):
        ratings[patient, : len(row)] = row
    return ratings


# --- Private helpers ---


def _levels(table: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Every value that occurs, and the place of each cell among them."""
    if table.dtype.kind in "biufU":
        levels, place = np.unique(table, return_inverse=True)
        return levels.tolist(), place
    values = [None if value != value else value for value in table.ravel().tolist()]  # NaN is not equal to itself
    number = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return list(number), np.array([number[value] for value in values], dtype=np.int64)


def _category(value: Any) -> Any:
    """Whole numbers of any type become int; missing becomes None; anything else is left for the message."""
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, bool) else value


def _refuse(cells: np.ndarray, wrong: list[bool], levels: list[Any], what: str, remedy: str) -> None:
    """One message for all cells whose value is wrong."""
    places = np.argwhere(np.array(wrong, dtype=bool)[cells])
    if len(places):
        named = [f"ratings[{row}, {column}] is {levels[cells[row, column]]!r}" for row, column in places[:10]]
        named += [""] * (len(places) - len(named))
        raise AgreementError(f"{len(places)} of {cells.size} {what}:\n{listing(named, 10)}\n{remedy}")


def _scale(given: Sequence[Category], categories: Sequence[Category] | None) -> tuple[Category, ...]:
    if categories is not None:
        whole = tuple(_category(category) for category in categories)
        scale = tuple(category for category in whole if category is not None)
        if len(set(scale)) != len(whole):
            raise AgreementError(f"categories is {list(categories)}, expected each category of the scale once")
        return scale
    kinds = {isinstance(category, str) for category in given}
    if len(kinds) > 1:
        raise AgreementError("ratings mix numbers and text, so they have no order; pass the scale as categories=")
    return tuple(sorted(set(given), key=lambda category: (str(category), 0) if True in kinds else ("", int(category))))
