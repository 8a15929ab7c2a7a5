"""Distances of outlines: golden values, hand-made cubes, brute force, MONAI and SimpleITK."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from mpi_unet.evaluation import boundary

MEASURES = (boundary.hd_mm, boundary.hd95_mm, boundary.assd_mm, boundary.masd_mm)


def square(rows, columns, shape=(12, 12)):
    mask = np.zeros(shape, dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def shell(center, radius, wall, cut):
    grid = np.moveaxis(np.mgrid[:16, :24, :24], 0, -1)
    center, radius = np.array(center), np.array(radius)
    outer = (((grid - center) / radius) ** 2).sum(-1) <= 1
    inner = (((grid - center) / (radius - wall)) ** 2).sum(-1) <= 1
    return outer & ~inner & (grid[..., 0] <= cut)


def shells():
    return shell((9, 12.4, 11.7), (7, 8, 8.3), 2.0, 11), shell((10, 12, 12), (7, 8, 8), 2.2, 12)


def measured(preds, target, spacing_mm):
    distances = boundary.surface_distances(preds, target, spacing_mm)
    return {measure.__name__: measure(distances) for measure in MEASURES}


@st.composite
def pairs(draw, dims=None):
    shape = draw(st.lists(st.integers(1, 6), min_size=dims or 2, max_size=dims or 3))
    return draw(arrays(bool, tuple(shape))), draw(arrays(bool, tuple(shape)))


def spacings(dims):
    return tuple((6.4, 3.3, 2.1)[:dims])


# --- Golden values ---


def test_shell_matches_golden_values():
    preds, target = shells()
    spacing_mm = (6.4, 6.4, 6.4)
    assert measured(preds, target, spacing_mm) == pytest.approx(
        {
            "hd_mm": 9.050966799187817,
            "hd95_mm": 6.4,
            "assd_mm": 3.3280471793867417,
            "masd_mm": 3.327656450296248,
        },
        abs=1e-9,
    )
    assert boundary.volume_difference_ml(preds, target, spacing_mm) == pytest.approx(-2.62144, abs=1e-9)
    assert boundary.volume_difference_pct(preds, target) == pytest.approx(-1.221001221, abs=1e-9)


def test_a_distance_of_one_voxel_is_within_a_tolerance_of_one_voxel():
    preds, target = shells()
    distances = boundary.surface_distances(preds, target, (6.4, 6.4, 6.4))
    assert boundary.nsd(distances, 6.4) == pytest.approx(0.9586956521739131, abs=1e-12)
    assert 6.4 in distances.to_target  # exactly: from whole steps, not from differences of coordinates
    assert boundary.nsd(distances, 6.399) < 0.5


@pytest.mark.parametrize(
    ("preds", "expected", "surface_dice"),
    [
        pytest.param(
            square((4, 9), (3, 8)), {"hd_mm": 1.0, "hd95_mm": 1.0, "assd_mm": 0.5, "masd_mm": 0.5}, 1.0, id="shift"
        ),
        pytest.param(
            square((9, 11), (9, 11)),
            {
                "hd_mm": 8.48528137423857,
                "hd95_mm": 7.979007600489632,
                "assd_mm": 5.431490294815793,
                "masd_mm": 4.733634905771758,
            },
            0.0,
            id="disjoint",
        ),
    ],
)
def test_squares_match_golden_values(preds, expected, surface_dice):
    target = square((3, 8), (3, 8))
    assert measured(preds, target, (1.0, 1.0)) == pytest.approx(expected, abs=1e-9)
    assert boundary.nsd(boundary.surface_distances(preds, target, (1.0, 1.0)), 1.0) == surface_dice


@pytest.mark.parametrize(
    ("preds", "target", "distance", "surface_dice", "pct"),
    [
        pytest.param(np.zeros((12, 12), bool), np.zeros((12, 12), bool), math.nan, math.nan, math.nan, id="both empty"),
        pytest.param(square((3, 8), (3, 8)), np.zeros((12, 12), bool), math.inf, 0.0, math.nan, id="target empty"),
        pytest.param(np.zeros((12, 12), bool), square((3, 8), (3, 8)), math.inf, 0.0, -100.0, id="preds empty"),
    ],
)
def test_empty_masks_follow_the_policy(preds, target, distance, surface_dice, pct):
    distances = boundary.surface_distances(preds, target, (1.0, 1.0))
    for measure in MEASURES:
        assert measure(distances) == pytest.approx(distance, nan_ok=True)
    assert boundary.nsd(distances, 1.0) == pytest.approx(surface_dice, nan_ok=True)
    assert boundary.volume_difference_pct(preds, target) == pytest.approx(pct, nan_ok=True)
    assert boundary.volume_difference_ml(preds, target, (1.0, 1.0)) == (int(preds.sum()) - int(target.sum())) / 1000


def test_two_voxels_apart_along_each_axis_by_hand():
    for axis, expected in enumerate((12.8, 6.6, 4.2)):
        preds, target = np.zeros((2, 5, 5, 5), dtype=bool)
        preds[2, 2, 2] = True
        target[tuple(4 if index == axis else 2 for index in range(3))] = True
        assert measured(preds, target, (6.4, 3.3, 2.1)) == dict.fromkeys(
            ("hd_mm", "hd95_mm", "assd_mm", "masd_mm"), expected
        )


# --- Oracles ---


def brute_force(preds, target, spacing_mm):
    """All pairs of boundary voxels, the boundary by another rule: any face neighbor of the padded mask outside."""
    points = []
    for mask in (preds, target):
        padded = np.pad(mask, 1)
        surrounded = np.ones_like(mask)
        for axis in range(mask.ndim):
            for step in (-1, 1):
                surrounded &= np.roll(padded, step, axis)[(slice(1, -1),) * mask.ndim]
        points.append(np.argwhere(mask & ~surrounded) * np.array(spacing_mm))
    table = cdist(*points)
    return table.min(axis=1), table.min(axis=0)


@given(pairs())
@settings(deadline=None, max_examples=80)
def test_distances_equal_brute_force(pair):
    if not (pair[0].any() and pair[1].any()):
        return
    spacing_mm = spacings(pair[0].ndim)
    distances = boundary.surface_distances(*pair, spacing_mm)
    to_target, to_preds = brute_force(*pair, spacing_mm)
    np.testing.assert_allclose(distances.to_target, to_target, atol=1e-12)
    np.testing.assert_allclose(distances.to_preds, to_preds, atol=1e-12)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")  # MONAI 1.6 warns of itself
@pytest.mark.parametrize("spacing_mm", [(6.4, 2.0, 2.0), (4.0, 4.0, 4.0)])
def test_shell_equals_monai(spacing_mm):
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    preds, target = shells()
    p, t = (torch.tensor(mask)[None, None] for mask in (preds, target))
    spacing = list(spacing_mm)
    distances = boundary.surface_distances(preds, target, spacing_mm)
    theirs = {
        boundary.hd_mm: compute_hausdorff_distance(p, t, spacing=spacing),
        boundary.hd95_mm: compute_hausdorff_distance(p, t, percentile=95, spacing=spacing),
        boundary.assd_mm: compute_average_surface_distance(p, t, symmetric=True, spacing=spacing),
    }
    for measure, value in theirs.items():
        assert measure(distances) == pytest.approx(float(value), abs=1e-5)
    surface_dice = compute_surface_dice(p, t, class_thresholds=[5.0], spacing=spacing)
    assert boundary.nsd(distances, 5.0) == pytest.approx(float(surface_dice), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_boundary_is_that_of_monai_even_at_the_edge_of_the_image(seed):
    from monai.metrics.utils import get_mask_edges

    rng = np.random.default_rng(seed)
    preds, target = rng.random((2, 7, 9, 8)) < 0.7
    edges = get_mask_edges(preds, target, crop=False)
    for mask, edge in zip((preds, target), edges, strict=True):
        np.testing.assert_array_equal(boundary.boundary(mask[None])[0], edge)


@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_the_distance_map_of_simpleitk(seed):
    import SimpleITK

    rng = np.random.default_rng(seed)
    preds, target = rng.random((2, 6, 11, 9)) < 0.15
    spacing_mm = (6.4, 3.3, 2.1)
    distances = boundary.surface_distances(preds, target, spacing_mm)
    edges = [boundary.boundary(mask[None])[0] for mask in (preds, target)]
    images = [SimpleITK.GetImageFromArray(edge.astype(np.uint8)) for edge in edges]
    for image in images:
        image.SetSpacing(spacing_mm[::-1])
    to_preds, to_target = (
        np.abs(
            SimpleITK.GetArrayFromImage(
                SimpleITK.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
            )
        )
        for image in images
    )
    np.testing.assert_allclose(distances.to_target, to_target[edges[0]], atol=1e-4)
    np.testing.assert_allclose(distances.to_preds, to_preds[edges[1]], atol=1e-4)
    hausdorff = SimpleITK.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    assert boundary.hd_mm(distances) == pytest.approx(hausdorff.GetHausdorffDistance(), abs=1e-4)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
def test_a_miss_is_infinite_here_and_vanishes_in_the_hd95_of_monai():
    import torch
    from monai.metrics import compute_hausdorff_distance

    preds, target = np.zeros((12, 12), bool), square((3, 8), (3, 8))
    with pytest.warns(UserWarning, match="all 0"):
        theirs = compute_hausdorff_distance(
            torch.tensor(preds)[None, None], torch.tensor(target)[None, None], percentile=95
        )
    assert bool(torch.isnan(theirs).all())
    assert boundary.hd95_mm(boundary.surface_distances(preds, target, (1.0, 1.0))) == math.inf


# --- Properties ---


@given(pairs())
@settings(deadline=None, max_examples=60)
def test_order_of_measures_and_symmetry(pair):
    spacing_mm = spacings(pair[0].ndim)
    found = measured(*pair, spacing_mm)
    assert measured(*pair[::-1], spacing_mm) == pytest.approx(found, nan_ok=True)
    if math.isfinite(found["hd_mm"]):
        assert found["assd_mm"] <= found["hd_mm"] + 1e-12
        assert found["hd95_mm"] <= found["hd_mm"]
    distances = boundary.surface_distances(*pair, spacing_mm)
    shares = [boundary.nsd(distances, tolerance) for tolerance in (0.0, 2.1, 5.0, 100.0)]
    if distances.to_target.size or distances.to_preds.size:
        assert shares == sorted(shares)
        assert shares[-1] == (1.0 if math.isfinite(found["hd_mm"]) else 0.0)


@given(pairs(), st.floats(0.1, 20))
@settings(deadline=None, max_examples=40)
def test_distances_scale_with_the_spacing(pair, factor):
    spacing_mm = spacings(pair[0].ndim)
    scaled = tuple(step * factor for step in spacing_mm)
    expected = {name: value * factor for name, value in measured(*pair, spacing_mm).items()}
    assert measured(*pair, scaled) == pytest.approx(expected, nan_ok=True)


@given(pairs(), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_background_around_the_image_changes_nothing(pair, margin):
    spacing_mm = spacings(pair[0].ndim)
    padded = [np.pad(mask, margin) for mask in pair]
    assert measured(*padded, spacing_mm) == pytest.approx(measured(*pair, spacing_mm), nan_ok=True)


@given(pairs(dims=3), st.permutations(range(3)))
@settings(deadline=None, max_examples=40)
def test_axes_and_spacing_turn_together(pair, order):
    spacing_mm = spacings(3)
    turned = [mask.transpose(order) for mask in pair]
    expected = measured(*pair, spacing_mm)
    assert measured(*turned, tuple(spacing_mm[axis] for axis in order)) == pytest.approx(expected, nan_ok=True)


@given(pairs(dims=3))
@settings(deadline=None, max_examples=60)
def test_all_frames_at_once_equal_one_frame_at_a_time(pair):
    spacing_mm = (3.3, 2.1)
    together = boundary.frame_surface_distances(*pair, spacing_mm)
    for preds, target, distances in zip(*pair, together, strict=True):
        alone = boundary.surface_distances(preds, target, spacing_mm)
        np.testing.assert_array_equal(distances.to_target, alone.to_target)
        np.testing.assert_array_equal(distances.to_preds, alone.to_preds)


@given(pairs())
@settings(deadline=None, max_examples=30)
def test_a_mask_is_at_no_distance_from_itself(pair):
    mask = pair[0]
    distances = boundary.surface_distances(mask, mask, spacings(mask.ndim))
    expected = 0.0 if mask.any() else math.nan
    assert boundary.hd_mm(distances) == pytest.approx(expected, nan_ok=True)


def test_a_stray_voxel_moves_hd_and_not_hd95():
    target = square((10, 40), (10, 40), (64, 64))
    preds = target.copy()
    preds[60, 60] = True
    found = measured(preds, target, (1.0, 1.0))
    assert found["hd_mm"] > 28
    assert found["hd95_mm"] == 0


# --- Guards ---


def test_a_mask_that_is_not_bool_is_refused():
    mask = square((3, 8), (3, 8))
    soft = mask * np.float32(0.6)
    with pytest.raises(TypeError, match="preds has dtype float32, expected bool"):
        boundary.surface_distances(soft, mask, (1.0, 1.0))
    with pytest.raises(TypeError, match="target has dtype float32"):
        boundary.volume_difference_pct(mask, soft)
    with pytest.raises(TypeError, match="target has dtype float32"):
        boundary.volume_difference_ml(mask, soft, (1.0, 1.0))
    with pytest.raises(TypeError, match="preds has dtype float32"):
        boundary.volume_ml(soft, (1.0, 1.0))


def test_masks_on_two_grids_are_refused():
    with pytest.raises(ValueError, match=r"preds has shape .*12, 12\), target .*12, 13\).*resample"):
        boundary.surface_distances(square((3, 8), (3, 8)), square((3, 8), (3, 8), (12, 13)), (1.0, 1.0))


@pytest.mark.parametrize(
    "spacing_mm", [(1.0,), (1.0, 1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0)]
)
def test_an_impossible_spacing_is_refused(spacing_mm):
    mask = square((3, 8), (3, 8))
    with pytest.raises(ValueError, match=r"expected 2 positive lengths in mm.*header"):
        boundary.surface_distances(mask, mask, spacing_mm)
    with pytest.raises(ValueError, match="spacing_mm is"):
        boundary.volume_ml(mask, spacing_mm)


@pytest.mark.parametrize("tolerance_mm", [-1.0, math.nan, math.inf])
def test_an_impossible_tolerance_is_refused(tolerance_mm):
    mask = square((3, 8), (3, 8))
    with pytest.raises(ValueError, match=r"tolerance_mm is .*zero or more"):
        boundary.nsd(boundary.surface_distances(mask, mask, (1.0, 1.0)), tolerance_mm)
