"""``python -m mpi_unet.predict run=<run> input=<cohort or DICOM folder> output=<folder>``: new studies, segmented."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

import hydra
from omegaconf import DictConfig, OmegaConf

from mpi_unet.config import annotation_name, check_missing, check_targets, config_dir, fits, plain
from mpi_unet.doors import door, one_message
from mpi_unet.errors import ConfigError, PredictionError, listing, nearest
from mpi_unet.inference.dicom_options import DicomOptions
from mpi_unet.inference.options import Options, Shard

if TYPE_CHECKING:
    from mpi_unet.inference.plan import Predictions

OPTION_KEYS = (
    *("allow_other_domain", "measurements", "probabilities", "short_axis"),
    *("runtime", "device", "batch_size", "num_workers"),
)
SECTIONS = {"test_time": ("shift_px", "scale"), "postprocessing": ("component",)}
"""Keys that are attributes of `Options`, as they stand and in sections."""

OTHER_KEYS: dict[str, Any] = {
    **dict.fromkeys(("run", "input", "output"), str | int),
    **dict.fromkeys(("overwrite", "accept_incomplete", "pages"), bool),
    **dict.fromkeys(("shard", "protocol"), str | None),
    "normals": str | list[str] | None,
}


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="predict")
@one_message
def task(config: DictConfig) -> None:
    """Check what is asked for, then do it and say what became of it."""
    if OmegaConf.is_missing(config, "input") and config.serve is not None:
        config.input = ""
    check_missing(config)
    check_targets(config)
    given = plain(config)
    options = checked_options(given)
    dicom = DicomOptions.of(given)
    Shard.of(given["shard"])
    if dicom.serve:
        _serve(given, options, dicom)
        return
    dicom.check_input(str(given["input"]))
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
        dicom=dicom,
        pages=bool(given["pages"]),
        normals=_texts(given["normals"]),
        protocol=str(given["protocol"] or ""),
    )
    console = Console(soft_wrap=True)
    console.print(", ".join(f"{number} {status.replace('_', ' ')}" for status, number in made.counts.items()))
    if made.dicom_counts:
        counts = (f"{number} {status.replace('_', ' ')}" for status, number in made.dicom_counts.items())
        console.print(f"DICOM: {', '.join(counts)}")
    if made.worklist is not None:
        console.print(f"worklist: {made.worklist}")
    console.print(str(made.table))
    if not given["accept_incomplete"] and (problems := _missing(made)):
        raise PredictionError(
            "\n".join(problems) + "\nEverything else is done. Correct these and give the same command again, or end "
            "without an error with accept_incomplete=true"
        )


def main() -> None:
    """Entry of the door."""
    door(task)


def checked_options(given: Mapping[str, Any]) -> Options:
    """The options that the keys of ``predict`` stand for.

    Raises:
        ConfigError: Names every key that is wrong, its value and what was expected.
    """
    values = {key: given[key] for key in OPTION_KEYS}
    problems = []
    for section, known in SECTIONS.items():
        inside = given[section] or {}
        if not isinstance(inside, Mapping):
            problems.append(f"{section} is {inside!r}, expected {', '.join(f'{section}.{key}=...' for key in known)}")
            continue
        problems += [
            f"{section}.{key}: there is no such key{nearest(str(key), known)}" for key in inside if key not in known
        ]
        values |= {f"{section}.{key}": value for key, value in inside.items() if key in known}
    types = get_type_hints(Options)
    kinds = {key: types[key.rpartition(".")[2]] for key in values} | OTHER_KEYS
    problems += [
        f"{key} is {value!r}, expected {annotation_name(kinds[key])}"
        for key, value in (values | {key: given[key] for key in OTHER_KEYS}).items()
        if not fits(value, kinds[key])
    ]
    if problems:
        raise ConfigError(problems[0] if len(problems) == 1 else f"several keys are wrong:\n{listing(problems)}")
    return Options(**{key.rpartition(".")[2]: value for key, value in values.items()})


# --- Private helpers --------------------------------------------------------------------------------------------------


def _serve(given: Mapping[str, Any], options: Options, dicom: DicomOptions) -> None:
    """Work on what is sent to us until told to end."""
    if given["input"] or given["shard"]:
        raise ConfigError("serve= waits for studies that are sent, so there is no input= and no shard=; leave them out")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from rich.console import Console

    from mpi_unet.inference.serving import serve

    console = Console(soft_wrap=True, highlight=False, markup=False)
    serve(
        str(given["run"]),
        str(given["output"]),
        dicom,
        options=options,
        source=given.get("source"),
        normals=_texts(given["normals"]),
        protocol=str(given["protocol"] or ""),
        pages=bool(given["pages"]),
        say=console.print,
    )
    console.print(str(given["output"]))


def _missing(made: Predictions) -> list[str]:
    """What was asked for and is not there, studies and DICOM objects, each with what helps."""
    problems = []
    if made.num_not_segmented:
        hidden = made.num_not_segmented - len(made.not_segmented)
        lines = [*made.not_segmented, *([f"... and {hidden} more"] if hidden else [])]
        problems.append(
            f"{made.num_not_segmented} of what was asked for was not segmented:\n{listing(lines)}\n{made.table} lists "
            "all; studies unlike training are allowed with allow_other_domain=true, or only those that differ in the "
            "way named: allow_other_domain=[counts], for example, for single gates and a network of summed images"
        )
    if made.num_not_sent:
        hidden = made.num_not_sent - len(made.not_sent)
        lines = [*made.not_sent, *([f"... and {hidden} more"] if hidden else [])]
        problems.append(
            f"of {made.num_not_sent} images not all DICOM objects that were asked for are there:\n{listing(lines)}\n"
            f"{made.table.with_name('dicom.csv')} lists all. Leave out of dicom_out what cannot be made; what an "
            "archive refused is sent again by the same command"
        )
    return problems


def _texts(given: Any) -> list[str]:
    """One text, several or none, as a list."""
    return [] if given is None else [str(one) for one in (given if isinstance(given, list) else [given])]


if __name__ == "__main__":
    main()
