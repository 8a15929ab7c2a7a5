"""Worker processes: how many to start, with one thread each - more get in each other's way - and how they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

__all__ = [
    "ENDS_WITH_PARENT",
    "PATIENCE_SECONDS",
    "end_with_parent",
    "num_processes",
    "one_thread_each",
    "worker_ends_with_parent",
]

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


ENDS_WITH_PARENT = "MPI_UNET_ENDS_WITH_PARENT"
"""Environment variable by which a parent asks a child to end with it (:func:`end_with_parent`)."""

PATIENCE_SECONDS = 30
"""How long a process that is told to stop may take to leave its files whole."""


def num_processes(num_workers: int | None, num_tasks: int) -> int:
    """Number of worker processes for some tasks: as asked for, else one per core, never more than tasks.

    Args:
        num_workers: What the caller asked for; None takes the cores that this process may use.
        num_tasks: Number of independent tasks.

    Returns:
        1 also where no worker could start: workers import the main module, which text from a pipe does not allow.

    Example:
        >>> num_processes(8, 3), num_processes(1, 100)
        (3, 1)
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    main = getattr(sys.modules["__main__"], "__file__", None)
    can_start = main is None or Path(main).is_file()
    return min(num_workers or cores, num_tasks) if can_start else 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let the processes that are started meanwhile compute with one thread; the own settings come back afterwards."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def end_with_parent() -> None:
    """Where a parent process asked for it: interrupt this process, as Ctrl-C would, when the parent is gone.

    The parent holds the other end of the standard input, which the system closes whatever way the parent ends.
    """
    if os.environ.pop(ENDS_WITH_PARENT, None):
        threading.Thread(target=_wait_for_the_end, name="parent", daemon=True).start()


def worker_ends_with_parent() -> None:
    """Initializer of the workers of a pool: end at once when the parent is gone, whatever way it went.

    A worker of a parent that was killed would otherwise finish its tasks and then wait for further ones for ever. Files
    are whole at any time, so nothing is lost.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), name="parent", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(130)


def _wait_for_the_end() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(PATIENCE_SECONDS)
    os._exit(130)  # where interruptions are ignored, as in a background job of a shell; files are whole at any time
