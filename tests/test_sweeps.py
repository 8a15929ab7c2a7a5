"""Several runs by one command: their folders, what is shared, and a search by Optuna that goes on."""

from __future__ import annotations

import csv
import os
import signal
import sqlite3
import sys
import time
from types import SimpleNamespace

import pytest
from cohort_builders import write_tiny_cohort
from doors import TINY, open_door, start_door
from hydra.types import RunMode
from omegaconf import OmegaConf

from mpi_unet.errors import ConfigError
from mpi_unet.files import read_json
from mpi_unet.sweeps import is_sweep, job_name, words_that_name_jobs

pytestmark = pytest.mark.long  # minutes: every test trains or talks to servers

COHORT = ["data=cohort", "data.root=cohort", "data.reader=truth"]
FAST = [*TINY, *COHORT, "split=holdout"]
SEARCH = ["-m", "hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "name=search"]


@pytest.fixture
def folder(tmp_path):
    write_tiny_cohort(tmp_path / "cohort", 6)
    return tmp_path


def sweep(folder, monkeypatch, *words):
    return open_door("train", *words, folder=folder, monkeypatch=monkeypatch)


def runs_in(folder):
    """Runs below runs/, by their path."""
    return sorted(
        path.parent.parent.relative_to(folder / "runs").as_posix()
        for path in (folder / "runs").rglob("config.yaml")
        if path.parent.name == ".hydra"
    )


def trials(folder):
    with (folder / "runs/search/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- names ---


def test_each_recipe_of_a_sweep_has_a_folder_of_its_own(folder, monkeypatch):
    assert sweep(folder, monkeypatch, "-m", "loss=dice,cross_entropy", "seed=3", *FAST) == 0
    assert runs_in(folder) == ["train/loss=cross_entropy", "train/loss=dice"]
    best = [folder / f"runs/train/loss={loss}/fold_0/checkpoints/best.ckpt" for loss in ("dice", "cross_entropy")]
    before = [path.stat().st_mtime_ns for path in best]
    assert sweep(folder, monkeypatch, "-m", "loss=dice,cross_entropy", "seed=3", *FAST) == 0
    assert [path.stat().st_mtime_ns for path in best] == before, "the same sweep again finds its runs done"


def test_folds_of_a_sweep_share_one_run(folder, monkeypatch):
    words = [word for word in FAST if not word.startswith("split")]
    assert sweep(folder, monkeypatch, "-m", "split.fold=0,1", "split.num_folds=2", *words) == 0
    assert runs_in(folder) == ["train"]
    assert (folder / "runs/train/report.html").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["loss=dice,cross_entropy"], []),
        (["loss=dice,cross_entropy", "data.root=/data", "+extra=1"], ["data.root", "extra"]),
        (["split.fold=range(0,5)", "loader.num_workers=0,1"], ["split.fold", "loader.num_workers"]),
        (["experiment=kfold_dice,holdout_dice", "seed=1,2"], ["experiment"]),
        (["name=a,b", "loss=dice,cross_entropy"], ["name", "loss"]),
        (["name=${seed}", "seed=1,2"], ["name", "seed"]),
        (["name=mine", "seed=1,2"], ["name"]),
        (["optimizer.lr=interval(0,1)"], []),
    ],
)
def test_what_tells_jobs_apart(words, expected):
    said = words_that_name_jobs(["-m", *words])
    assert said == [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(expected)}]"]


def test_word_that_hydra_cannot_read_is_left_to_hydra(folder, monkeypatch, capfd):
    assert words_that_name_jobs(["-m", "a=[", "--config-dir", "there"]) == words_that_name_jobs(["-m"])
    assert sweep(folder, monkeypatch, "-m", "seed=[1,", *FAST) == 2
    assert "seed=[1, cannot be read" in capfd.readouterr().err


def test_flag_may_stand_anywhere(folder, monkeypatch, capfd):
    assert sweep(folder, monkeypatch, *FAST, "seed=1,2", "data.exclude=3", "-m") == 2
    assert "data.exclude is 3" in capfd.readouterr().err


def test_only_a_sweep_is_one():
    assert is_sweep(["-m"])
    assert is_sweep(["hydra.mode=MULTIRUN"])
    assert not is_sweep(["loss=dice", "hydra/launcher=slurm"])


def test_names_that_are_too_long_stay_apart():
    one, two = job_name("x" * 300 + "1"), job_name("x" * 300 + "2")
    assert len(one) == len(two) == 150
    assert one != two


