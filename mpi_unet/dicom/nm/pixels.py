"""The numbers of an image: as they are stored, and the counts that they stand for.

The amount of pixel data is compared with the dimensions before anything is allocated, and must agree to the byte:
fewer bytes are a file that was cut off, more are dimensions that are wrong.

Rescale Slope and Intercept (PS3.3 C.11.1) are applied although the Nuclear Medicine object does not define them,
because who writes them means them. Real World Value Mappings are *not* applied: they say what a number means in some
unit, one image may have several, and viewers don't apply them either; `RealWorldMapping` applies one when asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Integer
from pydicom.encaps import generate_frames
from pydicom.uid import UID, ExplicitVRBigEndian

from mpi_unet.dicom.nm.decoders import COMPRESSED, CodecError, FrameSize, decode_frames
from mpi_unet.dicom.nm.elements import ASK_SENDER, Elements, tag_text
from mpi_unet.errors import DicomError

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "RealWorldMapping",
    "Rescale",
    "frame_size",
    "real_world_of",
    "rescale_of",
    "stored_frames",
]

MAX_SIDE = 8192
"""Rows and columns; whole-body scans have about 1024."""

MAX_PIXELS = 1 << 27
"""All frames together: 512 MiB as float32, twice a gated study of 16 x 128 slices of 256 x 256."""

MAX_SLOPE = 1e12


@dataclass(frozen=True)
class Rescale:
    """``value = slope * stored + intercept``."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, stored: Integer[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
        """Values of stored numbers."""
        values = stored.astype(np.float32)
        if self.slope != 1.0:
            values *= np.float32(self.slope)
        if self.intercept != 0.0:
            values += np.float32(self.intercept)
        return values


