"""Which of many images become cases."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import read_rows
from dicom_builders import (
    account,
    clinic_tree,
    counts,
    files_table,
    nm_image,
    prepare,
    put,
)
from pydicom.uid import RLELossless

from mpi_unet.cohort.table import Cohort
from mpi_unet.dicom.nm import read_nm
from mpi_unet.errors import CohortError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "input"


# --- Duplicates -------------------------------------------------------------------------------------------------------


def test_one_identifier_for_different_pixels_is_an_error_that_names_all_pairs(tree: Path) -> None:
    for number in (1, 2):
        image = nm_image(patient=f"471{number}", seed=number)
        put(image, tree / f"one{number}")
        image.PixelData = counts((5, 16, 16), 50 + number).astype("<u2").tobytes()
        put(image, tree / f"other{number}")
    with pytest.raises(CohortError, match=r"one1 and other1\n  one2 and other2\n.*take the others out") as caught:
        prepare(tree)
    assert "2 groups of files share one SOPInstanceUID" in str(caught.value)
    assert not (tree.parent / "output").exists()


def test_files_of_one_identifier_can_be_left_out_all_of_them_and_only_they(tree: Path) -> None:
    image = nm_image(patient="4711")
    put(image, tree / "one")
    image.PixelData = counts((5, 16, 16), 50).astype("<u2").tobytes()
    put(image, tree / "other")
    put(nm_image(patient="4712", seed=2), tree / "third")
    cohort = prepare(tree, same_identifier="leave_out")
    assert len(read_rows(cohort)) == 1
    said = {name: row["reason"] for name, row in files_table(tree).items()}
    clash = "another file has its SOPInstanceUID and holds other pixels"
    assert said == {"one": clash, "other": clash, "third": ""}


def test_the_same_pixels_under_another_identifier_count_once(tree: Path) -> None:
    put(nm_image(), tree / "a")
    put(nm_image(SOPInstanceUID="1.2.3.4"), tree / "b")
    assert len(read_rows(prepare(tree, one_per="image"))) == 1
    assert files_table(tree)["b"]["reason"] == "the same pixels as another file"


def test_the_same_pixels_of_two_patients_are_nobodys(tree: Path) -> None:
    put(nm_image(), tree / "a")
    put(nm_image(patient="4712"), tree / "b")
    put(nm_image(patient="4713", seed=1), tree / "c")
    assert len(read_rows(prepare(tree))) == 1
    assert (
        files_table(tree)["a"]["reason"]
        == files_table(tree)["b"]["reason"]
        == "the same pixels stand under several patients"
    )


def test_one_object_in_several_encodings_counts_once(tree: Path) -> None:
    image = nm_image()
    put(image, tree / "a")
    packed = copy.deepcopy(image)
    packed.compress(RLELossless, generate_instance_uid=False)
    put(packed, tree / "b")
    assert len(read_rows(prepare(tree, one_per="image"))) == 1
    assert files_table(tree)["b"]["reason"] == "the same object as another file"


# --- One of several ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, "stress osem"),
        ({"prefer": ["fbp"]}, "stress fbp"),
        ({"prefer": ["mlem", "ac"]}, "stress osem ac"),
        ({"gates": "each"}, "stress gated"),
    ],
)
def test_one_reconstruction_of_an_acquisition_is_taken(tree: Path, options: dict, taken: str) -> None:
    names = ["stress fbp", "stress osem ac", "stress osem", "stress gated"]
    for seed, name in enumerate(names):
        kind = "RECON GATED TOMO" if "gated" in name else "RECON TOMO"
        put(nm_image(kind, name=name, seed=seed, SeriesNumber=seed), tree / name)
    prepare(tree, **options)
    assert [name for name, row in files_table(tree).items() if row["taken"]] == [taken]
    left = {row["reason"] for row in files_table(tree).values() if not row["taken"]}
    assert left == {"another image of an acquisition that is taken"}


def test_all_images_are_taken_when_asked_for(tree: Path) -> None:
    for seed, name in enumerate(["stress fbp", "stress osem", "stress osem AC"]):
        put(nm_image(name=name, seed=seed), tree / name)
    cohort = prepare(tree, one_per="image")
    assert sorted(row["case_id"].partition("_")[2] for row in read_rows(cohort)) == ["stress", "stress_2", "stress_3"]
    assert any("attenuation corrected: unknown 2, yes 1" in warning for warning in account(cohort)["warnings"])


def test_two_acquisitions_of_one_state_are_two_when_time_counts(tree: Path) -> None:
    put(nm_image(seed=0, AcquisitionDate="20240311", AcquisitionTime="100000"), tree / "supine")
    put(nm_image(seed=1, AcquisitionDate="20240311", AcquisitionTime="102500"), tree / "prone")
    assert len(read_rows(prepare(tree))) == 1
    assert len(read_rows(prepare(tree, one_per="time"))) == 2


def test_what_may_be_rest_or_stress_is_told_apart_by_its_time(tree: Path) -> None:
    put(nm_image(name="A", coded=False, AcquisitionDate="20240311", AcquisitionTime="100000"), tree / "a")
    put(nm_image(name="B", coded=False, AcquisitionDate="20240311", AcquisitionTime="130000", seed=1), tree / "b")
    put(nm_image(name="C", coded=False, AcquisitionDate="20240311", AcquisitionTime="130000", seed=2), tree / "c")
    cohort = prepare(tree)
    rows = read_rows(cohort)
    assert sorted(row["case_id"].partition("_")[2] for row in rows) == ["unknown", "unknown_2"]
    assert {row["acquisition"] for row in rows} == {""}
    assert any(
        "2 images of which nothing, or contradictory things, say" in text for text in account(cohort)["warnings"]
    )


def test_studies_of_different_days_are_different_cases(tree: Path) -> None:
    put(nm_image(study="stress-1", StudyDate="20230105"), tree / "a")
    put(nm_image(study="stress-2", StudyDate="20240105", seed=1), tree / "b")
    rows = sorted(read_rows(prepare(tree)), key=lambda row: row["case_id"])
    assert [row["case_id"].partition("_")[2] for row in rows] == ["stress", "stress_2"]
    days = np.diff([np.datetime64(re.sub(r"(....)(..)(..)", r"\1-\2-\3", row["study_date"])) for row in rows])
    assert days[0].astype(int) == 365


# --- Gates ------------------------------------------------------------------------------------------------------------


def test_gates_are_summed_taken_one_by_one_or_chosen(tree: Path) -> None:
    put(nm_image("RECON GATED TOMO"), tree / "a")
    values = read_nm(tree / "a").values
    summed = Cohort.open(prepare(tree)).cases
    assert [(case.gate, case.case_id.partition("_")[2]) for case in summed] == [("sum", "stress")]
    np.testing.assert_array_equal(summed[0].read_image().array, values.sum(axis=0))
    each = Cohort.open(prepare(tree, gates="each")).cases
    assert [(case.gate, case.case_id.partition("_")[2]) for case in each] == [("1", "stress_g1"), ("2", "stress_g2")]
    np.testing.assert_array_equal(each[1].read_image().array, values[1])
    assert [case.gate for case in Cohort.open(prepare(tree, gates=[2])).cases] == ["2"]
    with pytest.raises(CohortError, match=r"1: it has 2 gates, fewer than source\.gates names"):
        prepare(tree, gates=[9])


def test_projections_keep_their_views_and_the_size_of_their_pixels(tree: Path) -> None:
    put(nm_image("GATED TOMO"), tree / "a")
    put(nm_image("TOMO", patient="4712", seed=4), tree / "b")
    cohort = Cohort.open(prepare(tree))
    assert cohort.domain == "projection"
    for case in cohort.cases:
        volume = case.read_image()
        assert volume.array.shape == (4, 16, 16)
        assert volume.spacing_mm[1:] == (pytest.approx(6.4), pytest.approx(6.4))


# --- Domains ----------------------------------------------------------------------------------------------------------


def test_several_domains_are_counted_and_the_remedy_is_typed_out(tree: Path) -> None:
    with pytest.raises(CohortError, match=r"projection: 4 images \(source.domain=projection\)\n  transaxial: 4 images"):
        prepare(clinic_tree(tree))


def test_nothing_to_take_says_why_for_each_reason(tree: Path) -> None:
    clinic_tree(tree)
    with pytest.raises(CohortError, match=r"(?s)None of the 16 files.*4: projections; the cohort holds short-axis"):
        prepare(tree, domain="short_axis")
    assert len(files_table(tree)) == 16  # the table tells what became of each all the same


def test_an_empty_folder_says_so(tree: Path) -> None:
    tree.mkdir()
    with pytest.raises(CohortError, match="None of the 0 files"):
        prepare(tree)
    with pytest.raises(CohortError, match=r"input=.* is no folder; give the folder"):
        prepare(tree / "missing")
