r"""The demo of a spring with memory: force in, displacement out.

A mass on a spring with hysteresis, simulated from the equations of `bouc_wen`. Its displacement depends on
the path that the force has taken, by way of an internal force that no method sees.

All settings were chosen by the fit to the validation record on seeds 100 to 102. The seeds that the
documentation shows, 0 to 2, had no part in it, and test records never had.
"""

from __future__ import annotations

import importlib.util
import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_ext._demo import new_figure, save_picture, table
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model
from lstm_ext.optim import Adam
from lstm_ext.schedules import Cosine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from lstm_ext._demo import Progress, Writers

    _Array = npt.NDArray[Any]
    _Simulation = Callable[[_Array], _Array]  # from a force to the displacement

RATE = 750.0  # samples in a second
SAMPLES = 8192  # of each of the three records
HIDDEN = 32
EPOCHS = 80
LEARNING_RATE = 2e-2
BATCH = 8
WINDOW, SPIN_UP, STRIDE = 300, 100, 50  # samples of a training sequence, without weight, between two starts
NOISE = 0.01  # of the sensor, as a share of the displacement's standard deviation
BEGINNING = 200  # samples of validation and test in which the memory fills: not scored

NAMES = ["Ridge on lags", "Ridge on lags and cubes", "gradient boosting", "LSTM"]


def random_force(
    rng: np.random.Generator, samples: int = SAMPLES, amplitude: float = 50.0, lowest: float = 5.0,
    highest: float = 150.0
) -> _Array:
    """Draw a multisine: equal amplitudes and random phases from `lowest` to `highest` Hz; N."""
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    within = (frequency >= lowest) & (frequency <= highest)
    force = np.fft.irfft(np.where(within, np.exp(2j * np.pi * rng.random(len(frequency))), 0), samples)
    return np.asarray(amplitude * force / force.std())


def growing_sine(samples: int = SAMPLES, amplitude: float = 150.0, frequency: float = 4.0) -> _Array:
    """Return a force that the training does not prepare for: one slow wave that grows; N."""
    time = np.arange(samples) / RATE
    return np.asarray(amplitude * time / time[-1] * np.sin(2 * np.pi * frequency * time))


def bouc_wen(force: _Array, substeps: int = 20) -> _Array:
    r"""Simulate the displacement of a mass on a Bouc-Wen spring.

    With displacement y, velocity v and internal force z::

        m v' = u - c v - k y - z        y' = v        z' = alpha v - beta (gamma |v| z + delta v |z|)

    m = 2, c = 10, k = 5e4, alpha = 5e4, beta = 1e3, gamma = 0.8, delta = -1.1. Integrated by Euler's
    semi-implicit method, in `substeps` steps for each sample, between which the force is linear.

    References
    ----------
    R. Bouc, Proc. 4th Conf. on Nonlinear Oscillation, 315, 1967. Y. K. Wen, J. Engineering Mechanics
    Division ASCE 102, 249-263, 1976. The parameters: J. P. Noël and M. Schoukens, Hysteretic benchmark with a
    dynamic nonlinearity, Workshop on Nonlinear System Identification Benchmarks, Brussels, 2016.

    Parameters
    ----------
    force : ndarray, one number for each sample
        u, N.
    substeps : int
        Steps of the integration for each sample.

    Returns
    -------
    ndarray
        Displacement in mm.
    """
    mass, damping, stiffness = 2.0, 10.0, 5e4
    alpha, beta, gamma, delta = 5e4, 1e3, 0.8, -1.1
    step = 1 / RATE / substeps
    fine = np.interp(np.arange(len(force) * substeps) / substeps, np.arange(len(force)), force).tolist()
    y = v = z = 0.0
    path = []
    for number, u in enumerate(fine):
        if number % substeps == 0:
            path.append(y)
        v += step * (u - damping * v - stiffness * y - z) / mass
        y += step * v
        z += step * (alpha * v - beta * (gamma * abs(v) * z + delta * v * abs(z)))
    return 1e3 * np.array(path)


def fit_percent(found: _Array, observed: _Array) -> float:
    """Return 100 (1 - |error| / |observed - mean|), the fit of system identification, in percent."""
    error = np.linalg.norm(found - observed) / np.linalg.norm(observed - observed.mean())
    return float(100 * (1 - error))


