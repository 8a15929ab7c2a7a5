"""A study from beginning to end: ``agreement.json``, the table of scores, and the page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mpi_unet import __version__
from mpi_unet.agreement.claim import claim_items
from mpi_unet.agreement.conclusion import conclude
from mpi_unet.agreement.schema import SCHEMA_VERSION
from mpi_unet.cohort.case import Case
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.metrics import AGGREGATION, METRICS
from mpi_unet.files import write_json, write_text
from mpi_unet.reader_study.calibration_part import calibration_part
from mpi_unet.reader_study.categories_part import categories_part
from mpi_unet.reader_study.consensus_part import consensus_part, consensus_scores, consensus_sensitivity
from mpi_unet.reader_study.measured_parts import repeatability_part, volume_part
from mpi_unet.reader_study.measurements_part import MASKS, measurements_part, outlined_areas
from mpi_unet.reader_study.options import Network, StudyOptions, choose_readers, consensus_of
from mpi_unet.reader_study.outlines import ScoredOutlines, score_outlines
from mpi_unet.reader_study.panel_parts import (
    agreement_part,
    appendix_part,
    failures_part,
    panels_of,
    scores_part,
    sensitivity_part,
    subgroups_part,
    worst_case_panel,
)
from mpi_unet.reader_study.readings import Readings, gather_readings

__all__ = ["AGREEMENT", "SCORES", "newest_change", "reader_study"]

AGREEMENT = "agreement.json"
SCORES = "agreement_scores.csv"
"""One row per case, pair of outlines and score."""

RECORDED_PACKAGES = ("numpy", "scipy", "statsmodels", "SimpleITK")


def reader_study(
    folder: Path,
    cohort: Cohort,
    cases: Sequence[Case],
    network: Network | None,
    options: StudyOptions,
    *,
    mode: str,
    created: str,
    allow_missing: bool = False,
    known: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Compare outlines and write ``agreement.json`` and the table of scores.

    Args:
        folder: Where the files go.
        cohort: The cohort.
        cases: The cases to compare.
        network: What is compared with the panel; None for readers only.
        options: Options of the study.
        mode: ``run``, ``predictions`` or ``readers_only``.
        created: When the outlines were complete; the same outlines then give the same bytes.
        allow_missing: See :func:`~mpi_unet.reader_study.outlines.score_outlines`.
        known: Answers to items of CLAIM that the caller knows.

    Returns:
        The content of ``agreement.json``.

    Raises:
        AgreementError: The panel cannot be as asked, or nothing can be compared.
        CohortError: Masks that cannot be used.
        RunError: The folder cannot be written to.
    """
    choice = choose_readers(cohort, options.readers, network.column if network else None)
    if not choice.readers:
        raise AgreementError(
            f"nobody outlined {cohort.root} who can be compared with; readers there: "
            f"{', '.join(cohort.readers) or 'none'}; name them with readers=[...]"
        )
    if network is None and len(choice.readers) < 2:
        raise AgreementError(
            f"readers=only compares readers with one another, but {cohort.root} has {len(choice.readers)} who can be "
            f"compared ({', '.join(choice.readers)}); add the outlines of another reader, or compare masks with this "
            "one: predictions=..."
        )
    columns = _columns(cohort, options)
    readings = None
    if options.readings is not None:
        readings = gather_readings(cohort, cases, choice, network, options.readings)
    outlines = score_outlines(cohort, cases, choice, network, options, allow_missing=allow_missing)
    panels = panels_of(outlines, options)
    if options.metric not in panels:
        raise AgreementError(
            f"metric={options.metric} was not measured, for the size of a pixel is not known; choose metric=dice or iou"
        )
    primary = panels[options.metric]
    consensus = consensus_scores(outlines, cases, options)
    worst = worst_case_panel(outlines, options)
    sensitivity = sensitivity_part(outlines, primary, options, worst)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "created": created,
        "software": _software(),
        "mode": mode,
        "cohort": _cohort_part(outlines, cases),
        "design": _design(outlines, cases, options),
        "scores": scores_part(outlines),
        "agreement": agreement_part(panels),
        "primary": options.metric,
        "volume": volume_part(outlines, options),
        "repeatability": repeatability_part(outlines, options),
        "consensus": consensus_part(consensus, outlines.readers),
        "failures": failures_part(outlines, primary, options, worst),
        "subgroups": subgroups_part(outlines, cases, options, columns),
        "sensitivity": sensitivity + (consensus_sensitivity(consensus, options) if sensitivity else []),
        "appendix": appendix_part(primary, options),
        "calibration": _calibration(outlines, cases, options),
        "measurements": _measurements(outlines, readings, options),
        "categories": None if readings is None else categories_part(readings.categories, options) or None,
        "readings_left_out": [
            {"column": column, "reason": reason} for column, reason in (readings.left_out if readings else ())
        ],
        "recipes": None,
        "seeds": {"bootstrap": options.seed, "resamples": options.resamples},
    }
    document["conclusion"] = conclude(document)
    document["agreement"][options.metric]["verdict"] = document["conclusion"]["verdict"]
    document["claim"] = claim_items(document, known)
    write_text(folder / SCORES, _score_table(outlines))
    write_json(folder / AGREEMENT, document)
    return document


