"""The PhysioNet set: pairs by identifier, one grid, patients by their published number; what is wrong, all at once."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from mpi_unet.cohort.table import Cohort
from mpi_unet.dicom.geometry import Orbit, SliceStack
from mpi_unet.dicom.nm import read_nm
from mpi_unet.dicom.nm_writing import SyntheticIdentity, recon_tomo, tomo, write_dicom
from mpi_unet.errors import CohortError
from mpi_unet.sources.physionet import physionet_cohort

SHAPE = (6, 10, 12)
X0_MM, Y0_MM, Z0_MM = 75.449335, 175.603938, 553.5
STACK = SliceStack((-X0_MM, -Y0_MM, Z0_MM), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (4.0, 4.0), -4.0)
PATIENT = "14598440778643695758600949107475327"
REAL = Path(os.environ.get("MPI_UNET_TEST_DATA", "")) / "physionet"
needs_real = pytest.mark.skipif(
    not os.environ.get("MPI_UNET_TEST_DATA"), reason="MPI_UNET_TEST_DATA does not name the folder of real files"
)


def wall() -> np.ndarray:
    """A mask (z, y, x) without any symmetry."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:5, 2:6, 3:9] = True
    mask[2:4, 3:5, 4:6] = False
    mask[1, 2, 3:6] = False
    return mask


def write_pair(root: Path, number: int, patient: str, *, day: str = "20230115", mask: np.ndarray | None = None) -> str:
    """One study in the published form; its identifier is returned. The image is brightest where the mask is."""
    volume = np.random.default_rng(number).integers(0, 9, SHAPE) + 100 * wall()
    dataset = recon_tomo(volume, stack=STACK, identity=SyntheticIdentity(f"1-{number}"))
    dataset.PatientID, dataset.StudyDate = patient, day
    uid = str(dataset.SOPInstanceUID)
    write_dicom(dataset, root / "DICOM" / f"{uid}.dcm")
    write_published_mask(root / "NIfTI" / f"{uid}_mask.nii.gz", wall() if mask is None else mask)
    return uid


def write_published_mask(path: Path, mask: np.ndarray, shift_mm: float = 0.0) -> None:
    """As published: int16, axes (x, y, z), a negative step along each of them."""
    affine = np.diag([-4.0, -4.0, -4.0, 1.0])
    affine[:3, 3] = X0_MM + shift_mm, Y0_MM, Z0_MM
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask.astype(np.int16).transpose(2, 1, 0), affine), path)


def write_set(root: Path, num_patients: int = 2) -> list[str]:
    return [write_pair(root, number, f"{PATIENT}{number:04d}") for number in range(num_patients)]


