"""What a source took and what it left: ``preparation.json``, and how the door says it.

The account inside a cohort holds counts and reasons only. Which file became which case stands, where files of a clinic
were sorted, in a table in the private folder beside the cohort, because such file names hold names of people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from mpi_unet.cohort.table import Cohort
from mpi_unet.files import read_json, unwritable, write_json

__all__ = ["make_private_folder", "private_folder", "say_account", "write_account"]

FILE = "preparation.json"


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
    *,
    source: str,
    cases: int,
    patients: int,
    left_out: Mapping[str, int],
    warnings: Sequence[str] = (),
) -> None:
    """Write ``preparation.json`` into a cohort.

    Args:
        cohort: The cohort folder, or the folder in which it is being built.
        source: Name of the source.
        cases: Number of cases taken.
        patients: Number of patients they belong to.
        left_out: Reason in words to the number of files or cases that it kept out.
        warnings: Sentences for whoever gave the command; no identities, no paths of the input.

    Raises:
        RunError: The folder cannot be written to.
    """
    content = {
        "source": source,
        "cases": cases,
        "patients": patients,
        "left_out": dict(sorted(left_out.items())),
        "warnings": list(warnings),
    }
    write_json(Path(cohort) / FILE, content)


def say_account(cohort: str | Path, console: Console) -> None:
    """Say what was taken and what was left, with the path of the cohort as the last line.

    Args:
        cohort: A cohort that a source made; where it wrote no account, because it takes everything or nothing, its
            cases are counted.
        console: Where to.
    """
    cohort = Path(cohort)
    opened = Cohort.open(cohort)
    account = read_json(cohort / FILE) if (cohort / FILE).is_file() else {}
    lines = [f"{_count(len(opened.cases), 'case')} of {_count(len(opened.patients), 'patient')}, {opened.domain}"]
    lines += [f"outlined by {', '.join(opened.readers)} ({opened.label})" if opened.readers else "not outlined yet"]
    lines += [f"left out: {number} ({reason})" for reason, number in account.get("left_out", {}).items()]
    lines += [f"note: {warning}" for warning in account.get("warnings", [])]
    table = private_folder(cohort) / "files.csv"
    if table.is_file():
        lines.append(f"what became of each file (it may hold names: keep it private): {table}")
    for line in [*lines, str(cohort)]:
        console.print(line, markup=False, highlight=False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
