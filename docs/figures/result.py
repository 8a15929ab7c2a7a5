"""The picture of the README: a patient of the demo, outlined by the reader and by a network that never saw it.

python docs/figures/result.py runs/quickstart     docs/figures/result.png; the case in the middle by Dice, none chosen
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from mpi_unet.api import Run


def draw(folder: str, path: Path) -> None:
    """Draw four slices of the case whose Dice is the median."""
    run = Run.open(folder)
    cases = run.worst(len(run.cohort.cases))["case_id"]
    picture = run.case(cases.iloc[len(cases) // 2]).plot(readers=["truth"], order="anatomical", num_frames=4)
    picture.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart", Path(__file__).with_name("result.png"))
