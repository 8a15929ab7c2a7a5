"""Charts of a run: its patients and its learning.

Every chart is a set of small panels, each legible on a phone by itself; the page sets them side by side where there is
room. Folds keep color, shape and dash pattern through all charts. A chart without data is empty, and the page says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpi_unet.report.record import FoldHistory, parse_number
from mpi_unet.report.svg import INK, MUTED, Drawing, panel, series_color, series_dashes, series_marker
from mpi_unet.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PATIENTS_INCHES = 4.4
"""Width of the chart of patients; with it, ten-point text is no smaller than that on a phone of 375 pixels."""

MAX_FOLD_ROWS = 10
"""With more folds than this, or with one only, patients share one row."""


@dataclass(frozen=True)
class PatientScore:
    """One metric of one patient, averaged over the cases of the patient (NaN when no case has a value)."""

    patient_id: str
    fold: int
    value: float


def patient_scores(rows: Sequence[Mapping[str, str]], metric: str) -> list[PatientScore]:
    """Average the rows of ``scores.csv`` over the cases of each patient, in the order of patient ids.

    Undefined cases are left out of the mean of their patient; a patient with infinite cases is infinite.
    """
    values: dict[str, list[float]] = {}
    folds: dict[str, int] = {}
    for row in rows:
        if row["metric"] == metric:
            values.setdefault(row["patient_id"], []).append(parse_number(row["value"]))
            fold = parse_number(row["fold"])
            folds.setdefault(row["patient_id"], 0 if math.isnan(fold) else int(fold))
    scores = []
    for patient_id in sorted(values):
        defined = [value for value in values[patient_id] if not math.isnan(value)]
        mean = sum(defined) / len(defined) if defined else math.nan
        scores.append(PatientScore(patient_id, folds[patient_id], mean))
    return scores


def distribution(
    scores: Sequence[PatientScore], name: str, summary: Mapping[str, Any], reference: float | None
) -> Drawing | None:
    """Draw one dot a patient, a row for each fold, and the mean with its interval on top.

    Args:
        scores: One score a patient.
        name: Metric, as in ``summary.json``.
        summary: The metric's block of ``summary.json``.
        reference: Mean of the best trivial baseline, drawn as a dotted line; None leaves it out.

    Returns:
        The drawing, or None when no patient has a finite score.
    """
    finite = [score for score in scores if math.isfinite(score.value)]
    if not finite:
        return None
    label = str(summary.get("label") or name)
    folds = sorted({score.fold for score in finite})
    rows = folds if 1 < len(folds) <= MAX_FOLD_ROWS else [-1]
    height = 1.15 + 0.34 * (len(rows) + 1)
    titles: dict[str, str] = {}

    def draw(axes: Axes) -> None:
        low, high = min(score.value for score in finite), max(score.value for score in finite)
        width = max(high - low, 0.02)
        for index, row in enumerate(rows):
            members = sorted(
                (score for score in finite if row in (-1, score.fold)),
                key=lambda score: (score.value, score.patient_id),
            )
            for score, offset in zip(members, _spread([score.value for score in members], width / 45), strict=True):
                group = f"{name}-dot-{len(titles)}"
                titles[group] = f"{score.patient_id}, fold {score.fold}: {label} {number(score.value)}"
                axes.plot(
                    score.value,
                    index + 1 + offset,
                    marker=series_marker(score.fold),
                    markersize=6,
                    markeredgewidth=0,
                    color=series_color(score.fold),
                    alpha=0.85,
                    gid=group,
                )
        mean, ci95 = summary.get("mean"), summary.get("ci95")
        if mean is not None:
            if isinstance(ci95, list) and None not in ci95:
                axes.plot(ci95, [0, 0], color=INK, linewidth=2.4, solid_capstyle="butt")
            axes.plot(mean, 0, marker="D", markersize=7, color=INK)
        if reference is not None:
            axes.axvline(reference, color=MUTED, linestyle=":", linewidth=1.6)
        names = ["all"] + [f"fold {row}" if row >= 0 else "patients" for row in rows]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label)

    alt = (
        f"{label} of {len(finite)} patients, one dot each: from {number(min(score.value for score in finite))} to "
        f"{number(max(score.value for score in finite))}, mean {number(summary.get('mean'))}."
    )
    return panel(f"patients_{name}", alt, draw, (PATIENTS_INCHES, height), titles)


def learning_curves(histories: Sequence[FoldHistory]) -> list[Drawing]:
    """Draw training loss, validation loss and validation Dice over the epochs, one line a fold, best epochs marked."""
    panels = (
        ("train_loss", "Training loss", "loss"),
        ("val_loss", "Validation loss", "loss"),
        ("val_dice", "Validation Dice (LV)", "Dice"),
    )
    losses = [value for history in histories for key in ("train_loss", "val_loss") for value in history.columns[key]]
    losses = [value for value in losses if math.isfinite(value)]
    drawings = []
    for key, title, unit in panels:
        drawn = [history for history in histories if any(map(math.isfinite, history.columns[key]))]
        if not drawn:
            continue

        def draw(axes: Axes, key: str = key, title: str = title, drawn: list[FoldHistory] = drawn) -> None:
            for history in drawn:
                epochs = [epoch + 1 for epoch in history.columns["epoch"]]  # from 0 in the file, from 1 for people
                values = history.columns[key]
                style: dict[str, Any] = {"color": series_color(history.fold)}
                single = len(values) == 1
                axes.plot(epochs, values, linestyle=series_dashes(history.fold), marker="." if single else "", **style)
                best = _best_index(history)
                if best is not None:
                    shape = series_marker(history.fold)
                    axes.plot(epochs[best], values[best], marker=shape, markersize=7, markeredgecolor=INK, **style)
            if key != "val_dice" and losses:
                margin = 0.06 * (max(losses) - min(losses)) or 0.05
                axes.set_ylim(min(losses) - margin, max(losses) + margin)
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.locator_params(axis="x", integer=True)

        finals = [
            f"fold {history.fold} {number(history.columns[key][best])}"
            for history in drawn
            if (best := _best_index(history)) is not None
        ]
        alt = f"{title} over the epochs of {len(drawn)} folds." + (
            f" At the best epoch ({unit}): {', '.join(finals)}." if finals else ""
        )
        drawings.append(panel(f"learning_{key}", alt, draw))
    return drawings


# --- Private helpers ---


def _spread(values: Sequence[float], closeness: float) -> list[float]:
    """Vertical offsets that keep dots of nearly equal value (sorted) apart."""
    pattern = (0.0, 0.2, -0.2, 0.1, -0.1, 0.3, -0.3)
    offsets, run = [], 0
    for index, value in enumerate(values):
        run = run + 1 if index and value - values[index - 1] < closeness else 0
        offsets.append(pattern[run % len(pattern)])
    return offsets


def _best_index(history: FoldHistory) -> int | None:
    epochs = history.columns["epoch"]
    return epochs.index(float(history.best_epoch)) if history.best_epoch in epochs else None
