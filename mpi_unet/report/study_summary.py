"""One page of a study for viewers that show pictures and nothing else: Secondary Capture, encapsulated PDF, slides.

It holds what the page of the study holds first - flags, main numbers, one row of each plane, the polar map and the
curve - and no id of anybody: who it is about stands in the object that carries it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from mpi_unet.cardiac.disc import disc_picture
from mpi_unet.cardiac.polar_map import PolarMap
from mpi_unet.cardiac.segments import segment_means
from mpi_unet.cardiac.volumes import TimeVolumeCurve
from mpi_unet.report.overlays import NETWORK_COLOR
from mpi_unet.report.study_figures import COLORS, gray_levels, outline_points, segment_lines, segment_places
from mpi_unet.report.study_page import DISCLAIMER, StudyContent, in_order
from mpi_unet.report.study_planes import gray_limits
from mpi_unet.report.svg import INK, MUTED, STYLE, series_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["pdf_of", "picture_of", "polar_picture", "summary_figure", "summary_pdf", "summary_picture"]

PAGE_INCHES = (11.0, 8.0)
POLAR_INCHES = (5.0, 4.5)
DOTS_PER_INCH = 110
NUM_CUTS = 5
NUM_PLANES = 3
LINE_CHARACTERS = 58
MOST_LINES = 16
DISC_PIXELS = 400

EDGES = ((0.5, 0.93, 0), (0.97, 0.5, 90), (0.5, 0.05, 0), (0.03, 0.5, 90))
"""Place and turn of the names of top, right, bottom and left edge."""

SIDES = (("anterior", 0, 1.1, 0), ("inferior", 0, -1.1, 0), ("septal", -1.1, 0, 90), ("lateral", 1.1, 0, 90))


def summary_picture(content: StudyContent) -> UInt8[np.ndarray, "row column 3"]:
    """The page as red, green and blue."""
    return picture_of(summary_figure(content))


def polar_picture(content: StudyContent) -> UInt8[np.ndarray, "row column 3"] | None:
    """The polar map alone as red, green and blue; None where there is none."""
    if content.polar is None:
        return None
    with _style():
        figure = _blank(POLAR_INCHES)
        _draw_polar(figure, figure.add_axes((0.03, 0.03, 0.94, 0.94)), content.polar)
        return picture_of(figure)


def summary_pdf(content: StudyContent) -> bytes:
    """The page as a PDF of one page; the same content gives the same bytes."""
    return pdf_of(summary_figure(content))


def summary_figure(content: StudyContent) -> Figure:
    """The page laid out, for whoever wants both a picture and a PDF: the layout takes about as long as either."""
    with _style():
        figure = _blank(PAGE_INCHES)
        figure.text(0.02, 0.975, "Left ventricle, outlined by a network", fontsize=13, weight="bold", va="top")
        figure.text(0.02, 0.94, f"Run {content.run}. {DISCLAIMER}", fontsize=7.5, va="top", color=MUTED)
        _draw_planes(figure, content)
        _draw_words(figure, content)
        if content.polar is not None:
            _draw_polar(figure, figure.add_axes((0.02, 0.03, 0.27, 0.36)), content.polar)
        if content.curve is not None:
            _draw_curve(figure.add_axes((0.38, 0.08, 0.22, 0.26)), content.curve)
        return figure


def picture_of(figure: Figure) -> UInt8[np.ndarray, "row column 3"]:
    """A figure as red, green and blue."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def pdf_of(figure: Figure) -> bytes:
    """A figure as a PDF of one page, whose bytes say nothing of when it was made."""
    buffer = BytesIO()
    nothing: Any = {"CreationDate": None, "Producer": None, "Creator": "mpi_unet"}
    figure.savefig(buffer, format="pdf", metadata=nothing)
    return buffer.getvalue()


# --- Private helpers --------------------------------------------------------------------------------------------------


