"""The part ``measurements`` of ``agreement.json``: every quantity that is a number, as volumes are compared.

Rows of a patient (rest and stress, segments) are averaged for what is said of patients; limits of agreement are those
of a single row. A pair is compared where both have a value, coefficients of all members where all have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from mpi_unet.agreement import sem
from mpi_unet.evaluation.policy import summarize_values
from mpi_unet.reader_study.as_json import estimate_json
from mpi_unet.reader_study.measured_parts import MIN_PATIENTS, BiasRule, average_rows, pair_json, psi_json, six_json
from mpi_unet.reader_study.options import MEAN_OF_READERS, NETWORK, StudyOptions
from mpi_unet.reader_study.outlines import ScoredOutlines
from mpi_unet.reader_study.readings import Measured

__all__ = ["measurements_part", "outlined_areas", "words_of"]

NOT_RELATIVE = ("%", "deg", "")
"""Units of quantities without a size: half of an ejection fraction of 60 % is no 30 % less of anything."""

SHORT_WORDS = ("ef", "edv", "esv", "sv", "lv", "rv", "lvef", "lhr", "phr", "sss", "srs", "sds", "psd", "bw", "tid")
"""Parts of names that are written in capitals."""

READERS = "columns of readings"
MASKS = "outlines"


def measurements_part(
    measurements: Sequence[Measured], options: StudyOptions, *, source: str = READERS
) -> list[dict[str, Any]]:
    """One entry per quantity; what cannot be compared says why."""
    return [_quantity(measured, options, source) for measured in measurements]


def outlined_areas(outlines: ScoredOutlines) -> list[Measured]:
    """The area of the outlines of projections, mean over all views, as a measurement; none of volumes."""
    cases = [case for case in outlines.cases if case.areas_mm2]
    if not cases:
        return []
    names = [*outlines.members, *outlines.choice.repeats]
    values = {name: np.array([case.areas_mm2.get(name, np.nan) for case in cases]) for name in names}
    patients = tuple(case.patient_id for case in cases)
    members = tuple(name for name in outlines.members if np.isfinite(values[name]).any())
    return [Measured("outlined_area_mm2", "mm2", patients, False, members, values, dict(outlines.choice.repeats))]


def words_of(name: str, *, has_unit: bool) -> str:
    """A quantity as a heading says it.

    Example:
        >>> words_of("ef_pct", has_unit=True), words_of("wall_thickness_mm", has_unit=True)
        ('EF', 'wall thickness')
    """
    words = name.split("_")[: -1 if has_unit else None]
    return " ".join(word.upper() if word.lower() in SHORT_WORDS else word for word in words)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _quantity(measured: Measured, options: StudyOptions, source: str) -> dict[str, Any]:
    readers = [name for name in measured.members if name != NETWORK]
    margin = None if options.readings is None else options.readings.margins.get(measured.name)
    part: dict[str, Any] = {
        "name": measured.name,
        "measurement": words_of(measured.name, has_unit=True),
        "unit": measured.unit,
        "source": source,
        "row": "segment of a case" if measured.has_parts else "case",
        "n_rows": len(measured.patients),
        "n_patients": len(set(measured.patients)),
        "margin": margin,
        "available": False,
        "why_not": "",
        "readers": {},
        "missing": [
            {"member": name, "n_rows": int(np.isnan(measured.values[name]).sum())} for name in measured.members
        ],
        "pairs": [],
        "icc": None,
        "sem": None,
        "repeatability": [],
    }
    for name in measured.members:
        patients, values = _complete(measured, [name])
        if patients:
            part["readers"][name] = summarize_values(average_rows(patients, values)[1][:, 0]).as_json()
    rule = BiasRule(margin=margin, is_relative=measured.unit not in NOT_RELATIVE)
    if NETWORK in measured.members and len(readers) > 1:
        part["pairs"] += _mean_of_readers(measured, readers, options, rule)
    for a, b in combinations(measured.members, 2):
        patients, values = _complete(measured, [a, b])
        part["pairs"] += _pair(a, b, patients, values, options, rule)
    part["repeatability"] = _repeatability(measured, options, rule)
    if not part["pairs"]:
        return part | {"why_not": _why_not(measured, readers)}
    return part | {"available": True, **_coefficients(measured, readers, options)}


def _why_not(measured: Measured, readers: Sequence[str]) -> str:
    if not measured.members:
        return "nobody gave a value"
    if len(measured.members) == 1:
        who = measured.members[0]
        return (
            f"only {who} gave values: with one {'reader' if readers else 'column'} agreement is not measured; nobody "
            "knows how far a second reading would lie away"
        )
    return f"no two members measured the same {MIN_PATIENTS} patients"


def _complete(measured: Measured, names: Sequence[str]) -> tuple[tuple[str, ...], Float[np.ndarray, "rows members"]]:
    """The rows in which all of these have a value, with their patients."""
    values = np.stack([measured.values[name] for name in names], axis=1)
    whole = ~np.isnan(values).any(axis=1)
    return tuple(np.array(measured.patients, dtype=object)[whole].tolist()), values[whole]


def _pair(
    a: str,
    b: str,
    rows: tuple[str, ...],
    values: Float[np.ndarray, "rows 2"],
    options: StudyOptions,
    rule: BiasRule,
) -> list[dict[str, Any]]:
    """The entry of one pair; none where too few patients have both."""
    patients, means = average_rows(rows, values)
    if len(patients) < MIN_PATIENTS:
        return []
    cases = (rows, values[:, 0], values[:, 1])
    return [pair_json(a, b, means[:, 0], means[:, 1], patients, options, cases, rule=rule)]


def _mean_of_readers(
    measured: Measured, readers: Sequence[str], options: StudyOptions, rule: BiasRule
) -> list[dict[str, Any]]:
    rows, values = _complete(measured, [NETWORK, *readers])
    both = np.stack([values[:, 0], values[:, 1:].mean(axis=1)], axis=1)
    return _pair(NETWORK, MEAN_OF_READERS, rows, both, options, rule)


def _coefficients(measured: Measured, readers: Sequence[str], options: StudyOptions) -> dict[str, Any]:
    """Intraclass correlations and the error of one reading, of the patients whom everybody measured."""
    level = 1 - 2 * options.alpha_one_sided
    of_readers, error, everybody = None, None, None
    if len(readers) > 1:
        patients, values = average_rows(*_complete(measured, readers))
        if len(patients) >= MIN_PATIENTS:
            of_readers = six_json(values, options)
            found = sem(values, level=level)
            error = estimate_json(found.estimate, found.n, found.interval, found.method)
    if NETWORK in measured.members:
        patients, values = average_rows(*_complete(measured, measured.members))
        everybody = six_json(values, options) if len(patients) >= MIN_PATIENTS else None
    return {"icc": {"readers": of_readers, "with_network": everybody}, "sem": error}


def _repeatability(measured: Measured, options: StudyOptions, rule: BiasRule) -> list[dict[str, Any]]:
    """Each reader against the own second reading, and how much more the network differs from that reader."""
    found = []
    for second, reader in sorted(measured.repeats.items()):
        if second not in measured.values or reader not in measured.values:
            continue
        pairs = _pair(second, reader, *_complete(measured, [second, reader]), options, rule)
        psi = None
        if pairs and NETWORK in measured.members:
            patients, means = average_rows(*_complete(measured, [reader, second, NETWORK]))
            if len(patients) >= MIN_PATIENTS:
                psi = psi_json(means[:, 0], means[:, 1], means[:, 2], options)
        found += [{"reader": reader, "repeat": second, "pair": pair, "psi": psi} for pair in pairs]
    return found
