"""From predictions to what they are worth: scores, baselines, summary, report.

Everything here can be made again from the run folder and the cohort; nothing is trained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_method
from omegaconf import DictConfig

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.domain import describe, read_domain, write_domain
from mpi_unet.cohort.nifti import read_mask
from mpi_unet.cohort.outlines import ChosenFrames, Outlines
from mpi_unet.cohort.splits import Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.config import plain
from mpi_unet.errors import RunError, listing
from mpi_unet.evaluation.baselines import BASELINES, all_background, all_foreground, largest_component, mean_shape
from mpi_unet.evaluation.metrics import AGGREGATION
from mpi_unet.evaluation.operating import mean_rates, read_operating
from mpi_unet.evaluation.quality import write_quality
from mpi_unet.evaluation.scores import case_scores
from mpi_unet.evaluation.table import (
    ScoreRow,
    fold_table,
    score_rows,
    summarize,
    summarize_baselines,
    write_scores,
)
from mpi_unet.files import read_json, waiting_lock, write_json
from mpi_unet.reader_study.calibration_part import calibration_part
from mpi_unet.reader_study.options import Network, StudyOptions, choose_readers
from mpi_unet.reader_study.study import newest_change, reader_study
from mpi_unet.report.page import write_report
from mpi_unet.run import Run, now
from mpi_unet.run_quality import quality_of_run
from mpi_unet.shapes import Mask, SpacingMm

SCHEMA_VERSION = "1.0.0"
"""Of ``summary.json``."""

MIN_TOLERANCE_MM = 3.0
"""Tolerance of the surface Dice where no reader's repeatability is known; never below half a pixel."""


def open_cohort(data: DictConfig) -> Cohort:
    """The cohort that ``conf/data`` describes; made first, or reused, when it names a source.

    Raises:
        CohortError: The source or the cohort cannot be used.
    """
    root: str | Path = data.root
    if "_target_" in data:
        making = Path(data.get("output") or data.root)
        arguments = {key: value for key, value in plain(data).items() if key not in ("_target_", "reader", "exclude")}
        if data._target_.startswith("mpi_unet.sources.pairs"):
            arguments["reader"] = data.reader
        with waiting_lock(making.parent / f".{making.name}.lock"):  # two commands make one cohort once
            root = get_method(data._target_)(**arguments)
    return Cohort.open(root, exclude=list(data.exclude))


def assess(run: Run, cohort: Cohort, agreement: StudyOptions | None = None) -> None:
    """Score every out-of-fold prediction of a run, summarize over patients and write the report.

    Args:
        run: A run whose folds are done.
        cohort: The cohort that it was made with.
        agreement: How to compare the predictions with all readers of the cohort, where several outlined it; None
            leaves that out.

    Raises:
        AgreementError: The readers cannot be compared as asked.
        RunError: Predictions are missing, or the run belongs to another cohort.
        SplitError: The cohort is not the one that was split.
    """
    config = run.read_config()
    reader = config.data.reader
    split = Split.read(run.splits, cohort.fingerprint(reader), cohort)
    held_out = _held_out(run, split, cohort)
    _refuse_missing_predictions(run, held_out)
    scorer = _Scorer(cohort, reader, split.unit, _tolerance_mm(config, cohort))
    drawn, rows, baseline_rows = Outlines.of(cohort, reader), [], []
    for fold, members in _by_fold(held_out).items():
        shape = mean_shape(*_training_masks(cohort, split, fold, drawn))
        for case, frames in members:
            target = case.read_mask(reader)
            rows += scorer.rows(case, fold, read_mask(run.prediction(case.case_id)), target, frames)
            image = case.read_image().array
            baselines = {
                "all_background": all_background(target.shape),
                "all_foreground": all_foreground(target.shape),
                "mean_shape": shape.predict(target.shape),
                "largest_component": largest_component(image, per_frame=cohort.domain == "projection"),
            }
            for name, preds in baselines.items():
                baseline_rows += scorer.rows(case, fold, preds, target, frames, baseline=name)
    num_frames = sum(len(frames) for _, _, frames in held_out)
    write_scores(run.scores, rows)
    write_scores(run.baselines, baseline_rows)
    summary, cases = (
        _summary(run, config, cohort, split, rows, baseline_rows, num_frames),
        [case for _, case, _ in held_out],
    )
    if split.unit == "patient":
        kept = run.kept_probabilities(case.case_id for case in cases)
        summary["calibration"] = calibration_part(cases, [reader], kept)
        if not run.domain.is_file():  # of a run older than that file
            write_domain(run.domain, describe(cohort, reader))
        outlines = read_domain(run.domain).outlines
        write_quality(run.quality, quality_of_run(run, cohort, cases, reader, outlines, config.prediction.threshold))
    write_json(run.summary, summary)
    run.agreement.unlink(missing_ok=True)  # it would speak of other scores
    if agreement is not None and split.unit == "patient":
        _agree(run, config, cohort, split, cases, agreement)
    write_report(run.folder, cohort)


