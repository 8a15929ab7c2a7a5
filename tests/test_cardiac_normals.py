from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from polar_builders import flat_map
from scipy.ndimage import gaussian_filter

from mpi_unet.cardiac.axis import HeartAxes
from mpi_unet.cardiac.normals import (
    Deficit,
    NormalDatabase,
    build_normals,
    compare,
    load_normals,
    reversible_pct,
    save_normals,
)
from mpi_unet.cardiac.polar_map import PolarMap, normalized, polar_map
from mpi_unet.cardiac.segments import segment_numbers
from mpi_unet.errors import CardiacError
from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.patient import Defect, Patient, sample_patient
from mpi_unet.phantom.reorientation import Grid, transaxial_grid
from mpi_unet.phantom.truth import left_ventricle_truth, occupancy, true_mask

FACTS = {"sex": "F", "study": "stress", "protocol": "sestamibi, camera 1, osem"}


def normal_maps(num: int = 30, sd: float = 5.0) -> list[PolarMap]:
    rng = np.random.default_rng(0)
    return [replace(flat_map(), values=80 + sd * rng.standard_normal((8, 48))) for _ in range(num)]


def exact_database(mean: float = 80.0, sd: float = 4.0) -> NormalDatabase:
    """A database whose limit at 2.5 SD is 70 everywhere."""
    normals = build_normals(normal_maps(), **FACTS)
    return replace(normals, mean=np.full((8, 48), mean), sd=np.full((8, 48), sd))


def judged(polar: PolarMap, **options) -> Deficit:
    return compare(polar, exact_database(), **FACTS, **options)


def test_mean_and_spread_are_those_of_numpy():
    maps = normal_maps()
    normals = build_normals(maps, **FACTS)
    values = np.stack([polar.values for polar in maps])
    np.testing.assert_allclose(normals.mean, values.mean(0))
    np.testing.assert_allclose(normals.sd, values.std(0, ddof=1))
    assert (normals.count == 30).all()
    assert normals.num_normals == 30
    assert normals.facts.sampling == "maximum of the wall, 8 x 48 pixels, percent of maximum"


def test_pixels_that_too_few_normals_have_are_not_judged():
    maps = normal_maps()
    for polar in maps[:11]:
        polar.values[-1, 0] = np.nan
    normals = build_normals(maps, **FACTS)
    assert np.isnan(normals.mean[-1, 0])
    assert normals.count[-1, 0] == 19
    result = compare(flat_map(0.0), normals, **FACTS)
    assert np.isnan(result.score[-1, 0])
    assert result.compared_pct == pytest.approx(100 * (1 - 1 / (8 * 48)))


def test_extent_severity_and_total_deficit_of_a_known_map():
    polar = flat_map(80.0)
    polar.values[:, :12] = 70 - 0.35 * 70  # half of the loss at which a pixel scores 4
    result = judged(polar)
    assert result.extent_pct == pytest.approx(25.0)
    np.testing.assert_allclose(result.score[:, :12], 2.0)
    assert result.tpd_pct == pytest.approx(12.5)
    assert result.severity_sd == pytest.approx((80 - 45.5) / 4)
    assert result.below[:, :12].all()
    assert not result.below[:, 12:].any()
    np.testing.assert_allclose(result.deviation_sd[:, 12:], 0.0)


def test_the_deepest_deficit_is_a_hundred_and_a_normal_heart_has_none():
    assert judged(flat_map(0.0)).tpd_pct == pytest.approx(100)
    assert judged(flat_map(0.0)).segment_scores == (4,) * 17
    normal = judged(flat_map(70.0))  # on the limit is not below it
    assert (normal.extent_pct, normal.tpd_pct, normal.severity_sd) == (0, 0, None)
    assert normal.segment_scores == (0,) * 17


