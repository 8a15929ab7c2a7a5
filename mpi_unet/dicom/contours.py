"""Outlines become masks: the one rule by which polygons are filled, and the contours of a DICOM structure set.

The rule: centers of pixels lie at whole numbers, and a pixel belongs to a mask when its center is inside the outline.
The outline is not drawn into the mask, as image programs do; at the pixel size of SPECT that makes a disc of 30 mm
larger by a fifth. Several contours of one plane are taken together by the even-odd rule (XOR): a contour within another
one is a hole. A contour of the kind ``exclude`` is cut out whatever it lies in.

A center that lies exactly *on* an outline is neither inside nor outside; ``edge`` says what becomes of it. ``inside``
takes it into the structure, as the polygon functions of scikit-image do: right for outlines whose corners are the
outermost pixels of the structure. ``outside`` leaves it out: right where a reader marked the first pixels that no
longer belong, as in LIDC-IDRI. Outlines between the centers of pixels, as most programs draw them, do not depend on it.

Positions are rounded to 1/10,000 pixel before they are looked at, so that an outline through centers stays one when it
was stored in millimeters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Int
from pydicom.dataset import Dataset

from mpi_unet.dicom.geometry import lps_from_ras
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.errors import DicomError
from mpi_unet.shapes import Affine, FrameMask

__all__ = [
    "Contour",
    "Edge",
    "Kind",
    "PatientContour",
    "Points",
    "contours_mask",
    "equal_interiors",
    "overlapping",
    "plane_of",
    "point_problems",
    "read_structures",
]

Points: TypeAlias = Float[np.ndarray, "point 2"]
"""Corners of a polygon (row, column), in pixels; the center of the first pixel is (0, 0). The last corner is joined to
the first, whether or not it repeats it."""

Edge: TypeAlias = Literal["inside", "outside"]
Kind: TypeAlias = Literal["include", "exclude"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DECIMALS = 4
"""Positions are rounded to so many decimals of a pixel: decimal strings in DICOM are finer, a reader's hand is not."""

PLANE_TOLERANCE = 0.25
"""A contour of a structure set may lie this far from the plane of a slice, in slices; further off it is of no slice."""

MOST_CORNERS = 5000
"""A contour has at most so many corners: one of a heart has hundreds, and each edge is compared with all others."""

EDGES_AT_ONCE = 256
"""So many edges are compared with all others at once, which bounds the memory."""

NO_GEOMETRY = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
"""Kinds of contours that enclose nothing (PS3.3 C.8.8.6.1)."""


@dataclass(frozen=True)
class Contour:
    """A closed polygon in a plane.

    Attributes:
        points: Its corners (row, column) in pixels.
        kind: ``include``, or ``exclude`` for a part that is cut out.
    """

    points: Points
    kind: Kind = "include"


@dataclass(frozen=True)
class PatientContour:
    """A closed polygon of a structure set.

    Attributes:
        structure: ROI Name.
        number: Place among the contours of the structure, from 1, to name it in an error.
        points_lps: Its corners in mm, to the patient's left, back and head.
        sop_instance_uid: The image that it was drawn on; empty when the file does not say.
        frame_number: The frame of that image, from 1; None when the file does not say.
    """

    structure: str
    number: int
    points_lps: Float[np.ndarray, "point 3"]
    sop_instance_uid: str
    frame_number: int | None


