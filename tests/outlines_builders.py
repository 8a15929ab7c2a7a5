"""Outlines as other programs write them: structure sets, segmentations, label maps, LabelMe and COCO files."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from mpi_unet.cohort.nifti import write_image
from mpi_unet.cohort.table import write_cohort_table
from mpi_unet.dicom.geometry import SliceStack, lps_from_ras
from mpi_unet.errors import CohortError
from mpi_unet.sources.outlines import outlines_cohort

SHAPE = (6, 16, 20)


def stack(step_mm: float) -> SliceStack:
    """An oblique stack, as the slices of a heart are."""
    row, column = np.array([0.8, 0.6, 0.0]), np.array([-0.36, 0.48, 0.8])
    return SliceStack((-31.0, 12.5, 40.0), tuple(row), tuple(column), (4.0, 3.5), step_mm)


def write_unread_cohort(
    root: Path,
    case_ids: Sequence[str] = ("P1_rest", "P2_rest"),
    *,
    affine_ras: np.ndarray | None = None,
    domain: str = "short_axis",
    shape: tuple[int, int, int] = SHAPE,
    columns: dict[str, dict[str, str]] | None = None,
) -> Path:
    """A cohort that nobody outlined yet."""
    affine = lps_from_ras(stack(6.0).affine_lps) if affine_ras is None else affine_ras
    rows = []
    for number, case_id in enumerate(case_ids):
        image = np.random.default_rng(number).random(shape, dtype=np.float32)
        write_image(root / f"images/{case_id}.nii.gz", image, affine, is_distance_z=domain != "projection")
        row = {"case_id": case_id, "patient_id": case_id.split("_")[0], "acquisition": "rest"}
        rows.append(row | {"image": f"images/{case_id}.nii.gz"} | (columns or {}).get(case_id, {}))
    metadata = {
        "name": "unread",
        "domain": domain,
        "label": "",
        "readers": [],
        "simulated_readers": False,
        "source": "tests/outlines_builders.py",
        "licence": "Apache-2.0",
        "intensities": "counts",
        "spacing_known": True,
    }
    write_cohort_table(root, metadata=metadata, rows=rows)
    return root


def disc_mask(
    affine_ras: np.ndarray, shape: tuple[int, int, int], frame: int, center_lps: np.ndarray, radius_mm: float
) -> np.ndarray:
    """Voxels of one slice whose centers are within a radius of a point in the patient, by their places alone."""
    z, y, x = np.indices(shape)
    places = np.stack([x, y, z, np.ones(shape)], axis=-1) @ lps_from_ras(affine_ras).T
    return (np.linalg.norm(places[..., :3] - center_lps, axis=-1) <= radius_mm) & (z == frame)


def circle(center: Sequence[float], radius: float, number: int = 90) -> np.ndarray:
    """Corners (row, column) of a circle in pixels."""
    angle = np.linspace(0, 2 * np.pi, number, endpoint=False)
    return np.stack([center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)], axis=1)


def circle_lps(center_lps: np.ndarray, radius_mm: float, geometry: SliceStack, number: int = 180) -> np.ndarray:
    """Corners of a circle in the plane of a slice, in the patient."""
    angle = np.linspace(0, 2 * np.pi, number, endpoint=False)[:, None]
    row, column = np.array(geometry.row_direction), np.array(geometry.column_direction)
    corners: np.ndarray = center_lps + radius_mm * (np.cos(angle) * row + np.sin(angle) * column)
    return corners


def to_lps(points: np.ndarray, frame: int, affine_ras: np.ndarray) -> np.ndarray:
    """Corners (row, column) of a slice in the patient."""
    voxels = np.column_stack([points[:, 1], points[:, 0], np.full(len(points), frame), np.ones(len(points))])
    return (voxels @ lps_from_ras(affine_ras).T)[:, :3]


def write_structures(
    path: Path, contours: Sequence[tuple[str, np.ndarray, str]], *, kind: str = "CLOSED_PLANAR", decimals: int = 4
) -> Path:
    """An RT structure set; contours are (ROI name, corners in LPS, SOP Instance UID of the image or '')."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.StructureSetLabel = "RTSTRUCT", "LV"
    names = list(dict.fromkeys(name for name, _, _ in contours))
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, name in enumerate(names, start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, "1.2.3"
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points, uid in [(points, uid) for of, points, uid in contours if of == name]:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
            item.ContourData = [f"{value:.{decimals}f}" for value in points.ravel()]
            if uid:
                image = Dataset()
                image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.20", uid
                item.ContourImageSequence = [image]
            drawn.ContourSequence.append(item)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def as_enhanced(image: Dataset, geometry: SliceStack, num_slices: int) -> Dataset:
    """A copy in memory with the groups of enhanced objects, without which highdicom does not take an NM image."""
    copied = copy.deepcopy(image)
    del copied.PixelData
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(geometry.pixel_mm), abs(geometry.step_mm)
    measures.SpacingBetweenSlices = abs(geometry.step_mm)
    orientation.ImageOrientationPatient = [*geometry.row_direction, *geometry.column_direction]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    copied.SharedFunctionalGroupsSequence, copied.PerFrameFunctionalGroupsSequence = [shared], []
    for number in range(num_slices):
        place, frame = Dataset(), Dataset()
        position = (geometry.affine_lps @ (0, 0, number, 1))[:3]
        place.ImagePositionPatient = [f"{value:.9g}" for value in position]
        frame.PlanePositionSequence = [place]
        copied.PerFrameFunctionalGroupsSequence.append(frame)
    return copied


def write_segmentation(
    path: Path, image: Dataset, geometry: SliceStack, masks: dict[str, np.ndarray], kind: str = "BINARY"
) -> Path:
    """A DICOM segmentation of an NM image by highdicom; empty frames are left out, as usual."""
    highdicom = pytest.importorskip("highdicom", reason="needs highdicom: pip install 'mpi_unet[dicom]'")
    from pydicom.sr.codedict import codes

    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Heart,
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(masks, start=1)
    ]
    pixels = np.stack(list(masks.values()), axis=-1)
    affine = geometry.affine_lps[:, [2, 1, 0, 3]]
    volume = highdicom.Volume(
        array=pixels if kind == "FRACTIONAL" else pixels.astype(np.uint8),
        affine=affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=image.FrameOfReferenceUID,
        channels={"SegmentNumber": list(range(1, len(masks) + 1))},
    )
    segmentation = highdicom.seg.Segmentation(
        [as_enhanced(image, geometry, pixels.shape[0])],
        volume,
        kind,
        descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="synthetic",
        manufacturer_model_name="synthetic",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, segmentation)
    return path


