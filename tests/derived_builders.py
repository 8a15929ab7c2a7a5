"""New objects made of phantom images, and what programs that are not ours say about them; plain functions."""

from __future__ import annotations

import datetime
import io
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from nm_builders import SHAPE
from pydicom import dcmread
from pydicom.dataset import Dataset

from mpi_unet.dicom.capture_writing import encapsulated_pdf, secondary_capture
from mpi_unet.dicom.derived import Maker, write_objects
from mpi_unet.dicom.identity import Pseudonyms
from mpi_unet.dicom.nm_writing import write_dicom
from mpi_unet.dicom.origin import Origin, origin_of
from mpi_unet.dicom.report_writing import Flag, Measured, measurement_report
from mpi_unet.dicom.segmentation_writing import segmentations

MADE = datetime.datetime(2026, 3, 4, 5, 6, 7)
MAKER = Maker("unet ensemble", "1.2", "run-0007", MADE)
LATER_MAKER = Maker("unet ensemble", "1.2", "run-0007", datetime.datetime(2027, 1, 1))
KEYS = Pseudonyms(bytes(range(32)))
FLAGS = (Flag("extracardiac", "Activity beside the wall"), Flag("folds_disagree", "The folds disagree. " * 6))


def origin(image: Dataset | Path, identity: str = "source") -> Origin:
    return origin_of(image, identity=identity, pseudonyms=KEYS)


def shells(num_gates: int) -> dict[str, np.ndarray]:
    """A wall around a cavity, off the middle of every axis and another one in each gate."""
    filled = np.zeros((num_gates, *SHAPE), dtype=bool)
    cavity = np.zeros_like(filled)
    for gate in range(num_gates):
        filled[gate, 3 + gate : 12, 8:21, 9:23] = True
        cavity[gate, 6 + gate : 10, 11:17, 12:18] = True
    return {"lv_wall": filled & ~cavity, "lv_cavity": cavity}


def pdf() -> bytes:
    """A small page."""
    from matplotlib.figure import Figure

    page = io.BytesIO()
    Figure(figsize=(2, 2)).savefig(page, format="pdf", metadata={"CreationDate": None})
    return page.getvalue()


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (33, 35, 3)).astype(np.uint8)


def measurements(num_gates: int) -> list[Measured]:
    """Of the study, of each gate, of a segment of the heart, and one that is missing."""
    gates = range(num_gates) if num_gates > 1 else [None]
    return [
        Measured("ejection_fraction_pct", 55.1234567),
        Measured("end_diastolic_ml", 121.0),
        Measured("phase_sd_deg", None, "fewer than 8 gates"),
        *(Measured("cavity_ml", 50.5 + (gate or 0), segment="lv_cavity", gate=gate) for gate in gates),
        *(Measured("wall_ml", 90.5 + (gate or 0), segment="lv_wall", gate=gate) for gate in gates),
        Measured("wall_thickness_mm", 9.5, segment="lv_wall", gate=gates[0], aha_segment=17),
    ]


def all_objects(where: Origin, maker: Maker = MAKER) -> list[Dataset]:
    """One of every kind, and a segmentation for each gate."""
    num_gates = where.image.num_gates
    segmented = segmentations(where, shells(num_gates), maker)
    return [
        *segmented,
        measurement_report(where, measurements(num_gates), maker, segmentations=segmented, flags=FLAGS),
        secondary_capture(where, picture(), maker, title="Polar map", burned_in=False),
        encapsulated_pdf(where, pdf(), maker, title="Report of the left ventricle", burned_in=False),
    ]


def written(objects: Sequence[Dataset], folder: Path) -> list[Path]:
    return list(write_objects(objects, folder))


def reread(objects: Sequence[Dataset], folder: Path) -> list[Dataset]:
    return [dcmread(path) for path in written(objects, folder)]


def put(image: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(image, path)
    return path


def needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}: apt-get install dicom3tools")
    return found


def complaints(*paths: Path, program: str = "dciodvfy") -> list[str]:
    """What dicom3tools calls an error."""
    command = [needed(program), *map(str, paths)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, errors="replace")
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
