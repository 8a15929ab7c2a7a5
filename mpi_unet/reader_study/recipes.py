"""Recipes compared: the runs of several recipes on the same held-out patients, patient by patient."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.agreement import RecipeComparison, compare_recipes
from mpi_unet.agreement.schema import RECIPES_VERSION
from mpi_unet.errors import AgreementError, ConfigError, RunError, listing, nearest
from mpi_unet.evaluation.metrics import METRICS
from mpi_unet.evaluation.table import patient_means, read_scores
from mpi_unet.files import read_json, write_json
from mpi_unet.reader_study.as_json import number_json, of_estimate
from mpi_unet.reader_study.recipe_folds import over_folds
from mpi_unet.reader_study.runs_found import find_runs
from mpi_unet.run import FREE_KEYS, Run, flat_recipe

__all__ = ["MAX_ALL_PAIRS", "RECIPES", "compare_runs"]

RECIPES = "recipes.json"

FREE_OF_SEED = (*FREE_KEYS, "seed", "split.seed", "scenarios")
"""Keys in which two repetitions of one recipe may differ."""

MAX_ALL_PAIRS = 8
"""Up to so many recipes all pairs are compared; of more, each with one of them, or nothing would be left after Holm."""

OTHER_SCORES = ("dice", "iou", "nsd", "hd95_mm", "precision", "recall")

NOTE = (
    "Differences of the first recipe minus the second on the same held-out patients. Choosing the best recipe here is "
    "choosing on test patients: its own score is then optimistic. Choose by the validation score."
)


def compare_runs(
    given: str | Sequence[str],
    output: Path,
    *,
    metric: str = "dice",
    against: str | None = None,
    alpha: float = 0.025,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """Compare the recipes of several runs and write ``recipes.json``.

    Runs of one recipe that differ in nothing but their seed count as repetitions of it and are averaged per patient.

    Args:
        given: Run folders, folders that hold runs, or patterns.
        output: Folder for the result.
        metric: The score.
        against: Name of a run whose recipe the others are compared with; None compares all pairs, or, of more than
            :data:`MAX_ALL_PAIRS` recipes, each with the first.
        alpha: One-sided level; intervals have the level ``1 - 2 alpha``.
        seed: Seed of the permutations.
        resamples: Number of permutations.

    Returns:
        Content of ``recipes.json``.

    Raises:
        RunError: There are no such runs, or they belong to different cohorts, readers or units.
        ConfigError: ``against`` is none of the runs.
        AgreementError: Fewer than two recipes, or fewer than two patients whom all runs held out.
    """
    found = find_runs(given)
    runs = found.runs
    summaries = _summaries(runs, metric)
    groups = _by_recipe(runs)
    if len(groups) < 2:
        raise AgreementError(
            f"the {len(runs)} runs are one recipe with different seeds; expected two recipes or more, such as one with "
            "loss=dice and one with loss=cross_entropy"
        )
    base = _base(against, groups)
    values = {name: patient_means(read_scores(run.scores)).get(metric, {}) for name, run in runs.items()}
    patients = sorted(set().union(*values.values()))
    scores = _score_table(groups, values, patients)
    result = compare_recipes(
        scores, list(groups), patients=patients, against=base, alpha=alpha, resamples=resamples, seed=seed
    )
    counts = {len(members) for members in groups.values()}
    members = {name: [runs[run] for run in of_recipe] for name, of_recipe in groups.items()}
    varied = _varied(members)
    document = {
        "schema_version": RECIPES_VERSION,
        "metric": metric,
        "label": METRICS[metric].label,
        "level": round(1 - 2 * alpha, 10),
        "design": {
            key: next(iter(summaries.values()))["design"][key]
            for key in ("cohort", "reader", "domain", "label", "simulated_readers")
        },
        "n": result.n,
        "n_left_out": result.n_left_out,
        "num_seeds": min(counts),
        "against": base,
        "varied": sorted({key for keys in varied.values() for key in keys}),
        "recipes": [
            {
                "recipe": name,
                "runs": [_run(run, runs[run], values[run], patients, output) for run in groups[name]],
                "mean": of_estimate(mean),
                "validation": _validation([summaries[run] for run in groups[name]]),
                "scores": _other_scores([summaries[run] for run in groups[name]]),
                "settings": varied[name],
                "learning": _learning(members[name]),
            }
            for name, mean in zip(result.recipes, result.means, strict=True)
        ],
        "pairs": [
            pair | {"over_folds": over_folds(members[pair["a"]], members[pair["b"]], metric, 1 - 2 * alpha)}
            for pair in _pairs(result)
        ],
        "patients": _patients(scores, list(groups), patients),
        "incomplete": [{"run": name, "reason": reason} for name, reason in found.incomplete],
        "notes": [NOTE, *(result.notes if len(counts) == 1 else ()), *_notes(groups, counts, base, against)],
        "seeds": {"permutation": seed, "resamples": resamples},
    }
    write_json(output / RECIPES, document)
    return document


# --- Private helpers --------------------------------------------------------------------------------------------------


def _summaries(runs: Mapping[str, Run], metric: str) -> dict[str, Any]:
    """The summaries of the runs, which have to speak of the same thing."""
    summaries = {name: read_json(run.summary) for name, run in runs.items()}
    problems = [
        f"{name}: patients stand on both sides of its split, so its scores are not those of unseen patients"
        for name, summary in summaries.items()
        if summary["design"]["unit"] != "patient"
    ]
    for key in ("cohort", "reader", "domain", "label"):
        found = {name: str(summary["design"][key]) for name, summary in summaries.items()}
        if len(set(found.values())) > 1:
            problems.append(f"{key} is not the same: " + ", ".join(f"{name} {value}" for name, value in found.items()))
    problems += [
        f"{name}: {metric} was not measured" for name, one in summaries.items() if metric not in one["metrics"]
    ]
    if problems:
        raise RunError(f"these runs cannot be compared:\n{listing(problems)}\nGive runs on one cohort and one reader")
    return summaries


def _by_recipe(runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """Names of the runs of each recipe; a recipe is named after its first run."""
    groups: dict[str, list[str]] = {}
    keys: dict[str, str] = {}
    for name, run in runs.items():
        key = repr(sorted(flat_recipe(run.read_config(), FREE_OF_SEED).items(), key=str))
        groups.setdefault(keys.setdefault(key, name), []).append(name)
    return groups


def _base(against: str | None, groups: Mapping[str, Sequence[str]]) -> str | None:
    """The recipe that the others are compared with; None for all pairs."""
    if against is None:
        return next(iter(groups)) if len(groups) > MAX_ALL_PAIRS else None
    for recipe, members in groups.items():
        if against in members:
            return recipe
    names = [name for members in groups.values() for name in members]
    raise ConfigError(f"against={against} is none of the finished runs: {', '.join(names)}{nearest(against, names)}")


def _score_table(
    groups: Mapping[str, Sequence[str]], values: Mapping[str, Mapping[str, float]], patients: Sequence[str]
) -> np.ndarray:
    """Score of each recipe, patient and seed; the seeds of a recipe are averaged where recipes have unequal numbers."""
    tables = [
        np.array([[values[run].get(patient, np.nan) for run in members] for patient in patients])
        for members in groups.values()
    ]
    if len({table.shape[1] for table in tables}) > 1:
        tables = [table.mean(axis=1, keepdims=True) for table in tables]
    return np.stack(tables)


def _patients(scores: np.ndarray, recipes: Sequence[str], patients: Sequence[str]) -> list[dict[str, Any]]:
    """The patients that were compared, with the score of each recipe averaged over its seeds."""
    complete = np.isfinite(scores).all(axis=(0, 2))
    means = scores.mean(axis=2)
    return [
        {
            "patient_id": patient,
            "values": {recipe: float(value) for recipe, value in zip(recipes, means[:, place], strict=True)},
        }
        for place, patient in enumerate(patients)
        if complete[place]
    ]


def _varied(members: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, Any]]:
    """The keys in which the recipes differ, with each recipe's value; None where a recipe has no such key."""
    recipes = {name: flat_recipe(runs[0].read_config(), FREE_OF_SEED) for name, runs in members.items()}
    keys = sorted({key for recipe in recipes.values() for key in recipe})
    differing = [key for key in keys if len({repr(recipe.get(key)) for recipe in recipes.values()}) > 1]
    return {name: {key: recipe.get(key) for key in differing} for name, recipe in recipes.items()}


