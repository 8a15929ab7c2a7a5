"""Agreement statistics against their definitions, written out in loops over hundreds of random small tables.

Nothing here shares code or formulas with the package; where a definition is a sum over pairs, it is summed over pairs.
"""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from mpi_unet.agreement import (
    bland_altman,
    calibration,
    clustered_mcnemar_of_counts,
    cohen_kappa_of_table,
    delong,
    failure_rate,
    fleiss_kappa,
    gwet_ac1,
    icc_forms,
    individual_equivalence,
    krippendorff_alpha,
    lin_ccc,
    majority_vote,
    noninferiority_paired,
    panel,
    panel_of_cases,
    sem,
    sign_flip_test,
    staple,
    tost_paired,
    tost_power,
    wilcoxon_signed_rank,
)

TABLES = 200


def random_tables(seed, readers=(2, 3, 5, 10), patients=(2, 3, 4, 8, 15)):
    """Random sizes: two readers or ten, two patients or fifteen."""
    rng = np.random.default_rng(seed)
    for _ in range(TABLES):
        yield rng, int(rng.choice(patients)), int(rng.choice(readers))


def same(found, expected):
    """Equal, or both undefined."""
    return (math.isnan(found) and math.isnan(expected)) or found == pytest.approx(expected, rel=1e-8, abs=1e-9)


def mean_squares(table):
    n, k = table.shape
    grand = table.mean()
    rows = sum(k * (row.mean() - grand) ** 2 for row in table) / (n - 1)
    columns = sum(n * (column.mean() - grand) ** 2 for column in table.T) / (k - 1)
    total = sum((x - grand) ** 2 for x in table.ravel())
    rest = (total - rows * (n - 1) - columns * (k - 1)) / ((n - 1) * (k - 1))
    within = sum((x - row.mean()) ** 2 for row in table for x in row) / (n * (k - 1))
    return rows, columns, rest, within


def test_icc_from_sums_of_squares():
    """McGraw & Wong 1996, tables 4 and 7."""
    for rng, n, k in random_tables(1):
        table = rng.normal(size=(n, 1)) * rng.choice([0, 1, 5]) + rng.normal(size=(n, k)) + rng.normal(size=k)
        r, c, e, w = mean_squares(table)
        expected = {
            "ICC(1,1)": (r - w) / (r + (k - 1) * w),
            "ICC(C,1)": (r - e) / (r + (k - 1) * e),
            "ICC(A,1)": (r - e) / (r + (k - 1) * e + k / n * (c - e)),
            "ICC(1,k)": (r - w) / r,
            "ICC(C,k)": (r - e) / r,
            "ICC(A,k)": (r - e) / (r + (c - e) / n),
        }
        found = icc_forms(table)
        if r + (c - e) / n < 0:  # no variance of a mean reading, so no reliability of it
            assert math.isnan(found["ICC(A,k)"].estimate)
            assert found["ICC(A,k)"].interval is None
            assert "below zero" in found["ICC(A,k)"].note
            del expected["ICC(A,k)"]
        for form, value in expected.items():
            assert found[form].estimate == pytest.approx(value, rel=1e-6), (form, table)
        for form, f, df in (("ICC(1,1)", r / w, n * (k - 1)), ("ICC(C,1)", r / e, (n - 1) * (k - 1))):
            low, high = f / stats.f.ppf(0.975, n - 1, df), f * stats.f.ppf(0.975, df, n - 1)
            interval = found[form].interval
            assert (interval.low, interval.high) == pytest.approx(
                ((low - 1) / (low + k - 1), (high - 1) / (high + k - 1))
            ), form


def test_icc_of_readers_who_never_vary():
    """A reader who writes one number for everybody has no reliability; all who do leave it undefined."""
    alternating = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0]])
    r, c, e, _ = mean_squares(alternating)
    assert icc_forms(alternating)["ICC(A,1)"].estimate == pytest.approx((r - e) / (r + e + 2 / 4 * (c - e)), abs=1e-12)
    assert math.isnan(icc_forms(np.full((5, 3), 7.0))["ICC(A,1)"].estimate)


