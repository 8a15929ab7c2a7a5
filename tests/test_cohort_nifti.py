"""NIfTI reading and writing; oracles: nibabel for geometry on disk, SimpleITK for where a voxel lies."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from mpi_unet.cohort.nifti import (
    affine_from_spacing,
    num_frames,
    quoted_values,
    read_image,
    read_mask,
    read_stored,
    write_image,
    write_mask,
)
from mpi_unet.errors import CohortError, RunError

AFFINE = np.array([[-3.0, 0.0, 0.0, 90.0], [0.0, -3.2, 0.0, 80.0], [0.0, 0.0, 6.4, -20.0], [0.0, 0.0, 0.0, 1.0]])


def an_image(shape: tuple[int, int, int] = (3, 5, 7)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_image_and_geometry_come_back(tmp_path: Path):
    path = tmp_path / "a.nii.gz"
    write_image(path, an_image(), AFFINE)
    volume = read_image(path)
    np.testing.assert_array_equal(volume.array, an_image())
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.spacing_mm == pytest.approx((6.4, 3.2, 3.0))
    assert volume.array.dtype == np.float32
    assert num_frames(path) == 3


def test_axes_on_disk_are_x_y_z(tmp_path: Path):
    path = tmp_path / "a.nii.gz"
    write_image(path, an_image(), AFFINE)
    file = nib.load(path)
    assert file.shape == (7, 5, 3)
    assert file.header.get_zooms() == pytest.approx((3.0, 3.2, 6.4))
    assert nib.aff2axcodes(file.affine) == ("L", "P", "S")
    assert np.asanyarray(file.dataobj)[4, 2, 1] == an_image()[1, 2, 4]


def test_simpleitk_sees_the_same_voxel_at_the_same_place(tmp_path: Path):
    path = tmp_path / "a.nii.gz"
    write_image(path, an_image(), AFFINE)
    image = SimpleITK.ReadImage(str(path))  # LPS: x and y with the opposite sign of RAS
    index = (4, 2, 1)
    ras = (AFFINE @ np.array([*index, 1.0]))[:3]
    assert image.TransformIndexToPhysicalPoint(index) == pytest.approx((-ras[0], -ras[1], ras[2]))
    assert image.GetPixel(*index) == an_image()[1, 2, 4]
    assert SimpleITK.GetArrayFromImage(image).tolist() == an_image().tolist()


def test_projections_have_no_orientation_and_no_distance_between_views(tmp_path: Path):
    path = tmp_path / "a.nii.gz"
    write_image(path, an_image(), affine_from_spacing((99.0, 6.8, 6.4)), is_distance_z=False)
    header = nib.load(path).header
    assert int(header["qform_code"]) == int(header["sform_code"]) == 0
    assert header.get_zooms() == pytest.approx((6.4, 6.8, 1.0))
    volume = read_image(path)
    assert volume.spacing_mm == pytest.approx((1.0, 6.8, 6.4))
    np.testing.assert_allclose(volume.affine, affine_from_spacing((1.0, 6.8, 6.4)), rtol=1e-6)
    assert not read_stored(path).is_placed


def test_equal_pixels_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_image(tmp_path / "a.nii.gz", an_image(), AFFINE)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    write_image(tmp_path / "b.nii.gz", an_image(), AFFINE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii"])
def test_masks_are_stored_as_bytes_of_0_and_1(tmp_path: Path, name: str):
    mask = an_image() > 50
    write_mask(tmp_path / name, mask, AFFINE)
    file = nib.load(tmp_path / name)
    assert file.get_data_dtype() == np.uint8
    assert set(np.unique(np.asanyarray(file.dataobj))) == {0, 1}
    np.testing.assert_array_equal(read_mask(tmp_path / name), mask)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_masks_of_other_programs_are_read(tmp_path: Path, dtype: type):
    nib.save(nib.Nifti1Image((an_image().T > 50).astype(dtype), AFFINE), tmp_path / "m.nii")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii"), an_image() > 50)


def test_scaled_integers_are_read_as_their_values(tmp_path: Path):
    image = nib.Nifti1Image(an_image().T.astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "a.nii")
    expected = nib.load(tmp_path / "a.nii").get_fdata().T
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").array, expected)


def test_mask_of_other_values_is_refused_with_the_values(tmp_path: Path):
    nib.save(nib.Nifti1Image(np.array([[[0, 1, 2, 255]]], dtype=np.uint8), AFFINE), tmp_path / "m.nii")
    with pytest.raises(CohortError, match=r"m\.nii: label holds the values 0, 1, 2, 255; expected 0 outside and 1"):
        read_mask(tmp_path / "m.nii")


def test_nan_is_no_mask(tmp_path: Path):
    nib.save(nib.Nifti1Image(np.array([[[0, 1, np.nan]]], dtype=np.float32), AFFINE), tmp_path / "m.nii")
    with pytest.raises(CohortError, match="label holds the values 0, 1, nan"):
        read_mask(tmp_path / "m.nii")


def test_many_values_are_counted_rather_than_listed():
    assert quoted_values(np.arange(100)) == "the values 0, 1, 2, 3, 4, 5, ... (100 different values)"
    assert quoted_values(np.zeros(3)) == "the value 0 only"


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float64])
def test_a_gzipped_file_that_is_unpacked_at_once_reads_as_nibabel_reads_it(tmp_path: Path, dtype: type):
    values = np.random.default_rng(3).integers(0, 200, (3, 4, 5)).astype(dtype)
    file = nib.Nifti1Image(values, np.diag([-3.0, 2.0, 4.0, 1.0]))
    file.header.set_slope_inter(0.5, 2.0)
    for name in ("a.nii.gz", "a.nii"):
        nib.save(file, tmp_path / name)
    packed, plain = (read_stored(tmp_path / name) for name in ("a.nii.gz", "a.nii"))
    assert np.array_equal(packed.values, plain.values)
    assert packed.values.dtype == plain.values.dtype
    assert np.array_equal(packed.values, np.asanyarray(nib.load(tmp_path / "a.nii.gz").dataobj).T)
    assert np.array_equal(packed.affine, plain.affine)


def test_missing_file(tmp_path: Path):
    with pytest.raises(CohortError, match=r"none\.nii\.gz: file is missing"):
        read_image(tmp_path / "none.nii.gz")


@pytest.mark.parametrize(
    "content", [b"", b"not a NIfTI file", gzip.compress(b"not a NIfTI file"), b"\x1f\x8b broken"], ids=range(4)
)
def test_file_that_is_no_nifti(tmp_path: Path, content: bytes):
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(CohortError, match=r"a\.nii\.gz: cannot be read .*; expected a NIfTI file"):
        read_image(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_file_that_is_cut_off(tmp_path: Path, name: str):
    write_image(tmp_path / name, an_image((9, 20, 20)), AFFINE)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(CohortError, match=f"{name}: cannot be read"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2)])
def test_other_than_three_axes(tmp_path: Path, shape: tuple[int, ...]):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(CohortError, match=f"shape is {'x'.join(map(str, shape))}; expected three axes"):
        read_image(tmp_path / "a.nii")


def test_complex_values(tmp_path: Path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.complex64), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(CohortError, match="holds complex64 values; expected real numbers"):
        read_image(tmp_path / "a.nii")


def test_other_format_under_a_wrong_name(tmp_path: Path):
    nib.save(nib.MGHImage(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / "a.mgz")
    with pytest.raises(CohortError, match="is no NIfTI file"):
        read_image(tmp_path / "a.mgz")


def test_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.nii.gz", an_image(), AFFINE)
