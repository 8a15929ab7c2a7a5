"""ICC, concordance, standard error of measurement, mixed model: tables, other libraries, coverage, edges."""

import math

import numpy as np
import pytest
from golden_values import golden
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mpi_unet.agreement import ICC_FORMS, crossed_components, icc, icc_forms, lin_ccc, sem
from mpi_unet.errors import AgreementError

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])

ANXIETY = np.array(
    [
        [3, 3, 3, 4, 5, 5, 2, 3, 5, 2, 2, 6, 1, 5, 2, 2, 1, 2, 4, 3],
        [3, 6, 4, 6, 2, 4, 2, 4, 3, 3, 2, 3, 3, 3, 2, 2, 1, 3, 3, 4],
        [2, 1, 4, 4, 3, 2, 1, 6, 1, 1, 1, 2, 3, 3, 1, 1, 3, 3, 2, 2],
    ]
).T
"""20 patients x 3 readers; data(anxiety) of the R package irr."""

VOLUMES_ML = np.array(
    [
        [90.9, 93.9, 104.1],
        [80.5, 80.5, 89.0],
        [130.2, 128.8, 128.6],
        [99.4, 104.9, 113.4],
        [58.3, 68.2, 70.6],
        [83.3, 100.6, 106.4],
        [97.9, 116.8, 116.8],
        [88.0, 92.7, 99.5],
    ]
)

tables = arrays(np.float64, st.tuples(st.integers(3, 9), st.integers(2, 5)), elements=st.integers(-50, 50))


def ends(interval):
    return interval.low, interval.high


# --- ICC against tables and libraries ---


def test_icc_of_the_table_that_defines_it():
    """Shrout and Fleiss 1979, table 4: .17 .29 .71 .44 .62 .91."""
    found = [round(icc(SHROUT_FLEISS, form).estimate, 2) for form in ICC_FORMS]
    assert found == [0.17, 0.29, 0.71, 0.44, 0.62, 0.91]


@pytest.mark.parametrize(
    ("form", "estimate", "low", "high"),
    [("ICC(A,1)", 0.198, -0.039, 0.494), ("ICC(C,1)", 0.216, -0.046, 0.522)],
)
def test_icc_as_printed_by_irr(form, estimate, low, high):
    """R irr 0.84, icc(anxiety, model="twoway", unit="single")."""
    found = icc(ANXIETY, form)
    assert [found.estimate, *ends(found.interval)] == pytest.approx([estimate, low, high], abs=6e-4)


@pytest.mark.parametrize(
    ("form", "estimate", "f", "low", "high"),
    [
        ("ICC(1,1)", 0.8527333712, 18.3712139331, 0.61, 0.96),
        ("ICC(A,1)", 0.8571871941, 50.3742731552, 0.39, 0.97),
        ("ICC(C,1)", 0.9427199688, 50.3742731552, 0.82, 0.99),
        ("ICC(1,k)", 0.9455670157, 18.3712139331, 0.82, 0.99),
        ("ICC(A,k)", 0.9473864746, 50.3742731552, 0.65, 0.99),
        ("ICC(C,k)", 0.9801485969, 50.3742731552, 0.93, 1.00),
    ],
)
def test_icc_as_computed_by_pingouin(form, estimate, f, low, high):
    """pingouin 0.6.1, intraclass_corr; its intervals have two decimals."""
    found = icc(VOLUMES_ML, form)
    assert found.estimate == pytest.approx(estimate, abs=1e-9)
    assert found.f == pytest.approx(f, abs=1e-8)
    assert ends(found.interval) == pytest.approx((low, high), abs=0.0051)


