"""An archive that speaks DIMSE: C-FIND lists, C-GET fetches on the same connection, C-MOVE makes the archive call us.

C-GET needs nothing but an outgoing connection, so it is tried first. Many archives refuse it; C-MOVE then sends the
objects to the application entity that the archive's administrator registered under our title, with our address and
port, at which we listen while the command runs.

Source:
    DICOM PS3.4 annex C (query and retrieve) and annex B (storage).
"""

from __future__ import annotations

import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import groupby
from typing import Any, NoReturn

from mpi_unet.errors import ConfigError, MpiUnetError, PacsError
from mpi_unet.sources.pacs.access import Address, OurSide, TlsFiles
from mpi_unet.sources.pacs.archive import FaultError, FoundObject, FoundSeries, FoundStudy, Pacs, Receive
from mpi_unet.sources.pacs.association import FIND, GET, MOVE, Line, hung_up

__all__ = ["WAYS", "DimsePacs"]

WAYS = ("auto", "get", "move")
"""How objects are fetched; ``auto`` is C-GET, and C-MOVE where the archive refuses it."""

INSTALL = "python -m pip install 'mpi-unet[pacs]'"

SUCCESS, PENDING = 0x0000, (0xFF00, 0xFF01)

REFUSED = {0x0122, 0x0124, 0x0211, 0xA900}
"""Statuses by which an archive says that it does not do this: SOP class not supported, not authorized, unrecognized
operation, identifier does not match (PS3.7 annex C)."""

UNKNOWN_DESTINATION = 0xA801
CANNOT_STORE = 0xA700
NOT_ASKED_FOR = 0x0124

SETTLE_S = 5.0
"""Some archives say that a C-MOVE is done while the last objects are still on their way."""

UID = re.compile(r"[0-9]+(\.[0-9]+)*")


