"""Where a network stands relative to a panel of readers, as a ratio: Williams' index and that of Chalana and Kim.

Both divide how well the network agrees with the readers by how well the readers agree with one another. An index above
1 says that the network lies closer to the readers than they lie to each other, as a smooth average of many readers
would; it does not say that the network is right where they differ. Indices describe; a margin decides (see ``panel``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Real
from scipy import stats

from mpi_unet.agreement.estimate import Estimate, check_level
from mpi_unet.agreement.panel_scores import Better, PanelScores, panel_scores, row_means
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["WilliamsIndex", "chalana_kim_index", "williams_index"]


@dataclass(frozen=True)
class WilliamsIndex:
    """Ratio of network-reader to reader-reader agreement.

    ``interval`` is that of the logarithm of the index by the delta method, with Student's t; ``jackknife_interval``
    leaves out one patient at a time (``jackknife_se``), and is the check of it.
    """

    value: float
    interval: Interval | None
    n: int
    method: str
    jackknife_interval: Interval | None
    jackknife_se: float | None


def williams_index(
    network: Real[np.ndarray, "patients readers"],
    pairs: Real[np.ndarray, "patients readers readers"],
    *,
    level: float = 0.95,
    better: Better = "higher",
) -> WilliamsIndex:
    """How well a network agrees with readers, relative to how well they agree with one another.

    1 says equally well, more than 1 better. The index is P0 / Pn, or Pn / P0 where a lower score is better.

    Args:
        network: Score of the network against each reader, one patient per row.
        pairs: Score of each pair of readers, symmetric; the diagonal is ignored (see :func:`pairs_matrix`).
        level: Confidence level in (0, 1).
        better: "lower" for distances.

    Returns:
        The index over the patients whom all readers read; NaN, without interval, where the denominator is zero or no
        such patient is left. Of one patient there is no interval.

    Raises:
        AgreementError: Fewer than two readers, an infinite score, pairs that are not symmetric, or a level outside
            (0, 1).

    Source:
        Williams 1976, Biometrics 32(3):619-627. doi:10.2307/2529750

    Example:
        Network and readers 0.8, readers among themselves 0.9.

        >>> index = williams_index(np.full((2, 2), 0.8), np.full((2, 2, 2), 0.9))
        >>> round(index.value, 6), round(index.interval.high, 6)
        (0.888889, 0.888889)
    """
    check_level(level)
    return williams_of(_checked(network, pairs), level, better)


def chalana_kim_index(
    network: Real[np.ndarray, "patients readers"],
    pairs: Real[np.ndarray, "patients readers readers"],
    *,
    level: float = 0.95,
    better: Better = "higher",
) -> Estimate:
    """Williams' index of closeness: mean over readers of 1/(disagreement with the network), over that among readers.

    Disagreement is ``1 - score``, or the score itself where lower is better, averaged over patients before it is
    inverted, as Chalana and Kim modified the index for boundaries.

    Args:
        network: Score of the network against each reader, one patient per row.
        pairs: Score of each pair of readers, symmetric; the diagonal is ignored.
        level: Confidence level in (0, 1) of the jackknife-t interval.
        better: "lower" for distances.

    Returns:
        The index over the patients whom all readers read; NaN, without interval, where two of the masks are the same in
        all patients (1/0) or no patient is left.

    Raises:
        AgreementError: As :func:`williams_index`.

    Source:
        Chalana & Kim 1997, IEEE Trans Med Imaging 16(5):642-652. doi:10.1109/42.640755

    Example:
        Disagreement 0.2 with the network, 0.1 among readers.

        >>> round(chalana_kim_index(np.full((2, 2), 0.8), np.full((2, 2, 2), 0.9)).value, 6)
        0.5
    """
    check_level(level)
    return chalana_kim_of(_checked(network, pairs), level, better)


def williams_of(scores: PanelScores, level: float, better: Better) -> WilliamsIndex:
    """Williams' index of a checked table with a network and two or more readers."""
    p0, pn = scores.p0(), scores.pn()
    if p0 is None or pn is None:
        raise AgreementError("Williams' index needs a network and at least two readers")
    top, bottom = (p0, pn) if better == "higher" else (pn, p0)
    value, interval = ratio_of_means(top, bottom, level)
    jackknife, error = None, None
    without = bottom.sum() - bottom
    if interval is not None and (without > 0).all():
        jackknife, error = _jackknife_t(value, (top.sum() - top) / without, level)
    return WilliamsIndex(value, interval, int(p0.size), "ratio of means, log-delta t over patients", jackknife, error)


