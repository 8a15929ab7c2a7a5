"""The leakage audit: does anything that trains or chooses the model come back in the test?

A *leak* is one of three findings. ``patient``: one patient id is on two sides of a fold. ``identical``: the same
pixels stand under two patient ids, or on two sides. ``near_duplicate``: frames of two patient ids on two sides of a
fold are more alike than frames of two acquisitions are (see :mod:`mpi_unet.cohort.likeness`).

The audit finds copies. It cannot prove that two ids are two people: two acquisitions of one person, such as rest and
stress, need not be more alike than those of two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int, Shaped

from mpi_unet.cohort.case import exclude_option
from mpi_unet.cohort.frames import Frames, candidate_pairs, folds_of
from mpi_unet.cohort.likeness import aligned_correlation
from mpi_unet.cohort.splits import SIDES, Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import SplitError, listing

__all__ = ["NEAR_DUPLICATE", "Leak", "audit", "find_leaks"]

NEAR_DUPLICATE = 0.98
"""Correlation of fine details from which on two frames count as one.

Measured on simulated cohorts of 40 patients with a rest and a stress study each: frames of two patients reach 0.91 as
projections and 0.96 as transaxial or short-axis slices. A copy with noise of 1 % of its maximum, shifted by a pixel
both ways, stored in 8 bits or on twice the matrix has frames above 0.98 in every case. Not found for certain: more
noise, a shift by a part of a pixel, another gray curve; never: a copy that was mirrored or turned.
"""

CANDIDATE = 0.9
"""Correlation of coarse details from which on a frame is looked at finely."""

NUM_CANDIDATES = 4
"""So many frames, the most alike ones, are looked at finely for each frame."""

PAIRS_SHOWN = 3
"""Pairs of frames that a message names for two cases; the rest is counted."""


@dataclass(frozen=True)
class Leak:
    """One finding of the audit.

    Attributes:
        kind: What was found; see the module.
        case_ids: The cases it is about; for ``patient`` all cases of the patient.
        frames: Pairs of frame numbers, from 0, in the first and the second case; empty for ``patient``.
        correlation: Largest correlation of fine details; 1 for ``patient`` and ``identical``.
        text: The finding as a sentence.
    """

    kind: Literal["patient", "identical", "near_duplicate"]
    case_ids: tuple[str, ...]
    frames: tuple[tuple[int, int], ...]
    correlation: float
    text: str


def audit(cohort: Cohort, split: Split, *, near_duplicate: float = NEAR_DUPLICATE) -> None:
    """Fail when anything leaks; see :func:`find_leaks` for the arguments.

    Raises:
        SplitError: One error with every leak and the remedies.
    """
    leaks = find_leaks(cohort, split, near_duplicate=near_duplicate)
    if not leaks:
        return
    remedies = []
    if any(leak.kind == "patient" for leak in leaks):
        remedies.append(
            "Folds are drawn by patient: remove splits.json to draw them anew"
            if split.unit == "patient"
            else "Draw patients with split.unit=patient; only to repeat a published protocol, allow it with "
            "split.allow_leakage=true"
        )
    copies = sorted({leak.case_ids[-1] for leak in leaks if leak.kind != "patient"})
    if copies:
        remedies.append(
            "Give cases of one person the same patient_id in cases.csv, or leave copies out with "
            + exclude_option(copies)
        )
    number = f"{len(leaks)} leaks" if len(leaks) > 1 else "1 leak"
    raise SplitError(
        f"{number} in the split of {cohort.root}:\n{listing([leak.text for leak in leaks])}\n" + "\n".join(remedies)
    )


def find_leaks(cohort: Cohort, split: Split, *, near_duplicate: float = NEAR_DUPLICATE) -> list[Leak]:
    """Look for patients on two sides, identical frames and near-duplicates.

    Blank frames (one value everywhere) are not compared, and frames of one patient only for being identical. Every
    image is read once; 5,000 frames take a few seconds and about 100 MB.

    Args:
        cohort: The cohort.
        split: Its division.
        near_duplicate: Correlation from which on frames of two patients count as one; above 1 this part is left out.

    Returns:
        The leaks: patients first, then identical, then similar frames; empty when nothing was found.
    """
    frames = Frames.of(cohort, split)
    identical = _identical_frames(cohort, frames)
    copies = {leak.case_ids for leak in identical}
    alike = _near_duplicates(cohort, frames, near_duplicate) if near_duplicate <= 1 else []
    return [
        *_patients_on_two_sides(cohort, frames, split),
        *identical,
        *(leak for leak in alike if leak.case_ids not in copies),
    ]


# --- Private helpers --------------------------------------------------------------------------------------------------


def _patients_on_two_sides(cohort: Cohort, frames: Frames, split: Split) -> list[Leak]:
    where = [list(_sides_of_patients(cohort, frames, split, fold)) for fold in folds_of(split)]
    leaks = []
    for number, patient in enumerate(cohort.patients):
        leaking = [fold for fold in folds_of(split) if len(where[fold][number]) > 1]
        if leaking:
            more = f", likewise in {len(leaking) - 1} more" if len(leaking) > 1 else ""
            first = f"{' and '.join(where[leaking[0]][number])} of fold {leaking[0]}"
            text = f"patient {patient} is in {first}{more}; expected one side"
            ids = tuple(case.case_id for case in cohort.cases_of(patient))
            leaks.append(Leak("patient", ids, (), 1.0, text))
    return leaks


def _sides_of_patients(cohort: Cohort, frames: Frames, split: Split, fold: int) -> Iterator[tuple[str, ...]]:
    """The sides that each patient is on, with the number of frames where images were drawn."""
    if split.unit == "patient":
        members = {name: set(getattr(split.folds[fold], name)) for name in SIDES}
        for patient in cohort.patients:
            yield tuple(name for name in SIDES if patient in members[name])
        return
    side, size = frames.side[fold], len(cohort.patients)
    counts = [np.bincount(frames.patient[side == number], minlength=size).tolist() for number in range(len(SIDES))]
    for of_patient in zip(*counts, strict=True):
        yield tuple(f"{name} ({count} frames)" for name, count in zip(SIDES, of_patient, strict=True) if count)


def _identical_frames(cohort: Cohort, frames: Frames) -> list[Leak]:
    # Each frame against the first of its kind is enough: if any two of them leak, one of these pairs does.
    first, second = frames.repeated()
    leaking = (frames.patient[first] != frames.patient[second]) | frames.on_two_sides(first, second)
    found = _by_cases(cohort, frames, first[leaking], second[leaking], np.ones(int(leaking.sum())))
    return [
        Leak("identical", ids, pairs, 1.0, f"{ids[0]} and {ids[1]} hold identical pixels: {_shown(pairs)}")
        for ids, pairs, _ in found
    ]


def _near_duplicates(cohort: Cohort, frames: Frames, limit: float) -> list[Leak]:
    pairs = candidate_pairs(frames, least=CANDIDATE, number=NUM_CANDIDATES)
    correlation = aligned_correlation(frames.fine, pairs[:, 0], pairs[:, 1])
    alike = correlation >= limit
    found = _by_cases(cohort, frames, pairs[alike, 0], pairs[alike, 1], correlation[alike])
    return [
        Leak(
            "near_duplicate",
            ids,
            numbers,
            largest,
            f"{ids[0]} and {ids[1]} stand for two patients and are alike like copies, correlation {largest:.3f} "
            f"(limit {limit:g}): {_shown(numbers)}",
        )
        for ids, numbers, largest in found
    ]


def _by_cases(
    cohort: Cohort,
    frames: Frames,
    first: Int[np.ndarray, " n"],
    second: Int[np.ndarray, " n"],
    correlation: Shaped[np.ndarray, " n"],
) -> list[tuple[tuple[str, str], tuple[tuple[int, int], ...], float]]:
    """Pairs of frames, gathered by pairs of cases; the most alike frames first."""
    groups: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for one, other, value in zip(first, second, correlation, strict=True):
        ids = (cohort.cases[frames.case[one]].case_id, cohort.cases[frames.case[other]].case_id)
        groups.setdefault(ids, []).append((-float(value), int(frames.number[one]), int(frames.number[other])))
    return [
        (ids, tuple((one, other) for _, one, other in sorted(found)), -min(found)[0])
        for ids, found in sorted(groups.items())
    ]


def _shown(pairs: Sequence[tuple[int, int]]) -> str:
    text = ", ".join(f"{one} and {other}" for one, other in pairs[:PAIRS_SHOWN])
    return f"frames {text}" + (f" and {len(pairs) - PAIRS_SHOWN} more pairs" if len(pairs) > PAIRS_SHOWN else "")
