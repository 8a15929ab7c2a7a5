"""Random transforms of MONAI, each on many samples at once and on any device.

An *operation* is made from a MONAI dictionary transform of the same name and takes its arguments from there; it does
to a batch what the MONAI transform does to one sample. Its *numbers* are what is random about it: for each sample
whether it is touched (``do``), and the angles, factors or seeds. They are drawn apart from being used, so that a
sample is the same in whatever batch it stands.

A maker of an operation gives None for arguments that it cannot serve; nothing is ever silently ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.networks.layers import gaussian_1d
from monai.transforms import (
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from torch import Tensor

__all__ = ["INTENSITY_AND_FLIP", "Numbers", "Operation", "between", "over_pixels"]

Numbers = dict[str, Tensor]
"""What is random about an operation: one entry a sample in each tensor, on the CPU."""


class Operation(ABC):
    """One random transform of a batch.

    Attributes:
        prob: Probability that a sample is touched.
        keys: What it changes: ``image``, ``label`` or both.
    """

    def __init__(self, transform: Any) -> None:
        self.prob: float = transform.prob
        self.keys: tuple[str, ...] = tuple(transform.keys)

    def draw(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        """Numbers of ``num_samples`` samples."""
        do = torch.from_numpy(rng.random(num_samples) < self.prob)
        return {"do": do, **self.draw_parameters(rng, num_samples)}

    @abstractmethod
    def draw_parameters(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        """Numbers beside ``do``."""

    @abstractmethod
    def apply(self, image: Tensor, label: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Transform the samples of a batch, all of them.

        Args:
            image: float32 (b, 1, ...).
            label: uint8 (b, 1, ...).
            numbers: Of these samples.
        """


def between(rng: np.random.Generator, bounds: Sequence[float], *shape: int) -> Tensor:
    """Uniform numbers, float32."""
    return torch.from_numpy(rng.uniform(bounds[0], bounds[1], shape).astype(np.float32))


def over_pixels(numbers: Tensor, image: Tensor) -> Tensor:
    """One number a sample (b,), shaped and placed to be combined with an image (b, 1, ...)."""
    return numbers.to(image.device, non_blocking=True).reshape(-1, *[1] * (image.ndim - 1))


# --- Intensities ------------------------------------------------------------------------------------------------------


