"""Keras 3's weights: parity with Keras's own output, from arrays, layers and files; refusals."""

import importlib.util
import itertools
import json
import os

import numpy as np
import pytest
from harness import TOLERANCE, assert_close
from make_keras_outputs import allow_float64, committed, models, sequential

from lstm_ext import LSTM, Model
from lstm_ext.io import FormatError, from_keras, to_keras

CASES = committed()
KERAS_3 = ("hard_sigmoid", 1 / 6, 0.5)
# What .weights.h5 does not say.
SAID = {
    "hard sigmoid": {"recurrent_activation": KERAS_3, "activation": "softsign"},
    "backwards": {"go_backwards": True},
    "three and a head for each step": {"every_step": True},
}


@pytest.fixture(scope="module")
def keras():
    before = os.environ.get("KERAS_BACKEND")
    # Keras's NumPy backend imports JAX since 3.15: without it, PyTorch's.
    there = importlib.util.find_spec("jax") or not importlib.util.find_spec("torch")
    os.environ["KERAS_BACKEND"] = before or ("numpy" if there else "torch")
    try:
        module = pytest.importorskip("keras", reason="Keras is not installed: its committed outputs are used")
        allow_float64()
        yield module
    finally:
        if before is None:
            del os.environ["KERAS_BACKEND"]


def called(layer, *given, **words):
    """Return what a layer or model of Keras computes, as an array, whatever its backend is."""
    value = layer(*given, **words)
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)


def output(obj, x, sequences):
    """What the Keras model of the same layers returns."""
    if isinstance(obj, Model):
        return obj.predict(x)
    y, (h_n, _) = obj(x)
    return y if sequences else np.concatenate(list(h_n[-(1 + obj.bidirectional):]), axis=-1)


# ---- files that Keras wrote, without Keras


