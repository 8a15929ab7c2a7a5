"""The scores of a case, from two masks.

Overlap is that of the pixel counts summed over the frames of the case, so that a slice of three pixels does not weigh
as much as one of three hundred. In a volume a distance is measured in 3-D in mm; projections have no depth, so there it
is measured in every frame, in mm of the detector, and averaged over the frames. What cannot be measured is absent:
without spacing every score in mm or ml, in projections every volume.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Shaped

from mpi_unet.errors import nearest
from mpi_unet.evaluation import boundary, overlap
from mpi_unet.evaluation.metrics import AGGREGATION, METRICS, Metric
from mpi_unet.evaluation.policy import diagonal_mm, for_mean, mean_of_defined
from mpi_unet.shapes import Mask, SpacingMm

__all__ = ["AGGREGATION", "DOMAINS", "METRICS", "Metric", "case_scores"]

DOMAINS = ("projection", "transaxial", "short_axis")
"""What an image can be; all but the first are volumes."""


def case_scores(
    preds: Shaped[np.ndarray, "z y x"],
    target: Shaped[np.ndarray, "z y x"],
    *,
    spacing_mm: SpacingMm | None,
    domain: str,
    tolerance_mm: float | None = None,
) -> dict[str, float]:
    """Score one case.

    Args:
        preds: Bool mask under test; the first axis is the frame (slice or view).
        target: Bool mask of the reader on the same grid.
        spacing_mm: Distance of neighboring voxel centers along (z, y, x); None when it is not known. For projections
            the
            first entry is no distance and is not used.
        domain: ``projection``, ``transaxial`` or ``short_axis``.
        tolerance_mm: Tolerance of the surface Dice, best the distance of a reader from himself or from others and never
            below half a voxel; None leaves ``nsd`` out.

    Returns:
        Value by metric name, in the order of :data:`METRICS`. NaN is undefined and inf infinite, as
        :mod:`mpi_unet.evaluation.policy` says. Of projections ``hd95_mm`` and ``assd_mm`` are the mean over the frames
        with LV in either mask, in which a missed or invented frame counts as the diagonal of a frame; only when no
        frame has LV in both masks they are infinite. Scores that cannot be measured are absent.

    Raises:
        TypeError: A mask is not bool.
        ValueError: The masks differ in shape, or the spacing, the domain or the tolerance is impossible.

    Example:
        >>> preds, target = np.zeros((2, 1, 12, 12), dtype=bool)
        >>> target[0, 3:8, 3:8] = preds[0, 4:9, 3:8] = True
        >>> scores = case_scores(preds, target, spacing_mm=(1.0, 4.0, 4.0), domain="projection")
        >>> scores["dice"], scores["hd95_mm"], "volume_difference_ml" in scores
        (0.8, 4.0, False)
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain is {domain!r}, expected one of {', '.join(DOMAINS)}{nearest(domain, DOMAINS)}")
    per_frame = overlap.frame_counts(preds, target)
    scores = _overlap_scores(per_frame)
    if domain != "projection":
        scores["volume_difference_pct"] = boundary.volume_difference_pct(preds, target)
    if spacing_mm is not None:
        if domain == "projection":
            scores |= _frame_distances(preds, target, spacing_mm, tolerance_mm)
        else:
            scores |= _volume_distances(preds, target, spacing_mm, tolerance_mm)
    return {name: scores[name] for name in METRICS if name in scores}


# --- Private helpers ---


def _overlap_scores(per_frame: np.ndarray) -> dict[str, float]:
    counts = per_frame.sum(axis=0)
    scores = {
        name: float(getattr(overlap, name)(counts))
        for name in ("dice", "iou", "precision", "recall", "specificity", "accuracy", "macro_dice", "macro_iou")
    }
    drawn = per_frame[:, overlap.TP] + per_frame[:, overlap.FP] > 0
    wanted = per_frame[:, overlap.TP] + per_frame[:, overlap.FN] > 0
    return scores | {
        "frame_dice": mean_of_defined(overlap.dice(per_frame)),
        "frames_missed": float(np.count_nonzero(wanted & ~drawn)),
        "frames_invented": float(np.count_nonzero(drawn & ~wanted)),
    }


def _volume_distances(preds: Mask, target: Mask, spacing_mm: SpacingMm, tolerance_mm: float | None) -> dict[str, float]:
    distances = boundary.surface_distances(preds, target, spacing_mm)
    scores = {
        "hd95_mm": boundary.hd95_mm(distances),
        "assd_mm": boundary.assd_mm(distances),
        "volume_difference_ml": boundary.volume_difference_ml(preds, target, spacing_mm),
        "false_positive_ml": boundary.volume_ml(preds & ~target, spacing_mm),
        "diagonal_mm": diagonal_mm(preds.shape, spacing_mm),
    }
    if tolerance_mm is not None:
        scores["nsd"] = boundary.nsd(distances, tolerance_mm)
    return scores


def _frame_distances(preds: Mask, target: Mask, spacing_mm: SpacingMm, tolerance_mm: float | None) -> dict[str, float]:
    frames = boundary.frame_surface_distances(preds, target, spacing_mm[1:])
    diagonal = diagonal_mm(preds.shape[1:], spacing_mm[1:])
    scores = {"diagonal_mm": diagonal}
    for name, measure in (("hd95_mm", boundary.hd95_mm), ("assd_mm", boundary.assd_mm)):
        values = np.array([measure(frame) for frame in frames], dtype=np.float64)
        missed_everywhere = np.isinf(values).any() and not np.isfinite(values).any()
        scores[name] = math.inf if missed_everywhere else mean_of_defined(for_mean(values, diagonal))
    if tolerance_mm is not None:
        scores["nsd"] = mean_of_defined(np.array([boundary.nsd(frame, tolerance_mm) for frame in frames], dtype=float))
    return scores
