from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from polar_builders import CAVITY_MM, flat_map, shell, shell_axes

from mpi_unet.cardiac.axis import CAP_SHARE
from mpi_unet.cardiac.disc import disc_picture
from mpi_unet.cardiac.polar_map import change_map, gated_polar_maps, normalized, polar_map
from mpi_unet.cardiac.segments import segment_means, segment_numbers
from mpi_unet.errors import CardiacError


def within(angle: np.ndarray, middle_deg: float, half_deg: float) -> np.ndarray:
    return np.abs((angle - middle_deg + 180) % 360 - 180) < half_deg


@pytest.mark.parametrize("direction", [(-0.6, 0.6, -0.5), (0.0, 1.0, 0.0), (-1.0, 0.2, 0.3)])
@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, -1, 1), (1, 1, -1)])
def test_even_uptake_gives_an_even_map_however_the_heart_lies(direction, flip):
    axes = shell_axes(direction)
    image, wall, affine = shell(axes, flip=flip)
    polar = polar_map(image, wall, affine, axes)
    assert polar.measured_pct > 99
    np.testing.assert_allclose(polar.values[np.isfinite(polar.values)], 1.0, atol=1e-6)


RING_MM = (1 - CAP_SHARE) * 66.0 / 3
"""Height of each ring of segments in a cavity of 66 mm."""


def test_area_is_that_of_the_middle_of_the_wall():
    axes = shell_axes()
    _, wall, affine = shell(axes, spacing_mm=2.0)
    polar = polar_map(wall.astype(np.float32), wall, affine, axes)
    # half an ellipsoid with the half axes 29, 29 and 71 mm, by its closed formula
    radius, length = 29.0, 71.0
    eccentricity = np.sqrt(1 - (radius / length) ** 2)
    expected = np.pi * radius**2 * (1 + length / radius / eccentricity * np.arcsin(eccentricity))
    assert np.nansum(polar.area_mm2) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(
    ("segment", "angle_deg", "half_deg", "low_mm", "high_mm"),
    [
        (1, 0, 30, 0, RING_MM),
        (3, 240, 30, 0, RING_MM),
        (8, 300, 30, RING_MM, 2 * RING_MM),
        (11, 120, 30, RING_MM, 2 * RING_MM),
        (14, 270, 45, 2 * RING_MM, 66),
        (16, 90, 45, 2 * RING_MM, 66),
        (17, 0, 181, 58, 80),  # rays of the cap cross the wall aslant, from below its plane,
    ],
)
@pytest.mark.parametrize("flip", [(1, 1, 1), (1, -1, -1)])
def test_a_planted_defect_appears_in_its_own_segment_only(segment, angle_deg, half_deg, low_mm, high_mm, flip):
    axes = shell_axes()

    def uptake(angle, height):
        here = within(angle, angle_deg, half_deg) & (height >= low_mm) & (height < high_mm)
        return np.where(here, 0.2, 1.0)

    image, wall, affine = shell(axes, uptake, spacing_mm=2.0, flip=flip)
    means = segment_means(normalized(polar_map(image, wall, affine, axes, statistic="mean")))
    assert means[segment - 1] < 40
    others = [mean for number, mean in enumerate(means, 1) if number != segment]
    assert min(others) > 83


def test_extent_and_place_of_a_planted_defect():
    axes = shell_axes()
    image, wall, affine = shell(
        axes, lambda angle, height: np.where(within(angle, 90, 45) & (height < 2 * RING_MM), 0.1, 1.0), spacing_mm=2.0
    )
    polar = normalized(polar_map(image, wall, affine, axes, statistic="mean"))
    low = polar.values < 55
    basal = low[-1]
    assert polar.angles_deg[basal].min() == pytest.approx(45, abs=6)
    assert polar.angles_deg[basal].max() == pytest.approx(135, abs=6)
    np.testing.assert_array_equal(low[:, basal].mean(axis=1).round(), [0] * 10 + [1] * 10)
    share = polar.area_mm2[low].sum() / polar.area_mm2[10:].sum()
    assert share == pytest.approx(0.25, abs=0.03)


