"""The demos: what they print and write; their equations; that their comparisons are fair."""

import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import reference
from command import COMMAND, run
from scipy.integrate import solve_ivp

from lstm_ext import __main__, _demo, _demo_catchment, _demo_elnino, _demo_spring
from lstm_ext.model import Model

BOOSTING = importlib.util.find_spec("sklearn") is not None
PICTURES = importlib.util.find_spec("matplotlib") is not None


def table(output):
    """Return the rows of the table that a demo printed: name -> numbers."""
    rows = {}
    for line in output.splitlines():
        match = re.fullmatch(r"(\S+(?: \S+)*?)\s{2,}((-?\d+\.\d+\s*)+)", line)
        if match:
            rows[match[1]] = [float(number) for number in match[2].split()]
    return rows


def without(*modules):
    """Return a command in which some modules cannot be imported, as if they were not installed."""
    code = (
        "import importlib.util, sys\n"
        f"gone = {modules!r}\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name in gone else find(name, *more)\n"
        "sys.modules.update(dict.fromkeys(gone))\n"
        "from lstm_ext.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", code]


def expected_files(demo):
    return {name for name in demo.FILES if PICTURES or not name.endswith(".png")}


# What it prints and writes ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catchment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catchment")
    return folder, run("demo", "--epochs", "1", "--seed", "1", cwd=folder)


def test_a_short_demo_reports_and_writes(catchment):
    folder, result = catchment
    assert result.returncode == 0, result.stderr
    names = [name for name in _demo_catchment.NAMES if BOOSTING or name != "gradient boosting"]
    assert list(table(result.stdout)) == [*names, "without the gauge's error"]
    assert set(os.listdir(folder / "lstm-ext-demo")) == expected_files(_demo_catchment)
    assert os.listdir(folder) == ["lstm-ext-demo"]
    if PICTURES:
        assert (folder / "lstm-ext-demo" / "catchment.png").read_bytes().startswith(b"\x89PNG\r\n")
    # After one epoch it cannot be the best, and that is said.
    assert "Here the LSTM is not the best of them." in result.stdout


def test_saved_models_give_the_printed_errors(catchment):
    folder, result = catchment
    problem = _demo_catchment.Problem(1)
    models = [Model.load(folder / "lstm-ext-demo" / f"catchment-{k}.safetensors") for k in (1, 2, 3)]
    found = np.mean([_demo_catchment.simulate(problem, model) for model in models], axis=0)
    printed = table(result.stdout)["LSTM"]
    scores = [problem.score(found, part) for part in (problem.validation, problem.test)]
    np.testing.assert_allclose(printed[:2], scores, atol=0.006)
    error = (found - problem.discharge)[problem.test]
    np.testing.assert_allclose(printed[2], np.sqrt(np.mean(error**2)), atol=0.006)
    member, cell, state = _demo_catchment.snow_cell(problem, models)
    correlation = np.corrcoef(state[problem.test], problem.snowpack[problem.test])[0, 1]
    assert f"Cell {cell + 1} of LSTM {member + 1} follows" in result.stdout
    assert f"correlation {correlation:.2f} in the test years" in result.stdout


def test_the_written_table_is_what_the_methods_use(catchment):
    folder, _ = catchment
    problem = _demo_catchment.Problem(1)
    lines = (folder / "lstm-ext-demo" / "catchment.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "date,rain,temperature,discharge" and lines[1].startswith("1991-01-01,")
    numbers = np.array([line.split(",")[1:] for line in lines[1:]], float)
    series = [problem.precipitation, problem.temperature, problem.discharge]
    np.testing.assert_allclose(numbers, np.stack(series, 1), atol=0.0051)


def test_progress_counts_epochs_over_all_networks(catchment):
    _, result = catchment
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("training")] == [
        f"training: epoch {k} of 3" for k in (1, 2, 3)
    ]
    assert [line.partition(":")[0] for line in lines if line.startswith("LSTM")] == [
        f"LSTM {k} of 3" for k in (1, 2, 3)
    ]


def test_a_demo_repeats_for_a_seed(tmp_path):
    outputs = {}
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        options = ("--epochs", "1", "--seed", seed, "--output", folder, "--quiet")
        result = run("demo", "elnino", *options, cwd=tmp_path)
        assert result.stderr == ""
        outputs[folder] = (tmp_path / folder / "elnino-1.safetensors").read_bytes(), table(result.stdout)
    assert outputs["a"] == outputs["b"] != outputs["c"]


