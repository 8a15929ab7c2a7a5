"""Endo- and epicardial surface of the left ventricle, finer than the voxels that they come from.

Both surfaces are read along rays from the long axis: at right angles to it below ``apical_origin_mm``, fanning out
from that point over the apex. The readings of all rays are joined to a smooth surface, harmonics around the axis times
splines along it, so that the staircase of the voxels averages out and a gap in the wall is bridged. The valve plane
cuts both surfaces off; where it stands above a rim that dips, they are continued up to it.

Voxels also shrink what they outline: corners that fill less than half a voxel are lost, at the rim above all. How much
is found by drawing the measured surfaces on the same voxels, measuring the drawing, and taking the difference back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from mpi_unet.cardiac.axis import HeartAxes
from mpi_unet.cardiac.rays import (
    EDGE,
    STEP_MM,
    crossings_mm,
    finest_spacing_mm,
    one_piece,
    sample_along,
    voxel_centers_mm,
)
from mpi_unet.cardiac.valve import fit_valve
from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Affine

__all__ = ["NUM_ANGLES", "HeartSurfaces", "heart_surfaces"]

NUM_ANGLES, ROW_MM, NUM_FAN_ROWS = 72, 1.5, 24

BELOW_VALVE_MM = 9.0
"""Rows begin so far below the valve plane, since undoing the voxels moves it that way."""

RIM_VOXELS = 0.6
"""Rays so close to the rim meet the staircase of its last voxels and are not trusted."""

UNDO_ROUNDS = 2

NUM_HARMONICS = 4
"""Oval, triangle and square; what is finer in a mask of 4 to 6 mm voxels is the staircase."""

KNOT_MM = 10.0

STIFFNESS = 0.5
"""Weight of the penalty on the curvature along the axis, per ray and knot; it decides only where there are no rays."""

SUBSAMPLES = 4
"""Parts of a voxel edge when surfaces are drawn on voxels."""

SMALLEST_SHARE_OF_RAYS = 0.6


@dataclass(frozen=True)
class HeartSurfaces:
    """The surfaces of one left ventricle on a grid of rays, rows from base to apex.

    Attributes:
        axes: Frame, valve plane and apex.
        apical_origin_mm: Height below which rays leave the axis at right angles and above which they fan out from it.
        origin_mm: Height at which the rays of each row start.
        polar_deg: Angle of each row with the long axis: 90 below ``apical_origin_mm``, falling to 0 at the apex.
        angle_deg: Wall angle of each column.
        endo_mm: Length of each ray up to the endocardium.
        epi_mm: Length of each ray up to the epicardium.
        found_share: Share of rays that met the wall; the rest is bridged.
    """

    axes: HeartAxes
    apical_origin_mm: float
    origin_mm: Float[np.ndarray, " rows"]
    polar_deg: Float[np.ndarray, " rows"]
    angle_deg: Float[np.ndarray, " angles"]
    endo_mm: Float[np.ndarray, "rows angles"]
    epi_mm: Float[np.ndarray, "rows angles"]
    found_share: float

    @property
    def wall_mm(self) -> Float[np.ndarray, "rows angles"]:
        """Length of wall along each ray: thickness where the ray meets the wall at a right angle, more elsewhere."""
        return self.epi_mm - self.endo_mm

    def points_mm(self, length_mm: Float[np.ndarray, "rows angles"]) -> Float[np.ndarray, "rows angles 3"]:
        """Heart-frame points (lateral, inferior, height) at these lengths along the rays."""
        polar, angle = np.deg2rad(self.polar_deg)[:, None], np.deg2rad(self.angle_deg)[None, :]
        across, along = length_mm * np.sin(polar), length_mm * np.cos(polar)
        return np.stack([across * np.sin(angle), -across * np.cos(angle), self.origin_mm[:, None] + along], axis=-1)

    @cached_property
    def below_valve(self) -> Bool[np.ndarray, "rows angles"]:
        """Whether the endocardium of a ray lies on the apical side of the valve plane."""
        points = self.points_mm(self.endo_mm)
        return points[..., 2] >= self.axes.valve_height_mm(points)

    def volume_ml(self, length_mm: Float[np.ndarray, "rows angles"]) -> float:
        """Volume between the valve plane and the surface at these lengths along the rays."""
        polar = np.deg2rad(self.polar_deg)
        fan = self.polar_deg < 90
        wedge = np.deg2rad(360 / len(self.angle_deg))
        edge = np.concatenate([[np.pi / 2], (polar[fan][:-1] + polar[fan][1:]) / 2, [0.0]])
        solid = np.cos(edge[1:]) - np.cos(edge[:-1])
        cap = (length_mm[fan] ** 3 * solid[:, None]).sum() * wedge / 3
        height = self.origin_mm[~fan]
        step = float(height[1] - height[0])
        parts = (np.arange(12) + 0.5) / 12
        radius = length_mm[~fan][..., None] * np.sqrt(parts)
        angle = np.deg2rad(self.angle_deg)[None, :, None]
        points = np.stack(
            np.broadcast_arrays(radius * np.sin(angle), -radius * np.cos(angle), height[:, None, None]), axis=-1
        )
        inside = np.clip((points[..., 2] - self.axes.valve_height_mm(points)) / step + 0.5, 0, 1).mean(-1)
        inside[-1] *= 0.5  # the upper half of the last disc belongs to the cap
        return float(cap + (length_mm[~fan] ** 2 * inside).sum() * wedge * step / 2) / 1000

    def shares(
        self, length_mm: Float[np.ndarray, "rows angles"], shape: tuple[int, int, int], affine_ras: Affine
    ) -> Float[np.ndarray, "z y x"]:
        """Share of each voxel between the valve plane and the surface at these lengths along the rays."""
        box = self._box(length_mm, shape, affine_ras)
        index = np.stack(np.meshgrid(*(np.arange(part.start, part.stop) for part in box), indexing="ij"), axis=-1)
        centers = index[..., ::-1] @ affine_ras[:3, :3].T + affine_ras[:3, 3]
        heart = self.axes.to_heart(centers)
        depth = self.depth_mm(length_mm, heart)
        part = (depth >= 0).astype(float)
        border = np.abs(depth) < np.sqrt((affine_ras[:3, :3] ** 2).sum())  # twice the reach of a voxel: rays slant
        offsets = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
        steps = np.stack(np.meshgrid(offsets, offsets, offsets), axis=-1).reshape(-1, 3) @ affine_ras[:3, :3].T
        parts = heart[border][:, None] + steps @ self.axes.frame.T
        part[border] = self.contains(length_mm, parts).mean(-1)
        total = np.zeros(shape)
        total[box] = part
        return total

    def wall_shares(self, shape: tuple[int, int, int], affine_ras: Affine) -> Float[np.ndarray, "z y x"]:
        """Share of each voxel that the wall fills."""
        return self.shares(self.epi_mm, shape, affine_ras) - self.shares(self.endo_mm, shape, affine_ras)

    def contains(
        self, length_mm: Float[np.ndarray, "rows angles"], heart_mm: Float[np.ndarray, "*points 3"]
    ) -> Bool[np.ndarray, "*points"]:
        """Whether heart-frame points lie between the valve plane and the surface at these lengths along the rays."""
        return self.depth_mm(length_mm, heart_mm) >= 0

    def depth_mm(
        self, length_mm: Float[np.ndarray, "rows angles"], heart_mm: Float[np.ndarray, "*points 3"]
    ) -> Float[np.ndarray, "*points"]:
        """How far heart-frame points lie inside the surface, along their ray, and inside the valve plane: the lesser.

        Negative outside.
        """
        across = np.hypot(heart_mm[..., 0], heart_mm[..., 1])
        beyond = heart_mm[..., 2] - self.apical_origin_mm
        fan = beyond > 0
        distance = across.copy()
        distance[fan] = np.hypot(across[fan], beyond[fan])
        polar = np.rad2deg(np.arctan2(across[fan], beyond[fan]))
        num_flat = int((self.polar_deg >= 90).sum())
        row = (heart_mm[..., 2] - self.origin_mm[0]) / (self.origin_mm[1] - self.origin_mm[0])
        row[fan] = num_flat - 1 + (90 - polar) / (self.polar_deg[num_flat - 1] - self.polar_deg[num_flat])
        column = self.axes.wall_angle_deg(heart_mm) / (360 / len(self.angle_deg))
        closed = np.concatenate([length_mm, length_mm[:, :1]], axis=1)
        limit = map_coordinates(closed, [row, column], order=1, mode="nearest", prefilter=False)
        return np.minimum(limit - distance, heart_mm[..., 2] - self.axes.valve_height_mm(heart_mm))

    def _box(
        self, length_mm: np.ndarray, shape: tuple[int, int, int], affine_ras: np.ndarray
    ) -> tuple[slice, slice, slice]:
        world = self.axes.to_world(self.points_mm(length_mm)).reshape(-1, 3)
        to_index = np.linalg.inv(affine_ras)
        index = (world @ to_index[:3, :3].T + to_index[:3, 3])[:, ::-1]
        low = np.clip(np.floor(index.min(0)).astype(int) - 1, 0, shape)
        high = np.clip(np.ceil(index.max(0)).astype(int) + 2, 0, shape)
        z, y, x = (slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
        return z, y, x


def heart_surfaces(
    wall: Shaped[np.ndarray, "z y x"], affine_ras: Affine, axes: HeartAxes, *, undo_voxels: bool = True
) -> HeartSurfaces:
    """Surfaces of the left ventricle from an outline of its wall.

    Args:
        wall: Mask of the left ventricular wall, or shares of voxels from 0 to 1.
        affine_ras: Voxel index (x, y, z) to RAS.
        axes: What :func:`mpi_unet.cardiac.axis.heart_axes` found on it.
        undo_voxels: Take back what voxels lose at thin places and at the rim (module docstring).

    Returns:
        The surfaces; the valve plane of their axes is corrected together with them.

    Raises:
        CardiacError: As :func:`heart_axes`, or the wall is met by too few rays.
    """
    shares = one_piece(wall, affine_ras, "wall")
    rays = _rays(shares, affine_ras, axes)
    measured = _measure(shares, affine_ras, axes, rays)
    if not undo_voxels:
        return measured
    rim = _valve(shares, affine_ras, axes)
    current = measured
    for _ in range(UNDO_ROUNDS):
        drawn = current.wall_shares(shares.shape, affine_ras)
        drawn = drawn >= EDGE if wall.dtype == bool else drawn
        mask = one_piece(drawn, affine_ras, "the wall drawn from its surfaces")
        again = _measure(mask, affine_ras, axes, rays)
        # the mean of each row: what voxels do on average, without the pattern of one staircase
        endo = current.endo_mm + (measured.endo_mm - again.endo_mm).mean(1, keepdims=True)
        epi = current.epi_mm + (measured.epi_mm - again.epi_mm).mean(1, keepdims=True)
        base, first, second = _plane(current.axes) + rim - _valve(mask, affine_ras, axes)
        moved = replace(current.axes, base_mm=float(base), valve_slopes=(float(first), float(second)))
        current = replace(current, axes=moved, endo_mm=np.clip(endo, 0, epi), epi_mm=epi)
    return current


def _plane(axes: HeartAxes) -> Float[np.ndarray, "3"]:
    return np.array([axes.base_mm, *axes.valve_slopes])


def _valve(shares: np.ndarray, affine_ras: np.ndarray, axes: HeartAxes) -> Float[np.ndarray, "3"]:
    """Height and slopes of the valve plane; that of the axes where the cavity is closed at the base."""
    if not axes.is_open:
        return _plane(axes)
    valve = fit_valve(shares, affine_ras, np.array(axes.center_mm), axes.frame, apex_mm=axes.apex_mm)
    return np.array([valve.height_mm, *valve.slopes])


@dataclass(frozen=True)
class _Rays:
    """The fan of rays that both surfaces are read along."""

    apical_origin_mm: float
    origin_mm: np.ndarray
    polar_deg: np.ndarray
    radius_mm: float

    def profiles(self, shares: np.ndarray, affine_ras: np.ndarray, axes: HeartAxes) -> np.ndarray:
        return _profiles(shares, affine_ras, axes, self.origin_mm, self.polar_deg)

    @cached_property
    def basis(self) -> _Basis:
        along_mm = self.origin_mm + np.deg2rad(90 - self.polar_deg) * self.radius_mm
        return _basis(along_mm, self.polar_deg, _angles())


def _profiles(
    shares: np.ndarray, affine_ras: np.ndarray, axes: HeartAxes, origin_mm: np.ndarray, polar_deg: np.ndarray
) -> np.ndarray:
    """Share of wall along the rays, (row, angle, sample)."""
    polar, turn = np.deg2rad(polar_deg)[:, None], np.deg2rad(_angles())[None, :]
    parts = np.sin(polar) * np.sin(turn), -np.sin(polar) * np.cos(turn), np.cos(polar)
    ray = np.stack(np.broadcast_arrays(*parts), axis=-1)
    start = np.stack([np.zeros_like(origin_mm), np.zeros_like(origin_mm), origin_mm], axis=-1)
    reach_mm = min(axes.length_mm, _reach_mm(shares, affine_ras, axes, float(origin_mm.max())))
    start_mm, direction = axes.to_world(start)[:, None], ray @ axes.frame
    return sample_along(shares, affine_ras, start_mm, direction, np.arange(0, reach_mm, STEP_MM))


def _reach_mm(shares: np.ndarray, affine_ras: np.ndarray, axes: HeartAxes, apical_origin_mm: float) -> float:
    """How far rays from the axis, and from its last origin toward the apex, can meet wall."""
    x, y, z = axes.to_heart(voxel_centers_mm(shares > 0, affine_ras)).T
    beyond = np.maximum(z - apical_origin_mm, 0)
    return float(np.sqrt(x**2 + y**2 + beyond**2).max() + 2 * np.linalg.norm(affine_ras[:3, :3], axis=0).sum())


def _angles() -> Float[np.ndarray, " angles"]:
    return np.arange(NUM_ANGLES) * 360 / NUM_ANGLES


def _rays(shares: np.ndarray, affine_ras: np.ndarray, axes: HeartAxes) -> _Rays:
    middle = np.array([axes.base_mm + 0.45 * axes.length_mm])
    _, outer = crossings_mm(_profiles(shares, affine_ras, axes, middle, np.array([90.0])), STEP_MM)
    if np.isnan(outer).all():
        raise CardiacError(
            "wall: no ray from the long axis meets it half way between base and apex; check that the axes belong to it"
        )
    radius = float(np.nanmedian(outer))
    origin = axes.apex_mm - radius
    origin = min(max(origin, axes.base_mm + 0.3 * axes.length_mm), axes.base_mm + 0.8 * axes.length_mm)
    lowest = axes.base_mm - float(np.hypot(*axes.valve_slopes)) * float(np.nanmax(outer)) - BELOW_VALVE_MM
    below = np.arange(origin, lowest, -ROW_MM)[::-1]
    tilt = np.linspace(90, 0, NUM_FAN_ROWS + 1)[1:]
    return _Rays(
        origin,
        np.concatenate([below, np.full(len(tilt), origin)]),
        np.concatenate([np.full(len(below), 90.0), tilt]),
        radius,
    )


def _measure(shares: np.ndarray, affine_ras: np.ndarray, axes: HeartAxes, rays: _Rays) -> HeartSurfaces:
    inner, outer = crossings_mm(rays.profiles(shares, affine_ras, axes), STEP_MM)
    rows, polar = rays.origin_mm, rays.polar_deg
    seen = np.isfinite(outer)
    depth = max(1, round(RIM_VOXELS * finest_spacing_mm(affine_ras) / ROW_MM))
    trusted = seen.copy()
    for row in np.flatnonzero(polar >= 90):
        trusted[row] &= seen[max(0, row - depth) : row + 1].all(0) & (row >= depth)
    if not axes.is_open:  # rays at the height of the lid are inside it from the start
        trusted[(polar >= 90) & (rows < axes.base_mm + depth * ROW_MM)] = False
    tilt_mm = float(np.hypot(*axes.valve_slopes)) * rays.radius_mm
    share = float(seen[(rows > axes.base_mm + tilt_mm) | (polar < 90)].mean())
    if share < SMALLEST_SHARE_OF_RAYS:
        raise CardiacError(
            f"wall: {100 * share:.0f} % of the rays from the long axis meet it; expected "
            f"{100 * SMALLEST_SHARE_OF_RAYS:.0f} % or more. The wall has holes too large to bridge; check the outline"
        )
    endo, epi = _smooth_surfaces((inner, outer), trusted, rays.basis)
    return HeartSurfaces(axes, rays.apical_origin_mm, rows, polar, _angles(), np.clip(endo, 0, epi), epi, share)


@dataclass(frozen=True)
class _Basis:
    """What smooth surfaces are made of: splines along the rows times harmonics around them.

    Attributes:
        design: (row, angle, function).
        penalty: Of their curvature along the axis.
        weight: Of each row: rays crowd together at the apex.
    """

    design: np.ndarray
    penalty: np.ndarray
    weight: np.ndarray


def _basis(along_mm: np.ndarray, polar_deg: np.ndarray, angle_deg: np.ndarray) -> _Basis:
    num_knots = max(4, round((along_mm[-1] - along_mm[0]) / KNOT_MM))
    knots = np.linspace(along_mm[0], along_mm[-1] + 1e-6, num_knots)
    padded = np.concatenate([np.full(3, knots[0]), knots, np.full(3, knots[-1])])
    splines = BSpline.design_matrix(along_mm, padded, 3).toarray()
    angle, narrow = np.deg2rad(angle_deg), np.sin(np.deg2rad(polar_deg))
    blocks = [splines[:, None, :] * np.ones((1, len(angle), 1))]
    for order in range(1, NUM_HARMONICS + 1):
        fading = splines * (narrow**order)[:, None]  # one value at the apex, whatever the angle
        blocks += [
            fading[:, None, :] * np.cos(order * angle)[None, :, None],
            fading[:, None, :] * np.sin(order * angle)[None, :, None],
        ]
    bending = np.diff(np.eye(splines.shape[1]), 2, axis=0)
    penalty = np.kron(np.eye(len(blocks)), bending.T @ bending) * STIFFNESS * len(angle)
    penalty += 1e-6 * np.eye(len(penalty))
    return _Basis(np.concatenate(blocks, axis=-1), penalty, np.maximum(narrow, 0.05))


def _smooth_surfaces(lengths_mm: tuple[np.ndarray, ...], trusted: np.ndarray, basis: _Basis) -> tuple[np.ndarray, ...]:
    """Least-squares surfaces through the same trusted rays."""
    weights = (trusted * basis.weight[:, None]).ravel()
    flat = basis.design.reshape(-1, basis.design.shape[-1])
    values = np.stack([np.where(trusted, length_mm, 0.0).ravel() for length_mm in lengths_mm], axis=-1)
    weighted = flat * weights[:, None]
    solution = np.linalg.solve(weighted.T @ flat + basis.penalty, weighted.T @ values)
    return tuple(np.moveaxis(basis.design @ solution, -1, 0))
