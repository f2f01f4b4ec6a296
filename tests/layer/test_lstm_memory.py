"""Memory: flat over thousands of calls, errors among them; and no more of it than is returned."""

import contextlib
import gc
import itertools
import os
import sys
import tracemalloc

import numpy as np
import pytest
from harness import Case

import lstm_ext
from lstm_ext import LSTM

CALLS = 1000


@pytest.fixture(autouse=True)
def _one_thread():
    """These shapes are too small for two: they would only wait for each other."""
    before = lstm_ext.get_num_threads()
    lstm_ext.set_num_threads(1)
    yield
    lstm_ext.set_num_threads(before)


def resident():
    """Resident memory of this process, in bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def training(dtype="float32", **options):
    case = Case(
        input_size=4,
        hidden_size=20,
        num_layers=2,
        bidirectional=True,
        batch=3,
        time=8,
        dtype=dtype,
        lengths=(8, 1, 5),
    )
    parameters, a = case.draw()
    lstm = case.layer(parameters, **options)
    tape = lstm.tape()

    def call():
        lstm.forward(a["x"], (a["h_0"], a["c_0"]), lengths=case.lengths, tape=tape)
        lstm.backward(tape, a["dy"], (a["dh_n"], a["dc_n"]))

    return call


def training_float64():
    return training("float64")


def training_with_checkpoint():
    return training(checkpoint=3)


def training_with_two_threads():
    lstm_ext.set_num_threads(2)
    lstm = LSTM(4, 20, rng=0)
    x = np.ones((32, 8, 4), "float32")
    tape = lstm.tape()

    def call():
        y, state = lstm.forward(x, tape=tape)
        lstm.backward(tape, y, state)

    def calls():
        # A fifth as often as the others: on a busy machine two threads wait for each other.
        if next(turn):
            call()

    turn = itertools.cycle([True, False, False, False, False])
    return calls


def training_with_new_tapes():
    case = Case(dtype="float32", hidden_size=20)
    parameters, a = case.draw()
    lstm = case.layer(parameters)

    def call():
        tape = lstm.tape()
        lstm.forward(a["x"], tape=tape)
        lstm.backward(tape, a["dy"])

    return call


def training_with_changing_shapes():
    """The tape grows to the largest shape, and no further."""
    lstm = LSTM(3, 17, 2, rng=0)
    tape = lstm.tape()
    xs = [np.ones((n, t, 3), "float32") for n, t in ((1, 1), (9, 4), (2, 30), (0, 3), (40, 2))]

    def call():
        for x in xs:
            y, _ = lstm.forward(x, tape=tape)
            lstm.backward(tape, y)

    return call


def inference():
    lstm = LSTM(3, 20, 2, bidirectional=True, rng=0)
    x = np.ones((5, 9, 3), "float32")
    return lambda: lstm(x, lengths=[1, 9, 0, 4, 5])


def converted_inputs():
    """Inputs that have to be copied into the layer's dtype and order first."""
    lstm = LSTM(3, 20, rng=0)
    x = np.asfortranarray(np.ones((5, 9, 3)))
    state = (np.ones((1, 5, 20), int).tolist(), np.ones((1, 5, 40), ">f4")[..., ::2])
    return lambda: lstm(x, state)


def layers():
    """Layers, streams and tapes that come and go."""

    def call():
        lstm = LSTM(3, 8, rng=0)
        lstm(np.ones((2, 3, 3)))
        lstm.stream().step(np.ones(3, "float32"))

    return call


def errors():
    """One of many wrong calls after another, and a right one behind each."""
    lstm = LSTM(3, 20, rng=0)
    tape = lstm.tape()
    x = np.ones((5, 9, 3), "float32")
    y, (h_n, _) = lstm.forward(x, tape=tape)
    stream = lstm.stream()
    other = LSTM(3, 20, rng=0).tape()
    calls = [
        lambda: lstm(x[..., :2]),
        lambda: lstm(x, (h_n, None, None)),
        lambda: lstm(x, (h_n, h_n[..., :3])),
        lambda: lstm.forward(x, lengths=[1, 2, 3, 4, 99], tape=tape),
        lambda: lstm.backward(other, y),
        lambda: lstm.backward(tape, y[:, :3]),
        lambda: lstm.backward(tape, y, (h_n, h_n[:, :2])),
        lambda: stream.step(x[0, 0, :2]),
        lambda: stream.step(x[0, 0], out=np.empty(3, "float32")),
        lambda: stream.reset((h_n, h_n)),
        lambda: lstm.bind(lstm.parameters[:-1], lstm.gradient),
    ]

    turn = itertools.cycle(calls)

    def call():
        with contextlib.suppress(ValueError, TypeError):
            next(turn)()
            raise AssertionError("this call must fail")
        lstm.forward(x, tape=tape)
        lstm.backward(tape, y)

    return call


