"""A simulated heart, and the page of its study."""

from __future__ import annotations

import numpy as np
from cardiac_shells import Shell, grid_around

from mpi_unet.cardiac.axis import HeartAxes
from mpi_unet.cardiac.polar_map import normalized, polar_map
from mpi_unet.cardiac.volumes import time_volume_curve
from mpi_unet.report.study_page import Flag, Quantity, StudyContent
from mpi_unet.report.study_planes import heart_planes

SHELL = Shell()
SHAPE, AFFINE = grid_around(SHELL, (4.0, 4.0, 4.0), shape=(48, 48, 48))
AXES = HeartAxes(
    center_mm=tuple(map(float, SHELL.middle_mm)),
    long_axis=tuple(map(float, SHELL.axis)),
    inferior=tuple(map(float, SHELL.inferior)),
    base_mm=-SHELL.cut * SHELL.half_length,
    apex_mm=SHELL.half_length + SHELL.wall,
    cavity_apex_mm=SHELL.half_length,
)


def places_mm() -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    return np.stack([x, y, z, np.ones_like(x)], axis=-1) @ AFFINE.T[:, :3]


WALL = SHELL.in_wall(places_mm())


def lit_toward(direction: np.ndarray) -> np.ndarray:
    """An image whose wall is bright on one side."""
    side = (places_mm() - np.array(AXES.center_mm)) @ direction
    return (200.0 + side).astype(np.float32)  # linear, so that splines give it back exactly


def study_content() -> StudyContent:
    """A study with everything that its page can show."""
    image = np.where(WALL, 100.0, 5.0).astype(np.float32)
    return StudyContent(
        study_id="P7_stress",
        run="kfold",
        outcome="Outlined by the network of fold 0.",
        flags=(Flag("few_counts", "notice", "Few counts."), Flag("cut_off", "urgent", "The heart is cut off.")),
        about=(("Patient", "P7"),),
        quantities=(
            Quantity("Ejection fraction", 61.24, "%", is_main=True),
            Quantity("Total perfusion deficit", None, "%", "no normal database was given"),
        ),
        planes=heart_planes(image, WALL, AFFINE, AXES),
        planes_remark="Turned to the axes of the heart.",
        polar=normalized(polar_map(image, WALL, AFFINE, AXES)),
        curve=time_volume_curve([120, 100, 70, 50, 60, 80, 100, 115]),
        method=(("Network", "run kfold"),),
        key="k1",
    )
