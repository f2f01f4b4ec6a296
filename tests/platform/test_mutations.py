"""The tool that puts mistakes into the sources: it finds its places, also when code has moved."""

from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.needs_source,
    pytest.mark.skipif(not (CHECKOUT / "setup.py").exists(), reason="the sources are not here"),
]

mutation_operators = pytest.importorskip("mutation_operators")
mutations = pytest.importorskip("mutations")


def test_names_are_unique():
    names = [m.name for m in mutations.MUTATIONS]
    assert len(names) == len(set(names))


def test_those_of_the_script_fit():
    """`.ci/jobs/mutations.sh` names some, each of which must have its place."""
    script = CHECKOUT / ".ci/jobs/mutations.sh"
    if not script.exists():
        pytest.skip("the script is not here")
    names = script.read_text().split("mutations.py ")[1].split()
    for mutation in mutations.named(names):
        file, text = mutation.apply()
        assert text != mutations.sources()[file]


def test_most_fit():
    """A changed line may lose its mistake, and `--list` tells; a move must not."""
    fit = [m.name for m in mutations.MUTATIONS if len(m.places) == 1]
    assert len(fit) >= 0.9 * len(mutations.MUTATIONS)


def test_a_text_is_found_where_it_moved_and_wrapped(monkeypatch):
    monkeypatch.setattr(mutations, "sources", lambda: {
        "src/new_name.pyx": "if x:\n            y = f(a,\n                  b+c)\n            z = 1\n"})
    assert mutations.Mutation("moved", "layer", "f(a, b + c)", "f(a, b)").apply() == (
        "src/new_name.pyx", "if x:\n            y = f(a, b)\n            z = 1\n")
    whole_line = mutations.Mutation("line", "layer", "    z = 1\n", "")
    assert whole_line.apply()[1].endswith("b+c)\n            pass\n")
    with pytest.raises(SystemExit, match="fits the sources at 0 places"):
        mutations.Mutation("gone", "layer", "f(a, d)", "").apply()


def test_what_is_built_again_follows_includes():
    """It reads setup.py, which needs what builds the package: an environment of users may lack it."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools.command.bdist_wheel")
    assert mutations.compiled_from("lstm_ext/lstm.py") == []
    assert mutations.compiled_from("src/cython_lstm.pyx") == ["cython_lstm"]
    headers = [name for name in mutations.sources() if name.endswith("cell.h")]
    assert headers
    assert all("_kernels" in mutations.compiled_from(name) for name in headers)


def test_an_operator_changes_one_line():
    text = '"""Says a + b."""\n\n\ndef f(a, b):\n    # a + b\n    c = a + b\n    raise ValueError("a < b")\n'
    found = list(mutation_operators.mutants(text, "f.py"))
    assert {what for _, what, _ in found} == {"+ -> -", "left out"}
    for line, _, new in found:
        assert line == 6
        assert sum(x != y for x, y in zip(text.splitlines(), new.splitlines(), strict=True)) == 1
