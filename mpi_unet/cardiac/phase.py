"""When each part of the wall contracts: the phase of its counts over the gates.

Wall that thickens fills more of a blurred voxel, so its counts rise and fall with its thickness (partial volume). The
*phase* of a pixel is where the first harmonic of that curve is highest, in degrees of the cardiac cycle: 0 is the R
wave, 360 the next one. Phases are angles: 359 and 1 are two degrees apart, and mean, SD and bandwidth respect it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpi_unet.cardiac.polar_map import PolarMap
from mpi_unet.errors import CardiacError

__all__ = ["MIN_GATES", "PhaseResult", "first_harmonic", "phase_analysis", "phase_histogram"]

MIN_GATES = 8
"""Chen et al. 2005 used eight gates; fewer leave the harmonic too few points to stand out from the noise."""

MIN_MEASURED = 0.5
"""Share of the pixels that must have a phase before a histogram speaks for the ventricle."""

BIN_DEG = 6.0
"""Width of a bin of the histogram; 60 bins, which the entropy depends on."""

BAND = 0.95
"""Share of the wall that the bandwidth holds."""


@dataclass(frozen=True)
class PhaseResult:
    """Synchrony of contraction.

    Attributes:
        phase_deg: Phase per pixel (ring, angle), 0 to 360; NaN where a gate met no wall or the counts do not vary.
        amplitude_pct: Amplitude of the first harmonic in percent of the pixel's mean count; how far to trust the phase.
        mean_deg: Circular mean, weighted by area.
        sd_deg: Root mean square of the deviation from the circular mean, each taken the short way round.
        circular_sd_deg: sqrt(-2 ln R) with the resultant length R; larger than ``sd_deg`` for wide histograms.
        bandwidth_deg: Shortest arc that holds 95 % of the wall's area.
        entropy_pct: Entropy of the histogram in percent of that of an even one.
        histogram: Share of the area per bin of ``BIN_DEG``, from 0 degrees; sums to 1.
        measured_pct: Pixels with a phase, percent of all.
        num_gates: Gates of the study.
    """

    phase_deg: Float[np.ndarray, "ring angle"]
    amplitude_pct: Float[np.ndarray, "ring angle"]
    mean_deg: float
    sd_deg: float
    circular_sd_deg: float
    bandwidth_deg: float
    entropy_pct: float
    histogram: Float[np.ndarray, " bin"]
    measured_pct: float
    num_gates: int


def first_harmonic(
    counts: Float[np.ndarray, "gate ring angle"],
) -> tuple[Float[np.ndarray, "ring angle"], Float[np.ndarray, "ring angle"]]:
    """Phase and amplitude of the first harmonic of every pixel's curve.

    The curve is taken as ``mean + amplitude * cos(2 pi t - phase)``, where gate ``g`` of ``n`` is centered at
    ``t = (g + 0.5) / n`` of the cycle. For evenly spaced gates this is the least-squares fit.

    Args:
        counts: Counts per gate; NaN where not measured.

    Returns:
        Phase in degrees, 0 to 360, and amplitude in percent of the mean. Both are NaN where a gate is NaN or the mean
        is not positive; the phase also where the amplitude is below a millionth of the mean.

    Raises:
        CardiacError: There are fewer than ``MIN_GATES`` gates.

    Source:
        Chen et al. 2005, J Nucl Cardiol 12:687-695. doi:10.1016/j.nuclcard.2005.06.088. Their program reports the same
        scale: 134 degrees in normal men, which is end systole, the top of the harmonic.

    Example:
        A curve with its top at a quarter of the cycle and a swing of 20 %.

        >>> time = (np.arange(8) + 0.5) / 8
        >>> curve = 50 * (1 + 0.2 * np.cos(2 * np.pi * (time - 0.25)))
        >>> phase, amplitude = first_harmonic(curve[:, None, None] * np.ones((8, 4, 24)))
        >>> round(float(phase[0, 0]), 6), round(float(amplitude[0, 0]), 6)
        (90.0, 20.0)
    """
    num_gates = len(counts)
    if num_gates < MIN_GATES:
        raise CardiacError(
            f"The study has {num_gates} gate(s), expected at least {MIN_GATES} for a phase; an ungated study or one of "
            "few gates has no phase histogram"
        )
    time = (np.arange(num_gates) + 0.5) / num_gates
    mean = counts.mean(axis=0)
    wave = 2 * np.tensordot(np.exp(2j * np.pi * time), counts, axes=1) / num_gates
    usable = np.isfinite(mean) & (mean > 0)
    amplitude = np.full(mean.shape, np.nan)
    amplitude[usable] = 100 * np.abs(wave[usable]) / mean[usable]
    moves = np.nan_to_num(amplitude) > 1e-4
    phase = np.where(moves, np.rad2deg(np.angle(wave)) % 360, np.nan)
    return np.where(phase >= 360, 0.0, phase), amplitude


def phase_analysis(maps: Sequence[PolarMap], *, min_uptake_pct: float = 0.0) -> PhaseResult:
    """Phase of every pixel of a gated study, and how far apart the phases lie.

    Args:
        maps: One map per gate in order, in counts: the harmonic needs the scale that all gates share.
        min_uptake_pct: Leave out pixels whose mean count is below this percentage of the hottest pixel's; a defect
            without counts has a phase of noise alone. 0 keeps all.

    Raises:
        CardiacError: Fewer than ``MIN_GATES`` gates, maps that are not in counts or not made alike, or fewer than half
            of the pixels with a phase.

    Source:
        Phase histogram, SD and bandwidth: Chen et al. 2005, J Nucl Cardiol 12:687-695.
        doi:10.1016/j.nuclcard.2005.06.088. Entropy: Van Kriekinge et al. 2008, J Nucl Med 49:1790-1797.
        doi:10.2967/jnumed.108.055160. Circular statistics: Mardia & Jupp 2000, Directional Statistics, section 2.3.
    """
    made = {(polar.statistic, polar.unit, polar.values.shape) for polar in maps}
    if len(made) > 1 or any(polar.unit != "counts" for polar in maps):
        raise CardiacError(
            f"The gates' polar maps are {sorted(made)} (statistic, unit, shape), expected one kind in counts; sample "
            "all gates with the same options and do not normalize them"
        )
    counts = np.stack([polar.values for polar in maps]) if len(maps) else np.zeros((0, 4, 24))
    phase, amplitude = first_harmonic(counts)
    mean = counts.mean(axis=0)
    if min_uptake_pct > 0 and np.isfinite(mean).any():
        phase = np.where(mean >= min_uptake_pct / 100 * np.nanmax(mean), phase, np.nan)
    known = np.isfinite(phase)
    if known.mean() < MIN_MEASURED:
        raise CardiacError(
            f"Only {100 * known.mean():.0f} % of the pixels have a phase, expected {100 * MIN_MEASURED:.0f} % or more; "
            "the wall is missing in some gates or its counts do not vary, so look at the outlines of all gates"
        )
    area = np.stack([polar.area_mm2 for polar in maps]).mean(axis=0)[known]
    return _summarized(phase, amplitude, area, len(maps))


def phase_histogram(
    phase_deg: Float[np.ndarray, " pixel"], weights: Float[np.ndarray, " pixel"], bin_deg: float = BIN_DEG
) -> Float[np.ndarray, " bin"]:
    """Share of the weight per bin of phase, from 0 to 360 degrees.

    Example:
        >>> phase_histogram(np.array([1.0, 2.0, 181.0, 359.0]), np.ones(4), 90.0).tolist()
        [0.5, 0.0, 0.25, 0.25]
    """
    counted, _ = np.histogram(phase_deg, bins=round(360 / bin_deg), range=(0, 360), weights=weights)
    return counted / weights.sum()


# --- Private helpers ---


def _summarized(phase: np.ndarray, amplitude: np.ndarray, area: np.ndarray, num_gates: int) -> PhaseResult:
    known = np.isfinite(phase)
    degrees, weights = phase[known], area / area.sum()
    resultant = complex((weights * np.exp(1j * np.deg2rad(degrees))).sum())
    mean = float(np.rad2deg(np.angle(resultant)) % 360)
    deviation = (degrees - mean + 180) % 360 - 180
    histogram = phase_histogram(degrees, weights)
    filled = histogram[histogram > 0]
    return PhaseResult(
        phase_deg=phase,
        amplitude_pct=amplitude,
        mean_deg=mean,
        sd_deg=float(np.sqrt((weights * deviation**2).sum())),
        circular_sd_deg=float(np.rad2deg(np.sqrt(max(-2 * np.log(max(abs(resultant), 1e-12)), 0.0)))),
        bandwidth_deg=_bandwidth_deg(degrees, weights),
        entropy_pct=100 * abs(float(-(filled * np.log(filled)).sum())) / float(np.log(len(histogram))),
        histogram=histogram,
        measured_pct=100 * float(known.mean()),
        num_gates=num_gates,
    )


def _bandwidth_deg(degrees: np.ndarray, weights: np.ndarray) -> float:
    """Shortest arc, from one phase to another, that holds ``BAND`` of the weight."""
    order = np.argsort(degrees)
    turned = np.concatenate([degrees[order], degrees[order] + 360])
    total = np.concatenate([[0.0], np.cumsum(np.tile(weights[order], 2))])
    starts = np.arange(len(degrees))
    ends = np.searchsorted(total, total[starts] + BAND - 1e-9) - 1
    return float((turned[ends] - turned[starts]).min())
