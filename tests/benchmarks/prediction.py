"""Prediction against bare forward passes of the same network over frames that are in memory already."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
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
    few, folds = max(4, patients // 6), 2 if options.quick else 5
    device = torch.device(options.device)
    cohorts = {
        number: write_rings(options.folder / f"cohort_{number}", number, num_frames=frames, size=size)
        for number in (few, patients)
    }
    words = [*options.trainer, "data=cohort", f"data.root={cohorts[few]}", "data.reader=truth", "split.stratify_by=[]"]
    words += ["debug=one_batch"] if options.quick else ["trainer.max_epochs=6"]  # noise for masks would cost more
    door("train", [*words, "split=holdout", "name=one"], options.folder)
    door("train", [*words, "split=kfold", f"split.num_folds={folds}", "name=many"], options.folder)
    images, _ = read_frames(cohorts[patients])
    stack = torch.from_numpy(images)[:, None].to(device)
    network = bare_parts(device)[0].eval()
    torch.set_num_threads(1)

    @torch.inference_mode()
    def bare(number: int) -> None:
        for part in stack[: (patients - few) * frames].split(BATCH):
            for _ in range(number):
                network(part).softmax(1)[:, 1].cpu()

    def by_door(*more: str, run: str = "one") -> Cost:
        costs = []
        for number, cohort in cohorts.items():
            given = [f"run=runs/{run}", f"input={cohort}", f"output=predicted_{number}", "overwrite=true"]
            given += [f"device={options.device}", "allow_other_domain=true"]
            costs.append(door("predict", [*given, *more], options.folder).cost)
        small, large = costs
        return Cost(large.wall_s - small.wall_s, large.cpu_s - small.cpu_s)

    plain, kinds = ("measurements=volume", "pages=false"), "masks, volumes and tables"
    alone: dict[str, Callable[[], Cost]] = {
        "bare forward passes": partial(timed, partial(bare, 1)),
        **{
            f"the door predict, runtime={runtime}, {kinds}": partial(by_door, *plain, f"runtime={runtime}")
            for runtime, package in (("torch", "torch"), ("onnxruntime", "onnxruntime"), ("openvino", "openvino"))
            if importlib.util.find_spec(package)
        },
        "the door predict, everything: hearts measured, a page a study": by_door,
    }
    together: dict[str, Callable[[], Cost]] = {
        f"bare forward passes of {folds} networks": partial(timed, partial(bare, folds)),
        f"the door predict, {folds} networks of a cross-validation, {kinds}": partial(by_door, *plain, run="many"),
    }
    for name in list(alone)[2:-1]:
        alone[name]()  # a runtime translates the network once, and keeps it
    rows = []
    for tasks in (alone, together):
        costs = in_turns(tasks, turns)
        more = {name: {"frames_per_s": (patients - few) * frames / cost.wall_s} for name, cost in costs.items()}
        rows += compared(costs, "CPU" if options.device == "cpu" else "wall", more)
    return rows


def why_not() -> str:
    """Why this cannot be measured here; empty where it can."""
    return "" if can_predict() else "this checkout has no door predict"
