"""The golden values of panels, paired tests, recipes and failures, through the public functions."""

import numpy as np
import pytest
from golden_values import golden, near

from mpi_unet.agreement import (
    adjusted_p_values,
    bca_bootstrap,
    failure_rate,
    holm,
    individual_equivalence,
    nadeau_bengio,
    noninferiority_paired,
    paired_t,
    pairs_matrix,
    panel,
    sign_flip_test,
    tost_paired,
    wilcoxon_signed_rank,
    williams_index,
)
from mpi_unet.agreement import chalana_kim_index as chalana_kim


def ends(interval):
    return [interval.low, interval.high]


def test_panel_delta_toy():
    name = "panel_delta_toy"
    inputs, expected = golden(name)
    network, pairs = np.array(inputs["net_expert"]), pairs_matrix(np.array(inputs["expert_pairs_12_13_23"]))
    found = panel(network, pairs, ["A", "B", "C"], margin=0.02)
    spread = found.reader_spread
    pooled = {
        "P0": found.P0.value,
        "Pn": found.Pn.value,
        "delta": found.delta.value,
        "se_patient": spread.variance_patients**0.5,
        "ci_patient": ends(found.delta.interval),
        "lb95_patient": panel(network, pairs, ["A", "B", "C"], alpha=0.05).delta.interval.low,
        "jack_reader": list(spread.without_reader),
        "var_reader": spread.variance_readers,
        "var_total": spread.variance_patients + spread.variance_readers,
        "df": spread.degrees_of_freedom,
        "ci_patient_reader": ends(found.reader_interval),
        "williams": found.williams.value,
        "williams_jk_se": found.williams.jackknife_se,
        "williams_ci_t": ends(found.williams.jackknife_interval),
        "chalana_kim_modified": found.chalana_kim.value,
        "p_ni_02": found.p_noninferior,
        "p_tost_02": found.p_tost,
        "p_two_sided": paired_t(np.array(found.p0), np.array(found.pn)).p_value,
    }
    assert pooled.keys() == expected.keys()
    for key, value in expected.items():
        assert pooled[key] == near(name, value), key
    assert williams_index(network, pairs) == found.williams
    assert chalana_kim(network, pairs) == found.chalana_kim


def test_tost_paired_sleep():
    name = "tost_paired_sleep"
    inputs, expected = golden(name)
    x, y, margin = np.array(inputs["x"]), np.array(inputs["y"]), inputs["margin"]
    test, null = tost_paired(x, y, margin=margin, alpha=0.05), paired_t(x, y)
    found = {
        "n": test.n,
        "mean_diff": test.estimate,
        "sd_diff": test.sd,
        "t_lower": test.t_lower,
        "p_lower": test.p_lower,
        "t_upper": test.t_upper,
        "p_upper": test.p_upper,
        "p_tost": test.p_value,
        "ci90": ends(test.interval),
        "t0": null.statistic,
        "p0": null.p_value,
        "ci95": ends(null.interval),
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == near(name, value), key
    assert noninferiority_paired(x, y, margin=margin).p_value == near(name, expected["p_lower"])


def test_nadeau_bengio_corrected_resampled_t():
    name = "nadeau_bengio_corrected_resampled_t"
    inputs, expected = golden(name)
    a, b, sizes = np.array(inputs["a"]), np.array(inputs["b"]), {key: inputs[key] for key in ("n_train", "n_test")}
    test, first5 = nadeau_bengio(a, b, **sizes), nadeau_bengio((a - b)[:5], **sizes)
    found = {
        "t": test.statistic,
        "df": test.degrees_of_freedom,
        "p_two_sided": test.p_value,
        "p_one_sided": test.p_greater,
        "naive_t": paired_t(a, b).statistic,
        "naive_p": test.naive_p,
        "mean": test.estimate,
        "var": np.var(a - b, ddof=1),
        "first5_t": first5.statistic,
        "first5_p": first5.p_value,
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == near(name, value), key


def test_wilcoxon_exact_hollander_wolfe():
    name = "wilcoxon_exact_hollander_wolfe"
    inputs, expected = golden(name)
    x, y = np.array(inputs["x"]), np.array(inputs["y"])
    test = wilcoxon_signed_rank(x, y)
    found = {
        "V": test.statistic,
        "p_two_sided": test.p_value,
        "p_greater": wilcoxon_signed_rank(x, y, alternative="greater").p_value,
        "hodges_lehmann": test.estimate,
        "ci95_HL": ends(test.interval),
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == near(name, value), key


def test_sign_flip_permutation_mean():
    name = "sign_flip_permutation_mean"
    inputs, expected = golden(name)
    x, y = np.array(inputs["x"]), np.array(inputs["y"])
    test = sign_flip_test(x, y)
    greater = sign_flip_test(x, y, alternative="greater")
    assert [test.estimate, test.p_value, greater.p_value] == near(name, list(expected.values()))


def test_bca_bootstrap_spatial():
    name = "bca_bootstrap_spatial"
    inputs, expected = golden(name)
    values = np.array(inputs["A"], dtype=float)
    found = bca_bootstrap(values, np.var, level=inputs["level"], resamples=40_000, seed=1)
    assert found.value == near(name, expected["theta"], "theta")
    assert found.acceleration == near(name, expected["acceleration"], "acceleration")
    assert ends(found.interval) == near(name, expected["bca90"], "interval")


def test_holm_bh():
    name = "holm_bh"
    inputs, expected = golden(name)
    for method, adjusted in expected.items():
        assert adjusted_p_values(np.array(inputs["p"]), method).adjusted == near(name, tuple(adjusted))
    assert holm(np.array(inputs["p"])).adjusted == near(name, tuple(expected["holm"]))


def test_clopper_pearson_failures():
    name = "clopper_pearson_failures"
    inputs, expected = golden(name)
    for (count, n), interval in zip(inputs["k_n"], expected["ci95"], strict=True):
        assert ends(failure_rate(np.arange(n) < count).interval) == near(name, interval)
    upper = [failure_rate(np.zeros(n, dtype=bool)).upper95 for n in (20, 50, 100)]
    assert upper == near(name, expected["one_sided95_upper_zero_of_20_50_100"])


def test_coefficient_individual_agreement_sbp():
    name = "coefficient_individual_agreement_sbp"
    expected = golden(name)[1]
    inputs = golden("bland_altman_equal_replicates_sbp")[0]
    j, r, s = (np.array(inputs[reader], dtype=float) for reader in "JRS")

    def compared(*methods, reference=None):
        return individual_equivalence(np.stack(methods, axis=1), reference=reference, resamples=200)

    everyone = compared(j, r, s)
    found = {
        "intra": list(everyone.intra),
        "inter": [everyone.inter[0][1], everyone.inter[0][2], everyone.inter[1][2]],
        "psiN_JR": compared(j, r).psi_n.value,
        "psiN_JS": compared(j, s).psi_n.value,
        "psiN_JRS": everyone.psi_n.value,
        "psiR_S_refJ": compared(j, s, reference=0).psi_r.value,
        "psiR_R_refJ": compared(j, r, reference=0).psi_r.value,
        "iei_S_vs_JR": everyone.extra_disagreement,
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == near(name, value), key


@pytest.mark.parametrize("entry", ["panel_delta_toy", "tost_paired_sleep"])
def test_an_entry_that_moved_would_be_noticed(entry):
    """The comparison itself: a value off by ten tolerances fails."""
    expected = next(value for value in golden(entry)[1].values() if isinstance(value, float))
    assert expected + 1e-5 != near(entry, expected)
