"""The page of a study: one row a scenario, beside what was published."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from report_builders import Page, assert_sound, change, make_cohort, make_run

from mpi_unet.errors import RunError
from mpi_unet.report.comparison import PUBLISHED, write_comparison


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, never changed by a test."""
    root = tmp_path_factory.mktemp("finished")
    return make_run(root / "run", make_cohort(root / "cohort", 3), 1)


def make_study(study: Path, run: Path, names: tuple[str, ...]) -> Path:
    for index, name in enumerate(names):
        (study / name).mkdir(parents=True)
        shutil.copy(run / "summary.json", study / name / "summary.json")
        change(study / name, lambda summary, shift=0.001 * index: summary["metrics"]["dice"].update(mean=0.801 + shift))
        (study / name / "report.html").write_text("a page")
    return study


def test_comparison_has_a_row_for_each_scenario_beside_the_published_figures(finished: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", finished, ("holdout_dice", "kfold_dice"))
    path = write_comparison(study, ["kfold_dice", "holdout_dice"])
    page = Page(path)
    assert_sound(page)
    assert path == study / "report.html"
    assert (study / "figures" / "scenarios.svg").is_file()
    assert [attrs["href"] for attrs in page.all("a")] == ["kfold_dice/report.html", "holdout_dice/report.html"]
    table = page.text[page.text.index("Scenarios") : page.text.index("Dice of every scenario")]
    assert table.index("0.802") < table.index("0.801")
    assert table.index("Left ventricle only") < table.index("The background counts too")
    assert all(figure in table for figure in PUBLISHED.values())
    assert "as published: image-level split, mean over background and LV" in table
    assert "not published for the LV alone" in table
    assert "2 scenarios: mean Dice of the left ventricle 0.801 to 0.802. Counted as in the published" in page.text


def test_comparison_takes_every_scenario_by_default_and_names_missing_ones(finished: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", finished, ("b", "a"))
    assert [attrs["href"] for attrs in Page(write_comparison(study)).all("a")] == ["a/report.html", "b/report.html"]
    page = Page(write_comparison(study, ["a", "absent"]))
    assert_sound(page)
    assert "absent: no readable summary.json" in page.text
    assert "missing: this scenario has no summary" in page.text


def test_comparison_warns_of_leakage_first(finished: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", finished, ("fair", "leaky"))
    change(study / "leaky", lambda summary: summary["design"].update(leakage_allowed=True, unit="image"))
    change(study / "leaky", lambda summary: summary.update(as_published={"macro_dice": 0.957, "macro_iou": 0.9}))
    page = Page(write_comparison(study))
    assert_sound(page)
    body = page.source[page.source.index("<body") :]
    assert re.sub(r"<[^>]*>", "", body).lstrip().startswith("Patients are on both sides of the split in: leaky.")
    assert "leaky: images of the same patients" in page.text
    assert "leaky, as it scores itself" in page.text
    assert "0.957" in page.text


def test_comparison_of_unlike_scenarios_says_so(finished: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", finished, ("a", "b"))
    change(study / "b", lambda summary: summary["design"].update(reader="A"))
    assert "The scenarios differ in reader (A, truth)" in Page(write_comparison(study)).text


def test_comparison_escapes_and_repeats_itself(finished: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", finished, ("a b&<i>$x$", "c"))
    first = write_comparison(study).read_bytes()
    assert b"<i>" not in first
    assert b'href="a%20b%26%3Ci%3E%24x%24/report.html"' in first
    assert write_comparison(study).read_bytes() == first
    assert_sound(Page(study / "report.html"))


def test_comparison_without_any_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"empty holds no run with a summary\.json .*run the study first"):
        write_comparison(tmp_path / "empty", ["a"])


def test_comparison_without_a_dice_says_so(finished: Path, tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", finished, ("a",))
    change(study / "a", lambda summary: summary["metrics"].pop("dice"))
    page = Page(write_comparison(study))
    assert_sound(page)
    assert "their Dice could not be computed" in page.text
