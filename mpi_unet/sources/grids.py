"""Whether two grids hold the same voxels, and how to go from one to the other without touching a value.

Programs write one and the same label map with its axes turned, flipped or in another order, or cut down to where
something was drawn. That is undone here, exactly. A label on other voxels - another spacing, a tilt, a shift by part of
a voxel - is refused and the difference named; nothing is resampled.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped

from mpi_unet.errors import CohortError
from mpi_unet.shapes import Affine

__all__ = ["onto_grid"]

VOXEL_TOLERANCE = 0.02
"""Voxel centers may miss each other by this part of a voxel: single-precision headers of a 500 mm field stay below."""


FAR = 1e6
"""A grid so many voxels away is another one; beyond it, numbers of single precision mean nothing."""


def onto_grid(
    values: Shaped[np.ndarray, "z y x"],
    affine: Affine,
    shape: tuple[int, int, int],
    target: Affine,
    *,
    is_cut: bool = False,
) -> Shaped[np.ndarray, "z2 y2 x2"]:
    """The same values on the voxels of another grid.

    Args:
        values: Label or image (z, y, x).
        affine: Its voxel index (x, y, z) to RAS in mm.
        shape: Shape (z, y, x) of the other grid.
        target: Its affine.
        is_cut: Whether the values may cover a part of the other grid only; the rest becomes 0. Values other than 0
            outside the other grid are refused.

    Returns:
        The values (z, y, x) on the other grid.

    Raises:
        CohortError: The grids do not have the same voxels; the text says how they differ.

    Example:
        >>> label = np.arange(8).reshape(2, 2, 2)
        >>> flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
        >>> flipped[0, 3] = 1.0
        >>> onto_grid(label[:, :, ::-1], flipped, (2, 2, 2), np.eye(4)).tolist() == label.tolist()
        True
    """
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 0):
        raise CohortError("its affine holds no place in space; expected three axes of some length")
    way = np.linalg.inv(target) @ affine  # voxel of the label (x, y, z) to voxel of the grid
    turn = np.round(way[:3, :3])
    extent = np.array(values.shape[::-1])
    corners = np.array(np.meshgrid(*[(0, max(size - 1, 1)) for size in extent])).reshape(3, -1)
    is_near = bool(np.abs(way).max() < FAR)
    is_turn = (
        is_near
        and np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1])
        and np.array_equal(np.abs(turn).sum(axis=1), [1] * 3)
    )
    shift = np.round(way[:3, 3])
    off = np.abs((way[:3, :3] - turn) @ corners + (way[:3, 3] - shift)[:, None]).max() if is_turn else np.inf
    if not off <= VOXEL_TOLERANCE:
        raise CohortError(_difference(values.shape, affine, shape, target))
    order = np.abs(turn).argmax(axis=1)  # axis of the label that becomes each axis of the grid
    signs = turn[range(3), order]
    turned = values.transpose([2 - axis for axis in order[::-1]])
    turned = turned[tuple(slice(None, None, int(sign)) for sign in signs[::-1])]
    first = np.array([shift[axis] + min(0.0, signs[axis] * (extent[order[axis]] - 1)) for axis in range(3)])
    start = first[::-1].astype(int)
    if turned.shape == shape and not start.any():
        return np.ascontiguousarray(turned)
    if not is_cut:
        raise CohortError(_difference(values.shape, affine, shape, target))
    low, high = np.maximum(start, 0), np.minimum(start + turned.shape, shape)
    result = np.zeros(shape, dtype=values.dtype)
    if (high > low).all():
        place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        inner = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        result[place] = turned[inner]
    outside = int(np.count_nonzero(turned)) - int(np.count_nonzero(result))
    if outside:
        raise CohortError(f"{outside} of its voxels lie outside the image; expected an outline within the image")
    return result


# --- Private helpers --------------------------------------------------------------------------------------------------


def _difference(shape: tuple[int, ...], affine: Affine, wanted: tuple[int, ...], target: Affine) -> str:
    """How two grids differ, the plainest difference alone."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0), np.linalg.norm(target[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes[0], target[:3, :3] / sizes[1]
    remedy = "outline on this image, or save the outline on the grid of the image; nothing is resampled here"
    cosines = np.abs(directions[1].T @ directions[0])
    order = cosines.argmax(axis=1)
    if sorted(order) != [0, 1, 2] or cosines[range(3), order].min() < 1 - 1e-4:
        tilt = np.degrees(np.arccos(np.clip(cosines[range(3), order].min(), -1, 1)))
        return f"its axes are tilted by {tilt:.2f} degrees against those of the image; {remedy}"
    along = sizes[0][order]
    if not np.allclose(along, sizes[1], rtol=1e-3, atol=0):
        return f"its spacing is {_numbers(along[::-1])} mm, that of the image {_numbers(sizes[1][::-1])} mm; {remedy}"
    counts = tuple(int(size) for size in np.array(shape[::-1])[order][::-1])
    if counts != tuple(wanted):
        return f"it is {_counts(counts)}, the image {_counts(wanted)} (z, y, x) voxels; {remedy}"
    middles = [
        (matrix @ [*((np.array(size[::-1]) - 1) / 2), 1])[:3] for matrix, size in ((affine, shape), (target, wanted))
    ]
    offset = middles[0] - middles[1]
    place = ", ".join(f"{round(float(value), 3) + 0.0:g}" for value in offset)
    return f"it lies {np.linalg.norm(offset):.3g} mm off the image ({place} mm right, front, head); {remedy}"


def _numbers(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _counts(values: tuple[int, ...]) -> str:
    return "x".join(str(value) for value in values)
