"""What the PhysioNet set says of its patients: ``demographics.csv``, which few have seen.

Its description promises the columns patient_id, sex, age and BMI, with one row for a study. Whatever else is there is
passed over; whatever is not there is said, and the patients stay undescribed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from mpi_unet.errors import CohortError

__all__ = ["DEMOGRAPHICS", "described"]

DEMOGRAPHICS = "demographics.csv"

COLUMNS = {"sex": ("sex", "gender"), "age_years": ("age", "age_years"), "bmi": ("bmi",)}
"""Column of ``cases.csv`` and what the file may call it."""

PATIENT_COLUMNS = ("patient_id", "patientid", "id")


def described(
    rows: Sequence[dict[str, str]], digits_of: Mapping[str, str], path: Path
) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of ``cases.csv`` with what the file says of their patients.

    Args:
        rows: The rows; ``source_uid`` is the identifier of the image.
        digits_of: Identifier of an image to the PatientID in its header.
        path: The file; it need not be there.

    Returns:
        The rows with the columns of `COLUMNS`, empty where unknown, and warnings without identities. An age that
        differs between two studies of a patient is left empty: nothing says which row is which study.

    Raises:
        CohortError: The file is there and cannot be read.
    """
    if not path.is_file():
        return list(rows), [f"{DEMOGRAPHICS} is missing; sex, age and body mass index stay unknown"]
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:  # as text: the ids have more digits than a number
            table = [
                {
                    (key or "").strip().lower(): (value or "").strip()
                    for key, value in row.items()
                    if isinstance(key, str)
                }
                for row in csv.DictReader(lines)
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise CohortError(f"{path} cannot be read ({error}); expected comma-separated text; fetch it again") from error
    columns = sorted({column for row in table for column in row})
    identity = next((column for column in PATIENT_COLUMNS if column in columns), None)
    if identity is None:
        found = ", ".join(columns) or "no columns"
        return list(rows), [f"{DEMOGRAPHICS} has no patient_id (found: {found}); sex, age and BMI stay unknown"]
    facts: dict[str, dict[str, set[str]]] = {}
    for row in table:
        known = facts.setdefault(row.get(identity, ""), {target: set() for target in COLUMNS})
        for target, names in COLUMNS.items():
            known[target] |= {row[column] for column in names if row.get(column)}
    warnings = [
        f"{DEMOGRAPHICS} has no column {' or '.join(names)} (found: {', '.join(columns)})"
        for names in COLUMNS.values()
        if not set(names) & set(columns)
    ]
    told, strangers, contradictions = [], set(), set()
    for row in rows:
        digits = digits_of[row["source_uid"]]
        known = facts.get(digits, {})
        strangers |= set() if known else {digits}
        contradictions |= {(digits, target) for target in ("sex",) if len(known.get(target, ())) > 1}
        told.append(row | {target: _only(known.get(target, set())) for target in COLUMNS})
    if strangers:
        warnings.append(f"{DEMOGRAPHICS} has no row for {len(strangers)} patients with a mask; they stay undescribed")
    if contradictions:
        warnings.append(f"{DEMOGRAPHICS} gives {len(contradictions)} patients two sexes; they are left empty")
    return told, warnings


def _only(values: set[str]) -> str:
    """The value when there is exactly one; a patient who was examined twice may have two ages, and none is taken."""
    return next(iter(values)) if len(values) == 1 else ""
