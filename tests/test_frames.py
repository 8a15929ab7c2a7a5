"""The frames of the leakage audit: tiles give what a comparison of everything with everything gives, in flat memory."""

from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import write_tiny_cohort

from mpi_unet.cohort import frames as module
from mpi_unet.cohort.frames import Frames, candidate_pairs
from mpi_unet.cohort.leakage import find_leaks
from mpi_unet.cohort.nifti import read_image, write_image
from mpi_unet.cohort.splits import Split, kfold_split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import RunError


def made(folder: Path, num_patients: int, unit: str = "patient", num_frames: int = 4) -> tuple[Cohort, Split]:
    cohort = Cohort.open(write_tiny_cohort(folder, num_patients, num_frames=num_frames, size=16))
    return cohort, kfold_split(cohort, num_folds=3, val_fraction=0.25, seed=1, unit=unit)


def by_hand(frames: Frames, least: float, number: int) -> list[tuple[int, int]]:
    """Every frame against every other one, in Python."""
    correlation, pairs = np.asarray(frames.coarse) @ np.asarray(frames.coarse).T, set()
    for one in range(len(frames)):
        others = [
            other
            for other in range(len(frames))
            if frames.patient[one] != frames.patient[other]
            and any({0, 1, 2} >= {side[one], side[other]} and side[one] != side[other] for side in frames.side)
            and correlation[one, other] >= least
        ]
        nearest = sorted(others, key=lambda other: (-correlation[one, other], other))[:number]
        pairs |= {(min(one, other), max(one, other)) for other in nearest}
    return sorted(pairs)


@pytest.mark.parametrize("unit", ["patient", "image"])
@pytest.mark.parametrize(("least", "number"), [(0.4, 4), (0.2, 2), (-1.0, 3)])
@pytest.mark.parametrize("tile", [(2048, 512), (8, 4), (5, 7)])
def test_candidates_in_tiles_are_those_of_a_whole_comparison(tmp_path, monkeypatch, unit, least, number, tile):
    monkeypatch.setattr(module, "ROWS", tile[0])
    monkeypatch.setattr(module, "COLUMNS", tile[1])
    frames = Frames.of(*made(tmp_path / "cohort", 10, unit))
    expected = by_hand(frames, least, number)
    assert len(expected) > 0
    assert [tuple(pair) for pair in candidate_pairs(frames, least=least, number=number).tolist()] == expected


def test_repeated_frames_stand_behind_the_first_of_their_kind(tmp_path):
    cohort, split = made(tmp_path / "cohort", 4)
    image = read_image(cohort.cases[0].image)
    copied = image.array[[1, 0, 1, 2]].copy()
    copied[3] = 7  # blank frames are alike and say nothing
    for case in cohort.cases[2:4]:
        write_image(case.image, copied, image.affine, is_distance_z=True)
    one, other = Frames.of(cohort, split).repeated()
    pairs = sorted(zip(one.tolist(), other.tolist(), strict=True))
    assert pairs == [(0, 9), (0, 13), (1, 8), (1, 10), (1, 12), (1, 14)]


@pytest.mark.parametrize("unit", ["patient", "image"])
def test_memory_of_the_audit_hardly_grows_with_the_cohort(tmp_path, monkeypatch, unit):
    monkeypatch.setattr(module, "ROWS", 64)  # full tiles in the small cohort already
    monkeypatch.setattr(module, "COLUMNS", 64)

    def peak(num_patients: int) -> int:
        cohort, split = made(tmp_path / str(num_patients), num_patients, unit, num_frames=16)
        split.side_of(0, cohort.cases[0])  # its own table, which is not the audit's
        tracemalloc.start()
        find_leaks(cohort, split, near_duplicate=1.0)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    first = made(tmp_path / "first", 8, unit)
    find_leaks(*first)  # what is loaded and kept once
    small, large = peak(16), peak(64)
    per_frame = (large - small) / (48 * 16)
    assert per_frame < 1000, "details are 12 kB a frame; they must not stay in memory"


def test_full_disk_is_said_with_the_folder(tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(module.tempfile, "TemporaryFile", Full)
    with pytest.raises(RunError, match=r"cannot be written: No space left on device.*same command again"):
        Frames.of(*made(tmp_path / "cohort", 4))
