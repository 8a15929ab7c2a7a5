"""Files of every kind: other objects, traps, damaged and real ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from dicom_builders import (
    account,
    file_bytes,
    files_table,
    nm_image,
    other_object,
    prepare,
    put,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpi_unet.cohort.table import Cohort
from mpi_unet.dicom.identity import Pseudonyms
from mpi_unet.sources.dicom.options import Options
from mpi_unet.sources.dicom.scan import scan_file
from mpi_unet.sources.dicom.sorting import sorted_images

OPTIONS = Options.checked(
    domain=None,
    plane=None,
    gates="sum",
    one_per="acquisition",
    prefer=[],
    energy_window=None,
    spacing_mm=None,
    allow_unknown_geometry=False,
    allow_burned_in=False,
    without_patient_id="leave_out",
    use_issuer=False,
    keep_text=[],
    identifying_text=False,
    patterns=None,
    name="dicom",
    licence="not stated",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "input"


# --- Trees with traps -------------------------------------------------------------------------------------------------


def test_pipes_links_and_unreadable_files_are_rows_as_well(tree: Path) -> None:
    put(nm_image(), tree / "a")
    os.mkfifo(tree / "pipe")
    (tree / "lost").symlink_to(tree / "nowhere")
    (tree / "loop").symlink_to(tree, target_is_directory=True)
    prepare(tree)
    rows = files_table(tree)
    assert set(rows) == {"a", "pipe", "lost", "loop"}
    assert "no regular file" in rows["pipe"]["reason"]
    assert "cannot be opened" in rows["lost"]["reason"]


def test_names_in_any_script_are_written_and_read(tree: Path) -> None:
    put(nm_image(), tree / "M\xfcller, \xc4nne" / "Ruhe \N{WHITE SMILING FACE}\n.dcm")
    (tree / os.fsdecode(b"\xe9t\xe9")).write_text("no UTF-8 in this name")
    prepare(tree)
    assert "\\xe9t\\xe9" in files_table(tree)
    assert len(files_table(tree)) == 2


@pytest.mark.parametrize(
    ("sop_class", "modality", "reason"),
    [
        ("1.2.840.10008.1.3.10", "", "a list of the files of a medium (DICOMDIR); the files themselves are read"),
        ("1.2.840.10008.5.1.4.1.1.5", "NM", "a nuclear medicine image in the form that was retired in 1993"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", "outlines: add them with source=outlines"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG", "outlines: add them with source=outlines"),
        (
            "1.2.840.10008.5.1.4.1.1.128",
            "PT",
            "no nuclear medicine image but Positron Emission Tomography Image Storage",
        ),
        ("1.2.3.4711", "XX", "no nuclear medicine image but another object"),
    ],
)
def test_other_objects_are_left_out_by_their_name(tree: Path, sop_class: str, modality: str, reason: str) -> None:
    put(other_object(sop_class, modality), tree / "DICOMDIR")
    assert scan_file(tree / "DICOMDIR", "DICOMDIR").reason == reason


@pytest.mark.parametrize(("kind", "word"), [("STATIC", "static"), ("DYNAMIC", "dynamic"), ("WHOLE BODY", "whole body")])
def test_planar_images_are_left_out(tree: Path, kind: str, word: str) -> None:
    put(nm_image(ImageType=["ORIGINAL", "PRIMARY", kind, "EMISSION"]), tree / "a")
    assert scan_file(tree / "a", "a").reason == f"a {word} image, no tomography"


@pytest.mark.parametrize(
    "image_type",
    [
        ["ORIGINAL", "PRIMARY", "RECON TOMO", "TRANSMISSION"],
        ["DERIVED", "PRIMARY", "TOMO", "EMISSION", "SIM TRANSMISSION"],
    ],
)
def test_transmission_scans_are_left_out_by_their_image_type(tree: Path, image_type: list[str]) -> None:
    put(nm_image(ImageType=image_type), tree / "a")
    assert "an attenuation map: ImageType (0008,0008) says TRANSMISSION" in scan_file(tree / "a", "a").reason


def test_a_folder_that_cannot_be_opened_has_a_row(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(nm_image(), tree / "a")
    put(nm_image(seed=1), tree / "closed" / "b")
    listed = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)
    cohort = prepare(tree)
    assert set(files_table(tree)) == {"a", "closed"}
    assert files_table(tree)["closed"]["reason"] == "a folder that cannot be opened: its files were not seen"
    assert account(cohort)["left_out"] == {"a folder that cannot be opened: its files were not seen": 1}


def test_broken_and_other_files_are_told_apart(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpi_unet.dicom.nm.file.MAX_READS", 100)
    tree.mkdir()
    (tree / "cannot be read as DICOM").write_bytes(b"hello" * 100)
    (tree / "zeros").write_bytes(bytes(128) + b"DICM" + bytes(5000))
    assert scan_file(tree / "cannot be read as DICOM", "x").kind == "other"
    assert scan_file(tree / "zeros", "zeros").kind == "broken"


def test_the_private_table_quotes_the_reader_word_for_word(tree: Path) -> None:
    image = nm_image()
    put(image, tree / "4")
    content = (tree / "4").read_bytes()
    (tree / "4").write_bytes(content[: len(content) - 500])
    put(nm_image(patient="4712"), tree / "b")
    prepare(tree)
    assert "holds 2060 bytes; expected 2560 for 5 frames of 16 x 16 pixels" in files_table(tree)["4"]["detail"]


def test_images_that_do_not_say_what_or_which_they_are_are_left_out(tree: Path) -> None:
    put(nm_image(ImageType=["ORIGINAL", "PRIMARY"]), tree / "a")
    assert scan_file(tree / "a", "a").reason == "ImageType (0008,0008) does not say what its frames are"
    (tree / "b").write_bytes(put(nm_image(), tree / "a").read_bytes())
    assert scan_file(tree / "b", "b").reason == ""


def test_a_remark_of_the_reader_reaches_the_private_table(tree: Path) -> None:
    put(nm_image(SliceThickness="6.4", SpacingBetweenSlices=...), tree / "a")
    cohort = prepare(tree, allow_unknown_geometry=True)
    assert "SpacingBetweenSlices" in files_table(tree)["a"]["detail"]
    assert any("1 image with a remark of the reader" in text for text in account(cohort)["warnings"])


PLACE = st.floats(0, 1, exclude_max=True)
"""Of a byte, as a fraction of the file."""


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12), st.booleans()
)
def test_a_damaged_file_is_left_with_a_reason_or_read(tmp_path: Path, changes, cut: bool) -> None:
    """No bytes make the scan raise, and what it lets through the sorting leaves or takes."""
    path = tmp_path / "damaged"
    content = bytearray(file_bytes(nm_image()))
    for place, value in changes:
        content[int(place * len(content))] = value
    path.write_bytes(bytes(content[: int(changes[0][0] * len(content))] if cut else content))
    scanned = scan_file(path, "damaged")
    assert (scanned.header is None) == bool(scanned.reason)
    candidates, left = sorted_images([scanned], OPTIONS, Pseudonyms(bytes(32)))
    assert len(candidates) + len(left) == 1
    assert all(decision.reason and "Muster" not in decision.reason for decision in left)


REAL = Path(os.environ.get("MPI_UNET_TEST_DATA", "-"))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs real files: set MPI_UNET_TEST_DATA")
def test_real_files_are_told_apart(tmp_path: Path) -> None:
    tree = tmp_path / "input"
    shutil.copytree(REAL, tree)
    cohort = Cohort.open(prepare(tree))
    assert cohort.domain == "transaxial"
    assert [case.acquisition for case in cohort.cases] == ["rest"] * 3  # PhysioNet's, by their Image ID
    assert {case.camera for case in cohort.cases} == {"GE UFC"}
    rows = files_table(tree)
    assert rows["nm/jaszczak_recon_tomo.dcm"]["reason"] == "another part of the body"
    assert rows["nm/uniformity_static.dcm"]["reason"] == "a static image, no tomography"
    options = {"without_patient_id": "study", "allow_unknown_geometry": True, "plane": "short_axis"}
    forced = Cohort.open(prepare(tree / "nm", domain="short_axis", **options))
    assert len(forced.cases) == 1  # one heart in six encodings
    assert forced.spacing_known
    projections = Cohort.open(prepare(tree / "nm", domain="projection", without_patient_id="study"))
    assert [case.acquisition for case in projections.cases] == ["stress"]
