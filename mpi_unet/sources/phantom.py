"""The built-in source: simulated patients become a cohort folder.

Patients are simulated side by side on all cores, one patient at a time per core. What is finished is on disk: the
same command goes on where it was stopped, and a finished cohort is returned as it is. The options stand in
``phantom.json``; a folder made with other options is refused rather than mixed.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpi_unet.cohort.nifti import write_image, write_mask
from mpi_unet.cohort.table import write_cohort_table
from mpi_unet.errors import CohortError, listing
from mpi_unet.files import read_json, write_json, write_text
from mpi_unet.phantom.cases import Recipe, SimulatedCase, simulate_patient
from mpi_unet.phantom.readers import split_reader
from mpi_unet.processes import num_processes, one_thread_each, worker_ends_with_parent

__all__ = ["phantom_cohort"]

PHANTOM_VERSION = 1
"""Raised whenever the same options give other images; a folder of another version is refused."""

DEFAULT_LABELS = {"projection": "lv_filled", "transaxial": "lv_wall", "short_axis": "lv_wall"}

LICENCE = "CC0-1.0 (synthetic)"


def phantom_cohort(
    root: str | Path,
    *,
    domain: str = "short_axis",
    num_patients: int = 20,
    seed: int = 7,
    label: str | None = None,
    readers: Sequence[str] = ("truth", "A", "B", "C"),
    studies: Sequence[str] = ("stress",),
    gated: bool = False,
    num_gates: int = 8,
    protocol: str = "parallel_hole",
    reconstruction: str = "osem",
    pixel_mm: float | int | None = None,
    matrix: int | None = None,
    slice_mm: float | int = 6.4,
    num_workers: int | None = None,
) -> Path:
    """Make a cohort of simulated patients.

    Args:
        root: The cohort folder; made if it is not there.
        domain: ``short_axis``, ``transaxial`` or ``projection``.
        num_patients: Number of patients.
        seed: Seed of the cohort; patient i of a seed is the same in every cohort of the same options.
        label: ``lv_wall``, ``lv_cavity`` or ``lv_filled``; by default the wall, and the filled outline in projections.
        readers: ``truth`` and simulated readers ``A`` to ``E``; ``A2`` is the second read of ``A``.
        studies: ``stress``, ``rest`` or both.
        gated: One case per gate instead of one per study.
        num_gates: Gates of a gated study, usually 8 or 16.
        protocol: ``parallel_hole`` or ``czt``.
        reconstruction: ``osem``, ``osem_corrected`` (attenuation, blur and scatter; parallel_hole only) or ``fbp``;
            without effect in the projection domain.
        pixel_mm: Pixel in plane. By default 3.2 for short axis, the camera's own pixel otherwise (6.4, CZT 4.0).
        matrix: Rows and columns; by default 64 for short axis, the camera's own matrix otherwise.
        slice_mm: Distance of short-axis slices.
        num_workers: Processes; by default one per core. 1 stays in this process. With more, a script of your own
            needs the usual ``if __name__ == "__main__":`` guard.

    Returns:
        The cohort folder. Beside the tables of every cohort it holds ``truth.csv`` with the exact figures of each case.

    Raises:
        CohortError: An option is unknown, or the folder holds something else.
    """
    recipe = Recipe(
        domain=domain,
        seed=seed,
        label=label or DEFAULT_LABELS.get(domain, "lv_wall"),
        readers=tuple(readers),
        studies=tuple(studies),
        gated=gated,
        num_gates=num_gates,
        protocol=protocol,
        reconstruction=reconstruction,
        pixel_mm=None if pixel_mm is None else float(pixel_mm),
        matrix=matrix,
        slice_mm=float(slice_mm),
    )
    recipe.check()
    if num_patients < 1:
        raise CohortError(f"num_patients: is {num_patients}; expected at least 1")
    root = Path(root)
    options = {"phantom_version": PHANTOM_VERSION, "num_patients": num_patients, **asdict(recipe)}
    _claim(root, options)
    if (root / "cohort.json").is_file():
        return root
    missing = [index for index in range(num_patients) if not _part(root, index).is_file()]
    with _progress(num_patients, num_patients - len(missing)) as advance:
        for _ in _made(recipe, root, missing, num_workers):
            advance()
    _finish(root, recipe, num_patients)
    return root


def _claim(root: Path, options: dict[str, Any]) -> None:
    """Write the options of a new folder, or compare them with those of an old one."""
    path = root / "phantom.json"
    wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    if not path.is_file():
        if root.is_dir() and any(entry.name[0] != "." for entry in root.iterdir()):
            raise CohortError(
                f"{root} holds files that the phantom did not make; expected a new or an empty folder. Choose another "
                "folder, or remove this one"
            )
        write_json(path, wanted)
        return
    there = read_json(path)
    differing = [
        f"{name}: {there.get(name)!r} there, {wanted.get(name)!r} asked for"
        for name in sorted({*there, *wanted})
        if there.get(name) != wanted.get(name)
    ]
    if differing:
        raise CohortError(
            f"{root} was made with other options:\n{listing(differing)}\nChoose another folder for this cohort, or "
            "remove that folder"
        )


def _made(recipe: Recipe, root: Path, missing: list[int], num_workers: int | None) -> Iterator[int]:
    """Make the missing patients; yields each when it is on disk, in no particular order."""
    workers = num_processes(num_workers, len(missing))
    if workers <= 1:
        for index in missing:
            yield _make_patient(recipe, root, index)
        return
    with (
        one_thread_each(),
        ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=worker_ends_with_parent
        ) as pool,
    ):
        futures = [pool.submit(_make_patient, recipe, root, index) for index in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise CohortError(
                f"{root}: a worker process ended before its patient was done (out of memory, or a script without an "
                'if __name__ == "__main__": guard). Give the same command again and it goes on from here, or pass '
                "num_workers=1"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _make_patient(recipe: Recipe, root: Path, index: int) -> int:
    """Write the files of one patient, and last of all the part that says that they are there."""
    rows = []
    for case in simulate_patient(recipe, index):
        rows.append({"row": _write_case(root, recipe, case), "truth": _truth_row(case)})
    write_json(_part(root, index), rows)
    return index


def _write_case(root: Path, recipe: Recipe, case: SimulatedCase) -> dict[str, str]:
    is_distance_z = recipe.domain != "projection"
    file = f"{case.case_id}.nii.gz"
    write_image(root / "images" / file, case.image, case.affine_ras, is_distance_z=is_distance_z)
    row = {
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "acquisition": case.study,
        "gate": case.gate,
        "camera": recipe.protocol,
        "image": f"images/{file}",
    }
    for reader, mask in case.masks.items():
        write_mask(root / "labels" / reader / file, mask, case.affine_ras, is_distance_z=is_distance_z)
        row[f"label_{reader}"] = f"labels/{reader}/{file}"
    return row | case.strata


def _truth_row(case: SimulatedCase) -> dict[str, str]:
    row = {"case_id": case.case_id, "patient_id": case.patient_id, "acquisition": case.study, "gate": case.gate}
    for name, value in asdict(case.truth).items():
        if isinstance(value, tuple):
            row |= {f"{name}_{number}": f"{part:.4f}" for number, part in enumerate(value, start=1)}
        else:
            row[name] = f"{value:.4f}"
    return row


def _finish(root: Path, recipe: Recipe, num_patients: int) -> None:
    """Write the tables; ``cohort.json`` comes last and marks the cohort as complete."""
    parts = [entry for index in range(num_patients) for entry in read_json(_part(root, index))]
    truth = io.StringIO()
    table = csv.DictWriter(truth, fieldnames=list(parts[0]["truth"]), lineterminator="\n")
    table.writeheader()
    table.writerows(entry["truth"] for entry in parts)
    write_text(root / "truth.csv", truth.getvalue())
    counts = "Poisson counts per pixel" if recipe.domain == "projection" else "reconstructed counts, filtered"
    metadata = {
        "name": f"phantom_{recipe.domain}_seed{recipe.seed}",
        "domain": recipe.domain,
        "label": recipe.label,
        "readers": list(recipe.readers),
        "simulated_readers": True,
        "source": "mpi_unet phantom: simulated patients, simulated camera, simulated readers; no human data",
        "licence": LICENCE,
        "intensities": f"{counts}, not normalized",
        "spacing_known": True,
        "simulated": True,
        "phantom": read_json(root / "phantom.json"),
    }
    if repeats := _repeat_reads(recipe.readers):
        metadata["repeat_reads"] = repeats
    write_cohort_table(root, metadata=metadata, rows=[entry["row"] for entry in parts])
    shutil.rmtree(root / "parts")


def _repeat_reads(readers: Sequence[str]) -> dict[str, str]:
    """Column of each second read to the first read of the same reader, where both are there."""
    named = {reader: split_reader(reader) for reader in readers if reader != "truth"}
    return {reader: name for reader, (name, number) in named.items() if number > 1 and name in readers}


def _part(root: Path, index: int) -> Path:
    return root / "parts" / f"{index:04d}.json"


@contextmanager
def _progress(total: int, completed: int) -> Iterator[Any]:
    """A progress bar on standard error when it is a terminal; nothing otherwise."""
    if not sys.stderr.isatty() or completed == total:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Simulating patients"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=completed)
        yield lambda: bar.advance(task)
