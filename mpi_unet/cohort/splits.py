"""Drawing the folds of a cohort.

The words are those of :mod:`mpi_unet.cohort.fold`. A *stratum* is what units have in common in the columns asked for;
strata are spread over the folds as evenly as possible.

Nothing here is drawn by a random generator: units are put in the order of a SHA-256 over seed and id, so that a split
depends on neither the order of the rows nor the version of a library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from mpi_unet.cohort.fold import SIDES, Fold, Side, Split, frame_unit
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import SplitError
from mpi_unet.files import sha256

__all__ = ["SIDES", "Fold", "Side", "Split", "frame_unit", "holdout_split", "kfold_split"]

FRACTION_TOLERANCE = 1e-6
"""train + val + test may miss 1 by this much: three decimal fractions as typed."""


def kfold_split(
    cohort: Cohort,
    *,
    num_folds: int,
    val_fraction: float,
    seed: int,
    stratify_by: Sequence[str] = (),
    unit: Literal["patient", "image"] = "patient",
    fingerprint: str = "",
) -> Split:
    """Divide a cohort so that every patient is tested exactly once.

    Folds differ by one patient at most, and so does each stratum's share in them. Within the training part of a fold,
    ``val_fraction`` of the patients (at least one) are set aside to choose the epoch.

    Args:
        cohort: The cohort.
        num_folds: Number of folds, at least 2.
        val_fraction: Part of the patients outside the test fold that validates, in (0, 1).
        seed: Another seed draws other folds.
        stratify_by: Columns of ``cases.csv`` to spread evenly; those that the cohort lacks are left out, and ``note``
            says so.
        unit: ``patient``; ``image`` only to repeat protocols that leak.
        fingerprint: Of the cohort, to be frozen with the split.

    Raises:
        SplitError: There are fewer patients than folds or no room for validation, or an argument is out of its range.
    """
    _check_range("split.num_folds", num_folds, num_folds >= 2, "an integer of 2 or more")
    _check_range("split.val_fraction", val_fraction, 0 < val_fraction < 1, "a fraction between 0 and 1")
    strata, used, note = _strata(cohort, stratify_by, unit)
    word = "patients" if unit == "patient" else "images"
    smallest_rest = len(strata) - -(-len(strata) // num_folds)
    if len(strata) < num_folds or smallest_rest < 2:
        most = max((k for k in range(2, len(strata) + 1) if len(strata) - -(-len(strata) // k) >= 2), default=None)
        fewer = f"split.num_folds={most}" if most else f"a cohort of 3 {word} or more"
        raise SplitError(
            f"{len(strata)} {word} cannot make {num_folds} folds with one for training and one for validation besides "
            f"the test part; give {fewer}, or split=holdout"
        )
    tests = _deal(strata, num_folds, seed)
    folds = []
    for fold, test in enumerate(tests):
        rest = {name: stratum for name, stratum in strata.items() if name not in set(test)}
        val = _draw(rest, min(_share(val_fraction, len(rest)), len(rest) - 1), f"{seed}/val/{fold}")
        folds.append(_fold(rest, val, test))
    return Split("kfold", unit, seed, used, fingerprint, tuple(folds), note)


def holdout_split(
    cohort: Cohort,
    *,
    train: float,
    val: float,
    test: float,
    seed: int,
    stratify_by: Sequence[str] = (),
    unit: Literal["patient", "image"] = "patient",
    fingerprint: str = "",
) -> Split:
    """Divide a cohort once into training, validation and test.

    Args:
        cohort: The cohort.
        train: Part of the patients that trains.
        val: Part that chooses the epoch.
        test: Part that is tested. The three are positive and sum to 1; each side gets at least one patient.
        seed: Another seed draws another division.
        stratify_by: As for :func:`kfold_split`.
        unit: As for :func:`kfold_split`.
        fingerprint: Of the cohort, to be frozen with the split.

    Raises:
        SplitError: There are fewer than three patients, a fraction is not positive, or they do not sum to 1.
    """
    for name, fraction in (("train", train), ("val", val), ("test", test)):
        _check_range(f"split.{name}", fraction, 0 < fraction < 1, "a fraction between 0 and 1")
    total = train + val + test
    if abs(total - 1) > FRACTION_TOLERANCE:
        raise SplitError(
            f"split.train={train:g}, split.val={val:g} and split.test={test:g} sum to {total:g}; expected 1; "
            f"for example split.train={1 - val - test:g}" + ("" if val + test < 1 else " with smaller parts beside it")
        )
    strata, used, note = _strata(cohort, stratify_by, unit)
    if len(strata) < len(SIDES):
        word = "patients" if unit == "patient" else "images"
        raise SplitError(
            f"{len(strata)} {word} cannot be divided into training, validation and test with one each; "
            "add patients, or try data=phantom"
        )
    num_test = min(_share(test, len(strata)), len(strata) - 2)
    test_units = _draw(strata, num_test, f"{seed}/test")
    rest = {name: stratum for name, stratum in strata.items() if name not in set(test_units)}
    val_units = _draw(rest, min(_share(val, len(strata)), len(rest) - 1), f"{seed}/val")
    return Split("holdout", unit, seed, used, fingerprint, (_fold(rest, val_units, test_units),), note)


# --- Private helpers --------------------------------------------------------------------------------------------------

Strata: TypeAlias = dict[str, tuple[str, ...]]
"""Unit to its stratum."""


def _strata(cohort: Cohort, stratify_by: Sequence[str], unit: str) -> tuple[Strata, tuple[str, ...], str]:
    used = tuple(column for column in dict.fromkeys(stratify_by) if column in cohort.columns)
    absent = [column for column in dict.fromkeys(stratify_by) if column not in cohort.columns]
    strata: Strata = {}
    if unit == "image":
        for case in cohort.cases:
            for frame in range(case.num_frames()):
                strata[frame_unit(case.case_id, frame)] = tuple(case.column(column) or "" for column in used)
        note = "Single images were drawn, not patients: images of one patient are on several sides."
    else:
        values: dict[str, list[set[str]]] = {}
        for case in cohort.cases:
            of_patient = values.setdefault(case.patient_id, [set() for _ in used])
            for seen, column in zip(of_patient, used, strict=True):
                seen.add(case.column(column) or "")
        strata = {patient: tuple("+".join(sorted(seen)) for seen in columns) for patient, columns in values.items()}
        note = "Patients were drawn."
    if used:
        note += f" Stratified by {', '.join(used)} ({len(set(strata.values()))} strata)."
    if absent:
        note += f" Not in cases.csv and so not used: {', '.join(absent)}."
    return strata, used, note


def _ordered(strata: Strata, salt: str) -> list[str]:
    """Stratum after stratum, and within a stratum in an order that only the seed decides."""
    return sorted(strata, key=lambda unit: (strata[unit], sha256(salt, unit)))


def _deal(strata: Strata, num_folds: int, seed: int) -> list[list[str]]:
    """Deal the ordered units like cards: neighbors, hence members of a stratum, go to different folds.

    Any run of neighbors is spread over the folds within one, so this holds for all units together, for each stratum
    however small, and for each value of the first column.
    """
    units = _ordered(strata, f"{seed}/test")
    seats = sorted(range(num_folds), key=lambda fold: sha256(f"{seed}/seat", str(fold)))
    return [units[seat::num_folds] for seat in seats]


def _draw(strata: Strata, number: int, salt: str) -> list[str]:
    """Take ``number`` units at even distances along the ordered units: each stratum gives its share within one."""
    units = _ordered(strata, salt)
    start = int(sha256(salt, "start")[:8], 16) / 16**8
    return [units[int((position + start) * len(units) / number)] for position in range(number)]


def _share(fraction: float, number: int) -> int:
    return max(1, int(fraction * number + 0.5))


def _fold(rest: Strata, val: Sequence[str], test: Sequence[str]) -> Fold:
    train = [unit for unit in rest if unit not in set(val)]
    return Fold(tuple(sorted(train)), tuple(sorted(val)), tuple(sorted(test)))


def _check_range(name: str, value: float, is_right: bool, expected: str) -> None:
    if not is_right:
        raise SplitError(f"{name} is {value}; expected {expected}; change {name}=...")
