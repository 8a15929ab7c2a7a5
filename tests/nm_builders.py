"""Nuclear Medicine objects with a hot voxel at a known place, in every form that cameras write; plain functions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    RTImageStorage,
)

from mpi_unet.dicom.geometry import Orbit, SliceStack
from mpi_unet.dicom.nm_modules import decimals
from mpi_unet.dicom.nm_writing import (
    Gating,
    SyntheticIdentity,
    gated_tomo,
    recon_gated_tomo,
    recon_tomo,
    reordered,
    tomo,
)

IDENTITY = SyntheticIdentity("7-0003", "stress")
ORBIT = Orbit(first_angle_deg=225.0, arc_deg=180.0, num_views=12, radius_mm=250.0)
GATING = Gating()
HOT = 900
SHAPE = (20, 40, 36)
NUM_GATES = 4
PIXEL_MM = (4.8, 4.4)
STEP_MM = 6.4

TEST_DATA = os.environ.get("MPI_UNET_TEST_DATA", "")
needs_test_data = pytest.mark.skipif(not TEST_DATA, reason="MPI_UNET_TEST_DATA does not name the folder of real files")


def real(name: str) -> Path:
    """A real file of the folder that MPI_UNET_TEST_DATA names."""
    return Path(TEST_DATA) / name


def short_axis(step_mm: float = STEP_MM) -> SliceStack:
    """Slices across a heart that points to the left, the front and the feet."""
    normal = np.array([0.6, -0.64, -0.48])
    row = np.cross(normal, (0.0, 0.0, 1.0))
    row /= np.linalg.norm(row)
    column = np.cross(normal, row)
    return SliceStack((-12.5, 40.25, 77.125), as_vector(row), as_vector(column), PIXEL_MM, step_mm)


def transaxial(step_mm: float = STEP_MM) -> SliceStack:
    """Slices across the body."""
    return SliceStack((-70.0, -90.0, 30.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), PIXEL_MM, step_mm)


def as_vector(values: np.ndarray) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))


def lps_of(stack: SliceStack, slice_row_column: tuple[float, float, float]) -> np.ndarray:
    """Where a place of the grid lies in the patient, by the words of the standard and by no matrix of ours."""
    z, row, column = slice_row_column
    along_row, down_column = np.array(stack.row_direction), np.array(stack.column_direction)
    return (
        np.array(stack.position_mm)
        + column * stack.pixel_mm[1] * along_row
        + row * stack.pixel_mm[0] * down_column
        + z * stack.step_mm * np.cross(along_row, down_column)
    )


PLACES = [(5.3, 11.4, 23.7), (6.6, 12.2, 22.9), (7.7, 13.4, 21.6), (4.2, 10.1, 25.8)]
"""Where the marker is in each gate, as (slice, row, column) between the voxels; the first one when not gated."""


def markers(stack: SliceStack, num_gates: int = 1) -> list[np.ndarray]:
    """Where the marker is in the patient (LPS), gate by gate."""
    return [lps_of(stack, place) for place in PLACES[:num_gates]]


def marked(num_gates: int = 1) -> np.ndarray:
    """Activity (gate, z, row, column): background, and the marker in the voxel that is next to its place."""
    activity = np.random.default_rng(0).poisson(20, (num_gates, *SHAPE))
    for gate, place in enumerate(PLACES[:num_gates]):
        activity[(gate, *(round(number) for number in place))] = HOT
    return activity


def marked_volume(stack: SliceStack) -> Dataset:
    return recon_tomo(marked()[0], stack=stack, identity=IDENTITY, view="short_axis")


def marked_gated_volume(stack: SliceStack) -> Dataset:
    activity = marked(NUM_GATES)
    return recon_gated_tomo(activity, stack=stack, gating=GATING, identity=IDENTITY, view="short_axis")


def projections(gated: bool = False) -> Dataset:
    counts = np.random.default_rng(1).poisson(20, (NUM_GATES, ORBIT.num_views, 24, 20))
    if gated:
        return gated_tomo(counts, spacing_mm=(6.4, 6.6), orbit=ORBIT, gating=GATING, identity=IDENTITY)
    return tomo(counts[0], spacing_mm=(6.4, 6.6), orbit=ORBIT, identity=IDENTITY)


# --- Forms in which the same study is written -------------------------------------------------------------------------


def last_slice_first(dataset: Dataset) -> Dataset:
    """Frames and Slice Vector backward; position and spacing stay those of slice 1 and of the way to slice 2."""
    return reordered(dataset, list(range(dataset.NumberOfFrames))[::-1])


def slice_major(dataset: Dataset) -> Dataset:
    """All gates of a slice together."""
    frames = np.arange(dataset.NumberOfFrames).reshape(dataset.NumberOfTimeSlots, -1)
    return reordered(dataset, frames.T.ravel().tolist())


def geometry_at_top_level(dataset: Dataset) -> Dataset:
    moved = deepcopy(dataset)
    detector = moved.DetectorInformationSequence[0]
    for name in ("ImagePositionPatient", "ImageOrientationPatient"):
        setattr(moved, name, detector[name].value)
        del detector[name]
    return moved


def without_geometry(dataset: Dataset) -> Dataset:
    bare = deepcopy(dataset)
    detector = bare.DetectorInformationSequence[0]
    del detector.ImagePositionPatient, detector.ImageOrientationPatient
    return bare


def without(dataset: Dataset, *names: str) -> Dataset:
    bare = deepcopy(dataset)
    for name in names:
        del bare[name]
    return bare


def changed(dataset: Dataset, **values: object) -> Dataset:
    other = deepcopy(dataset)
    for name, value in values.items():
        setattr(other, name, value)
    return other


def rescaled(dataset: Dataset) -> Dataset:
    """The same counts as stored numbers that a slope of 0.5 and an intercept of 10 lead back."""
    other = changed(dataset, RescaleSlope=decimals([0.5])[0], RescaleIntercept=decimals([10.0])[0])
    stored = np.frombuffer(dataset.PixelData, "<u2")
    other.PixelData = ((stored.astype(int) - 10) * 2).clip(0).astype("<u2").tobytes()
    return other


def with_real_world_values(stack: SliceStack) -> Dataset:
    """Floating-point activity, which the writer scales and says how."""
    return recon_tomo(marked()[0] / 7, stack=stack, identity=IDENTITY, view="short_axis")


VOLUMES: dict[str, Callable[[], tuple[Dataset, SliceStack]]] = {
    "short axis": lambda: (marked_volume(short_axis()), short_axis()),
    "short axis, negative spacing": lambda: (marked_volume(short_axis(-STEP_MM)), short_axis(-STEP_MM)),
    "transaxial": lambda: (marked_volume(transaxial()), transaxial()),
    "transaxial, negative spacing": lambda: (marked_volume(transaxial(-STEP_MM)), transaxial(-STEP_MM)),
    "no spacing": lambda: (without(marked_volume(short_axis()), "SpacingBetweenSlices"), short_axis()),
    "geometry at top level": lambda: (geometry_at_top_level(marked_volume(short_axis())), short_axis()),
    "top level, negative spacing": lambda: (
        geometry_at_top_level(marked_volume(short_axis(-STEP_MM))),
        short_axis(-STEP_MM),
    ),
    "reversed slice vector": lambda: (last_slice_first(marked_volume(short_axis())), short_axis()),
    "reversed, negative spacing": lambda: (
        last_slice_first(marked_volume(short_axis(-STEP_MM))),
        short_axis(-STEP_MM),
    ),
    "rescale": lambda: (rescaled(marked_volume(short_axis(-STEP_MM))), short_axis(-STEP_MM)),
    "real-world mapping": lambda: (with_real_world_values(short_axis(-STEP_MM)), short_axis(-STEP_MM)),
    "gated": lambda: (marked_gated_volume(short_axis(-STEP_MM)), short_axis(-STEP_MM)),
    "gated, slices first": lambda: (slice_major(marked_gated_volume(short_axis(-STEP_MM))), short_axis(-STEP_MM)),
    "gated, reversed": lambda: (last_slice_first(marked_gated_volume(short_axis())), short_axis()),
    "gated, slices first, top level": lambda: (
        geometry_at_top_level(slice_major(marked_gated_volume(transaxial()))),
        transaxial(),
    ),
}
"""Name of a form to the object and to where its grid lies."""


# --- Files ------------------------------------------------------------------------------------------------------------

NATIVE = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
}
JPEG_UIDS = {
    "JPEG lossless": JPEGLossless,
    "JPEG lossless SV1": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
JPEG = tuple(JPEG_UIDS)
SYNTAXES = (*NATIVE, *JPEG)


def write(dataset: Dataset, path: Path, syntax: str = "explicit", *, meta: bool = True) -> Path:
    """Write a file in some transfer syntax, with or without preamble and meta information."""
    if syntax in JPEG:
        return _write_jpeg(dataset, path, syntax)
    other = deepcopy(dataset)
    uid = NATIVE[syntax]
    other.file_meta = FileMetaDataset()
    other.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if other.BitsAllocated == 8:
        other["PixelData"].VR = "OB"
    if syntax == "big-endian":
        width = f"u{other.BitsAllocated // 8}"
        other.PixelData = np.frombuffer(other.PixelData, f"<{width}").astype(f">{width}").tobytes()
    if syntax == "RLE":
        other.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    other.file_meta.TransferSyntaxUID = uid
    if meta:
        pydicom.dcmwrite(path, other, enforce_file_format=True)
    else:
        del other.file_meta
        pydicom.dcmwrite(path, other, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian)
    return path


def _write_jpeg(dataset: Dataset, path: Path, syntax: str) -> Path:
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        plain = write(_pixels_only(dataset), Path(folder) / "plain.dcm")  # gdcm aborts on some geometries of NM
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(
            gdcm.TransferSyntax(
                {
                    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14,
                    "JPEG lossless SV1": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
                    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
                    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
                }[syntax]
            )
        )
        change.SetInput(reader.GetImage())
        assert change.Change()
        fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
        frames = [
            fragments.GetFragment(number).GetByteValue().GetBuffer().encode("utf-8", "surrogateescape")
            for number in range(fragments.GetNumberOfFragments())
        ]
    other = deepcopy(dataset)
    other.file_meta = FileMetaDataset()
    other.file_meta.TransferSyntaxUID = JPEG_UIDS[syntax]
    other.PixelData = encapsulate(frames)
    other["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(path, other, enforce_file_format=True)
    return path


def _pixels_only(dataset: Dataset) -> Dataset:
    """The same frames as an image of a kind that gdcm has no opinion about."""
    bare = Dataset()
    for name in (
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelData",
    ):
        bare[name] = dataset[name]
    bare.SOPClassUID = RTImageStorage
    return bare


def nested(depth: int) -> Sequence:
    """Sequences within sequences."""
    inner = Dataset()
    inner.CodeMeaning = "innermost"
    for _ in range(depth):
        outer = Dataset()
        outer.ConceptCodeSequence = [inner]
        inner = outer
    return Sequence([inner])
