"""What a Nuclear Medicine image is, and which vectors say what its frames are (PS3.3 C.8.4.9.1.1.3 and C.8.4.8.1.1).

A *vector* gives one number from 1 for each frame: which energy window, detector, time slot or slice it is. Each kind of
image has vectors of its own; those of `AXES` are the ones that may vary from frame to frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from pydicom.uid import UID, NuclearMedicineImageStorage

from mpi_unet.dicom.nm.elements import Elements

__all__ = ["AXES", "NUMBERS", "NmKind", "kind_of", "kind_of_known", "require_nuclear_medicine"]


class NmKind(StrEnum):
    """Value 3 of Image Type (0008,0008)."""

    STATIC = "STATIC"
    DYNAMIC = "DYNAMIC"
    GATED = "GATED"
    WHOLE_BODY = "WHOLE BODY"
    TOMO = "TOMO"
    GATED_TOMO = "GATED TOMO"
    RECON_TOMO = "RECON TOMO"
    RECON_GATED_TOMO = "RECON GATED TOMO"

    @property
    def is_volume(self) -> bool:
        """Frames are slices: a reconstruction."""
        return self in (NmKind.RECON_TOMO, NmKind.RECON_GATED_TOMO)

    @property
    def is_projections(self) -> bool:
        """Frames are views of a camera that goes around the patient."""
        return self in (NmKind.TOMO, NmKind.GATED_TOMO)

    @property
    def is_gated(self) -> bool:
        """The heartbeat is cut into parts."""
        return self in (NmKind.GATED, NmKind.GATED_TOMO, NmKind.RECON_GATED_TOMO)


AXES: Mapping[NmKind, tuple[str, ...]] = MappingProxyType(
    {
        NmKind.STATIC: ("EnergyWindowVector", "DetectorVector"),
        NmKind.WHOLE_BODY: ("EnergyWindowVector", "DetectorVector"),
        NmKind.DYNAMIC: ("EnergyWindowVector", "DetectorVector", "PhaseVector", "TimeSliceVector"),
        NmKind.GATED: ("EnergyWindowVector", "DetectorVector", "RRIntervalVector", "TimeSlotVector"),
        NmKind.TOMO: ("EnergyWindowVector", "DetectorVector", "RotationVector", "AngularViewVector"),
        NmKind.GATED_TOMO: (
            "EnergyWindowVector",
            "DetectorVector",
            "RotationVector",
            "RRIntervalVector",
            "TimeSlotVector",
            "AngularViewVector",
        ),
        NmKind.RECON_TOMO: ("SliceVector",),
        NmKind.RECON_GATED_TOMO: ("RRIntervalVector", "TimeSlotVector", "SliceVector"),
    }
)
"""The vectors that Frame Increment Pointer (0028,0009) names for each kind (PS3.3 table C.8-8 and C.8.4.8.1.1)."""

NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "EnergyWindowVector": "NumberOfEnergyWindows",
        "DetectorVector": "NumberOfDetectors",
        "RotationVector": "NumberOfRotations",
        "RRIntervalVector": "NumberOfRRIntervals",
        "TimeSlotVector": "NumberOfTimeSlots",
        "SliceVector": "NumberOfSlices",
        "PhaseVector": "NumberOfPhases",
    }
)
"""How far each vector runs; the number of views and of time slices stands in sequences."""

KINDS = "one of " + ", ".join(kind.value for kind in NmKind)


def kind_of_known(image_type: tuple[str, ...]) -> NmKind | None:
    """The kind that Image Type names, or None where it names none.

    Example:
        >>> kind_of_known(("ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"))
        <NmKind.RECON_TOMO: 'RECON TOMO'>
        >>> kind_of_known(("ORIGINAL", "PRIMARY", "AXIAL")) is None
        True
    """
    try:
        return NmKind(image_type[2].upper().replace("_", " ")) if len(image_type) > 2 else None
    except ValueError:
        return None


def kind_of(elements: Elements) -> NmKind:
    """What the image is.

    Raises:
        DicomError: Image Type does not say it.
    """
    image_type = elements.texts("ImageType")
    kind = kind_of_known(image_type)
    if kind is None:
        found = f"has {image_type[2][:40]!r} as its value 3" if len(image_type) > 2 else f"has {len(image_type)} values"
        raise elements.error(
            "ImageType", found, f"{KINDS} as value 3", "without it nobody can say what the frames are; leave it out"
        )
    return kind


def require_nuclear_medicine(elements: Elements) -> None:
    """Refuse everything else by name.

    Raises:
        DicomError: SOP Class UID is that of another kind of object, or neither it nor Modality says what this is.
    """
    sop_class = elements.texts("SOPClassUID")
    if sop_class == (NuclearMedicineImageStorage,):
        return
    if not sop_class and elements.text("Modality") == "NM":
        return
    found = "is absent or empty" if not sop_class else f"is {_class_name(sop_class[0])}"
    raise elements.error("SOPClassUID", found, "Nuclear Medicine Image Storage", "leave the file out")


def _class_name(uid: str) -> str:
    """The name that the standard gives to a SOP class, or the identifier itself."""
    name = UID(uid).name
    return f"{uid[:64]!r}" if name == uid else f"{uid} ({name})"
