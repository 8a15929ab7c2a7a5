"""Kappa, AC1, alpha, McNemar: published tables, other libraries, invariances, edges."""

import math

import numpy as np
import pytest
from golden_values import golden
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mpi_unet.agreement import (
    clustered_mcnemar,
    clustered_mcnemar_of_counts,
    cohen_kappa,
    cohen_kappa_of_table,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    mcnemar,
    mcnemar_of_table,
    ratings_of_counts,
)
from mpi_unet.errors import AgreementError

FLEISS_1971 = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""
"""30 patients, five diagnoses, how many of six psychiatrists gave each: Fleiss 1971, table 1."""

GWET_2014 = """
1 1 . 1   2 2 3 2   3 3 3 3   3 3 3 3   2 2 2 2   1 2 3 4   4 4 4 4   1 1 2 1   2 2 2 2   . 5 5 5   . . 1 1   . . 3 .
"""
"""12 units x 4 raters: Gwet 2014, Handbook of Inter-Rater Reliability, 4th edition, page 120."""

MIXED = np.array(
    [
        [0, 1, 0],
        [0, 2, 0],
        [0, np.nan, 2],
        [0, 1, 0],
        [0, 2, 0],
        [np.nan, 1, 0],
        [1, 2, 2],
        [0, 2, 0],
        [0, 1, 2],
        [2, 2, 0],
        [1, 2, 1],
        [0, 2, 0],
    ]
)
"""Readers who agree less than by chance."""

ratings_of_readers = arrays(np.int64, st.tuples(st.integers(3, 12), st.integers(2, 4)), elements=st.integers(0, 3))


def ends(interval):
    return interval.low, interval.high


def fleiss_1971():
    counts = np.array([[int(cell) for cell in row] for row in FLEISS_1971.split()])
    assert counts.sum(axis=0).tolist() == [26, 26, 30, 55, 43]
    return ratings_of_counts(counts)


def gwet_2014():
    return np.array([np.nan if cell == "." else float(cell) for cell in GWET_2014.split()]).reshape(12, 4)


# --- Published tables ---


def test_fleiss_1971():
    """Psychol Bull 76:378: observed .556, expected .220, kappa .430."""
    found = fleiss_kappa(fleiss_1971())
    assert [round(value, 3) for value in (found.observed, found.expected, found.estimate)] == [0.556, 0.220, 0.430]
    assert (found.n, found.readers) == (30, 6)


def test_fleiss_kappa_equals_statsmodels():
    from statsmodels.stats.inter_rater import aggregate_raters
    from statsmodels.stats.inter_rater import fleiss_kappa as reference

    rng = np.random.default_rng(0)
    for categories in (2, 3, 5):
        ratings = rng.integers(0, categories, (25, 4))
        assert fleiss_kappa(ratings).estimate == pytest.approx(reference(aggregate_raters(ratings)[0]), abs=1e-12)


@pytest.mark.parametrize(
    ("coefficient", "weights", "estimate", "error", "low"),
    [
        (fleiss_kappa, None, 0.761, 0.153, 0.424),
        (fleiss_kappa, "linear", 0.818, 0.149, 0.491),
        (fleiss_kappa, "quadratic", 0.865, 0.146, 0.544),
        (gwet_ac1, None, 0.775, 0.143, 0.461),
        (gwet_ac1, "linear", 0.859, 0.117, 0.600),
        (gwet_ac1, "quadratic", 0.914, 0.104, 0.685),
    ],
)
def test_gwet_2014(coefficient, weights, estimate, error, low):
    """As in the tests of irrCAC 0.4.4, Gwet's own package in Python; the upper ends are cut off at 1."""
    found = coefficient(gwet_2014(), weights=weights)
    assert [found.estimate, found.standard_error] == pytest.approx([estimate, error], abs=6e-4)
    assert ends(found.interval) == pytest.approx((low, 1), abs=6e-4)


