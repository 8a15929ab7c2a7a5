"""The job array of docs/predict.md on a real Slurm with two nodes: one of its jobs is queued again while it works."""

from __future__ import annotations

import re
import sys
import time

import pytest
from doors import CHECKOUT
from predicting import door, everything, statuses, with_new_studies
from slurm_cluster import running_slurm

NUM_STUDIES = 40


@pytest.mark.long
def test_documented_array_segments_everything_once_although_a_job_is_queued_again(little_run, tmp_path, monkeypatch):
    with_new_studies(tmp_path, little_run, NUM_STUDIES)
    page = (CHECKOUT / "docs" / "predict.md").read_text(encoding="utf-8")
    found = re.search(r"```\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    assert found
    script = found[1]
    for documented, here in (
        ("--array=0-7 --cpus-per-task=4", "--array=0-3 --cpus-per-task=1"),
        ("/8", "/4 batch_size=1 measurements=volume"),
        ("python -m", f"{sys.executable} -m"),
        ("run=runs/kfold_dice input=cohorts/new output=results/new", "run=runs/train input=new output=out"),
    ):
        assert documented in script
        script = script.replace(documented, here)
    (tmp_path / "array.sh").write_text(script)
    with running_slurm() as cluster:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
        job = re.sub(r"\D", "", cluster.run("sbatch", "array.sh"))
        first = f"{job}_0"
        results = tmp_path / "out" / "studies"
        _wait(lambda: any(results.glob("*.json")) and cluster.jobs()[first] == "RUNNING")
        assert len(list(results.glob("*.json"))) < NUM_STUDIES, "it was done before it could be disturbed"
        cluster.run("scontrol", "requeue", first)
        _wait(lambda: set(cluster.jobs().values()) == {"COMPLETED"})
        assert cluster.restarts(first) == 1
        nodes = set(cluster.run("squeue", "--array", "--noheader", "--states=all", "--format=%N").split())
    assert nodes == {"n1", "n2"}
    assert list(statuses(tmp_path / "out").values()) == ["segmented"] * NUM_STUDIES
    assert door(tmp_path, monkeypatch, "batch_size=1", output="alone") == 0
    assert everything(tmp_path / "out") == everything(tmp_path / "alone")


def _wait(is_so, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "Slurm has not come so far"
        time.sleep(0.1)
