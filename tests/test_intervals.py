"""Intervals over patients: scipy, statsmodels' textbook values, coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mpi_unet.evaluation.intervals import bootstrap_t_interval, bootstrap_t_statistics, clopper_pearson, t_interval

samples = arrays(np.float64, st.integers(2, 12), elements=st.floats(-1, 1))


def ends(interval):
    return interval.low, interval.high


# --- t ---


@given(samples, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(deadline=None, max_examples=60)
def test_t_interval_equals_scipy(values, level):
    found = t_interval(values, level)
    if np.ptp(values) < 1e-9:
        assert found.high - found.low < 1e-6
        return
    expected = stats.ttest_1samp(values, 0).confidence_interval(level)
    assert ends(found) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


def test_t_interval_of_a_textbook():
    """Peak-flow differences of Bland and Altman 1986: bias -2.117647, 95 % interval -22.048838 to 17.813544."""
    first = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    second = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
    values = np.array(first, dtype=float) - np.array(second)
    assert ends(t_interval(values)) == pytest.approx((-22.048838, 17.813544), abs=1e-6)


def test_patients_who_do_not_differ_have_an_interval_of_width_zero():
    values = np.full(7, 0.1)  # a plain mean of these is not 0.1 to the last bit
    assert t_interval(values).high - t_interval(values).low == 0
    interval = bootstrap_t_interval(values, seed=1)
    assert interval.high == interval.low


def test_order_of_patients_is_irrelevant():
    values = np.random.default_rng(0).normal(size=15)
    assert ends(t_interval(values[::-1].copy())) == pytest.approx(ends(t_interval(values)), abs=1e-12)


def test_interval_names_its_method_and_level():
    interval = t_interval(np.array([0.1, 0.2]), 0.9)
    assert (interval.method, interval.level) == ("t over patients", 0.9)
    assert bootstrap_t_interval(np.array([0.1, 0.2]), seed=0).method == "bootstrap-t over patients"


# --- bootstrap-t ---


def test_bootstrap_t_agrees_with_t_on_normal_values():
    values = np.random.default_rng(3).normal(0.9, 0.03, size=60)
    student, boot = t_interval(values), bootstrap_t_interval(values, seed=0)
    assert ends(boot) == pytest.approx(ends(student), abs=0.15 * (student.high - student.low))


def test_bootstrap_t_equals_a_plain_loop():
    """The same draws, but the t statistic of each resample is left to scipy."""
    values = np.random.default_rng(5).normal(size=9)
    drawn = values[np.random.default_rng(7).integers(9, size=(400, 9), dtype=np.int32)]
    t = [stats.ttest_1samp(sample, values.mean()).statistic for sample in drawn if np.ptp(sample) > 0]
    low, high = np.quantile(t, [0.975, 0.025])
    error = stats.sem(values)
    expected = values.mean() - low * error, values.mean() - high * error
    assert ends(bootstrap_t_interval(values, resamples=400, seed=7)) == pytest.approx(expected, abs=1e-9)


def test_bootstrap_t_draws_the_same_in_one_piece_or_several(monkeypatch):
    values = np.random.default_rng(5).normal(size=9)
    whole = bootstrap_t_statistics(values, resamples=400, seed=7)
    monkeypatch.setattr("mpi_unet.evaluation.intervals.DRAWS_AT_ONCE", 900)
    np.testing.assert_array_equal(bootstrap_t_statistics(values, resamples=400, seed=7), whole)


def test_bootstrap_t_follows_the_skew_of_failures():
    values = np.r_[np.random.default_rng(2).normal(0.92, 0.02, 27), [0.4, 0.5, 0.6]]
    interval = bootstrap_t_interval(values, seed=0)
    assert values.mean() - interval.low > 1.2 * (interval.high - values.mean())


def test_bootstrap_t_is_seeded():
    values = np.random.default_rng(0).normal(size=12)
    assert bootstrap_t_interval(values, seed=4) == bootstrap_t_interval(values, seed=4)
    assert bootstrap_t_interval(values, seed=4) != bootstrap_t_interval(values, seed=5)


def test_bootstrap_t_of_two_patients_is_finite_or_unbounded_but_never_nan():
    interval = bootstrap_t_interval(np.array([0.5, 0.6]), seed=0)
    assert not np.isnan(ends(interval)).any()
    assert interval.low <= 0.55 <= interval.high


def test_both_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(11)
    covered = {"t": 0, "bootstrap-t": 0}
    for run in range(300):
        values = rng.normal(0.9, 0.04, size=20)
        for name, interval in (
            ("t", t_interval(values)),
            ("bootstrap-t", bootstrap_t_interval(values, resamples=500, seed=run)),
        ):
            covered[name] += interval.low <= 0.9 <= interval.high
    assert all(0.91 <= hits / 300 <= 0.985 for hits in covered.values()), covered


# --- Clopper-Pearson ---


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (0, 20, (0, 0.168433471)),
        (0, 100, (0, 0.036216693)),
        (2, 50, (0.0048814334, 0.137137626)),
        (3, 100, (0.0062299715, 0.085176053)),
        (20, 20, (1 - 0.168433471, 1)),
    ],
)
def test_clopper_pearson_matches_golden_values(successes, trials, expected):
    assert ends(clopper_pearson(successes, trials)) == pytest.approx(expected, abs=1e-8)


def test_clopper_pearson_one_sided_limits_match_golden_values():
    upper = [clopper_pearson(0, trials, level=0.9).high for trials in (20, 50, 100)]
    assert upper == pytest.approx([0.1391083, 0.05815508, 0.02951305], abs=1e-7)


@given(st.integers(1, 60), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
@settings(deadline=None, max_examples=60)
def test_clopper_pearson_equals_scipy(trials, data, level):
    successes = data.draw(st.integers(0, trials))
    expected = stats.binomtest(successes, trials).proportion_ci(level, method="exact")
    assert ends(clopper_pearson(successes, trials, level)) == pytest.approx((expected.low, expected.high), abs=1e-9)


# --- Guards ---


@pytest.mark.parametrize("interval", [t_interval, lambda *arguments: bootstrap_t_interval(*arguments, seed=0)])
def test_values_that_carry_no_interval_are_refused(interval):
    with pytest.raises(ValueError, match=r"values holds 1 patient\(s\), expected at least 2"):
        interval(np.array([0.9]))
    with pytest.raises(ValueError, match=r"2 of 3 values are NaN or infinite.*summarize_values"):
        interval(np.array([0.9, np.nan, np.inf]))
    with pytest.raises(ValueError, match=r"level is 95.0, expected a number between 0 and 1"):
        interval(np.array([0.9, 0.8]), 95.0)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_proportions_are_refused(successes, trials):
    with pytest.raises(ValueError, match=rf"successes is {successes} of trials {trials}.*count patients"):
        clopper_pearson(successes, trials)
    with pytest.raises(ValueError, match=r"level is 1\.5"):
        clopper_pearson(1, 2, 1.5)
