"""The stream: one step at a time, with the weights packed once."""

import re

import numpy as np
import pytest
from harness import TOLERANCE, Case, assert_close
from zoo import ORDINARY, UNUSUAL, WRONG, misaligned, refuses, snapshot, values_of

from lstm_ext import LSTM, _kernels

pytestmark = pytest.mark.every_kernel

HALF = (r"\bh(_0)?\b", r"\bc(_0)?\b")
BITWISE = _kernels.current() != "blas"


def make(batch=1, dtype="float32", **options):
    case = Case(**{"batch": batch, "dtype": dtype, "time": 9, "hidden_size": 17} | options)
    parameters, arrays = case.draw()
    return case.layer(parameters), arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell_activation", ["tanh", "identity"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("hidden_size", [1, 3, 16, 20, 33, 64])
def test_steps_are_the_sequence(hidden_size, batch, num_layers, cell_activation, dtype):
    lstm, arrays = make(
        batch,
        dtype,
        hidden_size=hidden_size,
        num_layers=num_layers,
        cell_activation=cell_activation,
    )
    y, (h_n, c_n) = lstm(arrays["x"])
    tolerance = 0 if BITWISE else TOLERANCE[dtype]
    stream = lstm.stream(batch=batch)
    out = np.empty((batch, hidden_size), dtype)
    for t in range(y.shape[1]):
        if t % 2:
            h_t = stream.step(arrays["x"][:, t])
            assert h_t.dtype == lstm.dtype
        else:
            h_t = stream.step(arrays["x"][:, t], out=out)
            assert h_t is out
        assert_close(h_t, y[:, t], tolerance, f"step {t}")
    h, c = stream.state
    assert_close(h, h_n, tolerance, "h")
    assert_close(c, c_n, tolerance, "c")


def test_one_sequence_is_a_vector():
    """With batch=1, x_t (I,) gives h_t (H,); x_t (1, I) gives (1, H)."""
    lstm, arrays = make()
    y, _ = lstm(arrays["x"][0])
    stream = lstm.stream()
    for t in range(y.shape[0]):
        x_t = arrays["x"][0, t]
        h_t = stream.step(x_t) if t % 2 else stream.step(x_t, out=np.empty(17, "float32"))
        assert h_t.shape == (17,)
        assert_close(h_t, y[t], 0 if BITWISE else 1e-5)
    assert stream.step(arrays["x"][:, 0]).shape == (1, 17)
    assert stream.state[0].shape == stream.state[1].shape == (1, 1, 17)


@pytest.mark.parametrize("batch", [1, 3])
def test_reset_and_state(batch):
    lstm, arrays = make(batch, num_layers=2)
    x, state = arrays["x"], (arrays["h_0"], arrays["c_0"])
    stream = lstm.stream(batch)
    np.testing.assert_array_equal(stream.state, np.zeros((2, 2, batch, 17)))
    first = stream.step(x[:, 0])
    np.testing.assert_array_equal(stream.step(x[:, 0]) == first, False)
    stream.reset()
    np.testing.assert_array_equal(stream.state, np.zeros((2, 2, batch, 17)))
    np.testing.assert_array_equal(stream.step(x[:, 0]), first)

    stream.reset(state)
    np.testing.assert_array_equal(stream.state, state)
    y, (h_n, _) = lstm(x[:, :2], state)
    tolerance = 0 if BITWISE else 1e-5
    assert_close(stream.step(x[:, 0]), y[:, 0], tolerance)
    saved = [s.copy() for s in stream.state]
    assert_close(stream.step(x[:, 1]), y[:, 1], tolerance)
    assert_close(stream.state[0], h_n, tolerance)

    # A saved state resumes, in another stream as well.
    for other in (stream, lstm.stream(batch)):
        other.reset(saved)
        assert_close(other.step(x[:, 1]), y[:, 1], tolerance)


def test_reset_copies():
    """What is given to `reset` is not tied to the stream afterwards."""
    lstm, arrays = make()
    h_0, c_0 = arrays["h_0"].copy(), arrays["c_0"].copy()
    stream, twin = lstm.stream(), lstm.stream()
    stream.reset((h_0, c_0))
    twin.reset((arrays["h_0"], arrays["c_0"]))
    h_0[:], c_0[:] = 9, 9
    x_t = arrays["x"][:, 0]
    np.testing.assert_array_equal(stream.step(x_t), twin.step(x_t))
    stream.step(x_t)
    assert (h_0 == 9).all()
    assert (c_0 == 9).all()


def test_outputs_are_not_the_state():
    """Overwriting an output, or the array given as out, does not touch the next step."""
    lstm, arrays = make(2)
    stream, twin = lstm.stream(2), lstm.stream(2)
    out = np.empty((2, 17), "float32")
    for t in range(4):
        x_t = arrays["x"][:, t]
        expected = twin.step(x_t)
        h_t = stream.step(x_t, out=out) if t % 2 else stream.step(x_t)
        np.testing.assert_array_equal(h_t, expected)
        h_t[:] = np.nan


