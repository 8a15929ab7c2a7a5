"""Losses, transforms, samples and the segmenter: what the network sees, and what is done with what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from monai.transforms import Lambdad, RandAffined, RandZoomd, ScaleIntensityRangePercentilesd, Zoomd
from torch import nn
from torch.utils.data import DataLoader

from mpi_unet.config import config_dir
from mpi_unet.errors import ConfigError, RunError, TrainingError
from mpi_unet.learning.augmentation import batch_transforms
from mpi_unet.learning.datamodule import EpochSampler, FoldData, PreparedCase, Samples
from mpi_unet.learning.prediction import batchwise_scores, load_weights, segment_case
from mpi_unet.learning.recipe import EpochRecord, check_trainer
from mpi_unet.learning.segmenter import Segmenter
from mpi_unet.learning.transforms import augmented, composed, prepared_case, quantiles
from mpi_unet.learning.weights import total_stride

LOSSES = ("dice", "cross_entropy", "dice_cross_entropy")
AFFINE = RandAffined(
    keys=["image", "label"], prob=1.0, rotate_range=0.5, translate_range=5, mode=["bilinear", "nearest"]
)
ZOOM = RandZoomd(keys=["image", "label"], prob=0.5, min_zoom=0.8, max_zoom=1.2, mode=["bilinear", "nearest"])


def loss_of(name: str) -> nn.Module:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return instantiate(compose("train", overrides=[f"loss={name}"]).loss)


def prepared(case_id: str = "P1", shape=(3, 16, 16), seed: int = 0) -> PreparedCase:
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.gamma(2, 2, (1, *shape)).astype(np.float32))
    return PreparedCase(case_id, case_id, image, (image > 6).to(torch.uint8))


def samples(cases=None, random=None, spatial_dims=2, seed=5) -> Samples:
    cases = cases or [prepared("P1", seed=1), prepared("P2", seed=2)]
    frames = range(3) if spatial_dims == 2 else (0,)
    members = [(index, frame) for index in range(len(cases)) for frame in frames]
    return Samples(cases, members, spatial_dims, random or batch_transforms({}), seed)


def segmenter(
    network: nn.Module | None = None, loss: nn.Module | None = None, divisor: int = 4, case_ids=()
) -> Segmenter:
    return Segmenter(
        network or nn.Conv2d(1, 2, 3, padding=1),
        loss or loss_of("cross_entropy"),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        num_val_cases=2,
        divisor=divisor,
        case_ids=case_ids,
    )


# --- softmax exactly once ---


@pytest.mark.parametrize("name", LOSSES)
def test_loss_applies_softmax_exactly_once(name):
    """Against the definition on probabilities: with none or two softmaxes the values differ."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 2, 8, 8, generator=generator) * 3
    label = (torch.rand(2, 1, 8, 8, generator=generator) > 0.7).long()
    lv = label[:, 0].double()
    probability = torch.softmax(logits.double(), dim=1)[:, 1]
    soft_dice = 1 - (2 * (probability * lv).sum() + 1e-5) / (probability.sum() + lv.sum() + 1e-5)
    entropy = -(lv * probability.log() + (1 - lv) * (1 - probability).log()).mean()
    expected = {"dice": soft_dice, "cross_entropy": entropy, "dice_cross_entropy": soft_dice + entropy}[name]
    assert float(loss_of(name)(logits, label)) == pytest.approx(float(expected), abs=1e-5)


def test_published_loss_cannot_fall_below_the_floor_of_two_softmaxes():
    logits = torch.tensor([[[[50.0]], [[-50.0]]]])
    assert float(loss_of("published_cross_entropy")(logits, torch.zeros(1, 1, 1, 1))) == pytest.approx(
        0.31326, abs=1e-5
    )


def test_probability_is_one_softmax_of_the_logits():
    network = nn.Conv2d(1, 2, 1)
    image = torch.randn(1, 1, 4, 4)
    logits = network(image)
    expected = torch.sigmoid(logits[:, 1] - logits[:, 0])
    torch.testing.assert_close(segmenter(network).probability(image), expected)


def test_perfect_logits_have_a_loss_near_zero_and_reversed_ones_do_not():
    label = torch.zeros(1, 1, 8, 8, dtype=torch.long)
    label[..., 2:5, 2:5] = 1
    perfect = torch.cat([1 - label, label], dim=1) * 40.0 - 20.0
    for name in LOSSES:
        assert float(loss_of(name)(perfect, label)) < 1e-4
        assert float(loss_of(name)(-perfect, label)) > 0.9


# --- transforms ---


