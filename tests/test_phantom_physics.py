from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from skimage.transform import iradon, radon

from mpi_unet.phantom.camera import CZT, PARALLEL_HOLE, Camera
from mpi_unet.phantom.projector import Attenuation, Projector, turn_matrices
from mpi_unet.phantom.random_streams import PURPOSES, Stream, poisson_counts
from mpi_unet.phantom.reconstruction import butterworth, field_of_view, filtered_back_projection, hann, osem

SMALL = replace(PARALLEL_HOLE, num_views=24, num_bins=32, num_rows=8)
FROM_THE_FRONT = replace(PARALLEL_HOLE, num_views=1, first_view_deg=-90.0)  # its only view lies at 0 degrees


def centers(count: int, step_mm: float) -> np.ndarray:
    return (np.arange(count) - (count - 1) / 2) * step_mm


def disk(num_pixels: int, pixel_mm: float, radius_mm: float, center_mm=(0.0, 0.0)) -> np.ndarray:
    """Share of each pixel inside a disk around (x, y), by sixteenfold sampling; (y, x)."""
    fine = centers(num_pixels * 4, pixel_mm / 4)
    inside = np.hypot(fine[None, :] - center_mm[0], fine[:, None] - center_mm[1]) <= radius_mm
    return inside.reshape(num_pixels, 4, num_pixels, 4).mean((1, 3)).astype(np.float32)


def columns(plane: np.ndarray, num_slices: int = 1) -> np.ndarray:
    return np.repeat(plane.reshape(-1, 1, 1), num_slices, axis=2).astype(np.float32)


# --- Geometry ---


def test_counts_are_conserved_without_attenuation():
    rng = np.random.default_rng(1)
    activity = rng.random((64 * 64, 2, 24)).astype(np.float32)
    activity *= disk(64, 3.2, 80.0).reshape(-1, 1, 1)
    activity[:, :, :8] = activity[:, :, -8:] = 0  # so that blur stays within the rows
    camera = replace(PARALLEL_HOLE, num_views=16)
    projector = Projector(camera, 64, 3.2, radius_mm=np.full(16, 150.0), keep_counts=True)
    for view in range(16):
        np.testing.assert_allclose(projector.forward(activity, view).sum((0, 2)), activity.sum((0, 2)), rtol=2e-4)


def test_turned_blob_appears_where_geometry_puts_it():
    x_mm, y_mm, sigma_mm = 40.0, -25.0, 20.0
    x, y = np.meshgrid(centers(64, 6.4), centers(64, 6.4))
    blob = np.exp(-((x - x_mm) ** 2 + (y - y_mm) ** 2) / (2 * sigma_mm**2))
    for keep_counts in (False, True):
        projector = Projector(PARALLEL_HOLE, 64, 6.4, keep_counts=keep_counts)
        for view in (0, 15, 31, 59):
            angle = np.deg2rad(PARALLEL_HOLE.view_angles_deg[view])
            middle_mm = x_mm * np.cos(angle) + y_mm * np.sin(angle)
            expected = np.exp(-((centers(64, 6.4) - middle_mm) ** 2) / (2 * sigma_mm**2))
            expected *= sigma_mm * np.sqrt(2 * np.pi) / 6.4
            seen = projector.forward(columns(blob), view)[:, 0, 0]
            ripple = 0.09 if keep_counts else 0.04  # whole counts leave a pattern, which the collimator blurs away
            np.testing.assert_allclose(seen, expected, atol=ripple * expected.max())
            assert (seen @ centers(64, 6.4)) / seen.sum() == pytest.approx(
                x_mm * np.cos(angle) + y_mm * np.sin(angle), abs=0.1
            )


def test_ray_sums_agree_with_scikit_image():
    rng = np.random.default_rng(3)
    x, y = np.meshgrid(centers(65, 1.0), centers(65, 1.0))
    image = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 60) for a, b in rng.uniform(-15, 15, (5, 2))) * (
        np.hypot(x, y) < 32
    )
    camera = replace(PARALLEL_HOLE, num_views=12, num_bins=65, pixel_mm=1.0)
    projector = Projector(camera, 65, 1.0)
    ours = np.stack([projector.forward(columns(image), view)[:, 0, 0] for view in range(12)], axis=1)
    # scikit-image turns the image the other way round and counts rows downward, as y does here
    theirs = radon(image, theta=-camera.view_angles_deg, circle=True)
    assert np.abs(ours - theirs).max() < 0.01 * theirs.max()


