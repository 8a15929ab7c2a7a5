"""The recipe of one fold: the trainer with its callbacks, the record of every epoch, and the seeds.

What is random in an epoch is seeded by (seed, epoch) alone; a fold that was interrupted and goes on from its last
checkpoint therefore ends with the same network as one that was not.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers.logger import DummyExperiment, Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only

from mpi_unet.errors import ConfigError
from mpi_unet.files import whole_file, write_text

EPOCH_COLUMNS = ("epoch", "train_loss", "val_loss", "val_dice", "learning_rate", "seconds")


def fold_trainer(
    make_trainer: Callable[..., pl.Trainer],
    folder: Path,
    *,
    callbacks: Mapping[str, Callback],
    loggers: Mapping[str, Logger],
    progress: Callback,
    seed: int,
) -> pl.Trainer:
    """The trainer of one fold.

    Args:
        make_trainer: ``conf/trainer`` without its callbacks.
        folder: Of the fold; ``checkpoints/best.ckpt``, ``checkpoints/last.ckpt`` and ``metrics.csv`` are kept there.
        callbacks: From ``conf/trainer``.
        loggers: From ``conf/logger``, beside the fold's own ``metrics.csv``.
        progress: What tells the user how far it is.
        seed: Of this fold.
    """
    # Lightning leaves these when Slurm interrupts it in the middle of an epoch; a fold goes on from whole epochs only,
    # or its numbers would be others
    for middle in folder.glob("hpc_ckpt_*"):
        middle.unlink(missing_ok=True)
    # torch would fill all new memory with NaN where deterministic algorithms are asked for: 5 % of the time here, and
    # of no use to operations that write before they read (mypy does not see the attribute: a property of the module)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return make_trainer(
        default_root_dir=folder,  # one folder a fold, or Lightning's cluster checkpoints of two folds meet
        callbacks=[
            *callbacks.values(),
            EpochSeeds(seed),
            Seconds(),
            RowBeforeCheckpoint(),
            StaysStopped(),
            progress,
            *best_and_last(folder / "checkpoints"),
        ],
        plugins=[WholeCheckpoints()],
        logger=[EpochRecord(folder / "metrics.csv"), *loggers.values()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,  # everything is logged once an epoch
        use_distributed_sampler=False,  # EpochSampler divides the samples itself
    )


def check_trainer(trainer: Mapping[str, Any], optimizer: Mapping[str, Any], *, has_gpu: bool) -> None:
    """Refuse what a trainer and its optimizer cannot do together, before anything is built.

    Args:
        trainer: ``conf/trainer``.
        optimizer: ``conf/optimizer``.
        has_gpu: Whether there is one.

    Raises:
        ConfigError: Half precision without a GPU, or a fused optimizer whose gradients are to be clipped in float16.
    """
    precision, accelerator = str(trainer["precision"]), str(trainer["accelerator"])
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not has_gpu)
    if on_cpu and "16" in precision:
        raise ConfigError(
            f"trainer.precision={precision} on a CPU takes twice the time of 32-true and rounds what the network says "
            "by 0.2; use trainer.precision=32-true, or a GPU (trainer=gpu)"
        )
    if precision.startswith("16") and trainer.get("gradient_clip_val") is not None and optimizer.get("fused"):
        raise ConfigError(
            f"trainer.gradient_clip_val={trainer['gradient_clip_val']} and optimizer.fused=true exclude each other in "
            f"trainer.precision={precision}: a fused optimizer takes scaled gradients; add optimizer.fused=false, or "
            "use trainer.precision=bf16-mixed"
        )


def best_and_last(folder: Path) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """Keep the checkpoint with the best validation Dice of the LV, and that of the newest epoch to go on from."""
    best = Checkpoint(
        dirpath=folder,
        filename="best",
        monitor="val/dice",
        mode="max",
        save_weights_only=True,  # nobody goes on from it, and the optimizer is two thirds of a checkpoint
        enable_version_counter=False,
    )
    last = Checkpoint(dirpath=folder, filename="last", enable_version_counter=False)
    return best, last


class Checkpoint(ModelCheckpoint):
    """A checkpoint that remembers what it kept also when the run folder has moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of a fold that goes on; Lightning would forget the best epoch under another path."""
        before, now = str(state_dict["dirpath"]), str(self.dirpath)
        kept = state_dict.get("best_k_models", {})
        super().load_state_dict(
            state_dict
            | {
                "dirpath": now,
                "best_k_models": {path.replace(before, now, 1): score for path, score in kept.items()},
                **{
                    key: str(state_dict.get(key, "")).replace(before, now, 1)
                    for key in ("best_model_path", "kth_best_model_path", "last_model_path")
                },
            }
        )


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, in the folder where it belongs."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save.

        Raises:
            RunError: There is no room.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with whole_file(path) as temporary:
            temporary.write_bytes(content.getbuffer())


class EpochSeeds(Callback):
    """Seeds every random generator anew before each epoch, from (seed, epoch)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed."""
        sequence = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
        pl.seed_everything(int(sequence.generate_state(1)[0]), verbose=False)


class StaysStopped(Callback):
    """Keeps a fold that had stopped early from training on when its run goes on."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again."""
        if any(stop.wait_count >= stop.patience for stop in trainer.early_stopping_callbacks):
            trainer.should_stop = True


class Seconds(Callback):
    """Logs the wall-clock seconds of each epoch, validation included."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        import time

        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop it."""
        import time

        pl_module.log("seconds", time.perf_counter() - self._start)


class RowBeforeCheckpoint(Callback):
    """Writes the row of an epoch before its checkpoint.

    Lightning logs an epoch after its checkpoint: a process that dies in between would go on with the next epoch and
    leave a hole in ``metrics.csv``. This way round the epoch is run again, and its row is written over.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write; Lightning calls the checkpoint callbacks after all others."""
        values = {"epoch": trainer.current_epoch, **trainer.callback_metrics}
        for record in trainer.loggers:
            if isinstance(record, EpochRecord):
                record.log_metrics(values)
                record.save()


class EpochRecord(Logger):
    """Keeps ``metrics.csv``: one row an epoch, whole after every epoch, continued when the fold goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, float]] = {}
        self._of_next_row: dict[str, float] = {}
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self.rows[int(row["epoch"])] = {key: float(value) for key, value in row.items() if value}

    @property
    def name(self) -> str:
        """Name of this logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one version."""
        return ""

    @property
    def experiment(self) -> DummyExperiment:
        """Nothing behind it."""
        return DummyExperiment()

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run folder holds the whole config already."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Add what is known of an epoch to its row; an epoch that is run again overwrites it."""
        values = {_column(key): float(value) for key, value in metrics.items()}
        if "epoch" not in values:  # the learning rate comes at the start of an epoch, without its number
            self._of_next_row |= values
            return
        self.rows.setdefault(int(values["epoch"]), {}).update(self._of_next_row | values)
        self._of_next_row = {}

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        text = io.StringIO()
        writer = csv.DictWriter(text, EPOCH_COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows[epoch] | {"epoch": epoch} for epoch in sorted(self.rows))
        write_text(self.path, text.getvalue())


def _column(key: str) -> str:
    return "learning_rate" if key.startswith("lr-") else key.replace("/", "_")
