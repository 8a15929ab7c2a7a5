"""What a run leaves so that predict can judge masks: made from networks that did not learn the case, and no others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cohort_builders import write_tiny_cohort

from mpi_unet.cohort.domain import describe, read_domain
from mpi_unet.cohort.nifti import read_image, read_mask, write_image, write_mask
from mpi_unet.cohort.splits import Split
from mpi_unet.cohort.table import Cohort
from mpi_unet.evaluation.quality import read_quality
from mpi_unet.run import Run
from mpi_unet.run_quality import quality_of_run


@pytest.fixture
def made(tmp_path):
    """A run of three folds that nobody trained: exact masks but for what a test changes; P00 chose the epoch of two."""
    cohort = Cohort.open(write_tiny_cohort(tmp_path / "cohort", 3))
    run = Run(tmp_path / "run")
    for fold, case in enumerate(cohort.cases):
        mask, affine = case.read_mask("truth"), case.read_image().affine
        run.fold(fold).mkdir(parents=True)
        write_mask(run.prediction(case.case_id), mask, affine)
        write_image(run.probability(case.case_id), np.where(mask, 0.8, 0.0).astype(np.float32), affine)
    first = cohort.cases[0]
    for fold in (1, 2):
        write_mask(run.validation_mask(fold, first.case_id), first.read_mask("truth"), first.read_image().affine)
    return cohort, run


def record_of(cohort, run):
    return quality_of_run(run, cohort, cohort.cases, "truth", describe(cohort, "truth").outlines)


def test_each_case_is_judged_by_the_networks_that_did_not_learn_it(made):
    cohort, run = made
    first, second, third = record_of(cohort, run).cases
    assert (first.views[0].dice, first.views[0].agreement, first.spread_pct) == (1.0, 1.0, 0.0)
    assert first.views[0].expected_dice == pytest.approx(2 * 0.8 / 1.8)
    for other in (second, third):
        [view] = other.views
        assert view.dice == other.mean_dice == 1.0
        assert math.isnan(view.agreement)
        assert math.isnan(other.spread_pct)
    assert [case.look.size for case in (first, second)] == [
        pytest.approx(case.read_mask("truth").sum() * 6.4 * 3.2 * 3.2 / 1000) for case in cohort.cases[:2]
    ]


def test_a_second_network_that_sees_another_heart_lowers_the_agreement_and_not_the_dice(made):
    cohort, run = made
    case = cohort.cases[0]
    moved = np.roll(case.read_mask("truth"), 4, axis=2)
    write_mask(run.validation_mask(2, case.case_id), moved, case.read_image().affine)
    first = record_of(cohort, run).cases[0]
    [view] = first.views  # the others left no probabilities
    assert view.dice == first.mean_dice == 1.0
    mask = case.read_mask("truth")
    expected = (1 + 2 * (mask & moved).sum() / (mask.sum() + moved.sum())) / 2
    assert view.agreement == pytest.approx(expected)


def test_the_mean_of_the_networks_that_did_not_learn_a_case_is_scored(made):
    """Two of three networks are right, surely; the third sees the heart elsewhere, and their mean is right."""
    cohort, run = made
    case = cohort.cases[0]
    mask, affine = case.read_mask("truth"), case.read_image().affine
    moved = np.roll(mask, 4, axis=2)
    write_mask(run.validation_mask(2, case.case_id), moved, affine)
    for fold, here in ((1, mask), (2, moved)):
        write_image(run.validation_probability(fold, case.case_id), np.where(here, 0.8, 0.0).astype(np.float32), affine)
    first = record_of(cohort, run).cases[0]
    overlap = 2 * (mask & moved).sum() / (mask.sum() + moved.sum())
    assert [view.dice for view in first.views] == [1.0, 1.0, pytest.approx(overlap)]
    assert first.views[2].agreement == pytest.approx(overlap)
    assert first.mean_dice == 1.0
    strict = quality_of_run(run, cohort, cohort.cases, "truth", describe(cohort, "truth").outlines, threshold=0.6)
    assert strict.cases[0].mean_dice == pytest.approx(2 * (mask & moved).sum() / (mask.sum() + (mask & moved).sum()))


def test_what_cleaning_takes_away_is_counted_and_spoils_no_dice(made):
    cohort, run = made
    case = cohort.cases[1]
    mask = case.read_mask("truth")
    corner = mask.copy()
    corner[:2, :2, :2] = True
    assert not mask[:3, :3, :3].any()
    write_mask(run.prediction(case.case_id), corner, case.read_image().affine)
    second = record_of(cohort, run).cases[1]
    assert second.mean_dice == 1.0
    assert second.removed_pct == pytest.approx(100 * 8 / mask.sum())


def test_a_run_without_probabilities_says_of_how_many_cases(made):
    cohort, run = made
    run.probability(cohort.cases[2].case_id).unlink()
    record = record_of(cohort, run)
    assert record.why_no_dice == "the run kept no probabilities of 1 cases (prediction.probabilities=false)"
    assert math.isnan(record.cases[2].views[0].expected_dice)
    assert record_of(cohort, made[1]).cases[0].views[0].expected_dice > 0


def test_training_leaves_second_opinions_of_validation_patients_only_and_the_record(little_run):
    run, cohort = Run(little_run / "runs/train"), Cohort.open(little_run / "cohort")
    split = Split.read(run.splits)
    for fold, sides in enumerate(split.folds):
        wanted = {case.case_id for case in cohort.cases if case.patient_id in sides.val}
        there = {path.name.removesuffix(".nii.gz") for path in (run.fold(fold) / "validation").iterdir()}
        assert there == wanted
        for case_id in there:
            mask = read_mask(run.validation_mask(fold, case_id))
            assert mask.dtype == bool
            assert ((read_image(run.validation_probability(fold, case_id)).array >= 0.5) == mask).all()
    record = read_quality(run.quality)
    assert [case.case_id for case in record.cases] == [case.case_id for case in cohort.cases]
    assert read_domain(run.domain).outlines.n == len(record.cases)
    validated = {patient for sides in split.folds for patient in sides.val}
    for case in record.cases:
        assert math.isfinite(case.views[0].agreement) == (case.patient_id in validated)
        assert len(case.views) == 1 + sum(case.patient_id in sides.val for sides in split.folds)
