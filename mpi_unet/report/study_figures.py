"""The pictures on the page of a study: cuts with the outline, the polar map, the time-volume curve, the thumbnail.

Slices are gray, from black (no counts) to white (the highest uptake within the outline), as readers of perfusion images
are used to and as nothing needs to be learnt for. The polar map is drawn in *inferno*, whose lightness rises evenly
with uptake: unlike a rainbow it draws no edges of its own, and it can be read in gray and by color-blind readers. What
was not measured is hatched, never black.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from mpi_unet.cardiac.disc import disc_picture
from mpi_unet.cardiac.polar_map import PolarMap
from mpi_unet.cardiac.segments import SEGMENT_ANGLES_DEG, SEGMENT_NAMES, segment_means
from mpi_unet.cardiac.volumes import TimeVolumeCurve
from mpi_unet.report.overlays import NETWORK_COLOR, WIDTH, edge_word, panel_svg, scale_bar
from mpi_unet.report.study_planes import Cut, Plane
from mpi_unet.report.svg import INK, MUTED, Drawing, panel, series_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS",
    "curve_drawing",
    "cut_panel",
    "gray_levels",
    "middle_cut",
    "outline_points",
    "polar_drawing",
    "polar_words",
    "segment_lines",
    "segment_places",
    "thumbnail_png",
]

COLORS = "inferno"
"""Matplotlib's name of the colors of the polar map (van der Walt and Smith 2015)."""

NUM_LEVELS = 255
"""Of uptake from 0 to 100 % in the picture of the map."""

STROKE_WIDTH = 1.3
"""In units of a panel of 200: thinner than half a clinical pixel, so that the wall under it is seen."""

DISC_SIZE = 300
"""Diameter of the polar map in units of its drawing."""

WORD_SIZE = 13.0
"""Of words on a cut, in units of a panel of 200."""

THUMBNAIL_PIXELS = 96
UNMEASURED = (
    '<defs><pattern id="unmeasured" width="7" height="7" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect width="7" height="7" fill="#c9ced4"/>'
    '<path d="M0 0V7" stroke="#5f6b7a" stroke-width="2.5"/></pattern></defs>'
)
"""Hatching of what was not measured."""

ZONE_RADII = {"basal": 7 / 8, "middle": 5 / 8, "apical": 3 / 8}
"""Middle of each ring of segments as a share of the radius of the disc."""


def cut_panel(cut: Cut, plane: Plane, limits: tuple[float, float], alt: str, *, is_first: bool) -> str:
    """One cut with the outline; edges are named and the scale drawn on the first one of its plane.

    Args:
        cut: The cut.
        plane: That it belongs to.
        limits: Intensities shown as black and as white.
        alt: What it shows, in words.
        is_first: Whether names and scale are drawn.
    """
    rows, columns = cut.image.shape
    row_mm, column_mm = plane.pixel_mm or (1.0, 1.0)
    height = WIDTH * rows * row_mm / (columns * column_mm)
    uri = _gray_uri(cut, limits)
    parts = [f'<image href="{uri}" width="{WIDTH:g}" height="{height:.2f}" preserveAspectRatio="none"/>']
    if path := _path(outline_points(cut), WIDTH / columns, height / rows):
        shape = f'<path class="outline" d="{path}" fill="none"'
        parts.append(f'{shape} stroke="#000" stroke-opacity="0.55" stroke-width="{STROKE_WIDTH + 1.2:g}"/>')
        parts.append(f'{shape} stroke="{NETWORK_COLOR}" stroke-width="{STROKE_WIDTH:g}"/>')
    if is_first and plane.edges:
        top, right, bottom, left = plane.edges
        parts += [
            edge_word(top, WIDTH / 2, 14.0, size=WORD_SIZE),
            edge_word(bottom, WIDTH / 2 + 14, height - 5, size=WORD_SIZE),
            edge_word(left, 13.0, height / 2, turn=-90, size=WORD_SIZE),
            edge_word(right, WIDTH - 5, height / 2, turn=-90, size=WORD_SIZE),
        ]
    if is_first and plane.pixel_mm:
        parts.append(scale_bar(columns * column_mm, height, size=WORD_SIZE))
    return panel_svg("".join(parts), WIDTH, height, alt)


def outline_points(cut: Cut) -> list[Float[np.ndarray, "n 2"]]:
    """Closed lines (row, column) in pixels from the upper left corner, where the share of the mask passes one half."""
    from skimage.measure import find_contours

    return [line - 0.5 for line in find_contours(np.pad(cut.share.astype(np.float64), 1), 0.5)]


