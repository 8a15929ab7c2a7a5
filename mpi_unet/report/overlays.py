"""The worst, the median and the best case: frames with the outlines of reader and network.

Gray values run linearly from black (no counts) to white, as perfusion slices are read in gray; white is the 99.5th
percentile inside the part shown, so that a hot gut outside it does not darken the heart. Frames are enlarged with cubic
interpolation for display only; outlines are drawn halfway between pixels inside and outside the mask, not smoothed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.nifti import read_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError
from mpi_unet.report.display import View, view_of
from mpi_unet.report.record import parse_number
from mpi_unet.report.svg import Drawing
from mpi_unet.shapes import FrameMask, Mask

NUM_PANELS = 5
WIDTH = 200.0
"""Width of a panel in the units of its drawing."""

PIXELS_ACROSS = 240
"""A panel's image is enlarged to about this many pixels."""

MARGIN_PIXELS = 5
MIN_FIELD_PIXELS = 26
WHITE_PERCENTILE = 99.5

READER_COLOR = "#ffb000"
NETWORK_COLOR = "#64c8ff"
"""Amber and light blue: apart for every common kind of color blindness, and both lighter than the gray beneath."""

NETWORK_DASHES = "5 3"
SCALE_BARS_MM = (10, 20, 50, 100)


@dataclass(frozen=True)
class CaseScore:
    """Dice of one case, and its place in the order of all cases."""

    role: str
    case_id: str
    patient_id: str
    fold: str
    dice: float


@dataclass(frozen=True)
class Stroke:
    """How one outline is drawn; ``layer`` is a class by which the page can hide it."""

    color: str
    dashes: str = ""
    width: float = 1.7
    layer: str = ""


READER_STROKE = Stroke(READER_COLOR)
NETWORK_STROKE = Stroke(NETWORK_COLOR, NETWORK_DASHES)


@dataclass(frozen=True)
class Overlay:
    """The panels of one case; ``whole`` is all of them in one file, ``note`` says how frames were chosen and turned."""

    score: CaseScore
    panels: tuple[Drawing, ...]
    captions: tuple[str, ...]
    whole: Drawing
    note: str


@dataclass(frozen=True)
class Field:
    """The part of a frame that is shown: rows and columns, and the size of a pixel in units of the drawing."""

    rows: slice
    columns: slice
    pixel_height: float
    pixel_width: float

    @property
    def height(self) -> float:
        """Height of the panel in units of the drawing."""
        return (self.rows.stop - self.rows.start) * self.pixel_height


