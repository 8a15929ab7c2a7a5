"""What pages and DICOM objects say about the model that outlined a study; small, for it goes to other processes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ModelFacts"]


@dataclass(frozen=True)
class ModelFacts:
    """A trained model, in words.

    Attributes:
        name: Of its run.
        key: The same text for models that give the same probabilities.
        threshold: Probability from which on a voxel is LV.
        num_networks: How many speak.
        label: What it outlines.
        trained_on: How many cases of how many patients, and the name of their cohort.
    """

    name: str
    key: str
    threshold: float
    num_networks: int
    label: str
    trained_on: str
