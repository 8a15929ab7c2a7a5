"""The gates of a conclusion: what has to hold before a claim is made, and the verdict that is left after all of them.

Each gate that speaks gives a *flag*, one word that the conclusion turns into a sentence. A verdict in the network's
disfavor is not taken away because patients are few: the gate on their number protects from reassurance, and an interval
that lies below zero in spite of few patients is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mpi_unet.agreement.equivalence import Verdict, verdict_of
from mpi_unet.agreement.registration import registered_on, registration_kind
from mpi_unet.evaluation.intervals import Interval

__all__ = ["FAVORABLE", "MIN_PATIENTS", "MIN_READERS", "final_verdict", "raised_flags"]

MIN_PATIENTS = 30
"""Fewer patients carry no claim; below, neither t nor bootstrap-t keeps its error rate when some patients fail."""

MIN_READERS = 5
"""Fewer readers say nothing about readers in general: their variance rests on too few degrees of freedom."""

FAVORABLE = ("equivalent", "noninferior")
"""Verdicts that reassure."""

WORSE = {"worse_beyond_margin", "worse_size_uncertain"}
"""Verdicts in the network's disfavor."""


def final_verdict(document: Mapping[str, Any]) -> Verdict:
    """The verdict on the primary metric after all gates; what :func:`verdict_of` says unless a gate speaks.

    Both the t and the bootstrap-t interval have to lie on the same row of the table; a favorable verdict also needs
    30 patients. Where both say "worse" and differ on whether by more than the margin, that alone is open.
    """
    design, block = document["design"], primary_block(document)
    decision, margin = bounds(block.get("ci_decision")), margin_of(design)
    if document["mode"] == "readers_only" or design["unit"] != "patient" or design["n_readers"] < 2:
        return "not_assessable"
    if decision is None or margin is None:
        return "not_assessable"
    row = sides(decision, margin)
    check = bounds((block.get("delta_bootstrap_t") or {}).get("interval"))
    if check is None:
        return "inconclusive"
    if sides(check, margin) != row:
        return "worse_size_uncertain" if {row, sides(check, margin)} == WORSE else "inconclusive"
    return "inconclusive" if row in FAVORABLE and patients_of(document) < least_patients(design) else row


def raised_flags(document: Mapping[str, Any]) -> list[str]:
    """Every gate that speaks, in the order in which it is said."""
    design, block = document["design"], primary_block(document)
    flags = ["simulated_readers"] if document["cohort"]["simulated_readers"] else []
    if document["mode"] == "readers_only":
        return flags + (["few_readers"] if design["n_readers"] < MIN_READERS else [])
    if design["n_readers"] < 2:
        return [*flags, "one_reader"]
    decision, margin = bounds(block.get("ci_decision")), margin_of(design)
    if decision is None:
        flags.append("no_interval")
    elif decision[0] == decision[1]:
        flags.append("no_spread")
    if margin is None:
        flags.append("no_margin")
    elif not _is_registered(document):
        flags.append("exploratory")
    if patients_of(document) < least_patients(design):
        flags.append("few_patients")
    if decision is not None and margin is not None:
        check = bounds((block.get("delta_bootstrap_t") or {}).get("interval"))
        if check is None or sides(check, margin) != sides(decision, margin):
            flags.append("bootstrap_t_disagrees")
    if design["n_readers"] < MIN_READERS:
        flags.append("few_readers")
    elif not _readers_inside(block, margin):
        flags.append("reader_interval_beyond_margin")
    readers = set(design["readers"])
    if readers & set(design.get("network_trained_on") or ()):
        flags.append("network_trained_on_test_readers")
    if readers & set(design.get("consensus_members") or ()):
        flags.append("reader_in_consensus")
    if design.get("blinded") is False:
        flags.append("not_blinded")
    elif design.get("blinded") is None:
        flags.append("blinding_not_stated")
    return flags


# --- What the gates and the sentences read from agreement.json ---


def sides(ends: tuple[float, float], margin: float) -> Verdict:
    """What the ends of an interval alone say about a margin, before any gate."""
    return verdict_of(Interval(*ends, level=0.95, method=""), margin)


def primary_block(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The block of the metric that the verdict is about; empty where there is none."""
    return document["agreement"].get(document["primary"]) or {}


def patients_of(document: Mapping[str, Any]) -> int:
    """Patients in the primary analysis."""
    block = primary_block(document)
    for name in ("delta", "Pn", "P0"):
        if block.get(name):
            return int(block[name]["n"])
    return int(document["design"]["n_patients"])


def least_patients(design: Mapping[str, Any]) -> int:
    """Patients that a claim needs: 30, or more where the design asks for more."""
    return max(MIN_PATIENTS, int(design.get("min_patients") or MIN_PATIENTS))


def margin_of(design: Mapping[str, Any]) -> float | None:
    """The margin, where a positive one was given."""
    margin: Any = design.get("margin")
    return float(margin) if is_number(margin) and margin > 0 else None


def value_of(block: Mapping[str, Any], name: str) -> Any:
    """Value of an estimate, None where it is not there."""
    return (block.get(name) or {}).get("value")


def bounds(interval: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """Ends of an interval, None unless both are finite."""
    if not interval or not is_number(interval["low"]) or not is_number(interval["high"]):
        return None
    return float(interval["low"]), float(interval["high"])


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _is_registered(document: Mapping[str, Any]) -> bool:
    """Whether the margin has a source and was registered, if a date says so, not after this analysis."""
    design = document["design"]
    when = str(design.get("margin_registered_at") or "")
    if registration_kind(when) is None or not str(design.get("margin_source") or "").strip():
        return False
    day, created = registered_on(when), registered_on(str(document["created"]))
    return day is None or (created is not None and day <= created)


def _readers_inside(block: Mapping[str, Any], margin: float | None) -> bool:
    readers = bounds(block.get("reader_interval"))
    return readers is not None and margin is not None and -margin < readers[0] and readers[1] < margin
