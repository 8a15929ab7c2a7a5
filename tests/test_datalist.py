"""MONAI datalists in and out."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cohort_builders import write_tiny_cohort
from doors import open_door

from mpi_unet.cohort.splits import kfold_split
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, SplitError
from mpi_unet.sources.datalist import datalist_cohort, write_datalist
from mpi_unet.sources.interchange import fold_of_patients


def assert_same_cases(first: Cohort, second: Cohort) -> None:
    assert [case.case_id for case in second.cases] == [case.case_id for case in first.cases]
    for one, other in zip(first.cases, second.cases, strict=True):
        assert other.patient_id == one.patient_id
        assert (other.acquisition, other.strata["sex"]) == (one.acquisition, one.strata["sex"])
        np.testing.assert_array_equal(other.read_image().array, one.read_image().array)
        np.testing.assert_array_equal(other.read_image().affine, one.read_image().affine)
        assert sorted(other.labels) == sorted(one.labels)
        for reader in one.labels:
            np.testing.assert_array_equal(other.read_mask(reader), one.read_mask(reader))


def edit(path: Path, change) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("domain", ["short_axis", "projection"])
def test_cohort_to_datalist_and_back(tmp_path: Path, domain: str):
    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 4, readers=("A", "B"), cases_per_patient=2, domain=domain))
    path = write_datalist(base, tmp_path / "list", reader="B")
    again = Cohort.open(datalist_cohort(path, tmp_path / "again"))
    assert_same_cases(base, again)
    assert (again.readers, again.label, again.domain) == (("A", "B"), base.label, domain)
    assert (again.simulated_readers, again.spacing_known) == (True, True)
    again.check("B")
    stamp = (again.root / "cohort.json").stat().st_mtime_ns
    datalist_cohort(path, tmp_path / "again")
    assert (again.root / "cohort.json").stat().st_mtime_ns == stamp


def test_monai_reads_what_is_written(tmp_path: Path):
    from monai.data import load_decathlon_datalist

    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 4, readers=("A",)))
    split = kfold_split(base, num_folds=2, val_fraction=0.3, seed=1)
    path = write_datalist(base, tmp_path / "list", split=split)
    entries = load_decathlon_datalist(str(path), is_segmentation=True, data_list_key="training")
    assert [entry["case_id"] for entry in entries] == [case.case_id for case in base.cases]
    for entry, case in zip(entries, base.cases, strict=True):
        assert case.patient_id in split.folds[entry["fold"]].test
        image, label = (np.asarray(nib.load(entry[key]).dataobj).T for key in ("image", "label"))
        np.testing.assert_array_equal(image, case.read_image().array)
        np.testing.assert_array_equal(label > 0, case.read_mask("A"))
    again = Cohort.open(datalist_cohort(path, tmp_path / "again"))
    assert {case.patient_id: int(case.strata["fold"]) for case in again.cases} == fold_of_patients(split)


def test_a_list_of_somebody_else(tmp_path: Path):
    base = write_tiny_cohort(tmp_path / "base", 3)
    images = [f"images/P{n:02d}_rest.nii.gz" for n in range(3)]
    content = {
        "training": [
            {"image": f"./{path}", "label": f"labels/truth/{Path(path).name}", "fold": 0} for path in images[:2]
        ],
        "testing": [images[2]],
    }
    (base / "task.json").write_text(json.dumps(content))
    options = {"domain": "short_axis", "label": "lv_wall"}
    output = datalist_cohort(base / "task.json", tmp_path / "again", **options)
    cohort = Cohort.open(output)
    assert cohort.readers == ("expert",)
    assert [case.strata["section"] for case in cohort.cases] == ["training", "training", "testing"]
    assert [case.patient_id for case in cohort.cases] == ["P00_rest", "P01_rest", "P02_rest"]
    notes = json.loads((output / "preparation.json").read_text())["warnings"]
    assert "nothing says whose 3 of 3 cases are, so each counts as a patient of its own" in notes[0]
    assert notes[1] == "expert outlined 2 of 3 cases"
    pattern = r"(?P<patient>P\d\d)_.+"
    known = Cohort.open(datalist_cohort(base / "task.json", tmp_path / "known", patient_pattern=pattern, **options))
    assert known.patients == ("P00", "P01", "P02")
    (tmp_path / "patients.csv").write_text("case_id,patient_id\nP00_rest,X\nP01_rest,X\nP02_rest,Y\n")
    table = tmp_path / "patients.csv"
    listed = Cohort.open(datalist_cohort(base / "task.json", tmp_path / "listed", patients=table, **options))
    assert listed.patients == ("X", "Y")


def test_paths_that_lead_out(tmp_path: Path):
    base = write_tiny_cohort(tmp_path / "base", 2)
    (tmp_path / "list").mkdir()
    outside = [{"image": str(base / "images/P00_rest.nii.gz")}, {"image": "../base/images/P01_rest.nii.gz"}]
    path = tmp_path / "list/task.json"
    path.write_text(json.dumps({"training": outside}))
    with pytest.raises(CohortError) as caught:
        datalist_cohort(path, tmp_path / "again", domain="short_axis")
    assert "training[0]: '/" in str(caught.value)
    assert "training[1]: '../base/images/P01_rest.nii.gz' leads out of the folder of the datalist" in str(caught.value)
    assert "source.allow_outside=true" in str(caught.value)
    allowed = Cohort.open(datalist_cohort(path, tmp_path / "again", domain="short_axis", allow_outside=True))
    assert len(allowed.cases) == 2


def test_lists_that_cannot_be_used(tmp_path: Path):
    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 2))
    path = write_datalist(base, tmp_path / "list")

    def spoil(content):
        content["training"][0]["image"] = ["a.nii.gz", "b.nii.gz"]
        content["training"][1]["image"] = "images/gone.nii.gz"
        content["training"].append({"label": "labels/truth/P00_rest.nii.gz"})

    edit(path, spoil)
    with pytest.raises(CohortError) as caught:
        datalist_cohort(path, tmp_path / "again")
    assert "training[0]: image: several files or no path; expected one file, of one channel" in str(caught.value)
    assert "training[2]: names no image; expected a path" in str(caught.value)
    edit(path, lambda content: content.update(training=content["training"][1:2]))
    with pytest.raises(CohortError, match=r"training\[0\]: image file is missing"):
        datalist_cohort(path, tmp_path / "again")
    (tmp_path / "list/none.json").write_text("[]")
    with pytest.raises(
        CohortError, match=r"holds 2 JSON files \(datalist\.json, none\.json\); give the datalist itself"
    ):
        datalist_cohort(tmp_path / "list", tmp_path / "again")
    with pytest.raises(CohortError, match=r"none\.json has none of the sections training, validation, testing"):
        datalist_cohort(tmp_path / "list/none.json", tmp_path / "again")


def test_patients_that_nobody_lists_and_folds_by_image(tmp_path: Path):
    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 4))
    path = edit(write_datalist(base, tmp_path / "list"), lambda c: [entry.pop("patient_id") for entry in c["training"]])
    (tmp_path / "patients.csv").write_text("case_id,patient_id\nP00_rest,X\n")
    with pytest.raises(CohortError, match=r"P01_rest: source\.patients does not list it; did you mean 'P00_rest'"):
        datalist_cohort(path, tmp_path / "again", patients=tmp_path / "patients.csv")
    with pytest.raises(CohortError, match=r"source\.patient_pattern='\(\?P<patient>Q\.\+\)' does not fit it"):
        datalist_cohort(path, tmp_path / "again", patient_pattern="(?P<patient>Q.+)")
    split = kfold_split(base, num_folds=2, val_fraction=0.3, seed=1, unit="image")
    with pytest.raises(SplitError, match=r"split by image; other programs get folds by patient only"):
        write_datalist(base, tmp_path / "other", split=split)


def test_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    base = write_tiny_cohort(tmp_path / "base", 2, readers=("A", "B"))
    words = (f"cohort={base}", "format=datalist", "output=list")
    assert open_door("export", *words, folder=tmp_path, monkeypatch=monkeypatch) == 2
    assert (
        "the cohort has the readers A, B; say with reader=<name> whose outlines are the labels"
        in capsys.readouterr().err
    )
    assert open_door("export", *words, "reader=B", folder=tmp_path, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == ["2 cases of 2 patients", "list/datalist.json"]
    assert open_door("export", *words, "reader=B", "exclude=[P00_rest]", folder=tmp_path, monkeypatch=monkeypatch) == 0
    assert len(json.loads((tmp_path / "list/datalist.json").read_text())["training"]) == 1
    assert open_door("export", *words[:2], f"output={base}", "reader=B", folder=tmp_path, monkeypatch=monkeypatch) == 2
    assert "holds something that format=datalist did not make and will not replace" in capsys.readouterr().err
    assert open_door("export", words[0], "format=nnunett", "output=x", folder=tmp_path, monkeypatch=monkeypatch) == 2
    assert "nnunet | slicer; did you mean 'nnunet'?" in capsys.readouterr().err
    assert open_door("export", "format=nnunet", "output=x", folder=tmp_path, monkeypatch=monkeypatch) == 2
    assert "cohort must be given: add cohort=<cohort>, or run=<run>" in capsys.readouterr().err
