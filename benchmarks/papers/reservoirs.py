"""Three systems with a memory, simulated: LSTMRegressor at its defaults beside gradient boosting.

Every step has a target, which depends on inputs of long before through a state that nobody sees:

- snow: temperature and precipitation of 400 days; snow that falls below 0 degrees melts by degree days, and
  feeds a linear reservoir (the degree-day model: R. Hock, J. Hydrology 282:104, 2003). Target: discharge.
- battery: current and ambient temperature; charge between empty and full, a slow polarisation and a cell
  that warms by its losses (a Thevenin model, M. Chen, G. A. Rincon-Mora, IEEE Trans. Energy Conversion
  21:504, 2006). Target: voltage.
- spikes: trains of spikes at two inputs; a leaky sum with synaptic depression that resets at a threshold
  (M. Tsodyks, H. Markram, PNAS 94:719, 1997). Target: the membrane's potential.

Gradient boosting (scikit-learn's ``HistGradientBoostingRegressor``) has the inputs of the step, and their
means over the last 3, 7, 14, 30, 60 and 120 steps. Both learn from 32 series and are judged by R2 on 16
others.

    python benchmarks/papers/reservoirs.py [--seeds 3] [--quick]
"""

import warnings

import numpy as np
from common import Stopwatch, arguments, machine, say, spread, table

LEARN, TEST = 32, 16
WINDOWS = (3, 7, 14, 30, 60, 120)


def snow(rng, n, steps):
    """Return inputs (n, T, 2) and discharge (n, T)."""
    day = np.arange(steps) + rng.integers(0, 365, (n, 1))
    weather = np.zeros((n, steps))
    for t in range(1, steps):
        weather[:, t] = 0.8 * weather[:, t - 1] + rng.normal(size=n)
    temperature = 2 - 10 * np.cos(2 * np.pi * day / 365) + 2.5 * weather
    rain = np.where(rng.random((n, steps)) < 0.3, rng.gamma(0.8, 8.0, (n, steps)), 0.0)
    pack, store, discharge = np.zeros(n), np.full(n, 20.0), np.zeros((n, steps))
    for t in range(steps):
        frozen = temperature[:, t] < 0
        melt = np.minimum(pack, 3 * np.maximum(temperature[:, t], 0))
        pack += np.where(frozen, rain[:, t], 0) - melt
        store += np.where(frozen, 0, rain[:, t]) + melt
        discharge[:, t] = 0.05 * store + 0.2 * np.maximum(store - 60, 0)
        store -= discharge[:, t]
    return np.stack([temperature, rain], axis=2), discharge


def battery(rng, n, steps):
    """Return inputs (n, T, 2) and voltage (n, T)."""
    current = np.repeat(rng.normal(0, 1.2, (n, -(-steps // 10))), 10, axis=1)[:, :steps]
    ambient = 15 + 10 * np.sin(2 * np.pi * (np.arange(steps) / 200 + rng.random((n, 1))))
    charge, slow, warm = np.full(n, 0.5), np.zeros(n), np.zeros(n)
    voltage = np.zeros((n, steps))
    for t in range(steps):
        amps = current[:, t]
        charge = np.clip(charge + 0.02 * amps, 0, 1)
        amps = np.where((charge == 0) | (charge == 1), 0, amps)
        slow += 0.05 * (0.15 * amps - slow)
        warm += 0.02 * (8 * amps**2 - warm)
        resistance = 0.1 * np.exp(-0.03 * (ambient[:, t] + warm - 20))
        voltage[:, t] = 3.2 + 0.8 * charge + 0.1 * np.tanh(20 * (charge - 0.1)) + slow + resistance * amps
    return np.stack([current, ambient], axis=2), voltage


def spikes(rng, n, steps):
    """Return inputs (n, T, 2) and the potential (n, T)."""
    rate = np.repeat(rng.uniform(0.02, 0.3, (n, -(-steps // 50), 2)), 50, axis=1)[:, :steps]
    train = (rng.random((n, steps, 2)) < rate).astype(float)
    resource, potential, trace = np.ones(n), np.zeros(n), np.zeros((n, steps))
    for t in range(steps):
        released = 0.4 * resource * train[:, t, 0]
        resource += 0.02 * (1 - resource) - released
        potential = 0.95 * potential + released - 0.15 * train[:, t, 1]
        trace[:, t] = potential
        potential = np.where(potential > 1, 0, potential)
    return train, trace


TASKS = {"snow": snow, "battery": battery, "spikes": spikes}


def rolling(x):
    """Return inputs of each step and their means over the steps before, (N T, features)."""
    total = np.concatenate([np.zeros_like(x[:, :1]), np.cumsum(x, axis=1)], axis=1)
    step, parts = np.arange(x.shape[1]), [x]
    for window in WINDOWS:
        first = np.maximum(step + 1 - window, 0)
        parts.append((total[:, step + 1] - total[:, first]) / (step + 1 - first)[:, None])
    features = np.concatenate(parts, axis=2)
    return features.reshape(-1, features.shape[2])


def main(argv=None):
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.metrics import r2_score

    from lstm_ext.sklearn import LSTMRegressor

    options = arguments(__doc__, "50 steps, 2 epochs", argv)
    warnings.filterwarnings("ignore", message="max_iter")
    steps, words = (50, {"max_iter": 2}) if options.quick else (400, {})
    rows = []
    for name, simulate in TASKS.items():
        mine, theirs, seconds = [], [], []
        for seed in options.seeds:
            x, y = simulate(np.random.default_rng(seed), LEARN + TEST, steps)
            boosting = HistGradientBoostingRegressor(random_state=seed)
            boosting.fit(rolling(x[:LEARN]), y[:LEARN].ravel())
            theirs.append(r2_score(y[LEARN:].ravel(), boosting.predict(rolling(x[LEARN:]))))
            watch = Stopwatch()
            network = LSTMRegressor(every_step=True, random_state=seed, **words).fit(x[:LEARN], y[:LEARN])
            seconds.append(watch.seconds)
            mine.append(network.score(x[LEARN:], y[LEARN:]))
            say(f"{name}, seed {seed}: {mine[-1]:.3f}, boosting {theirs[-1]:.3f}, {network.n_iter_} epochs")
        rows.append([
            name, len(mine), spread(mine, ".3f"), spread(theirs, ".3f"), spread(seconds, ".0f"),
        ])
    print(table(["task", "seeds", "R2: LSTMRegressor", "R2: gradient boosting", "CPU seconds a fit"], rows))
    print(f"\n{machine()}")
    return rows


if __name__ == "__main__":
    main()
