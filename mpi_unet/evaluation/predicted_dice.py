"""What Dice a mask will have that nobody outlined: predicted, with an interval, from cases with a known Dice.

Two figures need no reader. The *expected Dice* of a mask M under probabilities p is

    s = 2 * (sum of p over M) / (sum of p over the image + size of M)

and would be the Dice if the probabilities were calibrated; those of networks trained with a Dice loss are not. The
*agreement* a is the Dice between the masks of two networks that did not learn the case. Their deficits, 1 - s and
1 - a, predict the deficit of the true Dice by a regression with coefficients of zero or more: a network that is less
sure, or networks that agree less, never predict a better mask.

The interval is conformal: the deviations of cases that the regression did not see, each divided by the predicted
deficit, give the quantile by which the predicted deficit of a new case is multiplied. Patients, not cases, are left out
and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import nnls

from mpi_unet.evaluation.overlap import dice, frame_counts

__all__ = ["DicePredictor", "PredictedDice", "agreement", "expected_dice", "fit_predictor", "volume_spread_pct"]

LEVEL = 0.90
"""Of the interval."""

MIN_PATIENTS = 9
"""From so many patients on there is an interval of this level: the largest of 9 deviations is exceeded by the 10th with
probability 1/10."""

SMALLEST_DEFICIT = 0.01
"""A predicted deficit is taken to be at least this in the interval: no two readers agree better."""


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
        coefficients: Of 1 and of the deficit of each figure, all of them at least 0.
        quantile: Of the absolute deviations, in predicted deficits; None with fewer than ``MIN_PATIENTS`` patients.
        left_out: Predicted Dice of each case by the regression without its patient.
        mean_absolute_error: Of ``left_out``, each patient counting once.
        num_patients: Patients.
    """

    coefficients: tuple[float, ...]
    quantile: float | None
    left_out: tuple[float, ...]
    mean_absolute_error: float
    num_patients: int

    def __call__(self, figures: Sequence[Sequence[float]]) -> PredictedDice:
        """Mean prediction over the networks that spoke about a case.

        Args:
            figures: Of each network the figures (expected Dice, agreement) that the regression was made with.
        """
        deficit = float(np.mean(_deficits(np.array(self.coefficients), np.array(figures, dtype=np.float64))))
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


def fit_predictor(
    figures: Float[np.ndarray, "case figure"], target: Float[np.ndarray, " case"], patients: Sequence[str]
) -> DicePredictor:
    """Fit the regression, each patient weighing the same, and calibrate its interval.

    Args:
        figures: Expected Dice, and agreement where it is used, by networks that did not learn the case.
        target: Dice with the reader.
        patients: Whose case it is.

    Raises:
        ValueError: There are fewer than two patients.

    Source:
        Lei, G'Sell, Rinaldo, Tibshirani, Wasserman 2018, JASA 113:1094-1111, section 5.2 (deviations divided by their
        expected size). doi:10.1080/01621459.2017.1307116. Barber, Candes, Ramdas, Tibshirani 2021, Annals of Statistics
        49:486-507 (leaving out). doi:10.1214/20-AOS1965. Dunn, Wasserman, Ramdas 2023, JASA 118:2491-2502 (several
        cases of one patient). doi:10.1080/01621459.2022.2060112.

    Example:
        Dice is 0.1 below the expected one, always.

        >>> s = np.linspace(0.6, 0.95, 10)
        >>> predictor = fit_predictor(s[:, None], s - 0.1, [f"P{i}" for i in range(10)])
        >>> [round(one, 6) for one in predictor.coefficients], round(predictor([[0.8]]).value, 6)
        ([0.1, 1.0], 0.7)
    """
    names = np.array(patients)
    different = sorted(set(patients))
    if len(different) < 2:
        raise ValueError(f"cases of {len(different)} patients; expected at least 2")
    weight = np.array([1 / np.count_nonzero(names == name) for name in names])
    deficit = 1 - target
    left_out = np.empty(len(target))
    for name in different:
        out = names == name
        left_out[out] = _deficits(_coefficients(figures[~out], deficit[~out], weight[~out]), figures[out])
    left_out = np.clip(left_out, 0, 1)
    error = np.abs(deficit - left_out)
    return DicePredictor(
        coefficients=tuple(map(float, _coefficients(figures, deficit, weight))),
        quantile=_quantile(error / np.maximum(left_out, SMALLEST_DEFICIT), weight, len(different)),
        left_out=tuple(map(float, 1 - left_out)),
        mean_absolute_error=float(np.average(error, weights=weight)),
        num_patients=len(different),
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _coefficients(
    figures: Float[np.ndarray, "case figure"], deficit: Float[np.ndarray, " case"], weight: Float[np.ndarray, " case"]
) -> Float[np.ndarray, " coefficient"]:
    root = np.sqrt(weight)
    design = np.column_stack([np.ones(len(deficit)), 1 - figures])
    return nnls(design * root[:, None], deficit * root)[0]


def _deficits(
    coefficients: Float[np.ndarray, " coefficient"], figures: Float[np.ndarray, "case figure"]
) -> Float[np.ndarray, " case"]:
    return coefficients[0] + (1 - figures) @ coefficients[1:]


def _quantile(
    scores: Float[np.ndarray, " case"], weight: Float[np.ndarray, " case"], num_patients: int
) -> float | None:
    """The smallest score that LEVEL of the patients, and the new one besides, do not exceed; None if there is none."""
    wanted = LEVEL * (num_patients + 1)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weight[order]) >= wanted - 1e-9
    return float(scores[order][np.argmax(reached)]) if reached.any() else None
