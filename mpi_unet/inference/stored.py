"""What a training left on disk, before anything is built of it: in a run, or in a bundle that was exported from one.

A *bundle* is a MONAI Bundle (``export format=bundle``): it runs with MONAI alone. Its folder ``record`` holds what
MONAI has no word for: what the images of training were, and which networks have learnt which image, so that
``predict run=<bundle>`` gives the masks of ``predict run=<run>``. It names no patient and no case; they are numbered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpi_unet.cohort.domain import Domain, describe, read_domain, write_domain
from mpi_unet.cohort.fold import Split
from mpi_unet.config import plain
from mpi_unet.errors import RunError, listing
from mpi_unet.evaluation.quality import QualityRecord, read_quality
from mpi_unet.files import read_json, sha256
from mpi_unet.learning.weights import network_weights
from mpi_unet.run import Run

__all__ = ["BUNDLE_VERSION", "RECORD", "FoldWeights", "Stored", "is_bundle", "read_stored"]

RECORD = "record"
"""Folder of a bundle; ``model.json`` in it makes a folder a bundle of ours."""

BUNDLE_VERSION = "1.0.0"
"""Of ``record/model.json``."""


@dataclass(frozen=True)
class FoldWeights:
    """The weights of one network.

    Attributes:
        fold: Number of its fold.
        file: Where they were read from.
        digest: SHA-256 of that file.
        state: Name to tensor, as the network names its parameters.
    """

    fold: int
    file: Path
    digest: str
    state: Mapping[str, Tensor] = field(repr=False)


@dataclass(frozen=True)
class Stored:
    """A trained model as it lies on disk.

    Attributes:
        name: Of the run.
        folder: Of the run or the bundle.
        config: File that names the classes below, for messages.
        model: ``_target_`` and arguments of the networks.
        deterministic: Name to ``_target_`` and arguments of the transforms of every image.
        threshold: Probability from which on a voxel is LV.
        weights: One network a fold.
        domain: What was learnt from.
        split: Who was on which side of which fold.
        quality: What the run knows about the quality of masks; None for one that does not.
    """

    name: str
    folder: Path
    config: Path
    model: Mapping[str, Any]
    deterministic: Mapping[str, Any]
    threshold: float
    weights: tuple[FoldWeights, ...]
    domain: Domain
    split: Split
    quality: QualityRecord | None


def is_bundle(folder: str | Path) -> bool:
    """Whether a folder is a bundle that ``export`` wrote."""
    return (Path(folder) / RECORD / "model.json").is_file()


def read_stored(run: str | Path) -> Stored:
    """Read what ``run=`` names: the folder that ``train`` left behind, or a bundle that ``export`` made of it.

    Only tensors and plain values are read, never code.

    Raises:
        RunError: It is neither, no fold is done, or a file is missing or not the one that was written.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise RunError(
            f"run={run} is no folder; give the folder that train printed, for example run=runs/quickstart, or a bundle"
        )
    if is_bundle(folder):
        return _read_bundle(folder)
    if (folder / "configs" / "metadata.json").is_file() and not Run(folder).config.is_file():
        raise RunError(
            f"run={run} is a MONAI bundle without {RECORD}/model.json, so it is not known what its images were; run it "
            "with `python -m monai.bundle run`, or give a bundle that `python -m mpi_unet.export` wrote"
        )
    return _read_run(Run(folder))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _read_run(run: Run) -> Stored:
    config = run.read_config()
    split = Split.read(run.splits) if run.splits.is_file() else None
    folds = [fold for fold in range(len(split.folds) if split else 0) if run.is_fold_done(fold)]
    if split is None or not folds:
        raise RunError(f"no fold of {run.folder} is done yet; give the training command again, it goes on")
    weights = []
    for fold in folds:
        file = run.fold(fold) / "checkpoints" / "best.ckpt"
        state = network_weights(file)
        weights.append(FoldWeights(fold, file, sha256(file.read_bytes()), state))
    return Stored(
        name=str(config.name),
        folder=run.folder,
        config=run.config,
        model=plain(config.model),
        deterministic=plain(config.transforms).get("deterministic") or {},
        threshold=float(config.prediction.threshold),
        weights=tuple(weights),
        domain=_domain(run, str(config.data.reader)),
        split=split,
        quality=read_quality(run.quality) if run.quality.is_file() else None,
    )


def _domain(run: Run, reader: str) -> Domain:
    """What the run has learnt from; of runs that did not write it down, from their cohort where it lay."""
    if run.domain.is_file():
        return read_domain(run.domain)
    from mpi_unet.assessment import cohort_of  # with all that reports need

    try:
        cohort = cohort_of(run)
    except RunError as error:
        raise RunError(
            f"{run.folder} has no {run.domain.name}, so it is not known which images its networks learnt from, and it "
            f"cannot be made: {error}"
        ) from error
    known = describe(cohort, reader)
    with run.lock():
        write_domain(run.domain, known)
    return known


def _read_bundle(folder: Path) -> Stored:
    record = folder / RECORD
    file = record / "model.json"
    try:
        content = read_json(file)
        if str(content["schema_version"]).split(".")[0] != BUNDLE_VERSION.split(".")[0]:
            raise ValueError(f"schema version {content['schema_version']}, this mpi_unet reads {BUNDLE_VERSION}")
        listed = [(int(one["fold"]), str(one["file"]), str(one["sha256"])) for one in content["weights"]]
        known = (str(content["name"]), dict(content["model"]), dict(content["deterministic"]))
        threshold = float(content["threshold"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} cannot be read as the record of a bundle ({error}); export the bundle anew") from error
    missing = [name for name in ("domain.json", "splits.json") if not (record / name).is_file()]
    if missing:
        raise RunError(f"{record} lacks {' and '.join(missing)}; export the bundle anew, or copy it whole")
    quality = record / "quality.json"
    return Stored(
        *(known[0], folder, file, known[1], known[2], threshold),
        weights=_bundled_weights(folder, listed),
        domain=read_domain(record / "domain.json"),
        split=Split.read(record / "splits.json"),
        quality=read_quality(quality) if quality.is_file() else None,
    )


def _bundled_weights(folder: Path, listed: list[tuple[int, str, str]]) -> tuple[FoldWeights, ...]:
    """The weights that a record lists, each the file that was written.

    Raises:
        RunError: Naming every file that is missing or another one.
    """
    problems, weights = [], []
    for fold, name, digest in listed:
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            problems.append(f"{name}: leads out of the bundle")
        elif not file.is_file():
            problems.append(f"{name}: is missing")
        elif sha256(data := file.read_bytes()) != digest:
            problems.append(f"{name}: is not the file that was exported ({len(data):,} bytes)")
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
            weights.append(FoldWeights(fold, file, digest, state))
    if problems or not listed:
        raise RunError(
            f"the weights of {folder} cannot be used:\n{listing(problems or ['the record lists none'])}\n"
            "Copy the bundle again, or export it anew"
        )
    return tuple(weights)
