"""The page of a run: what it shows, what it refuses to say, and how it bears missing files."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from report_builders import (
    HISTORY_FILES,
    HOSTILE,
    LABELS,
    NUM_FOLDS,
    Page,
    assert_sound,
    change,
    make_cohort,
    make_run,
    metric,
    write,
    write_rows,
)

from mpi_unet.cohort.nifti import write_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.report.page import write_report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cohort]:
    """A run and its cohort, never changed by a test."""
    root = tmp_path_factory.mktemp("finished")
    cohort = make_cohort(root / "cohort")
    run = make_run(root / "run", cohort)
    write_report(run, cohort)
    return run, cohort


@pytest.fixture
def run(finished: tuple[Path, Cohort], tmp_path: Path) -> Path:
    """A copy of the finished run, without its page, to be changed."""
    return Path(shutil.copytree(finished[0], tmp_path / "run", ignore=shutil.ignore_patterns("figures", "report.html")))


def test_page_is_sound_and_needs_no_network(finished: tuple[Path, Cohort]) -> None:
    page = Page(finished[0] / "report.html")
    assert_sound(page)
    assert "What is missing from this page" not in page.text
    assert "prefers-color-scheme: dark" in page.source
    assert "@media print" in page.source


def test_page_says_the_main_result_in_its_first_sentence(finished: tuple[Path, Cohort]) -> None:
    run, _ = finished
    dice = json.loads((run / "summary.json").read_text())["metrics"]["dice"]
    text = Page(run / "report.html").text
    assert "In 6 phantom patients that the network had not seen, its outline of the wall of the left ventricle" in text
    assert f"mean Dice of {dice['mean']:.3f} (95 % confidence interval {dice['ci95'][0]:.3f} to" in text
    assert "3-fold cross-validation, divided by patient" in text


def test_left_ventricle_leads_and_the_seed_definition_follows(finished: tuple[Path, Cohort]) -> None:
    text = Page(finished[0] / "report.html").text
    places = [
        text.index(word) for word in ("left ventricle only", "between the two outlines", "The seed study's definition")
    ]
    assert places == sorted(places)
    table = text[places[0] : text.index("Why accuracy says little")]
    assert table.index("Dice (LV)") < table.index("IoU (LV)") < table.index("Precision (LV)") < table.index("HD95")
    assert "Accuracy of an empty mask" in table
    assert "Marking nothing at all already has an accuracy of 0.955" in text


@pytest.mark.parametrize("field", ["mean", "median", "min", "max", "n", "n_undefined", "n_infinite"])
@pytest.mark.parametrize("metric_name", ["iou", "accuracy"])
def test_every_number_of_the_table_is_that_of_the_summary(metric_name: str, field: str) -> None:
    from mpi_unet.report.content import result_groups

    summary = {"metrics": {name: metric([0.4, 0.5, 0.75], label) for name, label in LABELS.items()}}
    before = json.dumps(result_groups(summary))
    summary["metrics"][metric_name][field] = 77 if field.startswith("n") else 0.7654
    after = json.dumps(result_groups(summary))
    shown = "77" if field.startswith("n") else "0.765"
    assert shown not in before
    assert after.count(shown) == 1


def test_one_number_changed_in_the_summary_changes_the_page(finished: tuple[Path, Cohort], run: Path) -> None:
    change(run, lambda summary: summary["metrics"]["precision"].update(mean=0.4321))
    changed = Page(write_report(run, finished[1])).text
    assert "0.432" in changed
    assert "0.432" not in Page(finished[0] / "report.html").text


def test_undefined_and_infinite_are_words_with_counts(finished: tuple[Path, Cohort], run: Path) -> None:
    odd = {"n": 5, "n_undefined": 1, "n_infinite": 2, "median": "inf", "max": "inf", "iqr": [3.0, "inf"], "mean": 21.5}
    change(run, lambda summary: summary["metrics"]["hd95_mm"].update(odd))
    change(run, lambda summary: summary["metrics"]["recall"].update(mean=None, ci95=None, median=None, min=None))
    page = Page(write_report(run, finished[1]))
    assert_sound(page)
    assert "HD95 (mm)" in page.text
    assert "3.00 to infinite" in page.text
    assert "undefined no interval" in page.text
    assert "HD95: 1 undefined and 2 infinite" in page.text


def test_leakage_is_the_first_thing_said(finished: tuple[Path, Cohort], run: Path) -> None:
    change(run, lambda summary: summary["design"].update(leakage_allowed=True, unit="image", leaks_found=9))
    page = Page(write_report(run, finished[1]))
    assert_sound(page)
    body = page.source[page.source.index("<body") :]
    assert re.sub(r"<[^>]*>", "", body).lstrip().startswith("Patients are on both sides of the split")
    assert 'class="banner alarm"' in body
    assert "had not seen" not in page.text
    assert page.words[0].startswith("Patients on both sides of the split: ")  # the title, too


def test_without_leakage_there_is_no_alarm(finished: tuple[Path, Cohort]) -> None:
    page = Page(finished[0] / "report.html")
    assert "both sides" not in page.text
    assert 'class="banner alarm"' not in page.source


def test_simulation_is_said_on_the_first_screen_and_on_every_overlay(finished: tuple[Path, Cohort]) -> None:
    page = Page(finished[0] / "report.html")
    assert "Simulated readers, phantom truth" in page.text[: page.text.index("Results")]
    panels = page.source.split('class="panel"')[1:]
    assert len(panels) == 15
    assert all(">simulated</text>" in panel[: panel.index("</svg>")] for panel in panels)
    assert page.text.count("simulated readers, phantom truth") == 3


def test_human_readers_are_not_called_simulated(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort", 3, simulated_readers=False)
    page = Page(write_report(make_run(tmp_path / "run", cohort, 1), cohort))
    assert "imulated" not in page.text
    assert ">simulated<" not in page.source
    assert "compared with one reader" in page.text


def test_text_from_data_is_escaped(finished: tuple[Path, Cohort], run: Path, tmp_path: Path) -> None:
    def poison(summary: dict[str, Any]) -> None:
        summary.update(name=HOSTILE, warnings=[HOSTILE])
        summary["design"].update(reader="truth", loss=HOSTILE, model=HOSTILE)
        summary["metrics"]["dice"].update(label=HOSTILE, definition=HOSTILE, note=HOSTILE)
        summary["baselines"][HOSTILE] = {"label": HOSTILE, "metrics": {}}
        summary["operating"]["how"] = HOSTILE

    change(run, poison)
    environment = {"command": HOSTILE, "device": HOSTILE}
    write(run / "environment.json", environment)
    (run / ".hydra" / "config.yaml").write_text(f"name: {HOSTILE}\n")
    (run / ".hydra" / "overrides.yaml").write_text(f"- {HOSTILE}\n")
    with open(run / "scores.csv", newline="") as handle:
        header, *rows = list(csv.reader(handle))
    write_rows(run / "scores.csv", header, [[HOSTILE if row[0] == "P002" else row[0], *row[1:]] for row in rows])
    cohort = Cohort.open(shutil.copytree(finished[1].root, tmp_path / "poisoned"))
    metadata = json.loads((cohort.root / "cohort.json").read_text()) | {"name": HOSTILE, "source": HOSTILE}
    write(cohort.root / "cohort.json", metadata)
    page = Page(write_report(run, Cohort.open(cohort.root)))
    assert_sound(page)
    assert "<script" not in page.source
    assert page.text.count("alert(1)") > 8
    for drawn in (run / "figures").glob("*.svg"):
        ElementTree.parse(drawn)


def test_a_run_of_which_only_the_summary_is_left_still_has_a_page(
    finished: tuple[Path, Cohort], tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(finished[0] / "summary.json", tmp_path / "bare")
    page = Page(write_report(tmp_path / "bare", finished[1]))
    assert_sound(page)
    said = page.text[page.text.index("What is missing from this page") :]
    for name in ("environment.json", "splits.json", "scores.csv", ".hydra/config.yaml", *HISTORY_FILES):
        assert f"{name} is missing" in said
    for gap in ("no scores of single patients", "No case can be shown", "no learning curves", "no operating curve"):
        assert gap in page.text


def test_an_operating_curve_that_cannot_be_drawn_is_named(finished: tuple[Path, Cohort], run: Path) -> None:
    (run / "fold_0" / "operating.csv").write_text("patient_id,threshold,tp,fp,fn,tn\nP0,x,1,1,1,1\n")
    page = Page(write_report(run, finished[1]))
    assert_sound(page)
    assert "There is no operating curve to draw" in page.text
    assert "operating.csv holds a cell that is no number" in page.text


def test_a_case_that_cannot_be_drawn_is_named(finished: tuple[Path, Cohort], run: Path) -> None:
    for path in (run / "predictions").iterdir():
        path.unlink()
    page = Page(write_report(run, finished[1]))
    assert_sound(page)
    assert "No case can be shown" in page.text
    assert "The worst case, P001-stress, cannot be shown" in page.text
    write_mask(run / "predictions" / "P001-stress.nii.gz", np.ones((3, 4, 5), dtype=bool), np.eye(4))
    text = Page(write_report(run, finished[1])).text
    assert "image, reader and network have shapes 14x40x40 and 14x40x40 and 3x4x5" in text


def test_epochs_without_a_value_are_gaps(finished: tuple[Path, Cohort], run: Path) -> None:
    for fold in range(NUM_FOLDS):
        rows = [[0, 0.5, "", ""], [1, "nan", "inf", ""]]
        write_rows(run / f"fold_{fold}" / "metrics.csv", ["epoch", "train_loss", "val_loss", "val_dice"], rows)
    page = Page(write_report(run, finished[1]))
    assert_sound(page)
    assert (run / "figures" / "learning_train_loss.svg").exists()
    assert not (run / "figures" / "learning_val_dice.svg").exists()


def test_an_incomplete_run_says_so(finished: tuple[Path, Cohort], run: Path) -> None:
    def only_first_fold(summary: dict[str, Any]) -> None:
        summary["complete"] = False
        del summary["folds"][1:]

    change(run, only_first_fold)
    page = Page(write_report(run, finished[1]))
    assert_sound(page)
    assert "This run is not complete" in page.text
    assert "The run is not complete:" in page.text


def test_a_summary_with_hardly_anything_still_gives_a_page(finished: tuple[Path, Cohort], run: Path) -> None:
    write(run / "summary.json", {"schema_version": "1.0.0"})
    page = Page(write_report(run, finished[1]))
    assert_sound(page)
    assert "could not be computed in this run" in page.text
    assert "No trivial baselines were scored" in page.text
    assert "names no fold" in page.text
    assert "The frozen threshold is not stated" in page.text


def test_same_files_same_bytes(finished: tuple[Path, Cohort], run: Path) -> None:
    first, cohort = finished
    write_report(run, cohort)
    for path in [first / "report.html", *(first / "figures").iterdir()]:
        assert path.read_bytes() == (run / path.relative_to(first)).read_bytes(), path.name


def test_drawings_are_files_of_their_own(finished: tuple[Path, Cohort]) -> None:
    names = {path.name for path in (finished[0] / "figures").iterdir()}
    assert names == {
        *(f"case_{role}.svg" for role in ("worst", "median", "best")),
        *(f"learning_{key}.svg" for key in ("train_loss", "val_loss", "val_dice")),
        *(f"operating_{key}.svg" for key in ("tpr_fpr", "precision_recall", "threshold")),
        *(f"patients_{key}.svg" for key in ("dice", "iou")),
    }
    for name in names:
        root = ElementTree.parse(finished[0] / "figures" / name).getroot()
        assert root.get("aria-label")
        assert "var(--" not in (finished[0] / "figures" / name).read_text()


def test_each_patient_is_one_dot_with_a_title(finished: tuple[Path, Cohort]) -> None:
    run, cohort = finished
    source = (run / "report.html").read_text()
    for patient in cohort.patients:
        assert len(re.findall(rf"<title>{patient}, fold \d: Dice \(LV\) 0\.\d+</title>", source)) == 1
        assert len(re.findall(rf"<title>{patient}, fold \d: IoU \(LV\) 0\.\d+</title>", source)) == 1


def test_nothing_but_the_pseudonym_of_a_patient_is_shown(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort", 3)
    table = (cohort.root / "cases.csv").read_text().splitlines()
    table = [f"{line},{'birth_date' if not index else '19530101'}" for index, line in enumerate(table)]
    (cohort.root / "cases.csv").write_text("\n".join(table) + "\n")
    source = write_report(make_run(tmp_path / "run", cohort, 1), Cohort.open(cohort.root)).read_text()
    assert "19530101" not in source
    assert str(tmp_path) not in source


def test_projections_without_pixel_size_have_no_millimeters(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort", 3, "projection", spacing_known=False)
    run = make_run(tmp_path / "run", cohort, 1)
    change(run, lambda summary: [summary["metrics"].pop(name) for name in ("hd95_mm", "assd_mm", "nsd")])
    change(run, lambda summary: summary["design"].update(split="holdout"))
    page = Page(write_report(run, cohort))
    assert_sound(page)
    assert " mm</text>" not in page.source
    assert "septal" not in page.source
    assert "the size of a pixel is not known" in page.text
    assert "a projection has no depth" in page.text
    assert "view 4 of 14" in page.text
    assert "Patients were divided once" in page.text


def test_page_of_a_hundred_patients_stays_small(finished: tuple[Path, Cohort], run: Path) -> None:
    columns = ["patient_id", "case_id", "reader", "fold", "metric", "value", "unit"]
    draw = np.random.default_rng(5)
    ids = [f"P{patient:03d}" for patient in range(100)]
    rows = [
        [
            patient,
            f"{patient}-stress",
            "truth",
            index % 5,
            name,
            0.5 + 0.08 * (index < 6) * index + draw.uniform(0, 0.01),
            "",
        ]
        for index, patient in enumerate(ids)
        for name in ("dice", "iou")
    ]
    rows += [
        ["P000", "P000-stress", "truth", 0, "dice", 0.1, ""],
        ["P001", "P001-stress", "truth", 0, "dice", 0.99, ""],
    ]
    write_rows(run / "scores.csv", columns, rows)
    counts = [[patient, k / 200, 200 - k, 200 - k, k, 9000] for patient in ids for k in range(201)]
    write_rows(run / "fold_0" / "operating.csv", ["patient_id", "threshold", "tp", "fp", "fn", "tn"], counts)
    for fold in (1, 2):
        (run / f"fold_{fold}" / "operating.csv").unlink()
    page = write_report(run, finished[1])
    assert page.stat().st_size < 3_000_000
    assert page.read_text().count("<title>P0") == 200


def test_published_way_of_scoring_is_shown_apart(finished: tuple[Path, Cohort], run: Path) -> None:
    claim = {"accuracy": 0.9871, "macro_iou": 0.9012, "macro_dice": 0.9456}
    change(run, lambda summary: summary.update(as_published=claim))
    text = Page(write_report(run, finished[1])).text
    assert "Dice 0.946, IoU 0.901, accuracy 0.987; computed batch by batch on augmented validation images" in text


def test_only_held_out_frames_are_shown_where_images_were_divided(finished: tuple[Path, Cohort], run: Path) -> None:
    change(run, lambda summary: summary["design"].update(unit="image", leakage_allowed=True))
    units = [f"{case.case_id}#{frame}" for case in finished[1].cases for frame in (6, 8, 11)]
    write(run / "splits.json", {"unit": "image", "folds": [{"train": [], "val": [], "test": units}]})
    text = Page(write_report(run, finished[1])).text
    assert re.findall(r"slice (\d+) of 14", text) == ["12", "9", "7"] * 3


def test_epochs_count_from_one_as_people_do(finished: tuple[Path, Cohort], run: Path) -> None:
    change(run, lambda summary: summary["folds"][0].update(best_epoch=0, epochs=12))
    page = Page(write_report(run, finished[1]))
    assert " 1 of 12" in page.text
    assert " 0 of 12" not in page.text


def test_a_trivial_rule_that_does_as_well_is_said_beside_the_result(finished: tuple[Path, Cohort], run: Path) -> None:
    assert "without any learning reaches" not in Page(finished[0] / "report.html").text
    change(run, lambda summary: summary["baselines"]["mean_shape"]["metrics"]["dice"].update(mean=0.99))
    text = Page(write_report(run, finished[1])).text
    assert "Mean shape of the other patients (0.990)" in text[: text.index("Every figure is first worked out")]


def test_a_threshold_that_is_not_stated_is_not_marked(finished: tuple[Path, Cohort], run: Path) -> None:
    change(run, lambda summary: summary.pop("operating"))
    page = Page(write_report(run, finished[1]))
    assert_sound(page)
    assert "summary.json names no frozen threshold" in page.text
    assert "At the frozen threshold" not in page.source


def test_pixels_that_differ_between_cases_are_said_to(finished: tuple[Path, Cohort], run: Path) -> None:
    change(run, lambda summary: summary["design"].update(spacing_mm=None))
    assert "size differs between cases" in Page(write_report(run, finished[1])).text
