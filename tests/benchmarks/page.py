"""``docs/performance.md`` with its figure, from what the benchmarks left in ``docs/figures/performance.json``.

No number on that page is typed by hand: ``python -m benchmarks.page`` writes it anew from the kept figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import CHECKOUT

INTRODUCTION = """# Performance

Ratios to a baseline that was measured in the same run, taking turns, medians; above 1 is faster than the baseline. This
page is written by the benchmarks themselves (`tests/benchmarks/`); each heading names its command, which is given in
`tests/` (`make bench` measures all subjects but nnU-Net). Seconds say what one machine did on one day; only the ratios
travel.

Our side is always the door that a user opens, with all that it does: reading, checking, augmenting, validating,
logging, writing whole files.
"""
NOTES = {
    "training": "The bare loop learns from tensors in memory and does nothing else; *ratio to loop with validation* "
    "compares with a loop that also passes the validation frames through the network.",
    "tutorial": "Both sides have all cores; CPU seconds of the tutorial's workers count when a worker has ended.",
    "distributed": "CPU seconds are those of the main process.",
    "growth": "Anonymous memory is what the processes asked for; resident memory counts mapped files too, which the "
    "system takes back when it needs the room.",
    "dicom": "What a further study costs, *studies* of them with *slices* each, in one process that has imported "
    "everything; each row does all that the rows above it do. *Cold* is a command of its own for one study, from its "
    "start to its end. The hearts are tubes, larger than hearts: to measure them takes longer.",
    "prediction": "The hearts are tubes, larger than hearts: to measure them takes longer.",
    "nnunet": "Each budget is a training of its own, whose learning-rate schedule ends with the budget. The budget is "
    "the training loop alone; *other min* is everything else of that side: starting, predicting (nnU-Net: with "
    "mirroring) and, for ours, reading, scoring and reporting. nnU-Net keeps its plan, batch size, augmentation, "
    "optimizer and worker processes; two things were changed, both in its favor: its polynomial schedule is stretched "
    "over the budget at every iteration, and no time goes into its running validation. It learns from all patients "
    "that are not held out; ours sets a fifth of them aside and spends part of its budget on choosing a checkpoint "
    "with them. The time of an epoch of ours is measured before, outside the budget. One evaluation scores both.",
}


def keep(results: dict[str, Any], docs: Path) -> None:
    """Add results to those kept in ``docs/figures/performance.json``, and write page and figure.

    Args:
        results: By subject, as ``python -m benchmarks --json`` writes them.
        docs: The folder of the documentation.
    """
    path = docs / "figures" / "performance.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept |= results
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    draw(kept, docs / "figures" / "performance.svg")
    (docs / "performance.md").write_text(written(kept), encoding="utf-8")


def written(kept: dict[str, Any]) -> str:
    """The page."""
    from benchmarks.__main__ import SUBJECTS

    parts = [INTRODUCTION, "![ratios, growth and Dice against minutes](figures/performance.svg)\n"]
    missing = [name for name in SUBJECTS if name not in kept]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}.\n")
    for name, result in kept.items():
        subject, _, device = name.partition("_")
        words = f"{subject}{' --device cuda' if device else ''}"
        parts.append(f"## {result['title']}{' (GPU)' if device else ''}\n")
        parts.append(f"`python -m benchmarks {words}`, {result['minutes']:g} min. {_machine(result['machine'])}\n")
        if subject in NOTES:
            parts.append(f"{NOTES[subject]}\n")
        parts.append(_table(result["rows"]))
    return "\n".join(parts)


def draw(kept: dict[str, Any], path: Path) -> None:
    """Bars of all ratios; where measured, time and memory against patients, and Dice against minutes."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams |= {"svg.hashsalt": "mpi_unet", "font.size": 8}
    from matplotlib import pyplot as plt

    curves = [name for name in ("growth", "nnunet") if name in kept]
    bars: list[tuple[int, str, float]] = []
    for name, result in kept.items():
        device = " (GPU)" if name.endswith("_cuda") else ""
        place = bars[-1][0] + 2 if bars else 0  # an empty place between subjects
        rated = [row for row in result["rows"] if name != "nnunet" and row["ratio"] is not None]
        bars += [(place + number, f"{row['name']}{device}", row["ratio"]) for number, row in enumerate(rated)]
    height = 0.8 + 0.15 * (bars[-1][0] + 1)
    ratios = [height, *([3.0] if curves else [])]
    figure = plt.figure(figsize=(7.6, sum(ratios)), layout="constrained")
    above, *below = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False).flat
    bar = above.subplots()
    shades = ["#999999" if ratio == 1.0 else "#2b6ca3" for _, _, ratio in bars]
    bar.barh([place for place, _, _ in bars], [ratio for _, _, ratio in bars], color=shades)
    bar.set_yticks([place for place, _, _ in bars], [label for _, label, _ in bars])
    bar.set_ylim(bars[-1][0] + 0.7, -0.7)
    bar.set_xscale("log")
    bar.axvline(1.0, color="black", linewidth=0.8)
    _plain_numbers(bar)
    bar.set_xlabel("times as fast as the baseline (gray)")
    for name, axis in zip(curves, below[0].subplots(1, len(curves), squeeze=False).flat if curves else [], strict=True):
        (_growth if name == "growth" else _minutes)(axis, [row["more"] for row in kept[name]["rows"]])
    figure.savefig(path, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
    plt.close(figure)


def _growth(axis: Any, rows: list[dict[str, Any]]) -> None:
    for what in dict.fromkeys(row["what"] for row in rows):
        points = [(row["patients"], row["anonymous_mb"]) for row in rows if row["what"] == what]
        axis.plot(*zip(*points, strict=True), marker="o", label=what)
    axis.set_xscale("log")
    _plain_numbers(axis)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("patients")
    axis.set_ylabel("peak anonymous memory in MB")
    axis.legend()


def _minutes(axis: Any, rows: list[dict[str, Any]]) -> None:
    for side in ("mpi_unet", "nnU-Net"):
        points = [(row["minutes"], row["dice"]) for row in rows if row.get("side") == side]
        axis.plot(*zip(*points, strict=True), marker="o", label=side)
    axis.set_xscale("log")
    _plain_numbers(axis, sorted({row["minutes"] for row in rows if "minutes" in row}))
    axis.set_xlabel("minutes of training a fold, two cores")
    axis.set_ylabel("out-of-fold Dice")
    axis.legend()


def _plain_numbers(axis: Any, ticks: list[float] | None = None) -> None:
    """Numbers as a reader says them, not powers of ten; ticks at the values that were measured, where given."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if ticks:
        axis.set_xticks(ticks)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _machine(machine: dict[str, Any]) -> str:
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    return (
        f"{cores} ({machine['cpu']}){gpu}, {machine['memory_gib']} GiB, Python {machine['python']}, "
        f"torch {machine['torch']}, MONAI {machine['monai']}, Lightning {machine['pytorch-lightning']}; "
        f"{machine['date']}, load average before: {machine['load_average']}."
    )


def _table(rows: list[dict[str, Any]]) -> str:
    """A row each; what is the same in all rows that have it stands below, in a line."""
    more = list(dict.fromkeys(key for row in rows for key in row["more"] if key not in ("what", "side")))
    values = {key: [_number(row["more"][key]) for row in rows if key in row["more"]] for key in more}
    columns = [key for key in more if len(values[key]) == 1 or len(set(values[key])) > 1]
    by = next((row["by"] for row in rows if row["by"]), "")
    header = ["", f"ratio ({by})" if by else "ratio", "wall s", "CPU s", *map(_words, columns)]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for row in rows:
        cells = [row["name"], _number(row["ratio"]), _number(row["wall_s"]), _number(row["cpu_s"])]
        cells += [_number(row["more"].get(key)) for key in columns]
        lines.append(f"| {' | '.join(cells)} |")
    alike = [f"{_words(key)} {values[key][0]}" for key in more if key not in columns]
    return "\n".join([*lines, *(["", f"The same in all: {'; '.join(alike)}."] if alike else [])]) + "\n"


def _words(key: str) -> str:
    return key.replace("_", " ").replace(" mb", " MB").replace("cpu s", "CPU s")


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(_number, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Write page and figure anew from the kept figures."""
    keep({}, CHECKOUT / "docs")


if __name__ == "__main__":
    main()
