"""``python -m mpi_unet.prepare source=<name> input=<...> output=<cohort>``: something out there in, a cohort out.

With ``normals=<cohort>`` instead of a source: normal databases out.
"""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from mpi_unet.config import annotation_name, check_missing, check_targets, config_dir, fits, options, plain
from mpi_unet.doors import door, one_message
from mpi_unet.errors import ConfigError, listing


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="prepare")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it and say what became of it."""
    if "source" not in config and config.normals is None:
        raise ConfigError(
            f"source must be given: add source=<name>; names: {', '.join(options('source'))}; or normals=<cohort>"
        )
    if "source" in config and config.normals is not None:
        raise ConfigError("source= makes a cohort and normals= normal databases; give one of them, one after the other")
    check_missing(config)
    check_targets(config)
    if config.normals is not None:
        _make_normals(config)
        return
    from hydra.utils import get_method
    from rich.console import Console

    from mpi_unet.sources.account import say_account

    arguments = plain(config.source)
    cohort = get_method(arguments.pop("_target_"))(**arguments)
    say_account(cohort, Console(soft_wrap=True))


def main() -> None:
    """Entry of the door."""
    door(task)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _make_normals(config: DictConfig) -> None:
    """Build normal databases, and say from how many patients and who was left out."""
    given = plain(config)
    wrong = [
        f"{key} is {given[key]!r}, expected {annotation_name(kind)}"
        for key, kind in (
            ("protocol", str | None),
            ("predictions", str | None),
            ("reader", str | None),
            ("mix_sexes", bool),
        )
        if not fits(given[key], kind)
    ]
    if not isinstance(given["only"] or {}, dict):
        wrong.append(f"only is {given['only']!r}, expected columns and their values such as {{defect: 'no'}}")
    if wrong:
        raise ConfigError(f"normal databases cannot be built as asked:\n{listing(wrong)}")
    from rich.console import Console

    from mpi_unet.inference.own_normals import make_normals

    made = make_normals(
        str(given["normals"]),
        str(given["output"]),
        protocol=given["protocol"] or "",
        predictions=given["predictions"],
        reader=given["reader"],
        only={str(column): str(value) for column, value in (given["only"] or {}).items()},
        mix_sexes=given["mix_sexes"],
    )
    console = Console(soft_wrap=True)
    for reason, number in made.left_out.items():
        console.print(f"{number} left out: {reason}", markup=False)
    for path, number in made.files:
        console.print(f"{number} normals: {path}", markup=False)


if __name__ == "__main__":
    main()
