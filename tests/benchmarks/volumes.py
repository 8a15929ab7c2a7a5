"""Cheap cohorts of any size: a ring in noise, another one in every patient, written as fast as the disk takes it.

The simulator makes a patient in a second; here speed is measured, not anatomy, so a millisecond must do.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from mpi_unet.cohort.nifti import affine_from_spacing
from mpi_unet.cohort.table import write_cohort_table

SPACING_MM = (6.4, 3.2, 3.2)


def write_rings(root: Path, num_patients: int, *, num_frames: int, size: int, seed: int = 0) -> Path:
    """Write a short-axis cohort of one case a patient and one reader, ``truth``.

    Args:
        root: New folder.
        num_patients: Patients; the first ones are the same whatever their number.
        num_frames: Slices of a case.
        size: Rows and columns.
        seed: Of the cohort.
    """
    z, y, x = np.meshgrid(np.arange(num_frames), np.arange(size), np.arange(size), indexing="ij", sparse=True)
    affine = np.asarray(affine_from_spacing(SPACING_MM))
    for folder in ("images", "labels/truth"):
        (root / folder).mkdir(parents=True)
    rows = []
    for patient in range(num_patients):
        rng = np.random.default_rng([seed, patient])
        center = size / 2 + rng.uniform(-size / 8, size / 8, 2)
        distance = np.hypot(y - center[0], x - center[1]) + 0.0 * z
        outer = size * rng.uniform(0.2, 0.32) * (1 - 0.3 * z / num_frames)
        mask = (distance <= outer) & (distance >= outer - size / 10)
        image = rng.integers(0, 40, mask.shape, dtype=np.int16) + np.int16(60) * mask
        name = f"P{patient:05d}_stress"
        file = f"images/{name}.nii.gz"
        _write(root / file, image, affine)
        _write(root / f"labels/truth/{name}.nii.gz", mask.astype(np.uint8), affine)
        rows.append(
            {
                **{"case_id": name, "patient_id": f"P{patient:05d}", "acquisition": "stress", "image": file},
                **{"label_truth": f"labels/truth/{name}.nii.gz", "sex": "FM"[patient % 2]},
            }
        )
    metadata = {
        **{"name": "rings", "domain": "short_axis", "label": "lv_wall", "readers": ["truth"]},
        **{"simulated_readers": True, "source": "tests/benchmarks/volumes.py", "licence": "CC0-1.0 (synthetic)"},
        **{"intensities": "none", "spacing_known": True},
    }
    write_cohort_table(root, metadata=metadata, rows=rows)
    return root


def read_frames(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """All frames of a cohort, float32 (frame, y, x) between 0 and 1, and their masks, uint8."""
    from mpi_unet.cohort.table import Cohort

    cases = Cohort.open(root).cases
    images = np.concatenate([case.read_image().array for case in cases]).astype(np.float32) / 100
    return images, np.concatenate([case.read_mask("truth") for case in cases]).astype(np.uint8)


def _write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """One file, the way nibabel would, without waiting for the disk; axes (x, y, z), so that x runs fastest."""
    image = nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1))
