"""What is undefined, what is infinite, and how a mean treats either: one policy, in one place.

*Undefined* (NaN): the score has no meaning for this pair of masks, e.g. the Dice of two empty masks. It enters no mean
and is counted in ``n_undefined``. *Infinite*: a distance to a boundary that is not there, because exactly one of the
masks is empty - the worst error there is, which a library that drops it turns into no error at all. It enters a mean as
the diagonal of the image in mm (no distance inside the image is longer), is counted in ``n_infinite``, and the median,
which needs no such stand-in, is reported beside the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mpi_unet.evaluation.intervals import t_interval

__all__ = ["INFINITE_NOTE", "Summary", "diagonal_mm", "for_mean", "mean_of_defined", "summarize_values"]

INFINITE_NOTE = "an infinite distance (one of the two masks is empty) enters the mean as the diagonal of the image"
"""The sentence that goes with every mean in which an infinite distance was replaced."""


@dataclass(frozen=True)
class Summary:
    """One score over patients.

    ``n`` patients entered the mean; ``n_infinite`` of them did so with a stand-in for infinity; ``n_undefined`` are
    left out of ``n``. ``median``, ``iqr``, ``min`` and ``max`` keep infinity as it is. What cannot be said is None, and
    ``note`` says why.
    """

    n: int
    n_undefined: int
    n_infinite: int
    mean: float | None
    sd: float | None
    ci95: tuple[float, float] | None
    ci_method: str
    median: float | None
    iqr: tuple[float, float] | None
    min: float | None
    max: float | None
    note: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``summary.json``: None for what cannot be said, the string ``"inf"`` for infinity."""
        return {
            "n": self.n,
            "n_undefined": self.n_undefined,
            "n_infinite": self.n_infinite,
            "mean": _plain(self.mean),
            "sd": _plain(self.sd),
            "ci95": None if self.ci95 is None else [_plain(end) for end in self.ci95],
            "ci_method": self.ci_method,
            "median": _plain(self.median),
            "iqr": None if self.iqr is None else [_plain(end) for end in self.iqr],
            "min": _plain(self.min),
            "max": _plain(self.max),
            "note": self.note,
        }


def diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Distance in mm between the centers of the two farthest pixels or voxels of an image.

    Args:
        shape: Pixels along each axis.
        spacing_mm: Distance of neighboring centers along the same axes.

    Example:
        >>> round(diagonal_mm((12, 12), (1.0, 1.0)), 6)
        15.556349
    """
    return math.hypot(*((size - 1) * step for size, step in zip(shape, spacing_mm, strict=True)))


def for_mean(
    values: Float[np.ndarray, " n"], stand_in: float | Float[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, " n"]:
    """Replace infinity by its stand-in; NaN stays NaN.

    Args:
        values: Scores, some of them perhaps NaN or infinite.
        stand_in: What infinity counts as, for all or for each; for a distance the diagonal of the image.

    Raises:
        ValueError: A value is infinite, but its stand-in is missing.

    Example:
        >>> for_mean(np.array([np.nan, np.inf, 3.0]), 15.5)
        array([ nan, 15.5,  3. ])
    """
    infinite = np.isinf(values)
    if not infinite.any():
        return values
    replacement = np.broadcast_to(np.nan if stand_in is None else stand_in, values.shape)
    if not np.isfinite(replacement[infinite]).all():
        raise ValueError(
            f"{int(infinite.sum())} of {values.size} values are infinite, and what they count as is unknown; expected "
            "the diagonal of the image in mm for each of them (policy.diagonal_mm)"
        )
    return np.where(infinite, replacement, values)


def mean_of_defined(values: Float[np.ndarray, " n"]) -> float:
    """Mean over the values that are not NaN; NaN when there is none. Infinite when one of them is.

    Example:
        >>> mean_of_defined(np.array([np.nan, 1.0, 2.0])), mean_of_defined(np.array([np.nan]))
        (1.5, nan)
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def summarize_values(
    values: Float[np.ndarray, " patients"],
    *,
    finite: Float[np.ndarray, " patients"] | None = None,
) -> Summary:
    """Summarize one score over patients.

    Args:
        values: One value per patient; NaN where undefined, inf where infinite.
        finite: The same with the stand-in for every infinite value (see :func:`for_mean`); needed only if one is
            infinite.

    Returns:
        The summary, with a t interval over patients when at least two patients are defined.

    Raises:
        ValueError: A value is infinite and ``finite`` does not say what it counts as.

    Example:
        Three patients; in the third both masks were empty.

        >>> summary = summarize_values(np.array([0.8, 0.9, np.nan]))
        >>> summary.n, summary.n_undefined, round(summary.mean, 3)
        (2, 1, 0.85)
    """
    infinite, undefined = np.isinf(values), np.isnan(values)
    n, n_infinite, n_undefined = int((~undefined).sum()), int(infinite.sum()), int(undefined.sum())
    notes = [f"undefined for {n_undefined} of {values.size} patients"] if n_undefined else []
    if n == 0:
        notes = notes or ["no patient was scored"]
        return Summary(0, n_undefined, 0, None, None, None, "none", None, None, None, None, "; ".join(notes))
    entering = for_mean(values, values if finite is None else finite)[~undefined]
    if n_infinite:
        notes.append(f"infinite for {n_infinite} of {n} patients: {INFINITE_NOTE}")
    ends, method, sd = None, "none", None
    if n >= 2:
        interval = t_interval(entering)
        ends, method, sd = (interval.low, interval.high), interval.method, float(entering.std(ddof=1))
    else:
        notes.append("no interval: one patient has no spread")
    low, median, high = _quartiles(values[~undefined])
    return Summary(
        n=n,
        n_undefined=n_undefined,
        n_infinite=n_infinite,
        mean=float(entering.mean()),
        sd=sd,
        ci95=ends,
        ci_method=method,
        median=median,
        iqr=(low, high),
        min=float(values[~undefined].min()),
        max=float(values[~undefined].max()),
        note="; ".join(notes),
    )


# --- Private helpers ---


def _quartiles(values: np.ndarray) -> tuple[float, float, float]:
    """Quartiles by linear interpolation, where halfway to infinity is infinity (numpy makes NaN of inf - inf)."""
    ordered = np.sort(values)
    return _quantile(ordered, 0.25), _quantile(ordered, 0.5), _quantile(ordered, 0.75)


def _quantile(ordered: np.ndarray, share: float) -> float:
    place = share * (ordered.size - 1)
    below = int(place)
    weight = place - below
    low, high = float(ordered[below]), float(ordered[min(below + 1, ordered.size - 1)])
    if weight == 0 or low == high:
        return low
    return low + weight * (high - low)


def _plain(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "inf" if value > 0 else "-inf"
