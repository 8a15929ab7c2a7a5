"""NIfTI volumes and labels of several readers become a cohort, by patterns or by a table."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from outlines_builders import write_turned_nifti

from mpi_unet.cohort.table import Cohort
from mpi_unet.dicom.identity import Pseudonyms
from mpi_unet.errors import CohortError
from mpi_unet.sources.nifti import nifti_cohort

AFFINE = np.array([[-4.0, 0, 0, 90], [0, 4.0, 0, -110], [0, 0, 6.4, 20], [0, 0, 0, 1]])
SHAPE = (5, 7, 8)
PATTERNS = {
    "image_pattern": r"(?P<patient>P\d)_(?P<case>rest|stress)\.nii\.gz",
    "label_pattern": r"labels/(?P<reader>[AB])/(?P<patient>P\d)_(?P<case>rest|stress)\.nii\.gz",
}
MEANING = {"domain": "short_axis", "label": "lv_wall"}


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE).astype(np.float32)


def mask(seed: int) -> np.ndarray:
    return np.random.default_rng(100 + seed).random(SHAPE) > 0.6


def write(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(values.T), affine), path)
    return path


def write_folder(root: Path) -> Path:
    for number, name in enumerate(("P1_rest", "P1_stress", "P2_rest")):
        write(root / f"{name}.nii.gz", image(number))
        write(root / f"labels/A/{name}.nii.gz", mask(number).astype(np.uint8))
    write(root / "labels/B/P1_rest.nii.gz", mask(9).astype(np.uint8) * 255)
    return root


def nifti_error(root: Path, **options) -> str:
    output = root.with_name("cohort")
    with pytest.raises(CohortError) as caught:
        nifti_cohort(root, output, **(MEANING | options))
    assert not output.exists()
    assert not list(root.parent.glob(".part-*"))
    return str(caught.value)


def warnings_of(cohort: Path) -> list[str]:
    warnings: list[str] = json.loads((cohort / "preparation.json").read_text())["warnings"]
    return warnings


def test_patterns_with_readers(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    output = nifti_cohort(root, tmp_path / "cohort", **MEANING, **PATTERNS)
    cohort = Cohort.open(output)
    cohort.check("A")
    assert [case.case_id for case in cohort.cases] == ["P1_rest", "P1_stress", "P2_rest"]
    assert (cohort.patients, cohort.readers, cohort.spacing_known) == (("P1", "P2"), ("A", "B"), True)
    first = cohort.cases[0].read_image()
    np.testing.assert_array_equal(first.array, image(0))
    np.testing.assert_allclose(first.affine, AFFINE)
    np.testing.assert_array_equal(cohort.cases[0].read_mask("B"), mask(9))
    assert warnings_of(output)[0] == "B outlined 1 of 3 cases"
    assert (tmp_path / "cohort_private/files.csv").read_text().splitlines()[1] == "P1_rest.nii.gz,P1_rest,,"
    stamp = (output / "cohort.json").stat().st_mtime_ns
    nifti_cohort(root, output, **MEANING, **PATTERNS)
    assert (output / "cohort.json").stat().st_mtime_ns == stamp


def test_labels_with_turned_axes_and_chosen_values(tmp_path: Path):
    root = tmp_path / "in"
    write(root / "P1_rest.nii.gz", image(0))
    values = mask(0).astype(np.int16) + 2 * mask(1)
    write_turned_nifti(root / "labels/A/P1_rest.nii.gz", values, AFFINE, "PSR")
    cohort = Cohort.open(nifti_cohort(root, tmp_path / "cohort", foreground=[2, 3], **MEANING, **PATTERNS))
    np.testing.assert_array_equal(cohort.cases[0].read_mask("A"), mask(1))


def test_table_with_columns_and_without_labels(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    table = root / "table.csv"
    table.write_text(
        "case_id,patient_id,image,label_A,sex\n1,X,P1_rest.nii.gz,labels/A/P1_rest.nii.gz,F\n2,Y,P2_rest.nii.gz,,M\n"
    )
    cohort = Cohort.open(nifti_cohort(root, tmp_path / "cohort", table=table, **MEANING))
    assert [(case.case_id, case.patient_id, case.strata["sex"]) for case in cohort.cases] == [
        ("1", "X", "F"),
        ("2", "Y", "M"),
    ]
    assert [tuple(case.labels) for case in cohort.cases] == [("A",), ()]
    options = {"domain": "short_axis", "image_pattern": PATTERNS["image_pattern"], "ignore": r".*labels/.*"}
    bare = Cohort.open(nifti_cohort(root, tmp_path / "bare", **options))
    assert (bare.readers, bare.label, len(bare.cases)) == ((), "", 3)


@pytest.mark.parametrize("gates", ["all", "sum"])
def test_gated_files_of_four_axes(tmp_path: Path, gates: str):
    root = tmp_path / "in"
    pixels = np.stack([image(number) for number in range(3)])
    outlines = np.stack([mask(number) for number in range(3)]).astype(np.uint8)
    write(root / "P1_rest.nii.gz", pixels)
    write(root / "labels/A/P1_rest.nii.gz", outlines if gates == "all" else outlines[0])
    cohort = Cohort.open(nifti_cohort(root, tmp_path / "cohort", gates=gates, **MEANING, **PATTERNS))
    if gates == "sum":
        assert [(case.case_id, case.gate) for case in cohort.cases] == [("P1_rest", "sum")]
        np.testing.assert_allclose(cohort.cases[0].read_image().array, pixels.sum(0), rtol=1e-6)
        return
    assert [(case.case_id, case.gate) for case in cohort.cases] == [(f"P1_rest_g{g}", str(g)) for g in (1, 2, 3)]
    for number, case in enumerate(cohort.cases):
        np.testing.assert_array_equal(case.read_image().array, image(number))
        np.testing.assert_array_equal(case.read_mask("A"), mask(number))


def test_interrupted_cohort_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import mpi_unet.sources.volumes as module

    root, output, written, write_one = write_folder(tmp_path / "in"), tmp_path / "cohort", [], module.write_image

    def stop_at_the_second(path, *arguments, **options):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        write_one(path, *arguments, **options)

    monkeypatch.setattr(module, "write_image", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        nifti_cohort(root, output, **MEANING, **PATTERNS)
    assert not output.exists()
    nifti_cohort(root, output, **MEANING, **PATTERNS)
    assert [path.name.removesuffix(".nii.gz") for path in written] == ["P1_rest", *["P1_stress"] * 2, "P2_rest"]


def test_files_that_cannot_be_used_are_named_at_once(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    (root / "P2_rest.nii.gz").write_bytes(b"nothing")
    write(root / "labels/A/P1_rest.nii.gz", np.ones((5, 7, 9), dtype=np.uint8))
    write(root / "labels/A/P1_stress.nii.gz", mask(1) * np.uint8(7))
    text = nifti_error(root, **PATTERNS)
    assert "What source=nifti found cannot become a cohort (3 found):" in text
    assert "P1_rest.nii.gz: label of A (P1_rest.nii.gz): it is 5x7x9, the image 5x7x8 (z, y, x) voxels" in text
    assert (
        "P1_stress.nii.gz: label of A (P1_stress.nii.gz): holds the values 0, 7; expected 0 and 1, or 0 and white"
        in text
    )
    assert "P2_rest.nii.gz: image cannot be read" in text


def test_names_that_do_not_belong_together(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    write(root / "labels/A/P3_rest.nii.gz", mask(1).astype(np.uint8))
    write(root / "old/P1_rest.nii.gz", image(1))
    write(root / "readme.nii", image(1))
    text = nifti_error(root, **PATTERNS)
    assert "labels/A/P3_rest.nii.gz: has no image; expected one with patient 'P3', case 'rest'" in text
    assert "old/P1_rest.nii.gz and P1_rest.nii.gz: both are the image of the same case; expected one" in text
    assert "readme.nii: fits neither source.image_pattern nor source.label_pattern; correct the patterns" in text
    gated = write(tmp_path / "gated/P1_rest.nii.gz", np.stack([image(1), image(2)])).parent
    text = nifti_error(gated, **PATTERNS)
    assert "image has 2 gates (a fourth axis); source.gates=all makes a case of each" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, r"source\.image_pattern and source\.table: expected one of them"),
        (PATTERNS | {"domain": "axial"}, r"source\.domain=axial; expected projection or transaxial or short_axis"),
        (PATTERNS | {"label": None}, r"source\.label=null; expected lv_filled"),
        (PATTERNS | {"gates": "first"}, r"source\.gates=first; expected refuse or all or sum"),
        ({"image_pattern": r"(?P<case>.+)\.nii"}, r"has no group \(\?P<patient>\.\.\.\); folds are drawn by patient"),
        ({"image_pattern": r"(?P<patient>.+)_(?P<reader>.)"}, r"group 'reader' cannot be used; an image has no reader"),
        ({"image_pattern": r"(?P<patient>.+)_(?P<frame>.)"}, r"group 'frame' cannot be used; a file is a whole case"),
        (PATTERNS | {"foreground": []}, r"source\.foreground=\[\]; expected a whole number"),
    ],
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict, expected: str):
    root = write_folder(tmp_path / "in")
    with pytest.raises(CohortError, match=expected):
        nifti_cohort(root, tmp_path / "cohort", **(MEANING | options))


def test_table_that_leads_out_of_the_folder(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    write(tmp_path / "secret.nii.gz", image(1))
    table = root / "table.csv"
    table.write_text("patient_id,image\nX,../secret.nii.gz\nY,P1_rest.nii.gz\nY,P1_rest.nii.gz\n")
    text = nifti_error(root, table=table)
    assert "table.csv, line 2: '../secret.nii.gz' leads out of input=in; expected a path within it" in text
    assert "table.csv, line 4 and table.csv, line 3: both are case P1_rest; expected one image a case" in text
    table.write_text("image\nP1_rest.nii.gz\n")
    assert "has no column patient_id; it has image" in nifti_error(root, table=table)


def test_readers_that_differ_in_capitals_only(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    write(root / "labels/a/P1_rest.nii.gz", mask(3).astype(np.uint8))
    text = nifti_error(root, **(PATTERNS | {"label_pattern": PATTERNS["label_pattern"].replace("AB", "aAB")}))
    assert "readers 'A' and 'a' differ in capitals only, which some disks do not tell apart; rename one" in text


def test_empty_input_leaves_no_private_folder(tmp_path: Path):
    (tmp_path / "in").mkdir()
    assert "there is no image; expected at least one" in nifti_error(tmp_path / "in", **PATTERNS)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_input_in_the_private_folder_is_refused(tmp_path: Path):
    assert "the private folder of output=" in nifti_error(write_folder(tmp_path / "cohort_private"), **PATTERNS)


def test_key_file_makes_pseudonyms_of_patients_cases_and_file_names(tmp_path: Path):
    root, key = write_folder(tmp_path / "Miller"), tmp_path / "key"
    output = nifti_cohort(root, tmp_path / "cohort", key_file=key, **MEANING, **PATTERNS)
    cohort = Cohort.open(output)
    pseudonyms = Pseudonyms.from_key_file(key)
    assert cohort.patients == tuple(sorted(pseudonyms.patient(patient) for patient in ("P1", "P2")))
    assert {case.case_id.partition("_")[0] for case in cohort.cases} == set(cohort.patients)
    assert len({case.case_id for case in cohort.cases}) == 3
    texts = [path.relative_to(output).as_posix() for path in output.rglob("*")]
    texts += [(output / name).read_text() for name in ("cohort.json", "cases.csv", "preparation.json")]
    assert not [text for text in texts for name in ("P1", "rest", "Miller") if name in text.replace("P1_", "P1")]
    private = (tmp_path / "cohort_private/files.csv").read_text()
    assert f"P1_rest.nii.gz,{pseudonyms.patient('P1')}_{pseudonyms.word('case', 'P1_rest')},," in private
    table = tmp_path / "files.csv"
    table.write_text("image,patient_id,case_id\nP1_rest.nii.gz,P1,P1_rest\n")
    listed = Cohort.open(nifti_cohort(root, tmp_path / "listed", key_file=key, table=table, **MEANING))
    assert listed.cases[0].case_id == f"{pseudonyms.patient('P1')}_{pseudonyms.word('case', 'P1_rest')}"
    assert "P1_rest.nii.gz,P" in (tmp_path / "listed_private/files.csv").read_text()


def test_files_that_fit_no_pattern_are_told_with_the_pattern_that_leaves_them_out(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    write(root / "new-ones/P9_ct.nii.gz", image(1))
    write(root / "CT.nii.gz", image(1))
    text = nifti_error(root, **PATTERNS)
    assert "CT.nii.gz: fits neither source.image_pattern nor source.label_pattern" in text
    assert r"""leave it out with 'source.ignore="CT\.nii\.gz"'""" in text
    assert r"""'source.ignore="new\-ones/.*"'""" in text
    cohort = nifti_cohort(root, tmp_path / "cohort", **MEANING, **PATTERNS, ignore=r"new\-ones/.*|CT\.nii\.gz")
    assert Cohort.open(cohort).patients == ("P1", "P2")


def test_voxel_sizes_that_differ_and_slices_across_the_body_are_told(tmp_path: Path):
    root = tmp_path / "in"
    oblique = AFFINE.copy()
    oblique[:3, :3] = [[-4.0, 0, 0], [0, 2.4, 5.12], [0, -3.2, 3.84]]
    images_only = {"image_pattern": PATTERNS["image_pattern"], "label_pattern": None}
    for name, affine in (("P1_rest", AFFINE), ("P1_stress", oblique), ("P2_rest", AFFINE @ np.diag([2, 2, 1, 1]))):
        write(root / f"{name}.nii.gz", image(1), affine)
    sizes, across = warnings_of(nifti_cohort(root, tmp_path / "short_axis", domain="short_axis", **images_only))
    assert sizes.startswith(
        "voxels (z, y, x) are 6.4 x 4 x 4 mm in 2, 6.4 x 8 x 8 mm in 1 images; nothing is resampled"
    )
    assert across.startswith("2 of 3 images say that their slices lie straight across the body")
    assert warnings_of(nifti_cohort(root, tmp_path / "transaxial", domain="transaxial", **images_only)) == [sizes]
