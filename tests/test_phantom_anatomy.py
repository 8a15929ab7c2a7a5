from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpi_unet.errors import CohortError
from mpi_unet.phantom import readers as readers_module
from mpi_unet.phantom.camera import PARALLEL_HOLE
from mpi_unet.phantom.heart import LONG_AXIS_SHORTENING, Heart, contraction_of_gate
from mpi_unet.phantom.outline import directions, outline_mask, support_mm, surface_points_mm
from mpi_unet.phantom.patient import Defect, Patient, sample_patient
from mpi_unet.phantom.random_streams import Stream
from mpi_unet.phantom.readers import reader_mask, reader_support_mm, sample_read, split_reader, surface_depths
from mpi_unet.phantom.reorientation import Grid, centered_grid, resample, short_axis_grid, transaxial_grid
from mpi_unet.phantom.torso import skin_distance_mm, torso_maps
from mpi_unet.phantom.truth import left_ventricle_truth, occupancy, segment_of, true_mask

SUMMED = tuple(contraction_of_gate(gate, 8) for gate in range(8))


def plain_patient(**changes) -> Patient:
    """A healthy patient with round walls and a flat base, whose volumes are those of cut ellipsoids."""
    patient = sample_patient(1, 0)
    shape = replace(
        patient.heart,
        endo_radius_mm=24.0,
        endo_half_length_mm=60.0,
        base_fraction=0.3,
        wall_mm=9.0,
        apex_ratio=0.7,
        ejection_fraction=0.60,
        septal_shortening_mm=0.0,
        bend_mm=0.0,
        outline_harmonics=(0.0, 0.0, 0.0, 0.0),
        wall_harmonics=(0.0, 0.04),  # cancels the thinner lateral wall
    )
    return replace(patient, heart=replace(shape, **changes), defects=())


def cut_ellipsoid_ml(radius: float, half_length: float, cut: float) -> float:
    """Volume of an ellipsoid of revolution beyond a plane ``cut`` half lengths before its middle."""
    return np.pi * radius**2 * half_length * (2 / 3 + cut - cut**3 / 3) / 1000


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def grid_of(heart: Heart, pixel_mm: float = 3.2, slice_mm: float = 6.4, matrix: int = 64) -> Grid:
    return short_axis_grid(heart, Stream(1, 0, "reorientation"), matrix=matrix, pixel_mm=pixel_mm, slice_mm=slice_mm)


# --- Patients ---


def test_population_is_the_one_described():
    patients = [sample_patient(1, index) for index in range(400)]
    men = np.mean([patient.body.sex == "M" for patient in patients])
    assert men == pytest.approx(0.57, abs=0.08)
    assert np.median([patient.body.bmi for patient in patients]) == pytest.approx(27.8, abs=0.7)
    breathing = np.array([patient.heart.breathing_mm for patient in patients])
    assert (breathing > 10).mean() == pytest.approx(0.33, abs=0.07)
    assert 0.4 < np.mean([bool(patient.defects) for patient in patients]) < 0.6
    assert {patient.uptake.tracer for patient in patients} == {"sestamibi", "tetrofosmin"}
    assert all(patient.body.breast_mm == 0 for patient in patients if patient.body.sex == "M")


def test_rest_and_stress_are_the_same_patient_with_the_scars_only():
    for index in range(60):
        stress, rest = sample_patient(5, index, "stress"), sample_patient(5, index, "rest")
        assert (stress.body, stress.heart, stress.uptake.tracer) == (rest.body, rest.heart, rest.uptake.tracer)
        assert stress.uptake.liver != rest.uptake.liver
        lost = {defect.territory: defect.severity for defect in stress.defects}
        assert all(defect.severity < lost[defect.territory] for defect in rest.defects)
        # what is dead does not move, whatever the study
        moving = {defect.territory: defect.severity * defect.scar for defect in stress.defects if defect.scar}
        assert {d.territory: d.severity * d.scar for d in rest.defects} == pytest.approx(moving)
    assert any(sample_patient(5, index, "rest").defects for index in range(60))


def test_one_patient_differs_from_the_next():
    assert sample_patient(5, 1) == sample_patient(5, 1)
    assert sample_patient(5, 1).body != sample_patient(5, 2).body
    assert sample_patient(5, 1).body != sample_patient(6, 1).body


# --- Heart ---


