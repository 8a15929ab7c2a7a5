"""Callbacks that a user might have in a config folder of his own."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from mpi_unet.errors import TrainingError


class FailsInFoldOne(pl.Callback):
    """Stops fold 1 in its second epoch with a message for the user."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if Path(trainer.default_root_dir).name == "fold_1" and trainer.current_epoch == 1:
            raise TrainingError("fold 1 has had enough; give it a rest")


class CountsSteps(pl.Callback):
    """Writes how many steps each fold took."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Path(trainer.default_root_dir, "steps.txt").write_text(str(trainer.global_step))
