"""What a run does not allow to conclude, and how numbers become words."""

from __future__ import annotations

from typing import Any

import pytest

from mpi_unet.report.comparison import comparison_limits
from mpi_unet.report.limits import RULES, limits
from mpi_unet.report.wording import forbidden_words, headline, interval, number


def summary(**design: Any) -> dict[str, Any]:
    """A large, sound run; each test spoils one thing."""
    sound = {
        "unit": "patient",
        "split": "kfold",
        "num_folds": 5,
        "n_patients": 100,
        "reader": "A",
        "simulated_readers": False,
        "domain": "short_axis",
        "label": "lv_wall",
        "spacing_mm": [6.4, 3.2, 3.2],
        "leakage_allowed": False,
    }
    dice = {"label": "Dice (LV)", "mean": 0.9, "ci95": [0.88, 0.92], "n": 100, "n_undefined": 0, "n_infinite": 0}
    return {
        "complete": True,
        "design": sound | design,
        "metrics": {"dice": dice},
        "folds": [{"fold": fold, "num_train_patients": 64} for fold in range(5)],
        "baselines": {"mean_shape": {"label": "Mean shape", "metrics": {"dice": {"mean": 0.6}}}},
    }


SPOILED: list[tuple[str, Any]] = [
    ("Images of the same patients were used for training", lambda run: run["design"].update(leakage_allowed=True)),
    ("found 7 leaks", lambda run: run["design"].update(leakage_allowed=True, leaks_found=7)),
    ("The run is not complete", lambda run: run.update(complete=False)),
    ("Images and readers are simulated", lambda run: run["design"].update(simulated_readers=True)),
    ("The study has 29 patients", lambda run: run["design"].update(n_patients=29)),
    ("The study has 1 patient (", lambda run: run["design"].update(n_patients=1)),
    ("trained on 2 patients only", lambda run: run["folds"][3].update(num_train_patients=2)),
    ("trained on 1 patient only", lambda run: run["folds"][0].update(num_train_patients=1)),
    ("divided once (holdout)", lambda run: run["design"].update(split="holdout")),
    ("not known for this cohort", lambda run: run["design"].update(spacing_mm=None)),
    ("scored on projections", lambda run: run["design"].update(domain="projection")),
    ("Dice (LV): 2 undefined", lambda run: run["metrics"]["dice"].update(n_undefined=2)),
    ("Dice (LV): 3 infinite", lambda run: run["metrics"]["dice"].update(n_infinite=3)),
    ("Mean shape (0.900)", lambda run: run["baselines"]["mean_shape"]["metrics"]["dice"].update(mean=0.9)),
]


@pytest.mark.parametrize(("sentence", "spoil"), SPOILED, ids=[sentence for sentence, _ in SPOILED])
def test_each_weakness_is_said_and_only_when_it_is_there(sentence: str, spoil: Any) -> None:
    run = summary()
    assert sentence not in " ".join(limits(run))
    spoil(run)
    assert sentence in " ".join(limits(run))


@pytest.mark.parametrize("patients", [30, 31, None])
def test_thirty_patients_are_not_few(patients: int | None) -> None:
    assert "fewer than 30" not in " ".join(limits(summary(n_patients=patients)))


def test_a_sound_run_still_has_limits() -> None:
    sentences = limits(summary())
    assert len(sentences) == 4
    text = " ".join(sentences)
    assert "Agreement between experts was not measured, so nothing can be said about how the network compares" in text
    assert "the fold means are not independent" in text
    assert "the wall of the left ventricle at pixels of 3.20 mm. They are not comparable" in text
    assert "each network was trained once" in text


def test_agreement_measured_lifts_the_limit_of_one_reader() -> None:
    run = summary() | {"agreement": {"n_readers": 3}}
    assert "Agreement between experts was not measured" not in " ".join(limits(run))


def test_pixels_that_differ_between_cases_are_not_unknown() -> None:
    run = summary(spacing_mm=None)
    run["metrics"]["hd95_mm"] = {"unit": "mm", "mean": 8.0}
    assert "not known for this cohort" not in " ".join(limits(run))


