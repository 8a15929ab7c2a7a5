"""Does a network agree with readers as well as the readers agree with one another?

*P0* is the mean score of the network against each reader, *Pn* that of the readers against one another, both averaged
within a patient and then over patients. **Delta** is the network's part minus the readers': negative is worse,
whichever way the score runs. It needs two readers or more on every patient; a comparison with one reader only measures
how like that reader the network draws. Pairs are scored directly, never through a consensus, so that nobody is compared
with a mask that contains their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Real

from mpi_unet.agreement.equivalence import EquivalenceTest, Verdict, tost_paired, verdict_of
from mpi_unet.agreement.estimate import (
    DEGENERATE,
    SAME,
    Estimate,
    check_alpha,
    check_margin,
    check_patients,
    mean_estimate,
)
from mpi_unet.agreement.failures import FailureRate, failure_rate
from mpi_unet.agreement.members import LeaveOneOut, PairAgreement, leave_one_out, pairwise
from mpi_unet.agreement.panel_scores import Better, Missing, PanelScores, average_table, panel_scores
from mpi_unet.agreement.reader_spread import ReaderSpread, reader_spread
from mpi_unet.agreement.williams import WilliamsIndex, chalana_kim_of, williams_of
from mpi_unet.errors import AgreementError
from mpi_unet.evaluation.intervals import Interval, bootstrap_t_interval

__all__ = ["Interchangeability", "Panel", "panel", "panel_of_cases"]

GAMMA_SHARE = 0.10
"""Extra disagreement, as a share of that between readers, up to which a network may take a reader's place."""

FAILURE_DROP = 0.10
"""A patient whose network score lies farther than this below the readers' own counts as a failure (scores in 0..1)."""


@dataclass(frozen=True)
class Interchangeability:
    """Extra disagreement when one of two readers is replaced by the network: minus Delta.

    ``margin`` is a tenth of ``disagreement``, the mean disagreement between readers; ``p_value`` tests "less extra
    disagreement than that" and takes into account that the margin itself was estimated from the same patients;
    ``interchangeable`` is that test at the one-sided level of the analysis and nothing else. The interval of ``value``
    takes the margin for known, so its upper end may lie on the other side of ``margin`` when the test is close.
    """

    value: float
    interval: Interval | None
    n: int
    method: str
    disagreement: float
    margin: float
    p_value: float | None
    interchangeable: bool


@dataclass(frozen=True)
class Panel:
    """Agreement of a network with readers beside that of the readers with one another, for one score.

    ``verdict`` is what the t interval says about the margin and nothing more: the rules of a report (enough patients,
    bootstrap-t in accord, margin fixed beforehand) come on top. ``reader_interval`` is the interval for readers in
    general, the others hold for these readers. Per patient, ``p0``, ``pn`` and ``d`` belong to ``patients``. None
    stands for what cannot be computed; ``notes`` say why.
    """

    readers: tuple[str, ...]
    better: Better
    alpha: float
    margin: float | None
    n: int
    n_left_out: int
    P0: Estimate | None
    Pn: Estimate | None
    delta: Estimate | None
    delta_bootstrap_t: Estimate | None
    reader_interval: Interval | None
    reader_spread: ReaderSpread | None
    equivalence: EquivalenceTest | None
    p_noninferior: float | None
    p_tost: float | None
    attained_margin: float | None
    relative_margin: float | None
    gamma: Interchangeability | None
    williams: WilliamsIndex | None
    chalana_kim: Estimate | None
    leave_one_out: tuple[LeaveOneOut, ...]
    pairwise: tuple[PairAgreement, ...]
    failures: FailureRate | None
    patients: tuple[str, ...]
    p0: tuple[float, ...] | None
    pn: tuple[float, ...] | None
    d: tuple[float, ...] | None
    verdict: Verdict
    notes: tuple[str, ...]


