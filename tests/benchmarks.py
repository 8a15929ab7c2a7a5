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
from functools import partial
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
from mpi_unet.evaluation.pairwise import score_pairs
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


def agreement() -> list[tuple[str, float, float]]:
    """1,000 patients, 5 readers, 10,000 resamples: the whole panel, against scipy's bootstrap of its mean alone."""
    from scipy import stats

    from mpi_unet.agreement import pairs_matrix, panel
    from mpi_unet.evaluation.intervals import bootstrap_t_interval

    rng = np.random.default_rng(0)
    network, pairs = rng.uniform(0.8, 1, (1000, 5)), pairs_matrix(rng.uniform(0.8, 1, (1000, 10)))
    d = np.array(panel(network, pairs, list("ABCDE"), resamples=10).d)
    options = {"n_resamples": 10_000, "method": "percentile", "batch": 1000}
    baseline = seconds(lambda: stats.bootstrap((d,), np.mean, rng=np.random.default_rng(0), **options))
    return [
        ("scipy percentile bootstrap of Delta", baseline, baseline),
        ("bootstrap-t of Delta", baseline, seconds(lambda: bootstrap_t_interval(d, seed=0))),
        ("panel, everything", baseline, seconds(lambda: panel(network, pairs, list("ABCDE"), margin=0.02))),
    ]


def surfaces(full: bool = False) -> list[tuple[str, float, float]]:
    """HD95, ASSD and NSD of one pair of outlines a case, 40 slices: 20 cases, or 900 with --full; against MONAI's."""
    import surface_distance
    from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric

    spacing_mm, tolerance_mm = (6.4, 3.2, 3.2), 3.2
    pairs = [outlines(seed) for seed in range(900 if full else 20)]

    def by_monai() -> None:
        metrics = (
            HausdorffDistanceMetric(percentile=95),
            SurfaceDistanceMetric(symmetric=True),
            SurfaceDiceMetric([tolerance_mm]),
        )
        for one, other in pairs:
            masks = [torch.from_numpy(mask)[None, None].float() for mask in (one, other)]
            for metric in metrics:
                metric(*masks, spacing=list(spacing_mm))

    def by_surface_distance() -> None:
        for one, other in pairs:
            distances = surface_distance.compute_surface_distances(one, other, spacing_mm)
            surface_distance.compute_robust_hausdorff(distances, 95)
            surface_distance.compute_average_surface_distance(distances)
            surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm)

    def by_pairs() -> None:
        for one, other in pairs:
            masks = {"A": one, "B": other}
            score_pairs(masks, spacing_mm=spacing_mm, domain="short_axis")["A", "B"].at_tolerance(tolerance_mm)

    repeats = 1 if full else 3
    baseline = seconds(by_monai, repeats)
    return [
        ("MONAI", baseline, baseline),
        ("surface-distance", baseline, seconds(by_surface_distance, repeats)),
        ("all scores of a pair (score_pairs)", baseline, seconds(by_pairs, repeats)),
    ]


def outlines(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two outlines of one ventricle wall in 40 slices of 64 x 64."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:40, :SIZE, :SIZE]
    masks = []
    for _ in range(2):
        center, radius = rng.normal((20, 32, 32), 0.7), rng.uniform(13, 15)
        distance = np.sqrt((0.9 * (z - center[0])) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2)
        masks.append((distance < radius) & (distance > radius - 4) & (z > 12))
    return masks[0], masks[1]


def main() -> None:
    """Measure and print; --full takes 900 cases where that is worth the time."""
    torch.set_num_threads(1)
    for part in (training, scoring, agreement, partial(surfaces, "--full" in sys.argv)):
        sys.stdout.write(f"\n{(part.func if isinstance(part, partial) else part).__doc__}\n")
        for name, baseline, taken in part():
            sys.stdout.write(f"  {name:<34} {baseline / taken:7.2f} x   {taken:8.3f} CPU s\n")


if __name__ == "__main__":
    main()
