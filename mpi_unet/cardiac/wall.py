"""How thick the wall is, and how much it thickens from end diastole to end systole.

Thickness is measured across the wall: from a point of its middle layer to the nearest point of either surface, which is
along the normal wherever the surfaces are smooth. Segments are those of the AHA, cut on the wall itself: three rings of
equal height between the valve plane and the apex of the cavity, whose last part is the cap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from mpi_unet.cardiac.axis import CAP_SHARE
from mpi_unet.cardiac.surfaces import HeartSurfaces
from mpi_unet.errors import CardiacError, listing

__all__ = ["segment_thickness_mm", "thickening_pct", "wall_segments", "wall_thickness_mm"]

FINER = 3
"""Points of the surfaces between neighboring rays; nearest points are then 1 mm apart, which makes a wall of 8 mm too
thick by less than 0.02 mm."""

THINNEST_MM = 1.0
"""Below it a wall has no thickness that a share could be taken of."""


def wall_thickness_mm(surfaces: HeartSurfaces) -> Float[np.ndarray, "rows angles"]:
    """Thickness of the wall at every ray.

    Returns:
        mm; NaN on the basal side of the valve plane.

    Source:
        Thickness across the middle layer rather than along rays: the centerline method, Sheehan et al. 1986,
        Circulation 74:293-305, in three dimensions with nearest points.
    """
    middle = surfaces.points_mm((surfaces.endo_mm + surfaces.epi_mm) / 2)
    thickness = sum(
        # built without sorting, in half the time: the points lie evenly, and are asked about once
        cKDTree(_finer(surfaces.points_mm(length)).reshape(-1, 3), compact_nodes=False, balanced_tree=False).query(
            middle.reshape(-1, 3)
        )[0]
        for length in (surfaces.endo_mm, surfaces.epi_mm)
    )
    return np.where(surfaces.below_valve, np.asarray(thickness).reshape(middle.shape[:2]), np.nan)


def wall_segments(surfaces: HeartSurfaces) -> Int[np.ndarray, "rows angles"]:
    """AHA segment, 1 to 17, of every ray; 0 on the basal side of the valve plane.

    Source:
        Cerqueira et al. 2002, Circulation 105:539-542. doi:10.1161/hc0402.102975; the cap as ``CAP_SHARE`` says.
    """
    inner = surfaces.points_mm(surfaces.endo_mm)
    apex = float(inner[-1, :, 2].mean())
    length = (1 - CAP_SHARE) * (apex - surfaces.axes.base_mm)
    ring = np.clip(np.floor(3 * (inner[..., 2] - surfaces.axes.base_mm) / length).astype(int), 0, 3)
    six = np.round((360 - surfaces.angle_deg) / 60).astype(int) % 6 + 1
    four = np.round((360 - surfaces.angle_deg) / 90).astype(int) % 4 + 13
    numbers = np.select(
        [ring == 0, ring == 1, ring == 2], np.broadcast_arrays(six[None], six[None] + 6, four[None]), 17
    )
    return np.where(surfaces.below_valve, numbers, 0)


def segment_thickness_mm(surfaces: HeartSurfaces) -> tuple[float | None, ...]:
    """Mean thickness of each of the 17 segments, weighted by the area of the endocardium.

    Returns:
        17 values in mm; None where the valve plane leaves nothing of a segment.
    """
    thickness, segments = wall_thickness_mm(surfaces), wall_segments(surfaces)
    area = _area_mm2(surfaces.points_mm(surfaces.endo_mm))
    means: list[float | None] = []
    for segment in range(1, 18):
        here = (segments == segment) & np.isfinite(thickness)
        means.append(float(np.average(thickness[here], weights=area[here])) if here.any() else None)
    return tuple(means)


def thickening_pct(
    diastolic_mm: Sequence[float | None], systolic_mm: Sequence[float | None]
) -> tuple[float | None, ...]:
    """By how much each segment is thicker at end systole than at end diastole.

    Args:
        diastolic_mm: Thickness of the segments at end diastole.
        systolic_mm: Thickness of the same segments at end systole.

    Returns:
        100 * (systolic - diastolic) / diastolic; None where one of them is None.

    Raises:
        CardiacError: The two differ in number, or a wall at end diastole is thinner than ``THINNEST_MM``.

    Example:
        >>> thickening_pct((8.0, 10.0, None), (12.0, 9.0, 11.0))
        (50.0, -10.0, None)
    """
    if len(diastolic_mm) != len(systolic_mm):
        raise CardiacError(
            f"{len(diastolic_mm)} segments at end diastole and {len(systolic_mm)} at end systole; expected the same"
        )
    thin = [
        f"segment {number}: is {value:g} mm thick at end diastole; expected {THINNEST_MM:g} mm or more"
        for number, value in enumerate(diastolic_mm, 1)
        if value is not None and value < THINNEST_MM
    ]
    if thin:
        raise CardiacError(f"Thickening cannot be told:\n{listing(thin)}\nLook at the outline of that gate")
    return tuple(
        None if before is None or after is None else 100 * (after - before) / before
        for before, after in zip(diastolic_mm, systolic_mm, strict=True)
    )


def _finer(points_mm: Float[np.ndarray, "rows angles 3"]) -> Float[np.ndarray, "more_rows more_angles 3"]:
    """Points between neighboring rays, linearly; columns close to a ring."""
    closed = np.concatenate([points_mm, points_mm[:, :1]], axis=1)
    rows = np.linspace(0, len(closed) - 1, FINER * (len(closed) - 1) + 1)
    columns = np.arange(FINER * points_mm.shape[1]) / FINER
    at = np.meshgrid(rows, columns, indexing="ij")
    parts = [map_coordinates(closed[..., axis], at, order=1, prefilter=False) for axis in range(3)]
    return np.stack(parts, axis=-1)


def _area_mm2(points_mm: Float[np.ndarray, "rows angles 3"]) -> Float[np.ndarray, "rows angles"]:
    """Area of surface that belongs to each point."""
    along = np.gradient(points_mm, axis=0)
    around = (np.roll(points_mm, -1, axis=1) - np.roll(points_mm, 1, axis=1)) / 2
    return np.linalg.norm(np.cross(along, around), axis=-1)
