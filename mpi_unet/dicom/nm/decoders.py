"""Compressed frames: RLE here, the JPEG family in a process of its own.

Before a frame goes to a decoder its own header is compared with Rows and Columns, so that nothing is allocated for a
stream that claims other dimensions. The decoding process (``decoder_worker``) has a memory limit and a deadline; when
it dies or hangs, the file gets an error, and the next file a new process.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

__all__ = ["COMPRESSED", "CodecError", "FrameSize", "decode_frames"]

COMPRESSED = frozenset(
    {
        RLELossless,
        JPEGBaseline8Bit,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEGLSNearLossless,
        JPEG2000,
        JPEG2000Lossless,
    }
)
"""Transfer syntaxes that can be decoded."""

JPEG_2000 = frozenset({JPEG2000, JPEG2000Lossless})

DECODE_SECONDS = 60.0
"""A gated study of 2,000 frames takes about 5 s."""

ANSWER_CHUNK = 1 << 20
MAX_ANSWER_LINE = 4096

START_OF_IMAGE, START_OF_SCAN = 0xD8, 0xDA
STANDALONE_MARKERS = {0x01, *range(0xD0, 0xD8)}
FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start of a frame in JPEG, and in JPEG-LS (0xF7); three of the range are tables."""

CODESTREAM = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream and of the segment that holds its size."""

RLE_HEADER_BYTES = 64


class CodecError(ValueError):
    """A compressed frame cannot be unpacked; the text says why."""


@dataclass(frozen=True)
class FrameSize:
    """What every frame of an image must unpack to."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    is_signed: bool

    @property
    def dtype(self) -> np.dtype:
        """Type of one pixel."""
        return np.dtype(f"<{'i' if self.is_signed else 'u'}{self.bits_allocated // 8}")


def decode_frames(frames: Sequence[bytes], transfer_syntax: str, size: FrameSize) -> np.ndarray:
    """Unpack all frames of an image.

    Args:
        frames: The compressed frames.
        transfer_syntax: One of `COMPRESSED`.
        size: What each must unpack to.

    Returns:
        Pixels (frame, row, column).

    Raises:
        CodecError: A frame is damaged, has another size, or takes too long or too much memory.
    """
    if transfer_syntax == RLELossless:
        return np.stack([_rle_frame(frame, number, size) for number, frame in enumerate(frames, 1)])
    for number, frame in enumerate(frames, 1):
        _check_header(frame, number, transfer_syntax, size)
    request: dict[str, int | str] = {
        "transfer_syntax": transfer_syntax,
        "plugin": "gdcm",
        "rows": size.rows,
        "columns": size.columns,
        "bits_allocated": size.bits_allocated,
        "bits_stored": size.bits_stored,
        "pixel_representation": int(size.is_signed),
        "number_of_frames": len(frames),
    }
    pixels = WORKER.ask(request, encapsulate(list(frames)))
    shape = (len(frames), size.rows, size.columns)
    if len(pixels) != int(np.prod(shape)) * size.dtype.itemsize:
        raise CodecError(f"the frames unpack to {len(pixels)} bytes instead of {shape} pixels")
    return np.frombuffer(pixels, size.dtype).reshape(shape)


# --- RLE (PS3.5 annex G) ----------------------------------------------------------------------------------------------


def _rle_frame(frame: bytes, number: int, size: FrameSize) -> np.ndarray:
    if len(frame) < RLE_HEADER_BYTES:
        raise CodecError(f"frame {number} has {len(frame)} bytes, less than the header of RLE")
    count, *offsets = struct.unpack("<16L", frame[:RLE_HEADER_BYTES])
    num_bytes = size.bits_allocated // 8
    if count != num_bytes:
        raise CodecError(f"frame {number} has {count} RLE segments for pixels of {num_bytes} bytes")
    bounds = [*offsets[:count], len(frame)]
    if bounds[0] < RLE_HEADER_BYTES or any(start >= end for start, end in pairwise(bounds)):
        raise CodecError(f"frame {number} has RLE segments that do not follow each other")
    planes = [_unpacked(frame[start:end], size.rows * size.columns, number) for start, end in pairwise(bounds)]
    interleaved = np.stack(planes[::-1], axis=-1)  # the most significant byte comes first
    return interleaved.reshape(-1).view(size.dtype).reshape(size.rows, size.columns)


