"""What ``input=`` names: the studies to be segmented, and everything there that is no study, with its reason.

A cohort is taken as it is. Anything else is first made a cohort, ``<output>/cohort``, by a source of ``conf/source``,
``source=dicom`` unless another one is chosen. So there is one way to recognize studies, one kind of pseudonyms, and
one private table that says which file is which: file names of a clinic hold names of people, so the table of
predictions names a file that is no study by its line in ``<output>/cohort_private/files.csv``.
"""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.checks import table_problems
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, PacsError
from mpi_unet.inference.dicom_options import is_address
from mpi_unet.sources.account import private_folder
from mpi_unet.sources.dicom.choice import NOTHING_ELSE, OTHER_DOMAIN, SAME_IDENTIFIER
from mpi_unet.sources.placing import check_apart

__all__ = ["Input", "Other", "Study", "open_input"]

DEFAULT_SOURCE = "mpi_unet.sources.dicom.dicom_cohort"

PACS_SOURCE = "mpi_unet.sources.pacs.pacs_cohort"
"""Of an input that is an address."""

TABLE = "files.csv"

RETRIEVAL = "retrieval.csv"
"""What the source ``pacs`` says about each study that it asked for."""

UNREADABLE = (
    "the image cannot be read",
    "cannot be read",
    "its header cannot be read",
    "cannot be opened",
    "a folder ",
    SAME_IDENTIFIER,
)
"""How reasons of ``source=dicom`` begin that say nothing about what a file is: it may have been a study."""

TOMOGRAPHIC = ("TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO")
"""Kinds of files that are studies of some organ."""

NOT_WANTED = ("the same ", "another image of an acquisition", "another organ", "another part", "an attenuation map")
"""How reasons begin of tomographic images that nobody misses: copies, and what is no heart."""


@dataclass(frozen=True)
class Study:
    """One image to be segmented.

    Attributes:
        case: Where it lies and whose it is.
        domain: What the image is.
        label: What outlines of its cohort mean; empty when nobody outlined it.
        spacing_known: Whether the size of its voxels is known.
        cohort: Name of its cohort.
        pseudonym_key: Fingerprint of the key of its pseudonyms; empty without one.
    """

    case: Case
    domain: str
    label: str
    spacing_known: bool
    cohort: str
    pseudonym_key: str

    @property
    def study_id(self) -> str:
        """Names its files."""
        return self.case.case_id

    @property
    def source_uid(self) -> str:
        """Keyed SOPInstanceUID of the object that it comes from; empty when it comes from none."""
        return self.case.strata.get("source_uid", "")

    @property
    def is_placed(self) -> bool:
        """Whether the image says how it lies in the patient."""
        return self.case.strata.get("place", "") != "unknown"


@dataclass(frozen=True)
class Other:
    """Something of the input that is not segmented.

    Attributes:
        name: What the table calls it.
        status: ``refused``, ``failed`` or ``not_a_study``.
        reason: In words.
        is_missed: Whether it is part of what was asked for. An image of another domain is refused, but not missed where
            the same acquisition has one of the right domain: raw projections lie beside the slices in every export.
    """

    name: str
    status: str
    reason: str
    is_missed: bool


@dataclass(frozen=True)
class Input:
    """The studies of an input.

    Attributes:
        cohort: That holds them; None when there is none.
        bad_rows: Row of ``cases.csv`` (from 0) to why it cannot be used.
        others: What is no study.
        error: Why there is no cohort; the table is written all the same.
    """

    cohort: Cohort | None
    bad_rows: Mapping[int, str]
    others: tuple[Other, ...]
    error: CohortError | None = None

    def studies(self) -> Iterator[Study]:
        """Every study that has a usable row, in the order of the cohort."""
        if self.cohort is None:
            return
        key = str(self.cohort.metadata.get("pseudonym_key", ""))
        for row, case in enumerate(self.cohort.cases):
            if row not in self.bad_rows:
                yield Study(
                    case, self.cohort.domain, self.cohort.label, self.cohort.spacing_known, self.cohort.name, key
                )

    def __len__(self) -> int:
        return 0 if self.cohort is None else len(self.cohort.cases) - len(self.bad_rows)


