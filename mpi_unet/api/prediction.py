"""A prediction, opened: what became of the studies, their masks and measurements."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpi_unet.cohort.nifti import read_mask
from mpi_unet.errors import PredictionError
from mpi_unet.shapes import Mask

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Prediction"]

AGAIN = "predict into this folder again; it goes on where it stopped"


@dataclass(frozen=True)
class Prediction:
    """What ``predict`` left behind.

    Attributes:
        folder: Its output, see docs/predict.md.
    """

    folder: Path

    @property
    def studies(self) -> pd.DataFrame:
        """One row for everything that the input held: what became of it, and why."""
        return self._table("predictions.csv")

    @property
    def measurements(self) -> pd.DataFrame:
        """Volumes, mass, ejection fraction, uptake by segment: one row a study, one more a gated cycle."""
        return self._table("measurements.csv")

    @property
    def flags(self) -> pd.DataFrame:
        """What is unusual about a study, each with its value and limit: what to look at first."""
        return self._table("flags.csv")

    @property
    def worklist(self) -> Path:
        """The page of all studies: open it in a browser."""
        return self.folder / "index.html"

    def mask(self, study_id: str) -> Mask:
        """The outline of one study, (z, y, x).

        Raises:
            PredictionError: It was not segmented.
        """
        path = self.folder / "masks" / f"{study_id}.nii.gz"
        if not path.is_file():
            raise PredictionError(f"{path} is missing; prediction.studies says what became of {study_id} and why")
        return read_mask(path)

    def _table(self, name: str) -> pd.DataFrame:
        from mpi_unet.api.tables import read_table

        return read_table(self.folder / name, AGAIN)
