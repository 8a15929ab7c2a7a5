"""The frame of the heart: its long axis, its sides, where it begins and where it ends.

Everything lies in RAS. *Height* is the distance along the long axis from ``center_mm``, growing toward the apex. The
*wall angle* is 0 at the anterior wall, 90 at the lateral, 180 at the inferior and 270 at the septal wall, so that the
AHA segments 1 to 6 lie at 0, 300, 240, 180, 120 and 60 degrees. The *heart frame* has the coordinates (lateral,
inferior, height).

The long axis is the line that leaves the wall equally far on all sides, at every height at which the wall is a closed
ring. Which end is the apex follows from where the cavity opens. An outline of the wall alone does not say how the heart
is rolled about its axis: without a reference the inferior side is the one that looks to the patient's feet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from mpi_unet.cardiac.rays import (
    EDGE,
    STEP_MM,
    crossings_mm,
    finest_spacing_mm,
    one_piece,
    sample,
    sample_along,
    sphere_directions,
    voxel_centers_mm,
)
from mpi_unet.cardiac.valve import fit_valve
from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Affine

__all__ = ["CAP_SHARE", "FEET", "USUAL_APEX", "HeartAxes", "Vector", "axes_along", "heart_axes"]

Vector = tuple[float, float, float]
"""A point or a direction in RAS."""

FEET: Vector = (0.0, 0.0, -1.0)

USUAL_APEX: Vector = (-0.6, 0.6, -0.5)
"""The apex points to the left, to the front and down in RAS; for an outline that is closed at its base."""

CAP_SHARE = 0.06
"""Share of the cavity's length that belongs to the cap, segment 17, with the wall beyond it; the rest are the equal
thirds of the rings. The AHA puts the border at the end of the cavity, where a segment would have no inner surface."""

SMALLEST_REFERENCE_ANGLE_DEG = 15.0
"""A heart whose axis is nearly parallel to the reference has no side that looks along it."""

NUM_DIRECTIONS, NUM_ANGLES = 800, 48

SMALLEST_OPENING = 0.015
"""Share of the sphere around the middle of the cavity; a mitral valve takes up 4 to 8 %, a hole in a thin wall 1 %."""

OPENING_RADIUS_DEG = 35.0

MAX_ROUNDS, SETTLED_DEG = 12, 0.02


@dataclass(frozen=True)
class HeartAxes:
    """Where the left ventricle lies in the patient.

    Attributes:
        center_mm: A point on the long axis, in RAS; heights count from it.
        long_axis: Unit vector from base to apex, in RAS.
        inferior: Unit vector orthogonal to it toward the inferior wall: wall angle 180.
        base_mm: Height at which the valve plane meets the long axis.
        apex_mm: Height of the epicardial apex.
        cavity_apex_mm: Height of the endocardial apex; None where the cavity cannot be seen.
        valve_slopes: Rise of the valve plane per mm toward the lateral and toward the inferior wall.
        rim_scatter_mm: Root mean square distance of the rim of the wall from the valve plane; None without a rim.
        is_open: Whether the cavity opens at the base. Where it does not, the base is the end of the cavity and the
            direction of the axis came from ``apex_hint``.

    Raises:
        CardiacError: The directions are not orthogonal unit vectors, or the apex does not lie beyond the base.
    """

    center_mm: Vector
    long_axis: Vector
    inferior: Vector
    base_mm: float
    apex_mm: float
    cavity_apex_mm: float | None = None
    valve_slopes: tuple[float, float] = (0.0, 0.0)
    rim_scatter_mm: float | None = None
    is_open: bool = True

    def __post_init__(self) -> None:
        axis, inferior = np.array(self.long_axis), np.array(self.inferior)
        lengths = np.linalg.norm(axis), np.linalg.norm(inferior)
        if not np.allclose(lengths, 1, atol=1e-6) or abs(axis @ inferior) > 1e-6:
            raise CardiacError(
                f"long_axis {self.long_axis} and inferior {self.inferior} have lengths {lengths[0]:.6g} and "
                f"{lengths[1]:.6g} and the scalar product {axis @ inferior:.6g}; expected orthogonal unit vectors; "
                "axes_along makes them so"
            )
        if not self.apex_mm > self.base_mm:
            raise CardiacError(
                f"base_mm is {self.base_mm:g} and apex_mm {self.apex_mm:g}; the apex lies beyond the base, so turn "
                "long_axis round"
            )

    @property
    def frame(self) -> Float[np.ndarray, "3 3"]:
        """Unit vectors (lateral, inferior, apical) as rows, in RAS."""
        axis, inferior = np.array(self.long_axis), np.array(self.inferior)
        return np.stack([np.cross(axis, inferior), inferior, axis])

    @property
    def length_mm(self) -> float:
        """Distance of the epicardial apex from the valve plane along the axis."""
        return self.apex_mm - self.base_mm

    def to_heart(self, points_mm: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """Points in RAS as (lateral, inferior, height)."""
        return (points_mm - np.array(self.center_mm)) @ self.frame.T

    def to_world(self, heart_mm: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """Points (lateral, inferior, height) in RAS."""
        return heart_mm @ self.frame + np.array(self.center_mm)

    def wall_angle_deg(self, heart_mm: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points"]:
        """Wall angle of points of the heart frame, 0 to 360.

        Example:
            >>> axes = HeartAxes((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0), -40.0, 40.0)
            >>> axes.wall_angle_deg(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]))
            array([  0.,  90., 180., 270.])
        """
        return np.rad2deg(np.arctan2(heart_mm[..., 0], -heart_mm[..., 1])) % 360

    def valve_height_mm(self, heart_mm: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points"]:
        """Height of the valve plane under or over points of the heart frame."""
        return self.base_mm + heart_mm[..., 0] * self.valve_slopes[0] + heart_mm[..., 1] * self.valve_slopes[1]


def heart_axes(
    wall: Shaped[np.ndarray, "z y x"],
    affine_ras: Affine,
    *,
    inferior_reference: Vector = FEET,
    apex_hint: Vector | None = None,
) -> HeartAxes:
    """Long axis, valve plane and apex from an outline of the wall.

    Rays from the middle of the outline look for the opening of the cavity; opposite to it lies the apex. Then the axis
    is moved and turned until the wall lies symmetrically about it, height by height. Transaxial and short-axis volumes
    are treated alike, since everything happens in millimeters.

    Args:
        wall: Mask of the left ventricular wall, or shares of voxels from 0 to 1.
        affine_ras: Voxel index (x, y, z) to RAS.
        inferior_reference: Direction in RAS that the inferior wall looks to. For short-axis slices whose affine is not
            that of the patient pass the direction of their columns downward.
        apex_hint: Direction in RAS that the apex points to, for an outline that is closed at its base as well, for
            example ``USUAL_APEX``. An opening that is found overrules it.

    Returns:
        The axes. ``center_mm`` is the middle between base and apex.

    Raises:
        CardiacError: The outline is no cup: empty, in pieces, without an opening (and no hint), or nowhere a ring; or
            the reference is nearly parallel to the axis.
    """
    shares = one_piece(wall, affine_ras, "wall")
    points = voxel_centers_mm(shares >= EDGE, affine_ras)
    middle = points.mean(0)
    reach_mm = float(np.linalg.norm(points - middle, axis=1).max()) + 2 * float(
        np.linalg.norm(affine_ras[:3, :3], axis=0).max()
    )
    opening = _opening(shares, affine_ras, middle, reach_mm)
    if opening is None and apex_hint is None:
        raise CardiacError(
            "wall: no opening of the cavity was found, so base and apex cannot be told apart; expected a wall that is "
            "open at the mitral valve. Pass apex_hint=USUAL_APEX if the outline closes the base on purpose"
        )
    axis = -opening if opening is not None else _longest(points, np.array(apex_hint, float))
    middle, axis = _centered(shares, affine_ras, points, axis, reach_mm)
    inferior = _orthogonal(np.array(inferior_reference, float), axis)
    frame = np.stack([np.cross(axis, inferior), inferior, axis])
    apex, cavity_apex = _apex_mm(shares, affine_ras, middle, frame, reach_mm)
    valve = fit_valve(shares, affine_ras, middle, frame, apex_mm=apex) if opening is not None else None
    if valve is None:
        base, slopes, scatter = _closed_base_mm(shares, affine_ras, middle, axis, reach_mm), (0.0, 0.0), None
    else:
        base, slopes, scatter = valve.height_mm, valve.slopes, valve.scatter_mm
    half = (base + apex) / 2
    return HeartAxes(
        center_mm=_vector(middle + half * axis),
        long_axis=_vector(axis),
        inferior=_vector(inferior),
        base_mm=base - half,
        apex_mm=apex - half,
        cavity_apex_mm=None if cavity_apex is None else cavity_apex - half,
        valve_slopes=slopes,
        rim_scatter_mm=scatter,
        is_open=valve is not None,
    )


def axes_along(
    center_mm: Vector,
    long_axis: Vector,
    *,
    base_mm: float,
    apex_mm: float,
    inferior_reference: Vector = FEET,
) -> HeartAxes:
    """Axes from a line that is known already, for example drawn by a reader; directions need not be unit vectors.

    Raises:
        CardiacError: The reference is nearly parallel to the axis, or the apex does not lie beyond the base.

    Example:
        >>> axes_along((0.0, 0.0, 0.0), (0.0, 2.0, 0.0), base_mm=-40.0, apex_mm=40.0).frame.tolist()
        [[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]
    """
    axis = np.array(long_axis, float)
    axis /= np.linalg.norm(axis)
    inferior = _orthogonal(np.array(inferior_reference, float), axis)
    return HeartAxes(center_mm, _vector(axis), _vector(inferior), base_mm, apex_mm)


def _opening(
    shares: np.ndarray, affine_ras: np.ndarray, middle: np.ndarray, reach_mm: float
) -> Float[np.ndarray, "3"] | None:
    """Mean direction of the largest hole in the wall, seen from the middle; None when there is none."""
    directions = sphere_directions(NUM_DIRECTIONS)
    distance = np.arange(0, reach_mm, 2 * STEP_MM)
    values = sample_along(shares, affine_ras, middle, directions, distance)
    free = directions[values.max(-1) < EDGE]
    if len(free) < SMALLEST_OPENING * NUM_DIRECTIONS:
        return None
    near = free @ free.T > np.cos(np.deg2rad(OPENING_RADIUS_DEG))
    together = near[near.sum(1).argmax()]
    if together.sum() < SMALLEST_OPENING * NUM_DIRECTIONS:
        return None
    mean = free[together].mean(0)
    return mean / np.linalg.norm(mean)


def _longest(points_mm: np.ndarray, hint: np.ndarray) -> np.ndarray:
    """Direction of largest extent among those within 60 degrees of the hint, toward the hint."""
    hint = hint / np.linalg.norm(hint)
    _, vectors = np.linalg.eigh(np.cov(points_mm.T))
    for vector in vectors.T[::-1]:
        toward = vector * np.sign(vector @ hint or 1.0)
        if toward @ hint > 0.5:
            return toward
    return hint


def _centered(
    shares: np.ndarray, affine_ras: np.ndarray, points_mm: np.ndarray, axis: np.ndarray, reach_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move and turn the axis until the middle of the wall lies evenly around it at every closed ring.

    Rings are looked for where the wall is, a voxel beyond it included, and nowhere else.
    """
    middle = points_mm.mean(0)
    voxel_mm = float(np.linalg.norm(affine_ras[:3, :3], axis=0).sum())
    angle = np.arange(NUM_ANGLES) * 2 * np.pi / NUM_ANGLES
    harmonics = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], -1)
    steps = np.arange(-reach_mm, reach_mm, max(2.0, finest_spacing_mm(affine_ras) / 2))
    for _ in range(MAX_ROUNDS):
        height = (points_mm - middle) @ axis
        across = np.linalg.norm(points_mm - middle - height[:, None] * axis, axis=1).max()
        heights = steps[(steps > height.min() - voxel_mm) & (steps < height.max() + voxel_mm)]
        distance = np.arange(0, across + voxel_mm, STEP_MM)
        first = _orthogonal(np.eye(3)[np.abs(axis).argmin()], axis)
        second = np.cross(axis, first)
        spokes = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
        along = middle + heights[:, None] * axis
        values = sample_along(shares, affine_ras, along[:, None], spokes, distance)
        inner, outer = crossings_mm(values, STEP_MM)
        radius = (inner + outer) / 2
        seen = np.isfinite(radius)
        mean_radius = np.where(seen, radius, 0).sum(1) / np.maximum(seen.sum(1), 1)
        ring = (seen.mean(1) >= 0.9) & (inner.min(1, where=seen, initial=np.inf) > 0)
        ring &= mean_radius > 0.6 * mean_radius.max(where=ring, initial=0.0)
        if ring.sum() < 3:
            raise CardiacError(
                f"wall: is a closed ring at {int(ring.sum())} heights only along its axis; expected a cup around a "
                "cavity. Check the outline, or that spacing and affine are right"
            )
        offsets = np.stack(
            [
                np.linalg.lstsq(harmonics[seen[row]], radius[row][seen[row]], rcond=None)[0][1:3]
                for row in np.flatnonzero(ring)
            ]
        )
        line = np.polyfit(heights[ring], offsets, 1)
        turned = axis + line[0, 0] * first + line[0, 1] * second
        turned /= np.linalg.norm(turned)
        middle = middle + line[1, 0] * first + line[1, 1] * second
        change_deg = np.rad2deg(np.arccos(np.clip(turned @ axis, -1, 1)))
        axis = turned
        if change_deg < SETTLED_DEG and np.abs(line[1]).max() < SETTLED_DEG:
            break
    return middle, axis


