"""Our scores against those of torchmetrics, MONAI and surface-distance on the same masks."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.measure import Options, Row, compared, in_turns, timed

TITLE = "Evaluation: overlap, and surface distances in mm"
SIZE, NUM_FRAMES = 64, 16
SPACING_MM, TOLERANCE_MM = (6.4, 3.2, 3.2), 3.2


def measure(options: Options) -> list[Row]:
    """Overlap of 200 cases, then HD95, ASSD and NSD of 20 volumes."""
    return [*_overlap(8 if options.quick else 200, options), *_surfaces(2 if options.quick else 20, options)]


def _overlap(number: int, options: Options) -> list[Row]:
    from torchmetrics import MetricCollection
    from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex, BinaryPrecision, BinaryRecall

    from mpi_unet.evaluation.case_counts import CaseCounts
    from mpi_unet.evaluation.overlap import dice, frame_counts, iou, precision, recall

    rng = np.random.default_rng(0)
    preds, target = rng.random((2, number, NUM_FRAMES, SIZE, SIZE)) > 0.9

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
            metric.update(torch.from_numpy(one), torch.from_numpy(other), torch.full((NUM_FRAMES,), index))
        dice(metric.compute().numpy())

    tasks = {
        "overlap: torchmetrics collection": by_torchmetrics,
        "overlap: counts with torch, during training": by_case_counts,
        "overlap: counts with numpy, afterwards": by_counts,
    }
    return compared(in_turns({name: partial(timed, task) for name, task in tasks.items()}, 3), "CPU")


def _surfaces(number: int, options: Options) -> list[Row]:
    import surface_distance
    from monai.metrics import HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric

    from mpi_unet.evaluation.pairwise import score_pairs

    pairs = [outlines(seed) for seed in range(number)]

    def by_monai() -> None:
        metrics = (
            HausdorffDistanceMetric(percentile=95),
            SurfaceDistanceMetric(symmetric=True),
            SurfaceDiceMetric([TOLERANCE_MM]),
        )
        for one, other in pairs:
            masks = [torch.from_numpy(mask)[None, None].float() for mask in (one, other)]
            for metric in metrics:
                metric(*masks, spacing=list(SPACING_MM))

    def by_surface_distance() -> None:
        for one, other in pairs:
            distances = surface_distance.compute_surface_distances(one, other, SPACING_MM)
            surface_distance.compute_robust_hausdorff(distances, 95)
            surface_distance.compute_average_surface_distance(distances)
            surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)

    def by_pairs() -> None:
        for one, other in pairs:
            scored = score_pairs({"A": one, "B": other}, spacing_mm=SPACING_MM, domain="short_axis")
            scored["A", "B"].at_tolerance(TOLERANCE_MM)

    tasks = {
        "surfaces: MONAI": by_monai,
        "surfaces: surface-distance": by_surface_distance,
        "surfaces: all scores of a pair (score_pairs)": by_pairs,
    }
    return compared(in_turns({name: partial(timed, task) for name, task in tasks.items()}, 3), "CPU")


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
