"""A queue that is sent to by programs that are not ours, and a worker that nothing stops."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nm_builders import changed, marked_volume, short_axis, write
from pydicom.dataset import Dataset

from mpi_unet.dicom.nm import read_nm
from mpi_unet.errors import BusyError, ConfigError, DicomError, PacsError
from mpi_unet.sources.pacs.access import OurSide
from mpi_unet.sources.pacs.listener import Queue, listening, work_through
from mpi_unet.sources.pacs.storing import archive_at, store

pytest.importorskip("pynetdicom", reason="needs pynetdicom: pip install 'mpi_unet[pacs]'")

OURS = OurSide("LISTENER", "127.0.0.1")
PATIENCE_S = 30.0


def study(number: int) -> Dataset:
    return changed(
        marked_volume(short_axis()),
        StudyInstanceUID=f"1.2.3.{number}",
        SOPInstanceUID=f"1.2.3.{number}.1",
        PatientName="QUIXOTE^ALONSO",
    )


@contextmanager
def worker(queue: Queue, work: Callable[[Path], None], said: list[str]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=work_through, args=(queue, work), kwargs={"stop": stop, "say": said.append})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def send_with_storescu(port: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """pynetdicom's own program, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "pynetdicom",
        "storescu",
        "-aec",
        OURS.aet,
        "-r",
        "127.0.0.1",
        str(port),
        str(folder),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_studies_that_are_sent_are_worked_on_and_a_bad_one_stops_no_other(tmp_path: Path) -> None:
    seen: list[str] = []

    def work(folder: Path) -> None:
        (path,) = folder.glob("*.dcm")
        seen.append(str(read_nm(path).header.study_uid))
        if folder.name == "1.2.3.2":
            raise DicomError("this study has no place")
        if folder.name == "1.2.3.3":
            raise ZeroDivisionError("a fault of ours")

    said: list[str] = []
    (tmp_path / "to send").mkdir()
    for number in range(1, 6):
        write(study(number), tmp_path / "to send" / f"{number}.dcm")
    with (
        Queue.entered(tmp_path / "queue", quiet_s=0.2) as queue,
        listening(queue, OURS) as port,
        worker(queue, work, said),
    ):
        sent = send_with_storescu(port, tmp_path / "to send")
        assert sent.returncode == 0, sent.stderr
        wait_for(lambda: len(said) == 5)
    assert sorted(seen) == [f"1.2.3.{number}" for number in range(1, 6)]
    assert {path.name for path in (tmp_path / "queue" / "done").iterdir()} == {"1.2.3.1", "1.2.3.4", "1.2.3.5"}
    failed = tmp_path / "queue" / "failed"
    assert (failed / "1.2.3.2" / "reason.txt").read_text() == "this study has no place\n"
    assert "ZeroDivisionError: a fault of ours" in (failed / "1.2.3.3" / "reason.txt").read_text()
    assert sorted(said)[0].startswith("study 1: ")
    assert not any("1.2.3" in text or "QUIXOTE" in text for text in said)


