from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cardiac_shells import LEFT_FRONT_DOWN, Shell, degrees_between, drawn, grid_around, wall_mask
from scipy.ndimage import gaussian_filter

from mpi_unet.cardiac.axis import USUAL_APEX, HeartAxes, axes_along, heart_axes
from mpi_unet.cardiac.reorient import on_grid, short_axis, short_axis_grid, short_axis_mask
from mpi_unet.errors import CardiacError
from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.patient import sample_patient

TURNED = np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
FROM_LPS = np.diag([-1.0, -1.0, 1.0])


def measured(shell: Shell, **options) -> HeartAxes:
    return heart_axes(*wall_mask(shell, **options))


def at(axes: HeartAxes, height_mm: float) -> np.ndarray:
    return axes.to_world(np.array([0.0, 0.0, height_mm]))


# --- The axis of cups that are known ---


@pytest.mark.parametrize(
    ("spacing_mm", "voxel_axes"),
    [
        ((4.0, 4.0, 4.0), None),
        ((6.4, 6.4, 6.4), None),
        ((6.4, 3.2, 3.2), TURNED),
        ((4.0, 4.0, 4.0), np.diag([-1.0, -1.0, -1.0])),
        ((3.0, 6.4, 5.0), np.diag([1.0, -1.0, 1.0])),
    ],
)
def test_axis_base_and_apex_of_a_cup(spacing_mm, voxel_axes):
    shell = Shell()
    axes = measured(shell, spacing_mm=spacing_mm, axes=voxel_axes)
    assert degrees_between(axes.long_axis, shell.axis) < 1.5
    np.testing.assert_allclose(at(axes, axes.base_mm), shell.base_mm, atol=0.35 * max(spacing_mm))
    np.testing.assert_allclose(at(axes, axes.apex_mm), shell.apex_mm, atol=0.6 * max(spacing_mm))
    assert axes.cavity_apex_mm == pytest.approx(axes.apex_mm - shell.wall, abs=0.6 * max(spacing_mm))
    assert axes.length_mm == pytest.approx(60 * 1.3 + 9, abs=0.7 * max(spacing_mm))
    assert axes.is_open
    assert axes.rim_scatter_mm < 0.6 * max(spacing_mm)


@pytest.mark.parametrize(
    "direction", [LEFT_FRONT_DOWN, (0.7, 0.5, -0.4), (0.0, 1.0, 0.0), (-1.0, -0.2, 0.3), (-0.4, 0.4, 0.8)]
)
def test_apex_is_found_wherever_it_points(direction):
    shell = Shell(apex_direction=direction)
    assert degrees_between(measured(shell).long_axis, shell.axis) < 1.5


@pytest.mark.parametrize(("radius", "half_length", "wall"), [(38.0, 46.0, 9.0), (13.0, 52.0, 14.0), (24.0, 60.0, 6.0)])
def test_round_small_and_thin_ventricles(radius, half_length, wall):
    shell = Shell(radius=radius, half_length=half_length, wall=wall)
    axes = measured(shell)
    assert degrees_between(axes.long_axis, shell.axis) < 2
    np.testing.assert_allclose(at(axes, axes.base_mm), shell.base_mm, atol=2)


def test_slope_of_the_valve_plane():
    axes = measured(Shell(tilt=0.25))
    assert axes.valve_slopes[1] == pytest.approx(0.25, abs=0.05)
    assert axes.valve_slopes[0] == pytest.approx(0.0, abs=0.05)
    height = axes.valve_height_mm(np.array([[0.0, 20.0, 0.0], [0.0, -20.0, 0.0]]))
    assert height[0] - height[1] == pytest.approx(10, abs=2)


def test_horseshoe_is_a_cup_still():
    shell = Shell()
    mask, affine = wall_mask(shell)
    axes = heart_axes(mask, affine)
    z, y, x = np.nonzero(mask)
    heart = axes.to_heart(np.stack([x, y, z], -1) @ affine[:3, :3].T + affine[:3, 3])
    gone = (np.abs(axes.wall_angle_deg(heart) - 280) < 35) & (heart[:, 2] < axes.base_mm + 22)
    mask[z[gone], y[gone], x[gone]] = False
    again = heart_axes(mask, affine)
    assert degrees_between(again.long_axis, shell.axis) < 3
    assert again.rim_scatter_mm > axes.rim_scatter_mm + 2


