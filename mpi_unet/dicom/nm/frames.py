"""Which frame is what: Frame Increment Pointer and the vectors that it names (PS3.3 C.8.4.8).

Frames may stand in any order, all slices of a gate together or all gates of a slice. So nothing is concluded from the
place of a frame in the file, with one exception that is reported: an ungated reconstruction without Slice Vector whose
Number of Slices equals its Number of Frames can be read in one way only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from pydicom.datadict import keyword_for_tag

from mpi_unet.dicom.nm.elements import Elements, tag_text
from mpi_unet.dicom.nm.kind import AXES, NUMBERS, NmKind
from mpi_unet.errors import DicomError

__all__ = ["FrameVectors", "frame_vectors", "placed"]

MAX_FRAMES = 65_536
"""Vectors are lists of unsigned 16-bit numbers in at most 128 KiB; more frames could not be told apart."""

EXACT = ("RRIntervalVector", "TimeSlotVector", "SliceVector")
"""Their numbers must run exactly as far as the header says; a window or detector may go unused."""

FREE_RANGE = ("AngularViewVector",)
"""Some cameras number the views of the second detector on from those of the first."""


VECTORS = (*NUMBERS, "AngularViewVector", "TimeSliceVector")

ESSENTIAL = ("SliceVector", "AngularViewVector")
"""Without them even a single frame may be anything."""


@dataclass(frozen=True)
class FrameVectors:
    """What each frame is.

    Attributes:
        num_frames: Number of frames in the file.
        numbers: Vector to its number, from 1, for each frame. A vector that the kind has and the file lacks is all 1.
        warnings: What was assumed.
    """

    num_frames: int
    numbers: Mapping[str, Int[np.ndarray, " frame"]]
    warnings: tuple[str, ...] = ()


def frame_vectors(elements: Elements, kind: NmKind) -> FrameVectors:
    """Read and check the vectors of an image.

    Raises:
        DicomError: A vector is missing, has a number for more or fewer than all frames, or contradicts the numbers of
            slices, time slots and so on. All that is wrong is said at once.
    """
    num_frames, warnings = _num_frames(elements)
    pointed = _pointed(elements)
    numbers: dict[str, np.ndarray] = {}
    problems: list[str] = []
    if not pointed:
        warnings.append(f"{tag_text('FrameIncrementPointer')} is missing; the vectors themselves say what frames are")
    asked = dict.fromkeys((*pointed, *_unnamed(elements, kind, num_frames, bool(pointed))))
    for name in dict.fromkeys((*AXES[kind], *asked)):
        try:
            vector, said = _vector(elements, kind, name, num_frames, name in pointed)
        except DicomError as error:
            problems.append(str(error).removeprefix(f"{elements.where}: "))
            continue
        warnings.extend(said)
        numbers[name] = vector
    allowed = {*AXES[kind], *(("EnergyWindowVector", "DetectorVector", "RotationVector") if kind.is_volume else ())}
    for name in asked:
        varies = name in numbers and np.ptp(numbers[name]) > 0
        if name not in allowed and (varies or name in ESSENTIAL):
            who = f"{elements.name('FrameIncrementPointer')} names" if name in pointed else "frames differ in"
            problems.append(f"{who} {name}, which has no meaning for {kind}; expected {', '.join(AXES[kind])}")
    if problems:
        raise DicomError(
            f"{elements.where}: the frames cannot be told apart: {'; '.join(problems)}. Export the study again, or "
            "ask the sender"
        )
    return FrameVectors(num_frames, numbers, tuple(warnings))


def placed(
    elements: Elements, vectors: FrameVectors, axes: tuple[str, ...], chosen: Int[np.ndarray, " selected"]
) -> Int[np.ndarray, "..."]:
    """Which frame of the file stands at each place of a grid.

    Args:
        elements: The dataset, for errors.
        vectors: What each frame is.
        axes: The vectors that span the grid, the slowest first.
        chosen: The frames that belong into the grid.

    Returns:
        Frame numbers from 0 in an array with one axis for each vector.

    Raises:
        DicomError: A place is empty or holds two frames.
    """
    places = [vectors.numbers[name][chosen] - 1 for name in axes]
    shape = tuple(int(place.max()) + 1 for place in places)
    filled = np.full(shape, -1, dtype=np.int64) if int(np.prod(shape)) <= MAX_FRAMES else None
    if filled is None or filled.size != len(chosen) or len(set(zip(*places, strict=True))) != len(chosen):
        grid = " x ".join(f"{length} of {name}" for length, name in zip(shape, axes, strict=True))
        what = " and ".join(tag_text(name) for name in axes)
        raise DicomError(
            f"{elements.where}: {what} do not fill their grid ({grid}) exactly once with {len(chosen)} frames; "
            "expected one frame for each combination; frames are lost or named twice, so export the study again"
        )
    filled[tuple(places)] = chosen
    return filled


# --- Private helpers --------------------------------------------------------------------------------------------------


def _num_frames(elements: Elements) -> tuple[int, list[str]]:
    number = elements.integer("NumberOfFrames")
    if number is None:
        return 1, [f"{tag_text('NumberOfFrames')} is missing; taken for one frame"]
    if not 1 <= number <= MAX_FRAMES:
        raise elements.error("NumberOfFrames", f"is {number}", f"1 to {MAX_FRAMES}")
    return number, []


def _pointed(elements: Elements) -> tuple[str, ...]:
    tags = elements.integers("FrameIncrementPointer")
    names = tuple(keyword_for_tag(tag) if 0 <= tag <= 0xFFFFFFFF else "" for tag in tags)
    wrong = [
        f"({tag >> 16 & 0xFFFF:04X},{tag & 0xFFFF:04X})"
        for tag, name in zip(tags, names, strict=True)
        if name not in VECTORS
    ]
    if wrong:
        raise elements.error("FrameIncrementPointer", f"names {', '.join(wrong[:9])}", "vectors of nuclear medicine")
    return names


def _unnamed(elements: Elements, kind: NmKind, num_frames: int, is_pointed: bool) -> list[str]:
    """Vectors that are there and that the pointer does not name, where they can contradict the kind.

    Reconstructions may keep the vectors of their projections; what has neither slices nor views may not have theirs.
    """
    if is_pointed and (kind.is_volume or kind.is_projections):
        return []
    return [name for name in (ESSENTIAL if is_pointed else VECTORS) if _is_there(elements, name, num_frames)]


def _is_there(elements: Elements, name: str, num_frames: int) -> bool:
    """Whether a vector that nobody asked for has a number for each frame; left-overs of projections have not."""
    try:
        return len(elements.integers(name)) == num_frames
    except DicomError:
        return False


def _vector(
    elements: Elements, kind: NmKind, name: str, num_frames: int, is_pointed: bool
) -> tuple[np.ndarray, list[str]]:
    """One vector, and what was assumed about it."""
    declared = elements.integer(NUMBERS[name]) if name in NUMBERS else None
    if declared is not None and declared < 1 and (name in EXACT and name in AXES[kind]):
        raise elements.error(NUMBERS[name], f"is {declared}", "at least 1")
    numbers = elements.integers(name)
    if not numbers:
        return _absent(elements, kind, name, num_frames, declared)
    if len(numbers) != num_frames:
        raise elements.error(name, f"has {len(numbers)} numbers", f"one for each of {num_frames} frames")
    if min(numbers) < 1 or max(numbers) > MAX_FRAMES:
        raise elements.error(name, f"runs from {min(numbers)} to {max(numbers)}", "numbers from 1")
    vector = np.array(numbers, dtype=np.int64)
    if declared is not None and name not in FREE_RANGE:
        top = int(vector.max())
        if top > max(declared, 1) or (name in EXACT and name in AXES[kind] and top != declared):
            raise elements.error(name, f"runs to {top}", f"{declared}, as {tag_text(NUMBERS[name])} says")
    if is_pointed or num_frames == 1 or not elements.has("FrameIncrementPointer"):
        return vector, []
    return vector, [f"{tag_text('FrameIncrementPointer')} does not name {name}; it was used all the same"]


def _absent(
    elements: Elements, kind: NmKind, name: str, num_frames: int, declared: int | None
) -> tuple[np.ndarray, list[str]]:
    """What a missing vector can only mean, if anything."""
    if (num_frames == 1 and name not in ESSENTIAL) or (declared == 1 and name not in FREE_RANGE):
        return np.ones(num_frames, dtype=np.int64), []
    if name == "SliceVector" and kind is NmKind.RECON_TOMO and declared == num_frames:
        return np.arange(1, num_frames + 1), [f"{tag_text(name)} is missing; slices are taken in the order of frames"]
    if name in ("EnergyWindowVector", "DetectorVector", "RotationVector", "RRIntervalVector") and declared is None:
        return np.ones(num_frames, dtype=np.int64), []
    if not (kind.is_volume or kind.is_projections):
        return np.ones(num_frames, dtype=np.int64), [f"{tag_text(name)} is missing; frames stay in their order"]
    raise elements.error(name, "is absent or empty", f"one number for each of {num_frames} frames")
