"""Drawings of the report, shown in a notebook side by side: vector files that browsers, journals and slides take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_unet.errors import RunError, nearest
from mpi_unet.files import write_text
from mpi_unet.report.svg import THEMED

__all__ = ["Drawings", "drawing_of_page", "drawings_of", "names_of"]

BOX = "display:grid;grid-template-columns:repeat({columns},minmax(0,max-content));gap:10px;background:#fefefe"
MOST_COLUMNS = 3


@dataclass(frozen=True)
class Drawings:
    """One or several drawings; ``one + other`` puts them side by side.

    Attributes:
        names: A name for each.
        svgs: Each as an SVG element.
    """

    names: tuple[str, ...]
    svgs: tuple[str, ...]

    def __add__(self, other: Drawings) -> Drawings:
        return Drawings(self.names + other.names, self.svgs + other.svgs)

    def __repr__(self) -> str:
        return f"Drawings: {', '.join(self.names)}"

    def save(self, folder: str | Path) -> list[Path]:
        """Write each drawing as ``<folder>/<name>.svg``.

        Raises:
            RunError: The folder cannot be written to.
        """
        files = [Path(folder) / f"{name}.svg" for name in self.names]
        for file, svg in zip(files, self.svgs, strict=True):
            write_text(file, svg)
        return files

    def _repr_html_(self) -> str:
        box = BOX.format(columns=min(MOST_COLUMNS, len(self.svgs)))
        items = (svg.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1) for svg in self.svgs)
        return f'<div style="{box}">{"".join(f"<div>{item}</div>" for item in items)}</div>'


def names_of(folder: Path) -> tuple[str, ...]:
    """Names of the drawings of a report."""
    return tuple(sorted(path.stem for path in folder.glob("*.svg")))


def drawings_of(folder: Path, names: Sequence[str]) -> Drawings:
    """Some drawings of a report.

    Raises:
        RunError: There is no such drawing.
    """
    available = names_of(folder)
    missing = [name for name in names if name not in available]
    if missing or not names:
        what = f"no drawing {', '.join(missing)}{nearest(missing[0], available)}" if missing else "no name was given;"
        raise RunError(f"{folder}: {what} there are {', '.join(available) or 'none: is the run finished?'}")
    return Drawings(tuple(names), tuple(_element((folder / f"{name}.svg").read_text("utf-8")) for name in names))


def drawing_of_page(name: str, svg: str, width: int) -> Drawings:
    """A drawing that was made for a page, with colors of its own instead of those of the style sheet.

    Args:
        name: Its name.
        svg: The element, with the properties of ``mpi_unet.report.svg.THEMED``.
        width: In pixels.
    """
    for color, variable in THEMED.items():
        svg = svg.replace(f"var({variable})", color)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" font-family="sans-serif" '
    return Drawings((name,), (svg.replace("<svg ", head, 1),))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _element(text: str) -> str:
    """The SVG element without what only a file needs."""
    return re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>", "", text, flags=re.DOTALL).strip()
