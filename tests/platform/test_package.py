"""The package as installed: metadata, files, what a checkout does, and the README's examples."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_ext

PACKAGE = Path(lstm_ext.__file__).parent
CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.md"


@pytest.fixture(scope="module")
def distribution():
    try:
        return importlib.metadata.distribution("lstm-ext")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lstm-ext was built in place, not installed: it has no metadata")


@pytest.fixture(scope="module")
def editable(distribution):
    """Whether this is an editable install, whose files stay in the checkout."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return origin.get("dir_info", {}).get("editable", False)


@pytest.fixture(scope="module")
def files(distribution, editable):
    """Return the installed files of the import package, relative to it."""
    if editable or distribution.read_text("RECORD") is None:
        pytest.skip("not installed from a wheel: the files are those of the checkout")
    return {
        str(Path(*f.parts[1:]))
        for f in distribution.files
        if f.parts[0] == "lstm_ext" and f.suffix != ".pyc"
    }


def test_it_is_the_installed_package_that_is_tested(distribution, editable):
    root = CHECKOUT if editable else distribution.locate_file("")
    assert Path(root, "lstm_ext").resolve() == PACKAGE.resolve()


# Metadata


def test_version(distribution):
    assert distribution.version == lstm_ext.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", lstm_ext.__version__)


def test_metadata(distribution):
    metadata = distribution.metadata
    assert metadata["Name"] == "lstm-ext"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert not [c for c in metadata.get_all("Classifier") if c.startswith("License")]  # PEP 639
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert any(f.name == "LICENSE" for f in distribution.files)


def test_requirements(distribution):
    """NumPy and SciPy are all that it needs to run; each extra brings what it is named for."""
    needs = {}
    for line in distribution.requires:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"""extra == ['"](\w+)['"]""", marker)
        name = re.match(r"[\w-]+(\[[\w,]+\])?", requirement)[0]
        needs.setdefault(extra[1] if extra else "", set()).add(name)
    assert needs.pop("") == {"numpy", "scipy"}
    assert set(needs) == set(distribution.metadata.get_all("Provides-Extra"))
    assert needs["plot"] == {"matplotlib"}
    assert needs["progress"] == {"tqdm"}
    assert {"pytest", "hypothesis", "mpmath"} <= needs["test"]
    assert {"onnx", "onnxruntime", "jax"} <= needs["bench"]


def test_the_command_is_installed(distribution):
    (command,) = distribution.entry_points.select(group="console_scripts")
    assert command.name == "lstm-ext"
    assert callable(command.load())


# Files

EXTENSIONS = {
    "_arrays", "_blas", "_driver", "_general", "_kernels", "_lstm", "_lstm_general", "_node", "_optim",
    "cython_lstm",
}


def test_files_of_the_wheel(files):
    binary = {f for f in files if Path(f).suffix in (".so", ".pyd")}
    assert {f.partition(".")[0] for f in binary} == EXTENSIONS
    assert len(binary) == len(EXTENSIONS)
    others = files - binary
    assert {f for f in others if f.endswith(".pxd")} == {"__init__.pxd", "_blas.pxd", "cython_lstm.pxd"}
    assert {"py.typed", "__init__.py", "lstm.py", "_lstm.pyi", "node.py", "__main__.py"} <= others
    assert {f"{name}.pyi" for name in EXTENSIONS - {"_driver", "_general"}} <= others
    data = {f for f in others if Path(f).suffix not in (".py", ".pyi", ".pxd", ".typed")}
    assert data == {
        str(Path("include", "lstm_ext.h")),
        *(str(Path("datasets", f)) for f in ("elnino.csv", "sunspots.csv", "README.md")),
    }


def test_nothing_else_is_installed(distribution, files):
    """No top-level src or tests: they would lie in everybody's site-packages."""
    tops = {f.parts[0] for f in distribution.files if f.parts[0] != ".."}
    # auditwheel puts the OpenMP run time of a released wheel beside the package.
    assert {t for t in tops if not t.endswith(".dist-info")} - {"lstm_ext.libs"} == {"lstm_ext"}
    assert distribution.read_text("entry_points.txt")


def test_size(files):
    size = sum((PACKAGE / f).stat().st_size for f in files)
    assert size < 6e6, f"{size} bytes: with debug information?"


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_extensions_export_their_init_function_alone(files):
    """Nothing of ours can meet a function of the same name in another library."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    for extension in PACKAGE.glob("*.so"):
        command = [nm, "--dynamic", "--defined-only", "--format=posix", extension]
        table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert [line.split()[0] for line in table.splitlines()] == [
            f"PyInit_{extension.name.partition('.')[0]}"
        ]


# A checkout that has not been built


@pytest.fixture
def unbuilt(tmp_path):
    """Return a directory with the Python half alone, as in a fresh clone."""
    built = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "lstm_ext", ignore=built)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import lstm_ext"], ["-c", "from lstm_ext.lstm import LSTM"], ["-m", "lstm_ext"]],
    ids=" ".join,
)
def test_an_unbuilt_checkout_says_what_to_run(unbuilt, arguments):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=unbuilt,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    sentence = done.stderr.splitlines()[-1]
    assert re.findall(r"^\w*Error: .*$", done.stderr, re.MULTILINE) == [sentence]
    assert sentence.startswith(f"ImportError: {unbuilt / 'lstm_ext'} ")
    assert "`pip install -e .`" in sentence


# README.md


def blocks(language):
    """Return the README's code blocks in `language`."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


needs_readme = pytest.mark.skipif(not README.exists(), reason="the tests stand alone here")


@needs_readme
def test_examples_of_the_readme(tmp_path, monkeypatch, capsys):
    """They run as they stand, one after the other, and print what they say they print."""
    for needed in ("sklearn", "safetensors"):
        pytest.importorskip(needed, reason=f"the examples need {needed}")
    monkeypatch.chdir(tmp_path)
    examples = blocks("python")
    assert len(examples) >= 2
    names = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        promised = re.findall(r"print\(.*\)  # (.*)$", example, re.MULTILINE)
        assert printed[: len(promised)] == promised



@needs_readme
def test_commands_of_the_readme():
    """Two, each a single line, each installing from the clone; .ci/run pastes them."""
    text = README.read_text(encoding="utf-8")
    commands = re.findall(r"^<!-- command: (\w+) -->\n```sh\n(.*)\n```$", text, re.MULTILINE)
    assert [name for name, _ in commands] == ["run", "test"]
    for _, line in commands:
        assert re.match(r'pip install "\.\[\w+(,\w+)*\]" && ', line)


@needs_readme
@pytest.mark.skipif(not (CHECKOUT / "docs").is_dir(), reason="the documents are not here")
@pytest.mark.parametrize("document", ["README", "CONTRIBUTING", "SECURITY", "CHANGELOG"])
def test_links_lead_somewhere(document):
    text = (CHECKOUT / f"{document}.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (CHECKOUT / target).exists(), target
