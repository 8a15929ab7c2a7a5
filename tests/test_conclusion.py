"""What the conclusion says, when, and what it never says."""

from __future__ import annotations

import math
import random
import re

import pytest
from agreement_documents import agreement_document, estimate, interval, random_document, random_volume

from mpi_unet.agreement import conclusion
from mpi_unet.agreement.conclusion import FORBIDDEN, conclude
from mpi_unet.agreement.gates import final_verdict

NEVER = (
    "no difference",
    "no significant difference",
    "not different",
    "not significantly different",
    "as good as",
    "indistinguishable",
    "identical",
    "human-level",
    "superhuman",
    "outperform",
    "prove",
)


def test_toy_panel_reads_as_specified():
    document = agreement_document(
        delta=(-0.0166667, -0.04628258993351, 0.01294925660017),
        n=8,
        reader_interval=(-0.07220830561139, 0.03887497227806),
    )
    assert conclude(document)["text"] == (
        "On 8 patients the network's Dice with each of 3 experts averaged 0.906; the experts' Dice with one another "
        "averaged 0.923. Difference -0.017 (95% CI -0.046 to +0.013). This does not show equivalence at \u00b10.020: "
        "the data are compatible with a deficit as large as -0.046. This is absence of evidence, not evidence of "
        "agreement. This concerns these 3 experts; it is not shown for experts in general. In 0 of 8 patients the "
        "network's Dice was more than 0.10 below the experts' own (upper 95% limit 31.2%)."
    )


@pytest.mark.parametrize(
    ("ends", "verdict", "words"),
    [
        ((-0.012, 0.002), "equivalent", "are equivalent within \u00b10.020."),
        ((-0.012, -0.002), "equivalent", "The difference is nevertheless below zero."),
        ((0.002, 0.012), "equivalent", "rank the network above the experts"),
        ((-0.012, 0.025), "noninferior", "is non-inferior at 0.020; equivalence is not shown."),
        ((-0.012, 0.02), "noninferior", "non-inferior at 0.020"),
        ((-0.02, 0.002), "inconclusive", "compatible with a deficit as large as -0.020"),
        (
            (-0.03, -0.021),
            "worse_beyond_margin",
            "less well with the experts than the experts with one another, by",
        ),
        ((-0.03, -0.02), "worse_size_uncertain", "whether by more than the margin of 0.020 is open."),
        ((-0.03, 0.0), "inconclusive", "This is absence of evidence, not evidence of agreement."),
    ],
)
def test_interval_against_margin(ends, verdict, words):
    result = conclude(agreement_document(delta=(sum(ends) / 2, *ends)))
    assert result["verdict"] == verdict
    assert words in result["text"]


def test_end_that_rounds_to_the_margin_shows_more_decimals():
    text = conclude(agreement_document(delta=(-0.01, -0.02004, 0.0001)))["text"]
    assert "95% CI -0.02004 to +0.0001" in text
    assert "-0.0000" not in text


@pytest.mark.parametrize(
    ("changes", "flag", "words", "verdict"),
    [
        (
            {"unit": "slice"},
            "unit_is_not_the_patient",
            "No statement is made: the unit of this analysis is the slice",
            None,
        ),
        ({"readers": ("A",)}, "one_reader", "greement between experts was not measured", "not_assessable"),
        ({"margin": None}, "no_margin", "smallest margin that this interval would have met is 0.012", "not_assessable"),
        ({"n": 29}, "few_patients", "A claim takes at least 30 patients, and here are 29 patients.", "inconclusive"),
        ({"n": 45, "min_patients": 50}, "few_patients", "at least 50 patients", "inconclusive"),
        ({"n": 29, "min_patients": 10}, "few_patients", "at least 30 patients", "inconclusive"),
        ({"bootstrap": (-0.021, 0.001)}, "bootstrap_t_disagrees", "bootstrap-t interval is -0.021 to", "inconclusive"),
        ({"margin_registered_at": ""}, "exploratory", "Exploratory, since the margin was not", "equivalent"),
        (
            {"margin_registered_at": "2026-07-01"},
            "exploratory",
            "not registered beforehand: the network's",
            "equivalent",
        ),
        ({"margin_source": None}, "exploratory", "Exploratory", "equivalent"),
        ({}, "few_readers", "This concerns these 3 experts; it is not shown for experts in general.", "equivalent"),
        ({"readers": tuple("ABCDE")}, "reader_interval_beyond_margin", "concerns these 5 experts", "equivalent"),
        ({"network_trained_on": ["A"]}, "network_trained_on_test_readers", "by 1 of these 3 experts", "equivalent"),
        ({"consensus_members": ["A", "B"]}, "reader_in_consensus", "2 of these experts took part", "equivalent"),
        ({"blinded": False}, "not_blinded", "were not blinded", "equivalent"),
        ({"blinded": None}, "blinding_not_stated", "Whether the experts were blinded to one another", "equivalent"),
        ({"delta": None}, "no_interval", "An interval could not be computed", "not_assessable"),
        ({"delta": (0.0, 0.0, 0.0)}, "no_spread", "the same value in every patient", "equivalent"),
    ],
)
def test_each_gate_speaks(changes, flag, words, verdict):
    result = conclude(agreement_document(**changes))
    assert flag in result["flags"]
    assert words in result["text"]
    assert verdict is None or result["verdict"] == verdict


