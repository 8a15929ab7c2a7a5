"""Which name stands for which image, now and for good.

Outlines are drawn under the name of a case, perhaps months after the cohort was made. Were a name given to another
image later, because its file was replaced or other arguments choose another reconstruction, they would silently be
outlines of something else. So every name that was ever given is kept in ``names.csv`` of the private folder (a name is
a pseudonym, and so is the identifier of the image that stands beside it), and a name that no image has any more is
never given again: the next image gets the next number.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from mpi_unet.errors import CohortError, listing
from mpi_unet.files import write_text
from mpi_unet.sources.account import make_private_folder, private_folder
from mpi_unet.sources.dicom.choice import Candidate

__all__ = ["base_of", "case_id_of", "check_names", "given_names", "keep_names", "numbers_of"]

NAMES, COLUMNS = "names.csv", ("case_id", "source_uid")
NAME = re.compile(r"(?P<base>.+?)(?:_g\d+)?(?:_(?P<number>\d+))?")


def base_of(one: Candidate) -> str:
    """What the cases of a patient and an acquisition are called, before their gate and their number."""
    return f"{one.patient}_{one.seen.acquisition or 'unknown'}"


def case_id_of(base: str, gate: int, number: int) -> str:
    """Name of a case; gate 0 stands for all of them, and the first case has no number.

    Example:
        >>> case_id_of("PABCDEFGHIJ_stress", 0, 1), case_id_of("PABCDEFGHIJ_stress", 2, 3)
        ('PABCDEFGHIJ_stress', 'PABCDEFGHIJ_stress_g2_3')
    """
    return base + (f"_g{gate}" if gate else "") + (f"_{number}" if number > 1 else "")


def given_names(output: Path) -> dict[str, str]:
    """Each name that a preparation at ``output`` has given to the keyed identifier of its image.

    Raises:
        CohortError: A name stands for two images.
    """
    given: dict[str, str] = {}
    torn = []
    for table in (private_folder(output) / NAMES, output / "cases.csv"):
        if not table.is_file():
            continue
        with open(table, encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                name, image = row.get("case_id") or "", row.get("source_uid") or ""
                if name and image and given.setdefault(name, image) != image:
                    torn.append(name)
    if torn:
        raise CohortError(
            f"{len(torn)} cases of {output} are other images than {private_folder(output) / NAMES} says:\n"
            f"{listing(torn)}\nThe private folder is that of another cohort, or one of them was put back from a copy; "
            "put both back as they belong together, or choose another output"
        )
    return given


def numbers_of(ordered: Sequence[Candidate], given: Mapping[str, str]) -> dict[str, int]:
    """Number each image among those of its patient and acquisition: as before, or else with the next free number.

    Args:
        ordered: The images, in the order in which new ones get their numbers.
        given: Name to identifier, as from `given_names`.

    Returns:
        Identifier to number.
    """
    image_of: dict[tuple[str, int], set[str]] = defaultdict(set)
    for name, image in given.items():
        found = NAME.fullmatch(name)
        if found:
            image_of[found["base"], int(found["number"] or 1)].add(image)
    numbers: dict[str, int] = {}
    for (base, number), images in sorted(image_of.items()):
        for one in ordered:
            if images == {one.source_uid} and base_of(one) == base:
                numbers.setdefault(one.source_uid, number)
    taken = set(image_of)
    for one in ordered:
        if one.source_uid not in numbers:
            number = 1
            while (base_of(one), number) in taken:
                number += 1
            numbers[one.source_uid] = number
            taken.add((base_of(one), number))
    return numbers


def check_names(names: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Refuse to call an image what another one was called.

    Args:
        names: Name to identifier, of this preparation.
        given: The same of all preparations before.

    Raises:
        CohortError: A name would change its image; all of them are named.
    """
    changed = sorted(name for name, image in names.items() if given.get(name, image) != image)
    if changed:
        raise CohortError(
            f"{len(changed)} cases would be other images than before, and outlines under their names would be wrong:\n"
            f"{listing(changed)}\nChoose another output"
        )


def keep_names(output: Path, names: Mapping[str, str]) -> None:
    """Keep the names of this preparation beside all that were given before.

    Raises:
        RunError: The private folder cannot be written to.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(sorted({**given_names(output), **names}.items()))
    write_text(make_private_folder(output) / NAMES, text.getvalue())
