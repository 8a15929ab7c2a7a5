"""``python -m mpi_unet.evaluate run=<run>``: score a run's predictions anew and write its report again."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from mpi_unet.config import check_missing, config_dir, door, one_message


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="evaluate")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it."""
    check_missing(config)
    from pathlib import Path

    from rich.console import Console

    from mpi_unet.assessment import assess, cohort_of, say_result
    from mpi_unet.run import Run

    run = Run(Path(str(config.run)))
    run.read_config()
    with run.lock():
        assess(run, cohort_of(run))
    say_result(run, Console(soft_wrap=True))


def main() -> None:
    """Entry of the door."""
    door(task)


if __name__ == "__main__":
    main()
