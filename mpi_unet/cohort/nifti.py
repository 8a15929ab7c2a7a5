"""Images and masks as NIfTI files on disk, as arrays (z, y, x) in memory.

On disk the axes are (x, y, z) and the affine takes a voxel index to millimetres in RAS (x to the right, y to the
front, z to the head of the patient), as NIfTI defines it. In memory the axes are (z, y, x) and spacings have that
order.

The third axis of a projection set counts views of the camera and is no distance. Such a file says so: its orientation
is marked unknown (qform and sform code 0), ``pixdim[3]`` is 1, and only the spacing within a view means anything.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Shaped

from mpi_unet.errors import CohortError
from mpi_unet.files import whole_file
from mpi_unet.shapes import Affine, Image, Mask, SpacingMm

__all__ = [
    "Volume",
    "affine_from_spacing",
    "num_frames",
    "read_grid",
    "read_image",
    "read_mask",
    "read_stored",
    "write_image",
    "write_mask",
]

COMPRESSION_LEVEL = 6
"""gzip level; 9 costs three times the time for about 1 % of the size of a SPECT volume."""

MAX_VALUES_SHOWN = 6
"""So many of the values of a mask that is not binary are quoted in the error."""

READ_ERRORS = (OSError, EOFError, ValueError, KeyError, zlib.error, nib.filebasedimages.ImageFileError)
"""What nibabel, gzip and zlib raise on a file that is cut off, is no NIfTI or cannot be opened."""


@dataclass(frozen=True)
class Volume:
    """Intensities of one case with the place of its voxels.

    Attributes:
        array: Intensities (z, y, x).
        affine: Voxel index (x, y, z) to millimetres in RAS. Where the file calls its orientation unknown (projections),
            the affine is diagonal and holds the spacing only.
    """

    array: Image
    affine: Affine

    @property
    def spacing_mm(self) -> SpacingMm:
        """Distance of neighboring voxel centers along (z, y, x) in mm; of projections, z means nothing."""
        return spacing_from_affine(self.affine)


@dataclass(frozen=True)
class Stored:
    """The values of a file as they stand there.

    Attributes:
        values: Values (z, y, x) after the file's own scaling.
        affine: As in :class:`Volume`.
        is_placed: Whether the file says where its voxels are (qform or sform code above 0).
    """

    values: Shaped[np.ndarray, "z y x"]
    affine: Affine
    is_placed: bool


def affine_from_spacing(spacing_mm: SpacingMm) -> Affine:
    """Axis-parallel affine with its origin in the first voxel.

    Args:
        spacing_mm: Distance of neighboring voxel centers along (z, y, x) in mm.

    Returns:
        Voxel index (x, y, z) to millimetres in RAS.

    Example:
        >>> affine_from_spacing((6.4, 3.2, 3.0)).diagonal().tolist()
        [3.0, 3.2, 6.4, 1.0]
    """
    z, y, x = spacing_mm
    return np.diag([x, y, z, 1.0])


def spacing_from_affine(affine: Affine) -> SpacingMm:
    """Length in mm of one step along (z, y, x)."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def read_image(path: str | Path) -> Volume:
    """Read one image.

    Returns:
        Intensities as float32 after the file's own scaling. NaN and infinity are passed on as they are:
        :meth:`mpi_unet.cohort.table.Cohort.check` names the cases that hold any.

    Raises:
        CohortError: The file is missing, cannot be read, or has not three axes.
    """
    stored = read_stored(path)
    if not np.issubdtype(stored.values.dtype, np.number) or np.iscomplexobj(stored.values):
        raise CohortError(f"{Path(path).name}: holds {stored.values.dtype} values; expected real numbers")
    return Volume(stored.values.astype(np.float32, copy=False), stored.affine)


def read_mask(path: str | Path) -> Mask:
    """Read one mask; true where the file holds 1.

    Raises:
        CohortError: The file is missing, cannot be read, has not three axes, or holds values other than 0 and 1.
    """
    mask, _ = read_mask_and_affine(path)
    return mask


def read_mask_and_affine(path: str | Path) -> tuple[Mask, Affine]:
    """Read one mask together with its affine; see :func:`read_mask`."""
    stored = read_stored(path)
    inside = stored.values == 1
    if not np.all(inside | (stored.values == 0)):
        raise CohortError(
            f"{Path(path).name}: label holds {quoted_values(stored.values)}; expected 0 outside and 1 inside"
        )
    return inside, stored.affine


def read_stored(path: str | Path) -> Stored:
    """Read the values of a file whatever they mean; see :func:`read_image` for the errors."""
    file = _unpacked(path) or _load(path)
    try:
        values = np.asanyarray(file.dataobj)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error
    affine, is_placed = _place(file)
    return Stored(np.ascontiguousarray(values.T), affine, is_placed)


