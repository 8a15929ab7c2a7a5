"""Nuclear Medicine images as we read them: where a marker is found, by every form in which cameras write a study."""

import shutil
import subprocess
from copy import deepcopy

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nm_builders import (
    HOT,
    JPEG,
    NUM_GATES,
    PIXEL_MM,
    STEP_MM,
    SYNTAXES,
    VOLUMES,
    changed,
    geometry_at_top_level,
    last_slice_first,
    marked,
    marked_gated_volume,
    marked_volume,
    markers,
    needs_test_data,
    projections,
    real,
    rescaled,
    short_axis,
    slice_major,
    transaxial,
    with_real_world_values,
    without,
    without_geometry,
    write,
)

from mpi_unet.cohort.nifti import write_image
from mpi_unet.dicom.nm import NmKind, read_header, read_nm
from mpi_unet.dicom.nm_writing import write_dicom
from mpi_unet.errors import DicomError

RAS_FROM_LPS = np.array([-1.0, -1.0, 1.0])


# --- The marker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(VOLUMES))
def test_the_marker_is_found_in_the_written_nifti(form, tmp_path):
    dataset, stack = VOLUMES[form]()
    write_dicom(dataset, tmp_path / "study")
    image = read_nm(tmp_path / "study")
    truth = markers(stack, image.num_gates)
    assert len(truth) == (NUM_GATES if "gated" in form else 1)
    for gate, place_lps in enumerate(truth):
        write_image(tmp_path / "gate.nii.gz", image.values[gate], image.affine_ras)
        written = nib.load(tmp_path / "gate.nii.gz")
        values = np.asanyarray(written.dataobj)
        hot = np.array(np.unravel_index(values.argmax(), values.shape))
        place = np.linalg.inv(written.affine) @ (*(RAS_FROM_LPS * place_lps), 1)
        assert np.abs(place[:3] - hot).max() <= 0.5  # half a voxel along each axis
        found_mm = (written.affine @ (*hot, 1))[:3]
        assert np.linalg.norm(found_mm - RAS_FROM_LPS * place_lps) <= np.linalg.norm([STEP_MM, *PIXEL_MM]) / 2


@pytest.mark.parametrize("form", ["short axis", "transaxial, negative spacing", "transaxial", "rescale"])
def test_simple_itk_finds_it_at_the_same_place(form, tmp_path):
    dataset, _ = VOLUMES[form]()
    write_dicom(dataset, tmp_path / "study.dcm")
    image = read_nm(tmp_path / "study.dcm")
    theirs = SimpleITK.ReadImage(str(tmp_path / "study.dcm"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs), image.values[0])
    for voxel in [(0, 0, 0), (35, 0, 0), (0, 39, 0), (0, 0, 19), (7, 3, 2)]:
        ours = RAS_FROM_LPS * (image.affine_ras @ (*voxel, 1))[:3]
        np.testing.assert_allclose(theirs.TransformIndexToPhysicalPoint(voxel), ours, atol=1e-5)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_gives_the_same(syntax, tmp_path):
    image = read_nm(write(marked_gated_volume(short_axis()), tmp_path / "study", syntax))
    np.testing.assert_array_equal(image.stored, marked(NUM_GATES))
    np.testing.assert_allclose(image.stack.position_mm, short_axis().position_mm, atol=1e-9)
    assert image.header.transfer_syntax == read_header(tmp_path / "study").transfer_syntax
    assert image.warnings == ()


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big-endian", *JPEG])
def test_signed_numbers_stay_signed(syntax, tmp_path):
    counts = marked()[0] - 25
    dataset = changed(marked_volume(short_axis()), PixelRepresentation=1, PixelData=counts.astype("<i2").tobytes())
    image = read_nm(write(dataset, tmp_path / "study", syntax))
    assert image.stored.dtype == np.int16
    np.testing.assert_array_equal(image.values[0], counts)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big-endian"])
def test_a_file_without_preamble_and_meta_information_is_read(syntax, tmp_path):
    image = read_nm(write(marked_volume(short_axis()), tmp_path / "study", syntax, meta=False))
    np.testing.assert_array_equal(image.stored[0], marked()[0])


