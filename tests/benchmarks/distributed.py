"""One fold by two processes (Lightning DDP, gloo) against one process with twice the batch."""

from __future__ import annotations

from benchmarks.adapter import SIZE, train_epochs
from benchmarks.measure import Options, Row, compared, median
from benchmarks.volumes import write_rings

TITLE = "Distributed training: two processes on two cores against one process with twice the batch"


def measure(options: Options) -> list[Row]:
    """Wall-clock seconds of an epoch, in turns."""
    patients, frames, size, epochs, turns = (10, 4, 32, 2, 1) if options.quick else (24, 16, SIZE, 4, 1)
    cohort = write_rings(options.folder / "cohort", patients, num_frames=frames, size=size)
    ways = {
        "one process, one thread, batch 64": (["trainer=cpu", "loader.batch_size=64"], 1),
        "one process, two threads, batch 64": (["trainer=cpu", "loader.batch_size=64"], 2),
        "two processes, one thread each, batch 2 x 32": (
            ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "loader.batch_size=32"],
            1,
        ),
    }
    made: dict[str, list] = {name: [] for name in ways}
    for turn in range(turns):
        for number, (name, (words, threads)) in enumerate(ways.items()):
            folder = options.folder / f"way_{number}_{turn}"
            made[name].append(train_epochs(cohort, folder, options, *words, num_epochs=epochs, threads=threads))
    costs = {name: median([one.cost for one in of_way]) for name, of_way in made.items()}
    more = {
        name: {"images_per_s": made[name][0].num_train / cost.wall_s, "cpu_s_of": "the main process"}
        for name, cost in costs.items()
    }
    return compared(costs, "wall", more)
