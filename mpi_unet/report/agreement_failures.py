"""How many patients failed, in words; patients without a prediction are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpi_unet.report.agreement_words import counted, mapping, printable, share
from mpi_unet.report.wording import count

__all__ = ["failure_count"]


def failure_count(document: Mapping[str, Any]) -> dict[str, str] | None:
    """T7 in words: the rule, how many patients it concerns, and up to which share that is compatible with."""
    failures = mapping(document.get("failures"))
    if failures.get("k") is None:
        return None
    return {
        "definition": printable(failures.get("definition") or "not stated"),
        "k": count(failures.get("k")),
        "n": counted(failures.get("n"), "patient"),
        "upper": share(failures.get("upper95")),
        "missing": _missing_words(mapping(failures.get("with_missing"))),
    }


# --- Private helpers ---


def _missing_words(worst: Mapping[str, Any]) -> str:
    """The count of failures when patients without a prediction are among them; empty where there are none."""
    if not worst:
        return ""
    return (
        f"{counted(worst.get('patients'), 'patient')} had no prediction, wholly or in part. With a score of 0 there, "
        f"{count(worst.get('k'))} of {counted(worst.get('n'), 'patient')} count (upper 95 % limit "
        f"{share(worst.get('upper95'))})."
    )
