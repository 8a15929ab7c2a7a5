"""STAPLE: an estimate of the outline behind several readers, with a sensitivity and a specificity for each of them.

It weighs readers by how well they fit the estimate that they themselves make. That is a description, not a truth: among
equally good readers it draws more than a majority does, of two readers it is close to the union, and the prior, the
share of outlined voxels in the image, changes with the field of view. The result therefore carries its warnings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from mpi_unet.agreement.consensus import Consensus, stacked_masks
from mpi_unet.errors import AgreementError

__all__ = ["ReaderPerformance", "Staple", "staple"]

MAX_ITERATIONS = 1000
"""Readers' outlines settle within about thirty; at this many something else is wrong, and a warning says so."""


@dataclass(frozen=True)
class ReaderPerformance:
    """How one reader's outline fits the estimate; NaN where the estimate has no voxel of that kind."""

    reader: str
    sensitivity: float
    specificity: float


@dataclass(frozen=True, eq=False)
class Staple:
    """The estimate: probability of each voxel, and the consensus where it exceeds one half."""

    consensus: Consensus
    probability: Float[np.ndarray, ...]
    per_reader: tuple[ReaderPerformance, ...]
    prior: float
    iterations: int
    n: int
    method: str
    warnings: tuple[str, ...]


def staple(
    masks: Mapping[str, Shaped[np.ndarray, ...]],
    *,
    prior: float | None = None,
    same_person: Mapping[str, str] | None = None,
) -> Staple:
    """STAPLE of two or more readers' masks, by SimpleITK, without spatial smoothing.

    Args:
        masks: Bool mask of each reader on one 2-D or 3-D grid, at least two readers.
        prior: Expected share of outlined voxels, in (0, 1); None takes the mean share over the readers.
        same_person: The reader behind a repeated reading, e.g. ``{"A2": "A"}``.

    Returns:
        Probability, consensus and each reader's sensitivity and specificity. When all masks are empty (or all full) the
        result is empty (or full), though the method itself is undefined there.

    Raises:
        AgreementError: Fewer than two readers, masks that are not bool or differ in shape, masks that are neither 2-D
            nor 3-D, or a prior outside (0, 1).

    Source:
        Warfield, Zou & Wells 2004, IEEE Trans Med Imaging 23(7):903-921. doi:10.1109/TMI.2004.828354; its limits: Van
        Leemput & Sabuncu 2014, MICCAI, LNCS 8673:398-405. doi:10.1007/978-3-319-10404-1_50

    Example:
        >>> mask = np.zeros((4, 4), dtype=bool)
        >>> mask[1:3, 1:3] = True
        >>> result = staple({"A": mask, "B": mask, "C": mask})
        >>> result.consensus.volume_voxels, result.prior
        (4, 0.25)
    """
    readers, stack = stacked_masks(masks)
    if stack.ndim not in (3, 4):
        raise AgreementError(f"masks have shape {stack.shape[1:]}, expected 2-D or 3-D masks")
    share = float(stack.mean())
    chosen = share if prior is None else float(prior)
    if prior is not None and not 0 < prior < 1:
        raise AgreementError(f"prior is {prior}, expected a share of voxels between 0 and 1, or None")
    origin = "mean share over the readers, so it depends on the field of view" if prior is None else "given"
    notes = [f"prior {chosen:.4g} ({origin})"]
    if len(readers) == 2:
        notes.append("STAPLE of two readers is close to their union: it favors the one who draws more")
    if share in (0.0, 1.0):
        notes.append(
            f"all readers outlined {'nothing' if share == 0 else 'everything'}; STAPLE is undefined, set to it"
        )
        probability, iterations = np.full(stack.shape[1:], share), 0
        performance = [(math.nan, 1.0) if share == 0 else (1.0, math.nan) for _ in readers]
    else:
        probability, iterations, performance = _estimate(stack, share, chosen)
        if iterations >= MAX_ITERATIONS:
            notes.append(f"STAPLE had not settled after {MAX_ITERATIONS} iterations")
    notes += _doubtful(readers, performance)
    method = f"STAPLE of {len(readers)} readers (SimpleITK), no spatial smoothing, probability above 0.5"
    consensus = Consensus(
        members=readers,
        method=method,
        n=len(readers),
        tie=None,
        tied_voxels=int((probability == 0.5).sum()),
        warnings=tuple(notes),
        _mask=probability > 0.5,
        _same_person=dict(same_person or {}),
    )
    return Staple(
        consensus=consensus,
        probability=probability,
        per_reader=tuple(
            ReaderPerformance(reader, *values) for reader, values in zip(readers, performance, strict=True)
        ),
        prior=chosen,
        iterations=iterations,
        n=len(readers),
        method=method,
        warnings=tuple(notes),
    )


# --- Private helpers ---


def _estimate(
    stack: np.ndarray, share: float, prior: float
) -> tuple[Float[np.ndarray, ...], int, list[tuple[float, float]]]:
    import SimpleITK

    filter_ = SimpleITK.STAPLEImageFilter()
    filter_.SetForegroundValue(1.0)
    filter_.SetMaximumIterations(MAX_ITERATIONS)
    filter_.SetConfidenceWeight(prior / share)  # ITK's prior is this weight times the mean share
    image = filter_.Execute([SimpleITK.GetImageFromArray(outline.astype(np.uint8)) for outline in stack])
    probability = SimpleITK.GetArrayFromImage(image).astype(np.float64)
    performance = zip(filter_.GetSensitivity(), filter_.GetSpecificity(), strict=True)
    return probability, int(filter_.GetElapsedIterations()), [(float(p), float(q)) for p, q in performance]


def _doubtful(readers: tuple[str, ...], performance: list[tuple[float, float]]) -> list[str]:
    doubtful = [reader for reader, (p, q) in zip(readers, performance, strict=True) if min(p, q) < 0.5]
    if not doubtful:
        return []
    return [f"STAPLE gives {', '.join(doubtful)} a sensitivity or specificity below 0.5; look at their outlines"]
