"""The program that unpacks JPEG frames, run as a process of its own by ``decoders``.

The JPEG decoders are C++ libraries; on a damaged stream they may crash, or ask for all the memory there is. Here they
take nothing along but this process. It reads requests from its standard input until that ends: a line of JSON, then
so many bytes of encapsulated pixels; and answers each on its standard output with a line of JSON, then the pixels.

It imports nothing of the project, so that it starts fast and from anywhere.
"""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO

MEMORY_BYTES = 4 << 30
"""Address space of the process, libraries included."""


def limit_memory() -> None:
    """Let allocations fail instead of the machine, where the system can do that; and leave no core files."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def decode(request: dict[str, int | str], content: bytes) -> bytes:
    """The frames of a request as little-endian numbers."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    decoder = get_decoder(UID(str(request.pop("transfer_syntax"))))
    plugin = str(request.pop("plugin"))
    options: dict[str, Any] = {
        **request,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "pixel_keyword": "PixelData",
    }
    array, _ = decoder.as_array(content, raw=True, decoding_plugin=plugin, **options)
    return bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    import warnings

    warnings.simplefilter("ignore")
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        content = requests.read(request.pop("length"))
        try:
            pixels, said = decode(request, content), ""
        except Exception as error:  # whatever a decoder raises becomes an answer; what kills the process does not
            pixels, said = b"", type(error).__name__
        answers.write(json.dumps({"error": said, "length": len(pixels)}).encode() + b"\n")
        answers.write(pixels)
        answers.flush()


if __name__ == "__main__":
    limit_memory()
    serve(sys.stdin.buffer, sys.stdout.buffer)
