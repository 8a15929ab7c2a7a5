"""Two recipes over the folds that both were trained on: the corrected test of splits that share training patients.

A *division* is one way to put the patients into folds. Runs of both recipes on the same division are compared fold by
fold. Several seeds on one division repeat the training and not the division, so they are averaged within the fold;
further divisions bring further splits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpi_unet.agreement import nadeau_bengio
from mpi_unet.files import read_json
from mpi_unet.reader_study.as_json import estimate_json
from mpi_unet.run import Run

__all__ = ["over_folds"]


def over_folds(first: Sequence[Run], second: Sequence[Run], metric: str, level: float) -> dict[str, Any]:
    """Corrected resampled t test over all folds of all divisions that both recipes were trained on.

    The correction divides the patients of a fold that are scored by those whose images fitted the weights. Validation
    patients, who chose the epoch, belong to neither: counted as training patients they would shrink the correction.

    Args:
        first: Runs of one recipe.
        second: Runs of the other.
        metric: The score.
        level: Confidence level of the interval.

    Returns:
        ``test`` (None where there is none, and ``why_not`` says why) with the estimate, p, the number of divisions and
        folds, and the training and test patients of a fold on average.
    """
    runs = [_by_division(first), _by_division(second)]
    differences, train, test = [], [], []
    shared = [division for division in runs[0] if division in runs[1]]
    for division in shared:
        means = [_fold_means(side[division], metric) for side in runs]
        for place, fold in enumerate(json.loads(division)):
            if place in means[0] and place in means[1]:
                differences.append(means[0][place] - means[1][place])
                train.append(len(fold["train"]))
                test.append(len(fold["test"]))
    why_not = _why_not(shared, differences)
    if why_not:
        return {"test": None, "why_not": why_not}
    n_train, n_test = float(np.mean(train)), float(np.mean(test))
    result = nadeau_bengio(np.array(differences), n_train=n_train, n_test=n_test, level=level)
    return {
        "test": estimate_json(result.estimate, result.n, result.interval, result.method)
        | {"p": result.p_value, "divisions": len(shared), "n_train": n_train, "n_test": n_test},
        "why_not": "",
    }


# --- Private helpers --------------------------------------------------------------------------------------------------


def _by_division(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by their folds, written so that equal divisions are equal texts."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        sides = [
            {side: sorted(fold[side]) for side in ("train", "val", "test")} for fold in read_json(run.splits)["folds"]
        ]
        found.setdefault(json.dumps(sides), []).append(run)
    return found


def _fold_means(runs: Sequence[Run], metric: str) -> dict[int, float]:
    """Mean score of each fold, averaged over the runs; folds without a score in any run are left out."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for fold in read_json(run.summary)["folds"]:
            if isinstance(fold.get(metric), int | float):
                values.setdefault(int(fold["fold"]), []).append(float(fold[metric]))
    return {fold: float(np.mean(found)) for fold, found in values.items() if len(found) == len(runs)}


def _why_not(shared: Sequence[Mapping[str, Any] | str], differences: Sequence[float]) -> str:
    if not shared:
        return "the recipes were not trained on the same folds"
    if len(differences) < 2:
        return "there are fewer than two folds"
    if np.ptp(differences) <= 1e-12:
        return "all folds have the same difference"
    return ""