def test_gravest_limits_come_first() -> None:
    run = summary(leakage_allowed=True, simulated_readers=True, n_patients=5)
    run["complete"] = False
    starts = [sentence.split()[0] for sentence in limits(run)[:3]]
    assert starts == ["Images", "The", "Images"]


def test_every_rule_bears_an_empty_summary() -> None:
    assert all(isinstance(rule({}), str | None) for rule in RULES)
    assert limits({})


def test_no_rule_claims_what_is_forbidden() -> None:
    run = summary()
    for _, spoil in SPOILED:
        spoil(run)
    assert forbidden_words(" ".join(limits(run))) == []
    assert forbidden_words(" ".join(comparison_limits({"a": run, "b": summary()}))) == []


@pytest.mark.parametrize(
    "claim",
    [
        "not significantly different",
        "not different",
        "no significant difference",
        "no difference",
        "No statistically significant difference",
        "as good as",
        "human-level",
        "human level",
        "superhuman",
        "outperforms",
        "proves",
        "proven",
        "indistinguishable",
        "identical",
    ],
)
def test_forbidden_claims_are_found(claim: str) -> None:
    assert forbidden_words(f"The network is {claim} here.")


@pytest.mark.parametrize("harmless", ["improves", "approved", "a difference", "different", "not a difference", "good"])
def test_harmless_words_are_not(harmless: str) -> None:
    assert forbidden_words(f"This {harmless} is.") == []


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.9123, "", "0.912"),
        (-0.0, "", "0.000"),
        (-0.00004, "", "0.000"),
        (-0.0004, "", "-0.0004"),
        (0.0, "", "0.000"),
        (1, "", "1.000"),
        (-0.004, "mm", "0.00"),
        (4.567, "mm", "4.57"),
        (-12.34, "ml", "-12.3"),
        (-0.04, "%", "0.0"),
        (None, "", "undefined"),
        (float("nan"), "mm", "undefined"),
        ("inf", "mm", "infinite"),
        ("-inf", "%", "minus infinite"),
        ("soon", "", "undefined"),
    ],
)
def test_numbers_become_words(value: Any, unit: str, words: str) -> None:
    assert number(value, unit) == words


def test_an_interval_needs_two_ends() -> None:
    assert interval([-0.01, 0.02]) == "-0.010 to 0.020"
    assert interval([3.0, "inf"], "mm") == "3.00 to infinite"
    assert interval([None, 0.2]) == interval([]) == interval("0.1") == "no interval"


def test_headline_names_patients_reader_and_design() -> None:
    assert headline(summary()) == (
        "In 100 patients that the network had not seen, its outline of the wall of the left ventricle overlapped the "
        "outline of reader A with a mean Dice of 0.900 (95 % confidence interval 0.880 to 0.920; 0 means no overlap, "
        "1 complete overlap). Design: 5-fold cross-validation, divided by patient."
    )


def test_headline_of_a_leaking_run_does_not_speak_of_unseen_patients() -> None:
    text = headline(summary(leakage_allowed=True, unit="image", split="holdout"))
    assert "not seen" not in text
    assert "divided by image, not by patient" in text


def test_headline_without_a_dice_says_so() -> None:
    run = summary()
    run["metrics"]["dice"]["mean"] = None
    assert headline(run).endswith("could not be computed in this run.")


def test_comparison_speaks_of_fewer_patients_only_where_patients_were_held_out_once() -> None:
    by_patient, by_image = summary(split="holdout"), summary(split="holdout", unit="image")
    assert "fewer patients" in " ".join(comparison_limits({"a": by_patient, "b": summary()}))
    assert "fewer patients" not in " ".join(comparison_limits({"a": by_image, "b": summary()}))


def test_comparison_of_one_run_does_not_speak_of_sharing() -> None:
    assert "share patients" not in " ".join(comparison_limits({"a": summary()}))
    assert "share patients" in " ".join(comparison_limits({"a": summary(), "b": summary()}))