def test_icc_from_an_analysis_of_variance_by_statsmodels():
    """The mean squares of an independent two-way analysis give the same ICC(A,1) and ICC(C,1)."""
    import pandas as pd
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    rows = [(i, j, v) for (i, j), v in np.ndenumerate(VOLUMES_ML)]
    fit = smf.ols("v ~ C(patient) + C(reader)", pd.DataFrame(rows, columns=["patient", "reader", "v"])).fit()
    squares = anova_lm(fit)["sum_sq"] / anova_lm(fit)["df"]
    between, readers, rest = (squares[key] for key in ("C(patient)", "C(reader)", "Residual"))
    agreement = (between - rest) / (between + 2 * rest + 3 / 8 * (readers - rest))
    assert icc(VOLUMES_ML).estimate == pytest.approx(agreement, abs=1e-12)
    assert icc(VOLUMES_ML, "C,1").estimate == pytest.approx((between - rest) / (between + 2 * rest), abs=1e-12)
    assert sem(VOLUMES_ML, "consistency").estimate == pytest.approx(rest**0.5, abs=1e-10)


def test_interval_of_icc_a_k_is_the_step_up_of_that_of_icc_a_1():
    forms = icc_forms(SHROUT_FLEISS)
    low, high = ends(forms["ICC(A,1)"].interval)
    stepped = [4 * end / (1 + 3 * end) for end in (low, high)]
    assert ends(forms["ICC(A,k)"].interval) == pytest.approx(stepped, abs=1e-12)


@pytest.mark.parametrize("form", ["ICC(2,1)", "ICC(A,1)", "A,1", "2,1", "icc(a, 1)"])
def test_icc_answers_to_both_writings(form):
    assert icc(SHROUT_FLEISS, form).form == "ICC(A,1)"


def test_icc_of_the_mean_of_four_may_name_the_four():
    assert icc(SHROUT_FLEISS, "ICC(3,4)").form == "ICC(C,k)"
    with pytest.raises(AgreementError, match=r"'ICC\(3,5\)', expected one of ICC\(1,1\)"):
        icc(SHROUT_FLEISS, "ICC(3,5)")


def test_icc_misspelled_names_the_nearest_form():
    with pytest.raises(AgreementError, match=r"'ICC\(B,1\)'.*did you mean 'ICC\([AC],1\)'"):
        icc(SHROUT_FLEISS, "ICC(B,1)")


# --- ICC: coverage, invariances, edges ---


def test_interval_of_icc_a_1_covers_the_truth():
    """Variances 4, 1 and 1 of patients, readers and the rest: the true ICC(A,1) is 4/6.

    With 3 readers the usual interval holds it in about 82 %, with 8 in about 95 %; the generalized one in 95 %.
    """
    rng, runs = np.random.default_rng(5), 300
    held = {}
    for n, k, interval in ((100, 3, "satterthwaite"), (20, 8, "satterthwaite"), (100, 3, "generalized")):
        count = 0
        for _ in range(runs):
            values = rng.normal(0, 2, (n, 1)) + rng.normal(0, 1, (1, k)) + rng.normal(0, 1, (n, k))
            low, high = ends(icc(values, interval=interval, draws=2000).interval)
            count += low <= 4 / 6 <= high
        held[k, interval] = count / runs
    assert held[3, "satterthwaite"] < 0.87
    assert 0.92 <= held[8, "satterthwaite"] <= 0.98
    assert 0.92 <= held[3, "generalized"] <= 0.98


def test_few_readers_are_told_of_the_narrow_interval():
    assert icc(VOLUMES_ML).note == (
        "of 3 readers: the interval is too narrow if they differ; interval='generalized' is not"
    )
    found = icc(VOLUMES_ML, interval="generalized")
    assert (found.note, found.interval.method) == ("", "generalized, over patients and readers")
    assert found.interval.low < icc(VOLUMES_ML).interval.low
    assert found == icc(VOLUMES_ML, interval="generalized")  # seeded
    with pytest.raises(AgreementError, match="interval is 'exact', expected 'satterthwaite' or 'generalized'"):
        icc(VOLUMES_ML, interval="exact")


