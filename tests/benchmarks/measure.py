"""What a benchmark measures, and how: costs, turns, doors as processes, memory watched from outside."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        folder: For cohorts and runs; emptied by whoever made it.
        quick: Tiny sizes, which show that a benchmark runs and nothing else.
        device: ``cpu`` or ``cuda``.
        minutes: Budgets a fold of the comparison with nnU-Net.
        folds: Folds of that comparison.
        patients: Patients of that comparison.
        sizes: Patients of the growing cohorts.
    """

    folder: Path
    quick: bool = False
    device: str = "cpu"
    minutes: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    folds: int = 2
    patients: int = 40
    sizes: tuple[int, ...] = (100, 1000, 10_000)

    @property
    def trainer(self) -> list[str]:
        """Words of the door ``train`` for the device."""
        return ["trainer=gpu", "trainer.precision=32-true"] if self.device == "cuda" else ["trainer=cpu"]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: What was measured.
        ratio: Baseline over this one, of what ``by`` says; above 1 is better. None where there is nothing to compare.
        by: ``CPU``, ``wall``, ``memory`` or ``Dice``.
        wall_s: Wall-clock seconds.
        cpu_s: CPU seconds of all processes.
        more: Other figures by name, units in the names.
    """

    name: str
    ratio: float | None = None
    by: str = ""
    wall_s: float | None = None
    cpu_s: float | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """Seconds that something took."""

    wall_s: float
    cpu_s: float


def timed(task: Callable[[], object]) -> Cost:
    """What one call costs this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    task()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def in_turns(tasks: Mapping[str, Callable[[], Cost]], repeats: int) -> dict[str, Cost]:
    """Let tasks take turns, and give the median cost of each."""
    costs: dict[str, list[Cost]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            costs[name].append(task())
    return {name: median(of_task) for name, of_task in costs.items()}


def median(costs: list[Cost]) -> Cost:
    """Median wall-clock and median CPU seconds."""
    return Cost(statistics.median(cost.wall_s for cost in costs), statistics.median(cost.cpu_s for cost in costs))


def compared(costs: Mapping[str, Cost], by: str, more: Mapping[str, dict[str, Any]] | None = None) -> list[Row]:
    """Rows of costs against the first of them.

    A cost that is the difference of two commands can drown in noise and come out negative: it gets no ratio.
    """
    others, rows = more or {}, []
    key = "cpu_s" if by == "CPU" else "wall_s"
    baseline = getattr(next(iter(costs.values())), key)
    for name, cost in costs.items():
        taken = getattr(cost, key)
        ratio = baseline / taken if min(baseline, taken) > 0 else None
        rows.append(Row(name, ratio, by, cost.wall_s, cost.cpu_s, dict(others.get(name, {}))))
    return rows


@dataclass
class Finished:
    """A command that ended well.

    Attributes:
        cost: Of the whole process with its children.
        memory: (time in s since the epoch, anonymous MB, resident MB) of the process and its children, sampled.
        said: What it printed.
    """

    cost: Cost
    memory: list[tuple[float, float, float]]
    said: str

    def peak_mb(self, begin: float = 0.0, end: float = float("inf"), *, resident: bool = False) -> float:
        """Largest memory between two times. Anonymous: what the process asked for, without files that it maps."""
        return max((row[2 if resident else 1] for row in self.memory if begin <= row[0] <= end), default=float("nan"))


def command(
    words: list[str], folder: Path, *, threads: int | None = 1, watch: bool = False, **environment: str
) -> Finished:
    """Run a command in a process group of its own and wait; threads None leaves the libraries' own choice."""
    given = {key: value for key, value in os.environ.items() if key not in THREADS}  # those that our own start set
    own = {} if threads is None else dict.fromkeys(THREADS, str(threads))
    paths = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")])
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with open(folder / "said.txt", "w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=given | {"PYTHONPATH": paths} | own | environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        memory: list[tuple[float, float, float]] = []
        done = threading.Event()
        if watch:
            watcher = threading.Thread(target=_watch, args=(process.pid, memory, done))
            watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            done.set()
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        if watch:
            watcher.join()
        said.seek(0)
        text = said.read()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode} in {folder}:\n{text[-3000:]}")
    return Finished(Cost(wall, usage.ru_utime + usage.ru_stime), memory, text)


def door(name: str, words: list[str], folder: Path, **how: Any) -> Finished:
    """Run ``python -m mpi_unet.<name> <words>`` in ``folder``; see :func:`command`."""
    return command([sys.executable, "-m", f"mpi_unet.{name}", *words], folder, **how)


def machine() -> dict[str, Any]:
    """What was measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    import torch

    return {
        "cores": cores,
        "cpu": model,
        "memory_gib": round(memory),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "monai", "pytorch-lightning")},
        "date": time.strftime("%Y-%m-%d"),
        "load_average": round(os.getloadavg()[0], 2),
    }


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows as they are kept."""
    return json.loads(json.dumps([asdict(row) for row in rows]))


def _watch(root: int, memory: list[tuple[float, float, float]], done: threading.Event) -> None:
    while not done.wait(0.05):
        statuses = [text for pid in with_children(root) if (text := _status(pid))]
        sizes = [sum(_kilobytes(text, key) for text in statuses) / 1024 for key in ("RssAnon:", "VmRSS:")]
        memory.append((time.time(), sizes[0], sizes[1]))


def with_children(root: int) -> list[int]:
    """A process and all that descend from it, by number."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return ""


def _kilobytes(status: str, key: str) -> int:
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(key)), 0)