@pytest.mark.parametrize("name", ["spring", "elnino"])
def test_the_other_demos_report_and_write(name, tmp_path):
    demo = {"spring": _demo_spring, "elnino": _demo_elnino}[name]
    result = run("demo", name, "--epochs", "1", "--output", "here", "--quiet", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    assert "LSTM" in table(result.stdout)
    assert set(os.listdir(tmp_path / "here")) == expected_files(demo)


def test_without_extras_the_demo_says_so(tmp_path):
    command = without("matplotlib", "sklearn", "tqdm")
    result = run("demo", "--epochs", "1", command=command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "matplotlib is not installed (pip install 'lstm-ext[plot]')" in result.stdout
    assert "scikit-learn is not installed (pip install 'lstm-ext[sklearn]')" in result.stdout
    assert "gradient boosting" not in table(result.stdout)
    assert "catchment.png" not in os.listdir(tmp_path / "lstm-ext-demo")


def test_existing_files_are_replaced_only_with_force(tmp_path):
    kept = tmp_path / "lstm-ext-demo" / "spring.safetensors"
    kept.parent.mkdir()
    kept.write_text("mine")
    result = run("demo", "spring", "--epochs", "1", cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.splitlines() == [
        f"lstm-ext demo: {os.path.join('lstm-ext-demo', kept.name)} exists; expected a new folder: give "
        "--output, or --force to replace its files"
    ]
    assert kept.read_text() == "mine" and os.listdir(kept.parent) == [kept.name]
    assert run("demo", "spring", "--epochs", "1", "--force", cwd=tmp_path).returncode == 0
    Model.load(kept)
    assert set(os.listdir(kept.parent)) == expected_files(_demo_spring)


@pytest.mark.parametrize("existing", [False, True])
def test_ctrl_c_leaves_nothing(existing, tmp_path):
    if existing:
        (tmp_path / "a").mkdir()
    process = subprocess.Popen(
        [*COMMAND, "demo", "--output", os.path.join("a", "b"), "--epochs", "100000"], cwd=tmp_path,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "a" / "b").is_dir():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "lstm-ext demo: interrupted"
    assert os.listdir(tmp_path) == (["a"] if existing else [])
    assert not existing or os.listdir(tmp_path / "a") == []


def test_an_error_while_writing_leaves_the_old_files(tmp_path, monkeypatch):
    """The second file cannot be written: the first one is not replaced either."""
    (tmp_path / "one").write_text("old")

    def fail(path):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        _demo._write(tmp_path, {"one": lambda path: path.write_text("new"), "two": fail})
    assert (tmp_path / "one").read_text() == "old" and os.listdir(tmp_path) == ["one"]


def test_help_says_how_long_and_which_files():
    text = run("demo", "--help").stdout
    for name in _demo.NAMES:
        assert re.search(rf"^  {name} +\d+ s: +", text, re.MULTILINE)
        demo = {"catchment": _demo_catchment, "spring": _demo_spring, "elnino": _demo_elnino}[name]
        for file in demo.FILES:
            stem, number = re.fullmatch(r"(.*?)(-\d+)?\.\w+", file).groups()
            assert file in text or (f"{stem}-1 to -" in text and number), file
    assert "not replaced" in text and "--force" in text


def test_the_names_are_those_of_the_command():
    (commands,) = (action for action in __main__._parser()._actions if action.dest == "command")
    (name,) = (action for action in commands.choices["demo"]._actions if action.dest == "name")
    assert name.choices == _demo.NAMES


def test_on_a_terminal_progress_is_a_bar(monkeypatch):
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    progress = _demo.Progress(quiet=False)
    progress.begin(3)
    for _ in range(3):
        progress({"loss": 0.25})
    progress.note("LSTM 1 of 3")
    progress.end()
    assert "training: 100%" in screen.getvalue() and "LSTM 1 of 3" in screen.getvalue()


# The whole demos: settings of their own, so these are the promises of the documentation ---------------


def test_the_whole_catchment_demo(tmp_path):
    result = run("demo", "--quiet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    test = {name: numbers[1] for name, numbers in table(result.stdout).items()}
    assert test["LSTM"] > 0.75
    for name in _demo_catchment.NAMES[:-1]:
        assert name not in test or test["LSTM"] > test[name] + 0.05, name
    assert float(re.search(r"correlation (\d\.\d\d)", result.stdout)[1]) > 0.8


def test_the_whole_spring_demo(tmp_path):
    result = run("demo", "spring", "--quiet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    test = {name: numbers[1] for name, numbers in table(result.stdout).items()}
    assert test["LSTM"] > 90 > 85 > max(numbers for name, numbers in test.items() if name != "LSTM")
    assert re.search(r"slow sine .*: .*LSTM \d+ %", result.stdout.replace("\n", " "))


def test_the_whole_elnino_demo_beats_climatology_persistence_and_regression(tmp_path):
    result = run("demo", "elnino", "--quiet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    mean = {name: errors[-1] for name, errors in table(result.stdout).items()}
    assert mean["LSTM"] < 0.75 * mean["climatology"]
    assert mean["LSTM"] < 0.75 * mean["persistence"]
    assert mean["LSTM"] < 0.97 * mean["linear regression"]
    assert mean["LSTM"] < 1.03 * mean["seasonal regression"]
    for name, error in mean.items():
        share = re.search(rf"([\d.]+) % (above|below) {name}", result.stdout)
        if name not in ("LSTM", "months ahead"):
            change = 100 * (mean["LSTM"] / error - 1)
            assert (share[2] == "above") == (change > 0)
            assert float(share[1]) == pytest.approx(abs(change), abs=0.3)


# The equations --------------------------------------------------------------------------------------


def test_the_catchment_is_that_of_the_reference_and_keeps_its_water():
    rain, temperature = _demo_catchment.weather(4, np.random.default_rng(0))
    discharge, snowpack = _demo_catchment.snow_catchment(rain, temperature)
    expected = reference.snow_catchment(rain, temperature)
    np.testing.assert_allclose(discharge, expected["discharge"], rtol=1e-12)
    np.testing.assert_allclose(snowpack, expected["snow"], rtol=1e-12, atol=1e-12)
    stored = sum(expected[store][-1] - start for store, start in reference.CATCHMENT_STORES.items())
    left = expected["discharge"].sum() + expected["evaporation"].sum()
    np.testing.assert_allclose(rain.sum(), stored + left, rtol=1e-12)


def test_snow_falls_below_zero_and_melts_above():
    rain = np.array([10.0, 10.0, 0.0, 0.0, 0.0])
    temperature = np.array([-1.0, -5.0, 2.0, 1.0, 10.0])
    _, snowpack = _demo_catchment.snow_catchment(rain, temperature, degree_day=4.0)
    np.testing.assert_allclose(snowpack, [10, 20, 12, 8, 0])


def test_the_weather_is_as_described():
    rain, temperature = _demo_catchment.weather(200, np.random.default_rng(0))
    month = temperature.reshape(200, 365).mean(0)
    assert abs(month[5:25].mean() + 5) < 0.5 and abs(month[187:207].mean() - 17) < 0.5
    wet = rain > 0
    np.testing.assert_allclose(wet.mean(), 0.25 / (1 - 0.6 + 0.25), atol=0.01)
    np.testing.assert_allclose(wet[1:][wet[:-1]].mean(), 0.6, atol=0.01)
    np.testing.assert_allclose(rain[wet].mean(), 7, atol=0.15)


def test_the_spring_is_that_of_an_adaptive_solver():
    force = _demo_spring.random_force(np.random.default_rng(0), samples=300)
    times = np.arange(len(force)) / _demo_spring.RATE

    def slope(t, state):
        y, v, z = state
        u = np.interp(t, times, force)
        return [
            v, (u - 10 * v - 5e4 * y - z) / 2, 5e4 * v - 1e3 * (0.8 * abs(v) * z - 1.1 * v * abs(z)),
        ]

    solved = solve_ivp(slope, times[[0, -1]], [0, 0, 0], t_eval=times, rtol=1e-8, atol=1e-12, max_step=1e-3)
    found = _demo_spring.bouc_wen(force)
    assert np.abs(found - 1e3 * solved.y[0]).max() < 0.01 * np.abs(found).max()
    finer = _demo_spring.bouc_wen(force, substeps=80)
    assert np.abs(finer - 1e3 * solved.y[0]).max() < 0.003 * np.abs(found).max()


def test_the_force_has_the_amplitude_and_the_band_that_it_should_have():
    force = _demo_spring.random_force(np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(force))
    frequency = np.fft.rfftfreq(len(force), 1 / _demo_spring.RATE)
    within = (frequency >= 5) & (frequency <= 150)
    np.testing.assert_allclose(force.std(), 50)
    assert spectrum[~within].max() < 1e-9 * spectrum[within].min()


# Are the comparisons fair? ---------------------------------------------------------------------------


def methods(problem):
    """Return what all methods of the catchment say, trained for one epoch."""
    found = {
        "day of year": _demo_catchment.day_of_year(problem),
        "ridge": _demo_catchment.ridge(problem, lags=(15, 30), penalties=(0.01, 1.0)),
        "LSTM": _demo_catchment.simulate(problem, _demo_catchment.train_member(problem, 0, epochs=1)),
    }
    if BOOSTING:
        found["boosting"] = _demo_catchment.boosting(problem, 0, most=20)
    return found


def test_no_method_uses_test_years_snowpack_or_truth():
    problem, blind = _demo_catchment.Problem(0), _demo_catchment.Problem(0)
    blind.discharge[blind.test] += 100
    blind.truth[:], blind.snowpack[:] = np.nan, np.nan
    found = methods(problem)
    for name, values in methods(blind).items():
        np.testing.assert_array_equal(values, found[name], err_msg=name)


def test_validation_years_choose_and_do_not_train():
    problem, other = _demo_catchment.Problem(0), _demo_catchment.Problem(0)
    other.discharge[other.validation] = 0
    found, changed = (_demo_catchment.train_member(p, 0, epochs=1).parameters for p in (problem, other))
    np.testing.assert_array_equal(found, changed)
    np.testing.assert_array_equal(_demo_catchment.day_of_year(problem), _demo_catchment.day_of_year(other))
    if BOOSTING:
        # The best stage for a discharge of 0 is another one; stages themselves are the same.
        stages = _demo_catchment.boosting(problem, 0, most=30), _demo_catchment.boosting(other, 0, most=30)
        assert not np.array_equal(*stages)


def test_no_method_reads_the_future():
    problem, other = _demo_catchment.Problem(0), _demo_catchment.Problem(0)
    day = other.test.start + 400
    other.precipitation[day:] += 50
    other.temperature[day:] -= 20
    # Trees may leave a feature unused: look at all of them.
    before, after = (_demo_catchment.features(p) for p in (problem, other))
    np.testing.assert_array_equal(before[:day], after[:day])
    found = methods(problem)
    for name, values in methods(other).items():
        np.testing.assert_allclose(values[:day], found[name][:day], rtol=1e-6, err_msg=name)
        if name != "day of year":
            assert not np.allclose(values[day:], found[name][day:]), name


def test_the_gauge_has_the_error_that_is_printed():
    problem = _demo_catchment.Problem(3)
    np.testing.assert_allclose(np.std(np.log(problem.discharge / problem.truth)), 0.05, rtol=0.03)


def test_the_cell_is_chosen_without_the_test_years():
    problem, blind = _demo_catchment.Problem(0), _demo_catchment.Problem(0)
    models = [_demo_catchment.train_member(problem, seed, epochs=1) for seed in (0, 1)]
    blind.snowpack[blind.training.stop :] = 0
    (member, cell, state), again = (_demo_catchment.snow_cell(p, models) for p in (problem, blind))
    assert (member, cell) == again[:2]
    np.testing.assert_array_equal(state, again[2])


def test_the_picture_shows_the_largest_flood_of_the_test_years():
    problem = _demo_catchment.Problem(0)
    part = _demo_catchment.flood_year(problem)
    assert problem.test.start <= part.start < part.stop <= problem.test.stop and part.stop - part.start == 365
    assert problem.day[part.start] == 273
    later = problem.discharge[problem.test.start + 273 : problem.test.start + 273 + 5 * 365]
    assert problem.discharge[part].max() == later.max()


def test_features_of_the_spring_are_past_forces():
    force = _demo_spring.random_force(np.random.default_rng(0), samples=400)
    changed = np.concatenate([force[:250], force[250:] + 10])
    before, after = (_demo_spring.features(one, lags=5) for one in (force, changed))
    np.testing.assert_array_equal(before[:250], after[:250])
    assert not np.array_equal(before[250:], after[250:])
    np.testing.assert_array_equal(before[100, :5], force[100:95:-1])
    np.testing.assert_allclose(before[100, 5], force[96:101].mean())
    np.testing.assert_array_equal(before[100, 10:12], [force[91:101].max(), force[91:101].min()])


def test_records_of_the_spring_are_apart():
    problem, other = _demo_spring.Problem(0), _demo_spring.Problem(0)
    forces = [record.force for record in (problem.training, problem.validation, problem.test)]
    assert np.abs(np.corrcoef(forces) - np.eye(3)).max() < 0.1
    other.test.displacement = other.test.displacement + 1
    found, blind = (_demo_spring.train(p, 0, epochs=1).parameters for p in (problem, other))
    np.testing.assert_array_equal(found, blind)
    noise = problem.training.displacement - problem.training.truth
    np.testing.assert_allclose(noise.std() / problem.training.truth.std(), 0.01, rtol=0.05)
    np.testing.assert_array_equal(problem.test.displacement, problem.test.truth)


# El Niño ---------------------------------------------------------------------------------------------


def years():
    return _demo_elnino.load_elnino().index.astype("datetime64[Y]").astype(int) + 1970


def the_problem():
    first = _demo_elnino.FIRST_TEST_YEAR
    return _demo_elnino.Problem(years() < first, years() >= first)


def test_forecasts_are_complete_and_disjoint():
    problem = the_problem()
    assert not set(problem.learn) & set(problem.test)
    assert (years()[problem.learn + _demo_elnino.LEADS] < _demo_elnino.FIRST_TEST_YEAR).all()
    assert (years()[problem.test + 1] >= _demo_elnino.FIRST_TEST_YEAR).all()
    # Every month from December 1994, one after another, as long as a year is left.
    np.testing.assert_array_equal(problem.test, np.arange(45 * 12 - 1, 61 * 12 - _demo_elnino.LEADS))


def test_nothing_of_the_test_years_is_learned_from(monkeypatch):
    series = _demo_elnino.load_elnino()
    problem = the_problem()
    series.data[years() >= _demo_elnino.FIRST_TEST_YEAR] += 100
    monkeypatch.setattr(_demo_elnino, "load_elnino", lambda: series)
    blind = the_problem()
    np.testing.assert_array_equal(blind.scale, problem.scale)
    np.testing.assert_array_equal(blind.inputs(blind.learn), problem.inputs(problem.learn))
    np.testing.assert_array_equal(blind.targets(blind.learn), problem.targets(problem.learn))
    assert not np.array_equal(blind.targets(blind.test), problem.targets(problem.test))


def test_no_forecast_reads_the_future(monkeypatch):
    problem, series = the_problem(), _demo_elnino.load_elnino()
    start = problem.test[50]
    series.data[start + 1 :] += 100
    monkeypatch.setattr(_demo_elnino, "load_elnino", lambda: series)
    blind = the_problem()
    for name, forecast in _demo_elnino.simple_forecasts(problem).items():
        np.testing.assert_array_equal(_demo_elnino.simple_forecasts(blind)[name][:51], forecast[:51])
    np.testing.assert_array_equal(blind.inputs([start]), problem.inputs([start]))
    assert not np.array_equal(blind.inputs([start + 1]), problem.inputs([start + 1]))


def test_inputs_and_targets_are_the_months_they_should_be():
    problem = the_problem()
    # Off the climatology of the learning years, which has no anomaly of its own.
    learning = years() < _demo_elnino.FIRST_TEST_YEAR
    np.testing.assert_allclose(problem.anomaly[learning].reshape(-1, 12).mean(0), 0, atol=1e-12)
    climatology = _demo_elnino.load_elnino().data[:, 3] - problem.anomaly
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
    simple = _demo_elnino.simple_forecasts(problem)
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
        _demo_elnino.ridge_regression(problem, 2, 0, seasonal=False),
        np.c_[b, np.ones(len(b))] @ coefficients,
        atol=1e-9,
    )


