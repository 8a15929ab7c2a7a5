"""Pictures for notebooks: slices of a case with everyone's outlines, drawn as the report draws them.

Colors, window, turn and field are those of the report (``mpi_unet.report``); here they become a matplotlib figure that
can be taken apart, changed and saved. A figure shows itself in a notebook without pyplot, at twice the resolution of
the screen.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Shaped
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpi_unet.api.outlined import EDGE, Outlined
from mpi_unet.errors import CohortError
from mpi_unet.report.overlays import Field, Stroke, choose_frames, common_field, gray_window
from mpi_unet.report.svg import INK, MUTED
from mpi_unet.shapes import FrameMask, Mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Order", "Picture", "case_figure", "frame_figure"]

Order = Literal["worst", "anatomical"]

PANEL_INCHES = 2.3
MOST_COLUMNS = 4
FRAME_INCHES = 4.6
DPI = 100

EDGE_SIZE = 7.5
"""Points of the names on the edges of the first panel."""

RIM_WIDTH = 0.9
"""Points of the dark rim around a solid outline, so that it carries on every gray."""

POINTS_PER_UNIT = 0.62
"""Width of a line, from the units of the report's panels to points of ours."""


class Picture(Figure):
    """A matplotlib figure that a notebook shows by itself; ``alt`` says what it shows to who cannot see it."""

    alt: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        width, height = (round(inches * DPI) for inches in self.get_size_inches())
        png = b64encode(self.png(2 * DPI)).decode("ascii")
        return {"image/png": png, "text/plain": self.alt}, {
            "image/png": {"width": width, "height": height, "alt": self.alt}
        }

    def png(self, dpi: int = DPI) -> bytes:
        """The picture as PNG."""
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=dpi)
        return buffer.getvalue()


