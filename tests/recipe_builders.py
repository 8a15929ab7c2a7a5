"""Finished runs without training: the files that a comparison of recipes reads, with scores that a test knows."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

COLUMNS = ("patient_id", "case_id", "reader", "fold", "metric", "value", "unit")
VALIDATION = 4
"""Patients of each fold who chose the epoch, so that training and validation patients can be told apart."""


def divisions(patients: Sequence[str], num_folds: int, seed: int) -> list[dict[str, list[str]]]:
    """K folds; in each, some of the other patients validate."""
    order = [patients[place] for place in np.random.default_rng(seed).permutation(len(patients))]
    folds = []
    for fold in range(num_folds):
        test = order[fold::num_folds]
        rest = [patient for patient in order if patient not in test]
        folds.append({"train": rest[VALIDATION:], "val": rest[:VALIDATION], "test": test})
    return folds


def make_finished_run(
    folder: Path,
    scores: Mapping[str, float],
    *,
    seed: int = 1,
    split_seed: int | None = None,
    num_folds: int = 3,
    done: int | None = None,
    complete: bool = True,
    validation: float | None = 0.5,
    **settings: Any,
) -> Path:
    """A run folder with these scores of its patients; ``done`` folds are done, and without ``complete`` no summary."""
    folds = divisions(sorted(scores), num_folds, seed if split_seed is None else split_seed)
    folder.mkdir(parents=True)
    config = {"name": folder.name, "seed": seed, "split": {"seed": seed}, "model": {"depth": 3}, **settings}
    (folder / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")
    (folder / "environment.json").write_text("{}")
    (folder / "splits.json").write_text(json.dumps({"folds": folds}))
    rows = []
    for number, sides in enumerate(folds[: num_folds if done is None else done]):
        (folder / f"fold_{number}").mkdir()
        (folder / f"fold_{number}" / "fold.json").write_text(json.dumps({"fold": number}))
        epochs = "epoch,val_dice\n" + "".join(f"{epoch},{0.1 * epoch + 0.01 * number}\n" for epoch in range(4))
        (folder / f"fold_{number}" / "metrics.csv").write_text(epochs)
        mean = float(np.mean([scores[patient] for patient in sides["test"]]))
        rows.append({"fold": number, "dice": mean} | ({} if validation is None else {"best_val_dice": validation}))
    if not complete:
        return folder
    with (folder / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for patient, value in scores.items():
            writer.writerow((patient, f"{patient}_rest", "A", 0, "dice", repr(value), ""))
    mean = float(np.mean(list(scores.values())))
    summary = {
        "complete": len(rows) == num_folds,
        "design": {
            "unit": "patient",
            "num_folds": num_folds,
            "cohort": "read",
            "reader": "A",
            "domain": "short_axis",
            "label": "lv_filled",
            "simulated_readers": False,
        },
        "metrics": {
            "dice": {"mean": mean, "n_undefined": 0, "n_infinite": 0},
            "hd95_mm": {"mean": 9.0, "n_undefined": 0, "n_infinite": 2},
        },
        "folds": rows,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "report.html").write_text("a page")
    return folder


def patient_scores(num_patients: int = 24, shift: float = 0.0, seed: int = 0) -> dict[str, float]:
    """A score for each patient: a difficulty that recipes share, the shift of the recipe, and chance."""
    difficulty = np.random.default_rng(99).normal(0.8, 0.05, num_patients)
    values = difficulty + shift + np.random.default_rng(seed).normal(0, 0.01, num_patients)
    return {f"P{number:02d}": float(value) for number, value in enumerate(values)}
