"""Agreement statistics against what textbooks and papers print; the source stands in each test.

The expected numbers were written down before anything was run. Most have the digits that the source prints; where the
tolerance is wider, the source rounds in between (Bland & Altman) or draws at random (the bootstrap).
"""

import math

import numpy as np
import pytest

from mpi_unet.agreement import (
    adjusted_p_values,
    bca_bootstrap,
    bland_altman,
    cohen_kappa,
    cohen_kappa_of_table,
    failure_rate,
    fleiss_kappa,
    gwet_ac1,
    holm,
    icc,
    krippendorff_alpha,
    lin_ccc,
    mcnemar_of_table,
    nadeau_bengio,
    paired_t,
    ratings_of_counts,
    sem,
    sign_flip_test,
    tost_paired,
    wilcoxon_signed_rank,
)

WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Peak expiratory flow by two meters, l/min: Bland & Altman 1986, Lancet 327:307-310, table 1, first readings."""

DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
"""Height of crossed less self-fertilized maize, 1/8 inch: Fisher 1935, The Design of Experiments, chapter 3."""

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Additional hours of sleep, one drug less the other: Student 1908, Biometrika 6:1-25."""

DEPRESSION_BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
DEPRESSION_AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
"""Hamilton scale before and after a tranquilizer: Hollander & Wolfe 1973, table 3.1."""

SPATIAL_TEST_A = "48 36 20 29 42 42 20 42 22 41 45 14 6 0 33 28 34 4 32 24 47 41 24 26 30 41"
"""26 children: Efron & Tibshirani 1993, An Introduction to the Bootstrap, table 14.1."""

CODERS = """
. . . . . 3 4 1 2 1 1 3 3 . 3
1 . 2 1 3 3 4 3 . . . . . . .
. . 2 1 3 4 4 . 2 1 1 3 3 . 4
"""
"""Three coders, 15 units: the example of the encyclopedia article and of the Python package on Krippendorff's alpha."""


def ends(interval):
    return interval.low, interval.high


def with_moments(n, mean, sd):
    """Numbers of exactly this mean and standard deviation; which ones makes no difference to what is tested."""
    values = np.random.default_rng(0).normal(size=n)
    return mean + sd * (values - values.mean()) / values.std(ddof=1)


def test_limits_of_agreement_of_1986():
    """Bland & Altman 1986: limits at two SD -79.7 and 75.5, their intervals -114.3..-45.1 and 40.9..110.1."""
    two_sd = math.erf(2 / math.sqrt(2))
    found = bland_altman(np.array(WRIGHT), np.array(MINI), coverage=two_sd, limit_interval="1986")
    assert (found.estimate, found.sd) == pytest.approx((-2.1, 38.8), abs=0.05)
    assert ends(found.interval) == pytest.approx((-22.0, 17.8), abs=0.1)
    assert (found.lower.value, found.upper.value) == pytest.approx((-79.7, 75.5), abs=0.15)
    assert ends(found.lower.interval) == pytest.approx((-114.3, -45.1), abs=0.3)
    assert ends(found.upper.interval) == pytest.approx((40.9, 110.1), abs=0.3)


def test_limits_of_agreement_of_1999():
    """Bland & Altman 1999, Stat Methods Med Res 8:135-160, section 2: systolic blood pressure, 85 subjects.

    They add the half width to limits that are rounded already, hence the tolerance.
    """
    other = np.linspace(90, 200, 85)
    found = bland_altman(other + with_moments(85, -16.29, 19.61), other, limit_interval="1999")
    assert (found.lower.value, found.upper.value) == pytest.approx((-54.7, 22.1), abs=0.1)
    assert ends(found.interval) == pytest.approx((-20.5, -12.1), abs=0.05)
    assert ends(found.lower.interval) == pytest.approx((-61.9, -47.5), abs=0.1)
    assert ends(found.upper.interval) == pytest.approx((14.9, 29.3), abs=0.12)


