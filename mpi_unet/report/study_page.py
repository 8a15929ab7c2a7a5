"""The page of one predicted study: what to look at first, then pictures, numbers, and how they were made.

A *flag* is something about this study that somebody should look at, in plain words. A *quantity* is a number with its
unit, or the reason why there is none. The page is one file that needs no network, names nobody beyond the ids of the
table, and is made from things that were computed before: nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpi_unet.cardiac.polar_map import PolarMap
from mpi_unet.cardiac.segments import SEGMENT_NAMES, segment_means
from mpi_unet.cardiac.volumes import TimeVolumeCurve
from mpi_unet.errors import ConfigError
from mpi_unet.report.page import render
from mpi_unet.report.study_figures import curve_drawing, cut_panel, polar_drawing, polar_words
from mpi_unet.report.study_planes import Plane, gray_limits
from mpi_unet.report.wording import number

__all__ = ["DISCLAIMER", "SEVERITIES", "Flag", "Quantity", "StudyContent", "in_order", "study_html"]

SEVERITIES = ("urgent", "attention", "notice")
"""From what must be looked at to what is good to know."""

SEVERITY_WORDS = {"urgent": "Look at this", "attention": "Check", "notice": "Note"}

DECIMALS = {"mm": 1, "points": 0, "SD": 1}
"""By unit, where one image says less than a mean over patients does."""

DISCLAIMER = (
    "For research. Not a medical device: no outline, number or map on this page has been reviewed, and none may be the "
    "basis of a diagnosis or a treatment."
)

STUDY_KEY = "mpi-unet-key"
"""Name of the meta element by which a page says what it was made from."""


@dataclass(frozen=True)
class Flag:
    """Something to look at.

    Attributes:
        code: Short name, the same for all studies.
        severity: One of ``SEVERITIES``.
        sentence: In plain words.

    Raises:
        ConfigError: There is no such severity.
    """

    code: str
    severity: str
    sentence: str

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ConfigError(
                f"flag {self.code!r} has the severity {self.severity!r}; expected {', '.join(SEVERITIES)}"
            )

    @property
    def word(self) -> str:
        """What its severity asks of the reader."""
        return SEVERITY_WORDS[self.severity]


@dataclass(frozen=True)
class Quantity:
    """A number, or why there is none.

    Attributes:
        label: What it is.
        value: None where it could not be had.
        unit: Of the value.
        why_not: Why there is none.
        is_main: Whether it stands large on top of the page.
    """

    label: str
    value: float | None
    unit: str
    why_not: str = ""
    is_main: bool = False

    @property
    def text(self) -> str:
        """The number with the decimals that its unit deserves."""
        if self.value is None:
            return "not measured"
        decimals = DECIMALS.get(self.unit)
        return number(self.value, self.unit) if decimals is None else f"{self.value:.{decimals}f}"


@dataclass(frozen=True)
class StudyContent:
    """Everything that stands on the page of a study.

    Attributes:
        study_id: As in ``predictions.csv``.
        run: Name of the run whose networks outlined it.
        outcome: One sentence: what became of the study.
        flags: What to look at.
        about: Terms and facts about the study; no identity beyond the ids of the table.
        quantities: Numbers.
        planes: Pictures; empty where there are none.
        why_no_planes: Why.
        planes_remark: How the pictures were cut, in a sentence.
        polar: Normalized uptake; None where there is none.
        why_no_polar: Why.
        segment_columns: Further columns of the table of segments: heading to 17 values.
        curve: Over the gates; None where there is none.
        why_no_curve: Why.
        method: Terms and facts about how it was made.
        is_simulated: Whether the images are those of a phantom.
        key: Of everything that the page was made from.
    """

    study_id: str
    run: str
    outcome: str
    flags: tuple[Flag, ...] = ()
    about: tuple[tuple[str, str], ...] = ()
    quantities: tuple[Quantity, ...] = ()
    planes: tuple[Plane, ...] = ()
    why_no_planes: str = ""
    planes_remark: str = ""
    polar: PolarMap | None = None
    why_no_polar: str = ""
    segment_columns: tuple[tuple[str, tuple[float | None, ...]], ...] = ()
    curve: TimeVolumeCurve | None = None
    why_no_curve: str = ""
    method: tuple[tuple[str, str], ...] = ()
    is_simulated: bool = False
    key: str = ""


def study_html(content: StudyContent, *, index: str = "") -> str:
    """The page of a study.

    Args:
        content: What stands on it.
        index: Relative address of the worklist; empty for none.

    Returns:
        One HTML file. The same content gives the same text.
    """
    polar = content.polar
    means = segment_means(polar) if polar is not None else ()
    return render(
        "study.html.jinja",
        content=content,
        index=index,
        key_name=STUDY_KEY,
        disclaimer=DISCLAIMER,
        flags=in_order(content.flags),
        cards=[one for one in content.quantities if one.is_main],
        planes=_plane_parts(content.planes),
        polar=polar_drawing(polar, f"Polar map of the uptake: {polar_words(means, polar.unit)}") if polar else "",
        polar_unit=_unit_words(polar),
        polar_missing=sum(mean is None for mean in means),
        segments=_segment_rows(means, polar, content.segment_columns),
        segment_heads=[*([_unit_words(polar)] if polar else []), *(head for head, _ in content.segment_columns)],
        curve=curve_drawing(content.curve) if content.curve is not None else None,
    )


def in_order(flags: Sequence[Flag]) -> list[Flag]:
    """Flags from what must be looked at to what is good to know; those of one severity keep their order.

    Example:
        >>> [flag.code for flag in in_order([Flag("few", "notice", "Few counts."), Flag("cut", "urgent", "Cut off.")])]
        ['cut', 'few']
    """
    return sorted(flags, key=lambda flag: SEVERITIES.index(flag.severity))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _plane_parts(planes: Sequence[Plane]) -> list[dict[str, Any]]:
    """Title, order and drawn cuts of each plane; all planes share one gray scale."""
    limits = gray_limits(planes)
    parts = []
    for plane in planes:
        drawn = []
        for place, cut in enumerate(plane.cuts):
            outlined = "with the outline" if (cut.share >= 0.5).any() else "without an outline"
            caption = cut.caption or f"{place + 1} of {len(plane.cuts)}"
            alt = f"{plane.title}, {caption}, {outlined}"
            drawn.append((cut_panel(cut, plane, limits, alt, is_first=place == 0), caption))
        parts.append({"title": plane.title, "order": plane.order, "edges": bool(plane.edges), "cuts": drawn})
    return parts


def _unit_words(polar: PolarMap | None) -> str:
    """Unit of a map as a heading.

    Example:
        >>> import numpy as np
        >>> _unit_words(PolarMap(np.ones((4, 24)), np.ones((4, 24)), "mean", "percent of percentile 90"))
        'uptake, % of percentile 90'
    """
    return "" if polar is None else f"uptake, {polar.unit.replace('percent of', '% of')}"


def _segment_rows(
    means: Sequence[float | None], polar: PolarMap | None, columns: Sequence[tuple[str, Sequence[float | None]]]
) -> list[Mapping[str, Any]]:
    """One row a segment; empty when nothing is known of any."""
    if polar is None and not columns:
        return []
    held = [*([means] if polar is not None else []), *(values for _, values in columns)]
    whole = [all(value is None or value == round(value) for value in values) for values in held]
    return [
        {
            "number": place + 1,
            "name": name,
            "values": [
                "not measured" if values[place] is None else f"{values[place]:.{0 if plain else 1}f}"
                for values, plain in zip(held, whole, strict=True)
            ],
        }
        for place, name in enumerate(SEGMENT_NAMES)
    ]
