"""The transforms of ``conf/transforms``, mappings of names to MONAI dictionary transforms, on one case or sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    Randomizable,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
    ScaleIntensityRangePercentilesd,
)
from torch import Tensor

from mpi_unet.errors import ConfigError
from mpi_unet.shapes import Image, Mask

LARGEST_QUANTILE = 1_000_000
"""Values up to which MONAI asks torch for percentiles; of more it asks numpy, which rounds otherwise."""


def composed(transforms: Mapping[str, Any]) -> Compose:
    """The transforms of one mapping, in its order.

    Metadata tracking is switched off for the process: arrays here never leave their grid, and following every array's
    affine costs more than transforming it. Percentiles are computed faster than MONAI does, to the same bit.
    """
    set_track_meta(False)
    for transform in transforms.values():
        if isinstance(transform, ScaleIntensityRangePercentilesd):
            transform.scaler = QuickPercentiles.of(transform.scaler)
    return Compose(list(transforms.values()))


class QuickPercentiles(ScaleIntensityRangePercentiles):
    """MONAI's normalization with percentiles from a partition: torch sorts all voxels, once for each of the two.

    That was a fifth of what a study costs beside the network. Values are those of ``torch.quantile``, to the last bit.
    """

    @classmethod
    def of(cls, scaler: ScaleIntensityRangePercentiles) -> ScaleIntensityRangePercentiles:
        """The same normalization, quick where it is the plain one; MONAI's own with its less usual options."""
        if scaler.relative or scaler.channel_wise:
            return scaler
        return cls(scaler.lower, scaler.upper, scaler.b_min, scaler.b_max, scaler.clip, dtype=scaler.dtype)

    def _normalize(self, img: Any) -> Any:
        if img.dtype != torch.float32 or img.numel() > LARGEST_QUANTILE or not torch.isfinite(img).all():
            return super()._normalize(img)
        a_min, a_max = quantiles(img, (self.lower / 100, self.upper / 100))
        return ScaleIntensityRange(a_min, a_max, self.b_min, self.b_max, self.clip, self.dtype)(img)


def quantiles(values: Tensor, shares: Sequence[float]) -> Tensor:
    """Quantiles of finite values, bit by bit those of ``torch.quantile``, without sorting.

    Args:
        values: float32, any shape.
        shares: Of the values that lie below, from 0 to 1.

    Example:
        >>> quantiles(torch.tensor([5.0, 1.0, 3.0]), [0.25, 1.0])
        tensor([2., 5.])
    """
    flat = values.reshape(-1)
    rank = torch.tensor(shares, dtype=flat.dtype) * (len(flat) - 1)
    below, above = rank.long(), rank.ceil().long()
    placed = torch.from_numpy(np.partition(flat.numpy(), torch.cat([below, above]).tolist()))
    return torch.lerp(placed[below], placed[above], rank - below)


def prepared_case(deterministic: Compose, image: Image, label: Mask | None, case_id: str) -> tuple[Tensor, Tensor]:
    """One case after the deterministic transforms.

    Args:
        deterministic: Transforms on {"image": (1, z, y, x), "label": (1, z, y, x)}.
        image: Intensities (z, y, x).
        label: Reader's mask on the same grid; None when the case is only to be segmented.
        case_id: For the messages.

    Returns:
        Image float32 (1, z, y, x) and label uint8 (1, z, y, x), on the grid that came in.

    Raises:
        ConfigError: A transform changed the grid, or left values that are not finite.
    """
    blank = np.zeros(image.shape, dtype=bool)
    sample = {
        "image": torch.from_numpy(np.ascontiguousarray(image))[None],
        "label": torch.from_numpy(np.ascontiguousarray(blank if label is None else label)).to(torch.uint8)[None],
    }
    result = deterministic(sample)
    if result["image"].shape != sample["image"].shape or result["label"].shape != sample["label"].shape:
        raise ConfigError(
            f"transforms.deterministic turns case {case_id} of shape {tuple(image.shape)} into "
            f"{tuple(result['image'].shape[1:])}; predictions are written on the image's own grid, so deterministic "
            "transforms must keep it (resample when the cohort is prepared)"
        )
    prepared = torch.as_tensor(result["image"], dtype=torch.float32)
    if not torch.isfinite(prepared).all():
        raise ConfigError(
            f"transforms.deterministic gives values that are not finite for case {case_id}, whose intensities reach "
            f"from {image.min():g} to {image.max():g}; leave the case out with data.exclude=[{case_id}] or change the "
            "transforms"
        )
    return prepared, torch.as_tensor(result["label"], dtype=torch.uint8)


def augmented(transform: Any, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """One sample after one random transform of MONAI, always the same for the same seed.

    Args:
        transform: On {"image", "label"}.
        image: float32 (1, y, x) or (1, z, y, x).
        label: uint8, same shape.
        seed: 32-bit seed of this sample in this epoch.
    """
    if isinstance(transform, Randomizable):
        transform.set_random_state(seed=seed)
    result = transform({"image": image, "label": label.to(torch.float32)})
    return torch.as_tensor(result["image"]), torch.as_tensor(result["label"]).round().to(torch.uint8)
