r"""NIfTI volumes with the labels of one or more readers become a cohort.

Either patterns say what file names mean - groups ``patient`` (needed), ``case``, ``reader`` in the pattern of labels,
any other a column of cases.csv - or a table lists the files: columns ``image`` and ``patient_id``, and if known
``case_id``, ``label_<reader>`` and any others. An image and a label belong together when the groups that they share are
equal; the order of files never matters. A pattern with a slash is for the path below the input and goes before one that
is for names alone.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpi_unet.errors import CohortError, listing
from mpi_unet.sources.naming import below, compiled, files_below, groups_of
from mpi_unet.sources.pairing import IDENTITY, RESERVED, case_id_of
from mpi_unet.sources.placing import check_apart
from mpi_unet.sources.volume_files import VOLUME_SUFFIXES, volume_stem
from mpi_unet.sources.volumes import Meaning, VolumeCase, foreground_values, volumes_cohort

__all__ = ["nifti_cohort"]

LABEL_PREFIX = "label_"


def nifti_cohort(
    input: str | Path,
    output: str | Path,
    *,
    domain: str | None = None,
    label: str | None = None,
    image_pattern: str | None = None,
    label_pattern: str | None = None,
    table: str | Path | None = None,
    reader: str = "expert",
    ignore: str | None = None,
    foreground: int | Sequence[int] | None = None,
    gates: str = "refuse",
    key_file: str | Path | None = None,
    voxel_size_known: bool | None = None,
    simulated_readers: bool = False,
    name: str | None = None,
    licence: str = "not stated",
) -> Path:
    """Make a cohort of NIfTI (or NRRD, MetaImage) files.

    Args:
        input: Folder of the files.
        output: Folder of the cohort.
        domain: ``projection``, ``transaxial`` or ``short_axis``.
        label: What was outlined: ``lv_filled``, ``lv_wall`` or ``lv_cavity``; not needed without labels.
        image_pattern: Regular expression of image names; see the module for its groups.
        label_pattern: Regular expression of label names; without it nobody outlined.
        table: CSV file that lists the files instead; paths are relative to ``input`` and stay in it.
        reader: Whoever outlined, where the pattern of labels has no group ``reader``.
        ignore: Regular expression of files to leave out.
        foreground: Value or values of labels that are inside; null for labels of two values.
        gates: What becomes of images with a fourth axis: ``refuse``, ``all`` (a case a gate) or ``sum``.
        key_file: Key with which ids of patients and cases, and so the names of files, become pseudonyms; null keeps the
            ids as the names or the table give them. Other columns are kept either way.
        voxel_size_known: Whether the voxel size is right; null to go by whether files say where they lie.
        simulated_readers: Whether the readers are simulated.
        name: Name of the cohort; by default that of the folder.
        licence: Licence of the files.

    Returns:
        The cohort folder.

    Raises:
        CohortError: An argument cannot be used, or, in one error: files that no pattern knows, labels without image,
            files with the same meaning, and all that `mpi_unet.sources.volumes.volumes_cohort` refuses.
        RunError: The disk is full or ``output`` cannot be written to.
    """
    root = Path(input)
    if not root.is_dir():
        raise CohortError(f"input={root} is no folder; give the folder of the NIfTI files")
    if (table is None) == (image_pattern is None):
        raise CohortError("source.image_pattern and source.table: expected one of them, to say what the files are")
    check_apart(root, output)
    folder = root.resolve().name
    meaning = Meaning(
        source="nifti",
        name=name or (folder if key_file is None else "volumes"),
        domain=domain or "",
        label=label or "",
        foreground=foreground_values(foreground),
        gates=gates,
        licence=licence,
        described=f"volumes of the folder {folder}" if key_file is None else "volumes; ids are keyed pseudonyms",
        simulated_readers=simulated_readers,
        spacing_known=voxel_size_known,
    )
    if table is not None:
        cases, problems = _listed(Path(table), root)
        files: list[dict[str, str]] = []
    else:
        assert image_pattern is not None
        cases, problems, files = _named(root, image_pattern, label_pattern, reader, ignore)
    if key_file is not None:
        cases, files = _keyed(cases, files, root, Path(key_file))
    return volumes_cohort(
        output,
        cases,
        meaning,
        arguments={"reader": reader},
        problems=problems,
        left_out={"left out by source.ignore": number} if (number := sum("reason" in row for row in files)) else {},
        files=files,
    )


def _keyed(
    cases: Sequence[VolumeCase], files: Sequence[dict[str, str]], root: Path, key_file: Path
) -> tuple[list[VolumeCase], list[dict[str, str]]]:
    """The cases under pseudonyms, and what became of each file, which nothing else tells any more."""
    from mpi_unet.dicom.identity import Pseudonyms

    pseudonyms = Pseudonyms.from_key_file(key_file)
    keyed = []
    taken = [row for row in files if "taken" not in row]
    for case in cases:
        patient = pseudonyms.patient(case.patient_id) if case.patient_id.strip() else ""  # the empty one is refused
        case_id = f"{patient}_{pseudonyms.word('case', case.case_id)}"
        keyed.append(replace(case, case_id=case_id, patient_id=patient))
        for reader, path in (("", case.image), *case.labels.items()):
            taken.append({"file": Path(os.path.relpath(path, root)).as_posix(), "taken": case_id, "reader": reader})
    return keyed, taken


# --- Private helpers: patterns ----------------------------------------------------------------------------------------


def _named(
    root: Path, image_pattern: str, label_pattern: str | None, reader: str, ignore: str | None
) -> tuple[list[VolumeCase], list[str], list[dict[str, str]]]:
    images_as, labels_as, ignored = (
        compiled(f"source.{option}", text)
        for option, text in (("image_pattern", image_pattern), ("label_pattern", label_pattern), ("ignore", ignore))
    )
    assert images_as is not None
    _check_groups(images_as, labels_as)
    problems: list[str] = []
    table: list[dict[str, str]] = []
    images: list[tuple[Path, dict[str, str]]] = []
    labels: list[tuple[Path, dict[str, str]]] = []
    for path in files_below(root):
        if not path.name.lower().endswith(VOLUME_SUFFIXES):
            continue
        if ignored is not None and groups_of(ignored, path, root) is not None:
            table.append({"file": below(path, root), "reason": "left out by source.ignore"})
            continue
        as_image = groups_of(images_as, path, root)
        as_label = groups_of(labels_as, path, root) if labels_as else None
        if as_image is not None and as_label is not None and labels_as is not None:
            by_path = ["/" in pattern.pattern for pattern in (images_as, labels_as)]
            if by_path == [False, True]:  # a pattern for paths says more than one for names
                as_image = None
            elif by_path == [True, False]:
                as_label = None
        if (as_image is None) == (as_label is None):
            which = "both patterns" if as_image is not None else "neither source.image_pattern nor source.label_pattern"
            where = Path(below(path, root))
            such = f"{re.escape(where.parent.as_posix())}/.*" if len(where.parts) > 1 else re.escape(where.name)
            problems.append(
                f"{where.as_posix()}: fits {which}; correct the patterns, or leave it out with "
                f"'source.ignore=\"{such}\"'"
            )
        elif as_image is not None:
            images.append((path, as_image))
        else:
            labels.append((path, as_label or {}))
    cases = _together(root, images, labels, images_as, labels_as, reader, problems)
    for case in cases:
        table.append({"file": below(case.image, root), "taken": case.case_id})
        table += [
            {"file": below(path, root), "taken": case.case_id, "reader": drawn} for drawn, path in case.labels.items()
        ]
    return cases, problems, table


def _check_groups(images_as: re.Pattern[str], labels_as: re.Pattern[str] | None) -> None:
    problems = []
    for option, pattern in (("image_pattern", images_as), ("label_pattern", labels_as)):
        if pattern is not None and "patient" not in pattern.groupindex:
            problems.append(f"source.{option} has no group (?P<patient>...); folds are drawn by patient")
        for group in pattern.groupindex if pattern is not None else ():
            if group in RESERVED or group == "frame" or group.startswith(LABEL_PREFIX):
                problems.append(f"source.{option}: group {group!r} cannot be used; a file is a whole case here")
    if "reader" in images_as.groupindex:
        problems.append("source.image_pattern: group 'reader' cannot be used; an image has no reader")
    if labels_as is not None and ("case" in images_as.groupindex) != ("case" in labels_as.groupindex):
        problems.append("one pattern has the group 'case' and the other has not; expected both or none")
    if problems:
        raise CohortError(f"The patterns of source=nifti cannot be used:\n{listing(problems)}\nCorrect them")


def _together(
    root: Path,
    images: Sequence[tuple[Path, dict[str, str]]],
    labels: Sequence[tuple[Path, dict[str, str]]],
    images_as: re.Pattern[str],
    labels_as: re.Pattern[str] | None,
    reader: str,
    problems: list[str],
) -> list[VolumeCase]:
    """Labels join the image with which they share all groups that both patterns have."""
    shared = [name for name in images_as.groupindex if labels_as is not None and name in labels_as.groupindex]
    drawn: dict[tuple[str, ...], dict[str, Path]] = defaultdict(dict)
    for path, groups in labels:
        key, who = tuple(groups.get(name, "") for name in shared), groups.get("reader", reader)
        if who in drawn[key]:
            problems.append(
                f"{below(path, root)} and {below(drawn[key][who], root)}: both are labels of {who} on one case; "
                "expected one"
            )
        drawn[key].setdefault(who, path)
    cases: list[VolumeCase] = []
    seen: dict[tuple[str, ...], str] = {}
    for path, groups in images:
        key = tuple(groups.get(name, "") for name in shared)
        if shared and key in seen:
            problems.append(f"{below(path, root)} and {seen[key]}: both are the image of the same case; expected one")
        seen[key] = below(path, root)
        patient, case = groups.get("patient", ""), groups.get("case", "")
        cases.append(
            VolumeCase(
                case_id=case_id_of(patient, case),
                patient_id=patient.strip(),
                image=path,
                labels=drawn.get(key, {}),
                columns={name: text for name, text in groups.items() if name not in IDENTITY},
                where=below(path, root),
            )
        )
    problems += [
        f"{below(path, root)}: has no image; expected one with {_said(shared, key)}"
        for key, of_readers in drawn.items()
        if key not in seen
        for path in of_readers.values()
    ]
    return cases


def _said(names: Sequence[str], key: Sequence[str]) -> str:
    return ", ".join(f"{name} {text!r}" for name, text in zip(names, key, strict=True))


# --- Private helpers: a table -----------------------------------------------------------------------------------------


def _listed(table: Path, root: Path) -> tuple[list[VolumeCase], list[str]]:
    path = table if table.is_absolute() or table.is_file() else root / table
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            content = csv.DictReader(lines)
            rows: list[dict[str, Any]] = list(content)
            columns = list(content.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"source.table={table} cannot be read ({error}); expected comma-separated text") from error
    missing = [name for name in ("image", "patient_id") if name not in columns]
    if missing:
        raise CohortError(f"source.table={table} has no column {' and '.join(missing)}; it has {', '.join(columns)}")
    cases, problems = [], []
    for line, row in enumerate(rows, start=2):
        where = f"{path.name}, line {line}"
        if None in row or None in row.values():
            problems.append(f"{where}: has not {len(columns)} cells like the header")
            continue
        texts = {name: str(text).strip() for name, text in row.items()}
        named = {
            name: text for name, text in texts.items() if text and (name == "image" or name.startswith(LABEL_PREFIX))
        }
        outside = [text for text in named.values() if not _is_inside(root, text)]
        problems += [f"{where}: {text!r} leads out of input={root.name}; expected a path within it" for text in outside]
        if "image" not in named:
            problems.append(f"{where}: names no image")
        if outside or "image" not in named:
            continue
        cases.append(
            VolumeCase(
                case_id=texts.get("case_id") or volume_stem(Path(texts["image"]).name),
                patient_id=texts["patient_id"],
                image=root / texts["image"],
                labels={
                    name.removeprefix(LABEL_PREFIX): root / text for name, text in named.items() if name != "image"
                },
                columns=_columns(texts),
                where=where,
            )
        )
    return cases, problems


def _columns(texts: Mapping[str, str]) -> dict[str, str]:
    own = ("case_id", "patient_id", "image")
    return {name: text for name, text in texts.items() if name not in own and not name.startswith(LABEL_PREFIX)}


def _is_inside(root: Path, text: str) -> bool:
    return (root / text).resolve().is_relative_to(root.resolve())
