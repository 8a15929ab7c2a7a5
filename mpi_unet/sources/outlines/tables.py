"""Contours in a table: one row a corner.

Columns: ``case_id``, or ``image`` with the name of the image file, or columns of ``cases.csv`` such as ``patient_id``
and ``acquisition``; ``reader``; ``read`` (1, 2, ...); ``frame``; ``contour`` (a number or name that corners of one
contour share); ``kind`` (include or exclude); ``structure`` (for example outer and inner); and the position as ``row``
and ``column`` or ``x`` and ``y``, in pixels or mm, which the column names (``row_px``, ``x_mm``) or ``source.units``
say. Corners follow each other in the order of the rows. Separated by commas, semicolons or tabs.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mpi_unet.dicom.contours import KINDS, Kind
from mpi_unet.errors import CohortError, nearest
from mpi_unet.sources.naming import CaseFinder
from mpi_unet.sources.outlines.drawn import Drawing, Polygon, Unit

__all__ = ["FileFacts", "csv_drawings", "read_number"]

AXES = ("row", "column", "x", "y")
UNIT_OF = {"px": "pixel", "pixel": "pixel", "pixels": "pixel", "mm": "mm"}
OWN_COLUMNS = ("image", "reader", "read", "frame", "contour", "kind", "structure", "unit")


@dataclass(frozen=True)
class FileFacts:
    """What is known of an outline file before it is read.

    Attributes:
        name: The file, from the folder that was searched.
        groups: What its name says.
        reader: Who drew, where the file itself does not say; empty when unknown.
        units: Unit of positions whose column names do not say it; None when it must be said there.
        origin: Where (0, 0) is; None for what is usual in the format.
        first_frame: Number of the first frame in files: 0 or 1.
        pattern: Pattern of image names that stand in the file.
    """

    name: str
    groups: Mapping[str, str]
    reader: str
    units: Unit | None
    origin: Literal["center", "corner"] | None
    first_frame: int
    pattern: re.Pattern[str] | None

    def origin_or(self, usual: Literal["center", "corner"]) -> Literal["center", "corner"]:
        """The origin that was given, else that of the format."""
        return self.origin or usual

    def frame_of(self, text: str | None) -> int | None:
        """Frame from 0, or None for an empty text.

        Raises:
            CohortError: It is no whole number.
        """
        text = (text or "").strip()
        if not text:
            return None
        if not re.fullmatch(r"-?\d+", text):
            raise CohortError(f"frame is {text!r}; expected a whole number")
        return int(text) - self.first_frame

    def groups_of_image(self, image: str) -> dict[str, str]:
        """What the name of an image says, beside what the name of the file says.

        Raises:
            CohortError: The pattern does not fit it.
        """
        if self.pattern is None:
            return dict(self.groups)
        name = image if "/" in self.pattern.pattern else Path(image.replace("\\", "/")).name
        match = self.pattern.fullmatch(name)
        if match is None:
            if self.groups:
                return dict(self.groups)
            raise CohortError(f"image {name!r} does not fit source.pattern={self.pattern.pattern!r}; correct either")
        return {**self.groups, **{group: text for group, text in match.groupdict().items() if text is not None}}


def read_number(groups: Mapping[str, str]) -> int:
    """Which read it is, 1 when nothing is said.

    Raises:
        CohortError: It is no number from 1.
    """
    text = groups.get("read", "").strip() or "1"
    if not text.isdecimal() or int(text) < 1:
        raise CohortError(f"read is {text!r}; expected 1, 2, ...")
    return int(text)


def csv_drawings(path: Path, facts: FileFacts, finder: CaseFinder, problems: list[str]) -> list[Drawing]:
    """The contours of one table.

    Args:
        path: The file.
        facts: What is known of it.
        finder: Knows the columns that can tell a case.
        problems: Gets a sentence for every row that cannot be used.

    Raises:
        CohortError: The table cannot be read, or its columns do not say what is needed.
    """
    rows, columns = _rows(path)
    axes, units = _axes(columns, facts.units)
    known = (*OWN_COLUMNS, *finder.groups, *axes)
    unknown = [f"column {name!r} is not known{nearest(name, known)}" for name in columns if name not in known]
    if unknown:
        raise CohortError("; ".join(unknown) + "; remove it or correct its name")
    contours: dict[tuple[str, ...], list[tuple[int, dict[str, str]]]] = {}
    named = [name for name in columns if name not in (*axes, "kind", "unit")]
    for line, row in rows:
        contours.setdefault(tuple(row[name] for name in named), []).append((line, row))
    drawings = []
    for corners in contours.values():
        where = f"{facts.name}, line {corners[0][0]}"
        try:
            drawings.append(_drawing([row for _, row in corners], axes, units, facts, finder, where))
        except CohortError as error:
            problems.append(f"{where}: {error}")
    return drawings


# --- Private helpers --------------------------------------------------------------------------------------------------


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(f"cannot be read ({error}); expected a table in UTF-8") from error
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    table = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True)
    columns = [name.strip().lower() for name in table.fieldnames or ()]
    if len(set(columns)) < len(columns):
        raise CohortError(f"has the columns {', '.join(columns)}; expected each once")
    rows = []
    for values in table:
        cells = list(values.values())
        if None in values or None in cells:
            raise CohortError(f"line {table.line_num} has not {len(columns)} cells like the header; correct it")
        row = dict(zip(columns, (str(cell).strip() for cell in cells), strict=True))
        rows.append((table.line_num, _with_points(row, delimiter)))
    if not rows:
        raise CohortError("holds no row; expected one row a corner")
    return rows, columns


def _with_points(row: dict[str, str], delimiter: str) -> dict[str, str]:
    """Decimal commas become points where cells are separated by something else."""
    if delimiter == ",":
        return row
    return {name: text.replace(",", ".") if re.fullmatch(r"-?\d+,\d+", text) else text for name, text in row.items()}


def _axes(columns: list[str], units: Unit | None) -> tuple[tuple[str, str], Unit | None]:
    """The columns of row and column positions, and their unit; None when a column of its own says it row by row."""
    found = {}
    for name in columns:
        axis, _, suffix = name.partition("_")
        if axis in AXES and (not suffix or suffix in UNIT_OF):
            found[name] = axis, UNIT_OF.get(suffix)
    axes = [axis for axis, _ in found.values()]
    pair = next((pair for pair in (("row", "column"), ("y", "x")) if sorted(pair) == sorted(axes)), None)
    if pair is None:
        raise CohortError(
            f"has the columns {', '.join(columns)}; expected row and column, or x and y, with their unit, "
            "such as row_px and column_px or x_mm and y_mm"
        )
    said = {unit for _, unit in found.values()}
    if len(said) > 1:
        raise CohortError(f"gives {' and '.join(found)} in different units; expected one unit")
    names = tuple(next(name for name, (axis, _) in found.items() if axis == wanted) for wanted in pair)
    unit = said.pop()
    if unit is None and "unit" not in columns and units is None:
        raise CohortError(
            f"does not say the unit of {names[0]} and {names[1]}; give source.units=pixel or source.units=mm, or name "
            f"the columns {pair[0]}_px or {pair[0]}_mm"
        )
    if unit is not None and units is not None and unit != units:
        raise CohortError(f"gives {names[0]} in {unit}, but source.units={units}; leave source.units out")
    if unit is None and "unit" not in columns:
        unit = units
    return (names[0], names[1]), "mm" if unit == "mm" else "pixel" if unit else None


def _drawing(
    rows: list[dict[str, str]],
    axes: tuple[str, str],
    units: Unit | None,
    facts: FileFacts,
    finder: CaseFinder,
    where: str,
) -> Drawing:
    first = rows[0]
    kinds = {row.get("kind", "").lower() or "include" for row in rows}
    if len(kinds) > 1 or not kinds <= set(KINDS):
        raise CohortError(f"kind is {' and '.join(sorted(kinds))}; expected {' or '.join(KINDS)}, one a contour")
    kind: Kind = "include" if kinds == {"include"} else "exclude"
    groups = dict(facts.groups)
    if first.get("image"):
        groups |= facts.groups_of_image(first["image"])
    groups |= {name: first[name] for name in finder.groups if first.get(name)}
    points = np.array([[_position(row[axis], axis) for axis in axes] for row in rows])
    return Drawing(
        file=facts.name,
        where=where,
        reader=first.get("reader") or groups.get("reader") or facts.reader,
        read=read_number({"read": first.get("read") or groups.get("read", "")}),
        groups=groups,
        structure=first.get("structure", ""),
        frame=facts.frame_of(first.get("frame") or groups.get("frame")),
        shape=Polygon(points, kind, units or _unit(rows), facts.origin_or("center")),
    )


def _unit(rows: list[dict[str, str]]) -> Unit:
    said = {row["unit"].lower() for row in rows}
    if len(said) > 1:
        raise CohortError(f"mixes the units {' and '.join(sorted(said))}; expected one unit a contour")
    unit = UNIT_OF.get(said.pop())
    if unit is None:
        raise CohortError(f"unit is {rows[0]['unit']!r}; expected {' or '.join(UNIT_OF)}")
    return "mm" if unit == "mm" else "pixel"


def _position(text: str, axis: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CohortError(f"{axis} is {text!r}; expected a number")
    return value