def test_image_and_label_move_together():
    image = torch.zeros(1, 33, 33)
    image[:, 8:15, 18:27] = 1
    moved, label = augmented(AFFINE, image, image.to(torch.uint8), 3)
    overlap = 2 * ((moved > 0.5) & (label > 0)).sum() / ((moved > 0.5).sum() + label.sum())
    assert overlap > 0.9
    assert not torch.equal(label, image.to(torch.uint8))


def test_deterministic_transform_that_changes_the_grid_is_refused():
    zoom = composed({"zoom": Zoomd(keys=["image", "label"], zoom=2.0, keep_size=False, mode=["nearest", "nearest"])})
    with pytest.raises(ConfigError, match=r"turns case P1 of shape \(2, 4, 4\) into \(4, 8, 8\).*must keep it"):
        prepared_case(zoom, np.ones((2, 4, 4), np.float32), np.zeros((2, 4, 4), bool), "P1")


def test_transform_that_gives_nan_is_refused():
    broken = composed({"log": Lambdad(keys=["image"], func=torch.log)})
    with pytest.raises(ConfigError, match=r"not finite for case P1.*from -1 to -1.*data.exclude=\[P1\]"):
        prepared_case(broken, -np.ones((2, 4, 4), np.float32), np.zeros((2, 4, 4), bool), "P1")


@pytest.mark.parametrize("seed", range(8))
def test_percentiles_without_sorting_are_those_of_torch_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    for values in (rng.normal(size=(3, 7, 5)), rng.poisson(2, (1, 9, 11)), rng.gamma(2, 1e4, (2, 31, 17)), [[0.5]]):
        image = torch.tensor(np.asarray(values), dtype=torch.float32)
        shares = [0.0, 0.01, 0.97, 0.99, 1.0, float(rng.uniform())]
        assert torch.equal(quantiles(image, shares), torch.quantile(image, torch.tensor(shares)))


@pytest.mark.parametrize("upper", [97, 99])
@pytest.mark.parametrize("value", [None, np.nan])
@pytest.mark.parametrize("more", [{}, {"clip": True}, {"relative": True}, {"channel_wise": True}])
def test_normalization_gives_what_monai_gives_to_the_last_bit(upper, value, more):
    image = np.random.default_rng(upper).gamma(2, 40, (4, 12, 13)).astype(np.float32)
    if value is not None:
        image[1, 2, 3] = value
    given = {"keys": ["image"], "lower": 1, "upper": upper, "b_min": 0.0, "b_max": 1.0, **more}
    expected = ScaleIntensityRangePercentilesd(**given)({"image": torch.from_numpy(image)[None]})["image"]
    found = composed({"intensity": ScaleIntensityRangePercentilesd(**given)})({"image": torch.from_numpy(image)[None]})
    assert torch.as_tensor(found["image"]).numpy().tobytes() == torch.as_tensor(expected).numpy().tobytes()


