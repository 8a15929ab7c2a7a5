"""From the cases of one fold to batches.

A batch holds tensors only: ``image`` float32 (b, 1, ...) and ``label`` uint8 (b, 1, ...) on the device, augmented, and
on the CPU ``case``, ``frame`` and ``sample`` int64 (b,), which say where each row comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mpi_unet.learning.augmentation import BatchTransforms, Plan
from mpi_unet.learning.prepared import PreparedCase, PreparedCases

__all__ = ["Batch", "Batches", "EpochSampler", "FoldData", "PreparedCase", "Samples"]

Batch = dict[str, Tensor]
CPU = torch.device("cpu")


class Samples:
    """The samples of some cases: every frame (2-D) or every case (3-D).

    Args:
        cases: All cases of the run; :class:`PreparedCases` shares its arrays between folds.
        members: Case and frame of each sample, counted from 0; the frame of a 3-D sample is 0.
        spatial_dims: 2 or 3.
        random: What is random about them.
        seed: Of the fold.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        members: Sequence[tuple[int, int]],
        spatial_dims: int,
        random: BatchTransforms,
        seed: int,
    ) -> None:
        self.cases = cases if isinstance(cases, PreparedCases) else PreparedCases.of(cases, spatial_dims)
        self.members, self.spatial_dims, self.random, self.seed = list(members), spatial_dims, random, seed
        self._where = torch.tensor(self.members, dtype=torch.int64).reshape(-1, 2)
        self._rows = torch.tensor([self.cases.row(case, frame) for case, frame in self.members], dtype=torch.int64)
        self._plan: tuple[int, Plan] | None = None

    def __len__(self) -> int:
        return len(self.members)

    def any_label(self) -> bool:
        """Whether any sample shows something outlined."""
        return any(bool(self.cases.labels[row].any()) for row in self._rows.tolist())

    def plan(self, epoch: int) -> Plan:
        """What is random in an epoch; the last one asked for is kept."""
        if self._plan is None or self._plan[0] != epoch:
            self._plan = (epoch, self.random.draw(len(self), self.seed, epoch))
        return self._plan[1]

    def batch(self, epoch: int, sample: Tensor, device: torch.device = CPU) -> Batch:
        """Some samples as an epoch sees them.

        Args:
            epoch: From 0.
            sample: int64 (b,), on the CPU.
            device: Where image and label go, and where they are transformed.
        """
        image, label = self.cases.batch(self._rows[sample], device)
        if self.random:
            image, label = self.random(image, label, self.plan(epoch), sample)
        case, frame = self._where[sample].unbind(1)
        return {"image": image, "label": label, "case": case, "frame": frame, "sample": sample}


class EpochSampler(Sampler):
    """Yields (epoch, sample), shuffled anew each epoch; each device of a distributed run takes every n-th.

    Attributes:
        epoch: Set by Lightning through ``set_epoch`` before each epoch.
    """

    def __init__(self, num_samples: int, seed: int, *, shuffle: bool) -> None:
        self.num_samples, self.seed, self.shuffle, self.epoch = num_samples, seed, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        rank, world = _rank_and_world()
        return len(range(rank, self.num_samples, world)) if not self.shuffle else -(-self.num_samples // world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, int(index)) for index in self.order()])

    def order(self) -> np.ndarray:
        """The samples of this device in the order of this epoch."""
        rank, world = _rank_and_world()
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_samples)
            order = np.resize(order, world * len(self))  # every device takes the same number of steps
        return order[rank::world]


class Batches:
    """What Lightning iterates over: the batches of one epoch, gathered whole instead of sample by sample.

    Attributes:
        sampler: Order of the samples; Lightning tells it the epoch.
        batch_sampler: Lightning asks whoever has a sampler for it.
    """

    batch_sampler = None

    def __init__(
        self, samples: Samples, sampler: EpochSampler, batch_size: int, *, drop_last: bool, device: torch.device = CPU
    ) -> None:
        self.samples, self.sampler, self.batch_size = samples, sampler, batch_size
        self.drop_last, self.device = drop_last, device

    def __len__(self) -> int:
        number = len(self.sampler)
        return number // self.batch_size if self.drop_last else -(-number // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for epoch, sample in self.keys():
            yield self.samples.batch(epoch, sample, self.device)

    def keys(self) -> Iterator[tuple[int, Tensor]]:
        """Epoch and samples of each batch."""
        order = torch.from_numpy(self.sampler.order().astype(np.int64))
        return ((self.sampler.epoch, part) for part in order.split(self.batch_size)[: len(self)])


class _WholeBatches(Dataset):
    """Batches by their keys, for workers of a ``DataLoader``."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, Tensor]) -> Batch:
        return self.samples.batch(*key)


class _Keys(Sampler):
    """The keys of :class:`Batches` as the sampler of a ``DataLoader``."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        self.batches.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        return self.batches.keys()


class FoldData(pl.LightningDataModule):
    """Training and validation samples of one fold.

    Args:
        train: Samples to learn from.
        val: Samples that choose the checkpoint.
        batch_size: Samples in one step.
        num_workers: Processes that make batches; only used for transforms that are applied sample by sample, since
            everything else takes less time than handing a batch from one process to another.
        seed: Of the order of samples.
    """

    def __init__(self, train: Samples, val: Samples, *, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.train, self.val, self.batch_size, self.num_workers, self.seed = train, val, batch_size, num_workers, seed

    def train_dataloader(self) -> Batches | DataLoader:
        """Shuffled, augmented samples; a last batch of one sample is dropped, since batch statistics need two."""
        number = len(EpochSampler(len(self.train), self.seed, shuffle=True))  # of this device
        drop_last = number > self.batch_size and number % self.batch_size == 1
        return self._loader(self.train, shuffle=True, drop_last=drop_last)

    def val_dataloader(self) -> Batches | DataLoader:
        """Samples in their order."""
        return self._loader(self.val, shuffle=False, drop_last=False)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move what the network needs, where it is not there yet; reading the rest back would wait for the device."""
        return batch | {key: batch[key].to(device, non_blocking=True) for key in ("image", "label")}

    def _loader(self, samples: Samples, *, shuffle: bool, drop_last: bool) -> Batches | DataLoader:
        trainer: Any = self.trainer
        device = trainer.strategy.root_device if trainer is not None else CPU
        sampler = EpochSampler(len(samples), self.seed, shuffle=shuffle)
        batches = Batches(samples, sampler, self.batch_size, drop_last=drop_last, device=device)
        if not (self.num_workers and samples.random.slow):
            return batches
        return DataLoader(
            _WholeBatches(samples),
            batch_size=None,
            sampler=_Keys(batches),
            num_workers=self.num_workers,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
