"""The page of one run: ``report.html`` and the drawings beside it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError
from mpi_unet.files import write_text
from mpi_unet.report.agreement_section import FILE, AgreementPart, agreement_part, read_agreement
from mpi_unet.report.calibration import CalibrationContent, calibration_content
from mpi_unet.report.content import (
    absent_metrics,
    as_published,
    baseline_table,
    best_baseline,
    definitions,
    empty_mask_accuracy,
    exceeds_one,
    fold_rows,
    key_numbers,
    result_groups,
    run_facts,
    split_rows,
)
from mpi_unet.report.figures import PatientScore, distribution, learning_curves, patient_scores
from mpi_unet.report.limits import below_baseline, limits
from mpi_unet.report.operating import operating_curves, read_operating
from mpi_unet.report.overlays import Overlay, case_overlay, pick_cases
from mpi_unet.report.record import RunRecord, read_run
from mpi_unet.report.svg import DASHES, MARKERS, Drawing, series_color, series_dashes, series_marker
from mpi_unet.report.wording import headline, number, reader_words, split_words

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render", "write_report"]

PATIENT_METRICS = ("dice", "iou")


def write_report(run: Path, cohort: Cohort) -> Path:
    """Write ``<run>/report.html`` and ``<run>/figures/*.svg`` from the files of a finished run.

    The page is one file that needs no network. Parts whose files are missing become sentences. The same files give the
    same bytes. Where an ``agreement.json`` lies in the run, its analysis is a part of the page.

    Args:
        run: The run folder; ``summary.json`` must be there.
        cohort: The cohort that the run was made with, for images and outlines.

    Returns:
        The path of the page.

    Raises:
        RunError: ``summary.json`` is missing or unreadable, or the folder cannot be written to.
    """
    record = read_run(run)
    missing = list(record.missing)
    patients = {name: patient_scores(record.scores, name) for name in PATIENT_METRICS}
    distributions = _distributions(record, patients)
    learning = learning_curves(record.histories)
    operating = _operating(record, missing)
    overlays = _overlays(record, cohort, missing)
    agreement = _agreement(record, cohort, missing)
    calibrated = _calibration(record, agreement)
    shown = [*distributions, *learning, *operating, *(overlay.whole for overlay in overlays)]
    shown += [calibrated.chart] if calibrated and calibrated.chart else []
    for drawn in [*shown, *(agreement.drawings if agreement else ())]:
        write_text(run / "figures" / f"{drawn.name}.svg", drawn.standalone)
    summary, design = record.summary, record.design
    path = run / "report.html"
    page = render(
        "report.html.jinja",
        summary=summary,
        design=design,
        name=str(summary.get("name") or run.name),
        simulated=cohort.simulated_readers or bool(design.get("simulated_readers")),
        leakage=bool(design.get("leakage_allowed")),
        complete=bool(summary.get("complete", True)),
        headline=headline(summary),
        reader=reader_words(design),
        split=split_words(design),
        cards=key_numbers(summary),
        warnings=_warnings(summary),
        groups=result_groups(summary),
        absent=absent_metrics(summary),
        beyond_one=exceeds_one(summary),
        as_published=as_published(summary),
        empty_mask=empty_mask_accuracy(summary),
        baselines=baseline_table(summary),
        agreement=agreement.content if agreement else None,
        reference=best_baseline(summary, "dice"),
        distributions=distributions,
        patients=_patient_rows(patients),
        legend=[_legend_entry(int(fold["fold"])) for fold in summary["folds"] if fold.get("fold") is not None],
        overlays=overlays,
        learning=learning,
        operating=operating,
        calibration=calibrated,
        frozen=summary.get("operating") or {},
        folds=fold_rows(record),
        facts=run_facts(record, cohort),
        split_rows=split_rows(record),
        definitions=definitions(summary),
        config=record.config,
        overrides=record.overrides,
        command=str(record.environment.get("command") or ""),
        limits=limits({**summary, "agreement": FILE} if agreement and agreement.num_readers > 1 else summary),
        missing=missing,
    )
    write_text(path, page)
    return path


def render(template: str, **context: Any) -> str:
    """Fill a template of this room; every text is escaped, drawings excepted, and an unknown name is an error."""
    return _environment().get_template(template).render(**context)


# --- Private helpers --------------------------------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    """Keeps the templates that it has compiled: a thousand pages of studies compile one."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = number
    return environment


def _distributions(record: RunRecord, patients: Mapping[str, list[PatientScore]]) -> list[Drawing]:
    metrics = record.summary.get("metrics") or {}
    drawings = []
    for name in PATIENT_METRICS:
        reference = best_baseline(record.summary, name)
        drawings.append(
            distribution(patients[name], name, metrics.get(name) or {}, reference[1] if reference else None)
        )
    return [drawn for drawn in drawings if drawn is not None]


def _operating(record: RunRecord, missing: list[str]) -> list[Drawing]:
    curve = read_operating(record.operating)
    if curve is None:
        if record.operating:
            missing.append("operating.csv holds a cell that is no number, or thresholds differ; no curve is drawn.")
        return []
    frozen = (record.summary.get("operating") or {}).get("threshold")
    if frozen is None:
        missing.append("summary.json names no frozen threshold, so none is marked on the operating curves.")
    return operating_curves(curve, None if frozen is None else float(frozen))


def _overlays(record: RunRecord, cohort: Cohort, missing: list[str]) -> list[Overlay]:
    reader = str(record.design.get("reader") or "")
    overlays = []
    for score in pick_cases(record.scores):
        prediction = record.root / "predictions" / f"{score.case_id}.nii.gz"
        held_out = _held_out_frames(record, score.case_id)
        overlay = case_overlay(score, cohort, reader, prediction, held_out)
        if isinstance(overlay, str):
            missing.append(overlay)
        else:
            overlays.append(overlay)
    return overlays


def _agreement(record: RunRecord, cohort: Cohort, missing: list[str]) -> AgreementPart | None:
    """The part on agreement, where the run was compared with readers."""
    if not (record.root / FILE).is_file():
        return None
    try:
        return agreement_part(record.root, read_agreement(record.root), cohort)
    except AgreementError:
        missing.append(f"{FILE} is there but cannot be shown; make it anew with python -m mpi_unet.evaluate.")
        return None


def _calibration(record: RunRecord, agreement: AgreementPart | None) -> CalibrationContent | None:
    """The reliability curve against the reader of the run, unless the part on agreement shows that of all readers."""
    if "calibration" not in record.summary or (agreement and agreement.num_readers > 1):
        return None
    return calibration_content(record.summary["calibration"], "calibration")


def _warnings(summary: Mapping[str, Any]) -> list[str]:
    """What must be read together with the main result: the run's own warnings, and a rule that does as well."""
    rival = below_baseline(summary)
    return [str(warning) for warning in summary.get("warnings") or []] + ([rival] if rival else [])


def _held_out_frames(record: RunRecord, case_id: str) -> list[int] | None:
    """Frames of a case that some fold held out, where images were divided (units ``case#frame``); else None."""
    if record.design.get("unit") != "image":
        return None
    units = [str(unit).rpartition("#") for fold in record.splits.get("folds") or [] for unit in fold.get("test") or []]
    return sorted({int(frame) for case, _, frame in units if case == case_id and frame.isdigit()}) or None


def _patient_rows(patients: Mapping[str, list[PatientScore]]) -> list[dict[str, str]]:
    """Every patient, the lowest Dice first, those without a Dice at the end."""
    others = {score.patient_id: score.value for score in patients["iou"]}
    ordered = sorted(patients["dice"], key=lambda score: (score.value != score.value, score.value, score.patient_id))
    return [
        {
            "patient": score.patient_id,
            "fold": str(score.fold),
            "dice": number(score.value),
            "iou": number(others.get(score.patient_id)),
        }
        for score in ordered
    ]


def _legend_entry(fold: int) -> dict[str, Any]:
    dashes = series_dashes(fold)[1]
    return {
        "fold": fold,
        "color": series_color(fold),
        "shape": MARKERS.index(series_marker(fold)),
        "dashes": " ".join(f"{2 * length:g}" for length in dashes) if dashes else "",
        "pattern": fold % len(DASHES),
    }
