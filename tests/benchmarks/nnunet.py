"""Dice against minutes: this recipe and nnU-Net v2's 2-D configuration, on one cohort, the same folds, the same clock.

nnU-Net is found through the environment variable MPI_UNET_NNUNET_PYTHON, the python of an environment in which
``nnunetv2`` is installed. Each side has the same two cores, one after the other, and each budget is a training of its
own whose learning-rate schedule ends with the budget. The budget is the time of the training loop alone; starting,
preprocessing and predicting are told beside it, for both. nnU-Net learns from all patients that are not held out; this
recipe sets some of them aside to choose its checkpoint, and spends part of its budget on looking at them.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import Options, Row, command, door

TITLE = "Out-of-fold Dice at the same wall-clock budget a fold as nnU-Net v2 2-D, on two cores"
VARIABLE = "MPI_UNET_NNUNET_PYTHON"
CORES = 2
SAFETY = 0.97
"""Epochs are counted out from the time of two of them; this share of the budget is planned for."""
ATTEMPTS = 3
"""A training that took longer than its budget, because something else slowed the machine, is made anew and shorter."""


def why_not() -> str:
    """Why this cannot be measured here; empty where it can."""
    python = os.environ.get(VARIABLE)
    if not python:
        return f"{VARIABLE} is not set: make an environment, pip install nnunetv2 there, and give its python"
    return "" if Path(python).is_file() else f"{VARIABLE}={python} is no file; give the python of nnU-Net's environment"


def measure(options: Options) -> list[Row]:
    """One row a side and budget."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:CORES])
    try:
        return _measured(options)
    finally:
        os.sched_setaffinity(0, allowed)


def _measured(options: Options) -> list[Row]:
    folder = options.folder / "nnunet"
    patients, minutes = (6, (0.05,)) if options.quick else (options.patients, options.minutes)
    size = ["source.matrix=32", "source.slice_mm=12.8", "source.pixel_mm=6.4"] if options.quick else []
    size = [f"+{word}" for word in size]
    made = door("prepare", ["source=phantom", f"source.num_patients={patients}", "output=cohort", *size], folder)
    ours = _Ours(folder, options)
    split = ours.calibrated()
    theirs = _Theirs(folder, split)
    rows = [Row("both: phantom cohort", wall_s=made.cost.wall_s, cpu_s=made.cost.cpu_s, more={"patients": patients})]
    rows.append(Row("nnU-Net: plan and preprocess, once", wall_s=theirs.wall_s, cpu_s=theirs.cpu_s))
    for budget in minutes:
        mine, other = ours.trained(budget), theirs.trained(budget, options.quick)
        rows.append(
            Row(f"nnU-Net, {budget:g} min a fold", 1.0, "Dice", more={"minutes": budget, "side": "nnU-Net"} | other)
        )
        ratio = mine["dice"] / other["dice"] if other["dice"] else None
        rows.append(
            Row(f"mpi_unet, {budget:g} min a fold", ratio, "Dice", more={"minutes": budget, "side": "mpi_unet"} | mine)
        )
    return rows


class _Ours:
    """experiment=kfold_dice_cross_entropy, whose loss is that of nnU-Net, for so many epochs as the budget holds."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.quick, self.folds = folder, options.quick, options.folds
        self.words = [
            *(
                "experiment=kfold_dice_cross_entropy",
                "data=cohort",
                "data.root=cohort",
                "data.reader=truth",
                "trainer=cpu",
            ),
            *(f"split.num_folds={options.folds}", "~trainer.callbacks.early_stopping"),
        ]

    def calibrated(self) -> Path:
        """Time two epochs of the first fold; the run's split is that of all other runs, which have the same seed."""
        self._train("calibration", 3, "split.fold=0")
        self.epoch_s = min(_epoch_seconds(self.folder / "runs/calibration/fold_0")[1:])
        return self.folder / "runs/calibration"

    def trained(self, minutes: float) -> dict[str, Any]:
        """Train and score with one budget."""
        name = f"ours_{minutes:g}".replace(".", "_")
        epochs = max(1, int(SAFETY * 60 * minutes / self.epoch_s))
        run = self.folder / "runs" / name
        for _ in range(ATTEMPTS):
            whole = self._train(name, epochs, "overwrite=true")
            used = [sum(_epoch_seconds(fold)) for fold in sorted(run.glob("fold_*"))]
            if max(used) <= 60 * minutes or epochs == 1:
                break
            epochs = max(1, int(SAFETY * epochs * 60 * minutes / max(used)))
        if json.loads((run / "splits.json").read_text()) != json.loads(
            (self.folder / "runs/calibration/splits.json").read_text()
        ):
            raise RuntimeError(f"{run} was split otherwise than the folds that nnU-Net was given")
        images = [
            json.loads((fold / "fold.json").read_text())["num_train_frames"] for fold in sorted(run.glob("fold_*"))
        ]
        return {
            "dice": _dice(self.folder, run / "predictions", f"scored_{name}"),
            "training_min_a_fold": sum(used) / len(used) / 60,
            "other_min": (whole - sum(used)) / 60,
            "images_per_s": sum(images) * epochs / sum(used),
            "epochs": epochs,
        }

    def _train(self, name: str, epochs: int, *more: str) -> float:
        tiny = ["model=unet_small"] if self.quick else []
        words = [*self.words, f"name={name}", f"trainer.max_epochs={epochs}", *tiny, *more]
        return door("train", words, self.folder, threads=CORES).cost.wall_s


