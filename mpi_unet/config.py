"""The configuration: where it lives, and what is wrong with it before anything is built.

A *group* is a folder of ``conf/`` whose files are
options of one decision (``loss=dice``). A *target* is a mapping with ``_target_``: the dotted path of what it
configures; its other keys are that thing's arguments. Every key that is not an argument of a target is listed in
``PLAIN_KEYS`` with its type.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mpi_unet.errors import ConfigError, nearest

MISSING_REMEDIES = {
    "data.root": "add data.root=/path/to/data, or data=phantom to use the built-in cohort",
    "data.reader": "add data.reader=<name of a label_<name> column of cases.csv>",
    "run": "add run=<a run folder that train left behind>",
    "input": "add input=<a cohort, or a folder of DICOM files>",
    "output": "add output=<folder to make>",
    "format": "add format=datalist or format=nnunet",
}
"""What to do about a key that only the user can know."""

PLAIN_KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "runs_dir": (str,),
    "overwrite": (bool,),
    "seed": (int,),
    "data.root": (str,),
    "data.reader": (str,),
    "data.exclude": (list,),
    "split.fold": (int, type(None)),
    "split.parallel": (str, type(None)),
    "split.processes": (int, type(None)),
    "split.allow_leakage": (bool,),
    "loader.batch_size": (int,),
    "loader.num_workers": (int,),
    "loader.cache": (str, type(None)),
    "loader.augment_validation": (bool,),
    "trainer.compile": (bool,),
    "prediction.threshold": (float, int),
    "prediction.probabilities": (bool,),
    "prediction.batch_size": (int,),
    "evaluation.tolerance_mm": (float, int, type(None)),
    "scenarios": (dict, type(None)),
}
"""Keys that our own plans read, with the types that they accept; everything else is an argument of a target."""

LEAST_VALUES = {
    "seed": 0,
    "split.processes": 1,
    "loader.batch_size": 1,
    "loader.num_workers": 0,
    "prediction.batch_size": 1,
    "trainer.max_epochs": 1,
}
"""Numbers that cannot be smaller."""

PLAIN_SECTIONS = ("loader", "prediction", "evaluation")
"""Sections that hold plain keys only."""

# Keys beside the arguments of a target, read by the plan that builds it.
_BESIDE_ARGUMENTS = {
    "data": {"reader", "exclude"},
    "split": {"fold", "parallel", "processes", "allow_leakage"},
    "trainer": {"compile"},
}
_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}

WAYS_OF_FOLDS = (None, "stacked", "processes")
"""Values of ``split.parallel``: one fold after another, all in one process, each in a process of its own."""

THRESHOLD_STEP = 0.005
"""Thresholds of the operating curve are this far apart; the frozen one has to be one of them."""


def config_dir() -> Path:
    """Folder of the YAML configs: ``mpi_unet/conf`` once installed, ``conf/`` beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    installed, checkout = package / "conf", package.parent / "conf"
    if installed.is_dir():
        return installed
    # the pyproject tells a checkout from somebody else's site-packages/conf
    if checkout.is_dir() and (package.parent / "pyproject.toml").is_file():
        return checkout
    raise FileNotFoundError(f"mpi_unet ships its configs in {installed}, which is missing; reinstall the package")


def check_missing(config: DictConfig) -> None:
    """Refuse a configuration in which a key that only the user can know is not given.

    Raises:
        ConfigError: Names each such key and what to do.
    """
    stored = OmegaConf.to_container(config)  # not OmegaConf.missing_keys: it trips over ${output} while output is ???
    missing = [key for key, value in _leaves(stored) if value == "???"]
    _raise_all([f"{key} must be given: {MISSING_REMEDIES.get(key, f'add {key}=...')}" for key in missing])


def check_plain_keys(config: DictConfig) -> None:
    """Refuse keys of our own that are missing or have the wrong type, all at once, without importing torch.

    Raises:
        ConfigError: Names each key, the value it has and the type that it needs.
    """
    check_missing(config)
    problems = []
    for key, accepted in PLAIN_KEYS.items():
        value = OmegaConf.select(config, key)
        plain = OmegaConf.to_container(value) if isinstance(value, DictConfig | ListConfig) else value
        if not _is_one_of(plain, accepted):
            problems.append(f"{key} is {plain!r}, expected {_type_names(accepted)}")
    problems += [
        f"{key}={OmegaConf.select(config, key)} is less than {least}"
        for key, least in LEAST_VALUES.items()
        if _is_one_of(OmegaConf.select(config, key), (int,)) and OmegaConf.select(config, key) < least
    ]
    for section in PLAIN_SECTIONS:
        known = [key.removeprefix(f"{section}.") for key in PLAIN_KEYS if key.startswith(f"{section}.")]
        problems += [
            f"{section}.{key}: there is no such key{nearest(str(key), known)}"
            for key in config[section]
            if key not in known
        ]
    for key in ("data", "split"):
        if "_target_" in config[key]:
            problems += target_problems(key, config[key])
    parallel = config.split.get("parallel")
    if parallel not in WAYS_OF_FOLDS:
        problems.append(f"split.parallel is {parallel!r}, expected null, stacked or processes")
    threshold = config.prediction.threshold
    if _is_one_of(threshold, (float, int)) and (
        not 0 < threshold < 1 or abs(threshold * 200 - round(threshold * 200)) > 1e-9
    ):
        problems.append(f"prediction.threshold is {threshold}, expected a multiple of 0.005 between 0 and 1")
    _raise_all(problems)
    check_leakage_options(config)


