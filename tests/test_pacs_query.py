"""What is wanted of a PACS, and its address: options, days, patterns, secrets; no network."""

from __future__ import annotations

import datetime
import logging
import re
from pathlib import Path

import pytest

from mpi_unet.errors import ConfigError, PacsError
from mpi_unet.sources.pacs.access import OurSide, Secrets, TlsFiles, parse_address, quiet, secrets_for
from mpi_unet.sources.pacs.archive import FaultError, FoundObject, FoundSeries, FoundStudy, Pacs, persistently
from mpi_unet.sources.pacs.dicomweb import WebPacs
from mpi_unet.sources.pacs.dimse import DimsePacs
from mpi_unet.sources.pacs.query import TOMOGRAPHIC, Query

SECRET = "swordfish-1234"


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MPI_UNET_PACS_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def query(**options: object) -> Query:
    usual = {"since": None, "until": None, "modality": "NM", "include": None, "exclude": None}
    return Query.of_options(
        **(usual | {"kinds": TOMOGRAPHIC, "min_frames": 2, "patients": None, "limit": None} | options)
    )


def study(**facts: object) -> FoundStudy:
    return FoundStudy(**({"uid": "1.2", "date": "20240131", "description": "SPECT MPI", "patient_id": "P1"} | facts))


# --- Options ----------------------------------------------------------------------------------------------------------


def test_all_wrong_options_are_said_at_once():
    with pytest.raises(ConfigError, match="options of source=pacs cannot be used") as error:
        query(since="yesterday", modality="nm", include="(", kinds=["RECON TOMOO"], min_frames=0, limit=0)
    text = str(error.value)
    assert "source.since=yesterday; expected a day as 2024-01-31" in text
    assert "source.modality='nm'; expected DICOM's two letters" in text
    assert "source.include='(' is no regular expression" in text
    assert "source.kinds: 'RECON TOMOO' is no kind of image" in text
    assert "did you mean 'RECON TOMO'?" in text
    assert "source.min_frames=0; expected at least 1" in text
    assert "source.limit=0" in text


@pytest.mark.parametrize("day", ["2024-02-30", "20241301", "31.01.2024", 2024])
def test_days_that_are_none(day):
    with pytest.raises(ConfigError, match=f"source.until={re.escape(str(day))}; expected a day as 2024-01-31, or null"):
        query(until=day)


def test_days_in_the_wrong_order():
    with pytest.raises(ConfigError, match=r"source.since=20240201 is after source.until=20240131; .*earlier day first"):
        query(since="2024-02-01", until="2024-01-31")


def test_windows_cover_every_day_once():
    asked = query(since="2023-11-20", until="2024-03-01")
    days = [
        datetime.datetime.strptime(first, "%Y%m%d") + datetime.timedelta(days=i)
        for first, last in asked.windows()
        for i in range(
            (datetime.datetime.strptime(last, "%Y%m%d") - datetime.datetime.strptime(first, "%Y%m%d")).days + 1
        )
    ]
    assert len(days) == len(set(days)) == 103  # 11 of November, 31, 31, 29 and 1
    assert min(days) == datetime.datetime(2023, 11, 20)
    assert max(days) == datetime.datetime(2024, 3, 1)


def test_open_windows():
    assert list(query().windows()) == [("", "")]
    assert list(query(until="20240131").windows()) == [("", "20240131")]
    today = datetime.date(2024, 1, 31)
    assert list(query(since="20240131").windows(today)) == [("20240131", "20240131"), ("20240201", "")]
    assert list(query(since="20250101").windows(today)) == [("20250101", "")]


def test_patients_come_from_a_file(tmp_path):
    (tmp_path / "ids.txt").write_text("\ufeffP1\r\n\r\nP 2\nP1\n")
    assert query(patients=tmp_path / "ids.txt").patients == ("P1", "P 2")


def test_patient_files_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match=r"source.patients=.*nowhere cannot be read \(No such file or directory\)"):
        query(patients=tmp_path / "nowhere")
    (tmp_path / "ids.txt").write_text("P1\nSMITH*\nP?\n")
    with pytest.raises(ConfigError, match=r"line 2, 3 holds \* \? .*expected one PatientID on each line") as error:
        query(patients=tmp_path / "ids.txt")
    assert "SMITH" not in str(error.value)
    (tmp_path / "ids.txt").write_text("\n")
    with pytest.raises(ConfigError, match="holds no id; expected one PatientID on each line, or null for all"):
        query(patients=tmp_path / "ids.txt")
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is no text in UTF-8"):
        query(patients=tmp_path / "ids.txt")


