"""Where the camera stood for each view (PS3.3 C.8.4.11 and C.8.4.12).

Start Angle of Rotation Information is the place of the first detector for its first view; each further view is Angular
Step farther, down for CW and up for CC. Cameras with several detectors give each a Start Angle, or an orientation, in
Detector Information: what counts is how far the detectors stand from each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mpi_unet.dicom.nm.elements import Elements, tag_text
from mpi_unet.errors import DicomError

__all__ = ["ViewKey", "angular_order", "view_angles"]

SAME_ANGLE_DEG = 0.05
"""Views that are closer than this were taken from the same place."""

MAX_STEP_DEG = 360.0


@dataclass(frozen=True, order=True)
class ViewKey:
    """One view: which rotation, which detector, and which place of it, all from 0."""

    rotation: int
    detector: int
    view: int


def view_angles(elements: Elements, views: list[ViewKey], warnings: list[str]) -> dict[ViewKey, float] | None:
    """DICOM's detector angle in [0, 360) of each view, or None where the file does not say it.

    Args:
        elements: The dataset.
        views: All views of one gate.
        warnings: Gets what was assumed and what is missing.

    Raises:
        DicomError: The number of views contradicts the rotation, or an angle is absurd.
    """
    rotations = elements.items("RotationInformationSequence")
    detectors = elements.items("DetectorInformationSequence")
    angles: dict[ViewKey, float] = {}
    for number in sorted({view.rotation for view in views}):
        if number >= len(rotations):
            warnings.append(
                f"angles unknown: {tag_text('RotationInformationSequence')} has {len(rotations)} items, and views of "
                f"rotation {number + 1} exist"
            )
            return None
        mine = [view for view in views if view.rotation == number]
        rotation = rotations[number]
        _check_number(rotation, mine)
        start, step = rotation.decimal("StartAngle"), rotation.decimal("AngularStep")
        direction = rotation.text("RotationDirection").upper()
        if start is None:
            start = detectors[0].decimal("StartAngle") if detectors else None
        missing = [
            tag_text(name)
            for name, is_missing in (
                ("StartAngle", start is None),
                ("AngularStep", step is None or (step == 0 and len(mine) > 1)),
                ("RotationDirection", direction not in ("CW", "CC")),
            )
            if is_missing
        ]
        if missing or start is None or step is None:
            warnings.append(f"angles unknown: {', '.join(missing)} missing or without meaning")
            return None
        if not 0 <= step <= MAX_STEP_DEG or abs(start) > 2 * MAX_STEP_DEG:
            raise rotation.error("AngularStep", f"is {step:g} from StartAngle {start:g}", "degrees within a turn")
        offsets = _offsets(detectors, sorted({view.detector for view in mine}), warnings)
        if offsets is None:
            return None
        turn = -step if direction == "CW" else step
        _check_arc(rotation, mine, step, warnings)
        for view in mine:
            angles[view] = (start + offsets[view.detector] + turn * view.view) % 360.0
    return angles


def angular_order(views: list[ViewKey], angles: dict[ViewKey, float], clockwise: bool) -> list[ViewKey] | None:
    """The views of all detectors as one sequence around the patient, or None where two have the same place.

    It begins behind the widest gap, or with the first view of the first detector where the orbit is closed.

    Example:
        Two detectors at right angles turn clockwise by 90 degrees each.

        >>> first, second = ViewKey(0, 0, 0), ViewKey(0, 0, 1)
        >>> third, fourth = ViewKey(0, 1, 0), ViewKey(0, 1, 1)
        >>> angles = {first: 135.0, second: 90.0, third: 225.0, fourth: 180.0}
        >>> [angles[view] for view in angular_order([first, second, third, fourth], angles, clockwise=True)]
        [225.0, 180.0, 135.0, 90.0]
    """
    sign = -1.0 if clockwise else 1.0
    origin = angles[views[0]]
    way = sorted(((sign * (angles[view] - origin)) % 360.0, view) for view in views)
    gaps = np.array([after - before for (before, _), (after, _) in pairwise(way)])
    closing = 360.0 - way[-1][0] + way[0][0]
    if len(way) > 1 and min(float(gaps.min()), closing) < SAME_ANGLE_DEG:
        return None
    ordered = [view for _, view in way]
    if len(way) > 1 and float(gaps.max()) > closing + SAME_ANGLE_DEG:
        start = int(gaps.argmax()) + 1
        ordered = ordered[start:] + ordered[:start]
    return ordered


# --- Private helpers --------------------------------------------------------------------------------------------------


def _check_number(rotation: Elements, views: list[ViewKey]) -> None:
    declared = rotation.integer("NumberOfFramesInRotation")
    per_detector = max(view.view for view in views) + 1
    if declared is not None and declared not in (per_detector, len(views)):
        raise DicomError(
            f"{rotation.where}: {rotation.name('NumberOfFramesInRotation')} is {declared}, but Angular View Vector has "
            f"{per_detector} views of a detector ({len(views)} in all); expected the same number; "
            "export the study again"
        )


def _check_arc(rotation: Elements, views: list[ViewKey], step: float, warnings: list[str]) -> None:
    arc = rotation.decimal("ScanArc")
    per_detector = max(view.view for view in views) + 1
    plausible = [step * number for count in (per_detector, len(views)) for number in (count - 1, count)]
    if arc is not None and per_detector > 1 and min(abs(arc - each) for each in plausible) > step / 2:
        warnings.append(
            f"{tag_text('ScanArc')} is {arc:g} degrees, but {per_detector} views of {step:g} degrees make "
            f"{step * per_detector:g}; angles follow AngularStep"
        )


def _offsets(detectors: tuple[Elements, ...], used: list[int], warnings: list[str]) -> dict[int, float] | None:
    """How far each detector stands from the first one, in degrees."""
    if used == [0]:
        return {0: 0.0}
    places: dict[int, float] = {}
    for number in {0, *used}:
        place = _detector_deg(detectors[number]) if number < len(detectors) else None
        if place is None:
            warnings.append(
                f"angles unknown: detector {number + 1} has neither StartAngle (0054,0200) nor an orientation in "
                f"{tag_text('DetectorInformationSequence')}"
            )
            return None
        places[number] = place
    return {number: places[number] - places[0] for number in used}


def _detector_deg(detector: Elements) -> float | None:
    start = detector.decimal("StartAngle")
    if start is not None:
        return start
    orientation = detector.decimals("ImageOrientationPatient", 6)
    if orientation is None:
        return None
    away = -np.cross(orientation[:3], orientation[3:])
    return math.degrees(math.atan2(away[0], away[1])) if math.hypot(away[0], away[1]) > 0.5 else None
