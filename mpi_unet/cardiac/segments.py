"""The 17 segments of the left ventricle: uptake, scores, territories, summed scores.

Segments 1-6 lie in the basal third, 7-12 in the middle, 13-16 in the apical one, 17 is the cap. Each ring starts with
its anterior segment and goes on toward the septum: anterior, anteroseptal, inferoseptal, inferior, inferolateral,
anterolateral (Cerqueira et al. 2002, Circulation 105:539-542, doi:10.1161/hc0402.102975). Tuples of segments run from 1
to 17; a segment of which too little was measured is None, never zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from mpi_unet.cardiac.polar_map import PolarMap
from mpi_unet.errors import CardiacError

__all__ = [
    "MIN_MEASURED",
    "SEGMENT_ANGLES_DEG",
    "SEGMENT_NAMES",
    "TERRITORIES",
    "SummedScore",
    "mean_over",
    "segment_means",
    "segment_numbers",
    "summed_difference",
    "summed_score",
    "territory_means",
    "uptake_scores",
]

SEGMENT_ANGLES_DEG = {
    "basal": (0, 300, 240, 180, 120, 60),
    "middle": (0, 300, 240, 180, 120, 60),
    "apical": (0, 270, 180, 90),
}
"""Wall angle of the middle of segments 1-6, 7-12 and 13-16."""

SEGMENT_NAMES = (
    *(
        f"{zone} {wall}"
        for zone in ("basal", "mid")
        for wall in ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
    ),
    *(f"apical {wall}" for wall in ("anterior", "septal", "inferior", "lateral")),
    "apex",
)

TERRITORIES = {
    "LAD": (1, 2, 7, 8, 13, 14, 17),
    "RCA": (3, 4, 9, 10, 15),
    "LCx": (5, 6, 11, 12, 16),
}
"""Segments that each coronary artery usually supplies; Cerqueira et al. 2002, figure 5. Patients differ."""

MIN_MEASURED = 0.5
"""Share of a segment's pixels that must have met wall; below it the rest would be guessed from a rim."""

MAX_MISSING = 3
"""Segments that a summed score may lack; the membranous septum takes up to two of them away."""

SCORE_LIMITS_PCT = (70.0, 50.0, 30.0, 10.0)
"""Uptake from which on a segment scores 0, 1, 2 and 3; below the last it scores 4.

The guidelines describe the five grades in words (normal, equivocal or mild, moderate, severe, absent) and leave the
numbers to the laboratory, so these are a choice; a normal database is the better judge.
"""

Polar = Float[np.ndarray, "ring angle"]


