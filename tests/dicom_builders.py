"""Small DICOM objects and trees for tests, and what becomes of them."""

from __future__ import annotations

import copy
import csv
import json
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.uid import (
    CTImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    RTStructureSetStorage,
)

from mpi_unet.dicom.geometry import Orbit, SliceStack
from mpi_unet.dicom.identity import Pseudonyms
from mpi_unet.dicom.nm_modules import unique_id
from mpi_unet.dicom.nm_writing import (
    Gating,
    SyntheticIdentity,
    gated_tomo,
    recon_gated_tomo,
    recon_tomo,
    tomo,
    write_dicom,
)
from mpi_unet.sources.dicom import dicom_cohort

TRANSAXIAL = SliceStack((-20.0, -25.0, 40.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (4.8, 4.8), -6.4)
OBLIQUE = SliceStack((5.0, -20.0, 30.0), (0.8, 0.6, 0.0), (0.0, 0.0, -1.0), (4.8, 4.8), 6.4)
ORBIT = Orbit(first_angle_deg=225.0, arc_deg=180.0, num_views=4, radius_mm=250.0)
GATING = Gating()


def counts(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(20, shape)


def nm_image(
    kind: str = "RECON TOMO",
    *,
    patient: str = "4711",
    study: str = "stress",
    plane: str = "transaxial",
    seed: int = 0,
    name: str = "stress",
    oblique: bool | None = None,
    coded: bool = True,
    **attributes: object,
) -> Dataset:
    """A tiny image; ``attributes`` are set on it, ``...`` deletes one.

    Args:
        kind: Value 3 of Image Type.
        patient: PatientID.
        study: What its identifiers and its coded state come from.
        plane: What a reconstruction cuts.
        seed: Of the counts, which also make the SOPInstanceUID.
        name: SeriesDescription; no other text says anything.
        oblique: Direction of the slices; by default that of the plane.
        coded: Keep the codes for rest or stress and for the plane.
        attributes: Further attributes.
    """
    identity = SyntheticIdentity(key=f"{patient}-{study}", study="rest" if study.startswith("rest") else "stress")
    stack = OBLIQUE if (plane == "short_axis" if oblique is None else oblique) else TRANSAXIAL
    if kind == "TOMO":
        image = tomo(counts((4, 16, 16), seed), spacing_mm=(6.4, 6.4), orbit=ORBIT, identity=identity)
    elif kind == "GATED TOMO":
        image = gated_tomo(
            counts((2, 4, 16, 16), seed), spacing_mm=(6.4, 6.4), orbit=ORBIT, gating=GATING, identity=identity
        )
    elif kind == "RECON TOMO":
        image = recon_tomo(counts((5, 16, 16), seed), stack=stack, identity=identity, view=plane)
    else:
        image = recon_gated_tomo(
            counts((2, 5, 16, 16), seed), stack=stack, gating=GATING, identity=identity, view=plane
        )
    image.PatientID, image.PatientName = patient, f"Muster^{patient}"
    image.StudyID, image.StudyDescription, image.SeriesDescription = "", "", name
    image.StudyDate = "20240311"
    image.SOPInstanceUID = unique_id("test", patient, study, kind, plane, str(seed), name)
    if not coded:
        del image.AcquisitionContextSequence
        image.DetectorInformationSequence[0].pop("ViewCodeSequence", None)
    for keyword, value in attributes.items():
        if value is ...:
            image.pop(keyword, None)
        else:
            setattr(image, keyword, value)
    return image


def put(image: Dataset, path: Path) -> Path:
    """Write an image under a name of any form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(image, path)
    return path


def other_object(sop_class: str, modality: str, patient: str = "4711") -> Dataset:
    """An object of another kind that says just what it is."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, unique_id("other", sop_class, patient)
    dataset.Modality, dataset.PatientID, dataset.PatientName = modality, patient, f"Muster^{patient}"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = unique_id("study", patient)
    dataset.file_meta = nm_image().file_meta
    dataset.file_meta = copy.deepcopy(dataset.file_meta)
    return dataset


def clinic_tree(root: Path) -> Path:
    """What a PACS export looks like: two patients, rest and stress, and much that is no case; 16 files."""
    for patient in ("4711", "4712"):
        folder = root / f"MUSTER_{patient}" / "ST000"
        for number, study in enumerate(("stress", "rest")):
            seed = int(patient) * 10 + number
            common = {"patient": patient, "study": study, "seed": seed}
            put(nm_image(name=f"{study} TRA", **common), folder / f"IM{number}0")
            put(nm_image("GATED TOMO", name=f"{study} raw", **common), folder / f"IM{number}1")
    put(nm_image(patient="4711", seed=47110, name="stress TRA"), root / "again" / "copy of IM00.dcm")
    put(other_object(CTImageStorage, "CT"), root / "MUSTER_4711" / "ct.dcm")
    put(other_object(RTStructureSetStorage, "RTSTRUCT"), root / "MUSTER_4711" / "contours.dcm")
    put(other_object(MultiFrameGrayscaleByteSecondaryCaptureImageStorage, "SC"), root / "MUSTER_4711" / "screen.dcm")
    (root / "README.txt").write_text("exported on a Monday\n")
    (root / "export.zip").write_bytes(b"PK\x03\x04 rest of it")
    (root / "empty").touch()
    broken = (root / "MUSTER_4711" / "ST000" / "IM00").read_bytes()
    (root / "half.dcm").write_bytes(broken[: len(broken) - 500])
    return root


def file_bytes(dataset: Dataset) -> bytes:
    """A dataset as a file, whatever stands in it."""
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def prepare(tree: Path, **options: object) -> Path:
    """Prepare ``tree`` with a key of its own; the cohort is ``output`` beside it."""
    options = {"key_file": tree.parent / "pseudonyms.key", **options}
    return dicom_cohort(tree, tree.parent / "output", **options)


def account(cohort: Path) -> dict:
    """What the cohort says about its preparation."""
    return json.loads((cohort / "preparation.json").read_text(encoding="utf-8"))


def files_table(tree: Path) -> dict[str, dict[str, str]]:
    """Rows of the private table of what `prepare` made, by file."""
    with open(tree.parent / "output_private" / "files.csv", encoding="utf-8", newline="") as lines:
        return {row["file"]: row for row in csv.DictReader(lines)}


def pseudonyms(tree: Path) -> Pseudonyms:
    """Those that `prepare` used."""
    return Pseudonyms.from_key_file(tree.parent / "pseudonyms.key")
