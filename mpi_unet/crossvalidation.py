"""The plan of a training: cohort, split, one training a fold, out-of-fold predictions, and what they are worth.

Each step leaves whole files behind and is skipped when they are there, so that an interrupted run goes on, and folds
may be run by different processes (``split.fold=2``); whoever finishes the last fold assembles the result.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mpi_unet.assessment import assess, is_assessed_whole, open_cohort
from mpi_unet.cohort.domain import describe, write_domain
from mpi_unet.cohort.leakage import audit, find_leaks
from mpi_unet.cohort.nifti import read_image, write_image, write_mask
from mpi_unet.cohort.splits import Side, Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.config import plain
from mpi_unet.errors import BusyError, ConfigError, SplitError, TrainingError
from mpi_unet.evaluation.operating import OperatingCounts, write_operating
from mpi_unet.files import write_json
from mpi_unet.folds_at_once import check_parallel, raise_failures, run_in_processes
from mpi_unet.learning.augmentation import BatchTransforms, batch_transforms
from mpi_unet.learning.datamodule import FoldData, Samples
from mpi_unet.learning.prediction import batchwise_scores, load_weights, segment_case
from mpi_unet.learning.prepared import PreparedCases, prepare_cases
from mpi_unet.learning.progress import FoldProgress
from mpi_unet.learning.recipe import check_trainer, fold_trainer
from mpi_unet.learning.segmenter import Segmenter
from mpi_unet.learning.together import FoldsTogether, check_callbacks, common_start
from mpi_unet.learning.transforms import composed
from mpi_unet.learning.weights import total_stride
from mpi_unet.run import Run, note_in_environment, now, refuse_other_recipe


@dataclass(frozen=True)
class Material:
    """What all folds of a run share."""

    config: DictConfig
    run: Run
    cohort: Cohort
    split: Split
    cases: PreparedCases
    random: BatchTransforms
    console: Console

    @property
    def spatial_dims(self) -> int:
        """2 for networks that see frames, 3 for those that see cases."""
        return int(self.config.model.get("spatial_dims", 2))

    def samples(self, fold: int, side: Side, *, augment: bool) -> Samples:
        """Samples of one side of a fold."""
        members = [
            (index, frame)
            for index, place in enumerate(self.cases.places)
            for frame in (range(place.shape[0]) if self.spatial_dims == 2 else (0,))
            if self.split.side_of(fold, self.cohort.cases[index], frame) == side
        ]
        random = self.random if augment else BatchTransforms({})
        return Samples(self.cases, members, self.spatial_dims, random, self.fold_seed(fold))

    def held_out_frames(self, fold: int, index: int) -> list[int]:
        """Frames of a case that a fold holds out."""
        case, num_frames = self.cohort.cases[index], self.cases.places[index].shape[0]
        return [frame for frame in range(num_frames) if self.split.side_of(fold, case, frame) == "test"]

    def fold_seed(self, fold: int) -> int:
        """Seed of everything random in a fold."""
        return int(np.random.SeedSequence([self.config.seed, fold]).generate_state(1)[0])


def cross_validate(config: DictConfig, run: Run, console: Console) -> bool:
    """Run the folds that are asked for and not yet done; when all are done, assess the run.

    Args:
        config: Composed and checked.
        run: Where it goes.
        console: Where to tell how far it is.

    Returns:
        Whether the run is complete; False while other folds are missing, and in the helping processes of a distributed
        training, which leave all writing to the main one.

    Raises:
        MpiUnetError: Something that the user can remedy; what was written stays whole.
    """
    check_parallel(config)
    check_trainer(plain(config.trainer), plain(config.optimizer), has_gpu=torch.cuda.is_available())
    cohort = open_cohort(config.data)
    _check_network_size(config, cohort)
    cohort.check(config.data.reader)
    fingerprint = cohort.fingerprint(config.data.reader)
    split = _frozen_split(config, run, cohort, fingerprint)
    folds = _wanted_folds(config, split)
    waiting = [fold for fold in folds if not run.is_fold_done(fold)]
    if waiting:
        if is_main_process():
            note_in_environment(
                run,
                device=_device_name(config),
                cohort_fingerprint=fingerprint,
                cohort_folder=str(cohort.root.resolve()),
            )
            if not run.domain.is_file():
                write_domain(run.domain, describe(cohort, config.data.reader))
        way = config.split.get("parallel")
        if way == "processes" and len(waiting) > 1:
            run_in_processes(config, waiting, console)
        else:
            material = _material(config, run, cohort, split, console)
            (_run_folds_stacked if way == "stacked" else _run_folds)(material, waiting)
    if not is_main_process():
        return False
    missing = [fold for fold in range(len(split.folds)) if not run.is_fold_done(fold)]
    if missing:
        console.print(f"Folds still to be run in {run.folder}: {', '.join(map(str, missing))}", highlight=False)
        return False
    with run.lock():
        is_assessed = is_assessed_whole(run)
    if not is_assessed:
        note_in_environment(run, finished=now())
        with run.lock():
            assess(run, cohort)
    return True


def _run_folds(material: Material, waiting: Sequence[int]) -> None:
    """One fold after another; those that another process is at are left to it."""
    for position, fold in enumerate(waiting):
        try:
            with material.run.fold_lock(fold) if is_main_process() else nullcontext():
                if not material.run.is_fold_done(fold):  # by another process, since we looked
                    _run_fold(material, fold, folds_left=len(waiting) - position - 1)
        except BusyError as error:
            if len(waiting) == 1:
                raise
            _say_busy(material, fold, error)


def _run_folds_stacked(material: Material, waiting: Sequence[int]) -> None:
    """All folds at the same time on one device; those that another process is at are left to it."""
    run, together = material.run, FoldsTogether()
    with ExitStack() as held:
        mine = []
        for fold in waiting:
            try:
                held.enter_context(run.fold_lock(fold))
            except BusyError as error:
                if len(waiting) == 1:
                    raise
                _say_busy(material, fold, error)
                continue
            if not run.is_fold_done(fold):
                mine.append(fold)
        start = common_start({fold: run.fold(fold) for fold in mine})
        outcomes = together.run(
            {
                fold: partial(_run_fold, material, fold, folds_left=0, together=together, checkpoint=start[fold])
                for fold in mine
            }
        )
    raise_failures({fold: error for fold, error in outcomes.items() if isinstance(error, BaseException)})


def _say_busy(material: Material, fold: int, error: BusyError) -> None:
    material.console.print(f"fold {fold + 1} of {len(material.split.folds)}  left to the other process: {error}")


def _run_fold(
    material: Material,
    fold: int,
    folds_left: int,
    *,
    together: FoldsTogether | None = None,
    checkpoint: Path | None = None,
) -> None:
    config, run = material.config, material.run
    folder = run.fold(fold)
    started = time.perf_counter()
    train = material.samples(fold, "train", augment=True)
    val = material.samples(fold, "val", augment=config.loader.augment_validation)
    if not train.any_label():
        raise TrainingError(
            f"no training image of fold {fold} shows any LV; check the labels of reader {config.data.reader}"
        )
    data = FoldData(
        train,
        val,
        batch_size=config.loader.batch_size,
        num_workers=config.loader.num_workers,
        seed=material.fold_seed(fold),
    )
    pl.seed_everything(material.fold_seed(fold), verbose=False)
    segmenter = _segmenter(config, material.cases)
    callbacks = {str(name): instantiate(callback) for name, callback in config.trainer.callbacks.items()}
    seat: AbstractContextManager[Any] = nullcontext()
    if together:
        check_callbacks(callbacks)
        seat = together.seat(fold, segmenter)
        callbacks["together"] = together.epoch_end(fold)
    trainer = fold_trainer(
        _trainer_maker(config),
        folder,
        callbacks=callbacks,
        loggers={str(name): _fold_logger(logger, fold) for name, logger in config.logger.items()},
        progress=FoldProgress(fold, len(material.split.folds), folds_left, material.console, has_bar=together is None),
        seed=material.fold_seed(fold),
    )
    if together is None:
        checkpoint = last if (last := folder / "checkpoints" / "last.ckpt").is_file() else None
    try:
        with seat:
            trainer.fit(segmenter, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # how Lightning ends after Ctrl-C
        raise KeyboardInterrupt from None
    if not trainer.is_global_zero:
        return
    load_weights(segmenter, folder / "checkpoints" / "best.ckpt", trainer.strategy.root_device)
    _predict(material, fold, segmenter)
    _predict_validation(material, fold, segmenter)
    facts: dict[str, Any] = {
        "fold": fold,
        **_best_epoch(folder / "metrics.csv"),
        "seconds": round(time.perf_counter() - started, 1),
        "threshold": config.prediction.threshold,
        "num_train_frames": len(train),
        "num_val_frames": len(val),
        "parameters": sum(parameter.numel() for parameter in segmenter.network.parameters()),
    }
    for side in ("train", "val", "test"):
        facts[f"num_{side}_{material.split.unit}s"] = len(getattr(material.split.folds[fold], side))
    if config.loader.augment_validation:
        facts["as_published"] = batchwise_scores(segmenter, data.val_dataloader())
    write_json(folder / "fold.json", facts)  # last: its presence makes the fold done


def _predict(material: Material, fold: int, segmenter: Segmenter) -> None:
    """Write the masks of the frames that this fold held out, and its operating counts."""
    prediction, run = material.config.prediction, material.run
    counts: dict[str, OperatingCounts] = {}
    for index, prepared in enumerate(material.cases):
        frames = material.held_out_frames(fold, index)
        if not frames:
            continue
        case = material.cohort.cases[index]
        probability = segment_case(segmenter, prepared.image, frames, material.spatial_dims, prediction.batch_size)
        target = case.read_mask(material.config.data.reader)
        of_case = OperatingCounts.of(probability, target[frames])
        counts[case.patient_id] = counts[case.patient_id] + of_case if case.patient_id in counts else of_case
        is_volume = material.cohort.domain != "projection"
        affine = case.read_image().affine
        whole = np.zeros(target.shape, np.float32)
        path = run.probability(case.case_id)
        with run.lock():  # where images are divided, several folds hold frames of one case
            if len(frames) < len(target) and path.is_file():
                whole = read_image(path).array
            whole[frames] = probability
            if prediction.probabilities or len(frames) < len(target):
                write_image(path, whole, affine, is_distance_z=is_volume)
            mask = whole >= prediction.threshold
            write_mask(run.prediction(case.case_id), mask, affine, is_distance_z=is_volume)
    write_operating(run.fold(fold) / "operating.csv", counts)


def _predict_validation(material: Material, fold: int, segmenter: Segmenter) -> None:
    """Write what it says of the validation cases: one more opinion by a network that learnt from other patients."""
    if material.split.unit != "patient":
        return
    prediction, is_volume = material.config.prediction, material.cohort.domain != "projection"
    for index, prepared in enumerate(material.cases):
        case, frames = material.cohort.cases[index], range(material.cases.places[index].shape[0])
        if material.split.side_of(fold, case) != "val":
            continue
        probability = segment_case(segmenter, prepared.image, frames, material.spatial_dims, prediction.batch_size)
        affine = case.read_image().affine
        if prediction.probabilities:
            path = material.run.validation_probability(fold, case.case_id)
            write_image(path, probability, affine, is_distance_z=is_volume)
        path = material.run.validation_mask(fold, case.case_id)
        write_mask(path, probability >= prediction.threshold, affine, is_distance_z=is_volume)


def _material(config: DictConfig, run: Run, cohort: Cohort, split: Split, console: Console) -> Material:
    cases = prepare_cases(
        cohort,
        config.data.reader,
        composed(_built(config.transforms.deterministic)),
        recipe=plain(config.transforms.deterministic or OmegaConf.create()),
        fingerprint=split.fingerprint,
        spatial_dims=int(config.model.get("spatial_dims", 2)),
        cache=config.loader.cache,
    )
    return Material(config, run, cohort, split, cases, batch_transforms(_built(config.transforms.random)), console)


def _frozen_split(config: DictConfig, run: Run, cohort: Cohort, fingerprint: str) -> Split:
    """The split of the run: read when it is there, else drawn, audited and frozen."""
    if run.splits.is_file():
        return Split.read(run.splits, fingerprint, cohort)  # audited when it was drawn, on these very pixels
    control = ("_target_", "fold", "parallel", "processes", "allow_leakage")
    options = {key: value for key, value in plain(config.split).items() if key not in control}
    split = get_method(config.split._target_)(cohort, fingerprint=fingerprint, **options)
    split.verify(cohort)
    if config.split.allow_leakage:
        note_in_environment(run, leaks=len(find_leaks(cohort, split)))
    else:
        audit(cohort, split)
    with run.lock():
        refuse_other_recipe(run, config)  # until now nothing was made, and another recipe could take the place
        split.write(run.splits)
    return split


def _wanted_folds(config: DictConfig, split: Split) -> list[int]:
    fold = config.split.fold
    if fold is None:
        return list(range(len(split.folds)))
    if not 0 <= fold < len(split.folds):
        raise SplitError(
            f"split.fold={fold}: there are folds 0 to {len(split.folds) - 1}; split.fold=null runs all of them"
        )
    return [fold]


def _check_network_size(config: DictConfig, cohort: Cohort) -> None:
    if int(config.model.get("out_channels", 2)) != 2:
        raise ConfigError(
            f"model.out_channels is {config.model.out_channels}, expected 2: background and {cohort.label}"
        )


def _segmenter(config: DictConfig, cases: PreparedCases) -> Segmenter:
    segmenter = Segmenter(
        network=instantiate(config.model),
        loss=instantiate(config.loss),
        optimizer=instantiate(config.optimizer),
        scheduler=instantiate(config.scheduler),
        num_val_cases=len(cases),
        divisor=total_stride(plain(config.model)),
        case_ids=[place.case_id for place in cases.places],
    )
    if config.trainer.compile:
        segmenter.network.compile()
    return segmenter


def _fold_logger(config: DictConfig, fold: int) -> Any:
    """A logger of ``conf/logger`` whose records say which fold they are of."""
    name_of_fold = {"TensorBoardLogger": "version", "MLFlowLogger": "run_name"}.get(config._target_.rpartition(".")[2])
    return instantiate(config, **({name_of_fold: f"fold_{fold}"} if name_of_fold else {}))


def _trainer_maker(config: DictConfig) -> Callable[..., pl.Trainer]:
    arguments = {key: value for key, value in config.trainer.items() if key not in ("callbacks", "compile", "_target_")}
    return instantiate({"_target_": config.trainer._target_, "_partial_": True, **arguments})


def _built(transforms: DictConfig | None) -> dict[str, Any]:
    return {str(name): instantiate(node, _convert_="all") for name, node in (transforms or {}).items()}


def _best_epoch(metrics: Path) -> dict[str, Any]:
    """Epoch of the best checkpoint: the first with the highest validation Dice."""
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["val_dice"]]
    best = max(rows, key=lambda row: float(row["val_dice"]))
    return {"best_epoch": int(best["epoch"]), "best_val_dice": float(best["val_dice"]), "epochs": len(rows)}


def _device_name(config: DictConfig) -> str:
    if config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def is_main_process() -> bool:
    """False in the processes that help a distributed training, whoever started them: Lightning, torchrun or Slurm."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