@pytest.mark.parametrize("bits", [8, 32])
def test_pixels_of_other_sizes(bits, tmp_path):
    counts = np.minimum(marked()[0], 200)
    dataset = changed(marked_volume(short_axis()), BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1)
    dataset.PixelData = counts.astype(f"<u{bits // 8}").tobytes()
    for syntax in ("explicit", "big-endian"):
        image = read_nm(write(dataset, tmp_path / "study", syntax))
        np.testing.assert_array_equal(image.stored[0], counts)


# --- What frames mean -------------------------------------------------------------------------------------------------


def test_gates_and_slices_follow_their_vectors():
    expected = marked(NUM_GATES)
    whole = marked_gated_volume(short_axis())
    for dataset in (whole, slice_major(whole), last_slice_first(whole), slice_major(last_slice_first(whole))):
        image = read_nm(dataset)
        assert image.kind is NmKind.RECON_GATED_TOMO
        np.testing.assert_array_equal(image.stored, expected)
    assert image.num_gates == NUM_GATES
    assert image.gate_ms == pytest.approx(857 / NUM_GATES)


def test_a_reversed_slice_vector_is_placed_by_slice_one_and_warned_about():
    image = read_nm(last_slice_first(marked_volume(short_axis())))
    (warning,) = image.warnings
    assert "begins with slice 20" in warning
    assert "taken as that of the slice 1" in warning
    assert "121.6 mm" in warning
    other = read_nm(last_slice_first(marked_volume(short_axis())), position_of="first frame")
    moved = np.subtract(image.stack.position_mm, other.stack.position_mm)
    np.testing.assert_allclose(np.linalg.norm(moved), 19 * STEP_MM)
    np.testing.assert_array_equal(image.stored, other.stored)
    # Slice 20 is the first frame; read so, it lies where Image Position says.
    np.testing.assert_allclose((other.stack.affine_lps @ (0, 0, 19, 1))[:3], short_axis().position_mm)


def test_an_ungated_volume_without_vector_is_in_the_order_of_its_frames():
    image = read_nm(without(marked_volume(short_axis()), "SliceVector"))
    np.testing.assert_array_equal(image.stored[0], marked()[0])
    assert image.warnings == ("SliceVector (0054,0080) is missing; slices are taken in the order of frames",)


def test_several_energy_windows_need_a_choice():
    dataset = projections()
    dataset.NumberOfEnergyWindows = 2
    dataset.EnergyWindowVector = [1] * 6 + [2] * 6
    dataset.AngularViewVector = [1, 2, 3, 4, 5, 6] * 2
    dataset.RotationInformationSequence[0].NumberOfFramesInRotation = 6
    second = dataset.EnergyWindowInformationSequence[0]
    dataset.EnergyWindowInformationSequence = [second, without(second, "EnergyWindowName")]
    with pytest.raises(
        DicomError, match=r"has 2 energy windows \(1: Tc99m photopeak, 2\).*choose with energy_window=1"
    ):
        read_nm(dataset)
    frames = read_nm(projections()).stored[0]
    np.testing.assert_array_equal(read_nm(dataset, energy_window=2).stored[0], frames[6:])
    with pytest.raises(DicomError, match=r"energy_window=3 was asked for, but .* has the energy windows 1, 2"):
        read_nm(dataset, energy_window=3)


def test_several_rr_intervals_need_a_choice():
    dataset = marked_gated_volume(short_axis())
    dataset.NumberOfRRIntervals, dataset.NumberOfTimeSlots = 2, 2
    dataset.RRIntervalVector = [1] * 40 + [2] * 40
    dataset.TimeSlotVector = ([1] * 20 + [2] * 20) * 2
    with pytest.raises(
        DicomError, match=r"has 2 R-R intervals \(1, 2\); expected one image; choose with rr_interval=1"
    ):
        read_nm(dataset)
    np.testing.assert_array_equal(read_nm(dataset, rr_interval=2).stored, marked(NUM_GATES)[2:])


# --- Views ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
def test_views_keep_their_angles_and_are_no_volume(gated):
    image = read_nm(projections(gated))
    assert image.kind is (NmKind.GATED_TOMO if gated else NmKind.TOMO)
    assert image.values.shape == (NUM_GATES if gated else 1, 12, 24, 20)
    assert image.angles_deg == tuple(225.0 - 15 * view for view in range(12))
    assert (image.views.arc_deg, image.views.clockwise, image.views.radius_mm) == (180.0, True, (250.0,))
    assert image.stack is image.affine_ras is image.spacing_mm is None
    assert image.pixel_mm == (6.4, 6.6)


