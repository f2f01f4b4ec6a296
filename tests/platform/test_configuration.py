"""What is said twice in the configuration agrees: floors and constraints, pinned linters, pinned actions."""

import re
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.needs_source,
    pytest.mark.skipif(not (CHECKOUT / ".github").is_dir(), reason="the workflows are not here"),
]


def read(path):
    """Return the text of a file of the checkout."""
    return (CHECKOUT / path).read_text(encoding="utf-8")


def constraints(path):
    """Return versions by name, as a file of `name==version` lines has them."""
    return dict(re.findall(r"^([\w-]+)==(\S+)$", read(path), re.MULTILINE))


def test_the_oldest_constraints_are_the_floors():
    project = tomllib.loads(read("pyproject.toml"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in ("plot", "progress", "sklearn", "io", "onnx", "test"):
        wanted += [line for line in extras[extra] if not line.startswith("lstm-ext")]
    oldest = constraints(".ci/constraints/oldest.txt")
    for line in wanted:
        name, floor = re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups()
        assert (oldest[name] + ".").startswith(floor + "."), f"{name} is {oldest[name]}; expected {floor}"


def test_hooks_have_the_versions_of_the_script():
    hooks = dict(re.findall(r"repo: \S+/([\w-]+)\n +rev: v(\S+)", read(".pre-commit-config.yaml")))
    pinned = constraints(".ci/requirements.txt")
    assert hooks["ruff-pre-commit"] == pinned["ruff"]
    assert hooks["cython-lint"] == pinned["cython-lint"]


@pytest.mark.parametrize("path", sorted((CHECKOUT / ".github/workflows").glob("*.yml")), ids=lambda p: p.name)
def test_actions_are_pinned_by_commit(path):
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    for line in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", line), line
    assert "secrets." not in text


def test_whatever_a_workflow_runs_is_here():
    for path in (CHECKOUT / ".github/workflows").glob("*.yml"):
        for script in re.findall(r"\.ci/[\w.]+", path.read_text(encoding="utf-8")):
            assert (CHECKOUT / script).exists(), script
    for name in re.findall(r"constraints: (\w+)", read(".github/workflows/ci.yml")):
        assert (CHECKOUT / f".ci/constraints/{name}.txt").exists()


def test_the_page_of_counts_is_that_of_its_records():
    """Numbers come from records that tools wrote, and nobody edits them on the page."""
    reliability = pytest.importorskip("reliability")
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.render(reliability.read())


def test_a_newer_record_replaces_the_older_one():
    reliability = pytest.importorskip("reliability")
    old = {"kind": "platform", "name": "a", "errors": 1}
    new = {"kind": "platform", "name": "a", "errors": 0}
    assert reliability.merge([old], [new]) == [new]
    with pytest.raises(SystemExit, match="guess"):
        reliability.merge([], [{"kind": "guess"}])
