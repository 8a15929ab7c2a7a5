"""Outline files by their format: which one a file has, and what readers drew in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mpi_unet.dicom.nm.file import quiet
from mpi_unet.errors import CohortError, DicomError
from mpi_unet.sources.naming import CaseFinder
from mpi_unet.sources.outlines.drawn import Drawing, VolumeLabel
from mpi_unet.sources.outlines.json_files import json_drawings
from mpi_unet.sources.outlines.tables import FileFacts, csv_drawings, read_number
from mpi_unet.sources.raster import RASTER_SUFFIXES
from mpi_unet.sources.volume_files import VOLUME_SUFFIXES, read_volume_file

__all__ = ["FORMATS", "drawings_of", "format_of"]

FORMATS = ("csv", "rtstruct", "seg", "volume", "json")
"""Contours in a table, DICOM structure sets and segmentations, label maps (NIfTI, NRRD), LabelMe and COCO."""

SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
STRUCTURE_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"


def format_of(path: Path) -> str:
    """The format of a file by its name and, of DICOM files, by its object.

    Returns:
        One of `FORMATS`; empty for what holds no outlines: images, DICOM files of other kinds, anything else.
    """
    name = path.name.lower()
    if name.endswith((".csv", ".tsv")):
        return "csv"
    if name.endswith(".json"):
        return "json"
    if name.endswith(VOLUME_SUFFIXES):
        return "volume"
    if name.endswith(RASTER_SUFFIXES):
        return ""
    return _dicom_format(path)


def drawings_of(path: Path, kind: str, facts: FileFacts, finder: CaseFinder, problems: list[str]) -> list[Drawing]:
    """What readers drew in one file.

    Args:
        path: The file.
        kind: Its format, one of `FORMATS`.
        facts: What is known of it.
        finder: Knows the cohort.
        problems: Gets a sentence for everything that cannot be used.
    """
    try:
        if kind == "csv":
            return csv_drawings(path, facts, finder, problems)
        if kind == "json":
            return json_drawings(path, facts, problems)
        if kind == "rtstruct":
            return _structure_drawings(path, facts)
        if kind == "seg":
            return _segment_drawings(path, facts)
        return _volume_drawings(path, facts)
    except (CohortError, DicomError) as error:
        problems.append(f"{facts.name}: {str(error).removeprefix(f'{path.name}: ')}")
        return []


# --- Private helpers --------------------------------------------------------------------------------------------------


def _dicom_format(path: Path) -> str:
    import pydicom

    try:
        with quiet():
            dataset = pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
            sop_class = str(dataset.get("SOPClassUID", ""))
    except Exception:  # pydicom raises whatever it likes on a file that is no DICOM
        return ""
    if sop_class in SEGMENTATION_CLASSES:
        return "seg"
    return "rtstruct" if sop_class == STRUCTURE_CLASS else ""


def _structure_drawings(path: Path, facts: FileFacts) -> list[Drawing]:
    from mpi_unet.dicom.contours import read_structures

    return [
        Drawing(
            file=facts.name,
            where=f"{facts.name}, contour {contour.number} of {contour.structure!r}",
            reader=facts.reader,
            read=read_number(facts.groups),
            groups=facts.groups,
            structure=contour.structure,
            frame=None,
            shape=contour,
            source_uid=contour.sop_instance_uid,
        )
        for contour in read_structures(path)
    ]


def _segment_drawings(path: Path, facts: FileFacts) -> list[Drawing]:
    from mpi_unet.dicom.segmentation import read_segments

    drawings = []
    for segment in read_segments(path):
        if len(segment.source_uids) > 1 and not facts.groups:
            raise CohortError(
                f"was made from {len(segment.source_uids)} images; say its case with source.pattern and a named group"
            )
        drawings.append(
            Drawing(
                file=facts.name,
                where=f"{facts.name}, segment {segment.number}",
                reader=facts.reader,
                read=read_number(facts.groups),
                groups=facts.groups,
                structure=segment.label,
                frame=None,
                shape=VolumeLabel(segment.mask, segment.affine_ras, is_cut=True),
                source_uid=segment.source_uids[0] if len(segment.source_uids) == 1 else "",
            )
        )
    return drawings


def _volume_drawings(path: Path, facts: FileFacts) -> list[Drawing]:
    """The label map of a case; its structures are the segments of a Slicer file, else the values."""
    file = read_volume_file(path)
    values = file.values
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise CohortError("holds fractions; expected a label map of whole numbers")
    if len(values) > 1 and not file.segments:
        raise CohortError(f"has {len(values)} gates; expected one file a case: every gate is a case of its own")
    segments = file.segments or {str(int(value)): (0, int(value)) for value in np.unique(values) if value}
    beyond = [name for name, (layer, _) in segments.items() if layer >= len(values)]
    if beyond or not segments:
        raise CohortError(
            f"names layers that it does not have ({', '.join(beyond)}); save it again" if beyond else "outlines nothing"
        )
    return [
        Drawing(
            file=facts.name,
            where=f"{facts.name}, {'segment' if file.segments else 'value'} {name}",
            reader=facts.reader,
            read=read_number(facts.groups),
            groups=facts.groups,
            structure=name,
            frame=None,
            shape=VolumeLabel(
                values[layer] == value, file.affine if file.is_placed else None, is_cut=bool(file.segments)
            ),
        )
        for name, (layer, value) in segments.items()
    ]
