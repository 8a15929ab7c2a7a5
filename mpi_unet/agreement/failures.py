"""How often a method fails outright: the patients that a mean hides.

No interval of a mean can see a failure mode of 2 % in 20 patients, so the count stands beside every mean, with the
limit up to which the true rate may still lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from mpi_unet.agreement.estimate import check_level
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval, clopper_pearson

__all__ = ["FailureRate", "failure_rate"]


@dataclass(frozen=True)
class FailureRate:
    """Share of patients with a failure.

    ``value`` is ``count / n``, ``interval`` the exact two-sided one, ``upper95`` the one-sided upper 95 % limit:
    "at most so many". ``rows`` are the patients concerned, ``definition`` says in words what a failure is.
    """

    value: float
    interval: Interval
    n: int
    method: str
    count: int
    upper95: float
    rows: tuple[int, ...]
    definition: str


def failure_rate(failed: Bool[np.ndarray, " patients"], *, definition: str = "", level: float = 0.95) -> FailureRate:
    """Share of patients in whom a method failed, with exact limits.

    Args:
        failed: One truth value per patient.
        definition: What counts as a failure, for the report, e.g. ``"Dice < 0.7"``.
        level: Confidence level of the two-sided interval.

    Returns:
        The rate; no failure among n patients still allows for about 3/n of them.

    Raises:
        AgreementError: No patient, or a level outside (0, 1).

    Source:
        Clopper & Pearson 1934, Biometrika 26(4):404-413. doi:10.1093/biomet/26.4.404

    Example:
        0 of 20: the upper limit is 1 - 0.05 ** (1 / 20).

        >>> rate = failure_rate(np.zeros(20, dtype=bool))
        >>> rate.value, round(rate.upper95, 6), round(rate.interval.high, 6)
        (0.0, 0.139108, 0.168433)
    """
    check_level(level)
    if failed.size == 0:
        raise AgreementError("failed holds no patient, expected at least one")
    count, n = int(np.count_nonzero(failed)), int(failed.size)
    return FailureRate(
        value=count / n,
        interval=clopper_pearson(count, n, level),
        n=n,
        method="share of patients, Clopper-Pearson",
        count=count,
        upper95=clopper_pearson(count, n, 0.90).high,
        rows=tuple(int(row) for row in np.flatnonzero(failed)),
        definition=definition,
    )
