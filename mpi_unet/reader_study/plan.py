"""How many patients a study takes: the table on the terminal, and as JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mpi_unet.agreement import Plan, PlanRow, plan
from mpi_unet.agreement.schema import read_agreement
from mpi_unet.errors import AgreementError
from mpi_unet.files import write_json, write_text

__all__ = ["pilot_spread", "plan_study", "say_plan"]


def pilot_spread(path: str | Path) -> tuple[float, int]:
    """Spread of the difference over the patients of a pilot, and their number.

    Args:
        path: ``agreement.json``, or its folder.

    Raises:
        AgreementError: The file is none, or holds no difference of two patients or more.
    """
    document = read_agreement(path)
    block = document["agreement"].get(document["primary"]) or {}
    differences = [row["d"] for row in block.get("per_patient", ()) if isinstance(row["d"], int | float)]
    if len(differences) < 2 or np.ptp(differences) == 0:
        raise AgreementError(
            f"pilot={path} holds {len(differences)} patients with a difference between network and readers, expected "
            "two or more that vary; a pilot needs a network and two readers, else give sd=..."
        )
    return float(np.std(differences, ddof=1)), len(differences)


def plan_study(
    *,
    margin: float,
    sd: float | Sequence[float],
    pilot_patients: int | None,
    output: Path | None,
    alpha: float,
    true_delta: Sequence[float],
    power: Sequence[float],
    num_readers: int | None = None,
    reader_sd: float | None = None,
    failure_share: float = 0.0,
) -> tuple[Plan, Path | None]:
    """Make the table, and write it where a folder is given: ``plan.json`` and ``plan.csv``.

    Raises:
        AgreementError: A number that cannot be.
        RunError: The folder cannot be written to.
    """
    made = plan(
        margin=margin,
        sd=sd,
        true_delta=true_delta,
        alpha=alpha,
        power=power,
        pilot_patients=pilot_patients,
        num_readers=num_readers,
        reader_sd=reader_sd,
        failure_share=failure_share,
    )
    if output is None:
        return made, None
    rows = [asdict(row) for row in made.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output / "plan.csv", text.getvalue())
    write_json(output / "plan.json", {"margin": margin, "alpha": alpha, "rows": rows, "cautions": list(made.cautions)})
    return made, output / "plan.json"


def say_plan(made: Plan, console: Console) -> None:
    """One line per claim, true difference and spread; the powers side by side."""
    powers = sorted({row.target_power for row in made.rows})
    heads = [f"n for {100 * power:g}%" for power in powers]
    table = Table("claim", "about", "true difference", "SD", *heads, box=None)
    by_line: dict[tuple[Any, ...], dict[float, PlanRow]] = {}
    for row in made.rows:
        by_line.setdefault((row.claim, row.scope, row.true_delta, row.sd), {})[row.target_power] = row
    for (claim, scope, delta, sd), cells in by_line.items():
        table.add_row(claim, scope, f"{delta:g}", f"{sd:.4g}", *(_count(cells, power) for power in powers))
    console.print(f"Patients for a margin of {made.margin:g} at one-sided alpha {made.alpha:g}")
    console.print(table)
    for caution in made.cautions:
        console.print(f"- {caution}")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _count(cells: Mapping[float, PlanRow], power: float) -> str:
    row = cells.get(power)
    if row is None or row.n is None:
        return "none"
    return str(math.ceil(row.n))
