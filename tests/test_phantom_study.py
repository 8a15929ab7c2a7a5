from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpi_unet.errors import CohortError
from mpi_unet.phantom.camera import CZT, PARALLEL_HOLE
from mpi_unet.phantom.cases import Recipe, simulate_patient
from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.outline import outline_mask, support_mm, surface_points_mm
from mpi_unet.phantom.patient import Patient, sample_patient
from mpi_unet.phantom.random_streams import Stream
from mpi_unet.phantom.reorientation import resample, short_axis_grid
from mpi_unet.phantom.study import Acquisition, Protocol, acquire, object_maps, protocol_named, reconstruct
from mpi_unet.phantom.truth import true_mask


def lonely_heart(seed: int = 3, index: int = 1, **changes) -> Patient:
    """A patient in whom nothing but the left ventricle takes up tracer."""
    patient = sample_patient(seed, index)
    uptake = replace(
        patient.uptake,
        blood=0.0,
        right_ventricle=0.0,
        lung=0.0,
        soft_tissue=0.0,
        liver=0.0,
        spleen=0.0,
        kidney=0.0,
        gallbladder=0.0,
        stomach=0.0,
        bowel=(),
    )
    return replace(patient, uptake=uptake, defects=(), heart=replace(patient.heart, **changes))


def few_views(name: str = "parallel_hole", num_views: int = 12, **options) -> Protocol:
    protocol = protocol_named(name, **options)
    return replace(protocol, camera=replace(protocol.camera, num_views=num_views))


@pytest.fixture(scope="module")
def lonely() -> Acquisition:
    return acquire(lonely_heart(center_mm=(45.0, -25.0, 50.0)), protocol_named("parallel_hole"))  # off every axis


def activity_center_mm(acquisition: Acquisition) -> np.ndarray:
    fields = acquisition.fields[0]
    index = np.argwhere(fields.activity > 0)
    center = np.average(index, axis=0, weights=fields.activity[tuple(index.T)])
    return acquisition.heart.to_world(center * fields.step_mm + np.array(fields.origin_mm))


def test_heart_appears_where_it_lies_in_every_view(lonely: Acquisition):
    camera = lonely.protocol.camera
    center = activity_center_mm(lonely)
    assert lonely.views.shape == (1, 60, 64, 64)
    outline = outline_mask(support_mm(surface_points_mm(lonely.heart, lonely.fields[0]), camera), camera)
    for view, angle in enumerate(np.deg2rad(camera.view_angles_deg)):
        rows, columns = np.indices((64, 64))
        counts = lonely.views[0, view]
        weights = np.where(counts > 0.25 * counts.max(), counts, 0)
        weights /= weights.sum()
        column_mm = ((columns * weights).sum() - 31.5) * 6.4
        head_mm = (31.5 - (rows * weights).sum()) * 6.4
        expected_mm = center[0] * np.cos(angle) + center[1] * np.sin(angle)
        assert column_mm == pytest.approx(expected_mm, abs=6.0)  # attenuation favors the near wall
        assert head_mm == pytest.approx(center[2], abs=6.0)
        assert counts[outline[view]].sum() > 0.5 * counts.sum()
        assert counts[outline[view]].mean() > 8 * counts[~outline[view]].mean()


def test_ventricle_has_the_counts_of_the_protocol(lonely: Acquisition):
    primary = float((lonely.expected - lonely.scatter).sum())
    assert primary == pytest.approx(lonely.ventricle_counts, rel=0.03)  # it is calibrated on every fifth view
    expected = float(lonely.expected.sum())
    assert float(lonely.counts.sum()) == pytest.approx(expected, abs=5 * np.sqrt(expected))
    assert 100_000 < lonely.ventricle_counts < 800_000


def test_reconstruction_puts_the_wall_where_the_truth_is(lonely: Acquisition):
    reconstruction = reconstruct(lonely)
    grid = short_axis_grid(lonely.heart, Stream(1, 1, "reorientation"), matrix=64, pixel_mm=3.2, slice_mm=6.4)
    image = resample(reconstruction.volumes[0], reconstruction.grid, grid)
    wall = true_mask(lonely.heart, lonely.fields[0], grid, "lv_wall")
    cavity = true_mask(lonely.heart, lonely.fields[0], grid, "lv_cavity")
    assert image[wall].mean() > 1.5 * image[cavity].mean()
    assert image[wall].mean() > 10 * image[~(wall | cavity)].mean()
    found = np.argwhere(image > 0.5 * image.max()).mean(0)
    np.testing.assert_allclose(found, np.argwhere(wall).mean(0), atol=2.0)


def test_filtered_back_projection_is_offered_too():
    acquisition = acquire(lonely_heart(), protocol_named("parallel_hole", reconstruction="fbp"))
    volume = reconstruct(acquisition)
    brightest = np.argwhere(volume.volumes[0] > 0.5 * volume.volumes[0].max()).mean(0)[::-1]
    world = volume.grid.affine_lps[:3, :3] @ brightest + volume.grid.affine_lps[:3, 3]
    assert np.linalg.norm(world - activity_center_mm(acquisition)) < 12


def test_known_attenuation_blur_and_scatter_are_corrected(lonely: Acquisition):
    grid = short_axis_grid(lonely.heart, Stream(1, 1, "reorientation"), matrix=64, pixel_mm=3.2, slice_mm=6.4)
    wall = true_mask(lonely.heart, lonely.fields[0], grid, "lv_wall")
    spread, level = {}, {}
    for name in ("osem", "osem_corrected"):
        protocol = protocol_named("parallel_hole", reconstruction=name)
        found = reconstruct(replace(lonely, protocol=protocol))
        image = resample(found.volumes[0], found.grid, grid)
        spread[name] = image[wall].std() / image[wall].mean()
        level[name] = image[wall].mean()
    assert spread["osem_corrected"] < 0.95 * spread["osem"]  # the deep wall is as bright as the near one
    assert level["osem_corrected"] > 2 * level["osem"]  # what tissue swallowed is given back


