"""Folds as the jobs of a real Slurm with two nodes: killed, preempted, interrupted, and still the same numbers."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time

import pytest
from cohort_builders import write_tiny_cohort
from doors import CHECKOUT, open_door, start_door
from slurm_cluster import SlurmCluster, running_slurm

from mpi_unet.files import read_json

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs pip install 'mpi-unet[slurm]'")

EPOCHS = 40
RECIPE = [
    *("data=cohort", "data.root=cohort", "data.reader=truth", "split.num_folds=3", "loader.batch_size=2"),
    *("model.channels=[4,8]", "model.strides=[2]", "trainer=cpu", f"trainer.max_epochs={EPOCHS}"),
    f"trainer.callbacks.early_stopping.patience={EPOCHS}",
]
SMALL_JOBS = [
    *("hydra.launcher.partition=main", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"),
    "hydra.launcher.timeout_min=30",
]


@pytest.fixture(scope="module")
def cluster():
    with running_slurm() as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path):
    write_tiny_cohort(tmp_path / "cohort", 6)
    return tmp_path


def submit(cluster: SlurmCluster, folder, *words: str) -> subprocess.Popen[str]:
    environment = cluster.environment | {"OMP_NUM_THREADS": "1"}
    return start_door("train", "-m", "hydra/launcher=slurm", *SMALL_JOBS, *words, folder=folder, **environment)


def num_epochs(run, fold):
    metrics = run / f"fold_{fold}" / "metrics.csv"
    return len(metrics.read_text().splitlines()) - 1 if metrics.is_file() else 0


def numbers(run):
    """Everything that a run measured, without times."""
    rows = []
    for path in sorted(run.glob("fold_*/metrics.csv")):
        with path.open(newline="") as file:
            rows.append([{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(file)])
    return rows, (run / "scores.csv").read_text(), read_json(run / "summary.json")["metrics"]


def array_job(cluster):
    """Id of the newest array."""
    return max(int(job.partition("_")[0]) for job in cluster.jobs() if "_" in job)


@pytest.mark.long
def test_folds_are_killed_preempted_and_interrupted_and_the_run_ends_as_an_undisturbed_one(
    cluster, folder, monkeypatch, capfd
):
    run, words = folder / "runs" / "train", [*RECIPE, "split.fold=0,1,2"]
    process = submit(cluster, folder, *words)

    def disturb(fold: int) -> str:
        job = f"{array_job(cluster)}_{fold}"
        if fold == 0:  # a job of a partition with precedence needs its node
            node = cluster.run("squeue", "--noheader", "--format=%N", f"--jobs={job}")
            cluster.run(
                "sbatch", "--partition=urgent", f"--nodelist={node}", "--output=/dev/null", "--wrap=sleep 1", "--quiet"
            )
        elif fold == 1:
            cluster.run("scancel", "--signal=KILL", job)
        else:  # what Slurm sends before the time of a job is out
            cluster.run("scancel", "--signal=USR2", job)
        return job

    disturbed: dict[int, str] = {}
    deadline = time.monotonic() + 300
    while process.poll() is None:
        assert time.monotonic() < deadline, (cluster.jobs(), {fold: num_epochs(run, fold) for fold in range(3)})
        for fold in {0, 1, 2} - set(disturbed):
            if num_epochs(run, fold) > 2:
                disturbed[fold] = disturb(fold)
        time.sleep(0.2)
    said, _ = process.communicate()
    assert process.returncode == 2, said
    assert "give the same command again" in said, "the driver says what to do about the killed fold"
    assert "Traceback" not in said
    assert set(disturbed) == {0, 1, 2}
    while not (run / "fold_2" / "fold.json").is_file():  # requeued, and on its way without the driver
        assert time.monotonic() < deadline, cluster.jobs()
        time.sleep(0.2)
    assert cluster.restarts(disturbed[0]) == cluster.restarts(disturbed[2]) == 1
    before = (run / "fold_0" / "fold.json").read_bytes()
    assert not (run / "fold_1" / "fold.json").exists()
    assert not (run / "report.html").exists()

    process = submit(cluster, folder, *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert (run / "report.html").is_file(), "the last fold to finish assembles the report"
    assert (run / "fold_0" / "fold.json").read_bytes() == before, "what was done is not done again"
    assert [num_epochs(run, fold) for fold in range(3)] == [EPOCHS] * 3

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert open_door("train", *RECIPE, "name=undisturbed", folder=folder, monkeypatch=monkeypatch) == 0
    assert numbers(run) == numbers(folder / "runs" / "undisturbed")
    capfd.readouterr()
    assert open_door("train", *RECIPE, folder=folder, monkeypatch=monkeypatch) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "runs/train/report.html", "the same command without -m says it"


@pytest.mark.long
def test_optuna_sends_its_trials_to_the_cluster(cluster, folder):
    pytest.importorskip("optuna")
    words = [*RECIPE, "trainer.max_epochs=2", "split=holdout", "name=search", "loss=dice,cross_entropy"]
    words = [word for word in words if "num_folds" not in word]
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"]
    process = submit(cluster, folder, *search, *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.splitlines()[-1].startswith("runs/search/trial_00")
    with (folder / "runs/search/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        fold = read_json(folder / "runs/search" / row["trial"] / "fold_0" / "fold.json")
        assert float(row["val_dice"]) == pytest.approx(fold["best_val_dice"])
    assert len(rows) == 2


@pytest.mark.long
def test_two_nodes_share_a_fold(cluster, folder):
    """Slurm starts both processes itself; they find each other as on a real cluster, but on loopback."""
    loopback = 'hydra.launcher.setup=["export MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo"]'
    recipe = [word for word in RECIPE if not word.startswith(("trainer", "split"))]
    nodes = [
        "trainer=ddp",
        "trainer.devices=1",
        "+trainer.num_nodes=2",
        "trainer.accelerator=cpu",
        "hydra.launcher.nodes=2",
    ]
    words = [*recipe, *nodes, loopback, "split=holdout", "trainer.max_epochs=2", "name=nodes"]
    process = submit(cluster, folder, *words)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert (folder / "runs/nodes/report.html").is_file()


def test_missing_plugin_names_the_line_that_installs_it(folder):
    """The plugin is hidden from a process of its own."""
    hide = (
        "import sys, runpy, importlib.abc\n"
        "class Hide(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('submitit', 'hydra_plugins'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "sys.argv = ['train.py', *sys.argv[1:]]\n"
        "runpy.run_module('mpi_unet.train', run_name='__main__')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    for words, status, text in (
        (["-m", "hydra/launcher=slurm", *RECIPE, "split.fold=0,1"], 2, "pip install 'mpi-unet[slurm]'"),
        (["hydra/launcher=slurm", "--cfg", "job"], 0, "loader:"),
        (["--help"], 0, "hydra/launcher=slurm"),
    ):
        answer = subprocess.run(
            [sys.executable, "-c", hide, *words], cwd=folder, env=environment, capture_output=True, text=True
        )
        said = answer.stdout + answer.stderr
        assert answer.returncode == status, said
        assert text in said
        assert "Traceback" not in said
