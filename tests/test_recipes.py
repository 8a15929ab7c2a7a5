"""Recipes compared: which runs are found, the numbers against direct computation, folds, sweeps, and the page."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from doors import open_door
from recipe_builders import VALIDATION, divisions, make_finished_run, patient_scores
from report_builders import Page, assert_sound
from scipy import stats

from mpi_unet.agreement import compare_recipes
from mpi_unet.agreement.schema import recipes_schema
from mpi_unet.errors import AgreementError, ConfigError, RunError
from mpi_unet.reader_study.recipe_folds import over_folds
from mpi_unet.reader_study.recipes import MAX_ALL_PAIRS, compare_runs
from mpi_unet.reader_study.runs_found import find_runs
from mpi_unet.report import recipe_figures
from mpi_unet.report.recipes import write_recipes_report
from mpi_unet.run import Run

OPTIONS = {"seed": 1, "resamples": 1000}


def make_recipes(root: Path, seeds: tuple[int, ...] = (1, 2, 3)) -> Path:
    """Two recipes with these seeds each, on a division of their own per seed."""
    for name, shift in (("dice", 0.03), ("entropy", 0.0)):
        for seed in seeds:
            scores = patient_scores(shift=shift, seed=10 * seed + len(name))
            make_finished_run(root / f"{name}_{seed}", scores, seed=seed, loss={"name": name}, validation=0.5 + shift)
    return root


def make_sweep(root: Path, size: int) -> Path:
    for number in range(size):
        rate = 10 ** (-4 + 0.2 * number)
        scores = patient_scores(shift=-0.002 * number, seed=number)
        make_finished_run(root / str(number), scores, optimizer={"lr": rate}, validation=0.6 - 0.01 * number)
    return root


# --- which runs ---


def test_runs_are_found_by_name_by_pattern_and_in_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(make_recipes(tmp_path, (1, 2)))
    every = {"dice_1", "dice_2", "entropy_1", "entropy_2"}
    assert set(find_runs(".").runs) == every
    assert set(find_runs("dice_*").runs) == {"dice_1", "dice_2"}
    assert list(find_runs(["entropy_2", "dice_*"]).runs) == ["entropy_2", "dice_1", "dice_2"]
    assert set(find_runs(["dice_1", "."]).runs) == every, "a run that is found twice counts once"


def test_numbered_runs_deep_in_a_folder_come_by_number_and_equal_names_are_told_apart(tmp_path):
    for place in ("12-00/2", "12-00/10", "13-00/2"):
        make_finished_run(tmp_path / "2026-01-01" / place, patient_scores())
    assert list(find_runs(str(tmp_path)).runs) == ["12-00/2", "12-00/10", "13-00/2"]


def test_runs_that_are_not_finished_are_listed_with_the_reason(tmp_path):
    make_recipes(tmp_path, (1,))
    make_finished_run(tmp_path / "killed", patient_scores(), done=1, complete=False)
    make_finished_run(tmp_path / "partial", patient_scores(), done=2)
    make_finished_run(tmp_path / "unassessed", patient_scores(), complete=False)
    (make_finished_run(tmp_path / "empty", patient_scores(), done=0, complete=False) / "splits.json").unlink()
    assert dict(find_runs(str(tmp_path)).incomplete) == {
        "killed": "no summary.json; 1 of 3 folds are done",
        "partial": "2 of 3 folds are done",
        "unassessed": "no summary.json, though all folds are done; evaluate run=<folder> writes it",
        "empty": "no fold was begun",
    }


def test_runs_that_cannot_be_found_or_used(tmp_path):
    make_recipes(tmp_path, (1,))
    make_finished_run(tmp_path / "killed", patient_scores(), done=1, complete=False)
    with pytest.raises(RunError, match=r"(?s)2 of the folders or patterns .*nowhere.*no\*where.*Expected run folders"):
        find_runs([str(tmp_path / "nowhere"), str(tmp_path / "no*where")])
    with pytest.raises(RunError, match=r"(?s)1 runs are not finished:.*killed: no summary.json; 1 of 3.*the folder"):
        find_runs([str(tmp_path / "dice_1"), str(tmp_path / "killed")])
    with pytest.raises(RunError, match=r"(?s)1 finished run\(s\) among 2.*killed.*Give their training commands again"):
        find_runs(str(tmp_path / "[dk]i*"))
    with pytest.raises(RunError, match=r"1 finished run\(s\) among 1, .*one run is run=<folder>"):
        find_runs(str(tmp_path / "dice_*"))


# --- numbers ---


def test_figures_are_those_of_a_direct_computation(tmp_path):
    document = compare_runs(str(make_recipes(tmp_path / "runs")), tmp_path / "out", **OPTIONS)
    jsonschema.validate(document, recipes_schema())
    assert json.loads((tmp_path / "out/recipes.json").read_text()) == document
    tables = [
        np.mean([list(patient_scores(shift=shift, seed=10 * seed + len(name)).values()) for seed in (1, 2, 3)], axis=0)
        for name, shift in (("dice", 0.03), ("entropy", 0.0))
    ]
    [pair] = document["pairs"]
    assert (pair["a"], pair["b"]) == ("dice_1", "entropy_1")
    assert pair["delta"]["value"] == pytest.approx(np.mean(tables[0] - tables[1]))
    assert pair["p"] == pytest.approx(stats.ttest_rel(*tables).pvalue)
    first = document["recipes"][0]
    assert [run["seed"] for run in first["runs"]] == [1, 2, 3]
    assert first["validation"] == pytest.approx(0.53)
    assert first["scores"]["hd95_mm"] == {"label": "HD95", "unit": "mm", "mean": 9.0, "n_undefined": 0, "n_infinite": 6}
    assert document["varied"] == ["loss.name"]
    assert [one["settings"] for one in document["recipes"]] == [{"loss.name": "dice"}, {"loss.name": "entropy"}]
    assert document["patients"][0]["values"] == pytest.approx({"dice_1": tables[0][0], "entropy_1": tables[1][0]})
    assert len(first["learning"]) == 9
    assert first["learning"][0] == {"seed": 1, "fold": 0, "epoch": [1, 2, 3, 4], "val_dice": [0.0, 0.1, 0.2, 0.3]}


def test_test_over_folds_uses_every_division_and_counts_who_trained(tmp_path):
    """Three divisions of three folds: nine differences, and validation patients are no training patients."""
    document = compare_runs(str(make_recipes(tmp_path / "runs")), tmp_path / "out", **OPTIONS)
    test = document["pairs"][0]["over_folds"]["test"]
    differences = []
    for seed in (1, 2, 3):
        one, other = (
            patient_scores(shift=shift, seed=10 * seed + len(name)) for name, shift in (("dice", 0.03), ("entropy", 0))
        )
        for sides in divisions(sorted(one), 3, seed):
            differences.append(np.mean([one[patient] - other[patient] for patient in sides["test"]]))
    assert (test["n"], test["divisions"], test["n_test"], test["n_train"]) == (9, 3, 8.0, 16.0 - VALIDATION)
    error = np.sqrt(np.var(differences, ddof=1) * (1 / 9 + 8 / 12))
    assert test["value"] == pytest.approx(np.mean(differences))
    assert test["p"] == pytest.approx(2 * stats.t.sf(np.mean(differences) / error, 8))
    half = stats.t.ppf(0.975, 8) * error
    assert test["interval"]["low"] == pytest.approx(np.mean(differences) - half)


def test_seeds_on_one_division_are_averaged_within_its_folds(tmp_path):
    sides = {}
    for name, shift in (("dice", 0.03), ("entropy", 0.0)):
        scores = [patient_scores(shift=shift, seed=10 * seed + len(name)) for seed in (1, 2)]
        folders = [
            make_finished_run(tmp_path / f"{name}_{seed}", one, seed=seed, split_seed=7)
            for seed, one in enumerate(scores, start=1)
        ]
        mean = {patient: (scores[0][patient] + scores[1][patient]) / 2 for patient in scores[0]}
        sides[name] = ([Run(folder) for folder in folders], mean)
    test = over_folds(sides["dice"][0], sides["entropy"][0], "dice", 0.95)["test"]
    expected = [
        np.mean([sides["dice"][1][patient] - sides["entropy"][1][patient] for patient in fold["test"]])
        for fold in divisions(sorted(sides["dice"][1]), 3, 7)
    ]
    assert (test["n"], test["divisions"]) == (3, 1)
    assert test["value"] == pytest.approx(np.mean(expected))


def test_folds_that_say_nothing_have_a_reason(tmp_path):
    def run(name: str, **options) -> Run:
        return Run(make_finished_run(tmp_path / name, options.pop("scores", patient_scores()), **options))

    one = run("one")
    same, elsewhere = run("same"), run("elsewhere", split_seed=5)
    assert over_folds([one], [elsewhere], "dice", 0.95)["why_not"] == "the recipes were not trained on the same folds"
    assert over_folds([one], [same], "dice", 0.95) == {"test": None, "why_not": "all folds have the same difference"}
    single = [
        run("hold", num_folds=1, scores=patient_scores(12)),
        run("out", num_folds=1, scores=patient_scores(12, 0.1)),
    ]
    assert over_folds(single[:1], single[1:], "dice", 0.95)["why_not"] == "there are fewer than two folds"


def test_unequal_numbers_of_seeds_are_averaged_and_said(tmp_path):
    make_recipes(tmp_path / "runs", (1, 2))
    words = [str(tmp_path / "runs" / name) for name in ("dice_1", "dice_2", "entropy_1")]
    document = compare_runs(words, tmp_path / "out", **OPTIONS)
    assert document["num_seeds"] == 1
    assert [len(one["runs"]) for one in document["recipes"]] == [2, 1]
    assert any("different numbers of seeds (entropy_1 1; the others 2)" in note for note in document["notes"])
    jsonschema.validate(document, recipes_schema())


# --- sweeps ---


def test_many_recipes_are_each_compared_with_one(tmp_path):
    sweep = make_sweep(tmp_path / "sweep", MAX_ALL_PAIRS + 2)
    document = compare_runs(str(sweep), tmp_path / "out", **OPTIONS)
    assert document["against"] == "0"
    assert [(pair["a"], pair["b"]) for pair in document["pairs"]] == [(str(n), "0") for n in range(1, 10)]
    assert any("There are 10 recipes, so each was compared with the first one, 0" in note for note in document["notes"])
    named = compare_runs(str(sweep), tmp_path / "out", against="4", **OPTIONS)
    assert {pair["b"] for pair in named["pairs"]} == {"4"}
    few = compare_runs([str(sweep / str(n)) for n in range(4)], tmp_path / "out", **OPTIONS)
    assert [(pair["a"], pair["b"]) for pair in few["pairs"]] == list(combinations("0123", 2))
    with pytest.raises(ConfigError, match=r"against=44 is none of the finished runs: 0, 1, .*did you mean '4'"):
        compare_runs(str(sweep), tmp_path / "out", against="44", **OPTIONS)


def test_against_is_the_second_of_each_pair_and_adjusts_for_fewer_tests():
    rng = np.random.default_rng(2)
    scores = rng.normal(0.8, 0.05, (4, 20, 1))
    found = compare_recipes(scores, list("abcd"), against="b", resamples=1000)
    every = {(pair.a, pair.b): pair for pair in compare_recipes(scores, list("abcd"), resamples=1000).pairs}
    assert [(pair.a, pair.b) for pair in found.pairs] == [("a", "b"), ("c", "b"), ("d", "b")]
    assert found.pairs[0].p_value == every["a", "b"].p_value
    assert found.pairs[1].delta.value == pytest.approx(-every["b", "c"].delta.value)
    assert found.pairs[0].p_holm <= every["a", "b"].p_holm
    with pytest.raises(AgreementError, match=r"against is 'x', expected one of the recipes: a, b, c, d"):
        compare_recipes(scores, list("abcd"), against="x")


# --- the page ---


def test_page_of_two_recipes(tmp_path):
    make_finished_run(make_recipes(tmp_path / "runs") / "killed", patient_scores(), done=1, complete=False)
    document = compare_runs(str(tmp_path / "runs"), tmp_path / "out", **OPTIONS)
    page = Page(write_recipes_report(tmp_path / "out"))
    assert_sound(page)
    assert "2 recipes on the same 24 held-out patients: mean Dice (LV) from" in page.text
    assert f"dice_1 minus entropy_1: +{document['pairs'][0]['delta']['value']:.3f} (95 % CI +" in page.text
    assert "9 folds of 3 divisions" in page.text
    assert "killed" in page.text[page.text.index("Runs that were found and not compared") :]
    assert "Choose by the validation score." in page.text
    assert "../runs/dice_1/report.html" in [attrs["href"] for attrs in page.all("a")]
    names = {path.stem for path in (tmp_path / "out/figures").iterdir()}
    assert {"recipes_scores", "recipes_differences", "recipes_patients", "recipes_learning_0"} <= names
    before = (tmp_path / "out/report.html").read_bytes()
    write_recipes_report(tmp_path / "out")
    assert (tmp_path / "out/report.html").read_bytes() == before


def test_page_of_a_sweep_stands_in_the_order_of_validation(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_figures, "MAX_ROWS", 8)
    monkeypatch.setattr(recipe_figures, "MAX_CURVES", 2)
    compare_runs(str(make_sweep(tmp_path / "sweep", 12)), tmp_path / "out", **OPTIONS)
    page = Page(write_recipes_report(tmp_path / "out"))
    assert_sound(page)
    names = {path.stem for path in (tmp_path / "out/figures").iterdir()}
    assert {"recipes_validation", "recipes_setting_0"} <= names
    assert not {"recipes_scores", "recipes_differences", "recipes_patients"} & names, "too many to be read"
    assert "All 11 differences" in page.text
    table = page.text[page.text.index("highest validation score first") : page.text.index("Differences from 0")]
    assert table.index("0.600") < table.index("0.590") < table.index("0.490")
    assert "10 recipes further down in validation are not drawn" in page.text


def test_page_says_when_its_file_is_of_another_version(tmp_path):
    with pytest.raises(AgreementError, match=r"recipes.json cannot be read .*compare the runs again with"):
        write_recipes_report(tmp_path)
    (tmp_path / "recipes.json").write_text('{"schema_version": "1.0.0"}')
    with pytest.raises(AgreementError, match=r"schema_version 1.0.0, expected 2.x; compare the runs"):
        write_recipes_report(tmp_path)


def test_door_compares_a_folder_of_runs(tmp_path, monkeypatch, capfd):
    make_recipes(tmp_path / "runs", (1, 2))
    make_finished_run(tmp_path / "runs/killed", patient_scores(), done=1, complete=False)
    words = ["runs=runs", "output=out", "against=entropy_2", "bootstrap.draws=1000"]
    assert open_door("evaluate", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    said = capfd.readouterr().out
    assert said.splitlines()[-1] == "out/report.html"
    assert "not finished, not compared: killed (no summary.json; 1 of 3 folds are done)" in said
    assert "dice_1 - entropy_1" in said
    assert "<0.0001" in said
