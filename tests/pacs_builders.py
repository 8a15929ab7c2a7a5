"""Fifty small studies for a PACS, and a PACS that holds them; plain functions, for every test that needs one."""

from __future__ import annotations

import copy
import datetime
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from orthanc_server import OUR_AET, OrthancServer, running_orthanc
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, NuclearMedicineImageStorage

from mpi_unet.dicom.geometry import SliceStack
from mpi_unet.dicom.nm_modules import unique_id
from mpi_unet.dicom.nm_writing import SyntheticIdentity, recon_tomo

NUM_STUDIES = 50
FIRST_DAY = datetime.date(2024, 1, 1)
STACK = SliceStack((-14.0, -14.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (4.0, 4.0), -4.0)

NAME, ID = "QUIXOTE^ALONSO", "ID4711"
"""Planted in every object; must be found nowhere but in the retrieved files."""


def study(number: int) -> list[Dataset]:
    """One study a week: a reconstruction, and beside it what nobody asked for.

    Patients have a rest and a stress study each. Every fifth study is of a bone, every second one has a CT.
    """
    acquisition = ("rest", "stress")[number % 2]
    identity = SyntheticIdentity(f"50-{number // 2:02d}", acquisition)
    volume = np.random.default_rng(number).poisson(9, (4, 8, 8))
    image = recon_tomo(volume, stack=STACK, identity=identity, view="short_axis")
    image.PatientName, image.PatientID = NAME, f"{ID}-{number // 2:02d}"
    image.StudyDate = f"{FIRST_DAY + datetime.timedelta(days=7 * number):%Y%m%d}"
    image.SeriesDate = image.AcquisitionDate = image.ContentDate = image.StudyDate
    image.StudyDescription = "BONE SPECT" if number % 5 == 4 else "SPECT MPI Myocardial Perfusion"
    image.SeriesDescription = f"{acquisition.upper()} SA"
    decoys = [_decoy(image, "STATIC", "NM", NuclearMedicineImageStorage)]
    if number % 2:
        decoys.append(_decoy(image, "AXIAL", "CT", CTImageStorage))
    return [image, *decoys]


def _decoy(image: Dataset, kind: str, modality: str, sop_class: str) -> Dataset:
    """Another object of the same study; a static view stands in the same series as the image."""
    decoy = copy.deepcopy(image)
    decoy.ImageType = ["ORIGINAL", "PRIMARY", kind, "EMISSION"]
    decoy.Modality, decoy.SOPClassUID = modality, sop_class
    decoy.SOPInstanceUID = unique_id("decoy", kind, image.SOPInstanceUID)
    if modality != "NM":
        decoy.SeriesInstanceUID = unique_id("decoy series", image.SOPInstanceUID)
    decoy.NumberOfFrames = 1
    decoy.PixelData = decoy.PixelData[: decoy.Rows * decoy.Columns * 2]
    return decoy


def studies(numbers: Sequence[int] = tuple(range(NUM_STUDIES))) -> list[Dataset]:
    return [dataset for number in numbers for dataset in study(number)]


def wanted(datasets: Sequence[Dataset]) -> dict[str, Dataset]:
    """SOP Instance UID to object, of the reconstructions."""
    return {str(dataset.SOPInstanceUID): dataset for dataset in datasets if dataset.ImageType[2] == "RECON TOMO"}


def encoded(dataset: Dataset) -> bytes:
    content = io.BytesIO()
    dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


def push(server: OrthancServer, datasets: Sequence[Dataset]) -> None:
    """Send objects as a camera does, by C-STORE."""
    from pynetdicom import AE, evt

    from mpi_unet.sources.pacs.association import leave_answers_to_us, send_at_once

    if not datasets:
        return
    entity = AE(ae_title=OUR_AET)
    for sop_class in {dataset.SOPClassUID for dataset in datasets}:
        entity.add_requested_context(sop_class)
    association = entity.associate(
        "127.0.0.1", server.dicom_port, ae_title=server.aet, evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once)]
    )
    assert association.is_established
    leave_answers_to_us(association)
    for dataset in datasets:
        assert association.send_c_store(dcmread(io.BytesIO(encoded(dataset)))).Status == 0
    association.release()


def retrieved(output: Path, area: str = "retrieved") -> list[Path]:
    """Files of one area of the private folder, those of killed processes included."""
    root = output.with_name(f"{output.name}_private") / area
    # os.walk passes over folders that a download renames at this moment; Path.rglob raises
    return sorted(Path(folder, name) for folder, _, names in os.walk(root) for name in names)


def uids(paths: Sequence[Path]) -> list[str]:
    return [path.name.removesuffix(".dcm") for path in paths]


@contextmanager
def running_pacs(folder: Path, datasets: Sequence[Dataset], **options: object) -> Iterator[OrthancServer]:
    """An Orthanc that holds these objects; its DICOM library answers twenty times faster without Nagle's algorithm."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TCP_NODELAY", "1")
        with running_orthanc(folder, **options) as server:
            push(server, datasets)
            yield server


def dimse_address(server: OrthancServer) -> str:
    return f"dicom://{server.aet}@127.0.0.1:{server.dicom_port}"
