"""The figures and the numbers of the sections on uptake in docs/cardiac.md.

python docs/figures/polar.py defects [patients]    defects found beside the phantom's truth, with true outlines
python docs/figures/polar.py phase [patients]      phase histograms of gated patients with true outlines
python docs/figures/polar.py picture               docs/figures/polar_map.png
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpi_unet.cardiac.axis import HeartAxes, heart_axes
from mpi_unet.cardiac.disc import disc_picture
from mpi_unet.cardiac.normals import NormalDatabase, build_normals, compare
from mpi_unet.cardiac.phase import phase_analysis
from mpi_unet.cardiac.polar_map import PolarMap, gated_polar_maps, normalized, polar_map
from mpi_unet.cardiac.segments import SEGMENT_NAMES, segment_numbers
from mpi_unet.phantom.cases import Recipe, image_grid
from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.patient import Defect, Patient, sample_patient
from mpi_unet.phantom.reorientation import resample
from mpi_unet.phantom.study import acquire, protocol_named, reconstruct
from mpi_unet.phantom.truth import left_ventricle_truth, true_mask

FOLDER = Path(__file__).parent
NORMAL_SEED, PATIENT_SEED = 101, 202
PROTOCOL = "phantom, parallel hole, osem, butterworth"

NUM_NORMALS = 64

TRUE_SHARE_PCT = 33.0
"""Of a segment's area that must be defect for the segment to count as defect, true and measured alike."""


@dataclass(frozen=True)
class Study:
    """One simulated study with its true outline."""

    image: np.ndarray
    wall: np.ndarray
    affine_ras: np.ndarray
    heart: Heart
    contractions: tuple[float, ...]


def simulated(patient: Patient, domain: str = "transaxial", name: str = "parallel_hole") -> Study:
    """Simulate an ungated study; the true outline is that of the averaged beat."""
    recipe = Recipe(
        domain=domain,
        seed=patient.seed,
        label="lv_wall",
        readers=("truth",),
        studies=(patient.study,),
        gated=False,
        num_gates=8,
        protocol=name,
        reconstruction="osem",
        pixel_mm=None,
        matrix=None,
        slice_mm=6.4,
    )
    protocol = protocol_named(name)
    acquisition = acquire(patient, protocol)
    made = reconstruct(acquisition)
    grid = image_grid(recipe, acquisition, made.grid)
    wall = true_mask(acquisition.heart, acquisition.fields[0], grid, "lv_wall")
    image = resample(made.volumes[0], made.grid, grid)
    return Study(image, wall, grid.affine_ras, acquisition.heart, protocol.contractions[0])


def true_axes(heart: Heart, contraction: float) -> HeartAxes:
    """The phantom's own axes; the valve plane where the base stands at this contraction."""
    flip = np.array([-1.0, -1.0, 1.0])
    _, inferior, along = (tuple(float(value) for value in row * flip) for row in heart.axes)
    center = tuple(float(value) for value in heart.base_center_mm * flip)
    base = float(heart.base_mm(contraction, np.ones(1), np.zeros(1))[0])
    return HeartAxes(center, along, inferior, base, heart.full_length_mm, cavity_apex_mm=heart.length_mm)


def map_of(study: Study, axes_from: str, percentile: float, statistic: str = "maximum") -> PolarMap:
    """The normalized polar map, along the true axes or along those of the outline."""
    if axes_from == "truth":
        axes = true_axes(study.heart, float(np.mean(study.contractions)))
    else:
        axes = heart_axes(study.wall, study.affine_ras)
    return normalized(polar_map(study.image, study.wall, study.affine_ras, axes, statistic=statistic), percentile)


def say(text: str) -> None:
    """One line on the terminal."""
    sys.stdout.write(text + "\n")


# --- Defects ---


def databases(normals: list[Study], axes_from: str, percentile: float, statistic: str) -> dict[str, NormalDatabase]:
    """One database per sex."""
    return {
        sex: build_normals(
            [map_of(study, axes_from, percentile, statistic) for study in normals if sex_of(study) == sex],
            sex=sex,
            study="stress",
            protocol=PROTOCOL,
        )
        for sex in ("F", "M")
    }