def test_concordance_from_squared_distances():
    """Lin 1989: 1 - E(x - y)^2 over what it would be if both were independent; interval by Fisher's z."""
    for rng, n, _ in random_tables(2, patients=(4, 5, 8, 15, 60)):
        x = rng.normal(size=n)
        y = rng.choice([-1, 0.2, 1]) * x + rng.normal(size=n) * rng.choice([0.1, 1, 3]) + rng.normal()
        independent = np.mean([(a - b) ** 2 for a in x for b in y])
        expected = 1 - np.mean((x - y) ** 2) / independent
        found = lin_ccc(x, y)
        assert found.estimate == pytest.approx(expected)
        r, u = np.corrcoef(x, y)[0, 1], (x.mean() - y.mean()) / math.sqrt(x.std() * y.std())
        inner = (1 - r**2) / r**2 * expected**2 / (1 - expected**2)
        inner += 2 * expected**3 * (1 - expected) * u**2 / (r * (1 - expected**2) ** 2)
        inner -= expected**4 * u**4 / (2 * r**2 * (1 - expected**2) ** 2)
        half = stats.norm.ppf(0.975) * math.sqrt(inner / (n - 2))
        ends = np.tanh([math.atanh(expected) - half, math.atanh(expected) + half])
        assert (found.interval.low, found.interval.high) == pytest.approx(tuple(ends), rel=1e-6)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_kappa_and_its_error_in_loops(weights):
    """Fleiss, Cohen & Everitt 1969, formulas 9 and 10."""
    for rng, _, _ in random_tables(3):
        q = int(rng.integers(2, 6))
        table = rng.integers(0, 9, (q, q)) * (rng.random((q, q)) < 0.8) + np.eye(q, dtype=int)
        p, total = table / table.sum(), table.sum()
        rows, columns = p.sum(1), p.sum(0)
        w = {
            None: lambda i, j: float(i == j),
            "linear": lambda i, j, q=q: 1 - abs(i - j) / (q - 1),
            "quadratic": lambda i, j, q=q: 1 - (i - j) ** 2 / (q - 1) ** 2,
        }[weights]
        cells = list(itertools.product(range(q), range(q)))
        observed = sum(w(i, j) * p[i, j] for i, j in cells)
        chance = sum(w(i, j) * rows[i] * columns[j] for i, j in cells)
        kappa = (observed - chance) / (1 - chance)
        of_row = [sum(w(i, j) * columns[j] for j in range(q)) for i in range(q)]
        of_column = [sum(w(i, j) * rows[i] for i in range(q)) for j in range(q)]
        spread = sum(
            p[i, j] * (w(i, j) * (1 - chance) - (of_row[i] + of_column[j]) * (1 - observed)) ** 2 for i, j in cells
        )
        center = observed * chance - 2 * chance + observed
        error = math.sqrt(max(spread - center**2, 0)) / ((1 - chance) ** 2 * math.sqrt(total))
        null = sum(rows[i] * columns[j] * (w(i, j) - of_row[i] - of_column[j]) ** 2 for i, j in cells) - chance**2
        found = cohen_kappa_of_table(table, weights=weights)
        assert found.estimate == pytest.approx(kappa)
        assert found.standard_error == pytest.approx(error, abs=1e-7)
        assert found.null_error == pytest.approx(math.sqrt(max(null, 0)) / ((1 - chance) * math.sqrt(total)), abs=1e-7)


def pairs_within(row):
    given = [x for x in row if not math.isnan(x)]
    return [(a, b) for i, a in enumerate(given) for j, b in enumerate(given) if i != j]


def test_alpha_from_pairs_of_ratings():
    """Krippendorff: pairs within a patient over pairs of any two ratings; a single rating belongs to no pair."""
    for rng, n, k in random_tables(4):
        table = rng.integers(0, int(rng.integers(2, 5)), (n, k)).astype(float)
        table[rng.random((n, k)) < rng.choice([0, 0.2])] = np.nan
        used = [row for row in table if (~np.isnan(row)).sum() > 1]
        if not used:
            continue
        everything = [x for row in used for x in row if not math.isnan(x)]
        for metric in ("nominal", "interval"):

            def delta(a, b, metric=metric):
                return float(a != b) if metric == "nominal" else (a - b) ** 2

            within = sum(
                sum(delta(a, b) for a, b in pairs_within(row)) / ((~np.isnan(row)).sum() - 1) for row in used
            ) / len(everything)
            over = len(everything) * (len(everything) - 1)
            between = sum(delta(a, b) for a, b in itertools.permutations(everything, 2)) / over
            expected = 1 - within / between if between > 0 else math.nan
            assert same(krippendorff_alpha(table, metric).estimate, expected), table