def test_maximum_sees_past_a_rim_of_blurred_counts_and_mean_does_not():
    axes = shell_axes()
    _, wall, affine = shell(axes)
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(wall.astype(np.float32), 2.0)
    highest, mean = (polar_map(image, wall, affine, axes, statistic=name).values for name in ("maximum", "mean"))
    assert (highest[8:18] > mean[8:18]).all()


def test_what_lies_beside_the_wall_is_not_read():
    axes = shell_axes()
    image, wall, affine = shell(axes)
    hot = np.where(wall, image, 50).astype(np.float32)
    np.testing.assert_array_equal(
        polar_map(hot, wall, affine, axes).values, polar_map(image, wall, affine, axes).values
    )


def test_a_wall_one_voxel_thick_has_no_holes():
    axes = shell_axes()
    _, solid, affine = shell(axes, spacing_mm=3.0)
    from scipy.ndimage import binary_erosion

    thin = solid & ~binary_erosion(solid)  # both surfaces of the wall, each one voxel thick
    assert polar_map(thin.astype(np.float32), thin, affine, axes).measured_pct > 98


def test_wall_that_is_missing_is_not_measured():
    axes = shell_axes()
    image, wall, affine = shell(axes)
    index = np.argwhere(wall)
    heart = axes.to_heart(index[:, ::-1] @ affine[:3, :3].T + affine[:3, 3])
    cut = within(axes.wall_angle_deg(heart), 270, 60) & (heart[:, 2] < 20)
    wall[tuple(index[cut].T)] = False
    polar = polar_map(image, wall, affine, axes)
    septal = within(polar.angles_deg, 270, 45)
    assert np.isnan(polar.values[-3:][:, septal]).all()
    assert np.isnan(polar.area_mm2[-3:][:, septal]).all()
    means = segment_means(polar)
    assert means[1] is None
    assert means[2] is None
    assert means[0] is not None


def test_a_hole_at_the_apex_leaves_the_cap_unmeasured_and_the_rest_in_place():
    axes = shell_axes()
    image, wall, affine = shell(axes, lambda angle, height: np.where(height < CAVITY_MM / 3, 0.5, 1.0))
    index = np.argwhere(wall)
    heart = axes.to_heart(index[:, ::-1] @ affine[:3, :3].T + affine[:3, 3])
    wall[tuple(index[np.hypot(heart[:, 0], heart[:, 1]) < 8].T)] = False
    polar = polar_map(image, wall, affine, replace(axes, cavity_apex_mm=None))
    assert np.isnan(polar.values[0]).all()
    means = segment_means(polar)
    assert means[0] == pytest.approx(0.5, abs=0.1)
    assert means[6] == pytest.approx(1.0, abs=0.05)


def test_gates_are_sampled_along_their_own_axes():
    axes = shell_axes()
    image, wall, affine = shell(axes)
    images = np.stack([image * np.float32(gate + 1) for gate in range(8)])
    maps = gated_polar_maps(images, [wall] * 8, affine, [axes] * 8)
    np.testing.assert_allclose([np.nanmax(polar.values) for polar in maps], np.arange(1, 9), rtol=1e-6)
    with pytest.raises(CardiacError, match="8 gates, 7 outlines and 8 axes"):
        gated_polar_maps(images, [wall] * 7, affine, [axes] * 8)
    with pytest.raises(CardiacError, match=r"Gate 2: .*wall is empty"):
        gated_polar_maps(images, [wall, np.zeros_like(wall), *[wall] * 6], affine, [axes] * 8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"statistic": "median"}, "statistic is 'median', expected maximum or mean"),
        ({"num_angles": 50}, "num_angles is 50, expected a multiple of 24"),
        ({"rings_per_zone": 0}, "rings_per_zone is 0, expected at least 1"),
    ],
)
def test_options_that_make_no_map_are_refused(change, said):
    axes = shell_axes()
    image, wall, affine = shell(axes, spacing_mm=6.0)
    with pytest.raises(CardiacError, match=said):
        polar_map(image, wall, affine, axes, **change)


