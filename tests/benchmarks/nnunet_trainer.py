"""Train one fold of nnU-Net v2 for so many seconds and segment the fold's own held-out patients.

Run by nnU-Net's python, which knows nothing of mpi_unet: ``nnunet_trainer.py DATASET FOLD SECONDS ITERATIONS OUT``.
Everything is nnU-Net's own - plan, batch size, patch, augmentation, its worker processes, deep supervision, SGD with
Nesterov momentum 0.99, gradient clipping, mirroring when it predicts - but for two things, both in its favor. The
learning rate follows its polynomial over the budget, set anew at every iteration, instead of over 1,000 epochs. And no
time goes into its running estimate on validation patches, which chooses nothing: the last weights predict, as always.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

CHECKPOINT = "checkpoint_final.pth"


def budget_trainer(seconds: float, iterations: int) -> Any:
    """The class of a trainer that stops after so many seconds of training, or so many iterations if that is sooner."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class BudgetTrainer(nnUNetTrainer):
        """Stops by the clock."""

        def run_training(self) -> None:
            """One long epoch; the clock starts when the first batch is there, after all preparation."""
            self.on_train_start()
            self.network.train()
            self.images = self.steps = 0
            start = time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds and self.steps < iterations:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1 - elapsed / seconds) ** 0.9
                batch = next(self.dataloader_train)
                self.train_step(batch)
                self.steps += 1
                self.images += len(batch["data"])
            self.seconds_used = time.perf_counter() - start
            self.disable_checkpointing = True  # the weights that predict are those in memory
            self.on_train_end()

    return BudgetTrainer


def main() -> None:
    """Train, predict, and write what it took to OUT."""
    import torch

    dataset, fold, seconds, iterations, out = sys.argv[1:]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    base = Path(os.environ["nnUNet_preprocessed"]) / dataset  # noqa: SIM112 (nnU-Net's own name)
    plans = json.loads((base / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    content = json.loads((base / "dataset.json").read_text())
    made = budget_trainer(float(seconds), int(iterations))(
        plans=plans, configuration="2d", fold=int(fold), dataset_json=content, device=torch.device("cpu")
    )
    begin = time.perf_counter()
    made.initialize()
    made.run_training()
    trained = time.perf_counter()
    made.perform_actual_validation()
    facts = {
        "training_s": made.seconds_used,
        "start_s": trained - begin - made.seconds_used,
        "prediction_s": time.perf_counter() - trained,
        "iterations": made.steps,
        "images": made.images,
        "batch_size": made.batch_size,
        "patch": list(made.configuration_manager.patch_size),
        "parameters": sum(parameter.numel() for parameter in made.network.parameters()),
        "masks": str(Path(made.output_folder) / "validation"),
    }
    Path(out).write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
