"""Inputs at the edge: bools as sizes, tensors that want a gradient, batches of no sequence."""

import numpy as np
import pytest
from zoo import refuses

from lstm_ext import LSTM, LstmNetwork, LstmNode, LstmParam, LstmState, Model, ToyLossLayer, set_num_threads

pytestmark = pytest.mark.every_kernel


class Tensor:
    """What torch's tensors that require a gradient do: they refuse to become arrays."""

    requires_grad = True

    def __init__(self, a):
        self.a = np.asarray(a)
        self.shape, self.ndim = self.a.shape, self.a.ndim

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def __len__(self):
        return len(self.a)


@pytest.fixture(params=["stub", "torch"])
def tensor(request):
    if request.param == "stub":
        return Tensor
    torch = pytest.importorskip("torch")
    return lambda a: torch.tensor(np.asarray(a), requires_grad=True)


def test_tensors_that_require_a_gradient(tensor):
    lstm = LSTM(3, 4, dtype="float64", rng=0)
    static = LSTM(3, 4, dtype="float64", rng=0, static_size=2, nan="zero")
    x, h = np.ones((2, 5, 3)), np.ones((1, 2, 4))
    tape = lstm.tape()
    y, _ = lstm.forward(x, tape=tape)
    node = LstmNode(LstmParam(4, 3), LstmState(4, 3))
    node.bottom_data_is(np.ones(3))
    net = LstmNetwork(node.param)
    for name, call in [
        ("x", lambda: lstm(tensor(x))),
        ("x", lambda: static(tensor(x), static=np.ones((2, 2)))),
        ("h_0", lambda: lstm(x, (tensor(h), None))),
        ("c_0", lambda: lstm(x, (None, tensor(h)))),
        ("static", lambda: static(x, static=tensor(np.ones((2, 2))))),
        ("dy", lambda: lstm.backward(tape, tensor(y))),
        ("dh_n", lambda: lstm.backward(tape, None, (tensor(h), None))),
        ("x", lambda: lstm.jvp(tensor(x), x)),
        ("dparameters", lambda: lstm.jvp(x, dparameters=tensor(np.ones(lstm.parameters.size)))),
        ("x_t", lambda: lstm.stream(2).step(tensor(x[:, 0]))),
        ("h", lambda: setattr(lstm.stream(2), "state", (tensor(h), h))),
        ("parameters", lambda: setattr(lstm, "parameters", tensor(np.ones(lstm.parameters.size)))),
        ("bias_l0", lambda: lstm.__setitem__("bias_l0", tensor(np.ones(16)))),
        ("x", lambda: node.bottom_data_is(tensor(np.ones(3)))),
        ("top_diff_h", lambda: node.top_diff_is(tensor(np.ones(4)), np.ones(4))),
        ("x", lambda: net.x_list_add(tensor(np.ones(3)))),
        ("h", lambda: setattr(node.state, "h", tensor(np.ones(4)))),
        ("wg", lambda: setattr(node.param, "wg", tensor(np.ones((4, 7))))),
    ]:
        refuses(call, name, "requires_grad", "detach")


def test_tensors_that_require_a_gradient_do_not_enter_a_model(tensor):
    model = Model(LSTM(3, 4, static_size=2, rng=0), 1, pooling="attention", rng=0)
    arrays = {
        "x": np.ones((2, 5, 3)), "y": np.ones((2, 1)), "static": np.ones((2, 2)), "sample_weight": np.ones(2),
    }
    before = model.parameters.copy()
    for name, array in arrays.items():
        words = {**arrays, name: tensor(array)}
        for call in (
            lambda words=words: model.fit(**words, epochs=1), lambda words=words: model.evaluate(**words),
            lambda words=words: model.loss_and_gradient(**words),
            lambda words=words: model.hvp(direction=before, **words),
        ):
            refuses(call, name, "requires_grad", "detach")
    refuses(lambda: model.predict(tensor(arrays["x"]), static=arrays["static"]), "x", "requires_grad")
    refuses(lambda: model.hvp(**arrays, direction=tensor(before)), "direction", "requires_grad")
    for name in ("parameters", "attention", "weight", "bias"):
        value = tensor(getattr(model, name))
        refuses(lambda name=name, value=value: setattr(model, name, value), name, "requires_grad", "detach")
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("flag", [True, False, np.True_, np.False_], ids=repr)
def test_bools_are_no_sizes(flag):
    for name, call in [
        ("input_size", lambda: LSTM(flag, 2)),
        ("hidden_size", lambda: LSTM(2, flag)),
        ("num_layers", lambda: LSTM(2, 2, flag)),
        ("proj_size", lambda: LSTM(2, 4, proj_size=flag)),
        ("static_size", lambda: LSTM(2, 4, static_size=flag)),
        ("checkpoint", lambda: LSTM(2, 4, checkpoint=flag)),
        ("batch", lambda: LSTM(2, 4).stream(flag)),
        ("seed", lambda: LSTM(2, 4).forward(np.ones((1, 1, 2)), seed=flag)),
        ("n", lambda: set_num_threads(flag)),
        ("mem_cell_ct", lambda: LstmParam(flag, 3)),
        ("x_dim", lambda: LstmParam(3, flag)),
        ("mem_cell_ct", lambda: LstmState(flag, 3)),
    ]:
        refuses(call, name)


def test_a_list_of_the_wrong_length_is_an_assertion_too():
    net = LstmNetwork(LstmParam(4, 3))
    net.x_list_add(np.ones(3))
    for error in (AssertionError, ValueError):
        with pytest.raises(error, match="y_list has 2 targets; expected 1"):
            net.y_list_is([1.0, 2.0], ToyLossLayer)


@pytest.mark.parametrize(
    "options",
    [{}, {"static_size": 2}, {"nan": "hold", "nan_mask": True}, {"num_layers": 2, "bidirectional": True},
     {"batch_first": False}, {"learn_state": True}, {"proj_size": 2}],
    ids=str,
)
@pytest.mark.parametrize(("N", "T"), [(0, 5), (0, 0), (2, 0)])
@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
def test_jacobian_of_nothing(options, N, T, mode):
    """No sequence, or no step: empty arrays of the right shape, and the identity where nothing happens."""
    lstm = LSTM(3, 4, rng=0, **options)
    static = {"static": np.zeros((N, 2))} if "static_size" in options else {}
    x = np.zeros((N, T, 3) if lstm.batch_first else (T, N, 3))
    inputs = ("x", "h_0", "c_0", *static)
    layers, P = lstm.num_layers * (2 if lstm.bidirectional else 1), lstm.proj_size or 4
    axes = {"y": (T, lstm.output_size), "h_n": (layers, P), "c_n": (layers, 4), "x": (T, 3),
            "h_0": (layers, P), "c_0": (layers, 4), "static": (2,)}
    for more in ({}, {"lengths": [T] * N}, {"mask": np.ones((N, T), bool)}):
        found = lstm.jacobian(x, of=("y", "h_n", "c_n"), wrt=inputs, mode=mode, **static, **more)
        for (o, i), value in found.items():
            assert value.shape == (N, *axes[o], *axes[i])
            assert value.dtype == lstm.dtype
            if T == 0 and (o, i) in (("h_n", "h_0"), ("c_n", "c_0")):
                size = int(np.prod(axes[o]))
                assert (value.reshape(N, size, size) == np.eye(size)).all()
            elif value.size:
                assert not value.any()
