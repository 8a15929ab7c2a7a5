"""The networks of a run, run by torch, compiled torch, ONNX Runtime or OpenVINO: same probabilities, other speed.

For the last two each network is exported once to ONNX, for the frame size at hand and any number of frames, and kept in
``<run>/exported``. Before an export speaks about a study, it answers the first real frames beside torch; if a
probability differs by more than ``LARGEST_ERROR``, that is an error. Blank frames are no measure of that.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpi_unet.errors import ConfigError, RunError
from mpi_unet.files import waiting_lock, whole_file
from mpi_unet.inference.model import TrainedModel, as_device

__all__ = ["LARGEST_ERROR", "Runner", "onnx_program"]

LARGEST_ERROR = 1e-4
"""Largest difference of a probability from torch; measured differences are about 1e-6."""

NUM_CHECKED = 4
"""Frames of the first batch that are compared: all of them would double the time to the first result."""

LEAST_CONTRAST = 1e-3
"""Standard deviation below which a frame is blank. Normalization inside a network divides what is left of a blank frame
by almost nothing, so that rounding alone moves its probabilities by 0.02: it says nothing about an export."""

OPSET = 18
"""Of ONNX: the first that the exporter of torch writes, and old enough for every runtime."""

Network = Callable[[Tensor], Tensor]
"""Prepared frames (b, 1, ...) to the probability of LV (b, ...)."""


class Probability(nn.Module):
    """A network with the softmax behind it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Probability of LV (b, ...) of frames (b, 1, ...)."""
        return torch.softmax(self.network(image).float(), dim=1)[:, 1]


class Runner:
    """Runs the networks of a model.

    Args:
        model: What a run has learnt.
        runtime: ``torch``, ``compile``, ``onnxruntime`` or ``openvino``.
        device: ``auto``, ``cpu`` or ``cuda``; the last two runtimes run on the CPU.

    Raises:
        ConfigError: The runtime is not installed.
    """

    def __init__(self, model: TrainedModel, runtime: str = "torch", device: str = "auto") -> None:
        self.model, self.runtime = model, runtime
        self.device = torch.device("cpu") if runtime in ("onnxruntime", "openvino") else as_device(device)
        self._torch = tuple(Probability(network).eval().to(self.device) for network in model.networks)
        self._made: dict[tuple[int, tuple[int, ...]], Network] = {}
        _check_installed(runtime)

    @torch.inference_mode()
    def __call__(self, batch: Tensor, networks: Sequence[int]) -> Tensor:
        """Mean probability of LV (b, ...) over some networks.

        Args:
            batch: Prepared frames (b, 1, y, x) or volumes (b, 1, z, y, x) of one size.
            networks: Their positions in the model.

        Raises:
            RunError: An exported network answers differently from torch.
        """
        size = batch.shape[2:]
        padded = self.model.padded(batch.to(self.device))
        total: Tensor | None = None
        for position in networks:
            answer = self._network(position, padded)(padded)
            total = answer if total is None else total + answer
        if total is None:
            raise ValueError("no network was asked")
        mean = total / len(networks)
        for axis, length in enumerate(size, start=1):
            mean = mean.narrow(axis, 0, length)
        return mean.cpu()

    def _network(self, position: int, batch: Tensor) -> Network:
        if self.runtime == "torch":
            return self._torch[position]
        key = (position, tuple(batch.shape[2:]))
        if key not in self._made:
            made = _MAKERS[self.runtime](self, position, batch)
            _check_equal(self.model, position, made, self._torch[position], _telling(batch), self.runtime)
            self._made[key] = made
        return self._made[key]


def onnx_program(network: nn.Module, example: Tensor, dynamic_shapes: Any) -> Any:
    """A network as an ONNX program, with the input ``image`` and the output ``probabilities``.

    Args:
        network: In evaluation mode, on the CPU.
        example: An input.
        dynamic_shapes: Which axes of it are free, as ``torch.export`` takes it.

    Raises:
        RunError: Nothing came out.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RunError("torch exported nothing; use runtime=torch")
    return program


# --- Private helpers --------------------------------------------------------------------------------------------------


def _compiled(runner: Runner, position: int, batch: Tensor) -> Network:
    return torch.compile(runner._torch[position], dynamic=True)


def _onnxruntime(runner: Runner, position: int, batch: Tensor) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    path = _exported(runner.model, position, batch)
    session = onnxruntime.InferenceSession(path.as_posix(), options, providers=["CPUExecutionProvider"])
    return lambda frames: torch.from_numpy(session.run(None, {"image": frames.numpy()})[0])[:, 1]


def _openvino(runner: Runner, position: int, batch: Tensor) -> Network:
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time on all threads; batches are large already
        "INFERENCE_PRECISION_HINT": "f32",  # bf16 where the CPU has it would cost 0.01 in the probabilities
    }
    path = _exported(runner.model, position, batch)
    compiled = openvino.Core().compile_model(path.as_posix(), "CPU", settings)
    return lambda frames: torch.from_numpy(np.array(compiled([frames.numpy()])[0][:, 1]))


_MAKERS: dict[str, Callable[[Runner, int, Tensor], Network]] = {
    "compile": _compiled,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def _exported(model: TrainedModel, position: int, batch: Tensor) -> Path:
    """The ONNX file of one network for one frame size; made when missing, by one process at a time."""
    sides = "x".join(map(str, batch.shape[2:]))
    folder = model.folder / "exported"
    path = folder / f"fold_{model.folds[position]}_{sides}_{model.digests[position][:12]}.onnx"
    if path.is_file():
        return path
    with waiting_lock(folder / ".lock"):
        if not path.is_file():
            with whole_file(path) as temporary:
                _export(model.networks[position].cpu(), batch, temporary)
    return path


def _export(network: nn.Module, batch: Tensor, path: Path) -> None:
    """Write a network with the softmax over both classes behind it; no function of ours is traced."""
    frames = torch.export.Dim("frames", min=1)
    example = torch.zeros((2, *batch.shape[1:]))  # one frame would be taken for a constant
    program = onnx_program(nn.Sequential(network, nn.Softmax(dim=1)).eval(), example, ({0: frames},))
    program.save(os.fspath(path), external_data=False)


def _telling(batch: Tensor) -> Tensor:
    """The frames of a batch with most contrast; noise where all are blank."""
    contrast = batch.flatten(1).std(dim=1)
    order = contrast.argsort(descending=True)[:NUM_CHECKED]
    chosen = batch[order[contrast[order] > LEAST_CONTRAST]]
    if len(chosen):
        return chosen
    return torch.rand((NUM_CHECKED, *batch.shape[1:]), generator=torch.Generator().manual_seed(0)).to(batch.device)


def _check_equal(model: TrainedModel, position: int, made: Network, own: Network, batch: Tensor, runtime: str) -> None:
    error = float((made(batch) - own(batch)).abs().max())
    if not error <= LARGEST_ERROR:
        raise RunError(
            f"runtime={runtime} answers real frames differently from torch in fold {model.folds[position]}: a "
            f"probability is off by {error:.2g}, expected {LARGEST_ERROR:g} at most; remove "
            f"{model.folder / 'exported'} to export anew, or use runtime=torch"
        )


def _check_installed(runtime: str) -> None:
    from importlib.util import find_spec

    needs = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino", "onnx", "onnxscript")}
    missing = [package for package in needs.get(runtime, ()) if find_spec(package) is None]
    if missing:
        extra = "onnx" if runtime == "onnxruntime" else "openvino"
        raise ConfigError(
            f"runtime={runtime} needs {', '.join(missing)}: pip install 'mpi-unet[{extra}]', or use runtime=torch"
        )
