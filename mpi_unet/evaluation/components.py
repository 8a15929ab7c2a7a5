"""Which parts of a mask are the left ventricle: uptake of gut and liver is the trap.

A *part* is a connected component. The ventricle is the part that is large and lies where ventricles of training lay;
other parts are pieces of it (a defect may cut a wall in two) only if all together are not larger, and reach no
farther, than an outline of training. Everything else is removed, and it is said how much. What touches the ventricle
cannot be told from it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from mpi_unet.cohort.domain import OutlineFacts, outline_size
from mpi_unet.shapes import Mask, SpacingMm

__all__ = ["Kept", "clean_case", "largest_part", "plausible_parts"]

AnyMask = Bool[np.ndarray, "*axes"]

TOLERANCE = 1.1
"""Pieces may together be so many times larger, and reach so many times farther, than the outlines of training."""

PLACE_SHARE = 0.5
"""A part this share of a ventricle's reach away from where centers lay counts exp(-1/2) of its size: half a radius is
what hearts of other patients are off; an organ beside the heart is off by a diameter."""

ODD_SIZE = 1.5
"""A ventricle so many times larger or smaller than every outline of training is remarked upon."""


@dataclass(frozen=True)
class Kept:
    """A mask with the parts that were kept.

    Attributes:
        mask: Same axes as what came in.
        num_removed: Parts that were removed.
        num_voxels_removed: Their voxels.
        remarks: What is odd about what was kept, in words.
    """

    mask: AnyMask
    num_removed: int
    num_voxels_removed: int
    remarks: tuple[str, ...] = ()


def plausible_parts(mask: AnyMask, steps_mm: Sequence[float], known: OutlineFacts) -> Kept:
    """Keep the ventricle of one volume (z, y, x) or of one projection (y, x).

    Args:
        mask: What the network outlined.
        steps_mm: Spacing of its axes in mm; ones where nobody knows it, as in ``known``.
        known: Sizes and places of the outlines of training, with as many axes as the mask.

    Returns:
        At least one part, unless the mask is empty.
    """
    index = np.argwhere(mask)
    if len(index) == 0:
        return Kept(mask, 0, 0)
    box = tuple(slice(low, high + 1) for low, high in zip(index.min(axis=0), index.max(axis=0), strict=True))
    parts, number = _parts(mask[box])  # outside of the box there is nothing: it is a tenth of the image
    of_voxel = parts[mask[box]] - 1
    sizes = np.bincount(of_voxel)
    sums = [np.bincount(of_voxel, weights=along) for along in index.T]
    centers = (np.array(sums).T / sizes[:, None] + 0.5) / mask.shape
    away_mm = np.array([_distance_mm(center, mask.shape, steps_mm, known) for center in centers])
    weight = np.log(sizes) - 0.5 * (away_mm / (PLACE_SHARE * known.reach_mm[1])) ** 2
    order = np.argsort(-weight, kind="stable")
    chosen = [int(order[0])]
    inside = parts == order[0] + 1
    for other in map(int, order[1:]):
        together = inside | (parts == other + 1)
        if _fits(together, steps_mm, known):
            chosen.append(other)
            inside = together
    whole = np.zeros_like(mask)
    whole[box] = inside
    return Kept(
        whole,
        number - len(chosen),
        len(index) - int(np.count_nonzero(inside)),
        tuple(_remarks(inside, float(away_mm[chosen[0]]), steps_mm, known)),
    )


def largest_part(mask: AnyMask) -> Kept:
    """Keep the part with the most voxels, wherever it lies."""
    parts, number = _parts(mask)
    if number < 2:
        return Kept(mask, 0, 0)
    whole = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return Kept(whole, number - 1, int(np.count_nonzero(mask) - np.count_nonzero(whole)))


def clean_case(mask: Mask, steps_mm: SpacingMm, known: OutlineFacts, *, is_projection: bool, by_place: bool) -> Kept:
    """Keep the ventricle of one case; each view of a projection set is cleaned on its own.

    Args:
        mask: What the network outlined (z, y, x).
        steps_mm: Spacing in mm; ones where nobody knows it, as in ``known``.
        known: Sizes and places of the outlines of training.
        is_projection: Slices are views.
        by_place: Keep the plausible parts; else the largest one, wherever it lies.
    """
    frames = list(mask) if is_projection else [mask]
    steps = steps_mm[-frames[0].ndim :]
    kept = [plausible_parts(frame, steps, known) if by_place else largest_part(frame) for frame in frames]
    if not is_projection:
        return kept[0]
    odd = sum(bool(one.remarks) for one in kept)
    remark = f"{odd} of {len(kept)} views show an outline of a size or at a place that training did not have"
    return Kept(
        np.stack([one.mask for one in kept]),
        sum(one.num_removed for one in kept),
        sum(one.num_voxels_removed for one in kept),
        (remark,) if odd else (),
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _parts(mask: AnyMask) -> tuple[np.ndarray, int]:
    """Parts that touch, also by corners: a thin wall across voxels does no more than that."""
    parts, number = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, int))
    return parts, int(number)


def _distance_mm(center: np.ndarray, shape: tuple[int, ...], steps_mm: Sequence[float], known: OutlineFacts) -> float:
    """How far a center lies from where the centers of training lay."""
    low, high = np.array(known.center).T
    outside = np.maximum(low - center, 0) + np.maximum(center - high, 0)
    return float(np.linalg.norm(outside * shape * np.asarray(steps_mm)))


def _fits(mask: AnyMask, steps_mm: Sequence[float], known: OutlineFacts) -> bool:
    if _size(mask, steps_mm, known) > TOLERANCE * known.size[1]:
        return False
    index = np.argwhere(mask) * np.asarray(steps_mm)
    return float(np.linalg.norm(index - index.mean(axis=0), axis=1).max()) <= TOLERANCE * known.reach_mm[1]


def _size(mask: AnyMask, steps_mm: Sequence[float], known: OutlineFacts) -> float:
    return outline_size(mask, steps_mm, is_known=known.unit in ("ml", "mm2"))


def _remarks(mask: AnyMask, away_mm: float, steps_mm: Sequence[float], known: OutlineFacts) -> list[str]:
    remarks = []
    size, (low, high) = _size(mask, steps_mm, known), known.size
    if not low / ODD_SIZE <= size <= high * ODD_SIZE:
        remarks.append(f"its size is {size:.3g} {known.unit}, training had {low:.3g} to {high:.3g}")
    if away_mm > known.reach_mm[1]:
        remarks.append(f"it lies {away_mm:.0f} mm from where the ventricles of training lay")
    return remarks
