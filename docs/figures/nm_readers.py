"""Give the same marked studies to several DICOM readers and print where each of them finds the marker.

Needs dcm2niix on PATH, and the package itk-io for MONAI's ITKReader; what is missing is left out of the table:

    python docs/figures/nm_readers.py
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from nm_builders import (
    HOT,
    NUM_GATES,
    VOLUMES,
    marked_volume,
    markers,
    projections,
    short_axis,
    without_geometry,
    write,
)

from mpi_unet.cohort.nifti import read_image, write_image
from mpi_unet.dicom.nm import read_nm
from mpi_unet.errors import DicomError

RAS_FROM_LPS = np.array([-1.0, -1.0, 1.0])
HALF_VOXEL_MM = 4.6
"""Half the diagonal of a voxel of 6.4 x 4.8 x 4.4 mm."""

FORMS = {
    name: VOLUMES[name]
    for name in (
        "short axis",
        "short axis, negative spacing",
        "transaxial",
        "transaxial, negative spacing",
        "no spacing",
        "reversed slice vector",
        "rescale",
        "real-world mapping",
        "geometry at top level",
        "gated",
        "gated, slices first",
    )
}


class Read(NamedTuple):
    """What a reader makes of a file: values with the voxel axes first, and voxel index to LPS (None: unknown)."""

    values: np.ndarray
    affine_lps: np.ndarray | None
    note: str = ""


def by_mpi_unet(path: Path) -> Read:
    """Through the NIfTI file that the cohort would keep, gate by gate."""
    image = read_nm(path)
    if not image.kind.is_volume:
        return Read(image.values, None, f"{image.kind}, no volume")
    if image.affine_ras is None:
        return Read(image.values[0].T, None, "geometry unknown, said")
    gates = []
    with tempfile.TemporaryDirectory() as folder:
        for gate in image.values:
            write_image(Path(folder) / "gate.nii.gz", gate, image.affine_ras)
            volume = read_image(Path(folder) / "gate.nii.gz")
            gates.append(volume.array.T)
    note = "warned" if image.warnings else ""
    return Read(np.stack(gates, -1) if len(gates) > 1 else gates[0], lps(volume.affine), note)


def by_simple_itk(path: Path) -> Read:
    """What ``SimpleITK.ReadImage`` gives."""
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Read(SimpleITK.GetArrayFromImage(image).T, affine)


def by_monai(name: str) -> Callable[[Path], Read]:
    """What MONAI's LoadImage gives with one of its readers."""

    def read(path: Path) -> Read:
        from monai.transforms import LoadImage

        image = LoadImage(reader=name, image_only=True)(str(path))
        return Read(np.asarray(image), lps(np.asarray(image.affine)))

    return read


def by_dcm2niix(path: Path) -> Read:
    """The NIfTI file that dcm2niix writes."""
    import nibabel

    with tempfile.TemporaryDirectory() as folder:
        command = ["dcm2niix", "-f", "out", "-o", folder, "-s", "y", str(path)]
        subprocess.run(command, check=False, capture_output=True, timeout=60)
        files = sorted(Path(folder).glob("*.nii"))
        if not files:
            raise ValueError("wrote nothing")
        image = nibabel.load(files[0])
        return Read(np.asarray(image.dataobj), lps(image.affine))


def lps(affine_ras: np.ndarray) -> np.ndarray:
    """The other way round along x and y."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_ras


READERS: dict[str, Callable[[Path], Read]] = {
    "mpi_unet": by_mpi_unet,
    "SimpleITK": by_simple_itk,
    "MONAI ITKReader": by_monai("ITKReader"),
    "MONAI PydicomReader": by_monai("PydicomReader"),
    "dcm2niix": by_dcm2niix,
}


def verdict(read: Read, truth: list[np.ndarray]) -> str:
    """How far from the marker the reader sees it, in the worst gate; or that it lost the gates."""
    if read.affine_lps is None:
        return read.note
    shape = "x".join(map(str, read.values.shape))
    gates = read.values[..., None] if read.values.ndim == 3 else read.values
    if gates.shape[-1] != len(truth):
        return f"**gates as slices** ({shape})"
    worst = 0.0
    for gate, place in enumerate(truth):
        hot = np.unravel_index(gates[..., gate].argmax(), gates.shape[:3])
        worst = max(worst, float(np.linalg.norm((read.affine_lps @ (*hot, 1))[:3] - place)))
    text = f"{worst:.1f}" if worst <= HALF_VOXEL_MM else f"**{worst:.0f}**"
    peak = "" if abs(float(gates.max()) - HOT) < 1 or gates.max() == 32_767 else f", peak {gates.max():.0f}"
    return text + peak + (f", {read.note}" if read.note else "")


def unplaced(read: Read) -> str:
    """What is made of an image that has no place, or is no volume at all."""
    shape = "x".join(map(str, read.values.shape))
    if read.affine_lps is None:
        return read.note
    spacing = " x ".join(f"{mm:.3g}" for mm in np.linalg.norm(read.affine_lps[:3, :3], axis=0))
    return f"**a volume** ({shape}, {spacing} mm)"


def cell(reader: Callable[[Path], Read], path: Path, judge: Callable[[Read], str]) -> str:
    """One reader on one file."""
    try:
        return judge(reader(path))
    except DicomError as error:
        return f"refused ({str(error)[:40]})"
    except Exception as error:  # readers of others fail in their own ways; the table says so
        return f"fails ({type(error).__name__})"


def available() -> dict[str, Callable[[Path], Read]]:
    """The readers that are installed here."""
    readers: dict[str, Any] = dict(READERS)
    if shutil.which("dcm2niix") is None:
        del readers["dcm2niix"]
    if importlib.util.find_spec("itk") is None:
        del readers["MONAI ITKReader"]
    return readers


def main() -> None:
    """Print the table as Markdown."""
    warnings.simplefilter("ignore")
    readers = available()
    sys.stdout.write("| study | " + " | ".join(readers) + " |\n|" + "---|" * (len(readers) + 1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.dcm"
        for name, build in FORMS.items():
            dataset, stack = build()
            write(dataset, path)
            truth = markers(stack, NUM_GATES if "gated" in name else 1)
            cells = [cell(reader, path, lambda read, truth=truth: verdict(read, truth)) for reader in readers.values()]
            sys.stdout.write(f"| {name} | " + " | ".join(cells) + " |\n")
        others = {
            "no geometry": without_geometry(marked_volume(short_axis())),
            "TOMO (projections)": projections(),
            "GATED TOMO (projections)": projections(gated=True),
        }
        for name, dataset in others.items():
            write(dataset, path)
            cells = [cell(reader, path, unplaced) for reader in readers.values()]
            sys.stdout.write(f"| {name} | " + " | ".join(cells) + " |\n")


if __name__ == "__main__":
    main()
