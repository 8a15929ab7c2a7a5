"""Outlines read along rays: where a straight line enters and leaves the wall, to a fraction of a voxel.

An outline is a mask, or the share of each voxel that the structure fills (0 to 1; what a network gives before its
threshold). Between voxel centers it is interpolated linearly, and the surface lies where it passes one half: half way
between two voxels of a mask, which is unbiased when a voxel counts once half of it is filled.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.ndimage import label, map_coordinates

from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Affine

__all__ = [
    "EDGE",
    "STEP_MM",
    "crossings_mm",
    "finest_spacing_mm",
    "one_piece",
    "sample",
    "sample_along",
    "sphere_directions",
    "voxel_centers_mm",
    "voxel_ml",
]

EDGE = 0.5
"""Share of a voxel at which a surface is drawn."""

STEP_MM = 0.75
"""Distance of samples along a ray; a crossing between two samples is interpolated."""

LARGEST_PIECE_SHARE = 0.9
"""Share of the outline that must hang together: single voxels broken off a thin wall are left out, an organ is not."""

NEIGHBORS = np.ones((3, 3, 3), bool)


def voxel_ml(affine_ras: Affine) -> float:
    """Volume of one voxel.

    Example:
        >>> round(voxel_ml(np.diag([4.0, 4.0, 5.0, 1.0])), 6)
        0.08
    """
    return float(abs(np.linalg.det(affine_ras[:3, :3]))) / 1000


def finest_spacing_mm(affine_ras: Affine) -> float:
    """Smallest of the three voxel edges."""
    return float(np.linalg.norm(affine_ras[:3, :3], axis=0).min())


def one_piece(outline: Shaped[np.ndarray, "z y x"], affine_ras: Affine, name: str) -> Float[np.ndarray, "z y x"]:
    """The outline as shares of voxels, without crumbs that are not connected to it.

    Args:
        outline: Mask, or shares between 0 and 1.
        affine_ras: Voxel index (x, y, z) to RAS.
        name: What the error calls it.

    Raises:
        CardiacError: It is empty, not finite, outside 0 to 1, in several large pieces, or its affine is singular.
    """
    if not np.isfinite(affine_ras).all() or voxel_ml(affine_ras) == 0:
        raise CardiacError(f"affine_ras: is {affine_ras.tolist()}; expected a finite one with voxels of some volume")
    shares = outline.astype(float)
    if not np.isfinite(shares).all() or shares.min(initial=0.0) < 0 or shares.max(initial=0.0) > 1:
        raise CardiacError(
            f"{name}: holds values from {np.nanmin(shares):g} to {np.nanmax(shares):g}; expected a mask or shares of "
            "voxels between 0 and 1"
        )
    pieces, num_pieces = label(shares >= EDGE, structure=NEIGHBORS)
    if num_pieces == 0:
        raise CardiacError(f"{name}: is empty; nothing can be measured on a study without an outline")
    sizes = np.bincount(pieces.ravel())[1:]
    if sizes.max() < LARGEST_PIECE_SHARE * sizes.sum():
        shown = ", ".join(str(size) for size in sorted(sizes.tolist(), reverse=True)[:5])
        raise CardiacError(
            f"{name}: has {num_pieces} separate pieces of {shown} voxels; expected one ventricle. Keep the piece that "
            "is the ventricle first"
        )
    others = (pieces > 0) & (pieces != 1 + int(sizes.argmax()))
    return np.where(others, 0.0, shares)


def voxel_centers_mm(where: Bool[np.ndarray, "z y x"], affine_ras: Affine) -> Float[np.ndarray, "n 3"]:
    """Centers of the voxels that are True, in RAS."""
    index = np.argwhere(where)[:, ::-1]
    return index @ affine_ras[:3, :3].T + affine_ras[:3, 3]


def sample(
    volume: Float[np.ndarray, "z y x"], affine_ras: Affine, points_mm: Float[np.ndarray, "*points 3"]
) -> Float[np.ndarray, "*points"]:
    """Values at points in RAS, linear between voxel centers, 0 outside the grid.

    Example:
        >>> volume = np.array([[[0.0, 1.0]]])
        >>> sample(volume, np.diag([4.0, 4.0, 4.0, 1.0]), np.array([[1.0, 0.0, 0.0], [9.0, 0.0, 0.0]]))
        array([0.25, 0.  ])
    """
    near, corner = _without_empty_margin(volume)
    to_index = np.linalg.inv(affine_ras)
    index = points_mm @ to_index[:3, :3].T + (to_index[:3, 3] - corner[::-1])
    coordinates = np.moveaxis(index[..., ::-1], -1, 0)
    return map_coordinates(near, coordinates, order=1, mode="constant", cval=0.0, prefilter=False)


def sample_along(
    volume: Float[np.ndarray, "z y x"],
    affine_ras: Affine,
    start_mm: Float[np.ndarray, "*#rays 3"],
    direction: Float[np.ndarray, "*#rays 3"],
    distance_mm: Float[np.ndarray, " samples"],
) -> Float[np.ndarray, "*rays samples"]:
    """As :func:`sample`, along straight rays: their points are never made, which would take longer than the rest.

    Args:
        volume: Values.
        affine_ras: Voxel index (x, y, z) to RAS.
        start_mm: Where each ray begins, in RAS.
        direction: Unit vector of each.
        distance_mm: From the start.

    Example:
        >>> volume = np.array([[[0.0, 1.0]]])
        >>> affine = np.diag([4.0, 4.0, 4.0, 1.0])
        >>> sample_along(volume, affine, np.zeros((1, 3)), np.array([[1.0, 0.0, 0.0]]), np.array([0.0, 1.0, 9.0]))
        array([[0.  , 0.25, 0.  ]])
    """
    near, corner = _without_empty_margin(volume)
    to_index = np.linalg.inv(affine_ras)
    start = (start_mm @ to_index[:3, :3].T + to_index[:3, 3])[..., ::-1] - corner
    step = (direction @ to_index[:3, :3].T)[..., ::-1]
    start, step = np.broadcast_arrays(start, step)
    coordinates = np.empty((3, *start.shape[:-1], len(distance_mm)))
    for axis, along in enumerate(coordinates):
        np.multiply(step[..., axis, None], distance_mm, out=along)
        along += start[..., axis, None]
    return map_coordinates(near, coordinates, order=1, mode="constant", cval=0.0, prefilter=False)


def sphere_directions(num: int) -> Float[np.ndarray, "num 3"]:
    """Unit vectors spread evenly over the sphere on a spiral of the golden angle."""
    height = 1 - (2 * np.arange(num) + 1) / num
    turn = np.arange(num) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=-1)


def crossings_mm(
    profiles: Float[np.ndarray, "*rays samples"], step_mm: float
) -> tuple[Float[np.ndarray, "*rays"], Float[np.ndarray, "*rays"]]:
    """Where each ray first enters the wall and where it last leaves it.

    Args:
        profiles: Share of wall along each ray, samples ``step_mm`` apart, the first at the start of the ray.
        step_mm: Distance of samples.

    Returns:
        Distance of the inner and of the outer surface in mm; NaN where the ray meets no wall. A ray that starts inside
        the wall has its inner surface at 0, one that ends inside it has no outer surface.

    Example:
        >>> inner, outer = crossings_mm(np.array([[0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.1, 0.2, 0.0, 0.0]]), 2.0)
        >>> inner, outer
        (array([ 3., nan]), array([ 7., nan]))
    """
    above = profiles >= EDGE
    num = profiles.shape[-1]
    hit = above.any(-1)
    first = above.argmax(-1)
    last = num - 1 - above[..., ::-1].argmax(-1)

    def between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        at_low = np.take_along_axis(profiles, low[..., None], -1)[..., 0]
        at_high = np.take_along_axis(profiles, high[..., None], -1)[..., 0]
        rise = np.where(at_high == at_low, 1.0, at_high - at_low)
        return (low + np.clip((EDGE - at_low) / rise, 0, 1) * (high - low)) * step_mm

    inner = np.where(first > 0, between(np.maximum(first - 1, 0), first), 0.0)
    outer = np.where(last < num - 1, between(last, np.minimum(last + 1, num - 1)), np.nan)
    return np.where(hit, inner, np.nan), np.where(hit, outer, np.nan)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _without_empty_margin(
    volume: Float[np.ndarray, "z y x"],
) -> tuple[Float[np.ndarray, "depth height width"], Float[np.ndarray, "3"]]:
    """The part of a volume that is not zero, with one layer of zeros around it, and the index of its first voxel.

    Everything beyond that layer is 0 without interpolation: most samples along rays through an outline are.
    """
    box = []
    for axis in range(3):
        found = np.flatnonzero(volume.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1))
    return np.pad(volume[tuple(box)], 1), np.array([part.start - 1.0 for part in box])
