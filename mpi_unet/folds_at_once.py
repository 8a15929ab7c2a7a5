"""Folds at the same time: which ways there are, what they refuse, and folds in processes of their own.

``split.parallel`` says how the folds of a run are trained: ``null`` one after another; ``stacked`` all in this process
on one device, their networks computing at once; ``processes`` each in a process of its own, one on each GPU of this
machine, or several on the cores of a machine without. Each way leaves the same files behind, and a run that was begun
in one way may go on in another.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mpi_unet.errors import BusyError, ConfigError, MpiUnetError, TrainingError
from mpi_unet.processes import ENDS_WITH_PARENT, PATIENCE_SECONDS, num_processes

__all__ = ["check_parallel", "raise_failures", "run_in_processes"]

ABOUT_THE_FOLD = "fold "
"""How the lines begin that a fold says about itself; what it says about the whole run is left to this process."""


def check_parallel(config: DictConfig) -> None:
    """Refuse ways of training folds at once that do not go with the trainer.

    Raises:
        ConfigError: Names the keys and what to change.
    """
    parallel, trainer = config.split.parallel, config.trainer
    if parallel is None:
        return
    if trainer.devices != 1 or trainer.get("num_nodes", 1) != 1:
        raise ConfigError(
            f"split.parallel={parallel} gives each fold one device, but trainer.devices={trainer.devices}; use "
            "trainer.devices=1, or split.parallel=null to let the devices share each fold"
        )
    if parallel == "stacked" and trainer.get("compile", False):
        raise ConfigError(
            "split.parallel=stacked and trainer.compile=true do not go together: a compiled network cannot be stacked; "
            "choose one of them"
        )


def raise_failures(failures: Mapping[int, BaseException]) -> None:
    """Raise what went wrong in some folds, as one error.

    Raises:
        MpiUnetError: Something that the user can remedy, of one fold or of several.
        BaseException: A fault of ours, whatever else went wrong.
    """
    faults = [error for error in failures.values() if not isinstance(error, MpiUnetError)]
    if faults:
        raise faults[0]
    folds: dict[str, list[int]] = {}
    for fold, error in failures.items():
        folds.setdefault(str(error), []).append(fold)
    if len(folds) == 1:
        raise next(iter(failures.values()))
    if folds:
        said = [f"  fold {', '.join(map(str, those))}: {text}" for text, those in folds.items()]
        raise TrainingError(f"{len(failures)} folds stopped:\n" + "\n".join(said))


def run_in_processes(config: DictConfig, folds: Sequence[int], console: Console) -> None:
    """Train each fold in a process of its own, some at a time, and wait for all of them.

    Args:
        config: Of the run, composed and checked.
        folds: Folds that are not done.
        console: Where the progress of the folds goes.

    Raises:
        MpiUnetError: What stopped some folds; the others were run to their end.
        RuntimeError: A fold ended by a fault of ours; its last words are in the message.
    """
    places = _places(config, len(folds))
    with tempfile.TemporaryDirectory(prefix="mpi_unet-") as recipe:
        # the composed config instead of the words of the command line: it holds also what a scenario decided
        Path(recipe, "recipe.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
        work = _FoldProcesses(recipe, console, places)
        with ThreadPoolExecutor(len(places)) as pool:
            try:
                outcomes = list(pool.map(work.run, folds))
            except BaseException:
                work.stop()
                raise
    for fold, error in zip(folds, outcomes, strict=True):
        if isinstance(error, BusyError):
            console.print(f"fold {fold}  left to the other process: {error}", highlight=False)
    failures = {fold: error for fold, error in zip(folds, outcomes, strict=True) if error is not None}
    if len(folds) > 1:
        failures = {fold: error for fold, error in failures.items() if not isinstance(error, BusyError)}
    raise_failures(failures)


def _places(config: DictConfig, num_folds: int) -> list[dict[str, str]]:
    """Environment of each process that runs at the same time: its GPU, or its share of the cores."""
    import torch

    asked, cores = config.split.processes, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    gpus: list[str] = []
    if config.trainer.accelerator in ("auto", "gpu", "cuda"):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        gpus = visible.split(",") if visible else [str(gpu) for gpu in range(torch.cuda.device_count())]
        gpus = gpus[: torch.cuda.device_count()]
    if gpus:
        number = min(asked or len(gpus), num_folds)
        return [{"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} | _threads(cores, number) for place in range(number)]
    number = num_processes(asked, num_folds)
    return [_threads(cores, number) for _ in range(number)]


def _threads(cores: int, number: int) -> dict[str, str]:
    share = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // number))
    return {name: share for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


@dataclass
class _FoldProcesses:
    """Processes that train folds.

    Attributes:
        recipe: Folder of the composed configuration.
        console: Where their progress goes.
        places: Environment of each process that may run at the same time.
    """

    recipe: str
    console: Console
    places: Sequence[dict[str, str]]
    running: dict[int, subprocess.Popen[str]] = field(default_factory=dict)
    is_stopped: bool = False

    def __post_init__(self) -> None:
        self.free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for place in self.places:
            self.free.put(place)

    def run(self, fold: int) -> BaseException | None:
        """Train one fold; give back what stopped it."""
        place = self.free.get()
        try:
            return self._wait_for(fold, place)
        finally:
            self.free.put(place)

    def stop(self) -> None:
        """Let every fold leave its files whole and end."""
        self.is_stopped = True
        for process in list(self.running.values()):
            process.send_signal(signal.SIGINT)
        for process in list(self.running.values()):
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def _wait_for(self, fold: int, place: Mapping[str, str]) -> BaseException | None:
        if self.is_stopped:
            return None
        words = ["--config-path", self.recipe, "--config-name", "recipe", f"++split.fold={fold}"]
        words += ["++split.parallel=null", "overwrite=false", "hydra.run.dir=.", "hydra.output_subdir=null"]
        with subprocess.Popen(
            [sys.executable, "-m", "mpi_unet.train", *words, "hydra/job_logging=none"],
            env=os.environ | place | {ENDS_WITH_PARENT: "1"},
            stdin=subprocess.PIPE,  # never written to: it closes when this process is gone, and the fold ends, too
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on once
        ) as process:
            self.running[fold] = process
            if self.is_stopped:  # while it was being started
                process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            assert process.stderr is not None
            with ThreadPoolExecutor(1) as reader:
                complaint = reader.submit(process.stderr.read)
                for line in process.stdout:
                    if line.startswith(ABOUT_THE_FOLD):
                        self.console.print(line.rstrip(), highlight=False)
        del self.running[fold]
        return _failure(fold, process.returncode, complaint.result())


def _failure(fold: int, status: int, complaint: str) -> BaseException | None:
    """What an exit status and the last words of a fold mean."""
    if status == 0:
        return None
    kind, _, text = complaint.strip().partition(": ")
    if status == 2 and text:
        return BusyError(text) if kind == BusyError.__name__ else TrainingError(text)
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    remedy = "give the same command again and it goes on from there"
    if status < 0:
        return TrainingError(f"the process of fold {fold} {ended} (out of memory?); {remedy}")
    return RuntimeError(f"the process of fold {fold} {ended}; {remedy}. It said:\n{complaint.strip()}")
