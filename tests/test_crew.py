"""Work over processes: in the order of the work, whatever happens to a process."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from mpi_unet.errors import RunError
from mpi_unet.inference.crew import AHEAD, done_in_order, num_helpers


def squared(number: int) -> int:
    return number**2


def dies_once(marker: Path, number: int) -> int:
    if number == 2 and not marker.exists():
        marker.touch()
        os._exit(9)
    return number


def refuses(number: int) -> int:
    if number == 2:
        raise RunError("the disk is full")
    return number


@pytest.mark.parametrize("number", [0, 2])
def test_results_come_in_the_order_of_the_work(number):
    assert list(done_in_order(squared, range(10), number)) == [one**2 for one in range(10)]


def test_what_a_process_that_died_left_undone_is_done_here(tmp_path):
    assert list(done_in_order(partial(dies_once, tmp_path / "died"), range(12), 2)) == list(range(12))
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize("number", [0, 1])
def test_an_error_of_the_work_comes_in_its_turn(number):
    results = done_in_order(refuses, range(4), number)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RunError, match="the disk is full"):
        next(results)


def test_few_items_are_begun_ahead():
    given = []

    def items():
        for number in range(50):
            given.append(number)
            yield number

    results = done_in_order(squared, items(), 1)
    next(results)
    assert len(given) <= AHEAD + 2
    results.close()


def test_processes_start_only_where_they_pay(monkeypatch):
    monkeypatch.setattr("mpi_unet.inference.crew.num_processes", lambda asked, items: min(asked or 4, items))
    asked = [num_helpers(None, 100, 10), num_helpers(2, 100, 10), num_helpers(None, 9, 10), num_helpers(1, 100, 10)]
    assert asked == [4, 2, 0, 0]
