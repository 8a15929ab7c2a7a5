"""The part of ``agreement.json`` about consensus references: never a reader against one that contains that reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mpi_unet.agreement import Consensus, Staple, average_cases, leave_one_out_consensus, majority_vote, staple
from mpi_unet.cohort.case import Case
from mpi_unet.cohort.nifti import read_mask
from mpi_unet.evaluation.overlap import dice, frame_counts
from mpi_unet.evaluation.pairwise import side_by_side
from mpi_unet.evaluation.policy import summarize_values
from mpi_unet.reader_study.as_json import mean_json, number_json
from mpi_unet.reader_study.options import NETWORK, StudyOptions
from mpi_unet.reader_study.outlines import ScoredOutlines
from mpi_unet.shapes import Mask

__all__ = ["ConsensusScores", "consensus_part", "consensus_scores", "consensus_sensitivity"]

TIE: Literal["background"] = "background"
TIE_RULE = "a voxel that exactly half of the readers outlined counts as background"
MIN_READERS = 3
"""Two readers have no majority, and STAPLE makes their union of them."""


STAPLE_NOTE = (
    "sensitivity and specificity describe the readers relative to STAPLE's own estimate, not to a truth; it was made "
    "on the box around all outlines of a case"
)


@dataclass(frozen=True)
class ConsensusScores:
    """Dice of one case (or mean over the cases of a patient) against consensus references.

    ``network`` maps the reference (majority, staple) to the network's Dice; ``readers`` and ``network_same`` map a
    reader to the Dice of that reader, and of the network, against the majority of the *other* readers: the same
    reference for both. ``performance`` maps a reader to sensitivity and specificity by STAPLE.
    """

    network: dict[str, float]
    readers: dict[str, float]
    network_same: dict[str, float]
    performance: dict[str, tuple[float, float]]
    warnings: tuple[str, ...]


def consensus_scores(
    outlines: ScoredOutlines, cases: Sequence[Case], options: StudyOptions
) -> list[tuple[str, ConsensusScores]] | None:
    """Score network and readers against consensus references, case by case, where all readers outlined.

    Returns:
        Patient and scores of each case; None with fewer than three readers.
    """
    readers = outlines.readers
    if len(readers) < MIN_READERS:
        return None
    masks_of = outlines.network.masks if outlines.network else {}
    scored = {case.case_id for case in outlines.cases}
    wanted = [case for case in cases if case.case_id in scored and all(reader in case.labels for reader in readers)]
    files = [
        ({reader: case.labels[reader] for reader in readers}, masks_of.get(case.case_id) if outlines.network else None)
        for case in wanted
    ]
    results = side_by_side(score_case, files, None, num_workers=options.num_workers)
    return list(zip([case.patient_id for case in wanted], results, strict=True))


def score_case(files: tuple[Mapping[str, Path], Path | None], _: None) -> ConsensusScores:
    """Score one case against the majority, STAPLE, and the majority of the others."""
    masks = {reader: read_mask(file) for reader, file in files[0].items()}
    network = None if files[1] is None else read_mask(files[1])
    masks, network = _boxed(masks, network)
    whole, estimate = _majority(masks), _staple(masks)
    others = leave_one_out_consensus(masks, _majority)
    against = {} if network is None else {"majority": _dice(network, whole.reference_for(NETWORK))}
    if network is not None and estimate is not None:
        against["staple"] = _dice(network, estimate.consensus.reference_for(NETWORK))
    return ConsensusScores(
        network=against,
        readers={reader: _dice(mask, others[reader].reference_for(reader)) for reader, mask in masks.items()},
        network_same={}
        if network is None
        else {reader: _dice(network, consensus.reference_for(NETWORK)) for reader, consensus in others.items()},
        performance={}
        if estimate is None
        else {one.reader: (one.sensitivity, one.specificity) for one in estimate.per_reader},
        warnings=() if estimate is None else tuple(note for note in estimate.warnings if not note.startswith("prior ")),
    )


def consensus_part(
    scores: Sequence[tuple[str, ConsensusScores]] | None, readers: Sequence[str]
) -> dict[str, Any] | None:
    """The network against each reference, each reader against the others, and STAPLE's view of the readers."""
    if not scores:
        return None
    patients = [patient for patient, _ in scores]
    found = [one for _, one in scores]
    references = [name for name in ("majority", "staple") if any(name in one.network for one in found)]
    rates = {
        reader: np.array([one.performance[reader] for one in found if reader in one.performance]).reshape(-1, 2)
        for reader in readers
    }
    times = Counter(warning for one in found for warning in one.warnings)
    warnings = [STAPLE_NOTE, *(f"in {times[note]} of {len(found)} cases: {note}" for note in sorted(times))]
    return {
        "majority": {
            "rule": "a voxel belongs to the reference when more than half of the readers outlined it",
            "tie_rule": TIE_RULE,
            "n": len(readers),
        },
        "staple": {
            "n_cases": int(sum(bool(one.performance) for one in found)),
            "per_reader": [
                {
                    "reader": reader,
                    "sensitivity": _nanmean(rates[reader][:, 0]),
                    "specificity": _nanmean(rates[reader][:, 1]),
                }
                for reader in readers
            ],
            "warnings": warnings,
        },
        "network_against": [
            {"reference": name, "dice": _summary([one.network.get(name, np.nan) for one in found], patients)}
            for name in references
        ],
        "readers_against_others": [
            {
                "reader": reader,
                "rule": f"majority of the other {len(readers) - 1}; {TIE_RULE}",
                "dice": _summary([one.readers[reader] for one in found], patients),
            }
            for reader in readers
        ],
    }


