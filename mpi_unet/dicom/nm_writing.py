"""Arrays become Nuclear Medicine images: DICOM studies for tests and for trying the tools of a clinic.

Four kinds, in the standard's words: ``TOMO`` and ``GATED TOMO`` are the views of the camera, ``RECON TOMO`` and
``RECON GATED TOMO`` the slices made of them. All are multi-frame: what frame k shows is said by vectors of which Frame
Increment Pointer lists the names, the last one changing fastest (PS3.3 table C.8-8). Everything written here calls
itself synthetic, in the patient's name as in the comments, and carries a date that nobody can take for a real one.

Pixels are unsigned 16-bit. Counts are stored as they are. A reconstruction of floating-point values is scaled, and a
Real World Value Mapping leads back to its values: the Rescale Slope of other modalities does not exist in this object
(A.5).

Source:
    DICOM PS3.3 A.5, C.7.6.1, C.7.6.14, C.8.4.6 to C.8.4.15; PS3.5 B.2 for identifiers made from a hash.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import ExplicitVRLittleEndian, NuclearMedicineImageStorage

from mpi_unet.dicom import codes
from mpi_unet.dicom.geometry import Orbit, SliceStack, detector_side, view_directions
from mpi_unet.dicom.nm_modules import (
    FRAME_INCREMENT_POINTER,
    LARGEST_SCALED,
    Acquisition,
    Gating,
    SyntheticIdentity,
    add_acquisition,
    add_gating,
    add_identity,
    add_orbit,
    add_vectors,
    decimals,
    unique_id,
    value_mapping,
)
from mpi_unet.files import sha256, whole_file

__all__ = [
    "Acquisition",
    "Gating",
    "SyntheticIdentity",
    "gated_tomo",
    "recon_gated_tomo",
    "recon_tomo",
    "reordered",
    "tomo",
    "write_dicom",
]

LARGEST_COUNT = 65_535

USUAL = Acquisition()
"""Tc-99m sestamibi, low-energy high-resolution collimator, supine, head first."""


def tomo(
    counts: np.ndarray,
    *,
    spacing_mm: tuple[float, float],
    orbit: Orbit,
    identity: SyntheticIdentity,
    acquisition: Acquisition = USUAL,
) -> Dataset:
    """Views of the camera, summed over the heartbeat: a ``TOMO`` image.

    Args:
        counts: Photons (view, row, column), whole numbers from 0 to 65535. A view is what one sees from the camera:
            row 0 toward the head, column 0 at the left hand of somebody who looks from the camera at the patient.
        spacing_mm: Distance of neighboring rows and of neighboring columns.
        orbit: Where the camera stood for each view.
        identity: The phantom patient.
        acquisition: How the camera was set up.

    Returns:
        A dataset with its file meta information, to be written with `write_dicom`.

    Raises:
        ValueError: ``counts`` has another number of axes or of views, or holds anything but whole numbers in range.
    """
    return _projections(
        "TOMO", _axes(counts, "counts", "view row column"), spacing_mm, orbit, None, identity, acquisition
    )


def gated_tomo(
    counts: np.ndarray,
    *,
    spacing_mm: tuple[float, float],
    orbit: Orbit,
    gating: Gating,
    identity: SyntheticIdentity,
    acquisition: Acquisition = USUAL,
) -> Dataset:
    """Views of the camera for each part of the heartbeat: a ``GATED TOMO`` image, all views of gate 1 first.

    Args:
        counts: Photons (gate, view, row, column), otherwise as for `tomo`.
        spacing_mm: Distance of neighboring rows and of neighboring columns.
        orbit: Where the camera stood for each view.
        gating: How beats were cut into gates.
        identity: The phantom patient.
        acquisition: How the camera was set up.

    Raises:
        ValueError: As for `tomo`.
    """
    frames = _axes(counts, "counts", "gate view row column")
    return _projections("GATED TOMO", frames, spacing_mm, orbit, gating, identity, acquisition)


def recon_tomo(
    activity: np.ndarray,
    *,
    stack: SliceStack,
    identity: SyntheticIdentity,
    acquisition: Acquisition = USUAL,
    view: Literal["transaxial", "short_axis"] = "transaxial",
    orbit: Orbit | None = None,
) -> Dataset:
    """A reconstructed volume: a ``RECON TOMO`` image.

    Args:
        activity: Values (z, row, column), none negative (clip the undershoot of a filter first). Integers up to 65535
            are stored as they are; floating-point values are scaled to 15 bits, with the mapping back to them.
        stack: Where the voxels lie; the sign of its step becomes that of Spacing Between Slices.
        identity: The phantom patient.
        acquisition: How the camera was set up.
        view: What the slices cut: the body, or the left ventricle across its long axis.
        orbit: Where the camera stood for the views that the volume was made of; left out where None.

    Raises:
        ValueError: ``activity`` has another number of axes, or holds anything negative, infinite, NaN or too large.
    """
    frames = _axes(activity, "activity", "z row column")
    return _reconstruction("RECON TOMO", frames, stack, None, identity, acquisition, view, orbit)


def recon_gated_tomo(
    activity: np.ndarray,
    *,
    stack: SliceStack,
    gating: Gating,
    identity: SyntheticIdentity,
    acquisition: Acquisition = USUAL,
    view: Literal["transaxial", "short_axis"] = "transaxial",
    orbit: Orbit | None = None,
) -> Dataset:
    """A reconstructed volume for each part of the heartbeat: a ``RECON GATED TOMO`` image, all slices of gate 1 first.

    Args:
        activity: Values (gate, z, row, column), otherwise as for `recon_tomo`; all gates share one scale.
        stack: Where the voxels lie, the same for all gates.
        gating: How beats were cut into gates.
        identity: The phantom patient.
        acquisition: How the camera was set up.
        view: What the slices cut.
        orbit: Where the camera stood; left out where None.

    Raises:
        ValueError: As for `recon_tomo`.
    """
    frames = _axes(activity, "activity", "gate z row column")
    return _reconstruction("RECON GATED TOMO", frames, stack, gating, identity, acquisition, view, orbit)


def reordered(dataset: Dataset, order: list[int]) -> Dataset:
    """The same image with its frames, and the vectors that say what they are, in another order.

    Some cameras write slices before gates or the last slice first. Frame Increment Pointer stays as it is, since the
    standard enumerates its values, so that only the vectors tell what a frame is.

    Args:
        dataset: An image of this module.
        order: Which old frame (from 0) stands at each new place.

    Returns:
        A new dataset with a SOP Instance UID of its own.

    Raises:
        ValueError: ``order`` does not name each frame exactly once.
    """
    if sorted(order) != list(range(dataset.NumberOfFrames)):
        raise ValueError(f"order must name each of the {dataset.NumberOfFrames} frames once, got {order}")
    moved = copy.deepcopy(dataset)
    for name in FRAME_INCREMENT_POINTER[dataset.ImageType[2]]:
        vector = np.atleast_1d(dataset[name].value)
        setattr(moved, name, [int(number) for number in vector[order]])
    frames = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.NumberOfFrames, -1)
    moved.PixelData = frames[order].tobytes()
    return _sealed(moved)


def write_dicom(dataset: Dataset, path: str | Path) -> None:
    """Write a DICOM file, whole or not at all; the same dataset gives the same bytes.

    Raises:
        RunError: The disk is full or the folder cannot be written to.
    """
    with whole_file(path) as temporary:
        dcmwrite(temporary, dataset, enforce_file_format=True)


# --- Checking what comes in -------------------------------------------------------------------------------------------


def _axes(values: np.ndarray, name: str, axes: str) -> np.ndarray:
    """The array, when it has the right number of axes and no value that DICOM cannot hold."""
    values = np.asarray(values)
    if values.ndim != len(axes.split()) or 0 in values.shape:
        raise ValueError(
            f"{name} has the shape {values.shape}, expected ({', '.join(axes.split())}), none of them empty"
        )
    if values.dtype.kind not in "uif":
        raise ValueError(f"{name} has the type {values.dtype}, expected integers or floating-point numbers")
    for wrong, what in ((~np.isfinite(values), "is not finite"), (values < 0, "is negative; clip it first")):
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(f"{name}{list(place)} is {values[place]} and {what} ({int(wrong.sum())} such pixels)")
    return values


def _counts(values: np.ndarray) -> np.ndarray:
    """Whole numbers as unsigned 16-bit."""
    if values.max() > LARGEST_COUNT:
        raise ValueError(
            f"the largest pixel is {values.max()}, above {LARGEST_COUNT}, which 16 bits hold; scale reconstructions as "
            "floating-point values, or split counts into more views or gates"
        )
    if (values != np.floor(values)).any():
        raise ValueError("counts must be whole numbers; draw or round them first")
    return values.astype("<u2")


# --- The four kinds ---------------------------------------------------------------------------------------------------


def _projections(
    kind: str,
    counts: np.ndarray,
    spacing_mm: tuple[float, float],
    orbit: Orbit,
    gating: Gating | None,
    identity: SyntheticIdentity,
    acquisition: Acquisition,
) -> Dataset:
    num_views, rows, columns = counts.shape[-3:]
    if num_views != orbit.num_views:
        raise ValueError(f"counts has {num_views} views, but orbit.num_views is {orbit.num_views}")
    if not np.isfinite(spacing_mm).all() or min(spacing_mm) <= 0:
        raise ValueError(f"spacing_mm is {spacing_mm}; both distances must be positive")
    stored = _counts(counts)
    dataset = _image(kind, stored, spacing_mm, gating, identity, acquisition, "projections")
    add_orbit(dataset, orbit)
    dataset.CountsAccumulated = int(stored.sum(dtype=np.int64))
    dataset.AcquisitionTerminationCondition = "TIME"
    row, column = view_directions(orbit.first_angle_deg)
    middle = np.array(orbit.center_mm) + orbit.radii_mm[0] * np.array(detector_side(orbit.first_angle_deg))
    corner = (
        middle - (columns - 1) / 2 * spacing_mm[1] * np.array(row) - (rows - 1) / 2 * spacing_mm[0] * np.array(column)
    )
    detector = dataset.DetectorInformationSequence[0]
    detector.ImagePositionPatient = decimals(corner)
    detector.ImageOrientationPatient = decimals((*row, *column))
    return _sealed(dataset)


def _reconstruction(
    kind: str,
    activity: np.ndarray,
    stack: SliceStack,
    gating: Gating | None,
    identity: SyntheticIdentity,
    acquisition: Acquisition,
    view: Literal["transaxial", "short_axis"],
    orbit: Orbit | None,
) -> Dataset:
    slope = 1.0
    if activity.dtype.kind == "f":
        slope = float(activity.max()) / LARGEST_SCALED or 1.0  # an empty volume needs some slope
        stored = np.round(activity / slope).astype("<u2")
    else:
        stored = _counts(activity)
    dataset = _image(kind, stored, stack.pixel_mm, gating, identity, acquisition, view.replace("_", " "))
    dataset.CountsAccumulated = None  # C.8.4.9.1.2: of acquisitions, not of what is made of them
    dataset.SliceThickness, dataset.SpacingBetweenSlices = decimals((abs(stack.step_mm), stack.step_mm))
    dataset.RotationInformationSequence = []
    if orbit is not None:
        add_orbit(dataset, orbit)
    detector = dataset.DetectorInformationSequence[0]
    detector.ImagePositionPatient = decimals(stack.position_mm)
    detector.ImageOrientationPatient = decimals((*stack.row_direction, *stack.column_direction))
    detector.ViewCodeSequence = [codes.VIEWS[view].item()]
    if activity.dtype.kind == "f":
        dataset.RealWorldValueMappingSequence = [value_mapping(slope)]
    return _sealed(dataset)


def _image(
    kind: str,
    stored: np.ndarray,
    spacing_mm: tuple[float, float],
    gating: Gating | None,
    identity: SyntheticIdentity,
    acquisition: Acquisition,
    content: str,
) -> Dataset:
    """What all kinds share: patient, study, series, equipment, pixels, vectors, energy window and tracer."""
    dataset = Dataset()
    add_identity(dataset, kind, identity, content)
    add_acquisition(dataset, identity, acquisition)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", kind, "EMISSION"]  # C.8.4.9.1.1: reconstructions are ORIGINAL, too
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.NumberOfFrames = int(np.prod(stored.shape[:-2]))
    dataset.PixelSpacing = decimals(spacing_mm)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.WindowCenter, dataset.WindowWidth = decimals((stored.max() / 2, max(float(stored.max()), 1.0)))
    dataset.PixelData = np.ascontiguousarray(stored, "<u2").tobytes()
    add_vectors(dataset, kind, stored.shape[:-2])
    if gating is not None:
        add_gating(dataset, gating, num_gates=stored.shape[0])
    return dataset


def _sealed(dataset: Dataset) -> Dataset:
    """Give the finished image a SOP Instance UID made of all that it holds, so that no two images share one."""
    dataset.pop("SOPInstanceUID", None)
    dataset.SOPClassUID = NuclearMedicineImageStorage
    content = DicomBytesIO()
    content.is_little_endian, content.is_implicit_VR = True, False
    write_dataset(content, dataset)
    dataset.SOPInstanceUID = unique_id("instance", sha256(content.getvalue()))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset
