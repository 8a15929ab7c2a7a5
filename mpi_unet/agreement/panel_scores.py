"""One table of scores between a network and a panel of readers, checked, with the patients that can be used.

For patient i the table holds ``network[i, j]``, the score of the network's mask against reader j's, and
``pairs[i, j, k]``, the score of reader j's mask against reader k's. NaN says that a reader did not read that patient.
From it come, per patient, *p0* (mean over readers of network against reader) and *pn* (mean over pairs of readers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Real

from mpi_unet.errors import AgreementError, listing

__all__ = ["Better", "Missing", "average_cases", "pairs_matrix"]

Better = Literal["higher", "lower"]
"""Whether a higher score is better (Dice) or a lower one (a distance in mm)."""

Missing = Literal["complete", "available"]
"""Which patients are used when a reader has not read all: those that all read, or all that two or more read."""


@dataclass(frozen=True)
class PanelScores:
    """The checked table, cut down to the patients that are used; the diagonal of ``pairs`` is NaN.

    ``rows`` are the rows of the table that were kept.
    """

    network: np.ndarray | None
    pairs: np.ndarray
    rows: np.ndarray
    n_left_out: int

    @property
    def num_readers(self) -> int:
        """Readers of the panel."""
        return int(self.pairs.shape[1])

    def p0(self) -> Float[np.ndarray, " patients"] | None:
        """Per patient the mean score of the network against the readers."""
        return None if self.network is None else row_means(self.network)

    def pn(self) -> Float[np.ndarray, " patients"] | None:
        """Per patient the mean score of the readers against one another; None with fewer than two readers."""
        if self.num_readers < 2:
            return None
        return row_means(self.pairs[:, *np.triu_indices(self.num_readers, 1)])

    def without_reader(self, reader: int) -> PanelScores:
        """The same patients without one reader; a patient left with fewer than two readers is dropped."""
        rest = [index for index in range(self.num_readers) if index != reader]
        pairs = self.pairs[:, rest][:, :, rest]
        kept = np.isfinite(pairs).any(axis=(1, 2))
        network = None if self.network is None else self.network[:, rest][kept]
        return PanelScores(network, pairs[kept], self.rows[kept], self.n_left_out + int((~kept).sum()))


def panel_scores(
    network: Real[np.ndarray, "patients readers"] | None,
    pairs: Real[np.ndarray, "patients readers readers"],
    missing: Missing = "complete",
) -> PanelScores:
    """Check a table of scores and keep the patients that can be used.

    Raises:
        AgreementError: An infinite score, or pairs that are not symmetric.
    """
    pairs = np.array(pairs, dtype=float)  # a copy: the diagonal is overwritten
    num_readers = pairs.shape[1]
    pairs[:, range(num_readers), range(num_readers)] = np.nan
    network = None if network is None else np.array(network, dtype=float)
    _check_table(network, pairs)
    kept = _complete(network, pairs) if missing == "complete" else _readable(network, pairs)
    network = None if network is None else network[kept]
    return PanelScores(network, pairs[kept], np.flatnonzero(kept), int((~kept).sum()))


def pairs_matrix(values: Real[np.ndarray, "patients pairs"]) -> Float[np.ndarray, "patients readers readers"]:
    """Put scores of pairs of readers, listed as columns, into the symmetric form that a panel takes.

    Args:
        values: One column per pair in the order (first, second), (first, third), ..., (second, third), ...; NaN where a
            reader is missing.

    Returns:
        ``[i, j, k]``, the score of readers j and k on patient i; NaN on the diagonal.

    Raises:
        AgreementError: A number of columns that no number of readers gives.

    Example:
        Three readers: the third pair is the second and the third reader.

        >>> pairs_matrix(np.array([[0.8, 0.7, 0.9]]))[0, 2, 1]
        np.float64(0.9)
    """
    columns = values.shape[1]
    num_readers = round((1 + np.sqrt(1 + 8 * columns)) / 2)
    if columns < 1 or num_readers * (num_readers - 1) // 2 != columns:
        raise AgreementError(
            f"values has {columns} columns, expected one per pair of readers: 1 for two readers, 3 for three, 6 for 4"
        )
    matrix = np.full((len(values), num_readers, num_readers), np.nan)
    for column, (first, second) in enumerate(combinations(range(num_readers), 2)):
        matrix[:, first, second] = matrix[:, second, first] = values[:, column]
    return matrix


def average_cases(
    values: Real[np.ndarray, " cases *scores"], patients: Sequence[str]
) -> tuple[Float[np.ndarray, " patients *scores"], tuple[str, ...]]:
    """Average the cases of each patient, so that a patient counts once.

    Args:
        values: Scores of one case per row, of any further shape.
        patients: The patient of each row.

    Returns:
        One row per patient in the order of first appearance, and the names of the patients. A score that is NaN in any
        case of a patient is NaN: averaging what is left would compare different cases.

    Raises:
        AgreementError: As many names as rows are needed.

    Example:
        >>> average_cases(np.array([0.8, 0.9, 0.6]), ["P1", "P1", "P2"])
        (array([0.85, 0.6 ]), ('P1', 'P2'))
    """
    if len(patients) != len(values):
        raise AgreementError(f"patients names {len(patients)} patients for {len(values)} rows; name one per row")
    names = tuple(dict.fromkeys(patients))
    place = {name: index for index, name in enumerate(names)}
    index = np.array([place[name] for name in patients], dtype=int)
    total = np.zeros((len(names), *values.shape[1:]))
    np.add.at(total, index, values)
    cases = np.bincount(index, minlength=len(names)).reshape(-1, *[1] * (values.ndim - 1))
    return total / cases, names


def average_table(
    network: Real[np.ndarray, "cases readers"] | None,
    pairs: Real[np.ndarray, "cases readers readers"],
    patients: Sequence[str],
) -> tuple[np.ndarray | None, np.ndarray, tuple[str, ...]]:
    """Average a table of cases by patient over the cases that all readers read.

    A patient without such a case keeps its row, of NaN where a reader is missing, so that a panel can count it.
    """
    if len(patients) != len(pairs):
        raise AgreementError(f"patients names {len(patients)} patients for {len(pairs)} cases; name one per case")
    pairs = np.array(pairs, dtype=float)
    pairs[:, range(pairs.shape[1]), range(pairs.shape[1])] = 0  # NaN there would empty every row
    complete = np.isfinite(pairs).all(axis=(1, 2)) & (True if network is None else np.isfinite(network).all(axis=1))
    has_complete = {name for name, whole in zip(patients, complete, strict=True) if whole}
    used = [row for row, name in enumerate(patients) if complete[row] or name not in has_complete]
    named = [patients[row] for row in used]
    averaged, names = average_cases(pairs[used], named)
    return (None if network is None else average_cases(network[used], named)[0]), averaged, names


def row_means(values: Real[np.ndarray, "patients scores"]) -> Float[np.ndarray, " patients"]:
    """Mean of each row over what is not NaN; NaN for a row of nothing."""
    there = np.isfinite(values)
    count = there.sum(axis=1)
    total = np.where(there, values, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


# --- Private helpers ---


def _check_table(network: np.ndarray | None, pairs: np.ndarray) -> None:
    faults = []
    if network is not None:
        faults += [f"network[{i}, {j}] is infinite" for i, j in np.argwhere(np.isinf(network))]
    faults += [f"pairs[{i}, {j}, {k}] is infinite" for i, j, k in np.argwhere(np.isinf(pairs)) if j < k]
    mirrored = pairs.swapaxes(1, 2)
    same = np.isclose(pairs, mirrored, rtol=0, atol=1e-9, equal_nan=True)
    faults += [
        f"pairs[{i}, {j}, {k}] is {pairs[i, j, k]}, but pairs[{i}, {k}, {j}] is {pairs[i, k, j]}"
        for i, j, k in np.argwhere(~same)
        if j < k
    ]
    if faults:
        raise AgreementError(
            f"{len(faults)} score(s) cannot be used:\n{listing(faults)}\n"
            "A score must be finite, or NaN where a reader is missing (an infinite distance may enter as the image "
            "diagonal: evaluation.policy.for_mean), and the same both ways round (agreement.pairs_matrix fills both)"
        )


def _complete(network: np.ndarray | None, pairs: np.ndarray) -> Bool[np.ndarray, " patients"]:
    """Patients whom every reader read."""
    off_diagonal = ~np.eye(pairs.shape[1], dtype=bool)
    kept = np.isfinite(pairs[:, off_diagonal]).all(axis=1)
    return kept if network is None else kept & np.isfinite(network).all(axis=1)


def _readable(network: np.ndarray | None, pairs: np.ndarray) -> Bool[np.ndarray, " patients"]:
    """Patients whom at least two readers read, and whose scores say the same about who did."""
    if pairs.shape[1] < 2:
        return _complete(network, pairs)
    read = np.isfinite(pairs).any(axis=2)
    expected = read[:, :, None] & read[:, None, :] & ~np.eye(pairs.shape[1], dtype=bool)
    kept = (np.isfinite(pairs) == expected).all(axis=(1, 2)) & (read.sum(axis=1) >= 2)
    return kept if network is None else kept & (np.isfinite(network) == read).all(axis=1)
