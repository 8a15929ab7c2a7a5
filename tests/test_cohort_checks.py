"""Cohort.check and the fingerprint: each way to break a case, and what the one error says of it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cohort_builders import edit_metadata, edit_row, image_path, label_path, read_rows, write_rows, write_tiny_cohort

from mpi_unet.cohort.nifti import affine_from_spacing, read_image, read_mask, write_image, write_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError


def check_error(root: Path, reader: str = "truth", exclude: tuple[str, ...] = ()) -> str:
    with pytest.raises(CohortError) as caught:
        Cohort.open(root, exclude).check(reader)
    return str(caught.value)


def break_nothing_to_read(root: Path) -> None:
    image_path(root, "P01_rest").unlink()


def break_not_nifti(root: Path) -> None:
    image_path(root, "P01_rest").write_bytes(b"not a NIfTI")


def break_label_missing(root: Path) -> None:
    label_path(root, "P01_rest").unlink()


def break_label_shape(root: Path) -> None:
    write_mask(label_path(root, "P01_rest"), np.ones((4, 32, 30), bool), affine_from_spacing((6.4, 3.2, 3.2)))


def break_label_spacing(root: Path) -> None:
    write_mask(label_path(root, "P01_rest"), np.ones((4, 32, 32), bool), affine_from_spacing((6.4, 3.2, 3.0)))


def break_label_place(root: Path) -> None:
    affine = affine_from_spacing((6.4, 3.2, 3.2))
    affine[0, 3] = 5.0
    write_mask(label_path(root, "P01_rest"), np.ones((4, 32, 32), bool), affine)


def break_label_values(root: Path) -> None:
    path = label_path(root, "P01_rest")
    file = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(file.dataobj) * 255, file.affine), path)


def break_label_empty(root: Path) -> None:
    write_mask(label_path(root, "P01_rest"), np.zeros((4, 32, 32), bool), affine_from_spacing((6.4, 3.2, 3.2)))


def break_image(root: Path, value: float | None = None, everywhere: bool = False, spacing_z_mm: float = 6.4) -> None:
    image = read_image(image_path(root, "P01_rest")).array.copy()
    if everywhere:
        image[:] = value
    elif value is not None:
        image[1, 2, 3:6] = value
    affine = affine_from_spacing((spacing_z_mm, 3.2, 3.2))
    write_image(image_path(root, "P01_rest"), image, affine)
    write_mask(label_path(root, "P01_rest"), read_mask(label_path(root, "P01_rest")), affine)


def break_axes(root: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((32, 32, 4, 2), np.float32), np.eye(4)), image_path(root, "P01_rest"))


def break_no_voxel(root: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((32, 0, 4), np.float32), np.eye(4)), image_path(root, "P01_rest"))


BROKEN = [
    (break_nothing_to_read, "image P01_rest.nii.gz: file is missing"),
    (break_not_nifti, "image P01_rest.nii.gz: cannot be read"),
    (break_label_missing, "label of truth: P01_rest.nii.gz: file is missing"),
    (break_label_shape, "label of truth is 4x32x30, image is 4x32x32 (z, y, x); a label must lie on its image's grid"),
    (break_label_spacing, "spacing of the label of truth is 6.4 x 3.2 x 3 mm, of the image 6.4 x 3.2 x 3.2 mm"),
    (break_label_place, "affines of image and label of truth differ by 5 mm; a label must lie on its image's grid"),
    (break_label_values, "label holds the values 0, 255; expected 0 outside and 1 inside"),
    (break_label_empty, "label of truth is empty; expected at least one voxel of the structure"),
    (lambda root: break_image(root, np.nan), "image holds 3 voxels of NaN or infinity; expected finite intensities"),
    (lambda root: break_image(root, -np.inf), "image holds 3 voxels of NaN or infinity"),
    (lambda root: break_image(root, 7, everywhere=True), "image is 7 everywhere; expected an image with contrast"),
    (break_axes, "shape is 32x32x4x2; expected three axes (x, y, z), none"),
    (break_no_voxel, "shape is 32x0x4; expected three axes (x, y, z), none of them empty"),
    (lambda root: edit_row(root, 1, patient_id=" "), "patient_id is empty; expected the pseudonym of the person"),
    (lambda root: edit_row(root, 1, label_truth=""), "reader 'truth' has no label; readers with one: A"),
    (lambda root: edit_row(root, 1, image="../../etc/x.nii"), "leads out of the cohort; expected a path relative to"),
    (lambda root: edit_row(root, 1, image="/etc/x.nii"), "path '/etc/x.nii' leads out of the cohort"),
]


@pytest.mark.parametrize(("harm", "sentence"), BROKEN, ids=[sentence[:40] for _, sentence in BROKEN])
def test_broken_case_is_named_with_value_expectation_and_remedy(tiny_root: Path, harm, sentence: str):
    harm(tiny_root)
    text = check_error(tiny_root)
    first, *problems, remedy = text.splitlines()
    assert first == f"1 of 6 cases cannot be used (data.root={tiny_root}):"
    assert any(line.startswith("  P01_rest: ") and sentence in line for line in problems), text
    assert all(line.startswith("  P01_rest: ") for line in problems)
    assert remedy == "Fix the files, or leave these cases out with data.exclude=[P01_rest]"
    Cohort.open(tiny_root, exclude=["P01_rest"]).check("truth")


def test_zero_spacing_is_refused(tiny_root: Path):
    for path in (image_path(tiny_root, "P01_rest"), label_path(tiny_root, "P01_rest")):
        file = nib.load(path)
        broken = nib.Nifti1Image(np.asanyarray(file.dataobj), None)
        broken.set_sform(np.diag([3.2, 3.2, 0.0, 1.0]), code=1)
        broken.header["pixdim"][1:4] = [3.2, 3.2, 0.0]
        nib.save(broken, path)
    assert "spacing is 0 x 3.2 x 3.2 mm (z, y, x); expected positive distances" in check_error(tiny_root)


def test_label_of_another_reader_may_be_missing(tiny_root: Path):
    edit_row(tiny_root, 1, label_A="")
    Cohort.open(tiny_root).check("truth")
    with pytest.raises(CohortError, match="P01_rest: reader 'A' has no label; readers with one: truth"):
        Cohort.open(tiny_root).case("P01_rest").read_mask("A")


def test_all_offenders_stand_in_one_error(tiny_root: Path):
    break_label_empty(tiny_root)
    image_path(tiny_root, "P04_rest").unlink()
    edit_row(tiny_root, 5, patient_id="")
    text = check_error(tiny_root)
    assert text.startswith("3 of 6 cases cannot be used")
    assert text.endswith("data.exclude=[P01_rest,P04_rest,P05_rest]")
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:-1]] == ["P01_rest", "P04_rest", "P05_rest"]


def test_patient_ids_stay_out_of_messages(tiny_root: Path):
    edit_row(tiny_root, 1, patient_id="Jane-Doe-1950")
    break_label_empty(tiny_root)
    assert "Jane" not in check_error(tiny_root)


@pytest.mark.parametrize("other", ["P01_rest", "p01_REST"])
def test_case_id_on_two_rows(tiny_root: Path, other: str):
    edit_row(tiny_root, 2, case_id=other)
    text = check_error(tiny_root)
    assert text.startswith("2 of 6 cases cannot be used")
    assert text.count("case_id is on 2 rows of cases.csv; expected one row a case") == 2


@pytest.mark.parametrize("case_id", ["../../outside", "a/b", "", ".hidden", "a b", "P01#3", "a\\b", "x" * 200, "C:x"])
def test_case_id_that_is_no_safe_file_name(tiny_root: Path, case_id: str):
    edit_row(tiny_root, 1, case_id=case_id)
    text = check_error(tiny_root)
    assert f"case_id is {case_id!r}; expected a plain file name of letters, digits" in text
    Cohort.open(tiny_root, exclude=[case_id]).check("truth")


def test_ids_that_hydra_would_read_as_numbers_are_quoted_in_the_remedy(tiny_root: Path):
    edit_row(tiny_root, 1, case_id="0017", patient_id="")
    assert check_error(tiny_root).endswith("""leave these cases out with "data.exclude=['0017']\"""")


