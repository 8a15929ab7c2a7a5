"""A panel of readers: plain loops, relations between its numbers, and what it refuses or says it cannot tell."""

from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mpi_unet.agreement import (
    average_cases,
    chalana_kim_index,
    failure_rate,
    pairs_matrix,
    panel,
    panel_of_cases,
    reader_spread,
    verdict_of,
    williams_index,
)
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval, bootstrap_t_interval

NAMES = "ABCDEFGH"


def scores(n=12, num_readers=3, seed=0, low=0.8):
    """Scores of a network and of pairs of readers, without any structure."""
    rng = np.random.default_rng(seed)
    pairs = pairs_matrix(rng.uniform(low, 1, (n, num_readers * (num_readers - 1) // 2)))
    return rng.uniform(low, 1, (n, num_readers)), pairs, list(NAMES[:num_readers])


def quick(network, pairs, readers, **options):
    return panel(network, pairs, readers, **{"resamples": 200, **options})


def ends(interval):
    return interval.low, interval.high


# --- The numbers ---


@pytest.mark.parametrize("num_readers", [2, 3, 5])
def test_panel_equals_plain_loops(num_readers):
    network, pairs, readers = scores(num_readers=num_readers)
    found = quick(network, pairs, readers)
    d = []
    for row in range(len(network)):
        p0 = np.mean([network[row, reader] for reader in range(num_readers)])
        pn = np.mean([pairs[row, a, b] for a, b in combinations(range(num_readers), 2)])
        assert (found.p0[row], found.pn[row]) == pytest.approx((p0, pn))
        d.append(p0 - pn)
    assert found.d == pytest.approx(d)
    oracle = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert found.delta.value == pytest.approx(np.mean(d))
    assert ends(found.delta.interval) == pytest.approx((oracle.low, oracle.high))
    assert found.delta_bootstrap_t.interval == bootstrap_t_interval(np.array(found.d), resamples=200, seed=0)


def test_leave_one_reader_out_equals_plain_loops():
    network, pairs, readers = scores(num_readers=4)
    for place, entry in enumerate(quick(network, pairs, readers).leave_one_out):
        others = [other for other in range(4) if other != place]
        expected = [np.mean([network[row, k] - pairs[row, place, k] for k in others]) for row in range(len(network))]
        assert entry.reader == readers[place]
        assert entry.delta.value == pytest.approx(np.mean(expected))
        assert ends(entry.delta.interval) == pytest.approx(stats.ttest_1samp(expected, 0).confidence_interval(0.95))


def test_leave_one_out_averages_to_delta():
    """Scored pairwise, the mean over readers left out is Delta itself."""
    network, pairs, readers = scores(num_readers=5)
    found = quick(network, pairs, readers)
    assert np.mean([entry.delta.value for entry in found.leave_one_out]) == pytest.approx(found.delta.value)


def test_reader_jackknife_equals_panels_of_fewer_readers():
    network, pairs, readers = scores(num_readers=4)
    found = quick(network, pairs, readers)
    for place, value in enumerate(found.reader_spread.without_reader):
        rest = [other for other in range(4) if other != place]
        fewer = quick(network[:, rest], pairs[:, rest][:, :, rest], [readers[other] for other in rest])
        assert value == pytest.approx(fewer.delta.value)
    assert found.reader_interval == found.reader_spread.interval
    assert found.reader_interval.high - found.reader_interval.low > 0


def test_readers_only_say_how_well_readers_agree():
    network, pairs, readers = scores(num_readers=3)
    alone, whole = quick(None, pairs, readers), quick(network, pairs, readers)
    assert alone.Pn == whole.Pn
    assert (alone.P0, alone.delta, alone.williams, alone.verdict) == (None, None, None, "not_assessable")
    assert "no network" in " ".join(alone.notes)
    first = np.mean([pairs[:, 0, 1], pairs[:, 0, 2]], axis=0) - pairs[:, 1, 2]
    assert alone.leave_one_out[0].delta.value == pytest.approx(first.mean())
    assert [(pair.a, pair.b) for pair in alone.pairwise] == [("A", "B"), ("A", "C"), ("B", "C")]


def test_a_reader_in_the_network_s_place_scores_like_a_reader():
    """The network of readers A, B is reader C: its Delta is C's place among the three."""
    _, pairs, readers = scores(num_readers=3)
    as_network = quick(pairs[:, 2, :2], pairs[:, :2, :2], readers[:2])
    place = quick(None, pairs, readers).leave_one_out[2]
    assert as_network.delta.value == pytest.approx(place.delta.value)
    assert ends(as_network.delta.interval) == pytest.approx(ends(place.delta.interval))


def test_distances_are_the_same_comparison_the_other_way_round():
    network, pairs, readers = scores()
    up = quick(network, pairs, readers, margin=0.05)
    down = quick(1 - network, 1 - pairs, readers, margin=0.05, better="lower", failure_drop=0.10)
    assert down.P0.value == pytest.approx(1 - up.P0.value)
    for name in ("delta", "gamma", "delta_bootstrap_t", "chalana_kim"):
        assert getattr(down, name).value == pytest.approx(getattr(up, name).value)
        assert ends(getattr(down, name).interval) == pytest.approx(ends(getattr(up, name).interval))
    assert (down.p_tost, down.p_noninferior, down.relative_margin) == pytest.approx(
        (up.p_tost, up.p_noninferior, up.relative_margin)
    )
    assert ends(down.reader_interval) == pytest.approx(ends(up.reader_interval))
    assert (down.verdict, down.failures.count) == (up.verdict, up.failures.count)
    assert down.failures.definition == "p0 > pn + 0.1"


def test_margin_as_a_share_of_the_disagreement_between_readers():
    network, pairs, readers = scores()
    found = quick(network, pairs, readers, margin=0.02)
    assert found.relative_margin == pytest.approx(0.02 / (1 - found.Pn.value))
    assert found.attained_margin == max(abs(end) for end in ends(found.delta.interval))


def test_gamma_is_minus_delta_and_its_margin_a_tenth_of_the_disagreement():
    network, pairs, readers = scores(n=40)
    found = quick(network, pairs, readers)
    low, high = ends(found.delta.interval)
    assert found.gamma.value == pytest.approx(-found.delta.value)
    assert ends(found.gamma.interval) == pytest.approx((-high, -low))
    assert found.gamma.margin == pytest.approx(0.1 * (1 - found.Pn.value))
    excess = 0.1 * (1 - np.array(found.pn)) + np.array(found.d)
    assert found.gamma.p_value == pytest.approx(stats.ttest_1samp(excess, 0, alternative="greater").pvalue)


def test_a_network_closer_than_readers_is_interchangeable():
    _, pairs, readers = scores(n=40)
    found = quick(np.full((40, 3), 0.99), pairs, readers)
    assert found.gamma.interchangeable
    assert found.gamma.p_value < 0.001


def test_interchangeable_and_its_p_value_are_one_decision():
    """Networks around the margin, where the end of gamma's interval would at times have decided otherwise."""
    decisions, other = set(), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        among = rng.uniform(0.75, 0.95, (30, 3))
        network = among.mean(axis=1, keepdims=True) - 0.0128 + rng.normal(0, 0.01, (30, 3))
        found = quick(network, pairs_matrix(among), ["A", "B", "C"]).gamma
        assert found.interchangeable == (found.p_value < 0.025)
        decisions.add(found.interchangeable)
        other += found.interchangeable != (found.interval.high < found.margin)
    assert decisions == {True, False}
    assert other > 0


def test_one_patient_is_not_interchangeable():
    found = quick(np.full((1, 3), 0.9), pairs_matrix(np.full((1, 3), 0.9)), ["A", "B", "C"]).gamma
    assert (found.p_value, found.interchangeable) == (None, False)


# --- Indices ---


def test_williams_index_is_the_ratio_and_its_intervals_agree():
    network, pairs, _ = scores(n=60, num_readers=4)
    index = williams_index(network, pairs)
    upper = np.triu_indices(4, 1)
    assert index.value == pytest.approx(network.mean() / pairs[:, *upper].mean())
    assert ends(index.interval) == pytest.approx(ends(index.jackknife_interval), abs=2e-3)


def test_williams_interval_agrees_with_the_bootstrap():
    network, pairs, _ = scores(n=80)
    index, upper = williams_index(network, pairs), np.triu_indices(3, 1)
    p0, pn = network.mean(axis=1), pairs[:, *upper].mean(axis=1)
    boot = stats.bootstrap(
        (p0, pn), lambda a, b, axis: a.mean(axis) / b.mean(axis), paired=True, rng=np.random.default_rng(0)
    ).confidence_interval
    assert ends(index.interval) == pytest.approx((boot.low, boot.high), abs=3e-3)


def test_chalana_kim_equals_plain_loops():
    network, pairs, _ = scores(num_readers=4)
    among = [1 / np.mean(1 - pairs[:, a, b]) for a, b in combinations(range(4), 2)]
    expected = np.mean([1 / np.mean(1 - network[:, reader]) for reader in range(4)]) / np.mean(among)
    found = chalana_kim_index(network, pairs)
    assert found.value == pytest.approx(expected)
    assert found.interval.low < expected < found.interval.high


def test_indices_that_are_not_defined_are_nan_without_interval():
    network, pairs, _ = scores()
    assert np.isnan(chalana_kim_index(np.ones_like(network), pairs).value)
    assert np.isnan(williams_index(network, np.zeros_like(pairs)).value)
    zero = williams_index(np.zeros_like(network), pairs)
    assert (zero.value, zero.interval) == (0, None)
    nobody = williams_index(np.full_like(network, np.nan), pairs)
    assert np.isnan(nobody.value)
    assert nobody.n == 0
    assert np.isnan(chalana_kim_index(np.full_like(network, np.nan), pairs).value)


def test_one_patient_who_carries_the_whole_denominator_has_no_jackknife():
    pairs = pairs_matrix(np.array([[0.5], [0.0], [0.0]]))
    index = williams_index(np.full((3, 2), 0.5), pairs)
    assert index.value == pytest.approx(3)
    assert (index.jackknife_interval, index.jackknife_se) == (None, None)


def test_indices_need_two_readers():
    for index in (williams_index, chalana_kim_index):
        with pytest.raises(AgreementError, match=r"pairs has 1 reader\(s\), expected at least 2.*second reader"):
            index(np.ones((3, 1)), np.ones((3, 1, 1)))
        with pytest.raises(AgreementError, match=r"level is 95, expected"):
            index(*scores()[:2], level=95)


# --- Who is left out, and what cannot be said ---


def test_one_reader_gives_scores_and_no_verdict():
    found = quick(np.array([[0.9], [0.8], [0.7]]), np.ones((3, 1, 1)), ["A"], margin=0.02)
    assert found.P0.value == pytest.approx(0.8)
    assert (found.Pn, found.delta, found.p_tost, found.williams, found.failures) == (None,) * 5
    assert (found.verdict, found.reader_interval, found.leave_one_out) == ("not_assessable", None, ())
    assert "agreement between readers was not measured" in found.notes[0]


def test_one_patient_gives_numbers_without_intervals():
    network, pairs, readers = scores(n=1)
    found = quick(network, pairs, readers, margin=0.02)
    assert found.delta.value == pytest.approx(network.mean() - pairs[0][np.triu_indices(3, 1)].mean())
    assert (found.delta.interval, found.delta_bootstrap_t, found.reader_interval, found.p_tost) == (None,) * 4
    assert (found.williams.interval, found.chalana_kim.interval, found.gamma.interval) == (None,) * 3
    assert found.verdict == "not_assessable"
    assert "one patient has no spread" in " ".join(found.notes)


def test_two_readers_carry_no_claim_about_readers_in_general():
    network, pairs, readers = scores(num_readers=2)
    found = quick(network, pairs, readers)
    assert (found.reader_interval, found.reader_spread) == (None, None)
    assert "two readers" in " ".join(found.notes)
    assert len(found.leave_one_out) == 2


def test_equal_differences_are_said_to_be_degenerate():
    pairs, readers = scores()[1:]
    upper = np.triu_indices(3, 1)
    network = np.repeat(pairs[:, *upper].mean(axis=1, keepdims=True) - 0.01, 3, axis=1)
    found = quick(network, pairs, readers, margin=0.02)
    assert found.delta.interval.high - found.delta.interval.low < 1e-12
    assert (found.p_tost, found.p_noninferior, found.verdict) == (0, 0, "equivalent")
    assert "the interval has no width" in " ".join(found.notes)
    assert quick(network - 0.02, pairs, readers, margin=0.02).p_noninferior == 1


def test_no_score_at_all_is_counted_and_not_assessable():
    network, pairs, readers = scores()
    found = quick(np.full_like(network, np.nan), pairs, readers, margin=0.02)
    assert (found.n, found.n_left_out) == (0, 12)
    assert (found.P0, found.Pn, found.delta, found.williams, found.failures) == (None,) * 5
    assert (found.verdict, found.patients, found.pairwise) == ("not_assessable", (), ())
    assert "no patient has all scores" in " ".join(found.notes)


def without(network, pairs, row, reader):
    """The same scores with one patient not read by one reader."""
    network, pairs = network.copy(), pairs.copy()
    network[row, reader] = pairs[row, reader, :] = pairs[row, :, reader] = np.nan
    return network, pairs


def test_a_missing_reader_leaves_the_patient_out_and_says_so():
    network, pairs, readers = scores()
    found = quick(*without(network, pairs, 4, 1), readers)
    rest = np.delete(np.arange(12), 4)
    fewer = quick(network[rest], pairs[rest], readers, patients=[str(row) for row in rest])
    assert (found.n, found.n_left_out) == (11, 1)
    assert found == replace(fewer, n_left_out=1)
    assert "4" not in found.patients


def test_available_readers_keep_the_patient_with_those_who_read():
    network, pairs, readers = scores()
    found = quick(*without(network, pairs, 4, 1), readers, missing="available")
    assert (found.n, found.n_left_out) == (12, 0)
    assert found.d[4] == pytest.approx(network[4, [0, 2]].mean() - pairs[4, 0, 2])
    assert found.leave_one_out[1].delta.n == 11
    assert found.leave_one_out[0].delta.n == 12
    assert np.isfinite(ends(found.reader_interval)).all()
    gapped, gapped_pairs = without(network, pairs, 4, 1)
    among = np.mean(1 / np.nanmean(1 - gapped_pairs[:, *np.triu_indices(3, 1)], axis=0))
    assert found.chalana_kim.value == pytest.approx(np.mean(1 / np.nanmean(1 - gapped, axis=0)) / among)
    assert np.isfinite(ends(found.chalana_kim.interval)).all()


def test_available_needs_two_readers_and_consistent_scores():
    network, pairs, readers = scores()
    one_left = without(*without(network, pairs, 4, 1), 4, 2)
    assert quick(*one_left, readers, missing="available").n_left_out == 1
    network[3, 0] = np.nan  # reader 0 has pairs on patient 3 but no score with the network
    assert quick(network, pairs, readers, missing="available").n_left_out == 1


def test_without_missing_readers_both_policies_agree():
    given = scores()
    assert quick(*given) == quick(*given, missing="available")


# --- Cases of one patient ---


def test_two_cases_of_a_patient_count_once():
    network, pairs, readers = scores()
    names = [f"P{row}" for row in range(12)]
    single = quick(network, pairs, readers, patients=names)
    double = panel_of_cases(np.tile(network, (2, 1)), np.tile(pairs, (2, 1, 1)), readers, names * 2, resamples=200)
    assert double.n == 12
    assert ends(double.delta.interval) == pytest.approx(ends(single.delta.interval))
    assert double.patients == single.patients


def test_a_case_that_not_all_read_is_left_out_when_the_patient_has_another():
    network, pairs, readers = scores(n=4)
    network, pairs = without(network, pairs, 1, 0)
    found = panel_of_cases(network, pairs, readers, ["P1", "P1", "P2", "P3"], resamples=200)
    assert (found.n, found.n_left_out) == (3, 0)
    assert found.p0[0] == pytest.approx(network[0].mean())
    found = panel_of_cases(network, pairs, readers, ["P1", "P2", "P3", "P4"], resamples=200)
    assert (found.n, found.n_left_out, found.patients) == (3, 1, ("P1", "P3", "P4"))
    found = panel_of_cases(network, pairs, readers, ["P1", "P2", "P3", "P4"], resamples=200, missing="available")
    assert (found.n, found.n_left_out) == (4, 0)


def test_readers_alone_can_be_averaged_over_cases_too():
    _, pairs, readers = scores(n=4)
    found = panel_of_cases(None, pairs, readers, ["P1", "P1", "P2", "P2"], resamples=200)
    assert (found.n, found.P0) == (2, None)
    assert found.pn[0] == pytest.approx(pairs[:2][:, *np.triu_indices(3, 1)].mean())


def test_average_cases_keeps_what_is_missing_missing():
    values, names = average_cases(np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]]), ["b", "b", "a"])
    assert names == ("b", "a")
    np.testing.assert_array_equal(values, [[2.0, np.nan], [5.0, 6.0]])


