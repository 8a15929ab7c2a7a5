"""The pages of a prediction: ``<output>/pages/<study>.html`` for each study, and the worklist ``<output>/index.html``.

The gates of one study share a page. Pages are made from what the prediction left behind - images, masks, hearts, the
rows of the tables - whenever somebody finishes, so shards and interruptions change nothing; a page that was made from
the same things is not made again. A page that cannot be made stops no other: the worklist says why it is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mpi_unet.errors import RunError
from mpi_unet.files import read_json, sha256, waiting_lock, whole_file, write_text
from mpi_unet.inference.crew import done_in_order, num_helpers
from mpi_unet.inference.cycle import one_line
from mpi_unet.inference.dicom_numbers import Rows, read_rows
from mpi_unet.inference.facts import ModelFacts
from mpi_unet.inference.measured_rows import cycle_of
from mpi_unet.inference.page_content import is_cycle, not_measured, row_of, study_content
from mpi_unet.inference.page_numbers import flags_for_page, predicted_dice, quantities
from mpi_unet.inference.results import StudyResult, blank_result, result_file
from mpi_unet.report.study_figures import middle_cut, thumbnail_png
from mpi_unet.report.study_index import IndexRow, index_html
from mpi_unet.report.study_page import STUDY_KEY, Quantity, study_html
from mpi_unet.report.study_planes import gray_limits

if TYPE_CHECKING:
    from mpi_unet.inference.inputs import Input, Study

__all__ = ["INDEX", "PAGES", "write_pages"]

PAGES, INDEX, THUMBNAILS = "pages", "index.html", "thumbnails"

VERSION = 2
"""Raised whenever the same study gives another page."""

FEWEST = 40
"""Pages for which processes pay: to start one takes about as long as to draw fifteen."""

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
        return is_cycle(self.studies)

    @property
    def name(self) -> str:
        first = self.studies[0].study_id
        return f"{first}_cycle" if self.is_cycle else first

    def ordered(self) -> list[Study]:
        return sorted(self.studies, key=lambda one: int(one.case.gate)) if self.is_cycle else self.studies


def write_pages(
    given: Input,
    output: str | Path,
    facts: ModelFacts,
    *,
    with_surfaces: bool = True,
    num_workers: int | None = None,
) -> Path:
    """Write the page of every study that is segmented, and the worklist of all.

    Args:
        given: What was asked for.
        output: Folder of the predictions, whose tables are written.
        facts: What outlined the studies.
        with_surfaces: Whether surfaces were asked for; what was not asked for raises no flag.
        num_workers: Processes that draw them; None for as many as there are cores, 0 for none.

    Returns:
        The worklist.
    """
    output = Path(output)
    is_simulated = given.cohort is not None and given.cohort.simulated_readers
    rows: list[IndexRow] = []
    with waiting_lock(output / PAGES / ".lock"):
        pages = _pages(given, output, facts, with_surfaces=with_surfaces, is_simulated=is_simulated)
        rows += done_in_order(_written, pages, num_helpers(num_workers, len(given), FEWEST))
        rows += [IndexRow(one.name, one.status, one.reason) for one in given.others if one.is_missed]
        there = [name for name in TABLES if (output / name).is_file()]
        write_text(output / INDEX, index_html(rows, run=facts.name, is_simulated=is_simulated, tables=there))
    return output / INDEX


# --- Private helpers --------------------------------------------------------------------------------------------------


def _groups(given: Input) -> Iterator[_Group]:
    """Studies that share a page, in the order of the first of them."""
    groups: dict[tuple[str, ...], _Group] = {}
    for study in given.studies():
        key = cycle_of(study) if study.case.gate.isdecimal() else ("", study.study_id)
        groups.setdefault(key, _Group()).studies.append(study)
    yield from groups.values()


def _pages(
    given: Input, output: Path, facts: ModelFacts, *, with_surfaces: bool, is_simulated: bool
) -> Iterator[_Page]:
    """Every page, with the rows that it needs and no others."""
    groups = _groups(given)
    while some := list(islice(groups, AT_ONCE)):
        table = read_rows(output, [study.study_id for group in some for study in group.studies])
        for group in some:
            rows = table.of([study.study_id for study in group.studies])
            yield _Page(group, output, facts, rows, with_surfaces, is_simulated)


def _written(page: _Page) -> IndexRow:
    return page.written()


@dataclass(frozen=True)
class _Page:
    """One page in the making."""

    group: _Group
    output: Path
    facts: ModelFacts
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
        row = row_of(studies, self.table)
        numbers = quantities(row, is_cycle=group.is_cycle, domain=first.domain)
        look_first = max(result.quality.look_first for result in results)
        flags = flags_for_page(results, not_measured(studies, self.table, self.facts, with_surfaces=self.with_surfaces))
        decided = (*(result.key for result in results), repr(row), repr(flags), repr(predicted_dice(results)))
        key = sha256(str(VERSION), self.facts.name, self.facts.key, *decided)
        reason = "" if bad.status == "segmented" else f"{bad.study_id}: {bad.status}, {bad.reason}"
        if _key_of(page) != key or not picture.is_file():
            try:
                content = study_content(
                    studies,
                    results,
                    self.table,
                    output,
                    self.facts,
                    with_surfaces=self.with_surfaces,
                    is_simulated=self.is_simulated,
                    key=key,
                )
                thumbnail = middle_cut(content.planes)
                if thumbnail is not None:
                    with whole_file(picture) as temporary:
                        temporary.write_bytes(thumbnail_png(thumbnail, gray_limits(content.planes)))
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


def _result(output: Path, study: Study) -> StudyResult:
    try:
        return StudyResult.from_json(read_json(result_file(output, study.study_id)))
    except FileNotFoundError:
        return replace(blank_result(study), status="waiting", reason="not reached yet")


def _key_of(page: Path) -> str:
    """What a page says that it was made from; empty when there is none."""
    try:
        with page.open(encoding="utf-8") as file:
            head = file.read(2000)
    except (OSError, UnicodeDecodeError):
        return ""
    _, found, rest = head.partition(f'<meta name="{STUDY_KEY}" content="')
    return rest.partition('"')[0] if found else ""


def _gates(number: int, group: _Group) -> str:
    return f"{number} gates" if group.is_cycle else ""


def _short(numbers: Sequence[Quantity]) -> tuple[str, ...]:
    """Main numbers for one line of the worklist."""
    return tuple(f"{one.label} {one.text} {one.unit}" for one in numbers if one.is_main and one.value is not None)
