"""Paired tests, individual agreement, ROC areas and recipes: scipy, scikit-learn, enumeration, textbook numbers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import roc_auc_score

from mpi_unet.agreement import (
    adjusted_p_values,
    bca_bootstrap,
    compare_recipes,
    delong,
    holm,
    individual_equivalence,
    nadeau_bengio,
    paired_t,
    sign_flip_test,
    wilcoxon_signed_rank,
)
from mpi_unet.errors import AgreementError

SIDES = ["two-sided", "greater", "less"]
samples = arrays(np.float64, st.integers(2, 10), elements=st.floats(-1, 1).map(lambda value: round(value, 3)))


def ends(interval):
    return interval.low, interval.high


# --- t ---


@given(samples, st.sampled_from(SIDES))
@settings(deadline=None, max_examples=40)
def test_paired_t_equals_scipy(d, side):
    found = paired_t(d, alternative=side)
    if np.ptp(d) == 0:
        return
    oracle = stats.ttest_1samp(d, 0, alternative=side)
    assert (found.statistic, found.p_value) == pytest.approx((oracle.statistic, oracle.pvalue), abs=1e-12)
    assert ends(found.interval) == pytest.approx(stats.ttest_1samp(d, 0).confidence_interval(0.95))


def test_paired_t_of_equal_differences_is_certain_and_says_so():
    assert paired_t(np.full(5, 0.1)).p_value == 0
    assert paired_t(np.full(5, -0.1), alternative="greater").p_value == 1
    assert paired_t(np.zeros(5)).p_value == 1
    assert paired_t(np.zeros(5), alternative="less").p_value == 1
    assert "no width" in paired_t(np.full(5, 0.1)).note


# --- Signed rank ---


def enumerated(d, side, zeros="wilcox"):
    """All patterns of signs of the ranks there are, one by one."""
    kept = d[d != 0] if zeros == "wilcox" else d
    ranks = stats.rankdata(np.abs(kept))[kept != 0]
    observed = ranks[kept[kept != 0] > 0].sum()
    sums = np.array([ranks[np.array(signs, dtype=bool)].sum() for signs in product([0, 1], repeat=ranks.size)])
    above, below = np.mean(sums >= observed - 1e-9), np.mean(sums <= observed + 1e-9)
    return {"two-sided": min(1, 2 * min(above, below)), "greater": above, "less": below}[side]


@given(samples, st.sampled_from(SIDES), st.sampled_from(["wilcox", "pratt"]))
@settings(deadline=None, max_examples=60)
def test_signed_rank_equals_enumeration_with_ties_and_zeros(d, side, zeros):
    found = wilcoxon_signed_rank(d, alternative=side, zeros=zeros)
    assert found.p_value == pytest.approx(enumerated(d, side, zeros), abs=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_signed_rank_equals_scipy_where_scipy_is_exact(side):
    d = np.random.default_rng(0).normal(0.2, 1, 25)
    oracle = stats.wilcoxon(d, alternative=side, method="exact")
    assert wilcoxon_signed_rank(d, alternative=side).p_value == pytest.approx(oracle.pvalue)
    tied = np.array([0.1, 0.1, -0.1, 0.2, 0.2, 0.3, 0.0, 0.4, -0.2])
    oracle = stats.wilcoxon(tied, alternative=side, zero_method="pratt", method=stats.PermutationMethod())
    assert wilcoxon_signed_rank(tied, alternative=side, zeros="pratt").p_value == pytest.approx(oracle.pvalue)


def test_float_noise_does_not_break_ties():
    """0.3 - 0.2, 0.2 - 0.1 and 0.1 are three floats and one difference."""
    clean = np.array([0.1, 0.1, -0.1, 0.2, 0.3])
    noisy = np.array([0.3 - 0.2, 0.2 - 0.1, -0.1, 0.2, 0.1 + 0.2])
    assert len(set(np.abs(noisy))) > len(set(np.abs(clean)))
    assert wilcoxon_signed_rank(noisy).p_value == wilcoxon_signed_rank(clean).p_value


def test_exact_and_normal_approximation_meet(monkeypatch):
    d = np.random.default_rng(1).normal(0.05, 1, 300)
    exact = wilcoxon_signed_rank(d)
    monkeypatch.setattr("mpi_unet.agreement.signed_rank.MOST_EXACT", 0)
    approximate = wilcoxon_signed_rank(d)
    assert (exact.method, approximate.method) == ("signed rank, exact", "signed rank, normal approximation")
    assert approximate.p_value == pytest.approx(exact.p_value, abs=1e-3)
    assert approximate.p_value == pytest.approx(stats.wilcoxon(d, method="approx", correction=True).pvalue)
    assert ends(approximate.interval) == pytest.approx(ends(exact.interval), abs=2e-3)


def test_hodges_lehmann_is_the_median_of_averages_and_its_interval_what_is_not_rejected():
    d = np.random.default_rng(2).normal(0.3, 1, 14)
    found = wilcoxon_signed_rank(d)
    averages = np.sort([(d[i] + d[j]) / 2 for i in range(14) for j in range(i, 14)])
    assert found.estimate == pytest.approx(np.median(averages))
    low, high = ends(found.interval)
    assert wilcoxon_signed_rank(d - (low + 1e-6)).p_value > 0.05
    assert wilcoxon_signed_rank(d - (low - 1e-6)).p_value <= 0.05
    assert wilcoxon_signed_rank(d - (high - 1e-6)).p_value > 0.05
    assert wilcoxon_signed_rank(d - (high + 1e-6)).p_value <= 0.05


def test_signed_rank_of_a_textbook():
    """Darwin's maize (Fisher 1935, section 17): 15 pairs; V = 96 and p = 0.04126 (exact)."""
    d = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)
    found = wilcoxon_signed_rank(d)
    assert (found.statistic, round(found.p_value, 5)) == (96, 0.04126)
    assert paired_t(d).p_value == pytest.approx(0.0497, abs=5e-5)


