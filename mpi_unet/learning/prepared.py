"""Cases after the deterministic transforms, made once and kept on disk.

The images of all cases lie in one array, a *row* for each sample: a frame (2-D networks) or a case (3-D networks).
Rows are padded to the largest image of the cohort, evenly on both sides, with their own smallest value; a case is a
view that leaves the padding out.

On disk the arrays are memory-mapped, so that a cohort may be larger than memory. Their folder is named by a hash of
everything that they depend on - transforms, pixels, reader, versions - so it is never stale; it is made by one
process while others wait, appears whole or not at all, and may be deleted at any time.
"""

from __future__ import annotations

import inspect
import json
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import torch
from hydra.utils import get_object
from jaxtyping import Float32, Int64, UInt8
from monai.transforms import Compose
from torch import Tensor

from mpi_unet import __version__
from mpi_unet.cohort.nifti import read_grid
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import RunError
from mpi_unet.files import read_json, sha256, waiting_lock, write_json, write_remedy
from mpi_unet.learning import transforms
from mpi_unet.learning.transforms import prepared_case

__all__ = ["PreparedCase", "PreparedCases", "prepare_cases"]

FORMAT = 1
"""Of the files on disk."""

RELEASE_AFTER_BYTES = 256 * 2**20
"""So much may be read from the files before the pages are given back; the system keeps them as long as it has room."""

DEVICE_SHARE = 0.25
"""Part of a GPU's free memory that the prepared cases may take; larger cohorts are sent batch by batch."""

Key = dict[str, Any]


@dataclass(frozen=True)
class PreparedCase:
    """One case after the deterministic transforms.

    Attributes:
        case_id: Case.
        patient_id: Patient.
        image: float32 (1, z, y, x).
        label: uint8 (1, z, y, x).
    """

    case_id: str
    patient_id: str
    image: Tensor
    label: Tensor


@dataclass(frozen=True)
class _Place:
    """Where a case lies: its first row, and its own size (z, y, x)."""

    case_id: str
    patient_id: str
    row: int
    shape: tuple[int, int, int]


