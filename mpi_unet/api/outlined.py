"""A case and everyone's outlines of it, ready to be drawn or looked through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, listing
from mpi_unet.report.agreement_overlays import members_of
from mpi_unet.report.agreement_words import NETWORK
from mpi_unet.report.display import View, view_of
from mpi_unet.report.overlays import Stroke
from mpi_unet.shapes import Image, Mask

__all__ = ["EDGE", "Outline", "Outlined", "outlined_case"]

Outline: TypeAlias = Bool[np.ndarray, "_ _ _"] | Float[np.ndarray, "_ _ _"]
"""A mask (z, y, x), or the share of each voxel that lies inside; its line is where one half is passed."""

EDGE = 0.5


@dataclass(frozen=True)
class Outlined:
    """A case and all that is drawn over it.

    Attributes:
        case_id: The case.
        image: Intensities.
        masks: Outline by name, in the order of the legend; the network's is called ``network``.
        readers: Which of them are readers'.
        view: How frames are turned.
        spacing_yx: Row and column distance in mm; None when nobody knows it.
        word: What a frame is called.
        is_simulated: Whether the readers are.
    """

    case_id: str
    image: Image
    masks: Mapping[str, Outline]
    readers: tuple[str, ...]
    view: View
    spacing_yx: tuple[float, float] | None
    word: str
    is_simulated: bool

    @property
    def strokes(self) -> dict[str, Stroke]:
        """How each outline is drawn."""
        members = members_of([name for name in self.masks if name != NETWORK], NETWORK in self.masks)
        return {member.name: member.stroke for member in members}

    def pair(self) -> tuple[str, str] | None:
        """Whose difference orders the frames: the network, else the last reader, and the first reader."""
        if not self.readers:
            return None
        if NETWORK in self.masks:
            return NETWORK, self.readers[0]
        return (self.readers[-1], self.readers[0]) if len(self.readers) > 1 else None

    def wrong_pixels(self, frame: int) -> int:
        """Pixels of a frame that only one of :meth:`pair` outlines."""
        pair = self.pair()
        return 0 if pair is None else int(np.count_nonzero(self.masks[pair[0]][frame] ^ self.masks[pair[1]][frame]))

    def worst_frame(self) -> int:
        """The frame with the most of :meth:`wrong_pixels`; the first one of several."""
        return max(range(len(self.image)), key=self.wrong_pixels)

    def dice(self, frame: int | None = None) -> float | None:
        """Dice of :meth:`pair` on a frame, or over the whole case; None without a pair, or where nobody outlined."""
        pair = self.pair()
        if pair is None:
            return None
        one, other = (self.masks[name] if frame is None else self.masks[name][frame] for name in pair)
        both = int(np.count_nonzero(one) + np.count_nonzero(other))
        return 2 * int(np.count_nonzero(one & other)) / both if both else None

    def caption(self, frame: int) -> str:
        """Which frame it is, and how well the two outlines of :meth:`pair` agree on it."""
        text, dice = f"{self.word} {frame + 1} of {len(self.image)}", self.dice(frame)
        return text if dice is None else f"{text}, Dice {dice:.2f}"

    def title(self, sequence: str) -> str:
        """The case, the order of its frames, and how well the two outlines of :meth:`pair` agree over all of it."""
        text, pair, dice = ", ".join(filter(None, (self.case_id, sequence))), self.pair(), self.dice()
        return text if pair is None or dice is None else f"{text}; Dice of {pair[0]} and {pair[1]} {dice:.3f}"


def outlined_case(
    cohort: Cohort, case: Case, by_readers: Mapping[str, Mask], others: Mapping[str, Outline] | None = None
) -> Outlined:
    """A case with outlines of readers and others, ready to be drawn.

    Raises:
        CohortError: A mask does not lie on the image.
    """
    volume, masks = case.read_image(), {**by_readers, **(others or {})}
    shape = volume.array.shape
    odd = [f"{name} has {mask.shape}" for name, mask in masks.items() if mask.shape != shape]
    if odd:
        raise CohortError(
            f"{case.case_id}: masks do not lie on the image of {shape}:\n{listing(odd)}\nGive masks (z, y, x) of the "
            "same grid"
        )
    return Outlined(
        case_id=case.case_id,
        image=volume.array,
        masks=masks,
        readers=tuple(by_readers),
        view=view_of(cohort.domain, volume.affine, cohort.spacing_known),
        spacing_yx=(volume.spacing_mm[1], volume.spacing_mm[2]) if cohort.spacing_known else None,
        word="view" if cohort.domain == "projection" else "slice",
        is_simulated=cohort.simulated_readers,
    )
