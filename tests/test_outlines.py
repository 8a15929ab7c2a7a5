"""Outlines on disk are those of the files, frame by frame, and take no memory."""

from __future__ import annotations

import errno
import tracemalloc

import numpy as np
import pytest
from cohort_builders import write_tiny_cohort

from mpi_unet.cohort import outlines as module
from mpi_unet.cohort.nifti import read_image, write_image, write_mask
from mpi_unet.cohort.outlines import ChosenFrames, Outlines
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, RunError


def test_masks_are_those_of_the_files_whatever_their_size(tmp_path):
    cohort = Cohort.open(write_tiny_cohort(tmp_path / "cohort", 3, num_frames=3, size=9))
    second = cohort.cases[1]
    image = read_image(second.image)
    write_image(second.image, image.array[:2, :7], image.affine, is_distance_z=True)
    write_mask(second.labels["truth"], image.array[:2, :7] > 0, image.affine, is_distance_z=True)
    outlines = Outlines.of(cohort, "truth")
    for number, case in enumerate(cohort.cases):
        np.testing.assert_array_equal(outlines.mask(number), case.read_mask("truth"))
    assert outlines.mask(0).dtype == bool


def test_frames_that_do_not_count_are_empty(tmp_path):
    cohort = Cohort.open(write_tiny_cohort(tmp_path / "cohort", 2, num_frames=4, size=16))
    outlines = Outlines.of(cohort, "truth")
    chosen = ChosenFrames(outlines, [(1, [0, 2]), (0, range(4))])
    own = cohort.cases[1].read_mask("truth")
    assert own[[1, 3]].any()
    np.testing.assert_array_equal(chosen[0][[0, 2]], own[[0, 2]])
    assert not chosen[0][[1, 3]].any()
    np.testing.assert_array_equal(chosen[1], cohort.cases[0].read_mask("truth"))
    assert len(chosen) == 2
    assert [mask.sum() for mask in chosen[1:]] == [chosen[1].sum()]


def test_memory_hardly_grows_with_the_cohort(tmp_path):
    def peak(number: int) -> int:
        cohort = Cohort.open(write_tiny_cohort(tmp_path / str(number), number, num_frames=8, size=32))
        tracemalloc.start()
        outlines = Outlines.of(cohort, "truth")
        assert all(outlines.mask(case).any() for case in range(number))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(4)
    assert peak(44) - peak(4) < 40 * 700, "a mask is 8 kB, packed 1 kB; paths of the cases keep their text"


def test_full_disk_and_missing_reader_are_said(tmp_path, monkeypatch):
    cohort = Cohort.open(write_tiny_cohort(tmp_path / "cohort", 2))
    with pytest.raises(CohortError, match="reader 'nobody' has no label; readers with one: truth"):
        Outlines.of(cohort, "nobody")

    class Full:
        def __enter__(self):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(module.tempfile, "TemporaryFile", Full)
    with pytest.raises(RunError, match=r"cannot be written: No space left on device.*same command again"):
        Outlines.of(cohort, "truth")
