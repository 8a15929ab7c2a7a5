"""Studies are finished by other processes while the networks work: same results, and a death takes no other along."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from cardiac_shells import Shell, wall_mask

from mpi_unet.cohort.domain import describe
from mpi_unet.cohort.nifti import read_mask, write_image, write_mask
from mpi_unet.cohort.table import Cohort, write_cohort_table
from mpi_unet.errors import ConfigError, RunError
from mpi_unet.files import read_json
from mpi_unet.inference import workers
from mpi_unet.inference.finishing import Learnt, ReadStudy
from mpi_unet.inference.inputs import open_input
from mpi_unet.inference.options import Options
from mpi_unet.inference.results import blank_result, mask_file, result_file
from mpi_unet.inference.workers import DIED, Finisher, num_finishers

pytestmark = pytest.mark.long  # minutes: every test trains, exports or draws many pages


@pytest.fixture(scope="module")
def shells(tmp_path_factory):
    """Four ventricles that differ, as a cohort: what a network would have to find is known exactly."""
    root = tmp_path_factory.mktemp("shells")
    rows = []
    for number in range(4):
        case = f"S{number}"
        wall, affine = wall_mask(replace(Shell(), radius=22.0 + 2 * number), (6.4, 6.4, 6.4))
        write_image(root / f"{case}.nii.gz", wall.astype(np.float32) * 90 + 10, affine)
        write_mask(root / f"{case}_mask.nii.gz", wall, affine)
        rows.append(
            {"case_id": case, "patient_id": case, "image": f"{case}.nii.gz", "label_truth": f"{case}_mask.nii.gz"}
        )
    metadata = {"name": "shells", "domain": "transaxial", "label": "lv_wall", "readers": ["truth"], "source": "tests"}
    metadata |= {"simulated_readers": True, "licence": "Apache-2.0", "intensities": "none", "spacing_known": True}
    write_cohort_table(root, metadata=metadata, rows=rows)
    return root


def learnt_of(root):
    known = describe(Cohort.open(root), "truth")
    return Learnt(threshold=0.5, label=known.label, outlines=known.outlines, spacing_known=True)


def read_studies(root, output):
    studies = list(open_input(root, output, domain="transaxial").studies())
    return [
        ReadStudy(study, study.case.read_image(), replace(blank_result(study), key="k", folds=(0,)))
        for study in studies
    ]


def answer_of(read):
    """What a network that is right would say, fold by fold."""
    return read.study.case.read_mask("truth").astype(np.float32)[None]


def everything(output):
    return {path.name: path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def finished(root, output, number, answers=None, options=None):
    finisher = Finisher(number, learnt_of(root), output, options or Options())
    reads = read_studies(root, output)
    try:
        for read in reads:
            finisher.add(read, answer_of(read) if answers is None else answers[read.study.study_id])
        return [finisher.next() for _ in reads]
    finally:
        finisher.close()


def test_processes_leave_what_a_thread_leaves_in_the_same_order(shells, tmp_path):
    by_thread = finished(shells, tmp_path / "thread", 0)
    by_processes = finished(shells, tmp_path / "processes", 2)
    for one, other in zip(by_processes, by_thread, strict=True):  # threads of BLAS add up in another order
        assert one.measures.cavity_ml == pytest.approx(other.measures.cavity_ml, rel=1e-9)
        assert one.measures.segment_thickness_mm == pytest.approx(other.measures.segment_thickness_mm, rel=1e-9)
        assert replace(one, measures=other.measures) == other
    assert [result.study_id for result in by_thread] == [f"S{number}" for number in range(4)]
    assert all(result.measures.cavity_ml for result in by_thread)
    masks = [everything(tmp_path / way / "masks") for way in ("processes", "thread")]
    assert masks[0] == masks[1]
    assert (read_mask(mask_file(tmp_path / "processes", "S3")) == Cohort.open(shells).cases[3].read_mask("truth")).all()


class KillerError(ValueError):
    """Unpickled in a worker, it kills the worker."""

    def __reduce__(self):
        return _end, ()


def _end():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_study_that_kills_its_process_fails_alone(shells, tmp_path):
    reads = read_studies(shells, tmp_path)
    answers = {read.study.study_id: answer_of(read) for read in reads}
    answers["S2"] = KillerError("out of memory")
    results = finished(shells, tmp_path, 2, answers)
    assert [result.status for result in results] == ["segmented", "segmented", "failed", "segmented"]
    assert results[2].reason == DIED
    assert read_json(result_file(tmp_path, "S2"))["reason"] == DIED
    assert not mask_file(tmp_path, "S2").exists()
    assert "measurements=volume" in DIED


@pytest.mark.parametrize("number", [0, 1])
def test_an_output_that_cannot_be_written_is_an_error_of_the_command(shells, tmp_path, number):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/masks").write_text("no folder")
    with pytest.raises(RunError, match="masks"):
        finished(shells, tmp_path / "out", number)


def test_processes_start_only_where_they_pay(shells, monkeypatch):
    learnt = learnt_of(shells)
    monkeypatch.setattr(workers, "num_processes", lambda asked, tasks: 8)
    assert num_finishers(Options(), learnt, 100, "transaxial") == 7
    assert num_finishers(Options(num_workers=3), learnt, 100, "transaxial") == 3
    for options, known, number, domain in (
        (Options(num_workers=0), learnt, 100, "transaxial"),
        (Options(measurements="volume"), learnt, 100, "transaxial"),
        (Options(), replace(learnt, label="lv_filled"), 100, "transaxial"),
        (Options(), learnt, workers.FEWEST - 1, "transaxial"),
        (Options(), learnt, 100, "projection"),
    ):
        assert num_finishers(options, known, number, domain) == 0
    monkeypatch.setattr(workers, "num_processes", lambda asked, tasks: 1)  # one core, or no process can start
    assert num_finishers(Options(), learnt, 100, "transaxial") == 0
    with pytest.raises(ConfigError, match="num_workers=-1; expected 0"):
        Options(num_workers=-1)


def test_little_waits_however_many_studies_come(shells, tmp_path):
    finisher = Finisher(0, learnt_of(shells), tmp_path, Options(measurements="volume"))
    read = read_studies(shells, tmp_path)[0]
    most = 0
    for _ in range(40):
        finisher.add(read, answer_of(read))
        while finisher.is_full:
            finisher.next()
        most = max(most, len(finisher))
    finisher.close()
    assert most == workers.BACKLOG
