"""Scores of every pair of outlines of a case: network with reader, reader with reader.

The boundary of each outline is found once and measured against all others, on the box that holds them all, and cases
are scored side by side on all cores. The surface Dice waits for its tolerance: the tolerance is taken from how far
readers lie apart, which is known only when all cases have been scored, so a pair keeps the distribution of its surface
distances (:class:`Pair`).
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from mpi_unet.cohort.nifti import read_image, read_mask
from mpi_unet.errors import CohortError, RunError
from mpi_unet.evaluation import boundary, overlap
from mpi_unet.evaluation.boundary import TOLERANCE_SLACK_MM, SurfaceDistances
from mpi_unet.evaluation.policy import diagonal_mm, for_mean, mean_of_defined
from mpi_unet.processes import num_processes, one_thread_each, worker_ends_with_parent
from mpi_unet.shapes import Mask, SpacingMm

__all__ = ["CaseOutlines", "CasePairs", "Pair", "score_cases", "score_pairs", "side_by_side"]

PAIR_METRICS = (
    "dice",
    "iou",
    "precision",
    "recall",
    "frame_dice",
    "hd95_mm",
    "assd_mm",
    "nsd",
    "volume_difference_ml",
    "volume_difference_pct",
    "diagonal_mm",
)
"""What two outlines are compared by, in the order of the tables."""

FEW_CASES = 100
"""Fewer cases are scored in this process; starting others takes longer."""


@dataclass(frozen=True)
class CaseOutlines:
    """The mask files of one case.

    Attributes:
        case_id: The case.
        patient_id: The patient.
        files: Mask file by name.
        spacing_mm: Distance of neighboring voxel centers along (z, y, x); None where it is not known.
        pairs: Which pairs of names are compared; None for all.
        thresholds: By name, where the file holds probabilities: from which one on a voxel is inside.
    """

    case_id: str
    patient_id: str
    files: dict[str, Path]
    spacing_mm: SpacingMm | None
    pairs: tuple[tuple[str, str], ...] | None = None
    thresholds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Scores of one outline (``preds``) against another (``target``) without the surface Dice, and what that needs.

    Attributes:
        scores: Value by metric name, NaN undefined and inf infinite (:func:`~mpi_unet.evaluation.scores.case_scores`).
        distances_mm: Distinct distances between the two boundaries, both directions together, rising.
        shares: Share of the boundaries at each of these distances; of projections averaged over the frames with LV in
            either mask. None where distances were not measured.
    """

    scores: dict[str, float]
    distances_mm: Float[np.ndarray, " distances"] | None = None
    shares: Float[np.ndarray, " distances"] | None = None

    def at_tolerance(self, tolerance_mm: float | None) -> dict[str, float]:
        """The scores, the surface Dice at this tolerance among them; it is absent without a tolerance or distances."""
        scores = dict(self.scores)
        if tolerance_mm is not None and self.distances_mm is not None and self.shares is not None:
            within = self.distances_mm <= tolerance_mm + TOLERANCE_SLACK_MM
            scores["nsd"] = float(self.shares[within].sum()) if self.shares.size else math.nan
        return {name: scores[name] for name in PAIR_METRICS if name in scores}


@dataclass(frozen=True)
class CasePairs:
    """The pairs of one case: ``pairs[preds, target]``.

    ``volumes_ml`` has the volume of every outline, ``areas_mm2`` of projections the area of every outline, mean over
    all views; each is empty where it cannot be measured. ``problems`` says of each file that cannot be used why, and
    such a case has no pairs.
    """

    case_id: str
    patient_id: str
    num_frames: int
    pairs: dict[tuple[str, str], Pair]
    volumes_ml: dict[str, float]
    problems: tuple[str, ...] = ()
    areas_mm2: dict[str, float] = field(default_factory=dict)


