"""Identity: who a DICOM object speaks of, and copies of it that do not tell.

`deidentified` copies from an object what `mpi_unet.dicom.allow_list` names, under keyed pseudonyms, and nothing else;
its pixels are decoded first, since a compressed stream has room for comments. `identifying` says what in an object or
in a text gives a person away, by the name of the place and never by its content. `burned_in` says why the pixels
themselves may hold writing, which no copy of attributes removes.

Nothing here is certified. The way of PS3.15's basic profile is taken, with three of its options: modified dates,
patient characteristics as far as the sex, structured content as far as public codes.

Source:
    DICOM PS3.15 annex E.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import numpy as np
from pydicom import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, NuclearMedicineImageStorage

from mpi_unet.dicom import allow_list
from mpi_unet.dicom.identity_keys import DEFAULT_KEY_FILE, Pseudonyms
from mpi_unet.dicom.identity_pixels import burned_in, plain_pixels
from mpi_unet.dicom.nm.elements import Elements
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.dicom.nm.kind import require_nuclear_medicine
from mpi_unet.errors import DicomError

__all__ = ["DEFAULT_KEY_FILE", "METHOD", "Pseudonyms", "burned_in", "deidentified", "identifying", "patient_id_of"]

METHOD = "mpi_unet allow-list copy, keyed pseudonyms, not certified"
"""De-identification Method of every copy; a text of at most 64 characters."""

NAMED_VRS = frozenset({"PN", "LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "AS"})
"""Value representations that people write names, numbers and remarks into."""

DATED_VRS = frozenset({"DA", "TM", "DT"})

DATE_IN_TEXT = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-./]?[01]\d[-./]?[0-3]\d|[0-3]?\d[-./][01]?\d[-./](?:19|20)?\d\d)(?!\d)"
)
LONG_NUMBER = re.compile(r"\d{5,}")
TITLE = re.compile(
    r"\b(?:dr|mr|mrs|ms|miss|herr|frau|mme|monsieur|madame|sra?|sig|signora?|dott|prof)\b[.]?\s", re.IGNORECASE
)


def patient_id_of(dataset: Dataset) -> str:
    """The PatientID without the blanks around it; empty when the object does not say whose it is."""
    return _text(dataset.get("PatientID")).strip()


def deidentified(dataset: Dataset, pseudonyms: Pseudonyms, *, patient_id: str | None = None) -> Dataset:
    """Copy a Nuclear Medicine image without whose it is.

    Patient's name and id become the pseudonym, unique identifiers are replaced wherever they stand, so that references
    between copies hold, and dates move by the patient's keyed number of days. Times, texts, private tags, overlays and
    whatever else is not on the list stay behind; `mpi_unet.dicom.allow_list` says what is on it. Writing within the
    pixels is not looked for: ask `burned_in` first.

    Args:
        dataset: The image with its pixels and, where it has one, its file meta information; it is not changed.
        pseudonyms: Made from the key of the project.
        patient_id: Whose image it is, when ``dataset`` does not say so.

    Returns:
        A dataset in explicit little endian with new file meta information, its pixels decoded.

    Raises:
        DicomError: The object is no Nuclear Medicine image, it does not say whose it is, or its pixels cannot be
            decoded.
    """
    require_nuclear_medicine(Elements(dataset, "dataset"))  # the allow-list is made for no other object
    whose = patient_id or patient_id_of(dataset)
    if not whose:
        raise DicomError("PatientID (0010,0020) is empty; expected one: say whose image this is with patient_id=")
    with quiet():
        allowed = _Copier(pseudonyms, whose).copy(dataset)
    allowed.SOPClassUID, allowed.Modality = NuclearMedicineImageStorage, "NM"
    for keyword in allow_list.EMPTY:
        setattr(allowed, keyword, "")
    allowed.PatientSex = allowed.get("PatientSex", "")
    allowed.PatientID = allowed.PatientName = pseudonyms.patient(whose)
    allowed.PatientIdentityRemoved, allowed.DeidentificationMethod = "YES", METHOD
    allowed.LongitudinalTemporalInformationModified = "MODIFIED"
    if "PixelData" in dataset:
        _add_pixels(dataset, allowed)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = allowed.SOPClassUID
    if "SOPInstanceUID" in allowed:
        meta.MediaStorageSOPInstanceUID = allowed.SOPInstanceUID
    allowed.file_meta = meta
    return allowed


def identifying(source: Dataset | str) -> list[str]:
    """What gives a person away, as the places where it stands; the content itself is never quoted.

    Of an object these are names, texts, dates, times and private tags that have a value and are not on the allow-list
    as they stand; of a text, what looks like a name, a date or a number of a person. Nobody can tell from the form of
    a text that it holds no name: an empty answer for a text means only that nothing was noticed.

    Args:
        source: An object, or a text such as a series description.

    Example:
        >>> identifying("Stress SA, Dr. Miller, 12.03.2024"), identifying("Stress SA")
        (['a title before a name', 'a date'], [])
    """
    if isinstance(source, Dataset):
        return [place for place, element in _elements(source) if _gives_away(element, source)]
    found = {
        "a caret, as between the parts of a name": "^" in source,
        "a title before a name": TITLE.search(source),
        "a date": DATE_IN_TEXT.search(source),
        "a number of five digits or more": LONG_NUMBER.search(DATE_IN_TEXT.sub("", source)),
        "an address": "@" in source,
    }
    return [what for what, there in found.items() if there]


# --- Private helpers: what identifies ---------------------------------------------------------------------------------


def _elements(dataset: Dataset, path: str = "") -> Iterator[tuple[str, DataElement]]:
    """All elements that hold no sequence, with the place where they stand in words."""
    for element in dataset:
        place = f"{path}{element.keyword or 'private'} {element.tag}"
        if element.VR == "SQ" and not element.tag.is_private:
            for number, item in enumerate(element.value, start=1):
                yield from _elements(item, f"{place}[{number}] > ")
        else:
            yield place, element


def _gives_away(element: DataElement, dataset: Dataset) -> bool:
    if element.is_empty:
        return False
    if element.tag.is_private:
        return True
    if element.VR in DATED_VRS:
        return dataset.get("LongitudinalTemporalInformationModified") != "MODIFIED"
    if element.VR not in NAMED_VRS or element.keyword in {"DeidentificationMethod", "CodeValue"}:
        return False
    if element.keyword in allow_list.WORDS:
        return not allow_list.WORDS[element.keyword].issuperset(_values(element))
    text = _text(element.value)
    if element.keyword in {"PatientName", "PatientID"}:
        return re.fullmatch(r"P[A-Z2-7]{10}", text) is None
    if element.keyword in {"CodeMeaning", "CodingSchemeDesignator"}:
        return element.keyword == "CodeMeaning" and text not in allow_list.MEANINGS.values() and _is_free(text)
    if element.keyword in allow_list.VOCABULARIES:
        return allow_list.from_vocabulary(element.keyword, text) != text
    return True


def _is_free(meaning: str) -> bool:
    """Whether a code meaning is more than the code that stands for it where the meaning is not known."""
    scheme, _, value = meaning.partition(" ")
    return not allow_list.is_public_code(scheme, value)


# --- Private helpers: the copy ----------------------------------------------------------------------------------------


class _Copier:
    """Copies what the allow-list names, at every depth."""

    def __init__(self, pseudonyms: Pseudonyms, patient_id: str) -> None:
        self.pseudonyms = pseudonyms
        self.patient_id = patient_id

    def copy(self, dataset: Dataset) -> Dataset:
        allowed = Dataset()
        for tag in dataset.keys():  # noqa: SIM118 - iterating a dataset converts every element, unreadable ones too
            if Tag(tag).is_private:
                continue
            try:
                element = dataset[tag]
                self._add(allowed, element)
            except (ValueError, TypeError, AttributeError, OverflowError, NotImplementedError, KeyError):
                continue  # a value that its own representation does not allow: not a number, no date, no sequence
        return allowed

    def _add(self, allowed: Dataset, element: DataElement) -> None:
        keyword = element.keyword
        if keyword in allow_list.NUMBERS and _is_numeric(element):
            allowed.add(copy.deepcopy(element))
        elif keyword in allow_list.WORDS:
            words = [word for word in _values(element) if word in allow_list.WORDS[keyword]]
            if words:
                setattr(allowed, keyword, words if len(words) > 1 else words[0])
        elif keyword in allow_list.UIDS:
            uids = [self.pseudonyms.uid(uid) for uid in _values(element)]
            setattr(allowed, keyword, uids if len(uids) > 1 else "".join(uids))
        elif keyword in allow_list.DATES:
            setattr(allowed, keyword, self.pseudonyms.date(self.patient_id, _text(element.value)))
        elif keyword in allow_list.VOCABULARIES:
            setattr(allowed, keyword, allow_list.from_vocabulary(keyword, _text(element.value)))
        elif keyword in allow_list.CODES and element.VR == "SQ":
            setattr(allowed, keyword, [term for item in element.value if (term := self._term(item)) is not None])
        elif keyword in allow_list.SEQUENCES and element.VR == "SQ":
            setattr(allowed, keyword, [self.copy(item) for item in element.value])

    def _term(self, item: Dataset) -> Dataset | None:
        """A coded term of a public vocabulary with the codes that modify it; None for any other."""
        scheme, value = _text(item.get("CodingSchemeDesignator")).strip(), _text(item.get("CodeValue")).strip()
        if not allow_list.is_public_code(scheme, value):
            return None
        term = Dataset()
        term.CodeValue, term.CodingSchemeDesignator = value, scheme
        term.CodeMeaning = allow_list.code_meaning(scheme, value)
        for keyword in allow_list.CODES & set(item.dir()):
            self._add(term, item[keyword])
        return term


def _add_pixels(dataset: Dataset, allowed: Dataset) -> None:
    pixels = plain_pixels(dataset)
    data = pixels.tobytes()
    if "PhotometricInterpretation" not in allowed:
        allowed.PhotometricInterpretation = "MONOCHROME2"
    allowed.add_new("PixelData", "OB" if pixels.dtype.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))


def _is_numeric(element: DataElement) -> bool:
    if element.VR in {"US", "SS", "UL", "SL", "FL", "FD", "AT"}:
        return True
    if element.VR not in {"DS", "IS"}:
        return False
    return all(np.isfinite(float(value)) for value in _values(element))


def _values(element: DataElement) -> list[str]:
    """The values of an element as texts; none when it is empty."""
    if element.is_empty:
        return []
    values = element.value if element.VM > 1 else [element.value]
    return [str(value) for value in values]


def _text(value: object) -> str:
    """A value of any kind as one text."""
    if value is None:
        return ""
    return str(value) if isinstance(value, str) or not isinstance(value, list | tuple) else "\\".join(map(str, value))
