"""An LSTM as a callback of SciPy, in C. First: `pip install .` in this directory."""

import lstm_filter
import numpy as np
from scipy import LowLevelCallable
from scipy.integrate import quad
from scipy.ndimage import generic_filter1d

from lstm_ext import LSTM
from lstm_ext.cython_lstm import Network

rng = np.random.default_rng(0)

# A filter along the rows of an image: windows of 5 pixels in, one pixel out. Options change nothing in C.
image = rng.standard_normal((200, 300))
padded = np.pad(image, ((0, 0), (2, 2)))
windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=1)
for options in ({}, {"peepholes": True, "proj_size": 4, "layer_norm": True}):
    lstm = LSTM(5, 16, dtype="float64", rng=rng, **options)
    readout = rng.standard_normal(lstm.output_size)
    callback = LowLevelCallable(lstm_filter.filter, lstm_filter.make_model(Network(lstm), readout, 16))
    filtered = generic_filter1d(image, callback, filter_size=5, axis=1, mode="constant")
    expected = lstm(windows)[0] @ readout
    print(f"filter: furthest from the LSTM on all windows {abs(filtered - expected).max():.0e}")

# An integrand: what comes out after one step from x.
lstm, readout = LSTM(1, 16, dtype="float64", rng=rng), rng.standard_normal(16)
callback = LowLevelCallable(lstm_filter.integrand, lstm_filter.make_model(Network(lstm), readout, 16))
integral, error = quad(callback, -1, 1)
nodes, weights = np.polynomial.legendre.leggauss(50)
expected = weights @ (lstm(nodes[:, None, None])[0][:, 0] @ readout)
print(f"integral: {integral:.12f}, by Gauss and Legendre {expected:.12f}")
