"""The table of scores: one row per case and metric, from which every number over patients is made.

The table is long: ``patient_id, case_id, reader, fold, metric, value, unit`` and, for the trivial baselines,
``baseline``. On disk an empty value is undefined and ``inf`` infinite. Cases are averaged within their patient before
anything is said over patients, so that a patient with rest and stress counts once; a row per frame is refused, because
a frame is not a unit of inference.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mpi_unet.errors import RunError, listing, nearest
from mpi_unet.evaluation.metrics import METRICS
from mpi_unet.evaluation.policy import Summary, mean_of_defined, summarize_values
from mpi_unet.files import whole_file

__all__ = [
    "COLUMNS",
    "PatientValues",
    "ScoreRow",
    "fold_table",
    "patient_means",
    "patient_values",
    "read_scores",
    "score_rows",
    "summarize",
    "summarize_baselines",
    "write_scores",
]

COLUMNS = ("patient_id", "case_id", "reader", "fold", "metric", "value", "unit")
"""Columns of ``scores.csv``; ``baselines.csv`` has ``baseline`` besides."""


@dataclass(frozen=True, slots=True)  # there are tens of them a case
class ScoreRow:
    """One score of one case: NaN when undefined, inf when infinite; ``baseline`` is empty for the network."""

    patient_id: str
    case_id: str
    reader: str
    fold: int
    metric: str
    value: float
    unit: str
    baseline: str = ""


@dataclass(frozen=True)
class PatientValues:
    """One score of every patient: the mean over the patient's cases.

    ``values`` is NaN for a patient none of whose cases is defined, and inf for one with an infinite case; ``finite``
    has the image diagonal in the place of infinity and is what enters means. ``undefined_cases`` and ``infinite_cases``
    count cases.
    """

    patients: tuple[str, ...]
    values: Float[np.ndarray, " patients"]
    finite: Float[np.ndarray, " patients"]
    undefined_cases: int
    infinite_cases: int

    def summary(self) -> Summary:
        """The score over patients."""
        return summarize_values(self.values, finite=self.finite)


def score_rows(
    scores: Mapping[str, float], *, patient_id: str, case_id: str, reader: str, fold: int, baseline: str = ""
) -> list[ScoreRow]:
    """Turn the scores of one case into rows of the table.

    Example:
        >>> [row] = score_rows({"dice": 0.9}, patient_id="P1", case_id="P1-rest", reader="A", fold=0)
        >>> row.metric, row.value, row.unit
        ('dice', 0.9, '')
    """
    return [
        ScoreRow(patient_id, case_id, reader, fold, name, float(value), METRICS[name].unit, baseline)
        for name, value in scores.items()
    ]


def patient_values(rows: Iterable[ScoreRow]) -> dict[str, PatientValues]:
    """Average the cases of each patient, metric by metric.

    Args:
        rows: Rows of one reader and of one baseline, or of none.

    Returns:
        Values by metric, patients in sorted order; metrics in the order of
        :data:`~mpi_unet.evaluation.metrics.METRICS`. A patient without a row for a metric (which could not be measured
        for any of his cases) is not in it.

    Raises:
        RunError: Several rows for one case and metric, several readers or baselines, an unknown metric, or an infinite
            score without a row ``diagonal_mm`` of its case.
    """
    rows = list(rows)
    _refuse_ambiguous(rows)
    diagonals = {row.case_id: row.value for row in rows if row.metric == "diagonal_mm"}
    if unknown := [f"case {row.case_id}, {row.metric}" for row in rows if _lacks_stand_in(row, diagonals)]:
        raise RunError(
            f"scores: {len(unknown)} infinite score(s) without a row diagonal_mm of the same case, expected what "
            f"infinity counts as in a mean:\n{listing(unknown, 10)}\nScore the cases again with their spacing"
        )
    cells: dict[str, dict[str, list[ScoreRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cells[row.metric][row.patient_id].append(row)
    return {name: _of_patients(cells[name], diagonals) for name in METRICS if name in cells}


def patient_means(rows: Iterable[ScoreRow]) -> dict[str, dict[str, float]]:
    """Average the cases of each patient: ``{metric: {patient: value}}``, NaN and inf as in :class:`PatientValues`.

    Raises:
        RunError: As :func:`patient_values`.

    Example:
        >>> rest = score_rows({"dice": 0.8}, patient_id="P1", case_id="P1-rest", reader="A", fold=0)
        >>> stress = score_rows({"dice": 0.9}, patient_id="P1", case_id="P1-stress", reader="A", fold=0)
        >>> {name: round(value, 2) for name, value in patient_means(rest + stress)["dice"].items()}
        {'P1': 0.85}
    """
    return {
        name: dict(zip(column.patients, column.values.tolist(), strict=True))
        for name, column in patient_values(rows).items()
    }


def summarize(rows: Iterable[ScoreRow]) -> dict[str, dict[str, Any]]:
    """Summarize every metric over patients: the ``metrics`` part of ``summary.json``.

    Args:
        rows: Rows of one reader and of one baseline, or of none.

    Returns:
        By metric: label, unit, better, role, definition, and what :class:`~mpi_unet.evaluation.policy.Summary` holds;
        besides, ``n_undefined_cases`` and ``n_infinite_cases``. Infinity is the string ``"inf"``, what cannot be said
        is None.

    Raises:
        RunError: As :func:`patient_values`.
    """
    return {
        name: {
            "label": METRICS[name].label,
            "unit": METRICS[name].unit,
            "better": METRICS[name].better,
            "role": METRICS[name].role,
            "definition": METRICS[name].definition,
            **column.summary().as_json(),
            "n_undefined_cases": column.undefined_cases,
            "n_infinite_cases": column.infinite_cases,
        }
        for name, column in patient_values(rows).items()
        if METRICS[name].role != "bookkeeping"
    }


def summarize_baselines(rows: Iterable[ScoreRow], labels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Summarize each baseline: the ``baselines`` part of ``summary.json``.

    Args:
        rows: Rows of one reader.
        labels: Label of each baseline by name; the result has their order.

    Raises:
        RunError: As :func:`patient_values`, or a baseline without a label.
    """
    by_name: dict[str, list[ScoreRow]] = defaultdict(list)
    for row in rows:
        by_name[row.baseline].append(row)
    if unknown := sorted(set(by_name) - set(labels)):
        raise RunError(f"baseline {', '.join(map(repr, unknown))} is not one of {', '.join(labels)}")
    return {
        name: {"label": label, "metrics": summarize(by_name[name])} for name, label in labels.items() if name in by_name
    }