@pytest.mark.parametrize("word", ["keras", "weights.h5"])
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_file_of_keras_gives_its_committed_output(case, word, tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed: the extra io")
    name, dtype = case
    path = tmp_path / f"model.{word}"
    path.write_bytes(CASES[case][word])
    obj = from_keras(path, **(SAID.get(name, {}) if word == "weights.h5" else {}))
    lstm = obj.lstm if isinstance(obj, Model) else obj
    assert lstm.dtype == dtype
    assert_close(output(obj, CASES[case]["x"], name == "sequences"), CASES[case]["y"], TOLERANCE[dtype])


@pytest.mark.parametrize("swap", list(itertools.combinations("ifco", 2)), ids="".join)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["kernel", "recurrent_kernel", "bias"])
def test_two_gates_in_the_wrong_order_are_seen(which, swap, tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed: the extra io")
    case = CASES["lstm", "float64"]
    (tmp_path / "model.keras").write_bytes(case["keras"])
    weights = to_keras(from_keras(tmp_path / "model.keras"))
    order = ["ifco".index({swap[0]: swap[1], swap[1]: swap[0]}.get(gate, gate)) for gate in "ifco"]
    parts = np.split(weights[which], 4, axis=-1)
    weights[which] = np.concatenate([parts[k] for k in order], axis=-1)
    assert np.abs(output(from_keras(weights), case["x"], False) - case["y"]).max() > 1e-3


# ---- Keras at hand


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", models(None))
def test_layers_and_models_of_keras_give_the_same_numbers(name, dtype, keras, tmp_path):
    model = sequential(keras, name, dtype, seed=3)
    x = np.random.default_rng(2).normal(size=(3, 5, 2)).astype(dtype)
    expected = called(model, x)
    model.save(tmp_path / "a.keras")
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    for source in (model, layers, tmp_path / "a.keras"):
        obj = from_keras(source)
        assert obj.parameters.dtype == expected.dtype == dtype
        assert_close(output(obj, x, name == "sequences"), expected, TOLERANCE[dtype])
    if len(layers) == 1:
        assert repr(from_keras(layers[0])) == repr(obj)
    weights = from_keras(model.get_weights(), bidirectional="bidirectional" in name, **SAID.get(name, {}))
    assert weights.parameters.tobytes() == obj.parameters.tobytes()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", models(None))
def test_what_to_keras_gives_keras_takes_and_gives_back_bit_for_bit(name, dtype, keras):
    model = sequential(keras, name, dtype, seed=4)
    before = model.get_weights()
    obj = from_keras(model)
    weights = to_keras(obj)
    assert [w.tobytes() for w in weights] == [w.tobytes() for w in before]
    obj.parameters = np.random.default_rng(5).normal(size=obj.parameters.shape)
    model.set_weights(to_keras(obj))
    x = np.random.default_rng(2).normal(size=(3, 5, 2)).astype(dtype)
    assert_close(output(obj, x, name == "sequences"), called(model, x), TOLERANCE[dtype])


@pytest.mark.parametrize("activation", [
    "sigmoid", "tanh", "linear", "relu", "relu6", "hard_tanh", "elu", "selu", "softsign", "softplus",
    "exponential", "silu", "swish", "gelu", "mish", "hard_silu", "hard_swish", "leaky_relu", "hard_sigmoid",
    None,
])
def test_every_activation_is_the_same_function(activation, keras):
    for words in ({"activation": activation}, {"recurrent_activation": activation}):
        layer = keras.layers.LSTM(3, **words, return_sequences=True, dtype="float64")
        layer.build((None, None, 2))
        rng = np.random.default_rng(0)
        layer.set_weights([0.3 * rng.normal(size=w.shape) for w in layer.get_weights()])
        x = 0.5 * rng.normal(size=(3, 4, 2))
        assert_close(from_keras(layer)(x)[0], called(layer, x), 1e-12, activation)


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", "celu", "squareplus", "hard_shrink", "glu"])
def test_an_activation_that_is_not_here_is_refused(activation, keras):
    layer = keras.layers.LSTM(3, activation=activation)
    layer.build((None, None, 2))
    with pytest.raises(FormatError, match=f"activation is .*{activation}.*; expected one of sigmoid"):
        from_keras(layer)


REFUSED = {
    "dropout": ({"dropout": 0.1}, r"dropout=0\.1: it drops inputs, .*ignore=\('dropout',\) gives it up"),
    "recurrent_dropout": ({"recurrent_dropout": 0.1}, "recurrent_dropout=0.1: it draws a mask for each gate"),
    "stateful": ({"stateful": True}, "LSTM has stateful=True: the LSTM here keeps no state"),
    "kernel_regularizer": ({"kernel_regularizer": "l2"}, "kernel_regularizer=.*: no loss or optimiser here"),
    "recurrent_constraint": ({"recurrent_constraint": "non_neg"}, "LSTM has recurrent_constraint="),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_here_is_refused_unless_it_is_given_up(name, keras):
    words, sentence = REFUSED[name]
    model = keras.Sequential([keras.Input((4, 2), batch_size=2), keras.layers.LSTM(3, **words)])
    with pytest.raises(FormatError, match=sentence):
        from_keras(model)
    x = np.random.default_rng(0).normal(size=(2, 4, 2)).astype("float32")
    assert_close(output(from_keras(model, ignore=(name,)), x, False), called(model, x), 1e-5)


def stacks(layers):
    """Layers that are no LSTM here, and what is said."""
    def lstm(units=3, **words):
        return layers.LSTM(units, **{"return_sequences": True, **words})

    return {
        "narrower at the end": ([lstm(4), lstm()], "the last LSTM layer has units 3, another 4; expected"),
        "Flatten of steps": ([lstm(), layers.Flatten()], "a layer Flatten that joins steps and features"),
        "Reshape": (
            [lstm(4, return_sequences=False), layers.Reshape((2, 2))],
            r"a layer Reshape to \[2, 2\]; expected",
        ),
        "Reshape first": ([layers.Reshape((-1, 1)), lstm()], "a layer Reshape that joins steps and features"),
        "RNN of a GRU": ([layers.RNN(layers.GRUCell(3))], "RNN holds GRUCell; expected LSTMCell"),
        "other activations": ([lstm(), lstm(activation="relu")], "the LSTM layers have activations"),
        "other bias": ([lstm(), lstm(use_bias=False)], "the LSTM layers have use_bias True and False"),
        "other directions": (
            [lstm(), layers.Bidirectional(lstm())], "the LSTM layers have directions False and True"
        ),
        "go_backwards later": (
            [lstm(), lstm(go_backwards=True)], "an LSTM layer that is not the first has go_backwards=True"
        ),
        "go_backwards with sequences": (
            [lstm(go_backwards=True)], "has go_backwards=True and return_sequences=True: Keras gives"
        ),
        "merge_mode": ([layers.Bidirectional(lstm(), merge_mode="sum")], "has merge_mode='sum'; expected"),
        "bidirectional GRU": ([layers.Bidirectional(layers.GRU(3))], "Bidirectional"),
        "GRU": ([layers.GRU(3)], "there is a layer GRU; expected LSTM or Bidirectional, and Dense"),
        "Dense first": ([layers.Dense(3), lstm()], "there is a layer LSTM after a Dense"),
        "two Dense": (
            [lstm(), layers.Dense(3, activation="relu", name="hidden"), layers.Dense(3)],
            "the Dense hidden has activation=relu",
        ),
        "softmax within": (
            [lstm(), layers.Dense(3, activation="softmax", name="hidden"), layers.Dense(3)],
            "the Dense hidden has activation=softmax and another Dense after it.*compute the Dense layers",
        ),
        "Dense with relu": (
            [lstm(return_sequences=False), layers.Dense(3, activation="relu", name="out")],
            r"the Dense out has activation=relu.*ignore=\('head_activation',\)",
        ),
        "LSTM after a pooling": (
            [lstm(), layers.GlobalMaxPooling1D(keepdims=True), lstm()], "GlobalMaxPooling1D keeps its axis"),
        "pooling alone": ([lstm(), layers.GlobalMaxPooling1D()], "a pooling without a Dense"),
        "pooling twice": (
            [lstm(return_sequences=False), layers.Reshape((3, 1)), layers.GlobalMaxPooling1D()],
            "Reshape to|does not follow an LSTM"),
        "Masking": ([layers.Masking(), lstm()], r"there is a layer Masking.*ignore=\('masking',\) leaves"),
        "Dropout": ([lstm(), layers.Dropout(0.1)], r"there is a layer Dropout.*ignore=\('dropout',\)"),
        "no LSTM": ([layers.Dense(3)], "there is no LSTM"),
        "float16": ([lstm(dtype="mixed_float16")], "LSTM computes in mixed_float16; expected float32"),
    }


@pytest.mark.parametrize("name", [
    "narrower at the end", "Flatten of steps", "Reshape", "Reshape first", "RNN of a GRU",
    "other activations", "other bias", "other directions", "go_backwards later",
    "go_backwards with sequences", "merge_mode", "bidirectional GRU", "GRU", "Dense first", "two Dense",
    "softmax within", "Dense with relu", "LSTM after a pooling", "pooling alone", "pooling twice",
    "Masking", "Dropout", "no LSTM", "float16",
])
def test_layers_that_are_no_lstm_here_are_refused_by_a_sentence(name, keras, tmp_path):
    layers, sentence = stacks(keras.layers)[name]
    model = keras.Sequential([keras.Input((None, 2)), *layers])
    model.save(tmp_path / "a.keras")
    for source in (model, tmp_path / "a.keras"):
        with pytest.raises(FormatError, match=sentence):
            from_keras(source)


def test_what_is_given_up_leaves_the_rest_exact(keras):
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((None, 2)), layers.LSTM(3, return_sequences=True), layers.Dropout(0.5), layers.LSTM(3),
        layers.Dense(4, activation="softmax"),
    ])
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
    logits = from_keras(model, ignore=("dropout", "head_activation"), loss="cross_entropy").predict(x)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert_close(shares, called(model, x), 1e-5)


