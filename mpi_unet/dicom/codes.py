"""The coded terms that nuclear medicine images need, each with the context group of DICOM PS3.16 that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pydicom.dataset import Dataset

__all__ = [
    "COUNTS",
    "FEET_FIRST",
    "HEAD_FIRST",
    "PATIENT_STATE",
    "PATIENT_STATES",
    "PRONE",
    "RECUMBENT",
    "SUPINE",
    "TECHNETIUM_99M",
    "TRACERS",
    "VIEWS",
    "Code",
]


class Code(NamedTuple):
    """One coded term: what it stands for in which vocabulary (SCT is SNOMED CT)."""

    value: str
    scheme: str
    meaning: str

    def item(self) -> Dataset:
        """The term as an item of a code sequence (PS3.3 table 8.8-1)."""
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = self
        return item


TECHNETIUM_99M = Code("72454006", "SCT", "^99m^Technetium")  # CID 18

RECUMBENT = Code("102538003", "SCT", "recumbent")  # CID 19
SUPINE = Code("40199007", "SCT", "supine")  # CID 20
PRONE = Code("1240000", "SCT", "prone")  # CID 20
HEAD_FIRST = Code("102540008", "SCT", "headfirst")  # CID 21
FEET_FIRST = Code("102541007", "SCT", "feet-first")  # CID 21

TRACERS: Mapping[str, Code] = MappingProxyType(  # CID 25
    {
        "sestamibi": Code("424299003", "SCT", "Technetium Tc^99m^ sestamibi"),
        "tetrofosmin": Code("424118002", "SCT", "Technetium Tc^99m^Tetrofosmin"),
    }
)

VIEWS: Mapping[str, Code] = MappingProxyType(  # CID 26
    {
        "transaxial": Code("62824007", "SCT", "Transverse"),
        "short_axis": Code("103340004", "SCT", "Short Axis"),
    }
)

PATIENT_STATE = Code("109054", "DCM", "Patient State")
PATIENT_STATES: Mapping[str, Code] = MappingProxyType(  # CID 3102
    {
        "rest": Code("128975004", "SCT", "Resting State"),
        "stress": Code("109091", "DCM", "Cardiac Stress State"),
    }
)

COUNTS = Code("{counts}", "UCUM", "Counts")  # CID 83
