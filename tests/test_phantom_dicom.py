"""DICOM studies of the phantom: whatever is in them lies where the simulated patient has it."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK

from mpi_unet.dicom.nm_writing import write_dicom
from mpi_unet.errors import CohortError
from mpi_unet.phantom.cases import Recipe
from mpi_unet.phantom.patient import sample_patient
from mpi_unet.phantom.projector import Projector
from mpi_unet.phantom.reorientation import Grid
from mpi_unet.phantom.study import FINE_MM, FINE_PIXELS, acquire
from mpi_unet.phantom.truth import true_mask
from mpi_unet.sources.phantom_dicom import KINDS, phantom_studies, study_images

NUM_GATES = 2
DOMAINS = ("short_axis", "transaxial")


def recipe_of(domain: str) -> Recipe:
    return Recipe(
        domain=domain,
        seed=7,
        label="lv_wall",
        readers=("truth",),
        studies=("stress",),
        gated=True,
        num_gates=NUM_GATES,
        protocol="parallel_hole",
        reconstruction="osem",
        pixel_mm=None,
        matrix=None,
        slice_mm=6.4,
    )


@pytest.fixture(scope="module")
def acquisition():
    return acquire(sample_patient(7, 1, "stress"), recipe_of("short_axis").make_protocol())


@pytest.fixture(scope="module")
def folder(acquisition, tmp_path_factory):
    """Files ``<domain>/<kind>`` of one patient."""
    folder = tmp_path_factory.mktemp("studies")
    for domain in DOMAINS:
        for image in study_images(acquisition, recipe_of(domain)):
            write_dicom(image, folder / domain / image.ImageType[2])
    return folder


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not on PATH (Debian package dicom3tools)")
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_nothing_but_its_false_alarm(folder, domain, kind):
    said = subprocess.run(["dciodvfy", folder / domain / kind], capture_output=True, text=True, check=False).stderr
    complaints = [line for line in said.splitlines() if line.startswith(("Error", "Warning"))]
    assert [line for line in complaints if "TimeSlotInformationSequence" not in line] == []
    assert len(complaints) == ("GATED" in kind)  # see test_the_false_alarm_is_the_fault_of_dciodvfy


def read_image(path) -> SimpleITK.Image:
    """A reconstruction in counts, its place as SimpleITK understands it, which knows nothing of us."""
    slope = pydicom.dcmread(path).RealWorldValueMappingSequence[0].RealWorldValueSlope
    return SimpleITK.Cast(SimpleITK.ReadImage(str(path)), SimpleITK.sitkFloat64) * slope


def test_the_heart_lies_where_the_truth_says(folder, acquisition):
    image = read_image(folder / "transaxial" / "RECON TOMO")
    volume = SimpleITK.GetArrayFromImage(image)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    grid, heart, fields = Grid(volume.shape, affine), acquisition.heart, acquisition.fields[0]
    wall = true_mask(heart, fields, grid, "lv_wall")
    in_wall = volume[wall].mean()
    assert in_wall > 1.25 * volume[true_mask(heart, fields, grid, "lv_cavity")].mean()
    for axis in range(3):  # a volume that is upside down, mirrored or back to front misses the wall
        assert np.flip(volume, axis)[wall].mean() < 0.85 * in_wall
        for shift in (-2, 2):
            assert np.roll(volume, shift, axis)[wall].mean() < 0.85 * in_wall


def test_the_apex_lies_where_the_truth_says(folder, acquisition):
    image, heart = read_image(folder / "transaxial" / "RECON TOMO"), acquisition.heart
    along_mm = np.arange(0.5 * heart.length_mm, heart.full_length_mm + 30, 0.5)
    points_mm = [heart.to_world(np.array([0.0, 0.0, mm])).tolist() for mm in along_mm]
    profile = [image.EvaluateAtPhysicalPoint(point) for point in points_mm]
    wall_mm = heart.length_mm + heart.apex_wall_mm / 2
    assert along_mm[np.argmax(profile)] == pytest.approx(wall_mm, abs=acquisition.protocol.camera.pixel_mm)


def test_slices_across_the_heart_lie_in_the_transaxial_volume(folder):
    across = read_image(folder / "short_axis" / "RECON TOMO")
    outside = -1.0
    along = read_image(folder / "transaxial" / "RECON TOMO")
    expected = SimpleITK.GetArrayFromImage(SimpleITK.Resample(along, across, SimpleITK.Transform(), 2, outside))
    inside = expected != outside
    found = SimpleITK.GetArrayFromImage(across)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3 * found.max())  # both are rounded to 15 bits


@pytest.mark.parametrize(("domain", "sign"), [("short_axis", 1), ("transaxial", -1)])
def test_both_directions_of_stacking_are_there(folder, domain, sign):
    for kind in ("RECON TOMO", "RECON GATED TOMO"):
        assert np.sign(pydicom.dcmread(folder / domain / kind).SpacingBetweenSlices) == sign


def test_gates_keep_their_numbers(folder, acquisition):
    read = pydicom.dcmread(folder / "short_axis" / "GATED TOMO")
    frames = read.pixel_array
    for frame, gate, view in zip(frames, read.TimeSlotVector, read.AngularViewVector, strict=True):
        np.testing.assert_array_equal(frame, acquisition.views[gate - 1, view - 1])
    summed = pydicom.dcmread(folder / "short_axis" / "TOMO").pixel_array
    np.testing.assert_array_equal(summed, frames.reshape(NUM_GATES, -1, 64, 64).sum(0))
    assert pydicom.dcmread(folder / "short_axis" / "RECON GATED TOMO").NumberOfTimeSlots == NUM_GATES


@pytest.mark.parametrize("point_mm", [(60.8, -41.6, 35.2), (-76.8, 12.8, -60.8)])
def test_a_point_is_seen_by_each_view_where_the_standard_puts_it(acquisition, point_mm):
    camera = acquisition.protocol.camera
    cells = np.round(np.array(point_mm[:2]) / FINE_MM + (FINE_PIXELS - 1) / 2).astype(int)
    row = round(point_mm[2] / camera.pixel_mm + (camera.num_rows - 1) / 2)
    x_mm, y_mm = (cells - (FINE_PIXELS - 1) / 2) * FINE_MM
    z_mm = (row - (camera.num_rows - 1) / 2) * camera.pixel_mm
    object_ = np.zeros((FINE_PIXELS, FINE_PIXELS, 1, camera.num_rows), np.float32)
    object_[cells[1], cells[0], 0, row] = 10_000
    projector = Projector(camera, FINE_PIXELS, FINE_MM, radius_mm=acquisition.radius_mm)
    flat = object_.reshape(FINE_PIXELS**2, 1, -1)
    counts = np.stack([np.round(projector.forward(flat, view)) for view in range(camera.num_views)]).astype(np.float32)
    seen = replace(acquisition, counts=counts, expected=counts, scatter=counts, fields=acquisition.fields[:1])
    dataset = next(study_images(seen, recipe_of("short_axis"), ["TOMO"]))

    rotation = dataset.RotationInformationSequence[0]
    turn = {"CW": -1, "CC": 1}[rotation.RotationDirection] * float(rotation.AngularStep)
    rows_mm, columns_mm = (float(mm) for mm in dataset.PixelSpacing)
    frames = np.frombuffer(dataset.PixelData, "<u2").reshape(-1, dataset.Rows, dataset.Columns)
    for frame, number in zip(frames, dataset.AngularViewVector, strict=True):
        # PS3.3 C.8.4.12: 0 at the patient's back, growing counter-clockwise seen from the feet, toward the left.
        angle = np.deg2rad(float(rotation.StartAngle) + turn * (number - 1))
        to_right_of_camera_mm = -x_mm * np.cos(angle) + y_mm * np.sin(angle)
        expected = (31.5 - z_mm / rows_mm, 31.5 + to_right_of_camera_mm / columns_mm)
        middle = np.average(np.indices(frame.shape).reshape(2, -1), axis=1, weights=frame.ravel())
        np.testing.assert_allclose(middle, expected, atol=0.3)

    # View 0 alone, by its own position and orientation.
    detector = dataset.DetectorInformationSequence[0]
    offset = np.array([x_mm, y_mm, z_mm]) - np.array(detector.ImagePositionPatient, float)
    across, down = np.reshape(np.array(detector.ImageOrientationPatient, float), (2, 3))
    middle = np.average(np.indices(frames[0].shape).reshape(2, -1), axis=1, weights=frames[0].ravel())
    np.testing.assert_allclose(middle, (offset @ down / rows_mm, offset @ across / columns_mm), atol=0.3)


def test_studies_of_patients_stand_in_folders_of_their_own(tmp_path):
    root = phantom_studies(tmp_path, num_patients=2, seed=3, kinds=["TOMO"], num_gates=2)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.dcm"))
    assert files == ["SYNTHETIC-3-0000/stress/tomo.dcm", "SYNTHETIC-3-0001/stress/tomo.dcm"]
    first, second = (pydicom.dcmread(root / file, stop_before_pixels=True) for file in files)
    assert first.StudyInstanceUID != second.StudyInstanceUID
    assert first.PatientID == "SYNTHETIC-3-0000"
    assert first.RotationInformationSequence[0].StartAngle == 223.5  # 45 degrees right anterior, middle of a step
    assert first.CountsAccumulated == pydicom.dcmread(root / files[0]).pixel_array.sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["TOMO", "GATED TOMOO"]}, "kinds: is 'GATED TOMOO'.*did you mean 'GATED TOMO'"),
        ({"num_patients": 0}, "num_patients: is 0; expected at least 1"),
        ({"domain": "projection"}, "domain: is 'projection'; projections are always written"),
        ({"studies": ["stres"]}, "studies: is 'stres'.*did you mean 'stress'"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    with pytest.raises(CohortError, match=message):
        phantom_studies(tmp_path, **({"num_patients": 1, "seed": 7} | options))