@given(tables, st.floats(0.1, 50), st.floats(-100, 100), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_icc_does_not_depend_on_unit_offset_or_order(values, factor, offset, random):
    order, readers = list(range(len(values))), list(range(values.shape[1]))
    random.shuffle(order)
    random.shuffle(readers)
    changed = (values * factor + offset)[order][:, readers]
    for form in ICC_FORMS:
        one, two = icc(values, form), icc(changed, form)
        assert two.estimate == pytest.approx(one.estimate, rel=1e-6, abs=1e-9, nan_ok=True)
        assert (one.interval is None) == (two.interval is None)
        if one.interval is not None:
            assert ends(two.interval) == pytest.approx(ends(one.interval), rel=1e-5, abs=1e-7)


@given(tables)
@settings(deadline=None, max_examples=40)
def test_interval_of_icc_holds_its_estimate(values):
    for found in icc_forms(values).values():
        if found.interval is not None:
            assert found.interval.low - 1e-9 <= found.estimate <= found.interval.high + 1e-9
            assert found.interval.high <= 1 + 1e-12


def test_readers_in_perfect_agreement():
    for found in icc_forms(np.repeat([[0.1], [0.3], [0.7]], 3, axis=1)).values():
        assert found.estimate == 1
        assert ends(found.interval) == (1, 1)
        assert "no width" in found.note


def test_a_reader_who_always_reads_higher_is_consistent_but_does_not_agree():
    values = np.array([[0.1], [0.3], [0.7], [0.8]]) + np.array([[0.0, 0.5]])
    assert icc(values, "ICC(C,1)").estimate == 1
    found = icc(values)
    assert found.estimate < 0.6
    assert 0 <= found.interval.low < found.estimate < found.interval.high < 1


def test_negative_icc_is_reported_as_it_is():
    values = np.array([[1.0, 9.0], [9.0, 1.0], [2.0, 8.0], [8.0, 2.0]])
    found = icc(values)
    assert found.estimate < 0
    assert found.note == "the patients have the same mean: no interval"
    assert icc(values, "ICC(C,k)").estimate == -math.inf  # stepped up from -1


def test_icc_below_zero_where_the_usual_interval_breaks_down():
    """Satterthwaite's degrees of freedom go to zero; the limits would not even hold the estimate."""
    values = np.array([[4.0, -4.0], [0.0, -1.0], [3.0, -3.0]])
    found = icc(values)
    assert found.estimate == pytest.approx(-0.2317, abs=1e-4)
    assert found.interval is None
    assert "breaks down" in found.note
    assert icc(values, interval="generalized").interval.low == 0
    few = icc(np.array([[-2.0, 3.0], [0.0, 0.0], [0.0, 0.0]]))  # with an infinite quantile
    assert few.interval.low < few.estimate < few.interval.high


def test_readings_that_do_not_vary_have_no_icc():
    for found in icc_forms(np.full((5, 3), 0.1)).values():
        assert math.isnan(found.estimate)
        assert found.interval is None
        assert "do not vary" in found.note


def test_patients_with_a_missing_reading_are_left_out_and_counted():
    values = VOLUMES_ML.copy()
    values[2, 1] = np.nan
    found = icc(values)
    assert (found.n, found.n_left_out) == (7, 1)
    assert found.estimate == icc(np.delete(VOLUMES_ML, 2, axis=0)).estimate


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.array([[1.0, 2.0]]), r"1 patient\(s\) read by all 2 readers of 1, expected at least 2"),
        (np.array([[1.0], [2.0]]), r"1 reader\(s\), expected at least 2 columns.*add a second reader"),
        (np.full((4, 2), np.nan), r"0 patient\(s\) read by all 2 readers.*\n.*column 0: 4"),
        (np.array([[1.0, np.inf], [2.0, 3.0]]), r"1 of 4 values of measurements are infinite.*empty mask"),
        (np.array([["a", "b"], ["c", "d"]]), r"no numbers.*fleiss_kappa"),
        (np.arange(4.0), r"shape \(4,\), expected \(patients, readers\)"),
    ],
)
def test_icc_refuses(values, match):
    with pytest.raises(AgreementError, match=f"(?s){match}"):
        icc(values)


