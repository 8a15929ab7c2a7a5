"""Every benchmark runs, and what it would publish reads well; how fast anything is, is asserted nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from benchmarks import nnunet, page
from benchmarks.__main__ import SUBJECTS
from benchmarks.measure import Cost, Options, Row, as_json, compared, in_turns, machine
from doors import CHECKOUT

from mpi_unet.cohort.table import Cohort


@pytest.mark.long
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_benchmark_runs(subject, tmp_path):
    if subject == "nnunet" and nnunet.why_not():
        pytest.skip(nnunet.why_not())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")])}
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks", subject, "--quick", "--json", str(tmp_path / "a.json")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    result = json.loads((tmp_path / "a.json").read_text())[subject]
    assert result["rows"]
    assert result["machine"]["cores"] >= 1
    page.keep({subject: result}, tmp_path)
    assert result["title"] in (tmp_path / "performance.md").read_text()


def test_unknown_subject_is_answered_with_the_known_ones():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")])}
    words = [sys.executable, "-m", "benchmarks", "trainings"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no subject trainings; subjects: training, tutorial" in done.stderr


def test_turns_alternate_and_medians_are_compared():
    order, costs = [], {"slow": iter([6.0, 2.0, 4.0]), "fast": iter([1.0, 9.0, 2.0])}

    def task(name):
        order.append(name)
        return Cost(next(costs[name]), 1.0)

    middle = in_turns({name: lambda name=name: task(name) for name in costs}, 3)
    assert order == ["slow", "fast"] * 3
    assert [(row.name, row.ratio) for row in compared(middle, "wall")] == [("slow", 1.0), ("fast", 2.0)]
    assert [row.ratio for row in compared(middle | {"drowned": Cost(-0.1, 1.0)}, "wall")] == [1.0, 2.0, None]


def test_nnunet_is_not_measured_where_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.delenv(nnunet.VARIABLE, raising=False)
    assert "MPI_UNET_NNUNET_PYTHON is not set: make an environment" in nnunet.why_not()
    monkeypatch.setenv(nnunet.VARIABLE, str(tmp_path / "python"))
    assert "is no file; give the python of nnU-Net's environment" in nnunet.why_not()


def test_cheap_cohorts_are_whole_cohorts(tmp_path):
    from benchmarks.volumes import read_frames, write_rings

    cohort = Cohort.open(write_rings(tmp_path / "rings", 3, num_frames=4, size=32))
    cohort.check("truth")
    images, masks = read_frames(cohort.root)
    assert images.shape == masks.shape == (12, 32, 32)
    assert images[masks > 0].mean() > 2 * images[masks == 0].mean()


def test_page_tells_machine_command_table_and_what_was_not_measured(tmp_path):
    more = {"train_frames": 3200}
    rows = as_json(
        [
            Row("bare loop", 1.0, "CPU", 2.0, 1.0, more),
            Row("ours", 0.97, "CPU", 2.1, 1.03, more | {"images_per_s": 5.0}),
        ]
    )
    result = {"title": "Training", "machine": machine(), "device": "cpu", "minutes": 1.0, "rows": rows}
    page.keep({"training": result}, tmp_path)
    page.keep({"scoring": result | {"title": "Scores"}}, tmp_path)
    text = (tmp_path / "performance.md").read_text()
    for words in (
        "## Training",
        "## Scores",
        "| ours | 0.97 | 2.1 | 1.03 | 5 |",
        "The same in all: train frames 3,200.",
        "python -m benchmarks training",
        "nnunet",
    ):
        assert words in text
    assert (tmp_path / "figures" / "performance.svg").read_text().startswith("<?xml")
    assert json.loads((tmp_path / "figures" / "performance.json").read_text()).keys() == {"training", "scoring"}


def test_options_name_the_trainer_of_a_device(tmp_path):
    assert Options(tmp_path).trainer == ["trainer=cpu"]
    assert Options(tmp_path, device="cuda").trainer[0] == "trainer=gpu"
