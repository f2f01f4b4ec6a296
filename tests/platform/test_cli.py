"""The command: what it prints, what it writes, and that the demo's comparison is fair."""

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time

import numpy as np
import pytest

import lstm_ext
from lstm_ext import _demo
from lstm_ext.model import Model

INSTALLED = shutil.which("lstm-ext", path=sysconfig.get_path("scripts"))
# -P: what is installed, not what lies in the working directory.
MODULE = [sys.executable, "-P", "-m", "lstm_ext"]
COMMAND = [INSTALLED] if INSTALLED else MODULE

SIMPLE = ["climatology", "persistence", "linear regression", "seasonal regression"]


def run(*arguments, command=COMMAND, **words):
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    if not INSTALLED:
        environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(lstm_ext.__file__))
    return subprocess.run(
        [*command, *arguments], capture_output=True, timeout=300, check=False, encoding="utf-8",
        env=environment, **words,
    )


def rows(output):
    """The table that a demo printed: name -> errors, the mean last."""
    table = {}
    for line in output.splitlines():
        match = re.fullmatch(r"(LSTM|[a-z ]+?)\s{2,}((\d+\.\d+\s*)+)", line)
        if match:
            table[match[1]] = [float(number) for number in match[2].split()]
    return table


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
        "lstm-ext", "Python", "NumPy", "SciPy", "platform", "CPU", "kernel", "BLAS", "threads",
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
    (["demo", "--window", "3"], "unrecognized arguments: --window 3"),
    (["demo", "--output"], "argument --output: expected one argument"),
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
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("lstm-ext demo: ") and "taken" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert time.monotonic() - started < 30


# The demo ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    return folder, run("demo", "--epochs", "2", "--seed", "1", cwd=folder)


