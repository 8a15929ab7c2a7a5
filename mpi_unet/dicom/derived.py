"""What all objects share that are made of an image: patient and study, what made them, and how they are called.

Identifiers are name-based UUIDs. That of a *series* comes from origin, maker and kind; that of an *object* from all
that it holds except for the moment at which it was made. So the same command gives the same identifiers, an archive
that gets them again holds each object once, and other content never goes by the name of the old one. Where the origin
is pseudonymous its identifiers are keyed, so new ones lead nobody back either.
"""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom import DataElement, config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

import mpi_unet
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.dicom.nm_modules import unique_id
from mpi_unet.dicom.nm_writing import write_dicom
from mpi_unet.dicom.origin import Origin
from mpi_unet.errors import DicomError
from mpi_unet.files import sha256

__all__ = ["NOTICE", "Maker", "add_common", "empty_object", "sealed", "series_uid", "write_objects"]

NOTICE = "Derived by software without a physician. Not for primary diagnosis unless validated for it at this site."
"""Stands in every object, in the attribute that its kind has for remarks."""

SERIES_NUMBERS: Mapping[str, int] = {"SEG": 9001, "SR": 9002, "SC": 9003, "PDF": 9004}
"""High enough to stand behind the series of the camera; viewers sort by them, nothing depends on them."""

PATIENT = """
    PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID PatientBirthDate
    PatientBirthTime PatientSex QualityControlSubject OtherPatientIDs OtherPatientIDsSequence OtherPatientNames
    EthnicGroup PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence
    ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID ClinicalTrialSiteName
    ClinicalTrialSubjectID ClinicalTrialSubjectReadingID
"""
STUDY = """
    StudyInstanceUID StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber IssuerOfAccessionNumberSequence
    StudyDescription ProcedureCodeSequence PatientAge PatientSize PatientWeight AdmissionID
    LongitudinalTemporalInformationModified
"""
COPIED = (*PATIENT.split(), *STUDY.split(), "SpecificCharacterSet", "TimezoneOffsetFromUTC")
"""Patient (C.7.1.1), clinical trial subject (C.7.1.3), study (C.7.2.1) and patient at the study (C.7.2.2). Remarks and
histories stay behind: nobody asked for them to be passed on."""

REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Type 2: there in every object, if need be empty."""

FORMED = frozenset({"DA", "TM", "CS", "AS", "DS", "IS"})
"""Value representations whose values have a form; one that has not - a birth date of zeros - is taken for unknown."""

TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})

MOMENTS = ("ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime")
"""When an object was made; does not count for its identifier."""


@dataclass(frozen=True)
class Maker:
    """What made the new objects.

    Attributes:
        algorithm: Name of the network or method.
        version: Of the algorithm.
        run: Which run it comes from; two runs give two sets of objects, the same run always the same one.
        made: When the content was made; None for now. It stands in the objects, and is no part of their identifiers.
        qualification: Content Qualification (0018,9004): RESEARCH unless somebody answers for more.

    Raises:
        DicomError: A text is empty or longer than 64 characters, or not of ASCII.
    """

    algorithm: str
    version: str
    run: str
    made: datetime.datetime | None = None
    qualification: Literal["RESEARCH", "PRODUCT", "SERVICE"] = "RESEARCH"

    def __post_init__(self) -> None:
        texts = {"algorithm": self.algorithm, "version": self.version, "run": self.run}
        wrong = [
            f"{name}={text!r}" for name, text in texts.items() if not re.fullmatch(r"[ -\[\]-~]{1,64}", text.strip())
        ]
        if wrong:
            raise DicomError(
                f"{', '.join(wrong)} cannot stand in a DICOM object; expected 1 to 64 characters of ASCII without a "
                "backslash; shorten the name"
            )


def write_objects(objects: Sequence[Dataset], folder: str | Path) -> tuple[Path, ...]:
    """Write each object to ``<folder>/<SOPInstanceUID>.dcm``.

    One that is there already stays as it is: it differs at most in the moment at which it was made.

    Returns:
        The files, in the order of the objects.

    Raises:
        RunError: The disk is full or the folder cannot be written to.
    """
    paths = tuple(Path(folder) / f"{dataset.SOPInstanceUID}.dcm" for dataset in objects)
    with quiet():
        for dataset, path in zip(objects, paths, strict=True):
            if not path.exists():
                write_dicom(dataset, path)
    return paths


def series_uid(origin: Origin, maker: Maker, kind: str) -> str:
    """The series of one kind that a run makes of one image; rest and stress have one each."""
    parts = (maker.algorithm, maker.version, maker.run, origin.sop_instance_uid)
    return str(unique_id("derived series", kind, *parts))


def empty_object(sop_class_uid: str) -> Dataset:
    """A dataset that `sealed` will complete."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class_uid
    dataset.file_meta = FileMetaDataset()
    return dataset