def test_fleiss_and_gwet_from_pairs_of_readers():
    for rng, n, k in random_tables(5):
        q = int(rng.integers(2, 5))
        table = rng.integers(0, q, (n, k))
        observed = np.mean([np.mean([float(a == b) for a, b in itertools.combinations(row, 2)]) for row in table])
        shares = [np.mean(table == category) for category in range(q)]
        chance = sum(share**2 for share in shares)
        expected = (observed - chance) / (1 - chance) if chance < 1 else math.nan
        scale = list(range(q))
        assert same(fleiss_kappa(table, categories=scale).estimate, expected)
        chance = sum(share * (1 - share) for share in shares) / (q - 1)
        assert same(gwet_ac1(table, categories=scale).estimate, (observed - chance) / (1 - chance))
        # Krippendorff corrects for the number of ratings, and does nothing else.
        alpha = krippendorff_alpha(table).estimate
        if not math.isnan(expected):
            assert alpha == pytest.approx(expected + (1 - expected) / table.size)


@pytest.mark.parametrize("side", ["two-sided", "greater", "less"])
def test_permutation_tests_by_enumeration(side):
    """Every pattern of signs; with ties, zeros and differences that all point one way."""
    rng = np.random.default_rng(6)
    for _ in range(60):
        d = rng.integers(-3, 5, int(rng.integers(2, 10))) * 0.5
        flipped = np.array(list(itertools.product([-1, 1], repeat=len(d)))) * np.abs(d)
        sums, seen = flipped.sum(1), d.sum()
        upper, lower = np.mean(sums >= seen - 1e-9), np.mean(sums <= seen + 1e-9)
        both = np.mean(np.abs(sums) >= abs(seen) - 1e-9)
        assert sign_flip_test(d, alternative=side).p_value == pytest.approx(
            {"two-sided": both, "greater": upper, "less": lower}[side]
        )
        kept = d[d != 0]
        if not len(kept):
            continue
        ranks = stats.rankdata(np.abs(kept))
        patterns = np.array(list(itertools.product([0, 1], repeat=len(kept)))) @ ranks
        w = ranks[kept > 0].sum()
        upper, lower = np.mean(patterns >= w - 1e-9), np.mean(patterns <= w + 1e-9)
        found = wilcoxon_signed_rank(d, alternative=side)
        assert found.p_value == pytest.approx(
            {"two-sided": min(1, 2 * min(upper, lower)), "greater": upper, "less": lower}[side]
        )


def test_area_and_its_variance_from_placements():
    """DeLong, DeLong & Clarke-Pearson 1988: structural components of each patient, in loops, with ties."""

    def wins(x, y):
        return 1.0 if x > y else 0.5 if x == y else 0.0

    for rng, _, _ in random_tables(7):
        m, n = (int(size) for size in rng.integers(2, 9, 2))
        truth = np.repeat([True, False], [m, n])
        scores = rng.integers(0, 5, (2, m + n)).astype(float)
        of_positive = [[np.mean([wins(x, y) for y in s[m:]]) for x in s[:m]] for s in scores]
        of_negative = [[np.mean([wins(x, y) for x in s[:m]]) for y in s[m:]] for s in scores]
        covariance = np.cov(of_positive) / m + np.cov(of_negative) / n
        found = delong(scores[0], truth, scores[1])
        difference = np.mean(of_positive[0]) - np.mean(of_positive[1])
        error = math.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0))
        assert found.auc.value == pytest.approx(np.mean(of_positive[0]))
        assert found.difference.value == pytest.approx(difference, abs=1e-12)
        if error > 1e-7:
            assert found.z == pytest.approx(difference / error, abs=1e-9)
            assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(difference / error)))
        half = 1.959963984540054 * math.sqrt(covariance[0, 0])
        assert found.auc.interval.low == pytest.approx(max(0, np.mean(of_positive[0]) - half), abs=1e-9)


def test_two_one_sided_tests_are_two_t_tests():
    for rng, n, _ in random_tables(8):
        d, margin = rng.normal(rng.normal(), 1, n), float(rng.uniform(0.1, 3))
        found = tost_paired(d, margin=margin)
        lower = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
        upper = stats.ttest_1samp(d, margin, alternative="less").pvalue
        assert (found.p_lower, found.p_upper) == pytest.approx((lower, upper))
        assert found.equivalent == (max(lower, upper) < 0.025)
        assert noninferiority_paired(d, margin=margin).p_value == pytest.approx(lower)


