"""What a copy without identity may hold: attributes by name, and for each the values that it may have.

An allow-list is the other way round than the profiles of PS3.15, which list what to remove: what nobody thought of -
a private tag, a new attribute, a comment - is left behind rather than passed on. The list holds what a reader of
Nuclear Medicine images needs and nothing else. It counts at every depth of nested sequences.

Being on the list is not enough, the value counts too: numbers must be numbers, words must be among those that the
standard defines, and texts that people or machines fill in freely (maker, model, tracer) are replaced by the entry of
a vocabulary, so that a name typed into such a field stays behind as well.

Source:
    DICOM PS3.3 A.5, C.8.4 for what the image needs; PS3.15 table E.1-1 for what must not be passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from mpi_unet.dicom import codes

__all__ = [
    "CODES",
    "DATES",
    "EMPTY",
    "NUMBERS",
    "SEQUENCES",
    "UIDS",
    "VOCABULARIES",
    "WORDS",
    "code_meaning",
    "from_vocabulary",
    "is_public_code",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERS = _names(
    """
    SeriesNumber InstanceNumber Rows Columns NumberOfFrames SamplesPerPixel BitsAllocated BitsStored HighBit
    PixelRepresentation PixelSpacing SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue WindowCenter
    WindowWidth RescaleSlope RescaleIntercept RealWorldValueFirstValueMapped RealWorldValueLastValueMapped
    RealWorldValueSlope RealWorldValueIntercept FrameIncrementPointer SliceThickness SpacingBetweenSlices
    ImagePositionPatient ImageOrientationPatient SliceLocation EnergyWindowVector DetectorVector PhaseVector
    RotationVector RRIntervalVector TimeSlotVector SliceVector AngularViewVector TimeSliceVector
    NumberOfEnergyWindows NumberOfDetectors NumberOfPhases NumberOfRotations NumberOfRRIntervals NumberOfTimeSlots
    NumberOfSlices NumberOfTimeSlices NumberOfFramesInPhase NumberOfFramesInRotation NumberOfTriggersInPhase
    PhaseDelay PauseBetweenFrames TriggerVector CountsAccumulated ActualFrameDuration CountRate HeartRate
    TriggerTime FrameTime NominalInterval LowRRValue HighRRValue IntervalsAcquired IntervalsRejected TimeSlotTime
    StartAngle ScanArc AngularStep RadialPosition DistanceSourceToDetector TableHeight TableTraverse RotationAngle
    GantryDetectorTilt FocalDistance XFocusCenter YFocusCenter ZoomFactor ZoomCenter CenterOfRotationOffset
    ImageTransformationMatrix ImageTranslationVector FieldOfViewDimensions FieldOfViewRotation
    EnergyWindowLowerLimit EnergyWindowUpperLimit RadionuclideHalfLife RadionuclideTotalDose
    """
)
"""Kept as they are when every value is a number."""

YES_NO = frozenset({"YES", "NO"})

WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "Modality": frozenset({"NM"}),
        "ImageType": frozenset(
            {"ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "EMISSION", "TRANSMISSION"}
            | {"STATIC", "DYNAMIC", "GATED", "WHOLE BODY", "TOMO", "GATED TOMO", "RECON TOMO", "RECON GATED TOMO"}
        ),
        "PhotometricInterpretation": frozenset({"MONOCHROME1", "MONOCHROME2"}),
        "PatientSex": frozenset({"F", "M", "O"}),
        "PatientPosition": frozenset({"HFS", "HFP", "HFDL", "HFDR", "FFS", "FFP", "FFDL", "FFDR"}),
        "BodyPartExamined": frozenset({"HEART", "CHEST", "THORAX"}),
        "CorrectedImage": frozenset(
            {"UNIF", "COR", "NCO", "DECY", "ATTN", "SCAT", "DTIM", "NRGY", "LIN", "MOTN", "CLN"}
        ),
        "AcquisitionTerminationCondition": frozenset({"CNTS", "DENS", "MANU", "OVFL", "TIME", "TRIG"}),
        "TypeOfDetectorMotion": frozenset({"NONE", "CONTINUOUS", "STEP AND SHOOT"}),
        "RotationDirection": frozenset({"CW", "CC"}),
        "CollimatorType": frozenset({"PARA", "PINH", "FANB", "CONE", "SLNT", "ASTG", "DIVG", "NONE", "UNKN"}),
        "FieldOfViewShape": frozenset({"RECTANGLE", "ROUND", "HEXAGONAL"}),
        "TriggerSourceOrType": frozenset({"EKG", "ECG"}),
        "BeatRejectionFlag": frozenset({"Y", "N"}),
        "CardiacFramingType": frozenset({"FORW", "BACK", "PCNT"}),
        "SliceProgressionDirection": frozenset({"APEX_TO_BASE", "BASE_TO_APEX"}),
        "ValueType": frozenset({"CODE", "NUMERIC"}),
        "LossyImageCompression": frozenset({"00", "01"}),
        "BurnedInAnnotation": YES_NO,
        "QualityControlSubject": YES_NO,
    }
)
"""Kept when every value is one of these; other values are left out."""

UIDS = _names(
    """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID
    SynchronizationFrameOfReferenceUID ReferencedSOPClassUID ReferencedSOPInstanceUID
    """
)
"""Replaced by keyed ones, the same wherever the same one stands; identifiers of the standard itself stay."""

DATES = frozenset({"StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"})
"""Shifted by the patient's keyed number of days."""

