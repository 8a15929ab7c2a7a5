"""Do the network's probabilities mean what they say? Calibration within a region of interest.

Of the voxels given 0.8, four in five should be LV. On the whole image nearly every voxel is background and easy, which
makes any network look calibrated; so the region is mandatory, and :func:`region_of_interest` makes it of the readers'
outlines. The errors of single voxels of a patient go together: values are per patient, and averaged over patients. The
calibration of a segmentation is a description; no claim rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import ndimage

from mpi_unet.agreement.consensus import stacked_masks
from mpi_unet.agreement.estimate import Estimate, check_level, mean_estimate
from mpi_unet.errors import AgreementError

__all__ = [
    "Calibration",
    "MeanCalibration",
    "calibration",
    "mean_calibration",
    "patient_calibration",
    "region_of_interest",
]

NUM_BINS = 15
"""Usual number of bins; the expected calibration error depends on it."""

DILATION_VOXELS = 2
"""How far the region reaches beyond the union of the outlines."""

SURE = 1e-7
"""Probabilities are kept this far from 0 and 1 in the log loss, which is infinite for a single sure mistake."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration of one patient: ``estimate`` is the expected calibration error (ECE).

    ``mce`` is the error of the worst bin, ``brier`` the mean squared error of the probability, ``log_loss`` in nats. In
    each bin: ``voxels``, mean probability and share of LV (NaN in an empty bin). All NaN in an empty region.
    """

    estimate: float
    mce: float
    brier: float
    log_loss: float
    num_voxels: int
    method: str
    edges: Float[np.ndarray, " edges"]
    voxels: Int[np.ndarray, " bins"]
    mean_probability: Float[np.ndarray, " bins"]
    observed_share: Float[np.ndarray, " bins"]


@dataclass(frozen=True, eq=False)
class MeanCalibration:
    """Means over patients; the curve averages the patients' shares in each bin, ``n_in_bin`` patients having voxels.

    ``observed`` holds the same shares with their t intervals over those patients; None in a bin that nobody has.
    """

    ece: Estimate
    mce: Estimate
    brier: Estimate
    n: int
    n_undefined: int
    method: str
    edges: Float[np.ndarray, " edges"]
    mean_probability: Float[np.ndarray, " bins"]
    observed_share: Float[np.ndarray, " bins"]
    n_in_bin: Int[np.ndarray, " bins"]
    voxels: Int[np.ndarray, " bins"]
    observed: tuple[Estimate | None, ...]


def region_of_interest(
    masks: Mapping[str, Shaped[np.ndarray, ...]], *, dilation_voxels: int = DILATION_VOXELS
) -> Bool[np.ndarray, ...]:
    """Where calibration is judged: the union of the readers' outlines, and some voxels around it.

    Args:
        masks: Bool mask of each reader (one is enough) on one grid.
        dilation_voxels: Steps across voxel faces beyond the union.

    Returns:
        A mask; empty when all outlines are.

    Raises:
        AgreementError: No mask, masks that are not bool or differ in shape, or a negative dilation.

    Example:
        >>> region_of_interest({"A": np.array([[False, True, False, False]])}, dilation_voxels=1)
        array([[ True,  True,  True, False]])
    """
    if dilation_voxels < 0:
        raise AgreementError(f"dilation_voxels is {dilation_voxels}, expected 0 or more")
    pair = masks if len(masks) != 1 else {"": next(iter(masks.values())), **masks}  # of one reader the union is himself
    union = np.asarray(stacked_masks(pair)[1].any(axis=0))
    return np.asarray(ndimage.binary_dilation(union, iterations=dilation_voxels)) if dilation_voxels else union


def calibration(
    probability: Shaped[np.ndarray, "..."],
    target: Shaped[np.ndarray, "..."],
    region: Shaped[np.ndarray, "..."],
    *,
    num_bins: int = NUM_BINS,
) -> Calibration:
    """Calibration of the probabilities of one patient within a region.

    Args:
        probability: Probability of LV in [0, 1].
        target: Bool mask of the reader or consensus on the same grid.
        region: Bool mask of the voxels to judge, e.g. :func:`region_of_interest`; the whole image must be asked for
            with a mask that is True everywhere.
        num_bins: Bins of equal width; a probability on an edge belongs to the bin above, 1 to the last.

    Returns:
        The errors; NaN when the region is empty.

    Raises:
        AgreementError: Masks that are not bool, shapes that differ, a probability in the region that is NaN or outside
            [0, 1], or no bins.

    Source:
        Naeini et al. 2015, AAAI 29(1):2901-2907. doi:10.1609/aaai.v29i1.9602; Brier 1950, Mon Weather Rev 78:1-3.
        doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2

    Example:
        Four voxels given 0.75, three of them LV: calibrated.

        >>> target = np.array([True, True, True, False])
        >>> result = calibration(np.full(4, 0.75), target, np.ones(4, dtype=bool), num_bins=2)
        >>> result.estimate, result.brier
        (0.0, 0.1875)
    """
    if num_bins < 1:
        raise AgreementError(f"num_bins is {num_bins}, expected at least 1")
    p, y = _checked(probability, target, region)
    edges = np.linspace(0, 1, num_bins + 1)
    place = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, num_bins - 1)
    voxels = np.bincount(place, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        mean_probability = np.bincount(place, weights=p, minlength=num_bins) / voxels
        observed = np.bincount(place, weights=y, minlength=num_bins) / voxels
    gaps = np.abs(mean_probability - observed)
    method = f"expected calibration error, {num_bins} bins of equal width, within a region of interest"
    if not p.size:
        nothing = (math.nan,) * 4
        return Calibration(*nothing, 0, method, edges, voxels, mean_probability, observed)
    sure = np.clip(p, SURE, 1 - SURE)
    return Calibration(
        estimate=float(np.nansum(gaps * voxels) / p.size),
        mce=float(np.nanmax(gaps)),
        brier=float(np.square(p - y).mean()),
        log_loss=float(-np.where(y == 1, np.log(sure), np.log1p(-sure)).mean()),
        num_voxels=int(p.size),
        method=method,
        edges=edges,
        voxels=voxels,
        mean_probability=mean_probability,
        observed_share=observed,
    )


def patient_calibration(parts: Sequence[Calibration]) -> Calibration:
    """Calibration of one patient from several results: cases, or one case against several readers.

    Args:
        parts: Results with the same bins, each of which counts once.

    Returns:
        The means of errors and shares over the parts that have voxels (in the region, in a bin); ``voxels`` are summed.

    Raises:
        AgreementError: No part, or parts with different bins.

    Example:
        One case against a reader who marked the voxel and one who did not.

        >>> p, region = np.array([0.75]), np.array([True])
        >>> parts = [calibration(p, np.array([marked]), region, num_bins=2) for marked in (True, False)]
        >>> patient_calibration(parts).estimate, patient_calibration(parts).observed_share.tolist()
        (0.5, [nan, 0.5])
    """
    _check_bins(parts)
    defined = [part for part in parts if part.num_voxels]
    if not defined or len(parts) == 1:
        return parts[0]
    return Calibration(
        estimate=float(np.mean([part.estimate for part in defined])),
        mce=float(np.mean([part.mce for part in defined])),
        brier=float(np.mean([part.brier for part in defined])),
        log_loss=float(np.mean([part.log_loss for part in defined])),
        num_voxels=sum(part.num_voxels for part in defined),
        method=f"mean of several {defined[0].method}",
        edges=defined[0].edges,
        voxels=np.sum([part.voxels for part in defined], axis=0),
        mean_probability=_mean_in_bins(defined, "mean_probability"),
        observed_share=_mean_in_bins(defined, "observed_share"),
    )


def mean_calibration(patients: Sequence[Calibration], *, level: float = 0.95) -> MeanCalibration:
    """Mean calibration errors over patients, each patient once.

    Args:
        patients: One result per patient; average the cases of a patient first.
        level: Confidence level of the t intervals, in (0, 1).

    Returns:
        Means with intervals. A patient whose region was empty is undefined and counted, not averaged.

    Raises:
        AgreementError: No patient with a region, results with different bins, or a level outside (0, 1).

    Example:
        >>> one = calibration(np.array([0.75]), np.array([True]), np.array([True]), num_bins=2)
        >>> mean_calibration([one, one]).ece.value
        0.25
    """
    check_level(level)
    defined = [patient for patient in patients if patient.num_voxels]
    if not defined:
        raise AgreementError(f"none of {len(patients)} patients has a voxel in the region of interest")
    _check_bins(patients)
    filled = np.stack([patient.voxels > 0 for patient in defined])
    shares = np.stack([patient.observed_share for patient in defined])
    return MeanCalibration(
        ece=mean_estimate(np.array([patient.estimate for patient in defined]), level),
        mce=mean_estimate(np.array([patient.mce for patient in defined]), level),
        brier=mean_estimate(np.array([patient.brier for patient in defined]), level),
        n=len(defined),
        n_undefined=len(patients) - len(defined),
        method=f"mean over patients of the {defined[0].method}",
        edges=defined[0].edges,
        mean_probability=_mean_in_bins(defined, "mean_probability"),
        observed_share=_mean_in_bins(defined, "observed_share"),
        n_in_bin=filled.sum(axis=0),
        voxels=np.sum([patient.voxels for patient in defined], axis=0),
        observed=tuple(
            mean_estimate(shares[there, place], level) if there.any() else None for place, there in enumerate(filled.T)
        ),
    )


# --- Private helpers ---


def _check_bins(results: Sequence[Calibration]) -> None:
    bins = {result.voxels.size for result in results}
    if len(bins) != 1:
        found = ", ".join(map(str, sorted(bins))) or "no"
        raise AgreementError(f"results have {found} bins, expected one number for all")


def _mean_in_bins(results: Sequence[Calibration], name: str) -> Float[np.ndarray, " bins"]:
    """Mean of a value of each bin over the results that have voxels there; NaN where none has."""
    filled = np.stack([result.voxels > 0 for result in results])
    values = np.where(filled, np.stack([getattr(result, name) for result in results]), 0.0)
    count = filled.sum(axis=0)
    return np.divide(values.sum(axis=0), count, out=np.full(count.size, np.nan), where=count > 0)


def _checked(
    probability: np.ndarray, target: np.ndarray, region: np.ndarray
) -> tuple[Float[np.ndarray, " voxels"], Float[np.ndarray, " voxels"]]:
    p, y, roi = np.asarray(probability), np.asarray(target), np.asarray(region)
    for name, mask in (("target", y), ("region", roi)):
        if mask.dtype != bool:
            raise AgreementError(f"{name} has dtype {mask.dtype}, expected bool; compare with the label or a threshold")
    if not p.shape == y.shape == roi.shape:
        raise AgreementError(f"probability {p.shape}, target {y.shape} and region {roi.shape} must lie on one grid")
    inside = p[roi].astype(np.float64)
    wrong = int(np.count_nonzero(~((inside >= 0) & (inside <= 1))))
    if wrong:
        raise AgreementError(
            f"{wrong} of {inside.size} probabilities in the region are NaN or outside 0..1; apply the sigmoid or "
            "softmax exactly once before"
        )
    return inside, y[roi].astype(np.float64)
