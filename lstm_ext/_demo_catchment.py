r"""The demo of a snow-fed catchment: daily rain and temperature in, river discharge out.

The catchment is simulated from the equations of `snow_catchment`; docs/snow-catchment.md shows them too. The
gauge that the forecasts learn from has an error of 5 %. No method sees snowpack, soil or ground water.

All settings were chosen by the Nash-Sutcliffe efficiency of the validation years on seeds 100 to 102. The
seeds that the documentation shows, 0 to 2, had no part in it, and test years never had.
"""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._demo import new_figure, save_picture, table
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model
from lstm_ext.optim import Adam
from lstm_ext.schedules import Cosine

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from lstm_ext._demo import Progress, Writers

    _Array = npt.NDArray[Any]

DAYS = 365  # a simulated year has no 29 February
WARM_UP, TRAINING, VALIDATION, TEST = 1, 30, 4, 6  # years
GAUGE_ERROR = 0.05

MEMBERS = 3
HIDDEN = 32
EPOCHS = 40
LEARNING_RATE = 2e-2
BATCH = 8
WINDOW, SPIN_UP = 2 * DAYS, DAYS  # days of a training sequence; its first ones have no weight in the loss
STRIDE = 73  # days between the starts of two training sequences

NAMES = ["mean of the day of year", "Ridge on lags", "gradient boosting", "LSTM"]


def weather(years: int, rng: np.random.Generator) -> tuple[_Array, _Array]:
    """Draw daily precipitation and temperature.

    Temperature is a yearly wave (-5 °C in the middle of January, 17 °C in July), an offset of each year and
    an autoregressive process of first order. Days are wet or dry by a Markov chain; the amount of a wet day
    is exponential. This is the weather generator of Richardson (Water Resources Research 17, 182-190, 1981)
    with constant parameters of precipitation.

    Returns
    -------
    precipitation, temperature : ndarray, one number for each day
        In mm and °C.
    """
    days = DAYS * years
    season = 6 - 11 * np.cos(2 * np.pi * (np.arange(days) - 15) / DAYS)
    offset = np.repeat(rng.normal(0, 0.8, years), DAYS)
    shocks, draws = 2.4 * rng.normal(size=days), rng.random(days)
    noise, wet = np.empty(days), np.empty(days, bool)
    last_noise, last_wet = 0.0, False
    for day in range(days):
        noise[day] = last_noise = 0.8 * last_noise + shocks[day]
        wet[day] = last_wet = draws[day] < (0.6 if last_wet else 0.25)
    return wet * rng.exponential(7.0, days), season + offset + noise


