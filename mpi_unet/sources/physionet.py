"""The PhysioNet set of myocardial perfusion SPECT becomes a cohort: rest studies with the wall of the left ventricle.

The download holds ``DICOM/<SOPInstanceUID>.dcm`` and ``NIfTI/<SOPInstanceUID>_mask.nii.gz``, maybe a level below the
folder that was unpacked, beside ``demographics.csv``. A *pair* is an image and a mask whose names have the same
identifier; the order of files never matters, since some images have no mask. Patients are grouped by the PatientID in
the header, a number of 38 or 39 digits. It is a research pseudonym that is published with the set, so the cohort needs
no key: ``patient_id`` is ``P`` and the last ten digits, by which a row of ``demographics.csv`` is found by eye.

Intensities are not counts: whoever published the set scaled each volume so that its largest voxel is 32767, and that
voxel lies outside of the heart.

Source:
    Calixto et al. 2025, Myocardial perfusion scintigraphy image database 1.0.0, PhysioNet. doi:10.13026/ce2z-dw74
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from mpi_unet.cohort.nifti import read_mask_and_affine, write_image, write_mask
from mpi_unet.cohort.table import write_cohort_table
from mpi_unet.dicom.nm import NmImage, NmKind, read_nm
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.errors import CohortError, DicomError, listing
from mpi_unet.files import sha256
from mpi_unet.shapes import Affine, Image, Mask
from mpi_unet.sources.account import write_account
from mpi_unet.sources.physionet_people import DEMOGRAPHICS, described
from mpi_unet.sources.placing import KEY, check_apart, cohort_in_making

__all__ = ["physionet_cohort"]

PHYSIONET_VERSION = 1
"""Raised whenever the same files and arguments give another cohort; a cohort of another version is made again."""

IMAGES, MASKS = "DICOM", "NIfTI"
IMAGE_SUFFIX, MASK_SUFFIX = ".dcm", "_mask.nii.gz"

PUBLISHED = {"images": 103, "masks": 100, "patients": 83}
"""What version 1.0.0 holds."""

LICENCE = "CC BY 4.0, doi:10.13026/ce2z-dw74"

GRID_TOLERANCE_MM = 0.05
"""Largest distance between a voxel of the image and the same voxel of the mask. Headers of float32 agree to 1e-4 mm;
a hundredth of a voxel of 4 mm is far below what a shifted or flipped mask would show."""

PATIENT_DIGITS = 10
"""Last digits of PatientID that are kept; two of 83 share them with a probability of 4 in ten million."""

HEADER_TAGS = ("SOPInstanceUID", "PatientID", "StudyDate")


def physionet_cohort(
    input: str | Path,
    output: str | Path,
    *,
    reader: str = "physionet",
    exclude: Sequence[str] = (),
    name: str = "PhysioNet myocardial-perfusion-spect 1.0.0",
) -> Path:
    """Make a cohort of the downloaded PhysioNet set.

    Images without a mask and masks without an image are left out and counted; so is a number of files or patients other
    than the published one, which is a warning in ``preparation.json``.

    Args:
        input: The download, or the folder that it was unpacked to.
        output: Folder of the cohort.
        reader: Name for the team that outlined; the set has no second reader.
        exclude: Identifiers (names of DICOM files without ``.dcm``) to leave out.
        name: Name of the cohort.

    Returns:
        The cohort folder.

    Raises:
        CohortError: ``input`` is not this set, or, in one error: no pair is left, a file cannot be read, an image and
            its mask do not lie on one grid, a name is not the identifier in the file, a mask is empty or not binary,
            ``exclude`` names what is not there.
        RunError: The disk is full or ``output`` cannot be written to.

    Source:
        doi:10.13026/ce2z-dw74
    """
    check_apart(input, output)
    if not reader.isidentifier():
        raise CohortError(f"reader={reader!r}; expected a name of letters, digits and _, for example reader=physionet")
    files = _find_files(Path(input), {str(stem) for stem in exclude})
    with cohort_in_making(output, "physionet", key := _key(files, reader, name)) as part:
        if part is None:
            return Path(output)
        studies, problems = _read_headers(files)
        rows = [] if problems else list(_write_cases(part, files, studies, reader, problems))
        if problems:
            raise CohortError(
                f"{len(problems)} things keep the pairs of {files.root} from becoming a cohort:\n{listing(problems)}\n"
                "Download these files again, or leave pairs out with source.exclude=['<identifier>']"
            )
        digits_of = {stem: study.digits for stem, study in studies.items()}
        rows, warnings = described(rows, digits_of, files.root / DEMOGRAPHICS)
        warnings = _count_warnings(files, studies) + warnings
        metadata = {
            "name": name,
            "domain": "transaxial",
            "label": "lv_wall",
            "readers": [reader],
            "simulated_readers": False,
            "source": f"{len(rows)} pairs of PhysioNet myocardial-perfusion-spect 1.0.0",
            "licence": LICENCE,
            "intensities": "rescaled, no counts",
            "spacing_known": True,
            "reader_facts": {reader: {"role": "the team that published the set; no second reader"}},
            KEY: f"physionet:{key}",
        }
        left_out = {
            "image without a mask": len(files.images_alone),
            "mask without an image": len(files.masks_alone),
            "excluded by the user": len(files.excluded),
        }
        write_account(
            part,
            "physionet",
            rows,
            left_out={reason: number for reason, number in left_out.items() if number},
            warnings=warnings,
            unpaired={"images": files.images_alone, "masks": files.masks_alone},
        )
        write_cohort_table(part, metadata=metadata, rows=rows)
    return Path(output)


# --- Private helpers: what is there -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """The download: identifiers of its files."""

    root: Path
    pairs: list[str]
    images_alone: list[str]
    masks_alone: list[str]
    excluded: list[str]

    @property
    def num_images(self) -> int:
        return len(self.pairs) + len(self.images_alone) + len(self.excluded)

    @property
    def num_masks(self) -> int:
        return len(self.pairs) + len(self.masks_alone) + len(self.excluded)

    def image(self, stem: str) -> Path:
        return self.root / IMAGES / f"{stem}{IMAGE_SUFFIX}"

    def mask(self, stem: str) -> Path:
        return self.root / MASKS / f"{stem}{MASK_SUFFIX}"


@dataclass(frozen=True)
class _Study:
    """What the header of an image says about its place in the set."""

    patient: str
    digits: str
    when: str


def _find_files(folder: Path, exclude: set[str]) -> _Files:
    root = _root_of(folder)
    images, masks = _stems(root / IMAGES, IMAGE_SUFFIX), _stems(root / MASKS, MASK_SUFFIX)
    unknown = sorted(exclude - images - masks)
    if unknown:
        raise CohortError(
            f"exclude names what is not in {root}:\n{listing(unknown)}\n"
            "Expected names of DICOM files without .dcm; correct them"
        )
    paired = (images & masks) - exclude
    files = _Files(
        root=root,
        pairs=sorted(paired),
        images_alone=sorted(images - masks - exclude),
        masks_alone=sorted(masks - images - exclude),
        excluded=sorted(exclude & images & masks),
    )
    if not paired:
        alone = [f"{IMAGES}/{stem}{IMAGE_SUFFIX}: has no mask" for stem in files.images_alone]
        alone += [f"{MASKS}/{stem}{MASK_SUFFIX}: has no image" for stem in files.masks_alone]
        raise CohortError(
            f"no pair is left in {root} ({len(images)} images, {len(masks)} masks, {len(files.excluded)} pairs "
            f"excluded):\n{listing(alone)}\n"
            f"An image {IMAGES}/<identifier>{IMAGE_SUFFIX} and its mask {MASKS}/<identifier>{MASK_SUFFIX} have one "
            "identifier; the download is not complete: fetch all of it again"
        )
    return files


def _root_of(folder: Path) -> Path:
    """The folder that holds ``DICOM`` and ``NIfTI``: the given one, or the only such one below it."""
    if not folder.is_dir():
        raise CohortError(f"input={folder} is no folder; give the folder of the PhysioNet download with input=<folder>")
    candidates = [folder, *sorted(below for below in folder.iterdir() if below.is_dir())]
    roots = [place for place in candidates if (place / IMAGES).is_dir() and (place / MASKS).is_dir()]
    if folder in roots:
        return folder
    if len(roots) != 1:
        found = ", ".join(place.name for place in roots) or "no such folder"
        raise CohortError(
            f"input={folder}: expected the folders {IMAGES} and {MASKS} of the PhysioNet set in it or in one folder "
            f"below it, found {found}; give the folder that holds both with input=<folder>"
        )
    return roots[0]


def _stems(folder: Path, suffix: str) -> set[str]:
    """Names without the suffix; what macOS leaves beside them (``._name``) is no file of the set."""
    return {
        path.name.removesuffix(suffix)
        for path in folder.iterdir()
        if path.name.endswith(suffix) and not path.name.startswith(".")
    }


def _key(files: _Files, reader: str, name: str) -> str:
    parts: list[bytes | str] = [str(PHYSIONET_VERSION), reader, name, json.dumps(files.excluded)]
    for stem in files.pairs:
        parts += [stem, *(hashlib.sha256(path.read_bytes()).digest() for path in (files.image(stem), files.mask(stem)))]
    parts += [json.dumps([files.images_alone, files.masks_alone])]
    demographics = files.root / DEMOGRAPHICS
    return sha256(*parts, demographics.read_bytes() if demographics.is_file() else b"")


def _count_warnings(files: _Files, studies: Mapping[str, _Study]) -> list[str]:
    patients = {study.digits for study in studies.values()}
    counted = {"images": files.num_images, "masks": files.num_masks, "patients": len(patients)}
    return [
        f"{number} {what} instead of the published {PUBLISHED[what]}; is the download complete, and version 1.0.0?"
        for what, number in counted.items()
        if number != PUBLISHED[what]
    ]


# --- Private helpers: reading and writing -----------------------------------------------------------------------------


def _read_headers(files: _Files) -> tuple[dict[str, _Study], list[str]]:
    """Patient and time of every image, paired or not, and what is wrong with the headers of pairs."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    studies: dict[str, _Study] = {}
    problems = []
    for stem in sorted({*files.pairs, *files.images_alone, *files.excluded}):
        path = files.image(stem)
        try:
            with quiet():
                header = dcmread(
                    path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "PatientID", "StudyDate"]
                )
            uid, digits = str(header.get("SOPInstanceUID", "")), str(header.get("PatientID") or "").strip()
            found = []
            if uid != stem:
                found.append(f"holds the SOPInstanceUID {uid or '(none)'}; expected that of its name")
            if not digits.isdigit():
                found.append("PatientID is not a number; expected the 38 or 39 digits that group the studies")
            else:
                studies[stem] = _Study(f"P{digits[-PATIENT_DIGITS:]}", digits, str(header.get("StudyDate") or ""))
        except (OSError, InvalidDicomError, ValueError, KeyError, EOFError, AttributeError) as error:
            found = [f"cannot be read ({type(error).__name__}); expected a DICOM file"]
        if stem in files.pairs:
            problems += [f"{IMAGES}/{path.name}: {text}" for text in found]
    return studies, problems + _shared_endings(studies)


