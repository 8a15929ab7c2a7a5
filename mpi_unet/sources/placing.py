"""How a cohort comes to its place: whole, and only over a cohort that the same source has made.

A cohort is built in a hidden folder beside its place and renamed when it is complete. ``cohort.json`` keeps the *key*
of what it was made from (the files, the arguments and the version of the source): the same command finds the same key
and makes nothing; another key makes the cohort anew. A folder that the source did not make is never replaced. Commands
with the same output wait for one another.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpi_unet.errors import CohortError, RunError, listing
from mpi_unet.files import unwritable, write_remedy

__all__ = [
    "KEY",
    "check_apart",
    "check_complete",
    "check_not_private",
    "check_replaceable",
    "clear_parts",
    "cohort_in_making",
    "part_of",
    "place_lock",
    "put_in_place",
    "reuse_key",
]

RETRIEVED = "retrieved"
"""Folder within the private folder from which source=pacs makes its cohort."""

KEY = "source_key"
"""Key of ``cohort.json`` that tells from what the cohort was made; its value begins with the name of the source."""


def reuse_key(output: str | Path, name: str = KEY) -> str | None:
    """The key that the cohort at ``output`` was made with, or None where there is no such cohort."""
    try:
        return str(json.loads((Path(output) / "cohort.json").read_text(encoding="utf-8"))[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_replaceable(output: str | Path, made_by_us: bool, *, option: str = "output", source: str) -> None:
    """Refuse a place that holds what this source did not make.

    Args:
        output: Where the cohort is to be.
        made_by_us: Whether a cohort of this source is there.
        option: Name of the argument, for the error.
        source: What the user calls the source, for example ``source=nifti``.

    Raises:
        CohortError: Something else is there. A folder that is not there, or is empty, is fine.
    """
    output = Path(output)
    if output.exists() and not made_by_us and (not output.is_dir() or any(output.iterdir())):
        raise CohortError(
            f"{option}={output} holds something that {source} did not make and will not replace; "
            f"choose another {option}, or remove it"
        )


def check_apart(input: str | Path, output: str | Path) -> None:
    """Refuse an output that is the input, holds it or lies in it, because making the one would change the other.

    Raises:
        CohortError: The two are not apart.
    """
    source, place = Path(input).resolve(), Path(output).resolve()
    if place.is_relative_to(source) or source.is_relative_to(place):
        raise CohortError(f"output={output} and input={input} lie in one another; choose an output beside the input")
    check_not_private(input, output)


def check_not_private(input: str | Path, output: str | Path) -> None:
    """Refuse an input in the private folder beside the output, where this program writes itself.

    The folder to which source=pacs retrieves is the one exception.

    Raises:
        CohortError: The input is that folder or lies in it.
    """
    source, place = Path(input).resolve(), Path(output).resolve()
    private = place.with_name(f"{place.name}_private")
    if source.is_relative_to(private) and not source.is_relative_to(private / RETRIEVED):
        raise CohortError(
            f"input={input} lies in {private.name}, the private folder of output={output}, which is written by this "
            "program; choose another output"
        )


def part_of(output: str | Path, key: str) -> Path:
    """The hidden folder in which the cohort of this key is built."""
    output = Path(output)
    return output.with_name(f".part-{output.name}-{key.rpartition(':')[2][:12]}")


def clear_parts(output: str | Path, keep: Path) -> None:
    """Remove what builds of other keys have left behind, and nothing of a cohort whose name begins alike."""
    output = Path(output)
    ours = re.compile(rf"\.part-{re.escape(output.name)}-[0-9a-f]{{12}}")
    for path in output.parent.iterdir() if output.parent.is_dir() else ():
        if ours.fullmatch(path.name) and path != keep:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def place_lock(output: str | Path) -> Iterator[None]:
    """Wait until no other command makes something at ``output``; the system lets go of the lock when its holder dies.

    Raises:
        RunError: The folder of ``output`` cannot be written to.
    """
    output = Path(output)
    path = output.with_name(f".lock-{output.name}")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        except OSError as error:
            raise unwritable(output, error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_still(path, file.fileno()):  # the one before has removed it: this lock keeps nobody out
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def check_complete(part: Path) -> None:
    """Refuse, and remove, a cohort that lacks a file which its table names.

    Raises:
        RunError: Names the files.
    """
    table = part / "cases.csv"
    if not table.is_file():
        return
    with open(table, newline="", encoding="utf-8") as lines:
        missing = [
            file
            for row in csv.DictReader(lines)
            for name, file in row.items()
            if (name == "image" or name.startswith("label_")) and file and not (part / file).is_file()
        ]
    if missing:
        shutil.rmtree(part, ignore_errors=True)
        raise RunError(
            f"{len(missing)} files of the cohort vanished while it was made:\n{listing(missing)}\n"
            "Something else removed them; give the same command again"
        )


def put_in_place(part: Path, output: Path) -> None:
    """Rename the finished cohort to its place, over an older one."""
    old = output.with_name(f".old-{output.name}")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.replace(old)
    part.replace(output)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def cohort_in_making(output: str | Path, source: str, key: str) -> Iterator[Path | None]:
    """Give the folder to build a cohort in, and rename it to ``output`` when the body is done.

    The body writes the whole cohort; ``cohort.json`` must hold ``{KEY: f"{source}:{key}"}``, as `reuse_key` reads it.
    When the body raises a CohortError, what it built is removed; when it is killed, the same key finds it again.

    Args:
        output: The cohort folder.
        source: Name of the source, for example ``nifti``.
        key: SHA-256 over everything that decides the cohort.

    Yields:
        The folder to build in; None when the cohort at ``output`` has this key already, and nothing is to be done.

    Raises:
        CohortError: ``output`` holds something that this source did not make.
        RunError: The disk is full, ``output`` cannot be written to, or files vanished while they were written.
    """
    output, wanted = Path(output), f"{source}:{key}"
    if reuse_key(output) == wanted:
        yield None
        return
    _check_ours(output, source)
    with place_lock(output):
        if reuse_key(output) == wanted:  # another command has made it while this one waited
            yield None
            return
        _check_ours(output, source)
        with _built(output, wanted, part_of(output, key)) as part:
            yield part


# --- Private helpers --------------------------------------------------------------------------------------------------


def _check_ours(output: Path, source: str) -> None:
    made_by_us = (reuse_key(output) or "").startswith(f"{source}:")
    check_replaceable(output, made_by_us, source=f"source={source}")


@contextmanager
def _built(output: Path, wanted: str, part: Path) -> Iterator[Path]:
    """The folder to build in, which comes to its place when the body is done."""
    try:
        clear_parts(output, keep=part)
        part.mkdir(parents=True, exist_ok=True)
        yield part
        if reuse_key(part) != wanted:
            raise ValueError(f"the cohort.json of source={wanted.partition(':')[0]} lacks {KEY}={wanted}")
        check_complete(part)
        put_in_place(part, output)
    except CohortError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    except OSError as error:
        if reuse_key(output) != wanted:  # else another process has just finished the same cohort
            raise RunError(
                f"{output} cannot be written: {error.strerror or error}; {write_remedy(error, 'output')}"
            ) from error


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