def panel(
    network: Real[np.ndarray, "patients readers"] | None,
    pairs: Real[np.ndarray, "patients readers readers"],
    readers: Sequence[str],
    *,
    margin: float | None = None,
    alpha: float = 0.025,
    seed: int = 0,
    resamples: int = 10_000,
    better: Better = "higher",
    patients: Sequence[str] | None = None,
    missing: Missing = "complete",
    failure_drop: float | None = None,
) -> Panel:
    """Compare how a network agrees with readers with how the readers agree with one another.

    Delta near 0 says "like one more reader". Read it by its interval against the margin, not by whether the interval
    holds 0: with few patients it nearly always does.

    Args:
        network: Score of the network against each reader, one patient per row; None to look at the readers alone.
        pairs: Score of each pair of readers, symmetric; the diagonal is ignored (see ``pairs_matrix``).
        readers: Names of the readers, in the order of the columns.
        margin: Largest difference that would not matter, in the unit of the score; without it there is no verdict.
        alpha: One-sided level of each test; the intervals have the level ``1 - 2 * alpha``.
        seed: Seed of the bootstrap.
        resamples: Resamples of the bootstrap.
        better: "lower" for distances; Delta is then Pn - P0, so that negative is worse in any case.
        patients: Names of the patients, one per row; a name that occurs twice is refused.
        missing: A reader who did not read a patient is NaN in the scores. "complete" uses the patients that all read,
            "available" those that two or more read, each with the readers there are (a check of the former).
        failure_drop: How far p0 must lie on the wrong side of pn to count as a failure; 0.10 for scores where higher is
            better, needed for distances if failures are to be counted.

    Returns:
        The comparison; ``n_left_out`` counts the patients that were not used. With one reader, without a network or
        without patients, what cannot be said is None.

    Raises:
        AgreementError: Names that do not fit the arrays, a patient or reader named twice, an infinite score, pairs that
            are not symmetric, a margin that is not positive, or an alpha outside (0, 0.5).

    Source:
        Delta with its interval is the statistic of FDA's regulatory science tool SegAgree: Hu et al. 2025, J Med
        Imaging 12(5):055003. doi:10.1117/1.JMI.12.5.055003. Interchangeability: Obuchowski 2001, Stat Med
        20(19):2845-2863; Obuchowski et al. 2014, Acad Radiol 21(11):1483-1489.

    Example:
        Two patients, two readers: p0 is 0.8 and 0.9, pn is 0.85 and 0.85.

        >>> pairs = np.array([[[1.0, 0.85], [0.85, 1.0]], [[1.0, 0.85], [0.85, 1.0]]])
        >>> result = panel(np.array([[0.7, 0.9], [0.9, 0.9]]), pairs, ["A", "B"])
        >>> round(result.P0.value, 6), round(result.Pn.value, 6), round(abs(result.delta.value), 6), result.verdict
        (0.85, 0.85, 0.0, 'not_assessable')
    """
    check_alpha(alpha)
    if margin is not None:
        check_margin(margin)
    if failure_drop is not None:
        check_margin(failure_drop, "failure_drop")
    names = check_patients(patients, len(pairs))
    _check_readers(readers, network, pairs)
    scores = panel_scores(network, pairs, missing)
    level = 1 - 2 * alpha
    sign = 1.0 if better == "higher" else -1.0
    p0, pn = scores.p0(), scores.pn()
    d = sign * (p0 - pn) if p0 is not None and pn is not None else None
    compared = d is not None and d.size > 0
    testable = d is not None and d.size > 1
    delta = mean_estimate(d, level) if d is not None and d.size > 0 else None
    test = tost_paired(d, margin=margin, alpha=alpha) if d is not None and testable and margin is not None else None
    spread = _spread(scores, d, sign, level) if d is not None and testable else None
    gamma = _gamma(d, pn, level, better) if d is not None and pn is not None and compared else None
    interval = None if delta is None else delta.interval
    return Panel(
        readers=tuple(readers),
        better=better,
        alpha=float(alpha),
        margin=margin,
        n=int(scores.rows.size),
        n_left_out=scores.n_left_out,
        P0=_mean(p0, level),
        Pn=_mean(pn, level),
        delta=delta,
        delta_bootstrap_t=None if d is None or not testable else _bootstrap_t(d, level, resamples, seed),
        reader_interval=None if spread is None else spread.interval,
        reader_spread=spread,
        equivalence=test,
        p_noninferior=None if test is None else test.p_lower,
        p_tost=None if test is None else test.p_value,
        attained_margin=None if interval is None else max(abs(interval.low), abs(interval.high)),
        relative_margin=_relative(margin, pn, better),
        gamma=gamma,
        williams=williams_of(scores, level, better) if compared else None,
        chalana_kim=chalana_kim_of(scores, level, better) if compared else None,
        leave_one_out=leave_one_out(scores, readers, sign, level),
        pairwise=pairwise(scores, readers, level),
        failures=_failures(p0, pn, better, failure_drop),
        patients=tuple(names[row] for row in scores.rows),
        p0=_plain(p0),
        pn=_plain(pn),
        d=_plain(d),
        verdict=verdict_of(interval, margin),
        notes=_notes(scores, d, margin),
    )


def panel_of_cases(
    network: Real[np.ndarray, "cases readers"] | None,
    pairs: Real[np.ndarray, "cases readers readers"],
    readers: Sequence[str],
    patients: Sequence[str],
    *,
    margin: float | None = None,
    alpha: float = 0.025,
    seed: int = 0,
    resamples: int = 10_000,
    better: Better = "higher",
    missing: Missing = "complete",
    failure_drop: float | None = None,
) -> Panel:
    """The panel when a patient may have several cases (rest and stress, gates): averages them first.

    A case that not all readers read is left out when the patient has another one that all did.

    Args:
        network: Score of the network against each reader, one case per row; None to look at the readers alone.
        pairs: Score of each pair of readers, symmetric; the diagonal is ignored.
        readers: Names of the readers, in the order of the columns.
        patients: The patient of each case.
        margin: See :func:`panel`, as all that follow.
        alpha: One-sided level.
        seed: Seed of the bootstrap.
        resamples: Resamples of the bootstrap.
        better: "lower" for distances.
        missing: Which patients are used when a reader did not read all of them.
        failure_drop: How far p0 must lie on the wrong side of pn to count as a failure.

    Returns:
        As :func:`panel`; ``n`` counts patients.

    Raises:
        AgreementError: As :func:`panel`.

    Example:
        >>> pairs = np.full((3, 2, 2), 0.9)
        >>> panel_of_cases(np.full((3, 2), 0.9), pairs, ["A", "B"], ["P1", "P1", "P2"]).n
        2
    """
    _check_readers(readers, network, pairs)
    averaged, averaged_pairs, names = average_table(network, pairs, patients)
    return panel(
        averaged,
        averaged_pairs,
        readers,
        margin=margin,
        alpha=alpha,
        seed=seed,
        resamples=resamples,
        better=better,
        patients=names,
        missing=missing,
        failure_drop=failure_drop,
    )


