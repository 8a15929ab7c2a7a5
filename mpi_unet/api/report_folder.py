"""A folder that holds a report: its page and the drawings on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi_unet.api.drawings import Drawings

__all__ = ["ReportFolder"]


@dataclass(frozen=True)
class ReportFolder:
    """What a run and an evaluation have in common.

    Attributes:
        folder: Where the report lies.
    """

    folder: Path

    @property
    def report(self) -> Path:
        """The page: open it in a browser."""
        return self.folder / "report.html"

    @property
    def drawings(self) -> tuple[str, ...]:
        """Names of the drawings of the report."""
        from mpi_unet.api.drawings import names_of

        return names_of(self.folder / "figures")

    def show(self, *names: str) -> Drawings:
        """Some drawings of the report, side by side.

        Args:
            names: Of :attr:`drawings`.

        Raises:
            RunError: There is no such drawing.
        """
        from mpi_unet.api.drawings import drawings_of

        return drawings_of(self.folder / "figures", names)
