"""The rows of what was measured: of each image, of the cycle of each gated study, and of each pair of rest and stress.

``measurements.csv`` has a row for each segmented image and, under the name of its first gate, one for the cycle of each
gated study; columns of segments end in ``_seg01`` to ``_seg17``, as ``evaluate`` reads them. ``segments.csv`` has the
same segments as rows, ``curves.csv`` the time-volume curves, ``differences.csv`` a row for each patient with rest and
stress. Uptake of a gated study stands in the row of its cycle: a single gate has too few counts to be judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi_unet.cardiac.segments import SEGMENT_NAMES
from mpi_unet.errors import CardiacError
from mpi_unet.files import read_json
from mpi_unet.inference.cycle import CycleMeasures, GateFacts, measure_cycle, no_cycle, one_line
from mpi_unet.inference.hearts import heart_file, read_heart
from mpi_unet.inference.measures import Measures
from mpi_unet.inference.perfusion import Normals, Perfusion, change_of, perfusion_of
from mpi_unet.inference.results import StudyResult, result_file

if TYPE_CHECKING:
    from mpi_unet.cardiac.polar_map import PolarMap
    from mpi_unet.inference.inputs import Study

__all__ = [
    "CURVE_COLUMNS",
    "DIFFERENCE_COLUMNS",
    "MEASUREMENT_COLUMNS",
    "SEGMENT_COLUMNS",
    "WHOLE_CYCLE",
    "MeasuredRows",
    "cycle_of",
]

IDENTITY = ("study_id", "patient_id", "acquisition", "gate")
IMAGE = tuple(one.name for one in fields(Measures) if not one.name.startswith("segment_") and one.name != "why_not")
CYCLE = tuple(
    one.name
    for one in fields(CycleMeasures)
    if not one.name.startswith(("segment_", "why_")) and one.name not in ("curve_ml", "polar")
)
PERFUSION = (
    "scores_by",
    "summed_score_index",
    "summed_score_pct",
    "defect_extent_pct",
    "defect_severity_index",
    "total_deficit_pct",
)
BY_SEGMENT = ("thickness_mm", "thickening_pct", "uptake_pct", "score", "extent_pct")
WHY = ("why_not", "why_no_thickening", "why_no_phase", "why_no_uptake", "why_no_normals")

MEASUREMENT_COLUMNS = (
    *IDENTITY,
    *IMAGE,
    *CYCLE,
    *PERFUSION,
    *(f"{name}_seg{number:02d}" for name in BY_SEGMENT for number in range(1, 18)),
    *WHY,
)
SEGMENT_COLUMNS = ("study_id", "gate", "segment", "name", *BY_SEGMENT)
CURVE_COLUMNS = ("study_id", "cycle_pct", "volume_ml")
DIFFERENCE_COLUMNS = (
    "patient_id",
    "stress_study_id",
    "rest_study_id",
    "scores_by",
    "summed_difference_index",
    "summed_difference_pct",
    "reversible_pct",
    "ejection_fraction_difference_pct",
    "volume_ratio",
    "why_not",
)

WHOLE_CYCLE = "cycle"
"""Gate of the row of a whole gated study."""

CURVE_STEPS = 40
"""Points of a time-volume curve in its table."""

DIGITS = 6
"""Significant digits in the tables: more than any of it means, and fewer than batches of another size change."""

Row = dict[str, Any]
Segments = Mapping[str, Sequence[float | None]]


@dataclass
class _Gates:
    """The gates of one gated study, as far as they have been met."""

    first: Study
    study_ids: dict[int, str]
    doubled: set[int]


@dataclass(frozen=True)
class _Side:
    """One side of a pair of rest and stress."""

    study_id: str
    perfusion: Perfusion
    volume_ml: float | None
    ejection_fraction_pct: float | None


class MeasuredRows:
    """Makes the rows of one prediction; what it keeps between studies is names and segments.

    Args:
        output: Folder of the predictions.
        normals: What uptake is compared with.
    """

    def __init__(self, output: Path, normals: Normals | None) -> None:
        self._output, self._normals = output, normals
        self._cycles: dict[tuple[str, ...], _Gates] = {}
        self._sides: dict[tuple[str, str], dict[str, list[_Side]]] = {}

    def of_image(self, study: Study, result: StudyResult) -> tuple[Row, list[Row]]:
        """The row of one segmented image, and those of its segments."""
        measures = result.measures
        row = _identity(result.study_id, study, study.case.gate)
        row |= {name: _text(getattr(measures, name)) for name in IMAGE} | {"why_not": measures.why_not}
        segments: dict[str, Sequence[float | None]] = {"thickness_mm": measures.segment_thickness_mm}
        uptake: dict[str, Sequence[float | None]] = {"uptake_pct": measures.segment_uptake_pct}
        if not study.case.gate:
            perfusion = self._perfusion(result.study_id, measures, study)
            row |= _perfusion_cells(perfusion)
            uptake = _perfusion_segments(perfusion)
            self._note_side(study, "image", _Side(result.study_id, perfusion, measures.cavity_ml, None))
            segments |= uptake
        return row | _wide(segments), list(_long(result.study_id, study.case.gate, segments | uptake))

    def note_gate(self, study: Study) -> None:
        """Remember a gate with the other gates of its study."""
        if study.case.gate.isdecimal():
            gates = self._cycles.setdefault(cycle_of(study), _Gates(study, {}, set()))
            number = int(study.case.gate)
            if number in gates.study_ids:
                gates.doubled.add(number)
            gates.study_ids[number] = study.study_id

    def of_cycles(self) -> Iterator[tuple[Row, list[Row], list[Row]]]:
        """For each gated study its row, its segments and its time-volume curve."""
        for gates in self._cycles.values():
            study = gates.first
            cycle = self._cycle(gates)
            perfusion = Perfusion(why_not=cycle.why_no_uptake)
            if cycle.polar is not None:
                perfusion = self._judged(cycle.polar, study)
            row = _identity(study.study_id, study, WHOLE_CYCLE)
            row |= {name: _text(getattr(cycle, name)) for name in CYCLE}
            row |= {name: getattr(cycle, name) for name in WHY if hasattr(cycle, name)} | _perfusion_cells(perfusion)
            segments = {"thickening_pct": cycle.segment_thickening_pct, **_perfusion_segments(perfusion)}
            side = _Side(study.study_id, perfusion, cycle.end_diastolic_ml, cycle.ejection_fraction_pct)
            self._note_side(study, WHOLE_CYCLE, side)
            yield row | _wide(segments), list(_long(study.study_id, WHOLE_CYCLE, segments)), _points(study, cycle)

    def of_patients(self) -> Iterator[Row]:
        """A row for each patient with rest and stress, of the summed and of the gated studies on their own."""
        for (patient_id, _), sides in self._sides.items():
            if {"stress", "rest"} <= set(sides):
                yield {"patient_id": patient_id} | _difference(sides["stress"], sides["rest"])

    def _note_side(self, study: Study, kind: str, side: _Side) -> None:
        self._sides.setdefault((study.case.patient_id, kind), {}).setdefault(study.case.acquisition, []).append(side)

    def _cycle(self, gates: _Gates) -> CycleMeasures:
        if gates.doubled:
            numbers = ", ".join(map(str, sorted(gates.doubled)))
            return no_cycle(f"gates {numbers} are there more than once: which belong to one study?")
        return measure_cycle({gate: self._gate(study_id) for gate, study_id in gates.study_ids.items()})

    def _gate(self, study_id: str) -> GateFacts:
        """What one gate gave; nothing when it is not segmented or was never reached."""
        try:
            result = StudyResult.from_json(read_json(result_file(self._output, study_id)))
        except FileNotFoundError:
            return GateFacts()
        if result.status != "segmented":
            return GateFacts()
        measures = result.measures
        polar = self._map(study_id)[0] if measures.segment_uptake_pct else None
        return GateFacts(measures.cavity_ml, measures.wall_ml, measures.mass_g, measures.segment_thickness_mm, polar)

    def _perfusion(self, study_id: str, measures: Measures, study: Study) -> Perfusion:
        if not measures.segment_uptake_pct:
            return Perfusion(why_not=measures.why_not)
        polar, why_not = self._map(study_id)
        return Perfusion(why_not=why_not) if polar is None else self._judged(polar, study)

    def _map(self, study_id: str) -> tuple[PolarMap | None, str]:
        try:
            return read_heart(heart_file(self._output, study_id)).polar, "there is no polar map of this study"
        except CardiacError as error:
            return None, one_line(error)

    def _judged(self, polar: PolarMap, study: Study) -> Perfusion:
        case = study.case
        return perfusion_of(polar, normals=self._normals, sex=case.strata.get("sex", ""), study=case.acquisition)


def cycle_of(study: Study) -> tuple[str, str, str]:
    """The same for the gates of one gated study, and for no others."""
    case = study.case
    own = study.source_uid or f"{case.patient_id} {case.acquisition} {case.strata.get('study_date', '')}"
    return (case.patient_id, case.acquisition, own)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _identity(study_id: str, study: Study, gate: str) -> Row:
    case = study.case
    return {"study_id": study_id, "patient_id": case.patient_id, "acquisition": case.acquisition, "gate": gate}


def _perfusion_cells(perfusion: Perfusion) -> Row:
    return {
        "scores_by": perfusion.scores_by,
        "summed_score_index": _text(perfusion.summed_score),
        "summed_score_pct": _text(perfusion.summed_score_pct),
        "defect_extent_pct": _text(perfusion.defect_extent_pct),
        "defect_severity_index": _text(perfusion.defect_severity_index),
        "total_deficit_pct": _text(perfusion.total_deficit_pct),
        "why_no_uptake": perfusion.why_not,
        "why_no_normals": perfusion.why_no_normals,
    }


def _perfusion_segments(perfusion: Perfusion) -> dict[str, Sequence[float | None]]:
    return {
        "uptake_pct": perfusion.segment_uptake_pct,
        "score": perfusion.segment_scores,
        "extent_pct": perfusion.segment_extent_pct,
    }


def _wide(segments: Segments) -> Row:
    return {
        f"{name}_seg{number:02d}": _text(value)
        for name, values in segments.items()
        for number, value in enumerate(values, start=1)
    }


def _long(study_id: str, gate: str, segments: Segments) -> Iterator[Row]:
    known = {name: values for name, values in segments.items() if values}
    for position, name in enumerate(SEGMENT_NAMES if known else ()):
        cells = {quantity: _text(values[position]) for quantity, values in known.items()}
        yield {"study_id": study_id, "gate": gate, "segment": position + 1, "name": name, **cells}


def _points(study: Study, cycle: CycleMeasures) -> list[Row]:
    curve = cycle.curve_ml
    step = max(1, len(curve) // CURVE_STEPS)
    return [
        {"study_id": study.study_id, "cycle_pct": _text(100 * at / len(curve)), "volume_ml": _text(curve[at])}
        for at in range(0, len(curve), step)
    ]


def _difference(stress: Sequence[_Side], rest: Sequence[_Side]) -> Row:
    row: Row = {
        "stress_study_id": " ".join(side.study_id for side in stress),
        "rest_study_id": " ".join(side.study_id for side in rest),
    }
    if len(stress) > 1 or len(rest) > 1:
        return row | {"why_not": f"{len(stress)} stress and {len(rest)} rest studies: which belong together?"}
    under, at = stress[0], rest[0]
    change = change_of(under.perfusion, at.perfusion)
    fractions = under.ejection_fraction_pct, at.ejection_fraction_pct
    volumes = under.volume_ml, at.volume_ml
    return row | {
        "scores_by": under.perfusion.scores_by if not change.why_not else "",
        "summed_difference_index": _text(change.summed_difference_score),
        "summed_difference_pct": _text(change.summed_difference_pct),
        "reversible_pct": _text(change.reversible_pct),
        "ejection_fraction_difference_pct": _text(_minus(*fractions)),
        "volume_ratio": _text(volumes[0] / volumes[1] if volumes[0] and volumes[1] else None),
        "why_not": change.why_not,
    }


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS}g}"
