"""What an export needs beside the packages that are always there."""

from __future__ import annotations

from importlib.util import find_spec

from mpi_unet.errors import ConfigError

__all__ = ["check_packages"]

NEEDED = {
    "bundle": {"ignite": "pytorch-ignite", "fire": "fire"},
    "onnx": {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
}
"""Extra of this package to module and package."""


def check_packages(extra: str) -> None:
    """Make sure that the packages of an extra are installed.

    Raises:
        ConfigError: Naming all that are missing.
    """
    missing = [package for module, package in NEEDED[extra].items() if find_spec(module) is None]
    if missing:
        raise ConfigError(f"format={extra} needs {', '.join(missing)}: pip install 'mpi-unet[{extra}]'")
