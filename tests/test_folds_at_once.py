"""Folds at the same time - stacked, or in processes - against the same folds one after another, through the door."""

from __future__ import annotations

import csv
import os
import re
import signal
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from cohort_builders import write_tiny_cohort
from doors import CHECKOUT, open_door, start_door
from made import is_left_over
from omegaconf import OmegaConf

from mpi_unet.errors import BusyError, ConfigError, RunError, TrainingError
from mpi_unet.files import read_json
from mpi_unet.folds_at_once import _failure, _places, check_parallel, raise_failures
from mpi_unet.learning.together import common_start
from mpi_unet.run import Run

pytestmark = pytest.mark.long  # minutes: every test trains or talks to servers

NETWORK = ["trainer=cpu", "model.channels=[4,8]", "model.strides=[2]", "loader.batch_size=5", "trainer.max_epochs=4"]
WORDS = [*NETWORK, "data=cohort", "data.root=cohort", "data.reader=truth", "split.num_folds=3"]
STACKED, PROCESSES = "split.parallel=stacked", "split.parallel=processes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cohort of seven patients: three folds of different size, and a last batch that not all of them have."""
    folder = tmp_path_factory.mktemp("folds")
    write_tiny_cohort(folder / "cohort", 7)
    return folder


def train(folder, monkeypatch, *words):
    return open_door("train", *WORDS, *words, folder=folder, monkeypatch=monkeypatch)


def metrics(run: Path) -> list[np.ndarray]:
    """Loss, validation loss, validation Dice and learning rate of each epoch, an array a fold."""
    tables = []
    for path in sorted(run.glob("fold_*/metrics.csv")):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = ("train_loss", "val_loss", "val_dice", "learning_rate")
        tables.append(np.array([[float(row[column]) for column in columns] for row in rows]))
    return tables


def masks(run: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(nib.load(path).dataobj) for path in run.glob("predictions/*.nii.gz")}


def files(run: Path) -> set[str]:
    """Names of all files but those that depend on how a run was made, and the halves of a process that was killed."""
    return {
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file() and path.name not in ("previous.ckpt", "log.txt") and not is_left_over(path.name)
    }


def assert_same(run: Path, expected: Path, rtol: float = 0.0) -> None:
    """Same epochs with the same numbers, same masks, same files, same summary."""
    for own, other in zip(metrics(run), metrics(expected), strict=True):
        np.testing.assert_allclose(own, other, rtol=rtol)
    own, other = masks(run), masks(expected)
    assert own.keys() == other.keys()
    assert all(np.array_equal(own[name], other[name]) for name in own)
    assert files(run) == files(expected)
    for fold in range(3):
        facts = [read_json(one / f"fold_{fold}/fold.json") for one in (run, expected)]
        assert facts[0].keys() == facts[1].keys()
        assert facts[0]["best_epoch"] == facts[1]["best_epoch"]
        for way in (run, expected):
            stored = torch.load(way / f"fold_{fold}/checkpoints/best.ckpt", weights_only=True)
            assert stored["epoch"] == facts[0]["best_epoch"]
            values = stored["state_dict"].values()
            assert all(value.untyped_storage().nbytes() == value.nbytes for value in values), "weights of one fold"
    summaries = [read_json(one / "summary.json")["metrics"]["dice"]["mean"] for one in (run, expected)]
    assert summaries[0] == pytest.approx(summaries[1], rel=1e-6)


# --- the same as one after another ---


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("optimizer=sgd", "optimizer.lr=0.05", "scheduler=polynomial", "trainer.gradient_clip_val=0.1"),
        ("+trainer.accumulate_grad_batches=2", "+model.norm=BATCH", "optimizer=sgd", "optimizer.lr=0.01"),
    ],
    ids=["AdamW", "SGD, clipped", "batch norm, accumulated"],
)
def test_stacked_folds_are_those_trained_one_after_another(folder, monkeypatch, request, words):
    name = "".join(letter for letter in request.node.callspec.id if letter.isalnum())
    assert train(folder, monkeypatch, *words, f"name={name}_alone") == 0
    assert train(folder, monkeypatch, *words, f"name={name}_stacked", STACKED) == 0
    assert_same(folder / "runs" / f"{name}_stacked", folder / "runs" / f"{name}_alone", rtol=1e-5)


