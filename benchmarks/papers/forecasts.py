"""Forecasts of El Niño, sunspots and atmospheric CO2, next to the seasonal naive forecast, ETS and ARIMA.

Back-test over rolling origins: from each origin, the next 12 months, 11 years or 52 weeks are forecast
from what was measured until then. All models learn anew at the same few origins, from the same past; in
between they take in what is measured with their parameters as they are. Every model sees the one series,
but for the row that says otherwise. Trends of ETS and orders of ARIMA are chosen by AIC whenever they
learn. Sizes, epochs and noise of the LSTMs were set once and not tuned; ``--validate`` is there for that:
it tests on origins before those of the test.

    python benchmarks/papers/forecasts.py [--seeds 10] [--series elnino sunspots co2] [--validate] [--quick]
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from common import ObservedSquaredError, Stopwatch, arguments, batches, machine, say, spread, table

from lstm_ext import LSTM, Adam, Model
from lstm_ext.datasets import load_elnino, load_sunspots


def statsmodels():
    try:
        import statsmodels.api
    except ImportError:
        raise SystemExit("statsmodels is not installed: pip install 'lstm-ext[examples]'") from None
    return statsmodels.api


# The series -------------------------------------------------------------------------------------------


def filled(y):
    """`y` with straight lines over what is missing; after the last measurement, that."""
    known = np.flatnonzero(~np.isnan(y))
    return np.interp(np.arange(len(y)), known, y[known])


@dataclass(frozen=True)
class Series:
    """A series, how it is tested, and how it is learned.

    `first`, `step`, `refit`: the first test origin, from one to the next, and from one refit to the next,
    in steps of the series. The origin t is the last step that is known.
    """

    name: str
    y: np.ndarray
    period: int
    horizon: int
    first: int
    step: int
    refit: int
    window: int
    hidden_size: int
    epochs: int
    noise: float
    lr: float = 3e-3
    others: np.ndarray | None = None  # further series that the LSTM may see, (T, F)

    def origins(self):
        """Return the steps from which is forecast."""
        return np.arange(self.first, len(self.y) - self.horizon, self.step)

    def validation(self):
        """Return the same series, cut before its first test origin, and tested on the part before that."""
        cut = self.first + 1
        return replace(
            self, y=self.y[:cut], first=cut - self.refit - self.horizon,
            others=None if self.others is None else self.others[:cut],
        )

    def season(self):
        """Return cosine and sine of the season, (T, 2); nothing where there is none."""
        phase = 2 * np.pi * np.arange(len(self.y)) / self.true_period
        return np.stack([np.cos(phase), np.sin(phase)], axis=1)

    @property
    def true_period(self):
        """Steps of a period, not rounded."""
        return self.period

    def adjusted(self, y, end):
        """Make `y` a series without its ordinary season, by what is known until `end`; NaN where missing."""
        raise NotImplementedError

    def restored(self, z, t, end):
        """Undo `adjusted` for forecasts z (..., horizon) of the steps after t."""
        raise NotImplementedError


class ElNino(Series):
    """Less the mean of the calendar month until `end`."""

    def _climatology(self, y, end):
        return np.array([y[m : end + 1 : 12].mean(0) for m in range(12)])

    def adjusted(self, y, end):
        """Take the climatology away."""
        return y - self._climatology(y, end)[np.arange(len(y)) % 12]

    def restored(self, z, t, end):
        """Add the climatology."""
        return z + self._climatology(self.y, end)[(t + 1 + np.arange(self.horizon)) % 12]


class Sunspots(Series):
    """The square root; its period is no season, and not given to the LSTM."""

    def season(self):
        """Return nothing: the period is no season."""
        return np.zeros((len(self.y), 0))

    def adjusted(self, y, end):
        """Take the root."""
        return np.sqrt(y)

    def restored(self, z, t, end):
        """Square what is not negative."""
        return np.maximum(z, 0) ** 2


class CO2(Series):
    """Less what was measured 52 weeks before."""

    @property
    def true_period(self):
        """Weeks of a year."""
        return 365.25 / 7

    def adjusted(self, y, end):
        """Take away what was a period before."""
        z = np.full_like(y, np.nan)
        z[self.period :] = y[self.period :] - y[: -self.period]
        return z

    def restored(self, z, t, end):
        """Add what was a period before."""
        return z + seasonal_naive(self, t)


def all_series():
    """Return El Niño (Niño 3.4, degrees Celsius, monthly), sunspots (yearly) and CO2 (ppm, weekly)."""
    elnino = load_elnino()
    co2 = statsmodels().datasets.co2.load_pandas().data["co2"].to_numpy()
    return {
        "elnino": ElNino("El Niño", elnino.data[:, 3], 12, 12, 480, 1, 60, 12, 16, 30, 0.3,
                         others=elnino.data[:, :3]),
        "sunspots": Sunspots("sunspots", load_sunspots().data[:, 0], 11, 11, 200, 1, 25, 22, 16, 60, 0.2),
        "co2": CO2("CO2", co2, 52, 52, 1400, 4, 208, 52, 16, 30, 0.2),
    }


# The forecasts: functions of (series, end, origins) that learn until `end`, (n, horizon) -------------------


def seasonal_naive(series, t):
    """Forecast what was measured a period ago; straight lines over what was missing then."""
    known = filled(series.y[: t + 1])
    return known[t + 1 - series.period + np.arange(series.horizon) % series.period]


def naive(series, end, origins):
    return np.array([seasonal_naive(series, t) for t in origins])


def naive_with_drift(series, end, origins):
    """Seasonal naive, and the change over the year before the origin."""
    known = [filled(series.y[: t + 1]) for t in origins]
    drift = [y[-1] - y[-1 - series.period] for y in known]
    return naive(series, end, origins) + np.array(drift)[:, None]


def ets(series, end, origins):
    """Exponential smoothing; the season additive, a damped trend if AIC wants it."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    roots = isinstance(series, Sunspots)
    y = np.sqrt(series.y) if roots else series.y
    words = {} if roots else {"seasonal": "add", "seasonal_periods": series.period}

    def until(t, **model):
        return ETSModel(filled(y[: t + 1]), **model, initialization_method="heuristic")

    fits = []
    for trend in ({}, {"trend": "add", "damped_trend": True}, {"trend": "add"}):
        model = {**words, **trend}
        fits.append((until(end, **model).fit(disp=False), model))
    fit, model = min(fits, key=lambda pair: pair[0].aic)
    forecasts = [until(t, **model).smooth(fit.params).forecast(series.horizon) for t in origins]
    return np.maximum(forecasts, 0) ** 2 if roots else np.array(forecasts)