# --- Choosing on our side ---------------------------------------------------------------------------------------------


def test_servers_that_ignore_half_of_the_question():
    asked = query(since="20240101", until="20240131")
    assert asked.wants_study(study())
    assert not asked.wants_study(study(date="20240201"))
    assert not asked.wants_study(study(date=""))
    assert not asked.wants_study(study(modalities=("CT", "SR")))
    assert asked.wants_study(study(modalities=("CT", "NM")))
    assert query().wants_study(study(date=""))


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, ""),
        ({"include": "mpi"}, ""),
        ({"include": "^rest"}, ""),
        ({"include": "bone"}, "description does not match source.include"),
        ({"exclude": "stress|rest"}, "description matches source.exclude"),
        ({"modality": "PT"}, "series of another modality than PT"),
    ],
)
def test_descriptions_of_study_and_series(options, left):
    assert query(**options).why_not_series(study(), FoundSeries("1.3", "NM", "Rest SA")) == left


def test_what_is_not_said_speaks_for_an_object():
    def why_not(**facts: object) -> str:
        return query(kinds=["RECON TOMO"]).why_not_object(FoundObject("1.4", "1.3", "1.2", **facts))

    assert why_not() == why_not(kind="RECON TOMO", num_frames=2) == ""
    assert why_not(kind="STATIC") == "object of the kind STATIC"
    assert why_not(kind="DOE^JOHN") == "object of the kind unknown in nuclear medicine"  # never what a server sends
    assert why_not(kind="RECON TOMO", num_frames=1) == "object of fewer than 2 frames"


# --- Addresses and secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "pacs", "dicom://host:104", "dicom://A@", "ftp://A@host", "dicom://A@host:99999", "dicom://A@h/x", "http://"],
)
def test_addresses_that_are_none(text):
    with pytest.raises(ConfigError, match=r"expected dicom://AET@host:port, dicoms://.*https://host/path"):
        parse_address(text)


@pytest.mark.parametrize(
    "text", [f"https://me:{SECRET}@host/dicom-web", f"dicom://A:{SECRET}@host", "https://me@host/"]
)
def test_secrets_in_an_address_are_refused_and_not_repeated(text):
    with pytest.raises(ConfigError, match=r"input holds a name or password.* set MPI_UNET_PACS_USER") as error:
        parse_address(text)
    assert SECRET not in str(error.value)


