"""The figures and the numbers of docs/phantom.md.

python docs/figures/phantom.py mosaic     docs/figures/phantom_*.png
python docs/figures/phantom.py realism    what the images measure, beside the literature
python docs/figures/phantom.py readers    agreement of the simulated readers
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mpi_unet.phantom.camera import PARALLEL_HOLE
from mpi_unet.phantom.heart import Heart
from mpi_unet.phantom.outline import outline_mask, support_mm, surface_points_mm
from mpi_unet.phantom.patient import sample_patient
from mpi_unet.phantom.random_streams import Stream
from mpi_unet.phantom.readers import reader_mask, reader_support_mm, sample_read, surface_depths
from mpi_unet.phantom.reorientation import Grid, centered_grid, resample, short_axis_grid
from mpi_unet.phantom.study import Acquisition, Reconstruction, acquire, protocol_named, reconstruct
from mpi_unet.phantom.truth import true_mask

FOLDER = Path(__file__).parent
SEED = 2024

MAX_BYTES = 250_000
"""Larger figures are stored with a palette."""


def study_of(index: int, protocol_name: str = "parallel_hole", **options) -> tuple[Acquisition, Reconstruction]:
    """Simulate one stress study."""
    acquisition = acquire(sample_patient(SEED, index), protocol_named(protocol_name, **options))
    return acquisition, reconstruct(acquisition)


def true_axes_grid(heart: Heart, shape: tuple[int, int, int], step_mm: float, level: float = 0.5) -> Grid:
    """Short-axis grid without an operator's error; its middle lies on the long axis."""
    axes = heart.axes * np.array([[1.0], [1.0], [-1.0]])
    center = heart.to_world(np.array([0.0, 0.0, level * heart.length_mm]))
    return centered_grid(shape, axes, (step_mm, step_mm, step_mm), center)


def long_axis_grids(heart: Heart, size: int = 48, step_mm: float = 2.7) -> tuple[Grid, Grid]:
    """The vertical long axis (anterior wall on top, apex right) and the horizontal one (septum left, apex on top)."""
    lateral, inferior, apical = heart.axes
    center = heart.to_world(np.array([0.0, 0.0, 0.5 * heart.length_mm]))
    shape, steps = (1, size, size), (step_mm, step_mm, step_mm)
    vertical = centered_grid(shape, np.stack([apical, inferior, lateral]), steps, center)
    horizontal = centered_grid(shape, np.stack([lateral, -apical, inferior]), steps, center)
    return vertical, horizontal


# --- What the images measure ---


def radial_profiles(acquisition: Acquisition, reconstruction: Reconstruction) -> np.ndarray:
    """Profiles from the long axis outward, (angle, radius in mm), averaged over mid-ventricular slices."""
    heart = acquisition.heart
    grid = true_axes_grid(heart, (9, 81, 81), 2.0)
    volume = resample(reconstruction.volumes[0], reconstruction.grid, grid)
    plane = volume.mean(0)
    angles = np.deg2rad(np.arange(0, 360, 10))
    radius = np.arange(0, 70.0)
    x = 40 + radius[None] * np.sin(angles)[:, None] / 2
    y = 40 - radius[None] * np.cos(angles)[:, None] / 2
    from scipy.ndimage import map_coordinates

    return map_coordinates(plane, [y, x], order=1)


def wall_width_mm(profile: np.ndarray) -> float:
    """Full width at half maximum of the wall; twice the outer half where the cavity does not fall below one half."""
    peak = 10 + int(profile[10:50].argmax())
    half = profile[peak] / 2
    outer = np.argmax(profile[peak:] < half)
    inner = np.argmax(profile[peak::-1] < half)
    if outer == 0:
        return np.nan
    return float(outer + inner) if inner else 2.0 * float(outer)


def sharpness_per_cm(profile: np.ndarray) -> float:
    """Steepest slope of the outer border, of a profile whose peak is 1."""
    peak = 10 + int(profile[10:50].argmax())
    return float(-np.diff(profile[peak : peak + 25]).min() / profile[peak] * 10)