def contours_mask(contours: Sequence[Contour], shape: tuple[int, int], *, edge: Edge = "inside") -> FrameMask:
    """Fill the contours of one plane.

    Args:
        contours: Closed polygons; parts outside the plane are cut off.
        shape: Rows and columns of the plane.
        edge: What becomes of centers exactly on a contour.

    Returns:
        The mask (row, column): true where a center lies inside an odd number of included contours and inside none that
        is excluded. False everywhere without contours.

    Source:
        The crossing-number test of scikit-image (skimage.measure.grid_points_in_poly).

    Example:
        A square through the centers of 3 x 3 pixels, and the same a little smaller.

        >>> square = np.array([[1.0, 1.0], [1.0, 3.0], [3.0, 3.0], [3.0, 1.0]])
        >>> [int(contours_mask([Contour(square)], (5, 5), edge=edge).sum()) for edge in ("inside", "outside")]
        [9, 1]
        >>> int(contours_mask([Contour(2 + 0.9 * (square - 2))], (5, 5)).sum())
        1
    """
    mask: FrameMask = np.zeros(shape, dtype=bool)
    on_edge = mask.copy()
    for contour in contours:
        if contour.kind == "include":
            place = _places(contour.points, shape)
            mask ^= place == INSIDE
            on_edge |= place > INSIDE
    mask[on_edge] = edge == "inside"
    for contour in contours:
        if contour.kind == "exclude":
            place = _places(contour.points, shape)
            mask &= ~((place > OUTSIDE) if edge == "outside" else (place == INSIDE))
    return mask


def point_problems(points: Points, shape: tuple[int, int]) -> list[str]:
    """What keeps a polygon from being an outline in a plane of this shape, in one sentence each.

    Args:
        points: Its corners (row, column) in pixels.
        shape: Rows and columns of the plane.

    Returns:
        Sentences; none when the polygon can be used. A polygon may touch itself, as outlines along the borders of
        pixels do, but neither cross itself nor pass an edge twice in one direction, as a contour that stands in its
        file twice does; it has at most `MOST_CORNERS` corners.

    Example:
        >>> point_problems(np.array([[1.0, 1.0], [5.0, 5.0], [1.0, 5.0], [5.0, 1.0]]), (8, 8))
        ['crosses itself near row 3, column 3; expected a simple outline']
    """
    if len(points) > MOST_CORNERS:
        return [f"has {len(points)} corners; expected at most {MOST_CORNERS}: export it with fewer"]
    if not np.isfinite(points).all():
        return ["has a corner that is no number; expected finite positions"]
    distinct = np.unique(np.round(points, DECIMALS), axis=0)
    if len(distinct) < 3:
        return [f"has {len(distinct)} different points; expected at least 3"]
    problems = []
    low, high = points.min(axis=0), points.max(axis=0)
    if (low < -0.5 - 10.0**-DECIMALS).any() or (high > np.array(shape) - 0.5 + 10.0**-DECIMALS).any():
        problems.append(
            f"reaches from row {low[0]:g}, column {low[1]:g} to row {high[0]:g}, column {high[1]:g}, out of an image "
            f"of {shape[0]} rows and {shape[1]} columns"
        )
    start = _corners(points)
    edges, times = np.unique(np.hstack([start, np.roll(start, -1, axis=0)]), axis=0, return_counts=True)
    if times.max() > 1:
        first = edges[times > 1][0]
        problems.append(
            f"passes the edge from row {first[0]:g}, column {first[1]:g} to row {first[2]:g}, column {first[3]:g} "
            f"{times.max()} times; expected once: does the file hold the contour twice?"
        )
    crossing = _crossing(points)
    if crossing is not None:
        problems.append(f"crosses itself near row {crossing[0]:g}, column {crossing[1]:g}; expected a simple outline")
    if not problems and not (_places(points, shape) > OUTSIDE).any():
        problems.append("holds the center of no pixel; expected an outline of at least one")
    return problems


def overlapping(first: Points, second: Points, shape: tuple[int, int]) -> int:
    """Number of pixels that two contours share although neither lies in the other; 0 for a hole or separate parts.

    Two contours around the same pixels count as overlapping: by the even-odd rule they would take each other away.
    """
    places = [_places(points, shape) for points in (first, second)]
    inside, strictly = [place > OUTSIDE for place in places], [place == INSIDE for place in places]
    if _are_equal(*places):
        return int(inside[0].sum())
    if not (strictly[0] & ~inside[1]).any() or not (strictly[1] & ~inside[0]).any():
        return 0
    return int((strictly[0] & strictly[1]).sum())