def test_kappa_of_psychiatric_diagnoses():
    """Fleiss, Levin & Paik 2003, Statistical Methods for Rates and Proportions, table 18.1: kappa .68, z 8.95."""
    found = cohen_kappa_of_table(np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    assert (found.observed, found.expected) == pytest.approx((0.89, 0.66))
    assert found.estimate == pytest.approx(0.676, abs=5e-4)
    assert found.null_error == pytest.approx(0.076, abs=5e-4)
    assert pytest.approx(8.95, abs=5e-3) == 0.68 / 0.076


def test_weighted_kappa_of_skin_conditions():
    """SAS/STAT User's Guide, PROC FREQ, example "Cohen's Kappa Coefficient": 88 patients, two dermatologists."""
    table = np.array([[10, 4, 1, 0], [5, 10, 12, 2], [2, 4, 12, 5], [0, 2, 6, 13]])
    simple, weighted = cohen_kappa_of_table(table), cohen_kappa_of_table(table, weights="linear")
    assert (simple.estimate, simple.standard_error) == pytest.approx((0.3449, 0.0724), abs=5e-5)
    assert ends(simple.interval) == pytest.approx((0.2030, 0.4868), abs=1e-4)
    assert (weighted.estimate, weighted.standard_error) == pytest.approx((0.5082, 0.0655), abs=5e-5)
    assert ends(weighted.interval) == pytest.approx((0.3798, 0.6366), abs=1e-4)


def test_kappa_of_two_pathologists():
    """Agresti, Categorical Data Analysis, carcinoma of the uterine cervix, 118 slides: kappa .493, ASE .057."""
    table = np.array([[22, 2, 2, 0], [5, 7, 14, 0], [0, 2, 36, 0], [0, 1, 17, 10]])
    found = cohen_kappa_of_table(table)
    assert (found.estimate, found.standard_error) == pytest.approx((0.493, 0.057), abs=5e-4)


def test_fleiss_kappa_of_fourteen_readers():
    """The worked example of the encyclopedia article on Fleiss's kappa: 10 subjects, 14 raters, .210."""
    counts = """
    0 0 0 0 14  0 2 6 4 2  0 0 3 5 6  0 3 9 2 0  2 2 8 1 1  7 7 0 0 0  3 2 6 3 0  2 5 3 2 2  6 5 2 1 0  0 2 2 3 7
    """
    found = fleiss_kappa(ratings_of_counts(np.array(counts.split(), dtype=int).reshape(10, 5)))
    assert (found.observed, found.expected) == pytest.approx((0.378, 0.213), abs=5e-4)
    assert found.estimate == pytest.approx(0.210, abs=5e-4)


def test_the_paradox_of_kappa():
    """Feinstein & Cicchetti 1990, J Clin Epidemiol 43:543-549 (46 of 52 and 40 of 52): kappa falls, agreement does not.

    Table 118, 5, 2, 0: Gwet 2002, Kappa Statistic is not Satisfactory: kappa -.023, AC1 .94.
    """
    balanced = cohen_kappa_of_table(np.array([[40, 9], [6, 45]]))
    skewed = cohen_kappa_of_table(np.array([[80, 10], [5, 5]]))
    assert (balanced.observed, skewed.observed) == pytest.approx((0.85, 0.85))
    assert (balanced.estimate, skewed.estimate) == pytest.approx((0.70, 0.32), abs=5e-3)
    first, second = np.repeat([1, 1, 0], [118, 5, 2]), np.repeat([1, 0, 1], [118, 5, 2])
    assert cohen_kappa(first, second).estimate == pytest.approx(-0.023, abs=5e-4)
    assert gwet_ac1(np.stack([first, second], axis=1)).estimate == pytest.approx(0.94, abs=5e-3)


def test_krippendorff_of_two_observers_in_his_words():
    """Krippendorff 2011, Computing Krippendorff's Alpha-Reliability: sections A (.095) and B (.692)."""
    binary = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]).T
    assert krippendorff_alpha(binary).estimate == pytest.approx(0.095, abs=5e-4)
    words = np.array([list("aabbdcccedda"), list("babbbccceddd")], dtype=object).T
    assert krippendorff_alpha(words).estimate == pytest.approx(0.692, abs=5e-4)


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.691), ("ordinal", 0.807), ("interval", 0.811)])
def test_krippendorff_with_missing_ratings(metric, alpha):
    cells = [math.nan if cell == "." else float(cell) for cell in CODERS.split()]
    found = krippendorff_alpha(np.array(cells).reshape(3, 15).T, metric)
    assert found.estimate == pytest.approx(alpha, abs=5e-4)
    assert (found.n, found.n_left_out, found.num_ratings) == (12, 3, 26)


