"""Folds that learn at the same time on one device.

Each fold keeps everything of its own - trainer, data, optimizer, schedule, callbacks, loggers, checkpoints - and runs
as if it were alone; only where its network computes, forwards or backwards, it waits for the others, and the networks
of all folds compute at once (:mod:`mpi_unet.learning.stacked`). Folds also wait for each other at the end of an epoch,
so that they go on from the same epoch after an interruption.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from mpi_unet.errors import ConfigError
from mpi_unet.learning.rounds import Rounds
from mpi_unet.learning.segmenter import Segmenter
from mpi_unet.learning.stacked import REMEDY, NetworkStack

__all__ = ["FoldsTogether", "check_callbacks", "common_start"]

CHANGE_THE_NETWORK = ("ModelPruning", "StochasticWeightAveraging", "WeightAveraging", "EMAWeightAveraging")
"""Callbacks of Lightning, and those derived from them, that swap the tensors of a network while it learns."""


class Work(Enum):
    """What a fold asks for."""

    FORWARD = "forward"
    BACKWARD = "backward"
    EPOCH_END = "epoch end"


class Request(NamedTuple):
    """One thing that a fold asks for, with its images or its loss."""

    work: Work
    tensor: Tensor | None


class FoldsTogether:
    """Folds whose networks compute at once."""

    def __init__(self) -> None:
        self.stack = NetworkStack()
        self.rounds: Rounds[Request] = Rounds(self._serve)

    def run(self, tasks: Mapping[int, Callable[[], Any]]) -> dict[int, Any]:
        """Run one task a fold, each of which trains within :meth:`seat`; what they give back, or their exceptions."""
        return self.rounds.run(tasks)

    def epoch_end(self, fold: int) -> Callback:
        """What the trainer of a fold needs besides."""
        return _EpochEnd(fold, self.rounds)

    @contextmanager
    def seat(self, fold: int, segmenter: Segmenter) -> Iterator[None]:
        """Let a segmenter compute with those of the other folds; to be entered in the task of this fold."""
        network = segmenter.network
        self.stack.join(fold, network)

        def forward(image: Tensor) -> Tensor:
            order = (segmenter.current_epoch, 0 if network.training else 1)
            output: Tensor = self.rounds.ask(fold, order, Request(Work.FORWARD, image))
            return output

        def backward(loss: Tensor) -> None:
            self.rounds.ask(fold, (-1,), Request(Work.BACKWARD, loss))  # first of all: nobody else can go on before

        def on_save_checkpoint(checkpoint: dict[str, Any]) -> None:
            # a view is written to a file together with all that it is a view of
            checkpoint["state_dict"] = {name: value.clone() for name, value in checkpoint["state_dict"].items()}

        # instance attributes, so that the names in the checkpoint stay those of the network alone
        vars(network)["forward"] = forward
        vars(segmenter).update(backward=backward, on_save_checkpoint=on_save_checkpoint)
        try:
            yield
        finally:
            del vars(network)["forward"], vars(segmenter)["backward"], vars(segmenter)["on_save_checkpoint"]
            self.stack.leave(fold)

    def _serve(self, requests: dict[int, Request]) -> Mapping[int, Any]:
        work = next(iter(requests.values())).work
        tensors = {fold: request.tensor for fold, request in requests.items() if request.tensor is not None}
        if work == Work.FORWARD:
            return self.stack.forward(tensors)
        if work == Work.BACKWARD:
            self.stack.backward(tensors)
        return dict.fromkeys(requests)


class _EpochEnd(Callback):
    """Waits for the other folds before the checkpoints of an epoch, and keeps the checkpoint of the epoch before.

    A process that is killed while the folds write theirs leaves some of them an epoch behind; the others then start
    from the epoch before, too (:func:`common_start`).
    """

    def __init__(self, fold: int, rounds: Rounds[Request]) -> None:
        self.fold, self.rounds = fold, rounds

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait."""
        self.rounds.ask(self.fold, (trainer.current_epoch, 2), Request(Work.EPOCH_END, None))
        last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        if last.is_file():
            kept = last.with_name(".previous.part")
            kept.unlink(missing_ok=True)
            try:
                os.link(last, kept)  # the newest checkpoint replaces the name, not the file
            except OSError:  # a file system without second names
                shutil.copyfile(last, kept)
            kept.replace(last.with_name("previous.ckpt"))


def common_start(folders: Mapping[int, Path]) -> dict[int, Path | None]:
    """The checkpoint from which each fold goes on, so that all are at the same epoch where that is possible.

    Args:
        folders: Of the folds that are not done.

    Returns:
        ``last.ckpt`` of each fold; ``previous.ckpt`` - or None, from the beginning - for those that are one epoch ahead
        of the slowest.
    """
    newest = {fold: _epoch(folder / "checkpoints" / "last.ckpt") for fold, folder in folders.items()}
    slowest = min(newest.values(), default=-1)
    start: dict[int, Path | None] = {}
    for fold, folder in folders.items():
        last, previous = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
        start[fold] = last if newest[fold] >= 0 else None
        if newest[fold] == slowest + 1 and (slowest == -1 or _epoch(previous) == slowest):
            start[fold] = previous if slowest >= 0 else None
    return start


def check_callbacks(callbacks: Mapping[str, Callback]) -> None:
    """Refuse callbacks that exchange the tensors of a network, which a stack would not notice.

    Raises:
        ConfigError: Names them.
    """
    named = [
        f"trainer.callbacks.{name} ({type(callback).__name__})"
        for name, callback in callbacks.items()
        if {kind.__name__ for kind in type(callback).__mro__} & set(CHANGE_THE_NETWORK)
    ]
    if named:
        raise ConfigError(
            f"{', '.join(named)} exchanges the weights of a network while it learns, which does not work with "
            f"split.parallel=stacked; leave it out (~trainer.callbacks.<name>), or {REMEDY}"
        )


def _epoch(checkpoint: Path) -> int:
    """Epoch of a checkpoint; -1 when there is none."""
    if not checkpoint.is_file():
        return -1
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["epoch"])
