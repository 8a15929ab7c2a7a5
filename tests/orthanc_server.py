"""A real PACS for the tests: Debian's Orthanc on loopback, on free ports, with a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

OUR_AET = "MPIUNET"
DICOM_WEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_SECONDS = 30


@dataclass(frozen=True)
class OrthancServer:
    """Where the server listens, and as whom it knows us.

    Attributes:
        http_port: REST, and DICOMweb below /dicom-web/.
        dicom_port: DIMSE.
        aet: The server's application entity title.
        our_aet: The only title that it serves.
        our_port: Where it sends what we ask it to move to us.
    """

    http_port: int
    dicom_port: int
    our_port: int
    aet: str = "TESTPACS"
    our_aet: str = OUR_AET

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicom_web_url(self) -> str:
        return f"{self.url}/dicom-web"

    def request(self, path: str, body: object = None, method: str | None = None) -> bytes:
        """Ask the REST interface; ``body`` is sent as it is when bytes, else as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, method=method), timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def store(self, content: bytes) -> dict[str, str]:
        """Put one DICOM file into the archive and say under which ids it stands."""
        stored: dict[str, str] = json.loads(self.request("/instances", content))
        return stored


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def running_orthanc(folder: Path, **options: object) -> Iterator[OrthancServer]:
    """Start Orthanc in ``folder`` and stop it at the end; skip the test where it is not installed.

    ``options`` are further keys of its configuration, for example a plugin's.
    """
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("needs a PACS: apt-get install orthanc orthanc-dicomweb")
    folder.mkdir(parents=True, exist_ok=True)
    server = OrthancServer(free_port(), free_port(), free_port())
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAet": server.aet,
        "DicomPort": server.dicom_port,
        "HttpPort": server.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "OverwriteInstances": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowMove": False,
        "DicomCheckModalityHost": True,
        "DicomCheckCalledAet": True,
        "DicomModalities": {"mpi": {"AET": server.our_aet, "Host": "127.0.0.1", "Port": server.our_port}},
        "Plugins": [str(DICOM_WEB_PLUGIN)] if DICOM_WEB_PLUGIN.exists() else [],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings | options))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait(server: OrthancServer, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            server.request("/system")
            return
        except urllib.error.HTTPError:  # it is there, and wants a password
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"Orthanc did not answer within {START_SECONDS} s:\n{log.read_text(errors='replace')[-2000:]}")
