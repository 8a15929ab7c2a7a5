"""The page of a study: several runs side by side, one row each, beside what was published.

Scores of the left ventricle alone come first, with intervals; the macro mean over background and LV and the accuracy,
which are what was published, stand beside them. Nothing on the page ranks the runs: they share their patients, so their
intervals say nothing about differences between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi_unet.errors import RunError
from mpi_unet.files import write_text
from mpi_unet.report.content import as_published
from mpi_unet.report.page import render
from mpi_unet.report.record import read_summary
from mpi_unet.report.svg import INK, MUTED, Drawing, panel, series_color
from mpi_unet.report.wording import as_float, count, metric_cells, number, reader_words, split_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PUBLISHED", "comparison_limits", "write_comparison"]

PUBLISHED = {"macro_dice": "0.94", "macro_iou": "0.895", "accuracy": "0.989"}
"""Best scenario of the seed study (holdout, cross-entropy), with the decimals that were published.

Source:
    Diagnostics 2024;14(24):2865. doi:10.3390/diagnostics14242865
"""
PUBLISHED_NOTE = "as published: image-level split, mean over background and LV"
LV_COLUMNS = (("dice", "Dice"), ("iou", "IoU"), ("precision", "Precision"), ("recall", "Recall"))
SEED_COLUMNS = (("macro_dice", "Dice"), ("macro_iou", "IoU"), ("accuracy", "Accuracy"))
SHARED_DESIGN = ("domain", "label", "reader", "spacing_mm")
"""What runs must share for their rows to be about the same thing."""


def write_comparison(study: Path, scenarios: Sequence[str] | None = None) -> Path:
    """Write ``<study>/report.html`` from ``<study>/<scenario>/summary.json`` of each scenario.

    Args:
        study: Folder that holds one run folder a scenario.
        scenarios: Names of the run folders in the order of the rows; None takes every folder with a summary, by name.
            A scenario without a readable summary becomes a row that says so.

    Returns:
        The path of the page.

    Raises:
        RunError: No scenario at all has a summary, or the folder cannot be written to.
    """
    if scenarios is None:
        scenarios = sorted(path.parent.name for path in study.glob("*/summary.json"))
    summaries: dict[str, dict[str, Any]] = {}
    missing = []
    for scenario in scenarios:
        try:
            summaries[scenario] = read_summary(study / scenario)
        except RunError:
            missing.append(scenario)
    if not summaries:
        tried = ", ".join(scenarios) or "none"
        raise RunError(
            f"{study} holds no run with a summary.json (scenarios: {tried}); run the study first, then compare its runs"
        )
    drawn = _chart(summaries)
    write_text(study / "figures" / f"{drawn.name}.svg", drawn.standalone)
    designs = {name: summary.get("design") or {} for name, summary in summaries.items()}
    page = render(
        "comparison.html.jinja",
        name=study.name,
        headline=_headline(summaries),
        lv_columns=[label for _, label in LV_COLUMNS],
        seed_columns=[label for _, label in SEED_COLUMNS],
        published=[PUBLISHED[name] for name, _ in SEED_COLUMNS],
        published_note=PUBLISHED_NOTE,
        rows=[
            _row(name, summaries[name], study) if name in summaries else {"name": name, "cells": None}
            for name in scenarios
        ],
        leaking=[name for name, design in designs.items() if design.get("leakage_allowed")],
        simulated=any(design.get("simulated_readers") for design in designs.values()),
        incomplete=[name for name, summary in summaries.items() if not summary.get("complete", True)],
        chart=drawn,
        limits=comparison_limits(summaries),
        missing=[f"{name}: no readable summary.json, so its row is empty." for name in missing],
    )
    path = study / "report.html"
    write_text(path, page)
    return path


def comparison_limits(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say what the rows of a study do not show.

    Args:
        summaries: Content of ``summary.json`` by scenario.
    """
    designs = {name: summary.get("design") or {} for name, summary in summaries.items()}
    sentences = [
        "The published figures come from other images, other patients and a division by image. They stand here for "
        "orientation; a difference between them and a row of this table has many possible causes."
    ]
    if len(summaries) > 1:
        sentences.append(
            "The scenarios share patients. Whether one is better than another needs a paired comparison of the same "
            "patients, which was not made here; intervals that overlap, or do not, decide nothing."
        )
    for name, design in designs.items():
        if design.get("leakage_allowed"):
            sentences.append(
                f"{name}: images of the same patients were used for training and for scoring, so this row says nothing "
                "about patients whom the network has not seen."
            )
    for key in SHARED_DESIGN:
        values = {str(design.get(key)) for design in designs.values()}
        if len(values) > 1:
            words = ", ".join(sorted(values))
            sentences.append(
                f"The scenarios differ in {key} ({words}); their figures are not comparable with one another."
            )
    if any(design.get("simulated_readers") for design in designs.values()):
        sentences.append("Images and readers are simulated; the figures say nothing about patients.")
    if any(design.get("split") == "holdout" and design.get("unit") != "image" for design in designs.values()):
        sentences.append(
            "Holdout scenarios score the held-out patients of one division only, so they have fewer patients."
        )
    sentences.append(
        "Each network was compared with one outline per case. Agreement between experts was not measured, so nothing "
        "can be said about how a network compares with an expert."
    )
    return sentences


