"""What a bundle says about training without saying whose images they were.

Patients and cases are numbered in the order of their ids. What stays are digests of pixels: whoever has an image of
training can tell that it is one, nobody else learns anything from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mpi_unet.cohort.domain import Domain
from mpi_unet.cohort.fold import SIDES, Fold, Split
from mpi_unet.evaluation.quality import QualityRecord

__all__ = ["NO_KEY", "anonymous_domain", "anonymous_quality", "anonymous_split", "numbered"]

NO_KEY = "none: patients are numbered"
"""In place of the fingerprint of a key of pseudonyms. No cohort has it, so nobody is taken for one of training."""


def numbered(ids: Iterable[str], word: str) -> dict[str, str]:
    """Each id to a word with a number, in the order of the ids.

    Example:
        >>> numbered(["P7", "P2", "P7"], "patient")
        {'P2': 'patient 1', 'P7': 'patient 2'}
    """
    distinct = sorted(set(ids))
    width = len(str(len(distinct)))
    return {one: f"{word} {number:0{width}d}" for number, one in enumerate(distinct, start=1)}


def anonymous_domain(domain: Domain, patients: dict[str, str]) -> Domain:
    """A description of training images without ids.

    Args:
        domain: The description.
        patients: Id to number.
    """
    images = {digest: patients[patient] for digest, patient in sorted(domain.images.items())}
    return replace(domain, images=images, pseudonym_key=NO_KEY)


def anonymous_split(split: Split, patients: dict[str, str]) -> Split:
    """A division without ids; where images were divided, these are numbered.

    Args:
        split: The division.
        patients: Id to number.
    """
    units = patients
    if split.unit == "image":
        units = numbered((unit for fold in split.folds for side in SIDES for unit in getattr(fold, side)), "image")
    folds = tuple(
        Fold(*(tuple(sorted(units[unit] for unit in getattr(fold, side))) for side in SIDES)) for fold in split.folds
    )
    return replace(split, folds=folds)


def anonymous_quality(quality: QualityRecord, patients: dict[str, str]) -> QualityRecord:
    """What is known about masks of training, without ids.

    Args:
        quality: The record.
        patients: Id to number.
    """
    names = numbered((case.case_id for case in quality.cases), "case")
    cases = tuple(
        replace(case, case_id=names[case.case_id], patient_id=patients[case.patient_id]) for case in quality.cases
    )
    return replace(quality, cases=cases)
