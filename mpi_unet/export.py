"""``python -m mpi_unet.export run=<run> format=<format> output=<folder>``: a model or a cohort for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from mpi_unet.config import annotation_name, check_missing, config_dir, fits, plain
from mpi_unet.doors import door, one_message
from mpi_unet.errors import ConfigError, listing, nearest

if TYPE_CHECKING:
    from mpi_unet.cohort.fold import Split
    from mpi_unet.cohort.table import Cohort

MODEL_FORMATS = {"bundle": ("component", "license", "version"), "onnx": ()}
"""What is written of a run, and the keys that only this format knows."""

COHORT_FORMATS = {
    "datalist": ("cohort", "reader", "exclude"),
    "itksnap": ("cohort", "exclude", "predictions"),
    "nnunet": ("cohort", "reader", "exclude", "dataset_id"),
    "slicer": ("cohort", "exclude", "predictions"),
}
"""What is written of a cohort, and the same."""

DEFAULTS: dict[str, tuple[Any, Any]] = {
    "cohort": (str | int | None, None),
    "reader": (str | int | None, None),
    "exclude": (list[str], []),
    "dataset_id": (int, 501),
    "predictions": (str | None, None),
    "component": (str, "none"),
    "license": (str | None, None),
    "version": (str, "1.0.0"),
}
"""Keys that not every format has: what they hold, and by default."""


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="export")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it; the last line is the path of the result."""
    check_missing(config)
    given = plain(config)
    _check(given)
    from rich.console import Console

    console = Console(soft_wrap=True, markup=False, highlight=False)
    output = str(given["output"])
    if given["format"] == "bundle":
        from mpi_unet.exporting.bundle import write_bundle

        options = {key: given[key] for key in MODEL_FORMATS["bundle"]}
        result = write_bundle(str(given["run"]), output, **options)
        console.print(f"MONAI ran it once and gave the masks of predict; model card: {result / 'docs' / 'README.md'}")
    elif given["format"] == "onnx":
        from mpi_unet.exporting.onnx import write_onnx

        result = write_onnx(str(given["run"]), output)
        console.print(f"ONNX Runtime gave the probabilities of torch; model card: {result / 'README.md'}")
    else:
        cohort, result = _write_cohort(given, output)
        console.print(f"{len(cohort.cases)} cases of {len(cohort.patients)} patients")
        if given["run"] and given["format"] == "nnunet":
            console.print("copy splits_final.json to the data set's folder of nnUNet_preprocessed")
    console.print(str(result))


def main() -> None:
    """Entry of the door."""
    door(task)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _check(given: Mapping[str, Any]) -> None:
    """Refuse a format that does not exist, keys of other formats, and the absence of what is exported.

    Raises:
        ConfigError: Naming every key that is wrong.
    """
    formats = {**MODEL_FORMATS, **COHORT_FORMATS}
    chosen = str(given["format"])
    if chosen not in formats:
        raise ConfigError(f"format={chosen}; expected {' | '.join(formats)}{nearest(chosen, formats)}")
    problems = [
        f"{key} is {given[key]!r}, expected {annotation_name(kind)}"
        for key, (kind, _) in DEFAULTS.items()
        if not fits(given[key], kind)
    ]
    problems += [
        f"{key}={given[key]} means nothing for format={chosen}; it is for "
        + " and ".join(name for name, keys in formats.items() if key in keys)
        for key, (_, default) in DEFAULTS.items()
        if given[key] != default and key not in formats[chosen]
    ]
    if chosen in MODEL_FORMATS and not given["run"]:
        problems.append(f"run must be given for format={chosen}: add run=<run>, the folder that train printed")
    if chosen in COHORT_FORMATS and not given["cohort"] and not given["run"]:
        problems.append("cohort must be given: add cohort=<cohort>, or run=<run> for the cohort that it was made with")
    if problems:
        raise ConfigError(
            problems[0] if len(problems) == 1 else f"several keys are wrong:\n{listing(problems)}\nCorrect them"
        )


def _write_cohort(given: Mapping[str, Any], output: str) -> tuple[Cohort, Path]:
    """A cohort in another program's form; of a run, with its folds where the form knows them."""
    from mpi_unet.cohort.table import Cohort
    from mpi_unet.sources.datalist import write_datalist
    from mpi_unet.sources.nnunet import write_nnunet
    from mpi_unet.sources.viewers import write_itksnap, write_slicer

    cohort = Cohort.open(str(given["cohort"]), exclude=given["exclude"]) if given["cohort"] else None
    split, reader = None, None if given["reader"] is None else str(given["reader"])
    predictions = given["predictions"]
    if given["run"]:
        cohort, split, trained_on, own = _of_run(str(given["run"]), cohort)
        reader, predictions = reader or trained_on, predictions or own
    assert cohort is not None
    if given["format"] == "datalist":
        return cohort, write_datalist(cohort, output, reader=reader, split=split)
    if given["format"] == "nnunet":
        return cohort, write_nnunet(cohort, output, reader=reader, split=split, dataset_id=given["dataset_id"])
    write = write_slicer if given["format"] == "slicer" else write_itksnap
    return cohort, write(cohort, output, predictions=predictions)


def _of_run(folder: str, cohort: Cohort | None) -> tuple[Cohort, Split, str, str]:
    """The cohort of a run, its folds, the reader whom it learnt from, and the folder of its out-of-fold masks."""
    from mpi_unet.assessment import cohort_of
    from mpi_unet.cohort.fold import Split
    from mpi_unet.run import Run

    run = Run(Path(folder))
    trained_on = str(run.read_config().data.reader)
    cohort = cohort or cohort_of(run)
    split = Split.read(run.splits, cohort.fingerprint(trained_on), cohort)
    return cohort, split, trained_on, str(run.folder / "predictions")


if __name__ == "__main__":
    main()
