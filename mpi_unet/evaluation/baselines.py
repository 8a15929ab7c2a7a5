"""Masks that need no network: what a score has to beat before it says anything.

*All background* and *all foreground* never look at the image. The *mean shape* does not either: it knows how often each
place was LV in the training patients of the fold, and nothing about the held-out one. *Threshold and largest component*
looks at the image and at nothing else. A score that is not clearly above theirs is a property of the images, not of the
network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from mpi_unet.evaluation.operating import OperatingCounts, best_threshold
from mpi_unet.shapes import Image, Mask

__all__ = ["BASELINES", "MeanShape", "all_background", "all_foreground", "largest_component", "mean_shape"]

BASELINES: Mapping[str, str] = MappingProxyType(
    {
        "all_background": "Nothing is LV",
        "all_foreground": "Everything is LV",
        "mean_shape": "Mean shape of the training patients (never sees the image)",
        "largest_component": "Half of the maximum, largest component (no training)",
    }
)
"""Label of each baseline by name."""

MEDIAN_SIZE = 3
"""Pixels along each axis of the median that keeps a single hot pixel from being the maximum."""


def all_background(shape: tuple[int, int, int]) -> Mask:
    """Outline nothing."""
    return np.zeros(shape, dtype=bool)


def all_foreground(shape: tuple[int, int, int]) -> Mask:
    """Outline the whole image."""
    return np.ones(shape, dtype=bool)


@dataclass(frozen=True)
class MeanShape:
    """How often each place of the image is LV in the training patients.

    Attributes:
        share: Share of the patients with LV at each place, in [0, 1].
        threshold: Share from which a place is outlined: the one with the highest mean Dice on the training patients.
    """

    share: Float32[np.ndarray, "z y x"]
    threshold: float

    def predict(self, shape: tuple[int, int, int]) -> Mask:
        """Outline the LV in an image of this shape, unseen.

        Frames are matched by their relative place between the first and the last, rows and columns by the center of the
        image.
        """
        return _fit(self.share, shape) >= np.float32(self.threshold)


def mean_shape(training_masks: Sequence[Bool[np.ndarray, "_ _ _"]], patient_ids: Sequence[str]) -> MeanShape:
    """Average the outlines of the training patients of one fold.

    Each patient has the same weight, however many cases he has.

    Args:
        training_masks: Outlines of the reader, one per case; their sizes may differ. They are gone through three times,
            one at a time, so that they may lie on disk.
        patient_ids: Patient of each outline. Hand in those of the training part only: with the held-out patient among
            them
            the baseline would have seen the answer.

    Returns:
        The mean shape, on the largest grid among the outlines.

    Raises:
        ValueError: No outlines, not one patient for each, or all of them empty.

    Example:
        Three patients; a pixel is kept where that makes the Dice with them highest.

        >>> masks = [np.array([[row]], dtype=bool) for row in ([1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0])]
        >>> shape = mean_shape(masks, ["P1", "P2", "P3"])
        >>> shape.predict((1, 1, 4)).astype(int)
        array([[[1, 1, 0, 0]]])
    """
    if not training_masks or len(training_masks) != len(patient_ids):
        raise ValueError(
            f"{len(training_masks)} training masks and {len(patient_ids)} patient ids, expected at least one mask "
            "and one id for each"
        )
    shapes: set[tuple[int, ...]] = set()
    has_lv = False
    for mask in training_masks:
        shapes.add(mask.shape)
        has_lv = has_lv or bool(mask.any())
    if not has_lv:
        raise ValueError(f"all {len(training_masks)} training masks are empty, expected outlines of LV")
    cases = Counter(patient_ids)
    grid = tuple(int(size) for size in np.max(list(shapes), axis=0))
    share = np.zeros(grid, dtype=np.float64)
    for mask, patient in zip(training_masks, patient_ids, strict=True):
        share += _fit(mask.astype(np.float32), grid) / (cases[patient] * len(cases))
    share = np.clip(share, 0, 1).astype(np.float32)
    fitted = {shape: _fit(share, shape) for shape in shapes}
    return MeanShape(share, best_threshold(_by_patient(training_masks, patient_ids, fitted)))


def largest_component(image: Image, *, per_frame: bool, fraction: float = 0.5) -> Mask:
    """Outline the largest connected structure above a fixed fraction of the brightest one.

    Half of the maximum is where the edge of a blurred, evenly bright object lies. The maximum is taken after a median
    over three pixels along each axis, so that no single hot pixel decides and the size of the field of view does not
    matter.

    Args:
        image: Intensities of one case.
        per_frame: Maximum and component of each frame by itself, as for projections; else of the whole volume.
        fraction: Share of the maximum from which a pixel belongs to a structure.

    Returns:
        The mask; connection is by faces. Empty where the maximum is not above zero.

    Raises:
        ValueError: ``fraction`` is outside (0, 1].

    Example:
        >>> image = np.float32([[[0, 0, 0, 9, 9, 9, 0, 9, 0]]])
        >>> largest_component(image, per_frame=False).astype(int)
        array([[[0, 0, 0, 1, 1, 1, 0, 0, 0]]])
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, expected a share of the maximum above 0 and up to 1, such as 0.5")
    parts = image if per_frame else image[None]
    return np.stack([_largest(_bright(part, fraction)) for part in parts]).reshape(image.shape)


