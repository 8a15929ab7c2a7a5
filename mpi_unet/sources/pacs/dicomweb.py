"""An archive that speaks DICOMweb: QIDO lists, page by page, and WADO fetches.

The certificate of the server is always verified, and a redirection is refused rather than followed with a password.
Only dates and exact ids are asked of the server, and everything is checked on our side: Debian's Orthanc plugin, for
one, does not decode percent signs in a question and then finds nothing, without an error.

Source:
    DICOM PS3.18 10.4 (WADO-RS) and 10.6 (QIDO-RS).
"""

from __future__ import annotations

import io
import re
import ssl
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from mpi_unet.errors import ConfigError, PacsError
from mpi_unet.sources.pacs.access import PASSWORD, TOKEN, USER, Address, Secrets, TlsFiles
from mpi_unet.sources.pacs.archive import FaultError, FoundObject, FoundSeries, FoundStudy, Pacs, Receive
from mpi_unet.sources.pacs.dimse import INSTALL, UID, image_kind

__all__ = ["WebPacs", "encoded"]

PAGE = 100
"""Objects or studies that one question asks for; servers may give fewer."""

MOST_PAGES = 10_000
"""A server that never comes to an end is stopped here."""

BUSY = {408, 425, 429, 500, 502, 503, 504}

NOT_UNDERSTOOD = (ValueError, KeyError, AttributeError, TypeError, EOFError, NotImplementedError)
"""What the client raises on an answer that is no DICOMweb."""

PLAIN_ID = re.compile(r"[A-Za-z0-9._-]+")
"""Ids that no server can misread; others are left out of the question and looked for in the answers."""

TAGS = {
    "StudyInstanceUID": "0020000D",
    "StudyDate": "00080020",
    "StudyDescription": "00081030",
    "ModalitiesInStudy": "00080061",
    "PatientID": "00100020",
    "SeriesInstanceUID": "0020000E",
    "Modality": "00080060",
    "SeriesDescription": "0008103E",
    "NumberOfSeriesRelatedInstances": "00201209",
    "SOPInstanceUID": "00080018",
    "ImageType": "00080008",
    "NumberOfFrames": "00280008",
}


