"""Outlines in JSON: LabelMe, one file an image, and COCO, one file for many images.

Both count positions from the outer corner of the first pixel, so that its center is at (0.5, 0.5). COCO can also hold
masks as run lengths, column by column, plain or packed into text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpi_unet.errors import CohortError
from mpi_unet.shapes import FrameMask
from mpi_unet.sources.outlines.drawn import Drawing, FrameLabel, Polygon
from mpi_unet.sources.outlines.tables import FileFacts, read_number

__all__ = ["json_drawings", "run_length_mask", "unpacked_counts"]

MAX_PIXELS = 2**26
"""A run-length mask that claims more pixels is refused before it is unpacked."""


def json_drawings(path: Path, facts: FileFacts, problems: list[str]) -> list[Drawing]:
    """The outlines of one JSON file.

    Args:
        path: The file.
        facts: What is known of it.
        problems: Gets a sentence for every outline that cannot be used.

    Raises:
        CohortError: The file cannot be read or is neither LabelMe nor COCO.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CohortError(f"cannot be read as JSON ({error}); export it again") from error
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        return _labelme(content, facts, problems)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return _coco(content, facts, problems)
    raise CohortError("is neither LabelMe (key 'shapes') nor COCO (keys 'images' and 'annotations')")


def run_length_mask(segmentation: Mapping[str, Any]) -> FrameMask:
    """A COCO mask given by run lengths.

    Args:
        segmentation: ``size`` (rows, columns) and ``counts``, a list of lengths or the packed text; lengths of outside
            and inside in turn, down the columns.

    Returns:
        The mask (row, column).

    Raises:
        CohortError: The lengths do not fill the size.

    Source:
        pycocotools, maskApi.c, the format that COCO is defined by.

    Example:
        >>> run_length_mask({"size": [2, 3], "counts": [1, 2, 3]}).astype(int).tolist()
        [[0, 1, 0], [1, 0, 0]]
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise CohortError(f"size is {size!r}; expected rows and columns")
    lengths = unpacked_counts(counts) if isinstance(counts, str) else counts
    if not (isinstance(lengths, list) and all(isinstance(n, int) and n >= 0 for n in lengths)):
        raise CohortError("its run lengths are no whole numbers; expected a list, or COCO's packed text")
    number = size[0] * size[1]
    if number > MAX_PIXELS or sum(lengths) != number:
        raise CohortError(f"its run lengths cover {sum(lengths)} pixels of {number}; expected all of them")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(values.reshape(size[1], size[0]).T)


def unpacked_counts(text: str) -> list[int]:
    """The run lengths in COCO's packed text: six bits a character, and from the third length on differences.

    Raises:
        CohortError: A character is out of range, or the text ends within a number.

    Example:
        >>> unpacked_counts("123")
        [1, 2, 3]
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise CohortError(f"its run lengths hold the character {character!r}; expected COCO's packed text")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise CohortError("its run lengths end within a number; expected COCO's packed text")
    return lengths


# --- Private helpers --------------------------------------------------------------------------------------------------


def _labelme(content: Mapping[str, Any], facts: FileFacts, problems: list[str]) -> list[Drawing]:
    drawings = []
    for number, shape in enumerate(content["shapes"], start=1):
        where = f"{facts.name}, shape {number}"
        try:
            image = str(content.get("imagePath") or "")
            groups = dict(facts.groups) if facts.groups else facts.groups_of_image(image)
            kind = shape.get("shape_type", "polygon")
            if kind != "polygon":
                raise CohortError(f"shape_type is {kind!r}; expected a closed polygon")
            points = _points([value for point in shape["points"] for value in point])
            size = _size(content.get("imageHeight"), content.get("imageWidth"))
            polygon = Polygon(points, "include", "pixel", facts.origin_or("corner"), size)
            drawings.append(_drawing(facts, where, groups, str(shape.get("label") or ""), polygon))
        except CohortError as error:
            problems.append(f"{where}: {error}")
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            problems.append(f"{where}: is no LabelMe shape ({type(error).__name__}: {error}); export it again")
    return drawings


def _coco(content: Mapping[str, Any], facts: FileFacts, problems: list[str]) -> list[Drawing]:
    images = {image.get("id"): image for image in _mappings(content.get("images"))}
    names = {entry.get("id"): str(entry.get("name", "")) for entry in _mappings(content.get("categories"))}
    drawings = []
    for number, entry in enumerate(_mappings(content["annotations"]), start=1):
        where = f"{facts.name}, annotation {entry.get('id', number)}"
        try:
            image = images.get(entry.get("image_id"))
            if image is None:
                raise CohortError(f"image_id is {entry.get('image_id')!r}; there is no such image in the file")
            groups = facts.groups_of_image(str(image.get("file_name", "")))
            structure = names.get(entry.get("category_id"), "")
            outline = entry.get("segmentation")
            if isinstance(outline, dict):
                drawings.append(_drawing(facts, where, groups, structure, FrameLabel(run_length_mask(outline))))
                continue
            if not isinstance(outline, list) or not outline:
                raise CohortError("has no segmentation; expected polygons or run lengths")
            size = _size(image.get("height"), image.get("width"))
            for polygon in outline:
                shape = Polygon(_points(polygon), "include", "pixel", facts.origin_or("corner"), size)
                drawings.append(_drawing(facts, where, groups, structure, shape))
        except CohortError as error:
            problems.append(f"{where}: {error}")
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            problems.append(f"{where}: is no COCO annotation ({type(error).__name__}: {error}); export it again")
    return drawings


def _drawing(
    facts: FileFacts, where: str, groups: Mapping[str, str], structure: str, shape: Polygon | FrameLabel
) -> Drawing:
    return Drawing(
        file=facts.name,
        where=where,
        reader=groups.get("reader") or facts.reader,
        read=read_number(groups),
        groups=groups,
        structure=structure,
        frame=facts.frame_of(groups.get("frame")),
        shape=shape,
    )


def _points(numbers: list[Any]) -> np.ndarray:
    """Corners (row, column) of the numbers x, y, x, y, ..."""
    if len(numbers) % 2 or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise CohortError(f"holds {len(numbers)} numbers; expected x and y in turn")
    points: np.ndarray = np.array(numbers, dtype=float).reshape(-1, 2)[:, ::-1]
    return np.ascontiguousarray(points)


def _size(rows: Any, columns: Any) -> tuple[int, int] | None:
    return (rows, columns) if isinstance(rows, int) and isinstance(columns, int) else None


def _mappings(entries: Any) -> Iterable[Mapping[str, Any]]:
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
