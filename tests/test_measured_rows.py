"""What predict writes about hearts: rows of images, cycles and pairs, and normal databases from its own output."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from cardiac_shells import Shell, wall_mask
from doors import open_door
from polar_builders import flat_map

from mpi_unet.cardiac.axis import HeartAxes
from mpi_unet.cardiac.normals import build_normals, load_normals, save_normals
from mpi_unet.cardiac.polar_map import normalized
from mpi_unet.cohort.case import Case
from mpi_unet.cohort.domain import OutlineFacts
from mpi_unet.cohort.nifti import read_image, write_image
from mpi_unet.cohort.readings import read_reading_table
from mpi_unet.cohort.table import Cohort, write_cohort_table
from mpi_unet.errors import CardiacError
from mpi_unet.inference.cycle import GateFacts, measure_cycle
from mpi_unet.inference.finishing import Learnt, ReadStudy, finish_study
from mpi_unet.inference.hearts import Heart, heart_file, read_heart, write_heart
from mpi_unet.inference.inputs import Study, open_input
from mpi_unet.inference.measures import measure_heart
from mpi_unet.inference.options import Options
from mpi_unet.inference.own_normals import make_normals
from mpi_unet.inference.perfusion import NORMALS_PERCENTILE, Normals, change_of, perfusion_of
from mpi_unet.inference.results import StudyResult, blank_result, keep_result, remove_heart, short_axis_files
from mpi_unet.inference.tables import write_tables

AXES = HeartAxes((1.0, 2.0, 3.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0), -40.0, 40.0, 30.0)
PROTOCOL = "Tc-99m, one camera, OSEM"


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def counts_map(value=50.0, low=(), low_value=20.0):
    """A map in counts of 4 x 5 rings whose segments ``low`` have another value; the rest varies a little."""
    from mpi_unet.cardiac.segments import segment_numbers

    numbers = segment_numbers(20, 72)
    values = np.where(np.isin(numbers, low), low_value, value).astype(float)
    return replace(flat_map(rings=20, angles=72, unit="counts"), values=values)


def normals_of(sex="F", study="stress", seed=0):
    random = np.random.default_rng(seed)
    maps = []
    for _ in range(24):
        polar = counts_map()
        polar = replace(polar, values=polar.values * random.normal(1, 0.05, polar.values.shape))
        maps.append(normalized(polar, NORMALS_PERCENTILE))
    return build_normals(maps, sex=sex, study=study, protocol=PROTOCOL)


def put(root, cases):
    """A cohort of small images: (case_id, patient, acquisition, gate, sex)."""
    rows = []
    for case_id, patient, acquisition, gate, sex in cases:
        write_image(root / f"{case_id}.nii.gz", np.ones((2, 8, 8), np.float32), np.eye(4))
        row = {"case_id": case_id, "patient_id": patient, "acquisition": acquisition, "gate": gate, "sex": sex}
        rows.append(row | {"image": f"{case_id}.nii.gz"})
    write_cohort_table(
        root,
        metadata={
            "name": "hearts",
            "domain": "short_axis",
            "label": "",
            "readers": [],
            "simulated_readers": False,
            "source": "made for a test",
            "intensities": "counts",
            "spacing_known": True,
            "licence": "none",
        },
        rows=rows,
    )
    return Cohort.open(root)


def put_result(output, case, polar, **measures):
    from mpi_unet.cardiac.segments import segment_means
    from mpi_unet.inference.measures import Measures

    if polar is not None:
        measures["segment_uptake_pct"] = segment_means(normalized(polar))
        write_heart(heart_file(output, case.case_id), Heart(AXES, polar))
    result = StudyResult(case.case_id, case.patient_id, case.acquisition, case.gate, "", "segmented")
    keep_result(replace(result, measures=Measures(**measures)), output)


def written(root, output, normals=None):
    write_tables(open_input(root, output, domain="short_axis"), output, normals)
    return {name: table(output / f"{name}.csv") for name in ("measurements", "segments", "curves", "differences")}


# --- the file of a heart ---


def test_a_heart_comes_back_from_its_file_with_what_was_not_measured(tmp_path):
    polar = counts_map()
    polar.values[3, 4] = np.nan
    write_heart(tmp_path / "h.json", Heart(AXES, polar))
    back = read_heart(tmp_path / "h.json")
    assert back.axes == AXES
    np.testing.assert_allclose(back.polar.values, polar.values)
    assert (back.polar.statistic, back.polar.unit) == (polar.statistic, "counts")
    write_heart(tmp_path / "h.json", Heart(AXES, None))
    assert read_heart(tmp_path / "h.json").polar is None
    (tmp_path / "h.json").write_text("{}")
    with pytest.raises(CardiacError, match=r"cannot be read as the heart of a study .* predict again"):
        read_heart(tmp_path / "h.json")


# --- images ---


def test_any_error_of_the_measurement_is_a_reason_and_keeps_the_volume(monkeypatch):
    wall, affine = wall_mask(Shell())

    def breaks(*_, **__):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr("mpi_unet.cardiac.surfaces.heart_surfaces", breaks)
    measures, heart = measure_heart(
        wall, wall.astype(np.float32), affine, (4.0, 4.0, 4.0), domain="transaxial", label="lv_wall", with_surfaces=True
    )
    assert heart is None
    assert measures.volume_ml > 0
    assert measures.why_not.startswith("the heart could not be measured (LinAlgError: Singular matrix)")


@pytest.mark.parametrize("kind", ["noise", "plate", "voxel", "solid", "two balls", "edge"])
def test_bad_masks_are_flags_and_never_crashes(kind):
    mask = np.zeros((20, 32, 32), bool)
    if kind == "noise":
        mask = np.random.default_rng(0).random(mask.shape) > 0.6
    elif kind == "plate":
        mask[10] = True
    elif kind == "voxel":
        mask[10, 10, 10] = True
    elif kind == "solid":
        mask[5:15, 8:24, 8:24] = True
    elif kind == "two balls":
        mask[4:8, 4:10, 4:10] = mask[12:16, 20:28, 20:28] = True
    else:
        mask[:3] = True
    affine = np.diag([3.2, 3.2, 6.4, 1.0])
    measures, _ = measure_heart(
        mask, np.ones(mask.shape, np.float32), affine, (6.4, 3.2, 3.2), domain="short_axis", label="lv_wall",
        with_surfaces=True,
    )  # fmt: skip
    assert measures.volume_ml == pytest.approx(mask.sum() * 6.4 * 3.2**2 / 1000)
    assert measures.why_not


def test_an_outline_of_the_cavity_gives_volumes_and_ejection_fraction_by_voxels(tmp_path):
    wall, affine = wall_mask(Shell())
    asked = {"domain": "transaxial", "with_surfaces": True}
    cavity, heart = measure_heart(wall, wall.astype(np.float32), affine, (4.0,) * 3, label="lv_cavity", **asked)
    assert heart is None
    assert (cavity.cavity_ml, cavity.filled_ml) == (cavity.volume_ml, None)
    filled, _ = measure_heart(wall, wall.astype(np.float32), affine, (4.0,) * 3, label="lv_filled", **asked)
    assert (filled.cavity_ml, filled.filled_ml) == (None, filled.volume_ml)


def finished(tmp_path, **options):
    """A transaxial shell through the last step, its own outline as the answer of one network."""
    wall, affine = wall_mask(Shell())
    write_image(tmp_path / "a.nii.gz", (50.0 * wall).astype(np.float32), affine)
    case = Case("a", "P1", "stress", "", "", tmp_path / "a.nii.gz", {}, {})
    study = Study(case, "transaxial", "", True, "shells", "")
    read = ReadStudy(study, case.read_image(), replace(blank_result(study), folds=(0,)))
    known = OutlineFacts("ml", (1.0, 900.0), 100.0, 10.0, 2, ((0.0, 1.0),) * 3, (1.0, 500.0))
    answer = wall[None].astype(np.float32)
    options = Options(component="none", **options)
    result = finish_study(read, answer, Learnt(0.5, "lv_wall", known, True), tmp_path / "out", options)
    assert (result.status, result.reason) == ("segmented", "")
    return wall, result


def test_a_transaxial_study_leaves_its_heart_and_if_asked_short_axis_slices_that_lie_right(tmp_path):
    wall, result = finished(tmp_path, short_axis=True)
    assert result.measures.cavity_ml == pytest.approx(Shell().cavity_ml, rel=0.03)
    heart = read_heart(heart_file(tmp_path / "out", "a"))
    assert heart.polar.measured_pct > 95
    image_file, turned_file = short_axis_files(tmp_path / "out", "a")
    turned, image = read_image(turned_file), read_image(image_file)
    along = turned.affine[:3, 2] / np.linalg.norm(turned.affine[:3, 2])
    np.testing.assert_allclose(-along, heart.axes.long_axis, atol=1e-3)  # from apex to base
    own = read_image(tmp_path / "a.nii.gz")
    middles = [
        (volume.affine @ [*np.argwhere(mask).mean(0)[::-1], 1.0])[:3]
        for volume, mask in ((own, wall), (turned, turned.array > 0.5))
    ]
    assert np.linalg.norm(middles[0] - middles[1]) < 1.0
    inside = image.array[turned.array > 0.5].mean()
    assert inside > 3 * image.array[turned.array <= 0.5].mean()
    remove_heart(tmp_path / "out", "a")
    finished(tmp_path)
    assert heart_file(tmp_path / "out", "a").is_file()
    assert not image_file.exists()


# --- the cycle ---


def test_the_cycle_gives_thickening_mass_phase_and_the_mean_of_the_maps():
    gates = {}
    for gate in range(1, 9):
        swing = np.cos(2 * np.pi * (gate - 1) / 8)
        thickness = (*[10 - 2 * swing] * 16, None)
        gates[gate] = GateFacts(90 + 40 * swing, 100.0, 100.0 + gate, thickness, counts_map(50 - 5 * swing))
    cycle = measure_cycle(gates)
    assert (cycle.end_diastolic_gate, cycle.end_systolic_gate, cycle.end_diastolic_mass_g) == (1, 5, 101.0)
    assert cycle.thickening_pct == pytest.approx(50)
    assert cycle.segment_thickening_pct[16] is None
    assert cycle.phase_sd_deg == pytest.approx(0, abs=1e-6)
    assert cycle.phase_mean_deg == pytest.approx(202.5)  # highest in the middle of gate 5
    np.testing.assert_allclose(cycle.polar.values, 50)
    assert (cycle.why_not, cycle.why_no_phase, cycle.why_no_thickening, cycle.why_no_uptake) == ("",) * 4


def test_walls_that_change_their_volume_are_kept_steady_and_the_outlined_figures_stand_beside():
    gates = {}
    for gate in range(1, 9):
        swing = np.cos(2 * np.pi * (gate - 1) / 8)
        wall_ml = 100 + 10 * swing
        gates[gate] = GateFacts(90 + 40 * swing, wall_ml, 1.05 * wall_ml, (wall_ml / 10,) * 17)
    steady, outlined = measure_cycle(gates), measure_cycle(gates, steady_wall=False)
    assert outlined.ejection_fraction_pct == steady.outlined_ejection_fraction_pct == pytest.approx(100 * 80 / 130)
    assert steady.ejection_fraction_pct > outlined.ejection_fraction_pct + 3
    assert steady.outlined_wall_change_pct == pytest.approx(100 * (90 / 110 - 1))
    assert steady.cycle_mass_g == pytest.approx(105.0)
    assert steady.thickening_pct == pytest.approx(0, abs=1e-9)  # as thick as their volumes say, so equally thick
    assert outlined.thickening_pct == pytest.approx(100 * (9 - 11) / 11)


def test_each_part_of_the_cycle_says_on_its_own_why_it_is_missing():
    gates = {gate: GateFacts(90 + 40 * np.cos(2 * np.pi * gate / 8)) for gate in range(1, 9)}
    cycle = measure_cycle(gates)
    assert cycle.ejection_fraction_pct is not None
    assert cycle.why_no_thickening == "no segment has wall at end diastole and at end systole"
    assert cycle.why_no_phase == cycle.why_no_uptake == "8 of 8 gates have no polar map"
    few = measure_cycle({gate: GateFacts(90.0, 100.0, 105.0, (10.0,) * 17, counts_map()) for gate in (1, 2)})
    assert "needs 8 gates" in few.why_not
    assert "expected at least 8" in few.why_no_phase
    assert few.polar is not None


# --- normals ---


def test_uptake_is_judged_by_normals_of_the_same_sex_study_and_protocol_only(tmp_path):
    for sex in "FM":
        save_normals(normals_of(sex), tmp_path / f"normals_{sex}_stress.json")
    normals = Normals.read([tmp_path], PROTOCOL)
    sick = counts_map(low=(3, 4))
    judged = perfusion_of(sick, normals=normals, sex="female", study="stress")
    assert judged.scores_by == "normal database"
    assert (judged.segment_scores[2], judged.segment_scores[3], judged.segment_scores[0]) == (3, 3, 0)
    assert judged.summed_score == 6
    assert judged.segment_extent_pct[2] == pytest.approx(100)
    assert judged.defect_extent_pct == pytest.approx(100 * 2 / 24, abs=0.5)  # two of 24 equal parts of the map
    alone = perfusion_of(sick, normals=None, sex="", study="")
    assert (alone.scores_by, alone.segment_scores[2], alone.defect_extent_pct) == ("percent of maximum", 2, None)
    for sex, study, why in (
        ("", "stress", "no normal database of sex unknown, stress; there is F stress, M stress"),
        ("F", "rest", "no normal database of sex F, rest"),
        ("F", "", "the acquisition is 'unknown', normals are of stress or rest"),
    ):
        other = perfusion_of(sick, normals=normals, sex=sex, study=study)
        assert other.why_no_normals.startswith(why)
        assert other.scores_by == "percent of maximum"
    coarse = replace(flat_map(rings=8, unit="counts"), statistic="mean")
    assert "sampling" in perfusion_of(coarse, normals=normals, sex="F", study="stress").why_no_normals


def test_databases_of_another_protocol_or_given_twice_are_refused_together(tmp_path):
    save_normals(normals_of(), tmp_path / "normals_F_stress.json")
    save_normals(normals_of(seed=1), tmp_path / "normals_again.json")
    with pytest.raises(CardiacError) as caught:
        Normals.read([tmp_path], "Tl-201")
    text = str(caught.value)
    assert "its protocol is 'Tc-99m, one camera, OSEM', protocol= says 'Tl-201'" in text
    assert "a second database of sex F, stress" in text
    assert "repeat their protocol" in text
    (tmp_path / "empty").mkdir()
    with pytest.raises(CardiacError, match=r"empty holds no normals_\*\.json"):
        Normals.read([tmp_path / "empty"], PROTOCOL)


def test_what_recovers_is_the_difference_of_scores_made_alike():
    stress = perfusion_of(counts_map(low=(3, 4)), normals=None, sex="", study="stress")
    rest = perfusion_of(counts_map(), normals=None, sex="", study="rest")
    assert change_of(stress, rest).summed_difference_score == 4
    blind = perfusion_of(counts_map(value=0.0, low_value=0.0), normals=None, sex="", study="rest")
    assert "no uptake of the rest study" in change_of(stress, blind).why_not
    judged = replace(rest, scores_by="normal database")
    assert "scored by normals and the other by its uptake" in change_of(stress, judged).why_not


# --- tables ---


def test_rows_of_images_of_a_cycle_and_of_rest_beside_stress(tmp_path):
    cases = [("s", "P1", "stress", "", "F"), ("r", "P1", "rest", "", "F")]
    cases += [(f"g{gate}", "P2", "stress", str(gate), "M") for gate in range(1, 9)]
    cohort, output = put(tmp_path / "new", cases), tmp_path / "out"
    for case in cohort.cases:
        if case.gate:
            cavity = 90 + 40 * np.cos(2 * np.pi * (int(case.gate) - 1) / 8)
            put_result(output, case, counts_map(), cavity_ml=cavity, segment_thickness_mm=(9.0,) * 17, mass_g=120.0)
        else:
            sick = (3, 4) if case.acquisition == "stress" else ()
            put_result(output, case, counts_map(low=sick), cavity_ml=60.0 if sick else 50.0)
    save_normals(normals_of("F", "stress"), tmp_path / "normals_F_stress.json")
    save_normals(normals_of("F", "rest"), tmp_path / "normals_F_rest.json")
    made = written(tmp_path / "new", output, Normals.read([tmp_path], PROTOCOL))
    rows = {(row["study_id"], row["gate"]): row for row in made["measurements"]}
    assert rows["s", ""]["summed_score_index"] == "6"
    assert rows["s", ""]["score_seg03"] == "3"
    assert float(rows["s", ""]["uptake_pct_seg01"]) == 100
    cycle, gate = rows["g1", "cycle"], rows["g1", "1"]
    assert float(cycle["ejection_fraction_pct"]) == pytest.approx(100 * 80 / 130, rel=1e-4)
    assert cycle["why_no_normals"].startswith("no normal database of sex M, stress")
    assert (cycle["scores_by"], cycle["uptake_pct_seg17"], gate["uptake_pct_seg17"]) == (
        "percent of maximum",
        "100",
        "",
    )
    units = ("_ml", "_pct", "_g", "_mm", "_deg", "_index", "_ratio")
    shared = [name for name in cycle if cycle[name] and gate[name] and name.split("_seg")[0].endswith(units)]
    assert shared == []
    joined = read_reading_table(output / "measurements.csv", is_network=True).cells["g1"]  # as evaluate does
    assert float(joined["ejection_fraction_pct"]) == pytest.approx(100 * 80 / 130, rel=1e-4)
    assert joined["mass_g"] == "120"
    assert [row["cycle_pct"] for row in made["curves"]][:3] == ["0", "2.5", "5"]
    assert len(made["curves"]) == 40
    [pair] = made["differences"]
    assert (pair["patient_id"], pair["stress_study_id"], pair["rest_study_id"]) == ("P1", "s", "r")
    assert (pair["summed_difference_index"], pair["volume_ratio"]) == ("6", "1.2")
    assert float(pair["reversible_pct"]) > 3
    segments = [row for row in made["segments"] if (row["study_id"], row["gate"]) == ("s", "")]
    assert [row["segment"] for row in segments] == [str(number) for number in range(1, 18)]
    assert segments[2]["score"] == "3"


def test_two_stress_studies_of_one_patient_are_not_paired_by_guess(tmp_path):
    cases = [("a", "P1", "stress", "", "F"), ("b", "P1", "stress", "", "F"), ("r", "P1", "rest", "", "F")]
    cohort = put(tmp_path / "new", cases)
    for case in cohort.cases:
        put_result(tmp_path / "out", case, counts_map())
    [pair] = written(tmp_path / "new", tmp_path / "out")["differences"]
    assert pair["why_not"] == "2 stress and 1 rest studies: which belong together?"
    assert pair["summed_difference_index"] == ""


def test_gates_of_two_studies_that_cannot_be_told_apart_make_no_cycle(tmp_path):
    cases = [(f"{name}{gate}", "P1", "stress", str(gate), "F") for name in "ab" for gate in range(1, 9)]
    cohort = put(tmp_path / "new", cases)
    for case in cohort.cases:
        put_result(tmp_path / "out", case, counts_map(), cavity_ml=50.0)
    cycle = written(tmp_path / "new", tmp_path / "out")["measurements"][-1]
    assert cycle["gate"] == "cycle"
    assert cycle["why_not"].startswith("gates 1, 2, 3, 4, 5, 6, 7, 8 are there more than once")
    assert cycle["ejection_fraction_pct"] == cycle["uptake_pct_seg01"] == ""
    with pytest.raises(CardiacError, match="1 studies: gates are there more than once"):
        make_normals(tmp_path / "new", tmp_path / "d", protocol=PROTOCOL, predictions=tmp_path / "out")


def test_a_damaged_heart_takes_away_the_uptake_of_its_study_only(tmp_path):
    cohort = put(tmp_path / "new", [("a", "P1", "stress", "", "F"), ("b", "P2", "stress", "", "F")])
    for case in cohort.cases:
        put_result(tmp_path / "out", case, counts_map(), cavity_ml=50.0)
    heart_file(tmp_path / "out", "a").write_text("half")
    rows = written(tmp_path / "new", tmp_path / "out")["measurements"]
    assert "cannot be read as the heart" in rows[0]["why_no_uptake"]
    assert (rows[0]["cavity_ml"], rows[0]["summed_score_index"], rows[1]["summed_score_index"]) == ("50", "", "0")


# --- the door prepare normals= ---


def normal_cohort(tmp_path, women=22, men=4):
    cases = [(f"f{n}", f"F{n}", "stress", "", "F") for n in range(women)]
    cases += [(f"m{n}", f"M{n}", "stress", "", "M") for n in range(men)]
    cohort = put(tmp_path / "normals", [*cases, ("again", "F0", "stress", "", "F")])
    for number, case in enumerate(cohort.cases):
        if case.case_id != "f1":
            put_result(tmp_path / "out", case, counts_map(50 + 0.1 * number))
    return cohort


def test_normals_become_a_database_for_each_sex_that_is_numerous_enough(tmp_path, monkeypatch, capfd):
    normal_cohort(tmp_path)
    words = ["normals=normals", "predictions=out", "only={sex: F}", f'protocol="{PROTOCOL}"', "output=databases"]
    assert open_door("prepare", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == "21 normals: databases/normals_F_stress.json"
    assert "1 left out: a second study of the same patient" in said
    assert "1 left out: it has no polar map; see why_not in measurements.csv" in said
    assert "4 left out: sex is not F" in said
    made = load_normals(tmp_path / "databases/normals_F_stress.json")
    assert made.num_normals == 21
    np.testing.assert_allclose(made.mean, 100)
    mixed = make_normals(
        tmp_path / "normals", tmp_path / "mixed", protocol=PROTOCOL, predictions=tmp_path / "out", mix_sexes=True
    )
    assert mixed.files == ((tmp_path / "mixed/normals_both_stress.json", 25),)


def test_normals_that_cannot_be_built_are_refused_with_everything_that_is_wrong(tmp_path, monkeypatch, capfd):
    normal_cohort(tmp_path, women=5, men=0)
    with pytest.raises(CardiacError) as caught:
        make_normals(tmp_path / "normals", tmp_path / "d", protocol=" ", only={"sexx": "F"})
    text = str(caught.value)
    assert "only.sexx: there is no such column" in text
    assert "protocol: is empty" in text
    assert "either predictions=<output of predict> or reader=" in text
    with pytest.raises(CardiacError, match=r"only 4 of sex F, stress: 20 are needed[\s\S]*mix_sexes=true"):
        make_normals(tmp_path / "normals", tmp_path / "d", protocol=PROTOCOL, predictions=tmp_path / "out")
    with pytest.raises(CardiacError, match="has no heart of this cohort; give the output of predict"):
        make_normals(tmp_path / "normals", tmp_path / "d", protocol=PROTOCOL, predictions=tmp_path)
    with pytest.raises(CardiacError, match="reader: is 'A', the cohort has none"):
        make_normals(tmp_path / "normals", tmp_path / "d", protocol=PROTOCOL, reader="A")
    both = ["normals=normals", "source=phantom", "output=d"]
    assert open_door("prepare", *both, folder=tmp_path, monkeypatch=monkeypatch) == 2
    assert "give one of them" in capfd.readouterr().err
    wrong = ["normals=normals", "mix_sexes=perhaps", "only=woman", "output=d"]
    assert open_door("prepare", *wrong, folder=tmp_path, monkeypatch=monkeypatch) == 2
    said = capfd.readouterr().err
    assert "mix_sexes is 'perhaps'" in said
    assert "only is 'woman'" in said
