"""What is compared: the options of a study, the network, and which columns of a cohort are readers of the panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError, nearest

__all__ = [
    "NETWORK",
    "PRIMARY_METRICS",
    "Network",
    "ReaderChoice",
    "ReadingOptions",
    "StudyOptions",
    "choose_readers",
    "consensus_of",
]

NETWORK = "network"
"""What the network is called among the members of a panel, whatever its own name."""

MEAN_OF_READERS = "mean of readers"

PRIMARY_METRICS = ("dice", "iou", "nsd")
"""Scores that a panel can be judged by: between 0 and 1, more is better."""

TRUTH = "truth"


@dataclass(frozen=True)
class ReadingOptions:
    """How measurements and categories are compared, beside the outlines.

    Attributes:
        tables: Tables of readings beside ``cases.csv``.
        network_table: Table of the network's own values, whose columns are named by quantity alone.
        margins: Largest mean difference that does not matter, by quantity, in its unit.
        scales: Whole scale of a category, by quantity.
        ordered: Quantities whose scale has an order, the lowest first.
        weights: Credit of near misses on an ordered scale: ``linear`` or ``quadratic``.
        reference: Reader whose categories those of the others are held against; None compares everybody directly.
        further_readers: Readers who measured or judged and outlined nothing.
    """

    tables: tuple[Path, ...] = ()
    network_table: Path | None = None
    margins: dict[str, float] = field(default_factory=dict)
    scales: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ordered: tuple[str, ...] = ()
    weights: str = "linear"
    reference: str | None = None
    further_readers: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyOptions:
    """Options of a study; the rules that go with them stand in docs/agreement.md.

    Attributes:
        readers: The panel; None takes everyone who can be in it.
        metric: The score that the verdict is about.
        margin: Largest difference of that score that does not matter; None gives intervals and no verdict.
        margin_source: Why it is that large.
        margin_registered_at: Date or commit from before the test patients were looked at.
        alpha_one_sided: Level of each one-sided test.
        min_patients: Patients that a favorable verdict needs; not less than 30.
        tolerance_mm: Of the surface Dice; None takes it from the readers.
        failure_drop: A patient whose score with the network lies this much below the readers' own is a failure.
        failure_below: The same where the readers' own score is not known: a score below this.
        volume_margin_pct: Largest mean difference of volumes that does not matter.
        subgroups: Columns of ``cases.csv`` to look at apart; None takes those that divide the patients.
        readings: How measurements and categories are compared; None leaves them out.
        seed: Seed of the bootstrap.
        resamples: Draws of the bootstrap.
        num_workers: Processes that score; None for one per core.
        created: Date in the result; None takes that of the outlines, so that the same outlines give the same bytes.
    """

    readers: tuple[str, ...] | None = None
    metric: str = "dice"
    margin: float | None = None
    margin_source: str | None = None
    margin_registered_at: str | None = None
    alpha_one_sided: float = 0.025
    min_patients: int = 30
    tolerance_mm: float | None = None
    failure_drop: float = 0.10
    failure_below: float = 0.70
    volume_margin_pct: float = 5.0
    subgroups: tuple[str, ...] | None = None
    readings: ReadingOptions | None = None
    seed: int = 20260101
    resamples: int = 10_000
    num_workers: int | None = None
    created: str | None = None


@dataclass(frozen=True)
class Network:
    """Masks that are compared with the panel.

    Attributes:
        name: What it is called in the report.
        how: Where its masks come from, in words.
        masks: Mask file by case id.
        column: Column of the cohort that holds the masks, where they come from one.
        trained_on: Readers whose outlines it learnt, as far as that is known.
        probabilities: Probability file by case id, where there are any.
        threshold: At which probability a pixel was marked, where that is known.
        why_no_probabilities: What the report says where there are none, and what to do about it.
    """

    name: str
    how: str
    masks: dict[str, Path]
    column: str | None = None
    trained_on: tuple[str, ...] = ()
    probabilities: dict[str, Path] = field(default_factory=dict)
    threshold: float | None = None
    why_no_probabilities: str = "no probabilities were kept; train with prediction.probabilities=true"


@dataclass(frozen=True)
class ReaderChoice:
    """The panel, the second reads of its members (column to reader), and why other columns are not in it."""

    readers: tuple[str, ...]
    repeats: dict[str, str]
    left_out: tuple[tuple[str, str], ...]


def choose_readers(
    cohort: Cohort, asked: Sequence[str] | None = None, network_column: str | None = None
) -> ReaderChoice:
    """Choose the panel.

    A second read is no further reader, the known truth of a phantom is none at all, and a consensus is no reader beside
    those who made it; such columns are in the panel only when they are asked for by name, a second read never. Nobody
    is in it beside, or compared with, a column that holds the own outlines.

    Args:
        cohort: The cohort.
        asked: Readers by name; None for all.
        network_column: The column that is compared with the panel.

    Returns:
        The choice; its panel may be empty.

    Raises:
        AgreementError: A name is no reader of the cohort, or cannot be in the panel.
    """
    repeats = cohort.repeat_reads
    reasons = {reader: _reason(cohort, reader, network_column) for reader in cohort.readers}
    if asked is None:
        readers = tuple(reader for reader, reason in reasons.items() if not reason)
    else:
        problems = [
            f"{name}: {_refusal(cohort, name, network_column)}"
            for name in asked
            if name not in cohort.readers or name in repeats or name == network_column
        ]
        problems += [f"{name}: named twice" for name in sorted(set(asked)) if list(asked).count(name) > 1]
        problems += _circular(cohort, tuple(dict.fromkeys(asked)), network_column)
        if problems:
            raise AgreementError(
                f"readers=[{','.join(asked)}] cannot be the panel:\n  " + "\n  ".join(problems) + "\n"
                f"Readers of {cohort.root}: {', '.join(r for r in cohort.readers if r not in repeats) or 'none'}"
            )
        readers = tuple(asked)
    reserved = [reader for reader in readers if reader in (NETWORK, MEAN_OF_READERS)]
    if reserved:
        raise AgreementError(
            f"a reader of {cohort.root} is called {reserved[0]!r}, a name that the report needs; rename "
            "the column, or name the other readers with readers=[...]"
        )
    left_out = tuple(
        (reader, reasons[reader] or "not asked for")
        for reader in cohort.readers
        if reader not in readers and reader != network_column
    )
    return ReaderChoice(readers, {second: first for second, first in repeats.items() if first in readers}, left_out)


def consensus_of(cohort: Cohort, reader: str) -> tuple[str, ...]:
    """Readers who made a consensus column: the entry ``consensus_of`` of its reader facts, empty for a person."""
    members: Any = cohort.reader_facts.get(reader, {}).get("consensus_of", ())
    return tuple(str(member) for member in members) if isinstance(members, list | tuple) else ()


# --- Private helpers --------------------------------------------------------------------------------------------------


def _people(cohort: Cohort, column: str) -> set[str]:
    """Whose outlines a column holds."""
    members = consensus_of(cohort, column) or (column,)
    return {cohort.repeat_reads.get(member, member) for member in members}


def _circular(cohort: Cohort, asked: tuple[str, ...], network_column: str | None) -> list[str]:
    """Columns of the panel that hold outlines by somebody who is in it, or compared with it, already."""
    columns = [*([] if network_column is None else [network_column]), *asked]
    problems = []
    for place, name in enumerate(columns):
        for other in columns[:place]:
            if name != other and (shared := _people(cohort, name) & _people(cohort, other)):
                both = f"{name} and {other} both hold outlines by {', '.join(sorted(shared))}"
                problems.append(f"{name}: {both}; nobody is compared with the own outlines")
    return problems


def _reason(cohort: Cohort, reader: str, network_column: str | None) -> str:
    """Why a column is not in the panel unless asked for; empty for a reader."""
    if reader == network_column:
        return "it is what is compared with the readers"
    if reader in cohort.repeat_reads:
        return f"second read by {cohort.repeat_reads[reader]}"
    if network_column is not None and _people(cohort, reader) & _people(cohort, network_column):
        return f"the own outlines are in {network_column}, which is compared with the readers"
    if consensus_of(cohort, reader):
        return f"consensus of {', '.join(consensus_of(cohort, reader))}"
    if cohort.simulated_readers and reader == TRUTH:
        return "the known truth of the phantom is no reader"
    return ""


def _refusal(cohort: Cohort, name: str, network_column: str | None) -> str:
    if name not in cohort.readers:
        return f"nobody of that name outlined this cohort{nearest(name, cohort.readers)}"
    if name == network_column:
        return "it is what is compared with the readers"
    return f"is the second read by {cohort.repeat_reads[name]} and no further reader; it is used for repeatability"
