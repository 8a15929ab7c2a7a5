"""The modules that Nuclear Medicine images are composed of, each a function that fills its part of a dataset.

A *module* is DICOM's word for a group of attributes that belong together; the paragraph of PS3.3 that defines it
stands with each function. Attributes of type 1 must have a value, those of type 2 may be empty, those of type 3 may
be absent.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

import mpi_unet
from mpi_unet.dicom import codes
from mpi_unet.dicom.geometry import Orbit

__all__ = [
    "FRAME_INCREMENT_POINTER",
    "LARGEST_SCALED",
    "Acquisition",
    "Gating",
    "SyntheticIdentity",
    "add_acquisition",
    "add_gating",
    "add_identity",
    "add_orbit",
    "add_vectors",
    "decimals",
    "unique_id",
    "value_mapping",
]

FRAME_INCREMENT_POINTER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "TOMO": ("EnergyWindowVector", "DetectorVector", "RotationVector", "AngularViewVector"),
        "GATED TOMO": (
            "EnergyWindowVector",
            "DetectorVector",
            "RotationVector",
            "RRIntervalVector",
            "TimeSlotVector",
            "AngularViewVector",
        ),
        "RECON TOMO": ("SliceVector",),
        "RECON GATED TOMO": ("RRIntervalVector", "TimeSlotVector", "SliceVector"),
    }
)
"""Enumerated in PS3.3 table C.8-8; the last vector changes fastest."""

LARGEST_SCALED = 32_767
"""Scaled values stay within 15 bits, so that software which takes them for signed reads them rightly all the same."""

NOT_A_DATE = "19000101"
"""Indexes and date queries need some date; nobody takes this one for the day of a SPECT study."""

NAMESPACE = uuid.UUID("5a6c1e0c-6f0b-5d4e-9d0b-2a6f8e1f7c11")
"""Root of the name-based UUIDs that become identifiers under 2.25."""


@dataclass(frozen=True)
class SyntheticIdentity:
    """Who was never there.

    Attributes:
        key: Distinguishes one phantom patient from all others, e.g. ``"7-0003"`` for number 3 of seed 7. The same key
            and study give the same identifiers of patient, study, series and frame of reference.
        study: Rest or stress.
        sex: Empty where it plays no role.
        height_m: Of the phantom.
        weight_kg: Of the phantom.

    Raises:
        ValueError: The key holds anything but letters, digits and hyphens, or is longer than 40 characters.
    """

    key: str
    study: Literal["rest", "stress"] = "stress"
    sex: Literal["F", "M", ""] = ""
    height_m: float | None = None
    weight_kg: float | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9-]{1,40}", self.key):
            raise ValueError(
                f"identity key {self.key!r} must be 1 to 40 letters, digits or hyphens; it becomes the PatientID"
            )


@dataclass(frozen=True)
class Acquisition:
    """How the camera was set up.

    Attributes:
        tracer: What was injected.
        energy_window_kev: Lower and upper limit of the photon energies that were counted; 20 % about 140.5 keV.
        collimator: Name of the parallel-hole collimator.
        prone: The patient lay on the belly instead of the back.
        feet_first: The feet entered the gantry first. It changes nothing about LPS.
    """

    tracer: Literal["sestamibi", "tetrofosmin"] = "sestamibi"
    energy_window_kev: tuple[float, float] = (126.45, 154.55)
    collimator: str = "LEHR"
    prone: bool = False
    feet_first: bool = False


@dataclass(frozen=True)
class Gating:
    """How beats were cut into gates.

    Attributes:
        rr_interval_ms: Mean duration of an accepted beat.
        num_beats: Accepted beats, all views together.
        window_fraction: Beats within this fraction of the mean duration, up or down, are accepted.

    Raises:
        ValueError: A duration or number is not positive.
    """

    rr_interval_ms: float = 857.0
    num_beats: int = 1_000
    window_fraction: float = 0.2

    def __post_init__(self) -> None:
        if not self.rr_interval_ms > 0 or self.num_beats < 1 or not 0 < self.window_fraction < 1:
            raise ValueError(f"{self} needs a positive interval, at least one beat and a window between 0 and 1")


def unique_id(*parts: str) -> UID:
    """The same identifier for the same parts: a name-based UUID under 2.25 (PS3.5 B.2), which needs no root of ours.

    Example:
        >>> unique_id("study", "7-0003") == unique_id("study", "7-0003") != unique_id("study", "7-0004")
        True
    """
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(parts)).int}")


def decimals(values: Iterable[float]) -> list[DSfloat]:
    """Numbers as decimal strings of at most 16 characters."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def add_identity(dataset: Dataset, kind: str, identity: SyntheticIdentity, content: str) -> None:
    """Patient, study, series, frame of reference and equipment (C.7.1.1, C.7.2, C.7.3.1, C.7.4.1, C.7.5.1)."""
    study = ("study", identity.key, identity.study)
    description = f"SPECT MPI {identity.study}"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = f"SYNTHETIC^{identity.key}"
    dataset.PatientID = f"SYNTHETIC-{identity.key}"
    dataset.PatientBirthDate, dataset.PatientSex = "", identity.sex
    dataset.QualityControlSubject = "YES"  # not a person, but a phantom
    dataset.ImageComments = "Simulated phantom data, not a patient"
    if identity.height_m is not None:
        dataset.PatientSize = decimals([identity.height_m])[0]
    if identity.weight_kg is not None:
        dataset.PatientWeight = decimals([identity.weight_kg])[0]
    dataset.StudyInstanceUID = unique_id(*study)
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = NOT_A_DATE
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "000000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyID = identity.study.upper()
    dataset.StudyDescription = description
    dataset.SeriesInstanceUID = unique_id("series", *study, kind, content)
    dataset.SeriesNumber = list(FRAME_INCREMENT_POINTER).index(kind) + 1
    dataset.SeriesDescription = f"{description} {kind.lower()} {content}"
    dataset.InstanceNumber = 1
    dataset.Modality, dataset.BodyPartExamined = "NM", "HEART"
    dataset.FrameOfReferenceUID = unique_id("frame of reference", *study)
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer, dataset.ManufacturerModelName = "mpi_unet", "phantom"
    dataset.SoftwareVersions = mpi_unet.__version__