def num_frames(path: str | Path) -> int:
    """Length of the z axis, from the header alone."""
    return int(_load(path).shape[2])


def read_grid(path: str | Path) -> tuple[tuple[int, int, int], Affine]:
    """Shape (z, y, x) and affine of an image or mask, from the header alone."""
    file = _load(path)
    x, y, z = file.shape
    return (int(z), int(y), int(x)), _place(file)[0]


def write_image(path: str | Path, array: Image, affine: Affine, *, is_distance_z: bool = True) -> None:
    """Write intensities as float32.

    Args:
        path: A name that ends in ``.nii.gz`` or ``.nii``.
        array: Intensities (z, y, x).
        affine: Voxel index (x, y, z) to millimetres in RAS.
        is_distance_z: False for projections, whose third axis counts views; the orientation is then marked unknown.

    Raises:
        RunError: The disk is full or the folder cannot be written to.
    """
    _write(path, array.astype(np.float32, copy=False), affine, is_distance_z)


def write_mask(path: str | Path, mask: Mask, affine: Affine, *, is_distance_z: bool = True) -> None:
    """Write a mask as uint8: 1 inside, 0 outside; arguments as for :func:`write_image`."""
    _write(path, mask.astype(np.uint8), affine, is_distance_z)


def quoted_values(values: Shaped[np.ndarray, ...]) -> str:
    """The distinct values of an array for an error message, the first few of them.

    Example:
        >>> quoted_values(np.array([0, 255, 0, 7]))
        'the values 0, 7, 255'
    """
    distinct = np.unique(values)
    shown = ", ".join(f"{value:g}" for value in distinct[:MAX_VALUES_SHOWN].astype(float))
    if len(distinct) > MAX_VALUES_SHOWN:
        shown += f", ... ({len(distinct)} different values)"
    return f"the values {shown}" if len(distinct) > 1 else f"the value {shown} only"


# --- Private helpers --------------------------------------------------------------------------------------------------


def _unpacked(path: str | Path) -> Any:
    """A gzipped NIfTI-1 volume, unpacked at once: in pieces, as nibabel does it, takes twice as long.

    None where it is anything else, or damaged; nibabel then finds out what it is.
    """
    if not str(path).endswith(".nii.gz"):
        return None
    try:
        file = nib.Nifti1Image.from_bytes(gzip.decompress(Path(path).read_bytes()))
    except Exception:  # whatever is wrong with it: it is read once more, by the way that says so
        return None
    return file if len(file.shape) == 3 and 0 not in file.shape else None


def _load(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise CohortError(f"{path.name}: file is missing")
    try:
        file = nib.load(path)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error
    if not isinstance(file, nib.Nifti1Image | nib.Nifti2Image):
        raise CohortError(f"{path.name}: {type(file).__name__} is no NIfTI file; expected .nii or .nii.gz")
    if len(file.shape) != 3 or 0 in file.shape:
        shape = "x".join(map(str, file.shape))
        raise CohortError(f"{path.name}: shape is {shape}; expected three axes (x, y, z), none of them empty")
    return file


def _place(file: Any) -> tuple[Affine, bool]:
    """Affine of a file, diagonal where it does not say where its voxels are, and whether it does."""
    header = file.header
    is_placed = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
    if is_placed:
        return np.asarray(file.affine, dtype=float), True
    x, y, z = (float(zoom) for zoom in header.get_zooms()[:3])
    return affine_from_spacing((z, y, x)), False


def _unreadable(path: str | Path, error: Exception) -> CohortError:
    reason = " ".join(str(error).replace(str(Path(path).parent), "").split()) or type(error).__name__
    return CohortError(f"{Path(path).name}: cannot be read ({reason}); expected a NIfTI file")


def _write(path: str | Path, array: Shaped[np.ndarray, "z y x"], affine: Affine, is_distance_z: bool) -> None:
    image = nib.Nifti1Image(np.ascontiguousarray(array.T), affine if is_distance_z else None)
    image.header.set_xyzt_units("mm")
    if is_distance_z:
        image.set_sform(affine, code="scanner")
        image.set_qform(affine, code="scanner", strip_shears=True)
    else:
        _, y, x = spacing_from_affine(affine)
        image.header.set_zooms((x, y, 1.0))
        image.header["qform_code"] = image.header["sform_code"] = 0
    content = image.to_bytes()
    with whole_file(path) as temporary, open(temporary, "wb") as raw:
        if temporary.suffix == ".gz":
            # No name and no time in the gzip header: equal pixels give equal bytes.
            with gzip.GzipFile("", "wb", compresslevel=COMPRESSION_LEVEL, fileobj=raw, mtime=0) as packed:
                packed.write(content)
        else:
            raw.write(content)
