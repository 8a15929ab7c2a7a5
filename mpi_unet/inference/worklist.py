"""The rows that say how far to trust each mask, and in which order to look at them.

``flags.csv`` has one row a flag, with its value and its limit; ``worklist.csv`` has one row a study that is done, what
should be looked at first at the top: studies without a mask, then by the score of `quality`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mpi_unet.inference.results import StudyResult

__all__ = ["FLAGS", "FLAG_COLUMNS", "QUALITY_COLUMNS", "WORKLIST", "WORKLIST_COLUMNS", "Worklist", "flag_rows"]

FLAGS, WORKLIST = "flags.csv", "worklist.csv"

QUALITY_COLUMNS = (
    "predicted_dice",
    "predicted_dice_low",
    "predicted_dice_high",
    "fold_agreement",
    "volume_spread_pct",
    "flags",
    "look_first",
    "look_first_reason",
)
"""Of ``predictions.csv``."""

FLAG_COLUMNS = ("study_id", "patient_id", "code", "severity", "sentence", "value", "limit", "rule")

WORKLIST_COLUMNS = ("place", "study_id", "patient_id", "acquisition", "gate", "status", *QUALITY_COLUMNS)

DONE = ("segmented", "refused", "failed")


def quality_row(result: StudyResult) -> dict[str, Any]:
    """The cells of ``QUALITY_COLUMNS``; empty for a study that nobody has come to."""
    if result.status not in DONE:
        return {}
    quality, is_segmented = result.quality, result.status == "segmented"
    return {
        "predicted_dice": _number(quality.predicted_dice),
        "predicted_dice_low": _number(quality.low),
        "predicted_dice_high": _number(quality.high),
        "fold_agreement": _number(quality.fold_agreement),
        "volume_spread_pct": _number(quality.volume_spread_pct),
        "flags": " ".join(flag.code for flag in quality.flags),
        "look_first": _number(quality.look_first),
        "look_first_reason": quality.reason if is_segmented else f"{result.status}: {result.reason}",
    }


def flag_rows(result: StudyResult) -> Iterator[dict[str, Any]]:
    """The rows of one study in ``flags.csv``."""
    if result.status == "segmented":
        for flag in result.quality.flags:
            yield {
                "study_id": result.study_id,
                "patient_id": result.patient_id,
                "code": flag.code,
                "severity": flag.severity,
                "sentence": flag.sentence,
                "value": _number(flag.value),
                "limit": _number(flag.limit),
                "rule": flag.rule,
            }


class Worklist:
    """Gathers the studies and gives them in the order in which to look at them; remembers no more than their order."""

    def __init__(self) -> None:
        self._order: list[tuple[float, str]] = []

    def add(self, result: StudyResult) -> dict[str, Any]:
        """Take up a study; gives its cells of ``QUALITY_COLUMNS``."""
        cells = quality_row(result)
        if cells:
            self._order.append((-result.quality.look_first, result.study_id))
        return cells

    def rows(self, read: Callable[[str], StudyResult]) -> Iterator[dict[str, Any]]:
        """The rows of ``worklist.csv``; equal scores by name, so that the same studies give the same list.

        Args:
            read: Gives the result of a study again.
        """
        for place, (_, study_id) in enumerate(sorted(self._order), start=1):
            result = read(study_id)
            yield {
                "place": place,
                "study_id": study_id,
                "patient_id": result.patient_id,
                "acquisition": result.acquisition,
                "gate": result.gate,
                "status": result.status,
                **quality_row(result),
            }


# --- Private helpers --------------------------------------------------------------------------------------------------


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