class Record:
    """Force, displacement as the sensor gives it, and as it is."""

    def __init__(
        self, force: _Array, noise_rng: np.random.Generator | None = None, repeated: bool = True
    ) -> None:
        if repeated:  # a periodic force: its last samples come before, so that the record starts in motion
            self.force, self.truth = force, bouc_wen(np.concatenate([force[-500:], force]))[500:]
        else:
            self.force, self.truth = force, bouc_wen(force)
        self.displacement = self.truth
        if noise_rng is not None:
            noise = NOISE * self.truth.std() * noise_rng.normal(size=len(force))
            self.displacement = self.truth + noise


class Problem:
    """Three records with forces of their own, and one with a force of another kind."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.training = Record(random_force(rng), rng)
        self.validation = Record(random_force(rng), rng)
        self.test = Record(random_force(rng))
        self.other = Record(growing_sine(), repeated=False)
        self.scales = self.training.force.std(), self.training.displacement.std()

    @staticmethod
    def score(found: _Array, record: Record) -> float:
        """Return the fit in percent, without the beginning."""
        return fit_percent(found[BEGINNING:], record.displacement[BEGINNING:])


def lagged(values: _Array, count: int) -> _Array:
    """Return the last `count` values at each sample, zeros before the first, (samples, count)."""
    padded = np.concatenate([np.zeros(count - 1), values])
    return np.lib.stride_tricks.sliding_window_view(padded, count)[:, ::-1]


def ridge(
    problem: Problem, cubes: bool, lags: Sequence[int] = (50, 100, 200),
    penalties: Sequence[float] = (1e-5, 1e-3, 1e-2, 1e-1)
) -> _Simulation:
    """Ridge regression on past forces, and their cubes; lags and penalty are those of the best validation.

    Returns
    -------
    callable
        From a force to the displacement.
    """

    def regressors(force: _Array, count: int) -> _Array:
        x = lagged(force / problem.scales[0], count)
        return np.hstack([x, x**3]) if cubes else x

    candidates = []
    for count in lags:
        x, y = regressors(problem.training.force, count), problem.training.displacement
        moments, products = x.T @ x, x.T @ y
        other = regressors(problem.validation.force, count)
        for penalty in penalties:
            weights = np.linalg.solve(moments + penalty * len(y) * np.eye(len(moments)), products)
            candidates.append((problem.score(other @ weights, problem.validation), count, weights))
    _, best_count, best_weights = max(candidates, key=lambda candidate: candidate[0])

    def simulate(force: _Array) -> _Array:
        return np.asarray(regressors(force, best_count) @ best_weights)

    return simulate


def features(force: _Array, lags: int = 60) -> _Array:
    """Return past forces, means over windows, and the largest and smallest force of windows."""
    columns = [lagged(force, lags)]
    for window in (5, 10, 20, 40, 80):
        columns.append(lagged(force, window).mean(axis=1, keepdims=True))
    for window in (10, 25, 50, 100):
        past = lagged(force, window)
        columns += [past.max(axis=1, keepdims=True), past.min(axis=1, keepdims=True)]
    return np.hstack(columns)


def boosting(
    problem: Problem, seed: int, learning_rate: float = 0.1, leaves: int = 15, trees: int = 300
) -> _Simulation:
    """Gradient boosting on `features`, with as many trees as validation asks for; needs scikit-learn.

    Returns
    -------
    callable
        From a force to the displacement.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=trees, learning_rate=learning_rate, max_leaf_nodes=leaves, early_stopping=False,
        random_state=seed,
    ).fit(features(problem.training.force), problem.training.displacement)
    stages = model.staged_predict(features(problem.validation.force))
    best = int(np.argmax([problem.score(found, problem.validation) for found in stages]))

    def simulate(force: _Array) -> _Array:
        found: _Array = next(itertools.islice(model.staged_predict(features(force)), best, None))
        return found.copy()

    return simulate


def train(
    problem: Problem, seed: int, epochs: int = EPOCHS, callback: Progress | None = None,
    hidden: int = HIDDEN, lr: float = LEARNING_RATE, batch: int = BATCH
) -> Model:
    """Train one LSTM; the first `SPIN_UP` samples of each training sequence have no weight."""
    rng = np.random.default_rng([seed, 1])
    x = (problem.training.force / problem.scales[0]).astype(np.float32)
    y = (problem.training.displacement / problem.scales[1]).astype(np.float32)
    starts = np.arange(0, len(x) - WINDOW + 1, STRIDE)
    weight = np.ones((len(starts), WINDOW))
    weight[:, :SPIN_UP] = 0
    model = Model(LSTM(1, hidden, rng=rng), 1, every_step=True, rng=rng)
    model.fit(
        np.stack([x[start : start + WINDOW] for start in starts])[..., None],
        np.stack([y[start : start + WINDOW] for start in starts])[..., None],
        epochs=epochs, batch_size=batch, sample_weight=weight, optimizer=Adam(lr, max_norm=1.0),
        schedule=Cosine(epochs, 0.02), rng=rng, callback=callback,
    )
    return model


