"""What a source took and what it left: ``preparation.json``, and how the door says it.

The account inside a cohort holds counts and reasons only. Which file became which case stands, where files of a clinic
were sorted, in a table in the private folder beside the cohort, because such file names hold names of people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mpi_unet.cohort.table import Cohort
from mpi_unet.files import read_json, unwritable, write_json, write_text

__all__ = ["make_private_folder", "private_folder", "say_account", "write_account", "write_private_table"]

FILE, TABLE = "preparation.json", "files.csv"


def private_folder(cohort: str | Path) -> Path:
    """Folder beside a cohort for what must not travel with it.

    Example:
        >>> private_folder("cohorts/ours").as_posix()
        'cohorts/ours_private'
    """
    cohort = Path(cohort)
    return cohort.with_name(f"{cohort.name}_private")


def make_private_folder(cohort: str | Path) -> Path:
    """Make the private folder beside a cohort, for its owner only, whoever made it before.

    Raises:
        RunError: It cannot be made.
    """
    folder = private_folder(cohort)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def write_account(
    cohort: str | Path,
    source: str,
    rows: Sequence[Mapping[str, str]],
    *,
    left_out: Mapping[str, int] | None = None,
    warnings: Sequence[str] = (),
    **facts: Any,
) -> None:
    """Write ``preparation.json`` into a cohort.

    Args:
        cohort: The cohort folder, or the folder in which it is being built.
        source: Name of the source.
        rows: The rows of ``cases.csv``, whose cases and patients are counted.
        left_out: Reason in words to the number of files or cases that it kept out, in the order to say them in.
        warnings: Sentences for whoever gave the command; no identities, no paths of the input.
        **facts: Further keys; none of them may identify a person.

    Raises:
        RunError: The folder cannot be written to.
    """
    content = {
        "source": source,
        "cases": len(rows),
        "patients": len({row["patient_id"] for row in rows}),
        "left_out": dict(left_out or {}),
        "warnings": list(warnings),
        **facts,
    }
    write_json(Path(cohort) / FILE, content)


def write_private_table(cohort: str | Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Path:
    """Write ``<cohort>_private/files.csv``: what became of each file.

    Args:
        cohort: The cohort folder.
        rows: One mapping a file; a column that a row lacks is left empty.
        columns: The columns, usually ``file`` (relative to the input), ``taken`` (the case_id or empty), ``reason``.

    Returns:
        The file.

    Raises:
        RunError: The folder cannot be made or written to.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    path = make_private_folder(cohort) / TABLE
    write_text(path, text.getvalue())
    return path


def say_account(cohort: str | Path, console: Console) -> None:
    """Say what was taken and what was left, with the path of the cohort as the last line.

    Args:
        cohort: A cohort that a source made; where it wrote no account, because it takes everything or nothing, its
            cases are counted.
        console: Where to.
    """
    cohort = Path(cohort)
    if cohort.is_file():  # a PACS that was only asked what it has leaves a list
        console.print(str(cohort), markup=False, highlight=False)
        return
    opened = Cohort.open(cohort)
    account = read_json(cohort / FILE) if (cohort / FILE).is_file() else {}
    lines = [f"{_count(len(opened.cases), 'case')} of {_count(len(opened.patients), 'patient')}, {opened.domain}"]
    lines += [f"outlined by {', '.join(opened.readers)} ({opened.label})" if opened.readers else "not outlined yet"]
    lines += [f"left out: {number} ({reason})" for reason, number in account.get("left_out", {}).items()]
    lines += [f"note: {warning}" for warning in account.get("warnings", [])]
    table = private_folder(cohort) / TABLE
    if table.is_file():
        lines.append(f"what became of each file (it may hold names: keep it private): {table}")
    for line in [*lines, str(cohort)]:
        console.print(line, markup=False, highlight=False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