def test_no_difference_in_any_patient_gives_p_one():
    found = wilcoxon_signed_rank(np.zeros(6))
    assert (found.p_value, found.statistic, found.estimate) == (1, 0, 0)
    assert found.note == "6 of 6 patients without a difference"


# --- Sign flips ---


def test_sign_flips_of_a_textbook():
    """Darwin's maize: 863 of 32,768 patterns reach the observed sum, so p = 0.05267 (Fisher 1935, section 21)."""
    d = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)
    assert sign_flip_test(d).p_value == pytest.approx(2 * 863 / 2**15)


@given(samples, st.sampled_from(SIDES))
@settings(deadline=None, max_examples=40)
def test_sign_flips_equal_scipy(d, side):
    oracle = stats.permutation_test((d,), np.mean, permutation_type="samples", alternative=side, vectorized=True)
    assert sign_flip_test(d, alternative=side).p_value == pytest.approx(oracle.pvalue, abs=1e-9)


def test_the_interval_of_sign_flips_holds_what_is_not_rejected():
    d = np.random.default_rng(3).normal(0.2, 1, 11)
    low, high = ends(sign_flip_test(d).interval)
    for inside, outside in ((low + 1e-6, low - 1e-6), (high - 1e-6, high + 1e-6)):
        assert sign_flip_test(d - inside).p_value > 0.05
        assert sign_flip_test(d - outside).p_value <= 0.05


def test_too_few_patients_to_reject_have_an_unbounded_interval():
    assert ends(sign_flip_test(np.array([1.0, 2.0, 3.0])).interval) == (-np.inf, np.inf)


