from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polar_builders import flat_map, shell, shell_axes
from scipy.stats import circmean, circstd

from mpi_unet.cardiac.phase import first_harmonic, phase_analysis, phase_histogram
from mpi_unet.cardiac.polar_map import PolarMap, gated_polar_maps
from mpi_unet.errors import CardiacError


def curves(phase_deg: np.ndarray, num_gates: int = 8, swing: float = 0.3) -> list[PolarMap]:
    """Maps of a heart whose pixels are brightest at the phases given."""
    time_deg = (np.arange(num_gates) + 0.5) / num_gates * 360
    rings, angles = phase_deg.shape
    polar = flat_map(unit="counts", rings=rings, angles=angles)
    values = 100 * (1 + swing * np.cos(np.deg2rad(time_deg[:, None, None] - phase_deg)))
    return [replace(polar, values=gate) for gate in values]


def degrees_apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs((first - second + 180) % 360 - 180)


@pytest.mark.parametrize("num_gates", [8, 16])
def test_planted_phases_come_back(num_gates):
    planted = np.random.default_rng(1).uniform(0, 360, (8, 48))
    result = phase_analysis(curves(planted, num_gates))
    assert degrees_apart(result.phase_deg, planted).max() < 1e-9
    np.testing.assert_allclose(result.amplitude_pct, 30.0)
    assert result.num_gates == num_gates
    assert result.measured_pct == 100


def test_harmonic_is_that_of_the_fourier_transform():
    values = np.random.default_rng(2).uniform(50, 100, (8, 4, 24))
    phase, amplitude = first_harmonic(values)
    spectrum = np.fft.rfft(values, axis=0)
    shift = 360 / 8 / 2  # gates are read at their middle, the transform at their start
    assert degrees_apart(phase, np.rad2deg(-np.angle(spectrum[1])) + shift).max() < 1e-9
    np.testing.assert_allclose(amplitude, 200 * np.abs(spectrum[1]) / np.abs(spectrum[0]))


@pytest.mark.parametrize("middle", [0.0, 134.0, 359.0])
def test_summary_is_that_of_scipy_and_does_not_mind_the_end_of_the_circle(middle):
    planted = (middle + np.random.default_rng(3).normal(0, 12, (8, 48))) % 360
    result = phase_analysis(curves(planted))
    assert degrees_apart(np.array(result.mean_deg), np.rad2deg(circmean(np.deg2rad(planted)))) < 1e-9
    assert result.circular_sd_deg == pytest.approx(np.rad2deg(circstd(np.deg2rad(planted))))
    deviation = (planted - result.mean_deg + 180) % 360 - 180
    assert result.sd_deg == pytest.approx(np.sqrt((deviation**2).mean()))
    low, high = np.quantile(deviation, [0.025, 0.975])
    assert result.bandwidth_deg == pytest.approx(high - low, rel=0.06)
    assert result.bandwidth_deg <= high - low + 1


def test_a_late_wall_widens_the_histogram_by_its_delay():
    planted = np.full((8, 48), 130.0)
    late = planted.copy()
    late[:, :24] += 60.0
    even, delayed = phase_analysis(curves(planted)), phase_analysis(curves(late))
    assert even.bandwidth_deg == pytest.approx(0, abs=1e-9)
    assert even.sd_deg == pytest.approx(0, abs=1e-9)
    assert even.entropy_pct == pytest.approx(0, abs=1e-9)
    assert delayed.bandwidth_deg == pytest.approx(60)
    assert delayed.sd_deg == pytest.approx(30)
    assert delayed.entropy_pct == pytest.approx(100 * np.log(2) / np.log(60))


def test_phases_all_round_have_all_the_entropy():
    result = phase_analysis(curves(np.linspace(0, 360, 8 * 48, endpoint=False).reshape(8, 48) + 0.01))
    assert result.entropy_pct == pytest.approx(100, abs=0.5)
    assert result.bandwidth_deg == pytest.approx(0.95 * 360, abs=2)


def test_planted_delay_is_seen_through_the_sampling_of_a_moving_wall():
    axes = shell_axes()

    def phases(angle):
        return np.where((angle > 180) & (angle < 360), 190.0, 130.0)  # the septal side is late

    images = []
    for gate in range(8):
        time_deg = (gate + 0.5) * 45
        image, wall, affine = shell(
            axes, lambda angle, height, at=time_deg: 100 * (1 + 0.3 * np.cos(np.deg2rad(at - phases(angle))))
        )
        images.append(image)
    maps = gated_polar_maps(np.stack(images), [wall] * 8, affine, [axes] * 8)
    result = phase_analysis(maps)
    planted = np.broadcast_to(phases(maps[0].angles_deg), result.phase_deg.shape)
    away = (maps[0].angles_deg % 180 > 15) & (maps[0].angles_deg % 180 < 165)
    assert np.nanmax(degrees_apart(result.phase_deg, planted)[10:, away]) < 3
    assert result.bandwidth_deg == pytest.approx(60, abs=3)
    assert result.sd_deg == pytest.approx(30, abs=2)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 360), st.integers(0, 2**16))
def test_turning_the_whole_heart_in_time_turns_the_mean_alone(turn, seed):
    planted = np.random.default_rng(seed).normal(100, 20, (4, 24)) % 360
    before, after = phase_analysis(curves(planted)), phase_analysis(curves((planted + turn) % 360))
    assert degrees_apart(np.array(after.mean_deg), before.mean_deg + turn) < 1e-6
    assert after.sd_deg == pytest.approx(before.sd_deg, abs=1e-6)
    assert after.bandwidth_deg == pytest.approx(before.bandwidth_deg, abs=1e-6)


def test_what_has_no_phase_is_left_out_and_said():
    planted = np.full((8, 48), 130.0)
    maps = curves(planted)
    for polar in maps:
        polar.values[0] = 100.0  # does not vary
    maps[3].values[1] = np.nan  # missing in one gate
    result = phase_analysis(maps)
    assert np.isnan(result.phase_deg[:2]).all()
    assert result.measured_pct == 75
    assert result.histogram.sum() == pytest.approx(1)


def test_pixels_without_counts_can_be_left_out():
    maps = curves(np.where(np.arange(48) < 12, 300.0, 130.0) + np.zeros((8, 1)))
    for polar in maps:
        polar.values[:, :12] *= 0.1
    assert phase_analysis(maps).bandwidth_deg > 150
    assert phase_analysis(maps, min_uptake_pct=30).bandwidth_deg == pytest.approx(0, abs=1e-9)


def test_studies_without_a_phase_are_refused():
    maps = curves(np.full((8, 48), 130.0))
    with pytest.raises(CardiacError, match=r"7 gate.*expected at least 8 .*ungated study"):
        phase_analysis(maps[:7])
    with pytest.raises(CardiacError, match="0 gate"):
        phase_analysis([])
    with pytest.raises(CardiacError, match=r"percent of maximum.*do not normalize"):
        phase_analysis([replace(polar, unit="percent of maximum") for polar in maps])
    with pytest.raises(CardiacError, match="Only 0 % of the pixels have a phase, expected 50 % or more"):
        phase_analysis([flat_map(unit="counts")] * 8)


def test_histogram_is_weighted():
    assert phase_histogram(np.array([10.0, 100.0]), np.array([3.0, 1.0]), 90.0).tolist() == [0.75, 0.25, 0.0, 0.0]
