"""A cohort as it lies on disk: ``cohort.json``, ``cases.csv`` and the files they name.

``cohort.json`` says what the images are (domain), what the masks outline (label), who outlined (readers) and where
all that comes from; ``cases.csv`` has one row a case. ``cohort.json`` is written last: where it stands, the cohort is
complete. Opening a cohort reads these two files only; :meth:`Cohort.check` reads every pixel and names everything
that is wrong.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet import __version__
from mpi_unet.cohort.case import DESCRIBING_COLUMNS, Case, exclude_option
from mpi_unet.cohort.checks import case_problems, table_problems
from mpi_unet.cohort.readings import is_reading
from mpi_unet.errors import CohortError, listing, nearest
from mpi_unet.files import sha256, write_json, write_text

__all__ = ["DOMAINS", "LABELS", "Cohort", "write_cohort_table"]

SCHEMA_VERSION = "1.0.0"
"""Of ``cohort.json``; a reader understands every version with the same first number."""

DOMAINS = ("projection", "transaxial", "short_axis")
"""What an image can be: views of the camera, or a reconstruction in body or heart axes."""

LABELS = ("lv_filled", "lv_wall", "lv_cavity")
"""What a mask can outline: the left ventricle within its outer border, its wall, its cavity."""

NOT_OUTLINED = ""
"""``label`` of a cohort that nobody outlined yet."""

ID_COLUMNS = ("case_id", "patient_id", *DESCRIBING_COLUMNS, "image")
LABEL_PREFIX = "label_"
METADATA_KEYS = {
    "name": str,
    "domain": str,
    "label": str,
    "readers": list,
    "simulated_readers": bool,
    "source": str,
    "licence": str,
    "intensities": str,
    "spacing_known": bool,
}
OPTIONAL_KEYS = {"repeat_reads": dict, "reader_facts": dict}


@dataclass(frozen=True)
class Cohort:
    """The cases of a cohort and what their images and masks mean.

    Attributes:
        root: The folder.
        name: Name of the cohort.
        domain: One of :data:`DOMAINS`.
        label: One of :data:`LABELS`; empty when nobody outlined yet.
        readers: Everyone who outlined at least one case.
        simulated_readers: Whether the readers are simulated rather than human.
        spacing_known: False when nobody knows the size of a pixel; scores in mm and ml are then left out.
        metadata: The whole content of ``cohort.json``.
        cases: The cases in the order of ``cases.csv``, without the excluded ones.
    """

    root: Path
    name: str
    domain: str
    label: str
    readers: tuple[str, ...]
    simulated_readers: bool
    spacing_known: bool
    metadata: dict[str, Any]
    cases: tuple[Case, ...]

    @classmethod
    def open(cls, root: str | Path, exclude: Sequence[str] = ()) -> Cohort:
        """Open a cohort; only its two tables are read.

        Args:
            root: The cohort folder.
            exclude: Ids of cases to leave out.

        Raises:
            CohortError: The folder is missing or is no cohort, its schema is not understood, a column is missing, or
                ``exclude`` names a case that is not there.
        """
        root = Path(root)
        metadata = _read_metadata(root)
        cases = _read_cases(root, metadata["readers"])
        return cls(
            root=root,
            name=metadata["name"],
            domain=metadata["domain"],
            label=metadata["label"],
            readers=tuple(metadata["readers"]),
            simulated_readers=metadata["simulated_readers"],
            spacing_known=metadata["spacing_known"],
            metadata=metadata,
            cases=_without(cases, [str(case_id) for case_id in exclude], root),
        )

    @property
    def repeat_reads(self) -> dict[str, str]:
        """Reader column to the reader who drew it as a second, independent read: ``{"A2": "A"}``."""
        return dict(self.metadata.get("repeat_reads", {}))

    @property
    def reader_facts(self) -> dict[str, dict[str, Any]]:
        """Reader to what the cohort says of the person: role, years, tool, whether blinded; only reported."""
        return dict(self.metadata.get("reader_facts", {}))

    @property
    def patients(self) -> tuple[str, ...]:
        """Ids of the patients, sorted, each once."""
        return tuple(sorted({case.patient_id for case in self.cases}))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``cases.csv`` that describe a case and so can stratify a split."""
        return (*DESCRIBING_COLUMNS, *(self.cases[0].strata if self.cases else ()))

    def case(self, case_id: str) -> Case:
        """The case with this id.

        Raises:
            CohortError: There is none.
        """
        for case in self.cases:
            if case.case_id == case_id:
                return case
        hint = nearest(case_id, [case.case_id for case in self.cases])
        raise CohortError(f"no case {case_id!r} among the {len(self.cases)} cases of {self.root}{hint}")

    def cases_of(self, patient_id: str) -> tuple[Case, ...]:
        """All cases of one patient, in the order of ``cases.csv``; empty for an unknown patient."""
        return tuple(case for case in self.cases if case.patient_id == patient_id)

    def check(self, reader: str) -> None:
        """Read every image and every label of ``reader`` and report everything that is wrong at once.

        Raises:
            CohortError: One error that names each case, what was found and what was expected, and the override
                that leaves these cases out.
        """
        if not self.cases:
            raise CohortError(f"no case is left (data.root={self.root}); expected at least one; check data.exclude")
        if reader not in self.readers:
            there = ", ".join(self.readers) or "none"
            raise CohortError(
                f"data.reader={reader}: nobody of that name outlined in {self.root}; "
                f"readers there: {there}{nearest(reader, self.readers)}"
            )
        from_table = table_problems(self.cases, self.root)
        is_volume = self.domain != "projection"
        lines, offenders = [], []
        for row, case in enumerate(self.cases):
            problems = from_table.get(row, [])
            if not any("leads out of the cohort" in problem for problem in problems):
                problems = problems + case_problems(case, reader, self.spacing_known and is_volume)
            if problems:
                offenders.append(case.case_id)
                lines += [f"{case.case_id or f'row {row + 2} of cases.csv'}: {problem}" for problem in problems]
        if lines:
            remedy = exclude_option(sorted(set(offenders)))
            raise CohortError(
                f"{len(offenders)} of {len(self.cases)} cases cannot be used (data.root={self.root}):\n"
                f"{listing(lines)}\nFix the files, or leave these cases out with {remedy}"
            )

    def fingerprint(self, reader: str) -> str:
        """Hexadecimal SHA-256 of what the cohort holds for this reader.

        It covers domain, label meaning, ids, describing columns, geometry and decoded pixels; it does not depend on the
        order of the rows, on file names or on how the files are compressed.
        """
        digests = [self._case_digest(case, reader) for case in sorted(self.cases, key=lambda case: case.case_id)]
        return sha256(self.domain, self.label, str(self.spacing_known), reader, *digests)

    def _case_digest(self, case: Case, reader: str) -> str:
        volume = case.read_image()
        mask = case.read_mask(reader) if reader in case.labels else np.zeros((0, 0, 0), dtype=bool)
        columns = {name: case.column(name) for name in self.columns}
        return sha256(
            case.case_id,
            case.patient_id,
            json.dumps(columns, sort_keys=True),
            repr((volume.array.shape, mask.shape)),
            np.round(volume.affine, 4).astype("<f8").tobytes(),
            volume.array.astype("<f4", copy=False).tobytes(),
            np.packbits(mask).tobytes(),
        )


