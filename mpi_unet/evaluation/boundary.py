"""Distance of two outlines in mm, and difference of two volumes in ml.

The *boundary* of a mask is those of its voxels that have a face neighbor outside the mask or outside the image: in 3-D
six neighbors, in a frame four. A *directed distance* runs from a boundary voxel's center to the nearest boundary
voxel's center of the other mask; :func:`surface_distances` measures both directions once and the scores are read from
them. Spacing is never guessed: it is mandatory, in mm, in the order of the array's axes.

When both masks are empty a distance is *undefined* (NaN); when exactly one is, it is *infinite*; see
:mod:`mpi_unet.evaluation.policy`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.spatial import KDTree

from mpi_unet.evaluation.overlap import check_masks

__all__ = [
    "SurfaceDistances",
    "Surfaces",
    "assd_mm",
    "boundary",
    "distances_between",
    "frame_surface_distances",
    "hd95_mm",
    "hd_mm",
    "masd_mm",
    "nsd",
    "surface_distances",
    "surfaces",
    "volume_difference_ml",
    "volume_difference_pct",
    "volume_ml",
]

TOLERANCE_SLACK_MM = 1e-6
"""Added to the tolerance of NSD: a distance of one voxel must not exceed a tolerance of one voxel by rounding alone."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Directed distances in mm between the boundaries of one pair of masks.

    ``to_target`` has one entry per boundary voxel of ``preds``, ``to_preds`` one per boundary voxel of ``target``. An
    empty mask has no entries of its own and is infinitely far from every voxel of the other.
    """

    to_target: Float[np.ndarray, " boundary_of_preds"]
    to_preds: Float[np.ndarray, " boundary_of_target"]


def surface_distances(
    preds: Shaped[np.ndarray, ...], target: Shaped[np.ndarray, ...], spacing_mm: Sequence[float]
) -> SurfaceDistances:
    """Measure the distances between the boundaries of two masks of one volume, or of one frame.

    Args:
        preds: Bool mask under test, ``(z, y, x)`` or ``(y, x)``.
        target: Bool mask of the reader on the same grid.
        spacing_mm: Distance of neighboring voxel centers along each axis of the masks.

    Returns:
        The directed distances, both ways.

    Raises:
        TypeError: A mask is not bool.
        ValueError: The masks differ in shape, or the spacing does not fit them.

    Example:
        Two one-pixel outlines, two rows of 3 mm apart.

        >>> preds, target = np.zeros((2, 4, 4), dtype=bool)
        >>> preds[0, 1] = target[2, 1] = True
        >>> hd_mm(surface_distances(preds, target, (3.0, 1.0)))
        6.0
    """
    return frame_surface_distances(preds[None], target[None], spacing_mm)[0]


def frame_surface_distances(
    preds: Shaped[np.ndarray, "b ..."], target: Shaped[np.ndarray, "b ..."], spacing_mm: Sequence[float]
) -> list[SurfaceDistances]:
    """Measure the distances between two masks in each of many frames at once; no distance crosses from frame to frame.

    Args:
        preds: Bool masks under test, ``(b, y, x)``, or ``(b, z, y, x)`` for many volumes.
        target: Bool masks of the reader on the same grid.
        spacing_mm: Distance of neighboring pixel centers along the axes after the first.

    Returns:
        As :func:`surface_distances`, one per frame.

    Raises:
        TypeError: A mask is not bool.
        ValueError: The masks differ in shape, or the spacing does not fit them.

    Example:
        >>> preds, target = np.zeros((2, 2, 4, 4), dtype=bool)
        >>> preds[0, 0, 0] = target[0, 0, 1] = True  # the second frame is empty in both
        >>> [hd_mm(distances) for distances in frame_surface_distances(preds, target, (1.0, 2.5))]
        [2.5, nan]
    """
    check_masks(preds, target)
    return distances_between(surfaces(preds, spacing_mm), surfaces(target, spacing_mm))


@dataclass(frozen=True)
class Surfaces:
    """Boundary voxels of one mask in each of many frames, to be measured against others on the same grid.

    ``points`` are indices (frame first) in the order of the frames; frame ``f`` has those from ``cuts[f]`` up to
    ``cuts[f + 1]``.
    """

    points: Int[np.ndarray, "n axes"]
    cuts: Int[np.ndarray, " frames_and_one"]
    scale_mm: Float[np.ndarray, " axes"]

    @cached_property
    def tree(self) -> KDTree:
        """The points in mm, for searching; quick to build rather than quick to ask."""
        return KDTree(self.points * self.scale_mm, leafsize=32, balanced_tree=False, compact_nodes=False)


def surfaces(masks: Bool[np.ndarray, "b ..."], spacing_mm: Sequence[float]) -> Surfaces:
    """Find the boundary of a mask in each of many frames, once for all comparisons.

    Args:
        masks: Bool masks, ``(b, y, x)``, or ``(b, z, y, x)`` for many volumes.
        spacing_mm: Distance of neighboring pixel centers along the axes after the first.

    Raises:
        ValueError: The spacing does not fit the masks.
    """
    spacing = _checked_spacing(spacing_mm, masks.ndim - 1)
    points = np.argwhere(boundary(masks))
    gap = 2 * float(np.dot(masks.shape[1:], spacing)) + 1
    return Surfaces(
        points, np.searchsorted(points[:, 0], np.arange(masks.shape[0] + 1)), np.concatenate([[gap], spacing])
    )


def distances_between(preds: Surfaces, target: Surfaces) -> list[SurfaceDistances]:
    """Measure what :func:`frame_surface_distances` measures, between boundaries that were found before."""
    to_target, to_preds = _nearest_mm(preds, target), _nearest_mm(target, preds)
    return [
        SurfaceDistances(
            to_target[preds.cuts[frame] : preds.cuts[frame + 1]], to_preds[target.cuts[frame] : target.cuts[frame + 1]]
        )
        for frame in range(preds.cuts.size - 1)
    ]


def boundary(masks: Bool[np.ndarray, "b ..."]) -> Bool[np.ndarray, "b ..."]:
    """Voxels of each mask with a face neighbor outside the mask or outside the image; the first axis counts masks.

    Example:
        >>> boundary(np.ones((1, 3, 4), dtype=bool)).astype(int)[0]
        array([[1, 1, 1, 1],
               [1, 0, 0, 1],
               [1, 1, 1, 1]])
    """
    inside = masks.copy()
    for axis in range(1, masks.ndim):
        moved, still = np.moveaxis(inside, axis, 0), np.moveaxis(masks, axis, 0)
        moved[1:] &= still[:-1]
        moved[:-1] &= still[1:]
        moved[:1] = False
        moved[-1:] = False
    return masks & ~inside


def hd_mm(distances: SurfaceDistances) -> float:
    """Hausdorff distance: the largest distance from either boundary to the other, in mm; one stray pixel decides it.

    Returns:
        NaN when both masks are empty, inf when exactly one is.

    Source:
        Huttenlocher et al. 1993, IEEE PAMI 15(9):850-863. doi:10.1109/34.232073

    Example:
        >>> hd_mm(SurfaceDistances(np.array([0.0, 6.4]), np.array([0.0, 3.2])))
        6.4
    """
    return _unless_empty(distances, lambda d: max(d.to_target.max(), d.to_preds.max()))


def hd95_mm(distances: SurfaceDistances) -> float:
    """95th percentile of the Hausdorff distance, in mm: the larger of the two directed 95th percentiles.

    Percentiles interpolate linearly. Other tools pool both directions before they take the percentile, which gives
    another number. On a coarse grid the value moves in steps of about a voxel.

    Returns:
        NaN when both masks are empty, inf when exactly one is.

    Source:
        Maier-Hein et al. 2024, Metrics Reloaded, Nature Methods 21:195-212. doi:10.1038/s41592-023-02151-z

    Example:
        >>> round(hd95_mm(SurfaceDistances(np.array([0.0, 6.4]), np.array([0.0, 3.2]))), 2)
        6.08
    """
    return _unless_empty(distances, lambda d: max(np.percentile(d.to_target, 95), np.percentile(d.to_preds, 95)))


def assd_mm(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance, in mm: the mean over the voxels of both boundaries, pooled.

    The larger boundary has more say; for the mean of the two directed means see :func:`masd_mm`.

    Returns:
        NaN when both masks are empty, inf when exactly one is.

    Example:
        >>> assd_mm(SurfaceDistances(np.array([2.0, 2.0, 2.0]), np.array([1.0])))
        1.75
    """
    return _unless_empty(distances, lambda d: np.concatenate([d.to_target, d.to_preds]).mean())