def anterior_ratios(acquisition: Acquisition) -> tuple[float, float, float]:
    """Heart-to-liver and heart-to-lung ratio in the anterior view, and the hottest myocardial pixel of all views."""
    camera, heart = acquisition.protocol.camera, acquisition.heart
    view = int(np.argmin(np.abs(camera.view_angles_deg)))
    counts = acquisition.views[0, view]
    outlines = outline_mask(support_mm(surface_points_mm(heart, acquisition.fields[0]), camera), camera)
    outline = outlines[view]
    body = acquisition.patient.body

    def region(x_mm: float, z_mm: float, half_mm: float) -> float:
        column = x_mm / camera.pixel_mm + (camera.num_bins - 1) / 2
        row = (camera.num_rows - 1) / 2 - z_mm / camera.pixel_mm
        half = half_mm / camera.pixel_mm
        rows, columns = np.ogrid[: camera.num_rows, : camera.num_bins]
        return float(counts[(np.abs(rows - row) < half) & (np.abs(columns - column) < half)].mean())

    width = body.half_width_mm - body.fat_mm
    heart_counts = float(counts[outline].mean())
    liver = region(-0.42 * width, body.right_dome_mm - 45, 20)
    lung = region(-0.45 * width, 55.0, 20)
    return heart_counts / liver, heart_counts / lung, float(acquisition.views[0][outlines].max())