def sex_of(study: Study) -> str:
    """Sex of the simulated patient."""
    return study.heart.patient.body.sex


def found(
    patients: list[Study], normals: list[Study], axes_from: str, percentile: float, statistic: str, limit_sd: float
) -> str:
    """One row of the table: defects beside the truth."""
    limits = databases(normals, axes_from, percentile, statistic)
    errors, healthy, true, counts = [], [], [], np.zeros((2, 2), int)
    missing = 0
    for study in patients:
        polar = map_of(study, axes_from, percentile, statistic)
        sex = sex_of(study)
        result = compare(polar, limits[sex], sex=sex, study="stress", protocol=PROTOCOL, limit_sd=limit_sd)
        truth = left_ventricle_truth(study.heart, study.contractions)
        errors.append(result.extent_pct - truth.defect_pct)
        true.append(truth.defect_pct)
        if not study.heart.patient.defects:
            healthy.append(result.extent_pct)
        for known, share in zip(truth.segment_defect_pct, result.segment_extent_pct, strict=True):
            if share is None:
                missing += 1
            else:
                counts[int(known >= TRUE_SHARE_PCT), int(share >= TRUE_SHARE_PCT)] += 1
    error, extent = np.array(errors), np.array(errors) + np.array(true)
    (negative, false_positive), (false_negative, positive) = counts
    return (
        f"| {axes_from} | {statistic} | {percentile:g} | {limit_sd:g} | {error.mean():+.1f} | "
        f"{error.mean() - 1.96 * error.std(ddof=1):.1f} to {error.mean() + 1.96 * error.std(ddof=1):.1f} | "
        f"{np.corrcoef(extent, true)[0, 1]:.2f} | {positive} of {positive + false_negative} "
        f"({100 * positive / (positive + false_negative):.0f} %) | {negative} of {negative + false_positive} "
        f"({100 * negative / (negative + false_positive):.1f} %) | {missing} | {np.mean(healthy):.1f} |"
    )


def healthy_patient(index: int) -> Patient:
    """A patient for the normal database: everything but the defects."""
    return replace(sample_patient(NORMAL_SEED, index), defects=())


def defects(num_patients: int) -> None:
    """Print the table of defects."""
    normals = [simulated(healthy_patient(index)) for index in range(NUM_NORMALS)]
    patients = [simulated(sample_patient(PATIENT_SEED, index)) for index in range(num_patients)]
    women = sum(sex_of(study) == "F" for study in normals)
    with_defect = sum(bool(study.heart.patient.defects) for study in patients)
    say(f"{NUM_NORMALS} normals, {women} of them women; {num_patients} patients, {with_defect} of them with a defect")
    for axes_from in ("truth", "outline"):
        for statistic, percentile, limit_sd in (
            ("maximum", 100.0, 2.5),
            ("maximum", 90.0, 2.0),
            ("maximum", 90.0, 2.5),
            ("maximum", 90.0, 3.0),
            ("mean", 90.0, 2.5),
        ):
            say(found(patients, normals, axes_from, percentile, statistic, limit_sd))


# --- Phase ---


def phases(num_patients: int) -> None:
    """Print the phase histograms of gated patients without defects, whose walls contract together."""
    protocol = protocol_named("parallel_hole", num_gates=8)
    rows: dict[str, list[tuple[float, ...]]] = {}
    for index in range(num_patients):
        acquisition = acquire(healthy_patient(index), protocol)
        heart = acquisition.heart
        kinds = {
            "counts, Butterworth 0.40 per cm": acquisition,
            "counts, Butterworth 0.25 per cm": replace(acquisition, protocol=replace(protocol, cutoff_per_cm=0.25)),
            "without noise, Butterworth 0.40 per cm": replace(acquisition, counts=acquisition.expected),
        }
        for name, kind in kinds.items():
            made = reconstruct(kind)
            walls = [true_mask(heart, fields, made.grid, "lv_wall") for fields in acquisition.fields]
            axes = [true_axes(heart, contraction) for (contraction,) in protocol.contractions]
            result = phase_analysis(gated_polar_maps(made.volumes, walls, made.grid.affine_ras, axes))
            figures = (result.mean_deg, result.sd_deg, result.bandwidth_deg, result.entropy_pct)
            rows.setdefault(name, []).append(figures)
    for name, figures in rows.items():
        cells = [f"{column.mean():.0f} ({column.min():.0f} to {column.max():.0f})" for column in np.array(figures).T]
        say(f"| {name} | {' | '.join(cells)} |")


