"""Pseudonyms that only the holder of a key can make, and that stay the same from one day to the next.

A *pseudonym* stands for a patient, an identifier or a date wherever the real one would give somebody away. It is the
HMAC-SHA256 of the real one under a secret key of 32 random bytes: without the key nobody can test whether a pseudonym
belongs to a certain patient, not even by trying all the record numbers of a hospital, which a plain hash allows; with
the key the same patient gets the same pseudonym in every preparation, so that studies that arrive later join those of
the same person. Whoever holds the key can recognize patients: it is as confidential as the list of their names, and
whoever deletes it makes the link impossible for good.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import UID_dictionary

from mpi_unet.errors import DicomError
from mpi_unet.files import unwritable

__all__ = ["DEFAULT_KEY_FILE", "Pseudonyms"]

DEFAULT_KEY_FILE = Path("~/.config/mpi_unet/pseudonyms.key")
"""Outside of every cohort and of every checkout, so that the key is not passed on with either."""

KEY_BYTES = 32
"""As long as the digest; RFC 2104 gains nothing from a longer key."""

LETTERS = 10
"""Characters of a pseudonym, 5 bits each: two of 100,000 patients share one with a probability of 4 in a million."""

LARGEST_SHIFT_DAYS = 3_652
"""Dates move back by up to ten years: never into the future, and too far for the year to be told."""

DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})")
"""A DICOM date; the dots are of ACR-NEMA and still found (PS3.5 table 6.2-1)."""


@dataclass(frozen=True)
class Pseudonyms:
    """Keyed stand-ins for patients, identifiers and dates.

    Attributes:
        key: The secret, 32 bytes; never shown by ``repr``.

    Raises:
        DicomError: The key has another length.

    Example:
        >>> pseudonyms = Pseudonyms(bytes(32))
        >>> pseudonyms.patient("4711") == pseudonyms.patient(" 4711 ") != pseudonyms.patient("4712")
        True
        >>> Pseudonyms(bytes(31) + b"x").patient("4711") == pseudonyms.patient("4711")
        False
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise DicomError(
                f"the key of the pseudonyms has {len(self.key)} bytes; expected {KEY_BYTES}, as from_key_file "
                "makes them"
            )

    @classmethod
    def from_key_file(cls, path: str | Path = DEFAULT_KEY_FILE) -> Pseudonyms:
        """Read the key, or make one when there is none: 64 hexadecimal digits in a file that only its owner can read.

        Args:
            path: The key file; ``~`` is the home folder.

        Raises:
            DicomError: Others can read the key file, or it does not hold a key.
            RunError: The file cannot be made.
        """
        path = Path(path).expanduser()
        if not path.exists():
            _make_key(path)
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""
        except OSError as error:
            raise DicomError(
                f"key_file={path} cannot be read: {error.strerror or error}; expected a file of yours that nobody else "
                f"can read (chmod 600 {path}), or choose another one with source.key_file=<file>"
            ) from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise DicomError(
                f"key_file={path} has the mode {mode:04o}, so others than its owner can read or change it; expected "
                f"0600: chmod 600 {path}. If somebody may have copied the key, make a new one: all pseudonyms change"
            )
        if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
            raise DicomError(
                f"key_file={path} does not hold a key; expected {2 * KEY_BYTES} hexadecimal digits. Restore the file "
                "from your copy, or remove it to have a new key made: all pseudonyms change"
            )
        return cls(bytes.fromhex(text))

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without giving anything of them away: 8 hexadecimal digits."""
        return self._digest("fingerprint").hex()[:8]

    def patient(self, patient_id: str, issuer: str = "") -> str:
        """Pseudonym of a patient: ``P`` and 10 capital letters or digits, so a safe file name on every system.

        Args:
            patient_id: PatientID; blanks around it do not count (PS3.5 6.2, LO).
            issuer: Issuer of the PatientID, where the same number may mean two people of two hospitals.

        Raises:
            DicomError: ``patient_id`` is empty: nobody knows who that is.
        """
        return "P" + self.word("patient", _known(patient_id), issuer.strip())

    def word(self, *parts: str, letters: int = LETTERS) -> str:
        """Pseudonym of any text: the same capital letters and digits for the same parts.

        Args:
            parts: What is replaced; the first one says what it is, so that equal texts of two kinds stay apart.
            letters: How many characters, up to 51.
        """
        return base64.b32encode(self._digest(*parts)).decode("ascii")[:letters]

    def uid(self, uid: str) -> str:
        """Unique identifier in the place of another: a UUID under 2.25, at most 44 characters.

        Identifiers that the standard itself assigns (SOP classes, transfer syntaxes, well-known frames of reference)
        name no patient and stay; an empty one stays empty.

        Source:
            DICOM PS3.5 B.2; RFC 9562 5.8 for UUIDs of one's own making.

        Example:
            >>> Pseudonyms(bytes(32)).uid("1.2.840.10008.5.1.4.1.1.20")
            '1.2.840.10008.5.1.4.1.1.20'
        """
        uid = uid.strip().strip("\0")
        if not uid or uid in UID_dictionary:
            return uid
        number = int.from_bytes(self._digest("uid", uid)[:16], "big")
        number = number & ~(0xF << 76) | (0x8 << 76)  # version 8
        number = number & ~(0x3 << 62) | (0x2 << 62)  # variant of RFC 9562
        return f"2.25.{uuid.UUID(int=number).int}"

    def shift_days(self, patient_id: str, issuer: str = "") -> int:
        """By how many days all dates of this patient are moved: -1 to -3652, the same for all of them.

        Raises:
            DicomError: ``patient_id`` is empty.
        """
        number = int.from_bytes(self._digest("shift", _known(patient_id), issuer.strip())[:8], "big")
        return -1 - number % LARGEST_SHIFT_DAYS

    def date(self, patient_id: str, date: str, issuer: str = "") -> str:
        """Date in the place of another; order and distance in days of a patient's dates stay as they are.

        Args:
            patient_id: Whose date it is.
            date: ``YYYYMMDD``, or ``YYYY.MM.DD`` as in old objects.
            issuer: As for `patient`.

        Returns:
            ``YYYYMMDD``; empty when ``date`` is unknown: empty, 00000000 or no date of the calendar.

        Example:
            >>> pseudonyms = Pseudonyms(bytes(32))
            >>> dates = [pseudonyms.date("4711", date) for date in ("20240228", "20240301", "00000000", "")]
            >>> int(dates[1]) > int(dates[0]), dates[2:]
            (True, ['', ''])
        """
        found = DATE.fullmatch(date.strip())
        try:
            year, month, day = map(int, found.groups()) if found else (0, 0, 0)
            shifted = datetime.date(year, month, day) + datetime.timedelta(self.shift_days(patient_id, issuer))
        except (ValueError, OverflowError):
            return ""
        return f"{shifted:%Y%m%d}".zfill(8)

    def _digest(self, *parts: str) -> bytes:
        """Each part is preceded by its length, so that no two lists of parts give one message."""
        data = [part.encode("utf-8", errors="surrogatepass") for part in parts]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in data)
        return hmac.new(self.key, message, hashlib.sha256).digest()


# --- Private helpers --------------------------------------------------------------------------------------------------


def _known(patient_id: str) -> str:
    if not patient_id.strip():
        raise DicomError("the PatientID is empty; expected one, for nobody can tell whose image this is: leave it out")
    return patient_id.strip()


def _make_key(path: Path) -> None:
    """Write a new key; when another process makes one at the same moment, the first one counts."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", dir=path.parent)  # mode 0600
    except OSError as error:
        raise unwritable(path, error) from error
    temporary = Path(name)
    try:
        with open(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
