"""The outlines of one reader, read once and kept on disk, one bit a voxel.

What goes through all outlines several times, as the mean shape of each fold does, neither keeps them in memory nor
reads and unpacks their files again and again. The file has no name; the system removes it with the process.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import UInt8

from mpi_unet.cohort.table import Cohort
from mpi_unet.files import unwritable
from mpi_unet.shapes import Mask

__all__ = ["ChosenFrames", "Outlines"]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Outlines:
    """Masks by the number of their case.

    Attributes:
        shapes: Frames, rows and columns of each case.
        ends: Where each mask ends, in bytes.
        packed: All masks, one after the other, eight voxels a byte.
    """

    shapes: Sequence[Shape]
    ends: Sequence[int]
    packed: UInt8[np.ndarray, " bytes"]

    @classmethod
    def of(cls, cohort: Cohort, reader: str) -> Outlines:
        """Read every mask of a reader once.

        Raises:
            CohortError: A case has no label of this reader, or its file cannot be used.
            RunError: The folder for temporary files is full.
        """
        known: dict[Shape, Shape] = {}  # one tuple for all cases of a size
        shapes, ends = [], array("q")
        try:
            with tempfile.TemporaryFile() as file:
                for case in cohort.cases:
                    mask = case.read_mask(reader)
                    frames, rows, columns = mask.shape
                    shapes.append(known.setdefault((frames, rows, columns), (frames, rows, columns)))
                    file.write(np.packbits(mask).tobytes())
                    ends.append(file.tell())
                file.flush()
                return cls(shapes, ends, np.memmap(file, np.uint8, mode="r", shape=(ends[-1],)))
        except OSError as error:
            raise unwritable(Path(tempfile.gettempdir()), error) from error

    def mask(self, case: int) -> Mask:
        """The outline of one case."""
        shape, begin = self.shapes[case], self.ends[case - 1] if case else 0
        return np.unpackbits(self.packed[begin : self.ends[case]], count=int(np.prod(shape))).reshape(shape).view(bool)


class ChosenFrames(Sequence[Mask]):
    """Outlines of some cases, each with nothing outlined in the frames that do not count.

    Args:
        outlines: Of a cohort.
        members: Number of a case and its frames that count, counted from 0.
    """

    def __init__(self, outlines: Outlines, members: Sequence[tuple[int, range | Sequence[int]]]) -> None:
        self.outlines, self.members = outlines, members

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> Mask: ...
    @overload
    def __getitem__(self, index: slice) -> ChosenFrames: ...
    def __getitem__(self, index: int | slice) -> Mask | ChosenFrames:
        if isinstance(index, slice):
            return ChosenFrames(self.outlines, self.members[index])
        case, frames = self.members[index]
        mask = self.outlines.mask(case)
        if len(frames) < len(mask):
            kept = np.zeros(len(mask), dtype=bool)
            kept[list(frames)] = True
            mask = mask & kept[:, None, None]
        return mask