def _headline(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The range of both kinds of Dice over the scenarios, in one sentence."""
    ranges = []
    for key in ("dice", "macro_dice"):
        means = [as_float(((item.get("metrics") or {}).get(key) or {}).get("mean")) for item in summaries.values()]
        finite = [mean for mean in means if math.isfinite(mean)]
        if not finite:
            return f"{len(summaries)} scenarios; their Dice could not be computed."
        ends = [number(min(finite)), number(max(finite))]
        ranges.append(ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}")
    scenarios = "1 scenario" if len(summaries) == 1 else f"{len(summaries)} scenarios"
    return (
        f"{scenarios}: mean Dice of the left ventricle {ranges[0]}. Counted as in the published study, with the "
        f"background as a second class, the same outlines score {ranges[1]}."
    )


def _row(name: str, summary: Mapping[str, Any], study: Path) -> dict[str, Any]:
    metrics, design = summary.get("metrics") or {}, summary.get("design") or {}
    patients = (metrics.get("dice") or {}).get("n", design.get("n_patients"))
    return {
        "name": name,
        "link": f"{name}/report.html" if (study / name / "report.html").is_file() else "",
        "about": f"{split_words(design)}; loss {design.get('loss') or 'not stated'}; against {reader_words(design)}",
        "patients": count(patients),
        "leakage": bool(design.get("leakage_allowed")),
        "as_published": as_published(summary),
        "cells": [metric_cells(metrics.get(key) or {}) for key, _ in (*LV_COLUMNS, *SEED_COLUMNS)],
    }


def _chart(summaries: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """LV Dice with its interval and macro Dice of every scenario, and the published macro Dice as a line."""
    names = list(summaries)
    dice = [(summaries[name].get("metrics") or {}).get("dice") or {} for name in names]
    macro = [(summaries[name].get("metrics") or {}).get("macro_dice") or {} for name in names]

    def draw(axes: Axes) -> None:
        for row, (mine, theirs) in enumerate(zip(dice, macro, strict=True)):
            if isinstance(mine.get("ci95"), list) and None not in mine["ci95"]:
                axes.plot(mine["ci95"], [row, row], color=series_color(0), linewidth=2.4, solid_capstyle="butt")
            axes.plot(as_float(mine.get("mean")), row, marker="o", markersize=8, color=series_color(0))
            axes.plot(
                as_float(theirs.get("mean")),
                row,
                marker="D",
                markersize=7,
                color=series_color(1),
                markerfacecolor="none",
            )
        axes.axvline(float(PUBLISHED["macro_dice"]), color=MUTED, linestyle=":", linewidth=1.6)
        axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], color=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Dice")

    alt = "Dice of each scenario. " + " ".join(
        f"{name}: LV {number(mine.get('mean'))}, mean over background and LV {number(theirs.get('mean'))}."
        for name, mine, theirs in zip(names, dice, macro, strict=True)
    )
    return panel("scenarios", alt, draw, (5.2, 1.0 + 0.36 * len(names)))
