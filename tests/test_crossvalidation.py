"""A whole training through the door, at its smallest size: what it leaves, how it goes on, what it refuses."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from cohort_builders import read_rows, write_rows, write_tiny_cohort
from doors import CHECKOUT, TINY, open_door, start_door

from mpi_unet.cohort.nifti import write_image
from mpi_unet.cohort.table import Cohort
from mpi_unet.files import read_json

COHORT = ["data=cohort", "data.root=cohort", "data.reader=truth"]
FAST = [*TINY, *COHORT, "split.num_folds=3"]


@pytest.fixture
def folder(tmp_path):
    write_tiny_cohort(tmp_path / "cohort", 6)
    return tmp_path


def train(folder, monkeypatch, *words):
    return open_door("train", *FAST, *words, folder=folder, monkeypatch=monkeypatch)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(run):
    """Everything that a run measured, without times."""
    metrics = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in table(path)]
        for path in sorted(run.glob("fold_*/metrics.csv"))
    ]
    masks = {path.name: np.asarray(nib.load(path).dataobj).sum() for path in run.glob("predictions/*.nii.gz")}
    return metrics, masks, (run / "scores.csv").read_text(), read_json(run / "summary.json")["metrics"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of six patients in three folds, and what the door printed."""
    folder = tmp_path_factory.mktemp("finished")
    write_tiny_cohort(folder / "cohort", 6)
    process = start_door("train", *FAST, "prediction.probabilities=true", folder=folder)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return folder, said


# --- what a run leaves behind ---


def test_run_is_complete_and_ends_with_the_path_of_the_report(finished):
    folder, said = finished
    lines = said.splitlines()
    assert lines[-1] == "runs/train/report.html"
    assert re.match(r"LV Dice \d\.\d{3} \(95% CI .*; 6 patients", lines[-4])
    run = folder / "runs" / "train"
    cohort = Cohort.open(folder / "cohort")
    for case in cohort.cases:
        mask, image = nib.load(run / "predictions" / f"{case.case_id}.nii.gz"), nib.load(case.image)
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine)
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
    summary = read_json(run / "summary.json")
    assert summary["complete"]
    assert summary["metrics"]["dice"]["n"] == 6
    assert set(summary["baselines"]) == {"all_background", "all_foreground", "mean_shape", "largest_component"}
    assert [fold["n_patients"] for fold in summary["folds"]] == [2, 2, 2]
    assert {row["case_id"] for row in table(run / "scores.csv")} == {case.case_id for case in cohort.cases}


def test_patients_stay_out_of_what_is_printed_and_logged(finished):
    folder, said = finished
    run = folder / "runs" / "train"
    text = said + (run / "log.txt").read_text() + (run / "environment.json").read_text()
    assert not [patient for patient in Cohort.open(folder / "cohort").patients if patient in text]


def test_each_patient_is_predicted_by_the_fold_that_had_not_seen_them(finished):
    run = finished[0] / "runs" / "train"
    splits = read_json(run / "splits.json")
    for row in table(run / "scores.csv"):
        fold = splits["folds"][int(row["fold"])]
        assert row["patient_id"] in fold["test"]
        assert row["patient_id"] not in fold["train"] + fold["val"]


