"""What a command made, and where two results of it differ: dates and temporary files aside, up to a tolerance."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from pathlib import Path
from typing import Any

__all__ = ["content", "differences", "is_left_over"]

DATES = {"created", "started", "finished", "seconds", "command", "cohort_folder", "device"}
"""Keys and columns that tell when and where, not what."""
LEFT_OVER = (".part-", ".previous.part", ".lock", ".old-")
"""Names of temporary neighbors and locks, which no door reads as a result."""


def content(output: Path) -> dict[str, Any]:
    """Everything that a command made, file by file, without dates."""
    made = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_file() and not is_left_over(name):
            made[name] = _content(path)
    return made


def is_left_over(name: str) -> bool:
    """Whether a file is a temporary neighbor or a lock."""
    return any(part.startswith(LEFT_OVER) for part in name.split("/"))


def _content(path: Path) -> Any:
    if path.name == "log.txt" or path.suffix == ".html":
        return "there"  # libraries' warnings with dates; a page drawn from the numbers that are compared
    if path.suffix == ".json":
        return _without_dates(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".csv":
        header, *rows = (line.split(",") for line in path.read_text(encoding="utf-8").splitlines())
        kept = [index for index, column in enumerate(header) if column not in DATES]
        return [[row[index] for index in kept] for row in (header, *rows)]
    if path.suffix == ".ckpt":
        import torch

        weights = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
        return {name: value.numpy() for name, value in weights.items()}
    data = path.read_bytes()
    return hashlib.sha256(gzip.decompress(data) if path.suffix == ".gz" else data).hexdigest()


def _without_dates(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_dates(value) for key, value in node.items() if key not in DATES}
    return [_without_dates(value) for value in node] if isinstance(node, list) else node


def differences(wanted: dict[str, Any], got: dict[str, Any], tolerance: float = 0.0) -> list[str]:
    """Where two contents differ by more than a tolerance, in words; see :class:`Command`."""
    told = [f"{name} is missing" for name in wanted if name not in got]
    told += [f"{name} is too much" for name in got if name not in wanted]
    return told + [
        f"{name} differs: {_first_difference(wanted[name], got[name], tolerance)}"
        for name in wanted
        if name in got and not _alike(wanted[name], got[name], tolerance)
    ]


def _alike(one: Any, other: Any, tolerance: float) -> bool:
    import numpy as np  # not above: who forks sets the number of threads first

    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_alike(*pair, tolerance) for pair in zip(one, other, strict=True))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if one.dtype.kind != "f" or not tolerance:
            return one.tobytes() == other.tobytes()
        return bool(np.abs(one - other).max(initial=0.0) <= tolerance * np.abs(one).max(initial=0.0))
    if one == other:
        return True
    if not tolerance or not all(isinstance(value, (str, float)) for value in (one, other)):
        return False
    try:
        return math.isclose(float(one), float(other), rel_tol=tolerance)
    except ValueError:
        return False


def _first_difference(one: Any, other: Any, tolerance: float) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        key = next(key for key in [*one, *other] if not _alike(one.get(key, ...), other.get(key, ...), tolerance))
        return f"{key}: {_first_difference(one.get(key), other.get(key), tolerance)}"
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        index = next(index for index, pair in enumerate(zip(one, other, strict=True)) if not _alike(*pair, tolerance))
        return f"[{index}]: {_first_difference(one[index], other[index], tolerance)}"
    return f"{str(one)[:200]} became {str(other)[:200]}"
