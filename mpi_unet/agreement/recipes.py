"""Is one training recipe better than another? Differences on the same held-out patients.

A *recipe* is a way to train: a loss, a split, an augmentation. Every recipe predicts the same patients, from networks
that have seen the same other patients; several *seeds* of one recipe are averaged within a patient first, since they
are repetitions of the training and not more patients. *Holm* keeps the chance of any false claim among all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Real
from scipy import stats

from mpi_unet.agreement.estimate import Estimate, check_alpha, check_finite, check_level, check_patients
from mpi_unet.agreement.paired import paired_t, sign_flip_test
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = [
    "AdjustedP",
    "NadeauBengio",
    "RecipeComparison",
    "RecipePair",
    "adjusted_p_values",
    "compare_recipes",
    "holm",
    "nadeau_bengio",
]

FEW_SEEDS = 3
"""Below, the spread between two trainings of one recipe is not known."""


@dataclass(frozen=True)
class AdjustedP:
    """P-values of a family of ``n`` tests, as they were and adjusted; same order."""

    p_values: tuple[float, ...]
    adjusted: tuple[float, ...]
    method: str
    n: int


@dataclass(frozen=True)
class NadeauBengio:
    """Corrected resampled t test of ``n`` differences between splits; ``naive_p`` ignores that the splits overlap."""

    estimate: float
    interval: Interval
    n: int
    method: str
    statistic: float
    degrees_of_freedom: int
    p_value: float
    p_greater: float
    naive_p: float


@dataclass(frozen=True)
class RecipePair:
    """One recipe minus another over patients.

    ``p_holm`` is adjusted over all pairs of the comparison, ``p_sign_flip`` the permutation test of the same mean.
    ``seed_sd`` is the spread of the mean difference between seeds, None with a single one.
    """

    a: str
    b: str
    delta: Estimate
    p_value: float
    p_holm: float
    p_sign_flip: float
    seed_sd: float | None


@dataclass(frozen=True)
class RecipeComparison:
    """Pairs of recipes on the same patients; ``means`` holds each recipe's mean with its interval."""

    recipes: tuple[str, ...]
    means: tuple[Estimate, ...]
    pairs: tuple[RecipePair, ...]
    n: int
    n_left_out: int
    num_seeds: int
    notes: tuple[str, ...]


