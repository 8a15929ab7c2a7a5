"""The parts of a prediction that need no network: which parts of a mask are kept, views, options, measurements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cardiac_shells import Shell, grid_around, wall_mask

from mpi_unet.cohort.domain import OutlineFacts, describe
from mpi_unet.cohort.nifti import write_image, write_mask
from mpi_unet.cohort.table import Cohort, write_cohort_table
from mpi_unet.errors import ConfigError
from mpi_unet.evaluation.components import largest_part, plausible_parts
from mpi_unet.inference.cycle import GateFacts, measure_cycle
from mpi_unet.inference.measures import measure, measure_heart
from mpi_unet.inference.options import Options, Shard
from mpi_unet.inference.test_time import averaged, scaled, shifted

SPACING_MM = (6.4, 6.4, 6.4)
SHAPE, AFFINE = grid_around(Shell(), SPACING_MM, shape=(40, 40, 40))


def heart(seed: int) -> Shell:
    """A ventricle of a patient of its own: place, size and wall vary as they do between people."""
    rng = np.random.default_rng(seed)
    middle = np.array(Shell().middle_mm) + rng.normal(0, 8, 3)
    return Shell(
        middle_mm=tuple(middle),
        radius=float(rng.uniform(20, 30)),
        half_length=float(rng.uniform(50, 70)),
        wall=float(rng.uniform(8, 11)),
    )


def points_mm() -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return np.stack([x, y, z, np.ones_like(x)], axis=-1) @ AFFINE.T[:, :3]


def wall_of(shell: Shell) -> np.ndarray:
    return shell.in_wall(points_mm())


def blob(middle_mm, half_axes_mm) -> np.ndarray:
    away = (points_mm() - np.array(middle_mm)) / np.array(half_axes_mm)
    return (away**2).sum(axis=-1) <= 1


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> OutlineFacts:
    """Outlines of ten ventricles."""
    root = tmp_path_factory.mktemp("shells")
    rows = []
    for seed in range(10):
        case = f"P{seed}"
        wall = wall_of(heart(seed))
        write_image(root / f"{case}.nii.gz", wall.astype(np.float32) + 1, AFFINE)
        write_mask(root / f"{case}_mask.nii.gz", wall, AFFINE)
        rows.append(
            {"case_id": case, "patient_id": case, "image": f"{case}.nii.gz", "label_truth": f"{case}_mask.nii.gz"}
        )
    metadata = {
        "name": "shells",
        "domain": "transaxial",
        "label": "lv_wall",
        "readers": ["truth"],
        "simulated_readers": True,
        "source": "tests",
        "licence": "Apache-2.0",
        "intensities": "none",
        "spacing_known": True,
    }
    write_cohort_table(root, metadata=metadata, rows=rows)
    return describe(Cohort.open(root), "truth").outlines


# --- parts ---


LIVER = blob((60.0, 10.0, -60.0), (75.0, 55.0, 40.0))
"""Right and below, larger than any ventricle, in no touch with one."""


@pytest.mark.parametrize("seed", range(20, 28))
def test_the_ventricle_is_kept_and_a_larger_liver_removed(known, seed):
    wall = wall_of(heart(seed))
    liver = LIVER & ~np.isin(np.arange(SHAPE[0]), np.flatnonzero(wall.any(axis=(1, 2))))[:, None, None]
    assert liver.sum() > wall.sum()
    kept = plausible_parts(wall | liver, SPACING_MM, known)
    assert (kept.mask == wall).all()
    assert (kept.num_removed, kept.num_voxels_removed) == (1, liver.sum())
    assert not (largest_part(wall | liver).mask & wall).any()  # the trap that this is about


def test_gut_beside_the_ventricle_is_removed_and_counted(known):
    wall = wall_of(heart(30))
    loops = blob((-95.0, 60.0, -60.0), (16.0, 16.0, 16.0)) | blob((-20.0, 100.0, -75.0), (20.0, 14.0, 14.0))
    assert not (loops & wall).any()
    kept = plausible_parts(wall | loops, SPACING_MM, known)
    assert (kept.mask == wall).all()
    assert kept.num_removed == 2


def test_a_wall_that_a_defect_cuts_in_two_stays_whole(known):
    shell = heart(31)
    wall = wall_of(shell)
    along = (points_mm() - np.array(shell.middle_mm)) @ shell.axis
    cut = wall & ~((along > 0) & (along < 14))
    kept = plausible_parts(cut, SPACING_MM, known)
    assert largest_part(cut).num_removed > 0
    assert kept.num_removed == 0
    assert (kept.mask == cut).all()


def test_something_is_kept_even_when_nothing_is_plausible_and_it_is_said(known):
    far = blob((60.0, -80.0, 80.0), (12.0, 12.0, 12.0))
    assert far.any()
    kept = plausible_parts(far, SPACING_MM, known)
    assert (kept.mask == far).all()
    assert any("mm from where the ventricles of training lay" in remark for remark in kept.remarks)
    assert any(remark.startswith("its size is ") for remark in kept.remarks)


def test_an_empty_mask_stays_empty(known):
    empty = np.zeros(SHAPE, bool)
    for kept in (plausible_parts(empty, SPACING_MM, known), largest_part(empty)):
        assert not kept.mask.any()
        assert kept.num_removed == 0


def test_a_projection_is_cleaned_in_its_plane():
    known = OutlineFacts("pixels", (80, 120), 100, 10, 50, ((0.4, 0.6), (0.4, 0.6)), (6, 8))
    y, x = np.mgrid[:64, :64]
    ventricle, gut = np.hypot(y - 30, x - 33) < 5.5, np.hypot(y - 52, x - 20) < 9
    kept = plausible_parts(ventricle | gut, (1.0, 1.0), known)
    assert (kept.mask == ventricle).all()
    assert kept.remarks == ()


# --- views ---


def test_shifts_come_back_and_repeat_the_edge():
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    back = shifted(shifted(image, 2, -1), -2, 1)
    assert torch.equal(back[..., :-2, 1:], image[..., :-2, 1:])


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 1, 5, 32, 32)])
def test_scaling_enlarges_in_the_plane_about_the_middle(shape):
    """Oracle: the area of a disc grows with the square of the factor, slice by slice."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    disc = (torch.hypot(y - 15.5, x - 15.5) < 8).float().expand(shape).clone()
    large = scaled(disc, 1.25)
    assert large.shape == disc.shape
    assert float((large >= 0.5).sum() / (disc >= 0.5).sum()) == pytest.approx(1.25**2, rel=0.03)
    if len(shape) == 5:
        disc[:, :, 0] = 0
        assert float(scaled(disc, 1.25)[:, :, 0].abs().max()) == pytest.approx(0, abs=1e-5)


