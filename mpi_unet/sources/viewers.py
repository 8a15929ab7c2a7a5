"""Outlines of a cohort for the eye: 3D Slicer segmentations with named segments, and label maps for ITK-SNAP.

A *segment* is one structure of a Slicer segmentation. Each reader's outline is one, and a network's mask another, each
in a layer of its own, for outlines of two readers overlap. ITK-SNAP shows one label map at a time: a file a reader, and
a label description that names the values. ``source=outlines`` reads both back.

Source:
    3D Slicer, Segmentations module, file format ``.seg.nrrd``; NRRD 0004, teem.sourceforge.net/nrrd; the comment at the
    head of label descriptions that ITK-SNAP writes.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.cohort.case import Case
from mpi_unet.cohort.nifti import COMPRESSION_LEVEL, read_mask, read_stored, write_mask
from mpi_unet.cohort.table import Cohort
from mpi_unet.errors import CohortError, listing
from mpi_unet.files import whole_file, write_text
from mpi_unet.shapes import Affine, Mask
from mpi_unet.sources.interchange import copied, made_in_place

__all__ = ["NETWORK", "label_description", "write_itksnap", "write_segments", "write_slicer"]

NETWORK = "network"
"""Name of the outlines that are no reader's."""

COLORS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
"""Red, green, blue of the outlines in their order: the palette of Okabe and Ito, for color-blind people as well."""


def write_slicer(cohort: Cohort, output: str | Path, *, predictions: str | Path | None = None) -> Path:
    """Write images, and one ``.seg.nrrd`` a case with a segment for each reader.

    Args:
        cohort: The cohort.
        output: Folder to make; ``images`` and ``segmentations`` in it.
        predictions: Folder of masks ``<case>.nii.gz``, which become the segment ``network``.

    Returns:
        The folder.

    Raises:
        CohortError: There is nothing to show, a mask does not fit its image, or ``output`` holds something else.
        RunError: The disk is full or the folder cannot be written to.
    """
    shown = _masks(cohort, predictions)
    with made_in_place(output, "slicer") as part:
        for case in cohort.cases:
            copied(case.image, part / "images" / case.image.name, part)
            masks = {name: read_mask(path) for name, path in shown[case.case_id].items()}
            if masks:
                stored = read_stored(case.image)
                write_segments(part / "segmentations" / f"{case.case_id}.seg.nrrd", masks, stored.affine)
    return Path(output)


def write_itksnap(cohort: Cohort, output: str | Path, *, predictions: str | Path | None = None) -> Path:
    """Write images, a label map for each outline, and the label description that names and colors their values.

    The first reader has the value 1, the second 2, and so on, the network the last one.

    Args:
        cohort: The cohort.
        output: Folder to make; ``images``, ``labels/<reader>`` and ``labels.txt`` in it.
        predictions: Folder of masks ``<case>.nii.gz``.

    Returns:
        The folder.

    Raises:
        CohortError: There is nothing to show, a mask does not fit its image, or ``output`` holds something else.
        RunError: The disk is full or the folder cannot be written to.
    """
    shown = _masks(cohort, predictions)
    names = _names(cohort, predictions)
    with made_in_place(output, "itksnap") as part:
        for case in cohort.cases:
            copied(case.image, part / "images" / case.image.name, part)
            for name, path in shown[case.case_id].items():
                stored = read_stored(case.image)
                file = part / "labels" / name / f"{case.case_id}.nii.gz"
                _write_values(file, read_mask(path), names.index(name) + 1, stored.affine, stored.is_placed)
        write_text(part / "labels.txt", label_description([f"{cohort.label or 'LV'} {name}" for name in names]))
    return Path(output)


