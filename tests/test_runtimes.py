"""Same probabilities, whatever runs the networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cohort_builders import write_tiny_cohort

from mpi_unet.errors import ConfigError, RunError
from mpi_unet.inference import predict, runtimes
from mpi_unet.inference.model import open_model
from mpi_unet.inference.options import Options
from mpi_unet.inference.runtimes import LARGEST_ERROR, Runner

pytestmark = pytest.mark.long  # minutes: every test trains, exports or draws many pages

EXPORTED = ["onnxruntime", "openvino"]


@pytest.fixture
def run(little_run, tmp_path):
    """The run in a folder of its own, for exports stay in it."""
    import shutil

    return shutil.copytree(little_run / "runs/train", tmp_path / "train")


def asked(runtime):
    for package in ("onnx", "onnxscript", runtime):
        pytest.importorskip(package, reason=f"{package} is an extra: pip install 'mpi-unet[onnx,openvino]'")


@pytest.mark.parametrize("runtime", EXPORTED)
def test_exports_answer_as_torch_does_for_any_number_of_frames_of_any_size(run, runtime):
    asked(runtime)
    model = open_model(run)
    own, other = Runner(model), Runner(model, runtime)
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 32, 32), (7, 1, 32, 32), (3, 1, 35, 40)):
        batch = torch.from_numpy(rng.random(shape, dtype=np.float32))
        for networks in ((0, 1, 2), (1,)):
            expected = own(batch, networks)
            assert expected.shape == (shape[0], *shape[2:])
            assert float((other(batch, networks) - expected).abs().max()) < LARGEST_ERROR
    files = {path.name: path.stat().st_mtime_ns for path in (run / "exported").glob("*.onnx")}
    assert sorted(name[:12] for name in files) == sorted(
        f"fold_{fold}_{size}" for fold in range(3) for size in ("32x32", "36x40")
    )
    blank_first = torch.zeros(6, 1, 32, 32)
    blank_first[5] = batch[0, :, :32, :32]
    Runner(open_model(run), runtime)(blank_first, (0, 1, 2))  # rounding moves probabilities of blank frames
    Runner(open_model(run), runtime)(blank_first[:5], (0, 1, 2))
    assert files == {path.name: path.stat().st_mtime_ns for path in (run / "exported").glob("*.onnx")}


@pytest.mark.parametrize("runtime", EXPORTED)
def test_an_export_that_answers_differently_is_never_used(run, runtime, monkeypatch):
    asked(runtime)
    model = open_model(run)
    batch = torch.rand(2, 1, 32, 32)
    Runner(model, runtime)(batch, (0,))
    with torch.no_grad():
        for parameter in model.networks[0].parameters():
            parameter.add_(0.05)
    with pytest.raises(
        RunError, match=r"answers real frames differently .* expected 0\.0001 at most; remove .*exported"
    ):
        Runner(model, runtime)(batch, (0,))


@pytest.mark.parametrize("runtime", EXPORTED)
def test_a_runtime_that_is_not_installed_says_how_to_get_it(run, runtime, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"runtime={runtime} needs .*: pip install 'mpi-unet\[\w+\]'"):
        Runner(open_model(run), runtime)


def test_a_device_that_is_not_there_is_refused(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunError, match="device=cuda: torch sees no GPU here"):
        Runner(open_model(run), device="cuda")


def test_masks_are_the_same_whatever_runs_the_networks(run, tmp_path):
    for runtime in EXPORTED:
        asked(runtime)
    write_tiny_cohort(tmp_path / "new", 3, seed=5)
    voxels = {}
    for runtime in ("torch", *EXPORTED):
        options = Options(measurements="volume", component="none", runtime=runtime)
        made = predict(run, tmp_path / "new", tmp_path / runtime, options=options)
        voxels[runtime] = [path.read_bytes() for path in sorted((made.output / "masks").iterdir())]
    assert voxels["onnxruntime"] == voxels["torch"]
    assert voxels["openvino"] == voxels["torch"]


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # of torch, in torch
@pytest.mark.slow
def test_compiled_torch_answers_as_torch_does(run):
    model = open_model(run)
    batch = torch.rand(5, 1, 32, 32)
    answer = Runner(model, "compile")(batch, (0, 2))
    assert float((answer - Runner(model)(batch, (0, 2))).abs().max()) < runtimes.LARGEST_ERROR
