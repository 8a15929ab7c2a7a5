"""Builders of tiny seeded cohorts on disk; plain functions, for every test that needs one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from mpi_unet.cohort.nifti import affine_from_spacing, write_image, write_mask
from mpi_unet.cohort.table import write_cohort_table

SPACING_MM = (6.4, 3.2, 3.2)


def ring(
    num_frames: int, size: int, center: tuple[float, float], radius: float, wall: float, filled: bool
) -> np.ndarray:
    """A tube along z as a mask (z, y, x); the radius shrinks towards the last frame."""
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(y - center[0], x - center[1])
    frames = []
    for z in range(num_frames):
        outer = radius * (1 - 0.3 * z / max(num_frames, 1))
        frames.append((distance <= outer) & (filled | (distance >= outer - wall)))
    return np.stack(frames)


def tiny_case(rng: np.random.Generator, num_frames: int, size: int, filled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Image (float32) and mask (bool) of one case; place, size and background differ from case to case."""
    center = tuple(size / 2 + rng.uniform(-size / 8, size / 8, 2))
    mask = ring(num_frames, size, center, size * rng.uniform(0.2, 0.32), size / 10, filled)
    background = rng.gamma(2.0, 2.0, (num_frames, size // 4, size // 4)).repeat(4, 1).repeat(4, 2)
    background = np.pad(background, ((0, 0), (0, size - background.shape[1]), (0, size - background.shape[2])))
    image = rng.poisson(background + 20 * mask + 1)
    return image.astype(np.float32), mask


def write_tiny_cohort(
    root: Path,
    num_patients: int = 6,
    *,
    cases_per_patient: int = 1,
    num_frames: int = 4,
    size: int = 32,
    readers: tuple[str, ...] = ("truth",),
    domain: str = "short_axis",
    label: str = "lv_wall",
    spacing_mm: tuple[float, float, float] | None = SPACING_MM,
    strata: dict[str, list[str]] | None = None,
    seed: int = 0,
) -> Path:
    """Write a cohort of ``num_patients`` patients P00, P01, ... and return its folder.

    With two cases a patient they are ``P00_rest`` and ``P00_stress``, with one ``P00_rest``. ``strata`` maps a column
    to values that are dealt to the patients in turn. The first reader's mask is exact, further ones are a pixel off.
    """
    rng = np.random.default_rng(seed)
    is_volume = domain != "projection"
    affine = affine_from_spacing(spacing_mm or (1.0, 1.0, 1.0))
    strata = {"sex": ["F", "M"]} if strata is None else strata
    rows = []
    for patient in range(num_patients):
        for acquisition in ("rest", "stress", "late", "early")[:cases_per_patient]:
            case_id = f"P{patient:02d}_{acquisition}"
            image, mask = tiny_case(rng, num_frames, size, filled=label == "lv_filled")
            write_image(root / f"images/{case_id}.nii.gz", image, affine, is_distance_z=is_volume)
            row = {"case_id": case_id, "patient_id": f"P{patient:02d}", "acquisition": acquisition}
            row["image"] = f"images/{case_id}.nii.gz"
            for shift, reader in enumerate(readers):
                file = f"labels/{reader}/{case_id}.nii.gz"
                write_mask(root / file, np.roll(mask, shift, axis=2), affine, is_distance_z=is_volume)
                row[f"label_{reader}"] = file
            row |= {column: values[patient % len(values)] for column, values in strata.items()}
            rows.append(row)
    metadata = {
        "name": "tiny",
        "domain": domain,
        "label": label,
        "readers": list(readers),
        "simulated_readers": True,
        "source": "tests/cohort_builders.py",
        "licence": "Apache-2.0",
        "intensities": "counts",
        "spacing_known": spacing_mm is not None,
    }
    write_cohort_table(root, metadata=metadata, rows=rows)
    return root


def read_rows(root: Path) -> list[dict[str, str]]:
    """The rows of cases.csv, for tests that break them."""
    with open(root / "cases.csv", newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def write_rows(root: Path, rows: list[dict[str, str]]) -> None:
    """Write cases.csv as it is told, without any check."""
    with open(root / "cases.csv", "w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def edit_metadata(root: Path, **changes: object) -> None:
    """Change keys of cohort.json; a value of ``...`` removes the key."""
    metadata = json.loads((root / "cohort.json").read_text(encoding="utf-8")) | changes
    metadata = {key: value for key, value in metadata.items() if value is not ...}
    (root / "cohort.json").write_text(json.dumps(metadata), encoding="utf-8")


def image_path(root: Path, case_id: str) -> Path:
    return root / f"images/{case_id}.nii.gz"


def label_path(root: Path, case_id: str, reader: str = "truth") -> Path:
    return root / f"labels/{reader}/{case_id}.nii.gz"


def edit_row(root: Path, row: int, **changes: str) -> None:
    rows = read_rows(root)
    rows[row].update(changes)
    write_rows(root, rows)
