"""`LSTMForecaster` at its defaults, next to what people would take instead.

`LSTMForecaster(horizon=h).fit(y).predict()` is told nothing: no period, no transform. The others are told the
period where they can use it. "without LSTM" is the same forecaster with ``n_members=0``: smoothing and
regressions alone. Accuracy is the mean absolute scaled error (MASE, by the seasonal naive forecast within the
training part), the mean over rolling origins, and over series the geometric mean. All models learn anew at
each origin.

    python benchmarks/papers/forecaster.py [--seeds 3] [--table shared aside intervals related nonlinear]
    [--quick]
"""

import time
import warnings

import numpy as np
from common import arguments, machine, say
from forecaster_series import Series, aside, shared

from lstm_ext.sklearn import LSTMForecaster


def statsmodels():
    try:
        import statsmodels.api
    except ImportError:
        raise SystemExit("statsmodels is not installed: pip install 'lstm-ext[examples]'") from None
    return statsmodels.api


# What people would take instead: each takes (y, period, horizon) and returns (horizon,) ---------------------


def naive(y, period, horizon):
    return np.repeat(y[-1], horizon)


def seasonal_naive(y, period, horizon):
    return y[len(y) - period + np.arange(horizon) % period]


def ets(y, period, horizon):
    return ets_interval(y, period, horizon)[0]


def ets_interval(y, period, horizon):
    """Return the forecast of the exponential smoothing model of least AICc, and its 90 % interval."""
    import pandas as pd
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    seasons = [None]
    if 1 < period <= 24 and len(y) > 2 * period:
        seasons += ["add", "mul"] if (y > 0).all() else ["add"]
    best, y = None, pd.Series(y)
    for trend in (None, "add"):
        for seasonal in seasons:
            try:
                fitted = ETSModel(
                    y,
                    error="add",
                    trend=trend,
                    damped_trend=trend is not None,
                    seasonal=seasonal,
                    seasonal_periods=period if seasonal else None,
                ).fit(disp=False, maxiter=200)
            except (ValueError, np.linalg.LinAlgError):
                continue
            if best is None or fitted.aicc < best.aicc:
                best = fitted
    frame = best.get_prediction(start=len(y), end=len(y) + horizon - 1).summary_frame(alpha=0.1)
    return tuple(np.asarray(frame[name]) for name in ("mean", "pi_lower", "pi_upper"))


def arima(y, period, horizon):
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    seasonal = (0, 1, 1, period) if 1 < period <= 12 and len(y) > 3 * period else (0, 0, 0, 0)
    order = (0, 1, 1) if seasonal[3] else (3, 0, 0) if period > 24 else (1, 1, 1)
    try:
        return np.asarray(SARIMAX(y, order=order, seasonal_order=seasonal).fit(disp=False).forecast(horizon))
    except (ValueError, np.linalg.LinAlgError):
        return naive(y, period, horizon)


def _rows(y, window):
    return np.lib.stride_tricks.sliding_window_view(y, window + 1)


