"""Where voxels lie: the transaxial grid of the reconstruction and the short-axis grid that an operator sets up.

A short-axis slice is seen from the apex: anterior wall on top, septum on the left. Slices are ordered from beyond the
apex to beyond the base, so that (x, y, z) = (lateral, inferior, basal) is a right-handed system. The operator's error
in angle and position is part of the grid: image and outlines always lie on the same voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.random_streams import Stream
from mpi_unet.shapes import Affine, Image, SpacingMm

__all__ = [
    "LPS_TO_RAS",
    "SLICES_BEYOND_APEX",
    "SLICES_BEYOND_BASE",
    "Grid",
    "centered_grid",
    "resample",
    "short_axis_grid",
    "transaxial_grid",
]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

SLICES_BEYOND_APEX = 2
SLICES_BEYOND_BASE = 3
"""Slices without myocardium that a clinic keeps at either end; they show the network what is not heart."""


@dataclass(frozen=True)
class Grid:
    """Voxels of an image.

    Attributes:
        shape: Number of voxels along (z, y, x).
        affine_lps: Voxel index (x, y, z) to world millimeters.
    """

    shape: tuple[int, int, int]
    affine_lps: Affine

    @property
    def affine_ras(self) -> Affine:
        """Voxel index (x, y, z) to millimeters in RAS, as NIfTI wants it."""
        return LPS_TO_RAS @ self.affine_lps

    @property
    def spacing_mm(self) -> SpacingMm:
        """Distance of voxel centers along (z, y, x)."""
        x, y, z = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return float(z), float(y), float(x)

    def points_mm(self) -> Float[np.ndarray, "z y x 3"]:
        """World position of every voxel center."""
        z, y, x = np.meshgrid(*[np.arange(size, dtype=float) for size in self.shape], indexing="ij")
        return np.stack([x, y, z], axis=-1) @ self.affine_lps[:3, :3].T + self.affine_lps[:3, 3]

    def sub_offsets_mm(self, finest_mm: float) -> Float[np.ndarray, "sub 3"]:
        """World offsets from a voxel's center that divide it into cells of about ``finest_mm``."""
        parts = [max(1, round(step / finest_mm)) for step in self.spacing_mm[::-1]]
        along = [(np.arange(count) + 0.5) / count - 0.5 for count in parts]
        offsets = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)
        return offsets @ self.affine_lps[:3, :3].T


def centered_grid(
    shape: tuple[int, int, int], axes: Float[np.ndarray, "3 3"], spacing_mm: SpacingMm, center_mm: np.ndarray
) -> Grid:
    """Grid whose middle is at ``center_mm``; the rows of ``axes`` are the directions of x, y and z in the world."""
    affine = np.eye(4)
    affine[:3, :3] = axes.T * np.array(spacing_mm[::-1])
    middle = (np.array(shape[::-1]) - 1) / 2
    affine[:3, 3] = center_mm - affine[:3, :3] @ middle
    return Grid(shape, affine)


def short_axis_grid(heart: Heart, stream: Stream, *, matrix: int, pixel_mm: float, slice_mm: float) -> Grid:
    """The slices that an operator would set up for this heart.

    Args:
        heart: The heart.
        stream: Numbers for the operator's error: about 3 degrees per angle and 2.5 mm per direction.
        matrix: Rows and columns of a slice.
        pixel_mm: Pixel of a slice.
        slice_mm: Distance of slices, and their thickness.
    """
    tilt_deg = [stream.normal(0, 3, -8, 8), stream.normal(0, 3, -8, 8), stream.normal(0, 4, -10, 10)]
    shift_mm = np.array([stream.normal(0, 2.5, -7, 7) for _ in range(3)])
    axes = Rotation.from_euler("xyz", tilt_deg, degrees=True).as_matrix() @ heart.axes
    axes = axes * np.array([[1.0], [1.0], [-1.0]])  # z runs from the apex to the base
    num_heart = int(np.ceil(heart.full_length_mm / slice_mm))
    shape = (num_heart + SLICES_BEYOND_APEX + SLICES_BEYOND_BASE, matrix, matrix)
    to_middle = 0.5 * heart.full_length_mm - 0.5 * (SLICES_BEYOND_BASE - SLICES_BEYOND_APEX) * slice_mm
    center = heart.to_world(np.array([0.0, 0.0, to_middle]) + shift_mm)
    return centered_grid(shape, axes, (slice_mm, pixel_mm, pixel_mm), center)


def transaxial_grid(center_mm: np.ndarray, shape: tuple[int, int, int], pixel_mm: float) -> Grid:
    """Transaxial slices around a point: columns to the patient's left, rows to the back, slices to the head."""
    return centered_grid(shape, np.eye(3), (pixel_mm, pixel_mm, pixel_mm), center_mm)


def resample(volume: Float32[np.ndarray, "a b c"], source: Grid, target: Grid) -> Image:
    """Read a volume on another grid by linear interpolation; beyond its edge the outermost voxel goes on.

    Args:
        volume: Array (z, y, x) on ``source``.
        source: Where the volume lies.
        target: Where it is wanted.
    """
    to_source = np.linalg.inv(source.affine_lps) @ target.affine_lps
    z, y, x = np.meshgrid(*[np.arange(size, dtype=float) for size in target.shape], indexing="ij")
    index = np.stack([x, y, z], axis=-1) @ to_source[:3, :3].T + to_source[:3, 3]
    coordinates = [index[..., axis] for axis in (2, 1, 0)]
    return map_coordinates(volume, coordinates, order=1, mode="nearest", prefilter=False).astype(np.float32)
