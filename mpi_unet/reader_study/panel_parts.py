"""The parts of ``agreement.json`` about overlap: scores of every pair, the panel, failures, subgroups, sensitivity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from mpi_unet.agreement import (
    Panel,
    failure_rate,
    holm,
    paired_t,
    panel_of_cases,
    sign_flip_test,
    wilcoxon_signed_rank,
)
from mpi_unet.cohort.case import Case
from mpi_unet.evaluation.metrics import METRICS
from mpi_unet.evaluation.table import patient_means, summarize
from mpi_unet.reader_study.as_json import estimate_json, interval_json, mean_json, number_json, of_estimate
from mpi_unet.reader_study.options import NETWORK, PRIMARY_METRICS, StudyOptions, consensus_of
from mpi_unet.reader_study.outlines import ScoredOutlines, moved_thresholds

__all__ = ["agreement_part", "appendix_part", "failures_part", "panel_for", "scores_part", "sensitivity_part"]

SCORES = ("dice", "iou", "nsd", "hd95_mm", "assd_mm", "volume_difference_ml", "volume_difference_pct")
"""Scores that are tabulated for every pair; precision and recall are the network's alone."""

WORST_SHARE = 0.05
"""Share of the patients that is left out to see how much hangs on the worst ones."""

MIN_SUBGROUP, MAX_SUBGROUPS = 5, 6
"""A column is looked at when it divides the patients into two to six groups, each of five patients or more."""

APPENDIX_NOTE = (
    "Two-sided tests of a mean difference of zero. A large p-value says as much about the number of patients as about "
    "the difference, and is no evidence of agreement; these values enter no conclusion."
)


def scores_part(outlines: ScoredOutlines) -> dict[str, Any]:
    """Each score of each pair over patients."""
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for a, b in combinations(outlines.members, 2):
        summaries = summarize(outlines.rows(a, b))
        names = (*SCORES, "precision", "recall") if a == NETWORK else SCORES
        for name in names:
            if name in summaries:
                described = ("label", "unit", "better", "role", "definition")
                summary = {
                    key: value
                    for key, value in summaries[name].items()
                    if key not in described and not key.endswith("_cases")
                }
                by_metric.setdefault(name, []).append({"a": a, "b": b, "summary": summary})
    return {
        name: {
            "label": METRICS[name].label,
            "unit": METRICS[name].unit,
            "better": METRICS[name].better,
            "role": METRICS[name].role,
            "definition": METRICS[name].definition,
            "by_pair": by_metric[name],
        }
        for name in METRICS
        if name in by_metric
    }


def panel_for(
    outlines: ScoredOutlines,
    metric: str,
    options: StudyOptions,
    *,
    readers: Sequence[str] | None = None,
    network: str = NETWORK,
    missing: Any = "complete",
) -> Panel:
    """The panel for one score; only the primary score has a margin."""
    readers = outlines.readers if readers is None else tuple(readers)
    against, pairs = outlines.table(metric, readers, network)
    return panel_of_cases(
        against,
        pairs,
        list(readers),
        list(outlines.patients),
        margin=options.margin if metric == options.metric and len(readers) > 1 and against is not None else None,
        alpha=options.alpha_one_sided,
        seed=options.seed,
        resamples=options.resamples,
        missing=missing,
        failure_drop=options.failure_drop,
    )


def worst_case_panel(outlines: ScoredOutlines, options: StudyOptions) -> Panel | None:
    """The panel of the primary score in which cases without a prediction count as 0; None where there are none."""
    if outlines.network is None or not outlines.unpredicted:
        return None
    readers, labels = outlines.readers, {case.case_id: case.labels for case in outlines.cohort.cases}
    rest = replace(outlines, cases=outlines.unpredicted)
    against, pairs = outlines.table(options.metric)
    nothing = [[0.0 if reader in labels[case.case_id] else np.nan for reader in readers] for case in rest.cases]
    return panel_of_cases(
        np.concatenate([against, np.array(nothing)]) if against is not None else None,
        np.concatenate([pairs, rest.table(options.metric)[1]]),
        list(readers),
        [*outlines.patients, *rest.patients],
        alpha=options.alpha_one_sided,
        seed=options.seed,
        resamples=2,
        failure_drop=options.failure_drop,
    )


