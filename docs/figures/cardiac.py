"""The numbers of docs/cardiac.md.

python docs/figures/cardiac.py geometry [patients]    measurements on true masks, beside the phantom's exact figures
python docs/figures/cardiac.py curve [patients]       ways to read an ejection fraction off the gates
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from mpi_unet.cardiac.axis import heart_axes
from mpi_unet.cardiac.surfaces import heart_surfaces
from mpi_unet.cardiac.volumes import MYOCARDIUM_G_PER_ML, time_volume_curve, ventricle_volumes
from mpi_unet.cardiac.wall import segment_thickness_mm
from mpi_unet.errors import CardiacError
from mpi_unet.phantom.heart import Heart, contraction_of_gate
from mpi_unet.phantom.patient import sample_patient
from mpi_unet.phantom.random_streams import Stream
from mpi_unet.phantom.reorientation import Grid, short_axis_grid, transaxial_grid
from mpi_unet.phantom.truth import left_ventricle_truth, true_mask

FIRST_SEED, NUM_GATES = 3000, 8

GRIDS = ("transaxial 6.4 mm", "transaxial 4.0 mm", "short axis 3.2 x 3.2 x 6.4 mm")

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])

AIMS = {
    "axis, degrees": 3.0,
    "axis from the middle of the base to the apex, degrees": 3.0,
    "EF against its gates, points": 2.0,
    "EF of the patient, points": 2.0,
}
VOLUME_AIM_PCT = 3.0


def grid_named(heart: Heart, name: str, number: int) -> Grid:
    """The voxels of a mask: those of a gamma camera, of a solid-state camera, or of an operator's short axis."""
    center_mm = heart.to_world(np.array([0.0, 0.0, 0.45 * heart.length_mm]))
    if name == GRIDS[0]:
        return transaxial_grid(center_mm, (39, 64, 64), 6.4)
    if name == GRIDS[1]:
        return transaxial_grid(center_mm, (50, 70, 70), 4.0)
    stream = Stream(FIRST_SEED + number, 0, "reorientation", 2)
    return short_axis_grid(heart, stream, matrix=64, pixel_mm=3.2, slice_mm=6.4)


def known(value: float | None) -> float:
    """What eight gates always give."""
    return float("nan") if value is None else value


def percent(ours: float | None, exact: float | None) -> float:
    """By how much a figure is off, in percent of the exact one."""
    return 100 * (known(ours) / known(exact) - 1)


def degrees_between(first: np.ndarray, second: np.ndarray) -> float:
    """Angle between two directions."""
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def errors_of(number: int, name: str) -> Iterator[tuple[str, float]]:
    """Every error of one patient: axis in degrees, volumes in percent, ejection fraction in points, walls in mm."""
    heart = Heart(sample_patient(FIRST_SEED + number, 0))
    grid = grid_named(heart, name, number)
    measured, true = [], []
    for gate in range(NUM_GATES):
        contractions = (contraction_of_gate(gate, NUM_GATES),)
        truth = left_ventricle_truth(heart, contractions)
        mask = true_mask(heart, heart.fields(contractions), grid, "lv_wall")
        axes = heart_axes(mask, grid.affine_ras)
        surfaces = heart_surfaces(mask, grid.affine_ras, axes)
        volumes = ventricle_volumes(surfaces)
        measured.append(volumes.cavity_ml)
        true.append(truth.cavity_ml)
        axis = LPS_FROM_RAS @ np.array(axes.long_axis)
        yield "axis, degrees", degrees_between(axis, heart.axes[2])
        chord = heart.axes[2] + heart.axes[0] * heart.shape.bend_mm / heart.length_mm
        yield "axis from the middle of the base to the apex, degrees", degrees_between(axis, chord)
        yield "cavity of every gate, %", 100 * (volumes.cavity_ml / truth.cavity_ml - 1)
        yield "wall of every gate, %", 100 * (volumes.wall_ml / truth.wall_ml - 1)
        if gate == 0:
            yield "mass at end diastole, g", volumes.mass_g - truth.wall_ml * MYOCARDIUM_G_PER_ML
            segments = segment_thickness_mm(surfaces)
            pairs = [(ours, exact) for ours, exact in zip(segments, truth.segment_thickness_mm, strict=True) if exact]
            yield from (("segment thickness, mm", ours - exact) for ours, exact in pairs if ours is not None)
    ours, exact = time_volume_curve(measured), time_volume_curve(true)
    whole = left_ventricle_truth(heart, (0.0,))
    for reference, against in (("against its gates", exact), ("of the patient", whole)):
        yield f"EDV {reference}, %", percent(ours.end_diastolic_ml, against.end_diastolic_ml)
        yield f"ESV {reference}, %", percent(ours.end_systolic_ml, against.end_systolic_ml)
        yield f"EF {reference}, points", known(ours.ejection_fraction_pct) - known(against.ejection_fraction_pct)
    yield (
        "EF of largest and smallest gate, points",
        known(ours.gates_ejection_fraction_pct) - whole.ejection_fraction_pct,
    )