def snow_catchment(
    precipitation: _Array, temperature: _Array, *, degree_day: float = 3.5, capacity: float = 250.0,
    evaporation: float = 0.25, fast: float = 0.15, percolation: float = 1.2, slow: float = 0.02
) -> tuple[_Array, _Array]:
    r"""Simulate a catchment with snow, day by day: the HBV model with one zone.

    With precipitation P and temperature T of the day, snowpack S, soil moisture B, upper store U and lower
    store L (all in mm; each line uses the values that the lines above have left)::

        snow   = P if T < 0 else 0
        M      = min(S + snow, degree_day * max(T, 0))              melt
        S      = S + snow - M
        W      = P - snow + M                                       water that reaches the soil
        R      = W * (B / capacity)^2                               recharge
        B      = B + W - R;   R = R + max(B - capacity, 0);   B = min(B, capacity)
        B      = B - min(B, evaporation * max(T, 0) * min(1, B / (0.6 * capacity)))
        U      = U + R;       Q1 = fast * U;   U = U - Q1
        C      = min(U, percolation);          U = U - C;   L = L + C
        Q2     = slow * L;                     L = L - Q2
        Q      = Q1 + Q2                                            discharge

    References
    ----------
    S. Bergström, Development and application of a conceptual runoff model for Scandinavian catchments, SMHI
    RHO 7, 1976. J. Seibert and M. J. P. Vis, Hydrology and Earth System Sciences 16, 3315-3325, 2012
    (HBV-light, and the ranges that these parameters lie in).

    Parameters
    ----------
    precipitation, temperature : ndarray, one number for each day
        In mm and °C.
    degree_day : float
        Melt in mm for each degree above 0 °C and day.
    capacity : float
        Largest soil moisture, mm.
    evaporation : float
        Evaporation from wet soil in mm for each degree above 0 °C and day.
    fast, slow : float
        Share of the upper and of the lower store that leaves it in a day.
    percolation : float
        Most water that passes from the upper to the lower store in a day, mm.

    Returns
    -------
    discharge, snowpack : ndarray
        In mm per day, and mm of water at the end of each day.
    """
    snow, soil, upper, lower = 0.0, 100.0, 0.0, 20.0
    discharge, snowpack = np.empty(len(precipitation)), np.empty(len(precipitation))
    for day, (water, degrees) in enumerate(zip(precipitation.tolist(), temperature.tolist(), strict=True)):
        warm = max(degrees, 0.0)
        if degrees < 0:
            snow, water = snow + water, 0.0
        melt = min(snow, degree_day * warm)
        snow, water = snow - melt, water + melt
        recharge = water * (soil / capacity) ** 2
        soil += water - recharge
        if soil > capacity:
            recharge, soil = recharge + soil - capacity, capacity
        soil -= min(soil, evaporation * warm * min(1.0, soil / (0.6 * capacity)))
        upper += recharge
        quick = fast * upper
        upper -= quick
        leaving = min(upper, percolation)
        upper, lower = upper - leaving, lower + leaving
        base = slow * lower
        lower -= base
        discharge[day], snowpack[day] = quick + base, snow
    return discharge, snowpack


def nash_sutcliffe(found: _Array, observed: _Array) -> float:
    """Return 1 less the squared error over that of the mean (Nash and Sutcliffe, J. Hydrology 10, 1970)."""
    return float(1 - np.mean((found - observed) ** 2) / np.var(observed))