def test_levels_are_shares():
    with pytest.raises(AgreementError, match=r"level is 95, expected a number between 0 and 1 such as 0\.95"):
        icc(SHROUT_FLEISS, level=95)
    narrow, wide = icc(SHROUT_FLEISS, level=0.8).interval, icc(SHROUT_FLEISS, level=0.99).interval
    assert wide.low < narrow.low < narrow.high < wide.high


# --- Lin's concordance ---


def peak_flow():
    inputs, _ = golden("bland_altman_1986_pefr")
    return np.array(inputs["wright"])[:, 0], np.array(inputs["mini"])[:, 0]


def test_concordance_with_either_denominator():
    """Peak flow of Bland and Altman 1986: 0.942742 with 1/n, 0.942752 with 1/(n - 1); Pearson's r 0.9432794."""
    first, second = peak_flow()
    found = lin_ccc(first, second)
    assert found.estimate == pytest.approx(0.942742, abs=6e-7)
    assert lin_ccc(first, second, denominator="n-1").estimate == pytest.approx(0.942752, abs=6e-7)
    assert found.pearson_r == pytest.approx(0.9432794468909, abs=1e-10)
    assert found.estimate == pytest.approx(found.pearson_r * found.bias_correction, abs=1e-12)
    assert "with n in" in found.method


def test_interval_of_concordance_by_another_way():
    """Its variance from the joint variance of five normal moments, differentiated numerically."""
    first, second = peak_flow()
    found, n = lin_ccc(first, second), len(first)
    sxx, syy = np.var(first), np.var(second)
    sxy = float(np.cov(first, second, ddof=0)[0, 1])
    moments = np.array([first.mean() - second.mean(), sxx, syy, sxy])
    joint = np.zeros((4, 4))
    joint[0, 0] = sxx + syy - 2 * sxy
    joint[1:, 1:] = [
        [2 * sxx**2, 2 * sxy**2, 2 * sxx * sxy],
        [2 * sxy**2, 2 * syy**2, 2 * syy * sxy],
        [2 * sxx * sxy, 2 * syy * sxy, sxx * syy + sxy**2],
    ]

    def z(moments):
        shift, a, b, c = moments
        return np.arctanh(2 * c / (a + b + shift**2))

    steps = np.diag(1e-5 * np.abs(moments))
    gradient = np.array([(z(moments + step) - z(moments - step)) / (2 * step.sum()) for step in steps])
    half = stats.norm.ppf(0.975) * np.sqrt(gradient @ joint @ gradient / (n - 2))
    expected = np.tanh([z(moments) - half, z(moments) + half])
    assert ends(found.interval) == pytest.approx(expected, abs=1e-6)


@given(
    arrays(np.float64, st.integers(3, 12), elements=st.integers(-20, 20)),
    st.integers(0, 2**32 - 1),
    st.floats(0.1, 30),
    st.floats(-50, 50),
)
@settings(deadline=None, max_examples=60)
def test_concordance_is_symmetric_and_has_no_unit(first, seed, factor, offset):
    second = first + np.random.default_rng(seed).integers(-3, 4, first.size)
    one = lin_ccc(first, second)
    for other in (lin_ccc(second, first), lin_ccc(first * factor + offset, second * factor + offset)):
        assert other.estimate == pytest.approx(one.estimate, rel=1e-6, abs=1e-9, nan_ok=True)
    if one.interval is not None:
        assert one.interval.low - 1e-9 <= one.estimate <= one.interval.high + 1e-9
        assert abs(one.estimate) <= abs(one.pearson_r) + 1e-9


