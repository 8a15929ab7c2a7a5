"""The shapes of arrays, named once.

Axes: ``z`` is the slice of a volume or the view of a projection set, ``y`` the row, ``x`` the column; ``spacing_mm``
has the same order. ``c`` is the channel, ``b`` the batch. During tests jaxtyping and beartype check every annotated
call; at run time the annotations cost nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

Image: TypeAlias = Float32[np.ndarray, "z y x"]
"""Intensities of one case."""

Mask: TypeAlias = Bool[np.ndarray, "z y x"]
"""True inside the outlined structure."""

Frame: TypeAlias = Float32[np.ndarray, "y x"]
"""One slice or view."""

FrameMask: TypeAlias = Bool[np.ndarray, "y x"]
"""The outline of one slice or view."""

Affine: TypeAlias = Float[np.ndarray, "4 4"]
"""Voxel index (x, y, z) to millimetres in RAS."""

Counts: TypeAlias = Int[np.ndarray, "*n 4"]
"""True positives, false positives, false negatives, true negatives, in this order."""

SpacingMm: TypeAlias = tuple[float, float, float]
"""Distance of neighbouring voxel centres along (z, y, x) in mm."""