def is_assessed_whole(run: Run) -> bool:
    """Whether summary and report are there and speak of all folds."""
    return run.report.is_file() and run.summary.is_file() and bool(read_json(run.summary)["complete"])


def cohort_of(run: Run) -> Cohort:
    """The cohort that a run was made with, where it lay then.

    Raises:
        RunError: It is not there any more.
    """
    folder = read_json(run.environment).get("cohort_folder")
    if folder is None or not Path(folder).is_dir():
        raise RunError(
            f"the cohort of {run.folder} was in {folder}, which is not there; give the training command again where "
            "it is"
        )
    return Cohort.open(folder, exclude=list(run.read_config().data.exclude))


def _agree(
    run: Run, config: DictConfig, cohort: Cohort, split: Split, cases: Sequence[Case], options: StudyOptions
) -> None:
    """Compare the out-of-fold masks with all readers, where two or more readers outlined."""
    if len(choose_readers(cohort, options.readers).readers) < 2:
        return
    network = Network(
        name=config.name,
        how=f"out-of-fold masks of a run; {split.note}",
        masks={case.case_id: run.prediction(case.case_id) for case in cases},
        trained_on=(config.data.reader,),
        probabilities=run.kept_probabilities(case.case_id for case in cases),
        threshold=float(config.prediction.threshold),
    )
    summary = read_json(run.summary)
    reader_study(
        run.folder,
        cohort,
        cases,
        network,
        options,
        mode="run",
        created=options.created or read_json(run.environment).get("finished") or newest_change(network.masks.values()),
        known=_claim_answers(config, summary),
    )


def _claim_answers(config: DictConfig, summary: Mapping[str, Any]) -> dict[int, str]:
    """What a run knows of the items of CLAIM about its network."""
    design = summary["design"]
    folds = f"{design['num_folds']} folds" if design["split"] == "kfold" else "one holdout division"
    fixed, random = (
        ", ".join(str(name) for name in config.transforms.get(kind) or {}) or "none"
        for kind in ("deterministic", "random")
    )
    return {
        9: f"applied to every image: {fixed}",
        19: f"{folds}; {design['split_note']}",
        20: "patient: all images of a patient are on one side",
        22: f"{design['model']}, {design['parameters']:,} parameters",
        25: f"loss {design['loss']}, optimizer {_last_part(config.optimizer)}, augmentation: {random}",
        26: "the epoch with the highest Dice on the validation patients of its fold; no test patient took part",
        27: "none: each patient was segmented by the one network that had not seen the patient",
        32: "every patient was segmented by a network trained without that patient",
    }


class _Scorer:
    """Scores cases of one cohort against one reader."""

    def __init__(self, cohort: Cohort, reader: str, unit: str, tolerance_mm: float | None) -> None:
        self.cohort, self.reader, self.tolerance_mm = cohort, reader, tolerance_mm
        # scattered frames of a volume have no surface, so image-level splits get overlap only
        self.measures_mm = cohort.spacing_known and unit == "patient"

    def rows(
        self, case: Case, fold: int, preds: Mask, target: Mask, frames: Sequence[int], baseline: str = ""
    ) -> list[ScoreRow]:
        """Rows of one case, over the frames that were held out."""
        spacing_mm: SpacingMm | None = case.read_image().spacing_mm if self.measures_mm else None
        chosen = list(frames)
        scores = case_scores(
            preds[chosen],
            target[chosen],
            spacing_mm=spacing_mm,
            domain=self.cohort.domain if self.measures_mm else "projection",
            tolerance_mm=self.tolerance_mm if self.measures_mm else None,
        )
        return score_rows(
            scores, patient_id=case.patient_id, case_id=case.case_id, reader=self.reader, fold=fold, baseline=baseline
        )


def _summary(
    run: Run,
    config: DictConfig,
    cohort: Cohort,
    split: Split,
    rows: Sequence[ScoreRow],
    baseline_rows: Sequence[ScoreRow],
    num_frames: int,
) -> dict[str, Any]:
    done = [fold for fold in range(len(split.folds)) if run.is_fold_done(fold)]
    facts = {fold: read_json(run.fold(fold) / "fold.json") for fold in done}
    environment = read_json(run.environment)
    scored = {row.case_id for row in rows}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "created": environment.get("finished", now()),
        "complete": len(done) == len(split.folds),
        "design": {
            "unit": split.unit,
            "split": split.strategy,
            "num_folds": len(split.folds),
            "n_patients": len({row.patient_id for row in rows}),
            "n_cases": len(scored),
            "n_frames": num_frames,
            "cohort": cohort.name,
            "cohort_patients": len(cohort.patients),
            "reader": config.data.reader,
            "simulated_readers": cohort.simulated_readers,
            "domain": cohort.domain,
            "label": cohort.label,
            "spacing_mm": _common_spacing(cohort),
            "tolerance_mm": _tolerance_mm(config, cohort),
            "leakage_allowed": bool(config.split.allow_leakage),
            "leaks_found": environment.get("leaks", 0),
            "loss": _last_part(config.loss),
            "model": _last_part(config.model),
            "parameters": facts[done[0]]["parameters"],
            "aggregation": AGGREGATION,
            "split_note": split.note,
        },
        "metrics": summarize(rows),
        "folds": [row | facts[row["fold"]] for row in fold_table(rows)]
        if split.unit == "patient"
        else list(facts.values()),
        "baselines": summarize_baselines(baseline_rows, BASELINES),
        "operating": _operating(run, done, config.prediction.threshold),
        "as_published": _as_published(facts),
    }


