"""The cases of one simulated patient: images, outlines of the truth and of the readers, and exact figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mpi_unet.errors import CohortError, listing, nearest
from mpi_unet.phantom.camera import CAMERAS
from mpi_unet.phantom.outline import outline_mask, support_mm, surface_points_mm
from mpi_unet.phantom.patient import STUDIES, sample_patient
from mpi_unet.phantom.random_streams import Stream
from mpi_unet.phantom.readers import reader_mask, reader_support_mm, sample_read, split_reader, surface_depths
from mpi_unet.phantom.reorientation import Grid, resample, short_axis_grid, transaxial_grid
from mpi_unet.phantom.study import RECONSTRUCTIONS, Acquisition, Protocol, acquire, protocol_named, reconstruct
from mpi_unet.phantom.truth import LABELS, LeftVentricleTruth, left_ventricle_truth, true_mask
from mpi_unet.shapes import Affine, Image, Mask

__all__ = ["CZT_SHAPE", "DOMAINS", "Recipe", "SimulatedCase", "image_grid", "simulate_patient"]

DOMAINS = ("projection", "transaxial", "short_axis")

CZT_SHAPE = (50, 70, 70)
"""Slices, rows and columns of 4 mm around the heart, as solid-state cardiac cameras store them."""

SHORT_AXIS_MATRIX, SHORT_AXIS_PIXEL_MM = 64, 3.2


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the cases of a patient look like; see ``phantom_cohort`` for the meaning."""

    domain: str
    seed: int
    label: str
    readers: tuple[str, ...]
    studies: tuple[str, ...]
    gated: bool
    num_gates: int
    protocol: str
    reconstruction: str
    pixel_mm: float | None
    matrix: int | None
    slice_mm: float

    def check(self) -> None:
        """Say everything that is wrong with the recipe at once.

        Raises:
            CohortError: An option has a value that the phantom does not know.
        """
        problems = []
        choices = (
            ("domain", (self.domain,), DOMAINS),
            ("label", (self.label,), LABELS),
            ("protocol", (self.protocol,), tuple(CAMERAS)),
            ("reconstruction", (self.reconstruction,), RECONSTRUCTIONS),
            ("studies", self.studies, STUDIES),
        )
        for name, values, allowed in choices:
            problems += [
                f"{name}: is {value!r}; expected {' or '.join(allowed)}{nearest(value, allowed)}"
                for value in values
                if value not in allowed
            ]
        for reader in self.readers:
            try:
                if reader != "truth":
                    split_reader(reader)
            except CohortError as error:
                problems.append(str(error))
        for name, several in (("studies", self.studies), ("readers", self.readers)):
            if not several or len(set(several)) < len(several):
                problems.append(f"{name}: is {list(several)}; expected at least one name, each once")
        if self.domain == "projection" and self.label in LABELS and self.label != "lv_filled":
            problems.append(
                f"label: is {self.label!r}; projections show lv_filled only: wall and cavity overlap in a view"
            )
        if self.reconstruction == "osem_corrected" and self.protocol != "parallel_hole":
            problems.append(
                f"reconstruction: is 'osem_corrected', which protocol={self.protocol} has not; expected osem"
            )
        if self.gated and not 2 <= self.num_gates <= 32:
            problems.append(f"num_gates: is {self.num_gates}; expected 2 to 32, or gated=false")
        if self.seed < 0:
            problems.append(f"seed: is {self.seed}; expected 0 or more")
        for name, value, low, high in (
            ("pixel_mm", self.pixel_mm, 1.0, 10.0),
            ("matrix", self.matrix, 16, 128),
            ("slice_mm", self.slice_mm, 1.0, 20.0),
        ):
            if value is not None and not low <= value <= high:
                problems.append(f"{name}: is {value}; expected {low:g} to {high:g}")
        if problems:
            raise CohortError(f"The phantom cannot be made as asked:\n{listing(problems)}\nCorrect these options")

    def make_protocol(self) -> Protocol:
        """The acquisition protocol; in the projection domain pixel and matrix are the camera's own."""
        protocol = protocol_named(
            self.protocol, num_gates=self.num_gates if self.gated else 1, reconstruction=self.reconstruction
        )
        if self.domain != "projection" or (self.pixel_mm is None and self.matrix is None):
            return protocol
        camera = protocol.camera
        matrix = self.matrix or camera.num_bins
        pixel_mm = self.pixel_mm or camera.pixel_mm
        return replace(protocol, camera=replace(camera, num_bins=matrix, num_rows=matrix, pixel_mm=pixel_mm))