def ridge(y, period, horizon, window=24):
    """Return a forecast by ridge regression on the last 24 values, step by step."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    window = min(window, len(y) - 4)
    rows = _rows(y, window)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))).fit(rows[:, :-1], rows[:, -1])
    values = list(y)
    for _ in range(horizon):
        values.append(model.predict(np.array(values[-window:])[None])[0])
    return np.array(values[-horizon:])


def nlinear(y, period, horizon):
    """Return a forecast by one linear map to all steps, relative to the last value (NLinear)."""
    from sklearn.linear_model import RidgeCV

    window = max(2, min(max(2 * period, 24), (len(y) - horizon) // 2))
    rows = np.lib.stride_tricks.sliding_window_view(y, window + horizon)
    if len(rows) < 3:
        return naive(y, period, horizon)
    last = rows[:, window - 1 : window]
    model = RidgeCV(np.logspace(-3, 3, 13)).fit(rows[:, :window] - last, rows[:, window:] - last)
    return model.predict((y[-window:] - y[-1])[None])[0] + y[-1]


BASELINES = {
    "naive": naive,
    "seasonal naive": seasonal_naive,
    "ETS": ets,
    "ARIMA": arima,
    "Ridge, 24 lags": ridge,
    "NLinear": nlinear,
}


# Tables -----------------------------------------------------------------------------------------------------


def scaled(forecast, truth, past, period):
    return np.mean(np.abs(forecast - truth)) / np.mean(np.abs(past[period:] - past[:-period]))


def ours(seed, **words):
    def forecast(y, horizon):
        fitted = LSTMForecaster(horizon=horizon, random_state=seed, **words).fit(y)
        return fitted.predict(), fitted.predict_interval()

    return forecast


def judge(series, seeds):
    """Return for each model MASE over seeds, and the coverage and width of our intervals and those of ETS."""
    found = {name: [] for name in (*BASELINES, "without LSTM")}
    found["default"] = np.zeros((len(seeds), len(series.origins())))
    inside, width, width_ets, seconds = [], [], [], []
    for number, origin in enumerate(series.origins()):
        past, truth = series.y[:origin], series.y[origin : origin + series.horizon]
        middle, lower, upper = ets_interval(past, series.period, series.horizon)
        unit = np.mean(np.abs(past[series.period :] - past[: -series.period]))
        width_ets.append(np.mean(upper - lower) / unit)
        found["ETS"].append(scaled(middle, truth, past, series.period))
        for name, model in BASELINES.items():
            if name != "ETS":
                found[name].append(
                    scaled(model(past, series.period, series.horizon), truth, past, series.period)
                )
        forecast, _ = ours(0, n_members=0)(past, series.horizon)
        found["without LSTM"].append(scaled(forecast, truth, past, series.period))
        for row, seed in enumerate(seeds):
            start = time.process_time()
            forecast, (lower, upper) = ours(seed)(past, series.horizon)
            seconds.append(time.process_time() - start)
            found["default"][row, number] = scaled(forecast, truth, past, series.period)
            inside.append(np.mean((lower <= truth) & (truth <= upper)))
            width.append(np.mean(upper - lower) / unit)
    by_seed = found["default"].mean(axis=1)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return means, float(by_seed.std()), np.mean(inside), np.mean(width) / np.mean(width_ets), np.mean(seconds)


def accuracy(all_series, seeds):
    names = [*BASELINES, "without LSTM", "default"]
    print(
        "| series (period, horizon) | "
        + " | ".join(names)
        + " | sd over seeds | coverage | width / ETS | s |"
    )
    print("|" + "---|" * (len(names) + 5))
    rows, above, spread = [], 0, []
    for series in all_series:
        means, deviation, inside, width, seconds = judge(series, seeds)
        rows.append([means[name] for name in names] + [inside])
        above += means["default"] > 1.02 * min(means["naive"], means["seasonal naive"])
        spread.append(deviation / means["default"])
        cells = " | ".join(f"{means[name]:.2f}" for name in names)
        print(
            f"| {series.name} ({series.period}, {series.horizon}) | {cells} | {deviation:.3f} | "
            f"{inside:.2f} | "
            f"{width:.2f} | {seconds:.1f} |",
            flush=True,
        )
    table = np.array(rows)
    cells = " | ".join(f"**{value:.3f}**" for value in np.exp(np.log(table[:, :-1]).mean(axis=0)))
    print(f"| geometric mean | {cells} | {100 * max(spread):.1f} % at most | {table[:, -1].mean():.3f} | | |")
    print(f"\nAbove the better naive forecast by more than 2 %: {above} of {len(rows)}.")


def ar2(rng, steps, heavy=False):
    noise = rng.standard_t(3, steps + 200) / np.sqrt(3) if heavy else rng.normal(size=steps + 200)
    y = np.zeros(steps + 200)
    for t in range(2, steps + 200):
        y[t] = 1.2 * y[t - 1] - 0.5 * y[t - 2] + noise[t]
    return y[200:]


def intervals(seeds, quick):
    """Coverage of 90 % intervals where the truth is known: AR(2), normal and t3 noise."""
    weights = [1.0, 1.2]
    for _ in range(10):
        weights.append(1.2 * weights[-1] - 0.5 * weights[-2])
    oracle = 1.645 * np.sqrt(np.cumsum(np.square(weights)))
    print(
        "| AR(2) | steps | coverage, mean (least to most over fits) | width / oracle, 1, 4, 12 ahead "
        "|\n|---|---|---|---|"
    )
    for heavy in (False, True):
        rng = np.random.default_rng(7)
        both = [ar2(rng, 72, heavy) for _ in range(20 if quick else 300)]
        past, truth = [y[:60] for y in both], np.stack([y[60:] for y in both])
        for steps in (100,) if quick else (100, 200, 500):
            inside, widths = [], []
            for seed in seeds:
                y = ar2(np.random.default_rng(100 + seed), steps, heavy)
                fitted = LSTMForecaster(horizon=12, random_state=seed).fit(y)
                lower, upper = (np.stack(bound) for bound in fitted.predict_interval(y=past))
                inside.append(np.mean((lower <= truth) & (truth <= upper)))
                widths.append((upper - lower).mean(axis=0)[[0, 3, 11]] / (2 * oracle[[0, 3, 11]]))
            ratios = ", ".join(f"{value:.2f}" for value in np.mean(widths, axis=0))
            print(
                f"| {'t3' if heavy else 'normal'} noise | {steps} | {np.mean(inside):.3f} "
                f"({min(inside):.3f} to "
                f"{max(inside):.3f}) | {ratios} |",
                flush=True,
            )


def related_series(count, steps, horizon, seed):
    """Series with a level, a trend and a week of their own, and one response to two known inputs."""
    rng, found = np.random.default_rng(seed), []
    t = np.arange(steps + horizon)
    for _ in range(count):
        x = rng.normal(size=(len(t), 2))
        level = rng.uniform(20, 200)
        response = np.where(x[:, 0] > 0, x[:, 0] ** 2, -0.3 * x[:, 0]) * (1 + 0.8 * np.tanh(2 * x[:, 1]))
        response += 0.5 * np.concatenate([[0], np.maximum(x[:-1, 0], 0)])
        week = 0.05 * level * rng.normal(size=7)
        y = (
            level * (1 + 0.002 * rng.normal() * t + 0.1 * response + 0.03 * rng.normal(size=len(t)))
            + week[t % 7]
        )
        found.append((y, x))
    return found


def related(seeds, quick):
    """One fit over 300 series, next to one model for each."""
    steps, horizon = 80, 7
    data = related_series(20 if quick else 300, steps, horizon, 5)
    past, inputs = [y[:steps] for y, _ in data], [x[:steps] for _, x in data]
    future, truth = [x[steps:] for _, x in data], [y[steps:] for y, _ in data]
    print("| 300 related series of 80 values | MASE | CPU s |\n|---|---|---|")

    def row(name, forecasts, start):
        error = np.mean([scaled(f, t, p, 7) for f, t, p in zip(forecasts, truth, past, strict=True)])
        print(f"| {name} | {error:.3f} | {time.process_time() - start:.1f} |", flush=True)

    start = time.process_time()
    row("ETS, one for each, no inputs", [ets(y, 7, horizon) for y in past], start)
    start = time.process_time()
    row(
        "Ridge on 24 lags and the inputs, one for each",
        [ridge_with_inputs(y, x, z) for y, x, z in zip(past, inputs, future, strict=True)],
        start,
    )
    for name, words in (("without LSTM", {"n_members": 0}), ("default", {})):
        for seed in seeds if words == {} else (0,):
            start = time.process_time()
            fitted = LSTMForecaster(horizon=horizon, random_state=seed, **words).fit(past, X=inputs)
            row(f"{name}, seed {seed}", fitted.predict(X=future), start)


def ridge_with_inputs(y, x, future):
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    window = 24
    lags = np.lib.stride_tricks.sliding_window_view(y, window + 1)
    both = np.concatenate([x, future])
    rows = np.column_stack([lags[:, :-1], both[window : len(y)], both[window - 1 : len(y) - 1]])
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))).fit(rows, lags[:, -1])
    values = list(y)
    for step in range(len(future)):
        at = len(y) + step
        values.append(model.predict(np.concatenate([values[-window:], both[at], both[at - 1]])[None])[0])
    return np.array(values[len(y) :])


def nonlinear_series(quick):
    """Return maps and delays whose next value is no linear function of those before."""
    rng = np.random.default_rng(3)
    steps = 300 if quick else 1000
    henon = np.zeros(steps + 2)
    for t in range(2, steps + 2):
        henon[t] = 1 - 1.4 * henon[t - 1] ** 2 + 0.3 * henon[t - 2]
    glass = np.full(20 * steps + 400, 1.2)
    for t in range(200, len(glass)):
        delayed = glass[t - 170]
        glass[t] = glass[t - 1] + 0.1 * (0.2 * delayed / (1 + delayed**10) - 0.1 * glass[t - 1])
    tar = np.zeros(steps)
    for t in range(1, steps):
        tar[t] = (0.9 if tar[t - 1] < 0 else -0.7) * tar[t - 1] + 0.5 + 0.3 * rng.normal()
    return [
        Series("Hénon map", henon[2:] + 0.01 * rng.normal(size=steps), 1, 2, 8, 5),
        Series("Mackey-Glass, 30", glass[400::20] + 0.01 * rng.normal(size=steps), 1, 12, 8, 5),
        Series("threshold AR", tar, 1, 2, 8, 5),
    ]


def main(argv=None):
    options = arguments(
        __doc__,
        "few series, origins and seeds",
        argv,
        table={
            "nargs": "+",
            "default": ["shared", "aside", "intervals", "related", "nonlinear"],
            "choices": ["shared", "aside", "intervals", "related", "nonlinear"],
        },
    )
    statsmodels()
    warnings.simplefilter("ignore")
    seeds = options.seeds if options.quick or len(options.seeds) != 10 else range(3)
    print(machine())
    for name in options.table:
        say(name)
        print(f"\n## {name}\n")
        if name in ("shared", "aside", "nonlinear"):
            found = {"shared": shared, "aside": aside, "nonlinear": lambda: nonlinear_series(options.quick)}[
                name
            ]
            if options.quick:
                found = (
                    [Series("AR(2)", ar2(np.random.default_rng(0), 60), 1, 2, 2)]
                    if name != "nonlinear"
                    else found()[:1]
                )
                found = [Series(one.name, one.y, one.period, one.horizon, 2) for one in found]
            else:
                found = found()
            accuracy(found, seeds)
        elif name == "intervals":
            intervals(seeds if options.quick else range(10), options.quick)
        else:
            related(seeds, options.quick)


if __name__ == "__main__":
    main()
