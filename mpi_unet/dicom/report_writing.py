"""Measurements become a Structured Report that programs can read: DICOM's Measurement Report, template 1500.

Each measurement has a coded name and unit. What was measured within a segment of a segmentation refers to it (TID
1411), one group for each segment and gate; what belongs to the study as a whole refers to the image (TID 1501).
Quality flags are coded findings with their sentence beside them, and what could not be measured is said in words, since
a number that is missing without a reason looks forgotten. Every report says of itself that it is not verified.

This needs highdicom, the extra ``mpi_unet[dicom]``.

Source:
    DICOM PS3.16 TID 1500, TID 1501, TID 1411, TID 300; PS3.3 A.35.13 (Comprehensive 3D SR IOD).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from mpi_unet.dicom.codes import Code
from mpi_unet.dicom.derived import NOTICE, Maker, add_common, sealed
from mpi_unet.dicom.derived_codes import (
    ARTIFICIAL_INTELLIGENCE,
    COMMENT,
    LEFT_VENTRICLE,
    PROCEDURE,
    QUALITY_FINDING,
    QUANTITIES,
    SCHEME,
    SEGMENT_SITES,
    SEGMENTS,
    Quantity,
)
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.dicom.nm_modules import unique_id
from mpi_unet.dicom.origin import Origin
from mpi_unet.dicom.segmentation_writing import coded, highdicom_of, tracking_uid
from mpi_unet.errors import DicomError, listing, nearest

__all__ = ["Flag", "Measured", "measurement_report"]

LONGEST_MEANING = 64
SIGNIFICANT_DIGITS = 6
"""More than any measurement here deserves, and short enough for a decimal string."""


@dataclass(frozen=True)
class Measured:
    """One measurement, or why there is none.

    Attributes:
        quantity: Key of `mpi_unet.dicom.derived_codes.QUANTITIES`, for example ``"ejection_fraction_pct"``.
        value: In the unit that the name ends with; None when it could not be measured.
        why_not: Why ``value`` is None.
        segment: Key of ``SEGMENTS`` that it was measured on; empty for the study as a whole.
        gate: From 0; None for an ungated image or the study as a whole.
        aha_segment: 1 to 17 where it belongs to one segment of the AHA model.
    """

    quantity: str
    value: float | None
    why_not: str = ""
    segment: str = ""
    gate: int | None = None
    aha_segment: int | None = None


@dataclass(frozen=True)
class Flag:
    """Something that the reader of the report should look at.

    Attributes:
        name: Short and fixed: letters, digits and underscores, for example ``"touches_gut"``.
        text: The sentence for people; names nobody.
    """

    name: str
    text: str


def measurement_report(
    origin: Origin,
    measured: Sequence[Measured],
    maker: Maker,
    *,
    segmentations: Sequence[Dataset] = (),
    flags: Sequence[Flag] = (),
) -> Dataset:
    """Make the report of one image.

    Args:
        origin: The image.
        measured: What was measured on it.
        maker: What measured.
        segmentations: Those of `segmentations` for the same origin, one a gate; needed where ``measured`` names a
            segment.
        flags: What to look at.

    Returns:
        A Comprehensive 3D SR: complete, preliminary, unverified.

    Raises:
        DicomError: A measurement has no terms, no value and no reason, or refers to what was not given; all that is
            wrong is said at once.
    """
    _check(origin, measured, segmentations, flags)
    highdicom = highdicom_of()
    with quiet():
        groups = _groups(highdicom, origin, measured, maker, segmentations, flags)
        context = highdicom.sr.ObservationContext(
            observer_device_context=highdicom.sr.ObserverContext(
                observer_type=coded(Code("121007", "DCM", "Device")),
                observer_identifying_attributes=highdicom.sr.DeviceObserverIdentifyingAttributes(
                    uid=unique_id("observer", maker.algorithm, maker.version, maker.run),
                    name=maker.algorithm,
                    manufacturer_name="mpi_unet",
                    model_name=maker.version,
                    serial_number=maker.run,
                ),
            )
        )
        content = highdicom.sr.MeasurementReport(
            observation_context=context, procedure_reported=coded(PROCEDURE), imaging_measurements=groups
        )
        dataset = highdicom.sr.Comprehensive3DSR(
            evidence=[_evidence(origin), *segmentations],
            content=content[0],
            series_instance_uid="1.2.3",  # this and the next: add_common and sealed give the right ones
            series_number=1,
            sop_instance_uid="1.2.3",
            instance_number=1,
            manufacturer="mpi_unet",
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
        add_common(dataset, origin, maker, "SR", modality="SR", description=f"Measurements, {maker.algorithm}")
        dataset.CodingSchemeIdentificationSequence = [_scheme()]
        return sealed(dataset, origin, maker)


# --- Checking what comes in -------------------------------------------------------------------------------------------


def _check(
    origin: Origin, measured: Sequence[Measured], segmentations: Sequence[Dataset], flags: Sequence[Flag]
) -> None:
    problems = [] if measured or flags else ["there is neither a measurement nor a flag"]
    for one in measured:
        if one.quantity not in QUANTITIES:
            problems.append(
                f"{one.quantity!r} has no coded terms; expected one of {', '.join(QUANTITIES)}"
                f"{nearest(one.quantity, QUANTITIES)}"
            )
        if one.value is not None and not math.isfinite(one.value):
            problems.append(f"{one.quantity} is {one.value}; expected a number, or None with why_not=")
        if one.value is None and not one.why_not.strip():
            problems.append(f"{one.quantity} has no value and no why_not; say why it could not be measured")
        if one.aha_segment is not None and not 1 <= one.aha_segment <= len(SEGMENT_SITES):
            problems.append(f"{one.quantity} has aha_segment={one.aha_segment}; expected 1 to {len(SEGMENT_SITES)}")
        if one.segment and _place(one, segmentations) is None:
            where = f"gate {one.gate + 1}" if one.gate is not None else "the image"
            problems.append(f"{one.quantity} refers to {one.segment!r} of {where}, of which no segmentation was given")
    problems += [
        f"flag {flag.name!r} with the text {flag.text!r}; expected letters, digits and underscores, and a sentence of "
        "ASCII"
        for flag in flags
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", flag.name) or not re.fullmatch(r"[ -~]+", flag.text)
    ]
    problems += [
        f"a segmentation refers to {uid}, not to the image {origin.sop_instance_uid}"
        for uid in sorted({_segmented(segmentation) for segmentation in segmentations})
        if uid != origin.sop_instance_uid
    ]
    if problems:
        raise DicomError(f"This report cannot be written:\n{listing(problems)}\nCorrect or leave them out")


def _segmented(segmentation: Dataset) -> str:
    return str(segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID)


def _place(one: Measured, segmentations: Sequence[Dataset]) -> tuple[Dataset, int] | None:
    """The segmentation and the number of the segment that a measurement refers to."""
    for segmentation in segmentations:
        if int(segmentation.InstanceNumber) != (one.gate or 0) + 1:
            continue
        for segment in segmentation.SegmentSequence:
            if segment.SegmentLabel == one.segment:
                return segmentation, int(segment.SegmentNumber)
    return None


# --- The content ------------------------------------------------------------------------------------------------------


def _groups(
    highdicom: Any,
    origin: Origin,
    measured: Sequence[Measured],
    maker: Maker,
    segmentations: Sequence[Dataset],
    flags: Sequence[Flag],
) -> list[Any]:
    """One group of measurements for the study, then one for each segment and gate."""
    sr = highdicom.sr
    algorithm = sr.AlgorithmIdentification(
        name=maker.algorithm, version=maker.version, family=coded(ARTIFICIAL_INTELLIGENCE), manufacturer="mpi_unet"
    )
    study = [one for one in measured if not one.segment]
    groups = [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                uid=tracking_uid(origin, "study"), identifier="mpi_unet left ventricle"
            ),
            finding_type=coded(LEFT_VENTRICLE),
            finding_sites=[sr.FindingSite(coded(LEFT_VENTRICLE))],
            algorithm_id=algorithm,
            source_images=[sr.SourceImageForMeasurementGroup(str(origin.header.SOPClassUID), origin.sop_instance_uid)],
            measurements=_measurements(sr, study),
            qualitative_evaluations=[
                sr.QualitativeEvaluation(
                    name=coded(QUALITY_FINDING), value=coded(Code(flag.name, SCHEME, flag.text[:LONGEST_MEANING]))
                )
                for flag in flags
            ],
        )
    ]
    remarks = [NOTICE, *(flag.text for flag in flags if len(flag.text) > LONGEST_MEANING), *_missing(study)]
    _add_remarks(sr, groups[0], remarks)
    for gate, name in dict.fromkeys((one.gate, one.segment) for one in measured if one.segment):
        inside = [one for one in measured if (one.gate, one.segment) == (gate, name)]
        found = _place(inside[0], segmentations)
        if found is None:
            raise AssertionError("checked before")
        group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=tracking_uid(origin, name), identifier=f"mpi_unet {name}"),
            referenced_segment=_segment_reference(sr, origin, *found),
            finding_type=coded(SEGMENTS[name].kind),
            finding_sites=[sr.FindingSite(coded(SEGMENTS[name].region or SEGMENTS[name].kind))],
            algorithm_id=algorithm,
            session=f"gate {gate + 1} of {origin.image.num_gates}" if gate is not None else None,
            measurements=_measurements(sr, inside),
        )
        _add_remarks(sr, group, _missing(inside))
        groups.append(group)
    return groups


def _measurements(sr: Any, measured: Sequence[Measured]) -> list[Any]:
    made = []
    for one in measured:
        if one.value is None:
            continue
        terms = QUANTITIES[one.quantity]
        site = SEGMENT_SITES[one.aha_segment - 1] if one.aha_segment else terms.site
        made.append(
            sr.Measurement(
                name=coded(terms.concept),
                value=float(f"{one.value:.{SIGNIFICANT_DIGITS}g}"),
                unit=coded(terms.unit),
                derivation=coded(terms.derivation) if terms.derivation else None,
                finding_sites=[sr.FindingSite(coded(site))] if site else None,
            )
        )
    return made


def _missing(measured: Sequence[Measured]) -> list[str]:
    titles: dict[str, Quantity] = dict(QUANTITIES)
    return [f"{titles[one.quantity].title}: not measured, {one.why_not}" for one in measured if one.value is None]


def _add_remarks(sr: Any, group: Any, remarks: Sequence[str]) -> None:
    """The templates are extensible; a comment is what every viewer shows."""
    for remark in remarks:
        group[0].ContentSequence.append(sr.TextContentItem(coded(COMMENT), remark, relationship_type="CONTAINS"))


def _segment_reference(sr: Any, origin: Origin, segmentation: Dataset, number: int) -> Any:
    """By hand, because the library does not find the frames of an object that has only one segment."""
    frames = sorted(
        {
            int(number)
            for frame in segmentation.PerFrameFunctionalGroupsSequence
            for derivation in frame.get("DerivationImageSequence", [])
            for source in derivation.SourceImageSequence
            for number in np.atleast_1d(source.ReferencedFrameNumber)
        }
    )
    return sr.ReferencedSegment(
        sop_class_uid=str(segmentation.SOPClassUID),
        sop_instance_uid=str(segmentation.SOPInstanceUID),
        segment_number=number,
        source_images=[
            sr.SourceImageForSegmentation(
                str(origin.header.SOPClassUID), origin.sop_instance_uid, referenced_frame_numbers=frames or None
            )
        ],
    )


def _evidence(origin: Origin) -> Dataset:
    """What a reference to the origin needs, and nothing of the patient."""
    evidence = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"):
        setattr(evidence, keyword, origin.header[keyword].value)
    evidence.SeriesInstanceUID = origin.series_uid
    evidence.PatientID = evidence.PatientName = evidence.PatientBirthDate = evidence.PatientSex = ""
    evidence.AccessionNumber = evidence.StudyID = evidence.StudyDate = evidence.StudyTime = ""
    return evidence


def _scheme() -> Dataset:
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = SCHEME, "Private codes of mpi_unet"
    scheme.CodingSchemeResponsibleOrganization = "mpi_unet"
    return scheme
