"""The page of an agreement analysis, for masks of any network or for readers only: ``report.html``."""

from __future__ import annotations

from pathlib import Path

from mpi_unet.cohort.table import Cohort
from mpi_unet.files import write_text
from mpi_unet.report.agreement_section import agreement_part, read_agreement
from mpi_unet.report.page import render

__all__ = ["write_agreement_report"]


def write_agreement_report(
    folder: Path, cohort: Cohort, *, predictions: str | Path | None = None, name: str = "report.html"
) -> Path:
    """Write ``<folder>/report.html`` and ``<folder>/figures/agreement_*.svg`` from ``<folder>/agreement.json``.

    The page is one file that needs no network, and the same files give the same bytes. Its conclusion is that of
    ``agreement.json``, word for word.

    Args:
        folder: Where ``agreement.json`` lies.
        cohort: The cohort that was compared, for images and outlines.
        predictions: Where the masks of the network are: a folder of ``<case_id>.nii.gz``, or the name of a column of
            readers. None looks for ``predictions`` beside the file and for a column with the name of the network.
        name: File name of the page.

    Returns:
        The path of the page.

    Raises:
        AgreementError: ``agreement.json`` is missing, unreadable, or claims what it must not.
        RunError: The folder cannot be written to.
    """
    part = agreement_part(folder, read_agreement(folder), cohort, predictions)
    for drawn in part.drawings:
        write_text(folder / "figures" / f"{drawn.name}.svg", drawn.standalone)
    path = folder / name
    write_text(path, render("agreement.html.jinja", a=part.content))
    return path