def consensus_sensitivity(
    scores: Sequence[tuple[str, ConsensusScores]] | None, options: StudyOptions
) -> list[dict[str, Any]]:
    """The difference when network and reader are held against the same majority of the other readers."""
    if not scores or not scores[0][1].network_same:
        return []
    differences = np.array(
        [np.mean([one.network_same[reader] - one.readers[reader] for reader in one.readers]) for _, one in scores]
    )
    averaged, _ = average_cases(differences, [patient for patient, _ in scores])
    return [
        {
            "what": "against the majority of the other readers",
            "delta": mean_json(averaged, 1 - 2 * options.alpha_one_sided),
            "note": f"Dice; network and reader against the same majority without that reader; {TIE_RULE}",
        }
    ]


# --- Private helpers --------------------------------------------------------------------------------------------------


def _majority(masks: Mapping[str, np.ndarray]) -> Consensus:
    return majority_vote(masks, tie=TIE)


def _staple(masks: Mapping[str, Mask]) -> Staple | None:
    """STAPLE, where somebody outlined something; it has no answer for empty masks."""
    return staple(masks) if all(mask.any() for mask in masks.values()) else None


def _boxed(masks: dict[str, Mask], network: Mask | None) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """All masks on the box of all of them, with a margin; STAPLE's prior then does not depend on the field of view."""
    everything = np.logical_or.reduce([*masks.values(), *([] if network is None else [network])])
    if not everything.any():
        return dict(masks), network
    box = tuple(slice(max(0, int(places.min()) - 1), int(places.max()) + 2) for places in np.nonzero(everything))
    return {reader: mask[box] for reader, mask in masks.items()}, None if network is None else network[box]


def _dice(preds: np.ndarray, target: np.ndarray) -> float:
    return float(dice(frame_counts(preds, target).sum(axis=0)))


def _summary(values: Sequence[float], patients: Sequence[str]) -> dict[str, Any]:
    averaged, _ = average_cases(np.array(values, dtype=float), patients)
    return summarize_values(averaged).as_json()


def _nanmean(values: np.ndarray) -> float | str | None:
    defined = values[np.isfinite(values)]
    return number_json(float(defined.mean())) if defined.size else None
