"""Nuclear Medicine images, read by PS3.3 C.8.4: what they are, what their frames mean, and where their voxels lie.

Kinds, vectors, geometry, angles and pixels each have a module of their own (``kind``, ``frames``,
``geometry``, ``rotation``, ``pixels``); here they become one value. docs/nm_dicom.md gives the rules with
their reasons, and shows what other readers make of the same files.

*Geometry unknown* means that the file does not say where its voxels lie. Nothing is invented then: `NmImage.stack` and
`NmImage.affine_ras` are None, and the first of `NmImage.warnings` says which attribute is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Integer
from pydicom.dataset import Dataset

from mpi_unet.dicom.geometry import SliceStack, lps_from_ras
from mpi_unet.dicom.nm.elements import Elements, tag_text
from mpi_unet.dicom.nm.file import open_dataset, out_of_order, quiet, transfer_syntax, zero_padding
from mpi_unet.dicom.nm.frames import FrameVectors, frame_vectors, placed
from mpi_unet.dicom.nm.geometry import Geometry, pixel_mm_of, stack_of
from mpi_unet.dicom.nm.header import NmHeader, header_of, read_header
from mpi_unet.dicom.nm.kind import NmKind, kind_of, require_nuclear_medicine
from mpi_unet.dicom.nm.pixels import (
    RealWorldMapping,
    Rescale,
    frame_size,
    real_world_of,
    rescale_of,
    stored_frames,
)
from mpi_unet.dicom.nm.views import Views, views_of
from mpi_unet.errors import DicomError
from mpi_unet.shapes import Affine, SpacingMm

__all__ = ["NmHeader", "NmImage", "NmKind", "RealWorldMapping", "read_header", "read_nm"]


@dataclass(frozen=True)
class NmImage:
    """One Nuclear Medicine image.

    Attributes:
        kind: What it is.
        header: What the file says about itself.
        values: Counts after rescaling. Reconstructions are (gate, z, y, x), projections (gate, view, row, column), all
            others (frame, row, column) in the order of the file. Gates and z follow the vectors, not the order of the
            file. Empty along the last two axes when the pixels were not asked for.
        stored: The same as the file stores it.
        vectors: For each vector its number, from 1, for each frame in the order of the file.
        pixel_mm: Distance of neighboring rows, then of neighboring columns; None where unknown.
        slice_mm: Distance of neighboring slices of a reconstruction, always positive; None where unknown.
        stack: Where the voxels of a reconstruction lie, in LPS; None where unknown, and for all other kinds.
        views: Where the camera stood for each view of a projection set; None for all other kinds.
        gate_ms: Duration of a gate; None where unknown or not gated.
        rescale: What was applied to ``stored``.
        real_world: Mappings to real-world values that the file offers, not applied.
        warnings: What was assumed, what is missing and what contradicts what, in sentences without identities.
    """

    kind: NmKind
    header: NmHeader
    values: Float32[np.ndarray, "..."]
    stored: Integer[np.ndarray, "..."]
    vectors: FrameVectors
    pixel_mm: tuple[float, float] | None
    slice_mm: float | None
    stack: SliceStack | None
    views: Views | None
    gate_ms: float | None
    rescale: Rescale
    real_world: tuple[RealWorldMapping, ...]
    warnings: tuple[str, ...]

    @property
    def sop_class_uid(self) -> str:
        """What kind of object it is."""
        return self.header.sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        """This very object; empty where unknown, like the next three."""
        return self.header.sop_instance_uid

    @property
    def series_uid(self) -> str:
        """Its series."""
        return self.header.series_uid

    @property
    def study_uid(self) -> str:
        """Its study."""
        return self.header.study_uid

    @property
    def frame_of_reference_uid(self) -> str:
        """What its coordinates refer to."""
        return self.header.frame_of_reference_uid

    @property
    def num_gates(self) -> int:
        """Parts of the heartbeat; 1 when it is not gated."""
        return int(self.stored.shape[0]) if self.stored.ndim == 4 else 1

    @property
    def spacing_mm(self) -> SpacingMm | None:
        """Distance of neighboring voxels along (z, y, x); known more often than their place."""
        if self.pixel_mm is None or self.slice_mm is None:
            return None
        return self.slice_mm, *self.pixel_mm

    @property
    def affine_ras(self) -> Affine | None:
        """Voxel index (x, y, z) of a reconstruction to millimeters in RAS; None where the geometry is unknown."""
        return None if self.stack is None else lps_from_ras(self.stack.affine_lps)

    @property
    def angles_deg(self) -> tuple[float, ...] | None:
        """DICOM's detector angle of each view; None where unknown."""
        return None if self.views is None else self.views.angles_deg


