"""The members of a panel one by one: each pair, and each reader beside the network as partner of the other readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mpi_unet.agreement.estimate import Estimate, mean_estimate
from mpi_unet.agreement.panel_scores import PanelScores, row_means

__all__ = ["LeaveOneOut", "PairAgreement", "leave_one_out", "pairwise"]


@dataclass(frozen=True)
class PairAgreement:
    """Mean score of two members of the panel; ``"network"`` is the network."""

    a: str
    b: str
    estimate: Estimate


@dataclass(frozen=True)
class LeaveOneOut:
    """How the network agrees with the other readers, minus how this reader agrees with them.

    Without a network: how this reader agrees with the others, minus how the others agree with one another.
    """

    reader: str
    delta: Estimate


def leave_one_out(scores: PanelScores, readers: Sequence[str], sign: float, level: float) -> tuple[LeaveOneOut, ...]:
    """One entry per reader, negative where the network (without one: the reader) agrees less; -1 turns distances."""
    if len(readers) < (2 if scores.network is not None else 3):
        return ()
    found = []
    for place, name in enumerate(readers):
        values = sign * _beside(scores, place)
        defined = values[np.isfinite(values)]
        if defined.size:
            found.append(LeaveOneOut(name, mean_estimate(defined, level)))
    return tuple(found)


def pairwise(scores: PanelScores, readers: Sequence[str], level: float) -> tuple[PairAgreement, ...]:
    """Mean score of each pair of members, the network's first."""
    columns = []
    if scores.network is not None:
        columns += [("network", name, scores.network[:, place]) for place, name in enumerate(readers)]
    columns += [
        (readers[first], readers[second], scores.pairs[:, first, second])
        for first, second in combinations(range(len(readers)), 2)
    ]
    defined = [(a, b, values[np.isfinite(values)]) for a, b, values in columns]
    return tuple(PairAgreement(a, b, mean_estimate(values, level)) for a, b, values in defined if values.size)


# --- Private helpers ---


def _beside(scores: PanelScores, reader: int) -> np.ndarray:
    if scores.network is not None:
        return row_means(scores.network - scores.pairs[:, reader])
    others = [index for index in range(scores.num_readers) if index != reader]
    among = scores.pairs[:, others][:, :, others]
    return row_means(scores.pairs[:, reader]) - row_means(among.reshape(len(among), len(others) ** 2))
