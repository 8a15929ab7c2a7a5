"""What file names mean: which image belongs to which mask, which frames make a case, which cases are of one patient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_unet.cohort.case import is_safe_name
from mpi_unet.errors import CohortError, listing
from mpi_unet.sources.raster import RASTER_SUFFIXES

__all__ = ["NIFTI_SUFFIXES", "CaseFiles", "case_id_of", "find_cases", "in_words"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")

IDENTITY = ("patient", "case", "frame")
"""Groups that say what a file is a picture of; all others describe the case."""

RESERVED = {"case_id", "patient_id", "image", "root"}
"""Column names that a group may not take."""


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        case_id: Patient and case, as a safe file name.
        patient_id: The patient as written in the names.
        columns: The further groups of the image pattern.
        frames: Numbers of the frames, ascending; empty when one file is the whole case.
        images: One image file per frame, or the one that holds the case.
        labels: The masks, in the same order.
    """

    case_id: str
    patient_id: str
    columns: dict[str, str]
    frames: tuple[int, ...]
    images: tuple[Path, ...]
    labels: tuple[Path, ...]

    @property
    def missing_frames(self) -> tuple[int, ...]:
        """Numbers between the first and the last frame that no file has."""
        return tuple(sorted(set(range(self.frames[0], self.frames[-1] + 1)) - {*self.frames})) if self.frames else ()


@dataclass(frozen=True)
class _Named:
    """A file and what its name says."""

    path: Path
    groups: dict[str, str]

    def key(self, shared: Sequence[str]) -> tuple[str, ...]:
        return tuple(_number(self.groups[name]) if name == "frame" else self.groups[name] for name in shared)


def find_cases(
    root: Path, image_pattern: str, label_pattern: str, *, ignore: str | None = None, leave_out: Path | None = None
) -> tuple[list[CaseFiles], list[str]]:
    """Gather the image and mask files below a folder into cases.

    Only TIFF, PNG and NIfTI files count; hidden files do not.

    Args:
        root: The folder.
        image_pattern: Regular expression of image names.
        label_pattern: Regular expression of mask names.
        ignore: Regular expression of names to leave out.
        leave_out: A folder that is not searched.

    Returns:
        The cases, sorted by id, of the files that belong together, and a sentence for every file that does not.

    Raises:
        CohortError: A pattern cannot be used, or none of the files has an image or none a mask.
    """
    patterns = _compiled({"image_pattern": image_pattern, "label_pattern": label_pattern, "ignore": ignore})
    problems: list[str] = []
    images: list[_Named] = []
    labels: list[_Named] = []
    files = [path for path in _files(root, leave_out) if not _matches(patterns.get("ignore"), path, root)]
    for path in files:
        as_image, as_label = (_named(patterns[name], path, root) for name in ("image_pattern", "label_pattern"))
        if as_image and as_label:
            problems.append(f"{_below(path, root)}: fits both patterns; expected an image or a mask")
        elif as_image:
            images.append(as_image)
        elif as_label:
            labels.append(as_label)
        else:
            problems.append(f"{_below(path, root)}: fits neither data.image_pattern nor data.label_pattern")
    for option, pattern, found in (
        ("image_pattern", image_pattern, images),
        ("label_pattern", label_pattern, labels),
    ):
        if not found:
            example = f"; a file there is {_below(files[0], root)!r}" if files else ""
            raise CohortError(
                f"None of {len(files)} TIFF, PNG and NIfTI files in {root} fits data.{option}={pattern!r}{example}; "
                f"correct data.{option}, or data.root"
            )
    shared = [name for name in patterns["image_pattern"].groupindex if name in patterns["label_pattern"].groupindex]
    image_of = _unique(images, shared, root, problems)
    label_of = _unique(labels, shared, root, problems)
    for alone, others, expected in ((image_of, label_of, "mask"), (label_of, image_of, "image")):
        problems += [
            f"{_below(alone[key].path, root)}: has no {expected}; expected one with {_said(shared, key)}"
            for key in alone
            if key not in others
        ]
    pairs = [(image_of[key], label_of[key]) for key in image_of if key in label_of]
    return _cases(pairs, root, problems), problems