# --- Failures ---


def test_failures_are_counted_by_patient_with_their_limit():
    network, pairs, readers = scores(n=20, low=0.9)
    network[[3, 7]] = 0.5
    found = quick(network, pairs, readers)
    assert (found.failures.count, found.failures.rows) == (2, (3, 7))
    assert found.failures.definition == "p0 < pn - 0.10"
    oracle = stats.binomtest(2, 20, alternative="less").proportion_ci(0.95, method="exact")
    assert found.failures.upper95 == pytest.approx(oracle.high)


def test_a_drop_of_exactly_the_limit_is_no_failure():
    pairs = np.full((3, 2, 2), 0.9)
    found = quick(np.array([[0.8, 0.8], [0.7, 0.9], [0.79, 0.79]]), pairs, ["A", "B"])
    assert found.failures.rows == (2,)


def test_distances_have_no_failure_limit_of_their_own():
    network, pairs, readers = scores()
    assert quick(network, pairs, readers, better="lower").failures is None


# --- Verdict ---


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.01, "equivalent"),
        (-0.019, -0.001, "equivalent"),
        (-0.01, 0.03, "noninferior"),
        (0.001, 0.05, "noninferior"),
        (0.03, 0.05, "noninferior"),
        (-0.05, -0.021, "worse_beyond_margin"),
        (-0.05, -0.02, "worse_size_uncertain"),
        (-0.05, -0.001, "worse_size_uncertain"),
        (-0.05, 0.0, "inconclusive"),
        (-0.02, 0.01, "inconclusive"),
        (-0.05, 0.05, "inconclusive"),
    ],
)
def test_verdict_of_an_interval(low, high, verdict):
    assert verdict_of(Interval(low, high, 0.95, "t"), 0.02) == verdict