def fold_table(rows: Iterable[ScoreRow]) -> list[dict[str, Any]]:
    """Mean over the held-out patients of each fold, as a description: folds are no independent repetitions.

    Returns:
        One mapping per fold: ``fold``, ``n_patients``, and the mean of each metric (None when undefined).

    Raises:
        RunError: As :func:`patient_values`.
    """
    by_fold: dict[int, list[ScoreRow]] = defaultdict(list)
    for row in rows:
        by_fold[row.fold].append(row)
    return [
        {
            "fold": fold,
            "n_patients": len({row.patient_id for row in members}),
            **{
                name: column.summary().as_json()["mean"]
                for name, column in patient_values(members).items()
                if METRICS[name].role != "bookkeeping"
            },
        }
        for fold, members in sorted(by_fold.items())
    ]


def write_scores(path: str | Path, rows: Iterable[ScoreRow]) -> None:
    """Write the table, whole or not at all; the column ``baseline`` only when a row has one.

    Numbers are written in full, so that reading them back gives the same bits.

    Raises:
        RunError: Several rows for one case, metric, reader and baseline; or the file cannot be written.
    """
    rows = list(rows)
    _refuse_repeated(rows)
    columns = (*COLUMNS, "baseline") if any(row.baseline for row in rows) else COLUMNS
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(getattr(row, column)) for column in columns] for row in rows)


