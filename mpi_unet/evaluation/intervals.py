"""Intervals for a mean over patients and for a proportion of patients.

The values handed in are one per patient; a slice or a pixel is never a unit. The *t interval* is the primary one;
*bootstrap-t* is its check on skewed values; *Clopper-Pearson* is for counts of patients, e.g. failures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

__all__ = ["Interval", "bootstrap_t_interval", "bootstrap_t_statistics", "clopper_pearson", "t_interval"]

DRAWS_AT_ONCE = 500_000
"""Values held in memory at a time: a few MB, however many resamples of however many patients are asked for."""


@dataclass(frozen=True)
class Interval:
    """A two-sided interval: ends, confidence level, and the method in words for the report."""

    low: float
    high: float
    level: float
    method: str


def t_interval(values: Float[np.ndarray, " patients"], level: float = 0.95) -> Interval:
    """Student's t interval of a mean over patients.

    Args:
        values: One finite value per patient, at least two.
        level: Confidence level in (0, 1).

    Returns:
        The interval; of width zero when all patients have the same value. It is not cut off at the bounds of a score.

    Raises:
        ValueError: Fewer than two values, a value that is not finite, or a level outside (0, 1).

    Source:
        Student 1908, Biometrika 6(1):1-25. doi:10.2307/2331554; adequate for a mean Dice: El Jurdi et al. 2023,
        arXiv:2307.10926

    Example:
        Mean 2, standard error 1/sqrt(3), t(0.975; 2) = 4.303.

        >>> interval = t_interval(np.array([1.0, 2.0, 3.0]))
        >>> round(interval.low, 3), round(interval.high, 3)
        (-0.484, 4.484)
    """
    _check(values, level)
    half = stats.t.ppf((1 + level) / 2, values.size - 1) * _standard_error(values)
    mean = values.mean()
    return Interval(float(mean - half), float(mean + half), level, "t over patients")


def bootstrap_t_interval(
    values: Float[np.ndarray, " patients"], level: float = 0.95, *, resamples: int = 10_000, seed: int
) -> Interval:
    """Bootstrap-t interval of a mean over patients: the check of the t interval when a few patients fail badly.

    Resamples patients, studentizes each resampled mean with its own standard error, and reads the quantiles of that
    statistic instead of Student's.

    Args:
        values: One finite value per patient, at least two.
        level: Confidence level in (0, 1).
        resamples: Number of resamples.
        seed: Seed; the same seed gives the same interval.

    Returns:
        The interval; of width zero when all patients have the same value.

    Raises:
        ValueError: As :func:`t_interval`.

    Source:
        Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 12.5.

    Example:
        >>> interval = bootstrap_t_interval(np.array([0.5, 0.5, 0.5]), seed=0)
        >>> interval.low, interval.high
        (0.5, 0.5)
    """
    _check(values, level)
    mean, error = values.mean(), _standard_error(values)
    if error == 0:
        return Interval(float(mean), float(mean), level, "bootstrap-t over patients")
    t = bootstrap_t_statistics(values, resamples=resamples, seed=seed)
    high, low = np.quantile(t, [(1 + level) / 2, (1 - level) / 2])
    return Interval(float(mean - high * error), float(mean - low * error), level, "bootstrap-t over patients")


def bootstrap_t_statistics(
    values: Float[np.ndarray, " patients"], *, resamples: int = 10_000, seed: int
) -> Float[np.ndarray, " drawn"]:
    """Studentized means of resampled patients: what bootstrap-t puts in the place of Student's distribution.

    Args:
        values: One finite value per patient, at least two, not all equal.
        resamples: Number of resamples.
        seed: Seed; the same seed gives the same draws.

    Returns:
        ``(resampled mean - mean) / its own standard error``; a resample of one patient drawn every time has no standard
        error and is left out.

    Source:
        Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 12.5.

    Example:
        Of two patients every resample with a spread is the sample itself.

        >>> set(bootstrap_t_statistics(np.array([0.0, 1.0]), resamples=20, seed=0).tolist())
        {0.0}
    """
    size = values.size
    rng = np.random.default_rng(seed)
    centered = values - values.mean()  # so that the one-pass variance below does not cancel
    drawn = []
    step = max(1, DRAWS_AT_ONCE // size)
    for start in range(0, resamples, step):
        rows = rng.integers(size, size=(min(step, resamples - start), size), dtype=np.int32)
        rows = rows[(rows != rows[:, :1]).any(axis=1)]  # one patient drawn size times has no standard error
        sample = centered[rows]
        shifts = sample.mean(axis=1)
        variances = np.maximum(np.einsum("ij,ij->i", sample, sample) / size - shifts**2, 0) / (size - 1)
        drawn.append(shifts / np.sqrt(np.maximum(variances, np.finfo(float).tiny)))
    return np.concatenate(drawn)


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Exact interval of a proportion of patients.

    Args:
        successes: Patients with the property, e.g. in whom the network failed.
        trials: Patients looked at, at least one.
        level: Confidence level in (0, 1).

    Returns:
        The interval; 0 of 20 still allows for 16.8 %.

    Raises:
        ValueError: ``successes`` outside ``0..trials``, no trials, or a level outside (0, 1).

    Source:
        Clopper & Pearson 1934, Biometrika 26(4):404-413. doi:10.1093/biomet/26.4.404

    Example:
        >>> round(clopper_pearson(0, 20).high, 6)
        0.168433
    """
    _check_level(level)
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"successes is {successes} of trials {trials}, expected 0 <= successes <= trials with at least one trial; "
            "count patients, each once"
        )
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    high = stats.beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return Interval(float(low), float(high), level, "Clopper-Pearson over patients")


# --- Private helpers ---


def _standard_error(values: np.ndarray) -> float:
    if np.ptp(values) == 0:  # the mean of equal numbers may differ from them in the last bit
        return 0.0
    return float(values.std(ddof=1) / np.sqrt(values.size))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a number between 0 and 1 such as 0.95")


def _check(values: np.ndarray, level: float) -> None:
    _check_level(level)
    if values.size < 2:
        raise ValueError(f"values holds {values.size} patient(s), expected at least 2; one patient has no spread")
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise ValueError(
            f"{bad} of {values.size} values are NaN or infinite, expected finite ones; "
            "policy.summarize_values counts the others"
        )
