"""Which patients are drawn with all outlines, how members are told apart, where the masks of a network come from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from agreement_builders import agreement_document, make_readers_cohort, write_agreement
from report_builders import Page, assert_sound

from mpi_unet.cohort.nifti import write_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.report.agreement import write_agreement_report
from mpi_unet.report.agreement_figures import ForestRow, bland_altman, forest, scatter, shared_range, sorted_dots
from mpi_unet.report.agreement_overlays import Ranked, members_of, network_masks, patient_overlay, rank_patients


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three readers and a folder of masks, never changed by a test."""
    return make_readers_cohort(tmp_path_factory.mktemp("cohort"), num_patients=4)


def test_few_patients_are_all_shown_and_ties_go_by_name() -> None:
    rows = [{"patient_id": name, "p0": value} for name, value in (("c", 0.9), ("a", 0.5), ("b", 0.5), ("d", None))]
    ranked = rank_patients(rows, "p0")
    assert [(item.patient_id, item.rank, item.total, item.group) for item in ranked] == [
        ("a", 1, 3, "all"),
        ("b", 2, 3, "all"),
        ("c", 3, 3, "all"),
    ]
    assert rank_patients([], "p0") == []


@pytest.mark.parametrize("total", [13, 14, 30, 1000])
def test_many_patients_give_six_three_and_three(total: int) -> None:
    ranked = rank_patients([{"patient_id": f"P{i:04d}", "pn": i / total} for i in range(total)], "pn")
    groups = [item.group for item in ranked]
    assert [groups.count(group) for group in ("lowest", "middle", "highest")] == [6, 3, 3]
    assert len({item.rank for item in ranked}) == 12
    middle = [item.rank for item in ranked if item.group == "middle"]
    assert total < 20 or middle[0] <= (total + 1) / 2 <= middle[-1] + 1


def test_ten_readers_and_the_network_are_told_apart() -> None:
    members = members_of([f"R{index}" for index in range(10)], has_network=True)
    looks = [(member.stroke.color, member.stroke.dashes) for member in members]
    assert len(set(looks)) == 11
    assert len({member.stroke.layer for member in members}) == 11
    assert members[-1].stroke.width > members[0].stroke.width
    assert members[-1].stroke.color not in {member.stroke.color for member in members[:-1]}


def test_outlines_can_be_hidden_one_by_one(cohort: Cohort, tmp_path: Path) -> None:
    write_agreement(tmp_path, agreement_document(cohort.patients))
    page = Page(write_agreement_report(tmp_path, cohort, predictions=cohort.root / "predictions"))
    assert_sound(page)
    boxes = [str(box["class"]) for box in page.all("input")]
    assert boxes == ["show-r1", "show-r2", "show-r3", "show-n", "show-plain"]
    for name in boxes[:4]:
        layer = name.replace("show", "member")
        assert f".cases:has(.{name}:not(:checked)) .{layer}" in page.source
        assert f'class="outline {layer}"' in page.source
    assert all(f"pixels outlined: A {n}" for n in re.findall(r"pixels outlined: A (\d+)", page.source))
    assert page.source.count('class="panel"') == 4 * 5


@pytest.mark.parametrize("how", ["beside", "folder", "column", "name", "none"])
def test_masks_of_the_network_are_found(how: str, cohort: Cohort, tmp_path: Path) -> None:
    case = cohort.cases[0]
    if how == "beside":
        volume = case.read_image()
        mask = np.zeros(volume.array.shape, dtype=bool)
        write_mask(tmp_path / "predictions" / f"{case.case_id}.nii.gz", mask, volume.affine, is_distance_z=True)
    options = {"folder": cohort.root / "predictions", "column": "B"}
    masks = network_masks(tmp_path, cohort, "C" if how == "name" else "unet", options.get(how))
    if how == "none":
        assert masks is None
        return
    assert masks is not None
    found = masks(case)
    if how == "beside":
        assert not found.any()
    elif how in ("column", "name"):
        assert np.array_equal(found, case.read_mask({"column": "B", "name": "C"}[how]))
    else:
        assert found.any()


def test_a_patient_without_masks_becomes_a_sentence(cohort: Cohort, tmp_path: Path) -> None:
    ranked = Ranked("P000", 1, 4, 0.5, "all")
    nothing = patient_overlay(ranked, cohort, ["A"], network_masks(tmp_path, cohort, "unet", tmp_path))
    assert isinstance(nothing, str)
    assert nothing.startswith("Patient P000 cannot be shown: ")
    stranger = patient_overlay(Ranked("P999", 1, 4, 0.5, "all"), cohort, ["A"], None)
    assert stranger == "Patient P999 cannot be shown: the cohort has no outlined case of this patient."


def test_readers_without_a_network_are_drawn_too(cohort: Cohort) -> None:
    overlay = patient_overlay(Ranked("P001", 1, 4, 0.5, "all"), cohort, ["A", "B", "C"], None)
    assert not isinstance(overlay, str)
    assert len(overlay.panels) == 5
    assert "member-n" not in overlay.panels[2].inline
    assert "apex to base" in overlay.note


def test_forest_says_its_rows_and_its_margin() -> None:
    row = ForestRow("A", {"value": -0.01, "interval": {"low": -0.03, "high": 0.01}})
    gone = ForestRow("B", {"value": None, "interval": None})
    with_margin, without = forest("f", [row, gone], 0.02, "difference"), forest("f", [row], None, "difference")
    assert with_margin is not None
    assert without is not None
    assert "A -0.010 (-0.030 to +0.010)." in with_margin.alt
    assert "B" not in with_margin.alt
    assert "The margin is 0.020" in with_margin.alt
    assert "There is no margin" in without.alt
    assert forest("f", [gone], 0.02, "difference") is None


def test_every_finite_patient_is_one_dot_and_undefined_ones_are_none() -> None:
    rows = agreement_document(30)["agreement"]["dice"]["per_patient"]
    rows[4] |= {"p0": None, "d": None}
    dots, sorted_ones = scatter("s", rows, ["P003"], 0.1, "Dice"), sorted_dots("t", rows, "d", None, ["P003"], "x")
    assert dots is not None
    assert sorted_ones is not None
    assert dots.inline.count("<title>") == sorted_ones.inline.count("<title>") == 29
    assert "P004" not in dots.inline


def test_a_thousand_patients_stay_small() -> None:
    document = agreement_document(1000, ["A", "B"])
    pairs = document["volume"]["pairs"][:2]
    plot = bland_altman("b", pairs[0], ["A", "B"], "ml", "volume", shared_range(pairs))
    dots = scatter("s", document["agreement"]["dice"]["per_patient"], [], None, "Dice")
    assert plot is not None
    assert dots is not None
    assert "<title>" not in plot.inline
    assert len(plot.inline) + len(dots.inline) < 1_000_000