def test_mcnemar_of_severe_colds():
    """Altman 1991, section 10.7.5 (after Holland et al. 1978): 1319 children at 12 and at 14; .085, .056 to .114."""
    table = np.array([[212, 144], [256, 707]])
    assert mcnemar_of_table(table, method="plain").statistic == pytest.approx(31.36, abs=5e-3)
    found = mcnemar_of_table(table, method="corrected")
    assert found.statistic == pytest.approx(30.80, abs=5e-3)
    assert found.estimate == pytest.approx(-0.085, abs=5e-4)
    assert ends(found.interval) == pytest.approx((-0.114, -0.056), abs=5e-4)


def test_mcnemar_exact():
    """Discordant 6 and 16, the example of the encyclopedia article: exact .0525, chi-square 4.55 with p .033."""
    table = np.array([[59, 6], [16, 80]])
    assert mcnemar_of_table(table).p_value == pytest.approx(0.0525, abs=5e-5)
    plain = mcnemar_of_table(table, method="plain")
    assert (plain.statistic, plain.p_value) == pytest.approx((4.55, 0.033), abs=5e-3)


def test_sleep_of_student():
    """As R prints for its data set sleep: t 4.0621 with 9 degrees of freedom, p .002833, 1.58 (.7001142..2.4598858)."""
    found = paired_t(np.array(SLEEP))
    assert (found.statistic, found.p_value) == pytest.approx((4.0621, 0.002833), abs=5e-5)
    assert (found.estimate, *ends(found.interval)) == pytest.approx((1.58, 0.7001142, 2.4598858), abs=1e-6)


def test_maize_of_darwin():
    """Fisher 1935, section 17: t 2.148; section 21: 863 of 32,768 sums are 314 or more, so 5.267 % both ways."""
    t, permutation = paired_t(np.array(DARWIN)), sign_flip_test(np.array(DARWIN))
    assert t.statistic == pytest.approx(2.148, abs=5e-4)
    assert t.p_value == pytest.approx(0.0497, abs=5e-5)
    assert permutation.p_value == 1726 / 2**15
    assert sign_flip_test(np.array(DARWIN), alternative="greater").p_value == 863 / 2**15


def test_tranquilizer_of_hollander_and_wolfe():
    """Hollander & Wolfe 1973: T+ 40, one-sided p .0195, estimate of the shift .46, interval .010 to .786 (96.1 %)."""
    found = wilcoxon_signed_rank(np.array(DEPRESSION_BEFORE), np.array(DEPRESSION_AFTER))
    assert found.statistic == 40
    assert found.p_value == pytest.approx(2 * 0.0195, abs=1e-4)
    assert (found.estimate, *ends(found.interval)) == pytest.approx((0.46, 0.010, 0.786), abs=1e-9)


def test_tost_is_the_inclusion_of_the_90_percent_interval():
    """Westlake's rule as Schuirmann 1987 shows: at alpha .05 the interval (1 - 2 alpha) lies inside the margin."""
    found = tost_paired(np.array(SLEEP), margin=2.3, alpha=0.05)
    assert found.interval.level == pytest.approx(0.90)
    assert ends(found.interval) == pytest.approx((0.866995, 2.293005), abs=1e-6)
    assert found.equivalent
    assert not tost_paired(np.array(SLEEP), margin=2.29, alpha=0.05).equivalent


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (10, 20, 0.2720, 0.7280),
        (0, 100, 0.0, 0.0362),
        (1, 100, 0.0003, 0.0545),
        (30, 30, 0.8843, 1.0),
    ],
)
def test_tables_of_clopper_and_pearson(count, n, low, high):
    """Documenta Geigy, Scientific Tables, exact confidence limits for p."""
    found = failure_rate(np.arange(n) < count)
    assert ends(found.interval) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("n", [30, 100, 300])
