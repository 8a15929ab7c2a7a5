"""The results of a prediction as DICOM: ``<output>/dicom/<study>/*.dcm``, and on to an archive.

One *image* of the input gives one folder, whatever the number of its gates. What a folder holds is decided by the
masks, the numbers of the tables, the run and the options; the same again finds it made and does nothing, and objects
that an archive has are not sent to it twice. An image of which something cannot be made - projections have no
segmentation - or that an archive refuses stops no other: ``<output>/dicom.csv`` has a row for every image.
"""

from __future__ import annotations

import csv
import datetime
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi_unet import __version__
from mpi_unet.errors import PacsError, RunError
from mpi_unet.files import read_json, sha256, unwritable, waiting_lock, whole_file, write_json
from mpi_unet.inference.crew import done_in_order, num_helpers
from mpi_unet.inference.dicom_images import DicomImage, DicomInput, origin_of_image
from mpi_unet.inference.dicom_numbers import Rows, read_rows
from mpi_unet.inference.dicom_options import DicomOptions
from mpi_unet.inference.facts import ModelFacts
from mpi_unet.inference.results import StudyResult, failed, result_file

if TYPE_CHECKING:
    from mpi_unet.dicom.derived import Maker
    from mpi_unet.inference.inputs import Input, Study

__all__ = ["FOLDER", "REFUSED", "TABLE", "DicomResult", "write_dicom_results"]

FOLDER, TABLE = "dicom", "dicom.csv"
COLUMNS = ("study", "status", "objects", "kinds", "stored_at", "reason")

OBJECTS = "objects.json"
"""What a folder holds; written last."""

VERSION = 2
"""Raised whenever the same results give other objects."""

FEWEST = 6
"""Images for which processes pay: to start one takes about as long as to make the objects of two."""

AT_ONCE = 200
"""Images whose rows of the tables are in memory at the same time."""

WRITTEN, STORED, INCOMPLETE, REFUSED, FAILED, NOT_SEGMENTED, WAITING = (
    "written",
    "stored",
    "incomplete",
    "refused",
    "failed",
    "not_segmented",
    "waiting",
)


@dataclass(frozen=True)
class DicomResult:
    """What became of one image.

    Attributes:
        study: Name of its folder.
        status: ``written``, ``stored`` (the archive has it), ``incomplete`` (something asked for cannot be made of it),
            ``refused`` (by the archive), ``failed``, ``not_segmented`` or ``waiting`` (for another shard).
        objects: How many.
        kinds: Which of those asked for.
        stored_at: The archive.
        reason: In words.
    """

    study: str
    status: str
    objects: int = 0
    kinds: str = ""
    stored_at: str = ""
    reason: str = ""

    @property
    def is_missed(self) -> bool:
        """Whether something that was asked for is not there."""
        return self.status in (INCOMPLETE, REFUSED, FAILED)


