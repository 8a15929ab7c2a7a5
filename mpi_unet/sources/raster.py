"""Pixels of TIFF and PNG files as they stand in the file: gray, without any scaling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from mpi_unet.errors import CohortError

__all__ = ["RASTER_SUFFIXES", "read_raster"]

RASTER_SUFFIXES = (".tif", ".tiff", ".png")

MAX_BYTES = 2**31
"""A file that unpacks to more than 2 GiB is no SPECT study."""

TIFFFILE_DECODES = (1, 8, 32946, 32773)
"""TIFF 6.0, tag 259 (Compression): none, deflate under two numbers, PackBits; for the others it needs imagecodecs."""

WHITE_IS_ZERO = 0
"""TIFF 6.0, tag 262 (PhotometricInterpretation)."""


def read_raster(path: str | Path) -> Shaped[np.ndarray, "z y x"]:
    """Read a gray image; the pages of a TIFF file become frames (z).

    An image stored in color is gray when its color channels are equal; one of them is taken, transparency ignored.

    Returns:
        Values as they are stored: integers of 8 or 16 bits, or floats; of a 1-bit image 0 and 1.

    Raises:
        CohortError: The file cannot be read, is a color image, stores white as zero, or holds other than real numbers.
    """
    path = Path(path)
    try:
        array = _read_tiff(path) if path.suffix.lower() != ".png" else _read_with_pillow(path)
    except CohortError:
        raise
    except Exception as error:  # decoders raise whatever they like on a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CohortError(f"cannot be read ({reason}); expected a TIFF or PNG image") from error
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.ndim != 3 or not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        shape = "x".join(map(str, array.shape))
        raise CohortError(f"holds {array.dtype} of shape {shape}; expected a gray image or a stack of them")
    return array


# --- Private helpers --------------------------------------------------------------------------------------------------


def _read_tiff(path: Path) -> Shaped[np.ndarray, ...]:
    """By tifffile, which sees every page of an ImageJ stack; by Pillow where that has no decoder (LZW)."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        page = series.keyframe
        if page.photometric == WHITE_IS_ZERO:
            raise CohortError("stores white as zero (PhotometricInterpretation 0); export it again with black as zero")
        if series.size * series.dtype.itemsize > MAX_BYTES:
            raise CohortError(f"unpacks to {series.size} pixels; expected a SPECT image")
        if len(file.series) > 1:
            raise CohortError(
                f"holds {len(file.series)} images of different sizes; expected one, or a stack of one size"
            )
        if page.compression not in TIFFFILE_DECODES:
            return _read_with_pillow(path)
        array = series.asarray()
        if page.samplesperpixel > 1:
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                array = np.moveaxis(array.reshape(-1, page.samplesperpixel, *page.shape[-2:]), 1, -1)
            array = _one_channel(array)
        return array.reshape(-1, *array.shape[-2:])


def _read_with_pillow(path: Path) -> Shaped[np.ndarray, ...]:
    from PIL import Image, ImageSequence

    with Image.open(path) as file:
        if file.width * file.height * getattr(file, "n_frames", 1) * 4 > MAX_BYTES:
            raise CohortError(f"unpacks to {file.width}x{file.height} pixels; expected a SPECT image")
        frames = []
        for frame in ImageSequence.Iterator(file):
            page = frame.convert("RGBA" if "transparency" in frame.info else "RGB") if frame.mode == "P" else frame
            values = np.array(page)
            frames.append(values if values.ndim == 2 else _one_channel(values))
    return np.stack(frames)


def _one_channel(array: Shaped[np.ndarray, "*frames y x channels"]) -> Shaped[np.ndarray, "*frames y x"]:
    channels = array.shape[-1]
    colors = array[..., : 1 if channels == 2 else 3]
    if not np.array_equal(colors, np.broadcast_to(colors[..., :1], colors.shape)):
        raise CohortError("is a color image whose channels differ; expected gray values")
    return array[..., 0]