def test_folds_that_stop_early_leave_the_stack_at_their_own_epoch(folder, monkeypatch):
    stop = "trainer.callbacks.early_stopping"
    words = ["trainer.max_epochs=12", f"{stop}.patience=1", f"{stop}.min_delta=0.02", "optimizer.lr=0.01"]
    words += ["+trainer.callbacks.count._target_=stacked_callbacks.CountsSteps"]
    assert train(folder, monkeypatch, *words, "name=early_alone") == 0
    assert train(folder, monkeypatch, *words, "name=early", STACKED) == 0
    epochs = [len(table) for table in metrics(folder / "runs/early")]
    assert len(set(epochs)) > 1, epochs
    assert max(epochs) < 12, epochs
    assert_same(folder / "runs/early", folder / "runs/early_alone", rtol=1e-4)


def test_volumes_are_stacked(folder, monkeypatch):
    words = ["model=unet_3d", *NETWORK[1:], "transforms=volumes", "loader.batch_size=2", "trainer.max_epochs=2"]
    assert train(folder, monkeypatch, *words, "name=volumes_alone") == 0
    assert train(folder, monkeypatch, *words, "name=volumes", STACKED) == 0
    assert_same(folder / "runs/volumes", folder / "runs/volumes_alone", rtol=1e-5)


@pytest.mark.slow
def test_folds_in_processes_are_those_trained_one_after_another(folder, monkeypatch, capfd):
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    assert train(folder, monkeypatch, "name=one_by_one") == 0
    capfd.readouterr()
    assert train(folder, monkeypatch, "name=processes", PROCESSES, "split.processes=2") == 0
    said = capfd.readouterr().out
    assert_same(folder / "runs/processes", folder / "runs/one_by_one", rtol=1e-6)
    assert {line[:11] for line in said.splitlines() if "epoch   4 of 4" in line} == {
        f"fold {fold} of 3" for fold in (1, 2, 3)
    }
    assert said.splitlines()[-1] == "runs/processes/report.html"
    assert said.count("report.html") == 1, "the folds leave the result to the process that started them"
    assert "Folds still to be run" not in said


# --- going on ---


def wait_for(process, is_there) -> None:
    deadline = time.monotonic() + 200
    while not is_there():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows(run: Path, fold: int) -> int:
    path = run / f"fold_{fold}/metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.is_file() else 0


@pytest.mark.slow
def test_killed_stack_goes_on_and_ends_with_the_very_same_numbers(folder, monkeypatch):
    words = ["trainer.max_epochs=10", "optimizer.lr=0.01", STACKED]
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    for epoch in (2, 4, 6):  # killed three times
        process = start_door("train", *WORDS, *words, "name=killed", folder=folder)
        wait_for(process, lambda epoch=epoch: any(rows(folder / "runs/killed", fold) >= epoch for fold in range(3)))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert train(folder, monkeypatch, *words, "name=killed") == 0
    assert train(folder, monkeypatch, *words, "name=undisturbed") == 0
    assert_same(folder / "runs/killed", folder / "runs/undisturbed")


def test_stack_of_folds_one_epoch_apart_starts_where_the_slowest_is(folder, monkeypatch):
    """As if killed while the checkpoints of the third epoch were being written."""
    words = ["trainer.max_epochs=3", "optimizer.lr=0.01", STACKED]
    assert train(folder, monkeypatch, *words, "name=apart") == 0
    run = folder / "runs/apart"
    before = metrics(run)
    for fold in range(3):
        (run / f"fold_{fold}/fold.json").unlink()
    last = run / "fold_2/checkpoints/last.ckpt"
    last.with_name("previous.ckpt").replace(last)
    start = common_start({fold: run / f"fold_{fold}" for fold in range(3)})
    assert [start[fold].name for fold in range(3)] == ["previous.ckpt", "previous.ckpt", "last.ckpt"]
    assert train(folder, monkeypatch, *words, "name=apart") == 0
    for own, other in zip(metrics(run), before, strict=True):
        np.testing.assert_array_equal(own, other)


def test_start_of_folds_that_are_far_apart_or_have_not_begun(tmp_path):
    def fold(name, **epochs):
        folder = tmp_path / name / "checkpoints"
        folder.mkdir(parents=True)
        for file, epoch in epochs.items():
            torch.save({"epoch": epoch}, folder / f"{file}.ckpt")
        return folder.parent

    far, slow, fresh, first = fold("far", last=9), fold("slow", last=4), fold("fresh"), fold("first", last=0)
    ahead = fold("ahead", last=5, previous=4)
    lost = fold("lost", last=5)
    last, previous = Path("checkpoints/last.ckpt"), Path("checkpoints/previous.ckpt")
    assert common_start({}) == {}
    assert common_start({0: far, 1: slow}) == {0: far / last, 1: slow / last}
    assert common_start({0: ahead, 1: slow}) == {0: ahead / previous, 1: slow / last}
    assert common_start({0: lost, 1: slow}) == {0: lost / last, 1: slow / last}, "nothing to go back to"
    assert common_start({0: fresh, 1: first}) == {0: None, 1: None}