def realism(num_patients: int = 40) -> None:
    """Print the table of docs/phantom.md."""
    for protocol_name in ("parallel_hole", "czt"):
        rows: dict[str, list[float]] = {}

        def add(name: str, value: float, rows: dict[str, list[float]] = rows) -> None:
            rows.setdefault(name, []).append(value)

        for index in range(num_patients if protocol_name == "parallel_hole" else num_patients // 2):
            acquisition, reconstruction = study_of(index, protocol_name)
            heart, patient = acquisition.heart, acquisition.patient
            grid = true_axes_grid(heart, (40, 50, 50), 3.0)
            volume = resample(reconstruction.volumes[0], reconstruction.grid, grid)
            wall = true_mask(heart, acquisition.fields[0], grid, "lv_wall")[16:24]
            cavity = true_mask(heart, acquisition.fields[0], grid, "lv_cavity")[16:24]
            middle = volume[16:24]
            if not patient.defects:
                profiles = radial_profiles(acquisition, reconstruction)
                add("wall FWHM, mm", float(np.nanmean([wall_width_mm(profile) for profile in profiles])))
                add(
                    "sharpness of the lateral border, per cm",
                    float(np.mean([sharpness_per_cm(profiles[k]) for k in range(6, 13)])),
                )
                add("wall to cavity", float(middle[wall].mean() / middle[cavity].mean()))
                add("contrast to noise", float((middle[wall].mean() - middle[cavity].mean()) / middle[wall].std()))
            liver, lung, hottest = anterior_ratios(acquisition)
            add(f"heart to liver, {patient.uptake.tracer}", liver)
            add(f"heart to lung, {patient.uptake.tracer}", lung)
            add("counts in the hottest myocardial pixel", hottest)
            add("counts of the ventricle, thousands", acquisition.ventricle_counts / 1000)
            add("all counts, millions", float(acquisition.counts.sum()) / 1e6)
            add(
                "scatter to primary",
                float(acquisition.scatter.sum() / (acquisition.expected - acquisition.scatter).sum()),
            )
        sys.stdout.write(f"{protocol_name}\n")
        for name, values in sorted(rows.items()):
            sys.stdout.write(f"  {name:52s} {np.mean(values):8.2f} +/- {np.std(values):6.2f}  (n = {len(values)})\n")


# --- Pictures ---


def mosaic(num_patients: int = 12) -> None:
    """Twelve patients: four views with the true outline, five short-axis slices, both long axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(num_patients, 11, figsize=(11, num_patients))
    for index, row in enumerate(axes):
        acquisition, reconstruction = study_of(index)
        heart, camera, fields = acquisition.heart, acquisition.protocol.camera, acquisition.fields[0]
        outline = outline_mask(support_mm(surface_points_mm(heart, fields), camera), camera)
        for panel, view in zip(row[:4], (0, 15, 30, 45), strict=True):
            counts = acquisition.views[0, view]
            panel.imshow(counts, cmap="gray_r", vmin=0, vmax=np.percentile(counts, 99.7), interpolation="bilinear")
            if view == 15:
                panel.contour(outline[view], [0.5], colors="tab:red", linewidths=0.6)
        stream = Stream(SEED, index, "reorientation", 2)
        grid = short_axis_grid(heart, stream, matrix=40, pixel_mm=3.2, slice_mm=6.4)
        image = resample(reconstruction.volumes[0], reconstruction.grid, grid)
        wall = true_mask(heart, fields, grid, "lv_wall")
        top = float(np.percentile(image[wall], 99))
        slices = np.linspace(3, len(image) - 6, 5).round().astype(int)
        for panel, number in zip(row[4:9], slices, strict=True):
            panel.imshow(image[number], cmap="inferno", vmin=0, vmax=top, interpolation="bilinear")
        row[6].contour(wall[slices[2]], [0.5], colors="cyan", linewidths=0.5)
        for panel, plane in zip(row[9:], long_axis_grids(heart), strict=True):
            picture = resample(reconstruction.volumes[0], reconstruction.grid, plane)[0]
            panel.imshow(picture, cmap="inferno", vmin=0, vmax=top, interpolation="bilinear")
        defects = " ".join(f"{d.territory} {d.severity:.1f}" for d in acquisition.patient.defects) or "normal"
        body = acquisition.patient.body
        row[0].text(1, 61, f"{body.sex} BMI {body.bmi:.0f}\n{defects}", color="tab:blue", fontsize=5)
    titles = (
        "RAO 45",
        "anterior",
        "LAO 45",
        "left lateral",
        "apex",
        "",
        "middle",
        "",
        "base",
        "vertical",
        "horizontal",
    )
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=7, pad=2)
    save(figure, axes, "phantom_mosaic.png", dpi=75)


def contours(num_patients: int = 4) -> None:
    """Simulated readers beside the truth, in slices and in views."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    colors = {"truth": "white", "A": "cyan", "B": "lime", "C": "magenta"}
    figure, axes = plt.subplots(num_patients, 7, figsize=(10.5, 1.5 * num_patients))
    for index, row in enumerate(axes):
        acquisition, reconstruction = study_of(index)
        heart, camera, fields = acquisition.heart, acquisition.protocol.camera, acquisition.fields[0]
        grid = short_axis_grid(heart, Stream(SEED, index, "reorientation", 2), matrix=34, pixel_mm=3.2, slice_mm=6.4)
        image = resample(reconstruction.volumes[0], reconstruction.grid, grid)
        depths = surface_depths(fields)
        support = support_mm(surface_points_mm(heart, fields), camera)
        masks = {"truth": true_mask(heart, fields, grid, "lv_wall")}
        views = {"truth": outline_mask(support, camera)}
        for reader in ("A", "B", "C"):
            read = sample_read(heart, reader)
            masks[reader] = reader_mask(heart, depths, grid, "lv_wall", read)
            views[reader] = outline_mask(reader_support_mm(heart, support, camera, read), camera)
        top = float(np.percentile(image[masks["truth"]], 99))
        for panel, number in zip(row[:5], np.linspace(2, len(image) - 4, 5).round().astype(int), strict=True):
            panel.imshow(image[number], cmap="gray", vmin=0, vmax=top, interpolation="bilinear")
            for reader, mask in masks.items():
                panel.contour(mask[number], [0.5], colors=colors[reader], linewidths=0.6)
        for panel, view in zip(row[5:], (15, 30), strict=True):
            counts = acquisition.views[0, view]
            rows, columns = (np.argwhere(views["truth"][view]).mean(0)).round().astype(int)
            window = np.s_[rows - 14 : rows + 14, columns - 14 : columns + 14]
            panel.imshow(counts[window], cmap="gray", vmin=0, interpolation="nearest")
            for reader, mask in views.items():
                panel.contour(mask[view][window], [0.5], colors=colors[reader], linewidths=0.6)
    save(figure, axes, "phantom_readers.png", dpi=80)


def protocols() -> None:
    """One patient by camera, reconstruction, gate and study."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    index = 5
    columns = []
    for name, options in (("parallel_hole", {}), ("parallel_hole", {"reconstruction": "fbp"}), ("czt", {})):
        columns.append((f"{name} {options.get('reconstruction', 'osem')}", *study_of(index, name, **options), 0))
    rest = acquire(sample_patient(SEED, index, "rest"), protocol_named("parallel_hole"))
    columns.append(("rest", rest, reconstruct(rest), 0))
    gated, volumes = study_of(index, num_gates=8)
    columns += [(f"gate {gate + 1}", gated, volumes, gate) for gate in (0, 2, 4)]
    figure, axes = plt.subplots(3, len(columns), figsize=(1.5 * len(columns), 4.6))
    for (title, acquisition, reconstruction, gate), column in zip(columns, axes.T, strict=True):
        heart = acquisition.heart
        camera = acquisition.protocol.camera
        counts = acquisition.views[gate, camera.num_views // 4]
        column[0].imshow(counts, cmap="gray_r", vmin=0, vmax=np.percentile(counts, 99.7), interpolation="bilinear")
        column[0].set_title(title, fontsize=7, pad=2)
        grid = true_axes_grid(heart, (1, 48, 48), 2.7, level=0.45)
        volume = reconstruction.volumes[gate]
        planes = [resample(volume, reconstruction.grid, plane)[0] for plane in (grid, long_axis_grids(heart)[0])]
        fields = acquisition.fields[gate]
        top = float(planes[0][true_mask(heart, fields, grid, "lv_wall")[0]].max())
        for panel, plane in zip(column[1:], planes, strict=True):
            panel.imshow(plane, cmap="inferno", vmin=0, vmax=top, interpolation="bilinear")
        column[1].contour(true_mask(heart, fields, grid, "lv_wall")[0], [0.5], colors="cyan", linewidths=0.5)
    save(figure, axes, "phantom_protocols.png", dpi=80)


def save(figure, axes: np.ndarray, name: str, dpi: int) -> None:
    """Write a figure without frames."""
    for panel in axes.ravel():
        panel.axis("off")
    figure.subplots_adjust(0.002, 0.002, 0.998, 0.975, 0.02, 0.02)
    figure.canvas.draw()
    figure.set_dpi(dpi)
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    picture.save(FOLDER / name, optimize=True)
    if (FOLDER / name).stat().st_size > MAX_BYTES:
        picture.quantize(palette=palette(), dither=Image.Dither.NONE).save(FOLDER / name, optimize=True)


def palette() -> Image.Image:
    """The colors of the figures: grays, the heat scale and the outlines; a third of the bytes of true color."""
    from matplotlib import colormaps, colors

    grays = np.repeat(np.linspace(0, 1, 24)[:, None], 3, axis=1)
    heat = colormaps["inferno"](np.linspace(0, 1, 72))[:, :3]
    names = ("tab:red", "tab:blue", "cyan", "lime", "magenta")
    outlines = np.array([colors.to_rgb(name) for name in names])
    table = np.rint(255 * np.concatenate([grays, heat, outlines, 0.5 + 0.5 * outlines])).astype(np.uint8)
    image = Image.new("P", (1, 1))
    image.putpalette(table.tobytes())
    return image


# --- Readers ---


def readers(num_patients: int = 60) -> None:
    """Print the mean Dice of pairs of simulated readers."""
    pairs = (("A", "B"), ("A", "C"), ("B", "C"), ("A", "A2"), ("truth", "A"), ("truth", "B"), ("truth", "C"))
    found: dict[tuple[str, str, str], list[float]] = {}
    for index in range(num_patients):
        heart = Heart(sample_patient(SEED, index))
        fields = heart.fields(protocol_named("parallel_hole").contractions[0])
        grid = short_axis_grid(heart, Stream(SEED, index, "reorientation", 2), matrix=64, pixel_mm=3.2, slice_mm=6.4)
        depths = surface_depths(fields)
        support = support_mm(surface_points_mm(heart, fields), PARALLEL_HOLE)
        reads = {reader: sample_read(heart, reader) for reader in ("A", "B", "C", "A2")}
        for name in ("wall in slices", "filled in slices", "filled in views"):
            label = "lv_wall" if name.startswith("wall") else "lv_filled"
            if name.endswith("views"):
                masks = {
                    reader: outline_mask(reader_support_mm(heart, support, PARALLEL_HOLE, read), PARALLEL_HOLE)
                    for reader, read in reads.items()
                }
                masks["truth"] = outline_mask(support, PARALLEL_HOLE)
            else:
                masks = {reader: reader_mask(heart, depths, grid, label, read) for reader, read in reads.items()}
                masks["truth"] = true_mask(heart, fields, grid, label)
            for first, second in pairs:
                both = (masks[first] & masks[second]).sum()
                dice = 2 * both / (masks[first].sum() + masks[second].sum())
                found.setdefault((name, first, second), []).append(float(dice))
    for (name, first, second), values in found.items():
        sys.stdout.write(
            f"{name:18s} {first:6s}{second:4s} {np.mean(values):.3f} +/- {np.std(values):.3f}, min {min(values):.2f}\n"
        )


def main() -> None:
    """Do what the command line says."""
    tasks = {"mosaic": (mosaic, contours, protocols), "realism": (realism,), "readers": (readers,)}
    for task in tasks[sys.argv[1]]:
        task()


if __name__ == "__main__":
    main()
