"""The worklist of a prediction: every study in one table, what to look at first on top.

Rows hold words and a small picture beside the page, no images, so that a thousand of them stay below a megabyte; the
pictures are fetched by the browser as they come into view. Filtering needs no network and, without scripts, all rows
are simply there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mpi_unet.report.page import render
from mpi_unet.report.study_page import DISCLAIMER, SEVERITIES, Flag, in_order

__all__ = ["IndexRow", "index_html"]

NO_FLAG = "no flag"


@dataclass(frozen=True)
class IndexRow:
    """One study of the worklist.

    Attributes:
        study_id: As in ``predictions.csv``.
        status: ``segmented``, ``refused``, ``failed``, ``waiting`` or ``not_a_study``.
        reason: Why it is not segmented.
        flags: What to look at.
        page: Relative address of its page; empty for none.
        thumbnail: Relative address of a small picture; empty for none.
        about: Acquisition and gates, in a few words.
        numbers: The main ones with their units, for example ``EF 61 %``.
        look_first: Where somebody else ranked the studies: higher is looked at earlier, among those of equal status
            and severity.
    """

    study_id: str
    status: str
    reason: str = ""
    flags: tuple[Flag, ...] = ()
    page: str = ""
    thumbnail: str = ""
    about: str = ""
    numbers: tuple[str, ...] = ()
    look_first: float = 0.0


def index_html(rows: Sequence[IndexRow], *, run: str, is_simulated: bool = False, tables: Sequence[str] = ()) -> str:
    """The worklist as one HTML file.

    Args:
        rows: Studies, in any order.
        run: Name of the run whose networks outlined them.
        is_simulated: Whether the images are those of a phantom.
        tables: Relative addresses of the tables, to be linked.
    """
    ordered = sorted(rows, key=_rank)
    codes = Counter(code for row in rows for code in _codes(row))
    return render(
        "study_index.html.jinja",
        run=run,
        rows=[
            {
                "row": row,
                "flags": in_order(row.flags),
                "codes": " ".join(_codes(row)),
                "severity": _worst(row),
            }
            for row in ordered
        ],
        filters=sorted(codes.items(), key=lambda item: (item[0] == NO_FLAG.replace(" ", "_"), -item[1], item[0])),
        statuses=sorted(Counter(row.status for row in rows).items()),
        disclaimer=DISCLAIMER,
        is_simulated=is_simulated,
        tables=list(tables),
    )


# --- Private helpers --------------------------------------------------------------------------------------------------

STATUS_RANK = {"failed": 0, "refused": 1, "segmented": 2, "waiting": 3, "not_a_study": 4}
"""What was not segmented comes first, since nobody has a contour of it; what is no study comes last."""


def _rank(row: IndexRow) -> tuple[float, float, float, float, str]:
    worst = SEVERITIES.index(_worst(row)) if row.flags else len(SEVERITIES)
    weighty = sum(flag.severity != "notice" for flag in row.flags)
    return (STATUS_RANK.get(row.status, 0), worst, -row.look_first, -weighty, row.study_id)


def _worst(row: IndexRow) -> str:
    return in_order(row.flags)[0].severity if row.flags else ""


def _codes(row: IndexRow) -> list[str]:
    """What a row can be filtered by: its status where it is not segmented, else its flags."""
    if row.status != "segmented":
        return [row.status]
    return sorted({flag.code for flag in row.flags}) or [NO_FLAG.replace(" ", "_")]
