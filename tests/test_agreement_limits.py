"""Limits of agreement: the tables of Bland and Altman, exact intervals, scales, replicates, edges."""

import math

import numpy as np
import pytest
from golden_values import golden
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mpi_unet.agreement import bland_altman, bland_altman_replicates
from mpi_unet.errors import AgreementError

CARDIAC_OUTPUT = """
1 7.83 6.57  1 7.42 5.62  1 7.89 6.90  1 7.12 6.57  1 7.88 6.35  2 6.16 4.06  2 7.26 4.29  2 6.71 4.26  2 6.54 4.09
3 4.75 4.71  3 5.24 5.50  3 4.86 5.08  3 4.78 5.02  3 6.05 6.01  3 5.42 5.67  4 4.21 4.14  4 3.61 4.20  4 3.72 4.61
4 3.87 4.68  4 3.92 5.04  5 3.13 3.03  5 2.98 2.86  5 2.85 2.77  5 3.17 2.46  5 3.09 2.32  5 3.12 2.43  6 5.92 5.90
6 6.42 5.81  6 5.92 5.70  6 6.27 5.76  7 7.13 5.09  7 6.62 4.63  7 6.58 4.61  7 6.93 5.09  8 4.54 4.72  8 4.81 4.61
8 5.11 4.36  8 5.29 4.20  8 5.39 4.36  8 5.57 4.20  9 4.48 3.17  9 4.92 3.12  9 3.97 2.96  10 4.22 4.35  10 4.65 4.62
10 4.74 3.16  10 4.44 3.53  10 4.50 3.53  11 6.78 7.20  11 6.07 6.09  11 6.52 7.00  11 6.42 7.10  11 6.41 7.40
11 5.76 6.80  12 5.06 4.50  12 4.72 4.20  12 4.90 3.80  12 4.80 3.80  12 4.90 4.20  12 5.10 4.50
"""
"""Patient, radionuclide ventriculography, impedance cardiography: Bland and Altman 2007, table 1."""

AT_1_96 = float(2 * stats.norm.cdf(1.96) - 1)
"""Share between limits at 1.96 standard deviations, as they print them."""

measurements = arrays(np.float64, st.integers(3, 12), elements=st.integers(1, 60))


def ends(interval):
    return interval.low, interval.high


def limits(found):
    return found.lower.value, found.upper.value


def cardiac_output():
    table = np.array(CARDIAC_OUTPUT.split(), dtype=float).reshape(-1, 3)
    assert table.shape == (60, 3)
    return table[:, 1], table[:, 2], table[:, 0]


def peak_flow():
    inputs, _ = golden("bland_altman_1986_pefr")
    return np.array(inputs["wright"], dtype=float), np.array(inputs["mini"], dtype=float)


# --- Tables ---


def test_peak_flow_as_printed_in_1986():
    """Lancet 1986: mean difference -2.1 L/min, SD 38.8, limits -79.7 and 75.5 (2 SD), from rounded figures."""
    first, second = peak_flow()
    found = bland_altman(first[:, 0], second[:, 0], coverage=float(2 * stats.norm.cdf(2) - 1))
    assert (round(found.estimate, 1), round(found.sd, 1)) == (-2.1, 38.8)
    assert limits(found) == pytest.approx((-79.7, 75.5), abs=0.15)


def test_repeatability_of_peak_flow_as_printed_in_1986():
    """Lancet 1986: SD of the differences of repeats 21.6 (Wright) and 28.2 L/min (mini), about a mean of zero."""
    for readings, printed in zip(peak_flow(), (21.6, 28.2), strict=True):
        d = readings[:, 0] - readings[:, 1]
        assert round(math.sqrt(np.square(d).mean()), 1) == pytest.approx(printed, abs=0.11)
        assert bland_altman(readings[:, 0], readings[:, 1]).sd == pytest.approx(d.std(ddof=1), abs=1e-12)


def test_blood_pressure_as_printed_in_1999():
    """SMMR 1999, first readings of J and S: bias -16.29 (-20.5 to -12.1), SD 19.61, limits -54.7 to 22.1."""
    inputs, _ = golden("bland_altman_equal_replicates_sbp")
    first, second = (np.array(inputs[key])[:, 0] for key in ("J", "S"))
    found = bland_altman(first, second, coverage=AT_1_96, limit_interval="1999")
    assert (round(found.estimate, 2), round(found.sd, 2)) == (-16.29, 19.61)
    assert [round(limit, 1) for limit in limits(found)] == [-54.7, 22.1]
    assert [round(end, 1) for end in ends(found.interval)] == [-20.5, -12.1]
    assert ends(found.lower.interval) == pytest.approx((-61.9, -47.5), abs=0.1)
    assert ends(found.upper.interval) == pytest.approx((14.9, 29.3), abs=0.11)