def case_figure(
    shown: Outlined,
    *,
    frames: Sequence[int] | None = None,
    order: str = "worst",
    num_frames: int = 8,
) -> Picture:
    """Draw a case; see :meth:`mpi_unet.api.run_case.RunCase.plot`."""
    chosen = _chosen(shown, frames, order, num_frames)
    field, window = _field(shown, chosen), _window(shown, chosen)
    columns = min(MOST_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    height = PANEL_INCHES * field.height / (field.pixel_width * (field.columns.stop - field.columns.start))
    figure = Picture(figsize=(columns * PANEL_INCHES, rows * (height + 0.2) + 0.65), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(chosen) :]:
        axes.set_axis_off()
    for axes, frame in zip(grid, chosen, strict=False):
        _draw_frame(axes, shown, frame, field, window)
    if shown.view.edges:
        _name_edges(grid[0], shown.view.edges)
    _legend(figure, shown)
    sequence = "" if frames is not None else f"worst {shown.word}s first" if order == "worst" else shown.view.order
    figure.suptitle(shown.title(sequence), fontsize=10, color=INK)
    figure.alt = f"{shown.title(sequence)}: {'; '.join(map(shown.caption, chosen))}"
    return figure


def frame_figure(shown: Outlined, frame: int, hidden: frozenset[str] = frozenset()) -> Picture:
    """One large frame without the outlines that are hidden; field and window are those of the whole case."""
    every = range(len(shown.image))
    figure = Picture(figsize=(FRAME_INCHES, FRAME_INCHES + 0.75), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw_frame(axes, shown, frame, _field(shown, every), _window(shown, every), hidden, larger=1.5)
    if shown.view.edges:
        _name_edges(axes, shown.view.edges)
    _legend(figure, shown, hidden, columns=3)
    return figure


# --- Private helpers --------------------------------------------------------------------------------------------------


def _draw_frame(
    axes: Axes,
    shown: Outlined,
    frame: int,
    field: Field,
    window: tuple[float, float],
    hidden: frozenset[str] = frozenset(),
    larger: float = 1.0,
) -> None:
    """One frame with its outlines in one pair of axes."""
    gray = shown.view.turn(shown.image[frame])[field.rows, field.columns]
    aspect = field.pixel_height / field.pixel_width
    axes.imshow(gray, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bicubic", aspect=aspect)
    for name, mask in shown.masks.items():
        if name in hidden:
            continue
        turned = shown.view.turn(mask[frame])[field.rows, field.columns]
        _draw_outline(axes, turned, shown.strokes[name], larger)
    axes.set_title(shown.caption(frame), fontsize=8 * larger**0.25, color=INK, pad=3)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, gray.shape[1] - 0.5), ylim=(gray.shape[0] - 0.5, -0.5))
    axes.spines[:].set_visible(False)


def _chosen(shown: Outlined, frames: Sequence[int] | None, order: str, num_frames: int) -> list[int]:
    total = len(shown.image)
    if frames is not None:
        beyond = [frame for frame in frames if not 0 <= frame < total]
        if beyond or not len(frames):
            raise CohortError(
                f"{shown.case_id}: frames={list(frames)}; expected one or more of 0 to {total - 1}, as counted from 0"
            )
        return list(frames)
    if order not in ("worst", "anatomical"):
        raise CohortError(f"order={order!r}; expected 'worst' or 'anatomical'")
    union = _union(shown, tuple(shown.masks))
    if order == "worst" and shown.pair() is not None:
        drawn = [frame for frame in range(total) if union[frame].any()] or list(range(total))
        return sorted(drawn, key=lambda frame: (-shown.wrong_pixels(frame), frame))[:num_frames]
    chosen = choose_frames(_union(shown, shown.readers) if shown.readers else union, union, range(total), num_frames)
    return chosen[::-1] if shown.view.reverse_frames else chosen


def _union(shown: Outlined, names: Sequence[str]) -> Mask:
    """What any of these outline; everything where there is nobody."""
    inside = [shown.masks[name] >= EDGE for name in names]
    return np.any(inside, axis=0) if inside else np.ones(shown.image.shape, bool)


def _field(shown: Outlined, frames: Sequence[int]) -> Field:
    turned: list[FrameMask] = [
        shown.view.turn(mask[frame] >= EDGE) for mask in shown.masks.values() for frame in frames
    ]
    return common_field(turned or [np.ones(shown.image.shape[1:], bool)], shown.spacing_yx)


def _window(shown: Outlined, frames: Sequence[int]) -> tuple[float, float]:
    field = _field(shown, frames)
    return gray_window([shown.view.turn(shown.image[frame])[field.rows, field.columns] for frame in frames])


def _draw_outline(axes: Axes, mask: Shaped[np.ndarray, "y x"], stroke: Stroke, larger: float) -> None:
    from skimage.measure import find_contours

    width = stroke.width * POINTS_PER_UNIT * larger
    for line in find_contours(np.pad(mask, 1).astype(np.float64), EDGE):
        across, down = line[:, 1] - 1, line[:, 0] - 1
        if not stroke.dashes:
            axes.plot(across, down, color="black", alpha=0.6, linewidth=width + RIM_WIDTH)
        axes.plot(across, down, color=stroke.color, linewidth=width, linestyle=_dashes(stroke))


def _dashes(stroke: Stroke) -> Any:
    """Lengths in widths of the line, as matplotlib takes them."""
    if not stroke.dashes:
        return "solid"
    return (0, tuple(float(length) / stroke.width for length in stroke.dashes.split()))


def _name_edges(axes: Axes, edges: Sequence[str]) -> None:
    """The names of the sides on the first panel, light with a dark rim."""
    from matplotlib.patheffects import withStroke

    top, right, bottom, left = edges
    places = ((top, 0.5, 0.97, 0), (bottom, 0.5, 0.03, 0), (left, 0.035, 0.5, 90), (right, 0.965, 0.5, 90))
    for name, across, up, turn in places:
        axes.text(
            across,
            up,
            name,
            transform=axes.transAxes,
            rotation=turn,
            ha="center" if across == 0.5 else ("left" if across < 0.5 else "right"),
            va="center" if across != 0.5 else ("top" if up > 0.5 else "bottom"),
            fontsize=EDGE_SIZE,
            color="white",
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )


def _legend(figure: Figure, shown: Outlined, hidden: frozenset[str] = frozenset(), columns: int = 6) -> None:
    """Whose line is whose, below all panels, on the gray that the lines are made for."""
    from matplotlib.lines import Line2D

    drawn = [name for name in shown.masks if name not in hidden]
    if not drawn:
        return
    lines = [
        Line2D([], [], color=stroke.color, linestyle=_dashes(stroke), linewidth=1.6)
        for stroke in (shown.strokes[name] for name in drawn)
    ]
    names = [f"{name} (simulated)" if shown.is_simulated and name in shown.readers else name for name in drawn]
    legend = figure.legend(lines, names, loc="outside lower center", ncols=min(columns, len(lines)), fontsize=8.5)
    legend.get_frame().set(facecolor="#3a4350", edgecolor=MUTED)
    for text in legend.get_texts():
        text.set_color("white")
