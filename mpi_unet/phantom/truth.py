"""What is really there: the outlines on the voxels of an image, and the volumes, thicknesses and defects behind them.

Outlines are averaged over the gates of the image, as the image is, and a voxel belongs to a structure when at least
half of it does. Volumes and thicknesses are integrals over the heart's surfaces and owe nothing to any grid. The base
of the cavity is the valve plane, papillary muscles count as cavity, both as clinical programs do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from mpi_unet.phantom.heart import Heart, HeartFields
from mpi_unet.phantom.reorientation import Grid
from mpi_unet.shapes import Mask

__all__ = [
    "CELL_MM",
    "DEFECT_LOSS",
    "LABELS",
    "SEGMENT_ANGLES_DEG",
    "LeftVentricleTruth",
    "left_ventricle_truth",
    "occupancy",
    "segment_of",
    "true_mask",
    "voxels_near",
]

LABELS = ("lv_wall", "lv_cavity", "lv_filled")

CELL_MM = 2.2
"""Cells that a voxel is divided into to find how much of it a structure fills."""

DEFECT_LOSS = 0.25
"""Lost share of uptake from which on the wall counts as defect."""

NUM_ANGLES, NUM_HEIGHTS = 120, 160
"""Points of the surface integrals; twice as many change a volume by less than 0.02 ml."""

SEGMENT_ANGLES_DEG = {
    "basal": (0, 300, 240, 180, 120, 60),
    "middle": (0, 300, 240, 180, 120, 60),
    "apical": (0, 270, 180, 90),
}
"""Centers of AHA segments 1-6, 7-12 and 13-16 as wall angles; 17 is the cap. Cerqueira et al., Circulation
2002;105:539."""


@dataclass(frozen=True)
class LeftVentricleTruth:
    """Exact figures of one left ventricle; per-segment tuples run from AHA segment 1 to 17."""

    cavity_ml: float
    wall_ml: float
    end_diastolic_ml: float
    end_systolic_ml: float
    ejection_fraction_pct: float
    wall_thickness_mm: float
    segment_thickness_mm: tuple[float, ...]
    defect_pct: float
    segment_defect_pct: tuple[float, ...]


def occupancy(field: np.ndarray, fields: HeartFields, heart_mm: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """Read a field of the heart at heart-frame points (..., 3); ``outside`` its grid."""
    index = (heart_mm - np.array(fields.origin_mm)) / fields.step_mm
    coordinates = np.moveaxis(index, -1, 0)
    return map_coordinates(field, coordinates, order=1, mode="constant", cval=outside, prefilter=False)


def voxels_near(heart: Heart, grid: Grid, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Voxels in a box around the left ventricle: flat indices (n,) and heart-frame positions (n, 3)."""
    points = heart.to_heart_frame(grid.points_mm().reshape(-1, 3))
    reach = heart.radius_limit_mm + margin_mm
    near = (np.abs(points[:, 0]) < reach) & (np.abs(points[:, 1]) < reach)
    near &= (points[:, 2] > -margin_mm) & (points[:, 2] < heart.full_length_mm + margin_mm)
    index = np.flatnonzero(near)
    return index, points[index]


def true_mask(heart: Heart, fields: HeartFields, grid: Grid, label: str) -> Mask:
    """Voxels of which the structure fills at least half.

    Args:
        heart: The heart.
        fields: Its fields, averaged over the gates of the image.
        grid: The voxels.
        label: One of ``LABELS``.
    """
    index, points = voxels_near(heart, grid, margin_mm=8.0)
    structure = {"lv_wall": fields.filled - fields.cavity, "lv_cavity": fields.cavity, "lv_filled": fields.filled}[
        label
    ]
    offsets = grid.sub_offsets_mm(CELL_MM) @ heart.axes.T
    share = np.zeros(len(index), np.float32)
    for offset in offsets:
        share += occupancy(structure, fields, points + offset)
    mask = np.zeros(int(np.prod(grid.shape)), bool)
    mask[index] = share >= 0.5 * len(offsets)
    return mask.reshape(grid.shape)


def left_ventricle_truth(heart: Heart, contractions: tuple[float, ...]) -> LeftVentricleTruth:
    """Integrate the surfaces of the heart.

    Args:
        heart: The heart.
        contractions: Contraction of every gate that the image shows; cavity and wall are averaged over them.
    """
    volumes = np.array([_volumes_ml(heart, contraction) for contraction in contractions]).mean(0)
    diastolic, systolic = _volumes_ml(heart, 0.0)[0], _volumes_ml(heart, 1.0)[0]
    thickness, extent, segments, area = _wall_maps(heart)
    return LeftVentricleTruth(
        cavity_ml=float(volumes[0]),
        wall_ml=float(volumes[1]),
        end_diastolic_ml=diastolic,
        end_systolic_ml=systolic,
        ejection_fraction_pct=100 * (1 - systolic / diastolic),
        wall_thickness_mm=float(np.average(thickness, weights=area)),
        segment_thickness_mm=_per_segment(thickness, segments, area),
        defect_pct=100 * float(np.average(extent, weights=area)),
        segment_defect_pct=tuple(100 * share for share in _per_segment(extent, segments, area)),
    )


