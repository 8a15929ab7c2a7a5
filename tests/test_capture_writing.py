"""Pictures and pages as DICOM objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from derived_builders import MAKER, complaints, origin, pdf, picture, written
from nm_builders import marked_volume, short_axis
from PIL import Image
from pydicom import dcmread

from mpi_unet.dicom.capture_writing import encapsulated_pdf, picture_of, secondary_capture
from mpi_unet.dicom.derived import NOTICE
from mpi_unet.errors import DicomError


def test_a_picture_comes_back_pixel_for_pixel(tmp_path: Path) -> None:
    where = origin(marked_volume(short_axis()))
    new = secondary_capture(where, picture(), MAKER, title="Polar map of uptake", number=2, burned_in=False)
    (path,) = written([new], tmp_path)
    back = dcmread(path)
    assert np.array_equal(back.pixel_array, picture())
    assert complaints(path) == []
    assert (back.ConversionType, back.BurnedInAnnotation, back.InstanceNumber) == ("WSD", "NO", 2)
    assert list(back.ImageType) == ["DERIVED", "SECONDARY"]
    assert (back.DerivationDescription, back.ImageComments) == ("Polar map of uptake", NOTICE)
    assert back.SourceImageSequence[0].ReferencedSOPInstanceUID == where.sop_instance_uid


@pytest.mark.parametrize("extra", [0, 1], ids=["even", "odd"])
def test_a_page_comes_back_byte_for_byte(extra: int, tmp_path: Path) -> None:
    where = origin(marked_volume(short_axis()))
    content = pdf() + b"\n" * ((len(pdf()) + extra) % 2)
    new = encapsulated_pdf(where, content, MAKER, title="Report", burned_in=True)
    (path,) = written([new], tmp_path)
    back = dcmread(path)
    assert back.EncapsulatedDocument[: back.EncapsulatedDocumentLength] == content
    assert len(back.EncapsulatedDocument) % 2 == 0
    assert complaints(path) == []
    assert (back.BurnedInAnnotation, back.Modality, back.MIMETypeOfEncapsulatedDocument) == (
        "YES",
        "DOC",
        "application/pdf",
    )
    assert back.DocumentTitle == f"Report. {NOTICE}"
    assert back.SourceInstanceSequence[0].ReferencedSOPInstanceUID == where.sop_instance_uid


def test_a_png_is_read_on_white_paper(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[255, 0, 0, 255], [0, 0, 0, 0]]], np.uint8), "RGBA").save(tmp_path / "map.png")
    assert picture_of(tmp_path / "map.png").tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_a_png_with_a_palette_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("P").save(tmp_path / "map.png")
    assert picture_of(tmp_path / "map.png").shape == (1, 2, 3)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(b"no picture")
    with pytest.raises(DicomError, match=r"map\.png: cannot be read as a picture .*expected PNG"):
        picture_of(tmp_path / "map.png")


def test_an_empty_picture_is_refused() -> None:
    with pytest.raises(DicomError, match=r"the picture has 0 x 5 pixels; expected 1 to 65535"):
        secondary_capture(
            origin(marked_volume(short_axis())), np.zeros((0, 5, 3), np.uint8), MAKER, title="x", burned_in=False
        )


@pytest.mark.parametrize("content", [b"", b"<html>", b"%PDF-1.4 and then cut off"])
def test_half_a_page_is_refused(content: bytes) -> None:
    with pytest.raises(DicomError, match=rf"document of {len(content)} bytes does not begin .*print the page anew"):
        encapsulated_pdf(origin(marked_volume(short_axis())), content, MAKER, title="x", burned_in=False)


def test_whoever_made_it_must_say_whether_it_names_the_patient() -> None:
    image = marked_volume(short_axis())
    with pytest.raises(DicomError, match=r"burned_in= was not given for the picture"):
        secondary_capture(origin(image), picture(), MAKER, title="x")
    with pytest.raises(DicomError, match=r"burned_in= was not given for the page"):
        encapsulated_pdf(origin(image), pdf(), MAKER, title="x")
    with pytest.raises(DicomError, match=r"the page identifies the patient .*make it without the name"):
        encapsulated_pdf(origin(image, "pseudonymous"), pdf(), MAKER, title="x", burned_in=True)
    with pytest.raises(DicomError, match=r"the picture identifies the patient"):
        secondary_capture(origin(image, "pseudonymous"), picture(), MAKER, title="x", burned_in=True)


@pytest.mark.parametrize("title", ["", "x" * 65, "\u00dcbersicht"])
def test_titles_that_do_not_fit_are_refused(title: str) -> None:
    image = marked_volume(short_axis())
    with pytest.raises(DicomError, match=r"title=.*expected 1 to 64 characters of ASCII"):
        secondary_capture(origin(image), picture(), MAKER, title=title, burned_in=False)
    with pytest.raises(DicomError, match=r"title=.*expected 1 to 64 characters of ASCII"):
        encapsulated_pdf(origin(image), pdf(), MAKER, title=title, burned_in=False)