def test_what_recovers_at_rest_is_the_difference_of_the_deficits():
    stress, rest = judged(flat_map(70 - 0.35 * 70)), judged(flat_map(80.0))
    assert reversible_pct(stress, rest) == pytest.approx(50)
    assert reversible_pct(rest, stress) == pytest.approx(-50)
    with pytest.raises(CardiacError, match=r"Stress was judged at 2\.5 and rest at 3 standard deviations"):
        reversible_pct(stress, judged(flat_map(), limit_sd=3.0))


def test_extent_is_weighted_by_area():
    polar = flat_map(80.0)
    polar.values[0] = 0.0
    polar.area_mm2[0] = 3.0
    assert judged(polar).extent_pct == pytest.approx(100 * 3 / 10)


def test_segments_have_their_own_extent_and_score():
    polar = flat_map(80.0)
    numbers = segment_numbers(8, 48)
    polar.values[numbers == 10] = 0.0
    polar.values[numbers == 2] = np.nan
    result = judged(polar)
    assert result.segment_extent_pct[9] == pytest.approx(100)
    assert result.segment_scores[9] == 4
    assert result.segment_extent_pct[1] is None
    assert result.segment_scores[1] is None
    assert result.segment_extent_pct[0] == 0


def test_a_tighter_limit_finds_less():
    polar = flat_map(69.0)
    assert judged(polar, limit_sd=2.0).extent_pct == 100
    assert judged(polar, limit_sd=3.0).extent_pct == 0
    with pytest.raises(CardiacError, match="limit_sd: is 0"):
        judged(polar, limit_sd=0)


def test_normals_of_normal_chance_lie_below_the_limit_as_often_as_gauss_says():
    normals = build_normals(normal_maps(400), **FACTS)
    fresh = np.random.default_rng(9)
    extents = [
        compare(replace(flat_map(), values=80 + 5 * fresh.standard_normal((8, 48))), normals, **FACTS).extent_pct
        for _ in range(100)
    ]
    assert np.mean(extents) == pytest.approx(0.62, abs=0.12)


def test_everything_that_forbids_a_database_is_said_at_once():
    with pytest.raises(CardiacError) as caught:
        build_normals([*normal_maps(3), flat_map(unit="counts")], sex="female", study="exercise", protocol=" ")
    for said in (
        "4 normals, expected at least 20",
        "maps made in 2 ways",
        "sex is 'female', expected F, M, both",
        "study is 'exercise', expected stress or rest",
        "protocol is empty",
    ):
        assert said in str(caught.value)
    with pytest.raises(CardiacError, match="maps in counts, expected percent"):
        build_normals([flat_map(unit="counts")] * 20, **FACTS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sex": "M"}, "sex: the database has 'F', the patient 'M'"),
        ({"study": "rest"}, "study: the database has 'stress', the patient 'rest'"),
        ({"protocol": "tetrofosmin"}, "protocol: the database has 'sestamibi, camera 1, osem', the patient"),
    ],
)
def test_a_database_of_another_kind_is_refused(change, said):
    with pytest.raises(CardiacError, match=said):
        compare(flat_map(), exact_database(), **{**FACTS, **change})


def test_a_database_of_another_normalization_or_sampling_is_refused():
    with pytest.raises(CardiacError, match=r"sampling: .*percent of maximum.*percentile 90"):
        judged(flat_map(unit="percent of percentile 90"))
    with pytest.raises(CardiacError, match="4 x 24 pixels"):
        judged(flat_map(rings=4, angles=24))
    with pytest.raises(CardiacError, match="share no measured pixel"):
        judged(flat_map(np.nan))


def test_a_mixed_database_holds_for_either_sex():
    mixed = build_normals(normal_maps(), **{**FACTS, "sex": "both"})
    assert compare(flat_map(80.0), mixed, **FACTS).extent_pct == 0
    assert compare(flat_map(80.0), mixed, **{**FACTS, "sex": "M"}).extent_pct == 0


# --- The file ---


