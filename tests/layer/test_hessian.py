"""Hessian-vector products: against differences of gradients, PyTorch's double backward, and SciPy's use."""

import numpy as np
import pytest
from conftest import HAS_TORCH
from scipy.optimize import minimize

from lstm_ext import LSTM, Model
from lstm_ext.losses import CrossEntropy, MeanSquaredError

pytestmark = pytest.mark.every_kernel

F, H, K, N, T, S = 3, 4, 2, 4, 5, 2
LENGTHS = [5, 0, 3, 5]


def problem(options, every_step=True, loss="mse", seed=0):
    rng = np.random.default_rng(seed)
    lstm = LSTM(F, H, dtype="float64", rng=rng, **options)
    model = Model(lstm, K, every_step=every_step, loss=loss, rng=rng)
    model.parameters += 0.2 * rng.normal(size=model.parameters.size)
    shape = (N, T) if every_step else (N,)
    y = rng.integers(0, K, shape) if loss == "cross_entropy" else rng.normal(size=(*shape, K))
    words = {"static": rng.normal(size=(N, S))} if model.lstm.static_size else {}
    return model, rng.normal(size=(N, T, F)), y, words


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"num_layers": 2, "bidirectional": True}, {"checkpoint": 2}, {"proj_size": 3, "peepholes": True},
        {"static_size": S, "learn_state": True}, {"layer_norm": True, "zoneout": (0.2, 0.1)},
        {"num_layers": 2, "dropout": 0.4, "recurrent_dropout": 0.3, "weight_dropout": 0.2},
    ],
    ids=str,
)
def test_against_differences_of_the_gradient(options, every_step, loss, lengths):
    model, x, y, words = problem(options, every_step, loss)
    words |= {"lengths": lengths, "seed": 5}
    theta = model.parameters.copy()
    model.loss_and_gradient(x, y, **words)
    gradient = model.gradient.copy()
    v = np.random.default_rng(1).normal(size=theta.size)
    product = model.hvp(x, y, v, **words)
    np.testing.assert_array_equal(model.gradient, gradient)  # stays as it was
    plus, minus = (model.value_and_gradient(theta + s * v, x, y, **words)[1] for s in (1e-5, -1e-5))
    difference = (plus - minus) / 2e-5
    np.testing.assert_allclose(product, difference, rtol=1e-5, atol=1e-7 * np.abs(difference).max())
    # The Hessian is symmetric, and linear.
    model.parameters = theta
    u = np.random.default_rng(2).normal(size=theta.size)
    assert u @ product == pytest.approx(v @ model.hvp(x, y, u, **words), rel=1e-10)
    np.testing.assert_allclose(
        model.hvp(x, y, 2 * v - u, **words), 2 * product - model.hvp(x, y, u, **words), rtol=1e-10, atol=1e-12
    )


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True},
                                     {"proj_size": 3}], ids=str)
def test_against_double_backward(options):
    import torch

    model, x, y, _ = problem(options)
    lstm = model.lstm
    peer = torch.nn.LSTM(
        F, H, lstm.num_layers, batch_first=True, bidirectional=lstm.bidirectional, dtype=torch.float64,
        proj_size=lstm.proj_size or 0,
    )
    readout = torch.nn.Linear(lstm.output_size, K, dtype=torch.float64)
    rng = np.random.default_rng(4)
    v = rng.normal(size=model.parameters.size)
    views = dict(model.named_parameters())
    directions = {name: np.zeros_like(view) for name, view in views.items()}
    start = 0
    for name, view in views.items():
        directions[name] = v[start : start + view.size].reshape(view.shape)
        start += view.size
    pairs = []  # (PyTorch's parameter, its direction); its second bias stays 0
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if name.startswith("bias_hh"):
                parameter.zero_()
                pairs.append((parameter, torch.zeros_like(parameter), None))
                continue
            ours = "lstm." + name.replace("bias_ih", "bias")
            parameter.copy_(torch.from_numpy(views[ours]))
            pairs.append((parameter, torch.from_numpy(directions[ours]), ours))
        for parameter, ours in ((readout.weight, "weight"), (readout.bias, "bias")):
            parameter.copy_(torch.from_numpy(views[ours]))
            pairs.append((parameter, torch.from_numpy(directions[ours]), ours))
    parameters = [p for p, _, _ in pairs]
    prediction = readout(peer(torch.from_numpy(x))[0])
    loss = torch.nn.functional.mse_loss(prediction, torch.from_numpy(y))
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    inner = sum((g * d).sum() for g, (_, d, _) in zip(gradients, pairs, strict=True))
    products = torch.autograd.grad(inner, parameters)
    product = model.hvp(x, y, v)
    start = 0
    found = {}
    for name, view in views.items():
        found[name] = product[start : start + view.size].reshape(view.shape)
        start += view.size
    for expected, (_, _, ours) in zip(products, pairs, strict=True):
        if ours is not None:
            np.testing.assert_allclose(found[ours], expected.numpy(), rtol=1e-10, atol=1e-13, err_msg=ours)


@pytest.mark.parametrize("method", ["trust-krylov", "Newton-CG", "trust-ncg"])
def test_scipy_minimises_with_it(method):
    model, x, y, _ = problem({}, every_step=False)
    theta = model.parameters.copy()
    result = minimize(
        model.value_and_gradient, theta, args=(x, y), jac=True, hessp=model.hessp, method=method,
        options={"maxiter": 60},
    )
    assert result.fun < 1e-3 * model.value_and_gradient(theta, x, y)[0]


@pytest.mark.parametrize("loss", [MeanSquaredError(), CrossEntropy()], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses(loss, dtype):
    rng = np.random.default_rng(0)
    p, p_dot = rng.normal(size=(2, 6, 3)).astype(dtype)
    target = rng.integers(0, 3, 6) if isinstance(loss, CrossEntropy) else rng.normal(size=(6, 3))
    for weights in (None, np.array([1, 0, 2, 0.5, 0, 1])):
        tangent = loss.gradient_jvp(p, p_dot, target, weights)
        assert tangent.dtype == dtype
        wide, wide_dot = p.astype(float), p_dot.astype(float)
        plus, minus = (loss.gradient(wide + s * wide_dot, target, weights) for s in (1e-5, -1e-5))
        tolerance = 1e-9 if dtype == "float64" else 1e-6
        np.testing.assert_allclose(tangent, (plus - minus) / 2e-5, rtol=tolerance, atol=tolerance)
        if weights is not None:
            spoiled = np.where(weights[:, None] == 0, np.nan, p).astype(dtype)
            np.testing.assert_array_equal(loss.gradient_jvp(spoiled, p_dot, target, weights), tangent)
    with pytest.raises(ValueError, match="prediction_dot has shape"):
        loss.gradient_jvp(p, p_dot[:2], target)


def test_mistakes():
    model, x, y, _ = problem({})
    with pytest.raises(ValueError, match=r"direction is float64 \(3,\); expected numbers of shape"):
        model.hvp(x, y, np.zeros(3))

    class OnesOwn:
        def check(self, target, shape, weights=None):
            pass

        def value_and_gradient(self, prediction, target, weights=None):
            return 0.0, np.zeros_like(prediction)

    model = Model(LSTM(F, H), K, loss=OnesOwn())
    with pytest.raises(TypeError, match="expected one with gradient_jvp"):
        model.hvp(x, y, np.zeros(model.parameters.size))
