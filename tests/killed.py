"""Kill a door with SIGKILL, give the same command again, and compare with a run that nobody disturbed.

``python tests/killed.py --help``. A *moment* is either a point of the command's processor time or one of its file
operations (opening for writing, renaming, removing, making a folder), before which the process dies. Every trial is
killed at two moments, the second time while it goes on from the first, and then runs to its end.

The doors are forked from a process that has imported everything, so that the moments fall into the work.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from made import content, differences, is_left_over

HERE = Path(__file__).resolve().parent

STACKED = 1e-4
"""A fold that is left over when the others of its stack are done goes on alone: another product, another rounding."""

MUTATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


@dataclass(frozen=True)
class Command:
    """A command under test.

    Attributes:
        words: The door and its arguments.
        inputs: Links or copies of what the command reads, by name, and the finished folders they come from.
        output: What it makes, below its folder.
        marks: Files that say that a piece of the work is done: once there, they may not be written again.
        tolerance: By how much weights and numbers may differ, as a share of the largest value of a tensor or of the
            number; masks, texts and whole numbers are always equal.
    """

    words: tuple[str, ...]
    output: str
    inputs: dict[str, Path] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    tolerance: float = 0.0

    def laid_out(self, folder: Path) -> Path:
        """A fresh folder with the inputs."""
        folder.mkdir(parents=True)
        for name, source in self.inputs.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, folder / name)
        return folder


def commands(cohort: Path, run: Path) -> dict[str, Command]:
    """The doors under test, small enough to be run a hundred times; add a door here.

    Args:
        cohort: A finished cohort.
        run: A finished run on it.
    """
    phantom = ("source.domain=projection", "source.num_patients=3", "source.readers=[truth,A]", "input=none")
    train = (
        *("trainer=cpu", "trainer.max_epochs=3", "data=cohort", "data.root=cohort", "data.reader=truth"),
        *("split.num_folds=2", "model.channels=[4,8]", "model.strides=[2]", "loader.batch_size=8"),
    )
    return {
        "prepare": Command(
            ("prepare", "source=phantom", *phantom, "output=made", "+source.num_workers=1"),
            output="made",
            marks=("made/parts/*.json", "made/cohort.json"),
        ),
        "train": Command(
            ("train", *train),
            output="runs/train",
            inputs={"cohort": cohort},
            marks=("runs/train/fold_*/fold.json", "runs/train/splits.json"),
        ),
        "evaluate": Command(
            ("evaluate", "run=runs/train", "bootstrap.draws=1000", "num_workers=1"),
            output="runs/train",
            inputs={"cohort": cohort, "runs/train": run},
        ),
        "predict": Command(
            ("predict", "run=runs/train", "input=cohort", "output=made", "measurements=volume", "device=cpu"),
            output="made",
            inputs={"cohort": cohort, "runs/train": run},
        ),
        "stacked": Command(
            ("train", *train, "split.parallel=stacked"),
            output="runs/train",
            inputs={"cohort": cohort},
            marks=("runs/train/fold_*/fold.json", "runs/train/splits.json"),
            tolerance=STACKED,
        ),
        "readers": Command(
            ("evaluate", "cohort=cohort", "readers=only", "output=made", "bootstrap.draws=1000", "num_workers=1"),
            output="made",
            inputs={"cohort": cohort},
        ),
    }


# --- Running and killing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """How a process ended.

    Attributes:
        status: Exit status; negative for a signal.
        seconds: Processor time.
        operations: File operations, where it lived to say so.
        said: What it printed.
    """

    status: int
    seconds: float
    operations: int
    said: str


def lived(words: Sequence[str], folder: Path, *, at_second: float = 0, at_operation: int = 0) -> Life:
    """Run a door in a child of this process and kill its group at a moment; 0: never."""
    log, tally = folder / "said.txt", folder / "operations.txt"
    child = os.fork()
    if child == 0:
        _be_a_door(words, folder, log, tally, at_operation)
    clock = (~child << 3) | 2  # CLOCK_PROCESS_CPUTIME_ID of that process (clock_getcpuclockid)
    seconds, status = 0.0, None
    while status is None:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
        else:
            seconds = time.clock_gettime(clock)
            if at_second and seconds >= at_second:
                os.killpg(child, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            time.sleep(0.0005)
    operations = int(tally.read_text()) if tally.is_file() else 0
    said = log.read_text(errors="replace") if log.is_file() else ""
    tally.unlink(missing_ok=True)
    return Life(status, seconds, operations, said)


def _be_a_door(words: Sequence[str], folder: Path, log: Path, tally: Path, at_operation: int) -> None:
    os.setsid()
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    count = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = event in MUTATIONS
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            writes = isinstance(arguments[0], (str, os.PathLike)) and bool(flags & (os.O_WRONLY | os.O_RDWR))
        if writes:
            count += 1
            if count == at_operation:
                os.killpg(0, signal.SIGKILL)

    sys.argv = [f"mpi_unet/{words[0]}.py", *words[1:]]
    sys.addaudithook(watch)
    status = 1
    try:
        importlib.import_module(f"mpi_unet.{words[0]}").main()
    except SystemExit as left:
        status = int(left.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        with tally.open("w") as file:
            file.write(str(count - 1))
        os._exit(status)


# --- Trials -----------------------------------------------------------------------------------------------------------


def trial(
    command: Command, folder: Path, wanted: dict[str, Any], moments: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Kill one fresh run of a command at each moment in turn, let it end, and compare."""
    command.laid_out(folder)
    hits, problems, marks = 0, [], {}
    for moment in moments:
        life = lived(command.words, folder, **moment)
        hits += life.status == -signal.SIGKILL
        if life.status not in (0, -signal.SIGKILL):
            problems.append(f"status {life.status} before the kill at {moment}: {life.said[-1500:]}")
        marks |= {path: path.stat().st_mtime_ns for mark in command.marks for path in folder.glob(mark)}
    life = lived(command.words, folder)
    if life.status != 0:
        problems.append(f"status {life.status} when given again: {life.said[-1500:]}")
    else:
        problems += differences(wanted, content(folder / command.output), command.tolerance)
        again = [path for path, when in marks.items() if path.is_file() and path.stat().st_mtime_ns != when]
        problems += [f"{path.relative_to(folder)} was done and is made twice" for path in again]
    left = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if is_left_over(path.relative_to(folder).as_posix())
    )
    if not problems:
        shutil.rmtree(folder)
    return {"moments": list(moments), "hits": hits, "problems": problems, "left_over": left}


