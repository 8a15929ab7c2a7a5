"""Reading DICOM segmentations: masks in patient space, one volume a segment.

A segmentation stores the frames that are not empty, in an order of its own; here they become volumes (z, y, x) with
their affine. Such a volume may be smaller than the image that it was drawn on, and turned against it: putting it on the
image's voxels is the caller's work. DICOM has no time axis for segmentations, so a gated study needs one file a gate.

This needs highdicom, the extra ``mpi_unet[dicom]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.dicom.geometry import lps_from_ras
from mpi_unet.dicom.nm.file import quiet
from mpi_unet.errors import DicomError
from mpi_unet.shapes import Affine, Mask

__all__ = ["Segment", "read_segments"]


@dataclass(frozen=True)
class Segment:
    """One segment of a segmentation.

    Attributes:
        number: Segment Number, from 1.
        label: Segment Label.
        mask: True inside (z, y, x); frames that the file leaves out are empty.
        affine_ras: Voxel index (x, y, z) of the mask to RAS in mm.
        frame_of_reference_uid: Space in which the place of the voxels means something.
        source_uids: SOP Instance UIDs of the images that it was made from; empty when the file does not say.
    """

    number: int
    label: str
    mask: Mask
    affine_ras: Affine
    frame_of_reference_uid: str
    source_uids: tuple[str, ...]


def read_segments(path: str | Path) -> tuple[Segment, ...]:
    """Read every segment of a DICOM segmentation.

    Args:
        path: The file; of type BINARY or LABELMAP.

    Returns:
        The segments by their number.

    Raises:
        DicomError: highdicom is not installed, or the file is no segmentation, holds fractions, or places its frames
            on no regular grid.

    Source:
        DICOM PS3.3 A.51 (Segmentation IOD), C.8.20.
    """
    path = Path(path)
    try:
        import highdicom
    except ImportError as error:
        raise DicomError(
            f"{path.name}: reading DICOM segmentations needs highdicom; install it with: pip install 'mpi_unet[dicom]'"
        ) from error
    try:
        with quiet():  # what is wrong with the file is said by the error, or does not matter
            segments = _segments(highdicom.seg.segread(path), path)
    except DicomError:
        raise
    except Exception as error:  # pydicom and highdicom raise whatever they like on a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DicomError(f"{path.name}: cannot be read as a DICOM segmentation ({reason}); export it again") from error
    return segments


# --- Private helpers --------------------------------------------------------------------------------------------------


def _segments(segmentation: Any, path: Path) -> tuple[Segment, ...]:
    kind = str(segmentation.SegmentationType)
    if kind == "FRACTIONAL":
        raise DicomError(
            f"{path.name}: SegmentationType (0062,0001) is FRACTIONAL; an outline is inside or outside: "
            "export it as BINARY"
        )
    geometry = segmentation.get_volume_geometry(allow_missing_positions=True)
    if geometry is None:
        raise DicomError(
            f"{path.name}: its frames lie on no regular grid; expected parallel slices at equal distances, "
            "in patient space"
        )
    return tuple(_segment(segmentation, int(number)) for number in segmentation.segment_numbers)


def _segment(segmentation: Any, number: int) -> Segment:
    volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True, allow_missing_positions=True)
    affine_lps = np.asarray(volume.affine, dtype=float)[:, [2, 1, 0, 3]]  # of index (z, y, x) to that of (x, y, z)
    sources = {str(uids[2]) for uids in segmentation.get_source_image_uids()}
    return Segment(
        number=number,
        label=str(segmentation.get_segment_description(number).segment_label),
        mask=np.ascontiguousarray(volume.array == number),  # of a LABELMAP, highdicom keeps the other segments
        affine_ras=lps_from_ras(affine_lps),
        frame_of_reference_uid=str(segmentation.get("FrameOfReferenceUID", "")),
        source_uids=tuple(sorted(sources)),
    )
