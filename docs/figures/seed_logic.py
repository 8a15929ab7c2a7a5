"""The figure of docs/agreement.md: how often "p > 0.05, so it agrees" is written of a network that is worse.

python docs/figures/seed_logic.py     docs/figures/seed_logic.svg, about two minutes; prints what it draws

The studies are those of tests/simulate_agreement.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "tests"))

from simulate_agreement import MARGIN, seed_logic, shares  # noqa: E402 - its folder had to be named first

PATIENTS = (10, 15, 20, 30, 40, 50, 75, 100, 150)
SPREADS = {
    "calm": ("#4477aa", "no failures, SD 0.023"),
    "typical": ("#aa7722", "2 % failures, SD 0.043"),
    "hard": ("#aa3355", "5 % failures, SD 0.072"),
}
STYLE = {"font.size": 10, "svg.hashsalt": "seed_logic", "axes.spines.top": False, "axes.spines.right": False}


def measured(runs: int) -> dict[str, tuple[list[float], list[float]]]:
    """Per spread, in percent of studies: the sentence is written, and equivalence is claimed by the rule."""
    found = {}
    for name in SPREADS:
        sentence = [100 * seed_logic(name, -MARGIN, n, runs)["p>.05 t"] for n in PATIENTS]
        claimed = [100 * shares(name, -MARGIN, n, runs, 500)["TOST shipped"] for n in PATIENTS]
        found[name] = sentence, claimed
    return found


def table(found: dict[str, tuple[list[float], list[float]]], runs: int) -> str:
    """The same in percent: a column each number of patients, and the sentence above the rule."""
    lines = [f"{runs} studies a cell, %".ljust(40) + "".join(f"{n:>6}" for n in PATIENTS)]
    for name, sides in found.items():
        for words, shares_pct in zip(("p > 0.05", "equivalent by the rule"), sides, strict=True):
            lines.append(f"{name}: {words}".ljust(40) + "".join(f"{share:6.1f}" for share in shares_pct))
    return "\n".join(lines) + "\n"


def draw(found: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    """Two panels on one scale."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
        titles = ["\u201cp > 0.05, no difference was found\u201d", "equivalent within \u00b10.02, by the rule"]
        for side, (axes, title) in enumerate(zip(panels, titles, strict=True)):
            for name, (color, words) in SPREADS.items():
                axes.plot(PATIENTS, found[name][side], "o-", color=color, markersize=4, clip_on=False, label=words)
            axes.axhline(5, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
            axes.set_title(title, loc="left", fontsize=11)
            axes.set_xlabel("patients in the study")
            axes.set_xlim(0, 155)
            axes.set_ylim(0, 100)
        panels[0].set_ylabel("studies that would say so, %")
        panels[0].legend(frameon=False, title="differences between patients", alignment="left")
        panels[1].annotate("5 %", (152, 6.5), color="0.4", ha="right", fontsize=9)
        panels[1].annotate("fewer than 30 patients: no claim", (15, 3), (12, 22), color="0.4", fontsize=9,
                           arrowprops={"arrowstyle": "-", "color": "0.6"})  # fmt: skip
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    results = measured(number)
    sys.stdout.write(table(results, number))
    draw(results, FOLDER / "seed_logic.svg")
