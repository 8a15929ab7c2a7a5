"""What goes out as DICOM, whose it is, where it goes, where studies come in; checked before anything slow is imported.

Objects that go back to the archive which the images came from must carry the patient, or nobody finds them there; those
for research must not. So sending asks for the *identity* to be said: it is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from mpi_unet.config import annotation_name, fits
from mpi_unet.errors import ConfigError, listing, nearest

if TYPE_CHECKING:
    from mpi_unet.sources.pacs.access import Address

__all__ = ["IDENTITIES", "KINDS", "DicomOptions", "Network", "is_address"]

KINDS = ("seg", "sr", "sc", "pdf")
IDENTITIES = ("pseudonymous", "source")


@dataclass(frozen=True)
class Network:
    """How we speak to archives.

    Attributes:
        our_aet: Our title, as the archive of ``send=`` knows it.
        ca_file: Certificate of the authority that signed its certificate; None for those of the system.
        client_certificate: Ours, where it wants one.
        client_key: Its key.
        timeout_s: Seconds to wait for an answer.
        callers: Titles that may send to ``serve=``; empty for all that reach the port.
        quiet_s: A study that is sent to us is whole when nothing has come for so long.
    """

    our_aet: str = "MPIUNET"
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    timeout_s: float | int = 120
    callers: list[str] | tuple[str, ...] = ()
    quiet_s: float | int = 30


@dataclass(frozen=True)
class DicomOptions:
    """What goes out as DICOM.

    Attributes:
        kinds: Some of ``KINDS``.
        identity: Whose the objects are: ``pseudonymous``, ``source``, or empty for not said.
        send: Address of an archive; empty for none.
        serve: Title, host and port at which we listen; empty for not at all.
        network: How.
    """

    kinds: tuple[str, ...] = ()
    identity: str = ""
    send: str = ""
    serve: str = ""
    network: Network = Network()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> DicomOptions:
        """From the keys of ``predict``.

        Raises:
            ConfigError: They cannot be used; all that is wrong is said at once.
        """
        network = dict(given.get("network") or {})
        known = {one.name for one in fields(Network)}
        types = get_type_hints(Network)
        problems = [
            f"network.{key}: there is no such key{nearest(str(key), known)}" for key in network if key not in known
        ]
        problems += [
            f"network.{key} is {value!r}, expected {annotation_name(types[key])}"
            for key, value in network.items()
            if key in known and not fits(value, types[key])
        ]
        kinds = given.get("dicom_out") or []
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        problems += [
            f"dicom_out: {kind!r} is no kind of object; expected some of {', '.join(KINDS)}{nearest(str(kind), KINDS)}"
            for kind in kinds
            if kind not in KINDS
        ]
        texts = {key: given.get(key) for key in ("identity", "send", "serve")}
        problems += [
            f"{key} is {value!r}, expected text or null" for key, value in texts.items() if not fits(value, str | None)
        ]
        if not problems:
            options = cls(
                tuple(kind for kind in KINDS if kind in kinds),
                **{key: value or "" for key, value in texts.items()},
                network=Network(**network),
            )
            problems = options._problems()
        if problems:
            raise ConfigError(problems[0] if len(problems) == 1 else f"several keys are wrong:\n{listing(problems)}")
        return options

    @property
    def is_pseudonymous(self) -> bool:
        """Whether the objects must not tell whose they are."""
        return self.identity != "source"

    def check_input(self, input: str) -> None:
        """See that what goes out fits where the studies come from.

        Args:
            input: What ``input=`` names.

        Raises:
            ConfigError: Objects are asked for of a cohort, or pseudonymous ones are sent to where the images are not.
        """
        if not self.kinds:
            return
        if (Path(input) / "cohort.json").is_file():
            raise ConfigError(
                f"dicom_out=[{','.join(self.kinds)}] makes objects that refer to DICOM images, and input={input} is a "
                "cohort, which holds none; give the folder of the DICOM files or the address of the PACS as input, "
                "or leave out dicom_out"
            )
        if self.send and self.is_pseudonymous and is_address(input) and _same_place(input, self.send):
            raise ConfigError(
                f"send={self.send} is the archive that the images come from, and identity=pseudonymous makes objects "
                "of a patient whom it does not know: nobody would find them beside the images. Say identity=source to "
                "send them back under the patient of the image, or send them to an archive for research"
            )

    def listening_at(self) -> Address:
        """Where ``serve=`` listens.

        Raises:
            ConfigError: It has another form.
        """
        from mpi_unet.sources.pacs.access import parse_address

        try:
            place = parse_address(self.serve)
        except ConfigError:
            place = None
        if place is None or place.scheme != "dicom":
            raise ConfigError(
                f"serve={self.serve}: expected dicom://OUR_TITLE@host:port, host and port being ours, for example "
                "dicom://MPIUNET@0.0.0.0:11112; encrypted listening is for a TLS proxy before it"
            )
        return place

    def _problems(self) -> list[str]:
        problems = []
        if self.identity and self.identity not in IDENTITIES:
            problems.append(
                f"identity={self.identity}; expected {' | '.join(IDENTITIES)}{nearest(self.identity, IDENTITIES)}"
            )
        if self.send and not self.kinds:
            problems.append(f"send={self.send} has nothing to send; say what, for example dicom_out=[seg,sr]")
        if self.send and not self.identity:
            problems.append(
                f"send={self.send} needs identity=: say source to send objects back to the archive that the images "
                "came from, under the name of the patient; say pseudonymous for an archive for research"
            )
        if self.send and not is_address(self.send):
            problems.append(f"send={self.send}; expected dicom://AET@host:port, dicoms://... or https://...")
        if self.network.timeout_s <= 0 or self.network.quiet_s < 0:
            problems.append(
                f"network.timeout_s={self.network.timeout_s}, network.quiet_s={self.network.quiet_s}; expected more "
                "than 0, and 0 or more seconds"
            )
        return problems


def is_address(text: str) -> bool:
    """Whether a text names a PACS rather than a folder.

    Example:
        >>> is_address("dicom://PACS@host:104"), is_address("https://host/dicom-web"), is_address("data/export")
        (True, True, False)
    """
    return re.match(r"(dicoms?|https?)://", text) is not None


# --- Private helpers --------------------------------------------------------------------------------------------------


def _same_place(one: str, other: str) -> bool:
    from mpi_unet.sources.pacs.access import parse_address

    first, second = parse_address(one), parse_address(other)
    return (first.host, first.port) == (second.host, second.port) or str(first) == str(second)
