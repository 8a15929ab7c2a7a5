"""Equivalence and non-inferiority: statsmodels, intervals that agree with p-values, error rates by simulation."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from simulate_agreement import MARGIN, normal_type_one, reader_coverage, seed_logic, shares, studies

from mpi_unet.agreement import noninferiority_paired, tost_bias, tost_paired
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import bootstrap_t_interval, t_interval

samples = arrays(np.float64, st.integers(2, 12), elements=st.floats(-1, 1))


def differences(n=30, mean=-0.005, sd=0.03, seed=0):
    return np.random.default_rng(seed).normal(mean, sd, n)


# --- Oracles ---


@given(samples, st.floats(0.001, 1), st.sampled_from([0.01, 0.025, 0.05]))
@settings(deadline=None, max_examples=40)
def test_tost_equals_statsmodels(d, margin, alpha):
    from statsmodels.stats.weightstats import ttost_paired

    assume(np.ptp(d) > 1e-6)
    p_value, (t_lower, p_lower, _), (t_upper, p_upper, _) = ttost_paired(d, np.zeros_like(d), -margin, margin)
    found = tost_paired(d, margin=margin, alpha=alpha)
    assert (found.t_lower, found.p_lower, found.t_upper, found.p_upper, found.p_value) == pytest.approx(
        (t_lower, p_lower, t_upper, p_upper, p_value), rel=1e-7, abs=1e-12
    )


def test_noninferiority_equals_scipy():
    d = differences()
    found = noninferiority_paired(d, margin=0.02)
    oracle = stats.ttest_1samp(d, -0.02, alternative="greater")
    assert (found.statistic, found.p_value) == pytest.approx((oracle.statistic, oracle.pvalue))
    assert found.interval == t_interval(d, 0.95)


def test_two_measurements_are_their_difference():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 15))
    assert tost_paired(one, other, margin=0.5) == tost_paired(one - other, margin=0.5)
    assert noninferiority_paired(one, other, margin=0.5) == noninferiority_paired(one - other, margin=0.5)


def test_bootstrap_t_uses_the_interval_of_its_name():
    d = differences()
    found = tost_paired(d, margin=0.02, method="bootstrap-t", seed=5)
    assert found.interval == bootstrap_t_interval(d, 0.95, seed=5)
    assert found.method == "two one-sided tests, bootstrap-t over patients"
    assert found.p_value == pytest.approx(tost_paired(d, margin=0.02).p_value, abs=0.02)


def test_bootstrap_t_doubts_what_failures_skew():
    """Two failures among 40: the lower end is lower than Student's."""
    d = np.r_[differences(38, sd=0.01), [-0.3, -0.2]]
    assert tost_paired(d, margin=0.05, method="bootstrap-t").interval.low < tost_paired(d, margin=0.05).interval.low


def test_bias_in_percent_of_the_target_or_of_the_mean():
    target = np.array([80.0, 100.0, 120.0, 90.0])
    preds = target * np.array([1.02, 1.04, 1.0, 1.01])
    assert tost_bias(preds, target).estimate == pytest.approx(1.75)
    by_mean = tost_bias(preds, target, relative_to="mean")
    assert by_mean.estimate == pytest.approx(np.mean(200 * (preds - target) / (preds + target)))
    assert tost_bias(preds, target, margin_pct=5) == tost_paired(100 * (preds - target) / target, margin=5.0)


# --- Relations ---


@given(samples, st.floats(0.001, 1), st.sampled_from([0.01, 0.025, 0.05, 0.2]), st.sampled_from(["t", "bootstrap-t"]))
@settings(deadline=None, max_examples=60)
def test_the_decision_is_that_of_the_interval(d, margin, alpha, method):
    options = {"margin": margin, "alpha": alpha, "method": method, "resamples": 300}
    found, inferior = tost_paired(d, **options), noninferiority_paired(d, **options)
    assert found.interval.level == pytest.approx(1 - 2 * alpha)
    assert found.equivalent == (-margin < found.interval.low and found.interval.high < margin)
    assert inferior.noninferior == (found.interval.low > -margin)
    assert inferior.p_value <= found.p_value
    assert found.equivalent <= inferior.noninferior
    if method == "t" and min(abs(abs(end) - margin) for end in (found.interval.low, found.interval.high)) > 1e-9:
        assert found.equivalent == (found.p_value < alpha)
        assert inferior.noninferior == (inferior.p_value < alpha)


@given(samples, st.floats(0.01, 1))
@settings(deadline=None, max_examples=40)
def test_the_attained_margin_is_the_smallest_that_passes(d, margin):
    found = tost_paired(d, margin=margin)
    attained = found.attained_margin
    if attained > 1e-6:
        assert tost_paired(d, margin=attained * 1.0001).equivalent
        assert not tost_paired(d, margin=attained * 0.9999).equivalent
    inferior = noninferiority_paired(d, margin=margin).attained_margin
    if inferior > 1e-6:
        assert noninferiority_paired(d, margin=inferior * 1.0001).noninferior
        assert not noninferiority_paired(d, margin=inferior * 0.9999).noninferior


