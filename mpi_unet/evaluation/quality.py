"""What a run knows about the quality of masks, ``quality.json``: its cases, and the limits that follow from them.

A case of training gives two things. What is *usual*: how its reader's outline lies in its image, its counts and its
noise. How networks *do*: the Dice of its out-of-fold mask, and the figures that predict it. *Together* figures need a
second network that did not learn the case: the one of a fold whose epoch the case helped to choose. Where no fold did,
they are missing; *alone* figures need the out-of-fold network only. What each of these networks says is its *view*, and
the Dice of the mask of their mean is known too, for the mean of networks is what ``predict`` gives.

Every limit is a percentile over these cases and says so; nothing is stored but the cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.errors import RunError
from mpi_unet.evaluation.outline_look import OutlineLook
from mpi_unet.evaluation.predicted_dice import DicePredictor, HeldOut, PredictedDice, fit_predictor
from mpi_unet.files import read_json, sha256, write_json

__all__ = ["Limit", "QualityCase", "QualityRecord", "View", "read_quality", "write_quality"]

SCHEMA_VERSION = "1.1.0"
"""Records of 1.0.0 knew the out-of-fold network only, and nothing of bulges and contact: these have no limit then."""

USUAL_PCT = 1.0
"""Of what readers drew, this percentile at either end is unusual: with 30 cases hardly anything inside their range."""

DOING_PCT = 5.0
"""Of what networks did out of fold, this percentile at the bad end is unusual: some of these masks were bad."""

MIN_CASES = 8
"""With fewer cases there are no limits and no predicted Dice: they would be accidents."""


@dataclass(frozen=True)
class View:
    """What a network that did not learn a case says of it; NaN is what could not be had.

    Attributes:
        expected_dice: Of its mask, cleaned as ``predict`` does it, by its own probabilities.
        agreement: Of that mask with those of the other networks that did not learn the case.
        dice: Of that mask with the reader.
    """

    expected_dice: float
    agreement: float
    dice: float


@dataclass(frozen=True)
class QualityCase:
    """One case of training; NaN is what could not be had.

    Attributes:
        case_id: The case.
        patient_id: Pseudonym.
        look: Of the reader's outline.
        total: Sum of the values of the image.
        noise: See `mpi_unet.cohort.domain`.
        views: Of the out-of-fold network, then of the others whose probabilities were kept.
        mean_dice: Of the mask of their mean probability with the reader.
        spread_pct: Of the volumes of the masks of networks that did not learn the case.
        contact_ratio: Of the out-of-fold mask, for networks draw the border of a hot neighbor otherwise than readers.
        bulge: Of that mask, likewise.
        removed_pct: Voxels that cleaning removed, in percent of those that it kept.
    """

    case_id: str
    patient_id: str
    look: OutlineLook
    total: float
    noise: float
    views: tuple[View, ...]
    mean_dice: float
    spread_pct: float
    contact_ratio: float
    bulge: float
    removed_pct: float


@dataclass(frozen=True)
class Limit:
    """Where the usual ends; None is an open end.

    Attributes:
        low: Smallest usual value.
        high: Largest usual value.
        rule: Where that comes from, in words.
    """

    low: float | None
    high: float | None
    rule: str

    def is_passed(self, value: float) -> bool:
        """Whether a value lies outside; what is not known does not."""
        return (self.low is not None and value < self.low) or (self.high is not None and value > self.high)

    def nearest(self, value: float) -> float | None:
        """The end that a value passed."""
        return self.low if self.low is not None and value < self.low else self.high


@dataclass(frozen=True)
class QualityRecord:
    """What a run knows about the quality of masks.

    Attributes:
        cases: Of training.
        why_no_dice: Why there is no out-of-fold Dice to learn from; empty when there is.
    """

    cases: tuple[QualityCase, ...]
    why_no_dice: str = ""

    @cached_property
    def key(self) -> str:
        """The same text for records that judge alike."""
        return sha256(repr(self.cases), SCHEMA_VERSION, str(USUAL_PCT), str(DOING_PCT))

    @cached_property
    def limits(self) -> dict[str, Limit]:
        """Name of each figure to its limit; those that too few cases have are missing."""
        drawn, done = "outlines of training", "out-of-fold masks"
        wanted: list[tuple[str, str, float, str, Callable[[QualityCase], float]]] = [
            ("size", "both", USUAL_PCT, drawn, lambda case: case.look.size),
            ("elongation", "both", USUAL_PCT, drawn, lambda case: case.look.elongation),
            ("reach_ratio", "high", USUAL_PCT, drawn, lambda case: case.look.reach_ratio),
            ("edge_share_pct", "high", USUAL_PCT, drawn, lambda case: case.look.edge_share_pct),
            ("contact_ratio", "high", DOING_PCT, done, lambda case: case.contact_ratio),
            ("bulge", "high", DOING_PCT, done, lambda case: case.bulge),
            ("noise", "high", USUAL_PCT, "images of training", lambda case: case.noise),
            ("total", "low", USUAL_PCT, "images of training", lambda case: case.total),
            ("agreement", "low", DOING_PCT, done, lambda case: case.views[0].agreement),
            ("spread_pct", "high", DOING_PCT, done, lambda case: case.spread_pct),
            ("removed_pct", "high", DOING_PCT, done, lambda case: case.removed_pct),
        ]
        limits = {
            name: limit
            for name, side, percent, what, of in wanted
            if (limit := _limit([of(case) for case in self.cases], side, percent, what)) is not None
        }
        used = self._together if self.uses_agreement else self._alone
        if used is not None:
            limit = _limit(list(used[0].left_out), "low", DOING_PCT, done)
            if limit is not None:
                limits["predicted_dice"] = limit
        return limits

    def predicted(self, figures: Sequence[tuple[float, float]]) -> tuple[PredictedDice | None, str]:
        """Predicted Dice of a mask, or why there is none.

        Args:
            figures: Of each network that spoke, expected Dice and agreement with the others; NaN for a single network.
        """
        if self.why_no_dice:
            return None, self.why_no_dice
        if self._alone is None:
            return None, f"fewer than {MIN_CASES} out-of-fold cases of different patients to learn it from"
        if self.uses_agreement and all(math.isfinite(both[1]) for both in figures):
            assert self._together is not None
            return self._together[0](figures), ""
        return self._alone[0]([(alone,) for alone, _ in figures]), ""

    @cached_property
    def uses_agreement(self) -> bool:
        """Whether agreement makes the prediction better, for the cases that have one."""
        if self._together is None or self._alone is None:
            return False
        (together, having), (alone, cases) = self._together, self._alone
        without = dict(zip((case.case_id for case in cases), alone.left_out, strict=True))
        apart = [abs(without[case.case_id] - case.mean_dice) for case in having]
        joined = [abs(value - case.mean_dice) for value, case in zip(together.left_out, having, strict=True)]
        return float(np.mean(joined)) <= float(np.mean(apart))

    @cached_property
    def _alone(self) -> tuple[DicePredictor, list[QualityCase]] | None:
        return _fitted(self.cases, lambda view: (view.expected_dice,))

    @cached_property
    def _together(self) -> tuple[DicePredictor, list[QualityCase]] | None:
        return _fitted(self.cases, lambda view: (view.expected_dice, view.agreement))


def write_quality(path: str | Path, record: QualityRecord) -> None:
    """Write a record as JSON, whole or not at all."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "why_no_dice": record.why_no_dice,
        "cases": [_known(asdict(case)) for case in record.cases],
        "limits": {name: asdict(limit) for name, limit in record.limits.items()},  # for the eye; made anew when read
    }
    write_json(path, content)