class Problem:
    """A simulated catchment, and which of its years are for what.

    Attributes
    ----------
    precipitation, temperature, discharge : ndarray, one number for each day
        What the methods may use; discharge is that of the gauge.
    truth, snowpack : ndarray
        Discharge without the error of the gauge, and what no method sees.
    training, validation, test : slice
        Days.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        years = WARM_UP + TRAINING + VALIDATION + TEST
        rain, temperature = weather(years, rng)
        truth, snowpack = snow_catchment(rain, temperature)
        warm_up = DAYS * WARM_UP
        self.precipitation, self.temperature = rain[warm_up:], temperature[warm_up:]
        self.truth, self.snowpack = truth[warm_up:], snowpack[warm_up:]
        self.discharge = self.truth * np.exp(rng.normal(0, GAUGE_ERROR, len(self.truth)))
        ends = DAYS * np.cumsum([0, TRAINING, VALIDATION, TEST])
        self.training, self.validation, self.test = (
            slice(*pair) for pair in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        )
        self.day = np.arange(len(self.truth)) % DAYS

    def score(self, found: _Array, part: slice) -> float:
        """Return the Nash-Sutcliffe efficiency of a simulation in one part of the years."""
        return nash_sutcliffe(found[part], self.discharge[part])


def day_of_year(problem: Problem) -> _Array:
    """Return the mean discharge of the 15 days around the same day of all training years."""
    part = problem.training
    day, discharge = problem.day[part], problem.discharge[part]
    means = [discharge[(day - center + 7) % DAYS < 15].mean() for center in range(DAYS)]
    return np.array(means)[problem.day]


def _past(values: _Array, lag: int) -> _Array:
    return np.concatenate([np.full(lag, values[0]), values[: len(values) - lag]])


def _season(problem: Problem) -> _Array:
    angle = 2 * np.pi * problem.day / DAYS
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ridge(
    problem: Problem, lags: Sequence[int] = (15, 30, 60, 120),
    penalties: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0)
) -> _Array:
    """Ridge regression on the last days' weather, in each season with coefficients of its own.

    The coefficients are a + b cos + c sin of the day of the year. Lags and penalty are those of the best
    validation.
    """
    season = _season(problem)
    weather = np.stack([problem.precipitation, problem.temperature], axis=1)
    weather = (weather - weather[problem.training].mean(0)) / weather[problem.training].std(0)
    candidates: list[tuple[float, _Array]] = []
    for count in lags:
        x = np.hstack([_past_rows(weather, lag) for lag in range(count)])
        x = np.hstack([x, x * season[:, :1], x * season[:, 1:], season])
        train = x[problem.training]
        mean, y = train.mean(0), problem.discharge[problem.training]
        moments = train.T @ train - len(train) * np.outer(mean, mean)
        products = train.T @ (y - y.mean())
        for penalty in penalties:
            weights = np.linalg.solve(moments + penalty * len(train) * np.eye(len(mean)), products)
            found = np.maximum((x - mean) @ weights + y.mean(), 0)
            candidates.append((problem.score(found, problem.validation), found))
    return max(candidates, key=lambda candidate: candidate[0])[1]


def _past_rows(rows: _Array, lag: int) -> _Array:
    return np.concatenate([np.repeat(rows[:1], lag, axis=0), rows[: len(rows) - lag]])


def features(problem: Problem) -> _Array:
    """Return what a hydrologist may give to a model without memory, (days, features).

    Rain and temperature of each of the last 5 days; over the last 7 to 365 days the sum of precipitation, of
    precipitation on days of frost, of degrees above 0 °C, and the mean temperature; the season. A running
    snow model is not among them: it would be the simulation itself.
    """
    rain, temperature = problem.precipitation, problem.temperature
    columns = [_past(values, lag) for lag in range(5) for values in (rain, temperature)]
    sums = [rain, np.where(temperature < 0, rain, 0), np.maximum(temperature, 0), temperature]
    for values in sums:
        total = np.concatenate([[0.0], np.cumsum(values)])
        for window in (7, 15, 30, 60, 90, 120, 180, 270, 365):
            first = np.maximum(np.arange(len(values)) + 1 - window, 0)
            columns.append(total[1:] - total[first])
    return np.hstack([np.stack(columns, axis=1), _season(problem)])


def boosting(
    problem: Problem, seed: int, learning_rate: float = 0.05, leaves: int = 7, most: int = 600
) -> _Array:
    """Gradient boosting on `features`, with as many trees as validation asks for; needs scikit-learn."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    x, y = features(problem), problem.discharge
    model = HistGradientBoostingRegressor(
        max_iter=most, learning_rate=learning_rate, max_leaf_nodes=leaves, min_samples_leaf=20,
        early_stopping=False, random_state=seed,
    ).fit(x[problem.training], y[problem.training])
    stages: list[_Array] = [found.copy() for found in model.staged_predict(x)]
    return max(stages, key=lambda found: problem.score(found, problem.validation)).clip(min=0)


def inputs(problem: Problem) -> npt.NDArray[np.float32]:
    """Return what the LSTMs read, (1, days, 2)."""
    x = np.stack([problem.precipitation / 10, problem.temperature / 10], axis=1)
    return x.astype(np.float32)[None]


def train_member(
    problem: Problem, seed: Sequence[int], epochs: int = EPOCHS, callback: Progress | None = None,
    hidden: int = HIDDEN, lr: float = LEARNING_RATE, forget: float = 3.0, batch: int = BATCH,
    window: int = WINDOW, stride: int = STRIDE
) -> Model:
    """Train one LSTM on sequences of `WINDOW` days; the first `SPIN_UP` of each have no weight."""
    rng = np.random.default_rng(seed)
    x, part = inputs(problem)[0], problem.training
    y = (problem.discharge / problem.discharge[part].std()).astype(np.float32)[:, None]
    starts = np.arange(part.start, part.stop - window + 1, stride)
    weight = np.ones((len(starts), window))
    weight[:, :SPIN_UP] = 0
    model = Model(LSTM(2, hidden, init={"forget_bias": forget}, rng=rng), 1, every_step=True, rng=rng)
    model.fit(
        np.stack([x[start : start + window] for start in starts]),
        np.stack([y[start : start + window] for start in starts]),
        epochs=epochs, batch_size=batch, sample_weight=weight, optimizer=Adam(lr, max_norm=1.0),
        schedule=Cosine(epochs, 0.02), rng=rng, callback=callback,
    )
    return model


