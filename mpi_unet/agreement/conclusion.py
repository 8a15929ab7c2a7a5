"""What may be said: from the numbers of ``agreement.json`` to sentences, by fixed rules.

The *decision interval* [L, U] is the two-sided interval of Delta at level 1 - 2 alpha; the *margin* M is the largest
difference that does not matter, fixed before anyone looked. Their position decides the verdict; gates come first and
can only take a verdict away (:mod:`mpi_unet.agreement.gates`). Nothing here computes a statistic, and the same numbers
give the same sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpi_unet.agreement.gates import (
    FAVORABLE,
    MIN_READERS,
    bounds,
    final_verdict,
    is_number,
    least_patients,
    margin_of,
    patients_of,
    primary_block,
    raised_flags,
    sides,
    value_of,
)
from mpi_unet.agreement.phrases import amount, end, ends, patients_words, percent, rounded_up
from mpi_unet.agreement.roles import reader_words

__all__ = ["FORBIDDEN", "RULES_VERSION", "conclude"]

RULES_VERSION = 2
"""Raised whenever the same numbers could give another sentence."""

METRIC_WORDS = {"dice": "Dice", "iou": "IoU", "nsd": "surface Dice"}

FORBIDDEN = re.compile(
    r"\bno\s+(?:statistically\s+)?(?:significant\s+)?differences?\b"
    r"|\bnot\s+(?:statistically\s+)?(?:significantly\s+)?differ(?:ent|s)?\b"
    r"|\bas\s+good\s+as\b|\bindistinguishable\b|\bidentical(?:ly)?\b|\bhuman[-\s]level\b|\bsuperhuman\b"
    r"|\boutperform\w*|\bprov(?:e|es|ed|en|ing)\b",
    re.IGNORECASE,
)
"""What no comparison of this kind can support; a sentence with one of these is a fault of ours."""


def conclude(document: Mapping[str, Any]) -> dict[str, Any]:
    """Write the conclusion of an agreement analysis.

    Args:
        document: Content of ``agreement.json``; ``conclusion`` itself is not read.

    Returns:
        ``text``, its ``sentences``, ``flags`` (one word for each gate that spoke), ``verdict`` and ``rules_version``.
        The sentence on failures comes last.

    Raises:
        RuntimeError: A sentence holds a forbidden phrase; the rules themselves are wrong then.
    """
    design = document["design"]
    flags = raised_flags(document)
    if design["unit"] != "patient":
        return _conclusion([_NO_UNIT.format(unit=design["unit"])], ["unit_is_not_the_patient"], "not_assessable")
    if document["mode"] == "readers_only":
        sentences = _readers_only(document)
    elif design["n_readers"] < 2:
        sentences = _one_reader(document)
    else:
        sentences = _comparison(document, flags) + _volume(document)
    sentences += _flag_sentences(document, flags) + _failures(document)
    return _conclusion(sentences, flags, final_verdict(document))


# --- Private helpers --------------------------------------------------------------------------------------------------

_NO_UNIT = (
    "No statement is made: the unit of this analysis is the {unit}, and the values of one patient are not independent "
    "of one another."
)


def _comparison(document: Mapping[str, Any], flags: list[str]) -> list[str]:
    """Averages, difference, verdict and whom it concerns."""
    design, block, metric = document["design"], primary_block(document), _metric(document)
    who, number = _who(document), design["n_readers"]
    with_network, among = amount(value_of(block, "P0")), amount(value_of(block, "Pn"))
    sentences = [
        f"On {patients_words(patients_of(document))} the network's {metric} with each of {number} {who} averaged "
        f"{with_network}; the {who}' {metric} with one another averaged {among}."
    ]
    decision, margin = bounds(block.get("ci_decision")), margin_of(design)
    difference = f"Difference {amount(value_of(block, 'delta'), sign=True)}"
    if decision is None:
        sentences.append(f"{difference}. An interval could not be computed, so no verdict is given.")
    else:
        sentences.append(f"{difference} ({_level(block)}% CI {ends(*decision, margin)}).")
        sentences += _claim(document, flags, decision, margin)
    if "no_spread" in flags:
        sentences.append("The difference has the same value in every patient, so the interval has no width.")
    left_out = _left_out(document)
    if left_out:
        sentences.append(f"{patients_words(left_out, start=True)} could not enter, for lack of an outline or a score.")
    return [*sentences, _scope(document, flags)]


def _left_out(document: Mapping[str, Any]) -> int:
    """Patients who are in no number: without all scores, or without any mask that could be scored."""
    there, scored = document["cohort"].get("n_patients"), document["design"]["n_patients"]
    never = max(0, int(there) - int(scored)) if is_number(there) else 0
    return never + int(primary_block(document).get("n_left_out") or 0)


def _claim(
    document: Mapping[str, Any], flags: list[str], decision: tuple[float, float], margin: float | None
) -> list[str]:
    low, high = decision
    if margin is None:
        smallest = rounded_up(max(abs(low), abs(high)))
        return [
            "No margin was set, so no verdict is given; the smallest margin that this interval would have met is "
            f"{smallest}."
        ]
    who, verdict = _who(document), final_verdict(document)
    sentences = [_verdict_sentence(verdict, who, _worst(document, low), margin)]
    if verdict == "inconclusive":
        sentences = [*_reasons(document, flags, decision, margin), *sentences, _ABSENCE]
    elif "bootstrap_t_disagrees" in flags:
        sentences = [*_reasons(document, flags, decision, margin), *sentences]
    if verdict in FAVORABLE and high < 0:
        sentences.append("The difference is nevertheless below zero.")
    if verdict in FAVORABLE and low > 0:
        sentences.append(_ABOVE.format(who=who))
    if "exploratory" in flags:
        sentences[0] = f"Exploratory, since the margin was not registered beforehand: {_lower(sentences[0])}"
    return sentences


_ABSENCE = "This is absence of evidence, not evidence of agreement."
_ABOVE = (
    "The difference is above zero, as can happen when a smooth outline is compared with individual ones; it does not "
    "rank the network above the {who}."
)


def _worst(document: Mapping[str, Any], low: float) -> float:
    """The lower end of t or bootstrap-t, whichever is lower: what the data are compatible with."""
    check = bounds((primary_block(document).get("delta_bootstrap_t") or {}).get("interval"))
    return low if check is None else min(low, check[0])


def _verdict_sentence(verdict: str, who: str, low: float, margin: float) -> str:
    size = amount(margin)
    less = f"The network agrees less well with the {who} than the {who} with one another"
    if verdict == "equivalent":
        return (
            f"The network's agreement with the {who} and their agreement with one another are equivalent within "
            f"{_PLUS_MINUS}{size}."
        )
    if verdict == "noninferior":
        return f"The network's agreement with the {who} is non-inferior at {size}; equivalence is not shown."
    if verdict == "worse_beyond_margin":
        return f"{less}, by more than the margin of {size}."
    if verdict == "worse_size_uncertain":
        return f"{less}; whether by more than the margin of {size} is open."
    open_question = f"This does not show equivalence at {_PLUS_MINUS}{size}"
    if low < 0:
        return f"{open_question}: the data are compatible with a deficit as large as {end(low, margin)}."
    return f"{open_question}."


_PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def _reasons(document: Mapping[str, Any], flags: list[str], decision: tuple[float, float], margin: float) -> list[str]:
    """Why an interval that lies well makes no claim."""
    reasons = []
    row = sides(decision, margin)
    if row in FAVORABLE and "few_patients" in flags:
        least = least_patients(document["design"])
        patients = patients_words(patients_of(document))
        reasons.append(f"A claim takes at least {least} patients, and here are {patients}.")
    if "bootstrap_t_disagrees" in flags:
        check = bounds((primary_block(document).get("delta_bootstrap_t") or {}).get("interval"))
        said = "could not be computed" if check is None else f"is {ends(*check, margin)}, on another side of the margin"
        reasons.append(f"The bootstrap-t interval {said}; a claim needs both intervals.")
    return reasons


def _scope(document: Mapping[str, Any], flags: list[str]) -> str:
    design, who = document["design"], _who(document)
    number = design["n_readers"]
    if "simulated_readers" in flags:
        return f"This concerns these {number} simulated readers; it says nothing about experts."
    readers = bounds(primary_block(document).get("reader_interval"))
    with_choice = ""
    if readers is not None and number >= MIN_READERS:
        with_choice = f" (interval that also counts the choice of {who}: {ends(*readers, margin_of(design))})"
    if "few_readers" in flags or "reader_interval_beyond_margin" in flags:
        return f"This concerns these {number} {who}; it is not shown for {who} in general{with_choice}."
    return f"The interval stays within the margin when the choice of {who} is counted in{with_choice}."


def _readers_only(document: Mapping[str, Any]) -> list[str]:
    design, block, who, metric = document["design"], primary_block(document), _who(document), _metric(document)
    number = design["n_readers"]
    mean, interval = value_of(block, "Pn"), bounds((block.get("Pn") or {}).get("interval"))
    within = f" ({_level(block, 'Pn')}% CI {ends(*interval, None, sign=False)})" if interval else ""
    patients = patients_words(patients_of(document))
    sentences = [f"On {patients} the {metric} of {number} {who} with one another averaged {amount(mean)}{within}."]
    means = [pair["summary"]["mean"] for pair in _pairs(document) if is_number(pair["summary"].get("mean"))]
    if len(means) > 1:
        sentences.append(
            f"Averaged over patients, the {metric} of single pairs ranged from {amount(min(means))} to "
            f"{amount(max(means))}."
        )
    left_out = _left_out(document)
    if left_out:
        sentences.append(f"{patients_words(left_out, start=True)} could not enter, for lack of an outline or a score.")
    sentences.append("No network was assessed, so no verdict is given.")
    if document["cohort"]["simulated_readers"]:
        return [*sentences, f"This concerns these {number} simulated readers; it says nothing about experts."]
    return [*sentences, f"This concerns these {number} {who}."]


def _one_reader(document: Mapping[str, Any]) -> list[str]:
    metric, block = _metric(document), primary_block(document)
    one, many = reader_words(document, FORBIDDEN)
    interval = bounds((block.get("P0") or {}).get("interval"))
    within = f" ({_level(block, 'P0')}% CI {ends(*interval, None, sign=False)})" if interval else ""
    left_out = _left_out(document)
    missing = f"{patients_words(left_out, start=True)} could not enter, for lack of an outline or a score."
    return [
        f"On {patients_words(patients_of(document))} the network's {metric} with one {one} averaged "
        f"{amount(value_of(block, 'P0'))}{within}.",
        *([missing] if left_out else []),
        f"The agreement between {many} was not measured, because the outlines of one {one} only were compared; whether "
        f"the network agrees with {many} as well as they agree with one another takes two or more on every patient.",
    ]


def _volume(document: Mapping[str, Any]) -> list[str]:
    """Bias and limits of the network's volume; a claim on the bias only where overlap earned the strongest verdict."""
    volume = document.get("volume") or {}
    pair = next((pair for pair in volume.get("pairs") or () if pair["a"] == "network"), None)
    if not volume.get("available") or pair is None or _is_single_reader(document, pair):
        return []
    bias, limits = value_of(pair, "bias"), pair.get("limits") or {}
    interval = bounds((pair.get("bias") or {}).get("interval"))
    if not is_number(bias) or interval is None:
        return []
    text = (
        f"The network's volumes differed from the mean of the {_who(document)} by {_ml(bias)} ml on average "
        f"({_level(pair, 'bias')}% CI {_ml(interval[0])} to {_ml(interval[1])} ml)"
    )
    low, high = value_of(limits, "low"), value_of(limits, "high")
    if is_number(low) and is_number(high):
        text += f", with 95% limits of agreement from {_ml(low)} to {_ml(high)} ml"
    tost = pair.get("tost") or {}
    if final_verdict(document) == "equivalent" and tost.get("inside") and "exploratory" not in raised_flags(document):
        within = percent(tost["margin_pct"] / 100, 0)
        text += f"; the interval of the difference in percent of the {_who(document)} lies within {_PLUS_MINUS}{within}"
    return [f"{text}."]


