"""An LSTM within a loop that numba compiles: 1000 particles, each with a memory of its own.

numba calls the function by its address: its signature says pointers as `voidptr`, and
`array.ctypes.data` is one.
"""

import ctypes

import numpy as np
from numba import njit
from numba.extending import get_cython_function_address

from lstm_ext import LSTM
from lstm_ext.cython_lstm import Network

pointer, size = ctypes.c_void_p, ctypes.c_ssize_t
step = ctypes.CFUNCTYPE(ctypes.c_int, pointer, size, *6 * [pointer])(
    get_cython_function_address("lstm_ext.cython_lstm", "lstm_step_s")
)


@njit
def walk(network, x, h, c, workspace, readout, dt, steps):
    """Move the particles x (N, 2) by the velocities that the LSTM reads from their paths, in place."""
    for _ in range(steps):
        status = step(
            network, len(x), x.ctypes.data, h.ctypes.data, c.ctypes.data, h.ctypes.data, c.ctypes.data,
            workspace.ctypes.data,
        )
        if status != 0:
            return status
        for n in range(len(x)):
            for j in range(2):
                for k in range(h.shape[1]):
                    x[n, j] += dt * readout[j, k] * h[n, k]
    return 0


def run(steps, **options):
    """Walk with an LSTM of these options, in numba and in Python. Options change nothing in `walk`."""
    rng = np.random.default_rng(0)
    lstm = LSTM(2, 16, rng=rng, **options)
    network = Network(lstm)
    N = 1000
    x = rng.standard_normal((N, 2)).astype("float32")
    readout = rng.standard_normal((2, lstm.output_size)).astype("float32")
    h, c = np.zeros((N, lstm.output_size), "float32"), np.zeros((N, 16), "float32")
    workspace = np.empty(network.step_workspace(N), np.uint8)
    expected = x.copy()

    status = walk(network.address, x, h, c, workspace, readout, np.float32(0.01), steps)

    stream = lstm.stream(N)
    for _ in range(steps):
        expected += np.float32(0.01) * stream.step(expected) @ readout.T
    print(f"status {status}, furthest from the loop in Python {abs(x - expected).max():.0e}")


if __name__ == "__main__":
    run(100)
    # Few steps: layer norm makes of a small input a large one, and so of its rounding.
    run(10, peepholes=True, proj_size=4, layer_norm=True)
