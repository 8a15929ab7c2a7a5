"""How an outline lies in its image: its size and shape, whether the image cuts it off, how hot its neighborhood is.

Each figure can be had for an outline that a reader drew and for a mask that a network made, so that the outlines of a
training cohort say what is usual. *Elongation* is the largest over the smallest standard deviation of the voxels along
their principal axes. *Reach ratio* is the largest distance of a voxel from the center over the radius of a ball (disc)
of the same size: a leak into an organ is a tail, and raises it. *Edge share* is how much of the outline lies in the
outermost planes of the image. *Neighbor ratio* is the hot part of a band around the outline over the median inside it:
gut or liver that touches the wall raises it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from mpi_unet.shapes import Image, Mask, SpacingMm

__all__ = ["OutlineLook", "outline_look"]

BAND_MM = (6.0, 18.0)
"""The neighborhood begins where the blur of the wall itself has fallen to about half, and ends before other organs that
do not touch."""

HOT_PERCENTILE = 98
"""What is hot of the band: a loop of gut that touches the wall covers a few percent of it, single voxels are noise."""

UNKNOWN_VOXEL_MM = 6.4
"""Taken for the size of a voxel where nobody knows it: that of most gamma cameras."""

AnyMask = Bool[np.ndarray, "*axes"]


@dataclass(frozen=True)
class OutlineLook:
    """How one outline lies in its image; NaN is undefined (an empty outline, or no counts inside it).

    Attributes:
        size: Volume in ml, area in mm2 in projections (mean over the views); voxels or pixels of unknown spacing.
        elongation: 1 for a ball.
        reach_ratio: 1 for a ball, of a wall about 1.5.
        edge_share_pct: Percent of the outline in the outermost planes.
        neighbor_ratio: Near 0.5 for a wall that nothing touches.
    """

    size: float
    elongation: float
    reach_ratio: float
    edge_share_pct: float
    neighbor_ratio: float


def outline_look(mask: Mask, image: Image, spacing_mm: SpacingMm | None, *, is_projection: bool) -> OutlineLook:
    """Look at one outline.

    Args:
        mask: The outline (z, y, x).
        image: Intensities.
        spacing_mm: Along (z, y, x); None when nobody knows it.
        is_projection: Slices are views: each is looked at on its own, and the figures are means over those with an
            outline.

    Example:
        A cube of 4 x 4 x 4 mm in the corner of its image: the three outermost of its planes hold 37 of 64 voxels.

        >>> cube = np.zeros((8, 8, 8), bool)
        >>> cube[:4, :4, :4] = True
        >>> look = outline_look(cube, cube.astype(np.float32), (1.0, 1.0, 1.0), is_projection=False)
        >>> look.size, round(look.elongation, 3), look.edge_share_pct
        (0.064, 1.0, 57.8125)
    """
    if not is_projection:
        return _look(mask, image, spacing_mm)
    looks = [
        _look(view, pixels, None if spacing_mm is None else spacing_mm[1:])
        for view, pixels in zip(mask, image, strict=True)
        if view.any()
    ]
    if not looks:
        return OutlineLook(*[np.nan] * len(fields(OutlineLook)))
    return OutlineLook(*(_mean([getattr(look, field.name) for look in looks]) for field in fields(OutlineLook)))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _look(mask: AnyMask, image: Float32[np.ndarray, "*axes"], spacing_mm: tuple[float, ...] | None) -> OutlineLook:
    if not mask.any():
        return OutlineLook(*[np.nan] * len(fields(OutlineLook)))
    index = np.argwhere(mask)
    steps = np.array(spacing_mm or (1.0,) * mask.ndim)
    one = float(np.prod(steps)) / (1000 if mask.ndim == 3 and spacing_mm is not None else 1)
    points = (index - index.mean(axis=0)) * steps
    spread = np.linalg.eigvalsh(points.T @ points / len(points) + np.diag(steps**2) / 12)  # a voxel has a width
    volume = len(points) * float(np.prod(steps))
    radius = (3 * volume / (4 * np.pi)) ** (1 / 3) if mask.ndim == 3 else (volume / np.pi) ** 0.5
    on_edge = ((index == 0) | (index == np.array(mask.shape) - 1)).any(axis=1)
    return OutlineLook(
        size=len(points) * one,
        elongation=float(np.sqrt(spread[-1] / spread[0])),
        reach_ratio=float(np.linalg.norm(points, axis=1).max() / radius),
        edge_share_pct=100 * float(on_edge.mean()),
        neighbor_ratio=_neighbor_ratio(mask, image, spacing_mm or (UNKNOWN_VOXEL_MM,) * mask.ndim),
    )


def _neighbor_ratio(mask: AnyMask, image: Float32[np.ndarray, "*axes"], steps_mm: Sequence[float]) -> float:
    low, high = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0) + 1
    margin = np.ceil(BAND_MM[1] / np.asarray(steps_mm)).astype(int)
    box = tuple(slice(max(int(a - m), 0), int(b + m)) for a, b, m in zip(low, high, margin, strict=True))
    near, pixels = mask[box], image[box]
    away_mm = ndimage.distance_transform_edt(~_filled(near), sampling=steps_mm)
    band = pixels[(away_mm > BAND_MM[0]) & (away_mm <= BAND_MM[1])]
    inside = float(np.median(pixels[near]))
    if band.size == 0 or not inside > 0:
        return float("nan")
    return float(np.percentile(band, HOT_PERCENTILE)) / inside


def _filled(mask: AnyMask) -> AnyMask:
    """With the cavity, which is closed in the slices across the long axis, whichever way that lies."""
    if mask.ndim == 2:
        return ndimage.binary_fill_holes(mask)
    filled = mask.copy()
    for axis in range(mask.ndim):
        plane = np.expand_dims(ndimage.generate_binary_structure(2, 1), axis)
        filled |= ndimage.binary_fill_holes(mask, structure=plane)
    return filled
