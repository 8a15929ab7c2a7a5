"""The polar map as a picture: a disc with the apex in the middle, as every report shows it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates

__all__ = ["disc_picture"]

Polar = Float[np.ndarray, "ring angle"]


def disc_picture(values: Polar, size: int = 256, *, smooth: bool = True) -> Float[np.ndarray, "size size"]:
    """The map as a disc for display: anterior on top, lateral on the right, septum on the left, apex in the middle.

    Args:
        values: (ring, angle), NaN where not measured.
        size: Rows and columns.
        smooth: Interpolate between pixels of the map; off for labels such as segment numbers.

    Returns:
        The picture, NaN outside the disc and where the map is.

    Example:
        >>> disc = disc_picture(np.repeat([[1.0], [2.0], [3.0], [4.0]], 24, axis=1), 81, smooth=False)
        >>> [float(disc[40, column]) for column in (40, 55, 65, 80)]
        [1.0, 2.0, 3.0, 4.0]
    """
    rings, num_angles = values.shape
    place = (np.arange(size) - (size - 1) / 2) / (size / 2)
    right, down = np.meshgrid(place, place)
    radius = np.hypot(right, down)
    angle = np.rad2deg(np.arctan2(right, -down)) % 360
    ring = radius * rings - 0.5
    pixel = angle * num_angles / 360 - 0.5
    nearest = values[np.clip(np.round(ring).astype(int), 0, rings - 1), np.round(pixel).astype(int) % num_angles]
    picture = nearest
    if smooth:
        known = np.isfinite(values)
        around = np.concatenate([values[:, -1:], values, values[:, :1]], axis=1)
        weight = np.concatenate([known[:, -1:], known, known[:, :1]], axis=1).astype(float)
        at = [np.clip(ring, 0, rings - 1), pixel + 1]
        total = map_coordinates(np.where(weight > 0, around, 0.0), at, order=1, mode="nearest")
        share = map_coordinates(weight, at, order=1, mode="nearest")
        picture = np.divide(total, share, out=np.full(total.shape, np.nan), where=share > 0)
        picture = np.where(np.isfinite(nearest), picture, np.nan)
    return np.where(radius <= 1, picture, np.nan)