def geometry(num_patients: int) -> None:
    """Print one table per grid: bias, standard deviation, mean absolute and largest error, share within the aim."""
    lines = []
    for name in GRIDS:
        found: dict[str, list[float]] = {}
        refused = []
        for number in range(num_patients):
            try:
                for what, error in list(errors_of(number, name)):
                    found.setdefault(what, []).append(error)
            except CardiacError as error:
                refused.append(f"seed {FIRST_SEED + number}: {error}")
        lines += [f"\n**{name}**, {num_patients - len(refused)} of {num_patients} patients measured\n", *refused]
        lines += [
            "| figure | n | bias | SD | mean absolute | largest | within the aim |",
            "|---|---|---|---|---|---|---|",
        ]
        for what, errors in found.items():
            values = np.array(errors)
            aim = AIMS.get(what, VOLUME_AIM_PCT if what.endswith("%") else None)
            share = "" if aim is None else f"{100 * (np.abs(values) <= aim).mean():.0f} % within {aim:g}"
            lines.append(
                f"| {what} | {len(values)} | {values.mean():+.2f} | {values.std(ddof=1):.2f} | "
                f"{np.abs(values).mean():.2f} | {values[np.abs(values).argmax()]:+.2f} | {share} |"
            )
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        lines = []


def readings(gates_ml: np.ndarray) -> dict[str, float]:
    """Ejection fraction in percent, read off the gates in four ways."""
    rule, two = (time_volume_curve(gates_ml.tolist(), num_harmonics=number) for number in (4, 2))
    anywhere = [np.array(curve.curve_ml) for curve in (rule, two)]
    return {
        "largest and smallest gate": known(rule.gates_ejection_fraction_pct),
        "4 harmonics, both extremes anywhere": 100 * float(1 - anywhere[0].min() / anywhere[0].max()),
        "2 harmonics, both extremes anywhere": 100 * float(1 - anywhere[1].min() / anywhere[1].max()),
        "**4 harmonics, largest at a gate, smallest anywhere**": known(rule.ejection_fraction_pct),
    }


def curve(num_patients: int) -> None:
    """Print the error of each reading for 8 and 16 gates, with and without noise."""
    columns: dict[str, list[str]] = {}
    ladder = np.linspace(0, 1, 9)
    hearts = [Heart(sample_patient(FIRST_SEED + number, 0)) for number in range(num_patients)]
    volumes = [[left_ventricle_truth(heart, (float(step),)).cavity_ml for step in ladder] for heart in hearts]
    for num_gates in (8, 16):
        for noise in (0.0, 0.02):
            rng = np.random.default_rng(0)
            errors: dict[str, list[float]] = {}
            for exact in volumes:
                steps = [contraction_of_gate(gate, num_gates) for gate in range(num_gates)]
                gates = np.interp(steps, ladder, exact) * (1 + noise * rng.standard_normal(num_gates))
                for how, value in readings(gates).items():
                    errors.setdefault(how, []).append(value - 100 * (1 - exact[-1] / exact[0]))
            for how, values in errors.items():
                columns.setdefault(how, []).append(f"{np.mean(values):+.1f} ({np.std(values, ddof=1):.1f})")
    lines = ["| read from | 8 gates | 8, 2 % noise | 16 gates | 16, 2 % noise |", "|---|---|---|---|---|"]
    lines += [f"| {how} | {' | '.join(cells)} |" for how, cells in columns.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    """Run the command that the first argument names."""
    name, *rest = sys.argv[1:] or [""]
    if name not in ("geometry", "curve"):
        raise SystemExit(__doc__)
    if name == "geometry":
        geometry(int(rest[0]) if rest else 20)
    else:
        curve(int(rest[0]) if rest else 40)


if __name__ == "__main__":
    main()
