"""From a file to a dataset: whole, within bounds, or an error that can be understood.

Exported studies come with and without the 128-byte preamble and the meta information before the dataset, in four
encodings of the dataset itself (implicit or explicit little-endian, explicit big-endian, deflated), and not always
whole. A file is never read beyond `MAX_FILE_BYTES`, and a deflated one never grows beyond `MAX_INFLATED_BYTES`; a scan
of headers reads at most `HEADER_BYTES` of each; and nothing is read in more than `MAX_READS` steps, so that a file of
a million empty elements costs a second and not a minute.
"""

from __future__ import annotations

import logging
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

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
from mpi_unet.errors import DicomError, NotDicomError

__all__ = [
    "HEADER_BYTES",
    "MAX_FILE_BYTES",
    "MAX_INFLATED_BYTES",
    "MAX_READS",
    "open_dataset",
    "out_of_order",
    "quiet",
    "transfer_syntax",
    "zero_padding",
]

MAX_FILE_BYTES = 1 << 30
"""A gated study of 16 x 128 slices of 256 x 256 pixels has a quarter of this."""

MAX_INFLATED_BYTES = 1 << 30
"""zlib packs zeros a thousandfold: a megabyte may become a gigabyte."""

PIXEL_DATA = Tag(0x7FE0, 0x0010)
FIRST_PIXEL_TAG = Tag(0x7FE0, 0x0008)
"""Float Pixel Data, the first of the elements that hold pixels."""

HEADER_BYTES = 1 << 24
"""So much is read, or unpacked of a deflated file, of what stands before the pixels; usual are a few kilobytes."""

MAX_READS = 300_000
"""An element takes one to three; a gated study with everything that cameras write has some hundred elements."""

MAX_ZERO_PADDING = 1 << 16
PADDED_BLOCK = 512
"""Zero bytes behind the pixels are padding when they fill the file up to whole blocks of this size."""

ZERO_PADDING = "_zero_padding"

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
        NotDicomError: The file is missing, or no DICOM.
        DicomError: It is too large, cut off or garbled.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise NotDicomError(f"{path.name}: is no file; expected a DICOM file; name one, or a folder to search in")
        with path.open("rb") as file:
            start = file.read(PREAMBLE_BYTES + 4)
    except OSError as error:
        raise NotDicomError(
            f"{path.name}: cannot be opened ({error.strerror}); expected a DICOM file that you may read; "
            "check the path and its permissions"
        ) from error
    if size > MAX_FILE_BYTES and pixels:
        raise DicomError(
            f"{path.name}: is {size / 2**20:.0f} MiB; expected at most {MAX_FILE_BYTES / 2**20:.0f} MiB for a nuclear "
            "medicine image; leave the file out"
        )
    if start[PREAMBLE_BYTES:] != b"DICM" and start[:2] not in FIRST_GROUPS:
        raise NotDicomError(f"{path.name}: does not begin like a DICOM file; expected DICOM; leave the file out")
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


def zero_padding(dataset: Dataset) -> int:
    """How many zero bytes stand behind the pixels in the file that `open_dataset` read."""
    return int(getattr(dataset, ZERO_PADDING, 0))


