"""New objects in a real archive and back, by C-STORE and by STOW."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from derived_builders import LATER_MAKER, all_objects, origin, put, written
from nm_builders import NUM_GATES, changed, marked_gated_volume, short_axis, write
from orthanc_server import OrthancServer, free_port, running_orthanc
from pydicom import dcmread
from pydicom.dataset import Dataset

from mpi_unet.errors import PacsError
from mpi_unet.sources.pacs.storing import Stored, archive_at, require_stored, store

pytest.importorskip("highdicom", reason="needs highdicom: pip install 'mpi_unet[dicom]'")
pytest.importorskip("pynetdicom", reason="needs pynetdicom: pip install 'mpi_unet[pacs]'")


@pytest.fixture(scope="module")
def objects() -> list[Dataset]:
    """Four segmentations, a report, a picture and a page of one gated study."""
    return all_objects(origin(marked_gated_volume(short_axis(-6.4))))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TCP_NODELAY", "1")
        with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
            yield server


def address(server: OrthancServer, way: str) -> str:
    return server.dicom_web_url if way == "STOW" else f"dicom://{server.aet}@127.0.0.1:{server.dicom_port}"


def held(server: OrthancServer) -> dict[str, Dataset]:
    """What the archive holds, by SOP Instance UID."""
    names = json.loads(server.request("/instances"))
    found = [dcmread(io.BytesIO(server.request(f"/instances/{name}/file"))) for name in names]
    return {str(one.SOPInstanceUID): one for one in found}


def emptied(server: OrthancServer) -> None:
    for name in json.loads(server.request("/instances")):
        server.request(f"/instances/{name}", method="DELETE")


@pytest.mark.parametrize("way", ["C-STORE", "STOW"])
def test_objects_come_back_from_an_archive_as_they_were(
    way: str, server: OrthancServer, objects: list[Dataset], tmp_path: Path
) -> None:
    emptied(server)
    outcomes = store(objects, archive_at(address(server, way)))
    assert outcomes == tuple(Stored(str(one.SOPInstanceUID)) for one in objects)
    back = held(server)
    assert {uid: one == back[uid] for uid, one in as_read(objects, tmp_path).items()} == dict.fromkeys(back, True)
    assert len(back) == NUM_GATES + 3


def as_read(objects: list[Dataset], folder: Path) -> dict[str, Dataset]:
    return {str(one.SOPInstanceUID): one for one in map(dcmread, written(objects, folder))}


@pytest.mark.parametrize("way", ["C-STORE", "STOW"])
@pytest.mark.parametrize("overwrites", [True, False])
def test_sending_twice_changes_nothing(way: str, overwrites: bool, objects: list[Dataset], tmp_path: Path) -> None:
    """Also when the objects were made again, later: the identifiers are the same."""
    again = all_objects(origin(marked_gated_volume(short_axis(-6.4))), LATER_MAKER)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TCP_NODELAY", "1")
        with running_orthanc(tmp_path / "orthanc", OverwriteInstances=overwrites) as server:
            for each in (objects, again):
                require_stored(store(each, archive_at(address(server, way))), archive_at(address(server, way)))
            assert len(held(server)) == len(objects)


def test_files_are_sent_as_well(server: OrthancServer, objects: list[Dataset], tmp_path: Path) -> None:
    emptied(server)
    paths = written(objects, tmp_path)
    assert not [one.reason for one in store(paths, archive_at(address(server, "C-STORE"))) if one.reason]
    assert len(held(server)) == len(objects)


def test_a_compressed_object_is_not_sent_and_the_others_are(
    server: OrthancServer, objects: list[Dataset], tmp_path: Path
) -> None:
    emptied(server)
    packed = write(marked_gated_volume(short_axis()), tmp_path / "packed.dcm", "RLE")
    pacs = archive_at(address(server, "C-STORE"))
    outcomes = store([packed, objects[0]], pacs)
    assert "transfer syntax 1.2.840.10008.1.2.5 is not one that is sent; decode it first" in outcomes[0].reason
    assert outcomes[1] == Stored(str(objects[0].SOPInstanceUID))
    with pytest.raises(PacsError, match=r"did not store 1 of 2 objects:\n  2\.25\.\d+: its transfer syntax"):
        require_stored(outcomes, pacs)


# --- Archives that refuse ---------------------------------------------------------------------------------------------


@contextmanager
def archive_that_answers(status: int, kinds: tuple[str, ...] = ()) -> Iterator[str]:
    """An archive that takes only some kinds of objects, and gives one answer to all of them."""
    from pynetdicom import AE, evt
    from pynetdicom.presentation import StoragePresentationContexts

    entity = AE("PICKY")
    entity.supported_contexts = [
        context for context in StoragePresentationContexts if not kinds or context.abstract_syntax in kinds
    ]
    port = free_port()
    running = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: status)]
    )
    try:
        yield f"dicom://PICKY@127.0.0.1:{port}"
    finally:
        running.shutdown()


@pytest.mark.parametrize(
    ("status", "reason", "coerced"),
    [
        (0xA700, "has not the means to store it (status 0xA700); is its disk full?", False),
        (0xC123, "refuses this Segmentation Storage (status 0xC123)", False),
        (0xB000, "", True),
        (0x0111, "", False),
    ],
)
def test_statuses_of_c_store(status: int, reason: str, coerced: bool, objects: list[Dataset]) -> None:
    with archive_that_answers(status) as url:
        (outcome,) = store(objects[:1], archive_at(url))
    assert outcome.coerced == coerced
    assert reason in outcome.reason
    assert bool(outcome.reason) == bool(reason)


def test_a_kind_that_an_archive_does_not_take_keeps_no_other_back(objects: list[Dataset]) -> None:
    kinds = tuple({str(one.SOPClassUID) for one in objects[:-1]})
    with archive_that_answers(0x0000, kinds) as url:
        outcomes = store(objects, archive_at(url))
    assert [one.reason for one in outcomes[:-1]] == [""] * (len(objects) - 1)
    assert outcomes[-1].reason == "the archive takes no objects of the kind Encapsulated PDF Storage"


def test_an_archive_that_is_not_there_is_an_error(objects: list[Dataset]) -> None:
    with pytest.raises(PacsError, match=r"cannot be reached .*check host and port"):
        store(objects, archive_at(f"dicom://NOBODY@127.0.0.1:{free_port()}"), retries=0)


def test_a_connection_that_breaks_goes_on_where_it_stopped(
    objects: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    received: list[str] = []

    def take(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if len(received) == 2 and "broken" not in received:
            received.append("broken")
            event.assoc.abort()
            return 0x0000
        received.append(uid)
        return 0x0000

    monkeypatch.setattr("mpi_unet.sources.pacs.archive.FIRST_WAIT_S", 0.05)
    entity = AE("BRITTLE")
    entity.supported_contexts = [
        context
        for context in AllStoragePresentationContexts
        if context.abstract_syntax in {str(one.SOPClassUID) for one in objects}
    ]
    port = free_port()
    running = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        outcomes = store(objects, archive_at(f"dicom://BRITTLE@127.0.0.1:{port}"))
    finally:
        running.shutdown()
    assert not [one for one in outcomes if one.reason]
    assert received.count("broken") == 1
    assert sorted(uid for uid in received if uid != "broken") == sorted(str(one.SOPInstanceUID) for one in objects)


@contextmanager
def web_archive(status: int, answer: dict) -> Iterator[str]:
    """A DICOMweb service that gives one answer to whatever is posted, and lists nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._say(status, answer)

        def do_GET(self) -> None:
            self._say(200, [])

        def _say(self, code: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/dicom-web"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def failed(code: int, uid: str) -> dict:
    item = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [code]}}
    return {"00081198": {"vr": "SQ", "Value": [item]}}


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (409, None, "the archive refuses this Segmentation Storage (HTTP 409)"),
        (202, 0x0122, "the archive refuses this Segmentation Storage (reason 0x0122)"),
        (202, 0x0111, ""),
        (200, None, "the archive neither says that it has it nor why not, and does not list it"),
    ],
)
def test_answers_of_stow(status: int, code: int | None, reason: str, objects: list[Dataset]) -> None:
    answer = {} if code is None else failed(code, str(objects[0].SOPInstanceUID))
    with web_archive(status, answer) as url:
        (outcome,) = store(objects[:1], archive_at(url))
    assert outcome.reason == reason


def test_a_service_that_wants_a_password_stops_at_once(objects: list[Dataset]) -> None:
    with web_archive(401, {}) as url, pytest.raises(PacsError, match=r"wants credentials .*HTTP 401"):
        store(objects, archive_at(url))


def test_the_source_and_what_was_made_of_it_are_one_study_for_the_archive(
    server: OrthancServer, objects: list[Dataset], tmp_path: Path
) -> None:
    emptied(server)
    server.store(put(marked_gated_volume(short_axis(-6.4)), tmp_path / "source.dcm").read_bytes())
    require_stored(store(objects, archive_at(address(server, "STOW"))), archive_at(address(server, "STOW")))
    assert len(json.loads(server.request("/patients"))) == 1
    assert len(json.loads(server.request("/studies"))) == 1
    assert len(json.loads(server.request("/series"))) == 5


def test_nothing_of_a_patient_stands_in_an_error(objects: list[Dataset]) -> None:
    one = changed(objects[0], PatientName="QUIXOTE^ALONSO")
    with archive_that_answers(0xC000) as url:
        pacs = archive_at(url)
        with pytest.raises(PacsError) as caught:
            require_stored(store([one], pacs), pacs)
    assert "QUIXOTE" not in str(caught.value)