# --- The picture ---


def picture() -> None:
    """Write the polar map of a patient with a planted defect beside what was planted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    normals = [simulated(healthy_patient(index)) for index in range(NUM_NORMALS)]
    planted = Defect("LAD", 335.0, 0.62, 45.0, 0.30, 0.75, 0.0)
    study = simulated(replace(sample_patient(PATIENT_SEED, 0), defects=(planted,)))
    polar = map_of(study, "outline", 90.0)
    sex = sex_of(study)
    limits = databases(normals, "outline", 90.0, "maximum")[sex]
    result = compare(polar, limits, sex=sex, study="stress", protocol=PROTOCOL)
    truth = left_ventricle_truth(study.heart, study.contractions)
    angle = np.deg2rad(polar.angles_deg)[None, :]
    rings = polar.values.shape[0]
    share = (np.arange(rings)[:, None] + 0.5) / rings
    height = np.where(share < 0.25, 1.0, (1 - share) / 0.75) * study.heart.length_mm
    height = height + np.where(share < 0.25, (0.25 - share) / 0.25, 0.0) * study.heart.apex_wall_mm
    lost, _ = study.heart.lost_uptake(angle, height)
    judged = (
        f"below the normal limit: score\nextent {result.extent_pct:.0f} % (true {truth.defect_pct:.0f} %), "
        f"TPD {result.tpd_pct:.0f} %"
    )
    panels = (
        (100 * (1 - lost.astype(float)), "planted: uptake left, %", "inferno", 0, 100),
        (polar.values, f"measured: {polar.unit}", "inferno", 0, 110),
        (np.where(result.below, result.score, np.nan), judged, "viridis_r", 0, 4),
    )
    figure, places = plt.subplots(1, 3, figsize=(10.5, 4.1), layout="constrained")
    numbers = disc_picture(segment_numbers(rings, polar.values.shape[1]).astype(float), 400, smooth=False)
    for place, (values, title, colors, low, high) in zip(places, panels, strict=True):
        smooth = colors == "inferno"
        shown = place.imshow(disc_picture(values, 400, smooth=smooth), cmap=colors, vmin=low, vmax=high)
        for number in range(1, 18):
            place.contour(numbers == number, levels=[0.5], colors="0.6", linewidths=0.6)
            row, column = np.argwhere(numbers == number).mean(0)
            place.text(column, row, str(number), color="0.55", ha="center", va="center", fontsize=7)
        place.set_title(title, fontsize=9, pad=14)
        place.set_axis_off()
        for x, y, word in ((200, -12, "anterior"), (200, 414, "inferior"), (-12, 200, "septal"), (412, 200, "lateral")):
            turn = 90 if word in ("septal", "lateral") else 0
            place.text(x, y, word, ha="center", va="center", fontsize=7, rotation=turn)
        figure.colorbar(shown, ax=place, shrink=0.6)
    figure.savefig(FOLDER / "polar_map.png", dpi=80)
    scores = [
        f"{number} {name}: true {known:.0f} %, found {share:.0f} %"
        for number, (name, known, share) in enumerate(
            zip(SEGMENT_NAMES, truth.segment_defect_pct, result.segment_extent_pct, strict=True), 1
        )
        if share is not None and max(known, share) > 0
    ]
    say("\n".join(scores))


def main(words: list[str]) -> None:
    """Run the part that is asked for."""
    part = words[0] if words else "defects"
    if part == "picture":
        picture()
    elif part == "phase":
        phases(int(words[1]) if len(words) > 1 else 10)
    else:
        defects(int(words[1]) if len(words) > 1 else 60)


if __name__ == "__main__":
    main(sys.argv[1:])
