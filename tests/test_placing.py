"""A cohort comes to its place whole, and only over one that the same source has made."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from mpi_unet.errors import CohortError, RunError
from mpi_unet.sources import placing
from mpi_unet.sources.account import write_private_table
from mpi_unet.sources.placing import KEY, check_apart, cohort_in_making, reuse_key


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
