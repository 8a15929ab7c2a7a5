"""New objects go to an archive: C-STORE to one that speaks DIMSE, STOW to one that speaks DICOMweb.

Sending is safe to repeat: the same command makes the same identifiers (`mpi_unet.dicom.derived`), and an archive that
has an object already either takes it again in its place or says that it has it, which counts as stored. What an archive
refuses is told object by object; one that is refused never keeps the others back.

Source:
    DICOM PS3.4 B.2.3 and PS3.7 C (statuses of C-STORE), PS3.18 10.5 (STOW-RS).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from mpi_unet.dicom.nm.file import open_dataset, transfer_syntax
from mpi_unet.errors import PacsError, listing
from mpi_unet.sources.pacs.access import OurSide, TlsFiles, parse_address, quiet, secrets_for
from mpi_unet.sources.pacs.archive import FaultError, persistently
from mpi_unet.sources.pacs.association import PLAIN, hung_up
from mpi_unet.sources.pacs.dicomweb import WebPacs, encoded
from mpi_unet.sources.pacs.dimse import DimsePacs

__all__ = ["Stored", "archive_at", "require_stored", "store"]

SUCCESS = 0x0000
DUPLICATE = 0x0111
COERCED = {0xB000, 0xB006, 0xB007}
"""Stored, with elements changed or not understood by the archive."""

CONFLICT = 409
"""By this a STOW service says that it stored nothing of what it was sent (PS3.18 table 10.5.3-1)."""

MOST_KINDS = 60
"""An association has at most 128 contexts, and a kind needs one for each of two transfer syntaxes."""


@dataclass(frozen=True)
class Stored:
    """What became of one object.

    Attributes:
        uid: SOP Instance UID.
        reason: Why the archive does not have it, in words; empty when it has.
        coerced: The archive has it, and says that it changed something.
    """

    uid: str
    reason: str = ""
    coerced: bool = False


def archive_at(
    address: str,
    *,
    our_aet: str = "MPIUNET",
    tls: TlsFiles | None = None,
    timeout_s: float = 120.0,
) -> DimsePacs | WebPacs:
    """The archive at an address, in the form that ``input=`` takes.

    Raises:
        ConfigError: The address has another form, or the extra ``pacs`` is not installed.
    """
    place = parse_address(address)
    if place.is_web:
        return WebPacs(place, secrets_for(place), tls=tls, timeout_s=timeout_s)
    return DimsePacs(place, OurSide(our_aet), tls=tls, timeout_s=timeout_s)


def store(objects: Sequence[Dataset | Path], pacs: DimsePacs | WebPacs, *, retries: int = 3) -> tuple[Stored, ...]:
    """Send objects to an archive.

    Args:
        objects: New objects, or files of them; uncompressed.
        pacs: The archive, as `archive_at` makes it; its connection is closed at the end.
        retries: Further attempts after a fault of the network; what was stored before is not sent again.

    Returns:
        What became of each object, in their order.

    Raises:
        PacsError: The archive cannot be reached, or wants none of us.
        DicomError: A file cannot be read.
    """
    datasets = [one if isinstance(one, Dataset) else open_dataset(one, pixels=True) for one in objects]
    done: dict[int, Stored] = {}
    if isinstance(pacs, WebPacs):
        send = partial(_store_to_web, datasets, pacs, done)
    else:
        send = partial(_store_by_dimse, datasets, pacs, done)
    with quiet(), warnings.catch_warnings(), closing(pacs):
        warnings.simplefilter("ignore")  # they would quote values
        persistently(send, pacs, retries)
    return tuple(done[number] for number in range(len(datasets)))


def require_stored(outcomes: Sequence[Stored], pacs: DimsePacs | WebPacs) -> None:
    """See that the archive has everything.

    Raises:
        PacsError: It refused something; all of it is named, by its identifier.
    """
    refused = [f"{one.uid}: {one.reason}" for one in outcomes if one.reason]
    if refused:
        raise PacsError(
            f"{pacs.address} did not store {len(refused)} of {len(outcomes)} objects:\n{listing(refused)}\n"
            "Its administrator can tell why; the same command sends them again"
        )


# --- Private helpers: DIMSE -------------------------------------------------------------------------------------------


def _store_by_dimse(datasets: Sequence[Dataset], pacs: DimsePacs, done: dict[int, Stored]) -> None:
    kinds = list(dict.fromkeys(str(dataset.SOPClassUID) for dataset in datasets))
    for first in range(0, len(kinds), MOST_KINDS):
        some = kinds[first : first + MOST_KINDS]
        left = [n for n, one in enumerate(datasets) if str(one.SOPClassUID) in some and n not in done]
        if not left:
            continue
        association = pacs.line.associate_to_store(some)
        try:
            for number in left:
                done[number] = _stored(association, datasets[number], pacs)
        finally:
            if association.is_established:
                association.release()
            hung_up(association)


def _stored(association: Any, dataset: Dataset, pacs: DimsePacs) -> Stored:
    uid = str(dataset.SOPInstanceUID)
    if transfer_syntax(dataset) not in PLAIN:
        return Stored(uid, f"its transfer syntax {transfer_syntax(dataset)} is not one that is sent; decode it first")
    try:
        status = association.send_c_store(dataset).get("Status")
    except ValueError:
        return Stored(uid, f"the archive takes no objects of the kind {_kind(dataset)}")
    except RuntimeError:  # the association is gone
        status = None
    if status is None:
        raise FaultError(f"{pacs.address} broke off while objects were stored")
    if status in (SUCCESS, DUPLICATE) or status in COERCED:
        return Stored(uid, coerced=status in COERCED)
    if 0xA700 <= status <= 0xA7FF:
        return Stored(uid, f"the archive has not the means to store it (status 0x{status:04X}); is its disk full?")
    return Stored(uid, f"the archive refuses this {_kind(dataset)} (status 0x{status:04X})")


def _kind(dataset: Dataset) -> str:
    from pydicom.uid import UID

    return str(UID(str(dataset.SOPClassUID)).name)


# --- Private helpers: DICOMweb ----------------------------------------------------------------------------------------


def _store_to_web(datasets: Sequence[Dataset], pacs: WebPacs, done: dict[int, Stored]) -> None:
    """One after the other, so that each refusal belongs to one object."""
    for number, dataset in enumerate(datasets):
        if number not in done:
            done[number] = _posted(dataset, pacs)


def _posted(dataset: Dataset, pacs: WebPacs) -> Stored:
    uid = str(dataset.SOPInstanceUID)
    answer = pacs.ask(partial(_post, dataset=dataset))
    if answer is None:
        return Stored(uid, f"the archive refuses this {_kind(dataset)} (HTTP {CONFLICT})")
    for failed in answer.get("FailedSOPSequence", []):
        code = int(failed.get("FailureReason", 0) or 0)
        if code != DUPLICATE:
            return Stored(uid, f"the archive refuses this {_kind(dataset)} (reason 0x{code:04X})")
    there = [str(item.get("ReferencedSOPInstanceUID", "")) for item in answer.get("ReferencedSOPSequence", [])]
    if uid in there or answer.get("FailedSOPSequence"):
        return Stored(uid)
    if pacs.ask(partial(_is_there, dataset=dataset)):  # an answer without a list, as some archives give it
        return Stored(uid)
    return Stored(uid, "the archive neither says that it has it nor why not, and does not list it")


def _post(client: Any, dataset: Dataset) -> Dataset | None:
    """What a STOW service says; None when it stored nothing."""
    import requests
    from pydicom import dcmread

    whole = dcmread(io.BytesIO(encoded(dataset)))  # the client sends no preamble of a dataset that never was a file
    try:
        answer: Dataset = client.store_instances([whole])
    except requests.exceptions.HTTPError as error:
        if error.response is not None and error.response.status_code == CONFLICT:
            return None
        raise
    return answer


def _is_there(client: Any, dataset: Dataset) -> bool:
    study, series = str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID)
    filters = {"SOPInstanceUID": str(dataset.SOPInstanceUID)}
    return bool(client.search_for_instances(study, series, search_filters=filters))
