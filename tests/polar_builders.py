"""A left ventricle that one can compute by hand: half an ellipsoid in any orientation, its uptake a formula."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpi_unet.cardiac.axis import HeartAxes, axes_along
from mpi_unet.cardiac.polar_map import PolarMap

ENDO_RADIUS_MM, WALL_MM, CAVITY_MM = 24.0, 10.0, 66.0


def shell_axes(direction: tuple[float, float, float] = (-0.6, 0.6, -0.5), **options: float) -> HeartAxes:
    """Axes of the shell: the valve plane at height 0, the apex of the cavity at 66 mm, of the wall at 76 mm."""
    found = axes_along((5.0, -8.0, 3.0), direction, base_mm=0.0, apex_mm=CAVITY_MM + WALL_MM)
    facts = {"base_mm": 0.0, "apex_mm": CAVITY_MM + WALL_MM, "cavity_apex_mm": CAVITY_MM, **options}
    return HeartAxes(found.center_mm, found.long_axis, found.inferior, **facts)


def shell(
    axes: HeartAxes,
    uptake: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda angle, height: np.ones_like(angle),
    spacing_mm: float = 3.0,
    flip: tuple[int, int, int] = (1, 1, 1),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, wall and affine; ``uptake(angle_deg, height_mm)`` is that of the wall, everything else has none.

    ``flip`` turns voxel axes round, as negative spacing between slices does.
    """
    size = int(180 / spacing_mm)
    affine = np.diag([*(np.array(flip) * spacing_mm), 1.0])
    affine[:3, 3] = -np.array(flip) * spacing_mm * (size - 1) / 2
    z, y, x = np.meshgrid(*[np.arange(size, dtype=float)] * 3, indexing="ij")
    points = axes.to_heart(np.stack([x, y, z], axis=-1) @ affine[:3, :3].T + affine[:3, 3])
    across, height = np.hypot(points[..., 0], points[..., 1]), points[..., 2]
    endo = (across / ENDO_RADIUS_MM) ** 2 + (height / CAVITY_MM) ** 2
    epi = (across / (ENDO_RADIUS_MM + WALL_MM)) ** 2 + (height / (CAVITY_MM + WALL_MM)) ** 2
    wall = (endo >= 1) & (epi < 1) & (height > 0)
    image = uptake(axes.wall_angle_deg(points), height).astype(np.float32)
    return np.where(wall, image, 0).astype(np.float32), wall, affine


def flat_map(value: float = 100.0, *, unit: str = "percent of maximum", rings: int = 8, angles: int = 48) -> PolarMap:
    """A map of one value whose pixels have equal areas."""
    return PolarMap(np.full((rings, angles), value), np.ones((rings, angles)), "maximum", unit)
