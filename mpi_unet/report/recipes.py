"""The page of recipes that were compared: ``report.html`` from ``recipes.json``.

Two recipes or a sweep of a hundred: means and differences with intervals, every patient, what differs in the settings,
how each learnt, and the runs that are not finished. Recipes stand in the order of their validation score, for that is
what one may choose by; nothing on the page names a winner on the held-out patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpi_unet.errors import AgreementError
from mpi_unet.files import read_json, write_text
from mpi_unet.report import recipe_figures as figures
from mpi_unet.report.agreement_words import (
    counted,
    estimate_cells,
    interval_words,
    mapping,
    p_words,
    printable,
    signed,
    value_of,
)
from mpi_unet.report.page import render
from mpi_unet.report.wording import as_float, number

__all__ = ["write_recipes_report"]

FILE = "recipes.json"
SCHEMA_MAJOR = "2"
MANY = 8
"""With more recipes than this the page is one of a sweep: single patients and pairs are too many to draw."""


def write_recipes_report(folder: Path) -> Path:
    """Write ``<folder>/report.html`` and ``<folder>/figures/recipes_*.svg`` from ``<folder>/recipes.json``.

    Args:
        folder: Where ``recipes.json`` lies.

    Returns:
        The path of the page.

    Raises:
        AgreementError: ``recipes.json`` is missing or of another version.
        RunError: The folder cannot be written to.
    """
    document = _read(folder / FILE)
    label = printable(document["label"])
    recipes = _by_validation(document["recipes"])
    charts = {
        "scores": figures.scores(recipes, label),
        "differences": figures.differences(document["pairs"], label),
        "patients": figures.patients_chart(document, recipes, label),
        "validation": figures.validation_chart(recipes, label),
    }
    settings, learning = figures.setting_charts(document, label), figures.learning(recipes)
    for drawn in [*(chart for chart in charts.values() if chart), *settings, *learning]:
        write_text(folder / "figures" / f"{drawn.name}.svg", drawn.standalone)
    columns = list(dict.fromkeys(name for one in recipes for name in one["scores"] if name != document["metric"]))
    page = render(
        "recipes.html.jinja",
        title=printable(document["design"]["cohort"]),
        label=label,
        level=f"{100 * document['level']:g} %",
        simulated=bool(document["design"]["simulated_readers"]),
        headline=_headline(document, recipes, label),
        n=counted(document["n"], "patient"),
        n_left_out=document["n_left_out"],
        many=len(recipes) > MANY,
        against=document["against"],
        columns=[_column(recipes, name) for name in columns],
        rows=[_recipe_row(one, columns) for one in recipes],
        pairs=[_pair_row(pair) for pair in document["pairs"]],
        charts=charts,
        settings=settings,
        varied=document["varied"],
        setting_rows=[
            {
                "recipe": printable(one["recipe"]),
                "cells": [_setting(one["settings"].get(key)) for key in document["varied"]],
            }
            for one in recipes
        ],
        learning=learning,
        learning_left_out=max(0, sum(bool(one["learning"]) for one in recipes) - figures.MAX_CURVES),
        incomplete=[(printable(row["run"]), printable(row["reason"])) for row in document["incomplete"]],
        notes=document["notes"],
        limits=_limits(document),
        facts=_facts(document),
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


# --- Private helpers ---


def _read(path: Path) -> dict[str, Any]:
    again = "compare the runs again with python -m mpi_unet.evaluate runs=..."
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise AgreementError(f"{path} cannot be read ({error}); {again}") from error
    version = str(document.get("schema_version", "missing")) if isinstance(document, dict) else "missing"
    if version.partition(".")[0] != SCHEMA_MAJOR:
        raise AgreementError(f"{path} has schema_version {version}, expected {SCHEMA_MAJOR}.x; {again}")
    return dict(document)


def _by_validation(recipes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Highest validation score first, where every recipe has one; else as they were given."""
    if any(one.get("validation") is None for one in recipes):
        return list(recipes)
    return sorted(recipes, key=lambda one: (-as_float(one["validation"]), str(one["recipe"])))


