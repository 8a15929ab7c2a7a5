"""A run folder as it is read: what is missing or broken becomes a sentence, and only the summary is indispensable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from report_builders import make_cohort, make_run

from mpi_unet.errors import RunError
from mpi_unet.report.operating import read_operating
from mpi_unet.report.record import read_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, never changed by a test."""
    root = tmp_path_factory.mktemp("finished")
    return make_run(root / "run", make_cohort(root / "cohort", 3))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_whole_run_misses_nothing(run: Path) -> None:
    record = read_run(run)
    assert record.missing == ()
    assert [history.fold for history in record.histories] == [0, 1, 2]
    assert record.overrides == ("experiment=kfold_dice",)
    assert record.summary["folds"][0]["num_val_patients"] == 1  # what fold.json adds


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fold_1/metrics.csv", "fold_1/metrics.csv is missing"),
        ("fold_0/operating.csv", "fold_0/operating.csv is missing"),
        ("fold_2/fold.json", "fold_2/fold.json is missing"),
        ("environment.json", "environment.json is missing"),
        ("splits.json", "splits.json is missing"),
        ("scores.csv", "scores.csv is missing"),
        (".hydra/config.yaml", ".hydra/config.yaml is missing"),
    ],
)
def test_a_missing_file_becomes_a_sentence(run: Path, name: str, sentence: str) -> None:
    (run / name).unlink()
    assert [sentence in said for said in read_run(run).missing] == [True]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("fold_0/metrics.csv", "epoch,train_loss\n0,1\n", "fold_0/metrics.csv lacks the columns val_loss, val_dice"),
        ("fold_0/metrics.csv", "epoch,train_loss,val_loss,val_dice\n", "fold_0/metrics.csv holds no rows"),
        ("environment.json", "{", "environment.json cannot be read"),
        ("splits.json", "[]", "splits.json is not an object"),
        ("scores.csv", "\x00", "scores.csv"),
    ],
)
def test_a_broken_file_becomes_a_sentence(run: Path, name: str, content: str, sentence: str) -> None:
    (run / name).write_text(content)
    assert [sentence in said for said in read_run(run).missing] == [True]


def test_a_table_that_is_no_text_becomes_a_sentence(run: Path) -> None:
    (run / "scores.csv").write_bytes(b"\xff\xfe\x00")
    assert read_run(run).missing == ("scores.csv cannot be read (UnicodeDecodeError); the figure is left out.",)


def test_patients_scored_at_different_thresholds_give_no_curve() -> None:
    counts = {"tp": "1", "fp": "2", "fn": "3", "tn": "4"}
    rows = [{"patient_id": patient, "threshold": at} | counts for patient, at in (("a", "0.5"), ("b", "0.5"))]
    curve = read_operating([*rows, *rows[:1]])
    assert curve is not None
    assert curve.counts.tolist() == [[[2, 4, 6, 8]], [[1, 2, 3, 4]]]  # the rows of one patient add up
    assert read_operating([*rows, rows[0] | {"threshold": "0.6"}]) is None
    assert read_operating([]) is None


def test_without_a_summary_there_is_nothing_to_report(run: Path) -> None:
    (run / "summary.json").unlink()
    with pytest.raises(RunError, match=r"summary\.json does not exist.*give the training command of this run again"):
        read_run(run)
    (run / "summary.json").write_text("{")
    with pytest.raises(RunError, match=r"summary\.json cannot be read.*delete it"):
        read_run(run)
    (run / "summary.json").write_text("[1]")
    with pytest.raises(RunError, match=r"holds a list, expected an object"):
        read_run(run)
