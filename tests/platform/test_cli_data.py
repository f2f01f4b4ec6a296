"""`lstm-ext fit` and `lstm-ext predict` on tables, as a user meets them."""

import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from lstm_ext.__main__ import main
from lstm_ext._commands import _text
from lstm_ext.io import load, save
from lstm_ext.model import Model
from lstm_ext.sklearn import LSTMForecaster

N = 120
RNG = np.random.default_rng(0)
RAIN = RNG.gamma(0.5, 4, N + 6).round(2)
LEVEL = (5 + np.convolve(RAIN, [0.5, 0.3, 0.2])[: N + 6]).round(3)
DAYS = np.datetime64("2021-01-01") + np.arange(N + 6)


def table(rows=N, target=True, form=str, separator=",", point=".", header="date,rain,level"):
    lines = [separator.join(header.split(","))]
    for k in range(rows):
        numbers = [f"{RAIN[k]}", f"{LEVEL[k]}" if target is True or k < target else ""]
        lines.append(separator.join([form(DAYS[k]), *(number.replace(".", point) for number in numbers)]))
    return "\n".join(lines) + "\n"


def config(data="data.csv", **words):
    """A TOML file whose training is quick: without LSTMs."""
    words = {"data": data, "target": "level", "origins": 0, "output": "model.safetensors", **words}
    options = words.pop("options", {"n_members": 0})
    lines = [f"{name} = {json.dumps(value)}" for name, value in words.items() if value is not None]
    return "\n".join([*lines, "[options]", *(f"{name} = {json.dumps(v)}" for name, v in options.items())])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text(table())
    (tmp_path / "fit.toml").write_text(config())
    return tmp_path


