"""Volumes of the left ventricle, and what follows from them over the cardiac cycle.

The cavity ends at the valve plane, papillary muscles count as cavity, *filled* is wall and cavity together: as clinical
programs have it. Over the cycle the volumes of the gates are smoothed by a Fourier series. *End systole* is the lowest
point of that curve, wherever it lies: the heart turns there, and eight gates seldom hit it. *End diastole* is its
highest value at a gate: the heart rests before it contracts, so a gate lies there, and between gates the series rises
above it, as it must before a sudden fall (Gibbs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpi_unet.cardiac.rays import EDGE
from mpi_unet.cardiac.surfaces import HeartSurfaces
from mpi_unet.errors import CardiacError, listing
from mpi_unet.shapes import Affine, Mask

__all__ = [
    "FEWEST_GATES",
    "MYOCARDIUM_G_PER_ML",
    "NUM_HARMONICS",
    "TimeVolumeCurve",
    "VentricleVolumes",
    "cavity_mask",
    "time_volume_curve",
    "ventricle_volumes",
    "with_steady_wall",
]

MYOCARDIUM_G_PER_ML = 1.05
"""Density of myocardium; 1.053 was measured, and clinical programs use 1.05. Vinnakota & Bassingthwaighte 2004, Am J
Physiol Heart Circ Physiol 286:H1742. doi:10.1152/ajpheart.00478.2003"""

FEWEST_GATES = 8
"""With fewer, no gate comes near end systole; guidelines ask for 8 or 16. Dorbala et al. 2018, J Nucl Cardiol
25:1784-1846. doi:10.1007/s12350-018-1283-y"""

NUM_HARMONICS = 4
"""Of the time-volume curve, as Higuchi et al. 2001 (Eur J Nucl Med 28:1512) fitted gated SPECT. Eight gates hold no
more, so their curve passes through every gate; two harmonics, best for curves of few counts (Bacharach et al. 1983, J
Nucl Med 24:1176), round off end systole."""

CURVE_POINTS = 400


@dataclass(frozen=True)
class VentricleVolumes:
    """Volumes of one image: of one gate, or averaged over the cycle in an ungated study."""

    cavity_ml: float
    wall_ml: float
    filled_ml: float
    mass_g: float


@dataclass(frozen=True)
class TimeVolumeCurve:
    """The cavity over one cardiac cycle.

    Attributes:
        gates_ml: Measured volume of every gate, in the order of the cycle.
        num_harmonics: Harmonics of the smoothed curve; None without one.
        curve_ml: The smoothed curve at ``CURVE_POINTS`` equal steps of the cycle, beginning in the middle of the first
            gate; None with fewer than ``FEWEST_GATES`` gates.
        end_diastolic_ml: Its largest value at a gate; None without a curve.
        end_systolic_ml: Its smallest value anywhere; None without a curve.
        stroke_volume_ml: Their difference.
        ejection_fraction_pct: Their difference as a share of the larger one.
        gates_ejection_fraction_pct: The same from the largest and the smallest gate, with nothing smoothed or read
            between gates; what most clinical programs give.
        end_diastolic_gate: Number of the largest gate, from 0.
        end_systolic_gate: Number of the smallest gate, from 0; None without a curve.
        why_not: Why the fields above are None; empty when they are not.
    """

    gates_ml: tuple[float, ...]
    num_harmonics: int | None
    curve_ml: tuple[float, ...] | None
    end_diastolic_ml: float | None
    end_systolic_ml: float | None
    stroke_volume_ml: float | None
    ejection_fraction_pct: float | None
    gates_ejection_fraction_pct: float | None
    end_diastolic_gate: int | None
    end_systolic_gate: int | None
    why_not: str = ""


def ventricle_volumes(surfaces: HeartSurfaces) -> VentricleVolumes:
    """Cavity, wall and mass between the surfaces and the valve plane.

    The volume within a surface is the integral over its rays: half the squared radius times angle and height where rays
    are at right angles to the axis, a third of the cubed radius times solid angle over the apex. The wall is the
    difference of what the two surfaces hold.

    Source:
        Germano et al. 1995, J Nucl Med 36:2138-2147 (cavity closed by the valve plane); mass: ``MYOCARDIUM_G_PER_ML``.
    """
    cavity, filled = surfaces.volume_ml(surfaces.endo_mm), surfaces.volume_ml(surfaces.epi_mm)
    return VentricleVolumes(cavity, filled - cavity, filled, (filled - cavity) * MYOCARDIUM_G_PER_ML)


def cavity_mask(surfaces: HeartSurfaces, shape: tuple[int, int, int], affine_ras: Affine) -> Mask:
    """Voxels of which the cavity fills at least half.

    Args:
        surfaces: The surfaces.
        shape: Slices, rows and columns of the grid to draw on.
        affine_ras: Voxel index (x, y, z) of that grid to RAS.
    """
    return surfaces.shares(surfaces.endo_mm, shape, affine_ras) >= EDGE


def time_volume_curve(gates_ml: Sequence[float], *, num_harmonics: int = NUM_HARMONICS) -> TimeVolumeCurve:
    """End-diastolic and end-systolic volume, stroke volume and ejection fraction from the volumes of the gates.

    The curve is the Fourier series of the gates up to ``num_harmonics`` (at most half their number); end diastole and
    end systole are read from it as the module says.

    Args:
        gates_ml: Volume of the cavity in every gate, equally spaced over the cycle.
        num_harmonics: Highest harmonic kept.

    Returns:
        The curve. With fewer than ``FEWEST_GATES`` gates everything that needs one is None and ``why_not`` says so; a
        single image has no ejection fraction.

    Raises:
        CardiacError: There are no volumes, one of them is not positive, or ``num_harmonics`` is less than 1.

    Source:
        Fourier series of the curve: Bacharach et al. 1983, J Nucl Med 24:1176-1184. Ejection fraction
        (EDV - ESV) / EDV.

    Example:
        >>> gates = [80 + 40 * np.cos(2 * np.pi * gate / 8) for gate in range(8)]
        >>> curve = time_volume_curve(gates)
        >>> round(curve.end_diastolic_ml, 6), round(curve.end_systolic_ml, 6), round(curve.ejection_fraction_pct, 6)
        (120.0, 40.0, 66.666667)
        >>> time_volume_curve([100.0]).ejection_fraction_pct is None
        True
    """
    values = np.array(gates_ml, float)
    problems = [
        f"gate {number + 1}: is {value:g} ml; expected a volume above 0"
        for number, value in enumerate(values.tolist())
        if not (np.isfinite(value) and value > 0)
    ]
    if not values.size:
        problems.append("gates_ml: is empty; expected one volume for every gate")
    if num_harmonics < 1:
        problems.append(f"num_harmonics: is {num_harmonics}; expected 1 or more")
    if problems:
        raise CardiacError(
            f"A time-volume curve cannot be drawn:\n{listing(problems)}\nLeave the study out or correct its outlines"
        )
    gates = tuple(values.tolist())
    if len(gates) < FEWEST_GATES:
        why = f"ejection fraction needs {FEWEST_GATES} gates or more, and there {_are(len(gates))}"
        return TimeVolumeCurve(gates, None, None, None, None, None, None, None, None, None, why)
    used = min(num_harmonics, len(gates) // 2)
    curve = _fourier(values, used, CURVE_POINTS)
    high, low = float(_fourier(values, used, len(gates)).max()), float(curve.min())
    if low <= 0:
        raise CardiacError(
            f"The smoothed time-volume curve falls to {low:.1f} ml between gates of {values.min():.1f} ml or more; its "
            "gates jump too much to be one heart. Look at the outlines of every gate"
        )
    return TimeVolumeCurve(
        gates_ml=gates,
        num_harmonics=used,
        curve_ml=tuple(curve.tolist()),
        end_diastolic_ml=high,
        end_systolic_ml=low,
        stroke_volume_ml=high - low,
        ejection_fraction_pct=100 * (high - low) / high,
        gates_ejection_fraction_pct=float(100 * (values.max() - values.min()) / values.max()),
        end_diastolic_gate=int(values.argmax()),
        end_systolic_gate=int(values.argmin()),
    )


def with_steady_wall(cavity_ml: Sequence[float], wall_ml: Sequence[float]) -> tuple[float, ...]:
    """The cavity of every gate, had the wall the same volume in all of them.

    Muscle keeps its volume when it contracts: within 5 % in the first source; the second finds at end systole 0.87 of
    it in healthy and 1.01 in failing hearts. Outlines of a wall that is thinner than the camera can show do not keep
    it: they are too thick at end diastole and too thin at end systole, which takes from the cavity what it gives to the
    wall. What a gate's wall has more or less than the mean of all gates is laid upon both surfaces evenly, so that the
    cavity gets the share that the endocardium has of the area of both: that of bodies of one shape, whose areas go
    with the power 2/3 of their volumes.

    Args:
        cavity_ml: Of every gate.
        wall_ml: Of every gate.

    Raises:
        CardiacError: They are not equally many.

    Source:
        Tsuiki, Ritman 1980, Direct evidence that left ventricular myocardium is incompressible throughout systole and
        diastole, Tohoku J Exp Med, pages 119-120. Kumar et al., Cardiac MRI demonstrates compressibility in
        healthy myocardium but not in myocardium with reduced ejection fraction, Int J Cardiol.
        doi:10.1016/j.ijcard.2020.08.087

    Example:
        The wall is 10 ml too large in one gate and 10 ml too small in the other; of both, a good third is the cavity's.

        >>> [round(volume, 1) for volume in with_steady_wall([90.0, 50.0], [110.0, 90.0])]
        [93.7, 46.7]
    """
    cavity, wall = np.array(cavity_ml, float), np.array(wall_ml, float)
    if cavity.shape != wall.shape:
        raise CardiacError(f"cavity_ml has {len(cavity)} gates and wall_ml {len(wall)}; expected both of every gate")
    inner, outer = np.cbrt(cavity) ** 2, np.cbrt(cavity + wall) ** 2
    return tuple((cavity + inner / (inner + outer) * (wall - wall.mean())).tolist())


def _are(number: int) -> str:
    return "is 1" if number == 1 else f"are {number}"


def _fourier(values: Float[np.ndarray, " gates"], num_harmonics: int, num_points: int) -> Float[np.ndarray, " points"]:
    """Fourier series of equally spaced values up to a harmonic, at equally spaced points of the cycle."""
    spectrum = np.fft.rfft(values) / len(values)
    turn = 2 * np.pi * np.arange(num_points) / num_points
    curve = np.full(num_points, spectrum[0].real)
    for order in range(1, num_harmonics + 1):
        twice = 1 if 2 * order == len(values) else 2  # the highest frequency of an even number of gates stands alone
        curve += twice * (spectrum[order] * np.exp(1j * order * turn)).real
    return curve
