"""Quality of masks: predicted Dice, what is usual, flags with a case that trips each and one that does not."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpi_unet.cohort.domain import OutlineFacts
from mpi_unet.errors import RunError
from mpi_unet.evaluation.components import Kept
from mpi_unet.evaluation.outline_look import OutlineLook, outline_look
from mpi_unet.evaluation.predicted_dice import MIN_PATIENTS, expected_dice, fit_predictor
from mpi_unet.evaluation.quality import MIN_CASES, QualityCase, QualityRecord, read_quality, write_quality
from mpi_unet.inference.quality import NO_RECORD, SEVERITIES, Opinion, Quality, judge, opinions
from mpi_unet.inference.results import StudyResult
from mpi_unet.inference.worklist import Worklist, flag_rows

SPACING_MM = (6.4, 3.2, 3.2)
SHAPE = (18, 48, 48)


def around(middle_mm):
    """Places of the voxels along z, y and x in mm."""
    return (index * step - at for index, step, at in zip(np.indices(SHAPE), SPACING_MM, middle_mm, strict=True))


def wall(middle_mm=(57.6, 76.8, 76.8), radius_mm=28.0, thick_mm=10.0, long=1.6) -> np.ndarray:
    """A hollow ellipsoid, open at one end."""
    z, y, x = around(middle_mm)
    away = np.sqrt((z / long) ** 2 + y**2 + x**2)
    return (away <= radius_mm) & (away >= radius_mm - thick_mm) & (z < 0.7 * long * radius_mm)


def picture(mask: np.ndarray, noise: float = 0.02, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (20 + 100 * mask + 100 * noise * rng.normal(size=mask.shape) * (1 + mask)).astype(np.float32)


def case_of(number: int, **changes) -> QualityCase:
    """A case of training like those that the tests judge, each a little different."""
    rng = np.random.default_rng(number)
    mask = wall(radius_mm=float(rng.uniform(26, 30)), long=float(rng.uniform(1.5, 1.7)))
    image = picture(mask, seed=number)
    look = outline_look(mask, image, SPACING_MM, is_projection=False)
    sure = float(rng.uniform(0.84, 0.96))
    values = {
        "case_id": f"P{number}",
        "patient_id": f"P{number}",
        "look": look,
        "total": float(image.sum()),
        "noise": 0.04 + 0.02 * float(rng.uniform()),
        "dice": sure - 0.05 + float(rng.normal(0, 0.01)),
        "expected_dice": sure,
        "agreement": sure + float(rng.normal(0, 0.01)),
        "spread_pct": float(rng.uniform(1, 6)),
        "neighbor_ratio": look.neighbor_ratio,
        "removed_pct": float(rng.uniform(0, 2)),
    }
    return QualityCase(**(values | changes))


@pytest.fixture(scope="module")
def record() -> QualityRecord:
    return QualityRecord(tuple(case_of(number) for number in range(30)))


def judged(record, mask=None, image=None, *, said=None, **changes) -> Quality:
    """What is said of a mask that is like those of training but for what the test changes."""
    mask = wall() if mask is None else mask
    image = picture(mask, seed=77) if image is None else image
    if said is None:
        said = [Opinion(fold, mask, 0.92) for fold in range(3)]
    kept = changes.pop("kept", Kept(mask, 0, 0))
    asked = {"folds": (0, 1, 2), "record": record, "is_projection": False} | changes
    return judge(kept, said, image, SPACING_MM, **asked)


def codes(quality: Quality) -> set[str]:
    return {flag.code for flag in quality.flags}


# --- predicted Dice ---


@given(st.integers(0, 10_000))
def test_expected_dice_is_the_mean_of_dice_over_masks_drawn_from_the_probabilities(seed):
    """Oracle: sampling; the ratio of means and the mean of ratios agree to 1/n for many voxels."""
    rng = np.random.default_rng(seed)
    probability = rng.uniform(size=4000)
    mask = probability >= 0.5
    drawn = rng.uniform(size=(60, 4000)) < probability
    sampled = np.mean(2 * (drawn & mask).sum(axis=1) / (drawn.sum(axis=1) + mask.sum()))
    assert expected_dice(probability, mask) == pytest.approx(sampled, abs=0.005)


def test_nothing_outlined_is_expected_to_be_worth_nothing():
    assert expected_dice(np.full((2, 2), 0.4), np.zeros((2, 2), bool)) == 0.0


@pytest.mark.parametrize("cases_each", [1, 3])
def test_the_interval_holds_nine_in_ten_new_patients(cases_each):
    """Oracle: simulation, with errors that grow with the deficit; cases of one patient are alike."""
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(150):
        size = 41
        sure = rng.uniform(0.6, 0.97, (size, 1)).repeat(cases_each, axis=1)
        wrong = (1 - sure) * (0.3 * rng.normal(size=(size, 1)) + 0.1 * rng.normal(size=sure.shape))
        true = np.clip(1 - 1.2 * (1 - sure) + wrong, 0, 1)
        patients = [f"P{number}" for number in range(size - 1) for _ in range(cases_each)]
        predictor = fit_predictor(sure[:-1].reshape(-1, 1), true[:-1].ravel(), patients)
        made = predictor([(float(sure[-1, 0]),)])
        inside.append(made.low <= true[-1, 0] <= made.high)
    assert 0.84 <= np.mean(inside) <= 0.97


def test_less_sure_or_less_agreed_never_predicts_a_better_mask():
    rng = np.random.default_rng(3)
    figures = rng.uniform(0.5, 1, (25, 2))
    predictor = fit_predictor(figures, rng.uniform(0.3, 1, 25), [f"P{n}" for n in range(25)])
    for first, second in rng.uniform(0, 0.9, (50, 2)):
        here = predictor([(first, second)]).value
        assert predictor([(first + 0.1, second)]).value >= here - 1e-12
        assert predictor([(first, second + 0.1)]).value >= here - 1e-12
        assert 0 <= here <= 1


def test_too_few_patients_give_no_interval_whatever_their_number_of_cases():
    sure = np.linspace(0.6, 0.9, 40)[:, None]
    few = [f"P{number % (MIN_PATIENTS - 1)}" for number in range(40)]
    made = fit_predictor(sure, sure[:, 0] - 0.1, few)
    assert made.quantile is None
    assert made([(0.8,)]).low is None
    enough = [f"P{number % MIN_PATIENTS}" for number in range(36)]
    assert fit_predictor(sure[:36], sure[:36, 0] - 0.1, enough).quantile is not None
    with pytest.raises(ValueError, match="cases of 1 patients; expected at least 2"):
        fit_predictor(sure, sure[:, 0], ["P0"] * 40)


def test_left_out_predictions_do_not_know_the_patient():
    sure, true = np.linspace(0.7, 0.9, 12)[:, None], np.linspace(0.6, 0.8, 12)
    patients = [f"P{number}" for number in range(12)]
    before = fit_predictor(sure, true, patients).left_out[5]
    true[5] = 0.1
    assert fit_predictor(sure, true, patients).left_out[5] == pytest.approx(before)


# --- how an outline lies ---


def test_a_ball_has_the_figures_of_a_ball():
    z, y, x = (np.indices((41, 41, 41)) - 20).astype(float)
    ball = np.sqrt(z**2 + y**2 + x**2) <= 12
    look = outline_look(ball, ball.astype(np.float32), (2.0, 2.0, 2.0), is_projection=False)
    assert look.size == pytest.approx(4 / 3 * np.pi * 24**3 / 1000, rel=0.02)
    assert look.elongation == pytest.approx(1, abs=0.01)
    assert look.reach_ratio == pytest.approx(1, abs=0.03)
    assert (look.edge_share_pct, look.neighbor_ratio) == (0.0, 0.0)


def test_views_are_looked_at_one_by_one_and_an_empty_outline_is_undefined():
    view = np.zeros((2, 20, 20), bool)
    view[0, 5:9, 5:13] = True
    look = outline_look(view, view.astype(np.float32), (1.0, 2.0, 2.0), is_projection=True)
    assert look.size == 4 * 8 * 4
    assert look.elongation == pytest.approx(2)
    nothing = outline_look(np.zeros_like(view), view.astype(np.float32), None, is_projection=True)
    assert all(math.isnan(value) for value in vars(nothing).values())
    dark = outline_look(view, np.zeros(view.shape, np.float32), None, is_projection=True)
    assert math.isnan(dark.neighbor_ratio)


def test_uptake_in_the_cavity_is_no_neighbor():
    mask = wall()
    image = picture(mask)
    z, y, x = (
        index * step - at for index, step, at in zip(np.indices(SHAPE), SPACING_MM, (57.6, 76.8, 76.8), strict=True)
    )
    closed = (np.abs(z) < 20) & (np.hypot(y, x) < 12)
    pool = image + 150 * closed.astype(np.float32)
    plain, filled = (outline_look(mask, one, SPACING_MM, is_projection=False).neighbor_ratio for one in (image, pool))
    assert filled == pytest.approx(plain, rel=0.05)


# --- flags: a usual mask has none, each trouble its own ---


def test_a_usual_mask_has_no_flag_and_is_looked_at_last(record):
    quality = judged(record)
    assert quality.flags == ()
    assert quality.predicted_dice == pytest.approx(0.88, abs=0.03)
    assert quality.low < quality.predicted_dice < quality.high
    assert quality.fold_agreement == 1.0
    assert quality.volume_spread_pct == 0.0
    assert quality.look_first == pytest.approx(1 - quality.low, abs=1e-3)
    assert quality.reason.startswith("nothing unusual; predicted Dice 0.8")


def with_gut(mask):
    z, y, x = (index * step for index, step in zip(np.indices(SHAPE), SPACING_MM, strict=True))
    loop = np.sqrt((z - 57.6) ** 2 + (y - 120) ** 2 + (x - 76.8) ** 2) <= 14
    return np.where(loop & ~mask, 200, picture(mask, seed=77)).astype(np.float32)


def with_tail(mask):
    tail = mask.copy()
    tail[9, 24:26, 33:47] = True
    return tail


TROUBLE = {
    "truncated": ("urgent", "outermost planes of the image", lambda: {"mask": np.roll(wall(), -4, axis=0)}),
    "hot_neighbor": ("attention", "gut or liver may be part", lambda: {"image": with_gut(wall())}),
    "odd_size": ("attention", "its size is .* ml, the usual ends at .* ml", lambda: {"mask": wall(radius_mm=20.0)}),
    "odd_shape": ("attention", "times as long as wide", lambda: {"mask": wall(radius_mm=24.0, long=2.1)}),
    "odd_reach": ("attention", "it may have a tail", lambda: {"mask": with_tail(wall())}),
    "low_counts": ("attention", "the noise of the image is .* few counts", lambda: {"image": picture(wall(), 0.12)}),
    "low_total": ("attention", "add up to .* few counts", lambda: {"image": picture(wall()) / 4}),
    "folds_disagree": ("attention", "agree .* with a mean Dice of 0.6", lambda: {"said": disagreeing()}),
    "volumes_disagree": ("attention", "volumes of the networks scatter by", lambda: {"said": scattering()}),
    "low_predicted_dice": ("urgent", "its predicted Dice is 0.5", lambda: {"said": unsure()}),
    "parts_removed": ("notice", "parts of .* % of its size were removed", lambda: {"kept": Kept(wall(), 2, 400)}),
    "empty_mask": ("urgent", "nothing was found that looks like LV", lambda: {"kept": Kept(~wall() & wall(), 0, 0)}),
    "network_failed": ("urgent", "the network of fold 1 gave no finite", lambda: {"said": agreeing((0, 2))}),
    "network_empty": ("urgent", "the network of fold 2 found nothing", lambda: {"said": one_empty()}),
    "other_domain": ("attention", "unlike training: its voxels", lambda: {"other_domain": ("its voxels are 9 mm",)}),
}


def agreeing(folds=(0, 1, 2), sure=0.92):
    return [Opinion(fold, wall(), sure) for fold in folds]


def unsure():
    return agreeing(sure=0.55)


def disagreeing():
    return [*agreeing((0, 1)), Opinion(2, np.roll(wall(), 3, axis=2), 0.92)]


def scattering():
    return [*agreeing((0, 1)), Opinion(2, wall(thick_mm=7.0), 0.92)]


def one_empty():
    return [*agreeing((0, 1)), Opinion(2, np.zeros(SHAPE, bool), 0.0)]


@pytest.mark.parametrize("code", TROUBLE)
def test_trouble_is_flagged_with_its_value_and_its_limit(record, code):
    severity, said, make = TROUBLE[code]
    assert code not in codes(judged(record))
    quality = judged(record, **make())
    [flag] = [flag for flag in quality.flags if flag.code == code]
    assert flag.severity == severity
    assert re.search(said, flag.sentence), flag.sentence
    if code not in ("empty_mask", "network_failed", "network_empty", "other_domain"):
        assert flag.limit == pytest.approx(flag.limit)
        assert flag.rule.startswith("percentile ")
        assert record.limits[NAMES[code]].is_passed(flag.value)
    assert quality.look_first >= SEVERITIES[severity]
    assert quality.reason == quality.flags[0].sentence
    levels = [SEVERITIES[one.severity] for one in quality.flags]
    assert levels == sorted(levels, reverse=True)


NAMES = {
    "truncated": "edge_share_pct",
    "hot_neighbor": "neighbor_ratio",
    "odd_size": "size",
    "odd_shape": "elongation",
    "odd_reach": "reach_ratio",
    "low_counts": "noise",
    "low_total": "total",
    "folds_disagree": "agreement",
    "volumes_disagree": "spread_pct",
    "low_predicted_dice": "predicted_dice",
    "parts_removed": "removed_pct",
}


def test_a_gate_with_few_counts_is_called_a_gate(record):
    [flag] = [flag for flag in judged(record, image=picture(wall(), 0.12), gate="3").flags if flag.code == "low_counts"]
    assert flag.sentence.startswith("the noise of gate 3 is ")


def test_a_network_without_numbers_has_no_opinion():
    answer = np.zeros((3, *SHAPE), np.float32)
    answer[[0, 2]] = 0.9 * wall()
    answer[1, 3, 4, 5] = np.nan
    said = opinions(answer, (4, 5, 6), 0.5, lambda mask: Kept(mask, 0, 0))
    assert [one.fold for one in said] == [4, 6]
    assert said[0].expected_dice == pytest.approx(2 * 0.9 / 1.9)


# --- what a run does not know is said ---


def test_a_run_without_a_record_predicts_nothing_and_says_how_to_mend_it():
    quality = judged(None, mask=np.roll(wall(), -4, axis=0))
    assert (quality.predicted_dice, quality.low, quality.why_no_dice) == (None, None, NO_RECORD)
    assert quality.flags == ()
    assert quality.reason == "nothing unusual; its Dice was not predicted"


def test_few_cases_give_no_limits_and_no_prediction(record):
    few = QualityRecord(record.cases[: MIN_CASES - 1])
    assert few.limits == {}
    predicted, why = few.predicted([(0.9, 0.9)])
    assert predicted is None
    assert why == f"fewer than {MIN_CASES} out-of-fold cases of different patients to learn it from"
    assert "predicted_dice" in QualityRecord(record.cases[:MIN_CASES]).limits


def test_a_run_without_probabilities_says_so(record):
    lacking = tuple(replace(case, expected_dice=math.nan) for case in record.cases)
    quality = judged(QualityRecord(lacking, "the run kept no probabilities of 30 cases"))
    assert quality.why_no_dice == "the run kept no probabilities of 30 cases"
    assert "size" in QualityRecord(lacking).limits


def test_a_single_network_is_judged_without_agreement(record):
    quality = judged(record, said=agreeing((1,)), folds=(1,))
    assert quality.fold_agreement is None
    assert quality.volume_spread_pct is None
    assert quality.predicted_dice == pytest.approx(0.87, abs=0.03)


def test_agreement_is_used_where_it_tells_more_than_probabilities():
    """Planted: Dice follows agreement, and probabilities are sure of everything."""
    rng = np.random.default_rng(0)
    agreed = rng.uniform(0.5, 0.95, 30)
    cases = tuple(
        case_of(number, dice=float(value), agreement=float(value), expected_dice=0.95 + 0.001 * (number % 3))
        for number, value in enumerate(agreed)
    )
    assert QualityRecord(cases).uses_agreement
    good, bad = (QualityRecord(cases).predicted([(0.95, value)])[0].value for value in (0.9, 0.6))
    assert (good, bad) == (pytest.approx(0.9, abs=0.02), pytest.approx(0.6, abs=0.02))


def test_a_limit_of_one_training_set_is_not_that_of_another(record):
    larger = QualityRecord(
        tuple(replace(case, look=replace(case.look, size=4 * case.look.size)) for case in record.cases)
    )
    assert "odd_size" in codes(judged(larger))
    assert larger.key != record.key


# --- files ---


def test_the_record_comes_back_as_it_was(record, tmp_path):
    cases = (*record.cases, case_of(99, agreement=math.nan, look=OutlineLook(*[math.nan] * 5)))
    write_quality(tmp_path / "quality.json", QualityRecord(cases))
    back = read_quality(tmp_path / "quality.json")
    assert back.key == QualityRecord(cases).key
    assert back.limits == QualityRecord(cases).limits
    assert math.isnan(back.cases[-1].agreement)
    assert json.loads((tmp_path / "quality.json").read_text())["limits"]["size"]["rule"].startswith(
        "percentile 1 to 99"
    )


@pytest.mark.parametrize("text", ["{", "{}", '{"schema_version": "2.0.0", "why_no_dice": "", "cases": []}'])
def test_another_file_is_no_record(tmp_path, text):
    (tmp_path / "quality.json").write_text(text)
    with pytest.raises(RunError, match=r"remove it and make it anew with `python -m mpi_unet\.evaluate run="):
        read_quality(tmp_path / "quality.json")


def test_the_worklist_begins_with_what_has_no_mask_and_ends_with_what_is_usual(record):
    results = [
        StudyResult("usual", "P1", "", "", "", "segmented", quality=judged(record)),
        StudyResult("cut", "P2", "", "", "", "segmented", quality=judged(record, mask=np.roll(wall(), -4, axis=0))),
        StudyResult("odd", "P3", "", "", "", "segmented", quality=judged(record, mask=wall(radius_mm=20.0))),
        StudyResult("broken", "P4", "", "", "", "failed", "the file ends early"),
        StudyResult("later", "P5", "", "", "", "waiting"),
    ]
    worklist = Worklist()
    cells = [worklist.add(result) for result in results]
    rows = list(worklist.rows({result.study_id: result for result in results}.__getitem__))
    assert [row["study_id"] for row in rows] == ["broken", "cut", "odd", "usual"]
    assert [row["place"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["look_first_reason"] == "failed: the file ends early"
    assert cells[4] == {}
    assert "truncated" in cells[1]["flags"].split()
    [flag] = [row for row in flag_rows(results[1]) if row["code"] == "truncated"]
    assert float(flag["value"]) > float(flag["limit"])
    assert list(flag_rows(results[3])) == []


def test_quality_goes_through_json(record):
    quality = judged(record, mask=wall(radius_mm=20.0))
    from dataclasses import asdict

    assert Quality.from_json(json.loads(json.dumps(asdict(quality)))) == quality


def test_outlines_are_cleaned_alike_when_calibrating_and_predicting():
    """The same function cleans both; a view of a projection set is cleaned in its plane."""
    from mpi_unet.evaluation.components import clean_case

    known = OutlineFacts("pixels", (80, 120), 100, 10, 50, ((0.4, 0.6), (0.4, 0.6)), (6, 8))
    y, x = np.mgrid[:64, :64]
    views = np.stack([np.hypot(y - 30, x - 33) < 5.5, np.hypot(y - 52, x - 20) < 9])
    both = views.any(axis=0)[None].repeat(2, axis=0)
    kept = clean_case(both, (1.0, 1.0, 1.0), known, is_projection=True, by_place=True)
    assert (kept.mask == views[0]).all()
    assert kept.num_removed == 2
    largest = clean_case(both, (1.0, 1.0, 1.0), known, is_projection=True, by_place=False)
    assert (largest.mask == views[1]).all()
