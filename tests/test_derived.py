"""What new objects take over of an image, whose they are, and how they are called."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from derived_builders import KEYS, LATER_MAKER, MADE, MAKER, all_objects, complaints, origin, put, reread, written
from dicom_builders import file_bytes
from identity_builders import planted
from nm_builders import (
    changed,
    marked_gated_volume,
    marked_volume,
    needs_test_data,
    projections,
    real,
    short_axis,
    without,
)
from pydicom import dcmread
from pydicom.dataset import Dataset

from mpi_unet.dicom.capture_writing import encapsulated_pdf, secondary_capture
from mpi_unet.dicom.codes import Code
from mpi_unet.dicom.derived import NOTICE, Maker, write_objects
from mpi_unet.dicom.identity import deidentified
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.dicom.origin import Secrets, origin_of
from mpi_unet.dicom.report_writing import Flag, Measured, measurement_report
from mpi_unet.errors import DicomError

pytest.importorskip("highdicom", reason="needs highdicom: pip install 'mpi_unet[dicom]'")

IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyID")


def person(image: Dataset) -> Dataset:
    """Somebody whose name needs more than ASCII."""
    return changed(
        image,
        SpecificCharacterSet="ISO_IR 192",
        PatientName="M\u00fcller-\u0141ukasz^J\u00f6rg",
        PatientID="ID4711",
        IssuerOfPatientID="HOSPITAL",
        PatientBirthDate="19500102",
        PatientSex="M",
        AccessionNumber="ACC99887",
        StudyDate="20240311",
        ReferringPhysicianName="House^Gregory",
    )


# --- Whose objects they are -------------------------------------------------------------------------------------------


def test_objects_for_the_archive_carry_the_patient_of_the_source(tmp_path: Path) -> None:
    image = person(marked_volume(short_axis()))
    for new in reread(all_objects(origin(image)), tmp_path):
        for keyword in (*IDENTITY, "IssuerOfPatientID", "AccessionNumber", "ReferringPhysicianName"):
            assert new[keyword].value == image[keyword].value, (new.Modality, keyword)


def test_a_name_in_undeclared_letters_keeps_its_bytes(tmp_path: Path) -> None:
    """Many cameras do not say which letters they use; an archive compares what it is sent byte for byte."""
    image = without(marked_volume(short_axis()), "SpecificCharacterSet")
    content = file_bytes(changed(image, PatientName="MULLER")).replace(b"MULLER", b"M\xdcLLER")
    path = tmp_path / "source.dcm"
    path.write_bytes(content)
    for new in written(all_objects(origin(path)), tmp_path / "new"):
        assert b"M\xdcLLER" in new.read_bytes()


def test_objects_for_research_fit_the_pseudonymous_copy_of_the_source(tmp_path: Path) -> None:
    image = person(marked_volume(short_axis()))
    copied = deidentified(image, KEYS)
    new = reread(all_objects(origin(image, "pseudonymous")), tmp_path)
    for one in new:
        for keyword in IDENTITY:
            assert one[keyword].value == copied[keyword].value, (one.Modality, keyword)
        assert one.PatientIdentityRemoved == "YES"
    assert new[0].FrameOfReferenceUID == copied.FrameOfReferenceUID
    assert new[0].ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == (
        copied.SOPInstanceUID
    )
    paths = [put(copied, tmp_path / "copy.dcm"), *written(new, tmp_path)]
    assert complaints(*paths, program="dcentvfy") == []


def test_nothing_planted_in_a_source_reaches_objects_for_research() -> None:
    person = planted()
    for new in all_objects_of_any_size(person.dataset):
        content = file_bytes(new)
        assert [place for place, secret in person.secrets.items() if secret in content] == []


def all_objects_of_any_size(image: Dataset) -> list[Dataset]:
    import numpy as np
    from derived_builders import pdf, picture

    from mpi_unet.dicom.segmentation_writing import segmentations

    where = origin(image, "pseudonymous")
    mask = np.ones((*where.image.stored.shape[:2], image.Rows, image.Columns), dtype=bool)
    segmented = segmentations(where, {"lv_wall": mask}, MAKER)
    measured = [Measured("wall_ml", 90.0, segment="lv_wall", gate=0), Measured("mass_g", None, "no wall")]
    return [
        *segmented,
        measurement_report(where, measured, MAKER, segmentations=segmented, flags=[Flag("gut", "Activity in the gut")]),
        secondary_capture(where, picture(), MAKER, title="Polar map", burned_in=False),
        encapsulated_pdf(where, pdf(), MAKER, title="Report", burned_in=False),
    ]


def test_objects_are_pseudonymous_unless_the_other_is_asked_for() -> None:
    image = person(marked_volume(short_axis()))
    assert origin_of(image, pseudonyms=KEYS).identity == "pseudonymous"
    with pytest.raises(DicomError, match=r"identity='pseudonymous' needs pseudonyms=.*or say identity='source'"):
        origin_of(image)
    with pytest.raises(DicomError, match=r"identity='anonymous'; expected pseudonymous or source"):
        origin_of(image, identity="anonymous", pseudonyms=KEYS)


@pytest.mark.parametrize("text", ["seen with ID4711", "J\u00f6rg M\u00fcller", "accession acc99887"])
def test_a_text_that_names_the_patient_is_refused(text: str) -> None:
    image = person(marked_volume(short_axis()))
    measured = [Measured("mass_g", None, text)]
    with pytest.raises(DicomError, match=r"TextValue \(0040,A160\).*take it out of the texts") as caught:
        measurement_report(origin(image, "pseudonymous"), measured, MAKER)
    assert text not in str(caught.value)
    measurement_report(origin(image), measured, MAKER)


def test_one_word_of_a_name_may_be_any_word() -> None:
    assert not Secrets(words=frozenset({"wall", "mary"})).given_away_by("the wall is thin")


def test_dates_of_objects_for_research_move_with_the_patient() -> None:
    image = person(marked_volume(short_axis()))
    where = origin(image, "pseudonymous")
    new = all_objects(where)[0]
    shift = datetime.timedelta(days=KEYS.shift_days("ID4711"))
    assert new.ContentDate == f"{MADE + shift:%Y%m%d}"
    assert new.ContentTime == "000000"
    assert new.StudyDate == KEYS.date("ID4711", "20240311")
    assert (all_objects(origin(image))[0].ContentDate, MADE.year) == ("20260304", 2026)


def test_a_source_that_does_not_say_whose_it_is() -> None:
    image = changed(marked_volume(short_axis()), PatientID="")
    with pytest.raises(DicomError, match=r"PatientID \(0010,0020\) is empty.*patient_id="):
        origin(image, "pseudonymous")
    where = origin_of(image, pseudonyms=KEYS, patient_id="4711")
    assert where.header.PatientID == KEYS.patient("4711")


def test_values_without_form_are_left_empty_and_names_stay(tmp_path: Path) -> None:
    image = marked_volume(short_axis())
    with quiet():
        image.PatientBirthDate, image.PatientID, image.PatientAge = "00000000", "x" * 70, "67"
    paths = written(all_objects(origin(image)), tmp_path)
    for path in paths:
        with quiet():
            one = dcmread(path)
            assert (one.PatientBirthDate, one.PatientID) == ("", "x" * 70)
            assert "PatientAge" not in one


def test_a_source_without_identifiers_is_refused() -> None:
    image = without(marked_volume(short_axis()), "SOPInstanceUID", "StudyInstanceUID")
    with pytest.raises(DicomError, match=r"no SOPInstanceUID \(0008,0018\) and no StudyInstanceUID.*export the study"):
        origin(image)


def test_a_gate_knows_its_frames_among_two_energy_windows() -> None:
    """The second window is another image in the same file."""
    import numpy as np

    image = marked_volume(short_axis())
    twice = changed(image, NumberOfFrames=2 * image.NumberOfFrames, NumberOfEnergyWindows=2)
    twice.PixelData = image.PixelData * 2
    windows = [Dataset(), Dataset()]
    twice.EnergyWindowInformationSequence = windows
    frames = int(image.NumberOfFrames)
    twice.FrameIncrementPointer = [0x00540010, 0x00540080]
    twice.EnergyWindowVector = [1] * frames + [2] * frames
    twice.SliceVector = list(range(1, frames + 1)) * 2
    where = origin_of(twice, identity="source", energy_window=2)
    assert np.array_equal(where.frame_numbers(0), np.arange(frames + 1, 2 * frames + 1))


# --- Identifiers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", ["source", "pseudonymous"])
def test_the_same_command_gives_the_same_objects(identity: str, tmp_path: Path) -> None:
    image = person(marked_gated_volume(short_axis()))
    first = all_objects(origin(image, identity))
    again = all_objects(origin(image, identity))
    assert [file_bytes(one) for one in first] == [file_bytes(one) for one in again]
    later = all_objects(origin(image, identity), LATER_MAKER)
    assert [one.SOPInstanceUID for one in later] == [one.SOPInstanceUID for one in first]
    assert later[0].ContentDate != first[0].ContentDate
    before = {path: path.read_bytes() for path in write_objects(first, tmp_path)}
    assert {path: path.read_bytes() for path in write_objects(later, tmp_path)} == before


def test_no_identifier_is_used_twice() -> None:
    image = person(marked_gated_volume(short_axis()))
    sets = [
        all_objects(origin(image)),
        all_objects(origin(image, "pseudonymous")),
        all_objects(origin(image), replace(MAKER, run="another")),
        all_objects(origin(image), replace(MAKER, version="1.3")),
        all_objects(origin(changed(image, SOPInstanceUID="1.2.3"))),
    ]
    objects = [one for each in sets for one in each]
    assert len({one.SOPInstanceUID for one in objects}) == len(objects)
    assert len({one.SeriesInstanceUID for one in objects}) == 4 * len(sets)
    known = {image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID, image.FrameOfReferenceUID}
    assert not known & {uid for one in objects for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)}


def test_other_content_goes_by_another_name() -> None:
    where = origin(marked_volume(short_axis()))
    reports = [measurement_report(where, [Measured("mass_g", value)], MAKER).SOPInstanceUID for value in (150.0, 151.0)]
    assert reports[0] != reports[1]


def test_every_object_says_that_it_is_not_for_diagnosis() -> None:
    for new in all_objects(origin(marked_volume(short_axis()))):
        assert new.ContentQualification == "RESEARCH"
        assert any(NOTICE in str(element.value) for element in new.iterall() if element.VR in ("LT", "ST", "UT"))


def test_whoever_answers_for_it_may_qualify_it() -> None:
    new = all_objects(origin(marked_volume(short_axis())), replace(MAKER, qualification="PRODUCT"))
    assert {one.ContentQualification for one in new} == {"PRODUCT"}


@pytest.mark.parametrize("name", ["", "a\\b", "x" * 65, "Netz f\u00fcr"])
def test_makers_whose_name_does_not_fit_are_refused(name: str) -> None:
    with pytest.raises(DicomError, match=r"algorithm=.*expected 1 to 64 characters of ASCII"):
        Maker(name, "1", "run")


# --- Kinds of sources -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
def test_projections_get_reports_and_pictures(gated: bool, tmp_path: Path) -> None:
    image = projections(gated)
    where = origin(image)
    from derived_builders import pdf, picture

    objects = [
        measurement_report(where, [Measured("ejection_fraction_pct", None, "views of the camera")], MAKER),
        secondary_capture(where, picture(), MAKER, title="Views with outlines", burned_in=False),
        encapsulated_pdf(where, pdf(), MAKER, title="Report", burned_in=False),
    ]
    paths = written(objects, tmp_path)
    assert [complaint for path in paths for complaint in complaints(path)] == []
    assert complaints(put(image, tmp_path / "source.dcm"), *paths, program="dcentvfy") == []


@needs_test_data
@pytest.mark.parametrize("name", ["jaszczak_recon_tomo.dcm", "heart_recon_tomo", "heart_recon_tomo_explicitBE.dcm"])
def test_objects_of_real_files_have_no_error_that_the_file_had(name: str, tmp_path: Path) -> None:
    from derived_builders import pdf, picture

    where = origin(real("nm") / name)
    objects = [
        measurement_report(where, [Measured("mass_g", 140.0)], MAKER),
        secondary_capture(where, picture(), MAKER, title="Polar map", burned_in=False),
        encapsulated_pdf(where, pdf(), MAKER, title="Report", burned_in=False),
    ]
    assert [complaint for path in written(objects, tmp_path) for complaint in complaints(path)] == []


# --- Codes ------------------------------------------------------------------------------------------------------------


def test_codes_are_those_of_the_standard() -> None:
    """pydicom's dictionaries are made of PS3.16 by program; private codes and LOINC's EF are not in them."""
    from pydicom.sr._concepts_dict import concepts

    from mpi_unet.dicom import derived_codes

    standard: dict[tuple[str, str], set[str]] = {}
    for scheme, words in concepts.items():
        for values in words.values():
            for value, (meaning, _) in values.items():
                standard.setdefault((scheme, value), set()).add(meaning.removesuffix(" (observable entity)"))
    terms = {value for value in vars(derived_codes).values() if isinstance(value, Code)}
    terms |= set(derived_codes.SEGMENT_SITES)
    for quantity in derived_codes.QUANTITIES.values():
        terms |= {quantity.concept}
    wrong = [
        term
        for term in terms
        if term.scheme not in (derived_codes.SCHEME, "UCUM") and term.meaning not in standard.get(term[1::-1], set())
    ]
    assert wrong == [Code("10230-1", "LN", "Left Ventricular Ejection Fraction")]


def test_a_file_is_an_origin_as_well_as_a_dataset(tmp_path: Path) -> None:
    image = person(marked_volume(short_axis()))
    path = put(image, tmp_path / "source.dcm")
    from_file, from_dataset = (all_objects(origin(source)) for source in (path, dcmread(path)))
    assert [file_bytes(one) for one in from_file] == [file_bytes(one) for one in from_dataset]
