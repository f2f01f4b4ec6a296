"""An LSTM within a Fortran loop.

First, in this directory: gfortran -O2 -shared -fPIC lstm_interfaces.f90 columns.f90 -o columns.so
"""

import ctypes
from pathlib import Path

import numpy as np

from lstm_ext import LSTM
from lstm_ext.cython_lstm import Network, address

library = ctypes.CDLL(str(Path(__file__).parent / "columns.so"))
pointer, size = ctypes.c_void_p, ctypes.c_size_t
library.run_columns.argtypes = [
    pointer, pointer, *5 * [size], ctypes.c_double, *5 * [pointer], ctypes.POINTER(ctypes.c_int),
]
library.run_columns.restype = None

columns, levels, hidden, steps, dt = 500, 20, 32, 100, 0.05
rng = np.random.default_rng(0)
for options in ({}, {"peepholes": True, "proj_size": 8, "layer_norm": True}):
    lstm = LSTM(levels, hidden, dtype="float64", rng=rng, **options)
    network, outputs = Network(lstm), lstm.output_size
    temperature = rng.standard_normal((columns, levels))  # in Fortran: (levels, columns)
    readout = 0.03 * rng.standard_normal((levels, outputs))
    h, c = np.zeros((columns, outputs)), np.zeros((columns, hidden))
    workspace = np.empty(network.step_workspace(columns), np.uint8)
    expected = temperature.copy()

    status = ctypes.c_int()
    library.run_columns(
        address("lstm_step_d"), network.address, columns, levels, outputs, hidden, steps, dt,
        temperature.ctypes.data, readout.ctypes.data, h.ctypes.data, c.ctypes.data, workspace.ctypes.data,
        ctypes.byref(status),
    )

    stream = lstm.stream(columns)
    for _ in range(steps):
        expected += dt * (stream.step(expected) @ readout.T - 0.1 * expected)
    difference = abs(temperature - expected).max()
    print(f"status {status.value}, furthest from the loop in Python {difference:.0e}")
