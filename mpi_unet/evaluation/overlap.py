"""Overlap of two masks, from four pixel counts.

Pixels are counted once per frame; every score is a ratio of those counts. ``preds`` is the mask under test and
``target`` the reader's outline. *LV* is the outlined structure, everything else is *background*. Counts add up over
frames, so the score of a case is that of its summed counts. A ratio whose denominator is zero is *undefined* and NaN:
Dice, IoU, recall and precision of two empty masks, recall without target, precision without prediction.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped

from mpi_unet.shapes import Counts

__all__ = [
    "accuracy",
    "check_masks",
    "dice",
    "false_positive_rate",
    "frame_counts",
    "iou",
    "macro_dice",
    "macro_iou",
    "precision",
    "recall",
    "specificity",
]

TP, FP, FN, TN = range(4)
"""Places of true positives, false positives, false negatives and true negatives in the last axis of counts."""


def check_masks(preds: Shaped[np.ndarray, ...], target: Shaped[np.ndarray, ...]) -> None:
    """Refuse anything but two bool masks on one grid.

    Probabilities compared as if they were masks give plausible, wrong scores in every common library; so a dtype other
    than bool is an error here and never rounded.

    Raises:
        TypeError: A mask is not bool.
        ValueError: The masks differ in shape.
    """
    for name, mask in (("preds", preds), ("target", target)):
        if mask.dtype != np.bool_:
            raise TypeError(
                f"{name} has dtype {mask.dtype}, expected bool; compare probabilities with a threshold first "
                f"({name} >= 0.5), or a label image with its label ({name} == 1)"
            )
    if preds.shape != target.shape:
        raise ValueError(
            f"preds has shape {preds.shape}, target {target.shape}; expected one grid: resample the prediction to its "
            "image's grid before scoring"
        )


def frame_counts(preds: Shaped[np.ndarray, "z ..."], target: Shaped[np.ndarray, "z ..."]) -> Int[np.ndarray, "z 4"]:
    """Count the pixels of every frame: true positives, false positives, false negatives, true negatives.

    Args:
        preds: Bool mask under test; the first axis is the frame.
        target: Bool mask of the reader on the same grid.

    Returns:
        One row of four counts per frame; each row sums to the pixels of a frame.

    Raises:
        TypeError: A mask is not bool.
        ValueError: The masks differ in shape.

    Example:
        Two frames of three pixels; the second is empty in both masks.

        >>> preds = np.array([[[True, True, False]], [[False, False, False]]])
        >>> target = np.array([[[False, True, True]], [[False, False, False]]])
        >>> frame_counts(preds, target)
        array([[1, 1, 1, 0],
               [0, 0, 0, 3]])
    """
    check_masks(preds, target)
    axes = tuple(range(1, preds.ndim))
    pixels = int(np.prod(preds.shape[1:], dtype=np.int64))
    both = np.count_nonzero(preds & target, axis=axes)
    drawn = np.count_nonzero(preds, axis=axes)
    wanted = np.count_nonzero(target, axis=axes)
    return np.stack([both, drawn - both, wanted - both, pixels - drawn - wanted + both], axis=-1).astype(np.int64)


def dice(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Dice coefficient of the LV, 2 TP / (2 TP + FP + FN); the same number as F1.

    0 is no overlap, 1 is identity. Thin structures score lower at the same distance error.

    Returns:
        NaN where both masks are empty, 0 where exactly one is.

    Source:
        Dice 1945, Ecology 26(3):297-302. doi:10.2307/1932409

    Example:
        >>> dice(np.array([[20, 5, 5, 114], [0, 0, 0, 144], [0, 25, 0, 119]]))
        array([0.8, nan, 0. ])
    """
    tp, fp, fn, _ = _parts(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def iou(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Intersection over union of the LV, TP / (TP + FP + FN); Dice is 2 IoU / (1 + IoU).

    Returns:
        NaN where both masks are empty, 0 where exactly one is.

    Source:
        Jaccard 1912, New Phytologist 11(2):37-50. doi:10.1111/j.1469-8137.1912.tb05611.x

    Example:
        >>> iou(np.array([[20, 0, 20, 104], [0, 0, 0, 144]]))
        array([0.5, nan])
    """
    tp, fp, fn, _ = _parts(counts)
    return _ratio(tp, tp + fp + fn)


def precision(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Share of the predicted LV that the reader outlined too, TP / (TP + FP).

    Returns:
        NaN where nothing was predicted.

    Example:
        >>> precision(np.array([[20, 5, 5, 114], [0, 0, 25, 119]]))
        array([0.8, nan])
    """
    tp, fp, _, _ = _parts(counts)
    return _ratio(tp, tp + fp)


def recall(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Share of the reader's LV that was predicted, TP / (TP + FN); also sensitivity, true-positive rate.

    Returns:
        NaN where the reader outlined nothing.

    Example:
        >>> recall(np.array([[20, 5, 5, 114], [0, 25, 0, 119]]))
        array([0.8, nan])
    """
    tp, _, fn, _ = _parts(counts)
    return _ratio(tp, tp + fn)


def specificity(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Share of the reader's background that was left alone, TN / (TN + FP); close to 1 wherever the LV is small.

    Returns:
        NaN where the reader's outline fills the image.

    Example:
        >>> specificity(np.array([20, 5, 5, 95]))
        array(0.95)
    """
    _, fp, _, tn = _parts(counts)
    return _ratio(tn, tn + fp)


def false_positive_rate(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Share of the reader's background that was predicted as LV, FP / (FP + TN).

    Its denominator is the background: a field of view twice as large halves it. Read precision beside it.

    Returns:
        NaN where the reader's outline fills the image.

    Example:
        >>> false_positive_rate(np.array([20, 5, 5, 95]))
        array(0.05)
    """
    _, fp, _, tn = _parts(counts)
    return _ratio(fp, fp + tn)


def accuracy(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Share of all pixels, background included, on which both masks agree.

    With an LV of 5 % of the image an empty mask has 95 %: printed for comparison with other work, never to choose by.

    Returns:
        NaN only for an image without pixels.

    Example:
        An empty mask of a 5-pixel LV in 100 pixels.

        >>> accuracy(np.array([0, 0, 5, 95]))
        array(0.95)
    """
    tp, fp, fn, tn = _parts(counts)
    return _ratio(tp + tn, tp + fp + fn + tn)


def macro_dice(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Mean of the Dice of background and of LV: what many publications print as "Dice".

    An empty mask scores nearly 0.5, because the background it finds counts as much as the LV it misses.

    Returns:
        NaN where either class is undefined.

    Example:
        >>> macro_dice(np.array([[0, 0, 5, 95]])).round(4)
        array([0.4872])
    """
    return np.asarray((dice(counts) + dice(_background(counts))) / 2)


def macro_iou(counts: Counts) -> Float[np.ndarray, "*n"]:
    """Mean of the IoU of background and of LV: what many publications print as "mean IoU".

    Returns:
        NaN where either class is undefined.

    Example:
        >>> macro_iou(np.array([0, 0, 5, 95]))
        array(0.475)
    """
    return np.asarray((iou(counts) + iou(_background(counts))) / 2)


# --- Private helpers ---


def _parts(counts: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return counts[..., TP], counts[..., FP], counts[..., FN], counts[..., TN]


def _background(counts: Counts) -> Counts:
    """The same counts as seen by the background: its true positives are our true negatives."""
    return counts[..., [TN, FN, FP, TP]]


def _ratio(part: np.ndarray | np.integer, whole: np.ndarray | np.integer) -> Float[np.ndarray, "*n"]:
    """``part / whole`` with NaN for 0/0, in double precision."""
    whole = np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
