"""What the docstrings and the pages of the documentation show in code: it runs, and prints what they say."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import lstm_ext

DOCS = Path(__file__).parents[2] / "docs"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

# What a page's code needs, beside this package.
NEEDS = {"first-steps.md": "matplotlib", "tutorial.md": "matplotlib sklearn", "pytorch-keras.md": "torch",
         "io_onnx.md": "onnxruntime onnx", "io_c.md": "casadi", "how-to.md": "sklearn",
         "skforecast-aeon.md": "sklearn pandas sktime"}


def modules(package):
    """Return the names of all public modules of a package."""
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not found.name.rpartition(".")[2].startswith("_"):
            yield found.name
            if found.ispkg:
                yield from modules(importlib.import_module(found.name))


PUBLIC = ["lstm_ext", *modules(lstm_ext)]


def load(name):
    """Import a module of an extra's, or skip where that is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "lstm_ext"):
            raise
        pytest.skip(f"{name} needs {missing}, which is not installed")


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    failed = doctest.testmod(load(name), optionflags=OPTIONS).failed
    assert failed == 0, capsys.readouterr().out


def test_the_docstrings_of_what_is_used_most_have_examples():
    """A module without any would pass the test above."""
    for thing in (lstm_ext.LSTM, importlib.import_module("lstm_ext.attribution").integrated_gradients):
        assert doctest.DocTestFinder(recurse=False).find(thing)[0].examples, thing


def blocks(page):
    """Return (line number, language, code) of the code blocks of a page that are Python.

    Blocks under ``<!-- file: NAME -->`` are left out: another test compares them with the file.
    """
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(python|pycon)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if not re.search(r"<!-- file: \S+ -->\n$", text[: match.start()]):
            yield text[: match.start()].count("\n") + 1, match[1], match[2]


PAGES = [page.name for page in sorted(DOCS.glob("*.md")) if any(blocks(page))]


@pytest.mark.skipif(not DOCS.is_dir(), reason="the documents are not here")
@pytest.mark.parametrize("name", PAGES)
def test_code_of_the_pages(name, tmp_path, monkeypatch, capsys):
    """The blocks of a page run one after the other, as a reader would paste them."""
    for needed in NEEDS.get(name, "").split():
        pytest.importorskip(needed, reason=f"docs/{name} needs {needed}")
    if "matplotlib" in NEEDS.get(name, ""):
        importlib.import_module("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    names = {}
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    for line, language, code in blocks(DOCS / name):
        if language == "python":
            exec(compile("\n" * line + code, f"docs/{name}", "exec"), names)
        else:
            test = parser.get_doctest(code, names, f"docs/{name}", f"docs/{name}", line)
            runner.run(test, clear_globs=False)
            names.update(test.globs)
    assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out


@pytest.mark.skipif(not DOCS.is_dir(), reason="the documents are not here")
def test_weights_from_keras_are_those_of_its_equations():
    """The page's function, on a step of Keras's LSTM in NumPy (i, f, c, o; kernels transposed)."""
    import numpy as np

    (code,) = [code for _, _, code in blocks(DOCS / "pytorch-keras.md") if "from_keras" in code]
    names = {"LSTM": lstm_ext.LSTM}
    exec(code, names)
    rng = np.random.default_rng(0)
    kernel, recurrent, bias = rng.normal(size=(3, 20)), rng.normal(size=(5, 20)), rng.normal(size=20)
    x, h, c = rng.normal(size=(2, 4, 3)), np.zeros((2, 5)), np.zeros((2, 5))

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    for t in range(4):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    actual = names["from_keras"](kernel, recurrent, bias)(x)[1][0][0]
    np.testing.assert_allclose(actual, h, rtol=1e-12)
