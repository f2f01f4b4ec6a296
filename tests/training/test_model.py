"""The model: LSTM, readout and loss over one flat vector; training; files."""

import copy
import io
import json
import os
import pickle
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import numpy as np
import pytest

from lstm_ext._files import replace_file
from lstm_ext._options import CONFIGURATION
from lstm_ext.io import FormatError
from lstm_ext.losses import LOSSES, CrossEntropy, Loss, MeanSquaredError
from lstm_ext.lstm import LSTM
from lstm_ext.model import Model
from lstm_ext.optim import SGD, Adam

I, H, O = 2, 3, 4  # features, units, outputs  # noqa: E741


def make(*, every_step=False, loss="mse", layers=1, bidirectional=False, dtype="float64", seed=0,
         **words):
    rng = np.random.default_rng(seed)
    lstm = LSTM(I, H, layers, bidirectional=bidirectional, dtype=dtype, rng=rng, **words)
    model = Model(lstm, O, every_step=every_step, loss=loss, rng=rng)
    # Away from the special values of the initialisation.
    model.parameters += 0.1 * rng.normal(size=model.parameters.size)
    return model


def batch(model, n=5, steps=6, seed=1):
    """Inputs and targets that fit the model."""
    rng = np.random.default_rng(seed)
    shape = (n, steps) if model.every_step else (n,)
    if isinstance(model.loss, CrossEntropy):
        y = rng.integers(0, O, shape)
    else:
        y = rng.normal(size=(*shape, O))
    return rng.normal(size=(n, steps, I)), y


LENGTHS = [6, 1, 4, 0, 6]

every_architecture = pytest.mark.parametrize("words", [
    {},
    {"every_step": True},
    {"layers": 3},
    {"layers": 2, "bidirectional": True},
    {"layers": 2, "bidirectional": True, "every_step": True},
    {"cell_activation": "identity"},
    {"checkpoint": 2, "every_step": True},
], ids=lambda words: "-".join(f"{k}={v}" for k, v in words.items()) or "default")


# The gradient ---------------------------------------------------------------------------------


@every_architecture
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_gradient_is_the_derivative_of_the_loss(words, loss, lengths):
    model = make(loss=loss, **words)
    x, y = batch(model)
    value = model.loss_and_gradient(x, y, lengths)
    assert value == pytest.approx(model.evaluate(x, y, lengths), rel=1e-14)
    numeric, step = np.empty_like(model.gradient), 1e-5
    for k, parameter in enumerate(model.parameters.copy()):
        model.parameters[k] = parameter + step
        ahead = model.evaluate(x, y, lengths)
        model.parameters[k] = parameter - step
        behind = model.evaluate(x, y, lengths)
        model.parameters[k] = parameter
        numeric[k] = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(model.gradient, numeric, rtol=1e-7, atol=1e-9)
    assert np.count_nonzero(model.gradient) > 0.9 * model.gradient.size


