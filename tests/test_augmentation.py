"""Random transforms of batches against MONAI's transforms of the same name, which nobody here wrote."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from monai.data import set_track_meta
from monai.transforms import (
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandGridDistortiond,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandZoomd,
)
from scipy import stats

from mpi_unet.learning.augmentation import batch_transforms

set_track_meta(False)
BOTH, IMAGE = ["image", "label"], ["image"]
SIZES = [(33, 28), (9, 20, 17), (1, 20, 17)]
SAMPLE = torch.tensor([6, 2, 3, 0, 1])  # samples of the batch, among seven
FEW_DRAWS, MANY_DRAWS = 400, 4000


def batch_of(size: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(len(SAMPLE), 1, *size, generator=generator)
    return image, (torch.rand(image.shape, generator=generator) > 0.5).to(torch.uint8)


def applied(transform, size):
    """What the batch form makes of a batch, and the numbers that it used."""
    image, label = batch_of(size)
    before = image.clone(), label.clone()
    transforms = batch_transforms({"one": transform})
    assert not transforms.slow
    plan = transforms.draw(7, seed=1, epoch=0)
    result = transforms(image, label, plan, SAMPLE)
    assert torch.equal(image, before[0])
    assert torch.equal(label, before[1])
    own = {key: value[SAMPLE] for key, value in plan.numbers["one"].items()}
    return result, own


def by_monai(transform, size, prepare):
    """What MONAI makes of each sample when ``prepare(row)`` has set the transform's internal numbers."""
    image, label = batch_of(size)
    images, labels = [], []
    for row in range(len(SAMPLE)):
        prepare(row)
        done = transform({"image": image[row], "label": label[row].float()})
        images.append(torch.as_tensor(done["image"]))
        labels.append(torch.as_tensor(done["label"]))
    return torch.stack(images), torch.stack(labels).round().to(torch.uint8)


def assert_same(one, other):
    torch.testing.assert_close(one[0], other[0], atol=1e-4, rtol=0)
    assert (one[1] != other[1]).float().mean() < 0.002, "the nearest pixel, up to rounding at ties"


# --- geometry: the same numbers do the same ---


@pytest.mark.parametrize("padding", ["border", "zeros", "reflection"])
@pytest.mark.parametrize("size", SIZES)
def test_affine_is_that_of_monai(size, padding):
    dims = len(size)
    transform = RandAffined(
        keys=BOTH,
        prob=1.0,
        rotate_range=[0.3] * (1 if dims == 2 else 3),
        shear_range=[0.2] * (2 if dims == 2 else 6),
        translate_range=[(1, 4)] * dims,
        scale_range=[0.2, (-0.3, 0.1), 0.1][:dims],
        mode=["bilinear", "nearest"],
        padding_mode=padding,
    )
    result, numbers = applied(transform, size)
    grid = transform.rand_affine.rand_affine_grid
    grid.randomize = lambda *_: None

    def prepare(row):
        for name in ("rotate", "shear", "translate", "scale"):
            setattr(grid, f"{name}_params", numbers[name][row].tolist())

    assert_same(result, by_monai(transform, size, prepare))


@pytest.mark.parametrize("size", SIZES)
def test_grid_distortion_is_that_of_monai(size):
    transform = RandGridDistortiond(
        keys=BOTH, prob=1.0, num_cells=5, distort_limit=0.3, mode=["bilinear", "nearest"], padding_mode="border"
    )
    result, numbers = applied(transform, size)
    inner = transform.rand_grid_distortion
    inner.randomize, inner._do_transform = lambda *_: None, True

    def prepare(row):
        inner.distort_steps = tuple(tuple(steps) for steps in numbers["steps"][row, : len(size)].tolist())

    assert_same(result, by_monai(transform, size, prepare))


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1), -1])
def test_flip_is_that_of_monai(axis):
    transform = RandFlipd(keys=BOTH, prob=1.0, spatial_axis=axis)
    result, _ = applied(transform, (9, 7))
    expected = by_monai(transform, (9, 7), lambda row: None)
    assert torch.equal(result[0], expected[0])
    assert torch.equal(result[1], expected[1])


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("retain", [False, True])
def test_contrast_is_that_of_monai(retain, invert):
    transform = RandAdjustContrastd(keys=IMAGE, prob=1.0, gamma=(0.5, 2.0), retain_stats=retain, invert_image=invert)
    result, numbers = applied(transform, (9, 7))
    transform.adjuster.randomize = lambda *_: None

    def prepare(row):
        transform.adjuster.gamma_value = float(numbers["value"][row])

    assert_same(result, by_monai(transform, (9, 7), prepare))


