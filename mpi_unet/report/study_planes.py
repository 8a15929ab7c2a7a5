"""Cuts through one study for its page: short axis, horizontal and vertical long axis, or the planes of the file.

A *plane* is a row of parallel *cuts*, each seen as a physician expects it (American Society of Nuclear Cardiology and
Cerqueira et al. 2002, Circulation 105:539, doi:10.1161/hc0402.102975): short axis from apex to base, anterior on top,
septum on the left; horizontal long axis from inferior to anterior, apex on top, septum on the left; vertical long axis
from septal to lateral, anterior on top, apex on the right. Where the long axis is not known, a transaxial volume is cut
along the body, and anything else is shown in the planes of its file; edges carry names only where they are known.

Cuts are for looking at: the image is interpolated with cubic splines, the mask linearly, and its outline is drawn where
the interpolated mask passes one half, as the measurements have it. Nothing is measured on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import map_coordinates, spline_filter

from mpi_unet.cardiac.axis import HeartAxes
from mpi_unet.report.display import view_of
from mpi_unet.report.overlays import choose_frames, common_field
from mpi_unet.shapes import Affine, Image, Mask

__all__ = ["Cut", "Plane", "gray_limits", "heart_planes", "projection_planes", "volume_planes"]

NUM_SHORT_AXIS, NUM_LONG_AXIS = 10, 5
PIXEL_MM = 2.0
"""Finer than any camera resolves, so that the screen has little left to interpolate."""

MARGIN_MM = 18.0
LEAST_SIDE_MM = 110.0
"""A field smaller than this would hide what lies beside the heart."""

LONG_AXIS_SPAN = 0.5
"""Long-axis cuts lie within this share of the half width of the outline on both sides of the middle."""

WHITE_PERCENTILE = 99.5

SHORT_AXIS = ("Short axis", "apex to base", ("anterior", "lateral", "inferior", "septal"))
HORIZONTAL = ("Horizontal long axis", "inferior to anterior", ("apex", "lateral", "base", "septal"))
VERTICAL = ("Vertical long axis", "septal to lateral", ("anterior", "apex", "inferior", "base"))
"""Title, order and edges of the three planes of the heart."""

TOWARD = {
    "apex": "toward the apex",
    "base": "toward the base",
    "feet": "toward the feet",
    "head": "toward the head",
    "front": "to the front",
    "back": "to the back",
    "right": "to the right",
    "left": "to the left",
}
"""How the end of an order is said as a direction, where it is no adjective."""


@dataclass(frozen=True)
class Cut:
    """One picture.

    Attributes:
        image: Intensities as they are seen, row 0 on top.
        share: The mask on the same pixels, 0 to 1.
        caption: Where it lies.
    """

    image: Float32[np.ndarray, "row column"]
    share: Float32[np.ndarray, "row column"]
    caption: str


@dataclass(frozen=True)
class Plane:
    """Parallel cuts.

    Attributes:
        title: Name of the plane.
        order: What their sequence means; empty when unknown.
        edges: Names of top, right, bottom and left edge; empty when unknown.
        pixel_mm: Height and width of a pixel; None when nobody knows it.
        cuts: In the order in which they are shown.
    """

    title: str
    order: str
    edges: tuple[str, ...]
    pixel_mm: tuple[float, float] | None
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class _Seen:
    """How cuts are seen: unit vectors (RAS) to the right and down on the screen, and from each cut to the next."""

    title: str
    order: str
    edges: tuple[str, ...]
    right: np.ndarray
    down: np.ndarray
    onward: np.ndarray


def heart_planes(
    image: Image, mask: Mask, affine_ras: Affine, axes: HeartAxes, *, remark: str = ""
) -> tuple[Plane, ...]:
    """Cut a study along the axes of its heart.

    Args:
        image: Intensities.
        mask: The outline.
        affine_ras: Voxel index (x, y, z) to RAS.
        axes: The heart.
        remark: Ends every title, for example the gate.

    Returns:
        Short axis, horizontal and vertical long axis.
    """
    lateral, inferior, apical = axes.frame
    seen = (
        _Seen(*SHORT_AXIS, lateral, inferior, -apical),
        _Seen(*HORIZONTAL, lateral, -apical, -inferior),
        _Seen(*VERTICAL, apical, inferior, lateral),
    )
    points = _points_mm(mask, affine_ras)
    middle = axes.to_world(np.array([0.0, 0.0, (axes.base_mm + axes.apex_mm) / 2]))
    volume = _Volume(image, mask, affine_ras)
    side_mm = _side_mm(points, middle, [lateral, inferior, apical])
    half_mm = axes.length_mm / 2
    heights = np.linspace(-half_mm + 3, half_mm - 3, NUM_SHORT_AXIS)
    captions = [f"{half_mm + height:.0f} mm from the apex" for height in heights.tolist()]
    planes = [volume.plane(seen[0], middle, heights, captions, side_mm, remark)]
    for one in seen[1:]:
        width_mm = float(np.abs((points - middle) @ one.onward).max(initial=0.0))
        offsets = np.linspace(-1, 1, NUM_LONG_AXIS) * LONG_AXIS_SPAN * width_mm
        planes.append(volume.plane(one, middle, offsets, _offset_captions(offsets, one.order), side_mm, remark))
    return tuple(planes)


def volume_planes(
    image: Image,
    mask: Mask,
    affine_ras: Affine,
    *,
    domain: str,
    is_placed: bool = True,
    spacing_known: bool = True,
    remark: str = "",
) -> tuple[Plane, ...]:
    """Cut a volume without a long axis: along the body where it is transaxial, else along the planes of its file.

    Args:
        image: Intensities.
        mask: The outline; may be empty.
        affine_ras: Voxel index (x, y, z) to RAS.
        domain: ``transaxial`` or ``short_axis``.
        is_placed: Whether the affine says how the image lies in the patient.
        spacing_known: Whether the size of a voxel is known.
        remark: Ends every title.
    """
    known = is_placed and spacing_known
    three = _body() if known and domain == "transaxial" else _stored(affine_ras, domain, known)
    points = _points_mm(mask, affine_ras)
    is_empty = not len(points)
    if is_empty:
        points = _points_mm(np.ones(mask.shape, bool), affine_ras)
    directions = np.stack([one.onward for one in three])
    along = points @ directions.T
    middle = np.linalg.solve(directions, (along.min(axis=0) + along.max(axis=0)) / 2)
    volume = _Volume(image, mask, affine_ras, spacing_known=spacing_known)
    step = 1.0 if spacing_known else float(np.linalg.norm(affine_ras[:3, 0]))
    side_mm = _side_mm(points, middle, [one.onward for one in three], step=step)
    planes = []
    for one, half in zip(three, ((along.max(axis=0) - along.min(axis=0)) / 2).tolist(), strict=True):
        offsets = np.linspace(-1, 1, NUM_LONG_AXIS) * half * (0.5 if is_empty else 0.9)
        captions = _offset_captions(offsets, one.order) if spacing_known else [""] * NUM_LONG_AXIS
        planes.append(volume.plane(one, middle, offsets, captions, side_mm, remark))
    return tuple(planes)


def projection_planes(
    image: Image, mask: Mask, spacing_yx_mm: tuple[float, float] | None, *, remark: str = ""
) -> tuple[Plane, ...]:
    """The views of a projection set, from the first to the last with an outline."""
    frames = choose_frames(mask, mask, range(len(mask)), most=NUM_SHORT_AXIS)
    field = common_field([mask[frame] for frame in frames], spacing_yx_mm)
    cuts = tuple(
        Cut(
            image[frame, field.rows, field.columns],
            mask[frame, field.rows, field.columns].astype(np.float32),
            f"view {frame + 1} of {len(mask)}",
        )
        for frame in frames
    )
    return (Plane(_titled("Views of the camera", remark), "first to last", (), spacing_yx_mm, cuts),)


def gray_limits(planes: Sequence[Plane]) -> tuple[float, float]:
    """Intensities shown as black and as white: white is the 99.5th percentile of what lies within the outlines.

    A gut that is hotter than the heart is then as white as the heart, and does not darken it. Without an outline all of
    the pictures count.
    """
    cuts = [cut for plane in planes for cut in plane.cuts]
    values = np.concatenate([cut.image[cut.share >= 0.5] for cut in cuts] or [np.zeros(0)])
    everything = np.concatenate([cut.image.ravel() for cut in cuts] or [np.zeros(0)])
    values, everything = values[np.isfinite(values)], everything[np.isfinite(everything)]
    if not values.size:
        values = everything
    if not values.size:
        return 0.0, 1.0
    black = min(0.0, float(np.percentile(everything, 100 - WHITE_PERCENTILE)))
    white = float(np.percentile(values, WHITE_PERCENTILE))
    return (black, white) if white > black else (black, black + 1.0)


# --- Private helpers --------------------------------------------------------------------------------------------------


class _Volume:
    """Image and mask ready to be cut in any direction."""

    def __init__(self, image: Image, mask: Mask, affine_ras: Affine, *, spacing_known: bool = True) -> None:
        finite = np.nan_to_num(image, posinf=0.0, neginf=0.0)
        self.coefficients = spline_filter(finite, order=3, output=np.float32, mode="nearest")
        self.mask = mask.astype(np.float32)
        self.inverse = np.linalg.inv(affine_ras)
        self.shape = np.array(image.shape)
        self.pixel_mm = PIXEL_MM if spacing_known else float(np.linalg.norm(affine_ras[:3, 0])) / 2
        self.spacing_known = spacing_known

    def plane(
        self,
        seen: _Seen,
        middle_mm: np.ndarray,
        offsets_mm: np.ndarray,
        captions: Sequence[str],
        side_mm: float,
        remark: str,
    ) -> Plane:
        number = max(2, round(side_mm / self.pixel_mm))
        place = (np.arange(number) - (number - 1) / 2) * self.pixel_mm
        grid = place[:, None, None] * seen.down + place[None, :, None] * seen.right + middle_mm
        cuts = tuple(
            self._cut(grid + offset * seen.onward, caption)
            for offset, caption in zip(offsets_mm.tolist(), captions, strict=True)
        )
        pixel = (self.pixel_mm, self.pixel_mm) if self.spacing_known else None
        return Plane(_titled(seen.title, remark), seen.order, seen.edges, pixel, cuts)

    def _cut(self, points_mm: Float[np.ndarray, "row column 3"], caption: str) -> Cut:
        index = points_mm @ self.inverse[:3, :3].T + self.inverse[:3, 3]
        zyx = np.moveaxis(index[..., ::-1], -1, 0)
        outside = ((zyx < -0.5) | (zyx > self.shape[:, None, None] - 0.5)).any(axis=0)
        image = map_coordinates(self.coefficients, zyx, order=3, mode="nearest", prefilter=False)
        share = map_coordinates(self.mask, zyx, order=1, mode="constant", cval=0.0)
        image = np.where(outside, np.nan, image)  # beyond the edge of the volume nothing was measured
        return Cut(image.astype(np.float32), share.astype(np.float32), caption)


def _titled(title: str, remark: str) -> str:
    return f"{title}, {remark}" if remark else title


def _points_mm(mask: Mask, affine_ras: Affine) -> Float[np.ndarray, "n 3"]:
    zyx = np.argwhere(mask).astype(float)
    return zyx[:, ::-1] @ affine_ras[:3, :3].T + affine_ras[:3, 3]


def _side_mm(points: np.ndarray, middle: np.ndarray, directions: Sequence[np.ndarray], *, step: float = 1.0) -> float:
    """Side of a square that holds the outline seen from every direction, with a margin."""
    reach = max(float(np.abs((points - middle) @ direction).max()) for direction in directions)
    return max(2 * reach + 2 * MARGIN_MM * step, LEAST_SIDE_MM * step)


def _offset_captions(offsets_mm: np.ndarray, order: str) -> list[str]:
    """Where cuts lie from the middle one, in the words of the ends of their order."""
    first, _, last = order.partition(" to ")
    words = []
    for offset in offsets_mm.tolist():
        side = first if offset < 0 else last
        away = f"{abs(offset):.0f} mm {TOWARD.get(side, side)}" if last else f"{offset:+.0f} mm"
        words.append("middle" if round(offset) == 0 else away)
    return words


def _body() -> tuple[_Seen, _Seen, _Seen]:
    """Along the body, the patient's left on the right of the picture, seen from the feet, the front and the left."""
    left, back, head = np.array([-1.0, 0.0, 0.0]), np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    return (
        _Seen("Transaxial", "feet to head", ("front", "left", "back", "right"), left, back, head),
        _Seen("Coronal", "front to back", ("head", "left", "feet", "right"), left, -head, back),
        _Seen("Sagittal", "right to left", ("head", "back", "feet", "front"), back, -head, left),
    )


def _stored(affine_ras: Affine, domain: str, known: bool) -> tuple[_Seen, _Seen, _Seen]:
    """Along the axes of the file; short-axis slices whose place is known are turned as they are read."""
    view = view_of(domain, affine_ras, known)
    across, down, through = (axis / np.linalg.norm(axis) for axis in affine_ras[:3, :3].T)
    across, down = (-across if view.flip_columns else across), (-down if view.flip_rows else down)
    through = -through if view.reverse_frames else through
    if domain == "short_axis" and view.order:
        return (
            _Seen("Short axis", view.order, view.edges, across, down, through),
            _Seen(*HORIZONTAL, across, through, -down),
            _Seen(*VERTICAL, -through, down, across),
        )
    slices = "Short axis" if domain == "short_axis" else "Slices"
    return (
        _Seen(slices, view.order, view.edges, across, down, through),
        _Seen("Across the slices, along their rows", "", (), across, through, down),
        _Seen("Across the slices, along their columns", "", (), through, down, across),
    )