def write_turned_nifti(path: Path, values: np.ndarray, affine_ras: np.ndarray, axes: str) -> Path:
    """The same voxels as NIfTI with its axes in another order and direction, e.g. ``"PSR"`` as ITK-SNAP may."""
    image = nib.Nifti1Image(np.ascontiguousarray(values.T).astype(np.int16), affine_ras)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine_ras), nib.orientations.axcodes2ornt(tuple(axes)))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(turn), path)
    return path


def write_slicer_nrrd(
    path: Path, layers: np.ndarray, affine_ras: np.ndarray, segments: dict[str, tuple[int, int]]
) -> Path:
    """A segmentation as 3D Slicer saves it: cut to where something was drawn; segments are (layer, value)."""
    import SimpleITK

    inside = np.argwhere(layers.any(axis=0))
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    cut = layers[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]].astype(np.uint8)
    affine = lps_from_ras(affine_ras)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.moveaxis(cut, 0, -1) if len(cut) > 1 else cut[0], isVector=len(cut) > 1)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((affine @ (low[2], low[1], low[0], 1))[:3].tolist())
    for number, (name, (layer, value)) in enumerate(segments.items()):
        for key, text in (("ID", f"Segment_{number + 1}"), ("Name", name), ("Layer", layer), ("LabelValue", value)):
            image.SetMetaData(f"Segment{number}_{key}", str(text))
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    return path


def write_labelme(
    path: Path, shapes: Sequence[tuple[str, np.ndarray]], *, kind: str = "polygon", size: tuple[int, int] = SHAPE[1:]
) -> Path:
    """A LabelMe file; shapes are (label, corners (row, column) with centers at whole numbers)."""
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {"label": label, "points": (points[:, ::-1] + 0.5).tolist(), "group_id": None, "shape_type": kind}
            for label, points in shapes
        ],
        "imagePath": path.with_suffix(".png").name,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_coco(path: Path, annotations: Sequence[tuple[str, str, object]], size: tuple[int, int] = SHAPE[1:]) -> Path:
    """A COCO file; annotations are (image file, category, list of corners arrays or a run-length mapping)."""
    images = list(dict.fromkeys(image for image, _, _ in annotations))
    categories = list(dict.fromkeys(category for _, category, _ in annotations))
    entries = []
    for number, (image, category, outline) in enumerate(annotations, start=1):
        flat = (
            [(points[:, ::-1] + 0.5).ravel().tolist() for points in outline] if isinstance(outline, list) else outline
        )
        entries.append(
            {
                "id": number,
                "image_id": images.index(image) + 1,
                "category_id": categories.index(category) + 1,
                "segmentation": flat,
                "iscrowd": int(not isinstance(outline, list)),
            }
        )
    content = {
        "images": [
            {"id": number, "file_name": name, "height": size[0], "width": size[1]}
            for number, name in enumerate(images, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, start=1)],
        "annotations": entries,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


Corners = tuple[dict[str, object], np.ndarray]


def write_contours(path: Path, contours: Sequence[Corners], axes: tuple[str, str] = ("row_px", "column_px")) -> Path:
    """A table of contours, each (what its columns say, corners)."""
    rows = [
        facts | {"contour": number} | dict(zip(axes, corner, strict=True))
        for number, (facts, points) in enumerate(contours)
        for corner in points.tolist()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def outlines_error(source: Path, cohort: Path, **options) -> str:
    """The error of outlines that cannot be used; nothing may be left behind."""
    output = cohort.with_name("read")
    with pytest.raises(CohortError) as caught:
        outlines_cohort(source, output, cohort=cohort, **({"label": "lv_filled"} | options))
    assert not output.exists()
    assert not list(cohort.parent.glob(".part-*"))
    return str(caught.value)