def polar_drawing(polar: PolarMap, alt: str) -> str:
    """The polar map with the 17 segments, their means and a scale, as an element of the page.

    Args:
        polar: A normalized map.
        alt: What it shows, in words.
    """
    radius, pad = DISC_SIZE / 2, 22
    center = radius + pad
    width, height = DISC_SIZE + 2 * pad + 70, DISC_SIZE + 2 * pad
    parts = [
        UNMEASURED,
        f'<circle cx="{center:g}" cy="{center:g}" r="{radius:g}" fill="url(#unmeasured)"/>',
        f'<image href="{_disc_uri(polar)}" x="{pad}" y="{pad}" width="{DISC_SIZE}" height="{DISC_SIZE}"/>',
        f'<path d="{_segment_borders(center, radius)}" fill="none" stroke="#fff" stroke-opacity="0.75"/>',
    ]
    for mean, (right, down) in zip(segment_means(polar), segment_places(), strict=True):
        text = "?" if mean is None else f"{mean:.0f}"
        parts.append(_map_word(text, center + right * radius, center + down * radius + 4.5))
    parts += [
        _side_word("anterior", center, pad - 7),
        _side_word("inferior", center, height - 6),
        _side_word("septal", pad - 7, center, turn=-90),
        _side_word("lateral", pad + DISC_SIZE + 15, center, turn=-90),
        *_color_bar(pad + DISC_SIZE + 28, pad, DISC_SIZE),
    ]
    return (
        f'<svg class="polar" role="img" aria-label="{escape(alt)}" viewBox="0 0 {width:g} {height:g}">'
        f"{''.join(parts)}</svg>"
    )


def segment_places() -> list[tuple[float, float]]:
    """Where the number of each segment stands on the disc: right and down, in radii from the middle."""
    places = [
        (float(np.sin(np.deg2rad(angle)) * ZONE_RADII[zone]), float(-np.cos(np.deg2rad(angle)) * ZONE_RADII[zone]))
        for zone in ("basal", "middle", "apical")
        for angle in SEGMENT_ANGLES_DEG[zone]
    ]
    return [*places, (0.0, 0.0)]


def segment_lines() -> tuple[list[float], list[tuple[float, float, float]]]:
    """Radii of the rings, and spokes as (wall angle in degrees, inner radius, outer radius), in radii of the disc."""
    six = [(30.0 + 60 * index, 0.5, 1.0) for index in range(6)]
    four = [(45.0 + 90 * index, 0.25, 0.5) for index in range(4)]
    return [0.25, 0.5, 0.75, 1.0], six + four


def polar_words(means: Sequence[float | None], unit: str) -> str:
    """Lowest and highest segment in words, for readers who cannot see the map.

    Example:
        >>> polar_words([90.0, None, *[80.0] * 14, 40.0], "percent")
        'highest in the basal anterior segment (90), lowest in the apex (40), percent; 1 segment not measured'
    """
    known = [(mean, name) for mean, name in zip(means, SEGMENT_NAMES, strict=True) if mean is not None]
    if not known:
        return "no segment was measured"
    (low, lowest), (high, highest) = min(known), max(known)
    missing = len(means) - len(known)
    words = f"highest in the {_segment_words(highest)} ({high:.0f}), lowest in the {_segment_words(lowest)} ({low:.0f})"
    return f"{words}, {unit}" + (f"; {missing} segment{'s' * (missing > 1)} not measured" if missing else "")


def curve_drawing(curve: TimeVolumeCurve) -> Drawing:
    """Cavity over the cycle: measured gates as dots, the fitted curve as a line, both extremes named."""
    gates = np.array(curve.gates_ml)
    number = len(gates)

    def draw(axes: Axes) -> None:
        if curve.curve_ml is not None and curve.end_diastolic_ml is not None and curve.end_systolic_ml is not None:
            fitted = np.array([*curve.curve_ml, curve.curve_ml[0]])
            axes.plot(np.linspace(1, number + 1, len(fitted)), fitted, color=series_color(0), zorder=2)
            for value, name in ((curve.end_diastolic_ml, "EDV"), (curve.end_systolic_ml, "ESV")):
                axes.plot([1, number + 1], [value, value], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
                words = f"{name} {value:.0f} ml"
                axes.text(number + 1.15, value, words, ha="left", va="center", color=INK)
        axes.plot(np.arange(1, number + 1), gates, "o", color=series_color(1), markersize=5, zorder=3)
        axes.set_xlabel("gate (1 begins at the R wave)")
        axes.set_ylabel("cavity, ml")
        axes.set_xlim(0.6, number + (1.15 + 0.26 * number if curve.curve_ml is not None else 1))
        axes.set_xticks(range(1, number + 1, 1 if number <= 8 else 2))
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low - 0.12 * (high - low)), high + 0.12 * (high - low))

    alt = "Volume of the cavity in each gate, ml: " + ", ".join(f"{value:.0f}" for value in gates.tolist())
    return panel("curve", alt, draw, (4.6, 2.9))


