"""Walls of a ventricle on a small grid, and images of them, for tests of outlines and of their quality."""

from __future__ import annotations

import numpy as np

SPACING_MM = (6.4, 3.2, 3.2)
SHAPE = (18, 48, 48)
MIDDLE_MM = (57.6, 76.8, 76.8)


def around(middle_mm=MIDDLE_MM):
    """Places of the voxels along z, y and x in mm."""
    return (index * step - at for index, step, at in zip(np.indices(SHAPE), SPACING_MM, middle_mm, strict=True))


def wall(middle_mm=MIDDLE_MM, radius_mm=28.0, thick_mm=10.0, long=1.6) -> np.ndarray:
    """A hollow ellipsoid, open at one end."""
    z, y, x = around(middle_mm)
    away = np.sqrt((z / long) ** 2 + y**2 + x**2)
    return (away <= radius_mm) & (away >= radius_mm - thick_mm) & (z < 0.7 * long * radius_mm)


def picture(mask: np.ndarray, noise: float = 0.02, seed: int = 0) -> np.ndarray:
    """Uptake of 120 in the wall and of 20 around it."""
    rng = np.random.default_rng(seed)
    return (20 + 100 * mask + 100 * noise * rng.normal(size=mask.shape) * (1 + mask)).astype(np.float32)


def loop(gap_mm=0.0, radius_mm=14.0) -> np.ndarray:
    """A ball of gut below the wall of 28 mm, touching it or with a gap between them."""
    z, y, x = around((MIDDLE_MM[0], MIDDLE_MM[1] + 28 + gap_mm + radius_mm, MIDDLE_MM[2]))
    return np.sqrt(z**2 + y**2 + x**2) <= radius_mm