@pytest.mark.parametrize("name", ["standard", "projections"])
def test_augmentation_shifts_and_scales_both_axes(name):
    """A scalar range would move the first axis only: MONAI's convention, easily overlooked."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[f"transforms={name}"]).transforms.random
    affine = batch_transforms({"affine": instantiate(config.affine, _convert_="all", prob=1.0, rotate_range=0.0)})
    disk = torch.zeros(20, 1, 41, 41)
    disk[..., 15:26, 15:26] = 1
    _, labels = affine(disk, disk.to(torch.uint8), affine.draw(20, 0, 0), torch.arange(20))
    centers = [label[0].nonzero().double().mean(0).tolist() for label in labels]
    assert (np.std(centers, axis=0) > 1.0).all()


def test_three_dimensional_augmentation_keeps_to_the_plane():
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=["transforms=volumes"]).transforms.random
    own = instantiate(config.affine, _convert_="all", prob=1.0, translate_range=[0, 4, 4])
    affine = batch_transforms({"affine": own})
    volume = torch.zeros(5, 1, 9, 33, 33)
    volume[:, :, 4, 12:21, 12:21] = 1
    moved, _ = affine(volume, volume.to(torch.uint8), affine.draw(5, 0, 0), torch.arange(5))
    assert moved[:, 0, [0, 1, 2, 6, 7, 8]].abs().max() < 1e-4
    assert moved[:, 0, 4].std(0).max() > 0.1


# --- samples ---


def test_a_sample_is_the_same_whatever_the_number_of_workers():
    """Of a transform without a batch form, which is what workers are for."""
    data = samples(random=batch_transforms({"affine": ZOOM}))
    assert data.random.slow == ("affine",)
    batches = {}
    for workers in (0, 2):
        loader = FoldData(data, data, batch_size=2, num_workers=workers, seed=3).train_dataloader()
        loader.sampler.set_epoch(4)
        batches[workers] = list(loader)
        assert isinstance(loader, DataLoader) == bool(workers)
    for alone, shared in zip(batches[0], batches[2], strict=True):
        for key in ("image", "label", "case", "frame", "sample"):
            assert torch.equal(alone[key], shared[key])


def test_a_sample_is_the_same_in_every_batch():
    data = samples(random=batch_transforms({"affine": AFFINE}))
    together = data.batch(3, torch.arange(6))
    for number in range(6):
        assert torch.equal(data.batch(3, torch.tensor([number]))["image"][0], together["image"][number])
    backwards = data.batch(3, torch.arange(6).flip(0))
    assert torch.equal(backwards["label"].flip(0), together["label"])
    assert together["case"].tolist() == [0, 0, 0, 1, 1, 1]
    assert together["frame"].tolist() == [0, 1, 2, 0, 1, 2]


def test_epochs_differ_in_order_and_in_augmentation():
    data = samples(random=batch_transforms({"affine": AFFINE}))
    one = torch.tensor([1])
    assert not torch.equal(data.batch(0, one)["image"], data.batch(1, one)["image"])
    sampler = EpochSampler(50, seed=1, shuffle=True)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([index for _, index in sampler])
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(50))


@pytest.mark.parametrize("shuffle", [True, False])
def test_devices_share_the_samples(shuffle, monkeypatch):
    seen = []
    for rank in range(3):
        monkeypatch.setattr("mpi_unet.learning.datamodule._rank_and_world", lambda rank=rank: (rank, 3))
        sampler = EpochSampler(10, seed=1, shuffle=shuffle)
        own = [index for _, index in sampler]
        assert len(own) == len(sampler)
        seen += own
    assert set(seen) == set(range(10))
    assert len(seen) == (12 if shuffle else 10), "training pads to equal steps, validation counts each sample once"


def test_smaller_images_are_padded_with_their_own_smallest_value():
    data = samples([prepared("P1", (3, 16, 16)), prepared("P2", (3, 12, 10))])
    small = data.batch(0, torch.tensor([3]))
    own = prepared("P2", (3, 12, 10))
    assert small["image"].shape == (1, 1, 16, 16)
    assert torch.equal(small["image"][0, :, 2:14, 3:13], own.image[:, 0]), "in the middle"
    assert (small["image"][0, :, [0, 1, 14, 15]] == own.image[:, 0].min()).all()
    assert not small["label"][..., 13:].any()
    assert torch.equal(data.cases[1].image, own.image)
    assert torch.equal(data.cases[1].label, own.label)


def test_three_dimensional_sample_is_the_whole_case():
    assert samples(spatial_dims=3).batch(0, torch.tensor([1]))["image"].shape == (1, 1, 3, 16, 16)


def test_last_batch_of_one_is_dropped_and_a_batch_of_everything_is_not():
    data = samples()
    assert [
        len(batch["case"]) for batch in FoldData(data, data, batch_size=5, num_workers=0, seed=0).train_dataloader()
    ] == [5]
    assert [
        len(batch["case"]) for batch in FoldData(data, data, batch_size=8, num_workers=0, seed=0).train_dataloader()
    ] == [6]


# --- the segmenter ---


@pytest.mark.parametrize("size", [(16, 16), (13, 18), (5, 7)])
def test_output_has_the_size_of_the_input(size):
    strided = nn.Sequential(nn.Conv2d(1, 4, 4, stride=4), nn.ConvTranspose2d(4, 2, 4, stride=4))
    assert segmenter(strided)(torch.rand(2, 1, *size)).shape == (2, 2, *size)


class PerPlace(nn.Module):
    """Logits that each place of a grid of 8 x 8 has of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(1, 2, 8, 8))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(image), -1, -1, -1)


def test_padding_is_learned_from_too():
    """Else the network may mark anything there, and an image that needs less padding gets the marks inside."""
    network = PerPlace()
    label = torch.zeros(1, 1, 5, 6, dtype=torch.uint8)
    label[..., -1, 2] = 1
    batch = {"image": torch.rand(1, 1, 5, 6), "label": label, "case": torch.tensor([0])}
    segmenter(network, divisor=8).training_step(batch, 0).backward()
    is_lv_wanted = network.logits.grad[0, 1] < 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:, 2] = True
    assert torch.equal(is_lv_wanted, expected)
    assert (network.logits.grad != 0).all()


def test_padding_leaves_the_image_where_it_was():
    keep = nn.Conv2d(1, 2, 1)
    image = torch.rand(1, 1, 5, 7)
    torch.testing.assert_close(segmenter(keep, divisor=8)(image), keep(image))


