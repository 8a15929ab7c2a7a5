"""Patients with the outlines of all readers and of the network, from the least agreement to the most.

Patients are ranked by the figures of ``agreement.json``, not picked by hand. Readers are solid lines (from the sixth on
dotted), the network is a broader dashed one; each has its color, and the page can hide each outline by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.nifti import read_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError
from mpi_unet.report.agreement_words import NETWORK, printable
from mpi_unet.report.display import view_of
from mpi_unet.report.overlays import (
    NETWORK_COLOR,
    NETWORK_DASHES,
    WIDTH,
    Stroke,
    choose_frames,
    common_field,
    frame_piece,
    frames_note,
    gray_window,
    panel_svg,
)
from mpi_unet.report.svg import Drawing
from mpi_unet.report.wording import as_float
from mpi_unet.shapes import Mask

NUM_LOWEST, NUM_MIDDLE, NUM_HIGHEST = 6, 3, 3
NUM_FRAMES, NUM_FRAMES_LARGE = 3, 5
"""Frames of a patient, evenly from the first to the last one that holds LV of a reader; more for the lowest."""

LARGE_GROUPS = ("all", "lowest")
"""Groups whose patients take the whole width of the page."""

READER_COLORS = ("#ffb000", "#ff7fd0", "#33d6a6", "#fff176", "#ff6b3d")
"""Amber, pink, green, yellow, vermilion: lighter than the gray beneath, and apart for color-blind readers."""

DOTTED = "1.5 2.5"
NETWORK_WIDTH = 2.4

NetworkMasks = Callable[[Case], Mask]


@dataclass(frozen=True)
class Ranked:
    """A patient and the place among all; rank 1 agrees least."""

    patient_id: str
    rank: int
    total: int
    value: float
    group: str


@dataclass(frozen=True)
class Member:
    """One entry of the legend: whose outline, how it is drawn, and its layer on the page."""

    name: str
    stroke: Stroke
    words: str


@dataclass(frozen=True)
class PatientOverlay:
    """The frames of one patient with all outlines."""

    ranked: Ranked
    case_id: str
    panels: tuple[Drawing, ...]
    captions: tuple[str, ...]
    note: str


def rank_patients(rows: Sequence[Mapping[str, Any]], key: str) -> list[Ranked]:
    """Choose the patients to show by ``key`` of ``per_patient``; ties go by patient id.

    Up to twelve patients are all shown; of more the six lowest, three around the median and the three highest. Patients
    without a finite value are not candidates.

    Example:
        >>> rows = [{"patient_id": f"P{i:02d}", "p0": i / 100} for i in range(40)]
        >>> [ranked.rank for ranked in rank_patients(rows, "p0")]
        [1, 2, 3, 4, 5, 6, 19, 20, 21, 38, 39, 40]
    """
    values = [(as_float(row.get(key)), printable(row.get("patient_id"))) for row in rows]
    ordered = sorted(pair for pair in values if math.isfinite(pair[0]))
    total = len(ordered)
    if total <= NUM_LOWEST + NUM_MIDDLE + NUM_HIGHEST:
        groups = {place: "all" for place in range(total)}
    else:
        middle = min(max((total - 1) // 2 - NUM_MIDDLE // 2, NUM_LOWEST), total - NUM_HIGHEST - NUM_MIDDLE)
        groups = dict.fromkeys(range(NUM_LOWEST), "lowest")
        groups |= dict.fromkeys(range(middle, middle + NUM_MIDDLE), "middle")
        groups |= dict.fromkeys(range(total - NUM_HIGHEST, total), "highest")
    return [
        Ranked(ordered[place][1], place + 1, total, ordered[place][0], group) for place, group in sorted(groups.items())
    ]


def members_of(readers: Sequence[str], has_network: bool) -> list[Member]:
    """Readers in their order and the network last, as the legend lists them."""
    members = []
    for index, name in enumerate(readers):
        is_dotted = (index // len(READER_COLORS)) % 2 == 1
        stroke = Stroke(
            READER_COLORS[index % len(READER_COLORS)], DOTTED if is_dotted else "", layer=f"member-r{index + 1}"
        )
        members.append(Member(name, stroke, "dotted" if is_dotted else "solid"))
    if has_network:
        network = Stroke(NETWORK_COLOR, NETWORK_DASHES, NETWORK_WIDTH, "member-n")
        members.append(Member(NETWORK, network, "dashed, broader"))
    return members


def network_masks(folder: Path, cohort: Cohort, network: str, predictions: str | Path | None) -> NetworkMasks | None:
    """Find out where the masks of the network are.

    Args:
        folder: Where ``agreement.json`` lies; its ``predictions`` are taken when nothing else is said.
        cohort: The cohort; a column of readers may hold the masks.
        network: Name of the network in ``agreement.json``.
        predictions: A folder of ``<case_id>.nii.gz``, or the name of a column of readers.

    Returns:
        What reads the mask of a case, or None when no masks are found.
    """
    for column in (predictions, network):
        if column is not None and str(column) in cohort.readers:
            name = str(column)
            return lambda case: case.read_mask(name)
    root = folder / "predictions" if predictions is None else Path(predictions)
    if not root.is_dir():
        return None
    return lambda case: read_mask(root / f"{case.case_id}.nii.gz")


def patient_overlay(
    ranked: Ranked, cohort: Cohort, readers: Sequence[str], masks_of_network: NetworkMasks | None
) -> PatientOverlay | str:
    """Draw one patient, or say in a sentence why that cannot be done.

    Of several cases the one with the least agreement is shown: of the network with the readers or, without a network,
    of the readers with one another.

    Args:
        ranked: The patient.
        cohort: Where images and masks are.
        readers: Whose outlines are drawn.
        masks_of_network: Reads the mask of the network; None draws readers only.
    """
    try:
        cases = [case for case in cohort.cases_of(ranked.patient_id) if any(name in case.labels for name in readers)]
        if not cases:
            return f"Patient {ranked.patient_id} cannot be shown: the cohort has no outlined case of this patient."
        outlined = [(case, _outlines(case, readers, masks_of_network)) for case in cases]
        case, masks = min(outlined, key=lambda pair: (_agreement(pair[1]), pair[0].case_id))
        volume = case.read_image()
    except (CohortError, OSError) as error:
        return f"Patient {ranked.patient_id} cannot be shown: {error}"
    if any(mask.shape != volume.array.shape for mask in masks.values()):
        return f"Patient {ranked.patient_id} cannot be shown: image and outlines of {case.case_id} differ in shape."
    view = view_of(cohort.domain, volume.affine, cohort.spacing_known)
    spacing_yx = volume.spacing_mm[1:] if cohort.spacing_known else None
    drawn = [mask for name, mask in masks.items() if name != NETWORK]
    last = masks.get(NETWORK, drawn[0])
    most = NUM_FRAMES_LARGE if ranked.group in LARGE_GROUPS else NUM_FRAMES
    frames = choose_frames(np.any(drawn, axis=0), last, range(len(drawn[0])), most)
    if view.reverse_frames:
        frames = frames[::-1]
    turned = {name: [view.turn(mask[frame]) for frame in frames] for name, mask in masks.items()}
    images = [view.turn(volume.array[frame]) for frame in frames]
    field = common_field([mask for kept in turned.values() for mask in kept], spacing_yx)
    black, white = gray_window([image[field.rows, field.columns] for image in images])
    strokes = {member.name: member.stroke for member in members_of(readers, NETWORK in masks)}
    word = "view" if cohort.domain == "projection" else "slice"
    tag = "simulated" if cohort.simulated_readers else ""
    panels, captions = [], []
    for index, (frame, image) in enumerate(zip(frames, images, strict=True)):
        gray = np.clip((image - black) / (white - black), 0, 1)
        outlines = [(kept[index], strokes[name]) for name, kept in turned.items()]
        piece = frame_piece(gray, outlines, field, view, spacing_yx, tag)
        captions.append(f"{word} {frame + 1} of {len(drawn[0])}")
        sizes = ", ".join(f"{printable(name)} {np.count_nonzero(kept[index])}" for name, kept in turned.items())
        alt = f"{captions[-1]}, pixels outlined: {sizes}"
        panels.append(Drawing(f"patient_{ranked.rank}_{index}", alt, "", panel_svg(piece, WIDTH, field.height, alt)))
    note = frames_note(view, case, word)
    if len(cases) > 1:
        note += f"; of {len(cases)} cases of this patient the one with the least agreement"
    return PatientOverlay(ranked, case.case_id, tuple(panels), tuple(captions), note)


# --- Private helpers ---


def _outlines(case: Case, readers: Sequence[str], masks_of_network: NetworkMasks | None) -> dict[str, Mask]:
    masks = {name: case.read_mask(name) for name in readers if name in case.labels}
    if masks_of_network is not None:
        masks[NETWORK] = masks_of_network(case)
    return masks


def _agreement(masks: Mapping[str, Mask]) -> float:
    """Mean Dice of the network with the readers, or of the readers with one another; 1 when nobody can be compared."""
    readers = [mask for name, mask in masks.items() if name != NETWORK]
    if NETWORK in masks:
        pairs = [(masks[NETWORK], mask) for mask in readers]
    else:
        pairs = [(mask, other) for index, mask in enumerate(readers) for other in readers[index + 1 :]]
    dice = [_dice(mask, other) for mask, other in pairs if mask.shape == other.shape]
    return float(np.mean(dice)) if dice else 1.0


def _dice(mask: Mask, other: Mask) -> float:
    marked = int(np.count_nonzero(mask) + np.count_nonzero(other))
    return 2 * int(np.count_nonzero(mask & other)) / marked if marked else 1.0
