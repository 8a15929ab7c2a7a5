"""``python -m mpi_unet.predict run=<run> input=<cohort or DICOM folder> output=<folder>``: new studies, segmented."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, get_type_hints

import hydra
from omegaconf import DictConfig

from mpi_unet.config import annotation_name, check_missing, check_targets, config_dir, fits, plain
from mpi_unet.doors import door, one_message
from mpi_unet.errors import ConfigError, PredictionError, listing, nearest
from mpi_unet.inference.options import Options, Shard


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="predict")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it and say what became of it."""
    check_missing(config)
    check_targets(config)
    given = plain(config)
    options = _checked(given)
    Shard.of(given["shard"])
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in train: threads that spin slow each other down
    from rich.console import Console

    from mpi_unet.inference import predict  # torch and MONAI come in only here

    made = predict(
        str(given["run"]),
        str(given["input"]),
        str(given["output"]),
        source=given.get("source"),
        shard=given["shard"],
        overwrite=bool(given["overwrite"]),
        progress=True,
        options=options,
    )
    console = Console(soft_wrap=True)
    console.print(", ".join(f"{number} {status.replace('_', ' ')}" for status, number in made.counts.items()))
    console.print(str(made.table))
    if made.num_not_segmented and not given["accept_incomplete"]:
        hidden = made.num_not_segmented - len(made.not_segmented)
        lines = [*made.not_segmented, *([f"... and {hidden} more"] if hidden else [])]
        raise PredictionError(
            f"{made.num_not_segmented} of what was asked for was not segmented:\n{listing(lines)}\nEverything else is "
            f"done; {made.table} lists all. Correct these studies and give the same command again, "
            "allow studies unlike training with allow_other_domain=true, or end without an error with "
            "accept_incomplete=true"
        )


def main() -> None:
    """Entry of the door."""
    door(task)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _checked(given: Mapping[str, Any]) -> Options:
    """The options that the keys stand for, all wrong ones named at once."""
    test_time, postprocessing = given["test_time"] or {}, given["postprocessing"] or {}
    problems = [
        f"{section}.{key}: there is no such key{nearest(str(key), known)}"
        for section, keys, known in (
            ("test_time", test_time, ("shift_px", "scale")),
            ("postprocessing", postprocessing, ("component",)),
        )
        for key in keys
        if key not in known
    ]
    values = {key: given[key] for key in ("measurements", "probabilities", "batch_size", "runtime", "device")}
    values |= {"allow_other_domain": given["allow_other_domain"], **test_time, **postprocessing}
    types = get_type_hints(Options)
    problems += [
        f"{key} is {value!r}, expected {annotation_name(types[key])}"
        for key, value in values.items()
        if key in types and not fits(value, types[key])
    ]
    problems += [
        f"{key} is {given[key]!r}, expected {annotation_name(kind)}"
        for key, kind in (("overwrite", bool), ("accept_incomplete", bool), ("shard", str | None))
        if not fits(given[key], kind)
    ]
    if problems:
        raise ConfigError(problems[0] if len(problems) == 1 else f"several keys are wrong:\n{listing(problems)}")
    return Options(**values)


if __name__ == "__main__":
    main()
