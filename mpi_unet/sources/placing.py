"""How a cohort comes to its place: whole, and only over a cohort that the same source has made.

A cohort is built in a hidden folder beside its place and renamed when it is complete. ``cohort.json`` keeps the *key*
of what it was made from (the files, the arguments and the version of the source): the same command finds the same key
and makes nothing; another key makes the cohort anew. A folder that the source did not make is never replaced.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpi_unet.errors import CohortError, RunError

__all__ = [
    "KEY",
    "check_apart",
    "check_replaceable",
    "clear_parts",
    "cohort_in_making",
    "part_of",
    "put_in_place",
    "reuse_key",
]

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


def part_of(output: str | Path, key: str) -> Path:
    """The hidden folder in which the cohort of this key is built."""
    output = Path(output)
    return output.with_name(f".part-{output.name}-{key.rpartition(':')[2][:12]}")


def clear_parts(output: str | Path, keep: Path) -> None:
    """Remove what builds of other keys have left behind."""
    output = Path(output)
    for abandoned in set(output.parent.glob(f".part-{output.name}-*")) - {keep}:
        shutil.rmtree(abandoned, ignore_errors=True)


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
        RunError: The disk is full or ``output`` cannot be written to.
    """
    output, wanted = Path(output), f"{source}:{key}"
    there = reuse_key(output)
    if there == wanted:
        yield None
        return
    check_replaceable(output, (there or "").startswith(f"{source}:"), source=f"source={source}")
    part = part_of(output, key)
    try:
        clear_parts(output, keep=part)
        part.mkdir(parents=True, exist_ok=True)
        yield part
        if reuse_key(part) != wanted:
            raise ValueError(f"the cohort.json of source={source} lacks {KEY}={wanted}")
        put_in_place(part, output)
    except CohortError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    except OSError as error:
        if reuse_key(output) != wanted:  # else another process has just finished the same cohort
            raise RunError(
                f"{output} cannot be written: {error.strerror or error}; free some space or choose another output"
            ) from error
