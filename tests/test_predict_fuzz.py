"""Folders in which anything may be damaged or misnamed: no file is lost, and no study stops another."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from cohort_builders import write_tiny_cohort
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from predicting import table
from served_builders import put, study_image

from mpi_unet.inference import predict
from mpi_unet.inference.inputs import open_input
from mpi_unet.inference.model import open_model
from mpi_unet.inference.options import Options
from mpi_unet.inference.runtimes import Runner
from mpi_unet.inference.tables import write_tables

NAMES = ("im{}", "IM{}.dcm", "scan{}.nii.gz", "scan{}.nii", "DICOMDIR{}", "report{}.pdf", "sub{}/im", ".hidden{}")
FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@dataclass(frozen=True)
class Damage:
    """What happens to one file: which one it is, how much of it is left, which bytes are others, its name."""

    which: int
    left: float
    flips: tuple[tuple[float, int], ...]
    name: str

    def of(self, wholes: list[Path]) -> bytes:
        content = bytearray(wholes[self.which % len(wholes)].read_bytes())
        for place, value in self.flips if content else ():
            content[int(place * (len(content) - 1))] ^= value
        return bytes(content[: round(self.left * len(content))])


SHARE = st.floats(0, 1, allow_nan=False)
HEAD = st.floats(0, 0.05, allow_nan=False)  # where headers are
DAMAGE = st.builds(
    Damage,
    st.integers(0, 99),
    st.one_of(st.just(1.0), SHARE),
    st.lists(st.tuples(st.one_of(HEAD, SHARE), st.integers(1, 255)), max_size=6).map(tuple),
    st.sampled_from(NAMES),
)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory) -> list[Path]:
    """Studies and views as DICOM, images and masks as NIfTI, and what is neither."""
    folder = tmp_path_factory.mktemp("wholes")
    images = (study_image(1), study_image(2, negative=True), study_image(3, num_gates=8), study_image(4, kind="TOMO"))
    files = [put(image, folder / f"im{number}") for number, image in enumerate(images)]
    files += sorted(write_tiny_cohort(folder / "cohort", 2).rglob("*.nii.gz"))
    for name, content in (("empty", b""), ("list", b"patients: see the ward list")):
        (folder / name).write_bytes(content)
        files.append(folder / name)
    return files


@settings(max_examples=20, **FUZZ)
@given(damages=st.lists(DAMAGE, min_size=1, max_size=6))
def test_every_file_of_a_mixed_and_damaged_folder_has_its_row(wholes, tmp_path, damages):
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    for folder in (tmp_path / "export", tmp_path / "out"):
        shutil.rmtree(folder, ignore_errors=True)
    for number, damage in enumerate(damages):
        path = tmp_path / "export" / damage.name.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damage.of(wholes))
    source = {"_target_": "mpi_unet.sources.dicom.dicom_cohort", "key_file": str(tmp_path / "key")}
    found = open_input(tmp_path / "export", tmp_path / "out", domain="transaxial", source=source)
    write_tables(found, tmp_path / "out")
    files = table(tmp_path / "out/cohort_private/files.csv")
    rows = table(tmp_path / "out/predictions.csv")
    assert len(files) == len(damages)
    taken = {name for row in files for name in row["taken"].split()}
    lines = {f"line {line} of files.csv" for line, row in enumerate(files, start=2) if not row["taken"]}
    assert {row["study_id"] for row in rows} == lines | taken
    assert all(row["reason"] for row in rows)
    assert len(rows) == len({row["study_id"] for row in rows})


@settings(max_examples=10, **FUZZ)
@given(damages=st.lists(DAMAGE, min_size=3, max_size=3))
def test_damaged_images_of_a_cohort_fail_alone(little_run, tmp_path, damages):
    cohort = tmp_path / "new"
    if not cohort.is_dir():
        write_tiny_cohort(tmp_path / "whole", 5, seed=1)
        shutil.copytree(tmp_path / "whole", cohort)
    images = sorted(path.relative_to(cohort) for path in (cohort / "images").iterdir())
    for path, damage in zip(images, damages, strict=False):
        (cohort / path).write_bytes(damage.of([tmp_path / "whole" / path]))
    runner = Runner(open_model(little_run / "runs/train"), "torch", "cpu")
    options = Options(measurements="volume", allow_other_domain=True, num_workers=0)
    made = predict(
        little_run / "runs/train", cohort, tmp_path / "out", options=options, pages=False, runner=runner, overwrite=True
    )
    rows = table(made.table)
    assert len({row["study_id"] for row in rows}) == len(rows) == 5
    assert [row["status"] for row in rows[3:]] == ["segmented"] * 2
    assert all(Path(tmp_path / "out" / row["mask"]).is_file() == (row["status"] == "segmented") for row in rows)
    assert all(row["reason"] for row in rows if row["status"] != "segmented")
