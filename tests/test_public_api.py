"""The names that a notebook needs: light to import, typed, documented, and doing what their doors do."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import write_tiny_cohort
from doors import CHECKOUT, TINY
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from report_builders import make_cohort, make_run

import mpi_unet.api as api
from mpi_unet.api.commands import word_of
from mpi_unet.errors import CardiacError, CohortError, ConfigError, PredictionError, RunError
from mpi_unet.report.page import write_report

HEAVY = ("torch", "monai", "pytorch_lightning", "matplotlib", "pandas", "hydra", "statsmodels", "SimpleITK")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    """A finished run of six patients; the network of the second missed most slices."""
    folder = tmp_path_factory.mktemp("opened")
    cohort = make_cohort(folder / "cohort")
    made = make_run(folder / "run", cohort)
    (made / ".hydra" / "config.yaml").write_text("name: run\ndata: {reader: truth, exclude: []}\n")
    environment = json.loads((made / "environment.json").read_text()) | {"cohort_folder": str(cohort.root)}
    (made / "environment.json").write_text(json.dumps(environment))
    write_report(made, cohort)
    return api.Run.open(made)


def loaded_by(statement: str, packages: tuple[str, ...] = HEAVY) -> set[str]:
    """Which of the packages a fresh process has after a statement."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {packages!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


# --- Names ---


def test_importing_the_names_brings_in_nothing_heavy():
    assert loaded_by("import mpi_unet.api", (*HEAVY, "numpy", "scipy", "omegaconf")) == set()
    assert loaded_by(f"from mpi_unet.api import {', '.join(api.__all__)}") == set()


@pytest.mark.parametrize("name", api.__all__)
def test_every_name_is_there_typed_and_documented(name: str):
    thing = getattr(api, name)
    assert inspect.getdoc(thing)
    assert f"`{name}" in (CHECKOUT / "docs" / "api.md").read_text()
    members = [thing, *(member for _, member in inspect.getmembers(thing))]
    functions = [one for one in members if inspect.isfunction(one) and one.__module__.startswith("mpi_unet.")]
    own = [one for one in functions if not one.__name__.startswith("_")]
    assert not [one.__qualname__ for one in own if "return" not in one.__annotations__ or not one.__doc__]


def test_names_are_listed_once_and_live_where_type_checkers_look():
    source = Path(api.__file__).read_text()
    assert sorted(api.__all__) == api.__all__ == dir(api)
    for name, home in api._HOMES.items():
        assert f"    from {home} import" in source
        assert getattr(api, name).__module__ == home
    assert (Path(api.__file__).parent.parent / "py.typed").is_file()


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="no 'Runn'; did you mean 'Run'"):
        _ = api.Runn


