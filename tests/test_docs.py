"""What the documentation says is so: links lead somewhere, commands compose, targets exist."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
from doors import CHECKOUT
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from mpi_unet.__main__ import DOORS
from mpi_unet.config import check_plain_keys, check_targets, config_dir, options, plain
from mpi_unet.predict import checked_options
from mpi_unet.reader_study.request import check_request

MADE = {"_build", "reference"}
PAGES = [
    CHECKOUT / "README.md",
    *(page for page in sorted((CHECKOUT / "docs").rglob("*.md")) if not MADE & {*page.relative_to(CHECKOUT).parts}),
]
COMMANDS = sorted(
    {
        (match.group(1), match.group(2).strip())
        for page in PAGES
        for match in re.finditer(
            r"python -m mpi_unet\.(\w+)((?: (?:--?[a-z-]+|[\w.+~/]+=[^\s`|']+|'[\w.+~/]+=[^'\n]+'))+)", page.read_text()
        )
    }
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_links_and_pictures_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    near = [to for to in targets if not to.startswith(("http", "reference/"))]  # reference/ is made by make docs
    missing = [to for to in near if not (page.parent / to).exists()]
    assert not missing


COMPOSABLE = [(door, words) for door, words in COMMANDS if not re.search(r"--help|<", re.sub(r"'[^']*'", "", words))]


def one_job(words):
    """The overrides of a command; of a sweep, those of its first job."""
    parsed = [OverridesParser.create().parse_override(word) for word in shlex.split(words) if word != "-m"]
    return [
        one.input_line
        if not one.is_sweep_override()
        else f"{one.get_key_element()}={getattr(one.value(), 'start', None) or next(one.sweep_string_iterator())}"
        for one in parsed
    ]


@pytest.mark.parametrize(("door", "words"), COMPOSABLE)
def test_documented_commands_compose(door, words):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose(door, overrides=one_job(words))
    if door == "train":
        check_plain_keys(config)
    elif door == "prepare":
        check_targets(config)
    elif door == "evaluate":
        check_request(config)
    elif door == "predict":
        if config.serve is not None:  # studies come of themselves
            config.input = ""
        check_targets(config)
        checked_options(plain(config))


QUOTED = sorted(
    {
        word
        for path in (
            *PAGES,
            *sorted(config_dir().rglob("*.yaml")),
            *sorted((CHECKOUT / "mpi_unet/sources").rglob("*.py")),
        )
        for word in re.findall(r"""'\w+\.\w+=.+?"'""", path.read_text().replace('\\"', '"'))
    }
)


@pytest.mark.parametrize("word", QUOTED)
def test_documented_patterns_are_read_as_they_are_typed(word):
    key, _, typed = shlex.split(word)[0].partition("=")
    parsed = OverridesParser.create().parse_override(f"{key}={typed}").value()
    assert str(parsed) == typed.strip('"')
    if "<pattern>" not in typed:
        re.compile(str(parsed))


def test_no_pattern_is_documented_without_the_quotes_that_it_needs():
    assert len(QUOTED) >= 6
    for page in PAGES:
        assert not re.findall(r"""\w+=(?!")\S*?\(\?P<""", page.read_text()), page


def test_every_door_is_documented_with_a_command():
    assert {door for door, _ in COMMANDS} >= set(DOORS)


def test_there_are_documented_commands():
    assert len(COMMANDS) >= 4


def test_readme_names_every_experiment_that_is_meant_for_users():
    text = (CHECKOUT / "README.md").read_text()
    assert not [name for name in options("experiment") if f"`{name}`" not in text and name != "published_image_split"]


def test_every_target_of_make_says_what_it_does():
    said = subprocess.run(["make", "help"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "check", "test", "audit", "bench", "docs", "figures", "notebooks"):
        assert re.search(rf"make {target} +\S", said), f"make help does not explain {target}"


def test_first_screen_of_the_readme_has_the_two_commands():
    first_screen = (CHECKOUT / "README.md").read_text().splitlines()[:20]
    assert [line.split("#")[0].strip() for line in first_screen if line.startswith("make ")] == [
        "make demo",
        "make test",
    ]


def test_tree_names_no_workplace_and_no_registry():
    words = ["/" + "work/", "/" + "root/", "pyp" + "i.org", "." + "library", "python" + "hosted"]
    files = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    found = [
        f"{name}: {word}"
        for name in files.splitlines()
        if (path := CHECKOUT / name).suffix not in {".png", ".gz"} and path.is_file()
        for word in words
        if word in path.read_text(errors="ignore")
    ]
    assert not found