def run(capsys, *arguments):
    status = main([str(one) for one in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def fails(capsys, sentence, *arguments):
    """The command says one sentence, ends with 2, and writes nothing."""
    before = sorted(os.listdir("."))
    status, out, error = run(capsys, *arguments)
    assert status == 2, (out, error)
    last = error.splitlines()[-1]
    assert last.startswith(f"lstm-ext {arguments[0]}: ") and "Traceback" not in error
    assert sentence in last, last
    assert sorted(os.listdir(".")) == before
    return last


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


# A table in, a model out, forecasts --------------------------------------------------------------


def test_from_flags_alone_to_a_forecast(folder, capsys):
    (folder / "short.csv").write_text(table(60))
    status, out, error = run(
        capsys, "fit", "short.csv", "--target", "level", "--inputs", "rain", "--horizon", 2, "--origins", 1,
    )
    assert status == 0, error
    written = {"short.safetensors", "short-backtest.csv", "short-backtest.png"}
    assert written <= set(os.listdir(".")) and not [name for name in os.listdir(".") if name[0] == "."]
    assert (folder / "short-backtest.png").read_bytes()[:4] == b"\x89PNG"
    back = rows_of((folder / "short-backtest.csv").read_text())
    assert [row["method"] for row in back] == ["LSTMForecaster", "naive", "seasonal naive"]
    assert f"{float(back[0]['MAE']):.4g}" in out
    assert len(load("short.safetensors").models_) == 5

    (folder / "future.csv").write_text(table(70, target=0))
    status, _, error = run(
        capsys, "predict", "short.safetensors", "short.csv", "--inputs-future", "future.csv", "-o", "out.csv"
    )
    assert status == 0, error
    found = rows_of((folder / "out.csv").read_text())
    assert list(found[0]) == ["date", "forecast", "lower", "upper"]
    assert [row["date"] for row in found] == [str(day) for day in DAYS[60:62]]
    values = np.array([[float(row[name]) for name in ("lower", "forecast", "upper")] for row in found])
    assert (np.diff(values) > 0).all()
    assert np.abs(values[:, 1] - LEVEL[60:62]).max() < 0.5 * LEVEL.std()


def test_forecasts_are_those_of_the_forecaster(folder, capsys):
    (folder / "fit.toml").write_text(config(inputs=["rain"], horizon=4, seed=3))
    assert run(capsys, "fit", "fit.toml")[0] == 0
    (folder / "new.csv").write_text(table(N + 4, target=N))
    status, out, _ = run(capsys, "predict", "model.safetensors", "new.csv", "--coverage", 0.5)
    assert status == 0
    y, X = LEVEL[:N], RAIN[: N + 4, None]
    forecaster = LSTMForecaster(horizon=4, n_members=0, period=load("model.safetensors").period_)
    forecaster.fit(y, X=X[:N])
    expected = [forecaster.predict(X=X[N:]), *forecaster.predict_interval(X=X[N:], coverage=0.5)]
    for name, values in zip(("forecast", "lower", "upper"), expected, strict=True):
        np.testing.assert_allclose([float(row[name]) for row in rows_of(out)], values, rtol=1e-5)


@pytest.mark.parametrize("write", [
    lambda: table().encode(),
    lambda: b"\xef\xbb\xbf" + table().replace("\n", "\r\n").encode(),
    lambda: table(separator=";", point=",").encode(),
    lambda: table(separator="\t").encode(),
    lambda: table(form=lambda day: f"{day}T00:00:00+00:00").encode(),
    lambda: table(form=lambda day: day.astype(object).strftime("%d.%m.%Y")).encode(),
    lambda: table(form=lambda day: day.astype(object).strftime("%m/%d/%Y")).encode(),
    lambda: ("# a gauge\n# of ours\n" + table()).encode(),
    lambda: "\n".join([table().splitlines()[0], *reversed(table().splitlines()[1:])]).encode(),
    lambda: "\n".join(
        ("," if k == 0 else f"{k - 1},") + line for k, line in enumerate(table().splitlines())
    ).encode(),
], ids=["plain", "bom", "semicolon", "tab", "offset", "dots", "month first", "comments", "reversed", "index"])
def test_the_same_data_in_other_forms(folder, capsys, write):
    run(capsys, "fit", "fit.toml")
    expected = load("model.safetensors").predict(3, y=LEVEL[:N])
    (folder / "data.csv").write_bytes(write())
    assert run(capsys, "fit", "fit.toml", "--force")[0] == 0
    status, out, error = run(capsys, "predict", "model.safetensors", "data.csv", "--horizon", 3)
    assert status == 0, error
    np.testing.assert_allclose([float(row["forecast"]) for row in rows_of(out)], expected, rtol=1e-5)
    assert [row["date"][:10] for row in rows_of(out)] == [str(day) for day in DAYS[N : N + 3]]


@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_parquet_is_as_csv(folder, capsys, library, monkeypatch):
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip(library)
    run(capsys, "fit", "fit.toml")
    expected = run(capsys, "predict", "model.safetensors", "data.csv")[1]
    pandas.read_csv("data.csv", parse_dates=["date"]).to_parquet("data.parquet")
    if library == "polars":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    (folder / "fit.toml").write_text(config("data.parquet"))
    assert run(capsys, "fit", "fit.toml", "--force")[0] == 0
    assert run(capsys, "predict", "model.safetensors", "data.parquet")[1] == expected


def test_parquet_without_a_library_names_one(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    (folder / "data.parquet").write_bytes(b"PAR1")
    fails(capsys, "pip install pyarrow", "fit", "data.parquet")


def test_csv_needs_no_pandas(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert run(capsys, "fit", "fit.toml")[0] == 0
    assert rows_of(run(capsys, "predict", "model.safetensors", "data.csv")[1])[0]["date"] == str(DAYS[N])


def test_several_series_with_static_columns(folder, capsys):
    lines = ["date,rain,level,gauge,area"]
    for name, factor, count in (("upper", 1, N), ("lower, old", 3, N - 5)):
        lines += [f'{DAYS[k]},{RAIN[k]},{factor * LEVEL[k]:.4f},"{name}",{10 * factor}' for k in range(count)]
    (folder / "data.csv").write_text("\n".join(lines))
    words = {"series": "gauge", "static": ["area"]}
    (folder / "fit.toml").write_text(config(**words, inputs=["rain"], horizon=2, origins=1))
    status, out, error = run(capsys, "fit", "fit.toml")
    assert status == 0, error
    assert "2 series" in out
    lines += [f'{DAYS[N + k]},{RAIN[N + k]},,upper,10' for k in range(2)]
    lines += [f'{DAYS[N - 5 + k]},{RAIN[N - 5 + k]},,"lower, old",30' for k in range(2)]
    (folder / "new.csv").write_text("\n".join(lines))
    status, out, error = run(capsys, "predict", "model.safetensors", "new.csv")
    assert status == 0, error
    found = rows_of(out)
    assert [(row["gauge"], row["date"]) for row in found] == [
        ("upper", str(DAYS[N])), ("upper", str(DAYS[N + 1])),
        ("lower, old", str(DAYS[N - 5])), ("lower, old", str(DAYS[N - 4])),
    ]
    truth = [*LEVEL[N : N + 2], *3 * LEVEL[N - 5 : N - 3]]
    assert np.abs(np.array([float(row["forecast"]) for row in found]) / truth - 1).max() < 0.5


def test_a_regression_follows_its_inputs(folder, capsys):
    words = {"task": "regression", "inputs": ["rain"], "origins": None}
    (folder / "fit.toml").write_text(config(**words, options={"hidden_size": 8, "max_iter": 200}))
    status, _, error = run(capsys, "fit", "fit.toml")
    assert status == 0, error
    back = {row["method"]: float(row["NSE"]) for row in rows_of((folder / "model-backtest.csv").read_text())}
    assert back["LSTMRegressor"] > 0.5 > back["mean"]
    (folder / "new.csv").write_text(table(N + 6, target=0).replace(",level", ",other"))
    status, out, error = run(capsys, "predict", "model.safetensors", "new.csv", "--coverage", 0.8)
    assert status == 0, error
    found = rows_of(out)
    assert [row["date"] for row in found] == [str(day) for day in DAYS]
    values = np.array([[float(row[name]) for name in ("lower", "forecast", "upper")] for row in found])
    assert (np.diff(values) > 0).all()
    assert np.corrcoef(values[:, 1], LEVEL)[0, 1] > 0.8


@pytest.mark.parametrize("days, expected", [
    (np.arange("2000-01", "2008-01", dtype="M8[M]").astype("M8[D]"), ["2008-01-01", "2008-02-01"]),
    (np.arange("2000-02", "2008-02", dtype="M8[M]").astype("M8[D]") - 1, ["2008-01-31", "2008-02-29"]),
    (np.busday_offset("2024-01-01", np.arange(100)), ["2024-05-20", "2024-05-21"]),
    (np.arange("2024-01-01T00", "2024-01-05T00", dtype="M8[h]"), ["2024-01-05T00:00", "2024-01-05T01:00"]),
])
def test_dates_go_on_as_they_went(folder, capsys, days, expected):
    lines = ["date,level", *(f"{day},{LEVEL[k]}" for k, day in enumerate(days))]
    (folder / "data.csv").write_text("\n".join(lines))
    assert run(capsys, "fit", "fit.toml")[0] == 0
    out = run(capsys, "predict", "model.safetensors", "data.csv", "--horizon", 2)[1]
    assert [row["date"] for row in rows_of(out)] == expected


def test_numbers_of_a_back_test_are_apart():
    rows = {"LSTMRegressor": {"RMSE": 1.8784, "NSE": -8.1624e-05}, "a longer name": {"NSE": -1.2345e-100}}
    lines = [line.split() for line in _text(rows).splitlines()]
    assert lines[0] == ["RMSE", "NSE"] and lines[1] == ["LSTMRegressor", "1.878", "-8.162e-05"]
    assert lines[2][-2:] == ["name", "-1.234e-100"]


def test_without_time_steps_are_counted(folder, capsys):
    (folder / "data.csv").write_text("\n".join(["level", *map(str, LEVEL[:N])]))
    assert run(capsys, "fit", "fit.toml")[0] == 0
    found = rows_of(run(capsys, "predict", "model.safetensors", "data.csv", "--horizon", 3)[1])
    assert [row["step"] for row in found] == ["1", "2", "3"]


def test_gaps_are_missing_values(folder, capsys):
    lines = table().splitlines()
    del lines[40:43]
    lines[60] = ",".join([*lines[60].split(",")[:2], "NA"])
    (folder / "data.csv").write_text("\n".join(lines))
    status, _, error = run(capsys, "fit", "fit.toml")
    assert status == 0
    assert "note: 3 steps of time are not in the file" in error and "4 values of level are missing" in error
    assert run(capsys, "predict", "model.safetensors", "data.csv")[0] == 0


def test_a_mark_for_missing_values_is_noticed(folder, capsys):
    (folder / "data.csv").write_text(table().replace(str(LEVEL[7]), "-9999", 1))
    assert "level has the value -9999" in run(capsys, "fit", "fit.toml")[2]


def test_options_of_the_command_line_come_first(folder, capsys):
    assert run(capsys, "fit", "fit.toml", "--output", "other.safetensors", "--horizon", 5)[0] == 0
    assert load("other.safetensors").horizon == 5 and not os.path.exists("model.safetensors")


# Errors ------------------------------------------------------------------------------------------


def line_changed(number, text):
    lines = table().splitlines()
    lines[number - 1] = text
    return "\n".join(lines)


@pytest.mark.parametrize("content, sentence", [
    ("", "is empty; expected a first line"),
    ("date,level\n", "no row"),
    (line_changed(9, "2021-01-08,1.0,abc"), "line 9, column 'level' is 'abc'; expected a number"),
    (line_changed(9, "2021-01-08,1.0,inf"), "line 9, column 'level' is infinite"),
    (line_changed(9, "2021-13-08,1.0,2"), "line 9, column 'date' is '2021-13-08'; expected a date"),
    (line_changed(9, ",1.0,2"), "line 9, column 'date' is ''; expected a date"),
    (line_changed(9, "2021-01-08,1.0"), "line 9 has 2 cells; expected 3"),
    (line_changed(9, "2021-01-08,1,5,2"), "with decimal commas"),
    (line_changed(9, "2021-01-07,1.0,2"), "2021-01-07 twice, in lines 8 and 9"),
    (line_changed(9, "2021-01-08T05:00,1.0,2"), "2021-01-08T05:00 in line 9; expected even steps, of 1 day"),
    (line_changed(2, "1990-01-01,1.0,2"), "expected at least one in 10"),
    (line_changed(9, "2021-01-08T00:00Z,1.0,2"), "with an offset from UTC and without one"),
    (table().encode("utf-16"), "UTF-16"),
    (table().replace("rain", "Niederschläge").encode("latin1"), "is not UTF-8 text: it has the byte 0xe4"),
    (b"PK\x03\x04 and more", "an Excel or zip file"),
    (b"\x1f\x8b and more", "gzip"),
    (b"PAR1 and no more", "damaged Parquet"),
    ("date,level,level\n2021-01-01,1,2\n", "two columns 'level'"),
    ("2021,1.5\n2022,1.6\n2023,1.7\n", "only numbers in its first line"),
    ("date,flow\n2021-01-01,1\n", "target is 'level'; expected a column of data.csv: date (date), flow"),
    ("date,levels\n2021-01-01,1\n", "did you mean 'levels'?"),
    ("date,level\n2021-01-01,\n2021-01-02,\n", "column 'level' is empty"),
    ("date,level\n01/02/2021,1\n01/03/2021,2\n01/04/2021,4\n", "begin with the day or with the month"),
    ("date,level\n2021-01-01,1\n2021-01-02,2\n", "has 2 steps"),
    ("start,end,level\n2021-01-01,2021-01-02,1\n2021-01-02,2021-01-03,2\n", "--time start"),
])
def test_bad_files(folder, capsys, content, sentence):
    if "Parquet" in sentence:
        pytest.importorskip("pyarrow", reason="Parquet is read with pyarrow")
    (folder / "data.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    fails(capsys, sentence, "fit", "fit.toml")


def test_bad_arguments(folder, capsys):
    fails(capsys, "none.csv: no such file or directory", "fit", "none.csv")
    fails(capsys, "is a folder", "fit", str(folder))
    error = fails(capsys, "several columns of numbers", "fit", "data.csv")
    assert "date (date), rain (number), level (number)" in error
    assert error.endswith("lstm-ext fit data.csv --target level --inputs rain")
    fails(capsys, "did you mean 'level'?", "fit", "data.csv", "--target", "leval")
    fails(capsys, "'rain' is named in two places", "fit", "data.csv", "--target", "rain", "--inputs", "rain")
    fails(capsys, "of the static column 'rain'", "fit", "data.csv", "--target", "level", "--static", "rain")
    fails(capsys, "has no inputs", "fit", "data.csv", "--task", "regression", "--target", "level")
    fails(capsys, "folder that does not exist", "fit", "fit.toml", "-o", "no/model.safetensors")
    fails(capsys, "they are for arrays", "fit", "fit.toml", "--resume")
    for word, sentence in (("targets", "has 'targets'"), ("horizon", "horizon is 'x'; expected an integer")):
        (folder / "bad.toml").write_text(config(**{word: "x"}))
        fails(capsys, sentence, "fit", "bad.toml")
    (folder / "bad.toml").write_text(config(options={"hiden": 3}))
    fails(capsys, "[options] has 'hiden'", "fit", "bad.toml")


def test_a_config_of_arrays_that_names_a_table(folder, capsys):
    (folder / "old.toml").write_text('[data]\nx = "data.csv"\ny = "y.npy"\n[model]\nhidden_size = 3\n'
                                     "[training]\nepochs = 1\n")
    status, _, error = run(capsys, "fit", "old.toml")
    assert status == 1 and "x is 'data.csv', a table" in error and "--target" in error
    assert "pickle" not in error


def test_an_output_with_the_name_of_another_format_is_refused(folder, capsys):
    before = sorted(os.listdir(folder))
    fails(capsys, "expected a name that ends in .safetensors", "fit", "fit.toml", "-o", "model.pkl")
    assert sorted(os.listdir(folder)) == before


def test_files_that_are_there_are_kept(folder, capsys):
    (folder / "model.safetensors").write_text("mine")
    fails(capsys, "model.safetensors is there already", "fit", "fit.toml")
    assert (folder / "model.safetensors").read_text() == "mine"
    assert run(capsys, "fit", "fit.toml", "--force")[0] == 0
    (folder / "out.csv").write_text("mine")
    fails(capsys, "out.csv is there already", "predict", "model.safetensors", "data.csv", "-o", "out.csv")
    assert (folder / "out.csv").read_text() == "mine"
    assert run(capsys, "predict", "model.safetensors", "data.csv", "-o", "out.csv", "--force")[0] == 0


@pytest.mark.parametrize("error, status", [(KeyboardInterrupt, 130), (OSError(28, "No space left"), 2)])
@pytest.mark.parametrize("place", ["lstm_ext._table.write_csv", "lstm_ext.sklearn.LSTMForecaster.fit"])
def test_nothing_is_left_half_written(folder, capsys, monkeypatch, error, status, place):
    (folder / "fit.toml").write_text(config(origins=1))
    before = sorted(os.listdir("."))

    def stop(*arguments, **words):
        raise error

    monkeypatch.setattr(place, stop)
    found, _, said = run(capsys, "fit", "fit.toml")
    assert found == status and ("interrupted" if status == 130 else "no space left") in said
    assert sorted(os.listdir(".")) == before


def test_bad_predictions(folder, capsys):
    (folder / "fit.toml").write_text(config(inputs=["rain"], horizon=3))
    run(capsys, "fit", "fit.toml")
    fails(capsys, "has no rain for 2021-05-01", "predict", "model.safetensors", "data.csv")
    (folder / "future.csv").write_text(table(N + 2, target=0))
    fails(capsys, "has no rain for 2021-05-03", "predict", "model.safetensors", "data.csv", "--inputs-future",
          "future.csv")
    (folder / "new.csv").write_text(table().replace("rain", "rein"))
    fails(capsys, "did you mean 'rein'?", "predict", "model.safetensors", "new.csv")
    (folder / "new.csv").write_text(table(N + 3, target=0))
    fails(capsys, "no value of 'level'", "predict", "model.safetensors", "new.csv")
    hours = table(form=lambda day: str(np.datetime64("2021-01-01T00") + (day - DAYS[0]).astype(int)))
    (folder / "new.csv").write_text(hours)
    fails(capsys, "another step of time", "predict", "model.safetensors", "new.csv")
    fails(capsys, "coverage is 90", "predict", "model.safetensors", "data.csv", "--coverage", "90")
    fails(capsys, "none.safetensors: no such file", "predict", "none.safetensors", "data.csv")
    fails(capsys, "data.csv", "predict", "data.csv", "data.csv")
    save(LSTMForecaster(n_members=0).fit(LEVEL), "plain.safetensors")
    fails(capsys, "without the names of its columns", "predict", "plain.safetensors", "data.csv")
    from lstm_ext.lstm import LSTM

    save(Model(LSTM(1, 2), 1), "network.safetensors")
    fails(capsys, "holds Model without the names", "predict", "network.safetensors", "data.csv")


# The terminal ------------------------------------------------------------------------------------


def command(*arguments, **words):
    environment = {name: value for name, value in os.environ.items() if name != "LSTM_EXT_KERNEL"}
    return subprocess.run(
        [sys.executable, "-P", *arguments], capture_output=True, timeout=300, encoding="utf-8", check=False,
        **{"env": environment, **words},
    )


def test_help_imports_no_numpy():
    code = (
        "import sys\nfrom lstm_ext.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('numpy', 'scipy', 'sklearn') if name in sys.modules])"
    )
    assert command("-c", code).stdout.splitlines()[-1] == "[]"


def test_no_argument_is_answered_by_help(capsys):
    status, out, _ = run(capsys)
    assert status == 0 and out.startswith("usage: lstm-ext")
    assert out.rstrip().endswith("First try: lstm-ext demo")


@pytest.mark.parametrize("arguments, near", [
    (["fti", "a.csv"], "'fit'"), (["fit", "a.csv", "--tagret", "b"], "'--target'"), (["inf"], "'info'"),
    (["fit", "a.csv", "--task", "regresion"], "'regression'"),
])
def test_did_you_mean(capsys, arguments, near):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and f"did you mean {near}?" in capsys.readouterr().err


def test_info_as_json(capsys):
    status, out, _ = run(capsys, "info", "--json")
    facts = json.loads(out)
    assert status == 0 and facts["NumPy"] == np.__version__ and facts["kernel"] in facts["kernels"]
    assert facts["extras"]["scikit-learn"] and "mpi4py" in facts["extras"]


def test_the_example_is_a_config_that_runs(folder, capsys):
    status, out, _ = run(capsys, "fit", "--example")
    assert status == 0
    text = out.replace("n_members = 5", "n_members = 0").replace("origins = 4", "origins = 0")
    (folder / "example.toml").write_text(text.replace(', "temperature"', ""))
    (folder / "gauge.csv").write_text(table().replace("level", "discharge"))
    assert run(capsys, "fit", "example.toml")[0] == 0
    assert os.path.exists("gauge.safetensors")


def test_a_reader_that_has_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from lstm_ext.__main__ import main; sys.exit(main(['info']))"
    with os.fdopen(write, "w") as closed:
        done = subprocess.run([sys.executable, "-P", "-c", code], stdout=closed, stderr=subprocess.PIPE,
                              timeout=300, check=False)
    assert done.returncode == 141 and done.stderr == b""
