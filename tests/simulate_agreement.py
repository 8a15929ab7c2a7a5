"""How often the intervals and tests of a margin are wrong, by simulation with a known truth.

python tests/simulate_agreement.py                 everything, about a quarter of an hour on one core
python tests/simulate_agreement.py seed --runs 500 one part, smaller

A *patient* has a difficulty, and the Dice of expert and network follow it (logit-normal); in some patients the network
fails outright. The true mean difference is set exactly, so that a claim can be called false. Spreads: *calm* has no
failures, *typical* 2 %, *hard* 5 %. The figures of docs/agreement.md come from here.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special

from mpi_unet.agreement import (
    noninferiority_paired,
    paired_t,
    pairs_matrix,
    panel,
    tost_paired,
    wilcoxon_signed_rank,
)
from mpi_unet.agreement.planning import MIN_PATIENTS

MARGIN = 0.02
EXPERT_MEAN = 0.93
SEED = 20260101


@dataclass(frozen=True)
class Spread:
    """How patients vary: logits of their common difficulty and of each method, share of outright failures."""

    difficulty: float
    method: float
    failures: float


SPREADS = {
    "calm": Spread(0.35, 0.205, 0.0),
    "typical": Spread(0.40, 0.27, 0.02),
    "hard": Spread(0.50, 0.50, 0.05),
}


def scores(spread: Spread, shape: tuple[int, ...], shift: float, center: float, rng: np.random.Generator):
    """Dice of expert and network; ``center`` and ``shift`` are logits."""
    difficulty = spread.difficulty * rng.standard_normal(shape)
    expert = special.expit(center + difficulty + spread.method * rng.standard_normal(shape))
    network = special.expit(center + shift + difficulty + spread.method * rng.standard_normal(shape))
    failed = rng.random(shape) < spread.failures
    return expert, np.where(failed, network * rng.uniform(0.6, 0.95, shape), network)


@cache
def logits(name: str, true_delta: float) -> tuple[float, float]:
    """Center and shift that give the expert mean and the true difference, to four decimals."""
    size, found = (400_000,), [0.0, 0.0]
    for which, wanted in ((0, EXPERT_MEAN), (1, true_delta)):
        low, high = (0.0, 5.0) if which == 0 else (-3.0, 3.0)
        for _ in range(30):
            found[which] = (low + high) / 2
            expert, network = scores(SPREADS[name], size, found[1], found[0], np.random.default_rng(SEED))
            value = expert.mean() if which == 0 else (network - expert).mean()
            low, high = (found[which], high) if value < wanted else (low, found[which])
    return found[0], found[1]


def studies(name: str, true_delta: float, n: int, runs: int):
    """Dice of expert and network in ``runs`` studies of n patients."""
    center, shift = logits(name, true_delta)
    rng = np.random.default_rng([SEED, n, sum(name.encode()), round(-1e4 * true_delta)])
    return scores(SPREADS[name], (runs, n), shift, center, rng)


def shares(name: str, true_delta: float, n: int, runs: int, resamples: int) -> dict[str, float]:
    """Share of studies in which each claim is made, and in which each 95 % interval holds the truth."""
    counts = dict.fromkeys(
        ("NI t .05", "NI boot-t .05", "NI shipped", "TOST shipped", "TOST t .05", "cover t", "cover boot-t"), 0
    )
    for run, (expert, network) in enumerate(zip(*studies(name, true_delta, n, runs), strict=True)):
        options = {"margin": MARGIN, "resamples": resamples, "seed": run}
        t, boot = (tost_paired(network, expert, alpha=0.025, method=each, **options) for each in ("t", "bootstrap-t"))
        loose = noninferiority_paired(network, expert, alpha=0.05, **options)
        loose_boot = noninferiority_paired(network, expert, alpha=0.05, method="bootstrap-t", **options)
        enough = n >= MIN_PATIENTS
        counts["NI t .05"] += loose.noninferior
        counts["NI boot-t .05"] += loose_boot.noninferior
        counts["NI shipped"] += enough and min(t.interval.low, boot.interval.low) > -MARGIN
        counts["TOST shipped"] += enough and t.equivalent and boot.equivalent
        counts["TOST t .05"] += loose.noninferior and loose.interval.high < MARGIN
        counts["cover t"] += t.interval.low <= true_delta <= t.interval.high
        counts["cover boot-t"] += boot.interval.low <= true_delta <= boot.interval.high
    return {key: value / runs for key, value in counts.items()}


def seed_logic(name: str, true_delta: float, n: int, runs: int) -> dict[str, float]:
    """Share of studies that would call the network as good as the expert because p > 0.05, and by a margin instead."""
    counts = dict.fromkeys(("p>.05 t", "p>.05 Wilcoxon", "TOST .05", "TOST .025"), 0)
    for expert, network in zip(*studies(name, true_delta, n, runs), strict=True):
        counts["p>.05 t"] += paired_t(network, expert).p_value > 0.05
        counts["p>.05 Wilcoxon"] += wilcoxon_signed_rank(network, expert).p_value > 0.05
        for alpha in (0.05, 0.025):
            counts[f"TOST {alpha:g}".replace("0.", ".")] += tost_paired(
                network, expert, margin=MARGIN, alpha=alpha
            ).equivalent
    return {key: value / runs for key, value in counts.items()}


def normal_type_one(n: int, runs: int, *, alpha: float = 0.05, sd: float = 0.04) -> dict[str, float]:
    """Share of false claims at the margin itself when differences are normal."""
    rng = np.random.default_rng([SEED, n])
    found = [tost_paired(rng.normal(-MARGIN, sd, n), margin=MARGIN, alpha=alpha) for _ in range(runs)]
    return {
        "TOST": sum(test.p_value < alpha for test in found) / runs,
        "NI": sum(test.p_lower < alpha for test in found) / runs,
        "cover 90 %": sum(test.interval.low <= -MARGIN <= test.interval.high for test in found) / runs,
    }


# --- Readers: outlines as circles, so that style and noise act on the Dice as they do on masks ---

STYLE_SD, NOISE_SD, OVERLAP = 0.03, 0.02, 0.96


def circle_dice(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Dice of concentric circles, times what is lost to their shapes."""
    return OVERLAP * 2 * np.minimum(first, second) ** 2 / (first**2 + second**2)


