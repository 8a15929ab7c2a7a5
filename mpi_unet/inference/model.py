"""What a run has learnt, ready to segment: the networks of its folds, how images are prepared, what training saw.

Checkpoints are read as tensors only. The classes of network and transforms stand in the run's config by name; a run may
come from elsewhere, so only networks of MONAI, torch and mpi_unet and transforms of MONAI and mpi_unet are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from monai.transforms import Compose, Transform
from omegaconf import DictConfig
from torch import Tensor, nn

from mpi_unet.assessment import cohort_of
from mpi_unet.cohort.domain import Domain, describe, read_domain, write_domain
from mpi_unet.cohort.fold import Split
from mpi_unet.config import plain, targets
from mpi_unet.errors import RunError, listing
from mpi_unet.evaluation.quality import QualityRecord, read_quality
from mpi_unet.files import sha256
from mpi_unet.inference.finishing import Learnt
from mpi_unet.learning.prediction import network_weights
from mpi_unet.learning.recipe import total_stride
from mpi_unet.learning.transforms import composed
from mpi_unet.run import Run

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
    """Open what ``run=`` names: the folder that ``train`` left behind.

    Raises:
        RunError: It is no run, no fold is done, a checkpoint does not fit, or the config names a class of a package
            that is not trusted.
    """
    opened = Run(Path(run))
    if not opened.folder.is_dir():
        raise RunError(f"run={run} is no folder; give the folder that train printed, for example run=runs/quickstart")
    config = opened.read_config()
    split = Split.read(opened.splits) if opened.splits.is_file() else None
    folds = tuple(fold for fold in range(len(split.folds) if split else 0) if opened.is_fold_done(fold))
    if split is None or not folds:
        raise RunError(f"no fold of {opened.folder} is done yet; give the training command again, it goes on")
    _refuse_foreign_classes(opened, config)
    networks, digests = [], []
    for fold in folds:
        checkpoint = opened.fold(fold) / "checkpoints" / "best.ckpt"
        network = instantiate(config.model)
        weights = network_weights(checkpoint)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise RunError(f"{checkpoint} holds the weights of another network: {error}") from error
        networks.append(network.eval().requires_grad_(False))
        digests.append(sha256(checkpoint.read_bytes()))
    transforms = plain(config.transforms).get("deterministic") or {}
    built = {name: instantiate(config.transforms.deterministic[name], _convert_="all") for name in transforms}
    threshold = float(config.prediction.threshold)
    return TrainedModel(
        name=str(config.name),
        folder=opened.folder,
        networks=tuple(networks),
        digests=tuple(digests),
        folds=folds,
        deterministic=composed(built),
        threshold=threshold,
        spatial_dims=int(config.model.get("spatial_dims", 2)),
        divisor=total_stride(plain(config.model)),
        domain=_domain(opened, config),
        split=split,
        key=sha256(*digests, repr(plain(config.model)), repr(transforms), str(threshold)),
        quality=read_quality(opened.quality) if opened.quality.is_file() else None,
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _domain(run: Run, config: DictConfig) -> Domain:
    """What the run has learnt from; of runs that did not write it down, from their cohort where it lay."""
    if run.domain.is_file():
        return read_domain(run.domain)
    try:
        cohort = cohort_of(run)
    except RunError as error:
        raise RunError(
            f"{run.folder} has no {run.domain.name}, so it is not known which images its networks learnt from, and it "
            f"cannot be made: {error}"
        ) from error
    known = describe(cohort, config.data.reader)
    with run.lock():
        write_domain(run.domain, known)
    return known


def _refuse_foreign_classes(run: Run, config: DictConfig) -> None:
    problems = []
    for section, base in (("model", nn.Module), ("transforms.deterministic", Transform)):
        node: Any = config
        for part in section.split("."):
            node = (node or {}).get(part)
        holder: Mapping[str, Any] = {section.rpartition(".")[2]: node or {}}
        for key, target in targets(DictConfig(holder)):
            path = str(target["_target_"])
            if not _is_trusted(path, base):
                problems.append(f"{key}._target_ is {path}")
    if problems:
        raise RunError(
            f"{run.config} names what is not built from a file:\n{listing(problems)}\nExpected networks of "
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
