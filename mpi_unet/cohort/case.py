"""One case: a row of ``cases.csv``, its files, and the rules for its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpi_unet.cohort.nifti import Volume, num_frames, read_image, read_mask
from mpi_unet.errors import CohortError, nearest
from mpi_unet.shapes import Mask

__all__ = ["Case", "exclude_option", "is_safe_name"]

SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+@-]{0,149}")
"""A case id names files in every run folder: no separator, no leading dot, no blank, no ``#`` (between case, frame)."""

PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""Ids that Hydra reads as text without quotes, unless they are one of its words."""

HYDRA_WORDS = {"true", "false", "null", "nan", "inf"}


@dataclass(frozen=True)
class Case:
    """One acquisition of one patient; nothing is read before it is asked for.

    Attributes:
        case_id: Pseudonym of the case, a safe file name.
        patient_id: Pseudonym of the person.
        acquisition: For example ``rest`` or ``stress``; empty when unknown.
        gate: Gate of a gated study; empty for an ungated one.
        camera: Camera or site; empty when unknown.
        image: The image file.
        labels: Reader to mask file, for the readers who outlined this case.
        strata: The further columns of ``cases.csv``, for example sex or defect.
        readings: Columns ``<quantity>__<reader>``, what readers measured or judged; they describe nobody, so they
            neither stratify nor enter the fingerprint of a cohort.
    """

    case_id: str
    patient_id: str
    acquisition: str
    gate: str
    camera: str
    image: Path
    labels: dict[str, Path]
    strata: dict[str, str] = field(default_factory=dict)
    readings: dict[str, str] = field(default_factory=dict)

    def read_image(self) -> Volume:
        """Read the intensities (z, y, x) and their geometry."""
        return read_image(self.image)

    def read_mask(self, reader: str) -> Mask:
        """Read the outline of one reader as a mask (z, y, x).

        Raises:
            CohortError: This reader has no label for the case, or the file cannot be used.
        """
        if reader not in self.labels:
            raise CohortError(f"{self.case_id}: {missing_reader(reader, tuple(self.labels))}")
        return read_mask(self.labels[reader])

    def num_frames(self) -> int:
        """Number of slices or views, from the header of the image."""
        return num_frames(self.image)

    def column(self, name: str) -> str | None:
        """Value of one column that describes the case, or None when ``cases.csv`` has no such column."""
        if name in DESCRIBING_COLUMNS:
            return str(getattr(self, name))
        return self.strata.get(name)


DESCRIBING_COLUMNS = ("acquisition", "gate", "camera")
"""Columns of every ``cases.csv`` that say something about a case beside its ids and files."""


def is_safe_name(name: str) -> bool:
    """Whether ``name`` can name a file in any folder without leaving it.

    Example:
        >>> is_safe_name("P017_rest"), is_safe_name("../P017"), is_safe_name("P 17")
        (True, False, False)
    """
    return SAFE_NAME.fullmatch(name) is not None


def missing_reader(reader: str, available: Sequence[str]) -> str:
    """Say that a reader is not there, and who is."""
    there = ", ".join(available) or "none"
    return f"reader {reader!r} has no label; readers with one: {there}{nearest(reader, available)}"


def exclude_option(case_ids: Sequence[str]) -> str:
    r"""The override that leaves cases out, as it is typed in a shell.

    Example:
        >>> exclude_option(["P017_rest", "P042_rest"])
        'data.exclude=[P017_rest,P042_rest]'
        >>> exclude_option(["0017"])
        '"data.exclude=[\'0017\']"'
    """
    words = [word if _is_plain(word) else f"'{word}'" for word in case_ids]
    option = f"data.exclude=[{','.join(words)}]"
    return option if all(map(_is_plain, case_ids)) else f'"{option}"'


def _is_plain(word: str) -> bool:
    return PLAIN_WORD.fullmatch(word) is not None and word.lower() not in HYDRA_WORDS
