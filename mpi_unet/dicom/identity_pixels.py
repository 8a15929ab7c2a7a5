"""Writing within the pixels: names that stand in the picture itself and that no copy of attributes removes.

Three signs are taken as reasons for suspicion: the object says so (Burned In Annotation), it is a picture of a screen
(secondary capture, whose very purpose is to show what stood there), or small blocks at its corners hold strokes of
one and the same saturated value on an even ground, as letters do and radioactive decay does not. The third sign is
a rule of thumb: gray or blurred letters, and letters amid the picture, stay unseen.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer, Shaped
from pydicom.dataset import Dataset

from mpi_unet.dicom.nm.elements import Elements
from mpi_unet.dicom.nm.file import transfer_syntax
from mpi_unet.dicom.nm.pixels import frame_size, stored_frames

__all__ = ["SECONDARY_CAPTURES", "burned_in", "looks_written", "plain_pixels"]

SECONDARY_CAPTURES = (
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.1",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.7.4",
)
"""SOP classes of secondary capture: single frame, and multi-frame with 1, 8, 16 bits and color (PS3.6 table A-1)."""

FEWEST_STROKE_PIXELS = 12
"""One letter of a 5 x 7 font has about 15 pixels; a corner of counts holds its maximum once or twice."""

CORNER_FRACTION = 4
"""Writing is looked for in the outer quarter of rows and columns, at each corner."""


def burned_in(dataset: Dataset) -> str | None:
    """Why the pixels of an object may hold writing; None when nothing speaks for it.

    Args:
        dataset: Any object; without its pixels, only what its attributes say counts.
    """
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        return "BurnedInAnnotation (0028,0301) is YES"
    if str(dataset.get("SOPClassUID", "")) in SECONDARY_CAPTURES:
        return "a secondary capture shows what stood on a screen"
    if "PixelData" not in dataset:
        return None
    try:
        pixels = dataset.pixel_array
    except Exception:
        return None
    return "its corners hold strokes of the largest value, as writing does" if looks_written(pixels) else None


def plain_pixels(dataset: Dataset) -> Integer[np.ndarray, "frame row column"]:
    """Decode the pixels of a Nuclear Medicine image and keep nothing but them.

    What a compressed stream says beside the pixels (comments, profiles) is left behind. Bits above Bits Stored, where
    overlays once were drawn, and bytes after the last pixel are refused.

    Returns:
        Stored numbers, little endian.

    Raises:
        DicomError: The pixels cannot be decoded, or are not as many as the header says.
    """
    elements = Elements(dataset, "dataset")
    number = elements.integer("NumberOfFrames")
    num_frames = 1 if number is None else number
    if num_frames < 1:
        raise elements.error("NumberOfFrames", f"is {num_frames}", "1 or more")
    size = frame_size(elements, num_frames)
    frames = stored_frames(elements, size, num_frames, transfer_syntax(dataset))
    return np.ascontiguousarray(frames, frames.dtype.newbyteorder("<"))


def looks_written(pixels: Shaped[np.ndarray, "..."]) -> bool:
    """Whether a corner of any frame holds strokes of one saturated value, as letters do.

    A pixel counts as part of a stroke when it has the largest value of the whole image and a neighbor of less than
    half of it: letters have sharp edges, an organ or a flood has not.

    Args:
        pixels: The image as (..., row, column).

    Example:
        >>> image = np.random.default_rng(0).poisson(5, (64, 64))
        >>> looks_written(image)
        False
        >>> image[2:9, 2:12:3] = 255
        >>> looks_written(image)
        True
    """
    if pixels.ndim < 2 or min(pixels.shape[-2:]) < 2 * CORNER_FRACTION or pixels.size == 0:
        return False
    largest = float(pixels.max())
    if not largest > 1:
        return False
    rows, columns = (size // CORNER_FRACTION for size in pixels.shape[-2:])
    frames = pixels.reshape(-1, *pixels.shape[-2:])
    for row in (slice(0, rows), slice(-rows, None)):
        for column in (slice(0, columns), slice(-columns, None)):
            block = frames[:, row, column].astype(np.float64)
            bright = block == largest
            dark = np.pad(block < largest / 2, ((0, 0), (1, 1), (1, 1)))
            beside_dark = dark[:, :-2, 1:-1] | dark[:, 2:, 1:-1] | dark[:, 1:-1, :-2] | dark[:, 1:-1, 2:]
            if ((bright & beside_dark).sum(axis=(1, 2)) >= FEWEST_STROKE_PIXELS).any():
                return True
    return False
