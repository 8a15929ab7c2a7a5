"""Trials: runs whose recipes Optuna proposes (``hydra/sweeper=optuna``).

A *trial* is one run, ``<runs_dir>/<name>/trial_<number>``, with the recipe that Optuna proposed; its *objective* is the
Dice on validation patients, which lie inside the training part of the split. Held-out patients never take part in the
choice. Proposals and objectives stand in a database beside the runs, so the same command goes on after an interruption:
a trial that was under way is continued, not proposed anew.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from mpi_unet.errors import BusyError, ConfigError, TrainingError
from mpi_unet.files import sha256, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna

__all__ = ["OptunaSweeper", "distribution", "trial_name"]

OBJECTIVE = "validation Dice"
TABLE = "trials.csv"


class OptunaSweeper(Sweeper):
    """Runs trials until there are ``n_trials`` of them.

    The arguments have the names that Hydra's own plugin for Optuna gives them (docs/adr/0008).

    Args:
        n_trials: Trials in all, finished and failed, whichever command ran them.
        n_jobs: Trials that are proposed and launched together.
        storage: Where Optuna keeps what it knows, a URL of SQLAlchemy.
        sampler: ``_target_`` and arguments of an Optuna sampler.
        params: Key to sweep, in Hydra's grammar; those of the command line come on top.
    """

    __module__ = "hydra_plugins.mpi_unet"  # Hydra takes plugins by no other name, wherever they live

    def __init__(
        self, *, n_trials: int, n_jobs: int, storage: str, sampler: Mapping[str, Any], params: Mapping[str, Any]
    ) -> None:
        if n_trials < 1 or n_jobs < 1:
            raise ConfigError(
                f"hydra.sweeper.n_trials is {n_trials} and hydra.sweeper.n_jobs is {n_jobs}; both must be 1 or more"
            )
        self.n_trials, self.n_jobs, self.storage, self.sampler, self.params = n_trials, n_jobs, storage, sampler, params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to every sweeper."""
        from hydra.core.plugins import Plugins

        self.study_name, self.folder = str(config.name), Path(config.runs_dir) / config.name
        self.launch = (
            Plugins.instance()
            .instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)
            .launch
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials that are missing, then write ``trials.csv`` and say which trial is the best.

        Args:
            arguments: The command's overrides; those that are sweeps become the search space.

        Raises:
            ConfigError: The search space is empty or cannot be searched, or Optuna is not installed.
            BusyError: Another process is at this search.
        """
        try:
            import optuna
        except ImportError:
            raise ConfigError(
                "hydra/sweeper=optuna needs optuna, which is not installed: pip install 'mpi-unet[sweep]'"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        fixed, space = self._divided(arguments)
        self.folder.mkdir(parents=True, exist_ok=True)
        with _alone(self.folder):
            study = optuna.create_study(
                storage=self.storage, study_name=self.study_name, direction="maximize", load_if_exists=True
            )
            waiting = [trial.number for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING])]
            while True:
                left = self.n_trials - len(study.get_trials(deepcopy=False))
                batch = waiting[: self.n_jobs] or [self._proposed(study, space) for _ in range(min(left, self.n_jobs))]
                waiting = waiting[self.n_jobs :]
                if not batch:
                    break
                self._run(study, batch, fixed)
            return self._told(study)

    def _divided(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, Override]]:
        """The overrides that all trials share, and those that make the search space."""
        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = OverridesParser.create().parse_overrides(words)
        space = {one.get_key_element(): one for one in overrides if one.is_sweep_override()}
        fixed = [str(one.input_line) for one in overrides if not one.is_sweep_override()]
        fixed = [word for word in fixed if word.split("=")[0] != "name"]
        if not space:
            raise ConfigError(
                "hydra/sweeper=optuna has nothing to search; add a range such as "
                "'optimizer.lr=tag(log,interval(1e-4,1e-2))' or loss=dice,cross_entropy"
            )
        return fixed, space

    def _proposed(self, study: optuna.Study, space: Mapping[str, Override]) -> int:
        """Let Optuna propose one trial; its seed is its number, so that an interruption changes no proposal."""
        from hydra.utils import instantiate

        settings = OmegaConf.to_container(OmegaConf.create(dict(self.sampler)), resolve=True)
        assert isinstance(settings, dict)
        if settings.get("seed") is not None:
            number = len(study.get_trials(deepcopy=False))
            settings["seed"] = int(sha256(f"{settings['seed']} {number}")[:8], 16)
        study.sampler = instantiate(settings)
        return study.ask({key: distribution(one) for key, one in space.items()}).number

    def _run(self, study: optuna.Study, batch: Sequence[int], fixed: Sequence[str]) -> None:
        """Launch some trials and tell Optuna what they reached."""
        from optuna.trial import TrialState

        trials = [study.trials[number] for number in batch]
        words = [
            [*fixed, *(f"{key}={value}" for key, value in one.params.items()), f"name={self._name(one.number)}"]
            for one in trials
        ]
        named = "hydra.job.config.override_dirname.exclude_keys"  # the trial's name says it all
        words = [[*job, f"{named}=[{','.join(word.split('=')[0] for word in job)}]"] for job in words]
        for trial, answer in zip(trials, self.launch(words, initial_job_idx=batch[0]), strict=True):
            if failure := _training_error(answer):
                study.set_user_attr(f"failure of {trial_name(trial.number)}", failure)
                study.tell(trial.number, state=TrialState.FAIL)
            elif answer.return_value is None:  # raises what went wrong otherwise, and leaves the trial to be continued
                raise ConfigError(
                    f"{trial_name(trial.number)} has no {OBJECTIVE}: a search needs all folds of a single recipe; "
                    "leave out split.fold and scenarios"
                )
            else:
                study.tell(trial.number, float(answer.return_value))

    def _name(self, number: int) -> str:
        return f"{self.study_name}/{trial_name(number)}"

    def _told(self, study: optuna.Study) -> float:
        """Write the table, say which trial is the best, and give its objective."""
        from optuna.trial import TrialState
        from rich.console import Console

        console = Console(soft_wrap=True, highlight=False)
        trials = study.get_trials(deepcopy=False)
        keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["trial", "state", "val_dice", *keys])
        table.writerows(
            [trial_name(one.number), one.state.name.lower(), one.value, *(one.params.get(key, "") for key in keys)]
            for one in trials
        )
        write_text(self.folder / TABLE, text.getvalue())
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if not done:
            raise TrainingError(
                f"none of the {len(trials)} trials in {self.folder} could be trained; {TABLE} there says what they "
                "were; narrow the ranges, above all that of the learning rate"
            )
        best = study.best_trial
        console.print(
            f"{len(done)} of {len(trials)} trials finished; best {OBJECTIVE} {best.value:.3f}: "
            f"{trial_name(best.number)} ({', '.join(f'{key}={value}' for key, value in best.params.items())})"
        )
        console.print(
            f"The {OBJECTIVE} chose this trial and is too good for it; its held-out patients are in the report:"
        )
        console.print(str(self.folder / trial_name(best.number) / "report.html"))
        return float(study.best_value)


def trial_name(number: int) -> str:
    """Folder of a trial.

    Example:
        >>> trial_name(7)
        'trial_007'
    """
    return f"trial_{number:03d}"


def distribution(override: Override) -> optuna.distributions.BaseDistribution:
    """What Optuna may propose for a key, from its sweep in Hydra's grammar.

    Raises:
        ConfigError: The sweep is no range that can be searched.

    Example:
        >>> parser = OverridesParser.create()
        >>> distribution(parser.parse_override("optimizer.lr=tag(log,interval(0.0001,0.01))"))
        FloatDistribution(high=0.01, log=True, low=0.0001, step=None)
        >>> distribution(parser.parse_override("loader.batch_size=range(8,33,8)"))
        IntDistribution(high=32, log=False, low=8, step=8)
        >>> distribution(parser.parse_override("loss=dice,cross_entropy"))
        CategoricalDistribution(choices=('dice', 'cross_entropy'))
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    key, sweep = override.get_key_element(), override.value()
    try:
        if isinstance(sweep, ChoiceSweep):
            return CategoricalDistribution(list(override.sweep_string_iterator()))
        if isinstance(sweep, IntervalSweep) and sweep.start is not None and sweep.end is not None:
            log = "log" in sweep.tags
            if isinstance(sweep.start, int) and isinstance(sweep.end, int):
                return IntDistribution(sweep.start, sweep.end, log=log)
            return FloatDistribution(float(sweep.start), float(sweep.end), log=log)
        if isinstance(sweep, RangeSweep) and sweep.start is not None and sweep.stop is not None:
            values = [float(value) for value in sweep.range()]
            if all(isinstance(part, int) for part in (sweep.start, sweep.stop, sweep.step)):
                return IntDistribution(int(values[0]), int(values[-1]), step=int(sweep.step))
            return FloatDistribution(values[0], values[-1], step=float(sweep.step))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{override.input_line} cannot be searched: {error}") from error
    raise ConfigError(
        f"{override.input_line} cannot be searched; a search takes {key}=a,b, {key}=interval(low,high), "
        f"{key}=tag(log,interval(low,high)) or {key}=range(first,last,step)"
    )


def _training_error(answer: JobReturn) -> str:
    """What stopped a training that this recipe cannot do; empty when it went well or failed for another reason."""
    failed = answer.status == JobStatus.FAILED and isinstance(answer._return_value, TrainingError)
    return str(answer._return_value) if failed else ""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second command out of a search.

    Raises:
        BusyError: There is one.
    """
    import fcntl

    with (folder / ".search.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{folder} is being searched by another process; wait for it, or give this search another name=..."
            ) from None
        yield
