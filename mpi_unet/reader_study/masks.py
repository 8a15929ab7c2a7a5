"""Masks of a cohort compared: anyone's predictions with the readers, or the readers with one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import AgreementError, listing, nearest
from mpi_unet.files import is_part
from mpi_unet.reader_study.options import Network, StudyOptions
from mpi_unet.reader_study.study import AGREEMENT, SCORES, newest_change, reader_study
from mpi_unet.report.agreement import write_agreement_report

__all__ = ["compare_masks", "compare_readers", "network_of"]

SUFFIXES = (".nii.gz", ".nii")

MASKS_ONLY = "masks alone were compared; give the folder of the network's probabilities with probabilities=<folder>"
"""What to do for a reliability curve of anyone's masks."""


def compare_masks(
    cohort: Cohort,
    predictions: str,
    output: Path,
    options: StudyOptions,
    *,
    name: str | None = None,
    trained_on: Sequence[str] = (),
    probabilities: str | None = None,
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
        probabilities: A folder of ``<case_id>.nii.gz`` with the probability of LV in each voxel; None without.
        allow_missing: Leave out cases without a mask, and count them.

    Returns:
        Content of ``agreement.json``, and the path of the report.

    Raises:
        AgreementError: There are no such masks, or they cannot be compared.
        CohortError: Masks that cannot be used.
        RunError: The folder cannot be written to.
    """
    network = network_of(cohort, predictions, name, trained_on, probabilities)
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


def network_of(
    cohort: Cohort,
    predictions: str,
    name: str | None = None,
    trained_on: Sequence[str] = (),
    probabilities: str | None = None,
) -> Network:
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
        how = f"column {predictions} of the cohort"
        return _network(cohort, name or predictions, how, masks, predictions, trained_on, probabilities)
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
    name = name or folder.resolve().name
    return _network(cohort, name, "masks from a folder", masks, None, trained_on, probabilities)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _network(
    cohort: Cohort,
    name: str,
    how: str,
    masks: dict[str, Path],
    column: str | None,
    trained_on: Sequence[str],
    probabilities: str | None,
) -> Network:
    files: dict[str, Path] = {}
    if probabilities is not None:
        folder = Path(probabilities)
        files = {case.case_id: file for case in cohort.cases if (file := _file_of(folder, case)) is not None}
        if not files:
            raise AgreementError(
                f"probabilities={probabilities} {'holds no file of a case' if folder.is_dir() else 'is no folder'} of "
                f"{cohort.root}; expected the probability of LV in each voxel as {cohort.cases[0].case_id}.nii.gz and "
                "so on, such as <run>/probabilities; or leave the key out"
            )
    return Network(name, how, masks, column, tuple(trained_on), files, why_no_probabilities=MASKS_ONLY)


def _file_of(folder: Path, case: Case) -> Path | None:
    """The mask of a case, compressed or not."""
    return next((file for suffix in SUFFIXES if (file := folder / f"{case.case_id}{suffix}").is_file()), None)


def _refuse_foreign(output: Path) -> None:
    """Refuse a folder that holds something else; an earlier result is replaced."""
    holds = {path.name for path in output.iterdir() if not is_part(path)} if output.is_dir() else set()
    if holds - {SCORES} and AGREEMENT not in holds:  # the scores alone: a start that was killed
        raise AgreementError(
            f"output={output} is not empty and holds no earlier result ({AGREEMENT}); choose a new folder with "
            "output=..."
        )
    if output.is_file():
        raise AgreementError(f"output={output} is a file; choose a folder with output=...")
