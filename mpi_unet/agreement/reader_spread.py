"""From these readers to readers in general: how much a result depends on who read.

An interval over patients holds for the readers who took part. The *jackknife over readers* computes the difference
again without each reader in turn; the spread of those values is the part of the uncertainty that more patients cannot
remove.
With two readers it cannot be estimated, and with three it rests on two degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Real
from scipy import stats

from mpi_unet.agreement.estimate import check_finite, check_level, standard_error
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["ReaderSpread", "reader_spread"]


@dataclass(frozen=True)
class ReaderSpread:
    """The interval of a mean difference for readers in general, and what it is made of.

    ``variance_patients`` and ``variance_readers`` add up to the variance of the difference; ``degrees_of_freedom`` are
    Satterthwaite's. ``without_reader`` holds the difference without each reader. ``reader_sd`` is the spread of single
    readers that a study with another number of readers would meet (see ``planning``).
    """

    interval: Interval
    variance_patients: float
    variance_readers: float
    degrees_of_freedom: float
    without_reader: tuple[float, ...]
    reader_sd: float


def reader_spread(
    differences: Real[np.ndarray, " patients"],
    without_reader: Real[np.ndarray, " readers"],
    *,
    level: float = 0.95,
) -> ReaderSpread:
    """Interval of a mean difference that holds for patients and readers like these, not only for these readers.

    Args:
        differences: Per patient the difference that all readers give.
        without_reader: The mean difference without each reader in turn, three readers or more.
        level: Confidence level in (0, 1).

    Returns:
        Variance of patients ``s^2/n`` plus jackknife variance of readers ``(J-1)/J * sum((x - mean)^2)``, with
        Student's t at Satterthwaite's degrees of freedom.

    Raises:
        AgreementError: Fewer than two patients or three readers, a value that is not finite, or a level outside (0, 1).

    Source:
        Satterthwaite 1946, Biometrics Bulletin 2(6):110-114. doi:10.2307/3002019;
        Efron & Stein 1981, Ann Stat 9(3):586-596. doi:10.1214/aos/1176345462

    Example:
        Patients 0 and 2 have variance 1 of the mean; readers 0, 1, 2 add 2/3 * 2.

        >>> spread = reader_spread(np.array([0.0, 2.0]), np.array([0.0, 1.0, 2.0]))
        >>> round(spread.variance_patients, 6), round(spread.variance_readers, 6)
        (1.0, 1.333333)
    """
    check_level(level)
    check_finite(differences, "differences", 2)
    check_finite(without_reader, "differences without a reader", 0)
    num_readers, n = without_reader.size, differences.size
    if num_readers < 3:
        raise AgreementError(
            f"without_reader holds {num_readers} reader(s), expected at least 3: two readers say nothing about the "
            "spread of readers; speak of these readers only"
        )
    patients = standard_error(differences) ** 2
    readers = (num_readers - 1) ** 2 * standard_error(without_reader) ** 2  # (J - 1) / J * sum of squares
    total, mean = patients + readers, float(differences.mean())
    freedom = float("inf")
    if total > 0:
        freedom = total**2 / (patients**2 / (n - 1) + readers**2 / (num_readers - 1))
    half = float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(total))
    return ReaderSpread(
        interval=Interval(mean - half, mean + half, level, "t over patients and readers, Satterthwaite"),
        variance_patients=patients,
        variance_readers=readers,
        degrees_of_freedom=freedom,
        without_reader=tuple(float(value) for value in without_reader),
        reader_sd=float(np.sqrt(num_readers * readers)),
    )
