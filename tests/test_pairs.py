"""Folders of image and mask files become a cohort; real small files, written by tifffile, Pillow and nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from pairs_builders import CASES, frame, mask, pairs_error, write_seed_study
from PIL import Image

from mpi_unet.cohort.nifti import read_image, read_mask
from mpi_unet.cohort.splits import kfold_split
from mpi_unet.cohort.table import Cohort
from mpi_unet.sources.pairing import find_cases, in_words
from mpi_unet.sources.pairs import LABEL_PATTERN, pairs_cohort

# --- The seed study's files -------------------------------------------------------------------------------------------


def test_defaults_fit_the_seed_study(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    cohort = Cohort.open(pairs_cohort(root, tmp_path / "cohort"))
    cohort.check("expert")
    assert [case.case_id for case in cohort.cases] == ["RGATE_DS", "RGATE_DS_2", "SGATE_DS"]
    assert cohort.patients == ("RGATE_DS", "SGATE_DS")
    assert (cohort.name, cohort.domain, cohort.label, cohort.readers) == (
        "study",
        "projection",
        "lv_filled",
        ("expert",),
    )
    assert not cohort.spacing_known
    assert not cohort.simulated_readers
    assert cohort.metadata["intensities"] == "as read (8-bit gray)"
    assert cohort.metadata["source_frames"] == {"RGATE_DS": "0-10", "RGATE_DS_2": "0-2", "SGATE_DS": "0-2"}
    assert cohort.metadata["source"] == "34 image and mask files of the folder study"


def test_frames_stand_in_numeric_order(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    cohort = Cohort.open(pairs_cohort(root, tmp_path / "cohort"))
    expected = np.stack([frame(index) for index in range(11)])  # 0, 1, 2, ..., 10 and not 0, 1, 10, 2
    np.testing.assert_array_equal(cohort.case("RGATE_DS").read_image().array, expected)
    expected = np.stack([mask(index) > 0 for index in range(11)])
    np.testing.assert_array_equal(cohort.case("RGATE_DS").read_mask("expert"), expected)


def test_two_series_of_one_patient_stay_on_one_side(tmp_path: Path):
    names = {f"{kind}_{number}_DS{repeat}": 1 for kind in "AB" for number in range(3) for repeat in ("", " (2)")}
    cohort = Cohort.open(pairs_cohort(write_seed_study(tmp_path / "study", names), tmp_path / "cohort"))
    assert (len(cohort.cases), len(cohort.patients)) == (12, 6)
    split = kfold_split(cohort, num_folds=3, val_fraction=0.25, seed=1)
    for fold in range(3):
        sides = [split.side_of(fold, case) for case in cohort.cases]
        assert sides[0::2] == sides[1::2]


def test_made_once_and_again_when_a_source_changes(tmp_path: Path):
    root, output = write_seed_study(tmp_path / "study"), tmp_path / "cohort"
    pairs_cohort(root, output)
    stamps = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert pairs_cohort(root, output) == output
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == stamps
    first = Cohort.open(output).fingerprint("expert")
    tifffile.imwrite(root / "images/Original_RGATE_DS_0.TIFF", frame(7))
    pairs_cohort(root, output)
    second = Cohort.open(output).fingerprint("expert")
    assert second != first
    pairs_cohort(root, output, spacing_mm=[6.8, 6.8])
    cohort = Cohort.open(output)
    assert cohort.spacing_known
    assert cohort.cases[0].read_image().spacing_mm == pytest.approx((1.0, 6.8, 6.8))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_interrupted_cohort_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import mpi_unet.sources.pairs as module

    root, output = write_seed_study(tmp_path / "study"), tmp_path / "cohort"
    written: list[Path] = []
    write = module.write_mask

    def stop_at_the_second(path, *arguments, **options):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, *arguments, **options)

    monkeypatch.setattr(module, "write_mask", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        pairs_cohort(root, output)
    assert not output.exists()
    pairs_cohort(root, output)
    assert [path.name for path in written] == [
        f"{name}.nii.gz" for name in ("RGATE_DS", *["RGATE_DS_2"] * 2, "SGATE_DS")
    ]
    whole = Cohort.open(pairs_cohort(root, tmp_path / "other")).fingerprint("expert")
    assert Cohort.open(output).fingerprint("expert") == whole


# --- Other files and patterns -----------------------------------------------------------------------------------------


def test_png_in_folders_by_path_with_columns(tmp_path: Path):
    root = tmp_path / "data"
    for patient in ("001", "002"):
        for study in ("rest", "stress"):
            (root / patient / study).mkdir(parents=True)
            for view in (1, 2):
                Image.fromarray(frame(view)).save(root / patient / study / f"view{view}.png")
                Image.fromarray(mask(view, white=1)).save(root / patient / study / f"view{view}_lv.png")
    kind = r"(?P<patient>\d+)/(?P<case>(?P<acquisition>rest|stress))/view(?P<frame>\d+)"
    cohort = Cohort.open(
        pairs_cohort(
            root,
            tmp_path / "cohort",
            image_pattern=kind + r"\.png",
            label_pattern=kind + r"_lv\.png",
            reader="A",
            name="x",
        )
    )
    cohort.check("A")
    assert [case.case_id for case in cohort.cases] == ["001_rest", "001_stress", "002_rest", "002_stress"]
    assert [case.acquisition for case in cohort.cases] == ["rest", "stress"] * 2
    assert cohort.patients == ("001", "002")
    assert cohort.metadata["source_frames"]["001_rest"] == "1-2"


def test_further_groups_become_columns_to_stratify_by(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    for patient, sex in (("P1", "F"), ("P2", "M")):
        tifffile.imwrite(root / f"{patient}_{sex}_image.tif", frame(1))
        tifffile.imwrite(root / f"{patient}_mask.tif", mask(1))
    image_pattern = r"(?P<patient>P\d)_(?P<sex>[FM])_image\.tif"
    cohort = Cohort.open(
        pairs_cohort(root, tmp_path / "c", image_pattern=image_pattern, label_pattern=r"(?P<patient>P\d)_mask\.tif")
    )
    assert [case.strata for case in cohort.cases] == [{"sex": "F"}, {"sex": "M"}]


def test_case_group_that_begins_with_the_patient_is_not_doubled(tmp_path: Path):
    (tmp_path / "data").mkdir()
    for name in ("image", "mask"):
        tifffile.imwrite(tmp_path / f"data/P1_rest_{name}.tif", mask(1))
    kind = r"(?P<case>(?P<patient>P\d)_[a-z]+)"
    cases, problems = find_cases(tmp_path / "data", kind + r"_image\.tif", kind + r"_mask\.tif")
    assert ([case.case_id for case in cases], problems) == (["P1_rest"], [])


@pytest.mark.parametrize("suffix", ["tif", "nii.gz"])
def test_files_that_are_whole_volumes(tmp_path: Path, suffix: str):
    root = tmp_path / "data"
    root.mkdir()
    image = np.random.default_rng(0).normal(0, 9, (5, 12, 14)).astype(np.float32)
    inside = (image > 3).astype(np.uint8)
    affine = np.array([[-3.0, 0, 0, 5], [0, -3.0, 0, 6], [0, 0, 6.0, 7], [0, 0, 0, 1]])
    for name, array in (("image", image), ("mask", inside)):
        if suffix == "tif":
            tifffile.imwrite(root / f"P1_{name}.tif", array, photometric="minisblack")
        else:
            nib.save(nib.Nifti1Image(array.T, affine), root / f"P1_{name}.nii.gz")
    options = {} if suffix == "nii.gz" else {"spacing_mm": (6.0, 3.0, 3.0)}
    output = pairs_cohort(root, tmp_path / "c", domain="short_axis", label="lv_wall", **CASES, **options)
    cohort = Cohort.open(output)
    cohort.check("expert")
    assert cohort.spacing_known
    assert cohort.metadata["intensities"] == "as read (32-bit float)"
    volume = cohort.cases[0].read_image()
    np.testing.assert_array_equal(volume.array, image)
    np.testing.assert_array_equal(read_mask(output / "labels/expert/P1.nii.gz"), inside == 1)
    assert volume.spacing_mm == pytest.approx((6.0, 3.0, 3.0))
    if suffix == "nii.gz":
        np.testing.assert_allclose(read_image(output / "images/P1.nii.gz").affine, affine)


def test_nifti_without_orientation_has_no_known_spacing(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("image", "mask"):
        file = nib.Nifti1Image(np.eye(8, dtype=np.uint8)[..., None].repeat(3, 2), None)
        nib.save(file, root / f"P1_{name}.nii")
    cohort = Cohort.open(pairs_cohort(root, tmp_path / "c", domain="transaxial", **CASES))
    assert not cohort.spacing_known


def test_files_that_are_no_images_and_hidden_files_are_left_alone(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    (root / "README.txt").write_text("about")
    (root / "images/._Original_RGATE_DS_0.TIFF").write_bytes(b"Mac")
    assert len(Cohort.open(pairs_cohort(root, tmp_path / "cohort")).cases) == 3


def test_output_below_the_root_is_not_read(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    pairs_cohort(root, root / "cohort")
    assert pairs_cohort(root, root / "cohort") == root / "cohort"
    assert len(Cohort.open(root / "cohort").cases) == 3


def test_gaps_are_noted_in_projections_and_refused_in_volumes(tmp_path: Path):
    root = write_seed_study(tmp_path / "study", {"A_DS": 9})
    for index in (3, 4, 6):
        (root / f"images/Original_A_DS_{index}.TIFF").unlink()
        (root / f"masks/ground_A_DS_{index}.TIFF").unlink()
    text = pairs_error(root, domain="short_axis", label="lv_wall")
    assert "A_DS: frames 3-4, 6 are missing; the slices of a volume have one distance" in text
    cohort = Cohort.open(pairs_cohort(root, tmp_path / "cohort"))
    assert cohort.metadata["source_frames"] == {"A_DS": "0-2, 5, 7-8"}


def test_anti_aliased_masks_need_a_threshold(tmp_path: Path):
    root = write_seed_study(tmp_path / "study", {"A_DS": 2})
    gray = mask(0)
    gray[0, :3] = (10, 100, 200)
    tifffile.imwrite(root / "masks/ground_A_DS_0.TIFF", gray)
    text = pairs_error(root)
    assert "masks/ground_A_DS_0.TIFF: mask holds the values 0, 10, 100, 200, 255; expected 0 and 1, or 0 and" in text
    assert "data.threshold=<gray value>" in text
    cohort = Cohort.open(pairs_cohort(root, tmp_path / "cohort", threshold=128))
    np.testing.assert_array_equal(cohort.cases[0].read_mask("expert")[0], gray >= 128)


def test_one_structure_of_several(tmp_path: Path):
    root = write_seed_study(tmp_path / "study", {"A_DS": 1})
    tifffile.imwrite(root / "masks/ground_A_DS_0.TIFF", np.arange(256, dtype=np.uint8).reshape(16, 16) % 3)
    assert "mask holds the values 0, 1, 2; expected 0 and 1" in pairs_error(root)
    cohort = Cohort.open(pairs_cohort(root, tmp_path / "cohort", foreground=2))
    assert cohort.cases[0].read_mask("expert").sum() == 85


def test_numbers_in_words():
    assert in_words([]) == ""
    assert in_words([5]) == "5"
    assert LABEL_PATTERN.startswith("ground_")


def test_what_a_killed_process_left_behind_is_swept_away(tmp_path: Path):
    left = tmp_path / ".part-cohort-0123456789ab"
    (left / "images").mkdir(parents=True)
    pairs_cohort(write_seed_study(tmp_path / "study"), tmp_path / "cohort")
    assert not left.exists()
