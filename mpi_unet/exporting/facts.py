"""What the record of a run says of its model, for the data contract of a bundle and for the model card.

Every number comes from a file of the run. What no file says is said to be not stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi_unet.assessment import cohort_of
from mpi_unet.errors import CohortError, ConfigError, RunError
from mpi_unet.files import read_json
from mpi_unet.inference.model import TrainedModel
from mpi_unet.inference.stored import Stored, is_bundle, read_stored
from mpi_unet.report.record import read_summary
from mpi_unet.run import Run

__all__ = ["NOT_STATED", "ModelFacts", "model_facts"]

NOT_STATED = "not stated"

RECIPE_SECTIONS = ("loss", "optimizer", "scheduler")


@dataclass(frozen=True)
class ModelFacts:
    """A trained model and what its run says of it.

    Attributes:
        stored: As it lies on disk.
        summary: Content of ``summary.json``.
        agreement: Content of ``agreement.json``; None where no readers were compared.
        environment: Content of ``environment.json``.
        recipe: Term to text: how it was trained.
        licence: Of the images of training, as their cohort states it.
        intensities: What was done to them before, as their cohort states it.
        source: Where they come from, as their cohort states it.
    """

    stored: Stored
    summary: Mapping[str, Any]
    agreement: Mapping[str, Any] | None
    environment: Mapping[str, Any]
    recipe: Mapping[str, str]
    licence: str
    intensities: str
    source: str

    @property
    def design(self) -> Mapping[str, Any]:
        """How the run was made, as ``summary.json`` has it."""
        return self.summary.get("design") or {}

    @property
    def is_simulated(self) -> bool:
        """Whether images and readers of training are simulated."""
        return bool(self.design.get("simulated_readers"))


def model_facts(run: str | Path) -> ModelFacts:
    """Read what a run knows of its model.

    Raises:
        ConfigError: It is a bundle, which is exported already.
        RunError: It is no finished run.
    """
    if is_bundle(run):
        raise ConfigError(f"run={run} is a bundle already; give the run that it was exported from, or copy the folder")
    stored = read_stored(run)
    opened = Run(Path(run))
    try:
        known: Mapping[str, Any] = cohort_of(opened).metadata
    except (RunError, CohortError, KeyError):
        known = {}  # the cohort lay elsewhere; its name, domain and counts are in the run
    return ModelFacts(
        stored=stored,
        summary=read_summary(opened.folder),
        agreement=read_json(opened.agreement) if opened.agreement.is_file() else None,
        environment=read_json(opened.environment) if opened.environment.is_file() else {},
        recipe=_recipe(opened),
        licence=str(known.get("licence") or NOT_STATED),
        intensities=str(known.get("intensities") or NOT_STATED),
        source=str(known.get("source") or NOT_STATED),
    )


def input_words(model: TrainedModel, intensities: str) -> list[tuple[str, str]]:
    """What images must be like, as pairs of term and text; the ranges are those of training."""
    known = model.domain
    shape = " x ".join(_span(*along, digits=0) for along in known.shape)
    spacing = "not known; distances and volumes mean nothing then"
    if known.spacing_mm is not None:
        steps = known.spacing_mm[1:] if known.domain == "projection" else known.spacing_mm
        axes = "(y, x)" if known.domain == "projection" else "(z, y, x)"
        spacing = " x ".join(_span(*along, digits=2) for along in steps) + f" mm {axes}"
    return [
        ("File", "NIfTI, one case a file, axes (x, y, z); frames are slices or views along z"),
        ("Frames, rows, columns of training", shape),
        ("Voxels of training", spacing),
        ("Sum of the values in training", _span(*known.total, digits=0)),
        ("Intensities", f"{intensities}; no scaling by hand: the transforms do it"),
        ("Cameras of training", ", ".join(known.cameras) or NOT_STATED),
    ]


# --- Private helpers --------------------------------------------------------------------------------------------------


def _span(low: float, high: float, *, digits: int) -> str:
    first, last = f"{low:,.{digits}f}", f"{high:,.{digits}f}"
    return first if first == last else f"{first} to {last}"


def _recipe(run: Run) -> dict[str, str]:
    """How the networks were trained, without any path of the machine."""
    config = run.read_config()
    words = {}
    for section in RECIPE_SECTIONS:
        node = config.get(section)
        if node:
            given = {str(key): value for key, value in node.items() if not str(key).startswith("_")}
            words[section] = _called(str(node.get("_target_", section)), given)
    words["epochs"] = f"{config.trainer.max_epochs} at most; the one with the best validation Dice is kept"
    words["batch"] = str(config.loader.batch_size)
    words["augmentation"] = ", ".join(
        str(one["_target_"]).rpartition(".")[2] for one in (config.transforms.get("random") or {}).values() if one
    )
    words["seed"] = str(config.seed)
    return {key: text or "none" for key, text in words.items()}


def _called(target: str, given: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in given.items())
    return f"{target.rpartition('.')[2]}({arguments})"
