"""What a notebook or a script needs: the doors as functions, and what they leave behind as objects.

``Cohort`` and ``Run`` are folders that were opened; ``Evaluation`` and ``Prediction`` are what ``evaluate`` and
``predict`` leave; a ``Ventricle`` is one outlined heart, measured. Tables are pandas DataFrames, pictures matplotlib
figures, and everything that goes wrong for a reason that you can remedy is an ``MpiUnetError``. The rooms with pure
functions on arrays, such as ``mpi_unet.agreement``, stand beside this one.

Names are looked up when they are asked for: importing this room costs nothing, and torch comes in with the first
training or prediction, not before. See docs/api.md.

Example:
    >>> import mpi_unet.api
    >>> "train" in mpi_unet.api.__all__, mpi_unet.api.MpiUnetError.__name__
    (True, 'MpiUnetError')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mpi_unet.errors import MpiUnetError, nearest

if TYPE_CHECKING:
    from mpi_unet.api.commands import evaluate, predict, prepare, train
    from mpi_unet.api.evaluation import Evaluation
    from mpi_unet.api.prediction import Prediction
    from mpi_unet.api.run import Run
    from mpi_unet.api.run_case import RunCase, plot_case
    from mpi_unet.api.ventricle import Ventricle, cycle_of, plot_cycle
    from mpi_unet.cohort.table import Cohort

__all__ = [
    "Cohort",
    "Evaluation",
    "MpiUnetError",
    "Prediction",
    "Run",
    "RunCase",
    "Ventricle",
    "cycle_of",
    "evaluate",
    "plot_case",
    "plot_cycle",
    "predict",
    "prepare",
    "train",
]

_HOMES = {
    "Cohort": "mpi_unet.cohort.table",
    "Evaluation": "mpi_unet.api.evaluation",
    "Prediction": "mpi_unet.api.prediction",
    "Run": "mpi_unet.api.run",
    "RunCase": "mpi_unet.api.run_case",
    "Ventricle": "mpi_unet.api.ventricle",
    "cycle_of": "mpi_unet.api.ventricle",
    "evaluate": "mpi_unet.api.commands",
    "plot_case": "mpi_unet.api.run_case",
    "plot_cycle": "mpi_unet.api.ventricle",
    "predict": "mpi_unet.api.commands",
    "prepare": "mpi_unet.api.commands",
    "train": "mpi_unet.api.commands",
}
"""Where each name lives. PEP 562: https://peps.python.org/pep-0562/."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"mpi_unet.api has no {name!r}{nearest(name, __all__)} It offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