def arima(series, end, origins):
    """ARIMA of the adjusted series; of CO2 itself, gaps and all, with a trend and four harmonics."""
    from statsmodels.tsa.arima.model import ARIMA

    waves, y = None, series.adjusted(series.y, end)
    orders, words = [(p, 0, q) for p in (2, 3, 4) for q in (0, 1)], {}
    if isinstance(series, Sunspots):
        orders = [(p, 0, 0) for p in (2, 3, 9)]
    if isinstance(series, CO2):
        y, words = series.y, {"trend": "t"}
        phase = 2 * np.pi * np.outer(np.arange(len(y)), np.arange(1, 5)) / series.true_period
        waves = np.hstack([np.cos(phase), np.sin(phase)])
        orders = [(1, 1, 1), (2, 1, 1)]

    def exog(low, high):
        return {} if waves is None else {"exog": waves[low:high]}

    def until(t, order):
        return ARIMA(y[: t + 1], order=order, **exog(0, t + 1), **words)

    fits = [until(end, order).fit(cov_type="none") for order in orders]
    fit = min(fits, key=lambda f: f.aic)
    say(f"  {series.name}: ARIMA{fit.model.order} until step {end}")
    result = []
    for t in origins:
        state = until(t, fit.model.order).filter(fit.params, cov_type="none")
        forecast = state.forecast(series.horizon, **exog(t + 1, t + 1 + series.horizon))
        result.append(forecast if waves is not None else series.restored(forecast, t, end))
    return np.array(result)


def windows(z, window, origins):
    return np.stack([z[t + 1 - window : t + 1] for t in origins])


