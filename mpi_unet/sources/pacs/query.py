"""What is wanted of an archive: which days, which patients, which kinds of image.

Only exact values and ranges of dates are asked of the server. Descriptions are matched on our side: servers differ in
what their wildcards mean, and some answer a wildcard with nothing at all, which looks like an empty archive.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpi_unet.errors import ConfigError, listing, nearest
from mpi_unet.sources.pacs.archive import FoundObject, FoundSeries, FoundStudy

__all__ = ["KINDS", "TOMOGRAPHIC", "Query", "read_patients"]

KINDS = ("STATIC", "DYNAMIC", "GATED", "WHOLE BODY", "TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO")
"""Value 3 of Image Type in Nuclear Medicine (PS3.3 C.8.4.9.1.1)."""

TOMOGRAPHIC = ("TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO")

WINDOW_DAYS = 31
"""A range of dates is asked for month by month: many archives cut an answer short after some hundred studies."""

WILDCARDS = set("*?\\^")
"""Would make a server match other patients, or several values."""

DIGITS = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


@dataclass(frozen=True)
class Query:
    """What is wanted.

    Attributes:
        since: First day, ``YYYYMMDD``; empty when open.
        until: Last day; empty when open.
        modality: Modality of the series, ``NM``.
        include: Pattern that the description of the study or of the series must match; None for all.
        exclude: Pattern that neither may match; None for nothing.
        kinds: Kinds of image.
        min_frames: Objects with fewer frames are left.
        patients: Ids of patients; None for all.
        limit: Largest number of studies; None for all.
    """

    since: str
    until: str
    modality: str
    include: re.Pattern[str] | None
    exclude: re.Pattern[str] | None
    kinds: tuple[str, ...]
    min_frames: int
    patients: tuple[str, ...] | None = field(repr=False)
    limit: int | None

    @classmethod
    def of_options(
        cls,
        *,
        since: str | int | None,
        until: str | int | None,
        modality: str,
        include: str | None,
        exclude: str | None,
        kinds: Sequence[str],
        min_frames: int,
        patients: str | Path | None,
        limit: int | None,
    ) -> Query:
        """Check the options of the source.

        Raises:
            ConfigError: Names each option that cannot be used.
        """
        problems: list[str] = []
        first, last = _day("since", since, problems), _day("until", until, problems)
        if first and last and first > last:
            problems.append(f"source.since={first} is after source.until={last}; expected the earlier day first")
        if not re.fullmatch(r"[A-Z]{2,16}", modality):
            problems.append(f"source.modality={modality!r}; expected DICOM's two letters, for example NM")
        problems += [
            f"source.kinds: {kind!r} is no kind of image; expected {', '.join(KINDS)}{nearest(kind, KINDS)}"
            for kind in kinds
            if kind not in KINDS
        ]
        if not kinds:
            problems.append(f"source.kinds is empty; expected some of {', '.join(KINDS)}")
        if min_frames < 1:
            problems.append(f"source.min_frames={min_frames}; expected at least 1")
        if limit is not None and limit < 1:
            problems.append(f"source.limit={limit}; expected at least 1, or null for all studies")
        taken, refused = _pattern("include", include, problems), _pattern("exclude", exclude, problems)
        ids = read_patients(Path(patients), problems) if patients is not None else None
        if problems:
            raise ConfigError(f"These options of source=pacs cannot be used:\n{listing(problems)}\nCorrect them")
        return cls(first, last, modality, taken, refused, tuple(kinds), min_frames, ids, limit)

    def windows(self, today: datetime.date | None = None) -> Iterator[tuple[str, str]]:
        """Ranges of at most `WINDOW_DAYS` days that cover the range without overlap; one range if it has no beginning.

        Example:
            >>> query = Query("20240115", "20240220", "NM", None, None, ("TOMO",), 2, None, None)
            >>> list(query.windows())
            [('20240115', '20240214'), ('20240215', '20240220')]
        """
        if not self.since:  # nobody knows where to begin
            yield "", self.until
            return
        first = _date(self.since)
        last = _date(self.until) if self.until else (today or datetime.date.today())
        while first <= last:
            end = min(first + datetime.timedelta(days=WINDOW_DAYS - 1), last)
            yield f"{first:%Y%m%d}", f"{end:%Y%m%d}"
            first = end + datetime.timedelta(days=1)
        if not self.until:  # clocks of cameras run ahead
            yield f"{first:%Y%m%d}", ""

    def wants_study(self, study: FoundStudy) -> bool:
        """Whether a study that the server listed is one: not every server heeds every part of a question."""
        in_range = not (self.since or self.until) or bool(study.date)
        in_range &= (not self.since or study.date >= self.since) and (not self.until or study.date <= self.until)
        known = self.patients is None or study.patient_id in self.patients
        return in_range and known and (not study.modalities or self.modality in study.modalities)

    def why_not_series(self, study: FoundStudy, series: FoundSeries) -> str:
        """Why a series is left, in words; empty when it is wanted."""
        if series.modality and series.modality != self.modality:
            return f"series of another modality than {self.modality}"
        texts = (study.description, series.description)
        if self.include and not any(self.include.search(text) for text in texts):
            return "description does not match source.include"
        if self.exclude and any(self.exclude.search(text) for text in texts):
            return "description matches source.exclude"
        return ""

    def why_not_object(self, found: FoundObject) -> str:
        """Why an object is left, in words; what the archive does not say of it speaks for it."""
        if found.kind and found.kind not in self.kinds:
            return f"object of the kind {found.kind if found.kind in KINDS else 'unknown in nuclear medicine'}"
        if found.num_frames is not None and found.num_frames < self.min_frames:
            return f"object of fewer than {self.min_frames} frames"
        return ""


def read_patients(path: Path, problems: list[str]) -> tuple[str, ...]:
    """Ids of patients from a text file, one on each line.

    Returns:
        The ids, each once; what is wrong with the file goes to ``problems`` with the numbers of its lines, never with
        an id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        problems.append(f"source.patients={path} cannot be read ({reason}); expected one PatientID on each line")
        return ()
    wild = [str(number) for number, line in enumerate(lines, 1) if WILDCARDS & set(line) or len(line.strip()) > 64]
    if wild:
        problems.append(
            f"source.patients={path}: line {', '.join(wild)} holds * ? \\ ^ or more than 64 characters; expected one "
            "PatientID on each line"
        )
    ids = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not ids:
        problems.append(f"source.patients={path} holds no id; expected one PatientID on each line, or null for all")
    return ids


# --- Private helpers --------------------------------------------------------------------------------------------------


def _day(option: str, value: str | int | None, problems: list[str]) -> str:
    """``YYYYMMDD`` of ``2024-01-31`` or ``20240131``; empty when None."""
    if value is None:
        return ""
    match = DIGITS.fullmatch(str(value).strip())
    try:
        return f"{datetime.date(*map(int, match.groups())):%Y%m%d}" if match else _no_day(option, value, problems)
    except ValueError:
        return _no_day(option, value, problems)


def _no_day(option: str, value: str | int, problems: list[str]) -> str:
    problems.append(f"source.{option}={value}; expected a day as 2024-01-31, or null for an open range")
    return ""


def _date(day: str) -> datetime.date:
    return datetime.datetime.strptime(day, "%Y%m%d").date()


def _pattern(option: str, text: str | None, problems: list[str]) -> re.Pattern[str] | None:
    try:
        return re.compile(text, re.IGNORECASE) if text is not None else None
    except re.error as error:
        problems.append(
            f"source.{option}={text!r} is no regular expression ({error}); expected one, for example 'rest'"
        )
        return None
