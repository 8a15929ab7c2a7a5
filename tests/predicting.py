"""What tests of the door predict share."""

from __future__ import annotations

import csv

from cohort_builders import read_rows, write_rows, write_tiny_cohort
from doors import open_door


def rename_patients(root, letter):
    rows = read_rows(root)
    for row in rows:
        row["patient_id"] = row["patient_id"].replace("P", letter)
    write_rows(root, rows)


def with_new_studies(folder, little_run, number=5):
    """The run (not to be changed), and a cohort of new patients that nobody outlined, in one folder."""
    (folder / "runs").symlink_to(little_run / "runs")
    write_tiny_cohort(folder / "new", number, seed=1)
    rename_patients(folder / "new", "N")
    return folder


def door(folder, monkeypatch, *words, run="runs/train", input="new", output="out"):
    words = [f"run={run}", f"input={input}", f"output={output}", "measurements=volume", *words]
    return open_door("predict", *words, folder=folder, monkeypatch=monkeypatch)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(output):
    return {row["study_id"]: row["status"] for row in table(output / "predictions.csv")}


def everything(output):
    """Content of every result, without the lock and the record."""
    kinds = (".csv", ".json", ".gz")
    files = sorted(path for path in output.rglob("*") if path.suffix in kinds and not path.name.startswith("."))
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}
