"""Outlines that readers drew elsewhere are added to a cohort.

The images stay as they are; a new cohort stands beside the old one, with the columns of its readers and those of the
new ones. A file may hold contours in a table, a DICOM structure set or segmentation, a label map of 3D Slicer or
ITK-SNAP, or LabelMe or COCO JSON (docs/outlines.md). What is wrong with any of it is said at once, and then nothing is
written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from mpi_unet.cohort.nifti import write_mask
from mpi_unet.cohort.table import Cohort, write_cohort_table
from mpi_unet.dicom.contours import Edge
from mpi_unet.errors import CohortError, listing
from mpi_unet.files import sha256
from mpi_unet.shapes import Mask
from mpi_unet.sources.account import write_account, write_private_table
from mpi_unet.sources.naming import CaseFinder, below
from mpi_unet.sources.outlines.drawn import Drawing, Grid, grid_of, mask_of
from mpi_unet.sources.outlines.gathering import Gathered, Options, Patterns, Reading, assign, gather, new_readers
from mpi_unet.sources.placing import KEY, check_apart, cohort_in_making

__all__ = ["outlines_cohort"]

OUTLINES_VERSION = 1
"""Raised whenever the same files and arguments give another cohort; a cohort of another version is made again."""


def outlines_cohort(
    input: str | Path,
    output: str | Path,
    *,
    cohort: str | Path | None = None,
    label: str | None = None,
    reader: str | None = None,
    format: str | None = None,
    pattern: str | None = None,
    ignore: str | None = None,
    structure: str | None = None,
    minus: str | None = None,
    units: str | None = None,
    origin: str | None = None,
    first_frame: int = 0,
    edge: str = "inside",
    key_file: str | Path | None = None,
    simulated_readers: bool = False,
    reader_facts: Mapping[str, Any] | None = None,
) -> Path:
    """Add the outlines of readers to a cohort.

    Args:
        input: File of outlines, or a folder that is searched for them with its subfolders.
        output: Folder of the new cohort.
        cohort: The cohort whose images were outlined; it is not changed.
        label: What was outlined: ``lv_filled``, ``lv_wall`` or ``lv_cavity``.
        reader: Who drew, where files do not say.
        format: One of `FORMATS` to read nothing else; by default each file is read as what it is.
        pattern: Regular expression of file names, and of the names of images that stand in tables and JSON. Its groups
            say the case (``case_id``, ``case``, ``patient`` or a column of cases.csv), ``reader``, ``read``, ``frame``.
        ignore: Regular expression of files to leave out.
        structure: Regular expression of the structures to take (names of ROIs, segments, labels, categories; values of
            a label map), needed where files hold several; a group ``reader`` in it says who drew.
        minus: Regular expression of structures that are cut out: the inner outline of a wall.
        units: ``pixel`` or ``mm``, where the columns of a table do not say it.
        origin: ``center`` or ``corner``: whether (0, 0) is the center or the outer corner of the first pixel. By
            default the center in tables and the corner in LabelMe and COCO.
        first_frame: Number of the first frame in files, 0 or 1.
        edge: ``inside`` or ``outside``: what becomes of pixel centers exactly on a contour.
        key_file: Key of the pseudonyms of the cohort, with which DICOM outlines find the image they refer to.
        simulated_readers: Whether these readers are simulated.
        reader_facts: Reader to facts for the report (role, years, tool, blinded).

    Returns:
        The folder of the new cohort.

    Raises:
        CohortError: An argument cannot be used, or, in one error: outlines of unknown cases, frames out of range,
            contours that are open, cross themselves, have fewer than three points, reach out of the image or hold no
            pixel, label maps on other grids, files that cannot be read.
        RunError: The disk is full or ``output`` cannot be written to.
    """
    if not cohort:
        raise CohortError(
            "source.cohort must be given: the cohort whose images were outlined, as source=dicom makes it"
        )
    source, output, base = Path(input), Path(output), Cohort.open(cohort)
    if not source.exists():
        raise CohortError(f"input={source} is not there; give a file of outlines or a folder of them")
    check_apart(base.root, output)
    check_apart(source, output)
    finder = CaseFinder(base)
    options = Options(
        label or "",
        reader,
        format,
        pattern,
        ignore,
        structure,
        minus,
        units,
        origin,
        first_frame,
        edge,
        simulated_readers,
    )
    patterns = options.check(base, finder)
    facts = dict(reader_facts or {})
    gathered = gather(source, finder, options, patterns)
    problems = gathered.problems
    readings, left_out = assign(gathered, finder, options, patterns, key_file)
    readers = new_readers(readings, base, options, facts, problems)
    key = _key(base, source, gathered, options, facts, key_file)
    with cohort_in_making(output, "outlines", key) as part:
        if part is None:
            return output
        masks = _masks(readings, base, options, patterns, problems)
        if problems:
            raise CohortError(
                f"The outlines of {source} cannot become masks ({len(problems)} found):\n"
                f"{listing(problems)}\nCorrect the files, or leave some out with 'source.ignore=\"<pattern>\"'"
            )
        rows = _write(part, base, masks, readers)
        notes = _notes(masks, base, readers)
        write_account(part, "outlines", rows, left_out=left_out, warnings=notes)
        write_cohort_table(part, metadata=_metadata(base, readers, options, facts, key), rows=rows)
        if source.is_dir():
            write_private_table(output, gathered.table, ("file", "format", "taken", "reader", "reason"))
    return output


# --- Private helpers --------------------------------------------------------------------------


def _masks(
    readings: Mapping[Reading, Sequence[Drawing]],
    base: Cohort,
    options: Options,
    patterns: Patterns,
    problems: list[str],
) -> dict[Reading, tuple[Mask, Grid]]:
    grids: dict[str, Grid] = {}
    masks: dict[Reading, tuple[Mask, Grid]] = {}
    for (case_id, column), drawings in sorted(readings.items()):
        try:
            if case_id not in grids:
                grids[case_id] = grid_of(base.case(case_id), spacing_known=base.spacing_known)
        except CohortError as error:
            problems.append(f"{case_id}: {error}")
            continue
        before = len(problems)
        edge = cast(Edge, options.edge)
        mask = mask_of(drawings, grids[case_id], edge=edge, minus=patterns.minus, problems=problems)
        if len(problems) == before and not mask.any():
            problems.append(f"{drawings[0].file}: the outlines of {column} on {case_id} enclose no pixel")
        masks[case_id, column] = mask, grids[case_id]
    return masks


def _write(
    part: Path, base: Cohort, masks: Mapping[Reading, tuple[Mask, Grid]], readers: Mapping[str, str]
) -> list[dict[str, str]]:
    """Images and old labels as they are, new labels beside them; returns the rows of cases.csv."""
    rows = []
    for case in base.cases:
        row = {"case_id": case.case_id, "patient_id": case.patient_id}
        row |= {name: case.column(name) or "" for name in base.columns} | case.readings
        row["image"] = _same_file(case.image, base.root, part)
        row |= {f"label_{reader}": _same_file(path, base.root, part) for reader, path in case.labels.items()}
        for column in readers:
            if (case.case_id, column) in masks:
                mask, grid = masks[case.case_id, column]
                file = f"labels/{column}/{case.case_id}.nii.gz"
                write_mask(part / file, mask, grid.affine, is_distance_z=grid.is_distance_z)
                row[f"label_{column}"] = file
        rows.append(row)
    return rows


def _same_file(path: Path, root: Path, part: Path) -> str:
    """Link a file of the old cohort into the new one, or copy it; files of a cohort are replaced, never rewritten."""
    file = path.relative_to(root).as_posix()
    place = part / file
    if not place.is_file():
        if not path.is_file():
            raise CohortError(f"{file} of the cohort {root} is missing; make that cohort again")
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)
    return file


def _notes(masks: Mapping[Reading, object], base: Cohort, readers: Mapping[str, str]) -> list[str]:
    notes = []
    for column in readers:
        number = sum(reader == column for _, reader in masks)
        if number < len(base.cases):
            notes.append(f"{column} outlined {number} of {len(base.cases)} cases")
    return notes


def _metadata(
    base: Cohort, readers: Mapping[str, str], options: Options, facts: Mapping[str, Any], key: str
) -> dict[str, Any]:
    kept = {name: value for name, value in base.metadata.items() if not name.endswith("_key")}
    for name in ("schema_version", "mpi_unet", "repeat_reads", "reader_facts"):
        kept.pop(name, None)
    repeats = base.repeat_reads | {column: person for column, person in readers.items() if column != person}
    about: dict[str, Any] = {**base.reader_facts, **facts}
    return (
        kept
        | {
            "label": options.label,
            "readers": [*base.readers, *readers],
            "simulated_readers": options.simulated_readers or base.simulated_readers,
            "outlines": {"edge": options.edge, "readers": sorted(readers)},
            KEY: f"outlines:{key}",
        }
        | ({"repeat_reads": repeats} if repeats else {})
        | ({"reader_facts": about} if about else {})
    )


def _key(
    base: Cohort,
    source: Path,
    gathered: Gathered,
    options: Options,
    facts: Mapping[str, Any],
    key_file: str | Path | None,
) -> str:
    """Changes with every file of the cohort and of the outlines, and with the arguments."""
    parts: list[bytes | str] = [str(OUTLINES_VERSION), json.dumps(asdict(options), sort_keys=True)]
    parts += [json.dumps(facts, sort_keys=True, default=str), str(key_file)]
    for file in ("cohort.json", "cases.csv"):
        parts.append((base.root / file).read_bytes())
    for case in base.cases:
        parts += [path.read_bytes() for path in (case.image, *case.labels.values()) if path.is_file()]
    for path in gathered.files:
        parts += [below(path, source), path.read_bytes()]
    return sha256(*parts)