def test_database_survives_the_file(tmp_path):
    maps = normal_maps()
    for polar in maps:
        polar.values[-1, :3] = np.nan
    normals = build_normals(maps, **FACTS)
    save_normals(normals, tmp_path / "normals.json")
    again = load_normals(tmp_path / "normals.json")
    assert again.facts == normals.facts
    np.testing.assert_allclose(again.mean, normals.mean, atol=1e-4)
    np.testing.assert_allclose(again.sd, normals.sd, atol=1e-4)
    np.testing.assert_array_equal(again.count, normals.count)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": "2.0.0"}, r"schema version 2.0.0, expected 1.0.0; build the database anew"),
        ({"kind": "something"}, "is no normal database; expected a file of save_normals"),
        ({"mean": [[1.0]]}, r"arrays of \(1, 1\), \(8, 48\) and \(8, 48\)"),
        ({"num_normals": 3}, "from 3 normals; expected three of"),
        ({"facts": {"sex": "F"}}, "is damaged.*study"),
        ({"sd": "x"}, "is damaged"),
    ],
)
def test_files_that_are_no_database_are_refused(tmp_path, change, said):
    path = tmp_path / "normals.json"
    save_normals(build_normals(normal_maps(), **FACTS), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CardiacError, match=said):
        load_normals(path)


@pytest.mark.parametrize("text", ["", "[1]", "{}", "\x80"])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "normals.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CardiacError, match="is no normal database"):
        load_normals(path)
    with pytest.raises(CardiacError, match="is no normal database"):
        load_normals(tmp_path / "missing.json")


# --- The phantom ---


def blurred(patient: Patient) -> tuple[PolarMap, Heart]:
    """The polar map of a phantom heart at end diastole, blurred as a camera does, without noise and torso."""
    heart = Heart(patient)
    fields = heart.fields((0.0,), step_mm=3.0)
    grid: Grid = transaxial_grid(heart.to_world(np.array([0.0, 0.0, 0.45 * heart.length_mm])), (36, 36, 36), 4.0)
    points = heart.to_heart_frame(grid.points_mm())
    image = gaussian_filter(occupancy(fields.activity, fields, points), 1.2).astype(np.float32)
    wall = true_mask(heart, fields, grid, "lv_wall")
    flip = np.array([-1.0, -1.0, 1.0])
    center, inferior, along = (
        tuple(float(value) for value in row * flip) for row in (heart.base_center_mm, heart.axes[1], heart.axes[2])
    )
    axes = HeartAxes(center, along, inferior, 0.0, heart.full_length_mm, cavity_apex_mm=heart.length_mm)
    return normalized(polar_map(image, wall, grid.affine_ras, axes), 90), heart


def test_defects_of_the_phantom_are_found_where_they_are():
    facts = {"sex": "both", "study": "stress", "protocol": "phantom"}
    healthy = [blurred(replace(sample_patient(5, index), defects=()))[0] for index in range(20)]
    normals = build_normals(healthy, **facts)
    plants = [
        Defect("LAD", 330.0, 0.6, 50.0, 0.32, 0.8, 0.0),
        Defect("RCA", 200.0, 0.4, 45.0, 0.28, 0.8, 0.0),
        Defect("LCX", 100.0, 0.4, 45.0, 0.28, 0.6, 0.0),
    ]
    errors, right, total = [], 0, 0
    for index, plant in enumerate(plants, start=40):
        polar, heart = blurred(replace(sample_patient(5, index), defects=(plant,)))
        result = compare(polar, normals, **facts)
        truth = left_ventricle_truth(heart, (0.0,))
        errors.append(result.extent_pct - truth.defect_pct)
        for known, found in zip(truth.segment_defect_pct, result.segment_extent_pct, strict=True):
            if found is not None:
                right += (known >= 33) == (found >= 33)
                total += 1
        assert result.tpd_pct < result.extent_pct
    assert np.abs(errors).max() < 8
    assert right / total > 0.85