def test_concordance_of_what_does_not_vary():
    same = lin_ccc(np.full(5, 0.1), np.full(5, 0.1))
    assert math.isnan(same.estimate)
    assert "nothing to agree about" in same.note
    flat = lin_ccc(np.full(5, 0.1), np.arange(5.0))
    assert (flat.estimate, flat.interval) == (0, None)
    assert "no correlation" in flat.note


def test_concordance_of_identical_measurements_is_one():
    found = lin_ccc(np.array([0.1, 0.3, 0.7]), np.array([0.1, 0.3, 0.7]))
    assert found.estimate == pytest.approx(1)
    assert found.note.startswith("identical pairs")


def test_concordance_counts_missing_and_refuses_too_few():
    first, second = peak_flow()
    first = first.astype(float)
    first[3] = np.nan
    assert (lin_ccc(first, second).n, lin_ccc(first, second).n_left_out) == (16, 1)
    with pytest.raises(AgreementError, match=r"2 of 2 patient\(s\) have both measurements, expected at least 3"):
        lin_ccc(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    with pytest.raises(AgreementError, match=r"first has shape \(3,\), second \(2,\)"):
        lin_ccc(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0]))


# --- Standard error of measurement ---


def test_error_of_measurement_from_the_components_of_lme4():
    """lme4 on Shrout and Fleiss's table: readers 5.244451, rest 1.019443; agreement counts both."""
    assert sem(SHROUT_FLEISS).estimate == pytest.approx((5.244450766978 + 1.019443365205) ** 0.5, abs=2e-6)
    assert sem(SHROUT_FLEISS, "consistency").estimate == pytest.approx(1.019443365205**0.5, abs=2e-6)


def test_error_of_measurement_of_repeats_is_the_root_of_half_the_mean_square_difference():
    """Dahlberg's formula for two repeats: sqrt(sum d^2 / 2n); its variance has a chi-square interval."""
    first, second = peak_flow()
    found = sem(np.stack([first, second], axis=1), "one-way")
    dahlberg = np.sqrt(np.square(first - second).sum() / (2 * len(first)))
    assert found.estimate == pytest.approx(dahlberg, abs=1e-10)
    low, high = dahlberg * np.sqrt(17 / stats.chi2.ppf([0.975, 0.025], 17))
    assert ends(found.interval) == pytest.approx((low, high), abs=1e-9)
    difference = found.smallest_detectable_difference
    assert difference.value == pytest.approx(1.959963985 * 2**0.5 * dahlberg, abs=1e-6)
    assert "2.772 times" in difference.method


@pytest.mark.parametrize("form", ["agreement", "consistency", "one-way"])
def test_interval_of_the_error_of_measurement_covers_the_truth(form):
    rng = np.random.default_rng(8)
    readers_sd = 0.0 if form == "one-way" else 2.0
    truth = (readers_sd**2 + 9) ** 0.5 if form == "agreement" else 3.0
    held, runs = 0, 300
    for _ in range(runs):
        values = rng.normal(0, 10, (25, 1)) + rng.normal(0, readers_sd, (1, 4)) + rng.normal(0, 3, (25, 4))
        low, high = ends(sem(values, form).interval)
        held += low <= truth <= high
    assert 0.92 <= held / runs <= 0.985


def test_error_of_measurement_of_identical_readings():
    found = sem(np.repeat([[0.1], [0.3], [0.7]], 2, axis=1))
    assert (found.estimate, ends(found.interval)) == (0, (0, 0))
    assert "no width" in found.note
    with pytest.raises(AgreementError, match="form is 'absolute', expected 'agreement', 'consistency' or 'one-way'"):
        sem(VOLUMES_ML, "absolute")


# --- Mixed model ---


