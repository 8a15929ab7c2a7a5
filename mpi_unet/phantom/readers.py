"""Simulated readers, who outline the true ventricle as people do: each with habits, none quite the same twice.

A reader draws the outer and the inner border a little too wide or too narrow (habit), more so in some patients
(drift), with smooth wanderings along the wall, and puts the valve plane where it seems to be. Once in a while a
reader goes badly wrong. The second read of a reader ("A2" after "A") keeps the habits and half of the variance of the
first: one remembers how one looks at hearts, not where the mouse went. The sizes are calibrated to the inter-reader
Dice in docs/phantom.md. None of this is data about human readers: whatever carries these outlines has to say
"simulated readers".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt

from mpi_unet.errors import CohortError, nearest
from mpi_unet.phantom.camera import Camera
from mpi_unet.phantom.heart import Heart, HeartFields
from mpi_unet.phantom.outline import directions
from mpi_unet.phantom.patient import STUDIES
from mpi_unet.phantom.random_streams import Stream
from mpi_unet.phantom.reorientation import Grid
from mpi_unet.phantom.truth import CELL_MM, occupancy, voxels_near
from mpi_unet.shapes import Mask

__all__ = [
    "CORRELATION_MM",
    "GROSS_ERROR_PROBABILITY",
    "MEMORY",
    "NUM_WAVES",
    "PROJECTION_SCALE",
    "STYLES",
    "VIEW_STEP_MM",
    "Depths",
    "Read",
    "Style",
    "reader_mask",
    "reader_support_mm",
    "sample_read",
    "split_reader",
    "surface_depths",
]

MEMORY = 0.5
"""Share of the variance that two reads of one reader have in common."""

GROSS_ERROR_PROBABILITY = 0.03
"""Chance that a read goes badly wrong: the valve plane far off, or the outline drawn into gut or liver."""

CORRELATION_MM = 22.0
"""Distance over which a border wanders; a reader sets control points about this far apart."""

VIEW_STEP_MM = 12.0
"""How far apart two neighboring views count: a wandering outline persists over about two views."""

NUM_WAVES = 32
"""Cosine waves that a smooth random field is made of."""


@dataclass(frozen=True)
class Style:
    """Habits and scatter of one reader, in mm; positive borders lie farther out, a positive base takes in more.

    ``epi``, ``endo`` and ``base`` are habits; the ``_sd`` are standard deviations: per case (``drift``), along the
    wall of both borders together (``shift``) and of each alone (``border``), of the valve plane and of the apex per
    case.
    """

    epi_mm: float = 0.0
    endo_mm: float = 0.0
    base_mm: float = 0.0
    drift_sd_mm: float = 0.22
    shift_sd_mm: float = 0.29
    border_sd_mm: float = 0.21
    base_sd_mm: float = 2.4
    apex_sd_mm: float = 1.6


STYLES = {
    "A": Style(),
    "B": Style(epi_mm=0.20, endo_mm=-0.15, base_mm=1.2),  # draws thick walls, far into the base
    "C": Style(epi_mm=-0.20, endo_mm=0.10, base_mm=-1.2),  # draws thin walls, stops early
    "D": Style(epi_mm=0.15, endo_mm=0.20, base_mm=-0.6, shift_sd_mm=0.22, border_sd_mm=0.16),  # wide, steady hand
    "E": Style(epi_mm=-0.10, endo_mm=-0.10, base_mm=0.8, drift_sd_mm=0.30, shift_sd_mm=0.36),  # small, in a hurry
}

PROJECTION_SCALE = 1.85
"""How much more than in a slice an outline strays in a view, where the heart has no clear edge."""


@dataclass(frozen=True)
class Read:
    """Everything that one reader does to one case: systematic errors and smooth fields."""

    style: Style
    epi_drift_mm: float
    endo_drift_mm: float
    base_mm: float
    apex_mm: float
    stray_mm: tuple[float, float, float]
    waves: Float[np.ndarray, "field wave 4"]

    def field_mm(self, number: int, points: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, " *any"]:
        """Smooth random field of unit standard deviation at points given in mm."""
        waves = self.waves[number]
        phase = points @ waves[:, :3].T + waves[:, 3]
        return np.sqrt(2 / NUM_WAVES) * np.cos(phase).sum(-1)


def split_reader(reader: str) -> tuple[str, int]:
    """Style and number of the read.

    Raises:
        CohortError: No reader has this name.

    Example:
        >>> split_reader("A"), split_reader("B2")
        (('A', 1), ('B', 2))
    """
    match = re.fullmatch(r"([A-Z]+)(\d*)", reader)
    if match is None or match[1] not in STYLES or match[2] in ("0", "1"):
        raise CohortError(
            f"readers: {reader!r} is no simulated reader{nearest(reader, STYLES)}; expected 'truth', "
            f"{', '.join(STYLES)}, or one of these with the number of a repeat read, as in 'A2'"
        )
    return match[1], int(match[2] or 1)


def sample_read(heart: Heart, reader: str, gate: int = 0) -> Read:
    """Draw what ``reader`` does to this heart.

    The wanderings of two reads share their waves' directions but not all of their phases, so that the share
    ``MEMORY`` of the variance is common to them.
    """
    name, repeat = split_reader(reader)
    style = STYLES[name]
    patient = heart.patient
    case = 1 + 2 * gate + STUDIES.index(patient.study)
    number = 1 + list(STYLES).index(name)
    kept = Stream(patient.seed, patient.index, "reader", number, 0, case)
    fresh = Stream(patient.seed, patient.index, "reader", number, repeat, case)

    def both(shape: tuple[int, ...]) -> np.ndarray:
        return np.sqrt(MEMORY) * kept.normals(shape) + np.sqrt(1 - MEMORY) * fresh.normals(shape)

    drift = both((4,))
    stray = np.zeros(3)
    base_error = 0.0
    if fresh.chance(GROSS_ERROR_PROBABILITY):
        if fresh.chance(0.5):
            base_error = fresh.choice((-1.0, 1.0), (0.5, 0.5)) * fresh.uniform(9, 15)
        else:
            stray = np.array([0.0, fresh.uniform(5, 9), 0.0])  # toward the inferior wall, where gut and liver lie
    return Read(
        style=style,
        epi_drift_mm=style.epi_mm + style.drift_sd_mm * drift[0],
        endo_drift_mm=style.endo_mm + style.drift_sd_mm * drift[1],
        base_mm=style.base_mm + style.base_sd_mm * drift[2] + base_error,
        apex_mm=style.apex_sd_mm * drift[3],
        stray_mm=(float(stray[0]), float(stray[1]), float(stray[2])),
        waves=_waves(kept, fresh),
    )


def _waves(kept: Stream, fresh: Stream) -> Float[np.ndarray, "field wave 4"]:
    """Wave vectors per mm and phases of three fields; a share ``MEMORY`` of the waves comes from the kept stream."""
    waves = []
    for stream, count in ((kept, round(NUM_WAVES * MEMORY)), (fresh, NUM_WAVES - round(NUM_WAVES * MEMORY))):
        vectors = stream.normals((3, count, 3)) / CORRELATION_MM
        phases = 2 * np.pi * stream.uniforms((3, count, 1))
        waves.append(np.concatenate([vectors, phases], axis=-1))
    return np.concatenate(waves, axis=1)


@dataclass(frozen=True)
class Depths:
    """Depth below the outer surface and inside the cavity, on the grid of the heart's fields; negative outside."""

    fields: HeartFields
    filled_mm: np.ndarray
    cavity_mm: np.ndarray