@pytest.mark.parametrize(("n", "delta", "sd"), [(12, 0.0, 0.02), (24, -0.005, 0.03), (44, 0.0, 0.04), (60, 0.01, 0.03)])
def test_power_of_two_one_sided_tests(n, delta, sd):
    """Integrated over the variance; and by a million studies, drawn as their mean and variance."""
    margin, t = 0.02, stats.t.ppf(0.975, n - 1)

    def given_variance(ratio):
        s = sd * math.sqrt(ratio / (n - 1))
        room = margin - t * s / math.sqrt(n)
        if room <= 0:
            return 0.0
        z = [(end - delta) / (sd / math.sqrt(n)) for end in (room, -room)]
        return float((stats.norm.cdf(z[0]) - stats.norm.cdf(z[1])) * stats.chi2.pdf(ratio, n - 1))

    last = (n - 1) * (margin * math.sqrt(n) / (t * sd)) ** 2
    expected = integrate.quad(given_variance, 0, last, limit=400)[0]
    found = tost_power(n, margin=margin, sd=sd, true_delta=delta)
    assert found == pytest.approx(expected, abs=1e-4)
    rng = np.random.default_rng(0)
    means = rng.normal(delta, sd / math.sqrt(n), 1_000_000)
    half = t * sd * np.sqrt(rng.chisquare(n - 1, 1_000_000) / (n - 1) / n)
    assert found == pytest.approx(np.mean(np.abs(means) + half < margin), abs=0.002)


def test_individual_agreement_from_pairs_of_reads():
    """Barnhart, Kosinski & Haber 2007: reference read twice, network once; and both read twice."""
    for rng, n, _ in random_tables(9, patients=(3, 4, 8, 15)):
        readings = rng.normal(size=(n, 1, 1)) * 5 + rng.normal(size=(n, 2, 2)) + rng.normal(size=(1, 2, 1))
        within = [np.mean([(row[m][0] - row[m][1]) ** 2 for row in readings]) for m in (0, 1)]
        between = np.mean([(a - b) ** 2 for row in readings for a in row[0] for b in row[1]])
        found = individual_equivalence(readings, reference=0, resamples=50)
        assert found.psi_r.value == pytest.approx(within[0] / between)
        assert found.psi_n.value == pytest.approx((within[0] + within[1]) / 2 / between)
        once = readings.copy()
        once[:, 1, 1] = np.nan
        between = np.mean([(a - row[1][0]) ** 2 for row in once for a in row[0]])
        found = individual_equivalence(once, reference=0, resamples=50).psi_r
        assert found.value == pytest.approx(within[0] / between)
        assert found.interval is None or np.isfinite([found.interval.low, found.interval.high]).all()


def test_clustered_mcnemar_from_patients():
    """Obuchowski 1998: the variance of the sum of differences over patients; Durkalski 2003: of their shares."""
    for rng, n, _ in random_tables(10, patients=(3, 8, 15)):
        counts = rng.integers(0, 4, (n, 4))
        counts[0, 1] += 1
        counts[1, 2] += 1
        d, sizes = counts[:, 1] - counts[:, 2], counts.sum(1)
        keep = sizes > 0
        d, sizes = d[keep], sizes[keep]
        obuchowski = d.sum() ** 2 / (len(d) / (len(d) - 1) * (d**2).sum())
        durkalski = (d / sizes).sum() ** 2 / ((d / sizes) ** 2).sum()
        for method, statistic in (("obuchowski", obuchowski), ("durkalski", durkalski)):
            found = clustered_mcnemar_of_counts(counts, method=method)
            assert found.statistic == pytest.approx(statistic)
            assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 1))
            assert found.estimate == pytest.approx(d.sum() / sizes.sum())


def test_exact_limits_of_a_proportion_from_binomial_tails():
    for n in (2, 7, 30):
        for k in range(n + 1):

            def upper(p, k=k, n=n):
                return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)) - 0.05

            expected = 1.0 if k == n else optimize.brentq(upper, 0, 1)
            assert failure_rate(np.arange(n) < k).upper95 == pytest.approx(expected, abs=1e-9)


def test_exact_interval_of_a_limit_from_its_pivot():
    """(limit - mean) / sd of normal samples: its quantiles, by simulation, are the multiples of the exact interval."""
    rng, n = np.random.default_rng(11), 10
    samples = rng.normal(size=(400_000, n))
    pivot = (1.959963984540054 - samples.mean(1)) / samples.std(1, ddof=1)
    d = rng.normal(size=n)
    found = bland_altman(50 + d, np.full(n, 50.0)).upper.interval
    expected = d.mean() + np.quantile(pivot, [0.025, 0.975]) * d.std(ddof=1)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.02)