def test_without_interval_or_margin_there_is_no_verdict():
    assert verdict_of(None, 0.02) == "not_assessable"
    assert verdict_of(Interval(-0.01, 0.01, 0.95, "t"), None) == "not_assessable"
    network, pairs, readers = scores()
    found = quick(network, pairs, readers)
    assert (found.verdict, found.p_tost, found.p_noninferior, found.relative_margin) == ("not_assessable", *[None] * 3)
    assert found.attained_margin > 0
    assert "no margin was given" in " ".join(found.notes)


# --- Properties ---


@given(st.integers(2, 15), st.integers(2, 5), st.integers(0, 1000), st.sampled_from([0.02, 0.05, 0.1]))
@settings(deadline=None, max_examples=30)
def test_p_values_and_intervals_never_contradict_each_other(n, num_readers, seed, margin):
    found = quick(*scores(n, num_readers, seed), margin=margin, resamples=20)
    low, high = ends(found.delta.interval)
    assert (found.p_tost < found.alpha) == (-margin < low and high < margin)
    assert (found.p_noninferior < found.alpha) == (low > -margin)
    assert found.p_noninferior <= found.p_tost
    assert (found.verdict == "equivalent") == (found.attained_margin < margin)


@given(st.permutations(range(9)), st.permutations(range(3)))
@settings(deadline=None, max_examples=15)
def test_order_of_patients_and_readers_is_irrelevant(patients, order):
    network, pairs, readers = scores(n=9)
    plain = quick(network, pairs, readers, margin=0.05, resamples=20)
    mixed = quick(
        network[patients][:, order], pairs[patients][:, order][:, :, order], readers, margin=0.05, resamples=20
    )
    for name in ("P0", "Pn", "delta", "gamma", "williams", "chalana_kim"):
        assert ends(getattr(mixed, name).interval) == pytest.approx(ends(getattr(plain, name).interval), abs=1e-12)
    assert ends(mixed.reader_interval) == pytest.approx(ends(plain.reader_interval), abs=1e-12)
    assert mixed.p_tost == pytest.approx(plain.p_tost)


