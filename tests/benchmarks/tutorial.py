"""Our training against the same training written the way tutorials write it.

The tutorial's side: MONAI's CacheDataset (all frames cached after the deterministic transforms), dictionary transforms
sample by sample in the workers of a DataLoader, a LightningModule that logs every step, MONAI's DiceMetric on
decollated batches after each epoch, and Lightning's defaults (checkpoint, CSV log). Network, loss, optimizer, batch
size, augmentation, training and validation frames are ours. Both sides have the whole machine; wall-clock time decides.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.adapter import SIZE, train_epochs
from benchmarks.clock import Clock, epoch_costs
from benchmarks.measure import Cost, Options, Row, command, compared, median
from benchmarks.volumes import read_frames, write_rings

TITLE = "Training, end to end, against the tutorial's pipeline"


def measure(options: Options) -> list[Row]:
    """Wall-clock seconds of an epoch, in turns, with no worker and with one a core."""
    patients, frames, size, epochs, turns = (10, 4, 32, 2, 1) if options.quick else (24, 16, SIZE, 3, 2)
    cohort = write_rings(options.folder / "cohort", patients, num_frames=frames, size=size)
    workers = {"the tutorial's pipeline, 2 workers": 2, "the tutorial's pipeline, no worker": 0}
    doors = {"the door train": "false", "the door train, compiled": "true"}
    costs: dict[str, list[Cost]] = {name: [] for name in (*workers, *doors)}
    counts = (0, 0)
    for turn in range(turns):
        for name, compiled in doors.items():
            folder = options.folder / f"ours_{turn}_{compiled}"
            words = [] if compiled == "false" else ["trainer.compile=true"]
            made = train_epochs(cohort, folder, options, *words, num_epochs=epochs, threads=None)
            counts = (made.num_train, made.num_val)
            costs[name].append(made.cost)
        for name, number in workers.items():
            folder = options.folder / f"tutorial_{turn}_{number}"
            words = ["--cohort", str(cohort), "--train", str(counts[0]), "--val", str(counts[1])]
            words += ["--epochs", str(epochs), "--workers", str(number), "--accelerator", options.device]
            command([sys.executable, "-m", "benchmarks.tutorial", *words], folder, threads=None)
            costs[name].append(median(epoch_costs(folder / "clock.json")))
    middle = {
        name: Cost(statistics.median(cost.wall_s for cost in taken), statistics.median(cost.cpu_s for cost in taken))
        for name, taken in costs.items()
    }
    more = {name: {"images_per_s": counts[0] / cost.wall_s} for name, cost in middle.items()}
    return compared(middle, "wall", more)


def main() -> None:
    """The tutorial's training, as a program of its own."""
    import pytorch_lightning as pl
    import torch
    from monai.data import CacheDataset, DataLoader, decollate_batch
    from monai.metrics import DiceMetric
    from monai.transforms import (
        AsDiscrete,
        Compose,
        EnsureTyped,
        RandAdjustContrastd,
        RandAffined,
        RandGaussianNoised,
        RandScaleIntensityd,
        ScaleIntensityRangePercentilesd,
    )

    from benchmarks.training import BATCH, bare_parts

    parser = argparse.ArgumentParser()
    for name in ("--train", "--val", "--epochs", "--workers"):
        parser.add_argument(name, type=int)
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--accelerator")
    given = parser.parse_args()
    images, labels = read_frames(given.cohort)
    frames = [{"image": image[None], "label": label[None]} for image, label in zip(images, labels, strict=True)]
    fixed = [
        EnsureTyped(keys=["image", "label"]),
        ScaleIntensityRangePercentilesd(keys=["image"], lower=1, upper=99, b_min=0.0, b_max=1.0),
    ]
    random = [
        RandAffined(
            keys=["image", "label"],
            prob=0.5,
            rotate_range=0.2,
            scale_range=[0.15, 0.15],
            translate_range=[4, 4],
            mode=["bilinear", "nearest"],
            padding_mode="border",
        ),
        RandAdjustContrastd(keys=["image"], prob=0.2, gamma=(0.8, 1.25), retain_stats=True),
        RandScaleIntensityd(keys=["image"], prob=0.3, factors=0.2),
        RandGaussianNoised(keys=["image"], prob=0.2, std=0.05),
    ]
    train = CacheDataset(frames[: given.train], Compose([*fixed, *random]), cache_rate=1.0, progress=False)
    val = CacheDataset(frames[given.train : given.train + given.val], Compose(fixed), cache_rate=1.0, progress=False)

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.loss, _ = bare_parts(torch.device("cpu"))
            self.prediction = Compose([AsDiscrete(argmax=True, to_onehot=2)])
            self.target = Compose([AsDiscrete(to_onehot=2)])
            self.dice = DiceMetric(include_background=False, reduction="mean")

        def forward(self, image: Any) -> Any:
            return self.network(image)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = self.loss(self(batch["image"]), batch["label"])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            outputs = self(batch["image"])
            self.log("val_loss", self.loss(outputs, batch["label"]))
            preds = [self.prediction(one) for one in decollate_batch(outputs)]
            self.dice(y_pred=preds, y=[self.target(one) for one in decollate_batch(batch["label"])])

        def on_validation_epoch_end(self) -> None:
            self.log("val_dice", self.dice.aggregate().item())
            self.dice.reset()

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=3e-3)

    trainer = pl.Trainer(
        max_epochs=given.epochs,
        accelerator="gpu" if given.accelerator == "cuda" else given.accelerator,
        devices=1,
        callbacks=[Clock("clock.json")],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loaders = [
        DataLoader(data, batch_size=BATCH, shuffle=shuffle, num_workers=given.workers)
        for data, shuffle in ((train, True), (val, False))
    ]
    trainer.fit(Net(), *loaders)


if __name__ == "__main__":
    main()