def _blank(inches: tuple[float, float]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def _style() -> AbstractContextManager[None]:
    import matplotlib

    return matplotlib.rc_context({**STYLE, "font.size": 9, "axes.grid": False})


def _draw_planes(figure: Figure, content: StudyContent) -> None:
    """Five cuts of each of the first three planes, evenly chosen."""
    planes = content.planes[:NUM_PLANES]
    if not planes:
        figure.text(0.02, 0.7, f"No pictures: {content.why_no_planes}.")
        return
    limits = gray_limits(content.planes)
    for row, plane in enumerate(planes):
        top = 0.90 - row * 0.165
        order = f", {plane.order}" if plane.order else ""
        figure.text(0.02, top, f"{plane.title}{order}", fontsize=8, va="top")
        chosen = np.linspace(0, len(plane.cuts) - 1, min(NUM_CUTS, len(plane.cuts))).round().astype(int)
        for place, number in enumerate(chosen.tolist()):
            cut = plane.cuts[number]
            axes = figure.add_axes((0.02 + place * 0.115, top - 0.155, 0.11, 0.135))
            axes.imshow(gray_levels(cut, limits), cmap="gray", vmin=0, vmax=255, aspect="equal")
            for line in outline_points(cut):
                axes.plot(line[:, 1] - 0.5, line[:, 0] - 0.5, color=NETWORK_COLOR, linewidth=0.8)
            axes.set_axis_off()
            if place == 0 and plane.edges:
                for word, (x, y, turn) in zip(plane.edges, EDGES, strict=True):
                    text = axes.text(x, y, word, color="white", fontsize=5.5, transform=axes.transAxes)
                    text.set(rotation=turn, ha="center", va="center")


def _draw_words(figure: Figure, content: StudyContent) -> None:
    lines = ["What to look at"]
    for flag in in_order(content.flags):
        lines += wrap(f"{flag.word}: {flag.sentence}", LINE_CHARACTERS)
    if not content.flags:
        lines += wrap("No flag was raised, which does not say that the outline is right.", LINE_CHARACTERS)
    shown = lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        shown[-1] = "... the page of the study has the rest"
    figure.text(0.63, 0.90, "\n".join(shown), fontsize=8, va="top", linespacing=1.4)
    numbers = []
    for one in content.quantities:
        value = f"{one.text} {one.unit}" if one.value is not None else f"not measured: {one.why_not}"
        numbers += wrap(f"{one.label}: {value}", LINE_CHARACTERS, subsequent_indent="    ")
    figure.text(0.63, 0.55, "\n".join(numbers[:26]), fontsize=8, va="top", linespacing=1.35)


def _draw_polar(figure: Figure, axes: Axes, polar: PolarMap) -> None:
    """The polar map as on the page, normalization said under it."""
    disc = disc_picture(np.clip(polar.values, 0, 100), DISC_PIXELS)
    axes.add_patch(_circle(1.0, facecolor="#c9ced4", hatch="////", edgecolor=MUTED))
    picture = axes.imshow(disc, cmap=COLORS, vmin=0, vmax=100, extent=(-1, 1, -1, 1), zorder=2)
    rings, spokes = segment_lines()
    for ring in rings:
        axes.add_patch(_circle(ring, fill=False, edgecolor="white", linewidth=0.7, zorder=3))
    for angle, inner, outer in spokes:
        right, up = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
        axes.plot([right * inner, right * outer], [up * inner, up * outer], color="white", linewidth=0.7, zorder=3)
    for mean, (right, down) in zip(segment_means(polar), segment_places(), strict=True):
        text = axes.text(right, -down, "?" if mean is None else f"{mean:.0f}", color="white", fontsize=7.5, zorder=4)
        text.set(ha="center", va="center", path_effects=_rim())
    for word, x, y, turn in SIDES:
        axes.text(x, y, word, fontsize=7.5, rotation=turn, ha="center", va="center", color=INK)
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.35, 1.2), aspect="equal")
    axes.text(0, -1.3, f"uptake, {polar.unit} of this study", fontsize=7.5, ha="center", color=MUTED)
    axes.set_axis_off()
    bar = figure.colorbar(picture, ax=axes, shrink=0.7, pad=0.02)
    bar.ax.tick_params(labelsize=7)


def _draw_curve(axes: Axes, curve: TimeVolumeCurve) -> None:
    number = len(curve.gates_ml)
    if curve.curve_ml is not None:
        fitted = [*curve.curve_ml, curve.curve_ml[0]]
        axes.plot(np.linspace(1, number + 1, len(fitted)), fitted, color=series_color(0))
    axes.plot(range(1, number + 1), curve.gates_ml, "o", color=series_color(1), markersize=4)
    axes.set_xlabel("gate", fontsize=8)
    axes.set_ylabel("cavity, ml", fontsize=8)
    axes.tick_params(labelsize=7)


def _circle(radius: float, **options: Any) -> Any:
    from matplotlib.patches import Circle

    return Circle((0, 0), radius, **options)


def _rim() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground="black")]
