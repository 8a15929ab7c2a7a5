"""From a real archive through the networks and back, and waiting for what is sent; bad studies among good ones."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from derived_builders import complaints
from doors import open_door, start_door
from nm_mutations import Origin, mutated, origins
from orthanc_server import OrthancServer, free_port, running_orthanc
from pydicom import dcmread
from pydicom.dataset import Dataset
from served_builders import put, study_image, threshold_networks, wall_points_mm
from test_predict_dicom import NEAR_MM, middle_mm

from mpi_unet.dicom.nm_modules import unique_id
from mpi_unet.inference.dicom_options import DicomOptions, Network
from mpi_unet.inference.options import Options
from mpi_unet.inference.serving import serve
from mpi_unet.sources.pacs.storing import archive_at, store

pytestmark = pytest.mark.long  # minutes: every test trains or talks to servers

pytest.importorskip("highdicom", reason="needs highdicom: pip install 'mpi_unet[dicom]'")
pytest.importorskip("pynetdicom", reason="needs pynetdicom: pip install 'mpi_unet[pacs]'")

FAST = ("pages=false", "num_workers=0")
QUICK = Options(measurements="volume", allow_other_domain=True, num_workers=0)
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TCP_NODELAY", "1")
        with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
            yield server


@pytest.fixture
def folder(little_run: Path, tmp_path: Path, server: OrthancServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    threshold_networks(monkeypatch)
    (tmp_path / "runs").symlink_to(little_run / "runs")
    for name in json.loads(server.request("/instances")):
        server.request(f"/instances/{name}", method="DELETE")
    return tmp_path


def address(server: OrthancServer) -> str:
    return f"dicom://{server.aet}@127.0.0.1:{server.dicom_port}"


def held(server: OrthancServer) -> list[Dataset]:
    names = json.loads(server.request("/instances"))
    return [dcmread(io.BytesIO(server.request(f"/instances/{name}/file"))) for name in names]


def push(server: OrthancServer, folder: Path, *images: Dataset) -> None:
    for number, image in enumerate(images):
        server.store(put(image, folder / "pushed" / f"{number}.dcm").read_bytes())


def bad_image(patient: int) -> Dataset:
    """A study in the archive whose pixels are cut short."""
    image = study_image(patient)
    image.PixelData = image.PixelData[:1000]
    return image


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["C-STORE", "STOW"])
def test_studies_of_an_archive_come_back_to_it_as_results(way, server, folder, monkeypatch, capfd):
    push(server, folder, study_image(1), study_image(2, negative=True), bad_image(3))
    back = address(server) if way == "C-STORE" else server.dicom_web_url
    words = [
        "run=runs/train",
        f"input={address(server)}",
        "output=out",
        "allow_other_domain=true",
        "pages=false",
        "num_workers=0",
    ]
    words += ["source=pacs", f"+source.dicom.key_file={folder / 'key'}", "+source.dicom.domain=transaxial"]
    words += ["dicom_out=[seg,sr,sc,pdf]", f"send={back}", "measurements=volume"]
    assert open_door("predict", *words, folder=folder, monkeypatch=monkeypatch) == 2
    assert "needs identity=: say source to send objects back" in capfd.readouterr().err
    words.append("identity=source")
    assert open_door("predict", *words, folder=folder, monkeypatch=monkeypatch) == 2
    assert "PredictionError: 1 of what was asked for was not segmented" in capfd.readouterr().err
    rows = rows_of(folder / "out/predictions.csv")
    assert sorted(row["status"] for row in rows) == ["failed", "segmented", "segmented"]
    assert {row["status"] for row in rows_of(folder / "out/dicom.csv")} == {"stored"}
    everything = held(server)
    kinds = sorted(one.Modality for one in everything)
    assert kinds == ["DOC", "DOC", "NM", "NM", "NM", "OT", "OT", "SEG", "SEG", "SR", "SR"]
    by_patient = {patient: f"ID-{7000 + patient}" for patient in (1, 2)}
    for patient, patient_id in by_patient.items():
        own = [one for one in everything if one.PatientID == patient_id]
        assert len({one.StudyInstanceUID for one in own}) == 1  # beside the image, in its study
        assert len({one.SeriesInstanceUID for one in own}) == 5
        for one in own:
            path = put(one, folder / "back" / f"{one.SOPInstanceUID}.dcm")
            if one.Modality != "NM":
                assert not complaints(path)
            if one.Modality == "SEG":
                assert np.abs(middle_mm(path, 1) - wall_points_mm(patient).mean(axis=0)).max() < NEAR_MM
    again = open_door("predict", *words, "accept_incomplete=true", folder=folder, monkeypatch=monkeypatch)
    assert (again, len(held(server))) == (0, len(everything))


def test_an_archive_that_is_gone_is_said_and_the_same_command_sends_later(server, folder, monkeypatch, capfd):
    monkeypatch.setattr("mpi_unet.sources.pacs.archive.FIRST_WAIT_S", 0.01)
    put(study_image(1), folder / "export/one")
    words = ["run=runs/train", "input=export", "output=out", "allow_other_domain=true", "measurements=volume"]
    words += [
        "source=dicom",
        f"source.key_file={folder / 'key'}",
        "source.domain=transaxial",
        "pages=false",
        "num_workers=0",
    ]
    words += ["dicom_out=[seg]", "identity=source"]
    gone = f"send=dicom://{server.aet}@127.0.0.1:{free_port()}"
    assert open_door("predict", *words, gone, folder=folder, monkeypatch=monkeypatch) == 2
    assert "the same command sends what is not sent yet" in capfd.readouterr().err
    assert len(list((folder / "out/dicom").glob("*/*.dcm"))) == 1
    assert open_door("predict", *words, f"send={address(server)}", folder=folder, monkeypatch=monkeypatch) == 0
    assert [one.Modality for one in held(server)] == ["SEG"]


def test_a_study_that_the_archive_has_lost_is_listed_and_the_others_are_segmented(little_run, tmp_path, monkeypatch):
    threshold_networks(monkeypatch)
    (tmp_path / "runs").symlink_to(little_run / "runs")
    with running_orthanc(tmp_path / "orthanc", MaximumStorageCacheSize=0) as server:
        push(server, tmp_path, study_image(1), study_image(2))
        found = json.loads(server.request("/tools/lookup", study_image(2).SOPInstanceUID.encode()))[0]["ID"]
        attachment = json.loads(server.request(f"/instances/{found}/attachments/dicom/info"))["Uuid"]
        (tmp_path / "orthanc/db" / attachment[:2] / attachment[2:4] / attachment).unlink()  # the disk lost it
        words = [
            "run=runs/train",
            f"input={address(server)}",
            "output=out",
            "allow_other_domain=true",
            "pages=false",
            "num_workers=0",
        ]
        words += ["source=pacs", "source.retries=0", f"+source.dicom.key_file={tmp_path / 'key'}"]
        words += ["+source.dicom.domain=transaxial", "measurements=volume"]
        assert open_door("predict", *words, folder=tmp_path, monkeypatch=monkeypatch) == 2
    found = {row["status"]: row for row in rows_of(tmp_path / "out/predictions.csv")}
    assert set(found) == {"segmented", "failed"}
    assert found["failed"]["study_id"].endswith("of retrieval.csv")


def test_what_is_sent_to_us_is_segmented_and_sent_back_and_a_bad_study_stops_nothing(server, folder):
    port, stop, said = free_port(), threading.Event(), []
    dicom = DicomOptions(
        kinds=("seg", "sr"),
        identity="source",
        send=address(server),
        serve=f"dicom://WORKER@127.0.0.1:{port}",
        network=Network(quiet_s=0.3),
    )
    source = {
        "_target_": "mpi_unet.sources.dicom.dicom_cohort",
        "key_file": folder / "key",
        "domain": "transaxial",
    }
    arguments = (folder / "runs/train", folder / "out", dicom)
    options = {"options": QUICK, "source": source, "pages": False, "say": said.append, "stop": stop}
    worker = threading.Thread(target=serve, args=arguments, kwargs=options)
    worker.start()
    try:
        wait_for(lambda: bool(said))
        images = [study_image(1), bad_image(3), study_image(2, negative=True)]
        sent = store(images, archive_at(f"dicom://WORKER@127.0.0.1:{port}"))
        assert not any(one.reason for one in sent)
        queue = folder / "out/queue"
        wait_for(lambda: len(list((queue / "done").iterdir())) + len(list((queue / "failed").iterdir())) == 3)
    finally:
        stop.set()
        worker.join(PATIENCE_S)
    assert not worker.is_alive()
    assert [len(list((queue / area).iterdir())) for area in ("incoming", "working", "done", "failed")] == [0, 0, 2, 1]
    (reason,) = (queue / "failed").glob("*/reason.txt")
    assert "cannot be read" in reason.read_text()
    assert sorted(one.Modality for one in held(server)) == ["SEG", "SEG", "SR", "SR"]
    assert {one.PatientID for one in held(server)} == {"ID-7001", "ID-7002"}
    assert len(list((folder / "out/results").iterdir())) == 3
    assert not any("ID-7" in text or "QUIXOTE" in text.upper() for text in said)


def test_a_process_that_serves_ends_when_it_is_told_to(little_run, tmp_path):
    (tmp_path / "runs").symlink_to(little_run / "runs")
    words = ["run=runs/train", f"serve=dicom://WORKER@127.0.0.1:{free_port()}", "output=out"]
    words += ["source=dicom", f"source.key_file={tmp_path / 'key'}"]
    process = start_door("predict", *words, folder=tmp_path)
    first = process.stdout.readline()
    assert first.startswith("listening as WORKER at port"), first + process.stdout.read()
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (0, "out")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["input=x"], "so there is no input= and no shard=; leave them out"),
        (["source=nifti"], "serve= takes DICOM images; use source=dicom"),
        (["serve=https://host/x"], "expected dicom://OUR_TITLE@host:port"),
    ],
)
def test_a_wrong_command_to_serve_gets_one_message(little_run, monkeypatch, capfd, words, said):
    given = ["run=runs/train", "output=out", "serve=dicom://A@127.0.0.1:11112"]
    assert open_door("predict", *given, *words, folder=little_run, monkeypatch=monkeypatch) == 2
    assert said in capfd.readouterr().err


def with_own_identifier(origin: Origin, number: int) -> Origin:
    """The file as another image: files that share an identifier and differ in their pixels stop the whole folder."""
    dataset, buffer = dcmread(io.BytesIO(origin.content), force=True), io.BytesIO()
    dataset.SOPInstanceUID = unique_id("damaged", str(number))
    dataset.save_as(buffer, enforce_file_format=False)
    return Origin(origin.name, buffer.getvalue())


def test_of_a_folder_of_damaged_files_each_has_its_row(little_run, tmp_path, monkeypatch, caplog):
    threshold_networks(monkeypatch)
    rng = np.random.default_rng(0)
    (tmp_path / "runs").symlink_to(little_run / "runs")
    put(study_image(1), tmp_path / "export/good")
    (tmp_path / "whole").mkdir()
    whole = origins(tmp_path / "whole", None)
    for number in range(60):
        _, content = mutated(with_own_identifier(whole[number % len(whole)], number), rng)
        (tmp_path / "export" / f"damaged{number}").write_bytes(content)
    words = ["run=runs/train", "input=export", "output=out", "allow_other_domain=true", "measurements=volume"]
    words += [
        "source=dicom",
        f"source.key_file={tmp_path / 'key'}",
        "source.domain=transaxial",
        "pages=false",
        "num_workers=0",
    ]
    words += ["dicom_out=[seg,sr]", "accept_incomplete=true", "source.allow_unknown_geometry=true"]
    caplog.clear()  # of what pydicom said while the files were damaged
    assert open_door("predict", *words, folder=tmp_path, monkeypatch=monkeypatch) == 0
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]  # it quotes headers
    files = rows_of(tmp_path / "out/cohort_private/files.csv")
    rows = rows_of(tmp_path / "out/predictions.csv")
    taken = [row["taken"] for row in files if row["taken"]]
    assert len(files) == 61
    by_line = {f"line {line} of files.csv" for line, row in enumerate(files, start=2) if not row["taken"]}
    assert {row["study_id"] for row in rows} == by_line | set(taken)
    assert all(row["reason"] for row in rows if row["status"] != "segmented")
    assert {row["study"] for row in rows_of(tmp_path / "out/dicom.csv")} == set(taken)
