"""Builders of folders with image and mask files, as other programs leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from mpi_unet.errors import CohortError
from mpi_unet.sources.pairs import pairs_cohort

CASES = {"image_pattern": r"(?P<patient>P\d+)_image\..+", "label_pattern": r"(?P<patient>P\d+)_mask\..+"}


def frame(seed: int, size: int = 16, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size)).astype(dtype)


def mask(seed: int, size: int = 16, white: int = 255) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.where(np.hypot(y - size / 2, x - size / 2 + seed % 3) < size / 4, white, 0).astype(np.uint8)


def write_seed_study(root: Path, series: dict[str, int] | None = None) -> Path:
    """Files as the seed study names them; ``series`` maps a series to its number of frames."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, (name, num_frames) in enumerate((series or {"RGATE_DS": 11, "RGATE_DS (2)": 3, "SGATE_DS": 3}).items()):
        base, _, repeat = name.partition(" ")
        for index in range(num_frames):
            file = f"{base}_{index}{' ' + repeat if repeat else ''}.TIFF"
            tifffile.imwrite(root / "images" / f"Original_{file}", frame(100 * number + index))
            tifffile.imwrite(root / "masks" / f"ground_{file}", mask(index))
    return root


def pairs_error(root: Path, **options) -> str:
    output = root.parent / "cohort"
    with pytest.raises(CohortError) as caught:
        pairs_cohort(root, output, **options)
    assert not output.exists()
    assert not list(root.parent.glob(".part-*"))
    return str(caught.value)
