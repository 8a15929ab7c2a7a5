"""Readings for cohorts of tests: columns of measurements and categories with simulated errors of readers."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def add_columns(root: Path, columns: Mapping[str, Sequence[object]]) -> None:
    """Write further columns into ``cases.csv``, one value a row; None is an empty cell."""
    with open(root / "cases.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    for place, row in enumerate(rows):
        row |= {name: "" if values[place] is None else str(values[place]) for name, values in columns.items()}
    write_rows(root / "cases.csv", rows)


def write_rows(path: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> Path:
    """A table with one mapping a row."""
    with open(path, "w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def case_ids(root: Path) -> list[str]:
    """The ids of ``cases.csv`` in their order."""
    with open(root / "cases.csv", newline="") as lines:
        return [row["case_id"] for row in csv.DictReader(lines)]


def ejection_fractions(num_cases: int, members: Sequence[str], seed: int = 0) -> dict[str, np.ndarray]:
    """By member an ejection fraction in percent: a true one, a habit of the member, and an error of 3 points."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(58, 12, num_cases).clip(15, 85)
    return {
        member: np.round(truth + place - 1 + rng.normal(0, 3, num_cases), 1) for place, member in enumerate(members)
    }


def judgments(
    num_cases: int, members: Sequence[str], scale: Sequence[str], error: float = 0.2, seed: int = 0
) -> dict[str, list[str]]:
    """By member a category: a true one, replaced by a neighbor on the scale with probability ``error``."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(scale), num_cases)
    found = {}
    for member in members:
        slip = np.where(rng.random(num_cases) < error, rng.choice([-1, 1], num_cases), 0)
        found[member] = [scale[place] for place in np.clip(truth + slip, 0, len(scale) - 1)]
    return found