def heads(layers):
    """Layers after an LSTM of all steps, and what their model has: loss, pooling, what comes after."""
    softmax = lambda a: np.exp(a) / np.exp(a).sum(-1, keepdims=True)  # noqa: E731
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    return {
        "two linear": ([layers.Dense(4), layers.Dense(2)], "mse", "last", None),
        "three linear": (
            [layers.Dense(4), layers.TimeDistributed(layers.Dense(6, use_bias=False)), layers.Dense(2)],
            "mse", "last", None),
        "softmax": ([layers.Dense(3, activation="softmax")], "cross_entropy", "last", softmax),
        "linear, sigmoid": (
            [layers.Dense(3), layers.Dense(2, activation="sigmoid")],
            "binary_cross_entropy", "last", sigmoid),
        "mean": ([layers.GlobalAveragePooling1D(), layers.Dense(2)], "mse", "mean", None),
        "max, two linear": (
            [layers.GlobalMaxPooling1D(), layers.Dense(4), layers.Dense(2)], "mse", "max", None),
        "mean, softmax": (
            [layers.GlobalAveragePooling1D(), layers.Flatten(), layers.Dense(3, activation="softmax")],
            "cross_entropy", "mean", softmax),
    }


@pytest.mark.parametrize("name", [
    "two linear", "three linear", "softmax", "linear, sigmoid", "mean", "max, two linear", "mean, softmax",
])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_follows_an_lstm_is_a_readout_pooling_and_loss(name, bidirectional, keras, tmp_path):
    from lstm_ext.losses import LOSSES

    after, loss, pooling, function = heads(keras.layers)[name]
    lstm = keras.layers.LSTM(3, return_sequences=True)
    lstm = keras.layers.Bidirectional(lstm) if bidirectional else lstm
    model = keras.Sequential([keras.Input((None, 2)), lstm, *after])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    x = rng.normal(size=(3, 5, 2)).astype("float32")
    model.save(tmp_path / "a.keras")
    for source in (model, tmp_path / "a.keras"):
        mine = from_keras(source)
        assert type(mine.loss) is LOSSES[loss]
        assert mine.pooling == pooling
        assert mine.every_step == (pooling == "last")
        predicted = mine.predict(x)
        assert_close(predicted if function is None else function(predicted), called(model, x), 1e-5)


