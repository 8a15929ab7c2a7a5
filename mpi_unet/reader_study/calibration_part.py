"""The part of a result about probabilities: does 0.8 mean four voxels in five? The reliability curve and its errors.

Every reader is the target in turn, as in the panel; results are averaged within a case, within a patient, and only then
over patients, so that a patient counts once whatever the number of voxels. Where probabilities were not kept, the part
says what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mpi_unet.agreement import (
    Calibration,
    MeanCalibration,
    calibration,
    mean_calibration,
    patient_calibration,
    region_of_interest,
)
from mpi_unet.agreement.calibration import DILATION_VOXELS, NUM_BINS
from mpi_unet.cohort.case import Case
from mpi_unet.cohort.checks import grid_problems
from mpi_unet.cohort.nifti import Volume, read_grid, read_image
from mpi_unet.errors import CohortError, listing
from mpi_unet.reader_study.as_json import number_json, of_estimate

__all__ = ["calibration_part"]

RULE = "{outlines} of a case and {voxels} voxels around it, step by step across voxel faces"


def calibration_part(
    cases: Sequence[Case],
    readers: Sequence[str],
    probabilities: Mapping[str, Path],
    *,
    level: float = 0.95,
    why_not: str = "no probabilities were kept; train with prediction.probabilities=true",
) -> dict[str, Any]:
    """Calibration of the network's probabilities within a region around the readers' outlines.

    Args:
        cases: The cases that were compared.
        readers: Whose outlines are the targets and make the region.
        probabilities: Probability file by case id, as far as there are any.
        level: Confidence level of the intervals over patients.
        why_not: Sentence for the case that there is no file at all.

    Returns:
        The part of ``agreement.json``; ``available`` is False where nothing could be computed.

    Raises:
        CohortError: Files that are not on the grid of their image or hold no probabilities; all of them in one message.
    """
    by_patient: dict[str, list[Calibration]] = {}
    by_reader: dict[str, dict[str, list[Calibration]]] = {reader: {} for reader in readers}
    problems, inside, whole, done = [], 0, 0, 0
    for case in cases:
        own = [reader for reader in readers if reader in case.labels]
        if case.case_id not in probabilities or not own:
            continue
        probability, found = _read(case, probabilities[case.case_id])
        if probability is None:
            problems += [f"{case.case_id}: {problem}" for problem in found]
            continue
        masks = {reader: case.read_mask(reader) for reader in own}
        region = region_of_interest(masks, dilation_voxels=DILATION_VOXELS)
        parts = {reader: calibration(probability, mask, region) for reader, mask in masks.items()}
        by_patient.setdefault(case.patient_id, []).append(patient_calibration(list(parts.values())))
        for reader, part in parts.items():
            by_reader[reader].setdefault(case.patient_id, []).append(part)
        inside, whole, done = inside + int(region.sum()), whole + region.size, done + 1
    if problems:
        raise CohortError(
            f"the probabilities of {len(problems)} of {len(cases)} cases cannot be used:\n{listing(problems)}\n"
            "Expected the probability of LV from 0 to 1 in each voxel, on the grid of the image, after one sigmoid or "
            "softmax; correct these files, or leave the folder of probabilities away"
        )
    base = _absent(why_not, len(readers)) | {
        "readers": list(readers),
        "n_cases": done,
        "n_cases_without": len(cases) - done,
    }
    if not done:
        return base
    mean = _over_patients(by_patient, level)
    if mean is None:
        return base | {"why_not": "no reader outlined anything, so there is no region to judge"}
    return base | {
        "available": True,
        "why_not": "",
        "region_share": inside / whole,
        "n": mean.n,
        "n_undefined": mean.n_undefined,
        "method": mean.method,
        "ece": of_estimate(mean.ece),
        "mce": of_estimate(mean.mce),
        "brier": of_estimate(mean.brier),
        "by_reader": [
            {"reader": reader, "ece": of_estimate(one.ece), "brier": of_estimate(one.brier)}
            for reader, patients in by_reader.items()
            if (one := _over_patients(patients, level)) is not None
        ]
        if len(readers) > 1
        else [],
        "bins": _bins(mean),
    }


# --- Private helpers --------------------------------------------------------------------------------------------------


def _absent(why_not: str, num_readers: int) -> dict[str, Any]:
    return {
        "available": False,
        "why_not": why_not,
        "region": RULE.format(
            outlines="union of the readers' outlines" if num_readers > 1 else "the reader's outline",
            voxels=DILATION_VOXELS,
        ),
        "dilation_voxels": DILATION_VOXELS,
        "region_share": None,
        "num_bins": NUM_BINS,
        "n": 0,
        "n_undefined": 0,
        "method": "",
        "ece": None,
        "mce": None,
        "brier": None,
        "by_reader": [],
        "bins": [],
    }


def _read(case: Case, file: Path) -> tuple[Float[np.ndarray, "z y x"] | None, list[str]]:
    """The probabilities of a case, or what is wrong with them."""
    try:
        volume = read_image(file)
        shape, affine = read_grid(case.image)
    except CohortError as error:
        return None, [str(error)]
    image = Volume(np.broadcast_to(np.float32(0), shape), affine)
    empty = np.broadcast_to(np.False_, volume.array.shape)
    found = grid_problems(image, empty, volume.affine, "the network (probabilities)")
    wrong = int(np.count_nonzero(~((volume.array >= 0) & (volume.array <= 1))))
    if wrong:
        found.append(f"{wrong} of {volume.array.size} voxels are NaN or outside 0..1")
    return (None, found) if found else (volume.array, [])


def _over_patients(by_patient: Mapping[str, Sequence[Calibration]], level: float) -> MeanCalibration | None:
    patients = [patient_calibration(by_patient[patient]) for patient in sorted(by_patient)]
    return mean_calibration(patients, level=level) if any(patient.num_voxels for patient in patients) else None


def _bins(mean: MeanCalibration) -> list[dict[str, Any]]:
    return [
        {
            "low": float(low),
            "high": float(high),
            "n": int(mean.n_in_bin[place]),
            "voxels": int(mean.voxels[place]),
            "probability": number_json(float(mean.mean_probability[place])),
            "observed": of_estimate(mean.observed[place]),
        }
        for place, (low, high) in enumerate(zip(mean.edges[:-1], mean.edges[1:], strict=True))
    ]
