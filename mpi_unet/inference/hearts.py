"""The heart of one study as a file: its axes and its polar map in counts, ``<output>/hearts/<study>.json``.

Whatever needs more than numbers starts here and reads no image again: the cycle of a gated study, the comparison with
normals, rest beside stress, a normal database, a page. Maps are kept in counts, since gates share their scale.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.cardiac.axis import HeartAxes
from mpi_unet.cardiac.polar_map import PolarMap
from mpi_unet.errors import CardiacError
from mpi_unet.files import read_json, write_json

__all__ = ["HEARTS", "Heart", "heart_file", "read_heart", "write_heart"]

HEARTS = "hearts"

SCHEMA_VERSION = "1.0.0"

DIGITS = 6
"""Significant digits of a pixel; counts are known to three at best."""


@dataclass(frozen=True)
class Heart:
    """What was found in one image.

    Attributes:
        axes: Long axis, valve plane and apex.
        polar: Uptake of the wall in counts of the image; None where no map could be made.
    """

    axes: HeartAxes
    polar: PolarMap | None


def heart_file(output: str | Path, study_id: str) -> Path:
    """The heart of one study."""
    return Path(output) / HEARTS / f"{study_id}.json"


def write_heart(path: str | Path, heart: Heart) -> None:
    """Write a heart, whole or not at all."""
    polar = heart.polar
    content = {
        "schema_version": SCHEMA_VERSION,
        "axes": asdict(heart.axes),
        "polar": None
        if polar is None
        else {
            "statistic": polar.statistic,
            "unit": polar.unit,
            "values": _rows(polar.values),
            "area_mm2": _rows(polar.area_mm2),
        },
    }
    write_json(path, content)


def read_heart(path: str | Path) -> Heart:
    """Read what :func:`write_heart` wrote.

    Raises:
        CardiacError: The file is missing or no heart.
    """
    try:
        content = read_json(path)
        if str(content["schema_version"]).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise ValueError(f"schema version {content['schema_version']}")
        facts: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in content["axes"].items()}
        axes = HeartAxes(**facts)
        found = content["polar"]
        polar = None
        if found is not None:
            values, area = (np.array(found[name], dtype=np.float64) for name in ("values", "area_mm2"))
            if values.ndim != 2 or values.shape != area.shape:
                raise ValueError(f"maps of {values.shape} and {area.shape}")
            polar = PolarMap(values, area, str(found["statistic"]), str(found["unit"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CardiacError(
            f"{path} cannot be read as the heart of a study ({error}); expected a file that predict wrote. Remove the "
            "study's result in studies/ and predict again"
        ) from error
    return Heart(axes, polar)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _rows(values: np.ndarray) -> list[list[float | None]]:
    return [[float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in row] for row in values]