def add_common(
    dataset: Dataset,
    origin: Origin,
    maker: Maker,
    kind: str,
    *,
    modality: str,
    description: str,
    instance_number: int = 1,
) -> None:
    """Fill in patient, study, series and equipment; what a library wrote there is replaced.

    Args:
        dataset: The new object.
        origin: What it was made of.
        maker: What made it.
        kind: Key of ``SERIES_NUMBERS``.
        modality: Of the new series.
        description: Of the series, the same for all objects of the kind.
        instance_number: Within the series.
    """
    with quiet():
        for keyword in COPIED:
            dataset.pop(keyword, None)
            if keyword in origin.header and _is_valid(origin.header[keyword]):
                dataset[keyword] = copy.deepcopy(origin.header[keyword])
    for keyword in REQUIRED:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    dataset.SeriesInstanceUID, dataset.SeriesNumber = series_uid(origin, maker, kind), SERIES_NUMBERS[kind]
    dataset.Modality, dataset.SeriesDescription, dataset.InstanceNumber = modality, description[:64], instance_number
    dataset.Manufacturer, dataset.ManufacturerModelName = "mpi_unet", maker.algorithm
    dataset.SoftwareVersions = [mpi_unet.__version__, maker.version]
    dataset.DeviceSerialNumber = maker.run
    dataset.ContentQualification = maker.qualification


def sealed(dataset: Dataset, origin: Origin, maker: Maker) -> Dataset:
    """Give the finished object its moment, its identifier and its meta information.

    Raises:
        DicomError: A text in a pseudonymous object names the patient; the text itself is not quoted.
    """
    telling = [
        f"{element.keyword} {element.tag}"
        for element in dataset.iterall()
        if element.VR in TEXTS and origin.secrets.given_away_by(str(element.value))
    ]
    if telling:
        raise DicomError(
            f"the name or a number of the patient stands in {', '.join(dict.fromkeys(telling))} of the new object, and "
            "identity='pseudonymous' was asked for; take it out of the texts, titles and names that were given"
        )
    for keyword in (*MOMENTS, "SOPInstanceUID"):
        dataset.pop(keyword, None)
    for library in dataset.get("ContributingEquipmentSequence", []):
        library.pop("ContributionDateTime", None)
    content = DicomBytesIO()
    content.is_little_endian, content.is_implicit_VR = True, False
    with quiet():
        write_dataset(content, dataset)
    uid = unique_id("derived object", sha256(content.getvalue()))
    dataset.SOPInstanceUID = uid
    moment = maker.made or datetime.datetime.now()
    day = moment + datetime.timedelta(days=origin.shift_days)
    dataset.ContentDate = f"{day:%Y%m%d}".zfill(8)
    dataset.ContentTime = f"{moment:%H%M%S}" if origin.identity == "source" else "000000"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, uid
    dataset.file_meta = meta
    return dataset


# --- Private helpers --------------------------------------------------------------------------------------------------


def _is_valid(element: DataElement) -> bool:
    """Whether a value has the form that its representation asks for; texts may have any, for they must match."""
    if element.VR not in FORMED or element.is_empty:
        return True
    values = element.value if element.VM > 1 else [element.value]
    try:
        for value in values:
            validate_value(element.VR, str(value), config.RAISE)
            if element.VR == "DA":
                datetime.datetime.strptime(str(value), "%Y%m%d")
    except ValueError:
        return False
    return True