def two_detectors(number_on: bool = False):
    """The views of one orbit, taken by two detectors at right angles; the second one begins it."""
    dataset = projections()
    views = np.array([number_on * 6 + view for view in range(1, 7)])
    dataset.NumberOfDetectors = 2
    dataset.DetectorVector = [2] * 6 + [1] * 6
    dataset.AngularViewVector = [*views.tolist(), 1, 2, 3, 4, 5, 6]
    first, second = (without_geometry(dataset).DetectorInformationSequence[0] for _ in range(2))
    first.StartAngle, second.StartAngle = 135, 225
    dataset.DetectorInformationSequence = [first, second]
    rotation = dataset.RotationInformationSequence[0]
    rotation.StartAngle, rotation.NumberOfFramesInRotation = 135, 6
    return dataset


@pytest.mark.parametrize("number_on", [False, True])
def test_detectors_of_one_orbit_become_one_sequence(number_on):
    image = read_nm(two_detectors(number_on))
    whole = read_nm(projections())
    assert image.angles_deg == whole.angles_deg
    assert image.views.detector == (2,) * 6 + (1,) * 6
    np.testing.assert_array_equal(image.stored, whole.stored)
    assert bool(image.warnings) == number_on


def test_detectors_that_see_the_same_need_a_choice():
    dataset = two_detectors()
    dataset.DetectorInformationSequence[1].StartAngle = 135
    with pytest.raises(DicomError, match="views at the same angle; expected one; choose one of: rotation=1 detector=1"):
        read_nm(dataset)
    image = read_nm(dataset, detector=1)
    assert image.angles_deg == tuple(135.0 - 15 * view for view in range(6))
    np.testing.assert_array_equal(image.stored[0], read_nm(projections()).stored[0, 6:])


def test_angles_that_nobody_wrote_are_unknown():
    dataset = projections()
    dataset.RotationInformationSequence = []
    image = read_nm(dataset)
    assert image.angles_deg is None
    assert "angles unknown: RotationInformationSequence (0054,0052) has 0 items" in image.warnings[0]
    assert image.values.shape == (1, 12, 24, 20)


# --- What a number means ----------------------------------------------------------------------------------------------


def test_rescale_is_applied_and_the_stored_numbers_are_kept():
    image = read_nm(rescaled(marked_volume(short_axis())))
    assert image.values.max() == HOT
    assert image.stored.max() == 2 * (HOT - 10)
    assert (image.rescale.slope, image.rescale.intercept) == (0.5, 10.0)


def test_real_world_values_are_offered_and_not_applied():
    image = read_nm(with_real_world_values(short_axis()))
    (mapping,) = image.real_world
    assert image.values.max() == 32_767
    assert (mapping.unit, mapping.label, mapping.first, mapping.last) == ("{counts}", "COUNTS", 0, 32_767)
    np.testing.assert_allclose(mapping(image.stored)[0], marked()[0] / 7, atol=HOT / 7 / 32_767)


def test_a_mapping_says_nothing_about_numbers_off_its_range():
    dataset = with_real_world_values(short_axis())
    dataset.RealWorldValueMappingSequence[0].RealWorldValueLastValueMapped = 100
    (mapping,) = read_nm(dataset).real_world
    assert np.isnan(mapping(np.array([101]))).all()


# --- Geometry ---------------------------------------------------------------------------------------------------------


def test_geometry_unknown_is_said_and_not_invented():
    image = read_nm(without_geometry(marked_volume(short_axis())))
    assert image.stack is image.affine_ras is None
    assert image.spacing_mm == (STEP_MM, *PIXEL_MM)
    assert image.warnings[0] == (
        "geometry unknown: ImagePositionPatient (0020,0032), ImageOrientationPatient (0020,0037) are missing"
    )


def test_zeros_for_directions_are_no_directions():
    dataset = geometry_at_top_level(marked_volume(short_axis()))
    dataset.ImageOrientationPatient = [0, 0, 0, 0, 0, 0]
    image = read_nm(dataset)
    assert image.stack is None
    assert any("holds zeros only and was taken for empty" in warning for warning in image.warnings)


