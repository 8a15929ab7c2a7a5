"""The golden values of reliability, limits, categories, consensus and calibration, through the public functions."""

import numpy as np
import pytest
from golden_values import golden, near
from scipy import stats

from mpi_unet.agreement import (
    bland_altman,
    bland_altman_replicates,
    calibration,
    clustered_mcnemar_of_counts,
    cohen_kappa_of_table,
    crossed_components,
    gwet_ac1,
    icc,
    krippendorff_alpha,
    majority_vote,
    mcnemar_of_table,
    staple,
)


def ends(interval):
    return [interval.low, interval.high]


def test_icc_shrout_fleiss_1979():
    name = "icc_shrout_fleiss_1979"
    inputs, expected = golden(name)
    for names, values in expected.items():
        for form in names.split("="):  # ICC(2,1) and ICC(A,1) are the same one
            found = icc(np.array(inputs["rows_subjects_cols_judges"]), form)
            assert found.estimate == near(name, values["icc"]), form
            assert ends(found.interval) == near(name, values["ci95"]), form
            assert [found.f, found.df1, found.df2] == near(name, [values["F"], values["df1"], values["df2"]])
            assert found.p_value == near(name, values["p"])


def test_lmm_crossed_reml_shrout_fleiss():
    name = "lmm_crossed_reml_shrout_fleiss"
    inputs, expected = golden(name)
    found = crossed_components(np.array(inputs["rows_subjects_cols_judges"]))
    pooled = {
        "var_subject": found.variance_patients,
        "var_rater": found.variance_readers,
        "var_resid": found.variance_rest,
        "intercept": found.mean.value,
        "se": found.mean_error,
        "minus2_reml": found.minus2_reml,
    }
    assert pooled == near(name, expected)


def test_bland_altman_1986_pefr():
    name = "bland_altman_1986_pefr"
    inputs, expected = golden(name)
    first, second = (np.array(inputs[key])[:, 0] for key in ("wright", "mini"))
    exact = bland_altman(first, second)
    at_1_96 = bland_altman(first, second, coverage=coverage_of(1.96))
    at_2 = bland_altman(first, second, coverage=coverage_of(2))
    of_1999 = bland_altman(first, second, limit_interval="1999")
    of_1986 = bland_altman(first, second, coverage=coverage_of(2), limit_interval="1986")
    pooled = {
        "n": exact.n,
        "bias": exact.estimate,
        "sd": exact.sd,
        "loa_z": limits(exact),
        "loa_1_96": limits(at_1_96),
        "loa_2sd_as_printed_1986": limits(at_2),
        "bias_ci95": ends(exact.interval),
        "loa_lower_ci95_1986_sqrt3": ends(of_1986.lower.interval),
        "loa_upper_ci95_1986_sqrt3": ends(of_1986.upper.interval),
        "loa_lower_ci95_BA1999": ends(of_1999.lower.interval),
        "loa_upper_ci95_BA1999": ends(of_1999.upper.interval),
        "loa_lower_ci95_exact_noncentral_t": ends(exact.lower.interval),
        "loa_upper_ci95_exact_noncentral_t": ends(exact.upper.interval),
        "paired_p": exact.p_value,
        "proportional_bias_slope": exact.slope.value,
        "proportional_bias_p": exact.slope_p,
    }
    not_ours = {"paired_t", "pearson_r"}  # of the paired t test and of Lin's concordance
    assert pooled.keys() == expected.keys() - not_ours
    for key, value in pooled.items():
        assert value == near(name, expected[key]), key


def test_bland_altman_replicates_constant_truth_zou2013():
    name = "bland_altman_replicates_constant_truth_zou2013"
    inputs, expected = golden(name)
    first, second = (np.array(inputs[key], dtype=float) for key in ("x", "y"))
    found = bland_altman_replicates(first, second, inputs["id"], truth="constant")
    pooled = {
        "bias": found.estimate,
        "sd_total": found.sd,
        "sxw2": found.within_first,
        "syw2": found.within_second,
        "sd2_means": found.variance_of_means,
        "loa": limits(found),
        "loa_lo_ci": ends(found.lower.interval),
        "loa_hi_ci": ends(found.upper.interval),
    }
    assert pooled.keys() == expected.keys()
    for key, value in pooled.items():
        assert value == near(name, expected[key]), key


