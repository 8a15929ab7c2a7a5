"""What is wrong with a case, in one sentence each: what was found, what was expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpi_unet.cohort.case import Case, is_safe_name, missing_reader
from mpi_unet.cohort.nifti import Volume, read_mask_and_affine
from mpi_unet.errors import CohortError
from mpi_unet.shapes import Affine, Mask

__all__ = ["case_problems", "table_problems"]

AFFINE_TOLERANCE_MM = 1e-3
"""Largest difference between the affines of image and label: float32 headers of a 500 mm field agree to 3e-5 mm."""

SPACING_TOLERANCE = 1e-4
"""Largest relative difference between the spacings of image and label; rounding in float32 headers stays below it."""


def table_problems(cases: Sequence[Case], root: Path) -> dict[int, list[str]]:
    """What the table alone gives away: ids that are missing, unsafe or used twice, and paths out of the cohort.

    Returns:
        Row number (from 0) to its problems; rows without problems are left out.
    """
    rows_of = Counter(case.case_id.casefold() for case in cases)
    problems: dict[int, list[str]] = {}
    for row, case in enumerate(cases):
        found = []
        if not is_safe_name(case.case_id):
            found.append(f"case_id is {case.case_id!r}; expected a plain file name of letters, digits, _ . = + @ -")
        if rows_of[case.case_id.casefold()] > 1:
            found.append(f"case_id is on {rows_of[case.case_id.casefold()]} rows of cases.csv; expected one row a case")
        if not case.patient_id.strip():
            found.append("patient_id is empty; expected the pseudonym of the person, by which folds are drawn")
        found += [
            f"path {path!r} leads out of the cohort; expected a path relative to and inside the cohort folder"
            for path in map(str, (case.image, *case.labels.values()))
            if not _is_inside(Path(path), root)
        ]
        if found:
            problems[row] = found
    return problems


def case_problems(case: Case, reader: str, spacing_counts: bool) -> list[str]:
    """Read one case and say everything that keeps it from being used.

    Args:
        case: The case.
        reader: The reader whose label is wanted.
        spacing_counts: Whether the spacing of the cohort is known and so must be positive and finite.
    """
    problems: list[str] = []
    volume = None
    try:
        volume = case.read_image()
        problems += image_problems(volume, spacing_counts)
    except CohortError as error:
        problems.append(f"image {error}")
    if reader not in case.labels:
        return [*problems, missing_reader(reader, tuple(case.labels))]
    try:
        mask, affine = read_mask_and_affine(case.labels[reader])
    except CohortError as error:
        return [*problems, f"label of {reader}: {error}"]
    if not mask.any():
        problems.append(f"label of {reader} is empty; expected at least one voxel of the structure")
    if volume is not None:
        problems += grid_problems(volume, mask, affine, reader)
    return problems


def image_problems(volume: Volume, spacing_counts: bool) -> list[str]:
    """Intensities and geometry that no network can learn from."""
    problems = []
    num_wrong = int(np.count_nonzero(~np.isfinite(volume.array)))
    if num_wrong:
        problems.append(f"image holds {num_wrong} voxels of NaN or infinity; expected finite intensities")
    elif volume.array.min() == volume.array.max():
        problems.append(f"image is {volume.array.flat[0]:g} everywhere; expected an image with contrast")
    spacing = volume.spacing_mm
    if spacing_counts and not (np.isfinite(spacing).all() and min(spacing) > 0):
        problems.append(f"spacing is {_numbers(spacing)} mm (z, y, x); expected positive distances")
    return problems


def grid_problems(volume: Volume, mask: Mask, affine: Affine, reader: str) -> list[str]:
    """Whether a label lies on the grid of its image."""
    if mask.shape != volume.array.shape:
        found, expected = _shape(mask.shape), _shape(volume.array.shape)
        return [f"label of {reader} is {found}, image is {expected} (z, y, x); a label must lie on its image's grid"]
    where = "a label must lie on its image's grid"
    label_spacing = Volume(volume.array, affine).spacing_mm
    if not np.allclose(label_spacing, volume.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
        found, expected = _numbers(label_spacing), _numbers(volume.spacing_mm)
        return [f"spacing of the label of {reader} is {found} mm, of the image {expected} mm (z, y, x); {where}"]
    distance_mm = float(np.abs(affine - volume.affine).max())
    if not distance_mm <= AFFINE_TOLERANCE_MM:
        return [f"affines of image and label of {reader} differ by {distance_mm:.3g} mm; {where}"]
    return []


# --- Private helpers --------------------------------------------------------------------------------------------------


def _is_inside(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) and ".." not in path.relative_to(root).parts


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
