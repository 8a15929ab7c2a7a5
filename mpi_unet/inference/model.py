"""What a run has learnt, ready to segment: the networks of its folds, how images are prepared, what training saw.

Checkpoints are read as tensors only. The classes of network and transforms stand in the run's config by name; a run may
come from elsewhere, so only networks of MONAI, torch and mpi_unet and transforms of MONAI and mpi_unet are built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import get_object, instantiate
from monai.transforms import Compose, Transform
from omegaconf import DictConfig
from torch import Tensor, nn

from mpi_unet.cohort.domain import Domain
from mpi_unet.cohort.fold import Split
from mpi_unet.config import targets
from mpi_unet.errors import RunError, listing
from mpi_unet.evaluation.quality import QualityRecord
from mpi_unet.files import sha256
from mpi_unet.inference.facts import ModelFacts
from mpi_unet.inference.finishing import Learnt
from mpi_unet.inference.stored import Stored, read_stored
from mpi_unet.learning.transforms import composed
from mpi_unet.learning.weights import total_stride

__all__ = ["TrainedModel", "open_model"]

TRUSTED = ("monai", "torch", "mpi_unet")
"""Packages whose networks and transforms a run may name."""


@dataclass(frozen=True)
class TrainedModel:
    """The networks of a run.

    Attributes:
        name: Of the run.
        folder: The run folder; exported networks are kept in it.
        networks: One a fold, in evaluation mode, on the CPU.
        digests: SHA-256 of the checkpoint of each.
        folds: Number of the fold of each.
        deterministic: Transforms of every image.
        threshold: Probability from which on a voxel is LV, as frozen before training.
        spatial_dims: 2 for networks that see frames, 3 for those that see volumes.
        divisor: Total stride.
        domain: What was learnt from.
        split: Who was on which side of which fold.
        key: The same text for models that give the same probabilities.
        quality: What the run knows about the quality of masks; None for one that does not.
    """

    name: str
    folder: Path
    networks: tuple[nn.Module, ...]
    digests: tuple[str, ...]
    folds: tuple[int, ...]
    deterministic: Compose
    threshold: float
    spatial_dims: int
    divisor: int
    domain: Domain
    split: Split
    key: str
    quality: QualityRecord | None = None

    @property
    def learnt(self) -> Learnt:
        """What finishing a study needs to know."""
        known = self.domain
        return Learnt(self.threshold, known.label, known.outlines, known.spacing_mm is not None, self.quality)

    @property
    def facts(self) -> ModelFacts:
        """What pages and DICOM objects say about it."""
        known = self.domain
        trained_on = f"{known.num_cases} cases of {known.num_patients} patients ({known.cohort})"
        return ModelFacts(self.name, self.key, self.threshold, len(self.networks), known.label, trained_on)

    def padded(self, batch: Tensor) -> Tensor:
        """A batch (b, 1, ...) whose sides are multiples of the total stride, by repeating its last values."""
        size = batch.shape[2:]
        widths = [width for length in reversed(size) for width in (0, -length % self.divisor)]
        return nn.functional.pad(batch, widths, mode="replicate") if any(widths) else batch

    def training_of(self, pixels: str, patient_id: str, pseudonym_key: str, cohort: str) -> tuple[str, tuple[int, ...]]:
        """Whether training knew a study, and which networks may speak about it all the same.

        Args:
            pixels: Digest of its pixels.
            patient_id: Its patient.
            pseudonym_key: Fingerprint of the key of its cohort; pseudonyms of two keys say nothing about each other.
            cohort: Name of its cohort; without a key, ids mean the same people within one cohort only.

        Returns:
            ``image``, ``patient`` or an empty text, and positions in ``networks``: of those whose fold held the patient
            out, where there are any; else of all.
        """
        everyone = tuple(range(len(self.networks)))
        known, seen = self.domain.images.get(pixels), ""
        if known is not None:
            seen = "image"
        elif pseudonym_key == self.domain.pseudonym_key and (pseudonym_key or cohort == self.domain.cohort):
            known = patient_id if patient_id in set(self.domain.images.values()) else None
            seen = "patient" if known else ""
        if known is None or self.split.unit != "patient":
            return seen, everyone
        held_out = tuple(position for position, fold in enumerate(self.folds) if known in self.split.folds[fold].test)
        return seen, held_out or everyone


def open_model(run: str | Path) -> TrainedModel:
    """Open what ``run=`` names: the folder that ``train`` left behind, or a bundle that ``export`` made of it.

    Raises:
        RunError: It is neither, no fold is done, the weights do not fit, or a class of a package that is not trusted is
            named.
    """
    stored = read_stored(run)
    _refuse_foreign_classes(stored)
    networks = []
    for weights in stored.weights:
        network = instantiate(dict(stored.model), _convert_="all")
        try:
            network.load_state_dict(weights.state)
        except RuntimeError as error:
            raise RunError(f"{weights.file} holds the weights of another network: {error}") from error
        networks.append(network.eval().requires_grad_(False))
    digests = tuple(weights.digest for weights in stored.weights)
    built = {name: instantiate(dict(given), _convert_="all") for name, given in stored.deterministic.items()}
    return TrainedModel(
        name=stored.name,
        folder=stored.folder,
        networks=tuple(networks),
        digests=digests,
        folds=tuple(weights.fold for weights in stored.weights),
        deterministic=composed(built),
        threshold=stored.threshold,
        spatial_dims=int(stored.model.get("spatial_dims", 2)),
        divisor=total_stride(stored.model),
        domain=stored.domain,
        split=stored.split,
        key=sha256(*digests, repr(stored.model), repr(stored.deterministic), str(stored.threshold)),
        quality=stored.quality,
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _refuse_foreign_classes(stored: Stored) -> None:
    problems = []
    for section, node, base in (
        ("model", stored.model, nn.Module),
        ("transforms.deterministic", stored.deterministic, Transform),
    ):
        for key, target in targets(DictConfig({section.rpartition(".")[2]: dict(node)})):
            path = str(target["_target_"])
            if not _is_trusted(path, base):
                problems.append(f"{key}._target_ is {path}")
    if problems:
        raise RunError(
            f"{stored.config} names what is not built from a file:\n{listing(problems)}\nExpected networks of "
            f"{', '.join(TRUSTED)} and transforms of monai and mpi_unet; train with one of these"
        )


def _is_trusted(path: str, base: type) -> bool:
    """Whether a dotted path is a class of a trusted package; modules that such a package imports are none of its."""
    if path.partition(".")[0] not in TRUSTED:
        return False
    found = get_object(path)
    return isinstance(found, type) and issubclass(found, base) and found.__module__.partition(".")[0] in TRUSTED


def as_device(device: str) -> torch.device:
    """The device that ``device=`` names.

    Raises:
        RunError: There is none of that kind.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError("device=cuda: torch sees no GPU here; leave it out, or install the CUDA build of torch")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
