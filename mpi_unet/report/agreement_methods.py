"""What was compared and how: facts of the study, who read, definitions with their sources, and what stays open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mpi_unet.report import limits
from mpi_unet.report.agreement_words import counted, items, level_words, mapping, numbered, printable
from mpi_unet.report.wording import DOMAIN_WORDS, LABEL_WORDS, count, number

Document = Mapping[str, Any]

MODE_WORDS = {
    "run": "out-of-fold masks of a run, against readers",
    "predictions": "masks of a network, against readers",
    "readers_only": "readers only, no network",
}
NOT_STATED = "not stated"


def study_facts(document: Document) -> list[tuple[str, str]]:
    """T1: what was compared, as pairs of term and text; what is not known is said to be."""
    cohort, design = mapping(document.get("cohort")), mapping(document.get("design"))
    unit = "" if design.get("unit") == "patient" else f" (unit: {printable(design.get('unit')) or NOT_STATED})"
    left_out = items(cohort.get("left_out"))
    facts = [
        (
            "Cohort",
            f"{printable(cohort.get('name') or 'unnamed')}; {printable(cohort.get('source') or 'source not stated')}",
        ),
        ("Licence", printable(cohort.get("licence") or "")),
        ("Images", DOMAIN_WORDS.get(str(cohort.get("domain")), printable(cohort.get("domain") or ""))),
        ("Outline", LABEL_WORDS.get(str(cohort.get("label")), printable(cohort.get("label") or ""))),
        ("In the cohort", f"{counted(cohort.get('n_patients'), 'patient')}, {counted(cohort.get('n_cases'), 'case')}"),
        (
            "Compared",
            f"{counted(design.get('n_patients'), 'patient')}, {counted(design.get('n_cases'), 'case')}, "
            f"{counted(design.get('n_frames'), 'frame')}{unit}",
        ),
        ("Left out", f"{counted(len(left_out), 'case')}, listed below" if left_out else "no case"),
        ("Kind of comparison", MODE_WORDS.get(str(document.get("mode")), printable(document.get("mode")))),
    ]
    if document.get("mode") != "readers_only":
        trained = design.get("network_trained_on")
        facts += [
            ("Network", printable(design.get("network") or "")),
            ("Where its masks come from", printable(design.get("network_how") or "")),
            ("Trained on outlines of", NOT_STATED if trained is None else _names(trained, "none stated")),
        ]
    facts += [
        ("Readers", _names(design.get("readers"), "nobody")),
        ("Readers took part in a consensus", _names(design.get("consensus_members"), "none stated")),
        ("Readers blinded", _fact_words(design.get("blinded"))),
        ("Reference", _reference_words(design)),
        *_margin_facts(design),
        ("Tolerance of the surface Dice", _tolerance_words(design)),
        ("Averaging", printable(design.get("aggregation") or "")),
    ]
    return [(term, text or NOT_STATED) for term, text in facts]


def left_out_rows(document: Document) -> dict[str, Any]:
    """Cases that were not compared: how many for each reason, and each of them."""
    rows = [mapping(row) for row in items(mapping(document.get("cohort")).get("left_out"))]
    reasons = Counter(printable(row.get("reason") or NOT_STATED) for row in rows)
    return {
        "reasons": [(reason, str(number_of)) for reason, number_of in reasons.most_common()],
        "cases": [(printable(row.get("case_id")), printable(row.get("reason") or NOT_STATED)) for row in rows],
    }


def reader_rows(document: Document) -> dict[str, Any]:
    """Who read: one row a reader, one column a fact that is stated for anybody."""
    design = mapping(document.get("design"))
    facts, repeats = mapping(design.get("reader_facts")), mapping(design.get("repeat_reads"))
    readers = [str(name) for name in items(design.get("readers"))]
    keys = list(dict.fromkeys(str(key) for name in readers for key in mapping(facts.get(name))))
    twice = {str(original): printable(repeat) for repeat, original in repeats.items()}
    rows = [
        {
            "reader": numbered(name, readers),
            "cells": [_fact_words(mapping(facts.get(name)).get(key)) for key in keys],
            "repeat": twice.get(name, "no"),
        }
        for name in readers
    ]
    left_out = [
        (printable(row.get("reader")), printable(row.get("reason") or NOT_STATED))
        for row in map(mapping, items(design.get("readers_left_out")))
    ]
    return {"columns": [key.replace("_", " ") for key in keys], "rows": rows, "left_out": left_out}


def definitions(document: Document) -> list[tuple[str, str, str]]:
    """Term, meaning and source of everything that the page shows, one line each."""
    design, mode = mapping(document.get("design")), document.get("mode")
    several = len(items(design.get("readers"))) > 1
    found = [("Patient", "the unit: values of cases are averaged within a patient, then over patients", "")]
    found += [
        (
            str(mapping(score).get("label") or name),
            str(mapping(score).get("definition") or ""),
            _SCORE_SOURCES.get(name, ""),
        )
        for name, score in mapping(document.get("scores")).items()
    ]
    found.append(_T_INTERVAL)
    if mode != "readers_only" and several:
        found += _DELTA
    if mapping(document.get("volume")).get("available"):
        found += _VOLUME
    if items(document.get("repeatability")):
        found += _REPEATS
    if mapping(document.get("consensus")):
        found += _CONSENSUS
    found.append(_FAILURES)
    if items(document.get("subgroups")):
        found.append(_HOLM)
    return [(printable(term), printable(text), source) for term, text, source in found]


def how_made(document: Document) -> list[tuple[str, str]]:
    """Versions, seeds and rules, for who wants the same figures again."""
    software, seeds = mapping(document.get("software")), mapping(document.get("seeds"))
    conclusion = mapping(document.get("conclusion"))
    flags = [printable(flag).replace("_", " ") for flag in items(conclusion.get("flags"))]
    facts = [
        (
            "Versions",
            ", ".join(f"{printable(name)} {printable(version)}" for name, version in software.items() if version),
        ),
        ("Seeds", ", ".join(f"{printable(name)} {printable(value)}" for name, value in seeds.items())),
        ("Rules of the conclusion", f"version {printable(conclusion.get('rules_version', NOT_STATED))}"),
        ("Conditions noted by these rules", ", ".join(flags) or "none"),
        ("Schema of the figures", printable(document.get("schema_version") or "")),
        ("Written", printable(document.get("created") or "")),
    ]
    return [(term, text or NOT_STATED) for term, text in facts]


def agreement_limits(document: Document) -> list[str]:
    """What the comparison does not show, beyond what the conclusion says; the rules of a run's page, where they fit."""
    design, cohort = mapping(document.get("design")), mapping(document.get("cohort"))
    known = design.get("spacing_known", cohort.get("spacing_known"))
    summary = {
        "design": {
            "simulated_readers": cohort.get("simulated_readers"),
            "n_patients": design.get("n_patients"),
            "domain": cohort.get("domain"),
            "label": cohort.get("label"),
        },
        "metrics": {"distance": {"unit": "mm"}} if known else {},
    }
    rules = (
        limits.simulated,
        limits.few_patients,
        limits.unknown_spacing,
        limits.projections_only,
        limits.scale_dependence,
    )
    sentences = [sentence for rule in rules if (sentence := rule(summary))]
    sentences.append(
        "All patients come from one cohort. How the figures would move with another hospital, camera or group of "
        "readers was not measured."
    )
    return sentences


