"""What file names say of their case: patterns with named groups, and the case of a cohort that the groups mean.

A *pattern* is a regular expression for the whole name of a file or, when it contains a slash, for its path below the
folder that is searched. Groups are names such as ``patient``, ``case``, ``reader`` or ``frame``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mpi_unet.cohort.case import DESCRIBING_COLUMNS, Case
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, nearest
from mpi_unet.sources.pairing import case_id_of

__all__ = ["CaseFinder", "alike_readers", "below", "compiled", "files_below", "groups_of", "valid_reader"]


def compiled(option: str, pattern: str | None, groups: Collection[str] | None = None) -> re.Pattern[str] | None:
    """Compile the pattern of an option.

    Args:
        option: Its name, for the error.
        pattern: The regular expression, or None.
        groups: The groups that it may have; None when any may be.

    Raises:
        CohortError: It is no regular expression, or has another group.
    """
    if pattern is None:
        return None
    try:
        result = re.compile(pattern)
    except re.error as error:
        raise CohortError(f"{option}={pattern!r} is no regular expression: {error}; correct it") from error
    for group in result.groupindex:
        if groups is not None and group not in groups:
            raise CohortError(
                f"{option}={pattern!r} has the group {group!r}; expected {', '.join(groups)}{nearest(group, groups)}"
            )
    return result


def groups_of(pattern: re.Pattern[str], path: Path, root: Path) -> dict[str, str] | None:
    """The groups that are there in a file's name, or None when the pattern does not fit it."""
    match = pattern.fullmatch(below(path, root) if "/" in pattern.pattern else path.name)
    return {name: text for name, text in match.groupdict().items() if text is not None} if match else None


def below(path: Path, root: Path) -> str:
    """The path of a file from the folder that is searched, as it is said in errors and tables.

    Example:
        >>> below(Path("/data/A/x.csv"), Path("/data")), below(Path("/data/x.csv"), Path("/data/x.csv"))
        ('A/x.csv', 'x.csv')
    """
    return path.name if path == root else path.relative_to(root).as_posix()


def files_below(root: Path) -> list[Path]:
    """The file itself, or every file below a folder in the order of their names; hidden ones do not count."""
    if root.is_file():
        return [root]
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]


def valid_reader(name: str) -> bool:
    """Whether a reader's name can be a column and a folder.

    Example:
        >>> valid_reader("A2"), valid_reader("Dr. B"), valid_reader("")
        (True, False, False)
    """
    return name.isidentifier() and name.isascii()


def alike_readers(readers: Sequence[str]) -> list[str]:
    """Readers whose folders are one where file names do not tell capitals from small letters, in one sentence each.

    Example:
        >>> alike_readers(["A", "B", "a"])
        ["readers 'A' and 'a' differ in capitals only, which some disks do not tell apart; rename one of them"]
    """
    seen: dict[str, str] = {}
    return [
        f"readers {first!r} and {name!r} differ in capitals only, which some disks do not tell apart; "
        "rename one of them"
        for name in readers
        if (first := seen.setdefault(name.casefold(), name)) != name
    ]


class CaseFinder:
    """Finds the one case of a cohort that is meant.

    Groups that are understood: ``case_id``; ``case`` (a case_id or, together with ``patient``, the part of it behind
    the patient, as source=pairs makes it); ``patient`` or ``patient_id``; and every column of ``cases.csv``.
    """

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.groups = ("case_id", "case", "patient", "patient_id", *cohort.columns)

    def find(self, groups: Mapping[str, str]) -> Case:
        """The case that fits all groups.

        Raises:
            CohortError: None fits, or several do.
        """
        wanted = {name: text.strip() for name, text in groups.items() if name in self.groups and text.strip()}
        said = ", ".join(f"{name} {text!r}" for name, text in wanted.items())
        if not wanted:
            raise CohortError("says nothing of its case; name it in the file, or give source.pattern with named groups")
        fitting = [case for case in self.cohort.cases if _fits(case, wanted)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            ids = ", ".join(case.case_id for case in fitting[:4]) + (", ..." if len(fitting) > 4 else "")
            raise CohortError(f"{said} fits {len(fitting)} cases ({ids}); expected one: say more of it")
        known = [case.case_id for case in self.cohort.cases]
        hint = nearest(wanted.get("case_id", wanted.get("case", "")), known)
        raise CohortError(f"{said} is no case of the cohort{hint}")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _fits(case: Case, wanted: Mapping[str, str]) -> bool:
    if "case" in wanted and "patient" in wanted:
        ids: Sequence[str] = (wanted["case"], case_id_of(wanted["patient"], wanted["case"]))
    elif "case" in wanted:
        ids = (wanted["case"],)
    else:
        ids = (case.case_id,)
    if case.case_id not in ids or wanted.get("case_id", case.case_id) != case.case_id:
        return False
    if wanted.get("patient_id", case.patient_id) != case.patient_id:
        return False
    if "patient" in wanted and "case" not in wanted and wanted["patient"] != case.patient_id:
        return False
    columns = {name: text for name, text in wanted.items() if name in DESCRIBING_COLUMNS or name in case.strata}
    return all(_same(case.column(name) or "", text) for name, text in columns.items())


def _same(there: str, wanted: str) -> bool:
    """Equal texts, or equal whole numbers: gate 03 is gate 3."""
    if there.isdecimal() and wanted.isdecimal():
        return int(there) == int(wanted)
    return there == wanted
