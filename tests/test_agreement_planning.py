"""Sample sizes: the published table, power by simulation and by other routes, and what a plan says besides."""

import numpy as np
import pytest
from scipy import integrate, stats

from mpi_unet.agreement import (
    noninferiority_power,
    patients_needed,
    plan,
    reader_spread,
    sd_upper_limit,
    tost_paired,
    tost_power,
)
from mpi_unet.errors import AgreementError

# Patients for 80 % / 90 % power; rows: true difference, alpha, margin; columns: SD 0.03, 0.04, 0.05.
TABLE = {
    (0.0, 0.025, 0.02): ["26/32", "44/54", "68/84"],
    (0.0, 0.025, 0.03): ["13/16", "21/26", "32/39"],
    (0.0, 0.025, 0.05): ["6/7", "9/11", "13/16"],
    (0.0, 0.05, 0.02): ["21/26", "36/45", "55/70"],
    (0.0, 0.05, 0.03): ["11/13", "17/21", "26/32"],
    (0.0, 0.05, 0.05): ["5/6", "8/9", "11/13"],
    (-0.005, 0.025, 0.02): ["34/45", "59/77", "90/119"],
    (-0.005, 0.025, 0.03): ["14/18", "24/30", "36/45"],
    (-0.005, 0.025, 0.05): ["7/8", "10/11", "14/16"],
    (-0.005, 0.05, 0.02): ["27/36", "47/63", "72/97"],
    (-0.005, 0.05, 0.03): ["12/15", "19/24", "28/37"],
    (-0.005, 0.05, 0.05): ["5/6", "8/9", "11/13"],
    (-0.01, 0.025, 0.02): ["73/97", "128/171", "199/265"],
    (-0.01, 0.025, 0.03): ["20/26", "34/44", "52/68"],
    (-0.01, 0.025, 0.05): ["7/9", "11/13", "15/19"],
    (-0.01, 0.05, 0.02): ["58/79", "101/139", "156/216"],
    (-0.01, 0.05, 0.03): ["16/21", "27/36", "41/55"],
    (-0.01, 0.05, 0.05): ["6/7", "9/11", "12/15"],
}


@pytest.mark.parametrize(("true_delta", "alpha", "margin"), TABLE)
def test_the_published_table(true_delta, alpha, margin):
    found = plan(margin=margin, sd=[0.03, 0.04, 0.05], true_delta=true_delta, alpha=alpha)
    sizes = [row.n for row in found.rows if row.claim == "equivalence"]
    assert [f"{sizes[2 * column]}/{sizes[2 * column + 1]}" for column in range(3)] == TABLE[true_delta, alpha, margin]


def power_by_quad(n, margin, sd, delta, alpha):
    """The integral over the observed variance, by an adaptive rule."""
    error, quantile, freedom = sd / np.sqrt(n), stats.t.ppf(1 - alpha, n - 1), n - 1

    def inside(chi2):
        room = margin - quantile * error * np.sqrt(chi2 / freedom)
        return stats.chi2.pdf(chi2, freedom) * (
            stats.norm.cdf((room - delta) / error) - stats.norm.cdf((-room - delta) / error)
        )

    limit = freedom * (margin / (quantile * error)) ** 2
    return integrate.quad(inside, 0, min(limit, freedom + 60 * np.sqrt(freedom) + 100), epsabs=1e-10, limit=500)[0]


@pytest.mark.parametrize("n", [2, 3, 5, 12, 40, 300])
@pytest.mark.parametrize("delta", [0.0, -0.01, 0.019])
def test_power_equals_adaptive_integration(n, delta):
    for sd in (0.01, 0.04, 0.1):
        found = tost_power(n, margin=0.02, sd=sd, true_delta=delta)
        assert found == pytest.approx(power_by_quad(n, 0.02, sd, delta, 0.025), abs=2e-5)


def test_power_is_the_share_of_studies_that_make_the_claim():
    rng = np.random.default_rng(0)
    studies = rng.normal(-0.005, 0.04, (1500, 60))
    made = np.mean([tost_paired(d, margin=0.02).equivalent for d in studies])
    assert made == pytest.approx(tost_power(60, margin=0.02, sd=0.04, true_delta=-0.005), abs=0.03)


def test_noninferiority_power_equals_statsmodels():
    from statsmodels.stats.power import TTestPower

    for n, delta in [(10, 0.0), (40, -0.005), (100, -0.01)]:
        oracle = TTestPower().power((delta + 0.02) / 0.04, n, 0.025, alternative="larger")
        assert noninferiority_power(n, margin=0.02, sd=0.04, true_delta=delta) == pytest.approx(oracle)


def test_power_at_the_margin_is_alpha_and_grows_with_patients():
    assert tost_power(400, margin=0.02, sd=0.04, true_delta=-0.02) == pytest.approx(0.025, abs=1e-6)
    powers = [tost_power(n, margin=0.02, sd=0.04) for n in (10, 20, 50, 100, 500)]
    assert powers == sorted(powers)
    assert powers[-1] == pytest.approx(1)
    assert tost_power(1, margin=0.02, sd=0.04) == noninferiority_power(1, margin=0.02, sd=0.04) == 0


