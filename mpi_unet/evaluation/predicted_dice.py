"""What Dice a mask will have that nobody outlined: predicted, with an interval, from cases with a known Dice.

Two figures need no reader. The *expected Dice* of a mask M under probabilities p is

    s = 2 * (sum of p over M) / (sum of p over the image + size of M)

and would be the Dice if the probabilities were calibrated; those of networks trained with a Dice loss are not. The
*agreement* a is the Dice between the masks of two networks that did not learn the case. Their deficits, 1 - s and
1 - a, predict the deficit of the true Dice by a regression with coefficients of zero or more: a network that is less
sure, or networks that agree less, never predict a better mask.

What is predicted for is the mask of the *mean* of k networks, which is better than that of one. Where m networks did
not learn a case, the Dice of the mask of their mean shows by how much: a share g * (1 - 1/m) of the deficit goes. The
mean of k networks loses g * (1 - 1/k) of it.

The interval is conformal: the deviations of cases that the regression did not see, each divided by the predicted
deficit, give the number by which the predicted deficit of a new case is multiplied. Patients, not cases, are left out
and counted. One set of training patients judges thousands of new ones, so the interval is to hold for these, and not
only on average over training sets that nobody will draw: the rank of the deviation is that of a tolerance interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import nnls
from scipy.stats import beta

from mpi_unet.evaluation.overlap import dice, frame_counts

__all__ = [
    "DicePredictor",
    "HeldOut",
    "PredictedDice",
    "agreement",
    "expected_dice",
    "fit_predictor",
    "tolerance_rank",
    "volume_spread_pct",
]

LEVEL = 0.90
"""Share of new patients whose Dice the interval is to hold."""

CONFIDENCE = 0.90
"""Share of training sets for which it holds that many."""

MIN_PATIENTS = 9
"""From so many patients on there is an interval: the largest of 9 deviations is exceeded by the 10th with probability
1/10. From 22 on the largest one also has the confidence above, 0.9 ** 22 being less than 0.1."""

SMALLEST_DEFICIT = 0.01
"""A predicted deficit is taken to be at least this in the interval: no two readers agree better."""


@dataclass(frozen=True)
class HeldOut:
    """What the networks that did not learn a case say of it, and how good they are.

    Attributes:
        patient: Whose case it is.
        figures: Of each network what the regression is made with: expected Dice, and agreement where it is used.
        dice: Of the mask of each network, with the reader.
        mean_dice: Of the mask of their mean probability.
    """

    patient: str
    figures: tuple[tuple[float, ...], ...]
    dice: tuple[float, ...]
    mean_dice: float


@dataclass(frozen=True)
class PredictedDice:
    """Predicted Dice of one mask.

    Attributes:
        value: In [0, 1].
        low: End of the interval; None where too few patients were there.
        high: Likewise.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DicePredictor:
    """A regression of the deficit of Dice on deficits that need no reader, with its conformal quantile.

    Attributes:
        coefficients: Of 1 and of the deficit of each figure, all of them at least 0; for one network.
        gain: Share of the deficit that the mean of endlessly many networks takes away; 0 where it could not be seen.
        quantile: Of the absolute deviations, in predicted deficits; None with fewer than ``MIN_PATIENTS`` patients.
        left_out: Predicted Dice of each case without its patient.
        mean_absolute_error: Of ``left_out``, each patient counting once.
        num_patients: Patients.
    """

    coefficients: tuple[float, ...]
    gain: float
    quantile: float | None
    left_out: tuple[float, ...]
    mean_absolute_error: float
    num_patients: int

    def __call__(self, figures: Sequence[Sequence[float]]) -> PredictedDice:
        """Prediction for the mean of the networks that spoke about a case.

        Args:
            figures: Of each network the figures (expected Dice, agreement) that the regression was made with.
        """
        deficit = _deficit(np.array(self.coefficients), self.gain, figures)
        value = min(max(1 - deficit, 0.0), 1.0)
        if self.quantile is None:
            return PredictedDice(value, None, None)
        width = self.quantile * max(deficit, SMALLEST_DEFICIT)
        return PredictedDice(value, max(value - width, 0.0), min(value + width, 1.0))


