"""``python -m mpi_unet.export cohort=<cohort> format=<format> output=<folder>``: a cohort for other programs."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from mpi_unet.config import check_missing, config_dir
from mpi_unet.doors import door, one_message
from mpi_unet.errors import ConfigError, nearest

FORMATS = ("datalist", "nnunet")


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="export")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it; the last line is the path of the result."""
    check_missing(config)
    if config.format not in FORMATS:
        raise ConfigError(f"format={config.format}; expected {' or '.join(FORMATS)}{nearest(config.format, FORMATS)}")
    if not config.cohort and not config.run:
        raise ConfigError(
            "cohort must be given: add cohort=<cohort>, or run=<run> for the cohort that it was made with"
        )
    if type(config.dataset_id) is not int:
        raise ConfigError(f"dataset_id={config.dataset_id}; expected a whole number from 1 to 999")
    from pathlib import Path

    from rich.console import Console

    from mpi_unet.cohort.splits import Split
    from mpi_unet.cohort.table import Cohort
    from mpi_unet.sources.datalist import write_datalist
    from mpi_unet.sources.nnunet import write_nnunet

    split, reader = None, config.reader
    cohort = Cohort.open(config.cohort, exclude=list(config.exclude)) if config.cohort else None
    if config.run:
        from mpi_unet.assessment import cohort_of
        from mpi_unet.run import Run

        run = Run(Path(str(config.run)))
        trained_on = run.read_config().data.reader
        cohort = cohort or cohort_of(run)
        split = Split.read(run.splits, cohort.fingerprint(trained_on), cohort)
        reader = reader or trained_on
    assert cohort is not None
    reader = None if reader is None else str(reader)
    if config.format == "datalist":
        result = write_datalist(cohort, str(config.output), reader=reader, split=split)
    else:
        result = write_nnunet(cohort, str(config.output), reader=reader, split=split, dataset_id=config.dataset_id)
    console = Console(soft_wrap=True)
    console.print(f"{len(cohort.cases)} cases of {len(cohort.patients)} patients", markup=False, highlight=False)
    if split is not None and config.format == "nnunet":
        console.print("copy splits_final.json to the data set's folder of nnUNet_preprocessed", markup=False)
    console.print(str(result), markup=False, highlight=False)


def main() -> None:
    """Entry of the door."""
    door(task)


if __name__ == "__main__":
    main()