def test_prediction_is_the_best_checkpoint_on_the_images_own_grid(finished):
    """Oracle: the checkpoint, loaded and applied frame by frame without our data module."""
    import torch
    from monai.networks.nets import UNet

    folder, _ = finished
    run, cohort = folder / "runs" / "train", Cohort.open(folder / "cohort")
    patient = read_json(run / "splits.json")["folds"][1]["test"][0]
    case = cohort.cases_of(patient)[0]
    network = UNet(2, 1, 2, channels=[4, 8], strides=[2], num_res_units=2)
    weights = torch.load(run / "fold_1" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    network.load_state_dict({key.removeprefix("network."): value for key, value in weights.items() if "network" in key})
    image = case.read_image().array
    low, high = np.percentile(image, [1, 99])
    scaled = torch.from_numpy((image - low) / (high - low)).float()
    with torch.no_grad():
        probability = torch.stack([network.eval()(frame[None, None]).softmax(1)[0, 1] for frame in scaled]).numpy()
    written = np.asarray(nib.load(run / "probabilities" / f"{case.case_id}.nii.gz").dataobj).transpose(2, 1, 0)
    mask = np.asarray(nib.load(run / "predictions" / f"{case.case_id}.nii.gz").dataobj).transpose(2, 1, 0)
    np.testing.assert_allclose(written, probability, atol=1e-4)
    assert (mask == (written >= 0.5)).all()


def test_finished_run_answers_without_training_again(finished, monkeypatch, capfd):
    folder, said = finished
    best = folder / "runs/train/fold_0/checkpoints/best.ckpt"
    before, page = best.stat().st_mtime_ns, (folder / "runs/train/report.html").read_bytes()
    assert train(folder, monkeypatch, "prediction.probabilities=true") == 0
    assert best.stat().st_mtime_ns == before
    assert capfd.readouterr().out.splitlines()[-4:] == said.splitlines()[-4:]
    assert (folder / "runs/train/report.html").read_bytes() == page


def test_evaluate_writes_the_same_scores_and_report_again(finished, monkeypatch, capfd):
    folder, _ = finished
    run = folder / "runs" / "train"
    names = ("scores.csv", "baselines.csv", "summary.json", "report.html")
    before = {name: (run / name).read_bytes() for name in names}
    for name in names:
        (run / name).unlink()
    assert open_door("evaluate", "run=runs/train", folder=folder, monkeypatch=monkeypatch) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "runs/train/report.html"
    assert {name: (run / name).read_bytes() for name in names} == before


def test_evaluate_says_which_predictions_are_missing(finished, monkeypatch, capfd):
    folder, _ = finished
    path = folder / "runs/train/predictions/P03_rest.nii.gz"
    kept = path.read_bytes()
    path.unlink()
    try:
        assert open_door("evaluate", "run=runs/train", folder=folder, monkeypatch=monkeypatch) == 2
    finally:
        path.write_bytes(kept)
    assert re.search(r"lacks the predictions of 1 cases:\s+P03_rest", capfd.readouterr().err)


def test_evaluate_of_no_run(tmp_path, monkeypatch, capfd):
    assert open_door("evaluate", "run=nowhere", folder=tmp_path, monkeypatch=monkeypatch) == 2
    assert "so it is no run" in capfd.readouterr().err


# --- going on ---


def test_same_command_twice_gives_the_same_numbers(folder, monkeypatch):
    assert train(folder, monkeypatch, "name=first") == 0
    assert train(folder, monkeypatch, "name=second") == 0
    assert numbers(folder / "runs" / "first") == numbers(folder / "runs" / "second")


def test_another_seed_gives_other_numbers(folder, monkeypatch):
    assert train(folder, monkeypatch, "name=first") == 0
    assert train(folder, monkeypatch, "name=second", "seed=5") == 0
    assert numbers(folder / "runs" / "first") != numbers(folder / "runs" / "second")


def test_folds_run_one_by_one_make_the_same_run(folder, monkeypatch, capfd):
    assert train(folder, monkeypatch, "name=whole") == 0
    for fold in (2, 0):
        assert train(folder, monkeypatch, "name=parts", f"split.fold={fold}") == 0
        assert not (folder / "runs" / "parts" / "report.html").exists()
    assert "Folds still to be run in runs/parts: 1" in capfd.readouterr().out
    assert train(folder, monkeypatch, "name=parts", "split.fold=1") == 0
    assert numbers(folder / "runs" / "whole") == numbers(folder / "runs" / "parts")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_run_goes_on_and_ends_with_the_same_numbers(folder, monkeypatch, sent, capfd):
    words = [*FAST, "trainer.max_epochs=6", "name=stopped"]
    process = start_door("train", *words, folder=folder)
    metrics = folder / "runs/stopped/fold_1/metrics.csv"
    deadline = time.monotonic() + 240
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > 2):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, sent)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130), said
    if sent == signal.SIGINT:
        assert "give the same command again and it goes on from there" in said
        assert "Traceback" not in said
    assert not (folder / "runs/stopped/report.html").exists()
    assert train(folder, monkeypatch, "trainer.max_epochs=6", "name=stopped") == 0
    assert train(folder, monkeypatch, "trainer.max_epochs=6", "name=whole") == 0
    assert numbers(folder / "runs" / "stopped") == numbers(folder / "runs" / "whole")


