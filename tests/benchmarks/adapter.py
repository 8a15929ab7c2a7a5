"""How the benchmarks run a training of ours: the one place that knows the door, its keys and its files."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clock import epoch_costs
from benchmarks.measure import Cost, Finished, Options, door, median

SIZE = 64
CLOCK = "+trainer.callbacks.clock"
HOLDOUT = ["split=holdout", "split.train=0.8", "split.val=0.1", "split.test=0.1"]


@dataclass(frozen=True)
class Epochs:
    """What the epochs of a training cost.

    Attributes:
        cost: Median of an epoch but the first.
        num_train: Frames it learns from.
        num_val: Frames it looks at afterwards.
        finished: The whole command.
        fit_ended: Time of day when the training was over.
    """

    cost: Cost
    num_train: int
    num_val: int
    finished: Finished
    fit_ended: float


def train_epochs(cohort: Path, folder: Path, options: Options, *words: str, num_epochs: int, **how: Any) -> Epochs:
    """Train one holdout fold of the default recipe through the door, with a clock in it.

    Args:
        cohort: Cohort of the reader ``truth``.
        folder: New folder for the run.
        options: Device.
        words: More words for the door.
        num_epochs: At least 2: the first one is not counted.
        how: For :func:`benchmarks.measure.door`.
    """
    clock = folder / "clock.json"
    given = [
        *("data=cohort", f"data.root={cohort}", "data.reader=truth", f"trainer.max_epochs={num_epochs}"),
        *("~trainer.callbacks.early_stopping", *HOLDOUT),
        *(f"{CLOCK}._target_=benchmarks.clock.Clock", f"{CLOCK}.path={clock}"),
    ]
    trainer = [] if any(word.startswith("trainer=") for word in words) else options.trainer
    finished = door("train", [*trainer, *given, *words], folder, **how)
    facts = json.loads((folder / "runs/train/fold_0/fold.json").read_text())
    return Epochs(
        median(epoch_costs(clock)),
        facts["num_train_frames"],
        facts["num_val_frames"],
        finished,
        json.loads(clock.read_text())["ended"],
    )


def epoch_seconds_by_slope(
    cohort: Path, folder: Path, *words: str, short: int, long: int, repeats: int, **how: Any
) -> Cost:
    """Cost of an epoch as the difference of a long and a short training, whatever happens inside of them."""
    slopes = []
    for turn in range(repeats):
        costs = []
        for num_epochs in (short, long):
            given = [
                *("data=cohort", f"data.root={cohort}", "data.reader=truth", f"trainer.max_epochs={num_epochs}"),
                *("~trainer.callbacks.early_stopping", f"name=of_{num_epochs}"),
            ]
            costs.append(door("train", [*given, *words], folder / f"turn_{turn}", **how).cost)
        steps = long - short
        slopes.append(Cost((costs[1].wall_s - costs[0].wall_s) / steps, (costs[1].cpu_s - costs[0].cpu_s) / steps))
    return Cost(statistics.median(one.wall_s for one in slopes), statistics.median(one.cpu_s for one in slopes))
