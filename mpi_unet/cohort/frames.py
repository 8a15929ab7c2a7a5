"""All frames of a cohort as the leakage audit sees them, in memory that hardly grows with their number.

What is large, the details by which frames are compared (see :mod:`mpi_unet.cohort.likeness`; 12 kB a frame), lies in
temporary files without a name, which the system may drop from memory at any time and removes with the process. What
stays in memory is about 100 bytes a frame.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int, Int8, Int32, UInt64

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.fold import SIDES, Split
from mpi_unet.cohort.likeness import COARSE_GRID, FINE_GRID, coarse_details, fine_details
from mpi_unet.cohort.table import Cohort
from mpi_unet.files import sha256, unwritable

__all__ = ["Frames", "candidate_pairs", "folds_of"]

DIGEST_WORDS = 2
"""64-bit words of a SHA-256 that are kept: two frames of a billion share 128 bits by chance once in 10^20 cohorts."""

ROWS, COLUMNS = 2048, 512
"""Frames that are compared with so many others at once: 4 MB of correlations."""


@dataclass(frozen=True)
class Frames:
    """All frames of a cohort, one entry each.

    Attributes:
        case: Number of the case.
        number: Number of the frame within the case.
        patient: Number of the patient.
        side: By fold: 0, 1, 2 as in :data:`~mpi_unet.cohort.fold.SIDES`; -1 when the split does not know the frame.
        digest: Of the pixels.
        is_blank: One value everywhere.
        coarse: Details to find candidates, on disk.
        fine: Details that decide, on disk.
    """

    case: Int32[np.ndarray, " n"]
    number: Int32[np.ndarray, " n"]
    patient: Int32[np.ndarray, " n"]
    side: Int8[np.ndarray, "folds n"]
    digest: UInt64[np.ndarray, "n words"]
    is_blank: Bool[np.ndarray, " n"]
    coarse: Float32[np.ndarray, "n cells"]
    fine: Float16[np.ndarray, "n row column"]

    @classmethod
    def of(cls, cohort: Cohort, split: Split) -> Frames:
        """Read every image once.

        Raises:
            RunError: The folder for temporary files is full.
        """
        patients = {patient: number for number, patient in enumerate(cohort.patients)}
        case_number, number, patient, side = array("i"), array("i"), array("i"), array("b")
        digest, is_blank = bytearray(), bytearray()
        try:
            with tempfile.TemporaryFile() as coarse, tempfile.TemporaryFile() as fine:
                for index, case in enumerate(cohort.cases):
                    image = case.read_image().array
                    coarse.write(coarse_details(image).tobytes())
                    fine.write(fine_details(image).tobytes())
                    for frame, pixels in enumerate(image):
                        case_number.append(index)
                        number.append(frame)
                        patient.append(patients[case.patient_id])
                        side.extend(_side_number(split, fold, case, frame) for fold in folds_of(split))
                        digest += bytes.fromhex(sha256(repr(pixels.shape), pixels.tobytes()))[: 8 * DIGEST_WORDS]
                        is_blank.append(bool(pixels.min() == pixels.max()))
                return cls(
                    case=np.frombuffer(case_number, np.int32),
                    number=np.frombuffer(number, np.int32),
                    patient=np.frombuffer(patient, np.int32),
                    side=np.frombuffer(side, np.int8).reshape(len(number), -1).T,
                    digest=np.frombuffer(digest, np.uint64).reshape(-1, DIGEST_WORDS),
                    is_blank=np.frombuffer(is_blank, np.bool_),
                    coarse=_mapped(coarse, np.float32, (len(number), COARSE_GRID**2)),
                    fine=_mapped(fine, np.float16, (len(number), FINE_GRID, FINE_GRID)),
                )
        except OSError as error:
            raise unwritable(Path(tempfile.gettempdir()), error) from error

    def __len__(self) -> int:
        return len(self.case)

    def on_two_sides(
        self, first: Int[np.ndarray, " pairs"], second: Int[np.ndarray, " pairs"]
    ) -> Bool[np.ndarray, " pairs"]:
        """Whether some fold has the two frames of each pair on different sides."""
        found = np.zeros(first.shape, dtype=bool)
        for side in self.side:
            one, other = side[first], side[second]
            found |= (one != other) & (one >= 0) & (other >= 0)
        return found

    def repeated(self) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """Each frame that is not blank and repeats the pixels of an earlier one, behind the first one of its kind."""
        shown = np.flatnonzero(~self.is_blank)
        _, first, kind = np.unique(self.digest[shown], axis=0, return_index=True, return_inverse=True)
        one = shown[first[kind.reshape(-1)]]
        again = one != shown
        return one[again], shown[again]


def folds_of(split: Split) -> range:
    """Numbers of the folds."""
    return range(len(split.folds))


def candidate_pairs(frames: Frames, *, least: float, number: int) -> Int[np.ndarray, "pairs 2"]:
    """For each frame the few most alike frames of other patients on other sides.

    Every frame is compared with every other one, by products of matrices: the square of 40,000 frames takes a core
    less than two minutes, and little memory.

    Args:
        frames: All frames.
        least: Correlation of coarse details from which on a frame is a candidate.
        number: So many candidates of each frame, the most alike ones.

    Returns:
        Pairs of frames in ascending order, the smaller number first, each once.
    """
    best = np.full((len(frames), number), -np.inf, np.float32)
    whom = np.full((len(frames), number), -1, np.int32)
    for first, second, value in _alike(frames, least):
        for row, other in ((first, second), (second, first)):
            better = value > best[row, -1]
            _keep_best(best, whom, row[better], other[better], value[better])
    row, column = np.nonzero(whom >= 0)
    other = whom[row, column]
    return np.unique(np.stack([np.minimum(row, other), np.maximum(row, other)], axis=1), axis=0)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _mapped(file: IO[bytes], dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    file.flush()
    return np.memmap(file, dtype, mode="r", shape=shape)


def _side_number(split: Split, fold: int, case: Case, frame: int) -> int:
    side = split.side_of(fold, case, frame)
    return -1 if side is None else SIDES.index(side)


def _alike(frames: Frames, least: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of frames of two patients on two sides from a correlation on, a tile of the upper triangle at a time."""
    for top in range(0, len(frames), ROWS):
        rows = np.asarray(frames.coarse[top : top + ROWS])
        for left in range(top, len(frames), COLUMNS):
            correlation = rows @ frames.coarse[left : left + COLUMNS].T
            row, column = np.nonzero(correlation >= least)
            first, second = row + top, column + left
            counts = (first < second) & (frames.patient[first] != frames.patient[second])
            row, column, first, second = row[counts], column[counts], first[counts], second[counts]
            apart = frames.on_two_sides(first, second)
            if apart.any():
                yield first[apart], second[apart], correlation[row[apart], column[apart]]


def _keep_best(
    best: Float32[np.ndarray, "n number"],
    whom: Int32[np.ndarray, "n number"],
    row: Int[np.ndarray, " hits"],
    other: Int[np.ndarray, " hits"],
    value: Float32[np.ndarray, " hits"],
) -> None:
    """Merge hits into the best of each row, in place."""
    rows = np.unique(row)
    number = best.shape[1]
    row = np.concatenate([np.repeat(rows, number), row])
    other = np.concatenate([whom[rows].ravel(), other])
    value = np.concatenate([best[rows].ravel(), value])
    order = np.lexsort((other, -value, row))
    row, other, value = row[order], other[order], value[order]
    starts, sizes = np.unique(row, return_index=True, return_counts=True)[1:]
    rank = np.arange(len(row)) - np.repeat(starts, sizes)
    kept = rank < number
    best[row[kept], rank[kept]] = value[kept]
    whom[row[kept], rank[kept]] = other[kept]
