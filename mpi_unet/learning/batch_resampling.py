"""Random transforms that move pixels: affine maps and grid distortion, on whole batches.

MONAI's sense is kept: a matrix takes a pixel of the *result* to the place in the image that it is read from, in
pixels from the center of the grid, so that a positive translation moves the picture towards lower indices and a scale
above 1 makes it smaller.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from monai.transforms import RandAffined, RandGridDistortiond
from torch import Tensor
from torch.nn import functional

from mpi_unet.learning.batch_operations import Numbers, Operation, between

__all__ = ["RESAMPLING", "affine_matrices"]

MODES, PADDING_MODES = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
"""What ``torch.nn.functional.grid_sample`` knows; MONAI's spline orders are not among them."""

Bounds = tuple[tuple[float, float], ...]


class _Resampling(Operation):
    """Reads image and label of a batch at other places, which both share."""

    def __init__(self, transform: Any) -> None:
        super().__init__(transform)
        self.mode = dict(zip(self.keys, map(str, transform.mode), strict=True))
        self.padding = dict(zip(self.keys, map(str, transform.padding_mode), strict=True))

    @property
    def is_served(self) -> bool:
        """Whether torch knows how to interpolate and pad as asked."""
        return set(self.mode.values()) <= set(MODES) and set(self.padding.values()) <= set(PADDING_MODES)

    @abstractmethod
    def grid(self, numbers: Numbers, size: Sequence[int], device: torch.device) -> Tensor:
        """Where each pixel is read from, as ``grid_sample`` wants it: (b, ..., dims), x first, in [-1, 1]."""

    def apply(self, image: Tensor, label: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Read image and label at the new places."""
        grid = self.grid(numbers, image.shape[2:], image.device)
        if "image" in self.keys:
            image = self._sampled(image, grid, "image")
        if "label" in self.keys:
            label = self._sampled(label.float(), grid, "label").round_().to(torch.uint8)
        return image, label

    def _sampled(self, array: Tensor, grid: Tensor, key: str) -> Tensor:
        return functional.grid_sample(
            array, grid, mode=self.mode[key], padding_mode=self.padding[key], align_corners=False
        )


class Affine(_Resampling):
    """Rotation, shear, translation and scale about the center of the grid."""

    def __init__(self, transform: RandAffined) -> None:
        super().__init__(transform)
        ranges = transform.rand_affine.rand_affine_grid
        self.bounds: dict[str, Bounds] = {
            "rotate": _bounds(ranges.rotate_range, 0.0),
            "shear": _bounds(ranges.shear_range, 0.0),
            "translate": _bounds(ranges.translate_range, 0.0),
            "scale": _bounds(ranges.scale_range, 1.0),
        }

    def draw_parameters(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        """Angles in rad, shear factors, translations in pixels, scale factors; as many as there are ranges."""
        return {
            name: torch.stack([between(rng, pair, num_samples) for pair in bounds], dim=1)
            for name, bounds in self.bounds.items()
            if bounds
        }

    def grid(self, numbers: Numbers, size: Sequence[int], device: torch.device) -> Tensor:
        """The affine map of every sample."""
        dims = len(size)
        drawn = {name: numbers[name].double().numpy() for name in self.bounds if name in numbers}
        matrix = affine_matrices(len(numbers["do"]), dims, **drawn)
        half, outer = np.array(size) / 2, np.maximum(size, 2) / 2  # affine_grid counts from -1 to 1, x first
        linear = (matrix[:, :dims, :dims] * half / outer[:, None])[:, ::-1, ::-1]
        theta = np.concatenate([linear, (matrix[:, :dims, dims] / outer)[:, ::-1, None]], axis=2)
        on_device = torch.from_numpy(theta.astype(np.float32)).to(device, non_blocking=True)
        return functional.affine_grid(on_device, [len(matrix), 1, *size], align_corners=False)


def affine_matrices(
    number: int,
    dims: int,
    *,
    rotate: Float64[np.ndarray, "n _"] | None = None,
    shear: Float64[np.ndarray, "n _"] | None = None,
    translate: Float64[np.ndarray, "n _"] | None = None,
    scale: Float64[np.ndarray, "n _"] | None = None,
) -> Float64[np.ndarray, "n rank rank"]:
    """Homogeneous matrices ``rotation @ shear @ translation @ scale`` of many samples, with MONAI's meaning of each.

    Args:
        number: Number of samples.
        dims: 2 or 3.
        rotate: Angles in rad: the one of the plane (2-D), or about the first, second, third axis (3-D).
        shear: Factors, applied one after the other: row 0 by column 1, ...
        translate: Pixels along each axis; axes that are not given stay.
        scale: Factors along each axis; axes that are not given stay.

    Returns:
        (n, dims + 1, dims + 1).

    Example:
        A shift by two rows, and a quarter turn.

        >>> affine_matrices(1, 2, translate=np.array([[2.0, 0.0]]))[0, :, 2]
        array([2., 0., 1.])
        >>> affine_matrices(1, 2, rotate=np.array([[np.pi / 2]]))[0].round(6)[:2, :2] + 0.0
        array([[ 0., -1.],
               [ 1.,  0.]])
    """
    result = np.tile(np.eye(dims + 1), (number, 1, 1))
    planes = [(0, 1)] if dims == 2 else [(1, 2), (2, 0), (0, 1)]
    for plane, angle in zip(planes, _columns(rotate), strict=False):
        result = result @ _turned(number, dims, plane, angle)
    sheared = np.tile(np.eye(dims + 1), (number, 1, 1))
    places = [(row, column) for row in range(dims) for column in range(dims) if row != column]
    for place, factor in zip(places, _columns(shear), strict=False):
        sheared = _with(number, dims, {place: factor}) @ sheared
    moved = _with(number, dims, {(axis, dims): shift for axis, shift in enumerate(_columns(translate)[:dims])})
    scaled = _with(number, dims, {(axis, axis): factor for axis, factor in enumerate(_columns(scale)[:dims])})
    return result @ sheared @ moved @ scaled


class GridDistortion(_Resampling):
    """Cells of the image are stretched and squeezed along each axis."""

    def __init__(self, transform: RandGridDistortiond, num_cells: int) -> None:
        super().__init__(transform)
        self.num_cells = num_cells
        self.limits = transform.rand_grid_distortion.distort_limit

    def draw_parameters(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        """How wide each cell is read, as a factor: (n, axis, cell); a 2-D network needs the first two axes."""
        return {"steps": 1.0 + between(rng, self.limits, num_samples, 3, self.num_cells + 1)}

    def grid(self, numbers: Numbers, size: Sequence[int], device: torch.device) -> Tensor:
        """One coordinate along each axis, which all lines of pixels share."""
        places = [
            (_distorted(numbers["steps"][:, axis].to(device, non_blocking=True), length) - (length - 1) / 2)
            * (2 / max(2, length))
            for axis, length in enumerate(size)
        ]
        dims = len(size)
        shapes = [[-1, *(length if axis == own else 1 for axis in range(dims))] for own, length in enumerate(size)]
        spread = [place.reshape(shape).expand(-1, *size) for place, shape in zip(places, shapes, strict=True)]
        return torch.stack(spread[::-1], dim=-1)


def _distorted(steps: Float[Tensor, "b cells"], length: int) -> Float[Tensor, "b length"]:
    """Pixel that is read for each pixel of one axis: within a cell evenly from where the last one ended."""
    num_cells = steps.shape[1] - 1
    width = length // num_cells
    result = steps.new_zeros(len(steps), length)
    end_before = steps.new_zeros(len(steps))
    for cell in range(num_cells + 1):
        start, stop = cell * width, min((cell + 1) * width, length)
        is_cut = (cell + 1) * width > length
        end = torch.full_like(end_before, length) if is_cut else end_before + width * steps[:, cell]
        part = torch.linspace(0, 1, stop - start, device=steps.device)
        result[:, start:stop] = end_before[:, None] + (end - end_before)[:, None] * part
        end_before = end
    return result


# --- Private helpers --------------------------------------------------------------------------------------------------


def _bounds(ranges: Sequence[Any], added: float) -> Bounds:
    """Bounds of uniform draws from MONAI's ranges: a pair is itself, a number stands for both signs."""
    pairs = [(one[0], one[1]) if isinstance(one, list | tuple) else (-one, one) for one in ranges if one is not None]
    return tuple((low + added, high + added) for low, high in pairs)


def _columns(numbers: Float64[np.ndarray, "n k"] | None) -> list[Float64[np.ndarray, " n"]]:
    return [] if numbers is None else list(numbers.T)


def _with(number: int, dims: int, entries: dict[tuple[int, int], Any]) -> Float64[np.ndarray, "n rank rank"]:
    """Identity matrices with some entries replaced."""
    matrix = np.tile(np.eye(dims + 1), (number, 1, 1))
    for (row, column), value in entries.items():
        matrix[:, row, column] = value
    return matrix


def _turned(
    number: int, dims: int, plane: tuple[int, int], angle: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n rank rank"]:
    one, other = plane
    cosine, sine = np.cos(angle), np.sin(angle)
    return _with(number, dims, {(one, one): cosine, (other, other): cosine, (other, one): sine, (one, other): -sine})


def affine_operation(transform: RandAffined) -> Operation | None:
    """The batch form of one transform, or None."""
    size = transform.rand_affine.spatial_size
    operation = Affine(transform)
    keeps_size = size is None or (isinstance(size, int) and size < 1)
    return operation if operation.is_served and keeps_size and not transform.lazy else None


def distortion_operation(transform: RandGridDistortiond) -> Operation | None:
    """The batch form of one transform, or None."""
    num_cells = transform.rand_grid_distortion.num_cells
    if not isinstance(num_cells, int):
        return None
    operation = GridDistortion(transform, num_cells)
    return operation if operation.is_served else None


RESAMPLING: dict[type, Callable[[Any], Operation | None]] = {
    RandAffined: affine_operation,
    RandGridDistortiond: distortion_operation,
}
"""MONAI's transform to the maker of its batch form."""
