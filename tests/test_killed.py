"""SIGKILL at random moments, then the same command again: the same result, nothing lost, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.measure import with_children
from doors import CHECKOUT, TINY, open_door, start_door
from killed import MUTATIONS, content, differences, is_left_over

from mpi_unet.errors import AgreementError
from mpi_unet.files import PART, is_part
from mpi_unet.reader_study.masks import _refuse_foreign

DOORS = ("prepare", "train", "evaluate", "predict", "readers")
MOMENTS = 20


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_killed_at_twenty_random_moments_and_given_again_ends_with_the_same_result(door, tmp_path):
    words = [sys.executable, "-W", "ignore", "tests/killed.py", door, "--moments", str(MOMENTS), "--seed", "1"]
    done = subprocess.run(
        [*words, "--folder", str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True, timeout=590
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    report = json.loads(done.stdout)[door]
    assert report["problems"] == []
    assert report["kills"] >= MOMENTS // 2, "moments that fall behind the end of a command that goes on kill nothing"
    assert all(is_left_over(name) for name in report["left_over"])


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
