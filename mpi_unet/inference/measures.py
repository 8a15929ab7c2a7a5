"""What can be measured on the mask of one study; what cannot be is said in words, and is never an error.

Volumes in ml and areas in mm2 come from the voxels of the mask. Of an outline of the wall in a volume the surfaces of
`mpi_unet.cardiac` give cavity, wall and mass, thickness by segment, and the polar map. An outline of the cavity, or of
wall and cavity together, gives that volume by its voxels and nothing else. What the gates of a study tell together is
in `cycle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mpi_unet.cohort.domain import outline_size
from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Affine, Image, Mask, SpacingMm

if TYPE_CHECKING:
    from mpi_unet.inference.hearts import Heart

__all__ = ["Measures", "measure", "measure_heart"]


@dataclass(frozen=True)
class Measures:
    """Of one study; None is what was not or could not be measured.

    Attributes:
        volume_ml: Of the voxels of the mask.
        area_mm2: Mean over the frames of a projection set that show an outline.
        cavity_ml: Between valve plane and endocardium; of an outline of the cavity, its voxels.
        wall_ml: Between the surfaces.
        filled_ml: Both together; of an outline of both, its voxels.
        mass_g: Of the wall.
        thickness_mm: Mean over the segments.
        segment_thickness_mm: Segments 1 to 17.
        segment_uptake_pct: Segments 1 to 17, mean uptake in percent of the patient's maximum.
        why_not: Why some of it is missing; empty when nothing is.
    """

    volume_ml: float | None = None
    area_mm2: float | None = None
    cavity_ml: float | None = None
    wall_ml: float | None = None
    filled_ml: float | None = None
    mass_g: float | None = None
    thickness_mm: float | None = None
    segment_thickness_mm: tuple[float | None, ...] = ()
    segment_uptake_pct: tuple[float | None, ...] = ()
    why_not: str = ""


def measure(
    mask: Mask,
    image: Image,
    affine: Affine,
    spacing_mm: SpacingMm | None,
    *,
    domain: str,
    label: str,
    with_surfaces: bool,
    is_placed: bool = True,
) -> Measures:
    """Measure one study; see :func:`measure_heart`."""
    return measure_heart(
        mask,
        image,
        affine,
        spacing_mm,
        domain=domain,
        label=label,
        with_surfaces=with_surfaces,
        is_placed=is_placed,
    )[0]


def measure_heart(
    mask: Mask,
    image: Image,
    affine: Affine,
    spacing_mm: SpacingMm | None,
    *,
    domain: str,
    label: str,
    with_surfaces: bool,
    is_placed: bool = True,
) -> tuple[Measures, Heart | None]:
    """Measure one study.

    Args:
        mask: What was segmented.
        image: The intensities, as they were stored.
        affine: Voxel index (x, y, z) to RAS.
        spacing_mm: Along (z, y, x); None when nobody knows it.
        domain: What the image is.
        label: What the mask means.
        with_surfaces: Fit surfaces, about half a second; else volumes and areas of voxels only.
        is_placed: Whether the affine says how the heart lies in the patient; short-axis slices are else taken to be
            seen with the inferior wall below. So are those that the affine puts straight across the body: no heart
            lies like that, so somebody stored them without their directions.

    Returns:
        The measures, and axes and polar map of the heart where they could be found.
    """
    if not mask.any():
        return Measures(why_not="nothing was outlined"), None
    if spacing_mm is None:
        return Measures(why_not="nobody knows the size of a voxel"), None
    if domain == "projection":
        areas = [outline_size(frame, spacing_mm[1:]) for frame in mask if frame.any()]
        return Measures(area_mm2=float(np.mean(areas)), why_not="projections have no volume"), None
    volume_ml = outline_size(mask, spacing_mm)
    if not with_surfaces:
        return Measures(volume_ml=volume_ml, why_not="measurements=volume"), None
    if label != "lv_wall":
        of_cavity, of_filled = (volume_ml if label == name else None for name in ("lv_cavity", "lv_filled"))
        why_not = f"an outline of {label}: surfaces need that of the wall"
        return Measures(volume_ml=volume_ml, cavity_ml=of_cavity, filled_ml=of_filled, why_not=why_not), None
    try:
        return _on_surfaces(mask, image, affine, volume_ml, domain=domain, is_placed=is_placed)
    except CardiacError as error:
        return Measures(volume_ml=volume_ml, why_not=str(error)), None
    except Exception as error:  # nobody foresaw this mask: its volume is still right, and the mask is worth keeping
        why_not = f"the heart could not be measured ({type(error).__name__}: {error}); look at the outline"
        return Measures(volume_ml=volume_ml, why_not=" ".join(why_not.split())), None


def has_sides_of_picture(affine: Affine, *, domain: str, is_placed: bool) -> bool:
    """Whether the sides of a heart are those of the picture, for want of directions that can be the patient's.

    Example:
        Slices straight across the body are no short-axis slices as a patient's heart has them.

        >>> across = np.diag([-4.0, -4.0, 4.0, 1.0])
        >>> [has_sides_of_picture(across, domain=domain, is_placed=True) for domain in ("short_axis", "transaxial")]
        [True, False]
    """
    from mpi_unet.cardiac.axis import FEET, SMALLEST_REFERENCE_ANGLE_DEG

    along = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    is_across = abs(along @ np.array(FEET)) > np.cos(np.deg2rad(SMALLEST_REFERENCE_ANGLE_DEG))
    return not is_placed or (domain == "short_axis" and bool(is_across))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _on_surfaces(
    mask: Mask, image: Image, affine: Affine, volume_ml: float, *, domain: str, is_placed: bool
) -> tuple[Measures, Heart]:
    from mpi_unet.cardiac.axis import FEET, heart_axes
    from mpi_unet.cardiac.polar_map import normalized, polar_map
    from mpi_unet.cardiac.segments import segment_means
    from mpi_unet.cardiac.surfaces import heart_surfaces
    from mpi_unet.cardiac.volumes import ventricle_volumes
    from mpi_unet.cardiac.wall import segment_thickness_mm
    from mpi_unet.inference.hearts import Heart

    downward = affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    is_placed = not has_sides_of_picture(affine, domain=domain, is_placed=is_placed)
    inferior = (float(downward[0]), float(downward[1]), float(downward[2])) if not is_placed else FEET
    if domain == "transaxial" and not is_placed:
        inferior = FEET  # rows of a transaxial slice run to the back, never to the feet
    axes = heart_axes(mask, affine, inferior_reference=inferior)
    surfaces = heart_surfaces(mask, affine, axes)
    volumes = ventricle_volumes(surfaces)
    thickness = tuple(segment_thickness_mm(surfaces))
    known = [one for one in thickness if one is not None]
    uptake: tuple[float | None, ...] = ()
    polar, why_not = None, ""
    try:
        polar = polar_map(image, mask, affine, axes)
        uptake = segment_means(normalized(polar))
    except CardiacError as error:
        why_not = f"no polar map: {error}"
    measures = Measures(
        volume_ml=volume_ml,
        cavity_ml=volumes.cavity_ml,
        wall_ml=volumes.wall_ml,
        filled_ml=volumes.filled_ml,
        mass_g=volumes.mass_g,
        thickness_mm=float(np.mean(known)) if known else None,
        segment_thickness_mm=thickness,
        segment_uptake_pct=uptake,
        why_not=why_not,
    )
    return measures, Heart(surfaces.axes, polar)