def started_and_killed(folder, words, epochs):
    """Start a training and kill it when fold 0 has so many epochs behind it."""
    process = start_door("train", *words, folder=folder)
    metrics = folder / "runs/stopped/fold_0/metrics.csv"
    deadline = time.monotonic() + 240
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) > epochs):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.mark.slow
def test_moved_run_goes_on_with_its_best_checkpoint(folder, monkeypatch):
    words = [*TINY[:1], "model=unet_small", "trainer.max_epochs=12", *COHORT, "split=holdout", "name=stopped"]
    started_and_killed(folder, words, 5)
    (folder / "elsewhere").mkdir()
    (folder / "cohort").rename(folder / "elsewhere" / "cohort")
    (folder / "runs").rename(folder / "elsewhere" / "runs")
    assert open_door("train", *words, folder=folder / "elsewhere", monkeypatch=monkeypatch) == 0
    write_tiny_cohort(folder / "cohort", 6)
    whole = [word.replace("stopped", "whole") for word in words]
    assert open_door("train", *whole, folder=folder, monkeypatch=monkeypatch) == 0
    assert numbers(folder / "elsewhere/runs/stopped") == numbers(folder / "runs/whole")


def test_fold_that_stopped_early_stays_stopped(folder, monkeypatch):
    words = [*TINY[:1], "model=unet_small", "trainer.max_epochs=30", *COHORT, "split=holdout"]
    words += ["trainer.callbacks.early_stopping.patience=2", "trainer.callbacks.early_stopping.min_delta=1"]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0
    run = folder / "runs" / "train"
    before = numbers(run)
    assert len(before[0][0]) == 3, "one epoch, and two without the improvement asked for"
    (run / "fold_0" / "fold.json").unlink()  # as if killed while predicting
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0
    assert numbers(run) == before


def test_newest_epoch_is_what_a_run_goes_on_from(finished):
    import torch

    folder = finished[0] / "runs/train/fold_0"
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == int(table(folder / "metrics.csv")[-1]["epoch"])


def test_partial_report_is_not_passed_off_as_the_whole(folder, monkeypatch, capfd):
    assert train(folder, monkeypatch, "split.fold=0") == 0
    assert open_door("evaluate", "run=runs/train", folder=folder, monkeypatch=monkeypatch) == 0
    assert "1 of 3 folds" in capfd.readouterr().out
    assert train(folder, monkeypatch) == 0
    assert read_json(folder / "runs/train/summary.json")["complete"]
    assert "6 patients" in capfd.readouterr().out


def test_evaluate_before_any_fold_is_done(folder, monkeypatch, capfd):
    assert train(folder, monkeypatch, "split.fold=0") == 0
    (folder / "runs/train/fold_0/fold.json").unlink()
    assert open_door("evaluate", "run=runs/train", folder=folder, monkeypatch=monkeypatch) == 2
    assert "no fold of runs/train is done yet" in capfd.readouterr().err


# --- what is refused ---


def refused(folder, monkeypatch, capfd, *words):
    status = train(folder, monkeypatch, *words)
    said = capfd.readouterr().err
    assert status == 2, said
    assert "Traceback" not in said
    return said


def test_fewer_patients_than_folds(folder, monkeypatch, capfd):
    said = refused(folder, monkeypatch, capfd, "split.num_folds=9")
    assert "6 patients cannot make 9 folds" in said
    assert "split=holdout" in said


def test_reader_that_nobody_is(folder, monkeypatch, capfd):
    said = refused(folder, monkeypatch, capfd, "data.reader=thruth")
    assert "data.reader=thruth" in said
    assert "did you mean 'truth'?" in said


def test_reader_that_a_case_lacks(folder, monkeypatch, capfd):
    rows = read_rows(folder / "cohort")
    rows[2]["label_truth"] = ""
    write_rows(folder / "cohort", rows)
    said = refused(folder, monkeypatch, capfd)
    assert "1 of 6 cases cannot be used" in said
    assert "data.exclude=" in said


def test_missing_cohort_has_two_remedies(folder, monkeypatch, capfd):
    said = refused(folder, monkeypatch, capfd, "data.root=nowhere")
    assert "nowhere" in said
    assert "data=phantom" in said