class DimsePacs(Pacs):
    """An archive reached by DIMSE; see the module.

    Args:
        address: The archive.
        ours: Who we are.
        way: One of `WAYS`.
        tls: Certificates, for ``dicoms://``.
        timeout_s: How long we wait for an answer; archives that fetch from tape need minutes.
        say: Told when C-GET is given up for C-MOVE.

    Raises:
        ConfigError: pynetdicom is not installed, ``way`` is unknown, or it is ``move`` and we do not listen.
    """

    def __init__(
        self,
        address: Address,
        ours: OurSide,
        *,
        way: str = "auto",
        tls: TlsFiles | None = None,
        timeout_s: float = 120.0,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        if find_spec("pynetdicom") is None:
            raise ConfigError(f"input={address} needs pynetdicom, which is not installed; {INSTALL}")
        if way not in WAYS:
            raise ConfigError(f"source.retrieve={way}; expected {', '.join(WAYS)}")
        if way == "move" and ours.listen_port is None:
            raise ConfigError(
                "source.retrieve=move needs a port at which the PACS reaches us; give source.listen_port=<port>, "
                f"registered with the PACS for {ours.aet}"
            )
        self.address, self.ours, self.way, self.say = address, ours, way, say
        context = (tls or TlsFiles()).context() if address.is_encrypted else None
        self.line = Line(address, ours, context, timeout_s)
        self._association: Any = None
        self._listener: Any = None
        self._worked: set[str] = set()
        self._expected: set[str] = set()
        self._receive: Receive | None = None
        self._failed: MpiUnetError | None = None
        self._lock = threading.Lock()

    # --- What every archive can do ------------------------------------------------------------------------------------

    def check(self) -> None:
        """C-ECHO.

        Raises:
            FaultError: The archive is not there.
            PacsError: It does not want us.
        """
        status = self._associated().send_c_echo()
        if "Status" not in status or status.Status != SUCCESS:
            raise FaultError(f"{self.address} does not answer to C-ECHO")

    def studies(self, first: str, last: str, modality: str, patient_id: str) -> list[FoundStudy]:
        """C-FIND at the level STUDY."""
        asked = {
            "StudyInstanceUID": "",
            "StudyDate": first if first == last else f"{first}-{last}",
            "StudyDescription": "",
            "ModalitiesInStudy": modality,
            "PatientID": patient_id,
        }
        return [
            FoundStudy(
                uid=_uid(answer, "StudyInstanceUID"),
                date=_text(answer, "StudyDate").replace(".", ""),
                description=_text(answer, "StudyDescription"),
                patient_id=_text(answer, "PatientID"),
                modalities=_texts(answer, "ModalitiesInStudy"),
            )
            for answer in self._find("STUDY", asked)
        ]

    def series(self, study_uid: str) -> list[FoundSeries]:
        """C-FIND at the level SERIES."""
        asked = {
            "StudyInstanceUID": study_uid,
            "SeriesInstanceUID": "",
            "Modality": "",
            "SeriesDescription": "",
            "NumberOfSeriesRelatedInstances": "",
        }
        return [
            FoundSeries(
                uid=_uid(answer, "SeriesInstanceUID"),
                modality=_text(answer, "Modality"),
                description=_text(answer, "SeriesDescription"),
                num_objects=_number(answer, "NumberOfSeriesRelatedInstances"),
            )
            for answer in self._find("SERIES", asked)
        ]

    def objects(self, study_uid: str, series_uid: str) -> list[FoundObject]:
        """C-FIND at the level IMAGE."""
        asked = {
            "StudyInstanceUID": study_uid,
            "SeriesInstanceUID": series_uid,
            "SOPInstanceUID": "",
            "ImageType": "",
            "NumberOfFrames": "",
        }
        return [
            FoundObject(
                uid=_uid(answer, "SOPInstanceUID"),
                series_uid=series_uid,
                study_uid=study_uid,
                kind=image_kind(_texts(answer, "ImageType")),
                num_frames=_number(answer, "NumberOfFrames"),
            )
            for answer in self._find("IMAGE", asked)
        ]

    def fetch(self, objects: Sequence[FoundObject], receive: Receive) -> None:
        """C-GET or C-MOVE of each series, by a list of its objects."""
        if self.way == "move":
            self._move(objects, receive)
            return
        try:
            with self._receiving(objects, receive):
                self._retrieve("C-GET", objects)
        except _RefusedError as refusal:
            if self.way == "get" or self.ours.listen_port is None:
                raise PacsError(
                    f"{self.address} refuses C-GET ({refusal}); ask its administrator to allow it for {self.ours.aet}, "
                    "or to register this machine as the destination of C-MOVE, and give source.listen_port=<port> "
                    "and source.retrieve=auto"
                ) from None
            self.say(f"the PACS refuses C-GET ({refusal}); going on with C-MOVE")
            self.way = "move"
            self._move(objects, receive)

    def close(self) -> None:
        """Release the association, and stop listening."""
        self._hang_up()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()

    def _hang_up(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            if association.is_established:
                association.release()
            hung_up(association)

    # --- Asking -------------------------------------------------------------------------------------------------------

    def _find(self, level: str, asked: dict[str, str]) -> list[Any]:
        """All answers, so that nothing of this one is on its way when the next question is asked."""
        try:
            return self._answers(level, asked)
        except _RefusedError as refusal:
            raise PacsError(
                f"{self.address} refuses C-FIND of studies ({refusal}); ask its administrator to allow query and "
                f"retrieve for {self.ours.aet}"
            ) from None

    def _answers(self, level: str, asked: dict[str, str]) -> list[Any]:
        found = []
        try:
            answers = self._associated().send_c_find(_identifier(level, asked), FIND)
        except ValueError:
            raise _RefusedError("it does not accept this service") from None
        for status, answer in answers:
            code = status.get("Status")
            if code is None:
                self._broken_off("C-FIND")
            if code in PENDING and answer is not None:
                found.append(answer)
            elif code == CANNOT_STORE:
                raise PacsError(
                    f"{self.address} has not the means for this C-FIND (status 0x{code:04X}); ask for less at once: "
                    "source.since, source.until, source.patients"
                )
            elif code not in (SUCCESS, *PENDING):
                raise PacsError(
                    f"{self.address} refuses C-FIND at the level {level} (status 0x{code:04X}); ask its administrator "
                    f"to allow queries for {self.ours.aet}"
                )
        self._worked.add("C-FIND")
        return found

    def _broken_off(self, what: str) -> NoReturn:
        """Tell a fault of the network from an archive that refuses a service by aborting the association.

        Orthanc does that. It is a refusal when the service has never worked and the archive is there all the same.
        """
        self.close()
        if what not in self._worked:
            self.check()
            raise _RefusedError("it breaks off the connection")
        raise FaultError(f"{self.address} broke off during {what}")

    # --- Fetching -----------------------------------------------------------------------------------------------------

    def _retrieve(self, what: str, objects: Sequence[FoundObject]) -> None:
        """Send one request for each series and follow it to its end."""
        for (study_uid, series_uid), group in groupby(objects, lambda found: (found.study_uid, found.series_uid)):
            for found in list(group):
                asked = {
                    "StudyInstanceUID": study_uid,
                    "SeriesInstanceUID": series_uid,
                    "SOPInstanceUID": found.uid,
                }
                self._follow(what, self._request(what, _identifier("IMAGE", asked)), found)
                if self._failed is not None:
                    raise self._failed

    def _request(self, what: str, identifier: Any) -> Iterator[tuple[Any, Any]]:
        association = self._associated()
        try:
            if what == "C-GET":
                answers: Iterator[tuple[Any, Any]] = association.send_c_get(identifier, GET)
            else:
                answers = association.send_c_move(identifier, self.ours.aet, MOVE)
        except ValueError:
            raise _RefusedError("it does not accept this service") from None
        return answers

    def _follow(self, what: str, answers: Iterator[tuple[Any, Any]], found: FoundObject) -> None:
        code, completed = None, 0
        for status, _ in answers:
            code = status.get("Status")
            completed = max(completed, status.get("NumberOfCompletedSuboperations") or 0)
        if found.uid not in self._expected:
            self._worked.add(what)
        if code is None:
            self._broken_off(what)
        if code == UNKNOWN_DESTINATION:
            raise PacsError(
                f"{self.address} knows no C-MOVE destination {self.ours.aet}; ask its administrator to register this "
                f"title with the address of this machine and port {self.ours.listen_port}"
            )
        if found.uid not in self._expected or code == SUCCESS:
            return  # it is here, or whoever counts will miss it
        if not completed and (code in REFUSED or code >= 0xC000 or code == 0xA702):
            raise _RefusedError(f"status 0x{code:04X}")

    def _move(self, objects: Sequence[FoundObject], receive: Receive) -> None:
        if self._listener is None:
            self._listener = self.line.listen(self._store)
        with self._receiving(objects, receive):
            try:
                self._retrieve("C-MOVE", objects)
            except _RefusedError as refusal:
                raise PacsError(
                    f"{self.address} refuses C-MOVE to {self.ours.aet} ({refusal}); ask its administrator to allow it "
                    f"and to register this title with the address of this machine and port {self.ours.listen_port}"
                ) from None
            end = time.monotonic() + SETTLE_S
            while self._expected and self._failed is None and time.monotonic() < end:
                time.sleep(0.05)

    @contextmanager
    def _receiving(self, objects: Sequence[FoundObject], receive: Receive) -> Iterator[None]:
        """Say what may come; anything else is turned away."""
        self._expected, self._receive, self._failed = {found.uid for found in objects}, receive, None
        try:
            yield
            if self._failed is not None:
                raise self._failed
        finally:
            with self._lock:
                self._receive = None

    def _store(self, event: Any) -> int:
        """Take one object, as it was sent, without decoding it."""
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            if self._receive is None or uid not in self._expected:
                return NOT_ASKED_FOR
            try:
                self._receive(uid, event.encoded_dataset())
            except MpiUnetError as error:  # raised again where it is seen: this thread belongs to the library
                self._failed = self._failed or error
                return CANNOT_STORE
            self._expected.discard(uid)
        return SUCCESS

    def _associated(self) -> Any:
        """The association, made anew when the last one is gone."""
        if self._association is None or not self._association.is_established:
            self._hang_up()
            self._association = self.line.associate(self._store, can_get=self.way != "move")
        return self._association


class _RefusedError(Exception):
    """The archive does not do what we asked in this way; its text is a status, nothing else."""


# --- Private helpers: identifiers -------------------------------------------------------------------------------------


def image_kind(image_type: Sequence[str]) -> str:
    """Value 3 of Image Type.

    Example:
        >>> image_kind(("ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION")), image_kind(())
        ('RECON TOMO', '')
    """
    return image_type[2].strip().upper() if len(image_type) > 2 else ""


def _identifier(level: str, asked: dict[str, str]) -> Any:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in asked.items():
        setattr(identifier, keyword, "" if value == "-" else value)
    return identifier


def _texts(answer: Any, keyword: str) -> tuple[str, ...]:
    """Values as text; what pydicom has to say about their form would quote them, so it is not said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = answer.get(keyword)
    if value is None or value == "":
        return ()
    values = [value] if isinstance(value, str | int | float) or not hasattr(value, "__iter__") else list(value)
    return tuple(str(text).strip() for text in values)


def _text(answer: Any, keyword: str) -> str:
    return "\\".join(_texts(answer, keyword))


def _number(answer: Any, keyword: str) -> int | None:
    text = _text(answer, keyword)
    return int(text) if text.isdecimal() else None


def _uid(answer: Any, keyword: str) -> str:
    """An identifier that can name a file."""
    text = _text(answer, keyword)
    if len(text) > 64 or not UID.fullmatch(text):
        raise PacsError(f"the PACS lists an object whose {keyword} is no UID; its administrator can tell why")
    return text
