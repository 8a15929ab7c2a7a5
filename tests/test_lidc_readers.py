"""Real readers: 62 lung nodules outlined by four radiologists each (LIDC-IDRI), against numbers made with other tools.

The folder that MPI_UNET_TEST_DATA names holds the masks as rasterized by pylidc, its 50 % consensus, SimpleITK's
STAPLE, and a table with pairwise Dice and Fleiss's kappa inside the bounding box.
"""

from __future__ import annotations

import csv
import itertools
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mpi_unet.agreement import (
    bland_altman,
    fleiss_kappa,
    icc,
    leave_one_out_consensus,
    majority_vote,
    panel,
    signed_distance_mean,
    staple,
)
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.overlap import dice, frame_counts

FOLDER = Path(os.environ.get("MPI_UNET_TEST_DATA", "")) / "lidc_readers"
READERS = ("R1", "R2", "R3", "R4")

pytestmark = pytest.mark.skipif(
    not os.environ.get("MPI_UNET_TEST_DATA"), reason="MPI_UNET_TEST_DATA does not name the folder of real files"
)


@cache
def nodules():
    """Name -> (row of the table, masks of the four readers, consensus and STAPLE as made elsewhere)."""
    found = {}
    with (FOLDER / "reference.csv").open(newline="") as file, np.load(FOLDER / "masks_packed.npz") as packed:
        for row in csv.DictReader(file):
            shape = packed[f"{row['id']}_shape"]
            voxels = np.unpackbits(packed[row["id"]], count=int(shape.prod())).reshape(shape).astype(bool)
            found[row["id"]] = (row, dict(zip(READERS, voxels[:4], strict=True)), voxels[4], voxels[5])
    assert len(found) == 62
    return found


def pair_dice(masks):
    return [float(dice(frame_counts(a, b).sum(axis=0))) for a, b in itertools.combinations(masks.values(), 2)]


def numbers(cell):
    return [float(number) for number in cell.split(";")]


def test_voxels_and_pairwise_dice():
    for name, (row, masks, _, _) in nodules().items():
        assert [mask.sum() for mask in masks.values()] == numbers(row["vox"]), name
        assert pair_dice(masks) == pytest.approx(numbers(row["dice_pairs"]), abs=1e-6), name
        assert np.mean(pair_dice(masks)) == pytest.approx(float(row["dice_mean"]), abs=1e-6), name


def test_fleiss_kappa_inside_the_bounding_box():
    for name, (row, masks, _, _) in nodules().items():
        voxels = np.stack([mask.ravel() for mask in masks.values()], axis=1)
        assert fleiss_kappa(voxels).estimate == pytest.approx(float(row["fleiss_kappa_bbox"]), abs=1e-6), name


def test_consensus_of_half_the_readers():
    for name, (row, masks, expected, _) in nodules().items():
        found = majority_vote(masks, tie="foreground")
        assert found.volume_voxels == int(row["consensus50_vox"]), name
        np.testing.assert_array_equal(found.picture(), expected, err_msg=name)


def test_staple():
    for name, (row, masks, _, expected) in nodules().items():
        found = staple(masks)
        assert found.consensus.volume_voxels == int(row["staple50_vox"]), name
        np.testing.assert_array_equal(found.consensus.picture(), expected, err_msg=name)
        assert [one.sensitivity for one in found.per_reader] == pytest.approx(numbers(row["staple_sens"]), abs=2e-6)
        assert [one.specificity for one in found.per_reader] == pytest.approx(numbers(row["staple_spec"]), abs=2e-6)


def test_no_reader_is_scored_against_himself():
    _, masks, _, _ = next(iter(nodules().values()))
    with pytest.raises(AgreementError, match="reader 'R2' cannot be scored"):
        staple(masks).consensus.reference_for("R2")
    for reader, others in leave_one_out_consensus(masks, majority_vote).items():
        assert reader not in others.members
        assert others.reference_for(reader).shape == masks[reader].shape


def test_average_outline_lies_between_the_smallest_and_the_largest():
    for name, (row, masks, _, _) in nodules().items():
        spacing = float(row["pixel_spacing"]), float(row["pixel_spacing"]), float(row["slice_spacing"])
        found = signed_distance_mean(masks, spacing_mm=spacing).picture()
        stack = np.stack(list(masks.values()))
        assert not (found & ~stack.any(axis=0)).any(), name
        assert not (stack.all(axis=0) & ~found).any(), name


def test_readers_as_a_panel_without_a_network():
    pairs = np.full((62, 4, 4), np.nan)
    for place, (_, masks, _, _) in enumerate(nodules().values()):
        for (i, j), value in zip(itertools.combinations(range(4), 2), pair_dice(masks), strict=True):
            pairs[place, i, j] = pairs[place, j, i] = value
    found = panel(None, pairs, READERS)
    assert found.P0 is None
    assert found.Pn.value == pytest.approx(
        np.mean([float(row["dice_mean"]) for row, *_ in nodules().values()]), abs=1e-6
    )


def test_volumes_of_four_readers_agree_well():
    """Nodules range from 30 to 30,000 mm^3, so reliability is high while single volumes differ by a third."""
    volumes = np.array([numbers(row["vox"]) for row, *_ in nodules().values()])
    assert icc(np.log(volumes)).estimate > 0.9
    first, second = volumes[:, 0], volumes[:, 1]
    ratio = bland_altman(first, second, scale="ratio")
    assert ratio.lower.value < 0.75
    assert ratio.upper.value > 1.3
