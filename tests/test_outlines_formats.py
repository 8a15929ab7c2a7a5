"""Outlines of other programs find their voxels: structure sets, segmentations, label maps, LabelMe and COCO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from outlines_builders import (
    SHAPE,
    circle,
    circle_lps,
    disc_mask,
    stack,
    write_coco,
    write_labelme,
    write_segmentation,
    write_slicer_nrrd,
    write_structures,
    write_turned_nifti,
    write_unread_cohort,
)

from mpi_unet.cohort.table import Cohort
from mpi_unet.dicom.contours import Contour, contours_mask
from mpi_unet.dicom.geometry import SliceStack, lps_from_ras
from mpi_unet.dicom.identity import Pseudonyms
from mpi_unet.dicom.nm_writing import SyntheticIdentity, recon_tomo
from mpi_unet.sources.outlines import outlines_cohort

PLANE = SHAPE[1:]
STEPS_MM = (6.0, -6.0)
BY_NAME = {"pattern": r"(?P<case_id>P\d_\w+?)(_(?P<read>\d))?\.\w+(\.gz)?", "reader": "A"}


def mask_read(tmp_path: Path, source: Path, base: Path, **options) -> np.ndarray:
    output = outlines_cohort(source, tmp_path / "read", cohort=base, **({"label": "lv_filled"} | options))
    mask: np.ndarray = Cohort.open(output).case("P1_rest").read_mask("A")
    return mask


def marker(geometry: SliceStack) -> tuple[int, np.ndarray, float, np.ndarray]:
    """Slice, center and radius of a disc in the patient, and its voxels by their distance from the center alone."""
    affine_ras = lps_from_ras(geometry.affine_lps)
    center = (geometry.affine_lps @ (11.3, 6.8, 4.0, 1.0))[:3]
    return 4, center, 15.2, disc_mask(affine_ras, SHAPE, 4, center, 15.2)


# --- DICOM structure sets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_mm", STEPS_MM)
def test_disc_at_a_known_place_of_the_patient_by_a_structure_set(tmp_path: Path, step_mm: float):
    geometry = stack(step_mm)
    frame, center, radius, truth = marker(geometry)
    base = write_unread_cohort(tmp_path / "base", affine_ras=lps_from_ras(geometry.affine_lps))
    hole = disc_mask(lps_from_ras(geometry.affine_lps), SHAPE, frame, center, 6.1)
    contours = [("LV", circle_lps(center, size, geometry), "") for size in (radius, 6.1)]
    path = write_structures(tmp_path / "P1_rest.dcm", contours)
    mask = mask_read(tmp_path, path, base, **BY_NAME)
    np.testing.assert_array_equal(mask, truth & ~hole)
    assert truth.sum() > 45


def test_structure_set_finds_its_case_by_the_image_it_refers_to(tmp_path: Path):
    key_file = tmp_path / "key"
    pseudonyms = Pseudonyms.from_key_file(key_file)
    columns = {case: {"source_uid": pseudonyms.uid(f"1.2.3.{case[1]}")} for case in ("P1_rest", "P2_rest")}
    geometry = stack(6.0)
    _, center, radius, truth = marker(geometry)
    base = write_unread_cohort(tmp_path / "base", columns=columns)
    contours = [("LV A", circle_lps(center, radius, geometry), "1.2.3.1"), ("patient outline", np.eye(3), "1.2.3.1")]
    path = write_structures(tmp_path / "set.dcm", contours)
    mask = mask_read(tmp_path, path, base, key_file=key_file, structure="LV (?P<reader>[AB])")
    np.testing.assert_array_equal(mask, truth)


def test_gates_made_from_one_image_are_told_apart_by_the_file_name(tmp_path: Path):
    key_file = tmp_path / "key"
    uid = Pseudonyms.from_key_file(key_file).uid("1.2.3")
    columns = {f"P1_rest_g{gate}": {"source_uid": uid, "gate": str(gate)} for gate in (1, 2)}
    geometry = stack(6.0)
    _, center, radius, truth = marker(geometry)
    base = write_unread_cohort(tmp_path / "base", tuple(columns), columns=columns)
    path = write_structures(tmp_path / "in/gate02.dcm", [("LV", circle_lps(center, radius, geometry), "1.2.3")])
    options = {"cohort": base, "label": "lv_filled", "reader": "A", "key_file": key_file}
    output = outlines_cohort(path, tmp_path / "read", pattern=r"gate(?P<gate>\d+)\.dcm", **options)
    first, second = Cohort.open(output).cases
    assert not first.labels
    np.testing.assert_array_equal(second.read_mask("A"), truth)


# --- DICOM segmentations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_mm", STEPS_MM)
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_disc_at_a_known_place_of_the_patient_by_a_segmentation(tmp_path: Path, step_mm: float, kind: str):
    geometry = stack(step_mm)
    frame, _, _, truth = marker(geometry)
    truth[frame - 1, 3:9, 2:17] = True
    image = recon_tomo(np.ones(SHAPE), stack=geometry, identity=SyntheticIdentity("1-0001", "rest", "F", 1.7, 70.0))
    key_file = tmp_path / "key"
    uid = Pseudonyms.from_key_file(key_file).uid(image.SOPInstanceUID)
    base = write_unread_cohort(
        tmp_path / "base",
        affine_ras=lps_from_ras(geometry.affine_lps),
        columns={"P1_rest": {"source_uid": uid}, "P2_rest": {"source_uid": "2.25.1"}},
    )
    other = np.zeros(SHAPE, dtype=bool)
    other[0, 0, 0] = True
    path = write_segmentation(tmp_path / "a.dcm", image, geometry, {"LV": truth, "other": other}, kind)
    mask = mask_read(tmp_path, path, base, key_file=key_file, reader="A", structure="LV")
    np.testing.assert_array_equal(mask, truth)


# --- Label maps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["RAS", "RPI", "LPS", "PSR", "ILA", "SRP"])
@pytest.mark.parametrize("step_mm", STEPS_MM)
def test_label_map_with_turned_axes_comes_back(tmp_path: Path, axes: str, step_mm: float):
    affine = lps_from_ras(stack(step_mm).affine_lps)
    truth = np.random.default_rng(1).random(SHAPE) > 0.7
    base = write_unread_cohort(tmp_path / "base", affine_ras=affine)
    path = write_turned_nifti(tmp_path / "P1_rest.nii.gz", truth, affine, axes)
    np.testing.assert_array_equal(mask_read(tmp_path, path, base, **BY_NAME), truth)


def test_wall_of_two_values_of_a_label_map(tmp_path: Path):
    affine = lps_from_ras(stack(6.0).affine_lps)
    values = np.zeros(SHAPE, dtype=np.int16)
    values[2, 3:12, 3:12], values[2, 6:9, 6:9] = 1, 2
    base = write_unread_cohort(tmp_path / "base")
    path = write_turned_nifti(tmp_path / "P1_rest.nii", values, affine, "RAS")
    mask = mask_read(tmp_path, path, base, label="lv_filled", structure="1|2", **BY_NAME)
    np.testing.assert_array_equal(mask, values > 0)


@pytest.mark.parametrize("step_mm", STEPS_MM)
def test_slicer_segments_in_layers_cut_to_what_was_drawn(tmp_path: Path, step_mm: float):
    affine = lps_from_ras(stack(step_mm).affine_lps)
    layers = np.zeros((2, *SHAPE), dtype=np.uint8)
    layers[0, 2:4, 3:12, 3:12], layers[1, 2:4, 6:9, 6:9] = 1, 1
    segments = {"epicardium": (0, 1), "endocardium": (1, 1)}
    base = write_unread_cohort(tmp_path / "base", affine_ras=affine)
    path = write_slicer_nrrd(tmp_path / "P1_rest.seg.nrrd", layers, affine, segments)
    options = {"label": "lv_wall", "structure": "epicardium", "minus": "endocardium", "reader": "A"}
    mask = mask_read(tmp_path, path, base, pattern=r"(?P<case_id>\w+)\.seg\.nrrd", **options)
    np.testing.assert_array_equal(mask, (layers[0] > 0) & (layers[1] == 0))


def test_label_of_projections_goes_by_the_order_of_the_voxels(tmp_path: Path):
    """The place of views means nothing, whatever a program writes into the label's header."""
    base = write_unread_cohort(tmp_path / "base", domain="projection", affine_ras=np.diag([6.8, 6.8, 1.0, 1.0]))
    truth = np.random.default_rng(1).random(SHAPE) > 0.7
    path = write_turned_nifti(tmp_path / "P1_rest.nii.gz", truth, np.diag([-6.8, -6.8, 1.0, 1.0]), "LPS")
    np.testing.assert_array_equal(mask_read(tmp_path, path, base, **BY_NAME), truth)


