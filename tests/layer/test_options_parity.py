"""Options against independent implementations: ONNX Runtime, ONNX's reference, PyTorch, Keras's formulae."""

import importlib.util

import make_option_outputs as peers
import numpy as np
import pytest
from harness import TOLERANCE, assert_close
from make_option_outputs import ONNX_CASES, TORCH_CASES, F, H, N, T

from lstm_ext import LSTM

pytestmark = pytest.mark.every_kernel

HAS = {name: importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime", "torch")}
COMMITTED = peers.committed()


def reordered(array, order, width):
    """Blocks of `width` along the first axis, in another order."""
    return np.concatenate([array[k * width : (k + 1) * width] for k in order])


def from_onnx(name, dtype):
    """Our LSTM with the operator's weights, and the call's arguments."""
    options, arrays = ONNX_CASES[name][0], peers.onnx_inputs(name)
    lstm = LSTM(F, H, dtype=dtype, batch_first=False, rng=0, **options)
    for direction, suffix in enumerate(("_l0", "_l0_reverse")[: len(arrays["W"])]):
        i_f_g_o = (0, 2, 3, 1)
        lstm["weight_ih" + suffix] = reordered(arrays["W"][direction], i_f_g_o, H)
        lstm["weight_hh" + suffix] = reordered(arrays["R"][direction], i_f_g_o, H)
        both = arrays["B"][direction].astype(dtype)
        lstm["bias" + suffix] = reordered(both[: 4 * H] + both[4 * H :], i_f_g_o, H)
        if "P" in arrays:
            lstm["peephole" + suffix] = reordered(arrays["P"][direction], (0, 2, 1), H)
    words = {"lengths": arrays["sequence_lens"]} if "sequence_lens" in arrays else {}
    return lstm, (arrays["X"], (arrays["initial_h"], arrays["initial_c"])), words


def against_onnx(name, expected, dtype, tolerance):
    lstm, arguments, words = from_onnx(name, dtype)
    y, (h, c) = lstm(*arguments, **words)
    Y = np.moveaxis(expected["Y"], 1, 2).reshape(T, N, -1)  # (T, D, N, H) in ONNX
    for mine, theirs, what in ((y, Y, "y"), (h, expected["Y_h"], "h_n"), (c, expected["Y_c"], "c_n")):
        assert_close(mine, theirs, tolerance, what)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ONNX_CASES)
def test_onnxruntime(name, dtype):
    against_onnx(name, COMMITTED["onnxruntime"][name], dtype, TOLERANCE["float32"])  # it has no float64


@pytest.mark.skipif(not (HAS["onnx"] and HAS["onnxruntime"]), reason="ONNX Runtime is not installed")
@pytest.mark.parametrize("name", ONNX_CASES)
def test_live_onnxruntime(name):
    against_onnx(name, peers.run_onnxruntime(name), "float32", TOLERANCE["float32"])


@pytest.mark.skipif(not HAS["onnx"], reason="ONNX is not installed")
@pytest.mark.parametrize("name", ["plain", "peepholes"])
def test_onnx_reference(name):
    """The operator's reference implementation, which knows no other option, in float64."""
    from onnx.reference import ReferenceEvaluator

    arrays = {key: a.astype("float64") for key, a in peers.onnx_inputs(name).items()}
    run = ReferenceEvaluator(peers.onnx_model(name, double=True)).run(None, arrays)
    against_onnx(name, dict(zip(("Y", "Y_h", "Y_c"), run, strict=True)), "float64", 1e-12)


def against_torch(name, expected, dtype):
    options, arrays = TORCH_CASES[name], peers.torch_inputs(name)
    lstm = LSTM(F, H, dtype=dtype, rng=0, **options)
    for word in lstm.named_parameters():
        lstm[word] = arrays[word]
    tape = lstm.tape()
    y, (h, c) = lstm.forward(arrays["x"], (arrays["h_0"], arrays["c_0"]), tape=tape)
    dx, (dh_0, dc_0) = lstm.backward(tape, arrays["dy"], (arrays["dh_n"], arrays["dc_n"]))
    run = {"y": y, "h_n": h, "c_n": c, "dx": dx, "dh_0": dh_0, "dc_0": dc_0, **lstm.named_gradients()}
    assert run.keys() == expected.keys()
    for key, value in expected.items():
        assert_close(run[key], value, TOLERANCE[dtype], key)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TORCH_CASES)
