"""Every experiment of conf/experiment is run through the door at its smallest size."""

from __future__ import annotations

import pytest
from cohort_builders import write_tiny_cohort
from doors import TINY, open_door

from mpi_unet.config import options
from mpi_unet.files import read_json
from mpi_unet.run import Run

COHORT = ["data=cohort", "data.root=cohort", "data.reader=truth"]
SCENARIOS = {
    "seed_study": ["holdout_cross_entropy", "holdout_dice", "kfold_cross_entropy", "kfold_dice"],
    "published_protocol": ["as_published", "same_recipe_by_patient", "our_recipe_by_patient"],
}


RECIPES = {  # split, unit, loss, intensities
    "quickstart": ("kfold", "patient", "DiceCELoss", "ScaleIntensityRangePercentilesd"),
    "kfold_dice": ("kfold", "patient", "DiceLoss", "ScaleIntensityRangePercentilesd"),
    "kfold_dice_cross_entropy": ("kfold", "patient", "DiceCELoss", "ScaleIntensityRangePercentilesd"),
    "kfold_cross_entropy": ("kfold", "patient", "CrossEntropy", "ScaleIntensityRangePercentilesd"),
    "holdout_dice": ("holdout", "patient", "DiceLoss", "ScaleIntensityRangePercentilesd"),
    "holdout_cross_entropy": ("holdout", "patient", "CrossEntropy", "ScaleIntensityRangePercentilesd"),
    "published_image_split": ("holdout", "image", "DoubleSoftmaxCrossEntropy", "ScaleIntensityd"),
    "as_published": ("holdout", "image", "DoubleSoftmaxCrossEntropy", "ScaleIntensityd"),
    "same_recipe_by_patient": ("kfold", "patient", "DoubleSoftmaxCrossEntropy", "ScaleIntensityd"),
    "our_recipe_by_patient": ("kfold", "patient", "CrossEntropy", "ScaleIntensityRangePercentilesd"),
}


def recipe_of(folder):
    """What a run really was, from its own record."""
    design, run = read_json(folder / "summary.json")["design"], Run(folder)
    intensity = run.read_config().transforms.deterministic.intensity["_target_"].rpartition(".")[2]
    assert design["leakage_allowed"] == (design["unit"] == "image")
    return design["split"], design["unit"], design["loss"], intensity


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    write_tiny_cohort(folder / "cohort", 6)
    return folder


@pytest.mark.parametrize("experiment", [name for name in options("experiment") if name not in SCENARIOS])
def test_every_experiment_trains(experiment, folder, monkeypatch, capfd):
    words = [f"experiment={experiment}", *COHORT, *TINY]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0
    assert capfd.readouterr().out.splitlines()[-1] == f"runs/{experiment}/report.html"
    assert recipe_of(folder / "runs" / experiment) == RECIPES[experiment]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", SCENARIOS)
def test_every_study_runs_its_scenarios_and_compares_them(experiment, folder, monkeypatch, capfd):
    words = [f"experiment={experiment}", *COHORT, *TINY]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0
    said = capfd.readouterr().out
    page = folder / said.splitlines()[-1]
    text = page.read_text()
    for scenario in SCENARIOS[experiment]:
        assert (folder / "runs" / experiment / scenario / "report.html").is_file()
        assert f'href="{scenario}/report.html"' in text
        assert scenario in said
        assert recipe_of(folder / "runs" / experiment / scenario) == RECIPES[scenario]
    assert "0.989" in said, "the published figures stand beside ours"
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0


def test_published_protocol_keeps_what_its_own_scoring_claims(folder, monkeypatch):
    words = ["experiment=published_image_split", *COHORT, *TINY]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0
    claims = read_json(Run(folder / "runs" / "published_image_split").summary)["as_published"]
    assert set(claims) == {"accuracy", "macro_iou", "macro_dice"}
    assert all(0 < value <= 1 for value in claims.values())


def test_a_scenario_cannot_be_changed_behind_its_name(folder, monkeypatch, capfd):
    words = ["experiment=seed_study", "loss=dice", *COHORT]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 2
    assert "loss=dice would change what the scenario holdout_cross_entropy is" in capfd.readouterr().err


def test_distributed_sweep_in_one_process_is_refused(folder, monkeypatch, capfd):
    words = ["-m", "seed=1,2", "trainer=ddp", *COHORT]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 2
    assert "--multirun with trainer.devices=2 would run several distributed trainings" in capfd.readouterr().err


def test_sweep_runs_one_recipe_after_another(folder, monkeypatch):
    words = ["-m", "loss=dice,cross_entropy", "name='${hydra:runtime.choices.loss}'", "split=holdout", *COHORT, *TINY]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0
    for loss in ("dice", "cross_entropy"):
        assert (folder / "runs" / loss / "report.html").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["model=unet_3d", "transforms=volumes", "loader.batch_size=2", "model.channels=[4,8]", "model.strides=[2]"],
        ["model=attention_unet", "model.channels=[4,8]", "model.strides=[2]"],
        ["model=segresnet", "model.init_filters=8", "model.blocks_down=[1,1]", "model.blocks_up=[1]"],
        ["optimizer=sgd", "scheduler=polynomial", "model=unet_small"],
        ["transforms=deterministic", "scheduler=constant", "model=unet_small"],
        ["logger=tensorboard", "model=unet_small"],
    ],
)
def test_every_option_trains(words, tmp_path, monkeypatch):
    write_tiny_cohort(tmp_path / "cohort", 4, num_frames=5, size=24)
    words = ["trainer=cpu", "debug=one_batch", "split=holdout", "data.reader=truth", *COHORT[:2], *words]
    assert open_door("train", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    assert (tmp_path / "runs" / "train" / "report.html").is_file()


def test_network_that_outlines_nothing_is_reported(folder, monkeypatch, capfd):
    """Precision is undefined then, and must not stop a study at its last line."""
    words = ["experiment=seed_study", "name=nothing", "prediction.threshold=0.995", *COHORT, *TINY]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0
    said = capfd.readouterr().out
    assert "undefined" in said
    assert said.splitlines()[-1] == "runs/nothing/report.html"


@pytest.mark.long
def test_two_devices_share_a_fold(tmp_path):
    from doors import start_door

    write_tiny_cohort(tmp_path / "cohort", 4)
    words = ["trainer=ddp", "trainer.accelerator=cpu", "split.num_folds=2", *COHORT, *TINY[1:]]
    process = start_door("train", *words, folder=tmp_path)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.splitlines()[-1] == "runs/train/report.html"
