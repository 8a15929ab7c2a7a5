from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from cardiac_shells import Shell, drawn, grid_around, wall_mask
from skimage.measure import marching_cubes, mesh_surface_area

from mpi_unet.cardiac.axis import HeartAxes, heart_axes
from mpi_unet.cardiac.surfaces import HeartSurfaces, heart_surfaces
from mpi_unet.cardiac.volumes import cavity_mask, ventricle_volumes
from mpi_unet.errors import CardiacError

SIMPLE = Shell()


@cache
def plain() -> tuple[np.ndarray, np.ndarray, HeartAxes, HeartSurfaces]:
    mask, affine = wall_mask(SIMPLE)
    axes = heart_axes(mask, affine)
    return mask, affine, axes, heart_surfaces(mask, affine, axes)


def depth_mm(shell: Shell, points: np.ndarray, extra: float) -> np.ndarray:
    """Distance of points in RAS from an ellipsoid, right to first order."""
    from_middle = points - np.array(shell.middle_mm)
    along = from_middle @ shell.axis
    across = np.linalg.norm(from_middle - along[..., None] * shell.axis, axis=-1)
    radius, half = shell.radius + extra, shell.half_length + extra
    level = np.sqrt((across / radius) ** 2 + (along / half) ** 2)
    return (level - 1) * level / np.sqrt((across / radius**2) ** 2 + (along / half**2) ** 2)


@pytest.mark.parametrize("spacing_mm", [(4.0, 4.0, 4.0), (6.4, 3.2, 3.2), (6.4, 6.4, 6.4)])
def test_both_surfaces_lie_where_they_were_drawn(spacing_mm):
    mask, affine = wall_mask(SIMPLE, spacing_mm)
    surfaces = heart_surfaces(mask, affine, heart_axes(mask, affine))
    limit = 0.15 * max(spacing_mm)
    for length, extra in ((surfaces.endo_mm, 0.0), (surfaces.epi_mm, SIMPLE.wall)):
        points = surfaces.points_mm(length)
        below = points[..., 2] > surfaces.axes.base_mm + 3
        off = depth_mm(SIMPLE, surfaces.axes.to_world(points), extra)[below]
        assert abs(off.mean()) < limit / 2
        assert np.sqrt((off**2).mean()) < limit
    assert surfaces.found_share > 0.95


def test_shares_of_voxels_are_finer_than_a_mask():
    shape, affine = grid_around(SIMPLE, (6.4, 6.4, 6.4))
    shares = drawn(SIMPLE, shape, affine)
    from_shares = ventricle_volumes(heart_surfaces(shares, affine, heart_axes(shares, affine)))
    assert from_shares.cavity_ml == pytest.approx(SIMPLE.cavity_ml, rel=0.03)
    assert from_shares.filled_ml == pytest.approx(SIMPLE.cavity_ml + SIMPLE.wall_ml, rel=0.02)


def test_undoing_the_voxels_takes_most_of_the_loss_back():
    shell = replace(SIMPLE, wall=7.0)
    mask, affine = wall_mask(shell, (6.4, 6.4, 6.4))
    axes = heart_axes(mask, affine)
    raw = ventricle_volumes(heart_surfaces(mask, affine, axes, undo_voxels=False))
    undone = ventricle_volumes(heart_surfaces(mask, affine, axes))
    exact = shell.cavity_ml + shell.wall_ml
    assert raw.filled_ml < 0.97 * exact
    assert abs(undone.filled_ml / exact - 1) < 0.5 * abs(raw.filled_ml / exact - 1)


