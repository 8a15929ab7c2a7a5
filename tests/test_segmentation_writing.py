"""Segmentations of every geometry, read by programs that are not ours, against the words of the standard."""

from __future__ import annotations

import builtins
import copy
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from derived_builders import MAKER, complaints, origin, put, reread, shells, written
from nm_builders import (
    HOT,
    NUM_GATES,
    PIXEL_MM,
    PLACES,
    SHAPE,
    STEP_MM,
    VOLUMES,
    changed,
    lps_of,
    marked_gated_volume,
    marked_volume,
    needs_test_data,
    projections,
    real,
    short_axis,
    without,
    without_geometry,
)
from pydicom.dataset import Dataset

from mpi_unet.dicom.geometry import SliceStack, lps_from_ras
from mpi_unet.dicom.nm import read_nm
from mpi_unet.dicom.segmentation import read_segments
from mpi_unet.dicom.segmentation_writing import segmentations
from mpi_unet.errors import DicomError

highdicom = pytest.importorskip("highdicom", reason="needs highdicom: pip install 'mpi_unet[dicom]'")

NEAR_MM = 1e-3


def places_lps(stack: SliceStack, mask: np.ndarray) -> np.ndarray:
    """Centers of the voxels of a mask, one by one, by the words of the standard."""
    return np.array([lps_of(stack, tuple(index)) for index in np.argwhere(mask)])


@cache
def made(name: str) -> tuple[Dataset, SliceStack, dict[str, np.ndarray], tuple[Dataset, ...]]:
    image, stack = VOLUMES[name]()
    where = origin(image)
    masks = shells(where.image.num_gates)
    return image, stack, masks, segmentations(where, masks, MAKER)


@pytest.mark.parametrize("name", VOLUMES)
def test_a_segmentation_lies_where_the_standard_puts_its_voxels(name: str, tmp_path: Path) -> None:
    _, stack, masks, objects = made(name)
    assert len(objects) == len(masks["lv_wall"])
    for gate, path in enumerate(written(objects, tmp_path)):
        segmentation = highdicom.seg.segread(path)
        for number, (label, mask) in enumerate(masks.items(), start=1):
            volume = segmentation.get_volume(segment_numbers=[number], allow_missing_positions=True)
            inside = np.argwhere(volume.array[..., 0] > 0)
            assert segmentation.get_segment_description(number).segment_label == label
            found = volume.map_indices_to_reference(inside)
            expected = places_lps(stack, mask[gate])
            assert len(found) == len(expected)
            assert np.linalg.norm(found.mean(axis=0) - expected.mean(axis=0)) < NEAR_MM
            order = [np.lexsort(np.round(points, 2).T) for points in (found, expected)]
            assert np.abs(found[order[0]] - expected[order[1]]).max() < NEAR_MM


@pytest.mark.parametrize("name", VOLUMES)
def test_frames_refer_to_the_frames_of_the_file_that_show_the_same(name: str) -> None:
    """The marker is one voxel; it must be hot in the very frame of the file that the segmentation refers to."""
    image, _ = VOLUMES[name]()
    where = origin(image)
    marker = np.zeros((where.image.num_gates, *SHAPE), dtype=bool)
    for gate, place in enumerate(PLACES[: len(marker)]):
        marker[(gate, *(round(number) for number in place))] = True
    pixels = image.pixel_array.reshape(-1, *SHAPE[1:])
    for segmentation in segmentations(where, {"lv_wall": marker}, MAKER):
        (frame,) = segmentation.PerFrameFunctionalGroupsSequence
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        hottest = pixels[int(source.ReferencedFrameNumber) - 1]
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        shown = segmentation.pixel_array.reshape(SHAPE[1:]) > 0
        assert hottest[shown] == hottest.max() == pixels.max()
        assert shown.sum() == 1


@pytest.mark.parametrize("name", VOLUMES)
def test_dicom3tools_finds_no_error(name: str, tmp_path: Path) -> None:
    image, _, _, objects = made(name)
    paths = written(objects, tmp_path / "new")
    assert [complaint for path in paths for complaint in complaints(path)] == []
    assert complaints(put(image, tmp_path / "source.dcm"), *paths, program="dcentvfy") == []


def test_dicom3tools_would_find_an_error(tmp_path: Path) -> None:
    segmentation = copy.deepcopy(made("short axis")[-1][0])
    del segmentation.SegmentSequence[0].SegmentLabel
    assert any("SegmentLabel" in line for line in complaints(*written([segmentation], tmp_path)))


