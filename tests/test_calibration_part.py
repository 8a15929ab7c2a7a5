"""Reliability in a study: against torchmetrics and a direct computation, and what is said where nothing was kept."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from doors import open_door
from report_builders import Page, assert_sound, change, make_cohort, make_run
from scipy import ndimage, stats
from test_reader_study import CREATED, write_read_cohort
from torchmetrics.functional.classification import binary_calibration_error

from mpi_unet.agreement import calibration, mean_calibration, patient_calibration
from mpi_unet.agreement.schema import agreement_schema
from mpi_unet.cohort.nifti import write_image, write_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError, CohortError
from mpi_unet.files import read_json
from mpi_unet.reader_study.calibration_part import calibration_part
from mpi_unet.reader_study.masks import network_of
from mpi_unet.reader_study.options import StudyOptions
from mpi_unet.reader_study.study import reader_study
from mpi_unet.report.calibration import calibration_content
from mpi_unet.report.page import write_report


def write_probabilities(cohort: Cohort, folder: Path, seed: int = 0) -> dict[str, Path]:
    """A blurred outline of N with noise, as probabilities."""
    rng = np.random.default_rng(seed)
    files = {}
    for case in cohort.cases:
        blurred = ndimage.gaussian_filter(case.read_mask("N").astype(float), 1.5)
        values = np.clip(blurred + rng.normal(0, 0.05, blurred.shape), 0.001, 0.999).astype(np.float32)
        files[case.case_id] = folder / f"{case.case_id}.nii.gz"
        write_image(files[case.case_id], values, case.read_image().affine)
    return files


def read(file: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(file).dataobj).T


def oracle(p: np.ndarray, mask: np.ndarray, region: np.ndarray) -> float:
    return float(
        binary_calibration_error(torch.tensor(p[region]), torch.tensor(mask[region].astype(int)), n_bins=15, norm="l1")
    )


def test_errors_are_those_of_torchmetrics_averaged_over_readers_cases_and_patients(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 4, ("A", "B", "N"), cases=2)
    files = write_probabilities(cohort, tmp_path / "p")
    part = calibration_part(cohort.cases, ("A", "B"), files)
    expected, brier, shares = {}, {}, []
    for case in cohort.cases:
        p, masks = read(files[case.case_id]), [case.read_mask(reader) for reader in "AB"]
        region = ndimage.binary_dilation(masks[0] | masks[1], iterations=2)
        expected.setdefault(case.patient_id, []).append(np.mean([oracle(p, mask, region) for mask in masks]))
        brier.setdefault(case.patient_id, []).append(np.mean([((p - mask)[region] ** 2).mean() for mask in masks]))
        shares.append(region.mean())
    values = np.array([np.mean(of_patient) for of_patient in expected.values()])
    assert (part["n"], part["n_cases"], part["n_cases_without"]) == (4, 8, 0)
    assert part["ece"]["value"] == pytest.approx(values.mean(), abs=1e-6)
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    assert part["ece"]["interval"]["low"] == pytest.approx(values.mean() - half, abs=1e-6)
    assert part["brier"]["value"] == pytest.approx(np.mean([np.mean(one) for one in brier.values()]))
    assert part["region_share"] == pytest.approx(np.mean(shares))
    assert [one["reader"] for one in part["by_reader"]] == ["A", "B"]
    assert np.mean([one["ece"]["value"] for one in part["by_reader"]]) == pytest.approx(part["ece"]["value"])


def test_curve_averages_patients_and_not_voxels(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 3, ("A", "N"))
    files = write_probabilities(cohort, tmp_path / "p")
    part = calibration_part(cohort.cases, ("A",), files)
    assert part["by_reader"] == []
    row = part["bins"][7]
    shares, counts = [], 0
    for case in cohort.cases:
        p, mask = read(files[case.case_id]), case.read_mask("A")
        inside = ndimage.binary_dilation(mask, iterations=2) & (p >= 7 / 15) & (p < 8 / 15)
        shares.append(mask[inside].mean())
        counts += int(inside.sum())
    assert (row["n"], row["voxels"]) == (3, counts)
    assert row["observed"]["value"] == pytest.approx(np.mean(shares))
    assert row["observed"]["n"] == 3
    assert row["observed"]["interval"]["low"] < np.mean(shares) < row["observed"]["interval"]["high"]


def test_parts_of_a_patient_count_once_each_and_empty_regions_not_at_all():
    everywhere, nowhere = np.ones(4, bool), np.zeros(4, bool)
    right = calibration(np.full(4, 0.9), np.array([True] * 4), everywhere)
    wrong = calibration(np.full(4, 0.9), np.array([False] * 4), everywhere)
    empty = calibration(np.full(4, 0.9), np.array([False] * 4), nowhere)
    both = patient_calibration([right, wrong, empty])
    assert both.estimate == pytest.approx((0.1 + 0.9) / 2)
    assert (both.num_voxels, both.observed_share[13]) == (8, 0.5)
    assert patient_calibration([empty, empty]).num_voxels == 0
    found = mean_calibration([both, right])
    assert found.observed[13].value == pytest.approx(0.75)
    assert found.observed[0] is None
    with pytest.raises(AgreementError, match=r"results have 2, 15 bins, expected one number for all"):
        patient_calibration([right, calibration(np.full(4, 0.9), everywhere, everywhere, num_bins=2)])
    with pytest.raises(AgreementError, match="no bins"):
        patient_calibration([])


def test_without_probabilities_the_remedy_is_said(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 2, ("A", "N"))
    part = calibration_part(cohort.cases, ("A",), {})
    assert (part["available"], part["ece"], part["bins"]) == (False, None, [])
    assert part["why_not"] == "no probabilities were kept; train with prediction.probabilities=true"
    content = calibration_content(part)
    assert (content.chart, content.why_not) == (None, part["why_not"])
    assert "not computed in this analysis" in calibration_content(None).why_not


def test_cases_without_probabilities_are_counted(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 3, ("A", "N"))
    files = write_probabilities(cohort, tmp_path / "p")
    del files["P01_rest"]
    part = calibration_part(cohort.cases, ("A",), files)
    assert (part["n"], part["n_cases"], part["n_cases_without"]) == (2, 2, 1)
    facts = dict(calibration_content(part).facts)
    assert facts["Without probabilities"] == "1 case of those compared, left out here"


def test_files_that_hold_no_probabilities_are_refused_together(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 4, ("A", "N"))
    files = write_probabilities(cohort, tmp_path / "p")
    affine = cohort.cases[0].read_image().affine
    write_image(files["P00_rest"], np.full((6, 32, 32), 1.5, np.float32), affine)
    write_image(files["P01_rest"], np.full((6, 32, 31), 0.5, np.float32), affine)
    files["P02_rest"].write_bytes(b"nothing")
    message = (
        r"(?s)probabilities of 3 of 4 cases cannot be used.*P00_rest: 6144 of 6144 voxels are NaN or outside 0\.\.1"
        r".*P01_rest: .*6x32x31, image is 6x32x32.*P02_rest.*after one sigmoid"
    )
    with pytest.raises(CohortError, match=message):
        calibration_part(cohort.cases, ("A",), files)


def test_readers_who_outlined_nothing_leave_no_region(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 2, ("A", "N"))
    files = write_probabilities(cohort, tmp_path / "p")
    for case in cohort.cases:
        write_mask(case.labels["A"], np.zeros((6, 32, 32), bool), case.read_image().affine)
    part = calibration_part(cohort.cases, ("A",), files)
    assert (part["available"], part["n_cases"]) == (False, 2)
    assert part["why_not"] == "no reader outlined anything, so there is no region to judge"
    assert calibration_part(cohort.cases, ("nobody",), files)["n_cases"] == 0


def test_a_study_holds_the_part_and_fits_the_schema(tmp_path):
    cohort = write_read_cohort(tmp_path / "c", 4, ("A", "B", "N"))
    write_probabilities(cohort, tmp_path / "p")
    network = network_of(cohort, "N", probabilities=str(tmp_path / "p"))
    options = StudyOptions(resamples=1000)
    document = reader_study(
        tmp_path / "out", cohort, cohort.cases, network, options, mode="predictions", created=CREATED
    )
    jsonschema.validate(document, agreement_schema())
    assert document["calibration"]["readers"] == ["A", "B"]
    only = reader_study(tmp_path / "only", cohort, cohort.cases, None, options, mode="readers_only", created=CREATED)
    assert only["calibration"] is None
    with pytest.raises(AgreementError, match=r"labels holds no file of a case.*<run>/probabilities"):
        network_of(cohort, "N", probabilities=str(tmp_path / "c/labels"))
    with pytest.raises(AgreementError, match=r"is no folder.*P00_rest.nii.gz and so on"):
        network_of(cohort, "N", probabilities=str(tmp_path / "nowhere"))


def test_the_page_draws_the_curve_or_says_how_to_get_it(tmp_path, monkeypatch):
    cohort = write_read_cohort(tmp_path / "c", 4, ("A", "B", "N"))
    write_probabilities(cohort, tmp_path / "p")
    words = ["cohort=c", "predictions=c/labels/N", "readers=[A,B]", "bootstrap.draws=1000"]
    for more in (["probabilities=p", "output=with"], ["output=without"]):
        assert open_door("evaluate", *words, *more, folder=tmp_path, monkeypatch=monkeypatch) == 0
    page = Page(tmp_path / "with/report.html")
    assert_sound(page)
    part = read_json(tmp_path / "with/agreement.json")["calibration"]
    assert f"Expected calibration error (ECE) {part['ece']['value']:.3f} (CI" in page.text
    assert (tmp_path / "with/figures/agreement_calibration.svg").is_file()
    assert "union of the readers' outlines of a case and 2 voxels around it" in page.text
    without = Page(tmp_path / "without/report.html")
    assert_sound(without)
    assert "There is no reliability curve: masks alone were compared; give the folder" in without.text


def test_the_page_of_a_run_with_one_reader_shows_the_curve(tmp_path):
    read_cohort = write_read_cohort(tmp_path / "c", 3, ("A", "N"))
    part = calibration_part(read_cohort.cases, ("A",), write_probabilities(read_cohort, tmp_path / "p"))
    cohort = make_cohort(tmp_path / "cohort", 3)
    run = make_run(tmp_path / "run", cohort, 1)
    assert "Do the probabilities mean what they say?" not in Page(write_report(run, cohort)).text
    change(run, lambda summary: summary.update(calibration=part))
    page = Page(write_report(run, cohort))
    assert_sound(page)
    assert "Do the probabilities mean what they say?" in page.text
    assert "the reader's outline of a case and 2 voxels around it" in page.text
    assert (run / "figures/calibration.svg").is_file()
