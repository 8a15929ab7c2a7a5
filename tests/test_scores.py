"""Scores of cases and the table made of them: what counts as what, and that a frame is never a unit."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpi_unet.errors import RunError
from mpi_unet.evaluation import boundary, overlap
from mpi_unet.evaluation.metrics import METRICS
from mpi_unet.evaluation.scores import case_scores
from mpi_unet.evaluation.table import (
    ScoreRow,
    fold_table,
    patient_means,
    patient_values,
    read_scores,
    score_rows,
    summarize,
    summarize_baselines,
    write_scores,
)

SPACING_MM = (6.4, 3.2, 3.2)
PIXELS = {"dice", "iou", "precision", "recall", "specificity", "accuracy", "macro_dice", "macro_iou"}
FRAMES = {"frame_dice", "frames_missed", "frames_invented"}


def blobs(seed=0, shape=(5, 20, 22)):
    rng = np.random.default_rng(seed)
    preds, target = np.zeros((2, *shape), dtype=bool)
    target[1:4, 5:12, 6:14] = True
    preds[1:5, 6:12, 5:14] = True
    return preds ^ (rng.random(shape) < 0.02), target


def scored(preds, target, domain="short_axis", spacing_mm=SPACING_MM, tolerance_mm=3.2):
    return case_scores(preds, target, spacing_mm=spacing_mm, domain=domain, tolerance_mm=tolerance_mm)


def empty():
    return np.zeros((3, 12, 12), dtype=bool)


def outlined(frames=(0, 1, 2)):
    mask = empty()
    mask[list(frames), 3:8, 3:8] = True
    return mask


# --- Scores of a case ---


def test_a_volume_with_spacing_has_every_score():
    assert set(scored(*blobs())) == set(METRICS)


def test_scores_stand_in_the_order_of_the_tables():
    names = list(METRICS)
    assert list(scored(*blobs())) == names
    assert list(scored(*blobs(), domain="projection")) == [name for name in names if not METRICS[name].volumes_only]


def test_what_cannot_be_measured_is_absent():
    assert set(scored(*blobs(), spacing_mm=None)) == {name for name in METRICS if not METRICS[name].needs_spacing}
    assert set(scored(*blobs(), spacing_mm=None, domain="projection")) == PIXELS | FRAMES
    assert "nsd" not in scored(*blobs(), tolerance_mm=None)
    assert "nsd" not in scored(*blobs(), tolerance_mm=None, domain="projection")


def test_pixels_are_summed_over_the_frames_before_any_ratio():
    preds, target = blobs()
    scores = scored(preds, target)
    counts = overlap.frame_counts(preds.reshape(1, -1), target.reshape(1, -1))[0]
    for name in PIXELS:
        assert scores[name] == getattr(overlap, name)(counts)
    assert scores["frame_dice"] == pytest.approx(np.nanmean(overlap.dice(overlap.frame_counts(preds, target))))
    assert scores["frame_dice"] != pytest.approx(scores["dice"], abs=1e-3)


def test_a_volume_is_measured_in_three_dimensions():
    preds, target = blobs()
    scores = scored(preds, target)
    distances = boundary.surface_distances(preds, target, SPACING_MM)
    assert scores["hd95_mm"] == boundary.hd95_mm(distances)
    assert scores["assd_mm"] == boundary.assd_mm(distances)
    assert scores["nsd"] == boundary.nsd(distances, 3.2)
    assert scores["volume_difference_ml"] == pytest.approx((preds.sum() - target.sum()) * 6.4 * 3.2 * 3.2 / 1000)
    assert scores["volume_difference_pct"] == pytest.approx(100 * (preds.sum() / target.sum() - 1))
    assert scores["false_positive_ml"] == pytest.approx((preds & ~target).sum() * 6.4 * 3.2 * 3.2 / 1000)


def test_projections_are_measured_frame_by_frame_whatever_their_third_spacing():
    preds, target = outlined(), np.roll(outlined(), 1, axis=1)
    target[1] = np.roll(target[1], 1, axis=0)  # one pixel more in the second frame
    scores = scored(preds, target, domain="projection", spacing_mm=(1.0, 4.0, 4.0))
    assert scores["hd95_mm"] == pytest.approx((4 + 8 + 4) / 3)
    assert scores == scored(preds, target, domain="projection", spacing_mm=(99.0, 4.0, 4.0))


def test_a_missed_frame_of_a_projection_counts_as_the_diagonal_of_a_frame():
    target = outlined()
    scores = scored(outlined((0, 1)), target, domain="projection", spacing_mm=(1.0, 1.0, 1.0), tolerance_mm=1.0)
    assert scores["hd95_mm"] == pytest.approx((0 + 0 + 15.556349) / 3)
    assert scores["diagonal_mm"] == pytest.approx(15.556349)
    assert scores["nsd"] == pytest.approx(2 / 3)
    assert (scores["frames_missed"], scores["frames_invented"]) == (1, 0)
    assert scored(target, outlined((0, 1)), domain="projection")["frames_invented"] == 1


def test_frames_empty_in_both_masks_change_no_score_of_a_projection_set():
    scores = scored(outlined((0, 1)), np.roll(outlined((0, 1)), 1, axis=1), domain="projection")
    alone = scored(outlined((0, 1))[:2], np.roll(outlined((0, 1)), 1, axis=1)[:2], domain="projection")
    for name in ("dice", "recall", "precision", "frame_dice", "hd95_mm", "assd_mm", "nsd"):
        assert scores[name] == alone[name]


NAN, INF = math.nan, math.inf
EDGES = ("dice", "iou", "precision", "recall", "frame_dice", "hd95_mm", "assd_mm", "nsd")


@pytest.mark.parametrize("domain", ["short_axis", "projection"])
@pytest.mark.parametrize(
    ("preds", "target", "expected", "volume"),
    [
        pytest.param(empty(), empty(), (NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN), (0, NAN, 0), id="both empty"),
        pytest.param(outlined(), empty(), (0, 0, 0, NAN, 0, INF, INF, 0), (4.915, NAN, 4.915), id="target empty"),
        pytest.param(empty(), outlined(), (0, 0, NAN, 0, 0, INF, INF, 0), (-4.915, -100, 0), id="preds empty"),
    ],
)
def test_empty_masks_follow_the_policy(preds, target, expected, volume, domain):
    scores = scored(preds, target, domain=domain)
    assert [scores[name] for name in EDGES] == pytest.approx(list(expected), nan_ok=True)
    if domain == "short_axis":
        names = ("volume_difference_ml", "volume_difference_pct", "false_positive_ml")
        assert [scores[name] for name in names] == pytest.approx(list(volume), abs=1e-3, nan_ok=True)


@given(arrays(bool, (2, 3, 4, 5)), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_repeating_every_frame_changes_no_ratio(pair, times):
    once = scored(*pair, domain="projection")
    repeated = scored(*(np.repeat(mask, times, axis=0) for mask in pair), domain="projection")
    for name in (*PIXELS, "frame_dice", "hd95_mm", "assd_mm", "nsd"):
        assert repeated[name] == pytest.approx(once[name], nan_ok=True)


def test_impossible_arguments_are_refused():
    preds, target = blobs()
    with pytest.raises(ValueError, match=r"domain is 'projections', expected one of .*did you mean 'projection'"):
        scored(preds, target, domain="projections")
    with pytest.raises(TypeError, match="preds has dtype float32"):
        scored(preds.astype(np.float32), target)
    with pytest.raises(ValueError, match="spacing_mm is"):
        scored(preds, target, spacing_mm=(6.4, 0.0, 3.2))
    with pytest.raises(ValueError, match="tolerance_mm is -1"):
        scored(preds, target, tolerance_mm=-1.0)


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.name == name
        assert len(metric.definition) > 20
        assert metric.label
        assert name.endswith({"mm": "_mm", "ml": "_ml", "%": "_pct"}.get(metric.unit, ""))
        assert metric.needs_spacing == (metric.unit in ("mm", "ml") or name == "nsd")
    labels = [(metric.label, metric.unit) for metric in METRICS.values()]
    assert len(set(labels)) == len(labels)
    with pytest.raises(TypeError):
        METRICS["dice"] = METRICS["iou"]


# --- The table ---


def rows_of(cases, metric="dice", **columns):
    """Rows from {(patient, case): value}."""
    known = {"reader": "A", "fold": 0, "unit": METRICS[metric].unit} | columns
    return [ScoreRow(patient, case, metric=metric, value=value, **known) for (patient, case), value in cases.items()]


def test_rest_and_stress_of_a_patient_count_once():
    rows = rows_of({("P1", "P1-rest"): 0.6, ("P1", "P1-stress"): 0.8, ("P2", "P2-rest"): 0.9})
    assert patient_means(rows) == {"dice": {"P1": pytest.approx(0.7), "P2": 0.9}}
    summary = summarize(rows)["dice"]
    assert (summary["n"], summary["mean"]) == (2, pytest.approx(0.8))


def test_repeating_the_cases_of_a_patient_leaves_the_interval_unchanged():
    once = rows_of({(f"P{i}", f"P{i}-0"): value for i, value in enumerate((0.7, 0.8, 0.95))})
    again = [replace(row, case_id=row.case_id + "-again") for row in once]
    before, after = summarize(once)["dice"], summarize(once + again)["dice"]
    assert after["ci95"] == pytest.approx(before["ci95"])
    assert after["n"] == before["n"] == 3


def test_an_undefined_case_is_left_out_of_its_patient_and_counted():
    rows = rows_of({("P1", "a"): NAN, ("P1", "b"): 0.8, ("P2", "c"): NAN, ("P3", "d"): 0.6})
    means = patient_means(rows)["dice"]
    assert (means["P1"], means["P3"]) == (0.8, 0.6)
    assert math.isnan(means["P2"])
    summary = summarize(rows)["dice"]
    assert (summary["n"], summary["n_undefined"], summary["n_undefined_cases"]) == (2, 1, 2)
    assert summary["mean"] == pytest.approx(0.7)


def test_an_infinite_case_counts_as_the_diagonal_of_its_own_image():
    cases = {("P1", "a"): INF, ("P1", "b"): 10.0, ("P2", "c"): 4.0, ("P3", "d"): 6.0}
    diagonals = {key: 100.0 if key[1] == "a" else 300.0 for key in cases}
    rows = rows_of(cases, "hd95_mm") + rows_of(diagonals, "diagonal_mm")
    assert patient_means(rows)["hd95_mm"] == {"P1": INF, "P2": 4.0, "P3": 6.0}
    column = patient_values(rows)["hd95_mm"]
    assert column.finite.tolist() == [55.0, 4.0, 6.0]
    summary = summarize(rows)["hd95_mm"]
    assert summary["mean"] == pytest.approx(65 / 3)
    assert (summary["median"], summary["max"], summary["n_infinite"], summary["n_infinite_cases"]) == (6.0, "inf", 1, 1)
    assert "diagonal" in summary["note"]
    assert "diagonal_mm" not in summarize(rows)


def test_an_infinite_case_without_a_diagonal_is_refused():
    expected = r"1 infinite score\(s\) without a row diagonal_mm(.|\n)*case a, hd95_mm(.|\n)*spacing"
    with pytest.raises(RunError, match=expected):
        patient_means(rows_of({("P1", "a"): INF, ("P2", "b"): 1.0}, "hd95_mm"))


def test_frames_are_refused_as_units():
    frames = rows_of({("P1", "P1-rest"): 0.9}) * 46
    with pytest.raises(
        RunError, match=r"P1, case P1-rest, dice, reader A: 46 rows(.|\n)*frame is no unit of inference"
    ):
        summarize(frames)
    with pytest.raises(RunError, match=r"1 score\(s\) stand more than once"):
        patient_means(frames)
    with pytest.raises(RunError, match="stand more than once"):
        fold_table(frames)


def test_a_case_of_two_patients_is_refused():
    with pytest.raises(RunError, match=r"1 case\(s\) belong to several patients(.|\n)*case a: patients P1, P2"):
        summarize(rows_of({("P1", "a"): 0.9, ("P2", "a"): 0.8}))


@pytest.mark.parametrize(("column", "values"), [("reader", ("A", "B")), ("baseline", ("", "mean_shape"))])
def test_two_readers_or_baselines_at_once_are_refused(column, values):
    rows = [row for value in values for row in rows_of({("P1", "a"): 0.9}, **{column: value})]
    with pytest.raises(RunError, match=rf"rows of 2 {column}s \('{values[0]}', '{values[1]}'\), expected one"):
        summarize(rows)


def test_an_unknown_metric_is_refused():
    with pytest.raises(RunError, match="unknown metric dise; expected dice, iou"):
        summarize([replace(rows_of({("P1", "a"): 0.9})[0], metric="dise")])


def test_order_of_rows_is_irrelevant():
    rows = [
        row
        for seed in range(4)
        for row in score_rows(scored(*blobs(seed)), patient_id=f"P{seed // 2}", case_id=f"c{seed}", reader="A", fold=0)
    ]
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    assert list(summarize(shuffled)) == list(summarize(rows))
    for name, summary in summarize(rows).items():
        assert summarize(shuffled)[name]["mean"] == pytest.approx(summary["mean"])


def test_summary_is_json_and_has_the_fields_of_its_schema():
    rows = score_rows(scored(empty(), outlined()), patient_id="P1", case_id="a", reader="A", fold=0)
    rows += score_rows(scored(*blobs()), patient_id="P2", case_id="b", reader="A", fold=1)
    summary = json.loads(json.dumps(summarize(rows), allow_nan=False))
    fields = {"label", "unit", "better", "n", "n_undefined", "n_infinite", "mean", "sd", "ci95", "ci_method"}
    fields |= {"median", "iqr", "min", "max", "note", "role", "definition", "n_undefined_cases", "n_infinite_cases"}
    assert all(set(entry) == fields for entry in summary.values())
    assert summary["hd95_mm"]["n_infinite"] == 1
    assert summary["precision"]["n_undefined"] == 1
    assert summary["dice"]["ci_method"] == "t over patients"


def test_fold_table_has_a_row_a_fold():
    rows = rows_of({("P1", "a"): 0.6, ("P2", "b"): 0.8}) + rows_of({("P3", "c"): NAN}, fold=1)
    assert fold_table(rows) == [
        {"fold": 0, "n_patients": 2, "dice": pytest.approx(0.7)},
        {"fold": 1, "n_patients": 1, "dice": None},
    ]


def test_baselines_are_summarized_each_for_itself():
    rows = rows_of({("P1", "a"): 0.6, ("P2", "b"): 0.8}, baseline="mean_shape")
    rows += rows_of({("P1", "a"): 0.0, ("P2", "b"): 0.0}, baseline="all_background")
    found = summarize_baselines(rows, {"all_background": "Nothing", "mean_shape": "Mean shape", "other": "Unused"})
    assert {name: (entry["label"], entry["metrics"]["dice"]["mean"]) for name, entry in found.items()} == {
        "all_background": ("Nothing", 0.0),
        "mean_shape": ("Mean shape", pytest.approx(0.7)),
    }
    assert list(found) == ["all_background", "mean_shape"]
    with pytest.raises(RunError, match="baseline 'mean_shape' is not one of all_background"):
        summarize_baselines(rows, {"all_background": "Nothing"})


# --- Reading and writing ---


def test_table_survives_the_disk_bit_for_bit(tmp_path):
    rows = rows_of({("P1", "a"): 1 / 3, ("P2", "b"): NAN}) + rows_of({("P1", "a"): INF}, "hd95_mm")
    write_scores(tmp_path / "scores.csv", rows)
    text = (tmp_path / "scores.csv").read_text()
    assert text.splitlines() == [
        "patient_id,case_id,reader,fold,metric,value,unit",
        "P1,a,A,0,dice,0.3333333333333333,",
        "P2,b,A,0,dice,,",
        "P1,a,A,0,hd95_mm,inf,mm",
    ]
    again = read_scores(tmp_path / "scores.csv")
    assert [replace(row, value=0.0) for row in again] == [replace(row, value=0.0) for row in rows]
    assert [row.value for row in again] == pytest.approx([row.value for row in rows], rel=0, nan_ok=True)


def test_identifiers_survive_the_disk(tmp_path):
    rows = rows_of({("00123456789012345678901234567890123456", 'O\'Neil, "rest"\nx'): 0.5, ("nan", "\u00fc"): 0.25})
    write_scores(tmp_path / "scores.csv", rows)
    assert read_scores(tmp_path / "scores.csv") == rows


def test_baselines_have_a_column_of_their_own(tmp_path):
    rows = rows_of({("P1", "a"): 0.5}, baseline="mean_shape") + rows_of({("P1", "a"): 0.1}, baseline="all_background")
    write_scores(tmp_path / "baselines.csv", rows)
    assert (
        (tmp_path / "baselines.csv")
        .read_text()
        .startswith("patient_id,case_id,reader,fold,metric,value,unit,baseline\n")
    )
    assert read_scores(tmp_path / "baselines.csv") == rows


def test_rows_per_frame_are_neither_written_nor_read(tmp_path):
    frames = rows_of({("P1", "a"): 0.5}) * 2
    with pytest.raises(RunError, match="stand more than once"):
        write_scores(tmp_path / "scores.csv", frames)
    assert not (tmp_path / "scores.csv").exists()
    write_scores(tmp_path / "scores.csv", frames[:1])
    with (tmp_path / "scores.csv").open("a") as file:
        file.write("P1,a,A,0,dice,0.6,\n")
    with pytest.raises(RunError, match=r"scores\.csv: 1 score\(s\) stand more than once"):
        read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("P1,a,A,0,dice,good,", "line 3: could not convert string to float: 'good'"),
        ("P1,a,A,first,dice,0.5,", "line 3: invalid literal for int"),
        ("P1,a,A,0,dise,0.5,", "line 3: unknown metric 'dise'; did you mean 'dice'"),
        ("P1,a,A,0,dice", "line 3: more or fewer cells than columns"),
        ("P1,a,A,0,dice,0.5,,extra", "line 3: more or fewer cells than columns"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, line, fault):
    write_scores(tmp_path / "scores.csv", rows_of({("P2", "b"): 0.5}))
    with (tmp_path / "scores.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RunError, match=rf"scores\.csv: 1 line\(s\) cannot be read(.|\n)*{fault}"):
        read_scores(tmp_path / "scores.csv")


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(RunError, match=r"scores\.csv is missing, expected the table of scores; evaluate"):
        read_scores(tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("patient_id,case_id,metric,value\n")
    with pytest.raises(RunError, match=r"no column reader, fold, unit; expected patient_id.*found patient_id"):
        read_scores(tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("")
    with pytest.raises(RunError, match="found an empty file"):
        read_scores(tmp_path / "scores.csv")
