"""``prepare source=dicom``: a folder tree of anything becomes a cohort with pseudonyms.

The tree is what a PACS or a camera exports: no file extensions, nested folders, other modalities, duplicates, broken
files. Every file is looked at, and every file has a row in the private table that says what became of it. What is
*taken* are tomographic nuclear medicine images of the heart; `recognition` says how rest, stress and planes are
told from headers and descriptions, `choice` which of several images of one acquisition counts.

Nothing that identifies a person enters the cohort: ids are keyed pseudonyms, dates are shifted, descriptions are used
in memory only. The messages of the terminal name files by their path below the input, to the person who gave the
command; nothing else does, except the private table beside the cohort.

The cohort is a function of the files, the arguments, the key and the names that were given before: the same command
gives the same bytes. When studies are added to the tree, the cohort grows, and cases that were there keep their names.
A name never passes to another image, whatever becomes of its file and whatever the arguments: `numbering` says why.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mpi_unet.cohort.table import write_cohort_table
from mpi_unet.dicom.identity import DEFAULT_KEY_FILE, Pseudonyms
from mpi_unet.errors import CohortError, listing
from mpi_unet.files import read_json, sha256
from mpi_unet.sources.account import private_folder, write_account, write_private_table
from mpi_unet.sources.dicom.cases import PlannedImage, identifying_texts, planned, warnings_about
from mpi_unet.sources.dicom.choice import Candidate, Decision, chosen_images
from mpi_unet.sources.dicom.images import write_pixels
from mpi_unet.sources.dicom.numbering import given_names, keep_names
from mpi_unet.sources.dicom.options import Options
from mpi_unet.sources.dicom.scan import ScannedFile, every_file_below, scan_file
from mpi_unet.sources.dicom.sorting import sorted_images
from mpi_unet.sources.dicom.words import Table
from mpi_unet.sources.placing import (
    KEY,
    check_apart,
    check_replaceable,
    cohort_in_making,
    reuse_key,
)

__all__ = ["dicom_cohort"]

DICOM_VERSION = 1
"""Raised whenever the same files and arguments give another cohort; a cohort of another version is made again."""

SOURCE = "dicom"
PRIVATE_TABLE = ("file", "taken", "reason", "detail", "kind", "bytes")
KEY_FINGERPRINT, OPTIONS_DIGEST = "pseudonym_key", "choice_digest"
"""Keys of ``cohort.json``: which key made the pseudonyms, and with which arguments the cohort was made."""

Item = TypeVar("Item")


def dicom_cohort(
    input: str | Path,
    output: str | Path,
    *,
    key_file: str | Path = DEFAULT_KEY_FILE,
    domain: str | None = None,
    plane: str | None = None,
    gates: str | int | Sequence[int] = "sum",
    one_per: str = "acquisition",
    prefer: Sequence[str] = (),
    energy_window: int | None = None,
    spacing_mm: Sequence[float] | None = None,
    allow_unknown_geometry: bool = False,
    allow_burned_in: bool = False,
    without_patient_id: str = "leave_out",
    same_identifier: str | None = None,
    use_issuer: bool = False,
    keep_text: Sequence[str] = (),
    identifying_text: bool = False,
    patterns: Mapping[str, Table] | None = None,
    name: str = "dicom",
    licence: str = "not stated",
) -> Path:
    """Make a cohort of a folder tree of DICOM files.

    Args:
        input: Folder that is searched with its subfolders; every file is looked at.
        output: Folder of the cohort; ``<output>_private/files.csv`` beside it says what became of each file.
        key_file: Key of the pseudonyms; made when missing.
        domain: ``projection``, ``transaxial`` or ``short_axis``; None takes the only one there is.
        plane: ``transaxial`` or ``short_axis`` when all reconstructions of the tree are that, whatever they say.
        gates: ``sum`` of the gates of a gated image, ``each`` one as a case, or the numbers (from 1) of some.
        one_per: One case for each ``acquisition`` (patient, study, rest or stress), for each ``time`` of acquisition
            as well, or for every ``image``.
        prefer: Patterns, best first, that choose among images of one acquisition, e.g. ``["osem", "ac"]``.
        energy_window: Which one to take, from 1, of images that have several.
        spacing_mm: Distance of voxels along (z, y, x) in mm for images that do not say theirs; of projections (y, x).
        allow_unknown_geometry: Take images that do not say where they lie; one without spacing among them makes the
            spacing of the whole cohort unknown.
        allow_burned_in: Take images whose pixels may hold writing.
        without_patient_id: ``leave_out`` images without PatientID, or take each ``study`` for a patient of its own.
        same_identifier: ``refuse`` (also None) a tree with files that share a SOPInstanceUID and hold different pixels,
            or ``leave_out`` all of these files.
        use_issuer: The same PatientID of two issuers means two people.
        keep_text: Descriptions to write as columns, e.g. ``["SeriesDescription"]``.
        identifying_text: Write them even where they hold words of names, numbers or dates.
        patterns: Tables as in conf/source/dicom.yaml that replace those of `mpi_unet.sources.dicom.words.PATTERNS`.
        name: Name of the cohort; it stands in reports.
        licence: Licence of the images.

    Returns:
        The cohort folder.

    Raises:
        CohortError: An argument cannot be used, no image is left, there are several domains, two files share an
            identifier and differ, a text to be kept identifies somebody, ``output`` was made with another key.
        DicomError: The key file cannot be used.
        RunError: The disk is full or ``output`` cannot be written to.
    """
    root, output = Path(input), Path(output)
    options = Options.checked(
        domain=domain,
        plane=plane,
        gates=gates,
        one_per=one_per,
        prefer=prefer,
        energy_window=energy_window,
        spacing_mm=spacing_mm,
        allow_unknown_geometry=allow_unknown_geometry,
        allow_burned_in=allow_burned_in,
        without_patient_id=without_patient_id,
        same_identifier=same_identifier or "refuse",
        use_issuer=use_issuer,
        keep_text=keep_text,
        identifying_text=identifying_text,
        patterns=patterns,
        name=name,
        licence=licence,
    )
    if not root.is_dir():
        raise CohortError(f"input={root} is no folder; give the folder of the exported studies with input=<folder>")
    check_apart(root, output)
    there = reuse_key(output)
    check_replaceable(output, (there or "").startswith(f"{SOURCE}:"), source=f"source={SOURCE}")
    pseudonyms = Pseudonyms.from_key_file(key_file)
    files = [scan_file(path, file) for path, file in _with_progress(list(every_file_below(root)), "looking at files")]
    key = _key(files, options, pseudonyms)
    table = private_folder(output) / "files.csv"
    if there == f"{SOURCE}:{key}" and table.is_file():
        return output
    earlier = _earlier(output, options, pseudonyms)
    candidates, left = sorted_images(_with_progress(files, "reading images"), options, pseudonyms)
    chosen, dropped = chosen_images(
        candidates,
        domain=options.domain,
        gates=options.gates,
        needs_place=not options.allow_unknown_geometry,
        has_spacing=options.spacing_mm is not None,
        one_per=options.one_per,
        prefer=options.prefer,
        earlier=earlier,
    )
    left += dropped
    if not chosen:
        _write_table(output, files, left, [])
        raise CohortError(
            f"None of the {len(files)} files of {root} can become a case:\n"
            + listing([f"{number}: {reason}" for reason, number in _counted(left).items()])
            + f"\n{table} says what became of each; source.domain, source.plane or source.patterns may take more"
        )
    problems = identifying_texts(chosen, options)
    if problems:
        raise CohortError(
            f"{len(problems)} texts of source.keep_text may tell who somebody is:\n{listing(problems)}\n"
            "Leave these texts out, or write them all the same with source.identifying_text=true"
        )
    images = planned(chosen, options, pseudonyms, given_names(output))
    with cohort_in_making(output, SOURCE, key) as part:
        if part is not None:
            keep_names(output, {row["case_id"]: row["source_uid"] for image in images for row in image.rows})
            _write_cohort(part, images, files, left, options, pseudonyms, key)
        _write_table(output, files, left, images)
    return output


# --- Private helpers --------------------------------------------------------------------------------------------------


def _with_progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items one after the other, with a bar on a terminal and without a word anywhere else."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, description=what, console=console, transient=True, disable=not console.is_terminal)


def _key(files: Sequence[ScannedFile], options: Options, pseudonyms: Pseudonyms) -> str:
    """Changes with every file and argument; keyed, so that no name of a file can be tried out on it."""
    found = [f"{file.name}\0{file.size}\0{file.reason}\0{file.digest}" for file in files]
    digest = sha256(str(DICOM_VERSION), options.as_text(), *found)
    return pseudonyms.word("cohort", digest, letters=40).lower()


def _earlier(output: Path, options: Options, pseudonyms: Pseudonyms) -> set[str]:
    """Keyed identifiers of the images that the cohort at ``output`` took, to be taken again.

    A cohort of other arguments binds nobody; one of another key would silently get other pseudonyms, and outlines
    would lose their cases.

    Raises:
        CohortError: The cohort was made with another key.
    """
    if reuse_key(output) is None:
        return set()
    metadata = read_json(output / "cohort.json")
    if metadata.get(KEY_FINGERPRINT) != pseudonyms.fingerprint:
        raise CohortError(
            f"output={output} was made with the key {metadata.get(KEY_FINGERPRINT)}, and source.key_file holds the key "
            f"{pseudonyms.fingerprint}: all pseudonyms would change; give the file of the first key with "
            "source.key_file=<file>, or choose another output"
        )
    if metadata.get(OPTIONS_DIGEST) != options.choice_digest():
        return set()
    with open(output / "cases.csv", encoding="utf-8", newline="") as lines:
        return {row.get("source_uid", "") for row in csv.DictReader(lines)}


def _write_cohort(
    part: Path,
    images: Sequence[PlannedImage],
    files: Sequence[ScannedFile],
    left: Sequence[Decision],
    options: Options,
    pseudonyms: Pseudonyms,
    key: str,
) -> None:
    for image in _with_progress(images, "writing cases"):
        targets = [(part / row["image"], gate) for row, gate in zip(image.rows, image.gates, strict=True)]
        write_pixels(
            image.candidate.file.path, targets, spacing_mm=options.spacing_mm, energy_window=options.energy_window
        )
    chosen = [image.candidate for image in images]
    rows = [row for image in images for row in image.rows]
    write_cohort_table(
        part, metadata=_metadata(chosen, files, options, pseudonyms) | {KEY: f"{SOURCE}:{key}"}, rows=rows
    )
    write_account(
        part, SOURCE, rows, left_out=_counted(left), warnings=warnings_about(chosen, options), files=len(files)
    )


def _metadata(
    chosen: Sequence[Candidate], files: Sequence[ScannedFile], options: Options, pseudonyms: Pseudonyms
) -> dict[str, Any]:
    return {
        "name": options.name,
        "domain": chosen[0].seen.domain,
        "label": "",
        "readers": [],
        "simulated_readers": False,
        "source": f"{len(chosen)} DICOM nuclear medicine images of {len(files)} files",
        "licence": options.licence,
        "intensities": "as stored, with the rescaling of the object; gates "
        + ("summed" if options.gates == "sum" else "one by one"),
        "spacing_known": options.spacing_mm is not None or all(one.pixels.has_spacing for one in chosen),
        KEY_FINGERPRINT: pseudonyms.fingerprint,
        OPTIONS_DIGEST: options.choice_digest(),
    }


def _counted(left: Sequence[Decision]) -> dict[str, int]:
    """How many files were left for each reason, the most frequent first."""
    counts = Counter(decision.reason for decision in left)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _write_table(
    output: Path, files: Sequence[ScannedFile], left: Sequence[Decision], images: Sequence[PlannedImage]
) -> None:
    """One row for each file of the tree."""
    taken = {image.candidate.file.name: " ".join(row["case_id"] for row in image.rows) for image in images}
    remarks = {image.candidate.file.name: "; ".join(image.candidate.pixels.warnings) for image in images}
    reasons = {decision.file.name: decision for decision in left}
    rows: list[Mapping[str, str]] = []
    for file in files:
        decision = reasons.get(file.name)
        rows.append(
            {
                "file": file.name,
                "taken": taken.get(file.name, ""),
                "reason": decision.reason if decision else "",
                "detail": decision.detail if decision else remarks.get(file.name, ""),
                "kind": file.kind,
                "bytes": str(file.size),
            }
        )
    write_private_table(output, rows, PRIVATE_TABLE)