# --- Private helpers ---


def _check_readers(readers: Sequence[str], network: np.ndarray | None, pairs: np.ndarray) -> None:
    shape = None if network is None else network.shape
    expected = (len(pairs), len(readers))
    if pairs.shape[1:] != (len(readers),) * 2 or shape not in (None, expected):
        raise AgreementError(
            f"readers names {len(readers)} reader(s) for network of shape {shape} and pairs of shape {pairs.shape}; "
            f"expected {expected} and {(len(pairs), len(readers), len(readers))}: one column per reader"
        )
    if len(set(readers)) != len(readers) or "network" in readers or not readers:
        raise AgreementError(
            f"readers is {list(readers)}, expected at least one name, each once and none of them 'network'; "
            "a second read by the same reader is not a further reader"
        )


def _mean(values: np.ndarray | None, level: float) -> Estimate | None:
    return None if values is None or values.size == 0 else mean_estimate(values, level)


def _plain(values: np.ndarray | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)


def _bootstrap_t(d: np.ndarray, level: float, resamples: int, seed: int) -> Estimate:
    interval = bootstrap_t_interval(d, level, resamples=resamples, seed=seed)
    return Estimate(float(d.mean()), interval, int(d.size), "mean over patients")


def _disagreement(pn: np.ndarray, better: Better) -> np.ndarray:
    return 1 - pn if better == "higher" else pn


def _relative(margin: float | None, pn: np.ndarray | None, better: Better) -> float | None:
    """The margin as a fraction of the mean disagreement between readers."""
    if margin is None or pn is None or pn.size == 0:
        return None
    between = float(_disagreement(pn, better).mean())
    return float(margin / between) if between > 0 else None


def _gamma(d: np.ndarray, pn: np.ndarray, level: float, better: Better) -> Interchangeability:
    extra, between = mean_estimate(-d, level), _disagreement(pn, better)
    margin = GAMMA_SHARE * float(between.mean())
    p_value = None
    if d.size > 1 and margin > 0:  # "extra < share * between" is one statement about the mean of the difference of both
        excess = GAMMA_SHARE * between + d
        p_value = tost_paired(excess, margin=np.finfo(float).tiny, alpha=(1 - level) / 2).p_lower
    passes = p_value is not None and p_value < (1 - level) / 2
    return Interchangeability(
        extra.value, extra.interval, extra.n, extra.method, float(between.mean()), margin, p_value, passes
    )


def _spread(scores: PanelScores, d: np.ndarray, sign: float, level: float) -> ReaderSpread | None:
    if scores.num_readers < 3:
        return None
    without = []
    for reader in range(scores.num_readers):
        rest = scores.without_reader(reader)
        p0, pn = rest.p0(), rest.pn()
        if p0 is None or pn is None or p0.size == 0:
            return None
        without.append(sign * float((p0 - pn).mean()))
    return reader_spread(d, np.array(without), level=level)


def _failures(p0: np.ndarray | None, pn: np.ndarray | None, better: Better, drop: float | None) -> FailureRate | None:
    if drop is None and better == "higher":
        drop = FAILURE_DROP
    if p0 is None or pn is None or drop is None or p0.size == 0:
        return None
    worse = pn - p0 if better == "higher" else p0 - pn
    definition = f"p0 < pn - {drop:.2f}" if better == "higher" else f"p0 > pn + {drop:g}"
    return failure_rate(np.round(worse - drop, 9) > 0, definition=definition)  # exactly at the limit is none


def _notes(scores: PanelScores, d: np.ndarray | None, margin: float | None) -> tuple[str, ...]:
    notes = []
    if scores.num_readers < 2:
        notes.append("agreement between readers was not measured: there is one reader")
    if scores.network is None:
        notes.append("readers only: there is no network to compare")
    if scores.rows.size == 0:
        notes.append("no patient has all scores that are needed")
    elif scores.rows.size == 1:
        notes.append("one patient has no spread: there is no interval")
    if d is not None and d.size > 1 and np.ptp(d) <= SAME:
        notes.append(DEGENERATE)
    if margin is None:
        notes.append("no margin was given: there is an interval and no verdict")
    if scores.num_readers == 2:
        notes.append("two readers: nothing can be said about readers in general")
    return tuple(notes)