def test_run_that_was_begun_stacked_goes_on_one_after_another(folder, monkeypatch):
    words = ["trainer.max_epochs=3", "+trainer.callbacks.fails._target_=stacked_callbacks.FailsInFoldOne"]
    assert train(folder, monkeypatch, *words, STACKED, "name=mixed") == 2
    run = folder / "runs/mixed"
    assert [(run / f"fold_{fold}/fold.json").is_file() for fold in range(3)] == [True, False, True]
    monkeypatch.setattr("stacked_callbacks.FailsInFoldOne.on_train_epoch_end", lambda *_: None)
    assert train(folder, monkeypatch, *words, "name=mixed") == 0
    assert train(folder, monkeypatch, "trainer.max_epochs=3", "name=unmixed") == 0
    assert_same(run, folder / "runs/unmixed", rtol=1e-5)


# --- one fold that fails ---


def test_fold_that_fails_in_a_stack_does_not_stop_the_others(folder, monkeypatch, capfd):
    words = ["+trainer.callbacks.fails._target_=stacked_callbacks.FailsInFoldOne", "name=fails", STACKED]
    assert train(folder, monkeypatch, *words) == 2
    answer = capfd.readouterr()
    assert "fold 1 has had enough; give it a rest" in answer.err
    assert "Traceback" not in answer.err
    assert sorted(path.parent.name for path in folder.glob("runs/fails/fold_*/fold.json")) == ["fold_0", "fold_2"]


@pytest.mark.slow
def test_fold_that_fails_in_a_process_does_not_stop_the_others(folder):
    words = ["+trainer.callbacks.fails._target_=stacked_callbacks.FailsInFoldOne", "name=fails_alone", PROCESSES]
    path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")])
    process = start_door("train", *WORDS, *words, folder=folder, PYTHONPATH=path, OMP_NUM_THREADS="1")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 2, said
    assert "TrainingError: fold 1 has had enough; give it a rest" in said
    assert "Traceback" not in said
    assert sorted(path.parent.name for path in folder.glob("runs/fails_alone/fold_*/fold.json")) == ["fold_0", "fold_2"]


def test_fold_that_another_process_is_at_is_left_to_it(folder, monkeypatch, capfd):
    words = ["name=busy", "trainer.max_epochs=1"]
    assert train(folder, monkeypatch, *words, "split.fold=0") == 0
    capfd.readouterr()
    with Run(folder / "runs/busy").fold_lock(1):
        assert train(folder, monkeypatch, *words, STACKED) == 0
    said = capfd.readouterr().out
    assert re.search(r"fold 2 of 3  left to the other process: .*fold_1 is being worked on", said)
    assert "Folds still to be run in runs/busy: 1" in said
    with Run(folder / "runs/busy").fold_lock(1):
        assert train(folder, monkeypatch, *words, STACKED) == 2
    assert "fold_1 is being worked on by another process" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("way", [STACKED, PROCESSES])
def test_interrupted_folds_end_and_go_on(folder, monkeypatch, sent, way):
    name = f"{way.split('=')[1]}_{sent.name}"
    words = [*WORDS, "trainer.max_epochs=8", way]
    environment = {"OMP_NUM_THREADS": "1"}
    process = start_door("train", *words, f"name={name}", folder=folder, **environment)
    run = folder / "runs" / name
    wait_for(process, lambda: rows(run, 0) >= 2)
    os.kill(process.pid, sent)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == (-9 if sent == signal.SIGKILL else 130), said
    if sent == signal.SIGINT:
        assert "give the same command again and it goes on from there" in said
        assert "Traceback" not in said
    deadline = time.monotonic() + 60
    while children := processes_of(run):
        assert time.monotonic() < deadline, children
        time.sleep(0.1)
    assert not (run / "report.html").exists()
    for one in (name, f"whole_{name}"):
        again = start_door("train", *words, f"name={one}", folder=folder, **environment)
        said, _ = again.communicate(timeout=300)
        assert again.returncode == 0, said
    assert_same(run, folder / "runs" / f"whole_{name}")