def _headline(document: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]], label: str) -> str:
    """What was compared and what came out, in the order of the pairs; no recipe is called better."""
    means = [value_of(one["mean"]) for one in recipes]
    text = (
        f"{len(recipes)} recipes on the same {counted(document['n'], 'held-out patient')}: mean {label} from "
        f"{number(min(means))} to {number(max(means))}."
    )
    pairs = document["pairs"]
    if len(pairs) == 1:
        delta = pairs[0]["delta"]
        return (
            f"{text} {printable(pairs[0]['a'])} minus {printable(pairs[0]['b'])}: {signed(value_of(delta))} "
            f"({100 * document['level']:g} % CI {interval_words(mapping(delta).get('interval'), is_difference=True)})."
        )
    alpha = 1 - document["level"]
    clear = sum(pair["p_holm"] <= alpha for pair in pairs)
    about = "all pairs" if document["against"] is None else f"each minus recipe {printable(document['against'])}"
    return (
        f"{text} {clear} of {len(pairs)} differences ({about}) have a p value of at most {alpha:.2g} after Holm's "
        "adjustment."
    )


def _column(recipes: Sequence[Mapping[str, Any]], name: str) -> str:
    held = next(one["scores"][name] for one in recipes if name in one["scores"])
    unit = f" ({held['unit']})" if held["unit"] not in ("", "1") and held["unit"] not in held["label"] else ""
    return f"{printable(held['label'])}{unit}"


def _recipe_row(one: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    spread = [as_float(run["mean"]) for run in one["runs"]]
    return {
        "recipe": printable(one["recipe"]),
        "runs": [{"name": printable(run["run"]), "link": run["report"] or ""} for run in one["runs"]],
        "mean": estimate_cells(one["mean"]),
        "validation": "not recorded" if one["validation"] is None else number(one["validation"]),
        "seeds": str(len(spread)),
        "spread": f"{number(min(spread))} to {number(max(spread))}" if len(spread) > 1 else "",
        "others": [_other(one["scores"].get(name)) for name in columns],
    }


def _other(score: Mapping[str, Any] | None) -> dict[str, str]:
    if score is None:
        return {"value": "not computed", "small": ""}
    counts = [
        f"{score[key]} {word}" for key, word in (("n_infinite", "infinite"), ("n_undefined", "undefined")) if score[key]
    ]
    return {"value": number(score["mean"], score["unit"]), "small": ", ".join(counts)}


def _pair_row(pair: Mapping[str, Any]) -> dict[str, Any]:
    folds = mapping(pair.get("over_folds"))
    test = folds.get("test")
    return {
        "pair": f"{printable(pair['a'])} - {printable(pair['b'])}",
        "delta": estimate_cells(pair["delta"], is_difference=True),
        "p": p_words(pair["p"]),
        "p_holm": p_words(pair["p_holm"]),
        "p_sign_flip": p_words(pair["p_sign_flip"]),
        "seed_sd": "one seed" if pair["seed_sd"] is None else number(pair["seed_sd"]),
        "folds": {
            "value": p_words(test["p"]) if test else "none",
            "small": f"{test['n']} folds of {counted(test['divisions'], 'division')}; "
            f"{interval_words(test['interval'], is_difference=True)}"
            if test
            else printable(folds.get("why_not")),
        },
    }


def _setting(value: Any) -> str:
    return "none" if value is None else printable(value)


def _limits(document: Mapping[str, Any]) -> list[str]:
    sentences = [
        "Intervals of single means overlap or not without deciding anything; the recipes share their patients, and "
        "only the differences within patients compare them.",
        "A large p value is no evidence that two recipes are equally good: it is what few patients give.",
    ]
    if document["design"]["simulated_readers"]:
        sentences.append("Images and readers are simulated; the figures say nothing about patients.")
    if document["incomplete"]:
        sentences.append(
            f"{counted(len(document['incomplete']), 'run')} did not finish. Where settings and failures go together, "
            "those that finished are a selection."
        )
    sentences.append("All patients come from one cohort; another hospital may turn the order round.")
    return sentences


def _facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    design, seeds = document["design"], document["seeds"]
    return [
        ("Cohort", f"{printable(design['cohort'])}; reader {printable(design['reader'])}"),
        ("Unit", "the patient: values of cases, then of seeds, are averaged within a patient"),
        ("Interval of a mean or difference", "Student's t over patients"),
        ("p", "paired t test over patients, two-sided; after Holm: adjusted for all pairs of this page"),
        (
            "p of sign flips",
            f"permutation test of the same mean; seed {seeds['permutation']}, {seeds['resamples']} draws",
        ),
        (
            "p over folds",
            "corrected resampled t test (Nadeau & Bengio 2003, doi:10.1023/A:1024068626366): asks about other patients "
            "and other divisions, and knows that folds share training patients; validation patients count as neither "
            "training nor test patients",
        ),
        ("SD between seeds", "of the mean difference, run by run; large beside the difference: chance of training"),
    ]
