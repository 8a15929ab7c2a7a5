"""Overlap scores: golden values, three libraries where they are right, and where their defaults are not ours."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpi_unet.evaluation import overlap

FOREGROUND = ("dice", "iou", "precision", "recall")
SCORES = (*FOREGROUND, "specificity", "false_positive_rate", "accuracy", "macro_dice", "macro_iou")

masks = arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))


@st.composite
def pairs(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape))


def square(rows, columns, shape=(12, 12)):
    mask = np.zeros(shape, dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def nothing():
    return np.zeros((12, 12), dtype=bool)


def reference():
    return square((3, 8), (3, 8))


def shell(center, radius, wall, cut):
    """Half an ellipsoidal shell on a grid of 16 x 24 x 24: an LV wall of known voxel count."""
    grid = np.moveaxis(np.mgrid[:16, :24, :24], 0, -1)
    center, radius = np.array(center), np.array(radius)
    outer = (((grid - center) / radius) ** 2).sum(-1) <= 1
    inner = (((grid - center) / (radius - wall)) ** 2).sum(-1) <= 1
    return outer & ~inner & (grid[..., 0] <= cut)


def score(name, preds, target):
    return float(getattr(overlap, name)(overlap.frame_counts(preds[None], target[None]).sum(axis=0)))


# --- Golden values ---


def test_shell_matches_golden_values():
    target = shell((10, 12, 12), (7, 8, 8), 2.2, 12)
    preds = shell((9, 12.4, 11.7), (7, 8, 8.3), 2.0, 11)
    assert (preds.sum(), target.sum()) == (809, 819)
    expected = {
        "dice": 0.6511056511056511,
        "iou": 0.48269581056466304,
        "precision": 0.6551297898640297,
        "recall": 0.6471306471306472,
    }
    assert {name: score(name, preds, target) for name in expected} == pytest.approx(expected, abs=1e-12)


def test_shift_by_one_row_matches_golden_values():
    expected = {"dice": 0.8, "iou": 2 / 3, "precision": 0.8, "recall": 0.8}
    shifted = square((4, 9), (3, 8))
    assert {name: score(name, shifted, reference()) for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("preds", "target", "expected"),
    [
        pytest.param(nothing(), nothing(), (None, None, None, None), id="both empty"),
        pytest.param(reference(), nothing(), (0, 0, 0, None), id="target empty"),
        pytest.param(nothing(), reference(), (0, 0, None, 0), id="preds empty"),
    ],
)
def test_empty_masks_follow_the_policy(preds, target, expected):
    found = [score(name, preds, target) for name in ("dice", "iou", "precision", "recall")]
    assert tuple(None if np.isnan(value) else value for value in found) == expected


def six_slices():
    """Both empty; a false alarm of 2; a miss of 1; identity; a shift; 2 pixels for 1."""
    drop = square((5, 7), (5, 6))
    dot = square((5, 6), (5, 6))
    preds = [nothing(), drop, nothing(), reference(), square((4, 9), (3, 8)), drop]
    target = [nothing(), nothing(), dot, reference(), reference(), dot]
    return np.stack(preds), np.stack(target)


def test_six_slices_have_one_dice_per_case_and_another_per_frame():
    counts = overlap.frame_counts(*six_slices())
    np.testing.assert_allclose(overlap.dice(counts), [np.nan, 0, 0, 1, 0.8, 2 / 3], atol=1e-12)
    assert np.nanmean(overlap.dice(counts)) == pytest.approx(0.493333333, abs=1e-9)
    assert overlap.dice(counts.sum(axis=0)) == pytest.approx(0.867924528, abs=1e-9)


@pytest.mark.parametrize(
    ("background", "expected"), [(0, 0.666667), (100, 0.923077), (1000, 0.990291), (100_000, 0.9999)]
)
def test_accuracy_grows_with_the_field_of_view_and_dice_does_not(background, expected):
    counts = np.array([20, 5, 5, background])
    assert overlap.accuracy(counts) == pytest.approx(expected, abs=1e-6)
    assert overlap.dice(counts) == 0.8


def test_scores_are_undefined_without_background_or_pixels():
    full, no_pixels = np.array([9, 0, 0, 0]), np.zeros(4, dtype=int)
    assert np.isnan(overlap.specificity(full))
    assert np.isnan(overlap.false_positive_rate(full))
    assert np.isnan(overlap.macro_dice(full))
    assert np.isnan(overlap.macro_iou(full))
    assert all(np.isnan(getattr(overlap, name)(no_pixels)) for name in SCORES)


# --- Oracles ---


def blobs(seed, shape=(40, 40)):
    rng = np.random.default_rng(seed)
    target = rng.random(shape) < rng.uniform(0.05, 0.9)
    return target ^ (rng.random(shape) < rng.uniform(0, 0.5)), target


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learn(seed):
    from sklearn import metrics

    preds, target = blobs(seed)
    p, t = preds.ravel(), target.ravel()
    expected = {
        "dice": metrics.f1_score(t, p),
        "iou": metrics.jaccard_score(t, p),
        "precision": metrics.precision_score(t, p),
        "recall": metrics.recall_score(t, p),
        "specificity": metrics.recall_score(t, p, pos_label=False),
        "false_positive_rate": 1 - metrics.recall_score(t, p, pos_label=False),
        "accuracy": metrics.accuracy_score(t, p),
        "macro_dice": metrics.f1_score(t, p, average="macro"),
        "macro_iou": metrics.jaccard_score(t, p, average="macro"),
    }
    assert {name: score(name, preds, target) for name in SCORES} == pytest.approx(expected, abs=1e-12)


def test_counts_equal_the_confusion_matrix_of_scikit_learn():
    from sklearn.metrics import confusion_matrix

    preds, target = blobs(11)
    tn, fp, fn, tp = confusion_matrix(target.ravel(), preds.ravel()).ravel()
    assert overlap.frame_counts(preds[None], target[None]).tolist() == [[tp, fp, fn, tn]]


def test_scores_equal_torchmetrics_and_monai_without_background():
    import torch
    from monai.metrics import compute_dice, compute_iou
    from torchmetrics.functional.segmentation import dice_score

    for seed in range(5):
        preds, target = blobs(seed)
        p, t = (torch.tensor(mask)[None, None] for mask in (preds, target))
        expected = score("dice", preds, target)
        channels = [torch.cat([~mask, mask], dim=1).long() for mask in (p, t)]
        theirs = dice_score(*channels, num_classes=2, include_background=False, average=None)
        assert float(theirs) == pytest.approx(expected, abs=1e-6)
        assert float(compute_dice(p, t, ignore_empty=False)) == pytest.approx(expected, abs=1e-6)
        assert float(compute_iou(p, t, ignore_empty=False)) == pytest.approx(score("iou", preds, target), abs=1e-6)


def test_a_missed_lv_scores_zero_here_and_nearly_half_in_torchmetrics():
    import torch
    from torchmetrics.segmentation import DiceScore, GeneralizedDiceScore

    missed, target = (torch.tensor(mask)[None].long() for mask in (nothing(), reference()))
    by_default = DiceScore(num_classes=2, average="macro", input_format="index")
    assert score("dice", nothing(), reference()) == 0
    assert float(by_default(missed, target)) == pytest.approx(0.4525, abs=1e-4)
    assert float(by_default(missed, target)) == pytest.approx(score("macro_dice", nothing(), reference()), abs=1e-6)
    generalized = GeneralizedDiceScore(num_classes=2, input_format="index")
    assert float(generalized(target, missed)) == pytest.approx(0.905, abs=1e-3)  # a false alarm
    generalized.reset()
    assert float(generalized(missed, target)) == pytest.approx(0.287, abs=1e-3)  # a miss: not even symmetric


def test_two_empty_masks_are_undefined_here_and_zero_elsewhere():
    import torch
    from monai.metrics import DiceMetric
    from torchmetrics.classification import BinaryF1Score

    empty = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    monai = DiceMetric()
    monai(empty, empty)
    assert np.isnan(score("dice", nothing(), nothing()))
    assert float(monai.aggregate()) == 0  # the undefined dropped, a mean of nothing remains
    assert float(BinaryF1Score()(empty.int(), empty.int())) == 0


def test_false_alarms_on_empty_studies_count_here_and_are_free_in_monai():
    import torch
    from monai.metrics import DiceMetric

    preds, target = six_slices()
    metric = DiceMetric(reduction="none")
    values = metric(torch.tensor(preds)[:, None], torch.tensor(target)[:, None])[:, 0]
    assert bool(torch.isnan(values[1]))
    assert overlap.dice(overlap.frame_counts(preds, target))[1] == 0


# --- Properties ---


@given(pairs())
@settings(deadline=None, max_examples=60)
def test_dice_and_iou_are_symmetric_and_tied_to_each_other(pair):
    counts, swapped = overlap.frame_counts(*pair), overlap.frame_counts(*pair[::-1])
    for name in ("dice", "iou", "accuracy", "macro_dice", "macro_iou"):
        np.testing.assert_array_equal(getattr(overlap, name)(counts), getattr(overlap, name)(swapped))
    np.testing.assert_array_equal(overlap.precision(counts), overlap.recall(swapped))
    dice, iou = overlap.dice(counts), overlap.iou(counts)
    np.testing.assert_allclose(dice, 2 * iou / (1 + iou), atol=1e-12)


@given(pairs(), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_background_around_the_image_changes_no_foreground_score(pair, margin):
    padded = [np.pad(mask, ((0, 0), (margin, margin), (margin, margin))) for mask in pair]
    before, after = overlap.frame_counts(*pair), overlap.frame_counts(*padded)
    for name in FOREGROUND:
        np.testing.assert_array_equal(getattr(overlap, name)(before), getattr(overlap, name)(after))


@given(pairs())
@settings(deadline=None, max_examples=60)
def test_all_frames_at_once_equal_one_frame_at_a_time(pair):
    counts = overlap.frame_counts(*pair)
    singly = [overlap.frame_counts(preds[None], target[None])[0] for preds, target in zip(*pair, strict=True)]
    np.testing.assert_array_equal(counts, singly)
    assert (counts.sum(axis=1) == pair[0][0].size).all()
    assert (counts >= 0).all()
    for name in SCORES:
        values = getattr(overlap, name)(counts)
        np.testing.assert_array_equal(values, [getattr(overlap, name)(row) for row in counts])
        assert ((values >= 0) & (values <= 1) | np.isnan(values)).all()


@given(pairs(), st.integers(2, 4))
@settings(deadline=None, max_examples=30)
def test_every_frame_twice_changes_no_score_of_the_case(pair, times):
    once = overlap.frame_counts(*pair).sum(axis=0)
    repeated = overlap.frame_counts(*(np.repeat(mask, times, axis=0) for mask in pair)).sum(axis=0)
    for name in SCORES:
        assert getattr(overlap, name)(once) == pytest.approx(getattr(overlap, name)(repeated), nan_ok=True)


@given(masks)
@settings(deadline=None, max_examples=30)
def test_a_mask_against_itself_is_perfect_or_undefined(mask):
    counts = overlap.frame_counts(mask, mask)
    assert set(overlap.dice(counts)[mask.any(axis=(1, 2))]) <= {1.0}
    assert np.isnan(overlap.dice(counts)[~mask.any(axis=(1, 2))]).all()


# --- Guards ---


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_a_mask_that_is_not_bool_is_refused(dtype):
    good, bad = np.zeros((1, 2, 2), dtype=bool), np.zeros((1, 2, 2), dtype=dtype)
    with pytest.raises(TypeError, match=rf"preds has dtype {np.dtype(dtype)}, expected bool.*threshold first"):
        overlap.frame_counts(bad, good)
    with pytest.raises(TypeError, match="target has dtype"):
        overlap.frame_counts(good, bad)


def test_masks_on_two_grids_are_refused():
    with pytest.raises(ValueError, match=r"preds has shape \(1, 2, 3\), target \(1, 2, 2\).*resample"):
        overlap.frame_counts(np.zeros((1, 2, 3), dtype=bool), np.zeros((1, 2, 2), dtype=bool))


def test_scoring_masks_needs_no_torch():
    rooms = ("baselines", "boundary", "intervals", "metrics", "operating", "overlap", "policy", "scores", "table")
    imports = "; ".join(f"import mpi_unet.evaluation.{room}" for room in rooms)
    code = f"{imports}; import sys; sys.exit(' '.join({{'torch', 'monai', 'pandas', 'skimage'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


# --- Counts over batches and devices ---


def frames_of_cases(seed=0):
    rng = np.random.default_rng(seed)
    preds, target = rng.random((2, 30, 5, 6)) < 0.4
    return preds, target, rng.integers(0, 4, 30)


@pytest.mark.parametrize("batch_size", [1, 7, 30])
def test_case_counts_do_not_depend_on_the_batch_size(batch_size):
    import torch

    from mpi_unet.evaluation.case_counts import CaseCounts

    preds, target, case_index = frames_of_cases()
    metric = CaseCounts(num_cases=5)
    for start in range(0, 30, batch_size):
        batch = slice(start, start + batch_size)
        metric.update(*(torch.tensor(array[batch]) for array in (preds, target, case_index)))
    expected = np.zeros((5, 4), dtype=np.int64)
    np.add.at(expected, case_index, overlap.frame_counts(preds, target))
    np.testing.assert_array_equal(metric.compute().numpy(), expected)
    assert not expected[4].any()  # a case that was never seen


def test_case_counts_of_two_devices_add_up_and_reset():
    import torch

    from mpi_unet.evaluation.case_counts import CaseCounts

    preds, target, case_index = (torch.tensor(array) for array in frames_of_cases(1))
    whole, half, other = CaseCounts(4), CaseCounts(4), CaseCounts(4)
    whole.update(preds, target, case_index)
    half.update(preds[:13], target[:13], case_index[:13])
    other.update(preds[13:], target[13:], case_index[13:])
    half.merge_state(other)
    assert torch.equal(half.compute(), whole.compute())
    whole.reset()
    assert int(whole.counts.sum()) == 0


def test_case_counts_of_volumes_and_of_empty_batches():
    import torch

    from mpi_unet.evaluation.case_counts import CaseCounts

    metric = CaseCounts(num_cases=1)
    volume = torch.ones(1, 3, 4, 5, dtype=torch.bool)
    metric.update(volume, volume, torch.tensor([0]))
    metric.update(volume[:0], volume[:0], torch.zeros(0, dtype=torch.long))
    assert metric.compute().tolist() == [[60, 0, 0, 0]]


def test_case_counts_refuse_what_they_cannot_count():
    import torch

    from mpi_unet.evaluation.case_counts import CaseCounts

    mask = torch.zeros(2, 3, 3, dtype=torch.bool)
    index = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="num_cases is 0, expected at least 1"):
        CaseCounts(0)
    with pytest.raises(TypeError, match=r"preds has dtype torch\.float32, expected torch\.bool"):
        CaseCounts(2).update(mask.float(), mask, index)
    with pytest.raises(TypeError, match=r"target has dtype torch\.int64"):
        CaseCounts(2).update(mask, mask.long(), index)
    with pytest.raises(ValueError, match=r"preds has shape \(2, 3, 3\), target \(2, 3, 2\)"):
        CaseCounts(2).update(mask, mask[..., :2], index)
    with pytest.raises(ValueError, match=r"case_index spans 0\.\.1, expected 0\.\.0"):
        CaseCounts(1).update(mask, mask, index)
    with pytest.raises(ValueError, match=r"case_index spans -1\.\.0"):
        CaseCounts(1).update(mask, mask, torch.tensor([-1, 0]))