def _ml(value: float) -> str:
    return amount(value, 1, sign=True)


def _is_single_reader(document: Mapping[str, Any], pair: Mapping[str, Any]) -> bool:
    """Whether a pair of the volume table is another one than the network and the mean of the readers."""
    return bool(pair["b"] in document["design"]["readers"])


def _flag_sentences(document: Mapping[str, Any], flags: list[str]) -> list[str]:
    design, who = document["design"], _who(document)
    readers = set(design["readers"])
    sentences = []
    if "network_trained_on_test_readers" in flags:
        number = len(readers & set(design["network_trained_on"]))
        sentences.append(
            f"The network was trained on outlines by {number} of these {design['n_readers']} {who}, which favors it."
        )
    if "reader_in_consensus" in flags:
        number = len(readers & set(design["consensus_members"]))
        sentences.append(
            f"{number} of these {who} took part in the consensus that the network was trained on, which favors it."
        )
    if "not_blinded" in flags:
        sentences.append(f"The {who} were not blinded to one another or to the network, which favors agreement.")
    if "blinding_not_stated" in flags and "simulated_readers" not in flags:
        sentences.append(
            f"Whether the {who} were blinded to one another and to the network is not stated; if they were not, that "
            "favors agreement."
        )
    return sentences


def _failures(document: Mapping[str, Any]) -> list[str]:
    failures, metric, who = document.get("failures"), _metric(document), _who(document)
    if not failures or not failures.get("n"):
        return ["Failures were not counted."]
    upper = f" (upper 95% limit {percent(failures['upper95'], 1)})" if is_number(failures["upper95"]) else ""
    head = f"In {failures['k']} of {patients_words(failures['n'])}"
    threshold = f"{failures['threshold']:.2f}"
    if document["mode"] == "readers_only":
        said = f"the two {who} furthest apart had a {metric} below {threshold}"
    elif document["design"]["n_readers"] < 2:
        said = f"the network's {metric} was below {threshold}"
    else:
        said = f"the network's {metric} was more than {threshold} below the {who}' own"
    return [f"{head} {said}{upper}{_with_missing(failures, metric)}."]


