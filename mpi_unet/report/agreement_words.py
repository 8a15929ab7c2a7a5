"""Estimates, intervals and members of a panel as words, for the part of the page that is about agreement.

An *estimate* is what ``agreement.json`` holds for a number with its uncertainty: ``value``, ``n`` and ``interval``
(``low``, ``high``, ``level``, ``method``). A *member* of the panel is the network or a reader. Whatever is null is said
to be undefined or not computed; nothing is guessed.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from mpi_unet.report.wording import as_float, number

NETWORK = "network"
"""How ``agreement.json`` calls the network among the members."""

SHORT_NAME = 16
"""Names up to this length fit beside a chart on a phone; longer ones are cut and numbered there."""

SHORT_COLUMN = 9
"""Names up to this length head a column of a table; longer ones are replaced by their numbers there."""

SMALLEST_P = 1e-4
DEFAULT_LEVEL = 0.95

METRIC_NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "Surface Dice (NSD)",
    "hd95_mm": "HD95",
    "assd_mm": "ASSD",
}


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, else an empty one: a part of the file that is null or absent."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """``value`` where it is a list, else an empty one."""
    return list(value) if isinstance(value, list | tuple) else []


def value_of(estimate: Any) -> float:
    """The value of an estimate, or of a bare number; NaN where there is none."""
    if isinstance(estimate, Mapping):
        estimate = estimate.get("value")
    return as_float(estimate) if isinstance(estimate, int | float | str) else math.nan


def margin_of(document: Mapping[str, Any]) -> float | None:
    """The margin of a comparison; None where there is none that could be one.

    Example:
        >>> margin_of({"design": {"margin": 0.02}}), margin_of({"design": {"margin": None}})
        (0.02, None)
    """
    margin = value_of(mapping(document.get("design")).get("margin"))
    return margin if math.isfinite(margin) and margin > 0 else None


def bounds(interval: Any) -> tuple[float, float]:
    """Ends of an interval; NaN where it is missing."""
    interval = mapping(interval)
    return as_float(interval.get("low")), as_float(interval.get("high"))


def signed(value: float | int | str | None, unit: str = "") -> str:
    """Write a difference with its sign; zero has none.

    Example:
        >>> signed(0.0131), signed(-0.017), signed(0.00001), signed(-0.0004)
        ('+0.013', '-0.017', '0.000', '-0.0004')
    """
    text = number(value, unit)
    return f"+{text}" if text[0].isdigit() and float(text) > 0 else text


def interval_words(interval: Any, unit: str = "", *, is_difference: bool = False) -> str:
    """Write an interval as ``a to b``; one that is missing is said to be missing.

    Example:
        >>> interval_words({"low": -0.046, "high": 0.013}, is_difference=True)
        '-0.046 to +0.013'
        >>> interval_words(None)
        'no interval'
    """
    low, high = bounds(interval)
    if math.isnan(low) or math.isnan(high):
        return "no interval"
    write = signed if is_difference else number
    return f"{write(low, unit)} to {write(high, unit)}"


def estimate_cells(estimate: Any, unit: str = "", *, is_difference: bool = False) -> dict[str, str]:
    """Turn an estimate into the texts of a table cell: ``value``, ``interval``, ``n`` and ``method``."""
    held = mapping(estimate)
    write = signed if is_difference else number
    absent = estimate is None
    return {
        "value": "not computed" if absent else write(value_of(estimate), unit),
        "interval": "" if absent else interval_words(held.get("interval"), unit, is_difference=is_difference),
        "n": str(int(held["n"])) if isinstance(held.get("n"), int | float) else "",
        "method": str(mapping(held.get("interval")).get("method") or held.get("method") or ""),
    }


def p_words(p: Any) -> str:
    """Write a p value.

    Example:
        >>> p_words(0.22499), p_words(0.00042), p_words(3e-7), p_words(None)
        ('0.225', '0.0004', 'below 0.0001', 'not computed')
    """
    if not isinstance(p, int | float) or math.isnan(p):
        return "not computed"
    return "below 0.0001" if p < SMALLEST_P else number(p)


def level_words(*intervals: Any) -> str:
    """The confidence level of the first interval that states one.

    Example:
        >>> level_words(None, {"level": 0.9}), level_words()
        ('90 %', '95 %')
    """
    levels = [mapping(interval).get("level") for interval in intervals]
    level = next((level for level in levels if isinstance(level, int | float)), DEFAULT_LEVEL)
    return f"{100 * level:g} %"


def share(value: Any) -> str:
    """Write a proportion in percent.

    Example:
        >>> share(0.3123), share(None)
        ('31.2 %', 'undefined')
    """
    part = value_of(value)
    return f"{number(100 * part, '%')} %" if math.isfinite(part) else number(part)


def counted(n: Any, word: str) -> str:
    """Write a number with its noun.

    Example:
        >>> counted(1, "patient"), counted(3, "reader"), counted(None, "case")
        ('1 patient', '3 readers', 'an unknown number of cases')
    """
    if not isinstance(n, int | float):
        return f"an unknown number of {word}s"
    return f"{int(n)} {word}" + ("" if n == 1 else "s")


def printable(name: Any) -> str:
    """A name without control characters, which neither XML nor a table bears; nothing at all is an empty one."""
    if name is None:
        return ""
    return "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in str(name))


def pair_name(a: str, b: str, sign: str = "and") -> str:
    """Two members, the network first and without quotes: ``network and A``.

    Example:
        >>> pair_name("network", "A"), pair_name("A", "B", "-")
        ('network and A', 'A - B')
    """
    return f"{printable(a)} {sign} {printable(b)}"


def chart_name(name: str, readers: Sequence[str]) -> str:
    """A member beside a chart: the name, or its beginning with the number of the reader in front.

    Example:
        >>> chart_name("A", ["A", "B"]), chart_name("Dr. Alexandra Featherstone", ["A", "Dr. Alexandra Featherstone"])
        ('A', '2: Dr. Alexandr...')
    """
    text = printable(name)
    if len(text) <= SHORT_NAME:
        return text
    place = f"{list(readers).index(name) + 1}: " if name in readers else ""
    return f"{place}{text[: SHORT_NAME - len(place) - 1].rstrip()}..."


def numbered(name: str, readers: Sequence[str]) -> str:
    """A reader in a table, with the number by which charts call somebody of a long name.

    Example:
        >>> numbered("A", ["A", "B"]), numbered("Dr. Alexandra Featherstone", ["A", "Dr. Alexandra Featherstone"])
        ('A', '2: Dr. Alexandra Featherstone')
    """
    text = printable(name)
    return f"{list(readers).index(name) + 1}: {text}" if len(text) > SHORT_NAME and name in readers else text


def metric_name(name: str, scores: Mapping[str, Any] | None = None) -> str:
    """What a metric is called in a heading."""
    known = METRIC_NAMES.get(name)
    return known or str(mapping(mapping(scores).get(name)).get("label") or name)
