"""Agreement on categories with several rows per patient: the usual coefficients, intervals over patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_of_counts

from mpi_unet.agreement import clustered_agreement, cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from mpi_unet.errors import AgreementError

SCALE = range(5)
COEFFICIENTS = ("cohen", "fleiss", "gwet", "krippendorff", "observed")


def segment_scores(seed: int = 0, patients: int = 20, segments: int = 6, readers: int = 3, missing: float = 0.0):
    """Scores 0 to 4 of segments; a patient whom one reader misread is misread throughout."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, (patients, segments, 1))
    habit = rng.integers(-1, 2, (patients, 1, readers))
    scores = np.clip(truth + habit * (rng.random((patients, segments, readers)) < 0.7), 0, 4).reshape(-1, readers)
    table = scores.astype(object)
    table[rng.random(table.shape) < missing] = None
    return table, np.repeat(np.arange(patients), segments).tolist()


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_estimates_are_the_usual_ones(weights, missing):
    scores, owners = segment_scores(missing=missing)

    def found(table, name):
        return clustered_agreement(table, owners, name, weights=weights, categories=SCALE).estimate

    usual = {"weights": weights, "categories": SCALE}
    assert found(scores, "fleiss") == pytest.approx(fleiss_kappa(scores, **usual).estimate, abs=1e-12)
    assert found(scores, "gwet") == pytest.approx(gwet_ac1(scores, **usual).estimate, abs=1e-12)
    two = scores[:, :2]
    assert found(two, "cohen") == pytest.approx(cohen_kappa(two[:, 0], two[:, 1], **usual).estimate, abs=1e-12)
    metric = "ordinal" if weights else "nominal"
    alpha = krippendorff_alpha(scores, metric, categories=SCALE).estimate
    assert found(scores, "krippendorff") == pytest.approx(alpha, abs=1e-12)


def test_estimates_against_libraries():
    scores, owners = segment_scores()
    numbers = scores.astype(int)
    for weights in (None, "linear", "quadratic"):
        found = clustered_agreement(scores[:, :2], owners, "cohen", weights=weights, categories=SCALE).estimate
        assert found == pytest.approx(
            cohen_kappa_score(numbers[:, 0], numbers[:, 1], weights=weights, labels=list(SCALE)), abs=1e-12
        )
    counts, _ = aggregate_raters(numbers, n_cat=5)
    found = clustered_agreement(scores, owners, "fleiss", categories=SCALE).estimate
    assert found == pytest.approx(fleiss_of_counts(counts), abs=1e-12)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("weights", [None, "linear"])
def test_interval_is_the_jackknife_over_patients(coefficient, weights):
    scores, owners = segment_scores(missing=0.1)
    scores = scores[:, :2] if coefficient == "cohen" else scores
    whole = clustered_agreement(scores, owners, coefficient, weights=weights, categories=SCALE)
    names = np.array(owners)
    n = len(set(owners))
    without = [
        clustered_agreement(
            scores[names != name], names[names != name].tolist(), coefficient, weights=weights, categories=SCALE
        ).estimate
        for name in range(n)
    ]
    error = math.sqrt((n - 1) / n * np.square(np.array(without) - np.mean(without)).sum())
    assert whole.interval is not None
    assert (whole.interval.high - whole.interval.low) / 2 == pytest.approx(2.093024 * error, rel=1e-6)  # t, 19 degrees
    assert whole.n == n


def test_rows_said_twice_change_nothing():
    scores, owners = segment_scores(segments=1)
    for coefficient in COEFFICIENTS:
        table = scores[:, :2]
        once = clustered_agreement(table, owners, coefficient, categories=SCALE)
        thrice = clustered_agreement(np.tile(table, (3, 1)), owners * 3, coefficient, categories=SCALE)
        if coefficient == "krippendorff":  # it corrects for the number of ratings, which has grown
            assert once.estimate != thrice.estimate
            continue
        assert thrice.estimate == pytest.approx(once.estimate)
        assert (thrice.interval.low, thrice.interval.high) == pytest.approx((once.interval.low, once.interval.high))


def test_intervals_hold_what_they_promise_where_rows_of_a_patient_are_alike():
    """Patients whom the second reader misreads throughout: the interval over rows is far too narrow."""
    rng = np.random.default_rng(3)
    truth, held, held_by_rows, runs = 0.6, 0, 0, 200
    for _ in range(runs):
        first = rng.integers(0, 2, (30, 10))
        second = np.where(rng.random((30, 1)) < 0.2, 1 - first, first)  # agreement 0.8, kappa 0.6
        table = np.column_stack([first.ravel(), second.ravel()]).astype(object)
        owners = np.repeat(np.arange(30), 10).tolist()
        found = clustered_agreement(table, owners, "cohen")
        plain = cohen_kappa(table[:, 0], table[:, 1])
        held += found.interval.low <= truth <= found.interval.high
        held_by_rows += plain.interval.low <= truth <= plain.interval.high
    assert held / runs > 0.88
    assert held_by_rows / runs < 0.6


def test_one_category_is_undefined_and_few_patients_have_no_interval():
    same = np.array([["yes", "yes"]] * 6, dtype=object)
    for coefficient in ("cohen", "fleiss", "gwet", "krippendorff"):
        found = clustered_agreement(same, [0, 0, 1, 1, 2, 2], coefficient)
        assert math.isnan(found.estimate)
        assert "one category" in found.note
    mixed = np.array([["yes", "yes"], ["no", "no"], ["yes", "no"], ["no", "no"]], dtype=object)
    few = clustered_agreement(mixed, [0, 0, 1, 1], "cohen")
    assert few.interval is None
    assert "2 patient(s): too few" in few.note
    lone = np.array([["yes", "yes"], ["no", "no"], ["yes", "yes"], ["yes", "yes"]], dtype=object)
    assert "without one of the patients" in clustered_agreement(lone, [0, 1, 2, 3], "cohen").note
    full = np.array([["yes", "yes"], ["no", "no"]] * 4, dtype=object)
    assert "no width" in clustered_agreement(full, [0, 0, 1, 1, 2, 2, 3, 3], "fleiss").note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coefficient": "kappa"}, r"coefficient is 'kappa', expected one of 'cohen', 'fleiss'"),
        ({"weights": "cubic"}, r"weights is 'cubic', expected None, 'linear' or 'quadratic'"),
        ({"patients": [0, 1]}, r"patients has 2 entries for 120 rows; name the patient of each"),
        ({"coefficient": "cohen"}, r"3 readers, expected 2 for Cohen's kappa; use 'fleiss'"),
        ({"level": 95.0}, r"level is 95"),
        ({"categories": [0, 1]}, r"off the scale 0, 1"),
    ],
)
def test_what_cannot_be_computed(arguments, message):
    scores, owners = segment_scores()
    given = {"patients": owners, "coefficient": "fleiss"} | arguments
    with pytest.raises(AgreementError, match=message):
        clustered_agreement(scores, **given)


def test_rows_rated_once_are_refused():
    with pytest.raises(AgreementError, match=r"none of 2 rows was rated twice"):
        clustered_agreement(np.array([["a", None], [None, "b"]], dtype=object), ["P1", "P2"], "fleiss")