def _run(
    name: str, run: Run, values: Mapping[str, float], patients: Sequence[str], output: Path
) -> dict[str, str | int | float | None]:
    """One run: its seed, its own mean, and where its page lies, seen from the result."""
    report = Path(os.path.relpath(run.report, output.resolve())).as_posix() if run.report.is_file() else None
    return {"run": name, "seed": _seed(run), "mean": number_json(_mean(values, patients)), "report": report}


def _seed(run: Run) -> int | None:
    seed = run.read_config().get("seed")
    return None if seed is None else int(seed)


def _mean(values: Mapping[str, float], patients: Sequence[str]) -> float:
    found = [values[patient] for patient in patients if math.isfinite(values.get(patient, math.nan))]
    return float(np.mean(found)) if found else math.nan


def _validation(summaries: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean of the best validation Dice over folds and runs: what a recipe may be chosen by."""
    found = [fold.get("best_val_dice") for summary in summaries for fold in summary["folds"]]
    return None if not found or None in found else float(np.mean(found))


def _other_scores(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Further scores as the summaries have them, averaged over the runs."""
    scores: dict[str, Any] = {}
    for name in OTHER_SCORES:
        found = [summary["metrics"].get(name) for summary in summaries]
        if all(one is not None and isinstance(one.get("mean"), int | float) for one in found):
            scores[name] = {
                "label": METRICS[name].label,
                "unit": METRICS[name].unit,
                "mean": float(np.mean([one["mean"] for one in found])),
                "n_undefined": sum(int(one.get("n_undefined") or 0) for one in found),
                "n_infinite": sum(int(one.get("n_infinite") or 0) for one in found),
            }
    return scores


def _learning(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Validation Dice by epoch, of each fold of each run that kept its epochs."""
    curves = []
    for run in runs:
        for fold in read_json(run.summary)["folds"]:
            file = run.fold(int(fold["fold"])) / "metrics.csv"
            if not file.is_file():
                continue
            with file.open(newline="", encoding="utf-8") as lines:
                rows = [row for row in csv.DictReader(lines) if row.get("val_dice")]
            curves.append(
                {
                    "seed": _seed(run),
                    "fold": int(fold["fold"]),
                    "epoch": [int(row["epoch"]) + 1 for row in rows],
                    "val_dice": [round(float(row["val_dice"]), 5) for row in rows],
                }
            )
    return curves


def _pairs(result: RecipeComparison) -> list[dict[str, Any]]:
    return [
        {
            "a": pair.a,
            "b": pair.b,
            "delta": of_estimate(pair.delta),
            "p": pair.p_value,
            "p_holm": pair.p_holm,
            "p_sign_flip": pair.p_sign_flip,
            "seed_sd": pair.seed_sd,
        }
        for pair in result.pairs
    ]


def _notes(groups: Mapping[str, Sequence[str]], counts: set[int], base: str | None, against: str | None) -> list[str]:
    notes = []
    if len(counts) > 1:
        said = ", ".join(f"{name} {len(members)}" for name, members in groups.items() if len(members) != max(counts))
        notes.append(
            f"The recipes have different numbers of seeds ({said}; the others {max(counts)}): the seeds of each are "
            "averaged, and a mean of few is the less certain one. Train as many seeds of each"
        )
    if base is not None and against is None:
        notes.append(
            f"There are {len(groups)} recipes, so each was compared with the first one, {base}, and not with every "
            "other; against=<run> names another"
        )
    return notes
