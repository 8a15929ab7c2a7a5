"""How Sphinx builds the documentation: ``make docs``, without network, warnings are errors."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import reference_pages  # noqa: E402 - its folder had to be named first
from sphinx.application import Sphinx  # noqa: E402 - as above

from mpi_unet import __version__  # noqa: E402 - as above

project = "mpi_unet"
author = "the authors of mpi_unet"
project_copyright = "the authors of mpi_unet, Apache-2.0"
release = version = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 3  # links to headings, as they work on a code host
suppress_warnings = ["ref.python"]  # rooms may have a class of the same name: Options, Heart

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_custom_sections = [("Source", "notes_style")]
add_module_names = False

html_theme = "furo"
html_title = f"mpi_unet {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
highlight_language = "text"  # commands and folders; Python says that it is Python


MENDED = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="All pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="On this page">',
    '<th class="head"><p></p></th>': '<td class="head"></td>',
    "<pre>": '<pre tabindex="0">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
}
"""What axe objects to in pages as theme and Sphinx make them: landmarks without name, no keyboard where it scrolls."""

PLAIN_BLOCK = re.compile(r'(<div class="highlight-text .*?<pre[^>]*><span></span>)(.*?)(</pre>)', re.DOTALL)
WIDEST_INDENT = 44


def in_lines(block: re.Match[str]) -> str:
    """A block whose lines break: commands go on indented, and what stands beside a file name below itself."""
    start, text, end = block.groups()
    lines = []
    for line in text.removesuffix("\n").split("\n"):
        beside = [gap.end() for gap in re.finditer(r"\S {2,}(?=\S)", unescape(line))]
        indent = beside[-1] if beside and beside[-1] <= WIDEST_INDENT else 2
        lines.append(f'<span class="line" style="--indent: {indent}ch">{line}\n</span>')
    return start + "".join(lines) + end


def mend(app: Sphinx, failure: Exception | None) -> None:
    """Make the pages usable by keyboard and screen reader; a page that was mended before stays as it is."""
    for page in [] if failure else Path(app.outdir).rglob("*.html"):
        text = mended = page.read_text()
        for made, better in MENDED.items():
            mended = mended.replace(made, better)
        if '<span class="line"' not in mended:
            mended = PLAIN_BLOCK.sub(in_lines, mended)
        if page.name.startswith("door_"):
            mended = mended.replace('<table class="docutils ', '<table class="keys docutils ')
        if mended != text:
            page.write_text(mended)


def setup(app: Sphinx) -> None:
    """Write the pages that are made from conf/ and from the package before the others are read."""
    app.connect("builder-inited", lambda app: reference_pages.write(Path(app.srcdir)))
    app.connect("build-finished", mend)