@pytest.mark.parametrize(
    ("when", "is_exploratory"),
    [
        ("66416f1", False),
        ("NCT01234567", False),
        ("osf.io/abcde", False),
        ("2026-05-31T23:00:00", False),
        ("none", True),
        ("not registered", True),
        ("January 2026", True),
        ("version 2", True),
        ("abc12", True),
        ("2026-13-01", True),
    ],
)
def test_a_word_is_no_registration(when, is_exploratory):
    flags = conclude(agreement_document(margin_registered_at=when))["flags"]
    assert ("exploratory" in flags) == is_exploratory


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        (("cardiologist",) * 3, "cardiologists"),
        (("Cardiologist", "cardiologist ", "cardiologist"), "cardiologists"),
        (("PET technologist",) * 3, "PET technologists"),
        (("deputy",) * 3, "deputies"),
        (("cardiologist", "technologist", "cardiologist"), "readers"),
        (("cardiologist", "cardiologist", ""), "readers"),
        (("MD, PhD",) * 3, "readers"),
        (("superhuman",) * 3, "readers"),
        (("equivalent physician",) * 3, "readers"),
        (("identical twin",) * 3, "readers"),
        ((None, None, None), "experts"),
        (("", "", ""), "experts"),
    ],
)
def test_readers_are_called_by_their_role(roles, words):
    facts = {reader: {"role": role} for reader, role in zip("ABC", roles, strict=True)}
    text = conclude(agreement_document(reader_facts=facts))["text"]
    assert f"with each of 3 {words} averaged" in text
    assert f"This concerns these 3 {words}; it is not shown for {words} in general" in text
    assert f"below the {words}' own" in text
    simulated = conclude(agreement_document(reader_facts=facts, simulated=True))["text"]
    assert "with each of 3 simulated readers averaged" in simulated


def test_one_reader_is_called_by_the_role():
    facts = {"A": {"role": "technologist"}}
    text = conclude(agreement_document(readers=("A",), reader_facts=facts))["text"]
    assert "with one technologist averaged" in text
    assert "The agreement between technologists was not measured" in text


def test_patients_without_a_prediction_are_in_the_sentence_on_failures():
    document = agreement_document(failures=2)
    document["failures"]["with_missing"] = {"patients": 3, "k": 5, "n": 43, "upper95": 0.2321}
    [*_, last] = conclude(document)["sentences"]
    assert last.startswith("In 2 of 40 patients ")
    assert last.endswith(
        "; counting 3 patients without a prediction, wholly or in part, as a Dice of 0 there, in 5 of 43 "
        "(upper 95% limit 23.2%)."
    )


def test_readers_in_general_only_with_five_whose_interval_is_inside():
    result = conclude(agreement_document(readers=tuple("ABCDE"), reader_interval=(-0.015, 0.01)))
    assert "stays within the margin when the choice of experts is counted in" in result["text"]
    assert "these 5 experts" not in result["text"]


def test_few_patients_do_not_hide_that_the_network_is_worse():
    result = conclude(agreement_document(delta=(-0.1, -0.12, -0.08), n=12))
    assert result["verdict"] == "worse_beyond_margin"
    assert "few_patients" in result["flags"]


@pytest.mark.parametrize(
    ("decision", "bootstrap"), [((-0.04, -0.021), (-0.05, -0.019)), ((-0.05, -0.019), (-0.04, -0.021))]
)
def test_two_intervals_below_zero_are_no_absence_of_evidence(decision, bootstrap):
    """Both say worse; that only one of them lies beyond the margin must not turn it into "inconclusive"."""
    result = conclude(agreement_document(delta=(-0.03, *decision), bootstrap=bootstrap))
    assert result["verdict"] == "worse_size_uncertain"
    assert "bootstrap_t_disagrees" in result["flags"]
    assert f"The bootstrap-t interval is {bootstrap[0]:.3f} to {bootstrap[1]:.3f}" in result["text"]
    assert "absence of evidence" not in result["text"]


def test_simulated_readers_say_nothing_about_experts():
    result = conclude(agreement_document(simulated=True))
    assert "with each of 3 simulated readers averaged" in result["text"]
    assert result["text"].count("experts") == 1
    assert "it says nothing about experts." in result["text"]


