"""The command: what it prints, and what it imports. Its demos: test_demo.py."""

import os
import re
import sys
import time

import numpy as np
import pytest
from command import INSTALLED, MODULE, run

import lstm_ext

# Options ----------------------------------------------------------------------------------------


@pytest.mark.skipif(INSTALLED is None, reason="the package is not installed, only built in place")
def test_the_installed_command_and_the_module_are_one():
    assert run("--version").stdout == run("--version", command=MODULE).stdout


def test_version():
    result = run("--version")
    assert result.returncode == 0 and result.stdout == f"lstm-ext {lstm_ext.__version__}\n"


def test_info_names_what_runs_here():
    result = run("info")
    assert result.returncode == 0 and result.stderr == ""
    facts = dict(line.split(":", 1) for line in result.stdout.splitlines())
    facts = {name: fact.strip() for name, fact in facts.items()}
    assert list(facts) == [
        "lstm-ext", "Python", "NumPy", "SciPy", "platform", "CPU", "kernel", "caches", "precision", "BLAS",
        "threads",
    ]
    assert facts["lstm-ext"].startswith(lstm_ext.__version__)
    assert facts["NumPy"] == np.__version__
    assert int(facts["threads"]) == lstm_ext.get_num_threads()
    assert re.fullmatch(r".+, \d+ usable", facts["CPU"])
    assert re.search(r"blas|accelerate|mkl", facts["BLAS"], re.IGNORECASE)


@pytest.mark.parametrize("kernel", ["baseline", "blas"])
def test_info_shows_the_kernel_that_was_asked_for(kernel, monkeypatch):
    monkeypatch.setenv("LSTM_EXT_KERNEL", kernel)
    assert re.search(rf"^kernel: +{kernel} \(available: .*blas.*\)$", run("info").stdout, re.M)


@pytest.mark.parametrize("arguments, words", [
    (["train"], "invalid choice: 'train'"),
    (["demo", "--epochs", "0"], "argument --epochs: 0 is less than 1"),
    (["demo", "--epochs", "many"], "argument --epochs: invalid integer value: 'many'"),
    (["demo", "--seed", "-1"], "argument --seed: -1 is less than 0"),
    (["demo", "--window=3"], "unrecognized arguments: --window=3"),
    (["demo", "--output"], "argument -o/--output: expected one argument"),
])
def test_bad_options(arguments, words, tmp_path):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("usage: ") and words in result.stderr
    assert os.listdir(tmp_path) == []


def test_an_output_that_cannot_be_made_is_said_before_the_training(tmp_path):
    (tmp_path / "taken").write_text("")
    started = time.monotonic()
    result = run("demo", "--output", "taken", cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("lstm-ext demo: ") and "taken" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert time.monotonic() - started < 30


# Imports ---------------------------------------------------------------------------------------


def test_nothing_optional_is_imported_before_it_is_used():
    code = (
        "import sys, lstm_ext.__main__\n"
        "print([m for m in ('matplotlib', 'tqdm', 'torch', 'sklearn') if m in sys.modules])"
    )
    assert run("-c", code, command=[sys.executable, "-P"]).stdout == "[]\n"


def test_a_warning_under_python_m_is_a_warning(tmp_path):
    program = "from lstm_ext._checks import warn\nwarn('careful')\nprint('done')\n"
    (tmp_path / "program.py").write_text(program)
    result = run(command=[sys.executable, "-m", "program"], cwd=tmp_path)
    assert result.returncode == 0 and result.stdout == "done\n"
    assert "program.py:2: UserWarning: careful" in result.stderr


# The example ------------------------------------------------------------------------------------


def test_quickstart_learns():
    path = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "quickstart.py")
    if not os.path.exists(path):
        pytest.skip("the examples are not here: tests run apart from the checkout")
    result = run(path, command=[sys.executable])
    assert result.returncode == 0, result.stderr
    ours, repeating = (float(line.split(": ")[1]) for line in result.stdout.splitlines())
    assert ours < 0.1 < 0.4 < repeating
