"""From a file to a dataset: whole, within bounds, or an error that can be understood.

Exported studies come with and without the 128-byte preamble and the meta information before the dataset, in four
encodings of the dataset itself (implicit or explicit little-endian, explicit big-endian, deflated), and not always
whole. A file is never read beyond `MAX_FILE_BYTES`, and a deflated one never grows beyond `MAX_INFLATED_BYTES`.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mpi_unet.dicom.nm.elements import ASK_SENDER
from mpi_unet.errors import DicomError

__all__ = ["MAX_FILE_BYTES", "MAX_INFLATED_BYTES", "open_dataset", "out_of_order", "quiet", "transfer_syntax"]

MAX_FILE_BYTES = 1 << 30
"""A gated study of 16 x 128 slices of 256 x 256 pixels has a quarter of this."""

MAX_INFLATED_BYTES = 1 << 30
"""zlib packs zeros a thousandfold: a megabyte may become a gigabyte."""

PIXEL_DATA = Tag(0x7FE0, 0x0010)
FIRST_PIXEL_TAG = Tag(0x7FE0, 0x0008)
"""Float Pixel Data, the first of the elements that hold pixels."""

HEADER_BYTES = 1 << 24
"""So much of a deflated file is unpacked to read what stands before its pixels."""

PREAMBLE_BYTES = 128
UNDEFINED_LENGTH = 0xFFFFFFFF
SHORTEST_ELEMENT = 8
FIRST_GROUPS = {b"\x02\x00", b"\x08\x00", b"\x00\x08"}
"""Meta information, or a dataset without it: nothing else can begin a DICOM file that has no preamble."""


def open_dataset(path: Path, *, pixels: bool) -> Dataset:
    """Parse a file.

    Args:
        path: A file of any name.
        pixels: Read the pixels, too; without them a scan of many files reads a few kilobytes of each.

    Raises:
        DicomError: The file is missing, too large, no DICOM, cut off or garbled.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DicomError(f"{path.name}: is no file; expected a DICOM file; name one, or a folder to search in")
        with path.open("rb") as file:
            start = file.read(PREAMBLE_BYTES + 4)
    except OSError as error:
        raise DicomError(
            f"{path.name}: cannot be opened ({error.strerror}); expected a DICOM file that you may read; "
            "check the path and its permissions"
        ) from error
    if size > MAX_FILE_BYTES and pixels:
        raise DicomError(
            f"{path.name}: is {size / 2**20:.0f} MiB; expected at most {MAX_FILE_BYTES / 2**20:.0f} MiB for a nuclear "
            "medicine image; leave the file out"
        )
    if start[PREAMBLE_BYTES:] != b"DICM" and start[:2] not in FIRST_GROUPS:
        raise DicomError(f"{path.name}: does not begin like a DICOM file; expected DICOM; leave the file out")
    try:
        with quiet():
            return _parsed(path, pixels)
    except DicomError:
        raise
    except Exception as error:  # a parser of untrusted bytes fails in whatever way the bytes lead it to
        raise DicomError(
            f"{path.name}: cannot be read as DICOM ({type(error).__name__}); expected whole data elements up to "
            f"PixelData (7FE0,0010); {ASK_SENDER}"
        ) from error


def transfer_syntax(dataset: Dataset) -> str:
    """How the dataset was encoded: what its meta information says, or else what the parser found."""
    meta = getattr(dataset, "file_meta", None)
    uid = str(meta.get("TransferSyntaxUID", "") or "") if meta is not None else ""
    if uid:
        return uid
    is_implicit, is_little_endian = dataset.original_encoding
    if is_little_endian is False:
        return str(ExplicitVRBigEndian)
    return str(ExplicitVRLittleEndian if is_implicit is False else ImplicitVRLittleEndian)


def out_of_order(dataset: Dataset) -> str:
    """The first data element of a file that stands before one with a smaller tag; empty when all ascend (PS3.5 7.1)."""
    tags = list(map(Tag, dataset.keys()))  # in the order of the file; iterating over a dataset sorts
    return next((str(tag) for tag, after in pairwise(tags) if after < tag), "")


@contextmanager
def quiet() -> Iterator[None]:
    """Pydicom warns of much that does not matter; what matters is said in words of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- Private helpers --------------------------------------------------------------------------------------------------


def _parsed(path: Path, pixels: bool) -> Dataset:
    with path.open("rb") as file:
        if file.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] != b"DICM":
            file.seek(0)
        meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_after_meta)
        if str(meta.get("TransferSyntaxUID", "")) == DeflatedExplicitVRLittleEndian:
            dataset = _inflated(path.name, file, pixels)
            dataset.file_meta = FileMetaDataset(meta)
            return dataset
        dataset = dcmread(path, force=True, stop_before_pixels=not pixels)
        _check_end(path.name, dataset, file)
        return dataset


def _after_meta(tag: BaseTag, *_: object) -> bool:
    return tag.group != 2


def _inflated(name: str, file: BinaryIO, pixels: bool) -> Dataset:
    """The dataset of a deflated file that stands open behind its meta information."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflate.decompress(file.read(MAX_FILE_BYTES), MAX_INFLATED_BYTES if pixels else HEADER_BYTES)
    if inflate.unconsumed_tail and pixels:
        raise DicomError(
            f"{name}: TransferSyntaxUID (0002,0010) says deflated, and the dataset grows beyond "
            f"{MAX_INFLATED_BYTES / 2**20:.0f} MiB; expected less; leave the file out"
        )
    stop = None if pixels else _at_pixels
    stream = BytesIO(content)
    dataset = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=stop)
    _check_end(name, dataset, stream)
    return dataset


def _check_end(name: str, dataset: Dataset, stream: BinaryIO | BytesIO) -> None:
    """Refuse pixels that are followed by what cannot follow them: bytes were inserted before, and all moved on.

    Data elements stand in ascending order, so that only padding and signatures (groups above 7FE0) may come after.
    """
    raw = dataset.get_item(PIXEL_DATA) if PIXEL_DATA in dataset else None
    if not isinstance(raw, RawDataElement) or raw.length == UNDEFINED_LENGTH:
        return
    stream.seek(raw.value_tell + raw.length)
    rest = stream.read(SHORTEST_ELEMENT)
    group = int.from_bytes(rest[:2], "little" if raw.is_little_endian else "big")
    if rest and (len(rest) < SHORTEST_ELEMENT or group < PIXEL_DATA.group):
        raise DicomError(
            f"{name}: PixelData (7FE0,0010) is followed by bytes that are no data element; expected the end of the "
            f"file, since else the pixels are not where they should be; {ASK_SENDER}"
        )


def _at_pixels(tag: BaseTag, *_: object) -> bool:
    return tag >= FIRST_PIXEL_TAG
