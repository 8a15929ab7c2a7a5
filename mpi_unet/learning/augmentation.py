"""The random transforms of ``conf/transforms``, applied to whole batches on the device that holds them.

What happens to a sample in an epoch depends on (seed, epoch, sample) alone: :meth:`BatchTransforms.draw` draws the
numbers of all samples of an epoch, the *plan*, and a batch takes those of its own samples. Neither the order of the
samples nor their batches, workers, devices or an interruption change what the network sees.

MONAI's transforms that have a batch form here are equal to the originals in distribution; every other dictionary
transform, and a known one with an argument that has no batch form, is applied sample by sample, which is slow and
said once in the log.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from monai.data import set_track_meta
from torch import Tensor

from mpi_unet.learning.batch_operations import INTENSITY_AND_FLIP, Numbers, Operation
from mpi_unet.learning.batch_resampling import RESAMPLING
from mpi_unet.learning.transforms import augmented

__all__ = ["BatchTransforms", "Plan", "batch_transforms"]

MAKERS = INTENSITY_AND_FLIP | RESAMPLING
STREAM = 0x41554741
"""Keeps the draws of the transforms apart from everything else that is seeded by (seed, epoch)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Every random number of one epoch, drawn before it begins.

    Attributes:
        numbers: Name of a transform to its numbers, one entry a sample in each tensor.
    """

    numbers: dict[str, Numbers]


class SampleBySample(Operation):
    """Any dictionary transform, applied to one sample after the other on the CPU."""

    def __init__(self, transform: Any) -> None:
        self.transform, self.prob, self.keys = transform, 1.0, ("image", "label")

    def draw_parameters(self, rng: np.random.Generator, num_samples: int) -> Numbers:
        """A seed for the transform's own draws; its probability is among them."""
        return {"seed": torch.from_numpy(rng.integers(2**32 - 1, size=num_samples))}

    def apply(self, image: Tensor, label: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Transform each sample."""
        done = [
            augmented(self.transform, one.cpu(), other.cpu(), seed)
            for one, other, seed in zip(image, label, numbers["seed"].tolist(), strict=True)
        ]
        images, labels = (torch.stack(part) for part in zip(*done, strict=True))
        return images.to(image), labels.to(label)


class BatchTransforms:
    """Random transforms of one mapping of ``conf/transforms``, in its order.

    Example:
        >>> from monai.transforms import RandScaleIntensityd
        >>> transforms = batch_transforms({"scale": RandScaleIntensityd(keys=["image"], prob=1.0, factors=0.5)})
        >>> plan = transforms.draw(num_samples=2, seed=1, epoch=0)
        >>> image, label = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
        >>> changed, _ = transforms(image, label, plan, torch.tensor([0, 1]))
        >>> torch.allclose(changed[:, 0, 0, 0], 1 + plan.numbers["scale"]["value"])
        True
    """

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self.operations = dict(operations)

    def __bool__(self) -> bool:
        return bool(self.operations)

    @property
    def slow(self) -> tuple[str, ...]:
        """Names of the transforms that are applied sample by sample."""
        return tuple(name for name, operation in self.operations.items() if isinstance(operation, SampleBySample))

    def draw(self, num_samples: int, seed: int, epoch: int) -> Plan:
        """The numbers of all samples of an epoch.

        Args:
            num_samples: Number of samples that a batch may name.
            seed: Of the fold.
            epoch: From 0.
        """
        numbers = {}
        for name, operation in self.operations.items():
            # by name: a transform that is taken away leaves the numbers of the others as they were
            rng = np.random.default_rng([seed, epoch, STREAM, zlib.crc32(name.encode())])
            numbers[name] = operation.draw(rng, num_samples)
        return Plan(numbers)

    def __call__(
        self,
        image: Float32[Tensor, "b 1 *grid"],
        label: UInt8[Tensor, "b 1 *grid"],
        plan: Plan,
        sample: Int64[Tensor, " b"],
    ) -> tuple[Float32[Tensor, "b 1 *grid"], UInt8[Tensor, "b 1 *grid"]]:
        """Transform a batch; what comes in stays as it is.

        Args:
            image: Intensities, on any device.
            label: Mask, on the same device.
            plan: Of this epoch.
            sample: Which sample each row is. Best on the CPU: reading it from another device waits for that device.

        Returns:
            New image and label, on the same device.
        """
        sample = sample.cpu()
        image, label = image.clone(), label.clone()
        for name, operation in self.operations.items():
            numbers = plan.numbers[name]
            rows = numbers["do"][sample].nonzero().squeeze(1)
            if not len(rows):
                continue
            own = {key: value[sample[rows]] for key, value in numbers.items()}
            if len(rows) == len(sample):
                image, label = operation.apply(image, label, own)
                continue
            where = rows.to(image.device, non_blocking=True)
            new_image, new_label = operation.apply(image[where], label[where], own)
            if "image" in operation.keys:
                image.index_copy_(0, where, new_image)
            if "label" in operation.keys:
                label.index_copy_(0, where, new_label)
        return image, label


def batch_transforms(mapping: Mapping[str, Any]) -> BatchTransforms:
    """The batch form of a mapping of names to MONAI dictionary transforms.

    Args:
        mapping: ``conf/transforms``' ``random``, each transform built; on {"image", "label"}.
    """
    set_track_meta(False)  # arrays here never leave their grid; following every affine costs more than transforming
    operations = {str(name): _operation(transform) for name, transform in mapping.items()}
    transforms = BatchTransforms(operations)
    for name in transforms.slow:
        logger.warning(
            "transforms.random.%s (%s) has no batch form, or not with these arguments: it is applied sample by sample "
            "on the CPU, about fifty times slower; loader.num_workers=4 spreads it over processes",
            name,
            type(mapping[name]).__name__,
        )
    return transforms


def _operation(transform: Any) -> Operation:
    maker = MAKERS.get(type(transform))  # the very class: what a subclass changes is not known here
    known = maker is not None and set(transform.keys) <= {"image", "label"} and not transform.allow_missing_keys
    return (maker(transform) if maker and known else None) or SampleBySample(transform)
