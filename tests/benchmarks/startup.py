"""How long ``--help`` and a mistyped option take, against a Python that does nothing and one that imports torch."""

from __future__ import annotations

import sys

from benchmarks.measure import Cost, Options, Row, command, compared, in_turns

TITLE = "Help of the doors: how long it takes to answer"


def measure(options: Options) -> list[Row]:
    """Seconds, in turns; the baseline is what an import of torch alone takes."""
    from mpi_unet.__main__ import DOORS

    words = {
        "python -c 'import torch'": ["-c", "import torch"],
        "python -c 'import hydra'": ["-c", "import hydra"],
        "python -m mpi_unet": ["-m", "mpi_unet"],
        **{f"python -m mpi_unet.{door} --help": ["-m", f"mpi_unet.{door}", "--help"] for door in DOORS},
    }

    def task(given: list[str]) -> Cost:
        return command([sys.executable, *given], options.folder).cost

    tasks = {name: lambda given=given: task(given) for name, given in words.items()}
    return compared(in_turns(tasks, 1 if options.quick else 5), "CPU")
