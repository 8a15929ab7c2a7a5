"""A real PACS that does not want us, is not there, or refuses a service: one clear error each, and nothing told."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from orthanc_server import OrthancServer, free_port
from pacs_builders import ID, dimse_address, encoded, running_pacs, studies

from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import ConfigError, PacsError
from mpi_unet.sources.pacs import pacs_cohort

USER, SECRET = "planted-user", "planted-swordfish"
CERTIFIED = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=pacs -addext subjectAltName=IP:127.0.0.1 "
    "-addext basicConstraints=critical,CA:TRUE"
)


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MPI_UNET_PACS_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setattr("mpi_unet.sources.pacs.archive.FIRST_WAIT_S", 0.05)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that signed itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "cert.pem", folder / "key.pem"
    try:
        subprocess.run([*CERTIFIED.split(), "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not on PATH (Debian package openssl)")
    return files


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[str]:
    """An Orthanc that wants a password, behind HTTPS as in a hospital; Debian's own HTTPS dies of OpenSSL 3."""
    settings = {"AuthenticationEnabled": True, "RegisteredUsers": {USER: SECRET}}
    with (
        running_pacs(tmp_path_factory.mktemp("guarded"), studies((0, 1)), **settings) as running,
        https_before(running.url, certificate) as url,
    ):
        yield f"{url}/dicom-web"