class WebPacs(Pacs):
    """An archive reached by DICOMweb; see the module.

    Args:
        address: The root of the service.
        secrets: What the server wants.
        tls: Certificates.
        timeout_s: How long we wait for an answer.

    Raises:
        ConfigError: dicomweb-client is not installed.
    """

    def __init__(
        self, address: Address, secrets: Secrets, *, tls: TlsFiles | None = None, timeout_s: float = 120.0
    ) -> None:
        if find_spec("dicomweb_client") is None:
            raise ConfigError(f"input={address} needs dicomweb-client, which is not installed; {INSTALL}")
        self.address, self.secrets, self.tls, self.timeout_s = address, secrets, tls or TlsFiles(), timeout_s
        if address.is_encrypted:
            self.tls.context()  # files that cannot be used are said now, in our words
        self._client: Any = None

    # --- What every archive can do ------------------------------------------------------------------------------------

    def check(self) -> None:
        """Ask for one study.

        Raises:
            FaultError: The server is not there, or busy.
            PacsError: It does not know us, or there is no DICOMweb at this address.
        """
        self.ask(lambda client: client.search_for_studies(limit=1))

    def studies(self, first: str, last: str, modality: str, patient_id: str) -> list[FoundStudy]:
        """QIDO for studies."""
        filters: dict[str, str] = {"ModalitiesInStudy": modality}
        if first or last:
            filters["StudyDate"] = first if first == last else f"{first}-{last}"
        if PLAIN_ID.fullmatch(patient_id):
            filters["PatientID"] = patient_id
        fields = ["StudyDescription"]
        answers = self._pages(
            "StudyInstanceUID",
            lambda client, offset: client.search_for_studies(
                limit=PAGE, offset=offset, fields=fields, search_filters=filters
            ),
        )
        found = [
            FoundStudy(
                uid=_uid(answer, "StudyInstanceUID"),
                date=_text(answer, "StudyDate"),
                description=_text(answer, "StudyDescription"),
                patient_id=_text(answer, "PatientID"),
                modalities=_texts(answer, "ModalitiesInStudy"),
            )
            for answer in answers
        ]
        return [study for study in found if not patient_id or study.patient_id == patient_id]

    def series(self, study_uid: str) -> list[FoundSeries]:
        """QIDO for the series of a study."""
        fields = ["SeriesDescription", "NumberOfSeriesRelatedInstances"]
        answers = self._pages(
            "SeriesInstanceUID",
            lambda client, offset: client.search_for_series(study_uid, limit=PAGE, offset=offset, fields=fields),
        )
        return [
            FoundSeries(
                uid=_uid(answer, "SeriesInstanceUID"),
                modality=_text(answer, "Modality"),
                description=_text(answer, "SeriesDescription"),
                num_objects=_number(answer, "NumberOfSeriesRelatedInstances"),
            )
            for answer in answers
        ]

    def objects(self, study_uid: str, series_uid: str) -> list[FoundObject]:
        """QIDO for the objects of a series."""
        fields = ["ImageType", "NumberOfFrames"]
        answers = self._pages(
            "SOPInstanceUID",
            lambda client, offset: client.search_for_instances(
                study_uid, series_uid, limit=PAGE, offset=offset, fields=fields
            ),
        )
        return [
            FoundObject(
                uid=_uid(answer, "SOPInstanceUID"),
                series_uid=series_uid,
                study_uid=study_uid,
                kind=image_kind(_texts(answer, "ImageType")),
                num_frames=_number(answer, "NumberOfFrames"),
            )
            for answer in answers
        ]

    def fetch(self, objects: Sequence[FoundObject], receive: Receive) -> None:
        """WADO of one object after the other, in the transfer syntax in which the archive holds them."""
        for found in objects:
            receive(found.uid, encoded(self.ask(partial(_retrieved, found=found))))

    def close(self) -> None:
        """Let go of the session."""
        client, self._client = self._client, None
        if client is not None:
            client._session.close()

    # --- Asking -------------------------------------------------------------------------------------------------------

    def _pages(self, key: str, question: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """All pages of an answer, each thing once, until a page brings nothing new."""
        found: dict[str, dict[str, Any]] = {}
        for _ in range(MOST_PAGES):
            before = len(found)
            for answer in self.ask(partial(question, offset=before)):
                found.setdefault(_uid(answer, key), answer)
            if len(found) == before:
                return list(found.values())
        raise PacsError(f"{self.address} gives more than {MOST_PAGES} pages; ask for less: source.since, source.until")

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """Let the client do something, and say in our words what goes wrong.

        Raises:
            FaultError: It may pass.
            PacsError: It will not.
        """
        import requests
        from pydicom.errors import InvalidDicomError

        try:
            with warnings.catch_warnings():  # they would quote values and addresses
                warnings.simplefilter("ignore")
                return question(self._connected())
        except requests.exceptions.HTTPError as error:
            raise self._refusal(error.response.status_code if error.response is not None else 0) from None
        except requests.exceptions.SSLError as error:
            raise self._untrusted(error) from None
        except requests.exceptions.TooManyRedirects:
            raise PacsError(
                f"{self.address} redirects to another address, which is not followed; give the address of the "
                "DICOMweb service itself with input="
            ) from None
        except requests.exceptions.Timeout:
            raise FaultError(f"{self.address} does not answer within {self.timeout_s:g} s") from None
        except requests.exceptions.ConnectionError as error:
            raise self._unreachable(error) from None
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise FaultError(f"{self.address} breaks off its answer ({type(error).__name__})") from None
        except (requests.exceptions.RequestException, InvalidDicomError, *NOT_UNDERSTOOD) as error:
            raise PacsError(
                f"{self.address} answers with something that is not DICOMweb ({type(error).__name__}); is this the "
                "root of the service, for example https://host/dicom-web?"
            ) from None

    def _connected(self) -> Any:
        if self._client is None:
            import requests
            from dicomweb_client.api import DICOMwebClient

            session = requests.Session()
            session.max_redirects = 0
            session.trust_env = not self.address.is_loopback  # proxies of the environment, but not for this machine
            session.verify = str(self.tls.ca_file) if self.tls.ca_file else True
            if self.tls.certificate and self.tls.key:
                session.cert = (str(self.tls.certificate), str(self.tls.key))
            session.auth = _Credentials(self.secrets)  # always set: requests would look into netrc on its own
            client = DICOMwebClient(self.address.url, session=session, timeout=self.timeout_s)
            client.set_http_retry_params(retry=False)
            self._client = client
        return self._client

    # --- Saying what is wrong -----------------------------------------------------------------------------------------

    def _refusal(self, status: int) -> Exception:
        if status in BUSY:
            return FaultError(f"{self.address} is busy or fails (HTTP {status})")
        if status in (401, 403):
            how = f"set {USER} and {PASSWORD}, or {TOKEN}, in the environment, or use netrc"
            sent = "does not accept the credentials that were sent" if self.secrets else "wants credentials"
            return PacsError(f"{self.address} {sent} (HTTP {status}); {how}")
        if status == 404:
            return PacsError(
                f"{self.address} has no DICOMweb there, or no longer what it listed (HTTP 404); expected the root of "
                "the service, for example https://host/dicom-web"
            )
        return PacsError(f"{self.address} refuses the question (HTTP {status}); its administrator can tell why")

    def _untrusted(self, error: Exception) -> Exception:
        why = _cause(error, ssl.SSLCertVerificationError)
        reason = f" ({why.verify_message})" if isinstance(why, ssl.SSLCertVerificationError) else ""
        if why is None:
            return PacsError(
                f"{self.address}: TLS fails; does the server speak it at this port, or does it want a certificate of "
                "ours (source.client_certificate, source.client_key)?"
            )
        return PacsError(
            f"{self.address}: its certificate cannot be verified{reason}; give the certificate of the authority that "
            "signed it with source.ca_file=<file.pem>"
        )

    def _unreachable(self, error: Exception) -> Exception:
        if "NameResolution" in repr(error):
            return PacsError(f"input={self.address}: no machine is called {self.address.host}; correct the name")
        why = _cause(error, OSError)
        reason = f" ({why.strerror})" if isinstance(why, OSError) and why.strerror else ""
        return FaultError(
            f"{self.address} cannot be reached{reason}; check host and port of input=, the firewall and the proxy"
        )


class _Credentials:
    """Adds what the server wants to each request; as an object of its own it is never taken for another host."""

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets

    def __call__(self, request: Any) -> Any:
        from requests.auth import HTTPBasicAuth

        if self.secrets.token:
            request.headers["Authorization"] = f"Bearer {self.secrets.token}"
        elif self.secrets.user:
            HTTPBasicAuth(self.secrets.user.encode(), self.secrets.password.encode())(request)
        return request


# --- Private helpers --------------------------------------------------------------------------------------------------


def _cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The innermost error of a kind that this one was made of."""
    found, seen, waiting = None, set(), [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, kind) and not type(one).__module__.startswith(("requests", "urllib3")):
            found = one
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [part for part in inner if isinstance(part, BaseException)]
    return found


def _retrieved(client: Any, found: FoundObject) -> Any:
    return client.retrieve_instance(found.study_uid, found.series_uid, found.uid)


def encoded(dataset: Any) -> bytes:
    """A DICOM file; elements that nobody looked at are written as they came."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _texts(answer: dict[str, Any], keyword: str) -> tuple[str, ...]:
    values = answer.get(TAGS[keyword], {}).get("Value") or []
    return tuple(str(value).strip() for value in values if value is not None)


def _text(answer: dict[str, Any], keyword: str) -> str:
    return "\\".join(_texts(answer, keyword))


def _number(answer: dict[str, Any], keyword: str) -> int | None:
    text = _text(answer, keyword)
    return int(text) if text.isdecimal() else None


def _uid(answer: dict[str, Any], keyword: str) -> str:
    text = _text(answer, keyword)
    if len(text) > 64 or not UID.fullmatch(text):
        raise PacsError(f"the PACS lists an object whose {keyword} is no UID; its administrator can tell why")
    return text
