"""One case, of a cohort or as a run saw it: its image, everyone's outlines, its scores, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mpi_unet.cohort.nifti import Volume, read_mask
from mpi_unet.shapes import Mask

if TYPE_CHECKING:
    import pandas as pd

    from mpi_unet.api.outlined import Outline, Outlined
    from mpi_unet.api.pictures import Order, Picture
    from mpi_unet.api.run import Run
    from mpi_unet.cohort.table import Cohort

__all__ = ["RunCase", "plot_case"]


def plot_case(
    cohort: Cohort,
    case_id: str,
    *,
    readers: Sequence[str] | None = None,
    masks: Mapping[str, Outline] | None = None,
    frames: Sequence[int] | None = None,
    order: Order = "anatomical",
    num_frames: int = 8,
) -> Picture:
    """Slices (or views) of one case of a cohort with the outlines of its readers.

    Args:
        cohort: The cohort.
        case_id: The case.
        readers: Whose outlines; None for everybody who outlined this case.
        masks: Further outlines by name, (z, y, x), as masks or as shares of voxels that lie inside; one that is called
            ``network`` is drawn as the network's.
        frames: Which frames, from 0; None chooses.
        order: Whether frames that are chosen come ``worst`` first - most pixels in only one of two outlines, the
            network's (else the last) and the first reader's - or evenly from one end of the heart to the other.
        num_frames: How many are chosen at most.

    Returns:
        A matplotlib figure.

    Raises:
        CohortError: There is no such case, reader or frame, or a mask does not lie on the image.
    """
    from mpi_unet.api.outlined import outlined_case
    from mpi_unet.api.pictures import case_figure

    case = cohort.case(case_id)
    names = tuple(case.labels) if readers is None else tuple(readers)
    by_readers = {name: case.read_mask(name) for name in names}
    return case_figure(
        outlined_case(cohort, case, by_readers, masks), frames=frames, order=order, num_frames=num_frames
    )


@dataclass(frozen=True)
class RunCase:
    """A case as a run saw it: segmented by the network that had not learnt the patient.

    Attributes:
        run: The run.
        case_id: The case.
    """

    run: Run
    case_id: str

    @property
    def patient_id(self) -> str:
        """The patient."""
        return self.run.cohort.case(self.case_id).patient_id

    @cached_property
    def image(self) -> Volume:
        """Intensities (z, y, x) and their geometry."""
        return self.run.cohort.case(self.case_id).read_image()

    @cached_property
    def masks(self) -> dict[str, Mask]:
        """Outline by name, (z, y, x): the reader of the training first, the other readers, then ``network``.

        Raises:
            CohortError: A file is missing or cannot be used.
        """
        case, own = self.run.cohort.case(self.case_id), self.run.reader
        readers = [own, *(reader for reader in case.labels if reader != own)]
        return {reader: case.read_mask(reader) for reader in readers} | {
            "network": read_mask(self.run.folder / "predictions" / f"{self.case_id}.nii.gz")
        }

    @property
    def scores(self) -> pd.DataFrame:
        """The rows of ``run.scores`` that belong to the case."""
        scores = self.run.scores
        return scores[scores["case_id"] == self.case_id].reset_index(drop=True)

    def outlined(self, readers: Sequence[str] | None = None) -> Outlined:
        """The case with the outlines of some readers and of the network, ready to be drawn.

        Args:
            readers: Whose outlines; None for all.

        Raises:
            CohortError: A reader did not outline the case, or a file cannot be used.
        """
        from mpi_unet.api.outlined import outlined_case

        case = self.run.cohort.case(self.case_id)
        names = [name for name in self.masks if name != "network"] if readers is None else list(readers)
        by_readers = {name: self.masks[name] if name in self.masks else case.read_mask(name) for name in names}
        return outlined_case(self.run.cohort, case, by_readers, {"network": self.masks["network"]})

    def plot(
        self,
        *,
        readers: Sequence[str] | None = None,
        frames: Sequence[int] | None = None,
        order: Order = "worst",
        num_frames: int = 8,
    ) -> Picture:
        """Slices (or views) with the outlines of readers and network.

        Args:
            readers: Whose outlines beside the network's; None for all.
            frames: Which frames, from 0; None chooses.
            order: ``worst``: those first in which most pixels are outlined by the network alone or by the first reader
                alone; ``anatomical``: evenly from one end of the heart to the other.
            num_frames: How many are chosen at most.

        Returns:
            A matplotlib figure; above each frame stands its Dice of network and first reader.

        Raises:
            CohortError: There is no such reader or frame, or a file cannot be used.
        """
        from mpi_unet.api.pictures import case_figure

        return case_figure(self.outlined(readers), frames=frames, order=order, num_frames=num_frames)
