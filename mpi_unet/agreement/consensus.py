"""One reference made of several readers' outlines; no reader is scored against a reference that he is a part of.

A *consensus* is made by majority vote, by the mean of signed distances, or by STAPLE. Its *members* are the readers it
was made of. A reader scored against a consensus that contains his own outline looks better than he is, and a network
that is just as good looks worse by about a usual margin; so the mask of a consensus is handed out only for a name that
is not among its members, and :func:`readers_against_others` makes a consensus of the others for each reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import ndimage

from mpi_unet.errors import AgreementError, listing

__all__ = [
    "Consensus",
    "leave_one_out_consensus",
    "majority_vote",
    "readers_against_others",
    "signed_distance_mean",
]


@dataclass(frozen=True, eq=False)
class Consensus:
    """A reference mask and what it was made of.

    ``n`` counts the members, ``tied_voxels`` those that the tie rule decided. ``warnings`` are for the report.
    """

    members: tuple[str, ...]
    method: str
    n: int
    tie: str | None
    tied_voxels: int
    warnings: tuple[str, ...]
    _mask: Bool[np.ndarray, ...]
    _same_person: Mapping[str, str]

    @property
    def volume_voxels(self) -> int:
        """Voxels of the consensus."""
        return int(self._mask.sum())

    def reference_for(self, scored: str) -> Bool[np.ndarray, ...]:
        """The mask, as the reference for the outline of ``scored``, a reader or a network.

        Raises:
            AgreementError: ``scored``, or another reading by the same person, is a member.

        Example:
            >>> outline = np.array([[True, False]])
            >>> majority_vote({"A": outline, "B": outline, "C": outline}).reference_for("network")
            array([[ True, False]])
        """
        person = self._same_person.get(scored, scored)
        own = [member for member in self.members if self._same_person.get(member, member) == person]
        if own:
            raise AgreementError(
                f"reader {scored!r} cannot be scored against a consensus of {', '.join(self.members)}: it contains "
                f"{', '.join(own)}, the same person's outline, and would flatter; use leave_one_out_consensus, or "
                "score readers pairwise"
            )
        return self._mask

    def picture(self) -> Bool[np.ndarray, ...]:
        """A copy of the mask for drawing or measuring; to score an outline use :meth:`reference_for`."""
        return self._mask.copy()


def majority_vote(
    masks: Mapping[str, Shaped[np.ndarray, ...]],
    *,
    tie: str | None = None,
    same_person: Mapping[str, str] | None = None,
) -> Consensus:
    """Voxels that more than half of the readers outlined.

    Args:
        masks: Bool mask of each reader on one grid, at least two readers.
        tie: What a voxel becomes that exactly half of them outlined. Must be said for an even number of readers: with
            two, "foreground" is their union and "background" their intersection.
        same_person: The reader behind a repeated reading, e.g. ``{"A2": "A"}``.

    Returns:
        The consensus; empty when all masks are.

    Raises:
        AgreementError: Fewer than two readers, masks that are not bool or differ in shape, or an even number of readers
            without a tie rule.

    Example:
        >>> votes = {"A": np.array([[True, True]]), "B": np.array([[True, False]]), "C": np.array([[False, False]])}
        >>> majority_vote(votes).picture()
        array([[ True, False]])
    """
    readers, stack = stacked_masks(masks)
    n = len(readers)
    if n % 2 == 0 and tie is None:
        raise AgreementError(
            f"{n} readers ({', '.join(readers)}) can be split evenly; say what a tied voxel becomes with "
            "tie='foreground' or tie='background', or use signed_distance_mean, which has no ties"
        )
    if tie not in (None, "foreground", "background"):
        raise AgreementError(f"tie is {tie!r}, expected 'foreground' or 'background'")
    votes: Int[np.ndarray, ...] = stack.sum(axis=0)
    tied = 2 * votes == n
    mask = 2 * votes > n
    if tie == "foreground":
        mask |= tied
    notes = _same_twice(readers, same_person)
    if n == 2:
        notes += (f"majority of two readers with tie={tie!r} is their {_UNION[str(tie)]}",)
    rule = f", ties to {tie}" if n % 2 == 0 else ""
    return Consensus(
        members=readers,
        method=f"majority vote of {n} readers{rule}",
        n=n,
        tie=tie if n % 2 == 0 else None,
        tied_voxels=int(tied.sum()),
        warnings=notes,
        _mask=mask,
        _same_person=dict(same_person or {}),
    )


def signed_distance_mean(
    masks: Mapping[str, Shaped[np.ndarray, ...]],
    *,
    spacing_mm: Sequence[float],
    same_person: Mapping[str, str] | None = None,
) -> Consensus:
    """The average outline: voxels whose mean signed distance to the readers' outlines is inside.

    Every reader moves the outline in proportion to how far away his own is; there are no ties to break, also with two
    readers. Thin parts that readers place differently vanish.

    Args:
        masks: Bool mask of each reader on one grid, at least two readers.
        spacing_mm: Distance of neighboring voxels along each axis of the masks.
        same_person: The reader behind a repeated reading, e.g. ``{"A2": "A"}``.

    Returns:
        The consensus; empty when all masks are. Outside the image is background.

    Raises:
        AgreementError: Fewer than two readers, masks that are not bool or differ in shape, a spacing that does not fit,
            or an empty mask beside others: it is at no distance from anything.

    Source:
        Shape-based averaging: Rohlfing & Maurer 2007, IEEE Trans Image Process 16(1):153-161.
        doi:10.1109/TIP.2006.884936

    Example:
        Two outlines that end one voxel and three voxels from the left; their average ends two voxels from it.

        >>> masks = {"A": np.array([[True, False, False, False]]), "B": np.array([[True, True, True, False]])}
        >>> signed_distance_mean(masks, spacing_mm=(100.0, 1.0)).picture()
        array([[ True,  True, False, False]])
    """
    readers, stack = stacked_masks(masks)
    spacing = [float(step) for step in spacing_mm]
    if len(spacing) != stack.ndim - 1 or not all(np.isfinite(step) and step > 0 for step in spacing):
        raise AgreementError(
            f"spacing_mm is {tuple(spacing)} for masks of shape {stack.shape[1:]}, expected one positive distance in "
            "mm for each axis"
        )
    filled = np.array([outline.any() for outline in stack])
    if filled.any() and not filled.all():
        empty = [reader for reader, some in zip(readers, filled, strict=True) if not some]
        raise AgreementError(
            f"{len(empty)} of {len(readers)} readers outlined nothing ({', '.join(empty)}), so there is no distance to "
            "their outline; use majority_vote, which counts them, or leave them out and say so"
        )
    mask = np.zeros(stack.shape[1:], dtype=bool)
    notes = _same_twice(readers, same_person)
    if filled.all():
        mask = np.mean([_signed_distance(outline, spacing) for outline in stack], axis=0) < 0
    else:
        notes += ("all readers outlined nothing; so does the consensus",)
    return Consensus(
        members=readers,
        method=f"mean signed distance of {len(readers)} readers",
        n=len(readers),
        tie=None,
        tied_voxels=0,
        warnings=notes,
        _mask=mask,
        _same_person=dict(same_person or {}),
    )


def leave_one_out_consensus(
    masks: Mapping[str, Shaped[np.ndarray, ...]],
    make: Callable[[Mapping[str, np.ndarray]], Consensus],
    *,
    same_person: Mapping[str, str] | None = None,
) -> dict[str, Consensus]:
    """For each reader the consensus of the other readers, without any reading by the same person.

    Args:
        masks: Bool mask of each reader on one grid.
        make: What makes a consensus of masks, e.g. ``lambda others: majority_vote(others, tie="foreground")``. Mind
            that the others may be an even number.
        same_person: The reader behind a repeated reading, e.g. ``{"A2": "A"}``.

    Raises:
        AgreementError: Fewer than two other readers remain for a reader, or whatever ``make`` refuses.

    Example:
        >>> outline = np.array([[True, False]])
        >>> others = leave_one_out_consensus({"A": outline, "B": outline, "C": outline, "D": outline}, majority_vote)
        >>> others["A"].members
        ('B', 'C', 'D')
    """
    persons = dict(same_person or {})
    found = {}
    for reader in masks:
        person = persons.get(reader, reader)
        others = {name: mask for name, mask in masks.items() if persons.get(name, name) != person}
        if len({persons.get(name, name) for name in others}) < 2:
            raise AgreementError(
                f"without {reader!r} {len(others)} reading(s) remain ({', '.join(others) or 'none'}), which make no "
                "consensus; leaving one out needs at least 3 readers: score readers pairwise instead"
            )
        found[reader] = make(others)
    return found


def readers_against_others(
    masks: Mapping[str, Shaped[np.ndarray, ...]],
    score: Callable[[np.ndarray, np.ndarray], float],
    make: Callable[[Mapping[str, np.ndarray]], Consensus],
    *,
    same_person: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Score of each reader against the consensus of the others.

    Args:
        masks: Bool mask of each reader on one grid, at least three readers.
        score: Of an outline (first) against its reference (second), e.g. Dice.
        make: As for :func:`leave_one_out_consensus`.
        same_person: The reader behind a repeated reading.

    Example:
        >>> masks = {name: np.array([[True, name == "B"]]) for name in "ABCD"}
        >>> readers_against_others(masks, lambda preds, target: float((preds == target).mean()), majority_vote)
        {'A': 1.0, 'B': 0.5, 'C': 1.0, 'D': 1.0}
    """
    references = leave_one_out_consensus(masks, make, same_person=same_person)
    return {reader: score(masks[reader], references[reader].reference_for(reader)) for reader in masks}