def _directions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    angle = (np.arange(NUM_ANGLES) + 0.5) * 2 * np.pi / NUM_ANGLES
    return angle[:, None], np.cos(angle)[:, None], np.sin(angle)[:, None]


def _radii_mm(heart: Heart, contraction: float, apical_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Endocardial and epicardial distance from the axis, (angle, height); zero beyond the apex."""
    angle, cosine, sine = _directions()
    roundness, thickness = heart.circumference(cosine, sine)
    _, scar = heart.lost_uptake(angle, apical_mm)
    thickness = thickness * (1 - 0.6 * np.maximum(scar - 0.5, 0))
    endo_radius, endo_half, epi_radius, epi_half = heart.half_axes_mm(contraction * (1 - 0.8 * scar), thickness)
    height = apical_mm - (heart.length_mm - endo_half)
    endo = endo_radius * np.sqrt(np.maximum(1 - (height / endo_half) ** 2, 0))
    epi = epi_radius * np.sqrt(np.maximum(1 - (height / epi_half) ** 2, 0))
    return endo * roundness, epi * roundness


def _volumes_ml(heart: Heart, contraction: float) -> tuple[float, float]:
    """Cavity and wall, ml."""
    _, cosine, sine = _directions()
    base = heart.base_mm(contraction, cosine, sine)
    span = heart.full_length_mm + 5.0 - base
    fraction = (np.arange(NUM_HEIGHTS) + 0.5) / NUM_HEIGHTS
    endo, epi = _radii_mm(heart, contraction, base + span * fraction[None, :])
    cell = 0.5 * (2 * np.pi / NUM_ANGLES) * span / NUM_HEIGHTS / 1000
    cavity = float((endo**2 * cell).sum())
    return cavity, float((epi**2 * cell).sum()) - cavity


def _wall_maps(heart: Heart) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """At end diastole, per point of the endocardium: thickness mm, 1 in a defect, AHA segment, area weight."""
    angle, cosine, sine = _directions()
    base = heart.base_mm(0.0, cosine, sine)
    level = np.sin((np.arange(60) + 0.5) / 60 * np.pi / 2)[None, :]  # finer toward the apex
    inner_mm = base + (heart.length_mm - 0.01 - base) * level
    outer_mm = base + (heart.full_length_mm - 0.01 - base) * np.sin(np.linspace(0, np.pi / 2, 120))[None, :]
    inner_radius, _ = _radii_mm(heart, 0.0, inner_mm)
    _, outer_radius = _radii_mm(heart, 0.0, outer_mm)
    inner = np.stack([inner_radius * sine, -inner_radius * cosine, inner_mm], -1)
    outer = np.stack([outer_radius * sine, -outer_radius * cosine, outer_mm], -1)
    thickness = cKDTree(outer.reshape(-1, 3)).query(inner.reshape(-1, 3))[0].reshape(inner_mm.shape)
    lost, _ = heart.lost_uptake(angle, inner_mm)
    step = np.hypot(np.gradient(inner_radius, axis=1), np.gradient(inner_mm, axis=1))
    area = np.maximum(inner_radius, 0.5) * step
    return thickness, (lost >= DEFECT_LOSS).astype(float), segment_of(heart, angle, inner_mm), area


def segment_of(heart: Heart, angle_rad: np.ndarray, apical_mm: np.ndarray) -> np.ndarray:
    """AHA segment (1 to 17) of wall points: three rings of equal height over the cavity, then the cap.

    The cap begins where the cavity's last 6 % begin, so that it has an inner surface.
    """
    degrees = np.rad2deg(angle_rad) % 360
    level = apical_mm / (0.94 * heart.length_mm)
    six = (np.round((360 - degrees) / 60).astype(int) % 6) + 1
    four = (np.round((360 - degrees) / 90).astype(int) % 4) + 13
    shape = np.broadcast(six, level).shape
    ring = np.broadcast_to(np.clip((level * 3).astype(int), 0, 3), shape)
    return np.select([ring == 0, ring == 1, ring == 2], [np.broadcast_to(six, shape), six + 6, four], 17)


def _per_segment(values: np.ndarray, segments: np.ndarray, area: np.ndarray) -> tuple[float, ...]:
    inside = [segments == segment for segment in range(1, 18)]
    return tuple(float(np.average(values[where], weights=area[where])) if where.any() else 0.0 for where in inside)
