"""The door predict: new studies through the networks of a run, and what becomes of every one of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from cohort_builders import read_rows, write_rows, write_tiny_cohort
from doors import open_door, start_door
from predicting import door, everything, rename_patients, statuses, table, with_new_studies

from mpi_unet.cohort.nifti import read_image, read_mask, write_image
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import RunError
from mpi_unet.files import read_json
from mpi_unet.inference import predict
from mpi_unet.inference.inputs import open_input
from mpi_unet.inference.model import open_model
from mpi_unet.inference.options import Options
from mpi_unet.inference.results import result_file
from mpi_unet.inference.runtimes import Runner
from mpi_unet.inference.study import predict_study

QUICK = Options(measurements="volume", component="none")


@pytest.fixture
def folder(little_run, tmp_path):
    return with_new_studies(tmp_path, little_run)


# --- what it leaves ---


def test_every_study_gets_a_mask_a_row_and_a_volume_and_the_table_is_the_last_line(folder, monkeypatch, capfd):
    assert door(folder, monkeypatch) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines == ["5 segmented", "worklist: out/index.html", "out/predictions.csv"]
    output, cohort = folder / "out", Cohort.open(folder / "new")
    rows = table(output / "predictions.csv")
    assert [row["study_id"] for row in rows] == [case.case_id for case in cohort.cases]
    measured = {row["study_id"]: row for row in table(output / "measurements.csv")}
    for row, case in zip(rows, cohort.cases, strict=True):
        mask, image = read_mask(output / row["mask"]), case.read_image()
        assert mask.shape == image.array.shape
        np.testing.assert_allclose(read_image(output / row["mask"]).affine, image.affine)
        assert int(row["num_voxels"]) == mask.sum()
        if mask.any():
            volume = float(measured[case.case_id]["volume_ml"])
            assert volume == pytest.approx(mask.sum() * np.prod(image.spacing_mm) / 1000, rel=1e-5)
        assert (row["folds"], row["seen_in_training"]) == ("0 1 2", "")


def test_the_mask_is_where_the_mean_of_the_folds_reaches_the_threshold(folder):
    """Oracle: the checkpoints, loaded and applied frame by frame without our code."""
    from monai.networks.nets import UNet

    made = predict(folder / "runs/train", folder / "new", folder / "out", options=Options(component="none"))
    case = Cohort.open(folder / "new").cases[2]
    image = case.read_image().array
    low, high = np.percentile(image, [1, 99])
    scaled = torch.from_numpy((image - low) / (high - low)).float()
    total = np.zeros(image.shape)
    for fold in range(3):
        network = UNet(2, 1, 2, channels=[4, 8], strides=[2], num_res_units=2).eval()
        file = folder / f"runs/train/fold_{fold}/checkpoints/best.ckpt"
        weights = torch.load(file, weights_only=True)["state_dict"]
        network.load_state_dict({key.removeprefix("network."): value for key, value in weights.items()})
        with torch.no_grad():
            total += torch.stack([network(frame[None, None]).softmax(1)[0, 1] for frame in scaled]).numpy()
    close = np.abs(total / 3 - 0.5) < 1e-5
    mask = read_mask(made.output / "masks" / f"{case.case_id}.nii.gz")
    assert (mask == (total / 3 >= 0.5))[~close].all()


def test_patients_of_training_are_segmented_by_the_fold_that_had_not_seen_them(little_run, tmp_path):
    """Oracle: the out-of-fold masks of the run itself."""
    made = predict(little_run / "runs/train", little_run / "cohort", tmp_path / "out", options=QUICK)
    splits = read_json(little_run / "runs/train/splits.json")
    for row in table(made.table):
        assert row["seen_in_training"] == "image"
        assert row["patient_id"] in splits["folds"][int(row["folds"])]["test"]
        own = read_mask(little_run / f"runs/train/predictions/{row['study_id']}.nii.gz")
        assert (read_mask(made.output / row["mask"]) == own).all()


def test_another_image_of_a_patient_of_training_is_known_by_the_patient(little_run, tmp_path):
    shutil.copytree(little_run / "cohort", tmp_path / "again")

    for case in Cohort.open(tmp_path / "again").cases:
        image = case.read_image()
        write_image(case.image, image.array * np.float32(1.5), image.affine)
    made = predict(little_run / "runs/train", tmp_path / "again", tmp_path / "out", options=QUICK)
    splits = read_json(little_run / "runs/train/splits.json")
    for row in table(made.table):
        assert row["seen_in_training"] == "patient"
        assert row["patient_id"] in splits["folds"][int(row["folds"])]["test"]


def test_the_domain_of_the_run_is_made_from_its_cohort_when_it_is_not_written_down(little_run, tmp_path):
    shutil.copytree(little_run / "runs", tmp_path / "runs")
    file = tmp_path / "runs/train/domain.json"
    before = read_json(file)
    file.unlink()
    open_model(tmp_path / "runs/train")
    assert read_json(file) == before
    file.unlink()
    environment = tmp_path / "runs/train/environment.json"
    environment.write_text(json.dumps(read_json(environment) | {"cohort_folder": str(tmp_path / "gone")}))
    with pytest.raises(RunError, match=r"has no domain.json, so it is not known .* which is not there"):
        open_model(tmp_path / "runs/train")


# --- going on ---


def test_the_same_command_does_nothing_twice_and_mends_what_is_missing(folder, monkeypatch):
    assert door(folder, monkeypatch) == 0
    output = folder / "out"
    before = everything(output)
    times = {path: path.stat().st_mtime_ns for path in output.glob("masks/*")}
    (output / "studies/P03_rest.json").unlink()
    (output / "predictions.csv").unlink()
    assert door(folder, monkeypatch) == 0
    assert everything(output) == before
    again = {path for path, then in times.items() if path.stat().st_mtime_ns != then}
    assert again == {output / "masks/P03_rest.nii.gz"}


def test_a_study_whose_pixels_have_changed_is_done_anew(folder, monkeypatch):

    assert door(folder, monkeypatch) == 0
    case = Cohort.open(folder / "new").cases[0]
    key = read_json(folder / "out/studies/P00_rest.json")["key"]
    image = case.read_image()
    write_image(case.image, np.roll(image.array, 3, axis=2), image.affine)
    assert door(folder, monkeypatch) == 0
    assert read_json(folder / "out/studies/P00_rest.json")["key"] != key


@pytest.mark.long
def test_a_prediction_that_is_killed_goes_on_and_ends_the_same(little_run, tmp_path):
    with_new_studies(tmp_path, little_run, 40)
    words = ["run=runs/train", "input=new", "batch_size=4"]
    quiet = start_door("predict", *words, "output=quiet", folder=tmp_path)
    said, _ = quiet.communicate(timeout=300)
    assert quiet.returncode == 0, said
    process = start_door("predict", *words, "output=killed", folder=tmp_path)
    results = tmp_path / "killed/studies"
    deadline = time.monotonic() + 200
    while len(list(results.glob("P*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 3 <= len(list(results.glob("P*.json"))) < 40
    last = start_door("predict", *words, "output=killed", folder=tmp_path)
    said, _ = last.communicate(timeout=300)
    assert last.returncode == 0, said
    assert everything(tmp_path / "killed") == everything(tmp_path / "quiet")


def test_shards_share_the_work_and_the_last_one_completes_the_table(folder, monkeypatch):
    assert door(folder, monkeypatch, output="whole") == 0
    assert door(folder, monkeypatch, "shard=1/2") == 0
    assert list(statuses(folder / "out").values()) == ["waiting", "segmented"] * 2 + ["waiting"]
    assert door(folder, monkeypatch, "shard=0/2") == 0
    assert everything(folder / "out") == everything(folder / "whole")


@pytest.mark.long
def test_shards_at_the_same_time_do_not_disturb_one_another(folder):
    words = ["run=runs/train", "input=new", "output=out", "measurements=volume"]
    parts = [start_door("predict", *words, f"shard={part}/2", folder=folder) for part in range(2)]
    for part in parts:
        said, _ = part.communicate(timeout=300)
        assert part.returncode == 0, said
    assert set(statuses(folder / "out").values()) == {"segmented"}


def test_other_options_in_the_same_folder_are_refused_unless_thrown_away(folder, monkeypatch, capfd):
    assert door(folder, monkeypatch) == 0
    assert door(folder, monkeypatch, "postprocessing.component=none") == 2
    said = capfd.readouterr().err
    assert "component was plausible, is now none" in said
    assert "overwrite=true" in said
    assert door(folder, monkeypatch, "postprocessing.component=none", "overwrite=true") == 0
    assert door(folder, monkeypatch, "postprocessing.component=none", "batch_size=3") == 0


def test_a_folder_that_holds_something_else_is_left_alone(folder, monkeypatch, capfd):
    (folder / "out").mkdir()
    (folder / "out/thesis.tex").write_text("all of it")
    assert door(folder, monkeypatch, "overwrite=true") == 2
    assert "holds 1 things that predict did not make (thesis.tex); choose another output" in capfd.readouterr().err
    assert (folder / "out/thesis.tex").read_text() == "all of it"


# --- bad studies ---


def test_bad_studies_stop_nobody_and_are_told_with_their_reasons(folder, monkeypatch, capfd):
    from mpi_unet.cohort.nifti import affine_from_spacing

    root = folder / "new"
    rows = read_rows(root)
    (root / rows[0]["image"]).write_bytes(b"this is no NIfTI file")
    write_image(root / rows[1]["image"], np.ones((4, 32, 32), np.float32), affine_from_spacing((6.4, 9.9, 9.9)))
    broken = read_image(root / rows[2]["image"])
    broken.array[0, 0, 0] = np.nan
    write_image(root / rows[2]["image"], broken.array, broken.affine)
    (root / rows[3]["image"]).unlink()
    write_rows(root, [*rows, rows[4] | {"case_id": "../P99", "image": "../elsewhere.nii.gz"}])
    assert door(folder, monkeypatch) == 2
    said = capfd.readouterr()
    assert said.out.splitlines()[-1] == "out/predictions.csv"
    assert "PredictionError: 5 of what was asked for was not segmented" in said.err
    assert "Traceback" not in said.err
    found = {row["study_id"]: row for row in table(folder / "out/predictions.csv")}
    assert {name: row["status"] for name, row in found.items()} == {
        "P00_rest": "failed",
        "P01_rest": "refused",
        "P02_rest": "refused",
        "P03_rest": "failed",
        "P04_rest": "segmented",
        "row 7 of cases.csv": "failed",
    }
    assert "cannot be read" in found["P00_rest"]["reason"]
    assert "its voxels are 6.4 x 9.9 x 9.9 mm, training had 6.4 x 3.2 x 3.2 mm" in found["P01_rest"]["reason"]
    assert "values that are not finite" in found["P02_rest"]["reason"]
    assert "file is missing" in found["P03_rest"]["reason"]
    assert "expected a plain file name" in found["row 7 of cases.csv"]["reason"]
    assert [path.name for path in (folder / "out/masks").iterdir()] == ["P04_rest.nii.gz"]
    assert door(folder, monkeypatch, "accept_incomplete=true") == 0


def test_a_study_that_was_mended_is_segmented_by_the_same_command(folder, monkeypatch):
    image = folder / "new/images/P01_rest.nii.gz"
    kept = image.read_bytes()
    image.write_bytes(kept[:100])
    assert door(folder, monkeypatch) == 2
    image.write_bytes(kept)
    assert door(folder, monkeypatch) == 0
    assert set(statuses(folder / "out").values()) == {"segmented"}


def test_a_study_that_breaks_the_network_does_not_take_its_batch_with_it(folder, monkeypatch):
    runner = Runner(open_model(folder / "runs/train"))
    studies = list(open_input(folder / "new", folder / "out", domain="short_axis").studies())
    answer = Runner.__call__

    def sometimes(self, batch, networks):
        if len(batch) > 4 or float(batch.sum()) == poison:
            raise ValueError("no memory left")
        return answer(self, batch, networks)

    from mpi_unet.inference.study import prepare_study, probabilities

    group = [prepare_study(study, runner.model, folder / "out", QUICK) for study in studies]
    poison = float(group[1].image.sum())
    monkeypatch.setattr(Runner, "__call__", sometimes)
    parts = probabilities(group, runner, QUICK)
    assert [isinstance(part, ValueError) for part in parts] == [False, True, False, False, False]


def test_a_full_disk_is_an_error_of_the_command_and_not_of_the_studies(folder, monkeypatch):
    def full(*_, **__):
        raise RunError("out cannot be written: No space left on device")

    monkeypatch.setattr("mpi_unet.inference.finishing.write_mask", full)
    with pytest.raises(RunError, match="No space left"):
        predict(folder / "runs/train", folder / "new", folder / "out", options=QUICK)
    assert not list((folder / "out/studies").glob("*.json")) if (folder / "out/studies").exists() else True


# --- commands that cannot be ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run=nowhere"], "run=nowhere is no folder; give the folder that train printed"),
        (["run=new"], "holds no .hydra/config.yaml, so it is no run"),
        (["input=nowhere"], "input=nowhere does not exist; give the folder of a cohort, or of DICOM files"),
        (["runtime=onnx"], "runtime=onnx; expected torch | compile | onnxruntime | openvino"),
        (["shard=3"], "shard is 3, expected str | None"),
        (["shard=4/4"], "shard=4/4: expected <part>/<number of parts>"),
        (["test_time.shift=2"], "Could not override 'test_time.shift'"),
        (["batch_size=many"], "batch_size is 'many', expected int"),
        (["measurements=2", "device=7"], "several keys are wrong"),
        (["output=new/out"], "lie in one another"),
    ],
)
def test_a_wrong_command_gets_one_message(folder, monkeypatch, capfd, words, said):
    words = {"run": "runs/train", "input": "new", "output": "out"} | dict(word.split("=") for word in words)
    given = [f"{key}={value}" for key, value in words.items()]
    assert open_door("predict", *given, folder=folder, monkeypatch=monkeypatch) == 2
    answer = capfd.readouterr().err
    assert said in answer or ("test_time.shift" in answer and "no such key" in answer)
    assert "Traceback" not in answer


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("monai.networks.nets.UNet", "subprocess.Popen", "model._target_ is subprocess.Popen"),
        ("monai.networks.nets.UNet", "torch.hub.load", "model._target_ is torch.hub.load"),
        (
            "monai.transforms.ScaleIntensityRangePercentilesd",
            "os.system",
            "deterministic.intensity._target_ is os.system",
        ),
    ],
)
def test_a_run_from_elsewhere_builds_no_foreign_classes(little_run, tmp_path, old, new, said):
    shutil.copytree(little_run / "runs", tmp_path / "runs")
    config = tmp_path / "runs/train/.hydra/config.yaml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(RunError, match=said):
        open_model(tmp_path / "runs/train")


def test_a_run_without_a_finished_fold_or_with_foreign_weights_is_refused(little_run, tmp_path):
    shutil.copytree(little_run / "runs", tmp_path / "runs")
    run = tmp_path / "runs/train"
    config = run / ".hydra/config.yaml"
    kept = config.read_text()
    config.write_text(kept.replace("- 8\n", "- 16\n"))
    with pytest.raises(RunError, match=r"best\.ckpt holds the weights of another network"):
        open_model(run)
    config.write_text(kept)
    for fold in run.glob("fold_*/fold.json"):
        fold.unlink()
    with pytest.raises(RunError, match=r"no fold of .* is done yet; give the training command again"):
        open_model(run)


# --- one study, and many ---


def test_one_study_is_a_unit_of_work_on_its_own(folder):
    runner = Runner(open_model(folder / "runs/train"))
    study = next(open_input(folder / "new", folder / "out", domain="short_axis").studies())
    result = predict_study(study, runner, folder / "out", QUICK)
    written = result_file(folder / "out", study.study_id).stat().st_mtime_ns
    assert predict_study(study, runner, folder / "out", QUICK) == result
    assert result_file(folder / "out", study.study_id).stat().st_mtime_ns == written
    whole = predict(folder / "runs/train", folder / "new", folder / "whole", options=QUICK)
    assert read_json(result_file(whole.output, study.study_id)) == read_json(
        result_file(folder / "out", study.study_id)
    )


@pytest.mark.long
def test_memory_stays_flat_while_studies_go_through(little_run, tmp_path):
    """Images in memory at once are counted, not bytes: the allocator of torch hides those."""
    from mpi_unet.inference import plan, study, workers
    from mpi_unet.inference.finishing import ReadStudy

    (tmp_path / "runs").symlink_to(little_run / "runs")
    write_tiny_cohort(tmp_path / "new", 60, seed=1)
    rename_patients(tmp_path / "new", "N")
    import gc

    most = 0
    finish = workers.finish_study

    def counting(*arguments):
        nonlocal most
        most = max(most, sum(type(one) in (study.Prepared, ReadStudy) for one in gc.get_objects()))
        return finish(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "finish_study", counting)
        predict(
            tmp_path / "runs/train",
            tmp_path / "new",
            tmp_path / "out",
            options=Options(measurements="volume", component="none", batch_size=16),
        )
    assert 0 < most <= 2 * (2 * plan.AHEAD + workers.BACKLOG + 4) < 60
