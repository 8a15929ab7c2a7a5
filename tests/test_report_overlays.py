"""Which cases and frames are drawn, how they are turned, and whether outlines lie where the masks are."""

from __future__ import annotations

import base64
import itertools
import re
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from mpi_unet.report.display import view_of
from mpi_unet.report.overlays import Field, choose_frames, gray_png, outline_path, pick_cases


def dice_rows(values: dict[str, str]) -> list[dict[str, str]]:
    rows = [
        {"case_id": case, "patient_id": case, "fold": "0", "metric": "dice", "value": v} for case, v in values.items()
    ]
    return rows + [row | {"metric": "iou", "value": "0.999"} for row in rows]


def test_worst_median_and_best_are_picked_by_dice() -> None:
    picked = pick_cases(dice_rows({"e": "0.9", "a": "0.5", "d": "0.8", "b": "0.6", "c": "0.7"}))
    assert [(score.role, score.case_id, score.dice) for score in picked] == [
        ("worst", "a", 0.5),
        ("median", "c", 0.7),
        ("best", "e", 0.9),
    ]


def test_undefined_cases_are_no_candidates_and_ties_go_by_name() -> None:
    picked = pick_cases(dice_rows({"c": "0.9", "b": "0.9", "a": "", "d": "nan"}))
    assert [(score.role, score.case_id) for score in picked] == [("worst", "b"), ("best", "c")]


def test_one_case_is_drawn_once_and_none_not_at_all() -> None:
    assert [score.case_id for score in pick_cases(dice_rows({"a": "0.9"}))] == ["a"]
    assert pick_cases([]) == []


def test_frames_span_the_reader_and_fall_back_to_the_network() -> None:
    target, preds = np.zeros((2, 30, 5, 5), dtype=bool)
    assert choose_frames(target, preds, range(30)) == [0, 7, 14, 22, 29]
    preds[20:22] = True
    assert choose_frames(target, preds, range(30)) == [20, 21]
    target[3] = target[11] = True
    assert choose_frames(target, preds, range(30)) == [3, 5, 7, 9, 11]
    assert choose_frames(target, preds, [2, 3, 10, 11, 25]) == [3, 10, 11]


def corners(path: str) -> np.ndarray:
    """Points (x, y) of an outline."""
    return np.array([[float(part) for part in point.split()] for point in re.split("[MLZ]", path) if point])


def test_an_outline_encloses_its_mask_and_nothing_else() -> None:
    mask = np.zeros((20, 24), dtype=bool)
    mask[5:9, 11:18] = True
    field = Field(slice(2, 18), slice(4, 24), pixel_height=10.0, pixel_width=20.0)
    points = corners(outline_path(mask, field))
    # a pixel's center is half a pixel from its edge; the outline runs halfway between centers, that is along the edges
    assert points.min(axis=0).tolist() == [(11 - 4) * 20, (5 - 2) * 10]
    assert points.max(axis=0).tolist() == [(18 - 4) * 20, (9 - 2) * 10]
    x, y = points.T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 / (10 * 20)
    assert area == pytest.approx(mask.sum() - 4 / 8)  # each of four corners is cut by an eighth of a pixel


def test_a_ring_has_two_outlines_and_an_empty_mask_none() -> None:
    mask = np.ones((9, 9), dtype=bool)
    field = Field(slice(0, 9), slice(0, 9), 1.0, 1.0)
    assert outline_path(np.zeros((9, 9), dtype=bool), field) == ""
    assert outline_path(mask, field).count("M") == 1  # touches every edge and is closed all the same
    mask[3:6, 3:6] = False
    assert outline_path(mask, field).count("M") == 2


def test_an_enlarged_image_stays_under_its_outline() -> None:
    gray = np.zeros((30, 40))
    gray[8, 27] = 1.0
    uri = gray_png(gray)
    image = imread(BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))[..., 0]
    rows, columns = np.indices(image.shape)
    center = (rows * image).sum() / image.sum() + 0.5, (columns * image).sum() / image.sum() + 0.5
    assert np.array(center) / image.shape * gray.shape == pytest.approx([8.5, 27.5], abs=0.05)


def test_an_image_of_nothing_but_nan_is_black() -> None:
    image = imread(BytesIO(base64.b64decode(gray_png(np.full((8, 8), np.nan)).split(",")[1])))
    assert image[..., :3].max() == 0


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_transaxial_slices_have_the_right_side_on_the_left(signs: tuple[int, int, int]) -> None:
    affine = np.diag([4.0 * signs[0], 4.0 * signs[1], 4.0 * signs[2], 1.0])
    view = view_of("transaxial", affine, True)
    across, down, through = nib.aff2axcodes(affine)
    if view.flip_columns:
        across = {"R": "L", "L": "R"}[across]
    if view.flip_rows:
        down = {"A": "P", "P": "A"}[down]
    if view.reverse_frames:
        through = {"S": "I", "I": "S"}[through]
    assert (across, down, through) == ("L", "P", "S")
    assert view.edges == ("A", "L", "P", "R")


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_short_axis_slices_have_the_septum_left_and_start_at_the_apex(signs: tuple[int, int, int]) -> None:
    apical = np.array([-0.6, 0.6, -0.53])
    apical /= np.linalg.norm(apical)
    lateral = np.cross(apical, [0, 0, 1.0])
    lateral *= -np.sign(lateral[0]) / np.linalg.norm(lateral)
    inferior = np.cross(apical, lateral)
    inferior *= -np.sign(inferior[2])
    affine = np.eye(4)
    for column, (axis, sign) in enumerate(zip((lateral, inferior, apical), signs, strict=True)):
        affine[:3, column] = 3.2 * sign * axis
    view = view_of("short_axis", affine, True)
    assert view.edges == ("anterior", "lateral", "inferior", "septal")
    assert view.order == "apex to base"
    # shown columns run lateral, shown rows inferior, shown frames away from the apex
    assert signs[0] * (-1 if view.flip_columns else 1) == 1
    assert signs[1] * (-1 if view.flip_rows else 1) == 1
    assert signs[2] * (-1 if view.reverse_frames else 1) == -1


@pytest.mark.parametrize(("domain", "known"), [("projection", True), ("short_axis", False), ("transaxial", False)])
def test_frames_of_unknown_orientation_are_shown_as_stored(domain: str, known: bool) -> None:
    view = view_of(domain, np.diag([3.0, 3.0, 3.0, 1.0]), known)
    assert view.edges == ()
    frame = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(view.turn(frame), frame)


def test_a_short_axis_volume_with_a_plain_affine_gets_no_anatomical_names() -> None:
    assert view_of("short_axis", np.diag([3.2, 3.2, 6.4, 1.0]), True).edges == ()


def test_an_oblique_transaxial_volume_gets_no_names() -> None:
    affine = np.eye(4)
    affine[:2, :2] = [[0.7, -0.7], [0.7, 0.7]]
    assert view_of("transaxial", affine, True).edges == ()
