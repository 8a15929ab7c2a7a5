"""Counts at every threshold: exactly those of ``probability >= threshold``, and the curves of scikit-learn."""

import csv
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpi_unet.errors import RunError
from mpi_unet.evaluation import overlap
from mpi_unet.evaluation.operating import (
    NUM_THRESHOLDS,
    THRESHOLDS,
    OperatingCounts,
    at_threshold,
    best_threshold,
    mean_curves,
    read_operating,
    threshold_counts,
    write_operating,
)

probabilities = arrays(np.float32, st.integers(0, 40), elements=st.floats(0, 1, width=32))


def soft(seed=0, shape=(4, 9, 8)):
    """Probabilities that favor the target, and the target."""
    rng = np.random.default_rng(seed)
    target = rng.random(shape) < 0.3
    return np.clip(rng.normal(0.3 + 0.4 * target, 0.2), 0, 1).astype(np.float32), target


def patients(number=5):
    return [OperatingCounts.of(*soft(seed)) for seed in range(number)]


def by_comparing(probability, target):
    """One comparison per threshold, with the counts of the overlap room."""
    flat = target.reshape(1, -1)
    return np.concatenate([overlap.frame_counts((probability >= t).reshape(1, -1), flat) for t in THRESHOLDS])


# --- Counts ---


@given(probabilities, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=80)
def test_counts_equal_one_comparison_per_threshold(probability, random):
    target = np.array([random.random() < 0.5 for _ in probability], dtype=bool)
    np.testing.assert_array_equal(threshold_counts(probability, target), by_comparing(probability, target))


def test_counts_are_exact_on_and_beside_every_threshold():
    below, above = (np.nextafter(THRESHOLDS, np.float32(side), dtype=np.float32) for side in (-1, 2))
    probability = np.clip(np.concatenate([THRESHOLDS, below, above]), 0, 1)
    target = np.arange(probability.size) % 3 == 0
    np.testing.assert_array_equal(threshold_counts(probability, target), by_comparing(probability, target))


def test_a_threshold_means_the_same_in_numpy_and_torch():
    import torch

    probability, _ = soft(3, (60, 60, 3))
    probability.ravel()[:NUM_THRESHOLDS] = THRESHOLDS
    counts = threshold_counts(probability, np.ones_like(probability, dtype=bool))
    for place, (threshold, *_) in enumerate(OperatingCounts(counts).rows()):
        assert counts[place, overlap.TP] == np.count_nonzero(probability >= threshold)
        assert counts[place, overlap.TP] == int((torch.tensor(probability) >= threshold).sum())


def test_thresholds_are_fixed():
    assert (THRESHOLDS[0], THRESHOLDS[100], THRESHOLDS[200], THRESHOLDS.dtype) == (0, 0.5, 1, np.float32)
    with pytest.raises(ValueError, match="read-only"):
        THRESHOLDS[0] = 1


def test_rounding_just_outside_the_range_counts_as_its_end():
    probability = np.array([-1e-7, 1 + 1e-6], dtype=np.float32)
    counts = threshold_counts(probability, np.array([True, True]))
    assert counts[0].tolist() == [1, 0, 1, 0]  # -1e-7 >= 0 is false, here too
    assert counts[200].tolist() == [1, 0, 1, 0]


def test_cases_of_a_patient_add_up():
    one, other = soft(0), soft(1)
    together = OperatingCounts.of(*(np.concatenate(parts) for parts in zip(one, other, strict=True)))
    added = OperatingCounts.of(*one) + OperatingCounts.of(*other)
    np.testing.assert_array_equal(added.counts, together.counts)


def test_an_empty_image_counts_nothing():
    counts = threshold_counts(np.zeros((0, 4, 4), np.float32), np.zeros((0, 4, 4), bool))
    assert counts.shape == (NUM_THRESHOLDS, 4)
    assert not counts.any()


# --- Curves ---


@pytest.mark.parametrize("seed", range(3))
def test_rates_equal_scikit_learn_at_every_threshold(seed):
    from sklearn.metrics import precision_recall_curve, roc_curve

    probability, target = soft(seed)
    grid = THRESHOLDS[np.clip(np.round(probability * 200).astype(int), 0, 200)]  # so that its thresholds are ours
    counts = threshold_counts(grid, target)
    fall_out, tpr, at = roc_curve(target.ravel(), grid.ravel(), drop_intermediate=False)
    places = np.searchsorted(THRESHOLDS, at[1:])
    np.testing.assert_allclose(overlap.recall(counts[places]), tpr[1:], atol=1e-12)
    np.testing.assert_allclose(overlap.false_positive_rate(counts[places]), fall_out[1:], atol=1e-12)
    precision, recall, at = precision_recall_curve(target.ravel(), grid.ravel())
    places = np.searchsorted(THRESHOLDS, at)
    np.testing.assert_allclose(overlap.precision(counts[places]), precision[:-1], atol=1e-12)
    np.testing.assert_allclose(overlap.recall(counts[places]), recall[:-1], atol=1e-12)


