"""Where retrieved objects lie, and how an interrupted retrieval goes on.

Below the private folder of a cohort are three areas, each ``<area>/<StudyInstanceUID>/<SOPInstanceUID>.dcm``::

    incoming/    studies of which something is missing
    retrieved/   studies that are complete: all that was chosen of them, each object opened and found to be itself
    set_aside/   objects that an earlier, wider query wanted; they come back without being fetched again

A file is written whole under its final name or not at all, and moves between areas by renaming, so at every moment an
object is in exactly one place, and what is missing is what has no file. Nothing else needs to be remembered.
"""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mpi_unet.dicom.nm.file import quiet
from mpi_unet.errors import BusyError, PacsError
from mpi_unet.files import unwritable, whole_file
from mpi_unet.sources.account import make_private_folder
from mpi_unet.sources.pacs.archive import FoundObject

__all__ = ["Retrieval"]

INCOMING, RETRIEVED, SET_ASIDE = AREAS = ("incoming", "retrieved", "set_aside")


@dataclass(frozen=True)
class Retrieval:
    """The private folder of a cohort, as far as it holds retrieved objects.

    Attributes:
        root: The private folder.
    """

    root: Path

    @classmethod
    @contextmanager
    def entered(cls, output: str | Path) -> Iterator[Retrieval]:
        """The retrieval beside a cohort, for this process alone.

        Raises:
            BusyError: Another process is at it.
            RunError: The folder cannot be written to.
        """
        root = make_private_folder(output)
        try:
            lock = (root / ".lock").open("a")
        except OSError as error:
            raise unwritable(Path(output), error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"{root} is being retrieved to by another process; wait for it, or choose another output"
                ) from None
            yield cls(root)

    @property
    def complete(self) -> Path:
        """The folder of complete studies."""
        return self.root / RETRIEVED

    def missing(self, study_uid: str, chosen: Mapping[str, FoundObject]) -> list[FoundObject]:
        """Sort what is there of a study, and say which of the chosen objects are not.

        Args:
            study_uid: The study.
            chosen: SOP Instance UID to object.

        Returns:
            Objects without a good file, in the order of ``chosen``.
        """
        there = set()
        for path in self._files(study_uid):
            uid = path.name.removesuffix(".dcm")
            if uid not in chosen:
                self._move(path, SET_ASIDE, study_uid)
            elif why_not(path, chosen[uid]):
                path.unlink()
            else:
                there.add(uid)
                if path.parent.parent.name == SET_ASIDE:
                    self._move(path, INCOMING, study_uid)
        return [found for uid, found in chosen.items() if uid not in there]

    def write(self, found: FoundObject, content: bytes) -> None:
        """Keep one object, after looking into it.

        Raises:
            PacsError: It is not the object that was asked for.
            RunError: The disk is full or the folder cannot be written to.
        """
        wrong = why_not(io.BytesIO(content), found)
        if wrong:
            raise PacsError(f"the PACS sent an object that {wrong}; its administrator can tell why")
        with whole_file(self.root / INCOMING / found.study_uid / f"{found.uid}.dcm") as temporary:
            temporary.write_bytes(content)

    def finish(self, study_uid: str, chosen: Mapping[str, FoundObject]) -> list[FoundObject]:
        """Bring a study to ``retrieved`` when all that was chosen of it is there and good.

        Returns:
            What is missing; the study then stays in ``incoming``.
        """
        missing = self.missing(study_uid, chosen)
        target = INCOMING if missing else RETRIEVED
        for path in self._files(study_uid):
            area = path.parent.parent.name
            if area not in (target, SET_ASIDE):
                self._move(path, target, study_uid)
        self._tidy(study_uid)
        return missing

    def set_others_aside(self, studies: set[str]) -> int:
        """Take studies that this query does not want out of the way.

        Returns:
            Their number.
        """
        others = {
            folder.name
            for area in (INCOMING, RETRIEVED)
            for folder in self._folders(area)
            if folder.name not in studies
        }
        for study_uid in others:
            for path in self._files(study_uid):
                if path.parent.parent.name != SET_ASIDE:
                    self._move(path, SET_ASIDE, study_uid)
            self._tidy(study_uid)
        return len(others)

    def _folders(self, area: str) -> list[Path]:
        folder = self.root / area
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def _files(self, study_uid: str) -> list[Path]:
        """Files of a study in all areas; what a killed process left half-written begins with a dot and is removed."""
        folders = [self.root / area / study_uid for area in AREAS]
        for folder in folders:
            for partial in folder.glob(".part-*"):
                partial.unlink(missing_ok=True)
        return [path for folder in folders for path in sorted(folder.glob("*.dcm"))]

    def _move(self, path: Path, area: str, study_uid: str) -> None:
        place = self.root / area / study_uid / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)

    def _tidy(self, study_uid: str) -> None:
        for area in AREAS:
            with suppress(OSError):  # not empty, or not there
                (self.root / area / study_uid).rmdir()


def why_not(source: Path | io.BytesIO, found: FoundObject) -> str:
    """Why a file is not the object that it should be, in words; empty when it is."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    expected = {"SOPInstanceUID": found.uid, "StudyInstanceUID": found.study_uid}
    with quiet():
        try:
            header = dcmread(source, stop_before_pixels=True, specific_tags=list(expected))
            wrong = [keyword for keyword, uid in expected.items() if str(header.get(keyword, "")) != uid]
        except (OSError, InvalidDicomError, ValueError, KeyError, EOFError, AttributeError, NotImplementedError):
            return "cannot be read"
    return f"has another {' and '.join(wrong)} than it was listed with" if wrong else ""
