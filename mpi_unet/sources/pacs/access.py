"""How an archive is reached: its address, the secrets it wants, and how to keep quiet about both.

Secrets come from the environment or from netrc, never from the configuration, which is written down. The log is
switched off while the network libraries work: their lines hold addresses with ids of patients in them.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mpi_unet.errors import ConfigError

__all__ = ["Address", "OurSide", "Secrets", "TlsFiles", "parse_address", "quiet", "secrets_for"]

FORMS = "dicom://AET@host:port, dicoms://AET@host:port (TLS) or https://host/path of the DICOMweb service"

DICOM_PORT = 104

USER, PASSWORD, TOKEN = "MPI_UNET_PACS_USER", "MPI_UNET_PACS_PASSWORD", "MPI_UNET_PACS_TOKEN"

AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
"""PS3.5 table 6.2-1: 16 characters of ASCII without backslash."""


@dataclass(frozen=True)
class Address:
    """Where an archive listens.

    Attributes:
        scheme: ``dicom``, ``dicoms``, ``http`` or ``https``.
        host: Name or number.
        port: TCP port.
        aet: Application entity title of the archive; empty for DICOMweb.
        url: Root of the DICOMweb service; empty for DIMSE.
    """

    scheme: str
    host: str
    port: int
    aet: str = ""
    url: str = ""

    @property
    def is_web(self) -> bool:
        """Whether it speaks DICOMweb."""
        return self.scheme.startswith("http")

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self.scheme in ("dicoms", "https")

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, by a name that no name server decides."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return self.url or f"{self.scheme}://{self.aet}@{self.host}:{self.port}"


@dataclass(frozen=True)
class OurSide:
    """Who we are for a DIMSE archive.

    Attributes:
        aet: Our application entity title.
        listen_host: Address at which we take what C-MOVE sends; empty for all of this machine.
        listen_port: Port for the same; None when we do not listen, and C-MOVE cannot be used.
    """

    aet: str
    listen_host: str = ""
    listen_port: int | None = None

    def __post_init__(self) -> None:
        if not AE_TITLE.fullmatch(self.aet) or not self.aet.strip():
            raise ConfigError(f"source.our_aet={self.aet!r}; expected 1 to 16 characters of ASCII without a backslash")
        if self.listen_port is not None and not 0 < self.listen_port < 65536:
            raise ConfigError(f"source.listen_port={self.listen_port}; expected a port from 1 to 65535, or null")


@dataclass(frozen=True)
class TlsFiles:
    """Certificates: the authority that we trust instead of those of the system, and ours where a server wants one."""

    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        named = {"ca_file": self.ca_file, "client_certificate": self.certificate, "client_key": self.key}
        for option, path in named.items():
            if path is not None and not path.is_file():
                raise ConfigError(f"source.{option}={path} is no file; expected a certificate or key in PEM form")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("source.client_certificate and source.client_key belong together; give both or neither")

    def context(self) -> ssl.SSLContext:
        """A context that verifies the certificate and the name of the server; nothing switches that off.

        Raises:
            ConfigError: A file is no certificate or key.
        """
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
            if self.certificate and self.key:
                context.load_cert_chain(str(self.certificate), str(self.key))
        except (OSError, ValueError) as error:
            raise ConfigError(
                "source.ca_file, source.client_certificate or source.client_key cannot be used "
                f"({type(error).__name__}); expected certificates and an unencrypted key in PEM form"
            ) from error
        return context


@dataclass(frozen=True)
class Secrets:
    """What proves to a DICOMweb server who we are; never shown by ``repr``."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.token)


def parse_address(text: str) -> Address:
    """The address in the form that ``input=`` takes.

    Raises:
        ConfigError: It has another form, or holds a password.

    Example:
        >>> parse_address("dicom://ORTHANC@localhost:4242")
        Address(scheme='dicom', host='localhost', port=4242, aet='ORTHANC', url='')
        >>> parse_address("https://pacs.example.org/dicom-web/").url
        'https://pacs.example.org/dicom-web'
    """
    try:
        parts = urlsplit(text.strip())
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise ConfigError(f"input is no address of a PACS; expected {FORMS}") from None
    if parts.password is not None or (parts.scheme in ("http", "https") and parts.username is not None):
        raise ConfigError(
            f"input holds a name or password, which would be written down; leave it out and set {USER} and {PASSWORD}, "
            f"or {TOKEN}, in the environment, or use netrc"
        )
    if parts.scheme in ("http", "https") and host:
        url = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        if parts.query or parts.fragment:
            raise ConfigError(f"input={url} goes on with ? or #; expected {FORMS}")
        return Address(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), url=url)
    aet = parts.username or ""
    if (
        parts.scheme not in ("dicom", "dicoms")
        or not host
        or not AE_TITLE.fullmatch(aet)
        or parts.path not in ("", "/")
    ):
        raise ConfigError(f"input={text} is no address of a PACS; expected {FORMS}")
    return Address(parts.scheme, host, port or DICOM_PORT, aet=aet)


def secrets_for(address: Address) -> Secrets:
    """The secrets for a DICOMweb server, from the environment or else from netrc.

    Raises:
        ConfigError: Only half of a pair is set, or the way to the server is not encrypted.
    """
    user, password, token = (os.environ.get(name, "") for name in (USER, PASSWORD, TOKEN))
    if bool(user) != bool(password):
        missing, there = (PASSWORD, USER) if user else (USER, PASSWORD)
        raise ConfigError(f"{there} is set in the environment and {missing} is not; set both or neither")
    if user and token:
        raise ConfigError(f"{USER} and {TOKEN} are both set in the environment; set what your PACS wants")
    secrets = Secrets(user, password, token) if user or token else _from_netrc(address.host)
    if secrets and not address.is_encrypted and not address.is_loopback:
        raise ConfigError(
            f"input={address} is not encrypted, and a password would cross the network in the clear; "
            "use the https:// address of the service"
        )
    return secrets


@contextmanager
def quiet() -> Iterator[None]:
    """Keep everybody from logging while the body runs, whatever the library: an address may hold the id of a patient.

    A list of loggers would not do. It was dicomweb-client's helper for retries that wrote a whole address to the log.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _from_netrc(host: str) -> Secrets:
    """User and password of a host in ``~/.netrc`` or the file that NETRC names; its default entry does not count."""
    import netrc

    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(path).hosts.get(host)
    except FileNotFoundError:
        return Secrets()
    except (OSError, netrc.NetrcParseError) as error:
        line = getattr(error, "lineno", None)
        where = f" in line {line}" if line else ""
        raise ConfigError(
            f"the netrc file cannot be used ({type(error).__name__}{where}); correct it, and let only you read it"
        ) from None
    return Secrets(found[0], found[2] or "") if found else Secrets()
