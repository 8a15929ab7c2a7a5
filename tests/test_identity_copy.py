from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_builders import file_bytes, nm_image
from identity_builders import planted, surviving
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import NuclearMedicineImageStorage, RLELossless

from mpi_unet.dicom import allow_list
from mpi_unet.dicom.identity import METHOD, Pseudonyms, deidentified, identifying
from mpi_unet.dicom.nm import read_nm
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.errors import DicomError

KEYED = Pseudonyms(bytes(range(32)))
DOCS = Path(__file__).resolve().parent.parent / "docs"


# --- The copy ---------------------------------------------------------------------------------------------------------


def reread(content: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(content))


def test_nothing_planted_survives() -> None:
    image = planted()
    assert surviving(image.content, image.secrets) == list(image.secrets)  # all of them are there to be found
    copied = deidentified(reread(image.content), KEYED)
    assert surviving(file_bytes(copied), image.secrets) == []
    assert identifying(copied) == []
    assert copied.PatientID == copied.PatientName == KEYED.patient("ZQ001SECRET")
    assert (copied.PatientIdentityRemoved, copied.DeidentificationMethod) == ("YES", METHOD)
    assert len(METHOD) <= 64


def test_the_reader_reads_the_same_from_the_copy() -> None:
    image = planted()
    before, after = read_nm(reread(image.content)), read_nm(deidentified(reread(image.content), KEYED))
    np.testing.assert_array_equal(before.values, after.values)
    assert before.stack == after.stack
    assert before.spacing_mm == after.spacing_mm
    assert before.gate_ms == after.gate_ms
    assert before.warnings == after.warnings


@pytest.mark.parametrize("kind", ["TOMO", "GATED TOMO", "RECON TOMO"])
def test_every_kind_is_read_the_same(kind: str) -> None:
    image = nm_image(kind)
    before, after = read_nm(image), read_nm(deidentified(image, KEYED))
    np.testing.assert_array_equal(before.values, after.values)
    assert (before.stack, before.views, before.kind) == (after.stack, after.views, after.kind)


def test_the_original_is_not_changed() -> None:
    image = planted().dataset
    before = copy.deepcopy(image)
    deidentified(image, KEYED)
    assert image == before
    assert image.file_meta == before.file_meta


def test_references_between_copies_hold() -> None:
    raw, volume = nm_image("TOMO"), nm_image("RECON TOMO")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = raw.SOPClassUID, raw.SOPInstanceUID
    volume.SourceImageSequence = [reference]
    raw, volume = deidentified(raw, KEYED), deidentified(volume, KEYED)
    assert volume.SourceImageSequence[0].ReferencedSOPInstanceUID == raw.SOPInstanceUID
    assert volume.SourceImageSequence[0].ReferencedSOPClassUID == NuclearMedicineImageStorage
    assert volume.file_meta.MediaStorageSOPInstanceUID == volume.SOPInstanceUID
    assert volume.StudyInstanceUID == raw.StudyInstanceUID
    assert volume.FrameOfReferenceUID == raw.FrameOfReferenceUID


def test_dates_are_shifted_and_unknown_ones_stay_unknown() -> None:
    with quiet():
        image = nm_image(StudyDate="20240311", SeriesDate="20240312", ContentDate="00000000")
    copied = deidentified(image, KEYED)
    assert copied.StudyDate == KEYED.date("4711", "20240311")
    assert int(copied.SeriesDate) > int(copied.StudyDate)
    assert copied.ContentDate == ""
    assert copied.LongitudinalTemporalInformationModified == "MODIFIED"


def test_an_image_of_nobody_needs_to_be_given_to_somebody() -> None:
    image = nm_image(PatientID="")
    with pytest.raises(DicomError, match=r"PatientID \(0010,0020\) is empty.*patient_id="):
        deidentified(image, KEYED)
    assert deidentified(image, KEYED, patient_id="4711").PatientID == KEYED.patient("4711")


def test_another_kind_of_object_is_refused() -> None:
    with pytest.raises(DicomError, match=r"SOPClassUID \(0008,0016\).*CT Image Storage"):
        deidentified(nm_image(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), KEYED)


def test_values_that_their_representation_does_not_allow_stay_behind() -> None:
    image = nm_image()
    image.add(pydicom.DataElement(0x00180088, "LO", "Muster, Hans"))  # Spacing Between Slices
    image.add(pydicom.DataElement(0x00540022, "LO", "Muster, Hans"))  # Detector Information Sequence
    copied = deidentified(image, KEYED)
    assert "SpacingBetweenSlices" not in copied
    assert b"Muster" not in file_bytes(copied)


def test_vocabularies_replace_what_was_typed() -> None:
    image = nm_image(Manufacturer="GE MEDICAL SYSTEMS Mr Muster", ManufacturerModelName="Muster's Infinia Hawkeye 4")
    image.RadiopharmaceuticalInformationSequence[0].Radiopharmaceutical = "Cardiolite for Muster"
    copied = deidentified(image, KEYED)
    assert (copied.Manufacturer, copied.ManufacturerModelName) == ("GE", "Infinia")
    assert copied.RadiopharmaceuticalInformationSequence[0].Radiopharmaceutical == "Tc-99m sestamibi"


def test_compressed_pixels_are_decoded() -> None:
    image = nm_image()
    packed = copy.deepcopy(image)
    packed.compress(RLELossless, generate_instance_uid=False)
    copied = deidentified(packed, KEYED)
    np.testing.assert_array_equal(copied.pixel_array, image.pixel_array)


