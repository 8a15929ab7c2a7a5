"""Scores of all pairs of a case: those of the scores room, for every pair, also across processes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from cohort_builders import label_path, write_tiny_cohort

from mpi_unet.cohort.table import Cohort
from mpi_unet.evaluation import pairwise
from mpi_unet.evaluation.pairwise import PAIR_METRICS, CaseOutlines, score_cases, score_pairs
from mpi_unet.evaluation.scores import case_scores

SPACING_MM = (6.4, 3.2, 3.0)


def random_masks(seed: int, *, empty: str = "") -> dict[str, np.ndarray]:
    """Blobs around one center; an empty one besides; the last frame is empty in all."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:5, :24, :20]
    masks = {}
    for name in "ABCD":
        center, radius = rng.normal((2, 12, 10), 1.5), rng.uniform(3, 7)
        masks[name] = (2 * (z - center[0])) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2 < radius**2
        masks[name] &= (rng.random(masks[name].shape) > 0.05) & (z < 4) & (name not in empty)
    return masks


@pytest.mark.parametrize("domain", ["short_axis", "projection"])
@pytest.mark.parametrize("empty", ["", "B", "BD"])
@pytest.mark.parametrize("spacing_mm", [SPACING_MM, None])
def test_pairs_have_the_scores_of_single_cases(domain, empty, spacing_mm):
    for seed in range(5):
        masks = random_masks(seed, empty=empty)
        pairs = score_pairs(masks, spacing_mm=spacing_mm, domain=domain)
        assert list(pairs) == list(combinations("ABCD", 2))
        for (a, b), pair in pairs.items():
            expected = case_scores(masks[a], masks[b], spacing_mm=spacing_mm, domain=domain, tolerance_mm=3.2)
            found = pair.at_tolerance(3.2)
            assert set(found) == set(PAIR_METRICS) & set(expected)
            for name, value in found.items():
                assert value == pytest.approx(expected[name], nan_ok=True), (name, a, b)


def test_symmetric_scores_do_not_depend_on_the_order():
    masks = random_masks(1)
    one = score_pairs(masks, spacing_mm=SPACING_MM, domain="short_axis")["A", "B"].at_tolerance(3.0)
    other = score_pairs(masks, spacing_mm=SPACING_MM, domain="short_axis", wanted=[("B", "A")])["B", "A"]
    reversed_ = other.at_tolerance(3.0)
    for name in ("dice", "iou", "nsd", "hd95_mm", "assd_mm", "frame_dice"):
        assert one[name] == pytest.approx(reversed_[name])
    assert one["volume_difference_ml"] == -reversed_["volume_difference_ml"]


def test_surface_dice_waits_for_the_tolerance():
    pair = score_pairs(random_masks(2), spacing_mm=SPACING_MM, domain="short_axis")["A", "B"]
    assert "nsd" not in pair.at_tolerance(None)
    rising = [pair.at_tolerance(tolerance)["nsd"] for tolerance in (0.0, 3.0, 6.4, 100.0)]
    assert rising == sorted(rising)
    assert rising[-1] == pytest.approx(1)


def test_masks_of_different_shape_are_refused():
    masks = {"A": np.zeros((2, 4, 4), bool), "B": np.zeros((2, 4, 5), bool)}
    with pytest.raises(ValueError, match=r"differ in shape: .*\(2, 4, 5\).*expected one grid"):
        score_pairs(masks, spacing_mm=None, domain="short_axis")
    assert score_pairs({}, spacing_mm=None, domain="short_axis") == {}


def outlines(root, **files) -> list[CaseOutlines]:
    return [
        CaseOutlines(case.case_id, case.patient_id, dict(case.labels) | files, case.read_image().spacing_mm)
        for case in Cohort.open(root).cases
    ]


def test_cases_side_by_side_give_the_same(tmp_path):
    cases = outlines(write_tiny_cohort(tmp_path, 4, readers=("A", "B")))
    alone = list(score_cases(cases, domain="short_axis", num_workers=1))
    together = list(score_cases(cases, domain="short_axis", num_workers=2))
    assert [case.case_id for case in together] == [case.case_id for case in cases]
    for one, other in zip(alone, together, strict=True):
        assert one.volumes_ml == other.volumes_ml
        assert one.pairs["A", "B"].at_tolerance(3.2) == other.pairs["A", "B"].at_tolerance(3.2)
    assert alone[0].num_frames == 4


def test_files_that_cannot_be_used_are_problems_of_their_case(tmp_path):
    root = write_tiny_cohort(tmp_path, 2, readers=("A", "B"))
    other = write_tiny_cohort(tmp_path / "other", 1, readers=("C",), size=16)
    label_path(root, "P00_rest", "B").write_bytes(b"no gzip")
    broken, small = score_cases(outlines(root, C=label_path(other, "P00_rest", "C")), domain="short_axis")
    assert any(problem.startswith("B: P00_rest.nii.gz: cannot be read") for problem in broken.problems)
    assert small.problems == ("masks differ in shape (z, y, x): A 4x32x32, B 4x32x32, C 4x16x16",)
    assert not small.pairs


def test_probabilities_become_masks_at_their_threshold(tmp_path):
    from mpi_unet.cohort.nifti import affine_from_spacing, write_image

    root = write_tiny_cohort(tmp_path, 1, readers=("A",))
    [case] = outlines(root)
    probability = np.linspace(0, 1, 4 * 32 * 32, dtype=np.float32).reshape(4, 32, 32)
    write_image(tmp_path / "p.nii.gz", probability, affine_from_spacing(SPACING_MM))
    case.files["p"] = tmp_path / "p.nii.gz"
    case.thresholds["p"] = 0.75
    [scored] = score_cases([case], domain="short_axis")
    voxel_ml = np.prod(case.spacing_mm) / 1000
    assert scored.volumes_ml["p"] == pytest.approx(np.count_nonzero(probability >= 0.75) * voxel_ml)


def test_worker_that_dies_is_said(monkeypatch, tmp_path):
    from mpi_unet.errors import RunError

    cases = outlines(write_tiny_cohort(tmp_path, 2, readers=("A", "B")))
    monkeypatch.setattr(pairwise, "ProcessPoolExecutor", DyingPool)
    with pytest.raises(RunError, match=r"ended before its time .*num_workers=1"):
        list(score_cases(cases, domain="short_axis", num_workers=2))


class DyingPool:
    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def map(self, *_, **__):
        raise pairwise.BrokenProcessPool("a process died")

    def shutdown(self, **_):
        pass