def processes_of(run: Path) -> list[str]:
    """Processes that hold the lock of a fold of this run."""
    inodes = {str(path.stat().st_ino) for path in run.glob("fold_*/.lock")}
    return [line for line in Path("/proc/locks").read_text().splitlines() if inodes & set(re.split(r"[ :]", line))]


# --- what is refused ---


def refused(folder, monkeypatch, capfd, *words):
    assert train(folder, monkeypatch, *words, "name=refused", "overwrite=true") == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    return said


def test_way_that_there_is_not(folder, monkeypatch, capfd):
    said = refused(folder, monkeypatch, capfd, "split.parallel=stack")
    assert "split.parallel is 'stack', expected null, stacked or processes" in said


def test_network_with_dropout_and_callback_that_exchanges_weights(folder, monkeypatch, capfd):
    said = refused(folder, monkeypatch, capfd, STACKED, "+model.dropout=0.1")
    assert "draws random numbers while it learns" in said
    assert "split.parallel=processes" in said
    words = ["+trainer.callbacks.swa._target_=pytorch_lightning.callbacks.StochasticWeightAveraging"]
    said = refused(folder, monkeypatch, capfd, STACKED, *words, "+trainer.callbacks.swa.swa_lrs=0.01")
    assert "trainer.callbacks.swa (StochasticWeightAveraging) exchanges the weights" in said
    assert "~trainer.callbacks" in said


def parallel(way, devices=1, **trainer):
    trainer = {"devices": devices, "accelerator": "cpu"} | trainer
    return OmegaConf.create({"split": {"parallel": way, "processes": None}, "trainer": trainer})


def test_several_devices_or_a_compiled_network():
    check_parallel(parallel(None, devices=4, compile=True))
    check_parallel(parallel("processes", compile=True))
    for way in ("stacked", "processes"):
        with pytest.raises(ConfigError, match=r"trainer.devices=4; use trainer.devices=1, or split.parallel=null"):
            check_parallel(parallel(way, devices=4))
    with pytest.raises(ConfigError, match=r"trainer.compile=true do not go together"):
        check_parallel(parallel("stacked", compile=True))


# --- places and messages ---


def test_one_fold_on_each_gpu_and_the_cores_divided(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    gpus = [place["CUDA_VISIBLE_DEVICES"] for place in _places(parallel("processes", accelerator="auto"), 5)]
    assert gpus == ["0", "1", "2"]
    assert len(_places(parallel("processes", accelerator="gpu"), 2)) == 2, "no more places than folds"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,GPU-abc")
    config = parallel("processes", accelerator="auto")
    config.split.processes = 4
    places = _places(config, 5)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in places] == ["5", "7", "GPU-abc", "5"]
    assert {place["OMP_NUM_THREADS"] for place in places} == {"3"}
    on_cpu = _places(parallel("processes"), 5)
    assert len(on_cpu) == 5
    assert all("CUDA_VISIBLE_DEVICES" not in place and place["OMP_NUM_THREADS"] == "2" for place in on_cpu)


def test_what_stopped_a_process_is_what_it_said():
    assert _failure(1, 0, "a warning") is None
    assert isinstance(_failure(1, 2, "BusyError: fold_1 is being worked on"), BusyError)
    stopped = _failure(1, 2, "SplitError: too few\n")
    assert isinstance(stopped, TrainingError)
    assert str(stopped) == "too few"
    killed = _failure(3, -9, "")
    assert isinstance(killed, TrainingError)
    assert re.search(r"fold 3 was ended by SIGKILL \(out of memory\?\); give the same command again", str(killed))
    assert isinstance(_failure(1, 1, "Traceback ..."), RuntimeError)


def test_failures_are_told_at_once_and_faults_first():
    raise_failures({})
    with pytest.raises(RunError, match=r"^full$"):
        raise_failures({2: RunError("full")})
    with pytest.raises(TrainingError, match=r"^same$"):
        raise_failures({0: TrainingError("same"), 1: TrainingError("same")})
    with pytest.raises(TrainingError, match=r"(?s)3 folds stopped:.*fold 0, 2: full.*fold 1: nan"):
        raise_failures({0: RunError("full"), 1: TrainingError("nan"), 2: RunError("full")})
    with pytest.raises(KeyError):
        raise_failures({0: RunError("full"), 1: KeyError("ours")})