def lstm(series, end, origins, seed, others=False):
    """Train an LSTM on every window until `end`; it reads a window and forecasts the whole horizon."""
    rng = np.random.default_rng([seed, end])
    z = series.adjusted(series.y, end)
    inputs = [z[:, None]]
    if others:
        inputs.append(series.adjusted(series.others, end))
    inputs = np.hstack(inputs)
    mean, scale = np.nanmean(inputs[: end + 1], 0), np.nanstd(inputs[: end + 1], 0)
    inputs = np.hstack([(inputs - mean) / scale, series.season()])
    target = inputs[:, 0]
    starts = np.arange(series.window - 1, end - series.horizon + 1)
    y = np.stack([target[t + 1 : t + 1 + series.horizon] for t in starts])
    starts = starts[~np.isnan(y).all(1)]
    x = windows(inputs, series.window, starts).astype(np.float32)
    y = np.stack([target[t + 1 : t + 1 + series.horizon] for t in starts])

    gaps = {"nan": "hold", "nan_mask": True} if np.isnan(z[series.period :]).any() else {}
    network = LSTM(x.shape[2], series.hidden_size, rng=rng, **gaps)
    model = Model(network, series.horizon, loss=ObservedSquaredError(), rng=rng)
    optimizer = Adam(series.lr, max_norm=1.0)
    for x_batch, y_batch, remains in batches((x, y), rng, series.epochs, 32, series.noise):
        optimizer.lr = series.lr * remains
        model.loss_and_gradient(x_batch, y_batch)
        optimizer.step(model.parameters, model.gradient)
    forecast = model.predict(windows(inputs, series.window, origins)).astype(np.float64) * scale[0] + mean[0]
    return np.array([series.restored(f, t, end) for f, t in zip(forecast, origins, strict=True)])


# The back-test ----------------------------------------------------------------------------------------


def back_test(series, forecast):
    """Forecasts from every origin, (n, horizon): learnt anew at every `refit`-th step."""
    origins = series.origins()
    group = (origins - series.first) // series.refit
    return np.concatenate([
        forecast(series, origins[group == g][0], origins[group == g]) for g in np.unique(group)
    ])


def errors(series, forecasts):
    """Forecast less measurement, NaN where none was made, (n, horizon)."""
    return forecasts - np.stack([series.y[t + 1 : t + 1 + series.horizon] for t in series.origins()])


def rmse(error):
    return np.sqrt(np.nanmean(error**2))


def results(series, seeds):
    """Test every model on a series: rows of the table."""
    models = {"seasonal naive": naive}
    if isinstance(series, CO2):
        models["seasonal naive and drift"] = naive_with_drift
    models |= {"ETS": ets, "ARIMA": arima}
    runs = {}
    for name, model in models.items():
        watch = Stopwatch()
        runs[name] = [errors(series, back_test(series, model))]
        say(f"{series.name}, {name}: {rmse(runs[name][0]):.4f}, {watch.seconds:.1f} s")
    kinds = {"LSTM": False}
    if series.others is not None:
        kinds["LSTM that sees all four regions"] = True
    for name, others in kinds.items():
        runs[name] = []
        for seed in seeds:
            watch = Stopwatch()

            def model(*a, seed=seed, others=others):
                return lstm(*a, seed=seed, others=others)

            runs[name].append(errors(series, back_test(series, model)))
            say(f"{series.name}, {name}, seed {seed}: {rmse(runs[name][-1]):.4f}, {watch.seconds:.1f} s")
        if len(seeds) > 1:
            runs[f"{name}, mean of {len(seeds)} forecasts"] = [np.mean(runs[name], axis=0)]
    reference = rmse(runs["seasonal naive"][0])
    leads = (0, series.horizon // 2 - 1, series.horizon - 1)
    for name, some in runs.items():
        total = [rmse(e) for e in some]
        yield [
            series.name, name, len(some),
            *(f"{np.mean([rmse(e[:, lead]) for e in some]):.3f}" for lead in leads),
            spread(total, ".3f"), f"{1 - np.mean(total) / reference:+.0%}",
        ]


HEADER = ["series", "model", "runs", "RMSE at lead 1", "half the horizon", "whole horizon", "all leads",
          "less than seasonal naive"]


def main(argv=None):
    options = arguments(
        __doc__, "two epochs, few origins, no CO2", argv,
        series={"nargs": "+", "choices": ["elnino", "sunspots", "co2"], "help": "default all"},
        validate={"action": "store_true", "help": "test on origins before those of the test"},
    )
    known = all_series()
    lines = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels' on starting values and convergence
        for name in options.series or (["elnino", "sunspots"] if options.quick else known):
            series = known[name]
            if options.validate:
                series = series.validation()
            if options.quick:
                series = replace(series, step=60, refit=10_000, epochs=2)
            lines.extend(results(series, options.seeds))
    print(table(HEADER, lines))
    print(f"\n{machine()}")
    return lines


if __name__ == "__main__":
    main()
