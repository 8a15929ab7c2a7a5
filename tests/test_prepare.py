"""The door prepare, and the account it gives."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import write_tiny_cohort
from doors import open_door
from PIL import Image
from rich.console import Console

from mpi_unet.cohort.table import Cohort
from mpi_unet.sources.account import make_private_folder, private_folder, say_account, write_account


def said_of(cohort: Path) -> list[str]:
    console = Console(record=True, soft_wrap=True, file=None, quiet=False)
    with console.capture() as captured:
        say_account(cohort, console)
    return captured.get().splitlines()


def test_files_become_a_cohort_and_its_path_is_the_last_line(tmp_path, monkeypatch, capfd):
    rng = np.random.default_rng(0)
    for patient in "ab":
        for frame in range(3):
            mask = np.zeros((16, 16), dtype=np.uint8)
            mask[4:9, 5:11] = 255
            Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(
                tmp_path / f"Original_{patient}_{frame}.png"
            )
            Image.fromarray(mask).save(tmp_path / f"ground_{patient}_{frame}.png")
    words = ["source=pairs", f"input={tmp_path}", "output=made"]
    assert open_door("prepare", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "2 cases of 2 patients, projection"
    assert lines[1] == "outlined by expert (lv_filled)"
    assert lines[-1] == "made"
    assert len(Cohort.open(tmp_path / "made").cases) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "source must be given: add source=<name>; names: "),
        (["source=phantm"], "source=phantm: there is no such option; did you mean 'phantom'?"),
        (["source=phantom"], "output must be given: add output=<folder to make>"),
        (["source=phantom", "output=x", "source.num_patients=many"], "source.num_patients is 'many', expected int"),
        (["source=phantom", "output=x", "source.patients=3"], "source.patients: there is no such key"),
    ],
)
def test_a_wrong_command_gets_one_message_and_makes_nothing(words, said, tmp_path, monkeypatch, capfd):
    assert open_door("prepare", *words, folder=tmp_path, monkeypatch=monkeypatch) == 2
    answer = capfd.readouterr()
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert "Error executing job" not in answer.err
    assert not list(tmp_path.iterdir())


def test_the_account_counts_what_was_left_out_and_points_at_the_private_table(tmp_path):
    cohort = write_tiny_cohort(tmp_path / "ours", 3)
    left_out = {"not nuclear medicine": 12, "a computed tomography [CT]": 4}
    rows = [{"patient_id": patient} for patient in ("P00", "P01", "P02")]
    write_account(cohort, "dicom", rows, left_out=left_out, warnings=["two cameras"])
    lines = said_of(cohort)
    assert lines[:2] == ["3 cases of 3 patients, short_axis", "outlined by truth (lv_wall)"]
    assert lines[2:5] == [
        "left out: 12 (not nuclear medicine)",  # as the source orders them: the most frequent first
        "left out: 4 (a computed tomography [CT])",
        "note: two cameras",
    ]
    assert lines[5:] == [str(cohort)]
    table = make_private_folder(cohort) / "files.csv"
    table.touch()
    assert str(table) in said_of(cohort)[5]


def test_the_private_folder_is_for_its_owner_only(tmp_path):
    folder = make_private_folder(tmp_path / "ours")
    assert folder == private_folder(tmp_path / "ours") == tmp_path / "ours_private"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    make_private_folder(tmp_path / "ours")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
