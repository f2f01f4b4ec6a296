"""The model over LSTMs with options: static inputs, masks, missing values, dropout, files."""

import copy

import numpy as np
import pytest

from lstm_ext import LSTM, SGD, Model

pytestmark = pytest.mark.every_kernel

F, H, K, S, N, T = 2, 3, 2, 4, 5, 6

OPTIONS = [
    {"static_size": S},
    {"static_size": S, "entity_aware": True, "num_layers": 2},
    {"nan": "hold", "nan_mask": True},
    {"learn_state": True, "layer_norm": True},
    {"activations": [("hard_sigmoid", 0.25, 0.5), "softsign", "relu"], "gate_clip": 2.0, "cell_clip": 3.0},
    {"coupled_gates": True, "bias": False, "bidirectional": True},
    {"dropout": 0.3, "num_layers": 2, "recurrent_dropout": 0.2, "weight_dropout": 0.1, "zoneout": (0.1, 0.2)},
]


def problem(options, every_step, seed=0, **words):
    rng = np.random.default_rng(seed)
    lstm = LSTM(F, H, dtype="float64", rng=rng, **options)
    model = Model(lstm, K, every_step=every_step, rng=rng, **words)
    model.parameters += 0.3 * rng.normal(size=model.parameters.size)
    x = rng.normal(size=(N, T, F))
    if lstm.nan:
        x[rng.random(x.shape) < 0.3] = np.nan
    y = rng.normal(size=(N, T, K) if every_step else (N, K))
    more = {"mask": rng.random((N, T)) < 0.7}
    if lstm.static_size:
        more["static"] = rng.normal(size=(N, S))
    return model, x, y, more


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient(options, every_step):
    model, x, y, more = problem(options, every_step)
    model.loss_and_gradient(x, y, seed=7, **more)
    gradient, theta = model.gradient.copy(), model.parameters.copy()
    directions = np.random.default_rng(1).normal(size=(8, theta.size))
    for v in directions:
        values = []
        for step in (1e-6, -1e-6):
            values.append(model.value_and_gradient(theta + step * v, x, y, seed=7, **more)[0])
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient @ v, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_saved_model_comes_back(options, tmp_path):
    model, x, _, more = problem(options, True)
    model.save(tmp_path / "model.safetensors")
    loaded = Model.load(tmp_path / "model.safetensors")
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded.predict(x, **more), model.predict(x, **more))


def test_predictions_are_of_what_counts():
    model, x, y, more = problem(OPTIONS[0], True)
    prediction = model.predict(x, **more)
    assert not prediction[~more["mask"]].any()
    spoiled = np.where(more["mask"][..., None], x, np.nan)
    np.testing.assert_array_equal(model.predict(spoiled, **more), prediction)
    error = (prediction - y)[more["mask"]]
    assert model.evaluate(x, y, **more) == pytest.approx(np.mean(error**2), rel=1e-14)


def test_fit_takes_everything():
    model, x, y, more = problem(OPTIONS[1], True)
    before = model.evaluate(x, y, **more)
    history = model.fit(
        x, y, epochs=30, batch_size=2, rng=0, validation={"x": x, "y": y, **more}, **more
    )
    assert history[-1]["validation_loss"] == model.evaluate(x, y, **more) < before


def test_fit_draws_what_is_dropped_from_rng():
    results = []
    for seed in (3, 3, 4):
        model, x, y, _ = problem(OPTIONS[-1], False)
        model.fit(x, y, epochs=3, batch_size=N, optimizer=SGD(0.1), rng=seed)
        results.append(model.parameters.copy())
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.allclose(results[0], results[2])


def test_without_dropout_the_order_alone_is_drawn():
    model, x, y, more = problem(OPTIONS[0], False)
    other = copy.deepcopy(model)
    model.fit(x, y, epochs=2, batch_size=N, optimizer=SGD(0.1), rng=0, **more)
    rng = np.random.default_rng(0)
    for _ in range(2):
        order = rng.permutation(N)
        other.loss_and_gradient(x[order], y[order], **{k: v[order] for k, v in more.items()})
        SGD(0.1).step(other.parameters, other.gradient)
    np.testing.assert_array_equal(model.parameters, other.parameters)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({}, ValueError, "static is missing; expected"),
        ({"static": np.zeros((N, 1))}, ValueError, r"static has shape \(5, 1\); expected \(5, 4\)"),
        ({"static": np.zeros((N, S)), "mask": np.zeros((N, 2), bool)}, ValueError, r"mask is bool \(5, 2\)"),
        ({"static": np.zeros((N, S)), "mask": np.zeros((N, T))}, ValueError, "mask is float64"),
        ({"static": np.zeros((N, S)), "mask": np.ones((N, T), bool), "lengths": [T] * N}, ValueError,
         "lengths and mask were given"),
    ],
)
def test_mistakes_change_nothing(words, error, message):
    model, x, y, _ = problem(OPTIONS[0], False)
    model.gradient[...] = 3
    before = model.parameters.copy()
    for call in (model.predict, lambda x, **w: model.loss_and_gradient(x, y, **w),
                 lambda x, **w: model.fit(x, y, epochs=1, **w)):
        with pytest.raises(error, match=message):
            call(x, **words)
    assert (model.gradient == 3).all()
    np.testing.assert_array_equal(model.parameters, before)


def test_nan_is_found_at_the_start():
    model, x, y, _ = problem({"nan": "raise"}, False)
    before = model.parameters.copy()
    with pytest.raises(ValueError, match="x holds"):
        model.fit(x, y, epochs=3, batch_size=1)
    np.testing.assert_array_equal(model.parameters, before)
