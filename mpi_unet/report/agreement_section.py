"""What a page says about agreement, gathered from ``agreement.json``.

The content is the same for a page of its own and for a section of a run's page.

The conclusion is the text of the file, word for word; this room adds figures, tables and how to read them, and makes no
claim. Parts whose figures are null or absent become a sentence that says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError
from mpi_unet.files import read_json
from mpi_unet.report import agreement_details as details
from mpi_unet.report import agreement_figures as figures
from mpi_unet.report import agreement_methods as methods
from mpi_unet.report import agreement_readings as readings
from mpi_unet.report import agreement_tables as tables
from mpi_unet.report.agreement_failures import failure_count
from mpi_unet.report.agreement_overlays import (
    LARGE_GROUPS,
    Member,
    PatientOverlay,
    members_of,
    network_masks,
    patient_overlay,
    rank_patients,
)
from mpi_unet.report.agreement_words import (
    NETWORK,
    chart_name,
    items,
    level_words,
    mapping,
    margin_of,
    metric_name,
    printable,
    value_of,
)
from mpi_unet.report.calibration import calibration_content
from mpi_unet.report.svg import Drawing
from mpi_unet.report.wording import as_float, count, forbidden_words, metric_cells, number

__all__ = ["FILE", "AgreementPart", "agreement_part", "read_agreement"]

FILE = "agreement.json"
SCHEMA_MAJOR = "1"
LEAD_LETTERS = 230
"""The first sentences of the conclusion are set large until they hold so many letters."""

MAX_PLOTS = 12
"""Bland-Altman plots beyond this number are left out; the table has every pair."""


@dataclass(frozen=True)
class AgreementPart:
    """Content for the templates, the drawings in it, and a sentence for each part that cannot be shown."""

    content: dict[str, Any]
    drawings: tuple[Drawing, ...]
    missing: tuple[str, ...]

    @property
    def num_readers(self) -> int:
        """How many readers were compared."""
        return len(self.content["readers"])


def read_agreement(folder: Path) -> dict[str, Any]:
    """Read ``agreement.json`` of a folder.

    Raises:
        AgreementError: It is missing, unreadable, of another version, or its conclusion claims what no comparison of
            this kind supports.
    """
    path = folder / FILE
    again = "make it anew with python -m mpi_unet.evaluate"
    try:
        document = read_json(path)
    except FileNotFoundError as error:
        raise AgreementError(f"{path} does not exist, so there is no agreement to report; {again}") from error
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AgreementError(f"{path} cannot be read ({error}); {again}") from error
    if not isinstance(document, dict):
        raise AgreementError(f"{path} holds a {type(document).__name__}, expected an object; {again}")
    version = str(document.get("schema_version", "missing"))
    if version.partition(".")[0] != SCHEMA_MAJOR:
        raise AgreementError(f"{path} has schema_version {version}, expected {SCHEMA_MAJOR}.x; {again}")
    claims = forbidden_words(str(mapping(document.get("conclusion")).get("text")))
    if claims:
        raise AgreementError(
            f"the conclusion in {path} says {', '.join(map(repr, claims))}, which no comparison of this kind supports; "
            f"{again}"
        )
    return document


def agreement_part(
    folder: Path, document: Mapping[str, Any], cohort: Cohort, predictions: str | Path | None = None
) -> AgreementPart:
    """Gather everything that the page says about agreement.

    Args:
        folder: Where ``agreement.json`` lies.
        document: Its content.
        cohort: For images and outlines.
        predictions: Where the masks of the network are: a folder, or the name of a column of readers. None looks for
            ``predictions`` beside the file and for a column with the name of the network.
    """
    missing: list[str] = []
    design, block = mapping(document.get("design")), tables.primary_block(document)
    readers = [str(name) for name in items(design.get("readers"))]
    metric = metric_name(str(document.get("primary")), mapping(document.get("scores")))
    has_network, several = document.get("mode") != "readers_only", len(readers) > 1
    key = "p0" if has_network else "pn"
    overlays, members = _overlays(folder, document, cohort, predictions, key, missing)
    delta = _delta_chart(document, metric)
    everyone = _patient_charts(document, metric, key)
    forest = _leave_one_out_chart(document, metric, readers)
    plots = _bland_altman(document, readers)
    calibrated = calibration_content(document.get("calibration"))
    measured = readings.measurement_parts(document)
    groups = _overlay_groups(overlays)
    content = {
        "mode": str(document.get("mode")),
        "has_network": has_network,
        "several": several,
        "compares": has_network and several,
        "cohort": printable(mapping(document.get("cohort")).get("name") or cohort.name),
        "simulated": cohort.simulated_readers or bool(mapping(document.get("cohort")).get("simulated_readers")),
        "readers": [printable(name) for name in readers],
        "network": printable(design.get("network") or "the network"),
        "metric": metric,
        "margin": None if margin_of(document) is None else number(margin_of(document)),
        "level": level_words(block.get("ci_decision"), mapping(block.get("Pn")).get("interval")),
        "lead": _lead(document)[0],
        "rest": _lead(document)[1],
        "delta": delta,
        "general": bool(block.get("reader_interval")),
        "cards": tables.key_numbers(document),
        "primary": tables.primary_table(document),
        "n": count(mapping(block.get("delta") or block.get("Pn") or block.get("P0")).get("n")),
        "n_left_out": int(block.get("n_left_out") or 0),
        "everyone": everyone,
        "dumbbell": any(drawn.name == "agreement_pairs" for drawn in everyone),
        "patients": tables.patient_rows(document),
        "matrices": tables.matrices(document),
        "forest": forest,
        "leave_one_out": tables.leave_one_out_rows(document),
        "volume": _volume(document),
        "plots": plots,
        "plots_left_out": max(0, len(_plotted(document)) - MAX_PLOTS),
        "failures": failure_count(document),
        "failure_rows": tables.failure_rows(document),
        "groups": groups,
        "members": [_legend_entry(member) for member in members],
        "repeats": details.repeat_rows(document),
        "consensus": details.consensus_part(document),
        "subgroups": details.subgroup_rows(document),
        "sensitivity": details.sensitivity_rows(document),
        "facts": methods.study_facts(document),
        "left_out": methods.left_out_rows(document),
        "reader_table": methods.reader_rows(document),
        "scores": details.score_tables(document),
        "measurements": measured,
        "categories": readings.category_parts(document),
        "readings_left_out": readings.left_out_readings(document),
        "recipes": details.nested_rows(document["recipes"]) if document.get("recipes") else [],
        "calibration": calibrated,
        "claim": details.claim_rows(document),
        "appendix": details.appendix_rows(document),
        "appendix_note": printable(mapping(document.get("appendix")).get("note") or ""),
        "definitions": methods.definitions(document),
        "how_made": methods.how_made(document),
        "limits": methods.agreement_limits(document),
        "missing": missing,
    }
    drawings = (
        *([delta] if delta else []),
        *everyone,
        *([forest] if forest else []),
        *plots,
        *readings.measurement_drawings(measured),
        *([calibrated.chart] if calibrated.chart else []),
    )
    return AgreementPart(content, drawings, tuple(missing))


# --- Private helpers ---


def _lead(document: Mapping[str, Any]) -> tuple[str, str]:
    """The conclusion, word for word: its first sentences, and the others."""
    conclusion = mapping(document.get("conclusion"))
    text = printable(conclusion.get("text") or "")
    sentences = [printable(sentence) for sentence in items(conclusion.get("sentences"))]
    if not text:
        return "The file of this comparison holds no conclusion.", ""
    if " ".join(sentences) != text:
        return text, ""
    split = 1
    while split < len(sentences) and len(" ".join(sentences[: split + 1])) <= LEAD_LETTERS:
        split += 1
    return " ".join(sentences[:split]), " ".join(sentences[split:])


def _delta_chart(document: Mapping[str, Any], metric: str) -> Drawing | None:
    """F1: the difference with all its intervals beside the margin."""
    block = tables.primary_block(document)
    delta = mapping(block.get("delta"))
    if not delta:
        return None
    value = value_of(delta)
    decision = block.get("ci_decision") or delta.get("interval")
    rows = [figures.ForestRow("these readers", {"value": value, "interval": decision}, is_main=True)]
    if block.get("delta_bootstrap_t"):
        rows.append(figures.ForestRow("the same, bootstrap-t", mapping(block["delta_bootstrap_t"])))
    if block.get("reader_interval"):
        rows.append(figures.ForestRow("readers in general", {"value": value, "interval": block["reader_interval"]}))
    return figures.forest("agreement_delta", rows, margin_of(document), f"difference in {metric} (network - readers)")


def _leave_one_out_chart(document: Mapping[str, Any], metric: str, readers: list[str]) -> Drawing | None:
    """F3: each reader in turn is replaced by the network or, without one, compared with the others."""
    block = tables.primary_block(document)
    rows = [
        figures.ForestRow(chart_name(str(row.get("reader")), readers), mapping(row.get("delta")))
        for row in map(mapping, items(block.get("leave_one_out")))
    ]
    if not rows:
        return None
    if document.get("mode") == "readers_only":
        return figures.forest("agreement_one_out", rows, None, f"difference in {metric} (reader - others)")
    if block.get("delta"):
        delta = {"value": value_of(block["delta"]), "interval": block.get("ci_decision")}
        rows.append(figures.ForestRow("all readers", delta, is_main=True))
    label = f"difference in {metric} (network - reader)"
    return figures.forest("agreement_one_out", rows, margin_of(document), label)


def _patient_charts(document: Mapping[str, Any], metric: str, key: str) -> list[Drawing]:
    """F4: every patient."""
    block = tables.primary_block(document)
    patients = [mapping(row) for row in items(block.get("per_patient"))]
    failed = tables.failed_patients(document)
    failures = mapping(document.get("failures"))
    threshold = as_float(failures.get("threshold"))
    limit = None if math.isnan(threshold) else threshold
    is_gap = "pn" in str(failures.get("definition"))
    drawings: list[Drawing | None] = []
    if block.get("delta"):
        drawings.append(figures.scatter("agreement_scatter", patients, failed, limit if is_gap else None, metric))
        if len(patients) <= figures.MAX_NAMED_PATIENTS:
            drawings.append(figures.pairs_of_dots("agreement_pairs", patients, failed, metric))
        else:
            label = f"difference in {metric} (network - readers)"
            edge = -limit if limit is not None and is_gap else None
            drawings.append(figures.sorted_dots("agreement_sorted", patients, "d", block["delta"], failed, label, edge))
    else:
        readers = items(mapping(document.get("design")).get("readers"))
        mine = f"network with the reader{'' if len(readers) == 1 else 's'}"
        who = mine if key == "p0" else "readers with one another"
        estimate = block.get("P0" if key == "p0" else "Pn")
        edge = None if is_gap or key == "pn" else limit
        drawings.append(
            figures.sorted_dots("agreement_sorted", patients, key, estimate, failed, f"{metric}, {who}", edge)
        )
    return [drawn for drawn in drawings if drawn is not None]


def _plotted(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Pairs that get a Bland-Altman plot: those of the network or, without one, those of the readers."""
    pairs = [mapping(pair) for pair in items(mapping(document.get("volume")).get("pairs"))]
    return [pair for pair in pairs if pair.get("a") == NETWORK] or pairs