def test_replicates_with_a_varying_truth_as_printed_in_2007():
    """J Biopharm Stat 2007, table 2: residual 0.1707, total variance 0.9813, bias 0.6022, limits -1.3395 to 2.5438."""
    first, second, patients = cardiac_output()
    found = bland_altman_replicates(first, second, patients, truth="varies", coverage=AT_1_96)
    assert found.within_differences == pytest.approx(0.170714026, abs=5e-8)
    assert found.sd**2 == pytest.approx(0.98133606, abs=5e-7)
    assert found.estimate == pytest.approx(0.6021667, abs=5e-8)
    assert limits(found) == pytest.approx((-1.3394565, 2.5437899), abs=2e-6)
    assert (found.n, found.n_first, found.n_left_out) == (12, 60, 0)


def test_replicates_with_a_constant_truth_as_printed_in_2007():
    """Table 3: within 0.1072 and 0.1379, variance of the mean differences 0.9127, SD 1.0518506 of single ones."""
    first, second, patients = cardiac_output()
    found = bland_altman_replicates(first, second, patients, truth="constant")
    assert (found.within_first, found.within_second) == pytest.approx((0.107227795, 0.137874069), abs=5e-7)
    assert found.variance_of_means == pytest.approx(0.91269114, abs=5e-7)
    assert found.sd == pytest.approx(1.0518506, abs=5e-7)
    assert found.estimate == pytest.approx(0.7092361, abs=5e-7)


def test_pairs_taken_for_patients_make_the_limits_too_narrow():
    """Table 1 ignoring the patients: SD 0.9610571."""
    first, second, patients = cardiac_output()
    ignored = bland_altman(first, second)
    assert ignored.sd == pytest.approx(0.9610571, abs=5e-8)
    assert ignored.sd < bland_altman_replicates(first, second, patients, truth="varies").sd


# --- Intervals ---


def test_exact_interval_inverts_the_test_of_a_quantile():
    """At either end of the exact interval the noncentral t puts 2.5 % beyond the limit that was found."""
    first, second = peak_flow()
    found = bland_altman(first[:, 0], second[:, 0])
    n, root = 17, math.sqrt(17)
    for end, tail in ((found.upper.interval.low, 0.025), (found.upper.interval.high, 0.975)):
        t = (end - found.estimate) / found.sd * root
        assert stats.nct.cdf(t, n - 1, 1.959963984540054 * root) == pytest.approx(tail, abs=1e-9)


def test_exact_interval_is_the_one_sided_tolerance_limit():
    """Natrella 1963: k = 2.911 (n = 10), 2.396 (n = 20), 2.220 (n = 30) for 95 % content at 95 % confidence."""
    for n, factor in ((10, 2.911), (20, 2.396), (30, 2.220)):
        values = np.arange(n, dtype=float)
        found = bland_altman(values, np.zeros(n), coverage=0.90, level=0.90)
        assert (found.upper.interval.high - found.estimate) / found.sd == pytest.approx(factor, abs=1e-3)


@pytest.mark.parametrize(("n", "kind"), [(10, "exact"), (200, "exact"), (200, "1999")])
def test_interval_of_a_limit_covers_the_truth(n, kind):
    rng, runs = np.random.default_rng(n), 500
    truth, held = 2 + 1.959963984540054 * 5, 0
    for _ in range(runs):
        low, high = ends(bland_altman(rng.normal(2, 5, n), np.zeros(n), limit_interval=kind).upper.interval)
        held += low <= truth <= high
    assert 0.925 <= held / runs <= 0.975


@pytest.mark.parametrize("truth", ["constant", "varies"])
def test_interval_of_a_limit_from_replicates_covers_the_truth(truth):
    """Unequal numbers of replicates; single differences have variance 4 + 1 + 2.25 or, in pairs, the same."""
    rng, runs = np.random.default_rng(7), 400
    patients = np.repeat(np.arange(25), [2, 3, 4, 2, 3] * 5)
    limit, held = 1 + 1.959963984540054 * math.sqrt(4 + 1 + 2.25), 0
    for _ in range(runs):
        shift = rng.normal(1, 2, 25)[patients]
        first, second = shift + rng.normal(0, 1, patients.size), rng.normal(0, 1.5, patients.size)
        low, high = ends(bland_altman_replicates(first, second, patients, truth=truth).upper.interval)
        held += low <= limit <= high
    assert 0.915 <= held / runs <= 0.98


