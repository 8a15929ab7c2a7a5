"""A training whose losses are written down: a change that should not change numbers leaves them alone.

If a change is meant to change them, put the new numbers here and show the k-fold table before and after.
"""

from __future__ import annotations

import csv

import pytest
from cohort_builders import write_tiny_cohort
from doors import open_door

GOLDEN = [  # train_loss, val_loss, learning_rate of epochs 0, 1, 2; one thread and two differ by less than 0.0001
    (0.8076, 0.7537, 0.003),
    (0.7493, 0.7064, 0.00225),
    (0.7028, 0.6920, 0.00075),
]


def test_losses_are_those_written_down(tmp_path, monkeypatch):
    write_tiny_cohort(tmp_path / "cohort", 6)
    words = ["trainer=cpu", "trainer.max_epochs=3", "model=unet_small", "loader.batch_size=8", "split=holdout"]
    words += ["data=cohort", "data.root=cohort", "data.reader=truth"]
    assert open_door("train", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    with (tmp_path / "runs/train/fold_0/metrics.csv").open(newline="") as file:
        rows = [
            (float(row["train_loss"]), float(row["val_loss"]), float(row["learning_rate"]))
            for row in csv.DictReader(file)
        ]
    for row, golden in zip(rows, GOLDEN, strict=True):
        assert row == pytest.approx(golden, abs=0.002)