def surface_depths(fields: HeartFields) -> Depths:
    """Distances from the two surfaces where occupancy is one half."""
    return Depths(fields, _depth_mm(fields.filled, fields.step_mm), _depth_mm(fields.cavity, fields.step_mm))


def _depth_mm(occupied: np.ndarray, step_mm: float) -> np.ndarray:
    inside = occupied >= 0.5
    depth = distance_transform_edt(inside, sampling=step_mm) - distance_transform_edt(~inside, sampling=step_mm)
    depth -= np.sign(depth) * step_mm / 2
    graded = (occupied - 0.5) * 2 * step_mm  # within a cell of the surface occupancy says more than counted cells
    return np.where(np.abs(depth) <= step_mm, 0.5 * (depth + graded), depth).astype(np.float32)


def reader_mask(heart: Heart, depths: Depths, grid: Grid, label: str, read: Read) -> Mask:
    """One reader's outline on the voxels of an image.

    Args:
        heart: The heart.
        depths: Depths below its surfaces, averaged over the gates of the image.
        grid: The voxels.
        label: ``lv_wall``, ``lv_cavity`` or ``lv_filled``.
        read: What the reader does.
    """
    index, points = voxels_near(heart, grid, margin_mm=18.0)
    style = read.style
    shift = style.shift_sd_mm * read.field_mm(0, points)
    epi_mm = (read.epi_drift_mm + shift + style.border_sd_mm * read.field_mm(1, points)).astype(np.float32)
    endo_mm = (read.endo_drift_mm + shift + style.border_sd_mm * read.field_mm(2, points)).astype(np.float32)
    moved = points - np.array(read.stray_mm)
    basal = np.clip(1 - points[:, 2] / (0.5 * heart.length_mm), 0, 1)
    apical = np.clip((points[:, 2] - 0.6 * heart.length_mm) / (0.4 * heart.length_mm), 0, 1)
    moved[:, 2] += read.base_mm * basal - read.apex_mm * apical
    offsets = grid.sub_offsets_mm(CELL_MM) @ heart.axes.T
    offsets = np.unique(np.round(offsets * np.array([0.0, 0.0, 1.0]), 3), axis=0)[:: max(1, len(offsets) // 4)]
    share = np.zeros(len(index), np.float32)
    for offset in offsets:
        filled = occupancy(depths.filled_mm, depths.fields, moved + offset, -9.0) + epi_mm
        cavity = occupancy(depths.cavity_mm, depths.fields, moved + offset, -9.0) + endo_mm
        depth = {"lv_wall": np.minimum(filled, -cavity), "lv_cavity": np.minimum(cavity, filled), "lv_filled": filled}[
            label
        ]
        share += np.clip(0.5 + depth / np.float32(grid.spacing_mm[2]), 0, 1)
    mask = np.zeros(int(np.prod(grid.shape)), bool)
    mask[index] = share >= 0.5 * len(offsets)
    return mask.reshape(grid.shape)


def reader_support_mm(
    heart: Heart, support: Float[np.ndarray, "view direction"], camera: Camera, read: Read
) -> Float[np.ndarray, "view direction"]:
    """One reader's outlines in the camera's views, from the true ones (see ``outline``)."""
    plane = directions()
    angles = np.deg2rad(camera.view_angles_deg)
    right = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=-1)
    up = np.broadcast_to([0.0, 0.0, 1.0], right.shape)
    into_view = np.stack([right, up], axis=1)  # view, (u, head), world
    places = np.concatenate(
        [
            (support[..., None] * plane[None]),
            np.broadcast_to(VIEW_STEP_MM * np.arange(len(angles))[:, None, None], (*support.shape, 1)),
        ],
        axis=-1,
    )
    style = read.style
    wander = style.shift_sd_mm * read.field_mm(0, places) + style.border_sd_mm * read.field_mm(1, places)
    toward_base = (into_view @ -heart.axes[2]) @ plane.T  # view, direction: 1 where the base points
    toward_inferior = (into_view @ heart.axes[1]) @ plane.T
    valve = read.base_mm * np.clip(toward_base, 0, 1) ** 2 + read.apex_mm * np.clip(-toward_base, 0, 1) ** 2
    return support + PROJECTION_SCALE * (read.epi_drift_mm + wander + valve) + read.stray_mm[1] * toward_inferior
