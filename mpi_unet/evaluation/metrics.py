"""Which scores there are: name, label, unit, which way is better, what each needs and means.

The order is that of the tables. ``role`` tells a reader of the report how to take a score: *primary* scores lead,
*secondary* ones stand beside them, those of the *seed study* count the background too and are there for comparison with
other publications only, *diagnostic* ones find faults, and *bookkeeping* is kept per case and never summarized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["AGGREGATION", "METRICS", "Metric"]

AGGREGATION = "pixel counts summed over the frames of a case; mean over the cases of a patient; mean over patients"
"""The rule that goes with every mean over patients."""


@dataclass(frozen=True)
class Metric:
    """One score; ``better`` is ``zero`` for a signed difference; ``definition`` says what is computed over what."""

    name: str
    label: str
    unit: str
    better: Literal["up", "down", "zero", "none"]
    role: Literal["primary", "secondary", "seed_study", "diagnostic", "bookkeeping"]
    definition: str
    needs_spacing: bool = False
    volumes_only: bool = False


_IN_SPACE = "3-D per case; of projections 2-D, averaged over the frames with LV in either mask"
_DIAGONAL = "a frame empty in one mask only counts as the image diagonal"
_ZERO = "a frame empty in one mask only counts as 0"

_ALL = (
    Metric(
        name="dice",
        label="Dice (LV)",
        unit="",
        better="up",
        role="primary",
        definition="2 TP / (2 TP + FP + FN) of LV, pixels summed over the frames of a case; the same as F1",
    ),
    Metric(
        name="iou",
        label="IoU (LV)",
        unit="",
        better="up",
        role="primary",
        definition="TP / (TP + FP + FN) of LV, pixels summed over the frames of a case",
    ),
    Metric(
        name="precision",
        label="Precision (LV)",
        unit="",
        better="up",
        role="secondary",
        definition="TP / (TP + FP), pixels summed over the frames of a case: share of the prediction that is LV",
    ),
    Metric(
        name="recall",
        label="Recall (LV)",
        unit="",
        better="up",
        role="secondary",
        definition="TP / (TP + FN), pixels summed over the frames of a case: share of the LV that was found",
    ),
    Metric(
        name="specificity",
        label="Specificity",
        unit="",
        better="up",
        role="seed_study",
        definition="TN / (TN + FP), pixels summed over the frames of a case; near 1 wherever the LV is small",
    ),
    Metric(
        name="accuracy",
        label="Accuracy (all pixels)",
        unit="",
        better="up",
        role="seed_study",
        definition="(TP + TN) / all pixels of a case; an empty mask already scores the share of the background",
    ),
    Metric(
        name="macro_dice",
        label="Dice (mean of background and LV)",
        unit="",
        better="up",
        role="seed_study",
        definition="mean of the Dice of background and of LV, pixels summed over the frames of a case",
    ),
    Metric(
        name="macro_iou",
        label="IoU (mean of background and LV)",
        unit="",
        better="up",
        role="seed_study",
        definition="mean of the IoU of background and of LV, pixels summed over the frames of a case",
    ),
    Metric(
        name="frame_dice",
        label="Dice per frame (LV)",
        unit="",
        better="up",
        role="diagnostic",
        definition="Dice of each frame with LV in either mask, averaged over these frames",
    ),
    Metric(
        name="hd95_mm",
        label="HD95",
        unit="mm",
        better="down",
        role="secondary",
        definition=f"larger of the directed 95th percentiles of boundary distance; {_IN_SPACE}, where {_DIAGONAL}",
        needs_spacing=True,
    ),
    Metric(
        name="assd_mm",
        label="ASSD",
        unit="mm",
        better="down",
        role="secondary",
        definition=f"mean boundary distance, pooled over both boundaries; {_IN_SPACE}, where {_DIAGONAL}",
        needs_spacing=True,
    ),
    Metric(
        name="nsd",
        label="Surface Dice (NSD)",
        unit="",
        better="up",
        role="primary",
        definition=f"share of both boundaries within the tolerance of the other; {_IN_SPACE}, where {_ZERO}",
        needs_spacing=True,
    ),
    Metric(
        name="volume_difference_ml",
        label="Volume difference",
        unit="ml",
        better="zero",
        role="secondary",
        definition="volume of the prediction minus volume of the reader's outline, per case",
        needs_spacing=True,
        volumes_only=True,
    ),
    Metric(
        name="volume_difference_pct",
        label="Volume difference",
        unit="%",
        better="zero",
        role="secondary",
        definition="volume difference in percent of the volume of the reader's outline, per case",
        volumes_only=True,
    ),
    Metric(
        name="false_positive_ml",
        label="False-positive volume",
        unit="ml",
        better="down",
        role="secondary",
        definition="volume predicted as LV outside the reader's outline, per case",
        needs_spacing=True,
        volumes_only=True,
    ),
    Metric(
        name="frames_missed",
        label="Frames missed",
        unit="frames",
        better="down",
        role="diagnostic",
        definition="frames of a case in which the reader outlined LV and nothing was predicted",
    ),
    Metric(
        name="frames_invented",
        label="Frames invented",
        unit="frames",
        better="down",
        role="diagnostic",
        definition="frames of a case in which LV was predicted and the reader outlined none",
    ),
    Metric(
        name="diagonal_mm",
        label="Image diagonal",
        unit="mm",
        better="none",
        role="bookkeeping",
        definition="what an infinite distance of this case counts as in a mean",
        needs_spacing=True,
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
"""Every score by name, in the order of the tables."""
