"""The door evaluate: each mode from the command line, and every request that cannot be meant."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from doors import TINY, open_door
from hydra import compose, initialize_config_dir
from test_reader_study import write_read_cohort

from mpi_unet.config import config_dir
from mpi_unet.errors import ConfigError
from mpi_unet.files import read_json
from mpi_unet.reader_study.request import MODES, TYPES, check_request, options_of


def evaluate(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    return open_door("evaluate", *words, folder=folder, monkeypatch=monkeypatch)


def request(*words: str):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("evaluate", overrides=list(words))


# --- what is asked for ---


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        (["run=r"], "run"),
        (["run=r", "readers=[A,B]", "margin=0.02", "margin_source=x"], "run"),
        (["runs=[a,b]", "output=o"], "runs"),
        (["runs=sweeps", "output=o", "against=a"], "runs"),
        (["cohort=c", "predictions=p", "probabilities=q", "output=o"], "predictions"),
        (["cohort=c", "predictions=p", "output=o"], "predictions"),
        (["cohort=c", "readers=only", "output=o"], "readers_only"),
        (["plan=true", "margin=0.02", "sd=0.04"], "plan"),
        (["plan=true", "margin=0.02", "sd=[0.03,0.04]", "true_delta=0", "power=0.8"], "plan"),
        (["plan=true", "margin=0.02", "pilot=agreement.json", "num_readers=3"], "plan"),
    ],
)
def test_modes(words, mode):
    assert check_request(request(*words)) == mode


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"nothing to evaluate: add run=.*cohort=.*predictions=.*readers=only.*plan=true"),
        (["run=r", "cohort=c"], r"run and cohort .*leave all but one out"),
        (["cohort=c", "output=o"], r"cohort=\.\.\. needs what is to be compared: predictions=.*readers=only"),
        (["cohort=c", "predictions=p", "readers=only"], r"exclude each other.*leave one of them out"),
        (["cohort=c", "predictions=p"], r"output must be given: add output=<folder"),
        (["run=r", "readers=only"], r"readers=only goes with cohort=\.\.\., not with run"),
        (["run=r", "output=o"], r"output=o has no meaning with run=.*leave it out"),
        (["run=r", "exclude=[P1]"], r"exclude=\[P1\] has no meaning with run"),
        (["cohort=c", "readers=only", "output=o", "margin=0.02"], r"margin=0.02 has no meaning with readers=only"),
        (["runs=[a]", "output=o"], r"runs names 1 run\(s\), expected two or more; one run is run="),
        (["run=r", "margin=0.02"], r"margin needs margin_source=<why"),
        (["run=r", "margin_registered_at=2026-01-01"], r"margin_registered_at goes with margin="),
        (
            ["run=r", "margin=0.02", "margin_source=x", "margin_registered_at=soon"],
            r"margin_registered_at is 'soon', expected a date such as 2026-01-10, a commit of 7 to 40",
        ),
        (
            ["run=r", "margin=0.02", "margin_source=x", "margin_registered_at=2999-01-01"],
            r"margin_registered_at is 2999-01-01, after .*, the day of this analysis; expected a day before",
        ),
        (
            ["run=r", "margin=0.02", "margin_source=x", "margin_registered_at=2026-02-02", "created=2026-02-01"],
            r"after 2026-02-01, the day of this analysis; .*leave the key out",
        ),
        (["run=r", "margin=-0.1", "margin_source=x"], r"margin is -0.1, expected a positive difference"),
        (["run=r", "margin=much", "margin_source=x"], r"margin is 'much', expected .*float"),
        (["run=r", "metric=dise"], r"metric is 'dise', expected dice, iou, nsd; did you mean 'dice'"),
        (["run=r", "readers=al"], r"readers is 'al', expected all, only or a list .*did you mean 'all'"),
        (["run=r", "min_patients=10"], r"min_patients is 10, expected 30 or more"),
        (["run=r", "alpha_one_sided=0.2"], r"alpha_one_sided is 0.2, expected a one-sided level of at most 0.05"),
        (["run=r", "bootstrap.draws=10"], r"bootstrap.draws is 10, expected 1000 or more"),
        (["run=r", "bootstrap.seed=-1"], r"bootstrap.seed is -1, expected 0 or more"),
        (["run=r", "num_workers=0"], r"num_workers is 0, expected 1 or more, or null"),
        (["run=r", "tolerance_mm=0"], r"tolerance_mm is 0, expected a distance in mm above 0"),
        (["plan=true", "sd=0.04"], r"plan=true needs margin="),
        (["plan=true", "margin=0.02"], r"plan=true needs the spread .*either sd=.*or pilot="),
        (["plan=true", "margin=0.02", "sd=0.04", "pilot=x"], r"either sd=.*and not both"),
        (["plan=true", "margin=0.02", "sd=0.04", "allow_missing=true"], r"allow_missing=true has no meaning"),
    ],
)
def test_requests_that_cannot_be_meant(words, message):
    with pytest.raises(ConfigError, match=message):
        check_request(request(*words))


def test_everything_wrong_is_said_at_once():
    with pytest.raises(ConfigError, match=r"(?s)several keys are wrong:.*metric is 'x'.*patients is 3.*num_work"):
        check_request(request("run=r", "metric=x", "min_patients=3", "num_workers=0"))


def test_every_key_has_a_type_and_a_mode():
    config = request()
    given = {
        f"{key}.{inner}" if inner else str(key)
        for key in config
        for inner in (config[key] if key == "bootstrap" else [""])
    }
    assert given == set(TYPES)
    assert {key.partition(".")[0] for key in TYPES} == set().union(*MODES.values())


def test_date_that_yaml_reads_as_a_number_stays_text():
    options = options_of(request("run=r", "margin=0.02", "margin_source=x", "margin_registered_at=20260110"))
    assert options.margin_registered_at == "20260110"


# --- the doors ---


@pytest.fixture
def folder(tmp_path):
    write_read_cohort(tmp_path / "cohort", 5, ("A", "B", "C", "N"), repeats={"A2": "A"})
    return tmp_path


def test_readers_only(folder, monkeypatch, capfd):
    assert evaluate(folder, monkeypatch, "cohort=cohort", "readers=only", "output=out") == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == "out/report.html"
    assert "On 5 patients the Dice of 4 experts with one another averaged" in said[-2]
    assert (folder / "out/report.html").is_file()
    document = read_json(folder / "out/agreement.json")
    assert document["mode"] == "readers_only"
    assert "No network was assessed" in (folder / "out/report.html").read_text()


def test_predictions_from_a_column_and_from_a_folder(folder, monkeypatch, capfd):
    words = [
        "margin=0.02",
        "margin_source=literature",
        "margin_registered_at=2026-01-01",
        "created=2026-06-01",
        "readers=[A,B]",
    ]
    for name, predictions in (("column", "N"), ("folder", "cohort/labels/N")):
        arguments = ["cohort=cohort", f"predictions={predictions}", f"output={name}", *words]
        assert evaluate(folder, monkeypatch, *arguments) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "folder/report.html"
    column, from_folder = (read_json(folder / name / "agreement.json") for name in ("column", "folder"))
    assert column["agreement"] == from_folder["agreement"]
    assert column["conclusion"] == from_folder["conclusion"]
    assert column["design"]["network_how"] == "column N of the cohort"
    assert from_folder["design"]["network"] == "N"
    assert "few_patients" in column["conclusion"]["flags"]


def test_second_evaluation_replaces_the_first_and_gives_the_same_bytes(folder, monkeypatch):
    arguments = ["cohort=cohort", "predictions=N", "output=out"]
    written = []
    for _ in range(2):
        assert evaluate(folder, monkeypatch, *arguments) == 0
        written.append([(folder / "out" / name).read_bytes() for name in ("agreement.json", "report.html")])
    assert written[0] == written[1]


def test_folder_that_holds_something_else_is_left_alone(folder, monkeypatch, capfd):
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter.txt").write_text("mine")
    words = ["cohort=cohort", "predictions=N"]
    assert evaluate(folder, monkeypatch, *words, "output=thesis") == 2
    assert "output=thesis is not empty and holds no earlier result" in capfd.readouterr().err
    assert evaluate(folder, monkeypatch, *words, "output=thesis/chapter.txt") == 2
    assert "is a file; choose a folder" in capfd.readouterr().err


def test_missing_predictions_from_the_command_line(folder, monkeypatch, capfd):
    shutil.copytree(folder / "cohort/labels/N", folder / "masks")
    (folder / "masks/P02_rest.nii.gz").unlink()
    words = ["cohort=cohort", "predictions=masks", "output=out", "network=ours"]
    assert evaluate(folder, monkeypatch, *words) == 2
    assert "ours has no mask for 1 of 5 cases:\n  P02_rest\n" in capfd.readouterr().err
    assert evaluate(folder, monkeypatch, *words, "allow_missing=true") == 0
    assert "1 of 5 cases lack a mask; the report names them" in capfd.readouterr().out
    assert read_json(folder / "out/agreement.json")["design"]["network"] == "ours"


def test_plan_prints_the_table_and_writes_it(tmp_path, monkeypatch, capfd):
    words = ["plan=true", "margin=0.02", "sd=0.04", "true_delta=[0,-0.005]", "output=plan"]
    assert evaluate(tmp_path, monkeypatch, *words) == 0
    said = capfd.readouterr().out
    assert said.splitlines()[-1] == "plan/plan.json"
    line = next(line for line in said.splitlines() if "equivalence" in line and "-0.005" in line)
    assert line.split()[-2:] == ["59", "77"], "the table of the specification"
    with (tmp_path / "plan/plan.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["n"] for row in rows if row["claim"] == "equivalence"] == ["44", "54", "59", "77"]
    assert read_json(tmp_path / "plan/plan.json")["rows"][0]["n"] == 44
    assert "the SD must come from a pilot" in said


def test_plan_from_a_pilot(folder, monkeypatch, capfd):
    assert evaluate(folder, monkeypatch, "cohort=cohort", "predictions=N", "output=out") == 0
    assert evaluate(folder, monkeypatch, "plan=true", "margin=0.02", "pilot=out") == 0
    differences = [row["d"] for row in read_json(folder / "out/agreement.json")["agreement"]["dice"]["per_patient"]]
    assert f"{np.std(differences, ddof=1):.4g}" in capfd.readouterr().out
    assert evaluate(folder, monkeypatch, "cohort=cohort", "readers=only", "output=only") == 0
    assert evaluate(folder, monkeypatch, "plan=true", "margin=0.02", "pilot=only") == 2
    assert "a pilot needs a network and two readers, else give sd=" in capfd.readouterr().err


# --- runs ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Two recipes, one of them with two seeds, on one cohort of three readers."""
    folder = tmp_path_factory.mktemp("runs")
    write_read_cohort(folder / "cohort", 6, ("A", "B", "C"))
    words = [
        *TINY,
        "data=cohort",
        "data.root=cohort",
        "data.reader=A",
        "split.num_folds=3",
        "prediction.probabilities=true",
    ]
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, *more in (("dice", "loss=dice"), ("entropy", "loss=cross_entropy"), ("again", "loss=dice", "seed=1")):
            assert open_door("train", *words, f"name={name}", *more, folder=folder, monkeypatch=monkeypatch) == 0
    return folder


