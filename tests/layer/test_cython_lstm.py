"""The C-level functions: the bits of LSTM and Stream, on memory that is asked for and no more."""

import copy
import ctypes
import gc
import pickle
import platform
import re
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from c_level import Guarded, function, suffix
from harness import Case, run_layer
from zoo import refuses

from lstm_ext import LSTM, cython_lstm
from lstm_ext.cython_lstm import Network

SIGNATURES = Path(__file__).parents[1] / "data" / "cython_lstm_signatures.txt"
OK, WRONG_NETWORK, NO_STEP, WRONG_SIZE, WRONG_LENGTHS = range(5)

CASES = [
    Case(input_size=3, hidden_size=17, batch=1, time=30, dtype="float32"),
    Case(input_size=3, hidden_size=5, batch=4, time=6, lengths=(6, 0, 3, 6)),
    Case(input_size=5, hidden_size=20, num_layers=3, batch=37, time=9, dtype="float32",
         lengths=tuple(int(n) for n in np.random.default_rng(0).integers(0, 10, 37))),
    Case(input_size=2, hidden_size=8, num_layers=3, bidirectional=True, batch=70, time=5,
         cell_activation="identity",
         lengths=tuple(int(n) for n in np.random.default_rng(1).integers(0, 6, 70))),
    Case(input_size=4, hidden_size=33, num_layers=2, bidirectional=True, batch=20, time=7, dtype="float32"),
]


def lengths_of(case):
    return None if case.lengths is None else np.array(case.lengths, np.intp)


def forward(network, case, a, *, tape=None, state=True, lengths=None):
    """y, h_n, c_n of lstm_forward, in guarded memory."""
    N, T = a["x"].shape[:2]
    H, LD = case.hidden_size, case.num_layers * case.directions
    y = np.full((N, T, case.directions * H), np.nan, case.dtype)
    h_n, c_n = (np.full((LD, N, H), np.nan, case.dtype) for _ in range(2))
    work = Guarded(network.forward_workspace(N, T))
    status = function(f"forward_{suffix(case.dtype)}")(
        network.address, N, T, a["x"], lengths, a["h_0"] if state else None, a["c_0"] if state else None,
        y, h_n, c_n, tape, work.at)
    assert status == OK
    work.check()
    return y, h_n, c_n


def run_c_level(case, lstm, a):
    """As `run_layer`, through the C-level functions."""
    network, lengths = Network(lstm), lengths_of(case)
    N, T = case.batch, case.time
    tape = Guarded(network.tape_size(N, T))
    y, h_n, c_n = forward(network, case, a, tape=tape.at, lengths=lengths)
    dx = np.full_like(a["x"], np.nan)
    dh_0, dc_0 = np.full_like(a["h_0"], np.nan), np.full_like(a["c_0"], np.nan)
    gradient = np.zeros_like(lstm.parameters)
    work = Guarded(network.backward_workspace(N, T))
    status = function(f"backward_{suffix(case.dtype)}")(
        network.address, N, T, a["x"], lengths, tape.at, a["dy"], a["dh_n"], a["dc_n"], dx, dh_0, dc_0,
        gradient, work.at)
    assert status == OK
    work.check()
    tape.check()
    run = {"y": y, "h_n": h_n, "c_n": c_n, "dx": dx, "dh_0": dh_0, "dc_0": dc_0}
    return run | {name: g.copy() for name, g in lstm._views(gradient).items()}


