"""The tables of a prediction, made from the results of the studies whenever somebody finishes.

``predictions.csv`` has one row for everything that the input holds; what was measured is in ``measurements.csv``,
``segments.csv``, ``curves.csv`` and ``differences.csv`` (`measured_rows`), how far to trust it in ``flags.csv`` and
``worklist.csv`` (`worklist`). Results are read one at a time, so that memory hardly grows with their number.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mpi_unet.files import read_json, waiting_lock, whole_file
from mpi_unet.inference.inputs import Input, Study
from mpi_unet.inference.measured_rows import (
    CURVE_COLUMNS,
    DIFFERENCE_COLUMNS,
    MEASUREMENT_COLUMNS,
    SEGMENT_COLUMNS,
    MeasuredRows,
)
from mpi_unet.inference.perfusion import Normals
from mpi_unet.inference.results import StudyResult, mask_file, result_file
from mpi_unet.inference.worklist import (
    FLAG_COLUMNS,
    FLAGS,
    QUALITY_COLUMNS,
    WORKLIST,
    WORKLIST_COLUMNS,
    Worklist,
    flag_rows,
)

__all__ = ["CURVES", "DIFFERENCES", "MEASUREMENTS", "PREDICTIONS", "SEGMENTS", "WAITING", "write_tables"]

PREDICTIONS, MEASUREMENTS, SEGMENTS = "predictions.csv", "measurements.csv", "segments.csv"
CURVES, DIFFERENCES = "curves.csv", "differences.csv"

WAITING = "waiting"
"""Status of a study that nobody has come to yet: another shard's, or one after an interruption."""

PREDICTION_COLUMNS = (
    "study_id",
    "patient_id",
    "acquisition",
    "gate",
    "status",
    "reason",
    "remarks",
    "mask",
    "num_voxels",
    "parts_removed",
    "voxels_removed",
    "seen_in_training",
    "folds",
    "other_domain",
    "source_uid",
    *QUALITY_COLUMNS,
)


def write_tables(given: Input, output: str | Path, normals: Normals | None = None) -> Counter[str]:
    """Write the tables anew, each whole or not at all.

    Args:
        given: What was asked for.
        output: Folder of the predictions.
        normals: What uptake is compared with; the comparison is made here, so a database may come later.

    Returns:
        Status to the number of rows that have it.
    """
    output = Path(output)
    counts: Counter[str] = Counter()
    measured, worklist = MeasuredRows(output, normals), Worklist()
    with (
        waiting_lock(output / ".lock"),
        _table(output / PREDICTIONS, PREDICTION_COLUMNS) as predictions,
        _table(output / MEASUREMENTS, MEASUREMENT_COLUMNS) as measurements,
        _table(output / SEGMENTS, SEGMENT_COLUMNS) as segments,
        _table(output / CURVES, CURVE_COLUMNS) as curves,
        _table(output / DIFFERENCES, DIFFERENCE_COLUMNS) as differences,
        _table(output / FLAGS, FLAG_COLUMNS) as flags,
        _table(output / WORKLIST, WORKLIST_COLUMNS) as order,
    ):
        for study in given.studies():
            result = _result(output, study)
            counts[result.status] += 1
            predictions.writerow(_prediction_row(result, output) | worklist.add(result))
            flags.writerows(flag_rows(result))
            if result.status == "segmented":
                row, parts = measured.of_image(study, result)
                measurements.writerow(row)
                segments.writerows(parts)
            measured.note_gate(study)
        for row, parts, points in measured.of_cycles():
            measurements.writerow(row)
            segments.writerows(parts)
            curves.writerows(points)
        differences.writerows(measured.of_patients())
        order.writerows(worklist.rows(partial(_kept, output)))
        for other in given.others:
            counts[other.status] += 1
            predictions.writerow({"study_id": other.name, "status": other.status, "reason": other.reason})
        for result in _orphans(given, output):
            predictions.writerow(_prediction_row(result, output))
    return counts


# --- Private helpers --------------------------------------------------------------------------------------------------


@contextmanager
def _table(path: Path, columns: tuple[str, ...]) -> Iterator[csv.DictWriter]:
    """A CSV file that appears whole when the block is left without an error."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        yield writer


def _result(output: Path, study: Study) -> StudyResult:
    """The result of a study, or that there is none yet."""
    try:
        return _kept(output, study.study_id)
    except FileNotFoundError:
        case = study.case
        return StudyResult(
            study.study_id,
            case.patient_id,
            case.acquisition,
            case.gate,
            study.source_uid,
            WAITING,
            "not reached yet: the same command goes on, or its shard has not run",
        )


def _kept(output: Path, study_id: str) -> StudyResult:
    return StudyResult.from_json(read_json(result_file(output, study_id)))


def _prediction_row(result: StudyResult, output: Path) -> dict[str, Any]:
    is_segmented = result.status == "segmented"
    return {
        "study_id": result.study_id,
        "patient_id": result.patient_id,
        "acquisition": result.acquisition,
        "gate": result.gate,
        "status": result.status,
        "reason": result.reason,
        "remarks": "; ".join(result.remarks),
        "mask": mask_file(output, result.study_id).relative_to(output).as_posix() if is_segmented else "",
        "num_voxels": result.num_voxels if is_segmented else "",
        "parts_removed": result.parts_removed if is_segmented else "",
        "voxels_removed": result.voxels_removed if is_segmented else "",
        "seen_in_training": result.seen_in_training,
        "folds": " ".join(map(str, result.folds)),
        "other_domain": "; ".join(result.other_domain),
        "source_uid": result.source_uid,
    }


def _orphans(given: Input, output: Path) -> Iterator[StudyResult]:
    """Results of studies that the input does not hold any more; nothing that was done is lost."""
    known = {study.study_id for study in given.studies()}
    for path in sorted((output / "studies").glob("*.json")):
        if path.stem not in known and not path.name.startswith("."):  # a process that was killed leaves hidden halves
            result = StudyResult.from_json(read_json(path))
            yield replace(result, remarks=(*result.remarks, "the input does not hold this study any more"))