@given(measurements, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_intervals_hold_what_they_belong_to(first, seed):
    second = first + np.random.default_rng(seed).normal(0, 3, first.size)
    for kind in ("exact", "1999", "1986"):
        found = bland_altman(first, second, limit_interval=kind)
        assert found.interval.low <= found.estimate <= found.interval.high
        for limit in (found.lower, found.upper):
            assert limit.interval.low <= limit.value <= limit.interval.high


# --- Scales and invariances ---


@given(measurements, st.integers(0, 2**32 - 1), st.floats(0.1, 20), st.floats(-50, 50))
@settings(deadline=None, max_examples=40)
def test_exchange_unit_and_order(first, seed, factor, offset):
    rng = np.random.default_rng(seed)
    second = first + rng.normal(0, 3, first.size)
    found, swapped = bland_altman(first, second), bland_altman(second, first)
    assert swapped.estimate == pytest.approx(-found.estimate, abs=1e-9)
    assert limits(swapped) == pytest.approx((-found.upper.value, -found.lower.value), abs=1e-9)
    order = rng.permutation(first.size)
    other = bland_altman((first * factor + offset)[order], (second * factor + offset)[order])
    assert other.estimate == pytest.approx(found.estimate * factor, rel=1e-6, abs=1e-7)
    assert limits(other) == pytest.approx([limit * factor for limit in limits(found)], rel=1e-6, abs=1e-6)
    assert other.slope.value == pytest.approx(found.slope.value, rel=1e-5, abs=1e-6, nan_ok=True)
    assert other.slope_p == pytest.approx(found.slope_p, abs=1e-5, nan_ok=True)


def test_percent_and_ratio_have_no_unit():
    first, second = np.array([52.0, 61.0, 75.0, 90.0]), np.array([50.0, 63.0, 70.0, 80.0])
    for scale in ("percent", "ratio"):
        found, other = bland_altman(first, second, scale=scale), bland_altman(first * 7, second * 7, scale=scale)
        assert limits(other) == pytest.approx(limits(found), abs=1e-9)
    percent = bland_altman(first, second, scale="percent")
    assert percent.estimate == pytest.approx(np.mean([200 * 2 / 102, -200 * 2 / 124, 200 * 5 / 145, 200 * 10 / 170]))


def test_ratio_is_that_of_logarithms():
    first, second = np.array([52.0, 61.0, 75.0, 90.0]), np.array([50.0, 63.0, 70.0, 80.0])
    found, logs = bland_altman(first, second, scale="ratio"), bland_altman(np.log(first), np.log(second))
    assert found.estimate == pytest.approx(stats.gmean(first / second))
    assert limits(found) == pytest.approx(np.exp(limits(logs)))
    assert ends(found.lower.interval) == pytest.approx(np.exp(ends(logs.lower.interval)))
    assert (found.sd, found.slope_p) == pytest.approx((logs.sd, logs.slope_p))
    np.testing.assert_allclose(found.differences, first / second)
    assert found.bias.method == "mean ratio"


def test_proportional_bias_equals_the_test_of_equal_spreads():
    """Pitman 1939: the slope is zero exactly when sums and differences are uncorrelated."""
    rng = np.random.default_rng(1)
    second = rng.normal(100, 20, 40)
    first = 1.2 * second + rng.normal(0, 4, 40)
    found = bland_altman(first, second)
    assert found.slope_p == pytest.approx(stats.pearsonr(first - second, first + second).pvalue, rel=1e-9)
    assert found.slope_p < 1e-6
    assert found.slope.interval.low > 0


def test_bias_without_evidence_is_not_agreement():
    """p = 0.82 while single patients differ by 80 L/min."""
    first, second = peak_flow()
    found = bland_altman(first[:, 0], second[:, 0])
    assert found.p_value == pytest.approx(stats.ttest_rel(first[:, 0], second[:, 0]).pvalue)
    assert found.bias.interval == found.interval


def test_replicates_all_single_or_of_equal_number():
    """One of the two read once: its own variance is not needed. Equal pairs: both ways of truth agree on the bias."""
    rng = np.random.default_rng(2)
    first, second = rng.normal(0, 2, (9, 3)), rng.normal(1, 2, (9, 3))
    patients = np.repeat(np.arange(9), 3)
    pairs = [bland_altman_replicates(first.ravel(), second.ravel(), patients, truth=t) for t in ("constant", "varies")]
    assert pairs[0].estimate == pytest.approx(pairs[1].estimate)
    once = second.copy()
    once[:, 1:] = np.nan
    found = bland_altman_replicates(first.ravel(), once.ravel(), patients, truth="constant")
    assert math.isnan(found.within_second)
    expected = np.var(first.mean(axis=1) - second[:, 0], ddof=1) + (1 - 1 / 3) * first.var(axis=1, ddof=1).mean()
    assert found.sd**2 == pytest.approx(expected)


def test_replicates_do_not_depend_on_names_or_order():
    first, second, patients = cardiac_output()
    order = np.random.default_rng(0).permutation(60)
    names = [f"P{patient:.0f}" for patient in patients[order]]
    for truth in ("constant", "varies"):
        one = bland_altman_replicates(first, second, patients, truth=truth)
        two = bland_altman_replicates(first[order], second[order], names, truth=truth)
        assert ends(two.upper.interval) == pytest.approx(ends(one.upper.interval), abs=1e-9)


# --- Edges ---


def test_missing_values_are_left_out_and_counted():
    first, second = np.array([51.0, np.nan, 73.0, 80.0]), np.array([50.0, 60.0, 70.0, np.nan])
    found = bland_altman(first, second)
    assert (found.n, found.n_left_out, found.estimate) == (2, 2, 2.0)
    assert found.kept.tolist() == [True, False, True, False]
    assert math.isnan(found.slope.value)
    assert found.slope.interval is None


def test_constant_differences_say_so():
    found = bland_altman(np.array([0.1, 0.3, 0.7]) + 0.2, np.array([0.1, 0.3, 0.7]))
    assert (found.sd, ends(found.lower.interval)) == (0.0, pytest.approx((0.2, 0.2)))
    assert (found.slope.value, found.slope_p, found.p_value) == (0.0, 1.0, 0.0)
    assert "no width" in found.note
    same = bland_altman(np.array([5.0, 5.0, 5.0]), np.array([5.0, 5.0, 5.0]))
    assert (same.estimate, same.p_value) == (0.0, 1.0)
    assert math.isnan(same.slope.value)


def test_two_patients_have_wide_exact_limits():
    found = bland_altman(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    assert found.upper.interval.high > 40
    ratio = bland_altman(np.array([1.0, 9000.0]), np.array([1.0, 1.0]), scale="ratio")
    assert ratio.upper.interval.high > 1e100


def test_replicates_with_more_spread_within_than_between_say_so():
    first = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    found = bland_altman_replicates(first, np.zeros(6), [1, 1, 2, 2, 3, 3], truth="varies")
    assert (found.variance_of_means, found.sd) == (0.0, pytest.approx(2**0.5))
    assert "taken as zero" in found.note


def test_a_patient_measured_by_one_only_is_left_out():
    first = np.array([1.0, 2.0, 3.0, 5.0, 7.0])
    second = np.array([1.0, 2.5, 2.0, 4.0, np.nan])
    for truth in ("constant", "varies"):
        found = bland_altman_replicates(first, second, ["a", "a", "b", "b", "c"], truth=truth)
        assert (found.n, found.n_left_out, found.n_first) == (2, 1, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        (([1.0], [2.0]), {}, r"1 of 1 patient\(s\) have both measurements, expected at least 2"),
        (([np.nan] * 3, [1.0] * 3), {}, r"0 of 3 patient\(s\) have both"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), {}, r"first has shape \(2,\), second \(3,\)"),
        (([1.0, np.inf], [1.0, 2.0]), {}, r"1 of 2 values of first are infinite.*empty mask"),
        (([1.0, 0.0], [1.0, 2.0]), {"scale": "ratio"}, r"1 of 2 patients.*smallest 0\), so there is no ratio; leave"),
        (([1.0, -3.0], [1.0, 2.0]), {"scale": "percent"}, r"no percentage.*scale='difference'"),
        (
            ([1.0, 3.0], [1.0, 2.0]),
            {"scale": "log"},
            r"scale is 'log', expected one of 'difference', ",
        ),
        (([1.0, 3.0], [1.0, 2.0]), {"coverage": 1.96}, r"coverage is 1\.96, expected a share"),
        (
            ([1.0, 3.0], [1.0, 2.0]),
            {"limit_interval": "t"},
            r"limit_interval is 't', expected 'exact', '1999'",
        ),
    ],
)
def test_limits_refuse(arguments, options, match):
    with pytest.raises(AgreementError, match=match):
        bland_altman(*map(np.array, arguments), **options)


@pytest.mark.parametrize(
    ("patients", "truth", "match"),
    [
        (["a", "b", "c"], "constant", r"none of 3 patients was measured more than once; use bland_altman"),
        (["a", "b", "c"], "varies", r"none of 3 patients was measured more than once; use bland_altman"),
        (["a", "a", "a"], "constant", r"1 of 1 patient\(s\) have measurements by both"),
        (["a", "a", "b"], "moves", r"truth is 'moves', expected 'constant'.*or 'varies'"),
        (["a", "a"], "constant", r"patients 2 entries; expected one row each"),
    ],
)
def test_replicates_refuse(patients, truth, match):
    with pytest.raises(AgreementError, match=match):
        bland_altman_replicates(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]), patients, truth=truth)
