"""Studies are finished - cleaned, measured, written - while the networks work on the next ones.

Fitting surfaces takes about as long as the network, so it is done by worker processes; what takes no time is done by a
thread. A process that dies over a study, for lack of memory for example, costs that study and no other.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from mpi_unet.inference.finishing import Answer, Learnt, ReadStudy, finish_study
from mpi_unet.inference.options import Options
from mpi_unet.inference.results import StudyResult, keep_result
from mpi_unet.processes import num_processes, one_thread_each, worker_ends_with_parent

__all__ = ["Finisher", "num_finishers"]

BACKLOG = 8
"""Studies that may wait to be finished, and two more for each process: enough to keep it busy, and little memory."""

FEWEST = 4
"""Studies for which starting a process pays: it takes about as long as measuring three."""


DIED = "the process that measured it died twice, as it does when memory is short; measurements=volume needs less"


def num_finishers(options: Options, learnt: Learnt, num_studies: int, domain: str) -> int:
    """Number of processes that finish studies; 0 where a thread will do.

    Args:
        options: ``num_workers`` is taken where it is given; else all cores but one, which the network needs.
        learnt: Says what the outlines mean: surfaces are fitted to walls.
        num_studies: How many there are.
        domain: What the images are; projections have no surfaces.
    """
    is_slow = options.measurements == "cardiac" and learnt.label == "lv_wall" and domain != "projection"
    if not is_slow or options.num_workers == 0 or num_studies < FEWEST:
        return 0
    cores = num_processes(None, max(2, num_studies))  # 1 also where no process can start
    return 0 if cores == 1 else options.num_workers or cores - 1


class Finisher:
    """Finishes studies in the order in which they come.

    Args:
        number: Of processes; 0 for a thread of this one.
        learnt: From the model.
        output: Folder of the predictions.
        options: How.
    """

    def __init__(self, number: int, learnt: Learnt, output: Path, options: Options) -> None:
        self._number, self._learnt, self._output, self._options = number, learnt, output, options
        self._pool: Executor | None = None
        self._waiting: deque[tuple[ReadStudy, Answer, Future[StudyResult]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether a result should be taken before the next study comes."""
        return len(self._waiting) > BACKLOG + 2 * self._number

    def add(self, read: ReadStudy, answer: Answer) -> None:
        """Begin with a study."""
        self._waiting.append((read, answer, self._begin(read, answer)))

    def next(self) -> StudyResult:
        """The result of the study that waits longest.

        Raises:
            RunError: The output cannot be written to.
        """
        read, answer, future = self._waiting.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            return self._after_a_death(read, answer)

    def close(self) -> None:
        """Let go of what has not begun, and wait for what has."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _begin(self, read: ReadStudy, answer: Answer) -> Future[StudyResult]:
        if self._pool is None:
            self._pool = _pool(self._number)
        try:
            with one_thread_each():  # processes start with the first studies
                return self._pool.submit(finish_study, read, answer, self._learnt, self._output, self._options)
        except BrokenProcessPool as error:
            broken: Future[StudyResult] = Future()
            broken.set_exception(error)
            return broken

    def _after_a_death(self, read: ReadStudy, answer: Answer) -> StudyResult:
        """Finish the study alone, to see whether it is to blame, and begin anew with those behind it."""
        self.close()
        self._pool = _pool(1)
        try:
            result = self._begin(read, answer).result()
        except BrokenProcessPool:
            result = keep_result(replace(read.result, status="failed", reason=DIED), self._output)
        self.close()
        self._waiting = deque(
            (one, its, self._begin(one, its) if _is_lost(future) else future) for one, its, future in self._waiting
        )
        return result


# --- Private helpers --------------------------------------------------------------------------------------------------


def _pool(number: int) -> Executor:
    if number == 0:
        return ThreadPoolExecutor(1, thread_name_prefix="finishing")
    return ProcessPoolExecutor(
        number, mp_context=multiprocessing.get_context("spawn"), initializer=worker_ends_with_parent
    )


def _is_lost(future: Future[StudyResult]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)
