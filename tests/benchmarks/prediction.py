"""Prediction against bare forward passes of the same network over frames that are in memory already."""

from __future__ import annotations

import importlib.util
from functools import partial

import torch

from benchmarks.adapter import SIZE
from benchmarks.growth import can_predict
from benchmarks.measure import Cost, Options, Row, compared, door, in_turns, timed
from benchmarks.training import bare_parts
from benchmarks.volumes import read_frames, write_rings

TITLE = "Prediction: the door predict against bare forward passes"
BATCH = 128


def measure(options: Options) -> list[Row]:
    """Seconds for all frames of a cohort; of the door, the difference of a large and a small cohort."""
    patients, frames, size, turns = (8, 4, 32, 1) if options.quick else (100, 16, SIZE, 2)
    few = max(4, patients // 6)
    device = torch.device(options.device)
    cohorts = {
        number: write_rings(options.folder / f"cohort_{number}", number, num_frames=frames, size=size)
        for number in (few, patients)
    }
    words = ["data=cohort", f"data.root={cohorts[few]}", "data.reader=truth", "split=holdout", "split.stratify_by=[]"]
    words += ["debug=one_batch"] if options.quick else ["trainer.max_epochs=6"]  # noise for masks would cost more
    door("train", [*options.trainer, *words, "name=model"], options.folder)
    images, _ = read_frames(cohorts[patients])
    stack = torch.from_numpy(images)[:, None].to(device)
    network = bare_parts(device)[0].eval()
    torch.set_num_threads(1)

    @torch.inference_mode()
    def bare() -> None:
        for part in stack[: (patients - few) * frames].split(BATCH):
            network(part).softmax(1)[:, 1].cpu()

    def by_door(*more: str) -> Cost:
        costs = []
        for number, cohort in cohorts.items():
            given = ["run=runs/model", f"input={cohort}", f"output=predicted_{number}", "overwrite=true"]
            given += [f"device={options.device}", "allow_other_domain=true"]
            costs.append(door("predict", [*given, *more], options.folder).cost)
        small, large = costs
        return Cost(large.wall_s - small.wall_s, large.cpu_s - small.cpu_s)

    tasks = {
        "bare forward passes": partial(timed, bare),
        **{
            f"the door predict, runtime={runtime}, masks, volumes and tables": partial(
                by_door, "measurements=volume", "pages=false", f"runtime={runtime}"
            )
            for runtime, package in (("torch", "torch"), ("onnxruntime", "onnxruntime"), ("openvino", "openvino"))
            if importlib.util.find_spec(package)
        },
        "the door predict, everything: hearts measured, a page a study": by_door,
    }
    for name in list(tasks)[1:]:
        tasks[name]()  # a runtime translates the network once, and keeps it
    costs = in_turns(tasks, turns)
    more = {name: {"frames_per_s": (patients - few) * frames / cost.wall_s} for name, cost in costs.items()}
    return compared(costs, "CPU" if options.device == "cpu" else "wall", more)


def why_not() -> str:
    """Why this cannot be measured here; empty where it can."""
    return "" if can_predict() else "this checkout has no door predict"
