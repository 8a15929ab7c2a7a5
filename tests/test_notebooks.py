"""The notebooks as they lie in the tree: without outputs, on public names only, linked. `make notebooks` runs them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from doors import CHECKOUT

import mpi_unet.agreement
import mpi_unet.api

NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
ROOMS = {"agreement": mpi_unet.agreement}
"""Rooms of functions on arrays that docs/api.md offers beside the names of ``mpi_unet.api``."""


def cells(path: Path, kind: str) -> list[str]:
    content = json.loads(path.read_text())
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def code(path: Path) -> ast.Module:
    return ast.parse("\n".join(cells(path, "code")))


def test_the_five_are_there():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_first_run",
        "02_explore_results",
        "03_bring_your_own_data",
        "04_readers_and_equivalence",
        "05_from_mask_to_polar_map",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_of_a_run_is_kept(path: Path):
    content = json.loads(path.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) >= (4, 5)
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    assert content["metadata"]["language_info"] == {"name": "python"}
    kept = [cell["id"] for cell in content["cells"] if cell.get("outputs") or cell.get("execution_count")]
    assert not kept, f"run: python -m nbconvert --clear-output --inplace {path.name}"
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    assert path.read_text().isascii()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_only_public_names_are_used(path: Path):
    used = set()
    for node in ast.walk(code(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mpi_unet":
            names = {alias.name for alias in node.names}
            assert names <= set(mpi_unet.api.__all__ if node.module == "mpi_unet.api" else ROOMS), names
            used |= names
        elif isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("mpi_unet")]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ROOMS:
            assert node.attr in ROOMS[node.value.id].__all__
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
    assert used


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_tells_a_story(path: Path):
    content = json.loads(path.read_text())["cells"]
    assert content[0]["cell_type"] == "markdown"
    assert "".join(content[0]["source"]).startswith("# ")
    text = cells(path, "markdown")
    assert len(text) >= len(cells(path, "code")) // 2
    links = [to for one in text for to in re.findall(r"\]\(([^)#]+)\)", one) if not to.startswith("http")]
    assert not [to for to in links if not (path.parent / to).exists()]
    pages = [page for one in text for page in re.findall(r"docs/[\w]+\.md", one)]
    assert not [page for page in pages if not (CHECKOUT / page).is_file()]


def test_every_public_verb_is_shown_by_a_notebook():
    shown = {
        node.id if isinstance(node, ast.Name) else node.attr
        for path in NOTEBOOKS
        for node in ast.walk(code(path))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    verbs = {"train", "prepare", "predict", "evaluate", "plot_case", "cycle_of", "plot_cycle", "panel", "plan"}
    members = {"scores", "worst", "learning", "view", "plot", "show", "baselines", "plot_polar_map", "inside"}
    assert verbs | members <= shown


def test_make_and_ci_run_all_of_them():
    recipe = (CHECKOUT / "Makefile").read_text().partition("\nnotebooks: demo")[2].partition("\n\n")[0]
    assert "nbconvert --execute" in recipe
    assert recipe.endswith("notebooks/*.ipynb")
    assert "make notebooks" in (CHECKOUT / ".github/workflows/ci.yml").read_text()
