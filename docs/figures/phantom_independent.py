"""Compare the projector and OSEM of mpi_unet with PyTomography on one phantom patient, on the same grid.

PyTomography is no dependency of mpi_unet. In an environment that has both (pip install pytomography):

    python docs/figures/phantom_independent.py
"""

from __future__ import annotations

import sys

import numpy as np
import pytomography
import torch
from pytomography.algorithms import OSEM
from pytomography.likelihoods import PoissonLogLikelihood
from pytomography.metadata.SPECT import SPECTObjectMeta, SPECTProjMeta, SPECTPSFMeta
from pytomography.projectors.SPECT import SPECTSystemMatrix
from pytomography.transforms.SPECT import SPECTAttenuationTransform, SPECTPSFTransform

from mpi_unet.phantom.camera import PARALLEL_HOLE as CAMERA
from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.patient import sample_patient
from mpi_unet.phantom.projector import Attenuation, Projector
from mpi_unet.phantom.reconstruction import field_of_view, osem
from mpi_unet.phantom.study import object_maps, protocol_named
from mpi_unet.phantom.torso import skin_distance_mm

SIZE, SLICES = CAMERA.num_bins, slice(12, 52)


def theirs(attenuation: np.ndarray | None, radius_mm: np.ndarray | None) -> SPECTSystemMatrix:
    """The same camera in PyTomography's words: centimeters, (x, y, z), angles counted the other way round."""
    transforms = []
    if attenuation is not None:
        transforms.append(SPECTAttenuationTransform(turned(attenuation.reshape(SIZE, SIZE, -1) * 10)))
    if radius_mm is not None:

        def width(cm: np.ndarray, unit: float) -> np.ndarray:
            return unit * CAMERA.sigma_mm(np.asarray(cm) * 10)

        transforms.append(SPECTPSFTransform(SPECTPSFMeta((0.1,), sigma_fit=width, min_sigmas=5)))
    pixel_cm, num_slices = CAMERA.pixel_mm / 10, SLICES.stop - SLICES.start
    radii_cm = np.full(CAMERA.num_views, 25.0) if radius_mm is None else radius_mm / 10
    angles = torch.tensor((-CAMERA.view_angles_deg) % 360).float()
    return SPECTSystemMatrix(
        transforms,
        [],
        SPECTObjectMeta([pixel_cm] * 3, [SIZE, SIZE, num_slices]),
        SPECTProjMeta((SIZE, num_slices), [pixel_cm] * 2, angles, radii=radii_cm),
    )


def turned(volume: np.ndarray) -> torch.Tensor:
    """(y, x, z) to (x, y, z)."""
    return torch.tensor(np.ascontiguousarray(volume.transpose(1, 0, 2)))


def difference(ours: np.ndarray, other: np.ndarray) -> float:
    """Root mean square difference over root mean square."""
    return float(np.sqrt(((ours - other) ** 2).mean() / (other**2).mean()))


def main() -> None:
    """Print one line per combination of attenuation and blur."""
    pytomography.device = "cpu"
    patient = sample_patient(7, 2)
    heart = Heart(patient)
    fields = (heart.fields(protocol_named("parallel_hole").contractions[0]),)
    activity, _, attenuation = object_maps(heart, fields, CAMERA)
    seen = field_of_view(SIZE)[:, None]
    activity = activity.reshape(SIZE, 2, SIZE, 2, 1, -1).mean((1, 3)).reshape(SIZE**2, 1, -1)
    activity = np.ascontiguousarray(activity[:, :, SLICES]) * seen[:, None]
    attenuation = np.ascontiguousarray(attenuation[:, SLICES]) * seen
    radius_mm = skin_distance_mm(patient, CAMERA.view_angles_deg) + 40
    rng = np.random.default_rng(0)
    for tissue in (None, attenuation):
        for radius in (None, radius_mm):
            projector = Projector(
                CAMERA,
                SIZE,
                CAMERA.pixel_mm,
                radius_mm=radius,
                attenuation=None if tissue is None else Attenuation(tissue),
            )
            ours = np.stack([projector.forward(activity, view)[:, 0] for view in range(CAMERA.num_views)])
            system = theirs(tissue, radius)
            other = system.forward(turned(activity[:, 0].reshape(SIZE, SIZE, -1))).numpy()
            counts = rng.poisson(other * (4e6 / other.sum())).astype(np.float32)
            volume = osem(projector, np.ascontiguousarray(counts[:, :, None]), num_iterations=4, num_subsets=4)
            start = turned(np.repeat(seen.reshape(SIZE, SIZE, 1), counts.shape[2], axis=2))
            found = OSEM(PoissonLogLikelihood(system, torch.tensor(counts)), object_initial=start)(4, 4).numpy()
            inside = np.hypot(*(np.indices((SIZE, SIZE)) - (SIZE - 1) / 2)) < 28
            recon = difference(volume[:, 0].reshape(SIZE, SIZE, -1)[inside], found.transpose(1, 0, 2)[inside])
            names = " and ".join(
                name for name, there in (("attenuation", tissue), ("blur", radius)) if there is not None
            )
            sys.stdout.write(
                f"{names or 'ray sums':22s} forward {100 * difference(ours, other):.3f} %, "
                f"all counts {ours.sum() / other.sum():.5f}, OSEM {100 * recon:.1f} %\n"
            )


if __name__ == "__main__":
    main()