def newest_change(files: Iterable[Path]) -> str:
    """When the youngest of some files was written, in UTC: the date of a result that can be made again at any time."""
    seconds = max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
    return datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _columns(cohort: Cohort, options: StudyOptions) -> tuple[str, ...]:
    """Columns of cases.csv by which patients are looked at apart."""
    if options.subgroups is None:
        return cohort.columns
    unknown = [column for column in options.subgroups if column not in cohort.columns]
    if unknown:
        raise AgreementError(
            f"subgroups: {', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} no column of "
            f"{cohort.root / 'cases.csv'}; columns there: {', '.join(cohort.columns)}"
        )
    return options.subgroups


def _calibration(outlines: ScoredOutlines, cases: Sequence[Case], options: StudyOptions) -> dict[str, Any] | None:
    """Calibration over the cases that were scored; None without a network."""
    network = outlines.network
    if network is None:
        return None
    scored = {case.case_id for case in outlines.cases}
    return calibration_part(
        [case for case in cases if case.case_id in scored],
        outlines.readers,
        network.probabilities,
        level=1 - 2 * options.alpha_one_sided,
        why_not=network.why_no_probabilities,
    )


def _measurements(
    outlines: ScoredOutlines, readings: Readings | None, options: StudyOptions
) -> list[dict[str, Any]] | None:
    """What is measured beside volumes: areas of outlines of projections, and columns of readings."""
    parts = measurements_part(outlined_areas(outlines), options, source=MASKS)
    parts += [] if readings is None else measurements_part(readings.measurements, options)
    return parts or None


def _software() -> dict[str, str]:
    return {"mpi_unet": __version__} | {name: metadata.version(name) for name in RECORDED_PACKAGES}


def _cohort_part(outlines: ScoredOutlines, cases: Sequence[Case]) -> dict[str, Any]:
    cohort = outlines.cohort
    return {
        "name": cohort.name,
        "domain": cohort.domain,
        "label": cohort.label,
        "simulated_readers": cohort.simulated_readers,
        "licence": str(cohort.metadata["licence"]),
        "source": str(cohort.metadata["source"]),
        "n_patients": len({case.patient_id for case in cases}),
        "n_cases": len(cases),
        "left_out": [{"case_id": case_id, "reason": reason} for case_id, reason in outlines.left_out],
    }


def _design(outlines: ScoredOutlines, cases: Sequence[Case], options: StudyOptions) -> dict[str, Any]:
    cohort, network, readers = outlines.cohort, outlines.network, outlines.readers
    trained = list(network.trained_on) if network else []
    members = dict.fromkeys(member for reader in trained for member in consensus_of(cohort, reader))
    facts = cohort.reader_facts
    compares = network is not None and len(readers) > 1
    return {
        "unit": "patient",
        "n_patients": len(set(outlines.patients)),
        "n_cases": len(outlines.cases),
        "n_frames": sum(case.num_frames for case in outlines.cases),
        "readers": list(readers),
        "n_readers": len(readers),
        "readers_left_out": [{"reader": reader, "reason": reason} for reader, reason in outlines.choice.left_out],
        "reader_facts": {reader: facts[reader] for reader in (*readers, *outlines.choice.repeats) if reader in facts},
        "repeat_reads": dict(outlines.choice.repeats),
        "network": network.name if network else None,
        "network_how": network.how if network else "",
        "network_trained_on": trained,
        "consensus_members": list(members),
        "blinded": _blinded([facts.get(reader, {}) for reader in readers]),
        "reference": "pairwise",
        "margin": options.margin if compares else None,
        "margin_source": options.margin_source if compares else None,
        "margin_registered_at": options.margin_registered_at if compares else None,
        "alpha_one_sided": options.alpha_one_sided,
        "min_patients": options.min_patients,
        "tolerance_mm": outlines.tolerance_mm,
        "tolerance_source": outlines.tolerance_source,
        "spacing_known": cohort.spacing_known,
        "aggregation": AGGREGATION,
    }


def _blinded(facts: Sequence[Mapping[str, Any]]) -> bool | None:
    """True when every reader is said to have been blinded, False when one was not, None when it is not said."""
    said = [one.get("blinded") for one in facts]
    if any(value is False for value in said):
        return False
    return True if said and all(value is True for value in said) else None


def _score_table(outlines: ScoredOutlines) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("patient_id", "case_id", "preds", "target", "metric", "value", "unit"))
    for case in outlines.cases:
        for (preds, target), pair in case.pairs.items():
            for name, value in pair.at_tolerance(outlines.tolerance_mm).items():
                shown = "" if math.isnan(value) else repr(value)
                writer.writerow((case.patient_id, case.case_id, preds, target, name, shown, METRICS[name].unit))
    return text.getvalue()