def test_error_of_measurement_is_the_spread_within_patients():
    for rng, n, k in random_tables(12):
        table = rng.normal(size=(n, 1)) * 10 + rng.normal(size=(n, k)) + rng.normal(size=k)
        assert sem(table, "one-way").estimate == pytest.approx(math.sqrt(table.var(axis=1, ddof=1).mean()))
        if k == 2:
            d = table[:, 0] - table[:, 1]
            assert sem(table, "consistency").estimate == pytest.approx(d.std(ddof=1) / math.sqrt(2))


def loops(network, pairs, better):
    """Per patient p0, pn and their difference (negative is worse) over the readers there are."""
    sign = 1 if better == "higher" else -1
    p0 = [np.nanmean(row) for row in network]
    readers = range(network.shape[1])
    pn = [np.nanmean([row[j, k] for j, k in itertools.combinations(readers, 2)]) for row in pairs]
    return p0, pn, [sign * (a - b) for a, b in zip(p0, pn, strict=True)]


def random_scores(rng, n, k):
    network = rng.uniform(0.6, 0.95, (n, k))
    pairs = rng.uniform(0.6, 0.95, (n, k, k))
    return network, (pairs + pairs.transpose(0, 2, 1)) / 2


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_panel_in_loops(better):
    """Delta and its t interval, p-values, each reader in turn, readers in general, Williams; two readers to ten."""
    for index, (rng, n, k) in enumerate(random_tables(13)):
        if index % 4:
            continue
        network, pairs = random_scores(rng, n, k)
        names = [f"R{j}" for j in range(k)]
        p0, pn, d = loops(network, pairs, better)
        found = panel(network, pairs, names, margin=0.05, better=better, resamples=100)
        assert (found.P0.value, found.Pn.value, found.delta.value) == pytest.approx(tuple(map(np.mean, (p0, pn, d))))
        low, high = stats.t.interval(0.95, n - 1, np.mean(d), stats.sem(d))
        assert (found.delta.interval.low, found.delta.interval.high) == pytest.approx((low, high))
        assert found.p_noninferior == pytest.approx(stats.ttest_1samp(d, -0.05, alternative="greater").pvalue)
        assert found.attained_margin == pytest.approx(max(abs(low), abs(high)))
        assert found.williams.value == pytest.approx(
            np.mean(p0) / np.mean(pn) if better == "higher" else np.mean(pn) / np.mean(p0)
        )
        if k < 3:
            assert found.reader_interval is None
            continue
        sign = 1 if better == "higher" else -1
        for j, one in enumerate(found.leave_one_out):
            others = [m for m in range(k) if m != j]
            expected = np.mean([network[i, m] - pairs[i, j, m] for i in range(n) for m in others])
            assert one.delta.value == pytest.approx(sign * expected)
        without = []
        for j in range(k):
            others = [m for m in range(k) if m != j]
            without.append(np.mean(loops(network[:, others], pairs[:, others][:, :, others], better)[2]))
        of_patients = np.var(d, ddof=1) / n
        of_readers = (k - 1) / k * sum((x - np.mean(without)) ** 2 for x in without)
        variance = of_patients + of_readers
        df = variance**2 / (of_patients**2 / (n - 1) + of_readers**2 / (k - 1))
        half = stats.t.ppf(0.975, df) * math.sqrt(variance)
        assert found.reader_interval.low == pytest.approx(np.mean(d) - half)


def test_panel_averages_the_cases_of_a_patient_first():
    """A patient with nine cases counts as one with a single case; the plain mean over cases is another number."""
    rng = np.random.default_rng(14)
    for _ in range(30):
        counts = rng.integers(1, 10, 6)
        patients = [f"P{i}" for i, count in enumerate(counts) for _ in range(count)]
        network, pairs = random_scores(rng, len(patients), 3)
        _, _, d = loops(network, pairs, "higher")
        by_patient = [np.mean([x for x, p in zip(d, patients, strict=True) if p == f"P{i}"]) for i in range(6)]
        found = panel_of_cases(network, pairs, list("ABC"), patients, resamples=50)
        assert found.n == 6
        assert found.delta.value == pytest.approx(np.mean(by_patient))
        low, _ = stats.t.interval(0.95, 5, np.mean(by_patient), stats.sem(by_patient))
        assert found.delta.interval.low == pytest.approx(low)