def expected_dice(probability: Float[np.ndarray, "*axes"], mask: Bool[np.ndarray, "*axes"]) -> float:
    """Dice of a mask if each voxel were LV with its probability; 0 for an empty mask.

    Source:
        Borges, Pacheco, Silva 2024, Soft Dice Confidence, arXiv:2402.10665.

    Example:
        One voxel of probability 1 and one of 0.5, both inside: 2 x 1.5 / (1.5 + 2).

        >>> round(expected_dice(np.array([1.0, 0.5]), np.array([True, True])), 4)
        0.8571
    """
    number = int(np.count_nonzero(mask))
    if number == 0:
        return 0.0
    inside = float(probability[mask].sum(dtype=np.float64))
    return 2 * inside / (float(probability.sum(dtype=np.float64)) + number)


def agreement(masks: Sequence[Bool[np.ndarray, "z y x"]]) -> list[float]:
    """Of each of two or more masks, its mean Dice with the others; 0 beside an empty one.

    Example:
        >>> one, two = np.zeros((1, 1, 4), bool), np.zeros((1, 1, 4), bool)
        >>> one[..., :2], two[..., 1:3] = True, True
        >>> agreement([one, two])
        [0.5, 0.5]
    """
    number = len(masks)
    table = np.zeros((number, number))
    for i in range(number):
        for j in range(i):
            value = float(dice(frame_counts(masks[i], masks[j]).sum(axis=0)))
            table[i, j] = table[j, i] = 0.0 if math.isnan(value) else value
    return [float(row.sum() / (number - 1)) for row in table]


def volume_spread_pct(sizes: Sequence[float]) -> float:
    """Standard deviation of the sizes of some masks of one case in percent of their mean; NaN if all are empty.

    Example:
        >>> round(volume_spread_pct([90.0, 110.0]), 2)
        14.14
    """
    mean = float(np.mean(sizes))
    return 100 * float(np.std(sizes, ddof=1)) / mean if mean > 0 else float("nan")


def tolerance_rank(num_patients: int) -> int:
    """Which of the deviations of n patients, from the smallest, is the width of the interval.

    The share of new patients whose deviation is at most the k-th of n has the distribution Beta(k, n + 1 - k) over sets
    of n patients. The rank is the smallest one with which that share is ``LEVEL`` or more in ``CONFIDENCE`` of the
    sets; n where there are too few patients for that.

    Source:
        Vovk 2012, Proceedings of Machine Learning Research 25:475-490, Wilks 1941, Annals of
        Mathematical Statistics 12:91-96. doi:10.1214/aoms/1177731788. That it holds for leaving out too where the
        regression changes little with one patient: Liang, Barber 2023, arXiv:2311.04295.

    Example:
        >>> [tolerance_rank(n) for n in (9, 21, 22, 38, 100, 1000)]
        [9, 21, 22, 37, 95, 913]
    """
    ranks = np.arange(1, num_patients + 1)
    holds = beta.sf(LEVEL, ranks, num_patients + 1 - ranks) >= CONFIDENCE
    return int(ranks[holds][0]) if holds.any() else num_patients


