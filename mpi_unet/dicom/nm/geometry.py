"""Where the slices of a reconstruction lie, or that the file does not say it (PS3.3 C.8.4.11, C.8.4.15, C.7.6.2.1.1).

Nuclear medicine keeps Image Position and Image Orientation (Patient) in the first item of Detector Information
Sequence; other software writes them at the top level. The first item that has both is believed, else the top level if
it has both, because a position of one place and directions of another may describe two different stacks. Where the
places differ, and where no place has both, a warning says so. Where none speaks the geometry is *unknown*: voxels have
a size and an order, and no place in the patient.

The distance and the direction from slice to slice are the amount and the sign of Spacing Between Slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mpi_unet.dicom.geometry import DIRECTION_TOLERANCE, SliceStack, Vector
from mpi_unet.dicom.nm.elements import Elements, tag_text
from mpi_unet.errors import DicomError

__all__ = ["Geometry", "pixel_mm_of", "stack_of"]

SPACING_LIMITS_MM = (0.01, 100.0)
"""Pixels of animal cameras have 0.1 mm, of whole-body scans 5; what lies far outside is a damaged number."""

FARTHEST_MM = 10_000.0
"""Some tables count their travel from the wall; none is longer than this."""

ROUNDED_DIRECTION = 5e-3
"""Direction cosines of two or three decimals are set upright; what is farther off is no direction."""

DIFFERENCE_MM = 0.1
"""Positions of one image that are farther apart than this contradict each other."""


@dataclass(frozen=True)
class Geometry:
    """What the file says about the place of its voxels.

    Attributes:
        stack: Where slice 1 lies and how the others follow; None where the file does not say it.
        slice_mm: Distance of neighboring slices, always positive; None where the file does not say it.
        warnings: What was assumed, and what contradicts what.
    """

    stack: SliceStack | None
    slice_mm: float | None
    warnings: tuple[str, ...]


def pixel_mm_of(elements: Elements) -> tuple[float, float] | None:
    """Distance of neighboring rows, then of neighboring columns; None where the file does not say it.

    Raises:
        DicomError: Pixel Spacing is not two lengths that pixels can have.
    """
    spacing = elements.decimals("PixelSpacing", 2)
    if spacing is None:
        return None
    if not all(SPACING_LIMITS_MM[0] <= mm <= SPACING_LIMITS_MM[1] for mm in spacing):
        raise elements.error("PixelSpacing", f"is {spacing[0]:g} x {spacing[1]:g} mm", _limits())
    return spacing[0], spacing[1]


def stack_of(
    elements: Elements,
    pixel_mm: tuple[float, float] | None,
    first_slice: int,
    position_of: Literal["slice 1", "first frame"] = "slice 1",
) -> Geometry:
    """Where the slices of a reconstruction lie.

    Args:
        elements: The dataset.
        pixel_mm: Distance of neighboring rows and columns.
        first_slice: The slice number of the first frame in the file.
        position_of: What Image Position (Patient) is the place of, where the first frame is not slice 1. The standard
            can be read in two ways (docs/nm_dicom.md); the one that is taken is reported.

    Raises:
        DicomError: A spacing is zero or absurd, or the directions are no directions.
    """
    warnings: list[str] = []
    step_mm = _step_mm(elements, warnings)
    slice_mm = None if step_mm is None else abs(step_mm)
    position, orientation = _place(elements, warnings)
    missing = [
        tag_text(name)
        for name, value in (
            ("PixelSpacing", pixel_mm),
            ("SpacingBetweenSlices", step_mm),
            ("ImagePositionPatient", position),
            ("ImageOrientationPatient", orientation),
        )
        if value is None
    ]
    if pixel_mm is None or step_mm is None or position is None or orientation is None:
        warnings.insert(0, f"geometry unknown: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        return Geometry(None, slice_mm, tuple(warnings))
    row, column = _upright(elements, orientation, warnings)
    try:
        stack = SliceStack(position, row, column, pixel_mm, step_mm)
    except ValueError as error:
        raise DicomError(f"{elements.where}: {error}; expected a stack of slices; export the study again") from error
    if first_slice != 1:
        way_mm = (first_slice - 1) * slice_mm if slice_mm else 0.0
        if position_of == "first frame":
            origin = stack.affine_lps @ (0, 0, 1 - first_slice, 1)
            stack = replace(stack, position_mm=(float(origin[0]), float(origin[1]), float(origin[2])))
        other = "slice 1" if position_of == "first frame" else "first frame"
        warnings.append(
            f"{tag_text('SliceVector')} begins with slice {first_slice}, so the standard leaves open what "
            f"{tag_text('ImagePositionPatient')} is the place of; taken as that of the {position_of}, "
            f"as that of the {other} it would lie {way_mm:.1f} mm from here"
        )
    return Geometry(stack, slice_mm, tuple(warnings))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _limits() -> str:
    return f"lengths from {SPACING_LIMITS_MM[0]:g} to {SPACING_LIMITS_MM[1]:g} mm"


def _step_mm(elements: Elements, warnings: list[str]) -> float | None:
    step_mm = elements.decimal("SpacingBetweenSlices")
    name = "SpacingBetweenSlices"
    if step_mm is None:
        name, step_mm = "SliceThickness", elements.decimal("SliceThickness")
        if step_mm is None:
            return None
        warnings.append(
            f"{tag_text('SpacingBetweenSlices')} is missing; its amount was taken from SliceThickness ({step_mm:g} mm) "
            "and its sign is unknown, so the slices may be stacked the other way round"
        )
    if not SPACING_LIMITS_MM[0] <= abs(step_mm) <= SPACING_LIMITS_MM[1] or (name == "SliceThickness" and step_mm < 0):
        raise elements.error(name, f"is {step_mm:g} mm", f"{_limits()}, with the sign of the stacking direction")
    return step_mm


def _place(elements: Elements, warnings: list[str]) -> tuple[Vector | None, tuple[float, ...] | None]:
    """Position and orientation from the first place that has both, nested before top level."""
    detectors = elements.items("DetectorInformationSequence")
    told: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6)):
        said: dict[str, tuple[float, ...]] = {}
        for place in (*detectors, elements):
            numbers = place.decimals(name, count)
            if numbers is not None and name == "ImageOrientationPatient" and not any(numbers):
                warnings.append(f"{place.name(name)} holds zeros only and was taken for empty")
            elif numbers is not None:
                said[place.inside] = numbers
        told[name] = said
    positions, orientations = told["ImagePositionPatient"], told["ImageOrientationPatient"]
    whole = next((place for place in positions if place in orientations), None)
    if whole is None and positions and orientations:
        warnings.append(
            f"{tag_text('ImagePositionPatient')} stands in {next(iter(positions)) or 'the top level'} and "
            f"{tag_text('ImageOrientationPatient')} in {next(iter(orientations)) or 'the top level'}, and no place has "
            "both; they were put together"
        )
    found: dict[str, tuple[float, ...]] = {}
    for (name, said), tolerance in zip(told.items(), (DIFFERENCE_MM, ROUNDED_DIRECTION), strict=True):
        if not said:
            continue
        chosen = next(iter(said)) if whole is None else whole
        numbers = found[name] = said[chosen]
        for other, theirs in said.items():
            if max(abs(a - b) for a, b in zip(numbers, theirs, strict=True)) > tolerance:
                warnings.append(
                    f"{tag_text(name)} is {_listed(numbers)} in {chosen or 'the top level'} and {_listed(theirs)} in "
                    f"{other or 'the top level'}; the first was believed"
                )
    position, orientation = found.get("ImagePositionPatient"), found.get("ImageOrientationPatient")
    if position is None:
        return None, orientation
    if max(abs(mm) for mm in position) > FARTHEST_MM:
        raise elements.error("ImagePositionPatient", f"is {_listed(position)}", f"places within {FARTHEST_MM:g} mm")
    return (position[0], position[1], position[2]), orientation


def _upright(elements: Elements, orientation: tuple[float, ...], warnings: list[str]) -> tuple[Vector, Vector]:
    """Two orthogonal unit vectors, when the file gives them but for the rounding of its decimals."""
    row, column = np.reshape(orientation, (2, 3))
    off = max(abs(math.sqrt(row @ row) - 1), abs(math.sqrt(column @ column) - 1), abs(row @ column))
    if off > ROUNDED_DIRECTION:
        raise elements.error(
            "ImageOrientationPatient",
            f"is {_listed(orientation)}, off by {off:.2g}",
            "two orthogonal vectors of length 1",
        )
    if off > DIRECTION_TOLERANCE / 10:
        warnings.append(f"{tag_text('ImageOrientationPatient')} is rounded (off by {off:.1g}); it was set upright")
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return (float(row[0]), float(row[1]), float(row[2])), (float(column[0]), float(column[1]), float(column[2]))


def _listed(numbers: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in numbers) + ")"
