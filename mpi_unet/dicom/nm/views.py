"""Frames of a projection set as (gate, view): the views of all detectors in one sequence around the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from mpi_unet.dicom.nm.elements import Elements, tag_text
from mpi_unet.dicom.nm.frames import FrameVectors
from mpi_unet.dicom.nm.rotation import ViewKey, angular_order, view_angles
from mpi_unet.errors import DicomError

__all__ = ["Views", "views_of"]


@dataclass(frozen=True)
class Views:
    """Where the camera stood.

    Attributes:
        angles_deg: DICOM's detector angle (see ``geometry``) of each view; None where the file does not say it.
        detector: Which detector took each view, from 1.
        rotation: In which rotation, from 1.
        arc_deg: Scan Arc of the first rotation, as the file has it.
        clockwise: The angle decreases; None where the file does not say it.
        radius_mm: Distance of the detector from the axis of rotation, one mean value or one for each view; empty where
            unknown.
    """

    angles_deg: tuple[float, ...] | None
    detector: tuple[int, ...]
    rotation: tuple[int, ...]
    arc_deg: float | None
    clockwise: bool | None
    radius_mm: tuple[float, ...]


def views_of(
    elements: Elements, vectors: FrameVectors, chosen: Int[np.ndarray, " selected"], warnings: list[str]
) -> tuple[Int[np.ndarray, "gate view"], Views]:
    """Put the frames of one energy window and R-R interval in order.

    Args:
        elements: The dataset.
        vectors: What each frame is.
        chosen: The frames to be ordered.
        warnings: Gets what was assumed.

    Returns:
        Frame numbers (gate, view), and where the camera stood for each view.

    Raises:
        DicomError: Views are missing or doubled, or those of several detectors or rotations make no single sequence.
    """
    slots = vectors.numbers.get("TimeSlotVector", np.ones(vectors.num_frames, dtype=np.int64))[chosen] - 1
    first = _first_views(vectors, chosen, warnings)
    places: dict[tuple[int, ViewKey], int] = {}
    for frame, slot in zip(chosen.tolist(), slots.tolist(), strict=True):
        rotation, detector, view = (
            int(vectors.numbers[name][frame]) for name in ("RotationVector", "DetectorVector", "AngularViewVector")
        )
        key = ViewKey(rotation - 1, detector - 1, view - first[rotation, detector])
        if (slot, key) in places:
            raise _unfilled(elements, f"view {view} of detector {detector} stands there twice in gate {slot + 1}")
        places[slot, key] = frame
    keys = sorted({key for _, key in places})
    num_gates = int(slots.max()) + 1
    if len(places) != num_gates * len(keys):
        missing = num_gates * len(keys) - len(places)
        raise _unfilled(elements, f"{missing} of {num_gates} gates x {len(keys)} views are missing")
    for rotation, detector in {(key.rotation, key.detector) for key in keys}:
        mine = [key.view for key in keys if (key.rotation, key.detector) == (rotation, detector)]
        if mine != list(range(len(mine))):
            raise _unfilled(elements, f"detector {detector + 1} has {len(mine)} views that run to {mine[-1] + 1}")
    angles = view_angles(elements, keys, warnings)
    keys = _joined(elements, keys, angles)
    order = np.array([[places[gate, key] for key in keys] for gate in range(num_gates)], dtype=np.int64)
    arc, clockwise, radii = _orbit(elements)
    return order, Views(
        angles_deg=None if angles is None else tuple(angles[key] for key in keys),
        detector=tuple(key.detector + 1 for key in keys),
        rotation=tuple(key.rotation + 1 for key in keys),
        arc_deg=arc,
        clockwise=clockwise,
        radius_mm=radii,
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _first_views(vectors: FrameVectors, chosen: np.ndarray, warnings: list[str]) -> dict[tuple[int, int], int]:
    """The number that the views of each rotation and detector begin with: 1, or where the detector before left off."""
    rotations, detectors, views = (
        vectors.numbers[name][chosen] for name in ("RotationVector", "DetectorVector", "AngularViewVector")
    )
    first = {
        (int(rotation), int(detector)): int(views[(rotations == rotation) & (detectors == detector)].min())
        for rotation, detector in set(zip(rotations.tolist(), detectors.tolist(), strict=True))
    }
    if any(number != 1 for number in first.values()):
        if len(first) == 1:
            return dict.fromkeys(first, 1)  # the views before are missing, which is an error later on
        warnings.append(
            f"{tag_text('AngularViewVector')} does not begin anew with each detector; counted from its first"
        )
    return first


def _unfilled(elements: Elements, what: str) -> DicomError:
    names = ", ".join(tag_text(name) for name in ("DetectorVector", "TimeSlotVector", "AngularViewVector"))
    return DicomError(
        f"{elements.where}: {names}: {what}; expected each view of each gate exactly once; export the study again"
    )


def _joined(elements: Elements, keys: list[ViewKey], angles: dict[ViewKey, float] | None) -> list[ViewKey]:
    sources = sorted({(key.rotation, key.detector) for key in keys})
    if len(sources) == 1:
        return keys
    _, clockwise, _ = _orbit(elements)
    ordered = None if angles is None or clockwise is None else angular_order(keys, angles, clockwise)
    if ordered is not None:
        return ordered
    named = ", ".join(f"rotation={rotation + 1} detector={detector + 1}" for rotation, detector in sources)
    why = "two of them have views at the same angle" if angles is not None else "their angles are unknown"
    raise DicomError(
        f"{elements.where}: {tag_text('DetectorVector')} and {tag_text('RotationVector')} name {len(sources)} sets of "
        f"views that make no single orbit, since {why}; expected one; choose one of: {named}"
    )


def _orbit(elements: Elements) -> tuple[float | None, bool | None, tuple[float, ...]]:
    """Arc, direction and radii of the first rotation; what is wrong with them was said with the angles."""
    rotations = elements.items("RotationInformationSequence")
    if not rotations:
        return None, None, ()
    rotation = rotations[0]
    direction = {"CW": True, "CC": False}.get(rotation.text("RotationDirection").upper())
    try:
        radii = tuple(float(mm) for mm in rotation.texts("RadialPosition"))
        arc = rotation.decimal("ScanArc")
    except (DicomError, ValueError):
        return None, direction, ()
    return arc, direction, radii if np.isfinite(radii).all() else ()
