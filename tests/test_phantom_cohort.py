from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError
from mpi_unet.phantom.cases import Recipe, simulate_patient
from mpi_unet.processes import one_thread_each
from mpi_unet.sources import phantom
from mpi_unet.sources.phantom import phantom_cohort


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def options_of(root: Path) -> dict:
    options = json.loads((root / "phantom.json").read_text())
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


@pytest.fixture(scope="module")
def short_axis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohorts") / "short_axis"
    return phantom_cohort(root, num_patients=2, seed=5, readers=("truth", "A", "A2"), num_workers=1)


def test_short_axis_cohort_passes_the_checks_of_every_cohort(short_axis: Path):
    cohort = Cohort.open(short_axis)
    for reader in ("truth", "A", "A2"):
        cohort.check(reader)
    assert cohort.domain == "short_axis"
    assert cohort.label == "lv_wall"
    assert cohort.simulated_readers
    assert cohort.spacing_known
    assert "simulated" in cohort.metadata["source"]
    assert cohort.patients == ("P0000", "P0001")
    volume = cohort.cases[0].read_image()
    np.testing.assert_allclose(volume.spacing_mm, (6.4, 3.2, 3.2), rtol=1e-5)
    assert np.linalg.det(volume.affine[:3, :3]) > 0  # LPS to RAS keeps the handedness


def test_second_read_is_declared_as_one(short_axis: Path):
    assert Cohort.open(short_axis).repeat_reads == {"A2": "A"}


def test_projection_cohort_passes_the_checks_of_every_cohort(tmp_path: Path):
    root = phantom_cohort(tmp_path / "p", domain="projection", num_patients=1, seed=5, readers=("truth", "B"))
    cohort = Cohort.open(root)
    cohort.check("truth")
    cohort.check("B")
    assert cohort.label == "lv_filled"
    image = cohort.cases[0].read_image().array
    assert image.shape == (60, 64, 64)
    np.testing.assert_array_equal(image, np.round(image))  # counts
    assert cohort.cases[0].read_mask("truth").any(axis=(1, 2)).all()  # the heart is in every view


def test_patients_do_not_depend_on_order_workers_or_neighbors(tmp_path: Path, short_axis: Path):
    options = {"seed": 5, "readers": ("truth", "A", "A2")}
    two = phantom_cohort(tmp_path / "two", num_patients=2, num_workers=2, **options)
    assert digests(two) == digests(short_axis)
    recipe = Recipe(**{name: value for name, value in options_of(short_axis).items() if name in Recipe.__annotations__})
    (last,) = simulate_patient(recipe, 1)  # the second patient without the first
    on_disk = Cohort.open(short_axis).case("P0001_stress")
    np.testing.assert_array_equal(last.image, on_disk.read_image().array)
    np.testing.assert_array_equal(last.masks["A2"], on_disk.read_mask("A2"))


def test_killed_run_goes_on_and_ends_with_the_same_files(tmp_path, short_axis, monkeypatch):
    options = {"num_patients": 2, "seed": 5, "readers": ("truth", "A", "A2"), "num_workers": 1}
    made = []
    make = phantom._make_patient

    def make_one(recipe, root, index):
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(index)
        return make(recipe, root, index)

    monkeypatch.setattr(phantom, "_make_patient", make_one)
    with pytest.raises(KeyboardInterrupt):
        phantom_cohort(tmp_path / "c", **options)
    assert not (tmp_path / "c" / "cohort.json").exists()
    monkeypatch.setattr(phantom, "_make_patient", lambda *given: made.append(given[2]) or make(*given))
    root = phantom_cohort(tmp_path / "c", **options)
    assert made == [0, 1]  # the one that was whole was kept
    assert digests(root) == digests(short_axis)
    phantom_cohort(root, **options)
    assert made == [0, 1]  # a complete cohort is returned as it is


def test_folder_made_with_other_options_is_refused(short_axis: Path):
    with pytest.raises(
        CohortError, match=r"seed: 5 there, 6 asked for\n(.|\n)*another folder(.|\n)*remove that folder"
    ):
        phantom_cohort(short_axis, num_patients=2, seed=6, readers=("truth", "A", "A2"))


