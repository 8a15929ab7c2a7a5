"""The outlines of a study, checked and scored pair by pair.

What cannot be compared is refused in one message that names every case, or, where the user allowed it, left out and
counted; no case disappears without a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.checks import grid_problems
from mpi_unet.cohort.nifti import Volume, read_grid, spacing_from_affine
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError, CohortError, listing
from mpi_unet.evaluation.pairwise import CaseOutlines, CasePairs, score_cases
from mpi_unet.evaluation.policy import mean_of_defined
from mpi_unet.evaluation.table import ScoreRow, score_rows
from mpi_unet.reader_study.options import NETWORK, Network, ReaderChoice, StudyOptions

__all__ = ["ScoredOutlines", "score_outlines"]

MIN_TOLERANCE_MM = 3.0
"""Tolerance of the surface Dice where no two readings tell how far outlines of one heart lie apart."""

THRESHOLD_SHIFT = 0.1
"""How far the threshold of a network is moved to see how much hangs on it."""


@dataclass(frozen=True)
class ScoredOutlines:
    """Every pair of outlines, scored.

    Attributes:
        cohort: The cohort.
        choice: The panel and its second reads.
        network: What is compared with the panel; None for readers only.
        cases: The cases that were scored, with their pairs.
        left_out: Case id and reason, for cases that could not enter.
        tolerance_mm: Of the surface Dice; None where nothing is measured in mm.
        tolerance_source: Where it comes from, in words.
        unpredicted: Cases that the network has no mask for, with the pairs of the readers; they are in no score.
    """

    cohort: Cohort
    choice: ReaderChoice
    network: Network | None
    cases: tuple[CasePairs, ...]
    left_out: tuple[tuple[str, str], ...]
    tolerance_mm: float | None
    tolerance_source: str
    unpredicted: tuple[CasePairs, ...] = ()

    @property
    def readers(self) -> tuple[str, ...]:
        """The panel."""
        return self.choice.readers

    @property
    def members(self) -> tuple[str, ...]:
        """The network, where there is one, and the panel."""
        return ((NETWORK,) if self.network else ()) + self.choice.readers

    @property
    def patients(self) -> tuple[str, ...]:
        """The patient of each case."""
        return tuple(case.patient_id for case in self.cases)

    def column(self, preds: str, target: str, metric: str) -> Float[np.ndarray, " cases"]:
        """One score of one pair in every case; NaN where a mask is missing or the score is undefined."""
        found = []
        for case in self.cases:
            pair = case.pairs.get((preds, target))
            scores = {} if pair is None else pair.at_tolerance(self.tolerance_mm if metric == "nsd" else None)
            found.append(scores.get(metric, np.nan))
        return np.array(found, dtype=float)

    def table(
        self, metric: str, readers: Sequence[str] | None = None, network: str = NETWORK
    ) -> tuple[Float[np.ndarray, "cases readers"] | None, Float[np.ndarray, "cases readers readers"]]:
        """One score as a panel takes it: network against reader, and reader against reader."""
        readers = self.readers if readers is None else tuple(readers)
        against = None
        if self.network is not None:
            against = np.stack([self.column(network, reader, metric) for reader in readers], axis=1)
        pairs = np.full((len(self.cases), len(readers), len(readers)), np.nan)
        for (j, one), (k, other) in combinations(enumerate(readers), 2):
            values = self.column(*self._ordered(one, other), metric)
            pairs[:, j, k] = pairs[:, k, j] = values
        return against, pairs

    def rows(self, preds: str, target: str) -> list[ScoreRow]:
        """The score rows of one pair."""
        return [
            row
            for case in self.cases
            if (preds, target) in case.pairs
            for row in score_rows(
                case.pairs[preds, target].at_tolerance(self.tolerance_mm),
                patient_id=case.patient_id,
                case_id=case.case_id,
                reader=target,
                fold=0,
            )
        ]

    def case_volumes_ml(self, names: Sequence[str]) -> tuple[tuple[str, ...], Float[np.ndarray, "cases members"]]:
        """Volume of each outline in each case that has all of them, and the patient of each such case."""
        found = [case for case in self.cases if all(name in case.volumes_ml for name in names)]
        volumes = [[case.volumes_ml[name] for name in names] for case in found]
        return tuple(case.patient_id for case in found), np.array(volumes, dtype=float).reshape(-1, len(names))

    def volumes_ml(self, names: Sequence[str]) -> tuple[tuple[str, ...], Float[np.ndarray, "patients members"]]:
        """Volume of each outline, the cases that have all of them averaged within their patient."""
        owners, volumes = self.case_volumes_ml(names)
        patients = tuple(sorted(set(owners)))
        rows = [[owner == patient for owner in owners] for patient in patients]
        means = np.array([volumes[np.array(row)].mean(axis=0) for row in rows]).reshape(-1, len(names))
        return patients, means

    def _ordered(self, one: str, other: str) -> tuple[str, str]:
        places = self.members.index
        return (one, other) if places(one) < places(other) else (other, one)


def score_outlines(
    cohort: Cohort,
    cases: Sequence[Case],
    choice: ReaderChoice,
    network: Network | None,
    options: StudyOptions,
    *,
    allow_missing: bool = False,
) -> ScoredOutlines:
    """Check and score every pair of outlines.

    Args:
        cohort: The cohort.
        cases: The cases to compare.
        choice: The panel.
        network: What is compared with it; None for readers only.
        options: Options of the study.
        allow_missing: Leave out cases that the network has no mask for, and count them, instead of refusing.

    Raises:
        CohortError: Masks that are not on the grid of their image, or cannot be used; all of them in one message.
        AgreementError: The network has no mask for some cases, or no case is left.
    """
    left_out: list[tuple[str, str]] = []
    missing, problems, outlines = [], [], []
    for case in cases:
        files = {reader: case.labels[reader] for reader in (*choice.readers, *choice.repeats) if reader in case.labels}
        absent = [reader for reader in choice.readers if reader not in files]
        if network is not None and case.case_id not in network.masks:
            missing.append(case.case_id)
            left_out.append((case.case_id, f"no mask of {network.name}"))
            if not allow_missing or not files:
                continue
        elif len(absent) == len(choice.readers) or (network is None and len(absent) > len(choice.readers) - 2):
            left_out.append((case.case_id, f"no outline of reader {', '.join(absent)}"))
            continue
        elif absent:
            left_out.append((case.case_id, f"no outline of reader {', '.join(absent)}; compared among the others only"))
        has_mask = network is not None and case.case_id in network.masks
        masks = ({NETWORK: network.masks[case.case_id]} if network and has_mask else {}) | files
        grid, found = _grid_problems(case, masks)
        problems += [f"{case.case_id}: {problem}" for problem in found]
        if grid is not None and not found:
            outlines.append(_outlines(case, masks, grid.spacing_mm if cohort.spacing_known else None, choice, network))
    if missing and not allow_missing:
        raise AgreementError(
            f"{network.name if network else ''} has no mask for {len(missing)} of {len(cases)} cases:\n"
            f"{listing(missing)}\nExpected one <case_id>.nii.gz each; add them, or compare the others only with "
            "allow_missing=true, and the report says how many are missing"
        )
    scored = [] if problems else list(score_cases(outlines, domain=cohort.domain, num_workers=options.num_workers))
    problems += [f"{case.case_id}: {problem}" for case in scored for problem in case.problems]
    if problems:
        raise CohortError(
            f"{len(problems)} masks cannot be compared (cohort={cohort.root}):\n{listing(problems)}\n"
            "Correct these files; a mask is 0 outside and 1 inside, on the grid of its image"
        )
    if not scored:
        raise AgreementError(
            f"no case of {cohort.root} can be compared: {len(left_out)} of {len(cases)} cases lack a mask; expected at "
            "least one with two masks"
        )
    without = set(missing)
    unpredicted = tuple(case for case in scored if case.case_id in without)
    scored = [case for case in scored if case.case_id not in without]
    if not scored:
        raise AgreementError(
            f"{network.name if network else ''} has a mask for none of the cases that a reader outlined; expected at "
            "least one"
        )
    tolerance_mm, source = _tolerance(cohort, scored, choice, options.tolerance_mm)
    if tolerance_mm is not None:
        tolerance_mm = round(tolerance_mm, 4)  # the spacing of a float32 header is not known better
    return ScoredOutlines(cohort, choice, network, tuple(scored), tuple(left_out), tolerance_mm, source, unpredicted)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _grid_problems(case: Case, masks: Mapping[str, Path]) -> tuple[Volume | None, list[str]]:
    """Whether the masks lie on the grid of their image, from the headers alone."""
    try:
        shape, affine = read_grid(case.image)
    except CohortError as error:
        return None, [f"image {error}"]
    volume = Volume(np.broadcast_to(np.float32(0), shape), affine)
    problems = []
    for name, file in masks.items():
        try:
            mask_shape, mask_affine = read_grid(file)
        except CohortError as error:
            problems.append(f"{name}: {error}")
            continue
        problems += grid_problems(volume, np.broadcast_to(np.False_, mask_shape), mask_affine, name)
    return volume, problems


def _outlines(
    case: Case,
    masks: Mapping[str, Path],
    spacing_mm: tuple[float, float, float] | None,
    choice: ReaderChoice,
    network: Network | None,
) -> CaseOutlines:
    """One case with the pairs that are wanted: members with one another, second reads with the first read only."""
    files, thresholds = dict(masks), {}
    members = [name for name in (NETWORK, *choice.readers) if name in files]
    pairs = list(combinations(members, 2))
    pairs += [(second, first) for second, first in choice.repeats.items() if second in files and first in files]
    if network is not None and network.threshold is not None and case.case_id in network.probabilities:
        for name, threshold in moved_thresholds(network.threshold).items():
            files[name], thresholds[name] = network.probabilities[case.case_id], threshold
            pairs += [(name, reader) for reader in members if reader != NETWORK]
    return CaseOutlines(case.case_id, case.patient_id, files, spacing_mm, tuple(pairs), thresholds)


def moved_thresholds(threshold: float) -> dict[str, float]:
    """Names of the network at other thresholds, and those thresholds, where they are inside (0, 1)."""
    moved = (round(threshold - THRESHOLD_SHIFT, 6), round(threshold + THRESHOLD_SHIFT, 6))
    return {f"{NETWORK} at {value:g}": value for value in moved if 0 < value < 1}


def _tolerance(
    cohort: Cohort, cases: Sequence[CasePairs], choice: ReaderChoice, given: float | None
) -> tuple[float | None, str]:
    """Tolerance of the surface Dice: as given, else how far readers lie from themselves, else from one another."""
    if not cohort.spacing_known:
        return None, ""
    if given is not None:
        return float(given), "as given"
    half = max(max(spacing_from_affine(read_grid(case.image)[1])[1:]) for case in cohort.cases) / 2
    between = list(combinations(choice.readers, 2))
    for pairs, words in (
        (list(choice.repeats.items()), "median surface distance between two reads of one reader"),
        (between, "median surface distance between two readers"),
    ):
        median, infinite = _median_assd(cases, pairs)
        if infinite:
            noun = "distance" if infinite == 1 else "distances"
            words += f" ({infinite} infinite {noun} left out, where one of two outlines is empty)"
        if median is not None:
            return (half, f"half a pixel, which is more than the {words}") if median < half else (median, words)
    return max(MIN_TOLERANCE_MM, half), "3 mm or half a pixel, whichever is more; no two readings could be compared"


def _median_assd(cases: Sequence[CasePairs], pairs: Sequence[tuple[str, str]]) -> tuple[float | None, int]:
    """Median over patients of the mean surface distance, averaged over these pairs; None without a finite one.

    The number of infinite distances, which are not in it, comes second.
    """
    infinite = 0
    by_patient: dict[str, list[float]] = {}
    for case in cases:
        values = [case.pairs[pair].scores.get("assd_mm", np.nan) for pair in pairs if pair in case.pairs]
        finite = [value for value in values if np.isfinite(value)]
        infinite += sum(np.isinf(value) for value in values)
        by_patient.setdefault(case.patient_id, []).extend(finite)
    means = [mean_of_defined(np.array(values)) for values in by_patient.values() if values]
    return (float(np.median(means)) if means else None), int(infinite)
