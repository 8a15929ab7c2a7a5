"""nnU-Net raw data sets in and out."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cohort_builders import write_tiny_cohort
from doors import open_door
from test_datalist import assert_same_cases

from mpi_unet.cohort.splits import kfold_split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError
from mpi_unet.files import write_json, write_text
from mpi_unet.run import Run
from mpi_unet.sources.nnunet import nnunet_cohort, write_nnunet


@pytest.mark.parametrize("domain", ["short_axis", "projection"])
def test_cohort_to_nnunet_and_back(tmp_path: Path, domain: str):
    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 4, readers=("A",), cases_per_patient=2, domain=domain))
    folder = write_nnunet(base, tmp_path / "raw", dataset_id=7)
    assert folder == tmp_path / "raw/Dataset007_Tiny"
    content = json.loads((folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "lv_wall": 1}
    assert (content["numTraining"], content["file_ending"], content["channel_names"]) == (8, ".nii.gz", {"0": "SPECT"})
    again = Cohort.open(nnunet_cohort(folder, tmp_path / "again"))
    assert_same_cases(base, again)
    assert (again.domain, again.label, again.readers, again.spacing_known) == (domain, "lv_wall", ("A",), True)
    again.check("A")


def test_folds_of_a_run_by_patient(tmp_path: Path):
    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 6, readers=("A",), cases_per_patient=2))
    split = kfold_split(base, num_folds=3, val_fraction=0.3, seed=1)
    folder = write_nnunet(base, tmp_path / "Dataset501_LV", split=split)
    assert folder == tmp_path / "Dataset501_LV"
    splits = json.loads((folder / "splits_final.json").read_text())
    for fold, sides in zip(split.folds, splits, strict=True):
        assert {case_id[:3] for case_id in sides["val"]} == set(fold.test)
        assert not {case_id[:3] for case_id in sides["val"]} & {case_id[:3] for case_id in sides["train"]}
        assert len(sides["val"]) + len(sides["train"]) == 12
    again = Cohort.open(nnunet_cohort(folder, tmp_path / "again"))
    assert all(case.patient_id in split.folds[int(case.strata["fold"])].test for case in again.cases)


def test_cases_without_outline_are_for_testing(tmp_path: Path):
    from cohort_builders import edit_row

    root = write_tiny_cohort(tmp_path / "base", 3, readers=("A", "B"))
    edit_row(root, 1, label_A="")
    folder = write_nnunet(Cohort.open(root), tmp_path / "raw", reader="A")
    assert sorted(path.name for path in folder.glob("images*/*")) == [
        "P00_rest_0000.nii.gz",
        "P01_rest_0000.nii.gz",
        "P02_rest_0000.nii.gz",
    ]
    assert [path.name for path in (folder / "imagesTs").iterdir()] == ["P01_rest_0000.nii.gz"]
    again = Cohort.open(nnunet_cohort(folder, tmp_path / "again"))
    assert [case.strata["section"] for case in again.cases] == ["training", "training", "testing"]
    assert [tuple(case.labels) for case in again.cases] == [("A",), ("A",), ()]


def foreign(tmp_path: Path, **content) -> Path:
    """A data set of somebody else: two channels, two structures, NRRD."""
    import SimpleITK

    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 2))
    folder = tmp_path / "Dataset042_Heart"
    for case in base.cases:
        image, mask = case.read_image(), case.read_mask("truth")
        values = mask.astype(np.uint8)
        values[0, 0, 0] = 2
        for part, name, array in (
            ("imagesTr", f"{case.case_id}_0000", image.array * 0),
            ("imagesTr", f"{case.case_id}_0001", image.array),
            ("labelsTr", case.case_id, values),
        ):
            stored = SimpleITK.GetImageFromArray(array)
            stored.SetSpacing([3.2, 3.2, 6.4])
            (folder / part).mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(stored, str(folder / part / f"{name}.nrrd"))
    told = {"channel_names": {"0": "CT", "1": "SPECT"}, "labels": {"background": 0, "LV": 1, "RV": 2}}
    told |= {"numTraining": 2, "file_ending": ".nrrd"}
    (folder / "dataset.json").write_text(json.dumps(told | content))
    return folder


OPTIONS = {"domain": "short_axis", "label": "lv_wall", "patient_pattern": r"(?P<patient>P\d+)_.*"}


def test_data_set_of_somebody_else(tmp_path: Path):
    folder = foreign(tmp_path)
    output = nnunet_cohort(folder, tmp_path / "again", channel=1, foreground=1, reader="A", **OPTIONS)
    cohort, base = Cohort.open(output), Cohort.open(tmp_path / "base")
    assert (cohort.patients, cohort.name) == (("P00", "P01"), "Dataset042_Heart")
    for case, before in zip(cohort.cases, base.cases, strict=True):
        np.testing.assert_array_equal(case.read_image().array, before.read_image().array)
        expected = before.read_mask("truth")
        expected[0, 0, 0] = False
        np.testing.assert_array_equal(case.read_mask("A"), expected)
    notes = json.loads((output / "preparation.json").read_text())["warnings"]
    channels, directions = notes
    assert channels == "the images have 2 channels; channel 1 was taken"
    assert directions.startswith("2 of 2 images say that their slices lie straight across the body")


def test_data_sets_that_cannot_be_used(tmp_path: Path):
    folder = foreign(tmp_path)
    with pytest.raises(CohortError, match=r"has the labels LV = 1, RV = 2; say with source\.foreground=<value>"):
        nnunet_cohort(folder, tmp_path / "again", **OPTIONS)
    with pytest.raises(CohortError, match=r"has no dataset\.json; give the folder .*; it holds Dataset042_Heart"):
        nnunet_cohort(tmp_path, tmp_path / "again", **OPTIONS)
    (folder / "labelsTr/P00_rest.nrrd").rename(folder / "labelsTr/P09_rest.nrrd")
    (folder / "imagesTr/P05.nrrd").write_bytes(b"")
    (folder / "splits_final.json").write_text("{}x")
    with pytest.raises(CohortError) as caught:
        nnunet_cohort(folder, tmp_path / "again", channel=2, foreground=1, **OPTIONS)
    for expected in (
        "labelsTr/P00_rest.nrrd: is missing",
        "labelsTr/P09_rest.nrrd: has no image in imagesTr",
        "imagesTr/P05.nrrd: has no channel; expected <case>_0000.nrrd",
        "splits_final.json cannot be read",
    ):
        assert expected in str(caught.value)
    for key, value, text in (
        ("labels", ["LV"], "has no mapping 'labels'"),
        ("file_ending", ".png", r"file_ending is '\.png'; expected one of \.nii"),
        ("file_ending", None, "has no 'file_ending'; data sets of nnU-Net 1 have to be converted"),
    ):
        spoilt = foreign(tmp_path / str(value), **{key: value})
        with pytest.raises(CohortError, match=text):
            nnunet_cohort(spoilt, tmp_path / "again", foreground=1, **OPTIONS)


def test_missing_channel_is_named(tmp_path: Path):
    with pytest.raises(CohortError, match=r"imagesTr/P00_rest_0003\.nrrd: image file is missing"):
        nnunet_cohort(foreign(tmp_path), tmp_path / "again", channel=3, foreground=1, **OPTIONS)


def test_cohorts_that_cannot_be_exported(tmp_path: Path):
    from outlines_builders import write_unread_cohort

    unread = Cohort.open(write_unread_cohort(tmp_path / "unread"))
    with pytest.raises(CohortError, match=r"nobody outlined anything in .*unread; nnU-Net needs labels"):
        write_nnunet(unread, tmp_path / "raw")
    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 2, readers=("A", "B")))
    with pytest.raises(CohortError, match=r"reader=C: readers of the cohort are A, B"):
        write_nnunet(base, tmp_path / "raw", reader="C")
    with pytest.raises(CohortError, match=r"dataset_id=1000; expected 1 to 999"):
        write_nnunet(base, tmp_path / "raw", reader="A", dataset_id=1000)


def test_door_with_the_folds_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 4, readers=("A", "B")))
    split = kfold_split(base, num_folds=2, val_fraction=0.3, seed=1, fingerprint=base.fingerprint("B"))
    run = Run(tmp_path / "run")
    split.write(run.splits)
    write_text(run.config, "data: {reader: B, exclude: []}")
    write_json(run.environment, {"cohort_folder": str(base.root)})
    words = (f"run={run.folder}", "format=nnunet", "output=raw", "dataset_id=3")
    assert open_door("export", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "raw/Dataset003_Tiny"
    splits = json.loads((tmp_path / "raw/Dataset003_Tiny/splits_final.json").read_text())
    assert [{case_id[:3] for case_id in fold["val"]} for fold in splits] == [set(fold.test) for fold in split.folds]
    label = nib.load(tmp_path / "raw/Dataset003_Tiny/labelsTr/P00_rest.nii.gz")
    np.testing.assert_array_equal(np.asarray(label.dataobj).T > 0, base.cases[0].read_mask("B"))