@pytest.mark.parametrize(
    "trainer", [{"devices": 2}, {"devices": [0, 1]}, {"devices": -1}, {"devices": 1, "num_nodes": 2}]
)
@pytest.mark.parametrize(
    "launcher", ["basic_launcher.BasicLauncher", "joblib_launcher.JoblibLauncher", "x.LocalLauncher"]
)
def test_distributed_sweep_is_for_slurm(monkeypatch, trainer, launcher):
    """Launchers of one machine are refused as well: the helping processes would run the whole sweep again."""
    from mpi_unet.scenarios import _refuse_sweep_of_distributed

    config = OmegaConf.create({"trainer": trainer})
    hydra = SimpleNamespace(mode=RunMode.MULTIRUN, launcher={"_target_": f"hydra_plugins.somewhere.{launcher}"})
    monkeypatch.setattr("hydra.core.hydra_config.HydraConfig.get", lambda: hydra)
    with pytest.raises(ConfigError, match="hydra/launcher=slurm, which starts the processes"):
        _refuse_sweep_of_distributed(config)
    hydra.launcher = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
    _refuse_sweep_of_distributed(config)


# --- Optuna ---


def test_search_makes_a_run_a_trial_and_judges_by_validation_patients(folder, monkeypatch, capfd):
    pytest.importorskip("optuna")
    words = [*SEARCH, "hydra.sweeper.n_trials=3", "loss=dice,cross_entropy", *FAST]
    assert sweep(folder, monkeypatch, *words) == 0
    said = capfd.readouterr().out
    assert runs_in(folder) == [f"search/trial_00{number}" for number in range(3)]
    rows = trials(folder)
    for row in rows:
        fold = read_json(folder / "runs/search" / row["trial"] / "fold_0/fold.json")
        assert float(row["val_dice"]) == pytest.approx(fold["best_val_dice"])
        assert 1e-4 <= float(row["optimizer.lr"]) <= 1e-2
    best = max(rows, key=lambda row: float(row["val_dice"]))
    assert said.splitlines()[-1] == f"runs/search/{best['trial']}/report.html"
    assert "too good" in said
    assert sweep(folder, monkeypatch, *words) == 0, "nothing is left to do"
    assert trials(folder) == rows


def test_search_that_was_killed_goes_on_with_the_trial_that_it_was_at(folder, monkeypatch):
    pytest.importorskip("optuna")
    fast = [word for word in FAST if not word.startswith("debug")]
    words = [*SEARCH, "hydra.sweeper.n_trials=3", *fast, "trainer.max_epochs=25"]
    process = start_door("train", *words, folder=folder, OMP_NUM_THREADS="1")
    metrics = folder / "runs/search/trial_001/fold_0/metrics.csv"
    deadline = time.monotonic() + 240
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 2):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with sqlite3.connect(folder / "runs/search/trials.db") as database:
        states = [state for (state,) in database.execute("select state from trials order by number")]
    assert states == ["COMPLETE", "RUNNING"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert sweep(folder, monkeypatch, *words) == 0
    stopped = trials(folder)
    assert [row["state"] for row in stopped] == ["complete"] * 3
    (folder / "runs" / "search").rename(folder / "runs" / "stopped")
    assert sweep(folder, monkeypatch, *words) == 0
    assert trials(folder) == stopped, "the same proposals and the same numbers as without the interruption"


def test_trial_that_cannot_be_trained_does_not_end_the_search(folder, monkeypatch, capfd):
    pytest.importorskip("optuna")
    words = ["-m", "hydra/sweeper=optuna", "name=search", "hydra.sweeper.n_trials=2", "optimizer=sgd", *FAST]
    words += ["optimizer.lr=1e30,1e31", "loss=cross_entropy"]
    assert sweep(folder, monkeypatch, *words) == 2
    assert "none of the 2 trials" in capfd.readouterr().err
    assert [row["state"] for row in trials(folder)] == ["fail", "fail"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "hydra/sweeper=optuna"], "has nothing to search"),
        ([*SEARCH, "hydra.sweeper.n_trials=0"], "both must be 1 or more"),
        ([*SEARCH, "split.fold=0", "split=kfold", "split.num_folds=2"], "leave out split.fold"),
        (["-m", "hydra/sweeper=optuna", "seed=range(5,1)"], "seed=range(5,1) cannot be searched"),
    ],
)
def test_search_that_cannot_be_made_is_refused(folder, monkeypatch, capfd, words, said):
    pytest.importorskip("optuna")
    fast = [word for word in FAST if not word.startswith("split") or "split=kfold" not in words]
    assert sweep(folder, monkeypatch, *words, *fast) == 2
    assert said in capfd.readouterr().err


def test_two_searches_in_one_folder_are_refused(folder, monkeypatch, capfd):
    pytest.importorskip("optuna")
    import fcntl

    (folder / "runs/search").mkdir(parents=True)
    with (folder / "runs/search/.search.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep(folder, monkeypatch, *SEARCH, *FAST) == 2
    assert "is being searched by another process" in capfd.readouterr().err


def test_search_without_optuna_names_the_line_that_installs_it(folder, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert sweep(folder, monkeypatch, *SEARCH, *FAST) == 2
    assert "pip install 'mpi-unet[sweep]'" in capfd.readouterr().err