def read_scores(path: str | Path) -> list[ScoreRow]:
    """Read a table written by :func:`write_scores`, or by any other tool in the same columns.

    Raises:
        RunError: The file is missing, lacks a column, holds a value that is no number or an unknown metric, or has
            several
            rows for one case, metric, reader and baseline.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path} is missing, expected the table of scores; evaluate the run again to write it")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise RunError(
                f"{path}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}, found "
                f"{', '.join(reader.fieldnames or ()) or 'an empty file'}"
            )
        rows, faults = [], []
        for line in reader:
            try:
                rows.append(_row(line))
            except ValueError as error:
                faults.append(f"line {reader.line_num}: {error}")
    if faults:
        raise RunError(f"{path}: {len(faults)} line(s) cannot be read:\n{listing(faults)}\nEvaluate the run again")
    _refuse_repeated(rows, str(path))
    return rows


# --- Private helpers ---


def _of_patients(cells: Mapping[str, Sequence[ScoreRow]], diagonals: Mapping[str, float]) -> PatientValues:
    patients = tuple(sorted(cells))
    cases = [np.array([row.value for row in cells[patient]], dtype=np.float64) for patient in patients]
    stand_ins = [
        np.array([diagonals[row.case_id] if math.isinf(row.value) else row.value for row in cells[patient]])
        for patient in patients
    ]
    return PatientValues(
        patients,
        np.array([mean_of_defined(values) for values in cases]),
        np.array([mean_of_defined(values) for values in stand_ins]),
        int(sum(np.isnan(values).sum() for values in cases)),
        int(sum(np.isinf(values).sum() for values in cases)),
    )


def _lacks_stand_in(row: ScoreRow, diagonals: Mapping[str, float]) -> bool:
    return math.isinf(row.value) and not math.isfinite(diagonals.get(row.case_id, math.nan))


def _refuse_repeated(rows: Sequence[ScoreRow], where: str = "scores") -> None:
    counted = Counter((row.patient_id, row.case_id, row.metric, row.reader, row.baseline) for row in rows)
    repeated = [
        f"patient {patient}, case {case}, {metric}, reader {reader}{baseline and ', ' + baseline}: {number} rows"
        for (patient, case, metric, reader, baseline), number in counted.items()
        if number > 1
    ]
    if repeated:
        raise RunError(
            f"{where}: {len(repeated)} score(s) stand more than once, expected one row per case and metric:\n"
            f"{listing(repeated, 10)}\nA frame is no unit of inference: score each case once, over all its frames "
            "(evaluation.scores.case_scores)"
        )
    owners: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        owners[row.case_id].add(row.patient_id)
    if shared := [f"case {case}: patients {', '.join(sorted(ids))}" for case, ids in owners.items() if len(ids) > 1]:
        raise RunError(
            f"{where}: {len(shared)} case(s) belong to several patients, expected one:\n{listing(shared, 10)}"
        )


def _refuse_ambiguous(rows: Sequence[ScoreRow]) -> None:
    _refuse_repeated(rows)
    for column in ("reader", "baseline"):
        found = sorted({getattr(row, column) for row in rows})
        if len(found) > 1:
            raise RunError(
                f"scores: rows of {len(found)} {column}s ({', '.join(map(repr, found))}), expected one; "
                f"choose the rows of one {column} before averaging, or a patient counts several times"
            )
    if unknown := sorted({row.metric for row in rows} - set(METRICS)):
        raise RunError(f"scores: unknown metric {', '.join(unknown)}; expected {', '.join(METRICS)}")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value)


def _row(line: Mapping[str, str]) -> ScoreRow:
    if None in line or None in line.values():
        raise ValueError("more or fewer cells than columns; was the file cut off or edited?")
    metric = line["metric"]
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}{nearest(metric, METRICS)}")
    value = math.nan if line["value"] == "" else float(line["value"])
    return ScoreRow(
        line["patient_id"],
        line["case_id"],
        line["reader"],
        int(line["fold"]),
        metric,
        value,
        line["unit"],
        line.get("baseline", "") or "",
    )
