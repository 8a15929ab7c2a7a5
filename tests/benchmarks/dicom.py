"""DICOM studies to DICOM results through ``predict``, warm and cold, against bare forward passes of the same network.

*Warm* is what a further study costs: the difference of a large and a small folder, in one process that has imported
everything, workers included. *Cold* is the door as a command of its own: from typing it to the first result.
"""

from __future__ import annotations

import io
import resource
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import Cost, Options, Row, command, compared, door, in_turns, timed
from benchmarks.training import bare_parts
from benchmarks.volumes import SPACING_MM, write_rings

TITLE = "DICOM: studies in, segmentations and reports out, against bare forward passes"

TASKS = {
    "masks, volumes and tables": ("measurements=volume", "dicom_out=[]"),
    "and hearts measured": ("measurements=cardiac", "dicom_out=[]"),
    "and segmentations, reports": ("measurements=cardiac", "dicom_out=[seg,sr]"),
    "and pictures, pages": ("measurements=cardiac", "dicom_out=[seg,sr,sc,pdf]"),
}


def measure(options: Options) -> list[Row]:
    """Seconds a study warm, and for one study cold."""
    few, many, frames, size, turns, epochs = (1, 3, 4, 32, 1, 1) if options.quick else (8, 20, 24, 64, 2, 4)
    cohort = write_rings(options.folder / "cohort", many, num_frames=frames, size=size)
    words = ["data=cohort", f"data.root={cohort}", "data.reader=truth", "split=holdout", "split.stratify_by=[]"]
    words += [f"trainer.max_epochs={epochs}", "name=model", *(["debug=one_batch"] if options.quick else [])]
    door("train", [*options.trainer, *words], options.folder)
    folders = {
        number: write_studies(options.folder / f"dicom_{number}", cohort, number) for number in sorted({1, few, many})
    }
    run, output = options.folder / "runs/model", options.folder / "predicted"
    given = ["allow_other_domain=true", "accept_incomplete=true", "source=dicom", "device=cpu", "pages=false"]
    given += [f"source.key_file={options.folder / 'key'}"]
    network = bare_parts(torch.device("cpu"))[0].eval()
    torch.set_num_threads(1)
    stack = torch.rand(frames, 1, size, size)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(many - few):
            network(stack).softmax(1)[:, 1].numpy()

    def by_folder(number: int, *more: str) -> Cost:
        from mpi_unet.api import predict

        _remove(output)
        with redirect_stdout(io.StringIO()):
            return _with_children(lambda: predict(run, folders[number], output, *given, *more))

    def warm(*more: str) -> Cost:
        small, large = by_folder(few, *more), by_folder(many, *more)
        return Cost(large.wall_s - small.wall_s, large.cpu_s - small.cpu_s)

    def cold(*more: str) -> Cost:
        _remove(output)
        words = [f"run={run}", f"input={folders[1]}", f"output={output}", *given, *more]
        return door("predict", words, options.folder).cost

    by_folder(1, *TASKS["and pictures, pages"])  # imports everything
    warm_tasks = {name: partial(warm, *words) for name, words in TASKS.items()}
    costs = in_turns({"bare forward passes": partial(timed, bare), **warm_tasks}, turns)
    studies = many - few
    more = {
        name: {
            "studies": studies,
            "slices": frames,
            "studies_per_min": 60 * studies / cost.wall_s if cost.wall_s > 0 else float("nan"),
            "cpu_s_per_study": cost.cpu_s / studies,
        }
        for name, cost in costs.items()
    }
    rows = compared(costs, "CPU", more)
    imports = command([sys.executable, "-c", "import torch, monai"], options.folder).cost
    rows.append(Row("cold: import torch and MONAI, nothing else", None, "", imports.wall_s, imports.cpu_s))
    for name in ("masks, volumes and tables", "and segmentations, reports"):
        cost = in_turns({name: partial(cold, *TASKS[name])}, turns)[name]
        rows.append(
            Row(f"cold, one study: {name}", None, "", cost.wall_s, cost.cpu_s, {"studies": 1, "slices": frames})
        )
    return rows


def _remove(output: Path) -> None:
    for folder in (output, output.with_name(f"{output.name}_private")):
        shutil.rmtree(folder, ignore_errors=True)


def _with_children(task: Callable[[], object]) -> Cost:
    """What a call costs this process and the workers that it starts and ends."""

    def cpu_s() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)

    wall, cpu = time.perf_counter(), cpu_s()
    task()
    return Cost(time.perf_counter() - wall, cpu_s() - cpu)


def write_studies(folder: Path, cohort: Path, number: int) -> Path:
    """The first patients of a cohort as DICOM files, one short-axis reconstruction each."""
    from mpi_unet.cohort.table import Cohort
    from mpi_unet.dicom.geometry import SliceStack
    from mpi_unet.dicom.nm_writing import SyntheticIdentity, recon_tomo, write_dicom

    step, row_mm, column_mm = SPACING_MM
    stack = SliceStack((5.0, -20.0, 30.0), (0.8, 0.6, 0.0), (0.0, 0.0, -1.0), (row_mm, column_mm), step)
    for position, case in enumerate(Cohort.open(cohort).cases[:number]):
        identity = SyntheticIdentity(key=f"bench-{position:05d}", study="stress")
        image = recon_tomo(case.read_image().array, stack=stack, identity=identity, view="short_axis")
        target = folder / f"{position:05d}"
        target.mkdir(parents=True)
        write_dicom(image, target / "im")
    return folder
