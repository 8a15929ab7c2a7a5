"""``python -m mpi_unet.evaluate run=<run>``: score a run's predictions anew and write its report again."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from mpi_unet.config import config_dir, door, one_message


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="evaluate")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it."""
    from pathlib import Path

    from rich.console import Console

    from mpi_unet.assessment import assess, open_cohort, say_result
    from mpi_unet.run import Run

    run = Run(Path(config.run))
    assess(run, open_cohort(run.read_config().data))
    say_result(run, Console(soft_wrap=True))


def main() -> None:
    """Entry of the door."""
    door(task)


if __name__ == "__main__":
    main()
