"""A cohort comes to its place whole, and only over one that the same source has made."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from doors import CHECKOUT

from mpi_unet.errors import CohortError, RunError
from mpi_unet.sources import placing
from mpi_unet.sources.account import write_private_table
from mpi_unet.sources.placing import KEY, check_apart, clear_parts, cohort_in_making, place_lock, reuse_key


def make(output: Path, source: str, key: str, *, fail: Exception | None = None) -> bool:
    """Make a cohort of one file; whether there was anything to do."""
    with cohort_in_making(output, source, key) as part:
        if part is None:
            return False
        (part / "pixels").write_text(key)
        if fail:
            raise fail
        (part / "cohort.json").write_text(json.dumps({KEY: f"{source}:{key}"}))
    return True


def write_table(part: Path, files: dict[str, str]) -> None:
    """The files of one case and the table that names them."""
    for file, text in files.items():
        (part / file).parent.mkdir(parents=True, exist_ok=True)
        (part / file).write_text(text)
    (part / "cases.csv").write_text(f"case_id,image,label_A\nP1,{','.join(files)}\n")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_made_once_made_anew_and_never_over_something_else(tmp_path: Path):
    output = tmp_path / "cohort"
    assert make(output, "nifti", "a" * 64)
    assert not make(output, "nifti", "a" * 64)
    assert make(output, "nifti", "b" * 64)
    assert reuse_key(output) == "nifti:" + "b" * 64
    assert (output / "pixels").read_text() == "b" * 64
    assert names(tmp_path) == ["cohort"]
    with pytest.raises(CohortError, match=r"cohort holds something that source=datalist did not make and will not"):
        make(output, "datalist", "c" * 64)


def test_error_leaves_nothing_and_an_interruption_what_can_go_on(tmp_path: Path):
    output = tmp_path / "cohort"
    with pytest.raises(CohortError, match="wrong"):
        make(output, "nifti", "a" * 64, fail=CohortError("wrong"))
    assert names(tmp_path) == []
    with pytest.raises(RunError, match=r"cohort cannot be written: no space; free some space or choose another output"):
        make(output, "nifti", "a" * 64, fail=OSError(28, "no space"))
    assert names(tmp_path) == [".part-cohort-" + "a" * 12]
    assert make(output, "nifti", "b" * 64)  # another key clears what the first has left
    assert names(tmp_path) == ["cohort"]


def test_another_process_may_have_finished_the_same_cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    output, put_in_place = tmp_path / "cohort", placing.put_in_place

    def come_second(part: Path, output: Path) -> None:
        put_in_place(part, output)
        raise OSError(2, "gone")

    monkeypatch.setattr(placing, "put_in_place", come_second)
    assert make(output, "nifti", "a" * 64)


def test_cohort_without_its_key_is_a_fault_of_ours(tmp_path: Path):
    with (
        pytest.raises(ValueError, match=r"the cohort\.json of source=nifti lacks source_key"),
        cohort_in_making(tmp_path / "cohort", "nifti", "a" * 64),
    ):
        pass


def test_two_commands_with_one_output_wait_for_each_other(tmp_path: Path):
    output, inside, most, made = tmp_path / "cohort", threading.Semaphore(0), [0], []
    working: list[int] = []

    def command(key: str) -> None:
        with cohort_in_making(output, "nifti", key) as part:
            if part is None:
                made.append("")
                return
            working.append(1)
            most[0] = max(most[0], len(working))
            write_table(part, {"images/a": key, "labels/b": key})
            inside.acquire(timeout=0.3)  # time for the others to come in, if they could
            (part / "cohort.json").write_text(json.dumps({KEY: f"nifti:{key}"}))
            working.pop()
            made.append(key)

    keys = ["a" * 64, "a" * 64, "b" * 64]
    threads = [threading.Thread(target=command, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(made) == 3
    assert made.count("b" * 64) == 1
    assert reuse_key(output) == f"nifti:{(output / 'images/a').read_text()}"
    assert names(tmp_path) == ["cohort"]


def test_another_process_waits_for_the_lock(tmp_path: Path):
    code = (
        "import sys; from mpi_unet.sources.placing import place_lock\n"
        "with place_lock(sys.argv[1]): print('in', flush=True)"
    )
    with place_lock(tmp_path / "cohort"):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "cohort")], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=2)
    said, _ = other.communicate(timeout=30)
    assert said == "in\n"
    assert names(tmp_path) == []


def test_cohort_that_lost_a_file_does_not_come_over_a_good_one(tmp_path: Path):
    output = tmp_path / "cohort"
    make(output, "nifti", "a" * 64)

    def lose_a_file() -> None:
        with cohort_in_making(output, "nifti", "b" * 64) as part:
            assert part is not None
            write_table(part, {"images/a": "", "labels/b": ""})
            (part / "labels/b").unlink()
            (part / "cohort.json").write_text(json.dumps({KEY: "nifti:" + "b" * 64}))

    with pytest.raises(RunError, match=r"(?s)1 files of the cohort vanished .*labels/b.*give the same command again"):
        lose_a_file()
    assert reuse_key(output) == "nifti:" + "a" * 64
    assert names(tmp_path) == ["cohort"]


def test_only_parts_of_the_same_cohort_are_cleared(tmp_path: Path):
    others = [".part-ours-2-0123456789ab", ".part-ours-x", ".part-[1]-0123456789ab", ".part-ours-abc123", "ours"]
    ours = [".part-ours-0123456789ab", ".part-ours-bbbbbbbbbbbb"]
    for name in (*others, *ours):
        (tmp_path / name).mkdir()
    clear_parts(tmp_path / "ours", keep=tmp_path / ours[1])
    assert names(tmp_path) == sorted([*others, ours[1]])
    (tmp_path / ".part-1-0123456789ab").mkdir()
    clear_parts(tmp_path / "[1]", keep=tmp_path / "none")  # no pattern: the name as it is
    assert names(tmp_path) == sorted([*others[:2], *others[3:], ours[1], ".part-1-0123456789ab"])


def test_output_below_a_file_is_said_to_be_that(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="a part of its path is a file and no folder: choose another"):
        make(tmp_path / "file/cohort", "nifti", "a" * 64)


def test_input_in_the_private_folder_of_the_output(tmp_path: Path):
    for inner in ("out_private", "out_private/incoming/x"):
        with pytest.raises(CohortError, match="lies in out_private, the private folder of output="):
            check_apart(tmp_path / inner, tmp_path / "out")
    check_apart(tmp_path / "out_private/retrieved", tmp_path / "out")  # as source=pacs does
    check_apart(tmp_path / "other_private", tmp_path / "out")


def test_input_and_output_are_apart(tmp_path: Path):
    check_apart(tmp_path / "in", tmp_path / "out")
    for inner in (tmp_path, tmp_path / "in"):
        with pytest.raises(CohortError, match="lie in one another; choose an output beside the input"):
            check_apart(tmp_path, inner)


def test_private_table_is_for_its_owner_only(tmp_path: Path):
    path = write_private_table(
        tmp_path / "cohort", [{"file": "Doe^John.dcm", "taken": "P1"}], ("file", "taken", "reason")
    )
    assert path == tmp_path / "cohort_private/files.csv"
    assert path.read_text() == "file,taken,reason\nDoe^John.dcm,P1,\n"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
