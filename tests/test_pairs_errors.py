"""What keeps a folder of files from becoming a cohort: every sentence, all of them in one error."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from pairs_builders import CASES, frame, mask, pairs_error, write_seed_study

from mpi_unet.cohort.nifti import affine_from_spacing
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, RunError
from mpi_unet.sources.pairs import IMAGE_PATTERN, pairs_cohort
from mpi_unet.sources.placing import place_lock


def test_every_offender_stands_in_one_error(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    (root / "images/Original_RGATE_DS_1.TIFF").unlink()
    (root / "masks/ground_SGATE_DS_2.TIFF").unlink()
    tifffile.imwrite(root / "images/overview.png.tif", frame(1))
    tifffile.imwrite(root / "images/Original_RGATE_DS_02.TIFF", frame(1))
    tifffile.imwrite(root / "images/Original_RGATE_DS_4.TIFF", frame(1, size=20))
    tifffile.imwrite(root / "images/Original_RGATE_DS_5.TIFF", np.stack([frame(1), frame(2)]))
    tifffile.imwrite(root / "images/Original_RGATE_DS_6.TIFF", np.stack([frame(1), frame(2), frame(3)], axis=-1))
    (root / "images/Original_RGATE_DS_7.TIFF").write_bytes(b"II*\0 broken")
    tifffile.imwrite(root / "masks/ground_RGATE_DS_8.TIFF", frame(1))
    text = pairs_error(root)
    for sentence in (
        "masks/ground_RGATE_DS_1.TIFF: has no image; expected one with patient 'RGATE_DS', frame '1'",
        "images/Original_SGATE_DS_2.TIFF: has no mask; expected one with patient 'SGATE_DS', frame '2'",
        "images/overview.png.tif: fits neither data.image_pattern nor data.label_pattern",
        "images/Original_RGATE_DS_02.TIFF and images/Original_RGATE_DS_2.TIFF: both are patient 'RGATE_DS', frame '2'",
        "masks/ground_RGATE_DS_4.TIFF: label of expert is 1x16x16, image is 1x20x20",
        "RGATE_DS: its frames are 16x16 and 20x20 pixels (y, x); expected one size",
        "masks/ground_RGATE_DS_5.TIFF: its image holds 2 frames; expected one",
        "images/Original_RGATE_DS_6.TIFF: is a color image whose channels differ; expected gray values",
        "images/Original_RGATE_DS_7.TIFF: cannot be read",
        "masks/ground_RGATE_DS_8.TIFF: mask holds the values ",
    ):
        assert sentence in text, text
    assert text.startswith("11 things keep ")
    assert text.splitlines()[-1].endswith("leave files out with 'data.ignore=\"<pattern>\"'")


def test_files_to_ignore(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    tifffile.imwrite(root / "overview.tif", frame(1))
    assert "overview.tif: fits neither" in pairs_error(root)
    assert Cohort.open(pairs_cohort(root, tmp_path / "cohort", ignore=r"overview\.tif")).cases


def test_missing_root_has_two_remedies(tmp_path: Path):
    with pytest.raises(CohortError, match=r"data\.root=.*gone is no folder; .*data\.root=<folder>.*data=phantom"):
        pairs_cohort(tmp_path / "gone", tmp_path / "cohort")


def test_pattern_that_fits_nothing_is_one_sentence(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    text = pairs_error(root, label_pattern=r"mask_(?P<patient>.+)_(?P<frame>\d+)(?P<case>x)?\.TIFF")
    assert text.startswith("None of 34 TIFF, PNG and NIfTI files in ")
    assert "fits data.label_pattern=" in text
    assert "a file there is 'images/Original_RGATE_DS_0 (2).TIFF'; correct data.label_pattern" in text
    (tmp_path / "empty").mkdir()
    assert "None of 0 TIFF" in pairs_error(tmp_path / "empty")


def test_wrong_patterns_are_all_named(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    text = pairs_error(root, image_pattern="Original_(", label_pattern="ground_(?P<series>.+)", ignore="[")
    assert "data.image_pattern='Original_(' is no regular expression: missing ), unterminated subpattern" in text
    assert "data.label_pattern='ground_(?P<series>.+)' has no group (?P<patient>...); folds are drawn by" in text
    assert "data.ignore='[' is no regular expression" in text


def test_patterns_that_say_different_things(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    text = pairs_error(root, label_pattern=r"ground_(?P<patient>.+)\.TIFF")
    assert "data.image_pattern has the groups case, frame, patient, data.label_pattern patient" in text
    text = pairs_error(root, image_pattern=r"(?P<patient>.)(?P<label_A>.)(?P<image>.)")
    assert "group 'label_A' is the name of a column already" in text
    assert "group 'image' is the name of a column already" in text


def test_file_that_fits_both_patterns(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    text = pairs_error(root, image_pattern=IMAGE_PATTERN.replace("Original", "(?:Original|ground)"))
    assert "masks/ground_RGATE_DS_0.TIFF: fits both patterns; expected an image or a mask" not in text
    assert "None of 34" in text  # every mask fits both, so no mask is left
    text = pairs_error(root, image_pattern=IMAGE_PATTERN.replace("Original", "(?:Original|ground(?=_S))"))
    assert "masks/ground_SGATE_DS_0.TIFF: fits both patterns; expected an image or a mask" in text


def test_several_files_of_a_case_without_frames(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    for visit in "ab":
        tifffile.imwrite(root / f"P1_{visit}_image.tif", frame(1))
        tifffile.imwrite(root / f"P1_{visit}_mask.tif", mask(1))
    kind = r"(?P<patient>P\d)_(?P<visit>.)_"
    text = pairs_error(root, image_pattern=kind + r"image\.tif", label_pattern=kind + r"mask\.tif")
    assert "P1: P1_a_image.tif, P1_b_image.tif are one case; expected one file, or a group (?P<frame>...)" in text


def test_frames_of_a_case_that_disagree(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    for index, sex in enumerate("FM"):
        tifffile.imwrite(root / f"P1_{sex}_{index}_image.tif", frame(1))
        tifffile.imwrite(root / f"P1_{index}_mask.tif", mask(1))
    text = pairs_error(
        root,
        image_pattern=r"(?P<patient>P\d)_(?P<sex>.)_(?P<frame>\d)_image\.tif",
        label_pattern=r"(?P<patient>P\d)_(?P<frame>\d)_mask\.tif",
    )
    assert "P1: its frames say sex F and M; expected one value a case" in text


def test_names_of_which_no_case_id_can_be_made(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    for patient in ("()", "P 1", "P-1", "P(1"):
        tifffile.imwrite(root / f"{patient}_image.tif", frame(1))
        tifffile.imwrite(root / f"{patient}_mask.tif", mask(1))
    text = pairs_error(root, image_pattern=r"(?P<patient>.+)_image\.tif", label_pattern=r"(?P<patient>.+)_mask\.tif")
    assert "()_image.tif: no file name can be made of '()' and ''" in text
    assert "its case_id P_1 is that of another case too" in text


def test_frame_that_is_no_number_and_patient_that_is_empty(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("P1_a", "P1_1", "_1"):
        tifffile.imwrite(root / f"{name}_image.tif", frame(1))
        tifffile.imwrite(root / f"{name}_mask.tif", mask(1))
    kind = r"(?P<patient>.*)_(?P<frame>.)_"
    text = pairs_error(root, image_pattern=kind + r"image\.tif", label_pattern=kind + r"mask\.tif")
    assert "P1_a_image.tif: its frame is 'a'; expected a number" in text
    assert "_1_image.tif: its patient is empty; expected an id" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"domain": "projections"},
            "data.domain=projections; expected projection or transaxial or short_axis; did",
        ),
        ({"label": "lv"}, "data.label=lv; expected lv_filled or lv_wall or lv_cavity"),
        ({"foreground": "white"}, "data.foreground=white; expected nonzero or a whole number"),
        ({"foreground": 1, "threshold": 5.0}, "data.threshold and data.foreground are both given"),
        ({"reader": "Dr. X"}, "data.reader='Dr. X'; expected a name of letters, digits and _"),
        ({"spacing_mm": [1.0]}, "data.spacing_mm=[1.0]; expected three positive distances in mm"),
        ({"spacing_mm": [1.0, -3.0]}, "data.spacing_mm=[1.0, -3.0]; expected three positive"),
    ],
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict, sentence: str):
    assert sentence in pairs_error(write_seed_study(tmp_path / "study", {"A_DS": 1}), **options)


def test_nifti_pairs_that_do_not_lie_on_one_grid_or_disagree_about_spacing(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    for patient, spacing in (("P1", (3.0, 3.0, 3.0)), ("P2", (6.0, 3.0, 3.0))):
        nib.save(
            nib.Nifti1Image(np.eye(8)[..., None], affine_from_spacing((6.0, 3.0, 3.0))), root / f"{patient}_image.nii"
        )
        nib.save(nib.Nifti1Image(np.eye(8)[..., None], affine_from_spacing(spacing)), root / f"{patient}_mask.nii")
    text = pairs_error(root, domain="short_axis", **CASES)
    assert "P1_mask.nii: spacing of the label of expert is 3 x 3 x 3 mm, of the image 6 x 3 x 3 mm" in text
    assert "P2_mask.nii" not in text
    text = pairs_error(root, domain="short_axis", spacing_mm=(6.0, 3.0, 3.0), **CASES)
    assert "P2_mask.nii: its image brings its own spacing, but data.spacing_mm is given" in text
    nib.save(nib.Nifti1Image(np.eye(8)[..., None], affine_from_spacing((6.0, 3.0, 3.0))), root / "P1_mask.nii")
    for name in ("image", "mask"):
        tifffile.imwrite(root / f"P3_{name}.tif", mask(1))
    text = pairs_error(root, domain="short_axis", **CASES)
    assert "the pixel size is known for 2 of 3 cases; expected all or none" in text


def test_folder_of_others_is_not_replaced(tmp_path: Path):
    root, output = write_seed_study(tmp_path / "study"), tmp_path / "thesis"
    output.mkdir()
    pairs_cohort(root, output)  # an empty folder is fine
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/cohort.json").write_text(json.dumps({"name": "mine"}))
    with pytest.raises(CohortError, match=r"data\.output=.*notes holds something that data=pairs did not make"):
        pairs_cohort(root, tmp_path / "notes")
    with pytest.raises(CohortError, match="choose another data"):
        pairs_cohort(root, root / "images/Original_SGATE_DS_0.TIFF")


def test_output_that_cannot_be_written(tmp_path: Path):
    root = write_seed_study(tmp_path / "study")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        pairs_cohort(root, tmp_path / "file/cohort")


def test_cohort_that_cannot_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import mpi_unet.sources.pairs as module

    root, output = write_seed_study(tmp_path / "study"), tmp_path / "cohort"

    def fail(part: Path, output: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "put_in_place", fail)
    with pytest.raises(RunError, match=r"cohort cannot be written: No space left on device; .*data\.output"):
        pairs_cohort(root, output)


def test_cohort_that_another_process_finished_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import mpi_unet.sources.pairs as module

    root, output = write_seed_study(tmp_path / "study"), tmp_path / "cohort"
    put_in_place = module.put_in_place

    def come_second(part: Path, output: Path) -> None:
        put_in_place(part, output)
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(module, "put_in_place", come_second)
    assert pairs_cohort(root, output) == output


def test_two_commands_make_one_cohort(tmp_path: Path):
    root, output = write_seed_study(tmp_path / "study"), tmp_path / "cohort"
    with place_lock(output):
        thread = threading.Thread(target=pairs_cohort, args=(root, output))
        thread.start()
        thread.join(timeout=1)
        assert thread.is_alive()  # it waits
        assert not output.exists()
    thread.join(timeout=60)
    assert (output / "cohort.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort", "study"]


def test_cohort_that_lost_a_file_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import mpi_unet.sources.pairs as module

    root, output, write = write_seed_study(tmp_path / "study"), tmp_path / "cohort", module.write_cohort_table

    def lose(part: Path, **content) -> None:
        write(part, **content)
        next((part / "images").iterdir()).unlink()

    monkeypatch.setattr(module, "write_cohort_table", lose)
    with pytest.raises(RunError, match="1 files of the cohort vanished"):
        pairs_cohort(root, output)
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_input_in_the_private_folder_of_the_output(tmp_path: Path):
    root = write_seed_study(tmp_path / "cohort_private/study")
    with pytest.raises(CohortError, match="lies in cohort_private, the private folder of output="):
        pairs_cohort(root, tmp_path / "cohort")
