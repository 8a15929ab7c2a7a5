"""How far to trust the mask of one study: predicted Dice, flags, and how soon somebody should look.

A *flag* says that a figure lies where training cases hardly had it; its limit is a percentile over them and
stands beside it. Severities: ``urgent`` - the mask may be of something else or of a part; ``attention`` - look
before numbers are used; ``notice`` - worth knowing. *Look first* orders a worklist: the worst severity (0 to 3), plus
one minus the low end of the predicted Dice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from mpi_unet.cohort.domain import ImageFacts, image_facts
from mpi_unet.evaluation.components import Kept
from mpi_unet.evaluation.outline_look import outline_look
from mpi_unet.evaluation.predicted_dice import PredictedDice, agreement, expected_dice, volume_spread_pct
from mpi_unet.evaluation.quality import Limit, QualityRecord
from mpi_unet.shapes import Image, Mask, SpacingMm

__all__ = ["SEVERITIES", "Flag", "Opinion", "Quality", "judge", "opinions"]

SEVERITIES = {"notice": 1, "attention": 2, "urgent": 3}

NOT_SEGMENTED = 4.0
"""Look first of a study without a mask: nothing of it is known yet."""

NO_RECORD = "the run has no quality.json; `python -m mpi_unet.evaluate run=<run>` makes it"


@dataclass(frozen=True)
class Flag:
    """Something unusual.

    Attributes:
        code: Its name, the same for ever.
        severity: A key of ``SEVERITIES``.
        sentence: What it is, for a reader.
        value: The figure; None where there is none.
        limit: Where the usual ends; None where the flag is no matter of degree.
        rule: Where the limit comes from.
    """

    code: str
    severity: str
    sentence: str
    value: float | None = None
    limit: float | None = None
    rule: str = ""


@dataclass(frozen=True)
class Quality:
    """How far to trust one mask; None is what could not be had.

    Attributes:
        predicted_dice: What Dice with the reader of training this mask is expected to have.
        low: Low end of its 90 % interval.
        high: High end.
        why_no_dice: Why it was not predicted.
        fold_agreement: Mean Dice between the masks of the folds.
        volume_spread_pct: Standard deviation of their volumes in percent of the mean.
        flags: Worst first.
        look_first: Score; the highest should be looked at first.
        reason: Why, in words.
    """

    predicted_dice: float | None = None
    low: float | None = None
    high: float | None = None
    why_no_dice: str = ""
    fold_agreement: float | None = None
    volume_spread_pct: float | None = None
    flags: tuple[Flag, ...] = ()
    look_first: float = NOT_SEGMENTED
    reason: str = ""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Quality:
        """From the content of its file."""
        return cls(**{**content, "flags": tuple(Flag(**flag) for flag in content["flags"])})


@dataclass(frozen=True)
class Opinion:
    """What the network of one fold says.

    Attributes:
        fold: Its number.
        mask: Cleaned as the mask of all folds is.
        expected_dice: Of that mask.
    """

    fold: int
    mask: Mask
    expected_dice: float


def opinions(
    answer: Float32[np.ndarray, "network z y x"],
    folds: Sequence[int],
    threshold: float,
    cleaned: Callable[[Mask], Kept],
) -> list[Opinion]:
    """What each network that gave finite probabilities says.

    Args:
        answer: Probabilities of LV.
        folds: Of the networks.
        threshold: Probability from which on a voxel is LV.
        cleaned: Post-processing.
    """
    said = []
    for fold, probability in zip(folds, answer, strict=True):
        if np.isfinite(probability).all():
            mask = cleaned(probability >= threshold).mask
            said.append(Opinion(fold, mask, expected_dice(probability, mask)))
    return said


def judge(
    kept: Kept,
    said: Sequence[Opinion],
    image: Image,
    spacing_mm: SpacingMm | None,
    *,
    folds: Sequence[int],
    record: QualityRecord | None,
    is_projection: bool,
    gate: str = "",
    other_domain: Sequence[str] = (),
    facts: ImageFacts | None = None,
) -> Quality:
    """Judge the mask of one study.

    Args:
        kept: The mask.
        said: What the networks say, of those that gave finite probabilities.
        image: Intensities as they were stored.
        spacing_mm: Along (z, y, x); None when nobody knows it.
        folds: Of all networks that were asked.
        record: What the run knows; None for runs that do not.
        is_projection: Slices are views.
        gate: Of a gated study.
        other_domain: What sets the study apart from training.
        facts: Of the image, where they are known already.
    """
    masks = [one.mask for one in said]
    agreements = agreement(masks) if len(masks) > 1 else [math.nan] * len(masks)
    spread = volume_spread_pct([float(np.count_nonzero(mask)) for mask in masks]) if len(masks) > 1 else math.nan
    predicted, why = _predicted(said, agreements, record)
    flags = [*_of_networks(kept, said, folds), *_of_domain(other_domain)]
    if record is not None:
        figures = _figures(kept, image, spacing_mm, is_projection, facts or image_facts(image, spacing_mm))
        figures |= {
            "agreement": float(np.mean(agreements)) if agreements else math.nan,
            "spread_pct": spread,
            "predicted_dice": math.nan if predicted is None else predicted.value,
        }
        unit = _unit(spacing_mm, is_projection)
        flags += [
            flag
            for code, name, severity, words in _CHECKS
            if (flag := _passed(code, severity, words, figures[name], record.limits.get(name), unit, gate)) is not None
        ]
    flags.sort(key=lambda flag: -SEVERITIES[flag.severity])
    score, reason = _look_first(flags, predicted)
    return Quality(
        predicted_dice=None if predicted is None else predicted.value,
        low=None if predicted is None else predicted.low,
        high=None if predicted is None else predicted.high,
        why_no_dice=why,
        fold_agreement=_or_none(float(np.mean(agreements))) if agreements else None,
        volume_spread_pct=_or_none(spread),
        flags=tuple(flags),
        look_first=score,
        reason=reason,
    )


# --- Private helpers --------------------------------------------------------------------------------------------------

_CHECKS = (
    (
        "low_predicted_dice",
        "predicted_dice",
        "urgent",
        "its predicted Dice is {value:.2f} (usual: from {limit:.2f})",
    ),
    (
        "truncated",
        "edge_share_pct",
        "urgent",
        "{value:.3g} % of the outline lies in the outermost planes of the image (usual: up to {limit:.3g} %): "
        "the heart may be cut off",
    ),
    (
        "hot_neighbor",
        "contact_ratio",
        "attention",
        "beside the outline uptake goes on at {value:.2f} times that of the wall without a valley (usual: up to "
        "{limit:.2f}): gut or liver may touch it or be part of it",
    ),
    (
        "bulge",
        "bulge",
        "attention",
        "one side of it is {value:.2f} times as thick as the middle one (usual: up to {limit:.2f}): gut or liver may "
        "be part of it",
    ),
    ("odd_size", "size", "attention", "its size is {value:.4g}{unit}, the usual ends at {limit:.4g}{unit}"),
    (
        "odd_shape",
        "elongation",
        "attention",
        "it is {value:.2f} times as long as wide, the usual ends at {limit:.2f}",
    ),
    (
        "odd_reach",
        "reach_ratio",
        "attention",
        "it reaches {value:.2f} times as far as a ball of its size (usual: up to {limit:.2f}): it may have a tail",
    ),
    (
        "low_counts",
        "noise",
        "attention",
        "the noise of {image} is {value:.3g} of its bright values (usual: up to {limit:.3g}): there are few counts",
    ),
    (
        "low_total",
        "total",
        "attention",
        "the values of {image} add up to {value:.4g} (usual: from {limit:.4g}): there are few counts",
    ),
    (
        "folds_disagree",
        "agreement",
        "attention",
        "the networks agree with one another with a mean Dice of {value:.2f} (usual: from {limit:.2f})",
    ),
    (
        "volumes_disagree",
        "spread_pct",
        "attention",
        "the volumes of the networks scatter by {value:.3g} % (usual: up to {limit:.3g} %)",
    ),
    (
        "parts_removed",
        "removed_pct",
        "notice",
        "parts of {value:.3g} % of its size were removed as no part of the heart (usual: up to {limit:.3g} %)",
    ),
)
"""Code, figure, severity and sentence."""


def _predicted(
    said: Sequence[Opinion], agreements: Sequence[float], record: QualityRecord | None
) -> tuple[PredictedDice | None, str]:
    if record is None:
        return None, NO_RECORD
    if not said:
        return None, "no network gave finite probabilities"
    return record.predicted([(one.expected_dice, with_) for one, with_ in zip(said, agreements, strict=True)])


def _figures(
    kept: Kept, image: Image, spacing_mm: SpacingMm | None, is_projection: bool, facts: ImageFacts
) -> dict[str, float]:
    look = outline_look(kept.mask, image, spacing_mm, is_projection=is_projection)
    number = int(np.count_nonzero(kept.mask))
    return {
        **vars(look),
        "noise": math.nan if facts.noise is None else facts.noise,
        "total": facts.total,
        "removed_pct": 100 * kept.num_voxels_removed / number if number else math.nan,
    }


def _of_networks(kept: Kept, said: Sequence[Opinion], folds: Sequence[int]) -> list[Flag]:
    if not kept.mask.any():
        return [Flag("empty_mask", "urgent", "nothing was found that looks like LV", 0.0)]
    finite = {one.fold for one in said}
    flags = []
    silent = [fold for fold in folds if fold not in finite]
    if silent:
        sentence = f"the network of fold {_listed(silent)} gave no finite probabilities and was left out"
        flags.append(Flag("network_failed", "urgent", sentence, float(len(silent)), 0.0))
    empty = [one.fold for one in said if not one.mask.any()]
    if empty:
        sentence = f"the network of fold {_listed(empty)} found nothing where the others did"
        flags.append(Flag("network_empty", "urgent", sentence, float(len(empty)), 0.0))
    return flags


def _of_domain(other_domain: Sequence[str]) -> list[Flag]:
    return [Flag("other_domain", "attention", f"unlike training: {text}") for text in other_domain]


def _passed(
    code: str, severity: str, words: str, value: float, limit: Limit | None, unit: str, gate: str
) -> Flag | None:
    if limit is None or not limit.is_passed(value):
        return None
    end = limit.nearest(value)
    image = f"gate {gate}" if gate else "the image"
    sentence = words.format(value=value, limit=end, unit=unit, image=image)
    return Flag(code, severity, sentence, value, end, limit.rule)


def _look_first(flags: Sequence[Flag], predicted: PredictedDice | None) -> tuple[float, str]:
    worst = SEVERITIES[flags[0].severity] if flags else 0
    if predicted is None:
        return worst + 0.5, flags[0].sentence if flags else "nothing unusual; its Dice was not predicted"
    low = predicted.value if predicted.low is None else predicted.low
    said = f"predicted Dice {predicted.value:.2f}"
    if predicted.low is not None and predicted.high is not None:
        said += f" ({predicted.low:.2f} to {predicted.high:.2f})"
    return round(worst + min(1 - low, 0.999), 3), flags[0].sentence if flags else f"nothing unusual; {said}"


def _unit(spacing_mm: SpacingMm | None, is_projection: bool) -> str:
    if spacing_mm is None:
        return " pixels" if is_projection else " voxels"
    return " mm2" if is_projection else " ml"


def _listed(folds: Sequence[int]) -> str:
    return " and ".join(map(str, folds))


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