def write_demographics(root: Path, rows: Sequence[dict[str, str]]) -> None:
    with open(root / "demographics.csv", "w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def account(cohort: Path) -> dict:
    return json.loads((cohort / "preparation.json").read_text())


# --- The cohort -------------------------------------------------------------------------------------------------------


def test_pairs_become_cases_on_one_grid(tmp_path):
    uids = write_set(tmp_path / "set")
    cohort = Cohort.open(physionet_cohort(tmp_path / "set", tmp_path / "cohort"))
    cohort.check("physionet")
    assert [case.case_id for case in cohort.cases] == ["P4753270000_rest", "P4753270001_rest"]
    assert [case.strata["source_uid"] for case in cohort.cases] == uids
    assert (cohort.domain, cohort.label, cohort.spacing_known) == ("transaxial", "lv_wall", True)
    assert cohort.metadata["intensities"] == "rescaled, no counts"
    assert cohort.metadata["licence"] == "CC BY 4.0, doi:10.13026/ce2z-dw74"
    for case in cohort.cases:
        volume, mask = case.read_image(), case.read_mask("physionet")
        np.testing.assert_array_equal(mask, wall())
        np.testing.assert_array_equal(volume.array >= 100, mask)
        np.testing.assert_allclose(volume.affine[:3, 3], (X0_MM, Y0_MM, Z0_MM), atol=1e-4)
        np.testing.assert_allclose(np.diag(volume.affine), (-4, -4, -4, 1))


def test_order_of_the_files_plays_no_role(tmp_path):
    """An image without a mask sorts before the others: by order every pair would be wrong."""
    write_set(tmp_path / "set", 3)
    masks = sorted((tmp_path / "set/NIfTI").iterdir())
    masks[0].unlink()
    cohort = Cohort.open(physionet_cohort(tmp_path / "set", tmp_path / "cohort"))
    assert len(cohort.cases) == 2
    assert account(cohort.root)["left_out"] == {"image without a mask": 1}
    assert account(cohort.root)["unpaired"]["images"] == [masks[0].name.removesuffix("_mask.nii.gz")]


def test_studies_of_one_patient_are_numbered_by_date(tmp_path):
    late = write_pair(tmp_path / "set", 1, PATIENT, day="20240301")
    early = write_pair(tmp_path / "set", 2, PATIENT, day="20230301")
    cohort = Cohort.open(physionet_cohort(tmp_path / "set", tmp_path / "cohort"))
    assert {case.strata["source_uid"]: case.case_id for case in cohort.cases} == {
        early: "P9107475327_rest",
        late: "P9107475327_rest_2",
    }
    assert cohort.patients == ("P9107475327",)


def test_other_counts_than_the_published_are_told(tmp_path):
    write_set(tmp_path / "set")
    warnings = account(physionet_cohort(tmp_path / "set", tmp_path / "cohort"))["warnings"]
    for text in (
        "2 images instead of the published 103",
        "2 masks instead of",
        "2 patients instead of the published 83",
    ):
        assert any(text in warning for warning in warnings)


def test_published_counts_are_not_remarkable(tmp_path, monkeypatch):
    monkeypatch.setattr("mpi_unet.sources.physionet.PUBLISHED", {"images": 3, "masks": 2, "patients": 3})
    uids = write_set(tmp_path / "set", 3)
    (tmp_path / f"set/NIfTI/{uids[0]}_mask.nii.gz").unlink()
    warnings = account(physionet_cohort(tmp_path / "set", tmp_path / "cohort"))["warnings"]
    assert warnings == ["demographics.csv is missing; sex, age and body mass index stay unknown"]


def test_root_may_be_one_level_down(tmp_path):
    write_set(tmp_path / "download/myocardial-perfusion-spect-1.0.0")
    (tmp_path / "download/__MACOSX").mkdir()
    assert len(Cohort.open(physionet_cohort(tmp_path / "download", tmp_path / "cohort")).cases) == 2


def test_demographics_describe_patients(tmp_path):
    write_set(tmp_path / "set")
    rows = [
        {"Patient_ID": f"{PATIENT}0000", "Sex": "F", "Age": "61", "BMI": ""},
        {"Patient_ID": f"{PATIENT}0001", "Sex": "M", "Age": "70", "BMI": "24.1"},
        {"Patient_ID": f"{PATIENT}0001", "Sex": "M", "Age": "71", "BMI": "24.1"},
    ]
    write_demographics(tmp_path / "set", rows)
    cases = Cohort.open(physionet_cohort(tmp_path / "set", tmp_path / "cohort")).cases
    described = [{key: case.strata[key] for key in ("sex", "age_years", "bmi")} for case in cases]
    assert described == [{"sex": "F", "age_years": "61", "bmi": ""}, {"sex": "M", "age_years": "", "bmi": "24.1"}]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"record": "1", "sex": "F"}], r"has no patient_id \(found: record, sex\)"),
        ([{"patient_id": f"{PATIENT}0000", "sex": "F"}], "has no row for 1 patients"),
        (
            [{"patient_id": f"{PATIENT}0000", "gender": "F"}],
            r"no column age or age_years \(found: gender, pat",
        ),
        ([{"patient_id": f"{PATIENT}0000", "sex": sex} for sex in "FM"], "gives 1 patients two sexes"),
    ],
)
def test_demographics_that_say_less_are_told(tmp_path, rows, said):
    write_set(tmp_path / "set")
    write_demographics(tmp_path / "set", rows)
    warnings = account(physionet_cohort(tmp_path / "set", tmp_path / "cohort"))["warnings"]
    assert re.search(said, "\n".join(warnings))