@pytest.mark.parametrize(
    ("coefficient", "weights", "estimate", "error", "low", "high", "observed", "expected"),
    [
        (fleiss_kappa, None, -0.18753818, 0.08737168, -0.37984194, 0.00476559, 0.25, 0.36844136),
        (gwet_ac1, None, -0.09613758, 0.07203644, -0.25468872, 0.06241356, 0.25, 0.31577932),
        (fleiss_kappa, "linear", -0.22033898, 0.11168432, -0.46615451, 0.02547655, 0.43055556, 0.53337191),
        (gwet_ac1, "linear", -0.20211755, 0.10491071, -0.43302447, 0.02878937, 0.43055556, 0.52629887),
        (fleiss_kappa, "quadratic", -0.24730103, 0.13881392, -0.55282841, 0.05822635, 0.52083333, 0.61583719),
        (gwet_ac1, "quadratic", -0.30052356, 0.17365756, -0.68274126, 0.08169414, 0.52083333, 0.63155864),
    ],
)
def test_worse_than_chance_as_computed_by_irrcac(coefficient, weights, estimate, error, low, high, observed, expected):
    """irrCAC 0.4.4, eight digits, with missing ratings; nothing is cut off at zero."""
    found = coefficient(MIXED, weights=weights)
    values = [found.estimate, found.standard_error, *ends(found.interval), found.observed, found.expected]
    assert values == pytest.approx([estimate, error, low, high, observed, expected], abs=2e-8)


def test_two_abstractors_of_gwet_2014():
    """100 women, three kinds of pregnancy: Cohen's kappa .796, AC1 .849 (irrCAC's table cont3x3abstractors)."""
    table = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]])
    first, second = (np.repeat(place.ravel(), table.ravel()) for place in np.indices((3, 3)))
    assert cohen_kappa_of_table(table).estimate == pytest.approx(0.7964094, abs=5e-8)
    assert cohen_kappa(first, second) == cohen_kappa_of_table(table)
    assert gwet_ac1(np.stack([first, second], axis=1)).estimate == pytest.approx(0.8493305, abs=5e-8)


def test_cohen_kappa_equals_scikit_learn():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(3)
    first, noise = rng.integers(0, 4, 60), rng.integers(-1, 2, 60)
    second = np.clip(first + noise, 0, 3)
    for weights in (None, "linear", "quadratic"):
        expected = cohen_kappa_score(first, second, weights=weights)
        assert cohen_kappa(first, second, weights=weights).estimate == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_error_of_cohen_kappa_from_numerical_derivatives(weights):
    """The delta method on the multinomial table, with nothing of the published formula in it."""
    counts, size = np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]]), 3
    n, shares = counts.sum(), counts / counts.sum()
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) / (size - 1)
    credit = {None: np.eye(size), "linear": 1 - apart, "quadratic": 1 - apart**2}[weights]

    def kappa(p):
        chance = (credit * np.outer(p.sum(axis=1), p.sum(axis=0))).sum()
        return ((credit * p).sum() - chance) / (1 - chance)

    slopes = np.zeros_like(shares)
    for cell in np.ndindex(size, size):
        toward = -shares.copy()
        toward[cell] += 1
        slopes[cell] = (kappa(shares + 1e-6 * toward) - kappa(shares - 1e-6 * toward)) / 2e-6
    expected = np.sqrt((shares * slopes**2).sum() / n)
    assert cohen_kappa_of_table(counts, weights=weights).standard_error == pytest.approx(expected, abs=1e-9)


def test_krippendorff_of_two_observers():
    """Krippendorff, Computing Krippendorff's alpha-reliability, examples A (.095, binary) and B (.692, nominal)."""
    a = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]).T
    b = np.array([list("aabbdcccedda"), list("babbbcccedddd"[:12])]).T
    assert round(krippendorff_alpha(a).estimate, 3) == 0.095
    assert round(krippendorff_alpha(b).estimate, 3) == 0.692


