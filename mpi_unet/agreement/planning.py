"""How many patients, and how many readers: power of the tests of a margin, before a study begins.

*Power* is the chance that a study of n patients reaches its claim when the true difference is what was assumed. The
*pilot SD* is the spread over patients of the difference (d of a panel), from other patients than those of the study.
The numbers hold for normal differences; patients in whom the network fails make every claim harder, see the cautions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from mpi_unet.agreement.estimate import check_alpha, check_margin
from mpi_unet.errors import AgreementError

__all__ = ["Plan", "PlanRow", "noninferiority_power", "patients_needed", "plan", "sd_upper_limit", "tost_power"]

Claim = Literal["equivalence", "noninferiority"]

MOST_PATIENTS = 100_000
"""A study that would need more is not planned."""

MIN_PATIENTS = 30
"""Below, the rules of the report make no claim whatever the power."""

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class PlanRow:
    """One line of the table: ``n`` patients reach ``power`` (at least ``target_power``); None if no number does.

    ``scope`` says whether the claim is about these readers or about readers in general.
    """

    claim: Claim
    scope: Literal["these readers", "readers in general"]
    true_delta: float
    sd: float
    margin: float
    alpha: float
    target_power: float
    n: int | None
    power: float | None


@dataclass(frozen=True)
class Plan:
    """Sample sizes with the assumptions behind them and the cautions that go with them."""

    rows: tuple[PlanRow, ...]
    margin: float
    alpha: float
    num_readers: int | None
    reader_sd: float | None
    cautions: tuple[str, ...]


def tost_power(n: int, *, margin: float, sd: float, true_delta: float = 0.0, alpha: float = 0.025) -> float:
    """Chance that a paired study of n patients shows equivalence; exact for normal differences.

    Args:
        n: Patients.
        margin: Largest mean difference that would not matter, positive.
        sd: Standard deviation of the differences over patients, positive.
        true_delta: The true mean difference.
        alpha: One-sided level of each of the two tests.

    Returns:
        The power, integrated over the spread that the study may happen to observe; 0 with fewer than two patients.

    Raises:
        AgreementError: A margin or SD that is not positive, or an alpha outside (0, 0.5).

    Source:
        Phillips 1990, J Pharmacokinet Biopharm 18:137-144. doi:10.1007/BF01063556

    Example:
        >>> round(tost_power(44, margin=0.02, sd=0.04), 2), round(tost_power(43, margin=0.02, sd=0.04), 2)
        (0.8, 0.79)
    """
    _check(margin, sd, alpha)
    return 0.0 if n < 2 else _power(sd / np.sqrt(n), n - 1.0, margin, true_delta, alpha, both=True)


def noninferiority_power(n: int, *, margin: float, sd: float, true_delta: float = 0.0, alpha: float = 0.025) -> float:
    """Chance that a paired study of n patients shows non-inferiority; exact for normal differences.

    Args:
        n: Patients.
        margin: Largest deficit that would not matter, positive.
        sd: Standard deviation of the differences over patients, positive.
        true_delta: The true mean difference; negative is worse.
        alpha: One-sided level.

    Returns:
        The power, from the noncentral t distribution; 0 with fewer than two patients.

    Raises:
        AgreementError: As :func:`tost_power`.

    Source:
        Julious 2004, Stat Med 23(12):1921-1986. doi:10.1002/sim.1783

    Example:
        At the margin itself the power is alpha.

        >>> round(noninferiority_power(30, margin=0.02, sd=0.04, true_delta=-0.02), 6)
        0.025
    """
    _check(margin, sd, alpha)
    return 0.0 if n < 2 else _power(sd / np.sqrt(n), n - 1.0, margin, true_delta, alpha, both=False)


def patients_needed(
    *,
    margin: float,
    sd: float,
    true_delta: float = 0.0,
    alpha: float = 0.025,
    power: float = 0.8,
    claim: Claim = "equivalence",
) -> int | None:
    """Smallest number of patients that reaches a power.

    Args:
        margin: Largest mean difference that would not matter, positive.
        sd: Standard deviation of the differences over patients, positive.
        true_delta: The true mean difference; negative is worse.
        alpha: One-sided level of each test.
        power: Chance of the claim that is wanted, in (0, 1).
        claim: What is to be shown.

    Returns:
        The number; None when the true difference lies on or beyond the margin, or more than 100,000 would be needed.

    Raises:
        AgreementError: As :func:`tost_power`, or a power outside (0, 1).

    Source:
        Phillips 1990, J Pharmacokinet Biopharm 18:137-144. doi:10.1007/BF01063556

    Example:
        >>> patients_needed(margin=0.02, sd=0.04, true_delta=-0.005, power=0.9)
        77
    """
    _check(margin, sd, alpha)
    _check_power(power)
    power_of = tost_power if claim == "equivalence" else noninferiority_power
    return _smallest(lambda n: power_of(n, margin=margin, sd=sd, true_delta=true_delta, alpha=alpha), power)


def sd_upper_limit(sd: float, pilot_patients: int, level: float = 0.8) -> float:
    """Upper limit of a standard deviation that a small pilot has measured: what to plan with.

    Args:
        sd: Standard deviation in the pilot, positive.
        pilot_patients: Patients of the pilot, at least two.
        level: One-sided confidence level in (0, 1).

    Returns:
        The limit; with 80 %, a study planned with it has the promised power or more in four of five cases.

    Raises:
        AgreementError: An SD that is not positive, fewer than two patients, or a level outside (0, 1).

    Source:
        Browne 1995, Stat Med 14(17):1933-1940. doi:10.1002/sim.4780141709

    Example:
        >>> round(sd_upper_limit(0.04, 20), 4)
        0.0471
    """
    check_margin(sd, "sd")
    if pilot_patients < 2 or not 0 < level < 1:
        raise AgreementError(
            f"pilot_patients is {pilot_patients} and level {level}, expected two patients or more and a level in (0, 1)"
        )
    freedom = pilot_patients - 1
    return float(sd * np.sqrt(freedom / stats.chi2.ppf(1 - level, freedom)))


def plan(
    *,
    margin: float = 0.02,
    sd: float | Sequence[float] = 0.04,
    true_delta: float | Sequence[float] = (0.0, -0.005, -0.010),
    alpha: float = 0.025,
    power: float | Sequence[float] = (0.8, 0.9),
    pilot_patients: int | None = None,
    num_readers: int | None = None,
    reader_sd: float | None = None,
    failure_share: float = 0.0,
) -> Plan:
    """Table of sample sizes for a margin and the spread of a pilot.

    Args:
        margin: Largest difference that would not matter, positive.
        sd: Standard deviation of the difference over patients; one or several.
        true_delta: True differences to plan for; negative is worse.
        alpha: One-sided level of each test.
        power: Chances of the claim that are wanted.
        pilot_patients: Patients behind ``sd``; the upper 80 % limit of each SD is then planned with as well.
        num_readers: Readers who will read every patient.
        reader_sd: Spread of single readers (``Panel.reader_spread.reader_sd`` of a pilot with three readers or more);
            with ``num_readers`` the table also says what a claim about readers in general takes.
        failure_share: Share of patients in whom the network is expected to fail outright.

    Returns:
        One row per claim, scope, true difference, SD and power, in that order of nesting.

    Raises:
        AgreementError: A margin, SD or reader SD that is not positive, alpha outside (0, 0.5), power outside (0, 1),
            fewer than two readers or pilot patients, or a share outside [0, 1).

    Source:
        Phillips 1990 and Browne 1995, as above; readers enter with the variance of ``reader_spread``.

    Example:
        >>> table = plan(sd=0.04, true_delta=-0.005, power=0.8)
        >>> [(row.claim, row.n) for row in table.rows]
        [('equivalence', 59), ('noninferiority', 58)]
    """
    sds, deltas, powers = _several(sd), _several(true_delta), _several(power)
    for each in sds:
        _check(margin, each, alpha)
    for each in powers:
        _check_power(each)
    if not 0 <= failure_share < 1:
        raise AgreementError(f"failure_share is {failure_share}, expected a share of patients in [0, 1) such as 0.02")
    if num_readers is not None and num_readers < 2:
        raise AgreementError(f"num_readers is {num_readers}, expected two or more: every patient needs two reads")
    if reader_sd is not None:
        check_margin(reader_sd, "reader_sd")
    if pilot_patients is not None:
        sds = [limit for each in sds for limit in (each, sd_upper_limit(each, pilot_patients))]
    rows = []
    scopes: list[Literal["these readers", "readers in general"]] = ["these readers"]
    if reader_sd is not None and num_readers is not None and num_readers > 2:
        scopes.append("readers in general")
    claims: tuple[Claim, ...] = ("equivalence", "noninferiority")
    for claim in claims:
        for scope in scopes:
            spread = None if scope == "these readers" else reader_sd
            for delta in deltas:
                for each in sds:
                    power_of = _power_function(claim, margin, each, delta, alpha, spread, num_readers)
                    for target in powers:
                        n = _smallest(power_of, target)
                        reached = None if n is None else power_of(n)
                        rows.append(PlanRow(claim, scope, delta, each, margin, alpha, target, n, reached))
    return Plan(
        tuple(rows), margin, alpha, num_readers, reader_sd, _cautions(rows, num_readers, reader_sd, failure_share)
    )


# --- Private helpers ---


def _check(margin: float, sd: float, alpha: float) -> None:
    check_margin(margin)
    check_margin(sd, "sd")
    check_alpha(alpha)


def _check_power(power: float) -> None:
    if not 0 < power < 1:
        raise AgreementError(f"power is {power}, expected a chance in (0, 1) such as 0.8")


def _several(values: float | Sequence[float]) -> list[float]:
    return [float(value) for value in np.atleast_1d(np.asarray(values, dtype=float))]


def _power(error: float, freedom: float, margin: float, delta: float, alpha: float, *, both: bool) -> float:
    """Power when the mean has a true standard error that is estimated with some degrees of freedom."""
    quantile = float(stats.t.ppf(1 - alpha, freedom))
    if not both:
        return float(stats.nct.sf(quantile, freedom, (delta + margin) / error))
    # For an observed error of u * error the interval must fit: |mean| < margin - quantile * u * error.
    width = 9 / np.sqrt(2 * freedom)  # beyond nine standard deviations of u there is nothing
    low, high = max(0.0, 1 - width), min(margin / (quantile * error), 1 + width)
    if high <= low:
        return 0.0
    u = low + (high - low) * (NODES + 1) / 2
    room = margin - quantile * u * error
    inside = stats.norm.cdf((room - delta) / error) - stats.norm.cdf((-room - delta) / error)
    density = stats.chi.pdf(u * np.sqrt(freedom), freedom) * np.sqrt(freedom)
    return float(min(1.0, np.sum(WEIGHTS * inside * density) * (high - low) / 2))


def _power_function(
    claim: Claim,
    margin: float,
    sd: float,
    delta: float,
    alpha: float,
    reader_sd: float | None,
    num_readers: int | None,
) -> Callable[[int], float]:
    """Power by number of patients; with a spread of readers, at the expected degrees of freedom of Satterthwaite."""

    def power_of(n: int) -> float:
        if n < 2:
            return 0.0
        patients, freedom = sd**2 / n, n - 1.0
        total = patients
        if reader_sd is not None and num_readers is not None:
            readers = reader_sd**2 / num_readers
            total = patients + readers
            freedom = total**2 / (patients**2 / (n - 1) + readers**2 / (num_readers - 1))
        return _power(float(np.sqrt(total)), freedom, margin, delta, alpha, both=claim == "equivalence")

    return power_of


def _smallest(power_of: Callable[[int], float], target: float) -> int | None:
    """Smallest n whose power reaches the target."""
    high = 2
    while power_of(high) < target:
        if high > MOST_PATIENTS:
            return None
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= target else (middle, high)
    return high


def _cautions(
    rows: Sequence[PlanRow], num_readers: int | None, reader_sd: float | None, failure_share: float
) -> tuple[str, ...]:
    found = ["the SD must come from a pilot with other patients than those of the study, its failures included"]
    sizes = [row.n for row in rows if row.n is not None]
    if sizes and min(sizes) < MIN_PATIENTS:
        found.append(f"with fewer than {MIN_PATIENTS} patients no claim is made, whatever the power")
    if any(row.n is None for row in rows):
        found.append("where no number is given, no number of patients reaches the power; take more readers or a pilot")
    if failure_share > 0 and sizes:
        missed = (1 - failure_share) ** max(sizes)
        found.append(
            f"with failures in {100 * failure_share:g} % of patients the table is optimistic: in simulations with 2 % "
            "failures 100 patients reached the power that it promises for about 50; take up to twice as many, and "
            f"expect that {max(sizes)} patients show no failure at all in {100 * missed:.0f} % of studies"
        )
    if num_readers == 2:
        found.append("two readers: the claim is about these two, whatever the number of patients")
    elif num_readers is not None and num_readers < 5:
        found.append(f"{num_readers} readers: a claim about readers in general needs five or more")
    if num_readers is not None and num_readers > 2 and reader_sd is None:
        found.append("without reader_sd of a pilot the table is about these readers only")
    return tuple(found)