def add_acquisition(dataset: Dataset, identity: SyntheticIdentity, acquisition: Acquisition) -> None:
    """Posture, energy window, tracer, collimator, rest or stress (C.8.4.6, C.8.4.10, C.8.4.11, C.7.6.14)."""
    orientation = codes.RECUMBENT.item()
    orientation.PatientOrientationModifierCodeSequence = [(codes.PRONE if acquisition.prone else codes.SUPINE).item()]
    dataset.PatientOrientationCodeSequence = [orientation]
    gantry = codes.FEET_FIRST if acquisition.feet_first else codes.HEAD_FIRST
    dataset.PatientGantryRelationshipCodeSequence = [gantry.item()]

    limits = Dataset()
    limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = decimals(acquisition.energy_window_kev)
    window = Dataset()
    window.EnergyWindowRangeSequence = [limits]
    window.EnergyWindowName = "Tc99m photopeak"
    dataset.NumberOfEnergyWindows, dataset.EnergyWindowInformationSequence = 1, [window]

    tracer = Dataset()
    tracer.Radiopharmaceutical = f"Tc-99m {acquisition.tracer}"
    tracer.RadionuclideCodeSequence = [codes.TECHNETIUM_99M.item()]
    tracer.RadiopharmaceuticalCodeSequence = [codes.TRACERS[acquisition.tracer].item()]
    dataset.RadiopharmaceuticalInformationSequence = [tracer]

    detector = Dataset()
    detector.CollimatorGridName, detector.CollimatorType, detector.FocalDistance = acquisition.collimator, "PARA", 0
    dataset.NumberOfDetectors, dataset.DetectorInformationSequence = 1, [detector]

    state = Dataset()
    state.ValueType = "CODE"
    state.ConceptNameCodeSequence = [codes.PATIENT_STATE.item()]
    state.ConceptCodeSequence = [codes.PATIENT_STATES[identity.study].item()]
    dataset.AcquisitionContextSequence = [state]


