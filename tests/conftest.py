"""What every test may ask for; builders stand in modules of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cohort_builders import write_tiny_cohort

from mpi_unet.cohort.table import Cohort


@pytest.fixture
def tiny_root(tmp_path: Path) -> Path:
    """A cohort of six patients, one short-axis case each, readers truth and A."""
    return write_tiny_cohort(tmp_path / "tiny", readers=("truth", "A"))


@pytest.fixture
def tiny_cohort(tiny_root: Path) -> Cohort:
    return Cohort.open(tiny_root)