def test_many_patients_are_sampled_and_agree_with_t():
    d = np.random.default_rng(4).normal(0.02, 0.05, 60)
    found, student = sign_flip_test(d, seed=1), paired_t(d)
    assert found.method == "sign flips of the mean, 10000 patterns"
    assert found.p_value == pytest.approx(student.p_value, abs=3e-3)
    assert ends(found.interval) == pytest.approx(ends(student.interval), abs=2e-3)
    assert found == sign_flip_test(d, seed=1)
    assert found.p_value != sign_flip_test(d, seed=2).p_value


# --- BCa ---


def test_bca_of_the_mean_of_many_agrees_with_t():
    values = np.random.default_rng(0).normal(0.9, 0.03, 200)
    found, student = bca_bootstrap(values, seed=0), paired_t(values)
    assert ends(found.interval) == pytest.approx(ends(student.interval), abs=5e-4)
    assert found.standard_error == pytest.approx(stats.sem(values), rel=0.05)
    assert found == bca_bootstrap(values, seed=0)


def test_bca_needs_something_to_resample():
    with pytest.raises(AgreementError, match=r"all 5 values are 0\.5; there is nothing to resample"):
        bca_bootstrap(np.full(5, 0.5))
    with pytest.raises(AgreementError, match=r"values holds 1 patient\(s\)"):
        bca_bootstrap(np.array([0.5]))


