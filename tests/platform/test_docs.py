"""The documents: what they point at is there, and what they name exists."""

import fnmatch
import importlib
import re
from pathlib import Path

import pytest

import lstm_ext

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documents are not here")

PAGES = [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page):
    """Return the text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        destination = (page.parent / path).resolve() if path else page
        if path.startswith(("../lstm_ext/", "../src/")) and not destination.parent.is_dir():
            continue  # the installed package is tested where no source is
        assert destination.exists(), f"{page.name} points at {target}"
        if anchor:
            assert anchor in anchors(destination), f"{page.name} points at {target}"


def names():
    for page in PAGES:
        found = re.findall(r"(?<![\w/.])lstm_ext(?:\.\w+)+", page.read_text(encoding="utf-8"))
        yield from (name for name in found if name != "lstm_ext.h")  # the header


def resolve(name):
    """Return what a dotted name stands for: as much of it as can be imported, then attributes."""
    parts = name.split(".")
    thing = lstm_ext
    for depth, part in enumerate(parts[1:], 2):
        if not hasattr(thing, part):
            importlib.import_module(".".join(parts[:depth]))
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize("name", sorted(set(names())))
def test_names_exist(name):
    try:
        resolve(name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "lstm_ext"):
            raise AssertionError(f"the documents name {name}, which is not there") from error
        pytest.skip(f"{name} needs {missing}, which is not installed")


def test_every_page_is_in_the_table_of_contents():
    """By its name, or by a glob, which must have something to find."""
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    (contents,) = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    left = {page.stem for page in DOCS.glob("*.md")} - {"index"}
    for entry in contents.splitlines():
        if entry and entry[0] != ":" and entry != "gallery/index":
            found = set(fnmatch.filter(left, entry))
            assert found, f"{entry} finds no page"
            left -= found
    assert not left


@pytest.mark.parametrize("picture", sorted(DOCS.glob("pictures/*")), ids=lambda path: path.name)
def test_pictures_are_small_and_text(picture):
    text = picture.read_text(encoding="utf-8")
    assert picture.suffix == ".svg" and "<svg" in text and len(text) < 150_000
    script = (DOCS / "make_pictures.py").read_text(encoding="utf-8")
    drawn = re.findall(r"^def (\w+)\(\):", script, re.MULTILINE)
    example = CHECKOUT / "examples" / f"{picture.stem.rpartition('-')[0]}.py"
    assert picture.stem in drawn or example.exists()


def test_the_gallery_has_examples():
    for example in (CHECKOUT / "examples").glob("plot_*.py"):
        assert re.match(r'"""\n(.+)\n=+\n\n', example.read_text(encoding="utf-8")), example.name
