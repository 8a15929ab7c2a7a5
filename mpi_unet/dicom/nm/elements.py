"""The attributes of a dataset, each with the type that it must have.

What stands in a file may be anything: text where a number belongs, three numbers where two belong, a sequence that ends
in the middle. Whoever asks here gets the right type, or an error that names the file, the attribute, what was found and
what was expected. pydicom converts a value when it is first looked at, and says in many ways that it cannot; all of
them end here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from mpi_unet.errors import DicomError

__all__ = ["Elements", "tag_text"]

MAX_TEXT_SHOWN = 60
"""So many characters of a wrong value are quoted in the error."""

ASK_SENDER = "export the study again, or ask the sender for a whole file"
"""What to do about a file that was damaged on its way."""


def tag_text(keyword: str) -> str:
    """An attribute as people and the standard name it.

    Example:
        >>> tag_text("SliceVector")
        'SliceVector (0054,0080)'
    """
    tag = _tag(keyword)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"


@dataclass(frozen=True)
class Elements:
    """The attributes of a dataset or of an item of a sequence, read with care.

    Attributes:
        dataset: What pydicom made of the file.
        where: The name of the file, for errors; the folders above it may hold the names of patients.
        inside: The sequence and item that this is, e.g. ``"DetectorInformationSequence[0]"``; empty at the top level.
    """

    dataset: Dataset
    where: str
    inside: str = ""

    def name(self, keyword: str) -> str:
        """The attribute with the place where it stands."""
        return tag_text(keyword) + (f" in {self.inside}" if self.inside else "")

    def error(self, keyword: str, found: str, expected: str, remedy: str = ASK_SENDER) -> DicomError:
        """An error to be raised about one attribute."""
        return DicomError(f"{self.where}: {self.name(keyword)} {found}; expected {expected}; {remedy}")

    def has(self, keyword: str) -> bool:
        """Whether the attribute is there, be it empty."""
        return _tag(keyword) in self.dataset

    def value(self, keyword: str) -> object:
        """The value as pydicom understands it; None where the attribute is absent or empty.

        Raises:
            DicomError: The value cannot be understood at all.
        """
        if not self.has(keyword):
            return None
        try:
            value = self.dataset[_tag(keyword)].value
        except Exception as error:  # pydicom's converters raise whatever comes up in them
            raise self.error(
                keyword, f"cannot be understood ({type(error).__name__})", "a value of its type"
            ) from error
        return None if value is None or (isinstance(value, str | bytes) and not value) else value

    def texts(self, keyword: str) -> tuple[str, ...]:
        """All values as text without the blanks around them; empty where there are none or they are unreadable."""
        try:
            value = self.value(keyword)
        except DicomError:
            return ()
        return tuple(_text(each) for each in _several(value))

    def text(self, keyword: str) -> str:
        """The value as text; several values as they stand, with backslashes between them."""
        return "\\".join(self.texts(keyword))

    def integers(self, keyword: str) -> tuple[int, ...]:
        """All values as whole numbers; empty where there are none.

        Raises:
            DicomError: A value is no whole number.
        """
        value = self.value(keyword)
        numbers = []
        for each in _several(value):
            number = _whole(each)
            if number is None:
                raise self.error(keyword, f"holds {_quoted(each)}", "whole numbers")
            numbers.append(number)
        return tuple(numbers)

    def integer(self, keyword: str) -> int | None:
        """The one whole number, or None where there is none.

        Raises:
            DicomError: There are several values, or one that is no whole number.
        """
        numbers = self.integers(keyword)
        if len(numbers) > 1:
            raise self.error(keyword, f"holds {len(numbers)} values", "one whole number")
        return numbers[0] if numbers else None

    def decimals(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """So many finite numbers, or None where there are none.

        Raises:
            DicomError: There are more or fewer, or one is not finite.
        """
        value = self.value(keyword)
        if value is None:
            return None
        numbers = []
        for each in _several(value):
            number = _number(each)
            if not math.isfinite(number):
                raise self.error(keyword, f"holds {_quoted(each)}", "finite numbers")
            numbers.append(number)
        if not numbers:
            return None
        if len(numbers) != count:
            raise self.error(keyword, f"holds {len(numbers)} values", f"{count}")
        return tuple(numbers)

    def decimal(self, keyword: str) -> float | None:
        """The one finite number, or None where there is none."""
        numbers = self.decimals(keyword, 1)
        return numbers[0] if numbers else None

    def items(self, keyword: str) -> tuple[Elements, ...]:
        """The items of a sequence; empty where it is absent or has none.

        Raises:
            DicomError: The attribute is no sequence.
        """
        value = self.value(keyword)
        if value is None:
            return ()
        items = tuple(_several(value))
        if not all(isinstance(item, Dataset) for item in items):
            raise self.error(keyword, "is no sequence of items", "a sequence")
        above = f"{self.inside}." if self.inside else ""
        return tuple(
            Elements(item, self.where, f"{above}{keyword}[{number}]")
            for number, item in enumerate(items)
            if isinstance(item, Dataset)
        )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return Tag(tag)


def _several(value: object) -> Iterable[object]:
    if value is None:
        return ()
    if isinstance(value, str | bytes | Dataset) or not isinstance(value, Iterable):
        return (value,)
    return value


def _text(value: object) -> str:
    if isinstance(value, Dataset):
        return ""  # an item where text belongs; printing it could fail in its elements
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return " ".join(str(value).replace("\x00", " ").split())


def _number(value: Any) -> float:
    """A value as a number; NaN for what is none."""
    if isinstance(value, bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if math.isfinite(number) and number == int(number) else None


def _quoted(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} raw bytes"
    if isinstance(value, Dataset):
        return "an item of a sequence"
    text = repr(_text(value)) if isinstance(value, str) else _text(value)
    return text if len(text) <= MAX_TEXT_SHOWN else f"{text[:MAX_TEXT_SHOWN]}..."
