"""The doors as functions: the words of the command line in, what the door leaves behind out.

``train("experiment=quickstart")`` does what ``python -m mpi_unet.train experiment=quickstart`` does, in this process:
it goes on where it was stopped, says how far it is, and raises what the door would print. What Python already holds is
given as a mapping, and needs no quotes: ``train("data=cohort", {"data.root": cohort, "data.reader": "A"})``.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mpi_unet.config import config_dir
from mpi_unet.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mpi_unet.api.evaluation import Evaluation
    from mpi_unet.api.prediction import Prediction
    from mpi_unet.api.run import Run
    from mpi_unet.cohort.table import Cohort

__all__ = ["Word", "evaluate", "predict", "prepare", "train", "word_of"]

Word: TypeAlias = str | Mapping[str, Any]
"""An override as it is typed after a command, or keys and their values."""

PLAIN_WORD = re.compile(r"[A-Za-z_./][A-Za-z0-9_./@+-]*")
"""Texts that Hydra reads as they are, unless they are one of its words."""

WRAPPED = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;line-height:1.4;"
"""How a notebook breaks the lines that a door says."""

HYDRA_WORDS = {"true", "false", "null", "nan", "inf"}


def prepare(*words: Word) -> Cohort:
    """Make a cohort of something else: NIfTI, DICOM, outlines, the phantom, ...

    Args:
        words: As after ``python -m mpi_unet.prepare``.

    Returns:
        The cohort, opened.

    Raises:
        MpiUnetError: What the door would say.
        ConfigError: ``normals=`` makes no cohort; give it to the command.
    """
    from mpi_unet.cohort.table import Cohort

    with _composed("prepare", words) as config:
        if config.normals is not None:
            raise ConfigError("normals= makes normal databases and no cohort; use python -m mpi_unet.prepare for it")
        _open_door("prepare", config)
        return Cohort.open(str(config.output))


def train(*words: Word) -> Run:
    """Train, cross-validate, score and report; a run that is finished is opened, one that was stopped goes on.

    Args:
        words: As after ``python -m mpi_unet.train``.

    Returns:
        The run.

    Raises:
        MpiUnetError: What the door would say.
        ConfigError: The experiment is several runs; give it to the command, and open them one by one.
    """
    from mpi_unet.api.run import Run

    with _composed("train", words) as config:
        if config.scenarios:
            raise ConfigError(
                f"{config.name} is {len(config.scenarios)} runs that are compared ({', '.join(config.scenarios)}); "
                "give it to python -m mpi_unet.train, then open each: "
                f"Run.open('{config.runs_dir}/{config.name}/<name>')"
            )
        _open_door("train", config)
        return Run.open(Path(config.runs_dir) / config.name)


def predict(run: Run | str | Path, input: Cohort | str | Path, output: str | Path, *words: Word) -> Prediction:
    """Segment and measure studies that nobody outlined; goes on where it was stopped.

    Args:
        run: A run, or its folder.
        input: A cohort, or a folder of DICOM files.
        output: Folder for masks, tables and pages.
        words: Further ones, as after ``python -m mpi_unet.predict``.

    Returns:
        What became of the studies.

    Raises:
        MpiUnetError: What the door would say; with ``accept_incomplete=true`` studies that were refused raise nothing.
    """
    from mpi_unet.api.prediction import Prediction

    given = {"run": run, "input": input, "output": output}
    with _composed("predict", (given, *words)) as config:
        _open_door("predict", config)
    return Prediction(Path(output))


def evaluate(*words: Word) -> Evaluation:
    """Score masks against readers, and readers against one another.

    Args:
        words: As after ``python -m mpi_unet.evaluate``: ``run=`` or ``cohort=`` with ``predictions=`` or
            ``readers=only``.

    Returns:
        The evaluation; of a run it lies in the folder of the run.

    Raises:
        MpiUnetError: What the door would say.
        ConfigError: ``plan=`` and ``runs=`` leave no evaluation; ``mpi_unet.agreement`` has functions for them.
    """
    from mpi_unet.api.evaluation import Evaluation

    with _composed("evaluate", words) as config:
        for key, function in (("plan", "plan"), ("runs", "compare_recipes")):
            if config[key]:
                raise ConfigError(
                    f"{key}= makes a table and no evaluation; call mpi_unet.agreement.{function}(...), or give it to "
                    "python -m mpi_unet.evaluate"
                )
        _open_door("evaluate", config)
        return Evaluation(Path(str(config.run or config.output)))


def word_of(key: str, value: Any) -> str:
    r"""A key and a Python value as one word of the command line, quoted where Hydra needs it.

    Args:
        key: Dotted key.
        value: Text, number, truth value, None, path, list or mapping of these, or something opened from a folder.

    Raises:
        ConfigError: The value is nothing that a command line can say.

    Example:
        >>> word_of("data.reader", "A"), word_of("split.fold", None), word_of("data.exclude", ["P1", "0017"])
        ('data.reader=A', 'split.fold=null', 'data.exclude=[P1,"0017"]')
        >>> word_of("source.image_pattern", r"(?P<patient>P\d+)\.nii")
        'source.image_pattern="(?P<patient>P\\d+)\\.nii"'
    """
    return f"{key}={_written(value, key)}"


# --- Private helpers --------------------------------------------------------------------------------------------------


@contextmanager
def _composed(door: str, words: tuple[Word, ...]) -> Iterator[DictConfig]:
    """The configuration of a door, with Hydra set up as it would be behind the command line."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException

    from mpi_unet.doors import explained

    spoken = [word for one in words for word in ([one] if isinstance(one, str) else map(word_of, one, one.values()))]
    flags = [word for word in spoken if word.startswith("-")]
    if flags:
        raise ConfigError(
            f"{' '.join(flags)}: flags are for the command line; {door}() takes key=value and group=option"
        )
    before, arguments = GlobalHydra.instance().hydra, sys.argv
    GlobalHydra.instance().clear()
    sys.argv = [f"mpi_unet/{door}.py", *spoken]  # the run records it as the command that makes the same
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose(door, overrides=spoken, return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            with open_dict(config):
                del config["hydra"]
            yield config
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explained(error)) from None
    finally:
        sys.argv = arguments
        GlobalHydra.instance().hydra = before


def _open_door(door: str, config: DictConfig) -> None:
    """Call the task of a door, without what Hydra and the terminal need around it."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _wrapped_lines():
        inspect.unwrap(import_module(f"mpi_unet.{door}").task)(config)


@contextmanager
def _wrapped_lines() -> Iterator[None]:
    """Let a notebook break the lines that a door says; rich would cut them off at the edge of the page."""
    from rich import jupyter

    before = jupyter.JUPYTER_HTML_FORMAT
    jupyter.JUPYTER_HTML_FORMAT = before.replace("white-space:pre;overflow-x:auto;line-height:normal;", WRAPPED)
    try:
        yield
    finally:
        jupyter.JUPYTER_HTML_FORMAT = before


def _written(value: Any, key: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    folder = value if isinstance(value, str | os.PathLike) else getattr(value, "root", getattr(value, "folder", None))
    if folder is not None:
        return _text(os.fspath(folder))
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_text(str(name))}:{_written(one, key)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_written(one, key) for one in value) + "]"
    raise ConfigError(
        f"{key} is a {type(value).__name__}; expected a text, number, truth value, None, path, list or mapping, or a "
        "cohort or run"
    )


def _text(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    if PLAIN_WORD.fullmatch(text) and text.lower() not in HYDRA_WORDS:
        return text
    return QuotedString(text, Quote.double).with_quotes()
