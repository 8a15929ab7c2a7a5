"""Pictures of one study for viewers that show nothing else: its polar map, and a summary on one page.

They name nobody: what stands on them are numbers, sentences of ours and the name of the run. Slices are shown as
perfusion is read, by the conventions of Cerqueira et al. 2002 (Circulation 105:539): short axis from apex to base with
the septum on the left, horizontal long axis with the apex on top, vertical long axis with the apex on the right; where
no axis could be found, the planes of the volume itself. Gray runs from black at 0 to white at the 99.5th percentile
around the heart. The polar map is in percent of its hottest pixel, in one color scale (viridis) that is even to the eye
and stays readable in gray.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from mpi_unet.cardiac.axis import HeartAxes
from mpi_unet.cardiac.polar_map import PolarMap, normalized
from mpi_unet.cardiac.reorient import on_grid, short_axis_grid
from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Affine, Image, Mask, SpacingMm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Shown", "as_pdf", "as_picture", "polar_figure", "summary_figure"]

NOTICE = "Derived by software, for research. Not for primary diagnosis."

DOTS_PER_INCH = 100
NUM_SLICES = 6
OUTLINE_COLOR = "#ffb000"
WHITE_PERCENTILE = 99.5
FIELD_MM, PIXEL_MM = 160.0, 2.5
"""Side of the square that is shown around the heart, and its pixels."""

LARGEST_TEXT = 110
"""Characters of a line on the page."""


@dataclass(frozen=True)
class Shown:
    """What stands on the page of a study.

    Attributes:
        title: Study, by its pseudonym.
        run: Of the network.
        image: Uptake (z, y, x).
        mask: What was outlined.
        affine: Voxel index (x, y, z) to RAS.
        spacing_mm: Along (z, y, x).
        axes: Of the heart; None where none were found.
        polar: In counts; None where there is none.
        lines: Numbers, with their units.
        flags: Sentences.
    """

    title: str
    run: str
    image: Image
    mask: Mask
    affine: Affine
    spacing_mm: SpacingMm
    axes: HeartAxes | None
    polar: PolarMap | None
    lines: Sequence[str]
    flags: Sequence[str]


def polar_figure(shown: Shown) -> Figure | None:
    """The polar map alone; None without one."""
    from matplotlib.figure import Figure

    if shown.polar is None:
        return None
    figure = Figure(figsize=(5, 5), dpi=DOTS_PER_INCH, layout="constrained")
    _draw_polar(figure, figure.add_subplot(projection="polar"), shown.polar)
    return figure


def summary_figure(shown: Shown) -> Figure:
    """Slices with outlines, polar map, numbers and flags on one page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), dpi=DOTS_PER_INCH)
    panels = _slices(shown)
    width = 1 / max(len(panels), 1)
    for number, (title, plane, outline, aspect) in enumerate(panels):
        axes = figure.add_axes((number * width + 0.003, 0.66, width - 0.006, 0.22))
        axes.imshow(plane, cmap="gray", vmin=0, vmax=_white(shown), aspect=aspect, interpolation="bilinear")
        if outline.any():
            axes.contour(outline.astype(float), levels=[0.5], colors=OUTLINE_COLOR, linewidths=1.0)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    if shown.polar is not None:
        _draw_polar(figure, figure.add_axes((0.06, 0.08, 0.32, 0.46), projection="polar"), shown.polar)
    else:
        figure.text(0.05, 0.5, "No polar map", fontsize=11)
    figure.text(0.02, 0.965, f"Left ventricle: {shown.title}"[:LARGEST_TEXT], fontsize=13, weight="bold", va="top")
    figure.text(0.02, 0.925, f"{NOTICE} Network: {shown.run}"[:LARGEST_TEXT], fontsize=9, va="top")
    figure.text(0.44, 0.60, _as_block(["Measurements", *shown.lines], 16), fontsize=9, va="top")
    figure.text(
        0.44, 0.26, _as_block(["To look at", *(shown.flags or ["nothing was noticed"])], 10), fontsize=9, va="top"
    )
    return figure