@contextmanager
def quiet() -> Iterator[None]:
    """Let pydicom neither warn nor log while the body runs: what matters is said in words of ours.

    Its remarks quote values of the header, which may be names; a program that logs to a terminal would show them.
    """
    logger = logging.getLogger("pydicom")
    before = logger.propagate, logger.handlers
    logger.propagate, logger.handlers = False, [logging.NullHandler()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.propagate, logger.handlers = before


# --- Private helpers --------------------------------------------------------------------------------------------------


class Bounded:
    """A file that a parser reads only so much of, in only so many steps.

    Raises:
        DicomError: The parser asks for more.
    """

    def __init__(self, file: BinaryIO | BytesIO, name: str, limit_bytes: int | None) -> None:
        self.file, self.where, self.limit_bytes = file, name, limit_bytes
        self.num_bytes = self.num_reads = 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        self.num_reads += 1
        if self.num_reads > MAX_READS:
            raise DicomError(
                f"{self.where}: has too many data elements to be an image (more than {MAX_READS} reads); expected some "
                f"hundred before PixelData (7FE0,0010); {ASK_SENDER}"
            )
        if self.limit_bytes is None:
            return self.file.read(size)
        left = self.limit_bytes - self.num_bytes
        if size > left and self._is_behind(left):
            raise DicomError(
                f"{self.where}: has more than {self.limit_bytes / 2**20:g} MiB before its pixels; expected a header "
                f"before PixelData (7FE0,0010); {ASK_SENDER}"
            )
        content = self.file.read(min(size, left + 1) if size >= 0 else left + 1)
        self.num_bytes += len(content)
        return content

    def _is_behind(self, num_bytes: int) -> bool:
        """Whether the file goes on for more than so many bytes."""
        here = self.file.tell()
        end = self.file.seek(0, os.SEEK_END)
        self.file.seek(here)
        return end - here > num_bytes


def _parsed(path: Path, pixels: bool) -> Dataset:
    with path.open("rb") as opened:
        file: Any = Bounded(opened, path.name, None if pixels else HEADER_BYTES)
        if file.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] != b"DICM":
            file.seek(0)
        meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_after_meta)
        if str(meta.get("TransferSyntaxUID", "")) == DeflatedExplicitVRLittleEndian:
            dataset = _inflated(path.name, file, pixels)
            dataset.file_meta = FileMetaDataset(meta)
            return dataset
        file.seek(0)
        dataset = dcmread(file, force=True, stop_before_pixels=not pixels)
        dataset.buffer = None  # nothing is read later, and the file is closed
        _check_end(path.name, dataset, opened)
        return dataset


def _after_meta(tag: BaseTag, *_: object) -> bool:
    return tag.group != 2


def _inflated(name: str, file: Bounded, pixels: bool) -> Dataset:
    """The dataset of a deflated file that stands open behind its meta information."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = file.file.read(MAX_FILE_BYTES if pixels else HEADER_BYTES)
    content = inflate.decompress(packed, MAX_INFLATED_BYTES if pixels else HEADER_BYTES)
    if inflate.unconsumed_tail and pixels:
        raise DicomError(
            f"{name}: TransferSyntaxUID (0002,0010) says deflated, and the dataset grows beyond "
            f"{MAX_INFLATED_BYTES / 2**20:.0f} MiB; expected less; leave the file out"
        )
    stop = None if pixels else _at_pixels
    stream = BytesIO(content)
    bounded: Any = Bounded(stream, name, None)
    dataset = read_dataset(bounded, is_implicit_VR=False, is_little_endian=True, stop_when=stop)
    _check_end(name, dataset, stream)
    return dataset


def _check_end(name: str, dataset: Dataset, stream: BinaryIO | BytesIO) -> None:
    """Refuse pixels that are followed by what cannot follow them: bytes were inserted before, and all moved on.

    Data elements stand in ascending order, so that only padding and signatures (groups above 7FE0) may come after; and
    zeros up to the end of a block, which some media and archives add. Zeros alone would not do: the last pixels of an
    image are often zero, and would pass for padding when bytes were inserted before them.
    """
    raw = dataset.get_item(PIXEL_DATA) if PIXEL_DATA in dataset else None
    if not isinstance(raw, RawDataElement) or raw.length == UNDEFINED_LENGTH:
        return
    stream.seek(raw.value_tell + raw.length)
    rest = stream.read(MAX_ZERO_PADDING + 1)
    if rest and len(rest) <= MAX_ZERO_PADDING and not any(rest) and stream.tell() % PADDED_BLOCK == 0:
        for tag in [tag for tag in map(Tag, dataset.keys()) if tag.group == 0]:  # what the parser took the zeros for
            del dataset[tag]
        setattr(dataset, ZERO_PADDING, len(rest))
        return
    group = int.from_bytes(rest[:2], "little" if raw.is_little_endian else "big")
    if rest and (len(rest) < SHORTEST_ELEMENT or group < PIXEL_DATA.group):
        raise DicomError(
            f"{name}: PixelData (7FE0,0010) is followed by bytes that are no data element; expected the end of the "
            f"file, since else the pixels are not where they should be; {ASK_SENDER}"
        )


def _at_pixels(tag: BaseTag, *_: object) -> bool:
    return tag >= FIRST_PIXEL_TAG
