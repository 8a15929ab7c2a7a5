"""The run: the folder that one training leaves behind, and how it is entered again.

A run knows by which recipe it was made. The same command given again goes on where it stopped, or says that there is
nothing left to do; a command with another recipe is refused, because two recipes in one folder would be nobody's
result.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mpi_unet import __version__
from mpi_unet.config import plain
from mpi_unet.errors import BusyError, RunError, listing
from mpi_unet.files import is_part, read_json, unwritable, waiting_lock, write_json, write_text

FREE_KEYS = (
    "name",
    "runs_dir",
    "overwrite",
    "split.fold",
    "split.parallel",
    "split.processes",
    "prediction.probabilities",
    "loader.num_workers",
    "loader.cache",
    "trainer.accelerator",
    "logger",
    "hydra",
)
"""Keys that say where and how a recipe is run rather than what it is; they may change when a run goes on."""

RECORDED_PACKAGES = ("torch", "monai", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "scipy", "nibabel")


@dataclass(frozen=True)
class Run:
    """A run folder; the properties name its files (docs/run.md)."""

    folder: Path

    @property
    def config(self) -> Path:
        """The composed configuration."""
        return self.folder / ".hydra" / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, device, seed and times."""
        return self.folder / "environment.json"

    @property
    def splits(self) -> Path:
        """Which patient is on which side of which fold."""
        return self.folder / "splits.json"

    @property
    def domain(self) -> Path:
        """What the images are that the networks learn from."""
        return self.folder / "domain.json"

    @property
    def scores(self) -> Path:
        """One row per case and metric."""
        return self.folder / "scores.csv"

    @property
    def baselines(self) -> Path:
        """The same for the trivial baselines."""
        return self.folder / "baselines.csv"

    @property
    def summary(self) -> Path:
        """Every number of the report."""
        return self.folder / "summary.json"

    @property
    def agreement(self) -> Path:
        """Agreement with and between several readers, where it was asked for."""
        return self.folder / "agreement.json"

    @property
    def quality(self) -> Path:
        """What predict judges new masks by, made from the out-of-fold ones."""
        return self.folder / "quality.json"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"

    def prediction(self, case_id: str) -> Path:
        """Out-of-fold mask of one case."""
        return self.folder / "predictions" / f"{case_id}.nii.gz"

    def probability(self, case_id: str) -> Path:
        """Out-of-fold probabilities of one case, where they were asked for."""
        return self.folder / "probabilities" / f"{case_id}.nii.gz"

    def kept_probabilities(self, case_ids: Iterable[str]) -> dict[str, Path]:
        """The files of out-of-fold probabilities that there are, by case id."""
        files = {case_id: self.probability(case_id) for case_id in case_ids}
        return {case_id: file for case_id, file in files.items() if file.is_file()}

    def fold(self, fold: int) -> Path:
        """Folder of one fold."""
        return self.folder / f"fold_{fold}"

    def validation_mask(self, fold: int, case_id: str) -> Path:
        """Mask of a case that chose the epoch of a fold, by the network of that fold."""
        return self.fold(fold) / "validation" / f"{case_id}.nii.gz"

    def validation_probability(self, fold: int, case_id: str) -> Path:
        """Its probabilities, where those of the out-of-fold cases are kept too."""
        return self.fold(fold) / "validation_probabilities" / f"{case_id}.nii.gz"

    def is_fold_done(self, fold: int) -> bool:
        """Whether a fold was trained and its held-out patients were segmented."""
        return (self.fold(fold) / "fold.json").is_file()

    def read_config(self) -> DictConfig:
        """The configuration that the run was made with.

        Raises:
            RunError: There is none.
        """
        if not self.config.is_file():
            raise RunError(
                f"{self.folder} holds no .hydra/config.yaml, so it is no run; give the folder that train printed"
            )
        config = OmegaConf.load(self.config)
        assert isinstance(config, DictConfig)
        return config

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process writes what all folds share; the lock lies beside the folder, not in it."""
        with waiting_lock(self.folder.parent / f".{self.folder.name}.lock"):
            yield

    @contextmanager
    def fold_lock(self, fold: int) -> Iterator[None]:
        """Keep other processes out of a fold while it is worked on; the system lets go of it when this one dies.

        Raises:
            RunError: Another process is at it.
        """
        folder = self.fold(fold)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / ".lock").open("a")
        except OSError as error:
            raise unwritable(folder, error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"{folder} is being worked on by another process; wait for it, or run another fold with "
                    "split.fold=..."
                ) from None
            yield


def enter_run(config: DictConfig, overrides: list[str], command: str, *, may_overwrite: bool = True) -> Run:
    """Begin a run, or go on with the one that the same recipe left behind.

    Another recipe takes the place of one that came to nothing, because the data had to be mended first, say.

    Args:
        config: Composed configuration, already checked; ``runs_dir`` and ``name`` say where the run is.
        overrides: What the user gave on the command line, for the record.
        command: The whole command line, for the record.
        may_overwrite: False in processes that help another one, which has thrown the old run away already.

    Raises:
        RunError: The folder was made by another recipe, holds something else, is in use, or cannot be written to.
    """
    run = Run(Path(config.runs_dir) / config.name)
    environment = _environment(config.seed, command)
    with run.lock():
        if config.overwrite and may_overwrite and run.config.is_file():
            _throw_away(run)
        made = {path.name for path in run.folder.iterdir() if not is_part(path)} if run.folder.is_dir() else set()
        beginnings = {".hydra", run.environment.name, *(["log.txt"] if run.config.is_file() else [])}
        is_begun = bool(made - beginnings)  # these alone: a start that was killed, or that its data did not let begin
        if run.config.is_file() and (is_begun or not _differing(run, plain(config))):
            refuse_other_recipe(run, config)
            return run
        if is_begun:
            raise RunError(
                f"{run.folder} is not empty and is no run of mpi_unet; choose another place with name=... or "
                "runs_dir=..."
            )
        write_text(run.folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
        write_json(run.environment, environment)
        write_text(run.config, OmegaConf.to_yaml(config, resolve=True))  # last: its presence makes the folder a run
    return run


def _throw_away(run: Run) -> None:
    """Remove a run that nobody works on; by renaming first, so that no half of it can be taken for a run."""
    with ExitStack() as held:
        for folder in sorted(run.folder.glob("fold_*")):
            held.enter_context(run.fold_lock(int(folder.name.removeprefix("fold_"))))
        old = run.folder.with_name(f".old-{run.folder.name}")
        shutil.rmtree(old, ignore_errors=True)
        run.folder.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def note_in_environment(run: Run, **facts: Any) -> None:
    """Add facts to ``environment.json``."""
    with run.lock():
        write_json(run.environment, read_json(run.environment) | facts)


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def flat_recipe(config: DictConfig, free: Sequence[str] = FREE_KEYS) -> dict[str, Any]:
    """Every leaf of a configuration by its dotted key, without the keys that are free to differ."""
    leaves = _leaves(plain(config))
    return {
        key: value for key, value in leaves.items() if not any(key == one or key.startswith(f"{one}.") for one in free)
    }


def refuse_other_recipe(run: Run, config: DictConfig) -> None:
    """Make sure that a run is of this recipe: keys that do not define it may differ.

    Raises:
        RunError: It is of another one.
    """
    differing = _differing(run, plain(config))
    if differing:
        raise RunError(
            f"{run.folder} holds a run made by another recipe:\n{listing(differing, limit=20)}\n"
            "Give this one a name of its own with name=..., or throw the old one away with overwrite=true"
        )


def _differing(run: Run, recipe: Mapping[str, Any]) -> list[str]:
    old, new = _leaves(plain(run.read_config())), _leaves(recipe)
    missing = object()
    return [
        f"{key} was {_shown(old.get(key, missing), missing)}, is now {_shown(new.get(key, missing), missing)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, missing) != new.get(key, missing) and not _is_free(key)
    ]


def _leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping):
        return {prefix[:-1]: node}
    leaves: dict[str, Any] = {}
    for key, child in node.items():
        leaves |= _leaves(child, f"{prefix}{key}.")
    return leaves


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)


def _shown(value: Any, missing: object) -> str:
    return "absent" if value is missing else repr(value)


def _environment(seed: int, command: str) -> dict[str, Any]:
    versions = {package.replace("-", "_"): _version(package) for package in RECORDED_PACKAGES}
    return {
        "mpi_unet": __version__,
        "python": platform.python_version(),
        **versions,
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "git_revision": _git_revision(),
        "seed": seed,
        "command": command,
        "started": now(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _git_revision() -> str:
    """Revision of the checkout that the code runs from; empty for an installed package."""
    source = Path(__file__).resolve().parent.parent
    if not (source / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            ["git", "-C", str(source), "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def command_line() -> str:
    """The command as the user would type it, without the folders of this machine."""
    door = Path(sys.argv[0]).stem
    words = [word if not any(sign in word for sign in " '\"[]{}") else f"'{word}'" for word in sys.argv[1:]]
    return " ".join([f"python -m mpi_unet.{door}", *words])