def test_run_is_compared_with_all_readers(trained, monkeypatch, capfd):
    words = ["run=runs/dice", "margin=0.02", "margin_source=x"]
    assert evaluate(trained, monkeypatch, *words) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == "runs/dice/report.html"
    assert said[-3] == "against the outlines of one reader (A); against all readers:"
    document = read_json(trained / "runs/dice/agreement.json")
    assert document["conclusion"]["text"] == said[-2]
    assert document["mode"] == "run"
    assert document["design"]["network_trained_on"] == ["A"]
    assert "network_trained_on_test_readers" in document["conclusion"]["flags"]
    assert {"threshold 0.4", "threshold 0.6", "without the readers who trained the network"} <= {
        row["what"] for row in document["sensitivity"]
    }
    status = {item["item"]: item["status"] for item in document["claim"]}
    assert {status[item] for item in (9, 19, 20, 22, 25, 26, 27, 32)} == {"answered"}
    assert document["conclusion"]["sentences"][0] in (trained / "runs/dice/report.html").read_text().replace(
        "&#39;", "'"
    )
    first = (trained / "runs/dice/agreement.json").read_bytes()
    assert evaluate(trained, monkeypatch, *words) == 0
    assert (trained / "runs/dice/agreement.json").read_bytes() == first


def test_run_with_one_reader_asked_for(trained, monkeypatch, capfd):
    assert evaluate(trained, monkeypatch, "run=runs/entropy", "readers=[B]") == 0
    assert "agreement between experts was not measured" in capfd.readouterr().out
    assert not (trained / "runs/entropy/agreement.json").exists()