@pytest.mark.parametrize(
    ("metric", "alpha"),
    [
        ("nominal", -0.016703786191536674),
        ("ordinal", 0.16396786097119076),
        ("interval", 0.15229357798165144),
        ("ratio", 0.011149352736228635),
    ],
)
def test_krippendorff_as_computed_by_the_package(metric, alpha):
    """krippendorff 0.9.0; 10 units x 4 observers with missing ratings, one unit with a single one."""
    ratings = np.array(
        [
            [0, np.nan, 3, 2],
            [2, 3, 3, 0],
            [2, 0, 2, 4],
            [2, 0, np.nan, 0],
            [3, 4, 4, 3],
            [4, 1, 0, 2],
            [2, 3, 4, 1],
            [np.nan, np.nan, np.nan, 3],
            [1, 3, 2, 2],
            [4, 4, 4, 2],
        ]
    )
    found = krippendorff_alpha(ratings, metric)
    assert found.estimate == pytest.approx(alpha, abs=1e-12)
    assert (found.n, found.n_left_out) == (9, 1)


@pytest.mark.parametrize(("metric", "low"), [("nominal", 0.41906222), ("interval", 0.56138765), ("ratio", 0.48439148)])
def test_interval_of_alpha_is_close_to_gwets(metric, low):
    """irrCAC 0.4.4 linearizes, we leave out patients in turn: other numbers, the same interval for 11 of them."""
    inputs, _ = golden("krippendorff_alpha_canonical")
    found = krippendorff_alpha(np.array(inputs["observers_by_units"], dtype=float).T, metric)
    assert ends(found.interval) == pytest.approx((low, 1), abs=0.03)


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval", "ratio"])
def test_interval_of_alpha_is_the_jackknife(metric):
    ratings = np.random.default_rng(0).integers(0, 4, (9, 3)).astype(float)
    ratings[2, 1] = np.nan
    found = krippendorff_alpha(ratings, metric)
    without = np.array([krippendorff_alpha(np.delete(ratings, i, axis=0), metric).estimate for i in range(9)])
    error = np.std(9 * found.estimate - 8 * without, ddof=1) / 3
    half = stats.t.ppf(0.975, 8) * error
    assert ends(found.interval) == pytest.approx(
        (max(-1, found.estimate - half), min(1, found.estimate + half)), abs=1e-10
    )


# --- Coverage and invariances ---


@pytest.mark.parametrize("coefficient", [fleiss_kappa, gwet_ac1, krippendorff_alpha])
def test_interval_covers_the_truth(coefficient):
    """Two of three patients are acceptable, each of 3 readers errs in 15 %; the truth is that of 200,000 patients."""
    rng, runs = np.random.default_rng(4), 300

    def draw(n):
        truth = rng.random((n, 1)) < 2 / 3
        return (truth ^ (rng.random((n, 3)) < 0.15)).astype(int)

    many = np.bincount(draw(200_000).sum(axis=1), minlength=4) // 20
    patients = np.repeat([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]], many, axis=0)
    truth, held = coefficient(patients).estimate, 0
    for _ in range(runs):
        low, high = ends(coefficient(draw(40)).interval)
        held += low <= truth <= high
    assert 0.91 <= held / runs <= 0.985


