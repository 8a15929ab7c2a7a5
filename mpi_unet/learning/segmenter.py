"""The network with its loss, its optimizer and what it reports after each epoch.

``val/dice`` is the Dice of the LV: pixel counts summed over the frames of a case, averaged over cases. It chooses the
checkpoint. A case without any LV in label and prediction is undefined and left out of that average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor, nn

from mpi_unet.errors import TrainingError
from mpi_unet.evaluation.case_counts import CaseCounts
from mpi_unet.evaluation.overlap import dice


class Segmenter(pl.LightningModule):
    """A segmentation network and how it learns.

    Args:
        network: Maps (b, 1, ...) to logits (b, 2, ...).
        loss: Takes logits and a label of class indices (b, 1, ...).
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
        num_val_cases: Number of cases that a validation batch may name; those without a frame count as undefined.
        divisor: The network's total stride; inputs are padded to a multiple of it and outputs cut back.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        num_val_cases: int,
        divisor: int,
    ) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.divisor = divisor
        self.val_counts = CaseCounts(num_val_cases)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (b, 2, ...) on the grid of ``image`` (b, 1, ...), whatever its size."""
        size = image.shape[2:]
        widths = [width for length in reversed(size) for width in (0, -length % self.divisor)]
        logits = self.network(nn.functional.pad(image, widths, mode="replicate") if any(widths) else image)
        return logits[(..., *(slice(length) for length in size))]

    def probability(self, image: Tensor) -> Tensor:
        """Probability of LV (b, ...): the softmax stands here and in the losses, never in the network."""
        return torch.softmax(self(image).float(), dim=1)[:, 1]

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """Loss of one batch.

        Raises:
            TrainingError: The loss is not finite.
        """
        loss = self.loss(self(batch["image"]), batch["label"])
        if not torch.isfinite(loss):
            cases = ", ".join(sorted(set(batch["case_id"])))
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, batch {batch_index}, which holds cases "
                f"{cases}; look at these images, leave a case out with data.exclude=[...], or lower the learning rate "
                "(optimizer.lr=0.0001)"
            )
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["image"]), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Loss and pixel counts of one batch."""
        logits = self(batch["image"])
        loss = self.loss(logits, batch["label"])
        self.log("val/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["image"]), sync_dist=True)
        preds = logits.argmax(dim=1)
        self.val_counts.update(preds.bool(), batch["label"].squeeze(1).bool(), batch["case"])

    def on_validation_epoch_end(self) -> None:
        """Dice of the LV over the validation cases."""
        value = dice(self.val_counts.compute().cpu().numpy())
        self.val_counts.reset()
        defined = value[value == value]
        self.log("val/dice", float(defined.mean()) if defined.size else 0.0, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer and its schedule."""
        optimizer = self.make_optimizer(self.parameters())
        schedule = LRSchedulerConfigType(scheduler=self.make_scheduler(optimizer), interval="epoch")
        return OptimizerLRSchedulerConfig(optimizer=optimizer, lr_scheduler=schedule)
