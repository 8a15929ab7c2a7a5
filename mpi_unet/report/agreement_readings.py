"""Measurements and categories of readers as rows of text and charts, from ``agreement.json``.

Nothing is computed here. A measurement is shown as volumes are: bias, limits of agreement, reliability, one chart a
pair. A category is shown by its counts first, because a coefficient alone does not say what readers disagree about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpi_unet.report import agreement_details as details
from mpi_unet.report import agreement_figures as figures
from mpi_unet.report.agreement_words import (
    NETWORK,
    counted,
    estimate_cells,
    items,
    level_words,
    mapping,
    p_words,
    pair_name,
    printable,
    share,
    value_of,
)
from mpi_unet.report.svg import Drawing
from mpi_unet.report.wording import count, metric_cells, number

__all__ = ["category_parts", "left_out_readings", "measurement_drawings", "measurement_parts"]

Document = Mapping[str, Any]

MAX_PLOTS = 6
"""Charts a quantity; the table has every pair."""

NOT_RELATIVE = ("%", "deg", "")
POINTS = "points"
"""Unit of a difference of percentages: from 60 % to 55 % is 5 points, not 5 %."""

COEFFICIENTS = (
    ("fleiss", "readers as interchangeable; falls where nearly everybody gets one category"),
    ("gwet", "does not fall where nearly everybody gets one category"),
    ("krippendorff", "as Fleiss's kappa, corrected for few patients; missing ratings are no trouble"),
)


def measurement_parts(document: Document) -> list[dict[str, Any]]:
    """Every quantity that is a number, with its charts."""
    readers = [str(name) for name in items(mapping(document.get("design")).get("readers"))]
    parts = enumerate(items(document.get("measurements")))
    return [_measurement(f"measurement_{place}", mapping(part), readers) for place, part in parts]


def measurement_drawings(parts: Sequence[Mapping[str, Any]]) -> tuple[Drawing, ...]:
    """The charts of all quantities."""
    return tuple(drawn for part in parts for drawn in part["plots"])


def category_parts(document: Document) -> list[dict[str, Any]]:
    """Every quantity that is a category."""
    parts = enumerate(items(document.get("categories")))
    return [_category(f"category_{place}", mapping(part)) for place, part in parts]


def left_out_readings(document: Document) -> list[dict[str, str]]:
    """Columns of readings that took no part, and why."""
    return [
        {"column": printable(row.get("column")), "reason": printable(row.get("reason"))}
        for row in map(mapping, items(document.get("readings_left_out")))
    ]


# --- Private helpers ---


def _measurement(slug: str, part: Mapping[str, Any], readers: Sequence[str]) -> dict[str, Any]:
    unit = str(part.get("unit") or "")
    shown = POINTS if unit == "%" else unit
    pairs = [mapping(pair) for pair in items(part.get("pairs"))]
    rows = [details.volume_row(pair, shown) for pair in pairs]
    leads = [pair.get("a") == NETWORK for pair in pairs]
    if not any(leads):
        leads = [True] * len(pairs)
    plotted = [pair for pair, is_first in zip(pairs, leads, strict=True) if is_first]
    name = printable(part.get("name"))
    title = printable(part.get("measurement") or name)
    missing = [
        f"{printable(row.get('member'))} {count(row.get('n_rows'))}"
        for row in map(mapping, items(part.get("missing")))
        if row.get("n_rows")
    ]
    icc = details.icc_rows({"volume": {"icc": part.get("icc")}})
    repeats = [mapping(row) for row in items(part.get("repeatability"))]
    return {
        "slug": slug,
        "title": title,
        "column": f"{name}__<reader>" if part.get("source") != "outlines" else "",
        "is_area": part.get("source") == "outlines",
        "unit": unit,
        "shown": shown,
        "is_relative": unit not in NOT_RELATIVE,
        "why_not": printable(part.get("why_not") or ""),
        "counts": _rows_words(part),
        "has_rows": part.get("n_rows") != part.get("n_patients"),
        "missing": ", ".join(missing),
        "rows": [row for row, is_first in zip(rows, leads, strict=True) if is_first],
        "others": [row for row, is_first in zip(rows, leads, strict=True) if not is_first],
        "has_network": any(pair.get("a") == NETWORK for pair in pairs),
        "plots": _plots(slug, plotted[:MAX_PLOTS], readers, unit, title),
        "plots_left_out": max(0, len(plotted) - MAX_PLOTS),
        "level": level_words(*(mapping(pair.get("bias")).get("interval") for pair in pairs)),
        "icc": icc,
        "sem": f"{number(value_of(part['sem']), shown)} {shown}".rstrip() if part.get("sem") is not None else "",
        "readers": [
            {"name": printable(member), "cells": metric_cells({"unit": unit, **mapping(summary)})}
            for member, summary in mapping(part.get("readers")).items()
        ],
        "repeats": [
            details.volume_row(mapping(row.get("pair")), shown) | {"psi": estimate_cells(row.get("psi"))}
            for row in repeats
        ],
        "is_tested": part.get("margin") is not None,
    }


def _plots(
    slug: str, pairs: Sequence[Mapping[str, Any]], readers: Sequence[str], unit: str, title: str
) -> list[Drawing]:
    """One Bland-Altman chart a pair, on one vertical scale."""
    if not pairs:
        return []
    span = figures.shared_range(pairs)
    drawn = [
        figures.bland_altman(f"agreement_{slug}_{index}", pair, readers, unit or "no unit", title, span)
        for index, pair in enumerate(pairs)
    ]
    return [drawing for drawing in drawn if drawing is not None]


def _rows_words(part: Mapping[str, Any]) -> str:
    """How much was read.

    Example:
        >>> _rows_words({"row": "segment of a case", "n_rows": 34, "n_patients": 2})
        '34 rows, each a segment of a case, of 2 patients'
        >>> _rows_words({"row": "case", "n_rows": 2, "n_patients": 2})
        '2 patients'
    """
    patients = counted(part.get("n_patients"), "patient")
    if part.get("n_rows") == part.get("n_patients"):
        return patients
    return f"{counted(part.get('n_rows'), 'row')}, each a {printable(part.get('row'))}, of {patients}"


def _category(slug: str, part: Mapping[str, Any]) -> dict[str, Any]:
    name, scale = printable(part.get("name")), [printable(word) for word in items(part.get("scale"))]
    pairs = [mapping(pair) for pair in items(part.get("pairs"))]
    groups = [mapping(group) for group in items(part.get("together"))]
    return {
        "slug": slug,
        "title": printable(part.get("category") or name),
        "column": f"{name}__<reader>",
        "scale": " < ".join(scale) if part.get("is_ordered") else ", ".join(scale),
        "categories": scale,
        "why_not": printable(part.get("why_not") or ""),
        "counts_words": _rows_words(part),
        "counts": [
            {
                "name": printable(row.get("member")),
                "cells": [count(number) for number in items(row.get("by_category"))],
                "missing": count(row.get("n_missing")),
            }
            for row in map(mapping, items(part.get("counts")))
        ],
        "pairs": [_pair_row(pair) for pair in pairs],
        "tables": [_table(pair, scale) for pair in pairs],
        "together": {
            "columns": [
                {"readers": "Readers", "with_network": "Readers and network"}.get(str(group.get("who")), "")
                for group in groups
            ],
            "rows": [
                {
                    "label": printable(mapping(groups[0].get(key)).get("method")),
                    "explanation": explanation,
                    "cells": [_noted(group.get(key)) for group in groups],
                }
                for key, explanation in COEFFICIENTS
            ]
            if groups
            else [],
        },
        "tests": _tests(mapping(part.get("tests"))),
        "repeats": [_pair_row(mapping(row.get("pair"))) for row in map(mapping, items(part.get("repeatability")))],
        "notes": [printable(note) for note in items(part.get("notes"))],
    }


def _noted(estimate: Any) -> dict[str, str]:
    """An estimate for a cell; where it is undefined or has no width, the reason stands below."""
    held, cells = mapping(estimate), estimate_cells(estimate)
    note = printable(held.get("note") or "")
    return cells | ({"interval": f"{cells['interval']}: {note}"} if note else {})


def _pair_row(pair: Mapping[str, Any]) -> dict[str, Any]:
    observed = mapping(pair.get("observed"))
    ends = mapping(observed.get("interval"))
    return {
        "pair": pair_name(str(pair.get("a")), str(pair.get("b"))),
        "is_network": NETWORK in (pair.get("a"), pair.get("b")),
        "observed": share(observed.get("value")),
        "ends": f"{share(ends.get('low'))} to {share(ends.get('high'))}" if ends else "no interval",
        "kappa": _noted(pair.get("cohen")),
        "method": printable(mapping(pair.get("cohen")).get("method") or "Cohen's kappa"),
        "n": count(pair.get("n_rows")),
    }


def _table(pair: Mapping[str, Any], scale: Sequence[str]) -> dict[str, Any]:
    """The counts of a pair: categories of the first down, of the second across."""
    return {
        "a": printable(pair.get("a")),
        "b": printable(pair.get("b")),
        "rows": [
            {"name": word, "cells": [count(number) for number in items(row)], "place": place}
            for place, (word, row) in enumerate(zip(scale, items(pair.get("table")), strict=False))
        ],
    }


def _tests(tests: Mapping[str, Any]) -> dict[str, Any] | None:
    if not tests:
        return None
    category, reference = printable(tests.get("category") or ""), printable(tests.get("reference") or "")
    what = f"agreement with reader {reference}" if reference else f"{category!r}"
    rows = [mapping(row) for row in items(tests.get("rows"))]
    return {
        "what": what,
        "is_reference": bool(reference),
        "method": printable(mapping(rows[0].get("difference")).get("method")) if rows else "",
        "rows": [
            {
                "pair": pair_name(str(row.get("a")), str(row.get("b")), "minus"),
                "difference": _percent_cells(row.get("difference")),
                "only": f"{count(row.get('only_a'))} and {count(row.get('only_b'))}",
                "n": count(row.get("n_rows")),
                "p": p_words(row.get("p")),
                "p_holm": p_words(row.get("p_holm")),
            }
            for row in rows
        ],
    }


def _percent_cells(estimate: Any) -> dict[str, str]:
    """A difference of shares in points."""
    held = mapping(estimate)
    ends = mapping(held.get("interval"))
    scaled = {
        "value": _hundredfold(held.get("value")),
        "n": held.get("n"),
        "interval": {end: _hundredfold(ends.get(end)) for end in ("low", "high")} if ends else None,
    }
    return estimate_cells(scaled, POINTS, is_difference=True)


def _hundredfold(value: Any) -> float | None:
    return 100 * float(value) if isinstance(value, int | float) else None
