"""How far a training is: a live line on a terminal, about five lines a fold anywhere else."""

from __future__ import annotations

import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINES_PER_FOLD = 5


class FoldProgress(Callback):
    """Tells fold, epoch, validation Dice of the LV, and the time left for all folds.

    The time left supposes that every remaining epoch takes as long as those of this process did, so early stopping
    makes it an upper bound.

    Args:
        fold: This fold, from 0.
        num_folds: Folds of the run.
        folds_left: Folds that this command still runs after this one.
        console: Where to write.
        has_bar: Whether a terminal shows a live line; there is room for one fold's only.
    """

    def __init__(self, fold: int, num_folds: int, folds_left: int, console: Console, *, has_bar: bool = True) -> None:
        self.fold, self.num_folds, self.folds_left, self.console = fold, num_folds, folds_left, console
        self.has_bar = has_bar
        self.best = 0.0
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the bar."""
        self._started, self._first_epoch = time.perf_counter(), trainer.current_epoch
        if self.has_bar and self.console.is_terminal and trainer.is_global_zero:
            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), console=self.console, transient=True)
            self._task = self._bar.add_task(f"fold {self.fold + 1} of {self.num_folds}", total=trainer.max_epochs)
            self._bar.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how the epoch went."""
        if not trainer.is_global_zero:
            return
        dice = float(trainer.callback_metrics.get("val/dice", float("nan")))
        self.best = max(self.best, dice)
        done, planned = trainer.current_epoch + 1, trainer.max_epochs or 0
        seconds = (time.perf_counter() - self._started) / (done - self._first_epoch)
        left = seconds * (planned - done + planned * self.folds_left)
        text = (
            f"fold {self.fold + 1} of {self.num_folds}  epoch {done:>3} of {planned}  "
            f"validation Dice {dice:.3f}  best {self.best:.3f}  at most {duration(left)} left"
        )
        if self._bar:
            self._bar.update(self._task, completed=done, description=text)
        elif done == planned or done % max(1, planned // LINES_PER_FOLD) == 0:
            self.console.print(text, highlight=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the bar away."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bar away."""
        self._stop()

    def _stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def duration(seconds: float) -> str:
    """Seconds as a person would say them.

    Example:
        >>> duration(42), duration(200), duration(8000)
        ('42 s', '3 min', '2.2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
