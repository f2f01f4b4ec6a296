"""``lstm-ext fit`` and ``lstm-ext predict`` on tables: CSV or Parquet in, model file and forecasts out."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext import _table
from lstm_ext._files import replace_file
from lstm_ext._optional import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    _Array = npt.NDArray[Any]
    _Scores = dict[str, dict[str, float]]  # by method and measure
    _Fitted = tuple[Any, _Scores | None, Callable[[Any], Any] | None]  # estimator, back-test, its drawing

TASKS = ("forecast", "regression")
_TIMES = ("time", "date", "datetime", "timestamp", "ds", "year", "step")
_ORIGINS = 4
_SETTINGS: dict[str, Any] = {
    "data": str, "target": str, "inputs": list, "static": list, "time": str, "series": str, "task": str,
    "horizon": int, "window": int, "origins": int, "seed": int, "output": str, "options": dict,
}
_QUANTILES = np.linspace(0, 1, 201)
_MEASURES = ("MAE", "RMSE", "MASE", "coverage")


# ---- what was asked for


def read_config(path: str) -> dict[str, Any] | None:
    """Return the table of a TOML file whose data is a table, or None where it is one of arrays."""
    with open(path, "rb") as file:
        try:
            config = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            return None  # _launch says what is wrong with it
    if isinstance(config.get("data"), dict) or not {"data", "target", "inputs"} & set(config):
        return None
    for name, value in config.items():
        if name not in _SETTINGS:
            raise ValueError(f"{path} has {name!r}; expected some of {', '.join(_SETTINGS)}")
        kind = _SETTINGS[name]
        if type(value) is not kind or (kind is list and not all(type(part) is str for part in value)):
            expected = {str: "text", list: "a list of text", int: "an integer", dict: "a table"}[kind]
            raise ValueError(f"{path}: {name} is {value!r}; expected {expected}")
    if "data" not in config:
        raise ValueError(f"{path} has no data; expected the name of a CSV or Parquet file")
    folder = Path(path).parent
    config["data"] = str(folder / config["data"])
    config["output"] = str(folder / config.get("output", Path(path).stem + ".safetensors"))
    return config


def _roles(table: _table.Table, settings: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the names of the columns for each role, guessed where there is no doubt."""
    kinds = table.kinds
    roles: dict[str, Any] = {name: settings.get(name) for name in ("time", "series", "target")}
    roles |= {name: list(settings.get(name) or ()) for name in ("inputs", "static")}
    for role in ("time", "series", "target"):
        if roles[role] is not None:
            table.check(role, roles[role])
    for role in ("inputs", "static"):
        for name in roles[role]:
            table.check(role, name)
    if roles["time"] is None:
        dates = [name for name, kind in kinds.items() if kind == "date" and name != roles["series"]]
        numbered = [
            name for name, kind in kinds.items() if kind == "number" and name.lower() in _TIMES
            and name not in (roles["target"], roles["series"], *roles["inputs"], *roles["static"])
        ]
        found = dates or numbered
        if len(found) > 1:
            raise ValueError(
                f"{table.path} has the columns of dates {', '.join(found)}; expected one, or its name: "
                f"{command} --time {found[0]}"
            )
        roles["time"] = found[0] if found else None
    if roles["target"] is None:
        taken = (roles["time"], roles["series"], *roles["inputs"], *roles["static"])
        numbers = [name for name, kind in kinds.items() if kind == "number" and name not in taken]
        if len(numbers) != 1:
            what = "several columns" if numbers else "no column"
            example = numbers[-1] if numbers else "NAME"
            inputs = f" --inputs {','.join(numbers[:-1])}" if numbers else ""
            raise ValueError(
                f"{table.path} has {what} of numbers that may be the target: {table.listed()}; expected one, "
                f"or its name: {command} --target {example}{inputs}"
            )
        roles["target"] = numbers[0]
    used = [roles["time"], roles["series"], roles["target"], *roles["inputs"], *roles["static"]]
    used = [name for name in used if name is not None]
    twice = [name for name in used if used.count(name) > 1]
    if twice:
        raise ValueError(f"column {twice[0]!r} is named in two places; expected one role for each column")
    for name in (roles["target"], *roles["inputs"], *roles["static"]):
        if kinds[name] == "empty":
            raise ValueError(f"{table.path}, column {name!r} is empty; expected numbers")
    return roles


