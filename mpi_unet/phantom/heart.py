"""The heart: a left ventricle with its defects, a right ventricle, blood, and how they contract.

The left ventricle lies between two half-open ellipsoids around the long axis; its base is cut by a plane that dips on
the septal side, where the membranous septum takes up no tracer. Shape and thickness vary smoothly around the
circumference, the axis bends a little, papillary muscles stand in the cavity. Contraction draws the base toward the
apex and narrows the cavity; the volume of the wall stays, so the wall thickens. Scars contract less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator

from mpi_unet.phantom.patient import Patient

__all__ = ["LONG_AXIS_SHORTENING", "STEP_MM", "Heart", "HeartFields", "contraction_of_gate"]

STEP_MM = 2.0
"""Grid of the heart fields; a wall of 8 mm spans four steps, and occupancy is graded within a step."""

LONG_AXIS_SHORTENING = 0.13
"""Share of its length that the ventricle loses in systole; the base descends 10-15 mm."""

_PHASES = (0.0, 0.06, 0.20, 0.34, 0.40, 0.54, 0.70, 0.84, 0.93, 1.0)
_CONTRACTION = (0.0, 0.02, 0.60, 0.99, 0.97, 0.40, 0.22, 0.17, 0.03, 0.0)
_CONTRACTION_CURVE = PchipInterpolator(_PHASES, _CONTRACTION)


def contraction_of_gate(gate: int, num_gates: int) -> float:
    """Contraction in the middle of a gate of the cardiac cycle, which starts at the R wave.

    Systole fills a little more than a third of the cycle; early filling, diastasis and the atrial kick follow.

    Example:
        >>> [round(contraction_of_gate(gate, 8), 2) for gate in range(8)]
        [0.02, 0.55, 0.97, 0.87, 0.36, 0.23, 0.18, 0.03]
    """
    return float(_CONTRACTION_CURVE((gate + 0.5) / num_gates))


@dataclass(frozen=True)
class HeartFields:
    """What fills each cell of the heart frame, averaged over the gates asked for.

    Arrays are float32 (lateral, inferior, apical) with ``step_mm`` between cells, the first cell at ``origin_mm``.
    ``filled`` is wall and cavity together, ``activity`` the concentration of the left ventricle.
    """

    origin_mm: tuple[float, float, float]
    step_mm: float
    filled: np.ndarray
    cavity: np.ndarray
    right_wall: np.ndarray
    blood: np.ndarray
    activity: np.ndarray


class Heart:
    """The heart of one patient: its frame in the world, its surfaces and its uptake."""

    def __init__(self, patient: Patient) -> None:
        self.patient = patient
        self.shape = patient.heart
        self.length_mm = self.shape.endo_half_length_mm * (1 + self.shape.base_fraction)
        self.apex_wall_mm = self.shape.wall_mm * self.shape.apex_ratio
        self.full_length_mm = self.length_mm + self.apex_wall_mm
        wall = self.shape.wall_mm
        self._outer_half_length_mm = self.shape.endo_half_length_mm + self.apex_wall_mm
        self.radius_limit_mm = 1.12 * (self.shape.endo_radius_mm + 1.15 * wall) + abs(self.shape.bend_mm)

    @cached_property
    def axes(self) -> np.ndarray:
        """Unit vectors of the heart frame as rows (lateral, inferior, apical) in the world."""
        azimuth, elevation, roll = np.deg2rad([self.shape.azimuth_deg, self.shape.elevation_deg, self.shape.roll_deg])
        apical = np.array(
            [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), -np.sin(elevation)]
        )
        inferior = -np.array([0.0, 0.0, 1.0])
        inferior -= apical * (apical @ inferior)
        inferior /= np.linalg.norm(inferior)
        lateral = np.cross(apical, inferior)
        turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        lateral, inferior = turn @ np.stack([lateral, inferior])
        return np.stack([lateral, inferior, apical])

    @cached_property
    def base_center_mm(self) -> np.ndarray:
        """Where the long axis meets the end-diastolic base plane, in the world."""
        return np.array(self.shape.center_mm) - self.axes[2] * 0.45 * self.length_mm

    def to_heart_frame(self, world_mm: np.ndarray) -> np.ndarray:
        """World points (..., 3) in the heart frame (lateral, inferior, apical)."""
        return (world_mm - self.base_center_mm) @ self.axes.T

    def to_world(self, heart_mm: np.ndarray) -> np.ndarray:
        """Heart-frame points (..., 3) in the world."""
        return heart_mm @ self.axes + self.base_center_mm

    # --- Perfusion ---

    def lost_uptake(self, angle_rad: np.ndarray, apical_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share of uptake lost to defects, and the share lost to scar, both 0 to 1, float32.

        Defects are drawn on the polar map (apex in the middle, base on the rim), where they stay smooth across the
        apex.
        """
        radius = np.clip(1 - apical_mm / self.full_length_mm, 0, 1).astype(np.float32)
        lost = np.zeros(np.broadcast(angle_rad, apical_mm).shape, np.float32)
        scar = np.zeros_like(lost)
        for defect in self.patient.defects:
            turned = angle_rad - np.float32(np.deg2rad(defect.angle_deg))
            middle = 1 - defect.level
            along = (radius * np.cos(turned) - np.float32(middle)) / np.float32(1.15 * defect.half_length)
            half_width = 1.15 * np.deg2rad(defect.half_angle_deg) * max(middle, 0.35)
            across = radius * np.sin(turned) / np.float32(half_width)
            share = np.float32(defect.severity) * np.exp(-(along**4) - across**4)
            lost = 1 - (1 - lost) * (1 - share)
            scar = np.maximum(scar, share * np.float32(defect.scar))
        return lost, scar

    def normal_uptake(self, cosine: np.ndarray, sine: np.ndarray, apical_mm: np.ndarray) -> np.ndarray:
        """Uptake of the wall without any defect: about 1, a little uneven, lower toward the base."""
        level = (apical_mm / self.length_mm).astype(np.float32)
        pattern = [np.float32(value) for value in self.patient.uptake.uneven_pattern]
        swing = level * 2 - 1
        uneven = pattern[0] * cosine + pattern[1] * sine + pattern[2] * swing
        uneven = uneven + (pattern[3] * cosine + pattern[4] * sine) * swing + pattern[5] * (2 * cosine * cosine - 1)
        basal_loss = np.float32(0.22) * np.clip(1 - level / np.float32(0.22), 0, 1)
        return (1 + np.float32(self.patient.uptake.unevenness / 2.4) * uneven) * (1 - basal_loss)

    # --- Surfaces ---

    def half_axes_mm(self, contraction: float | np.ndarray, thickness: float | np.ndarray) -> tuple:
        """Half axes (endo radius, endo half length, epi radius, epi half length) at a contraction.

        Args:
            contraction: 0 to 1; an array where scars contract less.
            thickness: Relative wall thickness around the circumference, about 1.
        """
        wall = self.shape.wall_mm * thickness
        radius, half_length = self.shape.endo_radius_mm, self.shape.endo_half_length_mm
        kept = (1 - self.shape.ejection_fraction) / (1 - LONG_AXIS_SHORTENING)
        radial_shortening = 1 - np.sqrt(max(kept, 0.05))
        wall_volume = (radius + wall) ** 2 * self._outer_half_length_mm - radius**2 * half_length
        endo_radius = radius * (1 - radial_shortening * contraction)
        endo_half = half_length * (1 - LONG_AXIS_SHORTENING * contraction)
        epi_half = endo_half + self.apex_wall_mm * (1 + 0.25 * contraction)
        epi_radius = np.sqrt((wall_volume + endo_radius**2 * endo_half) / epi_half)
        return endo_radius, endo_half, epi_radius, epi_half

    def circumference(self, cosine: np.ndarray, sine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Relative radius and relative wall thickness at a wall angle given by its cosine and sine."""
        first, second, third, fourth = self.shape.outline_harmonics
        cosine2, sine2 = cosine * cosine - sine * sine, 2 * sine * cosine
        cosine3, sine3 = cosine * cosine2 - sine * sine2, sine * cosine2 + cosine * sine2
        radius = 1 + first * cosine2 + second * sine2 + third * cosine3 + fourth * sine3
        thickness = 1 + self.shape.wall_harmonics[0] * cosine + (self.shape.wall_harmonics[1] - 0.04) * sine
        return radius.astype(cosine.dtype), thickness.astype(cosine.dtype)

    def base_mm(self, contraction: float, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
        """Where the wall begins along the long axis: it descends in systole and lies deeper on the septal side."""
        toward_septum = np.cos(np.deg2rad(285.0)) * cosine + np.sin(np.deg2rad(285.0)) * sine
        dip = self.shape.septal_shortening_mm * np.clip(toward_septum, 0, 1) ** 1.5
        return (0.9 * LONG_AXIS_SHORTENING * contraction * self.length_mm + dip).astype(cosine.dtype)

    # --- Fields ---

    def fields(self, contractions: tuple[float, ...], step_mm: float = STEP_MM) -> HeartFields:
        """Occupancy and activity on a grid in the heart frame, averaged over the contractions."""
        reach = self.radius_limit_mm + 4
        origin = (-max(reach, 72.0), -max(reach, 46.0), -46.0)
        ends = (reach, max(reach, 46.0), self.full_length_mm + 10)
        lateral, inferior, apical = np.meshgrid(
            *[np.arange(low, high, step_mm, dtype=np.float32) for low, high in zip(origin, ends, strict=True)],
            indexing="ij",
            sparse=True,
        )
        bend = np.float32(self.shape.bend_mm) * ((apical / np.float32(self.length_mm)) ** 2 - np.float32(0.3))
        across = lateral - bend
        distance = np.hypot(across, inferior) + np.float32(1e-3)
        cosine, sine = -inferior / distance, across / distance
        roundness, thickness = self.circumference(cosine, sine)
        round_distance = distance / roundness
        if self.patient.defects:
            lost, scar = self.lost_uptake(np.arctan2(sine, cosine), apical)
            thickness = thickness * (1 - np.float32(0.6) * np.maximum(scar - np.float32(0.5), 0))
        else:
            lost = scar = np.zeros((1, 1, 1), np.float32)
        uptake = self.normal_uptake(cosine, sine, apical) * (1 - lost)
        names = ("filled", "cavity", "right_wall", "blood", "activity")
        total = {name: np.zeros(distance.shape, np.float32) for name in names}
        for contraction in contractions:
            local = np.float32(contraction) * (1 - np.float32(0.8) * scar)
            endo_radius, endo_half, epi_radius, epi_half = self.half_axes_mm(local, thickness)
            height = apical - (np.float32(self.length_mm) - endo_half)  # the endocardial apex stays where it is
            inside_endo = _occupancy(_ellipsoid_depth_mm(round_distance, height, endo_radius, endo_half), step_mm)
            inside_epi = _occupancy(_ellipsoid_depth_mm(round_distance, height, epi_radius, epi_half), step_mm)
            base = self.base_mm(contraction, cosine, sine)
            below_base = _occupancy(apical - base, step_mm)
            filled, cavity = inside_epi * below_base, inside_endo * below_base
            papillary = self._papillary(across, inferior, apical, endo_radius, step_mm)
            blood_uptake = np.float32(self.patient.uptake.blood)
            total["filled"] += filled
            total["cavity"] += cavity
            total["activity"] += (filled - cavity) * uptake
            total["activity"] += cavity * (blood_uptake * (1 - papillary) + papillary * uptake)
            right_wall, right_blood = self._right_ventricle(lateral, inferior, apical, contraction, step_mm)
            outside = (1 - inside_epi) * _occupancy(apical - np.float32(self._descent_mm(contraction) - 2), step_mm)
            atria = _atria_occupancy(lateral, inferior, apical, step_mm) * _occupancy(base - 2 - apical, step_mm)
            total["right_wall"] += right_wall * outside
            total["blood"] += np.minimum(right_blood * outside + atria, 1)
        share = np.float32(1 / len(contractions))
        return HeartFields(origin, step_mm, **{name: field * share for name, field in total.items()})

    def _descent_mm(self, contraction: float) -> float:
        return 0.9 * LONG_AXIS_SHORTENING * contraction * self.length_mm

    def _papillary(
        self,
        across: np.ndarray,
        inferior: np.ndarray,
        apical: np.ndarray,
        endo_radius: np.ndarray | float,
        step_mm: float,
    ) -> np.ndarray:
        """Occupancy of the two papillary muscles, rods beside the inferolateral and inferoseptal wall."""
        rods = np.zeros((1, 1, 1), np.float32)
        for angle in np.deg2rad([125.0, 215.0]):
            to_side = across - np.float32(0.72 * np.sin(angle)) * endo_radius
            to_front = inferior + np.float32(0.72 * np.cos(angle)) * endo_radius
            rods = np.maximum(rods, _occupancy(np.float32(4.2) - np.hypot(to_side, to_front), step_mm))
        ends = np.minimum(apical - np.float32(0.42 * self.length_mm), np.float32(0.80 * self.length_mm) - apical)
        return rods * _occupancy(ends, step_mm) * np.float32(self.shape.papillary_strength)

    def _right_ventricle(
        self, lateral: np.ndarray, inferior: np.ndarray, apical: np.ndarray, contraction: float, step_mm: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Occupancy of the right ventricular wall and of its blood, before the left ventricle is cut out."""
        size = 1 - 0.12 * contraction
        half_mm = (26.0 * size, 36.0 * size, 0.62 * self.length_mm)

        def inside(extra_mm: float) -> np.ndarray:
            scaled = [
                (axis - np.float32(middle)) / np.float32(half + extra_mm)
                for axis, middle, half in zip(
                    (lateral, inferior, apical),
                    (-self.shape.rv_offset_mm, 3.0, 0.30 * self.length_mm),
                    half_mm,
                    strict=True,
                )
            ]
            level = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
            return _occupancy((1 - level) * np.float32(half_mm[0]), step_mm)

        blood = inside(0.0)
        return np.maximum(inside(self.shape.rv_wall_mm) - blood, 0), blood


def _occupancy(depth_mm: np.ndarray, step_mm: float) -> np.ndarray:
    """Share of a cell inside a surface, from the depth of its center below the surface."""
    return np.clip(np.float32(0.5) + depth_mm / np.float32(step_mm), 0, 1)


def _ellipsoid_depth_mm(
    distance: np.ndarray, height: np.ndarray, radius: np.ndarray | float, half_length: np.ndarray | float
) -> np.ndarray:
    """Depth below the surface of an ellipsoid of revolution, right to first order near it; negative outside."""
    level = np.sqrt((distance / radius) ** 2 + (height / half_length) ** 2) + np.float32(1e-6)
    slope = np.sqrt((distance / radius**2) ** 2 + (height / half_length**2) ** 2) / level + np.float32(1e-6)
    return (1 - level) / slope


def _atria_occupancy(lateral: np.ndarray, inferior: np.ndarray, apical: np.ndarray, step_mm: float) -> np.ndarray:
    level = np.sqrt((lateral / 30) ** 2 + (inferior / 34) ** 2 + ((apical + 22) / 26) ** 2)
    return _occupancy((1 - level) * 28, step_mm)