def add_vectors(dataset: Dataset, kind: str, shape: tuple[int, ...]) -> None:
    """What each frame is (C.8.4.8): one number from 1 a frame and vector.

    Args:
        dataset: Gets Frame Increment Pointer, the vectors that it names and the numbers that they run to.
        kind: Value 3 of Image Type.
        shape: Axes of the array that vary from frame to frame: views, gates and views, slices, or gates and slices.
    """
    names = FRAME_INCREMENT_POINTER[kind]
    dataset.FrameIncrementPointer = [tag_for_keyword(name) for name in names]
    numbers = dict(zip(names[-len(shape) :], np.indices(shape).reshape(len(shape), -1) + 1, strict=True))
    for name in names:
        setattr(dataset, name, numbers[name].tolist() if name in numbers else [1] * dataset.NumberOfFrames)
    dataset.NumberOfRotations = 1
    if "RRIntervalVector" in names:
        dataset.NumberOfRRIntervals, dataset.NumberOfTimeSlots = 1, shape[0]
    if "SliceVector" in names:
        dataset.NumberOfSlices = shape[-1]


def add_orbit(dataset: Dataset, orbit: Orbit) -> None:
    """Where the camera stood (C.8.4.12)."""
    rotation = Dataset()
    rotation.StartAngle, rotation.ScanArc, rotation.AngularStep = decimals(
        (orbit.angles_deg[0], orbit.arc_deg, orbit.step_deg)
    )
    rotation.RotationDirection = "CW" if orbit.clockwise else "CC"
    rotation.NumberOfFramesInRotation = orbit.num_views
    rotation.ActualFrameDuration = orbit.frame_duration_ms
    rotation.RadialPosition = decimals(orbit.radii_mm)
    dataset.RotationInformationSequence = [rotation]
    dataset.TypeOfDetectorMotion = "STEP AND SHOOT"


def add_gating(dataset: Dataset, gating: Gating, num_gates: int) -> None:
    """How the heartbeat was cut (C.8.4.13): one range of beat durations, one item for the sum of all views."""
    frame_ms = gating.rr_interval_ms / num_gates
    slots = []
    for _ in range(num_gates):
        slot = Dataset()
        slot.TimeSlotTime = decimals([frame_ms * gating.num_beats])[0]
        slots.append(slot)
    data = Dataset()
    data.FrameTime = decimals([frame_ms])[0]
    data.NominalInterval = round(gating.rr_interval_ms)
    data.LowRRValue = round(gating.rr_interval_ms * (1 - gating.window_fraction))
    data.HighRRValue = round(gating.rr_interval_ms * (1 + gating.window_fraction))
    data.IntervalsAcquired, data.IntervalsRejected = gating.num_beats, 0
    data.TimeSlotInformationSequence = slots
    interval = Dataset()
    interval.TriggerTime = 0
    interval.DataInformationSequence = [data]
    dataset.BeatRejectionFlag = "Y"
    dataset.HeartRate = round(60_000 / gating.rr_interval_ms)
    dataset.TriggerSourceOrType = "EKG"
    dataset.GatedInformationSequence = [interval]


def value_mapping(slope: float) -> Dataset:
    """How stored numbers lead back to values: ``value = slope * stored`` (C.7.6.1 with C.7.6.16.2.11)."""
    mapping = Dataset()
    mapping.add_new("RealWorldValueFirstValueMapped", "US", 0)
    mapping.add_new("RealWorldValueLastValueMapped", "US", LARGEST_SCALED)
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, slope
    mapping.LUTLabel, mapping.LUTExplanation = "COUNTS", "Reconstructed counts per voxel"
    mapping.MeasurementUnitsCodeSequence = [codes.COUNTS.item()]
    return mapping
