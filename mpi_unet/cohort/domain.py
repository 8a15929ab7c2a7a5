"""What images a network has learnt from, and how another image differs from them.

A network answers every image, also one that it cannot know: a projection where it learnt slices, voxels of twice the
size, a tenth of the counts. ``train`` leaves a :class:`Domain` in its run (``domain.json``): what the images are, their
geometry, their counts and noise, and how large the outlines were and where they lay. ``predict`` compares each study
with it and says what differs (`mpi_unet.cohort.differences`).

*Total* is the sum of all values. *Noise* is how much neighboring pixels of the brighter part of an image differ at
random, as a share of its bright values (99th percentile): it grows when counts fall, whatever the unit of the values.
A *range* is the least and the largest value among the training cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError
from mpi_unet.files import read_json, sha256, write_json
from mpi_unet.shapes import Image, SpacingMm

__all__ = [
    "Domain",
    "ImageFacts",
    "OutlineFacts",
    "describe",
    "image_facts",
    "outline_size",
    "pixel_digest",
    "read_domain",
    "write_domain",
]

SCHEMA_VERSION = "1.0.0"

FULL_SCALE = frozenset({255.0, 4095.0, 16383.0, 32767.0, 65535.0})
"""Largest values of pixels of 8 to 16 bits; an image whose maximum is one of them was scaled to it."""

BRIGHT_SHARE = 0.2
"""Noise is read where the image has more than this share of its bright value: elsewhere a filter may leave zeros."""

Range = tuple[float, float]


@dataclass(frozen=True)
class ImageFacts:
    """What one image is like.

    Attributes:
        shape: Frames, rows, columns.
        spacing_mm: Along (z, y, x); None when nobody knows it.
        total: Sum of all values.
        noise: See the module; None where an image has no bright part.
        is_finite: No value is NaN or infinite.
        is_scaled: Its maximum is that of its pixels, as cameras store reconstructions: the total says nothing then.
    """

    shape: tuple[int, int, int]
    spacing_mm: SpacingMm | None
    total: float
    noise: float | None
    is_finite: bool
    is_scaled: bool = False


@dataclass(frozen=True)
class OutlineFacts:
    """What the outlines of a cohort are like; of projections every frame with an outline counts on its own.

    Attributes:
        unit: Of ``size``: ``ml`` or ``mm2``; ``voxels`` or ``pixels`` where spacings are not known.
        size: Range.
        mean: Mean size.
        sd: Standard deviation of the sizes; 0 for a single one.
        n: Number of outlines.
        center: Range of the center of mass along (z, y, x), as a share of the image; of projections along (y, x).
        reach_mm: Range of the largest distance of the outline from its center; in pixels where spacings are not known.
    """

    unit: str
    size: Range
    mean: float
    sd: float
    n: int
    center: tuple[Range, ...]
    reach_mm: Range


@dataclass(frozen=True)
class Domain:
    """What a network has learnt from.

    Attributes:
        domain: ``projection``, ``transaxial`` or ``short_axis``.
        label: What its outlines mean.
        spacing_mm: Range along (z, y, x); None when nobody knows the spacing.
        shape: Range of frames, rows and columns.
        total: Range.
        noise: Range; None where no image had a bright part.
        outlines: Sizes and places.
        cameras: Those named in the cohort.
        num_cases: Cases.
        num_patients: Patients.
        pseudonym_key: Fingerprint of the key that made the pseudonyms; empty when there was none.
        cohort: Its name.
        images: Digest of the pixels of each case to its patient.
    """

    domain: str
    label: str
    spacing_mm: tuple[Range, Range, Range] | None
    shape: tuple[Range, Range, Range]
    total: Range
    noise: Range | None
    outlines: OutlineFacts
    cameras: tuple[str, ...]
    num_cases: int
    num_patients: int
    pseudonym_key: str
    cohort: str
    images: dict[str, str]


def describe(cohort: Cohort, reader: str) -> Domain:
    """Describe a cohort for the network that learns from it; one case is in memory at a time.

    Args:
        cohort: Of training.
        reader: Whose outlines are learnt.

    Raises:
        CohortError: A file cannot be read, or no outline holds a single voxel.
    """
    facts: list[ImageFacts] = []
    sizes: list[float] = []
    centers: list[tuple[float, ...]] = []
    reaches: list[float] = []
    images: dict[str, str] = {}
    per_frame = cohort.domain == "projection"
    for case in cohort.cases:
        volume = case.read_image()
        spacing = volume.spacing_mm if cohort.spacing_known else None
        facts.append(image_facts(volume.array, spacing))
        images[pixel_digest(volume.array)] = case.patient_id
        mask = case.read_mask(reader)
        for part in mask if per_frame else [mask]:
            if part.any():
                steps = (spacing or (1.0, 1.0, 1.0))[3 - part.ndim :]
                center, reach = _center_and_reach(part, steps)
                sizes.append(outline_size(part, steps, is_known=cohort.spacing_known))
                centers.append(center)
                reaches.append(reach)
    if not sizes:
        raise CohortError(f"no outline of reader {reader} in {cohort.root} holds a single voxel; choose another reader")
    noises = [one.noise for one in facts if one.noise is not None]
    spacings = [one.spacing_mm for one in facts if one.spacing_mm is not None]
    outlines = OutlineFacts(
        unit=("mm2" if per_frame else "ml") if cohort.spacing_known else ("pixels" if per_frame else "voxels"),
        size=_range(sizes),
        mean=float(np.mean(sizes)),
        sd=float(np.std(sizes, ddof=1)) if len(sizes) > 1 else 0.0,
        n=len(sizes),
        center=tuple(_range(along) for along in zip(*centers, strict=True)),
        reach_mm=_range(reaches),
    )
    return Domain(
        domain=cohort.domain,
        label=cohort.label,
        spacing_mm=_three(spacings) if spacings else None,
        shape=_three([one.shape for one in facts]),
        total=_range([one.total for one in facts]),
        noise=_range(noises) if noises else None,
        outlines=outlines,
        cameras=tuple(sorted({case.camera for case in cohort.cases} - {""})),
        num_cases=len(cohort.cases),
        num_patients=len(cohort.patients),
        pseudonym_key=str(cohort.metadata.get("pseudonym_key", "")),
        cohort=cohort.name,
        images=images,
    )


def image_facts(image: Image, spacing_mm: SpacingMm | None) -> ImageFacts:
    """What one image is like.

    Args:
        image: Intensities (z, y, x).
        spacing_mm: Along (z, y, x); None when nobody knows it.
    """
    frames, rows, columns = image.shape
    if not np.isfinite(image).all():
        return ImageFacts((frames, rows, columns), spacing_mm, 0.0, None, is_finite=False)
    return ImageFacts(
        (frames, rows, columns),
        spacing_mm,
        float(image.sum(dtype=np.float64)),
        _noise(image),
        is_finite=True,
        is_scaled=float(image.max()) in FULL_SCALE,
    )


def outline_size(mask: np.ndarray, spacing_mm: Sequence[float], *, is_known: bool = True) -> float:
    """Volume in ml of a mask (z, y, x), area in mm2 of a mask (y, x), or their voxels where nobody knows the spacing.

    Example:
        >>> outline_size(np.ones((2, 5, 10), bool), (2.0, 1.0, 1.0)), outline_size(np.ones((5, 10), bool), (2.0, 1.0))
        (0.2, 100.0)
    """
    number = float(np.count_nonzero(mask))
    if not is_known:
        return number
    return number * float(np.prod(spacing_mm)) / (1000 if mask.ndim == 3 else 1)


def pixel_digest(image: Image) -> str:
    """The same text for the same pixels, whatever file holds them."""
    return sha256(repr(image.shape), np.ascontiguousarray(image, "<f4").tobytes())[:32]


def write_domain(path: str | Path, known: Domain) -> None:
    """Write a description as JSON, whole or not at all."""
    write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(known)})


def read_domain(path: str | Path) -> Domain:
    """Read a description.

    Raises:
        CohortError: The file is no description that this version understands.
    """
    try:
        content = read_json(path)
        if content.pop("schema_version").split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise ValueError("another schema version")
        content["outlines"] = OutlineFacts(**{key: _tuples(value) for key, value in content["outlines"].items()})
        images = dict(content.pop("images"))
        read = Domain(**{key: _tuples(value) for key, value in content.items()}, images={})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(
            f"{path} cannot be read as a description of training images ({error}); remove it: it is made anew from "
            "the cohort of the run"
        ) from error
    return replace(read, images=images)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _noise(image: Image) -> float | None:
    bright = float(np.percentile(image, 99))
    if bright <= 0:
        return None
    inner = image[:, :, 1:-1]
    if inner.size == 0:
        return None
    # a second difference: slopes of the object cancel, noise of three pixels adds up to 6 times its variance
    residual = (2 * inner - image[:, :, :-2] - image[:, :, 2:])[inner > BRIGHT_SHARE * bright]
    if residual.size == 0:
        return None
    return float(np.median(np.abs(residual)) * 1.4826 / np.sqrt(6) / bright)


def _center_and_reach(mask: np.ndarray, steps_mm: Sequence[float]) -> tuple[tuple[float, ...], float]:
    index = np.argwhere(mask)
    center = index.mean(axis=0)
    reach = float(np.linalg.norm((index - center) * np.asarray(steps_mm), axis=1).max())
    return tuple(float(share) for share in (center + 0.5) / mask.shape), reach


def _range(values: Sequence[float]) -> Range:
    return float(min(values)), float(max(values))


def _three(values: Sequence[Sequence[float]]) -> tuple[Range, Range, Range]:
    z, y, x = (_range(along) for along in zip(*values, strict=True))
    return z, y, x


def _tuples(value: Any) -> Any:
    """Lists of JSON as tuples, at every depth."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
