"""The numbers of docs/outlines.md.

python docs/figures/outlines.py lidc FOLDER   our masks against those that pylidc made of the same contours
python docs/figures/outlines.py areas         area of discs and shells of known size, by us and drawn by Pillow

FOLDER holds contours.csv, masks_packed.npz and reference.csv of LIDC-IDRI.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mpi_unet.dicom.contours import Contour, Edge, contours_mask, point_problems
from mpi_unet.shapes import Mask

PIXEL_MM, NUM_DISCS = 4.8, 200


@dataclass(frozen=True)
class Reading:
    """One reader's contours of one nodule, by slice, and the mask (slice, row, column) that pylidc made of them."""

    contours: dict[int, list[Contour]]
    mask: Mask

    def filled(self, edge: Edge, *, with_holes: bool = True) -> Mask:
        """Our mask of the same contours."""
        taken = {
            z: [contour for contour in contours if with_holes or contour.kind == "include"]
            for z, contours in self.contours.items()
        }
        shape = (self.mask.shape[1], self.mask.shape[2])
        return np.stack([contours_mask(taken.get(z, []), shape, edge=edge) for z in range(len(self.mask))])


def lidc_readings(folder: Path) -> Iterator[Reading]:
    """Every reading; positions are (column, row) in the file and counted from the corner of the nodule's box here."""
    csv.field_size_limit(10**7)
    drawn = defaultdict(list)
    with open(folder / "contours.csv", newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            drawn[row["id"], int(row["reader"])].append(row)
    packed = np.load(folder / "masks_packed.npz")
    with open(folder / "reference.csv", newline="", encoding="utf-8") as lines:
        nodules = list(csv.DictReader(lines))
    for nodule in nodules:
        shape = packed[f"{nodule['id']}_shape"]
        masks = np.unpackbits(packed[nodule["id"]])[: np.prod(shape)].reshape(shape).astype(bool)
        row, column, slice_ = (int(part.partition(":")[0]) for part in nodule["bbox"].split(";"))
        for reader in range(4):
            contours = defaultdict(list)
            for entry in drawn[nodule["id"], reader]:
                points = np.array([pair.split(",")[::-1] for pair in entry["coords_ij"].split(";")], dtype=float)
                points -= row, column
                contour = Contour(points, "include" if entry["inclusion"] == "True" else "exclude")
                contours[int(entry["k"]) - slice_].append(contour)
            yield Reading(dict(contours), np.moveaxis(masks[reader], -1, 0))


def say(line: str) -> None:
    """Write one line of a result."""
    sys.stdout.write(line + "\n")


def lidc(folder: Path) -> None:
    """Print how far our masks are from those of pylidc."""
    readings = list(lidc_readings(folder))
    contours = [contour for reading in readings for part in reading.contours.values() for contour in part]
    holes = [
        reading for reading in readings if any(c.kind == "exclude" for part in reading.contours.values() for c in part)
    ]
    num_holes = sum(contour.kind == "exclude" for contour in contours)
    say(f"{len(readings)} readings, {len(contours)} contours, {num_holes} of them holes")
    say(f"{sum(_crosses(contour) for contour in contours)} contours cross themselves")
    say("| centers on the outline | readings | mean Dice | least | equal | voxels more | voxels less |")
    say("|---|---|---|---|---|---|---|")
    cases = (
        ("outside", readings, True),
        ("inside", readings, True),
        ("outside", holes, True),
        ("outside", holes, False),
    )
    for edge, chosen, with_holes in cases:
        ours = [reading.filled(edge, with_holes=with_holes) for reading in chosen]
        pairs = list(zip(ours, (reading.mask for reading in chosen), strict=True))
        dice = np.array([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs])
        more, less = sum((a & ~b).sum() for a, b in pairs), sum((b & ~a).sum() for a, b in pairs)
        which = "all" if chosen is readings else "with holes" if with_holes else "with holes, which are ignored"
        equal = f"{(dice == 1).sum()} of {len(dice)}"
        say(f"| {edge} | {which} | {dice.mean():.4f} | {dice.min():.4f} | {equal} | {more} | {less} |")


def _crosses(contour: Contour) -> bool:
    shape = tuple(int(size) for size in contour.points.max(axis=0) + 2)
    return any("crosses" in problem for problem in point_problems(contour.points, (shape[0], shape[1])))


def areas() -> None:
    """Print the error of the area of discs of about 30 mm and of shells of 10 mm on SPECT pixels."""
    rng = np.random.default_rng(7)
    shape, true = (31, 31), np.zeros(2)
    found = {"ours, centers inside": np.zeros(2), "Pillow, polygon drawn": np.zeros(2)}
    for _ in range(NUM_DISCS):
        center, radius = 15 + rng.uniform(-0.5, 0.5, 2), rng.uniform(28, 32)
        outer, inner = _circle(center, radius / PIXEL_MM), _circle(center, (radius - 10) / PIXEL_MM)
        true += np.pi * np.array([radius**2, radius**2 - (radius - 10) ** 2])
        discs = {
            "ours, centers inside": [contours_mask([Contour(points)], shape) for points in (outer, inner)],
            "Pillow, polygon drawn": [_drawn(points, shape) for points in (outer, inner)],
        }
        for name, (whole, hole) in discs.items():
            found[name] += np.array([whole.sum(), (whole & ~hole).sum()]) * PIXEL_MM**2
    say("| by | disc | shell |\n|---|---|---|")
    for name, area in found.items():
        say(f"| {name} | {100 * (area[0] / true[0] - 1):+.1f} % | {100 * (area[1] / true[1] - 1):+.1f} % |")


def _circle(center: np.ndarray, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return center + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _drawn(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    image = Image.new("1", shape[::-1])
    ImageDraw.Draw(image).polygon([(column, row) for row, column in points.tolist()], fill=1, outline=1)
    return np.array(image)


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["lidc"] and len(words) == 2:
        lidc(Path(words[1]))
    elif words == ["areas"]:
        areas()
    else:
        sys.exit(__doc__)