@dataclass(frozen=True)
class RealWorldMapping:
    """What stored numbers mean in some unit (PS3.3 C.7.6.16.2.11).

    Attributes:
        slope: Unit per stored number.
        intercept: Value of the stored number 0.
        first: Smallest stored number that the mapping is for; None where the file does not say it.
        last: Largest.
        unit: Code of the unit, e.g. ``"{counts}"`` or ``"Bq/ml"``.
        label: Short name of the mapping.
    """

    slope: float
    intercept: float
    first: float | None
    last: float | None
    unit: str
    label: str

    def __call__(self, stored: Integer[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
        """Values in the unit; NaN where a number lies off the range of the mapping."""
        values = Rescale(self.slope, self.intercept)(stored)
        if self.first is not None:
            values[stored < self.first] = np.nan
        if self.last is not None:
            values[stored > self.last] = np.nan
        return values


def frame_size(elements: Elements, num_frames: int) -> FrameSize:
    """The dimensions of a frame, when they are possible.

    Raises:
        DicomError: A dimension is missing, absurd or beyond the limits, or the pixels are colors.
    """
    samples = elements.integer("SamplesPerPixel")
    if samples not in (None, 1):
        raise elements.error("SamplesPerPixel", f"is {samples}", "1: counts, not colors", "leave the file out")
    rows, columns = (_positive(elements, name, MAX_SIDE) for name in ("Rows", "Columns"))
    if rows * columns * num_frames > MAX_PIXELS:
        raise elements.error(
            "Rows",
            f"and Columns and NumberOfFrames are {rows} x {columns} x {num_frames}",
            f"at most {MAX_PIXELS} pixels",
            "the header is damaged, or the file is no nuclear medicine image",
        )
    bits_allocated = _positive(elements, "BitsAllocated", 32)
    if bits_allocated not in (8, 16, 32):
        raise elements.error("BitsAllocated", f"is {bits_allocated}", "8, 16 or 32")
    stored = elements.integer("BitsStored")
    bits_stored = bits_allocated if stored is None else stored
    if not 1 <= bits_stored <= bits_allocated:
        raise elements.error("BitsStored", f"is {bits_stored}", f"1 to {bits_allocated}, the bits allocated")
    high = elements.integer("HighBit")
    if high not in (None, bits_stored - 1):
        raise elements.error("HighBit", f"is {high}", f"{bits_stored - 1}, one less than BitsStored")
    representation = elements.integer("PixelRepresentation")
    if representation not in (None, 0, 1):
        raise elements.error("PixelRepresentation", f"is {representation}", "0 (unsigned) or 1 (signed)")
    return FrameSize(rows, columns, bits_allocated, bits_stored, representation == 1)


def stored_frames(
    elements: Elements, size: FrameSize, num_frames: int, transfer_syntax: str
) -> Integer[np.ndarray, "frame row column"]:
    """The pixels of all frames, in the order of the file.

    Raises:
        DicomError: There are more or fewer bytes than the dimensions say, the transfer syntax is none that can be
            decoded, or a compressed frame is damaged.
    """
    content = elements.value("PixelData")
    if not isinstance(content, bytes):
        raise elements.error("PixelData", "is absent or empty", f"{num_frames} frames of pixels")
    uid = UID(transfer_syntax)
    if transfer_syntax in COMPRESSED:
        frames = _decoded(elements, content, size, num_frames, transfer_syntax)
    elif not uid.is_transfer_syntax or uid.is_encapsulated or uid.is_private:
        raise DicomError(
            f"{elements.where}: TransferSyntaxUID (0002,0010) is {uid.name[:80]!r}; expected an uncompressed one, RLE, "
            "JPEG, JPEG-LS or JPEG 2000; have the file transcoded, for example with dcmdjpeg or gdcmconv"
        )
    else:
        frames = _native(elements, content, size, num_frames, transfer_syntax)
    return _within_bits(elements, frames, size)


def rescale_of(elements: Elements) -> Rescale:
    """Rescale Slope and Intercept, or none.

    Raises:
        DicomError: One of them is missing, the slope is zero, or a number is absurd.
    """
    slope, intercept = elements.decimal("RescaleSlope"), elements.decimal("RescaleIntercept")
    if (slope is None) != (intercept is None):
        there, missing = ("RescaleIntercept", "RescaleSlope") if slope is None else ("RescaleSlope", "RescaleIntercept")
        raise elements.error(there, f"stands there without {tag_text(missing)}", "both or none")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if not 1 / MAX_SLOPE <= abs(slope) <= MAX_SLOPE or abs(intercept) > MAX_SLOPE:
        raise elements.error("RescaleSlope", f"is {slope:g} (intercept {intercept:g})", "a factor that is not zero")
    return Rescale(slope, intercept)


def real_world_of(elements: Elements, warnings: list[str]) -> tuple[RealWorldMapping, ...]:
    """The mappings to real-world values that the file offers; one that cannot be used is reported."""
    found = []
    try:
        for item in elements.items("RealWorldValueMappingSequence"):
            mapping = _mapping(item)
            if mapping is None:
                warnings.append(f"{item.inside} has no slope and intercept and was left out")
            else:
                found.append(mapping)
    except DicomError as error:
        warnings.append(f"real-world values were left out: {str(error).removeprefix(f'{elements.where}: ')}")
    return tuple(found)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _positive(elements: Elements, keyword: str, largest: int) -> int:
    number = elements.integer(keyword)
    if number is None or not 1 <= number <= largest:
        raise elements.error(keyword, "is absent" if number is None else f"is {number}", f"1 to {largest}")
    return number


def _mapping(item: Elements) -> RealWorldMapping | None:
    slope, intercept = item.decimal("RealWorldValueSlope"), item.decimal("RealWorldValueIntercept")
    if slope is None or intercept is None:
        return None
    bounds: list[float | None] = []
    for end in ("First", "Last"):
        exact = item.decimal(f"DoubleFloatRealWorldValue{end}ValueMapped")
        bounds.append(exact if exact is not None else item.decimal(f"RealWorldValue{end}ValueMapped"))
    units = item.items("MeasurementUnitsCodeSequence")
    unit = units[0].text("CodeValue") if units else ""
    return RealWorldMapping(slope, intercept, bounds[0], bounds[1], unit, item.text("LUTLabel"))


def _native(elements: Elements, content: bytes, size: FrameSize, num_frames: int, transfer_syntax: str) -> np.ndarray:
    shape = (num_frames, size.rows, size.columns)
    expected = int(np.prod(shape)) * size.dtype.itemsize
    if not 0 <= len(content) - expected <= expected % 2:
        raise elements.error(
            "PixelData",
            f"holds {len(content)} bytes",
            f"{expected} for {num_frames} frames of {size.rows} x {size.columns} pixels of {size.bits_allocated} bits",
            "the file was cut off or its dimensions are wrong; " + ASK_SENDER,
        )
    dtype = size.dtype
    if transfer_syntax == ExplicitVRBigEndian:
        if dtype.itemsize == 1 and elements.dataset["PixelData"].VR == "OW":  # bytes were swapped in pairs
            content = np.frombuffer(content, np.uint16).byteswap().tobytes()
        dtype = dtype.newbyteorder(">")
    return np.frombuffer(content, dtype, int(np.prod(shape))).reshape(shape)


def _decoded(elements: Elements, content: bytes, size: FrameSize, num_frames: int, transfer_syntax: str) -> np.ndarray:
    try:
        frames = list(generate_frames(content, number_of_frames=num_frames))
    except Exception as error:  # fragments that are not there, offsets beyond the end, and whatever follows from them
        raise elements.error(
            "PixelData", f"has no whole fragments ({type(error).__name__})", f"{num_frames} compressed frames"
        ) from error
    if len(frames) != num_frames:
        raise elements.error("PixelData", f"holds {len(frames)} compressed frames", f"{num_frames}")
    try:
        return decode_frames(frames, transfer_syntax, size)
    except CodecError as error:
        raise elements.error("PixelData", f"cannot be unpacked: {error}", "whole compressed frames") from error


def _within_bits(elements: Elements, frames: np.ndarray, size: FrameSize) -> np.ndarray:
    """Numbers as this machine has them, when all fit into the bits that are said to be stored."""
    frames = frames.astype(frames.dtype.newbyteorder("="), copy=False)
    top = size.bits_stored - int(size.is_signed)
    low, high = -(1 << top) if size.is_signed else 0, (1 << top) - 1
    if size.bits_stored < size.bits_allocated and (int(frames.min()) < low or int(frames.max()) > high):
        raise elements.error(
            "BitsStored",
            f"is {size.bits_stored}, but pixels run from {frames.min()} to {frames.max()}",
            f"numbers from {low} to {high}",
            "the header is damaged, or old software kept a drawing in the spare bits; ask the sender",
        )
    return frames
