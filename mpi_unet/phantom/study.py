r"""One patient's study: from the patient to projections, reconstructed volume and outlines.

    patient -> heart and torso -> expected counts -> counts -> transaxial volume -> short-axis slices
                              \-> truth and readers on the same grid

Nothing is kept between patients except tables that all of them share, so memory does not grow with the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from mpi_unet.errors import CohortError
from mpi_unet.phantom.camera import CAMERAS, Camera
from mpi_unet.phantom.heart import Heart, HeartFields, contraction_of_gate
from mpi_unet.phantom.patient import STUDIES, Patient
from mpi_unet.phantom.projector import Attenuation, Projector
from mpi_unet.phantom.random_streams import Stream, poisson_counts
from mpi_unet.phantom.reconstruction import butterworth, filtered_back_projection, hann, osem
from mpi_unet.phantom.reorientation import Grid, transaxial_grid
from mpi_unet.phantom.torso import SOFT_TISSUE_MU_PER_MM, skin_distance_mm, torso_maps
from mpi_unet.phantom.truth import occupancy

__all__ = [
    "BREATHING_SD_PER_PEAK",
    "GATES_OF_SUMMED",
    "RECONSTRUCTIONS",
    "Acquisition",
    "Protocol",
    "Reconstruction",
    "acquire",
    "object_maps",
    "protocol_named",
    "reconstruct",
]

FINE_PIXELS, FINE_MM = 128, 3.2
"""Grid of the simulated object in plane: half of a camera pixel, so that the camera's own sampling is simulated too."""

GATES_OF_SUMMED = 8
"""Steps of the cardiac cycle that an ungated image is averaged over."""

BREATHING_SD_PER_PEAK = 0.35
"""Standard deviation of a breathing curve as a share of its peak-to-peak amplitude (a raised cosine has 0.35)."""


RECONSTRUCTIONS = ("osem", "osem_corrected", "fbp")
"""``osem_corrected`` knows the attenuation map, the collimator and the scatter, as a scanner with CT would."""


@dataclass(frozen=True)
class Protocol:
    """How a study is acquired and reconstructed.

    Attributes:
        camera: The camera.
        num_gates: Gates of the cardiac cycle; 1 is an ungated study.
        reconstruction: One of ``RECONSTRUCTIONS``.
        num_iterations: Of OSEM.
        num_subsets: Of OSEM.
        low_pass: Filter after reconstruction, ``butterworth`` or ``hann``.
        cutoff_per_cm: Of that filter, cycles per cm.
        order: Of the Butterworth filter.
        slab_mm: Height of the transaxial slab around the heart that is reconstructed.
        activity_mbq: Mean and standard deviation of the activity at the time of imaging.
        seconds: Time that the heart is in view of a head, summed over heads.
        counts_per_mbq_s: Mean and standard deviation of the counts from the left ventricle per MBq in the patient and
            second.
    """

    camera: Camera
    num_gates: int = 1
    reconstruction: str = "osem"
    num_iterations: int = 8
    num_subsets: int = 4
    low_pass: str = "butterworth"
    cutoff_per_cm: float = 0.40
    order: float = 5.0
    slab_mm: float = 250.0
    activity_mbq: tuple[float, float] = (750.0, 120.0)
    seconds: float = 704.0
    counts_per_mbq_s: tuple[float, float] = (0.60, 0.10)

    @property
    def contractions(self) -> tuple[tuple[float, ...], ...]:
        """Contractions that each gate of the study is averaged over."""
        if self.num_gates == 1:
            return (tuple(contraction_of_gate(gate, GATES_OF_SUMMED) for gate in range(GATES_OF_SUMMED)),)
        return tuple((contraction_of_gate(gate, self.num_gates),) for gate in range(self.num_gates))


def protocol_named(name: str, *, num_gates: int = 1, reconstruction: str = "osem") -> Protocol:
    """The protocol of a camera: ``parallel_hole`` or ``czt``.

    Counts of the left ventricle: 0.6 per MBq and second for a two-headed camera, 5.6 for a solid-state cardiac
    camera, with the spread seen between patients (Imbert et al., J Nucl Med 2012;53:1897).
    """
    protocol = Protocol(CAMERAS[name], num_gates=num_gates, reconstruction=reconstruction)
    if reconstruction == "osem_corrected":
        protocol = replace(protocol, num_subsets=10)  # blur in the model slows convergence down
    if name == "czt":
        protocol = replace(
            protocol,
            cutoff_per_cm=0.65,
            order=7.0,
            slab_mm=200.0,
            activity_mbq=(330.0, 60.0),
            seconds=360.0,
            counts_per_mbq_s=(5.6, 1.4),
        )
    return protocol