def _bland_altman(document: Mapping[str, Any], readers: list[str]) -> list[Drawing]:
    """F2."""
    volume, pairs = mapping(document.get("volume")), _plotted(document)[:MAX_PLOTS]
    if not pairs:
        return []
    span = figures.shared_range(pairs)
    unit, measurement = printable(volume.get("unit") or ""), printable(volume.get("measurement") or "volume")
    drawn = [
        figures.bland_altman(f"agreement_volume_{index}", pair, readers, unit, measurement, span)
        for index, pair in enumerate(pairs)
    ]
    return [drawing for drawing in drawn if drawing is not None]


def _volume(document: Mapping[str, Any]) -> dict[str, Any]:
    volume = mapping(document.get("volume"))
    unit = printable(volume.get("unit") or "")
    rows = details.volume_rows(document)
    first = NETWORK in {str(mapping(pair).get("a")) for pair in items(volume.get("pairs"))}
    return {
        "why_not": printable(volume.get("why_not") or "")
        or ("" if rows else "Volumes were not compared in this analysis."),
        "unit": unit,
        "measurement": printable(volume.get("measurement") or "volume"),
        "rows": [row for row, pair in zip(rows, items(volume.get("pairs")), strict=True) if _leads(pair, first)],
        "others": [row for row, pair in zip(rows, items(volume.get("pairs")), strict=True) if not _leads(pair, first)],
        "icc": details.icc_rows(document),
        "no_percent": details.no_percent_reasons(document),
        "sem": f"{number(value_of(volume['sem_ml']), unit)} {unit}" if volume.get("sem_ml") is not None else "",
        "readers": [
            {"name": printable(name), "cells": metric_cells({"unit": unit, **mapping(summary)})}
            for name, summary in mapping(volume.get("readers")).items()
        ],
    }