def test_noninferiority_never_needs_more_patients():
    for delta in (0.0, -0.005, -0.01, 0.005):
        options = {"margin": 0.02, "sd": 0.04, "true_delta": delta}
        assert patients_needed(**options, claim="noninferiority") <= patients_needed(**options)


@pytest.mark.parametrize("power", [0.8, 0.9])
def test_the_number_is_the_smallest(power):
    n = patients_needed(margin=0.02, sd=0.04, power=power)
    assert tost_power(n - 1, margin=0.02, sd=0.04) < power <= tost_power(n, margin=0.02, sd=0.04)


@pytest.mark.parametrize("true_delta", [-0.02, -0.03, 0.02])
def test_a_difference_on_or_beyond_the_margin_cannot_be_planned_for(true_delta):
    assert patients_needed(margin=0.02, sd=0.04, true_delta=true_delta) is None
    found = plan(true_delta=true_delta, power=0.8)
    assert (found.rows[0].n, found.rows[0].power) == (None, None)
    assert "no number of patients reaches the power" in " ".join(found.cautions)


def test_a_pilot_of_few_patients_is_planned_with_its_upper_limit():
    assert sd_upper_limit(0.04, 20) == pytest.approx(0.04 * np.sqrt(19 / stats.chi2.ppf(0.2, 19)))
    found = plan(sd=0.04, true_delta=-0.005, power=0.8, pilot_patients=20)
    sizes = [row.n for row in found.rows if row.claim == "equivalence"]
    assert sizes == [59, patients_needed(margin=0.02, sd=sd_upper_limit(0.04, 20), true_delta=-0.005)]


def test_readers_in_general_take_more_patients_or_cannot_be_had():
    found = plan(true_delta=0.0, power=0.8, num_readers=8, reader_sd=0.01)
    these, general = (row.n for row in found.rows if row.claim == "equivalence")
    assert these == 44 < general
    few = plan(true_delta=0.0, power=0.8, num_readers=3, reader_sd=0.02)
    assert [row.n for row in few.rows if row.claim == "equivalence"] == [44, None]


def test_planned_power_with_readers_is_near_what_studies_reach():
    rng = np.random.default_rng(1)
    sd, reader_sd, num_readers, n, runs = 0.04, 0.01, 8, 70, 800
    made = 0
    for _ in range(runs):
        effects = rng.normal(0, reader_sd, num_readers)
        shared = rng.normal(0, sd, n)
        without = [shared.mean() + np.delete(effects, reader).mean() for reader in range(num_readers)]
        interval = reader_spread(shared + effects.mean(), np.array(without)).interval
        made += interval.low > -0.02 and interval.high < 0.02
    rows = plan(sd=sd, true_delta=0.0, power=0.8, num_readers=num_readers, reader_sd=reader_sd).rows
    assert rows[1].scope == "readers in general"
    assert 60 <= rows[1].n <= 75
    assert made / runs == pytest.approx(0.81, abs=0.06)


def test_cautions_say_what_the_table_leaves_out():
    plain = plan(true_delta=0.0, power=0.8)
    assert len(plain.cautions) == 1
    assert "must come from a pilot with other patients" in plain.cautions[0]
    failing = " ".join(plan(true_delta=0.0, power=0.8, failure_share=0.02).cautions)
    assert "failures in 2 % of patients the table is optimistic" in failing
    assert "44 patients show no failure at all in 41 % of studies" in failing
    assert "about these two" in " ".join(plan(num_readers=2).cautions)
    assert "needs five or more" in " ".join(plan(num_readers=3).cautions)
    assert "without reader_sd of a pilot" in " ".join(plan(num_readers=5).cautions)
    assert "fewer than 30 patients no claim" in " ".join(plan(margin=0.05).cautions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 0.0}, r"margin is 0\.0, expected a positive number"),
        ({"sd": [0.04, -1.0]}, r"sd is -1\.0, expected a positive number"),
        ({"alpha": 0.95}, r"alpha is 0\.95, expected a one-sided level"),
        ({"power": 80.0}, r"power is 80\.0, expected a chance in \(0, 1\) such as 0\.8"),
        ({"failure_share": 2.0}, r"failure_share is 2\.0, expected a share of patients in \[0, 1\)"),
        ({"num_readers": 1}, r"num_readers is 1, expected two or more: every patient needs two reads"),
        ({"reader_sd": 0.0}, r"reader_sd is 0\.0, expected a positive number"),
        ({"pilot_patients": 1}, r"pilot_patients is 1 and level 0\.8, expected two patients or more"),
    ],
)
def test_plans_that_make_no_sense_are_refused(options, message):
    with pytest.raises(AgreementError, match=message):
        plan(**options)
