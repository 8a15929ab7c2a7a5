"""What a trained network says about a case, on the case's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from mpi_unet.errors import RunError
from mpi_unet.evaluation.overlap import accuracy, macro_dice, macro_iou
from mpi_unet.learning.segmenter import Segmenter
from mpi_unet.learning.weights import network_weights


def load_weights(segmenter: Segmenter, checkpoint: Path, device: torch.device) -> Segmenter:
    """Put the weights of a checkpoint into a segmenter and make it ready to predict on ``device``.

    Only tensors and plain values are read from the file, never code.

    Raises:
        RunError: The checkpoint is missing or belongs to another network.
    """
    own = network_weights(checkpoint)
    try:
        segmenter.network.load_state_dict(own)
    except RuntimeError as error:
        raise RunError(f"{checkpoint} holds the weights of another network: {error}") from error
    return segmenter.to(device).eval()


@torch.inference_mode()
def segment_case(
    segmenter: Segmenter, image: Tensor, frames: Sequence[int], spatial_dims: int, batch_size: int
) -> Float32[np.ndarray, "frames y x"]:
    """Probability of LV in the frames of one case.

    Args:
        segmenter: Trained, in evaluation mode.
        image: Case after the deterministic transforms, float32 (1, z, y, x).
        frames: Frames that are wanted; a 3-D network sees the whole case whatever is wanted.
        spatial_dims: 2 or 3.
        batch_size: Frames that go through a 2-D network at once.
    """
    device = segmenter.device
    if spatial_dims == 3:
        return segmenter.probability(image[None].to(device))[0].cpu().numpy()[list(frames)]
    stack = image[0, list(frames)][:, None]
    parts = [segmenter.probability(part.to(device)).cpu() for part in stack.split(batch_size)]
    return torch.cat(parts).numpy()


@torch.inference_mode()
def batchwise_scores(segmenter: Segmenter, batches: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Accuracy and macro means over background and LV, computed per batch and averaged over batches.

    This is how the seed study's code scores its validation images. The result depends on the batch size and lets
    background count as a class; it is reported only to be compared with.
    """
    rows = []
    for batch in batches:
        preds = (segmenter.probability(batch["image"].to(segmenter.device)) >= 0.5).cpu().numpy()
        target = batch["label"].squeeze(1).cpu().numpy().astype(bool)
        hit, false_alarm, miss = (preds & target).sum(), (preds & ~target).sum(), (~preds & target).sum()
        counts = np.array([hit, false_alarm, miss, target.size - hit - false_alarm - miss])
        rows.append([float(score(counts)) for score in (accuracy, macro_iou, macro_dice)])
    means = np.mean(rows, axis=0)
    return dict(zip(("accuracy", "macro_iou", "macro_dice"), map(float, means), strict=True))