def write_cohort_table(root: str | Path, *, metadata: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> None:
    """Write ``cases.csv`` and then ``cohort.json``, each whole or not at all.

    Args:
        root: The cohort folder, where images and labels are already in place.
        metadata: Content of ``cohort.json``; ``schema_version`` and the version of mpi_unet are added.
        rows: One mapping a case, column to text; a column that a row lacks is left empty. Paths are relative to
            ``root``.

    Raises:
        CohortError: A required key or column is missing, or a value is not of the kind expected.
        RunError: The disk is full or the folder cannot be written to.
    """
    root = Path(root)
    content = {"schema_version": SCHEMA_VERSION, **metadata, "mpi_unet": __version__}
    _check_metadata(content, root)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    ordered = [*ID_COLUMNS, *(LABEL_PREFIX + reader for reader in content["readers"])]
    ordered += [column for column in columns if column not in ordered]
    _check_columns(ordered, content["readers"], root)
    text = io.StringIO()
    writer = csv.DictWriter(text, ordered, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(root / "cases.csv", text.getvalue())
    write_json(root / "cohort.json", content)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _read_metadata(root: Path) -> dict[str, Any]:
    path = root / "cohort.json"
    if not path.is_file():
        what = "is not a cohort: it has no cohort.json" if root.is_dir() else "does not exist"
        raise CohortError(
            f"data.root={root} {what}; give the folder of a cohort with data.root=<cohort>, "
            "or try the built-in one with data=phantom"
        )
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CohortError(f"{path} cannot be read ({error}); expected JSON") from error
    if not isinstance(metadata, dict):
        raise CohortError(
            f"{path} holds a {type(metadata).__name__}; expected an object with {', '.join(METADATA_KEYS)}"
        )
    version = str(metadata.get("schema_version", "missing"))
    if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise CohortError(
            f"{path}: schema_version is {version}; this mpi_unet reads {SCHEMA_VERSION}; "
            "make the cohort again from its source, or install the mpi_unet that wrote it"
        )
    _check_metadata(metadata, root)
    return metadata


def _check_metadata(metadata: Mapping[str, Any], root: Path) -> None:
    problems = []
    for key, kind in METADATA_KEYS.items():
        if key not in metadata:
            problems.append(f"{key}: missing; expected {_kind(kind)}")
        elif not isinstance(metadata[key], kind):
            problems.append(f"{key}: is {metadata[key]!r}; expected {_kind(kind)}")
    problems += [
        f"{key}: is {metadata[key]!r}; expected an object" for key in OPTIONAL_KEYS if not _is_kind(metadata, key)
    ]
    readers = metadata.get("readers")
    labels = LABELS if readers else (NOT_OUTLINED,)
    for key, allowed in (("domain", DOMAINS), ("label", labels)):
        word = metadata.get(key)
        if key == "label" and readers == [] and word:
            problems.append(f"label: is {word!r}; expected '' where readers is empty, for nobody outlined anything")
        elif isinstance(word, str) and word not in allowed:
            problems.append(f"{key}: is {word!r}; expected one of {', '.join(allowed)}{nearest(word, allowed)}")
    if isinstance(readers, list) and (
        not all(isinstance(reader, str) and reader for reader in readers) or len(set(readers)) < len(readers)
    ):
        problems.append(f"readers: is {readers!r}; expected names, each once")
    elif isinstance(readers, list):
        problems += _unknown_readers(metadata, readers)
    if problems:
        raise CohortError(f"{root / 'cohort.json'} is not complete:\n{listing(problems)}\nCorrect these keys")


def _is_kind(metadata: Mapping[str, Any], key: str) -> bool:
    return isinstance(metadata.get(key, {}), OPTIONAL_KEYS[key])


def _unknown_readers(metadata: Mapping[str, Any], readers: Sequence[str]) -> list[str]:
    """Readers that the optional keys name and ``readers`` does not."""
    repeats, facts = metadata.get("repeat_reads", {}), metadata.get("reader_facts", {})
    named = [("repeat_reads", name) for pair in repeats.items() for name in pair] if isinstance(repeats, dict) else []
    named += [("reader_facts", name) for name in facts] if isinstance(facts, dict) else []
    return [
        f"{key}: names {name!r}, who is not among the readers{nearest(str(name), readers)}"
        for key, name in named
        if name not in readers
    ]


def _kind(kind: type) -> str:
    return {str: "text", bool: "true or false", list: "a list"}[kind]


def _read_cases(root: Path, readers: Sequence[str]) -> tuple[Case, ...]:
    path = root / "cases.csv"
    if not path.is_file():
        raise CohortError(f"{path} is missing; a cohort has one row a case there; make the cohort again")
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines, strict=True)
            rows = list(table)
            columns = list(table.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        raise CohortError(f"{path} cannot be read ({error}); expected comma-separated text in UTF-8") from error
    _check_columns(columns, readers, root)
    ragged = [str(row + 2) for row, content in enumerate(rows) if None in content or None in content.values()]
    if ragged:
        raise CohortError(
            f"{path}: row {', '.join(ragged)} has not {len(columns)} cells like the header; correct the rows"
        )
    if not rows:
        raise CohortError(f"{path} lists no case; expected one row a case")
    return tuple(_case(row, root, readers) for row in rows)


def _check_columns(columns: Sequence[str], readers: Sequence[str], root: Path) -> None:
    wanted = [*ID_COLUMNS, *(LABEL_PREFIX + reader for reader in readers)]
    problems = [f"column {column!r} is missing{nearest(column, columns)}" for column in wanted if column not in columns]
    problems += [
        f"column {column!r} is there, but cohort.json names no reader {column.removeprefix(LABEL_PREFIX)!r}"
        for column in columns
        if column.startswith(LABEL_PREFIX) and column not in wanted
    ]
    problems += [f"column {column!r} is there twice" for column in sorted(set(columns)) if columns.count(column) > 1]
    if problems:
        raise CohortError(
            f"{root / 'cases.csv'} has not the columns of a cohort:\n{listing(problems)}\n"
            f"Expected {', '.join(wanted)}, and any further columns to stratify by"
        )


def _case(row: Mapping[str, str], root: Path, readers: Iterable[str]) -> Case:
    files = {reader: row[LABEL_PREFIX + reader] for reader in readers}
    known = (*ID_COLUMNS, *(LABEL_PREFIX + reader for reader in files))
    return Case(
        case_id=row["case_id"],
        patient_id=row["patient_id"],
        acquisition=row["acquisition"],
        gate=row["gate"],
        camera=row["camera"],
        image=root / row["image"],
        labels={reader: root / file for reader, file in files.items() if file},
        strata={column: value for column, value in row.items() if column not in known and not is_reading(column)},
        readings={column: value for column, value in row.items() if column not in known and is_reading(column)},
    )


def _without(cases: tuple[Case, ...], exclude: Sequence[str], root: Path) -> tuple[Case, ...]:
    ids = {case.case_id for case in cases}
    unknown = [f"{case_id}: no such case{nearest(case_id, ids)}" for case_id in exclude if case_id not in ids]
    if unknown:
        raise CohortError(
            f"data.exclude names {len(unknown)} cases that {root} does not have:\n{listing(unknown)}\n"
            "Correct the ids, or leave them out of data.exclude"
        )
    return tuple(case for case in cases if case.case_id not in exclude)
