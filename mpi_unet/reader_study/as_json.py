"""Estimates, intervals and numbers as ``agreement.json`` holds them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mpi_unet.agreement import Estimate
from mpi_unet.agreement.estimate import mean_estimate
from mpi_unet.evaluation.intervals import Interval

__all__ = ["estimate_json", "interval_json", "mean_json", "number_json"]


def number_json(value: float | None) -> float | str | None:
    """A number that JSON can hold: None for NaN, the texts ``inf`` and ``-inf`` for infinity.

    Example:
        >>> number_json(0.5), number_json(float("nan")), number_json(float("inf"))
        (0.5, None, 'inf')
    """
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(value)


def interval_json(interval: Interval | None) -> dict[str, Any] | None:
    """An interval with its level and method."""
    if interval is None:
        return None
    return {
        "low": number_json(interval.low),
        "high": number_json(interval.high),
        "level": round(interval.level, 10),
        "method": interval.method,
    }


def estimate_json(value: float, n: int, interval: Interval | None, method: str = "") -> dict[str, Any]:
    """A number, how many patients are behind it, its interval and the method."""
    return {"value": number_json(value), "n": int(n), "interval": interval_json(interval), "method": method}


def of_estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate of the agreement room."""
    if estimate is None:
        return None
    return estimate_json(estimate.value, estimate.n, estimate.interval, estimate.method)


def mean_json(values: np.ndarray, level: float) -> dict[str, Any] | None:
    """The mean of the defined values with its t interval; None where there is none."""
    defined = np.asarray(values, dtype=float)[np.isfinite(values)]
    return of_estimate(mean_estimate(defined, level)) if defined.size else None
