"""Time and memory as a cohort grows: one epoch of training, prediction, evaluation.

Memory is watched from outside, over all processes of a command. *Anonymous* memory is what a process asked for;
*resident* memory also counts pages of files that it has mapped and that the system takes back when it needs them.
"""

from __future__ import annotations

import shutil

from benchmarks.adapter import train_epochs
from benchmarks.measure import Finished, Options, Row, door
from benchmarks.volumes import write_rings

TITLE = "Growing cohorts: 4 slices of 32 x 32 a patient, a network of 0.4 thousand parameters"
SMALL = ["model.channels=[4,8]", "model.strides=[2]", "model.num_res_units=0", "split.stratify_by=[]"]


def measure(options: Options) -> list[Row]:
    """Time a patient relative to that of the smallest cohort, and memory."""
    sizes = (10, 20) if options.quick else options.sizes
    rows = []
    for number in sizes:
        folder = options.folder / str(number)
        cohort = write_rings(folder / "cohort", number, num_frames=4, size=32)
        trained = train_epochs(cohort, folder, options, *SMALL, num_epochs=2, watch=True)
        ended = trained.fit_ended
        whole = [
            f"input={cohort}",
            "run=runs/train",
            "output=predicted",
            "measurements=volume",
            "allow_other_domain=true",
        ]
        commands = {
            "train, the whole command": trained.finished,
            "evaluate": door("evaluate", ["run=runs/train", "num_workers=1"], folder, watch=True),
        }
        if can_predict():
            commands["predict"] = door("predict", whole, folder, watch=True)
        rows.append(
            Row(
                f"an epoch of training, {number:,} patients",
                **{"wall_s": trained.cost.wall_s, "cpu_s": trained.cost.cpu_s},
                more={
                    **{"what": "train", "patients": number, "ms_a_patient": 1000 * trained.cost.wall_s / number},
                    **_memory(trained.finished, end=ended),
                },
            )
        )
        rows += [
            Row(
                f"{name}, {number:,} patients",
                **{"wall_s": finished.cost.wall_s, "cpu_s": finished.cost.cpu_s},
                more={
                    **{"what": name, "patients": number, "ms_a_patient": 1000 * finished.cost.wall_s / number},
                    **_memory(finished),
                },
            )
            for name, finished in commands.items()
        ]
        shutil.rmtree(folder)
    return rows


def can_predict() -> bool:
    """Whether this checkout has the door ``predict``."""
    from mpi_unet.__main__ import DOORS

    return "predict" in DOORS


def _memory(finished: Finished, end: float = float("inf")) -> dict[str, float]:
    return {
        "anonymous_mb": finished.peak_mb(end=end),
        "resident_mb": finished.peak_mb(end=end, resident=True),
    }
