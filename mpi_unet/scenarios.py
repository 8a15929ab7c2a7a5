"""What ``train`` does: one run, or several runs - scenarios - on one cohort that are compared in the end.

An experiment with ``scenarios`` is a table of named lists of overrides. Each scenario is a run of its own in
``<runs_dir>/<name>/<scenario>``, made by the same recipe as if it had been started alone, and goes on like any other.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from mpi_unet.config import check_plain_keys, check_targets
from mpi_unet.crossvalidation import cross_validate, is_main_process
from mpi_unet.errors import ConfigError
from mpi_unet.files import read_json
from mpi_unet.report.comparison import write_comparison
from mpi_unet.run import Run, command_line, enter_run
from mpi_unet.saying import say_comparison, say_result
from mpi_unet.sweeps import place_job

FILE_WIDTH = 160
"""Characters in a line where the output goes to a file or a pipe, so that the table of scenarios is not squeezed."""

DEFINING_KEYS = ("split", "split.unit", "split.allow_leakage", "loss", "transforms", "loader.augment_validation")
"""What tells one scenario from another; everything else may be given for all of them."""


def train(config: DictConfig) -> float | None:
    """Run what the configuration asks for and say where the results are.

    Args:
        config: Composed by Hydra, its plain keys checked.

    Returns:
        What a sweep may choose by: the Dice on validation patients, mean over the folds. None while folds are missing,
        and for scenarios.

    Raises:
        MpiUnetError: Something that the user can remedy.
    """
    overrides = [str(word) for word in HydraConfig.get().overrides.task]
    _refuse_sweep_of_distributed(config)
    console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
    place_job(config)
    if config.scenarios:
        _train_scenarios(config, overrides, console)
        return None
    check_targets(config)
    run, is_complete = _train_one(config, overrides, console)
    if not is_complete:
        return None
    say_result(run, console)
    return _validation_dice(run)


def _train_one(config: DictConfig, overrides: Sequence[str], console: Console) -> tuple[Run, bool]:
    run = enter_run(config, list(overrides), command_line(), may_overwrite=is_main_process())
    with _log_kept_in(run.folder):
        return run, cross_validate(config, run, console)


def _train_scenarios(config: DictConfig, overrides: Sequence[str], console: Console) -> None:
    """Run each scenario with what the user gave beside it, then write the comparison."""
    given = [word for word in overrides if not word.startswith(("experiment=", "name=", "runs_dir="))]
    recipes = {}
    for name, own in config.scenarios.items():
        _refuse_clash(str(name), list(own), given)
        recipe = compose("train", overrides=[*own, *given])
        with open_dict(recipe):
            recipe.name, recipe.runs_dir = str(name), str(Path(config.runs_dir) / config.name)
        check_plain_keys(recipe)
        check_targets(recipe)
        recipes[str(name)] = recipe
    runs, complete = {}, []
    for number, (name, recipe) in enumerate(recipes.items(), start=1):
        if is_main_process():
            console.print(f"Scenario {number} of {len(recipes)}: {name}")
        runs[name], is_complete = _train_one(recipe, [*config.scenarios[name], *given], console)
        complete.append(is_complete)
    if all(complete):
        page = write_comparison(Path(config.runs_dir) / config.name, list(runs))
        say_comparison(runs, page, console)


def _refuse_clash(scenario: str, own: Sequence[str], given: Sequence[str]) -> None:
    """A scenario is defined by its own keys; changing one of them for all would make its name a lie."""
    decided = set(DEFINING_KEYS) | {word.split("=")[0] for word in own}
    changed = [word for word in given if word.split("=")[0].lstrip("+~") in decided]
    if changed:
        raise ConfigError(
            f"{' '.join(changed)} would change what the scenario {scenario} is; give it to that scenario alone: "
            f"{' '.join([*own, *changed])}"
        )


def _validation_dice(run: Run) -> float:
    folds = [read_json(path) for path in run.folder.glob("fold_*/fold.json")]
    return sum(fold["best_val_dice"] for fold in folds) / len(folds)


def _refuse_sweep_of_distributed(config: DictConfig) -> None:
    """Helping processes run the whole sweep again, and all hang when one job fails; Slurm starts them for each job."""
    hydra, trainer = HydraConfig.get(), config.trainer
    devices, num_nodes = trainer.get("devices", 1), int(trainer.get("num_nodes", 1))
    is_one = str(devices) == "1" or (OmegaConf.is_list(devices) and len(devices) == 1)
    launcher = str(hydra.launcher.get("_target_", ""))
    if hydra.mode == RunMode.MULTIRUN and (not is_one or num_nodes > 1) and not launcher.endswith(".SlurmLauncher"):
        raise ConfigError(
            f"--multirun with trainer.devices={devices} would run several distributed trainings in one process, which "
            "hangs when one of them fails; use trainer.devices=1, or hydra/launcher=slurm, which starts the processes "
            "of each run"
        )


@contextmanager
def _log_kept_in(folder: Path) -> Iterator[None]:
    """Send what the libraries say, warnings included, to ``log.txt`` and keep the terminal for our own lines."""
    handler = logging.FileHandler(folder / "log.txt", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    names = ("mpi_unet", "pytorch_lightning", "lightning.pytorch", "lightning.fabric", "py.warnings")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            yield
        finally:
            logging.captureWarnings(False)
            for logger, (handlers, propagate) in zip(loggers, before, strict=True):
                logger.handlers, logger.propagate = handlers, propagate
            handler.close()