def segment_numbers(rings: int, num_angles: int) -> Int[np.ndarray, "{rings} {num_angles}"]:
    """The segment, 1 to 17, of every pixel of a polar map.

    Raises:
        CardiacError: The rings do not divide into four zones, or segments would end within pixels.

    Source:
        Cerqueira et al. 2002, Circulation 105:539-542. doi:10.1161/hc0402.102975

    Example:
        >>> numbers = segment_numbers(4, 24)
        >>> [sorted({int(number) for number in ring}) for ring in numbers]
        [[17], [13, 14, 15, 16], [7, 8, 9, 10, 11, 12], [1, 2, 3, 4, 5, 6]]
        >>> numbers[3, [0, 23, 6, 12, 18]].tolist()  # anterior on both sides of 0, then 97, 187 and 277 degrees
        [1, 1, 5, 4, 2]
    """
    if rings < 4 or rings % 4 or num_angles < 24 or num_angles % 24:
        raise CardiacError(
            f"The polar map has {rings} rings of {num_angles} pixels, expected a multiple of 4 rings and of 24 pixels; "
            "make it with polar_map"
        )
    degrees = (np.arange(num_angles) + 0.5) * 360 / num_angles
    six = np.round((360 - degrees) / 60).astype(int) % 6 + 1
    four = np.round((360 - degrees) / 90).astype(int) % 4 + 13
    zones = [np.full(num_angles, 17), four, six + 6, six]
    return np.repeat(np.stack(zones), rings // 4, axis=0)


def segment_means(polar: PolarMap) -> tuple[float | None, ...]:
    """Mean over the measured pixels of each segment, weighted by area.

    Returns:
        17 means in the unit of the map; None where less than ``MIN_MEASURED`` of the pixels were measured.

    Raises:
        CardiacError: As :func:`segment_numbers`.

    Example:
        >>> values = np.full((4, 24), 100.0)
        >>> values[0], values[3, :12] = 40.0, np.nan
        >>> means = segment_means(PolarMap(values, np.ones((4, 24)), "maximum", "percent of maximum"))
        >>> means[16], means[0], means[4]
        (40.0, 100.0, None)
    """
    return mean_over(polar.values, polar.area_mm2)


def mean_over(values: Polar, area_mm2: Polar) -> tuple[float | None, ...]:
    """Area-weighted mean of any map per segment; NaN and None as :func:`segment_means`."""
    numbers = segment_numbers(*values.shape)
    known = np.isfinite(values) & np.isfinite(area_mm2)
    means: list[float | None] = []
    for segment in range(1, 18):
        here = numbers == segment
        measured = here & known
        if measured.sum() < MIN_MEASURED * here.sum() or not area_mm2[measured].sum() > 0:
            means.append(None)
        else:
            means.append(float(np.average(values[measured], weights=area_mm2[measured])))
    return tuple(means)


def territory_means(polar: PolarMap) -> dict[str, float | None]:
    """Area-weighted mean over the measured pixels of each coronary territory; None below ``MIN_MEASURED``.

    Raises:
        CardiacError: As :func:`segment_numbers`.
    """
    numbers = segment_numbers(*polar.values.shape)
    known = np.isfinite(polar.values) & np.isfinite(polar.area_mm2)
    means: dict[str, float | None] = {}
    for name, segments in TERRITORIES.items():
        here = np.isin(numbers, segments)
        measured = here & known
        enough = measured.sum() >= MIN_MEASURED * here.sum() and polar.area_mm2[measured].sum() > 0
        means[name] = float(np.average(polar.values[measured], weights=polar.area_mm2[measured])) if enough else None
    return means


# --- Scores ---


@dataclass(frozen=True)
class SummedScore:
    """Sum of the segment scores.

    Attributes:
        total: The sum over the scored segments; None where more than ``MAX_MISSING`` are missing.
        percent: The sum in percent of what the scored segments could reach at most, which makes hearts with a missing
            segment comparable (Berman et al. 2004, J Nucl Cardiol 11:414-423); None likewise.
        missing: Numbers of the segments without a score.
    """

    total: int | None
    percent: float | None
    missing: tuple[int, ...]


def uptake_scores(
    means: Sequence[float | None], limits_pct: tuple[float, float, float, float] = SCORE_LIMITS_PCT
) -> tuple[int | None, ...]:
    """Scores 0 (normal) to 4 (absent) from the segments' uptake in percent, without a normal database.

    Args:
        means: 17 means of a normalized map.
        limits_pct: Uptake from which on the score is 0, 1, 2 and 3; falling.

    Raises:
        CardiacError: There are not 17 means, or the limits do not fall.

    Source:
        Five-point scale: Cerqueira et al. 2002; the limits are a choice, see ``SCORE_LIMITS_PCT``.

    Example:
        >>> uptake_scores([95.0, 70.0, 69.9, 45.0, 20.0, 5.0, None, *[100.0] * 10])[:7]
        (0, 0, 1, 2, 3, 4, None)
    """
    _check_seventeen(means)
    if len(limits_pct) != 4 or any(low >= high for high, low in pairwise(limits_pct)):
        raise CardiacError(f"limits_pct is {limits_pct}, expected four falling numbers such as {SCORE_LIMITS_PCT}")
    return tuple(None if mean is None else sum(mean < limit for limit in limits_pct) for mean in means)


def summed_score(scores: Sequence[int | None]) -> SummedScore:
    """Summed stress or rest score.

    Args:
        scores: 17 scores from 0 to 4, None where the segment could not be scored.

    Raises:
        CardiacError: There are not 17 scores, or one is outside 0 to 4.

    Source:
        Hachamovitch et al. 1996, Circulation 93:905-914. doi:10.1161/01.CIR.93.5.905; 17 segments: Berman et al. 2004,
        J Nucl Cardiol 11:414-423. doi:10.1016/j.nuclcard.2004.03.033

    Example:
        >>> summed_score([4, 4, None, *[0] * 14])
        SummedScore(total=8, percent=12.5, missing=(3,))
    """
    _check_seventeen(scores)
    wrong = [
        f"segment {number}: {score}" for number, score in enumerate(scores, 1) if score not in (0, 1, 2, 3, 4, None)
    ]
    if wrong:
        raise CardiacError(f"{', '.join(wrong)}; expected scores 0, 1, 2, 3, 4 or None")
    known = [score for score in scores if score is not None]
    missing = tuple(number for number, score in enumerate(scores, 1) if score is None)
    if len(missing) > MAX_MISSING:
        return SummedScore(None, None, missing)
    return SummedScore(sum(known), 100 * sum(known) / (4 * len(known)), missing)


def summed_difference(stress: Sequence[int | None], rest: Sequence[int | None]) -> SummedScore:
    """Summed difference score: stress minus rest over the segments scored in both.

    A segment that scores worse at rest lowers the sum, as SDS = SSS - SRS has it; the sum may be negative.

    Raises:
        CardiacError: As :func:`summed_score`.

    Example:
        >>> summed_difference([3, *[0] * 16], [1, *[0] * 16]).total
        2
    """
    for scores in (stress, rest):
        summed_score(scores)
    pairs = [(a, b) for a, b in zip(stress, rest, strict=True) if a is not None and b is not None]
    missing = tuple(n for n, (a, b) in enumerate(zip(stress, rest, strict=True), 1) if a is None or b is None)
    if len(missing) > MAX_MISSING:
        return SummedScore(None, None, missing)
    total = sum(a - b for a, b in pairs)
    return SummedScore(total, 100 * total / (4 * len(pairs)), missing)


# --- Private helpers ---


def _check_seventeen(values: Sequence[float | None]) -> None:
    if len(values) != 17:
        raise CardiacError(f"There are {len(values)} segments, expected 17; use the segments of segment_means")