# --- Private helpers ---

_SCORE_SOURCES = {
    "dice": "Dice 1945, Ecology 26:297. doi:10.2307/1932409",
    "nsd": "Nikolov et al. 2021, J Med Internet Res 23:e26151. doi:10.2196/26151",
    "hd95_mm": "Maier-Hein et al. 2024, Nat Methods 21:195. doi:10.1038/s41592-023-02151-z",
}
_T_INTERVAL = (
    "Interval of a mean",
    "Student's t over patients; it may reach beyond the bounds of a score",
    "El Jurdi et al. 2023, arXiv:2307.10926",
)
_DELTA = [
    ("P0", "mean over readers of the score of network and reader, per patient; averaged over patients", ""),
    ("Pn", "mean over pairs of readers of their score, per patient; averaged over patients", ""),
    ("Delta", "P0 - Pn, per patient, averaged over patients; the SegAgree statistic of the FDA is this difference", ""),
    (
        "Bootstrap-t",
        "patients drawn with replacement, each resampled mean divided by its own standard error",
        "Efron & Tibshirani 1993, An Introduction to the Bootstrap, 12.5",
    ),
    (
        "Patients and readers",
        "variance over patients plus a jackknife over readers, degrees of freedom after Satterthwaite",
        "Satterthwaite 1946, Biometrics Bulletin 2:110. doi:10.2307/3002019",
    ),
    (
        "Non-inferiority, equivalence",
        "the whole decision interval above -margin, or between -margin and +margin (two one-sided tests)",
        "Schuirmann 1987, J Pharmacokinet Biopharm 15:657. doi:10.1007/BF01068419",
    ),
    (
        "Gamma",
        "disagreement of network and reader minus disagreement of two readers; for scores it is -Delta",
        "Obuchowski 2001, Stat Med 20:2845",
    ),
    ("Williams' index", "P0 / Pn", "Williams 1976, Biometrics 32:619. doi:10.2307/2529750"),
    (
        "Chalana-Kim index",
        "mean inverse disagreement with the network over that among readers",
        "Chalana & Kim 1997, IEEE Trans Med Imaging 16:642. doi:10.1109/42.640755",
    ),
    (
        "One reader left out",
        "for each reader, the mean over the others of: score of network and other, minus score of reader and other",
        "",
    ),
]
_VOLUME = [
    (
        "Bias, limits of agreement",
        "mean difference; mean difference -+ 1.96 standard deviations, their intervals from the noncentral t",
        "Bland & Altman 1986, Lancet 327:307. doi:10.1016/S0140-6736(86)90837-8",
    ),
    (
        "Limits, patients having several cases",
        "those of a single case, from the variances between and within patients; the points are means of a patient",
        "Bland & Altman 1999, Stat Methods Med Res 8:135; intervals: Zou 2013, Stat Methods Med Res 22:630",
    ),
    ("Slope", "regression of the difference on the mean: whether the bias grows with the size", ""),
    (
        "ICC",
        "share of the variance of single readings that is due to the patients; A,1: absolute agreement, with the "
        "generalized interval, since the usual one is too narrow for few readers",
        "McGraw & Wong 1996, Psychol Methods 1:30. doi:10.1037/1082-989X.1.1.30; Ionan et al. 2014, BMC Med Res "
        "Methodol 14:121. doi:10.1186/1471-2288-14-121",
    ),
    (
        "Concordance",
        "correlation with the line of equal values",
        "Lin 1989, Biometrics 45:255. doi:10.2307/2532051",
    ),
]
_REPEATS = [
    (
        "psi",
        "squared disagreement of a reader with the own repeat, over that with the network; 1: as close as a repeat",
        "Barnhart et al. 2007, J Biopharm Stat 17:697. doi:10.1080/10543400701329489",
    ),
]
_CONSENSUS = [
    (
        "Consensus",
        "a reader is scored against the others only, never against a consensus with the own outline in it",
        "",
    ),
    (
        "STAPLE",
        "estimates one outline and the sensitivity and specificity of each reader from all outlines at once",
        "Warfield et al. 2004, IEEE Trans Med Imaging 23:903. doi:10.1109/TMI.2004.828354",
    ),
]
_FAILURES = (
    "Upper limit of failures",
    "exact one-sided limit of a proportion of patients",
    "Clopper & Pearson 1934, Biometrika 26:404. doi:10.1093/biomet/26.4.404",
)
_HOLM = ("p after Holm", "adjusted for the number of subgroups", "Holm 1979, Scand J Stat 6:65")


