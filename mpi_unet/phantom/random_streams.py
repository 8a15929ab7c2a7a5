"""Random numbers that depend on who they are for, not on when they are drawn.

A stream is named by the cohort's seed, the patient, what it is for and up to three details (study, gate, reader,
...). It is a counter-based generator (Philox) keyed by these names, so patient 17 is the same in any order and with
any number of workers. Only uniform numbers are drawn; every other distribution is the inverse of its distribution
function applied to one uniform.

What holds across machines: the uniforms are bit-identical everywhere. The inverse functions come from the mathematics
library, whose last bit may differ between builds of numpy and scipy; a last-bit difference moves an outline by
nothing that shows, and ``poisson_counts`` rounds its means so that it does not move the noise either, except in very
rare pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32
from scipy.special import ndtri, pdtr

__all__ = ["MEAN_STEP", "PURPOSES", "Number", "Stream", "poisson_counts"]

PURPOSES = ("body", "heart", "uptake", "defects", "acquisition", "counts", "reorientation", "reader")
"""What a stream may be for. The position is part of the key: append, never reorder."""

MEAN_STEP = 2.0**-12
"""Poisson means are rounded to this step, far below any noise, so that a last-bit difference cannot change a count."""

Item = TypeVar("Item")

Number: TypeAlias = int | float
"""Either kind of number."""


class Stream:
    """Uniform numbers for one purpose, and the distributions made from them.

    Args:
        seed: Seed of the cohort.
        patient: Number of the patient in the cohort.
        purpose: One of ``PURPOSES``.
        details: Up to three numbers that tell streams of one purpose apart.

    Example:
        >>> Stream(7, 0, "body").uniform(0, 1) == Stream(7, 0, "body").uniform(0, 1)
        True
    """

    def __init__(self, seed: int, patient: int, purpose: str, *details: int) -> None:
        # Always the same number of words: SeedSequence pads with zeros, so (1, 2) and (1, 2, 0) would be one stream.
        words = [seed, patient, PURPOSES.index(purpose), *details, *[0] * (3 - len(details))]
        self._generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))

    def uniforms(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform numbers in [0, 1), float64."""
        return self._generator.random(shape)

    def uniform(self, low: Number, high: Number) -> float:
        """One number, evenly between ``low`` and ``high``."""
        return low + (high - low) * float(self._generator.random())

    def normals(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal numbers, float64."""
        return ndtri(np.clip(self.uniforms(shape), 1e-12, 1 - 1e-12))

    def normal(self, mean: Number, sd: Number, low: Number = -np.inf, high: Number = np.inf) -> float:
        """One normal number, held between ``low`` and ``high``."""
        return float(np.clip(mean + sd * float(self.normals((1,))[0]), low, high))

    def lognormal(self, median: Number, ratio: Number, low: Number = 0.0, high: Number = np.inf) -> float:
        """One log-normal number: two thirds of them lie between ``median / ratio`` and ``median * ratio``."""
        return float(np.clip(median * ratio ** float(self.normals((1,))[0]), low, high))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self._generator.random() < probability)

    def choice(self, items: Sequence[Item], weights: Sequence[Number]) -> Item:
        """One of the items, with odds in proportion to the weights."""
        edges = np.cumsum(weights) / np.sum(weights)
        return items[int(np.searchsorted(edges, self._generator.random(), side="right"))]


def poisson_counts(mean: Float32[np.ndarray, ...], uniforms: np.ndarray) -> Float32[np.ndarray, ...]:
    """Poisson counts by inversion: the smallest count whose distribution function reaches the uniform number.

    One uniform number per pixel, so the noise of one pixel never depends on another pixel's mean.

    Args:
        mean: Expected counts, not negative.
        uniforms: Numbers in [0, 1), of the same shape.

    Returns:
        Whole counts.
    """
    expected = np.round(mean.astype(np.float64) / MEAN_STEP) * MEAN_STEP
    counts = np.zeros(expected.shape)
    some = np.flatnonzero((expected > 0) & (uniforms > np.exp(-expected)))  # elsewhere the count is zero
    rate, level = expected.flat[some], uniforms.flat[some]
    score = ndtri(level)
    guess = np.maximum(np.floor(rate + np.sqrt(rate) * score + (score * score - 1) / 6 + 0.5), 1.0)  # Cornish-Fisher
    open_pixels = np.arange(rate.size)
    while open_pixels.size:  # the guess is off by one in a few per cent of pixels, rarely by more
        here, rates, levels = guess[open_pixels], rate[open_pixels], level[open_pixels]
        too_low = pdtr(here, rates) < levels
        too_high = ~too_low & (here > 1) & (pdtr(np.maximum(here - 1, 0), rates) >= levels)
        guess[open_pixels] = here + too_low - too_high
        open_pixels = open_pixels[too_low | too_high]
    counts.flat[some] = guess
    return counts.astype(np.float32)
