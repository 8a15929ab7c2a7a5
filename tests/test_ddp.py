"""Two devices share a fold: the same training as one device with twice the batch, and no orphan when one of them fails.

The devices are two processes on the CPU that speak gloo; Lightning starts the second one.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from itertools import chain
from pathlib import Path

import pytest
import torch
from cohort_builders import write_tiny_cohort
from doors import start_door

from mpi_unet.cohort.splits import Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.files import read_json
from mpi_unet.learning.augmentation import BatchTransforms
from mpi_unet.learning.datamodule import EpochSampler, FoldData, PreparedCase, Samples

pytestmark = pytest.mark.long  # minutes: every test trains or talks to servers

RECIPE = [
    *("data=cohort", "data.root=cohort", "data.reader=truth", "model.channels=[4,8]", "model.strides=[2]"),
    *("trainer.accelerator=cpu", "loss=cross_entropy"),
]
TWO = ["trainer=ddp", "trainer.devices=2"]
EPOCHS = 3
LOSS_TOLERANCE = 2e-5
"""Relative; sums of float32 in another order. Measured: 1e-7 after three epochs."""
WEIGHT_TOLERANCE = 1e-5
"""Absolute, with SGD: Adam scales up the gradient of a bias before a norm, which is rounding alone."""


def trained(folder: Path, *words: str) -> str:
    process = start_door("train", *RECIPE, *words, folder=folder, OMP_NUM_THREADS="1")
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    return said


def epochs(run: Path, fold: int = 0) -> list[dict[str, float]]:
    with (run / f"fold_{fold}" / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def weights(run: Path, fold: int = 0) -> dict[str, torch.Tensor]:
    path = run / f"fold_{fold}" / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True, map_location="cpu")["state_dict"]


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for line in subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    ):
        if line.split()[1:] == [str(pid)]:
            child = int(line.split()[0])
            found |= {child} | descendants(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


# --- the same training ---


@pytest.mark.slow
def test_two_devices_train_like_one_with_twice_the_batch_and_make_one_report(tmp_path):
    """Twelve frames a fold to learn from, so that no batch is smaller, and three to validate: two and one a device."""
    write_tiny_cohort(tmp_path / "cohort", 10, num_frames=3)
    words = [f"trainer.max_epochs={EPOCHS}", "split.num_folds=2", "optimizer=sgd"]
    trained(tmp_path, *words, "loader.batch_size=4", "name=one", "trainer.devices=1")
    said = trained(tmp_path, *words, *TWO, "loader.batch_size=2", "name=two")
    assert said.count("report.html") == 1
    assert said.splitlines()[-1] == "runs/two/report.html"
    assert said.count("epoch   3 of 3") == 2, "the helping process says nothing"
    one, two = tmp_path / "runs" / "one", tmp_path / "runs" / "two"
    split = Split.read(two / "splits.json", cohort=Cohort.open(tmp_path / "cohort"))
    for fold in (0, 1):
        facts = read_json(two / f"fold_{fold}" / "fold.json")
        assert facts["num_val_frames"] % 2 == 1
        assert facts["num_val_frames"] == 3 * len(split.folds[fold].val)
        for alone, shared in zip(epochs(one, fold), epochs(two, fold), strict=True):
            for key in ("train_loss", "val_loss"):
                assert shared[key] == pytest.approx(alone[key], rel=LOSS_TOLERANCE)
            assert shared["val_dice"] == pytest.approx(alone["val_dice"], abs=1e-3)
        for name, value in weights(one, fold).items():
            torch.testing.assert_close(weights(two, fold)[name], value, rtol=0, atol=WEIGHT_TOLERANCE)
    dice_one, dice_two = (read_json(run / "summary.json")["metrics"]["dice"]["mean"] for run in (one, two))
    assert dice_two == pytest.approx(dice_one, abs=1e-3)
    assert not [path for path in two.glob("fold_*") if path.name not in ("fold_0", "fold_1")]


@pytest.mark.slow
def test_batch_norm_does_not_wait_for_a_device_that_has_fewer_batches(tmp_path):
    """Buffers are sent from device to device; three validation frames in batches of one are two steps and one."""
    write_tiny_cohort(tmp_path / "cohort", 5, num_frames=3)
    words = ["model=attention_unet", *RECIPE[3:5], "split=holdout", "trainer.max_epochs=2", "loader.batch_size=2"]
    trained(tmp_path, *words, *TWO)
    facts = read_json(tmp_path / "runs/train/fold_0/fold.json")
    assert facts["num_val_frames"] % 2 == 1


# --- who takes which sample ---


@pytest.fixture
def on_device(monkeypatch):
    def choose(rank: int, world: int) -> None:
        monkeypatch.setattr("mpi_unet.learning.datamodule._rank_and_world", lambda: (rank, world))

    return choose


@pytest.mark.parametrize("num_samples", [1, 7, 8])
@pytest.mark.parametrize("world", [2, 3])
def test_devices_divide_the_samples_of_an_epoch(num_samples, world, on_device):
    train, val = [], []
    for rank in range(world):
        on_device(rank, world)
        train.append([index for _, index in EpochSampler(num_samples, 3, shuffle=True)])
        val.append([index for _, index in EpochSampler(num_samples, 3, shuffle=False)])
    assert sorted(chain(*val)) == list(range(num_samples)), "each validation sample counts once"
    assert len({len(part) for part in train}) == 1, "every device takes the same number of steps"
    assert set(chain(*train)) == set(range(num_samples))
    on_device(0, 1)
    whole = [index for _, index in EpochSampler(num_samples, 3, shuffle=True)]
    assert [index for step in zip(*train, strict=True) for index in step][:num_samples] == whole


def test_last_batch_of_one_is_judged_by_what_a_device_has(on_device):
    """33 samples are a batch of 32 and one left over; two devices have 17 each and must not drop them."""
    image = torch.zeros(1, 33, 8, 8)
    case = PreparedCase("a", "p", image, image.to(torch.uint8))
    samples = Samples([case], [(0, frame) for frame in range(33)], 2, BatchTransforms({}), seed=0)
    sizes = {}
    for world in (1, 2):
        on_device(0, world)
        data = FoldData(samples, samples, batch_size=32, num_workers=0, seed=0)
        sizes[world] = [len(batch["case"]) for batch in data.train_dataloader()]
    assert sizes == {1: [32], 2: [17]}


# --- failures ---


@pytest.mark.slow
def test_a_loss_that_explodes_on_one_device_ends_both(tmp_path):
    write_tiny_cohort(tmp_path / "cohort", 6)
    words = ["optimizer=sgd", "optimizer.lr=1e30", "trainer.max_epochs=5", "split=holdout"]
    process = start_door("train", *RECIPE, *TWO, *words, "loader.batch_size=2", folder=tmp_path)
    said, children = watched(process)
    assert process.returncode != 0, said
    assert "the loss is" in said
    assert children
    assert_all_end(children)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["main", "helper"])
def test_a_killed_device_ends_the_other(tmp_path, victim):
    write_tiny_cohort(tmp_path / "cohort", 6)
    words = ["trainer.max_epochs=5000", "split=holdout", "trainer.callbacks.early_stopping.patience=5000"]
    process = start_door("train", *RECIPE, *TWO, *words, "loader.batch_size=2", folder=tmp_path)
    metrics = tmp_path / "runs/train/fold_0/metrics.csv"
    deadline = time.monotonic() + 240
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 3):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    helpers = descendants(process.pid)
    assert helpers
    os.kill(process.pid if victim == "main" else max(helpers), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert_all_end(helpers)
    assert not (tmp_path / "runs/train/report.html").exists()


def watched(process: subprocess.Popen[str]) -> tuple[str, set[int]]:
    """What a process says until its end, and which processes it started."""
    children: set[int] = set()
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        children |= descendants(process.pid)
        time.sleep(0.1)
    said, _ = process.communicate(timeout=60)
    return said, children


def assert_all_end(processes: set[int]) -> None:
    deadline = time.monotonic() + 60
    while (alive := {pid for pid in processes if is_alive(pid)}) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive, "orphans"
