"""The wheel: what is in it, and that it trains from another folder in an environment where nothing else of us is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from cohort_builders import write_tiny_cohort
from doors import CHECKOUT, TINY

CONFIGS = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "conf").rglob("*.yaml")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # through the source distribution, as an index would serve it; no isolation: hatchling is installed already
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)],
        check=True,
        capture_output=True,
        text=True,
    )
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_package_and_every_config_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mpi_unet"}
    assert {name.removeprefix("mpi_unet/") for name in names if name.endswith(".yaml")} == CONFIGS
    modules = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "mpi_unet").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert any(name.endswith(".html.jinja") for name in names), "the report's templates ship"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "mpi_unet/py.typed" in names


def test_version_has_one_owner(wheel):
    import mpi_unet

    assert wheel.name.split("-")[1] == mpi_unet.__version__


@pytest.mark.slow
def test_installed_wheel_trains_the_quickstart_from_another_folder(wheel, tmp_path):
    """The dependencies come from this environment by a path file; the checkout itself is out of reach."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True
    )
    here = Path(sysconfig.get_path("purelib"))
    (site / "zz_dependencies.pth").write_text(f"{here}\n")
    write_tiny_cohort(tmp_path / "cohort", 5)
    words = ["experiment=quickstart", "data=cohort", "data.root=cohort", "data.reader=truth", *TINY]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: str) -> str:
        answer = subprocess.run(
            [str(home / "bin" / "python"), *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    assert str(site) in run("-c", "import mpi_unet; print(mpi_unet.__file__)")
    assert run("-m", "mpi_unet.train", *words).splitlines()[-1] == "runs/quickstart/report.html"
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()