def test_images_and_outlines_that_give_no_map_are_refused():
    axes = shell_axes()
    image, wall, affine = shell(axes, spacing_mm=6.0)
    with pytest.raises(CardiacError, match="wall is empty, expected an outline"):
        polar_map(image, np.zeros_like(wall), affine, axes)
    with pytest.raises(CardiacError, match="expected the same grid"):
        polar_map(image[1:], wall, affine, axes)
    with pytest.raises(CardiacError, match="not finite within the wall"):
        polar_map(np.where(wall, np.nan, image).astype(np.float32), wall, affine, axes)
    with pytest.raises(CardiacError, match=r"cavity is 10 mm long.*look at both ends"):
        polar_map(image, wall, affine, shell_axes(cavity_apex_mm=10.0))
    half = wall.copy()
    half[:, :, : wall.shape[2] // 2] = False
    with pytest.raises(CardiacError, match="nan mm thick"):
        polar_map(image, half, affine, replace(axes, cavity_apex_mm=None))


def test_normalization_to_maximum_and_to_a_percentile_of_the_area():
    polar = flat_map(50.0, unit="counts")
    polar.values[0, 0] = 200.0
    assert normalized(polar).values[1, 1] == 25.0
    robust = normalized(polar, 90)
    assert robust.values[1, 1] == 100.0
    assert robust.unit == "percent of percentile 90"
    with pytest.raises(CardiacError, match="percent of maximum, expected counts; normalize a map once"):
        normalized(normalized(polar))
    with pytest.raises(CardiacError, match="percentile is 0"):
        normalized(polar, 0)
    with pytest.raises(CardiacError, match="no measured pixel"):
        normalized(flat_map(np.nan, unit="counts"))
    with pytest.raises(CardiacError, match="0 counts, expected more than 0"):
        normalized(flat_map(0.0, unit="counts"))


def test_change_wants_two_maps_made_alike():
    assert change_map(flat_map(60.0), flat_map(80.0)).values.min() == 20.0
    assert change_map(flat_map(60.0), flat_map(80.0)).unit == "percentage points"
    with pytest.raises(CardiacError, match="normalize both maps first"):
        change_map(flat_map(unit="counts"), flat_map())
    with pytest.raises(CardiacError, match=r"percentile 90.*same options"):
        change_map(flat_map(), flat_map(unit="percent of percentile 90"))


def test_disc_has_anterior_on_top_and_lateral_on_the_right():
    numbers = segment_numbers(20, 72).astype(float)
    disc = disc_picture(numbers, 201, smooth=False)
    assert disc[100, 100] == 17
    assert disc[5, 100] == 1  # top, rim
    assert disc[195, 100] == 4
    assert disc[100, 62] == 14  # left, apical: septum
    assert disc[100, 138] == 16
    assert disc[62, 100] == 13
    assert disc[138, 100] == 15
    assert {disc[60, 190], disc[140, 190]} == {6, 5}
    assert {disc[60, 10], disc[140, 10]} == {2, 3}
    assert np.isnan(disc[0, 0])


def test_smooth_disc_keeps_values_and_gaps():
    values = flat_map().values.copy()
    values[-1] = np.nan
    disc = disc_picture(values, 101)
    assert np.nanmin(disc) == pytest.approx(100.0)
    assert np.nanmax(disc) == pytest.approx(100.0)
    assert np.isnan(disc[1, 50])
    ramp = np.repeat(np.arange(8.0)[:, None], 48, axis=1)
    row = disc_picture(ramp, 101)[50, 50:]
    assert (np.diff(row) >= 0).all()