def test_order_and_sign_of_patients():
    d = differences()
    plain, turned = tost_paired(d, margin=0.02), tost_paired(-d[::-1], margin=0.02)
    assert (turned.p_lower, turned.p_upper, turned.p_value) == pytest.approx(
        (plain.p_upper, plain.p_lower, plain.p_value)
    )


def test_a_wider_margin_is_easier():
    d = differences()
    p_values = [tost_paired(d, margin=margin).p_value for margin in (0.005, 0.01, 0.02, 0.05)]
    assert p_values == sorted(p_values, reverse=True)


@pytest.mark.parametrize("method", ["t", "bootstrap-t"])
@pytest.mark.parametrize(
    ("value", "p_lower", "p_upper"),
    [(-0.01, 0, 0), (0.0, 0, 0), (0.02, 0, 1), (-0.02, 1, 0), (0.1, 0, 1), (-0.1, 1, 0)],
)
def test_equal_differences_decide_with_certainty_and_say_so(value, p_lower, p_upper, method):
    found = tost_paired(np.full(7, value), margin=0.02, method=method)
    assert (found.p_lower, found.p_upper, found.equivalent) == (p_lower, p_upper, p_lower + p_upper == 0)
    assert found.note == "all patients have the same value: the interval has no width and a p-value is 0 or 1"
    assert (found.interval.low, found.interval.high, found.sd) == pytest.approx((value, value, 0))
    assert noninferiority_paired(np.full(7, value), margin=0.02).note == found.note


# --- Error rates, small; the full simulation is tests/simulate_agreement.py ---


def test_type_one_error_at_the_margin_is_alpha_for_normal_differences():
    found = normal_type_one(30, 1500)
    assert 0.03 <= found["TOST"] <= 0.08
    assert 0.03 <= found["NI"] <= 0.08
    assert 0.87 <= found["cover 90 %"] <= 0.93


def test_the_rule_keeps_its_error_rate_when_patients_fail():
    """Typical spread, 2 % failures, at the margin: t alone at 0.05 claims too often, the shipped rule does not."""
    found = shares("typical", -MARGIN, 50, runs=300, resamples=300)
    assert found["NI shipped"] < found["NI t .05"] < 0.17
    assert found["NI shipped"] <= 0.1
    assert found["TOST shipped"] <= found["NI shipped"]
    assert found["cover t"] > 0.85


def test_fewer_than_thirty_patients_carry_no_claim_in_the_rule():
    found = shares("calm", 0.0, 20, runs=20, resamples=100)
    assert (found["NI shipped"], found["TOST shipped"]) == (0, 0)
    assert found["TOST t .05"] > 0.5


def test_the_seed_study_s_sentence_would_often_be_written_of_a_worse_network():
    found = seed_logic("typical", -0.02, 20, 400)
    assert 0.28 <= found["p>.05 t"] <= 0.5
    assert found["TOST .05"] <= 0.16


def test_simulated_studies_have_the_difference_they_are_said_to_have():
    expert, network = studies("hard", -0.02, 100, 1000)
    assert expert.mean() == pytest.approx(0.93, abs=2e-3)
    assert (network - expert).mean() == pytest.approx(-0.02, abs=1.5e-3)


def test_only_the_interval_with_readers_covers_readers_in_general():
    found = reader_coverage(5, 50, 120)
    assert found["cover patients"] < 0.75
    assert found["cover both"] > 0.88
    assert found["half both"] > 2 * found["half patients"]


# --- Refusals ---


@pytest.mark.parametrize("test", [tost_paired, noninferiority_paired])
def test_what_carries_no_test_is_refused(test):
    with pytest.raises(AgreementError, match=r"differences holds 1 patient\(s\), expected at least 2"):
        test(np.array([0.1]), margin=0.02)
    with pytest.raises(AgreementError, match=r"2 of 3 differences are NaN or infinite.*say how many.*policy\.for_mean"):
        test(np.array([0.1, np.nan, np.inf]), margin=0.02)
    with pytest.raises(AgreementError, match=r"preds has 3 patients, target 2; give both in the same order"):
        test(np.ones(3), np.ones(2), margin=0.02)
    for margin in (0.0, -0.02, np.nan):
        with pytest.raises(AgreementError, match=rf"margin is {margin}, expected a positive number"):
            test(differences(), margin=margin)
    for alpha in (0.0, 0.5, 0.95):
        with pytest.raises(AgreementError, match=rf"alpha is {alpha}, expected a one-sided level"):
            test(differences(), margin=0.02, alpha=alpha)


def test_percentages_need_a_positive_reference():
    with pytest.raises(AgreementError, match=r"1 of 3 reference values are not positive.*tost_paired"):
        tost_bias(np.ones(3), np.array([1.0, 0.0, 2.0]))
    with pytest.raises(AgreementError, match=r"margin_pct is -5, expected a positive number"):
        tost_bias(np.ones(3), np.ones(3), margin_pct=-5)
    with pytest.raises(AgreementError, match=r"1 of 3 values of preds are NaN"):
        tost_bias(np.array([1.0, np.nan, 2.0]), np.ones(3))
