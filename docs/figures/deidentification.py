"""What three ways of removing identity leave behind: the table of docs/privacy.md.

python docs/figures/deidentification.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom

from mpi_unet.dicom.identity import Pseudonyms, deidentified

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from dicom_builders import file_bytes
from identity_builders import planted, surviving
from orthanc_server import running_orthanc


def ours(content: bytes) -> bytes:
    """`mpi_unet.dicom.identity.deidentified` under a key of zeros."""
    return file_bytes(deidentified(pydicom.dcmread(BytesIO(content)), Pseudonyms(bytes(32))))


def anonymizer(content: bytes) -> bytes:
    """dicom-anonymizer with the newest table that it ships (2026c) and private tags deleted, its default."""
    from dicomanonymizer import anonymize_dataset
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    dataset = pydicom.dcmread(BytesIO(content))
    anonymize_dataset(dataset, base_rules_gen=lambda: initialize_actions("dicomfields_2026c"))
    return file_bytes(dataset)


def orthanc(content: bytes) -> bytes:
    """Orthanc's REST interface with the newest profile of Debian's version."""
    with tempfile.TemporaryDirectory() as folder, running_orthanc(Path(folder)) as server:
        instance = server.store(content)["ID"]
        order = {"DicomVersion": "2021b", "Force": True, "Replace": {"PatientID": "S1", "PatientName": "S1"}}
        return server.request(f"/instances/{instance}/anonymize", order)


WAYS: dict[str, Callable[[bytes], bytes]] = {"mpi_unet": ours, "dicom-anonymizer": anonymizer, "Orthanc": orthanc}


def survivors() -> tuple[list[str], dict[str, list[str]]]:
    """All planted places, and for each way those whose content stands in its file."""
    image = planted()
    return list(image.secrets), {way: surviving(make(image.content), image.secrets) for way, make in WAYS.items()}


def main() -> None:
    """Print the table in Markdown."""
    warnings.simplefilter("ignore")
    places, left = survivors()
    lines = [f"| planted | {' | '.join(left)} |", f"|---|{'---|' * len(left)}"]
    shown = [place for place in places if any(place in found for found in left.values())]
    lines += [
        f"| {place} | {' | '.join('**kept**' if place in left[way] else '-' for way in left)} |" for place in shown
    ]
    lines.append(f"| of {len(places)} places | {' | '.join(str(len(found)) for found in left.values())} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
