"""When a margin was fixed: what counts as a registration that somebody else can look up.

A *date* is compared with the day of the analysis. A *commit*, the number of a *registry* (NCT01234567) or an *address*
(osf.io/abcde, a doi) can be looked up, and is taken at its word.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Literal

__all__ = ["EXPECTED", "registered_on", "registration_kind"]

EXPECTED = (
    "a date such as 2026-01-10, a commit of 7 to 40 hexadecimal digits, the number of a registry such as NCT01234567, "
    "or an address such as osf.io/abcde"
)

_COMMIT = re.compile(r"[0-9a-f]{7,40}", re.IGNORECASE)
_REGISTRY = re.compile(r"[A-Z]{2,12}[-_/ ]?\d[\d/-]{5,}")
_ADDRESS = re.compile(r"(https?://)?[\w-]+(\.[\w-]+)+/\S+")


def registration_kind(text: str) -> Literal["date", "commit", "registry", "address"] | None:
    """What kind of registration a text is; None where it is none, such as "last week".

    Example:
        >>> [registration_kind(text) for text in ("2026-01-10", "66416f1", "NCT01234567", "osf.io/abcde", "2026-13-01")]
        ['date', 'commit', 'registry', 'address', None]
    """
    text = text.strip()
    if registered_on(text) is not None:
        return "date"
    if _COMMIT.fullmatch(text):
        return "commit"
    if _REGISTRY.fullmatch(text):
        return "registry"
    return "address" if _ADDRESS.fullmatch(text) else None


def registered_on(text: str) -> date | None:
    """The day, where the registration is a date (with or without a time); else None.

    Example:
        >>> registered_on("20260110") == registered_on("2026-01-10T12:00:00+01:00") == date(2026, 1, 10)
        True
    """
    try:
        return datetime.fromisoformat(text.strip()).date()
    except ValueError:
        return None
