"""Speed as ratios to a baseline in the same run: ``make bench``.

A ratio above 1 means faster than its baseline. Times are CPU seconds of this process, so that a busy machine disturbs
little;
they are printed to show the scale and are asserted nowhere.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from mpi_unet.config import config_dir
from mpi_unet.evaluation.case_counts import CaseCounts
from mpi_unet.evaluation.overlap import dice, frame_counts, iou, precision, recall
from mpi_unet.learning.datamodule import FoldData, PreparedCase, Samples
from mpi_unet.learning.recipe import fold_trainer, total_stride
from mpi_unet.learning.segmenter import Segmenter
from mpi_unet.learning.transforms import composed

NUM_CASES, NUM_FRAMES, SIZE, BATCH = 16, 16, 64, 32


def seconds(task: Callable[[], object], repeats: int = 3) -> float:
    """Smallest CPU time of some repeats."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return min(times)


def recipe(*words: str) -> DictConfig:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides=["trainer=cpu", "trainer.max_epochs=1", *words])


def cases() -> list[PreparedCase]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(NUM_CASES):
        image = torch.rand(1, NUM_FRAMES, SIZE, SIZE, generator=generator)
        made.append(PreparedCase(f"P{index}", f"P{index}", image, (image > 0.9).to(torch.uint8)))
    return made


def training() -> list[tuple[str, float, float]]:
    """One epoch of the default U-Net, from the bare loop on preloaded tensors to the whole recipe."""
    config, made = recipe(), cases()
    members = [(index, frame) for index in range(NUM_CASES) for frame in range(NUM_FRAMES)]
    random = composed({name: instantiate(node, _convert_="all") for name, node in config.transforms.random.items()})

    def bare() -> None:
        network, loss = instantiate(config.model), instantiate(config.loss)
        optimizer = torch.optim.AdamW(network.parameters())
        images = torch.cat([case.image[0] for case in made])[:, None]
        labels = torch.cat([case.label[0] for case in made])[:, None].long()
        for image, label in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            optimizer.zero_grad()
            loss(network(image), label).backward()
            optimizer.step()

    def recipe_epoch(transforms: object) -> None:
        train = Samples(made, members, 2, transforms, 0)
        val = Samples(made[:1], members[:1], 2, composed({}), 0)
        segmenter = Segmenter(
            instantiate(config.model),
            instantiate(config.loss),
            instantiate(config.optimizer),
            instantiate(config.scheduler),
            num_val_cases=1,
            divisor=total_stride(config.model),
        )
        with tempfile.TemporaryDirectory() as folder:
            trainer = fold_trainer(
                lambda **more: pl.Trainer(max_epochs=1, accelerator="cpu", **more),
                Path(folder),
                callbacks={},
                loggers={},
                progress=pl.Callback(),
                seed=0,
            )
            trainer.fit(segmenter, FoldData(train, val, batch_size=BATCH, num_workers=0, seed=0))

    baseline = seconds(bare)
    return [
        ("bare loop on tensors", baseline, baseline),
        ("the recipe without augmentation", baseline, seconds(lambda: recipe_epoch(composed({})))),
        ("the recipe as it is", baseline, seconds(lambda: recipe_epoch(random))),
    ]


def scoring() -> list[tuple[str, float, float]]:
    """Four scores of 200 cases: from counts made once, against torchmetrics."""
    from torchmetrics import MetricCollection
    from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex, BinaryPrecision, BinaryRecall

    rng = np.random.default_rng(0)
    preds, target = rng.random((2, 200, NUM_FRAMES, SIZE, SIZE)) > 0.9

    def by_torchmetrics() -> None:
        metrics = MetricCollection([BinaryF1Score(), BinaryJaccardIndex(), BinaryPrecision(), BinaryRecall()])
        for one, other in zip(preds, target, strict=True):
            metrics(torch.from_numpy(one), torch.from_numpy(other))

    def by_counts() -> None:
        counts = np.stack([frame_counts(*pair).sum(0) for pair in zip(preds, target, strict=True)])
        for score in (dice, iou, precision, recall):
            score(counts)

    def by_case_counts() -> None:
        metric = CaseCounts(len(preds))
        for index, (one, other) in enumerate(zip(preds, target, strict=True)):
            where = torch.full((NUM_FRAMES,), index)
            metric.update(torch.from_numpy(one), torch.from_numpy(other), where)
        dice(metric.compute().numpy())

    baseline = seconds(by_torchmetrics)
    return [
        ("torchmetrics collection", baseline, baseline),
        ("counts with torch (CaseCounts)", baseline, seconds(by_case_counts)),
        ("counts with numpy", baseline, seconds(by_counts)),
    ]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for part in (training, scoring):
        sys.stdout.write(f"\n{part.__doc__}\n")
        for name, baseline, taken in part():
            sys.stdout.write(f"  {name:<34} {baseline / taken:7.2f} x   {taken:8.3f} CPU s\n")


if __name__ == "__main__":
    main()
