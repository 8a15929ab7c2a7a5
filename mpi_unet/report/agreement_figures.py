"""Charts of agreement: differences with intervals beside a margin, every patient, volumes after Bland and Altman.

The charts show what ``agreement.json`` holds and compute no statistic. A value that is not finite is not drawn; the
tables name it. A *forest* is one row an estimate: a mark for the value, a bar for the interval.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpi_unet.report.agreement_words import (
    bounds,
    chart_name,
    interval_words,
    items,
    mapping,
    pair_name,
    printable,
    signed,
    value_of,
)
from mpi_unet.report.svg import GRID, INK, MUTED, PANEL_INCHES, Drawing, panel, series_color
from mpi_unet.report.wording import as_float, number

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

FOREST_INCHES = 4.4
"""Width of a forest; ten-point text in it is no smaller than that on a phone of 375 pixels."""

SQUARE_INCHES = (4.4, 4.1)
MAX_NAMED_PATIENTS = 20
"""Up to so many patients each have a row of their own with a name; more share a sorted column of dots."""

MAX_TITLED_DOTS = 300
"""With more dots than this none carries a hover title: the page would grow by megabytes."""

NETWORK_COLOR, READERS_COLOR, FAILURE_COLOR = series_color(0), series_color(4), series_color(1)
DIRECTIONS = ("agrees less", "agrees more")
"""What the two directions of a difference mean, above the ends of its axis."""


@dataclass(frozen=True)
class ForestRow:
    """One row of a forest; ``is_main`` is the one that decides, drawn as a diamond in ink."""

    label: str
    estimate: Mapping[str, Any]
    is_main: bool = False


def forest(
    name: str,
    rows: Sequence[ForestRow],
    margin: float | None,
    x_label: str,
) -> Drawing | None:
    """Draw differences with their intervals, zero as a line and the margin as a band.

    Args:
        name: File name of the drawing, without suffix.
        rows: The rows from top to bottom.
        margin: Half the width of the band around zero; None draws none.
        x_label: What the difference is of.

    Returns:
        The drawing, or None when no row has a finite value.
    """
    shown = [row for row in rows if math.isfinite(value_of(row.estimate))]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        if margin is not None:
            axes.axvspan(-margin, margin, color=GRID, alpha=0.75, linewidth=0)
            for end in (-margin, margin):
                axes.axvline(end, color=MUTED, linestyle="--", linewidth=1.2)
        axes.axvline(0, color=INK, linewidth=0.9)
        for place, row in enumerate(shown):
            color = INK if row.is_main else NETWORK_COLOR
            low, high = bounds(row.estimate.get("interval"))
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [place, place], color=color, linewidth=2.4, solid_capstyle="butt")
            axes.plot(
                value_of(row.estimate), place, marker="D" if row.is_main else "o", markersize=7, color=color, zorder=3
            )
        ends = [value_of(row.estimate) for row in shown] + [0.0, margin or 0.0, -(margin or 0.0)]
        ends += [end for row in shown for end in bounds(row.estimate.get("interval")) if math.isfinite(end)]
        _pad(axes.set_xlim, ends, 0.08)
        _rows_of_names(axes, [row.label for row in shown])
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(x_label)
        axes.set_title(f"\u2190 {DIRECTIONS[0]}", loc="left", fontsize=9, fontweight="normal", color=MUTED)
        axes.set_title(f"{DIRECTIONS[1]} \u2192", loc="right", fontsize=9, fontweight="normal", color=MUTED)

    alt = f"{x_label}: " + " ".join(
        f"{row.label} {signed(value_of(row.estimate))} "
        f"({interval_words(row.estimate.get('interval'), is_difference=True)})."
        for row in shown
    )
    alt += f" The margin is {number(margin)} on either side of zero." if margin is not None else " There is no margin."
    return _panel(name, alt, draw, (FOREST_INCHES, 1.1 + 0.34 * len(shown)))


def scatter(
    name: str, patients: Sequence[Mapping[str, Any]], failed: Sequence[str], gap: float | None, metric: str
) -> Drawing | None:
    """Draw every patient: how readers agree with one another against how the network agrees with them.

    Args:
        name: File name of the drawing.
        patients: Rows of ``per_patient`` with ``p0`` and ``pn``.
        failed: Patients who count as failures; they get a mark of their own.
        gap: Distance below the diagonal from which on a patient is a failure; None draws no such line.
        metric: Name of the score.
    """
    points = _points(patients, "pn", "p0")
    if not points:
        return None
    titles: dict[str, str] = {}

    def draw(axes: Axes) -> None:
        ends = [value for _, x, y in points for value in (x, y)]
        low, high = min(ends), max(ends)
        edge = max(0.05 * (high - low), 0.01)
        low, high = low - edge, high + edge
        if gap is not None:
            axes.fill_between([low, high], [low - gap, high - gap], [low, low], color=GRID, alpha=0.75, linewidth=0)
            axes.plot([low, high], [low - gap, high - gap], color=MUTED, linestyle="--", linewidth=1.2)
        axes.plot([low, high], [low, high], color=INK, linewidth=1.0)
        for patient, x, y in points:
            _dot(
                axes, x, y, patient in failed, titles, name, len(points), f"{patient}: {number(y)} against {number(x)}"
            )
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        axes.locator_params(nbins=5)
        axes.set_xlabel(f"{metric}, readers with one another")
        axes.set_ylabel(f"{metric}, network with readers")

    above = sum(y > x for _, x, y in points)
    alt = (
        f"One dot a patient, {len(points)} patients: {metric} of the network with the readers over that of the "
        f"readers with one another. {above} lie above the diagonal, {len(points) - above} on or below it."
    )
    return _panel(name, alt, draw, SQUARE_INCHES, titles)


def pairs_of_dots(
    name: str, patients: Sequence[Mapping[str, Any]], failed: Sequence[str], metric: str
) -> Drawing | None:
    """Draw one row a patient, worst on top: the readers with one another and the network with them, joined."""
    points = sorted(_points(patients, "pn", "p0"), key=lambda point: (point[2] - point[1], point[0]))
    if not points:
        return None

    def draw(axes: Axes) -> None:
        for place, (patient, pn, p0) in enumerate(points):
            bad = patient in failed
            axes.plot([pn, p0], [place, place], color=FAILURE_COLOR if bad else MUTED, linewidth=1.6)
            axes.plot(pn, place, marker="o", markersize=7, color=READERS_COLOR, markerfacecolor="none", linestyle="")
            axes.plot(
                p0, place, marker="X" if bad else "D", markersize=7, color=FAILURE_COLOR if bad else NETWORK_COLOR
            )
        _pad(axes.set_xlim, [value for _, x, y in points for value in (x, y)], 0.05)
        _rows_of_names(axes, [chart_name(patient, []) for patient, _, _ in points])
        axes.set_xlabel(metric)

    alt = f"{metric} of {len(points)} patients: " + "; ".join(
        f"{patient} network {number(p0)}, readers {number(pn)}" for patient, pn, p0 in points
    )
    return _panel(name, alt, draw, (FOREST_INCHES, 0.75 + 0.27 * len(points)))


def sorted_dots(
    name: str,
    patients: Sequence[Mapping[str, Any]],
    key: str,
    estimate: Any,
    failed: Sequence[str],
    x_label: str,
    threshold: float | None = None,
) -> Drawing | None:
    """Draw the values of all patients in order, one dot each, and their mean with its interval below.

    Args:
        name: File name of the drawing.
        patients: Rows of ``per_patient``.
        key: Which of ``p0``, ``pn`` and ``d`` is drawn.
        estimate: The mean over patients.
        failed: Patients who get the mark of a failure.
        x_label: What the values are; for ``d`` zero is drawn as a line.
        threshold: Where failures begin, drawn dashed; None draws no line.
    """
    points = sorted(
        (as_float(row.get(key)), printable(row.get("patient_id")))
        for row in patients
        if math.isfinite(as_float(row.get(key)))
    )
    if not points:
        return None
    titles: dict[str, str] = {}
    is_difference = key == "d"

    def draw(axes: Axes) -> None:
        if is_difference:
            axes.axvline(0, color=INK, linewidth=0.9)
        if threshold is not None:
            axes.axvline(threshold, color=MUTED, linestyle="--", linewidth=1.2)
        step = 1 / len(points)
        for place, (value, patient) in enumerate(points):
            said = f"{patient}: {signed(value) if is_difference else number(value)}"
            _dot(axes, value, 0.3 + (place + 0.5) * step, patient in failed, titles, name, len(points), said)
        low, high = bounds(mapping(estimate).get("interval"))
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [0.1, 0.1], color=INK, linewidth=2.4, solid_capstyle="butt")
        if math.isfinite(value_of(estimate)):
            axes.plot(value_of(estimate), 0.1, marker="D", markersize=7, color=INK)
        axes.set_ylim(0, 1.33)
        axes.set_yticks([0.1, 0.8], ["mean", "patients"])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x_label)

    write = signed if is_difference else number
    alt = (
        f"{x_label} of {len(points)} patients, one dot each, sorted: from {write(points[0][0])} to "
        f"{write(points[-1][0])}, mean {write(value_of(estimate))}."
    )
    return _panel(name, alt, draw, (FOREST_INCHES, 3.4), titles)


def bland_altman(
    name: str,
    pair: Mapping[str, Any],
    readers: Sequence[str],
    unit: str,
    measurement: str,
    y_range: tuple[float, float],
) -> Drawing | None:
    """Draw the differences of one pair over their means, the bias and the limits of agreement with their intervals.

    Args:
        name: File name of the drawing.
        pair: One entry of ``volume.pairs``.
        readers: All readers, for the numbers of long names.
        unit: Unit of the measurement.
        measurement: What was measured.
        y_range: Lowest and highest difference of the axis; all pairs share it.
    """
    points = _points(items(pair.get("points")), "mean", "difference")
    if not points:
        return None
    a, b = (chart_name(str(pair.get(side)), readers) for side in ("a", "b"))
    limits = mapping(pair.get("limits"))
    titles: dict[str, str] = {}

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=MUTED, linestyle=":", linewidth=1.4)
        for estimate, color, dashes in (
            (pair.get("bias"), INK, "-"),
            (limits.get("low"), FAILURE_COLOR, "--"),
            (limits.get("high"), FAILURE_COLOR, "--"),
        ):
            low, high = bounds(mapping(estimate).get("interval"))
            if math.isfinite(low) and math.isfinite(high):
                axes.axhspan(low, high, color=color, alpha=0.13, linewidth=0)
            if math.isfinite(value_of(estimate)):
                axes.axhline(value_of(estimate), color=color, linestyle=dashes, linewidth=1.6)
        for patient, x, y in points:
            said = f"{patient}: mean {number(x, unit)}, difference {signed(y, unit)}"
            _dot(axes, x, y, False, titles, name, len(points), said)
        axes.set_ylim(*y_range)
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(_plain(f"{a} - {b}"), fontsize=10.5)
        axes.set_xlabel(f"mean {measurement} of the two ({unit})")
        axes.set_ylabel(f"difference ({unit})")

    pair_words = pair_name(str(pair.get("a")), str(pair.get("b")), "minus")
    low, high = (signed(value_of(limits.get(side)), unit) for side in ("low", "high"))
    alt = (
        f"Bland-Altman plot of {len(points)} patients, {pair_words}: bias {signed(value_of(pair.get('bias')), unit)} "
        f"{unit}, 95 % limits of agreement {low} to {high} {unit}."
    )
    return _panel(name, alt, draw, PANEL_INCHES, titles)


def shared_range(pairs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """One vertical range for the Bland-Altman plots of several pairs, so that their heights compare."""
    ends = [0.0]
    for pair in pairs:
        ends += [y for _, _, y in _points(items(pair.get("points")), "mean", "difference")]
        for estimate in (pair.get("bias"), *mapping(pair.get("limits")).values()):
            ends += [value_of(estimate), *bounds(mapping(estimate).get("interval"))]
    finite = [end for end in ends if math.isfinite(end)]
    edge = 0.06 * (max(finite) - min(finite)) or 1.0
    return min(finite) - edge, max(finite) + edge


# --- Private helpers ---


def _points(rows: Sequence[Any], x: str, y: str) -> list[tuple[str, float, float]]:
    """Patient and two coordinates of every row in which both are finite."""
    found = [
        (printable(row.get("patient_id")), as_float(row.get(x)), as_float(row.get(y))) for row in rows if mapping(row)
    ]
    return [point for point in found if math.isfinite(point[1]) and math.isfinite(point[2])]


def _dot(
    axes: Axes, x: float, y: float, failed: bool, titles: dict[str, str], name: str, total: int, said: str
) -> None:
    """One patient; smaller and paler where there are many, and without a title where there are very many."""
    style: dict[str, Any] = {}
    if total <= MAX_TITLED_DOTS:
        group = f"{name}-dot-{len(titles)}"
        titles[group] = said
        style["gid"] = group
    axes.plot(
        x,
        y,
        marker="X" if failed else "o",
        markersize=7 if failed else (5.5 if total <= 100 else 3.5),
        markeredgewidth=0,
        color=FAILURE_COLOR if failed else NETWORK_COLOR,
        alpha=1.0 if failed else (0.8 if total <= 100 else 0.45),
        **style,
    )


def _rows_of_names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _pad(setter: Callable[[float, float], object], ends: Sequence[float], part: float) -> None:
    edge = part * (max(ends) - min(ends)) or 0.01
    setter(min(ends) - edge, max(ends) + edge)


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _panel(
    name: str,
    alt: str,
    draw: Callable[[Axes], None],
    size: tuple[float, float],
    titles: Mapping[str, str] | None = None,
) -> Drawing:
    """A panel whose names may be in any script: the browser has the letters, the font of the layout need not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        return panel(name, alt, draw, size, titles)
