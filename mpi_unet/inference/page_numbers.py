"""What stands on the page of a study in words and numbers: flags, quantities, segments, how it was made.

Numbers come from the rows of ``measurements.csv``, so that page and table say the same; what a row leaves empty gets
the reason that the row gives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from mpi_unet.inference.dicom_numbers import UNGATED
from mpi_unet.inference.results import StudyResult
from mpi_unet.report.study_page import Flag, Quantity

__all__ = ["flags_for_page", "outcome", "predicted_dice", "quantities", "segment_columns"]

CYCLE = (
    ("ejection_fraction_pct", "Ejection fraction", "%", "why_not", True),
    ("end_diastolic_ml", "End-diastolic volume", "ml", "why_not", True),
    ("end_systolic_ml", "End-systolic volume", "ml", "why_not", True),
    ("stroke_volume_ml", "Stroke volume", "ml", "why_not", False),
    ("gates_ejection_fraction_pct", "Ejection fraction of the largest and smallest gate alone", "%", "why_not", False),
    ("outlined_ejection_fraction_pct", "Ejection fraction of the cavities as outlined", "%", "why_not", False),
    ("outlined_wall_change_pct", "Change of the outlined wall from end diastole to end systole", "%", "why_not", False),
    ("cycle_mass_g", "Mass of the wall, mean of the gates", "g", "why_not", True),
    ("thickening_pct", "Mean thickening of the wall", "%", "why_no_thickening", False),
    ("phase_sd_deg", "Standard deviation of the phase", "deg", "why_no_phase", False),
    ("phase_bandwidth_deg", "Bandwidth of the phase", "deg", "why_no_phase", False),
    ("phase_entropy_pct", "Entropy of the phase", "%", "why_no_phase", False),
)
"""Column, label, unit, column of the reason, and whether it stands on top: of a gated study."""

IMAGE = (
    ("cavity_ml", "Cavity", "ml", "why_not", True),
    ("mass_g", "Mass of the wall", "g", "why_not", True),
    ("wall_ml", "Wall", "ml", "why_not", False),
    ("filled_ml", "Wall and cavity", "ml", "why_not", False),
    ("thickness_mm", "Mean thickness of the wall", "mm", "why_not", True),
    ("volume_ml", "Volume of the outlined voxels", "ml", "why_not", False),
)
PROJECTION = (("area_mm2", "Outlined area, mean of the views", "mm2", "why_not", True),)

UPTAKE = (
    ("summed_score_index", "Summed score", "points", "why_no_uptake", False),
    ("total_deficit_pct", "Total perfusion deficit", "%", "why_no_normals", False),
    ("defect_extent_pct", "Extent of the defect", "%", "why_no_normals", False),
    ("defect_severity_index", "Severity of the defect, below the normal mean", "SD", "why_no_normals", False),
)

NO_NORMALS = "no normal database was given (normals=)"

BY_SEGMENT = (
    ("thickness_mm", "thickness, mm"),
    ("thickening_pct", "thickening, %"),
    ("score", "score, 0 to 4"),
    ("extent_pct", "below normal, % of area"),
)
"""Columns of segments, uptake aside, which the map itself holds."""

Row = Mapping[str, str]


def flags_for_page(results: Sequence[StudyResult], problems: Sequence[str] = ()) -> tuple[Flag, ...]:
    """What to look at, each kind of flag once; where gates share it, with their numbers.

    Args:
        results: Of the images of one study.
        problems: Why something that its kind of outline allows was not measured.
    """
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for result in results:
        for code, severity, text in _flags(result):
            texts = found[code, severity]
            texts[result.gate] = f"{texts[result.gate]}; {text}" if result.gate in texts else text
    flags = [Flag(*kind, _sentence(_of_gates(texts, len(results)))) for kind, texts in found.items()]
    flags += [Flag("not_measured", "attention", _sentence(f"not measured: {text}")) for text in problems]
    return tuple(dict.fromkeys(flags))


def quantities(row: Row, *, is_cycle: bool, domain: str) -> tuple[Quantity, ...]:
    """The numbers of a row of ``measurements.csv``, each with its unit or with the reason why there is none."""
    if domain == "projection":
        return _of(PROJECTION, row)
    uptake = _of(UPTAKE, row)
    if is_cycle:
        return (*_of(CYCLE, row), *uptake)
    return (*_of(IMAGE, row), Quantity("Ejection fraction", None, "%", UNGATED), *uptake)


def segment_columns(row: Row) -> tuple[tuple[str, tuple[float | None, ...]], ...]:
    """Heading and 17 values of everything that is known by segment."""
    columns = []
    for name, head in BY_SEGMENT:
        values = tuple(_number(row.get(f"{name}_seg{number:02d}", "")) for number in range(1, 18))
        if any(value is not None for value in values):
            columns.append((head, values))
    return tuple(columns)


def predicted_dice(results: Sequence[StudyResult]) -> Quantity:
    """The predicted Dice of a study, of gates the lowest."""
    known = [result.quality for result in results if result.quality.predicted_dice is not None]
    if not known:
        why_not = next((result.quality.why_no_dice for result in results if result.quality.why_no_dice), "")
        return Quantity("Predicted Dice", None, "", why_not or "not measured")
    worst = min(known, key=lambda one: one.predicted_dice or 0.0)
    ends = ""
    if worst.low is not None and worst.high is not None:
        ends = f"90 % interval {worst.low:.2f} to {worst.high:.2f}"
    words = "; ".join(part for part in ("lowest of the gates" if len(results) > 1 else "", ends) if part)
    return Quantity(f"Predicted Dice{f' ({words})' if words else ''}", worst.predicted_dice, "")


def outcome(results: Sequence[StudyResult]) -> str:
    """What became of a study, in one sentence."""
    done = [result for result in results if result.status == "segmented"]
    folds = sorted({fold for result in done for fold in result.folds})
    names = ", ".join(map(str, folds))
    by = f"the networks of folds {names}, averaged" if len(folds) > 1 else f"the network of fold {names}"
    if len(results) == 1:
        return f"Outlined by {by}."
    return f"{len(done)} of {len(results)} gates outlined by {by}."


# --- Private helpers --------------------------------------------------------------------------------------------------


def _of(terms: Sequence[tuple[str, str, str, str, bool]], row: Row) -> tuple[Quantity, ...]:
    return tuple(
        Quantity(label, value, unit, "" if value is not None else _reason(row, why), is_main)
        for column, label, unit, why, is_main in terms
        for value in [_number(row.get(column, ""))]
    )


def _reason(row: Row, why: str) -> str:
    fallback = NO_NORMALS if why == "why_no_normals" and not row.get("why_no_uptake") else row.get("why_no_uptake", "")
    return row.get(why) or (fallback if why in ("why_no_normals", "why_no_uptake") else "") or "not measured"


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _flags(result: StudyResult) -> Iterator[tuple[str, str, str]]:
    """Code, severity and text of everything that is known against one image."""
    if result.status != "segmented":
        yield "not_segmented", "urgent", f"{result.status}: {result.reason}"
        return
    known = {flag.code for flag in result.quality.flags}
    if not result.num_voxels and "empty_mask" not in known:
        yield "empty_mask", "urgent", "nothing was found that looks like LV"
    for flag in result.quality.flags:
        yield flag.code, flag.severity, flag.sentence
    if result.num_voxels:
        for remark in result.remarks:
            yield "remark", "attention", remark
    if result.other_domain and "other_domain" not in known:
        yield "other_domain", "attention", f"unlike training: {'; '.join(result.other_domain)}"
    if result.seen_in_training:
        yield "seen_in_training", "notice", f"this {result.seen_in_training} was part of training"


def _of_gates(texts: Mapping[str, str], num_images: int) -> str:
    """One text for the gates that share a flag; of different texts that of the first gate.

    Example:
        >>> _of_gates({"3": "few counts"}, 8), _of_gates({"3": "few", "4": "few"}, 8)
        ('gate 3: few counts', 'gates 3, 4: few')
        >>> _of_gates({"3": "Dice 0.6", "4": "Dice 0.5"}, 8)
        'gates 3, 4; of gate 3: Dice 0.6'
    """
    gates, first = list(texts), next(iter(texts.values()))
    if num_images == 1:
        return first
    if len(gates) == 1:
        return f"gate {gates[0]}: {first}"
    numbers = "all gates" if len(gates) == num_images else f"gates {', '.join(gates)}"
    return f"{numbers}: {first}" if len(set(texts.values())) == 1 else f"{numbers}; of gate {gates[0]}: {first}"


def _sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