# --- LabelMe and COCO -------------------------------------------------------------------------------------------------


def test_labelme_files_of_two_reads(tmp_path: Path):
    base = write_unread_cohort(tmp_path / "base")
    outer, inner = circle((7, 9), 5.3), circle((7, 9), 2.6)
    write_labelme(tmp_path / "in/A/1/P1_rest_02.json", [("LV", outer), ("LV", inner)])
    write_labelme(tmp_path / "in/A/1/P1_rest_03.json", [("LV", outer)])
    write_labelme(tmp_path / "in/A/2/P1_rest_02.json", [("LV", inner)])
    pattern = r"(?P<reader>\w+)/(?P<read>\d)/(?P<case>P\d_rest)_(?P<frame>\d+)\.json"
    output = outlines_cohort(tmp_path / "in", tmp_path / "read", cohort=base, label="lv_filled", pattern=pattern)
    cohort = Cohort.open(output)
    assert cohort.repeat_reads == {"A2": "A"}
    expected = np.zeros(SHAPE, dtype=bool)
    expected[2] = contours_mask([Contour(outer), Contour(inner)], PLANE)
    expected[3] = contours_mask([Contour(outer)], PLANE)
    np.testing.assert_array_equal(cohort.cases[0].read_mask("A"), expected)
    assert cohort.cases[0].read_mask("A2")[2].sum() == contours_mask([Contour(inner)], PLANE).sum()


def test_coco_polygons_and_run_lengths_in_one_file(tmp_path: Path):
    base = write_unread_cohort(tmp_path / "base")
    outer, inner = circle((7, 9), 5.3), circle((7, 9), 2.6)
    square = np.zeros(PLANE, dtype=bool)
    square[3:8, 10:15] = True
    flat = square.T.ravel()
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]])))
    lengths = np.diff([0, *changes, flat.size]).tolist()
    annotations = [
        ("slices/P1_rest_001.png", "LV", [outer, inner]),
        ("slices/P1_rest_004.png", "LV", {"size": list(PLANE), "counts": lengths}),
        ("slices/P1_rest_004.png", "liver", [circle((12, 4), 3)]),
    ]
    path = write_coco(tmp_path / "a.json", annotations)
    options = {"pattern": r"(?P<case>P\d_\w+)_(?P<frame>\d+)\.png", "structure": "LV", "reader": "A"}
    mask = mask_read(tmp_path, path, base, first_frame=1, **options)
    expected = np.zeros(SHAPE, dtype=bool)
    expected[0] = contours_mask([Contour(outer), Contour(inner)], PLANE)
    expected[3] = square
    np.testing.assert_array_equal(mask, expected)
