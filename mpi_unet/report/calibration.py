"""Whether probabilities mean what they say: the reliability curve, its figures and its table.

The chart shows what the file holds: for each bin of the network's probability, which share of those voxels a
reader marked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpi_unet.report.agreement_words import (
    bounds,
    counted,
    estimate_cells,
    interval_words,
    items,
    level_words,
    mapping,
    printable,
    share,
    value_of,
)
from mpi_unet.report.svg import MUTED, Drawing, panel, series_color
from mpi_unet.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CalibrationContent", "calibration_content"]

SQUARE_INCHES = (4.4, 4.1)


@dataclass(frozen=True)
class CalibrationContent:
    """What the page shows: the chart (None where there is none, and ``why_not`` says why) and rows of text."""

    why_not: str
    chart: Drawing | None
    level: str
    facts: tuple[tuple[str, str], ...]
    readers: tuple[dict[str, Any], ...]
    bins: tuple[dict[str, str], ...]


def calibration_content(part: Any, name: str = "agreement_calibration") -> CalibrationContent:
    """Gather the chart and the tables of a part ``calibration``.

    Args:
        part: The part of ``agreement.json`` or ``summary.json``; null or absent where nothing was measured.
        name: File name of the chart, without suffix.
    """
    held = mapping(part)
    if not held.get("available"):
        why_not = printable(held.get("why_not") or "it was not computed in this analysis")
        return CalibrationContent(why_not, None, "", (), (), ())
    bins = [mapping(row) for row in items(held.get("bins"))]
    return CalibrationContent(
        why_not="",
        chart=_chart(name, bins, held),
        level=level_words(mapping(held.get("ece")).get("interval")),
        facts=tuple(_facts(held)),
        readers=tuple(
            {
                "reader": printable(row.get("reader")),
                "ece": estimate_cells(row.get("ece")),
                "brier": estimate_cells(row.get("brier")),
            }
            for row in map(mapping, items(held.get("by_reader")))
        ),
        bins=tuple(_bin_row(row) for row in bins),
    )


# --- Private helpers ---


def _facts(part: Mapping[str, Any]) -> list[tuple[str, str]]:
    without = int(part.get("n_cases_without") or 0)
    facts = [
        ("Expected calibration error (ECE)", _figure(part.get("ece"))),
        ("Error of the worst bin (MCE), mean over patients", _figure(part.get("mce"))),
        ("Brier score", _figure(part.get("brier"))),
        ("Patients, cases", f"{counted(part.get('n'), 'patient')}, {counted(part.get('n_cases'), 'case')}"),
        ("Region", f"{printable(part.get('region'))}; {share(part.get('region_share'))} of the voxels of the images"),
        ("Bins", f"{part.get('num_bins')} of equal width"),
    ]
    if without:
        facts.append(("Without probabilities", f"{counted(without, 'case')} of those compared, left out here"))
    if part.get("n_undefined"):
        facts.append(("Without a region", f"{counted(part['n_undefined'], 'patient')}: nobody outlined anything"))
    return facts


def _figure(estimate: Any) -> str:
    cells = estimate_cells(estimate)
    return f"{cells['value']} (CI {cells['interval']})" if cells["interval"] else cells["value"]


def _bin_row(row: Mapping[str, Any]) -> dict[str, str]:
    observed = row.get("observed")
    return {
        "range": f"{value_of(row.get('low')):.2f} to {value_of(row.get('high')):.2f}",
        "probability": number(value_of(row.get("probability"))) if observed else "no voxel",
        "observed": number(value_of(observed)) if observed else "-",
        "interval": interval_words(mapping(observed).get("interval")) if observed else "",
        "n": str(int(row.get("n") or 0)),
        "voxels": f"{int(row.get('voxels') or 0):,}",
    }


def _chart(name: str, bins: list[Mapping[str, Any]], part: Mapping[str, Any]) -> Drawing:
    """F6: the share that readers marked over the network's probability, bin by bin, beside the diagonal."""
    drawn = [row for row in bins if row.get("observed") and math.isfinite(value_of(row.get("probability")))]
    x = [value_of(row.get("probability")) for row in drawn]
    y = [value_of(row.get("observed")) for row in drawn]
    titles = {
        f"{name}-bin-{place}": (
            f"probability {number(x[place])}: {number(y[place])} marked; {counted(row.get('n'), 'patient')}, "
            f"{int(row.get('voxels') or 0):,} voxels"
        )
        for place, row in enumerate(drawn)
    }

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1.6)
        axes.plot(x, y, color=series_color(0), linewidth=1.6)
        for place, row in enumerate(drawn):
            low, high = bounds(mapping(row.get("observed")).get("interval"))
            if math.isfinite(low) and math.isfinite(high):
                ends = [max(0.0, low), min(1.0, high)]
                axes.plot([x[place]] * 2, ends, color=series_color(0), linewidth=2.2, alpha=0.55)
            axes.plot(x[place], y[place], marker="o", markersize=7, color=series_color(0), gid=f"{name}-bin-{place}")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.set_xlabel("probability given by the network")
        axes.set_ylabel("share marked by readers")

    alt = (
        f"Share of voxels marked by readers over the probability given by the network, {len(drawn)} bins, mean of "
        f"{counted(part.get('n'), 'patient')}. Expected calibration error {number(value_of(part.get('ece')))}. "
        + " ".join(f"At {number(one)}: {number(other)}." for one, other in zip(x, y, strict=True))
    )
    return panel(name, alt, draw, SQUARE_INCHES, titles)
