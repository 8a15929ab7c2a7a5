"""``python -m mpi_unet.evaluate``: what a segmentation is worth, how readers agree, how many patients that takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from mpi_unet.config import config_dir
from mpi_unet.doors import door, one_message

if TYPE_CHECKING:
    from rich.console import Console


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="evaluate")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it and say where the result is."""
    from mpi_unet.reader_study.request import check_request

    mode = check_request(config)
    from rich.console import Console

    console = Console(soft_wrap=True)
    if mode == "run":
        _run(config, console)
    elif mode == "runs":
        _runs(config, console)
    elif mode == "plan":
        _plan(config, console)
    else:
        _compare(config, mode, console)


def main() -> None:
    """Entry of the door."""
    door(task)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _run(config: DictConfig, console: Console) -> None:
    from mpi_unet.assessment import assess, cohort_of
    from mpi_unet.reader_study.request import options_of
    from mpi_unet.run import Run
    from mpi_unet.saying import say_result

    run = Run(Path(config.run))
    run.read_config()
    with run.lock():
        assess(run, cohort_of(run), options_of(config))
    say_result(run, console)


def _runs(config: DictConfig, console: Console) -> None:
    from mpi_unet.reader_study.recipe_words import say_recipes
    from mpi_unet.reader_study.recipes import compare_runs
    from mpi_unet.report.recipes import write_recipes_report

    output = Path(config.output)
    document = compare_runs(
        config.runs if isinstance(config.runs, str) else list(config.runs),
        output,
        metric=config.metric,
        against=config.against,
        alpha=float(config.alpha_one_sided),
        seed=config.bootstrap.seed,
        resamples=config.bootstrap.draws,
    )
    say_recipes(document, console)
    console.print(str(write_recipes_report(output)))


def _plan(config: DictConfig, console: Console) -> None:
    from mpi_unet.config import plain
    from mpi_unet.reader_study.plan import pilot_spread, plan_study, say_plan

    given = plain(config)
    sd, pilot_patients = given["sd"], None
    if config.pilot is not None:
        sd, pilot_patients = pilot_spread(config.pilot)
    made, path = plan_study(
        margin=float(config.margin),
        sd=sd,
        pilot_patients=pilot_patients,
        output=None if config.output is None else Path(config.output),
        alpha=float(config.alpha_one_sided),
        true_delta=given["true_delta"],
        power=given["power"],
        num_readers=config.num_readers,
        reader_sd=config.reader_sd,
        failure_share=float(config.failure_share),
    )
    say_plan(made, console)
    if path is not None:
        console.print(str(path))


def _compare(config: DictConfig, mode: str, console: Console) -> None:
    from mpi_unet.cohort.table import Cohort
    from mpi_unet.reader_study.masks import compare_masks, compare_readers
    from mpi_unet.reader_study.request import options_of

    cohort = Cohort.open(config.cohort, exclude=list(config.exclude))
    options, output = options_of(config), Path(config.output)
    if mode == "readers_only":
        document, report = compare_readers(cohort, output, options)
    else:
        document, report = compare_masks(
            cohort,
            config.predictions,
            output,
            options,
            name=config.network,
            trained_on=list(config.trained_on),
            probabilities=config.probabilities,
            allow_missing=config.allow_missing,
        )
    left_out = len(document["cohort"]["left_out"])
    if left_out:
        console.print(f"{left_out} of {document['cohort']['n_cases']} cases lack a mask; the report names them")
    console.print(document["conclusion"]["text"], highlight=False)
    console.print(str(report))


if __name__ == "__main__":
    main()