@given(ratings_of_readers, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_order_and_names_do_not_matter(ratings, random):
    order, readers = list(range(len(ratings))), list(range(ratings.shape[1]))
    random.shuffle(order)
    random.shuffle(readers)
    names = ["q", "b", "z", "a"]
    random.shuffle(names)
    renamed = np.array(names)[ratings][order][:, readers]
    for coefficient in (fleiss_kappa, gwet_ac1, krippendorff_alpha):
        one, two = coefficient(ratings), coefficient(renamed)
        assert two.estimate == pytest.approx(one.estimate, abs=1e-9, nan_ok=True)
        assert (one.interval is None) == (two.interval is None)
        if one.interval is not None:
            assert ends(two.interval) == pytest.approx(ends(one.interval), abs=1e-9)
            assert one.interval.low - 1e-12 <= one.estimate <= one.interval.high + 1e-12


@given(ratings_of_readers)
@settings(deadline=None, max_examples=40)
def test_what_binary_kappa_and_alpha_have_in_common(ratings):
    """Alpha is Fleiss's kappa with a small-sample correction: 1 - alpha = (1 - kappa) (1 - 1 / N)."""
    kappa, alpha = fleiss_kappa(ratings), krippendorff_alpha(ratings)
    if not math.isnan(kappa.estimate):
        assert 1 - alpha.estimate == pytest.approx((1 - kappa.estimate) * (1 - 1 / ratings.size), abs=1e-9)


@given(ratings_of_readers)
@settings(deadline=None, max_examples=30)
def test_interval_alpha_has_no_unit(ratings):
    one, two = krippendorff_alpha(ratings, "interval"), krippendorff_alpha(ratings * 0.37 - 11.0, "interval")
    assert two.estimate == pytest.approx(one.estimate, abs=1e-9, nan_ok=True)
    stretched = krippendorff_alpha(ratings**3, "ordinal")
    assert stretched.estimate == pytest.approx(krippendorff_alpha(ratings, "ordinal").estimate, abs=1e-9, nan_ok=True)


def test_kappa_falls_with_prevalence_where_ac1_does_not():
    """Feinstein and Cicchetti 1990: .85 observed agreement twice, kappa .70 and .32."""
    balanced, skewed = np.array([[40, 9], [6, 45]]), np.array([[80, 10], [5, 5]])
    kappas = [cohen_kappa_of_table(table).estimate for table in (balanced, skewed)]
    assert [round(kappa, 2) for kappa in kappas] == [0.70, 0.32]
    ratings = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], skewed.ravel(), axis=0)
    assert gwet_ac1(ratings).estimate == pytest.approx(0.81, abs=0.005)


# --- Edges ---


@pytest.mark.parametrize("coefficient", [fleiss_kappa, krippendorff_alpha, gwet_ac1])
def test_one_category_only_is_undefined_and_said(coefficient):
    found = coefficient(np.ones((8, 3), dtype=int))
    assert math.isnan(found.estimate)
    assert found.interval is None
    assert "undefined" in found.note


def test_one_category_of_two_readers_is_undefined_and_said():
    found = cohen_kappa(np.ones(5, dtype=int), np.ones(5, dtype=int), categories=[0, 1])
    assert math.isnan(found.estimate)
    assert "undefined" in found.note


def test_an_unused_category_counts_for_ac1_only():
    ratings = np.ones((8, 3), dtype=int)
    assert gwet_ac1(ratings, categories=[0, 1]).estimate == 1
    assert math.isnan(fleiss_kappa(ratings, categories=[0, 1]).estimate)
    used = MIXED[2:6]
    assert gwet_ac1(used, categories=range(5)).expected < gwet_ac1(used).expected
    assert krippendorff_alpha(used, categories=range(5)).estimate == krippendorff_alpha(used).estimate


@pytest.mark.parametrize("coefficient", [fleiss_kappa, gwet_ac1, krippendorff_alpha])
def test_perfect_agreement_has_an_interval_without_width_and_says_so(coefficient):
    found = coefficient(np.array([[0, 0], [1, 1], [1, 1], [2, 2]]))
    assert found.estimate == pytest.approx(1)
    assert ends(found.interval) == pytest.approx((1, 1))
    assert "no width" in found.note
    assert "no width" in cohen_kappa(np.array([0, 1, 2]), np.array([0, 1, 2])).note


def test_systematic_disagreement_is_minus_one():
    first = np.array([0, 1, 0, 1])
    assert cohen_kappa(first, 1 - first).estimate == -1
    assert fleiss_kappa(np.stack([first, 1 - first], axis=1)).estimate == -1


