"""Outlines for 3D Slicer and ITK-SNAP, and back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import image_path, write_tiny_cohort
from doors import open_door

from mpi_unet.cohort.nifti import read_image, read_stored, write_image, write_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError
from mpi_unet.sources.outlines import outlines_cohort
from mpi_unet.sources.viewers import label_description, write_itksnap, write_segments, write_slicer

TURNED = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3
"""An orthonormal basis, as the axes of a heart are one."""
OBLIQUE = np.eye(4)
OBLIQUE[:3] = np.column_stack((TURNED * (3.2, 3.2, 6.4), (28.0, -175.0, 65.0)))
"""Of a short-axis image in the patient, as RAS."""


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Three patients, readers A and B, images that lie obliquely in the patient."""
    root = write_tiny_cohort(tmp_path / "base", 3, readers=("A", "B"))
    for case in Cohort.open(root).cases:
        image = read_image(case.image).array
        masks = {path: case.read_mask(reader) for reader, path in case.labels.items()}
        write_image(case.image, image, OBLIQUE)
        for path, mask in masks.items():
            write_mask(path, mask, OBLIQUE)
    return Cohort.open(root)


def read_back(output: Path, cohort: Cohort, read: Path, **options: str) -> Cohort:
    return Cohort.open(outlines_cohort(output, read, cohort=cohort.root, label="lv_wall", **options))


def test_slicer_segmentations_come_back_reader_by_reader(cohort: Cohort, tmp_path: Path):
    output = write_slicer(cohort, tmp_path / "slicer")
    pattern = r"(?P<case_id>\w+)\.seg\.nrrd"
    for reader in "AB":
        options = {"pattern": pattern, "structure": reader, "reader": f"again{reader}"}
        again = read_back(output / "segmentations", cohort, tmp_path / f"read{reader}", **options)
        for case, before in zip(again.cases, cohort.cases, strict=True):
            np.testing.assert_array_equal(case.read_mask(f"again{reader}"), before.read_mask(reader))


def test_a_segmentation_lies_where_its_image_lies(cohort: Cohort, tmp_path: Path):
    """Oracle: SimpleITK, for the image and for the segmentation."""
    import SimpleITK

    output = write_slicer(cohort, tmp_path / "slicer", predictions=cohort.root / "labels/A")
    case = cohort.cases[1]
    image = SimpleITK.ReadImage(str(output / f"images/{case.case_id}.nii.gz"))
    shown = SimpleITK.ReadImage(str(output / f"segmentations/{case.case_id}.seg.nrrd"))
    for axis in np.ndindex(2, 2, 2):
        index = [int(step) * (size - 1) for step, size in zip(axis, image.GetSize(), strict=True)]
        np.testing.assert_allclose(
            shown.TransformIndexToPhysicalPoint(index), image.TransformIndexToPhysicalPoint(index), atol=1e-3
        )
    assert [shown.GetMetaData(f"Segment{number}_Name") for number in range(3)] == ["A", "B", "network"]
    assert len({shown.GetMetaData(f"Segment{number}_Color") for number in range(3)}) == 3
    layers = SimpleITK.GetArrayFromImage(shown)
    for layer, reader in enumerate("ABA"):
        np.testing.assert_array_equal(layers[..., layer] == 1, case.read_mask(reader))


def test_a_single_segment_is_a_plain_volume(tmp_path: Path):
    import SimpleITK

    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    write_segments(tmp_path / "one.seg.nrrd", {"LV": mask}, OBLIQUE)
    image = SimpleITK.ReadImage(str(tmp_path / "one.seg.nrrd"))
    assert image.GetNumberOfComponentsPerPixel() == 1
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image) == 1, mask)


