"""What readers are called in a conclusion: by their role, where the cohort states one for each of them.

A role is free text of a cohort, so it enters a sentence only when it is a plain noun; anything else makes "readers" of
them. Where no role is stated for anybody they are called experts, as those are whose outlines a study asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["reader_words", "role_words"]

_NOUN = re.compile(r"[A-Za-z][A-Za-z]*(?:[ -][A-Za-z]+){0,4}")
_NOTHING = {"no", "none", "not", "unknown", "not stated", "not known", "other", "yes", "na", "various", "mixed"}
_VERDICT = re.compile(r"equivalen|inferior|superior|agree|evidence", re.IGNORECASE)
_TAIL = re.compile(r" (?:in|of|with|for|at|from|on) ")
MAX_LETTERS = 48


def reader_words(document: Mapping[str, Any], forbidden: re.Pattern[str]) -> tuple[str, str]:
    """What one and several of the readers of an analysis are called.

    Args:
        document: Content of ``agreement.json``.
        forbidden: What no sentence may hold; a role with such a phrase is not used.
    """
    if document["cohort"]["simulated_readers"]:
        return "simulated reader", "simulated readers"
    facts = document["design"].get("reader_facts") or {}
    stated = [str((facts.get(reader) or {}).get("role") or "").strip() for reader in document["design"]["readers"]]
    if not any(stated):
        return "expert", "experts"
    roles = {_lowered(role) for role in stated}
    [role, *others] = sorted(roles)
    if others or not (words := role_words(role)) or any(forbidden.search(word) for word in words):
        return "reader", "readers"
    return words


def role_words(role: str) -> tuple[str, str] | None:
    """One and several persons of a role; None where the text is no plain noun.

    Example:
        >>> role_words("fellow in training"), role_words("MD, PhD")
        (('fellow in training', 'fellows in training'), None)
    """
    if len(role) > MAX_LETTERS or role.lower() in _NOTHING or not _NOUN.fullmatch(role) or _VERDICT.search(role):
        return None
    tail = _TAIL.search(role)
    head, rest = (role[: tail.start()], role[tail.start() :]) if tail else (role, "")
    if head.endswith("s"):  # a plural already, or a word whose plural nobody can tell from its letters
        return None
    if head.endswith("y") and head[-2:-1] not in "aeiou":
        return role, f"{head[:-1]}ies{rest}"
    return role, f"{head}{'es' if head.endswith(('ch', 'sh', 'x', 'z')) else 's'}{rest}"


# --- Private helpers --------------------------------------------------------------------------------------------------


def _lowered(role: str) -> str:
    """Small letters, abbreviations such as PET aside."""
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in role.split())
