"""The page of a study and the worklist: what they show, what they say is missing, and that they fetch nothing."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_builders import Page, assert_sound
from study_builders import AFFINE, AXES, SHAPE, SHELL, WALL, lit_toward, study_content

from mpi_unet.cardiac.disc import disc_picture
from mpi_unet.cardiac.polar_map import PolarMap
from mpi_unet.cardiac.volumes import time_volume_curve
from mpi_unet.errors import ConfigError
from mpi_unet.report.study_figures import cut_panel, middle_cut, outline_points, polar_drawing, thumbnail_png
from mpi_unet.report.study_index import IndexRow, index_html
from mpi_unet.report.study_page import DISCLAIMER, Flag, Quantity, StudyContent, study_html
from mpi_unet.report.study_planes import gray_limits, heart_planes, projection_planes, volume_planes
from mpi_unet.report.study_summary import pdf_of, picture_of, summary_figure, summary_pdf, summary_picture

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def content() -> StudyContent:
    return study_content()


def page_of(content: StudyContent, tmp_path: Path, **options: str) -> Page:
    path = tmp_path / "page.html"
    path.write_text(study_html(content, **options))
    return Page(path)


# --- planes ---


@pytest.mark.parametrize(
    ("plane", "side", "where"),
    [
        (0, 0, "right"),  # short axis: lateral on the right
        (0, 1, "bottom"),  # inferior below
        (1, 0, "right"),  # horizontal long axis: lateral on the right
        (1, 2, "top"),  # apex on top
        (2, 2, "right"),  # vertical long axis: apex on the right
        (2, 1, "bottom"),  # inferior below
    ],
)
def test_planes_of_the_heart_lie_as_readers_expect(plane: int, side: int, where: str) -> None:
    made = heart_planes(lit_toward(AXES.frame[side]), WALL, AFFINE, AXES)[plane]
    image = made.cuts[len(made.cuts) // 2].image
    rows, columns = np.indices(image.shape) - np.array(image.shape)[:, None, None] / 2
    wall = np.where(made.cuts[len(made.cuts) // 2].share >= 0.5, image, 0.0)
    weight = {"right": columns, "bottom": rows, "top": -rows}[where]
    inside = wall > 0
    assert np.corrcoef(wall[inside], weight[inside])[0, 1] > 0.9
    assert len(made.edges) == 4


def test_short_axis_runs_from_apex_to_base() -> None:
    cuts = heart_planes(np.where(WALL, 1.0, 0.0).astype(np.float32), WALL, AFFINE, AXES)[0].cuts
    widths = [float((cut.share >= 0.5).any(axis=0).sum()) for cut in cuts]
    assert widths[0] < 0.5 * max(widths)
    assert cuts[0].caption == "3 mm from the apex"


@pytest.mark.parametrize(("axis", "where"), [(0, "left"), (1, "top")])
def test_transaxial_volumes_show_the_right_side_left_and_the_front_on_top(axis: int, where: str) -> None:
    direction = np.eye(3)[axis]  # right, then front, in RAS
    cut = volume_planes(lit_toward(direction), WALL, AFFINE, domain="transaxial")[0].cuts[2]
    rows, columns = np.indices(cut.image.shape)
    inside = cut.share >= 0.5
    weight = {"left": -columns, "top": -rows}[where]
    assert np.corrcoef(cut.image[inside], weight[inside])[0, 1] > 0.8


def test_a_volume_that_is_not_placed_has_no_names_of_edges() -> None:
    image = WALL.astype(np.float32)
    placed = volume_planes(image, WALL, AFFINE, domain="transaxial")
    unplaced = volume_planes(image, WALL, AFFINE, domain="transaxial", is_placed=False)
    unknown = volume_planes(image, WALL, AFFINE, domain="short_axis", spacing_known=False)
    assert all(plane.edges for plane in placed)
    assert not any(plane.edges for plane in (*unplaced, *unknown))
    assert all(plane.pixel_mm is None for plane in unknown)  # and so no scale bar
    assert "mm" not in "".join(cut.caption for plane in unknown for cut in plane.cuts)


def test_an_empty_mask_is_shown_without_an_outline() -> None:
    empty = np.zeros(SHAPE, bool)
    planes = volume_planes(WALL.astype(np.float32), empty, AFFINE, domain="transaxial")
    assert all(outline_points(cut) == [] for plane in planes for cut in plane.cuts)
    assert gray_limits(planes)[1] > 0


def test_projections_are_shown_as_views() -> None:
    mask = np.zeros((6, 20, 20), bool)
    mask[1:5, 8:12, 8:12] = True
    (plane,) = projection_planes(mask.astype(np.float32), mask, None)
    assert [cut.caption for cut in plane.cuts] == [f"view {number} of 6" for number in (2, 3, 4, 5)]


def test_a_hot_gut_does_not_darken_the_heart() -> None:
    image = np.where(WALL, 100.0, 5.0).astype(np.float32)
    image[:, :, :6] = 1000.0
    planes = heart_planes(image, WALL, AFFINE, AXES)
    assert 90 < gray_limits(planes)[1] < 200


# --- figures ---


def test_the_outline_lies_on_the_edge_of_the_mask() -> None:
    cut = heart_planes(WALL.astype(np.float32), WALL, AFFINE, AXES)[0].cuts[5]
    widest = max(outline_points(cut), key=len)
    diameter_mm = 2.0 * float(np.ptp(widest[:, 1]))
    height = AXES.length_mm - float(cut.caption.split()[0]) + AXES.base_mm
    exact_mm = 2 * (SHELL.radius + SHELL.wall) * np.sqrt(1 - (height / (SHELL.half_length + SHELL.wall)) ** 2)
    assert diameter_mm == pytest.approx(exact_mm, abs=4.0)  # a voxel


def test_scale_and_edges_stand_on_the_first_cut_only() -> None:
    plane = heart_planes(WALL.astype(np.float32), WALL, AFFINE, AXES)[0]
    first, second = (cut_panel(cut, plane, (0.0, 1.0), "a", is_first=at == 0) for at, cut in enumerate(plane.cuts[:2]))
    for words in ("anterior", "mm</text>"):
        assert words in first
        assert words not in second


def test_polar_map_hatches_what_was_not_measured() -> None:
    values = np.full((20, 72), 80.0)
    values[15:, 50:62] = np.nan
    drawn = polar_drawing(PolarMap(values, np.ones_like(values), "maximum", "percent of maximum"), "map")
    assert 'fill="url(#unmeasured)"' in drawn
    assert (drawn.count(">?<"), drawn.count(">80<")) == (1, 16)


def test_polar_map_has_the_colors_of_its_scale_and_holes_where_nothing_was_measured() -> None:
    import base64
    import re

    from matplotlib import colormaps
    from PIL import Image

    values = np.repeat(np.linspace(20, 95, 20)[:, None], 72, axis=1)
    values[:, 30:40] = np.nan
    drawn = polar_drawing(PolarMap(values, np.ones_like(values), "maximum", "percent of maximum"), "map")
    found = re.search(r"base64,([^\"]+)", drawn)
    assert found is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGBA")).astype(int)
    disc = disc_picture(values, len(pixels))
    known = np.isfinite(disc)
    assert ((pixels[..., 3] == 255) == known).all()
    wanted = colormaps["inferno"](disc[known] / 100, bytes=True)[:, :3].astype(int)
    assert np.abs(pixels[known][:, :3] - wanted).max() <= 6  # one level of the scale


def test_thumbnail_is_small_and_a_picture(content: StudyContent) -> None:
    from PIL import Image

    cut = middle_cut(content.planes)
    assert cut is not None
    png = thumbnail_png(cut, gray_limits(content.planes))
    assert len(png) < 8000
    assert max(Image.open(io.BytesIO(png)).size) == 96
    assert middle_cut(()) is None


# --- page ---


def test_page_is_sound_and_says_what_it_must(content: StudyContent, tmp_path: Path) -> None:
    page = page_of(content, tmp_path)
    assert_sound(page)
    assert DISCLAIMER in page.text
    assert "61.2 %" in page.text
    assert "no normal database was given" in page.text
    assert "uptake, % of maximum of this study itself" in page.text
    assert page.text.index("The heart is cut off.") < page.text.index("Few counts.") < page.text.index("Slices")
    assert [h.get("content") for h in page.all("meta") if h.get("name") == "mpi-unet-key"] == ["k1"]
    assert study_html(content) == study_html(content)


def test_page_needs_no_network(content: StudyContent, tmp_path: Path) -> None:
    page = page_of(content, tmp_path)
    sources = [value for name in ("href", "src") for value in page.values(name)]
    assert sources
    assert all(value.startswith(("data:", "#")) for value in sources)
    assert not page.all("script")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"planes": (), "why_no_planes": "it is gone"}, "There are no pictures: it is gone."),
        ({"polar": None, "why_no_polar": "no long axis"}, "There is no polar map: no long axis."),
        ({"curve": None, "why_no_curve": "not gated"}, "There is no time-volume curve: not gated."),
        ({"quantities": ()}, "Nothing was measured."),
        ({"flags": ()}, "No flag was raised. That is no statement that the outline is right"),
    ],
)
def test_what_is_missing_is_said(content: StudyContent, tmp_path: Path, change: dict, sentence: str) -> None:
    page = page_of(replace(content, **change), tmp_path)
    assert_sound(page)
    assert sentence in page.text


def test_a_curve_without_ejection_fraction_says_so(content: StudyContent, tmp_path: Path) -> None:
    few = time_volume_curve([100.0, 60.0, 80.0])
    page = page_of(replace(content, curve=few, why_no_curve=few.why_not), tmp_path)
    assert "There is no ejection fraction: ejection fraction needs 8 gates or more" in page.text
    assert "Fourier" not in page.text


def test_texts_are_escaped(content: StudyContent, tmp_path: Path) -> None:
    hostile = replace(
        content,
        study_id=HOSTILE,
        run=HOSTILE,
        outcome=HOSTILE,
        flags=(Flag(HOSTILE, "urgent", HOSTILE),),
        about=((HOSTILE, HOSTILE),),
        quantities=(Quantity(HOSTILE, None, HOSTILE, HOSTILE),),
        planes=tuple(replace(plane, title=HOSTILE) for plane in content.planes),
        key=HOSTILE,
    )
    assert "<script" not in page_of(hostile, tmp_path).source
    row = IndexRow(HOSTILE, "failed", HOSTILE, (Flag("x", "urgent", HOSTILE),), about=HOSTILE, numbers=(HOSTILE,))
    assert index_html([row], run=HOSTILE).count("<script") == 0


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'cut_off' has the severity 'grave'; expected urgent, attention, notice"):
        Flag("cut_off", "grave", "The heart is cut off.")


# --- worklist ---


def worklist(tmp_path: Path, rows: list[IndexRow]) -> Page:
    path = tmp_path / "index.html"
    path.write_text(index_html(rows, run="kfold", tables=["predictions.csv"]))
    return Page(path)


def test_worklist_begins_with_what_must_be_looked_at(tmp_path: Path) -> None:
    alarm, warning, note = (Flag("a", level, "Look.") for level in ("urgent", "attention", "notice"))
    rows = [
        IndexRow("clean", "segmented"),
        IndexRow("noted", "segmented", flags=(note,)),
        IndexRow("warned", "segmented", flags=(warning,)),
        IndexRow("warned_more", "segmented", flags=(note, warning), look_first=0.9),
        IndexRow("alarmed", "segmented", flags=(note, alarm)),
        IndexRow("refused", "refused", "another domain"),
        IndexRow("failed", "failed", "unreadable"),
        IndexRow("waiting", "waiting"),
    ]
    page = worklist(tmp_path, rows)
    text = page.source[page.source.index('id="work"') :]
    order = re.findall(r'<p class="name">(\w+)', text)
    assert order == ["failed", "refused", "alarmed", "warned_more", "warned", "noted", "clean", "waiting"]
    assert "1 failed, 1 refused, 5 segmented, 1 waiting." in page.text


def test_worklist_filters_by_flag_and_status(tmp_path: Path) -> None:
    rows = [IndexRow("A", "segmented", flags=(Flag("cut_off", "urgent", "Cut."),)), IndexRow("B", "refused", "spacing")]
    page = worklist(tmp_path, rows)
    values = {attrs["value"] for attrs in page.all("input") if attrs.get("type") == "radio"}
    assert values == {"", "cut_off", "refused"}
    assert {attrs.get("data-codes") for attrs in page.all("li")} == {"cut_off", "refused", None}


def test_a_thousand_studies_stay_below_a_megabyte_and_load_pictures_late(tmp_path: Path) -> None:
    flags = (Flag("fold_spread", "attention", "The networks of the folds disagree more than in 95 % of the cases."),)
    rows = [
        IndexRow(f"P{number}_stress", "segmented", "", flags, f"pages/P{number}.html", f"thumbnails/P{number}.png")
        for number in range(1000)
    ]
    page = worklist(tmp_path, rows)
    assert len(page.source) < 1_000_000
    pictures = page.all("img")
    assert len(pictures) == 1000
    assert all(one["loading"] == "lazy" and one["alt"] == "" for one in pictures)
    assert not any("://" in value for name in ("href", "src") for value in page.values(name))


# --- summary ---


def test_summary_is_a_picture_and_a_page_that_name_nobody(content: StudyContent) -> None:
    picture, pdf = summary_picture(content), summary_pdf(content)
    assert picture.ndim == 3
    assert picture.dtype == np.uint8
    assert picture.std() > 10
    assert pdf.startswith(b"%PDF-")
    assert pdf == summary_pdf(content)
    figure = summary_figure(content)  # one layout gives both
    assert np.array_equal(picture_of(figure), picture)
    assert pdf_of(figure) == pdf
    other = replace(content, study_id="P8_rest", about=(("Patient", "P8"),))
    assert np.array_equal(picture, summary_picture(other))  # no id stands on it


def test_summary_bears_what_is_missing(content: StudyContent) -> None:
    bare = StudyContent("P7", "kfold", "Outlined.", why_no_planes="it is gone")
    assert summary_picture(bare).shape == summary_picture(content).shape
