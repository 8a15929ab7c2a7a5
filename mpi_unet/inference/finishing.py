"""From probabilities to a mask, what was measured on it, and the files of one study: all that needs no network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mpi_unet.cardiac.reorient import short_axis, short_axis_mask
from mpi_unet.cohort.domain import ImageFacts, OutlineFacts
from mpi_unet.cohort.nifti import Volume, write_image, write_mask
from mpi_unet.errors import PredictionError, RunError
from mpi_unet.evaluation.components import Kept, clean_case
from mpi_unet.evaluation.quality import QualityRecord
from mpi_unet.inference.hearts import Heart, heart_file, write_heart
from mpi_unet.inference.inputs import Study
from mpi_unet.inference.measures import has_sides_of_picture, measure_heart
from mpi_unet.inference.options import Options
from mpi_unet.inference.quality import judge, opinions
from mpi_unet.inference.results import StudyResult, failed, keep_result, mask_file, remove_heart, short_axis_files
from mpi_unet.shapes import Image, Mask

__all__ = ["Answer", "Learnt", "ReadStudy", "finish_study"]

Answer = Float32[np.ndarray, "network z y x"] | Exception
"""Probabilities of LV of one study by the network of each fold, or why there are none."""

SIDES = "its sides are those of the picture, the inferior wall below: the file does not know the patient's directions"
"""Remark on a heart whose walls were named that way."""


@dataclass(frozen=True)
class Learnt:
    """What finishing a study needs to know of a trained model; small, for it goes to other processes.

    Attributes:
        threshold: Probability from which on a voxel is LV.
        label: What outlines of training mean.
        outlines: Sizes and places of the outlines of training.
        spacing_known: Whether these are in mm.
        quality: What the run knows about the quality of masks; None for runs that do not.
    """

    threshold: float
    label: str
    outlines: OutlineFacts
    spacing_known: bool
    quality: QualityRecord | None = None


@dataclass(frozen=True)
class ReadStudy:
    """A study with its image.

    Attributes:
        study: The study.
        volume: Its image as it is stored.
        result: What is known of it so far.
        is_placed_alike: Whether ventricles may be looked for where those of training lay.
        facts: Of the image; None to find them again.
    """

    study: Study
    volume: Volume
    result: StudyResult
    is_placed_alike: bool = True
    facts: ImageFacts | None = None


def finish_study(
    read: ReadStudy,
    answer: Answer,
    learnt: Learnt,
    output: str | Path,
    options: Options,
) -> StudyResult:
    """Turn probabilities into a mask, measure it, and write everything, the result last."""
    study, volume = read.study, read.volume
    if isinstance(answer, Exception):
        return keep_result(failed(read.result, answer), output)
    try:
        is_volume = study.domain != "projection"
        folds, spacing = read.result.folds, volume.spacing_mm if study.spacing_known else None

        known: dict[bytes, Kept] = {}

        def cleaned(mask: Mask) -> Kept:
            voxels = mask.tobytes()  # a run of one fold asks twice about one mask
            if voxels not in known:
                known[voxels] = _cleaned(mask, read, learnt, options)
            return known[voxels]

        said = opinions(answer, folds, learnt.threshold, cleaned)
        probability = _mean_probability(answer)
        kept = cleaned(probability >= learnt.threshold)
        quality = judge(
            kept,
            said,
            volume.array,
            spacing,
            folds=folds,
            record=learnt.quality,
            is_projection=not is_volume,
            gate=study.case.gate,
            other_domain=read.result.other_domain,
            facts=read.facts,
        )
        measures, heart = measure_heart(
            kept.mask,
            volume.array,
            volume.affine,
            spacing,
            domain=study.domain,
            label=learnt.label,
            with_surfaces=options.measurements == "cardiac",
            is_placed=study.is_placed,
        )
        if options.probabilities:
            write_image(
                Path(output) / "probabilities" / f"{study.study_id}.nii.gz",
                probability,
                volume.affine,
                is_distance_z=is_volume,
            )
        write_mask(mask_file(output, study.study_id), kept.mask, volume.affine, is_distance_z=is_volume)
        if heart is None:
            remove_heart(output, study.study_id)
        else:
            write_heart(heart_file(output, study.study_id), heart)
            if options.short_axis and study.domain == "transaxial":
                _write_short_axis(read, kept.mask, heart, output)
    except RunError:
        raise
    except Exception as error:
        return keep_result(failed(read.result, error), output)
    return keep_result(
        replace(
            read.result,
            status="segmented",
            remarks=_remarks(read, kept, heart),
            parts_removed=kept.num_removed,
            voxels_removed=kept.num_voxels_removed,
            num_voxels=int(np.count_nonzero(kept.mask)),
            measures=measures,
            quality=quality,
        ),
        output,
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _remarks(read: ReadStudy, kept: Kept, heart: Heart | None) -> tuple[str, ...]:
    if not kept.mask.any():
        return ("nothing was found that looks like LV",)
    study, affine = read.study, read.volume.affine
    if heart is None or not has_sides_of_picture(affine, domain=study.domain, is_placed=study.is_placed):
        return kept.remarks
    return (*kept.remarks, SIDES)


def _write_short_axis(read: ReadStudy, mask: Mask, heart: Heart, output: str | Path) -> None:
    """Image and mask along the axes of the heart, with the affine that says where they lie in the patient."""
    volume = read.volume
    image_file, turned_mask_file = short_axis_files(output, read.study.study_id)
    image, affine = short_axis(volume.array, volume.affine, heart.axes)
    turned, _ = short_axis_mask(mask, volume.affine, heart.axes)
    write_image(image_file, image, affine, is_distance_z=True)
    write_mask(turned_mask_file, turned, affine, is_distance_z=True)


def _cleaned(mask: Mask, read: ReadStudy, learnt: Learnt, options: Options) -> Kept:
    """The mask without what is no ventricle; places of training mean nothing in images of another domain."""
    if options.component == "none":
        return Kept(mask, 0, 0)
    return clean_case(
        mask,
        read.volume.spacing_mm if learnt.spacing_known else (1.0, 1.0, 1.0),
        learnt.outlines,
        is_projection=read.study.domain == "projection",
        by_place=options.component == "plausible" and read.is_placed_alike,
    )


def _mean_probability(answer: Float32[np.ndarray, "network z y x"]) -> Image:
    """Mean over the networks, without those that gave something else than numbers."""
    finite = [probability for probability in answer if np.isfinite(probability).all()]
    if not finite:
        raise PredictionError(
            "no network gave finite probabilities; look at the image, and train anew if it happens with every study"
        )
    return np.mean(finite, axis=0)