def test_same_files_are_not_prepared_twice(tmp_path):
    write_set(tmp_path / "set")
    cohort = physionet_cohort(tmp_path / "set", tmp_path / "cohort")
    made = (cohort / "cohort.json").stat().st_mtime_ns
    assert physionet_cohort(tmp_path / "set", tmp_path / "cohort") == cohort
    assert (cohort / "cohort.json").stat().st_mtime_ns == made
    write_pair(tmp_path / "set", 9, f"{PATIENT}0009")
    physionet_cohort(tmp_path / "set", tmp_path / "cohort")
    assert len(Cohort.open(cohort).cases) == 3


def test_excluded_pairs_are_left(tmp_path):
    uids = write_set(tmp_path / "set")
    cohort = physionet_cohort(tmp_path / "set", tmp_path / "cohort", exclude=[uids[0]])
    assert [case.strata["source_uid"] for case in Cohort.open(cohort).cases] == [uids[1]]
    assert account(cohort)["left_out"] == {"excluded by the user": 1}


# --- What is wrong ----------------------------------------------------------------------------------------------------


def test_nothing_paired_names_every_file(tmp_path):
    uids = write_set(tmp_path / "set", 2)
    (tmp_path / f"set/NIfTI/{uids[0]}_mask.nii.gz").rename(tmp_path / "set/NIfTI/1.2.3_mask.nii.gz")
    (tmp_path / f"set/NIfTI/{uids[1]}_mask.nii.gz").unlink()
    with pytest.raises(CohortError, match=r"no pair is left .*2 images, 1 masks") as error:
        physionet_cohort(tmp_path / "set", tmp_path / "cohort")
    for name in (f"DICOM/{uids[0]}.dcm: has no mask", f"DICOM/{uids[1]}.dcm", "NIfTI/1.2.3_mask.nii.gz: has no image"):
        assert name in str(error.value)
    assert not (tmp_path / "cohort").exists()


def test_everything_wrong_is_said_at_once(tmp_path):
    root = tmp_path / "set"
    shifted, empty, short, gray, good = (write_pair(root, n, f"{PATIENT}000{n}") for n in range(5))
    masks = {uid: root / f"NIfTI/{uid}_mask.nii.gz" for uid in (shifted, empty, short, gray)}
    write_published_mask(masks[shifted], wall(), shift_mm=4.0)
    write_published_mask(masks[empty], np.zeros(SHAPE))
    write_published_mask(masks[short], wall()[:5])
    write_published_mask(masks[gray], wall() * 7)
    with pytest.raises(CohortError, match="4 things keep the pairs") as error:
        physionet_cohort(root, tmp_path / "cohort")
    text = str(error.value)
    assert f"{shifted}_mask.nii.gz: lies up to 4 mm from its image; expected one grid" in text
    assert f"{empty}_mask.nii.gz: is empty" in text
    assert f"{short}_mask.nii.gz: is 5x10x12 (z, y, x), its image 6x10x12" in text
    assert f"{gray}_mask.nii.gz: label holds the values 0, 7" in text
    assert good not in text
    assert "source.exclude" in text
    assert not (tmp_path / "cohort").exists()


def test_headers_that_do_not_fit(tmp_path):
    root = tmp_path / "set"
    renamed, named, cut = (write_pair(root, n, f"{PATIENT}000{n}") for n in range(3))
    other = pydicom.dcmread(root / f"DICOM/{renamed}.dcm")
    other.SOPInstanceUID = "1.2.3.4"
    other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    write_dicom(other, root / f"DICOM/{renamed}.dcm")
    person = pydicom.dcmread(root / f"DICOM/{named}.dcm")
    person.PatientID = "DOE-1"
    write_dicom(person, root / f"DICOM/{named}.dcm")
    (root / f"DICOM/{cut}.dcm").write_bytes(b"not a DICOM file")
    with pytest.raises(CohortError, match="3 things") as error:
        physionet_cohort(root, tmp_path / "cohort")
    text = str(error.value)
    assert f"{renamed}.dcm: holds the SOPInstanceUID 1.2.3.4; expected that of its name" in text
    assert f"{named}.dcm: PatientID is not a number" in text
    assert "DOE" not in text
    assert f"{cut}.dcm: cannot be read" in text


