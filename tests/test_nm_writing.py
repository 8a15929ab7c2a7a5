"""Nuclear Medicine images as we write them: valid by the standard, and where they should be by readers of others."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK

from mpi_unet.dicom.geometry import Orbit, SliceStack, detector_side
from mpi_unet.dicom.nm_writing import (
    Acquisition,
    Gating,
    SyntheticIdentity,
    gated_tomo,
    recon_gated_tomo,
    recon_tomo,
    reordered,
    tomo,
    write_dicom,
)

HALF_DECIMAL_STRING = 1e-6
"""Decimal strings hold 16 characters; over a field of view that is far below a micrometer."""

ORBIT = Orbit(first_angle_deg=223.5, arc_deg=180.0, num_views=6, radius_mm=tuple(200.0 + 5 * view for view in range(6)))
IDENTITY = SyntheticIdentity("7-0003", "stress", "F", 1.62, 70.5)
TRANSAXIAL = SliceStack((-100.0, -90.0, 30.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (4.0, 5.0), 6.0)

DCIODVFY = shutil.which("dciodvfy")
needs_dciodvfy = pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy is not on PATH (Debian package dicom3tools)")

FALSE_ALARM = "TimeSlotInformationSequence(0054,0072)> - Attribute present when condition unsatisfied"
"""dciodvfy looks for Frame Increment Pointer in the item instead of the dataset, and rejects what C.8.4.13 requires."""


def oblique(step_mm: float) -> SliceStack:
    """Slices across a heart that points to the left, the front and the feet."""
    normal = np.array([0.6, -0.64, -0.48])
    row = np.cross(normal, (0.0, 0.0, 1.0))
    row /= np.linalg.norm(row)
    column = np.cross(normal, row)
    return SliceStack((12.5, -40.25, 77.125), as_vector(row), as_vector(column), (3.2, 3.4), step_mm)


def as_vector(values: np.ndarray) -> tuple[float, float, float]:
    return (float(values[0]), float(values[1]), float(values[2]))


def counts_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(20, shape)


def image_of(kind: str) -> pydicom.Dataset:
    if kind == "TOMO":
        return tomo(counts_of((6, 10, 12)), spacing_mm=(6.4, 6.4), orbit=ORBIT, identity=IDENTITY)
    if kind == "GATED TOMO":
        gated = counts_of((3, 6, 10, 12))
        return gated_tomo(gated, spacing_mm=(6.4, 6.4), orbit=ORBIT, gating=Gating(), identity=IDENTITY)
    if kind == "RECON TOMO":
        return recon_tomo(counts_of((5, 10, 12)), stack=oblique(-6.4), identity=IDENTITY, view="short_axis")
    activity = counts_of((3, 5, 10, 12)) / 7
    return recon_gated_tomo(activity, stack=TRANSAXIAL, gating=Gating(), identity=IDENTITY, orbit=ORBIT)


KINDS = ("TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO")


def complaints(dataset: pydicom.Dataset, folder) -> list[str]:
    """What dciodvfy says about a dataset, errors and warnings alike."""
    write_dicom(dataset, folder / "image.dcm")
    said = subprocess.run([DCIODVFY, "-new", folder / "image.dcm"], capture_output=True, text=True, check=False)
    assert "NMImage" in said.stderr + said.stdout  # it knew the kind of object
    return [line for line in (said.stderr + said.stdout).splitlines() if line.startswith(("Error", "Warning"))]


# --- The standard -----------------------------------------------------------------------------------------------------


@needs_dciodvfy
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_nothing_to_complain_about(kind, tmp_path):
    left = [line for line in complaints(image_of(kind), tmp_path) if FALSE_ALARM not in line]
    assert left == []


@needs_dciodvfy
@pytest.mark.parametrize("kind", ["TOMO", "RECON TOMO"])
def test_dciodvfy_finds_nothing_in_other_set_ups(kind, tmp_path):
    rest = SyntheticIdentity("X", "rest")
    unusual = Acquisition(tracer="tetrofosmin", prone=True, feet_first=True)
    orbit = replace(ORBIT, clockwise=False, radius_mm=250.0)
    if "RECON" in kind:
        dataset = recon_tomo(np.zeros((2, 4, 4)), stack=TRANSAXIAL, identity=rest, acquisition=unusual, orbit=orbit)
    else:
        counts = np.zeros((6, 4, 4), int)
        dataset = tomo(counts, spacing_mm=(4.0, 4.0), orbit=orbit, identity=rest, acquisition=unusual)
    assert complaints(dataset, tmp_path) == []


@needs_dciodvfy
@pytest.mark.parametrize(
    "missing", ["NumberOfTimeSlots", "RotationInformationSequence", "NumberOfSlices", "SpacingBetweenSlices"]
)
def test_dciodvfy_sees_what_is_missing(missing, tmp_path):
    dataset = image_of("RECON GATED TOMO")
    del dataset[missing]
    assert any(line.startswith("Error") and missing in line for line in complaints(dataset, tmp_path))


@needs_dciodvfy
def test_the_false_alarm_is_the_fault_of_dciodvfy(tmp_path):
    dataset = image_of("GATED TOMO")
    assert [line for line in complaints(dataset, tmp_path) if FALSE_ALARM in line]
    item = dataset.GatedInformationSequence[0].DataInformationSequence[0]
    item.FrameIncrementPointer = dataset.FrameIncrementPointer  # where dciodvfy looks, and where it has no business
    assert not [line for line in complaints(dataset, tmp_path) if FALSE_ALARM in line]


@pytest.mark.parametrize(
    ("kind", "pointer"),
    [  # PS3.3 table C.8-8
        ("TOMO", [0x00540010, 0x00540020, 0x00540050, 0x00540090]),
        ("GATED TOMO", [0x00540010, 0x00540020, 0x00540050, 0x00540060, 0x00540070, 0x00540090]),
        ("RECON TOMO", [0x00540080]),
        ("RECON GATED TOMO", [0x00540060, 0x00540070, 0x00540080]),
    ],
)
def test_frame_increment_pointer_is_the_enumerated_one(kind, pointer, tmp_path):
    write_dicom(image_of(kind), tmp_path / "image.dcm")
    read = pydicom.dcmread(tmp_path / "image.dcm")
    assert list(np.atleast_1d(read.FrameIncrementPointer)) == pointer
    assert list(read.ImageType) == ["ORIGINAL", "PRIMARY", kind, "EMISSION"]
    for tag in pointer:
        assert len(np.atleast_1d(read[tag].value)) == read.NumberOfFrames
    for number in ("NumberOfEnergyWindows", "NumberOfDetectors", "NumberOfRotations"):
        assert read[number].value == 1


# --- What frames mean -------------------------------------------------------------------------------------------------


def frames_by_vectors(dataset: pydicom.Dataset, *names: str) -> dict[tuple[int, ...], np.ndarray]:
    numbers = zip(*(np.atleast_1d(dataset[name].value) for name in names), strict=True)
    frames = np.frombuffer(dataset.PixelData, "<u2").reshape(-1, dataset.Rows, dataset.Columns)
    return {tuple(int(n) - 1 for n in number): frame for number, frame in zip(numbers, frames, strict=True)}


@pytest.mark.parametrize(
    ("kind", "names", "shape"),
    [
        ("TOMO", ["AngularViewVector"], (6, 10, 12)),
        ("GATED TOMO", ["TimeSlotVector", "AngularViewVector"], (3, 6, 10, 12)),
        ("RECON TOMO", ["SliceVector"], (5, 10, 12)),
        ("RECON GATED TOMO", ["TimeSlotVector", "SliceVector"], (3, 5, 10, 12)),
    ],
)
@pytest.mark.parametrize("order", ["as written", "last axis first", "backward", "shuffled"])
def test_each_frame_is_what_its_vectors_say(kind, names, shape, order):
    dataset, expected = image_of(kind), counts_of(shape)
    if kind == "RECON GATED TOMO":  # floating-point values: stored / slope
        expected = np.round(expected / expected.max() * 32767)
    frames = np.arange(dataset.NumberOfFrames)
    if order == "last axis first":  # slices or views change before gates do
        frames = frames.reshape(shape[:-2]).T.ravel()
    elif order == "backward":
        frames = frames[::-1]
    elif order == "shuffled":
        frames = np.random.default_rng(1).permutation(frames)
    if order != "as written":
        dataset = reordered(dataset, frames.tolist())
    found = frames_by_vectors(dataset, *names)
    assert len(found) == dataset.NumberOfFrames
    for number, frame in found.items():
        np.testing.assert_array_equal(frame, expected[number])


def test_reordered_frames_are_another_instance():
    dataset = image_of("RECON TOMO")
    moved = reordered(dataset, [4, 3, 2, 1, 0])
    assert list(moved.SliceVector) == [5, 4, 3, 2, 1]
    assert moved.SOPInstanceUID != dataset.SOPInstanceUID
    assert list(dataset.SliceVector) == [1, 2, 3, 4, 5]


def test_pixels_come_back(tmp_path):
    counts = counts_of((6, 10, 12))
    counts[0, 0, 0] = 65_535
    write_dicom(tomo(counts, spacing_mm=(6.4, 6.8), orbit=ORBIT, identity=IDENTITY), tmp_path / "image.dcm")
    read = pydicom.dcmread(tmp_path / "image.dcm")
    assert read.pixel_array.dtype == np.uint16
    np.testing.assert_array_equal(read.pixel_array, counts)
    assert read.CountsAccumulated == counts.sum()
    assert [float(mm) for mm in read.PixelSpacing] == [6.4, 6.8]


def test_real_world_values_lead_back_to_the_activity(tmp_path):
    activity = np.random.default_rng(3).gamma(2, 0.01, (5, 10, 12))
    write_dicom(recon_tomo(activity, stack=TRANSAXIAL, identity=IDENTITY), tmp_path / "image.dcm")
    read = pydicom.dcmread(tmp_path / "image.dcm")
    mapping = read.RealWorldValueMappingSequence[0]
    values = read.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
    np.testing.assert_allclose(values, activity, atol=activity.max() / 32767 / 2 * 1.001)
    assert mapping.RealWorldValueLastValueMapped == read.pixel_array.max() == 32767
    assert "RescaleSlope" not in read


def test_whole_numbers_are_stored_as_they_are():
    dataset = recon_tomo(counts_of((5, 10, 12)), stack=TRANSAXIAL, identity=IDENTITY)
    assert "RealWorldValueMappingSequence" not in dataset


def test_gating_times_add_up():
    gating = Gating(rr_interval_ms=900.0, num_beats=500, window_fraction=0.1)
    counts = counts_of((3, 6, 4, 4))
    dataset = gated_tomo(counts, spacing_mm=(6.4, 6.4), orbit=ORBIT, gating=gating, identity=IDENTITY)
    data = dataset.GatedInformationSequence[0].DataInformationSequence[0]
    assert (data.FrameTime, data.NominalInterval, data.LowRRValue, data.HighRRValue) == (300, 900, 810, 990)
    assert [float(slot.TimeSlotTime) for slot in data.TimeSlotInformationSequence] == [150_000.0] * 3
    assert (dataset.NumberOfRRIntervals, dataset.NumberOfTimeSlots, dataset.HeartRate) == (1, 3, 67)


# --- Where voxels lie -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [TRANSAXIAL, replace(TRANSAXIAL, step_mm=-6.0), oblique(6.4), oblique(-6.4)])
def test_simple_itk_finds_each_voxel_where_the_affine_says(stack, tmp_path):
    write_dicom(recon_tomo(counts_of((5, 10, 12)), stack=stack, identity=IDENTITY), tmp_path / "image.dcm")
    image = SimpleITK.ReadImage(str(tmp_path / "image.dcm"))
    assert image.GetSize() == (12, 10, 5)
    np.testing.assert_allclose(image.GetSpacing(), (stack.pixel_mm[1], stack.pixel_mm[0], abs(stack.step_mm)))
    np.testing.assert_allclose(image.GetOrigin(), stack.position_mm, atol=HALF_DECIMAL_STRING)
    normal = np.sign(stack.step_mm) * np.cross(stack.row_direction, stack.column_direction)
    direction = np.column_stack([stack.row_direction, stack.column_direction, normal])
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), direction, atol=HALF_DECIMAL_STRING)
    for voxel in [(0, 0, 0), (11, 0, 0), (0, 9, 0), (0, 0, 4), (7, 3, 2)]:
        expected = (stack.affine_lps @ (*voxel, 1))[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(voxel), expected, atol=HALF_DECIMAL_STRING)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), counts_of((5, 10, 12)))


def test_a_marker_stays_where_it_is_when_slices_are_stored_backward(tmp_path):
    activity = np.zeros((5, 10, 12), int)
    activity[1, 2, 3] = 900
    stack = oblique(6.4)
    points = []
    for array, place in ((activity, stack), (activity[::-1], stack.last_slice_first(5))):
        dataset = recon_tomo(array, stack=place, identity=IDENTITY)
        assert float(dataset.SpacingBetweenSlices) == place.step_mm
        assert float(dataset.SliceThickness) == 6.4
        write_dicom(dataset, tmp_path / "image.dcm")
        image = SimpleITK.ReadImage(str(tmp_path / "image.dcm"))
        hot = np.argwhere(SimpleITK.GetArrayFromImage(image) == 900)[0][::-1]
        points.append(image.TransformIndexToPhysicalPoint([int(i) for i in hot]))
    assert [place.step_mm, stack.last_slice_first(5).step_mm] == [-6.4, -6.4]
    np.testing.assert_allclose(points[0], points[1], atol=HALF_DECIMAL_STRING)
    np.testing.assert_allclose(points[0], (stack.affine_lps @ (3, 2, 1, 1))[:3], atol=HALF_DECIMAL_STRING)


# --- Where the camera stands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clockwise", "term", "last_deg"), [(True, "CW", 73.5), (False, "CC", 13.5)])
def test_rotation_says_where_each_view_was_taken(clockwise, term, last_deg):
    orbit = replace(ORBIT, clockwise=clockwise)
    dataset = tomo(counts_of((6, 10, 12)), spacing_mm=(6.4, 6.4), orbit=orbit, identity=IDENTITY)
    rotation = dataset.RotationInformationSequence[0]
    assert (rotation.StartAngle, rotation.ScanArc, rotation.AngularStep) == (223.5, 180, 30)
    assert (rotation.RotationDirection, rotation.NumberOfFramesInRotation) == (term, 6)
    assert [float(mm) for mm in rotation.RadialPosition] == [200, 205, 210, 215, 220, 225]
    assert orbit.angles_deg[-1] == pytest.approx(last_deg)


def test_the_first_view_lies_on_the_face_of_the_detector():
    orbit = replace(ORBIT, center_mm=(10.0, 20.0, 30.0))
    dataset = tomo(counts_of((6, 10, 12)), spacing_mm=(6.4, 6.8), orbit=orbit, identity=IDENTITY)
    detector = dataset.DetectorInformationSequence[0]
    row, column = np.reshape([float(c) for c in detector.ImageOrientationPatient], (2, 3))
    middle = np.array(detector.ImagePositionPatient, float) + 5.5 * 6.8 * row + 4.5 * 6.4 * column
    np.testing.assert_allclose(middle - orbit.center_mm, 200 * np.array(detector_side(223.5)), atol=HALF_DECIMAL_STRING)
    np.testing.assert_allclose(np.cross(row, column), -np.array(detector_side(223.5)), atol=HALF_DECIMAL_STRING)


# --- Who it is not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_everything_says_that_it_is_synthetic(kind):
    dataset = image_of(kind)
    assert dataset.PatientName == "SYNTHETIC^7-0003"
    assert dataset.PatientID == "SYNTHETIC-7-0003"
    assert dataset.QualityControlSubject == "YES"
    assert dataset.ImageComments == "Simulated phantom data, not a patient"
    assert dataset.PatientBirthDate == ""
    dates = {element.value for element in dataset.iterall() if element.VR == "DA" and element.value}
    assert dates == {"19000101"}


def test_identifiers_follow_from_what_they_identify():
    images = {kind: image_of(kind) for kind in KINDS}
    assert len({image.StudyInstanceUID for image in images.values()}) == 1
    assert len({image.FrameOfReferenceUID for image in images.values()}) == 1
    assert len({image.SeriesInstanceUID for image in images.values()}) == 4
    assert images["TOMO"].SOPInstanceUID == image_of("TOMO").SOPInstanceUID
    other = tomo(counts_of((6, 10, 12), seed=1), spacing_mm=(6.4, 6.4), orbit=ORBIT, identity=IDENTITY)
    assert other.SeriesInstanceUID == images["TOMO"].SeriesInstanceUID
    assert other.SOPInstanceUID != images["TOMO"].SOPInstanceUID  # other pixels are another instance
    rest = tomo(counts_of((6, 10, 12)), spacing_mm=(6.4, 6.4), orbit=ORBIT, identity=replace(IDENTITY, study="rest"))
    assert rest.StudyInstanceUID != images["TOMO"].StudyInstanceUID
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        uid = images["TOMO"][name].value
        assert uid.startswith("2.25.")
        assert uid.is_valid


def test_the_same_image_is_the_same_file(tmp_path):
    for name in ("a.dcm", "b.dcm"):
        write_dicom(image_of("GATED TOMO"), tmp_path / name)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dcm", "b.dcm"]  # no temporary file stays


# --- What is refused --------------------------------------------------------------------------------------------------


def volume_with(value: float) -> np.ndarray:
    volume = np.ones((5, 10, 12))
    volume[1, 2, 3] = value
    return volume


@pytest.mark.parametrize(
    ("activity", "message"),
    [
        (volume_with(-1), r"activity\[1, 2, 3\] is -1.0 and is negative; clip it first"),
        (volume_with(np.nan), r"activity\[1, 2, 3\] is nan and is not finite"),
        (volume_with(np.inf), r"activity\[1, 2, 3\] is inf and is not finite"),
        (np.ones((10, 12)), r"activity has the shape \(10, 12\), expected \(z, row, column\)"),
        (np.ones((0, 10, 12)), r"\(0, 10, 12\), expected \(z, row, column\), none of them empty"),
        (np.full((5, 10, 12), 65_536), r"largest pixel is 65536, above 65535.* scale reconstructions"),
        (np.ones((5, 10, 12), bool), "activity has the type bool, expected integers or floating-point"),
    ],
)
def test_a_volume_that_dicom_cannot_hold_is_refused(activity, message):
    with pytest.raises(ValueError, match=message):
        recon_tomo(activity, stack=TRANSAXIAL, identity=IDENTITY)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.full((6, 10, 12), 0.5), "whole numbers; draw or round them first"),
        (np.full((6, 10, 12), 70_000), "largest pixel is 70000, above 65535"),
        (np.ones((5, 10, 12), int), "counts has 5 views, but orbit.num_views is 6"),
        (np.ones((3, 6, 10, 12), int), r"shape \(3, 6, 10, 12\), expected \(view, row, column\)"),
        (np.full((6, 10, 12), -3), r"counts\[0, 0, 0\] is -3 and is negative.*\(720 such pixels\)"),
    ],
)
def test_counts_that_no_camera_gives_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        tomo(counts, spacing_mm=(6.4, 6.4), orbit=ORBIT, identity=IDENTITY)


def test_a_pixel_without_size_is_refused():
    with pytest.raises(ValueError, match=r"spacing_mm is \(6.4, 0.0\); both distances must be positive"):
        tomo(counts_of((6, 10, 12)), spacing_mm=(6.4, 0.0), orbit=ORBIT, identity=IDENTITY)


def test_a_name_in_the_identity_is_refused():
    with pytest.raises(ValueError, match=r"identity key 'Doe\^John' must be 1 to 40 letters, digits or hyphens"):
        SyntheticIdentity("Doe^John")


def test_gating_without_beats_is_refused():
    with pytest.raises(ValueError, match=r"num_beats=0.* at least one beat"):
        Gating(num_beats=0)


def test_an_order_that_loses_a_frame_is_refused():
    with pytest.raises(ValueError, match=r"each of the 5 frames once, got \[0, 1, 2, 3, 3\]"):
        reordered(image_of("RECON TOMO"), [0, 1, 2, 3, 3])
