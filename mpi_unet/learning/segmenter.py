"""The network with its loss, its optimizer and what it reports after each epoch.

``val/dice`` is the Dice of the LV: pixel counts summed over the frames of a case, averaged over cases. It chooses the
checkpoint. A case without any LV in label and prediction is undefined and left out of that average.

Nothing here waits for the device in every step: losses stay there until an epoch ends, or until the next look whether
they are still finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor, nn

from mpi_unet.errors import TrainingError
from mpi_unet.evaluation.case_counts import CaseCounts
from mpi_unet.evaluation.overlap import dice
from mpi_unet.learning.datamodule import Batch

LOOK_EVERY = 64
"""Steps between two looks at the losses on a GPU; on a CPU a look costs nothing and is taken in every step."""


class Losses:
    """The losses of an epoch, kept on their device.

    Args:
        case_ids: Names of the cases that batches name by number.
    """

    def __init__(self, case_ids: Sequence[str] = ()) -> None:
        self.case_ids = tuple(case_ids)
        self._values: list[Tensor] = []
        self._cases: list[Tensor] = []
        self._num_seen = 0

    def add(self, loss: Tensor, batch: Batch) -> None:
        """Keep the mean loss of a batch."""
        self._values.append(loss.detach())
        self._cases.append(batch["case"])

    @property
    def is_due(self) -> bool:
        """Whether it is time to look."""
        return self._values[-1].device.type == "cpu" or len(self._values) - self._num_seen >= LOOK_EVERY

    def look(self, epoch: int) -> None:
        """Make sure that all losses since the last look are finite.

        Raises:
            TrainingError: One is not; names its batch and the cases in it.
        """
        first, self._num_seen = self._num_seen, len(self._values)
        values = torch.stack(self._values[first:]).tolist()
        for step, value in enumerate(values, start=first):
            if not math.isfinite(value):
                numbers = sorted(set(self._cases[step].tolist()))
                cases = ", ".join(self.case_ids[number] if self.case_ids else f"number {number}" for number in numbers)
                raise TrainingError(
                    f"the loss is {value} in epoch {epoch}, batch {step}, which holds cases {cases}; look at these "
                    "images, leave a case out with data.exclude=[...], or lower the learning rate "
                    "(optimizer.lr=0.0001)"
                )

    def sums(self) -> Tensor:
        """Sum over samples and number of samples, float32 (2,); the record begins anew."""
        if not self._values:
            return torch.zeros(2)
        values = torch.stack(self._values).float()
        number = torch.tensor([float(len(cases)) for cases in self._cases])
        result = torch.stack([(values * number.to(values.device, non_blocking=True)).sum(), number.sum().to(values)])
        self._values, self._cases, self._num_seen = [], [], 0
        return result


class Segmenter(pl.LightningModule):
    """A segmentation network and how it learns.

    Args:
        network: Maps (b, 1, ...) to logits (b, 2, ...).
        loss: Takes logits and a label of class indices (b, 1, ...).
        optimizer: Makes the optimizer from the parameters.
        scheduler: Makes the learning-rate schedule from the optimizer, stepped once an epoch.
        num_val_cases: Number of cases that a validation batch may name; those without a frame count as undefined.
        divisor: The network's total stride; inputs are padded to a multiple of it and outputs cut back. Training learns
            from the padding as well.
        case_ids: Names of the cases, for messages.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        num_val_cases: int,
        divisor: int,
        case_ids: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.divisor = divisor
        self.val_counts = CaseCounts(num_val_cases)
        self.train_losses, self.val_losses = Losses(case_ids), Losses(case_ids)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (b, 2, ...) on the grid of ``image`` (b, 1, ...), whatever its size."""
        logits = self.network(self._padded(image))
        return logits[(..., *(slice(length) for length in image.shape[2:]))]

    def probability(self, image: Tensor) -> Tensor:
        """Probability of LV (b, ...): the softmax stands here and in the losses, never in the network."""
        return torch.softmax(self(image).float(), dim=1)[:, 1]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch; the last step of an epoch logs the mean of all.

        Raises:
            TrainingError: A loss is not finite; on a GPU up to :data:`LOOK_EVERY` steps later.
        """
        # The padding is learned from too. Left to itself the network would mark anything along that border, and an
        # image of another size, which needs less of it, would get those marks inside.
        logits = self.network(self._padded(batch["image"]))
        loss: Tensor = self.loss(logits, self._padded(batch["label"]))
        self.train_losses.add(loss, batch)
        is_last = self._trainer is not None and self.trainer.is_last_batch
        if is_last or self.train_losses.is_due:
            self.train_losses.look(self.current_epoch)
        if is_last:
            self.log("train/loss", self._mean_over_devices(self.train_losses), on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_start(self) -> None:
        """Forget what an epoch that was broken off left behind."""
        self.train_losses.sums()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Loss and pixel counts of one batch."""
        logits = self(batch["image"])
        self.val_losses.add(self.loss(logits, batch["label"]), batch)
        preds = logits[:, 1] > logits[:, 0]  # argmax of two classes takes ten times as long on a CPU
        self.val_counts.update(preds, batch["label"].squeeze(1).bool(), batch["case"])

    def on_validation_epoch_end(self) -> None:
        """Loss and Dice of the LV over the validation cases."""
        self.log("val/loss", self._mean_over_devices(self.val_losses))
        value = dice(self.val_counts.compute().cpu().numpy())
        self.val_counts.reset()
        defined = value[value == value]
        self.log("val/dice", float(defined.mean()) if defined.size else 0.0)

    def _padded(self, batch: Tensor) -> Tensor:
        """Images or labels (b, 1, ...) whose sides are multiples of the divisor, by repeating the last values."""
        widths = [width for length in reversed(batch.shape[2:]) for width in (0, -length % self.divisor)]
        if not any(widths):
            return batch
        return nn.functional.pad(batch.float(), widths, mode="replicate").to(batch.dtype)

    def _mean_over_devices(self, losses: Losses) -> Tensor:
        """Mean over the samples of all devices; one that had none still takes part in the sum."""
        total, number = self.trainer.strategy.reduce(losses.sums().to(self.device), reduce_op="sum")
        return total / number

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer and its schedule."""
        optimizer = self.make_optimizer(self.parameters())
        schedule = LRSchedulerConfigType(scheduler=self.make_scheduler(optimizer), interval="epoch")
        return OptimizerLRSchedulerConfig(optimizer=optimizer, lr_scheduler=schedule)
