"""An oscillator whose damping force nobody has written down: an LSTM gives it.

    dq/dt = p        dp/dt = -q + w . h(q, p)

The LSTM's state is the memory of the force. Within a step of Runge and Kutta all four stages look at it
and none may change it: a trial step writes the state that it reaches into other arrays. All of the loop
runs without the GIL and allocates nothing.
"""
import numpy as np

from libc.string cimport memcpy

from lstm_ext.cython_lstm cimport LSTM_OK, lstm_network, lstm_step_d, lstm_step_workspace


cdef int slope(const void *network, const double *q_p, const double *h, const double *c, double *new_h,
               double *new_c, const double *w, Py_ssize_t H, void *work, double *d) noexcept nogil:
    """d = the time derivative of (q, p), from the LSTM's state (h, c)."""
    cdef Py_ssize_t j
    cdef double force = 0
    cdef int status = lstm_step_d(network, 1, q_p, h, c, new_h, new_c, work)
    for j in range(H):
        force += w[j] * new_h[j]
    d[0], d[1] = q_p[1], force - q_p[0]
    return status


cdef double *data(array):
    """Where a contiguous float64 array begins."""
    return <double*><size_t>array.ctypes.data


def simulate(network, w, double q, double p, double dt, Py_ssize_t steps):
    """Return (steps + 1, 2): q and p, from `network` = Network(LSTM(2, H, dtype="float64"))."""
    cdef const void *net = lstm_network(network)
    cdef Py_ssize_t H = len(w), _, i, j
    w = np.ascontiguousarray(w, "float64")
    path = np.empty((steps + 1, 2))
    path[0] = q, p
    states = np.zeros((3, 2, H))
    workspace = np.empty(lstm_step_workspace(net, 1), "uint8")
    cdef const double *weights = data(w)
    cdef double *now = data(path)
    cdef double *state = data(states)  # h and c
    cdef double *first = state + 2 * H  # after the first stage: that is the state after the step
    cdef double *trial = first + 2 * H
    cdef void *work = data(workspace)
    cdef double k[4][2]
    cdef double at[2]
    cdef int status = LSTM_OK
    with nogil:
        for _ in range(steps):
            status = slope(net, now, state, state + H, first, first + H, weights, H, work, k[0])
            for i in range(1, 4):
                for j in range(2):
                    at[j] = now[j] + dt * (0.5 if i < 3 else 1.0) * k[i - 1][j]
                slope(net, at, state, state + H, trial, trial + H, weights, H, work, k[i])
            for j in range(2):
                now[2 + j] = now[j] + dt / 6 * (k[0][j] + 2 * k[1][j] + 2 * k[2][j] + k[3][j])
            now += 2
            memcpy(state, first, 2 * H * sizeof(double))
    if status != LSTM_OK:
        raise ValueError(f"lstm_step_d refused the network: status {status}")
    return path
