"""The torso around the heart: what takes up tracer there, and what attenuates.

Organs are superellipsoids painted one over the other, the later ones on top: fat and soft tissue, breasts, lungs
above two diaphragm domes, spine and sternum, then the organs of the belly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from mpi_unet.phantom.patient import BowelLoop, Patient

__all__ = [
    "BODY_EXPONENT",
    "BONE_MU_PER_MM",
    "BOWEL_CURVATURE_PER_MM",
    "BREAST_MU_PER_MM",
    "FAT_MU_PER_MM",
    "SOFT_TISSUE_MU_PER_MM",
    "TorsoMaps",
    "skin_distance_mm",
    "torso_maps",
]

SOFT_TISSUE_MU_PER_MM = 0.01535
"""Attenuation of soft tissue at 140 keV: water 0.1538 per cm (NIST XCOM)."""

FAT_MU_PER_MM = 0.01400
"""Adipose tissue of density 0.92 (ICRU 44)."""

BONE_MU_PER_MM = 0.02150
"""Spongy bone of the trunk, density about 1.4."""

BODY_EXPONENT = 2.4
"""The cross-section of a chest lies between an ellipse (2) and a rectangle."""

BREAST_MU_PER_MM = 0.0148

BOWEL_CURVATURE_PER_MM = 0.018
"""Bowel loops turn with a radius of about 55 mm."""


@dataclass(frozen=True)
class TorsoMaps:
    """Concentration relative to normal myocardium, and linear attenuation per mm; both (y, x, z) on the same grid."""

    activity: Float32[np.ndarray, "y x z"]
    attenuation_per_mm: Float32[np.ndarray, "y x z"]


def torso_maps(patient: Patient, x_mm: np.ndarray, y_mm: np.ndarray, z_mm: np.ndarray, step_mm: float) -> TorsoMaps:
    """Paint the torso without the heart.

    Args:
        patient: Whose torso.
        x_mm: Centers of the columns (to the left), mm.
        y_mm: Centers of the rows (to the back), mm.
        z_mm: Centers of the slices (to the head), mm.
        step_mm: Distance of columns; edges are graded over it.
    """
    x, y, z = (axis.astype(np.float32) for axis in (x_mm[None, :, None], y_mm[:, None, None], z_mm[None, None, :]))
    painter = _Painter(patient, x, y, z, step_mm)
    painter.paint_body()
    painter.paint_chest()
    painter.paint_belly()
    return TorsoMaps(painter.activity.astype(np.float32), painter.attenuation.astype(np.float32))


def skin_distance_mm(patient: Patient, angles_deg: np.ndarray) -> np.ndarray:
    """How far the skin reaches toward a camera at each view angle (0 anterior, 90 left lateral), mm from the axis."""
    angles = np.deg2rad(angles_deg)
    dual = BODY_EXPONENT / (BODY_EXPONENT - 1)
    body = patient.body
    across = np.abs(body.half_width_mm * np.sin(angles)) ** dual
    deep = np.abs(body.half_depth_mm * np.cos(angles)) ** dual
    return (across + deep) ** (1 / dual) + 0.6 * body.breast_mm * np.maximum(np.cos(angles), 0)


class _Painter:
    """Two maps and the brush that paints organs into them."""

    def __init__(self, patient: Patient, x: np.ndarray, y: np.ndarray, z: np.ndarray, step_mm: float) -> None:
        self.body, self.uptake = patient.body, patient.uptake
        self.x, self.y, self.z, self.step_mm = x, y, z, step_mm
        self.inner_width = self.body.half_width_mm - self.body.fat_mm
        self.inner_depth = self.body.half_depth_mm - self.body.fat_mm
        nothing = np.zeros((y.size, x.size, z.size), np.float32)
        self.activity, self.attenuation, self.inside = nothing, nothing.copy(), nothing.copy()

    def solid(
        self, center: tuple[float, float, float], half_axes: tuple[float, float, float], exponent: float = 2.0
    ) -> np.ndarray:
        """Occupancy of a superellipsoid."""
        level = np.zeros((1, 1, 1), np.float32)
        for axis, middle, half in zip((self.x, self.y, self.z), center, half_axes, strict=True):
            level = level + np.abs((axis - np.float32(middle)) / np.float32(half)) ** np.float32(exponent)
        return self.graded((1 - level ** np.float32(1 / exponent)) * np.float32(min(half_axes)))

    def graded(self, depth_mm: np.ndarray) -> np.ndarray:
        """Occupancy from the depth below a surface."""
        return np.clip(np.float32(0.5) + depth_mm / np.float32(self.step_mm), 0, 1)

    def cylinder(self, half_width: float, half_depth: float) -> np.ndarray:
        """Occupancy of the trunk's cross-section, the same in every slice."""
        level = np.abs(self.x / half_width) ** BODY_EXPONENT + np.abs(self.y / half_depth) ** BODY_EXPONENT
        return self.graded((1 - level ** (1 / BODY_EXPONENT)) * np.float32(half_depth))

    def cover(self, occupancy: np.ndarray, uptake: float, mu_per_mm: float) -> None:
        """Paint over what is there."""
        self.activity = self.activity + occupancy * (np.float32(uptake) - self.activity)
        self.attenuation = self.attenuation + occupancy * (np.float32(mu_per_mm) - self.attenuation)

    def paint_body(self) -> None:
        body, soft = self.body, self.uptake.soft_tissue
        trunk = self.cylinder(body.half_width_mm, body.half_depth_mm)
        self.cover(trunk, 0.35 * soft, FAT_MU_PER_MM)
        self.inside = self.cylinder(self.inner_width, self.inner_depth)
        self.cover(self.inside, soft, SOFT_TISSUE_MU_PER_MM)
        if body.breast_mm > 0:
            for side in (-1, 1):
                center = (side * 0.42 * body.half_width_mm, -0.93 * body.half_depth_mm, -8.0)
                breast = self.solid(center, (64.0, body.breast_mm + 14, 62.0)) * (1 - trunk)
                self.cover(breast, 0.4 * soft, BREAST_MU_PER_MM)

    def dome(self, center_x: float, top: float) -> np.ndarray:
        """Height of a diaphragm dome over the plane, mm."""
        return top - 48 * ((self.x - center_x) / 105) ** 2 - 40 * ((self.y - 5) / 105) ** 2

    def paint_chest(self) -> None:
        half_axes = (0.40 * self.inner_width, 0.80 * self.inner_depth, 165.0)
        lungs = np.zeros((1, 1, 1), np.float32)
        for side, top in ((-1, self.body.right_dome_mm), (1, self.body.left_dome_mm)):
            center_x = side * 0.5 * self.inner_width
            above = self.graded(self.z - self.dome(center_x, top))
            lungs = np.maximum(lungs, self.solid((center_x, 4.0, 40.0), half_axes, 2.5) * above)
        self.cover(lungs * self.inside, self.uptake.lung, self.body.lung_mu_per_mm)
        spine = self.graded(20 - np.hypot(self.x, self.y - np.float32(0.60 * self.inner_depth)))
        sternum = self.solid((0.0, -0.95 * self.inner_depth, 30.0), (18.0, 7.0, 90.0))
        self.cover(np.maximum(spine, sternum) * self.inside, 1.2 * self.uptake.soft_tissue, BONE_MU_PER_MM)

    def paint_belly(self) -> None:
        width, depth = self.inner_width, self.inner_depth
        right, left = self.body.right_dome_mm, self.body.left_dome_mm
        under_right = self.graded(self.dome(-0.5 * width, right) - 4 - self.z)
        under_left = self.graded(self.dome(0.35 * width, left + 4) - 5 - self.z)
        under = np.maximum(under_left, under_right * (self.x < 0))
        stomach = self.solid((0.46 * width, -0.05 * depth, left - 42), (0.30 * width, 0.45 * depth, 40.0))
        self.organ(stomach * under_left, self.uptake.stomach)
        spleen = self.solid((0.62 * width, 0.50 * depth, left - 45), (0.20 * width, 0.26 * depth, 45.0))
        self.organ(spleen, self.uptake.spleen)
        for side in (-1, 1):
            self.organ(self.solid((side * 0.36 * width, 0.52 * depth, -150.0), (28.0, 24.0, 55.0)), self.uptake.kidney)
        right_lobe = self.solid((-0.42 * width, -4.0, right - 62), (0.52 * width, 0.80 * depth, 78.0), 2.4)
        left_lobe = self.solid((0.02 * width, -0.30 * depth, left - 28), (0.40 * width, 0.38 * depth, 34.0))
        self.organ(np.maximum(right_lobe * under_right, left_lobe * under), self.uptake.liver)
        if self.uptake.gallbladder > 0:
            center = (-0.22 * width, -0.42 * depth, right - 118)
            self.organ(self.solid(center, (15.0, 18.0, 26.0)), self.uptake.gallbladder)
        for loop in self.uptake.bowel:
            self.organ(self.capsule(loop) * under, loop.uptake)

    def capsule(self, loop: BowelLoop) -> np.ndarray:
        """Occupancy of a bowel loop."""
        x, y, z = (axis - middle for axis, middle in zip((self.x, self.y, self.z), loop.center_mm, strict=True))
        cosine, sine = np.cos(np.deg2rad(loop.angle_deg)), np.sin(np.deg2rad(loop.angle_deg))
        along = x * cosine + z * sine
        beyond = np.maximum(np.abs(along) - loop.half_length_mm, 0)
        bend = BOWEL_CURVATURE_PER_MM * (1 if loop.angle_deg < 90 else -1)
        across = z * cosine - x * sine - np.float32(0.5 * bend) * along**2
        return self.graded(loop.radius_mm - np.sqrt(beyond**2 + y**2 + across**2))

    def organ(self, occupancy: np.ndarray, uptake: float) -> None:
        """Paint an organ of soft tissue, inside the trunk's muscles only."""
        self.cover(occupancy * self.inside, uptake, SOFT_TISSUE_MU_PER_MM)
