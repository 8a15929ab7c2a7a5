"""What sets an image apart from those that a network has learnt from: in kind, and in words.

Tolerances are those within which networks were seen to go on working; beyond them nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi_unet.cohort.domain import Domain, ImageFacts
    from mpi_unet.shapes import SpacingMm

__all__ = ["DIFFERENCE_KINDS", "Difference", "differences"]

DIFFERENCE_KINDS = ("domain", "label", "geometry", "counts")
"""What an image may have otherwise than training: what it is, what outlines of its cohort mean, sizes of voxels and
frames, sum and noise of its values. Values that are not finite are none of these: no network has an answer to them."""

SPACING_TOLERANCE = 0.10
"""Voxels may be this share smaller or larger than those of training: about what augmentation by scaling covers."""

FRAME_FACTOR = 1.5
"""Sides of a frame may differ by this factor, for instance 64 and 96 pixels of one size; not by 2, which zooms."""

TOTAL_FACTOR = 5.0
"""Totals may differ by this factor: doses, times and cameras make a factor of 3; one gate of eight is beyond it."""

NOISE_FACTOR = 2.0
"""Noise may be this factor above that of training; halved noise does no harm, and is never refused."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """What sets an image apart from those of training.

    Attributes:
        kind: One of ``DIFFERENCE_KINDS``, or ``values``.
        text: In words.
    """

    kind: str
    text: str


def differences(known: Domain, facts: ImageFacts, *, domain: str, label: str, whole_volumes: bool) -> list[Difference]:
    """What sets an image apart from those of training; an empty list when nothing does.

    Args:
        known: What the network has learnt from.
        facts: Of the image.
        domain: What the image is.
        label: What outlines of its cohort mean; empty when nobody outlined it.
        whole_volumes: The network sees whole volumes, so that the number of slices counts as well.
    """
    found: list[Difference] = []

    def note(kind: str, text: str) -> None:
        found.append(Difference(kind, text))

    if domain != known.domain:
        note("domain", f"it is {_in_words(domain)}, the network learnt {_in_words(known.domain)}")
    if label and label != known.label:
        note("label", f"its outlines are {label}, the network learnt {known.label}")
    if not facts.is_finite:
        note("values", "it holds values that are not finite")
    if domain != known.domain:
        return found  # sizes and counts of another kind of image would only repeat it
    is_volume = domain != "projection"
    if known.spacing_mm and (odd := _spacing_difference(known.spacing_mm, facts.spacing_mm, with_z=is_volume)):
        note("geometry", odd)
    for name, side, (low, high) in zip(("slices", "rows", "columns"), facts.shape, known.shape, strict=True):
        if name == "slices" and not whole_volumes:
            continue
        if not low / FRAME_FACTOR <= side <= high * FRAME_FACTOR:
            span = _span(low, high)
            note("geometry", f"it has {side} {name}, training had {span} (a factor of {FRAME_FACTOR:g} is allowed)")
    if facts.is_finite:
        low, high = known.total
        is_odd = low > 0 and not low / TOTAL_FACTOR <= facts.total <= high * TOTAL_FACTOR
        if facts.total <= 0 or (is_odd and not facts.is_scaled):  # of scaled values, the noise tells the counts
            note(
                "counts",
                f"the sum of its values is {facts.total:.3g}, training had {_span(low, high)} (a factor of "
                f"{TOTAL_FACTOR:g} is allowed)",
            )
        if known.noise is not None and facts.noise is not None and facts.noise > known.noise[1] * NOISE_FACTOR:
            note(
                "counts",
                f"its noise is {100 * facts.noise:.3g} % of the bright values, training had "
                f"{_span(100 * known.noise[0], 100 * known.noise[1])} % (a factor of {NOISE_FACTOR:g} is allowed)",
            )
    return found


# --- Private helpers --------------------------------------------------------------------------------------------------


def _spacing_difference(known: tuple[Range, Range, Range], spacing: SpacingMm | None, *, with_z: bool) -> str:
    """In words; empty where there is none."""
    if spacing is None:
        return f"nobody knows the size of its voxels, training had {_mm(known, with_z)}"
    axes = range(0 if with_z else 1, 3)
    if all(
        known[axis][0] * (1 - SPACING_TOLERANCE) <= spacing[axis] <= known[axis][1] * (1 + SPACING_TOLERANCE)
        for axis in axes
    ):
        return ""
    own = " x ".join(f"{spacing[axis]:.3g}" for axis in axes)
    return f"its voxels are {own} mm, training had {_mm(known, with_z)} ({SPACING_TOLERANCE:.0%} is allowed)"


def _mm(known: tuple[Range, Range, Range], with_z: bool) -> str:
    return " x ".join(_span(*along) for along in known[0 if with_z else 1 :]) + " mm"


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def _in_words(domain: str) -> str:
    return {"projection": "a set of projections", "transaxial": "transaxial slices", "short_axis": "short-axis slices"}[
        domain
    ]
