"""nnU-Net raw data sets, format 2, in and out: ``DatasetNNN_Name`` with ``dataset.json``, ``imagesTr``, ``labelsTr``.

Images are ``<case>_<channel>`` with a channel of four digits, labels ``<case>``. nnU-Net has no patients and draws its
folds by case; ``splits_final.json`` overrules it, so that folds by patient of a run can be compared case by case.

Source:
    nnU-Net documentation, dataset_format.md and manual_data_splits.md.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.splits import Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError
from mpi_unet.files import write_json, write_text
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
from mpi_unet.sources.volume_files import VOLUME_SUFFIXES
from mpi_unet.sources.volumes import Meaning, VolumeCase, foreground_values, volumes_cohort

__all__ = ["nnunet_cohort", "write_nnunet"]

FOLDER = re.compile(r"Dataset(\d{3})_(\w+)")
PARTS = (("imagesTr", "labelsTr", "training"), ("imagesTs", "labelsTs", "testing"))
TABLE = "cases.csv"
"""Written beside dataset.json: what nnU-Net has no place for, the patient above all."""


def nnunet_cohort(
    input: str | Path,
    output: str | Path,
    *,
    domain: str | None = None,
    label: str | None = None,
    reader: str | None = None,
    patient_pattern: str | None = None,
    patients: str | Path | None = None,
    channel: int = 0,
    foreground: int | Sequence[int] | None = None,
    voxel_size_known: bool | None = None,
    simulated_readers: bool | None = None,
    name: str | None = None,
    licence: str | None = None,
) -> Path:
    """Make a cohort of an nnU-Net raw data set.

    Args:
        input: The folder ``DatasetNNN_Name``.
        output: Folder of the cohort.
        domain: ``projection``, ``transaxial`` or ``short_axis``; null when the data set was written here.
        label: What was outlined; null when the data set was written here.
        reader: Whoever outlined; by default as the data set says, else ``expert``.
        patient_pattern: Regular expression of case ids with the group ``patient``.
        patients: CSV file with the columns ``case_id`` and ``patient_id`` instead.
        channel: Which channel of the images is taken.
        foreground: Value or values of labels that are inside; by default the only label beside the background.
        voxel_size_known: Whether the voxel size is right; null to go by whether files say where they lie.
        simulated_readers: Whether the readers are simulated; null for as the data set says, else false.
        name: Name of the cohort; by default that of the data set.
        licence: Licence of the files.

    Returns:
        The cohort folder; ``section`` in cases.csv tells training from testing where both are there.

    Raises:
        CohortError: The folder is no data set, or, in one error: images without label, labels without image, regions
            instead of labels, and all that `mpi_unet.sources.volumes.volumes_cohort` refuses.
        RunError: The disk is full or ``output`` cannot be written to.
    """
    root = Path(input)
    content = _read(root)
    known = known_facts(content)
    check_apart(root, output)
    rows = _rows(root) if known else {}
    names = PatientNames(compiled("source.patient_pattern", patient_pattern, ("patient",)), patients)
    problems: list[str] = []
    values = foreground_values(foreground) or _foreground(content)
    cases = _cases(root, content, reader or str(known.get("reader") or "expert"), channel, names, rows, problems)
    channels = content.get("channel_names")
    warnings = names.warnings(len(cases))
    if isinstance(channels, dict) and len(channels) > 1:
        warnings.append(f"the images have {len(channels)} channels; channel {channel} was taken")
    meaning = Meaning(
        source="nnunet",
        name=name or str(known.get("name") or content.get("name") or root.resolve().name),
        domain=domain or str(known.get("domain", "")),
        label=label or str(known.get("label", "")),
        foreground=values,
        licence=licence or str(known.get("licence") or content.get("licence") or "not stated"),
        described=f"nnU-Net raw data set {root.resolve().name}",
        intensities=str(known.get("intensities", "as read")),
        simulated_readers=bool(known.get("simulated_readers", False))
        if simulated_readers is None
        else simulated_readers,
        spacing_known=known.get("spacing_known") if voxel_size_known is None else voxel_size_known,
    )
    return volumes_cohort(
        output,
        cases,
        meaning,
        arguments={"channel": channel},
        problems=[*problems, *names.problems],
        warnings=warnings,
    )


def write_nnunet(
    cohort: Cohort,
    output: str | Path,
    *,
    reader: str | None = None,
    split: Split | None = None,
    dataset_id: int = 501,
) -> Path:
    """Write a cohort as an nnU-Net raw data set.

    Cases of the reader go to ``imagesTr`` and ``labelsTr``, those without their outline to ``imagesTs``. Of a split,
    each fold of ``splits_final.json`` validates on the patients that the run tests, and trains on all others; nnU-Net
    wants the file in its folder of preprocessed data.

    Args:
        cohort: The cohort.
        output: The folder ``DatasetNNN_Name``, or the folder that holds data sets, in which one is made.
        reader: Whose outlines are the labels; not needed when there is one reader.
        split: Folds of a run.
        dataset_id: Number of the data set, where ``output`` does not have it; 1 to 999.

    Returns:
        The folder of the data set.

    Raises:
        CohortError: There is no such reader, nobody outlined anything, or the folder holds something else.
        SplitError: The run was not split by patient.
        RunError: The disk is full or the folder cannot be written to.
    """
    chosen = chosen_reader(cohort, reader)
    if chosen is None:
        raise CohortError(f"nobody outlined anything in {cohort.root}; nnU-Net needs labels to train with")
    if not 1 <= dataset_id <= 999:
        raise CohortError(f"dataset_id={dataset_id}; expected 1 to 999")
    folder = Path(output)
    if not FOLDER.fullmatch(folder.name):
        folder = folder / f"Dataset{dataset_id:03d}_{re.sub(r'[^A-Za-z0-9]+', '', cohort.name.title()) or 'Cohort'}"
    folds = fold_of_patients(split) if split else {}
    with made_in_place(folder, "nnunet") as part:
        trained = [case for case in cohort.cases if chosen in case.labels]
        for case in cohort.cases:
            images = part / ("imagesTr" if chosen in case.labels else "imagesTs")
            copied(case.image, images / f"{case.case_id}_0000.nii.gz", part)
            if chosen in case.labels:
                copied(case.labels[chosen], part / "labelsTr" / f"{case.case_id}.nii.gz", part)
        content = {
            "channel_names": {"0": "SPECT"},
            "labels": {"background": 0, cohort.label: 1},
            "numTraining": len(trained),
            "file_ending": ".nii.gz",
            "name": cohort.name,
            "licence": cohort.metadata["licence"],
            BLOCK: about_cohort(cohort, chosen),
        }
        write_text(part / TABLE, _table(cohort))
        if folds:
            write_json(part / "splits_final.json", _splits(trained, folds))
        write_json(part / "dataset.json", content)
    return folder


# --- Private helpers: reading -----------------------------------------------------------------------------------------


def _read(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    if not path.is_file():
        inside = ", ".join(sorted(folder.parent.name for folder in root.glob("*/dataset.json"))[:5])
        hint = f"; it holds {inside}" if inside else ""
        raise CohortError(f"input={root} has no dataset.json; give the folder DatasetNNN_Name of a raw data set{hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CohortError(f"{path.name} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise CohortError(f"{path.name} has no mapping 'labels'; expected the dataset.json of an nnU-Net raw data set")
    if not isinstance(content.get("file_ending"), str):
        raise CohortError(f"{path.name} has no 'file_ending'; data sets of nnU-Net 1 have to be converted by nnU-Net 2")
    if not content["file_ending"].lower().endswith(VOLUME_SUFFIXES):
        raise CohortError(f"file_ending is {content['file_ending']!r}; expected one of {', '.join(VOLUME_SUFFIXES)}")
    return content


def _foreground(content: Mapping[str, Any]) -> tuple[int, ...]:
    """The only label beside the background."""
    labels = {str(name): value for name, value in content["labels"].items() if str(name) != "background"}
    if len(labels) == 1 and all(isinstance(value, int) and value for value in labels.values()):
        return tuple(labels.values())
    said = ", ".join(f"{name} = {value}" for name, value in labels.items())
    raise CohortError(
        f"dataset.json has the labels {said or 'none'}; say with source.foreground=<value> or a list which are the "
        "left ventricle (of regions, give the values of the voxels)"
    )


def _cases(
    root: Path,
    content: Mapping[str, Any],
    reader: str,
    channel: int,
    names: PatientNames,
    rows: Mapping[str, Mapping[str, str]],
    problems: list[str],
) -> list[VolumeCase]:
    ending = content["file_ending"]
    folds = _folds(root, problems)
    if isinstance(content.get("dataset"), dict):
        problems.append("dataset.json lists its files under 'dataset'; expected them in imagesTr and labelsTr")
    found: list[tuple[str, str, Path, Path]] = []
    for images, labels, section in PARTS:
        ids = _ids(root / images, ending, problems)
        found += [
            (case_id, section, root / images / f"{case_id}_{channel:04d}{ending}", root / labels / f"{case_id}{ending}")
            for case_id in ids
        ]
        of_labels = {path.name.removesuffix(ending) for path in (root / labels).glob(f"*{ending}")}
        if section == "training":
            problems += [f"{labels}/{case_id}{ending}: is missing" for case_id in ids if case_id not in of_labels]
        problems += [
            f"{labels}/{case_id}{ending}: has no image in {images}" for case_id in sorted(of_labels - set(ids))
        ]
    has_both = len({section for _, section, _, _ in found}) > 1
    cases = []
    for case_id, section, image, label in found:
        row = dict(rows.get(case_id, {}))
        columns = {name: text for name, text in row.items() if name not in ("case_id", "patient_id") and text}
        if has_both:
            columns["section"] = section
        if case_id in folds:
            columns["fold"] = folds[case_id]
        cases.append(
            VolumeCase(
                case_id=case_id,
                patient_id=names.patient_of(case_id, row.get("patient_id", "")),
                image=image,
                labels={reader: label} if label.is_file() else {},
                columns=columns,
                where=f"{image.parent.name}/{image.name}",
            )
        )
    return cases


def _ids(folder: Path, ending: str, problems: list[str]) -> list[str]:
    """Ids of the images of a folder; names without a channel are problems."""
    ids = set()
    for path in sorted(folder.glob(f"*{ending}")):
        stem, _, digits = path.name.removesuffix(ending).rpartition("_")
        if not stem or not re.fullmatch(r"\d{4}", digits):
            problems.append(f"{folder.name}/{path.name}: has no channel; expected <case>_0000{ending}")
        else:
            ids.add(stem)
    return sorted(ids)


def _folds(root: Path, problems: list[str]) -> dict[str, str]:
    """Case to the number of the fold that validates on it, of splits_final.json beside the data set."""
    path = root / "splits_final.json"
    if not path.is_file():
        return {}
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        return {str(case_id): str(fold) for fold, split in enumerate(splits) for case_id in split["val"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        problems.append(f"splits_final.json cannot be read ({error}); expected a list of mappings with train and val")
        return {}


def _rows(root: Path) -> dict[str, dict[str, str]]:
    """The table that `write_nnunet` leaves beside dataset.json: case to its columns."""
    path = root / TABLE
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as lines:
        return {row["case_id"]: row for row in csv.DictReader(lines)}


# --- Private helpers: writing -----------------------------------------------------------------------------------------


def _table(cohort: Cohort) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case_id", "patient_id", *cohort.columns])
    for case in cohort.cases:
        writer.writerow([case.case_id, case.patient_id, *(case.column(name) or "" for name in cohort.columns)])
    return text.getvalue()


def _splits(cases: Sequence[Case], folds: Mapping[str, int]) -> list[dict[str, list[str]]]:
    """Training and validation cases of each fold; who is in no test part of the run trains always."""
    return [
        {
            "train": [case.case_id for case in cases if folds.get(case.patient_id) != fold],
            "val": [case.case_id for case in cases if folds.get(case.patient_id) == fold],
        }
        for fold in sorted(set(folds.values()))
    ]
