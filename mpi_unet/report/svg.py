"""Vector drawings: one matplotlib figure becomes a file of its own and a part of the page.

The standalone form is what matplotlib writes, without dates and with ids that follow from the content. The inline form
takes its colors from the style sheet of the page, so that one drawing serves light, dark and print, and carries hover
titles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1c2733"
MUTED = "#5f6b7a"
GRID = "#dfe4ea"
PAPER = "#fefefe"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#5a4fcf")
"""Okabe and Ito's colors for color-blind readers, the yellow ones darkened until they carry on white."""

MARKERS = ("o", "s", "^", "D", "v", "P")
"""One shape beside each color, so that nothing is told by color alone."""

DASHES: tuple[tuple[float, ...] | None, ...] = (None, (5.0, 1.5), (1.5, 1.2), (6.0, 1.5, 1.5, 1.5), (9.0, 2.0))
"""Line patterns, in points; the first is solid."""

THEMED = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    color: f"--series-{index}" for index, color in enumerate(SERIES)
}
"""Fixed color to the custom property of the page that stands for it."""

PANEL_INCHES = (3.4, 2.6)
"""Size of a panel; ten-point text in it is no smaller than that on a phone of 375 pixels."""

STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the layout is the same on every machine
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "mpi_unet",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Drawing:
    """One vector figure.

    Attributes:
        name: Its file name without suffix.
        alt: What it shows, for a reader who cannot see it.
        standalone: The complete SVG file.
        inline: The same for the page.
    """

    name: str
    alt: str
    standalone: str
    inline: str


def series_color(index: int) -> str:
    """Color of the ``index``-th series; they repeat."""
    return SERIES[index % len(SERIES)]


def series_marker(index: int) -> str:
    """Marker of the ``index``-th series; colors and shapes repeat out of step, so 36 series stay apart."""
    return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]


def series_dashes(index: int) -> tuple[float, tuple[float, ...] | None]:
    """Dash pattern of the ``index``-th line, in the form that matplotlib takes."""
    return (0.0, DASHES[index % len(DASHES)])


def panel(
    name: str,
    alt: str,
    draw: Callable[[Axes], None],
    size: tuple[float, float] = PANEL_INCHES,
    titles: Mapping[str, str] | None = None,
) -> Drawing:
    """Let ``draw`` fill one pair of axes and turn the figure into a drawing; no state of pyplot is touched.

    Args:
        name: File name of the drawing, without suffix.
        alt: Text for readers who cannot see it.
        draw: Fills the axes.
        size: Width and height in inches.
        titles: Group id of an artist to the text shown when a pointer rests on it.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        return drawing(figure, name, alt, titles)


def drawing(figure: Figure, name: str, alt: str, titles: Mapping[str, str] | None = None) -> Drawing:
    """Turn a matplotlib figure, built under :data:`STYLE`, into a drawing.

    Args:
        figure: The figure.
        name: File name without suffix; it also keeps the ids of several drawings on one page apart.
        alt: Text for readers who cannot see the drawing.
        titles: Group id of an artist to the text shown when a pointer rests on it.
    """
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", buffer.getvalue(), flags=re.DOTALL)
    for group, title in (titles or {}).items():
        text = text.replace(f'<g id="{group}">', f'<g id="{group}"><title>{escape(title)}</title>')
    text = re.sub(r"(\bid=\"|url\(#|href=\"#)", rf"\g<1>{name}-", text)
    return Drawing(name, alt, labelled(text, alt), inlined(text, alt))


def labelled(svg: str, alt: str) -> str:
    """Give the outermost element its role and its text alternative."""
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)


def inlined(svg: str, alt: str) -> str:
    """Strip what only a file needs, and replace fixed colors by those of the page."""
    body = svg[svg.index("<svg ") :]
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    rest = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", "", rest, count=1, flags=re.DOTALL)
    rest = re.sub("|".join(THEMED), lambda match: f"var({THEMED[match[0].lower()]})", rest, flags=re.IGNORECASE)
    rest = re.sub(r"font-family: [^;\"]*;? ?", "", rest)  # the page decides about fonts
    rest = re.sub(r"\n\s*", "\n", rest)
    return f'<svg class="chart" role="img" aria-label="{escape(alt)}" {box[0] if box else ""}>{rest.strip()}'
