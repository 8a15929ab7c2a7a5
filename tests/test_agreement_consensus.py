"""Consensus by vote, distance and STAPLE; nobody against himself; calibration in a region."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpi_unet.agreement import (
    calibration,
    leave_one_out_consensus,
    majority_vote,
    mean_calibration,
    readers_against_others,
    region_of_interest,
    signed_distance_mean,
    staple,
)
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.overlap import dice, frame_counts

outlines = arrays(np.bool_, st.tuples(st.integers(3, 5), st.just(5), st.just(6)))


def disk(radius, row=16.0, column=16.0, size=33):
    y, x = np.mgrid[:size, :size]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def by_name(stack):
    return dict(zip("ABCDEFG", stack, strict=False))


def dice_of(preds, target):
    return float(dice(frame_counts(preds[None], target[None]))[0])


# --- Majority ---


@given(outlines)
@settings(deadline=None, max_examples=40)
def test_majority_equals_simpleitk_label_voting(stack):
    import SimpleITK

    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in stack]
    voted = SimpleITK.GetArrayFromImage(SimpleITK.LabelVoting(images, 2))  # 2 where undecided
    for tie in ("foreground", "background"):
        found = majority_vote(by_name(stack), tie=tie)
        np.testing.assert_array_equal(found.picture(), (voted == 1) | ((voted == 2) & (tie == "foreground")))
        assert found.tied_voxels == (voted == 2).sum()


def test_an_even_number_of_readers_needs_a_tie_rule():
    masks = by_name([disk(5), disk(8)])
    with pytest.raises(AgreementError, match=r"2 readers \(A, B\) can be split evenly.*tie='foreground'"):
        majority_vote(masks)
    union, both = majority_vote(masks, tie="foreground"), majority_vote(masks, tie="background")
    np.testing.assert_array_equal(union.picture(), disk(8))
    np.testing.assert_array_equal(both.picture(), disk(5))
    assert "is their union" in union.warnings[0]
    assert "is their intersection" in both.warnings[0]
    assert (union.tie, union.tied_voxels) == ("foreground", int((disk(8) & ~disk(5)).sum()))
    assert union.method == "majority vote of 2 readers, ties to foreground"
    with pytest.raises(AgreementError, match="tie is 'larger', expected 'foreground' or 'background'"):
        majority_vote(masks, tie="larger")


def test_order_of_readers_is_irrelevant():
    masks = by_name([disk(5, 14), disk(8), disk(7, 18), disk(6, 16, 12)])
    for make in (
        lambda masks: majority_vote(masks, tie="background").picture(),
        lambda masks: signed_distance_mean(masks, spacing_mm=(2.0, 3.0)).picture(),
        lambda masks: staple(masks).consensus.picture(),
    ):
        expected = make(masks)
        for order in itertools.islice(itertools.permutations(masks), 5):
            np.testing.assert_array_equal(make({name: masks[name] for name in order}), expected)


# --- Signed distance ---


def test_mean_of_two_disks_has_the_mean_radius():
    found = signed_distance_mean(by_name([disk(5), disk(11)]), spacing_mm=(1.0, 1.0)).picture()
    assert (disk(7.4) <= found).all()
    assert (found <= disk(8.7)).all()


def test_mean_of_two_shifted_disks_lies_between():
    found = signed_distance_mean(by_name([disk(7, 13), disk(7, 19)]), spacing_mm=(1.0, 1.0)).picture()
    rows = np.argwhere(found)[:, 0]
    assert rows.mean() == pytest.approx(16)
    assert found.sum() == pytest.approx(disk(7).sum(), rel=0.25)


def test_spacing_counts():
    """One reader ends 4 voxels higher, the other 2 voxels to the side; which matters more depends on the spacing."""
    base = np.zeros((12, 12), dtype=bool)
    base[4:8, 4:8] = True
    wide = base.copy()
    wide[4:8, 2:10] = True
    one = signed_distance_mean(by_name([base, wide]), spacing_mm=(1.0, 1.0)).picture()
    other = signed_distance_mean(by_name([base, wide]), spacing_mm=(1.0, 5.0)).picture()
    assert one.sum() != other.sum()
    np.testing.assert_array_equal(one, signed_distance_mean(by_name([base, wide]), spacing_mm=(7.0, 7.0)).picture())


@given(outlines)
@settings(deadline=None, max_examples=30)
def test_equal_outlines_are_their_own_consensus(stack):
    masks = by_name([stack[0]] * 3)
    np.testing.assert_array_equal(signed_distance_mean(masks, spacing_mm=(2.0, 3.0)).picture(), stack[0])
    np.testing.assert_array_equal(majority_vote(masks).picture(), stack[0])
    np.testing.assert_array_equal(staple(masks).consensus.picture(), stack[0])


def test_distance_to_an_empty_outline_is_refused():
    empty = np.zeros((33, 33), dtype=bool)
    with pytest.raises(AgreementError, match=r"1 of 3 readers outlined nothing \(C\).*use majority_vote"):
        signed_distance_mean(by_name([disk(5), disk(6), empty]), spacing_mm=(1.0, 1.0))
    found = signed_distance_mean(by_name([empty, empty]), spacing_mm=(1.0, 1.0))
    assert (found.volume_voxels, found.warnings) == (0, ("all readers outlined nothing; so does the consensus",))
    full = np.ones((5, 5), dtype=bool)
    assert signed_distance_mean(by_name([full, full]), spacing_mm=(1.0, 1.0)).picture().all()


@pytest.mark.parametrize("spacing_mm", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, float("nan"))])
def test_spacing_must_fit(spacing_mm):
    with pytest.raises(AgreementError, match=r"shape \(33, 33\), expected one positive distance in mm for each axis"):
        signed_distance_mean(by_name([disk(5), disk(6)]), spacing_mm=spacing_mm)


# --- Nobody against himself ---


def test_a_member_is_never_scored_against_the_consensus():
    masks = by_name([disk(5), disk(6), disk(7)])
    found = majority_vote(masks)
    np.testing.assert_array_equal(found.reference_for("network"), disk(6))
    with pytest.raises(AgreementError, match=r"reader 'B' cannot be scored.*A, B, C.*use leave_one_out_consensus"):
        found.reference_for("B")
    with pytest.raises(AgreementError, match="reader 'A' cannot be scored"):
        staple(masks).consensus.reference_for("A")
    with pytest.raises(AgreementError, match="reader 'C' cannot be scored"):
        signed_distance_mean(masks, spacing_mm=(1.0, 1.0)).reference_for("C")


def test_a_second_reading_by_a_member_is_the_member():
    masks = by_name([disk(5), disk(6), disk(7)])
    found = majority_vote(masks, same_person={"A2": "A"})
    with pytest.raises(AgreementError, match=r"reader 'A2' cannot be scored.*it contains A, the same person's"):
        found.reference_for("A2")
    both = majority_vote({**masks, "A2": disk(5)}, tie="background", same_person={"A2": "A"})
    assert both.warnings == ("reader A has more than one vote: repeated readings are members",)


def test_leaving_one_out_leaves_the_person_out():
    masks = {"A": disk(5), "A2": disk(6), "B": disk(7), "C": disk(8)}

    def make(others):
        return majority_vote(others, tie="foreground")

    found = leave_one_out_consensus(masks, make, same_person={"A2": "A"})
    assert {name: one.members for name, one in found.items()} == {
        "A": ("B", "C"),
        "A2": ("B", "C"),
        "B": ("A", "A2", "C"),
        "C": ("A", "A2", "B"),
    }
    scores = readers_against_others(masks, dice_of, make, same_person={"A2": "A"})
    assert scores["A"] == dice_of(disk(5), disk(8))


def test_two_readers_leave_no_consensus():
    with pytest.raises(AgreementError, match=r"without 'A' 1 reading\(s\) remain \(B\).*at least 3 readers"):
        leave_one_out_consensus(by_name([disk(5), disk(6)]), majority_vote)
    with pytest.raises(AgreementError, match=r"without 'B' 2 reading\(s\) remain \(A, A2\)"):
        leave_one_out_consensus(
            {"B": disk(7), "A": disk(5), "A2": disk(6)},
            lambda others: majority_vote(others, tie="foreground"),
            same_person={"A2": "A"},
        )


def test_the_circular_score_flatters():
    """Equal readers: against a consensus with themselves in it they score higher than an equal newcomer."""
    rng = np.random.default_rng(0)
    circular, honest, newcomer = [], [], []
    for _ in range(60):
        *readers, other = (disk(9 + rng.normal(0, 0.8), *(16 + rng.normal(0, 0.7, 2))) for _ in range(4))
        masks = by_name(readers)
        everybody = majority_vote(masks)
        circular += [dice_of(mask, everybody.picture()) for mask in readers]
        honest += readers_against_others(masks, dice_of, lambda rest: majority_vote(rest, tie="foreground")).values()
        newcomer.append(dice_of(other, everybody.reference_for("network")))
    assert np.mean(circular) > np.mean(newcomer) + 0.01
    assert np.mean(circular) > np.mean(honest) + 0.01


@pytest.mark.parametrize(
    ("masks", "match"),
    [
        ({"A": disk(5)}, r"1 reader\(s\) \(A\), expected at least 2; one reader is no consensus"),
        ({"A": disk(5), "B": disk(5).astype(float), "C": disk(5)[1:]}, r"B: dtype float64.*\n  C: shape \(32, 33\)"),
        ({"A": np.True_, "B": np.True_}, "masks have no axes"),
    ],
)
def test_masks_refused(masks, match):
    for make in (majority_vote, staple, lambda given: signed_distance_mean(given, spacing_mm=(1.0, 1.0))):
        with pytest.raises(AgreementError, match=match):
            make({name: np.asarray(mask) for name, mask in masks.items()})


# --- STAPLE ---


def staple_by_hand(stack, prior, iterations=500):
    """Warfield's equations, written again: expectation and maximization until nothing moves."""
    votes = stack.reshape(len(stack), -1).astype(float)
    p = q = np.full(len(stack), 0.99999)
    for _ in range(iterations):
        yes = prior * np.prod(np.where(votes == 1, p[:, None], 1 - p[:, None]), axis=0)
        no = (1 - prior) * np.prod(np.where(votes == 1, 1 - q[:, None], q[:, None]), axis=0)
        weight = yes / (yes + no)
        p, q = votes @ weight / weight.sum(), (1 - votes) @ (1 - weight) / (1 - weight).sum()
    return weight.reshape(stack.shape[1:]), p, q