class _Theirs:
    """nnU-Net on the exported cohort with the exported folds."""

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder, self.python = folder, os.environ[VARIABLE]
        home = folder / "nnunet_home"
        self.environment = {
            **{f"nnUNet_{name}": str(home / name) for name in ("raw", "preprocessed", "results")},
            **{"nnUNet_n_proc_DA": str(CORES), "nnUNet_def_n_proc": str(CORES), "MPLBACKEND": "agg"},
        }
        for name in ("raw", "preprocessed", "results"):
            (home / name).mkdir(parents=True)
        door("export", [f"run={run.relative_to(folder)}", "format=nnunet", f"output={home / 'raw'}"], folder)
        (raw,) = (home / "raw").iterdir()
        self.dataset = raw.name
        number = str(int(self.dataset.removeprefix("Dataset")[:3]))
        entry = Path(self.python).parent / "nnUNetv2_plan_and_preprocess"
        words = [self.python, str(entry), "-d", number, "-c", "2d", "-npfp", str(CORES), "-np", str(CORES), "--no_pbar"]
        cost = command(words, folder, threads=1, PYTHONPATH="", **self.environment).cost
        self.wall_s, self.cpu_s = cost.wall_s, cost.cpu_s
        splits = home / "preprocessed" / self.dataset / "splits_final.json"
        shutil.copyfile(raw / "splits_final.json", splits)
        self.folds = len(json.loads(splits.read_text()))

    def trained(self, minutes: float, quick: bool) -> dict[str, Any]:
        """Train and score with one budget."""
        name = f"nnunet_{minutes:g}".replace(".", "_")
        masks, facts, whole = self.folder / name, [], 0.0
        masks.mkdir()
        script = Path(__file__).with_name("nnunet_trainer.py")
        for fold in range(self.folds):
            out = self.folder / f"{name}_{fold}.json"
            words = [
                self.python,
                str(script),
                self.dataset,
                str(fold),
                str(60 * minutes),
                "1" if quick else "1000000",
                str(out),
            ]
            whole += command(words, self.folder, threads=CORES, PYTHONPATH="", **self.environment).cost.wall_s
            facts.append(json.loads(out.read_text()))
            for mask in Path(facts[-1]["masks"]).glob("*.nii.gz"):
                mask.rename(masks / mask.name)
        used = sum(fact["training_s"] for fact in facts)
        return {
            "dice": _dice(self.folder, masks, f"scored_{name}"),
            "training_min_a_fold": used / self.folds / 60,
            "other_min": (whole - used) / 60,
            "images_per_s": sum(fact["images"] for fact in facts) / used,
            "iterations": [fact["iterations"] for fact in facts],
            "batch_size": facts[0]["batch_size"],
            "patch": facts[0]["patch"],
            "parameters": facts[0]["parameters"],
        }


def _dice(folder: Path, masks: Path, output: str) -> float:
    """Mean out-of-fold Dice of all patients, by the one evaluation that scores both sides."""
    words = ["cohort=cohort", f"predictions={masks}", "readers=[truth]", f"output={output}", "bootstrap.draws=1000"]
    door("evaluate", words, folder)
    document = json.loads((folder / output / "agreement.json").read_text())
    (pair,) = document["scores"]["dice"]["by_pair"]
    return float(pair["summary"]["mean"])


def _epoch_seconds(fold: Path) -> list[float]:
    with open(fold / "metrics.csv", newline="", encoding="utf-8") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    sys.exit("run this subject with: python -m benchmarks nnunet")