def check_leakage_options(config: DictConfig) -> None:
    """Refuse a split by images that does not say that it leaks, and the permission without the need.

    Raises:
        ConfigError: Says which of the two keys to change.
    """
    by_image = config.split.get("unit", "patient") == "image"
    if by_image and not config.split.allow_leakage:
        raise ConfigError(
            "split.unit=image puts images of one patient on both sides of the split; its scores are not those of "
            "unseen patients. Use split.unit=patient, or say that you know with split.allow_leakage=true; the report "
            "then says so in its first line"
        )
    if by_image and int(config.model.get("spatial_dims", 2)) == 3:
        raise ConfigError(
            "split.unit=image divides frames, but model.spatial_dims is 3; use a 2-D model or split.unit=patient"
        )
    if config.split.allow_leakage and not by_image:
        raise ConfigError("split.allow_leakage=true goes with split.unit=image only; leave it out")


def check_targets(config: DictConfig) -> None:
    """Refuse arguments that a target does not have or whose type it does not accept, before anything is built.

    Raises:
        ConfigError: Names each argument, its target and the nearest right word or the expected type.
    """
    _raise_all([problem for key, node in targets(config) for problem in target_problems(key, node)])


def targets(config: DictConfig, prefix: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Each mapping with a ``_target_`` below ``config``, with its dotted key."""
    for key, node in config.items():
        if isinstance(node, DictConfig):
            dotted = f"{prefix}{key!s}"
            if "_target_" in node:
                yield dotted, node
            yield from targets(node, f"{dotted}.")


def target_problems(key: str, node: DictConfig) -> list[str]:
    """What is wrong with the arguments of one target: unknown ones, missing ones, wrong types."""
    from hydra.utils import get_object

    path = node["_target_"]
    try:
        target = get_object(path)
        parameters = inspect.signature(target).parameters
    except Exception as error:
        return [f"{key}._target_ is {path!r}, which cannot be imported: {error}"]
    constructor = target.__init__ if inspect.isclass(target) else target
    try:
        annotations = typing.get_type_hints(constructor)
    except (NameError, TypeError):  # names that exist only for type checkers
        annotations = {}
    given = {str(name): node[name] for name in node if name not in _HYDRA_KEYS | _BESIDE_ARGUMENTS.get(key, set())}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    problems = []
    for name, value in given.items():
        if name not in parameters and not takes_any:
            problems.append(f"{key}.{name}: {path} has no argument {name!r}{nearest(name, parameters)}")
        elif isinstance(value, ListConfig) and not path.startswith("mpi_unet."):
            continue  # MONAI takes one value a key in many places whose annotation knows only the single value
        elif name in annotations and not fits(value, annotations[name]):
            problems.append(f"{key}.{name} is {value!r}, expected {annotation_name(annotations[name])}")
    if not node.get("_partial_", False):
        required = (
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        )
        supplied = set(given) | SUPPLIED_BY_THE_PLAN.get(key, set())
        problems += [f"{key}.{name}: {path} needs this argument" for name in required if name not in supplied]
    return problems


SUPPLIED_BY_THE_PLAN: dict[str, set[str]] = {"split": {"cohort", "fingerprint"}}
"""Arguments that a plan hands to a target itself."""


def plain(node: DictConfig) -> dict[str, Any]:
    """A config node as plain dictionaries and lists, interpolations resolved."""
    content = OmegaConf.to_container(node, resolve=True)
    if not isinstance(content, dict):
        raise TypeError(f"{content!r} is no mapping")
    return {str(key): value for key, value in content.items()}


def flat_keys(node: Any, prefix: str = "") -> list[str]:
    """Every dotted key below a config node, mappings and leaves."""
    keys: list[str] = []
    if isinstance(node, DictConfig | Mapping):
        for key in node:
            keys.append(f"{prefix}{key}")
            child = node._get_node(key) if isinstance(node, DictConfig) else node[key]
            keys += flat_keys(child, f"{prefix}{key}.")
    return keys


def options(group: str) -> list[str]:
    """Names of the options of one group, from the files of ``conf/<group>``."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each dotted key below a plain container whose value is no mapping, with the value."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _raise_all(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(
            "; ".join(problems) if len(problems) == 1 else "\n  ".join(["several keys are wrong:", *problems])
        )


def _is_one_of(value: Any, accepted: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in accepted
    return isinstance(value, accepted)


def _type_names(accepted: Sequence[type]) -> str:
    return " or ".join("null" if kind is type(None) else kind.__name__ for kind in accepted)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a YAML value can stand for an annotation; annotations that YAML cannot express are not judged."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(value, DictConfig):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation in (int, bool, str):
        return _is_one_of(value, (annotation,))
    if annotation is Path:
        return isinstance(value, str)
    if annotation is type(None):
        return value is None
    if inspect.isclass(origin) and issubclass(origin, Sequence) and origin is not str:
        if not isinstance(value, list | tuple | ListConfig):
            return False
        return not arguments or all(fits(item, arguments[0]) for item in value)
    return True


def annotation_name(annotation: Any) -> str:
    """A type as an error message names it."""
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation).replace("typing.", "")