def test_loss_that_is_not_finite_names_the_cases_of_the_batch():
    network = nn.Conv2d(1, 2, 1)
    nn.init.constant_(network.weight, float("nan"))
    data = samples()
    batch = next(iter(FoldData(data, data, batch_size=6, num_workers=0, seed=0).train_dataloader()))
    with pytest.raises(TrainingError, match=r"the loss is nan.*cases P1, P2;.*data.exclude"):
        segmenter(network, case_ids=["P1", "P2"]).training_step(batch, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"precision": "16-mixed"}, r"trainer.precision=16-mixed on a CPU.*trainer.precision=32-true"),
        ({"precision": "bf16-mixed", "accelerator": "auto"}, r"trainer.precision=bf16-mixed on a CPU"),
        (
            {"precision": "16-mixed", "accelerator": "gpu", "gradient_clip_val": 1.0},
            r"gradient_clip_val=1.0 and optimizer.fused=true exclude each other.*optimizer.fused=false",
        ),
    ],
)
def test_what_trainer_and_optimizer_cannot_do_together_is_refused(words, message):
    trainer = {"precision": "32-true", "accelerator": "cpu", "gradient_clip_val": None}
    check_trainer(trainer, {"fused": True}, has_gpu=False)
    with pytest.raises(ConfigError, match=message):
        check_trainer(trainer | words, {"fused": True}, has_gpu=False)


def test_batch_of_frames_gives_what_each_frame_alone_gives():
    model = segmenter().eval()
    case = prepared(shape=(5, 16, 16))
    whole = segment_case(model, case.image, range(5), 2, batch_size=5)
    single = np.concatenate([segment_case(model, case.image, [frame], 2, batch_size=1) for frame in range(5)])
    np.testing.assert_allclose(whole, single, atol=1e-6)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(segment_case(model, case.image, [3, 1], 2, batch_size=1), whole[[3, 1]], atol=1e-6)


def test_checkpoint_of_another_network_is_refused(tmp_path):
    torch.save({"state_dict": {"network.weight": torch.zeros(3)}}, tmp_path / "best.ckpt")
    with pytest.raises(RunError, match="holds the weights of another network"):
        load_weights(segmenter(), tmp_path / "best.ckpt", torch.device("cpu"))
    with pytest.raises(RunError, match="is missing; remove the fold's folder"):
        load_weights(segmenter(), tmp_path / "none.ckpt", torch.device("cpu"))


def test_checkpoint_that_carries_code_is_not_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("opened",))

    torch.save({"state_dict": Evil()}, tmp_path / "best.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_weights(segmenter(), tmp_path / "best.ckpt", torch.device("cpu"))


def test_batchwise_scores_depend_on_the_batch_size_as_the_published_ones_do():
    data = samples()
    model = segmenter().eval()

    def at(batch_size):
        return batchwise_scores(
            model, FoldData(data, data, batch_size=batch_size, num_workers=0, seed=0).val_dataloader()
        )

    assert at(1)["macro_dice"] != at(6)["macro_dice"]
    assert at(1)["accuracy"] == pytest.approx(at(6)["accuracy"]), "batches of equal size: accuracy is a plain mean"


@pytest.mark.parametrize("name", ["unet", "unet_small", "attention_unet", "segresnet", "unet_3d"])
def test_every_network_takes_an_odd_size_and_gives_two_logits(name):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[f"model={name}"]).model
    size = (17, 30, 21)[3 - config.spatial_dims :]
    model = segmenter(instantiate(config), divisor=total_stride(config))
    with torch.no_grad():
        assert model(torch.rand(2, 1, *size)).shape == (2, 2, *size)


# --- the record of epochs ---


def test_record_goes_on_where_it_stopped_and_overwrites_an_epoch_that_is_run_again(tmp_path):
    path = tmp_path / "metrics.csv"
    record = EpochRecord(path)
    record.log_metrics({"lr-AdamW": 0.1})
    record.log_metrics({"epoch": 0, "train/loss": 1.0})
    record.log_metrics({"epoch": 1, "train/loss": 0.5, "val/dice": 0.7})
    record.save()
    again = EpochRecord(path)
    again.log_metrics({"epoch": 1, "train/loss": 0.4})
    again.log_metrics({"epoch": 2, "train/loss": 0.3})
    again.save()
    assert path.read_text() == (
        "epoch,train_loss,val_loss,val_dice,learning_rate,seconds\n0,1.0,,,0.1,\n1,0.4,,0.7,,\n2,0.3,,,,\n"
    )