@pytest.mark.parametrize("keep_counts", [False, True])
def test_cells_near_the_camera_lie_at_great_depth(keep_counts: bool):
    for turn, angle in zip(turn_matrices(32, (0.0, 90.0), keep_counts), ("front", "left"), strict=True):
        plane = np.zeros((32, 32), np.float32)
        if angle == "front":
            plane[2, 16] = 1  # y grows to the back
        else:
            plane[16, 29] = 1  # x grows to the left
        depth = (turn @ plane.ravel()).reshape(32, 32).sum(1)
        assert depth.argmax() == 29


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize("weaken", [False, True])
def test_backward_is_the_transpose_of_forward(blur: bool, weaken: bool):
    rng = np.random.default_rng(2)
    mu = Attenuation(rng.uniform(0, 0.015, (32 * 32, 8)).astype(np.float32)) if weaken else None
    projector = Projector(SMALL, 32, 6.4, radius_mm=np.full(24, 160.0) if blur else None, attenuation=mu)
    volume = rng.random((32 * 32, 2, 8)).astype(np.float32)
    view = rng.random((32, 2, 8)).astype(np.float32)
    for number in (0, 7, 23):
        forward = np.vdot(projector.forward(volume, number).astype(float), view)
        backward = np.vdot(volume.astype(float), projector.backward(view, number))
        assert forward == pytest.approx(backward, rel=1e-5)


# --- Collimator ---


def half_width_mm(profile: np.ndarray, step_mm: float) -> float:
    """Full width at half maximum, between samples."""
    top = int(profile.argmax())
    half = profile[top] / 2
    right = top + int(np.argmax(profile[top:] < half))
    left = top - int(np.argmax(profile[top::-1] < half))
    right_edge = right - (half - profile[right]) / (profile[right - 1] - profile[right])
    left_edge = left + (half - profile[left]) / (profile[left + 1] - profile[left])
    return float(right_edge - left_edge) * step_mm


@pytest.mark.parametrize("camera", [PARALLEL_HOLE, CZT], ids=["parallel_hole", "czt"])
@pytest.mark.parametrize("distance_mm", [50.0, 100.0, 150.0, 250.0])
def test_point_has_the_width_of_the_collimator_at_each_distance(camera: Camera, distance_mm: float):
    fine = replace(camera, num_views=1, first_view_deg=-90.0, num_bins=65, num_rows=65, pixel_mm=1.0)
    point = np.zeros((65 * 65, 1, 65), np.float32)
    point[32 * 65 + 32, 0, 32] = 1
    view = Projector(fine, 65, 1.0, radius_mm=np.array([distance_mm]), keep_counts=True).forward(point, 0)[:, 0]
    effective = camera.hole_length_mm - 2 / camera.septum_mu_per_mm
    expected = np.hypot(camera.hole_mm * (effective + distance_mm) / effective, camera.intrinsic_fwhm_mm)
    assert half_width_mm(view[:, 32], 1.0) == pytest.approx(expected, rel=0.02)
    assert half_width_mm(view[32], 1.0) == pytest.approx(expected, rel=0.02)


def test_blur_follows_depth_within_the_object():
    camera = replace(FROM_THE_FRONT, num_bins=128, num_rows=64, pixel_mm=2.0)
    for depth_mm in (-80.0, 0.0, 80.0):
        point = np.zeros((128 * 128, 1, 64), np.float32)
        point[int(64 - depth_mm / 2.0) * 128 + 64, 0, 32] = 1  # nearer to the camera is smaller y
        view = Projector(camera, 128, 2.0, radius_mm=np.array([200.0]), keep_counts=True).forward(point, 0)[:, 0]
        across = view.sum(1) / view.sum()
        u = centers(128, 2.0)
        sd_mm = np.sqrt(across @ u**2 - (across @ u) ** 2)
        assert sd_mm == pytest.approx(camera.sigma_mm(200.0 - depth_mm), rel=0.04)  # slabs of 8 mm


def test_sharpness_of_the_collimator_is_that_of_the_data_sheet():
    # Siemens Symbia LEHR: system resolution 7.5 mm at 10 cm with a 3.8 mm detector
    assert PARALLEL_HOLE.fwhm_mm(100.0) == pytest.approx(7.5, abs=0.6)


# --- Attenuation and scatter ---


