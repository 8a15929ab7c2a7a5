"""Wilcoxon's signed rank test with its exact distribution, ties and zeros included.

Scores of the same patients often tie, and a difference of two floats that should be zero often is not. Differences are
therefore rounded to nine decimals, and the null distribution is counted from the ranks as they are: every pattern of
signs of the observed ranks, by convolution, so that no table without ties has to stand in for it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Real
from scipy import stats

from mpi_unet.agreement.estimate import check_level, paired_differences
from mpi_unet.agreement.paired import Alternative, PairedTest
from mpi_unet.evaluation.intervals import Interval

__all__ = ["wilcoxon_signed_rank"]

DECIMALS = 9
"""Differences that agree to so many decimals are tied; scores carry no more than that."""

MOST_EXACT = 400
"""Patients up to which the distribution is counted; beyond, the normal approximation differs in the fifth decimal."""


def wilcoxon_signed_rank(
    preds: Real[np.ndarray, " patients"],
    target: Real[np.ndarray, " paired"] | None = None,
    *,
    alternative: Alternative = "two-sided",
    zeros: Literal["wilcox", "pratt"] = "wilcox",
    level: float = 0.95,
) -> PairedTest:
    """Can a shift of paired values be seen? Signed rank test, with the Hodges-Lehmann estimate of the shift.

    It tests the pseudo-median, not the mean: where a network fails in a few patients it may reject although the means
    are equal.

    Args:
        preds: First measurement, one finite value per patient; or the differences themselves when ``target`` is None.
        target: Second measurement of the same patients in the same order.
        alternative: Two-sided, or whether the shift is "greater" or "less" than zero.
        zeros: Patients without a difference are dropped before ranking ("wilcox") or after it ("pratt").
        level: Confidence level of the two-sided interval; what is attained is at least this, except that with very few
            patients the interval is all averages of pairs, and ``note`` says what it attains.

    Returns:
        ``statistic`` is the sum of ranks of positive differences, ``p_value`` exact for up to 400 patients (two-sided:
        twice the smaller tail), ``estimate`` the median of the averages of all pairs of differences and ``interval``
        taken from the same averages. With no difference in any patient p is 1.

    Raises:
        AgreementError: No patient, a value that is not finite, patients that do not pair up, or a level outside (0, 1).

    Source:
        Wilcoxon 1945, Biometrics Bulletin 1(6):80-83. doi:10.2307/3001968; Pratt 1959, J Am Stat Assoc 54:655-667.
        doi:10.1080/01621459.1959.10501526; estimate and interval: Hollander & Wolfe 1973, Nonparametric Statistical
        Methods, sections 3.1-3.3.

    Example:
        Ranks 1, 2, 3, all positive: one pattern of eight.

        >>> test = wilcoxon_signed_rank(np.array([0.1, 0.2, 0.4]), alternative="greater")
        >>> test.statistic, test.p_value, round(test.estimate, 3)
        (6.0, 0.125, 0.225)
    """
    check_level(level)
    d = np.round(paired_differences(preds, target, least=1), DECIMALS)
    ranked = d[d != 0] if zeros == "wilcox" else d
    ranks = stats.rankdata(np.abs(ranked))
    ranks, signs = ranks[ranked != 0], ranked[ranked != 0] > 0
    positive = float(ranks[signs].sum())
    above, below = _exact_tails(ranks, positive) if ranks.size <= MOST_EXACT else _normal_tails(ranks, positive)
    p_value = {"two-sided": min(1.0, 2 * min(above, below)), "greater": above, "less": below}[alternative]
    dropped = int(np.count_nonzero(d == 0))
    notes = [f"{dropped} of {d.size} patients without a difference"] if dropped else []
    if (attained := 1 - 2 * 0.5**d.size) < level:  # the widest interval there is
        notes.append(f"of {d.size} patient(s) the interval holds with {100 * attained:.3g} % at most")
    method = f"signed rank, {'exact' if ranks.size <= MOST_EXACT else 'normal approximation'}"
    estimate, interval = _hodges_lehmann(d, level)
    return PairedTest(estimate, interval, int(d.size), method, positive, p_value, alternative, "; ".join(notes))


# --- Private helpers ---


def _exact_tails(ranks: np.ndarray, positive: float) -> tuple[float, float]:
    chances = _distribution(np.round(2 * ranks).astype(int))
    place = round(2 * positive)
    return float(min(1.0, chances[place:].sum())), float(min(1.0, chances[: place + 1].sum()))


def _distribution(doubled_ranks: np.ndarray) -> np.ndarray:
    """Probability of each sum when each rank enters or not by the toss of a coin; doubled ranks are whole numbers."""
    chances = np.zeros(int(doubled_ranks.sum()) + 1)
    chances[0] = 1.0
    for rank in doubled_ranks:
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[: chances.size - rank]
        chances = (chances + shifted) / 2
    return chances


def _normal_tails(ranks: np.ndarray, positive: float) -> tuple[float, float]:
    """With the variance of the ranks as they are and a continuity correction."""
    mean, spread = ranks.sum() / 2, float(np.sqrt(np.sum(ranks**2)) / 2)
    above, below = (positive - mean - 0.5) / spread, (positive - mean + 0.5) / spread
    return float(stats.norm.sf(above)), float(stats.norm.cdf(below))


def _hodges_lehmann(d: np.ndarray, level: float) -> tuple[float, Interval]:
    """Median of the averages of all pairs, and the averages that the test does not reject as the shift."""
    first, second = np.triu_indices(d.size)
    averages = np.sort((d[first] + d[second]) / 2)
    size, tail = averages.size, (1 - level) / 2
    if d.size <= MOST_EXACT:
        below = np.cumsum(_distribution(np.arange(1, d.size + 1)))
        rank = int(np.searchsorted(below, tail, side="left"))  # smallest sum whose tail reaches alpha / 2
    else:
        spread = np.sqrt(d.size * (d.size + 1) * (2 * d.size + 1) / 24)
        rank = int(np.floor(size / 2 + stats.norm.ppf(tail) * spread))
    rank = max(rank, 1)
    interval = Interval(
        float(averages[rank - 1]), float(averages[size - rank]), level, "Hodges-Lehmann, averages of pairs"
    )
    return float(np.median(averages)), interval