# --- Fingerprint ------------------------------------------------------------------------------------------------------


def fingerprint(root: Path, reader: str = "truth", exclude: tuple[str, ...] = ()) -> str:
    return Cohort.open(root, exclude).fingerprint(reader)


def test_fingerprint_is_the_same_for_the_same_content(tmp_path: Path):
    first, second = write_tiny_cohort(tmp_path / "a"), write_tiny_cohort(tmp_path / "b")
    assert fingerprint(first) == fingerprint(second)
    assert len(fingerprint(first)) == 64


def test_fingerprint_ignores_order_of_rows_names_and_compression(tiny_root: Path):
    before = fingerprint(tiny_root)
    rows = read_rows(tiny_root)
    moved = tiny_root / "images/elsewhere.nii"
    nib.save(nib.load(tiny_root / rows[0]["image"]), moved)
    rows[0]["image"] = "images/elsewhere.nii"
    write_rows(tiny_root, rows[::-1])
    assert fingerprint(tiny_root) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: break_image(root, 1000.0),
        lambda root: break_image(root, spacing_z_mm=6.5),
        break_label_place,
        lambda root: edit_row(root, 1, sex="F"),
        lambda root: edit_row(root, 1, acquisition="stress"),
        lambda root: edit_row(root, 1, patient_id="P00"),
        lambda root: edit_row(root, 1, case_id="renamed"),
        lambda root: edit_metadata(root, label="lv_cavity"),
    ],
    ids=["pixel", "spacing", "label", "stratum", "acquisition", "patient", "case", "meaning"],
)
def test_fingerprint_changes_with_content(tiny_root: Path, change):
    before = fingerprint(tiny_root)
    change(tiny_root)
    assert fingerprint(tiny_root) != before


def test_fingerprint_depends_on_reader_and_excluded_cases(tiny_root: Path):
    assert len({fingerprint(tiny_root), fingerprint(tiny_root, "A"), fingerprint(tiny_root, "A", ("P00_rest",))}) == 3


def test_fingerprint_of_a_reader_who_left_cases_out(tiny_root: Path):
    before = fingerprint(tiny_root, "A")
    edit_row(tiny_root, 1, label_A="")
    assert fingerprint(tiny_root, "A") != before
