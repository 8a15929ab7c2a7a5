"""Masks of a cohort compared: anyone's predictions with the readers, or the readers with one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError, listing, nearest
from mpi_unet.reader_study.options import Network, StudyOptions
from mpi_unet.reader_study.study import AGREEMENT, newest_change, reader_study
from mpi_unet.report.agreement import write_agreement_report

__all__ = ["compare_masks", "compare_readers", "network_of"]

SUFFIXES = (".nii.gz", ".nii")


def compare_masks(
    cohort: Cohort,
    predictions: str,
    output: Path,
    options: StudyOptions,
    *,
    name: str | None = None,
    trained_on: Sequence[str] = (),
    allow_missing: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Compare anyone's masks with the readers of a cohort.

    Args:
        cohort: The cohort.
        predictions: A folder of ``<case_id>.nii.gz``, or a column of readers.
        output: Folder for the result.
        options: Options of the study.
        name: What the report calls the masks.
        trained_on: Readers whose outlines the network learnt.
        allow_missing: Leave out cases without a mask, and count them.

    Returns:
        Content of ``agreement.json``, and the path of the report.

    Raises:
        AgreementError: There are no such masks, or they cannot be compared.
        CohortError: Masks that cannot be used.
        RunError: The folder cannot be written to.
    """
    network = network_of(cohort, predictions, name, trained_on)
    _refuse_foreign(output)
    document = reader_study(
        output,
        cohort,
        cohort.cases,
        network,
        options,
        mode="predictions",
        created=options.created or newest_change(network.masks.values()),
        allow_missing=allow_missing,
    )
    return document, write_agreement_report(output, cohort, predictions=predictions)


def compare_readers(cohort: Cohort, output: Path, options: StudyOptions) -> tuple[dict[str, Any], Path]:
    """Compare the readers of a cohort with one another; arguments and errors as for :func:`compare_masks`."""
    _refuse_foreign(output)
    document = reader_study(
        output,
        cohort,
        cohort.cases,
        None,
        options,
        mode="readers_only",
        created=options.created or newest_change(file for case in cohort.cases for file in case.labels.values()),
    )
    return document, write_agreement_report(output, cohort)


def network_of(cohort: Cohort, predictions: str, name: str | None = None, trained_on: Sequence[str] = ()) -> Network:
    """The masks that a folder or a column of a cohort holds.

    Raises:
        AgreementError: There is no such folder or column, no file fits a case, or nobody is called what ``trained_on``
            says.
    """
    unknown = [reader for reader in trained_on if reader not in cohort.readers]
    if unknown:
        raise AgreementError(
            f"trained_on names {', '.join(unknown)}, who did not outline {cohort.root}; readers there: "
            f"{', '.join(cohort.readers)}{nearest(unknown[0], cohort.readers)}"
        )
    if predictions in cohort.readers:
        masks = {case.case_id: case.labels[predictions] for case in cohort.cases if predictions in case.labels}
        return Network(
            name or predictions, f"column {predictions} of the cohort", masks, predictions, tuple(trained_on)
        )
    folder = Path(predictions)
    if not folder.is_dir():
        raise AgreementError(
            f"predictions={predictions} is neither a folder nor a reader of {cohort.root}; readers there: "
            f"{', '.join(cohort.readers) or 'none'}{nearest(predictions, cohort.readers)}"
        )
    masks = {case.case_id: file for case in cohort.cases if (file := _file_of(folder, case)) is not None}
    if not masks:
        files = sorted(file.name for file in folder.iterdir() if file.name.endswith(SUFFIXES))
        raise AgreementError(
            f"no file in {folder} belongs to a case of {cohort.root}; expected names such as "
            f"{cohort.cases[0].case_id}.nii.gz, found:\n{listing(files[:5] or ['no NIfTI file'])}\nRename the files to "
            "the ids of the cases"
        )
    return Network(name or folder.resolve().name, "masks from a folder", masks, None, tuple(trained_on))


# --- Private helpers --------------------------------------------------------------------------------------------------


def _file_of(folder: Path, case: Case) -> Path | None:
    """The mask of a case, compressed or not."""
    return next((file for suffix in SUFFIXES if (file := folder / f"{case.case_id}{suffix}").is_file()), None)


def _refuse_foreign(output: Path) -> None:
    """Refuse a folder that holds something else; an earlier result is replaced."""
    if output.is_dir() and any(output.iterdir()) and not (output / AGREEMENT).is_file():
        raise AgreementError(
            f"output={output} is not empty and holds no earlier result ({AGREEMENT}); choose a new folder with "
            "output=..."
        )
    if output.is_file():
        raise AgreementError(f"output={output} is a file; choose a folder with output=...")