def simulation(problem: Problem, model: Model) -> _Simulation:
    """Return a function from a force to the displacement that the LSTM computes."""
    force_scale, scale = problem.scales

    def simulate(force: _Array) -> _Array:
        y = model.predict((force / force_scale)[None, :, None])[0, :, 0]
        return np.asarray(y.astype(float) * scale)

    return simulate


FILES = ["spring.png", "spring.safetensors"]


def solve(seed: int, epochs: int, progress: Progress) -> Writers:
    """Train all methods and print their errors; see `lstm_ext._demo`."""
    problem = Problem(seed)
    print(
        "A spring with hysteresis (Bouc-Wen), simulated: force in, displacement out.\n"
        f"{SAMPLES} samples to learn from, as many to validate and to test; the sensor has an error of "
        f"{100 * NOISE:.0f} %.\n",
        flush=True,
    )
    methods, seconds = {}, {}

    def timed(name: str, compute: Callable[[], _Simulation]) -> None:
        begun = time.process_time()
        methods[name] = compute()
        seconds[name] = time.process_time() - begun

    timed(NAMES[0], lambda: ridge(problem, cubes=False))
    timed(NAMES[1], lambda: ridge(problem, cubes=True))
    if importlib.util.find_spec("sklearn"):
        timed(NAMES[2], lambda: boosting(problem, seed))
    progress.begin(epochs)
    models = []

    def learn() -> _Simulation:
        models.append(train(problem, seed, epochs, progress))
        return simulation(problem, models[0])

    timed(NAMES[3], learn)
    progress.end()
    found = {name: method(problem.test.force) for name, method in methods.items()}
    rows, other = {}, {}
    for name, method in methods.items():
        error = (found[name] - problem.test.displacement)[BEGINNING:]
        other[name] = 100 - fit_percent(method(problem.other.force), problem.other.displacement)
        rows[name] = [
            f"{problem.score(method(problem.validation.force), problem.validation):.1f}",
            f"{problem.score(found[name], problem.test):.1f}",
            f"{np.sqrt(np.mean(error**2)):.4f}",
            f"{seconds[name]:.1f}",
        ]
    titles = ["", "fit %, validation", "fit %, test", "RMSE, test (mm)", "CPU s"]
    print("\n".join(table(titles, rows)))
    if NAMES[2] not in found:
        print("No gradient boosting: scikit-learn is not installed (pip install 'lstm-ext[sklearn]').")
    if NAMES[3] != max(found, key=lambda name: problem.score(found[name], problem.test)):
        print("Here the LSTM is not the best of them.")
    errors = ", ".join(f"{name} {error:.0f} %" for name, error in other.items())
    print("\nfit: 100 % is perfect, 0 % is the mean.")
    print(
        "Outside of the training data all are worse. Errors for a slow sine that grows to three times the\n"
        f"training force: {errors}."
    )
    return {
        "spring.png": lambda path: save_picture(draw(problem, found), path),
        "spring.safetensors": models[0].save,
    }


def draw(problem: Problem, found: dict[str, _Array], size: tuple[float, float] = (9, 3.4)) -> Figure:
    """Draw force against displacement for a part of the test record: hysteresis loops."""
    part = slice(1200, 1260)
    names = [name for name in (NAMES[0], NAMES[2], NAMES[3]) if name in found]
    figure = new_figure(size)
    axes = figure.subplots(1, len(names), sharex=True, sharey=True)
    for place, name in zip(axes, names, strict=True):
        place.plot(problem.test.force[part], problem.test.truth[part], color="0.75", lw=4, label="observed")
        place.plot(problem.test.force[part], found[name][part], color="#D55E00", lw=1.4, label=name)
        place.set(xlabel="force (N)", title=f"{name}: fit {problem.score(found[name], problem.test):.0f} %")
        place.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("displacement (mm)")
    axes[0].legend(frameon=False, loc="upper left")
    return figure
