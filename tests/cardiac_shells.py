"""Ventricles whose volumes, axis and thickness are known exactly: half-open ellipsoids of revolution on voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEFT_FRONT_DOWN = (-0.62, 0.60, -0.50)
"""Where the apex points to in RAS."""


@dataclass(frozen=True)
class Shell:
    """A wall between two ellipsoids around one axis, cut off by a plane; lengths in mm."""

    apex_direction: tuple[float, float, float] = LEFT_FRONT_DOWN
    middle_mm: tuple[float, float, float] = (-32.0, 18.0, 7.0)
    radius: float = 24.0
    half_length: float = 60.0
    wall: float = 9.0
    cut: float = 0.3
    tilt: float = 0.0
    closed: bool = False

    @property
    def axis(self) -> np.ndarray:
        direction = np.array(self.apex_direction)
        return direction / np.linalg.norm(direction)

    @property
    def inferior(self) -> np.ndarray:
        across = np.array([0.0, 0.0, -1.0]) + self.axis * self.axis[2]
        return across / np.linalg.norm(across)

    def volume_ml(self, extra: float = 0.0) -> float:
        half = self.half_length + extra
        cut = self.cut * self.half_length / half
        return float(np.pi * (self.radius + extra) ** 2 * half * (2 / 3 + cut - cut**3 / 3) / 1000)

    @property
    def cavity_ml(self) -> float:
        return self.volume_ml()

    @property
    def wall_ml(self) -> float:
        return self.volume_ml(self.wall) - self.volume_ml()

    @property
    def base_mm(self) -> np.ndarray:
        return np.array(self.middle_mm) - self.cut * self.half_length * self.axis

    @property
    def apex_mm(self) -> np.ndarray:
        return np.array(self.middle_mm) + (self.half_length + self.wall) * self.axis

    def inside(self, points: np.ndarray, extra: float) -> np.ndarray:
        """Whether points in RAS lie within the ellipsoid and beyond the plane; ``tilt`` raises it per mm inferior."""
        from_middle = points - np.array(self.middle_mm)
        along = from_middle @ self.axis
        across = np.linalg.norm(from_middle - along[..., None] * self.axis, axis=-1)
        within = (across / (self.radius + extra)) ** 2 + (along / (self.half_length + extra)) ** 2 <= 1
        return within & (along >= -self.cut * self.half_length + self.tilt * (from_middle @ self.inferior))

    def in_wall(self, points: np.ndarray) -> np.ndarray:
        wall = self.inside(points, self.wall) & ~self.inside(points, 0.0)
        if self.closed:
            along = (points - self.base_mm) @ self.axis
            wall |= self.inside(points, self.wall) & (along <= self.wall)
        return wall


def grid_around(shell: Shell, spacing_mm=(4.0, 4.0, 4.0), shape=None, axes=None) -> tuple[tuple, np.ndarray]:
    """Shape (z, y, x) and affine of a grid around the shell; ``axes`` holds the directions of x, y and z as rows."""
    z, y, x = spacing_mm
    shape = shape or tuple(int(np.ceil(170 / step)) for step in spacing_mm)
    directions = np.eye(3) if axes is None else np.asarray(axes, float)
    affine = np.eye(4)
    affine[:3, :3] = directions.T * [x, y, z]
    middle = (np.array(shape[::-1]) - 1) / 2 + [0.13, -0.31, 0.22]  # on no particular voxel
    affine[:3, 3] = np.array(shell.middle_mm) + 20 * shell.axis - affine[:3, :3] @ middle
    return shape, affine


def drawn(shell: Shell, shape: tuple, affine: np.ndarray, parts: int = 4) -> np.ndarray:
    """Share of each voxel that is wall."""
    offsets = (np.arange(parts) + 0.5) / parts - 0.5
    z, y, x = np.meshgrid(*(np.arange(size, dtype=float) for size in shape), indexing="ij")
    centers = np.stack([x, y, z], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    reach = shell.half_length + shell.wall + np.linalg.norm(affine[:3, :3], axis=0).max()
    near = np.linalg.norm(centers - np.array(shell.middle_mm), axis=-1) < reach
    share = np.zeros(int(near.sum()))
    for step in np.stack(np.meshgrid(offsets, offsets, offsets), -1).reshape(-1, 3):
        share += shell.in_wall(centers[near] + affine[:3, :3] @ step)
    total = np.zeros(shape)
    total[near] = share / parts**3
    return total


def wall_mask(shell: Shell, spacing_mm=(4.0, 4.0, 4.0), axes=None) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of which the wall fills at least half, and their affine."""
    shape, affine = grid_around(shell, spacing_mm, axes=axes)
    return drawn(shell, shape, affine) >= 0.5, affine


def degrees_between(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.rad2deg(np.arccos(np.clip(np.dot(first, second), -1, 1))))
