"""The polar map: the wall of the left ventricle laid flat, apex in the middle, base on the rim.

*Rings* run from the apex (ring 0) to the valve plane (the last ring), *pixels* around each ring by *wall angle*:
degrees around the long axis, 0 anterior, 90 lateral, 180 inferior, 270 septal; pixel ``k`` is centered at
``(k + 0.5) * 360 / num_angles``. Rings belong to four *zones* of equally many rings: cap, apical, middle, basal. The
last three are of equal height from the valve plane on; the cap is the last ``CAP_SHARE`` of the cavity's length and the
wall beyond it, as in the segments of the wall.

Rays look for the wall from the long axis outward: at right angles to it in the basal and middle third, from one point
of the axis, where the middle third ends, in the apical third and the cap. Where a ray meets no wall of the mask, as at
the membranous septum, the pixel is NaN: not measured, which is not the same as no uptake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import distance_transform_edt

from mpi_unet.cardiac.axis import CAP_SHARE, HeartAxes
from mpi_unet.cardiac.rays import EDGE, crossings_mm, sample
from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Affine, Image, Mask

__all__ = [
    "STATISTICS",
    "ZONES",
    "PolarMap",
    "change_map",
    "gated_polar_maps",
    "normalized",
    "polar_map",
    "sampling",
]

ZONES = ("cap", "apical", "middle", "basal")

STATISTICS = ("maximum", "mean")
"""What a ray reads from the wall: its hottest sample, which partial volume spares most, or the mean of all."""

STEP_MM = 1.0
"""Distance of samples along a ray; a sixth of a clinical pixel."""

REACH_MM = 90.0
"""Length of a ray: the wall of a severely dilated ventricle lies 60 mm from the long axis."""

THINNEST = 0.3
"""Share of wall that a ray must meet somewhere. A wall one voxel thick does not reach one half between its voxels; with
that bound a thin apex would be full of holes."""

MIN_LENGTH_MM = 20.0
"""A cavity shorter than this is none: the smallest ventricles of adults are over 50 mm long."""

Polar = Float[np.ndarray, "ring angle"]


@dataclass(frozen=True)
class PolarMap:
    """Uptake of the wall by ring and angle.

    Attributes:
        values: (ring, angle), NaN where no wall was met.
        area_mm2: Area of the middle of the wall that each pixel stands for, NaN likewise; what extents are weighted by.
        statistic: One of ``STATISTICS``.
        unit: ``counts`` as the image has them, ``percent of ...`` or ``percentage points``.
    """

    values: Polar
    area_mm2: Polar
    statistic: str
    unit: str = "counts"

    @property
    def rings_per_zone(self) -> int:
        """Rings of cap, of apical, middle and basal third each."""
        return self.values.shape[0] // len(ZONES)

    @property
    def angles_deg(self) -> Float[np.ndarray, " angle"]:
        """Wall angle of the middle of each pixel."""
        num_angles = self.values.shape[1]
        return (np.arange(num_angles) + 0.5) * 360 / num_angles

    @property
    def measured_pct(self) -> float:
        """Pixels that met the wall, percent of all."""
        return 100 * float(np.isfinite(self.values).mean())


# --- Sampling ---


def polar_map(
    image: Image,
    wall: Bool[np.ndarray, "wz wy wx"],
    affine_ras: Affine,
    axes: HeartAxes,
    *,
    statistic: str = "maximum",
    rings_per_zone: int = 5,
    num_angles: int = 72,
) -> PolarMap:
    """Sample the uptake of the wall along rays from the long axis.

    Args:
        image: Uptake (z, y, x), any orientation; only voxels of the wall and their neighbors are read.
        wall: Outline of the myocardium on the same grid.
        affine_ras: Voxel index (x, y, z) to mm in RAS.
        axes: Long axis, valve plane and both apices; only the height of the valve plane on the axis counts here.
        statistic: ``maximum`` (maximum-count circumferential sampling) or ``mean`` over the wall.
        rings_per_zone: Rings of each of the four zones.
        num_angles: Pixels around; a multiple of 24, so that borders of segments are borders of pixels.

    Returns:
        The map in counts of the image. A pixel is NaN where its ray meets no wall.

    Raises:
        CardiacError: The wall is empty, holds values that are not finite, or encloses no cavity.

    Source:
        Maximum-count sampling, cylindrical with a spherical apex: Garcia et al. 1985, J Nucl Med 26:17-26; Garcia et
        al. 1990, J Nucl Med 31:1254-1260. Thirds of the cavity's length and the cap beyond it: Cerqueira et al. 2002,
        Circulation 105:539-542. doi:10.1161/hc0402.102975
    """
    _check_request(image, wall, statistic, rings_per_zone, num_angles)
    length_mm, cap_mm = _cavity_mm(wall, affine_ras, axes)
    starts, directions, area_of = _rays(axes, length_mm, cap_mm, rings_per_zone, num_angles)
    distance_mm = np.arange(0.0, REACH_MM, STEP_MM)
    points = starts[:, :, None, :] + directions[:, :, None, :] * distance_mm[:, None]
    share = sample(wall.astype(float), affine_ras, points)
    most = share.max(axis=-1, keepdims=True)
    inside = (share >= EDGE * most) & (most >= THINNEST)
    uptake = sample(_filled_outside(image, wall).astype(float), affine_ras, points)
    met = inside.any(axis=-1)
    count = np.maximum(inside.sum(axis=-1), 1)
    if statistic == "maximum":
        read = np.where(inside, uptake, -np.inf).max(axis=-1)
    else:
        read = (inside * uptake).sum(axis=-1) / count
    middle_mm = (inside * distance_mm).sum(axis=-1) / count
    return PolarMap(
        values=np.where(met, read, np.nan).astype(np.float64),
        area_mm2=np.where(met, area_of(middle_mm), np.nan),
        statistic=statistic,
    )


def gated_polar_maps(
    images: Float32[np.ndarray, "gate z y x"],
    walls: Sequence[Mask],
    affine_ras: Affine,
    axes: Sequence[HeartAxes],
    *,
    statistic: str = "maximum",
    rings_per_zone: int = 5,
    num_angles: int = 72,
) -> tuple[PolarMap, ...]:
    """One polar map per gate, each within its own wall and along its own axis, so that pixels follow the muscle.

    Args:
        images: Counts of all gates.
        walls: Outline of the myocardium per gate.
        affine_ras: Voxel index (x, y, z) to mm in RAS.
        axes: Axes per gate.
        statistic: As :func:`polar_map`.
        rings_per_zone: As :func:`polar_map`.
        num_angles: As :func:`polar_map`.

    Raises:
        CardiacError: Images, walls and axes are not equally many, or as :func:`polar_map`; the gate is named.
    """
    if not len(images) == len(walls) == len(axes):
        raise CardiacError(
            f"There are {len(images)} gates, {len(walls)} outlines and {len(axes)} axes; expected one outline and one "
            "set of axes per gate, so segment every gate first"
        )
    maps = []
    for gate, (image, wall, own) in enumerate(zip(images, walls, axes, strict=True), start=1):
        try:
            made = polar_map(
                image, wall, affine_ras, own, statistic=statistic, rings_per_zone=rings_per_zone, num_angles=num_angles
            )
        except CardiacError as error:
            raise CardiacError(f"Gate {gate}: {error}") from error
        maps.append(made)
    return tuple(maps)


# --- What is done with a map ---


def normalized(polar: PolarMap, percentile: float = 100.0) -> PolarMap:
    """Uptake in percent of the patient's own maximum, or of a high percentile that noise moves less.

    Args:
        polar: A map in counts.
        percentile: 100 is the hottest pixel; below that the value that this share of the wall's area stays under.

    Returns:
        The map with the unit ``percent of maximum`` or ``percent of percentile 90``.

    Raises:
        CardiacError: The map is not in counts, nothing was measured, or the reference is not positive.

    Source:
        Normalization to the hottest region: Cerqueira et al. 2002 and the imaging guidelines of ASNC (Dorbala et al.
        2018, J Nucl Cardiol 25:1784-1846. doi:10.1007/s12350-018-1283-y). The percentile is ours.

    Example:
        >>> area = np.ones((4, 24))
        >>> normalized(PolarMap(np.full((4, 24), 30.0) + 10 * np.eye(4, 24), area, "maximum")).values[0, :2].tolist()
        [100.0, 75.0]
    """
    if polar.unit != "counts":
        raise CardiacError(f"The polar map is in {polar.unit}, expected counts; normalize a map once")
    if not 0 < percentile <= 100:
        raise CardiacError(f"percentile is {percentile}, expected more than 0 and at most 100; 100 is the maximum")
    known = np.isfinite(polar.values) & np.isfinite(polar.area_mm2)
    if not known.any():
        raise CardiacError("The polar map has no measured pixel, so there is nothing to normalize to; check the wall")
    values, area = polar.values[known], polar.area_mm2[known]
    order = np.argsort(values)
    share = np.cumsum(area[order]) / area.sum()
    at = min(int(np.searchsorted(share, percentile / 100)), len(order) - 1)
    reference = float(values.max() if percentile == 100 else values[order][at])
    if reference <= 0:
        raise CardiacError(
            f"The reference of the polar map is {reference:g} counts, expected more than 0; the wall lies where the "
            "image has no uptake"
        )
    unit = "percent of maximum" if percentile == 100 else f"percent of percentile {percentile:g}"
    return replace(polar, values=100 * polar.values / reference, unit=unit)


def change_map(stress: PolarMap, rest: PolarMap) -> PolarMap:
    """Rest minus stress in percentage points: positive where uptake recovers, as ischemic muscle does.

    Args:
        stress: Normalized map under stress.
        rest: Normalized map at rest, made the same way.

    Returns:
        The map, NaN where either is, with the area of the stress map.

    Raises:
        CardiacError: The maps are not normalized, or not made alike.

    Example:
        >>> area = np.ones((4, 24))
        >>> stress, rest = (PolarMap(np.full((4, 24), v), area, "maximum", "percent of maximum") for v in (60.0, 85.0))
        >>> float(change_map(stress, rest).values[0, 0])
        25.0
    """
    if stress.unit == "counts" or rest.unit == "counts":
        raise CardiacError(
            "Counts of two studies differ by dose and time and cannot be subtracted; normalize both maps first"
        )
    made = [(polar.statistic, polar.unit, polar.values.shape) for polar in (stress, rest)]
    if made[0] != made[1]:
        raise CardiacError(
            f"The stress map is {made[0]} and the rest map {made[1]} (statistic, unit, shape); expected the same, so "
            "make and normalize both maps with the same options"
        )
    return replace(stress, values=rest.values - stress.values, unit="percentage points")


def sampling(polar: PolarMap) -> str:
    """How a map was made, in one line: what two maps must share to be compared.

    Example:
        >>> sampling(PolarMap(np.zeros((4, 24)), np.ones((4, 24)), "mean"))
        'mean of the wall, 4 x 24 pixels, counts'
    """
    rings, angles = polar.values.shape
    return f"{polar.statistic} of the wall, {rings} x {angles} pixels, {polar.unit}"


# --- Private helpers ---


def _check_request(image: np.ndarray, wall: np.ndarray, statistic: str, rings_per_zone: int, num_angles: int) -> None:
    problems = []
    if image.shape != wall.shape:
        problems.append(f"the image is {image.shape} and the wall {wall.shape}, expected the same grid")
    elif not wall.any():
        problems.append("the wall is empty, expected an outline of the myocardium")
    elif not np.isfinite(image[wall]).all():
        problems.append("the image is not finite within the wall, expected counts")
    if statistic not in STATISTICS:
        problems.append(f"statistic is {statistic!r}, expected {' or '.join(STATISTICS)}")
    if rings_per_zone < 1:
        problems.append(f"rings_per_zone is {rings_per_zone}, expected at least 1")
    if num_angles < 24 or num_angles % 24:
        problems.append(f"num_angles is {num_angles}, expected a multiple of 24 so that segments end between pixels")
    if problems:
        raise CardiacError(f"No polar map can be made: {'; '.join(problems)}. Correct these and try again")


def _filled_outside(image: Image, wall: Mask) -> Image:
    """The image with the value of the nearest wall voxel outside the wall.

    Interpolation near the border of the wall would otherwise read the gut or the liver beside it.
    """
    nearest = distance_transform_edt(~wall, return_distances=False, return_indices=True)
    return image[tuple(nearest)]


def _cavity_mm(wall: Mask, affine_ras: Affine, axes: HeartAxes) -> tuple[float, float]:
    """Length of the cavity along the axis, and thickness of the wall beyond its apex.

    Where the outline has a hole at the very apex, as over a thin scar, the thickness is that of the wall around it.
    """
    if axes.cavity_apex_mm is not None:
        cap_mm = axes.apex_mm - axes.cavity_apex_mm
    else:
        cap_mm = _rim_of_hole_mm(wall, affine_ras, axes)
    length_mm = axes.length_mm - cap_mm
    if not (length_mm >= MIN_LENGTH_MM and cap_mm > 0):
        raise CardiacError(
            f"The cavity is {length_mm:.0f} mm long and the wall beyond it {cap_mm:.1f} mm thick, expected at least "
            f"{MIN_LENGTH_MM:.0f} mm and more than 0; the outline is nearly solid, open at its apex or has a wrong "
            "valve plane, so look at both ends of it"
        )
    return length_mm, cap_mm


def _rim_of_hole_mm(wall: Mask, affine_ras: Affine, axes: HeartAxes) -> float:
    """Median thickness of the wall 15 to 45 degrees off the apex; NaN where less than half of it is there."""
    tilt, turn = np.deg2rad(np.arange(15, 46, 5))[:, None], np.deg2rad(np.arange(0, 360, 15))[None, :]
    across = np.sin(tilt)
    directions = np.stack([across * np.sin(turn), -across * np.cos(turn), np.cos(tilt) + 0 * turn], axis=-1)
    start = np.array([0.0, 0.0, axes.apex_mm - 0.4 * axes.length_mm])
    points = axes.to_world(start + directions[..., None, :] * np.arange(0.0, REACH_MM, STEP_MM)[:, None])
    inner, outer = crossings_mm(sample(wall.astype(float), affine_ras, points), STEP_MM)
    thickness = outer - inner
    return float(np.nanmedian(thickness)) if np.isfinite(thickness).mean() >= 0.5 else np.nan


def _rays(
    axes: HeartAxes, length_mm: float, cap_mm: float, rings_per_zone: int, num_angles: int
) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Starts and directions (ring, angle, 3) of the rays, and the area of a pixel from its distance on the ray."""
    lateral, inferior, along = axes.frame
    base = axes.to_world(np.array([0.0, 0.0, axes.base_mm]))
    third = (1 - CAP_SHARE) * length_mm / 3
    share = (np.arange(rings_per_zone) + 0.5) / rings_per_zone
    border = np.arccos(
        third / (third + CAP_SHARE * length_mm + cap_mm / 2)
    )  # where the middle of the wall leaves the plane of the cap
    polar = np.concatenate(
        [border * share, border + (np.pi / 2 - border) * share, np.full(2 * rings_per_zone, np.pi / 2)]
    )
    height = np.concatenate([np.full(2 * rings_per_zone, 2 * third), (2 - share) * third, (1 - share) * third])
    step = np.repeat([border, np.pi / 2 - border], rings_per_zone) / rings_per_zone
    angle = np.deg2rad((np.arange(num_angles) + 0.5) * 360 / num_angles)
    outward = np.sin(angle)[:, None] * lateral - np.cos(angle)[:, None] * inferior
    directions = np.sin(polar)[:, None, None] * outward + np.cos(polar)[:, None, None] * along
    starts = np.broadcast_to(base + height[:, None, None] * along, directions.shape)
    width = 2 * np.pi / num_angles

    def area_of(distance_mm: np.ndarray) -> np.ndarray:
        spherical, cylindrical = distance_mm[: 2 * rings_per_zone], distance_mm[2 * rings_per_zone :]
        cells = step * np.sin(polar[: 2 * rings_per_zone]) * width
        return np.concatenate([spherical**2 * cells[:, None], cylindrical * width * third / rings_per_zone])

    return starts, directions, area_of