def compare_recipes(
    scores: Real[np.ndarray, "recipes patients seeds"],
    recipes: Sequence[str],
    *,
    patients: Sequence[str] | None = None,
    against: str | None = None,
    alpha: float = 0.025,
    resamples: int = 10_000,
    seed: int = 0,
) -> RecipeComparison:
    """Compare recipes patient by patient on the data that none of their networks saw.

    Args:
        scores: Score of each recipe on each held-out patient by the network of each seed; NaN where one is missing.
        recipes: Names of the recipes, in the order of the first axis.
        patients: Names of the patients; a name that occurs twice is refused.
        against: Compare each other recipe with this one only, as for a sweep of many; None compares all pairs.
        alpha: One-sided level; the intervals have the level ``1 - 2 * alpha``.
        resamples: Patterns of signs drawn for the permutation test.
        seed: Seed of that drawing.

    Returns:
        Each recipe's mean and each pair's difference, over the patients that every recipe and seed predicted. The
        intervals are not adjusted, the p-values are.

    Raises:
        AgreementError: Fewer than two recipes or complete patients, names that do not fit, a patient or recipe named
            twice, an infinite score, an ``against`` that is none of them, or an alpha outside (0, 0.5).

    Source:
        Holm 1979, Scand J Stat 6(2):65-70. https://www.jstor.org/stable/4615733

    Example:
        >>> scores = np.array([[[0.9], [0.8], [0.7]], [[0.8], [0.8], [0.6]]])
        >>> pair = compare_recipes(scores, ["dice", "cross_entropy"]).pairs[0]
        >>> round(pair.delta.value, 6), pair.p_holm == pair.p_value
        (0.066667, True)
    """
    check_alpha(alpha)
    check_patients(patients, scores.shape[1])
    if len(recipes) != len(scores) or len(set(recipes)) != len(recipes) or len(recipes) < 2:
        raise AgreementError(
            f"recipes is {list(recipes)} for {len(scores)} rows of scores; expected one name per recipe, each once, "
            "and two or more"
        )
    if against is not None and against not in recipes:
        raise AgreementError(f"against is {against!r}, expected one of the recipes: {', '.join(recipes)}")
    if np.isinf(scores).any():
        raise AgreementError(
            f"{int(np.isinf(scores).sum())} scores are infinite, expected finite ones, or NaN where a patient was not "
            "predicted (an infinite distance may enter as the image diagonal: evaluation.policy.for_mean)"
        )
    complete = np.isfinite(scores).all(axis=(0, 2))
    used, num_seeds = scores[:, complete], scores.shape[2]
    if used.shape[1] < 2:
        raise AgreementError(
            f"{used.shape[1]} of {scores.shape[1]} patients were predicted by every recipe and seed, expected 2 or "
            "more; compare recipes on the same held-out patients"
        )
    level = 1 - 2 * alpha
    by_patient = used.mean(axis=2)
    tests = []
    for one, other in _families(recipes, against):
        difference = by_patient[one] - by_patient[other]
        flips = sign_flip_test(difference, level=level, resamples=resamples, seed=seed)
        spread = (used[one] - used[other]).mean(axis=0)
        tests.append((one, other, paired_t(difference, level=level), flips, spread))
    adjusted = holm(np.array([test.p_value for _, _, test, _, _ in tests])).adjusted
    pairs = tuple(
        RecipePair(
            recipes[one],
            recipes[other],
            Estimate(test.estimate, test.interval, test.n, "mean over patients"),
            test.p_value,
            p_holm,
            flips.p_value,
            float(spread.std(ddof=1)) if num_seeds > 1 else None,
        )
        for (one, other, test, flips, spread), p_holm in zip(tests, adjusted, strict=True)
    )
    means = [paired_t(values, level=level) for values in by_patient]
    return RecipeComparison(
        recipes=tuple(recipes),
        means=tuple(Estimate(each.estimate, each.interval, each.n, "mean over patients") for each in means),
        pairs=pairs,
        n=int(used.shape[1]),
        n_left_out=int((~complete).sum()),
        num_seeds=num_seeds,
        notes=_notes(num_seeds),
    )


def nadeau_bengio(
    first: Real[np.ndarray, " splits"],
    second: Real[np.ndarray, " paired"] | None = None,
    *,
    n_train: int | float,
    n_test: int | float,
    level: float = 0.95,
) -> NadeauBengio:
    """Does one recipe beat another on data like this? t test over splits that share training patients.

    Scores of k folds are not k independent numbers: any two of their training sets overlap. The correction widens the
    variance by the ratio of test to training patients. With r divisions of k folds each, hand in all k * r differences.

    Args:
        first: Mean score of the first recipe in each split; or the differences themselves when ``second`` is None.
        second: Mean score of the second recipe in the same splits.
        n_train: Patients whose images fitted the weights in each split, on average. Patients who only chose the epoch
            (validation) are not among them: to count them in would make the correction too small.
        n_test: Patients that each split tests on, on average.
        level: Confidence level in (0, 1).

    Returns:
        The mean difference with its corrected interval, t with ``splits - 1`` degrees of freedom.

    Raises:
        AgreementError: Fewer than two splits, a value that is not finite, differences that are all equal, sizes below
            one, or a level outside (0, 1).

    Source:
        Nadeau & Bengio 2003, Machine Learning 52:239-281. doi:10.1023/A:1024068626366

    Example:
        Differences 0, 1, 2 of three folds: mean 1, variance 1, times 1/3 + 1/2 instead of 1/3.

        >>> round(nadeau_bengio(np.array([0.0, 1.0, 2.0]), n_train=20, n_test=10).statistic, 6)
        1.095445
    """
    check_level(level)
    if second is not None and first.shape != second.shape:
        raise AgreementError(f"there are {first.size} and {second.size} splits; compare recipes on the same splits")
    d = first if second is None else first - second
    check_finite(d, "differences between splits", 2)
    if min(n_train, n_test) < 1:
        raise AgreementError(f"n_train is {n_train} and n_test {n_test}, expected the number of patients in each")
    if np.ptp(d) <= 1e-12:
        raise AgreementError(
            f"all {d.size} differences are {d[0]}; without a spread between splits there is no test. Compare patients "
            "with compare_recipes"
        )
    k = int(d.size)
    mean, variance = float(d.mean()), float(d.var(ddof=1))
    error = float(np.sqrt(variance * (1 / k + n_test / n_train)))
    t, naive = mean / error, mean / float(np.sqrt(variance / k))
    half = float(stats.t.ppf((1 + level) / 2, k - 1)) * error
    method = "corrected resampled t over splits"
    return NadeauBengio(
        estimate=mean,
        interval=Interval(mean - half, mean + half, level, method),
        n=k,
        method=method,
        statistic=t,
        degrees_of_freedom=k - 1,
        p_value=float(2 * stats.t.sf(abs(t), k - 1)),
        p_greater=float(stats.t.sf(t, k - 1)),
        naive_p=float(2 * stats.t.sf(abs(naive), k - 1)),
    )


