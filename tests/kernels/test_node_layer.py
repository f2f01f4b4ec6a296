"""The two front doors: a network of teaching nodes is a layer with cell_activation="identity"."""

import numpy as np
import pytest

from lstm_ext import LSTM, LstmNetwork, LstmParam

pytestmark = pytest.mark.every_kernel

# The layer's gate order, in the node's names.
GATES = "ifgo"


class SquaredError:
    """0.5 |h - label|^2, on all elements."""

    @staticmethod
    def loss(pred, label):
        return 0.5 * np.sum((pred - label) ** 2)

    @staticmethod
    def bottom_diff(pred, label):
        return pred - label


@pytest.mark.parametrize(
    ("hidden_size", "input_size", "time"), [(1, 1, 1), (5, 3, 7), (20, 10, 4), (33, 17, 12)]
)
def test_node_equals_layer(hidden_size, input_size, time):
    rng = np.random.default_rng(hidden_size)
    param = LstmParam(hidden_size, input_size, rng=rng)
    lstm = LSTM(input_size, hidden_size, dtype="float64", cell_activation="identity")
    for gate in GATES:
        weight = rng.standard_normal((hidden_size, input_size + hidden_size)) * 0.4
        setattr(param, f"w{gate}", weight)
        setattr(param, f"b{gate}", rng.standard_normal(hidden_size) * 0.4)
    weights = np.concatenate([getattr(param, f"w{gate}") for gate in GATES])
    lstm["weight_ih_l0"] = weights[:, :input_size]
    lstm["weight_hh_l0"] = weights[:, input_size:]
    lstm["bias_l0"] = np.concatenate([getattr(param, f"b{gate}") for gate in GATES])

    x = rng.standard_normal((time, input_size))
    labels = rng.standard_normal((time, hidden_size))
    network = LstmNetwork(param)
    for x_t in x:
        network.x_list_add(x_t)
    loss = network.y_list_is(list(labels), SquaredError)
    nodes = network.lstm_node_list[:time]

    tape = lstm.tape()
    y, (_, c_n) = lstm.forward(x, tape=tape)
    dx, (dh_0, dc_0) = lstm.backward(tape, y - labels)

    np.testing.assert_allclose(y, [node.state.h for node in nodes], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(c_n[0], nodes[-1].state.s, rtol=1e-12)
    np.testing.assert_allclose(loss, SquaredError.loss(y, labels), rtol=1e-12)
    first = nodes[0].state
    np.testing.assert_allclose(dh_0[0], first.bottom_diff_h, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(dc_0[0], first.bottom_diff_s, rtol=1e-11, atol=1e-13)
    diffs = np.concatenate([getattr(param, f"w{gate}_diff") for gate in GATES])
    for name, diff in (
        ("weight_ih_l0", diffs[:, :input_size]),
        ("weight_hh_l0", diffs[:, input_size:]),
        ("bias_l0", np.concatenate([getattr(param, f"b{gate}_diff") for gate in GATES])),
    ):
        np.testing.assert_allclose(
            lstm.named_gradients()[name], diff, rtol=1e-11, atol=1e-13, err_msg=name
        )
    assert dx.shape == x.shape