def test_projections_are_no_volume(tmp_path):
    orbit = Orbit(first_angle_deg=225.0, arc_deg=180.0, num_views=6, radius_mm=250.0)
    root = tmp_path / "set"
    uid = write_pair(root, 0, PATIENT)
    views = tomo(np.ones((6, 10, 12), int), spacing_mm=(4.0, 4.0), orbit=orbit, identity=SyntheticIdentity("1"))
    views.SOPInstanceUID, views.PatientID = uid, PATIENT
    write_dicom(views, root / f"DICOM/{uid}.dcm")
    with pytest.raises(CohortError, match="is TOMO; expected a RECON TOMO with its place in the patient"):
        physionet_cohort(root, tmp_path / "cohort")


def test_two_people_with_the_same_ending(tmp_path):
    write_pair(tmp_path / "set", 0, "111" + PATIENT)
    write_pair(tmp_path / "set", 1, "222" + PATIENT)
    with pytest.raises(
        CohortError, match="P9107475327: stands for 2 different PatientIDs with the same last 10 digits"
    ):
        physionet_cohort(tmp_path / "set", tmp_path / "cohort")


def test_folders_that_are_not_the_set(tmp_path):
    with pytest.raises(CohortError, match="is no folder; give the folder of the PhysioNet download"):
        physionet_cohort(tmp_path / "nowhere", tmp_path / "cohort")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"expected the folders DICOM and NIfTI .* found no such folder; give"):
        physionet_cohort(tmp_path / "empty", tmp_path / "cohort")
    for name in ("a", "b"):
        write_set(tmp_path / "two" / name, 1)
    with pytest.raises(CohortError, match="found a, b; give the folder that holds both"):
        physionet_cohort(tmp_path / "two", tmp_path / "cohort")


def test_arguments_that_cannot_be_used(tmp_path):
    write_set(tmp_path / "set")
    with pytest.raises(CohortError, match=r"exclude names what is not in .*\n  9\.9\.9\n.*without \.dcm"):
        physionet_cohort(tmp_path / "set", tmp_path / "cohort", exclude=["9.9.9"])
    with pytest.raises(CohortError, match="reader='team 1'; expected a name of letters, digits and _"):
        physionet_cohort(tmp_path / "set", tmp_path / "cohort", reader="team 1")
    with pytest.raises(CohortError, match="lie in one another"):
        physionet_cohort(tmp_path / "set", tmp_path / "set/cohort")


# --- The real files ---------------------------------------------------------------------------------------------------


@needs_real
def test_real_unpaired_files_are_all_named(tmp_path):
    with pytest.raises(CohortError, match=r"no pair is left .*3 images, 3 masks") as error:
        physionet_cohort(REAL, tmp_path / "cohort")
    names = [path.name for folder in ("DICOM", "NIfTI") for path in (REAL / folder).iterdir()]
    assert len(names) == 6
    assert all(name in str(error.value) for name in names)


@needs_real
def test_real_images_and_masks_share_the_geometry_of_the_set():
    """They are of different patients, but of one camera: x0 + y0 is the same 251.05 mm in all six."""
    images = [read_nm(path).affine_ras for path in (REAL / "DICOM").iterdir()]
    masks = [nib.load(path).affine for path in (REAL / "NIfTI").iterdir()]
    for affine in images + masks:
        np.testing.assert_allclose(affine[:3, :3], np.diag([-4.0, -4.0, -4.0]), atol=1e-6)
        assert affine[0, 3] + affine[1, 3] == pytest.approx(251.05, abs=0.01)


@needs_real
def test_real_image_with_a_mask_on_its_grid(tmp_path):
    """A real image beside a mask in the published form, made for it: the real header goes all the way."""
    source = next((REAL / "DICOM").iterdir())
    (tmp_path / "set/DICOM").mkdir(parents=True)
    (tmp_path / "set/DICOM" / source.name).write_bytes(source.read_bytes())
    image = read_nm(source)
    mask = np.zeros((50, 70, 70), dtype=bool)
    mask[20:30, 30:40, 25:35] = True
    (tmp_path / "set/NIfTI").mkdir()
    target = tmp_path / "set/NIfTI" / source.name.replace(".dcm", "_mask.nii.gz")
    nib.save(nib.Nifti1Image(mask.astype(np.int16).transpose(2, 1, 0), image.affine_ras), target)
    cohort = Cohort.open(physionet_cohort(tmp_path / "set", tmp_path / "cohort"))
    cohort.check("physionet")
    assert cohort.cases[0].camera == "GE MEDICAL SYSTEMS UFC"
    assert cohort.cases[0].read_image().array.max() == 32767
