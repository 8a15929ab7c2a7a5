"""Pictures and pages become DICOM objects: Secondary Capture for what is seen, encapsulated PDF for what is read.

Both are for people, and hold nothing that a program should measure on. A picture may have writing in it; whether it
does is said by whoever drew it, and when the objects are pseudonymous such writing must not name the patient, which
nobody here can see: a picture or page with writing is only taken after its maker says that it names nobody.

Source:
    DICOM PS3.3 A.8.1 (Secondary Capture), C.8.6.1 (SC Equipment), A.45.1 (Encapsulated PDF), C.24.2.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage

from mpi_unet.dicom.derived import NOTICE, Maker, add_common, empty_object, sealed
from mpi_unet.dicom.derived_codes import PROCEDURE, SOURCE_IMAGE
from mpi_unet.dicom.origin import Origin
from mpi_unet.errors import DicomError

__all__ = ["encapsulated_pdf", "picture_of", "secondary_capture"]

LARGEST_SIDE = 65_535
"""Rows and Columns are unsigned 16-bit numbers."""

PDF_START = b"%PDF-"
PDF_END = b"%%EOF"

SHORTEST_TAIL = 1024
"""Readers look for the end of a PDF in its last kilobyte (ISO 32000-1, note 18 of annex H)."""


def picture_of(path: str | Path) -> UInt8[np.ndarray, "row column 3"]:
    """Read a PNG file as red, green and blue; what is transparent becomes white, like the paper under it.

    Raises:
        DicomError: The file is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise DicomError(f"{path.name}: cannot be read as a picture ({type(error).__name__}); expected PNG") from error
    paper = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(paper, picture).convert("RGB"))


def secondary_capture(
    origin: Origin,
    picture: UInt8[np.ndarray, "row column 3"],
    maker: Maker,
    *,
    title: str,
    number: int = 1,
    burned_in: bool | None = None,
) -> Dataset:
    """Make a color Secondary Capture of a picture, for example of a polar map.

    Args:
        origin: The image that the picture was made of.
        picture: Red, green and blue.
        maker: What drew it.
        title: What it shows; names nobody.
        number: Instance Number, so that several pictures of a run stay in order.
        burned_in: Whether writing within the picture identifies the patient. None is not an answer.

    Raises:
        DicomError: The picture is empty or too large, ``burned_in`` was left open, or the picture names the patient
            and the object must not.
    """
    _check_title(title)
    _check_writing(origin, burned_in, "picture")
    rows, columns = picture.shape[:2]
    if not 0 < min(rows, columns) <= max(rows, columns) <= LARGEST_SIDE:
        raise DicomError(
            f"the picture has {rows} x {columns} pixels; expected 1 to {LARGEST_SIDE} in each direction; draw it anew"
        )
    dataset = empty_object(SecondaryCaptureImageStorage)
    add_common(
        dataset, origin, maker, "SC", modality="OT", description=f"Pictures, {maker.algorithm}", instance_number=number
    )
    dataset.BodyPartExamined = "HEART"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.ConversionType = "WSD"  # workstation
    dataset.PatientOrientation = ""  # a picture has none
    dataset.BurnedInAnnotation = "YES" if burned_in else "NO"
    dataset.DerivationDescription, dataset.ImageComments = title, NOTICE
    dataset.SourceImageSequence = [_reference(origin, purpose=True)]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.LossyImageCompression = "00"
    data = np.ascontiguousarray(picture).tobytes()
    dataset.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    return sealed(dataset, origin, maker)


def encapsulated_pdf(
    origin: Origin, content: bytes, maker: Maker, *, title: str, number: int = 1, burned_in: bool | None = None
) -> Dataset:
    """Make an Encapsulated PDF of a finished page.

    Args:
        origin: The image that the page speaks of.
        content: The PDF file.
        maker: What wrote it.
        title: Document Title; names nobody.
        number: Instance Number.
        burned_in: Whether the page identifies the patient. None is not an answer.

    Raises:
        DicomError: It is no whole PDF, or as for `secondary_capture`.
    """
    _check_title(title)
    _check_writing(origin, burned_in, "page")
    if not content.startswith(PDF_START) or PDF_END not in content[-SHORTEST_TAIL:]:
        raise DicomError(
            f"the document of {len(content)} bytes does not begin with {PDF_START.decode()} and end with "
            f"{PDF_END.decode()}; expected a whole PDF file; print the page anew"
        )
    dataset = empty_object(EncapsulatedPDFStorage)
    add_common(
        dataset, origin, maker, "PDF", modality="DOC", description=f"Report, {maker.algorithm}", instance_number=number
    )
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "YES" if burned_in else "NO"
    dataset.AcquisitionDateTime = ""
    dataset.DocumentTitle = f"{title}. {NOTICE}"
    dataset.ConceptNameCodeSequence = [PROCEDURE.item()]
    dataset.SourceInstanceSequence = [_reference(origin, purpose=True)]
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(content)
    dataset.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return sealed(dataset, origin, maker)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _reference(origin: Origin, *, purpose: bool) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = origin.header.SOPClassUID
    item.ReferencedSOPInstanceUID = origin.sop_instance_uid
    if purpose:
        item.PurposeOfReferenceCodeSequence = [SOURCE_IMAGE.item()]
    return item


def _check_title(title: str) -> None:
    if not re.fullmatch(r"[ -\[\]-~]{1,64}", title):
        raise DicomError(f"title={title!r}; expected 1 to 64 characters of ASCII without a backslash; shorten it")


def _check_writing(origin: Origin, burned_in: bool | None, what: str) -> None:
    if burned_in is None:
        raise DicomError(
            f"burned_in= was not given for the {what}; expected True when writing on it identifies the patient, else "
            "False: only who made it knows"
        )
    if burned_in and origin.identity != "source":
        raise DicomError(
            f"the {what} identifies the patient (burned_in=True) and the object must not (identity='pseudonymous'); "
            "make it without the name, or for identity='source'"
        )
