"""The page about measurements and categories: from columns of a cohort, through the door, to tables and charts."""

from __future__ import annotations

from pathlib import Path

import pytest
from doors import open_door
from hydra import compose, initialize_config_dir
from reading_builders import add_columns, case_ids, ejection_fractions, judgments, write_rows
from report_builders import Page, assert_sound
from test_reader_study import write_read_cohort

from mpi_unet.config import config_dir
from mpi_unet.errors import ConfigError
from mpi_unet.files import read_json
from mpi_unet.reader_study.options import ReadingOptions
from mpi_unet.reader_study.request import check_request
from mpi_unet.reader_study.request_readings import reading_options_of
from mpi_unet.report.agreement_readings import category_parts, measurement_parts


def request(*words: str):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("evaluate", overrides=["run=r", *words])


def evaluated(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Page, dict]:
    common = ["cohort=cohort", "output=out", "bootstrap.draws=1000", "num_workers=1"]
    assert open_door("evaluate", *common, *words, folder=folder, monkeypatch=monkeypatch) == 0
    page = Page(folder / "out/report.html")
    assert_sound(page)
    return page, read_json(folder / "out/agreement.json")


# --- the keys ---


def test_keys_become_options(tmp_path):
    table = write_rows(tmp_path / "t.csv", [{"case_id": "P1", "ef_pct__A": 60}])
    config = request(
        f"measurements=[{table}]",
        f"network_measurements={table}",
        "measurement_margins={ef_pct: 5, edv_ml: 10.5}",
        "categories={severity: [none, mild, severe], ok: [false, true], score: [0, 1, 2], "
        "territory: {unordered: [LAD, LCX, RCA]}}",
        "category_weights=quadratic",
        "category_reference=A",
        "further_readers=[D]",
    )
    assert check_request(config) == "run"
    assert reading_options_of(config) == ReadingOptions(
        tables=(table,),
        network_table=table,
        margins={"ef_pct": 5.0, "edv_ml": 10.5},
        scales={
            "severity": ("none", "mild", "severe"),
            "ok": ("false", "true"),
            "score": ("0", "1", "2"),
            "territory": ("LAD", "LCX", "RCA"),
        },
        ordered=("severity", "ok", "score"),
        weights="quadratic",
        reference="A",
        further_readers=("D",),
    )
    assert reading_options_of(request()) == ReadingOptions()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("measurement_margins={ef_pct: -5}", r"measurement_margins is .*expected a positive difference in the unit"),
        ("measurement_margins=5", r"measurement_margins is 5, expected a positive difference"),
        ("categories=[a,b]", r"categories is \['a', 'b'\], expected a scale a quantity"),
        ("categories={ok: [yes]}", r"categories.ok is \['yes'\], expected two or more categories, each once"),
        ("categories={ok: [yes,yes]}", r"categories.ok is .*each once, the lowest first"),
        ("categories={ok: yes}", r"categories.ok is yes, expected two or more categories"),
        ("categories={ok: {order: [a,b]}}", r"categories.ok is .*unordered: \[a,b,c\]"),
        ("category_weights=linaer", r"category_weights is 'linaer', expected linear or quadratic; did you mean 'linea"),
    ],
)
def test_keys_that_cannot_be_meant(word, message):
    with pytest.raises(ConfigError, match=message):
        check_request(request(word))


# --- the page ---


def test_page_of_a_network_with_measurements_and_categories(tmp_path, monkeypatch, capfd):
    root = tmp_path / "cohort"
    write_read_cohort(root, 8, ("A", "B", "C", "N"), repeats={"A2": "A"})
    values = ejection_fractions(8, ("network", "A", "B", "A2"))
    columns = {f"ef_pct__{name}": numbers for name, numbers in values.items() if name != "network"}
    columns |= {"edv_ml__A": [100, 120, 90, 80, 150, 110, 95, 130]}
    columns |= {f"acceptable__{name}": ["yes"] * 7 + ["no"] for name in ("A", "B", "D")}
    add_columns(root, columns)
    own = [{"study_id": name, "ef_pct": values["network"][place]} for place, name in enumerate(case_ids(root))]
    write_rows(tmp_path / "measurements.csv", own)
    page, document = evaluated(
        tmp_path,
        monkeypatch,
        "predictions=N",
        "network_measurements=measurements.csv",
        "measurement_margins={ef_pct: 5}",
        "further_readers=[D]",
        "categories={acceptable: [no,yes]}",
    )
    assert [part["name"] for part in document["measurements"]] == ["ef_pct", "edv_ml"]
    for said in (
        "Measurements",
        "EF (%)",
        "Differences are in percentage points.",
        "EF, network against readers",
        "5 points",
        "A2 minus A",
        "disagreement with the own second reading over that with the network (psi)",
        "Not compared: only A gave values: with one reader agreement is not measured",
        "Acceptable",
        "88 % of all ratings are 'yes'. Where nearly everybody gets the same category",
        "Gwet's AC1",
        "the conclusion does not rest on them",
    ):
        assert said in page.text, said
    assert (tmp_path / "out/figures/agreement_measurement_0_0.svg").is_file()
    hrefs = page.values("href")
    assert "#agreement-measurements" in hrefs
    assert "#agreement-categories" in hrefs


def test_page_of_readers_only_with_segment_scores(tmp_path, monkeypatch, capfd):
    root = tmp_path / "cohort"
    write_read_cohort(root, 6, ("A", "B"), simulated=True)
    for segment in range(1, 5):
        scores = judgments(6, ("A", "B", "network"), list("01234"), seed=segment)
        add_columns(root, {f"score_seg{segment}__{name}": words for name, words in scores.items()})
    page, document = evaluated(tmp_path, monkeypatch, "readers=only", "categories={score: [0,1,2,3,4]}")
    assert document["measurements"] is None
    for said in (
        "0 < 1 < 2 < 3 < 4: 24 rows, each a segment of a case, of 6 patients",
        "linear weights",
        "intervals and tests are over patients",
        "Not compared: score__network (no network is compared)",
    ):
        assert said in page.text.replace(" ;", ";"), said
    assert "#agreement-measurements" not in page.values("href")


def test_what_is_wrong_is_one_message_without_a_traceback(tmp_path, monkeypatch, capfd):
    root = tmp_path / "cohort"
    write_read_cohort(root, 3, ("A", "B"))
    add_columns(root, {"ef_pct__A": [50, "x", 60], "ef_pct__Z": [1, 2, 3]})
    words = ["cohort=cohort", "readers=only", "output=out"]
    assert open_door("evaluate", *words, folder=tmp_path, monkeypatch=monkeypatch) == 2
    said = capfd.readouterr().err
    assert "2 things are wrong with the readings" in said
    assert "ef_pct by A is 'x', expected a number" in said
    assert "'Z' is no reader of the cohort" in said
    assert "Traceback" not in said


def test_parts_that_are_absent_or_bare_do_not_stop_the_page():
    assert measurement_parts({}) == category_parts({}) == []
    [part] = measurement_parts({"measurements": [{"name": "ef_pct"}]})
    assert part["rows"] == part["plots"] == []
    [part] = category_parts({"categories": [{"name": "ok", "tests": None}]})
    assert part["pairs"] == part["together"]["rows"] == []