def test_if_nothing_goes_wrong_is_everything_all_right(n):
    """Hanley & Lippman-Hand 1983, JAMA 249:1743-1745: no event among n leaves 3/n possible."""
    assert failure_rate(np.zeros(n, dtype=bool)).upper95 == pytest.approx(3 / n, rel=0.05)


def test_holm_and_false_discovery():
    """Four p-values of the encyclopedia article on Holm's method; 15 of Benjamini & Hochberg 1995, section 3.2."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).adjusted == pytest.approx((0.03, 0.06, 0.06, 0.02))
    thrombolysis = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    thrombolysis = np.array([*thrombolysis, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0])
    claims = {
        method: sum(p <= 0.05 for p in adjusted_p_values(thrombolysis, method).adjusted)
        for method in ("holm", "bonferroni", "bh")
    }
    assert claims == {"holm": 3, "bonferroni": 3, "bh": 4}


def test_corrected_resampled_t_of_tenfold_cross_validation():
    """Nadeau & Bengio 2003: 1/k + n2/n1 in place of 1/k; tenfold, that is 1/10 + 1/9 (Bouckaert & Frank 2004)."""
    differences = with_moments(10, 0.02, 0.03)
    found = nadeau_bengio(differences, n_train=90, n_test=10)
    assert found.statistic == pytest.approx(0.02 / (0.03 * math.sqrt(1 / 10 + 1 / 9)))
    assert found.degrees_of_freedom == 9


def test_bca_of_a_variance():
    """Efron & Tibshirani 1993, table 14.2: variance 171.5, 90 % interval (115.8, 259.6), acceleration .061."""
    values = np.array(SPATIAL_TEST_A.split(), dtype=float)
    found = bca_bootstrap(values, np.var, level=0.90, resamples=20_000)
    assert found.value == pytest.approx(171.5, abs=0.05)
    assert ends(found.interval) == pytest.approx((115.8, 259.6), abs=4)
    assert found.acceleration == pytest.approx(0.061, abs=5e-4)


def test_six_forms_of_shrout_and_fleiss():
    """Shrout & Fleiss 1979, table 4: .17, .29, .71, .44, .62, .91."""
    table = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    printed = {"1,1": 0.17, "2,1": 0.29, "3,1": 0.71, "1,4": 0.44, "2,4": 0.62, "3,4": 0.91}
    for form, value in printed.items():
        assert icc(table, f"ICC({form})").estimate == pytest.approx(value, abs=5e-3), form


def test_repeatability_of_the_flow_meters():
    """Bland & Altman 1986: repeatability is 1.96 sqrt(2) times the SD within subjects, from duplicate readings."""
    duplicates = np.array([[494, 490], [395, 397], [516, 512], [434, 401], [476, 470], [557, 611]])
    within = math.sqrt((np.diff(duplicates)[:, 0] ** 2).sum() / (2 * len(duplicates)))
    found = sem(duplicates, "one-way")
    assert found.estimate == pytest.approx(within)
    assert found.smallest_detectable_difference.value == pytest.approx(1.959964 * math.sqrt(2) * within)


def test_concordance_is_kappa_with_squared_weights():
    """King & Chinchilli 2001, Stat Med 20:2131-2147: on whole scores the two are the same number."""
    table = np.array([[10, 4, 1, 0], [5, 10, 12, 2], [2, 4, 12, 5], [0, 2, 6, 13]])
    first, second = (np.repeat(index.ravel(), table.ravel()).astype(float) for index in np.indices(table.shape))
    expected = cohen_kappa_of_table(table, weights="quadratic").estimate
    assert lin_ccc(first, second).estimate == pytest.approx(expected, abs=1e-12)