def test_crumbs_do_not_count_and_shares_do():
    shell = Shell()
    shape, affine = grid_around(shell, (6.4, 6.4, 6.4))
    shares = drawn(shell, shape, affine)
    mask = shares >= 0.5
    mask[0, 0, 0] = True
    crumbs = heart_axes(mask, affine)
    np.testing.assert_allclose(crumbs.long_axis, heart_axes(shares >= 0.5, affine).long_axis, atol=1e-9)
    np.testing.assert_allclose(
        at(heart_axes(shares, affine), heart_axes(shares, affine).base_mm), shell.base_mm, atol=2
    )


# --- Sides ---


def test_wall_angles_run_as_in_the_phantom():
    heart = Heart(sample_patient(3, 4))
    apical, inferior = FROM_LPS @ heart.axes[2], FROM_LPS @ heart.axes[1]
    axes = axes_along((0.0, 0.0, 0.0), tuple(apical), base_mm=-40, apex_mm=40, inferior_reference=tuple(inferior))
    np.testing.assert_allclose(axes.frame[0], FROM_LPS @ heart.axes[0], atol=1e-9)
    np.testing.assert_allclose(axes.frame[1], inferior, atol=1e-9)
    sides = np.array([[0.0, -1.0, 5.0], [1.0, 0.0, 5.0], [0.0, 1.0, 5.0], [-1.0, 0.0, 5.0]])
    np.testing.assert_allclose(axes.wall_angle_deg(sides), [0, 90, 180, 270])


def test_heart_frame_goes_there_and_back():
    axes = measured(Shell())
    points = np.random.default_rng(0).uniform(-60, 60, (30, 3))
    np.testing.assert_allclose(axes.to_world(axes.to_heart(points)), points, atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.det(axes.frame), -1, atol=1e-9
    )  # lateral, inferior, apical: seen from the apex


def test_inferior_wall_looks_where_it_is_told_to():
    mask, affine = wall_mask(Shell())
    to_feet, to_back = heart_axes(mask, affine), heart_axes(mask, affine, inferior_reference=(0.0, -1.0, 0.0))
    assert to_feet.inferior[2] < -0.5
    assert to_back.inferior[1] < -0.5
    np.testing.assert_allclose(to_feet.long_axis, to_back.long_axis)


# --- What cannot be measured ---


def test_closed_cup_needs_a_hint():
    mask, affine = wall_mask(Shell(closed=True))
    with pytest.raises(CardiacError, match=r"no opening of the cavity(.|\n)*apex_hint=USUAL_APEX"):
        heart_axes(mask, affine)
    axes = heart_axes(mask, affine, apex_hint=USUAL_APEX)
    assert degrees_between(axes.long_axis, Shell().axis) < 3
    assert not axes.is_open
    assert axes.rim_scatter_mm is None
    np.testing.assert_allclose(at(axes, axes.base_mm), Shell().base_mm + 9 * Shell().axis, atol=2)


def test_opening_overrules_a_wrong_hint():
    mask, affine = wall_mask(Shell())
    assert degrees_between(heart_axes(mask, affine, apex_hint=(1.0, -1.0, 1.0)).long_axis, Shell().axis) < 1.5


def test_heart_along_the_reference_has_no_inferior_side():
    mask, affine = wall_mask(Shell(apex_direction=(0.05, 0.1, -1.0)))
    with pytest.raises(CardiacError, match=r"inferior_reference: lies \d+ degrees from the long axis(.|\n)*another"):
        heart_axes(mask, affine)
    heart_axes(mask, affine, inferior_reference=(0.0, 1.0, 0.0))