def test_same_seed_same_panel():
    given = scores()
    assert quick(*given, seed=3) == quick(*given, seed=3)
    assert quick(*given, seed=3) != quick(*given, seed=4)


def test_inputs_are_left_as_they_were():
    network, pairs, readers = scores()
    before = network.copy(), pairs.copy()
    quick(network, pairs, readers)
    np.testing.assert_array_equal(network, before[0])
    np.testing.assert_array_equal(pairs, before[1])


def test_single_precision_is_good_enough():
    network, pairs, readers = scores()
    found = quick(network.astype(np.float32), pairs.astype(np.float32), readers)
    assert found.delta.value == pytest.approx(quick(network, pairs, readers).delta.value, abs=1e-6)


def test_a_panel_is_plain_values():
    """What goes into agreement.json holds no arrays."""

    def leaves(value):
        if isinstance(value, dict):
            return [leaf for each in value.values() for leaf in leaves(each)]
        if isinstance(value, (list, tuple)):
            return [leaf for each in value for leaf in leaves(each)]
        return [value]

    found = asdict(quick(*scores(), margin=0.02))
    assert {type(leaf) for leaf in leaves(found)} <= {int, float, str, bool, type(None)}


# --- Refusals ---


@pytest.mark.parametrize("margin", [0.0, -0.02, np.nan, np.inf])
def test_a_margin_must_be_positive(margin):
    with pytest.raises(AgreementError, match=rf"margin is {margin}, expected a positive number.*leave it out"):
        quick(*scores(), margin=margin)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.95, -0.1])
