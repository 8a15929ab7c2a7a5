"""Transaxial volumes turned to short-axis slices, and any volume put on another grid.

Short-axis slices run from apex to base. Columns run to the lateral wall and rows to the inferior wall, so that the
septum is on the left and the anterior wall on top, as slices are shown (Cerqueira et al. 2002, Circulation 105:539).
The affine of the result is the true one in patient space.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from scipy.ndimage import map_coordinates

from mpi_unet.cardiac.axis import HeartAxes
from mpi_unet.cardiac.rays import EDGE
from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Affine, Mask, SpacingMm

__all__ = ["on_grid", "short_axis", "short_axis_grid", "short_axis_mask"]

MARGIN_MM = 20.0
"""Beyond apex and base, as operators leave it."""


def short_axis_grid(
    axes: HeartAxes, *, spacing_mm: SpacingMm = (6.4, 3.2, 3.2), matrix: int = 64
) -> tuple[tuple[int, int, int], Affine]:
    """Shape and affine of short-axis slices from beyond the apex to beyond the base.

    Args:
        axes: The heart.
        spacing_mm: Distance of slices, rows and columns.
        matrix: Rows and columns.

    Returns:
        Shape (z, y, x) and voxel index (x, y, z) to RAS.

    Raises:
        CardiacError: A spacing or the matrix is not positive.
    """
    if min(spacing_mm) <= 0 or matrix < 1:
        raise CardiacError(f"spacing_mm is {spacing_mm} and matrix {matrix}; expected positive numbers")
    slice_mm, row_mm, column_mm = spacing_mm
    num_slices = int(np.ceil((axes.length_mm + 2 * MARGIN_MM) / slice_mm))
    lateral, inferior, apical = axes.frame
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = lateral * column_mm, inferior * row_mm, -apical * slice_mm
    middle = np.array([(matrix - 1) / 2, (matrix - 1) / 2, (num_slices - 1) / 2])
    half = (axes.base_mm + axes.apex_mm) / 2
    affine[:3, 3] = np.array(axes.center_mm) + half * apical - affine[:3, :3] @ middle
    return (num_slices, matrix, matrix), affine


def short_axis(
    image: Shaped[np.ndarray, "z y x"],
    affine_ras: Affine,
    axes: HeartAxes,
    *,
    spacing_mm: SpacingMm = (6.4, 3.2, 3.2),
    matrix: int = 64,
) -> tuple[Float32[np.ndarray, "slice row column"], Affine]:
    """Resample an image to short-axis slices, linearly; what lies outside it is 0.

    Args:
        image: Intensities (z, y, x).
        affine_ras: Its voxel index (x, y, z) to RAS.
        axes: The heart.
        spacing_mm: Distance of slices, rows and columns of the result.
        matrix: Rows and columns of the result.

    Returns:
        Intensities (slice, row, column) from apex to base, and their affine.

    Raises:
        CardiacError: As :func:`short_axis_grid`.
    """
    shape, affine = short_axis_grid(axes, spacing_mm=spacing_mm, matrix=matrix)
    return on_grid(image, affine_ras, shape, affine), affine


def short_axis_mask(
    mask: Mask,
    affine_ras: Affine,
    axes: HeartAxes,
    *,
    spacing_mm: SpacingMm = (6.4, 3.2, 3.2),
    matrix: int = 64,
) -> tuple[Bool[np.ndarray, "slice row column"], Affine]:
    """Resample a mask to short-axis slices: voxels at which it reaches one half between its own voxels."""
    values, affine = short_axis(mask, affine_ras, axes, spacing_mm=spacing_mm, matrix=matrix)
    return values >= EDGE, affine


def on_grid(
    image: Shaped[np.ndarray, "z y x"], affine_ras: Affine, shape: tuple[int, int, int], target_ras: Affine
) -> Float32[np.ndarray, "slice row column"]:
    """Resample an image to another grid, linearly; what lies outside it is 0.

    Linear weights keep counts positive and conserve them in smooth regions, but blur by up to half a voxel: measure
    uptake on the volume that was reconstructed, and keep the short axis for looking at and for networks trained on it.

    Args:
        image: Intensities (z, y, x).
        affine_ras: Its voxel index (x, y, z) to RAS.
        shape: Slices, rows and columns of the result.
        target_ras: Voxel index (x, y, z) of the result to RAS.

    Example:
        >>> image = np.arange(4.0).reshape(1, 1, 4)
        >>> shifted = np.eye(4)
        >>> shifted[0, 3] = 0.5
        >>> on_grid(image, np.eye(4), (1, 1, 3), shifted).ravel().tolist()
        [0.5, 1.5, 2.5]
    """
    to_source = np.linalg.inv(affine_ras) @ target_ras
    z, y, x = np.meshgrid(*(np.arange(size, dtype=float) for size in shape), indexing="ij")
    index = np.stack([x, y, z], axis=-1) @ to_source[:3, :3].T + to_source[:3, 3]
    coordinates = np.moveaxis(index[..., ::-1], -1, 0)
    values = map_coordinates(image.astype(np.float32), coordinates, order=1, mode="constant", cval=0.0, prefilter=False)
    return values.astype(np.float32, copy=False)
