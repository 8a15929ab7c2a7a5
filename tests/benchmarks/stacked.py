"""Five folds at once (``split.parallel=stacked``) against five folds one after another, and against one fold.

An epoch costs the difference of a long and a short training divided by the epochs between them, so that starting,
compiling, predicting and reporting do not count on either side.
"""

from __future__ import annotations

from benchmarks.adapter import SIZE, epoch_seconds_by_slope
from benchmarks.measure import Options, Row, compared
from benchmarks.volumes import write_rings

TITLE = "Five folds stacked, an epoch of all"


def measure(options: Options) -> list[Row]:
    """Seconds of an epoch of all folds."""
    patients, frames, size, short, long, turns = (10, 4, 32, 1, 3, 1) if options.quick else (25, 8, SIZE, 1, 6, 1)
    if options.device == "cuda" and not options.quick:
        short, long, turns = 5, 45, 3
    cohort = write_rings(options.folder / "cohort", patients, num_frames=frames, size=size)
    ways = {
        "five folds one after another": [],
        "five folds stacked": ["split.parallel=stacked"],
        "one fold": ["split.fold=0"],
    }
    costs = {
        name: epoch_seconds_by_slope(
            *(cohort, options.folder / name.replace(" ", "_"), *options.trainer, *words),
            **{"short": short, "long": long, "repeats": turns},
        )
        for name, words in ways.items()
    }
    single = costs["one fold"].wall_s
    more = {name: {"wall_to_one_fold": cost.wall_s / single if single > 0 else None} for name, cost in costs.items()}
    return compared(costs, "wall", more)
