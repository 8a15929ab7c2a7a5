"""Numbers as the sentences of a conclusion write them."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["amount", "end", "ends", "patients_words", "percent", "plural", "rounded_up"]

DECIMALS, FINE_DECIMALS, MOST_DECIMALS = 3, 4, 8
"""Three decimals; four for what would vanish; more only where an end would else look as if it lay on the margin."""

SMALL = 1e-3


def amount(value: Any, decimals: int = DECIMALS, *, sign: bool = False) -> str:
    """Write a number; what is not there is called undefined, and a zero has no sign.

    Args:
        value: A number, None for undefined, or the text ``inf``.
        decimals: Decimals; with three, a number below 0.001 gets four.
        sign: Whether a positive number carries its sign.

    Example:
        >>> amount(0.91234), amount(-0.0167, sign=True), amount(0.013, sign=True), amount(0.0004), amount(-0.00001)
        ('0.912', '-0.017', '+0.013', '0.0004', '0.0000')
        >>> amount(None), amount(-0.04, 1)
        ('undefined', '0.0')
    """
    if value is None:
        return "undefined"
    number = float(value)
    if not math.isfinite(number):
        return "undefined" if math.isnan(number) else ("infinite" if number > 0 else "minus infinite")
    if decimals == DECIMALS and 0 < abs(number) < SMALL:
        decimals = FINE_DECIMALS
    text = f"{number:+.{decimals}f}" if sign else f"{number:.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def ends(low: float, high: float, margin: float | None, *, sign: bool = True) -> str:
    """Write the ends of an interval, with more decimals where rounding would put one on the margin or across it.

    Example:
        >>> ends(-0.046283, 0.012949, 0.02)
        '-0.046 to +0.013'
        >>> ends(-0.0204, 0.0001, 0.02)
        '-0.0204 to +0.0001'
    """
    return f"{end(low, margin, sign=sign)} to {end(high, margin, sign=sign)}"


def end(value: float, margin: float | None, *, sign: bool = True) -> str:
    """Write one end of an interval; see :func:`ends`.

    Example:
        >>> end(-0.02004, 0.02), end(-0.02004, None)
        ('-0.02004', '-0.020')
    """
    text = amount(value, sign=sign)
    if margin is None:
        return text
    for decimals in range(FINE_DECIMALS, MOST_DECIMALS + 1):
        shown = float(text)
        if value in (margin, -margin) or (_side(shown, margin) == _side(value, margin)):
            break
        text = amount(value, decimals, sign=sign)
    return text


def rounded_up(value: float) -> str:
    """Write a positive number with three decimals, never smaller than it is (four for a small one).

    Example:
        >>> rounded_up(0.0461), rounded_up(0.046), rounded_up(0.00012)
        ('0.047', '0.046', '0.0002')
    """
    decimals = DECIMALS if value >= SMALL else FINE_DECIMALS
    scaled = value * 10**decimals
    nearest = round(scaled)
    return (
        f"{(nearest if math.isclose(nearest, scaled, rel_tol=1e-9) else math.ceil(scaled)) / 10**decimals:.{decimals}f}"
    )


def percent(share: float, decimals: int) -> str:
    """Write a share in percent.

    Example:
        >>> percent(0.3123, 1), percent(0.05, 0)
        ('31.2%', '5%')
    """
    return f"{100 * share:.{decimals}f}%"


def plural(number: int, noun: str) -> str:
    """Write a number and its noun.

    Example:
        >>> plural(1, "patient"), plural(8, "patient")
        ('1 patient', '8 patients')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def patients_words(number: int, *, start: bool = False) -> str:
    """Write a number of patients; at the start of a sentence a single one is spelled out.

    Example:
        >>> patients_words(8), patients_words(1, start=True)
        ('8 patients', 'One patient')
    """
    return "One patient" if start and number == 1 else plural(number, "patient")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _side(value: float, margin: float) -> tuple[bool, bool, bool]:
    return value > -margin, value < margin, abs(value) == margin
