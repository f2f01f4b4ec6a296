"""Intervals of LSTMRegressor at its defaults, where the noise has a scale of its own in every sequence.

Inputs x (n, 20, 2) are N(0, 1). With the running mean m_t = 0.8 m_(t-1) + 0.2 x_t of each input, at the last
step: y = 2 m_0 + s e, s = 0.2 + 0.6 / (1 + exp(-4 m_1)), e from N(0, 1). The oracle knows m and s: its 90 %
interval is y = 2 m_0 -+ 1.645 s, 0.82 wide to either side on average. Coverage and half width are those of
5,000 other sequences (conformalized quantile regression: Y. Romano, E. Patterson, E. Candes, NeurIPS 2019).

Each seed draws sequences of its own, and is that of the network.

    python benchmarks/papers/intervals.py [--seeds 3] [--quick]
"""

import warnings

import numpy as np
from common import Stopwatch, arguments, machine, say, spread, table

SIZES, TEST = (200, 1000, 5000), 5000
COVERAGE, QUANTILES = 0.9, (0.05, 0.5, 0.95)


def draw(rng, n):
    """Return inputs (n, 20, 2), targets (n, 1), and the scale of the noise of each (n,)."""
    x = rng.normal(size=(n, 20, 2))
    mean = np.zeros((n, 2))
    for t in range(x.shape[1]):
        mean = 0.8 * mean + 0.2 * x[:, t]
    scale = 0.2 + 0.6 / (1 + np.exp(-4 * mean[:, 1]))
    return x, (2 * mean[:, 0] + scale * rng.normal(size=n))[:, None], scale


def main(argv=None):
    from lstm_ext.sklearn import LSTMRegressor

    options = arguments(__doc__, "100 sequences, 2 epochs", argv)
    warnings.filterwarnings("ignore", message="max_iter")
    sizes, words = ((100,), {"max_iter": 2}) if options.quick else (SIZES, {})
    rows = []
    for n in sizes:
        for loss in ("quantile", "gaussian"):
            own = words | ({"quantiles": QUANTILES} if loss == "quantile" else {})
            coverage, width, oracle, seconds = [], [], [], []
            for seed in options.seeds:
                x, y, scale = draw(np.random.default_rng(seed), n + TEST)
                watch = Stopwatch()
                regressor = LSTMRegressor(loss=loss, random_state=seed, **own).fit(x[:n], y[:n])
                seconds.append(watch.seconds)
                lower, upper = regressor.predict_interval(x[n:], coverage=COVERAGE)
                coverage.append(np.mean((lower <= y[n:]) & (y[n:] <= upper)))
                width.append(np.mean(upper - lower) / 2)
                oracle.append(1.645 * scale[n:].mean())
                say(f"{loss} {n} seed {seed}: {coverage[-1]:.3f}, half width {width[-1]:.3f}")
            rows.append([n, loss, len(options.seeds), spread(coverage, ".3f"),
                         spread(width, ".2f"), spread(oracle, ".2f"), spread(seconds, ".0f")])
    print(table(
        ["sequences", "loss", "seeds", "coverage", "half width", "oracle's", "CPU seconds a fit"], rows
    ))
    print(f"\n{machine()}")
    return rows


if __name__ == "__main__":
    main()