def _shared_endings(studies: Mapping[str, _Study]) -> list[str]:
    """Two patients whose shortened ids are the same; none such is in the published set."""
    digits_of: dict[str, set[str]] = {}
    for study in studies.values():
        digits_of.setdefault(study.patient, set()).add(study.digits)
    return [
        f"{patient}: stands for {len(digits)} different PatientIDs with the same last {PATIENT_DIGITS} digits; "
        "expected one"
        for patient, digits in sorted(digits_of.items())
        if len(digits) > 1
    ]


def _write_cases(
    part: Path, files: _Files, studies: Mapping[str, _Study], reader: str, problems: list[str]
) -> Iterator[dict[str, str]]:
    """Write each pair and yield its row; what is wrong with a pair goes to ``problems``."""
    for stem, case_id in _case_ids(studies).items():
        if stem not in files.pairs:
            continue
        try:
            image, mask, affine, camera = _read_pair(files.image(stem), files.mask(stem))
        except (CohortError, DicomError) as error:
            problems.append(str(error))
            continue
        paths = f"images/{case_id}.nii.gz", f"labels/{reader}/{case_id}.nii.gz"
        if not problems:
            write_image(part / paths[0], image, affine)
            write_mask(part / paths[1], mask, affine)
        yield {
            "case_id": case_id,
            "patient_id": studies[stem].patient,
            "acquisition": "rest",
            "gate": "",
            "camera": camera,
            "image": paths[0],
            f"label_{reader}": paths[1],
            "source_uid": stem,
        }


