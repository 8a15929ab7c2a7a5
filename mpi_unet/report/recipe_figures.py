"""Charts of recipes that were compared: scores, differences, every patient, settings, and how they learnt.

The charts show what ``recipes.json`` holds and compute no statistic, except that curves of folds are averaged epoch by
epoch. Recipes keep color, marker and dash pattern through all charts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpi_unet.report.agreement_words import bounds, counted, interval_words, mapping, printable, signed, value_of
from mpi_unet.report.svg import INK, MUTED, Drawing, panel, series_color, series_dashes, series_marker
from mpi_unet.report.wording import as_float, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["differences", "learning", "patients_chart", "scores", "setting_charts", "validation_chart"]

Recipe = Mapping[str, Any]

ROW_INCHES = 4.4
"""Width of a chart with one row a recipe; ten-point text in it is no smaller than that on a phone of 375 pixels."""

MAX_ROWS = 40
"""With more rows than this a chart is left out; the table has them all."""

MAX_LINES = 8
"""So many recipes stand side by side in the chart of patients."""

MAX_CURVES = 12
"""So many recipes get a panel of learning curves."""

MAX_SETTINGS = 8
"""So many settings get a chart of their own."""

MIN_DOTS = 4
"""Fewer recipes make no picture of how validation and test scores go together."""

NAME_LETTERS = 22
LOG_RATIO = 20
"""Positive values that span more than this factor are drawn on a logarithmic axis."""


def short(name: str) -> str:
    """A name that fits beside a chart: long ones lose their middle, for beginnings and ends tell runs apart.

    Example:
        >>> short("dice"), short("sweep_learning_rate_0.003_wide")
        ('dice', 'sweep_lear...0.003_wide')
    """
    text = printable(name)
    half = (NAME_LETTERS - 2) // 2
    return text if len(text) <= NAME_LETTERS else f"{text[:half]}...{text[-half:]}"


def scores(recipes: Sequence[Recipe], label: str) -> Drawing | None:
    """Draw the mean of each recipe with its interval, one row each."""
    rows = [(short(one["recipe"]), value_of(one["mean"]), mapping(one["mean"]).get("interval")) for one in recipes]
    return _rows("recipes_scores", rows, label, zero=False)


def differences(pairs: Sequence[Mapping[str, Any]], label: str) -> Drawing | None:
    """Draw the difference of each pair with its interval, zero as a line."""
    rows = [
        (f"{short(pair['a'])}\n- {short(pair['b'])}", value_of(pair["delta"]), mapping(pair["delta"]).get("interval"))
        for pair in pairs
    ]
    return _rows("recipes_differences", rows, f"difference in {label} (first - second)", zero=True)


def patients_chart(document: Mapping[str, Any], recipes: Sequence[Recipe], label: str) -> Drawing | None:
    """Draw one line a patient across the recipes, in the order given; the mean in ink."""
    names = [str(one["recipe"]) for one in recipes]
    patients = [mapping(row) for row in document["patients"]]
    if not patients or not 2 <= len(names) <= MAX_LINES:
        return None
    titles: dict[str, str] = {}

    def draw(axes: Axes) -> None:
        for row in patients:
            values = [as_float(row["values"].get(name)) for name in names]
            group = f"recipes-patient-{len(titles)}"
            titles[group] = f"{printable(row['patient_id'])}: {', '.join(number(value) for value in values)}"
            axes.plot(range(len(names)), values, color=series_color(0), alpha=0.4, linewidth=1.0, marker=".", gid=group)
        means = [value_of(one["mean"]) for one in recipes]
        axes.plot(range(len(names)), means, color=INK, linewidth=2.2, marker="D", markersize=6)
        axes.set_xticks(range(len(names)), [short(name) for name in names], rotation=0 if len(names) < 4 else 30)
        if len(names) >= 4:
            for tick in axes.get_xticklabels():
                tick.set_horizontalalignment("right")
        axes.set_xlim(-0.3, len(names) - 0.7)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(label)

    alt = f"{label} of {counted(len(patients), 'patient')}, one line each across {', '.join(names)}; the mean in black."
    width = ROW_INCHES if len(names) < 5 else 6.6
    return panel("recipes_patients", alt, draw, (width, 3.6), titles)


def setting_charts(document: Mapping[str, Any], label: str) -> list[Drawing]:
    """Draw the score over each setting that takes three values or more: numbers on an axis, words as columns."""
    drawn: list[Drawing] = []
    for key in document["varied"]:
        held = [(one["settings"].get(key), value_of(one["mean"]), one) for one in document["recipes"]]
        values = [value for value, _, _ in held]
        if len({repr(value) for value in values}) < 3 or len(drawn) == MAX_SETTINGS:
            continue
        drawn.append(_setting(f"recipes_setting_{len(drawn)}", str(key), held, label))
    return drawn


def validation_chart(recipes: Sequence[Recipe], label: str) -> Drawing | None:
    """Draw the test score over the validation score, one dot a recipe: would choosing by validation have worked?"""
    points = [
        (as_float(one.get("validation")), value_of(one["mean"]), str(one["recipe"]))
        for one in recipes
        if one.get("validation") is not None
    ]
    if len(points) < MIN_DOTS:
        return None
    titles = {
        f"recipes-validation-{place}": f"{name}: validation {number(x)}, test {number(y)}"
        for place, (x, y, name) in enumerate(points)
    }

    def draw(axes: Axes) -> None:
        for place, (x, y, _) in enumerate(points):
            axes.plot(
                x, y, marker="o", markersize=6, color=series_color(0), alpha=0.8, gid=f"recipes-validation-{place}"
            )
        best = max(points)
        axes.plot(best[0], best[1], marker="D", markersize=8, color=INK, markerfacecolor="none", markeredgewidth=1.6)
        axes.set_xlabel("Dice, validation patients")
        axes.set_ylabel(f"{label}, held-out patients")

    name = max(points)[2]
    alt = f"{label} on held-out patients over validation Dice, {len(points)} recipes; {name} leads in validation."
    return panel("recipes_validation", alt, draw, (ROW_INCHES, 3.6), titles)


def learning(recipes: Sequence[Recipe]) -> list[Drawing]:
    """Draw validation Dice by epoch, one panel a recipe on one scale: each fold of each run, and their mean."""
    shown = [one for one in recipes if any(curve["val_dice"] for curve in one["learning"])][:MAX_CURVES]
    values = [value for one in shown for curve in one["learning"] for value in curve["val_dice"]]
    if not values:
        return []
    low, high = min(values), max(values)
    edge = 0.06 * (high - low) or 0.05
    drawings = []
    for place, one in enumerate(shown):
        curves = [curve for curve in one["learning"] if curve["val_dice"]]
        epochs, means = _mean_curve(curves)

        def draw(
            axes: Axes,
            one: Recipe = one,
            curves: list[Mapping[str, Any]] = curves,
            mean: tuple[list[int], list[float]] = (epochs, means),
        ) -> None:
            for curve in curves:
                style: dict[str, Any] = {
                    "color": series_color(curve["fold"]),
                    "linestyle": series_dashes(curve["fold"]),
                }
                axes.plot(curve["epoch"], curve["val_dice"], linewidth=1.0, alpha=0.75, **style)
            axes.plot(*mean, color=INK, linewidth=2.2)
            axes.set_ylim(low - edge, high + edge)
            axes.set_title(short(one["recipe"]))
            axes.set_xlabel("epoch")
            axes.locator_params(axis="x", integer=True)

        alt = f"Validation Dice of {one['recipe']} by epoch, {counted(len(curves), 'fold')} of all runs"
        alt += f"; mean after {epochs[-1]} epochs {number(means[-1])}." if epochs else "."
        drawings.append(panel(f"recipes_learning_{place}", alt, draw))
    return drawings


# --- Private helpers ---


def _rows(name: str, rows: Sequence[tuple[str, float, Any]], x_label: str, *, zero: bool) -> Drawing | None:
    shown = [row for row in rows if math.isfinite(row[1])]
    if not shown or len(shown) > MAX_ROWS:
        return None

    def draw(axes: Axes) -> None:
        if zero:
            axes.axvline(0, color=INK, linewidth=0.9)
        for place, (_, value, interval) in enumerate(shown):
            low, high = bounds(interval)
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [place] * 2, color=series_color(0), linewidth=2.4, solid_capstyle="butt")
            axes.plot(value, place, marker="o", markersize=7, color=series_color(0))
        axes.set_yticks(range(len(shown)), [row[0].replace("$", r"\$") for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(x_label)

    write = signed if zero else number
    alt = f"{x_label}: " + " ".join(
        f"{words.replace(chr(10), ' ')} {write(value)} ({interval_words(interval, is_difference=zero)})."
        for words, value, interval in shown
    )
    return panel(name, alt, draw, (ROW_INCHES, 1.0 + (0.5 if zero else 0.32) * len(shown)))


def _setting(name: str, key: str, held: Sequence[tuple[Any, float, Recipe]], label: str) -> Drawing:
    """The scores over one setting; what else differs between recipes scatters them."""
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _, _ in held)
    words = sorted({_word(value) for value, _, _ in held})
    places = {word: place for place, word in enumerate(words)}
    titles = {
        f"{name}-dot-{place}": f"{one['recipe']}: {_word(value)}, {label} {number(score)}"
        for place, (value, score, one) in enumerate(held)
    }

    def draw(axes: Axes) -> None:
        for place, (value, score, _) in enumerate(held):
            x = float(value) if numeric else places[_word(value)]
            axes.plot(
                x,
                score,
                marker=series_marker(0),
                markersize=6,
                color=series_color(0),
                alpha=0.7,
                gid=f"{name}-dot-{place}",
            )
        if numeric:
            numbers = [float(value) for value, _, _ in held]
            if min(numbers) > 0 and max(numbers) / min(numbers) > LOG_RATIO:
                axes.set_xscale("log")
            else:
                axes.locator_params(axis="x", nbins=5)
        else:
            axes.set_xticks(range(len(words)), [short(word) for word in words], rotation=30)
            for tick in axes.get_xticklabels():
                tick.set_horizontalalignment("right")
            axes.set_xlim(-0.5, len(words) - 0.5)
        axes.set_xlabel(key, color=MUTED if len(key) > NAME_LETTERS * 2 else INK)
        axes.set_ylabel(label)

    alt = f"{label} over {key}, one dot a recipe: " + " ".join(
        f"{_word(value)} {number(score)}." for value, score, _ in held
    )
    return panel(name, alt, draw, titles=titles)


def _word(value: Any) -> str:
    """A setting in words; of a dotted name the last part."""
    if isinstance(value, str) and "." in value and " " not in value:
        return value.rpartition(".")[2]
    return "none" if value is None else printable(value)


def _mean_curve(curves: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[float]]:
    """Mean over the curves at each epoch that all of them reached."""
    by_epoch = [dict(zip(curve["epoch"], curve["val_dice"], strict=True)) for curve in curves]
    shared = sorted(set.intersection(*(set(one) for one in by_epoch)))
    return shared, [sum(one[epoch] for one in by_epoch) / len(by_epoch) for epoch in shared]