@pytest.mark.parametrize("test", [paired_t, sign_flip_test, wilcoxon_signed_rank])
def test_paired_tests_refuse_what_does_not_pair_up(test):
    with pytest.raises(AgreementError, match="preds has 3 patients, target 2"):
        test(np.ones(3), np.ones(2))
    with pytest.raises(AgreementError, match="1 of 3 differences are NaN or infinite"):
        test(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(AgreementError, match=r"differences holds 0 patient\(s\)"):
        test(np.zeros(0))
    with pytest.raises(AgreementError, match=r"level is 95, expected a number between 0 and 1"):
        test(np.ones(3), level=95)


@pytest.mark.parametrize("test", [paired_t, sign_flip_test, wilcoxon_signed_rank])
def test_whole_numbers_are_numbers(test):
    whole = np.array([3, -1, 4, 1, 5])
    assert test(whole, np.zeros(5, dtype=int)) == test(whole.astype(float))


# --- Individual agreement ---


def readings(n=30, seed=0, *, bias=0.0):
    """Two reads by a reader and by a network that reads ``bias`` more; each read is true to within 1."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(100, 20, (n, 1, 1))
    return truth + rng.normal(0, 1, (n, 2, 2)) + np.array([0.0, bias])[:, None]


def test_a_network_like_another_read_has_a_coefficient_near_one():
    found = individual_equivalence(readings(400), reference=0)
    assert found.psi_r.value == pytest.approx(1, abs=0.2)
    assert found.psi_r.interval.low < 1 < found.psi_r.interval.high
    assert found.psi_n.value == pytest.approx(1, abs=0.2)


def test_bias_lowers_the_coefficient_as_theory_says():
    """Within-reader variance 1 twice, bias 2: 2 / (2 + 4)."""
    found = individual_equivalence(readings(2000, bias=2.0), reference=0)
    assert found.psi_r.value == pytest.approx(2 / 6, abs=0.03)


def test_a_network_that_repeats_itself_exactly_needs_one_reading():
    values = readings(40)
    values[:, 1, 1] = np.nan
    found = individual_equivalence(values, reference=0)
    assert found.psi_n is None
    assert np.isnan(found.intra[1])
    within = np.mean((values[:, 0, 0] - values[:, 0, 1]) ** 2)
    between = np.mean([(values[:, 0, 0] - values[:, 1, 0]) ** 2, (values[:, 0, 1] - values[:, 1, 0]) ** 2])
    assert found.psi_r.value == pytest.approx(within / between)


def test_interval_of_the_coefficient_agrees_with_the_bootstrap():
    values = readings(150)
    found = individual_equivalence(values, reference=0)
    top = (values[:, 0, 0] - values[:, 0, 1]) ** 2
    bottom = np.mean([(values[:, 0, a] - values[:, 1, b]) ** 2 for a, b in product(range(2), range(2))], axis=0)
    boot = stats.bootstrap(
        (top, bottom), lambda a, b, axis: a.mean(axis) / b.mean(axis), paired=True, rng=np.random.default_rng(0)
    ).confidence_interval
    assert ends(found.psi_r.interval) == pytest.approx((boot.low, boot.high), abs=0.12)


def test_patients_without_the_second_read_are_left_out_and_counted():
    values = readings(20)
    values[:5, 0, 1] = np.nan
    found = individual_equivalence(values, reference=0)
    assert (found.n, found.n_left_out) == (15, 5)
    assert found.psi_r == individual_equivalence(values[5:], reference=0).psi_r


def test_readings_that_never_differ_have_no_coefficient():
    same = individual_equivalence(np.full((5, 2, 2), 3.0), reference=0)
    assert np.isnan(same.psi_r.value)
    values = np.full((5, 2, 2), 3.0)
    values[:, 0, 1] = 3.5
    values[:, 1] = 4.0
    fixed = individual_equivalence(values, reference=0)
    assert ends(fixed.psi_r.interval) == pytest.approx((fixed.psi_r.value,) * 2)
    exact = values.copy()
    exact[:, 0] = 3.0
    zero = individual_equivalence(exact, reference=0)
    assert (zero.psi_r.value, zero.psi_r.interval) == (0, None)


def test_individual_agreement_needs_repeats_and_two_methods():
    with pytest.raises(AgreementError, match=r"readings holds 1 method\(s\), expected at least 2"):
        individual_equivalence(np.ones((3, 1, 2)))
    with pytest.raises(AgreementError, match=r"every method was read once; .*second, blinded read"):
        individual_equivalence(np.ones((3, 2, 1)))
    values = readings(5)
    values[:, 0, 1] = np.nan
    with pytest.raises(AgreementError, match=r"the reference, method 0, was read once; .*second, blinded"):
        individual_equivalence(values, reference=0)
    with pytest.raises(AgreementError, match=r"reference is 2, expected one of the methods 0\.\.1"):
        individual_equivalence(readings(5), reference=2)
    values[:, 1] = np.nan
    values[0, 1] = 1.0
    values[0, 0] = np.nan
    with pytest.raises(AgreementError, match=r"none of 5 patients has a reading by each method"):
        individual_equivalence(values)
    values[0, 0] = np.inf
    with pytest.raises(AgreementError, match=r"2 readings are infinite"):
        individual_equivalence(values)


# --- ROC areas ---


def graded(n=60, seed=0):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    return np.round(rng.normal(size=n) + positive, 1), np.round(rng.normal(size=n) + 1.5 * positive, 1), positive


def test_area_equals_scikit_learn_with_ties():
    first, second, positive = graded()
    found = delong(first, positive, second)
    assert found.auc.value == pytest.approx(roc_auc_score(positive, first))
    assert found.auc_second.value == pytest.approx(roc_auc_score(positive, second))
    assert found.difference.value == pytest.approx(found.auc.value - found.auc_second.value)


def test_truth_may_be_zeros_and_ones():
    first, second, positive = graded()
    assert delong(first, positive.astype(int), second) == delong(first, positive, second)


def test_delong_variance_equals_the_definition():
    """Structural components by comparing every positive with every negative patient."""
    first, second, positive = graded(30)
    kernels = [np.subtract.outer(score[positive], score[~positive]) for score in (first, second)]
    psi = np.stack([(kernel > 0) + 0.5 * (kernel == 0) for kernel in kernels])
    covariance = np.cov(psi.mean(axis=2)) / positive.sum() + np.cov(psi.mean(axis=1)) / (~positive).sum()
    found = delong(first, positive, second)
    gap = psi[0].mean() - psi[1].mean()
    z = gap / np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert (found.z, found.p_value) == pytest.approx((z, 2 * stats.norm.sf(abs(z))))
    half = stats.norm.ppf(0.975) * np.sqrt(covariance[0, 0])
    assert found.auc.interval.low == pytest.approx(psi[0].mean() - half)


def test_delong_agrees_with_the_bootstrap():
    first, _, positive = graded(200)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 200, 200) for _ in range(600)]
    areas = [roc_auc_score(positive[row], first[row]) for row in rows]
    assert ends(delong(first, positive).auc.interval) == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=0.02)


def test_perfect_separation_has_no_spread():
    found = delong(np.arange(6.0), np.arange(6) > 2, np.arange(6.0) ** 2)
    assert (found.auc.value, ends(found.auc.interval)) == (1, (1, 1))
    assert (found.z, found.p_value, found.difference.value) == (None, None, 0)


def test_delong_counts_each_patient_once():
    first, _, positive = graded(4)
    positive = np.array([True, True, False, False])
    with pytest.raises(AgreementError, match=r"(?s)have more than one row.*P1: 2 rows"):
        delong(first, positive, patients=["P1", "P1", "P2", "P3"])
    with pytest.raises(AgreementError, match=r"there are 1 positive and 3 negative patients"):
        delong(first, np.array([True, False, False, False]))
    with pytest.raises(AgreementError, match=r"there are 4 scores for 3 patients"):
        delong(first, positive[:3])
    with pytest.raises(AgreementError, match=r"there are 5 scores for 4 patients"):
        delong(first, positive, np.ones(5))
    with pytest.raises(AgreementError, match=r"positive holds \[0, 1, 2\], expected truth values or 0 and 1"):
        delong(first, np.array([0, 1, 2, 1]))
    with pytest.raises(AgreementError, match=r"1 of 4 scores are NaN"):
        delong(np.array([0.1, np.nan, 0.2, 0.3]), positive)


# --- Recipes ---


def recipe_scores(n=25, seeds=3, gain=0.02, seed=0):
    rng = np.random.default_rng(seed)
    patients = rng.normal(0.85, 0.05, (1, n, 1))
    return patients + np.array([gain, 0, 0])[:, None, None] + rng.normal(0, 0.01, (3, n, seeds))


def test_recipes_are_compared_on_the_same_patients_averaged_over_seeds():
    scores = recipe_scores()
    found = compare_recipes(scores, ["dice", "ce", "focal"])
    assert [(pair.a, pair.b) for pair in found.pairs] == [("dice", "ce"), ("dice", "focal"), ("ce", "focal")]
    by_patient = scores.mean(axis=2)
    for pair, (one, other) in zip(found.pairs, [(0, 1), (0, 2), (1, 2)], strict=True):
        oracle = stats.ttest_rel(by_patient[one], by_patient[other])
        assert pair.p_value == pytest.approx(oracle.pvalue)
        assert ends(pair.delta.interval) == pytest.approx(oracle.confidence_interval(0.95))
        assert pair.seed_sd == pytest.approx((scores[one] - scores[other]).mean(axis=0).std(ddof=1))
    assert [pair.p_holm for pair in found.pairs] == list(holm(np.array([p.p_value for p in found.pairs])).adjusted)
    assert [mean.value for mean in found.means] == pytest.approx(by_patient.mean(axis=1))
    assert (found.n, found.n_left_out, found.num_seeds, found.notes) == (25, 0, 3, ())
    assert found.pairs[0].p_sign_flip < 0.001 < found.pairs[2].p_sign_flip


def test_a_patient_that_one_training_did_not_predict_is_left_out_of_all():
    scores = recipe_scores()
    scores[1, 7, 2] = np.nan
    found = compare_recipes(scores, ["dice", "ce", "focal"])
    assert (found.n, found.n_left_out) == (24, 1)
    assert found.pairs == compare_recipes(np.delete(scores, 7, axis=1), ["dice", "ce", "focal"]).pairs


def test_a_single_seed_is_said():
    found = compare_recipes(recipe_scores(seeds=1), ["dice", "ce", "focal"])
    assert found.pairs[0].seed_sd is None
    assert "two trainings of one recipe; train at least 3" in found.notes[0]


def test_recipes_that_cannot_be_compared_are_refused():
    scores = recipe_scores()
    for names in (["dice", "ce"], ["dice", "ce", "dice"]):
        with pytest.raises(AgreementError, match=r"for 3 rows of scores; expected one name per recipe"):
            compare_recipes(scores, names)
    with pytest.raises(
        AgreementError, match=r"0 of 25 patients were predicted by every recipe.*same held-out patients"
    ):
        compare_recipes(np.full_like(scores, np.nan), ["dice", "ce", "focal"])
    with pytest.raises(AgreementError, match=r"(?s)have more than one row.*P0: 25 rows"):
        compare_recipes(scores, ["dice", "ce", "focal"], patients=["P0"] * 25)
    scores[0, 0, 0] = np.inf
    with pytest.raises(AgreementError, match=r"1 scores are infinite.*policy\.for_mean"):
        compare_recipes(scores, ["dice", "ce", "focal"])


def test_nadeau_bengio_widens_the_naive_test():
    d = np.random.default_rng(0).normal(0.01, 0.01, 5)
    found = nadeau_bengio(d, n_train=80, n_test=20)
    naive = paired_t(d)
    assert found.statistic == pytest.approx(naive.statistic / np.sqrt(1 + 5 / 4))
    assert found.naive_p == pytest.approx(naive.p_value)
    assert ends(found.interval)[0] < naive.interval.low
    assert (found.p_value < 0.05) == (found.interval.low > 0 or found.interval.high < 0)


def test_nadeau_bengio_of_the_scikit_learn_example():
    """The lines of scikit-learn's page on the statistical comparison of models, written out."""
    d = np.random.default_rng(1).normal(0.005, 0.01, 100)
    error = np.sqrt(np.var(d, ddof=1) * (1 / 100 + 30 / 270))
    t = d.mean() / error
    found = nadeau_bengio(d, n_train=270, n_test=30)
    assert (found.statistic, found.p_greater) == pytest.approx((t, stats.t.sf(t, 99)))


def test_nadeau_bengio_refuses_what_is_no_comparison():
    with pytest.raises(AgreementError, match=r"there are 3 and 2 splits"):
        nadeau_bengio(np.ones(3), np.ones(2), n_train=8, n_test=2)
    with pytest.raises(AgreementError, match=r"n_train is 0 and n_test 2"):
        nadeau_bengio(np.arange(3.0), n_train=0, n_test=2)
    with pytest.raises(AgreementError, match=r"all 3 differences are 1\.0.*compare_recipes"):
        nadeau_bengio(np.ones(3), n_train=8, n_test=2)
    with pytest.raises(AgreementError, match=r"differences between splits holds 1"):
        nadeau_bengio(np.ones(1), n_train=8, n_test=2)


# --- Families of tests ---


@given(arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1)))
@settings(deadline=None, max_examples=30)
def test_holm_by_hand(p_values):
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(p_values.size, 0, -1))
    expected = np.empty_like(p_values)
    expected[order] = np.minimum(stepped, 1)
    assert holm(p_values).adjusted == pytest.approx(expected)
    assert adjusted_p_values(p_values, "bh").adjusted == pytest.approx(stats.false_discovery_control(p_values))


@pytest.mark.parametrize("p_values", [[], [0.5, np.nan], [1.2]])
def test_p_values_are_probabilities(p_values):
    with pytest.raises(AgreementError, match=r"p_values is .*expected one or more numbers from 0 to 1"):
        holm(np.array(p_values))