@pytest.mark.parametrize(
    ("transform", "inner", "attribute"),
    [
        (RandScaleIntensityd(keys=IMAGE, prob=1.0, factors=(-0.5, 0.1)), "scaler", "factor"),
        (RandShiftIntensityd(keys=IMAGE, prob=1.0, offsets=0.3), "shifter", "_offset"),
    ],
)
def test_scale_and_shift_are_those_of_monai(transform, inner, attribute):
    result, numbers = applied(transform, (9, 7))
    getattr(transform, inner).randomize = lambda *_: None

    def prepare(row):
        setattr(getattr(transform, inner), attribute, float(numbers["value"][row]))

    assert_same(result, by_monai(transform, (9, 7), prepare))


@pytest.mark.parametrize("approx", ["erf", "sampled", "scalespace"])
@pytest.mark.parametrize("size", [(33, 28), (9, 12, 10)])
def test_smoothing_is_that_of_monai(size, approx):
    transform = RandGaussianSmoothd(keys=IMAGE, prob=1.0, approx=approx)
    result, numbers = applied(transform, size)
    transform.rand_smooth.randomize = lambda *_: None

    def prepare(row):
        inner = transform.rand_smooth
        inner.x, inner.y, inner.z = numbers["sigma"][row].tolist()

    assert_same(result, by_monai(transform, size, prepare))


# --- distribution: the numbers are drawn alike ---


def drawn(transform):
    return batch_transforms({"one": transform}).draw(MANY_DRAWS, seed=3, epoch=2).numbers["one"]


def drawn_by_monai(inner, read):
    inner.set_random_state(seed=11)
    values = []
    for _ in range(FEW_DRAWS):
        inner.randomize(torch.zeros(1, 2, 2))
        values.append(read())
    return np.array(values)


def assert_same_distribution(own, monai):
    assert stats.ks_2samp(np.ravel(own), np.ravel(monai)).pvalue > 0.001


@pytest.mark.parametrize("ranges", [0.3, [0.3, (0.1, 0.9)], [(0.5, 1.0), 0.2]])
def test_affine_numbers_are_drawn_as_monai_draws_them(ranges):
    transform = RandAffined(keys=BOTH, rotate_range=0.2, translate_range=ranges, scale_range=ranges, shear_range=ranges)
    own, grid = drawn(transform), transform.rand_affine.rand_affine_grid
    for name in ("rotate", "shear", "translate", "scale"):
        monai = drawn_by_monai(grid, lambda name=name: getattr(grid, f"{name}_params"))
        assert own[name].shape[1] == monai.shape[1]
        for column in range(monai.shape[1]):
            assert_same_distribution(own[name][:, column], monai[:, column])


@pytest.mark.parametrize(
    ("transform", "inner", "attribute", "number"),
    [
        (RandAdjustContrastd(keys=IMAGE, gamma=(0.6, 1.7)), "adjuster", "gamma_value", "value"),
        (RandAdjustContrastd(keys=IMAGE, gamma=3.0), "adjuster", "gamma_value", "value"),
        (RandScaleIntensityd(keys=IMAGE, factors=0.3), "scaler", "factor", "value"),
        (RandShiftIntensityd(keys=IMAGE, offsets=(0.1, 0.4)), "shifter", "_offset", "value"),
        (RandGridDistortiond(keys=BOTH, distort_limit=0.1), "rand_grid_distortion", "distort_steps", "steps"),
    ],
)
def test_numbers_are_drawn_as_monai_draws_them(transform, inner, attribute, number):
    transform_inner = getattr(transform, inner)
    assert_same_distribution(
        drawn(transform)[number], drawn_by_monai(transform_inner, lambda: getattr(transform_inner, attribute))
    )


def test_sigmas_are_drawn_as_monai_draws_them():
    transform = RandGaussianSmoothd(keys=IMAGE, sigma_x=(0.1, 0.5), sigma_y=(1.0, 2.0), sigma_z=(3.0, 3.5))
    inner = transform.rand_smooth
    monai = drawn_by_monai(inner, lambda: (inner.x, inner.y, inner.z))
    for axis in range(3):
        assert_same_distribution(drawn(transform)["sigma"][:, axis], monai[:, axis])


@pytest.mark.parametrize("sample_std", [True, False])
def test_noise_is_distributed_as_that_of_monai(sample_std):
    transform = RandGaussianNoised(keys=IMAGE, prob=1.0, mean=0.5, std=0.2, sample_std=sample_std)
    transforms = batch_transforms({"noise": transform})
    zeros = torch.zeros(FEW_DRAWS, 1, 16, 16)
    plan = transforms.draw(FEW_DRAWS, seed=1, epoch=0)
    own, _ = transforms(zeros, zeros.to(torch.uint8), plan, torch.arange(FEW_DRAWS))
    transform.set_random_state(seed=4)
    monai = torch.stack([transform({"image": zeros[0]})["image"] for _ in range(FEW_DRAWS)])
    for summary in (lambda noise: noise.std((1, 2, 3)), lambda noise: noise[:, 0, 3, 5]):
        assert_same_distribution(summary(own).numpy(), summary(monai).numpy())
    neighbors = np.corrcoef(own[:, 0, 3, 5], own[:, 0, 3, 6])[0, 1]
    assert abs(neighbors) < 0.2
    assert len({tuple(row) for row in own[:, 0, 0, :4].tolist()}) == FEW_DRAWS


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_share_of_touched_samples_is_binomial(prob):
    touched = int(drawn(RandFlipd(keys=BOTH, prob=prob))["do"].sum())
    assert stats.binomtest(touched, MANY_DRAWS, prob).pvalue > 0.001