def blurred(seed, readers=4):
    rng = np.random.default_rng(seed)
    return np.stack([disk(9) ^ (rng.random((33, 33)) < share) for share in np.linspace(0.02, 0.2, readers)])


@pytest.mark.parametrize("prior", [None, 0.4])
def test_staple_equals_its_equations(prior):
    stack = blurred(0)
    found = staple(by_name(stack), prior=prior)
    weight, p, q = staple_by_hand(stack, stack.mean() if prior is None else prior)
    np.testing.assert_allclose(found.probability, weight, atol=1e-5)
    assert [reader.sensitivity for reader in found.per_reader] == pytest.approx(p, abs=1e-5)
    assert [reader.specificity for reader in found.per_reader] == pytest.approx(q, abs=1e-5)
    assert found.per_reader[0].reader == "A"
    assert found.iterations > 1


def test_staple_says_its_prior_and_that_the_field_of_view_changes_it():
    stack = blurred(1)
    padded = np.pad(stack, ((0, 0), (40, 40), (40, 40)))
    found, wider = staple(by_name(stack)), staple(by_name(padded))
    assert wider.prior < found.prior / 5
    assert "depends on the field of view" in found.warnings[0]
    assert "prior 0.3 (given)" in staple(by_name(stack), prior=0.3).warnings[0]


