"""The part ``categories`` of ``agreement.json``: counts, tables of pairs, and agreement corrected for chance.

A *row* is one case, or one segment of a case. With one row per patient the intervals are those of the coefficients;
with several they come from leaving out patients, because rows of one patient resemble one another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from scipy.stats import binomtest

from mpi_unet.agreement import (
    clustered_agreement,
    clustered_mcnemar,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    holm,
    krippendorff_alpha,
    mcnemar,
)
from mpi_unet.agreement.categories import CategoryAgreement
from mpi_unet.agreement.clustered_categories import ClusteredAgreement
from mpi_unet.agreement.krippendorff import KrippendorffAlpha
from mpi_unet.evaluation.intervals import Interval
from mpi_unet.reader_study.as_json import estimate_json, number_json
from mpi_unet.reader_study.measurements_part import words_of
from mpi_unet.reader_study.options import NETWORK, StudyOptions
from mpi_unet.reader_study.readings import Categorized

__all__ = ["categories_part"]

EXTREME = 0.85
"""Share of one category from which on kappa is said to be low by itself: two readers who agree in 90 % of patients have
a kappa of 0.80 where both categories are as frequent, and of 0.61 here."""

PARADOX = (
    "{share:.0f} % of all ratings are {category!r}. Where nearly everybody gets the same category, kappa and alpha "
    "fall towards 0 however well the readers agree; read the tables of counts and AC1 beside them."
)
ONE_READER = (
    "only {who} judged: with one {what} agreement is not measured; nobody knows what a second reader would have said"
)


def categories_part(categories: Sequence[Categorized], options: StudyOptions) -> list[dict[str, Any]]:
    """One entry per quantity; what cannot be compared says why."""
    return [_quantity(one, options) for one in categories]


# --- Private helpers --------------------------------------------------------------------------------------------------


def _quantity(one: Categorized, options: StudyOptions) -> dict[str, Any]:
    counts = {name: Counter(word for word in one.values[name] if word) for name in one.members}
    weights = options.readings.weights if one.is_ordered and options.readings is not None else None
    clustered = len(set(one.patients)) < len(one.patients)
    part: dict[str, Any] = {
        "name": one.name,
        "category": words_of(one.name, has_unit=False),
        "row": "segment of a case" if one.has_parts else "case",
        "n_rows": len(one.patients),
        "n_patients": len(set(one.patients)),
        "is_clustered": clustered,
        "scale": list(one.scale),
        "scale_source": "as given" if one.is_given else "the categories that occur",
        "is_ordered": one.is_ordered,
        "weights": weights,
        "available": False,
        "why_not": "",
        "counts": [
            {
                "member": name,
                "by_category": [counts[name][category] for category in one.scale],
                "n_missing": len(one.patients) - counts[name].total(),
            }
            for name in one.members
        ],
        "pairs": [],
        "together": [],
        "tests": None,
        "repeatability": [],
        "notes": _notes(one, counts, weights, clustered),
    }
    readers = [name for name in one.members if name != NETWORK]
    judge = _Judge(one, options, weights, clustered)
    part["repeatability"] = [
        {"reader": reader, "repeat": second, "pair": pair}
        for second, reader in sorted(one.repeats.items())
        if second in one.values and reader in one.values and (pair := judge.pair(second, reader)) is not None
    ]
    if len(one.members) < 2:
        who = one.members[0] if one.members else "nobody"
        return part | {"why_not": ONE_READER.format(who=who, what="reader" if readers else "column")}
    pairs = [judge.pair(a, b) for a, b in combinations(one.members, 2)]
    part["pairs"] = [pair for pair in pairs if pair is not None]
    if not part["pairs"]:
        return part | {"why_not": "no two members judged the same row"}
    if len(readers) > 1:
        part["together"].append(judge.together("readers", readers))
        if NETWORK in one.members:
            part["together"].append(judge.together("with_network", one.members))
    part["together"] = [group for group in part["together"] if group is not None]
    return part | {"available": True, "tests": judge.tests()}


def _notes(one: Categorized, counts: dict[str, Counter[str]], weights: str | None, clustered: bool) -> list[str]:
    """Sentences that go with the figures."""
    notes = []
    total = sum(counts.values(), Counter[str]())
    if total.total():
        category, number = max(total.items(), key=lambda item: (item[1], item[0]))
        if number / total.total() >= EXTREME:
            notes.append(PARADOX.format(share=100 * number / total.total(), category=category))
    if weights:
        notes.append(f"The scale is ordered: near misses count in part ({weights} weights; alpha by ranks).")
    elif len(one.scale) > 2:
        notes.append("The scale is taken as unordered: every disagreement counts alike.")
    if clustered:
        notes.append(
            f"Patients have several rows, one for each {'segment' if one.has_parts else 'case'}, which resemble one "
            "another: intervals and tests are over patients."
        )
    return notes


class _Judge:
    """Coefficients and tests of one quantity, by patient."""

    def __init__(self, one: Categorized, options: StudyOptions, weights: str | None, clustered: bool) -> None:
        self.one, self.weights, self.is_clustered = one, weights, clustered
        self.level = 1 - 2 * options.alpha_one_sided
        self.reference = None if options.readings is None else options.readings.reference
        self.patients = np.array(one.patients, dtype=object)

    def ratings(self, names: Sequence[str]) -> Shaped[np.ndarray, "rows members"]:
        """Texts of these members, None where missing."""
        columns = [[word or None for word in self.one.values[name]] for name in names]
        return np.array(columns, dtype=object).T

    def pair(self, a: str, b: str) -> dict[str, Any] | None:
        """Table and kappa of two members; None where they have no row in common."""
        ratings = self.ratings([a, b])
        both = np.array([None not in row for row in ratings.tolist()], dtype=bool)
        if not both.any():
            return None
        rows, scale = ratings[both], self.one.scale
        table = [[int(((rows[:, 0] == x) & (rows[:, 1] == y)).sum()) for y in scale] for x in scale]
        observed = self.share(rows, self.patients[both])
        return {
            "a": a,
            "b": b,
            "n_rows": int(both.sum()),
            "n_patients": len(set(self.patients[both])),
            "table": table,
            "observed": observed,
            "cohen": self.coefficient(rows, self.patients[both], "cohen"),
        }

    def share(self, rows: Shaped[np.ndarray, "rows 2"], patients: Shaped[np.ndarray, " rows"]) -> dict[str, Any]:
        """Share of rows in which two members say the same."""
        if self.is_clustered:
            scale = self.one.scale
            return self.estimate(clustered_agreement(rows, patients, "observed", categories=scale, level=self.level))
        same, n = int((rows[:, 0] == rows[:, 1]).sum()), len(rows)
        ends = binomtest(same, n).proportion_ci(self.level, method="exact")
        interval = Interval(float(ends.low), float(ends.high), self.level, "Clopper-Pearson over patients")
        return estimate_json(same / n, n, interval, "share of agreeing pairs") | {"note": ""}

    def together(self, who: str, names: Sequence[str]) -> dict[str, Any] | None:
        """Coefficients of several members at once; None where no row has two ratings."""
        ratings = self.ratings(names)
        given = np.array([sum(word is not None for word in row) for row in ratings.tolist()])
        if not (given >= 2).any():
            return None
        rows, patients = ratings[given > 0], self.patients[given > 0]
        coefficients = {name: self.coefficient(rows, patients, name) for name in ("fleiss", "gwet", "krippendorff")}
        return {"who": who, "members": list(names), "n_rows": int((given >= 2).sum()), **coefficients}

    def coefficient(
        self, rows: Shaped[np.ndarray, "rows members"], patients: Shaped[np.ndarray, " rows"], name: str
    ) -> dict[str, Any]:
        """One coefficient, with the interval that fits the number of rows per patient."""
        scale, weights, level = self.one.scale, self.weights, self.level
        if self.is_clustered:
            found = clustered_agreement(rows, patients, name, weights=weights, categories=scale, level=level)
            return self.estimate(found)
        if name == "cohen":
            return self.estimate(cohen_kappa(rows[:, 0], rows[:, 1], weights=weights, categories=scale, level=level))
        if name == "krippendorff":
            metric = "ordinal" if weights else "nominal"
            return self.estimate(krippendorff_alpha(rows, metric, categories=scale, level=level))
        of = fleiss_kappa if name == "fleiss" else gwet_ac1
        return self.estimate(of(rows, weights=weights, categories=scale, level=level))

    def estimate(self, found: CategoryAgreement | KrippendorffAlpha | ClusteredAgreement) -> dict[str, Any]:
        """An estimate with the note that says why it is undefined or has no width."""
        held = estimate_json(found.estimate, found.n, found.interval, found.method)
        return held | {"note": found.note}

    def tests(self) -> dict[str, Any] | None:
        """McNemar's test of pairs: of the share of one category or, with a reference, of the share that agrees with it.

        None for more than two categories without a reference: the test is one of yes and no.
        """
        members, scale, reference = self.one.members, self.one.scale, self.reference
        if reference in members:
            others = [name for name in members if name != reference]
            pairs, of = list(combinations(others, 2)), "reference"
        elif len(scale) == 2:
            pairs, of = list(combinations(members, 2)), "category"
        else:
            return None
        if NETWORK in members and reference in members:
            pairs = [pair for pair in pairs if NETWORK in pair]
        rows = [row for a, b in pairs if (row := self._test(a, b, reference if of == "reference" else None))]
        if not rows:
            return None
        adjusted = holm(np.array([row["p"] for row in rows])).adjusted
        for row, p_holm in zip(rows, adjusted, strict=True):
            row["p_holm"] = number_json(p_holm)
        category = None if of == "reference" else scale[-1]
        return {"of": of, "reference": reference if of == "reference" else None, "category": category, "rows": rows}

    def _test(self, a: str, b: str, reference: str | None) -> dict[str, Any] | None:
        names = [a, b] if reference is None else [a, b, reference]
        ratings = self.ratings(names)
        whole = np.array([None not in row for row in ratings.tolist()], dtype=bool)
        rows, patients = ratings[whole], self.patients[whole]
        if len(set(patients)) < 2:
            return None
        target = self.one.scale[-1] if reference is None else rows[:, 2]
        first, second = _same(rows[:, 0], target), _same(rows[:, 1], target)
        if len(set(patients)) < len(patients):
            found = clustered_mcnemar(first, second, patients.tolist(), level=self.level)
        else:
            found = mcnemar(first, second, level=self.level)
        return {
            "a": a,
            "b": b,
            "difference": estimate_json(found.estimate, found.n, found.interval, found.method),
            "only_a": found.only_first,
            "only_b": found.only_second,
            "n_rows": len(rows),
            "p": found.p_value,
            "p_holm": None,
        }


def _same(words: Shaped[np.ndarray, " rows"], target: Any) -> Bool[np.ndarray, " rows"]:
    return np.array(words == target, dtype=bool)