def test_thickness_stands_in_for_spacing_with_an_unknown_sign():
    image = read_nm(without(marked_volume(short_axis(-STEP_MM)), "SpacingBetweenSlices"))
    assert image.stack.step_mm == STEP_MM
    assert "its sign is unknown, so the slices may be stacked the other way round" in image.warnings[0]
    bare = read_nm(without(marked_volume(short_axis()), "SpacingBetweenSlices", "SliceThickness"))
    assert (bare.stack, bare.spacing_mm) == (None, None)


def test_the_detector_is_believed_before_the_top_level_and_the_difference_is_named():
    dataset = marked_volume(transaxial())
    dataset.ImagePositionPatient = [-70, -90, 35]
    image = read_nm(dataset)
    assert image.stack.position_mm == (-70.0, -90.0, 30.0)
    assert image.warnings == (
        "ImagePositionPatient (0020,0032) is (-70, -90, 30) in DetectorInformationSequence[0] and (-70, -90, 35) in "
        "the top level; the first was believed",
    )


def test_position_and_orientation_come_from_one_place_where_one_has_both():
    whole = marked_volume(transaxial())
    half = deepcopy(whole.DetectorInformationSequence[0])
    half.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    del half.ImagePositionPatient
    whole.DetectorInformationSequence.insert(0, half)
    image = read_nm(whole)
    assert image.stack.row_direction == (1.0, 0.0, 0.0)
    assert any("(0, 1, 0, 0, 0, -1) in DetectorInformationSequence[0]" in text for text in image.warnings)


def test_position_and_orientation_of_different_places_are_remarked():
    dataset = marked_volume(transaxial())
    first, second = dataset.DetectorInformationSequence[0], deepcopy(dataset.DetectorInformationSequence[0])
    del first.ImagePositionPatient, second.ImageOrientationPatient
    dataset.DetectorInformationSequence.append(second)
    image = read_nm(dataset)
    assert image.stack is not None
    assert any(
        "(0020,0032) stands in DetectorInformationSequence[1] and ImageOrientationPatient (0020,0037) in "
        "DetectorInformationSequence[0], and no place has both; they were put together" in text
        for text in image.warnings
    )


def test_rounded_directions_are_set_upright():
    dataset = marked_volume(short_axis())
    detector = dataset.DetectorInformationSequence[0]
    detector.ImageOrientationPatient = [f"{float(cosine):.3f}" for cosine in detector.ImageOrientationPatient]
    image = read_nm(dataset)
    np.testing.assert_allclose(image.stack.row_direction, short_axis().row_direction, atol=1e-3)
    assert "rounded" in image.warnings[0]


# --- Headers ----------------------------------------------------------------------------------------------------------


def test_a_header_is_read_without_pixels_and_hides_who_it_is(tmp_path):
    dataset = marked_gated_volume(short_axis())
    write_dicom(dataset, tmp_path / "study")
    whole = (tmp_path / "study").read_bytes()
    (tmp_path / "start").write_bytes(whole[: whole.rindex(b"\xe0\x7f\x10\x00OW") + 12])
    header = read_header(tmp_path / "start")
    assert header == read_header(tmp_path / "study") == read_nm(tmp_path / "study").header
    assert header.kind is NmKind.RECON_GATED_TOMO
    assert (header.num_gates, header.num_slices, header.num_frames) == (NUM_GATES, 20, 80)
    assert (header.patient_state, header.view) == ("Cardiac Stress State", "Short Axis")
    assert header.patient_id == "SYNTHETIC-7-0003"
    assert "SYNTHETIC" not in repr(header)
    image = read_nm(tmp_path / "start", pixels=False)
    assert image.values.shape == (NUM_GATES, 20, 0, 0)
    assert image.stack == read_nm(tmp_path / "study").stack


# --- Real files -------------------------------------------------------------------------------------------------------


