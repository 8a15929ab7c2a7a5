"""Where the wall ends at its base: the rim, and the plane through it that stands for the mitral valve.

The rim of a mask is a staircase of voxels. Its height at a wall angle is therefore not read off the last voxel but from
the amount of wall beyond a closed ring: that amount, divided by the cross section of the wall, is how far the wall goes
on. A slanted rim is found to a fraction of a voxel in this way. A rim that runs along the slices of the volume is not:
every mask with its edge inside one slice looks the same, so its height is uncertain by up to half a slice.

The plane is the least-squares fit with every wall angle counting the same. Over a rim that dips on one side, as it does
at the membranous septum, it closes the same volume as the rim itself does, as long as the cavity is about round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpi_unet.cardiac.rays import EDGE, STEP_MM, finest_spacing_mm, sample_along
from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Affine

__all__ = ["ValvePlane", "fit_valve"]

NUM_ANGLES, HEIGHT_STEP_MM = 72, 1.0

SECTION_MM = 18.0
"""Height of the wall next to the rim that its cross section is averaged over; three slices or more."""

LONGEST_DIP = 0.6
"""The rim is looked for in this basal share of the ventricle."""

SMALLEST_SHARE_OF_ANGLES = 0.7

SECTION_HARMONICS = 2


@dataclass(frozen=True)
class ValvePlane:
    """The plane through the rim of the wall.

    Attributes:
        height_mm: Where it meets the long axis.
        slopes: Its rise per mm toward the lateral and toward the inferior wall.
        scatter_mm: Root mean square distance of the rim from it, along the axis.
        rim_mm: Height of the rim at ``NUM_ANGLES`` wall angles from 0; NaN where none was found.
    """

    height_mm: float
    slopes: tuple[float, float]
    scatter_mm: float
    rim_mm: Float[np.ndarray, " angles"]


def fit_valve(
    shares: Float[np.ndarray, "z y x"],
    affine_ras: Affine,
    origin_mm: Float[np.ndarray, "3"],
    frame: Float[np.ndarray, "3 3"],
    *,
    apex_mm: float,
) -> ValvePlane:
    """Fit the valve plane to the rim of a wall that is open at its base.

    Args:
        shares: Share of each voxel that is wall.
        affine_ras: Voxel index (x, y, z) to RAS.
        origin_mm: A point on the long axis, in RAS; heights count from it.
        frame: Unit vectors (lateral, inferior, apical) as rows.
        apex_mm: Height of the epicardial apex.

    Raises:
        CardiacError: The rim was found at too few wall angles.

    Source:
        A plane through the basal end of the wall closes the cavity: Germano et al. 1995, J Nucl Med 36:2138-2147.
    """
    heights, angle, section, radius = _sections(shares, affine_ras, origin_mm, frame, apex_mm)
    voxel_mm = finest_spacing_mm(affine_ras)
    whole = np.median(section[section > 0]) if (section > 0).any() else 0.0
    smooth = _moving_mean(section, max(1, round(voxel_mm / HEIGHT_STEP_MM)))
    lowest = heights[(section > 0.25 * whole).any(1)].min(initial=apex_mm)
    limit = lowest + LONGEST_DIP * (apex_mm - lowest)
    start = int(np.searchsorted(heights, limit))
    rim = np.full(NUM_ANGLES, np.nan)
    first = [-1] * NUM_ANGLES
    typical = np.zeros(NUM_ANGLES)
    plateaus = np.median(section[max(0, start - round(SECTION_MM)) : start + 1], axis=0)
    shortest = max(2, round(1.5 * voxel_mm / HEIGHT_STEP_MM))  # a gap in the wall is no rim: more wall follows below it
    for column in range(NUM_ANGLES):
        plateau = plateaus[column]
        solid = smooth[:start, column] >= EDGE * plateau
        runs = np.flatnonzero(np.convolve(solid, np.ones(shortest), mode="valid") >= shortest - 0.5)
        if plateau <= 0 or not runs.size or runs[0] == 0:
            continue
        # one voxel into the wall, where the staircase of the rim is left behind
        first[column] = min(int(runs[0]) + round(1.2 * voxel_mm / HEIGHT_STEP_MM), start)
        typical[column] = section[first[column] : first[column] + round(SECTION_MM / HEIGHT_STEP_MM), column].mean()
    found = (np.array(first) >= 0) & (typical > 0)
    if found.mean() < SMALLEST_SHARE_OF_ANGLES:
        raise CardiacError(
            f"wall: its basal rim was found at {100 * found.mean():.0f} % of the wall angles; expected "
            f"{100 * SMALLEST_SHARE_OF_ANGLES:.0f} % or more. The base may be cut off by the edge of the volume or the "
            "wall full of holes; check the outline"
        )
    expected = _harmonic_fit(angle, typical, found, SECTION_HARMONICS)
    depth = round(2 * voxel_mm / HEIGHT_STEP_MM)
    for column in np.flatnonzero(found).tolist():
        beyond = section[max(0, first[column] - 2 * depth) : first[column], column].sum() * HEIGHT_STEP_MM
        rim[column] = heights[first[column]] - HEIGHT_STEP_MM / 2 - beyond / expected[column]
    outline = _harmonic_fit(angle, radius, np.isfinite(radius), SECTION_HARMONICS)
    design = np.stack([np.ones(NUM_ANGLES), outline * np.sin(angle), -outline * np.cos(angle)], axis=-1)
    plane = np.linalg.lstsq(design[found], rim[found], rcond=None)[0]
    scatter = float(np.sqrt(np.mean((design[found] @ plane - rim[found]) ** 2)))
    return ValvePlane(float(plane[0]), (float(plane[1]), float(plane[2])), scatter, rim)


def _sections(
    shares: np.ndarray, affine_ras: np.ndarray, origin_mm: np.ndarray, frame: np.ndarray, apex_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cross section of the wall per radian in mm2, (height, angle), and the middle radius of the wall per angle."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    ends = (corners * (np.array(shares.shape[::-1]) - 1)) @ affine_ras[:3, :3].T + affine_ras[:3, 3]
    reach = float(np.linalg.norm(ends - origin_mm, axis=1).max())
    wall = np.argwhere(shares >= EDGE)[:, ::-1] @ affine_ras[:3, :3].T + affine_ras[:3, 3] - origin_mm
    across = np.hypot(wall @ frame[0], wall @ frame[1]).max() + 2 * np.linalg.norm(affine_ras[:3, :3], axis=0).max()
    low = max((wall @ frame[2]).min() - 2 * np.linalg.norm(affine_ras[:3, :3], axis=0).max(), -reach)
    heights = np.arange(low, apex_mm, HEIGHT_STEP_MM)
    angle = np.arange(NUM_ANGLES) * 2 * np.pi / NUM_ANGLES
    spokes = np.sin(angle)[:, None] * frame[0] - np.cos(angle)[:, None] * frame[1]
    distance = np.arange(0, across, STEP_MM)
    along = origin_mm + heights[:, None] * frame[2]
    values = sample_along(shares, affine_ras, along[:, None], spokes, distance)
    moment, weight = (values * distance).sum(-1), values.sum(-1)
    section = moment * STEP_MM
    radius = np.where(weight > 0, moment / np.where(weight > 0, weight, 1), np.nan)
    basal = slice(0, max(1, len(heights) // 2))
    seen = np.isfinite(radius[basal])
    middle = np.where(seen, radius[basal], 0).sum(0) / np.where(seen.any(0), seen.sum(0), np.nan)
    return heights, angle, section, middle


def _moving_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over ``width`` neighbors along the first axis."""
    kernel = np.ones(width) / width
    return np.apply_along_axis(lambda column: np.convolve(column, kernel, mode="same"), 0, values)


def _harmonic_fit(angle: np.ndarray, values: np.ndarray, known: np.ndarray, order: int) -> np.ndarray:
    """Smooth curve over the wall angle through the known values."""
    terms = [np.ones_like(angle)]
    for number in range(1, order + 1):
        terms += [np.cos(number * angle), np.sin(number * angle)]
    design = np.stack(terms, axis=-1)
    return design @ np.linalg.lstsq(design[known], values[known], rcond=None)[0]
