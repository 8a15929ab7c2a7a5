"""What a training leaves of a network: its weights, and what its config says about the sizes that it takes.

Needs no Lightning, whose import takes longer than a study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpi_unet.errors import RunError

__all__ = ["network_weights", "total_stride"]


def network_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Weights of the network in a checkpoint; only tensors and plain values are read from the file, never code.

    Raises:
        RunError: The checkpoint is missing.
    """
    if not checkpoint.is_file():
        raise RunError(
            f"{checkpoint} is missing; remove the fold's folder and give the same command again to train it anew"
        )
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("network."): value for name, value in weights.items() if name.startswith("network.")}


def total_stride(network_config: Mapping[str, Any]) -> int:
    """Number that the sides of an input must be a multiple of, from the strides or blocks of a network's config.

    Example:
        >>> total_stride({"strides": [2, 2, 2]}), total_stride({"blocks_down": [1, 2, 2, 4]}), total_stride({})
        (8, 8, 32)
    """
    strides: Sequence[int] | None = network_config.get("strides")
    if strides is not None:
        return int(np.prod(strides))
    blocks: Sequence[int] | None = network_config.get("blocks_down")
    if blocks is not None:
        return int(2 ** (len(blocks) - 1))
    return 32  # what the deepest of the usual networks need
