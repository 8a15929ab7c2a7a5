"""The image that new objects are made of: what they take over of it, whose they are, and where its voxels lie.

An *origin* is never changed, and none of its identifiers becomes one of a new object. Objects that go back to the
archive must carry the patient of the origin (``identity="source"``), those for research must not (``"pseudonymous"``,
the default): these carry what `mpi_unet.dicom.identity.deidentified` leaves, and refer to the copy that the same key
makes of the origin. An origin that is such a copy already goes by ``"source"``: what it carries are pseudonyms.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from pydicom.dataset import Dataset, FileMetaDataset

from mpi_unet.dicom.identity import Pseudonyms, deidentified, patient_id_of
from mpi_unet.dicom.nm import NmImage, read_nm
from mpi_unet.dicom.nm.file import open_dataset, quiet
from mpi_unet.dicom.nm_modules import unique_id
from mpi_unet.errors import DicomError

__all__ = ["IDENTITIES", "Origin", "Secrets", "origin_of"]

IDENTITIES = ("pseudonymous", "source")

NUMBERS = ("PatientID", "AccessionNumber", "AdmissionID")
SHORTEST_NUMBER = 4
"""Shorter ones are found within any date or count."""


@dataclass(frozen=True)
class Secrets:
    """What a person is called in the source: numbers, and the words of the name; for comparison only."""

    numbers: frozenset[str] = field(default=frozenset(), repr=False)
    words: frozenset[str] = field(default=frozenset(), repr=False)

    def given_away_by(self, text: str) -> bool:
        """Whether a text holds a number of the person, or two words of the name: one alone may be any word.

        Example:
            >>> secrets = Secrets(frozenset({"id4711"}), frozenset({"wall", "mary"}))
            >>> [secrets.given_away_by(text) for text in ("thin wall", "Mary Wall", "patient ID4711")]
            [False, True, True]
        """
        folded = text.casefold()
        words = set(re.findall(r"\w+", folded)) & self.words
        return len(words) > 1 or any(number in folded for number in self.numbers)


@dataclass(frozen=True)
class Origin:
    """The image that new objects refer to.

    Attributes:
        header: What they take over of it, under the identity that was chosen; without pixels.
        image: What it is and where its voxels lie; without pixels.
        identity: ``pseudonymous`` or ``source``.
        shift_days: By how many days dates are moved.
        choice: Which energy window, detector and so on of the origin was taken.
        secrets: What no text of a pseudonymous object may hold.
    """

    header: Dataset = field(repr=False)
    image: NmImage = field(repr=False)
    identity: str
    shift_days: int = field(repr=False)
    choice: Mapping[str, int]
    secrets: Secrets = field(repr=False)

    @property
    def sop_instance_uid(self) -> str:
        """As new objects refer to it."""
        return str(self.header.SOPInstanceUID)

    @property
    def series_uid(self) -> str:
        """Series of the origin; where it names none, one that belongs to it alone."""
        uid = str(self.header.get("SeriesInstanceUID", "") or "")
        return uid or str(unique_id("series of", self.sop_instance_uid))

    @property
    def frame_of_reference_uid(self) -> str:
        """What coordinates refer to: that of the origin; where it names none, one that belongs to it alone."""
        uid = str(self.header.get("FrameOfReferenceUID", "") or "")
        return uid or str(unique_id("frame of reference of", self.sop_instance_uid))

    def frame_numbers(self, gate: int) -> Int[np.ndarray, " slice"]:
        """Which frames of the origin, from 1, are the slices of a gate (from 0), in the order of z."""
        numbers = self.image.vectors.numbers
        chosen = np.ones(self.image.vectors.num_frames, dtype=bool)
        for name, number in self.choice.items():
            chosen &= numbers.get(name, np.ones_like(chosen, dtype=np.int64)) == number
        if "TimeSlotVector" in numbers and self.image.num_gates > 1:
            chosen &= numbers["TimeSlotVector"] == gate + 1
        frames = np.flatnonzero(chosen)
        ordered: np.ndarray = frames[np.argsort(numbers["SliceVector"][frames])] + 1
        return ordered


CHOICES = {
    "energy_window": "EnergyWindowVector",
    "rr_interval": "RRIntervalVector",
    "detector": "DetectorVector",
    "rotation": "RotationVector",
}


def origin_of(
    source: str | Path | Dataset,
    *,
    identity: str = "pseudonymous",
    pseudonyms: Pseudonyms | None = None,
    patient_id: str | None = None,
    **choice: Any,
) -> Origin:
    """Read what new objects take over of an image.

    Args:
        source: The Nuclear Medicine image; it is not changed.
        identity: Whose the new objects are: ``pseudonymous``, for research; or ``source``, to go back to the archive
            that the image came from.
        pseudonyms: Made from the key of the project; needed for ``pseudonymous``.
        patient_id: Whose image it is, when it does not say so; only for ``pseudonymous``.
        choice: Options of `read_nm` where the file holds several images.

    Raises:
        DicomError: The image cannot be read, says neither which object nor which study it is, or its identity cannot
            be treated as asked.
    """
    where = "dataset" if isinstance(source, Dataset) else Path(source).name
    dataset = source if isinstance(source, Dataset) else open_dataset(Path(source), pixels=False)
    image = read_nm(dataset, pixels=False, **choice)
    nameless = [
        f"{keyword} {tag}"
        for keyword, tag in (("SOPInstanceUID", "(0008,0018)"), ("StudyInstanceUID", "(0020,000D)"))
        if not str(dataset.get(keyword, "") or "").strip()
    ]
    if nameless:
        raise DicomError(
            f"{where}: has no {' and no '.join(nameless)}; expected both, for new objects refer to them; export the "
            "study again, or ask the sender"
        )
    chosen = {CHOICES[name]: int(number) for name, number in choice.items() if name in CHOICES and number is not None}
    with quiet():
        bare = _without_pixels(dataset)
        if identity == "source":
            return Origin(bare, image, identity, 0, chosen, Secrets())
        if identity != "pseudonymous":
            raise DicomError(f"identity={identity!r}; expected {' or '.join(IDENTITIES)}")
        if pseudonyms is None:
            raise DicomError(
                f"{where}: identity='pseudonymous' needs pseudonyms=, made from the key file of the project; or say "
                "identity='source' for objects that go back to the archive with the name of the patient in them"
            )
        header = deidentified(bare, pseudonyms, patient_id=patient_id)
        shift = pseudonyms.shift_days(patient_id or patient_id_of(dataset))
        secrets = _secrets(bare, patient_id or "")
    return Origin(header, image, identity, shift, chosen, secrets)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _secrets(dataset: Dataset, patient_id: str) -> Secrets:
    numbers = {patient_id.strip(), *(str(dataset.get(keyword) or "").strip() for keyword in NUMBERS)}
    words = re.findall(r"\w+", str(dataset.get("PatientName") or "").casefold())
    return Secrets(
        frozenset(number.casefold() for number in numbers if len(number) >= SHORTEST_NUMBER),
        frozenset(word for word in words if len(word) > 1),
    )


def _without_pixels(dataset: Dataset) -> Dataset:
    bare = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - iterating a dataset converts every element, the pixels too
        if tag < 0x7FE00000:
            # the ways in which pydicom fails to convert an element of a damaged file
            with suppress(ValueError, TypeError, AttributeError, OverflowError, NotImplementedError, KeyError):
                bare[tag] = copy.deepcopy(dataset[tag])  # what cannot be read cannot be passed on
    bare.file_meta = FileMetaDataset()
    return bare
