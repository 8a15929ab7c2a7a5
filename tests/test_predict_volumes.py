"""Networks that see whole volumes, through the door predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cohort_builders import write_tiny_cohort
from doors import open_door
from monai.networks.nets import UNet
from predicting import rename_patients, table

from mpi_unet.cohort.nifti import read_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.inference import predict
from mpi_unet.inference.options import Options

NUM_FRAMES = 5
"""No multiple of the stride, so that volumes are padded."""

WORDS = ["model=unet_3d", "transforms=volumes", "loader.batch_size=2", "model.channels=[4,8]", "model.strides=[2]"]
GIVEN = ["trainer=cpu", "debug=one_batch", "split=holdout", "data=cohort", "data.root=cohort", "data.reader=truth"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of one fold with a 3-D network, and a cohort of new patients, one of them with many more slices."""
    root = tmp_path_factory.mktemp("volumes")
    write_tiny_cohort(root / "cohort", 4, num_frames=NUM_FRAMES, size=24)
    write_tiny_cohort(root / "new", 3, num_frames=NUM_FRAMES, size=24, seed=1)
    write_tiny_cohort(root / "tall", 2, num_frames=3 * NUM_FRAMES, size=24, seed=2)
    for name in ("new", "tall"):
        rename_patients(root / name, "N")
    with pytest.MonkeyPatch.context() as patch:
        assert open_door("train", *GIVEN, *WORDS, folder=root, monkeypatch=patch) == 0
    return root


def probability_of(folder, image):
    """Oracle: the checkpoint, loaded and applied to the padded volume without our code."""
    low, high = np.percentile(image, [1, 99])
    scaled = np.pad((image - low) / (high - low), [(0, 1), (0, 0), (0, 0)], mode="edge")
    network = UNet(3, 1, 2, channels=[4, 8], strides=[2], num_res_units=2).eval()
    weights = torch.load(folder / "runs/train/fold_0/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    network.load_state_dict({key.removeprefix("network."): value for key, value in weights.items()})
    with torch.no_grad():
        logits = network(torch.from_numpy(scaled).float()[None, None])
    return logits.softmax(1)[0, 1, :NUM_FRAMES].numpy()


@pytest.mark.parametrize("batch_size", [1, 128])
def test_masks_of_a_3d_network_are_those_of_its_checkpoint(folder, batch_size):
    options = Options(component="none", batch_size=batch_size, measurements="volume")
    made = predict(folder / "runs/train", folder / "new", folder / f"out{batch_size}", options=options, pages=False)
    assert [row["status"] for row in table(made.table)] == ["segmented"] * 3
    for case in Cohort.open(folder / "new").cases:
        probability = probability_of(folder, case.read_image().array)
        close = np.abs(probability - 0.5) < 1e-5
        mask = read_mask(made.output / "masks" / f"{case.case_id}.nii.gz")
        assert (mask == (probability >= 0.5))[~close].all()


def test_the_number_of_slices_counts_for_a_network_of_volumes(folder):
    made = predict(folder / "runs/train", folder / "tall", folder / "tall_out", pages=False)
    assert [row["status"] for row in table(made.table)] == ["refused"] * 2
    assert f"it has {3 * NUM_FRAMES} slices, training had {NUM_FRAMES}" in table(made.table)[0]["reason"]


def test_volumes_are_shifted_and_scaled_in_their_slices_only(folder):
    options = Options(shift_px=1, scale=0.1, measurements="volume", probabilities=True)
    made = predict(folder / "runs/train", folder / "new", folder / "moved", options=options, pages=False)
    assert [row["status"] for row in table(made.table)] == ["segmented"] * 3
