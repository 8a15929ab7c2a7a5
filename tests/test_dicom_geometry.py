"""Where slices and views lie in the patient: signs, angles, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from mpi_unet.dicom.geometry import Orbit, SliceStack, detector_side, lps_from_ras, view_directions

STACK = SliceStack((-100.0, -90.0, 30.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (4.0, 5.0), 6.0)
ORBIT = Orbit(first_angle_deg=223.5, arc_deg=180.0, num_views=6, radius_mm=200.0)


@pytest.mark.parametrize("step_mm", [6.4, -6.4])
def test_affine_and_stack_say_the_same(step_mm):
    normal = np.array([0.6, -0.64, -0.48])
    row = np.cross(normal, (0.0, 0.0, 1.0)) / np.hypot(0.6, 0.64)
    column = np.cross(normal, row)
    stack = SliceStack((12.5, -40.25, 77.125), tuple(row.tolist()), tuple(column.tolist()), (3.2, 3.4), step_mm)
    again = SliceStack.from_affine(stack.affine_lps)
    assert again.step_mm == pytest.approx(step_mm)
    np.testing.assert_allclose(again.affine_lps, stack.affine_lps, atol=1e-12)
    assert np.sign(np.linalg.det(stack.affine_lps)) == np.sign(step_mm)


def test_lps_and_ras_differ_in_left_and_back():
    affine = np.array([[4.0, 0, 0, 10], [0, 5, 0, 20], [0, 0, 6, 30], [0, 0, 0, 1]])
    np.testing.assert_array_equal(lps_from_ras(affine) @ (1, 1, 1, 1), (-14, -25, 36, 1))
    np.testing.assert_array_equal(lps_from_ras(lps_from_ras(affine)), affine)


@pytest.mark.parametrize(
    ("angle_deg", "side"), [(0.0, (0, 1, 0)), (90.0, (1, 0, 0)), (180.0, (0, -1, 0)), (270.0, (-1, 0, 0))]
)
def test_angles_grow_from_the_back_toward_the_left(angle_deg, side):
    np.testing.assert_allclose(detector_side(angle_deg), side, atol=1e-12)


def test_directions_of_a_view_are_those_of_a_real_camera():
    # From the header of a clinical study: start angle 225.44, clockwise over 180 degrees, these direction cosines.
    row, column = view_directions(225.44)
    np.testing.assert_allclose(row, (0.701656, -0.712516, 0.0), atol=1e-5)
    assert column == (0.0, 0.0, -1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row_direction": (1.0, 0.1, 0.0)}, "lengths 1.005 and 1 and the scalar product 0.1; .*resample a sheared"),
        ({"row_direction": (2.0, 0.0, 0.0)}, "lengths 2 and 1 .*orthogonal unit vectors"),
        ({"step_mm": 0.0}, "step_mm 0.0; .* slices a distance"),
        ({"pixel_mm": (4.0, -4.0)}, r"pixel_mm is \(4.0, -4.0\)"),
        ({"position_mm": (0.0, float("nan"), 0.0)}, "finite places"),
    ],
)
def test_a_stack_that_is_no_box_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(STACK, **changes)


def test_a_sheared_affine_is_refused():
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[0, 2] = 1.0
    with pytest.raises(ValueError, match=r"stacked at 14.04 degrees to their normal; .*resample"):
        SliceStack.from_affine(affine)
    affine[:3, 2] = 0
    with pytest.raises(ValueError, match="three axes of some length"):
        SliceStack.from_affine(affine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius_mm": (200.0, 210.0)}, "radius_mm has 2 values for 6 views; give one, or one for each"),
        ({"arc_deg": -180.0}, "arc_deg is -180.0, .*must be positive, and the arc at most 360"),
        ({"radius_mm": 0.0}, "smallest radius 0.0 mm"),
        ({"first_angle_deg": float("inf")}, "must be finite"),
    ],
)
def test_an_orbit_that_no_camera_goes_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ORBIT, **changes)
