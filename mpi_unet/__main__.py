"""``python -m mpi_unet`` names the doors; ``mpi-unet <door> ...`` opens one."""

from __future__ import annotations

import importlib
import sys

from mpi_unet.errors import nearest

DOORS = {
    "prepare": "DICOM, a PACS, NIfTI, outlines, ... in, a cohort out",
    "train": "train, cross-validate, evaluate and report",
    "predict": "segment and measure new studies with the networks of a run",
    "evaluate": "how well do masks agree with readers, and readers with one another? plans a study, too",
    "export": "write a cohort in the form that other programs read: MONAI datalist, nnU-Net",
}
USAGE = "mpi_unet has these doors, each with --help:\n\n" + "\n".join(
    f"  python -m mpi_unet.{name:<10} {purpose}" for name, purpose in DOORS.items()
)


def main() -> None:
    """Open the door that the first argument names, or name them all."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        sys.stdout.write(USAGE + "\n")
        return
    if name not in DOORS:
        sys.stderr.write(f"there is no door {name!r}{nearest(name, DOORS)}\n{USAGE}\n")
        sys.exit(2)
    sys.argv = [name, *sys.argv[2:]]
    importlib.import_module(f"mpi_unet.{name}").main()


if __name__ == "__main__":
    main()