def as_picture(figure: Figure) -> UInt8[np.ndarray, "row column 3"]:
    """A figure as red, green and blue."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def as_pdf(figure: Figure) -> bytes:
    """A figure as a PDF of one page; the same figure gives the same bytes."""
    page = io.BytesIO()
    figure.savefig(page, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": "mpi_unet"})
    return page.getvalue()


# --- Private helpers --------------------------------------------------------------------------------------------------

Panel = tuple[str, np.ndarray, np.ndarray, float]
"""Title, gray values, outline, height of a pixel over its width."""


def _slices(shown: Shown) -> list[Panel]:
    if shown.axes is not None:
        try:
            return _heart_planes(shown, shown.axes)
        except CardiacError:
            return _own_planes(shown)
    return _own_planes(shown)


def _heart_planes(shown: Shown, axes: HeartAxes) -> list[Panel]:
    matrix = round(FIELD_MM / PIXEL_MM)
    shape, affine = short_axis_grid(axes, spacing_mm=(PIXEL_MM,) * 3, matrix=matrix)
    image = on_grid(shown.image, shown.affine, shape, affine)
    outline = on_grid(shown.mask.astype(np.float32), shown.affine, shape, affine) >= 0.5
    inside = np.flatnonzero(outline.any(axis=(1, 2)))
    first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, shape[0] - 1)
    chosen = np.linspace(first + 1, last - 1, NUM_SLICES).round().astype(int).clip(0, shape[0] - 1)
    names = ["Short axis, apex", *[""] * (NUM_SLICES - 2), "base"]
    panels = [(name, image[z], outline[z], 1.0) for name, z in zip(names, chosen, strict=True)]
    row, column = (matrix - 1) // 2, (matrix - 1) // 2
    panels.append(("Horizontal long axis", image[:, row, :], outline[:, row, :], 1.0))
    panels.append(("Vertical long axis", image[::-1, :, column].T, outline[::-1, :, column].T, 1.0))
    return panels


def _own_planes(shown: Shown) -> list[Panel]:
    """Slices of the volume through what was outlined, and the two planes across them."""
    where = np.argwhere(shown.mask)
    size = np.array(shown.image.shape)
    low, high = (where.min(axis=0), where.max(axis=0)) if len(where) else (np.zeros(3, int), size - 1)
    middle = (low + high) // 2
    chosen = np.linspace(low[0], high[0], NUM_SLICES).round().astype(int)
    dz, dy, dx = shown.spacing_mm
    panels = [(f"slice {z + 1}", shown.image[z], shown.mask[z], dy / dx) for z in chosen]
    panels.append((f"row {middle[1] + 1}", shown.image[:, middle[1]], shown.mask[:, middle[1]], dz / dx))
    panels.append((f"column {middle[2] + 1}", shown.image[:, :, middle[2]], shown.mask[:, :, middle[2]], dz / dy))
    return panels


def _white(shown: Shown) -> float:
    """The gray value that is shown white: near the top of what lies within the outline, else of everything."""
    values = shown.image[shown.mask] if shown.mask.any() else shown.image
    return max(float(np.percentile(values, WHITE_PERCENTILE)), 1e-6)


def _draw_polar(figure: Figure, axes: Any, polar: PolarMap) -> None:
    """Anterior on top, lateral on the right; segments of the AHA model with their borders."""
    shares = normalized(polar)
    rings, angles = shares.values.shape
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    edges = np.deg2rad(np.arange(angles + 1) * 360 / angles)
    values = np.ma.masked_invalid(shares.values)
    drawn = axes.pcolormesh(edges, np.arange(rings + 1), values, cmap="viridis", vmin=0, vmax=100, rasterized=True)
    axes.set_facecolor("0.8")
    zone = shares.rings_per_zone
    _draw_borders(axes, zone, rings)
    axes.set_ylim(0, rings)
    axes.set_yticks([])
    axes.set_xticks(np.deg2rad([0, 90, 180, 270]), ["anterior", "lateral", "inferior", "septal"], fontsize=8)
    axes.grid(visible=False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.1)
    bar.set_label("uptake, % of the hottest pixel (gray: not measured)", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _draw_borders(axes: Axes, zone: int, rings: int) -> None:
    around = np.linspace(0, 2 * np.pi, 200)
    for ring in (zone, 2 * zone, 3 * zone):
        axes.plot(around, np.full_like(around, ring), color="white", linewidth=0.8)
    for angle in (30, 90, 150, 210, 270, 330):
        axes.plot(np.deg2rad([angle, angle]), [2 * zone, rings], color="white", linewidth=0.8)
    for angle in (45, 135, 225, 315):
        axes.plot(np.deg2rad([angle, angle]), [zone, 2 * zone], color="white", linewidth=0.8)


def _as_block(lines: Sequence[str], most: int) -> str:
    """Lines of a page; those that have no room are counted."""
    shown = [line if len(line) <= LARGEST_TEXT else line[: LARGEST_TEXT - 3] + "..." for line in lines]
    wrapped: list[str] = []
    for line in shown:
        while len(line) > 72:
            cut = line.rfind(" ", 0, 72)
            cut = cut if cut > 0 else 72
            wrapped.append(line[:cut])
            line = "    " + line[cut:].strip()
        wrapped.append(line)
    if len(wrapped) > most:
        wrapped = [*wrapped[: most - 1], f"... and {len(wrapped) - most + 1} more lines in the tables"]
    return "\n".join(wrapped).replace("$", r"\$")