def drawn(rng: random.Random, number: int, whole: Life) -> list[dict[str, float]]:
    """Moments spread over a whole command: one in each of so many equal parts, by time and by operation in turn."""
    moments: list[dict[str, float]] = []
    for part in range(number):
        share = (part + rng.random()) / number
        if part % 2:
            moments.append({"at_operation": 1 + int(share * whole.operations)})
        else:
            moments.append({"at_second": share * whole.seconds})
    rng.shuffle(moments)
    return moments


def spread(moments: int, names: Sequence[str]) -> dict[str, int]:
    """How many of so many moments each door gets: pairs, for a trial has two, the first doors one pair more.

    >>> spread(20, ["prepare", "train", "evaluate"])
    {'prepare': 8, 'train': 6, 'evaluate': 6}
    """
    each, more = divmod(moments // 2, len(names))
    return {name: 2 * (each + (position < more)) for position, name in enumerate(names)}


def examine(name: str, command: Command, folder: Path, moments: Callable[[Life], list[Any]]) -> dict[str, Any]:
    """All trials of one command, two moments each."""
    folder.mkdir()
    whole = lived(command.words, command.laid_out(folder / "whole"))
    if whole.status != 0:
        raise SystemExit(f"{name} fails undisturbed: {whole.said}")
    wanted = content(folder / "whole" / command.output)
    chosen = moments(whole)
    pairs = [chosen[start : start + 2] for start in range(0, len(chosen), 2)]
    trials = [trial(command, folder / f"{number:04d}", wanted, pair) for number, pair in enumerate(pairs)]
    return {
        "command": " ".join(command.words),
        "seconds": whole.seconds,
        "operations": whole.operations,
        "kills": sum(one["hits"] for one in trials),
        "problems": [f"{one['moments']}: {problem}" for one in trials for problem in one["problems"]],
        "left_over": sorted({_pattern(file) for one in trials for file in one["left_over"]}),
        "files": len(wanted),
    }


def _pattern(name: str) -> str:
    """A left-over file without what is random in its name."""
    head, dot, tail = name.partition(".part-")
    return f"{head}{dot}*{tail[tail.find('.') :] if '.' in tail else ''}" if dot else name


def main() -> None:
    """Examine the doors; the report is one JSON object on standard output, the status 1 when anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("doors", nargs="*", help="prepare train evaluate predict stacked readers; all by default")
    parser.add_argument("--moments", type=int, default=20, help="of each door")
    parser.add_argument("--in-all", type=int, help="moments of all doors together, instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every-operation", action="store_true", help="die before each single file operation in turn")
    parser.add_argument("--folder", type=Path, help="where failed trials are kept; default: a temporary folder")
    options = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    os.environ["OMP_NUM_THREADS"] = (
        "1"  # before torch: a child that is forked must not wait for threads of this process
    )
    for room in (
        "scenarios",
        "sources.phantom",
        "sources.account",
        "reader_study.masks",
        "reader_study.request",
        "inference.study",
    ):
        importlib.import_module(f"mpi_unet.{room}")
    importlib.import_module("monai.losses")
    importlib.import_module("monai.networks.nets")
    from cohort_builders import write_tiny_cohort

    folder = Path(tempfile.mkdtemp(prefix="killed-", dir=options.folder))
    cohort = write_tiny_cohort(folder / "cohort", 6, readers=("truth", "A", "B"))
    first = commands(cohort, folder)["train"]
    begun = lived(first.words, first.laid_out(folder / "first"))
    if begun.status != 0:
        raise SystemExit(begun.said)
    rng = random.Random(options.seed)
    report = {}
    known = commands(cohort, folder / "first" / first.output)
    names = options.doors or list(known)
    number = spread(options.in_all, names) if options.in_all else dict.fromkeys(names, options.moments)
    for name in names:
        report[name] = examine(
            name,
            known[name],
            folder / name,
            lambda whole, name=name: (
                [{"at_operation": operation} for operation in range(1, whole.operations + 1)]
                if options.every_operation
                else drawn(rng, number[name], whole)
            ),
        )
    failed = any(one["problems"] for one in report.values())
    if not failed:
        shutil.rmtree(folder)
    sys.stdout.write(json.dumps(report | ({"folder": str(folder)} if failed else {}), indent=2) + "\n")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