def masd_mm(distances: SurfaceDistances) -> float:
    """Mean average surface distance, in mm: the mean of the two directed means, each boundary having equal say.

    Returns:
        NaN when both masks are empty, inf when exactly one is.

    Example:
        >>> masd_mm(SurfaceDistances(np.array([2.0, 2.0, 2.0]), np.array([1.0])))
        1.5
    """
    return _unless_empty(distances, lambda d: (d.to_target.mean() + d.to_preds.mean()) / 2)


def nsd(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Normalized surface Dice: the share of both boundaries that lies within a tolerance of the other.

    1 means that no part of the outline is off by more than readers are from each other, if the tolerance is chosen so.
    With a tolerance of one voxel an error of one voxel is free.

    Args:
        distances: What :func:`surface_distances` measured.
        tolerance_mm: Distance that counts as agreement.

    Returns:
        NaN when both masks are empty, 0 when exactly one is.

    Raises:
        ValueError: The tolerance is negative or not finite.

    Source:
        Nikolov et al. 2021, J Med Internet Res 23(7):e26151. doi:10.2196/26151; boundaries are counted in voxels.

    Example:
        >>> nsd(SurfaceDistances(np.array([0.0, 6.4]), np.array([0.0, 3.2])), tolerance_mm=3.2)
        0.75
    """
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise ValueError(
            f"tolerance_mm is {tolerance_mm}, expected a distance in mm that is zero or more; half a voxel is "
            "the least that a grid can tell"
        )
    voxels = distances.to_target.size + distances.to_preds.size
    if voxels == 0:
        return math.nan
    limit = tolerance_mm + TOLERANCE_SLACK_MM
    return float(((distances.to_target <= limit).sum() + (distances.to_preds <= limit).sum()) / voxels)


def volume_ml(mask: Shaped[np.ndarray, ...], spacing_mm: Sequence[float]) -> float:
    """Volume of a mask in ml: voxels times the volume of a voxel.

    Example:
        >>> volume_ml(np.ones((10, 10, 10), dtype=bool), (4.0, 4.0, 4.0))
        64.0
    """
    check_masks(mask, mask)
    return float(np.count_nonzero(mask) * _checked_spacing(spacing_mm, mask.ndim).prod() / 1000)


def volume_difference_ml(
    preds: Shaped[np.ndarray, ...], target: Shaped[np.ndarray, ...], spacing_mm: Sequence[float]
) -> float:
    """Volume of ``preds`` minus volume of ``target``, in ml: negative when the prediction is too small.

    Returns:
        Never undefined: 0 for two empty masks.

    Example:
        >>> preds, target = np.zeros((2, 10, 10, 10), dtype=bool)
        >>> preds[:5] = target[:6] = True
        >>> volume_difference_ml(preds, target, (4.0, 4.0, 4.0))
        -6.4
    """
    check_masks(preds, target)
    voxels = np.count_nonzero(preds) - np.count_nonzero(target)
    return float(voxels * _checked_spacing(spacing_mm, preds.ndim).prod() / 1000)


def volume_difference_pct(preds: Shaped[np.ndarray, ...], target: Shaped[np.ndarray, ...]) -> float:
    """Volume difference in percent of the reader's volume: negative when the prediction is too small.

    Returns:
        -100 when only the prediction is empty, NaN when the reader outlined nothing.

    Example:
        >>> preds, target = np.zeros((2, 10, 10, 10), dtype=bool)
        >>> preds[:5] = target[:4] = True
        >>> volume_difference_pct(preds, target)
        25.0
    """
    check_masks(preds, target)
    wanted = np.count_nonzero(target)
    return float(100 * (np.count_nonzero(preds) - wanted) / wanted) if wanted else math.nan


# --- Private helpers ---


def _nearest_mm(points: Surfaces, others: Surfaces) -> Float[np.ndarray, " n"]:
    """Distance of each point to the nearest other one of the same frame; inf where there is none.

    One tree serves all frames: frames stand so far apart along an axis of their own that the nearest neighbor is always
    of the same frame. The distance is then computed from whole voxel steps, so that a step of one voxel is exactly the
    spacing.
    """
    distances = np.full(len(points.points), np.inf)
    reachable = np.diff(others.cuts)[points.points[:, 0]] > 0
    if not reachable.any():
        return distances
    _, nearest = others.tree.query(points.points[reachable] * points.scale_mm)
    steps = (points.points[reachable] - others.points[nearest])[:, 1:] * points.scale_mm[1:]
    distances[reachable] = np.sqrt((steps**2).sum(axis=1))
    return distances


def _unless_empty(distances: SurfaceDistances, score: Callable[[SurfaceDistances], float]) -> float:
    if distances.to_target.size and distances.to_preds.size:
        return float(score(distances))
    return math.inf if distances.to_target.size or distances.to_preds.size else math.nan


def _checked_spacing(spacing_mm: Sequence[float], dims: int) -> Float[np.ndarray, " dims"]:
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (dims,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(
            f"spacing_mm is {tuple(spacing_mm)}, expected {dims} positive lengths in mm, one for each axis of the mask "
            "in its own order; read them from the image's header"
        )
    return spacing