@pytest.mark.parametrize("step_mm", [STEP_MM, -STEP_MM])
def test_an_itk_program_sees_the_same_places(step_mm: float, tmp_path: Path) -> None:
    program = shutil.which("segimage2itkimage")
    if program is None:
        pytest.skip("needs dcmqi: pip install dcmqi, its programs on the PATH")
    import SimpleITK

    stack = short_axis(step_mm)
    masks = shells(1)
    (path,) = written(segmentations(origin(marked_volume(stack)), masks, MAKER), tmp_path)
    command = [program, "--inputDICOM", str(path), "--outputDirectory", str(tmp_path), "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for number, mask in enumerate(masks.values(), start=1):
        image = SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd"))
        inside = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)[:, ::-1]
        assert np.allclose(sorted(image.GetSpacing()), sorted((*PIXEL_MM, STEP_MM)))
        found = np.mean([image.TransformIndexToPhysicalPoint(index.tolist()) for index in inside], axis=0)
        assert np.linalg.norm(found - places_lps(stack, mask[0]).mean(axis=0)) < NEAR_MM


@pytest.mark.parametrize("name", ["short axis", "transaxial, negative spacing", "gated, reversed"])
def test_our_own_reader_gives_the_masks_back(name: str, tmp_path: Path) -> None:
    image, stack, masks, objects = made(name)
    for gate, path in enumerate(written(objects, tmp_path)):
        for segment in read_segments(path):
            mask = masks[segment.label][gate]
            back = lps_from_ras(segment.affine_ras)
            inside = np.argwhere(segment.mask)[:, ::-1]
            found = inside @ back[:3, :3].T + back[:3, 3]
            assert np.allclose(found.mean(axis=0), places_lps(stack, mask).mean(axis=0), atol=NEAR_MM)
            assert segment.mask.sum() == mask.sum()
            assert segment.source_uids == (image.SOPInstanceUID,)
            assert segment.frame_of_reference_uid == image.FrameOfReferenceUID


def test_each_gate_says_which_it_is(tmp_path: Path) -> None:
    *_, objects = made("gated")
    back = reread(objects, tmp_path)
    assert [one.InstanceNumber for one in back] == [1, 2, 3, 4]
    assert [one.ContentDescription[-11:] for one in back] == [f"gate {gate} of 4" for gate in (1, 2, 3, 4)]
    assert len({one.SeriesInstanceUID for one in back}) == 1
    assert len({one.SOPInstanceUID for one in back}) == 4
    for gate, one in enumerate(back, start=1):
        content = {
            frame.FrameContentSequence[0].TemporalPositionIndex for frame in one.PerFrameFunctionalGroupsSequence
        }
        assert content == {gate}


def test_segments_say_what_they_are_and_what_drew_them() -> None:
    *_, (segmentation,) = made("short axis")
    wall, cavity = segmentation.SegmentSequence
    assert wall.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Left Ventricle Myocardium"
    assert cavity.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Blood"
    assert cavity.AnatomicRegionSequence[0].CodeMeaning == "Left ventricle"
    for segment in (wall, cavity):
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (segment.SegmentAlgorithmType, algorithm.AlgorithmName) == ("AUTOMATIC", MAKER.algorithm)
        assert algorithm.AlgorithmVersion == MAKER.version
        assert segment.TrackingUID.startswith("2.25.")
    assert wall.TrackingUID != cavity.TrackingUID
    assert wall.SegmentDescription == "Left ventricular wall"


def test_probabilities_come_back_in_steps_of_a_255th(tmp_path: Path) -> None:
    where = origin(marked_volume(short_axis(-STEP_MM)))
    probability = np.random.default_rng(2).random((1, *SHAPE)).astype(np.float32)
    (path,) = written(segmentations(where, {"lv_filled": probability}, MAKER, kind="FRACTIONAL"), tmp_path)
    assert complaints(path) == []
    segmentation = highdicom.seg.segread(path)
    assert segmentation.SegmentationFractionalType == "PROBABILITY"
    back = segmentation.get_volume(segment_numbers=[1], allow_missing_positions=True)
    places = np.array([(0, 0, 0), (7, 11, 5), (19, 39, 35)])
    expected = np.array([lps_of(short_axis(-STEP_MM), tuple(place)) for place in places])
    found = np.round(back.map_reference_to_indices(expected)).astype(int)
    assert np.abs(back.array[tuple(found.T)][:, 0] - probability[0][tuple(places.T)]).max() <= 0.5 / 255 + 1e-6


def test_a_cavity_that_vanishes_in_one_gate_has_no_frames_there(tmp_path: Path) -> None:
    masks = shells(NUM_GATES)
    masks["lv_cavity"][2] = False
    objects = segmentations(origin(marked_gated_volume(short_axis())), masks, MAKER)
    paths = written(objects, tmp_path)
    assert [complaint for path in paths for complaint in complaints(path)] == []
    segments = read_segments(paths[2])
    assert [segment.label for segment in segments] == ["lv_wall", "lv_cavity"]
    assert not segments[1].mask.any()
    assert segments[0].mask.sum() == masks["lv_wall"][2].sum()


