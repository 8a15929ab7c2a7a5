"""How alike two frames are, whatever was done to a copy on its way: scaling, shift, other matrix, 8 bit, smoothing.

Likeness is a correlation of *details*. A frame of any size is averaged onto one grid and blurred twice; the
difference of the two blurs leaves out what all people share (the outline of the body, the mean) as well as single
pixels, which a copy need not keep. *Coarse* details find candidates among thousands of frames by one matrix product.
*Fine* details decide: they are the blobs that counting noise and reconstruction leave behind, which are the same in a
copy and others in every acquisition, even of the same heart.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float16, Float32, Float64, Int

from mpi_unet.shapes import Image

__all__ = ["aligned_correlation", "coarse_details", "fine_details"]

COARSE_GRID, COARSE_CELLS = 32, (1.0, 4.0)
"""Cells along each axis, and the standard deviations of the two blurs in cells, to find candidates."""

FINE_GRID, FINE_CELLS = 64, (1.0, 2.0)
"""The same to decide; 64 is the matrix of most SPECT studies, so that a cell is a pixel."""

MAX_SHIFT_CELLS = 2
"""A copy may be shifted by so many cells of the fine grid along each axis."""

FLAT = 1e-4
"""A frame whose details have a root mean square below this part of its largest intensity has none to be compared."""

PAIRS_AT_ONCE = 64
"""Pairs that are aligned together; their details fit into a cache of a few MB."""


def coarse_details(image: Image) -> Float32[np.ndarray, "z cells"]:
    """Coarse details of every frame at unit length, so that the product of two rows is their correlation.

    Returns:
        One row a frame; zeros for a frame without detail.
    """
    return _details(image, COARSE_GRID, COARSE_CELLS).reshape(len(image), -1).astype(np.float32)


def fine_details(image: Image) -> Float16[np.ndarray, "z row column"]:
    """Fine details of every frame, in half precision, which keeps correlations to three decimals.

    Returns:
        Details with a root mean square of 1; zeros for a frame without detail.
    """
    return (_details(image, FINE_GRID, FINE_CELLS) * FINE_GRID).astype(np.float16)


def aligned_correlation(
    details: Float16[np.ndarray, "n row column"], first: Int[np.ndarray, " pairs"], second: Int[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """Correlation of pairs of frames at the best shift of up to :data:`MAX_SHIFT_CELLS` along each axis.

    Args:
        details: Fine details of all frames.
        first: Numbers of the first frames.
        second: Numbers of the second frames.

    Returns:
        The largest correlation over all shifts, on the part where the shifted frames overlap.
    """
    best = np.full(len(first), -1.0)
    shifts = range(-MAX_SHIFT_CELLS, MAX_SHIFT_CELLS + 1)
    for start in range(0, len(first), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        one, other = details[first[part]].astype(np.float32), details[second[part]].astype(np.float32)
        for down in shifts:
            for right in shifts:
                value = _correlation(one[:, _rows(down), _rows(right)], other[:, _rows(-down), _rows(-right)])
                np.maximum(best[part], value, out=best[part])
    return best


# --- Private helpers --------------------------------------------------------------------------------------------------


def _details(image: Image, grid: int, cells: tuple[float, float]) -> Float64[np.ndarray, "z row column"]:
    """Difference of two blurs on a grid, without mean and at unit length."""
    fine_y, coarse_y = _blurs_onto_grid(image.shape[1], grid, cells)
    fine_x, coarse_x = _blurs_onto_grid(image.shape[2], grid, cells)
    frames = image.astype(np.float64)
    details = fine_y @ frames @ fine_x.T - coarse_y @ frames @ coarse_x.T
    details -= details.mean(axis=(1, 2), keepdims=True)
    length = np.linalg.norm(details, axis=(1, 2), keepdims=True)
    largest = np.abs(frames).max(axis=(1, 2), keepdims=True, initial=0.0)
    has_detail = length > FLAT * largest * grid
    return details * has_detail / np.where(has_detail, length, 1.0)


@lru_cache(maxsize=64)
def _blurs_onto_grid(
    length: int, grid: int, cells: tuple[float, float]
) -> tuple[Float64[np.ndarray, "grid length"], ...]:
    """Matrices that average an axis of ``length`` pixels onto the grid and then blur it."""
    edges = np.linspace(0, length, grid + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    average = np.clip(overlap, 0, None) * grid / length
    distance = np.subtract.outer(np.arange(grid), np.arange(grid))
    blurs = (np.exp(-0.5 * (distance / width) ** 2) for width in cells)
    return tuple(weights / weights.sum(axis=1, keepdims=True) @ average for weights in blurs)


def _rows(shift: int) -> slice:
    """The rows that still lie on the grid after a shift."""
    return slice(max(shift, 0), FINE_GRID + min(shift, 0))


def _correlation(
    one: Float[np.ndarray, "n row column"], other: Float[np.ndarray, "n row column"]
) -> Float64[np.ndarray, " n"]:
    power = np.einsum("nij,nij->n", one, one) * np.einsum("nij,nij->n", other, other)
    product = np.einsum("nij,nij->n", one, other)
    return np.asarray(product / np.sqrt(np.maximum(power, 1e-12)), dtype=np.float64)
