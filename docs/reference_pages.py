"""Pages of the reference that are made from what they describe: the doors from conf/, the rooms from their docstrings.

:func:`write` puts them into ``docs/reference``, which git ignores; a page whose text has not changed is left alone,
so that Sphinx reads only what is new.
"""

from __future__ import annotations

import pkgutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from mpi_unet.__main__ import DOORS
from mpi_unet.config import config_dir

ROOMS = {
    "cohort": "cohort on disk, splits, leakage audit",
    "evaluation": "scores of masks, baselines, intervals",
    "agreement": "agreement between readers, and with a network",
    "cardiac": "axis, volumes, wall, polar map, phase",
    "phantom": "simulated patients, camera, readers",
    "dicom": "Nuclear Medicine images, contours, results, identity",
    "sources": "what `prepare` calls",
    "learning": "transforms, losses, training",
    "inference": "what `predict` calls",
    "report": "pages and figures",
}
"""The rooms whose functions are described, in the order of the page."""

TRAIN = "data split transforms model loss optimizer scheduler trainer logger evaluation experiment debug"
GROUPS = {"train": [*TRAIN.split(), "hydra/launcher", "hydra/sweeper"], "prepare": ["source"]}
"""The groups of conf/ that each door offers, in the order of its table of contents."""


def write(docs: Path) -> None:
    """Write all pages into ``docs/reference``, and remove those of earlier times."""
    folder = docs / "reference"
    folder.mkdir(exist_ok=True)
    pages = {f"{name}.md": _room_page(name, purpose) for name, purpose in ROOMS.items()}
    pages |= {f"door_{door}.md": _door_page(door, purpose) for door, purpose in DOORS.items()}
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        if not (folder / name).exists() or (folder / name).read_text() != text:
            (folder / name).write_text(text)


def keys(path: Path) -> Iterator[tuple[str, str, str]]:
    """Key, default and comment of each entry of a config, nested keys with dots.

    A comment stands behind its entry; a whole line of comment belongs to none.
    """
    text = path.read_text()
    lines = text.splitlines()

    def entries(node: yaml.MappingNode, above: str) -> Iterator[tuple[str, str, str]]:
        for key, value in node.value:
            name = above + key.value
            if name in ("defaults", "hydra") or key.value in ("_recursive_", "_convert_"):
                continue
            if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
                comment = _comment(lines[key.start_mark.line], key.end_mark.column)
                if comment:
                    yield name, "", comment
                yield from entries(value, name + ".")
            else:
                typed = text[value.start_mark.index : value.end_mark.index].strip()
                last = value.end_mark.line if value.end_mark.column else value.end_mark.line - 1
                column = value.end_mark.column if value.end_mark.column else len(lines[last])
                yield name, " ".join(typed.split()), _comment(lines[last], column)

    tree = yaml.compose(text)
    if isinstance(tree, yaml.MappingNode):
        yield from entries(tree, "")


def _comment(line: str, column: int) -> str:
    """What stands behind a hash on the rest of a line."""
    _, _, comment = line[column:].partition("#")
    return comment.strip()


def _cell(text: str) -> str:
    """Plain text within a table."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "|<>*_`[]"})


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def _table(rows: list[tuple[str, str, str]]) -> str:
    head = "| key | default | meaning |\n|---|---|---|\n"
    return head + "".join(f"| {_code(key)} | {_code(typed)} | {_cell(comment)} |\n" for key, typed, comment in rows)


def _lead(path: Path) -> str:
    """The comment that a config begins with: commands and what is set in become code, the rest paragraphs."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("#").removeprefix(" "))
    blocks: list[tuple[bool, list[str]]] = []
    for line in lines:
        is_code = line.startswith((" ", "python -m"))
        if not blocks or blocks[-1][0] != is_code:
            blocks.append((is_code, []))
        blocks[-1][1].append(line.strip())
    return "\n\n".join(
        "```text\n" + "\n".join(block) + "\n```" if is_code else _cell(" ".join(block)) for is_code, block in blocks
    )


def _usage(path: Path) -> str:
    """The commands of a door's help, without Hydra's own lists."""
    text: str = yaml.safe_load(path.read_text())["hydra"]["help"]["template"]
    text = text.partition("== Keys")[0].partition("== Groups")[0].replace("${hydra.help.header}", "")
    return textwrap.dedent(text.strip("\n")).rstrip()


def _door_page(door: str, purpose: str) -> str:
    path = config_dir() / f"{door}.yaml"
    text = f"# {door}\n\n{_cell(purpose[0].upper() + purpose[1:])}\n\n```text\n{_usage(path)}\n```\n\n## Keys\n\n"
    text += f"{_table(list(keys(path)))}\n"
    for group in GROUPS.get(door, []):
        text += f"## {group}\n\n"
        for option in sorted((config_dir() / group).glob("*.yaml")):
            text += f"### {group}={option.stem}\n\n{_lead(option)}\n\n"
            if rows := list(keys(option)):
                text += f"{_table(rows)}\n"
    return text


def _modules(room: str) -> Iterator[tuple[str, bool]]:
    """The names of a room's modules, depth first, and whether each is a package; private ones are left out."""
    package = config_dir().parent / "mpi_unet" / room
    for found in pkgutil.walk_packages([str(package)], f"mpi_unet.{room}."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield found.name, found.ispkg


def _room_page(room: str, purpose: str) -> str:
    text = f"# mpi_unet.{room}\n\n{purpose[0].upper()}{purpose[1:]}.\n\n"
    text += f"```{{eval-rst}}\n.. automodule:: mpi_unet.{room}\n   :no-members:\n```\n\n"
    for module, is_package in _modules(room):
        members = ":no-members:" if is_package else ":members:"  # a package only hands on what its modules define
        text += f"## {module.removeprefix(f'mpi_unet.{room}.')}\n\n"
        text += f"```{{eval-rst}}\n.. automodule:: {module}\n   {members}\n```\n\n"
    return text