def score_pairs(
    masks: Mapping[str, Bool[np.ndarray, "_ _ _"]],
    *,
    spacing_mm: SpacingMm | None,
    domain: str,
    wanted: Sequence[tuple[str, str]] | None = None,
) -> dict[tuple[str, str], Pair]:
    """Score every pair of outlines of one case.

    Args:
        masks: Bool mask (z, y, x) by name, all on one grid.
        spacing_mm: Distance of neighboring voxel centers along (z, y, x); None when it is not known. Of projections
            the first entry is no distance and is not used.
        domain: ``projection``, ``transaxial`` or ``short_axis``.
        wanted: The pairs (preds, target); None for every pair of names once, in the order of ``masks``.

    Returns:
        By pair of names. The scores are those of :func:`mpi_unet.evaluation.scores.case_scores`.

    Raises:
        ValueError: The masks differ in shape, or the spacing is impossible.

    Example:
        >>> masks = {name: np.zeros((1, 4, 4), dtype=bool) for name in "AB"}
        >>> masks["A"][0, 1, :2] = masks["B"][0, 1, 1:3] = True
        >>> pair = score_pairs(masks, spacing_mm=(6.0, 3.0, 3.0), domain="short_axis")["A", "B"]
        >>> scores = pair.at_tolerance(0.0)
        >>> scores["dice"], scores["assd_mm"], scores["nsd"]
        (0.5, 1.5, 0.5)
    """
    shapes = {name: mask.shape for name, mask in masks.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"masks differ in shape: {shapes}, expected one grid; resample none of them, find out why")
    if not masks:
        return {}
    shape = next(iter(shapes.values()))
    is_projection = domain == "projection"
    boxed = _boxed(masks)
    surfaces = {}
    if spacing_mm is not None:
        surfaces = {
            name: boundary.surfaces(mask, spacing_mm[1:])
            if is_projection
            else boundary.surfaces(mask[None], spacing_mm)
            for name, mask in boxed.items()
        }
    pairs = {}
    for one, other in combinations(masks, 2) if wanted is None else wanted:
        scores = _overlap_scores(boxed[one], boxed[other], is_projection, spacing_mm)
        if spacing_mm is None:
            pairs[one, other] = Pair(scores)
            continue
        diagonal = diagonal_mm(shape[1:], spacing_mm[1:]) if is_projection else diagonal_mm(shape, spacing_mm)
        frames = boundary.distances_between(surfaces[one], surfaces[other])
        scores |= {"diagonal_mm": diagonal, **_distance_scores(frames, diagonal)}
        pairs[one, other] = Pair(scores, *_distribution(frames))
    return pairs


