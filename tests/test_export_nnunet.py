"""A data set through nnU-Net itself and its masks back: MPI_UNET_NNUNET_PYTHON is the python of its environment."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from doors import open_door

from mpi_unet.cohort.nifti import read_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.files import read_json

PYTHON = os.environ.get("MPI_UNET_NNUNET_PYTHON", "")
TRAINER = Path(__file__).parent / "benchmarks" / "nnunet_trainer.py"


@pytest.mark.long
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
    splits = read_json(dataset / "splits_final.json")
    for fold, split in enumerate(splits):
        nnunet(str(TRAINER), dataset.name, str(fold), "20", "2", str(tmp_path / f"{fold}.json"))
        made = sorted(Path(json.loads((tmp_path / f"{fold}.json").read_text())["masks"]).glob("*.nii.gz"))
        assert [path.name.removesuffix(".nii.gz") for path in made] == sorted(split["val"])
        for path in made:
            shutil.copy(path, masks)
    cohort = Cohort.open(little_run / "cohort")
    assert len(list(masks.iterdir())) == len(cohort.cases)
    words = [f"cohort={cohort.root}", "predictions=masks", "output=scored", "bootstrap.draws=1000"]
    assert open_door("evaluate", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0, capsys.readouterr().err
    with open(tmp_path / "scored/agreement_scores.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    for row in rows:
        mask, truth = read_mask(masks / f"{row['case_id']}.nii.gz"), cohort.case(row["case_id"]).read_mask("truth")
        assert float(row["value"]) == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    assert len(rows) == len(cohort.cases)
    assert np.isfinite([float(row["value"]) for row in rows]).all()