def test_a_comment_within_a_compressed_frame_stays_behind(tmp_path: Path) -> None:
    image = nm_image()
    packed = jpeg_lossless(image, tmp_path)
    frames = list(generate_frames(packed.PixelData, number_of_frames=image.NumberOfFrames))
    comment = b"ZQ frame secret"
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment  # COM behind SOI, T.81 B.2.4.5
    packed.PixelData = encapsulate([frame[:2] + segment + frame[2:] for frame in frames])
    content = file_bytes(packed)
    assert comment in content
    copied = deidentified(reread(content), KEYED)
    assert comment not in file_bytes(copied)
    np.testing.assert_array_equal(copied.pixel_array, image.pixel_array)


def jpeg_lossless(image: Dataset, folder: Path) -> Dataset:
    """The same image as another library compresses it."""
    import gdcm

    (folder / "plain.dcm").write_bytes(file_bytes(image))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(folder / "plain.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(folder / "packed.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return pydicom.dcmread(folder / "packed.dcm")


def test_bytes_behind_the_last_pixel_are_refused() -> None:
    image = nm_image()
    image.PixelData += b"Muster, Hans, 1950"
    with pytest.raises(DicomError, match=r"PixelData \(7FE0,0010\) holds 2578 bytes; expected 2560"):
        deidentified(image, KEYED)


def test_drawings_in_unused_bits_are_refused() -> None:
    image = nm_image(BitsStored=12, HighBit=11)
    drawn = image.pixel_array.copy()
    drawn[0, :8, :8] |= 0x8000
    image.PixelData = drawn.tobytes()
    with pytest.raises(DicomError, match=r"BitsStored \(0028,0101\) is 12, but pixels run"):
        deidentified(image, KEYED)


def test_a_copy_without_pixels_is_a_header() -> None:
    assert "PixelData" not in deidentified(nm_image(PixelData=...), KEYED)


def test_the_validator_has_no_new_complaints(tmp_path: Path) -> None:
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("needs a validator: apt-get install dicom3tools")

    def errors(image: Dataset) -> set[str]:
        (tmp_path / "image.dcm").write_bytes(file_bytes(image))
        command = [validator, "-new", tmp_path / "image.dcm"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        assert "NMImage" in said
        return {line for line in said.splitlines() if line.startswith("Error")}

    image = nm_image("RECON GATED TOMO")
    assert errors(deidentified(image, KEYED)) <= errors(image)


# --- Against the table of the standard, as other people keep it ------------------------------------------------------

EXCEPTIONS = {
    "PatientSex": "retain patient characteristics",
    "AcquisitionDate": "retain longitudinal temporal information with modified dates",
    "SeriesDate": "retain longitudinal temporal information with modified dates",
    "AcquisitionContextSequence": "clean structured content: public codes only",
    "ReferencedImageSequence": "identifiers in it are replaced",
    "SourceImageSequence": "identifiers in it are replaced",
}
"""What stands in a copy although PS3.15 table E.1-1 may ask for its removal, and by which option (docs/privacy.md)."""


def standard_table() -> dict[str, set[tuple[int, int]]]:
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    table = dicom_anonymization_database_selector("dicomfields_2026c")
    return {action.removesuffix("_TAGS"): {tag[:2] for tag in tags} for action, tags in table.items()}


def test_the_allow_list_keeps_nothing_that_the_standard_removes() -> None:
    table = standard_table()
    kept = allow_list.NUMBERS | set(allow_list.WORDS) | allow_list.CODES | allow_list.SEQUENCES
    kept |= set(allow_list.VOCABULARIES) | allow_list.DATES | allow_list.UIDS
    listed = {keyword for keyword in kept if divmod(tag_for_keyword(keyword), 0x10000) in table["ALL"]}
    may_be_removed = set().union(*(table[action] for action in ("X", "X_Z", "X_D", "X_Z_D", "X_Z_U_STAR")))
    removed = {keyword for keyword in listed if divmod(tag_for_keyword(keyword), 0x10000) in may_be_removed}
    assert removed == set(EXCEPTIONS) - {"PatientSex"}
    to_be_replaced = {keyword for keyword in listed if divmod(tag_for_keyword(keyword), 0x10000) in table["U"]}
    assert to_be_replaced <= allow_list.UIDS
    to_be_emptied = {keyword for keyword in listed if divmod(tag_for_keyword(keyword), 0x10000) in table["Z"]}
    assert to_be_emptied == {"PatientSex", "StudyDate"}


def test_a_copy_holds_nothing_of_the_standards_table_but_the_exceptions() -> None:
    table = standard_table()
    replaced = {"PatientID", "PatientName", *allow_list.UIDS, *allow_list.DATES}
    for element in everything(deidentified(planted().dataset, KEYED)):
        in_table = (element.tag.group, element.tag.element) in table["ALL"]
        assert not in_table or element.is_empty or element.keyword in replaced | set(EXCEPTIONS), element.keyword


def everything(dataset: Dataset):
    for element in dataset:
        yield element
        if isinstance(element.value, Sequence):
            for item in element.value:
                yield from everything(item)


def test_the_page_shows_what_others_leave(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    if shutil.which("Orthanc") is None:
        pytest.skip("needs a PACS: apt-get install orthanc")
    pytest.importorskip("dicomanonymizer", reason="needs dicom-anonymizer: pip install dicom-anonymizer")
    program = DOCS / "figures" / "deidentification.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() in (DOCS / "privacy.md").read_text(encoding="utf-8")