class _OfImage(Operation):
    """An operation that leaves the label alone and has one number a sample, uniform between two bounds."""

    def __init__(self, transform: Any, bounds: Sequence[float]) -> None:
        super().__init__(transform)
        self.bounds = bounds

    def draw_parameters(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        return {"value": between(rng, self.bounds, num_samples)}

    def apply(self, image: Tensor, label: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        return self.changed(image, over_pixels(numbers["value"], image)), label

    @abstractmethod
    def changed(self, image: Tensor, value: Tensor) -> Tensor:
        """The image, given the number of each sample shaped like it."""


class ScaleIntensity(_OfImage):
    """``image * (1 + value)``."""

    def changed(self, image: Tensor, value: Tensor) -> Tensor:
        """Scaled image."""
        return image * (1 + value)


class ShiftIntensity(_OfImage):
    """``image + value``."""

    def changed(self, image: Tensor, value: Tensor) -> Tensor:
        """Shifted image."""
        return image + value


class AdjustContrast(_OfImage):
    """Gamma curve between each sample's own minimum and maximum, as :class:`monai.transforms.AdjustContrast`."""

    def __init__(self, transform: RandAdjustContrastd) -> None:
        super().__init__(transform, transform.adjuster.gamma)
        self.retain_stats, self.invert = transform.adjuster.retain_stats, transform.adjuster.invert_image

    def changed(self, image: Tensor, value: Tensor) -> Tensor:
        """Image with another contrast."""
        image = -image if self.invert else image
        axes = tuple(range(1, image.ndim))
        low = image.amin(axes, keepdim=True)
        span = image.amax(axes, keepdim=True) - low
        result = ((image - low) / (span + 1e-7)) ** value * span + low
        if self.retain_stats:
            spread, mean = torch.std_mean(image, axes, keepdim=True)
            new_spread, new_mean = torch.std_mean(result, axes, keepdim=True)
            result = spread * ((result - new_mean) / (new_spread + 1e-8)) + mean
        return -result if self.invert else result


class GaussianNoise(Operation):
    """Independent normal noise in every pixel, from a seed of each sample's own."""

    def __init__(self, transform: RandGaussianNoised) -> None:
        super().__init__(transform)
        noise = transform.rand_gaussian_noise
        self.mean, self.std, self.sample_std = noise.mean, noise.std, noise.sample_std

    def draw_parameters(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        """Spread and seed of the noise."""
        std = between(rng, (0.0, self.std), num_samples) if self.sample_std else torch.full((num_samples,), self.std)
        return {"std": std.float(), "seed": torch.from_numpy(rng.integers(2**63 - 1, size=num_samples))}

    def apply(self, image: Tensor, label: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Add it. The noise is drawn on the CPU, so that every device adds the same."""
        noise = torch.empty(image.shape, dtype=torch.float32)
        generator = torch.Generator()
        for row, seed in zip(noise, numbers["seed"].tolist(), strict=True):
            row.normal_(generator=generator.manual_seed(seed))
        noise = noise.mul_(over_pixels(numbers["std"], noise)).add_(self.mean)
        return image + noise.to(image.device, non_blocking=True), label


class GaussianSmooth(Operation):
    """Blur with a normal kernel of each sample's own widths."""

    def __init__(self, transform: RandGaussianSmoothd) -> None:
        super().__init__(transform)
        smooth = transform.rand_smooth
        self.sigmas, self.approx = (smooth.sigma_x, smooth.sigma_y, smooth.sigma_z), smooth.approx

    def draw_parameters(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        """Standard deviation in pixels along each axis."""
        return {"sigma": torch.stack([between(rng, bounds, num_samples) for bounds in self.sigmas], dim=1)}

    def apply(self, image: Tensor, label: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Blur along one axis after the other; beyond the border everything is zero, as in MONAI."""
        batch, dims = image.shape[0], image.ndim - 2
        convolve = torch.nn.functional.conv2d if dims == 2 else torch.nn.functional.conv3d
        result = image.transpose(0, 1)  # samples as channels: one kernel each
        for axis in range(dims):
            rows = [gaussian_1d(sigma, truncated=4.0, approx=self.approx) for sigma in numbers["sigma"][:, axis]]
            reach = max(len(row) for row in rows) // 2
            kernels = torch.stack([_centered(row, reach) for row in rows]).to(image.device, non_blocking=True)
            shape, padding = [1] * dims, [0] * dims
            shape[axis], padding[axis] = 2 * reach + 1, reach
            result = convolve(result, kernels.reshape(batch, 1, *shape), padding=padding, groups=batch)
        return result.transpose(0, 1), label


def _centered(kernel: Tensor, reach: int) -> Tensor:
    missing = reach - len(kernel) // 2
    return torch.nn.functional.pad(kernel, (missing, missing))


# --- Flips ------------------------------------------------------------------------------------------------------------


class Flip(Operation):
    """Mirror along the axes of the transform, all of them where it names none."""

    def __init__(self, transform: RandFlipd) -> None:
        super().__init__(transform)
        axes = transform.flipper.spatial_axis
        self.axes = (axes,) if isinstance(axes, int) else None if axes is None else tuple(axes)

    def draw_parameters(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        """Nothing but ``do``."""
        return {}

    def apply(self, image: Tensor, label: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Mirror."""
        dims = image.ndim - 2
        axes = [2 + (axis % dims) for axis in (range(dims) if self.axes is None else self.axes)]
        return image.flip(axes) if "image" in self.keys else image, label.flip(axes) if "label" in self.keys else label


# --- Which arguments are served ---------------------------------------------------------------------------------------


def _of_image_only(transform: Any) -> bool:
    return tuple(transform.keys) == ("image",)


def scale_operation(transform: RandScaleIntensityd) -> Operation | None:
    """The batch form of one transform, or None."""
    scaler = transform.scaler
    is_served = _of_image_only(transform) and not scaler.channel_wise and scaler.dtype in (np.float32, None)
    return ScaleIntensity(transform, scaler.factors) if is_served else None


def shift_operation(transform: RandShiftIntensityd) -> Operation | None:
    """The batch form of one transform, or None."""
    shifter = transform.shifter
    is_plain = not (shifter.channel_wise or shifter._shifter.safe or any(transform.factor_key))
    return ShiftIntensity(transform, shifter.offsets) if _of_image_only(transform) and is_plain else None


def contrast_operation(transform: RandAdjustContrastd) -> Operation | None:
    """The batch form of one transform, or None."""
    return AdjustContrast(transform) if _of_image_only(transform) else None


def noise_operation(transform: RandGaussianNoised) -> Operation | None:
    """The batch form of one transform, or None."""
    is_served = _of_image_only(transform) and transform.rand_gaussian_noise.dtype in (np.float32, None)
    return GaussianNoise(transform) if is_served else None


def smooth_operation(transform: RandGaussianSmoothd) -> Operation | None:
    """The batch form of one transform, or None."""
    return GaussianSmooth(transform) if _of_image_only(transform) else None


def flip_operation(transform: RandFlipd) -> Operation | None:
    """The batch form of one transform, or None."""
    return None if transform.lazy else Flip(transform)


INTENSITY_AND_FLIP: dict[type, Callable[[Any], Operation | None]] = {
    RandScaleIntensityd: scale_operation,
    RandShiftIntensityd: shift_operation,
    RandAdjustContrastd: contrast_operation,
    RandGaussianNoised: noise_operation,
    RandGaussianSmoothd: smooth_operation,
    RandFlipd: flip_operation,
}
"""MONAI's transform to the maker of its batch form."""
