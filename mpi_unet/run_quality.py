"""From the out-of-fold masks of a run to what ``predict`` judges new masks by.

The Dice of a new mask can only be learnt from cases that the network did not learn. Each case has one out-of-fold
network; and the networks of the folds that used it to choose their epoch, and for nothing else, give a second opinion.
Networks that learnt a case agree about it far better than about a new one, so they are not asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.domain import OutlineFacts, image_facts
from mpi_unet.cohort.nifti import read_image, read_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.evaluation.components import Kept, clean_case
from mpi_unet.evaluation.outline_look import outline_look
from mpi_unet.evaluation.overlap import dice, frame_counts
from mpi_unet.evaluation.predicted_dice import agreement, expected_dice, volume_spread_pct
from mpi_unet.evaluation.quality import QualityCase, QualityRecord
from mpi_unet.run import Run
from mpi_unet.shapes import Mask, SpacingMm

__all__ = ["quality_of_run", "removed_pct"]


def quality_of_run(run: Run, cohort: Cohort, cases: Sequence[Case], reader: str, known: OutlineFacts) -> QualityRecord:
    """Look at every out-of-fold case of a run, one at a time.

    Args:
        run: Whose folds are done and which divided patients.
        cohort: Of the run.
        cases: Those that were held out.
        reader: Whose outlines were learnt.
        known: Sizes and places of these outlines.
    """
    num_folds = len(sorted(run.folder.glob("fold_*")))
    looked = [_case(run, cohort, case, reader, known, num_folds) for case in cases]
    lacking = sum(not run.probability(case.case_id).is_file() for case in cases)
    why = f"the run kept no probabilities of {lacking} cases (prediction.probabilities=false)" if lacking else ""
    return QualityRecord(tuple(looked), why)


def removed_pct(kept: Kept) -> float:
    """Voxels that cleaning removed in percent of those that it kept; NaN for an empty mask."""
    number = int(np.count_nonzero(kept.mask))
    return 100 * kept.num_voxels_removed / number if number else float("nan")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _case(run: Run, cohort: Cohort, case: Case, reader: str, known: OutlineFacts, num_folds: int) -> QualityCase:
    volume, target = case.read_image(), case.read_mask(reader)
    spacing = volume.spacing_mm if cohort.spacing_known else None
    is_projection = cohort.domain == "projection"

    def cleaned(path: Path) -> Kept:
        return _cleaned(read_mask(path), spacing, known, is_projection)

    kept = cleaned(run.prediction(case.case_id))
    files = [run.validation_mask(fold, case.case_id) for fold in range(num_folds)]
    others = [cleaned(file).mask for file in files if file.is_file()]
    probability = run.probability(case.case_id)
    facts = image_facts(volume.array, spacing)
    undefined = float("nan")
    return QualityCase(
        case_id=case.case_id,
        patient_id=case.patient_id,
        look=outline_look(target, volume.array, spacing, is_projection=is_projection),
        total=facts.total,
        noise=undefined if facts.noise is None else facts.noise,
        dice=_score(kept.mask, target),
        expected_dice=expected_dice(read_image(probability).array, kept.mask) if probability.is_file() else undefined,
        agreement=agreement([kept.mask, *others])[0] if others else undefined,
        spread_pct=_spread([kept.mask, *others]) if others else undefined,
        neighbor_ratio=outline_look(kept.mask, volume.array, spacing, is_projection=is_projection).neighbor_ratio,
        removed_pct=removed_pct(kept),
    )


def _cleaned(mask: Mask, spacing_mm: SpacingMm | None, known: OutlineFacts, is_projection: bool) -> Kept:
    return clean_case(mask, spacing_mm or (1.0, 1.0, 1.0), known, is_projection=is_projection, by_place=True)


def _spread(masks: Sequence[Mask]) -> float:
    return volume_spread_pct([float(np.count_nonzero(mask)) for mask in masks])


def _score(preds: Mask, target: Mask) -> float:
    """Dice; undefined where both are empty."""
    value = float(dice(frame_counts(preds, target).sum(axis=0)))
    return value if math.isfinite(value) else float("nan")