def test_dcmtk_can_send_compressed(tmp_path: Path) -> None:
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("needs storescu: apt-get install dcmtk")
    path = write(study(1), tmp_path / "packed.dcm", "RLE")
    with Queue.entered(tmp_path / "queue", quiet_s=0) as queue, listening(queue, OURS) as port:
        command = [program, "-xr", "-aec", OURS.aet, "127.0.0.1", str(port), str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        folder = queue.take()
        assert folder is not None
        assert (read_nm(folder / "1.2.3.1.1.dcm").values == read_nm(path).values).all()


def test_what_is_received_is_the_object_bit_for_bit(tmp_path: Path) -> None:
    image = study(1)
    with Queue.entered(tmp_path / "queue", quiet_s=0) as queue, listening(queue, OURS) as port:
        assert store([image], archive_at(f"dicom://{OURS.aet}@127.0.0.1:{port}"))[0].reason == ""
        folder = queue.take()
        assert folder is not None
        assert read_nm(folder / "1.2.3.1.1.dcm").values.tobytes() == read_nm(image).values.tobytes()


def test_only_nuclear_medicine_is_taken(tmp_path: Path) -> None:
    """What we made, an archive may forward to everybody; it must not become new work."""
    segmentation = changed(study(1), SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    with Queue.entered(tmp_path / "queue", quiet_s=0) as queue, listening(queue, OURS) as port:
        outcomes = store([segmentation, study(2)], archive_at(f"dicom://{OURS.aet}@127.0.0.1:{port}"))
        assert "takes no objects of the kind Segmentation Storage" in outcomes[0].reason
        assert [path.name for path in (tmp_path / "queue" / "incoming").iterdir()] == ["1.2.3.2"]


def test_a_caller_that_is_not_listed_is_turned_away(tmp_path: Path) -> None:
    from mpi_unet.errors import PacsError

    with Queue.entered(tmp_path / "queue") as queue, listening(queue, OURS, callers=["CAMERA"]) as port:
        url = f"dicom://{OURS.aet}@127.0.0.1:{port}"
        with pytest.raises(PacsError, match="does not know us"):
            store([study(1)], archive_at(url, our_aet="STRANGER"))
        assert store([study(1)], archive_at(url, our_aet="CAMERA"))[0].reason == ""


def test_a_name_that_is_no_identifier_never_becomes_a_path(tmp_path: Path) -> None:
    with Queue.entered(tmp_path / "queue") as queue:
        for study_uid, uid in (("../..", "1.2"), ("1.2", "../../x"), ("1" * 65, "1.2"), ("", "1.2")):
            with pytest.raises(ValueError, match="is no UID"):
                queue.receive(study_uid, uid, b"content")
        with listening(queue, OURS) as port:
            bad = changed(study(1), StudyInstanceUID="")
            (outcome,) = store([bad], archive_at(f"dicom://{OURS.aet}@127.0.0.1:{port}"))
            assert "(status 0xC000)" in outcome.reason
    assert sorted(path.name for path in (tmp_path / "queue" / "incoming").iterdir()) == []


def test_a_full_disk_is_told_to_the_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Queue.entered(tmp_path / "queue") as queue, listening(queue, OURS) as port:

        def full(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("mpi_unet.files.tempfile.mkstemp", full)
        (outcome,) = store([study(1)], archive_at(f"dicom://{OURS.aet}@127.0.0.1:{port}"))
    assert "is its disk full?" in outcome.reason


def test_a_study_is_taken_when_nothing_more_comes(tmp_path: Path) -> None:
    with Queue.entered(tmp_path / "queue", quiet_s=30) as queue:
        queue.receive("1.2", "1.2.1", b"a")
        queue.receive("1.3", "1.3.1", b"a")
        times = {"1.2/1.2.1": 100.0, "1.3/1.3.1": 110.0}
        for name, moment in times.items():
            os.utime(tmp_path / "queue" / "incoming" / f"{name}.dcm", (moment, moment))
        assert queue.take(now=129.0) is None
        first = queue.take(now=141.0)
        assert first is not None
        assert first.name == "1.2"
        queue.receive("1.2", "1.2.2", b"late")
        queue.finish(first)
        second = queue.take(now=141.0)
        assert second is not None
        assert second.name == "1.3"
        os.utime(tmp_path / "queue" / "incoming" / "1.2" / "1.2.2.dcm", (1.0, 1.0))
        late = queue.take(now=141.0)
        assert late is not None
        assert sorted(path.name for path in queue.finish(late).iterdir()) == ["1.2.1.dcm", "1.2.2.dcm"]


def test_after_a_crash_a_study_is_tried_once_more_and_then_set_aside(tmp_path: Path) -> None:
    with Queue.entered(tmp_path / "queue", quiet_s=0) as queue:
        queue.receive("1.2", "1.2.1", b"a")
        assert queue.take() is not None  # and here the process ends
        (tmp_path / "queue" / "incoming" / "1.3").mkdir()
        (tmp_path / "queue" / "incoming" / "1.3" / ".part-x.dcm").write_bytes(b"half")
    with Queue.entered(tmp_path / "queue", quiet_s=0) as queue:
        assert not list(tmp_path.rglob(".part-*"))
        again = queue.take()
        assert again is not None
        assert again.name == "1.2"
    with Queue.entered(tmp_path / "queue", quiet_s=0) as queue:
        assert queue.take() is None
        assert queue.num_studies("failed") == 1
    assert "ended twice" in (tmp_path / "queue" / "failed" / "1.2" / "reason.txt").read_text()


def test_a_study_that_an_archive_did_not_take_waits_longer_each_time_and_a_week_at_most(tmp_path: Path) -> None:
    with Queue.entered(tmp_path / "queue", quiet_s=0) as queue:
        queue.receive("1.2", "1.2.1", b"a")
        now, waits = time.time() + 1, []
        while (study := queue.take(now=now)) is not None:
            wait_s = queue.postpone(study, now)
            if wait_s is None:
                break
            waits.append(wait_s)
            assert queue.take(now=now + wait_s - 1) is None
            now += wait_s
        assert waits[:8] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
        assert 7 * 24 * 3600 < sum(waits) < 7 * 24 * 3600 + 2 * 3600
        assert study is not None
        assert [path.name for path in queue.finish(study, "nobody answers").iterdir() if path.name[0] == "."] == []
        assert queue.num_studies("failed") == 1


def test_what_could_not_be_sent_is_tried_again_without_anybody_moving_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mpi_unet.sources.pacs.listener.FIRST_WAIT_S", 0.1)
    said: list[str] = []
    tries: list[str] = []

    def work(study: Path) -> None:
        tries.append(study.name)
        if len(tries) < 3:
            raise PacsError("the archive does not answer")

    with Queue.entered(tmp_path / "queue", quiet_s=0) as queue, worker(queue, work, said):
        queue.receive("1.2", "1.2.1", b"a")
        wait_for(lambda: queue.num_studies("done") == 1)
    assert tries == ["1.2"] * 3
    assert said[:2] == [f"study {number}: its results could not be sent, tried again in 0 min" for number in (1, 2)]


def test_a_queue_belongs_to_one_process_and_to_one_person(tmp_path: Path) -> None:
    with Queue.entered(tmp_path / "queue"):
        assert (tmp_path / "queue").stat().st_mode & 0o077 == 0
        with (
            pytest.raises(BusyError, match="is worked on by another process; wait for it"),
            Queue.entered(tmp_path / "queue"),
        ):
            pass


def test_options_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"quiet_s=-1; expected 0 or more"), Queue.entered(tmp_path, quiet_s=-1):
        pass
    with Queue.entered(tmp_path / "queue") as queue, listening(queue, OURS) as port:
        taken = OurSide("OTHER", "127.0.0.1", port)
        with pytest.raises(ConfigError, match=rf"port {port} cannot be used .*another port"), listening(queue, taken):
            pass