def test_readers_only():
    document = agreement_document(mode="readers_only", delta=None)
    pairs = [{"a": "A", "b": b, "summary": {"mean": mean}} for b, mean in (("B", 0.9), ("C", 0.94), ("D", None))]
    document["scores"]["dice"]["by_pair"] = pairs
    result = conclude(document)
    assert "the Dice of 3 experts with one another averaged 0.923 (95% CI 0.910 to 0.930)" in result["text"]
    assert "the Dice of single pairs ranged from 0.900 to 0.940" in result["text"]
    assert "No network was assessed" in result["text"]
    assert "the two experts furthest apart had a Dice below 0.70" in result["sentences"][-1]


def test_volume_claim_waits_for_the_verdict_on_overlap():
    rng = random.Random(0)
    document = agreement_document() | {"volume": random_volume(rng, 40)}
    document["volume"]["available"] = document["volume"]["pairs"][0]["tost"]["inside"] = True
    assert "in percent of the experts lies within \u00b15%" in conclude(document)["text"]
    document["agreement"]["dice"]["ci_decision"] = interval(-0.03, 0.01)
    assert "lies within" not in conclude(document)["text"]
    assert "The network's volumes differed from the mean of the experts by" in conclude(document)["text"]


def test_patients_who_could_not_enter_are_counted():
    document = agreement_document()
    document["agreement"]["dice"]["n_left_out"] = 1
    assert "One patient could not enter, for lack of an outline or a score." in conclude(document)["text"]


def test_a_forbidden_sentence_is_a_fault_of_ours(monkeypatch):
    monkeypatch.setattr(conclusion, "_ABSENCE", "There is no significant difference.")
    with pytest.raises(RuntimeError, match="wrote 'no significant difference', which they must not"):
        conclude(agreement_document(delta=(-0.01, -0.03, 0.01)))


@pytest.mark.parametrize("phrase", [*NEVER, "No Significant  difference", "human level", "proves", "outperforms"])
def test_forbidden_phrases_are_recognized(phrase):
    assert FORBIDDEN.search(f"It is {phrase} here.")


@pytest.mark.parametrize("sentence", ["The fit improved.", "Approved by the board.", "The two differ by 0.1."])
def test_innocent_words_pass(sentence):
    assert not FORBIDDEN.search(sentence)


def may_say_equivalent(document) -> bool:
    """The rule in the words of the specification, written without looking at ours."""
    design, block = document["design"], document["agreement"]["dice"]
    if document["mode"] == "readers_only" or design["unit"] != "patient" or design["n_readers"] < 2:
        return False
    if design["margin"] is None or block["delta"] is None or block["delta_bootstrap_t"] is None:
        return False
    if block["delta"]["n"] < max(30, design["min_patients"]):
        return False
    both = [block["ci_decision"], block["delta_bootstrap_t"]["interval"]]
    return all(abs(end) < design["margin"] for ends in both for end in (ends["low"], ends["high"]))


def expected_word(document) -> str:
    roles = [document["design"]["reader_facts"].get(reader, {}).get("role") for reader in document["design"]["readers"]]
    if not any(roles):
        return "experts"
    return "cardiologists" if set(roles) == {"cardiologist"} else "readers"


def test_ten_thousand_random_results():
    rng = random.Random(20260101)
    equivalents = 0
    for _ in range(10_000):
        document = random_document(rng)
        result = conclude(document)
        text = result["text"]
        said = re.search(r"\bequivalent\b", text) is not None
        assert said == may_say_equivalent(document), (text, document)
        assert said == (result["verdict"] == "equivalent")
        assert result["verdict"] == final_verdict(document)
        equivalents += said
        lowered = text.lower()
        assert not any(re.search(rf"\b{re.escape(phrase)}\b", lowered) for phrase in NEVER), text
        assert not re.search(r"-0\.0+\b(?!\d)", text), text
        assert not re.search(r"\b(nan|None|inf)\b|  | \.|\.\.", text), text
        assert result["sentences"][-1] == text[-len(result["sentences"][-1]) :]
        if document["design"]["unit"] == "patient" and document["failures"]:
            assert re.match(r"In \d+ of \d+ patients? ", result["sentences"][-1])
        if document["cohort"]["simulated_readers"] and document["design"]["unit"] == "patient":
            assert not re.search(r"\bexperts\b(?!\.)", text), text
            assert "cardiologist" not in text
        elif document["design"]["unit"] == "patient" and 2 <= document["design"]["n_readers"] < 5:
            assert f"these {document['design']['n_readers']} {expected_word(document)}" in text
    assert 200 < equivalents < 5_000


def test_verdict_does_not_depend_on_the_order_of_keys_or_readers():
    document = agreement_document()
    document["design"]["readers"].reverse()
    assert conclude(document)["text"] == conclude(agreement_document())["text"]


def test_undefined_numbers_are_said_to_be():
    document = agreement_document(delta=None)
    document["agreement"]["dice"]["P0"] = estimate(None, 0, None)
    assert "averaged undefined" in conclude(document)["text"]
    assert math.isfinite(conclude(document)["rules_version"])
