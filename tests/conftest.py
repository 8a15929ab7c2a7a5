"""What every test may ask for; builders stand in modules of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from cohort_builders import write_tiny_cohort
from doors import TINY, start_door

from mpi_unet.cohort.table import Cohort


@pytest.fixture
def tiny_root(tmp_path: Path) -> Path:
    """A cohort of six patients, one short-axis case each, readers truth and A."""
    return write_tiny_cohort(tmp_path / "tiny", readers=("truth", "A"))


@pytest.fixture
def tiny_cohort(tiny_root: Path) -> Cohort:
    return Cohort.open(tiny_root)


@pytest.fixture(scope="session")
def little_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a finished run of three folds, `runs/train`, and its `cohort` of six patients; only to read."""
    folder = tmp_path_factory.mktemp("little")
    write_tiny_cohort(folder / "cohort", 6)
    given = ["data=cohort", "data.root=cohort", "data.reader=truth", "split.num_folds=3"]
    process = start_door("train", *TINY, *given, folder=folder)
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    return folder
