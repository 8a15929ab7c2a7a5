"""Files that belong together become a cohort of volumes: what the sources nifti, datalist and nnunet share.

Each of them says which file is the image of which case and which are the labels of its readers; here the files are
read, checked against each other and written. Labels come onto the voxels of their image exactly or not at all
(:mod:`mpi_unet.sources.grids`). A gated file of four axes becomes one case a gate, or their sum, as asked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mpi_unet.cohort.case import is_safe_name
from mpi_unet.cohort.nifti import quoted_values, write_image, write_mask
from mpi_unet.cohort.table import DOMAINS, LABELS, write_cohort_table
from mpi_unet.errors import CohortError, listing, nearest
from mpi_unet.files import sha256
from mpi_unet.shapes import Affine, Mask
from mpi_unet.sources.account import write_account, write_private_table
from mpi_unet.sources.grids import onto_grid
from mpi_unet.sources.naming import alike_readers, valid_reader
from mpi_unet.sources.placing import KEY, cohort_in_making
from mpi_unet.sources.volume_files import VolumeFile, read_volume_file

__all__ = ["GATES", "Meaning", "VolumeCase", "foreground_values", "volumes_cohort"]

VOLUMES_VERSION = 1
"""Raised whenever the same files and arguments give another cohort; a cohort of another version is made again."""

GATES = ("refuse", "all", "sum")
"""What becomes of a file with gates: an error, one case a gate, or one case with their sum."""

WHITE = (1, 255, 65535)
"""What stands for *inside* in a label of two values: 1, or white at 8 or 16 bits."""

ALONG_BODY = 0.966
"""Cosine of 15 degrees: nearer to the axis of the body lies no long axis of a heart."""


@dataclass(frozen=True)
class VolumeCase:
    """The files of one case.

    Attributes:
        case_id: Its id; safe as a file name.
        patient_id: Whose case it is.
        image: The image file.
        labels: Reader to label file.
        columns: Further columns of cases.csv.
        where: What to call the case in errors.
    """

    case_id: str
    patient_id: str
    image: Path
    labels: Mapping[str, Path] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class Meaning:
    """What the arguments say about the files.

    Attributes:
        source: Name of the source.
        name: Name of the cohort.
        domain: ``projection``, ``transaxial`` or ``short_axis``.
        label: What the labels outline; ignored when there are none.
        foreground: Values of labels that are inside; None for labels of two values, 0 and 1 or white.
        gates: One of `GATES`.
        licence: Licence of the files.
        described: Where the files come from, in words without names and paths.
        intensities: How intensities were treated.
        simulated_readers: Whether the readers are simulated.
        spacing_known: False when nobody knows the size of a pixel; None to go by whether files say where they lie.
        facts: Further keys of cohort.json.
    """

    source: str
    name: str
    domain: str
    label: str
    foreground: tuple[int, ...] | None = None
    gates: str = "refuse"
    licence: str = "not stated"
    described: str = ""
    intensities: str = "as read"
    simulated_readers: bool = False
    spacing_known: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def problems(self, *, has_labels: bool) -> list[str]:
        """What cannot be used among the arguments, one sentence each."""
        choices: list[tuple[str, str, Sequence[str]]] = [("domain", self.domain, DOMAINS), ("gates", self.gates, GATES)]
        if has_labels:
            choices.append(("label", self.label, LABELS))
        return [
            f"source.{key}={word or 'null'}; expected {' or '.join(allowed)}{nearest(word, allowed)}"
            for key, word, allowed in choices
            if word not in allowed
        ]


def foreground_values(foreground: object) -> tuple[int, ...] | None:
    """Values that are inside, of what the user gave: null, a number or several.

    Raises:
        CohortError: It is something else.

    Example:
        >>> foreground_values(None), foreground_values(2), foreground_values([1, 2])
        (None, (2,), (1, 2))
    """
    if foreground is None:
        return None
    values = foreground if isinstance(foreground, list | tuple) else [foreground]
    if not values or not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        raise CohortError(f"source.foreground={foreground!r}; expected a whole number, a list of them, or null")
    return tuple(values)


def volumes_cohort(
    output: str | Path,
    cases: Sequence[VolumeCase],
    meaning: Meaning,
    *,
    arguments: Mapping[str, Any],
    problems: Sequence[str] = (),
    left_out: Mapping[str, int] | None = None,
    warnings: Sequence[str] = (),
    files: Sequence[Mapping[str, str]] = (),
) -> Path:
    """Read the files of all cases and write them as a cohort.

    Args:
        output: Folder of the cohort.
        cases: The cases.
        meaning: What the files mean.
        arguments: Everything else that decides the cohort; a change of it makes the cohort anew.
        problems: What the source found wrong already.
        left_out: Reason to the number of files left out.
        warnings: What the user should know; no identities.
        files: What became of each file, for the private table; none is written without.

    Returns:
        The cohort folder.

    Raises:
        CohortError: In one error: files that are missing or cannot be read, labels on other grids or with other values
            than expected, cases of the same id, images with gates where none were expected.
        RunError: The disk is full or ``output`` cannot be written to.
    """
    readers = sorted({reader for case in cases for reader in case.labels})
    found = [*problems, *meaning.problems(has_labels=bool(readers)), *_id_problems(cases, readers)]
    key = _key(cases, meaning, arguments)
    with cohort_in_making(output, meaning.source, key) as part:
        if part is None and not found:
            return Path(output)
        if part is None:
            raise CohortError(_refusal(meaning, found))
        rows: list[dict[str, str]] = []
        grids: list[tuple[bool, Affine]] = []
        if not found:
            for case in cases:
                rows += _written(part, case, meaning, grids, found)
        known = _spacing_known(meaning, {is_placed for is_placed, _ in grids}, found)
        if found:
            raise CohortError(_refusal(meaning, found))
        notes = [*warnings, *_reading_notes(rows, readers), *(_grid_notes(grids, meaning.domain) if known else [])]
        write_account(part, meaning.source, rows, left_out=left_out, warnings=notes)
        write_cohort_table(part, metadata=_metadata(meaning, readers, known, key), rows=rows)
        if files:
            write_private_table(output, files, ("file", "taken", "reader", "reason"))
    return Path(output)


# --- Private helpers --------------------------------------------------------------------------------------------------


def _refusal(meaning: Meaning, problems: Sequence[str]) -> str:
    return (
        f"What source={meaning.source} found cannot become a cohort ({len(problems)} found):\n{listing(problems)}\n"
        "Correct the files or the options of the source"
    )


def _id_problems(cases: Sequence[VolumeCase], readers: Sequence[str]) -> list[str]:
    problems = [
        f"reader {name!r}; expected a name of letters, digits and _" for name in readers if not valid_reader(name)
    ]
    problems += alike_readers(readers)
    seen: dict[str, VolumeCase] = {}
    for case in cases:
        other = seen.setdefault(case.case_id.casefold(), case)
        if other is not case:
            problems.append(f"{case.where} and {other.where}: both are case {case.case_id}; expected one image a case")
        if not is_safe_name(case.case_id):
            problems.append(f"{case.where}: no file name can be made of case {case.case_id!r}")
        if not case.patient_id.strip():
            problems.append(f"{case.where}: its patient is empty; expected an id")
    return problems if cases else ["there is no image; expected at least one"]


def _written(
    part: Path, case: VolumeCase, meaning: Meaning, grids: list[tuple[bool, Affine]], problems: list[str]
) -> list[dict[str, str]]:
    """Write one case, or one a gate; returns their rows."""
    try:
        image = read_volume_file(case.image)
        gates = _gates(image, meaning.gates)
    except CohortError as error:
        problems.append(f"{case.where}: image {error}")
        return []
    masks: dict[str, list[Mask]] = {}
    for reader, path in case.labels.items():
        try:
            masks[reader] = _masks(path, image, len(gates), meaning.foreground)
        except CohortError as error:
            problems.append(f"{case.where}: label of {reader} ({path.name}): {error}")
    grids.append((image.is_placed, image.affine))
    is_distance_z = meaning.domain != "projection"
    rows = []
    for index, (gate, array) in enumerate(gates):
        case_id = f"{case.case_id}_g{gate}" if gate else case.case_id
        row = {"case_id": case_id, "patient_id": case.patient_id, **case.columns, "image": f"images/{case_id}.nii.gz"}
        if gate or (meaning.gates == "sum" and len(image.values) > 1):
            row["gate"] = gate or "sum"
        if not (part / row["image"]).is_file():  # a folder of this key holds nothing else
            write_image(part / row["image"], array.astype(np.float32), image.affine, is_distance_z=is_distance_z)
        for reader, of_gates in masks.items():
            row[f"label_{reader}"] = f"labels/{reader}/{case_id}.nii.gz"
            if not (part / row[f"label_{reader}"]).is_file():
                write_mask(part / row[f"label_{reader}"], of_gates[index], image.affine, is_distance_z=is_distance_z)
        rows.append(row)
    return rows


def _gates(image: VolumeFile, wish: str) -> list[tuple[str, Shaped[np.ndarray, "z y x"]]]:
    """Number of the gate, from 1 and empty for an ungated case, and its values."""
    values = image.values
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise CohortError(f"holds {values.dtype} values; expected real numbers")
    if len(values) == 1:
        return [("", values[0])]
    if wish == "all":
        return [(str(number), gate) for number, gate in enumerate(values, start=1)]
    if wish == "sum":
        return [("", values.astype(np.float64).sum(axis=0))]
    raise CohortError(
        f"has {len(values)} gates (a fourth axis); source.gates=all makes a case of each, source.gates=sum adds them up"
    )


def _masks(path: Path, image: VolumeFile, num_gates: int, foreground: tuple[int, ...] | None) -> list[Mask]:
    label = read_volume_file(path)
    inside = _inside(label.values, foreground)
    if len(inside) != num_gates:
        raise CohortError(
            f"has {len(inside)} gates, its image makes {num_gates} cases; expected one outline a gate, in a fourth axis"
        )
    shape = image.values.shape[1:]
    if label.is_placed and image.is_placed:
        return [onto_grid(mask, label.affine, (shape[0], shape[1], shape[2]), image.affine) for mask in inside]
    if inside.shape[1:] != shape:
        found, expected = ("x".join(map(str, sizes)) for sizes in (inside.shape[1:], shape))
        raise CohortError(f"is {found}, its image {expected} (z, y, x) voxels; a label must lie on its image's grid")
    return list(inside)


def _inside(
    values: Shaped[np.ndarray, "gate z y x"], foreground: tuple[int, ...] | None
) -> Shaped[np.ndarray, "gate z y x"]:
    if foreground is not None:
        distinct = np.unique(values)
        if not np.isfinite(distinct).all() or (distinct != np.round(distinct)).any():
            raise CohortError(f"holds {quoted_values(values)}; expected whole numbers")
        return np.isin(values, foreground)
    found = set(np.unique(values).tolist())
    if len(found - {0}) > 1 or not found <= {0, *WHITE}:
        raise CohortError(
            f"holds {quoted_values(values)}; expected 0 and 1, or 0 and white; for several structures say which with "
            "source.foreground=<value> or a list"
        )
    inside: Shaped[np.ndarray, "gate z y x"] = values != 0
    return inside


def _spacing_known(meaning: Meaning, placed: set[bool], problems: list[str]) -> bool:
    if meaning.spacing_known is not None:
        return meaning.spacing_known
    if len(placed) > 1:
        problems.append(
            "some images say where their voxels lie and some do not; expected all or none: say "
            "source.voxel_size_known=true if all of them have the right voxel size"
        )
    return placed == {True}


def _reading_notes(rows: Sequence[Mapping[str, str]], readers: Sequence[str]) -> list[str]:
    numbers = {reader: sum(bool(row.get(f"label_{reader}")) for row in rows) for reader in readers}
    return [
        f"{reader} outlined {number} of {len(rows)} cases" for reader, number in numbers.items() if number < len(rows)
    ]


def _grid_notes(grids: Sequence[tuple[bool, Affine]], domain: str) -> list[str]:
    """What is odd about voxel sizes and directions: nothing is wrong with them, and results depend on them."""
    sizes = Counter(
        " x ".join(f"{size:.3g}" for size in np.linalg.norm(affine[:3, :3], axis=0)[::-1]) for _, affine in grids
    )
    notes = []
    if len(sizes) > 1:
        listed = ", ".join(f"{size} mm in {number}" for size, number in sizes.most_common())
        notes.append(f"voxels (z, y, x) are {listed} images; nothing is resampled, so hearts differ in size in pixels")
    across = sum(abs(affine[2, 2]) > ALONG_BODY * np.linalg.norm(affine[:3, 2]) for _, affine in grids)
    if domain == "short_axis" and across:
        notes.append(
            f"{across} of {len(grids)} images say that their slices lie straight across the body, as no heart's short "
            "axis does: which wall is the inferior one is taken from the picture, where it is below"
        )
    return notes


def _metadata(meaning: Meaning, readers: list[str], spacing_known: bool, key: str) -> dict[str, Any]:
    return {
        "name": meaning.name,
        "domain": meaning.domain,
        "label": meaning.label if readers else "",
        "readers": readers,
        "simulated_readers": meaning.simulated_readers,
        "source": meaning.described,
        "licence": meaning.licence,
        "intensities": meaning.intensities,
        "spacing_known": spacing_known,
        **meaning.facts,
        KEY: f"{meaning.source}:{key}",
    }


def _key(cases: Sequence[VolumeCase], meaning: Meaning, arguments: Mapping[str, Any]) -> str:
    """Changes with every file, with what was made of their names, and with the arguments."""
    about = asdict(meaning) | {"arguments": dict(arguments)}
    parts: list[bytes | str] = [str(VOLUMES_VERSION), json.dumps(about, sort_keys=True, default=str)]
    for case in cases:
        parts.append(json.dumps([case.case_id, case.patient_id, dict(case.columns), sorted(case.labels)]))
        for path in (case.image, *(case.labels[reader] for reader in sorted(case.labels))):
            parts.append(path.read_bytes() if path.is_file() else b"")
    return sha256(*parts)
