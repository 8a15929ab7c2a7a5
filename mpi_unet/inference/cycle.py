"""What the gates of one study tell together: volumes over the cycle, thickening, mass, synchrony, and one polar map.

The uptake of a gated study is the mean of the maps of its gates, each sampled within its own outline: pixels follow the
muscle, so it has the counts of the whole study and not the blur of its motion. Volumes are those of a wall that keeps
its volume (`mpi_unet.cardiac.volumes.with_steady_wall`): that of a network's outlines does not, and the ejection
fraction would come out too low. Each part that cannot be had says why, and takes nothing else with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpi_unet.cardiac.phase import phase_analysis
from mpi_unet.cardiac.polar_map import PolarMap
from mpi_unet.cardiac.volumes import TimeVolumeCurve, time_volume_curve, with_steady_wall
from mpi_unet.cardiac.wall import thickening_pct
from mpi_unet.errors import CardiacError

__all__ = ["CycleMeasures", "GateFacts", "curve_of", "mean_map", "measure_cycle", "no_cycle", "one_line"]


@dataclass(frozen=True)
class GateFacts:
    """One gate, as far as it could be measured.

    Attributes:
        cavity_ml: None where it could not.
        wall_ml: Likewise.
        mass_g: Likewise.
        segment_thickness_mm: Segments 1 to 17; empty where not measured.
        polar: Uptake in counts.
    """

    cavity_ml: float | None = None
    wall_ml: float | None = None
    mass_g: float | None = None
    segment_thickness_mm: tuple[float | None, ...] = ()
    polar: PolarMap | None = None


@dataclass(frozen=True)
class CycleMeasures:
    """Over the gates of one study; None is what could not be measured.

    Attributes:
        end_diastolic_ml: See `mpi_unet.cardiac.volumes`.
        end_systolic_ml: Likewise.
        stroke_volume_ml: Likewise.
        ejection_fraction_pct: Likewise.
        gates_ejection_fraction_pct: From the largest and the smallest gate alone.
        outlined_ejection_fraction_pct: Of the cavities as they were outlined, without the wall being kept steady.
        outlined_wall_change_pct: By how much the outlined wall changes from the largest to the smallest gate: muscle
            hardly does, so this is what outlines miss.
        cycle_mass_g: Of the wall, mean of all gates.
        end_diastolic_gate: Number of the largest gate.
        end_systolic_gate: Number of the smallest gate.
        end_diastolic_mass_g: Mass of the wall in the largest gate.
        thickening_pct: Mean over the segments.
        segment_thickening_pct: Segments 1 to 17.
        phase_mean_deg: See `mpi_unet.cardiac.phase`.
        phase_sd_deg: Likewise.
        phase_bandwidth_deg: Likewise.
        phase_entropy_pct: Likewise.
        curve_ml: The smoothed time-volume curve over one cycle.
        polar: Mean of the gates' maps, in counts.
        why_not: Why there are no volumes.
        why_no_thickening: Why there is no thickening.
        why_no_phase: Why there is no phase.
        why_no_uptake: Why there is no map.
    """

    end_diastolic_ml: float | None = None
    end_systolic_ml: float | None = None
    stroke_volume_ml: float | None = None
    ejection_fraction_pct: float | None = None
    gates_ejection_fraction_pct: float | None = None
    outlined_ejection_fraction_pct: float | None = None
    outlined_wall_change_pct: float | None = None
    cycle_mass_g: float | None = None
    end_diastolic_gate: int | None = None
    end_systolic_gate: int | None = None
    end_diastolic_mass_g: float | None = None
    thickening_pct: float | None = None
    segment_thickening_pct: tuple[float | None, ...] = ()
    phase_mean_deg: float | None = None
    phase_sd_deg: float | None = None
    phase_bandwidth_deg: float | None = None
    phase_entropy_pct: float | None = None
    curve_ml: tuple[float, ...] = ()
    polar: PolarMap | None = None
    why_not: str = ""
    why_no_thickening: str = ""
    why_no_phase: str = ""
    why_no_uptake: str = ""


def measure_cycle(gates: Mapping[int, GateFacts], *, steady_wall: bool = True) -> CycleMeasures:
    """Measure one gated study.

    Args:
        gates: Number of each gate, from 1, to what it gave.
        steady_wall: Take the wall to have the same volume in all gates, where it is known in all of them.

    Example:
        >>> measure_cycle({1: GateFacts(90.0), 2: GateFacts(), 3: GateFacts(60.0)}).why_not
        'the cavity of 1 of 3 gates could not be measured'
        >>> measure_cycle({2: GateFacts(90.0), 3: GateFacts(60.0)}).why_not
        'only gates 2, 3 of the cycle are there'
    """
    numbers = sorted(gates)
    ordered = [gates[number] for number in numbers]
    if numbers != list(range(1, len(numbers) + 1)):
        return no_cycle(f"only gates {', '.join(map(str, numbers))} of the cycle are there")
    has_walls = all(gate.wall_ml is not None for gate in ordered)
    outlined, why_not = curve_of([gate.cavity_ml for gate in ordered])
    curve = outlined
    if steady_wall and has_walls and not why_not:
        curve, why_not = curve_of([gate.cavity_ml for gate in ordered], [gate.wall_ml for gate in ordered])
    values: dict[str, Any] = {"why_not": why_not}
    if curve is not None and not why_not:
        values |= {
            "end_diastolic_ml": curve.end_diastolic_ml,
            "end_systolic_ml": curve.end_systolic_ml,
            "stroke_volume_ml": curve.stroke_volume_ml,
            "ejection_fraction_pct": curve.ejection_fraction_pct,
            "gates_ejection_fraction_pct": curve.gates_ejection_fraction_pct,
            "outlined_ejection_fraction_pct": outlined.ejection_fraction_pct if outlined else None,
            "curve_ml": curve.curve_ml or (),
        }
    values |= _walls(ordered, numbers, curve, steady_wall=steady_wall and has_walls)
    polar, why_no_uptake = mean_map(ordered)
    values |= {"polar": polar, "why_no_uptake": why_no_uptake} | _phase(ordered)
    return CycleMeasures(**values)


def curve_of(
    cavity_ml: Sequence[float | None], wall_ml: Sequence[float | None] = ()
) -> tuple[TimeVolumeCurve | None, str]:
    """The time-volume curve of the gates, and why there is none or no ejection fraction.

    Args:
        cavity_ml: Of every gate; None where it could not be measured.
        wall_ml: Of every gate, to be kept steady; empty or with a None to leave the cavities as they are.
    """
    known = [one for one in cavity_ml if one is not None]
    walls = [one for one in wall_ml if one is not None]
    if len(known) < len(cavity_ml):
        return None, f"the cavity of {len(cavity_ml) - len(known)} of {len(cavity_ml)} gates could not be measured"
    try:
        curve = time_volume_curve(with_steady_wall(known, walls) if len(walls) == len(known) else known)
    except CardiacError as error:
        return None, one_line(error)
    return curve, curve.why_not


def no_cycle(why: str) -> CycleMeasures:
    """Of gates that do not make one study, for this reason."""
    return CycleMeasures(why_not=why, why_no_thickening=why, why_no_phase=why, why_no_uptake=why)


def mean_map(gates: list[GateFacts]) -> tuple[PolarMap | None, str]:
    """Mean of the maps of the gates, or why there is none; a pixel is measured where every gate has wall."""
    maps = [gate.polar for gate in gates if gate.polar is not None]
    if len(maps) < len(gates):
        return None, f"{len(gates) - len(maps)} of {len(gates)} gates have no polar map"
    values = np.stack([polar.values for polar in maps]).mean(axis=0)
    area = np.stack([polar.area_mm2 for polar in maps]).mean(axis=0)
    if not np.isfinite(values).any():
        return None, "no pixel of the polar map has wall in every gate"
    return PolarMap(values, area, maps[0].statistic, maps[0].unit), ""


# --- Private helpers --------------------------------------------------------------------------------------------------


def _walls(
    gates: list[GateFacts], numbers: list[int], curve: TimeVolumeCurve | None, *, steady_wall: bool
) -> dict[str, Any]:
    """Mass, and thickening from the largest to the smallest gate."""
    masses = [gate.mass_g for gate in gates if gate.mass_g is not None]
    values: dict[str, Any] = {"cycle_mass_g": float(np.mean(masses)) if len(masses) == len(gates) else None}
    if curve is None or curve.end_diastolic_gate is None or curve.end_systolic_gate is None:
        return values | {"why_no_thickening": "end diastole and end systole are not known"}
    first, last = gates[curve.end_diastolic_gate], gates[curve.end_systolic_gate]
    values |= {
        "end_diastolic_gate": numbers[curve.end_diastolic_gate],
        "end_systolic_gate": numbers[curve.end_systolic_gate],
        "end_diastolic_mass_g": first.mass_g,
    }
    if first.wall_ml and last.wall_ml:
        values["outlined_wall_change_pct"] = 100 * (last.wall_ml / first.wall_ml - 1)
    mean_ml = float(np.mean([gate.wall_ml for gate in gates if gate.wall_ml])) if steady_wall else None
    try:
        thickening = thickening_pct(_thickness(first, mean_ml), _thickness(last, mean_ml))
    except CardiacError as error:
        return values | {"why_no_thickening": one_line(error)}
    known = [one for one in thickening if one is not None]
    if not known:
        return values | {"why_no_thickening": "no segment has wall at end diastole and at end systole"}
    return values | {"thickening_pct": float(np.mean(known)), "segment_thickening_pct": thickening}


def _thickness(gate: GateFacts, wall_ml: float | None) -> tuple[float | None, ...]:
    """Of the segments; of a wall of this volume, where one is given: as thick as it is large, its area being known."""
    share = wall_ml / gate.wall_ml if wall_ml and gate.wall_ml else 1.0
    return tuple(None if one is None else one * share for one in gate.segment_thickness_mm)


def _phase(gates: list[GateFacts]) -> dict[str, Any]:
    maps = [gate.polar for gate in gates if gate.polar is not None]
    if len(maps) < len(gates):
        return {"why_no_phase": f"{len(gates) - len(maps)} of {len(gates)} gates have no polar map"}
    try:
        result = phase_analysis(maps)
    except CardiacError as error:
        return {"why_no_phase": one_line(error)}
    return {
        "phase_mean_deg": result.mean_deg,
        "phase_sd_deg": result.sd_deg,
        "phase_bandwidth_deg": result.bandwidth_deg,
        "phase_entropy_pct": result.entropy_pct,
    }


def one_line(error: Exception) -> str:
    """The text of an error as a cell of a table."""
    return " ".join(str(error).split())
