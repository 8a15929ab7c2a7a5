"""Outlines of readers are added to a cohort: tables of contours, several readers, repeat reads, holes, walls."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import write_tiny_cohort
from doors import open_door
from outlines_builders import SHAPE, circle, write_contours, write_unread_cohort

from mpi_unet.cohort.table import Cohort
from mpi_unet.dicom.contours import Contour, contours_mask
from mpi_unet.sources.outlines import outlines_cohort

PLANE = SHAPE[1:]


def drawn(*contours: np.ndarray) -> np.ndarray:
    """The mask of contours of one frame, by the rule of test_contours.py."""
    return contours_mask([Contour(points) for points in contours], PLANE)


def test_contours_of_two_readers_and_a_second_read(tmp_path: Path):
    base = write_unread_cohort(tmp_path / "base")
    outer, inner, moved = circle((7, 9), 5.3), circle((7, 9), 2.6), circle((8, 9), 5.3)
    path = write_contours(
        tmp_path / "outlines.csv",
        [
            ({"case_id": "P1_rest", "reader": "A", "read": 1, "frame": 2, "kind": "include"}, outer),
            ({"case_id": "P1_rest", "reader": "A", "read": 1, "frame": 2, "kind": "exclude"}, inner),
            ({"case_id": "P1_rest", "reader": "A", "read": 2, "frame": 2, "kind": "include"}, moved),
            ({"case_id": "P1_rest", "reader": "B", "read": 1, "frame": 3, "kind": "include"}, moved),
            ({"case_id": "P2_rest", "reader": "A", "read": "", "frame": 0, "kind": ""}, outer),
        ],
    )
    output = outlines_cohort(
        path, tmp_path / "read", cohort=base, label="lv_wall", reader_facts={"A": {"role": "physician", "years": 7}}
    )
    cohort = Cohort.open(output)
    assert (cohort.readers, cohort.label, cohort.repeat_reads) == (("A", "A2", "B"), "lv_wall", {"A2": "A"})
    assert cohort.reader_facts == {"A": {"role": "physician", "years": 7}}
    first, second = cohort.cases
    assert (set(first.labels), set(second.labels)) == ({"A", "A2", "B"}, {"A"})
    np.testing.assert_array_equal(first.read_mask("A")[2], drawn(outer, inner))
    np.testing.assert_array_equal(first.read_mask("A2")[2], drawn(moved))
    np.testing.assert_array_equal(first.read_mask("B")[3], drawn(moved))
    assert [int(frame.any()) for frame in first.read_mask("A")] == [0, 0, 1, 0, 0, 0]
    cohort.check("A")
    account = json.loads((output / "preparation.json").read_text())
    assert (account["source"], account["cases"], account["patients"]) == ("outlines", 2, 2)
    assert account["warnings"] == ["A2 outlined 1 of 2 cases", "B outlined 1 of 2 cases"]
    assert Cohort.open(base).readers == ()
    image = first.image
    assert image.stat().st_ino == (base / "images/P1_rest.nii.gz").stat().st_ino  # linked, not copied


def test_readers_join_those_of_the_cohort(tmp_path: Path):
    base = write_tiny_cohort(tmp_path / "base", 2)
    path = write_contours(tmp_path / "b.csv", [({"case_id": "P00_rest", "frame": 1}, circle((12, 12), 4.2))])
    cohort = Cohort.open(outlines_cohort(path, tmp_path / "read", cohort=base, label="lv_wall", reader="B"))
    assert cohort.readers == ("truth", "B")
    assert cohort.columns == Cohort.open(base).columns
    for case, before in zip(cohort.cases, Cohort.open(base).cases, strict=True):
        np.testing.assert_array_equal(case.read_mask("truth"), before.read_mask("truth"))
        assert case.strata == before.strata
    assert cohort.case("P00_rest").read_mask("B").sum() == pytest.approx(np.pi * 4.2**2, abs=3)


def test_same_command_makes_nothing_and_a_changed_file_makes_it_anew(tmp_path: Path):
    base = write_unread_cohort(tmp_path / "base")
    path = write_contours(tmp_path / "b.csv", [({"case_id": "P1_rest", "frame": 1}, circle((7, 9), 4))])
    options = {"cohort": base, "label": "lv_filled", "reader": "B"}
    output = outlines_cohort(path, tmp_path / "read", **options)
    stamp = (output / "cohort.json").stat().st_mtime_ns
    assert outlines_cohort(path, output, **options) == output
    assert (output / "cohort.json").stat().st_mtime_ns == stamp
    write_contours(path, [({"case_id": "P1_rest", "frame": 1}, circle((7, 9), 2))])
    outlines_cohort(path, output, **options)
    assert Cohort.open(output).cases[0].read_mask("B").sum() == drawn(circle((7, 9), 2)).sum()
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize(
    ("axes", "scale", "options"),
    [
        (("row_px", "column_px"), (1, 1), {}),
        (("row", "column"), (1, 1), {"units": "pixel"}),
        (("y_px", "x_px"), (1, 1), {}),
        (("y_mm", "x_mm"), (4.0, 3.5), {}),
        (("row", "column"), (4.0, 3.5), {"units": "mm"}),
    ],
)
def test_rows_and_columns_x_and_y_pixels_and_mm(tmp_path: Path, axes, scale, options):
    base, points = write_unread_cohort(tmp_path / "base"), circle((6, 11), 4.2)
    path = write_contours(tmp_path / "a.csv", [({"case_id": "P1_rest", "frame": 0}, points * scale)], axes)
    output = outlines_cohort(path, tmp_path / "read", cohort=base, label="lv_filled", reader="A", **options)
    np.testing.assert_array_equal(Cohort.open(output).cases[0].read_mask("A")[0], drawn(points))


def test_unit_column_origin_first_frame_and_semicolons(tmp_path: Path):
    base, points = write_unread_cohort(tmp_path / "base"), circle((6, 11), 4.2)
    facts = {"case_id": "P1_rest", "frame": 1, "unit": "mm"}
    path = write_contours(tmp_path / "a.csv", [(facts, (points + 0.5) * (4.0, 3.5))], ("row", "column"))
    path.write_text(path.read_text().replace(",", ";").replace(".", ","), encoding="utf-8-sig")
    options = {"reader": "A", "origin": "corner", "first_frame": 1}
    output = outlines_cohort(path, tmp_path / "read", cohort=base, label="lv_filled", **options)
    np.testing.assert_array_equal(Cohort.open(output).cases[0].read_mask("A")[0], drawn(points))


def test_contour_within_a_contour_is_a_hole_and_edges_are_a_choice(tmp_path: Path):
    base = write_unread_cohort(tmp_path / "base")
    facts = {"case_id": "P1_rest", "frame": 0}
    outer = np.array([[2.0, 2.0], [2.0, 12.0], [12.0, 12.0], [12.0, 2.0]])
    path = write_contours(tmp_path / "a.csv", [(facts, outer), (facts, outer / 2 + 3.5)])
    counts = {}
    for edge in ("inside", "outside"):
        output = tmp_path / edge
        outlines_cohort(path, output, cohort=base, label="lv_filled", reader="A", edge=edge)
        counts[edge] = int(Cohort.open(output).cases[0].read_mask("A").sum())
    assert counts == {"inside": 11 * 11 - 5 * 5, "outside": 9 * 9 - 5 * 5}


def test_wall_as_outer_minus_inner_outline(tmp_path: Path):
    base = write_unread_cohort(tmp_path / "base")
    outer, inner = circle((7, 9), 5.3), circle((7, 9), 2.6)
    facts = {"case_id": "P1_rest", "frame": 2}
    contours = [(facts | {"structure": "epi"}, outer), (facts | {"structure": "endo"}, inner)]
    contours += [(facts | {"structure": "RV"}, circle((7, 16), 2))]
    path = write_contours(tmp_path / "a.csv", contours)
    options = {"label": "lv_wall", "reader": "A", "structure": "epi", "minus": "endo"}
    output = outlines_cohort(path, tmp_path / "read", cohort=base, **options)
    np.testing.assert_array_equal(Cohort.open(output).cases[0].read_mask("A")[2], drawn(outer) & ~drawn(inner))
    account = json.loads((output / "preparation.json").read_text())
    assert account["left_out"] == {"structure 'RV' not asked for": 1}


def test_images_named_in_a_table_and_a_folder_with_other_files(tmp_path: Path):
    base = write_unread_cohort(tmp_path / "base", ("P1_stress", "P1_rest"))
    points = circle((7, 9), 4)
    folder = tmp_path / "in"
    write_contours(folder / "Dr B" / "c.csv", [({"image": "P1_rest_004.png"}, points)])
    (folder / "Dr B" / "P1_rest_004.png").write_bytes(b"")
    (folder / "Dr B" / "notes.txt").write_text("read on Monday")
    pattern = r"(?P<case>P\d_\w+)_(?P<frame>\d+)\.png"
    output = outlines_cohort(folder, tmp_path / "read", cohort=base, label="lv_filled", reader="B", pattern=pattern)
    cohort = Cohort.open(output)
    np.testing.assert_array_equal(cohort.case("P1_rest").read_mask("B")[4], drawn(points))
    assert json.loads((output / "preparation.json").read_text())["left_out"] == {"no outlines in it": 2}
    private = tmp_path / "read_private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    table = (private / "files.csv").read_text().splitlines()
    assert table[0] == "file,format,taken,reader,reason"
    assert "Dr B/c.csv,csv,P1_rest,B," in table
    inside = "".join(path.read_text() for path in (output / "cases.csv", output / "cohort.json"))
    assert "Dr B" not in inside


def test_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    write_unread_cohort(tmp_path / "base")
    facts = {"case_id": "P1_rest", "frame": 2}
    write_contours(tmp_path / "c.csv", [(facts, circle((7, 9), 4.3))], ("row", "column"))
    words = ("source=outlines", "input=c.csv", "source.cohort=base", "source.label=lv_filled", "output=read")
    assert open_door("prepare", *words, folder=tmp_path, monkeypatch=monkeypatch) == 2
    assert "c.csv: does not say the unit of row and column; give source.units=pixel" in capsys.readouterr().err
    more = ("source.units=pixel", "source.reader=A", "source.reader_facts={A: {role: physician, blinded: true}}")
    assert open_door("prepare", *words, *more, folder=tmp_path, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out.splitlines()
    assert (said[-1], "note: A outlined 1 of 2 cases" in said) == ("read", True)
    assert Cohort.open(tmp_path / "read").reader_facts == {"A": {"role": "physician", "blinded": True}}