def test_panel_with_missing_readers():
    for index, (rng, n, k) in enumerate(random_tables(15, readers=(3, 5), patients=(8, 15))):
        if index % 4:
            continue
        network, pairs = random_scores(rng, n, k)
        away = rng.random((n, k)) < 0.1
        network[away] = np.nan
        pairs[away] = np.nan
        pairs.transpose(0, 2, 1)[away] = np.nan
        complete = ~away.any(1)
        if complete.sum() < 2:
            continue
        found = panel(network, pairs, [f"R{j}" for j in range(k)], resamples=20)
        assert (found.n, found.n_left_out) == (complete.sum(), (~complete).sum())
        assert found.delta.value == pytest.approx(np.mean(loops(network[complete], pairs[complete], "higher")[2]))
        two = (~away).sum(1) >= 2
        found = panel(network, pairs, [f"R{j}" for j in range(k)], resamples=20, missing="available")
        assert found.n == two.sum()
        assert found.delta.value == pytest.approx(np.mean(loops(network[two], pairs[two], "higher")[2]))


def test_masks_by_counting_votes_and_by_plain_em():
    """Majority by counting; STAPLE by its two equations, prior the mean of all decisions."""
    rng = np.random.default_rng(16)
    for _ in range(25):
        k = int(rng.choice([3, 5, 7]))
        truth = np.zeros((8, 9), dtype=bool)
        truth[2:6, 2:7] = True
        flips = rng.random((k, 8, 9)) < rng.uniform(0.02, 0.15, (k, 1, 1))
        masks = {f"R{j}": truth ^ flips[j] for j in range(k)}
        votes = sum(mask.astype(int) for mask in masks.values())
        assert np.array_equal(majority_vote(masks).picture(), votes > k / 2)
        decisions = np.stack([mask.ravel() for mask in masks.values()])
        p, q, prior = np.full(k, 0.99999), np.full(k, 0.99999), decisions.mean()
        for _ in range(300):
            a = prior * np.prod(np.where(decisions, p[:, None], 1 - p[:, None]), axis=0)
            b = (1 - prior) * np.prod(np.where(decisions, 1 - q[:, None], q[:, None]), axis=0)
            w = a / (a + b)
            p, q = decisions @ w / w.sum(), (~decisions) @ (1 - w) / (1 - w).sum()
        found = staple(masks)
        assert [one.sensitivity for one in found.per_reader] == pytest.approx(p.tolist(), abs=1e-4)
        assert [one.specificity for one in found.per_reader] == pytest.approx(q.tolist(), abs=1e-4)


def test_calibration_in_loops():
    for rng, _, _ in random_tables(17):
        size, bins = int(rng.integers(1, 60)), int(rng.integers(1, 16))
        probability, target = rng.random(size), rng.random(size) < 0.4
        region = rng.random(size) < 0.8
        region[0] = True
        groups = [[] for _ in range(bins)]
        for p, t, inside in zip(probability, target, region, strict=True):
            if inside:
                groups[min(int(p * bins), bins - 1)].append((p, t))
        gaps = [(len(g), abs(np.mean([p for p, _ in g]) - np.mean([t for _, t in g]))) for g in groups if g]
        found = calibration(probability, target, region, num_bins=bins)
        assert found.estimate == pytest.approx(sum(count * gap for count, gap in gaps) / region.sum(), abs=1e-12)
        assert found.mce == pytest.approx(max(gap for _, gap in gaps), abs=1e-12)
        assert found.brier == pytest.approx(np.mean((probability - target)[region] ** 2))


def test_nothing_here_warns_of_nan_in_silence():
    """Constant scores: no warning from numpy, and no interval that claims to be informative."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = panel(np.full((4, 3), 0.9), np.full((4, 3, 3), 0.9), list("ABC"), margin=0.02, resamples=20)
    assert found.delta.value == pytest.approx(0, abs=1e-12)
    assert found.notes


def test_two_patients_are_not_made_more_of_than_they_are():
    """The widest signed rank interval of n patients attains 1 - 2 / 2^n; a difference of shares ends at -1 and 1."""
    for n, words in ((1, "0 %"), (2, "50 %"), (4, "87.5 %"), (5, "93.8 %")):
        assert wilcoxon_signed_rank(np.arange(1.0, n + 1)).note.endswith(f"the interval holds with {words} at most")
    assert not wilcoxon_signed_rank(np.arange(1.0, 7.0)).note
    found = clustered_mcnemar_of_counts(np.array([[0, 2, 0, 0], [0, 0, 2, 0]])).interval
    assert (found.low, found.high) == (-1, 1)