def test_fold_that_does_not_exist(folder, monkeypatch, capfd):
    assert "there are folds 0 to 2" in refused(folder, monkeypatch, capfd, "split.fold=3")


def test_leak_stops_the_run(folder, monkeypatch, capfd):
    cohort = Cohort.open(folder / "cohort")
    volume = cohort.cases[0].read_image()
    write_image(cohort.cases[1].image, volume.array, volume.affine)
    said = refused(folder, monkeypatch, capfd)
    assert cohort.cases[0].case_id in said
    assert cohort.cases[1].case_id in said
    assert not (folder / "runs/train/fold_0").exists()


def test_changed_cohort_is_refused_by_the_frozen_split(folder, monkeypatch, capfd):
    assert train(folder, monkeypatch, "split.fold=0") == 0
    cohort = Cohort.open(folder / "cohort")
    volume = cohort.cases[0].read_image()
    write_image(cohort.cases[0].image, volume.array + 1, volume.affine)
    assert "was drawn on a cohort with fingerprint" in refused(folder, monkeypatch, capfd)


def test_other_recipe_under_the_same_name(folder, monkeypatch, capfd):
    assert train(folder, monkeypatch, "split.fold=0") == 0
    said = refused(folder, monkeypatch, capfd, "optimizer.lr=0.5")
    assert "optimizer.lr was 0.003, is now 0.5" in said


def test_loss_that_explodes_names_the_cases(folder, monkeypatch, capfd):
    said = refused(folder, monkeypatch, capfd, "optimizer=sgd", "optimizer.lr=1e30", "loss=cross_entropy")
    assert re.search(r"the loss is (nan|inf) in epoch 0, batch 1, which holds cases P0", said)
    assert "data.exclude" in said


def test_place_that_cannot_be_written_to(folder, monkeypatch, capfd):
    (folder / "file").write_text("")
    assert "cannot be written" in refused(folder, monkeypatch, capfd, "runs_dir=file")


@pytest.mark.parametrize("blocks", [4, 60], ids=["no room for the splits", "no room for a checkpoint"])
def test_full_disk_stops_with_a_message_and_the_run_goes_on_when_there_is_room(folder, monkeypatch, blocks):
    """The kernel refuses larger files: blocks of 1024 bytes, and a network whose checkpoint needs more."""
    words = [*TINY[:2], "model=unet_small", *COHORT, "split.num_folds=3", "name=full"]
    limited = f"ulimit -f {blocks}; exec {sys.executable} -m mpi_unet.train {' '.join(words)}"
    answer = subprocess.run(
        ["bash", "-c", limited],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 2, answer.stderr
    assert "cannot be written: File too large" in answer.stderr
    assert "free some space" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0


def test_images_divided_without_permission_and_with_it(folder, monkeypatch, capfd):
    assert "split.allow_leakage=true" in refused(folder, monkeypatch, capfd, "split.unit=image")
    words = [*TINY, *COHORT, "split=holdout", "split.unit=image", "split.allow_leakage=true"]
    assert open_door("train", *words, folder=folder, monkeypatch=monkeypatch) == 0
    summary = read_json(folder / "runs" / "train" / "summary.json")
    assert summary["design"]["leakage_allowed"]
    assert "hd95_mm" not in summary["metrics"], "scattered frames have no surface"
    page = (folder / "runs" / "train" / "report.html").read_text()
    body = page[page.index("<body") :]
    assert re.search(r"both sides", body[:1500], re.IGNORECASE), "the first line of the report says it"


def test_images_divided_into_folds_score_each_case_once(folder, monkeypatch):
    words = ("split.unit=image", "split.allow_leakage=true")
    assert train(folder, monkeypatch, *words) == 0
    run = folder / "runs" / "train"
    rows = [row for row in table(run / "scores.csv") if row["metric"] == "dice"]
    assert len(rows) == len({row["case_id"] for row in rows}) == 6
    assert read_json(run / "summary.json")["design"]["n_frames"] == 24
    frames = [unit for fold in read_json(run / "splits.json")["folds"] for unit in fold["test"]]
    assert len(frames) == len(set(frames)) == 24
    assert read_json(run / "summary.json")["metrics"]["dice"]["n"] == 6
