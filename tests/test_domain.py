"""What a run has learnt from, and how other images differ from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cohort_builders import SPACING_MM, write_tiny_cohort

from mpi_unet.cohort.differences import DIFFERENCE_KINDS, differences
from mpi_unet.cohort.domain import (
    describe,
    image_facts,
    pixel_digest,
    read_domain,
    write_domain,
)
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError


@pytest.fixture
def known(tiny_cohort):
    return describe(tiny_cohort, "truth")


def found(known, image, spacing_mm=SPACING_MM, *, domain="short_axis", label="", whole_volumes=False):
    facts = image_facts(image, spacing_mm)
    return [one.text for one in differences(known, facts, domain=domain, label=label, whole_volumes=whole_volumes)]


@pytest.fixture
def image(tiny_cohort):
    return tiny_cohort.cases[0].read_image().array


def test_a_description_holds_sizes_places_and_whose_pixels_they_are(tiny_cohort, known):
    volumes = [case.read_mask("truth").sum() * np.prod(SPACING_MM) / 1000 for case in tiny_cohort.cases]
    assert known.outlines.size == pytest.approx((min(volumes), max(volumes)))
    assert known.outlines.mean == pytest.approx(np.mean(volumes))
    assert (known.outlines.unit, known.outlines.n, known.num_patients) == ("ml", 6, 6)
    assert known.spacing_mm == tuple((pytest.approx(step), pytest.approx(step)) for step in SPACING_MM)
    assert known.shape == ((4, 4), (32, 32), (32, 32))
    first = tiny_cohort.cases[0]
    assert known.images[pixel_digest(first.read_image().array)] == first.patient_id
    center = np.argwhere(first.read_mask("truth")).mean(axis=0) + 0.5
    for share, (low, high) in zip(center / (4, 32, 32), known.outlines.center, strict=True):
        assert low <= share <= high


def test_projections_are_described_by_view_and_unknown_spacings_in_pixels(tmp_path):
    flat = Cohort.open(write_tiny_cohort(tmp_path / "flat", 3, domain="projection", label="lv_filled"))
    assert describe(flat, "truth").outlines.unit == "mm2"
    assert len(describe(flat, "truth").outlines.center) == 2
    assert describe(flat, "truth").outlines.n == 12
    bare = Cohort.open(write_tiny_cohort(tmp_path / "bare", 3, spacing_mm=None))
    assert describe(bare, "truth").outlines.unit == "voxels"
    assert describe(bare, "truth").spacing_mm is None


def test_a_description_comes_back_from_its_file_as_it_was(tmp_path, known):
    write_domain(tmp_path / "domain.json", known)
    assert read_domain(tmp_path / "domain.json") == known


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": "9.0.0"}', '{"schema_version": "1.0.0"}'])
def test_a_file_that_is_no_description_is_refused(tmp_path, content):
    (tmp_path / "domain.json").write_text(content)
    with pytest.raises(CohortError, match=r"domain\.json cannot be read .*; remove it: it is made anew"):
        read_domain(tmp_path / "domain.json")


def test_a_cohort_without_a_single_outlined_voxel_teaches_nothing(tmp_path):
    from mpi_unet.cohort.nifti import affine_from_spacing, write_mask

    root = write_tiny_cohort(tmp_path / "empty", 1)
    mask = root / "labels/truth/P00_rest.nii.gz"
    write_mask(mask, np.zeros((4, 32, 32), bool), affine_from_spacing(SPACING_MM))
    with pytest.raises(CohortError, match=r"no outline of reader truth .* choose another reader"):
        describe(Cohort.open(root), "truth")


def test_images_of_training_do_not_differ_from_training(tiny_cohort, known):
    for case in tiny_cohort.cases:
        assert found(known, case.read_image().array) == []


@pytest.mark.parametrize(("largest", "is_told"), [(32767, False), (32000, True)])
def test_the_sum_of_an_image_that_was_scaled_to_all_of_its_pixels_says_nothing(known, image, largest, is_told):
    scaled = np.round(image / image.max() * largest).astype(np.float32)
    assert bool(found(known, scaled)) == is_told


def test_each_difference_is_said_with_both_values(known, image):
    assert found(known, image, domain="projection") == [
        "it is a set of projections, the network learnt short-axis slices"
    ]
    assert found(known, image, label="lv_filled") == ["its outlines are lv_filled, the network learnt lv_wall"]
    assert found(known, image, (6.4, 4.0, 4.0)) == [
        "its voxels are 6.4 x 4 x 4 mm, training had 6.4 x 3.2 x 3.2 mm (10% is allowed)"
    ]
    assert found(known, image, None) == ["nobody knows the size of its voxels, training had 6.4 x 3.2 x 3.2 mm"]
    tall = np.tile(image, (1, 2, 1))[:, :49]
    assert found(known, tall) == ["it has 49 rows, training had 32 (a factor of 1.5 is allowed)"]
    dark = found(known, (image / 100).astype(np.float32))
    assert len(dark) == 1
    assert dark[0].startswith("the sum of its values is ")
    noisy = image + np.random.default_rng(0).normal(0, 60, image.shape).clip(-20).astype(np.float32)
    assert any(text.startswith("its noise is ") for text in found(known, noisy.astype(np.float32)))
    broken = image.copy()
    broken[0, 0, 0] = np.nan
    assert found(known, broken) == ["it holds values that are not finite"]


@pytest.mark.parametrize("spacing", [(6.4, 3.5, 3.5), (5.8, 2.9, 3.2)])
def test_spacings_within_the_tolerance_are_no_difference(known, image, spacing):
    assert found(known, image, spacing) == []


def test_the_number_of_slices_counts_only_for_networks_that_see_volumes(known, image):
    long = np.tile(image, (3, 1, 1))
    assert found(known, long) == []
    assert found(known, long, whole_volumes=True) == ["it has 12 slices, training had 4 (a factor of 1.5 is allowed)"]


def test_of_projections_the_distance_of_views_means_nothing(known, image):
    flat = replace(known, domain="projection")
    assert found(flat, image, (9.0, 3.2, 3.2), domain="projection") == []


def test_noise_grows_as_counts_fall_whatever_the_unit():
    rng = np.random.default_rng(1)
    smooth = np.full((4, 32, 32), 100.0)
    many = image_facts(rng.poisson(smooth * 16).astype(np.float32), None).noise
    few = image_facts(rng.poisson(smooth).astype(np.float32), None).noise
    assert few == pytest.approx(4 * many, rel=0.2)
    scaled = image_facts(rng.poisson(smooth).astype(np.float32) / 7, None).noise
    assert scaled == pytest.approx(few, rel=0.1)
    assert few == pytest.approx(0.1 / (1 + 2.33 * 0.1), rel=0.1)  # sd over the 99th percentile


def test_each_difference_has_the_kind_by_which_it_is_allowed(known, image):
    def kinds(image, spacing_mm=SPACING_MM, domain="short_axis", label=""):
        facts = image_facts(image, spacing_mm)
        return [one.kind for one in differences(known, facts, domain=domain, label=label, whole_volumes=False)]

    few, wide = image / 20, tuple(2 * step for step in SPACING_MM)
    found = [kinds(few), kinds(image, wide), kinds(image, label="lv_cavity"), kinds(image, domain="projection")]
    assert found == [["counts"], ["geometry"], ["label"], ["domain"]]
    assert {kind for one in found for kind in one} == set(DIFFERENCE_KINDS)
    assert kinds(np.where(image > image.mean(), np.nan, image).astype(np.float32)) == ["values"]
