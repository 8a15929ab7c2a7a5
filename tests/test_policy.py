"""What is undefined and what is infinite: the golden edge cases, and that nothing is dropped in silence."""

import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpi_unet.evaluation.policy import INFINITE_NOTE, diagonal_mm, for_mean, mean_of_defined, summarize_values

finite_values = arrays(np.float64, st.integers(0, 12), elements=st.floats(0, 1))
any_values = arrays(
    np.float64, st.integers(0, 12), elements=st.one_of(st.floats(0, 99), st.just(np.nan), st.just(np.inf))
)


def test_infinite_distance_counts_as_the_diagonal_of_the_golden_image():
    diagonal = diagonal_mm((12, 12), (1.0, 1.0))
    assert diagonal == pytest.approx(15.556349, abs=1e-6)
    np.testing.assert_allclose(
        for_mean(np.array([np.nan, np.inf, np.inf]), diagonal), [np.nan, 15.556349, 15.556349], atol=1e-6
    )


def test_diagonal_is_that_of_the_spacing():
    assert diagonal_mm((2, 1, 1), (6.4, 3.2, 3.2)) == 6.4
    assert diagonal_mm((1, 4, 5), (6.4, 3.0, 1.0)) == pytest.approx(math.sqrt(81 + 16))
    with pytest.raises(ValueError, match="shorter"):
        diagonal_mm((64, 64, 64), (4.0, 4.0))


def test_each_infinite_value_has_its_own_stand_in():
    found = for_mean(np.array([np.inf, 1.0, np.inf]), np.array([10.0, 20.0, 30.0]))
    assert found.tolist() == [10.0, 1.0, 30.0]


@pytest.mark.parametrize("stand_in", [None, math.nan, math.inf])
def test_an_infinite_value_without_stand_in_is_refused(stand_in):
    with pytest.raises(ValueError, match=r"1 of 2 values are infinite.*diagonal_mm"):
        for_mean(np.array([3.0, np.inf]), stand_in)
    with pytest.raises(ValueError, match="1 of 2 values are infinite"):
        summarize_values(np.array([3.0, np.inf]))


def test_summary_of_defined_undefined_and_infinite_patients():
    values = np.array([2.0, np.inf, np.nan, 4.0])
    summary = summarize_values(values, finite=for_mean(values, 30.0))
    assert (summary.n, summary.n_undefined, summary.n_infinite) == (3, 1, 1)
    assert summary.mean == 12.0
    assert (summary.median, summary.min, summary.max) == (4.0, 2.0, math.inf)
    assert summary.iqr == (3.0, math.inf)
    assert summary.note == f"undefined for 1 of 4 patients; infinite for 1 of 3 patients: {INFINITE_NOTE}"
    as_json = summary.as_json()
    assert json.loads(json.dumps(as_json, allow_nan=False)) == as_json
    assert (as_json["max"], as_json["iqr"], as_json["median"]) == ("inf", [3.0, "inf"], 4.0)


def test_a_majority_of_infinite_patients_has_an_infinite_median():
    values = np.array([np.inf, np.inf, 4.0])
    summary = summarize_values(values, finite=for_mean(values, 30.0))
    assert (summary.median, summary.iqr) == (math.inf, (math.inf, math.inf))


def test_one_patient_has_a_mean_and_no_interval():
    summary = summarize_values(np.array([0.9]))
    assert (summary.n, summary.mean, summary.median, summary.sd, summary.ci95) == (1, 0.9, 0.9, None, None)
    assert summary.ci_method == "none"
    assert "one patient has no spread" in summary.note
    assert summary.as_json()["ci95"] is None


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_without_a_defined_patient_nothing_is_said(values):
    summary = summarize_values(np.array(values, dtype=np.float64))
    assert (summary.n, summary.n_undefined) == (0, len(values))
    assert summary.note
    numbers = ("mean", "sd", "ci95", "median", "iqr", "min", "max")
    assert [summary.as_json()[name] for name in numbers] == [None] * 7


def test_patients_who_do_not_differ():
    summary = summarize_values(np.full(3, 0.1))
    assert summary.ci95[0] == summary.ci95[1]
    assert summary.sd == pytest.approx(0, abs=1e-15)


@given(arrays(np.float64, st.integers(2, 15), elements=st.floats(0, 1)))
@settings(deadline=None, max_examples=60)
def test_summary_equals_the_standard_library(values):
    summary, plain = summarize_values(values), values.tolist()
    assert summary.mean == pytest.approx(statistics.fmean(plain), abs=1e-12)
    assert summary.sd == pytest.approx(statistics.stdev(plain), abs=1e-9)
    assert (summary.min, summary.max) == (min(plain), max(plain))
    quartiles = statistics.quantiles(plain, n=4, method="inclusive")
    assert (summary.iqr[0], summary.median, summary.iqr[1]) == pytest.approx(tuple(quartiles), abs=1e-12)


@given(any_values, st.randoms())
@settings(deadline=None, max_examples=80)
def test_every_patient_is_counted_and_their_order_is_irrelevant(values, random):
    finite = for_mean(values, 100.0)
    summary = summarize_values(values, finite=finite)
    assert summary.n + summary.n_undefined == values.size
    assert summary.n_infinite <= summary.n
    order = list(range(values.size))
    random.shuffle(order)
    shuffled = summarize_values(values[order], finite=finite[order])
    assert (shuffled.n, shuffled.n_infinite, shuffled.median) == (summary.n, summary.n_infinite, summary.median)
    assert shuffled.mean == pytest.approx(summary.mean)
    json.dumps(summary.as_json(), allow_nan=False)


@given(finite_values)
@settings(deadline=None, max_examples=30)
def test_undefined_patients_change_counts_and_nothing_else(values):
    before = summarize_values(values).as_json()
    after = summarize_values(np.append(values, np.nan)).as_json()
    assert after["n_undefined"] == 1
    for name in ("n", "mean", "sd", "ci95", "median", "iqr", "min", "max"):
        assert after[name] == before[name]


def test_mean_of_defined_is_infinite_when_one_is():
    assert mean_of_defined(np.array([1.0, np.inf, np.nan])) == math.inf
    assert math.isnan(mean_of_defined(np.array([np.nan])))