def test_components_equal_the_analysis_of_variance_when_nothing_is_missing():
    squares = VOLUMES_ML - VOLUMES_ML.mean()
    rows, columns = squares.mean(axis=1, keepdims=True), squares.mean(axis=0, keepdims=True)
    rest = np.square(squares - rows - columns).sum() / 14
    patients = (3 * np.square(rows).sum() / 7 - rest) / 3
    readers = (8 * np.square(columns).sum() / 2 - rest) / 8
    found = crossed_components(VOLUMES_ML)
    expected = [patients, readers, rest]
    assert [found.variance_patients, found.variance_readers, found.variance_rest] == pytest.approx(expected, rel=1e-4)
    assert found.estimate == pytest.approx(icc(VOLUMES_ML).estimate, abs=1e-4)
    assert found.mean.value == pytest.approx(VOLUMES_ML.mean(), abs=1e-9)


def test_components_have_the_unit_of_the_readings():
    one, two = crossed_components(VOLUMES_ML), crossed_components(VOLUMES_ML * 1000 + 5)
    assert two.variance_rest == pytest.approx(1e6 * one.variance_rest, rel=1e-3)
    assert two.estimate == pytest.approx(one.estimate, abs=1e-4)


def test_missing_readings_are_used_as_far_as_they_go():
    rng = np.random.default_rng(3)
    values = rng.normal(100, 20, (40, 1)) + rng.normal(0, 6, (1, 5)) + rng.normal(0, 5, (40, 5))
    whole = crossed_components(values)
    values[rng.random(values.shape) < 0.2] = np.nan
    part = crossed_components(values)
    assert part.num_missing == np.isnan(values).sum()
    assert icc(values).n_left_out > 20
    assert part.n == 40
    assert part.estimate == pytest.approx(whole.estimate, abs=0.05)
    assert part.warnings == ()


def test_components_on_the_boundary_are_zero_and_said():
    found = crossed_components(np.random.default_rng(0).normal(0, 1, (10, 3)))
    assert found.variance_readers == 0
    assert any("between readers is zero" in note for note in found.warnings)
    assert any("rests on 3 readers" in note for note in found.warnings)
    assert found.interval is None
    assert 0.05 < found.mean_error < 1


def test_components_equal_those_of_statsmodels():
    """With missing readings there is no analysis of variance; MixedLM fits the same model by other means."""
    import pandas as pd
    import statsmodels.formula.api as smf

    values = VOLUMES_ML.copy()
    values[[0, 3, 5], [1, 2, 0]] = np.nan
    rows = [(i, j, v) for (i, j), v in np.ndenumerate(values) if not np.isnan(v)]
    table = pd.DataFrame(rows, columns=["patient", "reader", "v"]).assign(whole=1)
    formula = {"patient": "0 + C(patient)", "reader": "0 + C(reader)"}
    fit = smf.mixedlm("v ~ 1", table, groups="whole", vc_formula=formula, re_formula="0").fit(reml=True)
    found = crossed_components(values)
    assert [found.variance_patients, found.variance_readers] == pytest.approx(list(fit.vcomp), rel=2e-3)
    assert found.variance_rest == pytest.approx(fit.scale, rel=2e-3)
    assert found.minus2_reml == pytest.approx(-2 * fit.llf, abs=1e-3)
    assert (found.mean.value, found.mean_error) == pytest.approx((fit.fe_params.iloc[0], fit.bse_fe.iloc[0]), rel=2e-3)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.array([[1.0, np.nan], [2.0, np.nan]]), r"2 readings of 2 patient\(s\) by 1 reader\(s\)"),
        (np.array([[1.0, np.nan], [np.nan, 2.0]]), r"patients read more than once"),
        (np.full((3, 2), 7.0), r"all 6 readings are the same \(7\)"),
        (np.array([[0.1], [0.4], [0.9]]) + np.array([[0.0, 0.3]]), r"sums of one value per patient and one per reader"),
        (np.arange(3.0), r"shape \(3,\), expected"),
    ],
)
def test_mixed_model_refuses(values, match):
    with pytest.raises(AgreementError, match=match):
        crossed_components(values)
