"""Every outline that cannot be used is named with file and place, all of them in one error, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cohort_builders import write_tiny_cohort
from outlines_builders import (
    SHAPE,
    circle,
    outlines_error,
    stack,
    write_coco,
    write_contours,
    write_labelme,
    write_segmentation,
    write_slicer_nrrd,
    write_structures,
    write_turned_nifti,
    write_unread_cohort,
)

from mpi_unet.dicom.geometry import lps_from_ras
from mpi_unet.dicom.identity import Pseudonyms
from mpi_unet.dicom.nm_writing import SyntheticIdentity, recon_tomo
from mpi_unet.errors import CohortError
from mpi_unet.sources.outlines import outlines_cohort

AFFINE = lps_from_ras(stack(6.0).affine_lps)
BOW = np.array([[3.0, 3.0], [9.0, 9.0], [3.0, 9.0], [9.0, 3.0]])
HERE = {"case_id": "P1_rest", "frame": 2}
BY_NAME = {"pattern": r"(?P<case_id>P\d_\w+)\..+", "reader": "A"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_unread_cohort(tmp_path / "base")


# --- Contours ---------------------------------------------------------------------------------------------------------


def test_all_offenders_are_named_at_once_with_file_and_line(tmp_path: Path, base: Path):
    write_contours(
        tmp_path / "in/a.csv",
        [
            ({"case_id": "P9_rest", "frame": 2}, circle((7, 9), 3, 5)),
            ({"case_id": "P1_rest", "frame": 6}, circle((7, 9), 3, 5)),
            (HERE, BOW),
            (HERE, np.array([[3.0, 3.0], [3.0, 4.0], [3.0, 3.0]])),
            (HERE, circle((14, 9), 3, 5)),
            (HERE, circle((3.5, 3.5), 0.2, 5)),
        ],
    )
    text = outlines_error(tmp_path / "in", base, reader="A")
    assert "in cannot become masks (6 found):" in text
    for expected in (
        "a.csv, line 2: case_id 'P9_rest' is no case of the cohort; did you mean 'P2_rest'?",
        "a.csv, line 7: frame is 6 (counted from 0); its case has the frames 0 to 5. source.first_frame=1 says",
        "a.csv, line 12: crosses itself near row 6, column 6; expected a simple outline",
        "a.csv, line 16: has 2 different points; expected at least 3",
        "a.csv, line 19: reaches from row 11.5729, column 6.14683 to row 17, column 11.8532, out of an image of 16",
        "a.csv, line 24: holds the center of no pixel; expected an outline of at least one",
    ):
        assert expected in text
    assert "leave some out with 'source.ignore=" in text


def test_outlines_that_overlap_without_a_rule(tmp_path: Path, base: Path):
    path = write_contours(tmp_path / "a.csv", [(HERE, circle((7, 7), 3.2)), (HERE, circle((7, 10), 3.2))])
    text = outlines_error(path, base, reader="A")
    assert "a.csv, line 92: shares" in text
    assert "pixels of frame 2 with a.csv, line 2, and neither lies in the other; draw one outline around both" in text


def test_inner_outline_without_outer_one(tmp_path: Path, base: Path):
    facts = [HERE | {"structure": "epi"}, HERE | {"structure": "endo", "frame": 3}]
    path = write_contours(tmp_path / "a.csv", [(fact, circle((7, 9), 3.2)) for fact in facts])
    text = outlines_error(path, base, reader="A", structure="epi", minus="endo")
    assert "a.csv: frame 3 has an inner outline and no outer one; expected both" in text


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (
            "case_id,frame,row,column",
            "P1_rest,0,1,1",
            r"does not say the unit of row and column; give source.units=pixel",
        ),
        ("case_id,frame,row_px,column_mm", "P1_rest,0,1,1", r"gives row_px and column_mm in different units"),
        ("case_id,frame,x_mm,row_mm", "P1_rest,0,1,1", r"expected row and column, or x and y, with their unit"),
        ("case_id,frame,row_px,column_px,cntour", "P1_rest,0,1,1,1", r"'cntour' is not known; did you mean 'contour'"),
        ("case_id,frame,frame,row_px,column_px", "P1_rest,0,0,1,1", r"expected each once"),
        ("case_id,frame,row_px,column_px", "P1_rest,0,1", r"line 2 has not 4 cells like the header; correct it"),
        ("case_id,frame,row_px,column_px", "", r"holds no row; expected one row a corner"),
        ("case_id,frame,row_px,column_px", "P1_rest,0,one,1", r"line 2: row_px is 'one'; expected a number"),
        ("case_id,frame,row_px,column_px", "P1_rest,0,nan,1", r"line 2: row_px is 'nan'; expected a number"),
        ("case_id,frame,row_px,column_px", "P1_rest,one,1,1", r"line 2: frame is 'one'; expected a whole number"),
        ("case_id,row_px,column_px", "P1_rest,1,1", r"line 2: does not say its frame; its case has 6"),
        ("case_id,frame,kind,row_px,column_px", "P1_rest,0,hole,1,1", r"kind is hole; expected include or exclude"),
        ("case_id,frame,read,row_px,column_px", "P1_rest,0,b,1,1", r"read is 'b'; expected 1, 2, \.\.\."),
        (
            "case_id,frame,reader,row_px,column_px",
            "P1_rest,0,Dr. A,1,1",
            r"reader is 'Dr. A'; expected a name of letters",
        ),
        ("frame,row_px,column_px", "0,1,1", r"line 2: says nothing of its case; name it in the file, or give"),
        ("acquisition,frame,row_px,column_px", "rest,0,1,1", r"acquisition 'rest' fits 2 cases \(P1_rest, P2_rest\)"),
        ("case_id,frame,unit,row,column", "P1_rest,0,cm,1,1", r"unit is 'cm'; expected px or pixel"),
    ],
)
def test_tables_that_do_not_say_what_is_needed(tmp_path: Path, base: Path, header: str, row: str, expected: str):
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(CohortError, match=expected):
        outlines_cohort(path, tmp_path / "read", cohort=base, label="lv_filled", reader="A")


def test_mixed_units_and_kinds_within_a_contour(tmp_path: Path, base: Path):
    path = tmp_path / "a.csv"
    path.write_text("case_id,frame,unit,row,column\nP1_rest,0,mm,1,1\nP1_rest,0,px,1,4\nP1_rest,0,mm,4,4\n")
    assert "line 2: mixes the units mm and px; expected one unit a contour" in outlines_error(path, base, reader="A")
    path.write_text("case_id,frame,kind,y_px,x_px\nP1_rest,0,include,1,1\nP1_rest,0,exclude,1,4\n")
    assert "line 2: kind is exclude and include" in outlines_error(path, base, reader="A")
    path.write_text("case_id,frame,y_px,x_px\nP1_rest,0,1,1\n")
    assert "gives y_px in pixel, but source.units=mm" in outlines_error(path, base, reader="A", units="mm")


def test_millimeters_without_a_pixel_size(tmp_path: Path):
    base = write_tiny_cohort(tmp_path / "base", 1, spacing_mm=None, domain="projection", label="lv_filled")
    path = write_contours(
        tmp_path / "a.csv", [({"case_id": "P00_rest", "frame": 0}, circle((9, 9), 3))], ("y_mm", "x_mm")
    )
    text = outlines_error(path, base, reader="A")
    assert "is in mm, but nobody knows the pixel size of the cohort; give it in pixels" in text


# --- Readers and options ----------------------------------------------------------------------------------------------


def test_readers_that_are_there_already_or_have_no_first_read(tmp_path: Path):
    base = write_tiny_cohort(tmp_path / "base", 1, label="lv_filled")
    facts = {"case_id": "P00_rest", "frame": 0}
    people = [{"reader": "truth"}, {"reader": "C", "read": 2}, {"reader": "B2"}, {"reader": "B", "read": 2}]
    path = write_contours(tmp_path / "a.csv", [(facts | {"read": 1} | person, circle((9, 9), 3)) for person in people])
    text = outlines_error(path, base, reader_facts={"D": {}})
    assert "reader truth has outlines in the cohort already; call the reader otherwise" in text
    assert "C2 is a second read of C, who has no first one; expected outlines with read 1 too" in text
    assert "B2 is both a reader and a second read of 'B2' or 'B'; rename the reader" in text
    assert "source.reader_facts names 'D', who drew nothing" in text


def test_two_files_for_one_frame(tmp_path: Path, base: Path):
    for name in ("a.csv", "b.csv"):
        write_contours(tmp_path / "in" / name, [(HERE, circle((7, 9), 3))])
    text = outlines_error(tmp_path / "in", base, reader="A")
    assert "b.csv, line 2: outlines frame 2, which a.csv outlines too, of the same reader; expected one file" in text


def test_several_structures_need_a_choice(tmp_path: Path, base: Path):
    contours = [(HERE | {"structure": name}, circle((7, 9), 3)) for name in ("LV", "RV")]
    text = outlines_error(write_contours(tmp_path / "a.csv", contours), base, reader="A")
    assert "the files hold 2 structures ('LV', 'RV'); say which to take with 'source.structure=\"<pattern>\"'" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label": "lv_walls"}, r"source\.label=lv_walls; expected lv_filled or lv_wall or lv_cavity; did you mean"),
        ({"label": None}, r"source\.label=null; expected lv_filled or lv_wall or lv_cavity"),
        ({"cohort": None}, r"source\.cohort must be given: the cohort whose images were outlined"),
        ({"units": "cm"}, r"source\.units=cm; expected pixel or mm"),
        ({"edge": "half"}, r"source\.edge=half; expected inside or outside"),
        ({"first_frame": 2}, r"source\.first_frame=2; expected 0 or 1"),
        ({"reader": "Dr A"}, r"source\.reader='Dr A'; expected a name of letters"),
        ({"pattern": "(?P<cases>.+)"}, r"has the group 'cases'; expected case_id, .*did you mean 'case'"),
        ({"pattern": "("}, r"source\.pattern='\(' is no regular expression"),
        ({"format": "dicom"}, r"source\.format=dicom; expected csv or rtstruct"),
    ],
)
def test_options_that_cannot_be_used(tmp_path: Path, base: Path, options: dict, expected: str):
    path = write_contours(tmp_path / "a.csv", [(HERE, circle((7, 9), 3))])
    with pytest.raises(CohortError, match=expected):
        outlines_cohort(path, tmp_path / "read", **({"cohort": base, "label": "lv_filled", "reader": "A"} | options))


def test_another_meaning_and_places_that_are_refused(tmp_path: Path, base: Path):
    path = write_contours(tmp_path / "a.csv", [(HERE, circle((7, 9), 3))])
    walls = write_tiny_cohort(tmp_path / "walls", 1)
    assert "the cohort's outlines are lv_wall; a cohort has one meaning" in outlines_error(path, walls)
    with pytest.raises(CohortError, match=r"lie in one another; choose an output beside the input"):
        outlines_cohort(path, base / "read", cohort=base, label="lv_filled", reader="A")
    with pytest.raises(CohortError, match=r"nowhere is not there; give a file of outlines"):
        outlines_cohort(tmp_path / "nowhere", tmp_path / "read", cohort=base, label="lv_filled")
    (tmp_path / "empty").mkdir()
    assert "holds no outlines (of 0 files)" in outlines_error(tmp_path / "empty", base)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("x")
    with pytest.raises(CohortError, match=r"thesis holds something that source=outlines did not make"):
        outlines_cohort(path, tmp_path / "thesis", cohort=base, label="lv_filled", reader="A")


# --- DICOM ------------------------------------------------------------------------------------------------------------


def test_structure_sets_off_the_slices_open_or_of_nobody(tmp_path: Path, base: Path):
    disc = (stack(6.0).affine_lps @ (11, 7, 4.4, 1))[:3] + 5 * np.array(
        [[0.8, 0.6, 0], [-0.8, -0.6, 0], [-0.36, 0.48, 0.8]]
    )
    path = write_structures(tmp_path / "P1_rest.dcm", [("LV", disc, "")])
    text = outlines_error(path, base, **BY_NAME)
    assert "P1_rest.dcm, contour 1 of 'LV': lies between slices 4.40 and 4.40 of 6 (from 0); expected all its" in text
    write_structures(path, [("LV", disc, "")], kind="OPEN_PLANAR")
    text = outlines_error(path, base, **BY_NAME)
    assert "P1_rest.dcm: contour 1 of 'LV': ContourGeometricType (3006,0042) is OPEN_PLANAR; expected a closed" in text
    write_structures(path, [("LV", disc, "1.2.3")])
    assert "refers to a DICOM image; give source.key_file of the cohort" in outlines_error(path, base, reader="A")


def test_references_that_lead_nowhere_or_to_several_gates(tmp_path: Path):
    key_file = tmp_path / "key"
    uid = Pseudonyms.from_key_file(key_file).uid("1.2.3")
    columns = {f"P1_rest_g{gate}": {"source_uid": uid, "gate": str(gate)} for gate in (1, 2)}
    base = write_unread_cohort(tmp_path / "base", tuple(columns), columns=columns)
    disc = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    path = write_structures(tmp_path / "a.dcm", [("LV", disc, "1.2.3"), ("LV", disc, "1.2.4")])
    text = outlines_error(path, base, reader="A", key_file=key_file)
    assert "contour 1 of 'LV': refers to an image of 2 cases (P1_rest_g1, P1_rest_g2), such as gates; say which" in text
    assert "contour 2 of 'LV': refers to an image that no case of the cohort was made from" in text
    text = outlines_error(path, base, reader="A", key_file=tmp_path / "no_key")
    assert "no_key is not there; give the key file that the cohort was made with" in text
    assert not (tmp_path / "no_key").exists()


def test_outlines_in_the_patient_on_an_image_without_a_place(tmp_path: Path):
    base = write_unread_cohort(tmp_path / "base", domain="projection", affine_ras=np.diag([6.8, 6.8, 1.0, 1.0]))
    path = write_structures(tmp_path / "P1_rest.dcm", [("LV", np.eye(3), "")])
    text = outlines_error(path, base, **BY_NAME)
    assert "is drawn in the patient, but nobody knows where the voxels of its image are; export the outlines" in text


def test_segmentation_of_fractions(tmp_path: Path, base: Path):
    geometry = stack(6.0)
    image = recon_tomo(np.ones(SHAPE), stack=geometry, identity=SyntheticIdentity("1-0001", "rest", "F", 1.7, 70.0))
    path = write_segmentation(tmp_path / "P1_rest.dcm", image, geometry, {"LV": np.full(SHAPE, 0.5)}, "FRACTIONAL")
    text = outlines_error(path, base, **BY_NAME)
    assert "SegmentationType (0062,0001) is FRACTIONAL; an outline is inside or outside: export it as BINARY" in text


# --- Label maps -------------------------------------------------------------------------------------------------------


def moved(x: float = 0.0, spacing: float = 1.0, tilt_deg: float = 0.0) -> np.ndarray:
    turn = np.eye(4)
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    turn[:2, :2] = [[c, -s], [s, c]]
    affine: np.ndarray = turn @ AFFINE @ np.diag([spacing, spacing, spacing, 1.0])
    affine[0, 3] += x
    return affine


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        (moved(x=1.5), "it lies 1.5 mm off the image (1.5, 0, 0 mm right, front, head)"),
        (moved(spacing=0.5), "its spacing is 3 x 2 x 1.75 mm, that of the image 6 x 4 x 3.5 mm; outline on this image"),
        (moved(tilt_deg=4), "its axes are tilted by"),
    ],
)
def test_label_map_on_another_grid(tmp_path: Path, base: Path, affine: np.ndarray, expected: str):
    path = write_turned_nifti(tmp_path / "P1_rest.nii.gz", np.ones(SHAPE), affine, "RAS")
    text = outlines_error(path, base, **BY_NAME)
    assert f"P1_rest.nii.gz, value 1: {expected}" in text
    assert "nothing is resampled here" in text


def test_label_maps_that_cannot_be_used(tmp_path: Path, base: Path):
    folder = tmp_path / "in"
    write_turned_nifti(folder / "P1_rest.nii.gz", np.ones((6, 16, 19)), AFFINE, "RAS")
    write_turned_nifti(folder / "P2_rest.nii.gz", np.zeros(SHAPE), AFFINE, "RAS")
    (folder / "P3_rest.nii.gz").write_bytes(b"no NIfTI")
    layers = np.zeros((1, *SHAPE))
    layers[0, :, 3:5, 3:5] = 1
    shifted = AFFINE.copy()
    shifted[:3, 3] += AFFINE[:3, 2]
    write_slicer_nrrd(folder / "P1_rest.seg.nrrd", layers, shifted, {"LV": (0, 1)})
    write_slicer_nrrd(folder / "P2_rest.seg.nrrd", layers, AFFINE, {"LV": (2, 1)})
    text = outlines_error(folder, base, pattern=r"(?P<case_id>P\d_rest)\..+", reader="A", structure="1|LV")
    assert "P1_rest.nii.gz, value 1: it is 6x16x19, the image 6x16x20 (z, y, x) voxels" in text
    assert "P2_rest.nii.gz: outlines nothing" in text
    assert "P3_rest.nii.gz: cannot be read" in text
    assert "P1_rest.seg.nrrd, segment LV: 4 of its voxels lie outside the image; expected an outline within" in text
    assert "P2_rest.seg.nrrd: names layers that it does not have (LV); save it again" in text
    assert "does not fit source.pattern='P9'" in outlines_error(folder, base, pattern="P9", reader="A")


# --- LabelMe and COCO -------------------------------------------------------------------------------------------------


def test_json_that_cannot_be_used(tmp_path: Path, base: Path):
    folder = tmp_path / "in"
    write_labelme(folder / "P1_rest_1.json", [("LV", circle((7, 9), 3))], kind="linestrip")
    write_labelme(folder / "P1_rest_2.json", [("LV", circle((7, 9), 3))], size=(512, 640))
    write_labelme(folder / "P1_rest_3.json", [("LV", circle((30, 9), 3))])
    runs = [
        {"size": [16, 20], "counts": [4, 4]},
        {"size": [20, 16], "counts": [4, 316]},
        {"size": [16, 20], "counts": "é"},
    ]
    write_coco(folder / "coco.json", [(f"P1_rest_{4 + n}.png", "LV", run) for n, run in enumerate(runs)])
    (folder / "other.json").write_text("{}")
    (folder / "broken.json").write_text("{")
    pattern = r"(?P<case>P\d_rest)_(?P<frame>\d)\.(json|png)"
    text = outlines_error(folder, base, pattern=pattern, reader="A")
    for expected in (
        "P1_rest_1.json, shape 1: shape_type is 'linestrip'; expected a closed polygon",
        "P1_rest_2.json, shape 1: was drawn on 512 x 640, its image is 16 x 20 (rows x columns); outline the image at",
        "P1_rest_3.json, shape 1: reaches from row 27",
        "coco.json, annotation 1: its run lengths cover 8 pixels of 320; expected all of them",
        "coco.json, annotation 2: is 20 x 16, its image 16 x 20 (rows x columns)",
        "coco.json, annotation 3: its run lengths hold the character 'é'; expected COCO's packed text",
        "other.json: is neither LabelMe (key 'shapes') nor COCO",
        "broken.json: cannot be read as JSON",
    ):
        assert expected in text


def test_json_whose_images_nobody_knows(tmp_path: Path, base: Path):
    path = write_coco(tmp_path / "coco.json", [("scan_4.png", "LV", [circle((7, 9), 3)])])
    text = outlines_error(path, base, pattern=r"(?P<case>P\d_rest)_(?P<frame>\d)\.png", reader="A")
    assert "annotation 1: image 'scan_4.png' does not fit source.pattern=" in text
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"image_id": 7}
    content["annotations"].append({"image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3]]})
    content["annotations"].append({"image_id": 1, "category_id": 1})
    path.write_text(json.dumps(content))
    text = outlines_error(path, base, reader="A")
    assert "annotation 1: image_id is 7; there is no such image in the file" in text
    assert "annotation 2: holds 3 numbers; expected x and y in turn" in text
    assert "annotation 3: has no segmentation; expected polygons or run lengths" in text


# --- What is there twice, what is not there ---------------------------------------------------------------------------


def test_contour_that_is_there_twice_is_named(tmp_path: Path, base: Path):
    square = np.array([[3.0, 3.0], [3.0, 9.0], [9.0, 9.0], [9.0, 3.0]])
    twice = write_contours(tmp_path / "twice.csv", [(HERE, square), (HERE, square[::-1])])
    text = outlines_error(twice, base, reader="A")
    assert "twice.csv, line 6: encloses the same 49 pixels of frame 2 as twice.csv, line 2; expected a contour" in text
    appended = write_contours(tmp_path / "appended.csv", [(HERE, np.concatenate([square, square]))])
    text = outlines_error(appended, base, reader="A")
    assert "appended.csv, line 2: passes the edge from row 3, column 3 to row 3, column 9 2 times" in text


def test_structure_that_no_file_holds(tmp_path: Path, base: Path):
    table = write_contours(tmp_path / "in.csv", [(HERE | {"structure": "Epi"}, circle((7, 9), 4))])
    text = outlines_error(table, base, reader="A", structure="epi")
    assert "no structure fits source.structure='epi'; the files hold 'Epi'" in text
    text = outlines_error(table, base, reader="A", structure="Epi", minus="endo")
    assert "no structure fits source.minus='endo'; the files hold 'Epi'" in text  # else the cavity would be wall
    text = outlines_error(write_coco(tmp_path / "none.json", []), base, reader="A")
    assert "the files hold no outline; expected at least one" in text


def test_readers_that_differ_in_capitals_only(tmp_path: Path, base: Path):
    table = write_contours(
        tmp_path / "in.csv", [(HERE | {"reader": reader}, circle((7, 9), 4)) for reader in ("A", "a")]
    )
    assert "readers 'A' and 'a' differ in capitals only" in outlines_error(table, base)


def test_empty_input_leaves_no_private_folder(tmp_path: Path, base: Path):
    (tmp_path / "in").mkdir()
    assert "holds no outlines (of 0 files); expected CSV" in outlines_error(tmp_path / "in", base)
    assert not (tmp_path / "read_private").exists()
