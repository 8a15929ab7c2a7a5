"""From the tables of a prediction to the measurements of its reports.

The tables are the one place where numbers stand: a report says what ``measurements.csv`` and ``segments.csv`` say, to
the digit. A column whose name is one of `mpi_unet.dicom.derived_codes.QUANTITIES` goes out; others have no coded terms
and stay in the table. Rows are looked up for some images at a time, so that memory does not grow with the tables.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpi_unet.dicom.derived_codes import QUANTITIES
from mpi_unet.dicom.report_writing import Measured
from mpi_unet.inference.results import StudyResult

__all__ = ["Rows", "as_ascii", "measured_of", "read_rows"]

MEASUREMENTS, SEGMENTS = "measurements.csv", "segments.csv"

WHOLE_CYCLE = "cycle"
"""Gate of the row of a whole gated study."""

OTHER_NAMES = {"thickness_mm": "wall_thickness_mm", "cycle_mass_g": "mass_g"}
"""Columns that are called otherwise than the quantity that they are."""

BY_VOXELS = {"lv_wall": "wall_ml", "lv_filled": "filled_ml", "lv_cavity": "cavity_ml"}
"""What ``volume_ml``, the voxels of the mask, is the volume of; goes out where no surface was measured."""

ON_SEGMENT = {
    "wall_ml": "lv_wall",
    "mass_g": "lv_wall",
    "wall_thickness_mm": "lv_wall",
    "cavity_ml": "lv_cavity",
    "filled_ml": "lv_filled",
}
"""Segment of a segmentation that a quantity was measured on."""

CYCLE = ("end_diastolic_ml", "end_systolic_ml", "stroke_volume_ml", "ejection_fraction_pct")
"""What everybody asks for first; where it is missing, the report says why."""

UNGATED = "the image is not gated"
SUMMED = "the gates were summed; source.gates=each measures them"
LONGEST_REASON = 400


@dataclass
class Rows:
    """Rows of some studies.

    Attributes:
        measurements: By study; the row of a cycle under the study and ``WHOLE_CYCLE``.
        segments: By study.
    """

    measurements: dict[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    segments: dict[str, list[Mapping[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def of(self, study_ids: Collection[str]) -> Rows:
        """Those of some studies."""
        return Rows(
            {key: row for key, row in self.measurements.items() if key[0] in study_ids},
            {name: rows for name, rows in self.segments.items() if name in study_ids},
        )


def read_rows(output: str | Path, study_ids: Collection[str]) -> Rows:
    """Rows of the tables of a prediction.

    Args:
        output: Folder of the predictions.
        study_ids: Whose rows.
    """
    rows, wanted = Rows(), set(study_ids)
    for name in (MEASUREMENTS, SEGMENTS):
        path = Path(output) / name
        if not path.is_file():
            continue
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["study_id"] not in wanted:
                    continue
                if name == SEGMENTS and row.get("gate") == WHOLE_CYCLE:
                    continue  # of the whole cycle, under the name of its first gate
                if name == SEGMENTS:
                    rows.segments[row["study_id"]].append(row)
                else:
                    rows.measurements[row["study_id"], WHOLE_CYCLE if row.get("gate") == WHOLE_CYCLE else ""] = row
    return rows


def measured_of(
    results: Sequence[StudyResult], rows: Rows, *, num_gates: int, label: str, segments: Mapping[int, Collection[str]]
) -> list[Measured]:
    """The measurements of one image.

    Args:
        results: Of its cases: one, or one for each gate.
        rows: At least theirs.
        num_gates: Gates of the image.
        label: What the masks mean.
        segments: Gate, from 0, to the segments that its segmentation holds; a gate that has none is not there.
    """
    is_gated = any(result.gate.isdecimal() for result in results)
    measured = _of_cycle(results, rows, num_gates, is_gated=is_gated)
    for result in results:
        gate = int(result.gate) - 1 if result.gate.isdecimal() else None
        there = segments.get(gate or 0, ())
        row = rows.measurements.get((result.study_id, ""), {})
        for quantity, value in _values(row, label).items():
            segment = ON_SEGMENT.get(quantity, "")
            segment = segment if segment in there else ""
            if gate is None or segment:  # of one gate, a number needs a segment that says which
                measured.append(Measured(quantity, value, segment=segment, gate=gate if segment else None))
        if gate is not None and "lv_wall" not in there:
            continue
        place = "lv_wall" if "lv_wall" in there else ""
        for line in rows.segments.get(result.study_id, []):
            for quantity, value in _values(line, "").items():
                measured.append(
                    Measured(
                        quantity,
                        value,
                        segment=place,
                        gate=gate if place else None,
                        aha_segment=int(line["segment"]),
                    )
                )
    return measured


def as_ascii(text: str) -> str:
    """A text as a DICOM object takes it: one line of ASCII."""
    return " ".join(text.encode("ascii", "replace").decode().split()) or "-"


# --- Private helpers --------------------------------------------------------------------------------------------------


def _of_cycle(results: Sequence[StudyResult], rows: Rows, num_gates: int, *, is_gated: bool) -> list[Measured]:
    """What belongs to the cycle as a whole, or why there is none."""
    if not is_gated:
        return [Measured("ejection_fraction_pct", None, SUMMED if num_gates > 1 else UNGATED)]
    found = [row for result in results if (row := rows.measurements.get((result.study_id, WHOLE_CYCLE)))]
    row = found[0] if found else {}
    values = _values(row, "")
    why_not = as_ascii(row.get("why_not", "") or "the gates were not measured together")[:LONGEST_REASON]
    missing = [Measured(name, None, why_not) for name in CYCLE if name not in values]
    return [*(Measured(name, value) for name, value in values.items()), *missing]


def _values(row: Mapping[str, str], label: str) -> dict[str, float]:
    """The numbers of a row that have coded terms."""
    values: dict[str, float] = {}
    for column, text in row.items():
        name = OTHER_NAMES.get(column, column)
        if name in QUANTITIES and (value := _number(text)) is not None:
            values[name] = value
    by_voxels, volume_ml = BY_VOXELS.get(label, ""), _number(row.get("volume_ml", ""))
    if by_voxels and by_voxels not in values and volume_ml is not None:
        values[by_voxels] = volume_ml
    return values


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