def test_alpha_is_one_sided(alpha):
    with pytest.raises(AgreementError, match=rf"alpha is {alpha}, expected a one-sided level in \(0, 0.5\)"):
        quick(*scores(), alpha=alpha)


def test_failure_drop_must_be_positive():
    with pytest.raises(AgreementError, match=r"failure_drop is -1.0, expected a positive number"):
        quick(*scores(), failure_drop=-1.0)


def test_a_patient_with_two_rows_is_refused_by_name():
    with pytest.raises(AgreementError, match=r"(?s)1 patient\(s\) have more than one row.*P1: 2 rows.*panel_of_cases"):
        quick(*scores(n=3), patients=["P1", "P2", "P1"])
    with pytest.raises(AgreementError, match=r"patients names 2 patients for 3 rows"):
        quick(*scores(n=3), patients=["P1", "P2"])
    with pytest.raises(AgreementError, match=r"patients names 2 patients for 3 cases; name one per case"):
        panel_of_cases(*scores(n=3), ["P1", "P2"])
    with pytest.raises(AgreementError, match=r"patients names 1 patients for 2 rows; name one per row"):
        average_cases(np.ones(2), ["P1"])


@pytest.mark.parametrize("readers", [["A", "B"], ["A", "B", "C", "D"]])
def test_one_name_per_reader(readers):
    with pytest.raises(AgreementError, match=rf"readers names {len(readers)} reader\(s\).*one column per reader"):
        quick(*scores()[:2], readers)