EMPTY = (
    "PatientBirthDate",
    "StudyTime",
    "ContentTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "PositionReferenceIndicator",
)
"""Must be there in a Nuclear Medicine image (type 2), and are there without a value."""

CODES = _names(
    """
    RadionuclideCodeSequence RadiopharmaceuticalCodeSequence ViewCodeSequence ViewModifierCodeSequence
    PatientOrientationCodeSequence PatientOrientationModifierCodeSequence PatientGantryRelationshipCodeSequence
    ConceptNameCodeSequence ConceptCodeSequence MeasurementUnitsCodeSequence
    """
)
"""Sequences of coded terms: the codes of public vocabularies are kept, with the meaning that this program knows."""

SEQUENCES = _names(
    """
    EnergyWindowInformationSequence EnergyWindowRangeSequence DetectorInformationSequence
    RotationInformationSequence GatedInformationSequence DataInformationSequence TimeSlotInformationSequence
    PhaseInformationSequence RadiopharmaceuticalInformationSequence AcquisitionContextSequence
    RealWorldValueMappingSequence ReferencedImageSequence SourceImageSequence
    """
)
"""Sequences whose items are copied by this same list."""

VOCABULARIES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "Manufacturer": {
            r"\bGE\b|GEMS|general electric|elscint": "GE",
            r"siemens": "Siemens",
            r"philips|adac|picker|marconi": "Philips",
            r"spectrum": "Spectrum Dynamics",
            r"mediso": "Mediso",
            r"toshiba|canon": "Canon",
            r"digirad": "Digirad",
            r"\bsmv\b|sopha": "SMV",
            r"\bddd\b": "DDD",
            r"^mpi_unet$": "mpi_unet",
        },
        "ManufacturerModelName": {
            r"(discovery|optima)?[ _]?nm[/ _]?(ct)?[ _]?(530|570|630|640|670|830|850|860|870)": "",
            r"myospect|starguide|infinia|millennium|ventri|varicam|starcam|xeleris|\bufc\b|helix": "",
            r"symbia|intevo|evo excel|pro\.specta|e\.?cam|c\.?cam|multispect|orbiter": "",
            r"brightview|precedence|skylight|cardiomd|forte|vertex|meridian|irix|prism": "",
            r"d-?spect|cardius|anyscan|nucline|interviewxp|gca-?\d{4}|dst-?xl|\bdst\b": "",
            r"^phantom$": "",
        },
        "Radiopharmaceutical": {
            r"mibi|cardiolite": "Tc-99m sestamibi",
            r"tetrofosmin|myoview": "Tc-99m tetrofosmin",
            r"thallium|thallous|\btl-?201\b|\b201-?tl\b": "Tl-201",
        },
        "LUTLabel": {r"": "COUNTS"},
        "LUTExplanation": {r"": "Values of the pixels"},
    }
)
"""Pattern, whatever the case, to what is written for it; where that is empty, the part that the pattern has found."""

PUBLIC_CODES: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "SCT": re.compile(r"\d{6,18}"),
        "SRT": re.compile(r"[A-Z]-[0-9A-F]{3,7}"),
        "SNM3": re.compile(r"[A-Z]-[0-9A-F]{3,7}"),
        "99SDM": re.compile(r"[A-Z]-[0-9A-F]{3,7}"),
        "DCM": re.compile(r"\d{6}"),
        "UCUM": re.compile(r"\{counts\}|\{propcounts\}|1|\[?k?Bq\]?/m[lL]|Bq|cm2/ml"),
    }
)
"""Coding schemes that anybody can look up, and what their codes look like; schemes of a hospital stay behind."""


def is_public_code(scheme: str, value: str) -> bool:
    """Whether a coded term comes from a public vocabulary, by its form.

    Example:
        >>> is_public_code("SCT", "72454006"), is_public_code("SCT", "MUELLER"), is_public_code("99HOSPITAL", "17")
        (True, False, False)
    """
    pattern = PUBLIC_CODES.get(scheme)
    return pattern is not None and pattern.fullmatch(value) is not None


def code_meaning(scheme: str, value: str) -> str:
    """The meaning as this program knows it, else the code itself: Code Meaning is free text in the objects one gets.

    Example:
        >>> code_meaning("DCM", "128975004"), code_meaning("SCT", "128975004")
        ('DCM 128975004', 'Resting State')
    """
    return MEANINGS.get((scheme, value), f"{scheme} {value}")


def from_vocabulary(keyword: str, text: str) -> str:
    """The entry of a vocabulary for a text, empty when it has none.

    Example:
        >>> from_vocabulary("Manufacturer", "GE MEDICAL SYSTEMS"), from_vocabulary("Manufacturer", "Dr. Mueller")
        ('GE', '')
        >>> from_vocabulary("ManufacturerModelName", "Camera of Dr. Mueller, INFINIA")
        'INFINIA'
    """
    for pattern, entry in VOCABULARIES[keyword].items():
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            return entry or found.group()
    return ""


def _meanings() -> dict[tuple[str, str], str]:
    values = [getattr(codes, name) for name in codes.__all__]
    terms = [term for value in values for term in (value.values() if isinstance(value, Mapping) else (value,))]
    return {(term.scheme, term.value): term.meaning for term in terms if isinstance(term, codes.Code)}


MEANINGS: Mapping[tuple[str, str], str] = MappingProxyType(_meanings())
