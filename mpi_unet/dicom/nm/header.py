"""What a file says about itself, without its pixels: enough to sort ten thousand files.

Everything is text as the file has it, empty where it says nothing. What identifies the patient is there, too, since
pseudonyms are made of it, but stays out of what is printed of a header.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from mpi_unet.dicom.nm.elements import Elements
from mpi_unet.dicom.nm.file import open_dataset, quiet, transfer_syntax
from mpi_unet.dicom.nm.kind import NmKind, kind_of_known
from mpi_unet.errors import DicomError

__all__ = ["NmHeader", "header_of", "read_header"]


@dataclass(frozen=True)
class NmHeader:
    """The descriptive facts of a DICOM file of any kind.

    Attributes:
        kind: What a Nuclear Medicine image is; None for other objects and where Image Type does not say it.
        modality: ``"NM"`` for nuclear medicine.
        image_type: All values.
        sop_class_uid: What kind of object it is.
        sop_instance_uid: This very object.
        series_uid: Its series.
        study_uid: Its study.
        frame_of_reference_uid: What its coordinates refer to.
        transfer_syntax: How it is encoded.
        rows: Pixels along a column; 0 where the file does not say it. Like the next two not checked against anything.
        columns: Pixels along a row.
        num_frames: Number of frames.
        num_slices: Number of slices.
        num_gates: Number of time slots.
        series_description: Free text.
        study_description: Free text.
        protocol: Free text.
        image_id: Free text that some cameras put the name of the reconstruction in.
        image_comments: Free text.
        patient_state: Meanings of the codes that say rest or stress (Acquisition Context), joined by blanks.
        view: Meaning of the code that says what the slices cut.
        tracer: Name of the radiopharmaceutical.
        patient_position: Such as ``"FFS"``.
        manufacturer: Of the camera.
        model: Of the camera.
        station: Name of the camera in its department.
        counts: Counts Accumulated, as text.
        series_number: As text.
        instance_number: As text.
        series_time: As text.
        study_date: As text, ``"YYYYMMDD"``.
        study_time: As text.
        acquisition_datetime: Acquisition Date Time, or date and time put together.
        burned_in: Burned In Annotation.
        patient_id: Identifies the patient.
        issuer: Who gave the patient this id.
    """

    kind: NmKind | None
    modality: str
    image_type: tuple[str, ...]
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    transfer_syntax: str
    rows: int
    columns: int
    num_frames: int
    num_slices: int
    num_gates: int
    series_description: str
    study_description: str
    protocol: str
    image_id: str
    image_comments: str = field(repr=False)
    patient_state: str
    view: str
    tracer: str
    patient_position: str
    manufacturer: str
    model: str
    station: str
    counts: str
    series_number: str
    instance_number: str
    series_time: str = field(repr=False)
    study_date: str = field(repr=False)
    study_time: str = field(repr=False)
    acquisition_datetime: str = field(repr=False)
    burned_in: str
    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)


def read_header(source: str | Path | Dataset) -> NmHeader:
    """Read what a DICOM file says about itself, without its pixels.

    Args:
        source: A file, or a dataset that was read already.

    Raises:
        DicomError: The file is missing, no DICOM, or damaged before its pixels.
    """
    where = "dataset" if isinstance(source, Dataset) else Path(source).name
    dataset = source if isinstance(source, Dataset) else open_dataset(Path(source), pixels=False)
    with quiet():
        header = header_of(Elements(dataset, where))
    if not header.sop_class_uid and not header.modality:
        raise DicomError(
            f"{where}: has neither SOPClassUID (0008,0016) nor Modality (0008,0060); expected a DICOM object that says "
            "what it is; leave the file out"
        )
    return header


def header_of(elements: Elements) -> NmHeader:
    """The header of a dataset; what cannot be read is empty or 0."""
    image_type = elements.texts("ImageType")
    modality = elements.text("Modality").upper()
    return NmHeader(
        kind=kind_of_known(image_type) if modality in ("NM", "") else None,
        modality=modality,
        image_type=image_type,
        sop_class_uid=elements.text("SOPClassUID"),
        sop_instance_uid=elements.text("SOPInstanceUID"),
        series_uid=elements.text("SeriesInstanceUID"),
        study_uid=elements.text("StudyInstanceUID"),
        frame_of_reference_uid=elements.text("FrameOfReferenceUID"),
        transfer_syntax=transfer_syntax(elements.dataset),
        rows=_number(elements, "Rows"),
        columns=_number(elements, "Columns"),
        num_frames=_number(elements, "NumberOfFrames"),
        num_slices=_number(elements, "NumberOfSlices"),
        num_gates=_number(elements, "NumberOfTimeSlots"),
        series_description=elements.text("SeriesDescription"),
        study_description=elements.text("StudyDescription"),
        protocol=elements.text("ProtocolName"),
        image_id=elements.text("ImageID"),
        image_comments=elements.text("ImageComments"),
        patient_state=" ".join(_codes(elements, "AcquisitionContextSequence", "ConceptCodeSequence")),
        view=" ".join(_codes(elements, "DetectorInformationSequence", "ViewCodeSequence")[:1]),
        tracer=" ".join(_tracers(elements)),
        patient_position=elements.text("PatientPosition"),
        manufacturer=elements.text("Manufacturer"),
        model=elements.text("ManufacturerModelName"),
        station=elements.text("StationName"),
        counts=elements.text("CountsAccumulated"),
        series_number=elements.text("SeriesNumber"),
        instance_number=elements.text("InstanceNumber"),
        series_time=elements.text("SeriesTime"),
        study_date=elements.text("StudyDate"),
        study_time=elements.text("StudyTime"),
        acquisition_datetime=elements.text("AcquisitionDateTime")
        or elements.text("AcquisitionDate") + elements.text("AcquisitionTime"),
        burned_in=elements.text("BurnedInAnnotation").upper(),
        patient_id=elements.text("PatientID"),
        issuer=elements.text("IssuerOfPatientID"),
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _number(elements: Elements, keyword: str) -> int:
    try:
        return max(0, elements.integer(keyword) or 0)
    except DicomError:
        return 0


def _items(elements: Elements, keyword: str) -> tuple[Elements, ...]:
    try:
        return elements.items(keyword)
    except DicomError:
        return ()


def _codes(elements: Elements, sequence: str, code: str) -> list[str]:
    meanings = (each.text("CodeMeaning") for item in _items(elements, sequence) for each in _items(item, code))
    return [meaning for meaning in meanings if meaning]


def _tracers(elements: Elements) -> list[str]:
    items = _items(elements, "RadiopharmaceuticalInformationSequence")
    return [name for name in (item.text("Radiopharmaceutical") for item in items) if name]
