"""What an image is of, from its header and its descriptions: rest or stress, the plane of its slices, its corrections.

One rule holds throughout: evidence that contradicts itself, or none, gives *unknown*; nothing is guessed.

- **Rest or stress**: the coded Patient State, the drugs of an intervention and what is written about this image must
  name one acquisition, not two. What is written about the whole study counts as well when it names one; a study that
  was named "rest/stress" says nothing about its images.
- **Plane of a reconstruction**: coded views and what is written about the image must name one plane. Where nothing is
  written, slices along the axes of the body are transaxial; oblique slices without a word are of an unknown plane,
  since short-axis and long-axis slices cannot be told apart by their direction. A word wins over an orientation along
  the body axes, because many programs write that one for reoriented slices, too; a "transaxial" image that lies
  obliquely contradicts itself.
- **Attenuation correction**: Corrected Image with ATTN says yes; the descriptions may say yes or no.
- **Heart**: an image is left out when Body Part Examined or the descriptions name another part of the body and nothing
  names the heart itself. The chest does not: lungs and ribs lie there, too. Nor does a tracer, since most of those for
  the heart show other organs as well; both only do not contradict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mpi_unet.sources.dicom.scan import OWN_TEXTS, SHARED_TEXTS, Header
from mpi_unet.sources.dicom.words import PATTERNS, UNCLEAR, Table, names_in

__all__ = ["Recognized", "recognized"]

BODY_AXIS_TOLERANCE_DEG = 10.0
"""Couches tilt less; the long axis of the heart lies 30 to 60 degrees from the axes of the body."""

HEART_PARTS = frozenset({"HEART", "MYOCARDIUM", "CARDIAC", "LVENTRICLE", "LV"})
AROUND_THE_HEART = frozenset({"CHEST", "THORAX"})
"""Parts of the body that hold the heart and much else."""


@dataclass(frozen=True)
class Recognized:
    """What was found out about an image.

    Attributes:
        acquisition: ``rest``, ``stress`` or another name of the table; empty when unknown.
        domain: ``projection``, ``transaxial`` or ``short_axis``; empty when it is none of these or unknown.
        attenuation_corrected: ``yes``, ``no``, or empty when nothing says.
        is_iterative: The descriptions name an iterative reconstruction.
        reason: Why the image is left out; empty when it may become a case.
        warning: What is odd about an image that is taken; empty when nothing is.
    """

    acquisition: str
    domain: str
    attenuation_corrected: str
    is_iterative: bool
    reason: str = ""
    warning: str = ""


def recognized(header: Header, patterns: Mapping[str, Table] = PATTERNS, plane: str | None = None) -> Recognized:
    """Find out what an image is of.

    Args:
        header: Of a tomographic image.
        patterns: Tables as in `mpi_unet.sources.dicom.words.PATTERNS`; a missing one is taken from there.
        plane: What all reconstructions cut, when the user says so; what stands in the objects is then not asked.
    """
    tables = {**PATTERNS, **patterns}
    own = [header.texts.get(keyword, "") for keyword in OWN_TEXTS]
    shared = [header.texts.get(keyword, "") for keyword in SHARED_TEXTS]
    left_out = _named(own, tables["left_out"])
    maps = left_out - {"another organ"}
    if maps:
        return Recognized("", "", "", False, f"{min(maps)} by its description")
    if _is_elsewhere(header, [*own, *shared], tables):
        return Recognized("", "", "", False, "another part of the body")
    domain, reason, warning = "projection", "", ""
    if header.kind.is_volume:
        domain, reason, warning = (plane, "", "") if plane else _plane(header, own, tables["plane"])
    return Recognized(
        acquisition=_acquisition(header, own, shared, tables["acquisition"]),
        domain=domain,
        attenuation_corrected=_attenuation(header, own, tables["attenuation_corrected"]),
        is_iterative=bool(_named([*own, *shared], tables["iterative"])),
        reason=reason,
        warning=warning,
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _named(texts: list[str], table: Table) -> set[str]:
    return set().union(*(names_in(text, table) for text in texts))


def _acquisition(header: Header, own: list[str], shared: list[str], table: Table) -> str:
    names = set(header.states) | _named([*own, header.drugs], table)
    for text in shared:
        found = names_in(text, table)
        names |= found if len(found) == 1 else set()
    return names.pop() if len(names) == 1 and UNCLEAR not in names else ""


def _plane(header: Header, own: list[str], table: Table) -> tuple[str, str, str]:
    """Domain, why not, what is odd."""
    named = (set(header.views) | _named(own, table)) - {UNCLEAR}
    if len(named) > 1:
        named -= {"reoriented", "long_axis"}  # both only say less than another word that stands there
    tilt_deg = _tilt_deg(header.orientation)
    if len(named) > 1:
        return "", "its descriptions name several planes: say what the slices cut with source.plane", ""
    if not named:
        if tilt_deg is None:
            return "", "nothing says what its slices cut: say it with source.plane", ""
        if tilt_deg > BODY_AXIS_TOLERANCE_DEG:
            return "", "its slices are oblique and nothing says along which axis: say it with source.plane", ""
        return "transaxial", "", ""
    plane = named.pop()
    if plane == "transaxial":
        if tilt_deg is not None and tilt_deg > BODY_AXIS_TOLERANCE_DEG:
            return "", "called transaxial, but its slices are oblique: say what they cut with source.plane", ""
        return "transaxial", "", ""
    if plane == "short_axis":
        is_along_body = tilt_deg is not None and tilt_deg <= BODY_AXIS_TOLERANCE_DEG
        odd = "called short axis, with an orientation along the axes of the body: its place in the body is not right"
        return "short_axis", "", odd if is_along_body else ""
    if plane == "reoriented":
        return "", "reoriented, and nothing says along which axis: say what the slices cut with source.plane", ""
    return "", f"{plane.replace('_', ' ')} slices; a cohort holds transaxial or short-axis ones", ""


def _tilt_deg(orientation: tuple[float, ...]) -> float | None:
    """Angle between the slices and the transaxial plane of the body; rows and columns may be turned within it."""
    if len(orientation) != 6 or not np.isfinite(orientation).all():
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    length = float(np.linalg.norm(normal))
    if length == 0:
        return None
    return float(np.degrees(np.arccos(min(1.0, abs(float(normal[2])) / length))))


def _attenuation(header: Header, own: list[str], table: Table) -> str:
    named = _named(own, table) - {UNCLEAR}
    if any(word.upper() == "ATTN" for word in header.corrections):
        named |= {"yes"}
    return named.pop() if len(named) == 1 else ""


def _is_elsewhere(header: Header, texts: list[str], tables: Mapping[str, Table]) -> bool:
    names_heart = bool(_named(texts, tables["heart"])) or header.body_part in HEART_PARTS
    names_other = "another organ" in _named(texts, tables["left_out"])
    is_off = bool(header.body_part) and header.body_part not in AROUND_THE_HEART
    return not names_heart and (names_other or is_off)