def holm(p_values: Real[np.ndarray, " tests"]) -> AdjustedP:
    """Adjust p-values so that the chance of any false claim among them stays below alpha.

    Args:
        p_values: P-values of the whole family, in any order.

    Returns:
        Adjusted p-values: compare each with alpha.

    Raises:
        AgreementError: No p-value, or one outside [0, 1] or NaN.

    Source:
        Holm 1979, Scand J Stat 6(2):65-70. https://www.jstor.org/stable/4615733

    Example:
        The smallest of three counts three times, the next twice.

        >>> [round(p, 6) for p in holm(np.array([0.01, 0.04, 0.03])).adjusted]
        [0.03, 0.06, 0.06]
    """
    return adjusted_p_values(p_values, "holm")


def adjusted_p_values(
    p_values: Real[np.ndarray, " tests"], method: Literal["holm", "bonferroni", "bh", "by"] = "holm"
) -> AdjustedP:
    """Adjust p-values for the size of their family.

    Args:
        p_values: P-values of the whole family, in any order.
        method: "holm" or "bonferroni" limit the chance of any false claim; "bh" (Benjamini-Hochberg) and "by"
            (Benjamini-Yekutieli) the share of false ones among the claims, for exploratory grids of subgroups only.

    Returns:
        Adjusted p-values in the order given.

    Raises:
        AgreementError: No p-value, or one outside [0, 1] or NaN.

    Source:
        Benjamini & Hochberg 1995, J R Stat Soc B 57(1):289-300. doi:10.1111/j.2517-6161.1995.tb02031.x

    Example:
        >>> [round(p, 6) for p in adjusted_p_values(np.array([0.01, 0.04, 0.03]), "bh").adjusted]
        [0.03, 0.04, 0.04]
    """
    from statsmodels.stats.multitest import multipletests  # slow to import

    if p_values.size == 0 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise AgreementError(f"p_values is {p_values.tolist()}, expected one or more numbers from 0 to 1")
    names = {"holm": "holm", "bonferroni": "bonferroni", "bh": "fdr_bh", "by": "fdr_by"}
    adjusted = multipletests(p_values, method=names[method])[1]
    return AdjustedP(tuple(float(p) for p in p_values), tuple(float(p) for p in adjusted), method, int(p_values.size))


# --- Private helpers ---


def _families(recipes: Sequence[str], against: str | None) -> list[tuple[int, int]]:
    """Places of the recipes of each pair: every other one minus ``against``, or all pairs."""
    if against is None:
        return list(combinations(range(len(recipes)), 2))
    base = list(recipes).index(against)
    return [(place, base) for place in range(len(recipes)) if place != base]


def _notes(num_seeds: int) -> tuple[str, ...]:
    if num_seeds >= FEW_SEEDS:
        return ()
    return (
        f"{num_seeds} seed(s) per recipe: a difference may be that of two trainings of one recipe; train at least "
        f"{FEW_SEEDS}",
    )
