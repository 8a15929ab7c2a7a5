"""The tables of a run or an evaluation as DataFrames: one row a case and pair of outlines, one column a score.

``preds`` is the outline that is scored, ``target`` the one that it is held against. A score that is undefined is NaN;
units stand in the names of the columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi_unet.errors import RunError
from mpi_unet.evaluation.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["IDENTITY", "metric_table", "read_table", "wide"]

IDENTITY = ("patient_id", "case_id", "preds", "target")
"""What tells the rows of a table of scores apart."""

TEXTS = (*IDENTITY, "study_id", "reader", "baseline", "metric", "unit", "acquisition", "gate", "reason", "remarks")
"""Columns that are no numbers, whatever stands in them."""


def read_table(path: Path, remedy: str) -> pd.DataFrame:
    """A CSV file of ours; ids stay text whatever they look like.

    Raises:
        RunError: It is missing or cannot be read.
    """
    import pandas as pd

    texts = (
        "patient_id",
        "case_id",
        "study_id",
        "reader",
        "preds",
        "target",
        "baseline",
        "metric",
        "acquisition",
        "gate",
    )
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(texts, "str"), keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise RunError(f"{path} is missing; {remedy}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); {remedy}") from error


def wide(rows: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of one score each as rows of all scores.

    Args:
        rows: Columns ``patient_id``, ``case_id``, ``preds``, ``target``, ``metric``, ``value`` and ``more``.
        more: Columns beside :data:`IDENTITY` that a row keeps.

    Returns:
        The table in the order of the rows, scores in the order of ``METRICS``.
    """
    index = [*IDENTITY, *more]
    found = set(rows["metric"])
    scores = [name for name in METRICS if name in found and METRICS[name].role != "bookkeeping"]
    table = rows.pivot(index=index, columns="metric", values="value")[scores].reset_index()
    table.columns.name = None
    order = rows[index].drop_duplicates()
    return order.merge(table, on=index, how="left", validate="one_to_one")


def metric_table(metrics: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The part ``metrics`` of a summary: one row a score, with its mean and interval over patients.

    Returns:
        Columns ``label``, ``unit``, ``mean``, ``low``, ``high`` (95 %), ``median``, ``min``, ``max``, ``n`` (patients),
        ``role`` and ``definition``; NaN where something cannot be said.
    """
    import pandas as pd

    rows = {}
    for name, one in metrics.items():
        low, high = one.get("ci95") or (None, None)
        numbers = {"mean": one["mean"], "low": low, "high": high, "median": one["median"]}
        numbers |= {key: one[key] for key in ("min", "max")}
        rows[name] = {
            "label": one["label"],
            "unit": one["unit"],
            **{key: float("nan") if value is None else float(value) for key, value in numbers.items()},
            "n": one["n"],
            "role": one["role"],
            "definition": one["definition"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")