def equal_interiors(first: Points, second: Points, shape: tuple[int, int]) -> bool:
    """Whether two contours enclose the same pixels, as one does that stands in a file twice.

    Example:
        >>> square = np.array([[1.0, 1.0], [1.0, 3.0], [3.0, 3.0], [3.0, 1.0]])
        >>> equal_interiors(square, square[::-1].copy(), (5, 5)), equal_interiors(square, square + 1, (5, 5))
        (True, False)
    """
    return _are_equal(_places(first, shape), _places(second, shape))


def plane_of(
    points_lps: Float[np.ndarray, "point 3"], affine_ras: Affine, num_slices: int, where: str
) -> tuple[int, Points]:
    """The slice that a contour in the patient lies on, and its corners there.

    Args:
        points_lps: Its corners in mm, to the patient's left, back and head.
        affine_ras: Voxel index (x, y, z) of the image to RAS in mm.
        num_slices: Number of slices of the image.
        where: What to call the contour in an error.

    Returns:
        Index of the slice, and the corners (row, column) in pixels.

    Raises:
        DicomError: The contour lies in no plane of the image.
    """
    to_voxel = np.linalg.inv(lps_from_ras(affine_ras))
    voxels = points_lps @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    nearest = int(np.clip(np.round(np.median(voxels[:, 2])), 0, num_slices - 1))
    distance = np.abs(voxels[:, 2] - nearest)
    if distance.max() > PLANE_TOLERANCE:
        low, high = voxels[:, 2].min(), voxels[:, 2].max()
        raise DicomError(
            f"{where}: lies between slices {low:.2f} and {high:.2f} of {num_slices} (from 0); expected all its points "
            f"within {PLANE_TOLERANCE} of a slice. It was drawn on another image or across the slices; draw it on the "
            "slices of this image"
        )
    return nearest, np.ascontiguousarray(voxels[:, [1, 0]])


def read_structures(path: str | Path) -> tuple[PatientContour, ...]:
    """Read the closed contours of a DICOM RT structure set.

    Args:
        path: The file.

    Returns:
        Its contours in the order of the file.

    Raises:
        DicomError: The file is no structure set, or holds contours that are open or whose numbers are not whole
            points; all of them are named.

    Source:
        DICOM PS3.3 C.8.8.5 (Structure Set Module), C.8.8.6 (ROI Contour Module).
    """
    import pydicom

    path = Path(path)
    try:
        with quiet():  # what is wrong with the file is said by the error, or does not matter
            contours, problems = _contours(pydicom.dcmread(path), path)
    except DicomError:
        raise
    except Exception as error:  # pydicom raises whatever it likes on a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DicomError(f"{path.name}: cannot be read as an RT structure set ({reason}); export it again") from error
    if problems:
        raise DicomError(f"{path.name}: " + "; ".join(problems) + ". Correct these contours and export the file again")
    if not contours:
        raise DicomError(f"{path.name}: holds no contour (ROIContourSequence); expected at least one")
    return tuple(contours)


# --- Private helpers --------------------------------------------------------------------------------------------------

OUTSIDE, INSIDE = 0, 1
"""What scikit-image calls a center; 2 and 3 are on a corner and on an edge."""


