"""Pooling over time: values by hand, exact gradients and Hessian products, files, and what is refused."""

import copy
import pickle

import numpy as np
import pytest

from lstm_ext import LSTM, Model

pytestmark = pytest.mark.every_kernel

POOLINGS = pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
LENGTHS = np.array([5, 2, 0, 4, 1])


def model_of(pooling, seed=0, **words):
    rng = np.random.default_rng(seed)
    lstm = LSTM(2, 3, dtype="float64", rng=rng, **{"bidirectional": True, **words})
    model = Model(lstm, 2, pooling=pooling, rng=rng)
    model.parameters = rng.normal(size=model.parameters.shape)
    return model


def example(seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(5, 5, 2)), rng.normal(size=(5, 2))


def counted(kind):
    if kind == "mask":
        return {"mask": np.random.default_rng(2).random((5, 5)) < 0.6}
    return {"lengths": LENGTHS} if kind == "lengths" else {}


def by_hand(model, x, there):
    """Pool sequence by sequence, over the steps that count."""
    hidden, _ = model.lstm(x, mask=there)
    features = np.zeros((len(x), hidden.shape[2]))
    for n, (h, steps) in enumerate(zip(hidden, there, strict=True)):
        h = h[steps]
        if not len(h):
            continue
        if model.pooling == "mean":
            features[n] = h.mean(axis=0)
        elif model.pooling == "max":
            features[n] = h.max(axis=0)
        else:
            weight = np.exp(h @ model.attention)
            features[n] = weight @ h / weight.sum()
    return features @ model.weight.T + model.bias


@POOLINGS
@pytest.mark.parametrize("kind", ["all", "lengths", "mask"])
def test_values_by_hand(pooling, kind):
    model, (x, _), words = model_of(pooling), example(), counted(kind)
    there = words.get("mask", np.arange(5) < words.get("lengths", np.full(5, 5))[:, None])
    np.testing.assert_allclose(model.predict(x, **words), by_hand(model, x, there), rtol=1e-12, atol=1e-14)
    # What does not count may be anything.
    other = np.where(there[..., None], x, np.nan)
    np.testing.assert_array_equal(model.predict(other, **words), model.predict(x, **words))


@POOLINGS
@pytest.mark.parametrize("kind", ["all", "lengths", "mask"])
def test_gradient_is_the_derivative_of_the_loss(pooling, kind):
    model, (x, y), words = model_of(pooling), example(), counted(kind)
    model.loss_and_gradient(x, y, **words)
    gradient, theta, step = model.gradient.copy(), model.parameters.copy(), 1e-6
    numeric = np.empty_like(theta)
    for k in range(theta.size):
        sides = []
        for sign in (1, -1):
            model.parameters = theta + sign * step * (np.arange(theta.size) == k)
            sides.append(model.evaluate(x, y, **words))
        numeric[k] = (sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)


@POOLINGS
@pytest.mark.parametrize("kind", ["all", "lengths"])
def test_hessian_products_are_derivatives_of_the_gradient(pooling, kind):
    model, (x, y), words = model_of(pooling), example(), counted(kind)
    theta, step = model.parameters.copy(), 1e-6
    direction = np.random.default_rng(3).normal(size=theta.shape)
    product = model.hvp(x, y, direction, **words)
    sides = []
    for sign in (1, -1):
        model.parameters = theta + sign * step * direction
        model.loss_and_gradient(x, y, **words)
        sides.append(model.gradient.copy())
    np.testing.assert_allclose(product, (sides[0] - sides[1]) / (2 * step), rtol=1e-5, atol=1e-8)


@POOLINGS
def test_a_model_travels_with_its_pooling(pooling, tmp_path):
    model, (x, _) = model_of(pooling), example()
    model.save(tmp_path / "model.npz")
    for again in (Model.load(tmp_path / "model.npz"), pickle.loads(pickle.dumps(model))):
        assert again.pooling == pooling and f"pooling='{pooling}'" in repr(again)
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
    names = list(model.named_parameters())
    assert ("attention" in names) == (pooling == "attention")
    assert sum(view.size for view in model.named_parameters().values()) == model.parameters.size
    assert list(model.named_gradients()) == names


@POOLINGS
def test_attributions_add_up(pooling):
    from lstm_ext.attribution import integrated_gradients

    model, (x, _) = model_of(pooling), example()
    values = integrated_gradients(model, x, output=0, points=200)
    difference = model.predict(x)[:, 0] - model.predict(np.zeros_like(x))[:, 0]
    # The kinks of a maximum slow the quadrature down.
    np.testing.assert_allclose(values.sum(axis=(1, 2)), difference, atol=2e-2 if pooling == "max" else 1e-4)


def test_files_without_a_pooling_are_of_the_last_state(tmp_path):
    model, (x, _) = model_of("last"), example()
    state = copy.deepcopy(model).__getstate__()  # an LSTM belongs to one model
    del state["pooling"], state["attention"]  # as earlier versions pickled
    old = Model.__new__(Model)
    old.__setstate__(state)
    assert old.pooling == "last"
    np.testing.assert_array_equal(old.predict(x), model.predict(x))
    assert "pooling" not in repr(model)


@pytest.mark.parametrize("pooling", ["sum", None, ["mean"], 1])
def test_an_unknown_pooling_is_refused(pooling):
    with pytest.raises(ValueError, match=r"pooling is .*; expected one of last, mean, max, attention"):
        Model(LSTM(2, 3), 1, pooling=pooling)


@POOLINGS
def test_steps_that_are_read_out_are_not_pooled(pooling):
    with pytest.raises(ValueError, match="expected 'last' with every_step=True"):
        Model(LSTM(2, 3), 1, every_step=True, pooling=pooling)


@POOLINGS
def test_the_gradient_reaches_the_first_of_many_steps(pooling):
    from lstm_ext.attribution import gradient_times_input

    x = np.random.default_rng(0).normal(size=(4, 400, 1))

    def reach(kind):
        model = Model(LSTM(1, 8, dtype="float64", rng=0), 1, pooling=kind, rng=0)
        return np.abs(gradient_times_input(model, x, output=0)[:, :20]).sum()

    assert reach(pooling) > 1000 * reach("last")


@POOLINGS
def test_safetensors_keep_the_pooling(pooling, tmp_path):
    pytest.importorskip("safetensors", reason="the file format of lstm_ext.io.save")
    from lstm_ext import io

    model, (x, _) = model_of(pooling), example()
    io.save(model, tmp_path / "model.safetensors")
    again = io.load(tmp_path / "model.safetensors")
    assert again.pooling == pooling
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


@POOLINGS
@pytest.mark.parametrize("words", [{}, {"bidirectional": False, "reverse": True}, {"num_layers": 2}])
@pytest.mark.parametrize("kind", ["all", "lengths"])
def test_onnx_pools(pooling, words, kind):
    onnx = pytest.importorskip("onnx", reason="the exporter needs it")
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs the graph")
    from lstm_ext import io

    double = model_of(pooling, **words)
    model = Model(LSTM(2, 3, **{"bidirectional": True, **words}), 2, pooling=pooling)
    model.parameters = double.parameters
    x, lengths = example()[0].astype("float32"), LENGTHS.astype("int32")
    lengths[2] = 3  # the operator of this run time wants at least one step
    given = {"lengths": lengths} if kind == "lengths" else {}
    proto = io.to_onnx(model, lengths=kind == "lengths")
    assert onnx.checker.check_model(proto, full_check=True) is None
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = session.run(None, {"x": x, **given})
    np.testing.assert_allclose(found, model.predict(x, **given), atol=2e-6)
