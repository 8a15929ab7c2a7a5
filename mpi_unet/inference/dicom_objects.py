"""The objects of one image: segmentation, report, pictures, page, each on its own.

What cannot be made is said in words and keeps nothing else back. A mask that is empty in one gate gives no segmentation
of that gate; masks of projections and of images without a place give none at all, but report and pictures are made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydicom.dataset import Dataset

from mpi_unet.cohort.nifti import read_mask
from mpi_unet.dicom.capture_writing import encapsulated_pdf, secondary_capture
from mpi_unet.dicom.derived import Maker
from mpi_unet.dicom.derived_codes import SEGMENTS
from mpi_unet.dicom.origin import Origin
from mpi_unet.dicom.report_writing import Flag, measurement_report
from mpi_unet.dicom.segmentation_writing import segmentations
from mpi_unet.errors import CardiacError, DicomError
from mpi_unet.inference.dicom_numbers import Rows, as_ascii, measured_of
from mpi_unet.inference.facts import ModelFacts
from mpi_unet.inference.hearts import Heart, heart_file, read_heart
from mpi_unet.inference.page_content import study_content
from mpi_unet.inference.page_numbers import flags_for_page
from mpi_unet.inference.results import StudyResult, mask_file
from mpi_unet.report import study_page
from mpi_unet.report.study_summary import pdf_of, picture_of, polar_picture, summary_figure
from mpi_unet.shapes import Mask

if TYPE_CHECKING:
    from mpi_unet.inference.inputs import Study

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
    facts: ModelFacts,
    *,
    with_surfaces: bool,
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
        facts: What segmented them.
        with_surfaces: Whether surfaces were asked for.
    """
    done = [(study, one) for study, one in zip(studies, results, strict=True) if one.status == "segmented"]
    hearts = {one.study_id: _heart(output, one.study_id) for _, one in done}
    label, num_gates = facts.label, origin.image.num_gates
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
    flags = list(_flags(results, problems))
    if "sr" in kinds:
        objects.append(measurement_report(origin, measured, maker, segmentations=masks, flags=flags))
    if {"sc", "pdf"} & set(kinds):
        content = study_content(studies, results, rows, output, facts, with_surfaces=with_surfaces)
        not_made = [study_page.Flag("not_made", "attention", problem) for problem in problems]
        objects += _pictures(origin, replace(content, flags=(*content.flags, *not_made)), maker, kinds)
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
    origin: Origin, content: study_page.StudyContent, maker: Maker, kinds: Collection[str]
) -> Iterator[Dataset]:
    """Summary and polar map as pictures, and the summary as a page; they name nobody.

    A heart without axes has no polar map; summary and report say why.
    """
    title = "Summary of the left ventricle"
    figure = summary_figure(content)
    if "sc" in kinds:
        pictures = {title: picture_of(figure), "Polar map of the left ventricle": polar_picture(content)}
        for number, (name, picture) in enumerate(pictures.items(), start=1):
            if picture is not None:
                yield secondary_capture(origin, picture, maker, title=name, number=number, burned_in=False)
    if "pdf" in kinds:
        yield encapsulated_pdf(origin, pdf_of(figure), maker, title=title, burned_in=False)


def _flags(results: Sequence[StudyResult], problems: Sequence[str]) -> Iterator[Flag]:
    """What the reader of the report should look at: what the page says, and what could not be made, in words."""
    flags = study_page.in_order(flags_for_page(results))
    for one in flags:
        yield Flag(one.code, as_ascii(f"{one.word}: {one.sentence}"))
    removed = sum(result.parts_removed for result in results)
    if removed and "parts_removed" not in {one.code for one in flags}:
        yield Flag("parts_removed", f"{removed} {'part was' if removed == 1 else 'parts were'} removed that lay apart")
    for problem in problems:
        yield Flag("not_made", as_ascii(problem))


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