class PreparedCases(Sequence[PreparedCase]):
    """The prepared cases of a cohort, in its order.

    Attributes:
        images: float32 (rows, y, x) or (rows, z, y, x).
        labels: uint8, same shape.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self,
        places: Sequence[_Place],
        images: Float32[Tensor, "rows ..."],
        labels: UInt8[Tensor, "rows ..."],
        maps: Sequence[mmap.mmap] = (),
    ) -> None:
        self.places, self.images, self.labels = tuple(places), images, labels
        self.spatial_dims = images.ndim - 1
        self._maps, self._bytes_read = tuple(maps), 0
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @classmethod
    def of(cls, cases: Sequence[PreparedCase], spatial_dims: int) -> PreparedCases:
        """Gather cases that are in memory."""
        shapes = [_zyx(case.image.shape[1:]) for case in cases]
        places = _places([(case.case_id, case.patient_id) for case in cases], shapes, spatial_dims)
        grid = _grid(shapes, spatial_dims)
        rows = [_rows(case.image[0].numpy(), case.label[0].numpy(), grid) for case in cases]
        images, labels = (torch.from_numpy(np.concatenate(part)) for part in zip(*rows, strict=True))
        return cls(places, images, labels)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> PreparedCase: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PreparedCase]: ...
    def __getitem__(self, index: int | slice) -> PreparedCase | Sequence[PreparedCase]:
        """One case as a view of the arrays."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        place = self.places[index]
        inside = self._inside(place)
        self._count(self.images[inside].nbytes)
        return PreparedCase(place.case_id, place.patient_id, self.images[inside][None], self.labels[inside][None])

    def row(self, case: int, frame: int) -> int:
        """The row of a frame of a case; a 3-D network knows no single frames."""
        return self.places[case].row + (frame if self.spatial_dims == 2 else 0)

    def batch(
        self, rows: Int64[Tensor, " b"], device: torch.device
    ) -> tuple[Float32[Tensor, "b 1 *grid"], UInt8[Tensor, "b 1 *grid"]]:
        """Image and label of some rows, copied to a device without waiting for it."""
        kept = self._kept_on(device)
        if kept is not None:
            rows = rows.to(device, non_blocking=True)
            return kept[0].index_select(0, rows)[:, None], kept[1].index_select(0, rows)[:, None]
        self._count(len(rows) * self.images[0].nbytes)
        image, label = (self._copied(array, rows, device)[:, None] for array in (self.images, self.labels))
        return image, label

    def _copied(self, array: Tensor, rows: Tensor, device: torch.device) -> Tensor:
        if device.type != "cuda":
            return array.index_select(0, rows).to(device)
        pinned = torch.empty((len(rows), *array.shape[1:]), dtype=array.dtype, pin_memory=True)
        return torch.index_select(array, 0, rows, out=pinned).to(device, non_blocking=True)

    def _kept_on(self, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """The arrays on a GPU, where they fit into :data:`DEVICE_SHARE` of what is free there."""
        if device.type != "cuda":
            return None
        if device not in self._on_device:
            free_bytes, _ = torch.cuda.mem_get_info(device)
            fits = self.images.nbytes + self.labels.nbytes <= DEVICE_SHARE * free_bytes
            arrays = (self.images.to(device), self.labels.to(device)) if fits else (torch.empty(0), torch.empty(0))
            self._on_device[device] = arrays
            self._count(self.images.nbytes)
        kept = self._on_device[device]
        return kept if len(kept[0]) else None

    def _inside(self, place: _Place) -> tuple[slice | int, ...]:
        grid, own = self.images.shape[1:], place.shape[3 - self.spatial_dims :]
        around = [(whole - length) // 2 for whole, length in zip(grid, own, strict=True)]
        inside = [slice(start, start + length) for start, length in zip(around, own, strict=True)]
        first = slice(place.row, place.row + place.shape[0]) if self.spatial_dims == 2 else place.row
        return (first, *inside)

    def _count(self, num_bytes: int) -> None:
        """Give pages of the files back from time to time, so that a pass over a large cohort stays small in memory."""
        self._bytes_read += num_bytes
        if self._bytes_read > RELEASE_AFTER_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)
            self._bytes_read = 0


def prepare_cases(
    cohort: Cohort,
    reader: str,
    deterministic: Compose,
    *,
    recipe: Mapping[str, Any],
    fingerprint: str,
    spatial_dims: int,
    cache: str | Path | None,
) -> PreparedCases:
    """The cases of a cohort after the deterministic transforms: made now, or found where they were made before.

    Args:
        cohort: The cohort; one case at a time is read.
        reader: Whose outlines are the labels.
        deterministic: The transforms.
        recipe: Their configuration, which names them on disk.
        fingerprint: Of the cohort for this reader.
        spatial_dims: 2 or 3.
        cache: Folder that keeps what was made; None keeps it in memory.

    Raises:
        ConfigError: A transform changes the grid or leaves values that are not finite.
        RunError: The folder cannot be written to.
    """
    shapes = [read_grid(case.image)[0] for case in cohort.cases]
    places = _places([(case.case_id, case.patient_id) for case in cohort.cases], shapes, spatial_dims)
    grid = _grid(shapes, spatial_dims)
    rows = _prepared_rows(cohort, reader, deterministic, grid)
    if cache is None:
        images, labels = (
            torch.empty((_num_rows(places, spatial_dims), *grid), dtype=dtype) for dtype in (torch.float32, torch.uint8)
        )
        for place, (image, label) in zip(places, rows, strict=True):
            images[place.row : place.row + len(image)] = torch.from_numpy(image)
            labels[place.row : place.row + len(image)] = torch.from_numpy(label)
        return PreparedCases(places, images, labels)
    key: Key = {
        "format": FORMAT,
        "spatial_dims": spatial_dims,
        "grid": list(grid),
        "reader": reader,
        "fingerprint": fingerprint,
        "transforms": dict(recipe),
        "code": {target: _source_digest(target) for target in sorted(_own_targets(recipe))} | _own_code(),
        "versions": {name: metadata.version(name) for name in ("monai", "torch", "numpy")} | {"mpi_unet": __version__},
        "cases": [asdict(place) for place in places],
    }
    name = sha256(json.dumps(key, sort_keys=True, default=str))[:32]
    folder = Path(cache) / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with waiting_lock(folder.with_name(f".{name}.lock")):
            if not _is_whole(folder, places, grid):
                _write(folder, key, rows)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {error.strerror or error}; {write_remedy(error, 'loader.cache')}, or keep "
            "the prepared images in memory with loader.cache=null, then give the same command again"
        ) from error
    return _opened(folder, places, grid)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _prepared_rows(
    cohort: Cohort, reader: str, deterministic: Compose, grid: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of one case after the other."""
    for case in cohort.cases:
        image, label = prepared_case(deterministic, case.read_image().array, case.read_mask(reader), case.case_id)
        yield _rows(image[0].numpy(), label[0].numpy(), grid)


def _rows(image: np.ndarray, label: np.ndarray, grid: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Image and label (z, y, x) of a case as padded rows."""
    if len(grid) == 3:
        image, label = image[None], label[None]
    axes = tuple(range(1, image.ndim))
    smallest = image.min(axes, keepdims=True)
    padded_image = np.empty((len(image), *grid), np.float32)
    padded_image[:] = smallest
    padded_label = np.zeros((len(image), *grid), np.uint8)
    around = [(whole - length) // 2 for whole, length in zip(grid, image.shape[1:], strict=True)]
    inside = (slice(None), *(slice(at, at + length) for at, length in zip(around, image.shape[1:], strict=True)))
    padded_image[inside], padded_label[inside] = image, label
    return padded_image, padded_label


def _zyx(shape: Sequence[int]) -> tuple[int, int, int]:
    depth, height, width = shape
    return int(depth), int(height), int(width)


def _grid(shapes: Sequence[Sequence[int]], spatial_dims: int) -> tuple[int, ...]:
    """The size of every row: the largest along each axis."""
    return tuple(int(length) for length in np.max(shapes, axis=0)[3 - spatial_dims :])


def _places(
    ids: Sequence[tuple[str, str]], shapes: Sequence[tuple[int, int, int]], spatial_dims: int
) -> tuple[_Place, ...]:
    counts = [shape[0] if spatial_dims == 2 else 1 for shape in shapes]
    firsts = np.cumsum([0, *counts[:-1]])
    return tuple(
        _Place(case_id, patient_id, int(first), shape)
        for (case_id, patient_id), first, shape in zip(ids, firsts, shapes, strict=True)
    )


def _num_rows(places: Sequence[_Place], spatial_dims: int) -> int:
    return places[-1].row + (places[-1].shape[0] if spatial_dims == 2 else 1)


def _write(folder: Path, key: Key, rows: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
    """Make the folder, whole or not at all."""
    part = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        # not through a memory map: a full disk would end the process there, and raises here
        with open(part / "images.f32", "wb") as images, open(part / "labels.u8", "wb") as labels:
            for image, label in rows:
                images.write(image.tobytes())
                labels.write(label.tobytes())
            _flush(images)
            _flush(labels)
        write_json(part / "key.json", key)
        shutil.rmtree(folder, ignore_errors=True)  # an older one that lost a file
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _is_whole(folder: Path, places: Sequence[_Place], grid: Sequence[int]) -> bool:
    number = _num_rows(places, len(grid)) * int(np.prod(grid))
    try:
        sizes = [(folder / name).stat().st_size for name in ("images.f32", "labels.u8")]
        return sizes == [4 * number, number] and read_json(folder / "key.json")["format"] == FORMAT
    except (OSError, ValueError, KeyError):
        return False


def _opened(folder: Path, places: Sequence[_Place], grid: Sequence[int]) -> PreparedCases:
    maps, arrays = [], []
    for name, dtype in (("images.f32", torch.float32), ("labels.u8", torch.uint8)):
        with open(folder / name, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # writable for torch, never written back
        maps.append(mapped)
        arrays.append(torch.frombuffer(mapped, dtype=dtype).reshape(-1, *grid))
    return PreparedCases(places, arrays[0], arrays[1], maps)


def _own_targets(recipe: Mapping[str, Any]) -> set[str]:
    """Transforms of the user's own, whose code has no version."""
    targets = {str(node["_target_"]) for node in recipe.values() if isinstance(node, Mapping) and "_target_" in node}
    return {target for target in targets if target.partition(".")[0] not in ("monai", "torch")}


def _source_digest(target: str) -> str:
    try:
        source = inspect.getsourcefile(get_object(target))
    except TypeError:  # built in or compiled
        return ""
    return sha256(Path(source).read_bytes()) if source else ""


def _own_code() -> dict[str, str]:
    """Digest of what makes the rows, for those who run from a checkout, whose version does not change with it."""
    modules = (Path(__file__), Path(str(transforms.__file__)))
    return {path.stem: sha256(path.read_bytes()) for path in modules}
