"""SIGKILL at random moments, then the same command again: the same result, nothing lost, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks.measure import with_children
from doors import CHECKOUT, TINY, open_door, start_door
from killed import MUTATIONS, spread
from made import content, differences, is_left_over

from mpi_unet.errors import AgreementError
from mpi_unet.files import PART, is_part
from mpi_unet.reader_study.masks import _refuse_foreign

MOMENTS = 20
"""In all; ``python tests/killed.py`` takes so many of each door."""


@pytest.mark.long
def test_killed_at_twenty_random_moments_and_given_again_ends_with_the_same_result(tmp_path):
    words = [sys.executable, "-W", "ignore", "tests/killed.py", "--in-all", str(MOMENTS), "--seed", "1"]
    done = subprocess.run(
        [*words, "--folder", str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    doors = {name: one for name, one in json.loads(done.stdout).items() if isinstance(one, dict)}
    assert set(doors) == {"prepare", "train", "evaluate", "predict", "stacked", "readers"}
    assert [problem for one in doors.values() for problem in one["problems"]] == []
    kills = sum(one["kills"] for one in doors.values())
    assert kills >= MOMENTS // 2, "moments behind the end of a command that goes on kill nothing"
    assert all(is_left_over(name) for one in doors.values() for name in one["left_over"])


def test_moments_are_spread_in_pairs():
    assert spread(20, "abcdef") == {"a": 4, "b": 4, "c": 4, "d": 4, "e": 2, "f": 2}


# --- what the harness would notice ---


def made(folder: Path, **files: str) -> dict:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return content(folder)


def test_lost_extra_and_changed_files_are_noticed_but_not_dates(tmp_path):
    before = made(tmp_path / "a", scores_csv="case,value,seconds\nP1,0.5,3\n", summary_json='{"dice": 1, "created": 1}')
    same = made(tmp_path / "b", scores_csv="case,value,seconds\nP1,0.5,9\n", summary_json='{"dice": 1, "created": 2}')
    assert differences(before, same) == []
    twice = made(tmp_path / "c", scores_csv="case,value,seconds\nP1,0.5,3\nP1,0.5,3\n", other_txt="")
    assert differences(before, twice) == [
        "summary.json is missing",
        "other.txt is too much",
        "scores.csv differs: [['case', 'value'], ['P1', '0.5']] became "
        "[['case', 'value'], ['P1', '0.5'], ['P1', '0.5']]",
    ]


def test_a_tolerance_counts_for_weights_and_fractions_only(tmp_path):
    weights = {"network.0": np.array([1.0, -4.0], np.float32), "seen": np.array([7])}
    before = {"last.ckpt": weights, "metrics.csv": [["0", "0.5", "P1"]], "P1.nii.gz": "ab", "fold.json": {"epochs": 3}}

    def changed(**files):
        return {**before, **{name.replace("_", "."): value for name, value in files.items()}}

    close = changed(last_ckpt=weights | {"network.0": np.array([1.0003, -4.0], np.float32)})
    assert differences(before, close, 1e-4) == []
    assert differences(before, close) == ["last.ckpt differs: network.0: [ 1. -4.] became [ 1.0003 -4.    ]"]
    assert differences(before, changed(metrics_csv=[["0", "0.50001", "P1"]]), 1e-4) == []
    for far in (
        changed(last_ckpt=weights | {"network.0": np.array([1.001, -4.0], np.float32)}),
        changed(last_ckpt=weights | {"seen": np.array([8])}),
        changed(metrics_csv=[["0", "0.501", "P1"]]),
        changed(metrics_csv=[["0", "0.5", "P2"]]),
        changed(**{"P1.nii.gz": "ac"}),
        changed(fold_json={"epochs": 4}),
    ):
        assert len(differences(before, far, 1e-4)) == 1


def test_file_operations_of_python_are_seen(tmp_path):
    script = (
        "import os, sys; seen = []; sys.addaudithook(lambda event, arguments: seen.append(event));"
        "os.mkdir('a'); open('b', 'w').close(); os.replace('b', 'c'); os.remove('c'); os.rmdir('a');"
        "print(*[event for event in seen if event in sys.argv[1:]])"
    )
    done = subprocess.run([sys.executable, "-c", script, *MUTATIONS], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["os.mkdir", "os.rename", "os.remove", "os.rmdir"]


# --- what a kill had broken ---


def test_unfinished_neighbors_are_no_foreign_files(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / f"{PART}1a2b.json").write_text("{")
    _refuse_foreign(output)
    (output / "pairs.xlsx").write_text("")
    assert not is_part(output / "pairs.xlsx")
    with pytest.raises(AgreementError, match=r"is not empty and holds no earlier result.*choose a new folder"):
        _refuse_foreign(output)


def test_run_whose_start_was_killed_while_it_wrote_its_first_file_begins(tmp_path, tiny_root, monkeypatch):
    left = tmp_path / "runs" / "train" / f"{PART}9f.json"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    words = [*TINY, "data=cohort", f"data.root={tiny_root}", "data.reader=truth", "split.num_folds=3", "split.fold=0"]
    assert open_door("train", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0


def test_row_of_an_epoch_is_written_before_its_checkpoint(tmp_path, tiny_root, monkeypatch):
    from mpi_unet.learning.recipe import WholeCheckpoints

    rows = []
    save = WholeCheckpoints.save_checkpoint

    def noting(self, checkpoint, path, storage_options=None):
        record = Path(path).parents[1] / "metrics.csv"
        rows.append(record.read_text().splitlines()[-1] if record.is_file() else "")
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(WholeCheckpoints, "save_checkpoint", noting)
    words = [*TINY, "data=cohort", f"data.root={tiny_root}", "data.reader=truth", "split.num_folds=3", "split.fold=0"]
    assert open_door("train", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    assert rows
    assert all(row.startswith("0,") and "" not in row.split(",") for row in rows)


def test_workers_of_a_killed_parent_end(tmp_path):
    process = start_door("prepare", "source=phantom", "source.num_patients=40", "output=made", folder=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("made/images/*.nii.gz")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = [pid for pid in with_children(process.pid) if "spawn_main" in command_line(pid)]
    process.kill()  # the door alone, not its group
    process.communicate(timeout=60)  # they hold the other end of its output until they end
    assert workers
    assert not [pid for pid in workers if "spawn_main" in command_line(pid)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