def pick_cases(rows: Sequence[Mapping[str, str]]) -> list[CaseScore]:
    """Choose the worst, the median and the best case by Dice, each case once; ties go by case id.

    Cases without a Dice are not candidates; with an even number of cases the lower middle one is the median.
    """
    cases = [(parse_number(row["value"]), row["case_id"], row) for row in rows if row["metric"] == "dice"]
    ordered = sorted((item for item in cases if np.isfinite(item[0])), key=lambda item: item[:2])
    places = {"worst": 0, "median": (len(ordered) - 1) // 2, "best": len(ordered) - 1}
    picked: dict[int, CaseScore] = {}
    for role, place in places.items():
        if ordered and place not in picked:
            value, case_id, row = ordered[place]
            picked[place] = CaseScore(role, case_id, row["patient_id"], row["fold"], value)
    return list(picked.values())


def case_overlay(
    score: CaseScore, cohort: Cohort, reader: str, prediction: Path, held_out: Sequence[int] | None = None
) -> Overlay | str:
    """Draw one case, or say in a sentence why it cannot be drawn.

    Args:
        score: The case and its Dice.
        cohort: Where image and reader's mask are.
        reader: Whose outline is drawn.
        prediction: The out-of-fold mask of the network.
        held_out: Frames that the mask is about, where images were divided; None for all.
    """
    try:
        case = cohort.case(score.case_id)
        target, preds = case.read_mask(reader), read_mask(prediction)
        volume = case.read_image()
    except (CohortError, OSError) as error:
        return f"The {score.role} case, {score.case_id}, cannot be shown: {error}"
    if not target.shape == preds.shape == volume.array.shape:
        shapes = " and ".join("x".join(map(str, array.shape)) for array in (volume.array, target, preds))
        return (
            f"The {score.role} case, {score.case_id}, cannot be shown: image, reader and network have shapes {shapes}."
        )
    view = view_of(cohort.domain, volume.affine, cohort.spacing_known)
    spacing_yx = volume.spacing_mm[1:] if cohort.spacing_known else None
    frames = choose_frames(target, preds, range(len(target)) if held_out is None else held_out)
    if view.reverse_frames:
        frames = frames[::-1]
    images = [view.turn(volume.array[frame]) for frame in frames]
    masks = [(view.turn(target[frame]), view.turn(preds[frame])) for frame in frames]
    field = common_field([mask for pair in masks for mask in pair], spacing_yx)
    black, white = gray_window([image[field.rows, field.columns] for image in images])
    tag = "simulated" if cohort.simulated_readers else ""
    word = "view" if cohort.domain == "projection" else "slice"
    pieces = [
        frame_piece(
            np.clip((image - black) / (white - black), 0, 1),
            [(mine, READER_STROKE), (its, NETWORK_STROKE)],
            field,
            view,
            spacing_yx,
            tag,
        )
        for image, (mine, its) in zip(images, masks, strict=True)
    ]
    captions = tuple(f"{word} {frame + 1} of {len(target)}" for frame in frames)
    alts = [
        f"{caption}: {reader} outlined {np.count_nonzero(mine)} pixels, the network {np.count_nonzero(its)}, "
        f"{np.count_nonzero(mine & its)} of them shared"
        for caption, (mine, its) in zip(captions, masks, strict=True)
    ]
    name = f"case_{score.role}"
    panels = tuple(
        Drawing(f"{name}_{index}", alt, "", panel_svg(piece, WIDTH, field.height, alt))
        for index, (piece, alt) in enumerate(zip(pieces, alts, strict=True))
    )
    return Overlay(score, panels, captions, _whole(name, score, pieces, captions, field), frames_note(view, case, word))


def choose_frames(target: Mask, preds: Mask, among: Sequence[int], most: int = NUM_PANELS) -> list[int]:
    """Choose frames evenly from the first to the last one that holds LV of the reader or, failing that, of the network.

    Both ends are included, because base and apex are where outlines go wrong. Only frames of ``among`` are chosen, at
    ``most`` so many.

    Example:
        >>> target = np.zeros((24, 4, 4), dtype=bool)
        >>> target[4:21, 1:3, 1:3] = True
        >>> choose_frames(target, target, range(24))
        [4, 8, 12, 16, 20]
    """
    frames = sorted(among)
    marked = [frame for frame in frames if target[frame].any()] or [frame for frame in frames if preds[frame].any()]
    if marked:
        frames = [frame for frame in frames if marked[0] <= frame <= marked[-1]]
    places = np.linspace(0, len(frames) - 1, min(most, len(frames)))
    return [frames[round(place)] for place in places.tolist()]


def outline_path(mask: FrameMask, field: Field) -> str:
    """Outline of a mask as the ``d`` of an SVG path, in units of the drawing; empty for an empty mask."""
    from skimage.measure import find_contours

    parts = []
    for contour in find_contours(np.pad(mask, 1).astype(np.float64), 0.5):
        rows = (contour[:, 0] - 1 - field.rows.start + 0.5) * field.pixel_height
        columns = (contour[:, 1] - 1 - field.columns.start + 0.5) * field.pixel_width
        points = [f"{x:.1f} {y:.1f}" for x, y in zip(columns.tolist(), rows.tolist(), strict=True)]
        parts.append("M" + "L".join(points[:-1]) + "Z")
    return "".join(parts)


def gray_png(gray: Float[np.ndarray, "y x"]) -> str:
    """Enlarge gray values in [0, 1] and encode them as a data URI; the edges of the image stay where they were."""
    from matplotlib.image import imsave
    from scipy.ndimage import zoom

    factor = max(1, round(PIXELS_ACROSS / gray.shape[1]))
    large = zoom(np.nan_to_num(gray), factor, order=3, mode="nearest", grid_mode=True)
    buffer = BytesIO()
    untagged: Any = {"Software": None}  # no version of matplotlib in the bytes
    imsave(buffer, np.clip(large, 0, 1), cmap="gray", vmin=0, vmax=1, format="png", metadata=untagged)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def common_field(masks: Sequence[FrameMask], spacing_yx: tuple[float, ...] | None) -> Field:
    """A common field around every outline shown, as square as the image allows."""
    shape = masks[0].shape
    union = np.any(masks, axis=0)
    dy, dx = spacing_yx or (1.0, 1.0)
    spans = []
    for axis, step in ((1, dy), (0, dx)):
        marked = np.flatnonzero(union.any(axis=axis))
        low, high = (marked[0], marked[-1] + 1) if marked.size else (0, union.shape[1 - axis])
        spans.append((low, high, step))
    side = max((high - low + 2 * MARGIN_PIXELS) * step for low, high, step in spans)
    side = max(side, MIN_FIELD_PIXELS * max(dy, dx))
    slices = []
    for (low, high, step), size in zip(spans, shape, strict=True):
        length = min(round(side / step), size)
        start = int(np.clip((low + high - length) // 2, 0, size - length))
        slices.append(slice(start, start + length))
    rows, columns = slices
    unit = WIDTH / ((columns.stop - columns.start) * dx)
    return Field(rows, columns, dy * unit, dx * unit)


def gray_window(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Intensities shown as black and as white."""
    values = np.concatenate([part[np.isfinite(part)] for part in parts])
    if not values.size:
        return 0.0, 1.0
    black = min(0.0, float(np.percentile(values, 100 - WHITE_PERCENTILE)))
    white = float(np.percentile(values, WHITE_PERCENTILE))
    return (black, white) if white > black else (black, black + 1.0)


def frame_piece(
    gray: np.ndarray,
    outlines: Sequence[tuple[FrameMask, Stroke]],
    field: Field,
    view: View,
    spacing_yx: tuple[float, ...] | None,
    tag: str,
) -> str:
    """The inside of one panel: image, outlines from the first to the topmost, names of the edges, scale bar."""
    height = field.height
    uri = gray_png(gray[field.rows, field.columns])
    parts = [f'<image href="{uri}" width="{WIDTH:g}" height="{height:.2f}" preserveAspectRatio="none"/>']
    for mask, stroke in outlines:
        if path := outline_path(mask, field):
            line = f'<path class="outline{" " * bool(stroke.layer)}{stroke.layer}" d="{path}" fill="none"'
            if stroke.dashes:
                line += f' stroke-dasharray="{stroke.dashes}"'
            if stroke.layer or not stroke.dashes:  # a dark rim; of two lines only, the dashed one needs none
                parts.append(f'{line} stroke="#000" stroke-opacity="0.7" stroke-width="{stroke.width + 1.5:g}"/>')
            parts.append(f'{line} stroke="{stroke.color}" stroke-width="{stroke.width:g}"/>')
    if view.edges:
        top, right, bottom, left = view.edges
        middle = height / 2
        parts += [
            edge_word(top, WIDTH / 2, 12.0),
            edge_word(bottom, WIDTH / 2, height - 5),
            edge_word(left, 10.0, middle, turn=-90),
            edge_word(right, WIDTH - 4, middle, turn=-90),
        ]
    if tag:
        parts.append(edge_word(tag, WIDTH - 3, height - 5, anchor="end"))
    if spacing_yx:
        parts.append(scale_bar(WIDTH / field.pixel_width * spacing_yx[1], height))
    return "".join(parts)


def panel_svg(inside: str, width: float, height: float, alt: str, namespace: str = "") -> str:
    """One panel as an element of the page, or a file of its own with the ``namespace``."""
    return (
        f'<svg {namespace}class="panel" role="img" aria-label="{escape(alt)}" viewBox="0 0 {width:g} {height:.2f}">'
        f"{inside}</svg>"
    )


def edge_word(text: str, x: float, y: float, anchor: str = "middle", turn: int = 0, size: float = 10.5) -> str:
    """A word on a panel, light with a dark rim so that it carries on every gray."""
    rotation = f' transform="rotate({turn} {x:g} {y:.1f})"' if turn else ""
    return (
        f'<text x="{x:g}" y="{y:.1f}" text-anchor="{anchor}"{rotation} font-size="{size:g}" fill="#fff" stroke="#000" '
        f'stroke-width="2.5" paint-order="stroke" font-family="sans-serif">{escape(text)}</text>'
    )


def scale_bar(field_mm: float, height: float, size: float = 10.5) -> str:
    """A bar in the lower left corner of a panel that shows ``field_mm`` across, with its length."""
    bar_mm = max((bar for bar in SCALE_BARS_MM if bar < 0.35 * field_mm), default=SCALE_BARS_MM[0])
    length = bar_mm / field_mm * WIDTH
    line = f'<path d="M5 {height - 5:.1f}h{length:.1f}"'
    return f'{line} stroke="#000" stroke-width="5"/>{line} stroke="#fff" stroke-width="3"/>' + edge_word(
        f"{bar_mm} mm", 5.0, height - 10, anchor="start", size=size
    )


def frames_note(view: View, case: Case, word: str) -> str:
    """How the frames of a case were ordered and turned, and which acquisition it is."""
    sequence = f"{word}s from {view.order}" if view.order else f"{word}s in stored order"
    turned = "" if view.edges else "; shown as stored, since the file does not say where the patient's sides are"
    if word == "view":
        turned = ""
    facts = [fact for fact in (case.acquisition, f"gate {case.gate}" if case.gate else "") if fact]
    return f"{sequence}{turned}" + (f" ({', '.join(facts)})" if facts else "")


# --- Private helpers ---


def _whole(name: str, score: CaseScore, pieces: Sequence[str], captions: Sequence[str], field: Field) -> Drawing:
    """All panels of a case side by side, for slides and papers."""
    gap, strip = 8, 22
    parts = [
        f'<g transform="translate({index * (WIDTH + gap):g} 0)">'
        f'<svg width="{WIDTH:g}" height="{field.height:.2f}">{piece}</svg>'
        f'<text x="{WIDTH / 2:g}" y="{field.height + 15:.1f}" text-anchor="middle" font-size="12" '
        f'font-family="sans-serif">{escape(caption)}</text></g>'
        for index, (piece, caption) in enumerate(zip(pieces, captions, strict=True))
    ]
    width = len(pieces) * (WIDTH + gap) - gap
    alt = f"The {score.role} case, {score.case_id}, Dice {score.dice:.3f}: reader solid amber, network dashed blue"
    size = f'xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{field.height + strip:.2f}" '
    return Drawing(name, alt, panel_svg("".join(parts), width, field.height + strip, alt, size), "")