def test_layers_with_digits_in_their_names_are_found_in_a_file(keras, tmp_path):
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((None, 2)), layers.SpatialDropout1D(0.5), layers.LSTM(3), layers.Dense(2)])
    model.save(tmp_path / "a.keras")
    again = from_keras(tmp_path / "a.keras", ignore=("dropout",))
    assert np.array_equal(again.parameters, from_keras(model, ignore=("dropout",)).parameters)


def test_a_loss_that_is_given_must_be_that_of_the_activation(keras):
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(3), keras.layers.Dense(
        2, activation="softmax", name="out")])
    assert type(from_keras(model, loss="cross_entropy").loss).__name__ == "CrossEntropy"
    with pytest.raises(FormatError, match="the Dense out has activation=softmax"):
        from_keras(model, loss="mse")
    given_up = from_keras(model, loss="mse", ignore=("head_activation",))
    assert type(given_up.loss).__name__ == "MeanSquaredError"


def test_several_dense_of_arrays_do_not_say_their_activations(keras):
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(3), keras.layers.Dense(
        4), keras.layers.Dense(2)])
    with pytest.raises(FormatError, match="activation=not known"):
        from_keras(model.get_weights())


def chains(keras):
    """Models that are an LSTM here, though Keras has other words for them."""
    layers = keras.layers

    def functional(*chain, steps=None):
        inputs = value = keras.Input((steps, 2))
        for layer in chain:
            value = layer(value)
        return keras.Model(inputs, value)

    def lstm(units=3, **words):
        return layers.LSTM(units, return_sequences=True, **words)

    return {
        "functional": lambda: functional(lstm(), layers.LSTM(3), layers.Dense(2)),
        "functional, out of order": lambda: out_of_order(keras),
        "wider, then narrower": lambda: functional(lstm(3), lstm(6), layers.LSTM(4), layers.Dense(2)),
        "widths, sequences": lambda: keras.Sequential(
            [keras.Input((None, 2)), lstm(6), lstm(4), layers.TimeDistributed(layers.Dense(2))]),
        "bidirectional widths": lambda: keras.Sequential([
            keras.Input((None, 2)), layers.Bidirectional(lstm(5)), layers.Bidirectional(layers.LSTM(3)),
            layers.Dense(2, use_bias=False)]),
        "a cell": lambda: functional(layers.RNN(layers.LSTMCell(4)), layers.Flatten(), layers.Dense(2)),
        "cells": lambda: functional(
            layers.RNN([layers.LSTMCell(4), layers.LSTMCell(5)], return_sequences=True), layers.Dense(2)),
        "cells backwards": lambda: functional(
            layers.RNN([layers.LSTMCell(4, use_bias=False) for _ in range(2)], go_backwards=True),
            layers.Dense(2)),
        "a cell in Bidirectional": lambda: functional(layers.Bidirectional(layers.RNN(layers.LSTMCell(4)))),
        "reshapes": lambda: functional(
            lstm(), layers.Reshape((5, 3)), layers.LSTM(4), layers.Reshape((4,)), layers.Dense(2),
            layers.Reshape((-1,)), steps=5),
    }


