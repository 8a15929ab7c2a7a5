"""From the cases of one fold to batches.

Images of different size in one cohort are padded to the largest with their own smallest value; where each one sits is
remembered, so that a prediction can be cut back to the image's own grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mpi_unet.learning.transforms import augmented

Batch = dict[str, Any]


@dataclass(frozen=True)
class PreparedCase:
    """One case after the deterministic transforms.

    Attributes:
        case_id: Case.
        patient_id: Patient.
        image: float32 (1, z, y, x).
        label: uint8 (1, z, y, x).
    """

    case_id: str
    patient_id: str
    image: Tensor
    label: Tensor


class Samples(Dataset):
    """The samples of some cases: every frame (2-D) or every case (3-D).

    Indexed by (epoch, sample); the epoch seeds the random transforms.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        members: Sequence[tuple[int, int]],
        spatial_dims: int,
        random: Compose,
        seed: int,
    ) -> None:
        self.cases, self.members, self.spatial_dims, self.random, self.seed = (
            cases,
            list(members),
            spatial_dims,
            random,
            seed,
        )
        axes = slice(4 - spatial_dims, 4)
        self.size = tuple(np.max([case.image.shape[axes] for case in cases], axis=0).tolist()) if cases else ()

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """Sample ``key[1]`` as epoch ``key[0]`` sees it."""
        epoch, index = key
        case_index, frame = self.members[index]
        case = self.cases[case_index]
        image, label = (
            (case.image, case.label) if self.spatial_dims == 3 else (case.image[:, frame], case.label[:, frame])
        )
        seed = np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)[0]
        image, label = augmented(self.random, image, label, int(seed))
        return {
            "image": _padded(image, self.size, float(image.min())),
            "label": _padded(label, self.size, 0.0),
            "case": case_index,
            "frame": frame,
            "case_id": case.case_id,
        }


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
        rank, world = _rank_and_world()
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_samples)
            order = np.resize(order, world * len(self))  # every device takes the same number of steps
        return iter([(self.epoch, int(index)) for index in order[rank::world]])


class FoldData(pl.LightningDataModule):
    """Training and validation samples of one fold.

    Args:
        train: Samples to learn from.
        val: Samples that choose the checkpoint.
        batch_size: Samples in one step.
        num_workers: Processes that augment; 0 = in the main process.
        seed: Of the order of samples.
    """

    def __init__(self, train: Samples, val: Samples, *, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.train, self.val, self.batch_size, self.num_workers, self.seed = train, val, batch_size, num_workers, seed

    def train_dataloader(self) -> DataLoader:
        """Shuffled, augmented samples; a last batch of one sample is dropped, since batch statistics need two."""
        drop_last = len(self.train) > self.batch_size and len(self.train) % self.batch_size == 1
        return self._loader(self.train, shuffle=True, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader:
        """Samples in their order."""
        return self._loader(self.val, shuffle=False, drop_last=False)

    def _loader(self, samples: Samples, *, shuffle: bool, drop_last: bool) -> DataLoader:
        return DataLoader(
            samples,
            batch_size=self.batch_size,
            sampler=EpochSampler(len(samples), self.seed, shuffle=shuffle),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
        )


def _padded(array: Tensor, size: Sequence[int], value: float) -> Tensor:
    """(c, ...) padded at the end of each axis to ``size``."""
    missing = [target - have for target, have in zip(size, array.shape[1:], strict=True)]
    if not any(missing):
        return array
    widths = [width for gap in reversed(missing) for width in (0, gap)]
    return torch.nn.functional.pad(array, widths, value=value)


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