def test_a_short_demo_reports_and_writes(short):
    folder, result = short
    assert result.returncode == 0
    assert list(rows(result.stdout)) == [*SIMPLE, "LSTM"]
    assert "181 forecasts" in result.stdout
    assert "none on the test years" in result.stdout
    written = {f"elnino-{k}.safetensors" for k in range(1, 6)}
    if importlib.util.find_spec("matplotlib"):
        written.add("elnino.png")
        assert (folder / "lstm-ext-demo" / "elnino.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert set(os.listdir(folder / "lstm-ext-demo")) == written  # and nothing temporary
    assert os.listdir(folder) == ["lstm-ext-demo"]


def test_the_verdict_follows_from_the_table(short):
    _, result = short
    table = rows(result.stdout)
    for name in SIMPLE:
        share, way = re.search(rf"([\d.]+) % (above|below) {name}", result.stdout).groups()
        change = 100 * (table["LSTM"][-1] / table[name][-1] - 1)
        assert (way == "above") == (change > 0)
        assert float(share) == pytest.approx(abs(change), abs=0.3)
    best = min(table, key=lambda name: table[name][-1])
    words = "The LSTM is the best" if best == "LSTM" else f"The best of them is {best}"
    assert words in result.stdout
    assert best != "LSTM"  # after two epochs it cannot be, and that is said


def test_without_a_terminal_progress_is_plain_lines(short):
    _, result = short
    lines = result.stderr.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("training: epoch 10 of 10, loss ")


def test_a_demo_repeats_for_a_seed(short, tmp_path):
    folder, first = short
    again = run("demo", "--epochs", "2", "--seed", "1", "--output", "a", "--quiet", cwd=tmp_path)
    other = run("demo", "--epochs", "2", "--seed", "2", "--output", "b", "--quiet", cwd=tmp_path)
    assert again.stderr == other.stderr == ""
    assert rows(again.stdout) == rows(first.stdout) != rows(other.stdout)
    models = [
        path.joinpath("elnino-1.safetensors").read_bytes()
        for path in (folder / "lstm-ext-demo", tmp_path / "a", tmp_path / "b")
    ]
    assert models[0] == models[1] != models[2]


def test_saved_models_give_the_printed_errors(short):
    folder, result = short
    problem = the_problem()
    models = [Model.load(folder / "lstm-ext-demo" / f"elnino-{k}.safetensors") for k in range(1, 6)]
    x = problem.inputs(problem.test)
    forecast = np.mean([model.predict(x)[:, -1] for model in models], axis=0)
    error = problem.rmse(forecast)
    np.testing.assert_allclose(rows(result.stdout)["LSTM"][0], error[0], atol=0.006)
    np.testing.assert_allclose(rows(result.stdout)["LSTM"][-1], error.mean(), atol=0.0006)
    alone = [problem.rmse(model.predict(x)[:, -1]).mean() for model in models]
    assert f"alone: {min(alone):.3f} to {max(alone):.3f} °C" in result.stdout


def test_the_whole_demo_beats_climatology_persistence_and_regression(tmp_path):
    started = time.monotonic()
    result = run("demo", "--quiet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 60
    mean = {name: errors[-1] for name, errors in rows(result.stdout).items()}
    assert mean["LSTM"] < 0.75 * mean["climatology"]
    assert mean["LSTM"] < 0.75 * mean["persistence"]
    assert mean["LSTM"] < 0.97 * mean["linear regression"]
    assert mean["LSTM"] < 1.03 * mean["seasonal regression"]


def test_without_matplotlib_the_demo_says_so(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from lstm_ext.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    result = run("demo", "--epochs", "1", command=[sys.executable, "-c", code], cwd=tmp_path)
    assert result.returncode == 0
    assert "matplotlib is not installed (pip install 'lstm-ext[plot]')" in result.stdout
    assert "elnino.png" not in os.listdir(tmp_path / "lstm-ext-demo")


def test_nothing_optional_is_imported_before_it_is_used():
    code = (
        "import sys, lstm_ext.__main__\n"
        "print([m for m in ('matplotlib', 'tqdm', 'torch', 'sklearn') if m in sys.modules])"
    )
    assert run("-c", code, command=[sys.executable, "-P"]).stdout == "[]\n"


def test_on_a_terminal_progress_is_a_bar(monkeypatch):
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with _demo.Progress(3, quiet=False) as progress:
        for _ in range(3):
            progress({"loss": 0.25})
    assert "training: 100%" in screen.getvalue() and "loss=0.250" in screen.getvalue()


# Is the comparison fair? ------------------------------------------------------------------------


def years():
    return _demo.load_elnino().index.astype("datetime64[Y]").astype(int) + 1970


def the_problem():
    return _demo.Problem(years() < _demo.FIRST_TEST_YEAR, years() >= _demo.FIRST_TEST_YEAR)


def test_forecasts_are_complete_and_disjoint():
    problem = the_problem()
    assert not set(problem.learn) & set(problem.test)
    assert (years()[problem.learn + _demo.LEADS] < _demo.FIRST_TEST_YEAR).all()
    assert (years()[problem.test + 1] >= _demo.FIRST_TEST_YEAR).all()
    # Every month from December 1994, one after another, as long as a year is left.
    np.testing.assert_array_equal(problem.test, np.arange(45 * 12 - 1, 61 * 12 - _demo.LEADS))


def test_nothing_of_the_test_years_is_learned_from(monkeypatch):
    series = _demo.load_elnino()
    problem = the_problem()
    series.data[years() >= _demo.FIRST_TEST_YEAR] += 100
    monkeypatch.setattr(_demo, "load_elnino", lambda: series)
    blind = the_problem()
    np.testing.assert_array_equal(blind.scale, problem.scale)
    np.testing.assert_array_equal(blind.inputs(blind.learn), problem.inputs(problem.learn))
    np.testing.assert_array_equal(blind.targets(blind.learn), problem.targets(problem.learn))
    assert not np.array_equal(blind.targets(blind.test), problem.targets(problem.test))


def test_no_forecast_reads_the_future(monkeypatch):
    problem, series = the_problem(), _demo.load_elnino()
    start = problem.test[50]
    series.data[start + 1 :] += 100
    monkeypatch.setattr(_demo, "load_elnino", lambda: series)
    blind = the_problem()
    for name, forecast in _demo.simple_forecasts(problem).items():
        np.testing.assert_array_equal(_demo.simple_forecasts(blind)[name][:51], forecast[:51])
    np.testing.assert_array_equal(blind.inputs([start]), problem.inputs([start]))
    assert not np.array_equal(blind.inputs([start + 1]), problem.inputs([start + 1]))


def test_inputs_and_targets_are_the_months_they_should_be():
    problem = the_problem()
    # Off the climatology of the learning years, which has no anomaly of its own.
    learning = years() < _demo.FIRST_TEST_YEAR
    np.testing.assert_allclose(problem.anomaly[learning].reshape(-1, 12).mean(0), 0, atol=1e-12)
    climatology = _demo.load_elnino().data[:, 3] - problem.anomaly
    np.testing.assert_allclose(climatology.reshape(-1, 12) - climatology[:12], 0, atol=1e-12)
    t = problem.test[7]
    x, y = problem.inputs([t])[0], problem.targets([t])[0]
    np.testing.assert_allclose(x[-1, 3] * problem.scale[3], problem.anomaly[t], rtol=1e-12)
    np.testing.assert_allclose(
        y * problem.scale[3], problem.anomaly[t + 1 : t + 13], rtol=1e-12, atol=1e-14
    )
    month = problem.index[t].astype(int) % 12
    np.testing.assert_allclose(x[-1, 4:], [np.cos(np.pi * month / 6), np.sin(np.pi * month / 6)])


def test_simple_forecasts_are_what_they_are_called():
    problem = the_problem()
    simple = _demo.simple_forecasts(problem)
    truth = problem.targets(problem.test)
    anomaly, months = problem.anomaly, problem.test
    np.testing.assert_allclose(
        problem.rmse(simple["climatology"])[5], np.sqrt(np.mean(anomaly[months + 6] ** 2))
    )
    np.testing.assert_allclose(
        problem.rmse(simple["persistence"])[5],
        np.sqrt(np.mean((anomaly[months + 6] - anomaly[months]) ** 2)),
    )
    np.testing.assert_allclose(problem.rmse(truth), 0)
    # Without a ridge it is ordinary least squares.
    a = problem.inputs(problem.learn)[:, -2:, :4].reshape(len(problem.learn), -1)
    b = problem.inputs(problem.test)[:, -2:, :4].reshape(len(problem.test), -1)
    coefficients = np.linalg.lstsq(
        np.c_[a, np.ones(len(a))], problem.targets(problem.learn), rcond=None
    )[0]
    np.testing.assert_allclose(
        _demo.ridge_regression(problem, 2, 0, seasonal=False),
        np.c_[b, np.ones(len(b))] @ coefficients,
        atol=1e-9,
    )


# The example ------------------------------------------------------------------------------------


def test_quickstart_learns():
    path = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "quickstart.py")
    if not os.path.exists(path):
        pytest.skip("the examples are not here: tests run apart from the checkout")
    result = run(path, command=[sys.executable])
    assert result.returncode == 0, result.stderr
    ours, repeating = (float(line.split(": ")[1]) for line in result.stdout.splitlines())
    assert ours < 0.1 < 0.4 < repeating
