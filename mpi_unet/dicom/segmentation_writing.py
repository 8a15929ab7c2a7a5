"""Masks become DICOM segmentations that lie on the reconstruction which they were drawn on.

DICOM has no time axis for segmentations, so a gated study becomes one object a gate; which gate it is stands in
Temporal Position Index, in the frames that it refers to and, for people, in Content Description. What was drawn on the
sum of the gates is one object whose frames refer to the frames of all gates. A segment that is
empty in one gate, as the cavity of a small heart at end systole, is described there without frames; an object without
any frame is not made.

Only reconstructions can be segmented. The standard would allow a segmentation without a place in the patient, frame for
frame on the views of a camera. But readers that go by the place of frames, as most do and ours does, have nowhere to
put it, and highdicom writes none for an image of several frames; with the place of the views it would lie on the face
of the camera, outside of the body. Masks of projections go out as NIfTI.

This needs highdicom, the extra ``mpi_unet[dicom]``. It takes Nuclear Medicine images for volumes only when they look
like enhanced objects, so it is given a description of the gate in that form, made here and never stored.

Source:
    DICOM PS3.3 A.51 (Segmentation IOD), C.8.20.2 (segments), C.7.6.16.2.2 (Temporal Position Index).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped
from pydicom.dataset import Dataset

from mpi_unet.dicom.codes import Code
from mpi_unet.dicom.derived import NOTICE, Maker, add_common, sealed
from mpi_unet.dicom.derived_codes import ARTIFICIAL_INTELLIGENCE, SEGMENTS
from mpi_unet.dicom.geometry import SliceStack
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.dicom.nm_modules import decimals, unique_id
from mpi_unet.dicom.origin import Origin
from mpi_unet.errors import DicomError, listing, nearest

__all__ = ["TYPES", "coded", "highdicom_of", "segmentations", "tracking_uid"]

TYPES = ("BINARY", "FRACTIONAL")

PLACE_DIGITS = ".9g"
"""Positions as decimal strings of at most 16 characters; a micrometer at a distance of a meter."""


def segmentations(
    origin: Origin,
    masks: Mapping[str, Shaped[np.ndarray, "..."]],
    maker: Maker,
    *,
    kind: Literal["BINARY", "FRACTIONAL"] = "BINARY",
    gates: Sequence[int] | Literal["each", "sum"] = "each",
) -> tuple[Dataset, ...]:
    """Make the segmentations of one image.

    Args:
        origin: The reconstruction that was segmented.
        masks: ``lv_wall``, ``lv_cavity`` or ``lv_filled`` to its voxels (z, y, x), or (gate, z, y, x) of a gated image:
            those of `read_nm`. True inside; for FRACTIONAL the probability from 0 to 1.
        maker: What drew them.
        kind: BINARY or FRACTIONAL (probabilities, in 255 steps).
        gates: What the masks were drawn on: ``each`` gate, some gates by number (from 0), or their ``sum``.

    Returns:
        One object a gate, in their order; they share a series. Segments are numbered in the order of ``masks``.

    Raises:
        DicomError: The image has no place in the patient, or a mask does not fit it; all that is wrong is said at once.
    """
    stack = _stack(origin)
    numbers = _numbers(origin, gates)
    volumes = _checked(origin, masks, kind, numbers)
    highdicom = highdicom_of()
    made = []
    for position, gate in enumerate(numbers):
        pixels = np.stack([volume[position] for volume in volumes.values()], axis=-1)
        with quiet():
            made.append(_gate_object(highdicom, origin, stack, pixels, list(volumes), maker, kind, gate))
    return tuple(made)


# --- Checking what comes in -------------------------------------------------------------------------------------------


def _stack(origin: Origin) -> SliceStack:
    image = origin.image
    if not image.kind.is_volume:
        raise DicomError(
            f"the image is {image.kind}: its pixels are rays through the body and have no place in the patient, where "
            "the frames of a segmentation must lie; expected RECON TOMO or RECON GATED TOMO; keep masks of projections "
            "as NIfTI, or segment the reconstruction"
        )
    if image.stack is None:
        why = f" ({image.warnings[0]})" if image.warnings else ""
        raise DicomError(
            f"the image does not say where its voxels lie{why}; expected ImagePositionPatient (0020,0032) and "
            "ImageOrientationPatient (0020,0037), for a segmentation without a place fits on nothing; export the study "
            "with its geometry"
        )
    return image.stack


def _numbers(origin: Origin, gates: Sequence[int] | str) -> list[int | None]:
    """The gate of each object; None for all gates as one."""
    number = origin.image.num_gates
    if gates in ("each", "sum"):
        return [None] if gates == "sum" and number > 1 else list(range(number))
    found = [gate for gate in gates if isinstance(gate, int) and 0 <= gate < number]
    if isinstance(gates, str) or not found or len(set(found)) < len(gates):
        raise DicomError(f"gates={gates!r}; expected 'each', 'sum', or different numbers from 0 to {number - 1}")
    return [*found]


def _checked(
    origin: Origin, masks: Mapping[str, np.ndarray], kind: str, numbers: Sequence[int | None] = (0,)
) -> dict[str, np.ndarray]:
    """The masks as (gate, z, y, x)."""
    if kind not in TYPES:
        raise DicomError(f"kind={kind!r}; expected {' or '.join(TYPES)}")
    num_slices = origin.image.stored.shape[1]
    expected = (len(numbers), num_slices, int(origin.header.Rows), int(origin.header.Columns))
    volumes: dict[str, np.ndarray] = {}
    problems = [] if masks else ["no mask was given"]
    for name, mask in masks.items():
        volume = mask[None] if mask.ndim == 3 and expected[0] == 1 else mask
        if name not in SEGMENTS:
            problems.append(f"{name!r} is no segment; expected {', '.join(SEGMENTS)}{nearest(name, SEGMENTS)}")
        elif volume.shape != expected:
            problems.append(f"{name} has the shape {mask.shape}; expected the image's (gate, z, y, x) = {expected}")
        elif kind == "BINARY" and not np.isin(volume, (0, 1)).all():
            problems.append(f"{name} holds {_other(volume)}; expected True and False, or kind='FRACTIONAL'")
        elif kind == "FRACTIONAL" and not ((volume >= 0) & (volume <= 1)).all():
            problems.append(f"{name} runs from {volume.min():g} to {volume.max():g}; expected probabilities, 0 to 1")
        else:
            volumes[name] = volume.astype(np.uint8 if kind == "BINARY" else np.float32)
    if not problems:
        filled = np.stack([_is_filled(volume, kind) for volume in volumes.values()]).any(axis=0)
        empty = [str((numbers[position] or 0) + 1) for position in map(int, np.flatnonzero(~filled))]
        if empty:
            where = f"gate {', '.join(empty)} of {origin.image.num_gates}" if numbers[0] is not None else "the sum"
            where = where if origin.image.num_gates > 1 else "the image"
            problems.append(f"nothing is marked in {where}; a segmentation must mark something, so report it in words")
    if problems:
        raise DicomError(f"These masks cannot become segmentations:\n{listing(problems)}\nCorrect or leave them out")
    return volumes


def _is_filled(volume: np.ndarray, kind: str) -> np.ndarray:
    """Whether anything of each gate is left once it is stored."""
    smallest = 1.0 if kind == "BINARY" else 0.5 / 255
    return np.asarray(volume.reshape(volume.shape[0], -1).max(axis=1) > smallest * (1 - 1e-6))


def _other(volume: np.ndarray) -> str:
    return f"{volume[~np.isin(volume, (0, 1))].flat[0]:g}"


def highdicom_of() -> Any:
    """The library.

    Raises:
        DicomError: It is not installed.
    """
    try:
        import highdicom
        import highdicom.sr
    except ImportError as error:
        raise DicomError(
            "writing DICOM segmentations needs highdicom; install it with: pip install 'mpi_unet[dicom]'"
        ) from error
    return highdicom


# --- Making one object ------------------------------------------------------------------------------------------------


def _gate_object(
    highdicom: Any,
    origin: Origin,
    stack: SliceStack,
    pixels: np.ndarray,
    names: list[str],
    maker: Maker,
    kind: str,
    gate: int | None,
) -> Dataset:
    num_gates = origin.image.num_gates
    which = "" if num_gates == 1 else f", sum of {num_gates} gates"
    if gate is not None and num_gates > 1:
        which = f", gate {gate + 1} of {num_gates}"
    number = (gate or 0) + 1
    affine = stack.affine_lps[:, [2, 1, 0, 3]]  # of index (x, y, z) to that of (z, y, x)
    volume = highdicom.Volume(
        array=pixels,
        affine=affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=origin.frame_of_reference_uid,
        channels={"SegmentNumber": list(range(1, len(names) + 1))},
    )
    title = f"{', '.join(SEGMENTS[name].title for name in names)}"
    dataset = highdicom.seg.Segmentation(
        source_images=[_as_enhanced(origin, stack, pixels.shape[:3])],
        pixel_array=volume,
        segmentation_type=kind,
        segment_descriptions=[
            _description(highdicom, origin, maker, name, number) for number, name in enumerate(names, start=1)
        ],
        series_instance_uid="1.2.3",  # this and the next: add_common and sealed give the right ones
        series_number=1,
        sop_instance_uid="1.2.3",
        instance_number=number,
        manufacturer="mpi_unet",
        manufacturer_model_name=maker.algorithm,
        software_versions=maker.version,
        device_serial_number=maker.run,
        content_label="LEFT_VENTRICLE",
        content_description=(title + which)[:64],
        max_fractional_value=255,
    )
    gates = range(num_gates) if gate is None else [gate]
    _refer_to_frames(dataset, np.stack([origin.frame_numbers(one) for one in gates]))
    _name_dimensions(dataset, origin, maker, gate)
    if num_gates > 1 and gate is not None:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.FrameContentSequence[0].TemporalPositionIndex = gate + 1
    add_common(
        dataset,
        origin,
        maker,
        "SEG",
        modality="SEG",
        description=f"Segmentation, {maker.algorithm}",
        instance_number=number,
    )
    dataset.BodyPartExamined = "HEART"
    dataset.ImageComments = NOTICE
    return sealed(dataset, origin, maker)


def _description(highdicom: Any, origin: Origin, maker: Maker, name: str, number: int) -> Any:
    terms = SEGMENTS[name]
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=coded(terms.category),
        segmented_property_type=coded(terms.kind),
        anatomic_regions=[coded(terms.region)] if terms.region else None,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=maker.algorithm,
            family=coded(ARTIFICIAL_INTELLIGENCE),
            version=maker.version,
            source="mpi_unet",
        ),
        tracking_id=f"mpi_unet {name}",
        tracking_uid=tracking_uid(origin, name),
        display_color=highdicom.color.CIELabColor.from_rgb(*terms.color),
    )
    description.SegmentDescription = terms.title
    return description


def tracking_uid(origin: Origin, name: str) -> str:
    """The same structure of the same image, whichever gate or run has marked it."""
    return str(unique_id("tracked", origin.sop_instance_uid, name))


def coded(code: Code) -> Any:
    """A term in the library's form."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _as_enhanced(origin: Origin, stack: SliceStack, shape: tuple[int, ...]) -> Dataset:
    """The slices of one gate in the form of an enhanced object; nothing of the patient but what must be there."""
    described = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality"):
        setattr(described, keyword, origin.header[keyword].value)
    described.SeriesInstanceUID = origin.series_uid
    described.PatientID = described.PatientName = described.PatientBirthDate = described.PatientSex = ""
    described.AccessionNumber = described.StudyID = described.StudyDate = described.StudyTime = ""
    described.FrameOfReferenceUID = origin.frame_of_reference_uid
    described.NumberOfFrames, described.Rows, described.Columns = shape
    described.ImageType = list(origin.header.ImageType)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = decimals(stack.pixel_mm)
    measures.SliceThickness = measures.SpacingBetweenSlices = decimals([abs(stack.step_mm)])[0]
    orientation.ImageOrientationPatient = decimals((*stack.row_direction, *stack.column_direction))
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    described.SharedFunctionalGroupsSequence, described.PerFrameFunctionalGroupsSequence = [shared], []
    for z in range(shape[0]):
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = [format(value, PLACE_DIGITS) for value in (stack.affine_lps @ (0, 0, z, 1))[:3]]
        frame.PlanePositionSequence = [place]
        described.PerFrameFunctionalGroupsSequence.append(frame)
    return described


def _refer_to_frames(dataset: Dataset, frame_numbers: np.ndarray) -> None:
    """Replace the numbers within the gate by those of the frames (gate, z) of the origin; segments share references."""
    done = set()
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in frame.get("DerivationImageSequence", []):
            for source in derivation.SourceImageSequence:
                if id(source) in done:
                    continue
                done.add(id(source))
                within = np.atleast_1d(source.ReferencedFrameNumber).astype(int)
                found = [int(frame) for frame in frame_numbers[:, within - 1].ravel()]
                source.ReferencedFrameNumber = found if len(found) > 1 else found[0]


def _name_dimensions(dataset: Dataset, origin: Origin, maker: Maker, gate: int | None) -> None:
    """The library names the dimensions at random."""
    uid = unique_id("dimensions", maker.run, origin.sop_instance_uid, str(gate))
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        if "DimensionOrganizationUID" in item:
            item.DimensionOrganizationUID = uid