# --- Words ---

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")).filter(lambda c: c != "$"), max_size=20)
VALUE = st.recursive(PLAIN | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@settings(deadline=None, max_examples=200)
@given(VALUE)
def test_values_reach_hydra_as_they_are(value: object):
    from hydra.core.override_parser.types import QuotedString

    def bare(parsed: object) -> object:
        if isinstance(parsed, list):
            return [bare(one) for one in parsed]
        return parsed.text if isinstance(parsed, QuotedString) else parsed

    parsed = OverridesParser.create().parse_override(word_of("key", value))
    got = bare(parsed._value)
    assert got == value
    assert type(got) is type(value)


def test_opened_things_and_paths_stand_for_their_folders(run: api.Run, tmp_path: Path):
    assert word_of("run", run) == f"run={run.folder}"
    assert word_of("input", run.cohort) == f"input={run.cohort.root}"
    assert word_of("input", tmp_path / "a b") == f'input="{tmp_path}/a b"'
    assert word_of("key", {"A2": "A"}) == "key={A2:A}"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: api.train("experimnt=quickstart"), ConfigError, "no such key; did you mean 'experiment'"),
        (lambda: api.train("experiment=quikstart"), ConfigError, "did you mean 'quickstart'"),
        (lambda: api.train({"experiment": object()}), ConfigError, "experiment is a object; expected a text"),
        (lambda: api.train("experiment=quickstart", "-m"), ConfigError, "-m: flags are for the command line"),
        (lambda: api.train("experiment=seed_study"), ConfigError, r"4 runs.*then open each: Run.open"),
        (lambda: api.train({"seed": "seven"}), ConfigError, "seed is 'seven', expected int"),
        (lambda: api.prepare("source=phantom"), ConfigError, "output must be given"),
        (lambda: api.prepare("normals=x", "output=y"), ConfigError, "no cohort; use python -m mpi_unet.prepare"),
        (lambda: api.evaluate("plan=true"), ConfigError, r"call mpi_unet.agreement.plan\(...\)"),
        (lambda: api.evaluate("runs=[a,b]"), ConfigError, r"compare_recipes\(...\)"),
        (lambda: api.predict("x", "x", "y", "runtime=torhc"), ConfigError, "did you mean 'torch'"),
        (lambda: api.Run.open("nowhere"), RunError, "nowhere holds no .hydra/config.yaml"),
    ],
)
def test_mistakes_are_raised_and_leave_nothing_behind(call, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = list(sys.argv)
    with pytest.raises(error, match=message):
        call()
    assert sys.argv == arguments
    assert not GlobalHydra.instance().is_initialized()
    assert not [path for path in tmp_path.rglob("*") if not path.name.startswith(".") and path.name != "y"]


# --- Doors that need no network ---


def test_prepare_opens_the_cohort_that_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = write_tiny_cohort(tmp_path / "tiny", 3)
    keys = {
        "input": root / "images",
        "output": tmp_path / "my cohort",
        "source.domain": "short_axis",
        "source.image_pattern": r"(?P<patient>P\d+)_(?P<case>rest)\.nii\.gz",
    }
    cohort = api.prepare("source=nifti", keys)
    assert (cohort.root, cohort.patients, cohort.label) == (tmp_path / "my cohort", ("P00", "P01", "P02"), "")
    assert "3 cases of 3 patients" in capsys.readouterr().out


def test_evaluation_of_readers_and_masks(tmp_path: Path):
    root = write_tiny_cohort(tmp_path / "tiny", 6, readers=("truth", "A", "B"))
    given = {"cohort": root, "output": tmp_path / "out", "predictions": root / "labels" / "truth"}
    made = api.evaluate(given, {"margin": 0.3, "margin_source": "test"}, "readers=[A,B]", "bootstrap.draws=1000")
    assert (made.readers, made.margin) == (("A", "B"), 0.3)
    assert made.verdict == made.document["agreement"]["dice"]["verdict"]
    panel = made.panel.set_index(["metric", "quantity"])["value"]
    assert panel["dice", "delta"] == pytest.approx(panel["dice", "P0"] - panel["dice", "Pn"])
    assert panel["dice", "P0"] == pytest.approx(made.patients["p0"].mean())
    pairs = made.pairs.set_index(["preds", "target"])["dice"]
    assert list(pairs.index) == [("network", "A"), ("network", "B"), ("A", "B")]
    scores = made.scores
    assert len(scores) == 6 * 3
    assert pairs["A", "B"] == pytest.approx(scores.query("preds == 'A' and target == 'B'")["dice"].mean())
    assert "6 patients" in made.conclusion
    assert made.report.is_file()
    shown = made.show("agreement_delta", "agreement_pairs")
    assert shown._repr_html_().count("<svg ") == 2
    assert [path.read_text().startswith("<svg") for path in shown.save(tmp_path / "svg")] == [True, True]
    with pytest.raises(RunError, match="no drawing agreement_delt; did you mean 'agreement_delta'"):
        made.show("agreement_delt")


# --- A run ---


def test_tables_of_a_run(run: api.Run):
    scores = run.scores
    assert list(scores.columns[:5]) == ["patient_id", "case_id", "fold", "preds", "target"]
    assert (len(scores), set(scores["preds"]), set(scores["target"])) == (6, {"network"}, {"truth"})
    assert run.summary.loc["dice", "mean"] == pytest.approx(scores["dice"].mean())
    assert run.summary.loc["dice", "low"] < run.summary.loc["dice", "mean"] < run.summary.loc["dice", "high"]
    assert run.baselines.loc["network", "dice"] > run.baselines.loc["mean_shape", "dice"]
    assert "6 phantom patients" in run.headline
    learning = run.learning
    assert (len(learning), learning["epoch"].min(), learning["is_best"].sum()) == (3 * 12, 1, 3)
    scores["dice"] = 0.0
    assert run.scores["dice"].mean() > 0, "changing a table must not change the run"


def test_run_that_is_not_finished_says_so(run: api.Run, tmp_path: Path):
    shutil.copytree(run.folder / ".hydra", tmp_path / ".hydra")
    unfinished = api.Run.open(tmp_path)
    for part in ("headline", "summary", "baselines", "scores", "learning"):
        with pytest.raises(RunError, match="give the training command"):
            getattr(unfinished, part)
    shutil.copy(run.folder / "summary.json", tmp_path)
    with pytest.raises(RunError, match="holds no learning curve; give the training command again"):
        _ = unfinished.learning


def test_worst_cases_come_first(run: api.Run):
    assert run.worst(2)["dice"].is_monotonic_increasing
    assert run.worst(1)["case_id"].tolist() == ["P001-stress"]
    assert run.worst(6, by="hd95_mm")["hd95_mm"].is_monotonic_decreasing
    with pytest.raises(RunError, match=r"by='dise'.*did you mean 'dice'"):
        run.worst(by="dise")


def test_case_of_a_run(run: api.Run):
    case = run.case("P001-stress")
    assert (case.patient_id, list(case.masks), case.image.array.shape) == ("P001", ["truth", "network"], (14, 40, 40))
    preds, target = case.masks["network"], case.masks["truth"]
    dice = 2 * (preds & target).sum() / (preds.sum() + target.sum())
    assert case.scores["dice"].item() == pytest.approx(dice)
    picture = case.plot(num_frames=3)
    first = picture.axes[0].get_title()
    wrong = (preds ^ target).sum(axis=(1, 2))
    assert first.startswith(f"slice {wrong.argmax() + 1} of 14, Dice 0.00")
    assert f"{dice:.3f}" in picture.get_suptitle()
    bundle, look = picture._repr_mimebundle_()
    assert bundle["image/png"].startswith("iVBOR")
    assert look["image/png"]["width"] == round(picture.get_size_inches()[0] * 100)
    ordered = case.plot(order="anatomical", num_frames=4, readers=["truth"])
    slices = [int(axes.get_title().split()[1]) for axes in ordered.axes]
    assert slices == sorted(slices, reverse=True)  # the last slice is the apex here


def test_pictures_refuse_what_is_not_there(run: api.Run):
    case = run.case("P000-stress")
    assert len(case.plot(frames=[3, 4]).axes) == 2
    with pytest.raises(CohortError, match=r"frames=\[14\]; expected one or more of 0 to 13"):
        case.plot(frames=[14])
    with pytest.raises(CohortError, match="reader 'B' has no label; readers with one: truth"):
        case.plot(readers=["B"])
    with pytest.raises(CohortError, match="order='best'; expected 'worst' or 'anatomical'"):
        api.plot_case(run.cohort, "P000-stress", order="best")
    with pytest.raises(CohortError, match=r"(?s)other has \(1, 2, 3\).*Give masks"):
        api.plot_case(run.cohort, "P000-stress", masks={"other": np.ones((1, 2, 3), bool)})
    with pytest.raises(CohortError, match="no case 'P00-stress'"):
        run.case("P00-stress")
    with pytest.raises(RunError, match="was not compared with several readers; do it with evaluate"):
        _ = run.evaluation


@pytest.mark.parametrize("facts", [{"domain": "projection", "label": "lv_filled"}, {"spacing_mm": None}])
def test_pictures_of_any_cohort(facts: dict, tmp_path: Path):
    cohort = api.Cohort.open(write_tiny_cohort(tmp_path / "tiny", 1, readers=("truth", "A"), **facts))
    picture = api.plot_case(cohort, "P00_rest", masks={"network": cohort.cases[0].read_mask("truth")}, num_frames=3)
    word = "view" if facts.get("domain") else "slice"
    assert picture.axes[0].get_title() == f"{word} 1 of 4, Dice 1.00"
    assert not picture.axes[0].texts, "names of edges that nobody knows"
    legend = [text.get_text() for text in picture.legends[0].get_texts()]
    assert legend == ["truth (simulated)", "A (simulated)", "network"]
    assert len(api.plot_case(cohort, "P00_rest", readers=[]).axes) == 4


def test_mask_that_is_missing_is_named(run: api.Run):
    mask = run.folder / "predictions" / "P003-stress.nii.gz"
    mask.rename(mask.with_name("away"))
    try:
        with pytest.raises(RunError, match=r"P003-stress.nii.gz is missing.*give the training command again"):
            run.case("P003-stress")
    finally:
        mask.with_name("away").rename(mask)


def test_drawings_of_a_run(run: api.Run):
    assert {"patients_dice", "learning_val_dice"} <= set(run.drawings)
    html = run.show("patients_dice", "patients_iou")._repr_html_()
    assert "repeat(2," in html
    assert "<?xml" not in html
    assert repr(run.show("patients_dice") + run.show("patients_iou")) == "Drawings: patients_dice, patients_iou"
    with pytest.raises(RunError, match="no name was given; there are"):
        run.show()


def test_viewer_is_a_picture_where_widgets_are_missing(run: api.Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mpi_unet.api.viewer.find_spec", lambda name: None)
    viewer = run.view()
    assert (viewer.first, viewer.widget) == ("P001-stress", None)
    assert set(viewer._repr_mimebundle_()[0]) == {"image/png", "text/plain"}


def test_viewer_follows_its_controls(run: api.Run):
    pytest.importorskip("ipywidgets", reason="pip install 'mpi-unet[notebooks]'")
    viewer = run.view("P000-stress")
    picture, controls = viewer.widget.children
    case, frame, boxes = controls.children
    assert (case.value, frame.max, [box.description for box in boxes.children]) == (
        "P000-stress",
        14,
        ["truth", "network"],
    )
    assert case.options[0][1] == "P001-stress"
    before = picture.value
    frame.value = 1
    assert (on_first := picture.value) != before
    frame.value = 8
    with_outlines = picture.value
    boxes.children[1].value = False
    assert picture.value not in (with_outlines, on_first)
    case.value = "P001-stress"
    assert frame.value == 1 + viewer.run.case("P001-stress").outlined().worst_frame()
    assert "application/vnd.jupyter.widget-view+json" in viewer._repr_mimebundle_()[0]


# --- A heart, a prediction ---


def test_ventricle_of_an_outline(run: api.Run):
    case = run.cohort.cases[0]
    heart = api.Ventricle.of(case, "truth")
    wall = case.read_mask("truth")
    voxel_ml = float(np.prod(case.read_image().spacing_mm)) / 1000
    assert heart.volumes.wall_ml == pytest.approx(wall.sum() * voxel_ml, rel=0.05)
    between = heart.inside("epicardium") - heart.inside("endocardium")
    assert between.sum() * voxel_ml == pytest.approx(heart.volumes.wall_ml, rel=0.02)
    segments = heart.segments
    assert (len(segments), set(segments["territory"])) == (17, {"LAD", "RCA", "LCx"})
    assert segments["uptake_pct"].between(20, 100).all()
    drawn = heart.plot_polar_map().svgs[0]
    assert "var(--" not in drawn
    assert f">{segments['uptake_pct'][0]:.0f}<" in drawn
    again = api.Ventricle.of(case, wall)
    assert api.cycle_of([heart] * 8).ejection_fraction_pct == pytest.approx(0.0, abs=1e-6)
    assert "<svg" in api.plot_cycle(api.cycle_of([heart, again])).svgs[0]
    assert "8" in api.cycle_of([heart, again]).why_not
    with pytest.raises(CardiacError, match="surface='valve'; expected endocardium or epicardium"):
        heart.inside("valve")
    with pytest.raises(CardiacError, match=r"outline is \(2, 2, 2\), the image \(14, 40, 40\); give a mask"):
        api.Ventricle.of(case, np.ones((2, 2, 2), bool))


def test_prediction_says_what_is_missing(tmp_path: Path):
    made = api.Prediction(tmp_path)
    with pytest.raises(RunError, match=r"predictions.csv is missing; predict into this folder again"):
        _ = made.studies
    with pytest.raises(PredictionError, match="says what became of P1"):
        made.mask("P1")


@pytest.mark.slow  # trains
def test_train_evaluate_and_predict_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    root = write_tiny_cohort(tmp_path / "tiny", 6, readers=("truth", "A", "B"))
    cohort = api.Cohort.open(root)
    words = (*TINY, "data=cohort", {"data.root": cohort, "data.reader": "A"}, "split.num_folds=3")
    run = api.train(*words)
    assert run.folder == Path("runs/train")
    assert "data.reader=A" in json.loads((run.folder / "environment.json").read_text())["command"]
    checkpoint = run.folder / "fold_0" / "checkpoints" / "best.ckpt"
    trained = checkpoint.stat().st_mtime_ns
    assert api.train(*words) == run
    assert checkpoint.stat().st_mtime_ns == trained
    with pytest.raises(RunError, match="made by another recipe"):
        api.train(*words, "seed=8")
    assert len(run.scores) == 6
    evaluation = api.evaluate({"run": run}, "bootstrap.draws=1000")
    assert run.evaluation == evaluation
    pairs = run.scores.groupby(["preds", "target"], sort=False).size()
    assert dict(pairs) == {("network", "A"): 6, ("network", "B"): 6, ("A", "B"): 6}
    own = run.scores.query("preds == 'network' and target == 'A'").set_index("case_id")["dice"]
    theirs = evaluation.scores.query("preds == 'network' and target == 'A'").set_index("case_id")["dice"]
    assert dict(own) == pytest.approx(dict(theirs))
    assert len(run.worst(9)) == 6
    prediction = api.predict(run, cohort, "out", "measurements=volume", "allow_other_domain=true", {"pages": False})
    assert set(prediction.studies["status"]) == {"segmented"}
    assert prediction.mask(prediction.studies["study_id"][0]).shape == (4, 32, 32)
    assert len(prediction.measurements) == 6