@cache
def readers_truth() -> float:
    """Delta for readers in general: over pairs of readers who are all different people."""
    rng = np.random.default_rng(SEED)
    draws = 4_000_000
    one, other = (1 + rng.normal(0, STYLE_SD, draws) + rng.normal(0, NOISE_SD, draws) for _ in range(2))
    network = 1 + rng.normal(0, NOISE_SD, draws)
    return float((circle_dice(network, one) - circle_dice(one, other)).mean())


def reader_coverage(num_readers: int, n: int, runs: int) -> dict[str, float]:
    """How often 95 % intervals hold the Delta of readers in general, and how wide they are."""
    rng, truth = np.random.default_rng([SEED, num_readers, n]), readers_truth()
    first, second = np.triu_indices(num_readers, 1)
    covered = {"patients": 0, "both": 0}
    half = {"patients": 0.0, "both": 0.0}
    for _ in range(runs):
        radius = 1 + rng.normal(0, STYLE_SD, num_readers) + rng.normal(0, NOISE_SD, (n, num_readers))
        network = 1 + rng.normal(0, NOISE_SD, (n, 1))
        pairs = pairs_matrix(circle_dice(radius[:, first], radius[:, second]))
        names = [str(reader) for reader in range(num_readers)]
        found = panel(circle_dice(network, radius), pairs, names, resamples=10)
        for key, interval in (("patients", found.delta.interval), ("both", found.reader_interval)):
            covered[key] += interval.low <= truth <= interval.high
            half[key] += (interval.high - interval.low) / 2
    return {
        "cover patients": covered["patients"] / runs,
        "cover both": covered["both"] / runs,
        "half patients": half["patients"] / runs,
        "half both": half["both"] / runs,
    }


# --- The whole of it ---


def write_row(label: str, values: dict[str, float]) -> None:
    sys.stdout.write(f"{label:<34}" + "  ".join(f"{key} {value:.3f}" for key, value in values.items()) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["normal", "intervals", "power", "seed", "readers"])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    asked = parser.parse_args()
    for name in SPREADS:
        expert, network = studies(name, -MARGIN, 100, 2000)
        found = {"expert": expert.mean(), "delta": (network - expert).mean(), "sd": (network - expert).std()}
        write_row(f"spread {name}", found)
    if "normal" in asked.parts:
        for n in (10, 30, 100):
            write_row(f"normal, n {n}", normal_type_one(n, 5 * asked.runs))
    if "readers" in asked.parts:
        for num_readers in (3, 5, 8):
            for n in (20, 100):
                write_row(f"readers {num_readers}, n {n}", reader_coverage(num_readers, n, max(1, asked.runs // 4)))
    if "seed" in asked.parts:
        for name in SPREADS:
            for delta in (-0.02, -0.03, 0.0):
                for n in (10, 20, 50, 100):
                    write_row(f"seed, {name} {delta:g}, n {n}", seed_logic(name, delta, n, 2 * asked.runs))
    if "intervals" in asked.parts:
        for name in SPREADS:
            for n in (10, 20, 30, 50, 75, 100):
                found = shares(name, -MARGIN, n, asked.runs, asked.resamples)
                write_row(f"at the margin, {name}, n {n}", found)
    if "power" in asked.parts:
        for name in SPREADS:
            for delta in (-0.005, 0.0):
                for n in (30, 50, 75, 100):
                    found = shares(name, delta, n, asked.runs // 2, asked.resamples)
                    write_row(f"power, {name} {delta:g}, n {n}", found)


if __name__ == "__main__":
    main()
