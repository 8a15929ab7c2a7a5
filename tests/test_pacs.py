"""A real PACS: fifty studies pushed, queried, retrieved in three ways and prepared; interrupted, and gone on with."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from doors import CHECKOUT
from orthanc_server import OrthancServer
from pacs_builders import ID, NUM_STUDIES, dimse_address, encoded, retrieved, running_pacs, studies, uids, wanted
from pydicom import dcmread

from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import BusyError, PacsError
from mpi_unet.sources.pacs import pacs_cohort
from mpi_unet.sources.pacs.archive import FoundObject
from mpi_unet.sources.pacs.dicomweb import WebPacs
from mpi_unet.sources.pacs.retrieval import Retrieval

WAYS = ("C-GET", "C-MOVE", "DICOMweb")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with running_pacs(tmp_path_factory.mktemp("orthanc"), studies()) as running:
        yield running


@pytest.fixture
def key(tmp_path: Path) -> dict[str, str]:
    return {"key_file": str(tmp_path / "pseudonyms.key")}


def options(server: OrthancServer, way: str) -> dict[str, object]:
    if way == "DICOMweb":
        return {"input": server.dicom_web_url}
    if way == "C-MOVE":
        move = {"retrieve": "move", "listen_port": server.our_port, "listen_host": "127.0.0.1"}
        return {"input": dimse_address(server)} | move
    return {"input": dimse_address(server), "retrieve": "get"}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """SOP Instance UIDs of all objects that came over the network."""
    came: list[str] = []
    write = Retrieval.write

    def counted(self: Retrieval, found: FoundObject, content: bytes) -> None:
        write(self, found, content)
        came.append(found.uid)

    monkeypatch.setattr(Retrieval, "write", counted)
    return came


# --- The round trip ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_fifty_studies_come_whole_and_become_a_cohort(server, key, tmp_path, written, capfd, caplog, way):
    caplog.set_level("DEBUG")
    expected = wanted(studies())
    made = pacs_cohort(output=tmp_path / "cohort", dicom=key, **options(server, way))
    cohort = Cohort.open(made)
    assert (len(cohort.cases), len(cohort.patients)) == (NUM_STUDIES, NUM_STUDIES // 2)
    assert Counter(case.acquisition for case in cohort.cases) == {"rest": 25, "stress": 25}

    files = retrieved(tmp_path / "cohort")
    assert sorted(uids(files)) == sorted(expected)  # each once, and nothing that was not asked for
    assert sorted(written) == sorted(expected)
    for path in files:
        came, sent = dcmread(path), expected[path.name.removesuffix(".dcm")]
        assert path.parent.name == came.StudyInstanceUID == sent.StudyInstanceUID
        np.testing.assert_array_equal(came.pixel_array, np.frombuffer(sent.PixelData, "<u2").reshape(4, 8, 8))

    account = json.loads((made / "preparation.json").read_text())
    assert account["source"] == "pacs"
    assert account["left_in_pacs"] == {"object of the kind STATIC": 50, "series of another modality than NM": 25}
    assert account["studies_not_retrieved"] == 0

    said = capfd.readouterr()
    everywhere = said.out + said.err + caplog.text
    assert "20240108" not in everywhere
    everywhere += "".join((made / name).read_text() for name in ("cohort.json", "cases.csv", "preparation.json"))
    for secret in ("QUIXOTE", ID, files[0].name.removesuffix(".dcm"), files[0].parent.name):
        assert secret not in everywhere


@pytest.mark.parametrize("way", WAYS)
def test_second_command_fetches_nothing(server, key, tmp_path, written, way):
    made = pacs_cohort(output=tmp_path / "cohort", dicom=key, limit=5, **options(server, way))
    first, there = list(written), (made / "cases.csv").read_bytes()
    assert len(first) == 5
    assert pacs_cohort(output=tmp_path / "cohort", dicom=key, limit=5, **options(server, way)) == made
    assert written == first
    assert (made / "cases.csv").read_bytes() == there


def test_private_folder_is_for_its_owner_only(server, key, tmp_path):
    pacs_cohort(output=tmp_path / "cohort", dicom=key, limit=1, **options(server, "DICOMweb"))
    assert stat.S_IMODE((tmp_path / "cohort_private").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "cohort_private/retrieval.csv").stat().st_mode) == 0o600


# --- Choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["C-GET", "DICOMweb"])
@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"since": "2024-01-08", "until": "2024-01-22"}, {1, 2, 3}),  # both days included
        ({"until": "20240101"}, {0}),
        ({"since": 20241201}, {48, 49}),
        ({"exclude": "bone", "limit": 5}, {0, 1, 2, 3, 5}),
        ({"include": "^bone", "until": "2024-03-31"}, {4, 9}),
        ({"include": "^stress sa$", "until": "2024-01-31"}, {1, 3}),  # of the series
    ],
)
def test_queries_choose_studies(server, tmp_path, query, numbers, way):
    listing = pacs_cohort(output=tmp_path / "cohort", list_only=True, **query, **options(server, way))
    with open(listing, newline="") as lines:
        chosen = {row["sop_uid"] for row in csv.DictReader(lines)} - {""}
    assert chosen == set(wanted(studies(sorted(numbers))))
    assert not retrieved(tmp_path / "cohort")
    assert not (tmp_path / "cohort").exists()


@pytest.mark.parametrize("way", ["C-GET", "DICOMweb"])
def test_patients_of_a_list(server, tmp_path, way):
    (tmp_path / "patients.txt").write_text(f"{ID}-03\n\n{ID}-07 \nnobody\n")
    query = {"patients": tmp_path / "patients.txt", "list_only": True}
    listing = pacs_cohort(output=tmp_path / "cohort", **query, **options(server, way))
    with open(listing, newline="") as lines:
        chosen = {row["sop_uid"] for row in csv.DictReader(lines)} - {""}
    assert chosen == set(wanted(studies((6, 7, 14, 15))))


@pytest.mark.parametrize("way", ["C-GET", "DICOMweb"])
def test_kinds_are_chosen_before_anything_is_fetched(server, key, tmp_path, written, way):
    query = {"kinds": ["STATIC"], "min_frames": 1, "limit": 2}
    with pytest.raises(Exception, match="can become a case"):  # a static view is no tomogram
        pacs_cohort(output=tmp_path / "cohort", dicom=key, **query, **options(server, way))
    assert {dcmread(path).ImageType[2] for path in retrieved(tmp_path / "cohort")} == {"STATIC"}


def test_list_counts_and_names_nobody(server, tmp_path, capfd):
    pacs_cohort(output=tmp_path / "cohort", list_only=True, **options(server, "DICOMweb"))
    said = capfd.readouterr().err
    assert "SPECT MPI Myocardial Perfusion" in said
    assert "50 (object of the kind STATIC)" in said
    assert ID not in said
    assert "2024" not in said


def test_rare_descriptions_are_not_shown(server, tmp_path, capfd):
    pacs_cohort(output=tmp_path / "cohort", list_only=True, limit=2, **options(server, "DICOMweb"))
    said = capfd.readouterr().err
    assert "(other descriptions)" in said
    assert "Myocardial" not in said


# --- Interrupted ------------------------------------------------------------------------------------------------------


SCRIPT = """
import sys
from mpi_unet.sources.pacs import pacs_cohort
pacs_cohort(sys.argv[1], sys.argv[2], retrieve="get", dicom={"key_file": sys.argv[3]})
"""


@pytest.mark.parametrize("way", ["C-GET", "DICOMweb"])
def test_killed_in_the_middle_and_gone_on_with(server, key, tmp_path, written, way):
    output, address = tmp_path / "cohort", str(options(server, way)["input"])
    command = [sys.executable, "-c", SCRIPT, address, str(output), key["key_file"]]
    process = subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(retrieved(output)) + len(retrieved(output, "incoming")) < 10:
        assert process.poll() is None, "it was done before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    before = {uid for uid in uids(retrieved(output) + retrieved(output, "incoming")) if not uid.startswith(".")}
    assert 5 <= len(before) < NUM_STUDIES
    assert not output.exists()

    made = pacs_cohort(output=output, dicom=key, **options(server, way))
    expected = wanted(studies())
    assert sorted(uids(retrieved(output))) == sorted(expected)  # no gap, no duplicate
    assert retrieved(output, "incoming") == []
    assert sorted([*written, *before]) == sorted(expected)  # nothing came twice
    assert len(Cohort.open(made).cases) == NUM_STUDIES


def test_what_was_damaged_or_half_written_comes_again(server, key, tmp_path, written):
    output = tmp_path / "cohort"
    pacs_cohort(output=output, dicom=key, limit=4, **options(server, "DICOMweb"))
    damaged, swapped, gone, kept = retrieved(output)
    damaged.write_bytes(damaged.read_bytes()[:100])
    swapped.write_bytes(kept.read_bytes())
    gone.unlink()
    (kept.parent / ".part-abc.dcm").write_bytes(b"half")
    written.clear()
    pacs_cohort(output=output, dicom=key, limit=4, **options(server, "DICOMweb"))
    assert sorted(written) == sorted(uids([damaged, swapped, gone]))
    assert retrieved(output) == sorted([damaged, swapped, gone, kept])


def test_narrower_query_sets_aside_and_a_wider_one_brings_back(server, key, tmp_path, written):
    output = tmp_path / "cohort"
    for limit, cases in ((4, 4), (2, 2), (4, 4)):
        made = pacs_cohort(output=output, dicom=key, limit=limit, **options(server, "DICOMweb"))
        assert len(Cohort.open(made).cases) == cases == len(retrieved(output))
        assert len(retrieved(output, "set_aside")) == 4 - cases
    assert len(written) == 4  # each came once


def test_two_commands_do_not_retrieve_to_one_place(tmp_path):
    with (
        Retrieval.entered(tmp_path / "cohort"),
        pytest.raises(BusyError, match="being retrieved to by another process; wait for it, or choose another output"),
        Retrieval.entered(tmp_path / "cohort"),
    ):
        pass


# --- A study that cannot be had ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["C-GET", "DICOMweb"])
def test_one_lost_study_does_not_stop_the_others(key, tmp_path, way):
    objects = studies((0, 1, 2, 3))
    with running_pacs(tmp_path / "orthanc", objects, MaximumStorageCacheSize=0) as server:
        lost = str(wanted(studies((1,))).popitem()[0])
        found = json.loads(server.request("/tools/lookup", lost.encode()))[0]["ID"]
        attachment = json.loads(server.request(f"/instances/{found}/attachments/dicom/info"))["Uuid"]
        (tmp_path / "orthanc/db" / attachment[:2] / attachment[2:4] / attachment).unlink()  # the disk lost it
        arguments = {"output": tmp_path / "cohort", "dicom": key, "retries": 0} | options(server, way)
        with pytest.raises(PacsError, match="1 of 4 studies could not be retrieved") as error:
            pacs_cohort(**arguments)
        assert "study 2: " in str(error.value)
        assert "The cohort of the other 3 is" in str(error.value)
        assert "Give the same command again" in str(error.value)
        assert lost not in str(error.value)
        account = json.loads((tmp_path / "cohort/preparation.json").read_text())
        assert (account["cases"], account["studies_not_retrieved"]) == (3, 1)
        with open(tmp_path / "cohort_private/retrieval.csv", newline="") as lines:
            states = {row["study"]: row["state"] for row in csv.DictReader(lines)}
        assert [number for number, state in states.items() if state != "chosen"] == ["2"]

        server.request(f"/instances/{found}", method="DELETE")  # and the administrator brings it back
        server.store(encoded(wanted(objects)[lost]))
        assert len(Cohort.open(pacs_cohort(**arguments)).cases) == 4


def test_objects_that_do_not_come_are_missed(server, key, tmp_path, monkeypatch):
    lost = next(iter(wanted(studies((2,)))))
    fetch = WebPacs.fetch
    monkeypatch.setattr(
        WebPacs, "fetch", lambda self, objects, receive: fetch(self, [o for o in objects if o.uid != lost], receive)
    )
    arguments = {"output": tmp_path / "cohort", "dicom": key, "limit": 4} | options(server, "DICOMweb")
    with pytest.raises(PacsError, match=r"study 3: 1 of 1 objects did not come, though the PACS lists them; its admin"):
        pacs_cohort(**arguments)
    with open(tmp_path / "cohort_private/retrieval.csv", newline="") as lines:
        assert [row["sop_uid"] for row in csv.DictReader(lines) if row["state"] == "missing"] == [lost]
    monkeypatch.undo()
    assert len(Cohort.open(pacs_cohort(**arguments)).cases) == 4


def test_objects_that_are_not_what_was_asked_for_are_refused(server, key, tmp_path, monkeypatch):
    other = encoded(studies((9,))[0])
    monkeypatch.setattr(WebPacs, "fetch", lambda self, objects, receive: receive(objects[0].uid, other))
    with pytest.raises(PacsError, match=r"sent an object that has another SOPInstanceUID and StudyInstanceUID than it"):
        pacs_cohort(output=tmp_path / "cohort", dicom=key, limit=1, **options(server, "DICOMweb"))
    assert retrieved(tmp_path / "cohort") == retrieved(tmp_path / "cohort", "incoming") == []


def test_the_door(server, key, tmp_path):
    """From the command line, with the keys of conf/source/pacs.yaml: what would come, and then the cohort."""
    door = [sys.executable, "-m", "mpi_unet.prepare", "source=pacs", f"input={dimse_address(server)}", "source.limit=2"]
    door += [f"output={tmp_path / 'cohort'}", f"+source.dicom.key_file={key['key_file']}"]
    for more, last in ((["source.list_only=true"], "cohort_private/listing.csv"), ([], "cohort")):
        done = subprocess.run([*door, *more], cwd=CHECKOUT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == str(tmp_path / last)
        assert ID not in done.stdout + done.stderr
    assert len(Cohort.open(tmp_path / "cohort").cases) == 2