def _leads(pair: Mapping[str, Any], has_network: bool) -> bool:
    return not has_network or pair.get("a") == NETWORK


def _overlays(
    folder: Path,
    document: Mapping[str, Any],
    cohort: Cohort,
    predictions: str | Path | None,
    key: str,
    missing: list[str],
) -> tuple[list[PatientOverlay], list[Member]]:
    design, block = mapping(document.get("design")), tables.primary_block(document)
    readers = [str(name) for name in items(design.get("readers")) if str(name) in cohort.readers]
    masks = None
    if document.get("mode") != "readers_only":
        masks = network_masks(folder, cohort, str(design.get("network")), predictions)
        if masks is None:
            missing.append("The masks of the network were not found, so outlines are those of the readers only.")
    overlays = []
    for ranked in rank_patients([mapping(row) for row in items(block.get("per_patient"))], key):
        overlay = patient_overlay(ranked, cohort, readers, masks)
        if isinstance(overlay, str):
            missing.append(overlay)
        else:
            overlays.append(overlay)
    return overlays, members_of(readers, masks is not None)


def _overlay_groups(overlays: list[PatientOverlay]) -> list[dict[str, Any]]:
    titles = {
        "all": "All patients, the least agreement first",
        "lowest": "The six patients with the least agreement",
        "middle": "Three patients around the median",
        "highest": "The three patients with the most agreement",
    }
    groups = []
    for group, title in titles.items():
        found = [overlay for overlay in overlays if overlay.ranked.group == group]
        if found:
            groups.append({"title": title, "overlays": found, "is_large": group in LARGE_GROUPS})
    return groups


def _legend_entry(member: Member) -> dict[str, Any]:
    return {
        "name": printable(member.name),
        "color": member.stroke.color,
        "dashes": "7 4" if member.name == NETWORK else ("2 3" if member.stroke.dashes else ""),
        "width": 4 if member.name == NETWORK else 3,
        "layer": member.stroke.layer,
        "words": member.words,
    }