def test_gap_in_the_wall_is_bridged():
    mask, affine, axes, whole = plain()
    z, y, x = np.nonzero(mask)
    heart = axes.to_heart(np.stack([x, y, z], -1) @ affine[:3, :3].T + affine[:3, 3])
    gone = (np.abs(axes.wall_angle_deg(heart) - 90) < 20) & (np.abs(heart[:, 2]) < 10)
    holed = mask.copy()
    holed[z[gone], y[gone], x[gone]] = False
    assert gone.sum() > 20
    surfaces = heart_surfaces(holed, affine, axes)
    assert surfaces.found_share < whole.found_share
    rows = 40  # of the fan and next to it; below, their number depends on the grid
    assert np.abs(surfaces.endo_mm[-rows:] - whole.endo_mm[-rows:]).max() < 3.0
    assert surfaces.volume_ml(surfaces.endo_mm) == pytest.approx(whole.volume_ml(whole.endo_mm), rel=0.02)


def test_what_is_no_wall_around_the_axis_is_refused():
    mask, affine, axes, _ = plain()
    elsewhere = replace(axes, center_mm=(200.0, 200.0, 200.0))
    with pytest.raises(CardiacError, match="no ray from the long axis meets it"):
        heart_surfaces(mask, affine, elsewhere)
    z, y, x = np.nonzero(mask)
    heart = axes.to_heart(np.stack([x, y, z], -1) @ affine[:3, :3].T + affine[:3, 3])
    half = mask.copy()
    gone = (heart[:, 0] > -4) & (heart[:, 2] < 60)
    half[z[gone], y[gone], x[gone]] = False
    with pytest.raises(CardiacError, match=r"\d+ % of the rays from the long axis meet it(.|\n)*check the outline"):
        heart_surfaces(half, affine, axes)


# --- Volumes of the surfaces, beside programs that we did not write ---


def test_volume_is_that_of_an_independent_mesh():
    _, _, axes, surfaces = plain()
    fine = np.diag([2.0, 2.0, 2.0, 1.0])
    shape = (80, 80, 80)
    fine[:3, 3] = np.array(axes.center_mm) - 2.0 * 39.6
    for length in (surfaces.endo_mm, surfaces.epi_mm):
        shares = surfaces.shares(length, shape, fine)
        vertices, faces, _, _ = marching_cubes(shares, 0.5, spacing=(2.0, 2.0, 2.0))
        a, b, c = (vertices[faces[:, number]] for number in range(3))
        mesh_ml = abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6000
        assert surfaces.volume_ml(length) == pytest.approx(mesh_ml, rel=0.01)
        assert mesh_surface_area(vertices, faces) > 0


def test_cavity_mask_is_the_cavity():
    sitk = pytest.importorskip("SimpleITK")
    mask, affine, _, surfaces = plain()
    cavity = cavity_mask(surfaces, mask.shape, affine)
    shape, _ = grid_around(SIMPLE)
    z, y, x = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    inside = SIMPLE.inside(np.stack([x, y, z], -1) @ affine[:3, :3].T + affine[:3, 3], 0.0)
    overlap = 2 * (cavity & inside).sum() / (cavity.sum() + inside.sum())
    assert overlap > 0.95
    assert (cavity & mask).sum() < 0.03 * cavity.sum()
    image = sitk.GetImageFromArray(cavity.astype(np.uint8))
    image.SetSpacing((4.0, 4.0, 4.0))
    shape_filter = sitk.LabelShapeStatisticsImageFilter()
    shape_filter.Execute(image)
    assert shape_filter.GetNumberOfLabels() == 1
    assert shape_filter.GetPhysicalSize(1) / 1000 == pytest.approx(surfaces.volume_ml(surfaces.endo_mm), rel=0.02)


def test_points_of_the_surface_are_on_its_border():
    _, _, _, surfaces = plain()
    middle = surfaces.points_mm(0.97 * surfaces.endo_mm)
    beyond = surfaces.points_mm(1.03 * surfaces.endo_mm)
    below = surfaces.below_valve & (surfaces.points_mm(surfaces.endo_mm)[..., 2] > surfaces.axes.base_mm + 3)
    assert surfaces.contains(surfaces.endo_mm, middle)[below].mean() > 0.99
    assert not surfaces.contains(surfaces.endo_mm, beyond)[below].mean() > 0.01
    np.testing.assert_allclose(surfaces.wall_mm, surfaces.epi_mm - surfaces.endo_mm)
