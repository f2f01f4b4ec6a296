"""Values that fade out: read and written as 0 below the normal numbers, and the caller's mode as it was."""

import ctypes
import platform
import sys
import threading

import numpy as np
import pytest

import lstm_ext
from lstm_ext import LSTM, LstmNode, LstmParam, LstmState, _kernels
from lstm_ext.cython_lstm import Network, address

pytestmark = pytest.mark.every_kernel

KINDS = {
    "default": {},
    "identity": {"cell_activation": "identity"},
    "checkpoint": {"checkpoint": 7},
    "stack": {"num_layers": 2, "bidirectional": True},
    "peepholes": {"peepholes": True},
    "projection": {"proj_size": 3},
}


@pytest.fixture(params=_kernels.available())
def _kernel(request):
    before = _kernels.current()
    _kernels.select(request.param)
    yield
    _kernels.select(before)


def subnormals(*arrays):
    """Count the numbers that are neither 0 nor normal."""
    return sum(int(((a != 0) & (np.abs(a) < np.finfo(a.dtype).smallest_normal)).sum()) for a in arrays)


def alive():
    """Whether this thread multiplies subnormal numbers."""
    tiny, small = np.array([5e-324, 1e-310]), np.array([1e-45, 1e-40], "float32")
    return bool((tiny * 1.0 != 0).all() and (small * np.float32(1) != 0).all() and 5e-324 * float("1.0") > 0)


def fading(dtype, options, start=1e-30):
    """Return an LSTM whose state is halved at each step, a batch of zeros, and a state to begin with."""
    lstm = LSTM(3, 20, dtype=dtype, rng=0, **options)
    for view in lstm.named_parameters().values():
        view[...] = 0
    tiny = np.finfo(dtype).smallest_normal
    layers = lstm.num_layers * (2 if lstm.bidirectional else 1)
    width = lstm.proj_size or 20
    state = [np.full((layers, 5, n), 2000 * tiny, dtype) for n in (width, 20)]
    return lstm, np.zeros((5, 40, 3), dtype), state


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_fades_out_is_zero(kind, dtype):
    lstm, x, state = fading(dtype, KINDS[kind])
    layers = lstm.num_layers * (2 if lstm.bidirectional else 1)
    for threads in (1, 2):
        lstm_ext.set_num_threads(threads)
        try:
            y, (h_n, c_n) = lstm(x, state)
            tape = lstm.tape()
            lstm.forward(x, state, tape=tape)
            tiny = np.finfo(dtype).smallest_normal
            dh, dc = (np.full(a.shape, 900 * tiny, dtype) for a in (h_n, c_n))
            dx, (dh_0, dc_0) = lstm.backward(tape, None, (dh, dc))
            (y_2, _), (y_dot, (h_dot, c_dot)) = lstm.jvp(x, dstate=state)
        finally:
            lstm_ext.set_num_threads(None)
        assert (c_n == 0).all()
        assert subnormals(y, h_n, c_n, dx, dh_0, dc_0, lstm.gradient, y_2, y_dot, h_dot, c_dot) == 0
        assert alive()
    if layers == 1:
        stream = lstm.stream(5)
        stream.state = state
        for t in range(40):
            stream.step(x[:, t])
            assert subnormals(*stream.state) == 0
        assert (stream.state[1] == 0).all()
        assert alive()


def test_the_node_is_silent():
    param = LstmParam(6, 3, rng=0)
    for name in ("wg", "wi", "wf", "wo", "bg", "bi", "bf", "bo"):
        getattr(param, name)[...] = 0
    node = LstmNode(param, LstmState(6, 3))
    tiny = np.finfo(float).smallest_normal
    s = np.full(6, 1.5 * tiny)
    node.bottom_data_is(np.zeros(3), s)
    assert subnormals(node.state.s, node.state.h) == 0
    node.top_diff_is(np.full(6, 1.5 * tiny), np.full(6, 1.5 * tiny))
    assert subnormals(node.state.bottom_diff_s, node.state.bottom_diff_h, param.wf_diff) == 0
    assert alive()


def test_the_c_level_is_silent():
    lstm, x, state = fading("float64", {})
    network = Network(lstm)
    y, h, c = np.zeros((5, 40, 20)), np.zeros((1, 5, 20)), np.zeros((1, 5, 20))
    work = np.zeros(network.forward_workspace(5, 40), np.uint8)
    pointer = ctypes.c_void_p
    forward = ctypes.CFUNCTYPE(
        ctypes.c_int, pointer, ctypes.c_ssize_t, ctypes.c_ssize_t, *[pointer] * 9
    )(address("lstm_forward_d"))
    status = forward(
        network.address, 5, 40, x.ctypes.data, None, state[0].ctypes.data, state[1].ctypes.data,
        y.ctypes.data, h.ctypes.data, c.ctypes.data, None, work.ctypes.data,
    )
    assert status == 0
    assert subnormals(y, h, c) == 0
    assert (c == 0).all()
    assert alive()


def test_the_mode_is_as_it_was_after_an_error():
    lstm = LSTM(3, 4, rng=0)
    for wrong in (
        lambda: lstm(np.zeros((1, 2, 4))),
        lambda: lstm(np.zeros((1, 2, 3)), lengths=[9]),
        lambda: lstm.stream().step(np.zeros(4)),
        lambda: lstm.backward(lstm.tape()),
    ):
        with pytest.raises(ValueError):
            wrong()
        assert alive()


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="reads glibc's fenv_t of x86-64"
)
def test_a_callers_own_mode_is_kept():
    """Whoever has flush-to-zero on, or off, has it on, or off, afterwards; in this thread and in others."""
    libm = ctypes.CDLL("libm.so.6")
    lstm, x, state = fading("float32", {})
    seen = []

    def work(flush):
        environment = (ctypes.c_uint32 * 8)()
        libm.fegetenv(environment)
        before = environment[7]
        environment[7] = before | 0x8040 if flush else before & ~0x8040
        libm.fesetenv(environment)
        try:
            lstm(x, state)
            lstm.stream(5).step(x[:, 0])
            now = (ctypes.c_uint32 * 8)()
            libm.fegetenv(now)
            seen.append((flush, now[7] & 0x8040, now[7] & ~0x3F == environment[7] & ~0x3F))
        finally:
            environment[7] = before
            libm.fesetenv(environment)

    for flush in (True, False):
        work(flush)
        thread = threading.Thread(target=work, args=(flush,))
        thread.start()
        thread.join()
    assert seen == [(True, 0x8040, True)] * 2 + [(False, 0, True)] * 2
    assert alive()


def test_a_kept_subnormal_state_is_copied():
    """A sequence of no step ends as it began, whatever it holds; so does a unit that zoneout keeps."""
    for options in ({}, {"peepholes": True}):
        lstm = LSTM(3, 4, rng=0, **options)
        state = [np.full((1, 2, 4), 1e-40, "float32")] * 2
        _, (h_n, c_n) = lstm(np.zeros((2, 5, 3)), state, lengths=[0, 0])
        assert (h_n == state[0]).all()
        assert (c_n == state[1]).all()