def _unpacked(packed: bytes, length: int, number: int) -> np.ndarray:
    """Runs and copies of one segment; never more than ``length`` bytes and the padding of an odd one."""
    out = bytearray()
    place, end = 0, len(packed)
    while place < end and len(out) < length:
        code = packed[place]
        place += 1
        if code < 128:
            out += packed[place : place + code + 1]
            place += code + 1
        elif code > 128:
            out += packed[place : place + 1] * (257 - code)
            place += 1
    if place > end or len(out) != length:
        raise CodecError(f"frame {number} unpacks to {len(out)} bytes a plane instead of {length}")
    if end - place > 1 and any(packed[place:]):
        raise CodecError(f"frame {number} has {end - place} bytes behind its last pixel")
    return np.frombuffer(bytes(out), np.uint8)


# --- What a JPEG stream says about itself -----------------------------------------------------------------------------


def _check_header(frame: bytes, number: int, transfer_syntax: str, size: FrameSize) -> None:
    claimed = _jpeg_2000_size(frame) if transfer_syntax in JPEG_2000 else _jpeg_size(frame)
    if claimed is None:
        raise CodecError(f"frame {number} does not begin like a stream of its kind")
    rows, columns, components, bits = claimed
    if (rows, columns, components) != (size.rows, size.columns, 1) or bits > size.bits_allocated:
        raise CodecError(
            f"frame {number} says of itself {rows} x {columns} pixels of {components} components and {bits} bits, "
            f"the dataset {size.rows} x {size.columns} of 1 and {size.bits_allocated}"
        )


def _jpeg_size(frame: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, components and bits of JPEG and JPEG-LS, from the first frame header before any scan."""
    if frame[:2] != bytes([0xFF, START_OF_IMAGE]):
        return None
    place = 2
    while place + 4 <= len(frame):
        if frame[place] != 0xFF:
            return None
        marker = frame[place + 1]
        if marker == 0xFF or marker in STANDALONE_MARKERS:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in FRAME_MARKERS and place + 10 <= len(frame):
            bits, rows, columns, components = struct.unpack(">BHHB", frame[place + 4 : place + 10])
            return rows, columns, components, bits
        if marker == START_OF_SCAN:
            return None
        place += 2 + struct.unpack(">H", frame[place + 2 : place + 4])[0]
    return None


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, components and bits of a JPEG 2000 codestream, bare or within a file of its own kind."""
    start = frame[:4096].find(CODESTREAM)
    if start < 0 or start + 43 > len(frame):
        return None
    width, height, left, top = struct.unpack(">4L", frame[start + 8 : start + 24])
    components, depth = struct.unpack(">HB", frame[start + 40 : start + 43])
    return height - top, width - left, components, (depth & 0x7F) + 1


# --- The decoding process ---------------------------------------------------------------------------------------------


class Worker:
    """A decoding process, started when it is first needed and again after it died."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0

    def ask(self, request: dict[str, int | str], content: bytes) -> bytes:
        """Have something decoded.

        Raises:
            CodecError: The decoder refuses the stream, or the process dies or takes too long over it.
        """
        with self.lock:
            process = self._running()
            try:
                return self._answer(process, {**request, "length": len(content)}, content)
            except (OSError, EOFError, TimeoutError, json.JSONDecodeError) as error:
                self.stop()
                what = f"took more than {DECODE_SECONDS:g} s" if isinstance(error, TimeoutError) else "crashed"
                raise CodecError(f"the decoder {what} on the stream, which must be damaged") from error

    def stop(self) -> None:
        """End the process, if it is one of ours."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is not None and self.owner == os.getpid() and self.process.poll() is None:
            return self.process
        self.stop()
        script = Path(__file__).with_name("decoder_worker.py")
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        return self.process

    def _answer(self, process: subprocess.Popen[bytes], request: dict[str, int | str], content: bytes) -> bytes:
        if process.stdin is None or process.stdout is None:
            raise EOFError("the process has no pipes")
        for part in (json.dumps(request).encode() + b"\n", content):
            view = memoryview(part)
            while view:
                view = view[process.stdin.write(view) or 0 :]
        deadline = time.monotonic() + DECODE_SECONDS
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line, missing = -1, 1
            while missing > 0:
                left = deadline - time.monotonic()
                if left < 0 or not selector.select(left):
                    raise TimeoutError
                chunk = process.stdout.read(ANSWER_CHUNK)
                if not chunk:
                    raise EOFError("the process ended")
                received += chunk
                if line < 0 and b"\n" in received[:MAX_ANSWER_LINE]:
                    line = received.index(b"\n")
                    answer = json.loads(bytes(received[:line]))
                    line += 1
                if line >= 0:
                    missing = answer["length"] - (len(received) - line)
        if answer["error"]:
            raise CodecError(f"the decoder refuses the stream ({answer['error']})")
        return bytes(received[line:])


WORKER = Worker()
atexit.register(WORKER.stop)