def test_torch(name, dtype):
    against_torch(name, COMMITTED["torch"][name], dtype)


@pytest.mark.skipif(not HAS["torch"], reason="PyTorch is not installed")
@pytest.mark.parametrize("name", TORCH_CASES)
def test_live_torch(name):
    against_torch(name, peers.run_torch(name), "float64")


# Keras's LSTMCell as its documentation and source state it, written out with its own order of gates (i, f, c,
# o) and its transposed kernels (I, 4H), (H, 4H).


def keras_lstm(kernel, recurrent, bias, x, activation, recurrent_activation, dropped=1):
    h, c = np.zeros((len(x), H)), np.zeros((len(x), H))
    for x_t in np.moveaxis(x, 1, 0):
        z = x_t @ kernel + (h * dropped) @ recurrent + bias
        z_i, z_f, z_c, z_o = np.split(z, 4, axis=1)
        i, f = recurrent_activation(z_i), recurrent_activation(z_f)
        c = f * c + i * activation(z_c)
        h = recurrent_activation(z_o) * activation(c)
    return h, c


KERAS = {
    "hard_sigmoid": lambda x: np.minimum(np.maximum(x + 3, 0), 6) / 6,  # relu6(x + 3) / 6
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (np.abs(x) + 1),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_silu": lambda x: x * np.minimum(np.maximum(x + 3, 0), 6) / 6,
    "linear": lambda x: x,
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", KERAS)
def test_keras(name):
    rng = np.random.default_rng(0)
    kernel, recurrent, bias = rng.normal(size=(F, 4 * H)), rng.normal(size=(H, 4 * H)), rng.normal(size=4 * H)
    x = rng.normal(size=(N, T, F))
    gate = ("hard_sigmoid", 1 / 6, 0.5)
    own = gate if name == "hard_sigmoid" else name
    lstm = LSTM(F, H, dtype="float64", activations=(gate, own, own))
    lstm["weight_ih_l0"], lstm["weight_hh_l0"], lstm["bias_l0"] = kernel.T, recurrent.T, bias
    h, c = keras_lstm(kernel, recurrent, bias, x, KERAS[name], KERAS["hard_sigmoid"])
    _, (h_n, c_n) = lstm(x)
    tolerance = 1e-7 if name == "selu" else 1e-12  # its constants have nine digits there
    assert_close(h_n[0], h, tolerance)
    assert_close(c_n[0], c, tolerance)


def test_keras_recurrent_dropout():
    """One mask for all steps of a sequence and, in Keras 3, for all gates; kept units are scaled up."""
    rng = np.random.default_rng(0)
    kernel, recurrent, bias = rng.normal(size=(F, 4 * H)), rng.normal(size=(H, 4 * H)), rng.normal(size=4 * H)
    x = rng.normal(size=(N, T, F))
    lstm = LSTM(F, H, dtype="float64", recurrent_dropout=0.4)
    lstm["weight_ih_l0"], lstm["weight_hh_l0"], lstm["bias_l0"] = kernel.T, recurrent.T, bias
    _, (h_n, _) = lstm.forward(x, seed=3)
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    for n in range(N):  # whichever the mask is, it must be one of the 2^H
        masks = [np.array([(k >> j) & 1 for j in range(H)]) / 0.6 for k in range(2**H)]
        found = [keras_lstm(kernel, recurrent, bias, x[n : n + 1], np.tanh, sigmoid, m)[0][0] for m in masks]
        assert min(np.abs(h - h_n[0, n]).max() for h in found) < 1e-12