def middle_cut(planes: Sequence[Plane]) -> Cut | None:
    """The cut that stands for a study in a list: the middle one of the first plane."""
    if not planes or not planes[0].cuts:
        return None
    return planes[0].cuts[len(planes[0].cuts) // 2]


def thumbnail_png(cut: Cut, limits: tuple[float, float]) -> bytes:
    """A small picture of a cut with its outline: 96 pixels, a few kilobytes."""
    from PIL import Image, ImageDraw

    scale = THUMBNAIL_PIXELS / max(cut.image.shape)
    size = (max(1, round(cut.image.shape[1] * scale)), max(1, round(cut.image.shape[0] * scale)))
    picture = Image.fromarray(gray_levels(cut, limits)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    pencil = ImageDraw.Draw(picture)
    for line in outline_points(cut):
        pencil.line([(column * scale, row * scale) for row, column in line.tolist()], fill=NETWORK_COLOR)
    buffer = BytesIO()
    picture.quantize(64).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def gray_levels(cut: Cut, limits: tuple[float, float]) -> UInt8[np.ndarray, "row column"]:
    """Intensities as 0 (black) to 255 (white); what lies beyond the volume is black."""
    black, white = limits
    shares = (np.nan_to_num(cut.image, nan=black) - black) / (white - black)
    return np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _gray_uri(cut: Cut, limits: tuple[float, float]) -> str:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(gray_levels(cut, limits)).save(buffer, format="PNG", optimize=True)
    return _uri(buffer.getvalue())


def _disc_uri(polar: PolarMap) -> str:
    """The map in a palette, its first entry for what was not measured: true color takes ten times as long."""
    from PIL import Image

    disc = disc_picture(np.clip(polar.values, 0, 100), DISC_SIZE)
    levels = np.where(np.isfinite(disc), 1 + np.nan_to_num(disc) * (NUM_LEVELS - 1) / 100, 0)
    picture = Image.fromarray(levels.round().astype(np.uint8))
    picture.putpalette(_palette())
    buffer = BytesIO()
    picture.save(buffer, format="PNG", transparency=0)
    return _uri(buffer.getvalue())


@cache
def _palette() -> bytes:
    from matplotlib import colormaps

    colors = colormaps[COLORS](np.linspace(0, 1, NUM_LEVELS), bytes=True)[:, :3]
    return bytes(3) + colors.tobytes()


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _path(lines: Sequence[np.ndarray], width: float, height: float) -> str:
    parts = []
    for line in lines:
        points = [f"{column * width:.1f} {row * height:.1f}" for row, column in line.tolist()]
        parts.append("M" + "L".join(points[:-1]) + "Z")
    return "".join(parts)


def _segment_borders(center: float, radius: float) -> str:
    rings, spokes = segment_lines()
    parts = []
    for ring in rings:
        size = ring * radius
        arc = f"a{size:.1f} {size:.1f} 0 1 0"
        parts.append(f"M{center - size:.1f} {center:g}{arc} {2 * size:.1f} 0{arc} {-2 * size:.1f} 0")
    for angle, inner, outer in spokes:
        right, down = np.sin(np.deg2rad(angle)) * radius, -np.cos(np.deg2rad(angle)) * radius
        parts.append(
            f"M{center + right * inner:.1f} {center + down * inner:.1f}"
            f"L{center + right * outer:.1f} {center + down * outer:.1f}"
        )
    return "".join(parts)


@cache
def _color_bar(left: float, top: float, height: float) -> tuple[str, ...]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = "".join(
        f'<stop offset="{100 - level}%" stop-color="{to_hex(colormaps[COLORS](level / 100))}"/>'
        for level in range(100, -1, -10)
    )
    bar = (
        f'<linearGradient id="uptake" x1="0" y1="0" x2="0" y2="1">{stops}</linearGradient>'
        f'<rect x="{left:g}" y="{top:g}" width="14" height="{height:g}" fill="url(#uptake)" stroke="var(--muted)"/>'
    )
    labels = [
        f'<text x="{left + 19:g}" y="{top + height * (100 - level) / 100 + 4:.1f}" font-size="12" '
        f'fill="var(--ink)">{level}</text>'
        for level in (0, 25, 50, 75, 100)
    ]
    return (bar, *labels)


def _map_word(text: str, x: float, y: float) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="13" font-weight="600" fill="#fff" '
        f'stroke="#000" stroke-width="3" paint-order="stroke">{escape(text)}</text>'
    )


def _side_word(text: str, x: float, y: float, turn: int = 0) -> str:
    rotation = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
    place = f'x="{x:g}" y="{y:g}" text-anchor="middle"{rotation}'
    return f'<text {place} font-size="13" fill="var(--ink)">{escape(text)}</text>'


def _segment_words(name: str) -> str:
    return name if name == "apex" else f"{name} segment"
