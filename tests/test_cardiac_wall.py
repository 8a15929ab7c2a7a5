from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from cardiac_shells import Shell, wall_mask

from mpi_unet.cardiac.axis import axes_along, heart_axes
from mpi_unet.cardiac.surfaces import HeartSurfaces, heart_surfaces
from mpi_unet.cardiac.wall import segment_thickness_mm, thickening_pct, wall_segments, wall_thickness_mm
from mpi_unet.errors import CardiacError
from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.patient import sample_patient
from mpi_unet.phantom.truth import segment_of


@cache
def cup() -> HeartSurfaces:
    mask, affine = wall_mask(Shell())
    return heart_surfaces(mask, affine, heart_axes(mask, affine))


def exact(endo: np.ndarray, epi: np.ndarray, origin: np.ndarray, polar: np.ndarray, base_mm: float) -> HeartSurfaces:
    """Surfaces of revolution whose radii are handed in."""
    axes = axes_along((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), base_mm=base_mm, apex_mm=float(epi[-1]))
    angle = np.arange(72) * 5.0
    tiled = [np.repeat(length[:, None], 72, axis=1) for length in (endo, epi)]
    return HeartSurfaces(axes, 0.0, origin, polar, angle, tiled[0], tiled[1], 1.0)


def bullet(inner: float, outer: float, length: float = 40.0) -> HeartSurfaces:
    """A cylinder with half a sphere on top, the same thickness everywhere."""
    heights = np.arange(-length - 6, 0.5, 1.5)
    tilt = np.linspace(90, 0, 25)[1:]
    origin = np.concatenate([heights - heights[-1], np.zeros(24)])
    polar = np.concatenate([np.full(len(heights), 90.0), tilt])
    return exact(np.full(len(origin), inner), np.full(len(origin), outer), origin, polar, -length)


def test_even_wall_is_equally_thick_everywhere():
    surfaces = bullet(22.0, 30.5)
    thickness = wall_thickness_mm(surfaces)
    below = surfaces.below_valve
    np.testing.assert_allclose(thickness[below], 8.5, atol=0.1)
    assert np.isnan(thickness[~below]).all()
    assert (~below).any()
    np.testing.assert_allclose(segment_thickness_mm(surfaces), 8.5, atol=0.1)


def test_bullet_has_the_volume_of_cylinder_and_half_sphere():
    surfaces = bullet(22.0, 30.5)
    for length, radius in ((surfaces.endo_mm, 22.0), (surfaces.epi_mm, 30.5)):
        by_hand = (np.pi * radius**2 * 40 + 2 / 3 * np.pi * radius**3) / 1000
        assert surfaces.volume_ml(length) == pytest.approx(by_hand, rel=2e-3)


def test_thickness_of_a_cup_on_voxels():
    thickness = segment_thickness_mm(cup())
    assert None not in thickness
    np.testing.assert_allclose(thickness, 9.0, atol=1.0)
    assert np.mean([value for value in thickness if value is not None]) == pytest.approx(9.0, abs=0.3)


def test_segments_are_those_of_the_phantom():
    surfaces = cup()
    heart = Heart(sample_patient(1, 0))
    inner = surfaces.points_mm(surfaces.endo_mm)
    length = inner[-1, :, 2].mean() - surfaces.axes.base_mm
    apical = (inner[..., 2] - surfaces.axes.base_mm) / length * heart.length_mm
    theirs = segment_of(heart, np.deg2rad(surfaces.angle_deg)[None, :], apical)
    ours = wall_segments(surfaces)
    measured = ours > 0
    np.testing.assert_array_equal(ours[measured], theirs[measured])
    assert set(ours[measured].tolist()) == set(range(1, 18))


def test_thickening_is_a_share_of_the_diastolic_wall():
    assert thickening_pct([8.0] * 17, [12.0] * 17) == (50.0,) * 17
    assert thickening_pct((8.0, None), (None, 9.0)) == (None, None)
    thick, thin = segment_thickness_mm(bullet(16.0, 28.0)), segment_thickness_mm(bullet(22.0, 30.0))
    np.testing.assert_allclose(thickening_pct(thin, thick), 50, atol=2.5)


def test_thickening_that_cannot_be_told_is_refused():
    with pytest.raises(CardiacError, match=r"2 segments at end diastole and 1 at end systole"):
        thickening_pct((8.0, 9.0), (8.0,))
    with pytest.raises(CardiacError, match=r"segment 2: is 0.5 mm thick(.|\n)*Look at the outline"):
        thickening_pct((8.0, 0.5), (8.0, 9.0))
