"""Where the slices of a stack and the views of an orbit lie in the patient, in the words of DICOM.

Everything is in LPS: millimeters growing to the patient's left, back and head. Two rules of PS3.3 stand here because
almost every tool gets them wrong:

- Slices of a nuclear medicine stack follow each other along the normal of the first one, the cross product of its row
  and its column direction, and the *sign* of Spacing Between Slices says whether with it or against it (C.8.4.15).
- A detector angle is zero at the patient's back and grows toward the patient's left, counter-clockwise for somebody
  who looks from the patient's feet (C.8.4.12): left lateral is 90, anterior 180, right lateral 270 degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from mpi_unet.shapes import Affine

__all__ = ["Orbit", "SliceStack", "Vector", "detector_side", "lps_from_ras", "view_directions"]

Vector: TypeAlias = tuple[float, float, float]
"""A point or a direction in LPS."""

HEAD: Vector = (0.0, 0.0, 1.0)

DIRECTION_TOLERANCE = 1e-4
"""Direction cosines come from decimal strings of six digits or more; a true shear is a hundred times larger."""


@dataclass(frozen=True)
class SliceStack:
    """Where the voxels of a stack of slices lie in the patient.

    Attributes:
        position_mm: Center of the first pixel of the first slice.
        row_direction: Unit vector along a row, the way the column index grows.
        column_direction: Unit vector down a column, the way the row index grows.
        pixel_mm: Distance of neighboring rows, then of neighboring columns, as Pixel Spacing has it.
        step_mm: Way from one slice to the next along ``row_direction`` x ``column_direction``; negative when the slices
            follow each other against it. This is Spacing Between Slices.

    Raises:
        ValueError: The directions are not orthogonal unit vectors, or a spacing is zero, negative or not finite.
    """

    position_mm: Vector
    row_direction: Vector
    column_direction: Vector
    pixel_mm: tuple[float, float]
    step_mm: float

    def __post_init__(self) -> None:
        row, column = np.array(self.row_direction), np.array(self.column_direction)
        if not np.isfinite([*self.position_mm, *row, *column, *self.pixel_mm, self.step_mm]).all():
            raise ValueError(f"a stack of slices must lie at finite places, got {self}")
        lengths = np.linalg.norm(row), np.linalg.norm(column)
        if max(abs(length - 1) for length in lengths) > DIRECTION_TOLERANCE or abs(row @ column) > DIRECTION_TOLERANCE:
            raise ValueError(
                f"row_direction {self.row_direction} and column_direction {self.column_direction} have lengths "
                f"{lengths[0]:.4g} and {lengths[1]:.4g} and the scalar product {row @ column:.4g}; DICOM wants "
                "orthogonal unit vectors, so resample a sheared volume first"
            )
        if min(self.pixel_mm) <= 0 or self.step_mm == 0:
            raise ValueError(
                f"pixel_mm is {self.pixel_mm} and step_mm {self.step_mm}; pixels need a positive size, and slices a "
                "distance (its sign is the direction of stacking)"
            )

    @classmethod
    def from_affine(cls, affine_lps: Affine) -> SliceStack:
        """Stack whose voxel (x, y, z) lies at ``affine_lps @ (x, y, z, 1)``; the sign of the step follows from it.

        Raises:
            ValueError: The axes of the affine are not at right angles.
        """
        axes = np.asarray(affine_lps, float)[:3, :3]
        spacing = np.linalg.norm(axes, axis=0)
        if not np.isfinite(affine_lps).all() or (spacing == 0).any():
            raise ValueError(f"affine_lps must be finite with three axes of some length, got {np.asarray(affine_lps)}")
        row, column, across = (axes / spacing).T
        along_normal = float(np.cross(row, column) @ across)
        if abs(abs(along_normal) - 1) > DIRECTION_TOLERANCE:
            tilt_deg = math.degrees(math.acos(min(1.0, abs(along_normal))))
            raise ValueError(
                f"the slices of affine_lps are stacked at {tilt_deg:.2f} degrees to their normal; DICOM NM stacks "
                "slices along the normal only, so resample a sheared volume first"
            )
        return cls(
            position_mm=_vector(affine_lps[:3, 3]),
            row_direction=_vector(row),
            column_direction=_vector(column),
            pixel_mm=(float(spacing[1]), float(spacing[0])),
            step_mm=math.copysign(float(spacing[2]), along_normal),
        )

    @property
    def affine_lps(self) -> Affine:
        """Voxel index (x, y, z), that is (column, row, slice), to LPS in mm."""
        row, column = np.array(self.row_direction), np.array(self.column_direction)
        affine = np.eye(4)
        affine[:3, 0] = row * self.pixel_mm[1]
        affine[:3, 1] = column * self.pixel_mm[0]
        affine[:3, 2] = np.cross(row, column) * self.step_mm
        affine[:3, 3] = self.position_mm
        return affine

    def last_slice_first(self, num_slices: int) -> SliceStack:
        """The same voxels when their slices are stored in the opposite order: the step changes its sign.

        Example:
            >>> stack = SliceStack((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (4.0, 4.0), 4.0)
            >>> stack.last_slice_first(10).step_mm, stack.last_slice_first(10).position_mm
            (-4.0, (0.0, 0.0, 36.0))
        """
        return replace(
            self,
            position_mm=_vector(self.affine_lps @ (0, 0, num_slices - 1, 1)),
            step_mm=-self.step_mm,
        )


@dataclass(frozen=True)
class Orbit:
    """The way of a parallel-hole camera around the patient.

    Attributes:
        first_angle_deg: Where the detector stands for view 0, in DICOM's angle (module docstring).
        arc_deg: Angle that the views share; neighboring views are ``arc_deg / num_views`` apart.
        num_views: Number of views.
        radius_mm: Distance of the detector from the axis of rotation: one mean value, or one for each view.
        clockwise: The angle decreases, as on the usual way from right anterior over left to left posterior oblique.
        frame_duration_ms: Time that the camera counts at each place.
        center_mm: A point of the axis of rotation; the axis runs from the feet to the head.

    Raises:
        ValueError: An angle, radius or duration is not positive or not finite, or the radii are not one for each view.
    """

    first_angle_deg: float
    arc_deg: float
    num_views: int
    radius_mm: float | tuple[float, ...]
    clockwise: bool = True
    frame_duration_ms: int = 25_000
    center_mm: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        radii = self.radii_mm
        if not np.isfinite([self.first_angle_deg, self.arc_deg, *radii, *self.center_mm]).all():
            raise ValueError(f"the angles, radii and center of an orbit must be finite, got {self}")
        if not 0 < self.arc_deg <= 360 or self.num_views < 1 or self.frame_duration_ms < 1 or min(radii) <= 0:
            raise ValueError(
                f"arc_deg is {self.arc_deg}, num_views {self.num_views}, frame_duration_ms {self.frame_duration_ms} "
                f"and the smallest radius {min(radii)} mm; all must be positive, and the arc at most 360"
            )
        if len(radii) not in (1, self.num_views):
            raise ValueError(
                f"radius_mm has {len(radii)} values for {self.num_views} views; give one, or one for each view"
            )

    @property
    def radii_mm(self) -> tuple[float, ...]:
        """One radius, or one for each view."""
        return self.radius_mm if isinstance(self.radius_mm, tuple) else (self.radius_mm,)

    @property
    def step_deg(self) -> float:
        """Angle between neighboring views, always positive."""
        return self.arc_deg / self.num_views

    @property
    def angles_deg(self) -> Float[np.ndarray, " view"]:
        """DICOM's detector angle of each view in [0, 360).

        Example:
            >>> Orbit(first_angle_deg=45.0, arc_deg=180.0, num_views=4, radius_mm=250.0).angles_deg
            array([ 45.,   0., 315., 270.])
        """
        turn = -self.step_deg if self.clockwise else self.step_deg
        angles: np.ndarray = np.mod(self.first_angle_deg + turn * np.arange(self.num_views), 360.0)
        return angles


def detector_side(angle_deg: float) -> Vector:
    """Unit vector from the axis of rotation to the detector.

    Source:
        DICOM PS3.3 C.8.4.12, Start Angle (0054,0200).

    Example:
        The detector is behind the patient at 0 degrees and at the left side at 90.

        >>> [tuple(round(c, 3) + 0.0 for c in detector_side(angle)) for angle in (0.0, 90.0, 180.0)]
        [(0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)]
    """
    angle = math.radians(angle_deg)
    return (math.sin(angle), math.cos(angle), 0.0)


def view_directions(angle_deg: float) -> tuple[Vector, Vector]:
    """Directions of the rows and of the columns of a view, seen from the camera, the head at the top.

    Rows run to the right of somebody who stands at the detector and looks at the patient, so in an anterior view from
    the patient's right to the left; columns run down to the feet.

    Example:
        >>> view_directions(180.0)[0][0], view_directions(180.0)[1]
        (1.0, (0.0, 0.0, -1.0))
    """
    looking = -np.array(detector_side(angle_deg))
    return _vector(np.cross(looking, HEAD)), (0.0, 0.0, -1.0)


def lps_from_ras(affine_ras: Affine) -> Affine:
    """The same affine with millimeters to the left and the back instead of the right and the front; its own inverse."""
    flipped: np.ndarray = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine_ras, float)
    return flipped


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(value) for value in values[:3])
    return (x, y, z)