def test_staple_of_two_readers_warns_of_their_union():
    small, large = disk(7), disk(10)
    found = staple(by_name([small, large]))
    np.testing.assert_array_equal(found.consensus.picture(), large)
    assert any("two readers is close to their union" in note for note in found.warnings)
    assert found.consensus.warnings == found.warnings


@pytest.mark.parametrize(("value", "word"), [(False, "nothing"), (True, "everything")])
def test_staple_of_empty_or_full_masks(value, word):
    """SimpleITK returns an image of NaN for empty masks."""
    found = staple(by_name(np.full((3, 4, 4), value)))
    assert (found.probability == value).all()
    assert found.consensus.volume_voxels == 16 * value
    assert math.isnan(found.per_reader[0].specificity if value else found.per_reader[0].sensitivity)
    assert any(f"all readers outlined {word}" in note for note in found.warnings)


def test_staple_names_a_reader_who_does_not_fit():
    found = staple({"A": disk(8), "B": disk(8, 17), "C": disk(8, 15), "far": disk(4, 28, 28)})
    assert any("gives far a sensitivity" in note for note in found.warnings)


def test_staple_of_volumes_and_what_it_refuses():
    volume = np.repeat(disk(6)[None], 4, axis=0)
    assert staple(by_name([volume, volume, volume])).consensus.volume_voxels == volume.sum()
    with pytest.raises(AgreementError, match=r"shape \(33,\), expected 2-D or 3-D"):
        staple(by_name([disk(6)[16], disk(6)[16]]))
    with pytest.raises(AgreementError, match=r"prior is 1\.0, expected a share of voxels between 0 and 1"):
        staple(by_name([disk(5), disk(6)]), prior=1.0)


# --- Calibration ---


