"""The items of CLAIM 2024 that an agreement analysis can answer, and those that stay open for the authors.

CLAIM is the checklist for articles on artificial intelligence in medical imaging. An item is *answered* when the files
say what it asks for, *open* when only the authors know, and *not applicable* when it asks for something that this
analysis does not have. The topics are in our own words; the numbers are those of the 2024 update.

Source:
    Tejani et al. 2024, Radiology: Artificial Intelligence 6(4):e240300. doi:10.1148/ryai.240300
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpi_unet.agreement.phrases import amount, percent, plural

__all__ = ["TOPICS", "claim_items"]

TOPICS = {
    1: "Title or abstract names the technology",
    2: "Structured abstract",
    3: "Background and intended use",
    4: "Aims and hypotheses",
    5: "Prospective or retrospective design",
    6: "Goal of the study",
    7: "Sources of the data",
    8: "Criteria of inclusion and exclusion",
    9: "Processing of the images beforehand",
    10: "Selection of parts of the data",
    11: "De-identification",
    12: "Handling of missing data",
    13: "Acquisition of the images",
    14: "Definition of the reference standard",
    15: "Reasons for the reference standard",
    16: "Who made the reference outlines",
    17: "How the test images were outlined",
    18: "Variability between and within readers",
    19: "How patients were divided",
    20: "Level at which the parts are disjoint",
    21: "Planned number of test patients",
    22: "The model",
    23: "Software and versions",
    24: "Initial values of the parameters",
    25: "Training",
    26: "Choice of the final model",
    27: "Ensembles",
    28: "Measures of performance",
    29: "Uncertainty and tests",
    30: "Robustness and sensitivity",
    31: "Explainability",
    32: "Evaluation on internal data",
    33: "Testing on external data",
    34: "Registration of the trial",
    35: "Numbers of patients included and excluded",
    36: "Demographic and clinical characteristics",
    37: "Performance with uncertainty",
    38: "Diagnostic performance with precision",
    39: "Analysis of failures",
    40: "Limitations",
    41: "Implications for practice",
    42: "Full protocol",
    43: "Availability of software, model and data",
    44: "Funding",
}

NETWORK_ITEMS = (9, 19, 20, 22, 24, 25, 26, 27, 31, 32, 33)
"""Items about a network; without one they do not apply."""


def claim_items(document: Mapping[str, Any], known: Mapping[int, str] | None = None) -> list[dict[str, Any]]:
    """List all 44 items with their status and, where the files have it, the answer.

    Args:
        document: Content of ``agreement.json``; ``claim`` itself is not read.
        known: Further answers by item, for example what a run says of its training.

    Returns:
        Entries of the part ``claim``: ``item``, ``topic``, ``status`` and ``answer``.
    """
    answers = {**_answers(document), **(known or {})}
    has_network = document["mode"] != "readers_only"
    items = []
    for item, topic in TOPICS.items():
        answer = answers.get(item, "")
        status = "answered" if answer else "open"
        if not has_network and item in NETWORK_ITEMS:
            status, answer = "not_applicable", "no network was assessed"
        items.append({"item": item, "topic": topic, "status": status, "answer": answer})
    return items


# --- Private helpers --------------------------------------------------------------------------------------------------


def _answers(document: Mapping[str, Any]) -> dict[int, str]:
    cohort, design = document["cohort"], document["design"]
    answers = {
        7: _joined([str(cohort["source"]), f"licence: {cohort['licence']}"]),
        12: _missing(document),
        14: _reference(document),
        16: _readers(design),
        18: _variability(document),
        23: ", ".join(f"{name} {version}" for name, version in document["software"].items()),
        28: _measures(document),
        29: _uncertainty(document),
        30: _sensitivity(document),
        35: (
            f"{plural(design['n_patients'], 'patient')} with {plural(design['n_cases'], 'case')}; the cohort has "
            f"{cohort['n_patients']} and {cohort['n_cases']}, {plural(len(cohort['left_out']), 'case')} left out"
        ),
        37: _performance(document),
        39: _failures(document),
    }
    if design.get("blinded") is not None:
        answers[17] = "readers blinded" if design["blinded"] else "readers not blinded"
    return {item: answer for item, answer in answers.items() if answer}


def _missing(document: Mapping[str, Any]) -> str:
    reasons: dict[str, int] = {}
    for entry in document["cohort"]["left_out"]:
        reasons[entry["reason"]] = reasons.get(entry["reason"], 0) + 1
    said = "; ".join(f"{plural(number, 'case')}: {reason}" for reason, number in sorted(reasons.items()))
    return said or "no case was left out; an undefined score enters no mean and is counted"


def _reference(document: Mapping[str, Any]) -> str:
    number = document["design"]["n_readers"]
    if number < 2:
        return "the outlines of one reader"
    return f"the outlines of {number} readers, each compared with every other; no consensus enters the primary result"


def _readers(design: Mapping[str, Any]) -> str:
    facts = design["reader_facts"]
    described = []
    for reader in design["readers"]:
        known = "; ".join(f"{name}: {value}" for name, value in facts.get(reader, {}).items())
        described.append(f"{reader} ({known})" if known else reader)
    return ", ".join(described) if any(reader in facts for reader in design["readers"]) else ""


def _variability(document: Mapping[str, Any]) -> str:
    block = document["agreement"].get(document["primary"]) or {}
    said = []
    if block.get("Pn"):
        metric = document["scores"][document["primary"]]["label"]
        said.append(f"{metric} of the readers with one another {_estimate(block['Pn'])}")
    for read in document["repeatability"]:
        if read["dice"] and read["dice"]["mean"] is not None:
            mean = amount(read["dice"]["mean"])
            said.append(f"reader {read['reader']} with the second read, {plural(read['n'], 'patient')}: Dice {mean}")
    icc = ((document.get("volume") or {}).get("icc") or {}).get("readers") or {}
    if "ICC(A,1)" in icc:
        said.append(f"ICC(A,1) of the volumes {_estimate(icc['ICC(A,1)'])}")
    return _joined(said)


def _measures(document: Mapping[str, Any]) -> str:
    labels = dict.fromkeys(entry["label"] for entry in document["scores"].values())
    return f"{', '.join(labels)}; {document['design']['aggregation']}"


def _uncertainty(document: Mapping[str, Any]) -> str:
    design = document["design"]
    said = ["t intervals over patients, checked by bootstrap-t"]
    if design["margin"] is not None:
        said.append(
            f"non-inferiority and equivalence at a margin of {amount(design['margin'])} ({design['margin_source']}), "
            f"one-sided alpha {design['alpha_one_sided']:g}"
        )
    return _joined(said)


def _sensitivity(document: Mapping[str, Any]) -> str:
    return _joined([entry["what"] for entry in document["sensitivity"] if entry["delta"]])


def _performance(document: Mapping[str, Any]) -> str:
    if document["mode"] == "readers_only":
        return ""
    block = document["agreement"].get(document["primary"]) or {}
    names = (("network with the readers", "P0"), ("readers with one another", "Pn"), ("difference", "delta"))
    return _joined([f"{words} {_estimate(block[name])}" for words, name in names if block.get(name)])


def _failures(document: Mapping[str, Any]) -> str:
    failures = document.get("failures")
    if not failures or failures["upper95"] is None:
        return ""
    return (
        f"{failures['k']} of {plural(failures['n'], 'patient')} ({failures['definition']}), upper 95% limit "
        f"{percent(failures['upper95'], 1)}; each is listed"
    )


def _estimate(estimate: Mapping[str, Any]) -> str:
    interval = estimate["interval"]
    if interval is None:
        return amount(estimate["value"])
    level = f"{100 * interval['level']:g}"
    return f"{amount(estimate['value'])} ({level}% CI {amount(interval['low'])} to {amount(interval['high'])})"


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(part for part in parts if part)
