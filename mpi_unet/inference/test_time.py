"""Test-time augmentation: the network also sees an image shifted and scaled, and its answers are averaged.

No flips: the heart is lateralized, and a network that learnt hearts on the left side has nothing to say about others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

__all__ = ["averaged", "scaled", "shifted"]


def averaged(network: Callable[[Tensor], Tensor], batch: Tensor, *, shift_px: int, scale: float) -> Tensor:
    """Mean probability over the views of a batch, each brought back to the image's own grid.

    Args:
        network: Images (b, 1, ...) to probabilities (b, ...).
        batch: Images (b, 1, y, x) or (b, 1, z, y, x); rows and columns are shifted and scaled, slices are not.
        shift_px: Shifts by so many pixels, four of them; 0 for none.
        scale: Two sizes, smaller and larger by this share; 0 for none.
    """
    total, number = network(batch), 1
    for there, back in _views(shift_px, scale):
        total = total + back(network(there(batch))[:, None])[:, 0]
        number += 1
    return total / number


def shifted(images: Tensor, rows: int, columns: int) -> Tensor:
    """Images (..., y, x) moved down and to the right, their edges repeated.

    Example:
        >>> shifted(torch.tensor([[1, 2, 3]]), 0, 1).tolist(), shifted(torch.tensor([[1, 2, 3]]), 0, -1).tolist()
        ([[1, 1, 2]], [[2, 3, 3]])
    """
    height, width = images.shape[-2:]
    y = (torch.arange(height) - rows).clamp(0, height - 1)
    x = (torch.arange(width) - columns).clamp(0, width - 1)
    return images[..., y[:, None], x]


def scaled(images: Tensor, factor: float) -> Tensor:
    """Images (b, c, y, x) or (b, c, z, y, x) enlarged in the plane by a factor about their middle, edges repeated."""
    spatial_dims = images.ndim - 2
    matrix = torch.eye(spatial_dims, spatial_dims + 1, dtype=images.dtype, device=images.device)
    matrix[0, 0] = matrix[1, 1] = 1 / factor  # x and y come first here
    grid = nn.functional.affine_grid(matrix.repeat(len(images), 1, 1), list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


# --- Private helpers --------------------------------------------------------------------------------------------------

View = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _views(shift_px: int, scale: float) -> Iterator[View]:
    """Each view beside the image itself: there and back."""
    steps = [(shift_px, 0), (-shift_px, 0), (0, shift_px), (0, -shift_px)] if shift_px else []
    for rows, columns in steps:
        yield _shift(rows, columns), _shift(-rows, -columns)
    for factor in (1 - scale, 1 + scale) if scale else ():
        yield _scale(factor), _scale(1 / factor)


def _shift(rows: int, columns: int) -> Callable[[Tensor], Tensor]:
    return lambda images: shifted(images, rows, columns)


def _scale(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda images: scaled(images, factor)
