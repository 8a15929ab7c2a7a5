"""The licences of everything that mpi_unet runs on, from the metadata of what is installed.

python docs/licences.py     docs/licences.md

A package of the runtime is one that ``pip install mpi-unet`` brings, in any number of steps; those of an extra are
what the extra brings beside them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).with_name("licences.md")
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
TOOLS = ("dev", "docs", "browser", "notebooks")
"""Extras for work on mpi_unet itself; the others are for its use."""

COPYLEFT = re.compile(r"\b(?:A|L)?GPL|GNU", re.IGNORECASE)
"""Licences that ask something of whoever passes on what is built with them."""

HEAD = """# Licences

mpi_unet is under Apache-2.0. What it runs on, as each package states its licence; `python docs/licences.py` writes
this page from what is installed. A test fails when a package of the runtime, or of an extra for its use, is under a
licence of the GPL family.

The list is of Linux with the CPU build of PyTorch. The CUDA build brings NVIDIA's libraries under NVIDIA's own terms.
"""

SHORT = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


TEXTS = {
    "GENERAL PUBLIC LICENSE": "GNU GPL, LGPL or AGPL",
    "Permission is hereby granted, free of charge, to any person obtaining a copy": "MIT",
}
"""Words that tell a licence by its text, where a package ships that and states nothing."""


def licence(found: Distribution) -> str:
    """The licence that a package states: as an expression, by classifiers, in words, else by the text that it ships."""
    metadata = found.metadata
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    if classifiers:
        return ", ".join(SHORT.get(name, name) for name in classifiers)
    text = str(metadata.get("License") or "").strip()
    return text.splitlines()[0][:60] if text else licence_by_text(found)


def licence_by_text(found: Distribution) -> str:
    """The licence by the files that a package names as its licence."""
    names = found.metadata.get_all("License-File") or []
    texts = [found.read_text(f"{folder}{name}") or "" for name in names for folder in ("licenses/", "")]
    words = " ".join(" ".join(texts).split())
    return next((name for known, name in TEXTS.items() if known.casefold() in words.casefold()), "not stated")


def brought(requirements: Iterable[str]) -> tuple[dict[str, Distribution], set[str]]:
    """The packages that requirements bring here, in any number of steps, and the names of those that are missing."""
    found: dict[str, Distribution] = {}
    missing: set[str] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    seen = set()
    while waiting:
        requirement, wanted = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
            continue
        if name == "mpi-unet":
            waiting += [(Requirement(line), "") for extra in requirement.extras for line in of_extra(extra)]
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        for more in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, more))
            waiting += [(Requirement(line), more) for line in found[name].requires or []]
    return found, missing


def runtime() -> list[str]:
    """What mpi_unet needs at any time."""
    return list(PROJECT["dependencies"])


def of_extra(extra: str) -> list[str]:
    """What an extra of mpi_unet adds."""
    return list(PROJECT["optional-dependencies"][extra])


def extras() -> list[str]:
    """The extras of mpi_unet, those for its use first."""
    return sorted(PROJECT["optional-dependencies"], key=lambda name: (name in TOOLS, name))


def is_copyleft(stated: str) -> bool:
    """Whether a licence is of the GPL family; GCC's own libraries come with an exception and are not meant."""
    return COPYLEFT.search(re.sub(r"[\w.+-]+ WITH GCC-exception[\w.-]*", "", stated)) is not None


def _table(packages: dict[str, Distribution]) -> str:
    rows = "".join(
        f"| {name} | {packages[name].version} | {licence(packages[name]).replace('|', '/')} |\n"
        for name in sorted(packages)
    )
    return f"| package | version | licence |\n|---|---|---|\n{rows}"


def page() -> str:
    """The text of docs/licences.md."""
    always, _ = brought(runtime())
    parts = [HEAD, f"## Runtime\n\n{_table(always)}"]
    for extra in extras():
        more, missing = brought(of_extra(extra))
        own = {name: found for name, found in more.items() if name not in always}
        note = f"Not installed when this page was written: {', '.join(sorted(missing))}.\n\n" if missing else ""
        parts.append(f"## Extra `{extra}`\n\n{note}{_table(own) if own else ''}")
    return "\n".join(part.rstrip() + "\n" for part in parts)


if __name__ == "__main__":
    PAGE.write_text(page())