def agreement_part(panels: dict[str, Panel]) -> dict[str, Any]:
    """The panel of each score; the verdict is filled in when all gates have been asked."""
    return {metric: _panel_json(panel) for metric, panel in panels.items()}


def panels_of(outlines: ScoredOutlines, options: StudyOptions) -> dict[str, Panel]:
    """The panel of each score that a panel can be judged by and that was measured."""
    measured = [name for name in PRIMARY_METRICS if name != "nsd" or outlines.tolerance_mm is not None]
    return {name: panel_for(outlines, name, options) for name in measured}


def failures_part(
    outlines: ScoredOutlines, panel: Panel, options: StudyOptions, worst: Panel | None = None
) -> dict[str, Any] | None:
    """Patients in whom the network failed or, without a network, two readers lay far apart; each is listed.

    ``worst`` is the panel in which cases without a prediction count as 0; the same rule is applied to it.
    """
    means = _patient_scores(outlines, options.metric)
    among = [pair for pair in means if NETWORK not in pair]
    p0, pn = dict.fromkeys(panel.patients, math.nan), dict.fromkeys(panel.patients, math.nan)
    p0 |= dict(zip(panel.patients, panel.p0 or (), strict=False))
    pn |= dict(zip(panel.patients, panel.pn or (), strict=False))
    if outlines.network is None:
        kind, threshold = "pair_below_threshold", options.failure_below
        definition = f"lowest score of two readers < {threshold:.2f}"
        lowest = [min(means[pair].get(patient, math.nan) for pair in among) for patient in panel.patients]
        failed = [value < threshold for value in lowest]
    elif len(outlines.readers) < 2:
        kind, threshold = "below_threshold", options.failure_below
        definition = f"p0 < {threshold:.2f}"
        failed = _failed(panel, kind, threshold)
    else:
        kind, threshold = "below_readers", options.failure_drop
        definition = f"p0 < pn - {threshold:.2f}"
        failed = _failed(panel, kind, threshold)
    if not failed:
        return None
    rate = failure_rate(np.array(failed, dtype=bool), definition=definition)
    return {
        "kind": kind,
        "definition": definition,
        "threshold": threshold,
        "k": rate.count,
        "n": rate.n,
        "upper95": rate.upper95,
        "with_missing": None if worst is None else _with_missing(outlines, worst, kind, threshold),
        "patients": [
            {
                "patient_id": panel.patients[row],
                "p0": number_json(p0[panel.patients[row]]),
                "pn": number_json(pn[panel.patients[row]]),
                "case_id": _worst_case(outlines, panel.patients[row], options.metric),
            }
            for row in rate.rows
        ],
    }


def appendix_part(panel: Panel, options: StudyOptions) -> dict[str, Any]:
    """The two-sided tests that other studies print, with the note that they are no evidence of agreement."""
    values: dict[str, float | None] = {"t": None, "wilcoxon": None, "sign_flip": None}
    if panel.d is not None and len(panel.d) > 1:
        d = np.array(panel.d)
        values = {
            "t": paired_t(d).p_value,
            "wilcoxon": wilcoxon_signed_rank(d).p_value,
            "sign_flip": sign_flip_test(d, resamples=options.resamples, seed=options.seed).p_value,
        }
    return {"two_sided_p": values, "note": APPENDIX_NOTE}


