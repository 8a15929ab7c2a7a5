"""What readers measured and judged, gathered for one study: from ``cases.csv`` and from tables beside it.

A *row* is one case or, where a quantity has parts, one part of a case. Everything that is wrong with names and cells is
said in one message, before any mask is read; a column that cannot take part is left out and said with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.readings import UNITS, ReadingName, ReadingTable, read_reading_table, reading_name
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError, CohortError, listing, nearest
from mpi_unet.reader_study.options import NETWORK, Network, ReaderChoice, ReadingOptions
from mpi_unet.reader_study.reading_cells import Column, category_of, numbers_of, scale_of, texts_of

__all__ = ["Categorized", "Measured", "Readings", "gather_readings"]


@dataclass(frozen=True, eq=False)
class Measured:
    """One measurement: by member a value of each row, NaN where there is none.

    ``repeats`` has the second reads of members (column to reader), whose values are in ``values``, too.
    """

    name: str
    unit: str
    patients: tuple[str, ...]
    has_parts: bool
    members: tuple[str, ...]
    values: dict[str, Float[np.ndarray, " rows"]]
    repeats: dict[str, str]


@dataclass(frozen=True, eq=False)
class Categorized:
    """One category: by member a text of each row, empty where there is none; ``scale`` as given or as found."""

    name: str
    patients: tuple[str, ...]
    has_parts: bool
    members: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    repeats: dict[str, str]
    scale: tuple[str, ...]
    is_given: bool
    is_ordered: bool


@dataclass(frozen=True)
class Readings:
    """All readings of a study; ``left_out`` names columns that take no part, with the reason."""

    measurements: tuple[Measured, ...]
    categories: tuple[Categorized, ...]
    left_out: tuple[tuple[str, str], ...]


def gather_readings(
    cohort: Cohort, cases: Sequence[Case], choice: ReaderChoice, network: Network | None, options: ReadingOptions
) -> Readings:
    """Gather and check all readings of a study.

    Args:
        cohort: The cohort.
        cases: The cases of the study.
        choice: The panel and its second reads.
        network: What is compared with the panel; None for readers only.
        options: Tables, scales and margins.

    Raises:
        AgreementError: Names, cells or options that are wrong, all of them in one message.
    """
    problems: list[str] = []
    columns = _columns(cohort, cases, options, problems)
    members, left_out = _members(columns, cohort, choice, network, options, problems)
    quantities: dict[str, dict[ReadingName, Column]] = {}
    for name, column in columns.items():
        if name in members:
            quantities.setdefault(name.quantity, {})[name] = column
    _check_names(quantities, options, [*choice.readers, *options.further_readers], problems)
    measurements, categories = [], []
    for quantity, held in quantities.items():
        repeats = {second: first for second, first in choice.repeats.items() if second in map(members.get, held)}
        order = [NETWORK, *choice.readers, *options.further_readers]
        texts, patients = texts_of(held, members, cases)
        there = tuple(name for name in order if name in texts)
        parts = any(name.part for name in held)
        if next(iter(held)).unit is not None:
            commas = {members[name] for name, column in held.items() if column.decimal_comma}
            values = {member: numbers_of(quantity, member, cells, commas, problems) for member, cells in texts.items()}
            unit = next(iter(held)).unit or ""
            measurements.append(Measured(quantity, unit, patients, parts, there, values, repeats))
            continue
        words = {member: tuple(category_of(text) for text, _ in cells) for member, cells in texts.items()}
        scale = options.scales.get(quantity)
        found = scale_of(quantity, words, scale, problems)
        categories.append(
            Categorized(
                quantity,
                patients,
                parts,
                there,
                words,
                repeats,
                found,
                scale is not None,
                quantity in options.ordered and len(found) > 2,
            )
        )
    if problems:
        raise AgreementError(
            f"{len(problems)} things are wrong with the readings of {cohort.root}:\n{listing(problems)}\n"
            "Correct them; a column of readings is <quantity>__<reader>, e.g. ef_pct__A, with a unit at the end of the "
            f"quantity for numbers ({', '.join(UNITS)}) and without one for categories (docs/cohort.md)"
        )
    return Readings(tuple(measurements), tuple(categories), tuple(left_out))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _columns(
    cohort: Cohort, cases: Sequence[Case], options: ReadingOptions, problems: list[str]
) -> dict[ReadingName, Column]:
    """Every column of readings, from all tables."""
    found: dict[ReadingName, Column] = {}

    def add(text: str, where: str, cells: Mapping[str, str], comma: bool) -> None:
        name = reading_name(text)
        if name is None:
            problems.append(f"{where}: column {text!r} is no name of readings, expected e.g. ef_pct__A")
        elif name in found:
            problems.append(f"{where}: column {text!r} stands in {found[name].where}, too; keep one of them")
        else:
            found[name] = Column(where, cells, comma)

    for text in cases[0].readings if cases else ():
        add(text, "cases.csv", {case.case_id: case.readings.get(text, "") for case in cases}, False)
    all_ids = [case.case_id for case in Cohort.open(cohort.root).cases]
    for path in [*options.tables, *([options.network_table] if options.network_table else [])]:
        where, is_network = path.name, path == options.network_table
        try:
            table = read_reading_table(path, is_network=is_network)
        except CohortError as error:
            problems.append(str(error))
            continue
        problems += _row_problems(table, where, is_network, [case.case_id for case in cases], all_ids)
        wanted = {_without_reader(name) for name in found}
        taken = [text for text in table.columns if (text in wanted if is_network else "__" in text)]
        if not taken:
            expected = f"one of {', '.join(sorted(wanted)) or 'none'}" if is_network else "names such as ef_pct__A"
            problems.append(f"{where}: no column of readings among {', '.join(table.columns)}; expected {expected}")
        for text in taken:
            cells = {case_id: row[text] for case_id, row in table.cells.items()}
            add(f"{text}__{NETWORK}" if is_network else text, where, cells, table.decimal_comma)
    return found


def _row_problems(
    table: ReadingTable, where: str, is_network: bool, wanted: Sequence[str], all_ids: Sequence[str]
) -> list[str]:
    """Rows of no case, and cases without a row; a network has none for what it did not segment, and may know more."""
    if is_network:
        known = any(name in table.cells for name in wanted)
        return [] if known else [f"{where}: no row belongs to a case of the study, such as {wanted[0]}"]
    unknown = [name for name in table.cells if name not in all_ids]
    absent = [name for name in wanted if name not in table.cells]
    return [f"{where}: {name} is no case of the cohort{nearest(name, all_ids)}" for name in unknown] + [
        f"{where}: case {name} has no row; add it, with empty cells where nobody read" for name in absent
    ]


def _without_reader(name: ReadingName) -> str:
    return name.quantity + (f"_seg{int(name.part):02d}" if name.part else "")


def _members(
    columns: Iterable[ReadingName],
    cohort: Cohort,
    choice: ReaderChoice,
    network: Network | None,
    options: ReadingOptions,
    problems: list[str],
) -> tuple[dict[ReadingName, str], list[tuple[str, str]]]:
    """Whose values each column holds, and which columns take no part."""
    reasons = dict(choice.left_out)
    panel = {*choice.readers, *choice.repeats, *options.further_readers}
    outlined = [name for name in options.further_readers if name in cohort.readers]
    problems += [f"further_readers: {name} outlined this cohort; take the name out" for name in outlined]
    members: dict[ReadingName, str] = {}
    left_out: dict[str, str] = {}
    for name in columns:
        reader = name.reader
        if reader == NETWORK or (network is not None and reader == network.column):
            if network is None:
                left_out[f"{name.quantity}__{reader}"] = "no network is compared"
                continue
            member = NETWORK
        elif reader in panel:
            member = reader
        elif reader in cohort.readers:
            left_out[f"{name.quantity}__{reader}"] = reasons.get(reader, "not among the readers that were asked for")
            continue
        else:
            known = [*cohort.readers, *options.further_readers, NETWORK]
            problems.append(
                f"column {_without_reader(name)}__{reader}: {reader!r} is no reader of the cohort"
                f"{nearest(reader, known)}; somebody who outlined nothing is named with further_readers=[{reader}]"
            )
            continue
        if member == NETWORK and any(
            other.quantity == name.quantity and other.part == name.part and member == of
            for other, of in members.items()
        ):
            problems.append(f"column {_without_reader(name)}: two columns hold values of the network; keep one")
        members[name] = member
    return members, list(left_out.items())


def _check_names(
    quantities: Mapping[str, Mapping[ReadingName, Column]],
    options: ReadingOptions,
    readers: Sequence[str],
    problems: list[str],
) -> None:
    """Quantities that differ in the case of letters only, whole beside parts, and options about nothing."""
    by_lower: dict[str, str] = {}
    for quantity, held in quantities.items():
        other = by_lower.setdefault(quantity.lower(), quantity)
        if other != quantity:
            problems.append(f"{other} and {quantity} differ in the case of letters only; write one of them")
        if len({bool(name.part) for name in held}) > 1:
            problems.append(f"{quantity} is given for the whole and for parts (_seg01 ...); rename one of them")
    for key, named, unit in (
        ("measurement_margins", options.margins, True),
        ("categories", options.scales, False),
    ):
        fitting = [name for name, held in quantities.items() if (next(iter(held)).unit is not None) == unit]
        problems += [
            f"{key} names {name}, expected one of {', '.join(fitting) or 'none'}{nearest(name, fitting)}"
            for name in named
            if name not in fitting
        ]
    if options.reference is not None and options.reference not in readers:
        problems.append(
            f"category_reference is {options.reference}, expected one of {', '.join(readers)}"
            f"{nearest(options.reference, readers)}"
        )
