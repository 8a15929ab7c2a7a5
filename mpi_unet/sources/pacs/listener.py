"""Listening for studies: an archive or a camera sends, each study is worked on, and one that fails stops no other.

Below the folder of a queue are four areas, each ``<area>/<StudyInstanceUID>/<SOPInstanceUID>.dcm``::

    incoming/   what arrives; a study is taken when nothing more has come for it for a while
    working/    the one study that is being worked on
    done/       what was worked on
    failed/     what could not be, each study with a ``reason.txt``

An object counts as received when its file is on the disk; only then the sender is told so. Studies move between areas
by renaming, so after a crash each is in one place: what was being worked on is taken once more, and set aside when the
process ends over it a second time. A study whose results an archive did not take goes back to ``incoming`` and is taken
again after a minute, then after two, four, up to an hour, for a week. Only Nuclear Medicine images are taken, so
results that an archive forwards to whoever listens do not come back as new work.

Source:
    DICOM PS3.4 annex B (storage), PS3.8 9.3.4 (rejecting an association).
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpi_unet.errors import BusyError, ConfigError, MpiUnetError, PacsError
from mpi_unet.files import PART, read_json, unwritable, whole_file, write_json
from mpi_unet.sources.pacs.access import OurSide
from mpi_unet.sources.pacs.association import COMPRESSED, ECHO, NUCLEAR_MEDICINE, PLAIN
from mpi_unet.sources.pacs.dimse import INSTALL

__all__ = ["Queue", "listening", "work_through"]

INCOMING, WORKING, DONE, FAILED = AREAS = ("incoming", "working", "done", "failed")

REASON = "reason.txt"
TRIED = ".tried"
"""Stands in a study that was being worked on when the process ended."""

AGAIN = ".again.json"
"""Stands in a study that waits to be taken again: how often it was, since when, and the earliest time."""

FIRST_WAIT_S, LONGEST_WAIT_S, PATIENCE_S = 60.0, 3600.0, 7 * 24 * 3600.0
"""Archives are restarted within minutes and mended within days."""

UID = re.compile(r"[0-9]+(\.[0-9]+)*")

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000

LOOK_S = 0.2
"""How often the worker looks whether a study has become quiet."""


@dataclass(frozen=True)
class Queue:
    """Studies on their way, in a folder that only its owner can read.

    Attributes:
        root: The folder.
        quiet_s: A study is complete when nothing has come for it for so long; DICOM has no word for its end.
    """

    root: Path
    quiet_s: float = 30.0
    _arriving: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    @contextmanager
    def entered(cls, root: str | Path, *, quiet_s: float = 30.0) -> Iterator[Queue]:
        """The queue in a folder, for this process alone.

        Raises:
            BusyError: Another process works on it.
            ConfigError: ``quiet_s`` is negative.
            RunError: The folder cannot be written to.
        """
        if quiet_s < 0:
            raise ConfigError(f"quiet_s={quiet_s}; expected 0 or more seconds")
        root = Path(root)
        try:
            for area in AREAS:
                (root / area).mkdir(mode=0o700, parents=True, exist_ok=True)
            root.chmod(0o700)
            lock = (root / ".lock").open("a")
        except OSError as error:
            raise unwritable(root, error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"{root} is worked on by another process; wait for it, or choose another queue"
                ) from None
            queue = cls(root, quiet_s)
            queue._recover()
            yield queue

    def receive(self, study_uid: str, uid: str, content: bytes) -> None:
        """Keep one object; when this returns it is on the disk.

        Raises:
            ValueError: An identifier is none, and would not do as the name of a file.
            RunError: The disk is full.
        """
        if not all(UID.fullmatch(text) and len(text) <= 64 for text in (study_uid, uid)):
            raise ValueError("an identifier of the object is no UID")
        place = self.root / INCOMING / study_uid / f"{uid}.dcm"
        with self._arriving, whole_file(place) as temporary:  # no study is taken while one of its objects is written
            temporary.write_bytes(content)

    def take(self, now: float | None = None) -> Path | None:
        """Move the study that has waited longest to ``working``.

        Args:
            now: Seconds since the epoch; None for the clock.

        Returns:
            Its folder; None while no study is quiet.
        """
        now = time.time() if now is None else now
        with self._arriving:
            waiting = sorted((last, folder) for folder in self._studies(INCOMING) if (last := _last_change(folder)))
            for last, folder in waiting:
                if now - last >= self.quiet_s and now >= _again(folder).get("not_before", 0.0):
                    return self._move(folder, WORKING)
        return None

    def postpone(self, study: Path, now: float | None = None) -> float | None:
        """Let a study that was worked on wait to be taken again.

        Args:
            study: Its folder in ``working``.
            now: Seconds since the epoch; None for the clock.

        Returns:
            Seconds until then; None when it has been tried for too long: the study stays where it is.
        """
        now = time.time() if now is None else now
        known = _again(study)
        tries, first = int(known.get("tries", 0)), known.get("first", now)
        if now - first > PATIENCE_S:
            return None
        wait_s = min(FIRST_WAIT_S * 2 ** min(tries, 16), LONGEST_WAIT_S)
        write_json(study / AGAIN, {"tries": tries + 1, "first": first, "not_before": now + wait_s})
        (study / TRIED).unlink(missing_ok=True)
        self._move(study, INCOMING)
        return wait_s

    def finish(self, study: Path, failure: str = "") -> Path:
        """Move a study that was worked on to ``done`` or, with a reason, to ``failed``.

        Returns:
            Where it is now.
        """
        for name in (TRIED, AGAIN):
            (study / name).unlink(missing_ok=True)
        if not failure:
            return self._move(study, DONE)
        with whole_file(study / REASON) as temporary:
            temporary.write_text(failure + "\n", encoding="utf-8")
        return self._move(study, FAILED)

    def num_studies(self, area: str) -> int:
        """How many studies are in an area."""
        return len(self._studies(area))

    def _recover(self) -> None:
        """Bring back what was being worked on when the last process ended; nothing half-written stays."""
        for partial in self.root.glob(f"*/*/{PART}*"):
            partial.unlink(missing_ok=True)
        for study in self._studies(WORKING):
            if (study / TRIED).exists():
                self.finish(study, "the process ended twice while it worked on this study, by itself or from outside")
            else:
                (study / TRIED).touch()
                self._move(study, INCOMING)

    def _studies(self, area: str) -> list[Path]:
        return sorted(path for path in (self.root / area).iterdir() if path.is_dir())

    def _move(self, study: Path, area: str) -> Path:
        """Rename a study; where one of its name is there already, the new objects join or replace the old ones."""
        place = self.root / area / study.name
        if not place.exists():
            os.replace(study, place)
            return place
        for path in study.iterdir():
            os.replace(path, place / path.name)
        study.rmdir()
        return place


@contextmanager
def listening(queue: Queue, ours: OurSide, *, callers: Sequence[str] = ()) -> Iterator[int]:
    """Take what is sent to us, as long as the body runs.

    Args:
        queue: Where it goes.
        ours: Our title, and the address and port at which we listen; without a port a free one is taken.
        callers: Application entity titles that may send; empty for all that can reach the port.

    Yields:
        The port.

    Raises:
        ConfigError: pynetdicom is not installed, or something else listens at the port.
    """
    try:
        from pynetdicom import AE, evt
    except ImportError as error:
        raise ConfigError(f"listening needs pynetdicom, which is not installed; {INSTALL}") from error
    entity = AE(ae_title=ours.aet)
    entity.require_called_aet = True
    entity.require_calling_aet = list(callers)
    entity.add_supported_context(ECHO)
    entity.add_supported_context(NUCLEAR_MEDICINE, [*PLAIN, *COMPRESSED])
    place = (ours.listen_host, ours.listen_port or 0)
    try:
        server: Any = entity.start_server(
            place, block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: _received(event, queue))]
        )
    except OSError as error:
        raise ConfigError(
            f"port {ours.listen_port} cannot be used on this machine ({error.strerror or error}); stop what listens "
            "there, or choose another port"
        ) from None
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


def work_through(
    queue: Queue,
    work: Callable[[Path], None],
    *,
    stop: threading.Event,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Work on one study after the other until told to stop; the study at hand is finished first.

    Args:
        queue: The studies.
        work: Gets the folder of one study; what it raises is the reason that the study failed. After a `PacsError` - an
            archive did not take what was sent - the study is taken again later.
        stop: Set it to end.
        say: Told about each study, by its number and never by its identifiers.
    """
    number = 0
    while not stop.is_set():
        study = queue.take()
        if study is None:
            stop.wait(LOOK_S)
            continue
        number += 1
        failure = ""
        try:
            work(study)
        except PacsError as error:
            wait_s = queue.postpone(study)
            if wait_s is not None:
                say(f"study {number}: its results could not be sent, tried again in {wait_s / 60:.0f} min")
                continue
            failure = str(error)
        except MpiUnetError as error:
            failure = str(error)
        except Exception:  # one bad study, or one fault of ours, must not keep the others from being worked on
            failure = f"a fault of mpi_unet, please report it:\n{traceback.format_exc()}"
        queue.finish(study, failure)
        say(f"study {number}: {f'failed, see {REASON} in the queue' if failure else 'done'}")


# --- Private helpers --------------------------------------------------------------------------------------------------


def _received(event: Any, queue: Queue) -> int:
    """Take one object, as it was sent, without decoding more than its identifiers."""
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO

    try:
        content = event.encoded_dataset()
        header = dcmread(DicomBytesIO(content), stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
        queue.receive(str(header.get("StudyInstanceUID", "")), str(event.request.AffectedSOPInstanceUID), content)
    except MpiUnetError:
        return OUT_OF_RESOURCES
    except Exception:  # the thread belongs to the library, and whatever is sent must not end it
        return CANNOT_UNDERSTAND
    return SUCCESS


def _again(study: Path) -> dict[str, float]:
    """What stands in a study that waits; empty for one that does not."""
    try:
        return dict(read_json(study / AGAIN))
    except (OSError, ValueError):
        return {}


def _last_change(study: Path) -> float:
    """When something last came for a study; 0 while it is empty."""
    times = []
    for path in study.glob("*.dcm"):
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times, default=0.0)
