"""The door export: what it refuses at once; and a model as a graph without Python. Bundles have tests of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from doors import open_door
from torch import Tensor, nn

from mpi_unet.errors import ConfigError, RunError
from mpi_unet.exporting.onnx import write_onnx
from mpi_unet.exporting.program import write_program
from mpi_unet.files import read_json
from mpi_unet.inference.model import TrainedModel, open_model


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["format=bundles", "run=r"],
            "bundle | onnx | datalist | itksnap | nnunet | slicer; did you mean 'bundle'",
        ),
        (["format=bundle"], "run must be given for format=bundle: add run=<run>"),
        (["format=slicer"], "cohort must be given: add cohort=<cohort>, or run=<run>"),
        (["format=onnx", "run=r", "reader=A"], "reader=A means nothing for format=onnx; it is for datalist and nnunet"),
        (["format=nnunet", "run=r", "dataset_id=x"], "dataset_id is 'x', expected int"),
        (["format=onnx", "component=largest"], "several keys are wrong"),
        (["format=bundle", "run=there"], "run=there is no folder; give the folder that train printed"),
    ],
)
def test_what_is_refused_at_once(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert open_door("export", *words, "output=out", folder=tmp_path, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_door_writes_a_bundle_and_says_where_its_card_is(little_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "LICENSE.txt").write_text("Do as you like.\n")
    words = [f"run={little_run}/runs/train", "format=bundle", "output=bundle", "license=LICENSE.txt"]
    assert open_door("export", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "MONAI ran it once and gave the masks of predict; model card: bundle/docs/README.md",
        "bundle",
    ]
    assert (tmp_path / "bundle/LICENSE").read_text() == "Do as you like.\n"


def test_onnx_gives_the_mean_of_the_networks_for_images_of_other_sizes(little_run, tmp_path):
    """Oracle: the networks themselves, and the file run by ONNX Runtime without our code."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'mpi-unet[onnx]'")
    made = write_onnx(little_run / "runs/train", tmp_path / "onnx")
    facts = read_json(made / "model.json")
    assert facts["input"]["sides"] == "multiples of 2, 4 or more"
    assert facts["compared"]["largest_error"] < 1e-5
    session = onnxruntime.InferenceSession(str(made / "model.onnx"), providers=["CPUExecutionProvider"])
    networks = open_model(little_run / "runs/train").networks
    for shape in ((1, 1, 32, 32), (5, 1, 20, 44)):
        image = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            wanted = sum(network(image).softmax(1) for network in networks) / len(networks)
        [answer] = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(answer, wanted, atol=1e-6)
    card = (made / "README.md").read_text()
    assert f"{facts['compared']['number']} inputs were compared with torch: the largest difference" in card
    assert "`model.json` says what has to be done before and after" in card
    assert json.loads((made / "model.json").read_text())["before"]["intensity"]["upper"] == 99


class Picky(nn.Module):
    """Takes frames of one size only."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.layer = nn.Conv2d(1, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-1] != self.side:
            raise ValueError("another size")
        return self.layer(image)


class Opaque(nn.Module):
    """Does what no exporter can follow."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.from_numpy(np.concatenate([image.numpy()] * 2, axis=1))


class Forgetful(nn.Module):
    """Answers otherwise once it is exported."""

    def forward(self, image: Tensor) -> Tensor:
        sign = -1.0 if torch.compiler.is_exporting() else 1.0
        return torch.cat([image, sign * 3 * image], dim=1)


def model_with(little_run: Path, network: nn.Module) -> TrainedModel:
    from dataclasses import replace

    return replace(open_model(little_run / "runs/train"), networks=(network.eval(),), folds=(0,))


def test_a_network_that_takes_one_size_only_is_exported_for_that_size(little_run, tmp_path):
    graph = write_program(model_with(little_run, Picky(32)), tmp_path / "program.pt2")
    assert graph.sides == "32 x 32"
    image = torch.rand(4, 1, 32, 32)
    program = torch.export.load(tmp_path / "program.pt2").module()
    assert program(image).shape == (4, 2, 32, 32)


def test_networks_that_cannot_be_exported_or_answer_otherwise(little_run, tmp_path):
    with pytest.raises(RunError, match=r"(?s)cannot be exported by torch.export: free sides: .*fixed sides: .*use the"):
        write_program(model_with(little_run, Opaque()), tmp_path / "program.pt2")
    assert not (tmp_path / "program.pt2").exists()
    with pytest.raises(RunError, match=r"torch.export answers differently from torch: a probability is off by 0\.\d+"):
        write_program(model_with(little_run, Forgetful()), tmp_path / "program.pt2")


def test_onnx_without_its_packages(little_run, tmp_path, monkeypatch):
    monkeypatch.setattr("mpi_unet.exporting.packages.find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=r"format=onnx needs onnx, onnxscript, onnxruntime: pip install 'mpi-unet\[o"):
        write_onnx(little_run / "runs/train", tmp_path / "onnx")