@dataclass(frozen=True)
class Acquisition:
    """What the camera recorded, and the simulation behind it.

    Attributes:
        patient: The patient in this study.
        heart: The patient's heart.
        fields: Fields of the heart, one per gate.
        protocol: How it was acquired.
        radius_mm: Distance of the collimator from the axis at each view.
        expected: Expected counts (view, u, gate, z), z toward the head.
        scatter: The scattered part of them.
        counts: Recorded counts, same axes.
        ventricle_counts: Expected counts from the left ventricle over the whole study.
        attenuation: Attenuation map (y x, z) per mm, where the camera's own grid is that of the map; else None.
    """

    patient: Patient
    heart: Heart
    fields: tuple[HeartFields, ...]
    protocol: Protocol
    radius_mm: np.ndarray
    expected: Float32[np.ndarray, "view u gate z"]
    scatter: Float32[np.ndarray, "view u gate z"]
    counts: Float32[np.ndarray, "view u gate z"]
    ventricle_counts: float
    attenuation: Float32[np.ndarray, "yx z"] | None

    @property
    def views(self) -> Float32[np.ndarray, "gate view row column"]:
        """Recorded counts as the camera shows them: rows from the head down, columns toward the patient's left."""
        return np.ascontiguousarray(self.counts[..., ::-1].transpose(2, 0, 3, 1))