@needs_test_data
def test_the_slices_of_the_jaszczak_phantom_follow_each_other_against_the_normal():
    image = read_nm(real("nm/jaszczak_recon_tomo.dcm"))
    assert image.kind is NmKind.RECON_TOMO
    assert image.stack.step_mm == pytest.approx(-4.13, abs=1e-5)
    np.testing.assert_allclose(image.affine_ras[:3, :3], np.diag([-4.13, -4.13, -4.13]), atol=1e-5)
    np.testing.assert_allclose(image.affine_ras[:3, 3], (0, 264.319977, -165.199986))
    theirs = SimpleITK.ReadImage(str(real("nm/jaszczak_recon_tomo.dcm")))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs), image.values[0])
    corner = theirs.TransformIndexToPhysicalPoint((127, 127, 44))
    np.testing.assert_allclose(RAS_FROM_LPS * (image.affine_ras @ (127, 127, 44, 1))[:3], corner, atol=1e-4)


@needs_test_data
def test_the_heart_has_no_geometry_and_is_the_same_in_all_encodings():
    whole = read_nm(real("nm/heart_recon_tomo"))
    assert whole.stack is None
    assert "geometry unknown" in whole.warnings[0]
    assert whole.spacing_mm == (6.231669, 3.11583, 3.11583)
    theirs = SimpleITK.ReadImage(str(real("nm/heart_recon_tomo")))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(theirs), whole.values[0])
    for name in ("deflated", "explicitBE", "implicitLE_nometa", "jpegll", "rle"):
        image = read_nm(real(f"nm/heart_recon_tomo_{name}.dcm"))
        np.testing.assert_array_equal(image.stored, whole.stored)
        assert image.warnings == whole.warnings


@needs_test_data
@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("uniformity_static", NmKind.STATIC, (1, 256, 256)),
        ("mpi_tomo_projections", NmKind.TOMO, (1, 30, 64, 64)),
    ],
)
def test_what_is_no_volume_is_not_taken_for_one(name, kind, shape):
    image = read_nm(real(f"nm/{name}.dcm"))
    assert image.kind is kind
    assert not image.kind.is_volume
    assert image.values.shape == shape
    assert image.stack is image.affine_ras is image.spacing_mm is None
    if kind is NmKind.TOMO:
        assert image.angles_deg[:2] == (225.44, 219.44)


@needs_test_data
def test_volumes_and_masks_of_physionet_share_their_geometry():
    for path in sorted(real("physionet/DICOM").iterdir()):
        image = read_nm(path)
        np.testing.assert_array_equal(image.affine_ras[:3, :3], np.diag([-4.0, -4.0, -4.0]))
        assert image.values.shape == (1, 50, 70, 70)
        assert image.affine_ras[:2, 3].sum() == pytest.approx(251.05, abs=0.01)
    for path in sorted(real("physionet/NIfTI").iterdir()):
        mask = nib.load(path)
        assert mask.shape == (70, 70, 50)
        np.testing.assert_array_equal(mask.affine[:3, :3], np.diag([-4.0, -4.0, -4.0]))
        assert mask.affine[:2, 3].sum() == pytest.approx(251.05, abs=0.01)


# --- Encoders of others -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="dcmcjpeg is not on PATH (apt-get install dcmtk)")
@pytest.mark.parametrize(
    ("command", "syntax", "tolerance"),
    [
        (["dcmcjpeg", "+un", "+el"], "1.2.840.10008.1.2.4.57", 0),
        (["dcmcjpeg", "+un", "+e1"], "1.2.840.10008.1.2.4.70", 0),
        (["dcmcjpls", "+el"], "1.2.840.10008.1.2.4.80", 0),
        (["dcmcjpls", "+en"], "1.2.840.10008.1.2.4.81", 2),
        (["dcmcrle"], "1.2.840.10008.1.2.5", 0),
        (["dcmconv", "+td"], "1.2.840.10008.1.2.1.99", 0),
        (["dcmconv", "+tb"], "1.2.840.10008.1.2.2", 0),
    ],
)
def test_what_dcmtk_encodes_is_read(command, syntax, tolerance, tmp_path):
    twelve_bits = changed(marked_volume(short_axis()), BitsStored=12, HighBit=11)
    path = write(twelve_bits, tmp_path / "plain.dcm")
    subprocess.run([*command, path, tmp_path / "study.dcm"], check=True, capture_output=True)
    image = read_nm(tmp_path / "study.dcm")
    assert image.header.transfer_syntax == syntax
    np.testing.assert_allclose(image.stored[0].astype(int), marked()[0], atol=tolerance)
