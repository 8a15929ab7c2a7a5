"""Which of many images become cases: duplicates once, one reconstruction of an acquisition, one domain.

Every step turns candidates into fewer candidates and says of each other one why it was left. The order of the files
never matters beyond ties, which the relative names decide.

Of several images of one acquisition one is taken, because a patient that stands in a cohort four times with the same
heartbeats weighs four times. The first by this order is taken, unless the user's patterns say otherwise:

1. what an earlier preparation with the same arguments has taken, so that outlines stay those of their image;
2. ungated before gated when gates are summed, gated before ungated when they are asked for one by one;
3. without attenuation correction before with it, because every camera can do without;
4. reconstructions: iterative before filtered backprojection; projections: as acquired before processed;
5. the smaller series number, then the name of the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mpi_unet.errors import CohortError, listing
from mpi_unet.sources.dicom.images import PixelFacts, gates_of
from mpi_unet.sources.dicom.recognition import Recognized
from mpi_unet.sources.dicom.scan import Header, ScannedFile
from mpi_unet.sources.dicom.words import names_in

__all__ = [
    "NOTHING_ELSE",
    "ONE_PER",
    "OTHER_DOMAIN",
    "SAME_IDENTIFIER",
    "Candidate",
    "Decision",
    "chosen_images",
    "clashing_identifiers",
    "refuse_clashes",
]

ONE_PER = ("acquisition", "time", "image")
"""One case for each patient, study and rest or stress; for each time of acquisition as well; or for every image."""


Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


OTHER_DOMAIN = "; the cohort holds "
"""Stands in the reason of an image whose domain is not the one that was chosen."""

SAME_IDENTIFIER = "another file has its SOPInstanceUID and holds other pixels"
"""Reason of an image that may not be what it says."""

NOTHING_ELSE = ", and there are none of this acquisition"
"""Ends the reason of an image of another domain whose acquisition of that patient gives no case at all; one that nobody
can name as rest or stress may be any."""


@dataclass(frozen=True)
class Candidate:
    """An image that may become a case.

    Attributes:
        file: Where it lies.
        header: What its header says.
        seen: What was recognized.
        whose: What the pseudonym stands for: the PatientID, or what takes its place.
        issuer: Who issued it, where that counts.
        patient: Pseudonym of the patient.
        source_uid: Keyed identifier of the object.
        pixels: What its pixels are like.
    """

    file: ScannedFile
    header: Header
    seen: Recognized
    whose: str
    issuer: str
    patient: str
    source_uid: str
    pixels: PixelFacts


@dataclass(frozen=True)
class Decision:
    """What became of one file.

    Attributes:
        file: The file.
        reason: Why it was left; empty when it was taken.
        detail: More about it, for the private table only: may quote what stands in the object.
    """

    file: ScannedFile
    reason: str
    detail: str = ""


def chosen_images(
    candidates: Sequence[Candidate],
    *,
    domain: str | None,
    gates: str | Sequence[int],
    needs_place: bool,
    has_spacing: bool,
    one_per: str,
    prefer: Sequence[str],
    earlier: Collection[str],
) -> tuple[list[Candidate], list[Decision]]:
    """Go through all steps.

    Args:
        candidates: Images that may become cases.
        domain: The one asked for; None takes the only one there is.
        gates: ``sum``, ``each`` or the numbers of gates.
        needs_place: Images must say where they lie and how large their voxels are.
        has_spacing: The user gave the size of the voxels.
        one_per: One of `ONE_PER`.
        prefer: As for `one_per_acquisition`.
        earlier: As for `one_per_acquisition`.

    Returns:
        What was chosen, and why the others were left.

    Raises:
        CohortError: As for `one_domain`.
    """
    single, duplicates = without_duplicates(candidates)
    in_domain, others = one_domain(single, domain)
    usable: list[Candidate] = []
    left = [*duplicates, *others]
    for one in in_domain:
        reason = _geometry_reason(one, needs_place, has_spacing)
        if not reason and gates_of(one.pixels.num_gates, gates) is None:
            reason = f"it has {one.pixels.num_gates} gates, fewer than source.gates names"
        if reason:
            left.append(Decision(one.file, reason))
        else:
            usable.append(one)
    chosen, repeats = one_per_acquisition(
        usable, one_per=one_per, prefer=prefer, sums_gates=gates == "sum", earlier=earlier
    )
    return chosen, [*left, *repeats]


def clashing_identifiers(images: Iterable[tuple[ScannedFile, Header, str]]) -> list[list[ScannedFile]]:
    """Files that share one SOPInstanceUID and differ in their pixels: some of them are not what they say.

    Args:
        images: File, header and SHA-256 of the stored pixels.

    Returns:
        All files of each such identifier.
    """
    groups = _grouped(images, lambda image: image[1].instance_uid).values()
    return [[file for file, _, _ in group] for group in groups if len({pixels for _, _, pixels in group}) > 1]


def refuse_clashes(clashes: Sequence[Sequence[ScannedFile]]) -> None:
    """Refuse a tree with such files.

    Raises:
        CohortError: There are some; all are named.
    """
    if clashes:
        names = [" and ".join(file.name for file in group) for group in clashes]
        raise CohortError(
            f"{len(clashes)} groups of files share one SOPInstanceUID and hold different pixels:\n{listing(names)}\n"
            "An identifier stands for one image; find out which file of each group is the right one, and take the "
            "others out of the input folder, or leave all of them out with source.same_identifier=leave_out"
        )


def without_duplicates(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Decision]]:
    """Keep one of several files that hold the same object or the same pixels; clashing ones are out already."""
    first_of: dict[str, Candidate] = {}
    left: list[Decision] = []
    for candidate in candidates:
        first = first_of.setdefault(candidate.source_uid, candidate)
        if first is not candidate:
            left.append(Decision(candidate.file, "the same object as another file", f"as {first.file.name}"))
    by_pixels = _grouped(first_of.values(), lambda candidate: candidate.pixels.digest)
    kept: list[Candidate] = []
    for group in by_pixels.values():
        if len({candidate.patient for candidate in group}) > 1:
            names = ", ".join(candidate.file.name for candidate in group)
            left += [
                Decision(candidate.file, "the same pixels stand under several patients", names) for candidate in group
            ]
            continue
        kept.append(group[0])
        left += [
            Decision(candidate.file, "the same pixels as another file", f"as {group[0].file.name}")
            for candidate in group[1:]
        ]
    return kept, left


def one_domain(candidates: Sequence[Candidate], domain: str | None) -> tuple[list[Candidate], list[Decision]]:
    """Keep the images of one domain.

    Args:
        candidates: Images of any domain.
        domain: The one asked for; None when there is only one.

    Raises:
        CohortError: There are several domains and none was asked for.
    """
    counts = {name: len(group) for name, group in _grouped(candidates, lambda one: one.seen.domain).items()}
    if domain is None and len(counts) > 1:
        lines = [f"{name}: {counts[name]} images (source.domain={name})" for name in sorted(counts)]
        raise CohortError(
            f"The input holds images of {len(counts)} domains; a cohort has one:\n{listing(lines)}\n"
            "Say which one with source.domain=<name>; make one cohort of each if you need several"
        )
    chosen = domain or next(iter(counts), "")
    kept = [candidate for candidate in candidates if candidate.seen.domain == chosen]
    has_one: set[tuple[str, str | None]] = {
        (one.patient, acquisition) for one in kept for acquisition in (one.seen.acquisition, "")
    }
    has_one |= {(one.patient, None) for one in kept if not one.seen.acquisition}
    left = []
    for candidate in candidates:
        if candidate.seen.domain != chosen:
            reason = f"{_in_words(candidate.seen.domain)}{OTHER_DOMAIN}{_in_words(chosen)}"
            same = {(candidate.patient, candidate.seen.acquisition), (candidate.patient, None)}
            left.append(Decision(candidate.file, reason if same & has_one else reason + NOTHING_ELSE))
    return kept, left


def one_per_acquisition(
    candidates: Sequence[Candidate],
    *,
    one_per: str,
    prefer: Sequence[str],
    sums_gates: bool,
    earlier: Collection[str],
) -> tuple[list[Candidate], list[Decision]]:
    """Keep one image of each acquisition, by the order of the module.

    Args:
        candidates: Images of one domain.
        one_per: One of `ONE_PER`.
        prefer: Patterns; an image whose descriptions hold an earlier one goes before.
        sums_gates: Whether the gates of a gated image are summed.
        earlier: Keyed identifiers of what an earlier preparation has taken.
    """

    def rank(candidate: Candidate) -> tuple[bool, int, bool, bool, bool, int, str]:
        header, seen = candidate.header, candidate.seen
        texts = " ; ".join(header.texts.values())
        hits = [number for number, pattern in enumerate(prefer) if names_in(texts, {"": [pattern]})]
        processed = not header.is_original if seen.domain == "projection" else not seen.is_iterative
        return (
            candidate.source_uid not in earlier,
            min(hits, default=len(prefer)),
            header.kind.is_gated == sums_gates,
            seen.attenuation_corrected == "yes",
            processed,
            header.series_number,
            candidate.file.name,
        )

    kept: list[Candidate] = []
    left: list[Decision] = []
    for group in _grouped(candidates, lambda candidate: _acquisition_key(candidate, one_per)).values():
        first, *others = sorted(group, key=rank)
        kept.append(first)
        left += [
            Decision(other.file, "another image of an acquisition that is taken", f"taken: {first.file.name}")
            for other in others
        ]
    return kept, left


# --- Private helpers --------------------------------------------------------------------------------------------------


def _geometry_reason(one: Candidate, needs_place: bool, has_spacing: bool) -> str:
    if needs_place and not one.pixels.has_spacing and not has_spacing:
        return "it does not say how large its voxels are; give source.spacing_mm, or see source.allow_unknown_geometry"
    if needs_place and not one.pixels.has_place:
        return "it does not say where it lies in the patient; see source.allow_unknown_geometry"
    return ""


def _acquisition_key(candidate: Candidate, one_per: str) -> tuple[str, ...]:
    header = candidate.header
    if one_per == "image":
        return (candidate.source_uid,)
    key = (candidate.patient, header.study_uid or header.study_date, candidate.seen.acquisition)
    # Two images of which nobody knows whether they are rest or stress are one acquisition only if made at one time.
    by_time = one_per == "time" or not candidate.seen.acquisition
    return (*key, header.acquired) if by_time else key


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)


def _in_words(domain: str) -> str:
    """A domain as it stands in a sentence."""
    return {"projection": "projections", "transaxial": "transaxial slices", "short_axis": "short-axis slices"}.get(
        domain, "nothing"
    )
