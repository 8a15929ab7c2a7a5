"""The keys of the door ``evaluate`` that are about measurements and categories of readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mpi_unet.errors import nearest
from mpi_unet.reader_study.options import ReadingOptions

__all__ = ["reading_options_of", "reading_problems"]

WEIGHTS = ("linear", "quadratic")
UNORDERED = "unordered"


def reading_problems(config: DictConfig) -> list[str]:
    """What cannot be meant in these keys, one sentence each."""
    problems = []
    if config.category_weights not in WEIGHTS:
        hint = nearest(config.category_weights, WEIGHTS)
        problems.append(f"category_weights is {config.category_weights!r}, expected {' or '.join(WEIGHTS)}{hint}")
    margins, scales = _plain(config.measurement_margins), _plain(config.categories)
    if not isinstance(margins, dict) or not all(_is_margin(value) for value in margins.values()):
        problems.append(
            f"measurement_margins is {margins}, expected a positive difference in the unit of each: {{ef_pct: 5}}"
        )
    if not isinstance(scales, dict):
        return [*problems, f"categories is {scales}, expected a scale a quantity: {{severity: [none,mild,severe]}}"]
    for name, scale in scales.items():
        words = _words(scale)
        if words is None or len(words) < 2 or len(set(words)) < len(words):
            problems.append(
                f"categories.{name} is {scale}, expected two or more categories, each once, the lowest first: "
                f"{{{name}: [none,mild,severe]}}, or without an order {{{name}: {{unordered: [a,b,c]}}}}"
            )
    return problems


def reading_options_of(config: DictConfig) -> ReadingOptions:
    """How readings are compared; the keys are already judged."""
    scales = _plain(config.categories)
    table = config.network_measurements
    return ReadingOptions(
        tables=tuple(_tables(config)),
        network_table=None if table is None else Path(table),
        margins={str(name): float(value) for name, value in _plain(config.measurement_margins).items()},
        scales={str(name): tuple(_words(scale) or ()) for name, scale in scales.items()},
        ordered=tuple(str(name) for name, scale in scales.items() if isinstance(scale, list)),
        weights=config.category_weights,
        reference=config.category_reference,
        further_readers=tuple(str(reader) for reader in config.further_readers),
    )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _tables(config: DictConfig) -> list[Path]:
    given = config.measurements
    if given is None:
        return []
    return [Path(str(path)) for path in (given if isinstance(given, ListConfig) else [given])]


def _plain(value: Any) -> Any:
    """A plain value; nothing at all is an empty mapping."""
    if value is None:
        return {}
    return OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value


def _words(scale: Any) -> list[str] | None:
    """The categories of a scale as text; None where it is none."""
    if isinstance(scale, dict) and list(scale) == [UNORDERED]:
        scale = scale[UNORDERED]
    if not isinstance(scale, list) or any(isinstance(word, list | dict | float | None) for word in scale):
        return None
    return [str(word).lower() if isinstance(word, bool) else str(word) for word in scale]


def _is_margin(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