def _load(
    path: str, table: _table.Table, roles: dict[str, Any], numbers: Sequence[str], notes: list[str]
) -> tuple[list[_table.Group], _table.Step | None, bool]:
    """Return groups, step of time, and whether it is UTC; static columns are constant in each group."""
    columns = table.read(numbers, roles["time"], roles["series"])
    groups, step = _table.arrange(path, columns, notes)
    for group in groups:
        for name in roles["static"]:
            known = np.unique(group.numbers[name][~np.isnan(group.numbers[name])])
            if len(known) != 1:
                where = path if group.key is None else f"{path}, series {group.key!r}"
                raise ValueError(
                    f"{where} has {len(known)} values of the static column {name!r}; expected one for each "
                    "series: a column that changes is an input"
                )
            group.numbers[name] = np.full(len(group), known[0])
    for name in numbers:
        missing = sum(int(np.isnan(group.numbers[name]).sum()) for group in groups)
        if missing and name not in roles["static"]:
            notes.append(f"{missing} values of {name} are missing")
        for mark in (-999.0, -9999.0, -99999.0):
            if any((group.numbers[name] == mark).any() for group in groups):
                notes.append(f"{name} has the value {mark:g}: if this marks missing values, leave them empty")
    return groups, step, columns.utc


def _trimmed(groups: list[_table.Group], target: str) -> tuple[list[_table.Group], list[int]]:
    """Return the groups from the first to the last known value of the target, and where each ends."""
    found, ends = [], []
    for group in groups:
        known = np.flatnonzero(~np.isnan(group.numbers[target]))
        start, end = (known[0], known[-1] + 1) if len(known) else (0, 0)
        found.append(group.part(start, end))
        ends.append(end)
    return found, ends


def _matrix(group: _table.Group, names: Sequence[str]) -> _Array:
    return np.column_stack([group.numbers[name] for name in names]) if names else np.empty((len(group), 0))


# ---- fit


def fit(settings: dict[str, Any], force: bool) -> None:
    """Train on a table with the settings of a TOML file: back-test, learn from all, write all files."""
    require("sklearn", "sklearn")
    path, task = settings["data"], settings.get("task", "forecast")
    if task not in TASKS:
        raise ValueError(f"task is {task!r}; expected {' or '.join(TASKS)}")
    for name, least in (("horizon", 1), ("window", 1), ("origins", 0), ("seed", 0)):
        if settings.get(name) is not None and settings[name] < least:
            raise ValueError(f"{name} is {settings[name]}; expected at least {least}")
    if task == "regression":
        if not settings.get("inputs"):
            raise ValueError("task regression has no inputs; expected columns that the target follows from")
        for name in ("horizon", "origins"):
            if settings.get(name) is not None:
                raise ValueError(f"{name} is given; expected none: it belongs to task forecast")
    output = Path(settings.get("output") or Path(path).stem + ".safetensors")
    files = [output, *(output.with_name(f"{output.stem}-backtest{end}") for end in (".csv", ".png"))]
    _check_outputs(files, force)
    from lstm_ext.io.native import check_path

    check_path(output, 3)
    table, notes = _table.open_table(path), list[str]()
    roles = _roles(table, settings, f"lstm-ext fit {path}")
    numbers = [roles["target"], *roles["inputs"], *roles["static"]]
    groups, step, utc = _load(path, table, roles, numbers, notes)
    groups, _ = _trimmed(groups, roles["target"])
    empty = [group.key for group in groups if not len(group)]
    if empty:
        where = f"series {empty[0]!r} of {path}" if empty[0] is not None else path
        raise ValueError(f"{where} has no value of {roles['target']!r}; expected some")
    _report(path, table, roles, groups, notes)
    about = {"version": 1, "task": task, "step": step, "utc": utc, **roles}
    train = _fit_forecaster if task == "forecast" else _fit_regressor
    estimator, result, plot = train(settings, roles, groups, about)
    estimator._table = about
    with contextlib.ExitStack() as stack:
        temporary = [stack.enter_context(replace_file(file)) for file in files[: 1 + bool(result)]]
        from lstm_ext.io.native import packed

        Path(temporary[0]).write_bytes(packed(estimator))
        if result:
            print(_text(result))
            header = ["method", *(name for name in next(iter(result.values())))]
            rows = [[name, *(f"{row.get(m, ''):.6g}" if m in row else "" for m in header[1:])]
                    for name, row in result.items()]
            _table.write_csv(temporary[1], header, rows)
            if plot is not None and importlib.util.find_spec("matplotlib"):
                temporary.append(stack.enter_context(replace_file(files[2])))
                _draw(plot, temporary[2], roles["target"])
    print(f"model:      {output}")
    if result:
        print(f"back-test:  {files[1]}")
        picture = files[2] if len(temporary) > 2 else "none: matplotlib is not installed"
        print(f"picture:    {picture}")
    more = " --inputs-future FUTURE.csv" if task == "forecast" and roles["inputs"] else ""
    print(f"next:       lstm-ext predict {output} {path}{more}")


