"""MONAI datalists in and out: a JSON file that lists images and labels in sections.

A datalist has the sections ``training``, ``validation`` and ``testing``; an entry is a path, or a mapping with
``image``, ``label`` and anything else. Of what MONAI does not know, this uses ``case_id``, ``patient_id``,
``label_<reader>`` for further readers, and plain texts and numbers, which become columns of cases.csv; so does
``fold``, and ``section`` tells where an entry stood. The key ``mpi_unet`` of a datalist that was written here holds
what else a cohort knows.

Paths are relative to the folder of the datalist. One that leads out of it is refused unless it is asked for, because a
list from elsewhere must not make any file of this machine part of a cohort.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.splits import Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError
from mpi_unet.files import write_json
from mpi_unet.sources.interchange import (
    BLOCK,
    PatientNames,
    about_cohort,
    chosen_reader,
    copied,
    fold_of_patients,
    known_facts,
    made_in_place,
)
from mpi_unet.sources.naming import compiled
from mpi_unet.sources.placing import check_apart
from mpi_unet.sources.volume_files import volume_stem
from mpi_unet.sources.volumes import Meaning, VolumeCase, foreground_values, volumes_cohort

__all__ = ["datalist_cohort", "write_datalist"]

SECTIONS = ("training", "validation", "testing")
OWN_KEYS = ("image", "label", "case_id", "patient_id", "section")
LABEL_PREFIX = "label_"


def datalist_cohort(
    input: str | Path,
    output: str | Path,
    *,
    domain: str | None = None,
    label: str | None = None,
    reader: str | None = None,
    patient_pattern: str | None = None,
    patients: str | Path | None = None,
    allow_outside: bool = False,
    foreground: int | Sequence[int] | None = None,
    gates: str = "refuse",
    voxel_size_known: bool | None = None,
    simulated_readers: bool | None = None,
    name: str | None = None,
    licence: str | None = None,
) -> Path:
    """Make a cohort of a MONAI datalist.

    Args:
        input: The JSON file, or a folder that holds one JSON file.
        output: Folder of the cohort.
        domain: ``projection``, ``transaxial`` or ``short_axis``; null when the datalist was written here.
        label: What was outlined; null when the datalist was written here.
        reader: Whoever drew ``label``; by default as the datalist says, else ``expert``.
        patient_pattern: Regular expression of case ids with the group ``patient``, where entries do not name patients.
        patients: CSV file with the columns ``case_id`` and ``patient_id`` instead.
        allow_outside: Whether paths may lead out of the folder of the datalist.
        foreground: Value or values of labels that are inside; null for labels of two values.
        gates: What becomes of images with a fourth axis: ``refuse``, ``all`` or ``sum``.
        voxel_size_known: Whether the voxel size is right; null to go by whether files say where they lie.
        simulated_readers: Whether the readers are simulated; null for as the datalist says, else false.
        name: Name of the cohort; by default that of the datalist.
        licence: Licence of the files.

    Returns:
        The cohort folder.

    Raises:
        CohortError: The file is no datalist, or, in one error: paths that lead out, entries without image, and all that
            `mpi_unet.sources.volumes.volumes_cohort` refuses.
        RunError: The disk is full or ``output`` cannot be written to.
    """
    path = _json_file(Path(input))
    content = _read(path)
    known = known_facts(content)
    check_apart(path.parent, output)
    names = PatientNames(compiled("source.patient_pattern", patient_pattern, ("patient",)), patients)
    problems: list[str] = []
    who = reader or str(known.get("reader") or "expert")
    cases = _cases(content, path.parent, who, names, allow_outside, problems)
    meaning = Meaning(
        source="datalist",
        name=name or str(known.get("name") or path.stem),
        domain=domain or str(known.get("domain", "")),
        label=label or str(known.get("label", "")),
        foreground=foreground_values(foreground),
        gates=gates,
        licence=licence or str(known.get("licence") or content.get("licence") or "not stated"),
        described=f"MONAI datalist {path.name}",
        intensities=str(known.get("intensities", "as read")),
        simulated_readers=bool(known.get("simulated_readers", False))
        if simulated_readers is None
        else simulated_readers,
        spacing_known=known.get("spacing_known") if voxel_size_known is None else voxel_size_known,
        facts=_facts(known, {drawn for case in cases for drawn in case.labels}),
    )
    return volumes_cohort(
        output,
        cases,
        meaning,
        arguments={"allow_outside": allow_outside},
        problems=[*problems, *names.problems],
        warnings=names.warnings(len(cases)),
    )


def write_datalist(
    cohort: Cohort, output: str | Path, *, reader: str | None = None, split: Split | None = None
) -> Path:
    """Write a cohort as a MONAI datalist with its files.

    Cases of the reader are the section ``training``; cases without their outline are ``testing``. A split becomes the
    key ``fold`` of each entry: the number of the fold in which its patient is tested.

    Args:
        cohort: The cohort.
        output: Folder to make; ``datalist.json``, ``images`` and ``labels`` in it.
        reader: Whose outlines are ``label``; not needed when there is one reader. Those of others are
            ``label_<reader>``.
        split: Folds of a run.

    Returns:
        The datalist, for ``monai.data.load_decathlon_datalist(path, data_list_key="training")``.

    Raises:
        CohortError: There is no such reader, or ``output`` holds something that this did not write.
        RunError: The disk is full or the folder cannot be written to.
    """
    chosen = chosen_reader(cohort, reader)
    folds = fold_of_patients(split) if split else {}
    with made_in_place(output, "datalist") as part:
        sections: dict[str, list[dict[str, Any]]] = {"training": [], "testing": []}
        for case in cohort.cases:
            entry = _entry(case, cohort, part, chosen)
            if case.patient_id in folds:
                entry["fold"] = folds[case.patient_id]
            sections["training" if "label" in entry else "testing"].append(entry)
        content = {
            "name": cohort.name,
            "modality": {"0": "SPECT"},
            "labels": {"0": "background", "1": cohort.label or "none"},
            "numTraining": len(sections["training"]),
            "numTest": len(sections["testing"]),
            **sections,
            BLOCK: about_cohort(cohort, chosen),
        }
        write_json(part / "datalist.json", content)
    return Path(output) / "datalist.json"


# --- Private helpers: reading -----------------------------------------------------------------------------------------


def _json_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(file for file in path.glob("*.json") if file.name[0] != ".") if path.is_dir() else []
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise CohortError(f"input={path} holds {len(found)} JSON files ({names}); give the datalist itself")
    return found[0]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CohortError(f"{path.name} cannot be read as JSON ({error}); expected a MONAI datalist") from error
    if not isinstance(content, dict) or not any(isinstance(content.get(name), list) for name in SECTIONS):
        raise CohortError(f"{path.name} has none of the sections {', '.join(SECTIONS)}; expected a MONAI datalist")
    return content


def _cases(
    content: Mapping[str, Any],
    root: Path,
    reader: str,
    names: PatientNames,
    allow_outside: bool,
    problems: list[str],
) -> list[VolumeCase]:
    cases = []
    sections = [name for name in SECTIONS if isinstance(content.get(name), list)]
    for section in sections:
        for number, given in enumerate(content[section]):
            where = f"{section}[{number}]"
            entry = {"image": given} if isinstance(given, str) else given
            try:
                cases.append(
                    _case(entry, root, reader, names, allow_outside, where, section if len(sections) > 1 else "")
                )
            except CohortError as error:
                problems.append(f"{where}: {error}")
    return cases


def _case(
    entry: Any, root: Path, reader: str, names: PatientNames, allow_outside: bool, where: str, section: str
) -> VolumeCase:
    if not isinstance(entry, dict) or not entry.get("image"):
        raise CohortError("names no image; expected a path, or a mapping with the key 'image'")
    paths = {
        key: entry[key] for key in entry if (key in ("image", "label") or key.startswith(LABEL_PREFIX)) and entry[key]
    }
    several = [key for key, path in paths.items() if not isinstance(path, str)]
    if several:
        raise CohortError(f"{' and '.join(several)}: several files or no path; expected one file, of one channel")
    outside = [path for path in paths.values() if not (root / path).resolve().is_relative_to(root.resolve())]
    if outside and not allow_outside:
        raise CohortError(
            f"{', '.join(map(repr, outside))} leads out of the folder of the datalist; if the list can be trusted, "
            "give source.allow_outside=true"
        )
    case_id = str(entry.get("case_id") or volume_stem(Path(paths["image"]).name))
    labels = {
        key.removeprefix(LABEL_PREFIX) if key != "label" else reader: root / paths[key]
        for key in paths
        if key != "image"
    }
    columns = {key: str(value) for key, value in entry.items() if _is_column(key, value)}
    return VolumeCase(
        case_id=case_id,
        patient_id=names.patient_of(case_id, str(entry.get("patient_id") or "")),
        image=root / paths["image"],
        labels=labels,
        columns=columns | ({"section": section} if section and not columns.get("section") else {}),
        where=where,
    )


def _facts(known: Mapping[str, Any], readers: set[str]) -> dict[str, Any]:
    """What an exported cohort said of the readers who are still there."""
    repeats = {column: of for column, of in known.get("repeat_reads", {}).items() if {column, of} <= readers}
    about = {reader: facts for reader, facts in known.get("reader_facts", {}).items() if reader in readers}
    return {key: facts for key, facts in (("repeat_reads", repeats), ("reader_facts", about)) if facts}


def _is_column(key: str, value: object) -> bool:
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return plain and key not in OWN_KEYS and not key.startswith(LABEL_PREFIX)


# --- Private helpers: writing -----------------------------------------------------------------------------------------


def _entry(case: Case, cohort: Cohort, part: Path, reader: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"image": copied(case.image, part / "images" / case.image.name, part)}
    for other, path in case.labels.items():
        key = "label" if other == reader else f"{LABEL_PREFIX}{other}"
        entry[key] = copied(path, part / "labels" / other / path.name, part)
    entry |= {"case_id": case.case_id, "patient_id": case.patient_id}
    return entry | {name: text for name in cohort.columns if (text := case.column(name))}
