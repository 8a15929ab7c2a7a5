"""Pages and worklist of a prediction: made for every study, not made twice, and stopped by no bad study."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from cohort_builders import read_rows, write_rows, write_tiny_cohort
from report_builders import Page, assert_sound

from mpi_unet.cohort.nifti import write_image
from mpi_unet.inference import predict
from mpi_unet.inference.options import Options
from mpi_unet.inference.page_numbers import flags_for_page, predicted_dice, quantities, segment_columns
from mpi_unet.inference.quality import Flag as QualityFlag
from mpi_unet.inference.quality import Quality
from mpi_unet.inference.results import StudyResult

pytestmark = pytest.mark.long  # minutes: every test trains, exports or draws many pages

QUICK = Options(measurements="volume", component="none", num_workers=0)


@pytest.fixture(scope="module")
def finished(little_run, tmp_path_factory):
    """Predictions of five studies: one cannot be read, three are the gates of one study."""
    folder = tmp_path_factory.mktemp("pages")
    write_tiny_cohort(folder / "new", 5, seed=1)
    rows = read_rows(folder / "new")
    for row in rows:
        row["patient_id"] = row["patient_id"].replace("P", "N")
    for number, row in enumerate(rows[:3], start=1):
        row |= {"patient_id": "N00", "gate": str(number)}
    write_rows(folder / "new", rows)
    (folder / "new" / rows[3]["image"]).write_bytes(b"this is no NIfTI file")
    made = predict(little_run / "runs/train", folder / "new", folder / "out", options=QUICK)
    return folder, made


def again(little_run, folder):
    return predict(little_run / "runs/train", folder / "new", folder / "out", options=QUICK)


def test_every_segmented_study_has_a_page_and_gates_share_one(finished):
    folder, made = finished
    pages = sorted(path.name for path in (folder / "out/pages").glob("*.html"))
    assert pages == ["P00_rest_cycle.html", "P04_rest.html"]
    for name in pages:
        assert (folder / "out/pages/thumbnails" / name.replace(".html", ".png")).is_file()
        page = Page(folder / "out/pages" / name)
        assert "Not a medical device" in page.text
        assert "There is no polar map" in page.text
        assert [target for target in page.values("href") if not target.startswith(("data:", "#"))] == ["../index.html"]
    assert made.worklist == folder / "out/index.html"


def test_worklist_holds_every_study_and_leads_to_pages_that_are_there(finished):
    folder, _ = finished
    page = Page(folder / "out/index.html")
    names = re.findall(r'<p class="name">(?:<a[^>]*>)?(\w+)', page.source)
    assert names[0] == "P03_rest"  # could not be read, so it stands first
    assert sorted(names) == ["P00_rest", "P03_rest", "P04_rest"]
    assert "3 gates" in page.text
    for target in [*page.values("href"), *page.values("src")]:
        assert target.startswith("data:") or (folder / "out" / target).is_file(), target


def test_pages_are_not_made_twice_but_mended(finished, little_run, monkeypatch):
    folder, _ = finished
    before = {path: path.read_bytes() for path in (folder / "out/pages").rglob("*.*")}
    monkeypatch.setattr("mpi_unet.inference.pages.study_html", lambda *_, **__: pytest.fail("made anew"))
    again(little_run, folder)
    monkeypatch.undo()
    (folder / "out/pages/P04_rest.html").unlink()
    again(little_run, folder)
    assert {path: path.read_bytes() for path in (folder / "out/pages").rglob("*.*")} == before


def test_a_page_that_cannot_be_drawn_stops_no_other(finished, little_run, monkeypatch):
    folder, _ = finished

    def broken(*_, **__):
        raise ZeroDivisionError("no such luck")

    (folder / "out/pages/P04_rest.html").unlink()
    monkeypatch.setattr("mpi_unet.inference.pages.study_html", broken)
    made = again(little_run, folder)
    page = Page(made.worklist)
    assert "its page could not be drawn: no such luck" in page.text
    assert (folder / "out/pages/P00_rest_cycle.html").is_file()
    monkeypatch.undo()
    again(little_run, folder)
    assert "could not be drawn" not in Page(made.worklist).text


def test_a_file_that_was_corrected_loses_its_place_on_top(finished, little_run):
    folder, made = finished
    rows = read_rows(folder / "new")
    write_image(folder / "new" / rows[3]["image"], np.ones((4, 32, 32), np.float32), np.diag([6.4, 6.4, 6.4, 1.0]))
    again(little_run, folder)
    assert "failed" not in Page(made.worklist).text.split("Show only")[0]


def result(**changes) -> StudyResult:
    return replace(StudyResult("P1", "P1", "rest", "", "", "segmented", num_voxels=10), **changes)


def test_flags_say_what_to_look_at():
    unusual = Quality(flags=(QualityFlag("truncated", "urgent", "the heart may be cut off"),))
    flags = flags_for_page([result(quality=unusual, remarks=("odd place",), other_domain=("spacing 9 mm",))])
    assert [(flag.code, flag.severity, flag.sentence) for flag in flags] == [
        ("truncated", "urgent", "The heart may be cut off."),
        ("remark", "attention", "Odd place."),
        ("other_domain", "attention", "Unlike training: spacing 9 mm."),
    ]
    assert flags_for_page([result()]) == ()
    assert [(flag.code, flag.severity) for flag in flags_for_page([result(num_voxels=0)])] == [("empty_mask", "urgent")]
    (flag,) = flags_for_page([result()], ["no closed ring"])
    assert (flag.code, flag.sentence) == ("not_measured", "Not measured: no closed ring.")


def test_gates_share_a_flag():
    gates = [result(gate=str(number), remarks=("odd place",) if number > 1 else ()) for number in (1, 2, 3)]
    (flag,) = flags_for_page(gates)
    assert flag.sentence == "Gates 2, 3: odd place."


def test_predicted_dice_is_that_of_the_worst_gate():
    values = {"1": 0.9, "2": 0.8}
    gates = [result(gate=gate, quality=Quality(value, value - 0.1, 1.0)) for gate, value in values.items()]
    found = predicted_dice(gates)
    assert (found.label, found.text) == ("Predicted Dice (lowest of the gates; 90 % interval 0.70 to 1.00)", "0.800")
    assert predicted_dice([result(quality=Quality(why_no_dice="no record"))]).why_not == "no record"


def test_numbers_that_are_missing_say_why():
    row = {"cavity_ml": "64.2", "why_not": "no closed ring", "why_no_uptake": "no map"}
    found = {one.label: one for one in quantities(row, is_cycle=False, domain="transaxial")}
    assert found["Cavity"].text == "64.2"
    assert (found["Mass of the wall"].value, found["Mass of the wall"].why_not) == (None, "no closed ring")
    assert found["Ejection fraction"].why_not == "the image is not gated"
    assert found["Total perfusion deficit"].why_not == "no map"
    given = {one.label: one for one in quantities({"cavity_ml": "64"}, is_cycle=False, domain="transaxial")}
    assert given["Total perfusion deficit"].why_not == "no normal database was given (normals=)"


def test_segments_of_the_table_stand_on_the_page():
    columns = segment_columns({f"thickness_mm_seg{number:02d}": str(number) for number in range(1, 17)})
    assert columns == (("thickness, mm", (*map(float, range(1, 17)), None)),)
    assert segment_columns({}) == ()


def test_worklist_is_sound_but_for_its_script(finished):
    folder, _ = finished
    source = (folder / "out/index.html").read_text()
    bare = re.sub(r"<script>.*?</script>|<img [^>]*>|href=\"[^#d][^\"]*\"", "", source, flags=re.DOTALL)
    path = folder / "bare.html"
    path.write_text(bare)
    assert_sound(Page(path))
