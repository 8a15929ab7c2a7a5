"""All networks of a model as one graph without Python: a program of ``torch.export``, or ONNX.

The graph takes prepared frames (b, 1, y, x), or volumes (b, 1, z, y, x), whose sides are multiples of the total stride,
and gives the mean probability of background and LV (b, 2, ...). Number and sides are free where the network allows it,
else the sides are those of the frames of training. Every graph is compared with torch before it is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpi_unet.errors import RunError
from mpi_unet.inference.model import TrainedModel
from mpi_unet.inference.runtimes import LARGEST_ERROR, onnx_program

__all__ = ["Ensemble", "Graph", "write_onnx_graph", "write_program"]

Compiled = Callable[[Tensor], Tensor]


class Ensemble(nn.Module):
    """The mean of what several networks say."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Mean probability of each class (b, 2, ...) of images (b, 1, ...)."""
        return torch.stack([torch.softmax(network(image), dim=1) for network in self.networks]).mean(dim=0)


@dataclass(frozen=True)
class Graph:
    """A graph that was written and compared.

    Attributes:
        file: Where it lies.
        sides: What its inputs must measure, in words.
        largest_error: Largest difference of a probability from torch, over all inputs that were compared.
        num_compared: How many frames or volumes that were.
    """

    file: Path
    sides: str
    largest_error: float
    num_compared: int

    @property
    def compared(self) -> str:
        """How it was compared, in words."""
        off = f"the largest difference of a probability was {self.largest_error:.1e}"
        return f"{self.num_compared} inputs were compared with torch: {off if self.largest_error else 'none differed'}"


def write_program(model: TrainedModel, path: Path) -> Graph:
    """Write a program of ``torch.export``, for ``torch.export.load(path).module()``.

    Raises:
        RunError: The network cannot be exported, or the program answers differently.
    """

    def made(ensemble: Ensemble, example: Tensor, dynamic: Any) -> Compiled:
        program = torch.export.export(ensemble, (example,), dynamic_shapes=dynamic)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.export.save(program, path)
        return torch.export.load(path).module()

    return _written(model, path, made, "torch.export")


def write_onnx_graph(model: TrainedModel, path: Path) -> Graph:
    """Write an ONNX file with the input ``image`` and the output ``probabilities``.

    Raises:
        RunError: The network cannot be exported, or ONNX Runtime answers differently.
    """

    def made(ensemble: Ensemble, example: Tensor, dynamic: Any) -> Compiled:
        import onnxruntime

        path.parent.mkdir(parents=True, exist_ok=True)
        onnx_program(ensemble, example, dynamic).save(path.as_posix(), external_data=False)
        session = onnxruntime.InferenceSession(path.as_posix(), providers=["CPUExecutionProvider"])
        return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    return _written(model, path, made, "ONNX")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _written(model: TrainedModel, path: Path, made: Callable[..., Compiled], what: str) -> Graph:
    """Export with free sides; where the network does not allow it, with those of training."""
    ensemble = Ensemble([network.cpu() for network in model.networks]).eval()
    fixed = _padded_sides(model)
    problems = []
    for is_free in (True, False):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # of the exporters, about themselves
                compiled = made(ensemble, torch.zeros((2, 1, *fixed)), _dynamic(model, is_free=is_free))
            inputs = _inputs(model, fixed, is_free=is_free)
            with torch.no_grad():
                error = max(float((compiled(image) - ensemble(image)).abs().max()) for image in inputs)
        except Exception as failure:  # exporters raise whatever they like about networks that they cannot follow
            problems.append(f"{'free' if is_free else 'fixed'} sides: {type(failure).__name__}: {failure}")
            continue
        if not error <= LARGEST_ERROR:
            raise RunError(
                f"{what} answers differently from torch: a probability is off by {error:.2g}, expected "
                f"{LARGEST_ERROR:g} at most; use the weights instead"
            )
        free = f"multiples of {model.divisor}, {2 * model.divisor} or more"
        sides = free if is_free else " x ".join(map(str, fixed))
        return Graph(path, sides, error, sum(len(image) for image in inputs))
    path.unlink(missing_ok=True)
    raise RunError(f"the network cannot be exported by {what}: {'; '.join(problems)[:500]}; use the weights instead")


def _padded_sides(model: TrainedModel) -> tuple[int, ...]:
    """Sides of the largest images of training, filled up as `predict` does it."""
    longest = [int(high) for _, high in model.domain.shape][3 - model.spatial_dims :]
    return tuple(max(2, -(-side // model.divisor)) * model.divisor for side in longest)


def _dynamic(model: TrainedModel, *, is_free: bool) -> Any:
    axes: dict[int, Any] = {0: torch.export.Dim("number", min=1)}
    if is_free:
        names = ("slices", "rows", "columns")[3 - model.spatial_dims :]
        axes |= {2 + axis: model.divisor * torch.export.Dim(name, min=2) for axis, name in enumerate(names)}
    return (axes,)


def _inputs(model: TrainedModel, fixed: tuple[int, ...], *, is_free: bool) -> list[Tensor]:
    """Inputs that were not the example: other numbers and, where they are free, other sides."""
    drawn = np.random.default_rng(0)
    shapes = [(3, 1, *fixed), (1, 1, *fixed)]
    if is_free:
        larger = tuple(side + model.divisor * (axis + 1) for axis, side in enumerate(fixed))
        shapes += [(2, 1, *larger), (1, 1, *(2 * model.divisor for _ in fixed))]
    return [torch.from_numpy(drawn.random(shape, dtype=np.float32)) for shape in shapes]
