"""A division of a cohort, frozen in ``splits.json``: who trains, who chooses the model, who tests.

A *unit* is what was drawn: a patient, always, except where the published protocol is repeated, which drew single
images (unit ``image``; a unit is then ``<case_id>#<frame>`` with frames counted from 0). A *fold* puts every unit on
one *side*: ``train``, ``val`` (chooses the epoch) or ``test`` (is looked at once, at the end).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import SplitError, listing
from mpi_unet.files import read_json, write_json

__all__ = ["SIDES", "Fold", "Side", "Split", "frame_unit"]

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")
STRATEGIES = ("holdout", "kfold")
UNITS = ("patient", "image")
SCHEMA_VERSION = "1.0.0"

REGENERATE = "remove splits.json to draw the folds anew, or use the cohort that they were drawn from"


@dataclass(frozen=True)
class Fold:
    """One division of all units into three sides; each is sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """The folds of a cohort and how they were drawn.

    Attributes:
        strategy: ``holdout`` (one fold) or ``kfold`` (each unit tests in exactly one fold).
        unit: ``patient`` or ``image``.
        seed: Seed of the draw.
        stratify_by: Columns that were really used.
        fingerprint: Of the cohort that was split, see :meth:`mpi_unet.cohort.table.Cohort.fingerprint`.
        folds: The folds.
        note: One sentence for the report on how the units were drawn.
    """

    strategy: Literal["holdout", "kfold"]
    unit: Literal["patient", "image"]
    seed: int
    stratify_by: tuple[str, ...]
    fingerprint: str
    folds: tuple[Fold, ...]
    note: str = ""

    @cached_property
    def _sides(self) -> tuple[dict[str, Side], ...]:
        return tuple({unit: side for side in SIDES for unit in getattr(fold, side)} for fold in self.folds)

    def side_of(self, fold: int, case: Case, frame: int = 0) -> Side | None:
        """On which side of a fold a frame of a case is.

        Args:
            fold: Number of the fold, from 0.
            case: The case.
            frame: Number of the frame, from 0; it counts only when images were drawn.

        Returns:
            The side, or None when the split does not know the patient (or image).
        """
        unit = frame_unit(case.case_id, frame) if self.unit == "image" else case.patient_id
        return self._sides[fold].get(unit)

    def write(self, path: str | Path) -> None:
        """Freeze the split in a JSON file, whole or not at all."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "strategy": self.strategy,
            "unit": self.unit,
            "seed": self.seed,
            "stratify_by": list(self.stratify_by),
            "fingerprint": self.fingerprint,
            "note": self.note,
            "folds": [{side: list(getattr(fold, side)) for side in SIDES} for fold in self.folds],
        }
        write_json(path, content)

    @classmethod
    def read(cls, path: str | Path, fingerprint: str | None = None, cohort: Cohort | None = None) -> Split:
        """Read a frozen split.

        Args:
            path: The JSON file.
            fingerprint: What the cohort in use has; None to read the split without a cohort at hand.
            cohort: The cohort in use; when given, the split must put each of its patients on one side of every fold.

        Raises:
            SplitError: The file is no split, belongs to another cohort, contradicts itself, or does not fit ``cohort``.
        """
        split = _parse(path)
        if fingerprint is not None and split.fingerprint != fingerprint:
            raise SplitError(
                f"{path} was drawn on a cohort with fingerprint {_short(split.fingerprint)}, the cohort in use has "
                f"{_short(fingerprint)}: cases, columns or pixels are not the same; {REGENERATE}"
            )
        problems = _contradictions(split) + (_misfits(split, cohort) if cohort else [])
        if problems:
            raise SplitError(f"{path} cannot be used:\n{listing(problems)}\nCorrect it, or {REGENERATE}")
        return split

    def verify(self, cohort: Cohort) -> None:
        """Make sure that every unit of ``cohort``, and no other, is on exactly one side of every fold.

        Raises:
            SplitError: Listing every unit that is unknown, missing, on two sides or tested other than once.
        """
        problems = _contradictions(self) + _misfits(self, cohort)
        if problems:
            raise SplitError(f"The split does not fit {cohort.root}:\n{listing(problems)}\nCorrect it, or {REGENERATE}")


def frame_unit(case_id: str, frame: int) -> str:
    """Name of one frame where images are drawn.

    Example:
        >>> frame_unit("P017_rest", 3)
        'P017_rest#3'
    """
    return f"{case_id}#{frame}"


# --- Private helpers --------------------------------------------------------------------------------------------------


def _parse(path: str | Path) -> Split:
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise SplitError(f"{path} is missing; expected the splits.json of a run") from error
    except (OSError, ValueError) as error:
        raise SplitError(f"{path} cannot be read ({error}); expected the splits.json of a run") from error
    try:
        version = str(content["schema_version"])
        if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
            raise SplitError(f"{path}: schema_version is {version}; this mpi_unet reads {SCHEMA_VERSION}; {REGENERATE}")
        folds = tuple(Fold(*(_texts(fold[side], side) for side in SIDES)) for fold in content["folds"])
        return Split(
            strategy=_one_of(content["strategy"], STRATEGIES, "strategy"),
            unit=_one_of(content["unit"], UNITS, "unit"),
            seed=int(content["seed"]),
            stratify_by=_texts(content["stratify_by"], "stratify_by"),
            fingerprint=str(content["fingerprint"]),
            folds=folds,
            note=str(content.get("note", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, SplitError):
            raise
        what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise SplitError(f"{path} is no split: {what}; {REGENERATE}") from error


def _texts(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{key} holds {value!r}; expected a list of ids")
    return tuple(value)


def _one_of(value: Any, allowed: Sequence[str], key: str) -> Any:
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}; expected {' or '.join(allowed)}")
    return value


def _short(fingerprint: str) -> str:
    return fingerprint[:12] or "(none)"


def _contradictions(split: Split) -> list[str]:
    """What is wrong with the folds whatever the cohort: a unit on two sides, an empty side, not one test each."""
    name = split.unit
    problems = [] if split.folds else ["there is no fold; expected at least one"]
    for number, fold in enumerate(split.folds):
        sides: dict[str, list[str]] = {}
        for side in SIDES:
            if not getattr(fold, side):
                problems.append(f"fold {number}: no {name} is in {side}; expected at least one")
            for unit in getattr(fold, side):
                sides.setdefault(unit, []).append(side)
        problems += [
            f"fold {number}: {name} {unit} is in {' and '.join(where)}; expected one side"
            for unit, where in sides.items()
            if len(where) > 1
        ]
    if split.strategy == "kfold":
        times: dict[str, int] = {}
        for fold in split.folds:
            for side in SIDES:
                for unit in getattr(fold, side):
                    times[unit] = times.get(unit, 0) + (side == "test")
        problems += [
            f"{name} {unit} is tested in {number} folds; expected exactly one"
            for unit, number in times.items()
            if number != 1
        ]
    return problems


def _misfits(split: Split, cohort: Cohort) -> list[str]:
    """Units that the cohort does not know, and units of the cohort that a fold has forgotten."""
    if split.unit == "patient":
        expected = set(cohort.patients)
    else:
        expected = {frame_unit(case.case_id, frame) for case in cohort.cases for frame in range(case.num_frames())}
    problems = []
    for number, fold in enumerate(split.folds):
        named = {*fold.train, *fold.val, *fold.test}
        problems += [f"fold {number}: {split.unit} {unit} is not in the cohort" for unit in sorted(named - expected)]
        problems += [f"fold {number}: {split.unit} {unit} is on no side" for unit in sorted(expected - named)]
    return problems
