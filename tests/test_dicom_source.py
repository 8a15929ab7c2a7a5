"""A folder tree of anything becomes a cohort with pseudonyms."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import read_rows
from dicom_builders import (
    account,
    clinic_tree,
    file_bytes,
    files_table,
    nm_image,
    prepare,
    pseudonyms,
    put,
)
from pydicom import DataElement

from mpi_unet.cohort.table import Cohort
from mpi_unet.dicom.nm import read_nm
from mpi_unet.errors import CohortError, DicomError, RunError
from mpi_unet.sources.dicom import dicom_cohort
from mpi_unet.sources.dicom import images as dicom_images
from mpi_unet.sources.dicom.numbering import check_names


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "input"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- A clinic's export ------------------------------------------------------------------------------------------------


def test_an_export_becomes_a_cohort(tree: Path) -> None:
    cohort = Cohort.open(prepare(clinic_tree(tree), domain="transaxial"))
    keyed = pseudonyms(tree)
    expected = {f"{keyed.patient(patient)}_{state}" for patient in ("4711", "4712") for state in ("rest", "stress")}
    assert {case.case_id for case in cohort.cases} == expected
    assert cohort.readers == ()
    assert cohort.label == ""
    assert cohort.spacing_known
    for case in cohort.cases:
        assert case.patient_id == case.case_id.partition("_")[0]
        assert case.acquisition == case.case_id.partition("_")[2]
        assert case.camera == "mpi_unet phantom"
        assert case.gate == ""


def test_every_file_of_the_tree_has_a_row_that_says_what_became_of_it(tree: Path) -> None:
    cohort = prepare(clinic_tree(tree), domain="transaxial")
    rows, files = files_table(tree), [path for path in tree.rglob("*") if path.is_file()]
    assert len(rows) == len(files) == account(cohort)["files"] == 16
    assert all(bool(row["taken"]) != bool(row["reason"]) for row in rows.values())
    assert sum(bool(row["taken"]) for row in rows.values()) == 4
    assert sum(account(cohort)["left_out"].values()) == 12
    assert rows["MUSTER_4711/contours.dcm"]["reason"] == "outlines: add them with source=outlines"
    assert "CT Image Storage" in rows["MUSTER_4711/ct.dcm"]["reason"]
    assert "secondary capture" in rows["MUSTER_4711/screen.dcm"]["reason"]
    assert rows["README.txt"]["reason"] == rows["empty"]["reason"] == "no DICOM file"
    assert "unpack it" in rows["export.zip"]["reason"]
    assert "PixelData (7FE0,0010) holds 2060 bytes" in rows["half.dcm"]["detail"]
    assert rows["again/copy of IM00.dcm"]["reason"] == "the same object as another file"
    assert rows["again/copy of IM00.dcm"]["detail"] == "as MUSTER_4711/ST000/IM00"


def test_pixels_and_places_are_those_of_the_reader(tree: Path) -> None:
    put(nm_image(seed=3), tree / "a")
    case = Cohort.open(prepare(tree)).cases[0]
    image, volume = read_nm(tree / "a"), case.read_image()
    np.testing.assert_array_equal(volume.array, image.values[0])
    np.testing.assert_allclose(volume.affine, image.affine_ras, atol=1e-4)
    assert case.strata["source_uid"] == pseudonyms(tree).uid(image.sop_instance_uid)


def test_nothing_in_the_cohort_identifies(tree: Path) -> None:
    cohort = prepare(clinic_tree(tree), domain="transaxial")
    content = b"\n".join(name.encode() + b"\n" + data for name, data in bytes_of(cohort).items())
    for word in (b"Muster", b"MUSTER", b"4711", b"4712", b"20240311", b"IM00", b"ST000", tree.name.encode()):
        assert word not in content.replace(b"transaxial input", b"")
    for path in tree.rglob("*"):
        assert path.name.encode() not in content or path.name == "empty"


def test_the_private_table_is_for_its_owner_only(tree: Path) -> None:
    prepare(clinic_tree(tree), domain="transaxial")
    assert stat.S_IMODE((tree.parent / "output_private").stat().st_mode) == 0o700


# --- The same and more ------------------------------------------------------------------------------------------------


def test_the_same_command_gives_the_same_bytes(tree: Path) -> None:
    cohort = prepare(clinic_tree(tree), domain="transaxial")
    first = bytes_of(cohort)
    times = {path: path.stat().st_mtime_ns for path in cohort.rglob("*")}
    assert bytes_of(prepare(tree, domain="transaxial")) == first
    assert {path: path.stat().st_mtime_ns for path in cohort.rglob("*")} == times  # nothing was touched
    shutil.rmtree(cohort)
    assert bytes_of(prepare(tree, domain="transaxial")) == first


def test_a_private_table_that_was_lost_is_made_again(tree: Path) -> None:
    cohort = prepare(clinic_tree(tree), domain="transaxial")
    before, first = files_table(tree), bytes_of(cohort)
    shutil.rmtree(tree.parent / "output_private")
    assert bytes_of(prepare(tree, domain="transaxial")) == first
    assert files_table(tree) == before


def test_new_studies_join_and_what_was_there_keeps_its_name(tree: Path) -> None:
    put(nm_image(study="stress-b", StudyDate="20240401"), tree / "b")
    first = read_rows(prepare(tree))[0]
    put(nm_image(study="stress-a", StudyDate="20240101", seed=1), tree / "a")  # older than what is there
    put(nm_image(patient="4712", seed=2), tree / "c")
    rows = {row["source_uid"]: row for row in read_rows(prepare(tree))}
    assert len(rows) == 3
    assert rows[first["source_uid"]] == first
    assert sorted(row["case_id"] for row in rows.values() if row["patient_id"] == first["patient_id"]) == [
        first["case_id"],
        f"{first['case_id']}_2",
    ]


def test_the_choice_of_an_earlier_preparation_stays(tree: Path) -> None:
    put(nm_image(name="stress fbp", SeriesNumber=5), tree / "a")
    first = read_rows(prepare(tree))[0]
    put(nm_image(name="stress osem", seed=1), tree / "b")  # would be preferred
    assert read_rows(prepare(tree))[0] == first
    assert "another image of an acquisition" in files_table(tree)["b"]["reason"]
    chosen = read_rows(prepare(tree, prefer=["osem"]))[0]  # other arguments choose anew
    assert chosen["source_uid"] != first["source_uid"]


def ids(cohort: Path) -> dict[str, str]:
    return {row["case_id"]: row["source_uid"] for row in read_rows(cohort)}


@pytest.mark.parametrize("lost", ["nothing", "cohort", "names"])
def test_a_name_never_passes_to_another_image(tree: Path, lost: str) -> None:
    put(nm_image(study="rest-1", name="rest", seed=1), tree / "1")
    put(nm_image(study="rest-2", name="rest", seed=2), tree / "2")
    before = ids(prepare(tree, one_per="image"))
    if lost == "cohort":
        shutil.rmtree(tree.parent / "output")
    elif lost == "names":
        (tree.parent / "output_private" / "names.csv").unlink()
    (tree / "1").unlink()
    put(nm_image(study="rest-3", name="rest", seed=3), tree / "3")
    after = ids(prepare(tree, one_per="image"))
    name = f"{pseudonyms(tree).patient('4711')}_rest"
    assert set(before) == {name, f"{name}_2"}
    assert f"{name}_3" in after
    assert all(before[case] == after[case] for case in set(before) & set(after))
    (tree / "3").unlink()  # and the first comes back under its own name
    put(nm_image(study="rest-1", name="rest", seed=1), tree / "1")
    assert ids(prepare(tree, one_per="image")) == before


def test_other_arguments_give_another_image_another_name(tree: Path) -> None:
    put(nm_image(name="stress fbp", SeriesNumber=1), tree / "a")
    put(nm_image(name="stress osem", seed=1), tree / "b")
    (first,) = ids(prepare(tree, prefer=["fbp"])).items()
    (second,) = ids(prepare(tree, prefer=["osem"])).items()
    assert second[1] != first[1]
    assert second[0] == f"{first[0]}_2"
    assert ids(prepare(tree, prefer=["fbp"])) == dict([first])


def test_the_private_folder_of_another_cohort_is_refused(tree: Path) -> None:
    put(nm_image(), tree / "a")
    (name,) = ids(prepare(tree))
    (tree.parent / "output_private" / "names.csv").write_text(f"case_id,source_uid\n{name},2.25.1\n")
    put(nm_image(patient="4712", seed=1), tree / "b")
    with pytest.raises(CohortError, match=rf"(?s)1 cases of .* are other images than .*{name}.*choose another output"):
        prepare(tree)


def test_a_name_that_would_change_its_image_is_refused() -> None:
    check_names({"P_rest": "2.25.1"}, {"P_rest": "2.25.1", "P_stress": "2.25.2"})
    with pytest.raises(CohortError, match=r"(?s)1 cases would be other images than before.*P_rest\nChoose another"):
        check_names({"P_rest": "2.25.3"}, {"P_rest": "2.25.1"})


def test_values_of_the_header_reach_neither_terminal_nor_log(
    tree: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    image = nm_image()
    put(image, tree / "b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = nm_image(patient="4712", seed=1, StudyInstanceUID="1.2.Planted")
        image.add(DataElement("SeriesNumber", "IS", "1234", validation_mode=0))
        content = file_bytes(image)
    assert b"1.2.Planted" in content
    assert content.count(b"IS\x04\x001234") == 1
    (tree / "a").write_bytes(content.replace(b"IS\x04\x001234", b"IS\x04\x00Doe^"))
    caplog.clear()
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("pydicom").warning("heard")
        cohort = prepare(tree)
    assert [record.getMessage() for record in caplog.records] == ["heard"]
    shown = "".join(capfd.readouterr())
    for planted in ("Planted", "Doe^"):
        assert planted not in shown + (cohort / "preparation.json").read_text()


def test_a_preparation_that_was_killed_goes_on(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic_tree(tree)
    written: list[Path] = []
    write_image = dicom_images.write_image

    def dying(path: Path, *arguments: object, **options: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        write_image(path, *arguments, **options)
        written.append(path)

    monkeypatch.setattr(dicom_images, "write_image", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare(tree, domain="transaxial")
    assert not (tree.parent / "output").exists()
    again: list[Path] = []
    monkeypatch.setattr(
        dicom_images,
        "write_image",
        lambda path, *arguments, **options: (again.append(path), write_image(path, *arguments, **options)),
    )
    cohort = prepare(tree, domain="transaxial")
    assert len(again) == 2  # only what was missing
    whole = bytes_of(cohort)
    shutil.rmtree(cohort)
    assert bytes_of(prepare(tree, domain="transaxial")) == whole
    assert not list(tree.parent.glob(".part-*"))


def test_another_key_for_the_same_cohort_is_refused(tree: Path) -> None:
    put(nm_image(), tree / "a")
    prepare(tree)
    put(nm_image(patient="4712"), tree / "b")
    with pytest.raises(CohortError, match=r"was made with the key .* all pseudonyms would change.*source.key_file="):
        prepare(tree, key_file=tree.parent / "other.key")


def test_a_place_that_holds_something_else_is_left_alone(tree: Path) -> None:
    put(nm_image(), tree / "a")
    (tree.parent / "output").mkdir()
    (tree.parent / "output" / "thesis.txt").write_text("mine")
    with pytest.raises(CohortError, match="holds something that source=dicom did not make"):
        prepare(tree)
    assert (tree.parent / "output" / "thesis.txt").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tree: Path) -> None:
    put(nm_image(), tree / "a")
    prepare(tree)
    tree.parent.chmod(0o500)
    with pytest.raises(RunError, match="cannot be written"):
        dicom_cohort(tree, tree.parent / "second", key_file=tree.parent / "pseudonyms.key")


# --- Arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "short axis"}, "source.domain=short axis; expected .*did you mean 'short_axis'"),
        ({"plane": "sagittal"}, "source.plane=sagittal; expected transaxial or short_axis"),
        ({"gates": "all"}, r"source.gates=all; expected sum, each, or numbers from 1 such as \[1,8\]"),
        ({"gates": [0]}, r"source.gates=\[0\]; expected"),
        ({"gates": []}, r"source.gates=\[\]; expected"),
        ({"one_per": "series"}, "source.one_per=series; expected acquisition or time or image"),
        ({"spacing_mm": [0, 4, 4]}, r"source.spacing_mm=\[0.0, 4.0, 4.0\]; expected three positive"),
        ({"same_identifier": "keep"}, "source.same_identifier=keep; expected refuse or leave_out"),
        ({"without_patient_id": "name"}, "source.without_patient_id=name; expected leave_out or study"),
        ({"identifying_text": True}, "source.identifying_text=true has no effect; name the texts"),
        ({"patterns": {"planes": {}}}, "source.patterns.planes: no such table"),
    ],
)
def test_a_wrong_argument_is_named_before_any_file_is_read(tree: Path, options: dict, message: str) -> None:
    with pytest.raises(CohortError, match=message):
        prepare(tree, **options)


def test_all_wrong_arguments_are_named_at_once(tree: Path) -> None:
    with pytest.raises(CohortError, match=r"(?s)source.domain=heart.*source.gates=all.*Correct them"):
        prepare(tree, domain="heart", gates="all")


def test_a_key_that_others_can_read_stops_everything(tree: Path) -> None:
    put(nm_image(), tree / "a")
    prepare(tree)
    (tree.parent / "pseudonyms.key").chmod(0o644)
    with pytest.raises(DicomError, match="chmod 600"):
        prepare(tree)


def test_output_within_the_input_is_refused(tree: Path) -> None:
    put(nm_image(), tree / "a")
    with pytest.raises(CohortError, match="lie in one another"):
        dicom_cohort(tree, tree / "cohort", key_file=tree.parent / "pseudonyms.key")