def test_views_are_averaged_and_a_network_that_moves_with_its_image_gives_the_same_answer():
    image = torch.zeros(1, 1, 32, 32)
    image[..., 12:20, 8:18] = 1.0
    seen = []

    def network(batch):
        seen.append(batch)
        return batch[:, 0]

    plain = averaged(network, image, shift_px=0, scale=0.0)
    assert len(seen) == 1
    moved = averaged(network, image, shift_px=3, scale=0.0)
    assert len(seen) == 6
    assert torch.allclose(moved, plain)
    resized = averaged(network, image, shift_px=0, scale=0.1)
    assert float((resized - plain).abs().mean()) < 0.02
    assert not any(torch.equal(view, image.flip(-1)) for view in seen)


# --- options ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"runtime": "openvin"}, "runtime=openvin; expected torch | compile | onnxruntime | openvino; did you mean"),
        ({"component": "biggest"}, "postprocessing.component=biggest; expected plausible | largest | none"),
        ({"measurements": "all"}, "measurements=all; expected cardiac | volume"),
        ({"device": "gpu"}, r"device=gpu; expected auto | cpu | cuda"),
        ({"shift_px": -1}, "test_time.shift_px=-1; expected a number of pixels"),
        ({"scale": 0.5}, "test_time.scale=0.5; expected a share from 0 .* to 0.3"),
        ({"batch_size": 0}, "batch_size=0; expected a number of 1 or more"),
        ({"runtime": "openvino", "device": "cuda"}, "runtime=openvino runs on the CPU; leave out device=cuda"),
        ({"allow_other_domain": ["count"]}, "allow_other_domain names count; expected true, false, or a list of"),
        ({"scale": 0.5, "batch_size": 0}, "several keys are wrong:\n  test_time.scale=0.5"),
    ],
)
def test_options_that_cannot_be_are_refused(words, said):
    with pytest.raises(ConfigError, match=said.replace("|", r"\|")):
        Options(**words)


@pytest.mark.parametrize("text", ["8/8", "1", "0/0", "-1/4", "a/b", ""])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(ConfigError, match="expected <part>/<number of parts>, counted from 0"):
        Shard.of(text)


def test_shards_share_the_studies_out():
    parts = [Shard.of(f"{index}/3") for index in range(3)]
    assert [sum(part.takes(position) for part in parts) for position in range(10)] == [1] * 10


def test_speed_does_not_change_the_key_and_everything_else_does():
    assert Options(batch_size=4, device="cpu").key() == Options().key()
    others = [
        Options(shift_px=1),
        Options(scale=0.1),
        Options(component="none"),
        Options(measurements="volume"),
        Options(probabilities=True),
        Options(allow_other_domain=True),
        Options(allow_other_domain=["counts"]),
        Options(runtime="openvino"),
    ]
    assert len({options.key() for options in [Options(), *others]}) == 9


# --- measurements ---