def write_segments(path: Path, masks: Mapping[str, Mask], affine_ras: Affine) -> None:
    """Write masks of one image as a segmentation of 3D Slicer, a layer for each; a single one has no axis of layers.

    Args:
        path: A name that ends in ``.seg.nrrd``.
        masks: Name of the segment to mask (z, y, x), all of one shape.
        affine_ras: Voxel index (x, y, z) to millimetres in RAS.

    Raises:
        RunError: The disk is full or the folder cannot be written to.
    """
    layers = np.stack(list(masks.values())).astype(np.uint8)
    z, y, x = layers.shape[1:]
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_ras
    several = len(layers) > 1
    lines = [
        "NRRD0004",
        "type: uint8",
        f"dimension: {4 if several else 3}",
        "space: left-posterior-superior",
        "sizes: " + (f"{len(layers)} " if several else "") + f"{x} {y} {z}",
        "space directions: " + ("none " if several else "") + " ".join(_vector(lps[:3, axis]) for axis in range(3)),
        "kinds: " + ("list " if several else "") + "domain domain domain",
        "encoding: gzip",
        f"space origin: {_vector(lps[:3, 3])}",
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    for number, name in enumerate(masks):
        red, green, blue = (value / 255 for value in COLORS[number % len(COLORS)])
        facts = {
            "ID": f"Segment_{number + 1}",
            "Name": name,
            "NameAutoGenerated": 0,
            "Color": f"{red:.6g} {green:.6g} {blue:.6g}",
            "ColorAutoGenerated": 0,
            "Layer": number,
            "LabelValue": 1,
            "Extent": f"0 {x - 1} 0 {y - 1} 0 {z - 1}",
            "Tags": "|",
        }
        lines += [f"Segment{number}_{key}:={value}" for key, value in facts.items()]
    values = np.moveaxis(layers, 0, -1)  # the first axis of a file, here the layers, varies fastest
    packed = gzip.compress(np.ascontiguousarray(values).tobytes(), compresslevel=COMPRESSION_LEVEL, mtime=0)
    with whole_file(path) as temporary:
        temporary.write_bytes("\n".join(lines).encode() + b"\n\n" + packed)


def label_description(names: Sequence[str]) -> str:
    """Names and colors of the values 1, 2, ... as ITK-SNAP reads them.

    ITK-SNAP knows a file that is dropped on its window for a label description by the second line.

    Example:
        >>> print(label_description(["lv_wall A"]).splitlines()[-1])
            1  230  159    0        1  1  1    "lv_wall A"
    """
    head = [
        "################################################",
        "# ITK-SnAP Label Description File",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        '    0    0    0    0        0  0  0    "Clear Label"',
    ]
    rows = [
        f'{number:5d}{red:5d}{green:5d}{blue:5d}        1  1  1    "{name}"'
        for number, name in enumerate(names, start=1)
        for red, green, blue in [COLORS[(number - 1) % len(COLORS)]]
    ]
    return "\n".join([*head, *rows]) + "\n"


# --- Private helpers --------------------------------------------------------------------------------------------------


def _names(cohort: Cohort, predictions: str | Path | None) -> list[str]:
    return [*cohort.readers, *([NETWORK] if predictions is not None else [])]


def _masks(cohort: Cohort, predictions: str | Path | None) -> dict[str, dict[str, Path]]:
    """Name of each outline to its file, by case.

    Raises:
        CohortError: Naming every mask whose grid is not that of its image; or there is none at all.
    """
    folder = Path(predictions) if predictions is not None else None
    if folder is not None and not folder.is_dir():
        raise CohortError(f"predictions={predictions} is no folder; give the folder of masks <case>.nii.gz")
    if folder is not None and NETWORK in cohort.readers:
        raise CohortError(f"a reader of the cohort is called {NETWORK}, as the predictions would be; leave these out")
    shown, problems = {}, []
    for case in cohort.cases:
        found = dict(case.labels)
        if folder is not None and (file := folder / f"{case.case_id}.nii.gz").is_file():
            found[NETWORK] = file
            if (shape := read_mask(file).shape) != (expected := _shape(case)):
                problems.append(f"{case.case_id}: the mask is {_text(shape)}, its image {_text(expected)} (z, y, x)")
        shown[case.case_id] = found
    if problems:
        raise CohortError(
            f"masks of {predictions} do not fit their images:\n{listing(problems)}\nGive masks of this cohort"
        )
    if not any(shown.values()):
        what = f"{predictions} holds no <case>.nii.gz of it" if folder is not None else "no predictions were given"
        raise CohortError(f"there is nothing to show: nobody outlined anything in {cohort.root}, and {what}")
    return shown


def _shape(case: Case) -> tuple[int, ...]:
    return read_stored(case.image).values.shape


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(f"{float(value):.17g}" for value in values) + ")"


def _write_values(path: Path, mask: Mask, value: int, affine: Affine, is_placed: bool) -> None:
    """A mask with a value of its own; `write_mask` has 1."""
    import nibabel as nib

    write_mask(path, mask, affine, is_distance_z=is_placed)
    if value == 1:
        return
    file: Any = nib.load(path)
    other = nib.Nifti1Image(np.asanyarray(file.dataobj) * np.uint8(value), None, file.header)
    with whole_file(path) as temporary:
        nib.save(other, temporary)
