"""Operating curves: what other thresholds would have given, and where the one that was used lies.

The unit is the patient here too: each point of a line is the mean over held-out patients at one threshold, and the band
around it holds the middle 80 % of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from mpi_unet.evaluation import overlap
from mpi_unet.report.record import parse_number
from mpi_unet.report.svg import INK, Drawing, panel, series_color, series_dashes
from mpi_unet.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_SHARE_DEFINED = 0.5
"""A mean over patients is drawn where at least this share of them has a value."""

BAND_PERCENTILES = (10, 90)


@dataclass(frozen=True)
class OperatingCurve:
    """Pixel counts of each held-out patient at each threshold.

    Attributes:
        thresholds: Increasing, in [0, 1].
        counts: True positives, false positives, false negatives, true negatives of each patient at each threshold.
    """

    thresholds: Float[np.ndarray, " thresholds"]
    counts: Int[np.ndarray, "patients thresholds 4"]


def read_operating(rows: Sequence[Mapping[str, str]]) -> OperatingCurve | None:
    """Gather the rows of ``operating.csv`` into one array, patients in the order of their ids.

    Rows of one patient from several folds add up, as they do where images were divided.

    Returns:
        The curve, or None when there are no rows, a cell is no number, or thresholds differ between patients.
    """
    patients: dict[str, dict[float, np.ndarray]] = {}
    for row in rows:
        cells = [parse_number(row[name]) for name in ("threshold", "tp", "fp", "fn", "tn")]
        if not np.isfinite(cells).all():
            return None
        counts = patients.setdefault(row["patient_id"], {})
        counts[cells[0]] = counts.get(cells[0], 0) + np.array(cells[1:], dtype=np.int64)
    if not patients:
        return None
    thresholds = sorted(next(iter(patients.values())))
    if any(sorted(counts) != thresholds for counts in patients.values()):
        return None
    table = [[patients[patient][threshold] for threshold in thresholds] for patient in sorted(patients)]
    return OperatingCurve(np.array(thresholds, dtype=np.float64), np.array(table))


def operating_curves(curve: OperatingCurve, frozen: float | None) -> list[Drawing]:
    """Draw TPR over FPR, precision over recall, and the scores over the threshold.

    Lines are means over patients at the same threshold; bands hold the middle 80 % of patients. ``frozen`` is the
    threshold that was fixed beforehand; a diamond marks it.
    """
    recall, fall_out = overlap.recall(curve.counts), overlap.false_positive_rate(curve.counts)
    precision, dice = overlap.precision(curve.counts), overlap.dice(curve.counts)
    at = None if frozen is None else int(np.argmin(np.abs(curve.thresholds - frozen)))
    reach = 1.0 if at is None else float(np.clip(6 * _mean(fall_out)[at], 0.02, 1.0))
    return [
        _trade_off("tpr_fpr", "Found LV against false alarms", (fall_out, recall), at, reach),
        _trade_off("precision_recall", "Precision against recall", (recall, precision), at, 1.0),
        _over_threshold(curve, {"Dice": dice, "recall": recall, "precision": precision}, frozen),
    ]


# --- Private helpers ---

AXES = {
    "tpr_fpr": ("background marked (FPR)", "LV found (TPR, recall)"),
    "precision_recall": ("LV found (recall)", "precision"),
}


def _trade_off(name: str, title: str, rates: tuple[np.ndarray, np.ndarray], at: int | None, reach: float) -> Drawing:
    """One rate of every patient against another, threshold by threshold; ``at`` is the place of the frozen one."""
    (x, y), (x_label, y_label) = (_mean(rates[0]), _mean(rates[1])), AXES[name]
    low, high = _band(rates[1])

    def draw(axes: Axes) -> None:
        order = np.argsort(x, kind="stable")
        axes.fill_between(x[order], low[order], high[order], color=series_color(0), alpha=0.22, linewidth=0)
        axes.plot(x, y, color=series_color(0), linewidth=2)
        if at is not None:
            axes.plot(x[at], y[at], marker="D", markersize=8, color=INK)
        axes.set_xlim(0, reach * 1.02)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(title)

    alt = f"{y_label} against {x_label}, mean of {len(rates[0])} patients with a band of the middle 80 %."
    if at is not None:
        alt += f" At the frozen threshold: {y_label} {number(float(y[at]))}, {x_label} {number(float(x[at]))}."
    return panel(f"operating_{name}", alt, draw)


def _over_threshold(curve: OperatingCurve, rates: Mapping[str, np.ndarray], frozen: float | None) -> Drawing:
    """Several rates over the threshold."""

    def draw(axes: Axes) -> None:
        for index, (word, values) in enumerate(rates.items()):
            low, high = _band(values)
            color = series_color(index)
            axes.fill_between(curve.thresholds, low, high, color=color, alpha=0.16, linewidth=0)
            axes.plot(curve.thresholds, _mean(values), color=color, linestyle=series_dashes(index), label=word)
        if frozen is not None:
            axes.axvline(frozen, color=INK, linewidth=1.2, linestyle="--")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("threshold on the network's probability")
        axes.set_title("Scores over the threshold")
        axes.figure.legend(loc="outside lower center", ncols=3, frameon=False, handlelength=2.0, columnspacing=1.2)

    alt = f"{', '.join(rates)} over the threshold, mean of {len(curve.counts)} patients with bands."
    return panel("operating_threshold", alt, draw)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the patients with a value at each threshold; NaN where too few have one."""
    defined = np.isfinite(values)
    total = np.where(defined, values, 0.0).sum(axis=0)
    enough = defined.mean(axis=0) >= MIN_SHARE_DEFINED
    return np.where(enough, total / np.maximum(defined.sum(axis=0), 1), np.nan)


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles over patients at each threshold; NaN where too few have a value."""
    enough = np.isfinite(_mean(values))
    low, high = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    if enough.any():
        low[enough], high[enough] = np.nanpercentile(values[:, enough], BAND_PERCENTILES, axis=0)
    return low, high
