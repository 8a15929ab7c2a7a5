"""The left ventricle's outline in the camera's views: the shadow of the filled ventricle.

A convex body's shadow is given by its support function: how far the body reaches in each direction. The filled
ventricle, its mouth closed by the valve plane, is convex up to a millimeter, and so is what a reader outlines.
Directions lie in the plane of a view: 0 along u (to the patient's left in the anterior view), 90 degrees toward the
head.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mpi_unet.phantom.camera import Camera
from mpi_unet.phantom.heart import Heart, HeartFields
from mpi_unet.shapes import Mask

__all__ = ["NUM_DIRECTIONS", "directions", "outline_mask", "support_mm", "surface_points_mm"]

NUM_DIRECTIONS = 96
"""Tangents per outline; between two of them it strays by less than 0.05 mm."""


def directions() -> Float[np.ndarray, "direction 2"]:
    """Unit vectors (u, toward the head)."""
    angle = np.arange(NUM_DIRECTIONS) * 2 * np.pi / NUM_DIRECTIONS
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def surface_points_mm(heart: Heart, fields: HeartFields, threshold: float = 0.5) -> Float[np.ndarray, "point 3"]:
    """World points where the filled ventricle's occupancy crosses the threshold between two cells."""
    points = []
    for axis in range(3):
        low = np.moveaxis(fields.filled, axis, 0)[:-1]
        high = np.moveaxis(fields.filled, axis, 0)[1:]
        crossing = np.argwhere((low >= threshold) != (high >= threshold))
        before, after = low[tuple(crossing.T)].astype(float), high[tuple(crossing.T)].astype(float)
        index = crossing.astype(float)
        index[:, 0] += (threshold - before) / (after - before)
        order = [axis, *[other for other in range(3) if other != axis]]
        points.append(index[:, np.argsort(order)])
    return heart.to_world(np.concatenate(points) * fields.step_mm + np.array(fields.origin_mm))


def support_mm(points_mm: Float[np.ndarray, "point 3"], camera: Camera) -> Float[np.ndarray, "view direction"]:
    """How far the body reaches in each direction of each view, mm from the axis of rotation."""
    plane = directions()
    reaches = []
    for angle in np.deg2rad(camera.view_angles_deg):
        flat = np.stack([points_mm[:, 0] * np.cos(angle) + points_mm[:, 1] * np.sin(angle), points_mm[:, 2]])
        reaches.append((plane @ flat).max(axis=1))
    return np.stack(reaches)


def outline_mask(support: Float[np.ndarray, "view direction"], camera: Camera) -> Mask:
    """Pixels whose center lies within the outline, which is where at least half of the pixel does; (view, row, u).

    Rows run from the head down, as the camera's images do.
    """
    u_mm = (np.arange(camera.num_bins) - (camera.num_bins - 1) / 2) * camera.pixel_mm
    head_mm = ((camera.num_rows - 1) / 2 - np.arange(camera.num_rows)) * camera.pixel_mm
    mask = np.zeros((len(support), camera.num_rows, camera.num_bins), bool)
    plane = directions()
    for view, reach in enumerate(support):
        right, top = reach[0], reach[NUM_DIRECTIONS // 4]
        left, bottom = -reach[NUM_DIRECTIONS // 2], -reach[3 * NUM_DIRECTIONS // 4]
        columns = np.flatnonzero((u_mm >= left) & (u_mm <= right))
        rows = np.flatnonzero((head_mm >= bottom) & (head_mm <= top))
        centers = np.stack(np.meshgrid(u_mm[columns], head_mm[rows]), axis=-1)
        mask[view][np.ix_(rows, columns)] = (centers @ plane.T <= reach).all(axis=-1)
    return mask
