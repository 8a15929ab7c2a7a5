"""Published and independently computed values of statistics: tests/data/golden_stats.json, one entry per statistic.

Each entry says where its numbers come from (``source``), what computed them (``computed_by``) and how closely they have
to be met (``tolerance``).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parent / "data" / "golden_stats.json"


@cache
def entries() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(FILE.read_text())}


def golden(name: str) -> tuple[Any, dict[str, Any]]:
    """Inputs and expected values of an entry."""
    return entries()[name]["inputs"], entries()[name]["expected"]


def near(name: str, expected: Any, part: str | None = None) -> Any:
    """What a found value has to equal, within the tolerance of the entry."""
    tolerance = entries()[name]["tolerance"]
    return pytest.approx(expected, abs=tolerance if part is None else tolerance[part], rel=0)
