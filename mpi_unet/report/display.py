"""How a frame is turned for display, and what its edges are called.

Volumes are shown as a physician expects them, as far as their affine says where the patient is: short-axis slices with
the anterior wall on top and the septum on the left, from the apex to the base; transaxial slices from the feet, the
patient's right on the left. Where the affine does not say, frames are shown as stored and their edges carry no names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpi_unet.shapes import Affine

MIN_ALIGNMENT = 0.5
"""Cosine to the expected anatomical direction from which an axis of a short-axis volume counts as recognized."""

MIN_BODY_ALIGNMENT = 0.9
"""The same for transaxial volumes, whose axes are those of the body."""

# Directions in RAS (x to the right, y to the front, z to the head).
LATERAL = np.array([-1.0, -1.0, 0.0]) / np.sqrt(2)
APICAL = np.array([-1.0, 1.0, -1.0]) / np.sqrt(3)
HEAD = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class View:
    """How to show the frames of one case.

    Attributes:
        flip_rows: Whether the first row comes to the bottom.
        flip_columns: Whether the first column comes to the right.
        reverse_frames: Whether the last frame is shown first.
        edges: Names of top, right, bottom and left edge; empty when unknown.
        order: What the sequence of frames means, e.g. ``apex to base``; empty when unknown.
    """

    flip_rows: bool = False
    flip_columns: bool = False
    reverse_frames: bool = False
    edges: tuple[str, ...] = ()
    order: str = ""

    def turn(self, frame: np.ndarray) -> np.ndarray:
        """Turn one frame (y, x) for display."""
        rows = slice(None, None, -1 if self.flip_rows else 1)
        columns = slice(None, None, -1 if self.flip_columns else 1)
        return np.ascontiguousarray(frame[rows, columns])


def view_of(domain: str, affine: Affine, spacing_known: bool) -> View:
    """Choose the view of a case from its domain and its affine (x, y, z to RAS).

    Example:
        A transaxial volume whose columns run to the right and whose rows run to the front is mirrored twice.

        >>> view_of("transaxial", np.diag([4.0, 4.0, 4.0, 1.0]), True)
        View(flip_rows=True, flip_columns=True, reverse_frames=False, edges=('A', 'L', 'P', 'R'), order='feet to head')
        >>> view_of("projection", np.diag([6.8, 6.8, 1.0, 1.0]), True)
        View(flip_rows=False, flip_columns=False, reverse_frames=False, edges=(), order='')
    """
    if domain == "projection" or not spacing_known:
        return View()
    across, down, through = (axis / np.linalg.norm(axis) for axis in affine[:3, :3].T)
    if domain == "transaxial":
        return _transaxial(across, down, through)
    return _short_axis(across, down, through)


def _transaxial(across: np.ndarray, down: np.ndarray, through: np.ndarray) -> View:
    if min(abs(across[0]), abs(down[1]), abs(through[2])) < MIN_BODY_ALIGNMENT:
        return View()
    return View(
        flip_rows=bool(down[1] > 0),
        flip_columns=bool(across[0] > 0),
        reverse_frames=bool(through[2] < 0),
        edges=("A", "L", "P", "R"),
        order="feet to head",
    )


def _short_axis(across: np.ndarray, down: np.ndarray, through: np.ndarray) -> View:
    lateral, head, apical = float(across @ LATERAL), float(down @ HEAD), float(through @ APICAL)
    if min(abs(lateral), abs(head)) < MIN_ALIGNMENT:
        return View()
    long_axis_known = abs(apical) >= MIN_ALIGNMENT
    return View(
        flip_rows=head > 0,
        flip_columns=lateral < 0,
        reverse_frames=long_axis_known and apical > 0,
        edges=("anterior", "lateral", "inferior", "septal"),
        order="apex to base" if long_axis_known else "",
    )
