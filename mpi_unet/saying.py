"""What the terminal says at the end of a training: a few lines of result, and last the path of the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mpi_unet.files import read_json
from mpi_unet.report.comparison import PUBLISHED
from mpi_unet.run import Run


def say_result(run: Run, console: Console) -> None:
    """Three lines of result, the conclusion on agreement where it was asked for, and last the path of the report."""
    summary = read_json(run.summary)
    metrics, baseline = summary["metrics"], summary["baselines"]["mean_shape"]["metrics"]["dice"]
    design = summary["design"]
    number = metrics["dice"]["n"]
    unit = f"{number} patient{'s' * (number != 1)}, none seen in training"
    if design["unit"] != "patient":
        unit = "with patients on BOTH sides of the split"
    if not summary["complete"]:
        done = f"{len(summary['folds'])} of {design['num_folds']} folds"
        console.print(f"PARTIAL: {done} are done; the figures are those of their patients")
    console.print(f"LV Dice {_mean_and_interval(metrics['dice'])}, IoU {_mean_and_interval(metrics['iou'])}; {unit}")
    console.print(
        f"without any network: mean shape of the training patients, Dice {_number(baseline['mean'])}; mean over "
        f"background and LV {_number(metrics['macro_dice']['mean'])}, accuracy {_number(metrics['accuracy']['mean'])}"
    )
    whose = "simulated outlines" if design["simulated_readers"] else "the outlines of one reader"
    if run.agreement.is_file():
        console.print(f"against {whose} ({design['reader']}); against all readers:")
        console.print(read_json(run.agreement)["conclusion"]["text"], highlight=False)
    else:
        console.print(f"against {whose} ({design['reader']}); agreement between experts was not measured")
    console.print(str(run.report))


def say_comparison(runs: Mapping[str, Run], page: Path, console: Console) -> None:
    """One line a scenario, and the path of the comparison as the last line."""
    table = Table(
        "scenario", "LV Dice", "LV IoU", "precision", "recall", "macro Dice", "macro IoU", "accuracy", box=None
    )
    for name, run in runs.items():
        metrics = read_json(run.summary)["metrics"]
        cells = [_mean_and_interval(metrics[key]) for key in ("dice", "iou")]
        others = ("precision", "recall", "macro_dice", "macro_iou", "accuracy")
        cells += [_number(metrics[key]["mean"]) for key in others]
        table.add_row(name, *cells)
    published = [PUBLISHED[key] for key in ("macro_dice", "macro_iou", "accuracy")]
    table.add_row("as published (image split)", "-", "-", "-", "-", *published)
    console.print(table)
    console.print(str(page))


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _mean_and_interval(metric: Mapping[str, Any]) -> str:
    if metric["mean"] is None:
        return "undefined"
    ends = f" (95% CI {metric['ci95'][0]:.3f} to {metric['ci95'][1]:.3f})" if metric["ci95"] else ""
    return f"{metric['mean']:.3f}{ends}"
