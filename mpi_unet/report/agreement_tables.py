"""The main tables of agreement as rows of text: the primary analysis, every pair, every patient, failures.

Every cell is a number of ``agreement.json`` in words; nothing is computed but the order of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mpi_unet.agreement.phrases import ends, rounded_up
from mpi_unet.report.agreement_details import nested_rows
from mpi_unet.report.agreement_words import (
    NETWORK,
    SHORT_COLUMN,
    bounds,
    counted,
    estimate_cells,
    interval_words,
    items,
    level_words,
    mapping,
    margin_of,
    metric_name,
    numbered,
    p_words,
    pair_name,
    printable,
    share,
    signed,
    value_of,
)
from mpi_unet.report.wording import as_float, count, interval, number

Document = Mapping[str, Any]

MATRIX_METRICS = ("dice", "nsd")


def primary_block(document: Document) -> Mapping[str, Any]:
    """The block of the primary metric."""
    return mapping(mapping(document.get("agreement")).get(str(document.get("primary"))))


def key_numbers(document: Document) -> list[dict[str, str]]:
    """The cards of the first screen: six with a network and several readers, three otherwise."""
    readers = items(mapping(document.get("design")).get("readers"))
    has_network = document.get("mode") != "readers_only"
    block, metric = primary_block(document), metric_name(str(document.get("primary")), mapping(document.get("scores")))
    failures = mapping(document.get("failures"))
    cards = [
        _card(block.get("P0"), f"{metric}, network with the reader{'' if len(readers) == 1 else 's'}"),
        _card(block.get("Pn"), f"{metric}, readers with one another"),
        _difference_card(block, margin_of(document)),
    ]
    if not has_network:
        cards.append(_lowest_pair(document, metric))
    elif failures.get("k") is not None:
        cards.append(
            {
                "value": f"{count(failures.get('k'))} of {count(failures.get('n'))}",
                "label": "patients counted as failures",
                "detail": f"{printable(failures.get('definition') or '')}; up to {share(failures.get('upper95'))} are "
                "compatible with this (upper 95 % limit)",
            }
        )
    volume = mapping(document.get("volume"))
    first = mapping(next(iter(items(volume.get("pairs"))), None))
    if first and has_network:
        what = f"{volume.get('measurement') or 'volume'}: {pair_name(first['a'], first['b'], 'minus')}"
        cards.append(_card(first.get("bias"), what, unit=str(volume.get("unit") or ""), is_difference=True))
    icc = mapping(volume.get("icc"))
    single = mapping(icc.get("readers") or icc.get("with_network")).get("ICC(A,1)")
    if single:
        among = "of the readers" if icc.get("readers") else "of readers and network"
        cards.append(_card(single, f"ICC(A,1) of the volumes {among}"))
    known = [card for card in cards if card is not None]
    return known[: 3 * (len(known) // 3)] if len(known) > 3 else known


def primary_table(document: Document) -> dict[str, Any]:
    """T4: one column a metric, the primary one first; rows without any figure are left out."""
    blocks = {name: mapping(block) for name, block in mapping(document.get("agreement")).items()}
    primary = str(document.get("primary"))
    names = [name for name in (primary, *blocks) if name in blocks]
    names = list(dict.fromkeys(names))
    level = level_words(*(blocks[name].get("ci_decision") for name in names))
    margin = margin_of(document)
    rows = []
    for key, label, explanation, is_difference in _PRIMARY_ROWS:
        if margin is None and key in ("p_noninferior", "p_tost", "relative_margin"):
            continue
        cells = [_primary_cell(blocks[name], key, is_difference, margin if name == primary else None) for name in names]
        if any(cell["value"] not in ("", "not computed", "no margin") for cell in cells):
            explanation = explanation.format(level=level, low=signed(-as_float(margin)), high=signed(margin))
            rows.append({"label": label, "explanation": explanation, "cells": cells})
    return {
        "columns": [
            metric_name(name, mapping(document.get("scores"))) + (" (primary)" if name == primary else "")
            for name in names
        ],
        "rows": rows,
        "level": level,
    }


def decision_words(interval: Any, margin: float | None) -> str:
    """Write the interval that decides as the conclusion does: never rounded onto the margin or across it.

    Example:
        >>> decision_words({"low": -0.118, "high": -0.02001}, 0.02)
        '-0.118 to -0.02001'
        >>> decision_words({"low": -0.118, "high": -0.02001}, None), decision_words(None, 0.02)
        ('-0.118 to -0.020', 'no interval')
    """
    low, high = bounds(interval)
    if margin is None or not (math.isfinite(low) and math.isfinite(high)):
        return interval_words(interval, is_difference=True)
    return ends(low, high, margin)


def matrices(document: Document) -> list[dict[str, Any]]:
    """T3: every pair of members by Dice, NSD and the concordance of their volumes; symmetric."""
    members = _members(document)
    tables = []
    for name in MATRIX_METRICS:
        score = mapping(mapping(document.get("scores")).get(name))
        cells = {
            frozenset((str(pair.get("a")), str(pair.get("b")))): {
                "value": number(mapping(pair.get("summary")).get("mean")),
                "small": interval(mapping(pair.get("summary")).get("ci95")),
            }
            for pair in items(score.get("by_pair"))
        }
        if cells:
            title = metric_name(name, mapping(document.get("scores")))
            tables.append(_matrix(title, f"Mean {title} over patients, 95 % CI below", members, cells))
    pairs = items(mapping(document.get("volume")).get("pairs"))
    for key, words in (("icc", "ICC(A,1)"), ("ccc", "Lin's concordance coefficient")):
        cells = {
            frozenset((str(pair.get("a")), str(pair.get("b")))): {
                "value": estimate_cells(pair.get(key))["value"],
                "small": estimate_cells(pair.get(key))["interval"],
            }
            for pair in pairs
            if pair.get(key) is not None
        }
        if cells:
            caption = f"{words} of the volumes: 1 is complete concordance, a constant shift lowers it; 95 % CI below"
            tables.append(_matrix(f"Volume, {words}", caption, members, cells))
            break
    return tables


def patient_rows(document: Document) -> list[dict[str, str]]:
    """Every patient of the primary analysis, the lowest difference (or score) first, undefined ones at the end."""
    failed = failed_patients(document)

    def order(row: Mapping[str, Any]) -> tuple[bool, float, str]:
        values = [as_float(row.get(key)) for key in ("d", "p0", "pn")]
        value = next((value for value in values if math.isfinite(value)), math.nan)
        return math.isnan(value), value, str(row.get("patient_id"))

    return [
        {
            "patient": printable(row.get("patient_id")),
            "p0": number(row.get("p0")),
            "pn": number(row.get("pn")),
            "d": signed(row.get("d")),
            "failed": "yes" if printable(row.get("patient_id")) in failed else "",
        }
        for row in sorted(items(primary_block(document).get("per_patient")), key=order)
    ]


def failed_patients(document: Document) -> list[str]:
    """Patients of the failure table, in its order."""
    return [printable(row.get("patient_id")) for row in items(mapping(document.get("failures")).get("patients"))]


def failure_rows(document: Document) -> list[dict[str, str]]:
    """T7: every patient who counts as a failure, the lowest score first."""
    found = [mapping(row) for row in items(mapping(document.get("failures")).get("patients"))]

    def order(row: Mapping[str, Any]) -> tuple[float, str]:
        values = [as_float(row.get("p0")), as_float(row.get("pn")), math.inf]
        return next(value for value in values if not math.isnan(value)), str(row.get("patient_id"))

    return [
        {
            "patient": printable(row.get("patient_id")),
            "case": printable(row.get("case_id") or "not stated"),
            "p0": number(row.get("p0")),
            "pn": number(row.get("pn")),
            "d": signed(as_float(row.get("p0")) - as_float(row.get("pn"))),
        }
        for row in sorted(found, key=order)
    ]


def leave_one_out_rows(document: Document) -> list[dict[str, str]]:
    """Rows under the forest: the difference with each reader in turn left out."""
    readers = [str(name) for name in items(mapping(document.get("design")).get("readers"))]
    return [
        {"reader": numbered(str(row.get("reader")), readers), **estimate_cells(row.get("delta"), is_difference=True)}
        for row in items(primary_block(document).get("leave_one_out"))
    ]


# --- Private helpers ---

_PRIMARY_ROWS = (
    ("P0", "Network with the readers (P0)", "mean over readers of the score, then over patients; {level} CI", False),
    ("Pn", "Readers with one another (Pn)", "mean over pairs of the score, then over patients; {level} CI", False),
    ("delta", "Difference (Delta = P0 - Pn)", "below zero: the network agrees less; {level} CI, t over patients", True),
    ("delta_bootstrap_t", "The same, bootstrap-t", "the check of the interval above, which must agree", True),
    ("reader_interval", "The same, patients and readers", "for readers in general, not only these", True),
    ("p_noninferior", "p, non-inferiority", "one-sided, for a difference above {low}", False),
    ("p_tost", "p, equivalence (TOST)", "one-sided, for a difference between {low} and {high}", False),
    ("attained_margin", "Attained margin", "the smallest margin that the interval would have met", False),
    ("relative_margin", "Margin as a share of 1 - Pn", "the margin beside the disagreement of the readers", False),
    ("gamma", "Extra disagreement (gamma)", "what replacing a reader by the network would add", True),
    ("williams", "Williams' index (P0 / Pn)", "1: the network agrees with readers as they do among themselves", False),
    ("chalana_kim", "Chalana-Kim index", "as Williams' index, from disagreements", False),
    ("individual_equivalence", "p, interchangeability", "one-sided, gamma below a tenth of the readers' own", False),
)  # fmt: skip


def _primary_cell(block: Mapping[str, Any], key: str, is_difference: bool, margin: float | None) -> dict[str, str]:
    held = block.get(key)
    if held is None:
        needs_margin = key in ("p_noninferior", "p_tost", "relative_margin")
        return {"value": "no margin" if needs_margin and block.get("delta") else "not computed", "small": ""}
    if key.startswith("p_"):
        return {"value": p_words(held), "small": ""}
    if key == "attained_margin" and math.isfinite(as_float(held)):
        return {"value": rounded_up(as_float(held)), "small": ""}  # as the conclusion: one rounded down would not do
    if key == "relative_margin":
        return {"value": share(held), "small": ""}
    if key == "reader_interval":
        return {"value": interval_words(held, is_difference=True), "small": level_words(held) + " CI"}
    if key == "delta_bootstrap_t":
        found = mapping(held).get("interval")
        return {"value": interval_words(found, is_difference=True), "small": level_words(found) + " CI"}
    if key == "individual_equivalence" and isinstance(held, Mapping) and "p" in held:
        return {"value": p_words(held["p"]), "small": f"limit {number(held.get('margin'))}"}
    if isinstance(held, Mapping) and "value" not in held:
        return {"value": "; ".join(f"{name}: {text}" for name, text in nested_rows(held)), "small": ""}
    if not isinstance(held, Mapping):
        return {"value": number(held), "small": ""}
    cells = estimate_cells(held, is_difference=is_difference)
    if key == "delta" and block.get("ci_decision"):
        return {"value": cells["value"], "small": decision_words(block["ci_decision"], margin)}
    return {"value": cells["value"], "small": cells["interval"]}


def _difference_card(block: Mapping[str, Any], margin: float | None) -> dict[str, str] | None:
    card, decision = _card(block.get("delta"), "difference of the two", is_difference=True), block.get("ci_decision")
    if card is None or not decision:
        return card
    n = counted(mapping(block.get("delta")).get("n"), "patient")
    return card | {"detail": f"{level_words(decision)} CI {decision_words(decision, margin)}; {n}"}


def _card(estimate: Any, label: str, *, unit: str = "", is_difference: bool = False) -> dict[str, str] | None:
    if estimate is None:
        return None
    held = mapping(estimate).get("interval")
    write = signed if is_difference else number
    shown = write(value_of(estimate), unit)
    known = shown.lstrip("+-")[:1].isdigit()
    n = mapping(estimate).get("n")
    return {
        "value": f"{shown} {unit}".rstrip() if known else shown,
        "label": label,
        "detail": f"{level_words(held)} CI {interval_words(held, unit, is_difference=is_difference)}"
        + (f"; {counted(n, 'patient')}" if n is not None else ""),
    }


def _lowest_pair(document: Document, metric: str) -> dict[str, str] | None:
    """The card of the two readers who agree least on average."""
    score = mapping(mapping(document.get("scores")).get(str(document.get("primary"))))
    pairs = [
        (as_float(mapping(pair.get("summary")).get("mean")), str(pair.get("a")), str(pair.get("b")))
        for pair in map(mapping, items(score.get("by_pair")))
    ]
    finite = sorted(pair for pair in pairs if math.isfinite(pair[0]))
    if not finite:
        return None
    value, a, b = finite[0]
    return {
        "value": number(value),
        "label": f"{metric} of the two readers furthest apart",
        "detail": f"{pair_name(a, b)}; mean over patients",
    }


def _members(document: Document) -> list[str]:
    design = mapping(document.get("design"))
    readers = [str(name) for name in items(design.get("readers"))]
    has_network = any(
        NETWORK in (pair.get("a"), pair.get("b"))
        for score in mapping(document.get("scores")).values()
        for pair in items(mapping(score).get("by_pair"))
    )
    return ([NETWORK] if has_network else []) + readers


def _matrix(
    title: str, caption: str, members: Sequence[str], cells: Mapping[frozenset[str], dict[str, str]]
) -> dict[str, Any]:
    """A symmetric table; readers of long names head their columns by number, and the row says which."""
    long = any(len(printable(name)) > SHORT_COLUMN for name in members)
    readers = [name for name in members if name != NETWORK]
    numbers = {name: str(index + 1) for index, name in enumerate(readers)} | {NETWORK: NETWORK}
    return {
        "title": title,
        "caption": caption,
        "is_numbered": long,
        "columns": [numbers[name] if long else printable(name) for name in members],
        "rows": [
            {
                "name": printable(name),
                "key": numbers[name] if long and name != NETWORK else "",
                "is_network": name == NETWORK,
                "cells": [
                    None if other == name else cells.get(frozenset((name, other)), {"value": "none", "small": ""})
                    for other in members
                ],
            }
            for name in members
        ],
    }
