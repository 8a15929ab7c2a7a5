"""The objects of one image: segmentation, report, pictures, page, each on its own.

What cannot be made is said in words and keeps nothing else back. A mask that is empty in one gate gives no segmentation
of that gate; masks of projections and of images without a place give none at all, but report and pictures are made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydicom.dataset import Dataset

from mpi_unet.cohort.nifti import read_mask
from mpi_unet.dicom.capture_writing import encapsulated_pdf, secondary_capture
from mpi_unet.dicom.derived import Maker
from mpi_unet.dicom.derived_codes import QUANTITIES, SEGMENTS
from mpi_unet.dicom.origin import Origin
from mpi_unet.dicom.report_writing import Flag, Measured, measurement_report
from mpi_unet.dicom.segmentation_writing import segmentations
from mpi_unet.errors import CardiacError, DicomError
from mpi_unet.inference.dicom_numbers import Rows, flags_of, measured_of
from mpi_unet.inference.dicom_pictures import Shown, as_pdf, as_picture, polar_figure, summary_figure
from mpi_unet.inference.hearts import Heart, heart_file, read_heart
from mpi_unet.inference.results import StudyResult, mask_file
from mpi_unet.shapes import Mask

if TYPE_CHECKING:
    from mpi_unet.inference.inputs import Study
    from mpi_unet.inference.model import TrainedModel

__all__ = ["Made", "objects_of"]


@dataclass(frozen=True)
class Made:
    """The objects of one image.

    Attributes:
        objects: In the order of segmentations, report, pictures, page.
        kinds: Which kinds are among them.
        problems: What was asked for and cannot be made, in words.
    """

    objects: tuple[Dataset, ...]
    kinds: tuple[str, ...]
    problems: tuple[str, ...]


def objects_of(
    origin: Origin,
    studies: Sequence[Study],
    results: Sequence[StudyResult],
    rows: Rows,
    maker: Maker,
    kinds: Collection[str],
    output: Path,
    model: TrainedModel,
) -> Made:
    """Make the objects of one image.

    Args:
        origin: The image.
        studies: Its cases, in the order of their gates.
        results: Theirs.
        rows: Theirs in the tables.
        maker: What made them.
        kinds: Which are wanted: ``seg``, ``sr``, ``sc``, ``pdf``.
        output: Folder of the predictions.
        model: What segmented them.
    """
    done = [(study, one) for study, one in zip(studies, results, strict=True) if one.status == "segmented"]
    hearts = {one.study_id: _heart(output, one.study_id) for _, one in done}
    label, num_gates = model.domain.label, origin.image.num_gates
    objects: list[Dataset] = []
    problems: list[str] = []
    masks: tuple[Dataset, ...] = ()
    if "seg" in kinds:
        try:
            masks = _segmentations(origin, done, hearts, label, maker, output)
        except DicomError as error:
            problems.append(f"no segmentation: {' '.join(str(error).split())}")
        objects += masks
    there = {int(one.InstanceNumber) - 1: {str(item.SegmentLabel) for item in one.SegmentSequence} for one in masks}
    measured = measured_of([one for _, one in done], rows, num_gates=num_gates, label=label, segments=there)
    flags = flags_of(results, problems)
    if "sr" in kinds:
        objects.append(measurement_report(origin, measured, maker, segmentations=masks, flags=flags))
    if {"sc", "pdf"} & set(kinds):
        objects += _pictures(origin, *done[0], hearts, measured, flags, maker, kinds, output)
    made = {"SEG": "seg", "SR": "sr", "OT": "sc", "DOC": "pdf"}
    found = {made[str(one.Modality)] for one in objects}
    return Made(tuple(objects), tuple(kind for kind in kinds if kind in found), tuple(problems))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _segmentations(
    origin: Origin,
    done: Sequence[tuple[Study, StudyResult]],
    hearts: Mapping[str, Heart | None],
    label: str,
    maker: Maker,
    output: Path,
) -> tuple[Dataset, ...]:
    """One object for each gate in which something was outlined."""
    if label not in SEGMENTS:
        raise DicomError(f"the network outlines {label!r}, which has no terms; expected {', '.join(SEGMENTS)}")
    volumes: dict[str, list[Mask]] = {label: []}
    gates: list[int] = []
    for study, result in done:
        mask = read_mask(mask_file(output, study.study_id))
        if not mask.any():
            continue
        gates.append(int(result.gate) - 1 if result.gate.isdecimal() else 0)
        volumes[label].append(mask)
        if label == "lv_wall":
            cavity = _cavity(mask, hearts[study.study_id], _affine(study, output))
            volumes.setdefault("lv_cavity", []).append(cavity)
    if not gates:
        raise DicomError("nothing was outlined")
    stacks = {name: np.stack(masks) for name, masks in volumes.items() if any(mask.any() for mask in masks)}
    which: Sequence[int] | Literal["sum"] = gates if done[0][1].gate.isdecimal() else "sum"
    return segmentations(origin, stacks, maker, gates=which)


def _cavity(wall: Mask, heart: Heart | None, affine: np.ndarray) -> Mask:
    """Voxels between endocardium and valve plane that are no wall; none where no surfaces were found."""
    from mpi_unet.cardiac.surfaces import heart_surfaces
    from mpi_unet.cardiac.volumes import cavity_mask

    if heart is None:
        return np.zeros_like(wall)
    try:
        surfaces = heart_surfaces(wall, affine, heart.axes)
    except CardiacError:
        return np.zeros_like(wall)
    z, y, x = wall.shape
    return cavity_mask(surfaces, (z, y, x), affine) & ~wall


def _pictures(
    origin: Origin,
    study: Study,
    result: StudyResult,
    hearts: Mapping[str, Heart | None],
    measured: Sequence[Measured],
    flags: Sequence[Flag],
    maker: Maker,
    kinds: Collection[str],
    output: Path,
) -> list[Dataset]:
    """Polar map and summary of the first segmented case, as pictures and as a page.

    A heart without axes has no polar map; summary and report say why.
    """
    volume = study.case.read_image()
    heart = hearts[study.study_id]
    gate = f", gate {result.gate} of {origin.image.num_gates}" if result.gate.isdecimal() else ""
    shown = Shown(
        title=f"{study.study_id}{gate}",
        run=maker.algorithm,
        image=volume.array,
        mask=read_mask(mask_file(output, study.study_id)),
        affine=volume.affine,
        spacing_mm=volume.spacing_mm,
        axes=heart.axes if heart else None,
        polar=heart.polar if heart else None,
        lines=[*_lines(measured, result), *([f"Missing: {result.measures.why_not}"] * bool(result.measures.why_not))],
        flags=[flag.text for flag in flags],
    )
    objects = []
    summary = summary_figure(shown)
    if "sc" in kinds:
        figures = {"Summary of the left ventricle": summary, "Polar map of the left ventricle": polar_figure(shown)}
        for number, (title, figure) in enumerate(figures.items(), start=1):
            if figure is not None:
                objects.append(
                    secondary_capture(origin, as_picture(figure), maker, title=title, number=number, burned_in=False)
                )
    if "pdf" in kinds:
        title = "Summary of the left ventricle"
        objects.append(encapsulated_pdf(origin, as_pdf(summary), maker, title=title, burned_in=False))
    return objects


def _lines(measured: Sequence[Measured], result: StudyResult) -> list[str]:
    """The numbers of the study, and those of the gate that is shown."""
    gate = int(result.gate) - 1 if result.gate.isdecimal() else None
    lines = []
    for one in measured:
        if one.aha_segment is not None or one.gate not in (None, gate):
            continue
        terms = QUANTITIES[one.quantity]
        where = "" if one.gate is None else f" (gate {one.gate + 1})"
        number = f"not measured, {one.why_not}" if one.value is None else f"{one.value:.4g} {terms.unit.value}"
        lines.append(f"{terms.title}{where}: {number}")
    return lines


def _heart(output: Path, study_id: str) -> Heart | None:
    path = heart_file(output, study_id)
    if not path.is_file():
        return None
    try:
        return read_heart(path)
    except CardiacError:
        return None


def _affine(study: Study, output: Path) -> np.ndarray:
    from mpi_unet.cohort.nifti import read_image

    return read_image(mask_file(output, study.study_id)).affine
