"""The arguments of ``source=dicom``, checked before a single file is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mpi_unet.cohort.table import DOMAINS
from mpi_unet.errors import CohortError, listing, nearest
from mpi_unet.files import sha256
from mpi_unet.sources.dicom.choice import ONE_PER
from mpi_unet.sources.dicom.scan import OWN_TEXTS, SHARED_TEXTS
from mpi_unet.sources.dicom.words import PATTERNS, Table, check_patterns

__all__ = ["Options"]

PLANES = ("transaxial", "short_axis")
WITHOUT_PATIENT = ("leave_out", "study")
SAME_IDENTIFIER = ("refuse", "leave_out")
TEXTS = (*OWN_TEXTS, *SHARED_TEXTS)
ONLY_DESCRIBING = frozenset({"name", "licence", "keep_text", "identifying_text", "same_identifier"})
"""Options that change no choice: files of one identifier never become cases, whichever way that is said."""


@dataclass(frozen=True)
class Options:
    """What decides the cohort beside the files and the key; the arguments of `mpi_unet.sources.dicom.dicom_cohort`."""

    domain: str | None
    plane: str | None
    gates: str | list[int]
    one_per: str
    prefer: list[str]
    energy_window: int | None
    spacing_mm: tuple[float, float, float] | None
    allow_unknown_geometry: bool
    allow_burned_in: bool
    without_patient_id: str
    same_identifier: str
    use_issuer: bool
    keep_text: list[str]
    identifying_text: bool
    patterns: dict[str, dict[str, list[str]]]
    name: str
    licence: str

    @classmethod
    def checked(
        cls,
        *,
        gates: str | int | Sequence[int],
        prefer: Sequence[str],
        spacing_mm: Sequence[float] | None,
        keep_text: Sequence[str],
        patterns: Mapping[str, Table] | None,
        domain: str | None,
        plane: str | None,
        one_per: str,
        energy_window: int | None,
        without_patient_id: str,
        same_identifier: str = "refuse",
        allow_unknown_geometry: bool,
        allow_burned_in: bool,
        use_issuer: bool,
        identifying_text: bool,
        name: str,
        licence: str,
    ) -> Options:
        """Put the arguments into one form.

        Raises:
            CohortError: Some of them cannot be used; all are named in one error.
        """
        problems = [
            f"source.{key}={word}; expected {' or '.join(allowed)}{nearest(str(word), allowed)}"
            for key, word, allowed in (
                ("domain", domain, DOMAINS),
                ("plane", plane, PLANES),
                ("one_per", one_per, ONE_PER),
                ("without_patient_id", without_patient_id, WITHOUT_PATIENT),
                ("same_identifier", same_identifier, SAME_IDENTIFIER),
            )
            if word is not None and word not in allowed
        ]
        chosen = _gates(gates)
        if not chosen:
            problems.append(f"source.gates={gates}; expected sum, each, or numbers from 1 such as [1,8]")
        spacing = None if spacing_mm is None else [float(value) for value in spacing_mm]
        if spacing is not None and len(spacing) == 2:
            spacing = [1.0, *spacing]  # of projections, (y, x) is enough
        if spacing is not None and (len(spacing) != 3 or not all(0 < value < np.inf for value in spacing)):
            problems.append(
                f"source.spacing_mm={spacing}; expected three positive distances in mm along (z, y, x), or null"
            )
        problems += [
            f"source.keep_text: {keyword} cannot be kept; expected some of {', '.join(TEXTS)}"
            f"{nearest(keyword, TEXTS)}. Names, numbers and dates of patients are never written"
            for keyword in keep_text
            if keyword not in TEXTS
        ]
        if identifying_text and not keep_text:
            problems.append("source.identifying_text=true has no effect; name the texts with source.keep_text=[...]")
        if problems:
            raise CohortError(f"These options of source=dicom cannot be used:\n{listing(problems)}\nCorrect them")
        check_patterns(patterns or {})
        return cls(
            domain=domain,
            plane=plane,
            gates=chosen,
            one_per=one_per,
            prefer=list(prefer),
            energy_window=energy_window,
            spacing_mm=None if spacing is None else (spacing[0], spacing[1], spacing[2]),
            allow_unknown_geometry=allow_unknown_geometry,
            allow_burned_in=allow_burned_in,
            without_patient_id=without_patient_id,
            same_identifier=same_identifier,
            use_issuer=use_issuer,
            keep_text=list(keep_text),
            identifying_text=identifying_text,
            patterns={
                table: {name: list(expressions) for name, expressions in names.items()}
                for table, names in {**PATTERNS, **(patterns or {})}.items()
            },
            name=name,
            licence=licence,
        )

    def as_text(self) -> str:
        """The same text for the same options."""
        return json.dumps(asdict(self), sort_keys=True)

    def choice_digest(self) -> str:
        """SHA-256 of the options that decide which images are chosen, and so how cases are numbered."""
        chosen = {key: value for key, value in asdict(self).items() if key not in ONLY_DESCRIBING}
        return sha256(json.dumps(chosen, sort_keys=True))


def _gates(gates: str | int | Sequence[int]) -> str | list[int]:
    """``sum``, ``each`` or the numbers of gates in order; an empty list when it is none of these."""
    if isinstance(gates, str):
        return gates if gates in ("sum", "each") else []
    numbers = [gates] if isinstance(gates, int) else list(gates)
    return sorted(set(numbers)) if all(isinstance(number, int) and number > 0 for number in numbers) else []
