"""From chosen images to rows of ``cases.csv``: names of cases, columns, and what the user should know.

A case is called ``<patient>_<acquisition>``, then ``_g<gate>`` for one gate of several, then ``_<number>`` from 2 where
a patient has several cases of that kind, by their date. `numbering` keeps a name to its image.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mpi_unet.dicom.allow_list import from_vocabulary
from mpi_unet.dicom.identity import Pseudonyms, identifying
from mpi_unet.sources.dicom.choice import Candidate
from mpi_unet.sources.dicom.images import gates_of
from mpi_unet.sources.dicom.numbering import base_of, case_id_of, check_names, numbers_of
from mpi_unet.sources.dicom.options import Options
from mpi_unet.sources.dicom.scan import Header
from mpi_unet.sources.dicom.words import PATTERNS, names_in, plain_words

__all__ = ["PlannedImage", "identifying_texts", "planned", "warnings_about"]


@dataclass(frozen=True)
class PlannedImage:
    """One chosen image with the cases that it becomes.

    Attributes:
        candidate: The image.
        gates: Gate of each case, 0 for all gates as one.
        rows: Row of ``cases.csv`` of each case.
    """

    candidate: Candidate
    gates: tuple[int, ...]
    rows: tuple[dict[str, str], ...]


def planned(
    chosen: Sequence[Candidate], options: Options, pseudonyms: Pseudonyms, given: Mapping[str, str]
) -> list[PlannedImage]:
    """Name the cases and fill their columns, in the order of patients and dates.

    Args:
        chosen: Images that become cases.
        options: The arguments.
        pseudonyms: For dates, and for cameras that no vocabulary knows.
        given: Name of a case to the keyed identifier of its image, of all preparations before.

    Raises:
        CohortError: A name would change its image.
    """
    dates = {one.source_uid: _date(one, pseudonyms) for one in chosen}
    ordered = sorted(chosen, key=lambda one: (one.patient, one.seen.acquisition, dates[one.source_uid], one.source_uid))
    numbers = numbers_of(ordered, given)
    images = [_planned(one, numbers[one.source_uid], dates[one.source_uid], options, pseudonyms) for one in ordered]
    check_names({row["case_id"]: row["source_uid"] for image in images for row in image.rows}, given)
    return images


def identifying_texts(chosen: Iterable[Candidate], options: Options) -> list[str]:
    """Texts to be kept that may tell who somebody is: file, attribute and why; for the terminal."""
    if options.identifying_text:
        return []
    problems = []
    for one in chosen:
        for keyword in options.keep_text:
            text = one.header.texts.get(keyword, "")
            reasons = identifying(text)
            if _named_words(text, one.header):
                reasons.append("a word of a name, or a number, that stands elsewhere in the object")
            if reasons:
                problems.append(f"{one.file.name}: {keyword} holds {' and '.join(reasons)}")
    return problems


def warnings_about(chosen: Sequence[Candidate], options: Options) -> list[str]:
    """What the user should know about the cohort; pseudonyms and counts only."""
    texts = [one.seen.warning for one in chosen if one.seen.warning]
    warnings = [f"{_images(number)}: {text}" for text, number in sorted(Counter(texts).items())]
    unknown = sum(not one.seen.acquisition for one in chosen)
    if unknown:
        warnings.append(
            f"{_images(unknown)} of which nothing, or contradictory things, say whether it is rest or stress; "
            "source.patterns adds the words of your descriptions"
        )
    for what, said in (
        ("birth dates", [one.header.birth_date for one in chosen]),
        ("sexes", [one.header.sex for one in chosen]),
        ("issuers", [one.header.issuer for one in chosen]),
    ):
        found = _contradictory([one.patient for one in chosen], said)
        if found and not (what == "issuers" and options.use_issuer):
            warnings.append(
                f"several {what} under one PatientID, which counts as one person all the same: {', '.join(found)}"
            )
    corrected = Counter(one.seen.attenuation_corrected or "unknown" for one in chosen)
    if corrected["yes"] and len(corrected) > 1:
        counts = ", ".join(f"{word} {number}" for word, number in sorted(corrected.items()))
        warnings.append(f"attenuation corrected: {counts}; the column attenuation_corrected tells them apart")
    placeless = sum(not one.pixels.has_place for one in chosen)
    if placeless:
        warnings.append(
            f"{_images(placeless)} without a place in the patient; the orientation of the files means nothing"
        )
    if options.spacing_mm is None and any(not one.pixels.has_spacing for one in chosen):
        number = sum(not one.pixels.has_spacing for one in chosen)
        warnings.append(
            f"{number} of {len(chosen)} images without the size of a voxel, so that nothing is reported in mm for any: "
            "give source.spacing_mm, or leave them out with source.allow_unknown_geometry=false"
        )
    remarked = sum(bool(one.pixels.warnings) for one in chosen)
    if remarked:
        warnings.append(f"{_images(remarked)} with a remark of the reader, in the column detail of the private table")
    return warnings


# --- Private helpers --------------------------------------------------------------------------------------------------


def _planned(one: Candidate, number: int, date: str, options: Options, pseudonyms: Pseudonyms) -> PlannedImage:
    gates = gates_of(one.pixels.num_gates, options.gates) or [0]
    counts = one.header.counts or (round(one.pixels.sum) if one.seen.domain == "projection" else 0)
    rows = []
    for gate in gates:
        case_id = case_id_of(base_of(one), gate, number)
        row = {
            "case_id": case_id,
            "patient_id": one.patient,
            "acquisition": one.seen.acquisition,
            "gate": str(gate) if gate else "sum" if one.pixels.num_gates > 1 else "",
            "camera": _camera(one.header, pseudonyms),
            "image": f"images/{case_id}.nii.gz",
            "sex": one.header.sex,
            "attenuation_corrected": one.seen.attenuation_corrected,
            "counts": str(counts) if counts else "",
            "study_date": date,
            "source_uid": one.source_uid,
            "place": "" if one.pixels.has_place else "unknown",  # outlines in patient coordinates need to know
        }
        rows.append(row | {keyword: one.header.texts.get(keyword, "") for keyword in options.keep_text})
    return PlannedImage(one, tuple(gates), tuple(rows))


def _camera(header: Header, pseudonyms: Pseudonyms) -> str:
    """Maker and model as far as a vocabulary knows them; a keyed word for any other, for free text may hold a name."""
    maker = from_vocabulary("Manufacturer", header.manufacturer)
    model = from_vocabulary("ManufacturerModelName", header.model)
    if maker or model:
        return f"{maker} {model}".strip()
    text = f"{header.manufacturer} {header.model}".strip()
    return f"camera-{pseudonyms.word('camera', text, letters=4)}" if text else ""


def _date(one: Candidate, pseudonyms: Pseudonyms) -> str:
    """Date of the study, shifted by the number of days of its patient."""
    return pseudonyms.date(one.whose, one.header.study_date, one.issuer)


def _named_words(text: str, header: Header) -> set[str]:
    """Words of the object's names and numbers in a text, but for the words of heart studies."""
    words = set(re.findall(r"\w{3,}", text.casefold())) | set(plain_words(text).split())
    return {
        word
        for word in words & header.identifiers
        if not any(names_in(word, PATTERNS[table]) for table in ("heart", "plane", "attenuation_corrected"))
    }


def _contradictory(patients: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Patients of whom different things are said; an empty text says nothing."""
    said: dict[str, set[str]] = defaultdict(set)
    for patient, text in zip(patients, texts, strict=True):
        said[patient] |= {text} - {""}
    return sorted(patient for patient, found in said.items() if len(found) > 1)


def _images(number: int) -> str:
    return f"{number} image{'s' * (number != 1)}"
