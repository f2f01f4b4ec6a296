"""`LSTM`, its streams and the nodes take no mask for numbers, wherever an array comes in."""

import numpy as np
import pytest
import zoo

import lstm_ext
from lstm_ext import LSTM

pytestmark = pytest.mark.every_kernel

N, T, F, H = 3, 4, 2, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, T, F))
STATE = np.zeros((1, N, H))


def masked(array):
    """An array whose first element is masked."""
    array = np.asarray(array)
    mask = np.zeros(array.shape, bool)
    mask[(0,) * array.ndim] = True
    return np.ma.masked_array(array, mask)


def ways(array):
    """The ways in which an array with a masked element may come."""
    parts = np.empty(len(array), object)
    parts[:] = list(masked(array))
    nested = list(masked(array)) if array.ndim == 1 else [list(part) for part in masked(array)]
    return [masked(array), list(masked(array)), tuple(masked(array)), nested, parts]


def layers():
    return {
        "plain": LSTM(F, H, rng=0), "general": LSTM(F, H, peepholes=True, rng=0),
        "policy": LSTM(F, H, nan="hold", rng=0),
    }


@pytest.mark.parametrize("kind", layers())
def test_the_layer_refuses_masked_elements(kind):
    lstm = layers()[kind]
    tape = lstm.tape()
    lengths, mask = np.full(N, 2), np.ones((N, T), bool)
    for bad in ways(X):
        zoo.refuses(lambda b=bad: lstm(b), "x")
        zoo.refuses(lambda b=bad: lstm.forward(b, tape=lstm.tape()), "x")
        zoo.refuses(lambda b=bad: lstm.jvp(b), "x")
        zoo.refuses(lambda b=bad: lstm.jvp(X, dx=b), "dx")
    for bad in ways(lengths):
        zoo.refuses(lambda b=bad: lstm(X, lengths=b), "lengths")
    for bad in ways(mask):
        zoo.refuses(lambda b=bad: lstm(X, mask=b), "mask")
    for bad in ways(STATE):
        for state in ((bad, None), (None, bad)):
            zoo.refuses(lambda s=state: lstm(X, s), "h_0|c_0")
    lstm.forward(X, tape=tape)
    for bad in ways(np.zeros((N, T, H))):
        zoo.refuses(lambda b=bad: lstm.backward(tape, b), "dy")
    for bad in ways(lstm.parameters.copy()):
        zoo.refuses(lambda b=bad: setattr(lstm, "parameters", b), "parameters")
    for bad in ways(lstm["weight_hh_l0"].copy()):
        zoo.refuses(lambda b=bad: lstm.__setitem__("weight_hh_l0", b), "weight_hh_l0")
    for bad in ways(X):
        zoo.refuses(lambda b=bad: lstm.jacobian(b, of="h_n"), "x")


@pytest.mark.parametrize("kind", layers())
def test_streams_refuse_masked_elements(kind):
    stream = layers()[kind].stream(batch=N)
    before = [part.copy() for part in stream.state]
    for bad in ways(X[:, 0]):
        zoo.refuses(lambda b=bad: stream.step(b), "x_t")
    for bad in ways(STATE):
        zoo.refuses(lambda b=bad: stream.reset((b, STATE)), "h|h_0")
    out = masked(np.zeros((N, H), np.float32))
    zoo.refuses(lambda: stream.step(X[:, 0], out), "out")
    np.testing.assert_array_equal(stream.state, before)


def test_static_inputs_with_masked_elements_are_refused():
    lstm = LSTM(F, H, static_size=2, rng=0)
    static = np.zeros((N, 2))
    for bad in ways(static):
        zoo.refuses(lambda b=bad: lstm(X, static=b), "static")
        zoo.refuses(lambda b=bad: lstm.stream(N, b), "static")


def test_nothing_masked_is_an_array():
    lstm = LSTM(F, H, rng=0)
    expected = lstm(X)[0]
    for given in (np.ma.masked_array(X), list(np.ma.masked_array(X))):
        np.testing.assert_array_equal(lstm(given)[0], expected)
    np.testing.assert_array_equal(
        lstm(X, mask=np.ma.masked_array(np.ones((N, T), bool)))[0], expected
    )


def test_nodes_refuse_masked_elements():
    param = lstm_ext.LstmParam(H, F)
    for name in ("wg", "bg", "wg_diff"):
        value = getattr(param, name).copy()
        for bad in ways(value):
            zoo.refuses(lambda n=name, b=bad: setattr(param, n, b), name)
        np.testing.assert_array_equal(getattr(param, name), value)
    network = lstm_ext.LstmNetwork(param)
    for bad in ways(np.zeros(F)):
        zoo.refuses(lambda b=bad: network.x_list_add(b), "x")
    node = lstm_ext.LstmNode(param, lstm_ext.LstmState(H, F))
    for bad in ways(np.zeros(H)):
        zoo.refuses(lambda b=bad: node.bottom_data_is(np.zeros(F), b, np.zeros(H)), "s_prev")
        zoo.refuses(lambda b=bad: node.bottom_data_is(np.zeros(F), np.zeros(H), b), "h_prev")
    node.bottom_data_is(np.zeros(F))
    for bad in ways(np.zeros(H)):
        zoo.refuses(lambda b=bad: node.top_diff_is(b, np.zeros(H)), "top_diff_h")
