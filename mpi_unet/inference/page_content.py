"""Everything that stands on the page of one study, gathered from what a prediction left behind.

Images, masks, hearts and the rows of the tables: pages and the summaries in DICOM objects are drawn from the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpi_unet.cardiac.polar_map import PolarMap, normalized
from mpi_unet.cardiac.volumes import TimeVolumeCurve
from mpi_unet.cohort.nifti import read_mask
from mpi_unet.errors import CardiacError
from mpi_unet.inference.cycle import GateFacts, curve_of, mean_map, one_line
from mpi_unet.inference.dicom_numbers import WHOLE_CYCLE, Rows
from mpi_unet.inference.facts import ModelFacts
from mpi_unet.inference.hearts import Heart, heart_file, read_heart
from mpi_unet.inference.page_numbers import flags_for_page, outcome, predicted_dice, quantities, segment_columns
from mpi_unet.inference.results import StudyResult, mask_file
from mpi_unet.report.study_page import StudyContent
from mpi_unet.report.study_planes import Plane, heart_planes, projection_planes, volume_planes

if TYPE_CHECKING:
    from mpi_unet.inference.inputs import Study

__all__ = ["is_cycle", "not_measured", "row_of", "study_content"]


def study_content(
    studies: Sequence[Study],
    results: Sequence[StudyResult],
    rows: Rows,
    output: Path,
    facts: ModelFacts,
    *,
    with_surfaces: bool,
    is_simulated: bool = False,
    key: str = "",
) -> StudyContent:
    """Gather the content of one page.

    Args:
        studies: One image, or the gates of a gated study in the order of the cycle; at least one is segmented.
        results: Theirs.
        rows: At least theirs in the tables.
        output: Folder of the predictions.
        facts: What outlined them.
        with_surfaces: Whether surfaces were asked for; what was not asked for raises no flag.
        is_simulated: Whether the images are those of a phantom.
        key: Of everything that the page is made from.
    """
    first, gated = studies[0], is_cycle(studies)
    row = row_of(studies, rows)
    done = [study for study, result in zip(studies, results, strict=True) if result.status == "segmented"]
    hearts = {study.study_id: _heart(output, study.study_id) for study in done}
    curve, why_no_curve = _curve(studies, row, rows)
    polar, why_no_polar = _uptake(studies, hearts, row)
    planes, remark = _planes(output, _pictured(done, row), hearts)
    case = first.case
    about = (
        ("Study", first.study_id if not gated else f"{first.study_id} and the other gates of its cycle"),
        ("Patient", case.patient_id),
        ("Acquisition", case.acquisition or "unknown"),
        ("Gates", str(len(studies)) if gated else "none: one image of the whole cycle"),
    )
    method = [
        ("Network", f"run {facts.name}, threshold {facts.threshold:g}"),
        ("Learnt from", facts.trained_on),
        ("The outline is", facts.label),
        ("Images", first.domain.replace("_", " ")),
    ]
    if row.get("scores_by"):
        method.append(("Scores by", row["scores_by"]))
    return StudyContent(
        study_id=f"{first.study_id}, whole cycle" if gated else first.study_id,
        run=facts.name,
        outcome=outcome(results),
        flags=flags_for_page(results, not_measured(studies, rows, facts, with_surfaces=with_surfaces)),
        about=about,
        quantities=(*quantities(row, is_cycle=gated, domain=first.domain), predicted_dice(results)),
        planes=planes,
        planes_remark=remark,
        polar=polar,
        why_no_polar=why_no_polar,
        segment_columns=segment_columns(row),
        curve=curve,
        why_no_curve=why_no_curve,
        method=tuple(method),
        is_simulated=is_simulated,
        key=key,
    )


def is_cycle(studies: Sequence[Study]) -> bool:
    """Whether these are the gates of a gated study."""
    return studies[0].case.gate.isdecimal()


def row_of(studies: Sequence[Study], rows: Rows) -> Mapping[str, str]:
    """The row of ``measurements.csv`` that speaks for them: of the image, or of the cycle under one of its gates."""
    kind = WHOLE_CYCLE if is_cycle(studies) else ""
    found = (rows.measurements.get((study.study_id, kind)) for study in studies)
    return next((row for row in found if row), {})


def not_measured(studies: Sequence[Study], rows: Rows, facts: ModelFacts, *, with_surfaces: bool) -> list[str]:
    """Why measurements that this kind of outline allows are missing."""
    if not with_surfaces or studies[0].domain == "projection" or facts.label != "lv_wall":
        return []
    found = [rows.measurements.get((study.study_id, ""), {}).get("why_not", "") for study in studies]
    return [why for why in dict.fromkeys(found) if why and why != "nothing was outlined"]


# --- Private helpers --------------------------------------------------------------------------------------------------


def _curve(studies: Sequence[Study], row: Mapping[str, str], rows: Rows) -> tuple[TimeVolumeCurve | None, str]:
    """Time-volume curve from the table, and why there is none or no ejection fraction."""
    if not is_cycle(studies):
        return None, "the image is not gated"
    cells = [rows.measurements.get((study.study_id, ""), {}) for study in studies]
    cavities, walls = ([_number(cell.get(name, "")) for cell in cells] for name in ("cavity_ml", "wall_ml"))
    curve, why_not = curve_of(cavities, walls)
    return curve, row.get("why_not") or why_not


def _number(text: str) -> float | None:
    return float(text) if text else None


def _heart(output: Path, study_id: str) -> Heart | None:
    try:
        return read_heart(heart_file(output, study_id))
    except CardiacError:
        return None


def _pictured(done: Sequence[Study], row: Mapping[str, str]) -> list[tuple[Study, str]]:
    """Which images are shown, and what they are called: end diastole and end systole, where these are known."""
    by_gate = {study.case.gate: study for study in done}
    phases = [("end_diastolic_gate", "end diastole"), ("end_systolic_gate", "end systole")]
    gates = [(row.get(column, ""), words) for column, words in phases]
    found = [(by_gate[gate], f"{words}, gate {gate}") for gate, words in gates if gate and gate in by_gate]
    if found:
        return found
    first = done[0]
    return [(first, f"gate {first.case.gate}" if first.case.gate else "")]


def _planes(
    output: Path, pictured: Sequence[tuple[Study, str]], hearts: Mapping[str, Heart | None]
) -> tuple[tuple[Plane, ...], str]:
    """Cuts through the images that are shown, and a sentence about how they lie."""
    planes: list[Plane] = []
    remark = ""
    for place, (study, words) in enumerate(pictured):
        volume, mask = study.case.read_image(), read_mask(mask_file(output, study.study_id))
        heart = hearts.get(study.study_id)
        if study.domain == "projection":
            spacing = volume.spacing_mm[1:] if study.spacing_known else None
            made = projection_planes(volume.array, mask, spacing, remark=words)
            remark = remark or "Views as the camera took them, from the first to the last with an outline."
        elif heart is not None:
            made = heart_planes(volume.array, mask, volume.affine, heart.axes, remark=words)
            remark = remark or "Turned to the axes of the heart that follow from the outline."
        else:
            made = volume_planes(
                volume.array,
                mask,
                volume.affine,
                domain=study.domain,
                is_placed=study.is_placed,
                spacing_known=study.spacing_known,
                remark=words,
            )
            remark = remark or "No long axis could be found or was asked for: these are the planes of the volume."
        planes += made if place == 0 else made[:1]  # of end systole the short axis only
    return tuple(planes), remark


def _uptake(
    studies: Sequence[Study], hearts: Mapping[str, Heart | None], row: Mapping[str, str]
) -> tuple[PolarMap | None, str]:
    """The normalized polar map of a study, of a gated one the mean of its gates; else why there is none."""
    maps = [heart.polar if heart is not None else None for heart in map(hearts.get, (s.study_id for s in studies))]
    told = row.get("why_no_uptake") or row.get("why_not") or "no long axis was found or asked for"
    if all(one is None for one in maps):
        return None, told
    polar, why = mean_map([GateFacts(polar=one) for one in maps])
    if polar is None:
        return None, why
    try:
        return normalized(polar), ""
    except CardiacError as error:
        return None, one_line(error)