def score_cases(cases: Sequence[CaseOutlines], *, domain: str, num_workers: int | None = None) -> Iterator[CasePairs]:
    """Read and score the outlines of many cases, side by side on all cores.

    Args:
        cases: The cases.
        domain: As for :func:`score_pairs`.
        num_workers: Processes; by default one per core, and none for a few cases. 1 stays in this process.

    Yields:
        The pairs of each case, in the order given.

    Raises:
        RunError: A worker process was ended by the system.
    """
    yield from side_by_side(_score_case, cases, domain, num_workers=num_workers)


Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    task: Callable[[Item, Any], Result], items: Sequence[Item], shared: Any, *, num_workers: int | None = None
) -> Iterator[Result]:
    """Apply a function of a module to many cases on all cores; results come in the order of the cases.

    Args:
        task: Called with a case and with ``shared``; both have to survive pickling.
        items: The cases.
        shared: What the task needs besides.
        num_workers: Processes; by default one per core, and none for a few cases. 1 stays in this process.

    Raises:
        RunError: A worker process was ended by the system.
    """
    workers = num_processes(num_workers, len(items))
    if workers <= 1 or (num_workers is None and len(items) < FEW_CASES):
        yield from (task(item, shared) for item in items)
        return
    with (
        one_thread_each(),
        ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=worker_ends_with_parent
        ) as pool,
    ):
        try:
            chunk = max(1, min(8, len(items) // (4 * workers)))
            yield from pool.map(task, items, [shared] * len(items), chunksize=chunk)
        except BrokenProcessPool as error:
            raise RunError(
                "a process that scored cases ended before its time (out of memory, or a script without an if __name__ "
                '== "__main__": guard); give the same command again with num_workers=1'
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _score_case(case: CaseOutlines, domain: str) -> CasePairs:
    masks, problems = {}, []
    for name, file in case.files.items():
        try:
            threshold = case.thresholds.get(name)
            masks[name] = read_mask(file) if threshold is None else read_image(file).array >= threshold
        except CohortError as error:
            problems.append(f"{name}: {error}")
    if len({mask.shape for mask in masks.values()}) > 1:
        shapes = ", ".join(f"{name} {'x'.join(map(str, mask.shape))}" for name, mask in masks.items())
        problems.append(f"masks differ in shape (z, y, x): {shapes}")
    if problems or not masks:
        return CasePairs(case.case_id, case.patient_id, 0, {}, {}, tuple(problems))
    volumes, areas = {}, {}
    if case.spacing_mm is not None and domain != "projection":
        volumes = {name: boundary.volume_ml(mask, case.spacing_mm) for name, mask in masks.items()}
    elif case.spacing_mm is not None:
        pixel_mm2 = case.spacing_mm[1] * case.spacing_mm[2]
        areas = {name: float(np.count_nonzero(mask)) * pixel_mm2 / len(mask) for name, mask in masks.items()}
    pairs = score_pairs(masks, spacing_mm=case.spacing_mm, domain=domain, wanted=case.pairs)
    num_frames = len(next(iter(masks.values())))
    return CasePairs(case.case_id, case.patient_id, num_frames, pairs, volumes, areas_mm2=areas)


def _boxed(masks: Mapping[str, Mask]) -> dict[str, Bool[np.ndarray, "z rows columns"]]:
    """The masks within the box that holds them all: outside it there is nothing, so every boundary stays the same."""
    union = np.logical_or.reduce(list(masks.values()))
    if not union.any():
        return {name: mask[:, :1, :1] for name, mask in masks.items()}
    rows, columns = np.flatnonzero(union.any((0, 2))), np.flatnonzero(union.any((0, 1)))
    box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return {name: np.ascontiguousarray(mask[box]) for name, mask in masks.items()}


def _overlap_scores(preds: Mask, target: Mask, is_projection: bool, spacing_mm: SpacingMm | None) -> dict[str, float]:
    per_frame = overlap.frame_counts(preds, target)
    counts = per_frame.sum(axis=0)
    scores = {name: float(getattr(overlap, name)(counts)) for name in ("dice", "iou", "precision", "recall")}
    scores["frame_dice"] = mean_of_defined(overlap.dice(per_frame))
    if not is_projection:
        scores["volume_difference_pct"] = boundary.volume_difference_pct(preds, target)
        if spacing_mm is not None:
            scores["volume_difference_ml"] = boundary.volume_difference_ml(preds, target, spacing_mm)
    return scores


def _distance_scores(frames: Sequence[SurfaceDistances], diagonal: float) -> dict[str, float]:
    """Distances of a volume as they are; of frames their mean, in which a missed frame counts as the diagonal."""
    scores = {}
    for name, measure in (("hd95_mm", boundary.hd95_mm), ("assd_mm", boundary.assd_mm)):
        values = np.array([measure(frame) for frame in frames], dtype=np.float64)
        missed_everywhere = np.isinf(values).any() and not np.isfinite(values).any()
        scores[name] = math.inf if missed_everywhere else mean_of_defined(for_mean(values, diagonal))
    return scores


def _distribution(
    frames: Iterable[SurfaceDistances],
) -> tuple[Float[np.ndarray, " distances"], Float[np.ndarray, " distances"]]:
    """Distinct distances and the share of the boundaries at each; frames with LV in either mask have equal say."""
    both = [np.concatenate([frame.to_target, frame.to_preds]) for frame in frames]
    drawn = [values for values in both if values.size]
    if not drawn:
        return np.empty(0), np.empty(0)
    weights = np.concatenate([np.full(values.size, 1 / (values.size * len(drawn))) for values in drawn])
    distances, place = np.unique(np.concatenate(drawn), return_inverse=True)
    return distances, np.bincount(place, weights=weights)