def _places(points: Points, shape: tuple[int, int]) -> Int[np.ndarray, "y x"]:
    """Where each center lies: outside (0), inside (1), on a corner (2), on an edge (3)."""
    from skimage.measure import grid_points_in_poly

    rounded = np.round(points, DECIMALS)
    places: Int[np.ndarray, "y x"] = np.zeros(shape, dtype=int)
    low = np.clip(np.floor(rounded.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(rounded.max(axis=0)).astype(int) + 1, low, shape)
    if (high > low).all():  # only the rectangle about the polygon is looked at
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        places[low[0] : high[0], low[1] : high[1]] = grid_points_in_poly(size, rounded - low, binarize=False)
    return places


def _are_equal(first: Int[np.ndarray, "y x"], second: Int[np.ndarray, "y x"]) -> bool:
    """Whether the same centers are inside, and the same inside or on the outline."""
    return np.array_equal(first == INSIDE, second == INSIDE) and np.array_equal(first > OUTSIDE, second > OUTSIDE)


def _corners(points: Points) -> Float[np.ndarray, "corner 2"]:
    """The corners, rounded, without those that repeat the one before."""
    start: Float[np.ndarray, "corner 2"] = np.round(points, DECIMALS) + 0.0  # + 0.0 makes -0 the same number as 0
    return start[np.any(start != np.roll(start, 1, axis=0), axis=1)]


def _crossing(points: Points) -> tuple[float, float] | None:
    """A place where two edges cross within both of them, or None."""
    start = _corners(points)
    end = np.roll(start, -1, axis=0)
    for block in range(0, len(start), EDGES_AT_ONCE):
        first, second = np.meshgrid(np.arange(block, min(block + EDGES_AT_ONCE, len(start))), np.arange(len(start)))
        first, second = first[second > first + 1], second[second > first + 1]
        a, b, c, d = start[first], end[first], start[second], end[second]
        sides = [_side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)]
        pairs = np.flatnonzero((np.sign(sides[0] * sides[1]) < 0) & (np.sign(sides[2] * sides[3]) < 0))
        if len(pairs):
            pair = int(pairs[0])
            share = sides[2][pair] / (sides[2][pair] - sides[3][pair])
            row, column = a[pair] + share * (b[pair] - a[pair])
            return float(row), float(column)
    return None


def _side(
    start: Float[np.ndarray, "pair 2"], end: Float[np.ndarray, "pair 2"], point: Float[np.ndarray, "pair 2"]
) -> Float[np.ndarray, " pair"]:
    """Twice the signed area of each triangle; 0 when the point is on the line, which rounded positions make exact."""
    way, to_point = end - start, point - start
    cross = way[:, 0] * to_point[:, 1] - way[:, 1] * to_point[:, 0]
    area: Float[np.ndarray, " pair"] = np.round(cross, 2 * DECIMALS - 1)
    return area


def _contours(dataset: Dataset, path: Path) -> tuple[list[PatientContour], list[str]]:
    """The contours of a structure set, and what is wrong with the others."""
    from pydicom.uid import RTStructureSetStorage

    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class != RTStructureSetStorage:
        raise DicomError(
            f"{path.name}: SOPClassUID (0008,0016) is {sop_class or 'missing'}; expected an RT structure set, "
            f"{RTStructureSetStorage}"
        )
    names = {int(roi.ROINumber): str(roi.get("ROIName", "")) for roi in dataset.StructureSetROISequence}
    contours, problems = [], []
    for roi in dataset.get("ROIContourSequence") or []:
        structure = names.get(int(roi.ReferencedROINumber), "")
        for number, item in enumerate(roi.get("ContourSequence") or [], start=1):
            try:
                contours.append(_patient_contour(structure, number, item))
            except DicomError as error:
                problems.append(str(error))
    return contours, problems


def _patient_contour(structure: str, number: int, item: Dataset) -> PatientContour:
    """One item of a Contour Sequence."""
    where = f"contour {number} of {structure!r}"
    kind = str(item.get("ContourGeometricType", ""))
    if kind in NO_GEOMETRY:
        raise DicomError(f"{where}: ContourGeometricType (3006,0042) is {kind}; expected a closed contour")
    numbers = np.atleast_1d(np.asarray(item.get("ContourData") or (), dtype=float))
    if len(numbers) % 3 or not len(numbers) or not np.isfinite(numbers).all():
        raise DicomError(f"{where}: ContourData (3006,0050) holds {len(numbers)} numbers; expected three a point")
    images = item.get("ContourImageSequence") or []
    image = images[0] if len(images) else Dataset()
    frames = np.ravel(image.get("ReferencedFrameNumber", []))
    return PatientContour(
        structure=structure,
        number=number,
        points_lps=numbers.reshape(-1, 3),
        sop_instance_uid=str(image.get("ReferencedSOPInstanceUID", "")),
        frame_number=int(frames[0]) if len(frames) else None,
    )
