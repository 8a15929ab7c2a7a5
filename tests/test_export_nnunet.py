"""A data set through nnU-Net itself and its masks back: MPI_UNET_NNUNET_PYTHON is the python of its environment.

Oracle: the Dice of each held-out case that nnU-Net computes itself.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from doors import open_door

from mpi_unet.cohort.fold import Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.files import read_json

PYTHON = os.environ.get("MPI_UNET_NNUNET_PYTHON", "")
TRAINER = Path(__file__).parent / "benchmarks" / "nnunet_trainer.py"


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not PYTHON, reason="MPI_UNET_NNUNET_PYTHON is not set: pip install nnunetv2 in an environment")
def test_nnunet_accepts_the_data_set_learns_from_it_and_its_masks_are_scored(little_run, tmp_path, monkeypatch, capsys):
    words = [f"run={little_run}/runs/train", "format=nnunet", "output=raw"]
    assert open_door("export", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    (dataset,) = (tmp_path / "raw").iterdir()
    environment = {f"nnUNet_{name}": str(tmp_path / name) for name in ("raw", "preprocessed", "results")}
    environment |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "F", "OMP_NUM_THREADS": "1"}

    def nnunet(*command: str) -> str:
        program, *rest = command
        script = program if program.endswith(".py") else str(Path(PYTHON).parent / program)
        done = subprocess.run(
            [PYTHON, script, *rest],
            env=os.environ | environment | {"PYTHONPATH": "", "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
        return done.stdout

    said = nnunet("nnUNetv2_extract_fingerprint", "-d", "501", "--verify_dataset_integrity", "-np", "1")
    assert "verify_dataset_integrity Done" in said
    nnunet("nnUNetv2_plan_experiment", "-d", "501")
    nnunet("nnUNetv2_preprocess", "-d", "501", "-c", "2d", "-np", "1")
    shutil.copy(dataset / "splits_final.json", tmp_path / "preprocessed" / dataset.name)
    masks = tmp_path / "masks"
    masks.mkdir()
    theirs = {}
    for fold, split in enumerate(read_json(dataset / "splits_final.json")):
        nnunet(str(TRAINER), dataset.name, str(fold), "20", "2", str(tmp_path / f"{fold}.json"))
        validation = Path(read_json(tmp_path / f"{fold}.json")["masks"])
        made = sorted(validation.glob("*.nii.gz"))
        assert [path.name.removesuffix(".nii.gz") for path in made] == sorted(split["val"])
        for path in made:
            shutil.copy(path, masks)
        for case in read_json(validation / "summary.json")["metric_per_case"]:
            theirs[Path(case["prediction_file"]).name.removesuffix(".nii.gz")] = case["metrics"]["1"]["Dice"]
    cohort = Cohort.open(little_run / "cohort")
    assert len(list(masks.iterdir())) == len(cohort.cases)
    words = [f"cohort={cohort.root}", "predictions=masks", "readers=[truth]", "output=scored", "bootstrap.draws=1000"]
    assert open_door("evaluate", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0, capsys.readouterr().err
    with open(tmp_path / "scored/agreement_scores.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    assert {row["case_id"]: float(row["value"]) for row in rows} == pytest.approx(theirs, abs=1e-6)
    own = Split.read(little_run / "runs/train/splits.json", cohort.fingerprint("truth"), cohort)
    tested = [sorted(fold.test) for fold in own.folds]
    patients = {case.case_id: case.patient_id for case in cohort.cases}
    split = read_json(dataset / "splits_final.json")
    assert [sorted({patients[case] for case in fold["val"]}) for fold in split] == tested
