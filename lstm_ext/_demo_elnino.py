"""The demo: forecasts of El Niño, 1 to 12 months ahead, next to the simple forecasts.

The quantity is the Niño 3.4 anomaly: the sea-surface temperature of the central tropical Pacific
less its climatology, the mean of the calendar month over the training years. Two simple forecasts are
climatology ("as usual for the month") and persistence ("as unusual as now"); a linear regression on the last
months is better than both.

All settings (window, units, epochs, augmentation, and the regressions' lags and penalty) were chosen by
cross-validation in four blocks of consecutive years within the training years. The test years had no part in
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._demo import new_figure, save_picture
from lstm_ext.datasets import load_elnino
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model
from lstm_ext.optim import Adam

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from lstm_ext._demo import Progress, Writers

    _Array = npt.NDArray[Any]

FIRST_TEST_YEAR = 1995
LEADS = 12  # months ahead
WINDOW = 9  # months that a forecast looks back
HIDDEN = 32
MEMBERS = 5
EPOCHS = 100
NINO34 = 3  # its column


class Problem:
    """What is learned from, and what is tested on.

    Parameters
    ----------
    learning, testing : ndarray of bool, one for each month of the series
        Forecasts learned from read and predict learning months only. Forecasts tested predict
        testing months only; they read whatever months come before.
    """

    def __init__(self, learning: npt.NDArray[np.bool_], testing: npt.NDArray[np.bool_]) -> None:
        series = load_elnino()
        month = series.index.astype(int) % 12
        climatology = np.stack([series.data[learning & (month == m)].mean(0) for m in range(12)])
        anomaly = series.data - climatology[month]
        self.scale = anomaly[learning].std(0)
        season = np.stack([np.cos(2 * np.pi * month / 12), np.sin(2 * np.pi * month / 12)], axis=1)
        self.index = series.index
        self.anomaly = anomaly[:, NINO34]
        self.features = np.hstack([anomaly / self.scale, season])

        # A forecast starts at the end of month t.
        starts = np.arange(WINDOW - 1, len(month) - LEADS)
        after = np.array([testing[t + 1 : t + LEADS + 1].all() for t in starts])
        within = np.array([learning[t - WINDOW + 1 : t + LEADS + 1].all() for t in starts])
        self.learn, self.test = starts[within], starts[after]

    def inputs(self, starts: _Array) -> _Array:
        """Return the months before each forecast, (n, WINDOW, features)."""
        return np.stack([self.features[t - WINDOW + 1 : t + 1] for t in starts])

    def targets(self, starts: _Array) -> _Array:
        """Return the anomalies, scaled, of the months that are predicted, (n, LEADS)."""
        return np.stack([self.features[t + 1 : t + LEADS + 1, NINO34] for t in starts])

    def rmse(self, forecast: _Array) -> _Array:
        """Return the root mean squared error of tested forecasts in degrees, (LEADS,)."""
        error = (forecast - self.targets(self.test)) * self.scale[NINO34]
        return np.asarray(np.sqrt(np.mean(error**2, axis=0)))


def ridge_regression(problem: Problem, lags: int, ridge: float, seasonal: bool) -> _Array:
    """Forecast with one linear regression for each lead on the last months of all regions.

    With `seasonal`, its coefficients go round with the year: a + b cos + c sin.
    """

    def regressors(starts: _Array) -> _Array:
        x = problem.inputs(starts)
        recent, season = x[:, -lags:, :4].reshape(len(x), -1), x[:, -1, 4:]
        if not seasonal:
            return recent
        return np.hstack([recent, recent * season[:, :1], recent * season[:, 1:]])

    a, b = regressors(problem.learn), problem.targets(problem.learn)
    a_mean, b_mean = a.mean(0), b.mean(0)
    a, b = a - a_mean, b - b_mean
    penalty = ridge * len(a) * np.eye(a.shape[1])
    coefficients = np.linalg.solve(a.T @ a + penalty, a.T @ b)
    return np.asarray((regressors(problem.test) - a_mean) @ coefficients + b_mean)


def simple_forecasts(problem: Problem) -> dict[str, _Array]:
    """Return the forecasts to beat by name, each (n, LEADS)."""
    last = problem.inputs(problem.test)[:, -1, NINO34, None]
    return {
        "climatology": np.zeros((len(last), LEADS)),
        "persistence": np.repeat(last, LEADS, axis=1),
        "linear regression": ridge_regression(problem, 6, 0.1, seasonal=False),
        "seasonal regression": ridge_regression(problem, 6, 0.1, seasonal=True),
    }


def train_member(problem: Problem, seed: Sequence[int], epochs: int, callback: Progress | None) -> Model:
    """Train one LSTM of the ensemble."""
    rng = np.random.default_rng(seed)
    x = problem.inputs(problem.learn).astype(np.float32)
    # Every month of a window is a forecast to learn from.
    y = np.stack([problem.targets(problem.learn - back) for back in range(WINDOW)[::-1]], axis=1)
    same_month = [np.flatnonzero(problem.learn % 12 == month) for month in range(12)]
    model = Model(LSTM(x.shape[2], HIDDEN, rng=rng), LEADS, every_step=True, rng=rng)
    optimizer = Adam(1e-3, max_norm=1.0)
    for _ in range(epochs):
        # The windows are few, and to first order anomalies add up: so each epoch shows every
        # window mixed with two others of the same calendar month, by weights drawn anew, and its
        # inputs with some noise.
        shown, target = np.zeros_like(x), 0
        for other in range(3):
            weight = 0.8 * rng.normal(size=(len(x), 1, 1))
            chosen = np.arange(len(x))
            if other:
                for month in same_month:
                    chosen[month] = rng.choice(month, len(month))
            shown += weight * x[chosen]
            target = target + weight * y[chosen]
        shown += 0.5 * rng.normal(size=x.shape)
        shown[:, :, 4:] = x[:, :, 4:]  # the season stays what it is
        model.fit(
            shown, target, epochs=1, batch_size=32, optimizer=optimizer, rng=rng, callback=callback
        )
    return model


def table(errors: dict[str, _Array]) -> list[str]:
    """Return the errors of all forecasts as lines of text."""
    shown = [1, 2, 3, 6, 9, 12]
    lines = ["months ahead".ljust(20) + "".join(f"{lead:7}" for lead in shown) + "     mean"]
    for name, error in errors.items():
        columns = "".join(f"{error[lead - 1]:7.2f}" for lead in shown)
        lines.append(f"{name:20}{columns}{error.mean():9.3f}")
    return lines


def verdict(errors: dict[str, _Array]) -> list[str]:
    """Say how the LSTM compares with each of the simple forecasts."""
    lstm = errors["LSTM"].mean()
    lines = []
    for name, error in errors.items():
        if name != "LSTM":
            change = 100 * (lstm / error.mean() - 1)
            lines.append(f"  {abs(change):4.1f} % {'above' if change > 0 else 'below'} {name}")
    best = min(errors, key=lambda name: errors[name].mean())
    won = "The LSTM is the best of them." if best == "LSTM" else f"The best of them is {best}."
    return ["The mean error of the LSTM is", *lines, won]


def draw(problem: Problem, errors: dict[str, _Array], members: _Array) -> Figure:
    """Draw errors by lead, and what was forecast half a year ahead."""
    figure = new_figure((11, 4.2))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])

    leads = np.arange(1, LEADS + 1)
    styles = {
        "climatology": ("0.6", ":"),
        "persistence": ("0.4", "--"),
        "linear regression": ("tab:blue", "-."),
        "seasonal regression": ("tab:blue", "-"),
        "LSTM": ("tab:red", "-"),
    }
    for name, error in errors.items():
        color, line = styles[name]
        left.plot(leads, error, line, color=color, label=name, lw=2.2 if name == "LSTM" else 1.5)
    left.set(
        xlabel="months ahead",
        ylabel="root mean squared error (°C)",
        title=f"Error of forecasts, {FIRST_TEST_YEAR} to {problem.index[-1].astype(object).year}",
        xticks=leads,
        ylim=(0, None),
    )
    left.legend(frameon=False, fontsize=9, loc="lower right")

    ahead = 6
    months = problem.index[problem.test + ahead].astype("datetime64[D]")
    degrees = members[:, :, ahead - 1] * problem.scale[NINO34]
    observed = problem.anomaly[problem.test + ahead]
    right.axhline(0, color="0.8", lw=0.8)
    right.plot(months, observed, color="0.2", lw=1.5, label="observed")
    right.fill_between(
        months,
        degrees.min(0),
        degrees.max(0),
        color="tab:red",
        alpha=0.25,
        lw=0,
        label=f"range of the {len(degrees)} LSTMs",
    )
    right.plot(
        months, degrees.mean(0), color="tab:red", lw=1.8, label=f"LSTM, {ahead} months before"
    )
    right.set(
        ylabel="Niño 3.4 anomaly (°C)",
        title=f"El Niño and La Niña, seen {ahead} months ahead",
        xlim=(months[0], months[-1]),
    )
    right.legend(frameon=False, fontsize=9, loc="upper right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


FILES = ["elnino.png", *(f"elnino-{k}.safetensors" for k in range(1, MEMBERS + 1))]


def solve(seed: int, epochs: int, progress: Progress) -> Writers:
    """Train all methods and print their errors; see `lstm_ext._demo`."""
    year = load_elnino().index.astype("datetime64[Y]").astype(int) + 1970
    problem = Problem(year < FIRST_TEST_YEAR, year >= FIRST_TEST_YEAR)
    print(
        "El Niño: the sea-surface temperature anomaly of region Niño 3.4, 1 to 12 months ahead\n"
        f"learned from {year[0]} to {FIRST_TEST_YEAR - 1}, tested on {FIRST_TEST_YEAR} to "
        f"{year[-1]}: {len(problem.test)} forecasts, for {LEADS} months each",
        flush=True,
    )
    progress.begin(MEMBERS * epochs)
    models = [train_member(problem, [seed, member], epochs, progress) for member in range(MEMBERS)]
    progress.end()
    x = problem.inputs(problem.test)
    members = np.stack([model.predict(x)[:, -1] for model in models])
    forecasts = simple_forecasts(problem) | {"LSTM": members.mean(0)}
    errors = {name: problem.rmse(forecast) for name, forecast in forecasts.items()}

    print(f"\nroot mean squared error in °C; LSTM: mean forecast of {MEMBERS}, {models[0].lstm!r}\n")
    print("\n".join(table(errors)), end="\n\n")
    print("\n".join(verdict(errors)))
    single = [problem.rmse(member).mean() for member in members]
    print(f"Each of the {MEMBERS} LSTMs by itself: {min(single):.3f} to {max(single):.3f} °C.")
    print("All settings were chosen by cross-validation in the years before the test years.")
    writers = {"elnino.png": lambda path: save_picture(draw(problem, errors, members), path)}
    for number, model in enumerate(models, start=1):
        writers[f"elnino-{number}.safetensors"] = model.save
    return writers
