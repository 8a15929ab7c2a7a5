"""Our training, as a user runs it, against a bare loop over tensors that are in memory already.

The bare loop has the same network, loss, batch size and number of threads, and AdamW as PyTorch makes it; it augments
nothing, measures nothing and writes nothing. It is timed twice: learning alone, and with a forward pass over the
validation frames as well, because a training that chooses its checkpoint cannot go without that.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks.adapter import SIZE, train_epochs
from benchmarks.measure import Cost, Options, Row, compared, timed
from benchmarks.volumes import read_frames, write_rings

TITLE = "Training, end to end: augmentation, metrics, logging and checkpoints, against the bare loop"
BATCH = 32


def measure(options: Options) -> list[Row]:
    """Images a second of learning, in turns."""
    patients, frames, size, epochs, turns = (10, 4, 32, 2, 1) if options.quick else (24, 16, SIZE, 3, 3)
    cohort = write_rings(options.folder / "cohort", patients, num_frames=frames, size=size)
    images, labels = read_frames(cohort)
    device = torch.device(options.device)
    stack = [torch.from_numpy(array)[:, None].to(device) for array in (images, labels)]
    names = ("bare loop", "bare loop with validation passes", "the door train", "the door train, no augmentation")
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    counts = (0, 0)
    for turn in range(turns):
        for name, transforms in ((names[2], "standard"), (names[3], "deterministic")):
            folder, word = options.folder / f"{transforms}_{turn}", f"transforms={transforms}"
            made = train_epochs(cohort, folder, options, word, num_epochs=epochs)
            costs[name].append(made.cost)
            counts = (made.num_train, made.num_val)
        costs[names[0]].append(_bare(stack, counts[0], 0, epochs, device))
        costs[names[1]].append(_bare(stack, counts[0], counts[1], epochs, device))
    by = "CPU" if options.device == "cpu" else "wall"
    middle = {
        name: Cost(statistics.median(cost.wall_s for cost in taken), statistics.median(cost.cpu_s for cost in taken))
        for name, taken in costs.items()
    }
    seconds = {name: cost.cpu_s if by == "CPU" else cost.wall_s for name, cost in middle.items()}
    more = {
        name: {
            f"images_per_{'CPU_' if by == 'CPU' else ''}s": counts[0] / seconds[name],
            "ratio_to_loop_with_validation": seconds[names[1]] / seconds[name],
            **{"train_frames": counts[0], "validation_frames": counts[1]},
        }
        for name in names
    }
    return compared(middle, by, more)


def _bare(stack: list[torch.Tensor], num_train: int, num_val: int, epochs: int, device: torch.device) -> Cost:
    """Median epoch of the bare loop, without the first."""
    torch.set_num_threads(1)
    network, loss, optimizer = bare_parts(device)
    images, labels = stack[0][:num_train], stack[1][:num_train].long()

    def epoch() -> None:
        network.train()
        for image, label in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            optimizer.zero_grad()
            loss(network(image), label).backward()
            optimizer.step()
        if num_val:
            network.eval()
            with torch.inference_mode():
                for image in stack[0][num_train : num_train + num_val].split(BATCH):
                    network(image)
        if device.type == "cuda":
            torch.cuda.synchronize()

    costs = [timed(epoch) for _ in range(epochs)][1:]
    return Cost(statistics.median(cost.wall_s for cost in costs), statistics.median(cost.cpu_s for cost in costs))


def bare_parts(device: torch.device) -> tuple[torch.nn.Module, torch.nn.Module, torch.optim.Optimizer]:
    """Network, loss and optimizer of the default recipe, as MONAI and PyTorch make them."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from mpi_unet.config import config_dir

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=["data=cohort", "data.root=none", "data.reader=truth"])
    network = instantiate(config.model).to(device)
    return network, instantiate(config.loss), torch.optim.AdamW(network.parameters(), lr=config.optimizer.lr)
