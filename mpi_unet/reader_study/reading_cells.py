"""The cells of columns of readings: texts of each row, as numbers or as categories on a scale."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.readings import MISSING_WORDS, ReadingName
from mpi_unet.errors import nearest

__all__ = ["Column", "category_of", "numbers_of", "scale_of", "texts_of"]

MANY_CATEGORIES = 20
"""More categories than any scale of a clinic has: these are measurements without a unit in their name."""


@dataclass(frozen=True)
class Column:
    """One column: where it stands, its cells by case, and whether a comma in them is a decimal one."""

    where: str
    cells: Mapping[str, str]
    decimal_comma: bool


def texts_of(
    held: Mapping[ReadingName, Column], members: Mapping[ReadingName, str], cases: Sequence[Case]
) -> tuple[dict[str, list[tuple[str, str]]], tuple[str, ...]]:
    """By member the text of each row and its place in words, rows without any text dropped; and the patients."""
    parts = sorted({name.part for name in held}, key=lambda part: int(part or 0))
    by_member: dict[str, dict[str, Column]] = {}
    for name, column in held.items():
        by_member.setdefault(members[name], {})[name.part] = column
    rows = [(case, part) for case in cases for part in parts]

    def cell(member: str, case: Case, part: str) -> str:
        column = by_member[member].get(part)
        text = "" if column is None else column.cells.get(case.case_id, "").strip()
        return "" if text.lower() in MISSING_WORDS else text

    kept = [row for row in rows if any(cell(member, *row) for member in by_member)]
    texts = {
        member: [
            (cell(member, case, part), f"{case.case_id}{f', segment {part}' if part else ''}") for case, part in kept
        ]
        for member in by_member
    }
    there = {member: cells for member, cells in texts.items() if any(text for text, _ in cells)}
    return there, tuple(case.patient_id for case, _ in kept)


def numbers_of(
    quantity: str,
    member: str,
    cells: Sequence[tuple[str, str]],
    commas: Container[str],
    problems: list[str],
) -> Float[np.ndarray, " rows"]:
    """The texts as numbers; ``commas`` are the members whose cells may have a decimal comma."""
    comma = member in commas
    mixed = comma and any("." in text for text, _ in cells) and any("," in text for text, _ in cells)
    if mixed:
        problems.append(f"{quantity}__{member}: numbers with a point and with a comma; write all of them with a point")
    found = []
    for text, where in cells:
        try:
            value = float(text.replace(",", ".") if comma and not mixed else text) if text else math.nan
        except ValueError:
            value = math.inf
        if math.isinf(value) and not mixed:
            problems.append(f"{where}: {quantity} by {member} is {text!r}, expected a number such as 62.5, or nothing")
        found.append(value)
    return np.array(found, dtype=float)


def category_of(text: str) -> str:
    """A category as text; whole numbers the same however a spreadsheet writes them.

    Example:
        >>> category_of("3.0"), category_of("yes")
        ('3', 'yes')
    """
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text


def scale_of(
    quantity: str, words: Mapping[str, Sequence[str]], scale: tuple[str, ...] | None, problems: list[str]
) -> tuple[str, ...]:
    """The scale as given or, where none is, the categories that occur; what cannot be one is a problem."""
    counts = Counter(word for given in words.values() for word in given if word)
    if scale is not None:
        off = [word for word in counts if word not in scale]
        problems += [
            f"{quantity}: {word!r} ({counts[word]} times) is not on the scale {', '.join(scale)}{nearest(word, scale)}"
            for word in off
        ]
        return scale
    found = sorted(counts, key=_order)
    if len(found) > MANY_CATEGORIES or any(_is_fraction(word) for word in found):
        problems.append(
            f"{quantity} has {len(found)} different values such as {', '.join(found[:3])}, expected categories; a "
            f"measurement has its unit at the end of its name, e.g. {quantity}_ml or {quantity}_index"
        )
        return tuple(found)
    by_lower: dict[str, str] = {}
    for word in found:
        other = by_lower.setdefault(" ".join(word.lower().split()), word)
        if other != word:
            problems.append(f"{quantity}: {other!r} and {word!r} are two categories; write one of them")
    problems += [
        f"{quantity}: {word!r} occurs once, a slip of the pen? Correct it, or name the whole scale: "
        f"categories={{{quantity}: [{','.join(found)}]}}"
        for word in found
        if counts[word] == 1
    ]
    return tuple(found)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _order(word: str) -> tuple[bool, float, str]:
    """Numbers by size before words by letters."""
    return (False, float(word), "") if word.lstrip("-").isdecimal() else (True, 0.0, word)


def _is_fraction(word: str) -> bool:
    try:
        return not float(word.replace(",", ".")).is_integer()
    except (ValueError, OverflowError):
        return False
