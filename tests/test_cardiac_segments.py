from __future__ import annotations

import numpy as np
import pytest
from polar_builders import flat_map

from mpi_unet.cardiac.segments import (
    SEGMENT_ANGLES_DEG,
    SEGMENT_NAMES,
    TERRITORIES,
    segment_means,
    segment_numbers,
    summed_difference,
    summed_score,
    territory_means,
    uptake_scores,
)
from mpi_unet.errors import CardiacError
from mpi_unet.phantom import truth


def test_segments_lie_where_the_phantom_has_them():
    assert SEGMENT_ANGLES_DEG == truth.SEGMENT_ANGLES_DEG
    numbers = segment_numbers(20, 72)
    angles = (np.arange(72) + 0.5) * 5
    first = 1
    for zone, ring in (("basal", 17), ("middle", 12), ("apical", 7)):
        for number, middle in enumerate(SEGMENT_ANGLES_DEG[zone], first):
            width = 360 / len(SEGMENT_ANGLES_DEG[zone])
            inside = np.abs((angles - middle + 180) % 360 - 180) < width / 2
            np.testing.assert_array_equal(numbers[ring] == number, inside)
        first += len(SEGMENT_ANGLES_DEG[zone])
    assert (numbers[:5] == 17).all()


def test_names_and_territories_cover_every_segment_once():
    assert len(SEGMENT_NAMES) == len(set(SEGMENT_NAMES)) == 17
    assert (SEGMENT_NAMES[1], SEGMENT_NAMES[10], SEGMENT_NAMES[13], SEGMENT_NAMES[16]) == (
        "basal anteroseptal",
        "mid inferolateral",
        "apical septal",
        "apex",
    )
    assert sorted(sum(TERRITORIES.values(), ())) == list(range(1, 18))


@pytest.mark.parametrize(("rings", "angles"), [(6, 48), (8, 50), (0, 24)])
def test_maps_that_do_not_divide_into_segments_are_refused(rings, angles):
    with pytest.raises(CardiacError, match=f"{rings} rings of {angles} pixels, expected a multiple of 4"):
        segment_numbers(rings, angles)


def test_means_are_weighted_by_area_and_none_where_too_little_was_measured():
    polar = flat_map()
    numbers = segment_numbers(8, 48)
    here = np.argwhere(numbers == 7)
    polar.values[tuple(here[0])] = 0.0
    polar.area_mm2[tuple(here[0])] = len(here) - 1.0  # as much as all the others
    assert segment_means(polar)[6] == pytest.approx(50.0)
    polar.values[tuple(here[: len(here) // 2].T)] = np.nan
    assert segment_means(polar)[6] == 100.0
    polar.values[tuple(here[: len(here) // 2 + 1].T)] = np.nan
    assert segment_means(polar)[6] is None


def test_territories_are_means_of_their_segments():
    polar = flat_map()
    numbers = segment_numbers(8, 48)
    polar.values[np.isin(numbers, TERRITORIES["RCA"])] = 40.0
    assert territory_means(polar) == {"LAD": 100.0, "RCA": pytest.approx(40.0), "LCx": 100.0}
    polar.values[np.isin(numbers, TERRITORIES["LCx"])] = np.nan
    assert territory_means(polar)["LCx"] is None


def test_scores_follow_their_limits():
    means = [100.0, 70.0, 69.0, 50.0, 49.0, 30.0, 29.0, 10.0, 9.0, None, *[80.0] * 7]
    assert uptake_scores(means)[:10] == (0, 0, 1, 1, 2, 2, 3, 3, 4, None)
    assert uptake_scores(means, (90.0, 80.0, 60.0, 40.0))[:4] == (0, 2, 2, 3)
    with pytest.raises(CardiacError, match="expected four falling numbers such as"):
        uptake_scores(means, (10.0, 30.0, 50.0, 70.0))
    with pytest.raises(CardiacError, match="16 segments, expected 17"):
        uptake_scores(means[:16])


def test_summed_scores_say_what_is_missing():
    stress = [2, 2, None, 4, *[0] * 13]
    rest = [0, 2, 1, 1, *[0] * 13]
    assert summed_score(stress).total == 8
    assert summed_score(stress).percent == pytest.approx(100 * 8 / 64)
    assert summed_score(stress).missing == (3,)
    difference = summed_difference(stress, rest)
    assert (difference.total, difference.missing) == (5, (3,))
    assert difference.percent == pytest.approx(100 * 5 / 64)
    worse_at_rest = summed_difference([0] * 17, [1, *[0] * 16])
    assert worse_at_rest.total == -1


def test_a_summed_score_of_half_a_heart_is_none():
    scores = [None] * 4 + [4] * 13
    assert summed_score(scores).total is None
    assert summed_difference(scores, [0] * 17).total is None
    assert summed_score(scores).missing == (1, 2, 3, 4)


def test_scores_outside_the_scale_are_refused():
    with pytest.raises(CardiacError, match="segment 2: 5; expected scores 0, 1, 2, 3, 4 or None"):
        summed_score([0, 5, *[0] * 15])
