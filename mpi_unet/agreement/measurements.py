"""What measurements and ratings must be before anything is computed from them; missing readings are left out, counted.

NaN is a missing reading. An infinite one is a mistake upstream, e.g. the distance to an empty mask, and is refused.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from mpi_unet.errors import AgreementError, listing

__all__ = ["ROUNDING", "as_numbers", "complete_pairs", "complete_patients"]

ROUNDING = 1e-24
"""A sum of squares smaller than this share of that of the readings themselves is rounding, and zero."""


def as_numbers(values: Shaped[np.ndarray, "*shape"], name: str) -> Float[np.ndarray, "*shape"]:
    """The same values in double precision; None is missing (NaN).

    Raises:
        AgreementError: Values that are no numbers, or infinite ones.

    Example:
        >>> as_numbers(np.array([1, None], dtype=object), "first")
        array([ 1., nan])
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as reason:
        raise AgreementError(
            f"{name} holds values that are no numbers ({reason}); a measurement is a number, for categories use "
            "fleiss_kappa, gwet_ac1 or cohen_kappa"
        ) from None
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        raise AgreementError(
            f"{infinite} of {numbers.size} values of {name} are infinite, expected numbers, or NaN where a reading is "
            "missing; replace the distance to an empty mask first (evaluation.policy.for_mean)"
        )
    return numbers


def complete_patients(
    measurements: Shaped[np.ndarray, "*patients readers"], name: str = "measurements", *, least: int = 2
) -> tuple[Float[np.ndarray, "complete readers"], int]:
    """The patients whom every reader measured, and how many patients are left out because a reading is missing.

    Raises:
        AgreementError: Fewer than two readers, too few complete patients, an infinite reading, or one that is no
            number.

    Example:
        >>> complete_patients(np.array([[1.0, 2.0], [3.0, np.nan], [4.0, 5.0]]))
        (array([[1., 2.],
               [4., 5.]]), 1)
    """
    numbers = as_numbers(measurements, name)
    if numbers.ndim != 2:
        raise AgreementError(f"{name} has shape {numbers.shape}, expected (patients, readers)")
    readers = numbers.shape[1]
    if readers < 2:
        raise AgreementError(
            f"{name} has {readers} reader(s), expected at least 2 columns; with one reader agreement is not measured: "
            "add a second reader, or a second, blinded reading by the same one"
        )
    complete = ~np.isnan(numbers).any(axis=1)
    kept = int(complete.sum())
    if kept < least:
        missing = np.isnan(numbers).sum(axis=0)
        raise AgreementError(
            f"{name} has {kept} patient(s) read by all {readers} readers of {len(numbers)}, expected at least {least}; "
            "missing readings by reader:\n"
            f"{listing([f'column {place}: {count}' for place, count in enumerate(missing)])}\n"
            "Leave out the reader who read few, or keep incomplete patients with crossed_components"
        )
    return numbers[complete], len(numbers) - kept


def complete_pairs(
    first: Shaped[np.ndarray, "*patients"], second: Shaped[np.ndarray, "*others"], *, least: int = 2
) -> tuple[Float[np.ndarray, " complete"], Float[np.ndarray, " complete"], int]:
    """The patients whom both measured, and how many are left out because a value is missing.

    Raises:
        AgreementError: Lengths that differ, more than one axis, too few pairs, an infinite value, or one that is no
            number.

    Example:
        >>> complete_pairs(np.array([1.0, np.nan, 3.0]), np.array([1.0, 2.0, 4.0]))
        (array([1., 3.]), array([1., 4.]), 1)
    """
    x, y = as_numbers(first, "first"), as_numbers(second, "second")
    if x.ndim != 1 or x.shape != y.shape:
        raise AgreementError(
            f"first has shape {x.shape}, second {y.shape}, expected one value per patient in both, in the same order; "
            "for several values per patient see bland_altman_replicates"
        )
    complete = ~(np.isnan(x) | np.isnan(y))
    kept = int(complete.sum())
    if kept < least:
        raise AgreementError(
            f"{kept} of {x.size} patient(s) have both measurements, expected at least {least}; "
            "measure more patients, or look for why the others are NaN"
        )
    return x[complete], y[complete], x.size - kept
