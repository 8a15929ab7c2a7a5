"""A Lightning callback that writes down what each epoch costs, validation, logging and checkpoints included.

It is put into a training from outside, by ``+trainer.callbacks.clock``: the training itself stays what a user runs.
"""

from __future__ import annotations

import json
import os
import resource
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class Clock(Callback):
    """Writes ``path``: wall-clock and CPU seconds at the start of every epoch and at the end, and times of day.

    CPU seconds are those of this process and of children that have ended.

    Args:
        path: JSON file; further processes of a distributed training write nothing.
    """

    def __init__(self, path: str) -> None:
        self.path, self.marks = Path(path), []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark()
        if trainer.is_global_zero:
            self.path.write_text(json.dumps({"marks": self.marks, "ended": time.time(), "process": os.getpid()}))

    def _mark(self) -> None:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        self.marks.append({"wall": time.perf_counter(), "cpu": cpu, "day": time.time()})


def epoch_costs(path: Path) -> list[Any]:
    """Cost of each epoch but the first, which warms up."""
    from benchmarks.measure import Cost

    marks = json.loads(path.read_text())["marks"]
    pairs = list(pairwise(marks[1:])) or list(pairwise(marks))
    return [Cost(later["wall"] - sooner["wall"], later["cpu"] - sooner["cpu"]) for sooner, later in pairs]
