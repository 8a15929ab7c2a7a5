"""What became of one study, as a value and as a file: ``<output>/studies/<study>.json``.

The file is written after everything else of the study. It holds the key of all that decides it: the networks, the
options, the SOPInstanceUID (keyed) and the pixels of the study.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mpi_unet.errors import MpiUnetError
from mpi_unet.files import read_json, write_json
from mpi_unet.inference.hearts import heart_file
from mpi_unet.inference.inputs import Study
from mpi_unet.inference.measures import Measures
from mpi_unet.inference.quality import Quality

__all__ = [
    "RESULT_VERSION",
    "StudyResult",
    "blank_result",
    "failed",
    "finished_result",
    "keep_result",
    "mask_file",
    "remove_heart",
    "result_file",
    "short_axis_files",
]

RESULT_VERSION = 4
"""Raised whenever the same study and options give another result; results of another version are made anew."""


@dataclass(frozen=True)
class StudyResult:
    """What became of one study.

    Attributes:
        study_id: Names its files.
        patient_id: Pseudonym.
        acquisition: Rest, stress or empty.
        gate: Of a gated study.
        source_uid: Keyed SOPInstanceUID; empty when the study comes from no DICOM object.
        status: ``segmented``, ``refused`` or ``failed``.
        reason: Why it is not segmented, in words.
        remarks: What to know about a segmented one, in words.
        seen_in_training: ``image``, ``patient`` or empty.
        folds: Folds whose networks spoke.
        other_domain: What sets it apart from training, where that was allowed.
        parts_removed: Parts of the mask that post-processing removed.
        voxels_removed: Their voxels.
        num_voxels: Of the mask.
        measures: What was measured.
        quality: How far to trust it.
        key: Of everything that decides this result.
        file_key: The same with the image's file in place of its pixels: what is known without decoding it.
    """

    study_id: str
    patient_id: str
    acquisition: str
    gate: str
    source_uid: str
    status: str
    reason: str = ""
    remarks: tuple[str, ...] = ()
    seen_in_training: str = ""
    folds: tuple[int, ...] = ()
    other_domain: tuple[str, ...] = ()
    parts_removed: int = 0
    voxels_removed: int = 0
    num_voxels: int = 0
    measures: Measures = field(default_factory=Measures)
    quality: Quality = field(default_factory=Quality)
    key: str = ""
    file_key: str = ""

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> StudyResult:
        """From the content of its file."""
        values = _with_tuples(content)
        measures, quality = Measures(**_with_tuples(content["measures"])), _quality(content)
        return cls(**(values | {"measures": measures, "quality": quality}))


def blank_result(study: Study) -> StudyResult:
    """What is known of a study before anything was done."""
    case = study.case
    return StudyResult(study.study_id, case.patient_id, case.acquisition, case.gate, study.source_uid, status="")


def finished_result(output: str | Path, study_id: str, **same: str) -> StudyResult | None:
    """The result that lies there, if it is that of this very work, and its mask too; one that failed is tried again.

    Args:
        output: Folder of the predictions.
        study_id: Which study.
        same: What its ``key`` or its ``file_key`` must be.
    """
    try:
        result = StudyResult.from_json(read_json(result_file(output, study_id)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if result.status == "failed" or any(getattr(result, name) != value for name, value in same.items()):
        return None
    return result if result.status != "segmented" or mask_file(output, study_id).is_file() else None


def keep_result(result: StudyResult, output: str | Path) -> StudyResult:
    """Write a result; a study that is not segmented has no mask, also none of an earlier time."""
    if result.status != "segmented":
        mask_file(output, result.study_id).unlink(missing_ok=True)
        remove_heart(output, result.study_id)
    write_json(result_file(output, result.study_id), asdict(result))
    return result


def remove_heart(output: str | Path, study_id: str) -> None:
    """Nothing that an earlier mask of the study gave stays beside a mask that does not give it."""
    for path in (heart_file(output, study_id), *short_axis_files(output, study_id)):
        path.unlink(missing_ok=True)


def result_file(output: str | Path, study_id: str) -> Path:
    """The result of one study."""
    return Path(output) / "studies" / f"{study_id}.json"


def mask_file(output: str | Path, study_id: str) -> Path:
    """The mask of one study."""
    return Path(output) / "masks" / f"{study_id}.nii.gz"


def short_axis_files(output: str | Path, study_id: str) -> tuple[Path, Path]:
    """Image and mask of one transaxial study, turned to short-axis slices."""
    folder = Path(output) / "short_axis"
    return folder / f"{study_id}.nii.gz", folder / f"{study_id}_mask.nii.gz"


def failed(result: StudyResult, error: Exception) -> StudyResult:
    """The result of a study that something went wrong with; for an error that nobody foresaw, with the place."""
    if isinstance(error, MpiUnetError):
        return replace(result, status="failed", reason=" ".join(str(error).split()))
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({Path(place[0].filename).name}, line {place[0].lineno})" if place else ""
    return replace(result, status="failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())}{where}")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _quality(content: Mapping[str, Any]) -> Quality:
    """Of a result of an older version, that it is not known."""
    return Quality.from_json(content["quality"]) if "quality" in content else Quality()


def _with_tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