def test_weights_are_those_of_the_making():
    """Parameters changed later reach new streams, not this one."""
    lstm, arrays = make()
    x_t = arrays["x"][:, 0]
    stream = lstm.stream()
    before = stream.step(x_t)
    lstm.parameters *= -0.5
    stream.reset()
    np.testing.assert_array_equal(stream.step(x_t), before)
    after = lstm.stream().step(x_t)
    assert np.abs(after - before).max() > 1e-3
    assert_close(after, lstm(arrays["x"][:, :1])[0][:, 0], 0 if BITWISE else 1e-5)


def test_streams_are_independent():
    lstm, arrays = make(2)
    one, other = lstm.stream(2), lstm.stream(2)
    y, _ = lstm(arrays["x"])
    for t in range(5):
        assert_close(one.step(arrays["x"][:, t]), y[:, t], 0 if BITWISE else 1e-5)
        other.step(-arrays["x"][:, t])


def test_a_stream_outlives_its_layer():
    lstm, arrays = make()
    y, _ = lstm(arrays["x"])
    stream = lstm.stream()
    del lstm
    for t in range(y.shape[1]):
        assert_close(stream.step(arrays["x"][:, t]), y[:, t], 0 if BITWISE else 1e-5)


def test_bidirectional_is_refused():
    lstm = LSTM(3, 5, bidirectional=True)
    refuses(lstm.stream, "bidirectional")


@pytest.mark.parametrize("batch", [0, -1, 2.0, "1", None, (2,)])
def test_wrong_batch(batch):
    refuses(lambda: LSTM(3, 5).stream(batch=batch), "batch")


# ---- arrays of every kind -----------------------------------------------------------------------


@pytest.fixture(params=["float32", "float64"])
def running(request):
    """Make a stream that has run for some steps, and its arrays."""
    lstm, arrays = make(4, request.param, num_layers=2)
    stream = lstm.stream(4)
    for t in range(3):
        stream.step(arrays["x"][:, t])
    return stream, arrays


def state_of(stream):
    return [s.copy() for s in stream.state]


@pytest.mark.parametrize("kind", [*ORDINARY, *UNUSUAL])
def test_x_t_zoo(running, kind):
    stream, arrays = running
    state = state_of(stream)
    dtype = state[0].dtype
    given = (ORDINARY | UNUSUAL)[kind](np.ascontiguousarray(arrays["x"][:, 3]))
    before = snapshot(given)
    try:
        h_t = stream.step(given)
    except (ValueError, TypeError) as error:
        assert kind in UNUSUAL
        assert "x_t" in str(error)
        np.testing.assert_array_equal(stream.state, state)
    else:
        stream.reset(state)
        np.testing.assert_array_equal(h_t, stream.step(values_of(given).astype(dtype)))
    if before is not None:
        np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_x_t(running, kind):
    stream, arrays = running
    state = state_of(stream)
    refuses(lambda: stream.step(WRONG[kind](arrays["x"][:, 3])), "x_t")
    np.testing.assert_array_equal(stream.state, state)


@pytest.mark.parametrize("kind", [*ORDINARY, *UNUSUAL])
@pytest.mark.parametrize("which", [0, 1])
def test_state_zoo(running, kind, which):
    stream, arrays = running
    before = state_of(stream)
    plain = [arrays["h_0"], arrays["c_0"]]
    given = list(plain)
    given[which] = (ORDINARY | UNUSUAL)[kind](plain[which])
    try:
        stream.reset(tuple(given))
    except (ValueError, TypeError) as error:
        assert kind in UNUSUAL
        assert re.search(HALF[which], str(error))
        np.testing.assert_array_equal(stream.state, before)
    else:
        np.testing.assert_array_equal(
            stream.state[which], values_of(given[which]).astype(before[0].dtype)
        )


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("which", [0, 1])
def test_wrong_state(running, kind, which):
    """Neither half of the state is changed by a pair with one wrong half."""
    stream, arrays = running
    before = state_of(stream)
    given = [arrays["h_0"], arrays["c_0"]]
    given[which] = WRONG[kind](given[which])
    with pytest.raises((ValueError, TypeError), match=HALF[which]):
        stream.reset(tuple(given))
    np.testing.assert_array_equal(stream.state, before)


@pytest.mark.parametrize("kind", ["pair", "three", "number", "array", "string"])
def test_state_that_is_no_pair(running, kind):
    stream, arrays = running
    before = state_of(stream)
    h = arrays["h_0"]
    given = {"pair": (h,), "three": (h, h, h), "number": 1.0, "array": h, "string": "hc"}[kind]
    refuses(lambda: stream.reset(given), "(state|h)")
    np.testing.assert_array_equal(stream.state, before)