def test_an_image_without_a_frame_of_reference_gets_one_of_its_own(tmp_path: Path) -> None:
    image = without(marked_volume(short_axis()), "FrameOfReferenceUID")
    (first,) = segmentations(origin(image), shells(1), MAKER)
    (again,) = segmentations(origin(image), shells(1), MAKER)
    (other,) = segmentations(origin(changed(image, SOPInstanceUID="1.2.3.4")), shells(1), MAKER)
    assert first.FrameOfReferenceUID == again.FrameOfReferenceUID != other.FrameOfReferenceUID
    assert complaints(*written([first], tmp_path)) == []


def test_the_source_is_not_changed() -> None:
    image = marked_gated_volume(short_axis())
    before = str(image)
    segmentations(origin(image), shells(NUM_GATES), MAKER)
    assert str(image) == before


# --- What cannot be written -------------------------------------------------------------------------------------------


def test_projections_are_refused() -> None:
    mask = np.ones((1, 12, 24, 20), dtype=bool)
    with pytest.raises(DicomError, match=r"the image is TOMO.*keep masks of projections as NIfTI"):
        segmentations(origin(projections()), {"lv_wall": mask}, MAKER)


def test_an_image_without_a_place_is_refused() -> None:
    image = without_geometry(marked_volume(short_axis()))
    with pytest.raises(DicomError, match=r"does not say where its voxels lie.*export the study with its geometry"):
        segmentations(origin(image), shells(1), MAKER)


def test_all_that_is_wrong_with_masks_is_said_at_once() -> None:
    masks = {
        "lv_wal": np.ones(SHAPE, dtype=bool),
        "lv_wall": np.ones((2, *SHAPE), dtype=bool),
        "lv_cavity": np.full(SHAPE, 7, dtype=np.uint8),
    }
    with pytest.raises(DicomError) as caught:
        segmentations(origin(marked_volume(short_axis())), masks, MAKER)
    text = str(caught.value)
    assert "'lv_wal' is no segment" in text
    assert "did you mean 'lv_wall'" in text
    assert f"lv_wall has the shape {(2, *SHAPE)}; expected the image's (gate, z, y, x) = {(1, *SHAPE)}" in text
    assert "lv_cavity holds 7; expected True and False, or kind='FRACTIONAL'" in text


@pytest.mark.parametrize(
    ("masks", "kind", "match"),
    [
        ({}, "BINARY", "no mask was given"),
        ({"lv_wall": np.zeros(SHAPE, dtype=bool)}, "BINARY", r"nothing is marked in the image; .*report it in words"),
        ({"lv_wall": np.full(SHAPE, 1e-3)}, "FRACTIONAL", "nothing is marked in the image"),
        ({"lv_wall": np.full(SHAPE, 1.5)}, "FRACTIONAL", r"runs from 1.5 to 1.5; expected probabilities, 0 to 1"),
        ({"lv_wall": np.full(SHAPE, np.nan)}, "FRACTIONAL", r"runs from nan to nan; expected probabilities, 0 to 1"),
        ({"lv_wall": np.full(SHAPE, np.nan)}, "BINARY", r"lv_wall holds nan; expected True and False"),
    ],
)
def test_masks_that_mark_nothing_or_hold_other_numbers(masks: dict, kind: str, match: str) -> None:
    with pytest.raises(DicomError, match=match):
        segmentations(origin(marked_volume(short_axis())), masks, MAKER, kind=kind)


def test_an_unknown_kind_is_refused() -> None:
    from mpi_unet.dicom.segmentation_writing import _checked

    with pytest.raises(DicomError, match=r"kind='LABELMAP'; expected BINARY or FRACTIONAL"):
        _checked(origin(marked_volume(short_axis())), shells(1), "LABELMAP")


def test_empty_gates_are_named() -> None:
    masks = {"lv_wall": shells(NUM_GATES)["lv_wall"]}
    masks["lv_wall"][[0, 3]] = False
    with pytest.raises(DicomError, match=r"nothing is marked in gate 1, 4 of 4"):
        segmentations(origin(marked_gated_volume(short_axis())), masks, MAKER)


def test_without_highdicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> object:
        if name.startswith("highdicom"):
            raise ImportError(name)
        return import_module(name, *args, **kwargs)

    where = origin(marked_volume(short_axis()))
    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.delitem(sys.modules, "highdicom")
    with pytest.raises(DicomError, match=r"needs highdicom; install it with: pip install 'mpi_unet\[dicom\]'"):
        segmentations(where, shells(1), MAKER)


