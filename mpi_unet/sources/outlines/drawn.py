"""What readers drew, whatever the file: polygons in a frame, polygons in the patient, and label maps become masks.

A *drawing* is one contour, or one label map, with everything that its file says about it. Drawings of one reader on one
case make a mask: contours of a frame by the rule of :mod:`mpi_unet.dicom.contours`, label maps by reorienting them, and
several frames side by side.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from mpi_unet.cohort.case import Case
from mpi_unet.dicom.contours import (
    Contour,
    Edge,
    Kind,
    PatientContour,
    Points,
    contours_mask,
    equal_interiors,
    overlapping,
    plane_of,
    point_problems,
)
from mpi_unet.errors import CohortError, DicomError
from mpi_unet.shapes import Affine, FrameMask, Mask
from mpi_unet.sources.grids import onto_grid
from mpi_unet.sources.volume_files import read_volume_file

__all__ = ["Drawing", "FrameLabel", "Grid", "Polygon", "Unit", "VolumeLabel", "grid_of", "mask_of"]

UNKNOWN_PLACE = "unknown"
"""Value of a column ``place`` of cases.csv, where an image does not say where it lies but its file has to."""

Unit: TypeAlias = Literal["pixel", "mm"]


@dataclass(frozen=True)
class Polygon:
    """A closed polygon in a frame.

    Attributes:
        points: Corners (row, column) in ``unit``.
        kind: Whether it adds or cuts out.
        unit: Pixels, or mm from the origin along rows and columns.
        origin: Where (0, 0) is: the ``center`` of the first pixel, or its outer ``corner``.
        size: Rows and columns of the image that it was drawn on; None when the file does not say.
    """

    points: Points
    kind: Kind
    unit: Unit
    origin: Literal["center", "corner"]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class FrameLabel:
    """A mask (row, column) of one frame."""

    mask: FrameMask


@dataclass(frozen=True)
class VolumeLabel:
    """A mask (z, y, x) of a case, perhaps turned; ``affine`` is None when its file says nothing of its place.

    ``is_cut`` says that a mask smaller than the image is usual in its format.
    """

    mask: Mask
    affine: Affine | None
    is_cut: bool = False


@dataclass(frozen=True)
class Drawing:
    """One thing that a reader drew.

    Attributes:
        file: The file, from the folder that was searched.
        where: File and place in it, for errors.
        reader: Who drew; empty when only the pattern of a structure tells.
        read: 1, or 2 and more for repeat reads.
        groups: What the file says of its case.
        source_uid: SOP Instance UID of the image that it was drawn on; empty when the file does not say.
        structure: Name of what was outlined, as in the file; may be empty.
        frame: The frame, from 0; None for label maps of a case and for contours in the patient.
        shape: What was drawn.
    """

    file: str
    where: str
    reader: str
    read: int
    groups: Mapping[str, str]
    structure: str
    frame: int | None
    shape: Polygon | PatientContour | FrameLabel | VolumeLabel
    source_uid: str = ""


@dataclass(frozen=True)
class Grid:
    """The voxels of a case that is outlined.

    Attributes:
        shape: Slices or views, rows, columns.
        affine: Voxel index (x, y, z) to RAS in mm.
        pixel_mm: Distance of rows and of columns; None when nobody knows it.
        is_placed: Whether the place of the voxels in the patient is known.
        is_distance_z: Whether the third axis of the image's file is a distance, as it is not in projections.
    """

    shape: tuple[int, int, int]
    affine: Affine
    pixel_mm: tuple[float, float] | None
    is_placed: bool
    is_distance_z: bool = True


@dataclass
class _Part:
    """What one structure of a case holds so far: contours and masks by frame, and the files of each frame."""

    contours: dict[int, list[tuple[str, Contour]]] = field(default_factory=lambda: defaultdict(list))
    masks: list[Mask] = field(default_factory=list)
    files: dict[int, str] = field(default_factory=dict)


def grid_of(case: Case, *, spacing_known: bool) -> Grid:
    """The voxels of a case, from its image."""
    image = read_volume_file(case.image)
    _, y, x = np.linalg.norm(image.affine[:3, :3], axis=0)[::-1]
    gates, *shape = image.values.shape
    if gates != 1:
        raise CohortError(f"{case.case_id}: its image has {gates} gates; expected one volume a case")
    return Grid(
        shape=(shape[0], shape[1], shape[2]),
        affine=image.affine,
        pixel_mm=(float(y), float(x)) if spacing_known else None,
        is_placed=image.is_placed and case.strata.get("place") != UNKNOWN_PLACE,
        is_distance_z=image.is_placed,
    )


def mask_of(
    drawings: Sequence[Drawing], grid: Grid, *, edge: Edge, minus: re.Pattern[str] | None, problems: list[str]
) -> Mask:
    """The mask of what one reader drew on one case.

    Args:
        drawings: Everything that the reader drew there.
        grid: The voxels of the case.
        edge: What becomes of centers exactly on a contour.
        minus: Structures that are cut out of the others.
        problems: Gets a sentence for everything that cannot be used.

    Returns:
        The mask (z, y, x).
    """
    before = len(problems)
    parts = {True: _Part(), False: _Part()}
    for drawing in drawings:
        part = parts[minus is None or minus.fullmatch(drawing.structure) is None]
        try:
            _add(part, drawing, grid)
        except (CohortError, DicomError) as error:
            text = str(error)
            problems.append(text if text.startswith(drawing.where) else f"{drawing.where}: {text}")
    plus = _filled(parts[True], grid, edge, problems)
    cut_out = _filled(parts[False], grid, edge, problems)
    if len(problems) == before:
        alone = [str(frame) for frame in np.flatnonzero(cut_out.any(axis=(1, 2)) & ~plus.any(axis=(1, 2)))]
        if alone:
            problems.append(
                f"{drawings[0].file}: frame {', '.join(alone)} has an inner outline and no outer one; expected both"
            )
    return plus & ~cut_out


# --- Private helpers --------------------------------------------------------------------------------------------------


def _add(part: _Part, drawing: Drawing, grid: Grid) -> None:
    shape = drawing.shape
    if isinstance(shape, VolumeLabel):
        label = _volume(shape, grid)
        for frame in range(grid.shape[0]):
            _claim(part, frame, drawing)
        part.masks.append(label)
        return
    if isinstance(shape, PatientContour):
        if not grid.is_placed:
            raise CohortError(
                "is drawn in the patient, but nobody knows where the voxels of its image are; "
                "export the outlines in pixels"
            )
        frame, points = plane_of(shape.points_lps, grid.affine, grid.shape[0], drawing.where)
        contour = Contour(points)
    else:
        frame = _frame(drawing, grid)
        if isinstance(shape, FrameLabel):
            if shape.mask.shape != grid.shape[1:]:
                raise CohortError(f"is {_size(shape.mask.shape)}, its image {_size(grid.shape[1:])} (rows x columns)")
            mask = np.zeros(grid.shape, dtype=bool)
            mask[frame] = shape.mask
            _claim(part, frame, drawing)
            part.masks.append(mask)
            return
        contour = Contour(_pixels(shape, grid), shape.kind)
    found = point_problems(contour.points, (grid.shape[1], grid.shape[2]))
    if found:
        raise CohortError("; ".join(found))
    _claim(part, frame, drawing)
    part.contours[frame].append((drawing.where, contour))


def _claim(part: _Part, frame: int, drawing: Drawing) -> None:
    """One frame is outlined by one file; a second one would be another read, or a mistake."""
    first = part.files.setdefault(frame, drawing.file)
    if first != drawing.file:
        raise CohortError(
            f"outlines frame {frame}, which {first} outlines too, of the same reader; expected one file: a second read "
            "needs the group or column 'read'"
        )


def _frame(drawing: Drawing, grid: Grid) -> int:
    frame = 0 if drawing.frame is None and grid.shape[0] == 1 else drawing.frame
    if frame is None:
        raise CohortError(f"does not say its frame; its case has {grid.shape[0]}")
    if not 0 <= frame < grid.shape[0]:
        raise CohortError(
            f"frame is {frame} (counted from 0); its case has the frames 0 to {grid.shape[0] - 1}. "
            "source.first_frame=1 says that the file counts from 1"
        )
    return frame


def _pixels(polygon: Polygon, grid: Grid) -> Points:
    points = polygon.points
    if polygon.size is not None and polygon.size != grid.shape[1:]:
        raise CohortError(
            f"was drawn on {_size(polygon.size)}, its image is {_size(grid.shape[1:])} (rows x columns); "
            "outline the image at its own size"
        )
    if polygon.unit == "mm":
        if grid.pixel_mm is None:
            raise CohortError("is in mm, but nobody knows the pixel size of the cohort; give it in pixels")
        points = points / np.array(grid.pixel_mm)
    return points - 0.5 if polygon.origin == "corner" else points


def _volume(label: VolumeLabel, grid: Grid) -> Mask:
    if label.affine is not None and grid.is_placed:
        mask: Mask = onto_grid(label.mask, label.affine, grid.shape, grid.affine, is_cut=label.is_cut)
        return mask
    if label.mask.shape != grid.shape:  # without a place, only the order of the voxels is left to go by
        found, expected = "x".join(map(str, label.mask.shape)), "x".join(map(str, grid.shape))
        raise CohortError(f"is {found}, its image {expected} (z, y, x) voxels; expected a label on the image's grid")
    return label.mask


def _filled(part: _Part, grid: Grid, edge: Edge, problems: list[str]) -> Mask:
    mask: Mask = np.zeros(grid.shape, dtype=bool)
    for frame, contours in part.contours.items():
        problems += _ambiguous(frame, contours, (grid.shape[1], grid.shape[2]))
        mask[frame] = contours_mask([contour for _, contour in contours], (grid.shape[1], grid.shape[2]), edge=edge)
    for other in part.masks:
        mask |= other
    return mask


def _ambiguous(frame: int, contours: Sequence[tuple[str, Contour]], shape: tuple[int, int]) -> list[str]:
    """Contours of a frame that are there twice, or overlap although neither lies in the other: what was meant?"""
    included = [(where, contour) for where, contour in contours if contour.kind == "include"]
    return [
        f"{where}: encloses the same {number} pixels of frame {frame} as {other}; expected a contour once: leave "
        "one out"
        if equal_interiors(contour.points, second.points, shape)
        else f"{where}: shares {number} pixels of frame {frame} with {other}, and neither lies in the other; draw one "
        "outline around both, or mark the part to cut out with kind 'exclude'"
        for index, (where, contour) in enumerate(included)
        for other, second in included[:index]
        if (number := overlapping(contour.points, second.points, shape))
    ]


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
