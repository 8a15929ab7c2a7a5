"""Volumes as other programs write them: NIfTI with three or four axes, and NRRD and MetaImage.

Arrays are (gate, z, y, x) here, whatever the file; a file of three axes has one gate. 3D Slicer writes segmentations as
NRRD whose segments have names, share a label map or lie in several *layers* when they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Shaped

from mpi_unet.cohort.nifti import affine_from_spacing
from mpi_unet.errors import CohortError
from mpi_unet.shapes import Affine

__all__ = ["VOLUME_SUFFIXES", "VolumeFile", "read_volume_file", "volume_stem"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)

MAX_VALUES = 2**29
"""A header that claims more voxels than this (2 GiB of float32) is refused before anything is read."""


@dataclass(frozen=True)
class VolumeFile:
    """What a file holds.

    Attributes:
        values: Values (gate, z, y, x) after the file's own scaling; of a Slicer segmentation (layer, z, y, x).
        affine: Voxel index (x, y, z) to RAS in mm; diagonal with the spacing where the file calls its place unknown.
        is_placed: Whether the file says where its voxels are.
        segments: Name of a Slicer segment to its layer and value; empty for other files.
    """

    values: Shaped[np.ndarray, "gate z y x"]
    affine: Affine
    is_placed: bool
    segments: dict[str, tuple[int, int]] = field(default_factory=dict)


def read_volume_file(path: str | Path) -> VolumeFile:
    """Read an image or a label map.

    Args:
        path: A file of one of `VOLUME_SUFFIXES`.

    Raises:
        CohortError: The file is missing, cannot be read, is too large, or has not two to four axes.
    """
    path = Path(path)
    if not path.is_file():
        raise CohortError("file is missing")
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return _read_nifti(path)
    return _read_by_itk(path)


def volume_stem(name: str) -> str:
    """The name of a file without its suffix, ``.nii.gz`` being one.

    Example:
        >>> volume_stem("P1_rest.nii.gz"), volume_stem("P1.5_rest.seg.nrrd")
        ('P1_rest', 'P1.5_rest.seg')
    """
    return next((name[: -len(end)] for end in (".nii.gz", *VOLUME_SUFFIXES) if name.lower().endswith(end)), name)


# --- Private helpers --------------------------------------------------------------------------------------------------


@contextmanager
def _no_screen() -> Iterator[None]:
    """Keep ITK from writing its warnings to the terminal."""
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(before)


def _read_nifti(path: Path) -> VolumeFile:
    try:
        file = nib.load(path)
        if not isinstance(file, nib.Nifti1Image | nib.Nifti2Image):
            raise CohortError(f"{type(file).__name__} is no NIfTI file; expected .nii or .nii.gz")
        shape = _shape(tuple(int(size) for size in file.shape))
        values = np.asanyarray(file.dataobj).reshape(file.shape[: len(shape)] if len(shape) > 2 else (*shape, 1))
    except CohortError:
        raise
    except Exception as error:  # nibabel raises whatever it likes on a broken file
        raise _unreadable(path, error, "NIfTI") from error
    header = file.header
    is_placed = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    if is_placed:
        affine = np.asarray(file.affine, dtype=float)
    else:
        zooms = [float(zoom) for zoom in header.get_zooms()[:3]] + [1.0]
        affine = affine_from_spacing((zooms[2], zooms[1], zooms[0]))
    turned = values.T if values.ndim == 4 else values.T[None]
    return VolumeFile(np.ascontiguousarray(turned), affine, is_placed)


def _read_by_itk(path: Path) -> VolumeFile:
    import SimpleITK

    try:
        with _no_screen():
            reader = SimpleITK.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            size = tuple(reader.GetSize())
            _shape((*size, reader.GetNumberOfComponents()) if reader.GetNumberOfComponents() > 1 else size)
            image = reader.Execute()
            texts = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    except CohortError:
        raise
    except Exception as error:  # ITK's own errors, and text that is no UTF-8
        raise _unreadable(path, error, "NRRD or MetaImage") from error
    values = SimpleITK.GetArrayFromImage(image)
    dimension = image.GetDimension()
    if dimension == 3:
        values = np.moveaxis(values, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else values[None]
    if values.ndim != 4 or dimension not in (3, 4):
        raise CohortError(f"has {dimension} axes; expected three, or four with gates")
    spacing, direction, origin = image.GetSpacing(), image.GetDirection(), image.GetOrigin()
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = np.array(direction).reshape(dimension, dimension)[:3, :3] * np.array(spacing[:3])
    affine_lps[:3, 3] = origin[:3]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps
    return VolumeFile(np.ascontiguousarray(values), affine, True, _segments(texts))


def _segments(texts: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Names, layers and values of the segments of a Slicer file; without layers and values as older files have them."""
    numbers = sorted({int(key[7:].partition("_")[0]) for key in texts if _is_segment_key(key)})
    segments: dict[str, tuple[int, int]] = {}
    for number in numbers:
        name = texts.get(f"Segment{number}_Name") or texts.get(f"Segment{number}_ID", str(number))
        layer = texts.get(f"Segment{number}_Layer", "0")
        value = texts.get(f"Segment{number}_LabelValue", "1")
        if name in segments:
            raise CohortError(f"holds two segments of the name {name!r}; rename one of them")
        if not layer.isdecimal() or not value.isdecimal():
            raise CohortError(f"segment {name!r} has layer {layer!r} and value {value!r}; expected whole numbers")
        segments[name] = int(layer), int(value)
    return segments


def _is_segment_key(key: str) -> bool:
    return key.startswith("Segment") and key[7:].partition("_")[0].isdecimal()


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without ones behind the third axis; refuses what is no volume."""
    if math.prod(shape) > MAX_VALUES:
        raise CohortError(f"its header claims {'x'.join(map(str, shape))} values; expected a SPECT study")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 4 or 0 in shape:
        said = "x".join(map(str, shape))
        raise CohortError(f"shape is {said}; expected three axes (x, y, z), or four with gates, none of them empty")
    return shape


def _unreadable(path: Path, error: Exception, kind: str) -> CohortError:
    lines = str(error).replace(str(path), path.name).replace(str(path.parent), "").split("\n")
    reason = " ".join(lines[-1].split()) or type(error).__name__
    return CohortError(f"cannot be read ({reason}); expected a {kind} file")