def test_counts_equal_the_binned_roc_of_torchmetrics():
    import torch
    from torchmetrics.functional.classification import binary_roc

    probability, target = soft(7)
    counts = threshold_counts(probability, target)
    fall_out, tpr, _ = binary_roc(torch.tensor(probability), torch.tensor(target), thresholds=torch.tensor(THRESHOLDS))
    np.testing.assert_allclose(overlap.recall(counts), tpr.flip(0), atol=1e-6)
    np.testing.assert_allclose(overlap.false_positive_rate(counts), fall_out.flip(0), atol=1e-6)


@given(probabilities, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_recall_and_false_positives_fall_with_the_threshold(probability, random):
    target = np.array([random.random() < 0.5 for _ in probability], dtype=bool)
    counts = threshold_counts(probability, target)
    assert (counts.sum(axis=1) == probability.size).all()
    assert (np.diff(counts[:, overlap.TP]) <= 0).all()
    assert (np.diff(counts[:, overlap.FP]) <= 0).all()


def test_mean_curve_is_the_mean_of_the_patients_and_not_of_their_pixels():
    small, large = OperatingCounts.of(*soft(0, (1, 9, 8))), OperatingCounts.of(*soft(1, (40, 9, 8)))
    curves = mean_curves([small, large], seed=0)
    expected = (overlap.recall(small.counts) + overlap.recall(large.counts)) / 2
    np.testing.assert_allclose(curves["recall"].mean, expected, atol=1e-12)
    assert set(curves) == {"recall", "precision", "false_positive_rate"}


def test_band_is_that_of_a_bootstrap_over_patients():
    from scipy import stats

    counts = patients(12)
    recall = np.array([overlap.recall(of_patient.counts) for of_patient in counts])
    curve = mean_curves(counts, resamples=4000, seed=1)["recall"]
    scipys = stats.bootstrap(
        (recall[:, 100],), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (curve.low[100], curve.high[100]) == pytest.approx((scipys.low, scipys.high), abs=2e-3)
    assert (curve.low <= curve.mean + 1e-12).all()
    assert (curve.mean <= curve.high + 1e-12).all()
    again = mean_curves(counts, resamples=4000, seed=1)["recall"]
    np.testing.assert_array_equal(again.low, curve.low)


def test_an_undefined_precision_is_left_out_and_counted():
    timid = OperatingCounts.of(np.float32([0.2, 0.4]), np.array([False, True]))
    bold = OperatingCounts.of(np.float32([0.9, 1.0]), np.array([False, True]))
    curve = mean_curves([timid, bold], seed=0)["precision"]
    assert (curve.n[0], curve.n[100], curve.n[200]) == (2, 1, 1)
    assert curve.mean[[0, 100, 200]].tolist() == [0.5, 0.5, 1.0]
    assert math.isnan(curve.low[100])
    assert math.isnan(curve.high[100])
    nobody = mean_curves([timid], seed=0)["precision"]
    assert nobody.n[100] == 0
    assert math.isnan(nobody.mean[100])


def test_a_resample_averages_over_its_defined_patients_only():
    timid = OperatingCounts.of(np.float32([0.2, 0.4]), np.array([False, True]))
    bold = OperatingCounts.of(np.float32([0.9, 0.9]), np.array([False, True]))
    curve = mean_curves([timid, bold, bold], seed=0)["precision"]
    assert (curve.n[100], curve.low[100], curve.mean[100], curve.high[100]) == (2, 0.5, 0.5, 0.5)


def test_rates_at_the_frozen_threshold():
    counts = patients(3)
    found = at_threshold(counts, 0.45)
    assert found["recall"] == pytest.approx(np.mean([overlap.recall(of_patient.counts[90]) for of_patient in counts]))
    assert set(found) == {"recall", "precision", "false_positive_rate"}


def test_best_threshold_has_the_highest_mean_dice_over_patients():
    counts = patients(4)
    means = [np.mean([overlap.dice(of_patient.counts[place]) for of_patient in counts]) for place in range(201)]
    assert best_threshold(counts) == np.argmax(means) / 200


def test_of_equal_thresholds_the_best_is_the_one_closest_to_one_half():
    sure = OperatingCounts.of(np.float32([0.1, 0.9]), np.array([False, True]))
    assert best_threshold([sure]) == 0.5
    timid = OperatingCounts.of(np.float32([0.1, 0.3]), np.array([False, True]))
    assert best_threshold([timid, timid]) == 0.3


def test_a_patient_without_lv_has_no_say_in_the_threshold():
    without = OperatingCounts.of(np.float32([0.1, 0.9]), np.array([False, False]))
    counts = patients(2)
    assert best_threshold([*counts, without]) == best_threshold(counts)


# --- Reading and writing ---


def test_counts_survive_the_disk(tmp_path):
    counts = dict(zip(("P2", "007", "O'Neil, x"), patients(3), strict=True))
    write_operating(tmp_path / "operating.csv", counts)
    with (tmp_path / "operating.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["patient_id", "threshold", "tp", "fp", "fn", "tn"]
    assert [line[1] for line in lines[1:8]] == ["0.0", "0.005", "0.01", "0.015", "0.02", "0.025", "0.03"]
    assert len(lines) == 1 + 3 * NUM_THRESHOLDS
    again = dict(read_operating(tmp_path / "operating.csv"))
    assert list(again) == sorted(counts)
    for patient, of_patient in again.items():
        np.testing.assert_array_equal(of_patient.counts, counts[patient].counts)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda lines: lines[:-1], id="cut off"),
        pytest.param(lambda lines: [*lines[:-1], lines[-1][:-3]], id="cut off within a line"),
        pytest.param(lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], id="unsorted"),
        pytest.param(lambda lines: [*lines, lines[1]], id="a row too many"),
        pytest.param(lambda lines: [*lines[:5], "P1,0.02,1,2,x,4", *lines[6:]], id="no number"),
        pytest.param(lambda lines: [*lines[:5], "", *lines[6:]], id="an empty line"),
        pytest.param(lambda lines: [*lines[:203], lines[203].replace("P2", "P1"), *lines[204:]], id="another patient"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "operating.csv"
    write_operating(path, dict(zip(("P1", "P2"), patients(2), strict=True)))
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    with pytest.raises(RunError, match=r"operating\.csv: \d+ rows of patient .*, expected 201 rows.*remove the file"):
        dict(read_operating(path))


def test_a_missing_file_or_column_is_named(tmp_path):
    path = tmp_path / "operating.csv"
    with pytest.raises(RunError, match=r"operating\.csv is missing"):
        dict(read_operating(path))
    path.write_text("patient_id,threshold\n")
    with pytest.raises(RunError, match="columns are patient_id, threshold, expected patient_id, threshold, tp"):
        dict(read_operating(path))
    path.write_text("")
    with pytest.raises(RunError, match="columns are missing"):
        dict(read_operating(path))


def test_a_patient_in_two_places_is_refused(tmp_path):
    path = tmp_path / "operating.csv"
    write_operating(path, dict(zip(("P1", "P2"), patients(2), strict=True)))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *lines[1:202]]) + "\n")
    with pytest.raises(RunError, match=r"201 rows of patient P1 once more, expected 201 rows"):
        dict(read_operating(path))