@contextmanager
def https_before(url: str, certificate: tuple[Path, Path]) -> Iterator[str]:
    """A reverse proxy that speaks HTTPS and passes questions on."""

    class Passing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name: self.headers[name] for name in ("Accept", "Authorization") if name in self.headers}
            question = urllib.request.Request(url + self.path, headers=headers)
            try:
                answer = urllib.request.urlopen(question, timeout=30)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                content = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"] or "text/plain")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            return None

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with serving(Passing, context) as port:
        yield f"https://127.0.0.1:{port}"


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer HTTP on some port while the body runs."""

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            return None  # a client that refuses the certificate

    listening = Quiet(("127.0.0.1", 0), handler)
    if context is not None:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield listening.server_port
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with running_pacs(tmp_path_factory.mktemp("orthanc"), studies((0, 1))) as running:
        yield running


def prepare(folder: Path, address: str, **options: object) -> Path:
    return pacs_cohort(address, folder / "cohort", dicom={"key_file": folder / "key"}, timeout_s=10, **options)


# --- The wrong place --------------------------------------------------------------------------------------------------


def test_wrong_title_of_the_archive(server, tmp_path):
    with pytest.raises(PacsError, match=r"nobody is called ELSEWHERE there; correct the title in input=dicom://<AET>"):
        prepare(tmp_path, f"dicom://ELSEWHERE@127.0.0.1:{server.dicom_port}")


def test_our_title_is_not_registered(server, tmp_path):
    with pytest.raises(PacsError, match=r"does not know us: source.our_aet=NOBODY; ask its administrator to register"):
        prepare(tmp_path, dimse_address(server), our_aet="NOBODY")


@pytest.mark.parametrize("scheme", ["dicom://A@", "http://"])
def test_nobody_listens(tmp_path, scheme):
    with pytest.raises(PacsError, match=r"cannot be reached \(Connection refused\); check host and port of input="):
        prepare(tmp_path, f"{scheme}127.0.0.1:{free_port()}", retries=1)


@pytest.mark.parametrize("scheme", ["dicom://A@", "http://"])
def test_no_such_machine(tmp_path, scheme):
    with pytest.raises(PacsError, match=r"no machine is called nowhere\.invalid; correct the name"):
        prepare(tmp_path, f"{scheme}nowhere.invalid:104")


def test_not_the_dicom_port(server, tmp_path):
    with pytest.raises(PacsError, match="breaks the connection off; is this the DICOM port, and is TLS wanted"):
        prepare(tmp_path, f"dicom://TESTPACS@127.0.0.1:{server.http_port}", retries=0)


def test_not_the_root_of_the_service(server, tmp_path):
    with pytest.raises(
        PacsError, match=r"HTTP 404.*expected the root of the service, for example https://host/dicom-web"
    ):
        prepare(tmp_path, f"{server.url}/elsewhere")


def test_a_page_is_no_service(server, tmp_path):
    with pytest.raises(PacsError, match=r"127\.0\.0\.1:\d+/app.*(HTTP|is not DICOMweb)"):
        prepare(tmp_path, f"{server.url}/app/explorer.html?x".partition("?")[0], retries=0)


def test_silence(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(PacsError, match=r"does not answer within 0\.3 s"):
            pacs_cohort(address, tmp_path / "cohort", timeout_s=0.3, retries=0)


def test_nothing_found_says_what_to_widen(server, tmp_path):
    with pytest.raises(PacsError, match=r"lists no study of the modality NM .*widen source\.since, source\.until"):
        prepare(tmp_path, dimse_address(server), since="2030-01-01", until="2030-01-31")
    with pytest.raises(
        PacsError, match=r"none of the objects in 2 studies is wanted:(.|\n)*Widen source\.include"
    ) as error:
        prepare(tmp_path, dimse_address(server), include="brain")
    assert "Widen source.include" in str(error.value)
    assert "description does not match source.include: 4" in str(error.value)


def test_times_that_cannot_be_used(server, tmp_path):
    with pytest.raises(ConfigError, match=r"source\.timeout_s=0, source\.retries=3; expected more than 0"):
        pacs_cohort(dimse_address(server), tmp_path / "cohort", timeout_s=0)


# --- Refused services -------------------------------------------------------------------------------------------------


def test_refused_get_goes_on_with_move(tmp_path, capfd):
    port = free_port()
    modality = {"AET": "MPIUNET", "Host": "127.0.0.1", "Port": port, "AllowGet": False}
    with running_pacs(tmp_path / "orthanc", studies((0, 1)), DicomModalities={"mpi": modality}) as server:
        with pytest.raises(PacsError, match=r"refuses C-GET .*give source\.listen_port=<port>"):
            prepare(tmp_path, dimse_address(server))
        made = prepare(tmp_path, dimse_address(server), listen_port=port, listen_host="127.0.0.1")
        assert len(Cohort.open(made).cases) == 2
        assert "the PACS refuses C-GET (it breaks off the connection); going on with C-MOVE" in capfd.readouterr().err


def test_refused_move(tmp_path):
    modality = {"AET": "MPIUNET", "Host": "127.0.0.1", "Port": free_port(), "AllowMove": False}
    with (
        running_pacs(tmp_path / "orthanc", studies((0,)), DicomModalities={"mpi": modality}) as server,
        pytest.raises(PacsError, match=r"refuses C-MOVE to MPIUNET .*to register this title with the address of this"),
    ):
        prepare(tmp_path, dimse_address(server), retrieve="move", listen_port=modality["Port"])


def test_refused_find(tmp_path):
    modality = {"AET": "MPIUNET", "Host": "127.0.0.1", "Port": free_port(), "AllowFind": False}
    with (
        running_pacs(tmp_path / "orthanc", studies((0,)), DicomModalities={"mpi": modality}) as server,
        pytest.raises(PacsError, match=r"refuses C-FIND .*administrator to allow query and retrieve for MPIUNET"),
    ):
        prepare(tmp_path, dimse_address(server))


def test_port_that_is_taken(server, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        options = {"retrieve": "move", "listen_port": port, "listen_host": "127.0.0.1"}
        with pytest.raises(ConfigError, match=rf"listen_port={port} cannot be used .*Address already in use"):
            prepare(tmp_path, dimse_address(server), **options)


# --- TLS and passwords ------------------------------------------------------------------------------------------------


def test_certificate_is_verified(guarded, tmp_path):
    with pytest.raises(PacsError, match=r"certificate cannot be verified \(self.signed certificate\); .*source.ca_f"):
        prepare(tmp_path, guarded)


@pytest.mark.parametrize("proof", ["environment", "netrc"])
def test_password_over_tls(guarded, certificate, tmp_path, monkeypatch, capfd, caplog, proof):
    caplog.set_level("DEBUG")
    if proof == "environment":
        monkeypatch.setenv("MPI_UNET_PACS_USER", USER)
        monkeypatch.setenv("MPI_UNET_PACS_PASSWORD", SECRET)
    else:
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {SECRET}\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "ids.txt").write_text(f"{ID}-00\n")
    made = prepare(tmp_path, guarded, ca_file=certificate[0], patients=tmp_path / "ids.txt")
    assert len(Cohort.open(made).cases) == 2
    said = capfd.readouterr()
    everywhere = said.out + said.err + caplog.text
    everywhere += "".join(path.read_text() for path in tmp_path.rglob("*.*") if path.suffix in {".json", ".csv"})
    for planted in (USER, SECRET, ID, "QUIXOTE"):
        assert planted not in everywhere


def test_missing_and_wrong_passwords(guarded, certificate, tmp_path, monkeypatch):
    with pytest.raises(PacsError, match=r"wants credentials \(HTTP 401\); set MPI_UNET_PACS_USER and MPI"):
        prepare(tmp_path, guarded, ca_file=certificate[0])
    monkeypatch.setenv("MPI_UNET_PACS_TOKEN", SECRET)
    with pytest.raises(PacsError, match=r"does not accept the credentials that were sent \(HTTP 401\)") as error:
        prepare(tmp_path, guarded, ca_file=certificate[0])
    assert SECRET not in repr(error.value) + repr(error.value.__cause__)
    assert error.value.__cause__ is None


def test_tls_where_there_is_none(server, tmp_path):
    with pytest.raises(PacsError, match=r"TLS fails; does the server speak it at this port"):
        prepare(tmp_path, server.dicom_web_url.replace("http:", "https:"))
    with pytest.raises(PacsError, match=r"whether it speaks TLS there|TLS fails; is dicom:// meant"):
        prepare(tmp_path, f"dicoms://TESTPACS@127.0.0.1:{server.dicom_port}", retries=0)


def test_dimse_over_tls(certificate, tmp_path, monkeypatch):
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(certificate[0]),
        "DicomTlsPrivateKey": str(certificate[1]),
        "DicomTlsTrustedCertificates": str(certificate[0]),
        "DicomTlsRemoteCertificateRequired": True,
    }
    with running_pacs(tmp_path / "orthanc", [], **settings) as server:
        for dataset in studies((0, 1)):
            server.store(encoded(dataset))
        address = f"dicoms://TESTPACS@127.0.0.1:{server.dicom_port}"
        ours = {"client_certificate": certificate[0], "client_key": certificate[1]}
        with pytest.raises(PacsError, match=r"certificate cannot be verified \(self.signed cert.*source.ca_file"):
            prepare(tmp_path, address, retries=0, **ours)
        with pytest.raises(PacsError, match=r"breaks the connection off; .*is TLS wanted \(dicoms:"):
            prepare(tmp_path, dimse_address(server), retries=0)
        made = prepare(tmp_path, address, ca_file=certificate[0], **ours)
        assert len(Cohort.open(made).cases) == 2


def test_redirections_are_not_followed(tmp_path):
    asked = []

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            return None

    with (
        serving(Redirecting) as port,
        pytest.raises(PacsError, match="redirects to another address, which is not followed; give the address"),
    ):
        prepare(tmp_path, f"http://127.0.0.1:{port}/dicom-web")
    assert len(asked) == 1


def test_names_are_in_no_error(server, tmp_path, caplog, capfd):
    """A question that holds an id and goes wrong: the address with the id stays unsaid."""
    caplog.set_level("DEBUG")
    (tmp_path / "ids.txt").write_text(f"{ID}-00\n")
    with pytest.raises(PacsError) as error:
        prepare(tmp_path, f"{server.url}/instances", patients=tmp_path / "ids.txt", retries=0)
    said = capfd.readouterr()
    assert ID not in json.dumps([str(error.value), repr(error.value.__cause__), caplog.text, said.out, said.err])