@pytest.mark.parametrize("point_mm", [(0.0, 0.0), (40.0, -60.0), (-50.0, 50.0)])
def test_attenuation_is_the_line_integral(point_mm: tuple[float, float]):
    radius_mm, mu_per_mm = 120.0, 0.0154
    size, step = 128, 3.2
    mu = np.repeat(disk(size // 2, 2 * step, radius_mm).reshape(-1, 1) * np.float32(mu_per_mm), 4, axis=1)
    activity = np.zeros((size, size, 1, 4), np.float32)
    column, row = (round(value / step + (size - 1) / 2) for value in point_mm)
    column, row = column - column % 2, row - row % 2  # one cell of the attenuation map
    activity[row : row + 2, column : column + 2] = 1
    x_mm, y_mm = ((index + 0.5 - (size - 1) / 2) * step for index in (column, row))
    camera = replace(PARALLEL_HOLE, num_views=12)
    with_tissue = Projector(camera, size, step, attenuation=Attenuation(mu, coarseness=2), keep_counts=True)
    without = Projector(camera, size, step, keep_counts=True)
    for view, angle in enumerate(np.deg2rad(camera.view_angles_deg)):
        across, deep = x_mm * np.cos(angle) + y_mm * np.sin(angle), x_mm * np.sin(angle) - y_mm * np.cos(angle)
        path_mm = np.sqrt(radius_mm**2 - across**2) - deep
        flat = activity.reshape(-1, 1, 4)
        ratio = with_tissue.forward(flat, view).sum() / without.forward(flat, view).sum()
        assert ratio == pytest.approx(np.exp(-mu_per_mm * path_mm), rel=0.02)


def test_scatter_builds_up_with_depth_and_arrives_spread_out():
    size, step, mu_per_mm = 128, 3.2, 0.0154
    mu = np.full((64 * 64, 64), mu_per_mm, np.float32)
    camera = FROM_THE_FRONT
    projector = Projector(
        camera, size, step, radius_mm=np.array([230.0]), attenuation=Attenuation(mu, coarseness=2), keep_counts=True
    )
    for row in (50, 80):
        point = np.zeros((size, size, 1, 64), np.float32)
        point[row : row + 2, 63:65, 0, 31:33] = 100
        primary, scatter = projector.forward_with_scatter(point.reshape(size * size, 1, 64), 0)
        depth_mm = (row + 1) * step
        expected = np.expm1(camera.buildup * mu_per_mm * depth_mm)
        assert scatter.sum() / primary.sum() == pytest.approx(expected, rel=0.06)
        assert half_width_mm(scatter[:, 0, 32], 6.4) > 60
        assert half_width_mm(primary[:, 0, 32], 6.4) < 20


# --- Reconstruction ---


def cold_hole(size: int = 32, pixel_mm: float = 6.4) -> np.ndarray:
    hot, cold = disk(size, pixel_mm, 26.0, (25.0, 20.0)), disk(size, pixel_mm, 20.0, (-30.0, -10.0))
    return disk(size, pixel_mm, 75.0) + 2 * hot - cold


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize("weaken", [False, True])
def test_osem_of_noiseless_data_converges_to_the_object(blur: bool, weaken: bool):
    truth = columns(100 * cold_hole(), 4)
    mu = Attenuation(columns(disk(32, 6.4, 90.0) * 0.012, 4)[:, 0]) if weaken else None
    camera = replace(SMALL, num_views=48, arc_deg=360.0)
    projector = Projector(camera, 32, 6.4, radius_mm=np.full(48, 130.0) if blur else None, attenuation=mu)
    views = np.stack([projector.forward(truth, view) for view in range(48)])
    inside = disk(32, 6.4, 90.0).ravel() > 0.5
    errors = []
    for num_iterations in (1, 4, 24):
        found = osem(projector, views, num_iterations=num_iterations, num_subsets=8)
        errors.append(float(np.sqrt(np.mean((found - truth)[inside] ** 2)) / np.sqrt(np.mean(truth[inside] ** 2))))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < (0.10 if blur else 0.05)
    explained = np.stack([projector.forward(found, view) for view in range(48)])
    assert np.abs(explained - views).max() < 0.01 * views.max()
    assert found.sum() == pytest.approx(truth.sum(), rel=0.005)


def test_likelihood_never_falls_with_one_subset():
    rng = np.random.default_rng(5)
    projector = Projector(SMALL, 32, 6.4)
    views = np.stack([projector.forward(columns(20 * cold_hole()), view) for view in range(24)])
    views = rng.poisson(views).astype(np.float32)
    before = -np.inf
    for num_iterations in range(1, 8):
        found = osem(projector, views, num_iterations=num_iterations, num_subsets=1)
        expected = np.stack([projector.forward(found, view) for view in range(24)]).astype(float) + 1e-9
        now = float((views * np.log(expected) - expected).sum())
        assert now > before
        before = now


def test_known_scatter_is_removed():
    truth = columns(100 * cold_hole())
    projector = Projector(SMALL, 32, 6.4)
    scatter = np.full((24, 32, 1, 1), 150.0, np.float32)
    views = np.stack([projector.forward(truth, view) for view in range(24)]) + scatter
    with_it = osem(projector, views, num_iterations=20, scatter=scatter)
    without = osem(projector, views, num_iterations=20)
    assert np.abs(with_it - truth).mean() < 0.5 * np.abs(without - truth).mean()


def test_filtered_back_projection_keeps_the_level_of_a_disk():
    truth = disk(64, 6.4, 90.0)
    projector = Projector(PARALLEL_HOLE, 64, 6.4)
    views = np.stack([projector.forward(columns(truth), view) for view in range(60)])
    ours = filtered_back_projection(projector, views).reshape(64, 64)
    inner = disk(64, 6.4, 70.0) == 1
    assert ours[inner].mean() == pytest.approx(1.0, abs=0.02)
    theirs = iradon(views[:, :, 0, 0].T, theta=-PARALLEL_HOLE.view_angles_deg, circle=True)
    assert np.abs(ours - theirs)[inner].mean() < 0.02


def test_osem_and_filtered_back_projection_see_the_same_object_in_the_same_place():
    truth = cold_hole(64, 6.4)
    projector = Projector(PARALLEL_HOLE, 64, 6.4)
    views = np.stack([projector.forward(columns(truth), view) for view in range(60)])
    for found in (filtered_back_projection(projector, views), osem(projector, views)):
        assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_filters_pass_waves_as_their_formulas_say(axis: int):
    spacing_mm = (6.4, 6.4, 4.0)
    step_cm = spacing_mm[axis] / 10
    for per_cm in (0.1, 0.4, 0.6):
        wave = 5 + np.cos(2 * np.pi * per_cm * np.arange(160) * step_cm)
        shape = [4, 4, 4]
        shape[axis] = 160
        volume = np.broadcast_to(np.expand_dims(wave, [a for a in range(3) if a != axis]), shape).astype(np.float32)
        middle = np.arange(40, 120)
        for smooth, gain in (
            (butterworth(volume, spacing_mm, 0.4, 5), 1 / np.sqrt(1 + (per_cm / 0.4) ** 10)),
            (hann(volume, spacing_mm, 0.5), 0.5 + 0.5 * np.cos(np.pi * per_cm / 0.5) if per_cm < 0.5 else 0.0),
        ):
            line = np.moveaxis(smooth, axis, 0)[middle, 1, 1] - 5
            assert line @ (wave[middle] - 5) / np.sum((wave[middle] - 5) ** 2) == pytest.approx(gain, abs=0.03)


def test_field_of_view_is_the_inscribed_circle():
    assert field_of_view(64).mean() == pytest.approx(np.pi / 4, abs=0.01)


# --- Noise ---


def test_poisson_counts_are_the_quantiles_of_scipy():
    rng = np.random.default_rng(11)
    mean = np.concatenate([np.zeros(50), rng.uniform(0, 3, 3000), rng.uniform(3, 400, 3000)]).astype(np.float32)
    uniforms = rng.random(mean.shape)
    expected = np.where(mean > 0, stats.poisson.ppf(uniforms, np.round(mean.astype(float) * 4096) / 4096), 0)
    np.testing.assert_array_equal(poisson_counts(mean, uniforms), expected)


@pytest.mark.parametrize("mean", [0.3, 2.5, 17.0, 240.0])
def test_noise_has_the_mean_and_variance_of_a_poisson_process(mean: float):
    num = 60_000
    counts = poisson_counts(np.full(num, mean, np.float32), Stream(3, 1, "counts").uniforms((num,)))
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / num))
    sd_of_variance = np.sqrt((mean + 2 * mean**2) / num)
    assert counts.var() == pytest.approx(mean, abs=4 * sd_of_variance)


def test_streams_differ_by_every_part_of_their_name():
    names = [(1, 2, purpose) for purpose in PURPOSES]
    names += [(1, 3, "body"), (2, 2, "body"), (1, 2, "body", 1), (1, 2, "body", 0, 1), (1, 2, "body", 0, 0, 1)]
    firsts = {float(Stream(*name).uniforms((1,))[0]) for name in names}
    assert len(firsts) == len(names)


def test_distributions_of_a_stream_are_what_they_say():
    draw = Stream(1, 1, "body")
    assert stats.kstest([draw.normal(3, 2) for _ in range(2000)], stats.norm(3, 2).cdf).pvalue > 0.01
    ratios = [draw.lognormal(10, 1.5) for _ in range(2000)]
    assert stats.kstest(ratios, stats.lognorm(np.log(1.5), scale=10).cdf).pvalue > 0.01
    assert np.mean([draw.chance(0.3) for _ in range(2000)]) == pytest.approx(0.3, abs=0.04)
    chosen = [draw.choice("abc", (1, 1, 2)) for _ in range(2000)]
    assert chosen.count("c") / 2000 == pytest.approx(0.5, abs=0.05)