def _as_published(facts: Mapping[int, Mapping[str, Any]]) -> dict[str, float] | None:
    """What the seed study's way of scoring augmented validation images says, where it was asked for."""
    claims = [fold["as_published"] for fold in facts.values() if "as_published" in fold]
    return {key: float(np.mean([claim[key] for claim in claims])) for key in claims[0]} if claims else None


def _operating(run: Run, folds: Sequence[int], threshold: float) -> dict[str, Any]:
    counts: dict[str, np.ndarray] = {}
    for fold in folds:
        for patient, of_fold in read_operating(run.fold(fold) / "operating.csv"):
            counts[patient] = counts.get(patient, 0) + of_fold.at(threshold)
    at = mean_rates(counts.values())
    return {
        "threshold": threshold,
        "how": "set before training, before any held-out patient was looked at",
        **{name: None if value != value else value for name, value in at.items()},
    }


def _held_out(run: Run, split: Split, cohort: Cohort) -> list[tuple[int, Case, list[int]]]:
    """Each case once, with the frames that the folds that are done held out, and the (first) fold that did."""
    members = []
    for case in cohort.cases:
        done = (fold for fold in range(len(split.folds)) if run.is_fold_done(fold))
        by_fold = {fold: frames for fold in done if (frames := _held_out_frames(split, fold, case))}
        if by_fold:
            members.append((min(by_fold), case, sorted(frame for frames in by_fold.values() for frame in frames)))
    return members


def _held_out_frames(split: Split, fold: int, case: Case) -> list[int]:
    if split.unit == "patient":
        return list(range(case.num_frames())) if split.side_of(fold, case) == "test" else []
    return [frame for frame in range(case.num_frames()) if split.side_of(fold, case, frame) == "test"]


def _by_fold(held_out: Sequence[tuple[int, Case, list[int]]]) -> dict[int, list[tuple[Case, list[int]]]]:
    folds: dict[int, list[tuple[Case, list[int]]]] = defaultdict(list)
    for fold, case, frames in held_out:
        folds[fold].append((case, frames))
    return folds


def _training_masks(cohort: Cohort, split: Split, fold: int, outlines: Outlines) -> tuple[ChosenFrames, list[str]]:
    """Outlines of the training part of a fold; of its training frames only, where images were divided."""
    members: list[tuple[int, Sequence[int]]] = []
    for index, case in enumerate(cohort.cases):
        every = range(outlines.shapes[index][0])
        if split.unit == "patient":
            frames: Sequence[int] = every if split.side_of(fold, case) == "train" else ()
        else:
            frames = [frame for frame in every if split.side_of(fold, case, frame) == "train"]
        if frames:
            members.append((index, frames))
    return ChosenFrames(outlines, members), [cohort.cases[index].patient_id for index, _ in members]


def _refuse_missing_predictions(run: Run, held_out: Sequence[tuple[int, Case, list[int]]]) -> None:
    missing = [case.case_id for _, case, _ in held_out if not run.prediction(case.case_id).is_file()]
    if not held_out:
        raise RunError(f"no fold of {run.folder} is done yet; give the training command again, it goes on")
    if missing:
        raise RunError(
            f"{run.folder} lacks the predictions of {len(missing)} cases:\n{listing(missing)}\n"
            "Remove fold.json of their folds and give the training command again to make them"
        )


def _tolerance_mm(config: DictConfig, cohort: Cohort) -> float | None:
    """Tolerance of the surface Dice: as given, else the larger of 3 mm and half the coarsest in-plane pixel."""
    if not cohort.spacing_known:
        return None
    if config.evaluation.tolerance_mm is not None:
        return float(config.evaluation.tolerance_mm)
    pixels = [spacing for case in cohort.cases for spacing in case.read_image().spacing_mm[1:]]
    return max(MIN_TOLERANCE_MM, max(pixels) / 2)


def _common_spacing(cohort: Cohort) -> list[float] | None:
    """Spacing (z, y, x) in mm that all cases share, else None."""
    spacings = {tuple(round(step, 3) for step in case.read_image().spacing_mm) for case in cohort.cases}
    return list(spacings.pop()) if cohort.spacing_known and len(spacings) == 1 else None


def _last_part(target: DictConfig) -> str:
    return str(target["_target_"]).rpartition(".")[2]