def in_words(numbers: Iterable[int]) -> str:
    """Ascending numbers with runs drawn together.

    Example:
        >>> in_words([0, 1, 2, 3, 7, 9, 10])
        '0-3, 7, 9-10'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _compiled(patterns: dict[str, str | None]) -> dict[str, re.Pattern[str]]:
    compiled, problems = {}, []
    for name, pattern in patterns.items():
        if pattern is None:
            continue
        try:
            compiled[name] = re.compile(pattern)
        except re.error as error:
            problems.append(f"data.{name}={pattern!r} is no regular expression: {error}")
            continue
        groups = compiled[name].groupindex
        if name != "ignore" and "patient" not in groups:
            problems.append(f"data.{name}={pattern!r} has no group (?P<patient>...); folds are drawn by patient")
        problems += [
            f"data.{name}: group {group!r} is the name of a column already; choose another"
            for group in groups
            if group in RESERVED or group.startswith("label_")
        ]
    if not problems:
        in_image, in_label = ({*compiled[name].groupindex} & {*IDENTITY} for name in ("image_pattern", "label_pattern"))
        if in_image != in_label:
            problems.append(
                f"data.image_pattern has the groups {', '.join(sorted(in_image))}, data.label_pattern "
                f"{', '.join(sorted(in_label))}; of patient, case and frame both need the same"
            )
    if problems:
        raise CohortError(f"The patterns of data=pairs cannot be used:\n{listing(problems)}\nCorrect them")
    return compiled


def _files(root: Path, leave_out: Path | None) -> list[Path]:
    hidden_from = leave_out.resolve() if leave_out else None
    found = []
    for path in sorted(root.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if is_hidden or not path.name.lower().endswith((*RASTER_SUFFIXES, *NIFTI_SUFFIXES)) or not path.is_file():
            continue
        if hidden_from is None or not path.resolve().is_relative_to(hidden_from):
            found.append(path)
    return found


def _text(pattern: re.Pattern[str], path: Path, root: Path) -> str:
    return _below(path, root) if "/" in pattern.pattern else path.name


def _matches(pattern: re.Pattern[str] | None, path: Path, root: Path) -> bool:
    return pattern is not None and pattern.fullmatch(_text(pattern, path, root)) is not None


def _named(pattern: re.Pattern[str], path: Path, root: Path) -> _Named | None:
    match = pattern.fullmatch(_text(pattern, path, root))
    return _Named(path, {name: text or "" for name, text in match.groupdict().items()}) if match else None


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _number(text: str) -> str:
    return str(int(text)) if text.isdecimal() else text


def _said(names: Sequence[str], key: Sequence[str]) -> str:
    return ", ".join(f"{name} {value.strip()!r}" for name, value in zip(names, key, strict=True) if value)


def _unique(
    files: Sequence[_Named], shared: Sequence[str], root: Path, problems: list[str]
) -> dict[tuple[str, ...], _Named]:
    unique: dict[tuple[str, ...], _Named] = {}
    for file in files:
        key = file.key(shared)
        if "frame" in file.groups and not file.groups["frame"].isdecimal():
            problems.append(f"{_below(file.path, root)}: its frame is {file.groups['frame']!r}; expected a number")
        elif not file.groups["patient"].strip():
            problems.append(f"{_below(file.path, root)}: its patient is empty; expected an id")
        elif key in unique:
            both = f"{_below(unique[key].path, root)} and {_below(file.path, root)}"
            problems.append(f"{both}: both are {_said(shared, key)}; expected one file")
        else:
            unique[key] = file
    return unique


def _cases(pairs: Sequence[tuple[_Named, _Named]], root: Path, problems: list[str]) -> list[CaseFiles]:
    members: dict[tuple[str, str], list[tuple[_Named, _Named]]] = {}
    for image, label in pairs:
        members.setdefault((image.groups["patient"], image.groups.get("case", "")), []).append((image, label))
    cases: dict[str, CaseFiles] = {}
    for (patient, case), files in members.items():
        case_id = case_id_of(patient, case)
        if not is_safe_name(case_id):
            problems.append(f"{_below(files[0][0].path, root)}: no file name can be made of {patient!r} and {case!r}")
            continue
        if case_id.casefold() in cases:
            problems.append(f"{_below(files[0][0].path, root)}: its case_id {case_id} is that of another case too")
            continue
        has_frames = "frame" in files[0][0].groups
        if has_frames:
            files = sorted(files, key=lambda pair: int(pair[0].groups["frame"]))
        elif len(files) > 1:
            names = ", ".join(_below(image.path, root) for image, _ in files)
            problems.append(f"{case_id}: {names} are one case; expected one file, or a group (?P<frame>...)")
            continue
        cases[case_id.casefold()] = CaseFiles(
            case_id=case_id,
            patient_id=patient.strip(),
            columns=_columns(case_id, [image for image, _ in files], problems),
            frames=tuple(int(image.groups["frame"]) for image, _ in files) if has_frames else (),
            images=tuple(image.path for image, _ in files),
            labels=tuple(label.path for _, label in files),
        )
    return sorted(cases.values(), key=lambda case: case.case_id)


def case_id_of(patient: str, case: str) -> str:
    """The case, after its patient where it does not begin with the patient itself; anything unsafe becomes ``_``."""
    parts = [case] if case.startswith(patient) else [patient, case]
    return "_".join(filter(None, (re.sub(r"[^A-Za-z0-9_.=+@-]+", "_", part).strip("_.") for part in parts)))


def _columns(case_id: str, images: Sequence[_Named], problems: list[str]) -> dict[str, str]:
    columns = {}
    for name in images[0].groups:
        if name not in IDENTITY:
            values = sorted({image.groups[name] for image in images})
            if len(values) > 1:
                problems.append(f"{case_id}: its frames say {name} {' and '.join(values)}; expected one value a case")
            columns[name] = values[0]
    return columns
