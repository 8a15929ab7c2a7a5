"""A comparison of recipes as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from mpi_unet.agreement.phrases import amount

__all__ = ["say_recipes"]

SMALLEST_P = 0.0001


def say_recipes(document: Mapping[str, Any], console: Console) -> None:
    """Two tables, the recipes and their differences; the runs that are not finished; the notes."""
    means = Table("recipe", document["metric"], "interval", "validation Dice", "patients", "seeds", box=None)
    for one in document["recipes"]:
        means.add_row(
            one["recipe"],
            amount(one["mean"]["value"]),
            _ends(one["mean"]["interval"]),
            "-" if one["validation"] is None else amount(one["validation"]),
            str(document["n"]),
            str(len(one["runs"])),
        )
    pairs = Table("first - second", "difference", "interval", "p (Holm)", "p over folds", box=None)
    for pair in document["pairs"]:
        test = pair["over_folds"]["test"]
        pairs.add_row(
            f"{pair['a']} - {pair['b']}",
            amount(pair["delta"]["value"], sign=True),
            _ends(pair["delta"]["interval"]),
            _p(pair["p_holm"]),
            "-" if test is None else _p(test["p"]),
        )
    console.print(means)
    console.print(pairs)
    for run in document["incomplete"]:
        console.print(f"not finished, not compared: {run['run']} ({run['reason']})", highlight=False)
    for note in document["notes"]:
        console.print(note, highlight=False)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _p(value: float) -> str:
    """A p value, which is small and never 0."""
    return f"<{SMALLEST_P}" if value < SMALLEST_P else amount(value)


def _ends(interval: Mapping[str, Any] | None) -> str:
    return "-" if interval is None else f"{amount(interval['low'])} to {amount(interval['high'])}"
