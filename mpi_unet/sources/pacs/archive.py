"""What every archive can do, whatever language it speaks, and what it says about its studies.

A *fault* is of the network or of a server that is busy, and may be gone a moment later; anything else that an archive
refuses is a PacsError. Neither text ever quotes what was asked or answered, since that may be about a person.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from mpi_unet.errors import PacsError

__all__ = ["FaultError", "FoundObject", "FoundSeries", "FoundStudy", "Pacs", "Receive", "persistently"]

FIRST_WAIT_S = 1.0
"""Before the second attempt; each further wait is twice as long."""

LONGEST_WAIT_S = 30.0

Result = TypeVar("Result")


class FaultError(Exception):
    """The network or the server failed in a way that may pass."""


@dataclass(frozen=True)
class FoundStudy:
    """A study as the archive lists it.

    Attributes:
        uid: Study Instance UID.
        date: ``YYYYMMDD``; empty when the archive knows none.
        description: Study Description.
        patient_id: Never shown by ``repr``.
        modalities: Of its series; empty when the archive does not say.
    """

    uid: str
    date: str = field(repr=False)
    description: str = field(repr=False)
    patient_id: str = field(repr=False)
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundSeries:
    """A series as the archive lists it; ``num_objects`` is None when it does not count."""

    uid: str
    modality: str
    description: str = field(repr=False)
    num_objects: int | None = None


@dataclass(frozen=True)
class FoundObject:
    """An object as the archive lists it.

    Attributes:
        uid: SOP Instance UID.
        series_uid: Of its series.
        study_uid: Of its study.
        kind: Value 3 of Image Type, for example ``RECON TOMO``; empty when the archive does not say.
        num_frames: Number of Frames; None when the archive does not say.
    """

    uid: str
    series_uid: str
    study_uid: str
    kind: str = ""
    num_frames: int | None = None


Receive: TypeAlias = Callable[[str, bytes], None]
"""Takes the SOP Instance UID and the content of one DICOM file."""


class Pacs(ABC):
    """An archive; every method may raise a FaultError, or a PacsError when it is of no use to try again."""

    @abstractmethod
    def check(self) -> None:
        """See that the archive is there and wants us."""

    @abstractmethod
    def studies(self, first: str, last: str, modality: str, patient_id: str) -> list[FoundStudy]:
        """Studies from one day to another, both included; an empty text is open."""

    @abstractmethod
    def series(self, study_uid: str) -> list[FoundSeries]:
        """All series of a study."""

    @abstractmethod
    def objects(self, study_uid: str, series_uid: str) -> list[FoundObject]:
        """All objects of a series."""

    @abstractmethod
    def fetch(self, objects: Sequence[FoundObject], receive: Receive) -> None:
        """Fetch objects of one study; which of them came is for ``receive`` to know, in whatever order."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""


def persistently(action: Callable[[], Result], pacs: Pacs, retries: int) -> Result:
    """Do something that a fault may interrupt, several times if need be, with growing pauses.

    Args:
        action: What to do; it must be safe to do again.
        pacs: Closed after a fault, so that the next attempt begins with a new connection.
        retries: Number of further attempts.

    Raises:
        PacsError: The last attempt failed as well.
    """
    wait_s = FIRST_WAIT_S
    for left in range(retries, -1, -1):
        try:
            return action()
        except FaultError as fault:
            pacs.close()
            if not left:
                times = f" ({retries + 1} attempts)" if retries else ""
                raise PacsError(f"{fault}{times}") from None
            time.sleep(wait_s * random.uniform(0.8, 1.2))  # not all clients of a restarted archive at once
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
    raise AssertionError("unreachable")
