"""The pixels of one image: what they are like, and how they become the files of a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mpi_unet.cohort.nifti import affine_from_spacing, write_image
from mpi_unet.dicom.identity_pixels import looks_written
from mpi_unet.dicom.nm import NmImage, read_nm
from mpi_unet.errors import DicomError
from mpi_unet.files import sha256

__all__ = ["PixelFacts", "as_detail", "gates_of", "read_facts", "write_pixels"]


@dataclass(frozen=True)
class PixelFacts:
    """What the pixels of an image are like.

    Attributes:
        digest: SHA-256 of shape and stored pixels, the same whatever the compression.
        num_gates: Gates; 1 for an image that is not gated.
        has_place: Whether the image says where its voxels lie in the patient; of projections, nobody asks.
        has_spacing: Whether the image says how far apart its voxels are.
        is_constant: All pixels are equal: an empty image.
        is_written: Its corners hold strokes like writing.
        sum: Sum of all values.
        warnings: What the reader remarked.
    """

    digest: str
    num_gates: int
    has_place: bool
    has_spacing: bool
    is_constant: bool
    is_written: bool
    sum: float
    warnings: tuple[str, ...]


def read_facts(path: Path, energy_window: int | None = None) -> PixelFacts:
    """Read an image and say what its pixels are like.

    Args:
        path: The DICOM file.
        energy_window: Which one to take, from 1, where the image has several.

    Raises:
        DicomError: It cannot be read.
    """
    image = read_nm(path, energy_window=energy_window)
    stored = image.stored
    return PixelFacts(
        digest=sha256(repr(stored.shape), np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).tobytes()),
        num_gates=stored.shape[0],
        has_place=image.kind.is_projections or image.stack is not None,
        has_spacing=(image.pixel_mm if image.kind.is_projections else image.spacing_mm) is not None,
        is_constant=bool(stored.min() == stored.max()),
        is_written=looks_written(stored),
        sum=float(image.values.sum(dtype=np.float64)),
        warnings=tuple(image.warnings),
    )


def gates_of(num_gates: int, gates: str | Sequence[int]) -> list[int] | None:
    """Which gates become cases: numbers from 1, or 0 for all as one; None when the image lacks one asked for.

    Example:
        >>> gates_of(8, "sum"), gates_of(2, "each"), gates_of(1, "each"), gates_of(8, [1, 9])
        ([0], [1, 2], [0], None)
    """
    if num_gates == 1 or gates == "sum":
        return [0]
    if gates == "each":
        return list(range(1, num_gates + 1))
    numbers = [int(gate) for gate in gates]
    return numbers if max(numbers) <= num_gates else None


def write_pixels(
    source: Path,
    files: Sequence[tuple[Path, int]],
    *,
    spacing_mm: tuple[float, float, float] | None,
    energy_window: int | None = None,
) -> None:
    """Write the cases of one image as NIfTI; files that are there are whole and stay.

    Args:
        source: The DICOM file.
        files: NIfTI file and gate of each case, as from `gates_of`.
        spacing_mm: Distance of voxels along (z, y, x) where the image does not say it.
        energy_window: Which one to take, from 1, where the image has several.
    """
    missing = [(path, gate) for path, gate in files if not path.is_file()]
    if not missing:
        return
    image = read_nm(source, energy_window=energy_window)
    affine = _affine(image, spacing_mm)
    for path, gate in missing:
        values: np.ndarray = image.values.sum(axis=0) if gate == 0 else image.values[gate - 1]
        write_image(path, values.astype(np.float32), affine, is_distance_z=not image.kind.is_projections)


def as_detail(error: DicomError, path: Path) -> str:
    """What a reader says about a file, without its name; for the private table only."""
    return " ".join(str(error).removeprefix(f"{path.name}: ").split())


# --- Private helpers --------------------------------------------------------------------------------------------------


def _affine(image: NmImage, spacing_mm: tuple[float, float, float] | None) -> Float[np.ndarray, "4 4"]:
    if image.kind.is_projections:
        row_mm, column_mm = image.pixel_mm or (spacing_mm or (1.0, 1.0, 1.0))[1:]
        return affine_from_spacing((1.0, row_mm, column_mm))
    affine = image.affine_ras
    if affine is not None:
        return affine
    return affine_from_spacing(image.spacing_mm or spacing_mm or (1.0, 1.0, 1.0))