def write_dicom_results(
    given: Input,
    images: DicomInput,
    output: str | Path,
    facts: ModelFacts,
    options: DicomOptions,
    *,
    with_surfaces: bool,
    num_workers: int | None = None,
) -> Iterator[DicomResult]:
    """Make, write and send the objects of every image whose studies are done.

    Args:
        given: The studies.
        images: Where they come from.
        output: Folder of the predictions, whose tables are written.
        facts: What segmented them.
        options: What is wanted.
        with_surfaces: Whether surfaces were asked for; what was not asked for raises no flag.
        num_workers: Processes that make them; None for as many as there are cores, 0 for none.

    Yields:
        What became of each image; the table is there after the last one.

    Raises:
        PacsError: The archive cannot be reached. Objects are on the disk, and the same command sends them.
        RunError: The disk is full.
    """
    output = Path(output)
    studies = {study.study_id: study for study in given.studies()}
    work = _Work(images, output, facts, options, _maker(facts, output), with_surfaces)
    _make_private(output / FOLDER)
    found = images.images()
    number = num_helpers(num_workers, len(given), FEWEST)
    with whole_file(output / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for made in done_in_order(work.made, _tasks(found, studies, output), number):
            result = work.sent(made)
            table.writerow({name: getattr(result, name) for name in COLUMNS})
            yield result


# --- Private helpers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """One image whose objects are wanted."""

    image: DicomImage
    studies: Sequence[Study]
    rows: Rows


def _tasks(found: Iterator[DicomImage], studies: Mapping[str, Study], output: Path) -> Iterator[_Task]:
    """Every image, with the rows of the tables that it needs and no others."""
    while some := list(islice(found, AT_ONCE)):
        rows = read_rows(output, [case_id for image in some for case_id in image.case_ids])
        for image in some:
            known = [studies[case_id] for case_id in image.case_ids if case_id in studies]
            yield _Task(image, known, rows.of(image.case_ids))


@dataclass(frozen=True)
class _Work:
    """The objects of one image after the other: made by any process, sent by one."""

    images: DicomInput
    output: Path
    facts: ModelFacts
    options: DicomOptions
    maker: Maker
    with_surfaces: bool

    def made(self, task: _Task) -> DicomResult | str:
        """Make what is not made yet; the name of the folder, or what is in its way."""
        image, studies = task.image, task.studies
        results = [_result(self.output, study.study_id) for study in studies]
        if len(results) < len(image.case_ids) or any(result is None for result in results):
            return DicomResult(image.name, WAITING, reason="its studies are not done yet")
        known = [result for result in results if result is not None]
        if not any(result.status == "segmented" for result in known):
            reasons = dict.fromkeys(result.reason for result in known)
            return DicomResult(image.name, NOT_SEGMENTED, reason="; ".join(reasons))
        try:
            with self._lock(image.name):
                self._record(image, studies, known, task.rows, self.output / FOLDER / image.name)
        except RunError:
            raise
        except Exception as error:
            return DicomResult(image.name, FAILED, reason=failed(known[0], error).reason)
        return image.name

    def sent(self, made: DicomResult | str) -> DicomResult:
        """What became of an image, after its objects were sent where that was asked for."""
        if isinstance(made, DicomResult):
            return made
        folder = self.output / FOLDER / made
        try:
            with self._lock(made):
                return self._sent(folder, _read_record(folder))
        except (PacsError, RunError):
            raise
        except Exception as error:
            return DicomResult(made, FAILED, reason=" ".join(f"{type(error).__name__}: {error}".split()))

    def _lock(self, name: str) -> AbstractContextManager[None]:
        return waiting_lock(self.output / FOLDER / f".{name}.lock")

    def _record(
        self, image: DicomImage, studies: Sequence[Study], results: Sequence[StudyResult], rows: Rows, folder: Path
    ) -> None:
        """Make what the folder should hold, where it does not hold it."""
        key = self._key(results, rows)
        record = _read_record(folder)
        if record.get("key") == key and all((folder / name).is_file() for name in record["files"]):
            return
        from mpi_unet.dicom.derived import write_objects
        from mpi_unet.inference.dicom_objects import objects_of
        from mpi_unet.sources.pacs.access import quiet

        is_pseudonymous = self.options.is_pseudonymous
        origin = origin_of_image(image, self.images, results[0].source_uid, is_pseudonymous=is_pseudonymous)
        with quiet():  # highdicom logs identifiers
            made = objects_of(
                *(origin, studies, results, rows, self.maker, self.options.kinds, self.output, self.facts),
                with_surfaces=self.with_surfaces,
            )
        _clear(folder)
        paths = write_objects(made.objects, folder)
        record = {
            "study": image.name,
            "key": key,
            "kinds": list(made.kinds),
            "files": [path.name for path in paths],
            "problems": list(made.problems),
            "stored_at": [],
        }
        write_json(folder / OBJECTS, record)

    def _sent(self, folder: Path, record: Mapping[str, Any]) -> DicomResult:
        """Send what the archive does not have yet."""
        reason = "; ".join(record["problems"])
        result: dict[str, Any] = {"objects": len(record["files"]), "kinds": " ".join(record["kinds"]), "reason": reason}
        status = INCOMPLETE if record["problems"] else WRITTEN
        address = self.options.send
        if not address or not record["files"]:
            return DicomResult(folder.name, status, **result)
        if address not in record["stored_at"]:
            refused = self._refused(folder, record["files"])
            if refused:
                reasons = [f"{number} objects: {text}" for text, number in Counter(refused).items()]
                told = "; ".join(reasons if not reason else [reason, *reasons])
                return DicomResult(folder.name, REFUSED, **(result | {"reason": told}))
            write_json(folder / OBJECTS, {**record, "stored_at": [*record["stored_at"], address]})
        status = STORED if status == WRITTEN else status
        return DicomResult(folder.name, status, stored_at=address, **result)

    def _refused(self, folder: Path, names: Sequence[str]) -> list[str]:
        """Why the archive did not take what it did not take."""
        from mpi_unet.sources.pacs.access import TlsFiles
        from mpi_unet.sources.pacs.storing import archive_at, store

        network = self.options.network
        files = (network.ca_file, network.client_certificate, network.client_key)
        tls = TlsFiles(*(Path(path) if path else None for path in files))
        pacs = archive_at(self.options.send, our_aet=network.our_aet, tls=tls, timeout_s=float(network.timeout_s))
        try:
            outcomes = store([folder / name for name in names], pacs)
        except PacsError as error:
            raise PacsError(
                f"{error}. The objects are in {self.output / FOLDER}; the same command sends what is not sent yet"
            ) from None
        return [outcome.reason for outcome in outcomes if outcome.reason]

    def _key(self, results: Sequence[StudyResult], rows: Rows) -> str:
        """Changes with everything that decides the objects."""
        numbers = [
            repr(sorted(row.items()))
            for result in results
            for row in (
                *(row for (name, _), row in sorted(rows.measurements.items()) if name == result.study_id),
                *rows.segments.get(result.study_id, []),
            )
        ]
        maker = (self.maker.algorithm, self.maker.version, self.maker.run)
        parts = (str(VERSION), __version__, *maker, *self.options.kinds, str(self.options.is_pseudonymous))
        return sha256(*parts, *(result.key for result in results), *map(repr, results), *numbers)


def _maker(facts: ModelFacts, output: Path) -> Maker:
    """The network as objects name it; made at the moment at which this prediction began."""
    from mpi_unet.dicom.derived import Maker
    from mpi_unet.inference.plan import RECORD

    name = re.sub(r"[^ -\[\]-~]", "_", facts.name).strip() or "network"
    folds = f"{facts.num_networks} network{'s' * (facts.num_networks > 1)}"
    made = datetime.datetime.fromtimestamp((output / RECORD).stat().st_mtime)
    record = read_json(output / RECORD)
    return Maker(
        algorithm=f"{name[:48]}, {folds}",
        version=f"mpi_unet {__version__}",
        run=sha256(facts.key, str(record.get("key")))[:32],
        made=made,
    )


def _result(output: Path, study_id: str) -> StudyResult | None:
    try:
        return StudyResult.from_json(read_json(result_file(output, study_id)))
    except FileNotFoundError:
        return None


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = read_json(folder / OBJECTS)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"key", "files", "problems", "stored_at"} <= set(record) else {}


def _clear(folder: Path) -> None:
    """Remove objects of other results: they would be taken for those of these."""
    (folder / OBJECTS).unlink(missing_ok=True)
    for path in folder.glob("*.dcm"):
        path.unlink()


def _make_private(folder: Path) -> None:
    """A folder for its owner only: objects may carry names."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise unwritable(folder, error) from error