def test_label_maps_of_itksnap_come_back_by_their_values(cohort: Cohort, tmp_path: Path):
    output = write_itksnap(cohort, tmp_path / "snap", predictions=cohort.root / "labels/A")
    described = (output / "labels.txt").read_text()
    assert described.splitlines()[1] == "# ITK-SnAP Label Description File"  # without, a dropped file is no description
    rows = re.findall(r'^ +(\d+) .*"(.+)"$', described, re.MULTILINE)
    assert rows == [("0", "Clear Label"), ("1", "lv_wall A"), ("2", "lv_wall B"), ("3", "lv_wall network")]
    for value, reader in enumerate(("A", "B", "network"), start=1):
        file = read_stored(output / f"labels/{reader}/P00_rest.nii.gz")
        assert set(np.unique(file.values)) == {0, value}
        np.testing.assert_allclose(file.affine, OBLIQUE, atol=1e-4)
    options = {"pattern": r"(?P<case_id>\w+)\.nii\.gz", "structure": "2", "reader": "again"}
    again = read_back(output / "labels/B", cohort, tmp_path / "read", **options)
    for case, before in zip(again.cases, cohort.cases, strict=True):
        np.testing.assert_array_equal(case.read_mask("again"), before.read_mask("B"))


def test_projections_come_back_by_the_order_of_their_voxels(tmp_path: Path):
    base = Cohort.open(write_tiny_cohort(tmp_path / "base", 2, domain="projection"))
    write_slicer(base, tmp_path / "slicer")
    pattern = r"(?P<case_id>\w+)\.seg\.nrrd"
    again = read_back(tmp_path / "slicer/segmentations", base, tmp_path / "read", pattern=pattern, reader="S")
    np.testing.assert_array_equal(again.cases[1].read_mask("S"), base.cases[1].read_mask("truth"))
    write_itksnap(base, tmp_path / "snap")
    assert not read_stored(tmp_path / "snap/labels/truth/P00_rest.nii.gz").is_placed


def test_masks_that_cannot_be_shown(cohort: Cohort, tmp_path: Path):
    with pytest.raises(CohortError, match=r"predictions=\S+there is no folder; give the folder of masks"):
        write_slicer(cohort, tmp_path / "out", predictions=tmp_path / "there")
    for case_id in ("P00_rest", "P02_rest"):
        write_mask(tmp_path / f"masks/{case_id}.nii.gz", np.ones((2, 3, 4), bool), OBLIQUE)
    with pytest.raises(CohortError) as caught:
        write_itksnap(cohort, tmp_path / "out", predictions=tmp_path / "masks")
    text = str(caught.value)
    assert "P00_rest: the mask is 2x3x4, its image 4x32x32 (z, y, x)" in text
    assert "P02_rest" in text
    assert not (tmp_path / "out").exists()
    named = Cohort.open(write_tiny_cohort(tmp_path / "named", 1, readers=("network",)))
    with pytest.raises(CohortError, match=r"a reader of the cohort is called network"):
        write_slicer(named, tmp_path / "out", predictions=tmp_path / "masks")
    unread = Cohort.open(write_tiny_cohort(tmp_path / "unread", 1, readers=(), label=""))
    with pytest.raises(CohortError, match=r"there is nothing to show: nobody outlined anything .* no predictions"):
        write_slicer(unread, tmp_path / "out")


def test_label_descriptions_begin_again_with_the_colors():
    lines = label_description([f"r{number}" for number in range(8)]).splitlines()
    assert lines[4].split()[1:4] == lines[11].split()[1:4] == ["230", "159", "0"]


def test_door(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    words = ["cohort=base", "output=slicer", "format=slicer", "exclude=[P01_rest]"]
    assert open_door("export", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == ["2 cases of 2 patients", "slicer"]
    assert sorted(path.name for path in (tmp_path / "slicer/images").iterdir()) == [
        image_path(cohort.root, case_id).name for case_id in ("P00_rest", "P02_rest")
    ]
    words = ["cohort=base", "output=snap", "format=itksnap", "predictions=base/labels/A"]
    assert open_door("export", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    assert (tmp_path / "snap/labels/network/P01_rest.nii.gz").is_file()