def _names(names: Any, nobody: str) -> str:
    return ", ".join(printable(name) for name in items(names)) or nobody


def _fact_words(value: Any) -> str:
    if value is None:
        return NOT_STATED
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(value)


def _reference_words(design: Mapping[str, Any]) -> str:
    if design.get("reference") != "pairwise":
        return printable(design.get("reference") or "")
    return "pairwise: every outline with every other, nobody's outline is the truth"


def _margin_facts(design: Mapping[str, Any]) -> list[tuple[str, str]]:
    if design.get("margin") is None:
        return [("Margin", "none was given")]
    alpha = design.get("alpha_one_sided")
    level = level_words({"level": 1 - 2 * alpha}) if isinstance(alpha, int | float) else NOT_STATED
    return [
        ("Margin", f"{number(design['margin'])} on either side of zero"),
        ("Why this margin", printable(design.get("margin_source") or "")),
        ("Margin registered at", printable(design.get("margin_registered_at") or "")),
        ("Level", f"one-sided alpha {number(alpha)}; the interval that decides is the {level} one"),
        ("Patients needed for a claim", count(design.get("min_patients"))),
    ]


def _tolerance_words(design: Mapping[str, Any]) -> str:
    if design.get("tolerance_mm") is None:
        return ""
    source = printable(design.get("tolerance_source") or "source not stated")
    return f"{number(design['tolerance_mm'], 'mm')} mm; {source}"