def _check_outputs(files: Iterable[Path], force: bool) -> None:
    for file in files:
        if not file.parent.is_dir():
            raise ValueError(f"{file} is in a folder that does not exist; expected one that does")
        if file.is_dir():
            raise ValueError(f"{file} is a folder; expected the name of a file")
        if file.exists() and not force:
            raise ValueError(
                f"{file} is there already; expected a new name: give --output, or --force to replace it"
            )


def _report(
    path: str, table: _table.Table, roles: dict[str, Any], groups: list[_table.Group], notes: list[str]
) -> None:
    steps = sum(map(len, groups))
    parts = [f"target {roles['target']}"]
    parts += [f"{name} {', '.join(roles[name])}" for name in ("inputs", "static") if roles[name]]
    parts += [f"{name} {roles[name]}" for name in ("time", "series") if roles[name]]
    number = f"{len(groups)} series, " if roles["series"] else ""
    print(f"{path}: {number}{steps} steps; {'; '.join(parts)}", flush=True)
    named = [roles["time"], roles["series"], roles["target"], *roles["inputs"], *roles["static"]]
    unused = [name for name, kind in table.kinds.items() if name not in named and kind == "number"]
    if unused:
        notes = [*notes, f"not used: {', '.join(unused)} (--inputs names columns that are known in advance)"]
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)


def _options(settings: dict[str, Any], cls: Callable[..., Any], **given: object) -> Any:
    """Return an estimator with the options of the TOML file."""
    options = dict(settings.get("options") or {})
    known = cls().get_params()
    for name in options:
        if name not in known or name in ("callbacks", "warm_start", "random_state", "every_step"):
            raise ValueError(f"[options] has {name!r}; expected parameters of {cls.__name__}")
    lstm = {"nan": "hold", **options.pop("lstm_options", {})}
    return cls(**{**given, **options, "lstm_options": lstm, "random_state": settings.get("seed") or 0})


def _fit_forecaster(
    settings: dict[str, Any], roles: dict[str, Any], groups: list[_table.Group], about: dict[str, Any]
) -> _Fitted:
    from lstm_ext.sklearn import LSTMForecaster

    names = [*roles["inputs"], *roles["static"]]
    horizon, window = settings.get("horizon") or 1, settings.get("window") or "auto"
    estimator = _options(settings, LSTMForecaster, horizon=horizon, window=window)
    y = [_dated(group, roles["target"]) for group in groups]
    arguments = {"X": [_matrix(group, names) for group in groups]} if names else {}
    if roles["series"] is None:
        y, arguments = y[0], {name: one[0] for name, one in arguments.items()}
    origins = settings["origins"] if settings.get("origins") is not None else _ORIGINS
    result = None
    if origins:
        print(f"back-test: origins {origins}, horizon {horizon}, each learned anew", flush=True)
        try:
            result = estimator.backtest(y, horizon, origins, **arguments)
        except ValueError as error:
            raise ValueError(f"the back-test failed: {error} (--origins 0 leaves it out)") from None
    estimator.fit(y, **arguments)
    about["horizon"] = horizon
    return estimator, result and result.table, result and result.plot


def _dated(group: _table.Group, name: str) -> Any:
    """Return a series, where pandas is installed with its dates, whose calendar the forecaster tries."""
    values = group.numbers[name]
    if group.time is None or group.time.dtype.kind != "M" or importlib.util.find_spec("pandas") is None:
        return values
    import pandas as pd

    return pd.Series(values, pd.DatetimeIndex(group.time), name=name)


def _text(result: _Scores) -> str:
    measures = [name for name in next(iter(result.values()))]
    lines = [" " * 18 + "".join(f" {name:>10}" for name in measures)]
    for name, row in result.items():
        lines.append(f"{name:18}" + "".join(f" {row[m]:10.4g}" if m in row else " " * 11 for m in measures))
    return "\n".join(lines)