def test_few_patients_have_no_interval():
    assert fleiss_kappa(np.array([[0, 1]])).interval is None
    assert "one patient" in gwet_ac1(np.array([[0, 1]])).note
    assert "too few" in krippendorff_alpha(np.array([[0, 1], [1, 1]])).note
    alone = krippendorff_alpha(np.array([[0, 0], [0, 0], [0, 1]]))
    assert (alone.interval, alone.note) == (None, "without one of the patients all ratings are the same: no interval")
    ordinal = krippendorff_alpha(np.array([[0, 0], [0, 0], [0, 1]]), "ordinal")
    assert ordinal.interval is None


def test_patients_without_ratings_are_left_out_and_counted():
    ratings = np.array([["good", "good"], ["bad", None], ["", None], ["bad", "good"]], dtype=object)
    found = fleiss_kappa(ratings)
    assert (found.n, found.n_left_out, found.scale) == (3, 1, ("bad", "good"))
    alpha = krippendorff_alpha(ratings)
    assert (alpha.n, alpha.n_left_out) == (2, 2)
    pair = cohen_kappa(ratings[:, 0], ratings[:, 1])
    assert (pair.n, pair.n_left_out) == (2, 2)


def test_bool_and_whole_floats_are_categories():
    ratings = np.array([[True, True], [False, True], [False, False]])
    for same in (ratings.astype(int), ratings.astype(float), np.array(["no", "yes"])[ratings.astype(int)]):
        assert fleiss_kappa(same).estimate == fleiss_kappa(ratings).estimate


@pytest.mark.parametrize(
    ("ratings", "options", "match"),
    [
        (
            np.array([[0.5, 1.0], [2.0, 1.0]]),
            {},
            r"1 of 4 ratings are neither.*\n.*\[0, 0\] is 0\.5.*\n.*icc",
        ),
        (
            np.array([[0, 5], [1, 2]]),
            {"categories": [0, 1, 2]},
            r"1 of 4 ratings are off the scale 0, 1, 2:\n.* is 5",
        ),
        (
            np.array([[0, 1], [1, 1]]),
            {"categories": [0, 1, 1]},
            r"\[0, 1, 1\], expected each category.* once",
        ),
        (np.full((3, 2), np.nan), {}, r"all 6 ratings are missing"),
        (np.array([[1], [0]]), {}, r"shape \(2, 1\), expected.*at least 2 readers; with one reader"),
        (np.array([[1, np.nan], [np.nan, 0]]), {}, r"none of 2 patients was rated twice"),
        (np.array([[1, "a"], [0, "b"]], dtype=object), {}, r"mix numbers and text.*categories="),
        (
            np.array([[0, 1], [1, 1]]),
            {"weights": "cubic"},
            r"weights is 'cubic', expected None, 'linear'",
        ),
        (np.array([[0, 1], [1, 1]]), {"level": 95}, r"level is 95"),
    ],
)
def test_ratings_refused(ratings, options, match):
    for coefficient in (fleiss_kappa, gwet_ac1):
        with pytest.raises(AgreementError, match=match):
            coefficient(ratings, **options)


@pytest.mark.parametrize(
    ("ratings", "metric", "match"),
    [
        (np.array([["low", "high"], ["low", "low"]]), "ordinal", r"'high', 'low' are words.*categories="),
        (np.array([[-1.0, 2.0], [1.0, 2.0]]), "ratio", r"1 ratings are negative \(smallest -1\).*metric='interval'"),
        (np.array([[1.0, 2.0], [1.0, np.inf]]), "interval", r"1 of 4 values of ratings are infinite"),
        (np.array([["a", "b"], ["b", "b"]]), "interval", r"no numbers"),
        (np.array([[1.0], [2.0]]), "interval", r"shape \(2, 1\).*at least 2 readers"),
        (np.array([[1.0, np.nan]]), "interval", r"none of 1 patients was rated twice"),
        (np.array([[1, 2]]), "circular", r"metric is 'circular', expected one of 'nominal'"),
    ],
)
def test_alpha_refuses(ratings, metric, match):
    with pytest.raises(AgreementError, match=match):
        krippendorff_alpha(ratings, metric)


