"""Quality of masks: what is usual, flags with a case that trips each and one that does not, and the record of a run."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from wall_builders import SHAPE, SPACING_MM, loop, picture, wall

from mpi_unet.cohort.domain import OutlineFacts
from mpi_unet.errors import RunError
from mpi_unet.evaluation.components import Kept
from mpi_unet.evaluation.outline_look import OutlineLook, outline_look
from mpi_unet.evaluation.quality import MIN_CASES, QualityCase, QualityRecord, View, read_quality, write_quality
from mpi_unet.inference.quality import NO_RECORD, SEVERITIES, Opinion, Quality, judge, opinions
from mpi_unet.inference.results import StudyResult
from mpi_unet.inference.worklist import Worklist, flag_rows


def case_of(number: int, **changes) -> QualityCase:
    """A case of training like those that the tests judge, each a little different."""
    rng = np.random.default_rng(number)
    mask = wall(radius_mm=float(rng.uniform(26, 30)), long=float(rng.uniform(1.5, 1.7)))
    image = picture(mask, seed=number)
    look = outline_look(mask, image, SPACING_MM, is_projection=False)
    sure = float(rng.uniform(0.84, 0.96))
    noise, dice = 0.04 + 0.02 * float(rng.uniform()), sure - 0.05 + float(rng.normal(0, 0.01))
    values = {
        "case_id": f"P{number}",
        "patient_id": f"P{number}",
        "look": look,
        "total": float(image.sum()),
        "noise": noise,
        "views": (View(sure, sure + float(rng.normal(0, 0.01)), dice),),
        "mean_dice": dice,
        "spread_pct": float(rng.uniform(1, 6)),
        "contact_ratio": look.contact_ratio,
        "bulge": look.bulge,
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
    return np.where(loop() & ~mask, 200, picture(mask, seed=77)).astype(np.float32)


def with_tail(mask):
    tail = mask.copy()
    tail[9, 24:26, 33:47] = True
    return tail


TROUBLE = {
    "truncated": ("urgent", "outermost planes of the image", lambda: {"mask": np.roll(wall(), -4, axis=0)}),
    "hot_neighbor": ("attention", "without a valley .* gut or liver may touch it", lambda: {"image": with_gut(wall())}),
    "bulge": ("attention", "one side of it is .* times as thick", lambda: {"mask": wall() | loop()}),
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
    "hot_neighbor": "contact_ratio",
    "bulge": "bulge",
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
    lacking = tuple(replace(case, views=(replace(case.views[0], expected_dice=math.nan),)) for case in record.cases)
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
        case_of(number, views=(View(0.95 + 0.001 * (number % 3), float(value), float(value)),), mean_dice=float(value))
        for number, value in enumerate(agreed)
    )
    assert QualityRecord(cases).uses_agreement
    limit = QualityRecord(cases).limits["predicted_dice"]  # of what is predicted; by probabilities alone all are alike
    assert limit.low == pytest.approx(np.percentile(agreed, 5), abs=0.03)
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
    cases = (*record.cases, case_of(99, views=(View(0.9, math.nan, 0.8),) * 2, look=OutlineLook(*[math.nan] * 6)))
    write_quality(tmp_path / "quality.json", QualityRecord(cases))
    back = read_quality(tmp_path / "quality.json")
    assert back.key == QualityRecord(cases).key
    assert back.limits == QualityRecord(cases).limits
    assert math.isnan(back.cases[-1].views[1].agreement)
    assert json.loads((tmp_path / "quality.json").read_text())["limits"]["size"]["rule"].startswith(
        "percentile 1 to 99"
    )


def test_a_record_of_the_first_version_predicts_as_it_did_and_says_nothing_of_gut(record, tmp_path):
    write_quality(tmp_path / "quality.json", record)
    content = json.loads((tmp_path / "quality.json").read_text())
    content["schema_version"] = "1.0.0"
    for case in content["cases"]:
        [view] = case.pop("views")
        case |= view | {"neighbor_ratio": 0.6}
        case["look"]["neighbor_ratio"] = 0.6
        for of in (case, case["look"]):
            del of["contact_ratio"], of["bulge"]
        del case["mean_dice"]
    (tmp_path / "quality.json").write_text(json.dumps(content))
    back = read_quality(tmp_path / "quality.json")
    assert back.predicted([(0.9, 0.9)]) == record.predicted([(0.9, 0.9)])
    assert set(record.limits) - set(back.limits) == {"contact_ratio", "bulge"}
    assert codes(judged(back, image=with_gut(wall()))) == set()


def test_a_case_without_any_view_is_refused(record, tmp_path):
    write_quality(tmp_path / "quality.json", QualityRecord(record.cases[:1]))
    content = json.loads((tmp_path / "quality.json").read_text())
    content["cases"][0]["views"] = []
    (tmp_path / "quality.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"case P0 has no views; expected .* make it anew with"):
        read_quality(tmp_path / "quality.json")


def test_the_mean_of_several_networks_is_predicted_to_be_better_than_one(record):
    """Planted: the mean of two lacks a twentieth of the deficit, so that of five lacks 0.08 of it."""
    several = []
    for case in record.cases:
        view = case.views[0]
        several.append(replace(case, views=(view, view), mean_dice=1 - 0.95 * (1 - view.dice)))
    for number in (1, 5):
        said = [(0.9, 0.9)] * number
        before, after = (QualityRecord(tuple(cases)).predicted(said)[0].value for cases in (record.cases, several))
        assert 1 - after == pytest.approx((1 - 0.1 * (1 - 1 / number)) * (1 - before), rel=0.01)


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