def read_quality(path: str | Path) -> QualityRecord:
    """Read a record.

    Raises:
        RunError: The file is no record that this version understands.
    """
    try:
        content = read_json(path)
        if str(content["schema_version"]).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise ValueError(f"schema version {content['schema_version']}")
        is_old = str(content["schema_version"]).startswith("1.0.")
        cases = [_of_one_network(case) if is_old else case for case in content["cases"]]
        return QualityRecord(tuple(_case(_numbers(case)) for case in cases), str(content["why_no_dice"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} cannot be read as what a run knows about its masks ({error}); remove it and make it anew with "
            "`python -m mpi_unet.evaluate run=<run>`"
        ) from error


# --- Private helpers --------------------------------------------------------------------------------------------------


def _limit(values: Sequence[float], side: str, percent: float, what: str) -> Limit | None:
    known = [value for value in values if math.isfinite(value)]
    if len(known) < MIN_CASES:
        return None
    low, high = (float(value) for value in np.percentile(known, (percent, 100 - percent)))
    ends = {"both": f"{percent:g} to {100 - percent:g}", "low": f"{percent:g}", "high": f"{100 - percent:g}"}[side]
    rule = f"percentile {ends} of {len(known)} {what}"
    return Limit(None if side == "high" else low, None if side == "low" else high, rule)


def _fitted(
    cases: Sequence[QualityCase], figures: Callable[[View], tuple[float, ...]]
) -> tuple[DicePredictor, list[QualityCase]] | None:
    usable, held_out = [], []
    for case in cases:
        said = tuple(map(figures, case.views))
        dices = tuple(view.dice for view in case.views)
        if all(map(math.isfinite, (*(value for one in said for value in one), *dices, case.mean_dice))):
            usable.append(case)
            held_out.append(HeldOut(case.patient_id, said, dices, case.mean_dice))
    if len({case.patient_id for case in usable}) < MIN_CASES:
        return None
    return fit_predictor(held_out), usable


def _case(values: dict[str, Any]) -> QualityCase:
    look = OutlineLook(**_numbers(values["look"]))
    views = tuple(View(**_numbers(view)) for view in values["views"])
    if not views:
        raise ValueError(f"case {values['case_id']} has no views; expected that of its out-of-fold network")
    return QualityCase(**(values | {"look": look, "views": views}))


def _of_one_network(case: dict[str, Any]) -> dict[str, Any]:
    """A case of a record of version 1.0.0 in the words of this one."""
    old = dict(case)
    view = {name: old.pop(name) for name in ("expected_dice", "agreement", "dice")}
    del old["neighbor_ratio"]  # another figure than the present ones, which nobody looked at then
    look = {name: value for name, value in old["look"].items() if name != "neighbor_ratio"}
    look |= {"contact_ratio": None, "bulge": None}
    new = {"look": look, "views": [view], "mean_dice": view["dice"], "contact_ratio": None, "bulge": None}
    return old | new


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """NaN has no word in JSON."""
    return {
        name: _known(value)
        if isinstance(value, dict)
        else [_known(one) for one in value]
        if isinstance(value, list | tuple)
        else (None if isinstance(value, float) and not math.isfinite(value) else value)
        for name, value in values.items()
    }


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {name: float("nan") if value is None else value for name, value in values.items()}