def _apex_mm(
    shares: np.ndarray, affine_ras: np.ndarray, middle: np.ndarray, frame: np.ndarray, reach_mm: float
) -> tuple[float, float | None]:
    """Heights of the epicardial and of the endocardial apex, from a narrow bundle of rays around the axis."""
    angle = np.arange(12) * np.pi / 6
    tilt = np.deg2rad([1.0, 4.0, 8.0])
    spokes = np.cos(angle)[:, None] * frame[0] + np.sin(angle)[:, None] * frame[1]
    directions = np.sin(tilt)[:, None, None] * spokes + np.cos(tilt)[:, None, None] * frame[2]
    distance = np.arange(0, reach_mm, STEP_MM)
    values = sample_along(shares, affine_ras, middle, directions, distance)
    inner, outer = (found * np.cos(tilt)[:, None] for found in crossings_mm(values, STEP_MM))
    if np.isfinite(outer).mean() < 0.25:  # a hole in a thin apex: the wall around it still ends somewhere
        heights = (voxel_centers_mm(shares >= EDGE, affine_ras) - middle) @ frame[2]
        return float(np.percentile(heights, 99.5)) + 0.5 * finest_spacing_mm(affine_ras), None
    cavity = float(np.nanmedian(inner))
    return float(np.nanmedian(outer)), cavity if cavity > 0 else None


def _closed_base_mm(
    shares: np.ndarray, affine_ras: np.ndarray, middle: np.ndarray, axis: np.ndarray, reach_mm: float
) -> float:
    """Height at which the cavity ends at the basal side of an outline that is closed there."""
    points = middle - axis * np.arange(0, reach_mm, STEP_MM)[:, None]
    inner = float(crossings_mm(sample(shares, affine_ras, points)[None], STEP_MM)[0][0])
    if not np.isfinite(inner):
        raise CardiacError(
            "wall: nothing closes its base on the long axis, and no opening was found; check the outline"
        )
    return -inner


def _orthogonal(reference: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Unit vector orthogonal to the axis, as near to the reference as possible."""
    reference = reference / np.linalg.norm(reference)
    across = reference - axis * (reference @ axis)
    length = float(np.linalg.norm(across))
    if length < np.sin(np.deg2rad(SMALLEST_REFERENCE_ANGLE_DEG)):
        raise CardiacError(
            f"inferior_reference: lies {np.rad2deg(np.arcsin(length)):.0f} degrees from the long axis; expected "
            f"{SMALLEST_REFERENCE_ANGLE_DEG:g} or more. Pass another direction that the inferior wall looks to"
        )
    return across / length


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z
