"""Recipes compared: the runs of several recipes on the same held-out patients, patient by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mpi_unet.agreement import RecipeComparison, compare_recipes, nadeau_bengio
from mpi_unet.agreement.phrases import amount
from mpi_unet.errors import AgreementError, RunError, listing
from mpi_unet.evaluation.table import patient_means, read_scores
from mpi_unet.files import read_json, write_json
from mpi_unet.reader_study.as_json import estimate_json, of_estimate
from mpi_unet.run import FREE_KEYS, Run, flat_recipe

__all__ = ["RECIPES", "compare_runs", "say_recipes"]

RECIPES = "recipes.json"
SCHEMA_VERSION = "1.0.0"

FREE_OF_SEED = (*FREE_KEYS, "seed", "split.seed", "scenarios")
"""Keys in which two repetitions of one recipe may differ."""

NOTE = (
    "Differences of the first recipe minus the second on the same held-out patients. Choosing the best recipe here is "
    "choosing on test patients: its own score is then optimistic."
)


def compare_runs(
    folders: Sequence[str], output: Path, *, metric: str = "dice", alpha: float = 0.025, seed: int, resamples: int
) -> dict[str, Any]:
    """Compare the recipes of several runs and write ``recipes.json``.

    Runs of one recipe that differ in nothing but their seed count as repetitions of it and are averaged per patient.

    Args:
        folders: Run folders, assessed.
        output: Folder for the result.
        metric: The score.
        alpha: One-sided level; intervals have the level ``1 - 2 alpha``.
        seed: Seed of the permutations.
        resamples: Number of permutations.

    Returns:
        Content of ``recipes.json``.

    Raises:
        RunError: A folder is no assessed run, or the runs belong to different cohorts, readers or units.
        AgreementError: Fewer than two recipes, or fewer than two patients whom all runs held out.
    """
    runs = {_name(folder, folders): Run(Path(folder)) for folder in folders}
    summaries = _summaries(runs, metric)
    groups = _by_recipe(runs)
    if len(groups) < 2:
        raise AgreementError(
            f"the {len(runs)} runs are one recipe with different seeds; expected two recipes or more, such as one with "
            "loss=dice and one with loss=cross_entropy"
        )
    seeds = {len(members) for members in groups.values()}
    if len(seeds) > 1:
        counts = [f"{name}: {len(members)} runs" for name, members in groups.items()]
        raise AgreementError(
            f"the recipes have different numbers of seeds:\n{listing(counts)}\nGive as many runs of each recipe"
        )
    values = {name: patient_means(read_scores(run.scores)).get(metric, {}) for name, run in runs.items()}
    patients = sorted(set().union(*values.values()))
    scores = np.array(
        [[[values[run].get(patient, np.nan) for run in members] for patient in patients] for members in groups.values()]
    )
    result = compare_recipes(scores, list(groups), patients=patients, alpha=alpha, resamples=resamples, seed=seed)
    document = {
        "schema_version": SCHEMA_VERSION,
        "metric": metric,
        "cohort": next(iter(summaries.values()))["design"]["cohort"],
        "n": result.n,
        "n_left_out": result.n_left_out,
        "num_seeds": result.num_seeds,
        "recipes": [
            {"recipe": name, "runs": list(groups[name]), "mean": of_estimate(mean)}
            for name, mean in zip(result.recipes, result.means, strict=True)
        ],
        "pairs": [pair | {"over_folds": _over_folds(pair, groups, runs, metric)} for pair in _pairs(result)],
        "notes": [NOTE, *result.notes],
        "seeds": {"permutation": seed, "resamples": resamples},
    }
    write_json(output / RECIPES, document)
    return document


def say_recipes(document: Mapping[str, Any], console: Console) -> None:
    """Two tables: the recipes, and their differences."""
    means = Table("recipe", document["metric"], "interval", "patients", "seeds", box=None)
    for one in document["recipes"]:
        means.add_row(
            one["recipe"],
            amount(one["mean"]["value"]),
            _ends(one["mean"]["interval"]),
            str(document["n"]),
            str(document["num_seeds"]),
        )
    pairs = Table("first - second", "difference", "interval", "p (Holm)", "p over folds", box=None)
    for pair in document["pairs"]:
        folds = pair["over_folds"]
        pairs.add_row(
            f"{pair['a']} - {pair['b']}",
            amount(pair["delta"]["value"], sign=True),
            _ends(pair["delta"]["interval"]),
            amount(pair["p_holm"]),
            "-" if folds is None else amount(folds["p"]),
        )
    console.print(means)
    console.print(pairs)
    for note in document["notes"]:
        console.print(note)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _name(folder: str, folders: Sequence[str]) -> str:
    """Name of a run's folder, with its parent's where two are called the same."""
    path = Path(folder).resolve()
    is_unique = sum(Path(other).resolve().name == path.name for other in folders) == 1
    return path.name if is_unique else f"{path.parent.name}/{path.name}"


def _summaries(runs: Mapping[str, Run], metric: str) -> dict[str, Any]:
    """The summaries of the runs, which have to speak of the same thing."""
    missing = [str(run.folder) for run in runs.values() if not run.summary.is_file()]
    if missing:
        raise RunError(
            f"{len(missing)} folders hold no summary.json, so they are no finished runs:\n{listing(missing)}\n"
            "Give their training commands again, or evaluate run=<folder>"
        )
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


def _over_folds(
    pair: Mapping[str, Any], groups: Mapping[str, Sequence[str]], runs: Mapping[str, Run], metric: str
) -> dict[str, Any] | None:
    """Corrected resampled t test over folds, where both recipes were trained on the same ones; else None."""
    first, second = runs[groups[pair["a"]][0]], runs[groups[pair["b"]][0]]
    splits = [read_json(run.splits) for run in (first, second)]
    if splits[0]["folds"] != splits[1]["folds"] or len(splits[0]["folds"]) < 2:
        return None
    means = [{fold["fold"]: fold[metric] for fold in read_json(run.summary)["folds"]} for run in (first, second)]
    folds = [fold for fold in means[0] if means[0][fold] is not None and means[1].get(fold) is not None]
    if len(folds) < 2:
        return None
    sides = splits[0]["folds"]
    test = nadeau_bengio(
        np.array([means[0][fold] for fold in folds]),
        np.array([means[1][fold] for fold in folds]),
        n_train=round(float(np.mean([len(fold["train"]) + len(fold["val"]) for fold in sides]))),
        n_test=round(float(np.mean([len(fold["test"]) for fold in sides]))),
    )
    return estimate_json(test.estimate, test.n, test.interval, test.method) | {"p": test.p_value}


def _ends(interval: Mapping[str, Any] | None) -> str:
    return "-" if interval is None else f"{amount(interval['low'])} to {amount(interval['high'])}"
