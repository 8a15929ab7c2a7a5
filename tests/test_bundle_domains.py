"""Bundles of networks of volumes, and of projections: MONAI gives the masks that predict gives.

The MONAI of these tests is the one beside mpi_unet; ``test_bundle.py`` runs one where mpi_unet cannot be imported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import read_rows, write_rows, write_tiny_cohort
from doors import TINY, start_door

from mpi_unet.cohort.nifti import read_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.exporting.bundle import write_bundle
from mpi_unet.files import read_json
from mpi_unet.inference import predict
from mpi_unet.inference.options import Options

VOLUMES = [
    "model=unet_3d",
    "model.channels=[4,8]",
    "model.strides=[2]",
    "model.num_res_units=1",
    "transforms=volumes",
    "loader.batch_size=2",
]
ALONE = """
import sys
sys.modules["mpi_unet"] = None
from monai.bundle import run, verify_net_in_out
verify_net_in_out("network_def", meta_file="configs/metadata.json", config_file="configs/inference.json", device="cpu")
run(config_file="configs/inference.json", bundle_root=".", dataset_dir=sys.argv[1], output_dir=sys.argv[2])
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("domain", "words", "num_frames", "dims"),
    [("short_axis", VOLUMES, 7, 3), ("projection", ["transforms=projections"], 5, 2)],
    ids=["volumes", "projections"],
)
def test_monai_gives_the_masks_of_predict(tmp_path: Path, domain: str, words: list[str], num_frames: int, dims: int):
    write_tiny_cohort(tmp_path / "cohort", 6, domain=domain)
    given = ["data=cohort", "data.root=cohort", "data.reader=truth", "split.num_folds=2"]
    process = start_door("train", *TINY, *given, *words, folder=tmp_path)
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    bundle = write_bundle(tmp_path / "runs/train", tmp_path / "bundle")
    tensor = read_json(bundle / "configs/metadata.json")["network_data_format"]["inputs"]["image"]
    assert len(tensor["spatial_shape"]) == dims
    new = write_tiny_cohort(tmp_path / "new", 3, domain=domain, size=31, num_frames=num_frames, seed=1)
    write_rows(new, [row | {"patient_id": row["patient_id"].replace("P", "N")} for row in read_rows(new)])
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(new / "images"), str(tmp_path / "masks")]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    options = Options(measurements="volume", component="none", allow_other_domain=True)
    for run in (tmp_path / "runs/train", bundle):
        made = predict(run, new, tmp_path / f"out_{run.name}", options=options, pages=False)
        for case in Cohort.open(new).cases:
            theirs, own = (read_mask(folder / "masks" / f"{case.case_id}.nii.gz") for folder in (tmp_path, made.output))
            np.testing.assert_array_equal(theirs, own)
            assert 0 < own.sum() < own.size