def simulate(problem: Problem, model: Model) -> _Array:
    """Return the discharge that one LSTM computes for all days, in one run from the first day on."""
    scale = problem.discharge[problem.training].std()
    discharge: _Array = model.predict(inputs(problem))[0, :, 0] * scale
    return discharge.clip(min=0)


def snow_cell(problem: Problem, models: Sequence[Model]) -> tuple[int, int, _Array]:
    """Return the cell whose state follows the snowpack best in the training years.

    Returns
    -------
    member, cell : int
    found : ndarray, one number for each day
        The state of that cell, scaled to the snowpack by a line fitted to the training years.
    """
    x, part = inputs(problem), problem.training
    candidates = []
    for member, model in enumerate(models):
        states = model.lstm.forward(x, return_gates=True)[-1]["c"][0, 0].astype(float)
        strength = [abs(np.corrcoef(state, problem.snowpack[part])[0, 1]) for state in states[part].T]
        cell = int(np.argmax(strength))
        candidates.append((strength[cell], member, cell, states[:, cell]))
    _, member, cell, state = max(candidates, key=lambda candidate: candidate[0])
    return member, cell, np.polyval(np.polyfit(state[part], problem.snowpack[part], 1), state)


FILES = ["catchment.png", "catchment.csv", *(f"catchment-{k}.safetensors" for k in range(1, MEMBERS + 1))]


def solve(seed: int, epochs: int, progress: Progress) -> Writers:
    """Train all methods and print their errors; see `lstm_ext._demo`."""
    problem = Problem(seed)
    found, seconds = {}, {}
    print(
        "A snow-fed catchment, simulated: daily rain and temperature in, river discharge out.\n"
        f"{TRAINING} years to learn from, {VALIDATION} to validate, {TEST} to test; the gauge has an error "
        f"of {100 * GAUGE_ERROR:.0f} %.\n",
        flush=True,
    )

    def timed(name: str, compute: Callable[[], _Array]) -> None:
        begun = time.process_time()
        found[name] = compute()
        seconds[name] = time.process_time() - begun

    models = []

    def train() -> _Array:
        for member in range(MEMBERS):
            models.append(train_member(problem, [seed, member], epochs, progress))
            score = problem.score(simulate(problem, models[-1]), problem.validation)
            progress.note(f"LSTM {member + 1} of {MEMBERS}: validation NSE {score:.2f}")
        return np.asarray(np.mean([simulate(problem, model) for model in models], axis=0))

    timed(NAMES[0], lambda: day_of_year(problem))
    timed(NAMES[1], lambda: ridge(problem))
    if importlib.util.find_spec("sklearn"):
        timed(NAMES[2], lambda: boosting(problem, seed))
    progress.begin(MEMBERS * epochs)
    timed(NAMES[3], train)
    progress.end()

    rows = {}
    for name, discharge in {**found, "without the gauge's error": problem.truth}.items():
        error = (discharge - problem.discharge)[problem.test]
        scores = [problem.score(discharge, part) for part in (problem.validation, problem.test)]
        rows[name] = [f"{score:.2f}" for score in scores] + [f"{np.sqrt(np.mean(error**2)):.2f}"]
        rows[name].append(f"{seconds[name]:.1f}" if name in seconds else "")
    titles = ["", "NSE, validation", "NSE, test", "RMSE, test (mm/d)", "CPU s"]
    print("\n".join(table(titles, rows)))
    print(
        "\nNSE, the Nash-Sutcliffe efficiency: 1 is perfect, 0 is the mean of the years.\n"
        f"LSTM: mean of {MEMBERS} networks of {HIDDEN} units; boosting: on hand-made features, such as sums "
        "of rain and warmth."
    )
    if NAMES[2] not in found:
        print("No gradient boosting: scikit-learn is not installed (pip install 'lstm-ext[sklearn]').")
    if NAMES[3] != max(found, key=lambda name: problem.score(found[name], problem.test)):
        print("Here the LSTM is not the best of them.")
    member, cell, state = snow_cell(problem, models)
    correlation = np.corrcoef(state[problem.test], problem.snowpack[problem.test])[0, 1]
    print(
        f"\nCell {cell + 1} of LSTM {member + 1} follows the snowpack, which it never saw: correlation "
        f"{correlation:.2f} in the test years."
    )
    writers = {
        "catchment.png": lambda path: save_picture(draw(problem, found, (member, cell, state)), path),
        "catchment.csv": lambda path: write_table(problem, path),
    }
    for number, model in enumerate(models, start=1):
        writers[f"catchment-{number}.safetensors"] = model.save
    return writers


