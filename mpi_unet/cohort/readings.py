"""Names of the columns that hold what readers measured or judged, and tables of such columns.

A *reading* is one number or one category that somebody gave to one case. Its column is ``<quantity>__<reader>``, with
two underscores: ``ef_pct__A`` is the ejection fraction in percent by reader A, ``acceptable__B`` what reader B said of
the quality. The reader ``network`` is the network. A *quantity* whose name ends in a unit is a *measurement* (numbers);
any other is a *category*. A quantity of parts of the heart has one column a part, ``score_seg01__A`` to
``score_seg17__A``. See docs/cohort.md.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpi_unet.errors import CohortError

__all__ = ["MISSING_WORDS", "UNITS", "ReadingName", "ReadingTable", "is_reading", "read_reading_table", "reading_name"]

SEPARATOR = "__"
CASE, STUDY = "case_id", "study_id"

UNITS: dict[str, str] = {
    "ml": "ml",
    "mm": "mm",
    "mm2": "mm2",
    "cm": "cm",
    "cm2": "cm2",
    "g": "g",
    "pct": "%",
    "deg": "deg",
    "ms": "ms",
    "s": "s",
    "bpm": "/min",
    "mmhg": "mmHg",
    "mbq": "MBq",
    "ratio": "",
    "index": "",
}
"""Ending of the name of a measurement to its unit; the last two have none."""

MISSING_WORDS = ("", "na", "nan")
"""What a cell says, in any case of letters, where nobody read."""

_NAME = re.compile(r"(?P<quantity>[A-Za-z](?:[A-Za-z0-9]|_(?!_))*?)(?:_seg(?P<part>[0-9]{1,2}))?__(?P<reader>[^_].*)")


@dataclass(frozen=True)
class ReadingName:
    """What a column of readings says: the quantity, the part of the heart (empty: the whole), and who gave it."""

    quantity: str
    part: str
    reader: str

    @property
    def unit(self) -> str | None:
        """Unit of a measurement; None of a category.

        Example:
            >>> ReadingName("ef_pct", "", "A").unit, ReadingName("acceptable", "", "A").unit
            ('%', None)
        """
        head, _, ending = self.quantity.rpartition("_")
        return UNITS.get(ending) if head else None


def is_reading(column: str) -> bool:
    """Whether a column is one of readings, rightly named or not.

    Example:
        >>> is_reading("ef_pct__A"), is_reading("defect_size")
        (True, False)
    """
    return SEPARATOR in column


def reading_name(column: str) -> ReadingName | None:
    """What the name of a column says; None when it is no name of readings.

    Example:
        >>> reading_name("score_seg03__A")
        ReadingName(quantity='score', part='3', reader='A')
        >>> reading_name("ef pct__A") is None
        True
    """
    found = _NAME.fullmatch(column)
    if found is None:
        return None
    part = found["part"]
    return ReadingName(found["quantity"], str(int(part)) if part else "", found["reader"])


@dataclass(frozen=True)
class ReadingTable:
    """A table of readings: ``cells[case_id][column]`` is a text.

    ``decimal_comma`` says that cells are not separated by commas, so that ``62,5`` can only be a number.
    """

    path: Path
    columns: tuple[str, ...]
    cells: Mapping[str, Mapping[str, str]]
    decimal_comma: bool


def read_reading_table(path: str | Path, *, is_network: bool = False) -> ReadingTable:
    """Read a table with one row a case, as a spreadsheet saves it: separated by commas, semicolons or tabs.

    Args:
        path: The table.
        is_network: The network's own values, as ``predict`` writes them: the case may be called ``study_id``, and a
            gated study has a second row for its whole cycle, under the name of its first gate.

    Raises:
        CohortError: The file is missing or no such table, or names a case twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CohortError(f"{path} is not in UTF-8 ({error.reason}); save it anew as CSV UTF-8") from error
    except OSError as error:
        raise CohortError(f"{path} cannot be read ({error.strerror}); expected a table of readings") from error
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    try:
        lines = [line for line in csv.reader(text.splitlines(), delimiter=separator, strict=True) if any(line)]
    except csv.Error as error:
        raise CohortError(f"{path} cannot be read ({error}); save it anew as CSV UTF-8") from error
    columns = tuple(cell.strip() for cell in lines[0]) if lines else ()
    key = STUDY if is_network and CASE not in columns else CASE
    _check(path, columns, lines, key)
    rows = [dict(zip(columns, (cell.strip() for cell in line), strict=True)) for line in lines[1:]]
    cells, twice = _by_case(rows, key, is_network)
    if twice:
        raise CohortError(f"{path}: {', '.join(twice[:10])} has more than one row; expected one row a case")
    return ReadingTable(path, tuple(name for name in columns if name != key), cells, separator != ",")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _by_case(rows: list[dict[str, str]], key: str, is_network: bool) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Rows by case, and cases with two rows; rows of a network are joined where no measurement stands in both."""
    cells: dict[str, dict[str, str]] = {}
    twice = []
    for row in rows:
        case_id = row.pop(key)
        held = cells.setdefault(case_id, row)
        if held is row:
            continue
        both = [name for name in row if row[name] and held[name] and name.rpartition("_")[2] in UNITS]
        if both or not is_network:
            twice.append(case_id)
        held |= {name: text for name, text in row.items() if not held[name]}
    return cells, twice


def _check(path: Path, columns: tuple[str, ...], lines: list[list[str]], key: str) -> None:
    if key not in columns:
        found = ", ".join(columns) or "nothing"
        raise CohortError(
            f"{path} has no column case_id in its first line (found {found}); expected case_id and columns such as "
            "ef_pct__A"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise CohortError(f"{path}: column {', '.join(map(repr, twice))} is there twice; name each column once")
    ragged = [str(place) for place, line in enumerate(lines, start=1) if len(line) != len(columns)]
    if ragged:
        raise CohortError(
            f"{path}: row {', '.join(ragged[:10])} has not {len(columns)} cells like the header; correct the rows"
        )