@dataclass(frozen=True)
class SimulatedCase:
    """One case, ready to be written.

    Attributes:
        case_id: Name of the case.
        patient_id: Name of the patient.
        study: ``rest`` or ``stress``.
        gate: Number of the gate from 1; empty for an ungated study.
        image: Intensities (z, y, x).
        affine_ras: Voxel index (x, y, z) to millimeters; of projections, the spacing only.
        masks: Reader to outline.
        strata: Columns to stratify by.
        truth: Exact figures.
    """

    case_id: str
    patient_id: str
    study: str
    gate: str
    image: Image
    affine_ras: Affine
    masks: dict[str, Mask]
    strata: dict[str, str]
    truth: LeftVentricleTruth


def simulate_patient(recipe: Recipe, index: int) -> Iterator[SimulatedCase]:
    """Simulate the cases of one patient, one after the other.

    Args:
        recipe: What to simulate.
        index: Number of the patient, from 0; the result depends on it and on the recipe alone.
    """
    protocol = recipe.make_protocol()
    for study in recipe.studies:
        acquisition = acquire(sample_patient(recipe.seed, index, study), protocol)
        frames = _projection_cases if recipe.domain == "projection" else _volume_cases
        for gate, (image, affine, masks) in enumerate(frames(recipe, acquisition)):
            patient = acquisition.patient
            number = f"{gate + 1:02d}" if recipe.gated else ""
            yield SimulatedCase(
                case_id=f"P{index:04d}_{study}" + (f"_gate{number}" if number else ""),
                patient_id=f"P{index:04d}",
                study=study,
                gate=str(gate + 1) if recipe.gated else "",
                image=image,
                affine_ras=affine,
                masks=masks,
                strata={
                    "sex": patient.body.sex,
                    "study": study,
                    "defect": "yes" if patient.defects else "no",
                    "tracer": patient.uptake.tracer,
                },
                truth=left_ventricle_truth(acquisition.heart, protocol.contractions[gate]),
            )


def _projection_cases(recipe: Recipe, acquisition: Acquisition) -> Iterator[tuple[Image, Affine, dict[str, Mask]]]:
    camera, heart = acquisition.protocol.camera, acquisition.heart
    affine = np.diag([camera.pixel_mm, camera.pixel_mm, 1.0, 1.0])
    for gate, image in enumerate(acquisition.views):
        support = support_mm(surface_points_mm(heart, acquisition.fields[gate]), camera)
        masks = {}
        for reader in recipe.readers:
            outline = support
            if reader != "truth":
                outline = reader_support_mm(heart, support, camera, sample_read(heart, reader, gate))
            masks[reader] = outline_mask(outline, camera)
        yield np.ascontiguousarray(image), affine, masks


def _volume_cases(recipe: Recipe, acquisition: Acquisition) -> Iterator[tuple[Image, Affine, dict[str, Mask]]]:
    heart = acquisition.heart
    reconstruction = reconstruct(acquisition)
    grid = image_grid(recipe, acquisition, reconstruction.grid)
    for gate, volume in enumerate(reconstruction.volumes):
        fields = acquisition.fields[gate]
        depths = surface_depths(fields) if set(recipe.readers) != {"truth"} else None
        masks = {}
        for reader in recipe.readers:
            if reader == "truth":
                masks[reader] = true_mask(heart, fields, grid, recipe.label)
            elif depths is not None:
                masks[reader] = reader_mask(heart, depths, grid, recipe.label, sample_read(heart, reader, gate))
        yield resample(volume, reconstruction.grid, grid), grid.affine_ras, masks


def image_grid(recipe: Recipe, acquisition: Acquisition, reconstructed: Grid) -> Grid:
    """The voxels of a reconstructed case: what the recipe asks for, else what the camera's software would store."""
    heart = acquisition.heart
    if recipe.domain == "short_axis":
        patient = acquisition.patient
        stream = Stream(patient.seed, patient.index, "reorientation", 1 + STUDIES.index(patient.study))
        matrix, pixel_mm = recipe.matrix or SHORT_AXIS_MATRIX, recipe.pixel_mm or SHORT_AXIS_PIXEL_MM
        return short_axis_grid(heart, stream, matrix=matrix, pixel_mm=pixel_mm, slice_mm=recipe.slice_mm)
    center_mm = heart.to_world(np.array([0.0, 0.0, 0.45 * heart.length_mm]))
    if recipe.matrix is None and recipe.pixel_mm is None:
        if recipe.protocol == "czt":
            return transaxial_grid(center_mm, CZT_SHAPE, acquisition.protocol.camera.pixel_mm)
        return reconstructed
    pixel_mm = recipe.pixel_mm or acquisition.protocol.camera.pixel_mm
    matrix = recipe.matrix or acquisition.protocol.camera.num_bins
    shape = (round(acquisition.protocol.slab_mm / pixel_mm), matrix, matrix)
    return transaxial_grid(center_mm, shape, pixel_mm)
