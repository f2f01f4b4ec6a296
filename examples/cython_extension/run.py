"""An LSTM as right-hand side within a compiled loop. First: `pip install .` in this directory."""

import numpy as np
import oscillator

from lstm_ext import LSTM
from lstm_ext.cython_lstm import Network

rng = np.random.default_rng(0)
lstm = LSTM(2, 16, dtype="float64", rng=rng)
w = 0.5 * rng.standard_normal(16)
path = oscillator.simulate(Network(lstm), w, 1.0, 0.0, 0.01, 2000)


# The same in Python, with a stream.
def slope(q_p, state):
    stream.reset(state)
    return np.array([q_p[1], w @ stream.step(q_p) - q_p[0]])


stream, at, expected = lstm.stream(), np.array([1.0, 0.0]), []
state = stream.state
for _ in range(2000):
    expected.append(at)
    k = [slope(at, state)]
    after = stream.state
    for factor in (0.5, 0.5, 1.0):
        k.append(slope(at + 0.01 * factor * k[-1], state))
    at, state = at + 0.01 / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3]), after

difference = abs(path[:-1] - expected).max()
print(f"q at the end: {path[-1, 0]:.6f}; furthest from the loop in Python: {difference:.0e}")
