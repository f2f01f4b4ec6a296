# cython: language_level=3
"""One step after the other, each by itself under the clock: what step_latency.py times from Cython."""
from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from lstm_ext.cython_lstm cimport lstm_network, lstm_step_s


cdef inline int64_t now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec * <int64_t>1000000000 + t.tv_nsec


def loop(network, x, h, c, workspace, spent):
    """spent (steps,): nanoseconds of each step."""
    cdef const void *net = lstm_network(network)
    cdef const float *input = <const float*><size_t>x.ctypes.data
    cdef float *hidden = <float*><size_t>h.ctypes.data
    cdef float *cell = <float*><size_t>c.ctypes.data
    cdef void *work = <void*><size_t>workspace.ctypes.data
    cdef int64_t *times = <int64_t*><size_t>spent.ctypes.data
    cdef int64_t n, start, count = len(spent)
    with nogil:
        for n in range(count):
            start = now()
            lstm_step_s(net, 1, input, hidden, cell, hidden, cell, work)
            times[n] = now() - start
