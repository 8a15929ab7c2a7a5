"""Open a door inside the test process, as a user would from a folder of his own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
TINY = ["trainer=cpu", "debug=one_batch", "model.channels=[4,8]", "model.strides=[2]", "loader.batch_size=4"]
"""The smallest training: two batches of one epoch with a network of two levels."""


def open_door(door: str, *words: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run ``python -m mpi_unet.<door> <words>`` in this process, in ``folder``; give its exit status."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [f"mpi_unet/{door}.py", *words])
    with pytest.raises(SystemExit) as left:
        importlib.import_module(f"mpi_unet.{door}").main()
    return int(left.value.code or 0)


def start_door(door: str, *words: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Start ``python -m mpi_unet.<door> <words>`` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"mpi_unet.{door}", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
