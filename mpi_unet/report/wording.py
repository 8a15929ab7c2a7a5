"""Numbers and names as words: what the page says, apart from how it looks.

One place decides how many decimals a number gets, how the undefined and the infinite are called, and how a metric is
explained to a reader who has never heard of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mpi_unet.agreement.conclusion import FORBIDDEN

DECIMALS = {"": 3, "mm": 2, "ml": 1, "%": 1, "frames": 2}
"""Decimals by unit: a thousandth of an overlap, a hundredth of a millimeter, a tenth of a milliliter."""

DECIMALS |= {
    "points": 1,
    "mm2": 0,
    "cm": 1,
    "cm2": 1,
    "g": 1,
    "deg": 1,
    "ms": 0,
    "s": 2,
    "/min": 0,
    "mmHg": 0,
    "MBq": 0,
}

LV_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Overlap with the reader, left ventricle only", ("dice", "iou", "precision", "recall", "specificity")),
    ("Distance between the two outlines", ("hd95_mm", "assd_mm", "nsd")),
    ("Volume", ("volume_difference_ml", "volume_difference_pct", "false_positive_ml")),
    ("Frame by frame, to look for faults", ("frame_dice", "frames_missed", "frames_invented")),
)
SEED_METRICS = ("macro_dice", "macro_iou", "accuracy")

EXPLANATIONS = {
    "dice": "overlap of network and reader: 0 none, 1 complete",
    "iou": "area marked by both, divided by the area marked by either",
    "precision": "share of the network's LV that the reader marked too",
    "recall": "share of the reader's LV that the network found",
    "specificity": "share of the background left unmarked; near 1 for almost any mask",
    "frame_dice": "Dice of each frame, then averaged; the smallest frames weigh as much as the largest",
    "hd95_mm": "95 % of the points of one outline are closer than this to the other",
    "assd_mm": "mean distance from one outline to the other",
    "nsd": "share of both outlines lying within the tolerance of each other",
    "volume_difference_ml": "network minus reader; 0 is best",
    "volume_difference_pct": "network minus reader, relative to the reader; 0 is best",
    "false_positive_ml": "marked by the network outside the reader's outline",
    "frames_missed": "frames per case with LV of the reader and none of the network",
    "frames_invented": "frames per case with LV of the network and none of the reader",
    "macro_dice": "Dice of the background and Dice of the LV, averaged",
    "macro_iou": "IoU of the background and IoU of the LV, averaged",
    "accuracy": "share of all pixels marked as the reader did, background included",
}
LABEL_WORDS = {
    "lv_filled": "the left ventricle (cavity included)",
    "lv_wall": "the wall of the left ventricle",
    "lv_cavity": "the cavity of the left ventricle",
}
DOMAIN_WORDS = {
    "projection": "projections (views of the camera)",
    "transaxial": "transaxial slices",
    "short_axis": "short-axis slices",
}


def forbidden_words(text: str) -> list[str]:
    """List the claims in ``text`` that a report must not make.

    Example:
        >>> forbidden_words("The network is as good as an expert; the curves are identical.")
        ['as good as', 'identical']
        >>> forbidden_words("The fit improved.")
        []
    """
    return [found.group() for found in FORBIDDEN.finditer(text)]


def number(value: float | int | str | None, unit: str = "") -> str:
    """Write a number with the decimals of its unit; the undefined and the infinite become words.

    Values that would vanish at three decimals get a fourth, and a negative zero loses its sign.

    Example:
        >>> number(0.91234), number(4.5, "mm"), number(-0.00001), number(0.0004)
        ('0.912', '4.50', '0.000', '0.0004')
        >>> number(None), number("inf", "mm")
        ('undefined', 'infinite')
    """
    value = as_float(value)
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    decimals = DECIMALS.get(unit, 3)
    if decimals == 3 and 5e-5 <= abs(value) < 1e-3:
        decimals = 4
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def as_float(value: float | int | str | None) -> float:
    """Read a number of ``summary.json``, where None is undefined and the text ``inf`` infinite."""
    try:
        return math.nan if value is None else float(value)
    except ValueError:
        return math.nan


def interval(bounds: Any, unit: str = "") -> str:
    """Write two bounds as ``a to b``; a missing interval is said to be missing.

    Example:
        >>> interval([0.88, 0.92]), interval(None)
        ('0.880 to 0.920', 'no interval')
    """
    if not isinstance(bounds, list | tuple) or len(bounds) != 2 or any(bound is None for bound in bounds):
        return "no interval"
    return f"{number(bounds[0], unit)} to {number(bounds[1], unit)}"


def metric_cells(metric: Mapping[str, Any]) -> dict[str, str]:
    """Turn one metric of ``summary.json`` into the texts of its table row."""
    unit = str(metric.get("unit") or "")
    return {
        "unit": unit,
        "mean": number(metric.get("mean"), unit),
        "ci95": interval(metric.get("ci95"), unit),
        "median": number(metric.get("median"), unit),
        "iqr": interval(metric.get("iqr"), unit),
        "min": number(metric.get("min"), unit),
        "max": number(metric.get("max"), unit),
        "n": count(metric.get("n")),
        "n_undefined": count(metric.get("n_undefined")),
        "n_infinite": count(metric.get("n_infinite")),
    }


def count(value: Any) -> str:
    """Write a whole number, or say that it is not known."""
    return "not stated" if value is None else str(int(value))


def reader_words(design: Mapping[str, Any]) -> str:
    """Name the reader for a sentence.

    Example:
        >>> reader_words({"reader": "truth", "simulated_readers": True})
        'the known truth of the phantom'
        >>> reader_words({"reader": "A"})
        'reader A'
    """
    reader = str(design.get("reader") or "unnamed")
    simulated = bool(design.get("simulated_readers"))
    if reader == "truth":
        return "the known truth of the phantom" if simulated else "the reference outline"
    return f"simulated reader {reader}" if simulated else f"reader {reader}"


def reader_outline_words(design: Mapping[str, Any]) -> str:
    """Name what the network is compared with.

    Example:
        >>> reader_outline_words({"reader": "A"}), reader_outline_words({"reader": "truth", "simulated_readers": True})
        ('the outline of reader A', 'the known truth of the phantom')
    """
    words = reader_words(design)
    return words if design.get("reader") == "truth" else f"the outline of {words}"


def split_words(design: Mapping[str, Any]) -> str:
    """Say how patients were divided.

    Example:
        >>> split_words({"split": "kfold", "num_folds": 5, "unit": "patient"})
        '5-fold cross-validation, divided by patient'
    """
    by = "divided by image, not by patient" if design.get("unit") == "image" else "divided by patient"
    if design.get("split") == "holdout":
        return f"one holdout division, {by}"
    return f"{design.get('num_folds', 'unknown')}-fold cross-validation, {by}"


def headline(summary: Mapping[str, Any]) -> str:
    """State the main result in one sentence that a physician understands."""
    design = summary.get("design") or {}
    dice = (summary.get("metrics") or {}).get("dice")
    what = LABEL_WORDS.get(str(design.get("label")), "the left ventricle")
    if not dice or not math.isfinite(as_float(dice.get("mean"))):
        return f"The overlap of the network with {reader_words(design)} on {what} could not be computed in this run."
    patients = dice.get("n") if dice.get("n") is not None else design.get("n_patients")
    kind = "phantom patient" if design.get("simulated_readers") else "patient"
    who = f"{count(patients)} {kind}" + ("" if patients == 1 else "s")
    seen = "" if design.get("leakage_allowed") or design.get("unit") == "image" else " that the network had not seen"
    whose = "its" if seen else "the network's"
    outlines = f"{whose} outline of {what} overlapped {reader_outline_words(design)}"
    ci95 = interval(dice.get("ci95"))
    return (
        f"In {who}{seen}, {outlines} with a mean Dice of {number(dice['mean'])} (95 % confidence interval {ci95}; "
        f"0 means no overlap, 1 complete overlap). Design: {split_words(design)}."
    )
