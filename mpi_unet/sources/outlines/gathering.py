"""Which files hold outlines, and whose outlines of which case they are.

A *reading* is everything that one reader drew on one case in one go; a second read is a reading of its own.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.table import LABELS, Cohort
from mpi_unet.dicom.contours import Edge
from mpi_unet.errors import CohortError, DicomError, listing, nearest
from mpi_unet.sources.naming import (
    CaseFinder,
    alike_readers,
    below,
    compiled,
    files_below,
    groups_of,
    valid_reader,
)
from mpi_unet.sources.outlines.drawn import Drawing, Unit
from mpi_unet.sources.outlines.files import FORMATS, drawings_of, format_of
from mpi_unet.sources.outlines.tables import FileFacts

__all__ = ["Gathered", "Options", "Patterns", "Reading", "assign", "gather", "new_readers"]

NO_OUTLINES = "no outlines in it"
OTHER_FORMAT = "not of the format asked for"
IGNORED = "left out by source.ignore"

Reading = tuple[str, str]
"""A case_id and the column of a reader."""


@dataclass(frozen=True)
class Patterns:
    """The patterns among the arguments, compiled."""

    file: re.Pattern[str] | None
    ignore: re.Pattern[str] | None
    structure: re.Pattern[str] | None
    minus: re.Pattern[str] | None


@dataclass(frozen=True)
class Options:
    """The arguments that decide the masks."""

    label: str
    reader: str | None
    format: str | None
    pattern: str | None
    ignore: str | None
    structure: str | None
    minus: str | None
    units: str | None
    origin: str | None
    first_frame: int
    edge: str
    simulated_readers: bool

    def check(self, base: Cohort, finder: CaseFinder) -> Patterns:
        """Refuse what cannot be used, and compile the patterns."""
        problems = []
        choices: tuple[tuple[str, str | None, Sequence[str]], ...] = (
            ("label", self.label, LABELS),
            ("format", self.format, FORMATS),
            ("units", self.units, get_args(Unit)),
            ("origin", self.origin, ("center", "corner")),
            ("edge", self.edge, get_args(Edge)),
        )
        for name, word, allowed in choices:
            if word is not None and word not in allowed:
                problems.append(
                    f"source.{name}={word or 'null'}; expected {' or '.join(allowed)}{nearest(word, allowed)}"
                )
        if self.first_frame not in (0, 1):
            problems.append(f"source.first_frame={self.first_frame}; expected 0 or 1")
        if self.reader is not None and not valid_reader(self.reader):
            problems.append(f"source.reader={self.reader!r}; expected a name of letters, digits and _")
        if base.label and self.label in LABELS and self.label != base.label:
            problems.append(
                f"source.label={self.label}, but the cohort's outlines are {base.label}; a cohort has one meaning: "
                "make another cohort of the images for these outlines"
            )
        groups = (*finder.groups, "reader", "read", "frame")
        found = {}
        for name, text, known in (
            ("pattern", self.pattern, groups),
            ("ignore", self.ignore, None),
            ("structure", self.structure, ("reader",)),
            ("minus", self.minus, ("reader",)),
        ):
            try:
                found[name] = compiled(f"source.{name}", text, known)
            except CohortError as error:
                problems.append(str(error))
        if problems:
            raise CohortError(f"These options of source=outlines cannot be used:\n{listing(problems)}\nCorrect them")
        return Patterns(found["pattern"], found["ignore"], found["structure"], found["minus"])


@dataclass
class Gathered:
    """What was found below the input."""

    files: list[Path]
    drawings: list[Drawing]
    table: list[dict[str, str]]
    problems: list[str]


def gather(source: Path, finder: CaseFinder, options: Options, patterns: Patterns) -> Gathered:
    """Read every file below the input that holds outlines.

    Raises:
        CohortError: None does.
    """
    gathered = Gathered([], [], [], [])
    for path in files_below(source):
        name = below(path, source)
        if patterns.ignore and groups_of(patterns.ignore, path, source) is not None:
            gathered.table.append({"file": name, "reason": IGNORED})
            continue
        kind = format_of(path)
        if not kind or (options.format and kind != options.format):
            reason = OTHER_FORMAT if kind else NO_OUTLINES
            gathered.table.append({"file": name, "format": kind, "reason": reason})
            continue
        gathered.files.append(path)
        gathered.table.append({"file": name, "format": kind})
        groups = groups_of(patterns.file, path, source) if patterns.file else None
        if groups is None and patterns.file is not None and kind in ("rtstruct", "seg", "volume"):
            gathered.problems.append(
                f"{name}: does not fit source.pattern={options.pattern!r}; correct the pattern, or leave the file out "
                "with source.ignore"
            )
            continue
        facts = FileFacts(
            name=name,
            groups=groups or {},
            reader=(groups or {}).get("reader", options.reader or ""),
            units=cast("Unit | None", options.units),
            origin=cast('Literal["center", "corner"] | None', options.origin),
            first_frame=options.first_frame,
            pattern=patterns.file,
        )
        gathered.drawings += drawings_of(path, kind, facts, finder, gathered.problems)
    if not gathered.files:
        raise CohortError(
            f"input={source} holds no outlines (of {len(gathered.table)} files); expected CSV, JSON, DICOM "
            "structure sets or segmentations, NIfTI or NRRD label maps"
        )
    return gathered


def assign(
    gathered: Gathered, finder: CaseFinder, options: Options, patterns: Patterns, key_file: str | Path | None
) -> tuple[dict[Reading, list[Drawing]], dict[str, int]]:
    """Sort drawings by case and reader, and count what was left out."""
    left_out = Counter(row["reason"] for row in gathered.table if "reason" in row)
    chosen = _chosen(gathered, patterns, left_out)
    by_uid = _by_uid(finder.cohort, {drawing.source_uid for drawing in chosen} - {""}, key_file, gathered.problems)
    readings: dict[Reading, list[Drawing]] = defaultdict(list)
    failed: set[tuple[str, str]] = set()
    for drawing in chosen:
        try:
            case = _case(drawing, finder, by_uid)
            if not valid_reader(drawing.reader):
                raise CohortError(
                    f"reader is {drawing.reader!r}; expected a name of letters, digits and _: "
                    + ("correct it" if drawing.reader else "give source.reader, or a group 'reader' in source.pattern")
                )
        except CohortError as error:
            if (drawing.file, str(error)) not in failed:  # once a file, not once a contour
                gathered.problems.append(f"{drawing.where}: {error}")
            failed.add((drawing.file, str(error)))
            continue
        column = drawing.reader if drawing.read == 1 else f"{drawing.reader}{drawing.read}"
        readings[case.case_id, column].append(drawing)
    for row in gathered.table:
        if "reason" not in row:
            taken = [reading for reading, drawn in readings.items() if any(d.file == row["file"] for d in drawn)]
            row["taken"] = " ".join(sorted({case_id for case_id, _ in taken}))
            row["reader"] = " ".join(sorted({column for _, column in taken}))
    if not chosen and not gathered.problems:
        gathered.problems.append("the files hold no outline; expected at least one")
    return dict(readings), dict(left_out.most_common())


def new_readers(
    readings: Mapping[Reading, Sequence[Drawing]],
    base: Cohort,
    options: Options,
    facts: Mapping[str, Any],
    problems: list[str],
) -> dict[str, str]:
    """New reader columns to the person, in alphabetical order; says what is wrong with their names."""
    readers: dict[str, str] = {}
    for (_, column), drawings in sorted(readings.items(), key=lambda item: item[0][1]):
        for drawing in drawings:
            if readers.setdefault(column, drawing.reader) != drawing.reader:
                problems.append(
                    f"{drawing.where}: {column} is both a reader and a second read of {readers[column]!r} or "
                    f"{drawing.reader!r}; rename the reader"
                )
                break
    problems += alike_readers([*base.readers, *readers])
    problems += [
        f"reader {column} has outlines in the cohort already; call the reader otherwise, or start from the cohort "
        "without these outlines"
        for column in readers
        if column in base.readers
    ]
    problems += [
        f"{column} is a second read of {person}, who has no first one; expected outlines with read 1 too"
        for column, person in readers.items()
        if person not in readers and person not in base.readers
    ]
    known = (*base.readers, *readers)
    problems += [
        f"source.reader_facts names {name!r}, who drew nothing{nearest(str(name), known)}"
        for name in facts
        if name not in known
    ]
    return readers


# --- Private helpers --------------------------------------------------------------------------------------------------


def _chosen(gathered: Gathered, patterns: Patterns, left_out: Counter[str]) -> list[Drawing]:
    """Drawings of the structures that were asked for."""
    chosen: list[Drawing] = []
    for drawing in gathered.drawings:
        fits = [p.fullmatch(drawing.structure) for p in (patterns.structure, patterns.minus) if p is not None]
        match = next((found for found in fits if found is not None), None)
        if match is None and patterns.structure is not None:
            left_out[f"structure {drawing.structure!r} not asked for"] += 1
            continue
        reader = match.groupdict().get("reader") if match else None
        chosen.append(replace(drawing, reader=reader) if reader else drawing)
    structures = ", ".join(repr(name) for name in sorted({drawing.structure for drawing in gathered.drawings}))
    gathered.problems += [
        f"no structure fits source.{option}={pattern.pattern!r}; the files hold {structures}"
        for option, pattern in (("structure", patterns.structure), ("minus", patterns.minus))
        if pattern is not None
        and gathered.drawings
        and not any(pattern.fullmatch(drawing.structure) for drawing in gathered.drawings)
    ]
    plain = {d.structure for d in chosen if patterns.minus is None or patterns.minus.fullmatch(d.structure) is None}
    if patterns.structure is None and len(plain) > 1:
        names = ", ".join(repr(name) for name in sorted(plain))
        gathered.problems.append(
            f"the files hold {len(plain)} structures ({names}); say which to take with "
            "'source.structure=\"<pattern>\"', and with 'source.minus=\"<pattern>\"' which to cut out of it"
        )
    return chosen


def _by_uid(
    cohort: Cohort, uids: set[str], key_file: str | Path | None, problems: list[str]
) -> dict[str, tuple[str, ...]]:
    """SOP Instance UID to the cases made from that image, by the pseudonyms of the cohort."""
    if not uids or key_file is None:
        return {}
    from mpi_unet.dicom.identity import Pseudonyms

    if not Path(key_file).expanduser().is_file():
        problems.append(f"source.key_file={key_file} is not there; give the key file that the cohort was made with")
        return {}
    try:
        pseudonyms = Pseudonyms.from_key_file(Path(key_file))
    except DicomError as error:
        problems.append(str(error))
        return {}
    of_pseudonym: dict[str, list[str]] = defaultdict(list)
    for case in cohort.cases:
        of_pseudonym[case.strata.get("source_uid", "")].append(case.case_id)
    return {uid: tuple(of_pseudonym.get(pseudonyms.uid(uid), ())) for uid in sorted(uids)}


def _case(drawing: Drawing, finder: CaseFinder, by_uid: Mapping[str, tuple[str, ...]]) -> Case:
    """The case of a drawing: by the image it refers to, by what files say, or by both."""
    referred = by_uid.get(drawing.source_uid)
    said = {name: text for name, text in drawing.groups.items() if name in finder.groups}
    if referred is None:
        if not said and drawing.source_uid:
            raise CohortError(
                "refers to a DICOM image; give source.key_file of the cohort, or source.pattern with named groups"
            )
        return finder.find(said)
    if not referred:
        raise CohortError("refers to an image that no case of the cohort was made from (or source.key_file is another)")
    if len(referred) == 1 and not said:
        return finder.cohort.case(referred[0])
    if not said:
        raise CohortError(
            f"refers to an image of {len(referred)} cases ({', '.join(referred[:4])}), such as gates; say which with "
            "source.pattern and a group such as 'gate', one file a gate"
        )
    among = replace(finder.cohort, cases=tuple(case for case in finder.cohort.cases if case.case_id in referred))
    return CaseFinder(among).find(said)