def read_nm(
    source: str | Path | Dataset,
    *,
    pixels: bool = True,
    energy_window: int | None = None,
    rr_interval: int | None = None,
    detector: int | None = None,
    rotation: int | None = None,
    position_of: Literal["slice 1", "first frame"] = "slice 1",
) -> NmImage:
    """Read a Nuclear Medicine image.

    Args:
        source: A file of any name, or a dataset that was read already.
        pixels: Read the pixels; without them everything else is checked all the same.
        energy_window: Which one to take, from 1, where a file has several.
        rr_interval: Which range of beat durations to take, from 1, where a file has several.
        detector: Which detector to take, from 1; all of one orbit are joined when this is None.
        rotation: Which rotation to take, from 1; all are joined when this is None and none repeats another.
        position_of: What Image Position (Patient) is the place of when the first frame is not slice 1
            (docs/nm_dicom.md).

    Raises:
        DicomError: The file is no Nuclear Medicine image, is damaged, contradicts itself, or needs a choice; the text
            names the file, the attribute, what was found and what was expected.
    """
    where = "dataset" if isinstance(source, Dataset) else Path(source).name
    dataset = source if isinstance(source, Dataset) else open_dataset(Path(source), pixels=pixels)
    choice = {
        "EnergyWindowVector": energy_window,
        "RRIntervalVector": rr_interval,
        "DetectorVector": detector,
        "RotationVector": rotation,
    }
    misplaced = "" if isinstance(source, Dataset) else out_of_order(dataset)
    with quiet():
        image = _image(Elements(dataset, where), pixels, choice, position_of)
    said = []
    if misplaced:
        said.append(f"the data elements do not ascend after {misplaced}; the file may be damaged")
    padding = zero_padding(dataset)
    if padding:
        said.append(f"{tag_text('PixelData')} is followed by {padding} zero bytes, which were taken for padding")
    return replace(image, warnings=(*image.warnings, *said)) if said else image


# --- Private helpers --------------------------------------------------------------------------------------------------

ARGUMENTS = {
    "EnergyWindowVector": ("energy windows", "energy_window"),
    "RRIntervalVector": ("R-R intervals", "rr_interval"),
    "DetectorVector": ("detectors", "detector"),
    "RotationVector": ("rotations", "rotation"),
}


def _image(
    elements: Elements,
    pixels: bool,
    choice: dict[str, int | None],
    position_of: Literal["slice 1", "first frame"],
) -> NmImage:
    require_nuclear_medicine(elements)
    kind = kind_of(elements)
    vectors = frame_vectors(elements, kind)
    warnings = list(vectors.warnings)
    pixel_mm = pixel_mm_of(elements)
    if pixel_mm is None:
        warnings.append(f"{tag_text('PixelSpacing')} is missing; the size of a pixel is unknown")
    geometry, views = Geometry(None, None, ()), None
    if kind.is_volume:
        order = _volume_order(elements, vectors, choice)
        first_slice = int(vectors.numbers["SliceVector"][int(order.min())])
        geometry = stack_of(elements, pixel_mm, first_slice, position_of)
        warnings = [*geometry.warnings, *warnings]
    elif kind.is_projections:
        chosen = _chosen(elements, vectors, choice, ("EnergyWindowVector", "RRIntervalVector"))
        order, views = views_of(elements, vectors, chosen, warnings)
    else:
        order = np.flatnonzero(_selected(elements, vectors, choice))
    size = frame_size(elements, vectors.num_frames)
    rescale = rescale_of(elements)
    real_world = real_world_of(elements, warnings)
    if pixels:
        syntax = transfer_syntax(elements.dataset)
        stored = stored_frames(elements, size, vectors.num_frames, syntax)[order]
    else:
        stored = np.empty((*order.shape, 0, 0), size.dtype.newbyteorder("="))
    return NmImage(
        kind=kind,
        header=header_of(elements),
        values=rescale(stored),
        stored=stored,
        vectors=vectors,
        pixel_mm=pixel_mm,
        slice_mm=geometry.slice_mm,
        stack=geometry.stack,
        views=views,
        gate_ms=_gate_ms(elements) if kind.is_gated else None,
        rescale=rescale,
        real_world=real_world,
        warnings=tuple(warnings),
    )


