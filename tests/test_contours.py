"""The one rule by which polygons are filled: hand-drawn cases, exact areas, and the masks of LIDC-IDRI as an oracle."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outlines_builders import circle, stack, to_lps
from skimage.draw import polygon2mask

from mpi_unet.dicom.contours import Contour, contours_mask, equal_interiors, overlapping, plane_of, point_problems
from mpi_unet.dicom.geometry import lps_from_ras
from mpi_unet.errors import DicomError
from mpi_unet.sources.outlines.json_files import run_length_mask, unpacked_counts

SQUARE = np.array([[2.0, 2.0], [2.0, 6.0], [6.0, 6.0], [6.0, 2.0]])


def text(mask: np.ndarray) -> list[str]:
    return ["".join(".#"[value] for value in row) for row in mask.astype(int)]


# --- The rule ---------------------------------------------------------------------------------------------------------


def test_a_pixel_belongs_when_its_center_is_inside():
    triangle = np.array([[0.6, 0.6], [0.6, 4.3], [4.3, 0.6]])
    assert text(contours_mask([Contour(triangle)], (5, 5))) == [".....", ".###.", ".##..", ".#...", "....."]
    just_inside, just_outside = SQUARE * (1.2, 1) - (0.39, 0), SQUARE * (0.9, 1) + (0.21, 0)
    assert contours_mask([Contour(just_inside)], (9, 9))[:, 4].sum() == 4  # rows 2.01 to 6.81
    assert contours_mask([Contour(just_outside)], (9, 9))[:, 4].sum() == 3  # rows 2.01 to 5.61


@pytest.mark.parametrize(("edge", "rows"), [("inside", 5), ("outside", 3)])
def test_centers_exactly_on_an_outline(edge, rows: int):
    assert contours_mask([Contour(SQUARE)], (9, 9), edge=edge).sum() == rows**2
    hole = Contour(np.array([[3.0, 3.0], [3.0, 5.0], [5.0, 5.0], [5.0, 3.0]]), "exclude")
    left = contours_mask([Contour(SQUARE), hole], (9, 9), edge=edge)
    assert left.sum() == {"inside": 25 - 1, "outside": 9 - 9}[edge]  # the edge of a hole is an edge too


def test_holes_islands_and_exclusions():
    outer, hole, island = circle((10, 10), 8.3), circle((10, 10), 5.3), circle((10, 10), 2.3)
    areas = [int(contours_mask([Contour(points)], (21, 21)).sum()) for points in (outer, hole, island)]
    even_odd = contours_mask([Contour(points) for points in (island, outer, hole)], (21, 21))
    assert even_odd.sum() == areas[0] - areas[1] + areas[2]
    beside = circle((10, 18), 4.3)
    cut = contours_mask([Contour(outer), Contour(beside, "exclude")], (21, 21))
    np.testing.assert_array_equal(
        cut, contours_mask([Contour(outer)], (21, 21)) & ~contours_mask([Contour(beside)], (21, 21))
    )


def test_last_corner_may_repeat_the_first_and_parts_outside_are_cut_off():
    closed = np.concatenate([SQUARE, SQUARE[:1]])
    np.testing.assert_array_equal(contours_mask([Contour(closed)], (9, 9)), contours_mask([Contour(SQUARE)], (9, 9)))
    assert contours_mask([Contour(SQUARE - 4)], (9, 9)).sum() == 9
    assert not contours_mask([Contour(SQUARE + 20)], (9, 9)).any()
    assert not contours_mask([], (9, 9)).any()


@given(
    st.lists(st.tuples(st.floats(-3, 23), st.floats(-3, 23)), min_size=3, max_size=12, unique=True),
    st.integers(0, 11),
)
def test_same_as_scikit_image_for_any_polygon(corners: list[tuple[float, float]], start: int):
    points = np.round(np.array(corners), 3)
    expected = polygon2mask((20, 21), points)
    np.testing.assert_array_equal(contours_mask([Contour(points)], (20, 21)), expected)
    turned = np.roll(points, start, axis=0)
    np.testing.assert_array_equal(contours_mask([Contour(turned[::-1])], (20, 21)), expected)


@pytest.mark.parametrize("inner_mm", [0.0, 20.0])
def test_area_has_no_bias_at_the_pixel_size_of_spect(inner_mm: float):
    """Discs and shells of about 30 mm on pixels of 4.8 mm; drawing programs enlarge them by a fifth and a tenth."""
    rng, pixel_mm, found, true = np.random.default_rng(7), 4.8, 0.0, 0.0
    for _ in range(200):
        center, radius = 15 + rng.uniform(-0.5, 0.5, 2), rng.uniform(28, 32)
        contours = [Contour(circle(center, radius / pixel_mm, 360))]
        if inner_mm:
            contours.append(Contour(circle(center, inner_mm / pixel_mm, 360)))
        found += contours_mask(contours, (31, 31)).sum() * pixel_mm**2
        true += np.pi * (radius**2 - inner_mm**2)
    assert found / true == pytest.approx(1, abs=0.01)


# --- LIDC-IDRI --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("edge", "mean_dice", "least_dice"), [("outside", 1.0, 1.0), ("inside", 0.8130, 0.59)])
def test_masks_of_lidc_readers(edge, mean_dice: float, least_dice: float):
    """62 nodules x 4 readers, with 20 holes; LIDC outlines are the first pixels that no longer belong."""
    data = os.environ.get("MPI_UNET_TEST_DATA")
    if not data:
        pytest.skip("MPI_UNET_TEST_DATA is unset: the folder with lidc_readers/contours.csv")
    dices = []
    for contours, mask in lidc_readings(Path(data) / "lidc_readers"):
        ours = np.stack(
            [contours_mask(contours.get(k, []), mask.shape[:2], edge=edge) for k in range(mask.shape[2])], -1
        )
        dices.append(2 * (ours & mask).sum() / (ours.sum() + mask.sum()))
    assert len(dices) == 62 * 4
    assert np.mean(dices) == pytest.approx(mean_dice, abs=0.0005)
    assert min(dices) >= least_dice


def lidc_readings(folder: Path):
    """Contours by slice of each reading, within the box of its nodule, and the mask that pylidc made of them."""
    csv.field_size_limit(10**7)
    drawn = defaultdict(list)
    with open(folder / "contours.csv", newline="") as lines:
        for row in csv.DictReader(lines):
            drawn[row["id"], int(row["reader"])].append(row)
    packed = np.load(folder / "masks_packed.npz")
    with open(folder / "reference.csv", newline="") as lines:
        nodules = list(csv.DictReader(lines))
    for nodule in nodules:
        shape = packed[f"{nodule['id']}_shape"]
        masks = np.unpackbits(packed[nodule["id"]])[: np.prod(shape)].reshape(shape).astype(bool)
        first = [int(part.partition(":")[0]) for part in nodule["bbox"].split(";")]
        for reader in range(4):
            contours = defaultdict(list)
            for row in drawn[nodule["id"], reader]:
                points = np.array([pair.split(",")[::-1] for pair in row["coords_ij"].split(";")], dtype=float)
                kind = "include" if row["inclusion"] == "True" else "exclude"
                contours[int(row["k"]) - first[2]].append(Contour(points - first[:2], kind))
            yield contours, masks[reader]


# --- What is no outline -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (SQUARE, []),
        (np.concatenate([SQUARE, SQUARE[:1]]), []),
        (
            np.array([[1.0, 1], [1, 5], [3, 5], [3, 3], [3, 5], [5, 5], [5, 1]]),
            [],
        ),  # goes a way and back: touches itself
        (SQUARE[[0, 2, 1, 3]], ["crosses itself near row 4, column 4; expected a simple outline"]),
        (
            np.concatenate([SQUARE, SQUARE]),
            [
                "passes the edge from row 2, column 2 to row 2, column 6 2 times; expected once: "
                "does the file hold the contour twice?"
            ],
        ),
        (SQUARE[:2], ["has 2 different points; expected at least 3"]),
        (np.full((4, 2), np.nan), ["has a corner that is no number; expected finite positions"]),
        (
            SQUARE + 4,
            ["reaches from row 6, column 6 to row 10, column 10, out of an image of 9 rows and 9 columns"],
        ),
        (SQUARE / 10 + 0.3, ["holds the center of no pixel; expected an outline of at least one"]),
    ],
)
def test_polygons_that_are_no_outline(points: np.ndarray, expected: list[str]):
    assert point_problems(points, (9, 9)) == expected


def test_crossing_of_a_long_outline_is_found():
    points = circle((50, 50), 40, 1500)
    assert point_problems(points, (100, 100)) == []
    points[[700, 1400]] = points[[1400, 700]]
    assert "crosses itself" in point_problems(points, (100, 100))[0]


def test_outline_of_too_many_corners_is_refused_before_its_edges_are_compared():
    assert point_problems(circle((50, 50), 40, 60_000), (100, 100)) == [
        "has 60000 corners; expected at most 5000: export it with fewer"
    ]
    closed = np.concatenate([circle((50, 50), 40, 300)] * 2)[:-1]  # a table appended to itself, a corner lost
    assert "2 times; expected once" in point_problems(closed, (100, 100))[0]


@pytest.mark.parametrize("again", [SQUARE, SQUARE[::-1].copy(), np.roll(SQUARE, 1, axis=0), SQUARE + 1e-6])
def test_contour_that_is_there_twice_does_not_cancel_itself(again: np.ndarray):
    assert overlapping(SQUARE, again, (21, 21)) == 25
    assert equal_interiors(SQUARE, again, (21, 21))


def test_hole_within_an_outline_through_centers_is_no_copy_of_it():
    hole = 4 + 0.75 * (SQUARE - 4)  # the same 9 centers strictly inside, but none on the outline
    assert contours_mask([Contour(SQUARE), Contour(hole)], (9, 9)).sum() == 16
    assert overlapping(SQUARE, hole, (9, 9)) == 0
    assert not equal_interiors(SQUARE, hole, (9, 9))


def test_overlap_that_no_rule_explains():
    first = circle((10, 10), 5)
    assert overlapping(first, circle((10, 10), 3), (21, 21)) == 0
    assert overlapping(first, circle((10, 18), 2), (21, 21)) == 0
    assert overlapping(SQUARE, SQUARE + np.array([0, 4]), (21, 21)) == 0  # they share an edge only
    assert overlapping(first, circle((10, 14), 5), (21, 21)) > 20


# --- In the patient ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_mm", [6.0, -6.0])
def test_contour_in_the_patient_finds_its_slice(step_mm: float):
    affine_ras, points = lps_from_ras(stack(step_mm).affine_lps), circle((7.2, 9.1), 4)
    frame, found = plane_of(to_lps(points, 4, affine_ras), affine_ras, 6, "here")
    assert frame == 4
    np.testing.assert_allclose(found, points, atol=1e-9)
    tilted = to_lps(points, 4, affine_ras) + np.linspace(0, 4, len(points))[:, None]
    with pytest.raises(
        DicomError, match=r"here: lies between slices .* expected all its points within 0\.25 of a slice"
    ):
        plane_of(tilted, affine_ras, 6, "here")
    with pytest.raises(DicomError, match=r"lies between slices 7\.00 and 7\.00 of 6"):
        plane_of(to_lps(points, 7, affine_ras), affine_ras, 6, "here")


# --- Run lengths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "counts", "pixels"),
    [
        ([7, 9], "a0242OMO0131N<", 14),
        (
            [64, 64],
            "l>9d16J6L2M4M2N2N2N2O0O2O0O2O[OZO0e0NA0>OD0<OF0:OH071I060J060J060J060J060J060J070G0:0F0:1D0<2@0a0f0101N101"
            "N2N2N2N2N2N2N3L5J7HVk0",
            1231,
        ),
    ],
)
def test_packed_run_lengths_as_pycocotools_writes_them(size: list[int], counts: str, pixels: int):
    """Rings about (rows / 2, columns / 2.3), encoded by pycocotools 2.0."""
    rows, columns = size
    y, x = np.mgrid[:rows, :columns]
    distance = np.hypot(y - rows / 2, x - columns / 2.3)
    ring = (distance < rows / 3) & ~(distance < rows / 8)
    mask = run_length_mask({"size": size, "counts": counts})
    np.testing.assert_array_equal(mask, ring)
    assert mask.sum() == pixels
    plain = run_length_mask({"size": size, "counts": unpacked_counts(counts)})
    np.testing.assert_array_equal(mask, plain)