def stream_step():
    stream = LSTM(32, 64, 2, rng=0).stream()
    x_t, out = np.ones(32, "float32"), np.empty(64, "float32")
    return lambda: stream.step(x_t, out=out)


def stream_batch():
    stream = LSTM(32, 64, 2, rng=0).stream(batch=7)
    x_t, out = np.ones((7, 32), "float32"), np.empty((7, 64), "float32")

    def call():
        stream.step(x_t, out=out)
        stream.step(x_t)
        stream.reset(stream.state)

    return call


WORK = [
    training,
    training_float64,
    training_with_checkpoint,
    training_with_two_threads,
    training_with_new_tapes,
    training_with_changing_shapes,
    inference,
    converted_inputs,
    layers,
    errors,
    stream_step,
    stream_batch,
]


def smallest_growth(call, measure, enough):
    """Growth of `measure()` over a round of calls, the best of up to four rounds.

    A leak grows in every round; free lists and caches of Python grow in the first ones only.
    """
    for _ in range(50):
        call()
    best, before = float("inf"), measure()
    for _ in range(4):
        for _ in range(CALLS):
            call()
        now = measure()
        best, before = min(best, now - before), now
        if best < enough:
            break
    return best


@pytest.mark.parametrize("work", WORK, ids=lambda w: w.__name__)
def test_python_memory_is_flat(work):
    """Under 1 KB per 1000 calls. tracemalloc sees NumPy's arrays too."""

    def traced():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    call = work()
    tracemalloc.start()
    try:
        assert smallest_growth(call, traced, 1024) < 1024
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/statm")
@pytest.mark.parametrize("work", WORK, ids=lambda w: w.__name__)
def test_resident_memory_is_flat(work):
    """What leaks from malloc shows in the resident set, page by page."""

    def pages():
        gc.collect()
        return resident()

    assert smallest_growth(work(), pages, 8192) <= 8192


def peak_of(call):
    """Bytes allocated at the worst moment of `call`, above what was there before it."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        kept = call()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    del kept
    return peak


SLACK = 4096  # views, tuples, frames


def test_inference_allocates_what_it_returns():
    lstm = LSTM(32, 128, rng=0)
    x = np.ones((16, 50, 32), "float32")
    lstm(x)
    y, (h_n, c_n) = lstm(x)
    returned = y.nbytes + h_n.nbytes + c_n.nbytes
    assert peak_of(lambda: lstm(x)) < returned + SLACK


def test_training_allocates_what_it_returns():
    """With a tape that has been used before."""
    lstm = LSTM(32, 128, 2, rng=0)
    x = np.ones((16, 50, 32), "float32")
    tape = lstm.tape()
    for _ in range(2):
        y, state = lstm.forward(x, tape=tape)
        dx, _ = lstm.backward(tape, y, state)
    states = 2 * state[0].nbytes
    assert peak_of(lambda: lstm.forward(x, tape=tape)) < y.nbytes + states + SLACK
    assert peak_of(lambda: lstm.backward(tape, y, state)) < dx.nbytes + states + SLACK
    without = peak_of(lambda: lstm.backward(tape, y, state, input_gradient=False))
    assert without < states + SLACK


@pytest.mark.parametrize("batch", [1, 8])
def test_step_allocates_nothing(batch):
    stream = LSTM(256, 256, 2, rng=0).stream(batch=batch)
    x_t = np.ones((batch, 256), "float32")
    out = np.empty((batch, 256), "float32")
    for _ in range(3):
        stream.step(x_t, out=out)
    assert peak_of(lambda: stream.step(x_t, out=out)) < 1024


def test_checkpoint_saves_memory():
    """The tape of checkpoint=k holds T/k + k steps' worth, not T; `nbytes` says all of it."""
    x = np.ones((64, 400, 8), "float32")

    def cost(checkpoint):
        lstm = LSTM(8, 64, checkpoint=checkpoint, rng=0)
        tape = lstm.tape()
        y, _ = lstm.forward(x, tape=tape)
        lstm.backward(tape, y)
        return tape.nbytes

    whole = 64 * 400 * 5 * 64 * 4  # gates and c
    assert 0.99 * whole < cost(None) < 1.1 * whole
    assert cost(20) < 0.25 * whole


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/statm")
def test_tape_nbytes_is_what_it_costs():
    """A big tape shows in the resident set by its `nbytes`, and is given back."""
    lstm = LSTM(8, 64, rng=0)
    x = np.ones((64, 1000, 8), "float32")
    y, _ = lstm(x)
    before = resident()
    tape = lstm.tape()
    lstm.forward(x, tape=tape)
    spent = resident() - before
    assert 0.8 * tape.nbytes < spent < 1.2 * tape.nbytes + 2 * y.nbytes
    del tape
    gc.collect()
    assert resident() - before < 0.3 * spent
