"""The leakage audit: copies are found whatever was done to them, different patients are left in peace."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import read_rows, write_rows, write_tiny_cohort
from scipy.ndimage import gaussian_filter, shift, zoom

from mpi_unet.cohort.leakage import NEAR_DUPLICATE, audit, find_leaks
from mpi_unet.cohort.likeness import aligned_correlation, coarse_details, fine_details
from mpi_unet.cohort.nifti import affine_from_spacing, read_image, write_image, write_mask
from mpi_unet.cohort.splits import Split, holdout_split, kfold_split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import SplitError

AFFINE = affine_from_spacing((6.4, 6.4, 6.4))


@pytest.fixture
def projections(tmp_path: Path) -> Path:
    """Six patients, eight views of 64 x 64 each."""
    return write_tiny_cohort(
        tmp_path / "views", 6, num_frames=8, size=64, domain="projection", label="lv_filled", spacing_mm=(1.0, 6.4, 6.4)
    )


def kfold(root: Path, **options) -> tuple[Cohort, Split]:
    cohort = Cohort.open(root)
    return cohort, kfold_split(cohort, num_folds=3, val_fraction=0.25, seed=1, **options)


def overwrite(root: Path, target: str, array: np.ndarray) -> None:
    """Give a case other pixels, and a mask of the same size."""
    write_image(root / f"images/{target}.nii.gz", array.astype(np.float32), AFFINE, is_distance_z=False)
    write_mask(root / f"labels/truth/{target}.nii.gz", array > array.mean(), AFFINE, is_distance_z=False)


def pixels(root: Path, case_id: str) -> np.ndarray:
    return read_image(root / f"images/{case_id}.nii.gz").array


def per_frame(operation):
    return lambda image: np.stack([operation(frame) for frame in image])


def noise(image: np.ndarray, part: float) -> np.ndarray:
    return image + np.random.default_rng(0).normal(0, part * image.max(), image.shape)


COPIES = {
    "noise of 1 %": lambda image: noise(image, 0.01),
    "noise of 2 %": lambda image: noise(image, 0.02),
    "other counts": lambda image: 0.2 * image + 30,
    "8 bit": lambda image: np.round(255 * image / image.max()),
    "shift by a pixel": per_frame(lambda frame: shift(frame, (0, 1), mode="nearest")),
    "shift by a pixel both ways": per_frame(lambda frame: shift(frame, (-1, 1), mode="nearest")),
    "shift by two pixels": per_frame(lambda frame: shift(frame, (2, 0), mode="nearest")),
    "other matrix": per_frame(lambda frame: zoom(frame, 2, order=1)),
    "odd matrix": per_frame(lambda frame: zoom(frame, 70 / 64, order=1)),
    "smoothed": per_frame(lambda frame: gaussian_filter(frame, 0.7)),
    "other order": lambda image: image[::-1],
    "a part of the frames": lambda image: image[3:5],
}


# --- Nothing to find --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["projection", "short_axis"])
def test_different_patients_pass(tmp_path: Path, domain: str):
    cohort, split = kfold(write_tiny_cohort(tmp_path, 6, cases_per_patient=2, domain=domain, size=64))
    assert find_leaks(cohort, split) == []
    audit(cohort, split)


def test_copies_within_a_patient_are_no_leak(tmp_path: Path):
    root = write_tiny_cohort(tmp_path, 6, cases_per_patient=2)
    overwrite(root, "P02_stress", pixels(root, "P02_rest"))
    overwrite(root, "P03_stress", noise(pixels(root, "P03_rest"), 0.01))
    assert find_leaks(*kfold(root)) == []


def test_blank_frames_are_not_compared(projections: Path):
    for case_id in ("P01_rest", "P04_rest"):
        image = pixels(projections, case_id).copy()
        image[0], image[1] = 0, 7
        overwrite(projections, case_id, image)
    assert find_leaks(*kfold(projections)) == []


def test_similar_frames_on_one_side_are_no_leak(projections: Path):
    cohort = Cohort.open(projections)
    split = holdout_split(cohort, train=0.6, val=0.2, test=0.2, seed=1)
    first, second = (cohort.cases_of(patient)[0].case_id for patient in split.folds[0].train[:2])
    overwrite(projections, second, noise(pixels(projections, first), 0.01))
    assert find_leaks(cohort, split) == []
    overwrite(projections, second, pixels(projections, first))
    assert [leak.kind for leak in find_leaks(cohort, split)] == ["identical"]  # one of the two ids is wrong anyway


# --- Copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COPIES)
def test_changed_copy_of_another_patient_is_found(projections: Path, name: str):
    overwrite(projections, "P04_rest", COPIES[name](pixels(projections, "P01_rest")))
    (leak,) = find_leaks(*kfold(projections))
    assert set(leak.case_ids) == {"P01_rest", "P04_rest"}
    expected = "identical" if name in ("other order", "a part of the frames") else "near_duplicate"
    assert leak.kind == expected
    assert leak.correlation > NEAR_DUPLICATE


def test_near_duplicates_are_said_with_cases_frames_and_remedy(projections: Path):
    overwrite(projections, "P04_rest", noise(pixels(projections, "P01_rest"), 0.01))
    cohort, split = kfold(projections)
    with pytest.raises(SplitError) as caught:
        audit(cohort, split)
    first, text, remedy = str(caught.value).splitlines()
    assert first == f"1 leak in the split of {projections}:"
    assert text.startswith("  P01_rest and P04_rest stand for two patients and are alike like copies, correlation 0.9")
    assert "(limit 0.98): frames " in text
    assert text.endswith(" and 5 more pairs")
    assert remedy == (
        "Give cases of one person the same patient_id in cases.csv, or leave copies out with data.exclude=[P04_rest]"
    )
    audit(Cohort.open(projections, ["P04_rest"]), split)


def test_identical_frames_are_paired(projections: Path):
    image = pixels(projections, "P04_rest").copy()
    image[5] = pixels(projections, "P01_rest")[2]
    overwrite(projections, "P04_rest", image)
    (leak,) = find_leaks(*kfold(projections))
    assert (leak.kind, leak.case_ids, leak.frames) == ("identical", ("P01_rest", "P04_rest"), ((2, 5),))
    assert leak.text == "P01_rest and P04_rest hold identical pixels: frames 2 and 5"


def test_same_patient_id_is_the_remedy(projections: Path):
    overwrite(projections, "P04_rest", noise(pixels(projections, "P01_rest"), 0.01))
    rows = read_rows(projections)
    rows[4]["patient_id"] = "P01"
    write_rows(projections, rows)
    audit(*kfold(projections))


def test_limit_is_an_argument(projections: Path):
    overwrite(projections, "P04_rest", noise(pixels(projections, "P01_rest"), 0.01))
    cohort, split = kfold(projections)
    assert find_leaks(cohort, split, near_duplicate=1.01) == []
    assert len(find_leaks(cohort, split, near_duplicate=0.9)) == 1


# --- Patients on two sides --------------------------------------------------------------------------------------------


def test_patient_on_two_sides_of_a_split_by_hand(tiny_cohort: Cohort):
    split = kfold_split(tiny_cohort, num_folds=3, val_fraction=0.25, seed=1)
    fold = split.folds[1]
    patient = fold.test[0]
    broken = replace(split, folds=(split.folds[0], replace(fold, train=(*fold.train, patient)), split.folds[2]))
    (leak,) = find_leaks(tiny_cohort, broken)
    assert (leak.kind, leak.case_ids) == ("patient", (f"{patient}_rest",))
    assert leak.text == f"patient {patient} is in train and test of fold 1; expected one side"
    with pytest.raises(SplitError, match=r"Folds are drawn by patient: remove splits\.json"):
        audit(tiny_cohort, broken)


def test_image_split_leaks_every_patient_and_says_how_many_frames(projections: Path):
    cohort, split = kfold(projections, unit="image")
    leaks = find_leaks(cohort, split)
    assert [leak.kind for leak in leaks] == ["patient"] * 6
    first = leaks[0]
    assert first.case_ids == ("P00_rest",)
    assert first.frames == ()
    counts = {side: 0 for side in ("train", "val", "test")}
    for frame in range(8):
        side = split.side_of(0, cohort.cases[0], frame)
        assert side is not None
        counts[side] += 1
    where = " and ".join(f"{side} ({count} frames)" for side, count in counts.items() if count)
    assert first.text == f"patient P00 is in {where} of fold 0, likewise in 2 more; expected one side"
    with pytest.raises(SplitError, match=r"6 leaks .*(\n.*)*split\.allow_leakage=true"):
        audit(cohort, split)


def test_identical_frames_of_one_patient_leak_between_sides(projections: Path):
    image = pixels(projections, "P00_rest").copy()
    image[:] = image[0]
    overwrite(projections, "P00_rest", image)
    leaks = find_leaks(*kfold(projections, unit="image"))
    assert [leak.case_ids for leak in leaks if leak.kind == "identical"] == [("P00_rest", "P00_rest")]


# --- Likeness ---------------------------------------------------------------------------------------------------------


def test_likeness_ignores_scale_and_offset_and_is_one_for_the_same_frame():
    image = np.random.default_rng(0).gamma(2, 5, (3, 64, 64)).astype(np.float32)
    details = fine_details(np.concatenate([image, 3 * image + 10]))
    same = aligned_correlation(details, np.arange(3), np.arange(3, 6))
    np.testing.assert_allclose(same, 1, atol=1e-3)
    coarse = coarse_details(image)
    np.testing.assert_allclose(np.linalg.norm(coarse, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(coarse.mean(axis=1), 0, atol=1e-6)


def test_likeness_of_independent_noise_is_small():
    image = np.random.default_rng(0).gamma(2, 5, (40, 64, 64)).astype(np.float32)
    value = aligned_correlation(fine_details(image), np.arange(20), np.arange(20, 40))
    assert value.max() < 0.35


def test_frame_without_detail_is_like_nothing():
    image = np.stack([np.full((64, 64), value, dtype=np.float32) for value in (0, 1, 1e6)])
    assert not coarse_details(image).any()
    assert not fine_details(image).any()
    assert aligned_correlation(fine_details(image), np.array([0]), np.array([1])) == pytest.approx([0])


@pytest.mark.parametrize("size", [32, 63, 64, 100, 128])
def test_a_frame_of_any_matrix_is_averaged_without_bias(size: int):
    """A linear ramp stays a linear ramp on every grid, so its details are the same whatever the matrix."""
    ramp = np.broadcast_to((np.arange(size, dtype=np.float32) + 0.5) / size, (1, size, size))
    reference = np.broadcast_to((np.arange(640, dtype=np.float32) + 0.5) / 640, (1, 640, 640))
    correlation = float((coarse_details(np.ascontiguousarray(ramp)) @ coarse_details(reference.copy()).T)[0, 0])
    assert correlation > 0.98


def test_thousands_of_frames_take_seconds(tmp_path: Path):
    root = write_tiny_cohort(tmp_path, 40, num_frames=50, size=64)
    cohort, split = kfold(root)
    start = time.perf_counter()
    assert find_leaks(cohort, split) == []
    assert time.perf_counter() - start < 60  # about 3 s on a free core


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["projection", "transaxial", "short_axis"])
def test_simulated_patients_pass_and_their_copies_do_not(tmp_path: Path, domain: str):
    from mpi_unet.sources.phantom import phantom_cohort

    root = phantom_cohort(tmp_path, domain=domain, num_patients=4, seed=3, readers=("truth",), num_workers=1)
    cohort, split = kfold(root)
    assert find_leaks(cohort, split) == []
    overwrite(root, "P0003_stress", noise(pixels(root, "P0001_stress"), 0.01))
    assert [leak.case_ids for leak in find_leaks(cohort, split)] == [("P0001_stress", "P0003_stress")]
