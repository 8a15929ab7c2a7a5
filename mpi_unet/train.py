"""``python -m mpi_unet.train``: a cohort in, a run with its report out."""

from __future__ import annotations

import os

import hydra
from omegaconf import DictConfig

from mpi_unet.config import check_plain_keys, config_dir
from mpi_unet.doors import door, one_message
from mpi_unet.processes import end_with_parent
from mpi_unet.sweeps import sweeping


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")
@one_message
def task(config: DictConfig) -> float | None:
    """Check the configuration, then run it; gives a sweep the Dice on validation patients to choose by."""
    end_with_parent()
    check_plain_keys(config)
    # Threads sleep while they wait: beside other work, spinning ones can slow a small network down many times; alone on
    # the machine, sleeping is slightly slower. OMP_WAIT_POLICY in the environment decides otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from mpi_unet.scenarios import train  # torch and MONAI come in only here

    return train(config)


def main() -> None:
    """Entry of the door."""
    door(sweeping(task))


if __name__ == "__main__":
    main()