@pytest.mark.parametrize("num_bins", [5, 10, 15])
def test_calibration_equals_torchmetrics_and_scikit_learn(num_bins):
    import torch
    from sklearn.metrics import brier_score_loss, log_loss
    from torchmetrics.functional.classification import binary_calibration_error

    rng = np.random.default_rng(num_bins)
    p = rng.random((20, 20))
    y = rng.random((20, 20)) < p**1.5
    found = calibration(p, y, np.ones_like(y), num_bins=num_bins)
    probability, target = torch.from_numpy(p.ravel()), torch.from_numpy(y.ravel().astype(int))
    for norm, value in (("l1", found.estimate), ("max", found.mce)):
        expected = binary_calibration_error(probability, target, n_bins=num_bins, norm=norm)
        assert value == pytest.approx(float(expected), abs=1e-6)
    assert found.brier == pytest.approx(brier_score_loss(y.ravel(), p.ravel()))
    assert found.log_loss == pytest.approx(log_loss(y.ravel(), p.ravel()))
    assert found.voxels.sum() == found.num_voxels == 400


def test_background_hides_poor_calibration():
    """The same probabilities: fine on the whole image, poor where it matters."""
    target = disk(6, size=33)
    p = np.where(disk(8), 0.95, 0.001)
    everywhere = calibration(p, target, np.ones_like(target))
    region = calibration(p, target, region_of_interest({"A": target}))
    assert region.estimate > 3 * everywhere.estimate


def test_region_is_the_union_and_two_voxels_around():
    first, second = np.zeros((2, 9, 9), dtype=bool)
    first[4, 4] = second[4, 5] = True
    found = region_of_interest({"A": first, "B": second})
    assert found[4].tolist() == [False, False] + [True] * 6 + [False]
    assert found[:, 4].sum() == 5
    assert not region_of_interest({"A": np.zeros((3, 3), dtype=bool)}).any()
    np.testing.assert_array_equal(region_of_interest({"A": first}, dilation_voxels=0), first)


def test_edges_of_bins_and_sure_mistakes():
    p, y = np.array([0.0, 0.5, 1.0, 1.0]), np.array([False, True, True, False])
    found = calibration(p, y, np.ones(4, dtype=bool), num_bins=2)
    assert found.voxels.tolist() == [1, 3]
    assert found.log_loss == pytest.approx((-math.log(0.5) - math.log(1e-7)) / 4, rel=1e-4)


def test_mean_calibration_counts_each_patient_once():
    y = np.array([True, True, False, False])
    one = calibration(np.full(4, 0.5), y, np.ones(4, dtype=bool), num_bins=2)
    two = calibration(np.full(4, 0.9), y, np.ones(4, dtype=bool), num_bins=2)
    none = calibration(np.full(4, 0.9), y, np.zeros(4, dtype=bool), num_bins=2)
    assert math.isnan(none.estimate)
    found = mean_calibration([one, two, none])
    assert (found.n, found.n_undefined) == (2, 1)
    assert found.ece.value == pytest.approx((0 + 0.4) / 2)
    assert found.mean_probability[1] == pytest.approx(0.7)
    assert math.isnan(found.observed_share[0])
    assert found.n_in_bin.tolist() == [0, 2]
    assert found.brier.interval.low < found.brier.value < found.brier.interval.high


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: calibrate(p=np.array([0.5, 1.2])), r"1 of 2 probabilities in the region are NaN or outside 0\.\.1"),
        (lambda: calibrate(p=np.array([0.5, np.nan])), "apply the sigmoid or softmax exactly once"),
        (lambda: calibrate(y=np.array([0.0, 1.0])), "target has dtype float64, expected bool"),
        (lambda: calibrate(region=np.array([1, 1])), "region has dtype int64, expected bool"),
        (lambda: calibrate(p=np.array([0.5])), r"probability \(1,\), target \(2,\) and region \(2,\)"),
        (lambda: calibrate(num_bins=0), "num_bins is 0, expected at least 1"),
        (lambda: region_of_interest({"A": disk(3)}, dilation_voxels=-1), "dilation_voxels is -1, expected 0 or more"),
        (lambda: region_of_interest({}), r"0 reader\(s\)"),
        (lambda: mean_calibration([]), "none of 0 patients has a voxel"),
        (lambda: mean_calibration([calibrate(num_bins=2), calibrate(num_bins=3)]), "results have 2, 3 bins"),
    ],
)
def test_calibration_refuses(call, match):
    with pytest.raises(AgreementError, match=match):
        call()


def calibrate(p=None, y=None, region=None, num_bins=15):
    return calibration(
        np.array([0.2, 0.7]) if p is None else p,
        np.array([False, True]) if y is None else y,
        np.array([True, True]) if region is None else region,
        num_bins=num_bins,
    )
