"""What must not disappear: patients without a prediction, infinite distances, volumes of 0."""

from __future__ import annotations

import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from cohort_builders import label_path
from report_builders import Page, assert_sound
from test_reader_study import dice, study, write_read_cohort

from mpi_unet.agreement.schema import agreement_schema
from mpi_unet.cohort.nifti import write_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.report.agreement import write_agreement_report


def folder_without(cohort: Cohort, folder: Path, *missing: str) -> Path:
    shutil.copytree(cohort.root / "labels/N", folder)
    for case_id in missing:
        (folder / f"{case_id}.nii.gz").unlink()
    return folder


def test_missing_predictions_count_as_failures_in_the_worst_case(tmp_path):
    """P01 has no prediction at all, P02 one of two: 0 in those cases, averaged within the patient."""
    cohort = write_read_cohort(tmp_path / "c", 6, cases=2)
    folder = folder_without(cohort, tmp_path / "masks", "P01_rest", "P01_stress", "P02_rest")
    document = study(cohort, str(folder), tmp_path / "out", readers=("A", "B"), allow_missing=True)
    jsonschema.validate(document, agreement_schema())
    assert document["agreement"]["dice"]["delta"]["n"] == 5, "the primary analysis has who was predicted"
    d = {}
    for case in cohort.cases:
        masks = {reader: case.read_mask(reader) for reader in "ABN"}
        there = (folder / f"{case.case_id}.nii.gz").is_file()
        p0 = np.mean([dice(masks["N"], masks[reader]) for reader in "AB"]) if there else 0.0
        d.setdefault(case.patient_id, []).append(p0 - dice(masks["A"], masks["B"]))
    row = next(row for row in document["sensitivity"] if row["what"] == "missing predictions counted as 0")
    assert row["delta"]["value"] == pytest.approx(np.mean([np.mean(one) for one in d.values()]))
    assert row["delta"]["n"] == 6
    assert row["note"].startswith("2 of 6 patients have cases without a prediction")
    worst = document["failures"]["with_missing"]
    assert (worst["patients"], worst["k"], worst["n"]) == (2, document["failures"]["k"] + 2, 6)
    [*_, last] = document["conclusion"]["sentences"]
    assert "; counting 2 patients without a prediction, wholly or in part, as a Dice of 0 there, in 2 of 6" in last
    page = Page(write_agreement_report(tmp_path / "out", cohort, predictions=folder))
    assert_sound(page)
    assert (
        "2 patients had no prediction, wholly or in part. With a score of 0 there, 2 of 6 patients count" in page.text
    )
    assert "missing predictions counted as 0" in page.text


def test_missing_predictions_of_one_reader_too(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 4)
    folder = folder_without(cohort, tmp_path / "masks", "P03_rest")
    document = study(cohort, str(folder), tmp_path / "out", readers=("A",), allow_missing=True)
    assert document["failures"]["with_missing"]["k"] == document["failures"]["k"] + 1
    assert "counting 1 patient without a prediction" in document["conclusion"]["text"]


def test_without_missing_predictions_nothing_is_added(tmp_path):
    document = study(write_read_cohort(tmp_path / "c", 4), "N", tmp_path / "out")
    assert document["failures"]["with_missing"] is None
    assert "without a prediction" not in document["conclusion"]["text"]
    assert document["volume"]["pairs"][0]["why_no_percent"] == ""


def test_infinite_distances_and_volumes_of_zero_are_said(tmp_path):
    """One reader found no heart: a volume of 0, and no finite distance to anybody."""
    cohort = write_read_cohort(tmp_path / "c", 4)
    case = cohort.cases[2]
    write_mask(label_path(cohort.root, case.case_id, "B"), np.zeros((6, 32, 32), bool), case.read_image().affine)
    document = study(cohort, "N", tmp_path / "out", readers=("A", "B"))
    jsonschema.validate(document, agreement_schema())
    assert (
        "(1 infinite distance left out, where one of two outlines is empty)" in document["design"]["tolerance_source"]
    )
    pair = next(pair for pair in document["volume"]["pairs"] if (pair["a"], pair["b"]) == ("network", "B"))
    assert pair["tost"] is None
    assert pair["why_no_percent"].startswith("0 in 1 of 4 by B, of which no percentage can be taken")
    page = Page(write_agreement_report(tmp_path / "out", cohort, predictions="N"))
    assert_sound(page)
    assert "network minus B: 0 in 1 of 4 by B, of which no percentage can be taken" in page.text
    assert "1 infinite distance left out" in page.text