def test_counts_of_many_patients_are_not_in_memory_together(tmp_path):
    def peak(number: int) -> int:
        path = tmp_path / f"{number}.csv"
        write_operating(path, {f"P{patient:04d}": one for patient, one in enumerate(patients(2) * (number // 2))})
        tracemalloc.start()
        at_threshold((counts for _, counts in read_operating(path)), 0.5)
        best_threshold(counts for _, counts in read_operating(path))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(200) - peak(20) < 180 * 600, "all thresholds of a patient are 6.4 kB"


# --- Guards ---


def test_impossible_arguments_are_refused():
    probability, target = soft()
    with pytest.raises(TypeError, match=r"probability has dtype float64, expected float32"):
        threshold_counts(probability.astype(np.float64), target)
    with pytest.raises(TypeError, match="dtype uint8, expected bool"):
        threshold_counts(probability, target.astype(np.uint8))
    with pytest.raises(ValueError, match=r"probability has shape \(4, 8, 8\), target \(4, 9, 8\)"):
        threshold_counts(probability[:, 1:], target)
    for wrong in (np.nan, -0.5, 3.0):
        bad = probability.copy()
        bad[0, 0, 0] = wrong
        with pytest.raises(ValueError, match=r"expected 0\.\.1 and no NaN; apply the sigmoid"):
            threshold_counts(bad, target)


@pytest.mark.parametrize("threshold", [0.5001, -0.005, 1.005, math.nan])
def test_a_threshold_off_the_grid_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold is .*, expected a multiple of 0\.005"):
        at_threshold(patients(1), threshold)


def test_nobody_has_no_curve():
    for question in (
        best_threshold,
        lambda counts: mean_curves(counts, seed=0),
        lambda counts: at_threshold(counts, 0.5),
    ):
        with pytest.raises(ValueError, match="counts of 0 patients, expected at least one"):
            question([])
    without = OperatingCounts.of(np.float32([0.1, 0.9]), np.array([False, False]))
    with pytest.raises(ValueError, match="none of 1 patients has LV"):
        best_threshold([without])