def test_bland_altman_equal_replicates_sbp():
    name = "bland_altman_equal_replicates_sbp"
    inputs, expected = golden(name)
    readings = {key: np.array(inputs[key], dtype=float) for key in "JRS"}
    patients = np.repeat(np.arange(85), 3)

    def compare(first, second):
        return bland_altman_replicates(
            readings[first].ravel(), readings[second].ravel(), patients, truth="constant", coverage=coverage_of(1.96)
        )

    found = compare("J", "S")
    pooled = {
        "bias": found.estimate,
        "var_of_mean_differences": found.variance_of_means,
        "s2_within_J": found.within_first,
        "s2_within_S": found.within_second,
        "s2_within_R": compare("J", "R").within_second,
        "sd_total": found.sd,
        "loa": limits(found),
    }
    assert pooled.keys() == expected.keys()
    for key, value in pooled.items():
        assert value == near(name, expected[key]), key


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval", "ratio"])
def test_krippendorff_alpha_canonical(metric):
    name = "krippendorff_alpha_canonical"
    inputs, expected = golden(name)
    found = krippendorff_alpha(np.array(inputs["observers_by_units"], dtype=float).T, metric)
    assert found.estimate == near(name, expected[metric])
    assert (found.n, found.n_left_out, found.num_ratings) == (11, 1, 40)


def test_cohen_kappa_1960():
    name = "cohen_kappa_1960"
    inputs, expected = golden(name)
    table = np.array(inputs["table"])
    found = cohen_kappa_of_table(table)
    pooled = {
        "kappa": found.estimate,
        "po": found.observed,
        "pe": found.expected,
        "se": found.standard_error,
        "se0": found.null_error,
        "ci95": ends(found.interval),
        "weighted_kappa_quadratic": cohen_kappa_of_table(table, weights="quadratic").estimate,
    }
    assert pooled.keys() == expected.keys()
    for key, value in pooled.items():
        assert value == near(name, expected[key]), key


def test_mcnemar_approval():
    name = "mcnemar_approval"
    inputs, expected = golden(name)
    corrected, plain, exact = (
        mcnemar_of_table(np.array(inputs["table"]), method=method) for method in ("corrected", "plain", "exact")
    )
    pooled = {
        "chi2_cc": corrected.statistic,
        "p_cc": corrected.p_value,
        "chi2": plain.statistic,
        "p": plain.p_value,
        "p_exact": exact.p_value,
    }
    assert pooled == near(name, expected)


def test_mcnemar_clustered_pet_spect():
    name = "mcnemar_clustered_pet_spect"
    inputs, expected = golden(name)
    counts = np.array(inputs["ak_bk_ck_dk"])
    for method in ("eliasziw", "durkalski", "obuchowski", "yang"):
        found = clustered_mcnemar_of_counts(counts, method=method)
        assert {"chi2": found.statistic, "p": found.p_value} == near(name, expected[method]), method
    both, first, second, neither = counts.sum(axis=0)
    naive = mcnemar_of_table(np.array([[both, first], [second, neither]]), method="plain")
    assert {"chi2": naive.statistic, "p": naive.p_value} == near(name, expected["mcnemar"])


def test_staple_binary_toy():
    name = "staple_binary_toy"
    inputs, expected = golden(name)
    decisions = np.array(inputs["decisions_5x60_reshape_6x10"]).reshape(5, 6, 10).astype(bool)
    masks = dict(zip("ABCDE", decisions, strict=True))
    found = staple(masks)
    pooled = {
        "W": found.probability.ravel().tolist(),
        "sensitivity": [reader.sensitivity for reader in found.per_reader],
        "specificity": [reader.specificity for reader in found.per_reader],
        "prior": found.prior,
        "n_staple": found.consensus.volume_voxels,
        "n_majority": majority_vote(masks).volume_voxels,
    }
    assert pooled.keys() == expected.keys()
    for key, value in pooled.items():
        assert value == near(name, expected[key]), key


def test_calibration_toy():
    name = "calibration_toy"
    inputs, expected = golden(name)
    target = np.array(inputs["y"], dtype=bool)
    found = calibration(np.array(inputs["p"]), target, np.ones_like(target), num_bins=inputs["n_bins"])
    pooled = {"ece": found.estimate, "mce": found.mce, "brier": found.brier, "nll": found.log_loss}
    assert pooled == near(name, expected)


def test_kappa_dice_background_limit():
    """As background grows the kappa of pixels becomes Dice and AC1 becomes 1: neither adds anything on masks."""
    name = "kappa_dice_background_limit"
    inputs, expected = golden(name)
    tp, fp, fn = inputs["TP"], inputs["FP"], inputs["FN"]
    for tn, kappa, accuracy in zip(inputs["TN"], expected["kappa"], expected["accuracy"], strict=True):
        found = cohen_kappa_of_table(np.array([[tp, fp], [fn, tn]]))
        assert [found.estimate, found.observed] == near(name, [kappa, accuracy])
    assert found.estimate == pytest.approx(expected["dice"], abs=1e-4)
    pixels = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [tp, fp, fn, 5000], axis=0)
    assert gwet_ac1(pixels).estimate == pytest.approx(1, abs=0.01)


# --- Helpers ---


def limits(found):
    return [found.lower.value, found.upper.value]


def coverage_of(z):
    """Some print 1.96, or 2, instead of the normal quantile."""
    return float(stats.norm.cdf(z) - stats.norm.cdf(-z))
