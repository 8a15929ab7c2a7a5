"""``python -m mpi_unet.prepare source=<name> input=<...> output=<cohort>``: something out there in, a cohort out."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from mpi_unet.config import check_missing, check_targets, config_dir, options
from mpi_unet.doors import door, one_message
from mpi_unet.errors import ConfigError


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="prepare")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it and say what became of it."""
    if "source" not in config:
        raise ConfigError(f"source must be given: add source=<name>; names: {', '.join(options('source'))}")
    check_missing(config)
    check_targets(config)
    from hydra.utils import get_method
    from rich.console import Console

    from mpi_unet.config import plain
    from mpi_unet.sources.account import say_account

    arguments = plain(config.source)
    cohort = get_method(arguments.pop("_target_"))(**arguments)
    say_account(cohort, Console(soft_wrap=True))


def main() -> None:
    """Entry of the door."""
    door(task)


if __name__ == "__main__":
    main()
