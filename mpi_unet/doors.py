"""How a door answers: exit statuses, one message instead of a traceback, and the nearest right word for a wrong one.

A *door* is one of the commands (``python -m mpi_unet.train``), each a Hydra app of the same form.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mpi_unet.config import config_dir, flat_keys, options
from mpi_unet.errors import MpiUnetError, nearest

EXIT_FAULT, EXIT_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def door(task: Callable[[], Any]) -> NoReturn:
    """Run a Hydra task and leave with the exit status that DESIGN promises.

    0 when everything asked for was done, 2 for a wrong config or input (its message alone), 130 when interrupted, and 1
    with a traceback for a fault of ours.
    """
    from hydra.errors import HydraException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing and leaving with 1
    try:
        task()
        if _kept_error:
            raise _kept_error.pop()
    except KeyboardInterrupt:
        _say("\nInterrupted. What was written is whole; give the same command again and it goes on from there.")
        sys.exit(EXIT_INTERRUPTED)
    except MpiUnetError as error:
        _say(f"{type(error).__name__}: {error}")
        sys.exit(EXIT_INPUT)
    except (HydraException, OmegaConfBaseException) as error:
        _say(f"ConfigError: {explained(error)}")
        sys.exit(EXIT_INPUT)
    sys.exit(0)


def one_message(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Keep an error that the user can remedy for :func:`door`, so that Hydra does not announce it as a crash.

    In a multirun it is raised on, because there the launcher has to know which job failed.
    """

    @functools.wraps(task)
    def guarded(config: DictConfig) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        try:
            return task(config)
        except (MpiUnetError, KeyboardInterrupt) as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            _kept_error.append(error)
            return None

    return guarded


_kept_error: list[BaseException] = []


def explained(error: Exception) -> str:
    """Hydra's complaint in our words, with the nearest right word."""
    text = str(error)
    if type(error).__name__ == "OverrideParseException":
        key, _, value = str(getattr(error, "override", "")).partition("=")
        quoted = value.replace('"', "") or "..."
        return (
            f"{key}={value} cannot be read: a text with brackets, braces, commas, colons or = needs quotes of its own "
            f"within those of the shell, '{key}=\"{quoted}\"'; a list is {key}=[a,b]"
        )
    missing = getattr(error, "missing_cfg_file", None)
    if missing:
        group, _, option = str(missing).rpartition("/")
        known = getattr(error, "options", None) or options(group)
        return (
            f"{group}={option}: there is no such option{nearest(option, known)} Options of {group}: {', '.join(known)}"
        )
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = unknown.group(1).split("@")[0]
        return f"{key}: there is no such key{_nearest_key(key)} --help lists the keys, +{key}=... adds a new one"
    lacking = re.search(r"Missing mandatory value: (\S+)", text)
    if lacking:
        return f"{lacking.group(1)} must be given: add {lacking.group(1)}=... to the command"
    return text.split("\n    full_key")[0]


def _nearest_key(key: str) -> str:
    """Nearest group or key of the composed config, compared on the whole dotted name and on its last part."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    groups = [path.name for path in config_dir().iterdir() if path.is_dir()]
    chosen = [word for word in sys.argv[1:] if re.fullmatch(r"(\w+)=[\w/]+", word) and word.split("=")[0] in groups]
    known = list(groups)
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            known += flat_keys(compose(_door_name(), overrides=chosen))
    except HydraException:  # a group choice is itself wrong or the user's own: the groups alone still help
        known = list(groups)
    same_leaf = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or same_leaf[:1]
    return f"; did you mean {close[0]!r}?" if close else "."


def _door_name() -> str:
    return Path(sys.argv[0]).stem if (config_dir() / f"{Path(sys.argv[0]).stem}.yaml").is_file() else "train"


def _say(text: str) -> None:
    sys.stderr.write(text.rstrip() + "\n")