def test_heart_frame_is_right_handed_and_points_where_hearts_point():
    for index in range(30):
        heart = Heart(sample_patient(2, index))
        lateral, inferior, apical = heart.axes
        np.testing.assert_allclose(heart.axes @ heart.axes.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(np.cross(lateral, inferior), -apical, atol=1e-12)  # seen from the apex
        assert apical[0] > 0  # LPS: to the left
        assert apical[1] < 0  # to the front
        assert apical[2] < 0  # and down
        assert inferior[2] < -0.5
        assert lateral[0] > 0
        assert lateral[1] > 0  # the lateral wall looks left and back
        points = np.random.default_rng(0).uniform(-50, 50, (20, 3))
        np.testing.assert_allclose(heart.to_heart_frame(heart.to_world(points)), points, atol=1e-9)


def test_volumes_are_those_of_cut_ellipsoids():
    heart = Heart(plain_patient())
    truth = left_ventricle_truth(heart, (0.0,))
    assert truth.cavity_ml == pytest.approx(cut_ellipsoid_ml(24, 60, 0.3), rel=1e-3)
    assert truth.end_diastolic_ml == truth.cavity_ml
    outer_half = 60 + 9 * 0.7
    both = cut_ellipsoid_ml(33, outer_half, (78 + 6.3 - outer_half) / outer_half)
    assert truth.wall_ml == pytest.approx(both - truth.cavity_ml, rel=2e-3)
    assert truth.ejection_fraction_pct == pytest.approx(60, abs=2.0)  # the base descends a little less than the rest
    assert truth.defect_pct == 0


def test_wall_keeps_its_volume_and_thickens():
    heart = Heart(plain_patient())
    diastole, systole = left_ventricle_truth(heart, (0.0,)), left_ventricle_truth(heart, (1.0,))
    assert systole.cavity_ml == pytest.approx(diastole.end_systolic_ml)
    assert systole.wall_ml == pytest.approx(diastole.wall_ml, rel=0.08)
    endo, _, epi, _ = heart.half_axes_mm(1.0, 1.0)
    assert (epi - endo) / 9.0 > 1.3
    half = heart.half_axes_mm(1.0, 1.0)[1]
    assert half == pytest.approx(60 * (1 - LONG_AXIS_SHORTENING))


def test_contraction_runs_through_one_cycle():
    sixteen = [contraction_of_gate(gate, 16) for gate in range(16)]
    assert sixteen[0] < 0.05
    assert max(sixteen) > 0.95
    assert sixteen.index(max(sixteen)) in (5, 6)
    assert sixteen[-1] < 0.1
    assert min(sixteen) >= 0


def test_scar_contracts_less_and_lowers_the_ejection_fraction():
    healthy = plain_patient()
    scar = Defect("LAD", 335.0, 0.6, 60.0, 0.5, severity=0.9, scar=1.0)
    ischemia = replace(scar, scar=0.0)
    fractions = [
        left_ventricle_truth(Heart(replace(healthy, defects=defects)), (0.0,)).ejection_fraction_pct
        for defects in ((), (ischemia,), (scar,))
    ]
    assert fractions[1] == pytest.approx(fractions[0], rel=1e-6)
    assert fractions[2] < fractions[0] - 5


def test_thickness_is_the_distance_between_the_surfaces():
    truth = left_ventricle_truth(Heart(plain_patient()), (0.0,))
    middle = truth.segment_thickness_mm[6:12]
    np.testing.assert_allclose(middle, 9.0, rtol=0.06)
    assert truth.segment_thickness_mm[16] == pytest.approx(9 * 0.7, rel=0.06)
    septal = left_ventricle_truth(Heart(plain_patient(wall_harmonics=(0.0, -0.1))), (0.0,))
    assert septal.segment_thickness_mm[8] > septal.segment_thickness_mm[11] + 1  # inferoseptal against anterolateral


def test_segments_lie_as_the_american_heart_association_numbers_them():
    heart = Heart(plain_patient())
    thirds = np.array([0.15, 0.45, 0.8, 0.99]) * heart.length_mm

    def at(degrees: float, height_mm: float) -> int:
        return int(segment_of(heart, np.deg2rad(np.array([degrees])), np.array([height_mm]))[0])

    # 0 anterior, then against the clock as seen from the apex: septum on the left
    assert [at(degrees, thirds[0]) for degrees in (0, 300, 240, 180, 120, 60)] == [1, 2, 3, 4, 5, 6]
    assert [at(degrees, thirds[1]) for degrees in (0, 300, 240, 180, 120, 60)] == [7, 8, 9, 10, 11, 12]
    assert [at(degrees, thirds[2]) for degrees in (0, 270, 180, 90)] == [13, 14, 15, 16]
    assert at(77, thirds[3]) == 17


@pytest.mark.parametrize(
    ("angle", "level", "expected"),
    [(0.0, 0.2, 1), (180.0, 0.2, 4), (90.0, 0.72, 16), (270.0, 0.72, 14), (0.0, 0.99, 17)],
)
def test_defect_extent_is_found_in_its_segment(angle: float, level: float, expected: int):
    defect = Defect("LAD", angle, level, half_angle_deg=30.0, half_length=0.14, severity=0.9, scar=0.0)
    truth = left_ventricle_truth(Heart(replace(plain_patient(), defects=(defect,))), (0.0,))
    assert int(np.argmax(truth.segment_defect_pct)) + 1 == expected
    assert 2 < truth.defect_pct < 25
    weak = replace(defect, severity=0.2)  # below the loss that counts as a defect
    assert left_ventricle_truth(Heart(replace(plain_patient(), defects=(weak,))), (0.0,)).defect_pct == 0


def test_defect_takes_uptake_where_it_lies():
    defect = Defect("LCX", 90.0, 0.45, 40.0, 0.3, severity=0.8, scar=0.0)
    heart = Heart(replace(plain_patient(), defects=(defect,)))
    level = np.array([0.45 * heart.full_length_mm])
    lost_there, _ = heart.lost_uptake(np.deg2rad(np.array([90.0])), level)
    lost_opposite, _ = heart.lost_uptake(np.deg2rad(np.array([270.0])), level)
    assert lost_there[0] == pytest.approx(0.8, abs=0.01)
    assert lost_opposite[0] < 0.01


# --- Torso ---


def test_attenuation_of_the_torso_is_that_of_its_tissues():
    patient = sample_patient(2, 1)
    axis = (np.arange(64) - 31.5) * 6.4
    maps = torso_maps(patient, axis, axis, axis, 6.4)
    assert maps.attenuation_per_mm.max() == pytest.approx(0.0215)
    assert maps.attenuation_per_mm[0].max() == 0  # air
    row, lung_slice = 32, 44  # above the diaphragm
    lung_column = int(np.argmin(np.abs(axis - 0.5 * (patient.body.half_width_mm - patient.body.fat_mm))))
    assert maps.attenuation_per_mm[row, lung_column, lung_slice] == pytest.approx(patient.body.lung_mu_per_mm, rel=1e-4)
    assert maps.activity.max() <= max(patient.uptake.gallbladder, 2.5)
    liver = maps.activity[30, int(np.argmin(np.abs(axis + 70))), 20]
    assert liver == pytest.approx(patient.uptake.liver, rel=1e-4)


def test_camera_stays_outside_the_skin():
    patient = sample_patient(2, 1)
    axis = (np.arange(128) - 63.5) * 3.2
    inside = torso_maps(patient, axis, axis, np.zeros(1), 3.2).attenuation_per_mm[..., 0] > 0.007
    angles = np.array([-45.0, 0.0, 60.0, 90.0, 135.0])
    for angle, reach in zip(np.deg2rad(angles), skin_distance_mm(patient, angles), strict=True):
        toward = axis[None, :] * np.sin(angle) - axis[:, None] * np.cos(angle)
        assert toward[inside].max() < reach + 8 + patient.body.breast_mm


# --- Grids and masks ---


def test_short_axis_grid_looks_from_the_apex():
    heart = Heart(sample_patient(2, 3))
    grid = grid_of(heart)
    steps = grid.affine_lps[:3, :3] / np.linalg.norm(grid.affine_lps[:3, :3], axis=0)
    assert steps[:, 0] @ heart.axes[0] > 0.98  # columns run to the lateral wall
    assert steps[:, 1] @ heart.axes[1] > 0.98  # rows to the inferior wall
    assert steps[:, 2] @ heart.axes[2] < -0.98  # slices from the apex to the base
    assert np.linalg.det(steps) > 0.999
    np.testing.assert_allclose(grid.spacing_mm, (6.4, 3.2, 3.2))
    np.testing.assert_allclose(grid.affine_ras[:2], -grid.affine_lps[:2])
    np.testing.assert_allclose(grid.affine_ras[2], grid.affine_lps[2])


def test_masks_lie_where_the_affine_says():
    heart = Heart(plain_patient())
    fields = heart.fields((0.0,))
    for grid in (grid_of(heart), transaxial_grid(np.array(heart.shape.center_mm), (40, 40, 40), 4.0)):
        cavity = true_mask(heart, fields, grid, "lv_cavity")
        index = np.argwhere(cavity).mean(0)[::-1]
        world = grid.affine_lps[:3, :3] @ index + grid.affine_lps[:3, 3]
        lateral, inferior, apical = heart.to_heart_frame(world)
        assert abs(lateral) < 1.0
        assert abs(inferior) < 1.0
        assert 0.35 < apical / heart.length_mm < 0.5  # centroid of a cone-like body, nearer to the base


@pytest.mark.parametrize(("pixel_mm", "slice_mm", "tolerance"), [(1.6, 1.6, 0.02), (3.2, 6.4, 0.03), (6.4, 6.4, 0.06)])
def test_masks_have_the_volume_of_the_truth(pixel_mm: float, slice_mm: float, tolerance: float):
    heart = Heart(sample_patient(1, 4))
    fields, truth = heart.fields((0.0,)), left_ventricle_truth(heart, (0.0,))
    grid = grid_of(heart, pixel_mm, slice_mm, matrix=round(130 / pixel_mm))
    voxel_ml = np.prod(grid.spacing_mm) / 1000
    wall, cavity, filled = (true_mask(heart, fields, grid, f"lv_{part}") for part in ("wall", "cavity", "filled"))
    assert cavity.sum() * voxel_ml == pytest.approx(truth.cavity_ml, rel=tolerance)
    assert wall.sum() * voxel_ml == pytest.approx(truth.wall_ml, rel=2 * tolerance)
    assert filled.sum() * voxel_ml == pytest.approx(truth.wall_ml + truth.cavity_ml, rel=tolerance)
    assert not (wall & cavity).any()
    assert (filled | ~(wall | cavity)).all()


def test_resampling_finds_the_same_point_of_the_world():
    source = transaxial_grid(np.array([5.0, -3.0, 8.0]), (20, 30, 30), 4.0)
    points = source.points_mm()
    ramp = (points @ np.array([0.3, -0.7, 0.5])).astype(np.float32)
    axes = Heart(sample_patient(1, 1)).axes * np.array([[1.0], [1.0], [-1.0]])
    target = centered_grid((6, 8, 8), axes, (5.0, 3.0, 3.0), np.array([6.0, -2.0, 7.0]))
    np.testing.assert_allclose(resample(ramp, source, target), target.points_mm() @ [0.3, -0.7, 0.5], atol=1e-3)


# --- Outlines in the camera's views ---


def test_outline_of_a_ball_is_a_disk_wherever_it_lies():
    rng = np.random.default_rng(4)
    normals = rng.normal(size=(60_000, 3))
    center = np.array([40.0, -30.0, 12.0])
    ball = center + 40 * normals / np.linalg.norm(normals, axis=1, keepdims=True)
    support = support_mm(ball, PARALLEL_HOLE)
    mask = outline_mask(support, PARALLEL_HOLE)
    pixel = PARALLEL_HOLE.pixel_mm
    for view in (0, 20, 59):
        angle = np.deg2rad(PARALLEL_HOLE.view_angles_deg[view])
        u = center[0] * np.cos(angle) + center[1] * np.sin(angle)
        np.testing.assert_allclose(support[view], directions() @ [u, 12.0] + 40, atol=0.1)
        row, column = np.argwhere(mask[view]).mean(0)
        assert (column - 31.5) * pixel == pytest.approx(u, abs=1.0)
        assert (31.5 - row) * pixel == pytest.approx(12.0, abs=1.0)  # the head is on top
        assert mask[view].sum() * pixel**2 == pytest.approx(np.pi * 40**2, rel=0.03)


def test_outline_covers_the_projected_heart():
    heart = Heart(sample_patient(1, 4))
    fields = heart.fields(SUMMED)
    mask = outline_mask(support_mm(surface_points_mm(heart, fields), PARALLEL_HOLE), PARALLEL_HOLE)
    reach = np.arange(-50.0, 50.0)
    points = np.stack(np.meshgrid(reach, reach, np.arange(0.0, 90.0), indexing="ij"), axis=-1).reshape(-1, 3)
    world = heart.to_world(points[occupancy(fields.filled, fields, points) >= 0.5])
    for view in (0, 30, 59):
        angle = np.deg2rad(PARALLEL_HOLE.view_angles_deg[view])
        column = np.floor((world[:, 0] * np.cos(angle) + world[:, 1] * np.sin(angle)) / 1.6 + 128).astype(int)
        row = np.floor(128 - world[:, 2] / 1.6).astype(int)
        shadow = np.zeros((256, 256))
        shadow[row, column] = 1  # on quarter pixels, which points 1 mm apart fill without holes
        assert dice(shadow.reshape(64, 4, 64, 4).mean((1, 3)) >= 0.5, mask[view]) > 0.95


# --- Readers ---


@pytest.fixture(scope="module")
def read_patients() -> list[dict[str, dict[str, np.ndarray]]]:
    """Outlines of eight patients: domain -> reader -> mask."""
    patients = []
    for index in range(8):
        heart = Heart(sample_patient(21, index))
        fields = heart.fields(SUMMED)
        grid, depths = grid_of(heart), surface_depths(fields)
        support = support_mm(surface_points_mm(heart, fields), PARALLEL_HOLE)
        reads = {reader: sample_read(heart, reader) for reader in ("A", "B", "C", "A2")}
        wall = {reader: reader_mask(heart, depths, grid, "lv_wall", read) for reader, read in reads.items()}
        view = {
            reader: outline_mask(reader_support_mm(heart, support, PARALLEL_HOLE, read), PARALLEL_HOLE)
            for reader, read in reads.items()
        }
        wall["truth"] = true_mask(heart, fields, grid, "lv_wall")
        view["truth"] = outline_mask(support, PARALLEL_HOLE)
        patients.append({"wall": wall, "view": view})
    return patients


def mean_dice(patients: list, part: str, *pairs: str) -> float:
    return float(
        np.mean([dice(patient[part][a], patient[part][b]) for patient in patients for a, b in map(str.split, pairs)])
    )


def test_readers_agree_as_calibrated(read_patients: list):
    assert mean_dice(read_patients, "wall", "A B", "A C", "B C") == pytest.approx(0.90, abs=0.02)
    assert mean_dice(read_patients, "view", "A B", "A C", "B C") == pytest.approx(0.94, abs=0.015)


def test_repeat_read_is_closer_than_another_reader_and_no_copy(read_patients: list):
    for part in ("wall", "view"):
        again = mean_dice(read_patients, part, "A A2")
        assert mean_dice(read_patients, part, "A B", "A C") < again < 0.99


def test_readers_have_their_habits(read_patients: list):
    size = {
        reader: np.mean([patient["wall"][reader].sum() / patient["wall"]["truth"].sum() for patient in read_patients])
        for reader in ("A", "B", "C")
    }
    assert size["B"] > size["A"] > size["C"]


def test_reader_without_error_draws_the_truth(monkeypatch: pytest.MonkeyPatch):
    nothing = readers_module.Style(**dict.fromkeys(readers_module.Style.__dataclass_fields__, 0.0))
    monkeypatch.setitem(readers_module.STYLES, "A", nothing)
    monkeypatch.setattr(readers_module, "GROSS_ERROR_PROBABILITY", 0.0)
    heart = Heart(sample_patient(1, 4))
    fields, grid = heart.fields(SUMMED), grid_of(heart)
    read = sample_read(heart, "A")
    for label in ("lv_wall", "lv_cavity", "lv_filled"):
        drawn = reader_mask(heart, surface_depths(fields), grid, label, read)
        assert dice(drawn, true_mask(heart, fields, grid, label)) > 0.96
    support = support_mm(surface_points_mm(heart, fields), PARALLEL_HOLE)
    np.testing.assert_allclose(reader_support_mm(heart, support, PARALLEL_HOLE, read), support)


def test_gross_errors_are_rare_and_gross():
    reads = [sample_read(Heart(sample_patient(31, index)), "C") for index in range(400)]
    gross = [read for read in reads if max(map(abs, read.stray_mm)) > 4 or abs(read.base_mm) > 11]
    assert 0.005 < len(gross) / len(reads) < 0.07


def test_smooth_fields_are_smooth_and_of_unit_size():
    read = sample_read(Heart(sample_patient(1, 0)), "A")
    rng = np.random.default_rng(0)
    points = rng.uniform(-200, 200, (20_000, 3))
    values = read.field_mm(0, points)
    assert values.std() == pytest.approx(1.0, abs=0.1)
    near = read.field_mm(0, points + np.array([2.0, 0, 0]))
    far = read.field_mm(0, points + np.array([80.0, 0, 0]))
    assert np.corrcoef(values, near)[0, 1] > 0.98
    assert abs(np.corrcoef(values, far)[0, 1]) < 0.35


@pytest.mark.parametrize("name", ["truth", "Z", "a", "A0", "A1", "2A", ""])
def test_unknown_reader_is_refused(name: str):
    with pytest.raises(CohortError, match=r"is no simulated reader(.|\n)*'A2'"):
        split_reader(name)