def acquire(patient: Patient, protocol: Protocol) -> Acquisition:
    """Simulate the acquisition of one study."""
    heart = Heart(patient)
    fields = tuple(heart.fields(contractions) for contractions in protocol.contractions)
    camera = protocol.camera
    draw = Stream(patient.seed, patient.index, "acquisition", 1 + STUDIES.index(patient.study))
    radius_mm = skin_distance_mm(patient, camera.view_angles_deg) + camera.gap_mm + draw.uniform(0, 25)
    activity, ventricle, attenuation = object_maps(heart, fields, camera)
    projector = Projector(
        camera,
        FINE_PIXELS,
        FINE_MM,
        radius_mm=radius_mm,
        attenuation=Attenuation(attenuation, coarseness=2),
        keep_counts=True,
    )
    shape = (camera.num_views, camera.num_bins, len(fields), camera.num_rows)
    primary, scatter = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for view in range(camera.num_views):
        primary[view], scatter[view] = projector.forward_with_scatter(activity, view)
    some_views = range(0, camera.num_views, max(1, camera.num_views // 12))
    from_ventricle = sum(float(projector.forward(ventricle, view).sum()) for view in some_views)
    from_ventricle *= camera.num_views / len(some_views)
    activity_mbq = draw.normal(*protocol.activity_mbq, 0.6 * protocol.activity_mbq[0], 1.5 * protocol.activity_mbq[0])
    mean_rate, sd_rate = protocol.counts_per_mbq_s
    rate = draw.normal(mean_rate, sd_rate, 0.5 * mean_rate, 1.6 * mean_rate)
    stoutness = np.exp(-0.025 * (patient.body.bmi - 27))  # more tissue, fewer counts
    ventricle_counts = activity_mbq * protocol.seconds * rate * float(stoutness)
    scale = np.float32(ventricle_counts / from_ventricle / len(fields))
    primary *= scale
    scatter *= scale
    expected = primary + scatter
    noise = Stream(patient.seed, patient.index, "counts", 1 + STUDIES.index(patient.study), protocol.num_gates)
    counts = poisson_counts(expected, noise.uniforms(shape))
    same_grid = camera.num_bins == FINE_PIXELS // 2 and camera.pixel_mm == 2 * FINE_MM
    return Acquisition(
        patient=patient,
        heart=heart,
        fields=fields,
        protocol=protocol,
        radius_mm=radius_mm,
        expected=expected,
        scatter=scatter,
        counts=counts,
        ventricle_counts=ventricle_counts,
        attenuation=attenuation if same_grid else None,
    )


def object_maps(
    heart: Heart, fields: tuple[HeartFields, ...], camera: Camera
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The patient on the grid of the simulation, blurred by breathing.

    Returns:
        Activity (y x, gate, z); activity of the left ventricle alone, averaged over gates, (y x, 1, z); attenuation
        per mm (y x, z) on the grid twice as coarse in plane.
    """
    patient, size, depth_mm = heart.patient, FINE_PIXELS, camera.pixel_mm
    fine = (np.arange(size) - (size - 1) / 2) * FINE_MM
    coarse = (np.arange(size // 2) - (size // 2 - 1) / 2) * 2 * FINE_MM
    along = (np.arange(camera.num_rows) - (camera.num_rows - 1) / 2) * depth_mm
    torso = torso_maps(patient, coarse, coarse, along, 2 * FINE_MM)
    background = np.repeat(np.repeat(torso.activity, 2, axis=0), 2, axis=1)
    middle = heart.to_world(np.array([-10.0, 0.0, 0.42 * heart.length_mm]))
    half_mm = 0.5 * heart.full_length_mm + 42.0
    rows, columns = _near(fine, middle[1], half_mm), _near(fine, middle[0], half_mm)
    slices = _near(along, middle[2], half_mm)
    parts = max(1, round(depth_mm / FINE_MM))
    within = ((np.arange(parts) + 0.5) / parts - 0.5) * depth_mm
    x, y, z = np.meshgrid(fine[columns], fine[rows], along[slices], indexing="xy")
    activity = np.repeat(background[:, :, None, :], len(fields), axis=2)
    ventricle = np.zeros((size, size, 1, camera.num_rows), np.float32)
    occupied_share = np.zeros((size, size, camera.num_rows), np.float32)
    box = np.ix_(rows, columns, slices)
    inner = background[box]
    for gate, field in enumerate(fields):
        occupied, own, left = (np.zeros(x.shape, np.float32) for _ in range(3))
        for offset in within:
            points = heart.to_heart_frame(np.stack([x, y, z + offset], axis=-1))
            right_wall = occupancy(field.right_wall, field, points)
            blood = occupancy(field.blood, field, points)
            filled = occupancy(field.filled, field, points)
            left += occupancy(field.activity, field, points)
            own += right_wall * np.float32(patient.uptake.right_ventricle) + blood * np.float32(patient.uptake.blood)
            occupied += np.minimum(filled + right_wall + blood, 1)
        occupied, own, left = occupied / parts, own / parts, left / parts
        activity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, gate, slices[0] : slices[-1] + 1] = (
            inner * (1 - occupied) + own + left
        )
        ventricle[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, 0, slices[0] : slices[-1] + 1] += left / len(
            fields
        )
        occupied_share[box] += occupied / len(fields)
    heart_share = occupied_share.reshape(size // 2, 2, size // 2, 2, -1).mean((1, 3))
    attenuation = torso.attenuation_per_mm + heart_share * (SOFT_TISSUE_MU_PER_MM - torso.attenuation_per_mm)
    sd_mm = BREATHING_SD_PER_PEAK * patient.heart.breathing_mm
    activity, ventricle = (_breathing(maps, sd_mm / depth_mm) for maps in (activity, ventricle))
    return (
        activity.reshape(size * size, len(fields), -1),
        ventricle.reshape(size * size, 1, -1),
        attenuation.astype(np.float32).reshape(size * size // 4, -1),
    )


def _near(axis: np.ndarray, middle: float, half: float) -> np.ndarray:
    return np.flatnonzero(np.abs(axis - middle) < half)


def _breathing(maps: np.ndarray, sd_slices: float) -> np.ndarray:
    """Blur along z with the distribution of positions over the breathing cycle; counts at the ends stay."""
    shifts = np.arange(-4, 5)
    weights = np.exp(-0.5 * (shifts / max(sd_slices, 1e-3)) ** 2)
    weights /= weights.sum()
    blurred = np.zeros_like(maps)
    last = maps.shape[-1] - 1
    for shift, weight in zip(shifts, weights, strict=True):
        if weight > 1e-5:
            blurred += np.float32(weight) * maps[..., np.clip(np.arange(last + 1) + shift, 0, last)]
    return blurred


@dataclass(frozen=True)
class Reconstruction:
    """A transaxial volume (gate, z, y, x) and where it lies."""

    volumes: Float32[np.ndarray, "gate z y x"]
    grid: Grid


def reconstruct(acquisition: Acquisition) -> Reconstruction:
    """Reconstruct the slab around the heart and filter it."""
    protocol, heart = acquisition.protocol, acquisition.heart
    camera = protocol.camera
    middle_mm = heart.to_world(np.array([0.0, 0.0, 0.45 * heart.length_mm]))[2]
    along = (np.arange(camera.num_rows) - (camera.num_rows - 1) / 2) * camera.pixel_mm
    slices = _near(along, middle_mm, protocol.slab_mm / 2)
    views = np.ascontiguousarray(acquisition.counts[..., slices])
    radius_mm, attenuation, scatter = None, None, None
    if protocol.reconstruction == "osem_corrected":
        if acquisition.attenuation is None:
            raise CohortError(
                "reconstruction: is 'osem_corrected', but the attenuation map does not lie on the grid of "
                f"{camera.name} ({camera.num_bins} x {camera.pixel_mm:g} mm); expected protocol=parallel_hole, or "
                "reconstruction=osem"
            )
        radius_mm = acquisition.radius_mm
        attenuation = Attenuation(np.ascontiguousarray(acquisition.attenuation[:, slices]))
        scatter = np.ascontiguousarray(acquisition.scatter[..., slices])
    projector = Projector(camera, camera.num_bins, camera.pixel_mm, radius_mm=radius_mm, attenuation=attenuation)
    if protocol.reconstruction == "fbp":
        columns = filtered_back_projection(projector, views)
    else:
        iterations, subsets = protocol.num_iterations, protocol.num_subsets
        columns = osem(projector, views, num_iterations=iterations, num_subsets=subsets, scatter=scatter)
    size = camera.num_bins
    spacing_mm = (camera.pixel_mm,) * 3
    volumes = []
    for gate in range(len(acquisition.fields)):
        volume = columns[:, gate].reshape(size, size, -1)
        if protocol.low_pass == "hann":
            smooth = hann(volume, spacing_mm, protocol.cutoff_per_cm)
        else:
            smooth = butterworth(volume, spacing_mm, protocol.cutoff_per_cm, protocol.order)
        volumes.append(np.ascontiguousarray(smooth.transpose(2, 0, 1)))
    center_mm = np.array([0.0, 0.0, float(along[slices].mean())])
    return Reconstruction(np.stack(volumes), transaxial_grid(center_mm, (len(slices), size, size), camera.pixel_mm))
