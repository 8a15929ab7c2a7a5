r"""Folders of image and mask files become a cohort.

A *pattern* is a regular expression for the whole name of a file - or, when it contains a slash, for its path below
the root. Its named groups say what the name means: ``patient`` (needed), ``case`` (one acquisition of the patient;
without it a patient has one case) and ``frame`` (a number; without it each file is a whole case, as NIfTI volumes and
TIFF stacks are). ``acquisition``, ``gate``, ``camera`` and any other group become columns of ``cases.csv``. An image
and a mask belong together when these groups are equal; the order of files never matters.

The default patterns fit the files of the seed study, ``Original_<series>_<i>.TIFF`` beside
``ground_<series>_<i>.TIFF``. A patient is a series name there; series that differ only in a trailing `` (2)`` are two
cases of one patient, because nothing proves them to be of two people.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mpi_unet.cohort.checks import grid_problems
from mpi_unet.cohort.nifti import (
    Stored,
    Volume,
    affine_from_spacing,
    quoted_values,
    read_stored,
    write_image,
    write_mask,
)
from mpi_unet.cohort.table import DOMAINS, LABELS, write_cohort_table
from mpi_unet.errors import CohortError, RunError, listing, nearest
from mpi_unet.files import sha256, write_remedy
from mpi_unet.shapes import Mask
from mpi_unet.sources.pairing import NIFTI_SUFFIXES, CaseFiles, find_cases, in_words
from mpi_unet.sources.placing import (
    check_complete,
    check_not_private,
    check_replaceable,
    clear_parts,
    part_of,
    place_lock,
    put_in_place,
    reuse_key,
)
from mpi_unet.sources.raster import read_raster

__all__ = ["pairs_cohort"]

PAIRS_VERSION = 1
"""Raised whenever the same files and arguments give another cohort; a cohort of another version is made again."""

IMAGE_PATTERN = r"Original_(?P<patient>.+)_(?P<frame>\d+)(?P<case> \(\d+\))?\.(?i:tiff?|png)"
LABEL_PATTERN = r"ground_(?P<patient>.+)_(?P<frame>\d+)(?P<case> \(\d+\))?\.(?i:tiff?|png)"

KEY = "pairs_key"
"""Key of ``cohort.json`` that tells whether the cohort is still that of the files."""

FOREGROUND_VALUES = (1, 255, 65535)
"""What stands for *inside* in a mask of two values: 1, or white at 8 or 16 bits."""


def pairs_cohort(
    root: str | Path,
    output: str | Path,
    *,
    image_pattern: str = IMAGE_PATTERN,
    label_pattern: str = LABEL_PATTERN,
    domain: str = "projection",
    label: str = "lv_filled",
    spacing_mm: Sequence[float] | None = None,
    reader: str = "expert",
    foreground: str | int = "nonzero",
    threshold: float | None = None,
    ignore: str | None = None,
    name: str | None = None,
    licence: str = "not stated",
) -> Path:
    """Make a cohort of folders with image and mask files.

    The cohort is made anew only when a source file or an argument has changed; otherwise it is returned as it stands.

    Args:
        root: Folder that is searched, with its subfolders, for TIFF, PNG and NIfTI files.
        output: Folder of the cohort.
        image_pattern: Regular expression of image names; see the module for its groups.
        label_pattern: Regular expression of mask names.
        domain: ``projection``, ``transaxial`` or ``short_axis``.
        label: What the masks outline: ``lv_filled``, ``lv_wall`` or ``lv_cavity``.
        spacing_mm: Distance of pixels along (z, y, x) in mm; of projections, (y, x) is enough. None when nobody knows
            it; scores in mm are then left out. NIfTI files bring their own.
        reader: Name of whoever outlined.
        foreground: ``nonzero`` for masks of two values (0 and 1, or 0 and white), or the value that is inside.
        threshold: Gray value from which on a pixel is inside, for anti-aliased masks.
        ignore: Regular expression of files to leave out.
        name: Name of the cohort; by default that of ``root``.
        licence: Licence of the files.

    Returns:
        The cohort folder.

    Raises:
        CohortError: An argument cannot be used, or, in one error: files that no pattern knows, images without mask,
            masks without image, files with the same meaning, frames of different sizes, masks of more than two values,
            color images, files that cannot be read, missing slices.
        RunError: The disk is full, ``output`` cannot be written to, or files vanished while they were written.
    """
    root, output = Path(root), Path(output)
    if not root.is_dir():
        raise CohortError(
            f"data.root={root} is no folder; give the folder of the image and mask files with data.root=<folder>, "
            "or try the built-in cohort with data=phantom"
        )
    check_not_private(root, output)
    meaning = _Meaning(
        domain, label, _spacing(spacing_mm, domain), reader, foreground, threshold, name or root.resolve().name, licence
    )
    meaning.check()
    cases, problems = find_cases(root, image_pattern, label_pattern, ignore=ignore, leave_out=output)
    key = _key(root, cases, meaning)
    if not problems and reuse_key(output, KEY) == key:
        return output
    _check_ours(output)
    with place_lock(output):
        if problems or reuse_key(output, KEY) != key:  # else another command has made it while this one waited
            _check_ours(output)
            _make(output, root, cases, meaning, key, problems)
    return output


# --- Private helpers: the place ---------------------------------------------------------------------------------------


def _check_ours(output: Path) -> None:
    made_by_us = reuse_key(output, KEY) is not None
    check_replaceable(output, made_by_us, option="data.output", source="data=pairs")


def _make(
    output: Path, root: Path, cases: Sequence[CaseFiles], meaning: _Meaning, key: str, problems: Sequence[str]
) -> None:
    """Build the cohort and put it in its place."""
    part = part_of(output, key)
    try:
        clear_parts(output, keep=part)
        rows, facts, found = _write_cases(part, root, cases, meaning)
        if all_problems := [*problems, *found]:
            shutil.rmtree(part, ignore_errors=True)
            raise CohortError(
                f"{len(all_problems)} things keep {root} from becoming a cohort:\n{listing(all_problems)}\n"
                "Correct the files or the patterns (data.image_pattern, data.label_pattern), or leave files out with "
                "'data.ignore=\"<pattern>\"'"
            )
        write_cohort_table(part, metadata=_metadata(cases, meaning, root, key) | facts, rows=rows)
        check_complete(part)
        put_in_place(part, output)
    except OSError as error:
        if reuse_key(output, KEY) != key:  # else another process has just finished the same cohort
            raise RunError(
                f"{output} cannot be written: {error.strerror or error}; {write_remedy(error, 'data.output')}"
            ) from error


# --- Private helpers: arguments ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Meaning:
    """What the arguments say about the files; everything that decides the cohort beside the files themselves."""

    domain: str
    label: str
    spacing_mm: tuple[float, float, float] | None
    reader: str
    foreground: str | int
    threshold: float | None
    name: str
    licence: str

    def check(self) -> None:
        problems = [
            f"data.{key}={word}; expected {' or '.join(allowed)}{nearest(word, allowed)}"
            for key, word, allowed in (("domain", self.domain, DOMAINS), ("label", self.label, LABELS))
            if word not in allowed
        ]
        if isinstance(self.foreground, str) and self.foreground != "nonzero":
            problems.append(f"data.foreground={self.foreground}; expected nonzero or a whole number")
        if self.threshold is not None and self.foreground != "nonzero":
            problems.append("data.threshold and data.foreground are both given; expected one of them")
        if not self.reader or not self.reader.isidentifier():
            problems.append(f"data.reader={self.reader!r}; expected a name of letters, digits and _")
        if problems:
            raise CohortError(f"These options of data=pairs cannot be used:\n{listing(problems)}\nCorrect them")


def _spacing(spacing_mm: Sequence[float] | None, domain: str) -> tuple[float, float, float] | None:
    if spacing_mm is None:
        return None
    values = [float(value) for value in spacing_mm]
    if domain == "projection" and len(values) in (2, 3):
        values = [1.0, *values[-2:]]
    if len(values) != 3 or not all(0 < value < np.inf for value in values):
        raise CohortError(
            f"data.spacing_mm={list(spacing_mm)}; expected three positive distances in mm along (z, y, x), "
            "or null when they are not known"
        )
    return values[0], values[1], values[2]


# --- Private helpers: writing -----------------------------------------------------------------------------------------


def _write_cases(
    folder: Path, root: Path, cases: Sequence[CaseFiles], meaning: _Meaning
) -> tuple[list[dict[str, str]], dict[str, Any], list[str]]:
    """Write the cases that can be used.

    Returns:
        Their rows, what the pixels add to ``cohort.json``, and what is wrong with the other cases.
    """
    rows, depths, knows_spacing, problems = [], set(), [], []
    for case in cases:
        pixels, found = _read_case(case, root, meaning)
        problems += found
        if pixels is None:
            continue
        depths.add(pixels.depth)
        knows_spacing.append(pixels.knows_spacing)
        image, mask = f"images/{case.case_id}.nii.gz", f"labels/{meaning.reader}/{case.case_id}.nii.gz"
        is_volume = meaning.domain != "projection"
        if not (folder / image).is_file():  # a folder of this key holds nothing else
            write_image(folder / image, pixels.volume.array, pixels.volume.affine, is_distance_z=is_volume)
        if not (folder / mask).is_file():
            write_mask(folder / mask, pixels.mask, pixels.volume.affine, is_distance_z=is_volume)
        row = {"case_id": case.case_id, "patient_id": case.patient_id, "image": image, f"label_{meaning.reader}": mask}
        rows.append(row | case.columns)
    if len(set(knows_spacing)) > 1:
        problems.append(
            f"the pixel size is known for {sum(knows_spacing)} of {len(knows_spacing)} cases; expected all or none: "
            "give data.spacing_mm, or NIfTI files with an orientation throughout"
        )
    facts = {"intensities": f"as read ({', '.join(sorted(depths))})", "spacing_known": all(knows_spacing)}
    return rows, facts, problems


def _metadata(cases: Sequence[CaseFiles], meaning: _Meaning, root: Path, key: str) -> dict[str, Any]:
    num_files = sum(len(case.images) + len(case.labels) for case in cases)
    return {
        "name": meaning.name,
        "domain": meaning.domain,
        "label": meaning.label,
        "readers": [meaning.reader],
        "simulated_readers": False,
        "source": f"{num_files} image and mask files of the folder {root.resolve().name}",
        "licence": meaning.licence,
        "source_frames": {case.case_id: in_words(case.frames) for case in cases if case.frames},
        KEY: key,
    }


def _key(root: Path, cases: Sequence[CaseFiles], meaning: _Meaning) -> str:
    """Changes with every source file, with what the patterns make of their names, and with the arguments."""
    parts: list[bytes | str] = [str(PAIRS_VERSION), json.dumps(asdict(meaning), sort_keys=True)]
    for case in cases:
        parts.append(json.dumps([case.case_id, case.patient_id, case.columns, case.frames]))
        for path in (*case.images, *case.labels):
            parts += [path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).digest()]
    return sha256(*parts)


# --- Private helpers: reading -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pixels:
    """A case as read."""

    volume: Volume
    mask: Mask
    depth: str
    knows_spacing: bool


def _read_case(case: CaseFiles, root: Path, meaning: _Meaning) -> tuple[_Pixels | None, list[str]]:
    """Read a case; either it is given, or what is wrong with it."""
    problems: list[str] = []
    images: list[Stored] = []
    masks: list[Mask] = []
    for image_path, label_path in zip(case.images, case.labels, strict=True):
        image, label = _try_read(image_path, root, problems), _try_read(label_path, root, problems)
        if image is None or label is None:
            continue
        found = _frame_problems(image, label, bool(case.frames), meaning)
        try:
            masks.append(_inside(label.values, meaning))
        except CohortError as error:
            found.append(str(error))
        problems += [f"{_below(label_path, root)}: {text}" for text in found]
        images.append(image)
    sizes = sorted({f"{image.values.shape[1]}x{image.values.shape[2]}" for image in images})
    if len(sizes) > 1:
        problems.append(f"{case.case_id}: its frames are {' and '.join(sizes)} pixels (y, x); expected one size")
    if case.missing_frames and meaning.domain != "projection":
        problems.append(
            f"{case.case_id}: frames {in_words(case.missing_frames)} are missing; the slices of a volume have one "
            "distance, so none may be left out"
        )
    if problems:
        return None, problems
    first, spacing_mm = images[0], meaning.spacing_mm
    volume = Volume(
        np.concatenate([image.values for image in images]).astype(np.float32),
        first.affine if first.is_placed else affine_from_spacing(spacing_mm or (1.0, 1.0, 1.0)),
    )
    depth = ", ".join(sorted({_depth(image.values) for image in images}))
    return _Pixels(volume, np.concatenate(masks), depth, first.is_placed or spacing_mm is not None), []


def _try_read(path: Path, root: Path, problems: list[str]) -> Stored | None:
    try:
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return read_stored(path)
        return Stored(read_raster(path), np.eye(4), is_placed=False)
    except CohortError as error:
        problems.append(f"{_below(path, root)}: {str(error).removeprefix(f'{path.name}: ')}")
        return None


def _frame_problems(image: Stored, label: Stored, is_frame: bool, meaning: _Meaning) -> list[str]:
    """Whether image and mask lie on one grid, and are what the pattern says."""
    problems = []
    if is_frame and len(image.values) != 1:
        problems.append(
            f"its image holds {len(image.values)} frames; expected one, for the pattern has a group 'frame'"
        )
    if image.is_placed and meaning.spacing_mm is not None:
        problems.append("its image brings its own spacing, but data.spacing_mm is given; leave data.spacing_mm out")
    affine = label.affine if image.is_placed and label.is_placed else image.affine
    volume = Volume(np.zeros(image.values.shape, dtype=np.float32), image.affine)
    return problems + grid_problems(volume, np.zeros(label.values.shape, dtype=bool), affine, meaning.reader)


def _inside(values: Shaped[np.ndarray, "z y x"], meaning: _Meaning) -> Mask:
    if meaning.threshold is not None:
        return values >= meaning.threshold
    if meaning.foreground != "nonzero":
        return values == meaning.foreground
    distinct = set(np.unique(values).tolist())
    if len(distinct - {0}) > 1 or not distinct <= {0, *FOREGROUND_VALUES}:
        raise CohortError(
            f"mask holds {quoted_values(values)}; expected 0 and 1, or 0 and white; for anti-aliased outlines give "
            "data.threshold=<gray value>, for several structures data.foreground=<value>"
        )
    return values != 0


def _depth(values: Shaped[np.ndarray, "z y x"]) -> str:
    kind = "gray" if np.issubdtype(values.dtype, np.integer) else "float"
    return f"{8 * values.dtype.itemsize}-bit {kind}"


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