def _draw(plot: Callable[[Any], Any], path: str, target: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = plot(figure.subplots())
    axes.set_ylabel(target)
    figure.savefig(path, format="png", dpi=150)


# ---- regression: the target of each step from the inputs up to it


def _pieces(
    group: _table.Group, names: Sequence[str], target: str | None, window: int
) -> list[tuple[_Array, _Array, _Array, slice]]:
    """Cut sequences of `window` steps, each after so many that only warm up: x, y, weight, places."""
    X, found = _matrix(group, names), []
    for start in range(0, len(group), window):
        first, end = max(0, start - window), min(start + window, len(group))
        y = group.numbers[target][first:end] if target else np.zeros(end - first)
        counts = (np.arange(first, end) >= start) & ~np.isnan(y)
        found.append((X[first:end], np.where(np.isnan(y), 0.0, y), counts.astype(float), slice(start, end)))
    return found


def _simulate(estimator: Any, group: _table.Group, names: Sequence[str], window: int) -> _Array:
    """Return the target of each step of a group."""
    found = np.empty(len(group))
    pieces = _pieces(group, names, None, window)
    for (*_, place), y in zip(pieces, estimator.predict([piece[0] for piece in pieces]), strict=True):
        found[place] = y[-(place.stop - place.start) :]
    return found


def _fit_regressor(
    settings: dict[str, Any], roles: dict[str, Any], groups: list[_table.Group], about: dict[str, Any]
) -> _Fitted:
    from sklearn.base import clone

    from lstm_ext.sklearn import LSTMRegressor

    names, target = [*roles["inputs"], *roles["static"]], roles["target"]
    shortest = min(map(len, groups))
    if shortest < 20:
        raise ValueError(f"the shortest series has {shortest} steps; expected at least 20")
    window = settings.get("window") or min(365, max(2, shortest // 10))
    estimator = _options(settings, LSTMRegressor, every_step=True)

    def learn(parts: list[_table.Group]) -> Any:
        pieces = [piece for part in parts for piece in _pieces(part, names, target, window)]
        pieces = [piece for piece in pieces if piece[2].any()]
        X, y, weight = ([piece[k] for piece in pieces] for k in range(3))
        return clone(estimator).fit(X, y, sample_weight=weight)

    print("back-test: the last fifth of each series, learned from the rest", flush=True)
    cuts = [len(group) * 4 // 5 for group in groups]
    early = [group.part(0, cut) for group, cut in zip(groups, cuts, strict=True)]
    trial = learn(early)
    truth = [group.numbers[target][cut:] for group, cut in zip(groups, cuts, strict=True)]
    found = [_simulate(trial, group, names, window)[cut:] for group, cut in zip(groups, cuts, strict=True)]
    linear = _linear(early, groups, cuts, names, target)
    means = [np.full(len(y), np.nanmean(part.numbers[target])) for y, part in zip(truth, early, strict=True)]
    result = {"LSTMRegressor": found, "linear regression": linear, "mean": means}
    result = {name: _measures(truth, values) for name, values in result.items()}
    errors = np.abs(np.concatenate(truth) - np.concatenate(found))
    errors = errors[~np.isnan(errors)]
    if not len(errors):
        raise ValueError(f"the last fifth of {target!r} is missing; expected known values to test with")
    about |= {"window": int(window), "errors": np.quantile(errors, _QUANTILES)}

    def draw(axes: Any) -> Any:
        time = groups[0].time
        time = np.arange(len(groups[0])) if time is None else time
        axes.plot(time[cuts[0] :], truth[0], color="0.35", linewidth=1, label="observed")
        axes.plot(time[cuts[0] :], found[0], color="#0072B2", linewidth=1.2, label="LSTM")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, ncols=2)
        return axes

    return learn(groups), result, draw


def _linear(
    early: list[_table.Group], groups: list[_table.Group], cuts: Sequence[int], names: Sequence[str],
    target: str
) -> list[_Array]:
    """Ridge regression on the inputs of the last ten steps."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def rows(group: _table.Group) -> _Array:
        X = np.nan_to_num(_matrix(group, names))
        lagged: _Array = X[np.maximum(np.arange(len(X))[:, None] - np.arange(10), 0)]
        return lagged.reshape(len(X), -1)

    x = np.concatenate([rows(one) for one in early])
    y = np.concatenate([one.numbers[target] for one in early])
    known = ~np.isnan(y)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))).fit(x[known], y[known])
    return [model.predict(rows(group))[cut:] for group, cut in zip(groups, cuts, strict=True)]


def _measures(truth: list[_Array], found: list[_Array]) -> dict[str, float]:
    truth, found = np.concatenate(truth), np.concatenate(found)
    known = ~np.isnan(truth)
    error = (found - truth)[known]
    spread = np.mean((truth[known] - truth[known].mean()) ** 2) if known.any() else 0.0
    return {
        "MAE": float(np.abs(error).mean()), "RMSE": float(np.sqrt(np.mean(error**2))),
        "NSE": float(1 - np.mean(error**2) / spread) if spread > 0 else float("nan"),
    }


# ---- predict


def predict(
    model: str, data: str, future: str | None, horizon: int | None, coverage: float, output: str | None,
    force: bool
) -> None:
    """Read a model and a table, write forecasts as CSV."""
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage:g}; expected a number between 0 and 1")
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon is {horizon}; expected at least 1")
    if output is not None:
        _check_outputs([Path(output)], force)
    from lstm_ext.io import load

    estimator = load(model)
    about = _about(estimator, model)
    table, notes = _table.open_table(data), list[str]()
    for role in ("time", "series", "target"):
        if about[role] is not None and not (role == "target" and about["task"] == "regression"):
            table.check(role, about[role])
    for name in (*about["inputs"], *about["static"]):
        table.check("input", name)
    target = [about["target"]] if about["task"] == "forecast" else []
    groups, step, utc = _load(data, table, about, [*target, *about["inputs"], *about["static"]], notes)
    if step is not None and about["step"] is not None and step != about["step"]:
        raise ValueError(f"{data} has another step of time than {model}; expected the same step")
    if about["task"] == "regression":
        if future is not None or horizon is not None:
            raise ValueError("horizon or inputs-future is given; expected none: this is a regression")
        rows = _rows_of_regression(estimator, about, groups, utc, coverage)
    else:
        rows = _rows_of_forecast(
            estimator, about, groups, step or about["step"], utc, data, future, horizon, coverage, notes
        )
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    names = [about["series"]] if about["series"] else []
    header = [about["time"] or "step", *names, "forecast", "lower", "upper"]
    if output is None:
        print("\n".join(",".join(_quoted(cell) for cell in row) for row in [header, *rows]))
        return
    with replace_file(output) as temporary:
        _table.write_csv(temporary, header, rows)
    print(f"{len(rows)} rows: {output}")


def _quoted(cell: str) -> str:
    return f'"{cell.replace(chr(34), chr(34) * 2)}"' if set(cell) & set(',"\n\r') else cell


def _about(estimator: Any, model: str) -> dict[str, Any]:
    """Return what `fit` has written down, checked: the file may be from anybody."""
    about: dict[str, Any] = getattr(estimator, "_table", None) or {}
    texts = ("time", "series", "target")
    lists = ("inputs", "static")
    good = (
        isinstance(about, dict) and about.get("version") == 1 and about.get("task") in TASKS
        and all(isinstance(about.get(name), str | None) for name in texts) and about.get("target") is not None
        and all(isinstance(about.get(name), list) and all(isinstance(one, str) for one in about[name])
                for name in lists)
        and isinstance(about.get("step"), list | None)
    )
    if good and about["task"] == "regression":
        good = (
            isinstance(about.get("errors"), np.ndarray) and about["errors"].shape == _QUANTILES.shape
            and type(about.get("window")) is int and about["window"] > 0
        )
    if good and about["task"] == "forecast":
        good = type(about.get("horizon")) is int
    kind = type(estimator).__name__
    if not good or kind != ("LSTMForecaster" if about["task"] == "forecast" else "LSTMRegressor"):
        raise ValueError(
            f"{model} holds {kind} without the names of its columns; expected a file that lstm-ext fit has "
            "written "
            "(in Python: lstm_ext.io.load)"
        )
    return about


def _rows_of_regression(
    estimator: Any, about: dict[str, Any], groups: list[_table.Group], utc: bool, coverage: float
) -> list[list[str]]:
    names, rows = [*about["inputs"], *about["static"]], []
    half = float(np.interp(coverage, _QUANTILES, about["errors"]))
    for group in groups:
        values = _simulate(estimator, group, names, about["window"])
        times = _labels(group.time, utc, len(group))
        rows += _rows(times, group.key, about, values, values - half, values + half)
    return rows


def _rows(times: Sequence[str], key: str | None, about: dict[str, Any], *columns: _Array) -> list[list[str]]:
    names = [str(key)] if about["series"] else []
    return [[str(when), *names, *(f"{value:.7g}" for value in values)]
            for when, *values in zip(times, *columns, strict=True)]


def _labels(time: _Array | None, utc: bool, count: int) -> list[str]:
    return [str(k) for k in range(1, count + 1)] if time is None else _table.shown(time, utc)


def _rows_of_forecast(
    estimator: Any, about: dict[str, Any], groups: list[_table.Group], step: _table.Step, utc: bool,
    data: str, future: str | None, horizon: int | None, coverage: float, notes: list[str]
) -> list[list[str]]:
    names = [*about["inputs"], *about["static"]]
    horizon = about["horizon"] if horizon is None else horizon
    past, ends = _trimmed(groups, about["target"])
    for one in past:
        if not len(one):
            where = data if one.key is None else f"series {one.key!r} of {data}"
            raise ValueError(f"{where} has no value of {about['target']!r}; expected its past")
    arguments = {"y": [one.numbers[about["target"]] for one in past]}
    times = [None if one.time is None else _table.following(one.time[-1], step, horizon) for one in past]
    if names:
        later = [group.part(end, len(group)) for group, end in zip(groups, ends, strict=True)]
        if about["inputs"]:
            after = _future(about, future, groups, notes) if future is not None else later
        else:
            after = later
        arguments["X_past"] = [_matrix(one, names) for one in past]
        arguments["X"] = [
            _ahead(about, one, rest, when, horizon, data if future is None else future)
            for one, rest, when in zip(past, after, times, strict=True)
        ]
    elif future is not None:
        raise ValueError("inputs-future is given; expected none: this model has no inputs")
    if about["series"] is None:
        arguments = {name: one[0] for name, one in arguments.items()}
    found = [estimator.predict(horizon, **arguments)]
    found += estimator.predict_interval(horizon, **arguments, coverage=coverage)
    found = [[one] if about["series"] is None else one for one in found]
    if not all(np.isfinite(one).all() for values in found for one in values):
        raise ValueError("the forecast is not finite; expected numbers: fit again with other options")
    rows = []
    for number, (group, when) in enumerate(zip(past, times, strict=True)):
        values = [np.ravel(one[number]) for one in found]
        rows += _rows(_labels(when, utc, horizon), group.key, about, *values)
    return rows


def _future(
    about: dict[str, Any], path: str, groups: list[_table.Group], notes: list[str]
) -> list[_table.Group]:
    """Read the inputs of the steps that are forecast, one group for each series."""
    table = _table.open_table(path)
    for role in ("time", "series"):
        if about[role] is not None:
            table.check(role, about[role])
    for name in about["inputs"]:
        table.check("input", name)
    found, _, _ = _load(path, table, {**about, "static": []}, about["inputs"], notes)
    by_key = {group.key: group for group in found}
    for group in groups:
        if group.key not in by_key:
            raise ValueError(f"{path} has no series {group.key!r}; expected all series of the data")
    return [by_key[group.key] for group in groups]


def _ahead(
    about: dict[str, Any], past: _table.Group, rest: _table.Group, times: _Array | None, horizon: int,
    path: str
) -> _Array:
    """Return the inputs (horizon, K) of the steps after `past`."""
    where = path if past.key is None else f"{path}, series {past.key!r}"
    found = np.full((horizon, len(about["inputs"])), np.nan)
    if about["inputs"]:
        values = _matrix(rest, about["inputs"])
        if times is None or rest.time is None:
            found[: len(values)] = values[:horizon]
        else:
            places = {when: place for place, when in enumerate(rest.time)}
            for row, when in enumerate(times):
                if when in places:
                    found[row] = values[places[when]]
        if np.isnan(found).any():
            row, column = (int(one[0]) for one in np.nonzero(np.isnan(found)))
            when = f"step {row + 1}" if times is None else _table.shown(times[row : row + 1], about["utc"])[0]
            raise ValueError(
                f"{where} has no {about['inputs'][column]} for {when}; expected the inputs of all {horizon} "
                "steps that are forecast: add rows with an empty target, give --inputs-future, or a shorter "
                "--horizon"
            )
    static = np.tile([past.numbers[name][-1] for name in about["static"]], (horizon, 1))
    return np.concatenate([found, static], axis=1) if about["static"] else found