def measured(shell=None, **changes):
    shell = shell or Shell()
    wall, affine = wall_mask(shell)
    asked = {"domain": "transaxial", "label": "lv_wall", "with_surfaces": True} | changes
    spacing = asked.pop("spacing_mm", (4.0, 4.0, 4.0))
    return measure(wall, (1.0 + wall).astype(np.float32), affine, spacing, **asked)


def test_a_wall_gives_volumes_mass_thickness_and_segments():
    shell = Shell()
    measures = measured(shell)
    assert measures.cavity_ml == pytest.approx(shell.cavity_ml, rel=0.03)
    assert measures.wall_ml == pytest.approx(shell.wall_ml, rel=0.03)
    assert measures.filled_ml == pytest.approx(measures.cavity_ml + measures.wall_ml)
    assert measures.mass_g == pytest.approx(1.05 * measures.wall_ml)
    assert measures.volume_ml == pytest.approx(wall_mask(shell)[0].sum() * 0.064)
    assert len(measures.segment_thickness_mm) == len(measures.segment_uptake_pct) == 17
    assert measures.thickness_mm == pytest.approx(9, abs=1)
    assert measures.why_not == ""


VALIDATED = (
    (Shell(), [103.816801529, 112.915605190, 8.7590950357, -43.4664176244, 0.653969693952], -0.618179823493),
    (
        Shell(radius=20.0, half_length=52.0, wall=7.5, tilt=0.2),
        [61.9068906541, 68.7691756978, 7.42180122935, -37.5787888449, 0.785167978610],
        -0.624879108825,
    ),
)
"""Cavity, wall, thickness, height of the base, scatter of the rim, and the axis, from before they were made faster."""


@pytest.mark.parametrize(("shell", "figures", "lateral"), VALIDATED)
def test_faster_measurements_are_those_that_were_validated(shell, figures, lateral):
    wall, affine = wall_mask(shell)
    asked = {"domain": "transaxial", "label": "lv_wall", "with_surfaces": True}
    measures, heart = measure_heart(wall, (1.0 + wall).astype(np.float32), affine, (4.0, 4.0, 4.0), **asked)
    found = [measures.cavity_ml, measures.wall_ml, measures.thickness_mm, heart.axes.base_mm, heart.axes.rim_scatter_mm]
    assert found == pytest.approx(figures, rel=1e-9)
    assert heart.axes.long_axis[0] == pytest.approx(lateral, rel=1e-9)


def test_short_axis_slices_stored_without_their_directions_are_measured_as_seen():
    """Slices across the body, the heart along it: the directions of the file cannot be those of the patient."""
    upright = Shell(apex_direction=(0.1, 0.05, -1.0), middle_mm=(-20.0, 18.0, 7.0))
    assert "inferior_reference: lies" in measured(upright).why_not
    assert measured(upright, domain="short_axis").cavity_ml == pytest.approx(upright.cavity_ml, rel=0.05)


def test_what_cannot_be_measured_is_said():
    empty = measure(
        np.zeros((4, 8, 8), bool),
        np.zeros((4, 8, 8), np.float32),
        np.eye(4),
        (1.0, 1.0, 1.0),
        domain="transaxial",
        label="lv_wall",
        with_surfaces=True,
    )
    assert empty.why_not == "nothing was outlined"
    assert measured(spacing_mm=None).why_not == "nobody knows the size of a voxel"
    assert measured(with_surfaces=False).why_not == "measurements=volume"
    filled = measured(label="lv_filled")
    assert filled.why_not == "an outline of lv_filled: surfaces need that of the wall"
    assert filled.volume_ml > 0
    assert filled.cavity_ml is None
    flat = measured(domain="projection")
    assert flat.why_not == "projections have no volume"
    assert flat.area_mm2 > 0
    closed = measured(replace(Shell(), closed=True))
    assert "no opening of the cavity was found" in closed.why_not
    assert closed.volume_ml > 0


def cycle_of(*cavities):
    return measure_cycle({number: GateFacts(cavity) for number, cavity in enumerate(cavities, start=1)})


def test_the_cycle_needs_every_gate_and_eight_of_them():
    gates = [80 + 40 * np.cos(2 * np.pi * gate / 8) for gate in range(8)]
    whole = cycle_of(*gates)
    assert whole.ejection_fraction_pct == pytest.approx(200 / 3)
    assert (whole.end_diastolic_ml, whole.end_systolic_ml) == (pytest.approx(120), pytest.approx(40))
    assert (whole.end_diastolic_gate, whole.end_systolic_gate) == (1, 5)
    assert cycle_of(*gates[:-1], None).why_not == "the cavity of 1 of 8 gates could not be measured"
    assert "8" in cycle_of(*gates[:4]).why_not
    assert "gate 1: is 0 ml" in cycle_of(*[0.0] * 8).why_not
