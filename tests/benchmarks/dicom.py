"""DICOM studies to DICOM results through the door predict, against bare forward passes of the same network.

Each figure is the difference of a large and a small folder, so what happens once is not in it; what happens once is the
first row of a folder of one study, cold: from the command to the first result.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import Cost, Options, Row, compared, door, in_turns, timed
from benchmarks.training import bare_parts
from benchmarks.volumes import SPACING_MM, write_rings

TITLE = "DICOM: studies in, segmentations and reports out, against bare forward passes"

KINDS = {
    "masks and tables": "[]",
    "and segmentations, reports": "[seg,sr]",
    "and pictures, pages": "[seg,sr,sc,pdf]",
}


def measure(options: Options) -> list[Row]:
    """Seconds a study."""
    few, many, frames, size, turns, epochs = (1, 3, 4, 32, 1, 1) if options.quick else (2, 22, 24, 64, 3, 4)
    cohort = write_rings(options.folder / "cohort", many, num_frames=frames, size=size)
    words = ["data=cohort", f"data.root={cohort}", "data.reader=truth", "split=holdout", "split.stratify_by=[]"]
    words += [f"trainer.max_epochs={epochs}", "name=model", *(["debug=one_batch"] if options.quick else [])]
    door("train", [*options.trainer, *words], options.folder)
    folders = {number: write_studies(options.folder / f"dicom_{number}", cohort, number) for number in (1, few, many)}
    network = bare_parts(torch.device("cpu"))[0].eval()
    torch.set_num_threads(1)
    stack = torch.rand(frames, 1, size, size)

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(many - few):
            network(stack).softmax(1)[:, 1].numpy()

    def by_door(number: int, *more: str) -> Cost:
        output = options.folder / "predicted"
        shutil.rmtree(output, ignore_errors=True)
        shutil.rmtree(options.folder / "predicted_private", ignore_errors=True)
        given = ["run=runs/model", f"input={folders[number]}", "output=predicted", "allow_other_domain=true"]
        given += ["source=dicom", f"source.key_file={options.folder / 'key'}", "device=cpu", "pages=false"]
        return door("predict", [*given, *more], options.folder).cost

    def warm(*more: str) -> Cost:
        small, large = by_door(few, *more), by_door(many, *more)
        return Cost(large.wall_s - small.wall_s, large.cpu_s - small.cpu_s)

    tasks = {"bare forward passes": partial(timed, bare)}
    for name, kinds in KINDS.items():
        for measured in ("volume", "cardiac"):
            tasks[f"{name}, measurements={measured}"] = partial(warm, f"dicom_out={kinds}", f"measurements={measured}")
    costs = in_turns(tasks, turns)
    studies = many - few
    more = {
        name: {
            "studies_per_min": 60 * studies / cost.wall_s if cost.wall_s > 0 else float("nan"),
            "cpu_s_per_study": cost.cpu_s / studies,
        }
        for name, cost in costs.items()
    }
    rows = compared(costs, "CPU", more)
    cold = in_turns({"one": partial(by_door, 1, "dicom_out=[seg,sr]")}, turns)["one"]
    return [*rows, Row("cold: from the command to the first result", None, "", cold.wall_s, cold.cpu_s)]


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
