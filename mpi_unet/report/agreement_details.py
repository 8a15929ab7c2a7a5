"""The further tables of agreement as rows of text: volumes, all scores, repeated readings, consensus, subgroups, CLAIM.

Every cell is a number of ``agreement.json`` in words; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpi_unet.report.agreement_words import (
    NETWORK,
    counted,
    estimate_cells,
    interval_words,
    items,
    mapping,
    p_words,
    pair_name,
    printable,
    signed,
    value_of,
)
from mpi_unet.report.wording import as_float, count, metric_cells, number

Document = Mapping[str, Any]

CONSENSUS_WORDS = {"majority": "majority of all readers", "staple": "STAPLE of all readers"}
ICC_WORDS = {
    "ICC(1,1)": "one reading, each patient by other readers",
    "ICC(A,1)": "one reading, absolute agreement",
    "ICC(C,1)": "one reading, constant shifts forgiven",
    "ICC(1,k)": "mean of all readings, each patient by other readers",
    "ICC(A,k)": "mean of all readings, absolute agreement",
    "ICC(C,k)": "mean of all readings, constant shifts forgiven",
}


def volume_rows(document: Document) -> list[dict[str, Any]]:
    """T5: bias, limits of agreement, slope and the test of the bias, pair by pair."""
    volume = mapping(document.get("volume"))
    unit = str(volume.get("unit") or "")
    return [volume_row(pair, unit) for pair in items(volume.get("pairs"))]


def volume_row(pair: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """One pair of T5."""
    limits, percent = mapping(pair.get("limits")), mapping(pair.get("limits_percent"))
    tost = mapping(pair.get("tost"))
    margin, absolute = tost.get("margin_pct"), tost.get("margin")
    margin_words = f"{as_float(margin):g} %" if margin is not None else "no margin"
    return {
        "pair": pair_name(str(pair.get("a")), str(pair.get("b")), "minus"),
        "n": count(pair.get("n")) if pair.get("n") is not None else estimate_cells(pair.get("bias"))["n"],
        "bias": estimate_cells(pair.get("bias"), unit, is_difference=True),
        "low": estimate_cells(limits.get("low"), unit, is_difference=True),
        "high": estimate_cells(limits.get("high"), unit, is_difference=True),
        "bias_percent": estimate_cells(pair.get("bias_percent"), "%", is_difference=True),
        "limits_percent": f"{signed(value_of(percent.get('low')), '%')} to {signed(value_of(percent.get('high')), '%')}"
        if percent
        else "not computed",
        "slope": estimate_cells(pair.get("slope"), is_difference=True) | {"p": p_words(pair.get("slope_p"))},
        "tost": {
            "p": p_words(tost.get("p")),
            "margin": margin_words if absolute is None else f"{as_float(absolute):g} {unit}".rstrip(),
        },
    }


def no_percent_reasons(document: Document) -> list[str]:
    """Pairs of T5 of which nothing can be said in percent, each with the reason."""
    pairs = [mapping(pair) for pair in items(mapping(document.get("volume")).get("pairs"))]
    return [
        f"{pair_name(str(pair.get('a')), str(pair.get('b')), 'minus')}: {printable(pair['why_no_percent'])}."
        for pair in pairs
        if pair.get("why_no_percent")
    ]


def icc_rows(document: Document) -> dict[str, Any]:
    """All six intraclass correlations, of the readers and with the network among them."""
    icc = mapping(mapping(document.get("volume")).get("icc"))
    groups = {key: mapping(icc.get(key)) for key in ("readers", "with_network") if mapping(icc.get(key))}
    if not groups and icc and "readers" not in icc and "with_network" not in icc:
        groups = {"readers": icc}
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    return {
        "columns": [{"readers": "Readers", "with_network": "Readers and network"}[key] for key in groups],
        "rows": [
            {
                "label": name,
                "explanation": ICC_WORDS.get(name, ""),
                "cells": [estimate_cells(group.get(name)) for group in groups.values()],
            }
            for name in names
        ],
    }


def score_tables(document: Document) -> list[dict[str, Any]]:
    """T2: every metric with its pairs; pairs of readers apart where a network takes part."""
    tables = []
    for name, score in mapping(document.get("scores")).items():
        score = mapping(score)
        unit = str(score.get("unit") or "")
        rows = [
            {
                "pair": pair_name(str(pair.get("a")), str(pair.get("b"))),
                "is_network": NETWORK in (pair.get("a"), pair.get("b")),
                "cells": metric_cells({"unit": unit, **mapping(pair.get("summary"))}),
            }
            for pair in items(score.get("by_pair"))
        ]
        if rows:
            label = str(score.get("label") or name) + (f" ({unit})" if unit else "")
            tables.append({"title": label, "definition": str(score.get("definition") or ""), "rows": rows})
    return tables


def repeat_rows(document: Document) -> list[dict[str, Any]]:
    """How well readers agree with themselves."""
    unit = str(mapping(document.get("volume")).get("unit") or "")
    rows = []
    for item in map(mapping, items(document.get("repeatability"))):
        volume = mapping(item.get("volume"))
        rows.append(
            {
                "reader": printable(item.get("reader")),
                "repeat": printable(item.get("repeat")),
                "n": count(item.get("n")),
                "dice": metric_cells(mapping(item.get("dice"))),
                "surface": number(item.get("surface_mm"), "mm")
                if item.get("surface_mm") is not None
                else "not computed",
                "psi": estimate_cells(item.get("psi")),
                "bias": estimate_cells(volume.get("bias"), unit, is_difference=True),
                "limits": _limits_words(volume, unit),
            }
        )
    return rows


def consensus_part(document: Document) -> dict[str, Any] | None:
    """Network and readers against a consensus that never contains the reader who is scored."""
    consensus = mapping(document.get("consensus"))
    if not consensus:
        return None
    staple = mapping(consensus.get("staple"))
    rows = [
        {
            "who": NETWORK,
            "against": CONSENSUS_WORDS.get(str(item.get("reference")), printable(item.get("reference"))),
            "cells": metric_cells(mapping(item.get("dice"))),
        }
        for item in map(mapping, items(consensus.get("network_against")))
    ]
    rows += [
        {
            "who": printable(item.get("reader")),
            "against": "the others",
            "cells": metric_cells(mapping(item.get("dice"))),
        }
        for item in map(mapping, items(consensus.get("readers_against_others")))
    ]
    return {
        "rows": rows,
        "rules": _consensus_rules(consensus),
        "staple": [
            {
                "reader": printable(item.get("reader")),
                "sensitivity": number(item.get("sensitivity")),
                "specificity": number(item.get("specificity")),
            }
            for item in map(mapping, items(staple.get("per_reader")))
        ],
        "warnings": [printable(text) for text in items(staple.get("warnings"))],
    }


def subgroup_rows(document: Document) -> list[dict[str, Any]]:
    """T6: the difference in each subgroup."""
    return [
        {
            "column": printable(row.get("column")),
            "value": printable(row.get("value")) or "not stated",
            "n": count(row.get("n")),
            "delta": estimate_cells(row.get("delta"), is_difference=True),
            "p": p_words(row.get("p_holm")),
        }
        for row in map(mapping, items(document.get("subgroups")))
    ]


def sensitivity_rows(document: Document) -> list[dict[str, Any]]:
    """T8: the same difference by other choices."""
    return [
        {
            "what": printable(row.get("what")),
            "note": printable(row.get("note") or ""),
            "delta": estimate_cells(row.get("delta"), is_difference=True),
        }
        for row in map(mapping, items(document.get("sensitivity")))
    ]


def claim_rows(document: Document) -> list[dict[str, str]]:
    """CLAIM items in their order."""
    words = {"answered": "answered", "open": "open", "not_applicable": "does not apply"}
    return [
        {
            "item": printable(row.get("item")),
            "topic": printable(row.get("topic")),
            "status": words.get(str(row.get("status")), printable(row.get("status"))),
            "answer": printable(row.get("answer") or ""),
        }
        for row in map(mapping, items(document.get("claim")))
    ]


def appendix_rows(document: Document) -> list[tuple[str, str]]:
    """Two-sided tests of a zero difference."""
    words = {"t": "paired t test", "wilcoxon": "Wilcoxon signed-rank test", "sign_flip": "sign-flip permutation test"}
    tests = mapping(mapping(document.get("appendix")).get("two_sided_p"))
    return [(words.get(name, printable(name)), p_words(p)) for name, p in tests.items()]


def nested_rows(content: Any, path: str = "") -> list[tuple[str, str]]:
    """Rows of name and text for a part of the file whose shape is free, e.g. categories; estimates become one row.

    Example:
        >>> nested_rows({"fleiss": {"value": 0.61, "n": 20, "interval": {"low": 0.4, "high": 0.8}}})
        [('fleiss', '0.610 (0.400 to 0.800), 20 patients')]
        >>> nested_rows({"scale": ["ok", "bad"], "alpha": None})
        [('scale', 'ok, bad'), ('alpha', 'not computed')]
    """
    if isinstance(content, Mapping) and "value" in content:
        cells = estimate_cells(content)
        held = f" ({cells['interval']})" if content.get("interval") else ""
        return [(path, cells["value"] + held + (f", {counted(content.get('n'), 'patient')}" if cells["n"] else ""))]
    if isinstance(content, Mapping):
        named = {str(name): value for name, value in content.items()}
        if {"low", "high"} <= set(named):
            return [(path, interval_words(named))]
        return [
            row
            for name, value in named.items()
            for row in nested_rows(value, f"{path}, {name.replace('_', ' ')}" if path else name.replace("_", " "))
        ]
    if isinstance(content, list) and all(not isinstance(item, Mapping | list) for item in content):
        return [(path, ", ".join(_plain_words(item) for item in content) or "none")]
    if isinstance(content, list):
        return [row for index, item in enumerate(content) for row in nested_rows(item, f"{path} {index + 1}")]
    return [(path, _plain_words(content))]


# --- Private helpers ---


def _consensus_rules(consensus: Mapping[str, Any]) -> list[str]:
    """How outlines were joined, in words; each rule once."""
    majority = mapping(consensus.get("majority"))
    found = [(f"All readers: {printable(majority['rule'])}") if majority.get("rule") else ""]
    found.append(f"Ties: {printable(majority['tie_rule'])}" if majority.get("tie_rule") else "")
    rules = {
        printable(item["rule"])
        for item in map(mapping, items(consensus.get("readers_against_others")))
        if item.get("rule")
    }
    return [rule for rule in [*found, *(f"The others: {rule}" for rule in sorted(rules))] if rule]


def _limits_words(pair: Mapping[str, Any], unit: str) -> str:
    limits = mapping(pair.get("limits"))
    if not limits:
        return "not computed"
    return f"{signed(value_of(limits.get('low')), unit)} to {signed(value_of(limits.get('high')), unit)}"


def _plain_words(value: Any) -> str:
    if value is None:
        return "not computed"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    return number(value) if isinstance(value, float) else printable(value)
