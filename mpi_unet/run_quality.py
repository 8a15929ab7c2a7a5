"""From the out-of-fold masks of a run to what ``predict`` judges new masks by.

The Dice of a new mask can only be learnt from cases that the network did not learn. Each case has one out-of-fold
network; and the networks of the folds that used it to choose their epoch, and for nothing else, give a second opinion.
Networks that learnt a case agree about it far better than about a new one, so they are not asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.domain import OutlineFacts, image_facts
from mpi_unet.cohort.nifti import read_image, read_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.evaluation.components import Kept, clean_case
from mpi_unet.evaluation.outline_look import outline_look
from mpi_unet.evaluation.overlap import dice, frame_counts
from mpi_unet.evaluation.predicted_dice import agreement, expected_dice, volume_spread_pct
from mpi_unet.evaluation.quality import QualityCase, QualityRecord, View
from mpi_unet.run import Run
from mpi_unet.shapes import Image, Mask, SpacingMm

__all__ = ["quality_of_run", "removed_pct"]


def quality_of_run(
    run: Run, cohort: Cohort, cases: Sequence[Case], reader: str, known: OutlineFacts, threshold: float = 0.5
) -> QualityRecord:
    """Look at every out-of-fold case of a run, one at a time.

    Args:
        run: Whose folds are done and which divided patients.
        cohort: Of the run.
        cases: Those that were held out.
        reader: Whose outlines were learnt.
        known: Sizes and places of these outlines.
        threshold: Probability from which on the run took a voxel for LV.
    """
    num_folds = len(sorted(run.folder.glob("fold_*")))
    is_projection = cohort.domain == "projection"

    def look(case: Case) -> QualityCase:
        spacing = case.read_image().spacing_mm if cohort.spacing_known else None
        heard = _heard(run, case, num_folds)

        def cleaned(mask: Mask) -> Kept:
            return clean_case(mask, spacing or (1.0, 1.0, 1.0), known, is_projection=is_projection, by_place=True)

        return _case(case, reader, heard, cleaned, threshold, spacing, is_projection)

    looked = [look(case) for case in cases]
    lacking = sum(not run.probability(case.case_id).is_file() for case in cases)
    why = f"the run kept no probabilities of {lacking} cases (prediction.probabilities=false)" if lacking else ""
    return QualityRecord(tuple(looked), why)


def removed_pct(kept: Kept) -> float:
    """Voxels that cleaning removed in percent of those that it kept; NaN for an empty mask."""
    number = int(np.count_nonzero(kept.mask))
    return 100 * kept.num_voxels_removed / number if number else float("nan")


# --- Private helpers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Heard:
    """What a network that did not learn a case left of it."""

    mask: Mask
    probability: Image | None


def _heard(run: Run, case: Case, num_folds: int) -> list[_Heard]:
    """The out-of-fold network, then those of the folds whose epoch the case helped to choose."""
    files = [(run.prediction(case.case_id), run.probability(case.case_id))]
    files += [
        (mask, run.validation_probability(fold, case.case_id))
        for fold in range(num_folds)
        if (mask := run.validation_mask(fold, case.case_id)).is_file()
    ]
    return [
        _Heard(read_mask(mask), read_image(probability).array if probability.is_file() else None)
        for mask, probability in files
    ]


def _case(
    case: Case,
    reader: str,
    heard: Sequence[_Heard],
    cleaned: Callable[[Mask], Kept],
    threshold: float,
    spacing: SpacingMm | None,
    is_projection: bool,
) -> QualityCase:
    image, target = case.read_image().array, case.read_mask(reader)
    facts = image_facts(image, spacing)
    kept = cleaned(heard[0].mask)
    masks = [kept.mask, *(cleaned(one.mask).mask for one in heard[1:])]
    undefined = float("nan")
    agreements = agreement(masks) if len(masks) > 1 else [undefined]
    scores = [_score(mask, target) for mask in masks]
    sure = [
        undefined if one.probability is None else expected_dice(one.probability, mask)
        for one, mask in zip(heard, masks, strict=True)
    ]
    views = [View(*all_three) for all_three in zip(sure, agreements, scores, strict=True)]
    mean_dice = scores[0]
    known = [one.probability for one in heard if one.probability is not None]
    if len(known) == len(heard) > 1:
        mean_dice = _score(cleaned(np.mean(known, axis=0) >= threshold).mask, target)
    doing = outline_look(kept.mask, image, spacing, is_projection=is_projection)
    return QualityCase(
        case_id=case.case_id,
        patient_id=case.patient_id,
        look=outline_look(target, image, spacing, is_projection=is_projection),
        total=facts.total,
        noise=undefined if facts.noise is None else facts.noise,
        views=tuple(views) if len(known) == len(heard) else (views[0],),
        mean_dice=mean_dice,
        spread_pct=_spread(masks) if len(masks) > 1 else undefined,
        contact_ratio=doing.contact_ratio,
        bulge=doing.bulge,
        removed_pct=removed_pct(kept),
    )


def _spread(masks: Sequence[Mask]) -> float:
    return volume_spread_pct([float(np.count_nonzero(mask)) for mask in masks])


def _score(preds: Mask, target: Mask) -> float:
    """Dice; undefined where both are empty."""
    value = float(dice(frame_counts(preds, target).sum(axis=0)))
    return value if math.isfinite(value) else float("nan")