def _case_ids(studies: Mapping[str, _Study]) -> dict[str, str]:
    """Identifier to case id, sorted: ``<patient>_rest``, and from a patient's second study on with its number.

    Studies are numbered by date over all images of the set, paired or not, so that a mask more or less does not rename
    the others.
    """
    ids, seen = {}, dict.fromkeys((study.patient for study in studies.values()), 0)
    for stem, study in sorted(studies.items(), key=lambda item: (item[1].patient, item[1].when, item[0])):
        seen[study.patient] += 1
        number = f"_{seen[study.patient]}" if seen[study.patient] > 1 else ""
        ids[stem] = f"{study.patient}_rest{number}"
    return ids


def _read_pair(image_path: Path, mask_path: Path) -> tuple[Image, Mask, Affine, str]:
    """Intensities and mask (z, y, x) on one grid, its affine in RAS, and the camera."""
    image = read_nm(image_path)
    where = f"{IMAGES}/{image_path.name}"
    if image.kind is not NmKind.RECON_TOMO or image.affine_ras is None:
        found = image.kind.value if image.kind is not NmKind.RECON_TOMO else "an image of unknown geometry"
        raise CohortError(f"{where}: is {found}; expected a RECON TOMO with its place in the patient")
    values = image.values[0]
    try:
        mask, affine = read_mask_and_affine(mask_path)
    except CohortError as error:
        raise CohortError(f"{MASKS}/{error}") from error
    if not mask.any():
        raise CohortError(f"{MASKS}/{mask_path.name}: is empty; expected the wall of the left ventricle")
    if mask.shape != values.shape:
        found, expected = ("x".join(map(str, shape)) for shape in (mask.shape, values.shape))
        raise CohortError(f"{MASKS}/{mask_path.name}: is {found} (z, y, x), its image {expected}; expected one grid")
    distance_mm = _largest_distance_mm(image.affine_ras, affine, values.shape)
    if not distance_mm <= GRID_TOLERANCE_MM:
        raise CohortError(
            f"{MASKS}/{mask_path.name}: lies up to {distance_mm:.3g} mm from its image; expected one grid "
            f"(within {GRID_TOLERANCE_MM} mm)"
        )
    return values, mask, image.affine_ras, _camera(image)


def _largest_distance_mm(first: Affine, second: Affine, shape: tuple[int, int, int]) -> float:
    """Largest distance of a voxel under one affine from the same voxel under the other; it is that of some corner."""
    corners = np.array([(*corner, 1) for corner in product(*((0, length - 1) for length in reversed(shape)))])
    return float(np.linalg.norm(((first - second) @ corners.T)[:3], axis=0).max())


def _camera(image: NmImage) -> str:
    return " ".join(word for word in (image.header.manufacturer, image.header.model) if word)