def test_correction_needs_a_map_on_the_camera_s_grid(lonely: Acquisition):
    protocol = replace(lonely.protocol, reconstruction="osem_corrected")
    with pytest.raises(CohortError, match=r"attenuation map does not lie on the grid(.|\n)*or reconstruction=osem"):
        reconstruct(replace(lonely, protocol=protocol, attenuation=None))
    with pytest.raises(CohortError, match="'osem_corrected', which protocol=czt has not; expected osem"):
        recipe(protocol="czt", reconstruction="osem_corrected").check()


def test_filter_of_the_protocol_is_used(lonely: Acquisition):
    smooth = replace(lonely.protocol, low_pass="hann", cutoff_per_cm=0.4)
    assert reconstruct(replace(lonely, protocol=smooth)).volumes.max() < reconstruct(lonely).volumes.max()


def test_breathing_blurs_toward_head_and_feet_only():
    spreads = {}
    for breathing_mm in (0.0, 24.0):
        heart = Heart(lonely_heart(breathing_mm=breathing_mm))
        activity, ventricle, _ = object_maps(heart, (heart.fields((0.0,)),), PARALLEL_HOLE)
        np.testing.assert_allclose(activity[:, 0], ventricle[:, 0], atol=1e-6)  # nothing else takes up tracer
        along = activity.sum((0, 1)).astype(float)
        plane = activity.sum((1, 2)).reshape(128, 128)
        z = np.arange(len(along)) * 6.4
        spreads[breathing_mm] = along @ z**2 / along.sum() - (along @ z / along.sum()) ** 2, plane
    assert spreads[24.0][0] - spreads[0.0][0] == pytest.approx((0.35 * 24) ** 2, rel=0.08)
    np.testing.assert_allclose(spreads[24.0][1], spreads[0.0][1], rtol=1e-3, atol=1e-4)


def test_gates_of_a_study_add_up_to_the_ungated_one():
    patient = sample_patient(3, 2)
    summed = acquire(patient, few_views())
    gated = acquire(patient, few_views(num_gates=8))
    assert gated.views.shape == (8, 12, 64, 64)
    total = gated.expected.sum(2)
    np.testing.assert_allclose(total, summed.expected[:, :, 0], atol=0.004 * total.max())
    filled = [field.filled.sum() for field in gated.fields]
    assert int(np.argmin(filled)) == 2  # end of systole
    assert gated.counts.std() > 0
    assert not np.array_equal(gated.counts[:, :, 0], gated.counts[:, :, 1])


def test_scatter_and_noise_are_part_of_the_counts():
    acquisition = acquire(sample_patient(3, 2), few_views())
    ratio = acquisition.scatter.sum() / (acquisition.expected - acquisition.scatter).sum()
    assert 0.15 < ratio < 0.6
    residual = (acquisition.counts - acquisition.expected) / np.sqrt(np.maximum(acquisition.expected, 0.05))
    busy = acquisition.expected > 5
    assert residual[busy].mean() == pytest.approx(0, abs=0.03)
    assert residual[busy].std() == pytest.approx(1, abs=0.03)


def recipe(**changes) -> Recipe:
    options = {
        "domain": "transaxial",
        "seed": 3,
        "label": "lv_wall",
        "readers": ("truth",),
        "studies": ("stress",),
        "gated": False,
        "num_gates": 8,
        "protocol": "parallel_hole",
        "reconstruction": "osem",
        "pixel_mm": None,
        "matrix": None,
        "slice_mm": 6.4,
    }
    return Recipe(**(options | changes))


def test_transaxial_slices_have_the_camera_s_pixel():
    (case,) = simulate_patient(recipe(), 1)
    assert case.image.shape[1:] == (64, 64)
    np.testing.assert_allclose(np.abs(np.diag(case.affine_ras))[:3], 6.4)
    assert np.diag(case.affine_ras)[:3].tolist() == pytest.approx([-6.4, -6.4, 6.4])  # left, back, head in RAS
    assert case.image[case.masks["truth"]].mean() > 4 * case.image.mean()


def test_solid_state_camera_stores_seventy_by_seventy_by_fifty():
    (case,) = simulate_patient(recipe(protocol="czt"), 1)
    assert case.image.shape == (50, 70, 70)
    np.testing.assert_allclose(np.abs(np.diag(case.affine_ras))[:3], 4.0)
    middle = np.argwhere(case.masks["truth"]).mean(0)
    np.testing.assert_allclose(middle, [24.5, 34.5, 34.5], atol=4)
    assert case.image[case.masks["truth"]].mean() > 3 * case.image.mean()


def test_pixel_and_matrix_can_be_chosen():
    (case,) = simulate_patient(recipe(pixel_mm=3.2, matrix=48), 1)
    assert case.image.shape == (78, 48, 48)
    (case,) = simulate_patient(recipe(domain="projection", label="lv_filled", pixel_mm=6.8), 1)
    assert case.image.shape == (60, 64, 64)
    assert case.affine_ras[0, 0] == 6.8


def test_solid_state_camera_is_sharper_and_catches_more():
    patient = sample_patient(3, 4)
    counts = {name: acquire(patient, few_views(name)).ventricle_counts for name in ("parallel_hole", "czt")}
    assert counts["czt"] > counts["parallel_hole"]
    assert CZT.fwhm_mm(150.0) < PARALLEL_HOLE.fwhm_mm(150.0)