def test_half_points_are_ordinal():
    halves = np.array([[0.5, 1.0], [0.5, 0.5], [2.0, 1.5], [np.nan, 1.0]])
    assert krippendorff_alpha(halves, "ordinal").estimate == krippendorff_alpha(halves * 2, "ordinal").estimate


def test_words_in_order_are_ordinal():
    words = np.array([["low", "high"], ["low", "mid"], ["mid", "mid"], ["high", "high"]])
    numbers = np.array([[0, 2], [0, 1], [1, 1], [2, 2]])
    found = krippendorff_alpha(words, "ordinal", categories=["low", "mid", "high"])
    assert found.estimate == pytest.approx(krippendorff_alpha(numbers, "ordinal").estimate)
    assert cohen_kappa(words[:, 0], words[:, 1], weights="linear", categories=["low", "mid", "high"]).estimate == (
        cohen_kappa(numbers[:, 0], numbers[:, 1], weights="linear").estimate
    )


def test_two_readers_must_pair_up():
    with pytest.raises(AgreementError, match=r"first has shape \(2,\), second \(3,\)"):
        cohen_kappa(np.array([0, 1]), np.array([0, 1, 1]))
    with pytest.raises(AgreementError, match=r"a mask is not a rating: compare masks by Dice"):
        cohen_kappa(np.zeros((4, 4), dtype=int), np.zeros((4, 4), dtype=int))
    with pytest.raises(AgreementError, match="none of 2 patients was rated by both"):
        cohen_kappa(np.array([1.0, np.nan]), np.array([np.nan, 1.0]))
    with pytest.raises(AgreementError, match=r"table \(2, 3\) must be square"):
        cohen_kappa_of_table(np.ones((2, 3)))
    with pytest.raises(AgreementError, match="whole numbers from 0 on"):
        ratings_of_counts(np.array([[1, -1]]))


# --- McNemar ---


