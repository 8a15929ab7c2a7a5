"""DICOM studies with a heart of known shape, a run whose networks find it, and the doors that bring both together.

The networks of these tests call bright what is bright: they are replaced by a threshold, so that a mask is the heart
of the image to the voxel, and whatever is off afterwards was put off by the way to the objects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cardiac_shells import Shell, grid_around
from pydicom.dataset import Dataset

from mpi_unet.dicom.geometry import SliceStack
from mpi_unet.dicom.nm_modules import unique_id
from mpi_unet.dicom.nm_writing import Gating, SyntheticIdentity, recon_gated_tomo, recon_tomo, tomo, write_dicom
from mpi_unet.inference.runtimes import Runner

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
STEP_MM = 6.4
HEART, BODY = 900, 30


def threshold_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks of whatever training find what is brighter than half of the brightest."""
    monkeypatch.setattr(Runner, "__call__", lambda self, batch, networks: (batch[:, 0] > 0.5).float())


def heart(patient: int) -> Shell:
    """The heart of a patient, at a place of its own."""
    return Shell(middle_mm=(-32.0 + 3 * patient, 18.0 - 2 * patient, 7.0 + patient), radius=22.0 + patient)


AXES = [[-1, 0, 0], [0, -1, 0], [0, 0, 1]]
"""Columns run to the left, rows to the back, slices to the head."""


def wall_points_mm(patient: int) -> np.ndarray:
    """Centers of the voxels of a wall in RAS, from the formulas of the heart and of its grid alone."""
    shape, affine = grid_around(heart(patient), (STEP_MM,) * 3, axes=AXES)
    z, y, x = np.indices(shape)
    points = np.stack([x, y, z, np.ones_like(x)], axis=-1) @ affine.T[:, :3]
    return points[heart(patient).in_wall(points)]


def stack_around(shell: Shell, *, negative: bool) -> tuple[tuple[int, int, int], SliceStack, np.ndarray]:
    """Shape, stack and affine (RAS) of transaxial slices, stored from the feet up or from the head down."""
    shape, affine = grid_around(shell, (STEP_MM,) * 3, axes=AXES)
    stack = SliceStack.from_affine(RAS_LPS @ affine)
    stack = stack.last_slice_first(shape[0]) if negative else stack
    return shape, stack, RAS_LPS @ stack.affine_lps


def counts_of(shell: Shell, shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    z, y, x = np.indices(shape)
    points = np.stack([x, y, z, np.ones_like(x)], axis=-1) @ affine.T[:, :3]
    noise = np.random.default_rng(0).integers(0, 5, shape)
    return np.where(shell.in_wall(points), HEART, BODY) + noise


def study_image(patient: int, *, negative: bool = False, num_gates: int = 1, kind: str = "RECON TOMO") -> Dataset:
    """One image of a patient: ``RECON TOMO`` or, with several gates, ``RECON GATED TOMO``; or a ``TOMO``."""
    shell = heart(patient)
    identity = SyntheticIdentity(key=f"clinic-{patient:04d}", study="stress")
    if kind == "TOMO":
        from nm_builders import ORBIT

        counts = np.random.default_rng(0).integers(5, 10, (12, 16, 16))  # equal pixels make no case
        image = tomo(counts, spacing_mm=(6.4, 6.4), orbit=ORBIT, identity=identity)
    else:
        shape, stack, affine = stack_around(shell, negative=negative)
        if num_gates == 1:
            image = recon_tomo(counts_of(shell, shape, affine), stack=stack, identity=identity)
        else:
            beats = [1 - 0.13 * (1 - np.cos(2 * np.pi * gate / num_gates)) for gate in range(num_gates)]
            gates = [
                Shell(middle_mm=shell.middle_mm, radius=shell.radius * beat, wall=shell.wall / beat) for beat in beats
            ]
            volumes = np.stack([counts_of(gate, shape, affine) for gate in gates])
            image = recon_gated_tomo(volumes, stack=stack, gating=Gating(), identity=identity)
    image.PatientID, image.PatientName = f"ID-{7000 + patient}", f"Quixote^Alonso{patient}"
    image.SOPInstanceUID = unique_id("served", str(patient), str(negative), str(num_gates), kind)
    return image


def put(image: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(image, path)
    return path
