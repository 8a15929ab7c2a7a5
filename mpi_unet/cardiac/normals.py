"""The normal database: what uptake to expect where, and how much of a ventricle lies below it.

A user builds it from own normals: patients of low likelihood of disease, imaged and processed as the patients are who
will be compared. It holds mean and standard deviation per pixel of the polar map. The *limit* of a pixel is its mean
minus ``limit_sd`` standard deviations; what lies below is *deficit*. *Extent* is its share of the ventricle, *severity*
how deep it is, *total perfusion deficit* both in one.

Women's breasts and men's diaphragms dim different walls, so a database is of one sex unless the user says otherwise.
A database of another protocol, sampling or normalization is refused: its limits would be wrong and nobody would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from mpi_unet.cardiac.polar_map import PolarMap, sampling
from mpi_unet.cardiac.segments import mean_over
from mpi_unet.errors import CardiacError, listing
from mpi_unet.files import read_json, write_json

__all__ = [
    "ABSENT_SHARE",
    "LIMIT_SD",
    "MIN_NORMALS",
    "SCHEMA_VERSION",
    "SEXES",
    "Deficit",
    "NormalDatabase",
    "NormalFacts",
    "build_normals",
    "compare",
    "load_normals",
    "reversible_pct",
    "save_normals",
]

SCHEMA_VERSION = "1.0.0"
"""Of the file; the first number changes when an older reader would misread it."""

SEXES = ("F", "M", "both")

MIN_NORMALS = 20
"""Normals that a database needs. The standard error of a standard deviation is 1 / sqrt(2 (n - 1)) of it: 16 % with 20
normals, 11 % with 40, which is what Slomka et al. 2005 had per sex."""

LIMIT_SD = 2.5
"""Standard deviations below the mean where the normal ends; 0.6 % of the normal pixels lie below it by chance."""

ABSENT_SHARE = 0.7
"""Loss, as a share of the limit, from which on a pixel scores 4: nothing that deep is perfused muscle."""

MAX_SCORE = 4.0

Polar = Float[np.ndarray, "ring angle"]


@dataclass(frozen=True)
class NormalFacts:
    """What a database holds for and what it does not.

    Attributes:
        sex: One of ``SEXES``.
        study: ``stress`` or ``rest``.
        protocol: Tracer, camera, reconstruction and filter in the user's own words, always the same ones.
        sampling: How the maps were made, as ``polar_map.sampling`` says it.
    """

    sex: str
    study: str
    protocol: str
    sampling: str


@dataclass(frozen=True)
class NormalDatabase:
    """Mean and spread of the uptake of normals, per pixel of the polar map.

    Attributes:
        facts: What it holds for.
        num_normals: Number of patients.
        mean: Mean uptake in percent; NaN where fewer than ``MIN_NORMALS`` had wall.
        sd: Standard deviation between patients (n - 1); NaN likewise.
        count: Patients who had wall there.
    """

    facts: NormalFacts
    num_normals: int
    mean: Polar
    sd: Polar
    count: Int[np.ndarray, "ring angle"]


@dataclass(frozen=True)
class Deficit:
    """A ventricle beside the normal ones.

    Attributes:
        below: Pixels below the limit.
        deviation_sd: Standard deviations above (positive) or below the mean; NaN where not compared or sd is 0.
        score: 0 at the limit or above it to 4; NaN where not compared.
        extent_pct: Area below the limit, percent of the compared area.
        severity_sd: Mean depth below the mean over the pixels below the limit, in standard deviations; None without.
        tpd_pct: Total perfusion deficit, percent of its maximum.
        segment_extent_pct: Extent per AHA segment, None where less than half of it was compared.
        segment_scores: Mean score per segment, rounded to 0 to 4; None likewise.
        compared_pct: Pixels that were compared, percent of all.
        limit_sd: Standard deviations below the mean where the limit was.
    """

    below: Bool[np.ndarray, "ring angle"]
    deviation_sd: Polar
    score: Polar
    extent_pct: float
    severity_sd: float | None
    tpd_pct: float
    segment_extent_pct: tuple[float | None, ...]
    segment_scores: tuple[int | None, ...]
    compared_pct: float
    limit_sd: float


def build_normals(maps: Sequence[PolarMap], *, sex: str, study: str, protocol: str) -> NormalDatabase:
    """Mean and standard deviation per pixel over normals.

    Args:
        maps: One normalized map per patient; a patient counts once.
        sex: One of ``SEXES``; ``both`` says that the maps are mixed on purpose.
        study: ``stress`` or ``rest``.
        protocol: Tracer, camera, reconstruction and filter, in words that every comparison has to repeat.

    Raises:
        CardiacError: Fewer than ``MIN_NORMALS`` maps, maps in counts or not made alike, an unknown sex or study, or no
            protocol. All of it is said at once.

    Source:
        Normal limits from low-likelihood patients without optimized thresholds: Slomka et al. 2005, J Nucl Cardiol
        12:66-77. doi:10.1016/j.nuclcard.2004.10.006
    """
    problems = []
    if len(maps) < MIN_NORMALS:
        problems.append(f"{len(maps)} normals, expected at least {MIN_NORMALS}; collect more of this sex and protocol")
    made = sorted({sampling(polar) for polar in maps})
    if len(made) > 1:
        problems.append(f"maps made in {len(made)} ways ({'; '.join(made)}), expected one")
    elif made and not maps[0].unit.startswith("percent of"):
        problems.append(f"maps in {maps[0].unit}, expected percent; normalize every map first")
    if sex not in SEXES:
        problems.append(f"sex is {sex!r}, expected {', '.join(SEXES)}")
    if study not in ("stress", "rest"):
        problems.append(f"study is {study!r}, expected stress or rest")
    if not protocol.strip():
        problems.append("protocol is empty, expected tracer, camera, reconstruction and filter in words")
    if problems:
        raise CardiacError(f"No normal database can be built:\n{listing(problems)}")
    values = np.stack([polar.values for polar in maps])
    count = np.isfinite(values).sum(axis=0)
    total = np.nansum(values, axis=0)
    mean = total / np.maximum(count, 1)
    sd = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
    enough = count >= MIN_NORMALS
    facts = NormalFacts(sex, study, protocol.strip(), made[0])
    return NormalDatabase(facts, len(maps), np.where(enough, mean, np.nan), np.where(enough, sd, np.nan), count)


def compare(
    polar: PolarMap, normals: NormalDatabase, *, sex: str, study: str, protocol: str, limit_sd: float = LIMIT_SD
) -> Deficit:
    """Extent, severity and total perfusion deficit of a ventricle.

    With the uptake ``u`` and the limit ``l = mean - limit_sd * sd`` of a pixel, its score is ``0`` where ``u >= l`` and
    ``4 * min(1, (l - u) / (0.7 l))`` below. ``TPD = 100 * sum(area * score) / (4 * sum(area))`` over the compared
    pixels: 0 is normal, 100 a ventricle that has lost 70 % of its limit everywhere.

    Args:
        polar: The patient's map, normalized as the normals were.
        normals: The database.
        sex: Of the patient, ``F`` or ``M``; a database of ``both`` holds for either.
        study: ``stress`` or ``rest``.
        protocol: The patient's, in the words of the database.
        limit_sd: Standard deviations below the mean where the normal ends.

    Raises:
        CardiacError: The database is of another sex, study, protocol or sampling, or shares no pixel with the map.

    Source:
        Extent and total perfusion deficit as the area-weighted integral of a score from 0 at the limit to 4: after
        Slomka et al. 2005, J Nucl Cardiol 12:66-77. doi:10.1016/j.nuclcard.2004.10.006. Theirs is a program with limits
        of its own, so figures of the two are not interchangeable.
    """
    asked = NormalFacts(sex, study, protocol.strip(), sampling(polar))
    problems = [
        f"{name}: the database has {own!r}, the patient {theirs!r}"
        for (name, own), theirs in zip(asdict(normals.facts).items(), asdict(asked).values(), strict=True)
        if own != theirs and not (name == "sex" and own == "both" and theirs in SEXES)
    ]
    if limit_sd <= 0:
        problems.append(f"limit_sd: is {limit_sd}, expected a positive number such as {LIMIT_SD}")
    if problems:
        raise CardiacError(
            f"The normal database cannot judge this study:\n{listing(problems)}\nBuild a database from normals of the "
            "same kind, or make the map as the database says"
        )
    limit = normals.mean - limit_sd * normals.sd
    known = np.isfinite(polar.values) & np.isfinite(limit) & np.isfinite(polar.area_mm2) & (limit > 0)
    if not known.any():
        raise CardiacError("Patient and normal database share no measured pixel; look at the outline of the wall")
    below = known & (polar.values < limit)
    depth = np.divide(limit - polar.values, ABSENT_SHARE * limit, out=np.zeros(limit.shape), where=below)
    score = np.where(known, MAX_SCORE * np.clip(depth, 0, 1), np.nan)
    varies = known & (normals.sd > 0)
    deviation = np.full(limit.shape, np.nan)
    deviation[varies] = (polar.values[varies] - normals.mean[varies]) / normals.sd[varies]
    area = np.where(known, polar.area_mm2, 0.0)
    deep = below & varies
    marked = np.where(known, below.astype(float), np.nan)
    segment_extent = mean_over(100 * marked, polar.area_mm2)
    return Deficit(
        below=below,
        deviation_sd=deviation,
        score=score,
        extent_pct=100 * float(area[below].sum() / area.sum()),
        severity_sd=-float(np.average(deviation[deep], weights=area[deep])) if deep.any() else None,
        tpd_pct=100 * float((area[known] * score[known]).sum() / (MAX_SCORE * area.sum())),
        segment_extent_pct=segment_extent,
        segment_scores=tuple(
            None if mean is None else int(np.floor(mean + 0.5)) for mean in mean_over(score, polar.area_mm2)
        ),
        compared_pct=100 * float(known.mean()),
        limit_sd=limit_sd,
    )


def reversible_pct(stress: Deficit, rest: Deficit) -> float:
    """Total perfusion deficit under stress minus that at rest: what recovers, as ischemic muscle does.

    Args:
        stress: The stress study beside normals under stress.
        rest: The rest study of the same patient beside normals at rest.

    Returns:
        Percentage points; negative where the rest study looks worse, which is an artifact or noise and is not hidden.

    Raises:
        CardiacError: The two were judged with different limits.

    Source:
        Ischemic deficit as the difference of the two: after Slomka et al. 2005, J Nucl Cardiol 12:66-77.
        doi:10.1016/j.nuclcard.2004.10.006
    """
    if stress.limit_sd != rest.limit_sd:
        raise CardiacError(
            f"Stress was judged at {stress.limit_sd:g} and rest at {rest.limit_sd:g} standard deviations, expected the "
            "same; compare both with one limit_sd"
        )
    return stress.tpd_pct - rest.tpd_pct


# --- The file ---


def save_normals(normals: NormalDatabase, path: str | Path) -> None:
    """Write a database as JSON; no patient is named in it and none can be told from it."""
    content = {
        "kind": "mpi_unet normal database",
        "schema_version": SCHEMA_VERSION,
        "facts": asdict(normals.facts),
        "num_normals": normals.num_normals,
        "mean": _rows(normals.mean),
        "sd": _rows(normals.sd),
        "count": normals.count.tolist(),
    }
    write_json(path, content)


def load_normals(path: str | Path) -> NormalDatabase:
    """Read a database that :func:`save_normals` wrote.

    Raises:
        CardiacError: The file cannot be read, is of another kind or version, or its arrays are not those of a database.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise CardiacError(f"{path} is no normal database: {error}; expected a file of save_normals") from error
    version = content.get("schema_version", "") if isinstance(content, dict) else ""
    if not version or content.get("kind") != "mpi_unet normal database":
        raise CardiacError(f"{path} is no normal database; expected a file of save_normals")
    if str(version).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise CardiacError(
            f"{path} has schema version {version}, expected {SCHEMA_VERSION}; build the database anew with this version"
        )
    try:
        facts = NormalFacts(**content["facts"])
        mean, sd = (np.array(content[name], dtype=np.float64) for name in ("mean", "sd"))
        count = np.array(content["count"], dtype=np.int64)
        num_normals = int(content["num_normals"])
    except (KeyError, TypeError, ValueError) as error:
        raise CardiacError(f"{path} is damaged: {error}; build the database anew") from error
    if not (mean.ndim == 2 and mean.shape == sd.shape == count.shape) or num_normals < MIN_NORMALS:
        raise CardiacError(
            f"{path} holds arrays of {mean.shape}, {sd.shape} and {count.shape} from {num_normals} normals; expected "
            f"three of (ring, angle) from at least {MIN_NORMALS}; build the database anew"
        )
    return NormalDatabase(facts, num_normals, mean, sd, count)


def _rows(values: Polar) -> list[list[float | None]]:
    return [[round(float(value), 4) if np.isfinite(value) else None for value in row] for row in values]