def chalana_kim_of(scores: PanelScores, level: float, better: Better) -> Estimate:
    """The index of Chalana and Kim of a checked table with a network and two or more readers."""
    method = "ratio of mean inverse disagreements, jackknife-t over patients"
    if scores.network is None:
        raise AgreementError("the index of Chalana and Kim needs a network")
    among = scores.pairs[:, *np.triu_indices(scores.num_readers, 1)]
    with_network = scores.network
    if better == "higher":
        among, with_network = 1 - among, 1 - with_network
    n = len(with_network)
    if n == 0:
        return Estimate(float("nan"), None, 0, method)
    value = _inverse_ratio(_means(with_network), _means(among))
    if n < 2 or not np.isfinite(value):
        return Estimate(value, None, n, method)
    rest = zip(_means_without_each(with_network), _means_without_each(among), strict=True)
    left_out = np.array([_inverse_ratio(*pair) for pair in rest])
    interval = _jackknife_t(value, left_out, level)[0] if np.isfinite(left_out).all() else None
    return Estimate(value, interval, n, method)


def ratio_of_means(
    top: Real[np.ndarray, " patients"], bottom: Real[np.ndarray, " patients"], level: float
) -> tuple[float, Interval | None]:
    """Ratio of two means over the same patients, with the t interval of its logarithm by the delta method.

    Args:
        top: Numerator, one value per patient.
        bottom: Denominator of the same patients.
        level: Confidence level in (0, 1).

    Returns:
        The ratio, NaN where the denominator has mean 0 or there is no patient; no interval where the ratio is not
        positive or there is one patient.

    Example:
        >>> ratio_of_means(np.array([1.0, 3.0]), np.array([2.0, 6.0]), 0.95)[0]
        0.5
    """
    if top.size == 0 or bottom.mean() == 0:
        return float("nan"), None
    ratio = float(top.mean() / bottom.mean())
    if top.size < 2 or ratio <= 0:
        return ratio, None
    residuals = top / top.mean() - bottom / bottom.mean()
    half = stats.t.ppf((1 + level) / 2, top.size - 1) * residuals.std(ddof=1) / np.sqrt(top.size)
    low, high = ratio * np.exp([-half, half])
    return ratio, Interval(float(low), float(high), level, "log-delta t over patients")


# --- Private helpers ---


def _checked(network: np.ndarray, pairs: np.ndarray) -> PanelScores:
    if pairs.shape[1] < 2:
        raise AgreementError(
            f"pairs has {pairs.shape[1]} reader(s), expected at least 2: with one reader the agreement between readers "
            "was not measured; have the same patients outlined by a second reader"
        )
    return panel_scores(network, pairs)


def _means(values: np.ndarray) -> np.ndarray:
    """Mean of each column over the patients that have it."""
    return row_means(values.T)


def _means_without_each(values: np.ndarray) -> np.ndarray:
    """The same without each patient in turn; NaN where nobody is left."""
    there = np.isfinite(values)
    known = np.where(there, values, 0)
    count = there.sum(axis=0) - there
    return np.divide(known.sum(axis=0) - known, count, out=np.full(values.shape, np.nan), where=count > 0)


def _inverse_ratio(with_network: np.ndarray, among: np.ndarray) -> float:
    if not ((with_network > 0).all() and (among > 0).all()):  # NaN is not above 0 either
        return float("nan")
    return float(np.mean(1 / with_network) / np.mean(1 / among))


def _jackknife_t(value: float, left_out: np.ndarray, level: float) -> tuple[Interval, float]:
    n = left_out.size
    error = float(np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)))
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * error)
    return Interval(value - half, value + half, level, "jackknife-t over patients"), error
