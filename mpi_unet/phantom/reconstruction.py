"""From the camera's views to a transaxial volume, as clinics do it.

Ordered-subsets expectation maximization (with or without correction of attenuation and of the collimator's blur) or
filtered back projection, then a low-pass filter. Columns as in ``projector``: views are (view, u, batch, z), volumes
(y x, batch, z).

Source: Hudson, Larkin, IEEE Trans Med Imaging 1994;13:601 (OSEM).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from mpi_unet.phantom.projector import Projector
from mpi_unet.shapes import SpacingMm

__all__ = [
    "FILTER_PADDING",
    "MIN_EXPECTED_COUNTS",
    "butterworth",
    "field_of_view",
    "filtered_back_projection",
    "hann",
    "osem",
]

MIN_EXPECTED_COUNTS = 1e-4
"""Expected counts below this are raised to it before dividing; a hundredth of the faintest pixel of a study."""

FILTER_PADDING = 8
"""Pixels that a volume is continued over before it is filtered, so that its ends do not mix."""


def osem(
    projector: Projector,
    views: Float32[np.ndarray, "view bin batch z"],
    *,
    num_iterations: int = 8,
    num_subsets: int = 4,
    scatter: Float32[np.ndarray, "view bin batch z"] | None = None,
) -> Float32[np.ndarray, "yx batch z"]:
    """Reconstruct by ordered-subsets expectation maximization.

    Args:
        projector: On the grid of the volume; its attenuation and blur are corrected for.
        views: Measured counts.
        num_iterations: Passes over all views.
        num_subsets: Views are dealt out over so many subsets; must not exceed the number of views.
        scatter: Expected scattered counts, added to what the volume explains; None leaves scatter uncorrected.

    Returns:
        Counts per cell; zero outside the circle that every view sees.
    """
    num_views = projector.camera.num_views
    subsets = [range(first, num_views, num_subsets) for first in range(num_subsets)]
    one = np.ones(views.shape[1:], np.float32)
    sensitivity = [sum(projector.backward(one, view) for view in subset) for subset in subsets]
    volume = np.ones((projector.num_pixels**2, *views.shape[2:]), np.float32)
    volume *= field_of_view(projector.num_pixels)[:, None, None]
    for _ in range(num_iterations):
        for subset, seen in zip(subsets, sensitivity, strict=True):
            correction = np.zeros_like(volume)
            for view in subset:
                expected = projector.forward(volume, view)
                if scatter is not None:
                    expected = expected + scatter[view]
                ratio = views[view] / np.maximum(expected, np.float32(MIN_EXPECTED_COUNTS))
                correction += projector.backward(ratio, view)
            volume *= np.where(seen > 1e-6, correction / np.maximum(seen, np.float32(1e-6)), 0)
    return volume


def filtered_back_projection(
    projector: Projector, views: Float32[np.ndarray, "view bin batch z"]
) -> Float32[np.ndarray, "yx batch z"]:
    """Reconstruct by ramp-filtered back projection; negative values become zero.

    The ramp is sampled in space, not in frequency, so that the mean of the object is kept. The low-pass filter that
    clinics combine with it is applied afterwards, to the volume, as ``butterworth`` does.

    Source: Kak, Slaney, Principles of Computerized Tomographic Imaging, IEEE Press 1988, section 3.3.
    """
    num_views, num_bins = views.shape[:2]
    offsets = np.arange(-num_bins, num_bins)
    ramp = np.zeros(2 * num_bins)
    odd = offsets % 2 == 1
    ramp[odd] = -1 / (np.pi * offsets[odd]) ** 2
    ramp[num_bins] = 0.25
    response = np.abs(np.fft.rfft(np.fft.ifftshift(ramp)))
    spectrum = np.fft.rfft(views, 2 * num_bins, axis=1) * response[None, :, None, None]
    filtered = np.fft.irfft(spectrum, 2 * num_bins, axis=1)[:, :num_bins].astype(np.float32)
    volume = np.zeros((projector.num_pixels**2, *views.shape[2:]), np.float32)
    for view in range(num_views):
        volume += projector.backward(np.ascontiguousarray(filtered[view]), view)
    volume *= np.float32(np.pi / num_views)
    return np.maximum(volume, 0) * field_of_view(projector.num_pixels)[:, None, None]


def butterworth(
    volume: Float32[np.ndarray, "y x z"],
    spacing_mm: SpacingMm,
    cutoff_per_cm: float,
    order: float | int,
) -> Float32[np.ndarray, "y x z"]:
    """Three-dimensional Butterworth low-pass; half power at the cutoff; negative values become zero.

    Args:
        volume: Any volume.
        spacing_mm: Distance of cells along each axis, mm.
        cutoff_per_cm: Frequency where the amplitude is 1/sqrt(2), cycles per cm.
        order: Steepness; the amplitude is ``1 / sqrt(1 + (f / cutoff) ** (2 * order))``.
    """
    return _filtered(volume, spacing_mm, lambda f: 1 / np.sqrt(1 + (f / cutoff_per_cm) ** (2 * order)))


def hann(
    volume: Float32[np.ndarray, "y x z"], spacing_mm: SpacingMm, cutoff_per_cm: float
) -> Float32[np.ndarray, "y x z"]:
    """Three-dimensional Hann low-pass; zero from the cutoff (cycles per cm) on; negative values become zero."""
    return _filtered(
        volume, spacing_mm, lambda f: np.where(f < cutoff_per_cm, 0.5 + 0.5 * np.cos(np.pi * f / cutoff_per_cm), 0)
    )


def field_of_view(num_pixels: int) -> Float32[np.ndarray, " yx"]:
    """One inside the circle that every view sees, zero outside."""
    offset = np.arange(num_pixels) - (num_pixels - 1) / 2
    inside = np.hypot(offset[:, None], offset[None, :]) <= num_pixels / 2
    return inside.astype(np.float32).ravel()


def _filtered(volume: np.ndarray, spacing_mm: SpacingMm, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    padded = np.pad(volume, FILTER_PADDING, mode="edge")
    along = [np.fft.fftfreq(size, step / 10) for size, step in zip(padded.shape, spacing_mm, strict=True)]
    along[2] = np.fft.rfftfreq(padded.shape[2], spacing_mm[2] / 10)
    frequency = np.sqrt(along[0][:, None, None] ** 2 + along[1][None, :, None] ** 2 + along[2][None, None, :] ** 2)
    smooth = np.fft.irfftn(np.fft.rfftn(padded) * gain(frequency), padded.shape, axes=(0, 1, 2))
    inner = slice(FILTER_PADDING, -FILTER_PADDING)
    return np.maximum(smooth[inner, inner, inner], 0).astype(np.float32)