def test_addresses():
    assert parse_address("dicom://MY PACS@pacs").port == 104
    assert parse_address("dicoms://A@pacs:2762").is_encrypted
    assert str(parse_address("dicom://A@pacs:11112")) == "dicom://A@pacs:11112"
    assert parse_address("https://pacs/x").port == 443
    for host, loopback in (("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("10.0.0.1", False)):
        assert parse_address(f"http://{host}/x").is_loopback is loopback


def test_secrets_come_from_the_environment(monkeypatch):
    address = parse_address("https://pacs/x")
    assert not secrets_for(address)
    monkeypatch.setenv("MPI_UNET_PACS_USER", "me")
    with pytest.raises(ConfigError, match="USER is set in the environment and MPI_UNET_PACS_PASSWORD is not"):
        secrets_for(address)
    monkeypatch.setenv("MPI_UNET_PACS_PASSWORD", SECRET)
    secrets = secrets_for(address)
    assert (secrets.user, secrets.password) == ("me", SECRET)
    assert SECRET not in repr(secrets)
    monkeypatch.setenv("MPI_UNET_PACS_TOKEN", SECRET)
    with pytest.raises(ConfigError, match="are both set in the environment; set what your PACS wants"):
        secrets_for(address)


def test_secrets_come_from_netrc(monkeypatch, tmp_path):
    file = tmp_path / "netrc"
    file.write_text(f"machine pacs login me password {SECRET}\ndefault login all password wrong\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert secrets_for(parse_address("https://pacs/x")).password == SECRET
    assert not secrets_for(parse_address("https://other/x"))
    file.write_text(f"machine pacs nonsense {SECRET}\n")
    with pytest.raises(ConfigError, match="the netrc file cannot be used") as error:
        secrets_for(parse_address("https://pacs/x"))
    assert SECRET not in str(error.value)


def test_no_password_in_the_clear(monkeypatch):
    monkeypatch.setenv("MPI_UNET_PACS_TOKEN", SECRET)
    with pytest.raises(ConfigError, match=r"http://pacs/x is not encrypted, .* use the https:// address") as error:
        secrets_for(parse_address("http://pacs/x"))
    assert SECRET not in str(error.value)
    assert secrets_for(parse_address("http://localhost:8042/x"))


def test_certificates_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match=r"source.ca_file=.*nowhere is no file; expected a certificate"):
        TlsFiles(ca_file=tmp_path / "nowhere")
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"cannot be used .*in PEM form"):
        TlsFiles(ca_file=tmp_path / "ca.pem").context()
    with pytest.raises(ConfigError, match="belong together; give both or neither"):
        TlsFiles(certificate=tmp_path / "ca.pem")


def test_our_side():
    with pytest.raises(ConfigError, match=r"source.our_aet='.*'; expected 1 to 16 characters"):
        OurSide("A_TITLE_THAT_IS_TOO_LONG")
    with pytest.raises(ConfigError, match=r"source.listen_port=0; expected a port from 1 to 65535, or null"):
        OurSide("A", listen_port=0)
    with pytest.raises(ConfigError, match=r"source.retrieve=move needs a port .* give source.listen_port=<port>"):
        DimsePacs(parse_address("dicom://A@host"), OurSide("B"), way="move")
    with pytest.raises(ConfigError, match=r"source.retrieve=c-get; expected auto, get, move"):
        DimsePacs(parse_address("dicom://A@host"), OurSide("B"), way="c-get")


def test_missing_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("mpi_unet.sources.pacs.dimse.find_spec", lambda name: None)
    monkeypatch.setattr("mpi_unet.sources.pacs.dicomweb.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs pynetdicom, .*pip install 'mpi-unet\[pacs\]'"):
        DimsePacs(parse_address("dicom://A@host"), OurSide("B"))
    with pytest.raises(ConfigError, match=r"needs dicomweb-client, .*pip install 'mpi-unet\[pacs\]'"):
        WebPacs(parse_address("https://host/x"), Secrets())


# --- Faults -----------------------------------------------------------------------------------------------------------


class Shaky(Pacs):
    """An archive whose connection fails some times before it holds."""

    def __init__(self, faults: int) -> None:
        self.faults, self.closed = faults, 0

    def check(self) -> None:
        self.faults -= 1
        if self.faults >= 0:
            raise FaultError("the line is dead")

    def studies(self, first: str, last: str, modality: str, patient_id: str) -> list[FoundStudy]:
        return []

    def series(self, study_uid: str) -> list[FoundSeries]:
        return []

    def objects(self, study_uid: str, series_uid: str) -> list[FoundObject]:
        return []

    def fetch(self, objects, receive) -> None:
        return None

    def close(self) -> None:
        self.closed += 1


def test_faults_are_tried_again_with_growing_pauses(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("mpi_unet.sources.pacs.archive.time.sleep", pauses.append)
    pacs = Shaky(3)
    persistently(pacs.check, pacs, 3)
    assert pacs.closed == 3
    for pause, expected in zip(pauses, (1, 2, 4), strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected
    pacs = Shaky(4)
    with pytest.raises(PacsError, match=r"the line is dead \(4 attempts\)"):
        persistently(pacs.check, pacs, 3)


def test_quiet_keeps_every_level_of_the_libraries_from_the_log(caplog):
    caplog.set_level("DEBUG")
    logging.getLogger("pynetdicom.association").setLevel("DEBUG")
    with quiet():
        for name in ("pynetdicom.association", "urllib3.connectionpool", "retrying"):
            logging.getLogger(name).critical("PatientID=SMITH")
    assert caplog.text == ""
    logging.getLogger("pynetdicom.association").setLevel("NOTSET")
    logging.getLogger("urllib3.connectionpool").warning("afterward as before")
    assert "afterward" in caplog.text