def _selected(elements: Elements, vectors: FrameVectors, choice: dict[str, int | None]) -> np.ndarray:
    """Which frames the caller's choice leaves."""
    selected = np.ones(vectors.num_frames, dtype=bool)
    for name, number in choice.items():
        if number is None:
            continue
        what, argument = ARGUMENTS[name]
        if name not in vectors.numbers or number not in vectors.numbers[name]:
            there = sorted(set(vectors.numbers[name].tolist())) if name in vectors.numbers else [1]
            raise DicomError(
                f"{elements.where}: {argument}={number} was asked for, but {tag_text(name)} has the {what} "
                f"{', '.join(map(str, there))}; choose one of them"
            )
        selected &= vectors.numbers[name] == number
    if not selected.any():
        raise DicomError(
            f"{elements.where}: no frame has all of "
            f"{', '.join(f'{ARGUMENTS[name][1]}={number}' for name, number in choice.items() if number is not None)}; "
            "choose a combination that the file has"
        )
    return selected


def _chosen(
    elements: Elements, vectors: FrameVectors, choice: dict[str, int | None], single: tuple[str, ...]
) -> np.ndarray:
    """The frames that belong into one image; an error that names the choices where there are several images."""
    selected = _selected(elements, vectors, choice)
    for name in single:
        numbers = vectors.numbers.get(name)
        if numbers is None or np.ptp(numbers[selected]) == 0:
            continue
        what, argument = ARGUMENTS[name]
        there = sorted(set(numbers[selected].tolist()))
        named = ", ".join(f"{number}{_described(elements, name, number)}" for number in there)
        raise DicomError(
            f"{elements.where}: {tag_text(name)} has {len(there)} {what} ({named}); expected one image; choose with "
            f"{argument}={there[0]}, for example"
        )
    return np.flatnonzero(selected)


def _described(elements: Elements, name: str, number: int) -> str:
    """The name that the file gives to an energy window."""
    if name != "EnergyWindowVector":
        return ""
    try:
        windows = elements.items("EnergyWindowInformationSequence")
    except DicomError:
        return ""
    text = windows[number - 1].text("EnergyWindowName") if number <= len(windows) else ""
    return f": {text[:40]}" if text else ""


def _volume_order(elements: Elements, vectors: FrameVectors, choice: dict[str, int | None]) -> np.ndarray:
    """Frame numbers (gate, z) of a reconstruction."""
    single = ("EnergyWindowVector", "RRIntervalVector", "DetectorVector", "RotationVector")
    chosen = _chosen(elements, vectors, choice, single)
    if "TimeSlotVector" in vectors.numbers:
        return placed(elements, vectors, ("TimeSlotVector", "SliceVector"), chosen)
    return placed(elements, vectors, ("SliceVector",), chosen)[None]


def _gate_ms(elements: Elements) -> float | None:
    """Duration of a gate, where all that is gated agrees on it."""
    try:
        times = {
            data.decimal("FrameTime")
            for interval in elements.items("GatedInformationSequence")
            for data in interval.items("DataInformationSequence")
        }
    except DicomError:
        return None
    return times.pop() if len(times) == 1 else None
