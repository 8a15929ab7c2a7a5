"""Files that are whole or absent.

Every file that mpi_unet leaves behind is written to a temporary neighbour, flushed to the disk and renamed over its
final name, so that a reader - another process, or the same command after a power cut - never meets half a file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpi_unet.errors import RunError

PART = ".part-"
"""How the name of a temporary neighbor begins; one that stays behind belongs to a process that was killed."""


def is_part(path: Path) -> bool:
    """Whether a file is the unfinished neighbor of another, or a folder in the making.

    Example:
        >>> is_part(Path("run/.part-3f9a.json")), is_part(Path("run/summary.json"))
        (True, False)
    """
    return path.name.startswith(PART)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; on leaving, flush it and rename it to ``path``.

    The temporary file stands in the same folder and keeps the suffixes of ``path``, so that libraries which go by the
    file name (nibabel, imageio) write the right format. Nothing is left behind when the body raises.

    Raises:
        RunError: The disk is full or the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=PART, suffix="".join(path.suffixes[-2:]), dir=path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp gives 0600; results are for the group to read
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def waiting_lock(path: str | Path) -> Iterator[None]:
    """Wait until no other process holds this lock; the system lets go of it when its holder dies.

    Raises:
        RunError: The folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise unwritable(path.parent, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON; NaN and infinity are refused, because JSON has no word for them."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read one JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256(*parts: bytes | str) -> str:
    """Hexadecimal SHA-256 over the parts, each preceded by its length so that no two lists of parts collide."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def unwritable(path: Path, error: OSError) -> RunError:
    """The error that says that ``path`` cannot be written and what to do."""
    return RunError(
        f"{path} cannot be written: {error.strerror or error}. Everything written so far is whole; "
        f"{write_remedy(error, 'folder')}, then give the same command again and it goes on from there"
    )


def write_remedy(error: OSError, option: str) -> str:
    """What to do about a place that cannot be written to.

    Args:
        error: What the system said.
        option: What the place is called, for example ``output``.

    Example:
        >>> write_remedy(NotADirectoryError(errno.ENOTDIR, "Not a directory"), "output")
        'a part of its path is a file and no folder: choose another output'
    """
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"a part of its path is a file and no folder: choose another {option}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"you may not write there: get the permission or choose another {option}"
    return f"free some space or choose another {option}"