def frozen(a):
    a.flags.writeable = False
    return a


BAD_OUT = {
    "read-only": lambda o: frozen(o),
    "other dtype": lambda o: np.empty(o.shape, "float32" if o.dtype == "float64" else "float64"),
    "int": lambda o: np.empty(o.shape, int),
    "complex": lambda o: np.empty(o.shape, complex),
    "byte-swapped": lambda o: o.astype(o.dtype.newbyteorder()),
    "object": lambda o: o.astype(object),
    "wider": lambda o: np.empty((o.shape[0], o.shape[1] + 1), o.dtype),
    "more rows": lambda o: np.empty((o.shape[0] + 1, o.shape[1]), o.dtype),
    "fewer rows": lambda o: o[:-1],
    "one axis more": lambda o: o[None],
    "one axis less": lambda o: o[0],
    "0-stride": lambda o: np.lib.stride_tricks.as_strided(o, o.shape, (0, o.itemsize)),
    "list": lambda o: o.tolist(),
    "number": lambda o: 1.0,
    "True": lambda o: True,
    "bytes": lambda o: o.tobytes(),
}


@pytest.mark.parametrize("kind", BAD_OUT)
def test_wrong_out(running, kind):
    stream, arrays = running
    state = state_of(stream)
    out = BAD_OUT[kind](np.full((4, 17), 7, state[0].dtype))
    before = np.array(out)
    refuses(lambda: stream.step(arrays["x"][:, 3], out=out), "out")
    np.testing.assert_array_equal(stream.state, state)
    np.testing.assert_array_equal(np.array(out), before)


ODD_OUT = {
    "fortran": lambda o: np.asfortranarray(o),
    "strided": lambda o: np.zeros((8, 34), o.dtype)[::2, ::2],
    "columns of a bigger array": lambda o: np.zeros((4, 40), o.dtype)[:, 3:20],
    "negative stride": lambda o: o[::-1, ::-1],
    "misaligned": misaligned,
    "subclass": lambda o: o.view(np.matrix),
}


@pytest.mark.parametrize("kind", ODD_OUT)
def test_odd_out(running, kind):
    """Filled with the right numbers, or refused untouched."""
    stream, arrays = running
    state = state_of(stream)
    x_t = arrays["x"][:, 3]
    expected = stream.step(x_t)
    stream.reset(state)
    out = ODD_OUT[kind](np.full((4, 17), 7, state[0].dtype))
    before = np.array(out)
    try:
        stream.step(x_t, out=out)
    except (ValueError, TypeError) as error:
        assert "out" in str(error)
        np.testing.assert_array_equal(out, before)
        np.testing.assert_array_equal(stream.state, state)
    else:
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("overlap", ["same", "shifted", "state"])
def test_out_overlapping_the_input(overlap):
    """`out` may be x_t itself, or part of it, or part of the state: right, or refused untouched."""
    lstm, arrays = make(4, input_size=17, num_layers=2)
    stream, twin = lstm.stream(4), lstm.stream(4)
    x_t = arrays["x"][:, 0]
    for s in (stream, twin):
        s.step(arrays["x"][:, 1])
    buffer = np.zeros(5 * 17, "float32")
    given = buffer[: 4 * 17].reshape(4, 17)
    given[:] = x_t
    out = {
        "same": given,
        "shifted": buffer[9 : 9 + 4 * 17].reshape(4, 17),
        "state": stream.state[0][0],
    }[overlap]
    state = state_of(stream)
    try:
        stream.step(given, out=out)
    except (ValueError, TypeError) as error:
        assert "out" in str(error)
        np.testing.assert_array_equal(given, x_t)
        np.testing.assert_array_equal(stream.state, state)
    else:
        np.testing.assert_array_equal(out, twin.step(x_t))
        np.testing.assert_array_equal(stream.state[1], twin.state[1])
        np.testing.assert_array_equal(stream.step(arrays["x"][:, 2]), twin.step(arrays["x"][:, 2]))


def test_nan_in_one_row_of_a_batch():
    lstm, arrays = make(7, num_layers=2)
    stream, twin = lstm.stream(7), lstm.stream(7)
    others = [0, 1, 2, 4, 5, 6]
    for t in range(4):
        x_t = arrays["x"][:, t].copy()
        expected = twin.step(x_t)
        x_t[3] = np.nan
        h_t = stream.step(x_t)
        np.testing.assert_array_equal(h_t[others], expected[others])
        assert np.isnan(h_t[3]).all()
    stream.reset()
    twin.reset()
    x_t = arrays["x"][:, 0]
    np.testing.assert_array_equal(stream.step(x_t), twin.step(x_t))