def write_table(problem: Problem, path: str | os.PathLike[str]) -> None:
    """Write what the methods may use, as a table for ``lstm-ext fit``."""
    dates = np.datetime64("1991-01-01") + np.arange(len(problem.discharge))
    with open(path, "w", encoding="utf-8") as file:
        file.write("date,rain,temperature,discharge\n")
        for date, *numbers in zip(
            dates, problem.precipitation, problem.temperature, problem.discharge, strict=True
        ):
            file.write("{},{:.2f},{:.2f},{:.3f}\n".format(date, *numbers))


def flood_year(problem: Problem) -> slice:
    """Return the days of the water year (October to September) with the largest flood of the test years."""
    first = problem.test.start + 273  # 1 October
    starts = range(first, problem.test.stop - DAYS + 1, DAYS)
    start = max(starts, key=lambda day: problem.discharge[day : day + DAYS].max())
    return slice(start, start + DAYS)


def draw(
    problem: Problem, found: dict[str, _Array], cell: tuple[int, int, _Array],
    size: tuple[float, float] = (9, 6.2)
) -> Figure:
    """Draw a flood year: rain and snow from above, discharge, snowpack and the cell that follows it.

    Colors are those of Okabe and Ito, which readers with impaired color vision can tell apart.
    """
    part = flood_year(problem)
    days = np.arange(DAYS)
    figure = new_figure(size)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[1, 2.6, 1.5])
    rain, temperature = problem.precipitation[part], problem.temperature[part]
    for label, color, shown in (("rain", "#0072B2", temperature >= 0), ("snow", "#56B4E9", temperature < 0)):
        top.fill_between(days, np.where(shown, rain, 0), step="mid", color=color, lw=0, label=label)
    top.set(ylim=(1.05 * rain.max(), 0), ylabel="mm/d")

    def labelled(name: str) -> str:
        return f"{name}, NSE {problem.score(found[name], problem.test):.2f}"

    middle.plot(days, problem.discharge[part], color="black", lw=1.6, label="observed")
    if NAMES[2] in found:
        middle.plot(days, found[NAMES[2]][part], color="#009E73", lw=1.2, label=labelled(NAMES[2]))
    middle.plot(days, found[NAMES[3]][part], color="#D55E00", lw=1.6, label=labelled(NAMES[3]))
    middle.set(ylim=(0, None), ylabel="discharge (mm/d)")

    member, number, state = cell
    hidden = problem.snowpack[part]
    bottom.fill_between(days, hidden, color="#56B4E9", alpha=0.45, lw=0, label="snowpack, never seen")
    label = f"cell {number + 1} of LSTM {member + 1}, scaled"
    bottom.plot(days, state[part], color="#D55E00", lw=1.6, label=label)
    bottom.set(ylim=(0, None), ylabel="snow (mm)", xlim=(0, DAYS - 1))
    firsts = [0, 31, 61, 92, 123, 151, 182, 212, 243, 273, 304, 335]
    months = ["Oct", "Nov", "Dec", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep"]
    bottom.set_xticks(firsts, months, ha="left")
    for axes, place in ((top, "lower right"), (middle, "upper left"), (bottom, "upper right")):
        axes.legend(frameon=False, loc=place, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    top.spines["top"].set_visible(True)
    top.spines["bottom"].set_visible(False)
    top.tick_params(bottom=False)
    figure.align_ylabels()
    return figure