# --- The phantom's heart, and real patients ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["short_axis", "transaxial"])
def test_the_outline_of_the_phantom_lies_on_its_heart(domain: str, tmp_path: Path) -> None:
    """Outline what is hot in the values that we read; see it again, by the standard's words, in the file's pixels."""
    from mpi_unet.sources.phantom_dicom import phantom_studies

    phantom_studies(tmp_path / "studies", num_patients=1, seed=3, kinds=("RECON TOMO",), domain=domain)
    (path,) = (tmp_path / "studies").rglob("*.dcm")
    image = read_nm(path)
    assert image.stack is not None
    assert (image.stack.step_mm < 0) == (domain == "transaxial")
    mask = image.values > 0.5 * image.values.max()
    (written_path,) = written(segmentations(origin(path), {"lv_wall": mask}, MAKER), tmp_path / "new")
    found, expected = center_by_highdicom(written_path), center_by_the_standard(path, 0.5)
    assert np.linalg.norm(found - expected) < NEAR_MM


@needs_test_data
@pytest.mark.parametrize("identity", ["source", "pseudonymous"])
def test_real_patients_of_a_czt_camera(identity: str, tmp_path: Path) -> None:
    for path in sorted(real("physionet/DICOM").glob("*.dcm")):
        values = read_nm(path).values
        mask = values > 0.7 * values.max()
        (new,) = written(segmentations(origin(path, identity), {"lv_wall": mask}, MAKER), tmp_path)
        assert complaints(new) == []
        assert np.linalg.norm(center_by_highdicom(new) - center_by_the_standard(path, 0.7)) < NEAR_MM
        if identity == "source":
            assert complaints(path, new, program="dcentvfy") == []


def center_by_highdicom(path: Path) -> np.ndarray:
    volume = highdicom.seg.segread(path).get_volume(segment_numbers=[1], allow_missing_positions=True)
    return np.asarray(volume.map_indices_to_reference(np.argwhere(volume.array[..., 0] > 0)).mean(axis=0))


def center_by_the_standard(path: Path, share: float) -> np.ndarray:
    """Of what is hot in the pixels of an ungated file, slice after slice, by PS3.3 C.8.4.15 and pydicom alone."""
    import pydicom

    image = pydicom.dcmread(path)
    nested = image.DetectorInformationSequence[0]
    place = nested if "ImagePositionPatient" in nested else image
    row, column = np.array(place.ImageOrientationPatient, dtype=float).reshape(2, 3)
    assert list(image.SliceVector) == list(range(1, image.NumberOfFrames + 1))
    pixels = image.pixel_array
    z, y, x = np.argwhere(pixels > share * pixels.max()).mean(axis=0)
    return np.asarray(
        np.array(place.ImagePositionPatient, dtype=float)
        + x * image.PixelSpacing[1] * row
        + y * image.PixelSpacing[0] * column
        + z * float(image.SpacingBetweenSlices) * np.cross(row, column)
    )


def test_the_marker_is_what_the_builders_say() -> None:
    assert (marked_volume(short_axis()).pixel_array == HOT).sum() == 1


def test_masks_of_some_gates_become_objects_of_these_gates() -> None:
    where = origin(marked_gated_volume(short_axis()))
    wall = shells(NUM_GATES)["lv_wall"]
    made = segmentations(where, {"lv_wall": wall[[1, 3]]}, MAKER, gates=[1, 3])
    assert [int(one.InstanceNumber) for one in made] == [2, 4]
    whole = segmentations(where, {"lv_wall": wall}, MAKER)
    assert [one.SOPInstanceUID for one in made] == [whole[1].SOPInstanceUID, whole[3].SOPInstanceUID]


def test_a_mask_of_the_sum_refers_to_the_frames_of_all_gates(tmp_path: Path) -> None:
    where = origin(marked_gated_volume(short_axis()))
    wall = shells(1)["lv_wall"]
    (made,) = segmentations(where, {"lv_wall": wall}, MAKER, gates="sum")
    (path,) = written([made], tmp_path)
    assert not complaints(path)
    first = made.PerFrameFunctionalGroupsSequence[0]
    slices = np.flatnonzero(wall[0].any(axis=(1, 2)))
    found = [int(n) for n in first.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber]
    assert found in [[int(where.frame_numbers(gate)[z]) for gate in range(NUM_GATES)] for z in slices]
    assert len(found) == NUM_GATES
    assert "TemporalPositionIndex" not in first.FrameContentSequence[0]


@pytest.mark.parametrize("gates", [[0, 0], [4], []])
def test_gates_that_cannot_be_are_refused(gates: list[int]) -> None:
    where = origin(marked_gated_volume(short_axis()))
    with pytest.raises(DicomError, match=r"expected 'each', 'sum', or different numbers from 0 to 3"):
        segmentations(where, {"lv_wall": shells(1)["lv_wall"]}, MAKER, gates=gates)
