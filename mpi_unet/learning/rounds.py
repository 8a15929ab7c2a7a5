"""Tasks that take turns in one process and meet where they can be served together.

Each task is ordinary code in a thread of its own, but only one of them runs at any moment: it goes on until it *asks*
for something or ends, then the next one has its turn. When all of them wait, the requests that come first in order are
served at once, by the first of those who asked, in its own context (autocast, inference mode). Random generators belong
to the task whose turn it is: a task draws the same numbers as if it ran alone.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
import torch

__all__ = ["Abandoned", "Rounds"]

Request = TypeVar("Request")
Order = tuple[int, ...]


class Abandoned(BaseException):
    """Raised in a task that waits when the whole is given up."""


class Rounds(Generic[Request]):
    """Runs tasks that meet.

    Args:
        serve: Answers the requests of one round, by task.

    Example:
        Two tasks ask for the sum of what both have.

        >>> rounds = Rounds(lambda requests: dict.fromkeys(requests, sum(requests.values())))
        >>> rounds.run({task: lambda task=task: rounds.ask(task, (0,), task) * 10 for task in (1, 2)})
        {1: 30, 2: 30}
    """

    def __init__(self, serve: Callable[[dict[int, Request]], Mapping[int, Any]]) -> None:
        self.serve = serve
        self._asked: dict[int, tuple[Order, Request]] = {}
        self._answers: dict[int, Any] = {}
        self._next: deque[int] = deque()
        self._turn: dict[int, threading.Event] = {}
        self._outcomes: dict[int, Any] = {}
        self._is_over = threading.Event()
        self._is_abandoned = False

    def run(self, tasks: Mapping[int, Callable[[], Any]]) -> dict[int, Any]:
        """What each task gives back; for one that fails, its exception. A failure does not end the others.

        Raises:
            KeyboardInterrupt: While waiting; the tasks were made to end first.
        """
        if not tasks:
            return {}
        self._turn = {task: threading.Event() for task in tasks}
        self._next.extend(tasks)
        start = _random_states()
        threads = [
            threading.Thread(target=self._live, args=(task, work), name=f"task {task}", daemon=True)
            for task, work in tasks.items()
        ]
        for thread in threads:
            thread.start()
        self._pass_on()
        try:
            self._is_over.wait()
        except BaseException:
            self._is_abandoned = True  # whoever waits gives up in its turn; a second interruption does not wait for it
            self._is_over.wait()
            raise
        finally:
            _set_random_states(start)
        for thread in threads:
            thread.join()
        return {task: self._outcomes[task] for task in tasks}

    def ask(self, task: int, order: Order, request: Request) -> Any:
        """Wait until the request is served.

        Args:
            task: Who asks; called in its own thread.
            order: Requests of the smallest order are served first, those of equal order together.
            request: For ``serve``.

        Raises:
            Exception: What ``serve`` raised, in each of those whom it served.
        """
        states = _random_states()
        self._asked[task] = (order, request)
        self._pass_on()
        self._wait(task)
        _set_random_states(states)
        if task not in self._answers:
            self._serve()
        answer = self._answers.pop(task)
        if isinstance(answer, _Failure):
            raise answer.error
        return answer

    def _live(self, task: int, work: Callable[[], Any]) -> None:
        try:
            self._wait(task)
            self._outcomes[task] = work()
        except BaseException as error:
            self._outcomes[task] = error
        self._pass_on()

    def _wait(self, task: int) -> None:
        self._turn[task].wait()
        self._turn[task].clear()
        if self._is_abandoned:
            raise Abandoned

    def _pass_on(self) -> None:
        """Give the turn to a task that can go on, else to the one that serves the next round."""
        if self._next:
            self._turn[self._next.popleft()].set()
        elif self._asked:
            leader = min(self._asked) if self._is_abandoned else self._round()[0]
            if self._is_abandoned:
                del self._asked[leader]
            self._turn[leader].set()
        else:
            self._is_over.set()

    def _round(self) -> list[int]:
        first = min(order for order, _ in self._asked.values())
        return sorted(task for task, (order, _) in self._asked.items() if order == first)

    def _serve(self) -> None:
        """Serve the round; the caller is the first of it and keeps its turn."""
        served = self._round()
        requests = {task: self._asked.pop(task)[1] for task in served}
        try:
            self._answers.update(self.serve(requests))
        except BaseException as error:
            self._answers.update(dict.fromkeys(served, _Failure(error)))
        self._next.extend(served[1:])


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _random_states() -> tuple[Any, ...]:
    device = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    # the global generator, because Lightning's seed_everything seeds it and transforms may draw from it
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), device  # noqa: NPY002 - see above


def _set_random_states(states: tuple[Any, ...]) -> None:
    python, numpy, cpu, device = states
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002 - the global generator, as above
    torch.set_rng_state(cpu)
    if device is not None:
        torch.cuda.set_rng_state(device)
