"""A run as one ONNX file, with a model card and what a program must do before and after it."""

from __future__ import annotations

from pathlib import Path

from mpi_unet import __version__
from mpi_unet.exporting.card import Section, model_card, write_card
from mpi_unet.exporting.facts import model_facts
from mpi_unet.exporting.packages import check_packages
from mpi_unet.exporting.program import write_onnx_graph
from mpi_unet.files import sha256, write_json
from mpi_unet.inference.model import open_model
from mpi_unet.sources.interchange import made_in_place

__all__ = ["write_onnx"]


def write_onnx(run: str | Path, output: str | Path) -> Path:
    """Write a run as ONNX: ``model.onnx``, ``model.json``, ``README.md`` and ``model_card.html``.

    The file holds all networks and their mean. What it does not hold is in ``model.json``: the deterministic transforms
    before it, the filling-up of sides, the threshold after it.

    Args:
        run: The folder that ``train`` left behind.
        output: Folder to make.

    Returns:
        The folder.

    Raises:
        ConfigError: A package is missing.
        CohortError: ``output`` holds something that this did not write.
        RunError: It is no finished run, the network cannot be exported, or ONNX Runtime answers differently.
    """
    check_packages("onnx")
    facts, model = model_facts(run), open_model(run)
    with made_in_place(output, "onnx") as part:
        graph = write_onnx_graph(model, part / "model.onnx")
        axes = "(number, 1, z, y, x)" if model.spatial_dims == 3 else "(number of frames, 1, y, x)"
        content = {
            "schema_version": "1.0.0",
            "mpi_unet": __version__,
            "name": model.name,
            "input": {"name": "image", "dtype": "float32", "axes": axes, "sides": graph.sides},
            "before": {name: dict(given) for name, given in facts.stored.deterministic.items() if given},
            "fill_up": {
                "multiple_of": model.divisor,
                "where": "at the end of each side",
                "how": "repeat the last value",
            },
            "output": {"name": "probabilities", "axes": "background and LV along axis 1"},
            "threshold": model.threshold,
            "domain": model.domain.domain,
            "label": model.domain.label,
            "spacing_mm_zyx": model.domain.spacing_mm,
            "compared": {"with": "torch", "number": graph.num_compared, "largest_error": graph.largest_error},
        }
        write_json(part / "model.json", content)
        use = Section(
            "How it is used",
            (
                f"Any ONNX runtime; input `image` {axes}, sides {graph.sides}; output `probabilities`, background and "
                "LV along axis 1. `model.json` says what has to be done before and after.",
                f"{graph.compared}.",
            ),
        )
        after = (
            f"Not in the file: sides are cut back to those of the image, and a voxel is LV from {model.threshold:g} "
            "on. `predict` of mpi_unet then keeps the parts that are of the size and at the place of ventricles of "
            "training.",
        )
        digests = {"model.onnx": sha256(graph.file.read_bytes())}
        card = model_card(facts, model, use=use, postprocessing=after, files=digests)
        write_card(card, part / "README.md", part / "model_card.html")
    return Path(output)
