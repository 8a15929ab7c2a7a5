"""What the polar map of one study says: uptake by segment, scores, and how much lies below the normal.

With a normal database of the patient's sex, study and protocol the scores are those of the database, and extent,
severity and total perfusion deficit are known. Without one the scores come from the uptake alone, which calls healthy
hearts abnormal where the body dims them (docs/cardiac.md); the table says which it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi_unet.cardiac.normals import Deficit, NormalDatabase, compare, load_normals
from mpi_unet.cardiac.polar_map import PolarMap, normalized
from mpi_unet.cardiac.segments import segment_means, summed_difference, summed_score, uptake_scores
from mpi_unet.errors import CardiacError, listing
from mpi_unet.inference.cycle import one_line

__all__ = [
    "BY_NORMALS",
    "BY_UPTAKE",
    "NORMALS_PERCENTILE",
    "Change",
    "Normals",
    "Perfusion",
    "change_of",
    "perfusion_of",
    "sex_of",
]

NORMALS_PERCENTILE = 90.0
"""Maps are normalized so for the comparison with normals: with the same limits it finds as much as the maximum does and
is moved less by noise (docs/cardiac.md)."""

BY_NORMALS, BY_UPTAKE = "normal database", "percent of maximum"

STUDIES = ("stress", "rest")


@dataclass(frozen=True)
class Normals:
    """The databases of one protocol.

    Attributes:
        databases: By sex and study.
        protocol: Of all of them.
    """

    databases: Mapping[tuple[str, str], NormalDatabase]
    protocol: str

    @classmethod
    def read(cls, paths: Sequence[str | Path], protocol: str) -> Normals:
        """Read the files that ``prepare normals=...`` wrote.

        Args:
            paths: Files, or folders of them.
            protocol: Tracer, camera, reconstruction and filter of the studies, in the words of the databases.

        Raises:
            CardiacError: A file is no database, two are for the same patients, or a protocol is another one.
        """
        files: list[Path] = []
        for path in map(Path, paths):
            files += sorted(path.glob("normals_*.json")) if path.is_dir() else [path]
        problems = [f"{path} holds no normals_*.json" for path in map(Path, paths) if path.is_dir() and not files]
        databases: dict[tuple[str, str], NormalDatabase] = {}
        for path in files:
            found = load_normals(path)
            facts = found.facts
            if facts.protocol != protocol.strip():
                problems.append(f"{path}: its protocol is {facts.protocol!r}, protocol= says {protocol.strip()!r}")
            if (facts.sex, facts.study) in databases:
                problems.append(f"{path}: a second database of sex {facts.sex}, {facts.study}")
            databases[facts.sex, facts.study] = found
        if problems:
            raise CardiacError(
                f"The normal databases cannot be used:\n{listing(problems)}\nGive one database for each sex and study, "
                "and repeat their protocol in protocol= if the studies were made by it"
            )
        return cls(databases, protocol.strip())

    def of(self, sex: str, study: str) -> NormalDatabase | None:
        """The database of a patient: of the own sex, else of both sexes."""
        return self.databases.get((sex, study)) or self.databases.get(("both", study))


@dataclass(frozen=True)
class Perfusion:
    """The uptake of one study; None is what could not be had.

    Attributes:
        segment_uptake_pct: Segments 1 to 17, percent of the hottest pixel.
        segment_scores: Segments 1 to 17, 0 (normal) to 4.
        segment_extent_pct: Segments 1 to 17, share of their area below the normal; empty without a database.
        scores_by: ``BY_NORMALS`` or ``BY_UPTAKE``.
        summed_score: Sum of the scores.
        summed_score_pct: In percent of what the scored segments could reach.
        defect_extent_pct: Area below the normal.
        defect_severity_index: Mean depth of it, in standard deviations.
        total_deficit_pct: Total perfusion deficit.
        why_not: Why there is no uptake.
        why_no_normals: Why there is no comparison with normals.
    """

    segment_uptake_pct: tuple[float | None, ...] = ()
    segment_scores: tuple[int | None, ...] = ()
    segment_extent_pct: tuple[float | None, ...] = ()
    scores_by: str = ""
    summed_score: int | None = None
    summed_score_pct: float | None = None
    defect_extent_pct: float | None = None
    defect_severity_index: float | None = None
    total_deficit_pct: float | None = None
    why_not: str = ""
    why_no_normals: str = ""


@dataclass(frozen=True)
class Change:
    """A rest study beside the stress study of one patient.

    Attributes:
        summed_difference_score: Stress minus rest; None where too few segments were scored.
        summed_difference_pct: In percent of what could be reached.
        reversible_pct: Total perfusion deficit under stress minus that at rest, as `mpi_unet.cardiac.normals` has
            it; both are judged with the same limit. None without normals.
        why_not: Why one of them is missing.
    """

    summed_difference_score: int | None = None
    summed_difference_pct: float | None = None
    reversible_pct: float | None = None
    why_not: str = ""


def sex_of(text: str) -> str:
    """Sex as databases name it; empty when it is not known.

    Example:
        >>> sex_of("female"), sex_of("M"), sex_of("O")
        ('F', 'M', '')
    """
    return {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M"}.get(text.strip().lower(), "")


def perfusion_of(polar: PolarMap, *, normals: Normals | None, sex: str, study: str) -> Perfusion:
    """Judge one map in counts.

    Args:
        polar: Of one study, or the mean over its gates.
        normals: Databases; None without any.
        sex: Of the patient, as the cohort has it.
        study: ``stress`` or ``rest``; anything else is not compared.
    """
    try:
        uptake = segment_means(normalized(polar))
    except CardiacError as error:
        return Perfusion(why_not=one_line(error), why_no_normals=one_line(error) if normals else "")
    deficit, why = _compared(polar, normals, sex_of(sex), study) if normals else (None, "")
    scores = deficit.segment_scores if deficit else uptake_scores(uptake)
    total = summed_score(scores)
    return Perfusion(
        segment_uptake_pct=uptake,
        segment_scores=scores,
        segment_extent_pct=deficit.segment_extent_pct if deficit else (),
        scores_by=BY_NORMALS if deficit else BY_UPTAKE,
        summed_score=total.total,
        summed_score_pct=total.percent,
        defect_extent_pct=deficit.extent_pct if deficit else None,
        defect_severity_index=deficit.severity_sd if deficit else None,
        total_deficit_pct=deficit.tpd_pct if deficit else None,
        why_no_normals=why,
    )


def change_of(stress: Perfusion, rest: Perfusion) -> Change:
    """What recovers from stress to rest."""
    missing = [name for name, one in (("stress", stress), ("rest", rest)) if not one.segment_scores]
    if missing:
        return Change(why_not=f"no uptake of the {' and of the '.join(missing)} study")
    if stress.scores_by != rest.scores_by:
        return Change(why_not="one study was scored by normals and the other by its uptake")
    found = summed_difference(stress.segment_scores, rest.segment_scores)
    why = "" if found.total is not None else f"segments {', '.join(map(str, found.missing))} were not scored in both"
    reversible = None
    if stress.total_deficit_pct is not None and rest.total_deficit_pct is not None:
        reversible = stress.total_deficit_pct - rest.total_deficit_pct
    return Change(found.total, found.percent, reversible, why)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _compared(polar: PolarMap, normals: Normals, sex: str, study: str) -> tuple[Deficit | None, str]:
    if study not in STUDIES:
        return None, f"the acquisition is {study or 'unknown'!r}, normals are of {' or '.join(STUDIES)}"
    database = normals.of(sex, study)
    if database is None:
        there = ", ".join(f"{one or '?'} {other}" for one, other in sorted(normals.databases)) or "none"
        return None, f"no normal database of sex {sex or 'unknown'}, {study}; there is {there}"
    theirs = sex or database.facts.sex  # only a database of both sexes is found for somebody of unknown sex
    try:
        made = normalized(polar, NORMALS_PERCENTILE)
        return compare(made, database, sex=theirs, study=study, protocol=normals.protocol), ""
    except CardiacError as error:
        return None, one_line(error)
