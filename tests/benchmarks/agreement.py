"""The statistics of a reader study against scipy's bootstrap of one mean."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.measure import Options, Row, compared, in_turns, timed

TITLE = "Agreement of 5 readers and a network on 1,000 patients, 10,000 resamples"


def measure(options: Options) -> list[Row]:
    """The whole panel, against scipy's percentile bootstrap of its mean alone."""
    from scipy import stats

    from mpi_unet.agreement import pairs_matrix, panel
    from mpi_unet.evaluation.intervals import bootstrap_t_interval

    patients, draws = (50, 200) if options.quick else (1000, 10_000)
    rng = np.random.default_rng(0)
    network, pairs = rng.uniform(0.8, 1, (patients, 5)), pairs_matrix(rng.uniform(0.8, 1, (patients, 10)))
    d = np.array(panel(network, pairs, list("ABCDE"), resamples=10).d)

    def by_scipy() -> None:
        stats.bootstrap((d,), np.mean, rng=np.random.default_rng(0), n_resamples=draws, method="percentile", batch=1000)

    tasks = {
        "scipy percentile bootstrap of Delta": by_scipy,
        "bootstrap-t of Delta": lambda: bootstrap_t_interval(d, seed=0),
        "panel, everything": lambda: panel(network, pairs, list("ABCDE"), margin=0.02, resamples=draws),
    }
    return compared(in_turns({name: partial(timed, task) for name, task in tasks.items()}, 3), "CPU")