# --- Private helpers ---


def _by_patient(
    masks: Sequence[Bool[np.ndarray, "..."]],
    patient_ids: Sequence[str],
    fitted: Mapping[tuple[int, ...], Float32[np.ndarray, "..."]],
) -> Iterator[OperatingCounts]:
    """Counts of the mean shape in each patient; only patients who have cases to come are kept in memory."""
    to_come, begun = Counter(patient_ids), dict[str, OperatingCounts]()
    for mask, patient in zip(masks, patient_ids, strict=True):
        of_case = OperatingCounts.of(fitted[mask.shape], mask)
        begun[patient] = begun[patient] + of_case if patient in begun else of_case
        to_come[patient] -= 1
        if not to_come[patient]:
            yield begun.pop(patient)


def _fit(share: Float32[np.ndarray, "z y x"], shape: tuple[int, ...]) -> Float32[np.ndarray, "frames rows columns"]:
    """Bring a map to another grid: frames by relative place, linear in between; in-plane by the center of the image."""
    if share.shape == shape:
        return share
    frames = share.shape[0]
    place = np.clip((np.arange(shape[0]) + 0.5) * frames / shape[0] - 0.5, 0, frames - 1)
    below = place.astype(int)
    above = np.minimum(below + 1, frames - 1)
    weight = (place - below).astype(np.float32)[:, None, None]
    resampled = share[below] * (1 - weight) + share[above] * weight
    fitted = np.zeros(shape, dtype=np.float32)
    rows, columns = (_overlap(have, want) for have, want in zip(share.shape[1:], shape[1:], strict=True))
    fitted[:, rows[1], columns[1]] = resampled[:, rows[0], columns[0]]
    return fitted


def _overlap(have: int, want: int) -> tuple[slice, slice]:
    """Where a line of pixels and another one with the same center meet: place in the one, place in the other."""
    size = min(have, want)
    return slice((have - size) // 2, (have - size) // 2 + size), slice((want - size) // 2, (want - size) // 2 + size)


def _bright(image: Float32[np.ndarray, ...], fraction: float) -> Bool[np.ndarray, ...]:
    top = float(ndimage.median_filter(image, MEDIAN_SIZE, mode="nearest").max())
    return image >= fraction * top if top > 0 else np.zeros(image.shape, dtype=bool)


def _largest(mask: Bool[np.ndarray, ...]) -> Bool[np.ndarray, ...]:
    labels, number = ndimage.label(mask)
    if number < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    return labels == 1 + np.argmax(sizes[1:])