def test_mcnemar_of_patients_equals_that_of_their_table():
    rng = np.random.default_rng(0)
    first, second = rng.random(50) < 0.7, rng.random(50) < 0.5
    table = np.array(
        [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
    )
    for method in ("exact", "corrected", "plain"):
        assert str(mcnemar(first, second, method=method)) == str(mcnemar_of_table(table, method=method))
    b, c = int(table[0, 1]), int(table[1, 0])
    assert mcnemar(first, second).p_value == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert mcnemar(first, second).estimate == pytest.approx(first.mean() - second.mean())


def test_clustered_test_with_one_region_each_is_mcnemar():
    """Eliasziw's becomes McNemar's chi-square exactly, Obuchowski's up to (n - 1) / n."""
    rng = np.random.default_rng(1)
    first, second = rng.random(40) < 0.7, rng.random(40) < 0.4
    plain = mcnemar(first, second, method="plain").statistic
    patients = np.arange(40)
    assert clustered_mcnemar(first, second, patients, method="eliasziw").statistic == pytest.approx(plain)
    for method, factor in (("obuchowski", 39 / 40), ("durkalski", 1)):
        found = clustered_mcnemar(first, second, patients, method=method)
        assert found.statistic == pytest.approx(factor * plain)


def test_regions_by_patient_give_the_counts():
    inputs, _ = golden("mcnemar_clustered_pet_spect")
    counts = np.array(inputs["ak_bk_ck_dk"])
    answers = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    regions = np.concatenate([np.repeat(answers, row, axis=0) for row in counts])
    patients = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    order = np.random.default_rng(0).permutation(len(regions))
    found = clustered_mcnemar(regions[order, 0], regions[order, 1], patients[order])
    expected = clustered_mcnemar_of_counts(counts)
    assert (found.statistic, found.estimate) == pytest.approx((expected.statistic, expected.estimate))
    assert ends(found.interval) == pytest.approx(ends(expected.interval))
    assert (found.n, found.num_regions, found.only_first, found.only_second) == (21, 51, 1, 7)


@pytest.mark.parametrize("method", ["obuchowski", "yang", "durkalski", "eliasziw"])
def test_clustered_tests_keep_their_level_where_mcnemar_does_not(method):
    """No difference on average, but patients in whom all 10 regions go the same way."""
    rng, runs = np.random.default_rng(6), 250
    rejected = naive = 0
    for _ in range(runs):
        lean = rng.normal(0, 1.5, 40)
        one = rng.binomial(10, stats.norm.cdf(-1 + lean))
        counts = np.stack([np.zeros(40, int), one, 10 - one, np.zeros(40, int)], axis=1)
        counts[:, 1:3] = np.where(rng.random((40, 1)) < 0.5, counts[:, 1:3], counts[:, 2:0:-1])
        rejected += clustered_mcnemar_of_counts(counts, method=method).p_value < 0.05
        both, first, second, neither = counts.sum(axis=0)
        naive += mcnemar_of_table(np.array([[both, first], [second, neither]]), method="plain").p_value < 0.05
    assert rejected / runs < 0.09
    assert naive / runs > 0.3


def test_nothing_discordant_is_no_evidence():
    same = np.array([True, False, True])
    assert (mcnemar(same, same).p_value, mcnemar(same, same).interval) == (1.0, None)
    assert math.isnan(mcnemar(same, same).statistic)
    found = clustered_mcnemar(same, same, ["a", "a", "b"])
    assert (found.statistic, found.p_value, found.interval) == (0.0, 1.0, None)


def test_only_one_patient_with_discordant_regions():
    counts = np.array([[1, 2, 0, 0], [3, 0, 0, 1], [2, 0, 0, 0]])
    for method in ("obuchowski", "yang", "durkalski", "eliasziw"):
        assert clustered_mcnemar_of_counts(counts, method=method).statistic > 0


def test_pixels_are_refused_or_warned_of():
    mask = np.zeros((20, 20), dtype=bool)
    with pytest.raises(AgreementError, match="does not apply to masks: compare them by Dice"):
        mcnemar(mask, mask)
    with pytest.warns(UserWarning, match="10404 patients: are these pixels or regions.*use clustered_mcnemar"):
        mcnemar_of_table(np.array([[9000, 400], [4, 1000]]))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: mcnemar(np.array([0.2, 1.0]), np.array([1, 0])), r"1 of 2 values of first are neither.*first: 0\.2"),
        (lambda: mcnemar(np.array([np.nan, 1.0]), np.array([1, 0])), r"leave out patients without a value"),
        (lambda: mcnemar(np.array([1, 0, 1]), np.array([1, 0])), r"first has 3 values, second 2"),
        (lambda: mcnemar_of_table(np.array([[1, 2]])), r"shape \(1, 2\), expected \(2, 2\)"),
        (lambda: mcnemar_of_table(np.zeros((2, 2))), "holds no patients"),
        (lambda: mcnemar_of_table(np.ones((2, 2)), method="mid-p"), "method is 'mid-p', expected 'exact'"),
        (lambda: clustered_mcnemar(np.array([1, 0]), np.array([0, 0]), ["a"]), "1 entries for 2 regions"),
        (lambda: clustered_mcnemar(np.array([1, 0]), np.array([0, 0]), ["a", "a"]), r"1 patient\(s\) have regions"),
        (lambda: clustered_mcnemar_of_counts(np.ones((3, 4)), method="rao"), "method is 'rao', expected one of 'obuch"),
        (lambda: clustered_mcnemar_of_counts(np.ones((3, 2))), r"shape \(3, 2\), expected \(3, 4\)"),
    ],
)
def test_mcnemar_refuses(call, match):
    with pytest.raises(AgreementError, match=match):
        call()
