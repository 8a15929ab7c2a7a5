"""The page of an agreement analysis: what it shows in each mode, what it refuses to say, how it bears odd figures."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agreement_builders import agreement_document, estimate, make_readers_cohort, write_agreement
from jsonschema import Draft202012Validator
from report_builders import HOSTILE, Page, assert_sound, make_run

import mpi_unet.agreement
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError
from mpi_unet.report import agreement_figures
from mpi_unet.report.agreement import write_agreement_report
from mpi_unet.report.agreement_section import agreement_part, read_agreement
from mpi_unet.report.agreement_tables import matrices, primary_table
from mpi_unet.report.page import write_report
from mpi_unet.report.svg import Drawing
from mpi_unet.report.wording import forbidden_words

LONG = [f"Dr. Alexandra Featherstonehaugh-Cholmondeley {letter}" for letter in "ABCDEFGHIJ"]
SCHEMA = Path(mpi_unet.agreement.__file__).with_name("agreement.schema.json")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three readers, never changed by a test."""
    return make_readers_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def finished(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it, never changed by a test."""
    folder = write_agreement(tmp_path_factory.mktemp("finished"), agreement_document(cohort.patients))
    return write_agreement_report(folder, cohort, predictions=cohort.root / "predictions")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts without their lines, for tests of the text that need many pages."""

    def panel(name: str, alt: str, *_: Any) -> Drawing:
        return Drawing(name, alt, "<svg/>", f'<svg class="chart" aria-label="{len(alt)}"></svg>')

    monkeypatch.setattr(agreement_figures, "panel", panel)


def page_of(folder: Path, document: dict[str, Any], cohort: Cohort, **options: Any) -> Page:
    return Page(write_agreement_report(write_agreement(folder, document), cohort, **options))


MODES: dict[str, dict[str, Any]] = {
    "with margin": {},
    "without margin": {"margin": None},
    "one reader": {"readers": ["A"], "margin": None},
    "two readers": {"readers": ["A", "B"]},
    "readers only": {"network": False, "margin": None},
    "two readers only": {"network": False, "readers": ["A", "B"], "margin": None},
    "projections": {"volumes": False, "domain": "projection"},
    "simulated": {"simulated": True},
    "ten readers": {"readers": LONG},
    "three patients": {"patients": 3},
}


@pytest.mark.parametrize("mode", MODES)
def test_document_of_the_builder_has_the_shape_of_the_schema(mode: str) -> None:
    errors = Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(agreement_document(**MODES[mode]))
    assert [f"{error.json_path}: {error.message[:200]}" for error in errors] == []


@pytest.mark.parametrize("mode", MODES)
def test_page_is_sound_in_every_mode(mode: str, cohort: Cohort, tmp_path: Path) -> None:
    document = agreement_document(**MODES[mode])
    page = page_of(tmp_path, document, cohort)
    assert_sound(page)
    assert document["conclusion"]["text"] in page.text
    assert not any(forbidden_words(label) for label in page.values("aria-label"))
    parts = page.values("id")
    compares = document["mode"] != "readers_only" and len(document["design"]["readers"]) > 1
    assert ("agreement-primary" in parts) == compares
    assert ("agreement-appendix" in parts) == compares
    assert ("agreement-probabilities" in parts) == (document["mode"] != "readers_only")
    assert ("agreement-one-out" in parts) == (len(document["design"]["readers"]) > 2)
    for name in ("patients", "volume", "failures", "cases", "study", "scores", "claim", "methods", "limits"):
        assert f"agreement-{name}" in parts


def test_conclusion_stands_first_and_word_for_word(finished: Path, cohort: Cohort) -> None:
    page = Page(finished)
    text = agreement_document(cohort.patients)["conclusion"]["text"]
    assert page.text.index(text) < page.text.index("How to read")
    assert page.text.count(text) == 1


def test_a_conclusion_whose_sentences_differ_from_its_text_is_shown_by_its_text(cohort: Cohort, tmp_path: Path) -> None:
    document = agreement_document()
    document["conclusion"]["sentences"] = ["Something else."]
    page = page_of(tmp_path, document, cohort)
    assert document["conclusion"]["text"] in page.text
    assert "Something else." not in page.text


@pytest.mark.parametrize("claim", ["as good as", "not significantly different", "outperforms", "human-level"])
def test_a_conclusion_with_a_forbidden_claim_is_refused(claim: str, cohort: Cohort, tmp_path: Path) -> None:
    document = agreement_document()
    document["conclusion"]["text"] = f"The network is {claim} experts."
    write_agreement(tmp_path, document)
    with pytest.raises(AgreementError, match=r"which no comparison of this kind supports; make it anew with"):
        write_agreement_report(tmp_path, cohort)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist, so there is no agreement to report; make it anew"),
        ("{", "cannot be read"),
        ("[]", "holds a list, expected an object"),
        ('{"schema_version": "2.0.0"}', "schema_version 2.0.0, expected 1.x"),
        ("{}", "schema_version missing, expected 1.x"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(content: str | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "agreement.json").write_text(content)
    with pytest.raises(AgreementError, match=re.escape(said)):
        read_agreement(tmp_path)


def test_same_file_same_bytes(finished: Path, cohort: Cohort, tmp_path: Path) -> None:
    shutil.copy(finished.with_name("agreement.json"), tmp_path)
    again = write_agreement_report(tmp_path, cohort, predictions=cohort.root / "predictions", name="agreement.html")
    assert again.name == "agreement.html"
    assert again.read_bytes() == finished.read_bytes()
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert "agreement_delta.svg" in drawn
    assert "agreement_volume_0.svg" in drawn


def test_margin_is_a_band_only_when_there_is_one(cohort: Cohort, tmp_path: Path) -> None:
    with_margin = page_of(tmp_path / "with", agreement_document(), cohort)
    without = page_of(tmp_path / "without", agreement_document(margin=None), cohort)
    assert "The gray band is the margin of 0.020" in with_margin.text
    assert "p, equivalence (TOST)" in with_margin.text
    assert "No margin was given, so there is no band, and the chart decides nothing." in without.text
    assert "p, equivalence (TOST)" not in without.text
    assert "Equivalence needs" not in without.text


def test_one_reader_gets_scores_and_no_comparison(cohort: Cohort, tmp_path: Path) -> None:
    page = page_of(tmp_path, agreement_document(readers=["A"], margin=None), cohort)
    assert "Primary analysis" not in page.text
    assert "Dice, readers with one another" not in page.text
    assert "network and A" in page.text
    assert "p0 < 0.70" in page.text


def test_readers_only_never_mentions_a_network_of_their_own(cohort: Cohort, tmp_path: Path) -> None:
    page = page_of(tmp_path, agreement_document(network=False, margin=None), cohort)
    head = page.text[: page.text.index("Who and what was compared")]
    assert "Agreement of readers with one another" in head
    found = re.search(r".{80}network", head)
    assert found is None, found
    assert "readers only, no network" in page.text


def test_every_patient_and_every_failure_is_listed(finished: Path, cohort: Cohort, tmp_path: Path) -> None:
    document = agreement_document(patients=40)
    page = page_of(tmp_path, document, cohort)
    assert len(document["failures"]["patients"]) >= 1
    failures = page.text[page.text.index("Every such patient") :]
    for row in document["failures"]["patients"]:
        assert f"{row['patient_id']} {row['case_id']} {row['p0']:.3f}" in failures
    listed = page.text[page.text.index("Table of all 40 patients") : page.text.index("Everyone with everyone")]
    assert all(row["patient_id"] in listed for row in document["agreement"]["dice"]["per_patient"])
    assert listed.count(" yes") == len(document["failures"]["patients"])


def test_text_from_the_cohort_is_escaped(cohort: Cohort, tmp_path: Path) -> None:
    readers = [HOSTILE, "B", "C"]
    document = agreement_document(patients=["P000", "P001", HOSTILE, "P003"], readers=readers)
    document["cohort"] |= {"name": HOSTILE, "source": HOSTILE, "licence": HOSTILE}
    document["cohort"]["left_out"] = [{"case_id": HOSTILE, "reason": HOSTILE}]
    document["design"] |= {"network": HOSTILE, "margin_source": HOSTILE, "aggregation": HOSTILE}
    document["design"]["reader_facts"] = {HOSTILE: {HOSTILE: HOSTILE, "control": "a\x00b\nc"}}
    document["design"]["readers_left_out"] = [{"reader": HOSTILE, "reason": HOSTILE}]
    document["claim"] = [{"item": 1, "topic": HOSTILE, "status": HOSTILE, "answer": HOSTILE}]
    document["subgroups"][0] |= {"column": HOSTILE, "value": HOSTILE}
    document["categories"] = [{"name": HOSTILE, "scale": [HOSTILE], "notes": [HOSTILE], "why_not": HOSTILE}]
    document["measurements"] = [{"name": HOSTILE, "measurement": HOSTILE, "unit": HOSTILE, "why_not": HOSTILE}]
    document["readings_left_out"] = [{"column": HOSTILE, "reason": HOSTILE}]
    document["appendix"]["note"] = HOSTILE
    page = page_of(tmp_path, document, cohort)
    assert_sound(page)
    assert "<script" not in page.source
    assert "\x00" not in page.source
    assert page.text.count("alert(1)") > 30


def test_names_in_any_script_are_drawn_without_a_warning(cohort: Cohort, tmp_path: Path) -> None:
    readers = ["\u5c71\u7530", "\u0418\u0432\u0430\u043d", "A$x$"]
    page = page_of(tmp_path, agreement_document(readers=readers), cohort)
    assert_sound(page)
    assert all(name in page.source for name in readers)


def test_undefined_and_infinite_are_words(cohort: Cohort, tmp_path: Path) -> None:
    document = agreement_document()
    odd = {"n": 38, "n_undefined": 1, "n_infinite": 2, "median": "inf", "max": "inf", "iqr": [3.0, "inf"], "mean": None}
    document["scores"]["hd95_mm"]["by_pair"][0]["summary"] |= odd | {"ci95": None}
    rows = document["agreement"]["dice"]["per_patient"]
    rows[0] |= {"p0": None, "d": None}
    rows[1] |= {"p0": "inf", "d": "inf"}
    document["agreement"]["dice"] |= {"delta_bootstrap_t": None, "williams": None, "attained_margin": "inf"}
    document["volume"]["pairs"][0]["bias"] = {"value": None, "n": 0, "interval": None}
    document["volume"]["pairs"][1]["points"] = []
    document["failures"]["upper95"] = None
    page = page_of(tmp_path, document, cohort)
    assert_sound(page)
    assert "3.00 to infinite" in page.text
    assert "undefined no interval" in page.text
    assert "not computed" in page.text


def test_numbers_near_zero_get_a_fourth_decimal_and_no_negative_zero(cohort: Cohort, tmp_path: Path) -> None:
    document = agreement_document()
    tiny = {"value": -0.00001, "n": 40, "interval": {"low": -0.0004, "high": 0.0003, "level": 0.95, "method": "t"}}
    document["agreement"]["dice"] |= {"delta": tiny, "ci_decision": tiny["interval"]}
    page = page_of(tmp_path, document, cohort)
    assert_sound(page)
    assert "-0.0004 to +0.0003" in page.text
    assert "-0.000 " not in page.text


def test_a_bare_file_still_makes_a_page(cohort: Cohort, tmp_path: Path) -> None:
    page = page_of(tmp_path, {"schema_version": "1.0.0", "mode": "predictions"}, cohort)
    assert_sound(page)
    for gap in ("No patient has a figure", "No patient can be shown", "Failures were not counted", "No scores"):
        assert gap in page.text
    assert "holds no conclusion" in page.text


def test_no_random_document_makes_the_page_claim_too_much(undrawn: None, cohort: Cohort, tmp_path: Path) -> None:
    """Words come from us, numbers from anywhere: over many documents nothing forbidden and no negative zero is said."""
    draw = np.random.default_rng(20260101)
    for index in range(15):
        document = agreement_document(
            int(draw.integers(3, 60)),
            LONG[: int(draw.integers(1, 10))] if index % 3 else list("ABCDE")[: int(draw.integers(1, 6))],
            network=bool(draw.random() < 0.75),
            margin=float(draw.uniform(0.0001, 0.1)) if draw.random() < 0.7 else None,
            volumes=bool(draw.random() < 0.7),
            simulated=bool(draw.random() < 0.3),
            domain=str(draw.choice(["projection", "transaxial", "short_axis"])),
            shift=float(draw.normal(0, 0.02)),
            seed=index,
        )
        scatter_numbers(document, draw)
        part = agreement_part(tmp_path, document, cohort)
        assert part.content["lead"]
        page = page_of(tmp_path, document, cohort)
        assert forbidden_words(page.text) == []
        zero = re.search(r".{60}-0\.0+(?!\d)", page.text)
        assert zero is None, zero
        assert "None" not in page.text
        assert "nan" not in page.text.lower().split()


def scatter_numbers(content: Any, draw: np.random.Generator) -> None:
    """Replace a share of the numbers of a document by null, infinity, zero or a tiny one, in place."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(entries):
        if isinstance(value, dict | list):
            scatter_numbers(value, draw)
        elif isinstance(value, float) and not math.isnan(value) and draw.random() < 0.15 and key != "level":
            content[key] = [None, "inf", 0.0, -0.00001, -0.0003][int(draw.integers(5))]


def test_every_figure_of_the_primary_table_is_that_of_the_file() -> None:
    document = agreement_document()
    block = document["agreement"]["dice"]
    before = json.dumps(primary_table(document))
    for name in ("P0", "Pn", "gamma", "williams", "chalana_kim"):
        changed = json.loads(json.dumps(document))
        changed["agreement"]["dice"][name]["value"] = 0.4321
        assert "0.432" not in before
        assert "0.432" in json.dumps(primary_table(changed))
    assert f"{block['delta']['value']:+.3f}" in before
    assert "below 0.0001" in before
    block["attained_margin"] = 0.11321
    assert "0.114" in json.dumps(primary_table(document)), "rounded up, as in the conclusion: 0.113 would not be met"


def test_matrix_is_symmetric_and_numbers_long_names() -> None:
    dice = matrices(agreement_document(readers=LONG))[0]
    assert dice["columns"] == ["network", *(str(number) for number in range(1, 11))]
    assert [line["key"] for line in dice["rows"]][:3] == ["", "1", "2"]
    for row, line in enumerate(dice["rows"]):
        assert line["cells"][row] is None
        for column, cell in enumerate(line["cells"]):
            assert cell == dice["rows"][column]["cells"][row]
    short = matrices(agreement_document())
    assert short[0]["columns"] == ["network", "A", "B", "C"]
    assert [table["title"] for table in short] == [
        "Dice",
        "Surface Dice (NSD)",
        "Volume, Lin's concordance coefficient",
    ]


def test_recipes_appear_when_they_are_there(cohort: Cohort, tmp_path: Path) -> None:
    document = agreement_document()
    kappa = estimate(np.array([0.5, 0.6, 0.7]))
    document["recipes"] = {"pairs": [{"a": "dice", "b": "cross-entropy", "difference": kappa, "p_holm": 0.04}]}
    page = page_of(tmp_path, document, cohort)
    assert_sound(page)
    assert "Recipes compared" in page.text
    assert "pairs 1, p holm 0.040" in page.text


def test_a_run_shows_its_agreement_as_a_part_of_its_page(tmp_path: Path) -> None:
    cohort = make_readers_cohort(tmp_path / "cohort", readers=("truth", "A", "B"), simulated_readers=True)
    run = make_run(tmp_path / "run", cohort)
    alone = Page(write_report(run, cohort))
    assert "Agreement between experts was not measured" in alone.text
    document = agreement_document(cohort.patients, readers=("truth", "A", "B"), simulated=True)
    write_agreement(run, document | {"mode": "run"})
    page = Page(write_report(run, cohort))
    assert_sound(page)
    assert document["conclusion"]["text"] in page.text
    assert "Agreement between experts was not measured" not in page.text
    assert page.text.index("Against rules that learn nothing") < page.text.index("Primary analysis")
    assert page.text.index("Primary analysis") < page.text.index("Worst, median and best case")
    assert (run / "figures" / "agreement_delta.svg").is_file()
    assert "masks of the network were not found" not in page.text
    (run / "agreement.json").write_text("{}")
    broken = Page(write_report(run, cohort))
    assert_sound(broken)
    assert "agreement.json is there but cannot be shown" in broken.text
