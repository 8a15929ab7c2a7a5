"""The parts of ``agreement.json`` about measurements: volumes of network and readers, and second reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from mpi_unet.agreement import (
    bland_altman,
    bland_altman_replicates,
    icc_forms,
    individual_equivalence,
    lin_ccc,
    sem,
    tost_bias,
    tost_paired,
)
from mpi_unet.agreement.equivalence import EquivalenceTest
from mpi_unet.agreement.replicates import ReplicateLimits
from mpi_unet.evaluation.policy import summarize_values
from mpi_unet.evaluation.table import patient_values
from mpi_unet.reader_study.as_json import estimate_json, number_json, of_estimate
from mpi_unet.reader_study.options import MEAN_OF_READERS, NETWORK, StudyOptions
from mpi_unet.reader_study.outlines import ScoredOutlines

__all__ = ["BiasRule", "average_rows", "pair_json", "psi_json", "repeatability_part", "six_json", "volume_part"]


Cases = tuple[Sequence[str], Float[np.ndarray, " cases"], Float[np.ndarray, " cases"]]
"""The patient of each case and both measurements of it."""

MIN_PATIENTS = 3
"""Of two patients a line goes through both points: neither limits nor a concordance mean anything."""


@dataclass(frozen=True)
class BiasRule:
    """How a bias is judged: a margin in percent of the second reading, or in the unit; neither: it is not tested.

    ``is_relative`` says that a difference in percent of the size means something: of volumes, not of percentages.
    """

    margin_pct: float | None = None
    margin: float | None = None
    is_relative: bool = True


def volume_part(outlines: ScoredOutlines, options: StudyOptions) -> dict[str, Any]:
    """Bland-Altman of every pair of members and of the network with the mean of the readers, ICC, and the bias test."""
    part: dict[str, Any] = {
        "unit": "ml",
        "measurement": "volume",
        "available": False,
        "why_not": "",
        "readers": {},
        "pairs": [],
        "icc": None,
        "sem_ml": None,
    }
    if outlines.cohort.domain == "projection":
        return part | {"why_not": "a projection has no depth, so it has no volume"}
    if not outlines.cohort.spacing_known:
        return part | {"why_not": "the size of a pixel is not known"}
    members = outlines.members
    patients, volumes = outlines.volumes_ml(members)
    if len(patients) < MIN_PATIENTS or len(members) < 2:
        return part | {"why_not": f"fewer than {MIN_PATIENTS} patients have all outlines"}
    part |= {
        "available": True,
        "readers": {name: summarize_values(volumes[:, place]).as_json() for place, name in enumerate(members)},
    }
    readers = volumes[:, len(members) - len(outlines.readers) :]
    owners, of_cases = outlines.case_volumes_ml(members)
    if outlines.network is not None and len(outlines.readers) > 1:
        mean, mean_of_case = readers.mean(axis=1), of_cases[:, 1:].mean(axis=1)
        cases = (owners, of_cases[:, 0], mean_of_case)
        part["pairs"].append(pair_json(NETWORK, MEAN_OF_READERS, volumes[:, 0], mean, patients, options, cases))
    for (j, a), (k, b) in combinations(enumerate(members), 2):
        cases = (owners, of_cases[:, j], of_cases[:, k])
        part["pairs"].append(pair_json(a, b, volumes[:, j], volumes[:, k], patients, options, cases))
    several = len(outlines.readers) > 1
    part["icc"] = {
        "readers": six_json(readers, options) if several else None,
        "with_network": six_json(volumes, options) if outlines.network is not None else None,
    }
    if several:
        error = sem(readers, level=_level(options))
        part["sem_ml"] = estimate_json(error.estimate, error.n, error.interval, error.method)
    return part


def pair_json(
    a: str,
    b: str,
    first: Float[np.ndarray, " patients"],
    second: Float[np.ndarray, " patients"],
    patients: Sequence[str],
    options: StudyOptions,
    cases: Cases | None = None,
    *,
    rule: BiasRule | None = None,
) -> dict[str, Any]:
    """Differences a - b of one measurement: bias, limits, proportional bias, concordance, and the test of the bias.

    Where patients have several ``cases``, the limits are those of a single case: the means over the cases of a patient
    differ less, and limits of theirs would be too narrow for the next examination. ``rule`` is that of volumes unless
    another is given.
    """
    rule = rule or BiasRule(margin_pct=options.volume_margin_pct)
    level = _level(options)
    limits = bland_altman(first, second, level=level)
    concordance = lin_ccc(first, second, level=level)
    part: dict[str, Any] = {
        "a": a,
        "b": b,
        "n": limits.n,
        "bias": of_estimate(limits.bias),
        "sd": number_json(limits.sd),
        "limits": {"low": of_estimate(limits.lower), "high": of_estimate(limits.upper)},
        "bias_percent": None,
        "limits_percent": None,
        "slope": of_estimate(limits.slope),
        "slope_p": number_json(limits.slope_p),
        "tost": None,
        "why_no_percent": "",
        "ccc": estimate_json(concordance.estimate, concordance.n, concordance.interval, concordance.method),
        "points": [
            {"patient_id": patients[int(row)], "mean": float(mean), "difference": float(difference)}
            for row, mean, difference in zip(np.flatnonzero(limits.kept), limits.means, limits.differences, strict=True)
        ],
    }
    if rule.is_relative and (first > 0).all() and (second > 0).all():
        percent = bland_altman(first, second, scale="percent", level=level)
        part |= {
            "bias_percent": of_estimate(percent.bias),
            "limits_percent": {"low": of_estimate(percent.lower), "high": of_estimate(percent.upper)},
        }
        if rule.margin_pct is not None:
            test = tost_bias(first, second, margin_pct=rule.margin_pct, alpha=options.alpha_one_sided)
            part["tost"] = {"margin_pct": rule.margin_pct, **_tost(test)}
    elif rule.is_relative:
        part["why_no_percent"] = _why_no_percent((a, first), (b, second))
    if rule.margin is not None:
        test = tost_paired(first, second, margin=rule.margin, alpha=options.alpha_one_sided)
        part["tost"] = {"margin_pct": None, "margin": rule.margin, **_tost(test)}
    if cases is None or len(cases[0]) == len(set(cases[0])):
        return part
    single = bland_altman_replicates(cases[1], cases[2], cases[0], truth="varies", level=level)
    part |= {"sd": number_json(single.sd), "limits": _limits_of_a_case(single)}
    if part["limits_percent"] is not None:
        percent_of_case = np.full(len(cases[0]), np.nan)
        sizes = (cases[1] + cases[2]) / 2
        np.divide(100 * (cases[1] - cases[2]), sizes, out=percent_of_case, where=sizes > 0)
        zero = np.zeros(len(cases[0]))
        single = bland_altman_replicates(percent_of_case, zero, cases[0], truth="varies", level=level)
        part["limits_percent"] = _limits_of_a_case(single)
    return part


def average_rows(
    patients: Sequence[str], values: Float[np.ndarray, "rows members"]
) -> tuple[tuple[str, ...], Float[np.ndarray, "patients members"]]:
    """Means over the rows of each patient, the patients sorted."""
    names = tuple(sorted(set(patients)))
    owners = np.array(patients, dtype=object)
    means = [values[owners == name].mean(axis=0) for name in names]
    return names, np.array(means, dtype=float).reshape(-1, values.shape[1])


def psi_json(
    first: Float[np.ndarray, " patients"],
    second: Float[np.ndarray, " patients"],
    network: Float[np.ndarray, " patients"],
    options: StudyOptions,
) -> dict[str, Any] | None:
    """Disagreement of a reader with himself over that with the network."""
    readings = np.full((len(first), 2, 2), np.nan)
    readings[:, 0, 0], readings[:, 0, 1], readings[:, 1, 0] = first, second, network
    return of_estimate(
        individual_equivalence(
            readings, reference=0, level=_level(options), resamples=options.resamples, seed=options.seed
        ).psi_r
    )


def repeatability_part(outlines: ScoredOutlines, options: StudyOptions) -> list[dict[str, Any]]:
    """Each reader against the own second read, and how much more the network differs from that reader."""
    rows = []
    for second, reader in sorted(outlines.choice.repeats.items()):
        scores = patient_values(outlines.rows(second, reader))
        if "dice" not in scores:
            continue
        distance = scores["assd_mm"].summary() if "assd_mm" in scores else None
        rows.append(
            {
                "reader": reader,
                "repeat": second,
                "n": int(np.isfinite(scores["dice"].values).sum()),
                "dice": scores["dice"].summary().as_json(),
                "assd_mm": None if distance is None else distance.as_json(),
                "surface_mm": None if distance is None or distance.median is None else number_json(distance.median),
                "psi": _psi(outlines, reader, second, options),
                "volume": _repeated_volume(outlines, reader, second, options),
            }
        )
    return rows


# --- Private helpers --------------------------------------------------------------------------------------------------


def _why_no_percent(*sides: tuple[str, Float[np.ndarray, " patients"]]) -> str:
    """Why nothing can be said in percent, the test of the bias included: a volume of 0 has no percent."""
    zero = [f"{int((values <= 0).sum())} of {len(values)} by {name}" for name, values in sides if (values <= 0).any()]
    return f"0 in {', '.join(zero)}, of which no percentage can be taken; the bias in percent was not tested"


def _tost(test: EquivalenceTest) -> dict[str, Any]:
    return {
        "p": number_json(test.p_value),
        "interval": {
            "low": test.interval.low,
            "high": test.interval.high,
            "level": round(test.interval.level, 10),
            "method": test.interval.method,
        },
        "inside": test.equivalent,
    }


def _limits_of_a_case(found: ReplicateLimits) -> dict[str, Any]:
    words = "of single cases, patients having several"
    return {
        side: estimate_json(one.value, one.n, one.interval, f"{one.method} {words}")
        for side, one in (("low", found.lower), ("high", found.upper))
    }


def _level(options: StudyOptions) -> float:
    return 1 - 2 * options.alpha_one_sided


def six_json(volumes: Float[np.ndarray, "patients members"], options: StudyOptions) -> dict[str, Any]:
    """All forms; with the few readers of a study the usual interval of ICC(A,1) would be too narrow."""
    return {
        name: estimate_json(form.estimate, form.n, form.interval, form.method)
        for name, form in icc_forms(volumes, level=_level(options), interval="generalized", seed=options.seed).items()
    }


def _repeated_volume(
    outlines: ScoredOutlines, reader: str, second: str, options: StudyOptions
) -> dict[str, Any] | None:
    patients, volumes = outlines.volumes_ml((second, reader))
    if len(patients) < MIN_PATIENTS:
        return None
    return pair_json(second, reader, volumes[:, 0], volumes[:, 1], patients, options)


def _psi(outlines: ScoredOutlines, reader: str, second: str, options: StudyOptions) -> dict[str, Any] | None:
    """Disagreement of the reader with himself over that with the network, in volumes; None where there are none."""
    if outlines.network is None:
        return None
    patients, volumes = outlines.volumes_ml((reader, second, NETWORK))
    if len(patients) < MIN_PATIENTS:
        return None
    return psi_json(volumes[:, 0], volumes[:, 1], volumes[:, 2], options)