def fit_predictor(cases: Sequence[HeldOut]) -> DicePredictor:
    """Fit the regression, each patient weighing the same, and calibrate its interval.

    Args:
        cases: By networks that did not learn them, all with the same figures.

    Raises:
        ValueError: There are fewer than two patients.

    Source:
        Lei, G'Sell, Rinaldo, Tibshirani, Wasserman 2018, JASA 113:1094-1111, section 5.2 (deviations divided by their
        expected size). doi:10.1080/01621459.2017.1307116. Barber, Candes, Ramdas, Tibshirani 2021, Annals of Statistics
        49:486-507 (leaving out). doi:10.1214/20-AOS1965. Dunn, Wasserman, Ramdas 2023, JASA 118:2491-2502 (several
        cases of one patient). doi:10.1080/01621459.2022.2060112. Krogh, Vedelsby 1995, Advances in Neural Information
        Processing Systems 7:231-238 (what the mean of networks gains).

    Example:
        Dice is 0.1 below the expected one, always.

        >>> cases = [HeldOut(f"P{i}", ((s,),), (s - 0.1,), s - 0.1) for i, s in enumerate(np.linspace(0.6, 0.95, 10))]
        >>> predictor = fit_predictor(cases)
        >>> [round(one, 6) for one in predictor.coefficients], round(predictor([[0.8]]).value, 6)
        ([0.1, 1.0], 0.7)
    """
    names = [case.patient for case in cases]
    different = sorted(set(names))
    if len(different) < 2:
        raise ValueError(f"cases of {len(different)} patients; expected at least 2")
    weight = {name: 1 / names.count(name) for name in different}
    left_out = np.empty(len(cases))
    for name in different:
        coefficients, gain = _fit([case for case in cases if case.patient != name], weight)
        for position, case in enumerate(cases):
            if case.patient == name:
                left_out[position] = min(_deficit(coefficients, gain, case.figures), 1.0)
    error = np.abs(1 - np.array([case.mean_dice for case in cases]) - left_out)
    weights = np.array([weight[name] for name in names])
    coefficients, gain = _fit(cases, weight)
    return DicePredictor(
        coefficients=tuple(map(float, coefficients)),
        gain=gain,
        quantile=_quantile(error / np.maximum(left_out, SMALLEST_DEFICIT), weights, len(different)),
        left_out=tuple(map(float, 1 - left_out)),
        mean_absolute_error=float(np.average(error, weights=weights)),
        num_patients=len(different),
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _fit(cases: Sequence[HeldOut], weight: dict[str, float]) -> tuple[Float[np.ndarray, " coefficient"], float]:
    """Coefficients for one network, and what the mean of networks gains."""
    rows = [
        (math.sqrt(weight[case.patient] / len(case.dice)), figures, one)
        for case in cases
        for figures, one in zip(case.figures, case.dice, strict=True)
    ]
    root = np.array([row[0] for row in rows])
    design = np.column_stack([np.ones(len(rows)), 1 - np.array([row[1] for row in rows], dtype=np.float64)])
    deficit = 1 - np.array([row[2] for row in rows])
    return nnls(design * root[:, None], deficit * root)[0], _gain(cases, weight)


def _gain(cases: Sequence[HeldOut], weight: dict[str, float]) -> float:
    """Share of the deficit; what the mean of m networks gained is (1 - 1/m) of it."""
    several = [case for case in cases if len(case.dice) > 1]
    gained = sum(weight[case.patient] * (case.mean_dice - float(np.mean(case.dice))) for case in several)
    could = sum(weight[case.patient] * (1 - 1 / len(case.dice)) * (1 - float(np.mean(case.dice))) for case in several)
    return float(min(max(gained / could, 0.0), 1.0)) if could > 0 else 0.0


def _deficit(coefficients: Float[np.ndarray, " coefficient"], gain: float, figures: Sequence[Sequence[float]]) -> float:
    """Of the mean of networks that gave these figures."""
    alone = coefficients[0] + (1 - np.array(figures, dtype=np.float64)) @ coefficients[1:]
    return float(alone.mean()) * (1 - gain * (1 - 1 / len(figures)))


def _quantile(
    scores: Float[np.ndarray, " case"], weight: Float[np.ndarray, " case"], num_patients: int
) -> float | None:
    """The smallest score that so many patients as the rank says do not exceed; None with too few patients."""
    if num_patients < MIN_PATIENTS:
        return None
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weight[order]) >= tolerance_rank(num_patients) - 1e-9
    return float(scores[order][np.argmax(reached)])