def test_folder_with_other_files_is_refused(tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear colleague")
    with pytest.raises(CohortError, match="did not make; expected a new or an empty folder"):
        phantom_cohort(tmp_path, num_patients=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.txt"]


def test_all_unknown_options_are_named_at_once(tmp_path: Path):
    with pytest.raises(CohortError) as caught:
        phantom_cohort(
            tmp_path / "c",
            domain="short_axs",
            label="lv_wal",
            seed=-1,
            readers=("truth", "Z", "A1", "A", "A"),
            studies=("exercise",),
            protocol="pinhole",
            reconstruction="mlem",
            gated=True,
            num_gates=1,
            pixel_mm=0.1,
            matrix=1024,
        )
    text = str(caught.value)
    for part in (
        "domain: is 'short_axs'; expected projection or transaxial or short_axis; did you mean 'short_axis'?",
        "label: is 'lv_wal'",
        "seed: is -1; expected 0 or more",
        "'Z' is no simulated reader",
        "'A1' is no simulated reader",
        "readers: is ['truth', 'Z', 'A1', 'A', 'A']; expected at least one name, each once",
        "studies: is 'exercise'",
        "protocol: is 'pinhole'",
        "reconstruction: is 'mlem'",
        "num_gates: is 1; expected 2 to 32, or gated=false",
        "pixel_mm: is 0.1; expected 1 to 10",
        "matrix: is 1024; expected 16 to 128",
        "Correct these options",
    ):
        assert part in text
    assert not (tmp_path / "c").exists()


def test_wall_of_a_projection_is_refused(tmp_path: Path):
    with pytest.raises(CohortError, match="label: is 'lv_wall'; projections show lv_filled only"):
        phantom_cohort(tmp_path / "c", domain="projection", label="lv_wall")
    with pytest.raises(CohortError, match="num_patients: is 0; expected at least 1"):
        phantom_cohort(tmp_path / "c", num_patients=0)


def test_truth_table_has_the_figures_of_every_case(short_axis: Path):
    with open(short_axis / "truth.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    cohort = Cohort.open(short_axis)
    assert [row["case_id"] for row in rows] == [case.case_id for case in cohort.cases]
    for row, case in zip(rows, cohort.cases, strict=True):
        figures = {
            name: float(value)
            for name, value in row.items()
            if "id" not in name and name not in ("acquisition", "gate")
        }
        assert figures["end_diastolic_ml"] > figures["cavity_ml"] > figures["end_systolic_ml"]
        volume_ml = case.read_mask("truth").sum() * np.prod(case.read_image().spacing_mm) / 1000
        assert volume_ml == pytest.approx(figures["wall_ml"], rel=0.08)
        assert (figures["defect_pct"] > 0) == any(figures[f"segment_defect_pct_{n}"] > 0 for n in range(1, 18))
    assert json.loads((short_axis / "cohort.json").read_text())["licence"].startswith("CC0")


def test_gated_rest_and_stress_give_one_case_per_gate_and_study(tmp_path: Path):
    root = phantom_cohort(
        tmp_path / "g", num_patients=1, seed=5, gated=True, num_gates=2, studies=("rest", "stress"), readers=("truth",)
    )
    cohort = Cohort.open(root)
    assert [(case.case_id, case.acquisition, case.gate) for case in cohort.cases] == [
        ("P0000_rest_gate01", "rest", "1"),
        ("P0000_rest_gate02", "rest", "2"),
        ("P0000_stress_gate01", "stress", "1"),
        ("P0000_stress_gate02", "stress", "2"),
    ]
    cohort.check("truth")


# --- Workers and the terminal, without simulating anybody ---


@pytest.fixture
def made_without_simulation(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    monkeypatch.setattr(phantom, "_make_patient", lambda recipe, root, index: made.append(index) or index)
    monkeypatch.setattr(phantom, "_finish", lambda root, recipe, num_patients: None)
    return made


def test_worker_that_dies_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class DyingPool:
        def __init__(self, *args, **options): ...
        def __enter__(self):
            return self

        def __exit__(self, *args): ...
        def submit(self, *args):
            future = Future()
            future.set_exception(BrokenProcessPool("a process ended abruptly"))
            return future

        def shutdown(self, **options): ...

    monkeypatch.setattr(phantom, "ProcessPoolExecutor", DyingPool)
    with pytest.raises(CohortError, match=r"a worker process ended(.|\n)*goes on from here, or pass num_workers=1"):
        phantom_cohort(tmp_path / "c", num_patients=4, num_workers=2)


def test_script_from_a_pipe_stays_in_one_process(tmp_path, monkeypatch, made_without_simulation):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>", raising=False)
    monkeypatch.setattr(phantom, "ProcessPoolExecutor", None)
    phantom_cohort(tmp_path / "c", num_patients=3, num_workers=2)
    assert made_without_simulation == [0, 1, 2]


def test_progress_is_shown_on_a_terminal_only(tmp_path, monkeypatch, capsys, made_without_simulation):
    phantom_cohort(tmp_path / "a", num_patients=2, num_workers=1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    phantom_cohort(tmp_path / "b", num_patients=2, num_workers=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Simulating patients" in err
    assert "2/2" in err


def test_environment_of_the_workers_does_not_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
