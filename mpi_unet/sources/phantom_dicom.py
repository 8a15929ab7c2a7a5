"""The built-in patients as a hospital would send them: DICOM studies of the phantom, for trying readers and archives.

A patient is acquired once, gated. The summed images are the sum of the gates, as on a real camera, so that the four
kinds of image show the same photons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from pydicom.dataset import Dataset

from mpi_unet.dicom import nm_writing
from mpi_unet.dicom.geometry import Orbit, SliceStack
from mpi_unet.dicom.nm_writing import Gating, SyntheticIdentity, write_dicom
from mpi_unet.errors import CohortError, listing, nearest
from mpi_unet.phantom.cases import Recipe, image_grid
from mpi_unet.phantom.patient import Patient, sample_patient
from mpi_unet.phantom.reorientation import resample
from mpi_unet.phantom.study import Acquisition, acquire, reconstruct

__all__ = ["KINDS", "phantom_studies", "study_images"]

KINDS = ("TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO")
"""Value 3 of Image Type, in the standard's words."""


def phantom_studies(
    output: str | Path,
    *,
    num_patients: int,
    seed: int,
    kinds: Sequence[str] = KINDS,
    studies: Sequence[str] = ("stress",),
    domain: str = "short_axis",
    num_gates: int = 8,
    protocol: str = "parallel_hole",
) -> Path:
    """Write DICOM studies of simulated patients, ``<output>/<PatientID>/<study>/<kind>.dcm``.

    Patient i of a seed is the one of ``phantom_cohort``, on the same voxels: the outlines of a gated short-axis cohort
    lie on these images.

    Args:
        output: Folder for the studies; a file of the same name is replaced.
        num_patients: Number of patients.
        seed: Seed of the cohort.
        kinds: Which images, as in ``KINDS``.
        studies: ``stress``, ``rest`` or both.
        domain: What reconstructions cut: ``short_axis``, stored from the apex to the base with a positive Spacing
            Between Slices; or ``transaxial``, stored from the head down with a negative one, as some cameras do.
        num_gates: Gates of the acquisition.
        protocol: ``parallel_hole`` or ``czt``.

    Returns:
        The folder.

    Raises:
        CohortError: An option is unknown.
    """
    problems = [
        f"kinds: is {kind!r}; expected {', '.join(KINDS)}{nearest(kind, KINDS)}" for kind in kinds if kind not in KINDS
    ]
    if domain == "projection":
        problems.append("domain: is 'projection'; projections are always written, say what the reconstructions cut")
    if num_patients < 1:
        problems.append(f"num_patients: is {num_patients}; expected at least 1")
    if problems:
        raise CohortError(f"The studies cannot be written as asked:\n{listing(problems)}\nCorrect these options")
    recipe = Recipe(
        domain=domain,
        seed=seed,
        label="lv_wall",
        readers=("truth",),
        studies=tuple(studies),
        gated=True,
        num_gates=num_gates,
        protocol=protocol,
        reconstruction="osem",
        pixel_mm=None,
        matrix=None,
        slice_mm=6.4,
    )
    recipe.check()
    output = Path(output)
    for index in range(num_patients):
        for study in studies:
            acquisition = acquire(sample_patient(seed, index, study), recipe.make_protocol())
            for image in study_images(acquisition, recipe, kinds):
                name = f"{image.ImageType[2].lower().replace(' ', '_')}.dcm"
                write_dicom(image, output / image.PatientID / study / name)
    return output


def study_images(acquisition: Acquisition, recipe: Recipe, kinds: Sequence[str] = KINDS) -> Iterator[Dataset]:
    """The images of one gated acquisition.

    Args:
        acquisition: What the camera recorded.
        recipe: Its domain says what the reconstructions cut.
        kinds: Which images.
    """
    identity, orbit, gating = identity_of(acquisition.patient), orbit_of(acquisition), gating_of(acquisition)
    camera = nm_writing.Acquisition(tracer=cast(Literal["sestamibi", "tetrofosmin"], acquisition.patient.uptake.tracer))
    pixel_mm = (acquisition.protocol.camera.pixel_mm,) * 2
    views = acquisition.views
    if "TOMO" in kinds:
        yield nm_writing.tomo(views.sum(0), spacing_mm=pixel_mm, orbit=orbit, identity=identity, acquisition=camera)
    if "GATED TOMO" in kinds:
        yield nm_writing.gated_tomo(
            views, spacing_mm=pixel_mm, orbit=orbit, gating=gating, identity=identity, acquisition=camera
        )
    view = cast(Literal["transaxial", "short_axis"], recipe.domain)
    if "RECON TOMO" in kinds:
        volumes, stack = _volumes(_summed(acquisition), recipe)
        yield nm_writing.recon_tomo(
            volumes[0], stack=stack, identity=identity, acquisition=camera, view=view, orbit=orbit
        )
    if "RECON GATED TOMO" in kinds:
        volumes, stack = _volumes(acquisition, recipe)
        yield nm_writing.recon_gated_tomo(
            volumes, stack=stack, gating=gating, identity=identity, acquisition=camera, view=view, orbit=orbit
        )


def orbit_of(acquisition: Acquisition) -> Orbit:
    """Where the camera stood, in DICOM's angle: 180 degrees is anterior, 90 left lateral, so the angle falls."""
    camera = acquisition.protocol.camera
    return Orbit(
        first_angle_deg=float(np.mod(180 - camera.view_angles_deg[0], 360)),
        arc_deg=camera.arc_deg,
        num_views=camera.num_views,
        radius_mm=tuple(float(radius) for radius in acquisition.radius_mm),
        clockwise=True,
        frame_duration_ms=round(1000 * acquisition.protocol.seconds / camera.num_views),
    )


def gating_of(acquisition: Acquisition) -> Gating:
    """Beats of the usual length over the time of the acquisition; the phantom has no heart rate of its own."""
    rr_interval_ms = Gating().rr_interval_ms
    return Gating(rr_interval_ms, num_beats=int(1000 * acquisition.protocol.seconds / rr_interval_ms))


def identity_of(patient: Patient) -> SyntheticIdentity:
    """Who the phantom patient is."""
    return SyntheticIdentity(
        key=f"{patient.seed}-{patient.index:04d}",
        study=cast(Literal["rest", "stress"], patient.study),
        sex=cast(Literal["F", "M"], patient.body.sex),
        height_m=round(patient.body.height_m, 2),
        weight_kg=round(patient.body.bmi * patient.body.height_m**2, 1),
    )


def _summed(acquisition: Acquisition) -> Acquisition:
    """All gates as one; a single field stands for them, since a reconstruction asks only how many volumes there are."""
    sums = {name: getattr(acquisition, name).sum(2, keepdims=True) for name in ("expected", "scatter", "counts")}
    return replace(acquisition, fields=acquisition.fields[:1], **sums)


def _volumes(acquisition: Acquisition, recipe: Recipe) -> tuple[np.ndarray, SliceStack]:
    """Reconstructed values (gate, z, row, column), none negative, and where they lie."""
    reconstruction = reconstruct(acquisition)
    grid = image_grid(recipe, acquisition, reconstruction.grid)
    volumes = np.stack([resample(volume, reconstruction.grid, grid) for volume in reconstruction.volumes])
    volumes, stack = np.maximum(volumes, 0), SliceStack.from_affine(grid.affine_lps)
    if recipe.domain == "transaxial":
        return np.ascontiguousarray(volumes[:, ::-1]), stack.last_slice_first(grid.shape[0])
    return volumes, stack