def test_outlines_that_are_no_ventricle_are_refused():
    mask, affine = wall_mask(Shell())
    with pytest.raises(CardiacError, match="wall: is empty"):
        heart_axes(np.zeros_like(mask), affine)
    two = mask | np.roll(mask, mask.shape[0] // 2, axis=0)
    two[:, :1] = False
    with pytest.raises(CardiacError, match=r"separate pieces of [\d, ]+ voxels(.|\n)*Keep the piece"):
        heart_axes(two, affine)
    with pytest.raises(CardiacError, match="values from 0 to 2"):
        heart_axes(mask * 2.0, affine)
    with pytest.raises(CardiacError, match="shares of voxels between 0 and 1"):
        heart_axes(np.where(mask, np.nan, 0.0), affine)
    with pytest.raises(CardiacError, match="affine_ras"):
        heart_axes(mask, np.zeros((4, 4)))
    block = np.zeros_like(mask)
    block[15:30, 15:30, 15:30] = True
    with pytest.raises(CardiacError):
        heart_axes(block, affine)
    with pytest.raises(CardiacError, match=r"closed ring at \d+ heights only"):
        heart_axes(block, affine, apex_hint=USUAL_APEX)


def test_axes_say_what_is_wrong_with_them():
    axes = measured(Shell())
    with pytest.raises(CardiacError, match=r"orthogonal unit vectors; axes_along"):
        replace(axes, inferior=axes.long_axis)
    with pytest.raises(CardiacError, match="turn long_axis round"):
        replace(axes, apex_mm=axes.base_mm - 1)


# --- Reorientation ---


def blurred(shell: Shell, spacing_mm=(4.0, 4.0, 4.0)) -> tuple[np.ndarray, np.ndarray]:
    shape, affine = grid_around(shell, spacing_mm)
    return gaussian_filter(drawn(shell, shape, affine, parts=2), 1.5).astype(np.float32), affine


def test_short_axis_slices_lie_as_they_are_shown():
    image, affine = blurred(Shell())
    axes = measured(Shell())
    slices, grid = short_axis(image, affine, axes, spacing_mm=(6.0, 3.0, 3.0), matrix=60)
    assert slices.shape[1:] == (60, 60)
    np.testing.assert_allclose(np.linalg.norm(grid[:3, :3], axis=0), [3, 3, 6])
    np.testing.assert_allclose(grid[:3, 0] / 3, axes.frame[0], atol=1e-9)
    np.testing.assert_allclose(grid[:3, 1] / 3, axes.frame[1], atol=1e-9)
    np.testing.assert_allclose(grid[:3, 2] / 6, -axes.frame[2], atol=1e-9)
    middle = slices[slices.shape[0] // 2]
    ring = np.array([middle[29 - r, 29] for r in range(25)])
    assert 6 <= ring.argmax() <= 10  # mid-wall at 28 mm, that is 9 pixels
    assert middle[29, 29] < 0.3 * ring.max()
    apical, basal = slices[4:8].sum(), slices[-4:].sum()
    assert apical > 3 * basal  # apex first: the cap is there, the last slices are beyond the base


def test_there_and_back_again():
    image, affine = blurred(Shell())
    axes = measured(Shell())
    slices, grid = short_axis(image, affine, axes, spacing_mm=(2.5, 2.5, 2.5), matrix=90)
    back = on_grid(slices, grid, image.shape, affine)
    heart = image > 0.1
    assert np.abs(back - image)[heart].mean() < 0.02
    assert back[heart].sum() == pytest.approx(image[heart].sum(), rel=0.02)


def test_mask_keeps_its_volume_and_place():
    shell = Shell()
    mask, affine = wall_mask(shell)
    axes = heart_axes(mask, affine)
    slices, grid = short_axis_mask(mask, affine, axes, spacing_mm=(3.2, 3.2, 3.2))
    assert slices.dtype == bool
    assert slices.sum() * 3.2**3 / 1000 == pytest.approx(shell.wall_ml, rel=0.04)
    again = heart_axes(slices, grid)
    assert degrees_between(again.long_axis, shell.axis) < 1.5
    np.testing.assert_allclose(at(again, again.base_mm), shell.base_mm, atol=2)


def test_spacing_must_be_positive():
    with pytest.raises(CardiacError, match="expected positive numbers"):
        short_axis_grid(measured(Shell()), spacing_mm=(0.0, 3.0, 3.0))