def subgroups_part(
    outlines: ScoredOutlines, cases: Sequence[Case], options: StudyOptions, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """The difference in each group of patients (or of their cases), exploratory; p-values adjusted by Holm.

    The p-value compares the patients of a group with all others (Welch's t); where a patient has cases in several
    groups, as rest and stress, it is left out.
    """
    if outlines.network is None or len(outlines.readers) < 2:
        return []
    by_case = {case.case_id: case for case in cases}
    against, pairs = outlines.table(options.metric)
    rows: list[dict[str, Any]] = []
    for column in columns:
        values = [by_case[case.case_id].column(column) or "" for case in outlines.cases]
        groups = sorted(set(values) - {""})
        deltas = {}
        for group in groups:
            chosen = np.array([value == group for value in values])
            patients = [patient for patient, kept in zip(outlines.patients, chosen, strict=True) if kept]
            inside = None if against is None else against[chosen]
            panel = panel_of_cases(inside, pairs[chosen], list(outlines.readers), patients, resamples=2)
            deltas[group] = dict(zip(panel.patients, panel.d or (), strict=True))
        if options.subgroups is None and not _divides(deltas):
            continue
        for group, delta in deltas.items():
            if delta:
                others = [value for name, other in deltas.items() if name != group for value in other.values()]
                shared = any(set(delta) & set(other) for name, other in deltas.items() if name != group)
                p_value = None if shared else _welch(list(delta.values()), others)
                rows.append({"column": column, "value": group, "n": len(delta), "p": p_value, "p_holm": None})
                rows[-1]["delta"] = mean_json(np.array(list(delta.values())), 1 - 2 * options.alpha_one_sided)
    _adjust(rows)
    return rows


def sensitivity_part(
    outlines: ScoredOutlines, panel: Panel, options: StudyOptions, worst_case: Panel | None = None
) -> list[dict[str, Any]]:
    """The same difference under other choices; a result that hangs on one of them should not be relied upon."""
    if panel.delta is None or panel.d is None:
        return []
    level = 1 - 2 * options.alpha_one_sided
    note = "has to agree with the t interval, or there is no claim"
    rows = [_row("bootstrap-t instead of t", of_estimate(panel.delta_bootstrap_t), note)]
    d = np.sort(np.array(panel.d))
    worst = math.ceil(WORST_SHARE * d.size)
    if d.size - worst >= 2:
        note = f"{worst} of {d.size} patients left out, those with the lowest difference; shows what failures weigh"
        rows.append(_row("without the worst 5% of patients", mean_json(d[worst:], level), note))
    if worst_case is not None:
        count = len({case.patient_id for case in outlines.unpredicted} & set(worst_case.patients))
        note = f"{count} of {worst_case.n} patients have cases without a prediction, counted as 0: the worst case"
        rows.append(_row("missing predictions counted as 0", of_estimate(worst_case.delta), note))
    if panel.n_left_out:
        available = panel_for(outlines, options.metric, options, missing="available")
        note = "patients whom two or more readers outlined, each with the readers there are"
        rows.append(_row("all patients with two or more readers", of_estimate(available.delta), note))
    trained = {
        member
        for reader in (outlines.network.trained_on if outlines.network else ())
        for member in (reader, *consensus_of(outlines.cohort, reader))
    }
    rest = [reader for reader in outlines.readers if reader not in trained]
    if trained & set(outlines.readers) and len(rest) > 1:
        others = panel_for(outlines, options.metric, options, readers=rest)
        rows.append(_row("without the readers who trained the network", of_estimate(others.delta), ", ".join(rest)))
    if options.metric == "dice":
        frames = panel_for(outlines, "frame_dice", options)
        note = "Dice of each frame with LV in either mask, averaged over the frames of a case"
        rows.append(_row("2-D: Dice per frame", of_estimate(frames.delta), note))
    if outlines.network is not None and outlines.network.threshold is not None:
        for name, threshold in moved_thresholds(outlines.network.threshold).items():
            moved = panel_for(outlines, options.metric, options, network=name)
            if moved.n:
                rows.append(_row(f"threshold {threshold:g}", of_estimate(moved.delta), "frozen one: see the run"))
    return rows


# --- Private helpers --------------------------------------------------------------------------------------------------


def _failed(panel: Panel, kind: str, threshold: float) -> list[bool]:
    """Whether the network failed in each patient of a panel; exactly at the limit is no failure."""
    p0 = panel.p0 or ()
    if kind == "below_threshold":
        return [value < threshold for value in p0]
    return [round(among - value - threshold, 9) > 0 for value, among in zip(p0, panel.pn or (), strict=True)]


def _with_missing(outlines: ScoredOutlines, worst: Panel, kind: str, threshold: float) -> dict[str, Any] | None:
    without = {case.patient_id for case in outlines.unpredicted} & set(worst.patients)
    if not without:
        return None
    rate = failure_rate(np.array(_failed(worst, kind, threshold), dtype=bool))
    return {"patients": len(without), "k": rate.count, "n": rate.n, "upper95": rate.upper95}


def _panel_json(panel: Panel) -> dict[str, Any]:
    gamma = panel.gamma
    return {
        "P0": of_estimate(panel.P0),
        "Pn": of_estimate(panel.Pn),
        "delta": of_estimate(panel.delta),
        "delta_bootstrap_t": of_estimate(panel.delta_bootstrap_t),
        "ci_decision": None if panel.delta is None else interval_json(panel.delta.interval),
        "reader_interval": interval_json(panel.reader_interval),
        "p_noninferior": number_json(panel.p_noninferior),
        "p_tost": number_json(panel.p_tost),
        "attained_margin": number_json(panel.attained_margin),
        "relative_margin": number_json(panel.relative_margin),
        "gamma": None if gamma is None else estimate_json(gamma.value, gamma.n, gamma.interval, gamma.method),
        "williams": None
        if panel.williams is None
        else estimate_json(panel.williams.value, panel.williams.n, panel.williams.interval, panel.williams.method),
        "chalana_kim": of_estimate(panel.chalana_kim),
        "leave_one_out": [{"reader": one.reader, "delta": of_estimate(one.delta)} for one in panel.leave_one_out],
        "individual_equivalence": None
        if gamma is None
        else {
            "disagreement": number_json(gamma.disagreement),
            "margin": number_json(gamma.margin),
            "p": number_json(gamma.p_value),
            "interchangeable": gamma.interchangeable,
        },
        "per_patient": [
            {
                "patient_id": patient,
                "p0": number_json(panel.p0[row]) if panel.p0 else None,
                "pn": number_json(panel.pn[row]) if panel.pn else None,
                "d": number_json(panel.d[row]) if panel.d else None,
            }
            for row, patient in enumerate(panel.patients)
        ],
        "n_left_out": panel.n_left_out,
        "verdict": "not_assessable",
    }


def _patient_scores(outlines: ScoredOutlines, metric: str) -> dict[tuple[str, str], dict[str, float]]:
    """One score of each pair by patient."""
    return {(a, b): patient_means(outlines.rows(a, b)).get(metric, {}) for a, b in combinations(outlines.members, 2)}


def _worst_case(outlines: ScoredOutlines, patient: str, metric: str) -> str:
    """The case of a patient in which the score in question is lowest."""
    against, pairs = outlines.table(metric)
    values = pairs.reshape(len(pairs), -1) if against is None else against
    found = [
        (float(np.nanmin(values[row])), case.case_id)
        for row, case in enumerate(outlines.cases)
        if case.patient_id == patient and np.isfinite(values[row]).any()
    ]
    return min(found)[1] if found else ""


def _divides(deltas: dict[str, dict[str, float]]) -> bool:
    return 2 <= len(deltas) <= MAX_SUBGROUPS and all(len(delta) >= MIN_SUBGROUP for delta in deltas.values())


def _welch(inside: list[float], outside: list[float]) -> float | None:
    if min(len(inside), len(outside)) < 2 or np.ptp(inside) + np.ptp(outside) == 0:
        return None
    return number_p(stats.ttest_ind(inside, outside, equal_var=False).pvalue)


def number_p(value: float) -> float | None:
    """A p-value, None where it is undefined."""
    return None if math.isnan(value) else float(value)


def _adjust(rows: list[dict[str, Any]]) -> None:
    """Holm over all p-values; the two groups of a column share one test, which counts once."""
    tests: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in rows:
        if row["p"] is not None:
            tests.setdefault((row["column"], round(row["p"], 12)), []).append(row)
    if tests:
        adjusted = holm(np.array([p for _, p in tests])).adjusted
        for members, value in zip(tests.values(), adjusted, strict=True):
            for row in members:
                row["p_holm"] = float(value)


def _row(what: str, delta: dict[str, Any] | None, note: str) -> dict[str, Any]:
    return {"what": what, "delta": delta, "note": note}
