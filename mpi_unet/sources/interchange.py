"""What the exchange with other programs has in common: whose case a file is, what a cohort knows, folds of a run.

Neither MONAI's datalists nor nnU-Net's data sets know patients. Where nothing else tells, each case counts as a patient
of its own, and a warning says that a split may then put one person on both sides.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpi_unet import __version__
from mpi_unet.cohort.splits import Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, RunError, SplitError, nearest
from mpi_unet.files import write_json, write_remedy
from mpi_unet.sources.placing import check_replaceable, part_of, place_lock, put_in_place

__all__ = [
    "BLOCK",
    "PatientNames",
    "about_cohort",
    "chosen_reader",
    "copied",
    "fold_of_patients",
    "known_facts",
    "made_in_place",
]

BLOCK = "mpi_unet"
"""Key of foreign JSON files under which a cohort keeps what their format has no word for."""

KEPT = (
    "name",
    "domain",
    "label",
    "simulated_readers",
    "spacing_known",
    "licence",
    "intensities",
    "repeat_reads",
    "reader_facts",
)
MARK = ".mpi_unet_export.json"
"""File in an exported folder that says by what it was written, so that it may be replaced."""


class PatientNames:
    """Tells whose case a case is: by its entry, by a table, by a pattern of case ids, or not at all.

    Attributes:
        problems: What is wrong with the table or with names that the pattern does not fit.
    """

    def __init__(self, pattern: re.Pattern[str] | None, table: str | Path | None) -> None:
        self.pattern = pattern
        if pattern is not None and "patient" not in pattern.groupindex:
            raise CohortError(f"source.patient_pattern={pattern.pattern!r} has no group (?P<patient>...)")
        self.table = _patients_of(Path(table)) if table is not None else {}
        self.problems: list[str] = []
        self.unknown = 0

    def patient_of(self, case_id: str, said: str = "") -> str:
        """The patient; of an unknown one the case itself."""
        if said:
            return said
        if self.table:
            if case_id not in self.table:
                self.problems.append(f"{case_id}: source.patients does not list it{nearest(case_id, self.table)}")
            return self.table.get(case_id, case_id)
        if self.pattern is not None:
            match = self.pattern.fullmatch(case_id)
            if match is None:
                self.problems.append(f"{case_id}: source.patient_pattern={self.pattern.pattern!r} does not fit it")
            return match["patient"] if match else case_id
        self.unknown += 1
        return case_id

    def warnings(self, num_cases: int) -> list[str]:
        """What the user should know about the patients."""
        if not self.unknown:
            return []
        return [
            f"nothing says whose {self.unknown} of {num_cases} cases are, so each counts as a patient of its own: if "
            "one person has several, a split may leak; give source.patient_pattern or source.patients"
        ]


def about_cohort(cohort: Cohort, reader: str | None) -> dict[str, Any]:
    """What a cohort knows that other formats do not, for `BLOCK`."""
    facts = {key: cohort.metadata[key] for key in KEPT if key in cohort.metadata}
    return facts | {"reader": reader, "version": __version__}


def known_facts(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `about_cohort` has written, as far as it is of the right kind; empty in files from elsewhere."""
    block = content.get(BLOCK)
    if not isinstance(block, dict):
        return {}
    kinds = {"simulated_readers": bool, "spacing_known": bool, "repeat_reads": dict, "reader_facts": dict}
    return {
        key: value
        for key, value in block.items()
        if key in (*KEPT, "reader") and isinstance(value, kinds.get(key, str))
    }


def chosen_reader(cohort: Cohort, reader: str | None) -> str | None:
    """The reader whose outlines are exported; None in a cohort that nobody outlined.

    Raises:
        CohortError: There is no such reader, or none was named and there are several.
    """
    if reader is not None and reader not in cohort.readers:
        there = ", ".join(cohort.readers) or "none"
        raise CohortError(f"reader={reader}: readers of the cohort are {there}{nearest(reader, cohort.readers)}")
    if reader is None and len(cohort.readers) > 1:
        raise CohortError(
            f"the cohort has the readers {', '.join(cohort.readers)}; say with reader=<name> whose outlines are the "
            "labels (a datalist holds those of the others as label_<reader>)"
        )
    return reader or (cohort.readers[0] if cohort.readers else None)


def fold_of_patients(split: Split) -> dict[str, int]:
    """Patient to the fold in which they are tested.

    Raises:
        SplitError: Images were divided rather than patients, or somebody is tested in no fold or in several.
    """
    if split.unit != "patient":
        raise SplitError(f"the run was split by {split.unit}; other programs get folds by patient only")
    folds: dict[str, int] = {}
    for number, fold in enumerate(split.folds):
        for patient in fold.test:
            if patient in folds:
                raise SplitError(f"patient {patient} is tested in folds {folds[patient]} and {number}; expected one")
            folds[patient] = number
    return folds


def copied(path: Path, place: Path, part: Path) -> str:
    """Copy a file of a cohort, for a link would let other programs change it; returns its path below ``part``."""
    if not path.is_file():
        raise CohortError(f"{path.name} of the cohort is missing; make the cohort again")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)
    return place.relative_to(part).as_posix()


@contextmanager
def made_in_place(output: str | Path, format: str) -> Iterator[Path]:
    """Give a hidden folder to write an export to, and rename it to ``output`` when the body is done.

    Raises:
        CohortError: ``output`` holds something that no export has written.
        RunError: The disk is full or the folder cannot be written to.
    """
    output = Path(output)
    check_replaceable(output, _written_as(output) == format, source=f"format={format}")
    part = part_of(output, format)
    with place_lock(output):
        try:
            shutil.rmtree(part, ignore_errors=True)  # of a command that was killed
            part.mkdir(parents=True)
            yield part
            write_json(part / MARK, {"format": format, "mpi_unet": __version__})
            put_in_place(part, output)
        except OSError as error:
            raise RunError(
                f"{output} cannot be written: {error.strerror or error}; {write_remedy(error, 'output')}"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _written_as(output: Path) -> str | None:
    try:
        return str(json.loads((output / MARK).read_text(encoding="utf-8"))["format"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _patients_of(path: Path) -> dict[str, str]:
    """The table of source.patients: case_id to patient_id."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"source.patients={path} cannot be read ({error}); expected a CSV file") from error
    if not rows or not {"case_id", "patient_id"} <= set(rows[0]):
        raise CohortError(f"source.patients={path} has not the columns case_id and patient_id; expected both")
    patients: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        case_id, patient = (row["case_id"] or "").strip(), (row["patient_id"] or "").strip()
        if not case_id or not patient or patients.get(case_id, patient) != patient:
            raise CohortError(
                f"source.patients={path}, line {line}: case {case_id!r}, patient {patient!r}; expected one each"
            )
        patients[case_id] = patient
    return patients
