"""What a run folder says: its files read once, and a sentence for everything that is missing.

The room never computes a score. It shows what ``summary.json`` and its neighbors hold, and a part that cannot be read
becomes a sentence on the page instead of an exception or a gap.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi_unet.errors import RunError
from mpi_unet.files import read_json

HISTORY_COLUMNS = ("epoch", "train_loss", "val_loss", "val_dice")
OPERATING_COLUMNS = ("patient_id", "threshold", "tp", "fp", "fn", "tn")
SCORE_COLUMNS = ("patient_id", "case_id", "fold", "metric", "value")


@dataclass(frozen=True)
class FoldHistory:
    """The epochs of one fold: column name to one number an epoch (NaN where the file is empty)."""

    fold: int
    best_epoch: int | None
    columns: dict[str, list[float]]


@dataclass(frozen=True)
class RunRecord:
    """A run folder, read.

    Attributes:
        summary: ``summary.json``; each entry of ``folds`` also holds what its ``fold.json`` says.
        histories: Learning curves of the folds that have one, in the order of the folds.
        operating: Rows of every ``operating.csv``, all folds together.
        scores: Rows of ``scores.csv``.
        missing: One sentence for each part that is absent or unreadable.
    """

    root: Path
    summary: dict[str, Any]
    environment: dict[str, Any]
    config: str
    overrides: tuple[str, ...]
    splits: dict[str, Any]
    histories: tuple[FoldHistory, ...]
    operating: tuple[dict[str, str], ...]
    scores: tuple[dict[str, str], ...]
    missing: tuple[str, ...]

    @property
    def design(self) -> dict[str, Any]:
        """The ``design`` block of the summary, empty when it has none."""
        return dict(self.summary.get("design") or {})


def parse_number(text: str | None) -> float:
    """Read one number of a table; empty or unreadable is NaN (undefined), ``inf`` is infinite.

    Example:
        >>> parse_number("0.5"), parse_number(""), parse_number("inf")
        (0.5, nan, inf)
    """
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan


def read_summary(run: Path) -> dict[str, Any]:
    """Read ``summary.json`` of a run.

    Raises:
        RunError: It is missing or not readable; without it there is nothing to report.
    """
    path = run / "summary.json"
    try:
        summary = read_json(path)
    except FileNotFoundError as error:
        raise RunError(
            f"{path} does not exist, so there is nothing to report; give the training command of this run again, "
            "it goes on where it stopped and writes the summary at its end"
        ) from error
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path} cannot be read ({error}); delete it and give the training command again") from error
    if not isinstance(summary, dict):
        raise RunError(f"{path} holds a {type(summary).__name__}, expected an object; delete it and evaluate again")
    return summary


def read_run(run: Path) -> RunRecord:
    """Read a run folder; only ``summary.json`` is indispensable.

    Raises:
        RunError: ``summary.json`` is missing or not readable.
    """
    summary = read_summary(run)
    missing: list[str] = []
    folds = [dict(fold) for fold in summary.get("folds") or []]
    histories, operating = [], []
    for fold in folds:
        folder = run / f"fold_{fold.get('fold')}"
        fold |= {key: value for key, value in _json(folder / "fold.json", run, missing).items() if key not in fold}
        rows = _table(folder / "metrics.csv", HISTORY_COLUMNS, run, missing)
        if rows:
            columns = {name: [parse_number(row.get(name)) for row in rows] for name in HISTORY_COLUMNS}
            best = fold.get("best_epoch")
            histories.append(FoldHistory(int(fold["fold"]), None if best is None else int(best), columns))
        operating.extend(_table(folder / "operating.csv", OPERATING_COLUMNS, run, missing))
    if not folds:
        missing.append("summary.json names no fold, so there are no learning curves and no operating curve.")
    return RunRecord(
        root=run,
        summary={**summary, "folds": folds},
        environment=_json(run / "environment.json", run, missing),
        config=_text(run / ".hydra" / "config.yaml", run, missing),
        overrides=tuple(_overrides(run / ".hydra" / "overrides.yaml")),
        splits=_json(run / "splits.json", run, missing),
        histories=tuple(histories),
        operating=tuple(operating),
        scores=tuple(_table(run / "scores.csv", SCORE_COLUMNS, run, missing)),
        missing=tuple(missing),
    )


def _name(path: Path, run: Path) -> str:
    return path.relative_to(run).as_posix()


def _json(path: Path, run: Path, missing: list[str]) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FileNotFoundError:
        missing.append(f"{_name(path, run)} is missing; what it says is left out of this page.")
        return {}
    except (OSError, ValueError) as error:
        missing.append(f"{_name(path, run)} cannot be read ({type(error).__name__}); what it says is left out.")
        return {}
    if not isinstance(content, dict):
        missing.append(f"{_name(path, run)} is not an object; what it says is left out.")
        return {}
    return content


def _text(path: Path, run: Path, missing: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        missing.append(f"{_name(path, run)} is missing or unreadable; the configuration cannot be shown.")
        return ""


def _overrides(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


def _table(path: Path, needed: Sequence[str], run: Path, missing: list[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file, or note why there are none."""
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            rows = list(reader)
            present = set(reader.fieldnames or ())
    except FileNotFoundError:
        missing.append(f"{_name(path, run)} is missing; the figure made from it is left out.")
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        missing.append(f"{_name(path, run)} cannot be read ({type(error).__name__}); the figure is left out.")
        return []
    lacking = [name for name in needed if name not in present]
    if lacking:
        missing.append(f"{_name(path, run)} lacks the columns {', '.join(lacking)}; the figure is left out.")
        return []
    if not rows:
        missing.append(f"{_name(path, run)} holds no rows; the figure made from it is left out.")
    return rows
