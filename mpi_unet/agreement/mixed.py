"""Variance between patients, between readers and of the rest, when some readings are missing.

The analysis of variance behind :func:`mpi_unet.agreement.icc` needs every reader on every patient. A crossed mixed
model, one random effect per patient and one per reader, uses whatever was read. It is fitted by restricted maximum
likelihood (REML), with variances that may be zero but not negative. A variance of a handful of readers stays rough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Shaped
from scipy import linalg, optimize, stats

from mpi_unet.agreement.estimate import Estimate, check_level
from mpi_unet.agreement.measurements import ROUNDING, as_numbers
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval

__all__ = ["CrossedComponents", "crossed_components"]

FEW_READERS = 5
"""Below this many readers the variance between them rests on too little to be told apart from zero or from a lot."""

BOUNDARY = 1e-4
"""A standard deviation below this share of that of the rest is not told apart from zero."""

STARTS = (0.05, 0.3, 1.0, 3.0, 10.0, 50.0)
"""Ratios of a standard deviation to that of the rest, from the best pair of which the search starts."""


@dataclass(frozen=True)
class CrossedComponents:
    """Components of variance by REML; ``estimate`` is the share between patients, which is ICC(A,1).

    ``interval`` is always None: none is known to hold for a few readers. ``mean`` is the mean reading with its interval
    by the normal distribution.
    """

    estimate: float
    interval: Interval | None
    n: int
    method: str
    variance_patients: float
    variance_readers: float
    variance_rest: float
    mean: Estimate
    mean_error: float
    minus2_reml: float
    readers: int
    num_readings: int
    num_missing: int
    warnings: tuple[str, ...]


def crossed_components(
    measurements: Shaped[np.ndarray, "*patients readers"], *, level: float = 0.95
) -> CrossedComponents:
    """Components of variance of readings by patients and readers, with missing readings.

    Args:
        measurements: One row per patient, one column per reader, NaN where a reading is missing.
        level: Confidence level of the interval of the mean, in (0, 1).

    Returns:
        Components by restricted maximum likelihood; none is negative. With complete data and components above zero they
        are those of the analysis of variance. Patients and readers without any reading are dropped.

    Raises:
        AgreementError: Fewer than two patients or two readers with a reading, as many patients as readings, readings
            that do not vary or leave no rest, or an infinite reading.

    Source:
        Bates et al. 2015, J Stat Softw 67(1):1-48. doi:10.18637/jss.v067.i01

    Example:
        >>> volumes_ml = np.array([[9.0, 2], [6, 1], [8, 4], [7, 1], [10, 5], [np.nan, 2]])
        >>> result = crossed_components(volumes_ml)
        >>> result.n, result.num_missing, result.variance_readers > result.variance_patients
        (6, 1, True)
    """
    check_level(level)
    values = as_numbers(measurements, "measurements")
    if values.ndim != 2:
        raise AgreementError(f"measurements has shape {values.shape}, expected (patients, readers)")
    there = ~np.isnan(values)
    patients, readers = (int(there.any(axis=axis).sum()) for axis in (1, 0))
    count = int(there.sum())
    if patients < 2 or readers < 2 or count <= max(patients, readers):
        raise AgreementError(
            f"measurements holds {count} readings of {patients} patient(s) by {readers} reader(s), expected at least 2 "
            "of each, and patients read more than once; add readings by a second reader"
        )
    given = values[there]
    scale = float(given.std())
    if scale <= 1e-12 * float(np.abs(given).max()):
        raise AgreementError(f"all {count} readings are the same ({given[0]:g}); there is no variance to divide")
    model = _Model((given - given.mean()) / scale, *np.nonzero(there))
    if model.is_additive():
        raise AgreementError(
            f"the {count} readings are sums of one value per patient and one per reader, so nothing is left for the "
            "rest and the likelihood has no maximum; readings made by one another? Use icc or sem on complete patients"
        )
    ratios, deviance, settled = _fit(model)
    center, error, rest = model.solved(ratios)[1:]
    of_patients, of_readers = (float(ratio**2 * rest) for ratio in ratios)
    total = of_patients + of_readers + rest
    notes = [] if settled else ["the mixed model did not settle; do not quote it"]
    for name, part in (("patients", of_patients), ("readers", of_readers)):
        if part == 0:
            notes.append(f"the variance between {name} is zero, on the boundary")
    if readers < FEW_READERS:
        notes.append(f"the variance between readers rests on {readers} readers: a rough estimate")
    mean, error = center * scale + float(given.mean()), error * scale
    half = float(stats.norm.ppf((1 + level) / 2)) * error
    return CrossedComponents(
        estimate=of_patients / total,
        interval=None,
        n=patients,
        method="ICC(A,1) from a crossed mixed model by REML",
        variance_patients=of_patients * scale**2,
        variance_readers=of_readers * scale**2,
        variance_rest=rest * scale**2,
        mean=Estimate(mean, Interval(mean - half, mean + half, level, "normal, mixed model"), patients, "mixed model"),
        mean_error=error,
        minus2_reml=deviance + 2 * (count - 1) * math.log(scale),
        readers=readers,
        num_readings=count,
        num_missing=patients * readers - count,
        warnings=tuple(notes),
    )


# --- Private helpers ---


class _Model:
    """Readings of mean 0 and standard deviation 1, so that the optimizer need not know the unit."""

    def __init__(self, readings: np.ndarray, patient: np.ndarray, reader: np.ndarray) -> None:
        effects = np.concatenate([np.eye(patient.max() + 1)[patient], np.eye(reader.max() + 1)[reader]], axis=1)
        self.patients = int(patient.max()) + 1
        self.size = readings.size
        self.effects = effects
        self.both = np.stack([np.ones(readings.size), readings], axis=1)
        self.crossed = effects.T @ effects
        self.sums = effects.T @ self.both

    def is_additive(self) -> bool:
        """Whether effects of patients and readers explain the readings to the last bits."""
        readings = self.both[:, 1]
        rest = readings - self.effects @ np.linalg.lstsq(self.effects, readings, rcond=None)[0]
        return float(np.square(rest).sum()) <= ROUNDING**0.75 * self.size

    def deviance(self, ratios: np.ndarray) -> float:
        """-2 log restricted likelihood at these standard deviations, in units of that of the rest; signs are idle."""
        logarithms, _, error, rest = self.solved(ratios)
        return logarithms - 2 * math.log(error / math.sqrt(rest)) + (self.size - 1) * (math.log(2 * math.pi * rest) + 1)

    def solved(self, ratios: np.ndarray) -> tuple[float, float, float, float]:
        """Log determinant of the correlation, the mean, its error, and the variance of the rest."""
        weights = np.repeat(ratios, [self.patients, len(self.crossed) - self.patients])
        inner = np.eye(len(weights)) + weights[:, None] * self.crossed * weights
        factor = linalg.cho_factor(inner, lower=True)
        shrunk = weights[:, None] * self.sums
        (ones, cross), (_, squares) = self.both.T @ self.both - shrunk.T @ linalg.cho_solve(factor, shrunk)
        mean = cross / ones
        rest = float(squares - mean * cross) / (self.size - 1)
        return 2 * float(np.log(np.diag(factor[0])).sum()), float(mean), math.sqrt(rest / float(ones)), rest


def _fit(model: _Model) -> tuple[Float[np.ndarray, " 2"], float, bool]:
    """Ratios of the two standard deviations to that of the rest; zero where they are not told apart from it.

    The search may cross zero, since only the square of a ratio counts: bounded there, it would stick to the bound.
    """
    start = min(product(STARTS, repeat=2), key=lambda ratios: model.deviance(np.array(ratios)))
    found = optimize.minimize(
        model.deviance, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 2000}
    )
    ratios = np.where(np.abs(found.x) < BOUNDARY, 0.0, np.abs(found.x))
    return ratios, model.deviance(ratios), bool(found.success)