def _with_missing(failures: Mapping[str, Any], metric: str) -> str:
    """The same count when patients without a prediction are failures too, where there are such patients."""
    worst = failures.get("with_missing")
    if not worst or not worst.get("n"):
        return ""
    upper = f" (upper 95% limit {percent(worst['upper95'], 1)})" if is_number(worst["upper95"]) else ""
    without = f"{patients_words(worst['patients'])} without a prediction, wholly or in part,"
    return f"; counting {without} as a {metric} of 0 there, in {worst['k']} of {worst['n']}{upper}"


def _conclusion(sentences: list[str], flags: list[str], verdict: str) -> dict[str, Any]:
    for sentence in sentences:
        if found := FORBIDDEN.search(sentence):
            raise RuntimeError(f"the rules of the conclusion wrote {found.group(0)!r}, which they must not: {sentence}")
    return {
        "text": " ".join(sentences),
        "sentences": sentences,
        "flags": flags,
        "verdict": verdict,
        "rules_version": RULES_VERSION,
    }


def _pairs(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((document["scores"].get(document["primary"]) or {}).get("by_pair") or ())


def _metric(document: Mapping[str, Any]) -> str:
    return METRIC_WORDS.get(document["primary"], document["primary"])


def _who(document: Mapping[str, Any]) -> str:
    return reader_words(document, FORBIDDEN)[1]


def _level(block: Mapping[str, Any], name: str = "") -> str:
    interval = block[name]["interval"] if name else block["ci_decision"]
    return f"{100 * interval['level']:g}"


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
