"""Several runs by one command (``--multirun``, ``-m``): what each is called, and who starts them.

A *job* is one of the trainings that the command asks for. Jobs that differ in nothing but where they run - in their
fold, for example - are parts of one run and share its folder; any other difference gives each job a folder of its own
below the name of the sweep: ``-m loss=dice,cross_entropy`` makes ``runs/train/loss=dice`` and
``runs/train/loss=cross_entropy``.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig

from mpi_unet.errors import ConfigError, RunError
from mpi_unet.files import sha256
from mpi_unet.run import FREE_KEYS

__all__ = ["is_sweep", "job_name", "place_job", "sweeping", "words_that_name_jobs"]

NOT_IN_NAMES = (*FREE_KEYS, "experiment")
"""Keys that never tell the runs of a sweep apart; an experiment names itself."""

LONGEST_NAME = 150
"""Characters of a job's folder; file systems take 255, and files beside the folder add to its name."""

EXTRAS = {"hydra_submitit_launcher": "slurm", "optuna": "sweep", "hydra_joblib_launcher": None}
"""Plugin to the extra of this package that installs it."""


def sweeping(task: Callable[[], Any]) -> Callable[[], Any]:
    """Prepare Hydra for a sweep, if the command asks for one, and say what is missing in our words.

    Args:
        task: The Hydra task of a door.
    """

    def start() -> Any:
        if is_sweep(sys.argv[1:]):
            _register_sweeper()
            first = next((place for place, word in enumerate(sys.argv) if place and _is_override(word)), len(sys.argv))
            # beside the other overrides: argparse takes no second group of them behind a flag
            sys.argv[first:first] = words_that_name_jobs(sys.argv[1:])
        try:
            return task()
        except RuntimeError as error:
            if type(error).__module__.startswith("submitit."):
                raise RunError(_lost_job(str(error))) from error
            if "Unknown plugin class" in str(error):  # Hydra's word for one that is not there
                raise ConfigError(_missing_plugin(str(error))) from error
            raise

    return start


def is_sweep(words: Sequence[str]) -> bool:
    """Whether the words of a command ask Hydra for several jobs."""
    return any(word in ("-m", "--multirun") or word.upper() == "HYDRA.MODE=MULTIRUN" for word in words)


def words_that_name_jobs(words: Sequence[str]) -> list[str]:
    """What to add to a command so that Hydra's ``override_dirname`` holds only what tells its jobs apart.

    Where the user gives the jobs their names (``name=a,b`` or ``name='${...}'``) nothing is left in it.

    Example:
        >>> words_that_name_jobs(["-m", "loss=dice,cross_entropy", "seed=3", "split.fold=0,1"])
        ['hydra.job.config.override_dirname.exclude_keys=[seed,split.fold]']
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, overrides = OverridesParser.create(), []
    for word in words:
        if not word.startswith("-"):
            with suppress(HydraException):  # Hydra says it better when it parses the command
                overrides.append(parser.parse_override(word))
    named = any(
        one.key_or_group == "name" and (one.is_sweep_override() or "${" in str(one.value())) for one in overrides
    )
    excluded = [
        one.key_or_group
        for one in overrides
        if named or not one.is_sweep_override() or _is_part_of(one.key_or_group, NOT_IN_NAMES)
    ]
    return [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(dict.fromkeys(excluded))}]"]


def place_job(config: DictConfig) -> None:
    """Give a job of a sweep its folder: the ``name`` of its run gets a second part.

    Called inside a Hydra task; outside a sweep nothing happens.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN or not hydra.job.override_dirname:
        return
    config.name = f"{config.name}/{job_name(hydra.job.override_dirname)}"


def job_name(differences: str) -> str:
    """The folder of a job, from what tells it apart.

    Example:
        >>> job_name("data.root=/data/mpi,loss=dice")
        'data.root=_data_mpi,loss=dice'
        >>> len(job_name("x" * 1000))
        150
    """
    name = differences.replace("/", "_")
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 13]}-{sha256(name)[:12]}"


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def _is_part_of(key: str, roots: Sequence[str]) -> bool:
    return any(key == root or key.startswith((f"{root}.", f"{root}/")) for root in roots)


def _register_sweeper() -> None:
    """Make ``hydra_plugins.mpi_unet.OptunaSweeper`` known for this process.

    Hydra takes plugins from the package ``hydra_plugins`` only. Ours is put there by hand: a folder of that name in the
    wheel would be read by every other Hydra application of the environment (docs/adr/0008).
    """
    from hydra.core.plugins import Plugins

    from mpi_unet import trials

    try:
        package = importlib.import_module("hydra_plugins")
    except ImportError:  # no plugin is installed
        package = sys.modules["hydra_plugins"] = types.ModuleType("hydra_plugins")
        package.__path__ = []
    vars(package)["mpi_unet"] = trials
    Plugins.instance().register(trials.OptunaSweeper)


def _lost_job(said: str) -> str:
    """What to do about a job of the cluster that ended without an answer, and of which submitit says so."""
    return (
        f"{' '.join(said.splitlines()[:2])}. What it said stands beside that path. Other jobs of this command may "
        "still run; when squeue shows none, give the same command again, and lost ones go on from their newest epoch"
    )


def _missing_plugin(said: str) -> str:
    for plugin, extra in EXTRAS.items():
        if plugin in said:
            package = f"'mpi-unet[{extra}]'" if extra else plugin.replace("_", "-")
            return f"this command needs {plugin.replace('_', '-')}, which is not installed: pip install {package}"
    return said
