"""Files gone wrong: seeded mutations of Nuclear Medicine files, from single bits to whole sequences."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from nm_builders import (
    SYNTAXES,
    geometry_at_top_level,
    marked_gated_volume,
    marked_volume,
    nested,
    projections,
    rescaled,
    short_axis,
    slice_major,
    transaxial,
    write,
)
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

DEFLATED = b"1.2.840.10008.1.2.1.99"

VECTORS = (
    "SliceVector",
    "TimeSlotVector",
    "RRIntervalVector",
    "AngularViewVector",
    "EnergyWindowVector",
    "DetectorVector",
    "RotationVector",
)
COUNTS = (
    "NumberOfFrames",
    "NumberOfSlices",
    "NumberOfTimeSlots",
    "NumberOfRRIntervals",
    "NumberOfEnergyWindows",
    "NumberOfDetectors",
    "NumberOfRotations",
)
SHAPES = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
)
NUMBERS = ("PixelSpacing", "SpacingBetweenSlices", "SliceThickness", "RescaleSlope", "RescaleIntercept")
NESTED_NUMBERS = ("ImagePositionPatient", "ImageOrientationPatient", "StartAngle", "AngularStep", "ScanArc")
SEQUENCES = (
    "DetectorInformationSequence",
    "RotationInformationSequence",
    "GatedInformationSequence",
    "EnergyWindowInformationSequence",
    "RealWorldValueMappingSequence",
)
NAMES = ("ImageType", "SOPClassUID", "Modality", "FrameIncrementPointer", "PixelData", "SpecificCharacterSet")
KINDS = ("TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO", "STATIC", "DYNAMIC", "WHOLE BODY")
ODD_NUMBERS = (0, 1, 2, 3, 7, 255, 256, 40_000, 60_000, 65_535)
ODD_TEXTS = (
    b"NaN",
    b"inf",
    b"-1e400",
    b"0",
    b"-0.0",
    b"abc",
    b"",
    b"1e-300",
    b"4,5",
    b"1\\2\\3\\4",
    b"9" * 16,
    b"-7.5",
)
ODD_VRS = ("UN", "OB", "OW", "DS", "IS", "LO", "SQ", "AT", "FD", "US", "SS", "UL", "UI", "PN", "DA")


@dataclass(frozen=True)
class Origin:
    """One whole file to begin with."""

    name: str
    content: bytes


def origins(folder: Path, real_folder: Path | None) -> list[Origin]:
    """Every kind in every transfer syntax, and the real files where there are any."""
    made: dict[str, Callable[[], Dataset]] = {
        "volume": lambda: marked_volume(short_axis(-6.4)),
        "gated volume": lambda: slice_major(marked_gated_volume(transaxial())),
        "top-level geometry": lambda: rescaled(geometry_at_top_level(marked_volume(transaxial()))),
        "projections": lambda: projections(),
        "gated projections": lambda: projections(gated=True),
    }
    found = []
    for name, build in made.items():
        dataset = build()
        for syntax in SYNTAXES:
            path = write(dataset, folder / "origin.dcm", syntax)
            found.append(Origin(f"{name}, {syntax}", path.read_bytes()))
        path = write(dataset, folder / "origin.dcm", "implicit", meta=False)
        found.append(Origin(f"{name}, implicit without meta information", path.read_bytes()))
    if real_folder is not None:
        files = sorted([*(real_folder / "nm").iterdir(), *(real_folder / "physionet" / "DICOM").iterdir()])
        found += [Origin(f"real file {number}", path.read_bytes()) for number, path in enumerate(files)]
    return found


def mutated(origin: Origin, rng: np.random.Generator) -> tuple[str, bytes]:
    """The name of what was done to a file, and the file; the same state of the generator gives the same."""
    how = str(rng.choice(["bytes", "bytes", "header", "header", "lengths", "elements", "elements", "elements"]))
    content = origin.content
    if how == "elements":
        try:
            return _with_odd_element(content, rng)
        except Exception:  # pydicom refuses to write some of it; the bytes are mutated instead
            how = "header"
    inside = DEFLATED in content[:400] and rng.random() < 0.8  # else only zlib would ever see the damage
    start, packed = _split(content) if inside else (b"", content)
    body = zlib.decompress(packed, -zlib.MAX_WBITS) if inside else packed
    name, body = _with_odd_lengths(body, rng) if how == "lengths" else _with_odd_bytes(body, rng, how == "header")
    if inside:
        squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = squeeze.compress(body) + squeeze.flush()
    return name, start + body


# --- Bytes ------------------------------------------------------------------------------------------------------------


def _split(content: bytes) -> tuple[bytes, bytes]:
    """Meta information, and the dataset behind it."""
    length = struct.unpack("<L", content[140:144])[0]
    return content[: 144 + length], content[144 + length :]


def _header_end(content: bytes) -> int:
    """About where the pixels begin."""
    places = [content.rfind(tag) for tag in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")]
    return max([place for place in places if place > 0], default=len(content)) + 12


def _with_odd_bytes(content: bytes, rng: np.random.Generator, in_header: bool) -> tuple[str, bytes]:
    data = bytearray(content)
    end = min(_header_end(content), len(data)) if in_header else len(data)
    how = str(rng.choice(["truncate", "bits", "range", "delete", "double", "insert", "zeros", "ones"]))
    first = int(rng.integers(0, end))
    length = int(rng.choice([1, 2, 4, 16, 200, 5000]))
    if how == "truncate":
        del data[first:]
    elif how == "bits":
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(0, end))] ^= 1 << int(rng.integers(0, 8))
    elif how == "delete":
        del data[first : first + length]
    elif how == "double":
        data[first:first] = data[first : first + length]
    elif how == "insert":
        data[first:first] = rng.bytes(length)
    else:
        fill = {"range": rng.bytes(length), "zeros": bytes(length), "ones": b"\xff" * length}[how]
        data[first : first + length] = fill
    return f"{how} in {'header' if in_header else 'file'}", bytes(data)


def _with_odd_lengths(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Other lengths and value representations of one or two attributes that matter."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 3))):
        keyword = str(rng.choice([*VECTORS, *COUNTS, *SHAPES, *NUMBERS, *NESTED_NUMBERS, *SEQUENCES, *NAMES[:5]]))
        tag = Tag(tag_for_keyword(keyword) or 0)
        spelled = [struct.pack("<HH", tag.group, tag.element), struct.pack(">HH", tag.group, tag.element)]
        places = [place for place in map(content.find, spelled) if place > 0]
        if not places or places[0] + 12 > len(data):
            continue
        field = int(rng.choice([4, 6, 8]))
        data[places[0] + field : places[0] + field + 4] = _odd_field(rng)
    return "lengths", bytes(data)


def _odd_field(rng: np.random.Generator) -> bytes:
    if rng.random() < 0.3:
        return str(rng.choice(ODD_VRS)).encode() + struct.pack("<H", int(rng.choice([0, 2, 4, 65_535])))
    return struct.pack("<L", int(rng.choice([0, 1, 2, 3, 26, 1000, 2**16, 2**24, 2**31 - 1, 2**32 - 2, 2**32 - 1])))


# --- Elements ---------------------------------------------------------------------------------------------------------


def _with_odd_element(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    dataset = pydicom.dcmread(BytesIO(content), force=True)
    said = []
    for _ in range(int(rng.integers(1, 4))):
        group = str(rng.choice(["vector", "count", "shape", "number", "place", "sequence", "name"]))
        said.append(_change(dataset, group, rng))
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    return " + ".join(sorted(set(said))), buffer.getvalue()


def _change(dataset: Dataset, group: str, rng: np.random.Generator) -> str:
    table = {
        "vector": VECTORS,
        "count": COUNTS,
        "shape": SHAPES,
        "number": NUMBERS,
        "place": NESTED_NUMBERS,
        "sequence": SEQUENCES,
        "name": NAMES,
    }[group]
    there = [name for name in table if name in dataset] or list(table)
    name = str(rng.choice(there))
    holder = dataset
    if group == "place":
        sequence = "DetectorInformationSequence" if name.startswith("Image") else "RotationInformationSequence"
        if sequence in dataset and dataset[sequence].value and rng.random() < 0.7:
            holder = dataset[sequence].value[0]
    if rng.random() < 0.15:
        if name in holder:
            del holder[name]
        return f"{name} removed"
    if group == "vector" and name in holder:
        return _change_vector(holder, name, rng)
    if group == "sequence":
        return _change_sequence(holder, name, rng)
    _put(holder, name, rng)
    return f"{name} odd"


def _change_vector(holder: Dataset, name: str, rng: np.random.Generator) -> str:
    vector = [int(number) for number in np.atleast_1d(holder[name].value)]
    how = str(rng.choice(["drop", "add", "equal", "odd", "backward", "shuffled", "shifted", "raw"]))
    place = int(rng.integers(0, len(vector)))
    if how == "raw":
        _put(holder, name, rng)
        return f"{name} raw"
    if how == "drop":
        del vector[place]
    elif how == "add":
        vector.append(vector[place])
    elif how == "equal":
        vector[place] = vector[place - 1]
    elif how == "odd":
        vector[place] = int(rng.choice(ODD_NUMBERS))
    elif how == "backward":
        vector.reverse()
    elif how == "shuffled":
        rng.shuffle(vector)
    else:
        vector = [number + int(rng.choice([-1, 1])) for number in vector[:1]] + [number + 1 for number in vector[1:]]
    setattr(holder, name, [number % 65_536 for number in vector])
    return f"{name} {how}"


def _change_sequence(holder: Dataset, name: str, rng: np.random.Generator) -> str:
    how = str(rng.choice(["empty", "double", "deep", "raw", "bare"]))
    if how == "raw":
        _put(holder, name, rng)
    elif how == "deep":
        setattr(holder, name, nested(int(rng.choice([3, 50, 150]))))
    elif how == "bare":
        setattr(holder, name, [Dataset()])
    elif how == "double" and name in holder and len(holder[name].value):
        item = deepcopy(holder[name].value[0])
        if "ImagePositionPatient" in item and item.ImagePositionPatient:
            item.ImagePositionPatient = [float(mm) + 10 for mm in item.ImagePositionPatient]
        setattr(holder, name, [holder[name].value[0], item])
    else:
        setattr(holder, name, [])
    return f"{name} {how}"


def _put(holder: Dataset, name: str, rng: np.random.Generator) -> None:
    """Some bytes as the value of an attribute, now and then with another value representation."""
    tag = Tag(tag_for_keyword(name) or 0)
    usual = dictionary_VR(tag).split(" ")[0]
    vr = str(rng.choice(ODD_VRS)) if rng.random() < 0.2 else usual
    if usual in ("US", "UL", "SS") and rng.random() < 0.8:
        value = struct.pack("<H", int(rng.choice(ODD_NUMBERS)))
    elif rng.random() < 0.7:
        value = bytes(rng.choice(np.array(ODD_TEXTS, dtype=object)))
    else:
        value = rng.bytes(int(rng.choice([0, 1, 2, 3, 8, 30])))
    if name == "FrameIncrementPointer" and rng.random() < 0.7:
        tags = [Tag(tag_for_keyword(str(vector)) or 0) for vector in rng.choice(VECTORS, int(rng.integers(1, 4)))]
        value = b"".join(struct.pack("<HH", each.group, each.element) for each in tags)
    if name == "ImageType" and rng.random() < 0.8:
        value = b"ORIGINAL\\PRIMARY\\" + str(rng.choice(KINDS)).encode()
    value += b" " * (len(value) % 2)
    if vr == "SQ":
        holder[tag] = DataElement(tag, "SQ", nested(2))
    else:
        holder._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True, True)
