"""The documentation as a site: pages have their place, links their target, and blocks of code run or compile."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import re
import tomllib
from importlib.metadata import Distribution
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from doors import CHECKOUT
from packaging.utils import canonicalize_name
from test_docs import PAGES

from mpi_unet import __version__
from mpi_unet.__main__ import DOORS
from mpi_unet.config import config_dir

DOCS = CHECKOUT / "docs"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def script(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference_pages = script("reference_pages")


# --- the site ---


def listed(page: Path) -> set[str]:
    """What the tables of contents of a page name, patterns included."""
    blocks = re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL)
    return {line for block in blocks for line in block.splitlines() if line and not line.startswith(":")}


def test_every_page_stands_in_a_table_of_contents():
    names = {name for page in PAGES for name in listed(page)}
    pages = [page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if page.is_relative_to(DOCS)]
    lost = [page for page in pages if page != "index" and not any(Path(page).match(name) for name in names)]
    assert lost == [], "name these pages in a toctree of docs/index.md"
    literal = {name for name in names if "*" not in name and not name.startswith("reference/")}
    assert literal <= set(pages)
    rooms = {f"reference/{room}" for room in reference_pages.ROOMS}
    assert {name for name in names if name.startswith("reference/") and "*" not in name} == rooms


def anchors(page: Path) -> set[str]:
    """The names by which headings are linked, as code hosts and MyST make them."""
    headings = re.findall(r"^#{1,3} (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_lead_to_a_heading(page):
    links = re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", page.read_text())
    lost = [
        f"{to}#{heading}"
        for to, heading in links
        if not to.startswith("reference/") and heading not in anchors(page.parent / to if to else page)
    ]
    assert lost == []


# --- code ---

BLOCKS = [
    pytest.param(page, block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


def test_there_are_blocks_of_code():
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_python_of_the_documentation_runs_or_compiles_and_imports_what_exists(page, block):
    if ">>>" in block:
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        test = doctest.DocTestParser().get_doctest(block, {}, page.name, str(page), 0)
        assert runner.run(test).failed == 0
        return
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert not [name.name for name in node.names if not hasattr(module, name.name)]


def test_every_extra_that_is_documented_exists():
    known = set(PROJECT["optional-dependencies"])
    texts = [*PAGES, *config_dir().rglob("*.yaml"), *(CHECKOUT / "mpi_unet").rglob("*.py")]
    asked = re.compile(r"(?:mpi-unet|'\.|\"\.)\[([a-z,]+)\]")
    unknown = {
        f"{path.name}: {extra}"
        for path in texts
        for words in asked.findall(path.read_text())
        for extra in words.split(",")
        if extra not in known
    }
    assert unknown == set()
    rows = re.findall(r"^\| (`[^|]+) \|", (DOCS / "install.md").read_text(), re.MULTILINE)
    told = {extra for row in rows for extra in re.findall(r"`([a-z]+)`", row)}
    assert known <= told, "docs/install.md has a table of extras"


def test_every_target_of_make_that_is_documented_exists():
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    asked = {word for page in PAGES for word in re.findall(r"`make ([a-z-]+)", page.read_text())}
    asked |= {word for page in PAGES for word in re.findall(r"^make ([a-z-]+)", page.read_text(), re.MULTILINE)}
    assert asked <= targets


# --- the reference ---


def test_reference_names_every_key_with_its_default_and_its_comment(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "# What it is.\ndefaults: [x]\none: 1   # first | second\ntwo:      # a part\n  _target_: torch.nn.ReLU\n"
        "  three: [1, 2]\n  four: {a: '#'} # last\nfive: null\n"
    )
    assert list(reference_pages.keys(path)) == [
        ("one", "1", "first | second"),
        ("two", "", "a part"),
        ("two._target_", "torch.nn.ReLU", ""),
        ("two.three", "[1, 2]", ""),
        ("two.four", "{a: '#'}", "last"),
        ("five", "null", ""),
    ]


def test_reference_has_a_page_for_each_door_and_room_and_all_their_keys(tmp_path):
    reference_pages.write(tmp_path)
    made = {page.stem: page.read_text() for page in (tmp_path / "reference").glob("*.md")}
    assert set(made) == {f"door_{door}" for door in DOORS} | set(reference_pages.ROOMS)
    for door in DOORS:
        top = yaml.safe_load((config_dir() / f"{door}.yaml").read_text())
        for key in set(top) - {"defaults", "hydra"}:
            assert re.search(rf"^\| `{key}[.`]", made[f"door_{door}"], re.MULTILINE), (door, key)
    groups = {path.relative_to(config_dir()).parent.as_posix() for path in config_dir().rglob("*/*.yaml")}
    assert groups == {group for door in reference_pages.GROUPS.values() for group in door}
    stale = tmp_path / "reference" / "old.md"
    stale.write_text("of earlier times")
    before = {page: page.stat().st_mtime_ns for page in (tmp_path / "reference").glob("*.md") if page != stale}
    reference_pages.write(tmp_path)
    assert not stale.exists()
    assert before == {page: page.stat().st_mtime_ns for page in (tmp_path / "reference").glob("*.md")}


def test_no_docstring_needs_formulas_which_sphinx_draws_with_a_script_from_the_network():
    asks = re.compile(r"^\s*\.\. math::|:math:`", re.MULTILINE)
    assert [path.name for path in (CHECKOUT / "mpi_unet").rglob("*.py") if asks.search(path.read_text())] == []


def test_pages_are_mended_for_keyboard_and_screen_reader_and_only_once(tmp_path):
    pytest.importorskip("sphinx", reason="there is no Sphinx: pip install 'mpi-unet[docs]'")
    conf = script("conf")
    page = tmp_path / "page.html"
    page.write_text('<aside class="toc-drawer"></aside><pre>x</pre><th class="head"><p></p></th>')
    conf.mend(SimpleNamespace(outdir=tmp_path), None)
    drawer = '<aside class="toc-drawer" aria-label="On this page"></aside>'
    mended = drawer + '<pre tabindex="0">x</pre><td class="head"></td>'
    assert page.read_text() == mended
    conf.mend(SimpleNamespace(outdir=tmp_path), None)
    assert page.read_text() == mended


# --- citation, licences ---


def test_citation_file_is_whole_and_of_this_version():
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license", "references"} <= set(citation)
    assert (str(citation["version"]), citation["license"]) == (__version__, PROJECT["license"])
    assert __version__ in (DOCS / "cite.md").read_text()
    assert citation["references"][0]["doi"] in (CHECKOUT / "README.md").read_text()


licences = script("licences")


@pytest.mark.parametrize(
    ("stated", "is_copyleft"),
    [
        ("GPL-3.0-only", True),
        ("GNU Lesser General Public License v3 (LGPLv3)", True),
        ("AGPL", True),
        ("MIT OR GPL-2.0-or-later", True),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", False),
        ("Apache-2.0", False),
        ("MPL-2.0", False),
    ],
)
def test_licences_of_the_gpl_family_are_told_from_others(stated, is_copyleft):
    assert licences.is_copyleft(stated) == is_copyleft


def test_nothing_of_the_gpl_family_is_in_the_runtime_or_in_an_extra_for_use():
    for_use = [licences.of_extra(extra) for extra in licences.extras() if extra not in licences.TOOLS]
    for requirements in (licences.runtime(), *for_use):
        packages, _ = licences.brought(requirements)
        assert [name for name, found in packages.items() if licences.is_copyleft(licences.licence(found))] == []
    packages, missing = licences.brought(licences.runtime())
    assert not missing
    assert {"torch", "monai", "numpy"} <= set(packages)
    assert [name for name, found in packages.items() if licences.licence(found) == "not stated"] == []


def test_packages_of_packages_and_missing_ones_are_found():
    packages, missing = licences.brought(["hydra-core", "no-such-package-here"])
    assert {"hydra-core", "omegaconf", "pyyaml"} <= set(packages)
    assert missing == {"no-such-package-here"}


def test_licence_that_is_not_stated_is_told_by_its_text(tmp_path):
    def package(name, text):
        folder = tmp_path / f"{name}-1.dist-info"
        (folder / "licenses").mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\nLicense-File: COPYING\n")
        (folder / "licenses/COPYING").write_text(text)
        return licences.licence(Distribution.at(folder))

    mit = "Copyright\n\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy"
    assert package("a", mit) == "MIT"
    assert licences.is_copyleft(package("b", "  GNU LESSER GENERAL PUBLIC LICENSE\n  Version 3"))
    assert package("c", "Do as you like.") == "not stated"


def test_page_of_licences_is_whole_and_clean():
    """What is not installed here, because it is large, is held by the page."""
    runtime, *of_extras = (DOCS / "licences.md").read_text().split("\n## ")[1:]
    sections = {section.split("`")[1]: section for section in of_extras}
    assert set(sections) == set(PROJECT["optional-dependencies"])
    known: dict[str, str] = {}
    for extra in [None, *(name for name in sections if name not in licences.TOOLS)]:
        section, direct = (sections[extra], licences.of_extra(extra)) if extra else (runtime, licences.runtime())
        assert "Not installed" not in section
        known |= dict(re.findall(r"^\| (\S+) \| \S+ \| (.+) \|$", section, flags=re.MULTILINE))
        assert {canonicalize_name(re.split(r"[<>=\[ ]", line)[0]) for line in direct} - set(known) == set()
    assert [name for name, stated in known.items() if stated == "not stated" or licences.is_copyleft(stated)] == []
