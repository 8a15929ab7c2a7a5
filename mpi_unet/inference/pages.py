"""The pages of a prediction: ``<output>/pages/<study>.html`` for each study, and the worklist ``<output>/index.html``.

The gates of one study share a page. Pages are made from what the prediction left behind - images, masks, hearts, the
rows of the tables - whenever somebody finishes, so shards and interruptions change nothing; a page that was made from
the same things is not made again. A page that cannot be made stops no other: the worklist says why it is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mpi_unet.cardiac.polar_map import PolarMap, normalized
from mpi_unet.cardiac.volumes import TimeVolumeCurve, time_volume_curve
from mpi_unet.cohort.nifti import read_mask
from mpi_unet.errors import CardiacError, RunError
from mpi_unet.files import read_json, sha256, waiting_lock, whole_file, write_text
from mpi_unet.inference.cycle import GateFacts, mean_map, one_line
from mpi_unet.inference.dicom_numbers import WHOLE_CYCLE, Rows, read_rows
from mpi_unet.inference.hearts import Heart, heart_file, read_heart
from mpi_unet.inference.measured_rows import cycle_of
from mpi_unet.inference.page_numbers import flags_for_page, outcome, predicted_dice, quantities, segment_columns
from mpi_unet.inference.results import StudyResult, blank_result, mask_file, result_file
from mpi_unet.report.study_figures import middle_cut, thumbnail_png
from mpi_unet.report.study_index import IndexRow, index_html
from mpi_unet.report.study_page import STUDY_KEY, Quantity, StudyContent, study_html
from mpi_unet.report.study_planes import Plane, gray_limits, heart_planes, projection_planes, volume_planes

if TYPE_CHECKING:
    from mpi_unet.inference.inputs import Input, Study
    from mpi_unet.inference.model import TrainedModel

__all__ = ["INDEX", "PAGES", "write_pages"]

PAGES, INDEX, THUMBNAILS = "pages", "index.html", "thumbnails"

VERSION = 1
"""Raised whenever the same study gives another page."""

AT_ONCE = 200
"""Studies whose rows of the tables are in memory at the same time."""

TABLES = tuple(
    f"{name}.csv"
    for name in ("predictions", "worklist", "flags", "measurements", "segments", "curves", "differences", "dicom")
)
"""Linked where they are there."""


@dataclass
class _Group:
    """The images of one page: one, or the gates of a gated study in the order of the cycle."""

    studies: list[Study] = field(default_factory=list)

    @property
    def is_cycle(self) -> bool:
        return self.studies[0].case.gate.isdecimal()

    @property
    def name(self) -> str:
        first = self.studies[0].study_id
        return f"{first}_cycle" if self.is_cycle else first

    def ordered(self) -> list[Study]:
        return sorted(self.studies, key=lambda one: int(one.case.gate)) if self.is_cycle else self.studies


def write_pages(given: Input, output: str | Path, model: TrainedModel, *, with_surfaces: bool = True) -> Path:
    """Write the page of every study that is segmented, and the worklist of all.

    Args:
        given: What was asked for.
        output: Folder of the predictions, whose tables are written.
        model: What outlined the studies.
        with_surfaces: Whether surfaces were asked for; what was not asked for raises no flag.

    Returns:
        The worklist.
    """
    output = Path(output)
    is_simulated = given.cohort is not None and given.cohort.simulated_readers
    rows: list[IndexRow] = []
    with waiting_lock(output / PAGES / ".lock"):
        groups = _groups(given)
        while some := list(islice(groups, AT_ONCE)):
            table = read_rows(output, [study.study_id for group in some for study in group.studies])
            rows += [_Page(group, output, model, table, with_surfaces, is_simulated).written() for group in some]
        rows += [IndexRow(one.name, one.status, one.reason) for one in given.others if one.is_missed]
        there = [name for name in TABLES if (output / name).is_file()]
        write_text(output / INDEX, index_html(rows, run=model.name, is_simulated=is_simulated, tables=there))
    return output / INDEX


# --- Private helpers --------------------------------------------------------------------------------------------------


def _groups(given: Input) -> Iterator[_Group]:
    """Studies that share a page, in the order of the first of them."""
    groups: dict[tuple[str, ...], _Group] = {}
    for study in given.studies():
        key = cycle_of(study) if study.case.gate.isdecimal() else ("", study.study_id)
        groups.setdefault(key, _Group()).studies.append(study)
    yield from groups.values()


@dataclass(frozen=True)
class _Page:
    """One page in the making."""

    group: _Group
    output: Path
    model: TrainedModel
    table: Rows
    with_surfaces: bool
    is_simulated: bool

    def written(self) -> IndexRow:
        """Write the page where it is not there yet; the row of the worklist."""
        group, output = self.group, self.output
        studies = group.ordered()
        results = [_result(output, study) for study in studies]
        first = studies[0]
        about = " ".join(part for part in (first.case.acquisition, _gates(len(studies), group)) if part)
        bad = next((result for result in results if result.status != "segmented"), results[0])
        page, picture = output / PAGES / f"{group.name}.html", output / PAGES / THUMBNAILS / f"{group.name}.png"
        if not any(result.status == "segmented" for result in results):
            for path in (page, picture):
                path.unlink(missing_ok=True)  # of an earlier time
            return IndexRow(first.study_id, bad.status, bad.reason, about=about)
        row = self.table.measurements.get((group.studies[0].study_id, WHOLE_CYCLE if group.is_cycle else ""), {})
        numbers = quantities(row, is_cycle=group.is_cycle, domain=first.domain)
        look_first = max(result.quality.look_first for result in results)
        flags = flags_for_page(results, self._problems(studies))
        decided = (*(result.key for result in results), repr(row), repr(flags), repr(predicted_dice(results)))
        key = sha256(str(VERSION), self.model.name, self.model.key, *decided)
        reason = "" if bad.status == "segmented" else f"{bad.study_id}: {bad.status}, {bad.reason}"
        if _key_of(page) != key or not picture.is_file():
            try:
                content, planes = self._content(studies, results, key)
                thumbnail = middle_cut(planes)
                if thumbnail is not None:
                    with whole_file(picture) as temporary:
                        temporary.write_bytes(thumbnail_png(thumbnail, gray_limits(planes)))
                write_text(page, study_html(content, index=f"../{INDEX}"))
            except RunError:
                raise
            except Exception as error:
                page.unlink(missing_ok=True)
                return IndexRow(
                    first.study_id,
                    "segmented",
                    f"its page could not be drawn: {one_line(error)}",
                    flags,
                    about=about,
                    numbers=_short(numbers),
                    look_first=look_first,
                )
        return IndexRow(
            first.study_id,
            "segmented",
            reason,
            flags,
            f"{PAGES}/{page.name}",
            f"{PAGES}/{THUMBNAILS}/{picture.name}" if picture.is_file() else "",
            about,
            _short(numbers),
            look_first,
        )

    def _problems(self, studies: Sequence[Study]) -> list[str]:
        """Why measurements that this kind of outline allows are missing."""
        first = studies[0]
        if not self.with_surfaces or first.domain == "projection" or self.model.domain.label != "lv_wall":
            return []
        found = [self.table.measurements.get((study.study_id, ""), {}).get("why_not", "") for study in studies]
        return [why for why in dict.fromkeys(found) if why and why != "nothing was outlined"]

    def _content(
        self, studies: Sequence[Study], results: Sequence[StudyResult], key: str
    ) -> tuple[StudyContent, tuple[Plane, ...]]:
        group, first = self.group, studies[0]
        row = self.table.measurements.get((group.studies[0].study_id, WHOLE_CYCLE if group.is_cycle else ""), {})
        done = [study for study, result in zip(studies, results, strict=True) if result.status == "segmented"]
        hearts = {study.study_id: _heart(self.output, study.study_id) for study in done}
        curve, why_no_curve = self._curve(studies)
        polar, why_no_polar = _uptake(studies, hearts, row)
        planes, remark = _planes(self.output, _pictured(done, row), hearts)
        case = first.case
        about = [
            ("Study", first.study_id if not group.is_cycle else f"{first.study_id} and the other gates of its cycle"),
            ("Patient", case.patient_id),
            ("Acquisition", case.acquisition or "unknown"),
            ("Gates", str(len(studies)) if group.is_cycle else "none: one image of the whole cycle"),
        ]
        learnt = self.model.domain
        method = [
            ("Network", f"run {self.model.name}, threshold {self.model.threshold:g}"),
            ("Learnt from", f"{learnt.num_cases} cases of {learnt.num_patients} patients ({learnt.cohort})"),
            ("The outline is", learnt.label),
            ("Images", first.domain.replace("_", " ")),
        ]
        if row.get("scores_by"):
            method.append(("Scores by", row["scores_by"]))
        content = StudyContent(
            study_id=f"{first.study_id}, whole cycle" if group.is_cycle else first.study_id,
            run=self.model.name,
            outcome=outcome(results),
            flags=flags_for_page(results, self._problems(studies)),
            about=tuple(about),
            quantities=(*quantities(row, is_cycle=group.is_cycle, domain=first.domain), predicted_dice(results)),
            planes=planes,
            planes_remark=remark,
            polar=polar,
            why_no_polar=why_no_polar,
            segment_columns=segment_columns(row),
            curve=curve,
            why_no_curve=why_no_curve,
            method=tuple(method),
            is_simulated=self.is_simulated,
            key=key,
        )
        return content, planes

    def _curve(self, studies: Sequence[Study]) -> tuple[TimeVolumeCurve | None, str]:
        """Time-volume curve from the table, and why there is none or no ejection fraction."""
        if not self.group.is_cycle:
            return None, "the image is not gated"
        cycle = self.table.measurements.get((self.group.studies[0].study_id, WHOLE_CYCLE), {})
        cells = [self.table.measurements.get((study.study_id, ""), {}).get("cavity_ml", "") for study in studies]
        if not all(cells):
            return None, cycle.get("why_not") or "not every gate has a cavity that could be measured"
        try:
            curve = time_volume_curve([float(cell) for cell in cells])
        except CardiacError as error:
            return None, one_line(error)
        return curve, cycle.get("why_not") or curve.why_not


def _result(output: Path, study: Study) -> StudyResult:
    try:
        return StudyResult.from_json(read_json(result_file(output, study.study_id)))
    except FileNotFoundError:
        return replace(blank_result(study), status="waiting", reason="not reached yet")


def _heart(output: Path, study_id: str) -> Heart | None:
    try:
        return read_heart(heart_file(output, study_id))
    except CardiacError:
        return None


def _key_of(page: Path) -> str:
    """What a page says that it was made from; empty when there is none."""
    try:
        with page.open(encoding="utf-8") as file:
            head = file.read(2000)
    except (OSError, UnicodeDecodeError):
        return ""
    _, found, rest = head.partition(f'<meta name="{STUDY_KEY}" content="')
    return rest.partition('"')[0] if found else ""


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


def _gates(number: int, group: _Group) -> str:
    return f"{number} gates" if group.is_cycle else ""


def _short(numbers: Sequence[Quantity]) -> tuple[str, ...]:
    """Main numbers for one line of the worklist."""
    return tuple(f"{one.label} {one.text} {one.unit}" for one in numbers if one.is_main and one.value is not None)
