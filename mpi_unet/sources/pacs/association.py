"""The line to an archive that speaks DIMSE: associations that we make, and the port at which we listen for its own.

An *association* is a connection on which both sides have agreed on services and transfer syntaxes. Where none comes
about, the reason decides what the user is told: a title that is not registered, a certificate, a port, or a fault that
may pass.

Source:
    DICOM PS3.8 9.3.4 (why an association is rejected), PS3.7 D.3.3.4 (roles), PS3.15 B (TLS).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mpi_unet.errors import ConfigError, PacsError
from mpi_unet.sources.pacs.access import Address, OurSide
from mpi_unet.sources.pacs.archive import FaultError

__all__ = ["FIND", "GET", "MOVE", "Line", "hung_up", "leave_answers_to_us", "send_at_once"]

CONNECTION = "mpi_unet_connection"
"""Where an association keeps its socket for `hung_up`."""

END_S = 5.0
"""An association that was released or aborted is over sooner."""

KNOCK_S = 30.0
"""A machine that is there takes a connection sooner."""

LATER = {(3, 1), (3, 2)}
"""Source and reason of a rejection that may pass: congestion, too many associations."""

SOP_CLASS_NOT_SUPPORTED = 0x0122

UNKNOWN_CALLED, UNKNOWN_CALLING = (1, 7), (1, 3)

COMPRESSED = (
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.2",  # big-endian
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
)
"""One context each, so that an archive can send what it holds as it is."""

PLAIN = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")

ECHO = "1.2.840.10008.1.1"
FIND, MOVE, GET = (f"1.2.840.10008.5.1.4.1.2.2.{service}" for service in (1, 2, 3))
"""Query and retrieve from the study down."""

NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"

IN_NUCLEAR_MEDICINE = (
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.4",
    "1.2.840.10008.5.1.4.1.1.2",  # CT for attenuation
    "1.2.840.10008.5.1.4.1.1.128",  # PET
    "1.2.840.10008.5.1.4.1.1.66",  # raw data
    "1.2.840.10008.5.1.4.1.1.88.11",  # reports
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.11.1",  # presentation state
    "1.2.840.10008.5.1.4.1.1.104.1",  # PDF
)
"""What else stands in a series of nuclear medicine, for archives that do not say beforehand what an object is."""


@dataclass(frozen=True)
class Line:
    """Between us and an archive.

    Attributes:
        address: The archive.
        ours: Who we are.
        context: Verifies the archive's certificate; None without TLS.
        timeout_s: How long we wait for an answer.
    """

    address: Address
    ours: OurSide
    context: ssl.SSLContext | None
    timeout_s: float

    def listen(self, store: Callable[[Any], int]) -> Any:
        """Take objects that the archive sends on associations of its own.

        Returns:
            The server, to be shut down.

        Raises:
            ConfigError: Something else listens at the port.
        """
        from pynetdicom import AE, evt

        entity = AE(ae_title=self.ours.aet)
        entity.require_called_aet = True
        entity.add_supported_context(ECHO)  # for the administrator who tries whether we are there
        for uid in (NUCLEAR_MEDICINE, *IN_NUCLEAR_MEDICINE):
            entity.add_supported_context(uid, [*PLAIN, *COMPRESSED])
        place = (self.ours.listen_host, self.ours.listen_port or 0)
        try:
            return entity.start_server(place, block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
        except OSError as error:
            raise ConfigError(
                f"source.listen_port={self.ours.listen_port} cannot be used on this machine "
                f"({error.strerror or error}); stop what listens there, or have another port registered with the PACS"
            ) from None

    def associate(self, store: Callable[[Any], int], *, can_get: bool) -> Any:
        """Make an association.

        Args:
            store: Takes what C-GET brings.
            can_get: Offer to take objects on this association; some archives want that only when it is meant.

        Raises:
            FaultError: For now there is none.
            PacsError: There will be none.
        """
        from pynetdicom import build_context, build_role

        contexts = [build_context(uid, list(PLAIN)) for uid in (ECHO, FIND, MOVE)]
        roles: list[Any] = []
        if can_get:
            contexts.append(build_context(GET, list(PLAIN)))
            contexts += [build_context(NUCLEAR_MEDICINE, [syntax]) for syntax in COMPRESSED]
            stored = (NUCLEAR_MEDICINE, *IN_NUCLEAR_MEDICINE)
            contexts += [build_context(uid, list(PLAIN)) for uid in stored]
            contexts += [build_context(uid, list(COMPRESSED[3:])) for uid in IN_NUCLEAR_MEDICINE]
            roles = [build_role(uid, scp_role=True) for uid in stored]
        return self._made(contexts, roles, store)

    def associate_to_store(self, kinds: Iterable[str]) -> Any:
        """Make an association on which objects can be sent, uncompressed.

        Args:
            kinds: SOP Class UIDs of the objects; at most 60.

        Raises:
            FaultError: For now there is none.
            PacsError: There will be none.
        """
        from pynetdicom import build_context

        syntaxes = dict.fromkeys(kinds)
        return self._made([build_context(uid, [syntax]) for uid in syntaxes for syntax in PLAIN], [], _nothing_comes)

    def _made(self, contexts: list[Any], roles: list[Any], store: Callable[[Any], int]) -> Any:
        from pynetdicom import AE, evt

        entity = AE(ae_title=self.ours.aet)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.timeout_s
        entity.connection_timeout = min(self.timeout_s, KNOCK_S)
        self._knock()
        association = entity.associate(
            self.address.host,
            self.address.port,
            contexts=contexts,
            ae_title=self.address.aet,
            ext_neg=roles,
            evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_CONN_OPEN, send_at_once)],
            tls_args=(self.context, self.address.host) if self.context else None,
        )
        if association.is_established:
            leave_answers_to_us(association)
            return association
        hung_up(association)
        if association.is_rejected:
            raise self._rejection(association)
        raise FaultError(
            f"{self.address} breaks the connection off; is this the DICOM port, and is TLS wanted (dicoms://) or the "
            f"host not registered for {self.ours.aet}?"
        )

    def _rejection(self, association: Any) -> Exception:
        answer = association.acceptor.primitive
        cause = (getattr(answer, "result_source", None), getattr(answer, "diagnostic", None))
        if cause in LATER:
            return FaultError(f"{self.address} takes no more associations for now")
        if cause == UNKNOWN_CALLED:
            return PacsError(
                f"{self.address}: nobody is called {self.address.aet} there; correct the title in "
                "input=dicom://<AET>@host:port (its administrator knows it)"
            )
        who = "does not know" if cause == UNKNOWN_CALLING else "rejects"
        return PacsError(
            f"{self.address} {who} us: source.our_aet={self.ours.aet}; ask its administrator to register this title "
            "with the address of this machine, or give the registered one with source.our_aet=<AET>"
        )

    def _knock(self) -> None:
        """See that the archive takes connections; pynetdicom would not say why not, and leave a socket open."""
        place, remedy = (self.address.host, self.address.port), "check host and port of input=, and the firewall"
        try:
            with socket.create_connection(place, timeout=min(self.timeout_s, KNOCK_S)) as connection:
                if self.context is not None:
                    with self.context.wrap_socket(connection, server_hostname=self.address.host):
                        pass
        except socket.gaierror:
            raise PacsError(
                f"input={self.address}: no machine is called {self.address.host}; correct the name"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise PacsError(
                f"{self.address}: its certificate cannot be verified ({error.verify_message}); give the certificate of "
                "the authority that signed it with source.ca_file=<file.pem>"
            ) from None
        except ssl.SSLError:
            raise PacsError(
                f"{self.address}: TLS fails; is dicom:// meant (no TLS), or does the PACS want a certificate of ours "
                "(source.client_certificate, source.client_key)?"
            ) from None
        except TimeoutError:
            raise FaultError(f"{self.address} does not answer; {remedy}") from None
        except OSError as error:
            if self.context is not None:
                remedy += ", and whether it speaks TLS there (if not: dicom://)"
            reason = error.strerror or type(error).__name__
            raise FaultError(f"{self.address} cannot be reached ({reason}); {remedy}") from None


def _nothing_comes(event: Any) -> int:
    """Turn away what an archive sends although nothing was asked for."""
    return SOP_CLASS_NOT_SUPPORTED


def leave_answers_to_us(association: Any) -> None:
    """Keep pynetdicom's own thread from taking answers off the queue.

    It looks there, without waiting, for requests of the archive; those come on this association during C-GET only, and
    then whoever waits for the answers handles them. When one question follows another at once, that thread may not yet
    have noticed that it is to pause, and it takes an answer and drops it (pynetdicom 3.0.4, issue 875): of fifty
    studies, some lists were short, and a lost last answer was waited for until the timeout.
    """
    take = association.dimse.get_msg

    def take_when_waited_for(block: bool = False) -> Any:
        return take(block) if block else (None, None)

    association.dimse.get_msg = take_when_waited_for


def hung_up(association: Any) -> None:
    """Wait for the end of an association, and close its socket: after an abort pynetdicom leaves it open."""
    association.dul.join(END_S)
    connection = getattr(association, CONNECTION, None)
    if connection is not None:
        connection.close()


def send_at_once(event: Any) -> None:
    """Switch off Nagle's algorithm, which holds back the second part of a question: 52 ms for a C-FIND, not 92."""
    connection = getattr(getattr(event.assoc.dul, "socket", None), "socket", None)
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        setattr(event.assoc, CONNECTION, connection)
