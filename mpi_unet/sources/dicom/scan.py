"""What lies in a folder tree: every file is looked at, whatever its name, and comes out as one `ScannedFile`.

Only headers are read here. A file is an image that may become a case, or it is left out with a *reason* in words that
name no person. What descriptions say is kept in memory for recognizing rest and stress; none of it is written.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, UID_dictionary

from mpi_unet.dicom.identity import patient_id_of
from mpi_unet.dicom.identity_pixels import SECONDARY_CAPTURES, burned_in
from mpi_unet.dicom.nm.file import MAX_FILE_BYTES, open_dataset, quiet
from mpi_unet.dicom.nm.kind import NmKind, kind_of_known
from mpi_unet.errors import DicomError, NotDicomError
from mpi_unet.sources.volume_files import VOLUME_SUFFIXES

__all__ = ["OWN_TEXTS", "SHARED_TEXTS", "Header", "ScannedFile", "every_file_below", "scan_file"]

OWN_TEXTS = ("SeriesDescription", "ImageID")
"""What is written about this one image."""

SHARED_TEXTS = (
    "ProtocolName",
    "StudyDescription",
    "StudyID",
    "RequestedProcedureDescription",
    "PerformedProcedureStepDescription",
)
"""What is written about the study, which may hold rest and stress."""

IDENTIFIERS = (
    "PatientName",
    "PatientID",
    "OtherPatientNames",
    "OtherPatientIDs",
    "PatientBirthName",
    "PatientMotherBirthName",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "InstitutionName",
)
"""Attributes whose words must not stand in a text that is kept."""

PLACEHOLDERS = frozenset(
    {"anon", "anonym", "anonyme", "anonymous", "anonymized", "anonymised", "anonymisiert"}
    | {"unknown", "none", "0", "x", "xx", "xxx"}
)
"""What stands for everybody in the PatientID of exports without identity, and so names nobody."""

MAX_TEXT = 1024
"""So many characters of a value are looked at; the standard allows 64 in most descriptions."""

TRANSMISSION = "TRANSMISSION"
"""Value 4 of Image Type for counts of a source outside of the patient (PS3.3 C.8.4.9.1.1.4)."""

ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")
NOT_DICOM = "no DICOM file"
VOLUME = "a volume and no DICOM file: source=nifti reads these (docs/own_data.md)"
OUTLINES = "outlines: add them with source=outlines"

SOP_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "1.2.840.10008.1.3.10": "a list of the files of a medium (DICOMDIR); the files themselves are read",
        "1.2.840.10008.5.1.4.1.1.5": "a nuclear medicine image in the form that was retired in 1993",
        "1.2.840.10008.5.1.4.1.1.481.3": OUTLINES,
        "1.2.840.10008.5.1.4.1.1.66.4": OUTLINES,
        "1.2.840.10008.5.1.4.1.1.66.5": OUTLINES,
        "1.2.840.10008.5.1.4.1.1.66.7": OUTLINES,
    }
    | dict.fromkeys(SECONDARY_CAPTURES, "a secondary capture: the picture of a screen, which may show names")
)
"""Objects that are no nuclear medicine image and deserve a word of their own."""

KIND_REASONS: Mapping[NmKind, str] = MappingProxyType(
    {
        NmKind.STATIC: "a static image, no tomography",
        NmKind.DYNAMIC: "a dynamic image, no tomography",
        NmKind.GATED: "a planar gated image, no tomography",
        NmKind.WHOLE_BODY: "a whole body image, no tomography",
    }
)

STATE_CODES = {("SCT", "128975004"): "rest", ("SRT", "F-01604"): "rest", ("99SDM", "F-01604"): "rest"} | {
    ("DCM", "109091"): "stress",
    ("SRT", "F-05019"): "stress",
    ("99SDM", "F-05019"): "stress",
}
"""Patient State (CID 3102), with the codes of older editions."""

VIEW_CODES = {
    "103340004": "short_axis",
    "G-A186": "short_axis",
    "131186000": "horizontal_long_axis",
    "G-A18B": "horizontal_long_axis",
    "131185001": "vertical_long_axis",
    "G-A18A": "vertical_long_axis",
    "62824007": "transaxial",
    "G-A117": "transaxial",
    "24422004": "transaxial",
    "G-A147": "transaxial",
    "81654009": "coronal",
    "G-A138": "coronal",
    "30730003": "sagittal",
    "G-A145": "sagittal",
}
"""View of reconstructed slices (CID 26 and 27), SNOMED CT and the older SNOMED RT."""


@dataclass(frozen=True)
class Header:
    """What the header of a nuclear medicine image says; identifying, so only ever in memory.

    Attributes:
        kind: Value 3 of Image Type.
        patient_id: PatientID without blanks around it; empty when it is missing or a placeholder.
        issuer: Who issued the PatientID.
        birth_date: For noticing that one PatientID stands for two people.
        sex: ``F``, ``M``, ``O`` or empty.
        study_uid: Identifier of the study.
        series_uid: Identifier of the series.
        instance_uid: Identifier of the object.
        study_date: ``YYYYMMDD`` or whatever stands there.
        acquired: Acquisition date and time as they stand there; empty when unknown.
        series_number: For a stable order; 0 when unknown.
        is_original: Image Type says ORIGINAL.
        states: ``rest`` and ``stress``, as far as coded.
        views: Planes, as far as coded.
        texts: Descriptions by keyword.
        drugs: Names of drugs that were given for the intervention.
        corrections: Corrected Image.
        manufacturer: As it stands there.
        model: As it stands there.
        body_part: Body Part Examined.
        counts: Counts Accumulated; 0 when unknown.
        identifiers: Words of names and numbers that must not stand in a text that is kept.
        burned_in: Why the pixels may hold writing, by the attributes; empty when nothing speaks for it.
        orientation: Image Orientation (Patient), top level or of the first detector; empty when unknown.
    """

    kind: NmKind
    patient_id: str
    issuer: str
    birth_date: str
    sex: str
    study_uid: str
    series_uid: str
    instance_uid: str
    study_date: str
    acquired: str
    series_number: int
    is_original: bool
    states: frozenset[str]
    views: frozenset[str]
    texts: dict[str, str]
    drugs: str
    corrections: tuple[str, ...]
    manufacturer: str
    model: str
    body_part: str
    counts: int
    identifiers: frozenset[str]
    burned_in: str
    orientation: tuple[float, ...]


@dataclass(frozen=True)
class ScannedFile:
    """One file of the tree.

    Attributes:
        path: The file.
        name: Its path below the root, with slashes; may hold names of people.
        size: In bytes.
        kind: What it is, in a word or two.
        reason: Why it is left out; empty when it may become a case.
        digest: SHA-256 of its bytes; empty when it is left out.
        header: Of an image that may become a case.
    """

    path: Path
    name: str
    size: int
    kind: str
    reason: str = ""
    digest: str = ""
    header: Header | None = field(default=None, repr=False)


def every_file_below(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file below a folder, hidden ones too, with its relative name and in one order everywhere.

    Links to folders are not entered, and come as they are; so do folders that cannot be opened.
    """
    found: list[str] = []

    def keep_closed(error: OSError) -> None:
        found.append(Path(error.filename).relative_to(root).as_posix())

    for folder, folders, names in os.walk(root, onerror=keep_closed):
        folders.sort()
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
        found += [
            (Path(folder) / name).relative_to(root).as_posix() for name in folders if (Path(folder) / name).is_symlink()
        ]
    for name in sorted(found):
        # A name that is not UTF-8 comes with surrogates, which no text file can hold.
        yield root / name, name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def scan_file(path: Path, name: str) -> ScannedFile:
    """Look at one file; whatever it is, the answer says what and never raises."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) and not path.is_symlink():
            return ScannedFile(path, name, 0, "folder", "a folder that cannot be opened: its files were not seen")
        if not stat.S_ISREG(status.st_mode):
            return ScannedFile(path, name, 0, "no file", "no regular file: a link to a folder, a pipe or a device")
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        return ScannedFile(path, name, 0, "no file", f"cannot be opened ({error.strerror})")
    size = status.st_size
    is_volume = path.name.lower().endswith(VOLUME_SUFFIXES)
    if start.startswith(ARCHIVES) and not is_volume:
        return ScannedFile(
            path, name, size, "archive", "an archive or a compressed file: unpack it if it holds DICOM files"
        )
    try:
        dataset = open_dataset(path, pixels=False)
    except NotDicomError:
        return ScannedFile(path, name, size, "other", VOLUME if is_volume else NOT_DICOM)
    except DicomError:
        return ScannedFile(path, name, size, "broken", "cannot be read as DICOM")
    with quiet():
        try:
            return _scanned(path, name, size, dataset)
        except Exception as error:  # values of a header may fail in any way; the file is then named in the table
            reason = f"its header cannot be read ({type(error).__name__})"
            return ScannedFile(path, name, size, "broken", reason)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _scanned(path: Path, name: str, size: int, dataset: Dataset) -> ScannedFile:
    sop_class = _text(dataset, "SOPClassUID")
    modality = _text(dataset, "Modality")
    if not sop_class and not modality:
        return ScannedFile(path, name, size, "other", NOT_DICOM)
    if sop_class in SOP_REASONS:
        return ScannedFile(path, name, size, UID(sop_class).name, SOP_REASONS[sop_class])
    if sop_class != "1.2.840.10008.5.1.4.1.1.20" and (sop_class or modality != "NM"):
        what = UID(sop_class).name if sop_class in UID_dictionary else "another object"
        return ScannedFile(path, name, size, what, f"no nuclear medicine image but {what}")
    image_type = _texts(dataset, "ImageType")
    kind = kind_of_known(tuple(image_type))
    if kind is None:
        return ScannedFile(path, name, size, "NM", "ImageType (0008,0008) does not say what its frames are")
    if any(TRANSMISSION in value.upper() for value in image_type):
        return ScannedFile(path, name, size, kind.value, "an attenuation map: ImageType (0008,0008) says TRANSMISSION")
    if kind in KIND_REASONS:
        return ScannedFile(path, name, size, kind.value, KIND_REASONS[kind])
    if size > MAX_FILE_BYTES:
        return ScannedFile(path, name, size, kind.value, f"larger than {MAX_FILE_BYTES >> 20} MiB")
    header = _header(kind, dataset)
    if not header.instance_uid:
        return ScannedFile(path, name, size, kind.value, "SOPInstanceUID (0008,0018) is missing")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ScannedFile(path, name, size, kind.value, "", digest, header)


def _header(kind: NmKind, dataset: Dataset) -> Header:
    detector = _first(dataset, "DetectorInformationSequence")
    image_type = [word.upper() for word in _texts(dataset, "ImageType")]
    texts = {keyword: _text(dataset, keyword) for keyword in (*OWN_TEXTS, *SHARED_TEXTS)}
    drugs = [_text(item, "InterventionDrugName") for item in _items(dataset, "InterventionDrugInformationSequence")]
    orientation = _texts(dataset, "ImageOrientationPatient") or _texts(detector, "ImageOrientationPatient")
    sex = _text(dataset, "PatientSex").upper()
    return Header(
        kind=kind,
        patient_id="" if patient_id_of(dataset).casefold() in PLACEHOLDERS else patient_id_of(dataset),
        issuer=_text(dataset, "IssuerOfPatientID"),
        birth_date=_known(dataset, "PatientBirthDate"),
        sex=sex if sex in {"F", "M", "O"} else "",
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        instance_uid=_text(dataset, "SOPInstanceUID"),
        study_date=_text(dataset, "StudyDate") or _text(dataset, "AcquisitionDate"),
        acquired=_text(dataset, "AcquisitionDateTime")
        or "".join(_known(dataset, keyword) for keyword in ("AcquisitionDate", "AcquisitionTime")),
        series_number=_whole(dataset, "SeriesNumber"),
        is_original="ORIGINAL" in image_type[:1],
        states=_states(dataset),
        views=_views(dataset) | _views(detector),
        texts={keyword: text for keyword, text in texts.items() if text},
        drugs=" ".join(drugs)[:MAX_TEXT],
        corrections=tuple(_texts(dataset, "CorrectedImage")),
        manufacturer=_text(dataset, "Manufacturer"),
        model=_text(dataset, "ManufacturerModelName"),
        body_part=_text(dataset, "BodyPartExamined").upper(),
        counts=max(_whole(dataset, "CountsAccumulated"), 0),
        identifiers=_identifiers(dataset),
        burned_in=burned_in(dataset) or "",
        orientation=tuple(float(value) for value in orientation) if len(orientation) == 6 else (),
    )


def _states(dataset: Dataset) -> frozenset[str]:
    codes = set()
    for item in _items(dataset, "AcquisitionContextSequence"):
        for term in _items(item, "ConceptCodeSequence"):
            codes.add((_text(term, "CodingSchemeDesignator"), _text(term, "CodeValue")))
    return frozenset(STATE_CODES[code] for code in codes if code in STATE_CODES)


def _views(dataset: Dataset) -> frozenset[str]:
    values = {_text(term, "CodeValue") for term in _items(dataset, "ViewCodeSequence")}
    return frozenset(VIEW_CODES[value] for value in values if value in VIEW_CODES)


def _identifiers(dataset: Dataset) -> frozenset[str]:
    """Words of three letters or more, and numbers of three digits or more, of everybody and everything named."""
    words: set[str] = set()
    for keyword in IDENTIFIERS:
        for text in _texts(dataset, keyword):
            parts = text.replace("^", " ").replace("=", " ").replace(",", " ").split()
            words |= {part.casefold() for part in parts if len(part) >= 3}
    return frozenset(words | ({_known(dataset, "PatientBirthDate")} - {""}))


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    element = dataset.get(keyword)
    return [item for item in element or [] if isinstance(item, Dataset)] if not isinstance(element, str) else []


def _first(dataset: Dataset, keyword: str) -> Dataset:
    return next(iter(_items(dataset, keyword)), Dataset())


def _texts(dataset: Dataset, keyword: str) -> list[str]:
    value = dataset.get(keyword)
    if value is None or isinstance(value, bytes):
        return []
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    return [text for text in (str(one)[:MAX_TEXT].strip() for one in values) if text]


def _text(dataset: Dataset, keyword: str) -> str:
    return "\\".join(_texts(dataset, keyword))[:MAX_TEXT]


def _known(dataset: Dataset, keyword: str) -> str:
    """A date or time; empty when it stands there as zeros."""
    text = _text(dataset, keyword)
    return text if text.strip("0.: ") else ""


def _whole(dataset: Dataset, keyword: str) -> int:
    try:
        return int(float(_text(dataset, keyword) or 0))
    except (ValueError, OverflowError):
        return 0
