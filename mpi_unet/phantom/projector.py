"""From an object to the camera's views, and back.

For each view the object is turned so that depth runs along the first axis, weakened by the tissue between it and the
camera, blurred by the collimator - the more, the farther away - and summed over depth. The simulation does this on a
fine grid; the reconstruction on the camera's own grid, with the exact transpose of every step.

Columns: objects are (y x, batch, z), views are (u, batch, z); ``u`` runs along the detector, to the patient's left in
the anterior view. The batch carries gates through one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float32

from mpi_unet.phantom.camera import Camera, bin_responses

__all__ = ["SCATTER_KERNEL", "SLAB_MM", "Attenuation", "Projector", "turn_matrices"]

SLAB_MM = 12.8
"""Depth over which the blur is taken as constant; the width changes by less than 0.6 mm over it."""

SCATTER_KERNEL = ((0.55, 30.0), (0.45, 65.0))
"""Weight and sigma in mm of the two broad Gaussians that scatter is spread over; the tails fall off within 10 cm."""


@dataclass(frozen=True)
class Attenuation:
    """Linear attenuation per mm, (y x, z), on a grid ``coarseness`` times coarser in plane than the object's."""

    per_mm: Float32[np.ndarray, "yx z"]
    coarseness: int = 1


class Projector:
    """Views of one camera for objects on one grid.

    Args:
        camera: The camera.
        num_pixels: Length of the grid in y and in x.
        pixel_mm: Its spacing in plane; along z it is the camera's pixel.
        radius_mm: Distance of the collimator's face from the axis at each view; None for a camera without blur.
        attenuation: None for an object that does not attenuate.
        keep_counts: Hand counts over instead of reading between pixels when turning: no count is lost, which the
            simulation wants; reading gives the smoother images that a reconstruction wants.
    """

    def __init__(
        self,
        camera: Camera,
        num_pixels: int,
        pixel_mm: float,
        *,
        radius_mm: np.ndarray | None = None,
        attenuation: Attenuation | None = None,
        keep_counts: bool = False,
    ) -> None:
        self.camera, self.num_pixels, self.pixel_mm = camera, num_pixels, pixel_mm
        self.radius_mm, self.attenuation = radius_mm, attenuation
        angles = tuple(float(angle) for angle in camera.view_angles_deg)
        self._turn = turn_matrices(num_pixels, angles, keep_counts)
        self._integrals: tuple[int, np.ndarray] = (-1, np.zeros(0))  # of the view asked for last
        self._sums = None
        if radius_mm is None and attenuation is None:
            self._sums = _ray_sums(num_pixels, angles, keep_counts)
        if attenuation is not None:
            self._coarse_turn = turn_matrices(num_pixels // attenuation.coarseness, angles, False)

    def forward(self, activity: Float32[np.ndarray, "yx batch z"], view: int) -> Float32[np.ndarray, "bin batch z"]:
        """Expected counts of one view."""
        batch, num_slices = activity.shape[1:]
        flat = np.ascontiguousarray(activity).reshape(-1, batch * num_slices)
        if self._sums is not None:
            return (self._sums[view] @ flat).reshape(-1, batch, num_slices)
        return self._collect(self.weakened(activity, view), view)

    def forward_with_scatter(
        self, activity: Float32[np.ndarray, "yx batch z"], view: int
    ) -> tuple[Float32[np.ndarray, "bin batch z"], Float32[np.ndarray, "bin batch z"]]:
        """Expected primary and scattered counts of one view; needs an attenuation map."""
        turned = self.weakened(activity, view)
        return self._collect(turned, view), self.scatter(turned, view)

    def _collect(self, turned: np.ndarray, view: int) -> np.ndarray:
        """Blur the turned object by the collimator and add up its depth."""
        if self.radius_mm is None:
            return self._on_bins(turned.sum(0))
        batch, num_slices = turned.shape[2:]
        slabs = turned.reshape(-1, self._slab, self.num_pixels, batch, num_slices).sum(1)
        across, along = self._responses(view, num_slices)
        blurred = np.matmul(across, slabs.reshape(len(slabs), self.num_pixels, -1))
        blurred = blurred.reshape(len(slabs), -1, num_slices) @ along.transpose(0, 2, 1)
        return blurred.sum(0).reshape(-1, batch, num_slices)

    def backward(self, views: Float32[np.ndarray, "bin batch z"], view: int) -> Float32[np.ndarray, "yx batch z"]:
        """The transpose of ``forward``: every count goes back to wherever it may have come from."""
        batch, num_slices = views.shape[1:]
        size = self.num_pixels
        if self._sums is not None:
            flat = np.ascontiguousarray(views).reshape(-1, batch * num_slices)
            return (self._sums[view].T @ flat).reshape(-1, batch, num_slices)
        if self.radius_mm is None:
            turned = np.broadcast_to(views[None], (size, size, batch, num_slices))
        else:
            across, along = self._responses(view, num_slices)
            spread = (np.ascontiguousarray(views).reshape(1, -1, num_slices) @ along).reshape(
                len(along), len(views), -1
            )
            slabs = (across.transpose(0, 2, 1) @ spread).reshape(-1, size, batch, num_slices)
            turned = np.repeat(slabs, self._slab, axis=0)
        if self.attenuation is not None:
            turned = turned * self._weights(view)[:, :, None, :]
        flat = np.ascontiguousarray(turned, np.float32).reshape(size * size, -1)
        return (self._turn[view].T @ flat).reshape(size * size, batch, num_slices)

    def weakened(
        self, activity: Float32[np.ndarray, "yx batch z"], view: int
    ) -> Float32[np.ndarray, "depth u batch z"]:
        """The object turned to a view, each cell as bright as the tissue before it lets it appear."""
        batch, num_slices = activity.shape[1:]
        flat = np.ascontiguousarray(activity).reshape(-1, batch * num_slices)
        turned = (self._turn[view] @ flat).reshape(self.num_pixels, self.num_pixels, batch, num_slices)
        if self.attenuation is not None:
            turned *= self._weights(view)[:, :, None, :]
        return turned

    def line_integrals(self, view: int) -> Float32[np.ndarray, "depth u z"]:
        """Attenuation between the middle of each cell and the camera, on the coarse grid, as an exponent."""
        assert self.attenuation is not None
        size = self.num_pixels // self.attenuation.coarseness
        step_mm = self.pixel_mm * self.attenuation.coarseness
        if self._integrals[0] != view:
            cells = (self._coarse_turn[view] @ self.attenuation.per_mm).reshape(size, size, -1)
            cells *= np.float32(0.5 * step_mm)
            before = np.zeros_like(cells[0])
            for cell in cells[::-1]:  # from the camera inward
                before += cell  # to the middle of this cell
                half, cell[:] = cell.copy(), before
                before += half
            self._integrals = (view, cells)
        return self._integrals[1]

    def scatter(
        self, weakened: Float32[np.ndarray, "depth u batch z"], view: int
    ) -> Float32[np.ndarray, "bin batch z"]:
        """Expected scattered counts of a view.

        The broad-beam approximation: the deeper the source, the more scatter builds up over the primary counts; it
        arrives spread over several centimeters.

        Args:
            weakened: What ``weakened`` gave for this view.
            view: Number of the view.
        """
        assert self.attenuation is not None
        step = self.attenuation.coarseness
        size, (batch, num_slices) = self.num_pixels // step, weakened.shape[2:]
        coarse = weakened.reshape(size, step, size, step, batch, num_slices).sum((1, 3))
        buildup = np.expm1(np.float32(self.camera.buildup) * self.line_integrals(view))
        source = (coarse * buildup[:, :, None, :]).sum(0).reshape(size, -1)
        total = np.zeros((self.camera.num_bins * batch, num_slices), np.float32)
        for weight, sigma_mm in SCATTER_KERNEL:
            across = self._bins(np.array([sigma_mm]), size, self.pixel_mm * step)[0]
            along = self._rows(np.array([sigma_mm]), num_slices)[0]
            total += np.float32(weight) * ((across @ source).reshape(-1, num_slices) @ along.T)
        return total.reshape(-1, batch, num_slices)

    @property
    def _slab(self) -> int:
        """Planes of depth per slab: the largest power of two that fits ``SLAB_MM`` and divides the grid."""
        slab = 1
        while slab * 2 * self.pixel_mm <= SLAB_MM + 1e-6 and self.num_pixels % (slab * 2) == 0:
            slab *= 2
        return slab

    def _responses(self, view: int, num_slices: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.radius_mm is not None
        count = self.num_pixels // self._slab
        depth_mm = (np.arange(count) - (count - 1) / 2) * self.pixel_mm * self._slab
        sigma_mm = np.asarray(self.camera.sigma_mm(self.radius_mm[view] - depth_mm))
        return self._bins(sigma_mm, self.num_pixels, self.pixel_mm), self._rows(sigma_mm, num_slices)

    def _bins(self, sigma_mm: np.ndarray, num_pixels: int, pixel_mm: float) -> np.ndarray:
        narrowed = _without_cell(sigma_mm, pixel_mm)
        return bin_responses(self.camera.num_bins, self.camera.pixel_mm, num_pixels, pixel_mm, narrowed)

    def _rows(self, sigma_mm: np.ndarray, num_slices: int) -> np.ndarray:
        row_mm = self.camera.pixel_mm
        return bin_responses(num_slices, row_mm, num_slices, row_mm, _without_cell(sigma_mm, row_mm))

    def _weights(self, view: int) -> np.ndarray:
        assert self.attenuation is not None
        weights = np.exp(-self.line_integrals(view))
        step = self.attenuation.coarseness
        return weights if step == 1 else np.repeat(np.repeat(weights, step, axis=0), step, axis=1)

    def _on_bins(self, view: np.ndarray) -> np.ndarray:
        """Without a collimator the grid's columns are the bins; the simulation's finer columns are added up."""
        step = round(self.camera.pixel_mm / self.pixel_mm)
        num_bins = min(self.camera.num_bins, self.num_pixels // step)
        return view.reshape(num_bins, step, *view.shape[1:]).sum(1)


def _without_cell(sigma_mm: np.ndarray, cell_mm: float) -> np.ndarray:
    """Blur left to add to counts that stand in cells: binning has blurred them by a box (Sheppard's correction)."""
    return np.sqrt(np.maximum(sigma_mm**2 - cell_mm**2 / 12, 0.2))


@lru_cache(maxsize=6)
def turn_matrices(num_pixels: int, angles_deg: tuple[float, ...], keep_counts: bool) -> tuple[sparse.csr_matrix, ...]:
    """Matrices (depth u, y x), one per view, that turn a plane so that depth grows toward the camera.

    Args:
        num_pixels: Length of the plane in both directions.
        angles_deg: Direction of each view.
        keep_counts: True: each pixel hands its counts to the four nearest cells, so every column adds up to one inside
            the field of view. False: each cell reads the plane between its four nearest pixels.
    """
    middle = (num_pixels - 1) / 2
    first, second = (axis - middle for axis in np.meshgrid(np.arange(num_pixels), np.arange(num_pixels), indexing="ij"))
    matrices = []
    for angle in np.deg2rad(angles_deg):
        cosine, sine = np.cos(angle), np.sin(angle)
        if keep_counts:  # first is y, second is x
            to_depth, to_u = second * sine - first * cosine, second * cosine + first * sine
            matrices.append(_bilinear(to_depth + middle, to_u + middle, num_pixels).T.tocsr())
        else:  # first is depth, second is u
            to_y, to_x = second * sine - first * cosine, second * cosine + first * sine
            matrices.append(_bilinear(to_y + middle, to_x + middle, num_pixels))
    return tuple(matrices)


@lru_cache(maxsize=4)
def _ray_sums(num_pixels: int, angles_deg: tuple[float, ...], keep_counts: bool) -> tuple[sparse.csr_matrix, ...]:
    """Matrices (u, y x) that turn a plane and add up the depth."""
    depths = np.tile(np.arange(num_pixels), num_pixels)
    ones = np.ones(num_pixels**2, np.float32)
    adder = sparse.csr_matrix((ones, (depths, np.arange(num_pixels**2))), shape=(num_pixels, num_pixels**2))
    return tuple((adder @ turn).tocsr() for turn in turn_matrices(num_pixels, angles_deg, keep_counts))


def _bilinear(rows: np.ndarray, columns: np.ndarray, num_pixels: int) -> sparse.csr_matrix:
    """Matrix that reads a square plane at (rows, columns) between its pixels; zero outside."""
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    outputs, inputs, weights = [], [], []
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = top + down, left + right
        share = (1 - np.abs(rows - row)) * (1 - np.abs(columns - column))
        valid = (row >= 0) & (row < num_pixels) & (column >= 0) & (column < num_pixels) & (share > 1e-9)
        outputs.append(np.flatnonzero(valid.ravel()))
        inputs.append((row * num_pixels + column)[valid])
        weights.append(share[valid])
    entries = (np.concatenate(weights), (np.concatenate(outputs), np.concatenate(inputs)))
    matrix = sparse.coo_matrix(entries, shape=(rows.size, num_pixels**2)).tocsr()
    return matrix.astype(np.float32)