def test_untouched_samples_stay_as_they_are():
    transforms = batch_transforms({"scale": RandScaleIntensityd(keys=IMAGE, prob=0.5, factors=(0.5, 0.6))})
    plan = transforms.draw(7, seed=1, epoch=0)
    image, label = batch_of((4, 4))
    result, _ = transforms(image, label, plan, SAMPLE)
    is_same = (result == image).flatten(1).all(1)
    assert torch.equal(is_same, ~plan.numbers["scale"]["do"][SAMPLE])
    assert 0 < is_same.sum() < len(SAMPLE)


# --- what a sample gets depends on (seed, epoch, sample) alone ---


def standard():
    return {
        "affine": RandAffined(
            keys=BOTH, prob=0.5, rotate_range=0.2, translate_range=[4, 4], mode=["bilinear", "nearest"]
        ),
        "contrast": RandAdjustContrastd(keys=IMAGE, prob=0.5, gamma=(0.8, 1.2)),
        "noise": RandGaussianNoised(keys=IMAGE, prob=0.5),
        "zoom": RandZoomd(keys=BOTH, prob=0.5, min_zoom=0.8, max_zoom=1.2, mode=["bilinear", "nearest"]),
    }


def test_a_sample_is_the_same_in_whatever_batch_it_stands():
    transforms, (image, label) = batch_transforms(standard()), batch_of((16, 16))
    plan = transforms.draw(7, seed=5, epoch=1)
    whole = transforms(image, label, plan, SAMPLE)
    for rows in ([3], [4, 1], [2, 0, 1]):
        part = transforms(image[rows], label[rows], plan, SAMPLE[rows])
        torch.testing.assert_close(part[0], whole[0][rows], atol=1e-6, rtol=0)
        assert torch.equal(part[1], whole[1][rows])


def test_seed_and_epoch_change_everything_and_a_missing_neighbor_nothing():
    transforms = batch_transforms(standard())
    plan = transforms.draw(50, seed=5, epoch=1)
    for other in (transforms.draw(50, seed=6, epoch=1), transforms.draw(50, seed=5, epoch=2)):
        for name in plan.numbers:
            same = [torch.equal(plan.numbers[name][key], other.numbers[name][key]) for key in plan.numbers[name]]
            assert not all(same)
    fewer = batch_transforms({name: one for name, one in standard().items() if name != "contrast"})
    for name, numbers in fewer.draw(50, seed=5, epoch=1).numbers.items():
        assert all(torch.equal(numbers[key], plan.numbers[name][key]) for key in numbers)


# --- what has no batch form ---


class Own(MapTransform):
    """A transform of the user's own, without randomness."""

    def __call__(self, data):
        return {**data, "image": data["image"] + 1}


@pytest.mark.parametrize(
    "transform",
    [
        RandAffined(keys=BOTH, prob=1.0, rotate_range=0.2, mode=[3, 0], padding_mode="nearest"),
        RandAffined(keys=BOTH, prob=1.0, rotate_range=0.2, spatial_size=(12, 12)),
        RandScaleIntensityd(keys=BOTH, prob=1.0, factors=0.3),
        RandScaleIntensityd(keys=IMAGE, prob=1.0, factors=0.3, channel_wise=True),
        RandGridDistortiond(keys=BOTH, prob=1.0, num_cells=(4, 5), mode=["bilinear", "nearest"]),
        RandFlipd(keys=IMAGE, prob=1.0, allow_missing_keys=True),
        RandZoomd(keys=BOTH, prob=1.0, min_zoom=0.8, max_zoom=1.2, mode=["bilinear", "nearest"]),
        Own(keys=IMAGE),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_what_has_no_batch_form_is_applied_by_monai_and_said(transform, caplog):
    with caplog.at_level(logging.WARNING):
        transforms = batch_transforms({"mine": transform})
    assert transforms.slow == ("mine",)
    said = caplog.text
    assert f"transforms.random.mine ({type(transform).__name__}) has no batch form" in said
    assert "loader.num_workers" in said
    image, label = batch_of((12, 12))
    plan = transforms.draw(7, seed=1, epoch=0)
    result = transforms(image, label, plan, SAMPLE)
    for row, seed in enumerate(plan.numbers["mine"]["seed"][SAMPLE].tolist()):
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=seed)
        expected = transform({"image": image[row], "label": label[row].float()})
        torch.testing.assert_close(result[0][row], torch.as_tensor(expected["image"]))
        assert torch.equal(result[1][row], torch.as_tensor(expected["label"]).round().to(torch.uint8))
