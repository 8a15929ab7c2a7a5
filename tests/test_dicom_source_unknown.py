"""What images do not say, and what must not be said of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import read_rows
from dicom_builders import (
    account,
    counts,
    files_table,
    nm_image,
    prepare,
    pseudonyms,
    put,
)

from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "input"


# --- What the image does not say --------------------------------------------------------------------------------------


def test_an_image_of_unknown_geometry_is_taken_only_when_asked_for(tree: Path) -> None:
    image = nm_image(plane="short_axis", seed=7)
    detector = image.DetectorInformationSequence[0]
    del detector.ImagePositionPatient, detector.ImageOrientationPatient
    put(image, tree / "a")
    put(nm_image(plane="short_axis", patient="4712"), tree / "b")
    assert len(read_rows(prepare(tree))) == 1
    assert "does not say where it lies in the patient" in files_table(tree)["a"]["reason"]
    cohort = prepare(tree, allow_unknown_geometry=True)
    assert len(read_rows(cohort)) == 2
    assert Cohort.open(cohort).spacing_known
    assert any("1 image without a place in the patient" in text for text in account(cohort)["warnings"])
    spacings = {tuple(np.round(case.read_image().spacing_mm, 3)) for case in Cohort.open(cohort).cases}
    assert spacings == {(6.4, 4.8, 4.8)}


def test_one_image_without_spacing_hides_millimeters_only_when_asked_for(tree: Path) -> None:
    put(nm_image("TOMO", PixelSpacing=...), tree / "a")
    put(nm_image("TOMO", patient="4712", seed=1), tree / "b")
    assert Cohort.open(prepare(tree)).spacing_known
    assert "does not say how large its voxels are" in files_table(tree)["a"]["reason"]
    hidden = prepare(tree, allow_unknown_geometry=True)
    assert not Cohort.open(hidden).spacing_known
    assert any("1 of 2 images without the size of a voxel" in text for text in account(hidden)["warnings"])
    given = Cohort.open(prepare(tree, spacing_mm=[4.0, 4.0]))
    assert given.spacing_known
    assert sorted(round(case.read_image().spacing_mm[1], 3) for case in given.cases) == [4.0, 6.4]


@pytest.mark.parametrize("patient", ["", "ANONYMIZED", "0"])
def test_an_image_of_nobody_is_left_out_or_its_study_is_somebody(tree: Path, patient: str) -> None:
    for seed, study in enumerate(["stress-1", "stress-2"]):
        put(nm_image(study=study, seed=seed, PatientID=patient), tree / study)
        put(nm_image("RECON GATED TOMO", study=study, seed=seed, PatientID=patient), tree / f"{study} gated")
    put(nm_image(patient="4711", seed=9), tree / "known")
    assert len(read_rows(prepare(tree))) == 1
    assert "PatientID (0010,0020) says nobody" in files_table(tree)["stress-1"]["reason"]
    cohort = Cohort.open(prepare(tree, without_patient_id="study"))
    assert len(cohort.patients) == 3
    assert len(cohort.cases) == 3


def test_images_that_may_show_writing_are_left_out(tree: Path) -> None:
    put(nm_image(seed=1, BurnedInAnnotation="YES"), tree / "said")
    written = nm_image(seed=2)
    written.Rows = written.Columns = 64
    pixels = counts((5, 64, 64)).astype("<u2")
    pixels[0, 2:9, 2:14:3] = 999
    written.PixelData = pixels.tobytes()
    put(written, tree / "seen")
    put(nm_image(patient="4712"), tree / "clean")
    assert len(read_rows(prepare(tree, one_per="image"))) == 1
    assert "BurnedInAnnotation (0028,0301) is YES" in files_table(tree)["said"]["reason"]
    assert "its corners look as if something were written there" in files_table(tree)["seen"]["reason"]
    assert len(read_rows(prepare(tree, one_per="image", allow_burned_in=True))) == 3


def test_an_empty_image_is_left_out(tree: Path) -> None:
    put(nm_image(), tree / "a")
    put(nm_image(patient="4712", PixelData=bytes(2 * 5 * 16 * 16)), tree / "b")
    assert len(read_rows(prepare(tree))) == 1
    assert files_table(tree)["b"]["reason"] == "all its pixels are equal"


def test_one_number_of_two_people_is_remarked(tree: Path) -> None:
    put(nm_image(PatientBirthDate="19500101", PatientSex="F", IssuerOfPatientID="A"), tree / "a")
    put(nm_image(study="rest", seed=1, PatientBirthDate="19610202", PatientSex="M", IssuerOfPatientID="B"), tree / "b")
    cohort = prepare(tree)
    warnings = " ".join(account(cohort)["warnings"])
    name = pseudonyms(tree).patient("4711")
    assert f"several birth dates under one PatientID, which counts as one person all the same: {name}" in warnings
    assert "several sexes" in warnings
    assert "several issuers" in warnings
    assert "1950" not in (cohort / "preparation.json").read_text()
    assert len(Cohort.open(prepare(tree, use_issuer=True)).patients) == 2


def test_sex_counts_and_camera_become_columns(tree: Path) -> None:
    put(nm_image("TOMO", PatientSex="F", Manufacturer="SIEMENS NM", ManufacturerModelName="Symbia T2"), tree / "a")
    put(nm_image("TOMO", patient="4712", seed=1, Manufacturer="Dr. Muster's own", ManufacturerModelName=""), tree / "b")
    cases = {case.patient_id: case for case in Cohort.open(prepare(tree)).cases}
    known, own = (cases[pseudonyms(tree).patient(patient)] for patient in ("4711", "4712"))
    assert known.strata["sex"] == "F"
    assert known.camera == "Siemens Symbia"
    assert known.strata["counts"] == str(int(counts((4, 16, 16)).sum()))
    assert re.fullmatch(r"camera-[A-Z2-7]{4}", own.camera)


# --- Texts ------------------------------------------------------------------------------------------------------------


def test_descriptions_are_written_only_when_asked_for(tree: Path) -> None:
    put(nm_image(name="Stress SA special", plane="short_axis"), tree / "a")
    assert "special" not in (prepare(tree) / "cases.csv").read_text()
    kept = read_rows(prepare(tree, keep_text=["SeriesDescription"]))[0]
    assert kept["SeriesDescription"] == "Stress SA special"


@pytest.mark.parametrize("text", ["Stress Muster", "stress 4711", "stress, Mr Miller", "stress 11.03.2024"])
def test_a_text_that_tells_who_it_is_is_refused(tree: Path, text: str) -> None:
    put(nm_image(name=text, PatientName="Muster^Hans"), tree / "a")
    with pytest.raises(CohortError, match=r"(?s)a: SeriesDescription holds .*source.identifying_text=true"):
        prepare(tree, keep_text=["SeriesDescription"])
    assert not (tree.parent / "output").exists()
    rows = read_rows(prepare(tree, keep_text=["SeriesDescription"], identifying_text=True))
    assert rows[0]["SeriesDescription"] == text


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"])
def test_names_numbers_and_dates_cannot_be_asked_for(tree: Path, keyword: str) -> None:
    put(nm_image(), tree / "a")
    with pytest.raises(CohortError, match=f"source.keep_text: {keyword} cannot be kept.*never written"):
        prepare(tree, keep_text=[keyword], identifying_text=True)
