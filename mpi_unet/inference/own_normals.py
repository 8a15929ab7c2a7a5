"""Normal databases from the user's own normals: one for each sex and study that enough patients were found for.

The maps are those that ``predict`` left, so that normals and patients are outlined by the same network; or they are
sampled within the outlines of a reader. A patient counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mpi_unet.cardiac.normals import MIN_NORMALS, build_normals, save_normals
from mpi_unet.cardiac.polar_map import PolarMap, normalized
from mpi_unet.cohort.case import Case
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CardiacError, listing, nearest
from mpi_unet.inference.cycle import GateFacts, mean_map, one_line
from mpi_unet.inference.hearts import heart_file, read_heart
from mpi_unet.inference.measures import measure_heart
from mpi_unet.inference.perfusion import NORMALS_PERCENTILE, sex_of

__all__ = ["MadeNormals", "make_normals"]

STUDIES = ("stress", "rest")


@dataclass(frozen=True)
class MadeNormals:
    """What was made.

    Attributes:
        files: Each database, with the number of patients in it.
        left_out: Reason to the number of studies.
    """

    files: tuple[tuple[Path, int], ...]
    left_out: Mapping[str, int]


def make_normals(
    cohort: str | Path,
    output: str | Path,
    *,
    protocol: str,
    predictions: str | Path | None = None,
    reader: str | None = None,
    only: Mapping[str, str] | None = None,
    mix_sexes: bool = False,
) -> MadeNormals:
    """Build normal databases.

    Args:
        cohort: Patients of low likelihood of disease, with ``sex`` in their table and rest or stress as acquisition.
        output: Folder for ``normals_<sex>_<study>.json``.
        protocol: Tracer, camera, reconstruction and filter in own words; every comparison has to repeat them.
        predictions: What ``predict`` left for this very cohort; None for the outlines of a reader.
        reader: Whose outlines, without predictions.
        only: Column of ``cases.csv`` to the value that it must have, e.g. ``{"defect": "no"}``.
        mix_sexes: One database of both sexes.

    Raises:
        CardiacError: Keys that cannot be meant, or no group of patients is large enough.
        CohortError: The cohort cannot be opened.
    """
    opened, only = Cohort.open(cohort), dict(only or {})
    _check(opened, protocol, predictions, reader, only)
    left_out: Counter[str] = Counter()
    maps: dict[tuple[str, str], dict[str, PolarMap]] = {}
    for cases in _studies(opened, only, left_out):
        case = cases[0]
        sex = "both" if mix_sexes else sex_of(case.strata.get("sex", ""))
        if not sex or case.acquisition not in STUDIES:
            left_out["sex unknown" if not sex else "neither stress nor rest"] += 1
            continue
        try:
            polar = _map(opened, cases, predictions, reader or "")
        except CardiacError as error:
            left_out[one_line(error)] += 1
            continue
        group = maps.setdefault((sex, case.acquisition), {})
        if case.patient_id in group:
            left_out["a second study of the same patient"] += 1
        else:
            group[case.patient_id] = polar
    files = []
    for (sex, study), group in sorted(maps.items()):
        if len(group) < MIN_NORMALS:
            left_out[f"only {len(group)} of sex {sex}, {study}: {MIN_NORMALS} are needed"] += len(group)
            continue
        path = Path(output) / f"normals_{sex}_{study}.json"
        save_normals(build_normals(list(group.values()), sex=sex, study=study, protocol=protocol), path)
        files.append((path, len(group)))
    if not files:
        reasons = [f"{number} studies: {reason}" for reason, number in left_out.items()]
        raise CardiacError(
            f"No normal database can be built from {opened.root}:\n{listing(reasons)}\nCollect at least {MIN_NORMALS} "
            "normals of one sex and study, or mix the sexes on purpose with mix_sexes=true"
        )
    return MadeNormals(tuple(files), dict(left_out))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _check(
    cohort: Cohort, protocol: str, predictions: str | Path | None, reader: str | None, only: Mapping[str, str]
) -> None:
    columns = sorted({column for case in cohort.cases for column in case.strata})
    problems = [
        f"only.{column}: there is no such column in cases.csv{nearest(column, columns)}"
        for column in only
        if column not in columns
    ]
    if not protocol.strip():
        problems.append("protocol: is empty; expected tracer, camera, reconstruction and filter in words")
    if cohort.domain == "projection":
        problems.append("the cohort holds projections, which have no polar map; expected reconstructed volumes")
    if (predictions is None) == (reader is None):
        problems.append(
            "expected either predictions=<output of predict> or reader=<whose outlines>, so that it is clear who "
            "outlined the normals"
        )
    elif reader is not None and reader not in cohort.readers:
        there = ", ".join(cohort.readers) or "none"
        problems.append(f"reader: is {reader!r}, the cohort has {there}{nearest(reader, cohort.readers)}")
    elif predictions is not None and not any(heart_file(predictions, c.case_id).is_file() for c in cohort.cases):
        problems.append(
            f"predictions: {predictions} has no heart of this cohort; give the output of predict input={cohort.root} "
            "with measurements=cardiac"
        )
    if problems:
        raise CardiacError(f"Normal databases cannot be built as asked:\n{listing(problems)}")


def _studies(cohort: Cohort, only: Mapping[str, str], left_out: Counter[str]) -> list[list[Case]]:
    """Ungated cases on their own, gates of one study together in their order."""
    studies: dict[tuple[str, ...], list[Case]] = {}
    for case in cohort.cases:
        differing = [column for column, value in only.items() if case.strata.get(column, "") != value]
        if differing:
            left_out[f"{differing[0]} is not {only[differing[0]]}"] += 1
            continue
        alone = case.case_id if not case.gate.isdecimal() else ""
        own = (case.strata.get("source_uid", ""), case.strata.get("study_date", ""))
        studies.setdefault((case.patient_id, case.acquisition, *own, alone), []).append(case)
    return [sorted(cases, key=lambda case: int(case.gate or 0)) for cases in studies.values()]


def _map(cohort: Cohort, cases: list[Case], predictions: str | Path | None, reader: str) -> PolarMap:
    """The map of a study, normalized as patients' maps are."""
    if len({case.gate for case in cases}) < len(cases):
        raise CardiacError("gates are there more than once: which belong to one study?")
    polars = [_found(predictions, case) if predictions else _sampled(cohort, case, reader) for case in cases]
    polar, why_not = mean_map([GateFacts(polar=one) for one in polars])
    if polar is None:
        raise CardiacError(why_not)
    return normalized(polar, NORMALS_PERCENTILE)


def _found(predictions: str | Path, case: Case) -> PolarMap | None:
    path = heart_file(predictions, case.case_id)
    if not path.is_file():
        raise CardiacError("it has no polar map; see why_not in measurements.csv")
    return read_heart(path).polar


def _sampled(cohort: Cohort, case: Case, reader: str) -> PolarMap | None:
    volume = case.read_image()
    measures, heart = measure_heart(
        case.read_mask(reader),
        volume.array,
        volume.affine,
        volume.spacing_mm if cohort.spacing_known else None,
        domain=cohort.domain,
        label=cohort.label,
        with_surfaces=True,
        is_placed=case.strata.get("place", "") != "unknown",
    )
    if heart is None:
        raise CardiacError(measures.why_not)
    return heart.polar
