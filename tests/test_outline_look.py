"""How an outline lies in its image: figures of shapes that are known, and gut that touches the wall."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from wall_builders import SPACING_MM, around, loop, picture, wall

from mpi_unet.evaluation.outline_look import CONTACT_MM, SMOOTH_MM, outline_look


def look_at(mask, image):
    return outline_look(mask, image.astype(np.float32), SPACING_MM, is_projection=False)


def seen(uptake):
    """What a camera makes of it."""
    return ndimage.gaussian_filter(uptake.astype(np.float32), [5 / step for step in SPACING_MM])


def test_a_ball_has_the_figures_of_a_ball():
    z, y, x = np.indices((41, 41, 41)) - np.array([20.2, 20.3, 19.6])[:, None, None, None]  # no voxel between sectors
    ball = np.sqrt(z**2 + y**2 + x**2) <= 12
    look = outline_look(ball, ball.astype(np.float32), (2.0, 2.0, 2.0), is_projection=False)
    assert look.size == pytest.approx(4 / 3 * np.pi * 24**3 / 1000, rel=0.02)
    assert look.elongation == pytest.approx(1, abs=0.01)
    assert look.reach_ratio == pytest.approx(1, abs=0.03)
    assert 1 <= look.bulge < 1.2
    assert look.edge_share_pct == 0.0
    assert look.contact_ratio == pytest.approx(0.0, abs=0.05)


def test_views_are_looked_at_one_by_one_and_an_empty_outline_is_undefined():
    view = np.zeros((2, 20, 20), bool)
    view[0, 5:9, 5:13] = True
    look = outline_look(view, view.astype(np.float32), (1.0, 2.0, 2.0), is_projection=True)
    assert look.size == 4 * 8 * 4
    assert look.elongation == pytest.approx(2)
    nothing = outline_look(np.zeros_like(view), view.astype(np.float32), None, is_projection=True)
    assert all(math.isnan(value) for value in vars(nothing).values())
    dark = outline_look(view, np.zeros(view.shape, np.float32), None, is_projection=True)
    assert math.isnan(dark.contact_ratio)


def test_uptake_in_the_cavity_is_no_neighbor():
    mask = wall()
    image = seen(100 * mask)
    z, y, x = around()
    pool = image + 150 * ((np.abs(z) < 20) & (np.hypot(y, x) < 12))
    assert look_at(mask, pool).contact_ratio == pytest.approx(look_at(mask, image).contact_ratio, rel=0.05)


def test_gut_that_touches_raises_the_contact_and_gut_beyond_a_valley_does_not():
    mask = wall()
    alone, touching, apart = (
        look_at(mask, seen(100 * mask + 130 * other)).contact_ratio
        for other in (np.zeros_like(mask), loop(), loop(gap_mm=16.0))
    )
    assert touching > 1.0
    assert apart == pytest.approx(alone, rel=0.15)
    assert alone < 0.7


def test_contact_is_the_level_of_reconstruction_by_dilation():
    """Oracle: SimpleITK fills the image up from the outline; what it reaches 6 mm outside is the level."""
    sitk = pytest.importorskip("SimpleITK")
    mask = wall()
    image = seen(100 * mask + 90 * loop(gap_mm=3.0)).astype(np.float32)
    smooth = ndimage.gaussian_filter(image, [SMOOTH_MM / step for step in SPACING_MM])
    filled = mask.copy()
    for axis in range(3):
        plane = np.expand_dims(ndimage.generate_binary_structure(2, 1), axis)
        filled |= ndimage.binary_fill_holes(mask, structure=plane)
    top = float(smooth.max()) + 1
    marker = np.where(filled, top, 0).astype(np.float32)
    under = np.where(filled, top, smooth).astype(np.float32)
    images = [sitk.GetImageFromArray(one) for one in (marker, under)]
    reached = sitk.GetArrayFromImage(sitk.ReconstructionByDilation(*images, fullyConnected=False))
    away = ndimage.distance_transform_edt(~filled, sampling=SPACING_MM)
    outside = (away > CONTACT_MM[0]) & (away <= CONTACT_MM[1])
    expected = float(reached[outside].max()) / float(np.percentile(image[mask], 75))
    assert look_at(mask, image).contact_ratio == pytest.approx(expected, rel=0.005)


def test_an_outline_that_took_a_loop_of_gut_in_bulges_whatever_the_uptake():
    mask = wall()
    taken = mask | loop()
    assert look_at(taken, picture(taken)).bulge > 1.4 * look_at(mask, picture(mask)).bulge


def test_a_bulge_of_a_view_is_that_of_its_sectors_and_a_sliver_has_none():
    y, x = np.mgrid[:64, :64] - np.array([32.3, 31.6])[:, None, None]
    disc = (np.hypot(y, x) <= 20)[None]
    lobe = disc | (np.hypot(y - 26, x) <= 8)[None]
    plain, bulging = (
        outline_look(one, one.astype(np.float32), (1.0, 2.0, 2.0), is_projection=True).bulge for one in (disc, lobe)
    )
    assert 1 <= plain < 1.1
    assert bulging > 1.4
    sliver = np.zeros((1, 64, 64), bool)
    sliver[0, 5, 5:7] = True
    assert math.isnan(outline_look(sliver, sliver.astype(np.float32), (1.0, 2.0, 2.0), is_projection=True).bulge)