def test_recipes_are_compared_on_the_same_patients(trained, monkeypatch, capfd):
    words = ["runs=[runs/dice,runs/entropy]", "output=recipes"]
    assert evaluate(trained, monkeypatch, *words) == 0
    said = capfd.readouterr().out
    assert said.splitlines()[-1] == "recipes/report.html"
    document = read_json(trained / "recipes/recipes.json")
    means = [
        read_json(trained / f"runs/{name}/summary.json")["metrics"]["dice"]["mean"] for name in ("dice", "entropy")
    ]
    assert [one["mean"]["value"] for one in document["recipes"]] == pytest.approx(means)
    [pair] = document["pairs"]
    assert pair["delta"]["value"] == pytest.approx(means[0] - means[1])
    assert pair["over_folds"]["test"]["n"] == 3
    assert document["n"] == 6
    assert "dice - entropy" in said


def test_runs_of_one_recipe_are_seeds_of_it(trained, monkeypatch, capfd):
    words = ["runs=[runs/dice,runs/again]", "output=o"]
    assert evaluate(trained, monkeypatch, *words) == 2
    assert "the 2 runs are one recipe with different seeds; expected two recipes" in capfd.readouterr().err
    words = ["runs=[runs/dice,runs/again,runs/entropy]", "output=o"]
    assert evaluate(trained, monkeypatch, *words) == 0
    assert "The recipes have different numbers of seeds (entropy 1; the others 2)" in capfd.readouterr().out


def test_runs_that_cannot_be_compared(trained, monkeypatch, capfd):
    assert evaluate(trained, monkeypatch, "runs=[runs/dice,nowhere]", "output=o") == 2
    assert "1 of the folders or patterns of runs=... hold no run:\n  nowhere" in capfd.readouterr().err
    shutil.copytree(trained / "runs/entropy", trained / "runs/other", dirs_exist_ok=True)
    summary = (trained / "runs/other/summary.json").read_text().replace('"cohort": "read"', '"cohort": "theirs"')
    (trained / "runs/other/summary.json").write_text(summary)
    assert evaluate(trained, monkeypatch, "runs=[runs/dice,runs/other]", "output=o") == 2
    assert "cohort is not the same: dice read, other theirs" in capfd.readouterr().err