def stacked_masks(
    masks: Mapping[str, Shaped[np.ndarray, ...]],
) -> tuple[tuple[str, ...], Bool[np.ndarray, "readers ..."]]:
    """Names and masks of at least two readers on one grid; everything that is wrong is said at once."""
    if len(masks) < 2:
        raise AgreementError(
            f"{len(masks)} reader(s) ({', '.join(masks) or 'none'}), expected at least 2; one reader is no consensus"
        )
    arrays = {reader: np.asarray(mask) for reader, mask in masks.items()}
    grid = next(iter(arrays.values())).shape
    wrong = [f"{reader}: dtype {mask.dtype}, expected bool" for reader, mask in arrays.items() if mask.dtype != bool]
    wrong += [f"{reader}: shape {mask.shape}, expected {grid}" for reader, mask in arrays.items() if mask.shape != grid]
    if wrong or not grid:
        raise AgreementError(
            f"masks cannot be compared:\n{listing(wrong or ['masks have no axes'])}\n"
            "Give bool masks on one grid; of a label image take one label (label == 1)"
        )
    return tuple(arrays), np.stack(list(arrays.values()))


# --- Private helpers ---

_UNION = {"foreground": "union", "background": "intersection"}


def _same_twice(readers: Sequence[str], same_person: Mapping[str, str] | None) -> tuple[str, ...]:
    persons = [(same_person or {}).get(reader, reader) for reader in readers]
    twice = sorted({person for person in persons if persons.count(person) > 1})
    return tuple(f"reader {person} has more than one vote: repeated readings are members" for person in twice)


def _signed_distance(mask: Bool[np.ndarray, ...], spacing_mm: Sequence[float]) -> Float[np.ndarray, ...]:
    """Negative inside, in mm, to the nearest voxel center of the other side; one voxel of background is put around."""
    padded = np.pad(mask, 1)
    inside = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    outside = ndimage.distance_transform_edt(~padded, sampling=spacing_mm)
    return (outside - inside)[(slice(1, -1),) * mask.ndim]