@pytest.mark.parametrize("checkpoint", [None, 2])
@pytest.mark.parametrize(
    "case, reverse", [(c, False) for c in CASES] + [(c, True) for c in CASES if not c.bidirectional]
)
def test_forward_and_backward_are_those_of_the_lstm(case, reverse, checkpoint):
    parameters, a = case.draw()
    lstm = case.layer(parameters, reverse=reverse, checkpoint=checkpoint)
    expected = run_layer(lstm, a, lengths=case.lengths)
    run = run_c_level(case, lstm, a)
    assert run.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(run[name], value, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inference_is_that_of_the_lstm(case):
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    for state in (True, False):
        y, (h_n, c_n) = lstm(a["x"], (a["h_0"], a["c_0"]) if state else None, lengths=case.lengths)
        run = forward(Network(lstm), case, a, state=state, lengths=lengths_of(case))
        for actual, expected in zip(run, (y, h_n, c_n), strict=True):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("given", ["all", "x", "parameters", "state"])
def test_jvp_is_that_of_the_lstm(case, given):
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    _, b = case.draw(seed=1)
    rng = np.random.default_rng(2)
    x_dot = b["x"] if given in ("all", "x") else None
    h_dot, c_dot = (b["h_0"], b["c_0"]) if given in ("all", "state") else (None, None)
    p_dot = rng.standard_normal(lstm.parameters.size).astype(case.dtype)
    p_dot = p_dot if given in ("all", "parameters") else None
    (y, (h, c)), (y_t, (h_t, c_t)) = lstm.jvp(
        a["x"], x_dot, (a["h_0"], a["c_0"]), None if h_dot is None else (h_dot, c_dot), p_dot,
        lengths=case.lengths)
    network = Network(lstm)
    N, T = case.batch, case.time
    out = [np.full_like(v, np.nan) for v in (y, h, c, y_t, h_t, c_t)]
    work = Guarded(network.jvp_workspace(N, T))
    status = function(f"jvp_{suffix(case.dtype)}")(
        network.address, N, T, a["x"], lengths_of(case), a["h_0"], a["c_0"], x_dot, h_dot, c_dot, p_dot,
        *out, work.at)
    assert status == OK
    work.check()
    for actual, expected in zip(out, (y, h, c, y_t, h_t, c_t), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_gradients_are_central_differences():
    """Of L = <dy, y> + <dh_n, h_n> + <dc_n, c_n>, by lstm_forward_d alone."""
    case = Case(input_size=2, hidden_size=3, num_layers=2, batch=3, time=4, lengths=(4, 1, 2))
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    counted = np.arange(case.time) < lengths_of(case)[:, None]

    def loss():
        y, h_n, c_n = forward(Network(lstm), case, a, lengths=lengths_of(case))
        return (y * a["dy"] * counted[..., None]).sum() + (h_n * a["dh_n"]).sum() + (c_n * a["dc_n"]).sum()

    run = run_c_level(case, lstm, a)
    rng = np.random.default_rng(3)
    for name, array in {"dx": a["x"], "dh_0": a["h_0"], "dc_0": a["c_0"], **lstm.named_parameters()}.items():
        flat = array.reshape(-1)
        for k in rng.integers(0, flat.size, 6):
            value, e = flat[k], 1e-5
            flat[k] = value + e
            up = loss()
            flat[k] = value - e
            down = loss()
            flat[k] = value
            difference = (up - down) / (2 * e)
            assert abs(difference - run[name].reshape(-1)[k]) < 1e-7 * max(1, abs(difference)), name


def test_what_is_not_wanted_is_left_out():
    """NULL for dy, dh_n, dc_n is zeros; dx and gradient may be NULL; gradient is added to."""
    case = CASES[2]
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    network, lengths = Network(lstm), lengths_of(case)
    N, T = case.batch, case.time
    tape = np.empty(network.tape_size(N, T), np.uint8)
    work = np.empty(network.backward_workspace(N, T), np.uint8)
    forward(network, case, a, tape=tape, lengths=lengths)
    call = function("backward_s")
    zeros = np.zeros_like
    dh_0, dc_0 = np.empty_like(a["h_0"]), np.empty_like(a["c_0"])
    for left in ("dy", "dh_n", "dc_n"):
        d = {k: zeros(a[k]) if k == left else a[k] for k in ("dy", "dh_n", "dc_n")}
        expected = run_layer(lstm, a | d, lengths=case.lengths)
        given = [None if k == left else a[k] for k in ("dy", "dh_n", "dc_n")]
        gradient = np.ones_like(lstm.parameters)
        first = network.address, N, T, a["x"], lengths, tape, *given
        assert call(*first, None, dh_0, dc_0, gradient, work) == OK
        np.testing.assert_array_equal(dh_0, expected["dh_0"])
        np.testing.assert_array_equal(dc_0, expected["dc_0"])
        lstm.gradient[:] = 1
        own = lstm.tape()
        lstm.forward(a["x"], (a["h_0"], a["c_0"]), lengths=case.lengths, tape=own)
        lstm.backward(own, d["dy"], (d["dh_n"], d["dc_n"]))
        np.testing.assert_array_equal(gradient, lstm.gradient)
        dx = np.empty_like(a["x"])
        assert call(*first, dx, dh_0, dc_0, None, work) == OK
        np.testing.assert_array_equal(dx, expected["dx"])


def test_states_may_be_replaced_where_they_are():
    case = CASES[2]
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    expected = run_layer(lstm, a, lengths=case.lengths)
    network, lengths = Network(lstm), lengths_of(case)
    N, T = case.batch, case.time
    tape = np.empty(network.tape_size(N, T), np.uint8)
    work = np.empty(max(network.forward_workspace(N, T), network.backward_workspace(N, T)), np.uint8)
    y, dx, gradient = np.empty_like(expected["y"]), np.empty_like(a["x"]), np.zeros_like(lstm.parameters)
    h, c, dh, dc = (a[k].copy() for k in ("h_0", "c_0", "dh_n", "dc_n"))
    assert function("forward_s")(network.address, N, T, a["x"], lengths, h, c, y, h, c, tape, work) == OK
    assert function("backward_s")(
        network.address, N, T, a["x"], lengths, tape, a["dy"], dh, dc, dx, dh, dc, gradient, work) == OK
    for name, value in (("h_n", h), ("c_n", c), ("y", y), ("dh_0", dh), ("dc_0", dc), ("dx", dx)):
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


# Options have no code of their own here: what LSTM does with them is what these functions do.
OPTIONS = [
    {"peepholes": True}, {"proj_size": 3}, {"proj_size": 9}, {"layer_norm": True}, {"coupled_gates": True},
    {"bias": False}, {"cell_clip": 0.3, "gate_clip": 0.5}, {"zoneout": (0.2, 0.1)},
    {"activations": ("hard_sigmoid", "softsign", "relu")},
    {"peepholes": True, "proj_size": 4, "layer_norm": True, "dropout": 0.2, "recurrent_dropout": 0.3,
     "weight_dropout": 0.1},
]
NETWORKS = [
    ({"num_layers": 2, "bidirectional": True, "dtype": "float32"}, 37, 5),
    ({"num_layers": 3, "checkpoint": 2, "dtype": "float64"}, 5, 7),
    ({"num_layers": 2, "reverse": True, "batch_first": False, "dtype": "float64"}, 3, 4),
    ({"num_layers": 2, "dtype": "float32"}, 1, 6),
]


@pytest.mark.parametrize("layers, N, T", NETWORKS, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_have_the_bits_of_the_lstm(options, layers, N, T):
    """Inference, training, tangents and steps of every option, in guarded memory."""
    lstm = LSTM(3, 7, rng=0, **layers, **options)
    rng, network, s, dtype = np.random.default_rng(1), Network(lstm), suffix(lstm.dtype), lstm.dtype
    lstm.gradient = 0
    D, P, size = 1 + lstm.bidirectional, lstm.proj_size or 7, lstm.parameters.size

    def drawn(*shape):
        return rng.standard_normal(shape).astype(dtype)

    def call(name, nbytes, *arguments):
        work = Guarded(nbytes)
        assert function(f"{name}_{s}")(network.address, *arguments, work.at) == OK
        work.check()

    def same(found, expected):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)

    shape = (N, T) if lstm.batch_first else (T, N)
    x, x_dot, dy = drawn(*shape, 3), drawn(*shape, 3), drawn(*shape, D * P)
    (h, c, dh, dc, h_dot, c_dot), p_dot = (drawn(lstm.num_layers * D, N, n) for n in 3 * (P, 7)), drawn(size)
    lengths = rng.integers(0, T + 1, N).astype(np.intp)
    results = [np.full_like(a, np.nan) for a in (dy, h, c)]
    call("forward", network.forward_workspace(N, T), N, T, x, None, None, None, *results, None)
    y, state = lstm(x)
    same(results, (y, *state))
    tape, guarded = lstm.tape(), Guarded(network.tape_size(N, T))
    call("forward", network.forward_workspace(N, T), N, T, x, lengths, h, c, *results, guarded.at)
    y, state = lstm.forward(x, (h, c), lengths=lengths, tape=tape)
    same(results, (y, *state))
    dx, (dh_0, dc_0) = lstm.backward(tape, dy, (dh, dc))
    results, gradient = [np.full_like(a, np.nan) for a in (x, h, c)], np.zeros_like(lstm.parameters)
    call("backward", network.backward_workspace(N, T), N, T, x, lengths, guarded.at, dy, dh, dc, *results,
         gradient)
    guarded.check()
    same((*results, gradient), (dx, dh_0, dc_0, lstm.gradient))
    (y, state), (y_dot, state_dot) = lstm.jvp(x, x_dot, (h, c), (h_dot, c_dot), p_dot, lengths=lengths)
    results = [np.full_like(a, np.nan) for a in 2 * (dy, h, c)]
    call("jvp", network.jvp_workspace(N, T), N, T, x, lengths, h, c, x_dot, h_dot, c_dot, p_dot, *results)
    same(results, (y, *state, y_dot, *state_dot))
    if D == 2 or lstm.reverse:
        return
    stream = lstm.stream(N)
    stream.reset((h, c))
    for _ in range(3):
        x_t, new = drawn(N, 3), [np.full_like(h, np.nan), np.full_like(c, np.nan)]
        expected = stream.step(x_t)
        call("step", network.step_workspace(N), N, x_t, h, c, *new)
        call("step", network.step_workspace(N), N, x_t, h, c, h, c)
        same((*new, h, c), 2 * stream.state)
        same(h[-1], expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("num_layers, batch, hidden_size", [(1, 1, 64), (2, 1, 40), (3, 7, 17), (1, 33, 5)])
def test_steps_are_those_of_the_stream(num_layers, batch, hidden_size, dtype):
    case = Case(hidden_size=hidden_size, num_layers=num_layers, batch=batch, time=6, dtype=dtype)
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    network, stream = Network(lstm), lstm.stream(batch)
    stream.reset((a["h_0"], a["c_0"]))
    step, work = function(f"step_{suffix(dtype)}"), Guarded(network.step_workspace(batch))
    h, c = a["h_0"].copy(), a["c_0"].copy()
    new_h, new_c = np.empty_like(h), np.empty_like(c)
    for t in range(case.time):
        x_t = np.ascontiguousarray(a["x"][:, t])
        before = h.copy(), c.copy()
        expected = stream.step(x_t)
        # Into other arrays: the state before stays, as a trial step needs it.
        assert step(network.address, batch, x_t, h, c, new_h, new_c, work.at) == OK
        np.testing.assert_array_equal((h, c), before)
        np.testing.assert_array_equal((new_h, new_c), stream.state)
        # In place.
        assert step(network.address, batch, x_t, h, c, h, c, work.at) == OK
        np.testing.assert_array_equal((h, c), stream.state)
        np.testing.assert_array_equal(h[-1], expected)
        work.check()


def test_time_major():
    case = Case(num_layers=2, batch=3, time=5)
    parameters, a = case.draw()
    lstm = case.layer(parameters, batch_first=False)
    x = np.ascontiguousarray(a["x"].swapaxes(0, 1))
    y, h_n, c_n = np.empty((5, 3, 5)), np.empty((2, 3, 5)), np.empty((2, 3, 5))
    network = Network(lstm)
    work = np.empty(network.forward_workspace(3, 5), np.uint8)
    assert function("forward_d")(
        network.address, 3, 5, x, None, a["h_0"], a["c_0"], y, h_n, c_n, None, work) == OK
    np.testing.assert_array_equal(y, lstm(x, (a["h_0"], a["c_0"]))[0])


@pytest.mark.parametrize("options", [{}, {"peepholes": True}], ids=str)
def test_checkpoints_save_memory(options):
    """Tape and workspace grow as T / checkpoint + checkpoint, those without checkpoints as T."""
    N, T = 8, 900
    plain, saving = (Network(LSTM(3, 32, checkpoint=k, rng=0, **options)) for k in (None, 30))
    whole, states = plain.tape_size(N, T), saving.tape_size(N, T)
    assert states < whole / 50
    more = saving.backward_workspace(N, T) - plain.backward_workspace(N, T)
    assert whole / 60 < more < whole / 15  # the rows of 30 steps


@pytest.mark.parametrize("offset", [1, 4, 37])
def test_memory_of_any_alignment(offset):
    case = CASES[4]
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    network = Network(lstm)
    N, T = case.batch, case.time
    sizes = network.tape_size(N, T), network.backward_workspace(N, T), network.forward_workspace(N, T)
    tape, back, work = (np.zeros(n + 64, np.uint8)[offset : offset + n] for n in sizes)
    expected = run_layer(lstm, a)
    y, h_n, c_n = (np.empty_like(expected[k]) for k in ("y", "h_n", "c_n"))
    assert function("forward_s")(
        network.address, N, T, a["x"], None, a["h_0"], a["c_0"], y, h_n, c_n, tape, work) == OK
    gradient = np.zeros_like(lstm.parameters)
    assert function("backward_s")(
        network.address, N, T, a["x"], None, tape, a["dy"], a["dh_n"], a["dc_n"], None, h_n, c_n, gradient,
        back) == OK
    np.testing.assert_array_equal(y, expected["y"])
    np.testing.assert_array_equal(gradient, lstm.gradient)


@pytest.mark.parametrize("batch, time", [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_do(batch, time):
    case = Case(num_layers=2, batch=batch, time=time)
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    expected = run_layer(lstm, a)
    run = run_c_level(case, lstm, a)
    for name, value in expected.items():
        np.testing.assert_array_equal(run[name], value, err_msg=name)


def test_later_parameters_do_not_reach_a_network():
    case = CASES[1]
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    network = Network(lstm)
    before = forward(network, case, a)
    lstm.parameters *= -0.5
    after = forward(network, case, a)
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x, y)
    del lstm
    np.testing.assert_array_equal(forward(network, case, a)[0], before[0])


def test_many_threads_share_a_network():
    """Each with a workspace and arrays of its own."""
    case = Case(input_size=3, hidden_size=17, num_layers=2, batch=5, time=20, dtype="float32")
    parameters, a = case.draw()
    lstm = case.layer(parameters)
    network = Network(lstm)
    expected = forward(network, case, a)
    wrong = []

    def work():
        for _ in range(20):
            for x, y in zip(forward(network, case, a), expected, strict=True):
                if not np.array_equal(x, y):
                    wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# ---- memory ------------------------------------------------------------------------------------------


class Mallinfo(ctypes.Structure):
    """What mallinfo2 of glibc 2.33 and newer returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
                     "fordblks", "keepcost")
    )


def counters():
    """Page faults, blocks of Python's allocator, and bytes in use of malloc's where it says so."""
    counts = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt, sys.getallocatedblocks()]
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is not None:
        mallinfo2.restype = Mallinfo
        used = mallinfo2()
        counts += [used.uordblks, used.hblkhd]
    return np.array(counts)


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
@pytest.mark.parametrize("options", [{}, {"peepholes": True, "proj_size": 8, "layer_norm": True}], ids=str)
@pytest.mark.parametrize("what", ["step", "Stream.step", "forward and backward", "jvp"])
def test_nothing_is_allocated_and_no_page_is_new(what, options):
    """After warm-up: 100,000 steps, or as many steps in calls of 100."""
    lstm = LSTM(1, 40, rng=0, **options)
    network, stream = Network(lstm), lstm.stream()
    N, T = 1, 100
    x, y, dx = (np.full((T, n), 0.5, "float32") for n in (1, 40, 1))
    states = np.zeros((6, 40), "float32")
    gradient = np.zeros_like(lstm.parameters)
    sizes = (network.step_workspace(), network.forward_workspace(N, T), network.backward_workspace(N, T),
             network.jvp_workspace(N, T))
    work, tape = np.zeros(max(sizes), np.uint8), np.zeros(network.tape_size(N, T), np.uint8)
    pointer = ctypes.c_void_p
    xp, yp, dxp, gp, wp, tp = (pointer(v.ctypes.data) for v in (x, y, dx, gradient, work, tape))
    h, c, h_n, c_n, dh, dc = (pointer(v.ctypes.data) for v in states)
    handle, out = pointer(network.address), np.empty(lstm.output_size, "float32")
    size = ctypes.c_ssize_t
    n, t = size(N), size(T)

    def function(name, *types):
        return ctypes.CFUNCTYPE(ctypes.c_int, *types)(cython_lstm.address(name))

    step = function("lstm_step_s", pointer, size, *6 * [pointer])
    forward_s = function("lstm_forward_s", pointer, size, size, *9 * [pointer])
    backward_s = function("lstm_backward_s", pointer, size, size, *11 * [pointer])
    jvp_s = function("lstm_jvp_s", pointer, size, size, *15 * [pointer])

    def loop(count):
        if what == "step":
            for _ in range(count):
                step(handle, n, xp, h, c, h, c, wp)
        elif what == "Stream.step":
            x_t, advance = x[0], stream.step
            for _ in range(count):
                advance(x_t, out)
        elif what == "jvp":
            for _ in range(count // 100):
                jvp_s(handle, n, t, xp, None, h, c, xp, h, c, gp, yp, h_n, c_n, yp, dh, dc, wp)
        else:
            for _ in range(count // 100):
                forward_s(handle, n, t, xp, None, h, c, yp, h_n, c_n, tp, wp)
                backward_s(handle, n, t, xp, None, tp, yp, dh, dc, dxp, dh, dc, gp, wp)

    gc.collect()
    gc.disable()
    try:
        loop(1000)
        counters()
        before = counters()
        loop(100_000)
        after = counters()
    finally:
        gc.enable()
    # The counters themselves are Python: a handful of blocks, where 100,000 steps would leave as many.
    assert (after - before < [5, 50, 4096, 1][: len(before)]).all(), after - before


# ---- what is refused ------------------------------------------------------------------------------


def everything(network, case, a, dtype, *, batch=None, time=None, lengths=None, address=None):
    """Call the sequence functions; their statuses, and whether anything was written."""
    N, T = case.batch if batch is None else batch, case.time if time is None else time
    s = suffix(dtype)
    marks = {k: np.full_like(v, 7) for k, v in a.items()}
    y, h, c, dx = marks["dy"], marks["h_0"], marks["c_0"], marks["x"]
    tape, work = np.full(1 << 16, 7, np.uint8), np.full(1 << 16, 7, np.uint8)
    gradient = np.full(1000, 7, case.dtype)
    handle = network.address if address is None else address
    statuses = {
        function(f"forward_{s}")(handle, N, T, a["x"], lengths, None, None, y, h, c, tape, work),
        function(f"backward_{s}")(
            handle, N, T, a["x"], lengths, tape, a["dy"], None, None, dx, h, c, gradient, work),
        function(f"jvp_{s}")(
            handle, N, T, a["x"], lengths, None, None, None, None, None, None, y, h, c, y, h, c, work),
    }
    written = [m for m in (*marks.values(), tape, work, gradient) if not (m == 7).all()]
    return statuses, written


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_statuses(dtype):
    case = Case(batch=2, time=3, dtype=dtype)
    parameters, a = case.draw()
    network = Network(case.layer(parameters))
    other = {"float32": "float64", "float64": "float32"}[dtype]
    huge = 2**62
    for expected, wrong in [
        (WRONG_NETWORK, {"dtype": other}),
        (WRONG_NETWORK, {"dtype": dtype, "address": 0}),
        (WRONG_SIZE, {"dtype": dtype, "batch": -1}),
        (WRONG_SIZE, {"dtype": dtype, "time": -1}),
        (WRONG_SIZE, {"dtype": dtype, "time": huge}),
        (WRONG_SIZE, {"dtype": dtype, "batch": huge, "time": huge}),
        (WRONG_LENGTHS, {"dtype": dtype, "lengths": np.array([3, 4], np.intp)}),
        (WRONG_LENGTHS, {"dtype": dtype, "lengths": np.array([-1, 3], np.intp)}),
    ]:
        statuses, written = everything(network, case, a, **wrong)
        assert statuses == {expected}, wrong
        assert not written, wrong


def test_statuses_of_a_step():
    lstm = LSTM(3, 5, rng=0)
    x, state, work = np.zeros((1, 3), "float32"), np.full((1, 1, 5), 7, "float32"), np.zeros(4096, np.uint8)
    for s, network, batch, status in [
        ("d", Network(lstm), 1, WRONG_NETWORK),
        ("s", None, 1, WRONG_NETWORK),
        ("s", Network(lstm), -1, WRONG_SIZE),
        ("s", Network(LSTM(3, 5, bidirectional=True, rng=0)), 1, NO_STEP),
        ("s", Network(LSTM(3, 5, reverse=True, rng=0)), 1, NO_STEP),
        # A step of nothing says whether the network would do.
        ("s", Network(lstm), 0, OK),
        ("d", Network(lstm), 0, WRONG_NETWORK),
        ("s", Network(LSTM(3, 5, reverse=True, rng=0)), 0, NO_STEP),
    ]:
        handle = None if network is None else network.address
        assert function(f"step_{s}")(handle, batch, x, state, state, state, state, work) == status
        assert (state == 7).all()


def test_sizes_that_cannot_be():
    network = Network(LSTM(3, 5, 2, rng=0))
    for name in ("forward_workspace", "tape_size", "backward_workspace", "jvp_workspace"):
        size = function(name)
        assert size(network.address, 4, 9) == getattr(network, name)(4, 9) > 0
        assert size(None, 4, 9) == size(network.address, -1, 9) == size(network.address, 4, -9) == -1
        assert size(network.address, 2**40, 2**40) == -1
        refuses(lambda name=name: getattr(network, name)(-1, 9), "batch")
        with pytest.raises(MemoryError):
            getattr(network, name)(2**40, 2**40)
    assert function("step_workspace")(network.address, 4) == network.step_workspace(4) > 0
    assert network.step_workspace() == network.step_workspace(1)
    backwards = Network(LSTM(3, 5, bidirectional=True, rng=0))
    assert function("step_workspace")(backwards.address, 4) == -1
    refuses(backwards.step_workspace, "step")


@pytest.mark.parametrize(
    "options",
    [{"learn_state": True}, {"static_size": 2}, {"entity_aware": True, "static_size": 2}, {"nan": "zero"},
     {"nan": "raise"}, {"nan": "hold", "nan_mask": True}],
    ids=str,
)
def test_what_is_arithmetic_in_python_is_refused(options):
    refuses(lambda: Network(LSTM(3, 5, rng=0, **options)), re.escape(next(iter(options))))


@pytest.mark.parametrize("value", [None, 3, "lstm", np.zeros(3)], ids=["None", "int", "str", "array"])
def test_what_is_no_lstm(value):
    with pytest.raises(TypeError, match=r"lstm is \w+; expected a lstm_ext.LSTM"):
        Network(value)


def test_a_network_stays_where_it_is():
    network = Network(LSTM(3, 5, rng=0))
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Network"):
            attempt(network)


def test_subnormals_of_the_caller():
    """Off in this thread between the two calls, and in no other that is there already."""
    smallest = np.array([np.finfo(np.float64).tiny])
    flush = ctypes.CFUNCTYPE(ctypes.c_ulonglong)(cython_lstm.address("lstm_flush_subnormals"))
    restore = ctypes.CFUNCTYPE(None, ctypes.c_ulonglong)(cython_lstm.address("lstm_restore_subnormals"))
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: smallest / 4).result()[0] > 0
        mode = flush()
        flushed = smallest / 4
        elsewhere = other.submit(lambda: smallest / 4).result()
        restore(mode)
    if platform.machine() in ("x86_64", "AMD64", "aarch64", "arm64"):
        assert flushed[0] == 0
    assert elsewhere[0] > 0 and (smallest / 4)[0] > 0


def test_addresses():
    refuses(lambda: cython_lstm.address("lstm_stop"), "name")
    addresses = {cython_lstm.address(name) for name in cython_lstm.__pyx_capi__}
    assert len(addresses) == len(cython_lstm.__pyx_capi__)


def test_signatures_are_frozen():
    """Cython compares them as strings at import: one may be added here, none changed or taken away."""
    lines = SIGNATURES.read_text(encoding="utf-8").splitlines()
    frozen = dict(line.split("\t") for line in lines if not line.startswith("#"))
    found = {name: repr(capsule).split('"')[1] for name, capsule in cython_lstm.__pyx_capi__.items()}
    assert found == frozen
