"""One outlined left ventricle: its surfaces, its volumes, its 17 segments, and pictures of them.

A facade over ``mpi_unet.cardiac``, whose functions say how each figure is made and where it comes from
(docs/cardiac.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.nifti import Volume
from mpi_unet.errors import CardiacError
from mpi_unet.shapes import Mask

if TYPE_CHECKING:
    import pandas as pd

    from mpi_unet.api.drawings import Drawings
    from mpi_unet.cardiac.axis import HeartAxes
    from mpi_unet.cardiac.polar_map import PolarMap
    from mpi_unet.cardiac.surfaces import HeartSurfaces
    from mpi_unet.cardiac.volumes import TimeVolumeCurve, VentricleVolumes

__all__ = ["Ventricle", "cycle_of", "plot_cycle"]

MAP_PIXELS = 400


@dataclass(frozen=True)
class Ventricle:
    """A left ventricle within an outline of its wall.

    Attributes:
        image: Intensities and geometry.
        wall: The outline.
        surfaces: Endo- and epicardium, finer than the voxels, up to the valve plane.
    """

    image: Volume
    wall: Mask
    surfaces: HeartSurfaces

    @classmethod
    def of(cls, case: Case, outline: str | Mask) -> Ventricle:
        """Find the surfaces of one case; takes about half a second.

        Args:
            case: A reconstructed case of a cohort whose label is ``lv_wall``.
            outline: A reader, or a mask (z, y, x) such as the network's.

        Raises:
            CardiacError: The outline is no cup that is open at its base.
            CohortError: The reader did not outline the case.
        """
        from mpi_unet.cardiac.axis import heart_axes
        from mpi_unet.cardiac.surfaces import heart_surfaces

        image = case.read_image()
        wall = case.read_mask(outline) if isinstance(outline, str) else outline
        if wall.shape != image.array.shape:
            raise CardiacError(
                f"{case.case_id}: the outline is {wall.shape}, the image {image.array.shape}; give a mask of its grid"
            )
        axes = heart_axes(wall, image.affine)
        return cls(image, wall, heart_surfaces(wall, image.affine, axes))

    @property
    def axes(self) -> HeartAxes:
        """Long axis, valve plane and apex."""
        return self.surfaces.axes

    @property
    def volumes(self) -> VentricleVolumes:
        """Cavity, wall and both in ml, and the mass of the wall in g."""
        from mpi_unet.cardiac.volumes import ventricle_volumes

        return ventricle_volumes(self.surfaces)

    @cached_property
    def polar_map(self) -> PolarMap:
        """Uptake of the wall, percent of its maximum.

        Raises:
            CardiacError: The wall encloses no cavity, or has no uptake.
        """
        from mpi_unet.cardiac.polar_map import normalized, polar_map

        return normalized(polar_map(self.image.array, self.wall, self.image.affine, self.axes))

    @property
    def segments(self) -> pd.DataFrame:
        """The 17 segments of the AHA: name, territory, thickness in mm, uptake in percent; NaN where not measured."""
        import pandas as pd

        from mpi_unet.cardiac.segments import SEGMENT_NAMES, TERRITORIES, segment_means
        from mpi_unet.cardiac.wall import segment_thickness_mm

        territory = {number: name for name, numbers in TERRITORIES.items() for number in numbers}
        return pd.DataFrame(
            {
                "segment": range(1, 18),
                "name": SEGMENT_NAMES,
                "territory": [territory[number] for number in range(1, 18)],
                "thickness_mm": np.array(segment_thickness_mm(self.surfaces), dtype=float),
                "uptake_pct": np.array(segment_means(self.polar_map), dtype=float),
            }
        )

    def inside(self, surface: str) -> Float[np.ndarray, "z y x"]:
        """How much of each voxel lies within a surface, up to the valve plane.

        Args:
            surface: ``endocardium`` (the cavity) or ``epicardium`` (cavity and wall).

        Returns:
            Shares from 0 to 1 on the grid of the image.

        Raises:
            CardiacError: There is no such surface.
        """
        lengths = {"endocardium": self.surfaces.endo_mm, "epicardium": self.surfaces.epi_mm}
        if surface not in lengths:
            raise CardiacError(f"surface={surface!r}; expected {' or '.join(lengths)}")
        return self.surfaces.shares(lengths[surface], self.wall.shape, self.image.affine)

    def plot_polar_map(self) -> Drawings:
        """The polar map with its 17 segments and their mean uptake; hatched, and ``?``, is what was not measured."""
        from mpi_unet.api.drawings import drawing_of_page
        from mpi_unet.cardiac.segments import segment_means
        from mpi_unet.report.study_figures import polar_drawing, polar_words

        alt = f"Polar map: {polar_words(segment_means(self.polar_map), self.polar_map.unit)}"
        return drawing_of_page("polar_map", polar_drawing(self.polar_map, alt), MAP_PIXELS)


def cycle_of(gates: Sequence[Ventricle]) -> TimeVolumeCurve:
    """Volumes and ejection fraction from the gates of one study.

    Args:
        gates: The ventricle of each gate, in the order of the cycle.

    Raises:
        CardiacError: There are no gates, or a cavity is empty.
    """
    from mpi_unet.cardiac.volumes import time_volume_curve

    return time_volume_curve([gate.volumes.cavity_ml for gate in gates])


def plot_cycle(cycle: TimeVolumeCurve) -> Drawings:
    """The cavity over the cycle: measured gates as dots, the fitted curve as a line."""
    from mpi_unet.api.drawings import Drawings
    from mpi_unet.report.study_figures import curve_drawing

    drawn = curve_drawing(cycle)
    return Drawings((drawn.name,), (drawn.standalone[drawn.standalone.index("<svg ") :],))
