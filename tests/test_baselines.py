"""Baselines: they look at what they may look at, and no further."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpi_unet.evaluation import overlap
from mpi_unet.evaluation.baselines import (
    BASELINES,
    all_background,
    all_foreground,
    largest_component,
    mean_shape,
)


def block(shape=(6, 20, 20), frames=(1, 5), rows=(6, 14), columns=(5, 15)):
    mask = np.zeros(shape, dtype=bool)
    mask[slice(*frames), slice(*rows), slice(*columns)] = True
    return mask


def case_dice(preds, target):
    return float(overlap.dice(overlap.frame_counts(preds, target).sum(axis=0)))


def test_all_background_and_all_foreground():
    target = block()
    share = target.mean()
    assert case_dice(all_background(target.shape), target) == 0
    assert case_dice(all_foreground(target.shape), target) == pytest.approx(2 * share / (1 + share))
    empty = overlap.frame_counts(all_background(target.shape), target).sum(axis=0)
    assert overlap.accuracy(empty) == pytest.approx(1 - share)


def test_every_baseline_has_a_label():
    assert set(BASELINES) == {"all_background", "all_foreground", "mean_shape", "largest_component"}
    assert len(set(BASELINES.values())) == 4


# --- Mean shape ---


def test_mean_shape_of_one_shape_is_that_shape():
    masks = [block(), block(), block()]
    np.testing.assert_array_equal(mean_shape(masks, ["P1", "P2", "P3"]).predict((6, 20, 20)), block())


def test_a_patient_with_many_cases_has_the_weight_of_one():
    odd, usual = block(rows=(0, 6)), block(rows=(8, 14))
    shape = mean_shape([odd, odd, odd, odd, usual, usual], ["P1", "P1", "P1", "P1", "P2", "P3"])
    assert shape.share.max() == pytest.approx(2 / 3)
    np.testing.assert_allclose(shape.share[odd], 1 / 3, atol=1e-6)
    np.testing.assert_array_equal(shape.predict((6, 20, 20)), usual)


def test_threshold_of_the_mean_shape_is_the_best_on_the_training_patients():
    rng = np.random.default_rng(0)
    masks = [block(rows=(4 + int(rng.integers(4)), 13), columns=(3 + int(rng.integers(5)), 15)) for _ in range(7)]
    shape = mean_shape(masks, [f"P{i}" for i in range(7)])
    mean_dice = {
        threshold: np.mean([case_dice(shape.share >= np.float32(threshold), mask) for mask in masks])
        for threshold in np.arange(201) / 200
    }
    assert mean_dice[shape.threshold] == pytest.approx(max(mean_dice.values()), abs=1e-12)
    assert np.mean([case_dice(shape.predict(mask.shape), mask) for mask in masks]) == mean_dice[shape.threshold]


def test_patients_who_share_nothing_have_a_mean_shape_of_all_of_them():
    """At one half nothing would be outlined (Dice 0); all three pixels have a Dice of 1/2 with each patient."""
    masks = [np.eye(3, dtype=bool)[row][None, None] for row in range(3)]
    shape = mean_shape(masks, ["P1", "P2", "P3"])
    assert shape.threshold == 0.33
    assert shape.predict((1, 1, 3)).all()


def test_the_held_out_patient_changes_nothing():
    """Its prediction is a function of the training masks and of the shape alone."""
    training = [block(), block(rows=(7, 15))]
    shape = mean_shape(training, ["P1", "P2"])
    assert shape.predict((6, 20, 20)).tobytes() == mean_shape(training, ["P1", "P2"]).predict((6, 20, 20)).tobytes()
    again = mean_shape([*training, block(rows=(0, 2))], ["P1", "P2", "P3"])
    assert not np.array_equal(again.share, shape.share)


@pytest.mark.parametrize("frames", [3, 12, 18])
def test_frames_are_matched_by_their_relative_place(frames):
    """Four of six frames, in the middle: so are two of three, eight of twelve."""
    shape = mean_shape([block(frames=(1, 5))], ["P1"])
    found = shape.predict((frames, 20, 20)).any(axis=(1, 2))
    expected = np.zeros(frames, dtype=bool)
    expected[frames // 6 if frames > 3 else 0 : frames - frames // 6] = True
    assert np.count_nonzero(found != expected) <= 2
    assert found[frames // 2]
    np.testing.assert_array_equal(found, found[::-1])


@pytest.mark.parametrize(("grid", "shift"), [((6, 24, 28), (2, 4)), ((6, 16, 18), (-2, -1))])
def test_rows_and_columns_are_matched_by_the_center(grid, shift):
    shape = mean_shape([block(rows=(6, 14), columns=(5, 15))], ["P1"])
    expected = block(grid, rows=(6 + shift[0], 14 + shift[0]), columns=(5 + shift[1], 15 + shift[1]))
    np.testing.assert_array_equal(shape.predict(grid), expected)


def test_training_masks_of_several_sizes_meet_on_the_largest():
    small, large = block((6, 20, 20)), block((12, 24, 24), frames=(2, 10), rows=(8, 16), columns=(7, 17))
    shape = mean_shape([small, large], ["P1", "P2"])
    assert shape.share.shape == (12, 24, 24)
    assert case_dice(shape.predict(large.shape), large) > 0.85
    assert case_dice(shape.predict(small.shape), small) > 0.85


@given(st.lists(arrays(bool, (2, 3, 4)), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_order_of_patients_is_irrelevant(masks, random):
    if not any(mask.any() for mask in masks):
        return
    order = list(range(len(masks)))
    random.shuffle(order)
    names = [f"P{i}" for i in order]
    one = mean_shape(masks, [f"P{i}" for i in range(len(masks))])
    other = mean_shape([masks[i] for i in order], names)
    np.testing.assert_allclose(one.share, other.share, atol=1e-6)
    np.testing.assert_allclose(one.share, np.mean(masks, axis=0), atol=1e-6)
    assert one.predict((2, 3, 4)).dtype == np.bool_


def test_nothing_has_no_mean_shape():
    with pytest.raises(ValueError, match="0 training masks and 0 patient ids, expected at least one mask"):
        mean_shape([], [])
    with pytest.raises(ValueError, match="1 training masks and 2 patient ids"):
        mean_shape([block()], ["P1", "P2"])
    with pytest.raises(ValueError, match="all 2 training masks are empty, expected outlines"):
        mean_shape([np.zeros((2, 3, 3), bool)] * 2, ["P1", "P2"])


# --- Threshold and largest component ---


def glowing(mask, seed=0):
    rng = np.random.default_rng(seed)
    return (10 * mask + rng.random(mask.shape)).astype(np.float32)


def test_the_larger_of_two_bright_structures_is_outlined():
    lv, gut = block(), block(frames=(0, 3), rows=(16, 19), columns=(1, 8))
    np.testing.assert_array_equal(largest_component(glowing(lv | gut), per_frame=False), lv)


def test_a_volume_is_one_structure_and_each_projection_its_own():
    bright = np.zeros((2, 10, 12), dtype=bool)
    bright[0, 1:7, 1:7] = True  # the largest of the first frame and of all
    bright[1, 1:4, 1:3] = True  # connected with it through the frames
    bright[1, 6:9, 7:11] = True  # the largest of the second frame
    whole = largest_component(glowing(bright), per_frame=False)
    singly = largest_component(glowing(bright), per_frame=True)
    assert (whole[1, 1, 1], whole[1, 7, 8]) == (True, False)
    assert (singly[1, 1, 1], singly[1, 7, 8]) == (False, True)
    np.testing.assert_array_equal(singly[0], whole[0])


def test_all_frames_at_once_equal_one_frame_at_a_time():
    rng = np.random.default_rng(4)
    image = rng.random((5, 16, 16), dtype=np.float32)
    alone = np.concatenate([largest_component(frame[None], per_frame=True) for frame in image])
    np.testing.assert_array_equal(largest_component(image, per_frame=True), alone)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fraction", [0.3, 0.5])
def test_threshold_and_component_equal_simpleitk(seed, fraction):
    import SimpleITK

    rng = np.random.default_rng(seed)
    image = rng.poisson(np.where(block() | block(rows=(16, 19), columns=(1, 4)), 40.0, 9.0)).astype(np.float32)
    itk = SimpleITK.GetImageFromArray(image)
    top = float(SimpleITK.GetArrayFromImage(SimpleITK.Median(itk, (1, 1, 1))).max())
    bright = SimpleITK.BinaryThreshold(itk, fraction * top, 1e9)
    labels = SimpleITK.RelabelComponent(SimpleITK.ConnectedComponent(bright, False))
    expected = SimpleITK.GetArrayFromImage(labels) == 1
    np.testing.assert_array_equal(largest_component(image, per_frame=False, fraction=fraction), expected)


def test_a_single_hot_pixel_and_a_larger_field_of_view_change_nothing():
    image = glowing(block())
    hot = image.copy()
    hot[0, 0, 0] = 1e6
    expected = largest_component(image, per_frame=False)
    np.testing.assert_array_equal(largest_component(hot, per_frame=False), expected)
    wide = np.pad(image, 9)
    np.testing.assert_array_equal(largest_component(wide, per_frame=False)[9:-9, 9:-9, 9:-9], expected)


@pytest.mark.parametrize("per_frame", [True, False])
def test_a_dark_image_has_no_structure(per_frame):
    assert not largest_component(np.zeros((2, 4, 4), np.float32), per_frame=per_frame).any()


@pytest.mark.parametrize("fraction", [0.0, 1.5, np.nan])
def test_an_impossible_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction is .*, expected a share of the maximum"):
        largest_component(glowing(block()), per_frame=False, fraction=fraction)