def out_of_order(keras):
    """Return a functional model whose file does not list the layers as they follow one another."""
    layers = keras.layers
    inputs = keras.Input((None, 2), name="z")
    first = layers.LSTM(3, return_sequences=True, name="second")
    second = layers.LSTM(3, name="first")
    return keras.Model(inputs, layers.Dense(2, name="a")(second(first(inputs))))


CHAINS = [
    "functional", "functional, out of order", "wider, then narrower", "widths, sequences",
    "bidirectional widths", "a cell", "cells", "cells backwards", "a cell in Bidirectional", "reshapes",
]


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("source", ["model", "keras", "h5"])
def test_other_words_for_an_lstm(name, source, keras, tmp_path):
    model = chains(keras)[name]()
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    x = rng.normal(size=(3, 5, 2)).astype("float32")
    given = model
    if source != "model":
        given = tmp_path / f"a.{source}"
        model.save(given)
    obj = from_keras(given)
    assert_close(output(obj, x, False), called(model, x), 1e-5)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_functional_models_that_are_no_chain_are_refused_by_the_layer(keras, tmp_path):
    layers = keras.layers
    inputs, other = keras.Input((None, 2)), keras.Input((None, 2), name="other")
    shared = layers.LSTM(3, return_sequences=True, name="shared")
    models = {
        "layer shared is called 2 times": keras.Model(inputs, layers.Add()([shared(inputs), shared(inputs)])),
        "reads 2 tensors": keras.Model([inputs, other], layers.LSTM(3)(layers.Add()([inputs, other]))),
        "the model has 2 outputs": keras.Model(inputs, [layers.LSTM(3)(inputs), layers.LSTM(3)(inputs)]),
        "reads 3 tensors": keras.Model(inputs, layers.LSTM(3)(
            inputs, initial_state=[layers.Dense(3)(inputs[:, 0]) for _ in range(2)])),
    }
    for k, (said, model) in enumerate(models.items()):
        for ending in ("keras", "h5"):
            model.save(tmp_path / f"{k}.{ending}")
            with pytest.raises(FormatError, match=said):
                from_keras(tmp_path / f"{k}.{ending}")
        with pytest.raises(FormatError, match=said):
            from_keras(model)
    assert from_keras([models["the model has 2 outputs"].layers[1]]).hidden_size == 3


