"""TFLite files: as the schema says, with the results of LiteRT, and as TensorFlow's converter writes them."""

import os

import numpy as np
import pytest
import tflite_files
from harness import assert_close

from lstm_ext import LSTM, Model
from lstm_ext.io import FormatError, from_keras, from_tflite

MODELS = {
    "last": ({}, {}),
    "every step": ({}, {"every_step": True}),
    "three layers": ({"num_layers": 3}, {}),
    "bidirectional": ({"bidirectional": True}, {}),
    "bidirectional, two layers, every step": ({"bidirectional": True, "num_layers": 2}, {"every_step": True}),
    "bidirectional, mean": ({"bidirectional": True}, {"pooling": "mean"}),
    "reverse": ({"reverse": True}, {}),
    "peepholes": ({"peepholes": True}, {}),
    "no clip": ({"cell_clip": None}, {}),
    "a clip that matters": ({"cell_clip": 0.25}, {}),
    "relu, mean": ({"activations": ("sigmoid", "relu", "relu")}, {"pooling": "mean"}),
    "two layers, max": ({"num_layers": 2}, {"pooling": "max"}),
}


def made(name):
    """Return a Model of asymmetric weights."""
    words, more = MODELS[name]
    model = Model(LSTM(3, 5, dtype="float32", rng=0, **{"cell_clip": 10.0, **words}), 2, rng=1, **more)
    model.parameters = np.random.default_rng(2).normal(size=model.parameters.shape)
    return model


@pytest.mark.parametrize("reverse_first", [True, False], ids=["backward first", "forward first"])
@pytest.mark.parametrize("name", MODELS)
def test_a_written_model_is_read_bit_for_bit(name, reverse_first, tmp_path):
    model = made(name)
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_files.of_model(model, (2, 6, 3), reverse_first=reverse_first).content())
    again = from_tflite(path)
    assert repr(again) == repr(model)
    assert again.parameters.tobytes() == model.parameters.tobytes()
    assert from_tflite(path.read_bytes()).parameters.tobytes() == model.parameters.tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_litert_computes_the_same_numbers(name):
    model = made(name)
    content = tflite_files.of_model(model, (2, 6, 3)).content()
    run = tflite_files.interpreter(content)
    if run is None:
        pytest.skip("neither ai-edge-litert nor tensorflow is installed")
    x = np.random.default_rng(3).normal(size=(2, 6, 3)).astype("float32")
    assert_close(from_tflite(content).predict(x), run(x), 1e-5)


def lstm_file(change=None, *, time_major=False, coupled=False):
    """Return a file of an LSTM alone, and its weights (W, U, b, None)."""
    rng = np.random.default_rng(4)
    weights = tuple(rng.normal(size=shape).astype("float32") for shape in ((20, 3), (20, 5), 20))
    file = tflite_files.File()
    shape = (6, 2) if time_major else (2, 6)
    x = file.input((*shape, 3))

    def inputs_changed(inputs):
        for place in (1, 5, 12) if coupled else ():
            inputs[place] = -1
        if change is not None:
            change(inputs, file)

    file.outputs = [file.lstm(
        x, (*weights, None), (*shape, 5), clip=0.0, time_major=time_major, change=inputs_changed)]
    return file.content(), weights


def test_time_major_is_batch_first_false():
    content, (W, U, b) = lstm_file(time_major=True)
    lstm = from_tflite(content)
    assert isinstance(lstm, LSTM) and not lstm.batch_first
    for name, array in (("weight_ih_l0", W), ("weight_hh_l0", U), ("bias_l0", b)):
        assert np.array_equal(lstm[name], array)


def test_a_coupled_input_gate_is_one_less_the_forget_gate():
    content, (W, U, b) = lstm_file(coupled=True)
    lstm = from_tflite(content)
    assert lstm.coupled_gates
    x = np.random.default_rng(3).normal(size=(2, 6, 3)).astype("float32")
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    h, c, y = np.zeros((2, 5)), np.zeros((2, 5)), []
    for t in range(6):
        _, f, g, o = np.split(x[:, t] @ W.T + h @ U.T + b, 4, axis=-1)
        c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        y.append(h)
    assert_close(lstm(x)[0], np.stack(y, 1), 1e-5)
    run = tflite_files.interpreter(content)
    if run is not None:
        assert_close(lstm(x)[0], run(x), 1e-5)


def test_float16_is_read_as_the_same_numbers():
    halves = []

    def change(inputs, file):
        for place in (1, 2, 3, 4):
            array = np.frombuffer(file.buffers[file.tensors[inputs[place]][2][1]][0], "f4").reshape(5, 3)
            halves.append(array.astype("f2"))
            inputs[place] = file.operator("DEQUANTIZE", [file.constant(halves[-1])], (5, 3))

    content, _ = lstm_file(change)
    assert np.array_equal(from_tflite(content)["weight_ih_l0"], np.concatenate(halves).astype("f4"))


@pytest.mark.parametrize("function, loss", [("SOFTMAX", "CrossEntropy"), ("LOGISTIC", "BinaryCrossEntropy")])
def test_a_function_of_the_outputs_is_a_loss(function, loss):
    options = {0: ("f", 1.0)} if function == "SOFTMAX" else None
    file = tflite_files.of_model(
        made("last"), (1, 4, 3),
        last=lambda file, value, shape: file.operator(function, [value], shape, options),
    )
    model = from_tflite(file.content())
    assert type(model.loss).__name__ == loss
    assert model.parameters.tobytes() == made("last").parameters.tobytes()


def test_what_is_refused_names_the_operator_and_what_to_do(tmp_path):
    def relu(file, value, shape):
        return file.operator("RELU", [value], shape)

    content = tflite_files.of_model(made("last"), (1, 4, 3), last=relu).content()
    with pytest.raises(FormatError, match=r"operator 3 \(RELU\).*convert what goes into it"):
        from_tflite(content)
    (tmp_path / "a.tflite").write_bytes(content)
    with pytest.raises(FormatError, match="from_tflite reads"):
        from_keras(tmp_path / "a.tflite")
    with pytest.raises(TypeError, match="source is int"):
        from_tflite(1)
    with pytest.raises(FileNotFoundError):
        from_tflite("never.tflite")


REFUSED = {
    "no bias": "loop", "activation relu": "loop", "ReLU between": "relu", "Flatten of all steps": "reshap",
    "a direction after two": "bidirectional",
}


@pytest.mark.parametrize("name", tflite_files.networks(None))
def test_what_tensorflow_converts_is_taken_or_refused(name, tmp_path):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: it converts networks")
    pytest.importorskip("tf_keras", reason="tf-keras is not installed: its LSTM is kept whole")
    content = tflite_files.converted(tflite_files.networks(tensorflow.keras.layers)[name], str(tmp_path))
    x = np.random.default_rng(1).normal(size=(1, 7, 3)).astype("float32")
    found, worst = tflite_files.tried(content, x)
    if found == "taken":
        assert worst < 1e-5
        assert name not in REFUSED
    else:
        assert REFUSED[name] in found