def open_input(input: str | Path, output: str | Path, *, domain: str, source: Mapping[str, Any] | None = None) -> Input:
    """Open what ``input=`` names.

    Args:
        input: A cohort folder, or what the source reads.
        output: Folder of the predictions; the cohort is made in it where there is none yet.
        domain: What the network learnt; where a source can choose between images, it takes these.
        source: ``_target_`` and arguments of a source of ``conf/source``; None takes ``source=dicom``.

    Raises:
        MpiUnetError: The input is neither a cohort nor what the source can read, or lies in the output.
    """
    place = Path(output) / "cohort"
    if (Path(input) / "cohort.json").is_file():
        check_apart(input, output)
        return _of_cohort(Cohort.open(input), ())
    arguments = default_source(input) if source is None else dict(source)
    from hydra.utils import get_method

    make = get_method(str(arguments.pop("_target_")))
    accepted = inspect.signature(make).parameters
    arguments = as_for_studies(make, arguments, domain)
    first, second = list(accepted)[:2]
    if first != "input":
        raise CohortError(
            f"input={input} is no cohort, and source={make.__name__} reads no input; give a cohort folder"
        )
    if not Path(input).exists() and make.__module__.startswith("mpi_unet.sources.dicom"):
        raise CohortError(f"input={input} does not exist; give the folder of a cohort, or of DICOM files")
    table = private_folder(place) / TABLE
    before = _time_of(table)
    retrieval = private_folder(place) / RETRIEVAL
    asked = _time_of(retrieval)
    try:
        cohort = Cohort.open(make(**(arguments | {first: input, second: place})))
    except PacsError:
        if _time_of(retrieval) == asked or not any(
            row["state"] == "chosen" and not row["problem"] for row in _rows(retrieval)
        ):
            raise
        lost = _not_retrieved(retrieval)  # the cohort of the others is in place
        return _of_cohort(Cohort.open(place), (*lost, *(_others(table) if table.is_file() else ())))
    except CohortError as error:
        if table.is_file() and _time_of(table) != before:  # it speaks of these very files
            return Input(None, {}, _others(table), error)
        raise
    return _of_cohort(cohort, _others(table) if table.is_file() else ())


def default_source(input: str | Path) -> dict[str, Any]:
    """The source of an input for which none was chosen: a PACS behind an address, else a folder of DICOM files."""
    return {"_target_": PACS_SOURCE if is_address(str(input)) else DEFAULT_SOURCE}


def as_for_studies(make: Callable[..., Any], arguments: Mapping[str, Any], domain: str) -> dict[str, Any]:
    """Arguments of a source that take images like those of training and leave out files that contradict each other.

    Where nobody chose otherwise, and where the source can: a cohort to learn from is refused over such files, but no
    new study must wait for those of others.
    """
    accepted, given = inspect.signature(make).parameters, dict(arguments)
    for name, value in (("domain", domain), ("same_identifier", "leave_out")):
        if name in accepted and given.get(name) is None:
            given[name] = value
        elif "dicom" in accepted and (given.get("dicom") or {}).get(name) is None:  # a PACS hands on to source=dicom
            given["dicom"] = {**(given.get("dicom") or {}), name: value}
    return given


# --- Private helpers --------------------------------------------------------------------------------------------------


def _time_of(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _not_retrieved(table: Path) -> tuple[Other, ...]:
    """Studies of which something did not come, by their number: identifiers stay in the private table."""
    numbers = dict.fromkeys(row["study"] for row in _rows(table) if row["problem"])
    return tuple(
        Other(f"study {number} of {RETRIEVAL}", "failed", "not all of it could be retrieved", is_missed=True)
        for number in numbers
    )


def _of_cohort(cohort: Cohort, others: tuple[Other, ...]) -> Input:
    problems = table_problems(cohort.cases, cohort.root)
    bad = {row: "; ".join(found) for row, found in problems.items()}
    rows = tuple(Other(f"row {row + 2} of cases.csv", "failed", reason, is_missed=True) for row, reason in bad.items())
    return Input(cohort, bad, rows + others)


def _others(table: Path) -> tuple[Other, ...]:
    with table.open(newline="", encoding="utf-8") as file:
        return tuple(
            _other(f"line {line} of {TABLE}", row["kind"], row["reason"])
            for line, row in enumerate(csv.DictReader(file), start=2)
            if not row["taken"]
        )


def _other(name: str, kind: str, reason: str) -> Other:
    status = _status(kind, reason)
    is_beside = OTHER_DOMAIN in reason and not reason.endswith(NOTHING_ELSE)
    return Other(name, status, reason, is_missed=status != "not_a_study" and not is_beside)


def _status(kind: str, reason: str) -> str:
    """What became of a file that is no case.

    Example:
        >>> _status("other", "no DICOM file"), _status("RECON TOMO", "the image cannot be read")
        ('not_a_study', 'failed')
        >>> _status("TOMO", "a set of projections; the cohort holds short-axis slices")
        'refused'
    """
    if reason.startswith(UNREADABLE):
        return "failed"
    if kind in TOMOGRAPHIC and not reason.startswith(NOT_WANTED):
        return "refused"
    return "not_a_study"
