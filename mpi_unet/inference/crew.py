"""Work that needs no network - pages, DICOM objects - over processes, with the results in the order of the work."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mpi_unet.processes import num_processes, one_thread_each, worker_ends_with_parent

__all__ = ["done_in_order", "num_helpers"]

AHEAD = 4
"""Items that are begun ahead for each process: enough to keep it busy, and little memory."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def num_helpers(num_workers: int | None, num_items: int, fewest: int) -> int:
    """Number of processes for some work; 0 where this one will do it alone.

    Args:
        num_workers: As asked for; None for one a core.
        num_items: How much there is to do.
        fewest: Items for which starting processes pays.

    Example:
        >>> num_helpers(4, 3, fewest=10), num_helpers(0, 1000, fewest=10)
        (0, 0)
    """
    if num_workers == 0 or num_items < fewest:
        return 0
    number = num_processes(num_workers, num_items)
    return number if number > 1 else 0


def done_in_order(work: Callable[[Item], Made], items: Iterable[Item], number: int) -> Iterator[Made]:
    """What the work makes of each item, in their order.

    What a process leaves undone that dies, as it does when memory is short, is done here. An error of the work is
    raised in its turn.

    Args:
        work: A function that other processes can import.
        items: What to work on; few of them are in memory at a time.
        number: Of processes; 0 for none.
    """
    if number == 0:
        yield from map(work, items)
        return
    begun: deque[tuple[Item, Future[Made] | None]] = deque()
    pool: ProcessPoolExecutor | None = ProcessPoolExecutor(
        number, mp_context=multiprocessing.get_context("spawn"), initializer=worker_ends_with_parent
    )

    def first_done() -> Made:
        nonlocal pool
        item, future = begun.popleft()
        try:
            return work(item) if future is None else future.result()
        except BrokenProcessPool:
            pool = None
            return work(item)

    try:
        for item in items:
            begun.append((item, _begun(pool, work, item)))
            if len(begun) > AHEAD * number:
                yield first_done()
        while begun:
            yield first_done()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _begun(pool: ProcessPoolExecutor | None, work: Callable[[Item], Made], item: Item) -> Future[Made] | None:
    """The work of another process; None where there is none any more."""
    if pool is None:
        return None
    try:
        with one_thread_each():  # processes start with the first items
            return pool.submit(work, item)
    except BrokenProcessPool:
        return None
