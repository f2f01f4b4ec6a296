"""The documentation: links lead somewhere, names exist, pictures are described, and the English is plain."""

import importlib
import importlib.util
import re
import tomllib
from pathlib import Path

import plain_english
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


def links(page):
    """Return the targets of a page's links; those into the repository as paths from the page's folder."""
    repository = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
        "Repository"
    ]
    raw = repository.replace("://github.com", "://raw.githubusercontent.com")
    up = "" if page.parent == CHECKOUT else "../"
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        for start in (f"{repository}/blob/main/", f"{raw}/main/"):
            target = up + target.removeprefix(start) if target.startswith(start) else target
        yield target
    assert "lstm-ext/lstm-ext" not in prose(page).replace(repository, "").replace(raw, "")


@every_page
def test_links_lead_somewhere(page):
    for target in links(page):
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


def test_every_page_is_in_one_group_of_the_contents():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    groups = re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert all(group.startswith(":caption: ") for group in groups)
    entries = [line for group in groups for line in group.splitlines() if line and line[0] != ":"]
    pages = [entry for entry in entries if "://" not in entry and entry != "gallery/index"]
    assert sorted(pages) == sorted({page.stem for page in DOCS.glob("*.md")} - {"index"})


def test_the_summary_for_language_models_lists_every_page():
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[[^\]]+\]\((\w[\w-]*)\.html\): \S", text, re.MULTILINE)
    assert sorted(listed) == sorted({page.stem for page in DOCS.glob("*.md")})


def test_the_readme_is_short_and_needs_no_other_file():
    """A package index shows it by itself: every link is absolute."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert target.startswith("https://"), target


@every_page
def test_pictures_have_a_description(page):
    for text in re.findall(r"!\[([^\]]*)\]", prose(page)):
        assert len(text) > 10, f"{page.name}: {text!r}"


@pytest.mark.parametrize(
    "page", [*PAGES, CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "CHANGELOG.md"], ids=lambda page: page.name
)
def test_the_english_is_plain(page):
    """The list is in tests/support/plain_english.py, with what to say instead."""
    found = plain_english.found(plain_english.prose(page.read_text(encoding="utf-8")))
    assert not found, "\n".join(found)


SCRIPTS = [*sorted((CHECKOUT / "examples").glob("*.py")), *sorted(DOCS.glob("*.py"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_english_of_the_examples_is_plain(script):
    text = plain_english.commentary(script.read_text(encoding="utf-8"))
    found = plain_english.found(plain_english.prose(text))
    assert not found, "\n".join(found)


MODULES = sorted(Path(lstm_ext.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_the_english_of_the_sources_is_plain(module):
    text = plain_english.commentary(module.read_text(encoding="utf-8"))
    found = plain_english.found(plain_english.prose(text))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text, says", [
    ("the words of `fit`", "words"),
    ("an error is one sentence", "sentence"),
    ("`words` and\n```\nroom\n```\n are code, and a snow-fed river has no door", "door"),
    ("the LSTM Family", "Family"),
    ("family 25, an optimizer, a [link](words.md)", None),
    ("the optimiser has learnt", "learnt"),
])
def test_the_list_of_words_finds_what_it_should(text, says):
    found = plain_english.found(plain_english.prose(text))
    assert [line.partition("'")[2].partition("'")[0] for line in found][:1] == ([says] if says else [])


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


@pytest.mark.parametrize("change, says", [
    (None, []),
    (("other.html#here", "gone.html"), ["gone.html is missing"]),
    (("other.html#here", "other.html#nowhere"), ["other.html#nowhere has no such anchor"]),
    (('alt="a wave"', 'alt=""'), ["no alternative text"]),
    (('<meta name="description" content="what it is">', ""), ["no description"]),
    (("<script>", '<script src="https://elsewhere.example/script.js">'), ["loads from elsewhere"]),
])
def test_the_check_of_the_site_finds_faults(change, says, tmp_path):
    spec = importlib.util.spec_from_file_location("check_site", DOCS / "check_site.py")
    check_site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_site)
    page = (
        '<meta name="description" content="what it is"><script></script>'
        '<article><a href="other.html#here">x</a><a href="https://example.org/x">y</a>'
        '<img src="wave.svg" alt="a wave"></article>'
    )
    (tmp_path / "wave.svg").write_text("<svg/>")
    (tmp_path / "other.html").write_text('<h1 id="here">Other</h1>')
    (tmp_path / "page.html").write_text(page.replace(*change) if change else page)
    found = check_site.faults(tmp_path)
    assert len(found) == len(says) and all(word in line for line, word in zip(found, says, strict=True))