@every_architecture
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_model_agrees_with_torch(words, loss):
    torch = pytest.importorskip("torch")
    if "cell_activation" in words:
        pytest.skip("torch has no such cell")
    model = make(loss=loss, **words)
    x, y = batch(model)
    layers, bidirectional = words.get("layers", 1), words.get("bidirectional", False)
    lstm = torch.nn.LSTM(
        I, H, layers, bidirectional=bidirectional, batch_first=True, dtype=torch.float64
    )
    readout = torch.nn.Linear(H * (1 + bidirectional), O, dtype=torch.float64)
    named = model.named_parameters()
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            if name.startswith("bias_hh"):  # ours has one bias
                parameter.zero_()
            else:
                parameter.copy_(torch.tensor(named["lstm." + name.replace("bias_ih", "bias")]))
        readout.weight.copy_(torch.tensor(model.weight))
        readout.bias.copy_(torch.tensor(model.bias))
    hidden, (h_n, _) = lstm(torch.tensor(x))
    if not model.every_step:
        hidden = torch.cat(list(h_n[-(1 + bidirectional):]), dim=1)
    prediction = readout(hidden)
    target = torch.tensor(y)
    if loss == "mse":
        theirs = torch.nn.functional.mse_loss(prediction, target)
    else:
        theirs = torch.nn.functional.cross_entropy(prediction.movedim(-1, 1), target)
    theirs.backward()

    assert model.loss_and_gradient(x, y) == pytest.approx(theirs.item(), rel=1e-12)
    np.testing.assert_allclose(model.predict(x), prediction.detach(), rtol=1e-12, atol=1e-12)
    gradients = model.named_gradients()
    for name, parameter in lstm.named_parameters():
        if not name.startswith("bias_hh"):
            ours = gradients["lstm." + name.replace("bias_ih", "bias")]
            np.testing.assert_allclose(ours, parameter.grad, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(gradients["weight"], readout.weight.grad, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(gradients["bias"], readout.bias.grad, rtol=1e-11, atol=1e-13)


@every_architecture
def test_gradient_is_filled_anew(words):
    model = make(**words)
    x, y = batch(model)
    model.loss_and_gradient(x, y)
    first = model.gradient.copy()
    model.loss_and_gradient(*batch(model, n=2, steps=9, seed=5))  # the tape serves another shape
    assert not np.array_equal(model.gradient, first)
    model.gradient[:] = np.nan
    model.loss_and_gradient(x, y)
    np.testing.assert_array_equal(model.gradient, first)


# One flat vector ------------------------------------------------------------------------------


@every_architecture
def test_parameters_are_one_vector(words):
    model = make(**words)
    for flat, named, lstm in [
        (model.parameters, model.named_parameters(), model.lstm.parameters),
        (model.gradient, model.named_gradients(), model.lstm.gradient),
    ]:
        assert flat.flags.c_contiguous and flat.ndim == 1 and flat.dtype == "float64"
        flat[:] = np.arange(flat.size)
        np.testing.assert_array_equal(np.concatenate([a.ravel() for a in named.values()]), flat)
        np.testing.assert_array_equal(lstm, np.arange(lstm.size))
    directions = 2 if model.lstm.bidirectional else 1
    assert list(named)[-2:] == ["weight", "bias"]
    assert model.weight.shape == (O, directions * H) and model.bias.shape == (O,)
    model.lstm["bias_l0"] = 7.0
    assert np.count_nonzero(model.parameters == 7.0) >= 4 * H


def test_assignment_copies_into_the_vector():
    model = make()
    flat, weight, values = model.parameters, model.weight, np.ones((O, H))
    model.weight = values
    model.bias = np.full(O, 2.0)
    values[:] = 5
    assert model.weight is weight and model.parameters is flat
    np.testing.assert_array_equal(flat[-O * (H + 1):], [1.0] * (O * H) + [2.0] * O)
    model.parameters = np.arange(flat.size)
    assert model.parameters is flat and weight[0, 0] == flat.size - O * (H + 1)
    for name, values, words in [
        ("weight", np.ones((H, O)), r"weight has shape \(3, 4\); expected \(4, 3\)"),
        ("bias", 1.0, r"bias has shape \(\); expected \(4,\)"),
        ("parameters", np.zeros(3), r"parameters has shape \(3,\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            setattr(model, name, values)
    with pytest.raises(TypeError, match="real numbers"):
        model.bias = np.ones(O, complex)


def test_readout_starts_glorot_and_repeatable():
    big = Model(LSTM(1, 50, rng=0), 40, rng=3)
    bound = np.sqrt(6 / 90)
    assert 0.95 * bound < np.abs(big.weight).max() <= bound
    assert abs(big.weight.mean()) < 0.05 * bound and not big.bias.any()
    np.testing.assert_array_equal(big.weight, Model(LSTM(1, 50, rng=1), 40, rng=3).weight)
    assert not np.array_equal(big.weight, Model(LSTM(1, 50, rng=0), 40, rng=4).weight)


# Predictions ----------------------------------------------------------------------------------


def test_sequence_to_one_reads_the_last_valid_step():
    model = make(layers=2)
    x, _ = batch(model)
    hidden, _ = model.lstm(x, lengths=LENGTHS)
    expected = np.tile(model.bias, (5, 1))  # a sequence of length 0 has h = 0
    for n, length in enumerate(LENGTHS):
        if length:
            expected[n] += model.weight @ hidden[n, length - 1]
    np.testing.assert_allclose(model.predict(x, LENGTHS), expected, rtol=1e-13)


def test_bidirectional_sequence_to_one_reads_both_ends():
    model = make(bidirectional=True)
    x, _ = batch(model)
    hidden, _ = model.lstm(x)
    features = np.hstack([hidden[:, -1, :H], hidden[:, 0, H:]])
    np.testing.assert_allclose(model.predict(x), features @ model.weight.T + model.bias, rtol=1e-13)


def test_sequence_to_sequence_reads_every_step_and_is_zero_beyond_the_length():
    model = make(every_step=True)
    x, _ = batch(model)
    hidden, _ = model.lstm(x)
    whole = model.predict(x)
    assert whole.shape == (5, 6, O)
    np.testing.assert_allclose(whole, hidden @ model.weight.T + model.bias, rtol=1e-13)
    cut = model.predict(x, LENGTHS)
    for n, length in enumerate(LENGTHS):
        np.testing.assert_allclose(cut[n, :length], whole[n, :length], rtol=1e-13)
        np.testing.assert_array_equal(cut[n, length:], 0)


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_padding_is_never_seen(every_step, loss):
    model = make(every_step=every_step, loss=loss)
    x, y = batch(model)
    value = model.loss_and_gradient(x, y, LENGTHS)
    gradient, prediction = model.gradient.copy(), model.predict(x, LENGTHS)
    beyond = np.arange(6) >= np.array(LENGTHS)[:, None]
    x[beyond] = np.nan
    if every_step:
        y[beyond] = np.nan if loss == "mse" else -1
    assert model.loss_and_gradient(x, y, LENGTHS) == value == model.evaluate(x, y, LENGTHS)
    np.testing.assert_array_equal(model.gradient, gradient)
    np.testing.assert_array_equal(model.predict(x, LENGTHS), prediction)


@pytest.mark.parametrize("convert", [
    lambda x: x.tolist(),
    lambda x: x.astype("float32"),
    lambda x: np.asfortranarray(x),
    lambda x: x[::-1][::-1],
    lambda x: x.astype(">f8"),
], ids=["list", "float32", "fortran", "strided", "swapped"])
def test_inputs_of_any_layout(convert):
    model = make()
    x, _ = batch(model)
    x = np.round(x * 64) / 64  # numbers that float32 has
    np.testing.assert_array_equal(model.predict(convert(x)), model.predict(x))


def test_float32_model_takes_float64_data():
    model = make(dtype="float32", every_step=True)
    x, y = batch(model)
    assert model.predict(x).dtype == "float32" and model.gradient.dtype == "float32"
    single = model.loss_and_gradient(x, y)
    double = make(every_step=True)
    double.parameters = model.parameters
    assert single == pytest.approx(double.loss_and_gradient(x, y), rel=1e-5)
    np.testing.assert_allclose(model.gradient, double.gradient, rtol=1e-3, atol=1e-6)


def test_predict_from_many_threads():
    model = make(layers=2, every_step=True)
    inputs = [batch(model, n=4, steps=30, seed=k)[0] for k in range(32)]
    expected = [model.predict(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for ours, theirs in zip(pool.map(model.predict, inputs), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


# Training -------------------------------------------------------------------------------------


def waves(n=60, steps=12, seed=0):
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    wave = np.sin(0.7 * np.arange(steps + 1) + phase)
    return wave[:, :-1, None], wave[:, -1:]


def regressor(seed=0, **words):
    rng = np.random.default_rng(seed)
    return Model(LSTM(1, 8, rng=rng, **words), 1, rng=rng)


def test_fit_learns_a_wave():
    model, (x, y) = regressor(), waves()
    before = model.evaluate(x, y)
    history = model.fit(x, y, epochs=60, optimizer=Adam(0.02), rng=0)
    assert [record["epoch"] for record in history] == list(range(1, 61))
    assert model.evaluate(x, y) < 0.01 * before
    new_x, new_y = waves(seed=1)
    assert np.abs(model.predict(new_x) - new_y).max() < 0.2


def test_fit_learns_classes_from_sequences_of_any_length():
    # Which symbol came first? The label must be carried over whatever follows.
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 13, 200)
    symbols = rng.integers(0, 3, (200, 12))
    x, y = np.eye(3)[symbols], symbols[:, 0]
    model = Model(LSTM(3, 12, rng=0), 3, loss="cross_entropy", rng=0)
    model.fit(x, y, lengths=lengths, epochs=30, optimizer=Adam(0.03, max_norm=1.0), rng=0)
    assert (model.predict(x, lengths).argmax(1) == y).mean() > 0.97


def test_fit_repeats_for_a_seed():
    x, y = waves()
    models = [regressor() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        model.fit(x, y, epochs=3, batch_size=7, rng=seed)
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)
    assert not np.array_equal(models[0].parameters, models[2].parameters)


def test_fit_in_two_parts_has_the_same_bits():
    x, y = waves()
    whole, parts = regressor(), regressor()
    whole.fit(x, y, epochs=4, optimizer=Adam(), rng=np.random.default_rng(1))
    optimizer, rng = Adam(), np.random.default_rng(1)
    for _ in range(4):
        parts.fit(x, y, epochs=1, optimizer=optimizer, rng=rng)
    np.testing.assert_array_equal(whole.parameters, parts.parameters)


def test_every_sequence_is_seen_once_in_an_epoch():
    class Recorder:
        """An optimiser that writes down whose turn it was, and changes nothing."""

        def step(self, parameters, gradient):
            batches.append(seen.copy())
            seen.clear()

    class Spy(MeanSquaredError):
        def value_and_gradient(self, prediction, target, weights=None):
            seen.extend(target[:, 0].tolist())
            return super().value_and_gradient(prediction, target, weights)

    seen, batches = [], []
    model = Model(LSTM(1, 2, rng=0), 1, loss=Spy(), rng=0)
    x, y = np.zeros((10, 3, 1)), np.arange(10.0)[:, None]
    history = model.fit(x, y, epochs=2, batch_size=4, optimizer=Recorder(), rng=0)
    assert [len(b) for b in batches] == [4, 4, 2] * 2
    epochs = np.concatenate(batches[:3]).tolist(), np.concatenate(batches[3:]).tolist()
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]
    # The mean over all ten, not over three mini-batches of different sizes.
    assert history[0]["loss"] == pytest.approx(model.evaluate(x, y), rel=1e-6)


def test_epoch_loss_weighs_steps_and_skips_empty_sequences():
    model = make(every_step=True)
    x, y = batch(model, n=30)
    lengths = np.array(LENGTHS * 6)
    lengths[:20] = 0
    expected = model.evaluate(x, y, lengths)
    history = model.fit(x, y, epochs=1, batch_size=3, lengths=lengths, optimizer=SGD(0), rng=0)
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="holds no sequence to learn from"):
        model.fit(x, y, epochs=1, lengths=np.zeros(30, int))


def test_validation_and_callback():
    model, (x, y) = regressor(), waves()
    held_out = waves(seed=9)
    records = []

    def stop_after_three(record):
        records.append(record)
        return record["epoch"] == 3

    history = model.fit(
        x, y, epochs=50, rng=0, validation=held_out, callback=stop_after_three
    )
    assert history == records and len(history) == 3
    assert history[-1]["validation_loss"] == model.evaluate(*held_out)
    assert set(model.fit(x, y, epochs=1)[0]) == {"epoch", "loss", "lr", "seconds"}
    assert model.fit(x, y, epochs=0) == []


def test_validation_takes_lengths():
    model = make(every_step=True)
    x, y = batch(model)
    history = model.fit(x, y, epochs=1, optimizer=SGD(0), rng=0, validation=(x, y, LENGTHS))
    assert history[0]["validation_loss"] == model.evaluate(x, y, LENGTHS)


def test_a_loss_of_ones_own(tmp_path):
    class Absolute(Loss):
        def check(self, target, shape, weights=None):
            if target.shape != shape:
                raise ValueError("shape")

        def value_and_gradient(self, prediction, target, weights=None):
            error = prediction - target
            return np.abs(error).mean(), np.sign(error) / error.size

    rng = np.random.default_rng(0)
    model = Model(LSTM(1, 8, rng=rng), 1, loss=Absolute(), rng=rng)
    x, y = waves()
    model.fit(x, y, epochs=40, optimizer=Adam(0.02), rng=0)
    assert model.evaluate(x, y) < 0.1
    with pytest.raises(TypeError, match=r"loss is .*Absolute.*, which a file cannot name"):
        model.save(tmp_path / "model.safetensors")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("where", ["x", "y"])
def test_fit_stops_before_nan_reaches_the_parameters(where):
    model, (x, y) = regressor(), waves()
    (x if where == "x" else y)[17] = np.nan
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        model.fit(x, y, epochs=2, batch_size=8, rng=0)
    assert np.isfinite(model.parameters).all()


def test_training_allocates_nothing_that_grows():
    model = make(every_step=True)
    x, y = batch(model, n=16, steps=20)
    optimizer = Adam()

    def steps(n):
        for _ in range(n):
            model.loss_and_gradient(x, y)
            optimizer.step(model.parameters, model.gradient)

    steps(5)
    tracemalloc.start()
    steps(5)
    before = tracemalloc.get_traced_memory()[0]
    steps(500)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2000


# Bad input ------------------------------------------------------------------------------------

X, Y = np.zeros((5, 6, I)), np.zeros((5, O))


@pytest.mark.parametrize("x, y, lengths, error, words", [
    (X[0], Y, None, ValueError, r"x has shape \(6, 2\); expected \(batch, time, features\)"),
    (np.zeros((5, 6, 3)), Y, None, ValueError, "x has 3 features; expected 2"),
    (X.astype(complex), Y, None, TypeError, "x is complex128; expected real numbers"),
    (X.astype(object), Y, None, TypeError, "x is object; expected real numbers"),
    (X, Y[:4], None, ValueError, r"y has shape \(4, 4\), x has 5 sequences"),
    (X, Y[:, :1], None, ValueError, r"y has shape \(5, 1\), the predictions have shape \(5, 4\)"),
    (X, Y[:, 0], None, ValueError, r"y has shape \(5,\)"),
    (X, Y.astype(str), None, TypeError, "y is .*; expected real numbers"),
    (X, Y, [6, 6], ValueError, r"lengths have shape \(2,\); expected \(5,\)"),
    (X, Y, [6, 6, 6, 6, 7], ValueError, "lengths run from 6 to 7, x has 6 time steps"),
    (X, Y, [6, 6, 6, 6, -1], ValueError, "lengths run from -1 to 6"),
    (X, Y, [6.0] * 5, TypeError, "lengths are float64; expected integers"),
    (X[:0], Y[:0], None, ValueError, "nothing to average over|no sequence to learn from"),
])
def test_bad_arrays_change_nothing(x, y, lengths, error, words):
    model = make()
    model.loss_and_gradient(*batch(model))
    gradient = model.gradient.copy()
    with pytest.raises(error, match=words):
        model.loss_and_gradient(x, y, lengths)
    with pytest.raises(error, match=words):
        model.evaluate(x, y, lengths)
    with pytest.raises(error, match=words):
        model.fit(x, y, epochs=1, lengths=lengths)
    np.testing.assert_array_equal(model.gradient, gradient)


def test_one_bad_label_at_the_end_is_found_at_the_start():
    model = make(loss="cross_entropy")
    x, y = batch(model, n=100)
    y[-1] = O
    before = model.parameters.copy()
    with pytest.raises(ValueError, match=r"y has classes from 0 to 4, .* 4 classes"):
        model.fit(x, y, epochs=1, batch_size=1, rng=0)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("words, error, message", [
    ({"epochs": 1.5}, TypeError, "epochs is 1.5; expected an integer"),
    ({"epochs": -1}, ValueError, "epochs is -1; expected at least 0"),
    ({"epochs": 1, "batch_size": 0}, ValueError, "batch_size is 0; expected at least 1"),
    ({"epochs": 1, "optimizer": "adam"}, TypeError, "optimizer is 'adam'; expected an object with step"),
    ({"epochs": 1, "validation": X}, TypeError, "validation is ndarray; expected"),
    ({"epochs": 1, "validation": (X, Y[:2])}, ValueError, "y has shape"),
])
def test_bad_words_to_fit(words, error, message):
    model = make()
    before = model.parameters.copy()
    with pytest.raises(error, match=message):
        model.fit(*batch(model), **words)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("build, error, message", [
    (lambda: Model("lstm", 1), TypeError, "lstm is str; expected an LSTM"),
    (lambda: Model(LSTM(1, 2, batch_first=False), 1), ValueError, "batch_first=True"),
    (lambda: Model(LSTM(1, 2), 0), ValueError, "output_size is 0; expected at least 1"),
    (lambda: Model(LSTM(1, 2), 1.0), TypeError, "output_size is .*; expected an integer"),
    (lambda: Model(LSTM(1, 2), 1, loss="mad"), ValueError, "loss is 'mad'; expected one of mse, "),
    (lambda: Model(LSTM(1, 2), 1, loss=3), TypeError, "loss is 3; expected a name or one with"),
])
def test_bad_words_to_the_constructor(build, error, message):
    with pytest.raises(error, match=message):
        build()


# Copies and files -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"every_step": True}, {"pooling": "attention"}])
def test_a_notebook_shows_the_parts(options):
    """Well-formed, of a few lines, without what a repr might bring as markup."""

    class Marked(MeanSquaredError):
        def __repr__(self):
            return "<script>alert('&')</script>"

    model = Model(LSTM(3, 4, bidirectional=True, rng=0), 2, loss=Marked(), **options)
    text = model._repr_html_()
    table = ElementTree.fromstring(text)
    rows = [[cell.text or "" for cell in row] for row in table.iter("tr")][1:]
    assert sum(int(count) for *_, count in rows if count) == model.parameters.size
    assert rows[0][0] == repr(model.lstm) and rows[-1][0] == f"loss {model.loss!r}"
    shape = "(N, T, 2)" if model.every_step else "(N, 2)"
    assert rows[-2][:2] == ["linear readout", shape] and "<script" not in text and len(text) < 1000


@every_architecture
@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies_are_whole_and_independent(words, how):
    model = make(**words)
    x, y = batch(model)
    twin = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.parameters, model.parameters)
    assert repr(twin) == repr(model)
    expected = model.predict(x)
    np.testing.assert_array_equal(twin.predict(x), expected)
    twin.fit(x, y, epochs=1, optimizer=SGD(0.5))  # its views are views of its own vector
    assert not np.array_equal(twin.predict(x), expected)
    np.testing.assert_array_equal(model.predict(x), expected)


@every_architecture
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_a_saved_model_comes_back(words, dtype, loss, tmp_path):
    model = make(dtype=dtype, loss=loss, **words)
    model.save(tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == ["model.safetensors"]
    loaded = Model.load(str(tmp_path / "model.safetensors"))
    assert repr(loaded) == repr(model) and type(loaded.loss) is type(model.loss)
    np.testing.assert_array_equal(loaded.parameters, model.parameters)
    x, y = batch(model)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert loaded.loss_and_gradient(x, y) == model.loss_and_gradient(x, y)


def test_a_saved_model_is_an_open_file(tmp_path):
    model = make()
    model.save(tmp_path / "a.safetensors")
    model.save(tmp_path / "b.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    assert (tmp_path / "b.safetensors").read_bytes() == content
    length = int.from_bytes(content[:8], "little")
    entry = json.loads(content[8 : 8 + length])["lstm.weight_ih_l0"]
    begin, end = entry["data_offsets"]
    values = np.frombuffer(content[8 + length :][begin:end], "<f8").reshape(entry["shape"])
    np.testing.assert_array_equal(values, model.lstm["weight_ih_l0"])


def test_replace_file_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.txt"
    with replace_file(path) as temporary:
        assert not path.exists()
        with open(temporary, "w") as file:
            file.write("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["result.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o666 & ~umask
    with pytest.raises(KeyboardInterrupt), replace_file(path) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise KeyboardInterrupt
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["result.txt"]


def crafted(path, *, configuration=(), lstm=(), parameters=None, compress=False, **members):
    """Write a file as `save` wrote them before safetensors, with some of it changed."""
    model, buffer = make(), io.BytesIO()
    np.save(buffer, model.parameters)
    words = {
        "format": "lstm_ext.Model 2",
        "lstm": {name: getattr(model.lstm, name) for name in CONFIGURATION
                 if name not in ("dtype", "cell_activation", "precision")},
        "dtype": "float64", "output_size": O, "every_step": model.every_step, "loss": "mse",
    }
    inside = {"parameters.npy": buffer.getvalue()}
    words.update(configuration)
    words["lstm"].update(lstm)
    inside["configuration.json"] = json.dumps(words).encode()
    if parameters is not None:
        buffer = io.BytesIO()
        np.save(buffer, parameters)
        inside["parameters.npy"] = buffer.getvalue()
    inside |= {name.replace("_", "."): content for name, content in members.items()}
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in inside.items():
            if content is not None:
                archive.writestr(name, content)


N = make().parameters.size


def header(shape, descr="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


class Trap:
    """Unpickled, it raises something that is no ValueError."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize("words, message", [
    ({"parameters": np.zeros(N - 1)}, rf"parameters of shape \({N - 1},\), .* has {N}"),
    ({"parameters": np.zeros((N, 1))}, "parameters of shape"),
    ({"parameters": np.zeros(N, "f4")}, "parameters are float32, its dtype is float64"),
    ({"parameters": np.full(N, np.nan)}, "NaN or inf"),
    ({"parameters": np.zeros(N, "O")}, "parameters are object"),
    ({"parameters": np.array([Trap()] * N)}, "parameters are object"),
    ({"parameters_npy": pickle.dumps(Trap())}, "magic string"),
    ({"parameters_npy": header((N,))}, "parameters of shape"),
    ({"parameters_npy": header((10**15,))}, "parameters of shape"),
    ({"parameters_npy": header((N,)) + bytes(8 * N - 1)}, "parameters of shape"),
    ({"parameters_npy": None}, "must hold configuration.json and parameters.npy"),
    ({"extra_py": b"1"}, "must hold configuration.json and parameters.npy"),
    ({"compress": True}, "is compressed"),
    ({"configuration_json": b"{"}, "not JSON"),
    ({"configuration_json": b"[]"}, "list indices"),
    ({"configuration_json": b"\xff\xfe"}, "codec"),
    ({"configuration_json": b"[" * 9999}, "not JSON"),
    ({"configuration_json": b" " * 100_001}, "configuration.json is too long"),
    ({"configuration": {"format": "lstm_ext.Model 3"}}, "its format is lstm_ext.Model 3"),
    ({"configuration": {"format": "lstm_ext.Model 1"}}, "its LSTM is described by"),
    ({"configuration": {"dtype": "float16"}}, "its dtype is float16"),
    ({"configuration": {"loss": "exec"}}, "loss is .*; expected one of"),
    ({"configuration": {"output_size": 10**12}}, "a model of its sizes has"),
    ({"configuration": {"output_size": "x" * 9000}}, "output_size is .*; expected an integer"),
    ({"lstm": {"hidden_size": 10**9}}, "a model of its sizes has"),
    ({"lstm": {"hidden_size": 3.0}}, "hidden_size is 3.0; expected an integer"),
    ({"lstm": {"num_layers": 10**9}}, "num_layers is 1000000000; expected at most 65536"),
    ({"lstm": {"num_layers": 0}}, "num_layers is 0; expected at least 1"),
    ({"lstm": {"input_size": -2}}, "input_size is -2; expected at least 1"),
    ({"lstm": {"activations": ["relu7", "tanh", "tanh"]}}, "activations"),
    ({"lstm": {"peepholes": 1}}, "peepholes is 1; expected True or False"),
    ({"lstm": {"proj_size": 10**12}}, "a model of its sizes has"),
    ({"lstm": {"nan": "drop"}}, "nan is 'drop'"),
    ({"lstm": {"rng": 1}}, "its LSTM is described by"),
], ids=str)
def test_a_bad_file_is_one_valueerror_and_takes_no_memory(words, message, tmp_path):
    path = tmp_path / "bad.npz"
    crafted(path, **words)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as caught:
        Model.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert peak < 2_000_000


def test_the_crafted_file_is_good_when_nothing_is_changed(tmp_path):
    crafted(tmp_path / "good.npz")
    np.testing.assert_array_equal(Model.load(tmp_path / "good.npz").parameters, make().parameters)


def test_a_file_of_the_former_format(tmp_path):
    model = make(layers=2, bidirectional=True, cell_activation="identity")
    former = {"input_size": I, "hidden_size": H, "num_layers": 2, "bidirectional": True,
              "cell_activation": "identity", "checkpoint": None}
    configuration = {"format": "lstm_ext.Model 1", "lstm": former, "dtype": "float64", "output_size": O,
                     "every_step": False, "loss": "mse"}
    with zipfile.ZipFile(tmp_path / "old.npz", "w") as archive:
        archive.writestr("configuration.json", json.dumps(configuration))
        archive.writestr("parameters.npy", header((model.parameters.size,)) + model.parameters.tobytes())
    x, _ = batch(model)
    np.testing.assert_array_equal(Model.load(tmp_path / "old.npz").predict(x), model.predict(x))


def test_load_of_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        Model.load(tmp_path / "missing.npz")
    for content in (b"", b"PK\x03\x04", pickle.dumps(Trap()), b"\x93NUMPY"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(FormatError, match="other: it"):
            Model.load(tmp_path / "other")


def test_every_flipped_bit_of_a_saved_model_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    make().save(path)
    whole = path.read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for position in rng.permutation(8 * len(whole))[:1500]:
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(FormatError):
            Model.load(path)
        refused += 1
    assert refused == 1500
    for length in rng.integers(len(whole), size=100):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            Model.load(path)


@pytest.mark.parametrize("second", [
    lambda model: Model(model.lstm, 1), copy.copy,
    lambda model: Model.__new__(Model).__setstate__(model.__getstate__()),
], ids=["constructor", "shallow copy", "state"])
def test_an_lstm_belongs_to_one_model(second):
    """The second would take the LSTM's weights away, and the first would never train again."""
    model = Model(LSTM(2, 4, rng=0), 1, rng=0)
    x = np.random.default_rng(0).normal(size=(8, 5, 2))
    before = model.predict(x)
    with pytest.raises(ValueError, match=r"lstm is part of another Model.*copy\.deepcopy\(lstm\)"):
        second(model)
    np.testing.assert_array_equal(model.predict(x), before)
    history = model.fit(x, x.sum((1, 2))[:, None], epochs=20, rng=0)
    assert history[-1]["loss"] < history[0]["loss"]
    assert not np.array_equal(model.predict(x), before)
    other = copy.deepcopy(model)
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    lstm = model.lstm
    del model, other
    assert Model(lstm, 1).lstm is lstm  # nobody's any more


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss().outputs_per_target > 1])
def test_a_readout_of_the_wrong_width_is_refused_at_once(loss):
    each = LOSSES[loss]().outputs_per_target
    with pytest.raises(ValueError, match=rf"output_size is {each + 1}; expected {each} for each column"):
        Model(LSTM(2, 3), each + 1, loss=loss)
    Model(LSTM(2, 3), 2 * each, loss=loss)


def test_a_target_without_its_last_axis_is_told_how_to_get_one():
    model = Model(LSTM(2, 3, rng=0), 1, rng=0)
    with pytest.raises(ValueError, match=r"y has shape \(4,\), .* \(4, 1\): pass y\[..., None\]"):
        model.fit(np.zeros((4, 5, 2)), np.zeros(4), epochs=1)


def test_sequences_of_different_lengths_are_told_about_lengths():
    model = Model(LSTM(2, 3, rng=0), 1, rng=0)
    with pytest.raises(ValueError, match=r"x has rows of different lengths; .*lengths"):
        model.predict([np.zeros((5, 2)), np.zeros((3, 2))])


def test_a_data_set_is_prepared_once():
    """`loss_of` and `gradient_of` do what `evaluate` and `loss_and_gradient` do with arrays."""
    rng = np.random.default_rng(0)
    x, y, lengths = rng.normal(size=(7, 5, 3)), rng.normal(size=(7, 5, 2)), rng.integers(0, 6, 7)
    weight = rng.uniform(0, 2, (7, 5))
    model = Model(LSTM(3, 4, recurrent_dropout=0.3, dtype="float64", rng=0), 2, every_step=True, rng=0)
    assert model.stochastic and not Model(LSTM(3, 4, rng=0), 2).stochastic
    data = model.prepare(x, y, lengths, sample_weight=weight)
    index = np.array([5, 1, 2])
    arguments = x[index], y[index], lengths[index]
    assert model.loss_of(data[index]) == model.evaluate(*arguments, sample_weight=weight[index])
    loss = model.loss_and_gradient(*arguments, sample_weight=weight[index], seed=3)
    gradient = model.gradient.copy()
    model.gradient[...] = 0
    found, (h, c) = model.gradient_of(data[index], seed=3)
    assert found == loss and h.shape == c.shape == (1, 3, 4)
    np.testing.assert_array_equal(model.gradient, gradient)
    # Windows whose states are carried on make the loss of the whole.
    whole = model.prepare(x, y)
    first, state = model.gradient_of(whole.steps(0, 2, True))
    second, _ = model.gradient_of(whole.steps(2, 5, True), state=state)
    assert (2 * first + 3 * second) / 5 == pytest.approx(model.loss_of(whole), rel=1e-13)
    with pytest.raises(ValueError, match="y has shape"):
        model.prepare(x, y[:6])


def test_anything_with_the_methods_can_be_trained():
    """`training.fit` asks for a protocol, not for `Model`."""
    from lstm_ext.training import fit, fit_lbfgs

    class Line:
        """y = a x, with the methods of `training.Trainable`."""

        every_step, stochastic = False, False

        def __init__(self):
            self.theta, self.gradient = np.zeros(1), np.zeros(1)
            self.lstm = LSTM(1, 1, rng=0)
            self.model = Model(LSTM(1, 1, rng=0), 1, rng=0)

        @property
        def parameters(self):
            return self.theta

        @parameters.setter
        def parameters(self, values):
            self.theta[...] = values

        def prepare(self, x, y, lengths=None, **more):
            return self.model.prepare(x, y, lengths, **more)

        def loss_of(self, data):
            return float(((self.theta * data.x[:, 0] - data.y) ** 2).mean())

        def gradient_of(self, data, seed=None, state=None):
            error = self.theta * data.x[:, 0] - data.y
            self.gradient[...] = 2 * (error * data.x[:, 0]).mean()
            return float((error**2).mean()), None

    x = np.random.default_rng(0).normal(size=(40, 1, 1)).astype("f")
    for train in (lambda m: fit(m, x, 3 * x[:, 0], epochs=30, batch_size=10, rng=0, optimizer=SGD(0.2)),
                  lambda m: fit_lbfgs(m, x, 3 * x[:, 0])):
        line = Line()
        train(line)
        assert line.theta[0] == pytest.approx(3, abs=1e-4)
    with pytest.raises(TypeError, match=r"comm is .*; expected a DataParallel"):
        fit(Line(), x, x[:, 0], epochs=1, comm=object())