def test_files_of_keras_2_are_read_as_it_wrote_them(tmp_path):
    """Names, attributes and nodes of Keras 2.15; its hard_sigmoid is another function."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype("float32") for shape in ((2, 12), (3, 12), (12,), (3, 2), (2,))]
    lstm = {
        "name": "lstm", "trainable": True, "dtype": "float32", "return_sequences": False,
        "return_state": False, "go_backwards": False, "stateful": False, "unroll": False, "time_major": False,
        "units": 3, "activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True,
        "unit_forget_bias": True, "kernel_initializer": {"class_name": "GlorotUniform"},
        "kernel_regularizer": None, "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 2,
    }
    dense = {"name": "dense", "dtype": "float32", "units": 2, "activation": "linear", "use_bias": True}
    layers = [
        {"class_name": "InputLayer", "name": "input_1", "inbound_nodes": [],
         "config": {"batch_input_shape": [None, None, 2], "name": "input_1"}},
        {"class_name": "Dense", "name": "dense", "config": dense, "inbound_nodes": [[["lstm", 0, 0, {}]]]},
        {"class_name": "LSTM", "name": "lstm", "config": lstm, "inbound_nodes": [[["input_1", 0, 0, {}]]]},
    ]
    configuration = {"class_name": "Functional", "config": {
        "name": "model", "layers": layers, "input_layers": [["input_1", 0, 0]],
        "output_layers": [["dense", 0, 0]],
    }}
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: the extra io")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update(keras_version="2.15.0", model_config=json.dumps(configuration))
        weights = file.create_group("model_weights")
        for layer, names, own in (
            ("lstm", ["kernel", "recurrent_kernel", "bias"], arrays[:3]),
            ("dense", ["kernel", "bias"], arrays[3:]),
        ):
            group = weights.create_group(layer)
            paths = [f"{layer}/{'lstm_cell/' if layer == 'lstm' else ''}{name}:0" for name in names]
            group.attrs["weight_names"] = [path.encode() for path in paths]
            for path, array in zip(paths, own, strict=True):
                group[path] = array
    mine = from_keras(tmp_path / "a.h5")
    same = from_keras(arrays, recurrent_activation=("hard_sigmoid", 0.2, 0.5))
    assert np.array_equal(mine.parameters, same.parameters) and repr(mine) == repr(same)


def test_masks_of_keras_are_lengths_here(keras):
    inner = keras.layers.LSTM(3, return_sequences=True)
    layer = keras.layers.Bidirectional(inner)
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
    lengths = np.array([5, 2, 3])
    expected = called(layer, x, mask=np.arange(5) < lengths[:, None])
    assert_close(from_keras(layer)(x, lengths=lengths)[0], expected, 1e-5)


@pytest.mark.parametrize("name", [
    "last", "every_step", "mean", "max", "attention", "bidirectional", "bidirectional mean", "reverse",
    "lstm", "activations",
])
def test_a_model_of_keras_computes_what_predict_does(name, keras):
    words = {"num_layers": 2} if name != "attention" else {}
    words |= {"bidirectional": True} if "bidirectional" in name else {}
    words |= {"reverse": True} if name == "reverse" else {}
    if name == "activations":
        words["activations"] = (KERAS_3, "identity", "identity")
    pooling = next((own for own in ("mean", "max", "attention") if own in name), "last")
    lstm = LSTM(2, 4, **words)
    obj = lstm if name == "lstm" else Model(lstm, 3, every_step=name == "every_step", pooling=pooling)
    obj.parameters = np.random.default_rng(0).normal(size=obj.parameters.shape) / 2
    x = np.random.default_rng(1).normal(size=(3, 5, 2)).astype("float32")
    assert_close(called(to_keras(obj, model=True), x), output(obj, x, name == "lstm"), 1e-5)


def test_what_keras_gives_in_another_order_is_no_model(keras):
    with pytest.raises(ValueError, match="the LSTM has reverse=True and its outputs at all steps are read"):
        to_keras(LSTM(2, 3, reverse=True), model=True)
    with pytest.raises(ValueError, match="pooling is 'mean'; expected 'last' for weights"):
        to_keras(Model(LSTM(2, 3), 1, pooling="mean"))


# ---- arrays


WEIGHTS = to_keras(LSTM(2, 3, rng=0))


def test_arrays_say_what_they_are_by_their_shapes():
    model = Model(LSTM(3, 3, 2, bidirectional=True, rng=0), 2, rng=0)  # I = H: kernels look like the others
    again = from_keras(to_keras(model), bidirectional=True)
    assert repr(again) == repr(model) and again.parameters.tobytes() == model.parameters.tobytes()
    stack = LSTM(3, 3, 4, bias=False, rng=0)
    again = from_keras(to_keras(stack))
    assert repr(again) == repr(stack) and again.parameters.tobytes() == stack.parameters.tobytes()


def test_the_order_in_keras_is_kernel_recurrent_kernel_bias_transposed():
    lstm = LSTM(2, 3, rng=0)
    kernel, recurrent, bias = to_keras(lstm)
    assert np.array_equal(kernel, lstm["weight_ih_l0"].T)
    assert np.array_equal(recurrent, lstm["weight_hh_l0"].T)
    assert np.array_equal(bias, lstm["bias_l0"])
    kernel += 1
    assert lstm["weight_ih_l0"].max() < 1


@pytest.mark.parametrize("word", ["activation", "recurrent_activation"])
def test_a_hard_sigmoid_of_an_unknown_version_is_refused(word):
    with pytest.raises(FormatError, match=r"is x/6 \+ 1/2 within 0 and 1 in Keras 3, and x/5 \+ 1/2 in what"):
        from_keras(WEIGHTS, **{word: "hard_sigmoid"})
    for function in (KERAS_3, ("hard_sigmoid", 0.2, 0.5)):
        assert function in from_keras(WEIGHTS, **{word: function}).activations


def test_a_layer_of_keras_2_has_the_hard_sigmoid_of_keras_2(monkeypatch):
    class Layer:
        def get_config(self):
            return {"units": 3, "use_bias": True, "activation": "tanh", "return_sequences": False,
                    "recurrent_activation": "hard_sigmoid", "go_backwards": False}

        def get_weights(self):
            return WEIGHTS

    Layer.__name__, Layer.__module__ = "LSTM", "tf_keras.src.layers"
    for version, slope in (("2.15.0", 0.2), ("3.1.0", 1 / 6)):
        module = type(os)("tf_keras")
        module.__version__ = version
        monkeypatch.setitem(__import__("sys").modules, "tf_keras", module)
        assert from_keras(Layer()).activations[0] == ("hard_sigmoid", slope, 0.5)
    monkeypatch.delitem(__import__("sys").modules, "tf_keras")
    with pytest.raises(FormatError, match="recurrent_activation is 'hard_sigmoid'"):
        from_keras(Layer())


@pytest.mark.parametrize(("arrays", "words", "error", "sentence"), [
    (WEIGHTS[:1], {}, FormatError, "there is no LSTM"),
    ([WEIGHTS[0].T, *WEIGHTS[1:]], {}, FormatError, "LSTM"),
    ([WEIGHTS[0], WEIGHTS[1], WEIGHTS[2][:-1]], {}, FormatError, "the Dense has other arrays than a kernel"),
    ([w.astype("float16") for w in WEIGHTS], {}, FormatError, "is float16; expected float32 or float64"),
    ([w + np.inf for w in WEIGHTS], {}, FormatError, "weight_ih_l0 holds NaN or inf"),
    (WEIGHTS, {"bidirectional": True}, FormatError, "Bidirectional has 3 arrays"),
    (WEIGHTS, {"activation": "softmax"}, FormatError, "activation is softmax; expected one of sigmoid"),
    (WEIGHTS, {"ignore": ("units",)}, ValueError, r"ignore is .*; expected a tuple of some of"),
    (WEIGHTS, {"ignore": "dropout"}, ValueError, "ignore is 'dropout'; expected a tuple of some of"),
    ([], {}, TypeError, "source is list; expected layers, arrays or a path"),
    (3, {}, TypeError, "source is int; expected layers, arrays or a path"),
])
def test_what_is_no_lstm_is_refused_by_a_sentence(arrays, words, error, sentence):
    with pytest.raises(error, match=sentence):
        from_keras(arrays, **words)


def test_an_argument_that_the_source_answers_is_refused(keras, tmp_path):
    model = sequential(keras, "lstm", "float32")
    model.save(tmp_path / "a.keras")
    for source in (model, tmp_path / "a.keras"):
        for words in ({"activation": "relu"}, {"go_backwards": True}, {"bidirectional": True}):
            with pytest.raises(ValueError, match=r"was given, and the (layers|file)"):
                from_keras(source, **words)


@pytest.mark.parametrize(("name", "options"), [
    ("peepholes", {"peepholes": True}), ("coupled_gates", {"coupled_gates": True}),
    ("proj_size", {"proj_size": 2}), ("cell_clip", {"cell_clip": 1.0}), ("gate_clip", {"gate_clip": 1.0}),
    ("layer_norm", {"layer_norm": True}),
    ("zoneout", {"zoneout": (0.1, 0.0)}), ("static_size", {"static_size": 2}), ("nan", {"nan": "hold"}),
    ("learn_state", {"learn_state": True}), ("LSTM with activations", {"cell_activation": "identity"}),
    ("LSTM with activations", {"activations": (("hard_sigmoid", 0.2, 0.5), "tanh", "tanh")}),
    ("LSTM with activations", {"activations": ("sigmoid", "leaky_relu", "leaky_relu")}),
])
def test_an_option_that_keras_does_not_have_is_refused(name, options):
    with pytest.raises(ValueError, match=f"Keras.* has no {name}"):
        to_keras(LSTM(2, 3, **options))


def test_options_that_keras_has_are_no_part_of_its_weights():
    leaky = ("leaky_relu", 0.2)
    for options in ({"reverse": True}, {"activations": (KERAS_3, "relu", "relu")},
                    {"activations": ("sigmoid", leaky, leaky)}, {"dropout": 0.1, "num_layers": 2}):
        assert np.array_equal(to_keras(LSTM(2, 3, **options, rng=0))[0], WEIGHTS[0])
