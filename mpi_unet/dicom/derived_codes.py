"""Coded terms of segmentations and reports, and to which quantity of ours each belongs.

Terms are taken from DICOM's own context groups where one fits (PS3.16: CID 3835 for volumes, CID 7464 for the mean);
what is measured on the wall is a general property at the *finding site* left ventricle myocardium, since the codes
that name both at once belong to echocardiography. Where nobody has a code, ours stands under the private scheme
99MPIUNET, which every object that uses it explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mpi_unet.dicom.codes import Code

__all__ = [
    "ANALYSIS",
    "ARTIFICIAL_INTELLIGENCE",
    "COMMENT",
    "LEFT_VENTRICLE",
    "MYOCARDIUM",
    "PROCEDURE",
    "QUALITY_FINDING",
    "QUANTITIES",
    "SCHEME",
    "SEGMENTS",
    "SEGMENT_SITES",
    "SOURCE_IMAGE",
    "Quantity",
    "SegmentTerms",
]

SCHEME = "99MPIUNET"
"""Designator of private codes; 99 marks it as private (PS3.16 8.2)."""

LEFT_VENTRICLE = Code("87878005", "SCT", "Left ventricle")
MYOCARDIUM = Code("49848007", "SCT", "Left Ventricle Myocardium")
PROCEDURE = Code("252432008", "SCT", "Radionuclide myocardial perfusion study")  # CID 3757
ANALYSIS = Code("122602", "DCM", "Myocardial Perfusion Analysis")
COMMENT = Code("121106", "DCM", "Comment")
QUALITY_FINDING = Code("111052", "DCM", "Quality Finding")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162

STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")  # CID 7150
SUBSTANCE = Code("91720002", "SCT", "Body Substance")  # CID 7150


@dataclass(frozen=True)
class SegmentTerms:
    """What a segment is.

    Attributes:
        title: In words.
        category: Segmented Property Category.
        kind: Segmented Property Type.
        region: Anatomic Region, where the type alone does not say where.
        color: Recommended display color, red, green and blue from 0 to 255.
    """

    title: str
    category: Code
    kind: Code
    region: Code | None
    color: tuple[int, int, int]


SEGMENTS: Mapping[str, SegmentTerms] = MappingProxyType(
    {
        "lv_wall": SegmentTerms("Left ventricular wall", STRUCTURE, MYOCARDIUM, None, (230, 120, 60)),
        "lv_cavity": SegmentTerms(
            "Left ventricular cavity", SUBSTANCE, Code("87612001", "SCT", "Blood"), LEFT_VENTRICLE, (70, 130, 220)
        ),
        "lv_filled": SegmentTerms("Left ventricle, filled", STRUCTURE, LEFT_VENTRICLE, None, (90, 190, 110)),
    }
)
"""Label of a cohort to terms. SNOMED CT as DICOM uses it has no cavity of the left ventricle: it is the blood there."""


@dataclass(frozen=True)
class Quantity:
    """What a measurement is called.

    Attributes:
        title: In words.
        concept: What is measured.
        unit: In which unit (UCUM).
        site: Where, when the concept does not say it.
        derivation: How several values became one, for example their mean.
    """

    title: str
    concept: Code
    unit: Code
    site: Code | None = None
    derivation: Code | None = None


ML = Code("mL", "UCUM", "mL")
GRAM = Code("g", "UCUM", "g")
MM = Code("mm", "UCUM", "mm")
PERCENT = Code("%", "UCUM", "Percent")
DEGREE = Code("deg", "UCUM", "Degree")
ONE = Code("1", "UCUM", "no units")
SCORE = Code("{score}", "UCUM", "score")

VOLUME = Code("118565006", "SCT", "Volume")
THICKNESS = Code("122445", "DCM", "Wall Thickness")
MEAN = Code("373098007", "SCT", "Mean")  # CID 7464


def _private(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)


QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "end_diastolic_ml": Quantity("End-diastolic volume", Code("8821-1", "LN", "Left Ventricular ED Volume"), ML),
        "end_systolic_ml": Quantity("End-systolic volume", Code("8823-7", "LN", "Left Ventricular ES Volume"), ML),
        "stroke_volume_ml": Quantity("Stroke volume", Code("90096001", "SCT", "Stroke Volume"), ML, LEFT_VENTRICLE),
        "ejection_fraction_pct": Quantity(
            "Ejection fraction", Code("10230-1", "LN", "Left Ventricular Ejection Fraction"), PERCENT
        ),
        "mass_g": Quantity("Mass of the wall", Code("118538004", "SCT", "Mass"), GRAM, MYOCARDIUM),
        "wall_ml": Quantity("Volume of the wall", VOLUME, ML, MYOCARDIUM),
        "cavity_ml": Quantity("Volume of the cavity", _private("CAVITY_VOLUME", "LV cavity volume"), ML),
        "filled_ml": Quantity("Volume of wall and cavity", VOLUME, ML, LEFT_VENTRICLE),
        "wall_thickness_mm": Quantity("Mean thickness of the wall", THICKNESS, MM, MYOCARDIUM, MEAN),
        "thickening_pct": Quantity("Thickening", Code("59092-7", "LN", "% Thickening"), PERCENT, MYOCARDIUM),
        "uptake_pct": Quantity("Uptake", _private("UPTAKE", "Relative myocardial uptake"), PERCENT, MYOCARDIUM, MEAN),
        "defect_extent_pct": Quantity(
            "Extent of the defect", Code("427751006", "SCT", "Extent of cardiac perfusion defect"), PERCENT
        ),
        "summed_stress_score": Quantity("Summed stress score", _private("SSS", "Summed stress score"), SCORE),
        "summed_rest_score": Quantity("Summed rest score", _private("SRS", "Summed rest score"), SCORE),
        "summed_difference_score": Quantity(
            "Summed difference score", _private("SDS", "Summed difference score"), SCORE
        ),
        "phase_bandwidth_deg": Quantity(
            "Bandwidth of the phase", _private("PHASE_BANDWIDTH", "Phase histogram bandwidth"), DEGREE
        ),
        "phase_sd_deg": Quantity("Deviation of the phase", _private("PHASE_SD", "Phase standard deviation"), DEGREE),
        "predicted_dice": Quantity("Predicted Dice", _private("PREDICTED_DICE", "Predicted Dice coefficient"), ONE),
    }
)
"""Name of a measurement, unit included, to its terms."""

SEGMENT_SITES: tuple[Code, ...] = (
    Code("264850008", "SCT", "left ventricle basal anterior segment"),
    Code("396482007", "SCT", "left ventricle basal anteroseptal segment"),
    Code("396646008", "SCT", "left ventricle basal inferoseptal segment"),
    Code("264846001", "SCT", "left ventricle basal inferior segment"),
    Code("396652009", "SCT", "left ventricle basal inferolateral segment"),
    Code("396654005", "SCT", "left ventricle basal anterolateral segment"),
    Code("264848000", "SCT", "left ventricle mid anterior segment"),
    Code("396647004", "SCT", "left ventricle mid anteroseptal segment"),
    Code("396649001", "SCT", "left ventricle mid inferoseptal segment"),
    Code("264847005", "SCT", "left ventricle mid inferior segment"),
    Code("396655006", "SCT", "left ventricle mid inferolateral segment"),
    Code("396656007", "SCT", "left ventricle mid anterolateral segment"),
    Code("264844003", "SCT", "left ventricle apical anterior segment"),
    Code("264845002", "SCT", "left ventricle apical septal segment"),
    Code("264849008", "SCT", "left ventricle apical inferior segment"),
    Code("264853005", "SCT", "left ventricle apical lateral segment"),
    Code("128564006", "SCT", "Apex of left ventricle"),
)
"""Segments 1 to 17 of the AHA model, CID 3717. Cerqueira et al. 2002, Circulation 105:539. doi:10.1161/hc0402.102975"""
