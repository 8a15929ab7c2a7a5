"""Worker processes: how many to start, and with one thread each, because more get in each other's way."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["num_processes", "one_thread_each"]

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


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