@pytest.mark.parametrize("readers", [["A", "B", "A"], ["A", "network", "C"]])
def test_readers_are_different_people(readers):
    with pytest.raises(AgreementError, match=r"each once and none of them 'network'; a second read by the same reader"):
        quick(*scores()[:2], readers)
    with pytest.raises(AgreementError, match=r"readers is \[\], expected at least one name"):
        quick(None, np.zeros((2, 0, 0)), [])


def test_infinite_and_contradictory_scores_are_listed_together():
    network, pairs, readers = scores()
    network[0, 1] = np.inf
    pairs[2, 0, 1] = 0.5
    pairs[3, 1, 2] = pairs[3, 2, 1] = -np.inf
    message = r"(?s)3 score\(s\) cannot be used.*network\[0, 1\] is infinite.*pairs\[3, 1, 2\] is infinite"
    with pytest.raises(AgreementError, match=message + r".*pairs\[2, 0, 1\] is 0.5.*policy\.for_mean.*pairs_matrix"):
        quick(network, pairs, readers)


def test_one_sided_gaps_are_contradictions():
    network, pairs, readers = scores()
    pairs[2, 1, 0] = np.nan
    with pytest.raises(AgreementError, match=r"pairs\[2, 1, 0\] is nan"):
        quick(network, pairs, readers)


@pytest.mark.parametrize("columns", [0, 2, 4, 5])
def test_pairs_come_in_triangular_numbers(columns):
    with pytest.raises(AgreementError, match=rf"values has {columns} columns, expected one per pair of readers"):
        pairs_matrix(np.ones((2, columns)))


def test_reader_spread_needs_three_readers():
    with pytest.raises(AgreementError, match=r"holds 2 reader\(s\), expected at least 3.*these readers only"):
        reader_spread(np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def test_reader_spread_without_any_spread_has_no_width():
    spread = reader_spread(np.full(5, 0.1), np.full(3, 0.1))
    assert ends(spread.interval) == pytest.approx((0.1, 0.1))
    assert spread.degrees_of_freedom == np.inf


def test_failure_rate_needs_a_patient():
    with pytest.raises(AgreementError, match="failed holds no patient"):
        failure_rate(np.zeros(0, dtype=bool))
    with pytest.raises(AgreementError, match="level is 0, expected"):
        failure_rate(np.zeros(3, dtype=bool), level=0)
