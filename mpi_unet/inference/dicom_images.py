"""Which DICOM image the studies of a prediction come from.

The private table beside the cohort, ``files.csv``, names for each image its file and the cases that it became: one, or
one for each gate. Objects are made for such an image, so all its cases come together here, and the file must still be
the one that they were made of.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpi_unet.dicom.identity import DEFAULT_KEY_FILE, METHOD, Pseudonyms, patient_id_of
from mpi_unet.dicom.nm.file import open_dataset, quiet
from mpi_unet.dicom.origin import Origin, origin_of
from mpi_unet.errors import ConfigError, DicomError
from mpi_unet.inference.inputs import DEFAULT_SOURCE, PACS_SOURCE, default_source
from mpi_unet.sources.account import private_folder
from mpi_unet.sources.dicom.scan import PLACEHOLDERS

__all__ = ["DicomImage", "DicomInput", "origin_of_image"]

MAKERS = (DEFAULT_SOURCE, PACS_SOURCE)
"""Sources whose cases come from DICOM files that stay where they can be found."""

GATE = re.compile(r"_g(\d+)(?=_|$)")


@dataclass(frozen=True)
class DicomImage:
    """One image, and the cases that it became.

    Attributes:
        file: The DICOM file; its name may tell who it is.
        case_ids: Of its cases, in the order of their gates.
    """

    file: Path
    case_ids: tuple[str, ...]

    @property
    def name(self) -> str:
        """What its folder is called: the case, without the gate where there are several.

        Example:
            >>> DicomImage(Path("x"), ("P1_rest_g1_2", "P1_rest_g2_2")).name
            'P1_rest_2'
        """
        return self.case_ids[0] if len(self.case_ids) == 1 else GATE.sub("", self.case_ids[0])


@dataclass(frozen=True)
class DicomInput:
    """The images behind a prediction.

    Attributes:
        root: Folder of the files.
        table: ``files.csv``.
        pseudonyms: Of the cohort.
        energy_window: Which one was taken, from 1; None where images have one.
    """

    root: Path
    table: Path
    pseudonyms: Pseudonyms
    energy_window: int | None

    @classmethod
    def of(cls, input: str | Path, output: str | Path, source: Mapping[str, Any] | None) -> DicomInput:
        """Where the images of a prediction lie.

        Args:
            input: What ``input=`` names.
            output: Folder of the predictions.
            source: As `mpi_unet.inference.inputs.open_input` used it.

        Raises:
            ConfigError: The source reads no DICOM.
        """
        given = default_source(input) if source is None else dict(source)
        maker = str(given.get("_target_"))
        if maker not in MAKERS:
            raise ConfigError(
                f"dicom_out makes objects that refer to DICOM images, and {maker.rpartition('.')[2]} reads none; use "
                "source=dicom or source=pacs, or leave out dicom_out"
            )
        private = private_folder(Path(output) / "cohort")
        is_pacs = maker == MAKERS[1]
        arguments = dict(given.get("dicom") or {}) if is_pacs else given
        return cls(
            private / "retrieved" if is_pacs else Path(input),
            private / "files.csv",
            Pseudonyms.from_key_file(arguments.get("key_file") or DEFAULT_KEY_FILE),
            arguments.get("energy_window"),
        )

    def images(self) -> Iterator[DicomImage]:
        """Every image that became cases, in the order of the table."""
        if not self.table.is_file():
            return
        with self.table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["taken"]:
                    yield DicomImage(self.root / row["file"], tuple(row["taken"].split()))


def origin_of_image(image: DicomImage, given: DicomInput, source_uid: str, *, is_pseudonymous: bool) -> Origin:
    """What new objects take over of an image, under the identity that was asked for.

    Args:
        image: The image.
        given: Where it comes from.
        source_uid: Keyed identifier of what was segmented.
        is_pseudonymous: Whether the objects must not tell whose they are. An image that is one of our pseudonymous
            copies carries pseudonyms already; what is made of it carries the same.

    Raises:
        DicomError: The file is gone, or is not the image that was segmented any more.
    """
    dataset = open_dataset(image.file, pixels=False)
    with quiet():  # what is read of a header is decoded here, and remarks about it quote it
        if given.pseudonyms.uid(str(dataset.get("SOPInstanceUID", "") or "")) != source_uid:
            raise DicomError(
                "the file is not the image that was segmented any more; expected the same SOPInstanceUID (0008,0018); "
                "give the folder as it was, or predict anew with overwrite=true"
            )
        choice: dict[str, Any] = {"energy_window": given.energy_window} if given.energy_window else {}
        if not is_pseudonymous or _is_copy(dataset):
            return origin_of(dataset, identity="source", **choice)
        whose = patient_id_of(dataset)
        is_known = bool(whose) and whose.casefold() not in PLACEHOLDERS
        return origin_of(
            dataset,
            pseudonyms=given.pseudonyms,
            patient_id=None if is_known else str(dataset.get("StudyInstanceUID", "")),
            **choice,
        )


# --- Private helpers --------------------------------------------------------------------------------------------------


def _is_copy(dataset: Any) -> bool:
    removed = str(dataset.get("PatientIdentityRemoved", "") or "") == "YES"
    return removed and str(dataset.get("DeidentificationMethod", "") or "") == METHOD
